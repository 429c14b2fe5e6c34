//! Notifications: news becomes a digest, and a digest goes to a receiver. Content and time are pure (`digest`); each
//! way of delivery is a file.

mod command;
mod digest;
mod mail;
mod webhook;

use anyhow::anyhow;

pub use self::digest::{Digest, Event, Message, Outbox, host};
use crate::config::{NotifyChannel, Receiver};

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
    let timeout = std::time::Duration::from_micros(receiver.timeout.as_micros());
    tokio::time::timeout(timeout, told)
        .await
        .map_err(|_| anyhow!("it took longer than {}", receiver.timeout))?
}
