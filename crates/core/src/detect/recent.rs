//! A table with a fixed limit: the least recently seen entry makes room for a new one.
//!
//! It holds everything that attackers can make the detector remember: the owner of an IPv6 /32 could otherwise fill our
//! memory.

use std::hash::{BuildHasher, Hash};

use hashbrown::{DefaultHashBuilder, HashTable};

/// At most `limit` entries, each in a slot that keeps its number while the entry is there.
#[derive(Debug)]
pub(crate) struct Recent<K, V> {
    limit: usize,
    hasher: DefaultHashBuilder,
    index: HashTable<u32>,
    slots: Vec<Slot<K, V>>,
    /// The first of the free slots, which are chained by `older`.
    free: u32,
    newest: u32,
    oldest: u32,
}

#[derive(Debug)]
struct Slot<K, V> {
    key: K,
    value: V,
    newer: u32,
    older: u32,
}

/// What a slot number says where there is no slot.
const NONE: u32 = u32::MAX;

impl<K: Hash + Eq + Copy, V: Default> Recent<K, V> {
    /// A table of at most `limit` entries, and at least one. Memory grows with the entries, not with the limit.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit: limit.clamp(1, NONE as usize - 1),
            hasher: DefaultHashBuilder::default(),
            index: HashTable::new(),
            slots: Vec::new(),
            free: NONE,
            newest: NONE,
            oldest: NONE,
        }
    }

    /// Holds to another limit from now on; what is over it goes one by one as new entries come.
    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.limit = limit.clamp(1, NONE as usize - 1);
    }

    /// The entry's slot and value, made if it is not there, and now the newest; true if an older one was
    /// forgotten to make room. Constant time.
    pub(crate) fn touch(&mut self, key: K) -> (u32, &mut V, bool) {
        let hash = self.hasher.hash_one(key);
        let (at, evicted) = match self.find(&key, hash) {
            // Often several lines in a row are about one.
            Some(at) if at == self.newest => (at, false),
            Some(at) => {
                self.unlink(at);
                self.link_newest(at);
                (at, false)
            }
            None => {
                let (at, evicted) = self.insert(key, hash);
                self.link_newest(at);
                (at, evicted)
            }
        };
        // `at` came from the index or was just pushed, so the slot is there.
        #[allow(clippy::indexing_slicing)]
        (at, &mut self.slots[at as usize].value, evicted)
    }

    /// The slot of an entry and what it holds, if it is there. That does not count as seen.
    pub(crate) fn slot(&self, key: &K) -> Option<(u32, &V)> {
        self.find(key, self.hasher.hash_one(key))
            .and_then(|at| Some((at, &self.slots.get(at as usize)?.value)))
    }

    /// Forgets an entry.
    pub(crate) fn remove(&mut self, key: &K) {
        let hash = self.hasher.hash_one(key);
        let same = |at: &u32| self.slots.get(*at as usize).is_some_and(|slot| slot.key == *key);
        if let Ok(entry) = self.index.find_entry(hash, same) {
            let (at, _) = entry.remove();
            self.release(at);
        }
    }

    /// The entries, the newest first.
    pub(crate) fn newest_first(&self) -> impl Iterator<Item = (&K, &V)> {
        let slot = |at: u32| self.slots.get(at as usize);
        std::iter::successors(slot(self.newest), move |newer| slot(newer.older))
            .map(|slot| (&slot.key, &slot.value))
    }

    /// What the entries hold, and what those held that are forgotten; in no particular order.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.slots.iter_mut().map(|slot| &mut slot.value)
    }

    fn find(&self, key: &K, hash: u64) -> Option<u32> {
        let same = |at: &u32| self.slots.get(*at as usize).is_some_and(|slot| slot.key == *key);
        self.index.find(hash, same).copied()
    }

    fn insert(&mut self, key: K, hash: u64) -> (u32, bool) {
        let evicted = self.index.len() >= self.limit;
        if evicted && let Some(oldest) = self.slots.get(self.oldest as usize).map(|slot| slot.key) {
            self.remove(&oldest);
        }
        let slot = Slot { key, value: V::default(), newer: NONE, older: NONE };
        let at = match self.slots.get_mut(self.free as usize) {
            Some(free) => {
                let at = self.free;
                self.free = free.older;
                *free = slot;
                at
            }
            None => {
                self.slots.push(slot);
                self.slots.len() as u32 - 1
            }
        };
        let (slots, hasher) = (&self.slots, &self.hasher);
        let hash_of = |at: &u32| slots.get(*at as usize).map_or(0, |slot| hasher.hash_one(slot.key));
        self.index.insert_unique(hash, at, hash_of);
        (at, evicted)
    }

    fn release(&mut self, at: u32) {
        self.unlink(at);
        let free = self.free;
        if let Some(slot) = self.slots.get_mut(at as usize) {
            slot.older = free;
            self.free = at;
        }
    }

    fn unlink(&mut self, at: u32) {
        let Some(&Slot { newer, older, .. }) = self.slots.get(at as usize) else { return };
        match self.slots.get_mut(newer as usize) {
            Some(slot) => slot.older = older,
            None => self.newest = older,
        }
        match self.slots.get_mut(older as usize) {
            Some(slot) => slot.newer = newer,
            None => self.oldest = newer,
        }
    }

    fn link_newest(&mut self, at: u32) {
        let before = std::mem::replace(&mut self.newest, at);
        match self.slots.get_mut(before as usize) {
            Some(slot) => slot.newer = at,
            None => self.oldest = at,
        }
        if let Some(slot) = self.slots.get_mut(at as usize) {
            (slot.newer, slot.older) = (NONE, before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The keys left in a table of three, the oldest first, after these were touched.
    #[track_caller]
    fn check(touched: &[u32], want: &[u32]) {
        let mut recent = Recent::<u32, ()>::new(3);
        for key in touched {
            recent.touch(*key);
        }
        let mut left: Vec<u32> = recent.newest_first().map(|(key, ())| *key).collect();
        left.reverse();
        assert_eq!(left, want);
    }

    #[test]
    fn the_one_longest_unseen_makes_room() {
        check(&[], &[]);
        check(&[1, 2, 3], &[1, 2, 3]);
        check(&[1, 2, 3, 4], &[2, 3, 4]);
        check(&[1, 2, 3, 1, 4], &[3, 1, 4]);
        check(&[1, 1, 1], &[1]);
    }

    #[test]
    fn a_slot_is_used_again() {
        let mut recent = Recent::<u32, u8>::new(3);
        let (first, value, _) = recent.touch(1);
        *value = 7;
        recent.touch(2);
        recent.remove(&1);
        recent.remove(&1);
        assert!(recent.slot(&1).is_none());
        let (again, value, evicted) = recent.touch(3);
        assert_eq!((again, *value, evicted), (first, 0, false));
    }
}
