//! ipset's sets over a netlink socket, and the rules that refer to them. The messages are in `wire`, the rules in
//! `rule`; here is the order of operations, and the handling of errors.

mod rule;
mod wire;

use std::io;
use std::thread;

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;

use super::change::{Change, Element, Family, Layout, Set, Timeout};
use super::{
    Applied, DesiredState, Displaced, ElementState, EnforceError, EnforceErrorKind, Firewall, Prepared,
    Reconciled, Refusal, RefusedChange, RuleEvents, SetContents, SetSize, has_ipv6,
};
use crate::config::Enforce;
use crate::model::{Offender, Timestamp};
pub use rule::only_drops;
use rule::{IptablesRule, RuleRepair};
pub(super) use rule::{chain_fault, target_fault};
pub(super) use wire::FIND_TYPE;
use wire::{Counters, NetlinkError, NetlinkReply, Request, SetHeader, SetType};

/// Room for the longest answer: an error brings back the whole request, listings come in 32 KiB and less.
const ANSWER: usize = 256 << 10;
/// Changes of which those of one set are picked out at once.
const PART: usize = 20_000;

/// How a set is changed, as far as it has shown what it takes.
struct Pace {
    /// Changes in one message.
    most: usize,
    counters: Counters,
}

/// The firewall of the network namespace that it was opened in.
///
/// It needs CAP_NET_ADMIN, for netlink and iptables alike.
#[derive(Debug)]
pub struct Ipset {
    settings: Enforce,
    rules: Vec<(Family, IptablesRule)>,
    /// Families whose sets could not be made.
    lacking: Vec<Family>,
    socket: Socket,
    sequence: u32,
    request: Request,
    answer: Vec<u8>,
}

