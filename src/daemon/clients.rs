//! Finds the lines of a client that were already taken.
//!
//! A client repeats lines without a receipt. rsyslog repeats lines that a dead client has not answered, or, with its
//! queue on disk, the batch that it was sending when it was killed. The first kind is recognized by the numbers of the
//! lines. The second comes from a new client, which knows nothing of the old one: it is recognized by its text, as one
//! of the last lines of another client. That is right if no two messages have equal text: the template must have a time
//! that is finer than the messages are frequent.

use std::hash::{DefaultHasher, Hasher};

use crate::entry::records::Records;
use crate::input::Numbered;
use crate::input::ingest::AGAIN;
use crate::store::{CLIENTS, ClientProgress};

/// The clients that were heard last, the latest at the end.
#[derive(Debug, Default)]
pub(super) struct Clients(Vec<ClientProgress>);

impl Clients {
    /// The clients that the ledger knows, the one heard last at the end.
    pub(super) fn new(known: Vec<ClientProgress>) -> Self {
        Self(known)
    }

    /// All that is known.
    pub(super) fn all(&self) -> Vec<ClientProgress> {
        self.0.clone()
    }

    /// Leaves out of `lines` those that were taken before. What is known of the client now, to be written down
    /// together with the results of the lines; and how many were left out.
    pub(super) fn take(&mut self, numbered: Numbered, lines: &mut Records) -> (ClientProgress, u64) {
        let Numbered { instance, first, again } = numbered;
        let known = self.0.iter().position(|client| client.instance == instance);
        let is_latest = known.is_some_and(|at| at + 1 == self.0.len());
        let mut client = known.map(|at| self.0.remove(at)).unwrap_or_else(|| ClientProgress {
            instance,
            taken: first,
            ..ClientProgress::default()
        });
        let taken: Vec<bool> = (first..)
            .zip(lines.iter())
            .map(|(number, line)| {
                let hash = (again > 0).then(|| hash(line));
                // Where two speak by turns one may be dead, and what it wrote last still under way.
                let may_be_others = number < AGAIN as u64 || !is_latest;
                let is_known = client.has(number, hash) || may_be_others && self.others_had(hash);
                client.add(number, hash, again);
                is_known
            })
            .collect();
        let left_out = taken.iter().filter(|taken| **taken).count() as u64;
        if left_out > 0 {
            lines.remove(|nth| taken.get(nth).copied().unwrap_or(false));
        }
        if self.0.len() >= CLIENTS {
            self.0.remove(0);
        }
        self.0.push(client.clone());
        (client, left_out)
    }

    /// Whether this was one of the last lines of another client. Looks at 16,000 hashes at most.
    fn others_had(&self, hash: Option<u64>) -> bool {
        hash.is_some_and(|hash| self.0.iter().any(|other| other.tail.contains(&hash)))
    }
}

impl ClientProgress {
    /// Whether this line was taken. After it was told that the engine is away, rsyslog may have gone on with another
    /// message under the same number, so the text decides where it is known.
    fn has(&self, number: u64, hash: Option<u64>) -> bool {
        let back = usize::try_from(self.taken.saturating_sub(number)).unwrap_or(usize::MAX);
        let known = self.tail.len().checked_sub(back).and_then(|at| self.tail.get(at));
        number < self.taken && known.is_none_or(|known| Some(*known) == hash)
    }

    /// Notes that the line was taken, now or before.
    fn add(&mut self, number: u64, hash: Option<u64>, again: usize) {
        if self.has(number, hash) {
            return;
        }
        // What was said under this number before was something else, and is not sent again.
        let over = usize::try_from(self.taken.saturating_sub(number)).unwrap_or(usize::MAX);
        self.tail.truncate(self.tail.len().saturating_sub(over));
        self.taken = number.saturating_add(1);
        self.tail.extend(hash);
        self.tail.drain(..self.tail.len().saturating_sub(again));
    }
}

/// Another version of the hash than the one that was written down makes a line count twice, no more.
fn hash(line: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(line);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Format;

    /// Feeds batches of (client, number of the first line, lines); those that were not known.
    #[track_caller]
    fn check(again: usize, batches: &[(u64, u64, &str)], want: &str) {
        let (mut clients, mut new) = (Clients::default(), Vec::new());
        for (instance, first, lines) in batches {
            let mut records = Records::new(Format::Line);
            lines.split(' ').for_each(|line| records.push(line.as_bytes()));
            let numbered = Numbered { instance: *instance, first: *first, again };
            let (changed, _) = clients.take(numbered, &mut records);
            assert!(clients.0.iter().all(|client| client.tail.len() <= again));
            assert_eq!(clients.0.last(), Some(&changed), "what is written is what is known");
            new.extend(records.iter().map(|line| String::from_utf8(line.to_vec()).unwrap()));
        }
        assert_eq!(new.join(" "), want);
    }

    #[test]
    fn a_line_sent_again_is_known_by_its_number() {
        check(0, &[(1, 0, "a b"), (1, 1, "b c"), (1, 3, "c")], "a b c c");
        check(0, &[(1, 5, "a b"), (1, 5, "a b c")], "a b c");
        check(1, &[(1, 0, "a"), (1, 0, "a"), (1, 1, "a")], "a a");
        check(0, &[(1, 0, "a"), (2, 0, "a"), (1, 0, "a b"), (2, 1, "b")], "a a b b");
    }

    #[test]
    fn a_line_that_a_dead_client_did_not_answer_is_known_by_its_text() {
        check(9, &[(1, 0, "a"), (1, 1, "b"), (2, 0, "b"), (2, 1, "c")], "a b c");
        check(9, &[(1, 0, "a b c d"), (2, 0, "b"), (2, 1, "c d e")], "a b c d e");
        // As often as it takes, and wherever they die.
        check(9, &[(1, 0, "a b c"), (2, 0, "a"), (3, 0, "a b"), (4, 0, "a b c d")], "a b c d");
        // The dead one's last words come late.
        check(9, &[(1, 0, "a"), (2, 0, "a b c"), (1, 1, "b"), (2, 3, "d")], "a b c d");
    }

    #[test]
    fn lines_are_equal_by_chance_where_nothing_comes_again() {
        check(2, &[(1, 0, "a b c"), (2, 0, "a b c")], "a b c a");
        check(0, &[(1, 0, "a"), (2, 0, "a")], "a a");
        check(9, &[(1, 0, "a"), (1, 1, "a a")], "a a a");
        check(9, &[(1, 0, "a"), (2, 300, "b"), (2, 301, "a")], "a b a");
    }

    #[test]
    fn a_number_used_again_for_something_else_is_a_new_line() {
        check(1, &[(1, 0, "a"), (1, 1, "b"), (1, 1, "c"), (1, 1, "c"), (1, 2, "d")], "a b c d");
    }

    #[test]
    fn the_65th_client_makes_the_first_forgotten() {
        let crowd = (1..=65).map(|instance| (instance, 0, "a"));
        let batches: Vec<_> = crowd.chain([(65, 0, "a"), (2, 0, "a"), (1, 0, "b")]).collect();
        check(0, &batches, &format!("{}b", "a ".repeat(65)));
    }
}
