//! The task that puts bans into the kernel.
//!
//! It takes all waiting decisions and carries them out together: a lone ban goes at once, a flood goes in
//! messages of thousands, without a timer. Where the task is idle, the hub carries out a few of them itself. It keeps
//! the desired state of the sets. Every second it compares the numbers; if they differ, or after some time, it compares
//! each element and applies the difference. Only the enforcer changes the content of the sets; that sets and rules exist
//! is the work of the `watcher`.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::health::{Component, Health};
use super::notifier::EventSender;
use super::{logging, now};
use crate::control::SetStatus;
use crate::daemon::metrics::Metrics;
use crate::daemon::notify::Event;
use crate::detect::Detector;
use crate::kernel::{
    Applied, Change, DesiredState, Displaced, Drift, ElementCounts, EnforceError, Firewall, Layout, Prepared,
    Reconciled, Refusal, SetSize, render,
};
use crate::model::{Ban, Decision, Mode, count};

/// The orders of the enforcer.
pub(super) enum Order {
    /// Carry these out, but for what is only observed; they were decided at that instant.
    Apply(Arc<Vec<Decision>>, Instant),
    /// Carry out what came before, and call this when that was tried and what went wrong is known, with what of these
    /// decisions the kernel has not taken.
    Report(Arc<Vec<Decision>>, Box<dyn FnOnce(Option<KernelLag>) + Send>),
    /// All bans in force are told again from here on, as the sets are to hold no others.
    Restart,
    /// These are some of them.
    Restate(Vec<Ban>),
    /// These were all; whether the sets are to hold nothing else from now on.
    Restarted(bool),
    /// Go on with this firewall, because the settings have changed, and call this when it enforces all bans of the
    /// one before.
    SwitchFirewall(Box<dyn Firewall>, Box<dyn FnOnce() + Send>),
}

/// Where the enforcer is given orders; clones share it.
#[derive(Clone)]
pub(super) struct OrderSender {
    queue: SyncSender<Order>,
    enforcer: SharedEnforcer,
}

/// The enforcer, shared by its task and those that give it orders.
#[derive(Clone)]
pub(super) struct SharedEnforcer {
    enforcer: Arc<Mutex<Enforcer>>,
    /// Orders that were queued and are not carried out yet.
    queued: Arc<AtomicUsize>,
}

/// Decisions that the kernel has not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct KernelLag {
    /// How many.
    pub(super) decisions: u64,
    /// Why, if it is not the last error of enforcement.
    pub(super) why: Option<String>,
}

impl KernelLag {
    /// All of these that are to be carried out, if there are any.
    pub(super) fn of(decisions: &[Decision], why: Option<String>) -> Option<Self> {
        let decisions = enforced(decisions).count() as u64;
        (decisions > 0).then_some(Self { decisions, why })
    }
}

/// What enforcer and watcher tell others with.
#[derive(Clone)]
pub(super) struct Reporter {
    metrics: Metrics,
    health: Health,
    events: EventSender,
    component: Component,
    /// The last fault that was logged, and when.
    last_fault: Option<(String, Instant)>,
}

/// How often the enforcer compares numbers, and tries again what the kernel could not be told. For a million elements,
/// whose counting takes the kernel 30 ms, it is less often, but never less than `COMPARE`.
const CHECK: Duration = Duration::from_secs(1);
/// How often it compares each element, at most.
const COMPARE: Duration = Duration::from_secs(3);
/// The share of its time that it spends so on sets of a size that costs more: a 200th as a rule, which is every
/// 8 s for 100,000 elements, and a 50th while the numbers differ.
const SELDOM: u32 = 200;
const OFTEN: u32 = 50;
/// How often the same fault is logged.
const REPEAT: Duration = Duration::from_secs(60);
/// Instants of decisions that are remembered while the kernel cannot be told.
const LATE: usize = 10_000;
/// The most changes that go to the kernel before the first of them is known to have got there.
const MOST: usize = 50_000;
/// The most decisions that are carried out without the enforcer's thread: they take the kernel less time than that thread
/// needs to wake up.
const FEW: usize = 16;
/// The most bans that lists mark as not enforced.
const MOST_MARKED: usize = 10_000;

