//! Follows the journal, or reads it: every entry of the requested programs, from a known position.
//!
//! The files are read by a crate of our own, `banstream-journal`. They are polled: journald delays its notifications, so
//! a thread that waits for one gets a lone line after 456 ms. Polling every 8 ms gets it in 4 ms, and costs what
//! it takes to sleep so often.
//!
//! A journal that no longer gives what is written is noticed and opened again (`liveness`).
//!
//! It joins lines that journald or a container engine has split (`streams`), so that a record is a message. It copies
//! the fields that the decoder needs, and does not interpret them.

mod cursor;
mod interest;
mod liveness;
mod streams;

use std::convert::Infallible;
use std::io;
use std::mem;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use banstream_journal::{Cursor, Filter, JournalPlace, JournalProblem, JournalReader};

use super::{Batch, SourceError, SourceErrorKind};
use crate::config::JournalLocation;
use crate::config::load::Loaded;
use crate::entry::records::Records;
use crate::entry::whole::{self, JoinResult, JournalPiece};
use crate::entry::{self, journal::field_of};
use crate::grammar::Grammars;
use crate::model::Timestamp;
use interest::interest;
use liveness::{Liveness, LivenessVerdict};
use streams::Streams;

/// Entries and bytes after which a batch is handed over, though there is more.
const ENTRIES: usize = 1024;
const BYTES: usize = 1 << 20;

/// The largest entry that is read, in bytes of all the fields that matter. Journald takes 1,024 fields and 768 MiB from
/// anybody, and what it compressed is unpacked field by field.
const LARGEST: usize = 4 << 20;

/// How long until the next look after one that found something, and after one that did not.
const BUSY: Duration = Duration::from_millis(2);
const IDLE: Duration = Duration::from_millis(8);
/// How often to look for new files while nothing changes in the others: one that is full, and so has another behind it,
/// says so.
const LISTING: Duration = Duration::from_millis(50);

/// How long until the journal is opened again after it failed: at first, and at most.
const SOON: Duration = Duration::from_millis(100);
const LATE: Duration = Duration::from_secs(5);

/// Programs that are searched for in the journal. Where there are more, all entries are read.
const SEARCHED: usize = 64;

/// What to follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journal {
    /// The source's name in metrics and `status`.
    pub source: Arc<str>,
    /// Which journal.
    pub location: JournalLocation,
    /// Entries with one of these as `SYSLOG_IDENTIFIER` or `_COMM`. Every entry if empty, our own among them.
    pub programs: Vec<String>,
    /// Whether a follower writes entries of its own to journald, to see that it reads what is written.
    pub heartbeats: bool,
}

/// An open journal, and the place in it where reading goes on.
pub struct Follower {
    settings: Journal,
    start: Start,
    /// Whether the next entry may be the one that `start` names, which has been read before.
    resuming: bool,
    /// `None` after it has failed.
    journal: Option<JournalReader>,
    liveness: Liveness,
    builder: RecordBuilder,
    caution: Caution,
    /// How many starts are to be noted before anything is read.
    starts: Option<u32>,
    /// Whether the journal stands at an entry that is yet to be read.
    stands: bool,
    /// When new files were looked for.
    listed: Instant,
}

/// How carefully an entry is read. Progress is not to depend on any one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caution {
    /// As many as there are at once.
    None,
    /// The same, and the end is reported when it is reached.
    ReportEnd,
    /// So many one by one.
    OneByOne { left: usize },
    /// The same, and the first is skipped.
    Skip,
}

/// Entries that are read one by one before there is no more reason to.
const CAREFUL: usize = 1024;

/// Where reading begins.
enum Start {
    /// With what is written from now on.
    Tail,
    /// With the oldest entry there is: where the journal was empty at first, all that comes is new.
    Head,
    /// After the entry with this cursor.
    After(Cursor),
}

impl Follower {
    fn new(settings: Journal, start: Start) -> Self {
        Self {
            liveness: Liveness::new(&settings.location, settings.heartbeats),
            settings,
            start,
            resuming: false,
            journal: None,
            builder: RecordBuilder::default(),
            caution: Caution::None,
            starts: None,
            stands: false,
            listed: Instant::now(),
        }
    }

    /// Opens a journal after the entry with the cursor `from`; without one at its end, so that the first
    /// entry to come is the first one written from now on.
    ///
    /// If that entry is gone (vacuumed), reading begins with the nearest later one; if `from` is not a cursor at
    /// all, at the end. Either is logged.
    ///
    /// # Errors
    ///
    /// If there is no journal, or none that we may read.
    pub fn open(settings: Journal, from: Option<String>) -> Result<Self, SourceError> {
        let start = from.map_or(Start::Tail, |from| {
            from.parse().map_or_else(
                |_| {
                    log::warn!("`{from}` is not a journal position; reading new entries only");
                    Start::Tail
                },
                Start::After,
            )
        });
        let mut follower = Self::new(settings, start);
        follower.journal = Some(follower.open_at_start()?);
        Ok(follower)
    }

