//! The hub's part in a fleet: what others say becomes bans here, as far as local policy lets it, and what is decided here
//! is told to them.

mod hear;
mod link;
mod tell;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::hub::Hub;
use super::now;
use crate::config::Fleet;
use crate::control::{BanLength, ChangePage, ChangeRequest, FleetStatus, PeerStatus, Reply, Target};
use crate::detect::ExemptionList;
use crate::fleet::addresses::{self, MemberAddresses};
use crate::fleet::counts::Sums;
use crate::fleet::peers::Peers;
use crate::fleet::{FleetNews, FleetOrder, JAIL, MemberState, NoticeRefusal, OrderKind};
use crate::model::{Ban, BanOrigin, Decision, Offender, Timestamp, count};
use crate::store::LedgerUpdate;
pub(super) use link::FleetLink;

/// What the hub knows of the fleet.
pub(super) struct FleetDesk {
    fleet: Arc<Fleet>,
    peers: Peers,
    /// The server that is connected, or why none is.
    server: Result<String, Option<String>>,
    /// Why it has no room for what this host tells.
    no_room: Option<String>,
    /// Where the servers are.
    servers: Vec<Offender>,
    /// Which addresses the members have.
    addresses: MemberAddresses,
    /// Since when none is.
    down: Option<Timestamp>,
    /// How many notices were told since the start.
    told: u64,
    /// How many bans of each jail of another host are in force: as of the last second, and those since.
    in_force: HashMap<Arc<str>, usize>,
    /// What the windows of all members hold, if this host is a counter.
    sums: Sums,
    /// When they were looked through last.
    swept: Instant,
}

/// What the name of the place in the ledger begins with up to which a member was heard.
const PLACE: &str = "fleet/";
/// The same of the place that says when an operator has signed last whether a host is a member.
const MEMBER: &str = "fleet-member/";
/// The place up to which orders of operators were obeyed.
const ORDERS: &str = "fleet-orders";
/// How often windows are looked through that no ban can come of any more.
const SWEEP: Duration = Duration::from_secs(60);

impl FleetDesk {
    /// That of a daemon which has heard the members up to these places.
    pub(super) fn new<'p>(
        fleet: &Arc<Fleet>,
        places: impl IntoIterator<Item = (&'p Arc<str>, &'p String)>,
    ) -> Self {
        let heard = places.into_iter().filter_map(|(place, position)| {
            let host = place.strip_prefix(PLACE)?;
            let (at, aside) = position.split_once(' ').unwrap_or((position, ""));
            Some((host, Timestamp::from_micros(at.parse().ok()?), !aside.is_empty()))
        });
        let heard: Vec<(&str, Timestamp, bool)> = heard.collect();
        let known = heard.iter().map(|(host, at, _)| (Arc::from(*host), *at));
        let mut peers = Peers::new(&fleet.host, fleet.policy, known);
        for (host, ..) in heard.iter().filter(|(.., aside)| *aside) {
            peers.set_aside(host, NoticeRefusal::SetAside);
        }
        Self {
            fleet: Arc::clone(fleet),
            peers,
            server: Err(None),
            no_room: None,
            servers: Vec::new(),
            addresses: MemberAddresses::default(),
            down: Some(now()),
            told: 0,
            in_force: HashMap::new(),
            sums: Sums::default(),
            swept: Instant::now(),
        }
    }

    /// The jails of the other members.
    pub(super) fn jails(&self) -> Vec<Arc<str>> {
        let others = self.peers.members().iter().filter(|host| ***host != *self.fleet.host);
        others.map(|host| crate::fleet::jail_of(host)).collect()
    }

    /// Up to where a member was heard, for the ledger.
    fn place(&self, host: &str) -> Option<(Arc<str>, String)> {
        let peer = self.peers.get(host)?;
        let aside = if peer.aside.is_some() { " aside" } else { "" };
        Some((format!("{PLACE}{host}").into(), format!("{}{aside}", peer.heard.as_micros())))
    }
}

