//! The daemon: its tasks, how they are connected, and how they end.
//!
//! Sources put batches into one inbox. The hub empties it and decides; it is the only writer of state. On its thread the
//! ingest socket is read, too, and a few bans go to the kernel: to wake a thread takes longer than either. The enforcer
//! updates the kernel, the watcher checks it, the ledger writer writes the ledger, and a task for each receiver sends
//! notifications. Every queue between them is bounded.
//!
//! ```text
//!     journald thread ─┐                  ┌─> enforcer thread ─> kernel <─ watcher thread
//!     ingest tasks ────┼─> inbox ─> hub ──┤
//!     stdin thread ────┤                  └─> ledger writer ──────> ledger
//!     control tasks ───┤
//!     host addresses ──┘                        (news of all) ─> notify tasks ─> receivers
//! ```
//!
//! Shutdown follows the data: sources stop, `Stop` is the last input, the hub drops its senders, and the readers finish
//! what is left.

pub mod metrics;
pub mod notify;
mod adoption;
mod allowances;
mod ledger_writer;
mod set_lock;
mod clients;
mod duplicates;
mod enforcer;
mod firewalls;
mod fleet;
mod health;
mod hub;
mod inbox;
mod why;
mod logging;
mod stats;
mod watcher;
mod notifier;
mod reload;
mod clock;
mod sources;
mod host_addresses;
mod take_over;
mod review;
mod undo;
mod changes;
mod confirm;
mod take_back;

use std::collections::HashSet;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc as threads};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use caps::{CapSet, Capability};
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use crate::config::load::{self, LoadError, Loaded};
use crate::config::{Backend, Config, Enforce};
use crate::control::server::{self, Daemon};
use crate::control::{Command, Reply, SourceState, SourceStatus};
use crate::daemon::metrics::Metrics;
use crate::detect::Settings;
use crate::engine::Engine;
use crate::entry::Decoder;
use crate::fleet::outbox::NoticeOutbox;
use crate::input::{
    self,
    socket::{self, SocketFile},
};
use crate::kernel::{self, Displaced, Firewall, Ipset, Layout};
use crate::model::{Timestamp, count};
use crate::store::{self, SavedState};
pub use adoption::ADOPTED;
use allowances::Allowances;
use clients::Clients;
use clock::ClockWatch;
use duplicates::Duplicates;
use enforcer::{Enforcer, Reporter, SharedEnforcer};
use firewalls::Firewalls;
use fleet::{FleetDesk, FleetLink};
use health::{Component, Health, HealthState};
use host_addresses::HostAddresses;
use hub::{Hub, settings};
use inbox::Input;
use ledger_writer::{LONG_STOP, LedgerQueue, LedgerWriter, SHORT_STOP};
use notifier::Notifier;
use reload::Reloader;
use set_lock::SetLock;
use sources::Sources;
use stats::SharedStats;
pub use take_over::{BansTarget, exemptions, send, take_over};
use undo::UndoLog;
use watcher::Watcher;

/// How to run.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The configuration; the usual place if `None`.
    pub config: Option<PathBuf>,
    /// Only observe, whatever the configuration says, and leave no trace.
    pub dry_run: bool,
    /// Read lines from standard input as well.
    pub stdin: bool,
}

impl RunOptions {
    /// What is in force, as far as it is sound.
    fn load(&self) -> Result<Loaded, LoadError> {
        let mut loaded = load::load(self.config.as_deref())?;
        if self.dry_run {
            loaded.config.observe();
            return Ok(loaded);
        }
        loaded.to_run()
    }
}

/// Batches and commands that wait to be handled; senders of more wait.
const INBOX: usize = 64;
/// Orders that wait to be carried out.
const ORDERS: usize = 1024;
/// Bans that are restored before the memory they were read into is given back.
const AT_ONCE: usize = 65_536;
/// The file in the state directory that is there while the ledger may lack something. Where a start finds it, the last
/// daemon did not come to its end, or could not write all it had to.
const RUNNING: &str = "running";

/// How soon to try again to listen at the address of the metrics.
const METRICS_RETRY: Duration = Duration::from_secs(2);

