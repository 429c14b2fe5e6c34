//! The bans in force, by offender and by end, from jails, operators and, after a restart, the ledger.
//!
//! Each is in one place, to which tables of numbers refer: a million take 48 bytes each for the ban, 12 for its end and 5
//! to 10 to find it.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::hash::BuildHasher;
use std::mem;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};

use crate::model::{Ban, BanOrigin, BanTerms, Mode, Offender, Port, Span, Timestamp};

/// Who is banned. An offender has at most one ban from each jail.
#[derive(Debug, Default)]
pub(super) struct Bans {
    /// Free ones are `None`.
    slots: Vec<Option<Ban>>,
    free: Vec<u32>,
    /// The slots, by offender; one with several bans is in it as often.
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// When to look whether the ban in a slot has ended; one that was lifted or replaced leaves its entry behind.
    ends: BinaryHeap<Reverse<End>>,
    /// The terms of bans, and how many have each.
    terms: HashMap<Arc<BanTerms>, usize>,
    /// How many are only observed.
    observed: usize,
    /// Families (whether it is IPv6) and lengths of the prefixes that were banned as such.
    wide: BTreeSet<(bool, u8)>,
    /// Ineffective bans, by offender, with their beginnings.
    in_vain: BTreeSet<(Timestamp, Offender)>,
}

/// A slot, and when to look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct End {
    /// Microseconds, in halves: whole ones would take 16 bytes with the slot.
    high: i32,
    low: u32,
    slot: u32,
}

impl End {
    fn new(at: Timestamp, slot: u32) -> Self {
        let micros = at.as_micros();
        Self { high: (micros >> 32) as i32, low: micros as u32, slot }
    }

    fn at(self) -> Timestamp {
        Timestamp::from_micros(i64::from(self.high) << 32 | i64::from(self.low))
    }
}

/// After so long no line is left that a server wrote late about what was before the ban: OpenSSH waits 2 minutes for a
/// login that has begun (`LoginGraceTime`).
const LATE: Span = Span::from_secs(300);
/// Ineffective bans that are remembered, so that each is reported once; the oldest goes first.
const MOST_IN_VAIN: usize = 10_000;
/// Entries of bans that were lifted or replaced, besides as many as there are bans, before they are thrown away.
const LEFT_OVER: usize = 1024;

impl Bans {
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// Makes room for so many more.
    pub(super) fn reserve(&mut self, more: usize) {
        let (slots, hasher) = (&self.slots, &self.hasher);
        self.index.reserve(more, |at| hash_in(slots, hasher, *at));
        self.slots.reserve(more);
        self.ends.reserve(more);
    }

    /// How many are only observed.
    pub(super) fn observed(&self) -> usize {
        self.observed
    }

    /// The terms of all bans, and how many have each.
    pub(super) fn terms(&self) -> impl Iterator<Item = (&BanTerms, usize)> {
        self.terms.iter().map(|(terms, bans)| (&**terms, *bans))
    }

