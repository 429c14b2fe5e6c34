//! The receivers of notifications. A receiver takes its missing keys from `[notify]`.

use std::path::PathBuf;
use std::sync::Arc;

use hyper::Uri;
use hyper::header::HeaderMap;

use super::value;
use super::written::TableReader;
use crate::model::Span;

/// A receiver of notifications.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receiver {
    /// Its name, in metrics and `status`.
    pub name: Arc<str>,
    /// The channel of delivery.
    pub channel: NotifyChannel,
    /// What to send; at least one.
    pub topics: Vec<Topic>,
    /// Bans of these jails only; all if empty.
    pub jails: Vec<String>,
    /// Digests, or a message for each event.
    pub grouping: Grouping,
    /// How long a delivery may take.
    pub timeout: Span,
}

/// How much goes into a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grouping {
    /// All that has happened for a while.
    Digests(DigestPace),
    /// One event, at once.
    Each(EachPace),
}

/// How often a digest is sent, and how long it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DigestPace {
    /// How long the first news of a quiet time waits for more.
    pub delay: Span,
    /// The least time between two messages.
    pub every: Span,
    /// How many of each kind a message lists; it counts the rest.
    pub at_most: usize,
}

/// How fast single events are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EachPace {
    /// How many deliveries may be under way at once; at least one.
    pub concurrency: usize,
    /// How many may begin within a minute; any number if `None`.
    pub per_minute: Option<usize>,
}

/// A channel of delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotifyChannel {
    /// JSON, posted to an address.
    Webhook {
        /// Where to.
        url: Uri,
        /// What stands in the request's head besides.
        headers: HeaderMap,
        /// The file with the token that goes along, if any.
        token_file: Option<PathBuf>,
    },
    /// A program and its arguments; JSON on standard input.
    Command(Vec<String>),
    /// Mail.
    Mail {
        /// The recipient.
        to: String,
        /// The sender; up to the mail system if `None`.
        from: Option<String>,
        /// The program that takes it.
        sendmail: PathBuf,
    },
}

/// What can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// Bans.
    Ban,
    /// Their ends.
    Unban,
    /// That bans are not enforced, and are again.
    Trouble,
    /// Repairs of the kernel's sets and rules.
    Repair,
}

/// What receivers inherit, each part by itself.
#[derive(Clone, Default)]
struct DigestOptions {
    topics: Option<Vec<Topic>>,
    jails: Option<Vec<String>>,
    delay: Option<Span>,
    every: Option<Span>,
    at_most: Option<usize>,
    timeout: Option<Span>,
    sendmail: Option<PathBuf>,
}

impl DigestOptions {
    fn read(t: &mut TableReader<'_, '_>, inherited: Self, jails: &[&str]) -> Self {
        let topics = ["ban", "unban", "trouble", "repair"];
        let topic = |value: &_| {
            value::one_of("`ban`, `unban`, `trouble` or `repair`", &topics, value).map(|topic| match topic {
                "ban" => Topic::Ban,
                "unban" => Topic::Unban,
                "trouble" => Topic::Trouble,
                _ => Topic::Repair,
            })
        };
        let jail = |value: &_| value::one_of("a jail", jails, value).map(str::to_owned);
        let read = Self {
            topics: t.list_or("events", inherited.topics, topic),
            jails: t.list_or("jails", inherited.jails, jail),
            delay: t.value_or("delay", inherited.delay, value::time_or_none),
            every: t.value_or("every", inherited.every, value::time),
            at_most: t.value_or("at-most", inherited.at_most, value::whole(1..=1000)),
            timeout: t.value_or("timeout", inherited.timeout, value::time),
            sendmail: t.value_or("sendmail", inherited.sendmail, value::path),
        };
        if read.topics.as_ref().is_some_and(Vec::is_empty) {
            t.fault(Some("events"), "`events` is empty: nothing would be sent".to_owned());
        }
        read
    }
}

