//! Sources of records: journald, a Unix socket, standard input.
//!
//! A source splits its stream into records, and passes on all that are there, at once, in one [`Batch`]. The decoders
//! interpret them. The caller gives each source its thread or task, and the function that takes batches.

pub mod ingest;
pub mod journald;
pub mod lines;
pub mod omprog;
pub mod socket;
pub mod stdin;
pub mod unpack;

use std::fmt;
use std::io;
use std::sync::Arc;

use jiff::tz::TimeZone;
use tokio::sync::oneshot;

use crate::entry::Format;
use crate::entry::records::Records;

/// The zone of the stamps that name none: the host's. As [`TimeZone::system`], which looks through all zones that there are, to
/// find out what this one is called, and takes 2 ms for that.
pub fn zone() -> TimeZone {
    let file = std::env::var_os("TZ").is_none().then(|| std::fs::read("/etc/localtime"));
    let zone = file.and_then(|file| TimeZone::tzif("local", &file.ok()?).ok());
    zone.unwrap_or_else(TimeZone::system)
}

/// Records read together, and where they came from.
#[derive(Debug)]
pub struct Batch {
    /// The source, as it stands in metrics: `journald`, `socket`, `stdin` or the name of a further journal.
    pub source: Arc<str>,
    /// The records, in the order in which the source had them.
    pub records: Records,
    /// Where in the source reading can go on after this batch: journald's cursor of the last record.
    pub position: Option<String>,
    /// Under which name that is kept; the source's if `None`.
    pub place: Option<Arc<str>>,
    /// What is to be kept beside the position: how often reading began there and came to nothing.
    pub starts: Option<u32>,
    /// Which of its sender's lines these are, where the sender numbers them.
    pub numbered: Option<Numbered>,
    /// Told once the results of the batch are in the ledger; dropped untold, the sender keeps the records and sends
    /// them again.
    pub receipt: Option<oneshot::Sender<()>>,
    /// How many lines or fields were over the limit, and so were left out.
    pub overlong: u64,
    /// How many entries were skipped, because the daemon died of them twice.
    pub deadly: u64,
}

impl Batch {
    /// A batch without records.
    pub fn new(source: impl Into<Arc<str>>, format: Format) -> Self {
        let records = Records::new(format);
        Self {
            source: source.into(),
            records,
            position: None,
            starts: None,
            place: None,
            numbered: None,
            receipt: None,
            overlong: 0,
            deadly: 0,
        }
    }
}

/// Which lines of a client stand in a batch, side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbered {
    /// The client: a number drawn at random when it started.
    pub instance: u64,
    /// The number of the first line; the client's first is 0.
    pub first: u64,
    /// How many of its last lines may come again from another client, should this one die.
    pub again: usize,
}

/// Why a source cannot be read at all. Print it for the operator; the other sources go on.
#[derive(Debug)]
pub struct SourceError(SourceErrorKind);

#[derive(Debug)]
enum SourceErrorKind {
    NoJournal(String),
    Journal(String, io::Error),
    Deaf(String, String),
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            SourceErrorKind::NoJournal(place) => write!(
                f,
                "no readable journal in {place}; is journald running, and is this user in the \
                 group `systemd-journal`? (`systemd-tmpfiles --create --prefix /var/log/journal` gives \
                 that group its rights)"
            ),
            SourceErrorKind::Deaf(place, why) => write!(
                f,
                "cannot read the journal in {place}: {why}; see `Storage=` and `MaxLevelStore=` in \
                 journald.conf(5), free space, and whether this user may read the files"
            ),
            SourceErrorKind::Journal(place, error) => {
                write!(f, "cannot read the journal in {place}: {error}")
            }
        }
    }
}

// The text has the cause in it, so that it is printed once.
impl std::error::Error for SourceError {}
