//! Sends notifications without blocking other tasks.
//!
//! News goes into a ring; if a task is behind, the ring drops its oldest news. Each receiver has a task of its own,
//! which makes digests of the news, queues a bounded number of them, and delivers one at a time, with retries for a
//! limited time. So a dead receiver delays neither bans nor other receivers.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backon::{ExponentialBuilder, Retryable};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, oneshot};
use tokio::task::JoinHandle;

use super::health::Health;
use super::now;
use crate::config::Receiver;
use crate::control::{ReceiverStatus, Reply};
use crate::daemon::metrics::Metrics;
use crate::daemon::notify::{Event, Message, Outbox, deliver, host};
use crate::model::{Span, count};

/// Batches of news that wait for a task to note them.
const NEWS: usize = 256;
/// Digests that wait for a receiver; the oldest makes room for the next. An hour's, at one in 5 minutes.
const WAITING: usize = 12;
/// The pauses between attempts: twice as long each time, up to the longest, and at random up to `FIRST` or as much again
/// longer. Some three quarters of an hour in all.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(5 * 60);
const ATTEMPTS: usize = 16;
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
    /// Dropped, it ends the task.
    leave: oneshot::Sender<()>,
    handle: JoinHandle<()>,
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

    /// Goes on with these receivers. One that stays as it was keeps what it has not been told yet; one that is gone is
    /// told the last.
    pub(super) fn restart(&mut self, receivers: &[Arc<Receiver>]) {
        self.tasks.retain(|task| receivers.contains(&task.receiver));
        self.health.receivers(receivers.iter().map(|receiver| &*receiver.name));
        for receiver in receivers {
            if !self.tasks.iter().any(|task| task.receiver == *receiver) {
                self.tasks.push(self.start_task(Arc::clone(receiver)));
            }
        }
    }

    fn start_task(&self, receiver: Arc<Receiver>) -> TaskHandle {
        let (leave, left) = oneshot::channel();
        let task = DeliveryTask {
            outbox: Outbox::new(Arc::clone(&receiver)),
            receiver: Arc::clone(&receiver),
            waiting: VecDeque::new(),
            began: Instant::now(),
            reporter: ReceiverReporter {
                name: Arc::clone(&receiver.name),
                metrics: self.metrics.clone(),
                health: self.health.clone(),
            },
            host: self.host.clone(),
        };
        let handle = tokio::spawn(task.run(self.events.0.subscribe(), left));
        TaskHandle { receiver, leave, handle }
    }

    /// Tells the receiver of this name that this is a test, and replies with what came of it.
    pub(super) fn test(&self, name: &str, reply: oneshot::Sender<Reply>) {
        let Some(task) = self.tasks.iter().find(|task| *task.receiver.name == *name) else {
            let error = "the configuration has no receiver with this name".to_owned();
            return drop(reply.send(Reply::Refused { error }));
        };
        let (receiver, host) = (Arc::clone(&task.receiver), self.host.clone());
        tokio::spawn(async move {
            let message = Message::test(&receiver, &host, now());
            let told = tokio::time::timeout(TEST, deliver(&receiver, &message)).await;
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
                drop(task.leave);
                task.handle
            })
            .collect();
        for handle in handles {
            let _ = handle.await;
        }
    }
}

type Delivery = Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>>;

/// The task of one receiver.
struct DeliveryTask {
    receiver: Arc<Receiver>,
    outbox: Outbox,
    waiting: VecDeque<Message>,
    began: Instant,
    reporter: ReceiverReporter,
    host: String,
}

