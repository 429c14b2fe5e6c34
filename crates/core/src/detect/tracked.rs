//! A table for what nearly each offence looks up. Where it is full, its owner has it forget entries that were not seen lately.
//!
//! [`Recent`](super::recent::Recent) knows in which order its entries were seen, and so changes three of them for each
//! look-up, which the processor has to fetch from memory. Here an entry that is seen again is marked, and nothing else. Where
//! room is needed, a hand goes round over the entries, takes marks away, and stops at the first entry without one.

use std::hash::{BuildHasher, Hash};
use std::mem;

use hashbrown::{DefaultHashBuilder, HashTable};

/// Entries, each in a slot.
#[derive(Debug)]
pub(super) struct Tracked<K, V> {
    hasher: DefaultHashBuilder,
    index: HashTable<u32>,
    slots: Vec<TrackedSlot<K, V>>,
    free: Vec<u32>,
    /// The slot that is looked at next where room is needed.
    hand: u32,
}

#[derive(Debug)]
struct TrackedSlot<K, V> {
    key: K,
    value: V,
    mark: SlotMark,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SlotMark {
    /// There is no entry.
    Free,
    Idle,
    /// The entry was seen again since the hand was here.
    Seen,
}

impl<K: Hash + Eq + Copy, V: Default> Tracked<K, V> {
    /// A table of no entries.
    pub(super) fn new() -> Self {
        let (hasher, index) = (DefaultHashBuilder::default(), HashTable::new());
        Self { hasher, index, slots: Vec::new(), free: Vec::new(), hand: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// What the entry holds, made if it is not there, and whether it is new. Constant time.
    pub(super) fn see(&mut self, key: K) -> (&mut V, bool) {
        let hash = self.hasher.hash_one(key);
        let found = self.find(&key, hash);
        let at = found.unwrap_or_else(|| self.insert(key, hash));
        // `at` came from the index or was just filled, so the slot is there.
        #[allow(clippy::indexing_slicing)]
        let slot = &mut self.slots[at as usize];
        if found.is_some() {
            slot.mark = SlotMark::Seen;
        }
        (&mut slot.value, found.is_none())
    }

    /// What an entry holds, if it is there. That does not count as seen.
    pub(super) fn get(&self, key: &K) -> Option<&V> {
        let at = self.find(key, self.hasher.hash_one(key))?;
        Some(&self.slots.get(at as usize)?.value)
    }

    /// Forgets an entry; what it held.
    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let hash = self.hasher.hash_one(key);
        let same = |at: &u32| self.slots.get(*at as usize).is_some_and(|slot| slot.key == *key);
        let (at, _) = self.index.find_entry(hash, same).ok()?.remove();
        self.free.push(at);
        let slot = self.slots.get_mut(at as usize)?;
        slot.mark = SlotMark::Free;
        Some(mem::take(&mut slot.value))
    }

    /// Forgets an entry that was not seen lately, if there is one; what it held. Takes constant time for each entry that was
    /// seen.
    pub(super) fn forget_one(&mut self) -> Option<V> {
        // Once round, the marks are gone.
        for _ in 0..=2 * self.slots.len() {
            let at = self.next_slot();
            let slot = self.slots.get_mut(at as usize)?;
            match slot.mark {
                SlotMark::Free => {}
                SlotMark::Seen => slot.mark = SlotMark::Idle,
                SlotMark::Idle => {
                    let key = slot.key;
                    return self.remove(&key);
                }
            }
        }
        None
    }

    /// Has the hand look at two more slots, and forgets the entries in them that are over: where as many are over as come, they
    /// take no more than twice the room of the others.
    pub(super) fn forget_over(&mut self, is_over: impl Fn(&V) -> bool) {
        for _ in 0..2 {
            let at = self.next_slot();
            let over = self
                .slots
                .get(at as usize)
                .filter(|slot| slot.mark != SlotMark::Free && is_over(&slot.value));
            if let Some(key) = over.map(|slot| slot.key) {
                self.remove(&key);
            }
        }
    }

    /// The slot that the hand is at, which goes on.
    fn next_slot(&mut self) -> u32 {
        let next = if (self.hand as usize) + 1 < self.slots.len() { self.hand + 1 } else { 0 };
        mem::replace(&mut self.hand, next)
    }

    /// The entries, as the hand will meet them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let (behind, first) = self.slots.split_at_checked(self.hand as usize).unwrap_or_default();
        let all = first.iter().chain(behind);
        all.filter(|slot| slot.mark != SlotMark::Free).map(|slot| (&slot.key, &slot.value))
    }

