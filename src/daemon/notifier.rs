//! Sends notifications without blocking other tasks.
//!
//! News goes into a ring; if a task is behind, the ring drops its oldest news. Each receiver has a task of its own, which
//! makes digests of the news or queues single events, a bounded number of either, and delivers them with retries. So a
//! dead receiver delays neither bans nor other receivers.

mod digests;
mod each;
mod reporter;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{broadcast, oneshot, watch};
use tokio::task::JoinHandle;

use self::digests::DigestTask;
use self::each::EachTask;
use self::reporter::ReceiverReporter;
use super::health::Health;
use super::now;
use crate::config::{Grouping, Receiver, nearest};
use crate::control::Reply;
use crate::daemon::metrics::Metrics;
use crate::daemon::notify::{EachOutcome, Event, EventMessage, Message, deliver, deliver_each, host};
use crate::model::plain;

/// Batches of news that wait for a task to note them; room for them takes 200 kB. Where each of 10,000 bans a second is a
/// batch, on two busy processors, a ring of 16 lost 56 to 214 of 67,000, and one of 256 none.
const NEWS: usize = 4096;
/// How long the daemon's end waits for what has not been told yet.
const LAST: Duration = Duration::from_secs(3);
/// How long a test may take: the client waits for it.
const TEST: Duration = Duration::from_secs(20);

/// Puts news into the ring, which clones share.
#[derive(Clone)]
pub(super) struct EventSender(broadcast::Sender<Arc<[Event]>>);

impl EventSender {
    /// Never waits. Where nobody wants news, none are made.
    pub(super) fn send(&self, events: impl FnOnce() -> Vec<Event>) {
        if self.0.receiver_count() > 0 {
            // That the last of them has just left is well.
            let _ = self.0.send(events().into());
        }
    }
}

/// Looks after the receivers' tasks.
pub(super) struct Notifier {
    events: EventSender,
    metrics: Metrics,
    health: Health,
    host: String,
    tasks: Vec<TaskHandle>,
}

struct TaskHandle {
    receiver: Arc<Receiver>,
    /// Changes the receiver of single events. Dropped, it ends the task.
    changes: watch::Sender<Arc<Receiver>>,
    handle: JoinHandle<()>,
}

/// What a task hears of.
struct TaskInputs {
    news: broadcast::Receiver<Arc<[Event]>>,
    changes: watch::Receiver<Arc<Receiver>>,
}

impl Notifier {
    /// Starts a task for each of these receivers.
    pub(super) fn start(receivers: &[Arc<Receiver>], metrics: &Metrics, health: &Health) -> Self {
        let host = host(&std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default());
        let (events, metrics, health) =
            (EventSender(broadcast::Sender::new(NEWS)), metrics.clone(), health.clone());
        let mut notifier = Self { events, metrics, health, host, tasks: Vec::new() };
        notifier.restart(receivers);
        notifier
    }

    pub(super) fn events(&self) -> EventSender {
        self.events.clone()
    }

    /// Goes on with these receivers. One that stays as it was keeps what it has not been told yet, and so does one of
    /// single events whose settings change; one that is gone is told the last.
    pub(super) fn restart(&mut self, receivers: &[Arc<Receiver>]) {
        self.tasks.retain_mut(|task| {
            let Some(receiver) = receivers.iter().find(|receiver| receiver.name == task.receiver.name) else {
                return false;
            };
            let are_single =
                [receiver, &task.receiver].iter().all(|r| matches!(r.grouping, Grouping::Each(_)));
            if task.receiver != *receiver && are_single {
                task.receiver = Arc::clone(receiver);
                // A task that has stopped is not there to be told.
                let _ = task.changes.send(Arc::clone(receiver));
            }
            task.receiver == *receiver
        });
        self.health.receivers(receivers.iter().map(|receiver| &*receiver.name));
        for receiver in receivers {
            if !self.tasks.iter().any(|task| task.receiver == *receiver) {
                self.tasks.push(self.start_task(Arc::clone(receiver)));
            }
        }
    }

    fn start_task(&self, receiver: Arc<Receiver>) -> TaskHandle {
        let (changes, changed) = watch::channel(Arc::clone(&receiver));
        let inputs = TaskInputs { news: self.events.0.subscribe(), changes: changed };
        let reporter = ReceiverReporter {
            name: Arc::clone(&receiver.name),
            metrics: self.metrics.clone(),
            health: self.health.clone(),
        };
        let (of, host) = (Arc::clone(&receiver), self.host.clone());
        let handle = match receiver.grouping {
            Grouping::Digests(pace) => tokio::spawn(DigestTask::new(of, pace, reporter, host).run(inputs)),
            Grouping::Each(pace) => tokio::spawn(EachTask::new(of, pace, reporter, host).run(inputs)),
        };
        TaskHandle { receiver, changes, handle }
    }

    /// Tells the receiver of this name that this is a test, and replies with the result.
    pub(super) fn test(&self, name: &str, reply: oneshot::Sender<Reply>) {
        let Some(task) = self.tasks.iter().find(|task| *task.receiver.name == *name) else {
            let known = self.tasks.iter().map(|task| &*task.receiver.name);
            let error = match self.tasks.is_empty() {
                true => "the configuration has no receiver: no table `[notify.NAME]`".to_owned(),
                false => format!("unknown receiver `{}`; {}", plain(name), nearest(name, "receivers", known)),
            };
            return drop(reply.send(Reply::Refused { error }));
        };
        let (receiver, host) = (Arc::clone(&task.receiver), self.host.clone());
        tokio::spawn(async move {
            let told = tokio::time::timeout(TEST, tell_test(&receiver, &host)).await;
            let told = told.unwrap_or_else(|_| Err(anyhow::anyhow!("it took longer than {TEST:?}")));
            let refused = |error: anyhow::Error| Reply::Refused { error: format!("{error:#}") };
            // The client may have hung up.
            let _ = reply.send(told.map_or_else(refused, |()| Reply::Done { changed: 0 }));
        });
    }

    /// Lets all tell the last, for as long as that may take.
    pub(super) async fn end(self) {
        let handles: Vec<_> = self
            .tasks
            .into_iter()
            .map(|task| {
                drop(task.changes);
                task.handle
            })
            .collect();
        for handle in handles {
            let _ = handle.await;
        }
    }
}

/// Tells a receiver that this is a test, besides what its task tells it.
async fn tell_test(receiver: &Receiver, host: &str) -> anyhow::Result<()> {
    if let Grouping::Digests(_) = receiver.grouping {
        return deliver(receiver, &Message::test(receiver, host, now())).await;
    }
    let message = EventMessage::test(receiver, host, now());
    let (outcome, connection) = deliver_each(receiver, None, &message).await;
    if let Some(connection) = connection {
        connection.end(LAST).await;
    }
    match outcome {
        EachOutcome::Delivered => Ok(()),
        EachOutcome::Refused(why) => Err(anyhow::Error::msg(why)),
        EachOutcome::Failed(error, _) => Err(error),
    }
}

/// Waits until then; forever, if nothing is due.
async fn at(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
