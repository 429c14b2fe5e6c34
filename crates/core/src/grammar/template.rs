//! The form of a message, written like a rule: `Failed password for <user> from <ip> port <num>`.
//!
//! Two tools use it: one proposes rules from sample lines, the other groups lines that match no rule, so that ten
//! thousand of a kind are shown once. It guesses from one message, or two of a kind, and proves nothing.

use std::net::IpAddr;
use std::ops::Range;

/// The message as a rule might describe it: each address is an `<ip>`, and what probably differs from message to
/// message is another field. Tokens stand between single spaces, as in the message.
///
/// Takes time in proportion to the message.
pub(super) fn template(message: &str) -> String {
    let tokens = tokens(message);
    let mut template = String::with_capacity(message.len() + 16);
    for (index, token) in tokens.iter().enumerate() {
        if index > 0 {
            template.push(' ');
        }
        let before = index.checked_sub(1).and_then(|before| tokens.get(before)).copied().unwrap_or_default();
        describe(token, before, tokens.get(index + 1).copied().unwrap_or_default(), &mut template);
    }
    template
}

/// The template that covers both, where they are of a kind: as many tokens, addresses in the same places, the same
/// first word, and no more than one token in three that differs. `fixed` says which words mean something by
/// themselves, and so make two kinds where they differ.
pub(super) fn join(one: &str, other: &str, fixed: impl Fn(&str) -> bool) -> Option<String> {
    if one == other {
        return Some(one.to_owned());
    }
    let (mut count, mut differ, mut begun) = (0, 0, false);
    let (mut left, mut right) = (one.split(' '), other.split(' '));
    let mut joined = String::with_capacity(one.len());
    loop {
        match (left.next(), right.next()) {
            (None, None) => break,
            (Some(a), Some(b)) if a == b => joined.push_str(a),
            (Some(a), Some(b)) => {
                // A word that is a field already differs from nothing.
                differ += u32::from(!(varies(a) || varies(b)));
                let clear = a.is_empty() || b.is_empty() || a.contains("<ip>") || b.contains("<ip>");
                match around_name(a).filter(|around| !begun && around_name(b) == Some(*around)) {
                    Some((front, back)) => joined.extend([front, "<user>", back]),
                    None if clear || !begun || fixed(core(a).1) || fixed(core(b).1) => return None,
                    None => either(a, b, &mut joined),
                }
            }
            _ => return None,
        }
        let token = joined.rsplit(' ').next().unwrap_or_default();
        begun |= !token.contains('<') && token.contains(|c: char| c.is_alphanumeric());
        joined.push(' ');
        count += 1;
    }
    joined.pop();
    (differ <= 1.max(count / 3)).then_some(joined)
}

/// What stands around a name in brackets that begins a message, as in `[alice]` and `(alice@<ip>)`. A name has a lower-case
/// letter; what has none, such as `[ERROR]`, is something that the program says.
fn around_name(token: &str) -> Option<(&str, &str)> {
    let inside = token.strip_prefix(['[', '('])?;
    let name = inside.find(['@', ']', ')'])?;
    let (name, back) = inside.split_at(name);
    let is_name = name == "<user>" || (!name.contains('<') && name.contains(|c: char| c.is_lowercase()));
    is_name.then(|| (token.get(..1).unwrap_or_default(), back))
}

fn varies(token: &str) -> bool {
    token.contains("<word>") || token.contains("<user>")
}

/// Appends the token that covers both: the punctuation around them that they share, and a field.
fn either(a: &str, b: &str, out: &mut String) {
    let shares =
        |c: &char| c.is_ascii_punctuation() && !matches!(c, '<' | '>' | '{' | '|' | '}' | '\\' | '"');
    let field = if a.contains("<user>") || b.contains("<user>") { "<user>" } else { "<word>" };
    let same = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    // Up to the last `=` or bracket that both begin with.
    let front = a.get(..same).and_then(|same| same.rfind(|c| shares(&c))).map_or(0, |last| last + 1);
    let front = a.get(..front).filter(|front| !front.contains(['<', '\\'])).unwrap_or_default();
    let back = |text: &str| text.chars().rev().take_while(|c| shares(c)).collect::<Vec<_>>();
    let back = back(a).into_iter().zip(back(b)).take_while(|(a, b)| a == b).map(|(a, _)| a);
    let back: String = back.collect::<Vec<_>>().into_iter().rev().collect();
    let whole = [a, b].iter().all(|text| text.len() > front.len() + back.len());
    let (front, back) = if whole { (front, &*back) } else { ("", "") };
    out.extend([front, field, back]);
}

