//! Puts a changed configuration in force, if it is sound, and keeps what there is otherwise.
//!
//! It stands apart from the hub because it reads files and proves grammars, which bans must not wait for.
//!
//! It does not know what the hub does with what was loaded.

use std::sync::mpsc as threads;

use anyhow::Context;
use sd_notify::NotifyState;
use tokio::sync::{mpsc, oneshot};

use super::enforcer::Order;
use super::health::Health;
use super::hub::Input;
use super::sources::Sources;
use super::{Options, firewall, mode};
use crate::config::Config;
use crate::control::Reply;
use crate::enforce::Firewall;
use crate::load::{self, AllowFiles, Loaded};
use crate::metrics::Metrics;

/// Reads the configuration again when it is asked to.
pub(super) struct Reloader {
    pub(super) options: Options,
    pub(super) inbox: mpsc::Sender<Input>,
    pub(super) orders: threads::SyncSender<Order>,
    pub(super) firewalls: threads::Sender<(Box<dyn Firewall>, bool)>,
    pub(super) files: threads::Sender<AllowFiles>,
    pub(super) loaded: Loaded,
    pub(super) sources: Sources,
    pub(super) health: Health,
    pub(super) metrics: Metrics,
}

impl Reloader {
    /// Puts what the files say now in force, if it is sound, and keeps what there is otherwise.
    pub(super) async fn reload(&mut self) -> Reply {
        let _ = sd_notify::notify(&[
            NotifyState::Reloading,
            NotifyState::monotonic_usec_now().unwrap_or(NotifyState::Reloading),
        ]);
        let result = self.try_reload().await;
        let _ = sd_notify::notify(&[NotifyState::Ready]);
        let (reply, result) = match result {
            Ok(reply) => {
                log::info!("the configuration was reloaded");
                (reply, "done")
            }
            Err(error) => {
                log::error!("the configuration stays as it was: {error:#}");
                (Reply::Refused { error: format!("{error:#}") }, "refused")
            }
        };
        self.metrics.counter("banstream_reloads_total", &[("result", result)]).increment(1);
        reply
    }

    async fn try_reload(&mut self) -> anyhow::Result<Reply> {
        let path = self.options.config.clone();
        let loaded = tokio::task::spawn_blocking(move || load::load(path.as_deref())).await??;
        loaded.warnings.iter().for_each(|warning| log::warn!("{warning}"));
        let (old, new) = (&self.loaded.config, &loaded.config);
        if old.enforce != new.enforce {
            let make = |config: &Config| firewall(&self.options, config.enforce.as_ref());
            let (mut enforcing, watching) = (make(new)?, make(new)?);
            let faults = enforcing.prepare().map(|prepared| prepared.faults);
            if let Some(error) = faults.map_or_else(Some, |mut faults| faults.pop()) {
                // Its rules go, and those that it shares with the old one come back at once.
                let _ = enforcing.withdraw();
                make(old)?.prepare()?;
                return Err(error.into());
            }
            self.orders.send(Order::Use(enforcing)).ok().context("the enforcer is gone")?;
            self.firewalls.send((watching, rule(old) != rule(new))).ok().context("the watcher is gone")?;
            let mode = mode(&self.options, new.enforce.as_ref());
            self.health.enforcement(|status| status.mode = mode.to_owned());
        }
        if fixed(old) != fixed(new) {
            log::warn!(
                "changes of sockets, the metrics address, the ledger and the state directory wait for the next start"
            );
        }
        let (reply, replied) = oneshot::channel();
        self.inbox.send(Input::Reload(Box::new(loaded.clone()), reply)).await?;
        let reply = replied.await?;
        self.files.send(loaded.allow_files.clone()).ok().context("the lookout is gone")?;
        self.sources.restart(&loaded).await?;
        self.loaded = loaded;
        Ok(reply)
    }
}

/// What makes the rule another one.
fn rule(config: &Config) -> impl PartialEq {
    let enforce = config.enforce.as_ref();
    enforce.map(|e| (e.set.clone(), e.table.clone(), e.chains.clone(), e.target.clone()))
}

/// What a reload does not touch.
fn fixed(config: &Config) -> impl PartialEq {
    let ingest = config.socket.as_ref().map(|ingest| ingest.socket.clone());
    (ingest, config.control.clone(), config.metrics, config.ledger, config.state_directory.clone())
}
