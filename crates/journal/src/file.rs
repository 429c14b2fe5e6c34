//! One journal file, and the place in it up to which it was read.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use crate::chain::EntryChain;
use crate::cursor::Cursor;
use crate::fields::{FieldCache, Remembered};
use crate::filter::{Filter, Interest, Terms, Wanted};
use crate::hash::hash;
use crate::objects::{EntryItem, JournalEntry, Objects};

/// Entries that are left from which on a file is read through large windows.
const MANY: u64 = 256;

/// Entries from which on it is looked up which of a file match, and how many times as many as match there must be. To
/// find one by the index takes several reads, to pass one by takes 130 ns where the file is in memory.
const WORTH: u64 = 4096;
const SPARSE: u64 = 32;

/// Which way the journal is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Down,
    Up,
}

/// Where a file is to be read from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Position {
    Head,
    Tail,
    /// From the entry with this cursor on, or the nearest one there is.
    At(Cursor),
    /// From the one behind this entry on, whichever file that is in.
    Behind(JournalEntry),
}

/// A file that is read.
pub(crate) struct JournalFile {
    pub(crate) path: PathBuf,
    /// Its device and inode, so that it is known by another name, too.
    pub(crate) id: (u64, u64),
    /// Whether its name is gone.
    pub(crate) is_gone: bool,
    /// The next entry, if it was looked for and found.
    pub(crate) candidate: Option<JournalEntry>,
    /// When it was used last, by the reader's count.
    pub(crate) used: u64,
    objects: Objects,
    /// The entries of the file, or those that have the rarest of the fields that all are to have.
    chain: EntryChain,
    /// Which of them comes next, or going up, the one behind it; `None` before it was placed.
    next: Option<u64>,
    /// What of the entries matches, where that is little: each field's, with its next one's number and offset.
    index: Option<Vec<(EntryChain, u64, u64)>>,
    /// Whether something that was needed to find the place could not be read, as in a copy that is being made: then it is
    /// placed again when the file has changed.
    is_unsure: bool,
    /// Whether nothing was found up to the end, and the file has not changed since.
    is_dry: bool,
    /// The entry that was found last: the next one stands behind it, or before it going up.
    last: Option<u64>,
    terms: Terms,
    cache: FieldCache,
    /// The fields of the entry at this offset.
    items: (u64, Vec<EntryItem>),
    /// Those of them that are all that is needed, kept for their memory.
    brief: Vec<EntryItem>,
}

impl JournalFile {
    /// Opens a file; what is wrong with it where that is not possible.
    pub(crate) fn open(path: PathBuf, file: File, id: (u64, u64)) -> io::Result<Self> {
        let objects = Objects::open(file)?;
        Ok(Self {
            path,
            id,
            is_gone: false,
            candidate: None,
            used: 0,
            chain: EntryChain::of_file(&objects.header),
            objects,
            next: None,
            index: None,
            is_unsure: false,
            is_dry: false,
            last: None,
            terms: Terms::All,
            cache: FieldCache::default(),
            items: (0, Vec::new()),
            brief: Vec::new(),
        })
    }

    /// Looks whether there is more; whether that may be.
    pub(crate) fn refresh(&mut self) -> io::Result<bool> {
        if self.objects.is_final() {
            return Ok(false);
        }
        let (id, length) = (self.objects.header.file_id, self.objects.length);
        if !self.objects.refresh()? {
            return Ok(false);
        }
        if self.objects.header.file_id != id {
            return Err(io::Error::other("it was overwritten with another journal"));
        }
        if !matches!(self.terms, Terms::Every(_)) {
            self.chain.grow(&self.objects.header, self.objects.length != length);
        }
        self.is_dry = false;
        if self.is_unsure {
            self.unplace();
        }
        Ok(true)
    }

    /// Why something could not be read since this was asked last.
    pub(crate) fn error(&mut self) -> Option<io::Error> {
        self.objects.error()
    }

