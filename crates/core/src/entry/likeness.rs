//! Recognises a header that is like one before it: the same minute, zone and host, with other seconds, program and process
//! id. That costs a third of reading it. What it recognises is what [`syslog`](super::syslog) would read; anything else
//! that reads.

use super::scan::{eight, leading_digits, number, until};
use super::stamp::{NEAR, Stamps, digits, fraction};
use super::syslog::{SyslogHeader, Tag};
use crate::model::{Span, Timestamp};

/// The longest header that is remembered: a stamp, a zone, and a host by its full name.
const LONGEST: usize = 128;
/// Of so many headers that are not recognised one is remembered: where lines of several hosts alternate, that would cost
/// more than it saves.
const LEARNT: u8 = 8;

/// What a header has in common with those before it.
#[derive(Clone, Debug)]
pub(super) struct Likeness {
    /// `Nov 22 05:42` or `2026-11-22T05:42`, then the zone, a space, the host and a space.
    text: [u8; LONGEST],
    /// Where the minute ends.
    minute: usize,
    /// Where the zone ends.
    zone: usize,
    /// Where all ends; 0 if nothing is remembered.
    end: usize,
    /// How long the fraction of a second is, with its point.
    fraction: usize,
    start: Timestamp,
    /// Headers that were not recognised since one was remembered.
    missed: u8,
}

impl Default for Likeness {
    fn default() -> Self {
        let (text, start, missed) = ([0; LONGEST], Timestamp::default(), LEARNT);
        Self { text, minute: 0, zone: 0, end: 0, fraction: 0, start, missed }
    }
}

impl Likeness {
    /// The header of a line, if it is like the last one.
    pub(super) fn read<'a>(&self, line: &'a [u8], now: Timestamp) -> Option<SyslogHeader<'a>> {
        let is_brief = self.minute == BRIEF;
        // Both are longer than eight bytes, and shorter than sixteen and one.
        let is_same = |at: usize| eight(line, at) == eight(&self.text, at);
        (self.end > 0 && is_same(0) && is_same(self.minute - 8)).then_some(())?;
        let (within, host, text) = self.after_minute(line.get(self.minute..)?)?;
        // Whether a date without a year is this year's depends on when it is read.
        let is_dated = !is_brief || self.start <= now && now.since(self.start) < NEAR;
        // Behind another stamp a name alone may be a priority, or part of a message.
        let (tag, message) = tag(text).filter(|(tag, _)| is_dated && (is_brief || tag.pid.is_some()))?;
        Some(SyslogHeader { time: self.start + within, host, tag, message })
    }

    /// The time since the minute began, the host, and what follows it, if the same stands between them as before.
    fn after_minute<'a>(&self, rest: &'a [u8]) -> Option<(Span, &'a [u8], &'a [u8])> {
        let [b':', s, t, rest @ ..] = rest else { return None };
        let seconds = digits([*s, *t]).filter(|seconds| *seconds < 60)?;
        let (micros, after) = match rest {
            [b'.', ..] if self.fraction > 0 => fraction(rest),
            _ => (0, rest),
        };
        let tail = self.text.get(self.minute..self.end)?;
        let text = after.strip_prefix(tail).filter(|_| rest.len() - after.len() == self.fraction)?;
        let host = after.get(self.zone - self.minute + 1..tail.len().saturating_sub(1)).unwrap_or_default();
        Some((Span::from_micros(u64::from(seconds) * 1_000_000 + micros), host, text))
    }

    /// Remembers the header that [`syslog`](super::syslog) has read in a line, if it is of a form that comes again.
    pub(super) fn learn(&mut self, line: &[u8], header: &SyslogHeader<'_>, stamps: &Stamps) {
        self.missed = self.missed.saturating_add(1);
        let is_next_minute = || line.get(self.minute..).is_some_and(|rest| self.after_minute(rest).is_some());
        if (self.missed > LEARNT || is_next_minute())
            && header.tag.pid.is_some()
            && let Some(learnt) = Self::of(line, header, stamps)
        {
            *self = learnt;
        }
    }

    fn of(line: &[u8], header: &SyslogHeader<'_>, stamps: &Stamps) -> Option<Self> {
        let minute = if line.first()?.is_ascii_alphabetic() { BRIEF } else { LONG };
        let rest = line.get(minute..)?.strip_prefix(b":")?.get(2..)?;
        let (_, after) = fraction(rest);
        // Before the header's own words stands the stamp, and a space between any two.
        let words = if header.host.is_empty() { 1 } else { header.host.len() + 2 };
        let tail = after.len().checked_sub(header.tag.length() + header.message.len())?;
        let (tail, text) = after.split_at_checked(tail)?;
        let zone = tail.len().checked_sub(words)?;
        let start = match minute {
            BRIEF if zone == 0 => stamps.minute(line.first_chunk()?)?,
            LONG if zone > 0 => stamps.minute_of_zone(line.first_chunk()?, tail.get(..zone)?)?,
            _ => return None,
        };
        let mut learnt =
            Self { start, minute, missed: 0, fraction: rest.len() - after.len(), ..Self::default() };
        (learnt.zone, learnt.end) = (minute + zone, minute + tail.len());
        let (first, second) = learnt.text.get_mut(..learnt.end)?.split_at_mut_checked(minute)?;
        first.copy_from_slice(line.get(..minute)?);
        second.copy_from_slice(tail);
        // The form is one that can be recognised where it gives this very header.
        let again = learnt.read(line, header.time)?;
        let is_same = (again.time, again.host, again.message) == (header.time, header.host, header.message);
        (is_same && tag(text)?.0 == header.tag).then_some(learnt)
    }
}

/// How long `Nov 22 05:42` is, and `2026-11-22T05:42`.
const BRIEF: usize = 12;
const LONG: usize = 16;

/// `sshd[208]: ` or `sudo: `, and what follows it.
fn tag(text: &[u8]) -> Option<(Tag<'_>, &[u8])> {
    let end = until(text, 0, [b'[', b']', b':', b' ']);
    let (program, rest) = text.split_at_checked(end)?;
    Tag::begins(program).then_some(())?;
    if let [b':', b' ', message @ ..] = rest {
        return Some((Tag { program, pid: None }, message));
    }
    let rest = rest.strip_prefix(b"[")?;
    let bytes = eight(rest, 0);
    // More could be more than 32 bits.
    let (length, pid) = match (leading_digits(bytes), rest.get(8)) {
        (0, _) => return None,
        (8, Some(ninth @ b'0'..=b'9')) => (9, number(bytes, 8) * 10 + u32::from(ninth - b'0')),
        (length, _) => (length, number(bytes, length)),
    };
    let message = rest.get(length..)?.strip_prefix(b"]: ")?;
    Some((Tag { program, pid: Some(pid) }, message))
}