impl Ipset {
    /// Opens the way to the kernel and changes nothing yet; [`prepare`](Firewall::prepare) does.
    pub fn open(settings: Enforce) -> Result<Self, EnforceError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let set = &settings.set;
        if !matches!(set.len(), 1..=29) || set.starts_with('-') || !set.bytes().all(plain) {
            return Err(EnforceErrorKind::Name(settings.set).into());
        }
        let rule = |family, program: &str, chain: &String| {
            (family, IptablesRule::new(program, &settings.table, chain, &settings.set, &settings.target))
        };
        let v4 = settings.chains.iter().map(|chain| rule(Family::V4, &settings.iptables, chain));
        let v6 = settings.chains.iter().map(|chain| rule(Family::V6, &settings.ip6tables, chain));
        Ok(Self {
            rules: v4.chain(v6).collect(),
            lacking: Vec::new(),
            socket: connect().map_err(EnforceErrorKind::Socket)?,
            sequence: 0,
            request: Request::default(),
            answer: Vec::with_capacity(ANSWER),
            settings,
        })
    }

    /// Why it cannot be used here, if that is so: the kernel lacks ip_set, or the programs are not there.
    pub fn obstacle(&mut self) -> Option<String> {
        let list = self.settings.set.clone();
        if let Err(error) = self.header(&list) {
            return Some(error.to_string());
        }
        let programs = [&self.settings.iptables, &self.settings.ip6tables];
        let mut programs = programs.into_iter().take(if has_ipv6() { 2 } else { 1 });
        programs.find_map(|program| rule::obstacle(program).map(|error| error.to_string()))
    }

    /// Whether the list that the rule refers to is there.
    ///
    /// # Errors
    ///
    /// The kernel does not say.
    pub fn exists(&mut self) -> Result<bool, EnforceError> {
        let list = self.settings.set.clone();
        Ok(self.header(&list)?.is_some())
    }

    /// Destroys the sets, which no rule may refer to any more; how many elements were in them.
    ///
    /// # Errors
    ///
    /// A rule refers to them still.
    pub fn destroy(&mut self) -> Result<u64, EnforceError> {
        let elements = self.sizes()?.iter().filter_map(|size| size.elements).map(u64::from).sum();
        let list = self.settings.set.clone();
        let names = std::iter::once(list.clone()).chain(Set::ALL.map(|set| set.name(&list)));
        for name in names {
            self.request.destroy(&name);
            match self.exchange()?.1 {
                Ok(()) | Err(NetlinkError { code: wire::ENOENT, .. }) => {}
                Err(NetlinkError { code, .. }) => return Err(refusal("destroy", &name, code)),
            }
        }
        Ok(elements)
    }

    /// Whether the rule looks into this set: whether the list that it refers to has it as a member.
    pub fn linked(&mut self, set: Set) -> Result<bool, EnforceError> {
        let name = set.name(&self.settings.set);
        self.request.test_member(&self.settings.set, &name);
        match self.exchange()?.1 {
            Ok(()) => Ok(true),
            Err(NetlinkError { code: wire::NOT_IN_SET | wire::ENOENT, .. }) => Ok(false),
            Err(NetlinkError { code, .. }) => Err(refusal("list", &self.settings.set, code)),
        }
    }

    /// Makes the sets that are missing, empty, and no rule: so that rules which others have saved and that refer to them
    /// can be loaded.
    pub fn prepare_sets(&mut self) -> Result<Prepared, EnforceError> {
        let mut prepared = Prepared::default();
        let (_, members) = self.prepare_list()?;
        for family in [Family::V4, Family::V6] {
            if let Err(error) = self.ensure_sets(family, &members, &mut prepared) {
                prepared.faults.push(error.of(family));
            }
        }
        Ok(prepared)
    }

    /// Makes the list that the rule refers to; whether it was missing, and its members.
    fn prepare_list(&mut self) -> Result<(bool, Vec<String>), EnforceError> {
        let list = self.settings.set.clone();
        let made = self.ensure(&list, &SetType::list())?;
        Ok((made, self.members()?))
    }

    /// What the sets hold of `who`, around it and in it, of each set at most 100 elements.
    ///
    /// The kernel finds no single element, so it lists the sets of the family: 0.5 µs an element. A set that is being
    /// listed cannot be replaced.
    pub fn held(&mut self, who: Offender) -> Result<Vec<ElementState>, EnforceError> {
        let mut all = Vec::new();
        for set in Set::ALL.into_iter().filter(|set| set.family == Family::of(who)) {
            let name = set.name(&self.settings.set);
            self.request.list(&name);
            match self.exchange_about(Some(who))? {
                (reply, Ok(())) => {
                    all.extend(reply.held.into_iter().map(|(element, timeout, counters)| ElementState {
                        set: name.clone(),
                        element,
                        left: (timeout != Timeout::FOREVER).then(|| timeout.as_secs()),
                        counters,
                    }))
                }
                (_, Err(NetlinkError { code: wire::ENOENT, .. })) => (),
                (_, Err(NetlinkError { code, .. })) => return Err(refusal("list", &name, code)),
            }
        }
        Ok(all)
    }

    /// Makes those of the family's sets that are missing, and members of the list those that are none.
    fn ensure_sets(
        &mut self,
        family: Family,
        members: &[String],
        prepared: &mut Prepared,
    ) -> Result<(), EnforceError> {
        for set in Set::ALL.into_iter().filter(|set| set.family == family) {
            let name = set.name(&self.settings.set);
            let made = self.ensure(&name, &SetType::of(set))?;
            if made {
                prepared.sets.push(set);
            }
            if !members.contains(&name) {
                self.request.link(&self.settings.set, &name);
                self.demand("add to the list", &name)?;
                prepared.linked += usize::from(!made);
            }
        }
        Ok(())
    }

    /// The sets that the rule looks into.
    fn members(&mut self) -> Result<Vec<String>, EnforceError> {
        let list = self.settings.set.clone();
        self.request.list(&list);
        let (reply, end) = self.exchange()?;
        end.map(|()| reply.members).map_err(|fault| refusal("list", &list, fault.code))
    }

    /// Makes the set if there is none of this name; true if there was none.
    fn ensure(&mut self, name: &str, wanted: &SetType) -> Result<bool, EnforceError> {
        match self.header(name)? {
            None => {
                self.request.create(name, wanted, self.settings.hash_size, self.settings.max_elements);
                self.demand("create", name)?;
                Ok(true)
            }
            Some(header) if header.set_type == *wanted => Ok(false),
            Some(header) => {
                let (found, wanted) = (header.set_type.to_string(), wanted.to_string());
                Err(EnforceErrorKind::WrongSet { set: name.to_owned(), found, wanted }.into())
            }
        }
    }

    /// Carries out those of the changes that concern this set.
    fn change(&mut self, set: Set, changes: &[Change], applied: &mut Applied) -> Result<(), EnforceError> {
        let name = set.name(&self.settings.set);
        self.change_in(&name, set, changes, applied)
    }

    /// The same, in the set of this name.
    fn change_in(
        &mut self,
        name: &str,
        set: Set,
        changes: &[Change],
        applied: &mut Applied,
    ) -> Result<(), EnforceError> {
        let mut pace = Pace { most: usize::MAX, counters: Counters::Zeroed };
        // There may be a million.
        let mut ours = Vec::new();
        for (nth, part) in changes.chunks(PART).enumerate() {
            let is_ours = |(_, change): &(usize, &Change)| change.element().set(Layout::AnyLength) == set;
            ours.clear();
            ours.extend((nth * PART..).zip(part).filter(is_ours));
            self.change_part(name, set.family, &ours, &mut pace, applied)?;
        }
        Ok(())
    }

    /// The same of some changes, all of this set, with their places among all.
    fn change_part(
        &mut self,
        name: &str,
        family: Family,
        mut left: &[(usize, &Change)],
        pace: &mut Pace,
        applied: &mut Applied,
    ) -> Result<(), EnforceError> {
        while !left.is_empty() {
            if self.lacking.contains(&family) {
                let why = Refusal::NoSet(family);
                applied.refused.extend(left.iter().map(|(index, _)| RefusedChange { index: *index, why }));
                break;
            }
            let sent = self.request.change(
                name,
                pace.counters,
                left.iter().map(|(_, change)| **change).take(pace.most),
            );
            let done = match self.exchange()?.1 {
                Ok(()) => {
                    pace.most = pace.most.saturating_mul(2);
                    sent
                }
                Err(NetlinkError { code: wire::ENOENT, line: 0 }) if applied.repaired.is_none() => {
                    applied.repaired = Some(self.prepare(Displaced::Report)?);
                    0
                }
                Err(NetlinkError { code: wire::NO_COUNTERS, .. }) if pace.counters == Counters::Zeroed => {
                    pace.counters = Counters::None;
                    0
                }
                Err(NetlinkError { code, line }) => {
                    let done = line as usize;
                    let Some((index, _)) = done.checked_sub(1).and_then(|at| left.get(at)) else {
                        return Err(refusal("change", name, code));
                    };
                    let why = if code == wire::HASH_FULL { Refusal::Full } else { Refusal::Other(code) };
                    applied.refused.push(RefusedChange { index: *index, why });
                    // One refusal is seldom alone. In halved messages a full set costs 2 µs an element;
                    // in whole ones each refusal would bring 64 KB back and send as many again.
                    pace.most = (sent / 2).max(1);
                    done
                }
            };
            left = left.get(done..).unwrap_or_default();
        }
        Ok(())
    }

    /// Puts a new set in the place of one, as large as the settings say and with what `adds` puts into it.
    ///
    /// The new one is filled first and the two are then swapped, so there is no gap for offenders that both
    /// hold. An error leaves the old one in its place.
    fn replace(&mut self, set: Set, adds: &[Change]) -> Result<Applied, EnforceError> {
        let mut applied = Applied::default();
        let (name, fresh) = (set.name(&self.settings.set), format!("{}~", self.settings.set));
        // One may be left from a daemon that was killed at this.
        self.request.destroy(&fresh);
        let _ = self.exchange()?;
        let buckets =
            u32::try_from(adds.len()).map_or(u32::MAX >> 1, |adds| adds.min(1 << 30).next_power_of_two());
        let buckets = buckets.max(self.settings.hash_size);
        self.request.create(&fresh, &SetType::of(set), buckets, self.settings.max_elements);
        self.demand("create", &fresh)?;
        self.change_in(&fresh, set, adds, &mut applied)?;
        self.request.swap(&name, &fresh);
        self.demand("replace", &name)?;
        self.request.destroy(&fresh);
        self.demand("destroy", &fresh)?;
        Ok(applied)
    }

    /// Puts a new set in the place of this one, filled from the desired state.
    fn refill(
        &mut self,
        size: &SetSize,
        desired: &mut DesiredState,
        now: Timestamp,
        done: &mut Reconciled,
    ) -> Result<(), EnforceError> {
        let adds = desired.fill(size.set, size.configured as usize, now);
        let applied = self.replace(size.set, &adds)?;
        done.recreated.push((size.name.clone(), size.configured));
        done.note(&adds, applied, desired);
        Ok(())
    }

    /// What a set is; `None` where there is no such set.
    fn header(&mut self, name: &str) -> Result<Option<SetHeader>, EnforceError> {
        self.request.header(name);
        let (reply, end) = self.exchange()?;
        match end {
            Ok(()) => Ok(reply.header),
            Err(NetlinkError { code: wire::ENOENT, .. }) => Ok(None),
            Err(NetlinkError { code, .. }) => Err(refusal("describe", name, code)),
        }
    }

    /// Sends the request, which must not be refused.
    fn demand(&mut self, what: &'static str, name: &str) -> Result<(), EnforceError> {
        self.exchange()?.1.map_err(|fault| refusal(what, name, fault.code))
    }

    /// Sends the request and reads the whole answer.
    ///
    /// The kernel does the work within `send`, so the answer is there when that returns, and `recv` never
    /// waits. Where it finds nothing, or no room was found for the answer (ENOBUFS), the request is made
    /// again: all of ours can be made twice.
    fn exchange(&mut self) -> Result<(NetlinkReply, Result<(), NetlinkError>), EnforceError> {
        self.exchange_about(None)
    }

    /// The same, for a listing of which only elements of this offender are wanted.
    fn exchange_about(
        &mut self,
        about: Option<Offender>,
    ) -> Result<(NetlinkReply, Result<(), NetlinkError>), EnforceError> {
        for _ in 0..3 {
            self.sequence = self.sequence.wrapping_add(1);
            self.socket.send(self.request.finish(self.sequence), 0).map_err(EnforceErrorKind::Socket)?;
            let mut reply = NetlinkReply { about, ..NetlinkReply::default() };
            loop {
                self.answer.clear();
                match self.socket.recv(&mut self.answer, 0) {
                    Ok(_) => reply.read(&self.answer, self.sequence),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => break,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(EnforceErrorKind::Socket(error).into()),
                }
                if let Some(end) = reply.end {
                    return Ok((reply, end));
                }
            }
        }
        Err(EnforceErrorKind::NoAnswer.into())
    }
}

