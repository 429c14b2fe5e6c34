//! A table of our own in nftables, over netlink: a chain before all others, hash sets, and one rule for each of them.
//!
//! Where the kernel can (since 6.9), it gives the table to our socket (`owner`): then nobody else may change it, `nft flush
//! ruleset` leaves it alone, and it stays when the socket is closed. The messages are in `wire`, what is read back is in
//! `facts`; here is the order of operations, and the handling of errors.
//!
//! nftables has sets of intervals, which would hold prefixes of any length, but one more element costs them time that grows
//! with their size, and they refuse an address in a prefix that they hold. So there is a hash set for each length in use,
//! and the rule masks the address: the same as ipset does within one set.
//!
//! A listing takes time with the square of the number of elements (400,000: 38 s), so what a set ought to hold is put into
//! a new table, which takes the place of the old one within one transaction.

mod connection;
mod facts;
mod object;
mod owner;
mod wire;

pub use facts::{TableFacts, TableSet};
pub use owner::{KernelAbilities, TableOwner};

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::change::{Change, Element, Layout, Set, Timeout};
use super::{
    Applied, DesiredState, Displaced, ElementState, EnforceError, EnforceErrorKind, Firewall, Prepared,
    Reconciled, Refusal, RefusedChange, RuleEvents, SetContents, SetSize,
};
use crate::config::Enforce;
use crate::model::{Offender, Port, Timestamp};
use connection::Connection;
use facts::TableShape;
use owner::TableState;
use wire::{NftTarget, Transaction};

/// The most changes of one transaction.
const MOST_CHANGES: usize = 20_000;

const EPERM: u32 = 1;
const ENOENT: u32 = 2;
const EEXIST: u32 = 17;
const ENFILE: u32 = 23;

/// The firewall of the network namespace that it was opened in. It needs CAP_NET_ADMIN.
#[derive(Debug)]
pub struct Nftables {
    settings: Enforce,
    target: NftTarget,
    owner: TableOwner,
    /// For questions, which need not wait for a transaction.
    reader: Connection,
    state: Arc<TableState>,
}

/// The sets that a table has from the beginning. The others are made when they are needed.
const FIRST: [Set; 2] = [Set { length: Some(32), ..Set::V4 }, Set { length: Some(64), ..Set::V6 }];

