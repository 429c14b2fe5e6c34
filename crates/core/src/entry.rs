//! Decodes one record of a log into an [`Entry`].
//!
//! There are three transports: journald's fields, the JSON objects of rsyslog's omprog template, and plain syslog
//! lines. A grammar sees no difference between them. Records are bytes and need not be UTF-8. Every decoder is linear
//! in the record and allocates nothing. The caller passes the time.

pub mod journal;
pub mod records;
pub mod whole;
mod cut;
mod json;
mod likeness;
pub(crate) mod scan;
mod stamp;
mod syslog;

use jiff::tz::TimeZone;

use crate::model::{Entry, Timestamp};
use json::KeyOrder;
use likeness::Likeness;
use stamp::Stamps;

/// How the bytes of one record are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The fields of a journal entry, as [`journal::push`] lays them out.
    Journal,
    /// One line of text: rsyslog's JSON where it begins with `{`, else syslog, else a message alone.
    Line,
}

/// Why no entry came of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// It begins with `{`, but is not a whole JSON object.
    Json,
    /// The lengths of the journal fields contradict the length of the record.
    Journal,
}

impl Malformed {
    /// One word, the same for all records of the kind.
    pub fn reason(self) -> &'static str {
        match self {
            Malformed::Json => "malformed_json",
            Malformed::Journal => "malformed_journal",
        }
    }
}

/// Turns records into entries.
///
/// It remembers the minute and the host of the last line, and the keys of the last object, since the next mostly has the
/// same; what it returns never depends on that. Cloning it is cheap: give each thread its own.
#[derive(Clone, Debug)]
pub struct Decoder<'p> {
    stamps: Stamps,
    likeness: Likeness,
    keys: KeyOrder,
    program: &'p [u8],
    /// Whether a time may be taken from the message.
    believes: bool,
}

impl Decoder<'static> {
    /// A decoder for a host whose clock shows the time of `zone`, as in stamps that name no zone.
    pub fn new(zone: TimeZone) -> Self {
        Decoder {
            stamps: Stamps::new(zone),
            likeness: Likeness::default(),
            keys: KeyOrder::default(),
            program: b"",
            believes: false,
        }
    }
}

impl<'p> Decoder<'p> {
    /// The same decoder, which takes a record that names no program for one of `program`.
    pub fn for_program(self, program: &[u8]) -> Decoder<'_> {
        Decoder { program, ..self }
    }

    /// The same decoder, for which [`time`](Self::time) of a line without a header is what the message says, where a web
    /// server put one. For replays only: what is read live has a time that no message can change.
    pub fn with_times_in_messages(self) -> Self {
        Decoder { believes: true, ..self }
    }

    /// The entry that a record holds; `now` is when it arrived.
    ///
    /// A record without a time, or with an impossible one (30 February, an hour that the change to summer
    /// time skips), has the time `now`. A date without a year is the latest that is at most a day ahead of `now`.
    ///
    /// A line of text is always an entry: where there is no header that [`Format::Line`] knows, the line is
    /// the message. JSON that is not rsyslog's is such a line too, since some servers log in JSON.
    ///
    /// JSON is unescaped where it stands, so the record is not to be read again.
    pub fn decode<'a>(
        &mut self,
        format: Format,
        record: &'a mut [u8],
        now: Timestamp,
    ) -> Result<Entry<'a>, Malformed>
    where
        'p: 'a,
    {
        let mut decoded = match (format, &*record) {
            (Format::Journal, _) => journal::decode(record, self.program).ok_or(Malformed::Journal),
            (Format::Line, [b'{', ..]) => {
                json::decode(record, self.program, &mut self.stamps, &mut self.keys, now)
            }
            (Format::Line, _) => {
                Ok(syslog::decode(record, self.program, &mut self.stamps, &mut self.likeness, now))
            }
        };
        // An entry is large, so it is changed where it is.
        if let Ok(entry) = &mut decoded {
            entry.cut |= cut::is_said(entry.message);
            if let Some(said) = repeated(entry.message) {
                (entry.times, entry.message) = said;
            }
        }
        decoded
    }
}

impl Decoder<'_> {
    /// When an entry was written that [`decode`](Self::decode) made; `now` is what that was told. It is separate since
    /// few entries need it, and looking for a time in a message costs as much as decoding a line.
    pub fn time(&self, entry: &Entry<'_>, now: Timestamp) -> Timestamp {
        let inside = (self.believes && entry.time == now).then(|| self.stamps.inside(entry.message, now));
        inside.flatten().unwrap_or(entry.time)
    }
}

/// How often a message was said and the message itself, where a syslog daemon has counted instead of repeating it:
/// `message repeated 5 times: [ Failed password ...]` (rsyslog's `RepeatedMsgReduction`).
fn repeated(message: &[u8]) -> Option<(u32, &[u8])> {
    let counted = message.strip_prefix(b"message repeated ")?;
    let (times, rest) = counted.split_at_checked(counted.iter().position(|b| *b == b' ')?)?;
    let repeated = rest.strip_prefix(b" times: [")?.trim_ascii_end().strip_suffix(b"]")?;
    Some((number(times).filter(|times| *times > 0)?, self::message(repeated)))
}

/// The message without the spaces between it and the header: one by RFC 3164, more from some programs.
fn message(text: &[u8]) -> &[u8] {
    let spaces = text.iter().take_while(|&&b| b == b' ').count();
    text.get(spaces..).unwrap_or(text)
}

/// The number that the text is; `None` where it is not all digits or over 32 bits.
fn number(text: &[u8]) -> Option<u32> {
    let (mut number, mut is_small) = (0_u32, !text.is_empty());
    for byte in text {
        let digit = u32::from(byte.wrapping_sub(b'0'));
        let all = u64::from(number) * 10 + u64::from(digit);
        is_small &= digit < 10 && all <= u64::from(u32::MAX);
        number = all as u32;
    }
    is_small.then_some(number)
}

/// The program that a tag names: its last part where it is a path from the root, else all of it.
///
/// `postfix/smtpd` stays whole, as journald and grammars call it (rsyslog's `programname` is `postfix`).
fn program(tag: &[u8]) -> &[u8] {
    match tag {
        [b'/', ..] => tag.rsplit(|&b| b == b'/').next().unwrap_or(tag),
        _ => tag,
    }
}

#[cfg(test)]
mod tests;
