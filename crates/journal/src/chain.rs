//! Entries in the order in which they were written: all of a file, or those that have a certain field.
//!
//! They stand in arrays, each about twice as large as the one before, which are linked. New arrays are made at the end
//! of a file, so the links go forward and arrays do not overlap; a link that does not ends the chain.

use crate::format::{ARRAY_HEADER, Header, u32_at, u64_at};
use crate::objects::{Data, JournalEntry, Objects};

/// The most arrays of a chain. As they double, 40 hold what fits into any file.
const ARRAYS: usize = 1024;

#[derive(Clone, Debug, Default)]
pub(crate) struct EntryChain {
    /// The first entry, where it stands in no array.
    first: Option<u64>,
    /// The first array.
    head: u64,
    /// How many entries there are to be.
    pub(crate) entries: u64,
    arrays: Vec<Array>,
    /// Whether a search met something that could not be read, so that its result may be too small.
    pub(crate) is_unsure: bool,
}

#[derive(Clone, Copy, Debug)]
struct Array {
    offset: u64,
    /// Where the next one may begin.
    end: u64,
    /// The number of its first entry, and of the one after its last.
    begins: u64,
    ends: u64,
}

impl EntryChain {
    /// All entries of a file.
    pub(crate) fn of_file(header: &Header) -> Self {
        Self { head: header.entry_array, entries: header.entries, ..Self::default() }
    }

    /// The entries with a field.
    pub(crate) fn of_data(data: &Data) -> Self {
        Self { first: Some(data.entry), head: data.entry_array, entries: data.entries, ..Self::default() }
    }

    /// More entries have come; the arrays may reach further than before if the file does.
    pub(crate) fn grow(&mut self, header: &Header, is_longer: bool) {
        if is_longer || self.arrays.is_empty() {
            (self.head, self.arrays) = (header.entry_array, Vec::new());
        }
        self.entries = header.entries;
    }

    /// How many entries there are places for, no more than there are to be.
    pub(crate) fn places(&mut self, objects: &mut Objects) -> u64 {
        let first = u64::from(self.first.is_some());
        let mut places = self.arrays.last().map_or(0, |last| last.ends).saturating_add(first);
        while places < self.entries && self.extend(objects).is_some() {
            places = self.arrays.last().map_or(0, |last| last.ends).saturating_add(first);
        }
        places.min(self.entries)
    }

    /// The offset of an entry, or anything else where the array is damaged. `None` if there is no such place.
    pub(crate) fn offset(&mut self, objects: &mut Objects, index: u64) -> Option<u64> {
        if index >= self.entries {
            return None;
        }
        let index = match self.first {
            Some(first) if index == 0 => return Some(first),
            Some(_) => index - 1,
            None => index,
        };
        let array = match self.arrays.last() {
            // Mostly it is the last one.
            Some(last) if (last.begins..last.ends).contains(&index) => *last,
            _ => self.array(objects, index)?,
        };
        let width = objects.header.array_item();
        let at = array.offset + ARRAY_HEADER as u64 + (index - array.begins) * width as u64;
        let item = objects.bytes(at, width)?;
        match width {
            4 => u32_at(item, 0).map(u64::from),
            _ => u64_at(item, 0),
        }
    }

    /// The array that has this number.
    fn array(&mut self, objects: &mut Objects, index: u64) -> Option<Array> {
        while self.arrays.last().is_none_or(|last| last.ends <= index) {
            self.extend(objects)?;
        }
        let after = self.arrays.partition_point(|array| array.begins <= index);
        self.arrays.get(after.checked_sub(1)?).copied()
    }

    /// Finds the next array.
    fn extend(&mut self, objects: &mut Objects) -> Option<()> {
        if self.arrays.len() >= ARRAYS {
            return None;
        }
        let (offset, least, begins) = match self.arrays.last() {
            None => (self.head, 0, 0),
            Some(last) => (u64_at(objects.bytes(last.offset + 16, 8)?, 0)?, last.end, last.ends),
        };
        let size = objects.array(offset).filter(|_| offset >= least)?;
        let items = offset.checked_add(ARRAY_HEADER as u64)?;
        let end = offset.checked_add(size)?;
        // It may say that it is longer than the file.
        let capacity = end.min(objects.length).checked_sub(items)? / objects.header.array_item() as u64;
        if capacity == 0 {
            return None;
        }
        self.arrays.push(Array { offset, end, begins, ends: begins + capacity });
        Some(())
    }

    /// The number of the first entry that is not `before`, where all that are stand first. A damaged one counts as not.
    pub(crate) fn partition(&mut self, objects: &mut Objects, before: impl Fn(&JournalEntry) -> bool) -> u64 {
        self.search(objects, |objects, offset| objects.entry(offset).map(|entry| before(&entry)))
    }

    /// The number of the first entry at this offset or behind it.
    pub(crate) fn at_offset(&mut self, objects: &mut Objects, least: u64) -> u64 {
        self.search(objects, |_, offset| (offset > 0).then_some(offset < least))
    }

    fn search(&mut self, objects: &mut Objects, before: impl Fn(&mut Objects, u64) -> Option<bool>) -> u64 {
        let (mut low, mut high) = (0, self.entries);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.offset(objects, middle).and_then(|offset| before(objects, offset)) {
                Some(true) => low = middle + 1,
                Some(false) => high = middle,
                None => (high, self.is_unsure) = (middle, true),
            }
        }
        low
    }
}