/// Runs the daemon until SIGTERM or SIGINT.
///
/// # Errors
///
/// It cannot begin: the configuration is wrong, the kernel refuses, or another daemon has the control socket or the
/// set.
/// Nothing that happens later ends it.
pub fn run(options: &RunOptions) -> anyhow::Result<()> {
    let metrics = Metrics::default();
    // They take a while, which nothing else is to wait for.
    let (of_all, started) = (metrics.clone(), now().as_secs());
    spawn("metrics", move || of_all.gauge("banstream_start_time_seconds", &[]).set(started as f64))?;
    let loaded = options.load()?;
    std::thread::Builder::new().name("log".to_owned()).spawn(logging::start(log::LevelFilter::Info))?;
    loaded.warnings.iter().for_each(|warning| logging::lines(log::Level::Warn, warning));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let ended = runtime.block_on(serve(options, loaded, metrics));
    // A task that is stuck (a client that dawdles, a read from stdin) holds up nobody.
    runtime.shutdown_timeout(Duration::from_millis(100));
    ended
}

/// Creates the sets that the configuration names, empty, where they are missing; those of the default one if it is wrong.
///
/// # Errors
///
/// The configuration is wrong, or the kernel refuses.
pub fn prepare_sets(config: Option<&Path>) -> anyhow::Result<()> {
    let (enforce, fault) = match load::load(config) {
        Ok(loaded) => (loaded.config.enforce, None),
        // The host's firewall may need the sets none the less.
        Err(fault) => (Some(Enforce::default()), Some(fault)),
    };
    let enforce =
        enforce.filter(|enforce| kernel::choose(enforce).is_ok_and(|(backend, _)| backend == Backend::Ipset));
    let prepared = enforce.map(|enforce| Ipset::open(enforce)?.prepare_sets()).transpose()?;
    if let Some(fault) = fault {
        return Err(fault.into());
    }
    let refused = prepared.and_then(|prepared| prepared.faults.into_iter().next());
    refused.map_or(Ok(()), |refused| Err(refused.into()))
}

/// Takes all that enforces bans out of the kernel, of both backends, and says what that was.
///
/// # Errors
///
/// A daemon has the set, the kernel refuses, or the configuration is wrong; then it goes by what is sound.
pub fn disable(config: Option<&Path>, mut output: impl Write) -> anyhow::Result<()> {
    let (config, fault) = match load::load(config) {
        Ok(loaded) => (loaded.config, None),
        Err(fault) => (load::sound_part(config)?.0, Some(fault)),
    };
    let enforce = config.enforcement;
    // Without it the kernel does not even say what there is.
    let may = caps::has_cap(None, CapSet::Effective, Capability::CAP_NET_ADMIN)?;
    anyhow::ensure!(may, "it takes root or CAP_NET_ADMIN");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let claim = runtime.block_on(SetLock::take(&enforce.set))?;
    // What one backend refuses does not keep the other's.
    let withdrawn = [firewalls::withdraw_ipset(&enforce), Firewalls::default().withdraw_nftables(&enforce)];
    drop(claim);
    let mut refused = None;
    let mut is_there = false;
    for withdrawn in withdrawn {
        match withdrawn {
            Ok(None) => continue,
            Ok(Some(what)) => writeln!(output, "removed {what}")?,
            Err(error) => refused = Some(error),
        }
        is_there = true;
    }
    if !is_there {
        writeln!(output, "nothing of `{}` is in the kernel", enforce.set)?;
    }
    match (refused, fault) {
        (Some(refused), _) => Err(refused.into()),
        (None, Some(fault)) => Err(fault.into()),
        (None, None) => Ok(()),
    }
}

async fn serve(options: &RunOptions, loaded: Loaded, metrics: Metrics) -> anyhow::Result<()> {
    // Before anybody is told that we run, and sends one.
    let (mut hang_up, mut terminate, mut interrupt) =
        (signal(SignalKind::hangup())?, signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let RunningDaemon { mut reloader, mut requests, tasks, servers, control, restored } =
        start(options, loaded, metrics).await?;
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    log::info!("banstream {} is ready", env!("CARGO_PKG_VERSION"));
    log::info!("{}", at_work(&reloader.loaded.config, &reloader.health.read(), restored));
    let mut second = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hang_up.recv() => drop(reloader.reload(None).await),
            Some((command, reply)) = requests.recv() => match command {
                Command::Notify(receiver) => reloader.notifier.test(&receiver, reply),
                command => drop(reply.send(reloader.carry_out(&command).await)),
            },
            () = reloader.overdue() => reloader.go_back().await,
            _ = second.tick() => {
                reloader.metrics.upkeep();
                // A hub that is behind has its next tick soon enough.
                let _ = reloader.inbox.try_send(Input::Tick);
            }
        }
    }
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    let stay = if reloader.loaded.config.enforce.is_some() { "; bans stay in force" } else { "" };
    log::info!("stopping{stay}");
    // Before its socket is closed: then the path is the next daemon's.
    control.remove();
    servers.iter().for_each(tokio::task::JoinHandle::abort);
    stop(reloader, tasks).await
}

