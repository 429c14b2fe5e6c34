//! The daemon: its tasks, how they are connected, and how they end.
//!
//! Sources put batches into one inbox. The hub empties it and decides; it is the only writer of state. The enforcer
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
mod allowances;
mod ledger_writer;
mod set_lock;
mod clients;
mod enforcer;
mod health;
mod hub;
mod inbox;
mod why;
mod logging;
mod stats;
mod notifier;
mod reload;
mod clock;
mod sources;
mod host_addresses;

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, mpsc as threads};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use crate::config::Enforce;
use crate::config::load::{self, LoadError, Loaded};
use crate::control::server::{self, Daemon};
use crate::control::{Command, Reply};
use crate::daemon::metrics::Metrics;
use crate::detect::manual;
use crate::engine::Engine;
use crate::entry::Decoder;
use crate::input::socket;
use crate::kernel::{Displaced, DryRun, Element, EnforceError, Firewall, Kernel, Timeout, elements};
use crate::model::{Ban, Decision, Offender, Span, Timestamp, count};
use crate::store::{self, LedgerUpdate};
use allowances::Allowances;
use clients::Clients;
use clock::ClockWatch;
use enforcer::{Enforcer, Reporter, Watcher};
use health::{Component, Health};
use host_addresses::HostAddresses;
use hub::{Hub, settings};
use inbox::Input;
use ledger_writer::{LedgerQueue, LedgerWriter};
use notifier::Notifier;
use reload::Reloader;
use set_lock::SetLock;
use sources::Sources;

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
        }
        Ok(loaded)
    }
}

/// Batches and commands that wait to be handled; senders of more wait.
const INBOX: usize = 64;
/// Orders that wait to be carried out.
const ORDERS: usize = 1024;
/// The file in the state directory that is there while the ledger may lack something. Where a start finds it, the last
/// daemon did not come to its end, or could not write all it had to.
const RUNNING: &str = "running";

/// Runs the daemon until SIGTERM or SIGINT.
///
/// # Errors
///
/// It cannot begin: the configuration is wrong, the kernel refuses, or another daemon has the control socket or the
/// set.
/// Nothing that happens later ends it.
pub fn run(options: &RunOptions) -> anyhow::Result<()> {
    let loaded = options.load()?;
    std::thread::Builder::new().name("log".to_owned()).spawn(logging::start(log::LevelFilter::Info))?;
    loaded.warnings.iter().for_each(|warning| logging::lines(log::Level::Warn, warning));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let ended = runtime.block_on(serve(options, loaded));
    // A task that is stuck (a client that dawdles, a read from stdin) holds up nobody.
    runtime.shutdown_timeout(Duration::from_millis(100));
    ended
}

