//! The JSON objects that rsyslog's `option.jsonf` templates render, one per line.
//!
//! They are not quite JSON: rsyslog passes bytes that are not UTF-8 unchanged, and a strict parser would lose the line
//! over a byte that a stranger typed. So strings are bytes here, and a backslash that begins no escape stands for
//! itself. Values under other keys are skipped unchecked, to any depth, without recursion.

use memchr::memchr2;
use nom::branch::alt;
use nom::bytes::complete::is_not;
use nom::character::complete::char;
use nom::combinator::{all_consuming, opt};
use nom::error::{Error, ErrorKind};
use nom::sequence::{delimited, separated_pair, terminated};
use nom::{IResult, Offset, Parser};

use super::scan::until;
use super::stamp::Stamps;
use super::syslog::{self, Tag};
use super::{Malformed, cut, message, number, program};
use crate::model::{Entry, Sender, Timestamp};

/// The entry of an object that has a `message`, and a `program` or a `tag` with a colon or pid; any other
/// object is a message itself, from `unnamed`.
///
/// Of a key that occurs twice the first counts; an empty value counts as none.
pub(super) fn decode<'a>(
    record: &'a mut [u8],
    unnamed: &'a [u8],
    stamps: &mut Stamps,
    order: &mut KeyOrder,
    now: Timestamp,
) -> Result<Entry<'a>, Malformed> {
    let mut fields = Fields::read(record, order).ok_or(Malformed::Json)?;
    if !fields.are_rsyslogs(record) {
        return Ok(syslog::bare(record, unnamed, now));
    }
    fields.unescape(record);
    let record = &*record;
    let text = |field| fields.text(field, record);
    let tag = text(JsonField::Tag);
    let tag_length = tag.map_or(0, <[u8]>::len);
    let tag = tag.and_then(Tag::read);
    let (tagged, claimed_pid) = tag.map_or((None, None), |tag| (Some(tag.program), tag.pid));
    let raw = text(JsonField::Message).unwrap_or(b"");
    // One space is the header's.
    let length = raw.strip_prefix(b" ").unwrap_or(raw).len();
    let comm = text(JsonField::Comm);
    let claimed = program(tagged.or(text(JsonField::Program)).unwrap_or(unnamed));
    let goes_on = cut::goes_on(length, comm.or_else(|| cut::sender(claimed, claimed_pid)));
    let size = text(JsonField::Size).and_then(number);
    Ok(Entry {
        time: text(JsonField::Time).and_then(|text| stamps.iso_again(text, now)).unwrap_or(now),
        host: text(JsonField::Host).unwrap_or(b""),
        program: claimed,
        pid: text(JsonField::Pid).and_then(number).or(claimed_pid).unwrap_or(0),
        message: message(raw),
        cut: goes_on || size.map_or_else(|| cut::by_syslog(tag_length + 1, length), cut::is_a_limit),
        goes_on,
        times: 1,
        sender: Sender {
            uid: text(JsonField::Uid).and_then(number),
            exe: text(JsonField::Exe),
            comm,
            unit: text(JsonField::Unit),
            is_remote: false,
            // journald hands on what units print under the facility that systemd.exec(5) gives it.
            prints: text(JsonField::Input) == Some(b"imfile") || text(JsonField::Facility) == Some(b"daemon"),
        },
    })
}

/// A value that an entry is made of.
#[derive(Clone, Copy, Debug)]
enum JsonField {
    Time,
    Host,
    Tag,
    Program,
    Pid,
    Uid,
    Exe,
    Comm,
    Unit,
    Size,
    Facility,
    Input,
    Message,
}

impl JsonField {
    fn named(key: &[u8]) -> Option<Self> {
        Some(match key {
            b"time" => Self::Time,
            b"host" => Self::Host,
            b"tag" => Self::Tag,
            b"program" => Self::Program,
            b"pid" => Self::Pid,
            b"uid" => Self::Uid,
            b"exe" => Self::Exe,
            b"comm" => Self::Comm,
            b"unit" => Self::Unit,
            b"size" => Self::Size,
            b"facility" => Self::Facility,
            b"input" => Self::Input,
            b"message" => Self::Message,
            _ => return None,
        })
    }
}