/// Brings about in the kernel what was decided.
pub(super) struct Enforcer {
    firewall: Box<dyn Firewall>,
    reporter: Reporter,
    desired: DesiredState,
    /// When the numbers were compared last, and how long that is good for.
    checked: Instant,
    pause: Duration,
    /// When the elements were, and how long that took; `None` where that has to be done at the next check.
    compared: Option<(Instant, Duration)>,
    /// Decisions that the kernel could not be told when they were made: how many, and when that was.
    late: Vec<(usize, Instant)>,
    /// Who waits for a comparison that succeeds.
    then: Vec<Box<dyn FnOnce() + Send>>,
    /// What keeps pending elements out of the kernel.
    why: Option<Refusal>,
    /// What the last comparison could not bring in line with the settings.
    misfits: Vec<String>,
}

impl Enforcer {
    pub(super) fn new(firewall: Box<dyn Firewall>, reporter: Reporter) -> Self {
        Self {
            desired: DesiredState::new(firewall.layout()),
            firewall,
            reporter,
            checked: Instant::now(),
            pause: CHECK,
            compared: None,
            late: Vec::new(),
            then: Vec::new(),
            why: None,
            misfits: Vec::new(),
        }
    }

    /// Brings what is in the kernel in line with the bans in force, by the difference alone where that can be known: what is right
    /// stays untouched. What no ban put there stays where `keeps` says so.
    pub(super) fn begin(&mut self, detector: &Detector, keeps: bool) {
        let began = Instant::now();
        let (mut changes, now) = (Vec::new(), now());
        self.desired.reserve(detector.banned() - detector.observed());
        self.desired.begin_restart();
        for ban in detector.enforced() {
            self.desired.restate(ban, now, &mut changes);
            if !keeps {
                // The comparison finds them: there may be a million.
                changes.clear();
            }
        }
        self.desired.end_restart(now, &mut changes);
        if keeps {
            match self.apply(&changes) {
                Ok(()) => self.compared = Some((Instant::now(), began.elapsed())),
                Err(error) => self.failed(&error),
            }
            return;
        }
        match self.compare() {
            Ok(done) => {
                let words = words(&repairs_of(&done));
                if !words.is_empty() {
                    log::info!("updated the kernel's sets in {:?}: {words}", began.elapsed());
                }
            }
            Err(error) => self.failed(&error),
        }
    }

    /// Whether a comparison costs little enough to be made again and again. With nftables it replaces the table.
    fn can_compare(&self) -> bool {
        self.firewall.layout() == Layout::AnyLength
    }

    /// Whether the kernel holds what it ought to, as far as is known.
    pub(super) fn is_in_force(&self) -> bool {
        self.compared.is_some()
    }

    /// How long the last check is good for.
    fn until_check(&self) -> Duration {
        self.pause.saturating_sub(self.checked.elapsed())
    }

    /// Carries out an order and those behind it, as far as they go together; how many these were.
    fn obey(&mut self, order: Order, behind: &Receiver<Order>) -> usize {
        let (mut waiting, mut taken) = (Vec::new(), 1);
        self.take(order, &mut waiting);
        while waiting.iter().map(|(decisions, _)| decisions.len()).sum::<usize>() < MOST
            && let Ok(order) = behind.try_recv()
        {
            taken += 1;
            self.take(order, &mut waiting);
        }
        self.carry_out(&waiting);
        taken
    }