impl Hub {
    /// Follows the configuration: the policy, and whether there is a fleet at all.
    pub(super) fn join_fleet(&mut self) {
        match (&self.loaded.config.fleet, &mut self.fleet) {
            (None, desk) => {
                *desk = None;
                self.leave_fleet();
            }
            (Some(fleet), Some(desk)) if desk.fleet.host == fleet.host => {
                desk.peers.set_policy(fleet.policy);
                desk.fleet = Arc::clone(fleet);
                let decisions = self.settle_all_agreements();
                self.reviewed(decisions);
            }
            (Some(fleet), desk) => *desk = Some(FleetDesk::new(fleet, &self.positions)),
        }
    }

    /// Lifts what others have decided, since they are not heard any more; if this host joins again, all is heard again.
    fn leave_fleet(&mut self) {
        let is_theirs = |ban: &Ban| ban.kind == BanOrigin::Peer;
        let lifted = self.lift_for_peers(is_theirs);
        let heard: Vec<_> = self.positions.keys().filter(|place| place.starts_with(PLACE)).cloned().collect();
        if !lifted.is_empty() {
            log::warn!(
                "this host is in no fleet any more: lifted {}",
                count(lifted.len() as u64, "ban of others")
            );
        }
        let positions = heard.into_iter().map(|place| (place, "0".to_owned())).collect();
        self.take_from_fleet(LedgerUpdate { decisions: lifted.into(), positions, ..LedgerUpdate::default() });
    }

    fn lift_for_peers(&mut self, is_lifted: impl Fn(&Ban) -> bool) -> Vec<Decision> {
        let detector = self.engine.detector();
        let bans = detector.bans().filter(|ban| is_lifted(ban));
        let bans: Vec<_> = bans.map(|ban| (ban.offender, Arc::clone(&ban.jail))).collect();
        bans.iter().filter_map(|(offender, jail)| detector.lift_for_peer(*offender, jail)).collect()
    }

    /// Looks at the bans of others that were in force before the start.
    pub(super) fn review_fleet(&mut self) {
        if self.fleet.is_none() {
            return self.leave_fleet();
        }
        let decisions = self.settle_all_agreements();
        self.reviewed(decisions);
    }

    /// Has this host's addresses told.
    pub(super) fn tell_addresses(&self) {
        let own = self.host.members().iter().filter(|(_, list)| *list == ExemptionList::Own);
        self.outbox.set_addresses(addresses::told(own.map(|(address, _)| address.address())));
    }

    /// Takes what comes from the fleet.
    pub(super) fn fleet_news(&mut self, news: FleetNews) {
        let Some(desk) = &mut self.fleet else { return };
        match news {
            FleetNews::Connected(server, addresses) => {
                desk.servers = addresses.into_iter().map(Offender::single).collect();
                log::info!("the fleet is connected: {server}");
                (desk.server, desk.down, desk.no_room) = (Ok(server), None, None);
            }
            FleetNews::Lost(why) => {
                if desk.server != Err(Some(why.clone())) {
                    log::warn!("the fleet is not connected, and bans of this host go on: {why}");
                }
                desk.server = Err(Some(why));
                desk.down.get_or_insert_with(now);
            }
            FleetNews::Members(states) => self.set_members(states),
            FleetNews::Stored(told) => {
                desk.told += told;
                self.metrics
                    .counter("banstream_fleet_notices_total", &[("direction", "out")])
                    .increment(told);
            }
            FleetNews::NoRoom(why) => {
                match (&why, &desk.no_room) {
                    (Some(why), None) => {
                        log::error!(
                            "the fleet's server has no room for new bans of this host, which are in force here only: {why}"
                        );
                    }
                    (None, Some(_)) => log::info!("the fleet's server has room again"),
                    _ => {}
                }
                desk.no_room = why;
            }
            FleetNews::Wanted(reply) => {
                let _ = reply.send(self.all_to_tell());
            }
            FleetNews::Addresses(told) => self.hear_addresses(told),
            FleetNews::Counts(counts) => self.add_up(counts),
            FleetNews::Orders(orders) => self.obey(orders),
            FleetNews::Page(page) => self.hear(page),
        }
    }