/// The daemon at work.
struct RunningDaemon {
    reloader: Reloader,
    /// Commands that are not for the hub.
    requests: mpsc::Receiver<(Command, oneshot::Sender<Reply>)>,
    /// The threads that end when the hub does, and the hub.
    tasks: Vec<JoinHandle<()>>,
    /// What serves the control socket and the metrics.
    servers: Vec<tokio::task::JoinHandle<()>>,
    control: SocketFile,
    /// Bans that were in force before.
    restored: usize,
}

/// What the daemon does, for people.
fn at_work(config: &Config, health: &HealthState, restored: usize) -> String {
    let place = |source: &SourceStatus| match &config.socket {
        Some(ingest) if source.name == "socket" => ingest.socket.path.display().to_string(),
        _ => source.name.clone(),
    };
    let named = |state| {
        let sources = health.sources.iter().filter(|source| source.state == state).map(place);
        sources.collect::<Vec<_>>().join(" and ")
    };
    let mut sources = named(SourceState::Running);
    if sources.is_empty() {
        sources += "no source";
    }
    let failed = named(SourceState::Failed);
    if !failed.is_empty() {
        sources += &format!(" (it cannot read {failed})");
    }
    let jails = count(config.detection.jails.len() as u64, "jail");
    let enforced = if config.enforce.is_some() { "enforced" } else { "only observed" };
    let metrics = config.metrics.filter(|_| health.metrics.is_none());
    let metrics = metrics.map_or(String::new(), |address| format!("; metrics at http://{address}/metrics"));
    let restored = count(restored as u64, "ban");
    let receivers: Vec<&str> = config.receivers.iter().map(|receiver| &*receiver.name).collect();
    let receivers =
        if receivers.is_empty() { String::new() } else { format!("; notifies {}", receivers.join(", ")) };
    format!("reads {sources} for {jails}; bans are {enforced}; {restored} restored{receivers}{metrics}")
}

