//! The hub's part in a fleet: what others say becomes bans here, as far as local policy lets it, and what is decided here
//! is told to them.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::adoption::ADOPTED;
use super::hub::Hub;
use super::inbox::Input;
use super::now;
use crate::config::Fleet;
use crate::control::{BanLength, ChangePage, ChangeRequest, FleetStatus, PeerStatus, Reply, Target};
use crate::detect::{Detector, LIST, Seen, Trace, WindowEffect};
use crate::fleet::counts::{CountKey, CountNotice, FleetThreshold, Sums};
use crate::fleet::notice::Notice;
use crate::fleet::outbox::{NoticeOutbox, Told};
use crate::fleet::peers::{NoticeVerdict, Peers};
use crate::fleet::{FleetNews, FleetOrder, Heard, JAIL, MemberState, NoticeRefusal, OrderKind, Page};
use crate::model::{Ban, BanOrigin, Decision, Mode, Offender, Timestamp, count};
use crate::store::LedgerUpdate;

/// What the hub knows of the fleet.
pub(super) struct FleetDesk {
    fleet: Arc<Fleet>,
    peers: Peers,
    /// The server that is connected, or why none is.
    server: Result<String, Option<String>>,
    /// Where the servers are.
    servers: Vec<Offender>,
    /// Since when none is.
    down: Option<Timestamp>,
    /// How many notices were told since the start.
    told: u64,
    /// How many bans of each jail of another host are in force: as of the last second, and those since.
    in_force: HashMap<Arc<str>, usize>,
    /// What the windows of all members hold, if this host is a counter.
    sums: Sums,
}