impl Nftables {
    /// Opens the way to the kernel and changes nothing yet; [`prepare`](Firewall::prepare) does.
    ///
    /// # Errors
    ///
    /// nftables has no such target, or there are too many open files.
    pub fn open(settings: Enforce, owner: TableOwner) -> Result<Self, EnforceError> {
        let target = match settings.target.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["DROP"] => NftTarget::Drop,
            ["REJECT"] => NftTarget::Reject,
            _ => return Err(EnforceErrorKind::Target(settings.target.join(" ")).into()),
        };
        let reader = Connection::open().map_err(EnforceErrorKind::Socket)?;
        let state = owner.state(&settings.set);
        Ok(Self { settings, target, owner, reader, state })
    }

    /// What the kernel has of an offender on these ports, and around it, in the table of this name.
    ///
    /// # Errors
    ///
    /// The kernel does not answer.
    pub fn held(
        table: &str,
        who: Offender,
        ports: &BTreeSet<Option<Port>>,
    ) -> Result<Vec<ElementState>, EnforceError> {
        let mut reader = Connection::open().map_err(EnforceErrorKind::Socket)?;
        facts::held(&mut reader, table, who, ports)
    }

    fn name(&self) -> &str {
        &self.settings.set
    }

    fn owns(&self) -> bool {
        self.settings.owned && self.owner.abilities.owns
    }

    fn flags(&self) -> u32 {
        if self.owns() { wire::OWNED } else { 0 }
    }

    /// Whether the kernel has this element itself.
    fn has(&mut self, element: &Element) -> Result<bool, EnforceError> {
        Ok(facts::find(&mut self.reader, &self.settings.set, element)?.is_some())
    }

    fn look(&mut self) -> Result<Option<TableShape>, EnforceError> {
        TableShape::look(&mut self.reader, &self.settings.set)
    }

    /// Makes chain, rules and missing sets, in place of the chain that is there, and leaves the sets that are.
    fn make(
        &mut self,
        made: &mut Option<TableShape>,
        found: Option<&TableShape>,
        sets: &BTreeSet<Set>,
    ) -> Result<(), EnforceError> {
        let is_there = found.map(TableShape::our_sets).unwrap_or_default();
        let failed = |code| refusal("make the table", self.name(), code);
        if let Some(flags) = found.and_then(|found| awake(found.flags, self.owns())) {
            let done = self.owner.commit(self.name(), |transaction| transaction.new_table(flags))?;
            done.map_err(|(error, _)| failed(error.code))?;
        }
        let done = self.owner.commit(self.name(), |transaction| {
            if found.is_none() {
                transaction.new_table(self.flags());
            }
            if found.is_some_and(|found| found.chain.is_some()) {
                transaction.delete_chain();
            }
            transaction.new_chain();
            sets.difference(&is_there).for_each(|set| transaction.new_set(*set, self.settings.max_elements));
            sets.union(&is_there).for_each(|set| transaction.new_rule(*set, self.target));
        })?;
        done.map_err(|(error, _)| failed(error.code))?;
        *made = self.look()?;
        Ok(())
    }

    /// Puts a table with these elements in the place of the one there is, in one instant.
    fn replace(
        &mut self,
        made: &mut Option<TableShape>,
        adds: &BTreeMap<Set, Vec<Change>>,
    ) -> Result<(), EnforceError> {
        let found = self.look()?;
        self.check_owner(found.as_ref())?;
        // What others change from now on may come after it.
        self.state.altered.store(false, Ordering::Relaxed);
        let done = self.owner.commit(self.name(), |transaction| {
            if found.is_some() {
                transaction.delete_table();
            }
            transaction.new_table(self.flags());
            transaction.new_chain();
            let sets: BTreeSet<Set> = FIRST.into_iter().chain(adds.keys().copied()).collect();
            for set in sets {
                transaction.new_set(set, self.settings.max_elements);
                transaction.new_rule(set, self.target);
            }
            for (set, adds) in adds {
                for adds in adds.chunks(wire::MOST) {
                    transaction.add(*set, false, adds.iter().filter_map(addition));
                }
            }
        })?;
        done.map_err(|(error, _)| refusal("fill the table", self.name(), error.code))?;
        *made = self.look()?;
        Ok(())
    }

    /// Brings it in line in several messages, by the difference from what it holds: for a socket that may not have room for
    /// a large one, as in a container with users of its own.
    fn update(&mut self, desired: &mut DesiredState, now: Timestamp) -> Result<Reconciled, EnforceError> {
        let prepared = self.prepare(Displaced::Report)?;
        let repaired = (!prepared.sets.is_empty() || prepared.rules > 0).then_some(prepared);
        let drift = desired.compare(&self.list()?.elements, now);
        let applied = self.apply(&drift.changes)?;
        let mut done = Reconciled { repaired, ..Reconciled::default() };
        done.note(&drift.changes, applied, desired);
        done.drift = drift;
        Ok(done)
    }

    /// Fails for a table of another socket, which we cannot change.
    fn check_owner(&self, found: Option<&TableShape>) -> Result<(), EnforceError> {
        match found.and_then(|found| found.owner) {
            Some(port) if port != self.owner.lock().port() => {
                Err(EnforceErrorKind::ForeignTable { table: self.name().to_owned(), port }.into())
            }
            _ => Ok(()),
        }
    }

    /// Carries out these steps, or none of them: then which of them is at fault, if that is known, and the errno.
    fn send(&mut self, steps: &[PlannedChange]) -> Result<Result<(), (Option<usize>, u32)>, EnforceError> {
        let Self { settings, target, owner, reader, state } = self;
        let mut made = state.made();
        let known = made.as_ref().map(TableShape::our_sets).unwrap_or_default();
        let mut by_set: BTreeMap<Set, [Vec<usize>; 2]> = BTreeMap::new();
        for (nth, step) in steps.iter().enumerate().filter(|(_, step)| step.refused.is_none()) {
            let set = step.change.element().set(Layout::ByLength);
            let [removals, adds] = by_set.entry(set).or_default();
            let is_add = matches!(step.change, Change::Add(..));
            // In a set that is yet to be made there is nothing.
            if known.contains(&set) && (!is_add || step.is_there) {
                removals.push(nth);
            }
            if is_add {
                adds.push(nth);
            }
        }
        by_set.retain(|_, steps| steps.iter().any(|steps| !steps.is_empty()));
        if by_set.is_empty() {
            return Ok(Ok(()));
        }
        // The steps in each message, by its place.
        let mut messages: HashMap<usize, &[usize]> = HashMap::new();
        let done = owner.commit(&settings.set, |transaction| {
            for (set, [removals, adds]) in &by_set {
                if !known.contains(set) {
                    transaction.new_set(*set, settings.max_elements);
                    transaction.new_rule(*set, *target);
                }
                let change = |nth: &usize| steps.get(*nth).map(|step| step.change);
                for removals in removals.chunks(wire::MOST) {
                    messages.insert(transaction.next(), removals);
                    let elements = removals.iter().filter_map(change).map(|change| change.element());
                    transaction.remove(*set, owner.abilities.destroys, elements);
                }
                for adds in adds.chunks(wire::MOST) {
                    messages.insert(transaction.next(), adds);
                    let added = adds.iter().filter_map(change).filter_map(|change| addition(&change));
                    transaction.add(*set, true, added);
                }
            }
        })?;
        if let Err((error, transaction)) = done {
            let place = transaction.place_of(error.sequence);
            let steps = place.and_then(|place| messages.get(&place)).copied().unwrap_or_default();
            let offset = error.offset.zip(place);
            let nth = offset.and_then(|(offset, place)| transaction.element_at(place, offset));
            let at = match steps {
                [only] => Some(*only),
                _ => nth.and_then(|nth| steps.get(nth)).copied(),
            };
            return Ok(Err((at, error.code)));
        }
        if by_set.keys().any(|set| !known.contains(set)) {
            *made = TableShape::look(reader, &settings.set)?;
        }
        Ok(Ok(()))
    }

    /// Finds out which of the elements that the next changes add are there, of so many. Where the kernel can take out what may
    /// be missing, that need not be known of any.
    fn find_all(&mut self, planned: &mut [PlannedChange], next: usize) -> Result<(), EnforceError> {
        if self.owner.abilities.destroys {
            planned.iter_mut().for_each(|planned| planned.is_there = true);
            return Ok(());
        }
        for planned in planned.iter_mut().take(next) {
            planned.is_there = self.has(&planned.change.element())?;
        }
        Ok(())
    }

    /// Notes that the set of this element is full: it is refused, and so are the others for that set that are not in. An
    /// aborted transaction for each takes far longer than a question.
    fn refuse_for(&mut self, full: Element, planned: &mut [PlannedChange]) -> Result<(), EnforceError> {
        let set = full.set(Layout::ByLength);
        for planned in planned.iter_mut().filter(|planned| matches!(planned.change, Change::Add(..))) {
            let element = planned.change.element();
            if element.set(Layout::ByLength) == set && (element == full || !self.has(&element)?) {
                planned.refused = Some(Refusal::Full);
            }
        }
        Ok(())
    }
}

