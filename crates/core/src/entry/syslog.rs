//! Lines of plain syslog: RFC 3164, RFC 5424, and the forms that rsyslog and others write to files.
//!
//! A line with an unknown header would have no program and match no grammar. So this reads all forms in use. It is
//! strict only if a message without a header could be mistaken for one with a header: the less of a stamp there is, the
//! more the tag must show. It never searches for a header further on in a line, where a stranger could have written it.

use nom::branch::alt;
use nom::bytes::complete::{is_a, is_not, tag, take, take_while_m_n};
use nom::character::complete::{alpha1, char, digit1, space0};
use nom::combinator::opt;
use nom::multi::{many0_count, many1_count};
use nom::sequence::{delimited, preceded};
use nom::{IResult, Parser};

use super::likeness::Likeness;
use super::scan::until;
use super::stamp::Stamps;
use super::{cut, message, number, program};
use crate::model::{Entry, Sender, Timestamp};

/// The entry of a line. Without a header that is known the line is the message, and the program `unnamed`.
pub(super) fn decode<'a>(
    record: &'a [u8],
    unnamed: &'a [u8],
    stamps: &mut Stamps,
    likeness: &mut Likeness,
    now: Timestamp,
) -> Entry<'a> {
    let bare = bare(record, unnamed, now);
    let known = likeness.read(bare.message, now);
    let read = || {
        let header = header(bare.message, unnamed, stamps, now)?;
        likeness.learn(bare.message, &header, stamps);
        Some(header)
    };
    let Some(header) = known.or_else(read) else { return bare };
    let claimed = if header.tag.program.is_empty() { unnamed } else { header.tag.program };
    let (long, length) = (record.len() >= cut::SHORTEST, header.message.len());
    let goes_on = long && cut::goes_on(length, cut::sender(claimed, header.tag.pid));
    Entry {
        time: header.time,
        host: header.host,
        program: program(claimed),
        pid: header.tag.pid.unwrap_or(0),
        message: said(message(header.message)),
        cut: goes_on || long && cut::by_syslog(header.tag.length(), length),
        goes_on,
        ..bare
    }
}

/// The header of a line, if it has one that is known.
fn header<'a>(
    line: &'a [u8],
    unnamed: &[u8],
    stamps: &mut Stamps,
    now: Timestamp,
) -> Option<SyslogHeader<'a>> {
    let (text, priority) = opt(priority).parse(line).unwrap_or((line, None));
    let found = match text {
        [b'1', b' ', text @ ..] if priority.is_some() => structured(text, stamps, now),
        [b'A'..=b'Z', ..] => traditional(text, stamps, now),
        [b'0'..=b'9', ..] => file(text, stamps, now).or_else(|| metalogs(text, unnamed, stamps, now)),
        [b'@', ..] => stamps.tai64n(text).and_then(|(time, text)| supervised(text, time, stamps, now)),
        _ => None,
    };
    found.or_else(|| stampless(text, now))
}

/// The entry of a line that is a message alone.
pub(super) fn bare<'a>(line: &'a [u8], unnamed: &'a [u8], now: Timestamp) -> Entry<'a> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    // Some editors and programs begin a file with this mark of UTF-8.
    let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
    let message = line.strip_suffix(b"\r").unwrap_or(line);
    Entry {
        time: now,
        host: b"",
        program: unnamed,
        pid: 0,
        message,
        cut: false,
        goes_on: false,
        times: 1,
        sender: Sender::default(),
    }
}

/// What stands before a message, and the message.
pub(super) struct SyslogHeader<'a> {
    pub(super) time: Timestamp,
    /// Empty where it is not said.
    pub(super) host: &'a [u8],
    pub(super) tag: Tag<'a>,
    pub(super) message: &'a [u8],
}

/// What a program calls itself.
#[derive(PartialEq)]
pub(super) struct Tag<'a> {
    pub(super) program: &'a [u8],
    pub(super) pid: Option<u32>,
}

impl<'a> Tag<'a> {
    /// How long it was, up to the message.
    pub(super) fn length(&self) -> usize {
        let pid = self.pid.map_or(0, |pid| pid.checked_ilog10().unwrap_or(0) as usize + 3);
        self.program.len() + pid + ": ".len()
    }

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
        (Self::begins(program) && (colon || pid.is_some())).then_some(Tag { program, pid })
    }

    /// Whether a program's name can begin like this.
    pub(super) fn begins(program: &[u8]) -> bool {
        program.first().is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'/' | b'(' | b'.'))
    }
}