/// Where in the record the values stand that an entry is made of, in the order of [`JsonField`].
#[derive(Default)]
struct Fields {
    spans: [(u32, u32); 13],
    /// As bits: which values are there, and which of them have escapes.
    present: u16,
    escaped: u16,
}

impl Fields {
    /// `None` where the record is not one whole object, or has 4 GiB.
    fn read(record: &[u8], order: &mut KeyOrder) -> Option<Self> {
        u32::try_from(record.len()).ok()?;
        if let Some(fields) = order.read(record) {
            return Some(fields);
        }
        order.forget();
        let mut fields = Self::default();
        let mut is_known = true;
        let (mut rest, _) = terminated(char('{'), space).parse(record).ok()?;
        while let Ok((after, (key, value))) = terminated(member, opt(char(','))).parse(rest) {
            let field = JsonField::named(key);
            if let Some(RawValue { text, escaped }) = value {
                let start = record.offset(text);
                let value = ValueSpan { start, end: start + text.len(), escaped, field };
                fields.put(&value);
                is_known &= order.add(record, value);
            }
            rest = after;
        }
        all_consuming(terminated(char('}'), space)).parse(rest).ok()?;
        order.is_known = is_known && order.remember(record);
        Some(fields)
    }

    /// Of a key that occurs twice the first counts.
    fn put(&mut self, value: &ValueSpan) {
        let Some(place) = value.field.map(|field| field as usize) else { return };
        if self.present >> place & 1 == 0
            && let Some(span) = self.spans.get_mut(place)
        {
            *span = (value.start as u32, value.end as u32);
            self.present |= 1 << place;
            self.escaped |= u16::from(value.escaped) << place;
        }
    }

    /// Unescapes the values where they stand, so that each ends where it then ends.
    fn unescape(&mut self, record: &mut [u8]) {
        while self.escaped != 0 {
            let place = self.escaped.trailing_zeros() as usize;
            self.escaped &= self.escaped - 1;
            if let Some((start, end)) = self.spans.get_mut(place)
                && let Some(text) = record.get_mut(*start as usize..*end as usize)
            {
                *end = *start + unescape(text) as u32;
            }
        }
    }

    fn text<'r>(&self, field: JsonField, record: &'r [u8]) -> Option<&'r [u8]> {
        let (start, end) = *self.spans.get(field as usize)?;
        record.get(start as usize..end as usize).filter(|text| !text.is_empty())
    }

    /// Whether rsyslog made the object, and not a server whose own log is JSON.
    fn are_rsyslogs(&self, record: &[u8]) -> bool {
        let has = |field| self.present >> field as usize & 1 == 1;
        has(JsonField::Message)
            && (has(JsonField::Program) || self.text(JsonField::Tag, record).and_then(Tag::read).is_some())
    }
}

/// A value in an object.
#[derive(Clone, Debug)]
struct ValueSpan {
    start: usize,
    end: usize,
    escaped: bool,
    field: Option<JsonField>,
}

/// The last object, so that one like it need not be parsed: rsyslog renders all by one template, and most values are those of
/// the object before. It is read as without this.
#[derive(Clone, Debug, Default)]
pub(super) struct KeyOrder {
    /// What stands before its last value.
    text: Vec<u8>,
    /// Its values, each a string.
    values: Vec<ValueSpan>,
    /// What follows the last of them.
    after: Vec<u8>,
    /// Whether that is all of the last object.
    is_known: bool,
}

/// What has more keys than this, or more before its last value or behind it, is not a template of ours.
const MOST_KEYS: usize = 32;
const MOST_TEXT: usize = 1024;