/// What the name of the place in the ledger begins with up to which a member was heard.
const PLACE: &str = "fleet/";
/// The same of the place that says when an operator has signed last whether a host is a member.
const MEMBER: &str = "fleet-member/";
/// The place up to which orders of operators were obeyed.
const ORDERS: &str = "fleet-orders";
/// How many refusals of one page have a line each in the log.
const LOGGED: usize = 10;

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
            servers: Vec::new(),
            down: Some(now()),
            told: 0,
            in_force: HashMap::new(),
            sums: Sums::default(),
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
        self.take_from_fleet(
            lifted,
            Vec::new(),
            heard.into_iter().map(|place| (place, "0".to_owned())).collect(),
        );
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

    /// Takes what comes from the fleet.
    pub(super) fn fleet_news(&mut self, news: FleetNews) {
        let Some(desk) = &mut self.fleet else { return };
        match news {
            FleetNews::Connected(server, addresses) => {
                desk.servers = addresses.into_iter().map(Offender::single).collect();
                log::info!("the fleet is connected: {server}");
                (desk.server, desk.down) = (Ok(server), None);
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
            FleetNews::Wanted(reply) => {
                let _ = reply.send(self.all_to_tell());
            }
            FleetNews::Counts(counts) => self.add_up(counts),
            FleetNews::Orders(orders) => self.obey(orders),
            FleetNews::Page(page) => self.hear(page),
        }
    }

    /// All bans of this host, and what stands in windows that count across the fleet.
    fn all_to_tell(&mut self) -> Told {
        let detector = &*self.engine.detector();
        let ours: HashSet<Offender> =
            detector.bans().filter(|ban| is_ours(ban)).map(|ban| ban.offender).collect();
        let bans = ours.into_iter().filter_map(|who| Some((who, own_notice(detector, who)?))).collect();
        let windows = self.loaded.config.across_fleet.iter().flat_map(|jail| {
            let window = |who| ((Arc::clone(jail), who), detector.window(who, jail));
            detector.watched(jail).map(window)
        });
        Told { bans, windows: windows.collect() }
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
            let position = (Arc::from(ORDERS), at.as_micros().to_string());
            self.positions.extend([position.clone()]);
            self.write(LedgerUpdate { positions: vec![position], ..LedgerUpdate::default() }, None);
        }
    }

    /// Adds up what stands in the windows of members, and bans the offenders whose sum is enough.
    fn add_up(&mut self, counts: Vec<(Arc<str>, CountKey, CountNotice)>) {
        let now = now();
        let mut seen = Seen::default();
        for (host, window, mut notice) in counts {
            notice.times.retain(|time| *time <= now);
            let (jail, offender) = &window;
            let config = &self.loaded.config;
            let is_across = config.across_fleet.contains(jail);
            let terms = config.detection.jails.iter().find(|known| is_across && known.name == *jail);
            let (Some(terms), Some(desk)) = (terms, &mut self.fleet) else { continue };
            if !desk.peers.members().contains(&host) {
                continue;
            }
            let threshold = FleetThreshold {
                full: terms.max_retry.get(),
                span: terms.find_time,
                hosts: usize::from(desk.fleet.policy.agree),
            };
            if let Some(at) = desk.sums.hear(&host, &window, notice, threshold) {
                log::info!(address:% = offender, jail:% = jail; "{offender} has filled the window of {jail} on several hosts");
                self.engine.detector().earn_elsewhere(*offender, jail, at, now, &mut seen);
            }
        }
        self.report_withheld(&seen);
        let decided = Arc::new(std::mem::take(&mut seen.decisions));
        self.carry_out(&decided);
        let lapsed = seen.lapsed.into_iter().map(Decision::Ban);
        let decisions = lapsed.chain(decided.iter().cloned()).collect::<Vec<_>>().into();
        let logins = self.engine.detector().take_changed_logins();
        let update = LedgerUpdate { decisions, traces: seen.traces, logins, ..LedgerUpdate::default() };
        if !update.is_empty() {
            self.write(update, None);
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
        self.take_from_fleet(Vec::new(), Vec::new(), positions);
        if let Some(desk) = &mut self.fleet {
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
        let places = forgotten.into_iter().filter_map(|host| desk.place(host)).collect();
        self.take_from_fleet(lifted, Vec::new(), places);
    }

    /// Takes what members say.
    fn hear(&mut self, page: Page) {
        let now = now();
        let (mut decisions, mut traces, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
        let mut heard_of: HashSet<Arc<str>> = HashSet::new();
        let mut refused = 0;
        for heard in &page.heard {
            let Some(desk) = &mut self.fleet else { return };
            let detector = self.engine.detector();
            let (in_force, was_aside) = desk.peers.get(&heard.host).map_or((0, false), |peer| {
                (desk.in_force.get(&peer.jail).copied().unwrap_or_default(), peer.aside.is_some())
            });
            let verdict = desk.peers.judge(heard, page.is_live, in_force, now);
            // Nothing limits how much one may say that has no effect.
            if verdict == NoticeVerdict::Known && !was_aside {
                remember(detector, desk, heard, now);
            }
            let refusal = match verdict {
                NoticeVerdict::Known => continue,
                NoticeVerdict::Refused(refusal) => Some(refusal),
                NoticeVerdict::Lift(offender, jail) => {
                    let lifted = detector.lift_for_peer(offender, &jail);
                    if let (None, false, Ok((_, notice))) = (&lifted, page.is_live, &heard.said) {
                        // Since a crash it may be in the kernel alone.
                        let ban = notice.ban(offender, Arc::clone(&jail), now, now);
                        let ban = ban.with(|terms| terms.mode = Mode::Enforce);
                        unknown.extend(self.lifted.is_some().then_some(Decision::Unban(ban)));
                        decisions.extend(detector.lift_for_peer(offender, ADOPTED));
                    }
                    if lifted.is_some() {
                        let bans = desk.in_force.entry(jail).or_default();
                        *bans = bans.saturating_sub(1);
                    }
                    decisions.extend(lifted);
                    decisions.extend(settle_agreement(detector, desk, offender));
                    None
                }
                NoticeVerdict::Ban(ban)
                    if desk.servers.iter().any(|server| ban.offender.contains(*server)) =>
                {
                    let _ = desk.peers.refuse(&heard.host, NoticeRefusal::Server);
                    Some(NoticeRefusal::Server)
                }
                NoticeVerdict::Ban(mut ban) => {
                    let (offender, jail) = (ban.offender, Arc::clone(&ban.jail));
                    ban.mode = agreed(detector, desk, offender, Some(&jail));
                    let is_known = detector.bans_on(offender).any(|known| known.jail == jail);
                    match detector.ban_for_peer(ban, now) {
                        Ok(ban) => {
                            if !is_known {
                                *desk.in_force.entry(jail).or_default() += 1;
                            }
                            remember(detector, desk, heard, now);
                            // What led to that ban there is not to lead to another. Elsewhere a member could empty the
                            // window of any attacker with bans that end at once.
                            let jail = heard.said.as_ref().map(|(_, notice)| Arc::clone(&notice.jail)).ok();
                            let is_across = |jail: &Arc<str>| self.loaded.config.across_fleet.contains(jail);
                            let lasts = |jail: &Arc<str>| {
                                let jails = &self.loaded.config.detection.jails;
                                let span = jails
                                    .iter()
                                    .find(|known| known.name == *jail)
                                    .map(|known| known.find_time);
                                span.is_some_and(|span| ban.until.is_none_or(|until| until > now + span))
                            };
                            if let Some(jail) =
                                jail.filter(is_across).filter(lasts).filter(|_| ban.mode == Mode::Enforce)
                            {
                                traces.extend(detector.empty_window(offender, &jail, ban.since));
                            }
                            // What was adopted after a crash is this ban.
                            if !page.is_live && ban.mode == Mode::Enforce {
                                decisions.extend(detector.lift_for_peer(offender, ADOPTED));
                            }
                            decisions.push(Decision::Ban(ban));
                            decisions.extend(settle_agreement(detector, desk, offender));
                            None
                        }
                        Err(by) => {
                            let _ = desk.peers.refuse(&heard.host, NoticeRefusal::Exempt(by));
                            Some(NoticeRefusal::Exempt(by))
                        }
                    }
                }
            };
            heard_of.insert(Arc::clone(&heard.host));
            let Some(refusal) = refusal else { continue };
            self.metrics.counter("banstream_fleet_refused_total", &[("reason", refusal.name())]).increment(1);
            let host = &heard.host;
            if matches!(refusal, NoticeRefusal::TooFast | NoticeRefusal::TooMany) && !was_aside {
                log::error!(host:% = host; "set {host} of the fleet aside: {refusal}; its bans so far stay until `banstream unban \
                    --jail {JAIL}{host}`, and `banstream fleet accept {host}` hears it again");
            } else if refused < LOGGED && refusal != NoticeRefusal::SetAside {
                let who = heard
                    .said
                    .as_ref()
                    .map(|(who, _)| who.to_string())
                    .unwrap_or_else(|_| "something".to_owned());
                log::warn!(host:% = host; "refused {who} from {host} of the fleet: {refusal}");
            }
            refused += 1;
        }
        if refused > LOGGED {
            log::warn!(
                "refused {} of the fleet at the same time",
                count((refused - LOGGED) as u64, "more notice")
            );
        }
        self.metrics
            .counter("banstream_fleet_notices_total", &[("direction", "in")])
            .increment(page.heard.len() as u64);
        self.apply(&Arc::new(unknown));
        let places = heard_of.iter().filter_map(|host| self.fleet.as_ref()?.place(host)).collect();
        self.take_from_fleet(decisions, traces, places);
    }

    /// Carries out what has come of it, and remembers up to where the members were heard: both together in the ledger, so
    /// that a crash changes nothing.
    fn take_from_fleet(
        &mut self,
        decisions: Vec<Decision>,
        traces: Vec<Trace>,
        positions: Vec<(Arc<str>, String)>,
    ) {
        if decisions.is_empty() && positions.is_empty() {
            return;
        }
        self.positions.extend(positions.iter().cloned());
        let decisions = Arc::new(decisions);
        self.carry_out(&decisions);
        self.write(LedgerUpdate { decisions, traces, positions, ..LedgerUpdate::default() }, None);
    }

    /// Tells the others what has become of this host's bans.
    pub(super) fn tell_fleet(&mut self, update: &LedgerUpdate) {
        if self.fleet.is_none() || update.whole {
            return;
        }
        let across = &self.loaded.config.across_fleet;
        let detector = &*self.engine.detector();
        let is_told = |trace: &&Trace| trace.effect != WindowEffect::Nothing && across.contains(&trace.jail);
        for trace in update.traces.iter().filter(is_told) {
            let times = detector.window(trace.offender, &trace.jail);
            self.outbox.put_window((Arc::clone(&trace.jail), trace.offender), times);
        }
        let wide = Decision::wide(&update.decisions);
        for decision in update.decisions.iter().filter(|decision| is_ours(decision.ban())) {
            let ban = decision.ban();
            let notice = match (own_notice(detector, ban.offender), decision) {
                (Some(notice), _) => notice,
                // The prefix may be too wide for others; then they have these.
                (None, Decision::Unban(_)) if ban.widened(&wide).is_none() => Notice::of(ban, true),
                (None, _) => continue,
            };
            self.outbox.put(ban.offender, notice);
        }
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
        let place = desk.place(host).into_iter().collect();
        self.take_from_fleet(Vec::new(), Vec::new(), place);
        self.outbox.read_again();
        Reply::Done { changed: 1 }
    }

    fn settle_all_agreements(&mut self) -> Vec<Decision> {
        let Some(desk) = &self.fleet else { return Vec::new() };
        let detector = self.engine.detector();
        let offenders: HashSet<Offender> =
            detector.bans().filter(|ban| ban.kind == BanOrigin::Peer).map(|ban| ban.offender).collect();
        offenders.into_iter().flat_map(|offender| settle_agreement(detector, desk, offender)).collect()
    }

    /// Shows what is known of the fleet in metrics, and counts again how many bans of each host are in force.
    pub(super) fn show_fleet(&mut self) {
        let Some(desk) = &mut self.fleet else { return };
        let detector = &*self.engine.detector();
        let span = |jail: &str| {
            let jails = &self.loaded.config.detection.jails;
            jails.iter().find(|known| *known.name == *jail).map(|known| known.find_time)
        };
        desk.sums.sweep(now(), span);
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
            error: desk.server.clone().err().flatten(),
            down: desk.down.map(|since| now.since(since).as_secs_ceil()),
            members: desk.peers.members().len() as u64,
            waiting: self.outbox.len() as u64,
            told: desk.told,
            strangers: desk.peers.strangers(),
            peers: peers.collect(),
        })
    }
}

