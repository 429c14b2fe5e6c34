//! Reads the time at the start of a log line.
//!
//! Years and zones that a stamp lacks are completed in the same way for syslog and JSON. That is the slow part of
//! reading a header, so it is done once a minute. The caller passes `now`.

use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use memchr::memchr_iter;

use super::scan::{eight, leading_digits, number};
use crate::model::{Span, Timestamp};

/// Reads stamps, with the zone that local ones are in.
#[derive(Clone, Debug)]
pub(super) struct Stamps {
    zone: TimeZone,
    last: Option<Minute>,
    last_iso: Option<IsoMinute>,
}

/// When a minute of the wall clock began.
#[derive(Clone, Copy, Debug)]
struct Minute {
    /// As the stamp writes it, `Nov 22 05:42`.
    text: [u8; 12],
    start: Timestamp,
}

/// The same, of a stamp with a zone, `2026-11-22T05:42:` and `+01:00`.
#[derive(Clone, Copy, Debug)]
struct IsoMinute {
    text: [u8; 17],
    zone: [u8; 6],
    start: Timestamp,
}

const DAY: Span = Span::from_secs(24 * 60 * 60);
/// A date without a year that is no longer ago than this, and not ahead of `now`, has no later one: for those that
/// may be a day ahead, and for summer time, there is room.
pub(super) const NEAR: Span = Span::from_secs(360 * 24 * 60 * 60);

impl Stamps {
    pub(super) fn new(zone: TimeZone) -> Self {
        Self { zone, last: None, last_iso: None }
    }

