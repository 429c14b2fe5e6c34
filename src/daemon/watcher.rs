//! The task that checks that sets and rules exist and are in place, every two seconds and as soon as the kernel reports a
//! change. It is apart from the `enforcer` because iptables takes 10 ms, and bans must not wait for that.

use std::future::pending;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{sleep, sleep_until};

use super::enforcer::Reporter;
use crate::kernel::{Displaced, EnforceError, Firewall, RuleEvents};

/// How often the watcher looks after sets and rules, and how long it leaves a rule that it has moved where it is.
const LOOK: Duration = Duration::from_secs(2);
/// How long after a look the next one comes because of a change, for as many as that in a row; and how often they come
/// where changes go on.
const SOON: Duration = Duration::from_millis(10);
const IN_A_ROW: u32 = 20;
const PACED: Duration = Duration::from_millis(500);
/// How often rules are moved to the front, at most: another program may want to be there too.
const MOVES: usize = 5;
const MOVES_WITHIN: Duration = Duration::from_secs(5 * 60);
/// Firewalls of earlier settings whose rules could not be taken out.
const OLD: usize = 16;

pub(super) struct Watcher {
    firewall: Box<dyn Firewall>,
    reporter: Reporter,
    /// When rules were moved to the front, the last few times.
    moved: Vec<Instant>,
    /// Those of earlier settings, whose rules are still to be taken out.
    old: Vec<Box<dyn Firewall>>,
}

impl Watcher {
    pub(super) fn new(firewall: Box<dyn Firewall>, reporter: Reporter) -> Self {
        Self { firewall, reporter, moved: Vec::new(), old: Vec::new() }
    }

    /// Looks after sets and rules until nobody can say otherwise. A firewall that comes takes the place of the one
    /// there is, whose rule is taken out if the new one has another.
    pub(super) fn run(
        mut self,
        mut firewalls: UnboundedReceiver<(Box<dyn Firewall>, bool)>,
        runtime: &Handle,
    ) {
        let _inside = runtime.enter();
        let mut events = self.events();
        // As if each look because of a change took `PACED`: when the last one is over.
        let mut busy = tokio::time::Instant::now();
        loop {
            self.look();
            let looked = tokio::time::Instant::now();
            let pause = busy.saturating_duration_since(looked).saturating_sub(PACED * IN_A_ROW).max(SOON);
            let woken = runtime.block_on(async {
                tokio::select! {
                    firewall = firewalls.recv() => firewall.map_or(Woken::Ended, |(firewall, moved)| Woken::Switched(firewall, moved)),
                    () = sleep(LOOK) => Woken::InTime,
                    () = async {
                        sleep_until(looked + pause).await;
                        changed(&mut events).await;
                    } => Woken::Changed,
                }
            });
            match woken {
                Woken::InTime => {}
                Woken::Changed => busy = busy.max(looked) + PACED,
                Woken::Switched(firewall, moved) => {
                    let old = std::mem::replace(&mut self.firewall, firewall);
                    self.old.extend(moved.then_some(old));
                    self.old.truncate(OLD);
                    events = self.events();
                }
                Woken::Ended => return,
            }
        }
    }

    /// The kernel's reports of changes. Without them the rule is looked after all the same.
    fn events(&self) -> Option<RuleEvents> {
        self.firewall.events().unwrap_or_else(|error| {
            log::warn!(
                "cannot receive changes of rules, so a missing rule is noticed within {LOOK:?}: {error}"
            );
            None
        })
    }

    /// Looks whether sets and rules are there and nothing stands before them.
    fn look(&mut self) {
        let mut faults: Vec<String> = Vec::new();
        self.old.retain_mut(|old| match old.withdraw() {
            Ok(()) => false,
            Err(error) => {
                faults.push(format!("cannot remove the rule of earlier settings: {error}"));
                true
            }
        });
        self.moved.retain(|at| at.elapsed() < MOVES_WITHIN);
        let may_move = self.moved.len() < MOVES;
        // Who puts in several rules would use up all moves at once.
        let waits = may_move && self.moved.last().is_some_and(|at| at.elapsed() < LOOK);
        let displaced = if may_move && !waits { Displaced::Move } else { Displaced::Report };
        match self.firewall.prepare(displaced) {
            Ok(prepared) => {
                if prepared.moved > 0 {
                    self.moved.push(Instant::now());
                }
                self.reporter.repaired(&prepared);
                let of_note = prepared.faults.iter().filter(|fault| !(waits && fault.is_displaced()));
                faults.extend(of_note.map(EnforceError::to_string));
            }
            Err(error) => faults.push(format!("bans are not enforced: {error}")),
        }
        self.reporter.errors(faults.len() as u64);
        self.reporter.fault((!faults.is_empty()).then(|| faults.join("; ")));
    }
}

/// What ends the watcher's sleep.
enum Woken {
    InTime,
    Changed,
    Switched(Box<dyn Firewall>, bool),
    Ended,
}

/// Waits for a change of the rules; forever, if nothing reports one.
async fn changed(events: &mut Option<RuleEvents>) {
    match events {
        Some(some) => {
            if let Err(error) = some.changed().await {
                log::warn!("changes of rules are no longer received: {error}");
                *events = None;
            }
        }
        None => pending().await,
    }
}
