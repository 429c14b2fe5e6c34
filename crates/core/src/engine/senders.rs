//! Remembers senders whose next message may be the rest of the last.
//!
//! `logger` makes several messages of a long line and marks none, so the next message may begin anywhere in the line
//! and is not judged. To judge it would be wrong; if it was a message after all, one is lost. A sender is forgotten by
//! the time of the entries.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::model::{Entry, Span, Timestamp};

/// How many senders are remembered, the latest ones.
const MOST: usize = 64;

/// After this long a message is not the rest of another: `logger` sends all pieces of a line at once.
const LONG: Span = Span::from_secs(60);

/// Senders whose last message may go on.
#[derive(Clone, Debug, Default)]
pub(super) struct Senders {
    /// The process, the hash of what it calls itself and where it runs, and when it sent the message.
    open: Vec<(u32, u64, Timestamp)>,
}

impl Senders {
    /// Whether none is open.
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Whether the entry may be the rest of the message before it of the same sender.
    pub(super) fn takes_as_rest(&mut self, entry: &Entry<'_>) -> bool {
        self.open.retain(|(.., at)| entry.time.since(*at) <= LONG);
        // Few of the others have the same number.
        if !entry.goes_on && !self.open.iter().any(|(pid, ..)| *pid == entry.pid) {
            return false;
        }
        let mut hasher = DefaultHasher::new();
        (entry.host, entry.program).hash(&mut hasher);
        let sender = hasher.finish();
        let known = self.open.iter().position(|(pid, known, _)| (*pid, *known) == (entry.pid, sender));
        if let Some(known) = known {
            self.open.remove(known);
        }
        if entry.goes_on {
            if self.open.len() == MOST {
                self.open.remove(0);
            }
            self.open.push((entry.pid, sender, entry.time));
        }
        known.is_some()
    }
}