impl Firewall for Ipset {
    fn prepare(&mut self, displaced: Displaced) -> Result<Prepared, EnforceError> {
        let mut prepared = Prepared::default();
        let (are_new, members) = self.prepare_list()?;
        self.lacking.clear();
        let has_ipv6 = has_ipv6();
        for family in [Family::V4, Family::V6] {
            if let Err(error) = self.ensure_sets(family, &members, &mut prepared) {
                self.lacking.push(family);
                prepared.faults.extend((family == Family::V4 || has_ipv6).then(|| error.of(family)));
            }
        }
        let families = self.rules.chunk_by_mut(|(one, _), (other, _)| one == other);
        let families = families.filter(|rules| {
            let is_wanted = |family| !self.lacking.contains(&family) && (family == Family::V4 || has_ipv6);
            rules.first().is_some_and(|(family, _)| is_wanted(*family))
        });
        let mut repaired = [(); 2].map(|()| Prepared::default());
        // Side by side, since iptables takes 4 ms.
        thread::scope(|scope| {
            for (rules, repaired) in families.zip(&mut repaired) {
                scope.spawn(move || *repaired = ensure_rules(rules, are_new, displaced));
            }
        });
        for Prepared { rules, moved, faults, .. } in repaired {
            prepared.rules += rules;
            prepared.moved += moved;
            prepared.faults.extend(faults);
        }
        match prepared.faults.len() {
            0 => Ok(prepared),
            1 if has_ipv6 => Ok(prepared),
            _ if prepared.faults.iter().any(|fault| fault.is_displaced()) => Ok(prepared),
            _ => Err(prepared.faults.swap_remove(0)),
        }
    }

