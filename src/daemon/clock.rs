//! Detects steps of the clock. The caller passes the clock and the time that really passed.

use std::time::Instant;

use crate::model::{Span, Timestamp};

/// From which difference on the clock has stepped. What is less adds up.
const STEP: Span = Span::from_secs(5);

/// What the clock has done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ClockStep {
    Forward(Span),
    Back(Span),
}

/// The clock, and the time by which it is measured.
#[derive(Debug)]
pub(super) struct ClockWatch {
    clock: Timestamp,
    at: Instant,
}

impl ClockWatch {
    /// Begins with a clock that says `clock` at that instant.
    pub(super) fn new(clock: Timestamp, at: Instant) -> Self {
        Self { clock, at }
    }

    /// What the clock has done, which says `clock` at that instant, since it was last looked at; `None` where it went on
    /// as time did. While it is less than a step behind it stays so: steps back do not escape by being small.
    pub(super) fn look(&mut self, clock: Timestamp, at: Instant) -> Option<ClockStep> {
        let passed = at.saturating_duration_since(self.at).as_micros();
        let expected = self.clock + Span::from_micros(passed.try_into().unwrap_or(u64::MAX));
        let (on, back) = (clock.since(expected), expected.since(clock));
        if Span::ZERO < back && back < STEP {
            return None;
        }
        *self = Self { clock, at };
        match (on >= STEP, back >= STEP) {
            (true, _) => Some(ClockStep::Forward(on)),
            (_, true) => Some(ClockStep::Back(back)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::detect::{Detector, Growth, Settings, manual};
    use crate::grammar::Grammars;
    use crate::model::{Mode, Widths};

    fn detector() -> Detector {
        let growth = Growth { factor: 1.0, cap: Span::ZERO, decay: Span::from_secs(3600), jitter: 0.0 };
        let settings = Settings {
            mode: Mode::Enforce,
            jails: Vec::new(),
            ignore: Vec::new(),
            protect_logins: Span::from_secs(100),
            widths: Widths { v4: 32, v6: 64 },
            nat64: Vec::new(),
            max_offenders: NonZeroUsize::new(100).unwrap(),
            growth,
            widen: None,
        };
        Detector::new(settings, &Grammars::default())
    }

    proptest! {
        /// Each second the clock may step by so much, and a ban is laid. Without the shift this fails at the first step
        /// back behind a ban.
        #[test]
        fn no_ban_lasts_longer_than_its_length(
            steps in proptest::collection::vec(prop_oneof![3 => Just(0_i64), 1 => -9..9_i64, 1 => -99_999..99_999_i64], 1..80),
            length in 1..40_u64,
        ) {
            let (mut detector, began) = (detector(), Instant::now());
            let mut clock = Timestamp::from_secs(1_000_000_000);
            let mut watched = ClockWatch::new(clock, began);
            let mut ends = Vec::new();
            for (second, step) in (0..).zip(&steps) {
                clock = Timestamp::from_secs(clock.as_secs() + 1 + step);
                let passed = second + 1;
                if let Some(ClockStep::Back(by)) = watched.look(clock, began + Duration::from_secs(passed)) {
                    detector.shift_back(by);
                }
                detector.expire(clock);
                let slack = STEP.as_secs_ceil();
                for ban in detector.bans() {
                    let who: std::net::IpAddr = ban.offender.address();
                    let (_, end) = ends.iter().find(|(known, _)| *known == who).copied().unwrap();
                    prop_assert!(passed <= end + slack, "{} was to end at {}, and is there at {}", who, end, passed);
                    // What the kernel is told.
                    let left = ban.until.unwrap().since(clock);
                    prop_assert!(left <= Span::from_secs(length + slack));
                }
                let who: std::net::IpAddr = format!("192.0.2.{}", second + 1).parse().unwrap();
                let until = Some(clock + Span::from_secs(length));
                detector.ban(manual(who.to_string().parse().unwrap(), clock, until, "")).unwrap();
                ends.push((who, passed + length));
            }
        }
    }

    #[test]
    fn a_step_is_told_once_and_small_ones_add_up() {
        let began = Instant::now();
        let mut steps = ClockWatch::new(Timestamp::from_secs(1000), began);
        let mut look =
            |clock, seconds| steps.look(Timestamp::from_secs(clock), began + Duration::from_secs(seconds));
        assert_eq!(look(1001, 1), None);
        assert_eq!(look(1003, 2), None);
        assert_eq!(look(1013, 3), Some(ClockStep::Forward(Span::from_secs(9))));
        assert_eq!(look(1011, 4), None);
        assert_eq!(look(1009, 5), Some(ClockStep::Back(Span::from_secs(6))));
        assert_eq!(look(1010, 6), None);
        assert_eq!(look(10, 7), Some(ClockStep::Back(Span::from_secs(1001))));
        assert_eq!(look(11, 8), None);
    }
}
