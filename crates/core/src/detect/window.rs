//! Counts offences in a sliding window, per offender.
//!
//! A window keeps the times of the last `full` offences only: an older one could not change the result. So the operator
//! decides its size, not an attacker, and the number of windows is bounded. If only distinct values count, it keeps the
//! last `full` of these, each with its last time.

use crate::model::{Offender, Span, Timestamp};

use super::tracked::Tracked;

/// The windows of one jail: 61 bytes an offender at five retries, and 10 for the index.
#[derive(Debug)]
pub(super) struct Windows {
    size: Threshold,
    table: Tracked<Offender, Ring>,
    /// The times of the offender in slot n, from n * full on, as a ring.
    times: Vec<Timestamp>,
    /// The values of these offences, in the same places; empty where all offences count.
    values: Vec<u64>,
}

/// What fills a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Threshold {
    /// This many offences; at least 1.
    pub(super) full: u8,
    /// Within this time.
    pub(super) span: Span,
    /// Whether offences of one value count as one.
    pub(super) distinct: bool,
}

/// How much of an offender's times is in use, and where the next goes.
#[derive(Clone, Copy, Debug, Default)]
struct Ring {
    used: u8,
    next: u8,
}

impl Windows {
    /// Windows of this size, of no offenders yet.
    pub(super) fn new(size: Threshold) -> Self {
        let size = Threshold { full: size.full.max(1), ..size };
        Self { size, table: Tracked::new(), times: Vec::new(), values: Vec::new() }
    }

    /// How many offenders are watched.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Counts an offence at `at`; how many now stand within the span, and whether the offender was not watched before.
    ///
    /// Where only distinct values count, an offence of a value that stands already takes the place of that one. The
    /// value 0 says nothing: each offence that has it counts.
    ///
    /// The window is closed at both ends: offences exactly the span apart still count together. A clock
    /// stepped back makes the window look short, never long, so it can bring a ban forward but not put one off.
    ///
    /// Linear in `full`; allocates only as the number of offenders grows.
    pub(super) fn count(&mut self, offender: Offender, at: Timestamp, value: u64) -> (u8, bool) {
        let (slot, ring, is_new) = self.table.see(offender);
        let Threshold { full, span, distinct } = self.size;
        let (capacity, start) = (usize::from(full), slot as usize * usize::from(full));
        let mine = start..start + capacity;
        if self.times.len() < mine.end {
            self.times.resize(mine.end, Timestamp::default());
        }
        if distinct && self.values.len() < mine.end {
            self.values.resize(mine.end, 0);
        }
        let Some(times) = self.times.get_mut(mine.clone()) else { return (0, is_new) };
        let values = self.values.get_mut(mine).unwrap_or_default();
        let used = usize::from(ring.used);
        let next = usize::from(ring.next);
        let place = match values.iter().take(used).position(|known| value != 0 && *known == value) {
            // It becomes the last of all, and those behind it move up by one place each.
            Some(mut place) => loop {
                let after = (place + 1) % capacity;
                if after == next {
                    break place;
                }
                times.swap(place, after);
                values.swap(place, after);
                place = after;
            },
            None => {
                ring.next = (ring.next + 1) % full;
                ring.used = (ring.used + 1).min(full);
                next
            }
        };
        times.get_mut(place).into_iter().for_each(|time| *time = at);
        values.get_mut(place).into_iter().for_each(|known| *known = value);
        let counted = times.iter().take(usize::from(ring.used)).filter(|time| at.since(**time) <= span);
        (counted.count() as u8, is_new)
    }

    /// How many offences of an offender count at `at`, and when the last of them was. Changes nothing.
    pub(super) fn of(&self, offender: Offender, at: Timestamp) -> (u8, Option<Timestamp>) {
        let Some((slot, ring)) = self.table.slot(&offender) else { return (0, None) };
        let start = slot as usize * usize::from(self.size.full);
        let times = self.times.iter().skip(start).take(usize::from(ring.used));
        let counted = times.filter(|time| at.since(**time) <= self.size.span);
        counted.fold((0, None), |(count, last), time| (count + 1, last.max(Some(*time))))
    }