    /// The time that `Nov 22 05:42:09` says (RFC 3164, 4.1.2) and what follows it; `None` if the text begins
    /// with no such stamp.
    ///
    /// The day may have one digit, the seconds a fraction. A second 60 is the next minute's first.
    pub(super) fn traditional<'a>(
        &mut self,
        text: &'a [u8],
        now: Timestamp,
    ) -> Option<(Timestamp, &'a [u8])> {
        let (minute, rest) = match *text.first_chunk()? {
            [m, o, n, b' ', day, b' ', h, i, b':', j, k, b':'] => {
                ([m, o, n, b' ', b' ', day, b' ', h, i, b':', j, k], text.get(11..)?)
            }
            padded => (padded, text.get(12..)?),
        };
        let [b':', s, t, rest @ ..] = rest else { return None };
        let seconds = digits([*s, *t])?;
        let (micros, rest) = fraction(rest);
        let within = Span::from_micros(u64::from(seconds) * 1_000_000 + micros);

        // The same minute again costs 3 ns, a new one 70.
        let start = match self.last {
            Some(last) if last.text == minute && last.start <= now && now.since(last.start) < NEAR => {
                Some(last.start)
            }
            _ => self.latest(minute, Wall::read(minute)?, now),
        };
        Some((start.filter(|_| seconds <= 60).map_or(now, |start| start + within), rest))
    }

    /// When the minute began that a traditional stamp said last, if it is this one.
    pub(super) fn minute(&self, text: &[u8; 12]) -> Option<Timestamp> {
        self.last.filter(|last| last.text == *text).map(|last| last.start)
    }

    /// When a minute such as `2026-11-22T05:42` began in a zone such as `+01:00`.
    pub(super) fn minute_of_zone(&self, minute: &[u8; 16], zone: &[u8]) -> Option<Timestamp> {
        let mut stamp = [0; 16 + ":00+01:00".len()];
        let stamp = stamp.get_mut(..minute.len() + 3 + zone.len())?;
        let (first, rest) = stamp.split_at_mut_checked(minute.len())?;
        let (seconds, last) = rest.split_at_mut_checked(3)?;
        first.copy_from_slice(minute);
        seconds.copy_from_slice(b":00");
        last.copy_from_slice(zone);
        // An impossible date is `now`, whenever that is.
        let [early, late] =
            [Timestamp::from_secs(0), Timestamp::from_secs(1)].map(|now| self.iso(stamp, now));
        early.filter(|early| Some(*early) == late && early.1.is_empty()).map(|(start, _)| start)
    }

    /// The time that `2026-11-22T05:42:09.579216+00:00` says (RFC 3339) and what follows it; `None` if the
    /// text begins with no such stamp.
    ///
    /// There may be a space or `_` for the `T`, a comma for the point, no colon in the zone, and no zone.
    pub(super) fn iso<'a>(&self, text: &'a [u8], now: Timestamp) -> Option<(Timestamp, &'a [u8])> {
        let (head, rest) = text.split_first_chunk()?;
        let [c, e, y, z, b'-', m, n, b'-', d, f, b'T' | b't' | b' ' | b'_', h, i, b':', j, k, b':', s, t] =
            *head
        else {
            return None;
        };
        let (year, month, day) = (digits([c, e, y, z])?, digits([m, n])?, digits([d, f])?);
        let wall = Wall { month, day, hour: digits([h, i])?, minute: digits([j, k])? };
        let seconds = digits([s, t])?;
        let (micros, rest) = fraction(rest);
        let (offset, rest) = offset(rest);
        let start = wall.in_year(year as i16).and_then(|civil| match offset {
            Some(east) => at(civil, Offset::from_seconds(east).ok()?),
            None => self.instant(civil, now).0,
        });
        let within = Span::from_micros(u64::from(seconds) * 1_000_000 + micros);
        Some((start.filter(|_| seconds <= 60).map_or(now, |start| start + within), rest))
    }

    /// The time as [`iso`](Self::iso) reads it, in a third of the instructions where the last had the same minute and zone.
    pub(super) fn iso_again(&mut self, text: &[u8], now: Timestamp) -> Option<Timestamp> {
        let parts = text.split_first_chunk().and_then(|(minute, rest)| {
            let (zone, seconds) = (*rest.last_chunk()?, rest.first_chunk::<9>()?);
            // Two digits, a point and six digits.
            let micros = eight(rest, 3);
            let [s, t, b'.', ..] = *seconds else { return None };
            let is_usual = rest.len() == 15 && minute.ends_with(b":") && leading_digits(micros) == 6;
            let seconds = digits([s, t]).filter(|seconds| is_usual && *seconds < 60)?;
            let within = u64::from(seconds) * 1_000_000 + u64::from(number(micros, 6));
            Some((*minute, zone, Span::from_micros(within)))
        });
        let Some((minute, zone, within)) = parts else { return self.iso(text, now).map(|(time, _)| time) };
        if let Some(last) = self.last_iso.filter(|last| last.text == minute && last.zone == zone) {
            return Some(last.start + within);
        }
        let start = minute.first_chunk().and_then(|minute| self.minute_of_zone(minute, &zone));
        self.last_iso = start.map(|start| IsoMinute { text: minute, zone, start });
        self.iso(text, now).map(|(time, _)| time)
    }

    /// The time that `2026/11/22 05:42:09` says, in the local zone, and what follows it; `None` if the text begins
    /// with no such stamp.
    pub(super) fn slashed<'a>(&self, text: &'a [u8], now: Timestamp) -> Option<(Timestamp, &'a [u8])> {
        let (head, rest) = text.split_first_chunk()?;
        let [c, e, y, z, b'/', m, n, b'/', d, f, b' ', h, i, b':', j, k, b':', s, t] = *head else {
            return None;
        };
        let (month, day) = (digits([m, n])?, digits([d, f])?);
        let wall = Wall { month, day, hour: digits([h, i])?, minute: digits([j, k])? };
        let (year, seconds) = (digits([c, e, y, z])?, digits([s, t])?);
        let start = wall.in_year(year as i16).and_then(|civil| self.instant(civil, now).0);
        let within = Span::from_secs(u64::from(seconds));
        Some((start.filter(|_| seconds <= 60).map_or(now, |start| start + within), rest))
    }

    /// The time that `@400000004525dc0c2b69b9a4` says (TAI64N, as daemontools write it) and what follows it and a
    /// space; `None` if the text begins with no such stamp.
    pub(super) fn tai64n<'a>(&self, text: &'a [u8]) -> Option<(Timestamp, &'a [u8])> {
        let (stamp, rest) = text.strip_prefix(b"@")?.split_at_checked(24)?;
        let hex =
            stamp.iter().try_fold(0_u128, |n, b| Some(n << 4 | u128::from(char::from(*b).to_digit(16)?)))?;
        let (seconds, nanos) = ((hex >> 32) as i64 & !(1 << 62), hex as u32);
        // Their clocks know of no leap seconds after 1972.
        let start = Timestamp::from_secs(seconds.checked_sub(10)?);
        Some((start + Span::from_micros(u64::from(nanos) / 1000), rest.strip_prefix(b" ")?))
    }

    /// The first time in a message as web servers write it: `[22/Nov/2026:05:40:46 +0000]` in an access log, or
    /// `2026/11/22 05:40:31` at the beginning of nginx's error log. `None` if there is none, or it never was.
    pub(super) fn inside(&self, message: &[u8], now: Timestamp) -> Option<Timestamp> {
        if let Some((time, _)) = self.slashed(message, now) {
            return Some(time);
        }
        let (year, wall, seconds, rest) = memchr_iter(b'[', message).find_map(|at| {
            let (stamp, rest) = message.get(at + 1..)?.split_first_chunk()?;
            let [d, f, b'/', m, o, n, b'/', c, e, y, z, b':', h, i, b':', j, k, b':', s, t, b' '] = *stamp
            else {
                return None;
            };
            let wall = Wall {
                month: month([m, o, n])?,
                day: digits([d, f])?,
                hour: digits([h, i])?,
                minute: digits([j, k])?,
            };
            Some((digits([c, e, y, z])?, wall, digits([s, t])?, rest))
        })?;
        let civil = wall.in_year(year as i16)?;
        let start = match offset(rest).0 {
            Some(east) => at(civil, Offset::from_seconds(east).ok()?),
            None => self.instant(civil, now).0,
        };
        Some(start? + Span::from_secs(u64::from(seconds)))
    }

    /// When the latest minute of this text begins that is at most a day ahead of `now`; `None` if it never does.
    ///
    /// Ahead are hosts in other zones and with other clocks. What is written is never further in the future: it is
    /// of an earlier year.
    fn latest(&mut self, text: [u8; 12], wall: Wall, now: Timestamp) -> Option<Timestamp> {
        let bound = jiff::Timestamp::from_microsecond((now + DAY).as_micros()).ok()?;
        let bound = self.zone.to_datetime(bound);
        // 29 February can be eight years ago, as in 1904. Other days come each year.
        let years = (bound.year() - 8..=bound.year()).rev();
        let civil = years.filter_map(|year| wall.in_year(year)).find(|civil| *civil <= bound)?;
        let (start, certain) = self.instant(civil, now);
        if let (Some(start), true) = (start, certain) {
            self.last = Some(Minute { text, start });
        }
        start
    }

    /// When the clocks of the zone show this, and whether they do so only once.
    ///
    /// Of two times, in the hour that summer time repeats, it is the one nearer to `now`. In the hour that
    /// summer time skips there is none.
    fn instant(&self, civil: DateTime, now: Timestamp) -> (Option<Timestamp>, bool) {
        match self.zone.to_ambiguous_timestamp(civil).offset() {
            AmbiguousOffset::Unambiguous { offset } => (at(civil, offset), true),
            AmbiguousOffset::Gap { .. } => (None, false),
            AmbiguousOffset::Fold { before, after } => {
                let both = [at(civil, before), at(civil, after)].into_iter().flatten();
                (both.min_by_key(|t| apart(*t, now)), false)
            }
        }
    }
}

