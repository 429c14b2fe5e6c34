//! Reads a journal: its files merged, in order, each entry once.
//!
//! Two entries are compared as libsystemd does: by their writer's numbers where those are of one series, else by the
//! time since the boot where that is the same, else by the time. In two differences this is better: an entry that is seen
//! after a later one of another file, or comes late from another host, is given, and a copy of one that was read is not.

use std::cmp::Ordering;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::PathBuf;

use crate::cursor::Cursor;
use crate::directory::{JournalPlace, Listing};
use crate::file::{Direction, JournalFile, Position};
use crate::filter::{Filter, Interest, Wanted};
use crate::objects::JournalEntry;

/// The most files that have memory for reading. Others read as well, with more reads.
const WARM: usize = 16;

/// A file that cannot be read, or not all of it.
#[derive(Debug)]
pub struct JournalProblem {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub error: io::Error,
}

impl fmt::Display for JournalProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.path.display(), self.error)
    }
}

/// A journal, and the place in it where reading goes on.
pub struct JournalReader {
    listing: Listing,
    files: Vec<JournalFile>,
    filter: Filter,
    wanted: Wanted,
    position: Position,
    /// `None` until it is known, so that all files are to be placed.
    direction: Option<Direction>,
    /// The current entry, and the file it is in.
    current: Option<(usize, JournalEntry)>,
    /// The file with the best candidate after that one's, where none of the others has changed since.
    second: Second,
    /// Files that were refused and why, so that it is reported once.
    refused: Vec<((u64, u64), String)>,
    problems: Vec<JournalProblem>,
    uses: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Second {
    Unknown,
    /// No other file has any.
    None,
    File(usize),
}

impl JournalReader {
    /// Opens a journal at its head, with all entries and all their fields.
    ///
    /// A file that cannot be read is left out, and is one of the [`problems`](Self::problems).
    ///
    /// # Errors
    ///
    /// If a directory that was asked for cannot be read.
    pub fn open(place: JournalPlace) -> io::Result<Self> {
        let mut reader = Self {
            listing: Listing::new(place),
            files: Vec::new(),
            filter: Filter::All,
            wanted: Wanted::default(),
            position: Position::Head,
            direction: None,
            current: None,
            second: Second::Unknown,
            refused: Vec::new(),
            problems: Vec::new(),
            uses: 0,
        };
        reader.list()?;
        Ok(reader)
    }

    /// Whether none of its files can be read.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// What could not be read since this was asked last.
    pub fn problems(&mut self) -> Vec<JournalProblem> {
        for file in &mut self.files {
            if let Some(error) = file.error() {
                self.problems.push(JournalProblem { path: file.path.clone(), error });
            }
        }
        std::mem::take(&mut self.problems)
    }

    /// Which entries are read from now on. The place is kept.
    pub fn set_filter(&mut self, filter: Filter) {
        self.filter = filter;
        self.files.iter_mut().for_each(JournalFile::set_filter);
        (self.direction, self.second) = (None, Second::Unknown);
    }

    /// Which fields are given, and how many bytes of each at most.
    pub fn set_fields<'n>(&mut self, names: impl IntoIterator<Item = &'n [u8]>, limit: usize) {
        self.wanted = Wanted::new(names.into_iter().map(<[u8]>::to_vec).collect(), limit);
        self.files.iter_mut().for_each(JournalFile::set_filter);
        (self.direction, self.second) = (None, Second::Unknown);
    }

    /// Goes before the first entry.
    pub fn seek_head(&mut self) {
        self.seek(Position::Head);
    }

    /// Goes behind the last entry.
    pub fn seek_tail(&mut self) {
        self.seek(Position::Tail);
    }

    /// Goes to the entry with this cursor, which [`next`](Self::next) and [`previous`](Self::previous) both give then. Where it
    /// is gone, they give the nearest one in their direction.
    pub fn seek_cursor(&mut self, cursor: &Cursor) {
        self.seek(Position::At(*cursor));
    }

    /// Goes to the first entry that was written at this time or later, in microseconds since 1970.
    pub fn seek_realtime(&mut self, micros: u64) {
        self.seek(Position::At(Cursor { realtime: Some(micros), ..Cursor::default() }));
    }

    fn seek(&mut self, position: Position) {
        (self.position, self.direction, self.current) = (position, None, None);
    }

    /// Goes to the next entry; false at the end, until [`refresh`](Self::refresh) has found more.
    #[expect(clippy::should_implement_trait, reason = "a place in a journal, which goes both ways")]
    pub fn next(&mut self) -> bool {
        self.step(Direction::Down)
    }

    /// Goes to the entry before; false at the beginning.
    pub fn previous(&mut self) -> bool {
        self.step(Direction::Up)
    }