/// The flags that a table with these is to have instead: another may have put it to sleep; and what has no owner gets us,
/// where it is to have one. A table that was made without an owner never can.
fn awake(found: u32, owns: bool) -> Option<u32> {
    let awake = found & !wire::DORMANT;
    let awake = if owns && awake == wire::OWNED & !wire::OWNER { wire::OWNED } else { awake };
    (awake != found).then_some(awake)
}

/// One change that is to be made.
#[derive(Clone, Copy, Debug)]
struct PlannedChange {
    /// Its place among the changes.
    index: usize,
    change: Change,
    /// The element that is to be added may be there, and is taken out first.
    is_there: bool,
    refused: Option<Refusal>,
}

fn addition(change: &Change) -> Option<(Element, Timeout)> {
    match change {
        Change::Add(element, timeout) => Some((*element, *timeout)),
        Change::Remove(_) => None,
    }
}

impl Firewall for Nftables {
    fn layout(&self) -> Layout {
        Layout::ByLength
    }

    fn prepare(&mut self, _: Displaced) -> Result<Prepared, EnforceError> {
        let state = Arc::clone(&self.state);
        let mut made = state.made();
        let found = self.look()?;
        self.check_owner(found.as_ref())?;
        if made.is_some() && *made == found {
            return Ok(Prepared::default());
        }
        let before = made.clone();
        let is_there = found.as_ref().map(TableShape::our_sets).unwrap_or_default();
        let had = before.as_ref().map(TableShape::our_sets).unwrap_or_default();
        let wanted: BTreeSet<Set> = FIRST.into_iter().chain(had).collect();
        match self.make(&mut made, found.as_ref(), &wanted) {
            // What another made under our name, and we cannot use.
            Err(_) if found.is_some() => self.replace(&mut made, &BTreeMap::new())?,
            result => result?,
        }
        let rules = |shape: &TableShape| (shape.chain, shape.rules.clone());
        let is_restored = before.is_some() && before.as_ref().map(rules) != found.as_ref().map(rules);
        state.altered.fetch_or(before.is_some(), Ordering::Relaxed);
        Ok(Prepared {
            sets: wanted.difference(&is_there).copied().collect(),
            rules: if is_restored { wanted.len() } else { 0 },
            ..Prepared::default()
        })
    }

