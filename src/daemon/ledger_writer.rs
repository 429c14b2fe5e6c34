//! The task that writes the ledger, and handles a ledger that cannot be written.
//!
//! It writes waiting updates in one transaction, and gives the receipts for them. While the ledger fails, updates wait
//! in memory and receipts are given at once, because bans must go on; when the ledger can be written again, the updates
//! are written. What waits behind much takes few bytes. If too much waits, the hub drops updates and later writes one
//! update with the whole state. At the end it writes for a limited time; the next start takes bans that the ledger then
//! lacks from the kernel.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use std::{mem, slice};

use tokio::sync::oneshot;

use super::health::Health;
use super::now;
use crate::config::Retention;
use crate::daemon::metrics::Metrics;
use crate::grammar::Grammars;
use crate::model::count;
use crate::store::{Ledger, LedgerError, LedgerUpdate, SavedState};

/// How long updates gather for one transaction, where nobody waits for a receipt.
const GATHER: Duration = Duration::from_millis(100);
/// How soon to try again what could not be written.
const RETRY: Duration = Duration::from_secs(2);
/// How often to measure the ledger.
const MEASURE: Duration = Duration::from_secs(10);
/// Bytes of updates that may wait; what comes then is left out.
const MOST: usize = 64 << 20;
/// Bytes of updates that may wait as they are; what comes then is packed.
const MANY: usize = 4 << 20;
/// Bytes of updates for one transaction, about: a stop waits for the last one.
const TRANSACTION: usize = 4 << 20;
/// For how long a stop writes: where the kernel tells the next start all bans at once, and where it does not.
pub(super) const SHORT_STOP: Duration = Duration::from_secs(2);
pub(super) const LONG_STOP: Duration = Duration::from_secs(20);

/// For how long a receipt waits for a disk that does not answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// An update on its way to the ledger.
struct QueuedUpdate {
    number: u64,
    update: LedgerUpdate,
    is_waited_for: bool,
}

/// The hub's end.
pub(super) struct LedgerQueue {
    entries: Sender<QueuedUpdate>,
    shared: Arc<Shared>,
    /// Pages handed over.
    count: u64,
    /// Whether updates have been left out since the last that says all.
    has_gap: bool,
    /// For how long a stop writes.
    stop: Duration,
}

/// What both ends know.
#[derive(Default)]
struct Shared {
    /// Bytes of the updates that are not written yet.
    waiting: AtomicUsize,
    /// Set where an update that says all is needed.
    wanted: AtomicBool,
    /// Whether a receipt has waited for too long since the last update was written.
    hangs: AtomicBool,
    /// Until when the ledger is written; set where the daemon stops.
    end: OnceLock<Instant>,
    owed: Mutex<VecDeque<PendingReceipt>>,
}

/// A receipt for the update of that number.
struct PendingReceipt {
    number: u64,
    since: Instant,
    receipt: oneshot::Sender<()>,
}

impl Shared {
    /// Whether the daemon stops, and the time to write is over.
    fn is_over(&self) -> bool {
        self.end.get().is_some_and(|end| Instant::now() >= *end)
    }

    /// Gives the oldest receipts, as far as they are due; whether there were any.
    fn give(&self, is_due: impl Fn(&PendingReceipt) -> bool) -> bool {
        let mut owed = self.owed.lock().unwrap_or_else(PoisonError::into_inner);
        let before = owed.len();
        while owed.front().is_some_and(&is_due)
            && let Some(PendingReceipt { receipt, .. }) = owed.pop_front()
        {
            // The client may be gone; then it sends the lines again.
            let _ = receipt.send(());
        }
        owed.len() < before
    }
}

impl LedgerQueue {
    /// Hands over an update; never waits for the disk. The receipt is given once the update is written, or at once where it
    /// is left out because too much waits; whether it was left out.
    pub(super) fn write(&mut self, mut update: LedgerUpdate, receipt: Option<oneshot::Sender<()>>) -> bool {
        self.has_gap |= self.shared.waiting.load(Ordering::Relaxed) > MOST;
        if self.has_gap {
            if let Some(receipt) = receipt {
                let _ = receipt.send(());
            }
            return !update.is_empty();
        }
        if update.is_empty() && receipt.is_none() {
            return false;
        }
        if self.is_behind() {
            update.pack();
        }
        self.hand_over(update, receipt);
        false
    }