    /// The times in an offender's window, in no order; none where it is not watched.
    pub(super) fn times_of(&self, offender: Offender) -> Vec<Timestamp> {
        let Some((slot, ring)) = self.table.slot(&offender) else { return Vec::new() };
        let start = slot as usize * usize::from(self.size.full);
        self.times.iter().skip(start).take(usize::from(ring.used)).copied().collect()
    }

    /// Dates all offences earlier by this much.
    pub(super) fn shift_back(&mut self, by: Span) {
        self.times.iter_mut().for_each(|time| *time = *time - by);
    }

    /// Forgets an offender, whose count restarts.
    pub(super) fn forget(&mut self, offender: Offender) {
        self.table.remove(&offender);
    }

    /// Forgets an offender that was not seen lately.
    pub(super) fn forget_one(&mut self) {
        self.table.forget_one();
    }

    /// The offenders, those first that are forgotten first, each with its times and values in the order in which they came.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Offender, impl Iterator<Item = (Timestamp, u64)>)> {
        let full = usize::from(self.size.full);
        self.table.iter().map(move |(slot, offender, ring)| {
            let start = slot as usize * full;
            // The oldest is the next to be overwritten, once all are in use.
            let first = if ring.used == self.size.full { usize::from(ring.next) } else { 0 };
            let places = (first..first + usize::from(ring.used)).map(move |place| start + place % full);
            let value = |place: usize| self.values.get(place).copied().unwrap_or(0);
            (*offender, places.filter_map(move |place| Some((*self.times.get(place)?, value(place)))))
        })
    }

    /// How many offences stand in all windows, those that have left their span included.
    pub(super) fn counted(&self) -> u64 {
        self.table.iter().map(|(_, _, ring)| u64::from(ring.used)).sum()
    }

    /// The same counts in windows of another size: what happened stays, what it amounts to is new.
    pub(super) fn resized(self, size: Threshold) -> Self {
        let mut resized = Self::new(size);
        if self.size == resized.size {
            return self;
        }
        for (offender, offences) in self.iter() {
            for (time, value) in offences {
                resized.count(offender, time, value);
            }
        }
        resized
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn size(full: u8, seconds: u64) -> Threshold {
        Threshold { full, span: Span::from_secs(seconds), distinct: false }
    }

    fn distinct(full: u8, seconds: u64) -> Threshold {
        Threshold { distinct: true, ..size(full, seconds) }
    }

    /// Feeds offences at these seconds to a window of 3 in 10 s; those that filled it.
    #[track_caller]
    fn check(seconds: &[i64], want: &[i64]) {
        let mut windows = Windows::new(size(3, 10));
        let offender = "192.0.2.1".parse().unwrap();
        let filled = |at: &&i64| windows.count(offender, Timestamp::from_secs(**at), 0).0 == 3;
        assert_eq!(seconds.iter().filter(filled).copied().collect::<Vec<_>>(), want);
    }

    /// How many distinct values stand after each of these (second, value), in a window of 3 in 10 s.
    #[track_caller]
    fn check_distinct(offences: &[(i64, u64)], want: &[u8]) {
        let mut windows = Windows::new(distinct(3, 10));
        let offender = "192.0.2.1".parse().unwrap();
        let count = |(at, value): &(i64, u64)| windows.count(offender, Timestamp::from_secs(*at), *value).0;
        assert_eq!(offences.iter().map(count).collect::<Vec<_>>(), want);
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
        let mut windows = Windows::new(size(3, 10));
        for at in [1, 2, 3, 4] {
            windows.count(offender, Timestamp::from_secs(at), 0);
        }
        let mut windows = windows.resized(size(5, 100));
        assert_eq!(windows.count(offender, Timestamp::from_secs(50), 0).0, 4);
        let mut windows = windows.resized(size(2, 100));
        assert_eq!(windows.count(offender, Timestamp::from_secs(51), 0).0, 2);
        assert!(windows.values.is_empty(), "values cost nothing where they do not count");
        // Of what was counted before, nobody knows the values: each counts.
        let mut windows = windows.resized(distinct(4, 100));
        assert_eq!(windows.count(offender, Timestamp::from_secs(52), 7).0, 3);
        let mut windows = windows.resized(distinct(5, 100));
        assert_eq!(windows.count(offender, Timestamp::from_secs(53), 7).0, 3);
    }

    #[test]
    fn a_value_that_stands_is_no_other_one() {
        check_distinct(&[(0, 1), (1, 1), (2, 1), (3, 2), (4, 1), (5, 3)], &[1, 1, 1, 2, 2, 3]);
        check_distinct(&[(0, 1), (1, 0), (2, 0)], &[1, 2, 3]);
    }

    #[test]
    fn a_value_stands_as_long_as_it_was_seen_last() {
        check_distinct(&[(0, 1), (1, 2), (9, 1), (12, 3)], &[1, 2, 2, 2]);
        check_distinct(&[(0, 1), (1, 2), (11, 3), (12, 1)], &[1, 2, 2, 2]);
    }

    /// How many of these (second, value) stand in the last 10 s, those of one value as one.
    fn naive(all: &[(i64, u64)], now: i64) -> usize {
        let recent = || all.iter().filter(|(at, _)| now - *at <= 10).map(|(_, value)| *value);
        let values: std::collections::BTreeSet<u64> = recent().filter(|value| *value != 0).collect();
        values.len() + recent().filter(|value| *value == 0).count()
    }

    proptest! {
        #[test]
        fn is_a_naive_count(gaps in proptest::collection::vec(0_i64..8, 1..60), full in 1_u8..6) {
            let mut windows = Windows::new(size(full, 10));
            let (offender, mut now, mut all) = ("192.0.2.1".parse().unwrap(), 0, Vec::new());
            for gap in gaps {
                now += gap;
                all.push(now);
                let naive = all.iter().filter(|at| now - **at <= 10).count().min(usize::from(full));
                prop_assert_eq!(usize::from(windows.count(offender, Timestamp::from_secs(now), 0).0), naive);
            }
        }

        #[test]
        fn is_a_naive_count_of_distinct_values(
            offences in proptest::collection::vec((0_i64..5, 0_u64..7, 1_u8..3), 1..90),
            full in 1_u8..6,
            again in 1_u8..6,
        ) {
            let mut windows = Windows::new(distinct(full, 10));
            let (mut now, mut all) = (0, [Vec::new(), Vec::new()]);
            for (nth, (gap, value, who)) in offences.iter().enumerate() {
                now += gap;
                // Written down and put back, as after a restart.
                if nth % 7 == 6 {
                    let mut resized = Windows::new(distinct(full, 10));
                    for (offender, offences) in windows.iter() {
                        for (time, value) in offences {
                            resized.count(offender, time, value);
                        }
                    }
                    windows = resized;
                }
                let all = &mut all[usize::from(who - 1)];
                all.push((now, *value));
                let naive = naive(all, now);
                let offender = format!("192.0.2.{who}").parse().unwrap();
                let count = windows.count(offender, Timestamp::from_secs(now), *value).0;
                prop_assert_eq!(usize::from(count), naive.min(usize::from(full)));
            }
            // A smaller size keeps those that came last.
            let full = again.min(full);
            let mut windows = windows.resized(distinct(full, 10));
            let (_, value, who) = offences[offences.len() - 1];
            let naive = naive(&all[usize::from(who - 1)], now) + usize::from(value == 0);
            let offender = format!("192.0.2.{who}").parse().unwrap();
            let count = windows.count(offender, Timestamp::from_secs(now), value).0;
            prop_assert_eq!(usize::from(count), naive.min(usize::from(full)));
        }
    }
}