    fn apply(&mut self, changes: &[Change]) -> Result<Applied, EnforceError> {
        let mut applied = Applied::default();
        for set in Set::ALL {
            self.change(set, changes, &mut applied)?;
        }
        applied.refused.sort_unstable_by_key(|refused| refused.index);
        Ok(applied)
    }

    fn reconcile(&mut self, desired: &mut DesiredState, now: Timestamp) -> Result<Reconciled, EnforceError> {
        let mut done = Reconciled::default();
        for size in self.sizes()?.iter().filter(|size| !size.is_as_configured()) {
            if let Err(error) = self.refill(size, desired, now, &mut done) {
                done.faults.push(error.to_string());
            }
        }
        let listing = self.list()?;
        done.strange = listing.strange.len();
        // The kernel counts elements for each size that it says.
        let strange = if listing.strange.is_empty() { Vec::new() } else { self.sizes()? };
        for size in strange.iter().filter(|size| listing.strange.contains(&size.set)) {
            self.refill(size, desired, now, &mut done)?;
        }
        let mut drift = desired.compare(&listing.elements, now);
        let changes = std::mem::take(&mut drift.changes);
        let applied = self.apply(&changes)?;
        done.note(&changes, applied, desired);
        Ok(Reconciled { drift, ..done })
    }

