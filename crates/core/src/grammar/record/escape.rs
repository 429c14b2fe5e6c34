//! Backslashes in quoted text: those of JSON, and `\xHH`, as Go and nginx write bytes. What is none of these stands for
//! itself, and half a surrogate pair for U+FFFD. So a text never gets longer.

/// Up to this many bytes come of one escape.
type UnescapedBytes = ([u8; 4], usize);

/// The bytes that the text begins with stand for, and how many those are; `None` at its end.
fn next(text: &[u8]) -> Option<(usize, UnescapedBytes)> {
    let one = |byte: u8| ([byte, 0, 0, 0], 1);
    let (first, rest) = text.split_first()?;
    if *first != b'\\' {
        return Some((1, one(*first)));
    }
    let plain = match rest.first() {
        Some(b'n') => b'\n',
        Some(b't') => b'\t',
        Some(b'r') => b'\r',
        Some(b'b') => 8,
        Some(b'f') => 12,
        Some(byte @ (b'"' | b'\\' | b'/')) => *byte,
        Some(b'u') => return Some(unicode(text).unwrap_or((1, one(b'\\')))),
        Some(b'x') => {
            let byte = hex(text.get(2..4).unwrap_or_default()).map(|byte| byte as u8);
            return Some(byte.map_or((1, one(b'\\')), |byte| (4, one(byte))));
        }
        _ => return Some((1, one(b'\\'))),
    };
    Some((2, one(plain)))
}

/// As [`next`], of a `\uXXXX` or two that are a surrogate pair.
fn unicode(text: &[u8]) -> Option<(usize, UnescapedBytes)> {
    let unit = hex(text.get(2..6)?)?;
    let low = || {
        let (first, rest) = text.get(6..12)?.split_at(2);
        hex(rest).filter(|low| first == b"\\u" && (0xdc00..0xe000).contains(low))
    };
    let pair = (0xd800..0xdc00).contains(&unit).then(low).flatten();
    let (length, code) = match pair {
        Some(low) => (12, 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00)),
        None => (6, unit),
    };
    let mut bytes = [0; 4];
    let written = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER).encode_utf8(&mut bytes).len();
    Some((length, (bytes, written)))
}

fn hex(digits: &[u8]) -> Option<u32> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    (!digits.is_empty()).then_some(())?;
    digits.iter().try_fold(0, |all, byte| Some(all << 4 | digit(byte)?))
}

/// What each escape of the text comes to, with how many bytes of the text it takes.
fn all(text: &[u8]) -> impl Iterator<Item = (usize, UnescapedBytes)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let (length, bytes) = next(text.get(at..)?)?;
        at += length;
        Some((length, bytes))
    })
}

/// Writes what the text stands for to the front of `room`, which is as long as the text; how long it is.
pub(super) fn unescape(text: &[u8], room: &mut [u8]) -> usize {
    let mut end = 0;
    for (_, (bytes, length)) in all(text) {
        let to = room.get_mut(end..end + length).unwrap_or_default();
        to.iter_mut().zip(bytes).for_each(|(to, byte)| *to = byte);
        end += length;
    }
    end
}

/// Whether the text stands for this.
pub(super) fn is(text: &[u8], wanted: &[u8]) -> bool {
    let mut rest = Some(wanted);
    for (_, (bytes, length)) in all(text) {
        rest = rest.and_then(|rest| rest.strip_prefix(bytes.get(..length)?));
    }
    rest == Some(&[])
}

/// How many bytes of the text the first `length` bytes of what it stands for take.
pub(super) fn taken(text: &[u8], length: usize) -> usize {
    let (mut written, mut read) = (0, 0);
    for (taken, (_, more)) in all(text) {
        if written >= length {
            break;
        }
        (written, read) = (written + more, read + taken);
    }
    read
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: &[u8]) {
        let mut room = text.as_bytes().to_vec();
        let length = unescape(text.as_bytes(), &mut room);
        assert_eq!(&room[..length], want, "{text}");
        assert!(is(text.as_bytes(), want));
        assert!(!is(text.as_bytes(), &[want, b"x"].concat()));
        assert_eq!(taken(text.as_bytes(), length), text.len());
    }

    #[test]
    fn an_escape_stands_for_what_json_says() {
        check("plain", b"plain");
        check(r#"a\"b\\c\/d"#, b"a\"b\\c/d");
        check(r"\b\f\n\r\t", b"\x08\x0c\n\r\t");
        check(r"\u0041\u00e9\u20ac", "A\u{e9}\u{20ac}".as_bytes());
        check(r"\u0000", b"\0");
        check(r"\ud83d\ude00", "\u{1f600}".as_bytes());
    }

    #[test]
    fn what_is_no_escape_stands_for_itself() {
        check(r"\ud83d\u0041 \ude00", "\u{fffd}A \u{fffd}".as_bytes());
        check(r"\q\u12g4\x4\", br"\q\u12g4\x4\");
        check(r"\u12", br"\u12");
        check(r"\x22\xff", b"\"\xff");
    }
}
