//! Instants and spans of time.

use std::fmt;
use std::num::NonZeroU64;
use std::ops::{Add, Sub};

use serde::{Deserialize, Serialize};

/// An instant, in whole microseconds since 1970-01-01 00:00:00 UTC (journald's realtime clock).
///
/// What is kept is counted from the first instant that there is, so that 0 is free for the `None` of an `Option`: a
/// million bans have one each.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "i64", into = "i64")]
pub struct Timestamp(NonZeroU64);

impl Timestamp {
    /// After all others: as the end of what has none.
    pub const MAX: Self = Self::from_micros(i64::MAX);

    /// The instant this many microseconds after the epoch; -2^63 is one more.
    pub const fn from_micros(micros: i64) -> Self {
        match NonZeroU64::new(micros.cast_unsigned() ^ FIRST) {
            Some(after) => Self(after),
            None => Self(NonZeroU64::MIN),
        }
    }

    /// The instant this many whole seconds after the epoch.
    pub const fn from_secs(secs: i64) -> Self {
        Self::from_micros(secs.saturating_mul(1_000_000))
    }

    /// Microseconds since the epoch.
    pub const fn as_micros(self) -> i64 {
        (self.0.get() ^ FIRST).cast_signed()
    }

    /// Whole seconds since the epoch, rounded down.
    pub const fn as_secs(self) -> i64 {
        self.as_micros().div_euclid(1_000_000)
    }

    /// The time from `earlier` to this instant; zero if `earlier` is in fact later.
    pub const fn since(self, earlier: Timestamp) -> Span {
        Span(self.0.get().saturating_sub(earlier.0.get()))
    }
}

/// The instant before all that there are.
const FIRST: u64 = i64::MIN.cast_unsigned();

impl Default for Timestamp {
    fn default() -> Self {
        Self::from_micros(0)
    }
}

impl From<i64> for Timestamp {
    fn from(micros: i64) -> Self {
        Self::from_micros(micros)
    }
}

impl From<Timestamp> for i64 {
    fn from(instant: Timestamp) -> Self {
        instant.as_micros()
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Timestamp").field(&self.as_micros()).finish()
    }
}

impl fmt::Display for Timestamp {
    /// In UTC, as RFC 3339 writes it; at the ends of years -9999 and 9999 for what lies beyond.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.as_micros();
        let beyond = if micros < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
        jiff::Timestamp::from_microsecond(micros).unwrap_or(beyond).fmt(f)
    }
}

impl Add<Span> for Timestamp {
    type Output = Timestamp;
    fn add(self, span: Span) -> Timestamp {
        Self(self.0.saturating_add(span.0))
    }
}

impl Sub<Span> for Timestamp {
    type Output = Timestamp;
    fn sub(self, span: Span) -> Timestamp {
        Self(NonZeroU64::new(self.0.get().saturating_sub(span.0)).unwrap_or(NonZeroU64::MIN))
    }
}

/// A length of time, in whole microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Span(u64);

impl Span {
    /// No time at all.
    pub const ZERO: Span = Span(0);

    /// This many microseconds.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// This many seconds; saturates after some 580,000 years.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000))
    }

    /// Microseconds.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Whole seconds, rounded up, so that what is not yet over never becomes 0.
    pub const fn as_secs_ceil(self) -> u64 {
        self.0.div_ceil(1_000_000)
    }
}

impl fmt::Display for Span {
    /// As an administrator writes it: `7d`, `1h 30m`, in whole seconds, rounded up.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.as_secs_ceil();
        let parts = [(seconds / 86_400, 'd'), (seconds / 3_600 % 24, 'h'), (seconds / 60 % 60, 'm')];
        let parts = parts.into_iter().chain([(seconds % 60, 's')]).filter(|(number, _)| *number > 0);
        let parts: Vec<String> = parts.map(|(number, unit)| format!("{number}{unit}")).collect();
        f.write_str(if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_in_order_from_the_first_to_the_last() {
        let micros = [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX];
        let [first, second, rest @ ..] = micros.map(Timestamp::from_micros);
        assert_eq!((first, second.as_micros()), (second, micros[1]));
        assert!(second < rest[0] && rest.is_sorted());
        assert_eq!(rest.map(Timestamp::as_micros), micros[2..]);
        assert_eq!(Timestamp::default(), rest[1]);
        let all = Span::from_micros(u64::MAX);
        assert_eq!(
            (second - all, second + all, second + Span::from_micros(1 << 63)),
            (first, Timestamp::MAX, rest[2])
        );
        assert_eq!(serde_json::to_string(&rest[0]).unwrap(), "-1");
    }

    #[test]
    fn an_instant_beyond_the_calendar_is_its_end() {
        assert_eq!(Timestamp::MAX.to_string(), "9999-12-30T22:00:00.999999999Z");
        assert_eq!(Timestamp::from_micros(i64::MIN).to_string(), "-009999-01-02T01:59:59Z");
    }
}
