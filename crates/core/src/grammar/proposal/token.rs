//! Cuts a sample line into tokens: what is text, and what is the value of a field.

use std::ops::Range;

use super::super::template::{AFTER_NAMES, NO_NAMES, SAYS, addresses, quoted};
use super::super::time;

/// What a token is. Those up to [`Mark`](Class::Mark) are text; the others are values, whatever they hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Word,
    Space,
    /// One character of punctuation.
    Mark,
    /// An address, with its port and the brackets that belong to it.
    Address,
    Time,
    Number,
    /// The name of a user: what stands where such a name stands.
    User,
    /// What stands between `"` or `'`.
    Quoted,
    Plain,
    /// An identifier, a size, a path, a date: no text that a program always says.
    Id,
    /// What differs from site to site even if all samples share it, such as a host name.
    Host,
    /// `AM` or `PM`.
    Half,
    /// The status of the answer in an access log.
    Status,
    /// `IPV4` or `IPV6`, as Asterisk writes before an address.
    Family,
}

impl Class {
    pub(super) fn is_text(self) -> bool {
        matches!(self, Self::Word | Self::Space | Self::Mark)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Token<'m> {
    pub(super) class: Class,
    pub(super) place: Range<usize>,
    pub(super) text: &'m str,
}

/// Keys whose values are names of users; also as the end of a longer key.
const USER_KEYS: &[&str] = &["user", "username", "account", "accountid", "login", "acct", "uname", "email"];
/// Words before the name of a user.
const BEFORE_NAMES: &[&str] = &["user", "username", "account", "login"];
const METHODS: &[&str] =
    &["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND", "CONNECT", "TRACE"];
const MONTHS: &[&str] = &[
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec", "Mon", "Tue", "Wed",
    "Thu", "Fri", "Sat", "Sun",
];

fn is_one(words: &[&str], word: &str) -> bool {
    words.iter().any(|known| known.eq_ignore_ascii_case(word))
}

/// The tokens of a line.
pub(super) fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = cut(text);
    find_status(&mut tokens);
    find_hosts(&mut tokens);
    find_values(&mut tokens);
    find_names(text, &mut tokens);
    tokens
}

/// Whether the line reports a request over HTTP and the status of its answer.
pub(super) fn is_access(tokens: &[Token<'_>]) -> bool {
    tokens.iter().any(|token| token.class == Class::Status)
}

/// Whether a token is a method, or a request line that begins with one.
fn is_method(token: &Token<'_>) -> bool {
    match token.class {
        Class::Word => METHODS.contains(&token.text),
        Class::Quoted => token.text.split_once(' ').is_some_and(|(method, _)| METHODS.contains(&method)),
        _ => false,
    }
}

/// In a line of an access log, finds the status: the last before the method, or else the first behind the request. What
/// stands by itself beside it may differ.
fn find_status(tokens: &mut [Token<'_>]) {
    let Some(method) = tokens.iter().position(is_method) else { return };
    let is_status = |(_, token): &(usize, &Token<'_>)| {
        token.class == Class::Number && matches!(token.text.as_bytes(), [b'1'..=b'5', _, _])
    };
    let alone = |at: usize| {
        let apart = |token: Option<&Token<'_>>| {
            token.is_none_or(|token| token.class == Class::Space || matches!(token.text, "[" | "]"))
        };
        apart(at.checked_sub(1).and_then(|at| tokens.get(at))) && apart(tokens.get(at + 1))
    };
    let mut all = tokens.iter().enumerate().filter(is_status).filter(|(at, _)| alone(*at)).map(|(at, _)| at);
    let before = all.clone().take_while(|at| *at < method).last();
    let Some(status) = before.or_else(|| all.find(|at| *at > method)) else { return };
    let alone: Vec<bool> = (0..tokens.len()).map(alone).collect();
    for (at, token) in tokens.iter_mut().enumerate() {
        let alone = alone.get(at).copied().unwrap_or_default();
        if at == status {
            token.class = Class::Status;
        } else if token.class == Class::Word && (token.text.contains('.') || METHODS.contains(&token.text))
            || matches!(token.text, "http" | "https")
        {
            token.class = Class::Host;
        } else if alone
            && (token.text == "-"
                || at < method && matches!(token.class, Class::Word | Class::Number | Class::Id))
        {
            token.class = Class::Id;
        }
    }
}

fn cut(text: &str) -> Vec<Token<'_>> {
    let mut peers = addresses(text).map(|(place, _)| peer(text, place)).peekable();
    let (mut tokens, mut at) = (Vec::<Token<'_>>::new(), 0);
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        while peers.next_if(|peer| peer.start < at).is_some() {}
        let before = text.get(..at).and_then(|done| done.chars().next_back());
        let begins = !before.is_some_and(|c| c.is_alphanumeric() || c == '_');
        let limit = peers.peek().map_or(text.len(), |peer| peer.start);
        let first = rest.chars().next().map_or(0, char::len_utf8);
        let run = if let Some(peer) = peers.next_if(|peer| peer.start == at) {
            vec![(Class::Address, peer.len())]
        } else if let Some(length) = stamp(rest).filter(|_| begins) {
            vec![(Class::Time, length)]
        } else if let Some(inside) = quoted(text, at).filter(|inside| swallows(text, inside)) {
            let class = if rest.starts_with('"') { Class::Quoted } else { Class::Plain };
            vec![(Class::Mark, 1), (class, inside.len()), (Class::Mark, 1)]
        } else if rest.starts_with(' ') {
            vec![(Class::Space, rest.len() - rest.trim_start_matches(' ').len())]
        } else if rest.starts_with("IPV4/") || rest.starts_with("IPV6/") {
            vec![(Class::Family, 4)]
        } else if rest.starts_with(|c: char| c.is_alphanumeric() || c == '_') {
            let length = word(rest.get(..limit - at).unwrap_or(rest)).max(first);
            vec![(class(rest.get(..length).unwrap_or_default(), before), length)]
        } else {
            vec![(Class::Mark, first)]
        };
        for (class, length) in run {
            let place = at..at + length;
            tokens.push(Token { class, text: text.get(place.clone()).unwrap_or_default(), place });
            at += length;
        }
    }
    tokens
}

