//! The desired content of the kernel's sets, and its difference from the real one.
//!
//! The comparison is the whole of a restart: what a stopped daemon left, what a reboot lost, what somebody added or
//! removed by hand, all are one difference, and only that is applied.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod elements;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use hashbrown::HashMap;

use self::elements::{Desired, Elements, HELD, TOLD};
use super::change::{Change, Element, Layout, Set, Timeout, elements};
use crate::model::{Ban, Decision, Offender, Span, Timestamp};

/// The elements that keep everybody out who is banned.
#[derive(Debug)]
pub struct DesiredState {
    layout: Layout,
    elements: Elements,
    /// Where all bans are being told again, until when what differs was wanted before.
    restart: Option<HashMap<Element, Option<Timestamp>>>,
    /// Counts looks, so that each has another sample.
    round: usize,
}

/// What a comparison found, and the changes that put it right.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Drift {
    /// The changes.
    pub changes: Vec<Change>,
    /// How many elements were missing.
    pub missing: u64,
    /// How many had another time left than they ought to.
    pub timeouts: u64,
    /// How many no ban put there.
    pub unexpected: u64,
}

/// How long the kernel may keep an element after its end: whole seconds are rounded up, and messages take a while.
const GRACE: Span = Span::from_secs(3);

impl DesiredState {
    /// Nobody is to be kept out yet.
    pub fn new(layout: Layout) -> Self {
        Self { layout, elements: Elements::default(), restart: None, round: 0 }
    }

    /// Makes room for so many more elements at once.
    pub fn reserve(&mut self, more: usize) {
        self.elements.reserve(more);
    }

    /// Goes on with another firewall's layout.
    pub fn set_layout(&mut self, layout: Layout) {
        self.layout = layout;
    }

    /// Notes what was decided; like the kernel, it keeps the last that was said of an element.
    pub fn take(&mut self, decision: &Decision) {
        match decision {
            Decision::Ban(ban) => self.put(ban),
            Decision::Unban(ban) => {
                for element in elements(ban) {
                    self.elements.remove(&element);
                }
            }
        }
    }

    /// All bans are told again from here on, in as many [parts](Self::restate) as there may be; what is [taken](Self::take)
    /// meanwhile is as if it were told. Where several come to the same element, the longest counts.
    pub fn begin_restart(&mut self) {
        self.elements.iter_mut().for_each(|want| {
            want.unmark(TOLD);
        });
        // One that did not end may have left elements that differ from what the kernel was sent.
        self.restart.get_or_insert_default();
    }

    /// Tells one of them. Elements that were not desired before are among the changes.
    pub fn restate(&mut self, ban: &Ban, now: Timestamp, changes: &mut Vec<Change>) {
        for element in elements(ban) {
            match self.elements.get_mut(&element) {
                None => {
                    self.elements.insert(Desired::new(element, ban.until));
                    changes.extend(Timeout::until(ban.until, now).map(|left| Change::Add(element, left)));
                }
                Some(want) => {
                    let longest = || Expiry(want.until()).max(Expiry(ban.until)).0;
                    let told = if want.has(TOLD) { longest() } else { ban.until };
                    want.mark(TOLD);
                    if told != want.until() {
                        let differs = self.restart.get_or_insert_default();
                        differs.entry(element).or_insert(want.until());
                        want.set_until(told);
                    }
                }
            }
        }
    }

    /// All were told: what no ban wants goes, and what is wanted for another time is renewed.
    pub fn end_restart(&mut self, now: Timestamp, changes: &mut Vec<Change>) {
        for (element, before) in self.restart.take().unwrap_or_default() {
            let Some(want) = self.elements.get_mut(&element) else { continue };
            if want.until() != before {
                want.pending = false;
                changes.extend(Timeout::until(want.until(), now).map(|left| Change::Add(element, left)));
            }
        }
        self.elements.retain(|want| {
            if !want.has(TOLD) {
                changes.push(Change::Remove(want.element));
            }
            want.has(TOLD)
        });
    }

    fn put(&mut self, ban: &Ban) {
        for element in elements(ban) {
            self.elements.insert(Desired::new(element, ban.until));
        }
    }

