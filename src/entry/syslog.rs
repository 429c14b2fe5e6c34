//! Lines of plain syslog: RFC 3164, RFC 5424, and what rsyslog and others write to files.
//!
//! A line that came with a header that is not recognised would have no program and meet no grammar. So this
//! reads all forms that are in use, and is strict only where a message without a header could be mistaken
//! for one with it: the less there is of a stamp, the more the tag must show.
//!
//! Nothing here looks for a header further on in a line, where a stranger could have written it.

use memchr::memchr;
use nom::branch::alt;
use nom::bytes::complete::{is_not, tag, take, take_while_m_n};
use nom::character::complete::char;
use nom::combinator::opt;
use nom::multi::{many0_count, many1_count};
use nom::sequence::{delimited, preceded};
use nom::{IResult, Parser};

use super::stamp::Stamps;
use super::{message, number, program};
use crate::model::{Entry, Timestamp, Witness};

/// The entry of a line. Without a header that is known the line is the message, and the program `unnamed`.
pub(super) fn decode<'a>(
    record: &'a [u8],
    unnamed: &'a [u8],
    stamps: &mut Stamps,
    now: Timestamp,
) -> Entry<'a> {
    let bare = bare(record, unnamed, now);
    let (text, priority) = opt(priority).parse(bare.message).unwrap_or((bare.message, None));
    let found = match text {
        [b'1', b' ', text @ ..] if priority.is_some() => structured(text, stamps, now),
        [b'A'..=b'Z', ..] => traditional(text, stamps, now),
        [b'0'..=b'9', ..] => file(text, stamps, now),
        _ => None,
    };
    let Some(header) = found.or_else(|| stampless(text, now)) else { return bare };
    let claimed = if header.tag.program.is_empty() { unnamed } else { header.tag.program };
    Entry {
        time: header.time,
        program: program(claimed),
        pid: header.tag.pid.unwrap_or(0),
        message: message(header.message),
        ..bare
    }
}

/// The entry of a line that is a message alone.
pub(super) fn bare<'a>(line: &'a [u8], unnamed: &'a [u8], now: Timestamp) -> Entry<'a> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let message = line.strip_suffix(b"\r").unwrap_or(line);
    Entry { time: now, program: unnamed, pid: 0, message, times: 1, witness: Witness::default() }
}

/// What stands before a message, and the message.
struct Header<'a> {
    time: Timestamp,
    tag: Tag<'a>,
    message: &'a [u8],
}

/// What a program calls itself.
pub(super) struct Tag<'a> {
    pub(super) program: &'a [u8],
    pub(super) pid: Option<u32>,
}

impl<'a> Tag<'a> {
    /// The tag that a word is: `sshd[208]:`, `sshd:` or `sshd[208]`.
    pub(super) fn read(word: &'a [u8]) -> Option<Self> {
        let (name, colon) = word.strip_suffix(b":").map_or((word, false), |name| (name, true));
        let (program, pid) = match name.strip_suffix(b"]") {
            None => (name, None),
            Some(name) => {
                let (program, pid) = name.split_at_checked(name.iter().rposition(|&b| b == b'[')?)?;
                (program, number(pid.get(1..)?))
            }
        };
        program.first().filter(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'/' | b'(' | b'.'))?;
        (colon || pid.is_some()).then_some(Tag { program, pid })
    }
}

/// `Nov 22 05:42:09 web01 sshd[208]: ...` (RFC 3164, 4.1), also without host, as on /dev/log.
fn traditional<'a>(text: &'a [u8], stamps: &mut Stamps, now: Timestamp) -> Option<Header<'a>> {
    let (time, text) = stamps.traditional(text, now)?;
    let text = text.strip_prefix(b" ")?;
    // Where FreeBSD's `syslogd -v` writes the priority.
    let text = if text.starts_with(b"<") { word(text).1 } else { text };
    let (tag, message) = host_and_tag(text)?;
    Some(Header { time, tag, message })
}