/// What a clock on the wall shows, below a calendar without years; as written, not as possible.
struct Wall {
    month: u32,
    day: u32,
    hour: u32,
    minute: u32,
}

impl Wall {
    /// Reads `Nov 22 05:42` or `Nov  2 05:42`.
    fn read(text: [u8; 12]) -> Option<Self> {
        let [m, o, n, b' ', tens, ones, b' ', h, i, b':', j, k] = text else { return None };
        let day = digits([if tens == b' ' { b'0' } else { tens }, ones])?;
        Some(Wall { month: month([m, o, n])?, day, hour: digits([h, i])?, minute: digits([j, k])? })
    }

    fn in_year(&self, year: i16) -> Option<DateTime> {
        let Self { month, day, hour, minute } = *self;
        DateTime::new(year, month as i8, day as i8, hour as i8, minute as i8, 0, 0).ok()
    }
}

fn at(civil: DateTime, offset: Offset) -> Option<Timestamp> {
    Some(Timestamp::from_secs(offset.to_timestamp(civil).ok()?.as_second()))
}

fn apart(a: Timestamp, b: Timestamp) -> Span {
    a.since(b).max(b.since(a))
}

/// The number of the month, from 1.
fn month(name: [u8; 3]) -> Option<u32> {
    const NAMES: [&[u8; 3]; 12] =
        [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
    (1..).zip(NAMES).find(|(_, n)| **n == name).map(|(number, _)| number)
}

/// Two or four digits as a number.
pub(super) fn digits<const N: usize>(text: [u8; N]) -> Option<u32> {
    text.iter().try_fold(0, |n, b| b.is_ascii_digit().then(|| n * 10 + u32::from(b - b'0')))
}

/// The microseconds that `.579216` says, and what follows; none where there is no fraction.
pub(super) fn fraction(text: &[u8]) -> (u64, &[u8]) {
    let Some((b'.' | b',', after)) = text.split_first() else { return (0, text) };
    let length = after.iter().take_while(|b| b.is_ascii_digit()).count();
    let (digits, rest) = after.split_at_checked(length).unwrap_or((b"", text));
    let six = digits.iter().map(|b| u64::from(b - b'0')).chain(std::iter::repeat(0)).take(6);
    if digits.is_empty() { (0, text) } else { (six.fold(0, |n, digit| n * 10 + digit), rest) }
}

/// The seconds east of Greenwich that `+01:00`, `+0100` or `Z` says, and what follows.
fn offset(text: &[u8]) -> (Option<i32>, &[u8]) {
    let (sign, [h, i, j, k], rest) = match text {
        [b'Z' | b'z', rest @ ..] => return (Some(0), rest),
        [sign @ (b'+' | b'-'), h, i, b':', j, k, rest @ ..] => (*sign, [h, i, j, k], rest),
        [sign @ (b'+' | b'-'), h, i, j, k, rest @ ..] => (*sign, [h, i, j, k], rest),
        _ => return (None, text),
    };
    let (Some(hours), Some(minutes)) = (digits([*h, *i]), digits([*j, *k])) else { return (None, text) };
    let seconds = (hours * 60 + minutes) as i32 * 60;
    (Some(if sign == b'-' { -seconds } else { seconds }), rest)
}