/// Whether a ban is to be told to others: what others decided they know, lists everybody has for himself, and what only the
/// kernel knew may be anybody's.
fn is_ours(ban: &Ban) -> bool {
    ban.kind != BanOrigin::Peer && ban.mode == Mode::Enforce && ![LIST, ADOPTED].contains(&&*ban.jail)
}

/// What the others are to know of an offender: the ban that lasts longest.
fn own_notice(detector: &Detector, offender: Offender) -> Option<Notice> {
    let ours = detector.bans_on(offender).filter(|ban| is_ours(ban));
    ours.max_by_key(|ban| ban.until.unwrap_or(Timestamp::MAX)).map(|ban| Notice::of(ban, false))
}

/// Remembers how often a member has banned an offender.
fn remember(detector: &mut Detector, desk: &FleetDesk, heard: &Heard, now: Timestamp) {
    let policy = desk.fleet.policy;
    if let Ok((offender, notice)) = &heard.said
        && policy.mode == Mode::Enforce
        && *heard.host != *desk.fleet.host
        && !notice.lifted
    {
        let until = notice.until.unwrap_or(Timestamp::MAX).min(now + policy.longest);
        detector.remember_elsewhere(*offender, &notice.jail, notice.times, until);
    }
}

/// Whether the bans of others on this offender are carried out: where enough hosts agree, of which `more` is one.
fn agreed(detector: &Detector, desk: &FleetDesk, offender: Offender, more: Option<&str>) -> Mode {
    let policy = desk.fleet.policy;
    let others =
        detector.bans_on(offender).filter(|ban| ban.kind == BanOrigin::Peer && Some(&*ban.jail) != more);
    let ours = detector.bans_on(offender).any(is_ours);
    let hosts = others.count() + usize::from(ours) + usize::from(more.is_some());
    if policy.mode == Mode::Enforce && hosts >= usize::from(policy.agree) {
        Mode::Enforce
    } else {
        Mode::Observe
    }
}