    /// Opens a journal at its first entry, for one that was not there before.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_whole(settings: Journal) -> Result<Self, SourceError> {
        let mut follower = Self::new(settings, Start::Head);
        follower.journal = Some(follower.open_at_start()?);
        Ok(follower)
    }

    /// Reads as carefully as the number of starts since the position changed last asks for, this one included.
    ///
    /// From the second on entries come one by one. From the fifth on the first one is skipped: the daemon died three times
    /// when it was the only one that was read. Fewer could be chance, where somebody kills the daemon. `sink` must have
    /// durably noted a batch that has `starts` when it returns.
    pub fn after_starts(self, starts: u32) -> Self {
        let caution = match starts {
            0 => return self,
            1 => Caution::ReportEnd,
            2..=4 => Caution::OneByOne { left: CAREFUL },
            _ => Caution::Skip,
        };
        Self { caution, starts: Some(starts), ..self }
    }

    /// Gives each entry to `sink` until `stop`'s sender is dropped, which ends it within 8 ms, or `sink`
    /// breaks off; then the cursor after which to go on.
    ///
    /// The `position` of a batch is the cursor of its last entry: open with it the next time, and no entry is
    /// lost or doubled. While `sink` blocks nothing is read, nor `stop` heeded; the journal keeps what comes.
    ///
    /// An entry that cannot be read is left out. A journal that fails, or no longer gives what is written, is opened
    /// again at the last position, after a pause that grows to 5 s. `tell` hears what is wrong with it when that
    /// changes.
    pub fn run(
        mut self,
        stop: &Receiver<Infallible>,
        mut sink: impl FnMut(Batch) -> ControlFlow<()>,
        mut tell: impl FnMut(Option<SourceError>),
    ) -> Option<String> {
        let mut backoff = SOON;
        let mut told: Option<String> = None;
        loop {
            let read = self.read();
            if read.is_ok() && !self.liveness.is_deaf() && told.take().is_some() {
                tell(None);
            }
            let pause = match read.inspect(|_| backoff = SOON) {
                Ok(None) if self.caution == Caution::None => self.check().map_or(IDLE, |error| {
                    told = Some(error.to_string());
                    tell(Some(error));
                    IDLE
                }),
                Ok(None) => {
                    // Whatever the daemon died of, it was none of these.
                    self.caution = Caution::None;
                    let position = self.position();
                    let batch = self.settings.batch();
                    if sink(Batch { position, starts: Some(0), ..batch }).is_break() {
                        break;
                    }
                    Duration::ZERO
                }
                Ok(Some(batch)) => {
                    let is_full = is_full(&batch) || batch.starts.is_some();
                    let pause = if is_full { Duration::ZERO } else { BUSY };
                    if sink(batch).is_break() {
                        break;
                    }
                    pause
                }
                Err(error) => {
                    let text = Some(error.to_string());
                    if told != text {
                        told = text;
                        tell(Some(error));
                    }
                    let longer = LATE.min(backoff * 2);
                    mem::replace(&mut backoff, longer)
                }
            };
            if stop.recv_timeout(pause) == Err(RecvTimeoutError::Disconnected) {
                break;
            }
        }
        self.position()
    }

    /// What has come since the last call, at most one batch of it. After an error nothing has been taken, and
    /// the journal is opened again by the next call.
    fn read(&mut self) -> Result<Option<Batch>, SourceError> {
        let mut journal = match self.journal.take() {
            Some(journal) => journal,
            None => self.open_at_start()?,
        };
        let batch = self.batch(&mut journal).map_err(|error| self.settings.failed(error))?;
        report(&mut journal);
        self.journal = Some(journal);
        Ok(batch)
    }

    /// Whether the journal still gives what is written; opens it again at the next call of `read` where that is unsure.
    fn check(&mut self) -> Option<SourceError> {
        match self.liveness.check(&self.settings.location) {
            LivenessVerdict::Sound => None,
            LivenessVerdict::Reopen => {
                self.journal = None;
                None
            }
            LivenessVerdict::Deaf(why) => {
                Some(SourceError(SourceErrorKind::Deaf(self.settings.location.to_string(), why)))
            }
        }
    }

    fn open_at_start(&mut self) -> Result<JournalReader, SourceError> {
        self.liveness.opens(&self.settings.location);
        self.builder.streams.reopen();
        let mut journal = self.settings.open()?;
        self.stands = false;
        self.place(&mut journal);
        Ok(journal)
    }

    /// The cursor after which reading goes on; `None` where the journal was empty.
    pub fn position(&self) -> Option<String> {
        match &self.start {
            Start::After(cursor) => Some(cursor.to_string()),
            Start::Tail | Start::Head => None,
        }
    }

    /// Moves the journal to where reading begins, and limits it to our programs.
    fn place(&mut self, journal: &mut JournalReader) {
        // Before the limits are set: the last entry of whatever program holds the tail, and an entry that was read
        // for programs of before is not lost because they are no longer asked for.
        if let Start::After(cursor) = self.start {
            journal.seek_cursor(&cursor);
            if !journal.next() || !is_at(journal, &cursor) {
                let copy = copy_of(journal, &cursor);
                if copy.is_none() {
                    log::warn!("the journal has lost the last entry read; continuing with the next one");
                }
                self.start = Start::After(copy.unwrap_or(cursor));
            }
        }
        if let Start::Tail = self.start {
            journal.seek_tail();
            journal.previous();
            self.start = journal.cursor().map_or(Start::Head, Start::After);
        }
        let token = self.liveness.token().filter(|_| !self.settings.programs.is_empty());
        self.settings.limit(journal, token);
        match &self.start {
            Start::After(cursor) => {
                self.resuming = true;
                journal.seek_cursor(cursor);
            }
            Start::Tail | Start::Head => journal.seek_head(),
        }
    }

    fn batch(&mut self, journal: &mut JournalReader) -> io::Result<Option<Batch>> {
        // Files come and go: next() alone would never notice.
        if !self.stands && (journal.refresh_files() || self.listed.elapsed() >= LISTING) {
            self.listed = Instant::now();
            journal.list()?;
        }
        let mut batch = self.settings.batch();
        let mut entries = 0;
        let most = if matches!(self.caution, Caution::None | Caution::ReportEnd) { ENTRIES } else { 1 };
        // Not every entry becomes a record.
        while !is_full(&batch) && entries < most && (mem::take(&mut self.stands) || journal.next()) {
            if self.resuming {
                self.resuming = self.is_known(journal);
                if self.resuming {
                    continue;
                }
            }
            if let Some(starts) = self.starts.take() {
                self.stands = true;
                (batch.position, batch.starts) = (self.position(), Some(starts));
                return Ok(Some(batch));
            }
            entries += 1;
            if self.liveness.awaits(journal) {
                self.liveness.answered();
                continue;
            }
            if self.caution == Caution::Skip {
                log::error!(
                    "skipped the journal entry `{}`: the daemon died three times when it read this entry alone",
                    journal.cursor().unwrap_or_default(),
                );
                batch.deadly += 1;
                continue;
            }
            self.builder.add(journal, &self.settings, &[], &mut batch);
        }
        if entries == 0 {
            return Ok(None);
        }
        self.liveness.heard();
        (self.caution, batch.starts) = match self.caution {
            Caution::None | Caution::ReportEnd | Caution::OneByOne { left: 0 } => (Caution::None, None),
            Caution::OneByOne { left } => (Caution::OneByOne { left: left - 1 }, Some(1)),
            Caution::Skip => (Caution::OneByOne { left: CAREFUL }, Some(1)),
        };
        if let Some(cursor) = journal.cursor() {
            self.start = Start::After(cursor);
        }
        batch.position = self.position();
        Ok(Some(batch))
    }

    /// Whether the current entry was read before: it is the one after which reading was to begin, or an earlier one.
    fn is_known(&self, journal: &JournalReader) -> bool {
        let (Start::After(cursor), Some(current)) = (&self.start, journal.cursor()) else { return false };
        cursor::is_not_later(&current, cursor) || cursor.is_of(&current)
    }
}

