//! `<time>`: the stamps that servers put before their messages.
//!
//! The matcher and the proof read the same table, so the proof covers each stamp that the matcher takes.

/// Stamps without a fraction and a zone: `0` is a digit, `a` a letter, and all else itself. They are those of RFC 3339,
/// ISO 8601, RFC 3164, `ctime` and the common log format, and those of MySQL, PostgreSQL, Java, Go, Python, PHP and .NET.
pub(super) const STAMPS: &[&str] = &[
    "0000-00-00T00:00:00",
    "0000-00-00 00:00:00",
    "0000-00-00  0:00:00",
    "0000/00/00 00:00:00",
    "0000.00.00 00:00:00",
    "00.00.0000 00:00:00",
    "00-00-0000 00:00:00",
    "00/00/0000 00:00:00",
    "00/00/00 00:00:00",
    "00-aaa-0000 00:00:00",
    "00 aaa 0000 00:00:00",
    "00/aaa/0000:00:00:00",
    "aaa 00 00:00:00",
    "aaa  0 00:00:00",
    "aaa 0 00:00:00",
    "aaa 00 0000 00:00:00",
    "aaa 00, 0000 00:00:00",
    "aaa aaa 00 00:00:00 0000",
    "aaa aaa  0 00:00:00 0000",
    "aaa aaa 00 00:00:00.000000 0000",
    "000000 00:00:00",
    "000000  0:00:00",
    "00000000 00:00:00",
    "00000000-00:00:00",
    "00000000T000000",
    "00:00:00",
    "0000000000",
];

/// What stands before the digits of a fraction.
pub(super) const POINTS: &[u8] = b".,:";

/// The most digits of a fraction.
pub(super) const DIGITS: usize = 9;

/// Zones, which may follow a space; `0` is a digit.
pub(super) const ZONES: &[&str] = &[
    "Z", "+0000", "-0000", "+00:00", "-00:00", "+00", "-00", "UTC", "GMT", "AM", "PM", "CET", "CEST", "BST",
    "WET", "EET", "EEST", "EST", "EDT", "CST", "CDT", "MST", "MDT", "PST", "PDT", "MSK", "IST", "JST",
    "AEST", "AEDT",
];

/// The shortest stamp, in bytes.
pub(super) const SHORTEST: usize = 8;

/// How long the stamps at the start of `text` are that end before `stop`, the longest first. Bounded; does not allocate.
pub(super) fn stamps(text: &[u8], stop: Option<u8>) -> impl Iterator<Item = usize> {
    std::iter::successors(longest(text, stop, usize::MAX), move |length| longest(text, stop, *length))
}

/// The longest of them that is shorter than `limit`.
fn longest(text: &[u8], stop: Option<u8>, limit: usize) -> Option<usize> {
    let mut longest = None;
    let mut ends = |at: usize| {
        if at < limit && text.get(at).copied() == stop {
            longest = longest.max(Some(at));
        }
    };
    for stamp in STAMPS.iter().filter(|stamp| begins(text, stamp)) {
        let rest = text.get(stamp.len()..).unwrap_or_default();
        let digits = match rest.split_first() {
            Some((point, digits)) if POINTS.contains(point) => digits.iter().take(DIGITS),
            _ => [].iter().take(0),
        };
        let digits = digits.take_while(|byte| byte.is_ascii_digit()).count();
        for fraction in 0..=digits {
            let at = stamp.len() + if fraction > 0 { 1 + fraction } else { 0 };
            ends(at);
            let rest = text.get(at..).unwrap_or_default();
            let space = usize::from(rest.first() == Some(&b' '));
            let zone = rest.get(space..).unwrap_or_default();
            ZONES.iter().filter(|name| begins(zone, name)).for_each(|name| ends(at + space + name.len()));
        }
    }
    longest
}

/// Whether this text behind a stamp could be the beginning of its fraction or its zone.
pub(super) fn goes_on(text: &[u8]) -> bool {
    let zone = text.strip_prefix(b" ").unwrap_or(text);
    let is_zone = |name: &&str| {
        name.bytes().zip(zone).all(|(like, byte)| is_like(*byte, like)) && zone.len() <= name.len()
    };
    matches!(text, [point] if POINTS.contains(point)) || ZONES.iter().any(is_zone)
}

/// Whether a text begins like this.
fn begins(text: &[u8], like: &str) -> bool {
    text.len() >= like.len() && text.iter().zip(like.bytes()).all(|(byte, like)| is_like(*byte, like))
}

/// Whether a byte is what a byte of a table stands for.
pub(super) fn is_like(byte: u8, like: u8) -> bool {
    match like {
        b'0' => byte.is_ascii_digit(),
        b'a' => byte.is_ascii_alphabetic(),
        like => byte == like,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: &[&str]) {
        let found: Vec<&str> = stamps(text.as_bytes(), Some(b' ')).map(|length| &text[..length]).collect();
        assert_eq!(found, want);
    }

    #[test]
    fn stamps_of_servers_are_read() {
        for stamp in [
            "2026-11-23T21:04:11+01:00",
            "2026-11-23T21:04:11.123456789Z",
            "2026-11-23 21:04:11,123",
            "Nov  3 21:04:11",
            "Mon Nov 23 21:04:11 2026",
            "231123  1:04:11",
            "20261123-21:04:11.123",
            "1795467851.123",
        ] {
            check(&format!("{stamp} x"), &[stamp]);
        }
        check("23/Nov/2026:21:04:11 +0000 x", &["23/Nov/2026:21:04:11 +0000", "23/Nov/2026:21:04:11"]);
        check("2026-11-23 21:04:11.5 UTC x", &["2026-11-23 21:04:11.5 UTC", "2026-11-23 21:04:11.5"]);
        check("2026-11-23 21:04:11x ", &[]);
        check("192.0.2.1 ", &[]);
    }
}
