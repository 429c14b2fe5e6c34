//! How many of what there were.

use super::Forgers;
use crate::entry::Malformed;
use crate::entry::whole::MessageCounts;
use crate::grammar::Grammars;
use crate::model::Timestamp;

/// How many of what there were in a number of records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// All records.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Records that no entry came of, by [`Malformed`].
    pub malformed: Vec<(Malformed, u64)>,
    /// Entries of programs that no grammar reads.
    pub ignored: u64,
    /// Entries of which the source cannot tell who wrote them.
    pub unattested: u64,
    /// Messages that did not come in one piece, of the programs of our grammars.
    pub messages: MessageCounts,
    /// When the latest entry was written; 0 where there is none.
    pub latest: Timestamp,
    /// What the entries of each grammar came to, by [`crate::model::GrammarId`].
    pub grammars: Vec<GrammarTally>,
}

/// What the entries of one grammar came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GrammarTally {
    /// No offence.
    pub harmless: u64,
    /// Of these, as far as they were looked at: those that name an address and that no rule knows.
    pub unmatched: u64,
    /// An offence or a login, were it not that its sender is known to be somebody else.
    pub forged: Forgers,
    /// An offence or a login, were it not that nobody knows who wrote it, and that is [refused](super::Unattested::Refuse).
    pub refused: u64,
    /// An offence or a login under a key, were it not that no line has named the address.
    pub nameless: u64,
    /// Offences by category.
    pub offences: Vec<u64>,
    /// Logins that went well.
    pub logins: u64,
}

impl GrammarTally {
    /// All entries that are not forged.
    pub fn entries(&self) -> u64 {
        let offences: u64 = self.offences.iter().sum();
        self.harmless + self.refused + self.nameless + self.logins + offences
    }
}

impl Tally {
    /// All offences.
    pub fn offences(&self) -> u64 {
        self.grammars.iter().flat_map(|grammar| &grammar.offences).sum()
    }

    /// Adds what another counted.
    pub fn add(&mut self, other: &Tally) {
        self.entries += other.entries;
        self.bytes += other.bytes;
        self.ignored += other.ignored;
        self.unattested += other.unattested;
        self.messages.add(&other.messages);
        self.latest = self.latest.max(other.latest);
        for (why, times) in &other.malformed {
            self.malformed(*why, *times);
        }
        if self.grammars.len() < other.grammars.len() {
            self.grammars.resize_with(other.grammars.len(), GrammarTally::default);
        }
        for (mine, other) in self.grammars.iter_mut().zip(&other.grammars) {
            mine.harmless += other.harmless;
            mine.unmatched += other.unmatched;
            mine.forged.add(&other.forged);
            mine.refused += other.refused;
            mine.nameless += other.nameless;
            mine.logins += other.logins;
            if mine.offences.len() < other.offences.len() {
                mine.offences.resize(other.offences.len(), 0);
            }
            mine.offences.iter_mut().zip(&other.offences).for_each(|(mine, other)| *mine += other);
        }
    }

    pub(super) fn malformed(&mut self, why: Malformed, times: u64) {
        match self.malformed.iter_mut().find(|(known, _)| *known == why) {
            Some((_, known)) => *known += times,
            None => self.malformed.push((why, times)),
        }
    }

    pub(super) fn reset(&mut self, grammars: &Grammars) {
        (self.entries, self.bytes, self.ignored, self.unattested) = (0, 0, 0, 0);
        self.messages = MessageCounts::default();
        self.latest = Timestamp::default();
        self.malformed.clear();
        self.grammars.resize_with(grammars.iter().count(), GrammarTally::default);
        for (tally, grammar) in self.grammars.iter_mut().zip(grammars.iter()) {
            (tally.harmless, tally.unmatched, tally.refused, tally.logins) = (0, 0, 0, 0);
            tally.nameless = 0;
            tally.forged.clear();
            tally.offences.clear();
            tally.offences.resize(grammar.categories().len(), 0);
        }
    }
}
