//! Reloads the configuration: checks it first, and keeps the old one if it is wrong. It reads files and proves
//! grammars, which bans must not wait for, so it is separate from the hub.

use std::sync::mpsc as threads;
use std::time::Duration;

use anyhow::Context;
use sd_notify::NotifyState;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::enforcer::{Order, OrderSender};
use super::firewalls::Firewalls;
use super::fleet::FleetLink;
use super::health::Health;
use super::inbox::{Input, ReloadKind};
use super::notifier::Notifier;
use super::set_lock::SetLock;
use super::sources::Sources;
use super::{RunOptions, logging, mode};
use crate::config::load::{self, AllowFiles, Loaded};
use crate::config::{Backend, Config, Enforce};
use crate::control::{ChangeReport, Command, ReloadPreview, Reply};
use crate::daemon::metrics::Metrics;
use crate::kernel::{Displaced, Firewall};
use crate::model::Span;

/// Reads the configuration again when it is asked to.
pub(super) struct Reloader {
    pub(super) options: RunOptions,
    pub(super) inbox: mpsc::Sender<Input>,
    pub(super) orders: OrderSender,
    pub(super) firewalls: mpsc::UnboundedSender<(Box<dyn Firewall>, bool)>,
    pub(super) files: threads::Sender<AllowFiles>,
    pub(super) loaded: Loaded,
    pub(super) sources: Sources,
    pub(super) notifier: Notifier,
    pub(super) health: Health,
    pub(super) metrics: Metrics,
    pub(super) opener: Firewalls,
    /// What comes back, and when, unless the operator confirms what is in force.
    pub(super) unconfirmed: Option<(Loaded, Instant)>,
    /// When what was not confirmed was taken back, if nothing was reloaded since, and what became of bans.
    pub(super) rolled_back: Option<(Instant, ChangeReport)>,
    /// The set that we write to is ours.
    pub(super) claim: Option<SetLock>,
    /// The connection to the fleet.
    pub(super) link: FleetLink,
}

impl Reloader {
    /// Carries out a command that is about the configuration.
    pub(super) async fn carry_out(&mut self, command: &Command) -> Reply {
        match (command, &self.unconfirmed) {
            (Command::Reload { confirm }, _) => self.reload(*confirm).await,
            (Command::ReloadPreview, _) => self.preview().await.unwrap_or_else(|error| refused(&error)),
            (Command::ReloadRemoved, _) => {
                let before = std::mem::take(&mut self.loaded.files);
                let reply = self.reload(None).await;
                if matches!(reply, Reply::Refused { .. }) {
                    self.loaded.files = before;
                }
                reply
            }
            (_, None) => {
                let error = match &self.rolled_back {
                    None => "no configuration is on trial".to_owned(),
                    Some((at, bans)) => {
                        let span = Span::from_secs(at.elapsed().as_secs());
                        let summary = bans.summary();
                        let bans = if summary.is_empty() { summary } else { format!(" (bans: {summary})") };
                        format!(
                            "too late: the previous configuration came back {span} ago{bans}; reload again"
                        )
                    }
                };
                Reply::Refused { error }
            }
            (_, Some(_)) => {
                log::info!("confirmed the configuration");
                self.unconfirmed = None;
                // The hub is gone only where the daemon ends.
                let _ = self.inbox.send(Input::Kept).await;
                Reply::Done { changed: 0 }
            }
        }
    }

    /// Puts what the files say now in force, if it is sound, and keeps what there is otherwise. With `confirm`, what was
    /// last confirmed comes back after that time; without it, it stays in force.
    pub(super) async fn reload(&mut self, confirm: Option<Span>) -> Reply {
        let before = self.loaded.clone();
        let _ = sd_notify::notify(&[
            NotifyState::Reloading,
            NotifyState::monotonic_usec_now().unwrap_or(NotifyState::Reloading),
        ]);
        let result = match self.read().await {
            Ok(loaded) => {
                let kind = if confirm.is_some() { ReloadKind::Trial } else { ReloadKind::Permanent };
                self.put_in_force(loaded, kind).await
            }
            Err(error) => Err(error),
        };
        let _ = sd_notify::notify(&[NotifyState::Ready]);
        let (reply, result) = match result {
            Ok(bans) => {
                let changes = self.loaded.changes_since(&before);
                log::info!("reloaded the configuration: {}{}", summary(&changes), of_bans(&bans));
                let reply = Reply::Reloaded {
                    changed: changes.len() as u64,
                    changes,
                    warnings: self.loaded.warnings.clone(),
                    geoip: self.loaded.config.geoip.clone(),
                    bans,
                };
                self.rolled_back = None;
                let confirmed = self.unconfirmed.take().map_or(before, |(confirmed, _)| confirmed);
                let until = |span: Span| Instant::now() + Duration::from_micros(span.as_micros());
                self.unconfirmed = confirm.map(|span| (confirmed, until(span)));
                (reply, "done")
            }
            Err(error) => {
                logging::lines(
                    log::Level::Error,
                    &format!("reload refused, the old configuration stays: {error:#}"),
                );
                (refused(&error), "refused")
            }
        };
        self.metrics.counter("banstream_reloads_total", &[("result", result)]).increment(1);
        reply
    }