    fn is_intact(&mut self, _: &[Element]) -> Result<bool, EnforceError> {
        Ok(true)
    }

    fn sizes(&mut self) -> Result<Vec<SetSize>, EnforceError> {
        let mut sizes = Vec::new();
        for set in Set::ALL {
            let name = set.name(&self.settings.set);
            if let Some(SetHeader { elements, capacity, counts, .. }) = self.header(&name)? {
                let configured = self.settings.max_elements;
                sizes.push(SetSize { set, name, elements: Some(elements), capacity, configured, counts });
            }
        }
        Ok(sizes)
    }

    fn list(&mut self) -> Result<SetContents, EnforceError> {
        let mut listing = SetContents::default();
        for set in Set::ALL {
            let name = set.name(&self.settings.set);
            self.request.list(&name);
            match self.exchange()? {
                (mut reply, Ok(())) => {
                    reply.elements.retain(|(element, left)| !element.is_probe(*left));
                    // Most are in one set, and there may be a million.
                    if listing.elements.is_empty() {
                        listing.elements = reply.elements;
                    } else {
                        listing.elements.append(&mut reply.elements);
                    }
                    listing.strange.extend((reply.strange > 0).then_some(set));
                }
                (_, Err(NetlinkError { code: wire::ENOENT, .. })) => (),
                (_, Err(NetlinkError { code, .. })) => return Err(refusal("list", &name, code)),
            }
        }
        Ok(listing)
    }

    fn holds(&mut self, element: &Element) -> Result<bool, EnforceError> {
        let name = element.set(Layout::AnyLength).name(&self.settings.set);
        self.request.test(&name, element);
        match self.exchange()?.1 {
            Ok(()) => Ok(true),
            Err(NetlinkError { code: wire::NOT_IN_SET | wire::ENOENT, .. }) => Ok(false),
            Err(NetlinkError { code, .. }) => Err(refusal("list", &name, code)),
        }
    }

    fn withdraw(&mut self) -> Result<(), EnforceError> {
        let has_ipv6 = has_ipv6();
        let rules = self.rules.iter().filter(|(family, _)| *family == Family::V4 || has_ipv6);
        let removed: Vec<_> = rules.map(|(_, rule)| rule.remove()).collect();
        removed.into_iter().collect()
    }

    fn events(&self) -> io::Result<Option<RuleEvents>> {
        RuleEvents::of_rules(&self.settings.table).map(Some)
    }

    fn layout(&self) -> Layout {
        Layout::AnyLength
    }

    fn another(&self) -> Result<Box<dyn Firewall>, EnforceError> {
        Ok(Box::new(Self::open(self.settings.clone())?))
    }
}

/// Sees to the rules of one family. Where the list that they refer to was just made, there are none.
fn ensure_rules(rules: &mut [(Family, IptablesRule)], are_new: bool, displaced: Displaced) -> Prepared {
    let mut prepared = Prepared::default();
    for (family, rule) in rules {
        match if are_new { rule.create() } else { rule.ensure(displaced) } {
            Ok(RuleRepair::None) => {}
            Ok(RuleRepair::Created) => prepared.rules += 1,
            Ok(RuleRepair::Moved) => prepared.moved += 1,
            Err(error) => {
                prepared.faults.push(error.of(*family));
                break;
            }
        }
    }
    prepared
}

fn connect() -> io::Result<Socket> {
    let socket = Socket::new(NETLINK_NETFILTER)?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.set_non_blocking(true)?;
    Ok(socket)
}

fn refusal(request: &'static str, set: &str, code: u32) -> EnforceError {
    EnforceErrorKind::Kernel { request, set: set.to_owned(), code }.into()
}