async fn serve(options: &RunOptions, loaded: Loaded) -> anyhow::Result<()> {
    // Before anybody is told that we run, and sends one.
    let (mut hang_up, mut terminate, mut interrupt) =
        (signal(SignalKind::hangup())?, signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let metrics = Metrics::new()?;
    let config = loaded.config.clone();
    let control = socket::bind(&config.control.path, config.control.group.as_deref())?;
    // Before anything is written to the kernel.
    let claim = match &config.enforce {
        Some(enforce) => SetLock::take(&enforce.set).await?,
        None => None,
    };
    let make_firewall = || firewall(config.enforce.as_ref());
    let mut firewall = make_firewall()?;
    let prepared = firewall.prepare(Displaced::Move);
    let prepared = prepared.context("no ban can be enforced (`mode = \"observe\"` only decides and logs)")?;
    prepared.faults.iter().for_each(|fault| log::error!("{fault}"));
    let health = Health::new(mode(config.enforce.as_ref()));
    let notifier = Notifier::start(&config.receivers, &metrics, &health);
    let (inbox, inputs) = mpsc::channel(INBOX);
    let (orders, ordered) = threads::sync_channel(ORDERS);

    // What is only tried leaves no trace.
    let place = (!options.dry_run).then(|| (config.state_directory.clone(), config.ledger));
    let (ledger_writer, mut ledger, mut memory) =
        LedgerWriter::start(place, &loaded.grammars, &metrics, &health);
    let running = config.state_directory.join(RUNNING);
    let unclean = running.exists();
    if !options.dry_run {
        drop(store::private(&running));
    }
    let ledger_writer = spawn("ledger-writer", move || {
        if ledger_writer.run() {
            drop(std::fs::remove_file(&running));
        }
    })?;
    let host = HostAddresses::look(&HostAddresses::default());
    if memory.redate(now()) {
        log::warn!("the ledger has times in the future: the clock was ahead, or is behind now");
        ledger.want_whole();
    }
    let allowances = Allowances::new(memory.allowances);
    let decoder = Decoder::new(jiff::tz::TimeZone::system());
    let mut engine =
        Engine::new(settings(&loaded, &host, &allowances), Arc::clone(&loaded.grammars), decoder);
    memory.bans.into_iter().for_each(|ban| engine.detector().restore(ban, now()));
    memory.traces.iter().for_each(|trace| engine.detector().recall(trace));
    memory.logins.into_iter().for_each(|login| engine.detector().restore_login(login));
    if unclean || engine.detector().banned() == 0 {
        adopt(&mut engine, firewall.as_mut(), &mut ledger);
    }

    // Bans are in force before we report that we run, and before anything is read.
    let reporter = |component| Reporter::new(&metrics, &health, notifier.events(), component);
    let mut enforcer = Enforcer::new(firewall, reporter(Component::Enforcer));
    enforcer.begin(engine.detector().enforced());
    let enforcer = spawn("enforcer", move || enforcer.run(&ordered))?;
    let watcher = Watcher::new(make_firewall()?, reporter(Component::Watcher));
    let (firewalls, renewed) = threads::channel();
    let watcher = spawn("watcher", move || watcher.run(&renewed))?;

    metrics.stats().expect(engine.grammars());
    let started = now();
    let (files, renewed_files) = threads::channel();
    let host_watch = {
        let (host, files, inbox) = (host.clone(), loaded.allow_files.clone(), inbox.clone());
        // The hub is gone only where the daemon ends.
        let tell = move |host, files| drop(inbox.blocking_send(Input::HostChanged(host, files)));
        spawn("host-addresses", move || host_addresses::watch(host, files, tell, &renewed_files))?
    };
    let hub = Hub {
        engine,
        metrics: metrics.clone(),
        health: health.clone(),
        events: notifier.events(),
        orders: orders.clone(),
        ledger,
        clients: Clients::new(memory.clients),
        positions: memory.positions.clone(),
        started,
        loaded: loaded.clone(),
        host,
        allowances,
        ticked: Instant::now(),
        steps: ClockWatch::new(started, Instant::now()),
        synced: Instant::now(),
        runtime: tokio::runtime::Handle::current(),
    };
    let hub = spawn("hub", move || hub.run(inputs))?;

    let mut sources =
        Sources::new(inbox.clone(), health.clone(), metrics.clone(), memory.positions, memory.starts);
    sources.start(&loaded)?;
    if options.stdin {
        sources.read_stdin()?;
    }

    let mut reloader = Reloader {
        options: options.clone(),
        inbox: inbox.clone(),
        orders,
        firewalls,
        files,
        loaded,
        sources,
        notifier,
        health,
        metrics: metrics.clone(),
        unconfirmed: None,
        claim,
    };
    let (reloads, mut wanted) = mpsc::channel(4);
    let daemon = Daemon {
        ask: asker(inbox.clone(), reloads),
        metrics: Arc::new({
            let metrics = metrics.clone();
            move || metrics.render()
        }),
    };
    let commands = tokio::spawn(server::serve(control, server::routes(daemon.clone())));
    let scrapes = match config.metrics {
        Some(address) => serve_metrics(address, daemon).await,
        None => None,
    };
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    log::info!("banstream {} is ready", env!("CARGO_PKG_VERSION"));

    let mut second = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hang_up.recv() => drop(reloader.reload(None).await),
            Some((command, reply)) = wanted.recv() => match command {
                Command::Notify(receiver) => reloader.notifier.test(&receiver, reply),
                command => drop(reply.send(reloader.carry_out(&command).await)),
            },
            () = reloader.overdue() => reloader.go_back().await,
            _ = second.tick() => {
                metrics.upkeep();
                // A hub that is behind has its next tick soon enough.
                let _ = inbox.try_send(Input::Tick);
            }
        }
    }

    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    log::info!("stopping; bans stay in force");
    commands.abort();
    scrapes.inspect(tokio::task::JoinHandle::abort);
    let Reloader { mut sources, notifier, orders, firewalls, files, claim, .. } = reloader;
    sources.stop().await;
    // The enforcer ends when the last who can give it orders is gone, and that is to be the hub.
    drop((orders, firewalls, files));
    inbox.send(Input::Stop).await?;
    for (name, task) in [
        ("hub", hub),
        ("host-addresses", host_watch),
        ("enforcer", enforcer),
        ("watcher", watcher),
        ("ledger-writer", ledger_writer),
    ] {
        if task.join().is_err() {
            log::error!("the {name} thread has failed");
        }
    }
    // What is in the kernel is now for the next one.
    drop(claim);
    notifier.end().await;
    let _ = std::fs::remove_file(&config.control.path);
    Ok(())
}