/// The addresses in a text, in their order, as far as they stand by themselves.
pub(super) fn addresses(text: &str) -> impl Iterator<Item = (Range<usize>, IpAddr)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        while let Some(rest) = text.get(at..) {
            let from = at + rest.bytes().position(of_address)?;
            let run = text.get(from..)?;
            let run = run.get(..run.bytes().position(|b| !of_address(b)).unwrap_or(run.len()))?;
            at = from + run.len();
            let alone = |c: Option<char>| !c.is_some_and(|c| c.is_alphanumeric() || c == '_');
            let before = text.get(..from).and_then(|text| text.chars().next_back());
            let after = text.get(at..).and_then(|text| text.chars().next());
            if let Some((within, address)) = address(run)
                && (within.start > 0 || alone(before))
                && (within.end < run.len() || alone(after))
            {
                // A zone belongs to the address: `fe80::1%eth0`.
                let zone = text.get(at..).filter(|rest| rest.starts_with('%') && within.end == run.len());
                let zone = zone.map_or(0, |rest| rest.find([' ', ']', ')', ',']).unwrap_or(rest.len()));
                let found = from + within.start..from + within.end + zone;
                at += zone;
                return Some((found, address));
            }
        }
        None
    })
}

fn of_address(byte: u8) -> bool {
    byte.is_ascii_hexdigit() || byte == b':' || byte == b'.'
}

/// The address in a run of digits, dots and colons, which may have a port or punctuation beside it.
fn address(run: &str) -> Option<(Range<usize>, IpAddr)> {
    // The letters of any word are digits of a sort: most runs are none.
    run.bytes().filter(|b| matches!(b, b':' | b'.')).nth(1)?;
    let start = usize::from(run.starts_with(':') && !run.starts_with("::"));
    let body = run.get(start..)?;
    let plain = body.trim_end_matches(['.', ':']).len();
    let port = body.find(':').filter(|colon| body.get(..*colon).is_some_and(|front| front.contains('.')));
    [Some(body.len()), Some(plain), port].into_iter().flatten().find_map(|length| {
        let address: IpAddr = body.get(..length)?.parse().ok()?;
        (!address.is_unspecified()).then_some((start..start + length, address))
    })
}

/// The message cut at its spaces, but not inside quotes.
fn tokens(message: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let (mut start, mut at) = (0, 0);
    while let Some(next) = message.as_bytes().get(at) {
        at = match next {
            b' ' => {
                tokens.push(message.get(start..at).unwrap_or_default());
                start = at + 1;
                start
            }
            b'"' | b'\'' => quoted(message, at).map_or(at + 1, |inside| inside.end + 1),
            _ => at + 1,
        };
    }
    tokens.push(message.get(start..).unwrap_or_default());
    tokens
}

/// What stands between the quotation mark at `at` and the one that closes it. An apostrophe opens nothing.
pub(super) fn quoted(text: &str, at: usize) -> Option<Range<usize>> {
    let mark = *text.as_bytes().get(at).filter(|mark| matches!(mark, b'"' | b'\''))?;
    let letter =
        |at: Option<usize>| at.and_then(|at| text.as_bytes().get(at)).is_some_and(u8::is_ascii_alphanumeric);
    if letter(at.checked_sub(1)) {
        return None;
    }
    let mut end = at + 1;
    loop {
        match text.as_bytes().get(end)? {
            b'\\' if mark == b'"' => end += 2,
            byte if *byte == mark && !letter(Some(end + 1)) => return Some(at + 1..end),
            _ => end += 1,
        }
    }
}

/// A token between its punctuation.
fn core(token: &str) -> (&str, &str, &str) {
    let inside = token.trim_start_matches(|c: char| !c.is_alphanumeric());
    let front = token.get(..token.len() - inside.len()).unwrap_or_default();
    let core = inside.trim_end_matches(|c: char| !c.is_alphanumeric());
    (front, core, inside.get(core.len()..).unwrap_or_default())
}

/// Words before the name of a user.
const NAMES: &[&str] = &["user", "username", "account"];
/// Keys of one.
const KEYS: &[&str] = &["user", "username", "account", "ruser", "login", "acct", "uname"];
/// Words that follow those and are not names.
pub(super) const NO_NAMES: &[&str] = &[
    "from",
    "by",
    "for",
    "is",
    "was",
    "has",
    "not",
    "unknown",
    "on",
    "at",
    "in",
    "with",
    "and",
    "or",
    "of",
    "to",
    "name",
    "does",
    "failed",
    "failure",
    "denied",
    "attempt",
    "attempts",
    "error",
    "locked",
    "authentication",
    "password",
    "user",
    "username",
    "account",
    "login",
    "invalid",
    "id",
    "the",
    "a",
    "an",
    "enumeration",
    "incorrect",
    "disabled",
    "logged",
    "via",
    "request",
    "requests",
    "agent",
    "successfully",
    "ip",
    "session",
    "method",
    "client",
    "key",
    "token",
    "flow",
    "be",
    "could",
    "cannot",
    "no",
    "are",
];
/// Words that follow the name of a user.
pub(super) const AFTER_NAMES: &[&str] = &["from", "by", "on", "at", "via", "with"];
/// Keys of what a program says in so many words, which tells one line from another.
pub(super) const SAYS: &[&str] = &[
    "msg", "message", "level", "lvl", "severity", "error", "err", "event", "action", "outcome", "result",
    "status", "code", "logger", "type", "service",
];