    /// Forgets what is over at `now`, and counts what each set ought to hold. Looks at every element.
    pub fn counts(&mut self, now: Timestamp) -> ElementCounts {
        self.round = self.round.wrapping_add(1);
        let (layout, round) = (self.layout, self.round);
        let stride = (self.elements.len() / SAMPLE).max(1);
        let (mut counts, mut nth) = (ElementCounts::default(), 0_usize);
        // There are few sets and many elements.
        let mut sets: Vec<(Set, (u32, u32))> = Vec::new();
        self.elements.retain(|want| {
            let over = want.until().is_some_and(|until| until <= now);
            if !over {
                let set = want.element.set(layout);
                let place = sets.iter().position(|(known, _)| *known == set).unwrap_or_else(|| {
                    sets.push((set, (0, 0)));
                    sets.len() - 1
                });
                if let Some((_, (held, pending))) = sets.get_mut(place) {
                    *(if want.pending { pending } else { held }) += 1;
                }
                nth += 1;
                let lasts = want.until().is_none_or(|until| until.since(now) > GRACE);
                if !want.pending
                    && lasts
                    && nth % stride == round % stride
                    && counts.sample.len() < 2 * SAMPLE
                {
                    counts.sample.push(want.element);
                }
            }
            // The kernel may have it still, and that is not to seem unexpected.
            !over || want.until().is_some_and(|until| now.since(until) < GRACE)
        });
        counts.sets = sets.into_iter().collect();
        counts
    }

    /// Compares with what the kernel holds at `now`. What it could not take before counts as missing no more.
    pub fn compare(&mut self, held: &[(Element, Timeout)], now: Timestamp) -> Drift {
        let mut drift = Drift::default();
        for &(element, timeout) in held {
            let Some(want) = self.elements.get_mut(&element) else {
                drift.unexpected += 1;
                drift.changes.push(Change::Remove(element));
                continue;
            };
            want.pending = false;
            want.mark(HELD);
            match Timeout::until(want.until(), now) {
                Some(wanted) if wanted.is_about(timeout) => {}
                Some(wanted) => {
                    drift.timeouts += 1;
                    drift.changes.push(Change::Add(element, wanted));
                }
                None if timeout.is_nearly_over() => {}
                None => {
                    drift.timeouts += 1;
                    drift.changes.push(Change::Remove(element));
                }
            }
        }
        for want in self.elements.iter_mut() {
            if !want.unmark(HELD)
                && !want.pending
                && let Some(timeout) = Timeout::until(want.until(), now)
                && !timeout.is_nearly_over()
            {
                drift.missing += 1;
                drift.changes.push(Change::Add(want.element, timeout));
            }
        }
        drift
    }

    /// Notes that the kernel would not take the element. It is tried again by [`make_room`](Self::make_room).
    pub fn refused(&mut self, element: Element) {
        if let Some(want) = self.elements.get_mut(&element) {
            want.pending = true;
        }
    }

    /// Whether an element of this ban waits for room.
    pub fn waits(&self, ban: &Ban) -> bool {
        elements(ban).into_iter().any(|element| self.elements.get(&element).is_some_and(|want| want.pending))
    }

    /// Whose elements wait for room, so many at the most. Looks at every element.
    pub fn waiting(&self, most: usize) -> HashSet<Offender> {
        let waiting = self.elements.iter().filter(|want| want.pending);
        waiting.map(|want| want.element.offender).take(most).collect()
    }

    /// Gives the set's free places to those who wait for one, those first that last longest; and where there are
    /// not enough, takes out elements that end sooner than those that wait. A set that holds more than it is to hold has none,
    /// and keeps them.
    pub fn make_room(&mut self, set: Set, free: usize, now: Timestamp) -> Vec<Change> {
        let layout = self.layout;
        let of_set = |want: &Desired| {
            let lasts = want.until().is_none_or(|until| until > now);
            let row = (Expiry(want.until()), want.element, want.pending);
            (lasts && want.element.set(layout) == set).then_some(row)
        };
        let all = self.elements.iter().filter_map(of_set);
        let (mut waiting, mut held): (Vec<_>, Vec<_>) = all.partition(|(.., pending)| *pending);
        waiting.sort_unstable_by(|one, other| other.cmp(one));
        let wanted = waiting.len().saturating_sub(free);
        if wanted < held.len() {
            held.select_nth_unstable(wanted);
            held.truncate(wanted);
        }
        held.sort_unstable();
        let leaving = waiting.iter().skip(free).zip(&held);
        let leaving = leaving.take_while(|(comes, goes)| comes.0 > goes.0).map(|(_, (_, goes, _))| *goes);
        let leaving: Vec<Element> = leaving.collect();
        let coming = waiting.iter().take(free.saturating_add(leaving.len())).map(|(_, comes, _)| *comes);
        let coming: Vec<Element> = coming.collect();
        leaving.iter().for_each(|element| self.refused(*element));
        let mut changes: Vec<Change> = leaving.into_iter().map(Change::Remove).collect();
        for element in coming {
            if let Some(want) = self.elements.get_mut(&element)
                && let Some(timeout) = Timeout::until(want.until(), now)
            {
                want.pending = false;
                changes.push(Change::Add(element, timeout));
            }
        }
        changes
    }

