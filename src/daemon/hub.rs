//! The one task that decides: all inputs of the engine are in one `match`.
//!
//! Batches from all sources and commands from operators come through one inbox, so the state needs no locks, and a ban
//! by hand and one by threshold cannot cross.

use std::collections::{BTreeMap, HashSet};
use std::mem;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::allowances::Allowances;
use super::clients::Clients;
use super::clock::{ClockStep, ClockWatch};
use super::confirm::AnswerTo;
use super::duplicates::Duplicates;
use super::enforcer::{Order, OrderSender};
use super::fleet::FleetDesk;
use super::health::{Health, HealthState};
use super::host_addresses::HostAddresses;
use super::inbox::Input;
use super::ledger_writer::LedgerQueue;
use super::notifier::EventSender;
use super::stats::SharedStats;
use super::undo::UndoLog;
use super::why::PartialWhy;
use super::{adoption, logging, now, take_over};
use crate::config::load::Loaded;
use crate::config::nearest;
use crate::control::{
    BanFilter, BanListing, ChangeReport, Command, ExemptStatus, ForgedStatus, GrammarStatus, JailStatus,
    Reply, SoleClient, SourceState, Status, TakenCounts, UnmatchedStatus, Why,
};
use crate::daemon::metrics::Metrics;
use crate::daemon::notify::Event;
use crate::detect::{Detector, ExemptedBan, Exemption, ExemptionList, LIST, MANUAL, Seen, Settings, WIDE};
use crate::engine::{BatchReport, Clock, Engine, Unattested};
use crate::fleet::outbox::NoticeOutbox;
use crate::grammar::Grammar;
use crate::input::Batch;
use crate::kernel::{Element, Firewall, Timeout, elements, released};
use crate::model::{Allowance, Ban, BanOrigin, Decision, Mode, Offender, Span, Timestamp, count};
use crate::store::LedgerUpdate;

pub(super) struct Hub {
    pub(super) engine: Engine<'static>,
    pub(super) metrics: Metrics,
    pub(super) stats: SharedStats,
    pub(super) health: Health,
    pub(super) events: EventSender,
    pub(super) orders: OrderSender,
    pub(super) ledger: LedgerQueue,
    pub(super) clients: Clients,
    pub(super) duplicates: Duplicates,
    /// How far sources were read.
    pub(super) positions: BTreeMap<Arc<str>, String>,
    pub(super) started: Timestamp,
    /// What the operator chose.
    pub(super) loaded: Loaded,
    /// What this host is itself.
    pub(super) host: HostAddresses,
    pub(super) allowances: Allowances,
    pub(super) undo: UndoLog,
    pub(super) ticked: Instant,
    pub(super) steps: ClockWatch,
    pub(super) synced: Instant,
    /// From where on to go on to tell the enforcer all bans, while that is under way.
    pub(super) resync: Option<usize>,
    /// How many decisions have had a line in the log since the last tick, and how many wait to be counted in one.
    pub(super) logged: usize,
    pub(super) unlogged: usize,
    /// What systemd was told last.
    pub(super) told: String,
    /// What was taken out of the kernel while it is listed, which is not to be adopted.
    pub(super) lifted: Option<HashSet<Element>>,
    /// Where what takes a while is done.
    pub(super) runtime: Handle,
    /// What other hosts may do here, if this one is a member of a fleet.
    pub(super) fleet: Option<FleetDesk>,
    /// What this host tells the others.
    pub(super) outbox: NoticeOutbox,
}

/// Why bans end, in metrics and in what receivers are told.
const EXPIRED: &str = "expired";
const LIFTED: &str = "lifted";
const REPLACED: &str = "replaced";

/// How many decisions of one batch, and how many of one second, have a line each in the log. A flood has thousands of
/// them, and each line costs more than its ban.
const LOGGED: usize = 100;
const LOGGED_A_SECOND: usize = 1000;
/// How often to look after what is not an entry.
const SECOND: Duration = Duration::from_secs(1);
/// How often the enforcer gets all bans in force, so that its desired state and ours do not differ for long; and how many
/// at once.
const FULL_SYNC: Duration = Duration::from_secs(60 * 60);
const SLICE: usize = 20_000;
/// How many messages of offences of one batch are kept, where it brings more bans than that.
const SAMPLE: usize = 500;
/// The same while the ledger is behind.
const SMALL_SAMPLE: usize = 50;

