//! Lines of one kind: what they share, where they differ, and the rules that could describe them.

use std::net::IpAddr;

use super::super::template::addresses;
use super::token::{Class, Token, is_access, tokens};

/// What lines of a kind have in common: texts, and fields of a class.
#[derive(Debug)]
struct KindPiece {
    class: Class,
    text: String,
    /// Whether the lines differ before it.
    gap: bool,
}

/// Lines of one kind.
#[derive(Debug)]
pub(super) struct Kind {
    pieces: Vec<KindPiece>,
    /// Whether they differ behind the last piece.
    gap: bool,
    pub(super) lines: u64,
    pub(super) samples: Vec<String>,
    /// A line of each form, and how many lines have it.
    pub(super) forms: Vec<(String, u64)>,
    /// Whether the lines are those of an access log.
    pub(super) access: bool,
    /// Whether a line says that something failed, or that it went well.
    pub(super) fails: bool,
    pub(super) succeeds: bool,
}

/// Samples of a kind that a rule is made from.
const MOST_SAMPLES: usize = 24;

/// Tokens of a line that are compared.
const MOST_TOKENS: usize = 400;

/// Parts of words by which programs say that something failed.
pub(super) const FAILS: &[&str] = &[
    "fail",
    "invalid",
    "incorrect",
    "wrong",
    "denied",
    "deny",
    "refus",
    "reject",
    "unauthor",
    "forbid",
    "block",
    "mismatch",
    "unknown user",
    "unknown account",
    "unknown key",
    "bad ",
    "badpass",
    "illegal",
    "disallow",
    "not found",
    "not exist",
    "no such",
    "no matching",
    "not allowed",
    "not permitted",
    "not match",
    "too many",
    "brute",
    "attack",
    "abort",
    "banned",
    "violation",
    "suspicious",
    "error",
    "unsuccessful",
    "expired",
    "probe",
    "flood",
    "exceed",
    "cannot",
    "could not",
    "can't",
    "unrecognized",
    "does not",
    "doesn't",
    "unable",
    "locked out",
];
const SUCCEEDS: &[&str] =
    &["success", "accepted", "logged in", "signed in", "authenticated", "opened", "welcome", "granted"];

/// Words that tell one message of a program from another.
const TELLS: &[&str] = &[
    "failed",
    "failure",
    "invalid",
    "incorrect",
    "wrong",
    "unknown",
    "denied",
    "refused",
    "rejected",
    "blocked",
    "bad",
    "illegal",
    "mismatch",
    "missing",
    "disabled",
    "locked",
    "expired",
    "success",
    "successful",
    "successfully",
    "accepted",
    "password",
    "login",
    "logout",
    "logged",
    "in",
    "out",
    "authentication",
    "token",
    "key",
    "method",
    "connect",
    "disconnect",
    "connected",
    "disconnected",
    "connection",
    "opened",
    "closed",
    "reset",
    "no",
    "not",
    "found",
    "match",
    "matching",
    "too",
    "many",
    "timeout",
    "aborted",
    "started",
    "completed",
    "totp",
    "code",
    "registration",
    "request",
    "pingback",
    "xml-rpc",
    "attempt",
    "enumeration",
    "requested",
    "lost",
];