    /// What a new set in this one's place is to hold: at most `room` elements, those that last longest. The
    /// others wait.
    pub fn fill(&mut self, set: Set, room: usize, now: Timestamp) -> Vec<Change> {
        let layout = self.layout;
        self.elements
            .iter_mut()
            .filter(|want| want.element.set(layout) == set)
            .for_each(|want| want.pending = true);
        self.make_room(set, room, now)
    }

    /// The sets that have an element.
    pub fn sets(&self) -> BTreeSet<Set> {
        self.elements.iter().map(|want| want.element.set(self.layout)).collect()
    }
}

/// About how many elements a sample has.
const SAMPLE: usize = 16;

/// How many elements each set ought to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ElementCounts {
    sets: BTreeMap<Set, (u32, u32)>,
    /// Some of those that the kernel ought to hold: each time others, so that in the end all were among them.
    pub sample: Vec<Element>,
}

impl ElementCounts {
    /// How many this set ought to hold.
    pub fn held(&self, set: Set) -> u32 {
        self.sets.get(&set).map_or(0, |(held, _)| *held)
    }

    /// How many wait for room in this set.
    pub fn pending(&self, set: Set) -> u32 {
        self.sets.get(&set).map_or(0, |(_, pending)| *pending)
    }

    /// How many wait in all.
    pub fn all_pending(&self) -> u32 {
        self.sets.values().map(|(_, pending)| pending).sum()
    }
}

/// When a ban ends; never is the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Expiry(Option<Timestamp>);

impl Ord for Expiry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0.is_none(), self.0).cmp(&(other.0.is_none(), other.0))
    }
}

