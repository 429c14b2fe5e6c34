//! A message for each event, and its delivery, once. The connection is kept for the next one.

use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use serde::Serialize;

use super::duration;
use super::event::Event;
use super::program::Program;
use super::queue::QueuedEvent;
use super::webhook::WebhookClient;
use crate::config::{NotifyChannel, Receiver};
use crate::control::BanLine;
use crate::model::{Mode, Timestamp};

/// What an event is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
enum EventName {
    /// An address is banned, or banned again (`restored`).
    Ban,
    /// An address would be banned, but its jail only observes.
    Observed,
    /// A ban has ended.
    Unban,
    /// Bans are not enforced.
    Trouble,
    /// They are again.
    Recovered,
    /// Something was repaired in the kernel.
    Repair,
    /// `banstream notify`: nothing has happened.
    Test,
}

/// An event, addressed and worded.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EventMessage {
    /// Its number: grows from event to event, and is the same when an event is sent again.
    number: u64,
    /// What has happened.
    event: EventName,
    /// The receiver's name.
    receiver: Arc<str>,
    /// The daemon's version.
    version: &'static str,
    /// This host's name.
    host: String,
    /// When it happened.
    at: String,
    /// One line for people.
    text: String,
    /// Whether the ban began earlier: restored by `undo`, a rollback or a list, or changed in end, reason or mode. If you
    /// block addresses, block it; if you count or report bans, leave it out.
    restored: bool,
    /// Why a ban has ended: `expired`, `lifted` or `replaced`; `None` for other events.
    ended: Option<&'static str>,
    /// When a ban has ended: the other jails that still ban this address. If there are any, keep it blocked.
    others: Vec<Arc<str>>,
    /// The ban, with the same keys as in `banstream bans --json`; missing if the event is not about one.
    #[serde(flatten)]
    ban: Option<BanLine>,
}

impl EventMessage {
    /// What this event says at `now`, from this [`host`](super::host).
    pub fn new(receiver: &Receiver, queued: &QueuedEvent, host: &str, now: Timestamp) -> Self {
        let event = &queued.event;
        let name = match event {
            Event::Banned(ban) | Event::Restored(ban) if ban.mode == Mode::Observe => EventName::Observed,
            Event::Banned(_) | Event::Restored(_) => EventName::Ban,
            Event::Unbanned { .. } => EventName::Unban,
            Event::Trouble(_) => EventName::Trouble,
            Event::Recovered => EventName::Recovered,
            Event::Repaired(_) => EventName::Repair,
        };
        let text = event.line();
        let mut message = Self::worded(receiver, name, queued.number, host, queued.at, text);
        if let Event::Unbanned { ended, others, .. } = event {
            message.ended = Some(ended);
            message.others.clone_from(others);
        }
        message.restored = matches!(event, Event::Restored(_));
        message.ban = event.ban().map(|ban| BanLine::new(ban, now));
        message
    }

    /// A message that says that it is a test.
    pub fn test(receiver: &Receiver, host: &str, now: Timestamp) -> Self {
        let text = format!("This is a test of the receiver `{}`.", receiver.name);
        Self::worded(receiver, EventName::Test, 0, host, now, text)
    }

    fn worded(
        receiver: &Receiver,
        event: EventName,
        number: u64,
        host: &str,
        at: Timestamp,
        text: String,
    ) -> Self {
        Self {
            number,
            event,
            receiver: Arc::clone(&receiver.name),
            version: env!("CARGO_PKG_VERSION"),
            host: host.to_owned(),
            at: at.to_string(),
            text,
            restored: false,
            ended: None,
            others: Vec::new(),
            ban: None,
        }
    }