/// The receivers in the table `[notify]`, given the names of the jails.
pub(super) fn receivers(t: &mut TableReader<'_, '_>, jails: &[String]) -> Option<Vec<Arc<Receiver>>> {
    let jails: Vec<&str> = jails.iter().map(String::as_str).collect();
    let options = DigestOptions::read(t, DigestOptions::default(), &jails);
    t.others(|name, t| receiver(name, t, options.clone(), &jails).map(Arc::new))
}

fn receiver(
    name: &str,
    t: &mut TableReader<'_, '_>,
    inherited: DigestOptions,
    jails: &[&str],
) -> Option<Receiver> {
    if !value::is_name(name) {
        t.fault(None, "a receiver's name can have letters, digits, `-`, `_` and `.` only".to_owned());
    }
    let options = DigestOptions::read(t, inherited, jails);
    let url = t.value_or("webhook", None, value::url);
    let headers = t.list("headers", value::header);
    let token_file = t.value_or("token-file", Some(None), |v| value::path(v).map(Some));
    let command = t.list("command", value::text);
    let to = t.value_or("mail", None, value::mailbox);
    let from = t.value_or("from", Some(None), |v| value::mailbox(v).map(Some));
    let grouping = grouping(t, &options);
    if command.iter().flatten().next().is_some_and(|program| !program.starts_with('/')) {
        t.fault(Some("command"), "`command` must begin with an absolute path".to_owned());
    }
    let (headers, token_file, command) = (headers?.into_iter().collect(), token_file?, command?);
    let channel = match (t.has("webhook"), !command.is_empty(), t.has("mail")) {
        (true, false, false) => NotifyChannel::Webhook { url: url?, headers, token_file },
        (false, true, false) => NotifyChannel::Command(command),
        (false, false, true) => NotifyChannel::Mail { to: to?, from: from?, sendmail: options.sendmail? },
        _ => {
            t.fault(None, format!("`{name}` needs one of `webhook`, `command` and `mail`"));
            return None;
        }
    };
    let grouping = grouping?;
    if let Grouping::Each(_) = grouping {
        match channel {
            NotifyChannel::Webhook { .. } => {}
            NotifyChannel::Command(_) if t.has("concurrency") => {
                let why = "`concurrency` is for `webhook`: a program with `each` gets one event at a time";
                t.fault(Some("concurrency"), why.to_owned());
            }
            NotifyChannel::Command(_) => {}
            NotifyChannel::Mail { .. } => {
                let why = "`each` is not for `mail`: a flood of bans would be a flood of mail";
                t.fault(Some("each"), why.to_owned());
            }
        }
    }
    Some(Receiver {
        name: name.into(),
        channel,
        topics: options.topics?,
        jails: options.jails?,
        grouping,
        timeout: options.timeout?,
    })
}

/// Digests, or a message for each event. A key that is for the other one is a fault.
fn grouping(t: &mut TableReader<'_, '_>, options: &DigestOptions) -> Option<Grouping> {
    let each = t.value_or("each", Some(false), value::flag);
    // A program gets one event at a time.
    let usual = if t.has("webhook") { 4 } else { 1 };
    let concurrency = t.value_or("concurrency", Some(usual), value::whole(1..=64));
    let per_minute = t.value_or("per-minute", Some(None), |v| value::whole(1..=10_000)(v).map(Some));
    let each = each?;
    let (unfit, why) = match each {
        true => (&["delay", "every", "at-most"][..], "is for digests, not for `each`"),
        false => (&["concurrency", "per-minute"][..], "needs `each = true`"),
    };
    for key in unfit {
        if t.has(key) {
            t.fault(Some(key), format!("`{key}` {why}"));
        }
    }
    Some(if each {
        Grouping::Each(EachPace { concurrency: concurrency?, per_minute: per_minute? })
    } else {
        Grouping::Digests(DigestPace {
            delay: options.delay?,
            every: options.every?,
            at_most: options.at_most?,
        })
    })
}