/// `Nov 22 05:42:09 web01 sshd[208]: ...` (RFC 3164, 4.1), also without host, as on /dev/log; or metalog's
/// `Nov 22 05:42:09 [sshd] ...`.
fn traditional<'a>(text: &'a [u8], stamps: &mut Stamps, now: Timestamp) -> Option<SyslogHeader<'a>> {
    let (time, text) = stamps.traditional(text, now)?;
    let text = text.strip_prefix(b" ")?;
    // Where FreeBSD's `syslogd -v` writes the priority.
    let text = if text.starts_with(b"<") { word(text).1 } else { text };
    let (host, tag, message) = host_and_tag(text).or_else(|| bracketed(text))?;
    Some(SyslogHeader { time, host, tag, message })
}

/// `2026-11-22T05:42:09.579216+00:00 web01 sshd[208]: ...` (rsyslog's file format), also without host, or with the
/// fields of RFC 5424 behind such a stamp.
///
/// Many programs begin lines of their own with a date, a space and a time; then the tag must have a pid.
fn file<'a>(text: &'a [u8], stamps: &mut Stamps, now: Timestamp) -> Option<SyslogHeader<'a>> {
    let own = text.get(10) == Some(&b' ');
    let (time, rest) = stamps.iso(text, now)?;
    let stamp = text.get(..text.len() - rest.len())?;
    let text = rest.strip_prefix(b" ")?;
    if is_supervisors(stamp) {
        return supervised(text, time, stamps, now);
    }
    match host_and_tag(text) {
        Some((_, tag, _)) if tag.pid.is_none() && is_priority(tag.program) => {
            Some(SyslogHeader { time, ..socklogs(text, time, stamps, now)? })
        }
        Some((host, tag, message)) => {
            (tag.pid.is_some() || !own).then_some(SyslogHeader { time, host, tag, message })
        }
        None if own => None,
        None => described(text, time).filter(|header| header.tag.pid.is_some()),
    }
}

/// Whether a supervisor's logger stamped so what some program printed: `2026-11-22 05:42:09.579216123` (tai64nlocal),
/// `2026-11-22_05:42:09.57921` or `2026-11-22T05:42:09.57921` (svlogd).
fn is_supervisors(stamp: &[u8]) -> bool {
    let [_, _, _, _, _, _, _, _, _, _, between, .., last] = stamp else { return false };
    let digits = stamp.len().saturating_sub(20);
    last.is_ascii_digit()
        && stamp.get(19) == Some(&b'.')
        && matches!((between, digits), (b' ', 9) | (b'_' | b'T', 5))
}

/// What stands behind a supervisor's stamp: a line of syslog, or what a program printed, which has no header.
fn supervised<'a>(
    text: &'a [u8],
    time: Timestamp,
    stamps: &mut Stamps,
    now: Timestamp,
) -> Option<SyslogHeader<'a>> {
    let printed = SyslogHeader { time, host: b"", tag: Tag { program: b"", pid: None }, message: text };
    let sent = socklogs(text, time, stamps, now).or_else(|| stampless(text, time));
    Some(sent.map_or(printed, |sent| SyslogHeader { time, ..sent }))
}

/// `auth.info: Nov 22 05:42:09 sshd[208]: ...`: socklog writes the priority, and then what the program sent.
fn socklogs<'a>(
    text: &'a [u8],
    time: Timestamp,
    stamps: &mut Stamps,
    now: Timestamp,
) -> Option<SyslogHeader<'a>> {
    let (first, sent) = word(text);
    first.strip_suffix(b":").filter(|priority| is_priority(priority))?;
    traditional(sent, stamps, now).or_else(|| stampless(sent, time))
}

/// `2026/11/22 05:42:09 [sshd] ...` or `1795326130 [sshd] ...`, as metalog can be told to write.
///
/// Other programs begin lines of their own like that (nginx with `2026/11/22 05:42:09 [error]`), so where a program
/// is expected, it must be the one that stands there.
fn metalogs<'a>(
    text: &'a [u8],
    unnamed: &[u8],
    stamps: &mut Stamps,
    now: Timestamp,
) -> Option<SyslogHeader<'a>> {
    let (time, text) = stamps.slashed(text, now).or_else(|| {
        let (seconds, rest) = text.split_at_checked(10)?;
        Some((Timestamp::from_secs(number(seconds)?.into()), rest))
    })?;
    let (host, tag, message) = bracketed(text.strip_prefix(b" ")?)?;
    (unnamed.is_empty() || unnamed == tag.program).then_some(SyslogHeader { time, host, tag, message })
}