/// The place of an address with its port, and with the brackets that a port asks for.
fn peer(text: &str, place: Range<usize>) -> Range<usize> {
    let rest = text.get(place.end..).unwrap_or_default();
    let port = |rest: &str| {
        let port = rest.strip_prefix(':')?;
        let digits = port.len() - port.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        (matches!(digits, 1..=5) && !port.get(digits..)?.starts_with(|c: char| c.is_alphanumeric()))
            .then_some(digits + 1)
    };
    let open = text.get(..place.start).unwrap_or_default().ends_with('[');
    let is_v4 = !text.get(place.clone()).unwrap_or_default().contains(':');
    match (rest.strip_prefix(']').and_then(port), port(rest)) {
        (Some(length), _) if open && !is_v4 => place.start - 1..place.end + 1 + length,
        (_, Some(length)) if is_v4 => place.start..place.end + length,
        _ => place,
    }
}

/// How long the date and time is that the text begins with. A time alone is three numbers.
fn stamp(text: &str) -> Option<usize> {
    text.bytes().next().filter(u8::is_ascii_alphanumeric)?;
    let ends = [None].into_iter().chain(b" ],)\"';|>[:-".iter().copied().map(Some));
    let head = text.as_bytes().get(..64).unwrap_or(text.as_bytes());
    ends.filter_map(|stop| time::stamps(head, stop).next()).max().filter(|length| *length >= 14)
}

/// Whether what stands in quotation marks is one value: no program speaks there, and no client's address stands there.
fn swallows(text: &str, inside: &Range<usize>) -> bool {
    let (before, value) =
        (text.get(..inside.start - 1).unwrap_or_default(), text.get(inside.clone()).unwrap_or_default());
    let is_ours =
        |(place, _): (Range<usize>, _)| !value.get(..place.start).unwrap_or_default().ends_with('@');
    let is_key = text.get(inside.end + 1..).is_some_and(|after| after.starts_with(':'));
    let key = before.strip_suffix(['=', ':']).map(|before| before.trim_end_matches('"'));
    let key = key.and_then(|key| key.rsplit(|c: char| !c.is_alphanumeric() && c != '_').next());
    let says = key.is_some_and(|key| {
        let key = key.to_ascii_lowercase();
        SAYS.iter().any(|says| key == *says || key.ends_with(says) && key.len() > says.len() + 3)
    });
    !(says || is_key || addresses(value).any(is_ours))
}

/// How long the word is: letters and digits, and what joins them.
fn word(text: &str) -> usize {
    let letter = |c: char| c.is_alphanumeric() || c == '_';
    let mut length = 0;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let next = chars.peek().map(|(_, next)| *next);
        let joins = matches!(c, '.' | '-' | '+' | '@' | '/' | '%') && next.is_some_and(letter)
            || c == ':'
                && (next == Some(':')
                    || text.get(..at).is_some_and(|done| done.ends_with(':')) && next.is_some_and(letter));
        if !letter(c) && !joins {
            break;
        }
        length = at + c.len_utf8();
    }
    text.get(..length).map_or(0, |word| word.trim_end_matches(':').len())
}

/// An identifier that was made up, such as that of a session.
fn is_mark(word: &str) -> bool {
    word.len() >= 8
        && word.bytes().filter(u8::is_ascii_digit).count() >= 2
        && word.contains(|c: char| c.is_ascii_alphabetic())
}

