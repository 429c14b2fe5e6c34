//! Counts offences in a sliding window, per offender.
//!
//! A window keeps the times of the last `full` offences only: an older one could not change the result. So the operator
//! decides its size, not an attacker, and the number of windows is bounded. If only distinct values count, it keeps the
//! last `full` of these, each with its last time.

use crate::model::{Offender, Span, Timestamp};

use super::tracked::Tracked;

/// The windows of one jail: 42 bytes an offender, and at five retries 40 more from the second offence on.
#[derive(Debug)]
pub(super) struct Windows {
    size: Threshold,
    table: Tracked<Offender, OffenderWindow>,
    /// The times of row n, from n * full on, as a ring.
    times: Vec<Timestamp>,
    /// The values of these offences, in the same places; empty where all offences count.
    values: Vec<u64>,
    /// Rows that no offender has.
    free: Vec<u32>,
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

/// The offences of one offender.
#[derive(Clone, Copy, Debug, Default)]
enum OffenderWindow {
    #[default]
    Empty,
    /// The time of a first offence without a value, in bytes, which need no padding. In a flood of many offenders most have
    /// no second one, and take no row.
    One([u8; 8]),
    Row(Ring),
}

/// A row of times, how much of it is in use, and where the next goes.
#[derive(Clone, Copy, Debug)]
struct Ring {
    row: u32,
    used: u8,
    next: u8,
}

impl Windows {
    /// Windows of this size, of no offenders yet.
    pub(super) fn new(size: Threshold) -> Self {
        let size = Threshold { full: size.full.max(1), ..size };
        Self { size, table: Tracked::new(), times: Vec::new(), values: Vec::new(), free: Vec::new() }
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
        let Threshold { full, span, distinct } = self.size;
        let (window, is_new) = self.table.see(offender);
        if let (OffenderWindow::Empty, false) = (*window, distinct) {
            *window = OffenderWindow::one(at);
            return (1, is_new);
        }
        let capacity = usize::from(full);
        let mut ring = window.ring().unwrap_or_else(|| {
            let row = self.free.pop().unwrap_or((self.times.len() / capacity) as u32);
            Ring { row, used: 0, next: 0 }
        });
        let start = ring.row as usize * capacity;
        let mine = start..start + capacity;
        if self.times.len() < mine.end {
            self.times.resize(mine.end, Timestamp::default());
        }
        if distinct && self.values.len() < mine.end {
            self.values.resize(mine.end, 0);
        }
        let Some(times) = self.times.get_mut(mine.clone()) else { return (0, is_new) };
        let values = self.values.get_mut(mine).unwrap_or_default();
        if let (Some(only), Some(first)) = (window.only(), times.first_mut()) {
            *first = only;
            (ring.used, ring.next) = (1, 1 % full);
        }
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
        *window = OffenderWindow::Row(ring);
        times.get_mut(place).into_iter().for_each(|time| *time = at);
        values.get_mut(place).into_iter().for_each(|known| *known = value);
        let counted = times.iter().take(usize::from(ring.used)).filter(|time| at.since(**time) <= span);
        (counted.count() as u8, is_new)
    }

    /// How many offences of an offender count at `at`, and when the last of them was. Changes nothing.
    pub(super) fn of(&self, offender: Offender, at: Timestamp) -> (u8, Option<Timestamp>) {
        let times = self.table.get(&offender).into_iter().flat_map(|window| self.offences(*window));
        let counted = times.filter(|(time, _)| at.since(*time) <= self.size.span);
        counted.fold((0, None), |(count, last), (time, _)| (count + 1, last.max(Some(time))))
    }

    /// The times in an offender's window, in the order in which they came; none where it is not watched.
    pub(super) fn times_of(&self, offender: Offender) -> Vec<Timestamp> {
        let offences = self.table.get(&offender).into_iter().flat_map(|window| self.offences(*window));
        offences.map(|(time, _)| time).collect()
    }

    /// Dates all offences earlier by this much.
    pub(super) fn shift_back(&mut self, by: Span) {
        self.times.iter_mut().for_each(|time| *time = *time - by);
        for window in self.table.values_mut() {
            *window = window.only().map_or(*window, |only| OffenderWindow::one(only - by));
        }
    }

    /// Forgets an offender, whose count restarts.
    pub(super) fn forget(&mut self, offender: Offender) {
        let forgotten = self.table.remove(&offender);
        self.release(forgotten);
    }