    /// Does what operators of the fleet order, once: what a local operator changes afterwards stays so.
    fn obey(&mut self, mut orders: Vec<FleetOrder>) {
        let done = self.positions.get(ORDERS).and_then(|at| at.parse().ok()).unwrap_or_default();
        let done = Timestamp::from_micros(done);
        orders.retain(|order| order.at > done);
        orders.sort_unstable_by_key(|order| order.at);
        for FleetOrder { kind, offender: address, at, until, comment } in orders {
            let now = now();
            let change = match kind {
                OrderKind::Allow if until.is_some_and(|until| until <= now) => None,
                OrderKind::Allow => {
                    let length = BanLength(until.map(|until| until.since(now)));
                    Some(ChangeRequest::Allow { address, length: Some(length), comment })
                }
                OrderKind::Disallow => Some(ChangeRequest::Disallow { address }),
                OrderKind::Unban => Some(ChangeRequest::Unban(Target::Inside(address))),
            };
            if let Some(change) = change {
                log::info!(address:% = address; "an operator of the fleet orders: {}", kind.name());
                // Nobody waits for the answer.
                let (reply, _) = oneshot::channel();
                self.change(&ChangePage { force: true, ..change.into() }, reply);
            }
            let positions = vec![(Arc::from(ORDERS), at.as_micros().to_string())];
            self.take_from_fleet(LedgerUpdate { positions, ..LedgerUpdate::default() });
        }
    }

    /// Follows what operators have signed about members. What is older than what is known already was shown again by the
    /// server: that host is none.
    fn set_members(&mut self, states: Vec<MemberState>) {
        let place = |host: &str| Arc::<str>::from(format!("{MEMBER}{host}"));
        let (mut admitted, mut removed, mut positions) = (BTreeSet::new(), Vec::new(), Vec::new());
        for MemberState { host, at, removed: is_removed } in states {
            let place = place(&host);
            let known = self.positions.get(&place).and_then(|known| known.parse().ok()).unwrap_or(i64::MIN);
            if at.as_micros() < known {
                log::error!(host:% = host; "the server shows an older state of {host} in the fleet than before: it is not heard");
                continue;
            }
            if at.as_micros() > known {
                positions.push((place, at.as_micros().to_string()));
            }
            if is_removed {
                removed.push(host);
            } else {
                admitted.insert(host);
            }
        }
        self.take_from_fleet(LedgerUpdate { positions, ..LedgerUpdate::default() });
        if let Some(desk) = &mut self.fleet {
            desk.addresses.retain(|host| admitted.contains(host));
            desk.peers.set_members(admitted);
        }
        self.lift_bans_of(&removed);
    }

    /// Lifts the bans of hosts that an operator has removed. If one is admitted again, all that it says is heard again.
    fn lift_bans_of(&mut self, removed: &[Arc<str>]) {
        let is_removed = |host: &str| removed.iter().any(|removed| **removed == *host);
        let is_theirs = |ban: &Ban| ban.jail.strip_prefix(JAIL).is_some_and(is_removed);
        let lifted = self.lift_for_peers(is_theirs);
        if !lifted.is_empty() {
            let lifted = count(lifted.len() as u64, "ban");
            log::warn!("lifted {lifted} of hosts that an operator has removed: {}", removed.join(", "));
        }
        let Some(desk) = &mut self.fleet else { return };
        let forgotten: Vec<_> = removed.iter().filter(|host| desk.peers.forget(host)).collect();
        let positions = forgotten.into_iter().filter_map(|host| desk.place(host)).collect();
        self.take_from_fleet(LedgerUpdate { decisions: lifted.into(), positions, ..LedgerUpdate::default() });
    }

    /// Carries out what has come of it, and remembers up to where the members were heard: both together in the ledger, so
    /// that a crash changes nothing.
    fn take_from_fleet(&mut self, update: LedgerUpdate) {
        if update.is_empty() {
            return;
        }
        self.positions.extend(update.positions.iter().cloned());
        self.carry_out(&update.decisions);
        self.write(update, None);
    }

