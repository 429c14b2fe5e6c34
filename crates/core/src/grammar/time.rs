//! `<time>`: the stamps that servers put before their messages.
//!
//! The matcher and the proof read the same table, so the proof covers each stamp that the matcher takes.

use crate::entry::scan::{ONES, within};

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

/// The first eight bytes of each of them, as [`shape`] has them: most texts differ there.
const SHAPES: [u64; STAMPS.len()] = {
    let (mut shapes, mut place) = ([0; STAMPS.len()], 0);
    while place < STAMPS.len() {
        #[allow(clippy::indexing_slicing)] // while it is compiled
        {
            shapes[place] = shape(STAMPS[place].as_bytes());
        }
        place += 1;
    }
    shapes
};

/// A bit for each of them among many, so that most texts are told from stamps at once.
const BLOOM: [u64; 16] = {
    let (mut bits, mut place) = ([0; 16], 0);
    while place < SHAPES.len() {
        #[allow(clippy::indexing_slicing)] // while it is compiled
        {
            let (word, bit) = bloom(SHAPES[place]);
            bits[word] |= bit;
        }
        place += 1;
    }
    bits
};

/// Which bit a shape has.
const fn bloom(shape: u64) -> (usize, u64) {
    let hash = shape.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((hash >> 60) as usize, 1 << (hash >> 54 & 63))
}

/// Whether a shape may be that of a stamp.
fn may_be_stamp(shape: u64) -> bool {
    let (word, bit) = bloom(shape);
    BLOOM.get(word).is_some_and(|bits| bits & bit != 0)
}

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
    let first = shape(text);
    if !may_be_stamp(first) {
        return None;
    }
    let alike = STAMPS.iter().zip(&SHAPES).filter(|(_, shape)| **shape == first).map(|(stamp, _)| stamp);
    for stamp in alike.filter(|stamp| begins(text, stamp)) {
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

/// The first eight bytes of a text, with `0` for each digit and `a` for each letter; 0 if there are fewer.
const fn shape(text: &[u8]) -> u64 {
    let Some(bytes) = text.first_chunk::<SHORTEST>() else { return 0 };
    let bytes = u64::from_le_bytes(*bytes);
    let digits = within(bytes, b'0', b'9');
    let letters = within(bytes | (ONES * 0x20), b'a', b'z');
    bytes & !(digits | letters) | digits & (ONES * b'0' as u64) | letters & (ONES * b'a' as u64)
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
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, want: &[&str]) {
        let found: Vec<&str> = stamps(text.as_bytes(), Some(b' ')).map(|length| &text[..length]).collect();
        assert_eq!(found, want);
    }

    proptest! {
        /// What tells most texts from stamps tells no stamp from itself.
        #[test]
        fn a_text_that_begins_like_a_stamp_has_its_shape(text in "[0-9A-Za-z]{2}[0-9A-Za-z /:.-]{6,20}", seed: usize) {
            let stamp = STAMPS[seed % STAMPS.len()];
            let like = |(n, like): (usize, u8)| match like {
                b'0' => b'0' + (seed >> (n % 32)) as u8 % 10,
                b'a' => b"azAZmN"[(seed >> (n % 32)) % 6],
                like => like,
            };
            let filled: Vec<u8> = stamp.bytes().enumerate().map(like).collect();
            for text in [text.as_bytes(), &filled] {
                for (stamp, known) in STAMPS.iter().zip(SHAPES).filter(|(stamp, _)| begins(text, stamp)) {
                    prop_assert_eq!(shape(text), known, "{}", stamp);
                    prop_assert!(may_be_stamp(known));
                }
            }
        }
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