    /// Forgets the place, so that it is placed again.
    pub(crate) fn unplace(&mut self) {
        (self.next, self.candidate, self.last, self.is_dry) = (None, None, None, false);
        self.index = None;
    }

    pub(crate) fn is_placed(&self) -> bool {
        self.next.is_some()
    }

    /// Whether all there will ever be was read.
    pub(crate) fn is_done(&self) -> bool {
        self.candidate.is_none() && self.is_dry
    }

    /// What is searched for was changed.
    pub(crate) fn set_filter(&mut self) {
        self.cache.clear();
        self.unplace();
    }

    /// Gives back what memory it has for reading.
    pub(crate) fn cool(&mut self) {
        self.objects.cool();
        self.cache.clear();
        (self.items, self.brief) = ((0, Vec::new()), Vec::new());
        self.used = 0;
    }

    /// Goes to where reading begins.
    pub(crate) fn place(&mut self, position: &Position, direction: Direction, filter: &Filter) {
        self.unplace();
        self.objects.windows.is_bulk = false;
        let mut all = EntryChain::of_file(&self.objects.header);
        let begin = match (position, direction) {
            (Position::Head, _) => 0,
            (Position::Tail, _) => all.entries,
            (Position::At(cursor), _) => self.bound(&mut all, cursor, direction),
            (Position::Behind(entry), _) => self.bound(&mut all, &entry.cursor(), direction),
        };
        self.is_unsure = all.is_unsure;
        self.chain = all;
        self.terms = match filter {
            Filter::All => Terms::All,
            Filter::Any(fields) => Terms::any(fields.iter().map(|field| hash(&self.objects.header, field))),
            Filter::Every(fields) => self.every(fields),
        };
        self.next = Some(begin);
        match filter {
            Filter::Every(_) if matches!(self.terms, Terms::Every(_)) => {
                // The same place in the chain of a field.
                let all = EntryChain::of_file(&self.objects.header);
                self.next = Some(self.same_place(all, begin));
            }
            Filter::Any(fields) if direction == Direction::Down => self.index = self.index(fields, begin),
            _ => {}
        }
    }

    /// Where the entries with these fields are, from the one with this number on, if they are few. In a file that may
    /// grow they are not looked up: an entry is counted before it is in the chains of its fields.
    fn index(&mut self, fields: &[Vec<u8>], begin: u64) -> Option<Vec<(EntryChain, u64, u64)>> {
        let left = self.chain.entries.checked_sub(begin).filter(|left| *left >= WORTH)?;
        if !self.objects.is_final() {
            return None;
        }
        let first = self.chain.offset(&mut self.objects, begin)?;
        let mut index = Vec::new();
        let mut matching = 0u64;
        for field in fields {
            let Some(data) = self.objects.find(field) else { continue };
            matching = matching.saturating_add(data.entries);
            if matching.saturating_mul(SPARSE) > left {
                return None;
            }
            let mut chain = EntryChain::of_data(&data);
            let at = chain.at_offset(&mut self.objects, first);
            if let Some(offset) = chain.offset(&mut self.objects, at) {
                index.push((chain, at, offset));
            }
        }
        Some(index)
    }

    /// The offset of the next entry that the index has.
    fn indexed(&mut self) -> Option<u64> {
        let index = self.index.as_mut()?;
        let offset = index.iter().map(|(_, _, offset)| *offset).min()?;
        // One entry may have several of the fields.
        index.retain_mut(|(chain, at, next)| {
            if *next == offset {
                *at += 1;
                *next = match chain.offset(&mut self.objects, *at) {
                    // They go forward, where they are not damaged.
                    Some(next) if next > offset => next,
                    _ => return false,
                };
            }
            true
        });
        Some(offset)
    }

    /// The number in the chain of the first entry that stands where this one of all stands, or behind it.
    fn same_place(&mut self, mut all: EntryChain, begin: u64) -> u64 {
        match all.offset(&mut self.objects, begin) {
            Some(offset) => self.chain.at_offset(&mut self.objects, offset),
            None => self.chain.entries,
        }
    }