/// The most that is put together of counts that the ledger missed: it is made while decisions wait.
const WHOLE: usize = 200_000;

impl Hub {
    /// Handles what comes until `Stop`. Its senders go with it, which ends the tasks behind it.
    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Input>) {
        self.review_restored();
        self.review_fleet();
        while let Some(input) = inbox.recv().await {
            // Before anything is dated by a clock that has stepped.
            self.watch_clock();
            // Under load no tick finds room in the inbox, so the hub looks at the clock itself.
            if self.ticked.elapsed() >= SECOND {
                self.tick(inbox.len());
            }
            match input {
                Input::Batch(batch) => self.batch(batch),
                Input::Command(Command::Why(who), reply) => {
                    let why = self.partial_why(who);
                    self.runtime.spawn(async move { reply.send(Reply::Why(why.finish().await)) });
                }
                Input::Command(Command::TakeOver { bans, list }, reply) => self.take_over(bans, list, reply),
                Input::Command(Command::Change(page), reply) => self.change(&page, reply),
                Input::Command(Command::Undo { force }, reply) => self.take_back(force, reply),
                Input::Command(command, reply) => {
                    // The client may have hung up; that is its business.
                    let _ = reply.send(self.command(command));
                }
                Input::Reload(loaded, kind, reply) => _ = reply.send(self.reload(*loaded, kind)),
                Input::Preview(loaded, reply) => _ = reply.send(self.preview(&loaded)),
                Input::Kept => self.undo.end_trial(),
                Input::HostChanged(host, files) => {
                    self.host = host;
                    self.tell_addresses();
                    self.loaded.allow_files.adopt(&files);
                    self.settle_exemptions();
                }
                Input::Listed(elements, firewall) => self.adopt(elements, firewall),
                Input::Fleet(news) => self.fleet_news(news),
                Input::Tick => self.tick(inbox.len()),
                Input::Stop => break,
            }
        }
        if self.ledger.owes_whole() {
            let update = self.whole();
            self.ledger.close(update);
        }
    }

    fn batch(&mut self, mut batch: Batch) {
        let mut update = LedgerUpdate::default();
        if let Some(numbered) = batch.numbered {
            let (client, known) = self.clients.take(numbered, &mut batch.records);
            update.clients.push(client);
            self.metrics.counter("banstream_entries_duplicate_total", &[]).increment(known);
        }
        // What comes from journald is attested, and what comes by standard input the operator has chosen.
        let unattested =
            if &*batch.source == "socket" { unattested(&self.loaded) } else { Unattested::Accept };
        let grammars = Arc::clone(self.engine.grammars());
        // It may get another name while we run, when DHCP or cloud-init gives it one.
        if let Ok(host) = nix::sys::utsname::uname() {
            self.engine.name_host(host.nodename().as_encoded_bytes());
        }
        let now = now();
        let report = self.engine.take(&mut batch.records, Clock::At(now), unattested);
        self.stats.lock().add(&batch.source, &grammars, &report, now);
        let BatchReport { tally, mut seen, mut evidence, ended, .. } = report;
        let malformed = tally.malformed.clone();
        // Before they are logged and counted.
        seen.decisions.shrink_to_fit();
        update.decisions = Arc::new(mem::take(&mut seen.decisions));
        self.apply(&update.decisions);
        for (reason, times) in
            [("overlong", batch.overlong), ("crash", batch.deadly), ("offender_table_full", seen.forgotten)]
        {
            self.metrics.dropped(reason, times);
        }
        malformed.iter().for_each(|(why, times)| self.metrics.dropped(why.reason(), *times));
        self.report_withheld(&seen);
        for (who, jail) in &seen.ineffective {
            self.metrics.counter("banstream_bans_ineffective_total", &[("jail", jail)]).increment(1);
            log::warn!(address:% = who, jail:% = jail; "{who} is banned by {jail} and still gets through; does it come \
                through a proxy or another path? Run `banstream doctor`");
        }
        self.ended(ended);
        self.record(&update.decisions, |_| true);
        self.duplicates.add(&batch.source, &seen.traces, &evidence);
        let sample = if self.ledger.is_behind() { SMALL_SAMPLE } else { SAMPLE };
        if update.decisions.len() > sample {
            evidence.keep_first(sample);
        }
        // It may wait for long, and has grown to twice of what it needs.
        seen.traces.shrink_to_fit();
        evidence.shrink_to_fit();
        if !seen.lapsed.is_empty() {
            let lapsed = seen.lapsed.into_iter().map(Decision::Ban);
            update.decisions = Arc::new(lapsed.chain(update.decisions.iter().cloned()).collect());
        }
        (update.traces, update.evidence) = (seen.traces, evidence);
        update.grammars = grammars;
        update.logins = self.engine.detector().take_changed_logins();
        if let Some(position) = batch.position {
            let place = batch.place.unwrap_or(batch.source);
            self.positions.insert(Arc::clone(&place), position.clone());
            update.starts.extend(batch.starts.map(|starts| (Arc::clone(&place), starts)));
            update.positions.push((place, position));
        }
        self.write(update, batch.receipt);
    }

    /// Counts and logs bans that were earned and withheld.
    pub(super) fn report_withheld(&self, seen: &Seen) {
        for ExemptedBan { offender: who, jail, by } in &seen.exempted {
            let labels = [("jail", &**jail), ("exemption", by.name())];
            self.metrics.counter("banstream_bans_exempted_total", &labels).increment(1);
            log::info!(message_id = logging::EXEMPTED, address:% = who, jail:% = jail; "{who} has earned a ban from {jail}, but is exempt: {by}");
        }
    }

    /// Sends the enforcer those decisions that are to be enforced, and reports all.
    pub(super) fn carry_out(&mut self, decisions: &Arc<Vec<Decision>>) {
        self.apply(decisions);
        self.record(decisions, |_| true);
    }

    /// Sends the enforcer those that are to be enforced. Who is banned by another jail too stays blocked without a gap.
    pub(super) fn apply(&mut self, decisions: &Arc<Vec<Decision>>) {
        let detector = self.engine.detector();
        let others = |ban: &Ban| detector.bans_on(ban.offender).filter(|other| other.mode == Mode::Enforce);
        let is_in_fleet = self.fleet.is_some();
        // In the kernel they are one element, and the last that is said of it holds.
        let longer = |ban: &Ban| {
            let end = |ban: &Ban| (ban.until.is_none(), ban.until);
            let others = (is_in_fleet && ban.mode == Mode::Enforce).then(|| others(ban));
            others?.filter(|other| end(other) > end(ban)).max_by_key(|other| end(other))
        };
        let stays = |decision: &Decision| match decision {
            Decision::Unban(ban) => ban.mode == Mode::Enforce && others(ban).next().is_some(),
            Decision::Ban(ban) => longer(ban).is_some(),
        };
        let mut decisions = Arc::clone(decisions);
        if decisions.iter().any(stays) {
            let carried_out = decisions.iter().flat_map(|decision| match decision {
                Decision::Unban(ban) if ban.mode == Mode::Enforce => released(ban, others(ban)),
                Decision::Ban(ban) => {
                    [decision.clone()].into_iter().chain(longer(ban).cloned().map(Decision::Ban)).collect()
                }
                decision => vec![decision.clone()],
            });
            decisions = Arc::new(carried_out.collect());
        }
        if decisions.iter().any(|decision| decision.ban().mode == Mode::Enforce) {
            self.order(Order::Apply(decisions, Instant::now()));
        }
    }

    /// Takes over bans that were decided elsewhere, and replies once they are in the kernel and in the ledger: so a client
    /// that sends more of them goes no faster than these.
    fn take_over(&mut self, bans: Vec<Ban>, list: Option<u64>, reply: oneshot::Sender<Reply>) {
        let at = now();
        let protects = self.loaded.config.detection.protect_logins;
        let page = take_over::page(self.engine.detector(), bans, protects, at);
        log::info!("took over bans: {}", page.counts);
        self.undo.add(list, at, take_over::IMPORT.to_owned(), page.before);
        self.show_active();
        self.apply(&page.enforced.into());
        let update = LedgerUpdate { decisions: page.decisions.into(), ..LedgerUpdate::default() };
        self.reply_once_done(AnswerTo::Pages, update, reply, move |confirmation| {
            let ledger = confirmation.unwritten();
            let errors: Vec<String> = confirmation.enforcement.into_iter().chain(ledger).collect();
            let error = (!errors.is_empty()).then(|| errors.join("; "));
            Reply::TakenOver(TakenCounts { error, ..page.counts })
        });
    }

    /// Counts, logs and tells decisions. A ban that is not new is not counted again.
    pub(super) fn record(&mut self, decisions: &[Decision], is_new: impl Fn(&Ban) -> bool) {
        if decisions.is_empty() {
            return;
        }
        let wide = Decision::wide(decisions);
        self.count_and_tell(decisions, &wide, &is_new);
        let room = LOGGED.min(LOGGED_A_SECOND.saturating_sub(self.logged));
        let (logged, rest) = decisions.split_at(decisions.len().min(room));
        self.logged += logged.len();
        logged.iter().for_each(|decision| log_decision(decision, &wide, &is_new));
        self.unlogged += rest.len();
        if room > 0 {
            self.log_rest();
        }
    }

    /// Says how many decisions have no line.
    fn log_rest(&mut self) {
        let rest = mem::take(&mut self.unlogged);
        if rest > 0 {
            let rest = count(rest as u64, "more decision");
            log::info!("and {rest} at the same time; `banstream bans` lists all bans in force");
        }
    }

    /// The same, of a page of a list: the log has one line for all of it.
    pub(super) fn record_page(
        &mut self,
        decisions: &[Decision],
        is_new: impl Fn(&Ban) -> bool,
        report: &ChangeReport,
    ) {
        self.count_and_tell(decisions, &[], is_new);
        log::info!("took a list of an operator: {}", report.summary());
    }

    fn count_and_tell(&mut self, decisions: &[Decision], wide: &[&Ban], is_new: impl Fn(&Ban) -> bool) {
        self.tell(decisions, wide, &is_new);
        let (mut replaced, mut lifted) = (0, 0);
        // In a flood neighbours have the same terms.
        let are_alike = |one: &Decision, other: &Decision| {
            mem::discriminant(one) == mem::discriminant(other)
                && Arc::ptr_eq(&one.ban().terms, &other.ban().terms)
        };
        for run in decisions.chunk_by(are_alike) {
            match run {
                [Decision::Ban(ban), ..] => {
                    let new = run.iter().filter(|decision| is_new(decision.ban())).count() as u64;
                    if new > 0 {
                        self.stats.lock().banned(&ban.terms, new);
                    }
                }
                unbans => {
                    let widened =
                        unbans.iter().filter(|unban| unban.ban().widened(wide).is_some()).count() as u64;
                    (replaced, lifted) = (replaced + widened, lifted + unbans.len() as u64 - widened);
                }
            }
        }
        for (reason, times) in [(REPLACED, replaced), (LIFTED, lifted)] {
            self.count_ended(reason, times);
        }
        self.show_active();
    }

    fn count_ended(&self, reason: &'static str, times: u64) {
        if times > 0 {
            self.metrics.counter("banstream_bans_ended_total", &[("reason", reason)]).increment(times);
        }
    }

    /// Tells receivers.
    fn tell(&mut self, decisions: &[Decision], wide: &[&Ban], is_new: impl Fn(&Ban) -> bool) {
        let detector = self.engine.detector();
        // Their own hosts send them.
        let decisions = decisions.iter().filter(|decision| decision.ban().kind != BanOrigin::Peer);
        let event = |decision: &Decision| match decision {
            Decision::Ban(ban) if is_new(ban) => Event::Banned(ban.clone()),
            Decision::Ban(ban) => Event::Restored(ban.clone()),
            Decision::Unban(ban) => {
                unbanned(detector, ban, if ban.widened(wide).is_some() { REPLACED } else { LIFTED })
            }
        };
        self.events.send(|| decisions.map(event).collect());
    }

    /// Counts the bans in force, by whether they are carried out.
    fn show_active(&mut self) {
        let detector = self.engine.detector();
        let observed = detector.observed();
        for (mode, bans) in [(Mode::Enforce, detector.banned() - observed), (Mode::Observe, observed)] {
            self.metrics.gauge("banstream_bans_active", &[("mode", mode.name())]).set(bans as f64);
        }
    }

    /// The line that `systemctl status` shows.
    fn tell_systemd(&mut self) {
        let HealthState { sources, enforcement, .. } = self.health.read();
        let detector = self.engine.detector();
        let enforced = detector.banned() - detector.observed();
        let mut status = match enforcement.error {
            Some(error) => format!("Bans are not enforced: {error}"),
            None => format!("{} in force", count(enforced as u64, "ban")),
        };
        for source in sources {
            let state = if source.state == SourceState::Running { "is read" } else { "cannot be read" };
            status += &format!("; {} {state}", source.name);
        }
        if status != self.told {
            let _ = sd_notify::notify(&[NotifyState::Status(&status)]);
            self.told = status;
        }
    }

    fn ended(&mut self, ended: Vec<Ban>) {
        if !ended.is_empty() {
            let detector = self.engine.detector();
            let ours = ended.iter().filter(|ban| ban.kind != BanOrigin::Peer);
            self.events.send(|| ours.map(|ban| unbanned(detector, ban, EXPIRED)).collect());
        }
        self.count_ended(EXPIRED, ended.len() as u64);
        for ban in ended {
            let (who, jail) = (ban.offender, &ban.jail);
            log::debug!(address:% = who, jail:% = jail; "the ban on {who} ({jail}) is over");
        }
    }

    /// Blocks while the enforcer is behind: then sources are read no faster than the kernel can be told.
    pub(super) fn order(&mut self, order: Order) {
        if let (Some(lifted), Order::Apply(decisions, _)) = (&mut self.lifted, &order) {
            let ended = decisions.iter().filter_map(|decision| match decision {
                Decision::Unban(ban) => Some(ban),
                Decision::Ban(_) => None,
            });
            lifted.extend(ended.flat_map(elements));
        }
        if !self.orders.give(order) {
            log::error!("the enforcer has stopped");
        }
    }

    /// Never waits: the ledger's disk may hang, and bans must not. Whether the update is left out, because too much waits.
    pub(super) fn write(&mut self, mut update: LedgerUpdate, receipt: Option<oneshot::Sender<()>>) -> bool {
        update.undo.extend(self.undo.take_updates());
        update.in_force = Some(self.engine.detector().banned());
        self.tell_fleet(&update);
        let is_left_out = self.ledger.write(update, receipt);
        if is_left_out {
            self.metrics.dropped("ledger_queue_full", 1);
        }
        is_left_out
    }

    /// All that the ledger has to know, for one that missed something.
    fn whole(&mut self) -> LedgerUpdate {
        let grammars = Arc::clone(self.engine.grammars());
        let undo = self.undo.whole();
        let detector = &*self.engine.detector();
        LedgerUpdate {
            whole: true,
            undo,
            traces: detector.traces().skip(detector.traces().count().saturating_sub(WHOLE)).collect(),
            grammars,
            decisions: Arc::new(detector.bans().cloned().map(Decision::Ban).collect()),
            positions: self.positions.clone().into_iter().collect(),
            clients: self.clients.all(),
            allowances: self.allowances.all(),
            logins: detector.logins().collect(),
            ..LedgerUpdate::default()
        }
    }

    fn command(&mut self, command: Command) -> Reply {
        match command {
            Command::Status => Reply::Status(Box::new(self.status())),
            Command::Bans(filter) => match filter.jail.as_ref().and_then(|jail| self.unknown_jail(jail)) {
                Some(error) => Reply::Refused { error },
                None => Reply::Bans(self.bans(&filter)),
            },
            Command::Allowances => Reply::Allowances(self.allowances.lines(now())),
            Command::UndoSteps => Reply::UndoSteps(self.undo_steps()),
            Command::AcceptPeer(host) => self.accept_peer(&host),
            // Files are read and receivers told elsewhere, and what is read comes as `Input::Reload`; of `why` only
            // the beginning is ours, and pages of a list are answered once they are in force.
            Command::Reload { .. }
            | Command::ReloadRemoved
            | Command::ReloadPreview
            | Command::Keep
            | Command::Notify(_)
            | Command::Why(_)
            | Command::Change(_)
            | Command::Undo { .. }
            | Command::TakeOver { .. } => {
                Reply::Refused { error: "internal error: this command is answered elsewhere".to_owned() }
            }
        }
    }

    /// What we know of `who`, for somebody to find out the rest.
    fn partial_why(&mut self, who: Offender) -> PartialWhy {
        let now = now();
        let HealthState { enforcement, ledger, waiting, .. } = self.health.read();
        let Self { engine, allowances, loaded, .. } = self;
        let say = |by: &Exemption| allowances.say(*by, loaded.config.detection.protect_logins);
        let mut why = Why::new(who, &engine.detector().account(who, now), say, &waiting, now);
        why.geoip.clone_from(&loaded.config.geoip);
        PartialWhy {
            why,
            config: self.loaded.config.clone(),
            grammars: Arc::clone(self.engine.grammars()),
            is_enforced: enforcement.mode != "none",
            ledger: ledger.path,
        }
    }

    /// Why a jail of this name can have no ban, if it cannot: no jail that is on, or has a ban in force, is called so.
    pub(super) fn unknown_jail(&mut self, name: &str) -> Option<String> {
        let detector = &*self.engine.detector();
        let theirs = self.fleet.as_ref().map(FleetDesk::jails).unwrap_or_default();
        let ours = || detector.jails().map(|(jail, _)| &*jail.name);
        let known = || ours().chain([MANUAL, LIST, WIDE]).chain(theirs.iter().map(|jail| &**jail));
        if known().any(|jail| jail == name) || detector.bans().any(|ban| *ban.jail == *name) {
            return None;
        }
        let mut gone: Vec<&str> = detector.bans().map(|ban| &*ban.jail).collect();
        gone.dedup();
        let hint = nearest(name, "jails", known().chain(gone));
        Some(format!("unknown jail `{name}`; {hint}"))
    }

    /// The bans in force, or some of them.
    fn bans(&mut self, filter: &BanFilter) -> BanListing {
        let (now, detector) = (now(), self.engine.detector());
        let list = match (filter.address, filter.inside) {
            (Some(address), _) => filter.list(detector.bans_around(address), now),
            (None, Some(wide)) => filter.list(detector.bans_inside(wide), now),
            (None, None) => filter.list(detector.bans(), now),
        };
        BanListing { geoip: self.loaded.config.geoip.clone(), waiting: self.health.read().waiting, ..list }
    }

    fn status(&mut self) -> Status {
        let HealthState {
            mut sources, enforcement, mut ledger, ledger_size: size, receivers, metrics, ..
        } = self.health.read();
        (ledger.bytes, ledger.offences, ledger.bans) = (size.bytes, size.offences, size.bans);
        ledger.waiting = self.ledger.waiting();
        let sole_client = |(grammar, address): (&Grammar, IpAddr)| SoleClient {
            grammar: grammar.name().to_owned(),
            address: address.to_string(),
        };
        let (now, unmatched, fleet) = (now(), UnmatchedStatus::all(&self.engine), self.fleet_status());
        let sole_clients = self.engine.sole_clients().map(sole_client).collect();
        let stats = self.stats.lock();
        for source in &mut sources {
            if let Some(read) = stats.sources.get(source.name.as_str()) {
                (source.entries, source.unattested) = (read.entries, read.unattested);
                source.silent = read.last.map(|(last, _)| now.since(last).as_micros() / 1_000_000);
                source.lag = read.last.map(|(_, lag)| lag.as_micros() / 1000);
            }
        }
        let detector = self.engine.detector();
        let mut banned: BTreeMap<&str, (u64, Mode)> = BTreeMap::new();
        for (terms, bans) in detector.terms() {
            banned.entry(&terms.jail).or_insert((0, terms.mode)).0 += bans as u64;
        }
        let mut jails: Vec<JailStatus> = detector
            .jails()
            .zip(detector.counts())
            .map(|((jail, tracked), counted)| JailStatus {
                name: jail.name.to_string(),
                mode: jail.mode,
                grammars: jail.watches.iter().map(|watch| watch.grammar.clone()).collect(),
                maxretry: jail.max_retry.get(),
                findtime: jail.find_time.as_secs_ceil(),
                bantime: jail.ban_time.map(Span::as_secs_ceil),
                tracked: tracked as u64,
                counted,
                banned: banned.get(&*jail.name).map_or(0, |(banned, _)| *banned),
                ..JailStatus::default()
            })
            .collect();
        // Those of operators and of prefixes, and those that are off and still ban somebody.
        for (name, (bans, mode)) in banned {
            if !jails.iter().any(|jail| jail.name == name) {
                jails.push(JailStatus { name: name.to_owned(), mode, banned: bans, ..JailStatus::default() });
            }
        }
        for jail in &mut jails {
            jail.offences = stats.counted.get(jail.name.as_str()).copied().unwrap_or_default();
            jail.bans = stats.bans().filter(|(name, _)| ***name == *jail.name).map(|(_, bans)| bans).sum();
        }
        let grammars: Vec<_> = stats
            .grammars
            .iter()
            .map(|(name, sums)| GrammarStatus {
                name: name.clone(),
                entries: sums.entries(),
                silent: sums.last.map(|last| now.since(last).as_micros() / 1_000_000),
                offences: sums.offences.values().sum(),
                logins: sums.logins,
            })
            .filter(|sums| sums.entries > 0)
            .collect();
        let mut exempt = ExemptStatus::default();
        for (_, list) in detector.exemptions() {
            *match list {
                ExemptionList::Ignored => &mut exempt.ignored,
                ExemptionList::Allowed => &mut exempt.allowed,
                ExemptionList::Own | ExemptionList::Gateway => &mut exempt.own,
                ExemptionList::Proxy => &mut exempt.proxies,
            } += 1;
        }
        let protects = self.loaded.config.detection.protect_logins;
        exempt.logins = detector.logins().filter(|login| login.at + protects > now).count() as u64;
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.started.to_string(),
            uptime: now.since(self.started).as_micros() / 1_000_000,
            entries: stats.sources.values().map(|read| read.entries).sum(),
            offences: grammars.iter().map(|grammar| grammar.offences).sum(),
            refused: stats.grammars.values().map(|sums| sums.refused).sum(),
            messages: stats.messages,
            bans: stats.bans().map(|(_, bans)| bans).sum(),
            banned: detector.banned() as u64,
            observed: detector.observed() as u64,
            grammars,
            jails,
            exempt,
            sources,
            forged: stats
                .forged()
                .map(|(grammar, uid, lines)| ForgedStatus { grammar: grammar.to_owned(), uid, lines })
                .collect(),
            unmatched,
            sole_clients,
            duplicates: self.duplicates.status(),
            enforcement,
            ledger,
            metrics_error: metrics,
            receivers,
            geoip: self.loaded.config.geoip.clone(),
            config: self.loaded.files.paths().map(absolute).collect(),
            fleet,
        }
    }

    fn write_allowance(&mut self, offender: Offender, allowance: Option<Allowance>) {
        self.write(LedgerUpdate { allowances: vec![(offender, allowance)], ..LedgerUpdate::default() }, None);
    }

    /// Ends those whose time is over.
    fn end_allowances(&mut self) {
        let ended = self.allowances.end(now());
        if ended.is_empty() {
            return;
        }
        for offender in ended {
            log::info!(address:% = offender; "the exemption of {offender} has ended");
            self.write_allowance(offender, None);
        }
        let decisions = self.settle();
        self.reviewed(decisions);
    }

    /// Adopts what the kernel held after the start and no ban explains, unless it has gone since.
    fn adopt(&mut self, held: Option<Vec<(Element, Timeout)>>, mut firewall: Box<dyn Firewall>) {
        let lifted = self.lifted.take().unwrap_or_default();
        let Some(held) = held else { return };
        let mut unknown = adoption::unknown(&mut self.engine, held, lifted);
        unknown.retain(|(element, _)| firewall.holds(element).unwrap_or(true));
        adoption::adopt(&mut self.engine, unknown, &mut self.ledger);
        // What the last daemon made may have other settings, and hold what nobody could adopt.
        self.sync(true);
    }

    /// Tells the enforcer all bans in force.
    pub(super) fn sync_all(&mut self) {
        self.sync(false);
    }

    fn sync(&mut self, alone: bool) {
        self.order(Order::Restart);
        self.resync = Some(0);
        while self.resync.is_some() {
            self.sync_slice(alone);
        }
    }

    /// Tells the enforcer some more of them.
    fn sync_slice(&mut self, alone: bool) {
        let Some(at) = self.resync else { return };
        let (bans, next) = self.engine.detector().enforced_from(at, SLICE);
        self.order(Order::Restate(bans));
        self.resync = next;
        if next.is_none() {
            self.synced = Instant::now();
            self.order(Order::Restarted(alone));
        }
    }

    /// Looks whether the clock went on as time did. Where it stepped back, so does all that is dated: what is in force
    /// ends after as long as it was to last.
    fn watch_clock(&mut self) {
        match self.steps.look(now(), Instant::now()) {
            None => return,
            Some(ClockStep::Forward(by)) => {
                log::warn!("the clock jumped forward by {by}, or the machine slept")
            }
            Some(ClockStep::Back(by)) => {
                log::warn!("the clock jumped back by {by}; bans, logins and counts are moved back too");
                self.engine.detector().shift_back(by);
                self.allowances.shift_back(by);
                self.undo.shift_back(by);
                self.sync_all();
                self.ledger.want_whole();
            }
        }
        self.metrics.counter("banstream_clock_jumps_total", &[]).increment(1);
    }

    fn tick(&mut self, waiting: usize) {
        self.ticked = Instant::now();
        self.logged = 0;
        self.log_rest();
        if self.resync.is_none() && self.synced.elapsed() >= FULL_SYNC {
            self.order(Order::Restart);
            self.resync = Some(0);
        }
        self.sync_slice(false);
        let ended = self.engine.detector().expire(now());
        self.ended(ended);
        self.end_allowances();
        if self.ledger.lose_patience(self.ticked) {
            let error = "the disk does not respond; recent bans and counts are in memory only";
            self.health.ledger(|status| status.error = Some(error.to_owned()));
            log::error!("ledger: {error}");
        }
        if self.ledger.wants_whole() {
            let update = self.whole();
            self.write(update, None);
        }
        self.metrics.gauge("banstream_inbox_depth", &[]).set(waiting as f64);
        self.metrics.gauge("banstream_ledger_waiting_bytes", &[]).set(self.ledger.waiting() as f64);
        self.show_active();
        self.show_fleet();
        self.tell_systemd();
        let detector = self.engine.detector();
        for (jail, tracked) in detector.jails() {
            self.metrics.gauge("banstream_offenders_tracked", &[("jail", &jail.name)]).set(tracked as f64);
            let labels = [("jail", &*jail.name), ("kind", "auto"), ("mode", jail.mode.name())];
            self.metrics.counter("banstream_bans_total", &labels).increment(0);
            self.metrics.counter("banstream_bans_ineffective_total", &[("jail", &jail.name)]).increment(0);
        }
        self.metrics.dropped("log_queue_full", logging::take_lost());
        // That this is sent from here says that decisions are still made.
        let _ = sd_notify::notify(&[NotifyState::Watchdog]);
    }
}

