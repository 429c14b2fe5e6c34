//! The state of sources, enforcement and the ledger, for `status` and Prometheus. Tasks share it, and write when
//! something changes, not for each entry.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use super::metrics::Metrics;
use crate::control::{EnforcementStatus, LedgerStatus, ReceiverStatus, SourceState, SourceStatus};
use crate::input::ingest::BridgeCount;
use crate::model::Offender;
use crate::store::LedgerSize;

/// A handle to what all tasks know; clones share it.
#[derive(Clone)]
pub(super) struct Health(Arc<Mutex<HealthState>>);

/// What they know.
#[derive(Clone)]
pub(super) struct HealthState {
    pub(super) sources: Vec<SourceStatus>,
    bridges: BridgeCount,
    pub(super) enforcement: EnforcementStatus,
    pub(super) ledger: LedgerStatus,
    pub(super) ledger_size: LedgerSize,
    pub(super) receivers: Vec<ReceiverStatus>,
    /// Why the metrics are not served, if they ought to be.
    pub(super) metrics: Option<String>,
    faults: [Option<String>; 2],
    /// What the watcher has found wrong with sets and rule.
    pub(super) watched: Option<String>,
    /// Whose bans wait for room in the kernel, some of them.
    pub(super) waiting: Arc<HashSet<Offender>>,
    /// Whether anything has looked at the kernel yet.
    is_checked: bool,
}

/// Who looks after the kernel: each has a word on how that is.
#[derive(Clone, Copy)]
pub(super) enum Component {
    Enforcer,
    Watcher,
}

impl Health {
    pub(super) fn new((mode, backend): (String, Option<String>)) -> Self {
        let enforcement =
            EnforcementStatus { mode, backend, sets: Vec::new(), pending: 0, repaired: None, error: None };
        Self(Arc::new(Mutex::new(HealthState {
            sources: Vec::new(),
            bridges: BridgeCount::default(),
            enforcement,
            ledger: LedgerStatus::default(),
            ledger_size: LedgerSize::default(),
            receivers: Vec::new(),
            metrics: None,
            faults: [None, None],
            watched: None,
            waiting: Arc::default(),
            is_checked: false,
        })))
    }

    fn with<T>(&self, look: impl FnOnce(&mut HealthState) -> T) -> T {
        // A panic while writing leaves at worst an old line of status.
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
                silent: None,
                lag: None,
                clients: None,
                error,
            }),
        });
    }

    /// What counts who is connected to the ingest socket.
    pub(super) fn bridges(&self) -> BridgeCount {
        self.with(|state| state.bridges.clone())
    }

    /// A source that the configuration no longer wants.
    pub(super) fn forget(&self, name: &str) {
        self.with(|state| state.sources.retain(|source| source.name != name));
    }

    pub(super) fn enforcement(&self, change: impl FnOnce(&mut EnforcementStatus)) {
        self.with(|state| change(&mut state.enforcement));
    }

    /// Says what keeps bans from being enforced, as far as this component knows.
    pub(super) fn fault(&self, component: Component, fault: Option<String>) {
        self.with(|state| {
            state.is_checked = true;
            state.faults.get_mut(component as usize).into_iter().for_each(|slot| slot.clone_from(&fault));
            let [_, watched] = &state.faults;
            state.watched.clone_from(watched);
            let known: Vec<&str> = state.faults.iter().flatten().map(String::as_str).collect();
            state.enforcement.error = (!known.is_empty()).then(|| known.join("; "));
        });
    }

    /// These wait for room in the kernel.
    pub(super) fn waiting(&self, waiting: HashSet<Offender>) {
        self.with(|state| {
            if *state.waiting != waiting {
                state.waiting = Arc::new(waiting);
            }
        });
    }

    /// Says why the metrics are not served, if they ought to be.
    pub(super) fn metrics(&self, error: Option<String>) {
        self.with(|state| state.metrics = error);
    }

    pub(super) fn ledger(&self, change: impl FnOnce(&mut LedgerStatus)) {
        self.with(|state| change(&mut state.ledger));
    }

    /// The ledger can be used, and is this large.
    pub(super) fn ledger_size(&self, size: LedgerSize) {
        self.with(|state| (state.ledger.error, state.ledger_size) = (None, size));
    }

    /// These are the receivers that the configuration wants.
    pub(super) fn receivers<'a>(&self, names: impl Iterator<Item = &'a str>) {
        let new = |name: &str| ReceiverStatus { name: name.to_owned(), ..ReceiverStatus::default() };
        self.with(|state| {
            let mut old = std::mem::take(&mut state.receivers);
            let mut status = |name| {
                let known = old.iter().position(|receiver| receiver.name == name);
                known.map_or_else(|| new(name), |at| old.swap_remove(at))
            };
            state.receivers = names.map(&mut status).collect();
        });
    }

    /// Says how it goes with a receiver, if it is still wanted.
    pub(super) fn receiver(&self, name: &str, change: impl FnOnce(&mut ReceiverStatus)) {
        self.with(|state| state.receivers.iter_mut().find(|receiver| receiver.name == name).map(change));
    }

    pub(super) fn read(&self) -> HealthState {
        let mut read = self.with(|state| state.clone());
        let socket = read.sources.iter_mut().find(|source| source.name == "socket");
        socket.into_iter().for_each(|socket| socket.clients = *read.bridges.borrow());
        read
    }

    /// Shows in Prometheus' metrics what `status` says too.
    pub(super) fn export(&self, metrics: &Metrics) {
        let set = |name, labels: &[_], value: u64| metrics.gauge(name, labels).set(value as f64);
        let HealthState { sources, enforcement, ledger, ledger_size: size, is_checked, .. } = self.read();
        for source in &sources {
            let (name, is_up) = ([("source", source.name.as_str())], source.state == SourceState::Running);
            set("banstream_source_up", &name, is_up.into());
            source.clients.into_iter().for_each(|clients| set("banstream_source_clients", &name, clients));
            metrics.counter("banstream_entries_total", &name).increment(0);
        }
        for sizes in &enforcement.sets {
            let name = [("set", sizes.name.as_str())];
            set("banstream_set_elements", &name, sizes.elements);
            set("banstream_set_capacity", &name, sizes.capacity);
        }
        set("banstream_enforce_pending_elements", &[], enforcement.pending);
        set("banstream_enforce_up", &[], (is_checked && enforcement.error.is_none()).into());
        set("banstream_ledger_up", &[], ledger.error.is_none().into());
        set("banstream_ledger_bytes", &[], size.bytes);
        let rows = [("offence", size.offences), ("ban", size.bans), ("tally", size.tallies)];
        rows.iter().for_each(|(table, rows)| set("banstream_ledger_rows", &[("table", *table)], *rows));
    }
}
