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
    now: Timestamp,
) -> Result<Entry<'a>, Malformed> {
    let mut fields = Fields::read(record).ok_or(Malformed::Json)?;
    if !fields.are_rsyslogs(record) {
        return Ok(syslog::bare(record, unnamed, now));
    }
    for place in fields.places() {
        place.unescape(record);
    }
    let text = |place: Option<ValueSpan>| record.get(place?.at).filter(|text| !text.is_empty());
    let tag = text(fields.tag);
    let tag_length = tag.map_or(0, <[u8]>::len);
    let tag = tag.and_then(Tag::read);
    let (tagged, claimed_pid) = tag.map_or((None, None), |tag| (Some(tag.program), tag.pid));
    let raw = text(fields.message).unwrap_or(b"");
    // One space is the header's.
    let length = raw.strip_prefix(b" ").unwrap_or(raw).len();
    let comm = text(fields.comm);
    let claimed = program(tagged.or(text(fields.program)).unwrap_or(unnamed));
    let goes_on = cut::goes_on(length, comm.or_else(|| cut::sender(claimed, claimed_pid)));
    let size = text(fields.size).and_then(number);
    Ok(Entry {
        time: text(fields.time).and_then(|text| stamps.iso(text, now)).map_or(now, |(time, _)| time),
        host: text(fields.host).unwrap_or(b""),
        program: claimed,
        pid: text(fields.pid).and_then(number).or(claimed_pid).unwrap_or(0),
        message: message(raw),
        cut: goes_on || size.map_or_else(|| cut::by_syslog(tag_length + 1, length), cut::is_a_limit),
        goes_on,
        times: 1,
        sender: Sender {
            uid: text(fields.uid).and_then(number),
            exe: text(fields.exe),
            comm,
            unit: text(fields.unit),
            is_remote: false,
        },
    })
}

/// Where in the record the values stand that an entry is made of.
#[derive(Default)]
struct Fields {
    time: Option<ValueSpan>,
    host: Option<ValueSpan>,
    tag: Option<ValueSpan>,
    program: Option<ValueSpan>,
    pid: Option<ValueSpan>,
    uid: Option<ValueSpan>,
    exe: Option<ValueSpan>,
    comm: Option<ValueSpan>,
    unit: Option<ValueSpan>,
    size: Option<ValueSpan>,
    message: Option<ValueSpan>,
}

/// Where a [`RawValue`] stands.
struct ValueSpan {
    at: Range<usize>,
    escaped: bool,
}

impl Fields {
    /// `None` where the record is not one whole object.
    fn read(record: &[u8]) -> Option<Self> {
        let mut fields = Self::default();
        let (mut rest, _) = terminated(char('{'), space).parse(record).ok()?;
        while let Ok((after, (key, value))) = terminated(member, opt(char(','))).parse(rest) {
            if let (Some(slot), Some(RawValue { text, escaped })) = (fields.slot(key), value) {
                let start = record.offset(text);
                slot.get_or_insert(ValueSpan { at: start..start + text.len(), escaped });
            }
            rest = after;
        }
        all_consuming(terminated(char('}'), space)).parse(rest).ok()?;
        Some(fields)
    }

    fn slot(&mut self, key: &[u8]) -> Option<&mut Option<ValueSpan>> {
        match key {
            b"time" => Some(&mut self.time),
            b"host" => Some(&mut self.host),
            b"tag" => Some(&mut self.tag),
            b"program" => Some(&mut self.program),
            b"pid" => Some(&mut self.pid),
            b"uid" => Some(&mut self.uid),
            b"exe" => Some(&mut self.exe),
            b"comm" => Some(&mut self.comm),
            b"unit" => Some(&mut self.unit),
            b"size" => Some(&mut self.size),
            b"message" => Some(&mut self.message),
            _ => None,
        }
    }

    /// Whether rsyslog made the object, and not a server whose own log is JSON.
    fn are_rsyslogs(&self, record: &[u8]) -> bool {
        let tagged = || Tag::read(record.get(self.tag.as_ref()?.at.clone())?);
        self.message.is_some() && (self.program.is_some() || tagged().is_some())
    }

    fn places(&mut self) -> impl Iterator<Item = &mut ValueSpan> {
        let Self { time, host, tag, program, pid, uid, exe, comm, unit, size, message } = self;
        [time, host, tag, program, pid, uid, exe, comm, unit, size, message].into_iter().flatten()
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
    let mut end = 0;
    let mut escaped = false;
    loop {
        let Some(at) = inside.get(end..).and_then(|rest| memchr2(b'"', b'\\', rest)) else {
            return Err(nom::Err::Error(Error::new(input, ErrorKind::Char)));
        };
        end += at;
        match inside.split_at_checked(end) {
            Some((text, [b'"', rest @ ..])) => return Ok((rest, RawValue { text, escaped })),
            _ => (end, escaped) = (end + 2, true),
        }
    }
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