    fn apply(&mut self, changes: &[Change]) -> Result<Applied, EnforceError> {
        let mut applied = Applied::default();
        let mut last: HashMap<Element, usize> = HashMap::with_capacity(changes.len());
        last.extend(changes.iter().enumerate().map(|(index, change)| (change.element(), index)));
        let steps =
            changes.iter().enumerate().filter(|(index, change)| last.get(&change.element()) == Some(index));
        let step = |(index, change): (usize, &Change)| PlannedChange {
            index,
            change: *change,
            is_there: false,
            refused: None,
        };
        let mut steps: Vec<PlannedChange> = steps.map(step).collect();
        let mut left = steps.as_mut_slice();
        let mut most = MOST_CHANGES;
        while !left.is_empty() {
            let sent = left.len().min(most);
            let done = match self.send(left.get(..sent).unwrap_or_default()) {
                Err(error) if error.is_too_large() && sent > 1 => {
                    most = sent / 2;
                    continue;
                }
                done => done?,
            };
            let (at, code) = match done {
                Ok(()) => {
                    left = left.get_mut(sent..).unwrap_or_default();
                    most = most.saturating_mul(2).min(MOST_CHANGES);
                    continue;
                }
                Err(fault) => fault,
            };
            let at = if sent == 1 { 0 } else { at.unwrap_or(sent / 2) };
            if code == EEXIST && left.get(at).is_some_and(|step| !step.is_there) {
                // One that is there is seldom alone.
                self.find_all(left, sent)?;
                continue;
            }
            if at > 0 {
                // Those before it go first. It may be one of them that is at fault, too.
                most = at;
                continue;
            }
            let of_sent = left.get_mut(..sent).unwrap_or_default();
            let Some(first) = of_sent.first_mut() else { break };
            match (first.change, code) {
                (Change::Remove(_), ENOENT) => {}
                (Change::Add(..), ENOENT) if first.is_there && !self.owner.abilities.destroys => {
                    // Its time was up just now.
                    first.is_there = false;
                    continue;
                }
                (Change::Add(..), ENOENT) if applied.repaired.is_none() => {
                    applied.repaired = Some(self.prepare(Displaced::Report)?);
                    continue;
                }
                (_, EPERM | ENOENT) => return Err(refusal("change", self.name(), code)),
                (Change::Add(full, _), ENFILE) => {
                    self.refuse_for(full, of_sent)?;
                    continue;
                }
                (_, code) => first.refused = Some(Refusal::Other(code)),
            }
            left = left.get_mut(1..).unwrap_or_default();
            most = 1;
        }
        let refused = |step: &PlannedChange| Some(RefusedChange { index: step.index, why: step.refused? });
        applied.refused.extend(steps.iter().filter_map(refused));
        Ok(applied)
    }

