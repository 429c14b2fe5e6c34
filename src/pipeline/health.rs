//! How sources, enforcement and the ledger are: what the tasks know of themselves, and `status` shows.
//!
//! It is the one thing that tasks share. They write here when something changes, not for each entry.

use std::sync::{Arc, Mutex, PoisonError};

use crate::control::{EnforcementStatus, LedgerStatus, SourceState, SourceStatus};

/// A handle to what all tasks know; clones share it.
#[derive(Clone)]
pub(super) struct Health(Arc<Mutex<State>>);

struct State {
    sources: Vec<SourceStatus>,
    enforcement: EnforcementStatus,
    ledger: LedgerStatus,
}

impl Health {
    pub(super) fn new(mode: &str) -> Self {
        let enforcement = EnforcementStatus { mode: mode.to_owned(), sets: Vec::new(), error: None };
        Self(Arc::new(Mutex::new(State {
            sources: Vec::new(),
            enforcement,
            ledger: LedgerStatus::default(),
        })))
    }

    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        // Whoever panicked while writing left at worst an old line of status.
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Says how a source is; `error` if it cannot be read.
    pub(super) fn source(&self, name: &str, error: Option<String>) {
        let status = if error.is_none() { SourceState::Running } else { SourceState::Failed };
        self.with(|state| match state.sources.iter_mut().find(|source| source.name == name) {
            Some(source) => (source.state, source.error) = (status, error),
            None => state.sources.push(SourceStatus {
                name: name.to_owned(),
                state: status,
                entries: 0,
                unattested: 0,
                error,
            }),
        });
    }

    /// A source that the configuration no longer wants.
    pub(super) fn forget(&self, name: &str) {
        self.with(|state| state.sources.retain(|source| source.name != name));
    }

    pub(super) fn enforcement(&self, change: impl FnOnce(&mut EnforcementStatus)) {
        self.with(|state| change(&mut state.enforcement));
    }

    pub(super) fn ledger(&self, change: impl FnOnce(&mut LedgerStatus)) {
        self.with(|state| change(&mut state.ledger));
    }

    pub(super) fn read(&self) -> (Vec<SourceStatus>, EnforcementStatus, LedgerStatus) {
        self.with(|state| (state.sources.clone(), state.enforcement.clone(), state.ledger.clone()))
    }
}
