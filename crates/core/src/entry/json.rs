//! The JSON objects that rsyslog's `option.jsonf` templates render, one per line.
//!
//! They are not quite JSON: rsyslog passes bytes that are not UTF-8 unchanged, and a strict parser would lose the line
//! over a byte that a stranger typed. So strings are bytes here, and a backslash that begins no escape stands for
//! itself. Values under other keys are skipped unchecked, to any depth, without recursion.

use std::ops::Range;

use memchr::{memchr, memchr2};
use nom::branch::alt;
use nom::bytes::complete::is_not;
use nom::character::complete::char;
use nom::combinator::{all_consuming, opt};
use nom::error::{Error, ErrorKind};
use nom::sequence::{delimited, separated_pair, terminated};
use nom::{IResult, Offset, Parser};

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
    for value in fields.0.iter_mut().flatten() {
        value.unescape(record);
    }
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
        time: text(JsonField::Time).and_then(|text| stamps.iso(text, now)).map_or(now, |(time, _)| time),
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
            b"message" => Self::Message,
            _ => return None,
        })
    }
}

/// Where in the record the values stand that an entry is made of, in the order of [`JsonField`].
#[derive(Default)]
struct Fields([Option<ValueSpan>; 11]);

/// Where a [`RawValue`] stands.
struct ValueSpan {
    at: Range<usize>,
    escaped: bool,
}

impl Fields {
    /// `None` where the record is not one whole object.
    fn read(record: &[u8], order: &mut KeyOrder) -> Option<Self> {
        if let Some(fields) = order.read(record) {
            return Some(fields);
        }
        order.forget();
        let mut fields = Self::default();
        let (mut end, mut is_known) = (0, true);
        let (mut rest, _) = terminated(char('{'), space).parse(record).ok()?;
        while let Ok((after, (key, value))) = terminated(member, opt(char(','))).parse(rest) {
            let field = JsonField::named(key);
            if let Some(RawValue { text, escaped }) = value {
                let start = record.offset(text);
                is_known &= order.add(record.get(end..start)?, field);
                end = start + text.len();
                fields.put(field, ValueSpan { at: start..end, escaped });
            }
            rest = after;
        }
        all_consuming(terminated(char('}'), space)).parse(rest).ok()?;
        let after = record.get(end..)?;
        if is_known && order.has_room(after) {
            order.text.extend_from_slice(after);
            order.is_known = true;
        }
        Some(fields)
    }

    /// Of a key that occurs twice the first counts.
    fn put(&mut self, field: Option<JsonField>, value: ValueSpan) {
        if let Some(place) = field.and_then(|field| self.0.get_mut(field as usize)) {
            place.get_or_insert(value);
        }
    }

    fn text<'r>(&self, field: JsonField, record: &'r [u8]) -> Option<&'r [u8]> {
        let value = self.0.get(field as usize)?.as_ref()?;
        record.get(value.at.clone()).filter(|text| !text.is_empty())
    }

    /// Whether rsyslog made the object, and not a server whose own log is JSON.
    fn are_rsyslogs(&self, record: &[u8]) -> bool {
        let has = |field| self.0.get(field as usize).is_some_and(Option::is_some);
        has(JsonField::Message)
            && (has(JsonField::Program) || self.text(JsonField::Tag, record).and_then(Tag::read).is_some())
    }
}

/// The keys of the last object and what else stands between its values, so that an object like it need not be parsed:
/// rsyslog renders all by one template. It is read as without this.
#[derive(Clone, Debug, Default)]
pub(super) struct KeyOrder {
    /// What stands before each value up to its quote, from the quote of the value before; then what follows the last.
    text: Vec<u8>,
    /// Where each of these ends, and what the value is.
    keys: Vec<(usize, Option<JsonField>)>,
    /// Whether that is all of the last object, and each value a string.
    is_known: bool,
}

/// What has more keys than this, or more between their values, is not a template of ours.
const MOST_KEYS: usize = 32;
const MOST_TEXT: usize = 1024;

impl KeyOrder {
    fn read(&self, record: &[u8]) -> Option<Fields> {
        if !self.is_known {
            return None;
        }
        let mut fields = Fields::default();
        let (mut at, mut from) = (0, 0);
        for (to, field) in &self.keys {
            let before = self.text.get(from..*to)?;
            let inside = record.get(at..)?.strip_prefix(before)?;
            let (length, escaped) = string_end(inside)?;
            let start = at + before.len();
            (at, from) = (start + length, *to);
            fields.put(*field, ValueSpan { at: start..at, escaped });
        }
        (record.get(at..) == self.text.get(from..)).then_some(fields)
    }

    /// Keeps its memory only.
    fn forget(&mut self) {
        self.text.clear();
        self.keys.clear();
        self.is_known = false;
    }

    /// Adds a value, if what stands `before` it can be known again.
    fn add(&mut self, before: &[u8], field: Option<JsonField>) -> bool {
        let is_known = before.ends_with(b"\"") && self.keys.len() < MOST_KEYS && self.has_room(before);
        if is_known {
            self.text.extend_from_slice(before);
            self.keys.push((self.text.len(), field));
        }
        is_known
    }

    fn has_room(&self, text: &[u8]) -> bool {
        self.text.len() + text.len() <= MOST_TEXT
    }
}

impl ValueSpan {
    /// Unescapes the text where it stands, and ends where it then ends.
    fn unescape(&mut self, record: &mut [u8]) {
        if let (true, Some(text)) = (self.escaped, record.get_mut(self.at.clone())) {
            self.at.end = self.at.start + unescape(text);
        }
    }
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
        let plain = memchr(b'\\', rest).unwrap_or(rest.len());
        let escaped = rest.get(plain..).and_then(escape);
        text.copy_within(read..read + plain, written);
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
