//! How long a ban lasts: longer each time, and as before again after a quiet time.
//!
//! The n-th ban lasts `ban_time * factor^(n-1)`, at most `cap`. Each `decay` of quiet since the last ban ended
//! makes one earlier ban forgotten. Jitter lengthens a ban by up to that fraction of it, so that nobody can
//! lie in wait for its end.
//!
//! It rolls no dice: the caller passes the roll.

use crate::model::{Span, Timestamp};

use super::Growth;

/// What is remembered of an offender's bans in one jail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Past {
    /// How many.
    pub(super) bans: u32,
    /// When the last one ended or will end.
    pub(super) ended: Timestamp,
}

impl Past {
    /// How many earlier bans still count at `now`.
    pub(super) fn remembered(self, growth: &Growth, now: Timestamp) -> u32 {
        let quiet =
            now.since(self.ended).as_micros().checked_div(growth.decay.as_micros()).unwrap_or(u64::MAX);
        self.bans.saturating_sub(u32::try_from(quiet).unwrap_or(u32::MAX))
    }
}

/// How long the n-th ban lasts (n from 1); `roll` is from 0 to 1.
pub(super) fn length(ban_time: Span, growth: &Growth, n: u32, roll: f64) -> Span {
    let base = ban_time.as_micros() as f64;
    // The cap bounds growth, not a ban time that is longer from the start.
    let cap = base.max(growth.cap.as_micros() as f64);
    let grown = (base * growth.factor.powf(f64::from(n.saturating_sub(1)))).min(cap);
    // A float becomes the nearest whole number that there is, so this cannot overflow.
    Span::from_micros((grown * (1.0 + growth.jitter * roll)) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROWTH: Growth =
        Growth { factor: 2.0, cap: Span::from_secs(500), decay: Span::from_secs(1000), jitter: 0.5 };

    #[track_caller]
    fn check(n: u32, roll: f64, want: u64) {
        assert_eq!(length(Span::from_secs(100), &GROWTH, n, roll), Span::from_secs(want));
    }

    #[test]
    fn doubles_up_to_the_cap() {
        check(1, 0.0, 100);
        check(2, 0.0, 200);
        check(3, 0.0, 400);
        check(4, 0.0, 500);
        check(u32::MAX, 0.0, 500);
        check(2, 0.5, 250);
    }

    #[test]
    fn quiet_time_brings_it_down() {
        let past = Past { bans: 3, ended: Timestamp::from_secs(10_000) };
        for (now, want) in [(9_000, 3), (10_999, 3), (11_000, 2), (12_500, 1), (99_999, 0)] {
            assert_eq!(past.remembered(&GROWTH, Timestamp::from_secs(now)), want);
        }
    }
}