impl Kind {
    /// A kind of its own.
    pub(super) fn of(line: &str, tokens: &[Token<'_>], lines: u64) -> Self {
        let piece =
            |token: &Token<'_>| KindPiece { class: token.class, text: token.text.to_owned(), gap: false };
        let said: String = tokens.iter().filter(|token| says(token)).map(|token| token.text).collect();
        let said = said.to_ascii_lowercase();
        Self {
            pieces: tokens.iter().map(piece).collect(),
            gap: false,
            lines,
            samples: vec![line.to_owned()],
            forms: vec![(line.to_owned(), lines)],
            access: is_access(tokens),
            fails: FAILS.iter().any(|word| said.contains(word)),
            succeeds: SUCCEEDS.iter().any(|word| said.contains(word)),
        }
    }

    /// Takes the line in, if it is of this kind.
    pub(super) fn take(&mut self, line: &str, tokens: &[Token<'_>], lines: u64) -> bool {
        let pairs = align(&self.pieces, tokens);
        if !self.is_like(tokens, &pairs) {
            return false;
        }
        let mut gap = false;
        let (mut next, mut after) = (0, 0);
        let mut pieces = Vec::with_capacity(pairs.len());
        let mut old = std::mem::take(&mut self.pieces).into_iter();
        for (one, other) in pairs {
            gap |= one > next || other > after;
            let skipped = old.by_ref().take(one - next).any(|piece| piece.gap);
            let Some(mut piece) = old.next() else { break };
            piece.gap |= gap | skipped;
            pieces.push(piece);
            (gap, next, after) = (false, one + 1, other + 1);
        }
        self.gap |= old.next().is_some() || after < tokens.len();
        self.pieces = pieces;
        self.close_up();
        self.lines += lines;
        if lines > 0 {
            self.forms.push((line.to_owned(), lines));
        }
        if self.samples.len() < MOST_SAMPLES {
            self.samples.push(line.to_owned());
        }
        true
    }

    /// Drops spaces and the like between two gaps: it is one gap.
    fn close_up(&mut self) {
        let mut at = 0;
        while at < self.pieces.len() {
            let weak = |piece: &KindPiece| match piece.class {
                Class::Space => true,
                Class::Mark => {
                    matches!(&*piece.text, "." | "-" | "_" | ":" | "/" | "@" | "!" | "\\" | "&" | "+")
                }
                _ => false,
            };
            let run = self.pieces.get(at..).unwrap_or_default();
            let length = run
                .iter()
                .enumerate()
                .take_while(|(nth, piece)| weak(piece) && (*nth == 0 || !piece.gap))
                .count();
            let before = run.first().is_some_and(|piece| piece.gap);
            let behind = run.get(length).map_or(self.gap, |piece| piece.gap);
            if length > 0 && before && behind {
                self.pieces.drain(at..at + length);
            } else {
                at += 1;
            }
        }
    }

    fn is_like(&self, tokens: &[Token<'_>], pairs: &[(usize, usize)]) -> bool {
        let is_address = |piece: &KindPiece| piece.class == Class::Address;
        let of_kind = self.pieces.iter().filter(|piece| is_address(piece)).count();
        let of_line = tokens.iter().filter(|token| token.class == Class::Address).count();
        let matched = pairs.iter().filter(|(one, _)| self.pieces.get(*one).is_some_and(is_address)).count();
        if matched == 0 || matched + 1 < of_kind.max(of_line) || is_access(tokens) != self.access {
            return false;
        }
        // What differs must not be what the program says, but for an end that may be free text.
        let is_tail = self.may_end_freely(tokens, pairs);
        let ends = pairs
            .last()
            .filter(|_| is_tail)
            .map_or((usize::MAX, usize::MAX), |(one, other)| (one + 1, other + 1));
        let letters = |class: Class, text: &str| if class == Class::Word { text.len() } else { 0 };
        let all =
            self.pieces.iter().take(ends.0).map(|piece| letters(piece.class, &piece.text)).sum::<usize>();
        let of_line = tokens.iter().take(ends.1).map(|token| letters(token.class, token.text)).sum::<usize>();
        let shared = pairs
            .iter()
            .filter_map(|(one, _)| self.pieces.get(*one))
            .map(|piece| letters(piece.class, &piece.text))
            .sum::<usize>();
        if 10 * 2 * shared < 6 * (all + of_line) {
            return false;
        }
        if self.access {
            return true;
        }
        let last = pairs.iter().rev().find(|(one, _)| self.pieces.get(*one).is_some_and(is_address));
        let behind = |one: usize, other: usize| last.is_some_and(|last| one > last.0 && other > last.1);
        let tells = |text: &str| {
            let lower = text.to_ascii_lowercase();
            let is_name = text.bytes().all(|byte| byte.is_ascii_uppercase());
            !is_name && TELLS.contains(&&*lower)
                || FAILS.iter().chain(SUCCEEDS).any(|part| lower.contains(part))
        };
        let (mut next, mut after, mut replaced) = (0, 0, 0);
        let end = (self.pieces.len(), tokens.len());
        for (one, other) in pairs.iter().copied().chain([end]) {
            let here = self.pieces.get(next..one).unwrap_or_default();
            let there = tokens.get(after..other).unwrap_or_default();
            let word = |class: Class, text: &str| class == Class::Word && tells(text);
            let free = is_tail
                && (here.is_empty() || behind(next, usize::MAX))
                && (there.is_empty() || behind(usize::MAX, after));
            if !free
                && (here.iter().any(|piece| word(piece.class, &piece.text))
                    || there.iter().any(|token| word(token.class, token.text)))
            {
                return false;
            }
            replaced += usize::from(
                here.iter().any(|piece| piece.class == Class::Word)
                    && there.iter().any(|token| token.class == Class::Word),
            );
            (next, after) = (one + 1, other + 1);
        }
        replaced <= 3
    }

    /// Whether the end of such lines may be free text: all that a stranger can type stands behind the address, and so
    /// does what differs.
    fn may_end_freely(&self, tokens: &[Token<'_>], pairs: &[(usize, usize)]) -> bool {
        let typed = |class: Class| matches!(class, Class::User | Class::Quoted | Class::Plain);
        let before = self.pieces.iter().take_while(|piece| piece.class != Class::Address);
        let in_line = tokens.iter().take_while(|token| token.class != Class::Address);
        let said: String = pairs
            .iter()
            .filter_map(|(one, _)| self.pieces.get(*one))
            .filter(|piece| piece.class.is_text())
            .map(|piece| piece.text.to_ascii_lowercase())
            .collect();
        let mut before = before.peekable();
        !before.any(|piece| typed(piece.class) || piece.gap)
            && !in_line.into_iter().any(|token| typed(token.class))
            && FAILS.iter().any(|word| said.contains(word))
    }
}

/// Whether a token is what the program says.
fn says(token: &Token<'_>) -> bool {
    token.class.is_text() || matches!(token.class, Class::Quoted | Class::Plain)
}

/// Which pieces are which tokens: as much text as possible, in as few parts as possible.
fn align(pieces: &[KindPiece], tokens: &[Token<'_>]) -> Vec<(usize, usize)> {
    let weight = |piece: &KindPiece, token: &Token<'_>| -> i32 {
        if piece.class != token.class || piece.class.is_text() && piece.text != token.text {
            return 0;
        }
        match piece.class {
            Class::Word => 4 + 2 * token.text.len().min(20) as i32,
            Class::Space => 1,
            Class::Mark => 3,
            Class::Address | Class::Status => 60,
            Class::Time => 30,
            Class::Number | Class::Half | Class::Family => 6,
            Class::User | Class::Quoted | Class::Plain => 12,
            Class::Id | Class::Host => 6,
        }
    };
    let (rows, columns) = (pieces.len().min(MOST_TOKENS), tokens.len().min(MOST_TOKENS));
    let width = columns + 1;
    // The best up to here, and the best that ends with this pair.
    let (mut best, mut paired) = (vec![0_i32; (rows + 1) * width], vec![i32::MIN / 2; (rows + 1) * width]);
    let get =
        |of: &[i32], row: usize, column: usize| of.get(row * width + column).copied().unwrap_or(i32::MIN / 2);
    paired.iter_mut().take(1).for_each(|first| *first = 0);
    for (row, piece) in (1..).zip(pieces.iter().take(rows)) {
        for (column, token) in (1..).zip(tokens.iter().take(columns)) {
            let weight = weight(piece, token);
            let mut most = get(&best, row - 1, column).max(get(&best, row, column - 1));
            if weight > 0 {
                let joined = get(&paired, row - 1, column - 1) + 3;
                let end = if row == rows && column == columns { 3 } else { 0 };
                let this = weight + end + get(&best, row - 1, column - 1).max(joined);
                paired.iter_mut().skip(row * width + column).take(1).for_each(|at| *at = this);
                most = most.max(this);
            }
            best.iter_mut().skip(row * width + column).take(1).for_each(|at| *at = most);
        }
    }
    let (mut row, mut column, mut pairs, mut bound) = (rows, columns, Vec::new(), false);
    while row > 0 && column > 0 {
        let this = get(&paired, row, column);
        if this > 0 && (bound || this == get(&best, row, column)) {
            pairs.push((row - 1, column - 1));
            let before = get(&best, row - 1, column - 1);
            bound = get(&paired, row - 1, column - 1) + 3 > before;
            (row, column) = (row - 1, column - 1);
        } else if get(&best, row - 1, column) >= get(&best, row, column - 1) {
            row -= 1;
        } else {
            column -= 1;
        }
    }
    pairs.reverse();
    pairs
}

/// A part of a rule, and what stands there in each sample.
#[derive(Clone, Debug)]
struct KindPart {
    class: Class,
    /// Whether it is a field that has no class of its own.
    gap: bool,
    values: Vec<String>,
}

impl KindPart {
    fn is_text(&self) -> bool {
        !self.gap && self.class.is_text()
    }

    fn first(&self) -> &str {
        self.values.first().map_or("", String::as_str)
    }

    fn is_shared(&self) -> bool {
        self.values.iter().all(|value| value == self.first())
    }
}

/// A rule that could describe the lines of a kind, in ever stricter forms.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) rules: Vec<String>,
    /// Which address it holds to account, and why, where there are several.
    pub(super) why: Option<String>,
    /// Its address in each sample of the kind.
    pub(super) addresses: Vec<Option<IpAddr>>,
    /// The status in each sample, if the lines are those of an access log.
    pub(super) statuses: Vec<String>,
    /// Fields of a rule that is made from one line.
    pub(super) generalised: Vec<&'static str>,
}

impl Kind {
    /// The parts of the lines, with what stands there in each sample.
    fn parts(&self) -> Vec<KindPart> {
        let mut parts: Vec<KindPart> = Vec::new();
        for sample in &self.samples {
            let tokens = tokens(sample);
            let pairs = align(&self.pieces, &tokens);
            let (mut at, mut nth) = (0, 0);
            let mut add = |class: Class, gap: bool, value: &str| {
                match parts.get_mut(nth) {
                    Some(part) => {
                        part.values.push(value.to_owned());
                        part.class = match (part.class, class) {
                            (one, other) if one == other => one,
                            (Class::Id | Class::Host, Class::Id | Class::Host) => Class::Host,
                            _ => Class::Word,
                        };
                    }
                    None => parts.push(KindPart { class, gap, values: vec![value.to_owned()] }),
                }
                nth += 1;
            };
            for ((_, token), piece) in pairs.iter().zip(&self.pieces) {
                let Some(token) = tokens.get(*token) else { continue };
                if piece.gap {
                    let class = gap_class(&tokens, at, token.place.start);
                    add(class, true, sample.get(at..token.place.start).unwrap_or_default());
                }
                add(piece.class, false, token.text);
                at = token.place.end;
            }
            if self.gap {
                add(gap_class(&tokens, at, sample.len()), true, sample.get(at..).unwrap_or_default());
            }
        }
        parts
    }

    /// Rules for these lines, one for each address that may be the offender's, the likeliest first.
    pub(super) fn drafts(&mut self) -> Vec<Draft> {
        let pieces = &self.pieces;
        self.samples.retain(|sample| align(pieces, &tokens(sample)).len() == pieces.len());
        let mut parts = self.parts();
        settle(&mut parts, self.samples.len() > 1);
        let status = parts.iter().position(|part| part.class == Class::Status);
        if let Some(statuses) = status.and_then(|status| parts.get(status)) {
            self.fails = statuses.values.iter().any(|status| status.starts_with('4'));
        }
        let candidates = candidates(&parts);
        let several = parts.iter().filter(|part| part.class == Class::Address && !part.gap).count() > 1;
        candidates
            .into_iter()
            .map(|(at, word)| {
                let count = parts.iter().filter(|part| part.class == Class::Address).count();
                let why = several.then(|| match word {
                    Some(word) => format!("of {count} addresses, this uses the one after `{word}`"),
                    None => format!(
                        "of {count} addresses, this uses number {}: is it the right one?",
                        nth(&parts, at)
                    ),
                });
                let address = |value: &String| addresses(value).next().map(|(_, address)| address);
                let values = parts.get(at).map(|part| &part.values);
                let statuses = status.and_then(|status| parts.get(status));
                Draft {
                    rules: rules(&parts, at),
                    why,
                    addresses: values.into_iter().flatten().map(address).collect(),
                    statuses: statuses.map(|part| part.values.clone()).unwrap_or_default(),
                    generalised: if self.samples.len() == 1 { generalised(&parts, at) } else { Vec::new() },
                }
            })
            .collect()
    }
}

/// Which of the addresses a part is, from 1.
fn nth(parts: &[KindPart], at: usize) -> usize {
    parts.iter().take(at + 1).filter(|part| part.class == Class::Address).count()
}

/// What stands in a gap.
fn gap_class(tokens: &[Token<'_>], from: usize, to: usize) -> Class {
    let mut inside = tokens.iter().filter(|token| token.place.start >= from && token.place.end <= to);
    match (inside.next(), inside.next()) {
        (Some(token), None) if !token.class.is_text() => token.class,
        _ => Class::Word,
    }
}

/// What is text after all, since all samples share it and it is not a name; what stands side by side becomes one field.
fn settle(parts: &mut Vec<KindPart>, several: bool) {
    for at in 0..parts.len() {
        let after_space = at
            .checked_sub(1)
            .and_then(|at| parts.get(at))
            .is_some_and(|part| part.first().ends_with([' ', '=']));
        let Some(part) = parts.get_mut(at) else { continue };
        let status = after_space
            && part.class == Class::Number
            && matches!(part.first().as_bytes(), [b'1'..=b'5', _, _]);
        let is_own = match part.class {
            Class::Id | Class::Quoted | Class::Plain => true,
            Class::Number => status,
            _ => false,
        };
        if several && is_own && part.is_shared() {
            (part.class, part.gap) = (Class::Word, false);
        }
    }
    let mut at = 1;
    while at < parts.len() {
        let field = |at: usize| parts.get(at).filter(|part| !part.is_text() && part.class != Class::Address);
        if field(at - 1).is_some() && field(at).is_some() {
            let part = parts.remove(at);
            if let Some(before) = parts.get_mut(at - 1) {
                (before.gap, before.class) = (true, Class::Word);
                before.values.iter_mut().zip(part.values).for_each(|(value, more)| value.push_str(&more));
            }
        } else {
            at += 1;
        }
    }
}

/// Words before the address of a client.
const CLIENTS: &[&str] = &[
    "from", "rhost", "ip", "addr", "address", "src", "source", "peer", "by", "rip", "host", "for", "ipaddr",
];
/// Words before an address of the server.
const SERVERS: &[&str] = &[
    "to",
    "lip",
    "server",
    "dst",
    "dest",
    "destination",
    "listening",
    "sip",
    "upstream",
    "backend",
    "proxy",
    "bind",
    "interface",
    "listen",
    "laddr",
    "via",
    "vhost",
    "sent-to",
    "sips",
    "local",
    "router",
];
/// Words between such a word and the address.
const BETWEEN: &[&str] = &[
    "ipv4", "ipv6", "udp", "tcp", "tls", "ws", "wss", "ip", "address", "addr", "host", "port", "is", "http",
    "https", "the", "ip4", "ip6", "v4", "v6", "at",
];

/// The addresses that may be the offender's, the likeliest first, and the word that says so.
fn candidates(parts: &[KindPart]) -> Vec<(usize, Option<String>)> {
    let mut found = Vec::new();
    let mut before = String::new();
    for (at, part) in parts.iter().enumerate() {
        if part.class == Class::Address && !part.gap {
            let (score, word) = judge(&before);
            found.push((score, at, word));
        }
        before += part.first();
    }
    let single = found.len() == 1;
    found.retain(|(score, ..)| *score >= 0 || single && *score > -2);
    // `from 192.0.2.1 (192.0.2.1)`: the first is a name, perhaps.
    let value = |at: usize| parts.get(at).map(|part| &part.values);
    for nth in 1..found.len() {
        let (Some((_, one, word)), Some((score, other, _))) = (found.get(nth - 1).cloned(), found.get(nth))
        else {
            continue;
        };
        let text: String =
            parts.get(one + 1..*other).unwrap_or_default().iter().map(KindPart::first).collect();
        if value(one) == value(*other) && matches!(text.trim(), "(" | "[") && *score < 3 {
            found
                .get_mut(nth)
                .into_iter()
                .for_each(|found| (found.0, found.2) = (4, word.clone().map(|word| format!("{word} ... ("))));
        }
    }
    // Of as good ones the last one behind a word, or the first behind none.
    found.sort_by_key(|(score, at, word)| (-score, if word.is_some() { -(*at as i64) } else { *at as i64 }));
    found.into_iter().map(|(_, at, word)| (at, word)).collect()
}

/// How likely an address is the offender's by the text before it: 3 where a word says so, -2 for the server's own.
pub(super) fn judge(before: &str) -> (i32, Option<String>) {
    if before.ends_with('@') {
        return (-2, None);
    }
    // Only what belongs to the address: no other sentence.
    let words = before
        .rsplit(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-')))
        .filter(|word| !word.is_empty());
    let mut weak = false;
    for (nth, word) in words.take(3).enumerate() {
        let lower = word.to_ascii_lowercase();
        let bare = lower.replace(['_', '-'], "");
        let server = SERVERS.contains(&&*lower)
            || bare.starts_with("local")
            || bare.starts_with("server")
            || bare == "sentto";
        let client = CLIENTS.contains(&&*lower)
            || bare.starts_with("remote")
            || bare.starts_with("client")
            || bare.starts_with("source")
            || bare.ends_with("ip") && bare.len() < 12;
        if server {
            return (-2, None);
        }
        if client {
            return (3, Some(word.to_owned()));
        }
        if nth == 0 && matches!(&*lower, "at" | "on") {
            weak = true;
        }
        if !BETWEEN.contains(&&*lower) {
            break;
        }
    }
    (if weak { -1 } else { 0 }, None)
}

/// The rules, the most generous first.
fn rules(parts: &[KindPart], culprit: usize) -> Vec<String> {
    let mut fields: Vec<(usize, Vec<String>, bool)> = Vec::new();
    for (at, part) in parts.iter().enumerate().filter(|(_, part)| !part.is_text()) {
        let stop = parts.get(at + 1).and_then(|next| next.first().chars().next());
        let forms = match part.class {
            Class::Address if at == culprit => address_forms(part),
            _ => forms(part, at, parts, stop),
        };
        fields.push((at, forms, part.class == Class::User));
    }
    // What each rung takes of each field; names of users are restricted last.
    let mut rungs: Vec<(usize, Vec<usize>)> = vec![(0, vec![0; fields.len()])];
    for (nth, (place, forms, user)) in fields.iter().enumerate() {
        let known = rungs.len();
        for form in 1..forms.len() {
            if rungs.len() + known > MOST_RUNGS {
                break;
            }
            for at in 0..known {
                let Some((cost, mut taken)) = rungs.get(at).cloned() else { continue };
                taken.iter_mut().skip(nth).take(1).for_each(|taken| *taken = form);
                // A name may be as short as it likes, and holds spaces at worst.
                let price = 3
                    + usize::from(*user)
                    + 2 * usize::from(forms.get(form).is_some_and(|form| form.ends_with("word>")));
                rungs.push((cost + price + usize::from(*place < culprit), taken));
            }
        }
    }
    // All at their strictest, if that was too many.
    rungs.push((usize::MAX, fields.iter().map(|(_, forms, _)| forms.len().saturating_sub(1)).collect()));
    rungs.sort_by_key(|(cost, _)| *cost);
    rungs
        .into_iter()
        .map(|(_, taken)| {
            let mut rule = String::new();
            for (at, part) in parts.iter().enumerate() {
                match fields.iter().position(|(field, ..)| *field == at) {
                    None => escape(part.first(), &mut rule),
                    Some(nth) => {
                        let form = taken.get(nth).copied().unwrap_or_default();
                        let form = fields.get(nth).and_then(|(_, forms, _)| forms.get(form));
                        rule += form.map_or("<text>", String::as_str);
                    }
                }
            }
            // A line that begins with `#` would be a comment.
            if rule.starts_with('#') { format!("\\{rule}") } else { rule }
        })
        .collect()
}

/// Forms of one rule that are tried.
const MOST_RUNGS: usize = 96;

fn address_forms(part: &KindPart) -> Vec<String> {
    let bare = |value: &String| value.parse::<IpAddr>().is_ok() || value.contains('%');
    vec![if part.values.iter().all(bare) { "<ip>" } else { "<peer>" }.to_owned()]
}

/// How a field may be described, the most generous form first.
fn forms(part: &KindPart, at: usize, parts: &[KindPart], stop: Option<char>) -> Vec<String> {
    let one = |form: &str| vec![form.to_owned()];
    let kept = match part.class {
        class @ (Class::User | Class::Id | Class::Host) => class,
        _ if part.gap => Class::Word,
        class => class,
    };
    let (whole, name) = if kept == Class::User { ("<user>", "user:") } else { ("<text>", "") };
    let words = part.values.iter().all(|value| !value.is_empty() && !value.contains(' '));
    let mut forms = one(whole);
    match kept {
        Class::Time => return one("<time>"),
        Class::Number if !part.gap => return one("<num>"),
        Class::Half => return one("{AM|PM}"),
        Class::Status => return one("<status:num>"),
        Class::Family => return one("{IPV4|IPV6}"),
        Class::Id | Class::Host | Class::Address => return one("<word>"),
        Class::Quoted => return vec!["<quoted>".to_owned()],
        Class::Plain => {}
        Class::User => {
            if stop == Some('"') {
                return vec!["<user>".to_owned(), "<user:quoted>".to_owned()];
            }
        }
        _ => {
            if let Some(choice) = choice(part) {
                return one(&choice);
            }
            if stop == Some('"')
                && parts.get(at.wrapping_sub(1)).is_some_and(|before| before.first().ends_with('"'))
            {
                return one("<quoted>");
            }
            let header = words && (at == 0 || is_header(part));
            if header {
                return one("<word>");
            }
        }
    }
    if let Some(stop) = stop.filter(|stop| stop.is_ascii_punctuation()) {
        let plain = if matches!(stop, '<' | '>' | '{' | '|' | '}' | '\\') { "\\" } else { "" };
        forms.push(format!("<{name}not {plain}{stop}>"));
    }
    if words {
        forms.push(format!("<{name}word>"));
    }
    forms
}

/// What is there or not, such as `, TLS`.
fn choice(part: &KindPart) -> Option<String> {
    let mut texts: Vec<&str> =
        part.values.iter().map(String::as_str).filter(|text| !text.is_empty()).collect();
    let optional = texts.len() < part.values.len();
    texts.sort_unstable();
    texts.dedup();
    let plain = |text: &&str| {
        !text.bytes().any(|byte| byte.is_ascii_digit()) && text.contains([' ', ',', ':', ';', '[', '('])
    };
    (optional && matches!(texts.len(), 1..=3) && texts.iter().all(plain)).then(|| {
        let mut choice = "{".to_owned();
        for (nth, text) in texts.iter().enumerate() {
            choice += if nth > 0 { "|" } else { "" };
            escape(text, &mut choice);
        }
        choice + "}?"
    })
}

/// Whether no stranger types this: levels, modules, mechanisms.
fn is_header(part: &KindPart) -> bool {
    let level = |value: &String| {
        value.len() > 1 && value.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-' || byte == b'_')
    };
    part.values.iter().all(|value| level(value) || value.contains("::"))
}

/// The names of what a rule from one line lets differ, apart from numbers and times.
fn generalised(parts: &[KindPart], culprit: usize) -> Vec<&'static str> {
    let mut names = Vec::new();
    for (_, part) in parts.iter().enumerate().filter(|(at, part)| *at != culprit && !part.is_text()) {
        let name = match part.class {
            Class::User => "<user>",
            Class::Quoted => "<quoted>",
            Class::Plain => "<text>",
            Class::Id | Class::Host | Class::Address => "<word>",
            _ => continue,
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Appends text that stands for itself.
fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        if matches!(c, '<' | '{' | '|' | '}' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
}
