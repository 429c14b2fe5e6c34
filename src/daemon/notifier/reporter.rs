//! Says how it goes with one receiver: in the log, in `status` and to Prometheus.

use std::sync::Arc;

use crate::control::ReceiverStatus;
use crate::daemon::health::Health;
use crate::daemon::metrics::Metrics;

/// What the error begins with where a receiver has refused a message.
const REFUSED: &str = "refused: ";

/// Says how it goes with one receiver.
#[derive(Clone)]
pub(super) struct ReceiverReporter {
    pub(super) name: Arc<str>,
    pub(super) metrics: Metrics,
    pub(super) health: Health,
}

impl ReceiverReporter {
    fn say(&self, change: impl FnOnce(&mut ReceiverStatus)) {
        self.health.receiver(&self.name, change);
    }

    fn count(&self, result: &str, times: u64) {
        let labels = [("receiver", &*self.name), ("result", result)];
        self.metrics.counter("banstream_notifications_total", &labels).increment(times);
    }

    fn errors(&self, times: u64) {
        let labels = [("receiver", &*self.name)];
        self.metrics.counter("banstream_notifications_errors_total", &labels).increment(times);
    }

    pub(super) fn begin(&self) {
        // What was wrong with earlier settings.
        self.say(|status| status.error = None);
        // A series that begins with its first event hides that event from `increase`.
        ["delivered", "dropped", "refused"].iter().for_each(|result| self.count(result, 0));
        self.errors(0);
    }

    pub(super) fn waiting(&self, messages: usize) {
        let labels = [("receiver", &*self.name)];
        self.metrics.gauge("banstream_notifications_waiting", &labels).set(messages as f64);
        self.say(|status| status.waiting = messages as u64);
    }

    /// An attempt failed, and there will be others.
    pub(super) fn failed(&self, error: &anyhow::Error) {
        self.errors(1);
        let error = format!("{error:#}");
        self.say(|status| {
            if status.error.as_ref().is_none_or(|last| last.starts_with(REFUSED)) {
                log::warn!("cannot deliver to `{}`, trying again: {error}", self.name);
            }
            status.error = Some(error);
        });
    }

    /// This was the last attempt with this message.
    pub(super) fn ended(&self, told: &anyhow::Result<()>) {
        match told {
            Ok(()) => self.delivered(),
            Err(error) => {
                self.failed(error);
                self.dropped(1);
            }
        }
    }

    pub(super) fn delivered(&self) {
        self.count("delivered", 1);
        self.say(|status| {
            status.delivered += 1;
            if status.error.take().is_some() {
                log::info!("can deliver to `{}` again", self.name);
            }
        });
    }

    /// The receiver will never take a message.
    pub(super) fn refused(&self, why: &str) {
        self.count("refused", 1);
        let error = format!("{REFUSED}{why}");
        self.say(|status| {
            status.refused += 1;
            if status.error.as_ref() != Some(&error) {
                log::warn!("a message to `{}` is {error}", self.name);
            }
            status.error = Some(error);
        });
    }

    pub(super) fn dropped(&self, messages: u64) {
        self.count("dropped", messages);
        self.say(|status| status.dropped += messages);
    }
}