/// Whether the current entry is the one with this cursor.
fn is_at(journal: &JournalReader, cursor: &Cursor) -> bool {
    journal.cursor().is_some_and(|current| cursor.is_of(&current))
}

/// The cursor of a copy of an entry: journald copies what it wrote to `/run/log/journal` into `/var/log/journal` when
/// that can be used, and may number it differently.
fn copy_of(journal: &mut JournalReader, cursor: &Cursor) -> Option<Cursor> {
    cursor.monotonic?;
    let copy = Cursor { seqnum: None, ..*cursor };
    journal.seek_cursor(&copy);
    while journal.next() {
        let current = journal.cursor()?;
        if copy.is_of(&current) {
            return Some(current);
        }
        // Of one instant there may be several.
        if current.monotonic != cursor.monotonic {
            break;
        }
    }
    None
}

/// Gives what the journal holds, from `since` on and no later than `until`, to `sink`; all of it where they do not say. Of
/// an entry that none of these grammars can read, only the program's name.
///
/// # Errors
///
/// There is no journal, or none that we may read; or a file of it cannot be read, after the others were.
pub fn read(
    settings: &Journal,
    grammars: &[&Grammars],
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    mut sink: impl FnMut(&mut Records),
) -> Result<(), SourceError> {
    let mut journal = settings.open()?;
    settings.limit(&mut journal, None);
    if let Some(since) = since {
        // Nothing is older than the epoch.
        journal.seek_realtime(since.as_micros().try_into().unwrap_or(0));
    }
    let mut builder = RecordBuilder::default();
    let (mut batch, mut unread) = (settings.batch(), Vec::new());
    loop {
        batch.records.clear();
        let mut entries = 0;
        while !is_full(&batch) && entries < ENTRIES && journal.next() {
            if until.is_some_and(|until| time(&journal).is_some_and(|time| time > until)) {
                break;
            }
            entries += 1;
            builder.add(&mut journal, settings, grammars, &mut batch);
        }
        unread.extend(problems(&mut journal));
        if entries == 0 {
            break;
        }
        sink(&mut batch.records);
    }
    match unread.first() {
        Some(problem) => Err(settings.unreadable(problem)),
        None => Ok(()),
    }
}

