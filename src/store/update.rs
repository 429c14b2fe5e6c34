//! The unit of writing to the ledger.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::packed::PackedRows;
use super::undo::{UndoStep, UndoUpdate};
use crate::detect::{Login, Trace};
use crate::engine::Evidence;
use crate::grammar::Grammars;
use crate::model::{Allowance, CategoryId, Decision, GrammarId, Offender, Timestamp};

/// All that came of one batch or one command: the ledger holds the whole of it or nothing.
///
/// The place in the source stands beside what was decided from the entries before it. So after a crash at any
/// moment, a daemon that reads on from that place decides as it would have without the crash.
#[derive(Clone, Debug, Default)]
pub struct LedgerUpdate {
    /// Whether this is all there is: bans and counts that are not in it are over.
    pub whole: bool,
    /// What the offences left behind, in their order.
    pub traces: Vec<Trace>,
    /// Their messages.
    pub evidence: Evidence,
    /// The grammars that found them.
    pub grammars: Arc<Grammars>,
    /// What was decided; shared with who carries it out. A ban that is over by now is history, and counts for how long the
    /// next one lasts.
    pub decisions: Arc<Vec<Decision>>,
    /// Both in few bytes, in their place.
    pub packed: PackedRows,
    /// How many bans are in force after it, where that is known.
    pub in_force: Option<usize>,
    /// Exemptions by hand; `None` for a removed one.
    pub allowances: Vec<(Offender, Option<Allowance>)>,
    /// What has changed of the commands that can be taken back.
    pub undo: Vec<UndoUpdate>,
    /// What has changed of who logged in lately, and what was forgiven them.
    pub logins: Vec<Login>,
    /// How far sources were read.
    pub positions: Vec<(Arc<str>, String)>,
    /// How often the daemon has started since such a position changed last. A position that changes is one without any.
    pub starts: Vec<(Arc<str>, u32)>,
    /// How far a client that numbers its lines was read.
    pub clients: Vec<ClientProgress>,
}

impl LedgerUpdate {
    /// About how many bytes it takes while it waits to be written.
    pub fn size(&self) -> usize {
        size_of::<Self>()
            + self.evidence.size()
            + size_of_val(self.traces.as_slice())
            + size_of_val(self.decisions.as_slice())
            + self.packed.size()
            + self.undo.iter().map(UndoUpdate::size).sum::<usize>()
    }

    /// Lets traces and decisions wait in few bytes, if they are all there is of them; it takes 0.1 µs each, and as long when
    /// they are written.
    pub fn pack(&mut self) {
        if self.packed.is_empty() {
            self.packed = PackedRows::new(&self.traces, &self.decisions);
            (self.traces, self.decisions) = (Vec::new(), Arc::default());
        }
    }

    /// What a grammar and one of its categories are called; nothing where it is gone.
    pub(super) fn names(&self, grammar: Option<GrammarId>, category: Option<CategoryId>) -> (&str, &str) {
        let grammar = grammar.and_then(|grammar| self.grammars.get(grammar));
        let category = grammar.zip(category);
        let category = category.and_then(|(grammar, id)| grammar.categories().get(usize::from(id.0)));
        (grammar.map_or("", |grammar| grammar.name()), category.map_or("", String::as_str))
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        !self.whole
            && self.traces.is_empty()
            && self.packed.is_empty()
            && self.decisions.is_empty()
            && self.allowances.is_empty()
            && self.undo.is_empty()
            && self.logins.is_empty()
            && self.positions.is_empty()
            && self.starts.is_empty()
            && self.clients.is_empty()
    }
}

/// How far a client's lines were read, and which of them may come again from its successor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientProgress {
    /// Which one: a number drawn at random when it started.
    pub instance: u64,
    /// How many of its lines were read.
    pub taken: u64,
    /// Hashes of the last of them, as many as may come again should the client die.
    pub tail: Vec<u64>,
}

/// What the ledger had to say at the start.
#[derive(Debug, Default)]
pub struct SavedState {
    /// Bans, those that are over by now among them: they count for how long the next one lasts.
    pub bans: Vec<crate::model::Ban>,
    /// What offences left behind, in their order.
    pub traces: Vec<Trace>,
    /// How far sources were read.
    pub positions: BTreeMap<Arc<str>, String>,
    /// How often the daemon has started since such a position changed last.
    pub starts: BTreeMap<Arc<str>, u32>,
    /// How far clients were read, the one heard last at the end.
    pub clients: Vec<ClientProgress>,
    /// Exemptions by hand, including those that are over by now.
    pub allowances: Vec<Allowance>,
    /// Who logged in lately.
    pub logins: Vec<Login>,
    /// The commands that can be taken back, the latest at the end.
    pub undo: Vec<UndoStep>,
}

impl SavedState {
    /// Dates what is in the future at `now`, for the clock has stepped back since: as of now. So a ban lasts as long as
    /// it was to last, from now on at most. Whether there was any.
    pub fn redate(&mut self, now: Timestamp) -> bool {
        let mut some = false;
        let mut ahead = |at: Timestamp| {
            some |= at > now;
            at.since(now)
        };
        self.bans.iter_mut().for_each(|ban| ban.shift_back(ahead(ban.since)));
        self.allowances.iter_mut().for_each(|allowance| allowance.shift_back(ahead(allowance.since)));
        for login in &mut self.logins {
            login.at = login.at - ahead(login.at);
            login.forgiven.1 = login.forgiven.1 - ahead(login.forgiven.1);
        }
        self.undo.iter_mut().for_each(|step| step.shift_back(ahead(step.at)));
        for trace in &mut self.traces {
            let by = ahead(trace.time);
            trace.time = trace.time - by;
            trace.session.iter_mut().for_each(|session| session.shift_back(by));
        }
        some
    }
}