    /// Whether so much waits that each update should take few bytes.
    pub(super) fn is_behind(&self) -> bool {
        self.shared.waiting.load(Ordering::Relaxed) > MANY
    }

    /// Whether an update that says all is still owed when the end has come, however much waits: without it the ledger
    /// would lack what was left out, and nobody would know.
    pub(super) fn owes_whole(&self) -> bool {
        self.has_gap || self.shared.wanted.load(Ordering::Relaxed)
    }

    /// Hands over that update.
    pub(super) fn close(&mut self, whole: LedgerUpdate) {
        self.hand_over(whole, None);
    }

    fn hand_over(&mut self, update: LedgerUpdate, receipt: Option<oneshot::Sender<()>>) {
        self.count += 1;
        let (number, since) = (self.count, Instant::now());
        let is_waited_for = receipt.is_some();
        if let Some(receipt) = receipt {
            let mut owed = self.shared.owed.lock().unwrap_or_else(PoisonError::into_inner);
            owed.push_back(PendingReceipt { number, since, receipt });
        }
        self.shared.waiting.fetch_add(update.size(), Ordering::Relaxed);
        if self.entries.send(QueuedUpdate { number, update, is_waited_for }).is_err() {
            log::error!("the writer has stopped");
        }
        if self.shared.hangs.load(Ordering::Relaxed) {
            self.shared.give(|_| true);
        }
    }

    /// Gives the receipts that have waited for too long at `now`, and until something is written those to come at once,
    /// for without them no more lines would come; whether there were any.
    pub(super) fn lose_patience(&self, now: Instant) -> bool {
        let lost = self.shared.give(|owed| now.saturating_duration_since(owed.since) >= PATIENCE);
        self.shared.hangs.fetch_or(lost, Ordering::Relaxed);
        lost
    }

    /// About how many bytes wait to be written.
    pub(super) fn waiting(&self) -> u64 {
        self.shared.waiting.load(Ordering::Relaxed) as u64
    }

    /// What is known has changed as a whole.
    pub(super) fn want_whole(&self) {
        self.shared.wanted.store(true, Ordering::Relaxed);
    }

    /// Whether an update that says all is to be written now. Ask about every second.
    pub(super) fn wants_whole(&mut self) -> bool {
        let has_room = self.shared.waiting.load(Ordering::Relaxed) == 0;
        let wanted = has_room && mem::take(&mut self.has_gap);
        self.shared.wanted.swap(false, Ordering::Relaxed) || wanted
    }
}

impl Drop for LedgerQueue {
    fn drop(&mut self) {
        let _ = self.shared.end.set(Instant::now() + self.stop);
    }
}

/// The task.
pub(super) struct LedgerWriter {
    entries: Receiver<QueuedUpdate>,
    shared: Arc<Shared>,
    ledger: LedgerFile,
    /// What is not written yet.
    waiting: Vec<LedgerUpdate>,
    /// Whether the last attempt to write failed.
    is_failing: bool,
    tried: Instant,
    measured: Option<Instant>,
    metrics: Metrics,
    health: Health,
}

/// Where the ledger is.
enum LedgerFile {
    /// There is none: what is only tried leaves no trace.
    None,
    Closed(PathBuf, Retention),
    Open(PathBuf, Retention, Box<Ledger>),
}

impl LedgerWriter {
    /// Opens the ledger in this directory, if there is to be one, and what it remembers. A ledger that cannot be
    /// opened is opened later; one that is damaged is set aside. A stop writes for `stop`.
    pub(super) fn start(
        place: Option<(PathBuf, Retention)>,
        stop: Duration,
        grammars: &Grammars,
        metrics: &Metrics,
        health: &Health,
    ) -> (Self, LedgerQueue, SavedState) {
        let (sender, entries) = std::sync::mpsc::channel();
        let shared = Arc::new(Shared::default());
        let mut writer = Self {
            entries,
            shared: Arc::clone(&shared),
            ledger: place
                .map_or(LedgerFile::None, |(directory, limits)| LedgerFile::Closed(directory, limits)),
            waiting: Vec::new(),
            is_failing: false,
            tried: Instant::now(),
            measured: None,
            metrics: metrics.clone(),
            health: health.clone(),
        };
        let memory = writer.remember(grammars);
        (writer, LedgerQueue { entries: sender, shared, count: 0, has_gap: false, stop }, memory)
    }