impl KeyOrder {
    fn read(&mut self, record: &[u8]) -> Option<Fields> {
        let Self { text, values, after, is_known } = self;
        let (last, others) = values.split_last_mut().filter(|_| *is_known)?;
        let mut fields = Fields::default();
        // Up to where both are the same, and where that part begins in both.
        let (mut at, mut from) = (0, 0);
        let mut same = common(record, text);
        for value in others {
            let start = at + (value.start - from);
            if value.end < same {
                (value.start, value.end) = (start, at + (value.end - from));
            } else if value.start <= same {
                let (length, escaped) = string_end(record.get(start..)?)?;
                (at, from) = (start + length, value.end);
                same = from + common(record.get(at..)?, text.get(from..)?);
                (value.start, value.end, value.escaped) = (start, at, escaped);
            } else {
                return None;
            }
            fields.put(value);
        }
        let start = at + (last.start - from);
        (same == text.len()).then_some(())?;
        let (length, escaped) = string_end(record.get(start..)?)?;
        (last.start, last.end, last.escaped) = (start, start + length, escaped);
        (record.get(last.end..)? == after).then_some(())?;
        fields.put(last);
        text.clear();
        text.extend_from_slice(record.get(..start).filter(|text| text.len() <= MOST_TEXT)?);
        Some(fields)
    }

    /// Keeps its memory only.
    fn forget(&mut self) {
        self.values.clear();
        self.is_known = false;
    }

    /// Adds a value, if it is one that can be known again.
    fn add(&mut self, record: &[u8], value: ValueSpan) -> bool {
        let is_string = value.start.checked_sub(1).and_then(|before| record.get(before)) == Some(&b'"');
        let is_known = is_string && self.values.len() < MOST_KEYS;
        if is_known {
            self.values.push(value);
        }
        is_known
    }

    /// Remembers the object of these values, if it is not too long.
    fn remember(&mut self, record: &[u8]) -> bool {
        let parts =
            self.values.last().and_then(|last| Some((record.get(..last.start)?, record.get(last.end..)?)));
        let parts = parts.filter(|(before, after)| before.len().max(after.len()) <= MOST_TEXT);
        let Some((before, after)) = parts else { return false };
        self.text.clear();
        self.text.extend_from_slice(before);
        self.after.clear();
        self.after.extend_from_slice(after);
        true
    }
}

/// How many bytes two texts have in common.
fn common(one: &[u8], other: &[u8]) -> usize {
    let mut same = 0;
    for (one, other) in one.as_chunks::<8>().0.iter().zip(other.as_chunks::<8>().0) {
        let different = u64::from_le_bytes(*one) ^ u64::from_le_bytes(*other);
        if different != 0 {
            return same + different.trailing_zeros() as usize / 8;
        }
        same += 8;
    }
    let rest = one.iter().zip(other).skip(same);
    same + rest.take_while(|(one, other)| one == other).count()
}

/// A string without its quotes, or a number, and whether there are escapes in it.
struct RawValue<'a> {
    text: &'a [u8],
    escaped: bool,
}

/// `"key": value`; no text where the value is neither string nor number.
fn member(input: &[u8]) -> IResult<&[u8], (&[u8], Option<RawValue<'_>>)> {
    let nested = nested.map(|_| None);
    let word = is_not(",]}[{\": \t\r\n");
    let word = word
        .map(|word: &[u8]| word.first()?.is_ascii_digit().then_some(RawValue { text: word, escaped: false }));
    let key = delimited(space, string, space).map(|key| key.text);
    let value = delimited(space, alt((string.map(Some), word, nested)), space);
    separated_pair(key, char(':'), value).parse(input)
}

fn string(input: &[u8]) -> IResult<&[u8], RawValue<'_>> {
    let (inside, _) = char('"').parse(input)?;
    let parts = string_end(inside).and_then(|(end, escaped)| {
        let (text, rest) = inside.split_at_checked(end)?;
        Some((rest.strip_prefix(b"\"")?, RawValue { text, escaped }))
    });
    parts.ok_or(nom::Err::Error(Error::new(input, ErrorKind::Char)))
}

/// Where the quote is that ends a string, from behind the one that begins it, and whether there are escapes before it.
fn string_end(inside: &[u8]) -> Option<(usize, bool)> {
    let (mut end, mut escaped) = (0, false);
    loop {
        end += quote_or_backslash(inside.get(end..)?)?;
        match inside.get(end)? {
            b'"' => return Some((end, escaped)),
            _ => (end, escaped) = (end + 2, true),
        }
    }
}