/// What could not be read, except for other users' journals that are not ours to read.
fn problems(journal: &mut JournalReader) -> impl Iterator<Item = JournalProblem> {
    let problems = journal.problems().into_iter();
    problems.filter(|problem| problem.error.kind() != io::ErrorKind::PermissionDenied)
}

/// Logs what could not be read.
fn report(journal: &mut JournalReader) {
    problems(journal).for_each(|problem| log::warn!("cannot read {problem}"));
}

fn is_full(batch: &Batch) -> bool {
    batch.records.len() >= ENTRIES || batch.records.size() >= BYTES
}

/// Makes records of entries.
#[derive(Default)]
struct RecordBuilder {
    /// The entry that is read, kept for its memory.
    part: JournalPiece,
    streams: Streams,
}

impl RecordBuilder {
    /// Adds the current entry to the batch, and the pieces before it that are one line with it. Nothing comes of one
    /// that cannot be read, is too large, or is a piece itself. Where there are grammars, no more than they can read.
    fn add(
        &mut self,
        journal: &mut JournalReader,
        settings: &Journal,
        grammars: &[&Grammars],
        batch: &mut Batch,
    ) {
        let Self { part, streams } = self;
        match scan(journal, part, grammars) {
            Ok(overlong) => batch.overlong += overlong,
            Err(TooLarge) => {
                batch.overlong += 1;
                batch.records.messages.unjudged += 1;
                return;
            }
        }
        // What we write ourselves is for no grammar.
        let is_ours = settings.heartbeats
            && field_of(&part.record, b"SYSLOG_IDENTIFIER") == env!("CARGO_PKG_NAME").as_bytes();
        if part.record.is_empty() || is_ours {
            return;
        }
        let verdict = streams.place(part, journal, settings);
        let counts = &mut batch.records.messages;
        match verdict {
            JoinResult::Whole => {
                if part.is_unfinished() {
                    entry::journal::cut(&mut part.record);
                }
                batch.records.push(&part.record);
            }
            JoinResult::Joined(record) => {
                // It ends with a piece that was counted as one of several, if the engine marks that one, too.
                (counts.joined, counts.split) = (counts.joined + 1, counts.split + 1);
                batch.records.push(&record);
            }
            // The pieces of all programs are read, so that none of ours is missed.
            JoinResult::More if settings.wants(&part.record) => counts.split += 1,
            JoinResult::More => {}
            JoinResult::Unjudged => counts.unjudged += 1,
        }
    }
}

/// An entry of more than [`LARGEST`] bytes.
#[derive(Debug)]
struct TooLarge;

/// Reads the current entry, as far as it matters; how many fields were left out because they are too long. Nothing comes
/// of one without a time. Where there are grammars, what none of them can read does not matter.
fn scan(
    journal: &mut JournalReader,
    part: &mut JournalPiece,
    grammars: &[&Grammars],
) -> Result<u64, TooLarge> {
    part.clear();
    let Some(time) = time(journal) else { return Ok(0) };
    entry::journal::begin(&mut part.record, time);
    let (mut size, mut overlong) = (0, 0);
    let take = |field: &[u8]| {
        size += field.len();
        overlong += u64::from(size <= LARGEST && part.take(field));
        size <= LARGEST
    };
    match grammars {
        [] => journal.fields(take),
        _ => journal.fields_of_interest(|field| interest(grammars, field), take),
    }
    if size > LARGEST { Err(TooLarge) } else { Ok(overlong) }
}