/// Carries the bans of others on this offender out, or no longer, as enough hosts agree.
fn settle_agreement(detector: &mut Detector, desk: &FleetDesk, offender: Offender) -> Vec<Decision> {
    let mode = agreed(detector, desk, offender, None);
    let others: Vec<Ban> = detector
        .bans_on(offender)
        .filter(|ban| ban.kind == BanOrigin::Peer && ban.mode != mode)
        .cloned()
        .collect();
    let mut decisions = Vec::new();
    for ban in others {
        let renewed = ban.clone().with(|terms| terms.mode = mode);
        // It cannot be exempt, since such bans are lifted as soon as it is.
        if let Ok(renewed) = detector.ban_for_peer(renewed, now()) {
            decisions.extend([Decision::Unban(ban), Decision::Ban(renewed)]);
        }
    }
    decisions
}

/// The connection of a daemon to its fleet.
pub(super) struct FleetLink {
    fleet: Option<Arc<Fleet>>,
    outbox: NoticeOutbox,
    inbox: mpsc::Sender<Input>,
    tasks: Vec<JoinHandle<()>>,
}

impl FleetLink {
    /// None yet.
    pub(super) fn new(outbox: NoticeOutbox, inbox: mpsc::Sender<Input>) -> Self {
        Self { fleet: None, outbox, inbox, tasks: Vec::new() }
    }

    /// Connects as the configuration says, if that is another way than before.
    pub(super) fn restart(&mut self, fleet: Option<&Arc<Fleet>>) {
        if self.fleet.as_ref() == fleet {
            return;
        }
        self.tasks.drain(..).for_each(|task| task.abort());
        self.fleet = fleet.cloned();
        #[cfg(feature = "fleet")]
        if let Some(fleet) = fleet {
            let (news, mut heard) = mpsc::channel(4);
            let inbox = self.inbox.clone();
            let link = crate::fleet::link::run(Arc::clone(fleet), self.outbox.clone(), news, now);
            self.tasks.push(tokio::spawn(link));
            self.tasks.push(tokio::spawn(async move {
                while let Some(news) = heard.recv().await {
                    if inbox.send(Input::Fleet(news)).await.is_err() {
                        return;
                    }
                }
            }));
        }
    }
}

impl Drop for FleetLink {
    fn drop(&mut self) {
        self.tasks.drain(..).for_each(|task| task.abort());
    }
}
