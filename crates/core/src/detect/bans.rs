//! The bans in force, by offender and by end, from jails, operators and, after a restart, the ledger.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use hashbrown::HashMap;

use crate::model::{Ban, BanOrigin, Mode, Offender, Port, Span, Timestamp};

/// Who is banned. An offender has at most one ban from each jail.
#[derive(Debug, Default)]
pub(super) struct Bans {
    by_offender: HashMap<Offender, Vec<Ban>>,
    /// When to look whose ban has ended; a ban that was lifted or replaced leaves its entry behind.
    ends: BinaryHeap<Reverse<(Timestamp, Offender)>>,
    count: usize,
    /// How many of these are only observed.
    observed: usize,
    /// Families (whether it is IPv6) and lengths of the prefixes that were banned as such.
    wide: BTreeSet<(bool, u8)>,
    /// Ineffective bans, by offender, with their beginnings.
    in_vain: BTreeSet<(Timestamp, Offender)>,
}

/// After so long no line is left that a server wrote late about what was before the ban: OpenSSH waits 2 minutes for a
/// login that has begun (`LoginGraceTime`).
const LATE: Span = Span::from_secs(300);
/// Ineffective bans that are remembered, so that each is reported once; the oldest goes first.
const MOST_IN_VAIN: usize = 10_000;

impl Bans {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn observed(&self) -> usize {
        self.observed
    }

    /// No longer counts these.
    fn uncount(&mut self, gone: &[Ban]) {
        self.count -= gone.len();
        self.observed -= gone.iter().filter(|ban| ban.mode == Mode::Observe).count();
    }