    /// All bans, in no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Ban> {
        self.slots.iter().flatten()
    }

    /// The bans in so many slots from this one on, and the slot after them if there is one. A ban stays in its slot.
    pub(super) fn slots_from(
        &self,
        first: usize,
        most: usize,
    ) -> (impl Iterator<Item = &Ban>, Option<usize>) {
        let end = self.slots.len().min(first.saturating_add(most));
        let slots = self.slots.get(first..end).unwrap_or_default();
        (slots.iter().flatten(), (end < self.slots.len()).then_some(end))
    }

    /// The bans on this offender.
    pub(super) fn on(&self, offender: Offender) -> impl Iterator<Item = &Ban> {
        let slots = self.index.iter_hash(self.hasher.hash_one(offender));
        slots.filter_map(|at| self.ban(*at)).filter(move |ban| ban.offender == offender)
    }

    fn ban(&self, slot: u32) -> Option<&Ban> {
        self.slots.get(slot as usize)?.as_ref()
    }

    /// The slots of the bans on this offender that are such.
    fn slots_on(&self, offender: Offender, is_such: impl Fn(&Ban) -> bool) -> Vec<u32> {
        let is_one = |at: &u32| self.ban(*at).is_some_and(|ban| ban.offender == offender && is_such(ban));
        self.index.iter_hash(self.hasher.hash_one(offender)).copied().filter(is_one).collect()
    }

    /// Takes the bans out of these slots.
    fn take(&mut self, slots: Vec<u32>) -> Vec<Ban> {
        slots.into_iter().filter_map(|slot| self.take_one(slot)).collect()
    }

    fn take_one(&mut self, slot: u32) -> Option<Ban> {
        let ban = self.slots.get_mut(slot as usize)?.take()?;
        let hash = self.hasher.hash_one(ban.offender);
        if let Ok(entry) = self.index.find_entry(hash, |at| *at == slot) {
            entry.remove();
        }
        self.free.push(slot);
        self.observed -= usize::from(ban.mode == Mode::Observe);
        if let Some(bans) = self.terms.get_mut(&ban.terms) {
            *bans -= 1;
            if *bans == 0 {
                self.terms.remove(&ban.terms);
            }
        }
        Some(ban)
    }

    /// The bans on this offender and on all inside it.
    pub(super) fn inside(&self, wide: Offender) -> impl Iterator<Item = &Ban> {
        self.iter().filter(move |ban| wide.contains(ban.offender))
    }

    /// This jail's ban on the offender.
    pub(super) fn of(&self, offender: Offender, jail: &str) -> Option<&Ban> {
        self.on(offender).find(|ban| *ban.jail == *jail)
    }

    /// Whether this jail bans the offender.
    pub(super) fn holds(&self, offender: Offender, jail: &str) -> bool {
        self.of(offender, jail).is_some()
    }

    /// Whether a ban of a prefix shuts the offender out of all these ports; none are all. Looks once for each length that
    /// such prefixes had.
    pub(super) fn shuts_around(&self, offender: Offender, ports: &[Port]) -> bool {
        let family = offender.address().is_ipv6();
        let shuts = |ban: &Ban| {
            ban.kind == BanOrigin::Wide
                && (ban.ports.is_empty()
                    || (!ports.is_empty() && ports.iter().all(|port| ban.ports.contains(port))))
        };
        let lengths = self.wide.range((family, 0)..=(family, offender.prefix()));
        lengths
            .filter_map(|(_, length)| Offender::new(offender.address(), *length))
            .any(|around| self.on(around).any(shuts))
    }

    /// Whether an offence at `at` says that this jail's ban does not keep the offender out; true but once for each ban.
    pub(super) fn is_in_vain(&mut self, offender: Offender, jail: &str, at: Timestamp) -> bool {
        let Some(since) = self.of(offender, jail).map(|ban| ban.since) else { return false };
        if at <= since + LATE || !self.in_vain.insert((since, offender)) {
            return false;
        }
        if self.in_vain.len() > MOST_IN_VAIN {
            self.in_vain.pop_first();
        }
        true
    }

    /// Takes out all bans of this mode on this offender; none where one is an operator's, which shares its elements with
    /// the others.
    pub(super) fn fold(&mut self, offender: Offender, mode: Mode) -> Vec<Ban> {
        if self.on(offender).any(|ban| ban.kind == BanOrigin::Manual) {
            return Vec::new();
        }
        let folded = self.slots_on(offender, |ban| ban.mode == mode);
        self.take(folded)
    }

    /// Puts a ban in force, in place of an earlier one of the same jail.
    ///
    /// A ban never shortens one of another jail on a port that both shut, for in the kernel they are one element: it
    /// lasts at least as long as that. One that is only observed is not in the kernel, and has nothing to do with others.
    /// What comes back is the ban as it is in force.
    pub(super) fn insert(&mut self, mut ban: Ban) -> Ban {
        let shares = |other: &Ban| {
            [ban.mode, other.mode] == [Mode::Enforce; 2]
                // Those of other hosts end when these say: who carries bans out has the longest.
                && ![ban.kind, other.kind].contains(&BanOrigin::Peer)
                && (other.ports == ban.ports || other.ports.iter().any(|port| ban.ports.contains(port)))
        };
        let others = self.on(ban.offender).filter(|other| other.jail != ban.jail && shares(other));
        let until = others.map(|other| other.until).fold(ban.until, |mine, others| {
            let (mine, others) = (mine?, others?);
            Some(mine.max(others))
        });
        ban.until = until;
        if ban.kind == BanOrigin::Wide {
            self.wide.insert((ban.offender.address().is_ipv6(), ban.offender.prefix()));
        }
        for slot in self.slots_on(ban.offender, |other| other.jail == ban.jail) {
            self.take_one(slot);
        }
        match self.terms.get_key_value(&ban.terms) {
            Some((terms, _)) if !Arc::ptr_eq(terms, &ban.terms) => ban.terms = Arc::clone(terms),
            _ => {}
        }
        *self.terms.entry_ref(&ban.terms).or_default() += 1;
        self.observed += usize::from(ban.mode == Mode::Observe);
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        if let Some(free) = self.slots.get_mut(slot as usize) {
            *free = Some(ban.clone());
        }
        let (slots, hasher) = (&self.slots, &self.hasher);
        let hash = |at: &u32| hash_in(slots, hasher, *at);
        self.index.insert_unique(hasher.hash_one(ban.offender), slot, hash);
        if let Some(until) = ban.until {
            if self.ends.len() > 2 * self.index.len() + LEFT_OVER {
                self.find_ends();
            }
            self.ends.push(Reverse(End::new(until, slot)));
        }
        ban
    }

    /// Looks when which ban ends.
    fn find_ends(&mut self) {
        let ends = |(at, ban): (u32, &Option<Ban>)| Some(Reverse(End::new(ban.as_ref()?.until?, at)));
        self.ends = (0..).zip(&self.slots).filter_map(ends).collect();
    }

    /// Dates all bans earlier by this much.
    pub(super) fn shift_back(&mut self, by: Span) {
        self.slots.iter_mut().flatten().for_each(|ban| ban.shift_back(by));
        self.find_ends();
        self.in_vain = mem::take(&mut self.in_vain).into_iter().map(|(at, who)| (at - by, who)).collect();
    }

    /// Lifts all bans on offenders inside `target`, and returns them. Looks at every ban.
    pub(super) fn lift(&mut self, target: Offender) -> Vec<Ban> {
        let inside = |(at, ban): (u32, &Option<Ban>)| {
            ban.as_ref().is_some_and(|ban| target.contains(ban.offender)).then_some(at)
        };
        let inside = (0..).zip(&self.slots).filter_map(inside).collect();
        self.take(inside)
    }

    /// Lifts all bans on exactly this offender, and returns them.
    pub(super) fn lift_from(&mut self, offender: Offender) -> Vec<Ban> {
        let lifted = self.slots_on(offender, |_| true);
        self.take(lifted)
    }

    /// Lifts the ban of one jail on this offender.
    pub(super) fn remove(&mut self, offender: Offender, jail: &str) -> Option<Ban> {
        let slot = self.slots_on(offender, |ban| *ban.jail == *jail).pop()?;
        self.take_one(slot)
    }

    /// Lifts all bans.
    pub(super) fn lift_all(&mut self) -> Vec<Ban> {
        self.ends = BinaryHeap::new();
        self.free = Vec::new();
        self.index = HashTable::new();
        self.terms = HashMap::new();
        self.observed = 0;
        mem::take(&mut self.slots).into_iter().flatten().collect()
    }

    /// Forgets the bans that have ended at `now`, and returns them.
    pub(super) fn end(&mut self, now: Timestamp) -> Vec<Ban> {
        let mut ended = Vec::new();
        while self.ends.peek().is_some_and(|Reverse(end)| end.at() <= now) {
            let Some(Reverse(End { slot, .. })) = self.ends.pop() else { break };
            if self.ban(slot).is_some_and(|ban| ban.until.is_some_and(|until| until <= now)) {
                ended.extend(self.take_one(slot));
            }
        }
        ended
    }
}