    fn remember(&mut self, grammars: &Grammars) -> SavedState {
        let LedgerFile::Closed(directory, limits) = &self.ledger else { return SavedState::default() };
        let (directory, limits) = (directory.clone(), *limits);
        self.health.ledger(|status| status.path = Some(directory.display().to_string()));
        let mut memory = SavedState::default();
        let opened = self.open_by(|directory, limits| {
            let (ledger, read) = Ledger::open_and_read(directory, limits, grammars)?;
            memory = read;
            Ok(ledger)
        });
        if let Err(error) = opened.map(drop) {
            self.failed(&error);
            if !error.is_locked() {
                // Who was banned is to stay so, where it can at least be read.
                let read =
                    Ledger::open_to_read(&directory, limits).and_then(|ledger| ledger.memory(grammars));
                memory = read.unwrap_or_default();
            }
        }
        self.measure();
        memory
    }

    /// Writes what comes until the daemon stops; then what is left, for a limited time. Whether the ledger now has all of
    /// it.
    pub(super) fn run(mut self) -> bool {
        while self.shared.end.get().is_none() {
            let patience = if self.is_failing { RETRY.saturating_sub(self.tried.elapsed()) } else { MEASURE };
            let mut last = 0;
            match self.entries.recv_timeout(patience) {
                Ok(first) => last = self.gather(first),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if !self.is_failing || self.tried.elapsed() >= RETRY {
                self.write();
            }
            // Where it could not be written too: without receipts no more lines would come.
            self.shared.give(|owed| owed.number <= last);
            if self.measured.is_none_or(|measured| measured.elapsed() >= MEASURE) {
                self.measure();
            }
        }
        self.finish();
        if !self.waiting.is_empty() {
            let updates = count(self.waiting.len() as u64, "update");
            log::warn!(
                "{updates} not written to the ledger; the next start takes their bans from the kernel"
            );
        }
        self.waiting.is_empty() && matches!(self.ledger, LedgerFile::Open(..))
    }

    /// Writes what is left, each update by itself, until the time is over.
    fn finish(&mut self) {
        let left: Vec<_> = self.entries.iter().map(|entry| entry.update).collect();
        self.waiting.extend(left);
        let mut left = mem::take(&mut self.waiting).into_iter();
        let write = |mut ledger: Option<&mut Ledger>| {
            while let Some(update) = left.as_slice().first() {
                ledger.iter_mut().try_for_each(|ledger| ledger.write(slice::from_ref(update), now()))?;
                left.next();
            }
            Ok(())
        };
        // A ledger is checked when it is opened, which may take seconds.
        if !self.shared.is_over()
            && let Err(error) = self.open().and_then(write)
        {
            log::warn!("cannot write the rest to the ledger: {error}");
        }
        self.waiting.extend(left);
    }

    /// Takes in what there is for one transaction; the number of the last update. Where nobody waits for a receipt, more
    /// may come for a while.
    fn gather(&mut self, first: QueuedUpdate) -> u64 {
        let until = Instant::now() + GATHER;
        let (mut last, mut is_waited_for, mut next) = (first.number, false, Some(first));
        let mut size = 0;
        while let Some(entry) = next {
            last = entry.number;
            is_waited_for |= entry.is_waited_for;
            size += entry.update.size();
            self.waiting.push(entry.update);
            next = match is_waited_for {
                _ if size >= TRANSACTION => break,
                true => self.entries.try_recv().ok(),
                false => self.entries.recv_timeout(until.saturating_duration_since(Instant::now())).ok(),
            };
        }
        last
    }

    fn write(&mut self) {
        if self.waiting.is_empty() && !self.is_failing {
            return;
        }
        self.tried = Instant::now();
        let waiting = mem::take(&mut self.waiting);
        match self.open().and_then(|ledger| ledger.map_or(Ok(()), |ledger| ledger.write(&waiting, now()))) {
            Ok(()) => {
                let hung = self.shared.hangs.swap(false, Ordering::Relaxed);
                let seconds = self.tried.elapsed().as_secs_f64();
                self.metrics.histogram("banstream_ledger_write_duration_seconds").record(seconds);
                self.shared
                    .waiting
                    .fetch_sub(waiting.iter().map(LedgerUpdate::size).sum(), Ordering::Relaxed);
                if mem::take(&mut self.is_failing) || hung {
                    log::info!("the ledger can be written again");
                    self.measure();
                }
            }
            Err(error) => {
                self.waiting = waiting;
                if !self.shared.is_over() {
                    self.failed(&error);
                }
            }
        }
    }

    /// The ledger, opened if it is not, and set aside if it is damaged; `None` if there is to be none.
    fn open(&mut self) -> Result<Option<&mut Ledger>, LedgerError> {
        self.open_by(Ledger::open)
    }

    /// The same by this function.
    fn open_by(
        &mut self,
        mut open: impl FnMut(&Path, Retention) -> Result<Ledger, LedgerError>,
    ) -> Result<Option<&mut Ledger>, LedgerError> {
        if let LedgerFile::Closed(directory, limits) = &self.ledger {
            let mut opened = open(directory, *limits).or_else(|error| match error.is_corrupt() {
                true => {
                    self.set_aside(directory, &error)?;
                    open(directory, *limits)
                }
                false => Err(error),
            })?;
            let shared = Arc::clone(&self.shared);
            opened.give_up_if(move || shared.is_over())?;
            self.ledger = LedgerFile::Open(directory.clone(), *limits, Box::new(opened));
        }
        Ok(match &mut self.ledger {
            LedgerFile::Open(_, _, ledger) => Some(ledger),
            _ => None,
        })
    }

    /// Puts a damaged ledger where somebody may look at it; the next one is to hold all that we know.
    fn set_aside(&self, directory: &Path, why: &LedgerError) -> Result<(), LedgerError> {
        let stamp = now().to_string().replace(':', "-");
        let aside = Ledger::set_aside(directory, stamp.split('.').next().unwrap_or_default())?;
        let what = match &aside {
            Some(path) => format!("is damaged ({why}); renamed it to `{}`", path.display()),
            None => format!("is lost ({why})"),
        };
        self.health.ledger(|status| status.aside = aside.map(|path| path.display().to_string()));
        log::error!("the ledger {what}; starting a new one with the content of memory");
        self.metrics.counter("banstream_ledger_errors_total", &[]).increment(1);
        self.shared.wanted.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn failed(&mut self, error: &LedgerError) {
        self.metrics.counter("banstream_ledger_errors_total", &[]).increment(1);
        self.health.ledger(|status| status.error = Some(error.to_string()));
        if !mem::replace(&mut self.is_failing, true) {
            log::error!("cannot use the ledger, so bans would not survive a restart: {error}");
        }
        if let LedgerFile::Open(directory, limits, _) = &self.ledger {
            let (directory, limits) = (directory.clone(), *limits);
            // Closes it, so that the next attempt opens it again.
            self.ledger = LedgerFile::Closed(directory.clone(), limits);
            if error.is_corrupt()
                && let Err(error) = self.set_aside(&directory, error)
            {
                log::error!("cannot rename the damaged ledger: {error}");
            }
        }
    }

    /// Tells how large it is.
    fn measure(&mut self) {
        self.measured = Some(Instant::now());
        let LedgerFile::Open(_, _, ledger) = &self.ledger else { return };
        match ledger.size() {
            Ok(size) => self.health.ledger_size(size),
            Err(error) => self.failed(&error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::num::NonZeroU32;
    use std::ops::Range;

    use super::*;
    use crate::detect::manual;
    use crate::model::{Decision, Span, Timestamp};

    #[test]
    fn what_is_too_much_is_left_out_and_made_up_for() {
        let (entries, received) = std::sync::mpsc::channel();
        let shared = Arc::new(Shared::default());
        let mut queue =
            LedgerQueue { entries, shared: Arc::clone(&shared), count: 0, has_gap: false, stop: LONG_STOP };
        let update = || LedgerUpdate {
            positions: vec![("journald".into(), String::new())],
            ..LedgerUpdate::default()
        };
        let sent = || received.try_iter().count();
        assert!(!queue.write(update(), None) && sent() == 1 && queue.waiting() > 0);

        shared.waiting.store(MOST + 1, Ordering::Relaxed);
        let (receipt, mut given) = oneshot::channel();
        assert!(queue.write(update(), Some(receipt)) && sent() == 0);
        assert!(given.try_recv().is_ok(), "nobody waits for what is never written");
        shared.waiting.store(1, Ordering::Relaxed);
        assert!(!queue.wants_whole(), "what was before the gap comes first");
        assert!(
            queue.write(update(), None) && sent() == 0,
            "and what is after it, after the update that says all"
        );

        shared.waiting.store(0, Ordering::Relaxed);
        assert!(queue.wants_whole() && !queue.wants_whole());
        assert!(!queue.write(update(), None) && sent() == 1);
        assert!(!queue.owes_whole());

        let bans = |range: Range<u32>| {
            let offender = |n: u32| Ipv4Addr::from_bits(n).to_string().parse().unwrap();
            let ban = |n: u32| Decision::Ban(manual(offender(n), Timestamp::from_secs(1), None, ""));
            LedgerUpdate { decisions: Arc::new(range.map(ban).collect()), ..LedgerUpdate::default() }
        };
        for waiting in [MANY, MANY + 1] {
            shared.waiting.store(waiting, Ordering::Relaxed);
            let size = bans(0..100).size();
            assert!(!queue.write(bans(0..100), None));
            let sent = received.try_recv().unwrap().update;
            assert_eq!(sent.size() < size / 2, waiting > MANY, "what waits behind much takes less");
        }

        shared.waiting.store(MOST + 1, Ordering::Relaxed);
        assert!(queue.write(update(), None) && queue.owes_whole(), "at the end it does not wait for room");
        queue.close(update());
        assert_eq!(sent(), 1);
    }

    #[test]
    fn a_stop_writes_for_a_limited_time_and_says_what_is_missing() {
        let directory = tempfile::tempdir().unwrap();
        let limits = Retention { keep: Span::from_secs(1000), max_rows: NonZeroU32::new(100_000).unwrap() };
        let bans = |range: Range<u32>| {
            let offender = |n: u32| Ipv4Addr::from_bits(n).to_string().parse().unwrap();
            let ban = |n: u32| manual(offender(n), Timestamp::from_secs(1), None, "");
            let decisions: Vec<_> = range.map(|n| Decision::Ban(ban(n))).collect();
            LedgerUpdate { decisions: decisions.into(), ..LedgerUpdate::default() }
        };
        let start = || {
            let (health, metrics) = (Health::new((String::new(), None)), Metrics::default());
            let place = Some((directory.path().to_owned(), limits));
            LedgerWriter::start(place, LONG_STOP, &Grammars::default(), &metrics, &health)
        };
        let (mut writer, mut queue, _) = start();
        queue.write(bans(0..1000), None);
        queue.write(bans(1000..2000), None);
        writer.shared.end.set(Instant::now()).unwrap();
        drop(queue);
        writer.finish();
        assert_eq!(writer.waiting.len(), 2);
        drop(writer);
        // Also what is being written when it stops.
        let (mut writer, queue, _) = start();
        writer.waiting = vec![bans(0..100_000)];
        writer.shared.end.set(Instant::now()).unwrap();
        writer.write();
        assert!(writer.waiting.len() == 1 && !writer.is_failing);
        drop((writer, queue));

        let (writer, mut queue, memory) = start();
        assert!(memory.bans.is_empty());
        queue.write(bans(0..1000), None);
        drop(queue);
        assert!(writer.run());
        let (_, _, memory) = start();
        assert_eq!(memory.bans.len(), 1000);
    }

    #[test]
    fn receipts_are_given_in_order_and_do_not_wait_for_ever() {
        let (entries, _received) = std::sync::mpsc::channel();
        let shared = Arc::new(Shared::default());
        let mut queue =
            LedgerQueue { entries, shared: Arc::clone(&shared), count: 0, has_gap: false, stop: LONG_STOP };
        let mut given: Vec<_> = (0..3)
            .map(|_| {
                let (receipt, given) = oneshot::channel();
                queue.write(LedgerUpdate::default(), Some(receipt));
                given
            })
            .collect();
        let mut count = || given.iter_mut().map(|given| usize::from(given.try_recv().is_ok())).sum::<usize>();
        assert!(!queue.lose_patience(Instant::now()) && count() == 0);
        shared.give(|owed| owed.number <= 2);
        assert_eq!(count(), 2);
        assert!(queue.lose_patience(Instant::now() + PATIENCE) && count() == 1);
        // One has waited for long enough to know.
        let (receipt, mut given) = oneshot::channel();
        queue.write(LedgerUpdate::default(), Some(receipt));
        assert!(given.try_recv().is_ok());
    }
}