/// Starts all tasks; when it returns, all bans are in force and the sources are read.
async fn start(options: &RunOptions, mut loaded: Loaded, metrics: Metrics) -> anyhow::Result<RunningDaemon> {
    let mut opener = Firewalls::default();
    let chosen = Firewalls::choose(&mut loaded.config)?;
    let config = loaded.config.clone();
    let control = socket::bind(&config.control.path, config.control.group.as_deref())?;
    let control_file = SocketFile::of(&config.control.path);
    let (claim, mut firewall) = open_kernel(config.enforce.as_ref(), &mut opener).await?;
    chosen.into_iter().for_each(|chosen| log::info!("{chosen}"));
    let health = Health::new(mode(config.enforce.as_ref()));
    let notifier = Notifier::start(&config.receivers, &metrics, &health);
    let (inbox, inputs) = mpsc::channel(INBOX);
    let (orders, ordered) = threads::sync_channel(ORDERS);
    let (firewalls, renewed) = mpsc::unbounded_channel();
    let (files, renewed_files) = threads::channel();
    let mut tasks = Vec::new();

    // Both take some 8 ms, mostly in other programs and on the disk.
    let (prepared, (writer, mut ledger, mut memory)) = std::thread::scope(|scope| {
        let prepared = scope.spawn(|| prepare_kernel(&mut *firewall));
        let opened = open_ledger(options, &loaded, &metrics, &health);
        (prepared.join(), opened)
    });
    prepared.map_err(|_| anyhow::anyhow!("the kernel thread has failed"))??;
    let is_incomplete = begin_ledger(options, &loaded, writer, &mut tasks)?;
    if memory.redate(now()) {
        log::warn!("the ledger has times in the future: the clock was ahead, or is behind now");
        ledger.want_whole();
    }
    let host = HostAddresses::look(&HostAddresses::default());
    let allowances = Allowances::new(std::mem::take(&mut memory.allowances));
    let mut engine = restore(&loaded, settings(&loaded, &host, &allowances), &mut memory);
    let mut unlisted = None;
    if is_incomplete || engine.detector().banned() == 0 {
        match firewall.layout() {
            Layout::AnyLength => match firewall.list() {
                Ok(listing) => {
                    let unknown = adoption::unknown(&mut engine, listing.elements, HashSet::new());
                    adoption::adopt(&mut engine, unknown, &mut ledger);
                }
                Err(error) => log::error!("cannot list the kernel's sets: {error}"),
            },
            // It may take a minute, and what is known is not to wait for it.
            Layout::ByLength => unlisted = Some(firewall.another()?),
        }
    }

    // Bans are in force before we report that we run, and before anything is read.
    let reporter = |component| Reporter::new(&metrics, &health, notifier.events(), component);
    let watching = firewall.another()?;
    let mut enforcer = Enforcer::new(firewall, reporter(Component::Enforcer));
    enforcer.begin(engine.detector(), unlisted.is_some());
    if enforcer.is_in_force() {
        opener.withdraw_other(config.enforce.as_ref());
    }
    let lifted = unlisted.is_some().then(HashSet::new);
    if let Some(firewall) = unlisted {
        let inbox = inbox.clone();
        // No stop waits for it.
        drop(spawn("adoption", move || adoption::list(firewall, &inbox))?);
    }
    let enforcer = SharedEnforcer::new(enforcer);
    let orders = enforcer.sender(orders);
    tasks.push(spawn("enforcer", move || enforcer.run(&ordered))?);
    let watcher = Watcher::new(watching, reporter(Component::Watcher));
    let runtime = tokio::runtime::Handle::current();
    tasks.push(spawn("watcher", move || watcher.run(renewed, &runtime))?);
    tasks.push({
        let (host, files, inbox) = (host.clone(), loaded.allow_files.clone(), inbox.clone());
        // The hub is gone only where the daemon ends.
        let tell = move |host, files| drop(inbox.blocking_send(Input::HostChanged(host, files)));
        spawn("host-addresses", move || host_addresses::watch(host, files, tell, &renewed_files))?
    });
    let restored = engine.detector().banned();
    let stats = SharedStats::default();
    stats.lock().expect(engine.grammars());
    let started = now();
    let outbox = NoticeOutbox::default();
    let hub = Hub {
        engine,
        metrics: metrics.clone(),
        stats: stats.clone(),
        health: health.clone(),
        events: notifier.events(),
        orders: orders.clone(),
        ledger,
        clients: Clients::new(memory.clients),
        duplicates: Duplicates::default(),
        positions: memory.positions.clone(),
        started,
        loaded: loaded.clone(),
        host,
        allowances,
        undo: UndoLog::new(memory.undo),
        ticked: Instant::now(),
        steps: ClockWatch::new(started, Instant::now()),
        synced: Instant::now(),
        resync: None,
        logged: 0,
        unlogged: 0,
        told: String::new(),
        lifted,
        runtime: tokio::runtime::Handle::current(),
        fleet: config.fleet.as_ref().map(|fleet| FleetDesk::new(fleet, &memory.positions)),
        outbox: outbox.clone(),
    };
    hub.tell_addresses();
    // It reads the ingest socket itself: to be woken for each line takes longer than to decide.
    let own = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let lines = own.handle().clone();
    tasks.push(spawn("hub", move || own.block_on(hub.run(inputs)))?);

    let mut sources = Sources::new(
        inbox.clone(),
        lines,
        health.clone(),
        memory.positions,
        memory.starts,
        // What is only tried leaves no trace.
        !options.dry_run,
    );
    sources.start(&loaded)?;
    if options.stdin {
        sources.read_stdin()?;
    }
    let (reloads, requests) = mpsc::channel(4);
    let daemon = Daemon {
        ask: asker(inbox.clone(), reloads),
        metrics: Arc::new({
            let (metrics, health) = (metrics.clone(), health.clone());
            move || {
                health.export(&metrics);
                stats.lock().export(&metrics);
                metrics.render()
            }
        }),
    };
    let mut link = FleetLink::new(outbox, inbox.clone());
    link.restart(config.fleet.as_ref());
    let mut servers = vec![tokio::spawn(server::serve(control, server::routes(daemon.clone())))];
    if let Some(address) = config.metrics {
        servers.push(serve_metrics(address, daemon, health.clone()).await);
    }
    let reloader = Reloader {
        options: options.clone(),
        inbox,
        orders,
        firewalls,
        files,
        loaded,
        sources,
        notifier,
        health,
        metrics,
        opener,
        unconfirmed: None,
        rolled_back: None,
        claim,
        link,
    };
    Ok(RunningDaemon { reloader, requests, tasks, servers, control: control_file, restored })
}