fn class(word: &str, before: Option<char>) -> Class {
    let is_mail = word.split_once('@').is_some_and(|(name, host)| !name.is_empty() && host.contains('.'));
    if is_mail {
        Class::User
    } else if word.bytes().all(|byte| byte.is_ascii_digit()) {
        Class::Number
    } else if before == Some('~')
        || word.starts_with(|c: char| c.is_ascii_digit()) && word.contains(['/', '-', '.'])
    {
        Class::Host
    } else if word.starts_with(|c: char| c.is_ascii_digit()) || is_mark(word) {
        Class::Id
    } else if matches!(word, "AM" | "PM") {
        Class::Half
    } else if MONTHS.contains(&word) {
        Class::Host
    } else {
        Class::Word
    }
}

/// Finds the host names of addresses: `unknown[192.0.2.1]`.
fn find_hosts(tokens: &mut [Token<'_>]) {
    for at in 2..tokens.len() {
        if let Some([host, mark, address]) = tokens.get_mut(at - 2..=at)
            && matches!(host.class, Class::Word | Class::Id)
            && mark.text == "["
            && address.class == Class::Address
        {
            host.class = Class::Host;
        }
    }
}

/// Keys of what differs from line to line though it looks like a word.
const VARY: &[&str] = &["method", "sasl_method", "mech", "mechanism", "proto", "protocol"];

/// Finds the values of keys, `method=PLAIN`, and what an address came by, `IPV4/UDP/`.
fn find_values(tokens: &mut [Token<'_>]) {
    for at in 2..tokens.len() {
        let Some([key, mark, value]) = tokens.get_mut(at - 2..=at) else { continue };
        if key.class == Class::Family && mark.text == "/" {
            value.class = Class::Host;
        } else if value.class == Class::Word && mark.text == "=" && key.class == Class::Word {
            value.class = match () {
                () if is_one(VARY, key.text) => Class::Host,
                () if is_one(SAYS, key.text) => Class::Word,
                () => Class::Id,
            };
        }
    }
}

/// Finds the names of users by what stands around them.
fn find_names<'m>(text: &'m str, tokens: &mut Vec<Token<'m>>) {
    let mut at = 0;
    while at < tokens.len() {
        if let Some(length) = name(tokens, at)
            && let Some(last) = tokens.get(at + length - 1)
            && let Some(first) = tokens.get(at)
        {
            let place = first.place.start..last.place.end;
            let name = Token { class: Class::User, text: text.get(place.clone()).unwrap_or_default(), place };
            tokens.splice(at..at + length, [name]);
        }
        at += 1;
    }
}

/// How many tokens from `at` on are the name of a user.
fn name(tokens: &[Token<'_>], at: usize) -> Option<usize> {
    let get = |at: usize| tokens.get(at);
    let back = |by: usize| at.checked_sub(by).and_then(get).map_or("", |token| token.text);
    let here = get(at)?;
    let is_value =
        |token: &Token<'_>| !matches!(token.class, Class::Space | Class::Mark | Class::Address | Class::Time);
    if here.class == Class::User || !is_value(here) {
        return None;
    }
    let text = |at: usize| get(at).map_or("", |token| token.text);
    let keyed = |key: &str| {
        let key = key.to_ascii_lowercase();
        USER_KEYS.iter().any(|known| key == *known || key.ends_with(known) && key.contains('_'))
    };
    // `user=bob`, `user=<bob>`, `user="bob"`, `Username: bob`, `"user": "bob"`.
    let opener = usize::from(matches!(back(1), "<" | "\"" | "'" | "[" | "("));
    let mark = back(1 + opener);
    let spaced = mark == " ";
    let (sign, key) = if spaced { (back(2 + opener), back(3 + opener)) } else { (mark, back(2 + opener)) };
    let named = key.eq_ignore_ascii_case("name") && matches!(sign, "=" | ":");
    if (matches!(sign, "=" | ":") && keyed(key) || named) && !(spaced && sign == "=") {
        if matches!(here.class, Class::Quoted | Class::Plain) {
            return Some(1);
        }
        let closer = match back(1) {
            "<" => ">",
            "[" => "]",
            "(" => ")",
            _ => "",
        };
        let ends = |token: &Token<'_>, next: &str| match closer {
            "" if spaced => {
                matches!(token.text, "," | ";" | ")" | "]" | "(" | "|" | "\"")
                    || token.class == Class::Address
                    || token.class == Class::Space
                        && (is_one(AFTER_NAMES, next) || matches!(next, "(" | "-" | "["))
            }
            "" => {
                token.class == Class::Space || matches!(token.text, "," | ";" | ")" | "]" | ">" | "'" | "\"")
            }
            closer => token.text == closer,
        };
        let mut length =
            tokens.get(at..)?.iter().enumerate().position(|(n, token)| ends(token, text(at + n + 1)));
        if length.is_none() && closer.is_empty() {
            length = Some(tokens.len() - at);
        }
        let mut length = length?;
        while length > 1 && matches!(text(at + length - 1), "." | "," | " " | ":" | "!") {
            length -= 1;
        }
        return (length > 0 && !is_one(NO_NAMES, here.text) || length == 1 && !spaced).then_some(length);
    }
    // `sql(bob,192.0.2.1)`
    if back(1) == "(" && text(at + 1) == "," && get(at + 2).is_some_and(|token| token.class == Class::Address)
    {
        return Some(1);
    }
    let quotes = usize::from(matches!(here.class, Class::Quoted | Class::Plain));
    if back(1 + quotes) != " " {
        return None;
    }
    let before = back(2 + quotes).trim_end_matches(':');
    let calls = is_one(BEFORE_NAMES, before);
    let introduces = matches!(before, "for" | "of" | "as" | "by");
    if quotes == 1 && (calls || introduces) {
        return Some(1);
    }
    if quotes == 1 || is_one(NO_NAMES, here.text) {
        return None;
    }
    // `login of bob failed from 192.0.2.1`
    let then = text(at + 2).to_ascii_lowercase();
    let goes_on = ["fail", "denied", "reject", "refus", "block", "was", "is", "has"];
    if text(at + 1) == " " && (calls || introduces) && goes_on.iter().any(|word| then.starts_with(word)) {
        return Some(1);
    }
    // `for bob from 192.0.2.1`, `user Bob Smith from 192.0.2.1`
    let far = tokens.get(at..)?.iter().take(12).enumerate().find(|(n, token)| {
        token.class == Class::Space
            && is_one(AFTER_NAMES, text(at + n + 1))
            && get(at + n + 3).is_some_and(|token| token.class == Class::Address)
    });
    if let Some((length, _)) = far
        && (calls || introduces)
        && !tokens.get(at..at + length)?.iter().any(|token| {
            is_one(NO_NAMES, token.text)
                || matches!(token.text, "," | "=" | "\"")
                || token.class == Class::Address
        })
    {
        return Some(length);
    }
    let followed = text(at + 1) == " " && is_one(AFTER_NAMES, text(at + 2));
    ((calls && here.class != Class::Number) || introduces && followed && before != "by").then_some(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values in a line, each in brackets.
    #[track_caller]
    fn check(line: &str, want: &str) {
        let shown: String = tokens(line)
            .iter()
            .map(|token| match token.class {
                class if class.is_text() => token.text.to_owned(),
                class => format!("\u{ab}{:.1}:{}\u{bb}", format!("{class:?}"), token.text),
            })
            .collect();
        assert_eq!(shown, want);
    }

    #[test]
    fn values_are_told_from_text() {
        check(
            "[2026-11-23 21:04:11.123][vaultwarden::api][ERROR] Username or password is incorrect. IP: 192.0.2.1. Username: a@b.org.",
            "[\u{ab}T:2026-11-23 21:04:11.123\u{bb}][vaultwarden::api][ERROR] Username or password is incorrect. IP: \u{ab}A:192.0.2.1\u{bb}. Username: \u{ab}U:a@b.org\u{bb}.",
        );
        check(
            "2026/11/23 21:04:11 ...ers/auth.go:201:SignInPost() [I] Failed attempt for Bob Smith from [2001:db8::1]:4711: no user [uid: 0, name: bob, keyid: 0]",
            "\u{ab}T:2026/11/23 21:04:11\u{bb} ...ers/auth.go:\u{ab}N:201\u{bb}:SignInPost() [I] Failed attempt for \u{ab}U:Bob Smith\u{bb} from \u{ab}A:[2001:db8::1]:4711\u{bb}: no user [uid: \u{ab}N:0\u{bb}, name: \u{ab}U:bob\u{bb}, keyid: \u{ab}N:0\u{bb}]",
        );
        check(
            "Login: user=<bob>, rip=192.0.2.1, session=<x9abc7efgh>, sql(bob,192.0.2.1): why",
            "Login: user=<\u{ab}U:bob\u{bb}>, rip=\u{ab}A:192.0.2.1\u{bb}, session=<\u{ab}I:x9abc7efgh\u{bb}>, sql(\u{ab}U:bob\u{bb},\u{ab}A:192.0.2.1\u{bb}): why",
        );
        check(
            "from '\"1\" <sip:1@192.0.2.9>' failed for '192.0.2.1:5060' - Wrong password",
            "from '\u{ab}P:\"1\" <sip:1@192.0.2.9>\u{bb}' failed for '\u{ab}A:192.0.2.1:5060\u{bb}' - Wrong password",
        );
    }
}
