//! The task of a receiver of digests: it puts news together, queues a bounded number of digests, and delivers one at a
//! time, with retries for a limited time.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backon::{ExponentialBuilder, Retryable};
use tokio::sync::broadcast::error::RecvError;

use super::reporter::ReceiverReporter;
use super::{LAST, TaskInputs, at};
use crate::config::{DigestPace, Receiver};
use crate::daemon::notify::{Event, Message, Outbox, deliver};
use crate::daemon::now;
use crate::model::{Span, count};

/// Digests that wait for a receiver; the oldest makes room for the next. An hour's, at one in 5 minutes.
const WAITING: usize = 12;
/// The pauses between attempts: twice as long each time, up to the longest, and at random up to `FIRST` or as much again
/// longer. Some three quarters of an hour in all.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(5 * 60);
const ATTEMPTS: usize = 16;

type Delivery = Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>>;

/// The task.
pub(super) struct DigestTask {
    receiver: Arc<Receiver>,
    outbox: Outbox,
    waiting: VecDeque<Message>,
    began: Instant,
    reporter: ReceiverReporter,
    host: String,
}

impl DigestTask {
    pub(super) fn new(
        receiver: Arc<Receiver>,
        pace: DigestPace,
        reporter: ReceiverReporter,
        host: String,
    ) -> Self {
        let (outbox, waiting) = (Outbox::new(pace), VecDeque::new());
        Self { receiver, outbox, waiting, began: Instant::now(), reporter, host }
    }

    pub(super) async fn run(mut self, TaskInputs { mut news, mut changes }: TaskInputs) {
        self.reporter.begin();
        let mut delivery: Option<Delivery> = None;
        loop {
            if delivery.is_none() {
                delivery = self.waiting.pop_front().map(|message| self.retry(message));
            }
            self.reporter.waiting(self.waiting.len() + usize::from(delivery.is_some()));
            tokio::select! {
                heard = news.recv() => match heard {
                    Ok(events) => self.note(&events),
                    Err(RecvError::Lagged(batches)) => {
                        self.reporter.metrics.dropped("notify_queue_full", batches);
                        self.outbox.miss(batches, self.passed());
                    }
                    Err(RecvError::Closed) => break,
                },
                () = at(self.outbox.due().map(|due| self.began + Duration::from_micros(due.as_micros()))) => self.pack(),
                told = under_way(&mut delivery) => {
                    delivery = None;
                    self.reporter.ended(&told);
                }
                // Another pace makes another task.
                _ = changes.changed() => break,
            }
        }
        self.reporter.waiting(0);
        while let Ok(events) = news.try_recv() {
            self.note(&events);
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

    /// Notes what the receiver asked for.
    fn note(&mut self, events: &[Event]) {
        let (at, passed) = (now(), self.passed());
        let wanted = events.iter().filter(|event| event.is_for(&self.receiver));
        wanted.for_each(|event| self.outbox.note(event, at, passed));
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
            self.reporter.dropped(1);
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

/// Waits for the result of the delivery; forever, if there is none.
async fn under_way(delivery: &mut Option<Delivery>) -> anyhow::Result<()> {
    match delivery {
        Some(delivery) => delivery.await,
        None => std::future::pending().await,
    }
}
