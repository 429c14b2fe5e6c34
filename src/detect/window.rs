//! Counts offences in a sliding window, per offender.
//!
//! A window keeps the times of the last `full` offences only: an older one could not change the verdict any
//! more. So its size is set by the operator, never by an attacker, and the number of windows is bounded.
//!
//! This file knows nothing of rules or bans, and it reads no clock.

use crate::model::{Offender, Span, Timestamp};

use super::recent::Recent;

/// The windows of one jail: 72 bytes an offender at five retries, and 10 for the index.
#[derive(Debug)]
pub(super) struct Windows {
    full: u8,
    span: Span,
    table: Recent<Offender, Ring>,
    /// The times of the offender in slot n, from n * full on, as a ring.
    times: Vec<Timestamp>,
}

/// How much of an offender's times is in use, and where the next goes.
#[derive(Clone, Copy, Debug, Default)]
struct Ring {
    used: u8,
    next: u8,
}

impl Windows {
    /// Windows that are full at `full` offences (at least 1) within `span`, for at most `limit` offenders.
    pub(super) fn new(full: u8, span: Span, limit: usize) -> Self {
        Self { full: full.max(1), span, table: Recent::new(limit), times: Vec::new() }
    }

    /// How many offenders are watched.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Counts an offence at `at`; how many now stand within the span, and whether another offender was
    /// forgotten for lack of room.
    ///
    /// The window is closed at both ends: offences exactly the span apart still count together. A clock
    /// stepped back makes the window look short, never long, so it can bring a ban forward but not put one off.
    ///
    /// Linear in `full`; allocates only as the number of offenders grows.
    pub(super) fn count(&mut self, offender: Offender, at: Timestamp) -> (u8, bool) {
        let (slot, ring, evicted) = self.table.touch(offender);
        let (full, start) = (usize::from(self.full), slot as usize * usize::from(self.full));
        if self.times.len() < start + full {
            self.times.resize(start + full, Timestamp::default());
        }
        let Some(times) = self.times.get_mut(start..start + full) else { return (0, evicted) };
        if let Some(next) = times.get_mut(usize::from(ring.next)) {
            *next = at;
        }
        ring.next = (ring.next + 1) % self.full;
        ring.used = (ring.used + 1).min(self.full);
        let standing = times.iter().take(usize::from(ring.used)).filter(|time| at.since(**time) <= self.span);
        (standing.count() as u8, evicted)
    }

    /// How many offences of an offender count at `at`, and when the last of them was. Changes nothing.
    pub(super) fn of(&self, offender: Offender, at: Timestamp) -> (u8, Option<Timestamp>) {
        let Some((slot, ring)) = self.table.slot(&offender) else { return (0, None) };
        let start = slot as usize * usize::from(self.full);
        let times = self.times.iter().skip(start).take(usize::from(ring.used));
        let standing = times.filter(|time| at.since(**time) <= self.span);
        standing.fold((0, None), |(count, last), time| (count + 1, last.max(Some(*time))))
    }

    /// Forgets an offender, who begins anew.
    pub(super) fn forget(&mut self, offender: Offender) {
        self.table.remove(&offender);
    }

    /// Forgets the offender longest unseen.
    pub(super) fn forget_oldest(&mut self) {
        let oldest = self.table.iter().next().map(|(_, offender, _)| *offender);
        oldest.inspect(|offender| self.table.remove(offender));
    }

    /// The offenders, the one longest unseen first, each with its times in the order in which they came.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Offender, impl Iterator<Item = Timestamp>)> {
        self.table.iter().map(|(slot, offender, ring)| {
            let start = slot as usize * usize::from(self.full);
            let times = self.times.get(start..start + usize::from(self.full)).unwrap_or(&[]);
            // The oldest is the next to be overwritten, once all are in use.
            let first = if ring.used == self.full { usize::from(ring.next) } else { 0 };
            (*offender, times.iter().cycle().skip(first).take(usize::from(ring.used)).copied())
        })
    }

    /// How many offences stand in all windows, those that have left their span included.
    pub(super) fn standing(&self) -> u64 {
        self.table.iter().map(|(_, _, ring)| u64::from(ring.used)).sum()
    }

    /// The same counts in windows of another size: what happened stays, what it amounts to is new.
    pub(super) fn resized(mut self, full: u8, span: Span, limit: usize) -> Self {
        if (self.full, self.span) == (full.max(1), span) {
            self.table.set_limit(limit);
            return self;
        }
        let mut resized = Self::new(full, span, limit);
        for (offender, times) in self.iter() {
            for time in times {
                resized.count(offender, time);
            }
        }
        resized
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Feeds offences at these seconds to a window of 3 in 10 s; those that filled it.
    #[track_caller]
    fn check(seconds: &[i64], want: &[i64]) {
        let mut windows = Windows::new(3, Span::from_secs(10), 9);
        let offender = "192.0.2.1".parse().unwrap();
        let filled = |at: &&i64| windows.count(offender, Timestamp::from_secs(**at)).0 == 3;
        assert_eq!(seconds.iter().filter(filled).copied().collect::<Vec<_>>(), want);
    }

    #[test]
    fn fills_at_the_third() {
        check(&[0, 1, 2, 3], &[2, 3]);
    }

    #[test]
    fn is_closed_at_both_ends() {
        check(&[0, 5, 10], &[10]);
        check(&[0, 5, 11], &[]);
    }

    #[test]
    fn an_old_offence_does_not_count() {
        check(&[0, 1, 20, 21, 22], &[22]);
    }

    #[test]
    fn a_clock_stepped_back_puts_nothing_off() {
        check(&[100, 101, 50], &[50]);
    }

    #[test]
    fn a_new_size_keeps_what_happened() {
        let offender = "192.0.2.1".parse().unwrap();
        let mut windows = Windows::new(3, Span::from_secs(10), 9);
        for at in [1, 2, 3, 4] {
            windows.count(offender, Timestamp::from_secs(at));
        }
        let mut windows = windows.resized(5, Span::from_secs(100), 9);
        assert_eq!(windows.count(offender, Timestamp::from_secs(50)).0, 4);
        let mut windows = windows.resized(2, Span::from_secs(100), 9);
        assert_eq!(windows.count(offender, Timestamp::from_secs(51)).0, 2);
    }

    proptest! {
        #[test]
        fn is_a_naive_count(gaps in proptest::collection::vec(0_i64..8, 1..60), full in 1_u8..6) {
            let mut windows = Windows::new(full, Span::from_secs(10), 2);
            let (offender, mut now, mut all) = ("192.0.2.1".parse().unwrap(), 0, Vec::new());
            for gap in gaps {
                now += gap;
                all.push(now);
                let naive = all.iter().filter(|at| now - **at <= 10).count().min(usize::from(full));
                prop_assert_eq!(usize::from(windows.count(offender, Timestamp::from_secs(now)).0), naive);
            }
        }
    }
}