    /// The data objects of fields, and the entries of that which the fewest have.
    fn every(&mut self, fields: &[Vec<u8>]) -> Terms {
        let mut found = Vec::new();
        for field in fields {
            match self.objects.find(field) {
                Some(data) => found.push(data),
                None => return Terms::Nothing,
            }
        }
        if let Some(rarest) = found.iter().min_by_key(|data| data.entries) {
            self.chain = EntryChain::of_data(rarest);
        }
        Terms::Every(found.iter().map(|data| data.offset).collect())
    }

    /// The number of the first entry of all that does not stand before a cursor; going up, of the first behind it.
    ///
    /// By the writer's numbers where the file has those, else by the time since the boot, else by the time.
    fn bound(&mut self, all: &mut EntryChain, cursor: &Cursor, direction: Direction) -> u64 {
        let is_before = move |value: u64, bound: u64| match direction {
            Direction::Down => value < bound,
            Direction::Up => value <= bound,
        };
        let objects = &mut self.objects;
        match cursor.seqnum {
            Some((series, seqnum)) if series == objects.header.seqnum_id => {
                return all.partition(objects, |entry| is_before(entry.seqnum, seqnum));
            }
            _ => {}
        }
        if let Some((boot, monotonic)) = cursor.monotonic
            && let Some(data) = objects.find(format!("_BOOT_ID={boot}").as_bytes())
        {
            let mut chain = EntryChain::of_data(&data);
            let at = chain.partition(objects, |entry| is_before(entry.monotonic, monotonic));
            all.is_unsure = chain.is_unsure;
            let offset = match direction {
                Direction::Down => chain.offset(objects, at),
                Direction::Up => at
                    .checked_sub(1)
                    .and_then(|at| chain.offset(objects, at))
                    .and_then(|last| last.checked_add(1)),
            };
            if let Some(offset) = offset {
                return all.at_offset(objects, offset);
            }
        }
        match cursor.realtime {
            Some(realtime) => all.partition(objects, |entry| is_before(entry.realtime, realtime)),
            None if direction == Direction::Down => 0,
            None => all.entries,
        }
    }

    /// Finds the next entry that matches, if there is one.
    pub(crate) fn advance(&mut self, direction: Direction) {
        self.candidate = match direction {
            Direction::Down => self.down(),
            Direction::Up => self.up(),
        };
        if let Some(entry) = &self.candidate {
            self.last = Some(entry.offset);
        }
    }

    fn down(&mut self) -> Option<JournalEntry> {
        let mut at = self.next?;
        if self.is_dry {
            return None;
        }
        if self.index.is_some() {
            while let Some(offset) = self.indexed() {
                if let Some(entry) = self.objects.entry(offset)
                    && self.is_match(&entry)
                {
                    return Some(entry);
                }
            }
            at = self.chain.entries;
            (self.next, self.index) = (Some(at), None);
        }
        self.objects.windows.is_bulk = self.chain.entries.saturating_sub(at) > MANY;
        while at < self.chain.entries {
            let offset = self.chain.offset(&mut self.objects, at);
            at += 1;
            let entry = offset.filter(|offset| self.last.is_none_or(|last| *offset > last));
            match entry.and_then(|offset| self.objects.entry(offset)) {
                Some(entry) => {
                    self.next = Some(at);
                    self.last = Some(entry.offset);
                    if self.is_match(&entry) {
                        return Some(entry);
                    }
                }
                // No more arrays.
                None if offset.is_none() => break,
                // Damaged, or where no other follows, not there yet: then it is looked at again.
                None => {}
            }
        }
        self.is_dry = true;
        None
    }

