//! A table of elements and how long each is wanted: 32 bytes for each, and 5 to 10 to find it.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::kernel::change::Element;
use crate::model::Timestamp;

/// The elements, each once, in no particular order.
#[derive(Debug, Default)]
pub(super) struct Elements {
    rows: Vec<Desired>,
    /// The rows, by element.
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

/// An element that the kernel is to hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Desired {
    pub(super) element: Element,
    /// The kernel has no room for it.
    pub(super) pending: bool,
    /// [`HELD`] and [`TOLD`].
    marks: u8,
    until: Timestamp,
}

/// The kernel was found to hold it by the comparison that is under way.
pub(super) const HELD: u8 = 1;
/// A ban wants it, of those that are being told again.
pub(super) const TOLD: u8 = 2;

impl Desired {
    pub(super) fn new(element: Element, until: Option<Timestamp>) -> Self {
        Self { element, pending: false, marks: TOLD, until: until.unwrap_or(Timestamp::MAX) }
    }

    pub(super) fn has(&self, mark: u8) -> bool {
        self.marks & mark != 0
    }

    pub(super) fn mark(&mut self, mark: u8) {
        self.marks |= mark;
    }

    /// Takes a mark away; whether it was there.
    pub(super) fn unmark(&mut self, mark: u8) -> bool {
        let was = self.has(mark);
        self.marks &= !mark;
        was
    }

    /// Until when; forever if `None`.
    pub(super) fn until(&self) -> Option<Timestamp> {
        (self.until != Timestamp::MAX).then_some(self.until)
    }

    pub(super) fn set_until(&mut self, until: Option<Timestamp>) {
        self.until = until.unwrap_or(Timestamp::MAX);
    }
}

impl Elements {
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn reserve(&mut self, more: usize) {
        let (rows, hasher) = (&self.rows, &self.hasher);
        self.index.reserve(more, |at| rows.get(*at as usize).map_or(0, |row| hasher.hash_one(row.element)));
        self.rows.reserve(more);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Desired> {
        self.rows.iter()
    }

    /// No element may be changed.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Desired> {
        self.rows.iter_mut()
    }

    fn find(&self, element: &Element) -> Option<usize> {
        self.find_by(self.hasher.hash_one(element), element)
    }

    fn find_by(&self, hash: u64, element: &Element) -> Option<usize> {
        let is_it = |at: &u32| self.rows.get(*at as usize).is_some_and(|row| row.element == *element);
        self.index.find(hash, is_it).map(|at| *at as usize)
    }

    pub(super) fn get(&self, element: &Element) -> Option<&Desired> {
        self.rows.get(self.find(element)?)
    }

    pub(super) fn get_mut(&mut self, element: &Element) -> Option<&mut Desired> {
        let at = self.find(element)?;
        self.rows.get_mut(at)
    }

    /// Puts a row in, in place of one of the same element.
    pub(super) fn insert(&mut self, row: Desired) {
        let hash = self.hasher.hash_one(row.element);
        if let Some(known) = self.find_by(hash, &row.element).and_then(|at| self.rows.get_mut(at)) {
            *known = row;
            return;
        }
        let (at, rows, hasher) = (self.rows.len() as u32, &self.rows, &self.hasher);
        let hash_of = |at: &u32| rows.get(*at as usize).map_or(0, |row| hasher.hash_one(row.element));
        self.index.insert_unique(hash, at, hash_of);
        self.rows.push(row);
    }

    pub(super) fn remove(&mut self, element: &Element) {
        if let Some(at) = self.find(element) {
            self.remove_at(at);
        }
    }

    /// The last row takes the place.
    fn remove_at(&mut self, at: usize) {
        let last = self.rows.len() - 1;
        let gone = self.rows.swap_remove(at);
        if let Ok(entry) = self.index.find_entry(self.hasher.hash_one(gone.element), |it| *it as usize == at)
        {
            entry.remove();
        }
        if let Some(moved) = self.rows.get(at) {
            let hash = self.hasher.hash_one(moved.element);
            if let Some(number) = self.index.find_mut(hash, |it| *it as usize == last) {
                *number = at as u32;
            }
        }
    }

    /// Removes those of which this is not so; looks at each once.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&Desired) -> bool) {
        let mut at = 0;
        while let Some(row) = self.rows.get(at) {
            if keep(row) {
                at += 1;
            } else {
                self.remove_at(at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn are_a_naive_map(steps in proptest::collection::vec((0..4_u8, 0..30_u8, 0..30_i64), 1..300)) {
            let (mut elements, mut naive) = (Elements::default(), BTreeMap::new());
            for (step, last, at) in steps {
                let element = Element { offender: format!("192.0.2.{last}").parse().unwrap(), port: None };
                let until = (at < 25).then(|| Timestamp::from_secs(at));
                match step {
                    0 | 1 => {
                        elements.insert(Desired::new(element, until));
                        naive.insert(element, until);
                    }
                    2 => {
                        elements.remove(&element);
                        naive.remove(&element);
                    }
                    _ => {
                        elements.retain(|row| row.until() > until);
                        naive.retain(|_, known| *known > until);
                    }
                }
                let all: BTreeMap<_, _> = elements.iter().map(|row| (row.element, row.until())).collect();
                prop_assert_eq!((&all, elements.len()), (&naive, naive.len()));
                for (element, until) in &naive {
                    prop_assert_eq!(elements.get_mut(element).map(|row| row.until()), Some(*until));
                }
            }
        }
    }
}