/// Takes the set for this daemon alone, before anything is written to the kernel.
async fn open_kernel(
    enforce: Option<&Enforce>,
    opener: &mut Firewalls,
) -> anyhow::Result<(Option<SetLock>, Box<dyn Firewall>)> {
    let claim = match enforce {
        Some(enforce) => SetLock::take(&enforce.set).await?,
        None => None,
    };
    Ok((claim, opener.open(enforce)?))
}

/// Prepares sets and rule.
fn prepare_kernel(firewall: &mut dyn Firewall) -> anyhow::Result<()> {
    let prepared = firewall.prepare(Displaced::Move);
    let prepared = prepared.context("no ban can be enforced (`mode = \"observe\"` only decides and logs)")?;
    prepared.faults.iter().for_each(|fault| log::error!("{fault}"));
    Ok(())
}

/// Opens the ledger; its writer, and what it remembers.
fn open_ledger(
    options: &RunOptions,
    loaded: &Loaded,
    metrics: &Metrics,
    health: &Health,
) -> (LedgerWriter, LedgerQueue, SavedState) {
    // What is only tried leaves no trace.
    let place = (!options.dry_run).then(|| (loaded.config.state_directory.clone(), loaded.config.ledger));
    let backend = loaded.config.enforce.as_ref().map(|enforce| enforce.backend);
    // nftables takes minutes to list many elements, and what is only observed is nowhere else.
    let stop = if backend == Some(Backend::Ipset) { SHORT_STOP } else { LONG_STOP };
    LedgerWriter::start(place, stop, &loaded.grammars, metrics, health)
}

/// Starts the ledger's writer; whether the ledger may lack something.
fn begin_ledger(
    options: &RunOptions,
    loaded: &Loaded,
    writer: LedgerWriter,
    tasks: &mut Vec<JoinHandle<()>>,
) -> anyhow::Result<bool> {
    let running = loaded.config.state_directory.join(RUNNING);
    let is_incomplete = running.exists();
    if !options.dry_run {
        drop(store::private(&running));
    }
    tasks.push(spawn("ledger-writer", move || {
        if writer.run() {
            drop(std::fs::remove_file(&running));
        }
    })?);
    Ok(is_incomplete)
}

/// An engine with the bans, counts and logins of before.
fn restore(loaded: &Loaded, settings: Settings, memory: &mut SavedState) -> Engine<'static> {
    let decoder = Decoder::new(input::zone());
    let mut engine = Engine::new(settings, Arc::clone(&loaded.grammars), decoder);
    let (detector, now) = (engine.detector(), now());
    // From the end, which can be given back meanwhile: there may be a million.
    let mut bans = std::mem::take(&mut memory.bans);
    bans.reverse();
    detector.reserve(bans.len());
    while let Some(ban) = bans.pop() {
        detector.restore(ban, now);
        if bans.len().is_multiple_of(AT_ONCE) {
            bans.shrink_to_fit();
        }
    }
    std::mem::take(&mut memory.traces).into_iter().for_each(|trace| detector.recall(&trace));
    std::mem::take(&mut memory.logins).into_iter().for_each(|login| detector.restore_login(login));
    engine
}