    /// All bans, in no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Ban> {
        self.by_offender.values().flatten()
    }

    /// The bans on this offender.
    pub(super) fn on(&self, offender: Offender) -> impl Iterator<Item = &Ban> {
        self.by_offender.get(&offender).into_iter().flatten()
    }

    /// The bans on this offender and on all inside it.
    pub(super) fn inside(&self, wide: Offender) -> impl Iterator<Item = &Ban> {
        self.by_offender
            .iter()
            .filter(move |(offender, _)| wide.contains(**offender))
            .flat_map(|(_, bans)| bans)
    }

    /// This jail's ban on the offender.
    pub(super) fn of(&self, offender: Offender, jail: &str) -> Option<&Ban> {
        self.on(offender).find(|ban| *ban.jail == *jail)
    }

    /// Whether this jail bans the offender.
    pub(super) fn holds(&self, offender: Offender, jail: &str) -> bool {
        self.of(offender, jail).is_some()
    }

    /// Whether a ban of a prefix shuts the offender out of all these ports; none are all. Looks once for each length that
    /// such prefixes had.
    pub(super) fn shuts_around(&self, offender: Offender, ports: &[Port]) -> bool {
        let family = offender.address().is_ipv6();
        let shuts = |ban: &Ban| {
            ban.kind == BanOrigin::Wide
                && (ban.ports.is_empty()
                    || (!ports.is_empty() && ports.iter().all(|port| ban.ports.contains(port))))
        };
        let lengths = self.wide.range((family, 0)..=(family, offender.prefix()));
        lengths
            .filter_map(|(_, length)| self.by_offender.get(&Offender::new(offender.address(), *length)?))
            .flatten()
            .any(shuts)
    }

    /// Whether an offence at `at` says that this jail's ban does not keep the offender out; true but once for each ban.
    pub(super) fn is_in_vain(&mut self, offender: Offender, jail: &str, at: Timestamp) -> bool {
        let Some(since) = self.of(offender, jail).map(|ban| ban.since) else { return false };
        if at <= since + LATE || !self.in_vain.insert((since, offender)) {
            return false;
        }
        if self.in_vain.len() > MOST_IN_VAIN {
            self.in_vain.pop_first();
        }
        true
    }

    /// Takes out all bans of this mode on this offender; none where one is an operator's, which shares its elements with
    /// the others.
    pub(super) fn fold(&mut self, offender: Offender, mode: Mode) -> Vec<Ban> {
        let Some(bans) = self.by_offender.get_mut(&offender) else { return Vec::new() };
        if bans.iter().any(|ban| ban.kind == BanOrigin::Manual) {
            return Vec::new();
        }
        let folded: Vec<Ban> = bans.extract_if(.., |ban| ban.mode == mode).collect();
        if bans.is_empty() {
            self.by_offender.remove(&offender);
        }
        self.uncount(&folded);
        folded
    }

    /// Puts a ban in force, in place of an earlier one of the same jail.
    ///
    /// A ban never shortens one of another jail on a port that both shut, for in the kernel they are one element: it
    /// lasts at least as long as that. One that is only observed is not in the kernel, and has nothing to do with others.
    /// What comes back is the ban as it is in force.
    pub(super) fn insert(&mut self, mut ban: Ban) -> Ban {
        // Most have one. Room for four, as `push` makes it, would be 260 bytes more for each.
        let bans = self.by_offender.entry(ban.offender).or_insert_with(|| Vec::with_capacity(1));
        let shares = |other: &Ban| {
            [ban.mode, other.mode] == [Mode::Enforce; 2]
                && (other.ports == ban.ports || other.ports.iter().any(|port| ban.ports.contains(port)))
        };
        let others: Vec<Option<Timestamp>> = bans
            .iter()
            .filter(|other| other.jail != ban.jail && shares(other))
            .map(|other| other.until)
            .collect();
        for other in others {
            ban.until = match (ban.until, other) {
                (Some(mine), Some(others)) => Some(mine.max(others)),
                _ => None,
            };
        }
        if ban.kind == BanOrigin::Wide {
            self.wide.insert((ban.offender.address().is_ipv6(), ban.offender.prefix()));
        }
        let replaced: Vec<Ban> = bans.extract_if(.., |other| other.jail == ban.jail).collect();
        bans.push(ban.clone());
        self.count += 1;
        self.observed += usize::from(ban.mode == Mode::Observe);
        self.uncount(&replaced);
        if let Some(until) = ban.until {
            self.ends.push(Reverse((until, ban.offender)));
        }
        ban
    }

    /// Dates all bans earlier by this much.
    pub(super) fn shift_back(&mut self, by: Span) {
        self.by_offender.values_mut().flatten().for_each(|ban| ban.shift_back(by));
        self.ends = self.ends.drain().map(|Reverse((at, offender))| Reverse((at - by, offender))).collect();
        self.in_vain =
            std::mem::take(&mut self.in_vain).into_iter().map(|(at, who)| (at - by, who)).collect();
    }

    /// Lifts all bans on offenders inside `target`, and returns them. Looks at every ban.
    pub(super) fn lift(&mut self, target: Offender) -> Vec<Ban> {
        let inside = self.by_offender.extract_if(|offender, _| target.contains(*offender));
        let lifted: Vec<Ban> = inside.flat_map(|(_, bans)| bans).collect();
        self.uncount(&lifted);
        lifted
    }

    /// Lifts all bans on exactly this offender, and returns them.
    pub(super) fn lift_from(&mut self, offender: Offender) -> Vec<Ban> {
        let lifted = self.by_offender.remove(&offender).unwrap_or_default();
        self.uncount(&lifted);
        lifted
    }

    /// Lifts the ban of one jail on this offender.
    pub(super) fn remove(&mut self, offender: Offender, jail: &str) -> Option<Ban> {
        let bans = self.by_offender.get_mut(&offender)?;
        let ban = bans.extract_if(.., |ban| *ban.jail == *jail).next();
        if bans.is_empty() {
            self.by_offender.remove(&offender);
        }
        self.uncount(ban.as_slice());
        ban
    }

    /// Lifts all bans.
    pub(super) fn lift_all(&mut self) -> Vec<Ban> {
        self.ends.clear();
        (self.count, self.observed) = (0, 0);
        self.by_offender.drain().flat_map(|(_, bans)| bans).collect()
    }

    /// Forgets the bans that have ended at `now`, and returns them.
    pub(super) fn end(&mut self, now: Timestamp) -> Vec<Ban> {
        let mut ended = Vec::new();
        while self.ends.peek().is_some_and(|Reverse((at, _))| *at <= now) {
            let Some(Reverse((_, offender))) = self.ends.pop() else { break };
            if let Some(bans) = self.by_offender.get_mut(&offender) {
                ended.extend(bans.extract_if(.., |ban| ban.until.is_some_and(|until| until <= now)));
                if bans.is_empty() {
                    self.by_offender.remove(&offender);
                }
            }
        }
        self.uncount(&ended);
        ended
    }
}
