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
use super::hub::Input;
use super::sources::Sources;
use super::{Options, firewall};
use crate::config::Config;
use crate::control::Reply;
use crate::enforce::Firewall;
use crate::load::{self, Loaded};
use crate::metrics::Metrics;

/// Reads the configuration again when it is asked to.
pub(super) struct Reloader {
    pub(super) options: Options,
    pub(super) inbox: mpsc::Sender<Input>,
    pub(super) orders: threads::SyncSender<Order>,
    pub(super) firewalls: threads::Sender<Box<dyn Firewall>>,
    pub(super) loaded: Loaded,
    pub(super) sources: Sources,
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
            let make = || firewall(&self.options, new.enforce.as_ref());
            let (mut enforcing, watching) = (make()?, make()?);
            enforcing.prepare()?;
            self.orders.send(Order::Use(enforcing)).ok().context("the enforcer is gone")?;
            self.firewalls.send(watching).ok().context("the watcher is gone")?;
        }
        if fixed(old) != fixed(new) {
            log::warn!(
                "changes of sockets, the metrics address and the state directory wait for the next start"
            );
        }
        let (reply, replied) = oneshot::channel();
        self.inbox.send(Input::Reload(Box::new(loaded.clone()), reply)).await?;
        let reply = replied.await?;
        self.sources.restart(&loaded).await?;
        self.loaded = loaded;
        Ok(reply)
    }
}

/// What a reload does not touch.
fn fixed(config: &Config) -> impl PartialEq {
    (config.socket.clone(), config.control.clone(), config.metrics, config.state_directory.clone())
}