impl DeliveryTask {
    async fn run(mut self, mut news: broadcast::Receiver<Arc<[Event]>>, mut leave: oneshot::Receiver<()>) {
        self.reporter.begin();
        let mut delivery: Option<Delivery> = None;
        loop {
            if delivery.is_none() {
                delivery = self.waiting.pop_front().map(|message| self.retry(message));
            }
            self.reporter.waiting(self.waiting.len() + usize::from(delivery.is_some()));
            tokio::select! {
                heard = news.recv() => match heard {
                    Ok(events) => {
                        let (at, passed) = (now(), self.passed());
                        events.iter().for_each(|event| self.outbox.note(event, at, passed));
                    }
                    Err(RecvError::Lagged(batches)) => {
                        self.reporter.metrics.dropped("notify_queue_full", batches);
                        self.outbox.miss(batches, self.passed());
                    }
                    Err(RecvError::Closed) => break,
                },
                () = at(self.outbox.due().map(|due| self.began + duration(due))) => self.pack(),
                told = under_way(&mut delivery) => {
                    delivery = None;
                    self.reporter.ended(&told);
                }
                _ = &mut leave => break,
            }
        }
        self.reporter.waiting(0);
        while let Ok(events) = news.try_recv() {
            events.iter().for_each(|event| self.outbox.note(event, now(), self.passed()));
        }
        self.pack();
        let last = async {
            if delivery.is_some() {
                self.reporter.ended(&under_way(&mut delivery).await);
                delivery = None;
            }
            while let Some(message) = self.waiting.front() {
                let told = deliver(&self.receiver, message).await;
                self.reporter.ended(&told);
                self.waiting.pop_front();
            }
        };
        if tokio::time::timeout(LAST, last).await.is_err() {
            let untold = self.waiting.len() + usize::from(delivery.is_some());
            let messages = count(untold as u64, "message");
            log::warn!("shutting down: {messages} to `{}` not delivered", self.receiver.name);
        }
    }

    fn passed(&self) -> Span {
        Span::from_micros(self.began.elapsed().as_micros() as u64)
    }

    /// Puts what has been noted where it waits to be delivered.
    fn pack(&mut self) {
        let Some(digest) = self.outbox.take(self.passed()) else { return };
        self.waiting.push_back(Message::new(&self.receiver, digest, &self.host, now()));
        if self.waiting.len() > WAITING {
            self.waiting.pop_front();
            self.reporter.dropped();
        }
    }

    /// Tries to deliver a message, again and again.
    fn retry(&self, message: Message) -> Delivery {
        let (receiver, reporter) = (Arc::clone(&self.receiver), self.reporter.clone());
        let pauses = ExponentialBuilder::default()
            .with_min_delay(FIRST)
            .with_max_delay(LONGEST)
            .with_max_times(ATTEMPTS)
            .with_jitter();
        Box::pin(async move {
            let attempt = || deliver(&receiver, &message);
            attempt.retry(pauses).notify(|error: &anyhow::Error, _| reporter.failed(error)).await
        })
    }
}

fn duration(span: Span) -> Duration {
    Duration::from_micros(span.as_micros())
}

/// Waits until then; forever, if nothing is due.
async fn at(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

/// Waits for the result of the delivery; forever, if there is none.
async fn under_way(delivery: &mut Option<Delivery>) -> anyhow::Result<()> {
    match delivery {
        Some(delivery) => delivery.await,
        None => std::future::pending().await,
    }
}

/// Says how it goes with one receiver.
#[derive(Clone)]
struct ReceiverReporter {
    name: Arc<str>,
    metrics: Metrics,
    health: Health,
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

    fn begin(&self) {
        // What was wrong with earlier settings.
        self.say(|status| status.error = None);
        // A series that begins with its first event hides that event from `increase`.
        ["delivered", "dropped"].iter().for_each(|result| self.count(result, 0));
        self.errors(0);
    }

    fn waiting(&self, messages: usize) {
        let labels = [("receiver", &*self.name)];
        self.metrics.gauge("banstream_notifications_waiting", &labels).set(messages as f64);
        self.say(|status| status.waiting = messages as u64);
    }

    /// An attempt failed, and there will be others.
    fn failed(&self, error: &anyhow::Error) {
        self.errors(1);
        let error = format!("{error:#}");
        self.say(|status| {
            if status.error.is_none() {
                log::warn!("cannot deliver to `{}`, trying again: {error}", self.name);
            }
            status.error = Some(error);
        });
    }

    /// This was the last attempt with this message.
    fn ended(&self, told: &anyhow::Result<()>) {
        match told {
            Ok(()) => {
                self.count("delivered", 1);
                self.say(|status| {
                    status.delivered += 1;
                    if status.error.take().is_some() {
                        log::info!("can deliver to `{}` again", self.name);
                    }
                });
            }
            Err(error) => {
                self.failed(error);
                self.dropped();
            }
        }
    }

    fn dropped(&self) {
        self.count("dropped", 1);
        self.say(|status| status.dropped += 1);
    }
}