/// `2026-11-22T05:42:09.579216+00:00 web01 sshd[208]: ...` (rsyslog's file format), also without host.
///
/// Many programs begin lines of their own with a date, a space and a time; then the tag must have a pid.
fn file<'a>(text: &'a [u8], stamps: &mut Stamps, now: Timestamp) -> Option<Header<'a>> {
    let own = text.get(10) == Some(&b' ');
    let (time, text) = stamps.iso(text, now)?;
    let (tag, message) = host_and_tag(text.strip_prefix(b" ")?)?;
    if tag.pid.is_none() && is_priority(tag.program) {
        // socklog writes the priority, and then what the program sent.
        let sent = traditional(message, stamps, now).or_else(|| stampless(message, time))?;
        return Some(Header { time, ..sent });
    }
    (tag.pid.is_some() || !own).then_some(Header { time, tag, message })
}

/// `web01 sshd[208]: ...`, as fail2ban prints journal entries, or `sshd[208]: ...`; the pid is a must.
fn stampless(text: &[u8], now: Timestamp) -> Option<Header<'_>> {
    let (tag, message) = host_and_tag(text)?;
    tag.pid.is_some().then_some(Header { time: now, tag, message })
}

/// `TIMESTAMP HOST APP PROCID MSGID SD MESSAGE` (RFC 5424, 6), after the version; `-` stands for nothing.
fn structured<'a>(text: &'a [u8], stamps: &mut Stamps, now: Timestamp) -> Option<Header<'a>> {
    let (time, text) = match text {
        [b'-', text @ ..] => (now, text),
        _ => stamps.iso(text, now)?,
    };
    // Words by memchr: such a line costs 57 ns, with nom's `is_not` 84.
    let (_host, text) = word(text.strip_prefix(b" ")?);
    let (app, text) = word(text);
    let (process, text) = word(text);
    let (_id, text) = word(text);
    let (text, _) = structured_data(text).ok()?;
    let text = text.strip_prefix(b" ").unwrap_or(text);
    let message = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let program = if app == b"-" { b"" } else { app };
    Some(Header { time, tag: Tag { program, pid: number(process) }, message })
}

/// `-`, or one or more of `[id name="value" ...]`, where `"`, `\` and `]` in a value have a `\` before them.
fn structured_data(input: &[u8]) -> IResult<&[u8], ()> {
    let escaped = || preceded(char('\\'), take(1usize));
    let value = delimited(char('"'), many0_count(alt((is_not("\"\\"), escaped()))), char('"'));
    let inside = many0_count(alt((is_not("\"]").map(|_| ()), value.map(|_| ()))));
    let element = delimited(char('['), inside, char(']'));
    alt((tag("-").map(|_| ()), many1_count(element).map(|_| ()))).parse(input)
}

/// `<13>`, facility and severity.
fn priority(input: &[u8]) -> IResult<&[u8], &[u8]> {
    delimited(char('<'), take_while_m_n(1, 3, |b: u8| b.is_ascii_digit()), char('>')).parse(input)
}

/// The tag, after a host or at once, and what follows it.
fn host_and_tag(text: &[u8]) -> Option<(Tag<'_>, &[u8])> {
    let (first, rest) = word(text);
    if let Some(tag) = Tag::read(first) {
        return Some((tag, rest));
    }
    first.first().filter(|b| b.is_ascii_alphanumeric() || matches!(b, b':' | b'-' | b'_'))?;
    let (second, rest) = word(rest);
    match Tag::read(second) {
        Some(tag) => Some((tag, rest)),
        // BusyBox writes the priority here.
        None if is_priority(second) => {
            let (third, rest) = word(rest);
            Some((Tag::read(third)?, rest))
        }
        None => None,
    }
}

/// Whether a word is a priority in words, as `auth.info`.
fn is_priority(word: &[u8]) -> bool {
    let facility = word.split(|&b| b == b'.').next().unwrap_or(word);
    let known = matches!(
        facility,
        b"auth" | b"authpriv" | b"daemon" | b"ftp" | b"user" | [b'l', b'o', b'c', b'a', b'l', b'0'..=b'7']
    );
    known && facility.len() < word.len()
}

/// What stands before and after the first space.
fn word(text: &[u8]) -> (&[u8], &[u8]) {
    let end = memchr(b' ', text).unwrap_or(text.len());
    let (word, rest) = text.split_at_checked(end).unwrap_or((text, b""));
    (word, rest.strip_prefix(b" ").unwrap_or(rest))
}
