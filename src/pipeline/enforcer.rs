//! The two tasks that deal with the kernel.
//!
//! The enforcer takes whatever decisions have come and carries them out together: a lone ban goes at once, a flood
//! goes in messages of thousands, and no timer is waited for. What the kernel could not be told is kept and tried
//! again. The watcher looks every few seconds whether sets and rules are still there. It is a task of its own because
//! it runs iptables, which takes 10 ms, and no ban is to wait for that.
//!
//! They do not know why anybody is banned, nor which bans are in force: for those they ask.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::health::Health;
use super::now;
use crate::control::SetStatus;
use crate::enforce::{Change, EnforceError, Firewall, Prepared, render};
use crate::metrics::{EnforceMetrics, Metrics};
use crate::model::Decision;

/// What the enforcer is told.
pub(super) enum Order {
    /// Carry these out; they were decided at that instant.
    Do(Vec<Decision>, Instant),
    /// Go on with this firewall, for the settings have changed.
    Use(Box<dyn Firewall>),
}

/// What both tasks tell others with.
#[derive(Clone)]
pub(super) struct Voice {
    pub(super) metrics: Metrics,
    pub(super) health: Health,
    /// Asks for all bans in force, since what was in the kernel is gone.
    pub(super) ask_again: Arc<dyn Fn() + Send + Sync>,
}

/// How often to look whether sets and rules are still there.
const CHECK: Duration = Duration::from_secs(4);
/// How soon to try again what the kernel could not be told.
const RETRY: Duration = Duration::from_secs(1);
/// Orders that wait while the kernel cannot be told.
const LONG: usize = 10_000;
/// The most changes that go to the kernel before the first of them is known to have got there.
const MOST: usize = 50_000;

pub(super) struct Enforcer {
    pub(super) firewall: Box<dyn Firewall>,
    pub(super) voice: Voice,
    /// Whether decisions were given up that the kernel would not take.
    pub(super) lost: bool,
}

impl Enforcer {
    /// Carries out orders until nobody can give any; then those that are left.
    pub(super) fn run(mut self, orders: &Receiver<Order>) {
        let metrics = EnforceMetrics::new(&self.voice.metrics);
        let mut waiting: Vec<(Vec<Decision>, Instant)> = Vec::new();
        loop {
            let first = match waiting.is_empty() {
                true => orders.recv().map_err(|_| RecvTimeoutError::Disconnected),
                false => orders.recv_timeout(RETRY),
            };
            match first {
                Ok(order) => {
                    self.take(order, &mut waiting);
                    while waiting.iter().map(|(decisions, _)| decisions.len()).sum::<usize>() < MOST
                        && let Ok(order) = orders.try_recv()
                    {
                        self.take(order, &mut waiting);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.carry_out(&mut waiting, &metrics);
            // While the kernel refuses, what waits is bounded: afterwards all bans go to it again.
            if waiting.len() > LONG {
                waiting.truncate(1);
                self.lost = true;
            }
        }
        self.carry_out(&mut waiting, &metrics);
    }

    fn take(&mut self, order: Order, waiting: &mut Vec<(Vec<Decision>, Instant)>) {
        match order {
            Order::Do(decisions, at) => waiting.push((decisions, at)),
            Order::Use(firewall) => {
                self.firewall = firewall;
                (self.voice.ask_again)();
            }
        }
    }

    fn carry_out(&mut self, waiting: &mut Vec<(Vec<Decision>, Instant)>, metrics: &EnforceMetrics) {
        if waiting.is_empty() {
            return;
        }
        let (mut changes, now) = (Vec::new(), now());
        waiting
            .iter()
            .flat_map(|(decisions, _)| decisions)
            .for_each(|decision| render(decision, now, &mut changes));
        match self.firewall.apply(&changes) {
            Ok(applied) => {
                for refused in &applied.refused {
                    let element = changes.get(refused.index).map(Change::element);
                    let who = element.map_or_else(String::new, |element| element.offender.to_string());
                    log::error!(address:% = who; "`{who}` could not be banned in the kernel: {}", refused.why);
                }
                self.voice.metrics.dropped("kernel_refused", applied.refused.len() as u64);
                metrics.batch(changes.len());
                let done = Instant::now();
                for (decisions, at) in waiting.drain(..) {
                    decisions.iter().for_each(|_| metrics.enforced(done.duration_since(at)));
                }
                if std::mem::take(&mut self.lost) {
                    (self.voice.ask_again)();
                }
                if let Some(repaired) = applied.repaired {
                    self.voice.repaired(&repaired, metrics);
                }
            }
            Err(error) => {
                log::error!("{} decisions wait, for the kernel could not be told: {error}", waiting.len());
                self.voice.failed(&error, metrics);
            }
        }
    }
}

pub(super) struct Watcher {
    pub(super) firewall: Box<dyn Firewall>,
    pub(super) voice: Voice,
}

impl Watcher {
    /// Looks after sets and rules until nobody can say otherwise. A firewall that comes takes the place of the one
    /// there is, whose rule is taken out if the new one has another.
    pub(super) fn run(mut self, firewalls: &Receiver<(Box<dyn Firewall>, bool)>) {
        let metrics = EnforceMetrics::new(&self.voice.metrics);
        loop {
            self.look(&metrics);
            match firewalls.recv_timeout(CHECK) {
                Ok((firewall, moved)) => {
                    if moved && let Err(error) = self.firewall.withdraw() {
                        log::error!("the old rule could not be taken out: {error}");
                    }
                    self.firewall = firewall;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Looks whether sets and rules are there, and how full the sets are.
    fn look(&mut self, metrics: &EnforceMetrics) {
        let mut faults = Vec::new();
        let looked = self.firewall.prepare().and_then(|prepared| {
            self.voice.repaired(&prepared, metrics);
            faults = prepared.faults;
            self.firewall.sizes()
        });
        match looked {
            Ok(sizes) => {
                for size in &sizes {
                    let set = [("set", size.name.as_str())];
                    self.voice.metrics.gauge("banstream_set_entries", &set).set(f64::from(size.elements));
                    self.voice.metrics.gauge("banstream_set_capacity", &set).set(f64::from(size.capacity));
                }
                let sets = sizes.into_iter().map(|size| SetStatus {
                    name: size.name,
                    elements: size.elements.into(),
                    capacity: size.capacity.into(),
                });
                let sets = sets.collect();
                self.voice.health.enforcement(|status| (status.sets, status.error) = (sets, None));
                metrics.up.set(1.0);
                for fault in faults {
                    log::error!("{fault}");
                    self.voice.failed(&fault, metrics);
                }
            }
            Err(error) => {
                log::error!("bans are not enforced: {error}");
                self.voice.failed(&error, metrics);
            }
        }
    }
}

impl Voice {
    fn failed(&self, error: &EnforceError, metrics: &EnforceMetrics) {
        metrics.errors.increment(1);
        metrics.up.set(0.0);
        self.health.enforcement(|status| status.error = Some(error.to_string()));
    }

    fn repaired(&self, prepared: &Prepared, metrics: &EnforceMetrics) {
        if prepared.rules > 0 || !prepared.sets.is_empty() {
            let (rules, sets) = (prepared.rules, prepared.sets.len());
            log::warn!("{rules} rules and {sets} sets had vanished and were made again");
            metrics.repairs.increment(1);
        }
        if !prepared.sets.is_empty() {
            (self.ask_again)();
        }
    }
}