    /// On one line, for programs.
    fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// The result of a delivery.
#[derive(Debug)]
pub enum EachOutcome {
    /// The receiver has taken it.
    Delivered,
    /// The receiver will never take it, and why.
    Refused(String),
    /// To be tried again, after so long if the receiver said that. The error has no secret in it.
    Failed(anyhow::Error, Option<Duration>),
}

/// What is kept from one delivery to the next.
pub enum EachConnection {
    /// The connections to a server.
    Webhook(WebhookClient),
    /// A program that runs.
    Program(Box<Program>),
}

impl EachConnection {
    /// Lets a program come to its end, if it does so soon; otherwise it is killed.
    pub async fn end(self, longest: Duration) {
        if let Self::Program(program) = self {
            drop(tokio::time::timeout(longest, program.end()).await);
        }
    }
}

/// Tells a receiver about one event, once, over this connection or a new one. What comes back besides is the connection,
/// if it can be used again. A receiver may be told the same thing twice: it can have understood, and its answer have
/// been lost.
///
/// What is under way when this future is dropped is given up; a program is killed.
pub async fn deliver_each(
    receiver: &Receiver,
    connection: Option<EachConnection>,
    message: &EventMessage,
) -> (EachOutcome, Option<EachConnection>) {
    let told = async {
        match &receiver.channel {
            NotifyChannel::Webhook { url, headers, token_file } => {
                let client = match connection {
                    Some(EachConnection::Webhook(client)) => client,
                    _ => WebhookClient::new(url).await?,
                };
                let answer = client.post(url, headers, token_file.as_deref(), message.json()).await?;
                anyhow::Ok((answer.outcome(), Some(EachConnection::Webhook(client))))
            }
            NotifyChannel::Command(words) => {
                let running = match connection {
                    Some(EachConnection::Program(program)) => program.if_it_runs()?,
                    _ => None,
                };
                let mut program = match running {
                    Some(program) => program,
                    None => Box::new(Program::start(words, &receiver.name, &message.host).await?),
                };
                let outcome = program.ask(message.json()).await?;
                Ok((outcome, Some(EachConnection::Program(program))))
            }
            NotifyChannel::Mail { .. } => Err(anyhow!("mail takes digests only")),
        }
    };
    match tokio::time::timeout(duration(receiver.timeout), told).await {
        Ok(Ok(told)) => told,
        Ok(Err(error)) => (EachOutcome::Failed(error, None), None),
        Err(_) => (EachOutcome::Failed(anyhow!("it took longer than {}", receiver.timeout), None), None),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::config::{EachPace, Grouping};
    use crate::detect::manual;
    use crate::model::Span;

    #[track_caller]
    fn check(event: Event, want: Value) {
        let receiver = Receiver {
            name: "ops".into(),
            channel: NotifyChannel::Command(vec!["/bin/true".to_owned()]),
            topics: vec![],
            jails: vec![],
            grouping: Grouping::Each(EachPace { concurrency: 1, per_minute: None }),
            timeout: Span::from_secs(10),
        };
        let queued = QueuedEvent { number: 7, at: Timestamp::default(), event };
        let message = EventMessage::new(&receiver, &queued, "web1", Timestamp::from_secs(600));
        assert_eq!(message.json().lines().count(), 1);
        let mut whole = json!({"number": 7, "receiver": "ops", "host": "web1", "at": "1970-01-01T00:00:00Z",
            "version": env!("CARGO_PKG_VERSION"), "restored": false, "ended": null, "others": []});
        whole.as_object_mut().unwrap().extend(want.as_object().unwrap().clone());
        assert_eq!(serde_json::from_str::<Value>(&message.json()).unwrap(), whole);
    }

    #[test]
    fn a_program_is_told_what_has_happened() {
        let until = Some(Timestamp::from_secs(3600));
        let ban = manual("192.0.2.1".parse().unwrap(), Timestamp::default(), until, "x\nOK");
        let mut keys = json!({"address": "192.0.2.1", "jail": "manual", "kind": "manual", "mode": "enforce", "ports": [],
            "since": "1970-01-01T00:00:00Z", "until": "1970-01-01T01:00:00Z", "left": 3000, "times": 1,
            "reason": "x\nOK", "event": "ban", "text": "banned 192.0.2.1 for 1h (manual, time 1): x\u{fffd}OK"});
        check(Event::Banned(ban.clone()), keys.clone());
        (keys["event"], keys["text"]) = ("unban".into(), "unbanned 192.0.2.1 (manual): lifted".into());
        (keys["ended"], keys["others"]) = ("lifted".into(), json!(["sshd"]));
        check(
            Event::Unbanned { ban: ban.clone(), ended: "lifted", others: vec!["sshd".into()] },
            keys.clone(),
        );
        keys["text"] = "would ban 192.0.2.1 for 1h (manual, time 1): x\u{fffd}OK".into();
        (keys["event"], keys["ended"]) = ("observed".into(), Value::Null);
        (keys["mode"], keys["others"]) = ("observe".into(), json!([]));
        check(Event::Banned(ban.with(|ban| ban.mode = Mode::Observe)), keys);
        check(
            Event::Trouble("no\nset".to_owned()),
            json!({"event": "trouble", "text": "trouble: no\u{fffd}set"}),
        );
        check(Event::Recovered, json!({"event": "recovered", "text": "bans are enforced again"}));
        let repaired = json!({"event": "repair", "text": "repaired in the kernel: x"});
        check(Event::Repaired("x".to_owned()), repaired);
    }
}