/// Where the first of these two is.
fn quote_or_backslash(text: &[u8]) -> Option<usize> {
    // Most values have a few characters or none: eight of them at once take 15 instructions, a search 60.
    const ONES: u64 = u64::MAX / 255;
    let holds = |word: u64, byte: u8| {
        let same_is_zero = word ^ (ONES * u64::from(byte));
        same_is_zero.wrapping_sub(ONES) & !same_is_zero & (ONES << 7)
    };
    let mut at = 0;
    while at < 32
        && let Some(eight) = text.get(at..).and_then(<[u8]>::first_chunk)
    {
        let word = u64::from_le_bytes(*eight);
        match holds(word, b'"') | holds(word, b'\\') {
            0 => at += 8,
            found => return Some(at + found.trailing_zeros() as usize / 8),
        }
    }
    Some(at + memchr2(b'"', b'\\', text.get(at..)?)?)
}

/// An array or an object: up to the bracket that closes the first one.
fn nested(input: &[u8]) -> IResult<&[u8], ()> {
    let mut depth = 0usize;
    let mut rest = input;
    loop {
        rest = match rest {
            [b'[' | b'{', rest @ ..] => {
                depth += 1;
                rest
            }
            [b']' | b'}', rest @ ..] if depth > 1 => {
                depth -= 1;
                rest
            }
            [b']' | b'}', rest @ ..] if depth == 1 => return Ok((rest, ())),
            [b'"', ..] if depth > 0 => string(rest)?.0,
            [_, rest @ ..] if depth > 0 => rest,
            _ => return Err(nom::Err::Error(Error::new(input, ErrorKind::Char))),
        };
    }
}

fn space(input: &[u8]) -> IResult<&[u8], ()> {
    Ok((input.trim_ascii_start(), ()))
}

/// Replaces each escape by what it stands for, in UTF-8, and returns the length that is left.
///
/// No escape is shorter than its character. Half of a surrogate pair becomes U+FFFD.
pub(super) fn unescape(text: &mut [u8]) -> usize {
    let (mut read, mut written) = (0, 0);
    while let Some(rest) = text.get(read..).filter(|rest| !rest.is_empty()) {
        let plain = until(rest, 0, [b'\\']);
        let escaped = rest.get(plain..).and_then(escape);
        if read > written {
            text.copy_within(read..read + plain, written);
        }
        (read, written) = (read + plain, written + plain);
        if let Some((character, length)) = escaped {
            let mut utf8 = [0; 4];
            let utf8 = character.encode_utf8(&mut utf8).as_bytes();
            if let Some(place) = text.get_mut(written..written + utf8.len()) {
                place.copy_from_slice(utf8);
            }
            (read, written) = (read + length, written + utf8.len());
        }
    }
    written
}

/// The character that the escape at the start stands for, and the length of the escape; a backslash that
/// begins no escape stands for itself. `None` where there is no backslash.
fn escape(text: &[u8]) -> Option<(char, usize)> {
    let [b'\\', after @ ..] = text else { return None };
    let simple = |character| Some((character, 2));
    match after {
        [b'"' | b'\\' | b'/', ..] => simple(char::from(*after.first()?)),
        [b'b', ..] => simple('\x08'),
        [b'f', ..] => simple('\x0c'),
        [b'n', ..] => simple('\n'),
        [b'r', ..] => simple('\r'),
        [b't', ..] => simple('\t'),
        _ => {
            let Some(unit) = utf16(text) else { return Some(('\\', 1)) };
            let pair = [unit, text.get(6..).and_then(utf16).unwrap_or(0)];
            match char::decode_utf16(pair).next()? {
                Ok(character) => Some((character, if character > '\u{ffff}' { 12 } else { 6 })),
                Err(_) => Some((char::REPLACEMENT_CHARACTER, 6)),
            }
        }
    }
}

/// The code unit of an escape `\u00e9`.
fn utf16(text: &[u8]) -> Option<u16> {
    let [b'\\', b'u', hex @ ..] = text else { return None };
    let digits = hex.first_chunk::<4>()?.iter().map(|b| char::from(*b).to_digit(16));
    digits.into_iter().try_fold(0, |unit, digit| Some(unit << 4 | digit? as u16))
}