    fn take(&mut self, order: Order, waiting: &mut Vec<(Arc<Vec<Decision>>, Instant)>) {
        match order {
            Order::Apply(decisions, at) => {
                enforced(&decisions).for_each(|decision| self.desired.take(decision));
                waiting.push((decisions, at));
            }
            Order::Report(decisions, then) => {
                self.carry_out(&std::mem::take(waiting));
                // What does not fit is told before.
                if self.why.is_some() {
                    self.check();
                }
                then(self.lag(&decisions));
            }
            Order::Restart => {
                self.carry_out(&std::mem::take(waiting));
                self.desired.begin_restart();
            }
            Order::Restate(bans) => {
                self.carry_out(&std::mem::take(waiting));
                let (mut changes, now) = (Vec::new(), now());
                bans.iter().for_each(|ban| self.desired.restate(ban, now, &mut changes));
                if let Err(error) = self.apply(&changes) {
                    self.failed(&error);
                }
            }
            Order::Restarted(alone) => {
                self.carry_out(&std::mem::take(waiting));
                let mut changes = Vec::new();
                self.desired.end_restart(now(), &mut changes);
                let mut done = self.apply(&changes);
                // What can be compared needs no knowledge of what was desired before.
                if alone || self.can_compare() {
                    done = self.compare().map(drop);
                }
                if let Err(error) = done {
                    self.failed(&error);
                }
            }
            Order::SwitchFirewall(firewall, then) => {
                self.carry_out(&std::mem::take(waiting));
                self.desired.set_layout(firewall.layout());
                self.firewall = firewall;
                self.then.push(then);
                if let Err(error) = self.compare() {
                    self.failed(&error);
                }
            }
        }
    }

    fn carry_out_at_once(&mut self, decisions: &Arc<Vec<Decision>>, at: Instant) {
        let mut waiting = Vec::new();
        self.take(Order::Apply(Arc::clone(decisions), at), &mut waiting);
        self.carry_out(&waiting);
    }

    fn carry_out(&mut self, waiting: &[(Arc<Vec<Decision>>, Instant)]) {
        let (mut changes, now, mut done) = (Vec::new(), now(), Ok(()));
        let mut decisions = waiting.iter().flat_map(|(decisions, _)| enforced(decisions)).peekable();
        if decisions.peek().is_none() {
            return;
        }
        for decision in decisions {
            render(decision, now, &mut changes);
            if changes.len() >= MOST {
                done = done.and(self.apply(&changes));
                changes.clear();
            }
        }
        self.late.extend(waiting.iter().map(|(decisions, at)| (enforced(decisions).count(), *at)));
        match done.and(self.apply(&changes)) {
            Ok(()) if self.compared.is_some() => self.caught_up(),
            // What failed before must be repaired first; the next check does that.
            Ok(()) => {}
            Err(error) => self.failed(&error),
        }
        self.late.truncate(LATE);
    }

    /// What of these the kernel has not taken.
    fn lag(&self, decisions: &[Decision]) -> Option<KernelLag> {
        // It could not be told.
        if self.compared.is_none() && self.reporter.last_fault.is_some() {
            return KernelLag::of(decisions, None);
        }
        let waits = |decision: &&Decision| match decision {
            Decision::Ban(ban) => self.desired.waits(ban),
            Decision::Unban(_) => false,
        };
        let waiting = enforced(decisions).filter(waits).count() as u64;
        (waiting > 0).then(|| KernelLag { decisions: waiting, why: self.why.map(reason) })
    }

    /// Tells the kernel; what it refuses is noted as pending.
    fn apply(&mut self, changes: &[Change]) -> Result<(), EnforceError> {
        if changes.is_empty() {
            return Ok(());
        }
        let applied = self.firewall.apply(changes)?;
        self.reporter.metrics.histogram("banstream_enforce_batch_elements").record(changes.len() as f64);
        self.note(changes, applied);
        Ok(())
    }

    fn note(&mut self, changes: &[Change], applied: Applied) {
        for refused in &applied.refused {
            changes.get(refused.index).into_iter().for_each(|change| self.desired.refused(change.element()));
            self.why = Some(refused.why);
        }
        if let Some(repaired) = applied.repaired {
            self.reporter.repaired(&repaired);
            // What was in those sets besides is gone.
            self.compared = None;
        }
    }

