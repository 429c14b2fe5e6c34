//! The task of a receiver of single events: it queues a bounded number of them, and delivers them as the queue says.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Instant;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use super::reporter::ReceiverReporter;
use super::{LAST, TaskInputs, at};
use crate::config::{EachPace, Grouping, Receiver};
use crate::daemon::notify::{
    EachConnection, EachOutcome, Event, EventMessage, EventQueue, QueuedEvent, deliver_each,
};
use crate::daemon::now;
use crate::model::count;

/// Events that wait for a receiver; the oldest makes room for the next. They take some 35 MB at most.
const WAITING: usize = 65_536;

/// The task.
pub(super) struct EachTask {
    receiver: Arc<Receiver>,
    queue: EventQueue,
    /// Deliveries, each with the number of its event.
    under_way: FuturesUnordered<BoxFuture<'static, (u64, EachOutcome, Option<EachConnection>)>>,
    /// What the next delivery can use.
    connection: Option<EachConnection>,
    began: Instant,
    /// Whether it is known that the queue is full.
    is_full: bool,
    reporter: ReceiverReporter,
    host: String,
}

impl EachTask {
    pub(super) fn new(
        receiver: Arc<Receiver>,
        pace: EachPace,
        reporter: ReceiverReporter,
        host: String,
    ) -> Self {
        // No later daemon begins with a number that this one has used, unless the clock steps back.
        let first = now().as_micros().try_into().unwrap_or_default();
        let spread = RandomState::new().hash_one(&host) as f64 / u64::MAX as f64;
        Self {
            queue: EventQueue::new(pace, WAITING, first, spread),
            receiver,
            under_way: FuturesUnordered::new(),
            connection: None,
            began: Instant::now(),
            is_full: false,
            reporter,
            host,
        }
    }

    pub(super) async fn run(mut self, TaskInputs { mut news, mut changes }: TaskInputs) {
        self.reporter.begin();
        loop {
            self.begin_due();
            self.reporter.waiting(self.queue.len());
            tokio::select! {
                heard = news.recv() => match heard {
                    Ok(events) => self.add(&events),
                    Err(RecvError::Lagged(batches)) => self.missed(batches),
                    Err(RecvError::Closed) => break,
                },
                Some(ended) = self.under_way.next() => self.ended(ended),
                () = at(self.queue.due().map(|due| self.began + due)) => {}
                changed = changes.changed() => match changed {
                    Ok(()) => self.change(Arc::clone(&changes.borrow_and_update())),
                    Err(_) => break,
                },
            }
        }
        loop {
            match news.try_recv() {
                Ok(events) => self.add(&events),
                Err(TryRecvError::Lagged(batches)) => self.missed(batches),
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        let end = Instant::now() + LAST;
        let _ = tokio::time::timeout_at(end.into(), self.finish(end)).await;
        self.reporter.waiting(0);
        if !self.queue.is_empty() {
            let events = count(self.queue.len() as u64, "event");
            log::warn!("shutting down: {events} for `{}` not delivered", self.receiver.name);
        }
        self.under_way.clear();
        if let Some(connection) = self.connection.take() {
            connection.end(end.saturating_duration_since(Instant::now())).await;
        }
    }

    /// Delivers what can be delivered until then.
    async fn finish(&mut self, end: Instant) {
        loop {
            self.begin_due();
            let due = self.queue.due().map(|due| self.began + due).filter(|due| *due < end);
            if self.under_way.is_empty() && due.is_none() {
                return;
            }
            tokio::select! {
                Some(ended) = self.under_way.next() => self.ended(ended),
                () = at(due) => {}
            }
        }
    }

    /// Queues what the receiver asked for.
    fn add(&mut self, events: &[Event]) {
        let at = now();
        let wanted = events.iter().filter(|event| event.is_for(&self.receiver));
        let dropped: usize = wanted.map(|event| self.queue.push(event.clone(), at)).sum();
        if dropped > 0 {
            self.reporter.dropped(dropped as u64);
            if !self.is_full {
                let name = &self.receiver.name;
                log::warn!("{WAITING} events wait for `{name}`; the oldest are dropped until there is room");
            }
        }
        self.is_full = dropped > 0 || self.is_full && self.queue.len() > WAITING / 2;
    }

    fn missed(&mut self, batches: u64) {
        self.reporter.metrics.dropped("notify_queue_full", batches);
        let batches = count(batches, "batch of news");
        log::warn!("lost for `{}`, because they came too fast: {batches}", self.receiver.name);
    }

    /// Begins all deliveries that are due.
    fn begin_due(&mut self) {
        while let Some(queued) = self.queue.take(self.began.elapsed()) {
            let connection = match &self.connection {
                Some(EachConnection::Webhook(client)) => Some(EachConnection::Webhook(client.clone())),
                _ => self.connection.take(),
            };
            self.under_way.push(Box::pin(delivery(
                Arc::clone(&self.receiver),
                connection,
                queued,
                self.host.clone(),
            )));
        }
    }

    fn ended(&mut self, (number, outcome, connection): (u64, EachOutcome, Option<EachConnection>)) {
        self.connection = connection;
        match outcome {
            EachOutcome::Delivered => {
                self.queue.settled(number);
                self.reporter.delivered();
            }
            EachOutcome::Refused(why) => {
                self.queue.settled(number);
                self.reporter.refused(&why);
            }
            EachOutcome::Failed(error, after) => {
                self.queue.failed(number, after, self.began.elapsed());
                self.reporter.failed(&error);
            }
        }
    }

    /// Goes on with other settings. What is under way is given up, and sent again.
    fn change(&mut self, receiver: Arc<Receiver>) {
        self.under_way.clear();
        self.connection = None;
        if let Grouping::Each(pace) = receiver.grouping {
            self.queue.restart(pace);
        }
        self.receiver = receiver;
        self.reporter.begin();
    }
}

async fn delivery(
    receiver: Arc<Receiver>,
    connection: Option<EachConnection>,
    queued: QueuedEvent,
    host: String,
) -> (u64, EachOutcome, Option<EachConnection>) {
    let message = EventMessage::new(&receiver, &queued, &host, now());
    let (outcome, connection) = deliver_each(&receiver, connection, &message).await;
    (queued.number, outcome, connection)
}