/// Stops the sources, then the hub, and so the tasks behind it, in the order in which data flows.
async fn stop(reloader: Reloader, tasks: Vec<JoinHandle<()>>) -> anyhow::Result<()> {
    let Reloader { mut sources, notifier, orders, firewalls, files, claim, inbox, .. } = reloader;
    sources.stop().await;
    // The enforcer ends when the last who can give it orders is gone, and that is to be the hub.
    drop((orders, firewalls, files));
    inbox.send(Input::Stop).await?;
    for task in tasks {
        let name = task.thread().name().unwrap_or_default().to_owned();
        if task.join().is_err() {
            log::error!("the {name} thread has failed");
        }
    }
    // What is in the kernel is now for the next one.
    drop(claim);
    notifier.end().await;
    Ok(())
}

/// Serves metrics at an address, from its return on if the address is free. If it is not, banning goes on, and it is tried
/// again.
async fn serve_metrics(address: SocketAddr, daemon: Daemon, health: Health) -> tokio::task::JoinHandle<()> {
    let mut bound = TcpListener::bind(address).await;
    if let Err(error) = &bound {
        log::error!("cannot serve metrics at `{address}`: {error}; trying again every {METRICS_RETRY:?}");
        health.metrics(Some(format!("cannot listen at `{address}`: {error}")));
    }
    tokio::spawn(async move {
        let listener = loop {
            match bound {
                Ok(listener) => break listener,
                Err(_) => tokio::time::sleep(METRICS_RETRY).await,
            }
            bound = TcpListener::bind(address).await;
            if bound.is_ok() {
                log::info!("metrics at http://{address}/metrics");
                health.metrics(None);
            }
        };
        server::serve(listener, server::metrics_route(daemon)).await;
    })
}

/// Now, by the system's clock.
pub fn now() -> Timestamp {
    Timestamp::from_micros(jiff::Timestamp::now().as_microsecond())
}

fn spawn<T: Send + 'static>(
    name: &str,
    task: impl FnOnce() -> T + Send + 'static,
) -> anyhow::Result<JoinHandle<T>> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(task)
        .with_context(|| format!("cannot start the {name}"))
}

/// What `status` calls the way bans are enforced, and the backend.
fn mode(enforce: Option<&Enforce>) -> (String, Option<String>) {
    let mode = if enforce.is_some() { "kernel" } else { "none" };
    (mode.to_owned(), enforce.map(|enforce| enforce.backend.name().to_owned()))
}

/// Passes commands to the hub, and those about the configuration and receivers to the task that reads files.
fn asker(
    inbox: mpsc::Sender<Input>,
    reloads: mpsc::Sender<(Command, oneshot::Sender<Reply>)>,
) -> Arc<dyn Fn(Command) -> oneshot::Receiver<Reply> + Send + Sync> {
    Arc::new(move |command| {
        let (reply, replied) = oneshot::channel();
        let (inbox, reloads) = (inbox.clone(), reloads.clone());
        // Where nobody takes it any more, the sender is dropped, and the client told that we stop.
        tokio::spawn(async move {
            match command {
                Command::Reload { .. }
                | Command::ReloadRemoved
                | Command::ReloadPreview
                | Command::Keep
                | Command::Notify(_) => drop(reloads.send((command, reply)).await),
                command => drop(inbox.send(Input::Command(command, reply)).await),
            }
        });
        replied
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_what_is_read_and_served_is_announced() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = format!("state-directory = '/x'\nsocket.path = '/s'\nmetrics.listen = '{address}'\n");
        std::fs::write(file.path(), text).unwrap();
        let config = load::load(Some(file.path())).unwrap().config;
        let health = Health::new((String::new(), None));
        let said = || at_work(&config, &health.read(), 0);
        let metrics = format!("; metrics at http://{address}/metrics");
        assert!(said().starts_with("reads no source for ") && said().ends_with(&metrics), "{}", said());

        health.source("journald", Some("x".to_owned()));
        health.source("socket", None);
        let daemon =
            Daemon { ask: Arc::new(|_| oneshot::channel().1), metrics: Arc::new(|| "x 1\n".to_owned()) };
        let server = serve_metrics(address, daemon, health.clone()).await;
        assert!(said().starts_with("reads /s (it cannot read journald) for "), "{}", said());
        assert!(!said().contains("metrics"), "{}", said());
        drop(taken);
        while health.read().metrics.is_some() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(said().ends_with(&metrics), "{}", said());
        tokio::net::TcpStream::connect(address).await.unwrap();
        server.abort();
    }
}