    /// Brings the sets in line with the desired state.
    fn compare(&mut self) -> Result<Reconciled, EnforceError> {
        let began = Instant::now();
        self.compared = None;
        let mut done = self.firewall.reconcile(&mut self.desired, now())?;
        self.why = done.refused.or(self.why);
        self.misfits = std::mem::take(&mut done.faults);
        let strange = done.strange as u64;
        self.reporter.repairs(&[("unexpected", strange, "recreated", "set", " with unexpected content")]);
        for (name, capacity) in &done.recreated {
            log::info!("recreated `{name}` with capacity {capacity}");
        }
        match &done.repaired {
            // What was in those sets besides is gone, and is for the next comparison to find.
            Some(repaired) => self.reporter.repaired(repaired),
            None => self.compared = Some((Instant::now(), began.elapsed())),
        }
        self.caught_up();
        self.then.drain(..).for_each(|then| then());
        Ok(done)
    }

    fn caught_up(&mut self) {
        let seconds = self.reporter.metrics.histogram("banstream_enforce_duration_seconds");
        let done = Instant::now();
        for (decisions, at) in self.late.drain(..) {
            seconds.record_many(done.duration_since(at).as_secs_f64(), decisions);
        }
    }

    /// Looks whether the kernel holds what it ought to, and sees that it does.
    fn check(&mut self) {
        match self.try_check() {
            Ok(fault) => self.reporter.fault(fault),
            Err(error) => self.failed(&error),
        }
    }

    fn try_check(&mut self) -> Result<Option<String>, EnforceError> {
        let mut sizes = self.firewall.sizes()?;
        // A dry run has none; what an operator has destroyed the watcher makes again.
        if sizes.is_empty() {
            return Ok(None);
        }
        let mut counts = self.desired.counts(now());
        if !self.firewall.is_intact(&counts.sample)? {
            self.compared = None;
        }
        let differs = |size: &SetSize| size.elements.is_some_and(|held| held != counts.held(size.set));
        let differs = sizes.iter().any(|size| differs(size) || !size.is_as_configured());
        let can_compare = self.can_compare();
        let share = if can_compare { OFTEN } else { SELDOM };
        self.pause = (self.checked.elapsed() * share).clamp(CHECK, COMPARE);
        let share = if differs { OFTEN } else { SELDOM };
        let due = self.compared.is_none_or(|(at, took)| {
            can_compare && at.elapsed() >= (took * share).max(if differs { Duration::ZERO } else { COMPARE })
        });
        if due {
            if matches!(self.why, Some(Refusal::NoSet(_))) {
                self.firewall.prepare(Displaced::Report)?;
            }
            let done = self.compare()?;
            self.reporter.repairs(&repairs_of(&done));
            if !done.recreated.is_empty() {
                sizes = self.firewall.sizes()?;
            }
            counts = self.desired.counts(now());
        }
        if counts.all_pending() > 0 {
            self.make_room(&sizes, &counts)?;
            counts = self.desired.counts(now());
        }
        let pending = counts.all_pending();
        self.publish(&sizes, &counts);
        let mut faults = self.misfits.clone();
        match self.why.filter(|_| pending > 0) {
            Some(why) => {
                let why = reason(why);
                let are = if pending == 1 { "is" } else { "are" };
                let bans = count(pending as u64, "ban");
                faults.push(format!("{bans} {are} not enforced: {why}"));
            }
            None => self.why = None,
        }
        Ok((!faults.is_empty()).then(|| faults.join("; ")))
    }

    /// Gives free places to those who wait, and those of bans that end sooner.
    fn make_room(&mut self, sizes: &[SetSize], counts: &ElementCounts) -> Result<(), EnforceError> {
        for size in sizes.iter().filter(|size| counts.pending(size.set) > 0) {
            let held = size.elements.unwrap_or_else(|| counts.held(size.set));
            let free = size.capacity.saturating_sub(held) as usize;
            let changes = self.desired.make_room(size.set, free, now());
            if let Err(error) = self.apply(&changes) {
                self.compared = None;
                return Err(error);
            }
        }
        Ok(())
    }

    fn publish(&self, sizes: &[SetSize], counts: &ElementCounts) {
        let sets = sizes.iter().map(|size| SetStatus {
            name: size.name.clone(),
            elements: size.elements.unwrap_or_else(|| counts.held(size.set)).into(),
            capacity: size.capacity.into(),
        });
        let (sets, pending) = (sets.collect(), counts.all_pending().into());
        self.reporter.health.enforcement(|status| (status.sets, status.pending) = (sets, pending));
        let waiting = if pending > 0 { self.desired.waiting(MOST_MARKED) } else { HashSet::new() };
        self.reporter.health.waiting(waiting);
    }