    /// The place of the current entry; `None` if there is none.
    pub fn cursor(&self) -> Option<Cursor> {
        self.current.map(|(_, entry)| entry.cursor())
    }

    /// When the current entry was written, in microseconds since 1970.
    pub fn realtime(&self) -> Option<u64> {
        self.current.map(|(_, entry)| entry.realtime)
    }

    /// Gives the fields of the current entry that are wanted, as `NAME=value`, until `sink` is false. One that cannot be
    /// read is left out.
    pub fn fields(&mut self, sink: impl FnMut(&[u8]) -> bool) {
        if let Some((at, entry)) = self.current
            && let Some(file) = self.files.get_mut(at)
        {
            file.fields(&entry, &self.wanted, sink);
        }
    }

    /// As [`fields`](Self::fields), but of an entry of which no field asks for all only those that are `Brief`, where it has
    /// such.
    ///
    /// What a field asks for is remembered until [`set_filter`](Self::set_filter): of fields that many entries share it is
    /// asked about once.
    pub fn fields_of_interest(
        &mut self,
        interest: impl FnMut(&[u8]) -> Interest,
        sink: impl FnMut(&[u8]) -> bool,
    ) {
        if let Some((at, entry)) = self.current
            && let Some(file) = self.files.get_mut(at)
        {
            file.fields_of_interest(&entry, &self.wanted, interest, sink);
        }
    }

    /// Looks for what was written since the last call, and for files that have come and gone.
    ///
    /// The current entry stays the current one. Where nothing has changed it takes a few system calls: one for each
    /// file that is not archived, one for each directory.
    ///
    /// # Errors
    ///
    /// If a directory that was asked for cannot be read.
    pub fn refresh(&mut self) -> io::Result<()> {
        self.refresh_files();
        self.list()
    }

    /// Looks for what was written since the last call to the files that are open, and not for others; whether there was
    /// something. A file that is archived has changed, too.
    pub fn refresh_files(&mut self) -> bool {
        let (mut has_changed, mut replaced) = (false, Vec::new());
        for (at, file) in self.files.iter_mut().enumerate() {
            match file.refresh() {
                Ok(true) => (has_changed, self.second) = (true, Second::Unknown),
                Ok(false) => {}
                Err(error) => {
                    has_changed = true;
                    self.problems.push(JournalProblem { path: file.path.clone(), error });
                    replaced.push(at);
                }
            }
        }
        for at in replaced.into_iter().rev() {
            self.remove(at);
            self.listing.forget();
        }
        has_changed
    }

    /// Opens the files that are new. Those that are gone are read to their end.
    ///
    /// # Errors
    ///
    /// As [`refresh`](Self::refresh).
    pub fn list(&mut self) -> io::Result<()> {
        if let Some(found) = self.listing.look()? {
            self.files.iter_mut().for_each(|file| file.is_gone = true);
            self.refused.retain(|(id, _)| found.iter().any(|found| found.id == *id));
            for found in found {
                match self.files.iter_mut().find(|file| file.id == found.id) {
                    Some(file) => (file.is_gone, file.path) = (false, found.path),
                    None => self.add(found.path, found.id),
                }
            }
            for file in self.files.iter_mut().filter(|file| file.is_gone) {
                // What was written last before it went.
                if file.refresh().is_ok_and(|is_more| is_more) {
                    self.second = Second::Unknown;
                }
            }
        }
        let is_over = |file: &JournalFile| file.is_gone && (file.is_done() || !file.is_placed());
        while let Some(at) = self.files.iter().position(is_over) {
            self.remove(at);
        }
        Ok(())
    }

    /// Opens a file. One that is refused is tried again whenever directories are listed: it may have just been made.
    fn add(&mut self, path: PathBuf, id: (u64, u64)) {
        match File::open(&path).and_then(|file| JournalFile::open(path.clone(), file, id)) {
            Ok(file) => {
                self.files.push(file);
                self.second = Second::Unknown;
            }
            // It is gone already, or nothing is in it yet.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof) => {}
            Err(error) => {
                let refused = (id, error.to_string());
                if !self.refused.contains(&refused) {
                    self.refused.push(refused);
                    self.problems.push(JournalProblem { path, error });
                }
            }
        }
    }

    fn remove(&mut self, at: usize) {
        self.files.remove(at);
        self.second = Second::Unknown;
        self.current = match self.current {
            Some((current, entry)) if current > at => Some((current - 1, entry)),
            Some((current, _)) if current == at => None,
            current => current,
        };
    }

    fn step(&mut self, direction: Direction) -> bool {
        if self.direction != Some(direction) {
            self.files.iter_mut().for_each(JournalFile::unplace);
            (self.direction, self.second) = (Some(direction), Second::Unknown);
        }
        let best = self.step_on(direction).or_else(|| self.best(direction));
        let Some((at, entry)) = best else { return false };
        if let Some(file) = self.files.get_mut(at) {
            file.candidate = None;
        }
        self.current = Some((at, entry));
        self.position = Position::Behind(entry);
        true
    }