    /// Forgets an offender that was not seen lately.
    pub(super) fn forget_one(&mut self) {
        let forgotten = self.table.forget_one();
        self.release(forgotten);
    }

    fn release(&mut self, forgotten: Option<OffenderWindow>) {
        self.free.extend(forgotten.and_then(OffenderWindow::ring).map(|ring| ring.row));
    }

    /// The offenders, those first that are forgotten first, each with its times and values in the order in which they came.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Offender, impl Iterator<Item = (Timestamp, u64)>)> {
        self.table.iter().map(|(offender, window)| (*offender, self.offences(*window)))
    }

    /// The times and values in a window, in the order in which they came.
    fn offences(&self, window: OffenderWindow) -> impl Iterator<Item = (Timestamp, u64)> {
        let full = usize::from(self.size.full);
        let Ring { row, used, next } = window.ring().unwrap_or(Ring { row: 0, used: 0, next: 0 });
        let start = row as usize * full;
        // The oldest is the next to be overwritten, once all are in use.
        let first = if used == self.size.full { usize::from(next) } else { 0 };
        let places = (first..first + usize::from(used)).map(move |place| start + place % full);
        let value = |place: usize| self.values.get(place).copied().unwrap_or(0);
        let only = window.only().map(|only| (only, 0));
        only.into_iter().chain(places.filter_map(move |place| Some((*self.times.get(place)?, value(place)))))
    }

    /// How many offences stand in all windows, those that have left their span included.
    pub(super) fn counted(&self) -> u64 {
        let counted =
            |window: &OffenderWindow| window.ring().map_or(window.only().is_some().into(), |ring| ring.used);
        self.table.iter().map(|(_, window)| u64::from(counted(window))).sum()
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

impl OffenderWindow {
    fn one(at: Timestamp) -> Self {
        Self::One(at.as_micros().to_ne_bytes())
    }

    /// The time of the only offence, where it has no row.
    fn only(self) -> Option<Timestamp> {
        match self {
            Self::One(micros) => Some(Timestamp::from_micros(i64::from_ne_bytes(micros))),
            Self::Empty | Self::Row(_) => None,
        }
    }

    fn ring(self) -> Option<Ring> {
        match self {
            Self::Row(ring) => Some(ring),
            Self::Empty | Self::One(_) => None,
        }
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
        fn is_a_naive_count(
            steps in proptest::collection::vec((0_i64..4, 0_u8..4, 0_u8..8), 1..90),
            full in 1_u8..6,
        ) {
            let mut windows = Windows::new(size(full, 10));
            let (mut now, mut all) = (0, std::collections::BTreeMap::<Offender, Vec<i64>>::new());
            let count = |times: &[i64], now| times.iter().filter(|at| now - **at <= 10).count();
            for (gap, who, step) in steps {
                now += gap;
                let (offender, at) = (format!("192.0.2.{who}").parse().unwrap(), Timestamp::from_secs(now));
                match step {
                    0 => {
                        windows.forget(offender);
                        all.remove(&offender);
                    }
                    1 => {
                        windows.forget_one();
                        let before = all.len();
                        all.retain(|offender, _| windows.table.get(offender).is_some());
                        prop_assert_eq!(all.len(), before.saturating_sub(1));
                    }
                    2 => {
                        windows.shift_back(Span::from_secs(1));
                        all.values_mut().flatten().for_each(|at| *at -= 1);
                    }
                    _ => {
                        let times = all.entry(offender).or_default();
                        times.push(now);
                        let old = times.len().saturating_sub(usize::from(full));
                        times.drain(..old);
                        let (counted, is_new) = windows.count(offender, at, 0);
                        prop_assert_eq!((usize::from(counted), is_new), (count(times, now), times.len() == 1 && old == 0));
                    }
                }
                let times = all.get(&offender).map_or(&[][..], Vec::as_slice);
                let last = times.iter().filter(|at| now - **at <= 10).max().map(|at| Timestamp::from_secs(*at));
                prop_assert_eq!(windows.of(offender, at), (count(times, now) as u8, last));
                prop_assert_eq!(windows.counted(), all.values().flatten().count() as u64);
                let held = |times: &mut dyn Iterator<Item = (Timestamp, u64)>| times.map(|(at, _)| at.as_secs()).collect();
                let held = windows.iter().map(|(who, mut times)| (who, held(&mut times))).collect();
                prop_assert_eq!(&all, &held);
            }
            // Who has one offence takes no row, and a row is used again.
            prop_assert!(windows.times.len() <= 4 * usize::from(full));
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