    fn up(&mut self) -> Option<JournalEntry> {
        // The header may count more than there are places for.
        let mut at = self.next?.min(self.chain.places(&mut self.objects));
        self.objects.windows.is_bulk = false;
        while at > 0 {
            at -= 1;
            self.next = Some(at);
            let offset = self.chain.offset(&mut self.objects, at);
            let entry = offset.filter(|offset| self.last.is_none_or(|last| *offset < last));
            if let Some(entry) = entry.and_then(|offset| self.objects.entry(offset)) {
                self.last = Some(entry.offset);
                if self.is_match(&entry) {
                    return Some(entry);
                }
            }
        }
        self.is_dry = true;
        None
    }

    fn is_match(&mut self, entry: &JournalEntry) -> bool {
        if matches!(self.terms, Terms::All) {
            return true;
        }
        if matches!(self.terms, Terms::Nothing) || self.read_items(entry).is_none() {
            return false;
        }
        let Self { terms, objects, cache, items, .. } = self;
        match terms {
            Terms::All => true,
            Terms::Nothing => false,
            Terms::Any { .. } => items.1.iter().any(|item| {
                if let Some(hash) = item.hash {
                    return terms.have(hash);
                }
                if let Some(is_match) = cache.is_match(item.offset) {
                    return is_match;
                }
                let Some(data) = objects.data(item.offset) else { return false };
                let is_match = terms.have(data.hash);
                if data.entries > 1 {
                    cache.set_match(item.offset, is_match);
                }
                is_match
            }),
            Terms::Every(wanted) => {
                wanted.iter().all(|offset| items.1.iter().any(|item| item.offset == *offset))
            }
        }
    }

    fn read_items(&mut self, entry: &JournalEntry) -> Option<()> {
        if self.items.0 != entry.offset {
            self.items.0 = 0;
            self.objects.items(entry.offset, &mut self.items.1)?;
            self.items.0 = entry.offset;
        }
        Some(())
    }

    /// Gives the fields of an entry of this file that are wanted, in its order. One that cannot be read is left out.
    pub(crate) fn fields(
        &mut self,
        entry: &JournalEntry,
        wanted: &Wanted,
        mut sink: impl FnMut(&[u8]) -> bool,
    ) {
        if self.read_items(entry).is_none() {
            return;
        }
        let Self { objects, cache, items, .. } = self;
        for item in &items.1 {
            match cache.field(item.offset) {
                Remembered::Unwanted => continue,
                Remembered::Field(field) => {
                    if !sink(field) {
                        return;
                    }
                    continue;
                }
                Remembered::Nothing => {}
            }
            let Some(data) = objects.data(item.offset) else { continue };
            let Some(field) = objects.field(&data, wanted.limit) else { continue };
            let field = Some(field).filter(|field| wanted.has(field));
            // What one entry has alone is not met again.
            if data.entries > 1 {
                cache.set_field(item.offset, field);
            }
            if field.is_some_and(|field| !sink(field)) {
                return;
            }
        }
    }

    /// As [`fields`](Self::fields), of an entry of which a field asks for all, or none for anything; of another only those
    /// that are `Brief`.
    pub(crate) fn fields_of_interest(
        &mut self,
        entry: &JournalEntry,
        wanted: &Wanted,
        mut interest: impl FnMut(&[u8]) -> Interest,
        sink: impl FnMut(&[u8]) -> bool,
    ) {
        if self.read_items(entry).is_none() {
            return;
        }
        let Self { objects, cache, items, brief, .. } = self;
        brief.clear();
        let asks_for_all = items.1.iter().any(|item| {
            let asked = cache.interest(item.offset).or_else(|| {
                let data = objects.data(item.offset)?;
                let asked = interest(objects.field(&data, wanted.limit)?);
                if data.entries > 1 {
                    cache.set_interest(item.offset, asked);
                }
                Some(asked)
            });
            if asked == Some(Interest::Brief) {
                brief.push(*item);
            }
            asked == Some(Interest::Whole)
        });
        let is_brief = !asks_for_all && !brief.is_empty();
        if is_brief {
            std::mem::swap(&mut items.1, brief);
        }
        self.fields(entry, wanted, sink);
        if is_brief {
            self.items.0 = 0;
        }
    }
}