    /// What the entries hold, and what those held that are forgotten; in no particular order.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.slots.iter_mut().map(|slot| &mut slot.value)
    }

    fn find(&self, key: &K, hash: u64) -> Option<u32> {
        let same = |at: &u32| self.slots.get(*at as usize).is_some_and(|slot| slot.key == *key);
        self.index.find(hash, same).copied()
    }

    fn insert(&mut self, key: K, hash: u64) -> u32 {
        let slot = TrackedSlot { key, value: V::default(), mark: SlotMark::Idle };
        let at = self.free.pop().unwrap_or(self.slots.len() as u32);
        match self.slots.get_mut(at as usize) {
            Some(free) => *free = slot,
            None => self.slots.push(slot),
        }
        let (slots, hasher) = (&self.slots, &self.hasher);
        let hash_of = |at: &u32| slots.get(*at as usize).map_or(0, |slot| hasher.hash_one(slot.key));
        self.index.insert_unique(hash, at, hash_of);
        at
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The keys left of three at most after these were seen, as the hand will meet them.
    #[track_caller]
    fn check(seen: &[u32], want: &[u32]) {
        let mut table = Tracked::<u32, ()>::new();
        for key in seen {
            table.see(*key);
            if table.len() > 3 {
                table.forget_one();
            }
        }
        assert_eq!(table.iter().map(|(key, ())| *key).collect::<Vec<_>>(), want);
    }

    #[test]
    fn one_not_seen_lately_makes_room() {
        check(&[], &[]);
        check(&[1, 2, 3], &[1, 2, 3]);
        check(&[1, 2, 3, 4], &[2, 3, 4]);
        check(&[1, 2, 3, 4, 5, 6, 7], &[5, 6, 7]);
        check(&[1, 2, 3, 1, 4], &[3, 4, 1]);
        check(&[1, 2, 3, 1, 2, 4, 5], &[1, 2, 5]);
        check(&[1, 1, 1], &[1]);
    }

    #[test]
    fn what_is_over_is_soon_forgotten() {
        let mut table = Tracked::<u32, u32>::new();
        for now in 0..1000 {
            *table.see(now).0 = now;
            table.forget_over(|seen| seen + 100 < now);
        }
        assert!(table.len() < 250, "{}", table.len());
        assert!((900..1000).all(|key| table.get(&key).is_some()));
    }

    #[test]
    fn a_slot_is_used_again() {
        let mut table = Tracked::<u32, u8>::new();
        table.forget_one();
        *table.see(1).0 = 7;
        table.see(2);
        assert_eq!((table.remove(&1), table.remove(&1)), (Some(7), None));
        assert_eq!(table.len(), 1);
        let (value, is_new) = table.see(3);
        assert_eq!((*value, is_new), (0, true));
        assert_eq!(table.slots.len(), 2);
    }

    proptest! {
        /// Only those are gone that were removed or forgotten, and each holds what was put there last.
        #[test]
        fn is_a_naive_map(steps in prop::collection::vec((0..9_u8, 0..20_u32), 1..200)) {
            let (mut table, mut naive) = (Tracked::<u32, u32>::new(), std::collections::BTreeMap::new());
            for (nth, (step, key)) in (1..).zip(steps) {
                if step == 0 {
                    prop_assert_eq!(table.remove(&key), naive.remove(&key));
                } else {
                    let (value, is_new) = table.see(key);
                    prop_assert_eq!((!is_new).then_some(*value), naive.insert(key, nth));
                    *value = nth;
                }
                if table.len() > 8 {
                    let forgotten = table.forget_one();
                    let gone: Vec<u32> = naive.extract_if(.., |key, _| table.get(key).is_none()).map(|(_, value)| value).collect();
                    prop_assert_eq!(gone, forgotten.into_iter().collect::<Vec<_>>());
                }
                let held: std::collections::BTreeMap<u32, u32> = table.iter().map(|(key, value)| (*key, *value)).collect();
                prop_assert_eq!((&held, table.len()), (&naive, naive.len()));
            }
        }
    }
}