/// When the current entry was written.
fn time(journal: &JournalReader) -> Option<Timestamp> {
    i64::try_from(journal.realtime()?).ok().map(Timestamp::from_micros)
}

impl Journal {
    /// The first of a configuration, or this machine's where it reads none, with the programs of its grammars.
    pub fn of(loaded: &Loaded) -> Self {
        let location = loaded.config.journald.first().cloned().unwrap_or(JournalLocation::System);
        let mut programs: Vec<String> =
            loaded.grammars.iter().flat_map(|grammar| grammar.programs().to_vec()).collect();
        if programs.len() > SEARCHED || programs.iter().any(|program| program.contains('*')) {
            programs.clear();
        }
        Self { source: "journald".into(), location, programs, heartbeats: false }
    }

    /// Reads what the other reads, too.
    pub fn extend(&mut self, other: Self) {
        if self.programs.is_empty() || other.programs.is_empty() {
            self.programs.clear();
        } else {
            self.programs.extend(other.programs);
        }
    }

    /// All of a configuration. The first is the source `journald`, the others have the names of their places.
    pub fn all(loaded: &Loaded, heartbeats: bool) -> Vec<Self> {
        let first = Self { heartbeats, ..Self::of(loaded) };
        let journal = |(nth, location): (usize, &JournalLocation)| Self {
            source: if nth == 0 { Arc::clone(&first.source) } else { location.name() },
            location: location.clone(),
            ..first.clone()
        };
        loaded.config.journald.iter().enumerate().map(journal).collect()
    }

    /// A batch without records.
    fn batch(&self) -> Batch {
        Batch::new(Arc::clone(&self.source), entry::Format::Journal)
    }

    /// Opens the journal.
    fn open(&self) -> Result<JournalReader, SourceError> {
        let place = match &self.location {
            JournalLocation::System => JournalPlace::System,
            JournalLocation::Namespace(name) => JournalPlace::Namespace(name.clone()),
            JournalLocation::Directory(path) => JournalPlace::Directory(path.clone()),
        };
        let mut journal = JournalReader::open(place).map_err(|error| self.failed(error))?;
        if journal.is_empty() {
            return Err(match problems(&mut journal).next() {
                Some(problem) => self.unreadable(&problem),
                None => SourceError(SourceErrorKind::NoJournal(self.location.to_string())),
            });
        }
        // Of a longer field so much that it shows.
        journal.set_fields(whole::fields().chain([liveness::FIELD.as_bytes()]), whole::LONGEST + 1);
        Ok(journal)
    }

    /// Limits what is read to our programs, and to heartbeats with this token.
    fn limit(&self, journal: &mut JournalReader, token: Option<&str>) {
        if self.programs.is_empty() {
            return;
        }
        let field = |name: &str, value: &[u8]| [name.as_bytes(), b"=", value].concat();
        let mut fields = Vec::new();
        for program in &self.programs {
            fields.extend([field("SYSLOG_IDENTIFIER", program.as_bytes()), field("_COMM", comm(program))]);
        }
        for (name, values) in streams::PIECES {
            fields.extend(values.iter().map(|value| field(name, value.as_bytes())));
        }
        fields.extend(token.map(|token| field(liveness::FIELD, token.as_bytes())));
        journal.set_filter(Filter::Any(fields));
    }

    /// Whether a record is of one of our programs.
    fn wants(&self, record: &[u8]) -> bool {
        let (name, process) = (field_of(record, b"SYSLOG_IDENTIFIER"), field_of(record, b"_COMM"));
        let is_its = |program: &String| program.as_bytes() == name || comm(program) == process;
        self.programs.is_empty() || self.programs.iter().any(is_its)
    }

    fn unreadable(&self, problem: &JournalProblem) -> SourceError {
        self.failed(io::Error::new(problem.error.kind(), problem.to_string()))
    }

    fn failed(&self, error: io::Error) -> SourceError {
        SourceError(SourceErrorKind::Journal(self.location.to_string(), error))
    }
}

/// What the name of a program's process is: the kernel keeps 15 bytes (TASK_COMM_LEN).
fn comm(program: &str) -> &[u8] {
    program.as_bytes().get(..15).unwrap_or(program.as_bytes())
}