    /// Hears a member again that was set aside.
    pub(super) fn accept_peer(&mut self, host: &str) -> Reply {
        // Those that were lifted before do not count.
        self.show_fleet();
        let Some(desk) = &mut self.fleet else {
            return Reply::Refused { error: "this host is in no fleet".to_owned() };
        };
        if !desk.peers.accept(host) {
            let known: Vec<&str> = desk.peers.iter().map(|(host, _)| &**host).collect();
            let error = format!("nothing was heard of `{host}`; known are: {}", known.join(", "));
            return Reply::Refused { error };
        }
        self.outbox.set_aside([]);
        log::info!("an operator accepts {host} of the fleet again");
        let positions = desk.place(host).into_iter().collect();
        self.take_from_fleet(LedgerUpdate { positions, ..LedgerUpdate::default() });
        self.outbox.read_again();
        Reply::Done { changed: 1 }
    }

    /// Shows what is known of the fleet in metrics, and counts again how many bans of each host are in force.
    pub(super) fn show_fleet(&mut self) {
        let Some(desk) = &mut self.fleet else { return };
        let detector = &*self.engine.detector();
        if desk.swept.elapsed() >= SWEEP {
            let jails = &self.loaded.config.detection.jails;
            let of = |jail: &str| jails.iter().find(|known| *known.name == *jail);
            desk.sums.sweep(now(), |jail| of(jail).map(|known| known.find_time));
            desk.swept = Instant::now();
        }
        desk.in_force.clear();
        for (terms, bans) in detector.terms().filter(|(terms, _)| terms.kind == BanOrigin::Peer) {
            *desk.in_force.entry(Arc::clone(&terms.jail)).or_default() += bans;
        }
        // A series that begins with its first event hides that event from `increase`.
        for reason in NoticeRefusal::NAMES {
            self.metrics.counter("banstream_fleet_refused_total", &[("reason", reason)]).increment(0);
        }
        for direction in ["in", "out"] {
            self.metrics.counter("banstream_fleet_notices_total", &[("direction", direction)]).increment(0);
        }
        let aside: Vec<_> = desk
            .peers
            .iter()
            .filter(|(_, peer)| peer.aside.is_some())
            .map(|(host, _)| Arc::clone(host))
            .collect();
        for (name, value) in [
            ("banstream_fleet_connected", f64::from(u8::from(desk.server.is_ok()))),
            ("banstream_fleet_members", desk.peers.members().len() as f64),
            ("banstream_fleet_bans", desk.in_force.values().sum::<usize>() as f64),
            ("banstream_fleet_set_aside", aside.len() as f64),
            ("banstream_fleet_waiting", self.outbox.len() as f64),
        ] {
            self.metrics.gauge(name, &[]).set(value);
        }
        self.outbox.set_aside(aside);
    }

    /// What `status` says of it.
    pub(super) fn fleet_status(&mut self) -> Option<FleetStatus> {
        self.show_fleet();
        let (desk, now) = (self.fleet.as_ref()?, now());
        let peers = desk.peers.iter().map(|(host, peer)| PeerStatus {
            host: host.to_string(),
            admitted: desk.peers.members().contains(host),
            bans: desk.in_force.get(&peer.jail).copied().unwrap_or_default() as u64,
            notices: peer.notices,
            silent: peer.last.map(|last| now.since(last).as_secs_ceil()),
            ahead: peer.ahead,
            refused: peer.refused.iter().map(|(why, times)| ((*why).to_owned(), *times)).collect(),
            aside: peer.aside.map(|why| why.to_string()),
        });
        Some(FleetStatus {
            host: desk.fleet.host.clone(),
            mode: desk.fleet.policy.mode,
            agree: desk.fleet.policy.agree,
            server: desk.server.clone().ok(),
            error: desk.server.clone().map_or_else(|why| why, |_| desk.no_room.clone()),
            down: desk.down.map(|since| now.since(since).as_secs_ceil()),
            members: desk.peers.members().len() as u64,
            waiting: self.outbox.len() as u64,
            told: desk.told,
            strangers: desk.peers.strangers(),
            peers: peers.collect(),
        })
    }
}
