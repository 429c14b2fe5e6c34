//! Our own log: to the journal if stderr goes there, else to stderr.
//!
//! Logging only puts a line into a bounded queue; a thread writes it. journald can stop for a while, and a daemon that
//! reads journald and waits for it to take a line would wait forever.
//!
//! In the journal each field beside a message is called `BANSTREAM_...`, and important events have a `MESSAGE_ID`,
//! which `contrib/systemd/banstream.catalog` explains. A message is one line: reasons and log lines contain text of
//! others, which must not add lines. [`lines`] logs text with several lines.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use log::kv::{self, Key, Value, VisitSource};
use log::{Level, LevelFilter, Log, Metadata, Record};
use systemd_journal_logger::{JournalLog, connected_to_journal};

use crate::model::plain;

/// Lines that wait to be written; those beyond are lost, and counted.
const QUEUE: usize = 1024;

/// What an entry is about, as its field `message_id`.
pub(super) const BANNED: &str = "3073580f91524f1f850218c163df63a0";
pub(super) const UNBANNED: &str = "0c4caa63f4bb4be28cbc235b5ecafac8";
pub(super) const EXEMPTED: &str = "09bd9cce5a7744a7adf6209c404dc732";
pub(super) const REPAIRED: &str = "adcb89b1f49246229acec868c96baff0";
pub(super) const NOT_ENFORCED: &str = "ecfa24cbadd94867b0e3d4a311e5d029";

static LOST: AtomicU64 = AtomicU64::new(0);

/// How many lines were lost since this was last asked.
pub(super) fn take_lost() -> u64 {
    LOST.swap(0, Ordering::Relaxed)
}

/// Logs each line of a text that is our own, as the faults of a file are.
pub(super) fn lines(level: Level, text: &str) {
    text.lines().for_each(|line| log::log!(level, "{line}"));
}

/// Makes `log`'s macros write to a queue, and returns the function that empties it, for a thread of its own.
/// It never returns.
pub(super) fn start(level: LevelFilter) -> impl FnOnce() + Send {
    let (sender, receiver) = sync_channel(QUEUE);
    // A second start in one process (tests) leaves the first in place.
    if log::set_boxed_logger(Box::new(Queue(sender))).is_ok() {
        log::set_max_level(level);
    }
    move || write(&receiver)
}

struct LogRecord {
    level: Level,
    target: String,
    message: String,
    fields: Vec<(String, String)>,
}

struct Queue(SyncSender<LogRecord>);

impl Log for Queue {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with(env!("CARGO_PKG_NAME"))
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        struct KeyValues(Vec<(String, String)>);
        impl<'kvs> VisitSource<'kvs> for KeyValues {
            fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
                let name = match key.as_str() {
                    "message_id" => "message_id".to_owned(),
                    ours => format!("{}_{ours}", env!("CARGO_PKG_NAME")),
                };
                self.0.push((name, value.to_string()));
                Ok(())
            }
        }
        let mut fields = KeyValues(Vec::new());
        // A field that cannot be shown is left out; the message says it too.
        let _ = record.key_values().visit(&mut fields);
        let line = LogRecord {
            level: record.level(),
            target: record.target().to_owned(),
            message: plain(record.args().to_string()),
            fields: fields.0,
        };
        if self.0.try_send(line).is_err() {
            LOST.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {}
}

fn write(lines: &Receiver<LogRecord>) {
    let journal = connected_to_journal().then(JournalLog::new).and_then(Result::ok);
    let journal = journal.map(|journal| journal.with_syslog_identifier(env!("CARGO_PKG_NAME").to_owned()));
    for line in lines {
        match &journal {
            Some(journal) => journal.log(
                &Record::builder()
                    .level(line.level)
                    .target(&line.target)
                    .args(format_args!("{}", line.message))
                    .key_values(&line.fields)
                    .build(),
            ),
            // Nobody is left to tell if stderr is gone. It has no buffer, so each part would be a system call.
            None => {
                let text = format!("{}: {}\n", line.level.as_str().to_lowercase(), line.message);
                drop(std::io::stderr().write_all(text.as_bytes()));
            }
        }
    }
}