/// Serves metrics at an address; if that fails, banning goes on.
async fn serve_metrics(address: SocketAddr, daemon: Daemon) -> Option<tokio::task::JoinHandle<()>> {
    match tokio::net::TcpListener::bind(address).await {
        Ok(listener) => Some(tokio::spawn(server::serve(listener, server::metrics_route(daemon)))),
        Err(error) => {
            log::error!("cannot serve metrics at `{address}`: {error}");
            None
        }
    }
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

/// What `status` calls the way bans are enforced.
fn mode(enforce: Option<&Enforce>) -> &'static str {
    if enforce.is_some() { "kernel" } else { "none" }
}

fn firewall(enforce: Option<&Enforce>) -> Result<Box<dyn Firewall>, EnforceError> {
    let Some(enforce) = enforce else { return Ok(Box::new(DryRun)) };
    Ok(Box::new(Kernel::open(enforce.clone())?))
}

/// Takes over the elements in the kernel that the ledger knows nothing of, in place of taking them out: after a crash
/// they may be the bans of its last moments. They look like bans of a jail of their own, and end when the kernel would
/// have ended them.
fn adopt(engine: &mut Engine<'_>, firewall: &mut dyn Firewall, ledger: &mut LedgerQueue) {
    let mut listing = match firewall.list() {
        Ok(listing) => listing.elements,
        Err(error) => return log::error!("cannot list the kernel's sets: {error}"),
    };
    let known: HashSet<Element> = engine.detector().bans().flat_map(elements).collect();
    listing.retain(|(element, _)| !known.contains(element));
    listing.sort_unstable();
    let now = now();
    let mut found: BTreeMap<Offender, Ban> = BTreeMap::new();
    for (element, timeout) in listing {
        let until = (timeout != Timeout::FOREVER).then(|| now + Span::from_secs(timeout.as_secs().into()));
        let reason = "found in the kernel, not in the ledger";
        let mut ban = Ban { jail: "kernel".into(), ..manual(element.offender, now, until, reason) };
        ban.ports = element.port.into_iter().collect();
        // All ports come before single ones, and cover them.
        if let Some(known) = found.get(&element.offender) {
            ban.until = ban.until.zip(known.until).map(|(one, other)| one.max(other));
            let more = if known.ports.is_empty() { &[][..] } else { &*ban.ports };
            ban.ports = known.ports.iter().chain(more).copied().collect();
        }
        found.insert(element.offender, ban);
    }
    if !found.is_empty() {
        log::warn!(
            "adopted {} from the kernel that the ledger does not have",
            count(found.len() as u64, "ban")
        );
    }
    found.values().for_each(|ban| engine.detector().restore(ban.clone(), now));
    ledger.write(
        LedgerUpdate {
            decisions: found.into_values().map(Decision::Ban).collect(),
            ..LedgerUpdate::default()
        },
        None,
    );
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
                Command::Reload { .. } | Command::Keep | Command::Notify(_) => {
                    drop(reloads.send((command, reply)).await)
                }
                command => drop(inbox.send(Input::Command(command, reply)).await),
            }
        });
        replied
    })
}