/// No host, the tag `[sshd]`, perhaps with a colon, and what follows it.
fn bracketed(text: &[u8]) -> Option<(&[u8], Tag<'_>, &[u8])> {
    let (first, message) = word(text);
    let program = first.strip_suffix(b":").unwrap_or(first).strip_prefix(b"[")?.strip_suffix(b"]")?;
    program.first().filter(|b| b.is_ascii_alphabetic())?;
    Some((b"", Tag { program, pid: None }, message))
}

/// `web01 sshd[208]: ...`, as fail2ban prints journal entries, or `sshd[208]: ...`; the pid is a must.
fn stampless(text: &[u8], now: Timestamp) -> Option<SyslogHeader<'_>> {
    let (host, tag, message) = host_and_tag(text)?;
    tag.pid.is_some().then_some(SyslogHeader { time: now, host, tag, message })
}

/// `TIMESTAMP HOST APP PROCID MSGID SD MESSAGE` (RFC 5424, 6), after the version; `-` stands for nothing.
fn structured<'a>(text: &'a [u8], stamps: &mut Stamps, now: Timestamp) -> Option<SyslogHeader<'a>> {
    let (time, text) = match text {
        [b'-', text @ ..] => (now, text),
        _ => stamps.iso(text, now)?,
    };
    described(text.strip_prefix(b" ")?, time)
}

/// What follows the timestamp in RFC 5424, from the host on.
fn described(text: &[u8], time: Timestamp) -> Option<SyslogHeader<'_>> {
    let (host, text) = word(text);
    let (app, text) = word(text);
    let (process, text) = word(text);
    let (_id, text) = word(text);
    let (text, _) = structured_data(text).ok().filter(|(text, _)| matches!(text, [] | [b' ', ..]))?;
    let text = text.strip_prefix(b" ").unwrap_or(text);
    let message = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let known = |word| if word == b"-" { &b""[..] } else { word };
    let tag = Tag { program: known(app), pid: number(process) };
    Some(SyslogHeader { time, host: known(host), tag, message })
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

/// The host, empty where there is none, the tag, and what follows it.
fn host_and_tag(text: &[u8]) -> Option<(&[u8], Tag<'_>, &[u8])> {
    let (first, rest) = word(text);
    if let Some(tag) = Tag::read(first) {
        return Some((b"", tag, rest));
    }
    first.first().filter(|b| b.is_ascii_alphanumeric() || matches!(b, b':' | b'-' | b'_'))?;
    let (second, rest) = word(rest);
    match Tag::read(second) {
        Some(tag) => Some((first, tag, rest)),
        // BusyBox writes the priority here.
        None if is_priority(second) => {
            let (third, rest) = word(rest);
            Some((first, Tag::read(third)?, rest))
        }
        None => None,
    }
}

/// Whether a word is a priority in words, as `auth.info`, or `auth|security:info` (AIX).
fn is_priority(word: &[u8]) -> bool {
    // Most words are not.
    if !matches!(word.first(), Some(b'a' | b'd' | b'f' | b'l' | b'u')) {
        return false;
    }
    let facility = word.split(|b| matches!(b, b'.' | b':' | b'|')).next().unwrap_or(word);
    let known = matches!(
        facility,
        b"auth" | b"authpriv" | b"daemon" | b"ftp" | b"user" | [b'l', b'o', b'c', b'a', b'l', b'0'..=b'7']
    );
    known && facility.len() < word.len()
}

/// The message without what Solaris, macOS or a kernel's log put before it.
///
/// Where a name begins a message (vsftpd's `[name]`), one that looks like this is cut off, and that attempt is not
/// read. No account has such a name.
fn said(message: &[u8]) -> &[u8] {
    match message {
        [b'[' | b'<' | b'k', ..] => foreword(message).map_or(message, |(said, ())| said),
        _ => message,
    }
}

/// `[ID 800047 auth.info] `, `<Notice>: ` or `kernel: [  970.699396] `.
fn foreword(input: &[u8]) -> IResult<&[u8], ()> {
    let id = (tag("[ID "), digit1, char(' '), is_not("] "), tag("] ")).map(|_| ());
    let level = (char('<'), alpha1, tag(">: ")).map(|_| ());
    let uptime = (char('['), space0, is_a("0123456789."), char(']'), opt(char(':')), char(' '));
    let kernel = (tag("kernel:"), opt(char(' ')), uptime).map(|_| ());
    alt((id, level, kernel)).parse(input)
}

/// What stands before and after the first space.
fn word(text: &[u8]) -> (&[u8], &[u8]) {
    let end = until(text, 0, [b' ']);
    let (word, rest) = text.split_at_checked(end).unwrap_or((text, b""));
    (word, rest.strip_prefix(b" ").unwrap_or(rest))
}