    /// The next entry of the current file, if it comes before those of all others.
    fn step_on(&mut self, direction: Direction) -> Option<(usize, JournalEntry)> {
        let (at, _) = self.current.filter(|_| self.second != Second::Unknown)?;
        let file = self.files.get_mut(at)?;
        file.advance(direction);
        let entry = file.candidate?;
        let is_next = match self.second {
            Second::Unknown => false,
            Second::None => true,
            Second::File(other) => {
                let other = self.files.get(other)?.candidate?;
                order(&entry, &other, direction) == Ordering::Less
            }
        };
        is_next.then_some((at, entry))
    }

    /// The file with the next entry of all.
    fn best(&mut self, direction: Direction) -> Option<(usize, JournalEntry)> {
        let mut best: Option<(usize, JournalEntry)> = None;
        let mut second = None;
        let is_many = self.files.len() > WARM;
        self.uses += 1;
        for (at, file) in self.files.iter_mut().enumerate() {
            let is_new = !file.is_placed();
            if is_new {
                file.place(&self.position, direction, &self.filter);
            }
            if file.candidate.is_none() {
                file.used = self.uses;
                file.advance(direction);
            }
            if let Position::Behind(last) = &self.position {
                let is_skipped = |entry: &JournalEntry| match is_new {
                    true => {
                        order(entry, last, direction) != Ordering::Greater
                            || direction == Direction::Down && is_copy(entry, last)
                    }
                    // Two files may have it.
                    false => is_same(entry, last) || direction == Direction::Down && is_copy(entry, last),
                };
                while file.candidate.as_ref().is_some_and(is_skipped) {
                    file.used = self.uses;
                    file.advance(direction);
                }
            }
            // All at once would have as much memory as they are many.
            if is_new && is_many {
                file.cool();
            }
            let Some(entry) = file.candidate else { continue };
            let is_better = |other: Option<(usize, JournalEntry)>| {
                other.is_none_or(|(_, other)| order(&entry, &other, direction) == Ordering::Less)
            };
            if is_better(best) {
                second = best.replace((at, entry));
            } else if is_better(second) {
                second = Some((at, entry));
            }
        }
        self.second = match (best, second) {
            (Some((_, best)), Some((at, second))) if order(&best, &second, direction) == Ordering::Less => {
                Second::File(at)
            }
            // They may be one entry.
            (Some(_), Some(_)) => Second::Unknown,
            _ => Second::None,
        };
        if is_many {
            self.cool();
        }
        best
    }

    /// Leaves memory to those files only that were used last.
    fn cool(&mut self) {
        let warm = |files: &[JournalFile]| files.iter().filter(|file| file.used > 0).count();
        while warm(&self.files) > WARM {
            let oldest = self.files.iter_mut().filter(|file| file.used > 0).min_by_key(|file| file.used);
            oldest.into_iter().for_each(JournalFile::cool);
        }
    }
}

/// Which of two entries comes first, going down or up.
fn order(a: &JournalEntry, b: &JournalEntry, direction: Direction) -> Ordering {
    let order = compare(a, b);
    if direction == Direction::Up { order.reverse() } else { order }
}

fn compare(a: &JournalEntry, b: &JournalEntry) -> Ordering {
    if is_same(a, b) {
        return Ordering::Equal;
    }
    let by_number = if a.series == b.series { a.seqnum.cmp(&b.seqnum) } else { Ordering::Equal };
    let by_boot = || if a.boot == b.boot { a.monotonic.cmp(&b.monotonic) } else { Ordering::Equal };
    by_number
        .then_with(by_boot)
        .then_with(|| a.realtime.cmp(&b.realtime))
        .then_with(|| a.xor_hash.cmp(&b.xor_hash))
}

/// Whether they are one entry that two files have.
fn is_same(a: &JournalEntry, b: &JournalEntry) -> bool {
    let content = |entry: &JournalEntry| (entry.boot, entry.monotonic, entry.realtime, entry.xor_hash);
    content(a) == content(b) && (a.series != b.series || a.seqnum == b.seqnum)
}

/// Whether an entry of the boot whose `last` entry was read is one that was read before, too: journald moves what it has
/// in `/run` to `/var` while that is read. A copy has a number of a series of its own (systemd 252) or the next of its writer's
/// (254). One that stands before `last` by a number that both share was just seen later, since files are looked at in turn.
fn is_copy(entry: &JournalEntry, last: &JournalEntry) -> bool {
    entry.boot == last.boot
        && match entry.series == last.series {
            true => entry.seqnum > last.seqnum && entry.monotonic < last.monotonic,
            false => compare(entry, last) != Ordering::Greater,
        }
}