    fn reconcile(&mut self, desired: &mut DesiredState, now: Timestamp) -> Result<Reconciled, EnforceError> {
        let room = self.settings.max_elements as usize;
        let adds = desired.sets().into_iter().map(|set| (set, desired.fill(set, room, now))).collect();
        let state = Arc::clone(&self.state);
        let replaced = self.replace(&mut state.made(), &adds);
        match replaced {
            Err(error) if error.is_too_large() => self.update(desired, now),
            replaced => {
                let refused = (desired.counts(now).all_pending() > 0).then_some(Refusal::Full);
                replaced.map(|()| Reconciled { refilled: true, refused, ..Reconciled::default() })
            }
        }
    }

    fn is_intact(&mut self, sample: &[Element]) -> Result<bool, EnforceError> {
        if self.state.altered.swap(false, Ordering::Relaxed) {
            return Ok(false);
        }
        for element in sample {
            if !self.has(element)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn sizes(&mut self) -> Result<Vec<SetSize>, EnforceError> {
        let sets = self.state.made().as_ref().map(TableShape::our_sets).unwrap_or_default();
        let capacity = self.settings.max_elements;
        let size = |set: Set| SetSize {
            set,
            name: set.name(self.name()),
            elements: None,
            capacity,
            configured: capacity,
            counts: true,
        };
        Ok(sets.into_iter().map(size).collect())
    }

    fn list(&mut self) -> Result<SetContents, EnforceError> {
        let sets = self.look()?.as_ref().map(TableShape::our_sets).unwrap_or_default();
        let Self { reader, settings, .. } = self;
        let mut contents = SetContents::default();
        for set in sets {
            let listed = reader.ask(wire::get_elements(&settings.set, set), |part| {
                let elements = part.elements(set).flatten().map(|(element, left, _)| (element, left));
                contents.elements.extend(elements);
            })?;
            listed.map_err(|code| refusal("list", &settings.set, code))?;
        }
        Ok(contents)
    }

    fn holds(&mut self, element: &Element) -> Result<bool, EnforceError> {
        let ports = BTreeSet::from([element.port]);
        Ok(!facts::held(&mut self.reader, &self.settings.set, element.offender, &ports)?.is_empty())
    }

    fn withdraw(&mut self) -> Result<(), EnforceError> {
        let state = Arc::clone(&self.state);
        let mut made = state.made();
        let found = self.look()?;
        self.check_owner(found.as_ref())?;
        *made = None;
        // Where it is in use again, it is to be filled again.
        state.altered.store(true, Ordering::Relaxed);
        if found.is_none() {
            return Ok(());
        }
        let done = self.owner.commit(self.name(), Transaction::delete_table)?;
        done.map_err(|(error, _)| refusal("remove the table", self.name(), error.code))
    }

    fn events(&self) -> io::Result<Option<RuleEvents>> {
        if self.owns() {
            return Ok(None);
        }
        RuleEvents::of_others(self.name(), self.owner.lock().port(), Arc::clone(&self.state.altered))
            .map(Some)
    }

    fn another(&self) -> Result<Box<dyn Firewall>, EnforceError> {
        Ok(Box::new(Self {
            settings: self.settings.clone(),
            target: self.target,
            owner: self.owner.clone(),
            reader: Connection::open().map_err(EnforceErrorKind::Socket)?,
            state: Arc::clone(&self.state),
        }))
    }
}

fn refusal(request: &'static str, table: &str, code: u32) -> EnforceError {
    EnforceErrorKind::Kernel { request, set: table.to_owned(), code }.into()
}