    fn failed(&mut self, error: &EnforceError) {
        self.compared = None;
        self.reporter.errors(1);
        self.reporter.fault(Some(format!("cannot update the kernel: {error}")));
    }
}

impl OrderSender {
    /// Gives an order; false if the enforcer has stopped.
    ///
    /// A few decisions are in the kernel when this returns, if the enforcer is idle. That takes 15 µs, and longer while
    /// another program makes a large change in the kernel's tables. All else is queued; this waits while the queue is full.
    pub(super) fn give(&self, order: Order) -> bool {
        if let Order::Apply(decisions, at) = &order
            && decisions.len() <= FEW
            && let Some(mut enforcer) = self.enforcer.idle()
        {
            enforcer.carry_out_at_once(decisions, *at);
            return true;
        }
        self.enforcer.queued.fetch_add(1, Ordering::SeqCst);
        self.queue.send(order).is_ok()
    }
}

impl SharedEnforcer {
    pub(super) fn new(enforcer: Enforcer) -> Self {
        Self { enforcer: Arc::new(Mutex::new(enforcer)), queued: Arc::default() }
    }

    /// Where orders are given that [`run`](Self::run) gets from the other end of this queue.
    pub(super) fn sender(&self, queue: SyncSender<Order>) -> OrderSender {
        OrderSender { queue, enforcer: self.clone() }
    }

    /// Carries out orders until nobody can give any.
    pub(super) fn run(&self, orders: &Receiver<Order>) {
        loop {
            let pause = self.lock().until_check();
            let order = orders.recv_timeout(pause);
            let mut enforcer = self.lock();
            match order {
                // What is given meanwhile is not to overtake them.
                Ok(order) => _ = self.queued.fetch_sub(enforcer.obey(order, orders), Ordering::SeqCst),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if enforcer.until_check().is_zero() {
                enforcer.checked = Instant::now();
                enforcer.check();
            }
        }
        let mut enforcer = self.lock();
        if !enforcer.late.is_empty() {
            enforcer.check();
        }
    }

    /// The enforcer, if it has nothing to do.
    fn idle(&self) -> Option<MutexGuard<'_, Enforcer>> {
        let enforcer = self.enforcer.try_lock().ok()?;
        (self.queued.load(Ordering::SeqCst) == 0).then_some(enforcer)
    }

    fn lock(&self) -> MutexGuard<'_, Enforcer> {
        // What a panic left undone the next comparison finds.
        self.enforcer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why the kernel does not take elements, and what to do.
fn reason(why: Refusal) -> String {
    format!("{why}{}", if why == Refusal::Full { "; raise `max-elements`" } else { "" })
}

/// Those that are to be carried out.
fn enforced(decisions: &[Decision]) -> impl Iterator<Item = &Decision> {
    decisions.iter().filter(|decision| decision.ban().mode == Mode::Enforce)
}

impl Reporter {
    pub(super) fn new(metrics: &Metrics, health: &Health, events: EventSender, component: Component) -> Self {
        Self { metrics: metrics.clone(), health: health.clone(), events, component, last_fault: None }
    }

    /// Says what is wrong, in the log when it is new and now and then after that.
    pub(super) fn fault(&mut self, fault: Option<String>) {
        match &fault {
            None => {
                if self.last_fault.take().is_some() {
                    log::info!("bans are enforced again");
                    self.events.send(|| vec![Event::Recovered]);
                }
            }
            Some(fault) => {
                // Numbers in it change from second to second.
                let kind = |text: &str| text.replace(|c: char| c.is_ascii_digit(), "");
                let known = self.last_fault.as_ref().filter(|(last, _)| *last == kind(fault));
                if known.is_none() {
                    self.events.send(|| vec![Event::Trouble(fault.clone())]);
                }
                if known.is_none_or(|(_, at)| at.elapsed() >= REPEAT) {
                    log::error!(message_id = logging::NOT_ENFORCED; "{fault}");
                    self.last_fault = Some((kind(fault), Instant::now()));
                }
            }
        }
        self.health.fault(self.component, fault);
    }