/// The key that ends a text: of `a=`, or of `"a":` in JSON.
fn key(text: &str) -> Option<&str> {
    let text = text.strip_suffix('=').or_else(|| text.strip_suffix("\":"))?;
    text.rsplit(|c: char| !c.is_alphanumeric() && c != '_').next()
}

/// Whether what follows is what a program says in so many words.
fn says(before: &str) -> bool {
    key(before).is_some_and(|key| SAYS.iter().any(|says| says.eq_ignore_ascii_case(key)))
}

/// Appends a token as a rule might have it, by what it looks like and what stands around it.
fn describe(token: &str, before: &str, after: &str, out: &mut String) {
    let quoted = token.bytes().any(|b| matches!(b, b'"' | b'\'' | b' '));
    if quoted || addresses(token).next().is_some() {
        return pieces(token, before, out);
    }
    let (front, middle, back) = core(token);
    let is = |words: &[&str], word: &str| words.iter().any(|known| known.eq_ignore_ascii_case(core(word).1));
    let named = NAMES.iter().any(|name| name.eq_ignore_ascii_case(before.trim_end_matches(':')));
    let between = before.eq_ignore_ascii_case("for") && is(AFTER_NAMES, after);
    let pair = token.split_once('=').filter(|(key, _)| !core(key).1.is_empty() && !is(SAYS, key));
    if let Some((key, value)) = pair {
        let (value, rest) = value.split_at(value.trim_end_matches([',', ';', ')', ']', '.']).len());
        let number = value.bytes().all(|b| b.is_ascii_digit());
        escape(key, out);
        out.push('=');
        match value {
            "" => escape(rest, out),
            _ if is(KEYS, key) => field("<user>", value, rest, out),
            _ if number => field("<num>", value, rest, out),
            _ => field("<word>", value, rest, out),
        }
    } else if !middle.is_empty() && (named || between) && !is(NO_NAMES, middle) {
        escape(front, out);
        field("<user>", middle, back, out);
    } else if is_stamp(middle) || is_mark(middle) {
        escape(front, out);
        field("<word>", middle, back, out);
    } else {
        pieces(token, before, out);
    }
}

/// A date or a time: digits in three groups or more.
fn is_stamp(text: &str) -> bool {
    let digits = text.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty()).count();
    digits >= 3
        && text
            .chars()
            .all(|c| c.is_ascii_digit() || matches!(c, '-' | ':' | '.' | '/' | '+' | 'T' | 'Z' | ','))
}

/// An identifier that was made up, such as a key's fingerprint.
fn is_mark(text: &str) -> bool {
    text.len() >= 8
        && text.contains(|c: char| c.is_ascii_digit())
        && text.contains(|c: char| c.is_ascii_alphabetic())
}

/// Appends a field and what follows it; one field for both where the end of the first would not be plain.
fn field(field: &str, text: &str, back: &str, out: &mut String) {
    out.push_str(field);
    if field == "<user>" || !back.chars().next().is_some_and(|stop| text.contains(stop)) {
        escape(back, out);
    }
}