    /// What the files say now.
    async fn read(&self) -> anyhow::Result<Loaded> {
        let options = self.options.clone();
        let loaded = tokio::task::spawn_blocking(move || options.load()).await??;
        match loaded.files.lost_since(&self.loaded.files) {
            None => Ok(loaded.with_groups()?),
            Some(lost) => Err(anyhow::Error::msg(lost)),
        }
    }

    async fn preview(&self) -> anyhow::Result<Reply> {
        let config = self.options.config.clone().unwrap_or_else(|| load::CONFIG.into());
        let config = config.canonicalize().unwrap_or(config);
        let loaded = self.read().await?;
        let changes = loaded.changes_since(&self.loaded);
        let (reply, replied) = oneshot::channel();
        self.inbox.send(Input::Preview(Box::new(loaded), reply)).await?;
        Ok(Reply::Preview(ReloadPreview { config, changes, bans: replied.await? }))
    }

    /// Waits until the time to confirm is over; forever, if nothing is on trial.
    pub(super) async fn overdue(&self) {
        match &self.unconfirmed {
            Some((_, until)) => sleep_until(*until).await,
            None => std::future::pending().await,
        }
    }

    /// Puts back in force what was last confirmed.
    pub(super) async fn go_back(&mut self) {
        let Some((mut confirmed, _)) = self.unconfirmed.take() else { return };
        // Those files may have changed meanwhile; what is wrong with them, the host watch says.
        let _ = confirmed.allow_files.renew();
        match self.put_in_force(confirmed, ReloadKind::Rollback).await {
            Ok(bans) => {
                let of_bans = of_bans(&bans);
                log::warn!("not confirmed in time: rolled back to the previous configuration{of_bans}");
                self.rolled_back = Some((Instant::now(), bans));
            }
            Err(error) => log::error!("not confirmed in time, but the rollback failed: {error:#}"),
        }
        self.metrics.counter("banstream_reloads_total", &[("result", "rolled_back")]).increment(1);
    }

    /// Puts a configuration in force; what became of bans.
    async fn put_in_force(&mut self, mut loaded: Loaded, kind: ReloadKind) -> anyhow::Result<ChangeReport> {
        let chosen = Firewalls::choose(&mut loaded.config)?;
        loaded.warnings.iter().for_each(|warning| logging::lines(log::Level::Warn, warning));
        let (old, new) = (&self.loaded.config, &loaded.config);
        let set = |config: &Config| config.enforce.as_ref().map(|enforce| enforce.set.clone());
        let claim = match set(new) {
            Some(name) if set(old).as_ref() != Some(&name) => Some(SetLock::take(&name).await?),
            Some(_) => None,
            None => Some(None),
        };
        if old.enforce != new.enforce {
            chosen.into_iter().for_each(|chosen| log::info!("{chosen}"));
            let moved = rule(old) != rule(new);
            let mut enforcing = self.opener.open(new.enforce.as_ref())?;
            let watching = enforcing.another()?;
            let faults = enforcing.prepare(Displaced::Move).map(|prepared| prepared.faults);
            if let Some(error) = faults.map_or_else(Some, |mut faults| faults.pop()) {
                // Its rules go, and those that it shares with the old one come back at once.
                if moved {
                    let _ = enforcing.withdraw();
                }
                self.opener.open(old.enforce.as_ref())?.prepare(Displaced::Move)?;
                return Err(error.into());
            }
            // The old rule may go only when the new one's sets are full.
            let firewalls = self.firewalls.clone();
            let then = Box::new(move || drop(firewalls.send((watching, moved))));
            let given = self.orders.give(Order::SwitchFirewall(enforcing, then));
            anyhow::ensure!(given, "the enforcer has stopped");
            let mode = mode(new.enforce.as_ref());
            self.health.enforcement(|status| (status.mode, status.backend) = mode);
        }
        let (reply, replied) = oneshot::channel();
        self.inbox.send(Input::Reload(Box::new(loaded.clone()), kind, reply)).await?;
        let bans = replied.await?;
        self.files
            .send(loaded.allow_files.clone())
            .ok()
            .context("the thread `host-addresses` has stopped")?;
        self.notifier.restart(&loaded.config.receivers);
        self.sources.restart(&loaded).await?;
        self.link.restart(loaded.config.fleet.as_ref());
        self.loaded = loaded;
        // The one before goes only now.
        claim.into_iter().for_each(|claim| self.claim = claim);
        Ok(bans)
    }
}

fn refused(error: &anyhow::Error) -> Reply {
    Reply::Refused { error: format!("{error:#}") }
}

/// What became of bans, for a line of the log.
fn of_bans(bans: &ChangeReport) -> String {
    let summary = bans.summary();
    if summary.is_empty() { summary } else { format!("; bans: {summary}") }
}

/// Changes that a line of the log names.
const TOLD: usize = 10;

fn summary(changes: &[String]) -> String {
    let told: Vec<&str> = changes.iter().take(TOLD).map(String::as_str).collect();
    match changes.len().saturating_sub(TOLD) {
        _ if told.is_empty() => "nothing has changed".to_owned(),
        0 => told.join("; "),
        more => format!("{}; and {more} more changes", told.join("; ")),
    }
}

/// What makes the rule another one. A table of nftables is replaced as a whole.
fn rule(config: &Config) -> impl PartialEq {
    let rule = |e: &Enforce| (e.table.clone(), e.chains.clone(), e.target.clone());
    let enforce = config.enforce.as_ref();
    enforce.map(|e| (e.backend, e.set.clone(), (e.backend != Backend::Nftables).then(|| rule(e))))
}