    pub(super) fn errors(&self, times: u64) {
        self.metrics.counter("banstream_enforce_errors_total", &[]).increment(times);
    }

    /// Logs repairs, counts them by kind and shows them in `status`.
    fn repairs(&self, repairs: &[Repair]) {
        let words = words(repairs);
        if words.is_empty() {
            return;
        }
        for (kind, times, ..) in repairs.iter().filter(|(_, times, ..)| *times > 0) {
            let kind = [("kind", *kind)];
            self.metrics.counter("banstream_enforce_repairs_total", &kind).increment(*times);
        }
        log::warn!(message_id = logging::REPAIRED; "repaired in the kernel: {words}");
        let repaired = format!("{} {words}", now());
        self.events.send(|| vec![Event::Repaired(words)]);
        self.health.enforcement(|status| status.repaired = Some(repaired));
    }

    pub(super) fn repaired(&self, prepared: &Prepared) {
        self.repairs(&[
            ("set", prepared.sets.len() as u64, "recreated", "set", ""),
            ("member", prepared.linked as u64, "returned", "set", " to the rule's list"),
            ("rule", prepared.rules as u64, "recreated", "rule", ""),
            ("order", prepared.moved as u64, "moved", "rule", " to the front"),
        ]);
    }
}

/// A label for metrics, how often, and what was done: a verb, a noun and the rest of the sentence.
type Repair = (&'static str, u64, &'static str, &'static str, &'static str);

/// What was different between the kernel and the desired state.
fn repairs_of(done: &Reconciled) -> [Repair; 4] {
    let Drift { missing, timeouts, unexpected, .. } = done.drift;
    [
        ("missing", missing, "added", "missing element", ""),
        ("timeout", timeouts, "corrected", "timeout", ""),
        ("unexpected", unexpected, "removed", "element", " that no ban put there"),
        ("refill", done.refilled.into(), "refilled", "table", ""),
    ]
}

/// Such as `recreated 1 set, added 3 missing elements`; empty where nothing was done.
fn words(repairs: &[Repair]) -> String {
    let done = repairs.iter().filter(|(_, times, ..)| *times > 0);
    let done = done.map(|(_, times, verb, noun, rest)| format!("{verb} {}{rest}", count(*times, noun)));
    done.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::mpsc::sync_channel;

    use super::*;
    use crate::daemon::notifier::Notifier;
    use crate::detect::manual;
    use crate::kernel::{DryRun, Set};

    #[test]
    fn nobody_waits_for_an_idle_enforcer_and_no_order_overtakes_another() {
        let (metrics, health) = (Metrics::default(), Health::new((String::new(), None)));
        let events = Notifier::start(&[], &metrics, &health).events();
        let reporter = Reporter::new(&metrics, &health, events, Component::Enforcer);
        let enforcer = SharedEnforcer::new(Enforcer::new(Box::new(DryRun), reporter));
        let (queue, orders) = sync_channel(9);
        let sender = enforcer.sender(queue);
        let ban = |n: u32| manual(Ipv4Addr::from_bits(n).to_string().parse().unwrap(), now(), None, "");
        let give = |decisions: Vec<Decision>| sender.give(Order::Apply(decisions.into(), Instant::now()));
        let held = || enforcer.lock().desired.counts(now()).held(Set::V4);

        assert!(give(vec![Decision::Ban(ban(0))]));
        assert_eq!(held(), 1);
        // Many are queued, and so is the one behind them.
        assert!(give((1..=FEW as u32 + 1).map(|n| Decision::Ban(ban(n))).collect()));
        assert!(give(vec![Decision::Unban(ban(1))]));
        assert_eq!(held(), 1);
        drop(sender);
        enforcer.run(&orders);
        assert_eq!(held(), 1 + FEW as u32);
        assert_eq!(enforcer.queued.load(Ordering::SeqCst), 0);
    }
}