/// Appends a token piece by piece: addresses, quotes and numbers are fields, the rest stands for itself, and so does
/// what a key says that is known to.
fn pieces(token: &str, before: &str, out: &mut String) {
    // Most tokens are a word.
    if token.bytes().all(|b| b.is_ascii_alphabetic()) {
        return out.push_str(token);
    }
    let mut addresses = addresses(token).map(|(place, _)| place).peekable();
    let mut at = 0;
    while let Some(rest) = token.get(at..).filter(|rest| !rest.is_empty()) {
        if let Some(place) = addresses.next_if(|place| place.start <= at) {
            out.push_str("<ip>");
            at = place.end;
            continue;
        }
        let limit = addresses.peek().map_or(token.len(), |place| place.start);
        let letter = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let done = token.get(..at).filter(|done| !done.is_empty());
        let last = done.and_then(|text| text.chars().next_back());
        let says = says(done.unwrap_or(before));
        let inside = quoted(token, at).filter(|inside| inside.end < limit);
        if let Some(inside) = inside {
            let text = token.get(inside.clone()).unwrap_or_default();
            let of_json = done.unwrap_or(before).ends_with(['{', ',']);
            if rest.starts_with('"')
                && of_json
                && token.get(inside.end..).is_some_and(|end| end.starts_with("\":"))
            {
                out.push('"');
                escape(text, out);
                out.push('"');
            } else if rest.starts_with('"') && says {
                out.push('"');
                out.push_str(&template(text));
                out.push('"');
            } else {
                out.push_str(if rest.starts_with('"') { "\"<quoted>\"" } else { "'<text>'" });
            }
            at = inside.end + 1;
        } else if digits > 0 && !says && !letter(last) && !letter(rest.chars().nth(digits)) {
            out.push_str("<num>");
            at += digits;
        } else {
            // The whole word, or one character that is none.
            let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let one = rest.chars().next().map_or(0, char::len_utf8);
            let length = word.max(one);
            escape(rest.get(..length).unwrap_or_default(), out);
            at += length;
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(message: &str, want: &str) {
        assert_eq!(template(message), want);
    }

    #[test]
    fn what_varies_is_a_field() {
        check(
            "Failed password for root from 192.0.2.1 port 4711 ssh2",
            "Failed password for <user> from <ip> port <num> ssh2",
        );
        check("Invalid user  from 192.0.2.1", "Invalid user  from <ip>");
        check(
            "pam_unix(sshd:auth): authentication failure; uid=0 tty=ssh ruser= rhost=192.0.2.1  user=bob",
            "pam_unix(sshd:auth): authentication failure; uid=<num> tty=<word> ruser= rhost=<ip>  user=<user>",
        );
        check(
            r#"2026-11-23 23:30:01,123 WARN login of "a \" b" as 'x y' from [2001:db8::1]:443, don't"#,
            r#"<word> <word> WARN login of "<quoted>" as '<text>' from [<ip>]:<num>, don't"#,
        );
        check("Login rejected for bob at 192.0.2.1", "Login rejected for <user> at <ip>");
        check(
            r#"{"time":"12:00","msg":"login of user bob failed","status":401, "code": 7,"port":4711,"ip":"192.0.2.1"}"#,
            r#"\{"time":"<quoted>","msg":"login of user <user> failed","status":401, "code": 7,"port":<num>,"ip":"<ip>"\}"#,
        );
        check(
            "level=warn code=7 n=7 msg=\"no user\" by=\"x y\"",
            "level=warn code=7 n=<num> msg=\"no user\" by=\"<quoted>\"",
        );
        check("a {b} <c> | 192.0.2.1", r"a \{b\} \<c> \| <ip>");
        check(
            "Accepted key for git from 192.0.2.1: RSA SHA256:a1b2c3",
            "Accepted key for <user> from <ip>: RSA <word>",
        );
        check("", "");
    }

    /// The addresses in a text.
    #[track_caller]
    fn addresses_in(text: &str, want: &[&str]) {
        let found: Vec<&str> = addresses(text).filter_map(|(place, _)| text.get(place)).collect();
        assert_eq!(found, want);
    }

    #[test]
    fn addresses_are_found_where_they_stand_alone() {
        addresses_in("from 192.0.2.1.", &["192.0.2.1"]);
        addresses_in(
            "ip:192.0.2.1:22 [2001:db8::1]:22 2001:db8::2: ::1",
            &["192.0.2.1", "2001:db8::1", "2001:db8::2", "::1"],
        );
        addresses_in("fe80::1%eth0, x", &["fe80::1%eth0"]);
        addresses_in(
            "std::string 12:30:45 aa:bb:cc:dd:ee:ff 1.2.3 1.2.3.4.5 :: x192.0.2.1 192.0.2.1a 0.0.0.0",
            &[],
        );
    }

    #[track_caller]
    fn joined(one: &str, other: &str, want: Option<&str>) {
        let fixed = |word: &str| word == "reset" || word == "closed";
        assert_eq!(join(&template(one), &template(other), fixed).as_deref(), want);
    }

    #[test]
    fn messages_of_a_kind_are_one() {
        joined("login of bob from ::1", "login of eve from ::1", Some("login of <word> from <ip>"));
        joined("login of (bob), from ::1", "login of (eve), from ::1", Some("login of (<word>), from <ip>"));
        joined("login x=a,b from ::1", "login x=c from ::1", Some("login x=<word> from <ip>"));
        joined("login of bob at ::1", "login of eve from ::1", None);
        joined("(bob@::1) [INFO] Bye", "(eve@::1) [INFO] Bye", Some("(<user>@<ip>) [INFO] Bye"));
        joined("[bob] OK: Client ::1", "[eve] OK: Client ::1", Some("[<user>] OK: Client <ip>"));
        joined("[INFO] login of bob from ::1", "[WARN] login of bob from ::1", None);
        joined("login by bob from ::1", "logout by bob from ::1", None);
        joined("gone reset by peer ::1", "gone closed by peer ::1", None);
        joined("gone  by peer ::1", "gone x by peer ::1", None);
        joined("gone by ::1", "gone ::1 by", None);
    }
}
