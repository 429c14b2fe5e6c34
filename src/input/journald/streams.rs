//! Searches the journal backwards for the pieces of a line, with a second reader for all programs.
//!
//! The journal itself keeps the pieces, so a crash loses none and a client cannot fill our memory.
//! [`whole`](crate::entry::whole) joins them.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use banstream_journal::{Cursor, Filter, JournalReader};

use super::{Journal, scan};
use crate::entry::whole::{EarlierPieces, JoinResult, JournalPiece, UnreadableJournal, join};

/// Streams of which it is remembered that no line is open, twice. Of any other it is looked up.
const KNOWN: usize = 4096;

/// The matches that let the pieces of all programs through, all but the last of each line.
pub(super) const PIECES: [(&str, &[&str]); 2] =
    [("_LINE_BREAK", &["line-max", "nul", "pid-change"]), ("CONTAINER_PARTIAL_MESSAGE", &["true"])];

/// What is known of streams.
#[derive(Default)]
pub(super) struct Streams {
    /// Where no line is open, by stream, and by stream and process: those met since the generation began, and before.
    known: [HashSet<u64>; 2],
    hasher: RandomState,
    past: Option<JournalReader>,
}

impl Streams {
    /// What becomes of this entry, at which `journal` stands.
    pub(super) fn place(
        &mut self,
        part: &mut JournalPiece,
        journal: &JournalReader,
        settings: &Journal,
    ) -> JoinResult {
        if !part.streams() {
            return JoinResult::Whole;
        }
        let stream = self.hasher.hash_one((part.stream().collect::<Vec<_>>(), b""));
        let own = self.hasher.hash_one((part.stream().collect::<Vec<_>>(), part.writer()));
        if part.goes_on() && !part.may_be_last() {
            self.known.iter_mut().for_each(|known| {
                known.remove(&stream);
                known.remove(&own);
            });
            return JoinResult::More;
        }
        if part.is_named() && !part.goes_on() && !part.is_numbered() && self.knows(stream) && self.knows(own)
        {
            return JoinResult::Whole;
        }
        let verdict = match journal.cursor() {
            Some(cursor) => {
                part.cursor = cursor.to_string();
                self.look_back(part, settings)
            }
            None => JoinResult::Unjudged,
        };
        match verdict {
            JoinResult::More => self.known.iter_mut().for_each(|known| {
                known.remove(&stream);
            }),
            _ => [stream, own].into_iter().for_each(|key| self.learn(key)),
        }
        verdict
    }

    fn look_back(&mut self, part: &JournalPiece, settings: &Journal) -> JoinResult {
        let journal = match self.past.take() {
            Some(journal) => Ok(journal),
            None => settings.open(),
        };
        let Ok(mut journal) = journal else { return JoinResult::Unjudged };
        let mut back = BackwardReader { journal: &mut journal, part, begun: false };
        let verdict = join(part, &mut back);
        self.past = Some(journal);
        verdict
    }

    /// The journal was opened again, so the second reader must be, too.
    pub(super) fn reopen(&mut self) {
        self.past = None;
    }

    fn knows(&mut self, key: u64) -> bool {
        let [new, old] = &mut self.known;
        if new.contains(&key) {
            return true;
        }
        let is_known = old.contains(&key);
        if is_known {
            self.learn(key);
        }
        is_known
    }

    fn learn(&mut self, key: u64) {
        let [new, old] = &mut self.known;
        new.insert(key);
        if new.len() >= KNOWN {
            *old = std::mem::take(new);
        }
    }
}

/// The journal before an entry.
struct BackwardReader<'b> {
    journal: &'b mut JournalReader,
    part: &'b JournalPiece,
    begun: bool,
}

impl BackwardReader<'_> {
    /// Goes to the last entry before this one that has these fields.
    fn seek<'f>(
        &mut self,
        from: &str,
        fields: impl Iterator<Item = (&'static str, &'f [u8])>,
    ) -> Result<Option<JournalPiece>, UnreadableJournal> {
        let from: Cursor = from.parse().map_err(|_| UnreadableJournal)?;
        // Files come and go.
        self.journal.refresh().map_err(|_| UnreadableJournal)?;
        let fields = fields.map(|(name, value)| [name.as_bytes(), b"=", value].concat());
        self.journal.set_filter(Filter::Every(fields.collect()));
        self.journal.seek_cursor(&from);
        match self.read()? {
            Some(part) if self.journal.cursor().is_some_and(|cursor| from.is_of(&cursor)) => {
                drop(part);
                self.read()
            }
            found => Ok(found),
        }
    }

    fn read(&mut self) -> Result<Option<JournalPiece>, UnreadableJournal> {
        if !self.journal.previous() {
            return Ok(None);
        }
        let mut part = JournalPiece::default();
        // Where it is too large nobody is to know what it is; that of which it is a part is not judged.
        scan(self.journal, &mut part, &[]).map_err(|_| UnreadableJournal)?;
        part.cursor = self.journal.cursor().ok_or(UnreadableJournal)?.to_string();
        Ok(Some(part))
    }
}

impl EarlierPieces for BackwardReader<'_> {
    fn before(&mut self) -> Result<Option<JournalPiece>, UnreadableJournal> {
        let part = self.part;
        match std::mem::replace(&mut self.begun, true) {
            true => self.read(),
            false => self.seek(&part.cursor, part.stream()),
        }
    }

    fn own(&mut self, head: &JournalPiece, pid: &[u8]) -> Result<Option<JournalPiece>, UnreadableJournal> {
        self.seek(&head.cursor, head.stream().chain([("_PID", pid)]))
    }
}