/// The hash of the offender in a slot.
fn hash_in(slots: &[Option<Ban>], hasher: &DefaultHashBuilder, at: u32) -> u64 {
    let ban = slots.get(at as usize).and_then(Option::as_ref);
    ban.map_or(0, |ban| hasher.hash_one(ban.offender))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::detect::manual;

    /// A ban of one of a few offenders by one of a few jails.
    fn ban(who: u8, jail: u8, until: u8) -> Ban {
        let until = (until < 50).then(|| Timestamp::from_secs(until.into()));
        let offender = format!("192.0.2.{}", who % 4).parse().unwrap();
        manual(offender, Timestamp::default(), until, "").with(|terms| {
            terms.jail = format!("j{}", jail % 3).into();
            // Of several jails that shut the same ports, the longest ban counts, which is not the point here.
            terms.ports =
                [Port { protocol: crate::model::Protocol::Tcp, number: u16::from(jail % 3) + 1 }].into();
            terms.mode = if jail < 128 { Mode::Enforce } else { Mode::Observe };
        })
    }

    fn sorted(mut bans: Vec<Ban>) -> Vec<Ban> {
        bans.sort_unstable_by(|one, other| (one.offender, &one.jail).cmp(&(other.offender, &other.jail)));
        bans
    }

    proptest! {
        #[test]
        fn are_a_naive_list(steps in proptest::collection::vec((0..9_u8, any::<u8>(), any::<u8>(), 0..60_u8), 1..200)) {
            let (mut bans, mut naive) = (Bans::default(), Vec::<Ban>::new());
            for (step, who, jail, at) in steps {
                let one = ban(who, jail, at);
                let (offender, now) = (one.offender, Timestamp::from_secs(at.into()));
                let mut taken = |is_one: &dyn Fn(&Ban) -> bool| naive.extract_if(.., |ban| is_one(ban)).collect::<Vec<_>>();
                let is_same = |ban: &Ban| ban.offender == offender && ban.jail == one.jail;
                let (got, want) = match step {
                    0..5 => {
                        taken(&is_same);
                        naive.push(one.clone());
                        (vec![bans.insert(one.clone())], vec![one])
                    }
                    5 => (bans.remove(offender, &one.jail).into_iter().collect(), taken(&is_same)),
                    6 => (bans.lift_from(offender), taken(&|ban| ban.offender == offender)),
                    7 => (bans.end(now), taken(&|ban| ban.until.is_some_and(|until| until <= now))),
                    _ if at < 3 => (bans.lift_all(), taken(&|_| true)),
                    _ => (bans.lift(offender), taken(&|ban| ban.offender == offender)),
                };
                prop_assert_eq!(sorted(got), sorted(want));
                prop_assert_eq!(bans.len(), naive.len());
                let observed = naive.iter().filter(|ban| ban.mode == Mode::Observe).count();
                prop_assert_eq!(bans.observed(), observed);
                prop_assert_eq!(sorted(bans.iter().cloned().collect()), sorted(naive.clone()));
                prop_assert_eq!(bans.terms().map(|(_, bans)| bans).sum::<usize>(), naive.len());
                for ban in &naive {
                    prop_assert_eq!(bans.of(ban.offender, &ban.jail), Some(ban));
                }
            }
        }
    }
}
