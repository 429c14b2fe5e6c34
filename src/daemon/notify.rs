//! Notifications: news becomes a digest, or a message for each event, and goes to a receiver. Content, order and time are
//! pure (`event`, `digest`, `queue`); each way of delivery is a file.

mod command;
mod digest;
mod each;
mod event;
mod mail;
mod program;
mod queue;
mod webhook;

use std::time::Duration;

use anyhow::anyhow;

pub use self::digest::{Digest, Message, Outbox, host};
pub use self::each::{EachConnection, EachOutcome, EventMessage, deliver_each};
pub use self::event::Event;
pub use self::queue::{EventQueue, QueuedEvent};
use crate::config::{NotifyChannel, Receiver};
use crate::model::Span;

/// Tells a receiver something, once. A receiver may be told the same thing twice: it can have understood, and its answer
/// have been lost.
///
/// What is under way when this future is dropped is given up; a program that was started is killed.
///
/// # Errors
///
/// It could not be told within its time. The error has no secret in it.
pub async fn deliver(receiver: &Receiver, message: &Message) -> anyhow::Result<()> {
    let told = async {
        match &receiver.channel {
            NotifyChannel::Webhook { url, headers, token_file } => {
                webhook::post(url, headers, token_file.as_deref(), message.json()).await
            }
            NotifyChannel::Command(words) => command::run(words, message.environment(), message.json()).await,
            NotifyChannel::Mail { to, from, sendmail } => {
                let words = [sendmail.display().to_string(), "-t".to_owned(), "-i".to_owned()];
                command::run(&words, [], mail::compose(to, from.as_deref(), message)).await
            }
        }
    };
    tokio::time::timeout(duration(receiver.timeout), told)
        .await
        .map_err(|_| anyhow!("it took longer than {}", receiver.timeout))?
}

fn duration(span: Span) -> Duration {
    Duration::from_micros(span.as_micros())
}