impl PartialOrd for Expiry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{BanOrigin, BanTerms, Mode};

    const NOW: Timestamp = Timestamp::from_secs(1_000_000);

    /// A ban of `192.0.2.LAST` that ends so many seconds after `NOW`.
    fn ban(last: u8, secs: Option<i64>) -> Ban {
        Ban {
            offender: format!("192.0.2.{last}").parse().unwrap(),
            times: 1,
            since: Timestamp::from_secs(0),
            until: secs.map(|secs| Timestamp::from_secs(1_000_000 + secs)),
            terms: Arc::new(BanTerms {
                jail: "ssh".into(),
                kind: BanOrigin::Auto,
                mode: Mode::Enforce,
                ports: [].into(),
                reason: "".into(),
            }),
        }
    }

    fn element(last: u8) -> Element {
        Element { offender: format!("192.0.2.{last}").parse().unwrap(), port: None }
    }

    fn desired(bans: &[(u8, Option<i64>)]) -> DesiredState {
        let mut desired = DesiredState::new(Layout::AnyLength);
        bans.iter().for_each(|(last, secs)| desired.take(&Decision::Ban(ban(*last, *secs))));
        desired
    }

    /// The changes that make what was desired before into these bans.
    fn restart(desired: &mut DesiredState, bans: &[Ban]) -> Vec<Change> {
        let mut changes = Vec::new();
        desired.begin_restart();
        bans.iter().for_each(|ban| desired.restate(ban, NOW, &mut changes));
        desired.end_restart(NOW, &mut changes);
        changes
    }

    fn words(changes: &[Change]) -> Vec<String> {
        let mut words: Vec<String> = changes
            .iter()
            .map(|change| match change {
                Change::Add(element, timeout) => format!("+{element} {}", timeout.as_secs()),
                Change::Remove(element) => format!("-{element}"),
            })
            .collect();
        words.sort();
        words
    }

    /// What is changed where these bans are wanted and these seconds are in the kernel.
    #[track_caller]
    fn check(wanted: &[(u8, Option<i64>)], held: &[(u8, u64)], want: &[&str]) {
        let held: Vec<_> =
            held.iter().map(|(last, secs)| (element(*last), Timeout::from_secs(*secs))).collect();
        let drift = desired(wanted).compare(&held, NOW);
        assert_eq!(words(&drift.changes), want);
        let counted = drift.missing + drift.timeouts + drift.unexpected;
        assert_eq!(counted, want.len() as u64);
    }

    #[test]
    fn what_is_right_is_left_alone() {
        check(&[], &[], &[]);
        check(&[(1, Some(600)), (2, None)], &[(1, 600), (2, 0)], &[]);
        check(&[(1, Some(600)), (2, Some(600))], &[(1, 598), (2, 603)], &[]);
        check(&[(1, Some(1_000_000))], &[(1, 1_000_900)], &[]);
    }

    #[test]
    fn what_is_missing_comes_and_what_is_unexpected_goes() {
        check(&[(1, Some(600)), (2, None)], &[], &["+192.0.2.1 600", "+192.0.2.2 0"]);
        check(&[(1, Some(600))], &[(1, 600), (2, 600), (3, 0)], &["-192.0.2.2", "-192.0.2.3"]);
        check(&[(1, Some(600))], &[(2, 600)], &["+192.0.2.1 600", "-192.0.2.2"]);
    }

    #[test]
    fn a_wrong_timeout_is_corrected() {
        check(&[(1, Some(600))], &[(1, 597)], &["+192.0.2.1 600"]);
        check(&[(1, Some(600))], &[(1, 605)], &["+192.0.2.1 600"]);
        check(&[(1, Some(600))], &[(1, 0)], &["+192.0.2.1 600"]);
        check(&[(1, None)], &[(1, 600)], &["+192.0.2.1 0"]);
        check(&[(1, Some(600))], &[(1, 6000)], &["+192.0.2.1 600"]);
    }

    #[test]
    fn what_the_kernel_cannot_count_is_renewed_at_half_time() {
        let year = Some(365 * 24 * 60 * 60);
        check(&[(1, year)], &[(1, 2_147_483)], &[]);
        check(&[(1, year)], &[(1, 1_073_742)], &[]);
        check(&[(1, year)], &[(1, 1_073_000)], &["+192.0.2.1 31536000"]);
        check(&[(1, year)], &[(1, 0)], &["+192.0.2.1 31536000"]);
    }

    #[test]
    fn what_is_nearly_over_or_just_over_is_left_to_the_kernel() {
        check(&[(1, Some(0)), (2, Some(-2))], &[(1, 1), (2, 1)], &[]);
        check(&[(1, Some(0)), (2, Some(-2)), (3, Some(3))], &[], &[]);
        check(&[(1, Some(4))], &[], &["+192.0.2.1 4"]);
        check(&[(1, Some(0))], &[(1, 600)], &["-192.0.2.1"]);
    }

    #[test]
    fn what_is_over_is_not_counted() {
        let mut desired = desired(&[(1, Some(1)), (2, Some(0)), (3, None), (4, Some(9))]);
        desired.refused(element(4));
        let counts = desired.counts(NOW);
        assert_eq!((counts.held(Set::V4), counts.pending(Set::V4), counts.held(Set::V6)), (2, 1, 0));
        desired.take(&Decision::Unban(ban(3, None)));
        assert_eq!(desired.counts(NOW).held(Set::V4), 1);
        assert_eq!(desired.elements.len(), 3, "what has just ended is still known");
        desired.counts(Timestamp::from_secs(1_000_005));
        assert_eq!(desired.elements.len(), 1);
    }

    /// What is changed where these wait, those are held, and so many places are free.
    #[track_caller]
    fn check_room(waiting: &[(u8, Option<i64>)], held: &[(u8, Option<i64>)], free: usize, want: &[&str]) {
        let mut desired = desired(&[waiting, held].concat());
        waiting.iter().for_each(|(last, _)| desired.refused(element(*last)));
        assert_eq!(words(&desired.make_room(Set::V4, free, NOW)), want);
        let counts = desired.counts(NOW);
        let (adds, removes) = (want.iter().filter(|w| w.starts_with('+')).count(), want.len());
        let pending = waiting.len() + (removes - adds) - adds;
        assert_eq!(counts.pending(Set::V4) as usize, pending);
        assert_eq!(desired.make_room(Set::V6, 9, NOW), []);
    }

    #[test]
    fn those_who_last_longest_get_the_places() {
        check_room(&[(1, Some(5)), (2, None), (3, Some(7))], &[], 2, &["+192.0.2.2 0", "+192.0.2.3 7"]);
        check_room(&[(1, Some(5))], &[(8, Some(4)), (9, Some(3))], 0, &["+192.0.2.1 5", "-192.0.2.9"]);
        check_room(&[(1, Some(5)), (2, Some(2))], &[(8, Some(4))], 0, &["+192.0.2.1 5", "-192.0.2.8"]);
        check_room(
            &[(1, Some(5)), (2, None)],
            &[(8, None), (9, Some(5))],
            0,
            &["+192.0.2.2 0", "-192.0.2.9"],
        );
        check_room(&[(1, Some(5))], &[(8, None), (9, Some(5))], 0, &[]);
        check_room(&[], &[(9, Some(5))], 7, &[]);
    }

    #[test]
    fn a_new_set_is_filled_with_those_who_last_longest() {
        let mut desired = desired(&[(1, Some(5)), (2, None), (3, Some(7)), (4, Some(0))]);
        assert_eq!(words(&desired.fill(Set::V4, 2, NOW)), ["+192.0.2.2 0", "+192.0.2.3 7"]);
        assert_eq!(desired.counts(NOW).pending(Set::V4), 1);
    }

    #[test]
    fn each_element_is_in_a_sample_sooner_or_later() {
        let all: Vec<_> = (0..=255).map(|last| (last, None)).collect();
        let mut desired = desired(&all);
        desired.refused(element(7));
        let samples = (0..64).flat_map(|_| desired.counts(NOW).sample);
        let seen: BTreeSet<Element> = samples.collect();
        assert_eq!((seen.len(), seen.contains(&element(7))), (255, false));
        assert!(desired.counts(NOW).sample.len() <= 2 * SAMPLE);
    }

    #[test]
    fn of_several_bans_on_one_element_the_longest_counts() {
        for bans in [[ban(1, Some(5)), ban(1, Some(9))], [ban(1, Some(9)), ban(1, Some(5))]] {
            let mut shorter = desired(&[(1, Some(5)), (2, None)]);
            shorter.refused(element(1));
            assert_eq!(words(&restart(&mut shorter, &bans)), ["+192.0.2.1 9", "-192.0.2.2"]);
            let mut desired = desired(&[(2, None)]);
            let mut changes = words(&restart(&mut desired, &bans));
            // The first may be the shorter one; then that is renewed.
            changes.retain(|change| change != "+192.0.2.1 5");
            assert_eq!(changes, ["+192.0.2.1 9", "-192.0.2.2"]);
            assert_eq!(words(&desired.compare(&[], NOW).changes), ["+192.0.2.1 9"]);
            assert_eq!(restart(&mut desired, &bans), [], "nothing is different");
        }
    }

    #[test]
    fn what_is_decided_while_all_bans_are_told_counts_as_told() {
        let mut desired = desired(&[(1, None), (2, None), (3, None)]);
        let mut changes = Vec::new();
        desired.begin_restart();
        desired.restate(&ban(1, None), NOW, &mut changes);
        desired.take(&Decision::Ban(ban(2, Some(7))));
        desired.take(&Decision::Ban(ban(4, None)));
        desired.take(&Decision::Unban(ban(1, None)));
        desired.restate(&ban(5, None), NOW, &mut changes);
        assert_eq!(desired.compare(&[], NOW).missing, 4, "and all of it can be compared meanwhile");
        desired.end_restart(NOW, &mut changes);
        assert_eq!(words(&changes), ["+192.0.2.5 0", "-192.0.2.3"]);
        let drift = desired.compare(&[], NOW);
        assert_eq!(words(&drift.changes), ["+192.0.2.2 7", "+192.0.2.4 0", "+192.0.2.5 0"]);
    }
}