/// That this ban has ended, and who still bans its offender.
fn unbanned(detector: &Detector, ban: &Ban, ended: &'static str) -> Event {
    let others = detector.bans_on(ban.offender).filter(|other| other.mode == Mode::Enforce);
    Event::Unbanned {
        ban: ban.clone(),
        ended,
        others: others.filter(|other| other.jail != ban.jail).map(|other| Arc::clone(&other.jail)).collect(),
    }
}

/// What lines from the socket are worth of which nobody knows who wrote them.
fn unattested(loaded: &Loaded) -> Unattested {
    loaded.config.socket.as_ref().map_or(Unattested::Accept, |socket| socket.unattested)
}

/// A path as other processes understand it.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// The detector's settings: the configuration, and the exemptions of this host and by hand.
pub(super) fn settings(loaded: &Loaded, host: &HostAddresses, allowances: &Allowances) -> Settings {
    let mut settings = loaded.settings();
    settings.ignore.extend(host.members());
    settings.ignore.extend(allowances.members());
    settings
}

fn log_decision(decision: &Decision, wide: &[&Ban], is_new: impl Fn(&Ban) -> bool) {
    let ban = decision.ban();
    let (who, jail, times) = (ban.offender, &ban.jail, ban.times);
    match decision {
        Decision::Ban(ban) if !is_new(ban) => {
            let text = Event::Restored(ban.clone()).line();
            match ban.mode {
                Mode::Enforce => {
                    log::info!(message_id = logging::BANNED, address:% = who, jail:% = jail, times; "{text}")
                }
                Mode::Observe => log::info!(address:% = who, jail:% = jail, times; "{text}"),
            }
        }
        Decision::Ban(_) if ban.mode == Mode::Enforce => {
            log::info!(message_id = logging::BANNED, address:% = who, jail:% = jail, times; "{ban}")
        }
        Decision::Ban(_) => log::info!(address:% = who, jail:% = jail, times; "{ban}"),
        Decision::Unban(_) => match ban.widened(wide) {
            Some(Ban { offender: wide, .. }) => {
                log::info!(address:% = who; "the ban on {who} ({jail}) is replaced by one on {wide}")
            }
            None if ban.mode == Mode::Observe => {
                log::info!(address:% = who, jail:% = jail; "the observed ban on {who} ({jail}) is lifted")
            }
            None => {
                log::info!(message_id = logging::UNBANNED, address:% = who, jail:% = jail; "unbanned {who} ({jail})")
            }
        },
    }
}
