//! What receivers can be told: the events, who wants which, and their words.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::sync::Arc;

use crate::config::{Receiver, Topic};
use crate::model::{Ban, Mode, Offender, plain};

/// Something that somebody may want to know.
#[derive(Clone, Debug)]
pub enum Event {
    /// Somebody was banned.
    Banned(Ban),
    /// A ban that had begun before is in force again, or otherwise than before: with another end, reason or mode.
    Restored(Ban),
    /// A ban has ended.
    Unbanned {
        /// The ban.
        ban: Ban,
        /// Why it ended: `expired`, `lifted` or `replaced`.
        ended: &'static str,
        /// The jails that still ban this offender.
        others: Vec<Arc<str>>,
    },
    /// This keeps bans from being enforced.
    Trouble(String),
    /// That is over.
    Recovered,
    /// This was repaired in the kernel.
    Repaired(String),
}

/// The longest line of a message, in characters: mail has room for 998 bytes (RFC 5322, 2.1.1).
pub(super) const LONGEST: usize = 240;

impl Event {
    fn topic(&self) -> Topic {
        match self {
            Self::Banned(_) | Self::Restored(_) => Topic::Ban,
            Self::Unbanned { .. } => Topic::Unban,
            Self::Trouble(_) | Self::Recovered => Topic::Trouble,
            Self::Repaired(_) => Topic::Repair,
        }
    }

    /// The ban that it is about, if it is about one.
    pub(super) fn ban(&self) -> Option<&Ban> {
        match self {
            Self::Banned(ban) | Self::Restored(ban) | Self::Unbanned { ban, .. } => Some(ban),
            _ => None,
        }
    }

    /// The party that it is about, if it is about one.
    pub(super) fn offender(&self) -> Option<Offender> {
        self.ban().map(|ban| ban.offender)
    }

    /// Whether this receiver asked for it.
    pub fn is_for(&self, receiver: &Receiver) -> bool {
        let Receiver { topics, jails, .. } = receiver;
        let is_one = |ban: &Ban| jails.iter().any(|name| **name == *ban.jail);
        let wanted = jails.is_empty() || self.ban().is_none_or(is_one);
        // What blocked nothing has no end that matters.
        let matters = !matches!(self, Self::Unbanned { ban, .. } if ban.mode == Mode::Observe);
        wanted && matters && topics.contains(&self.topic())
    }

    /// One line for people.
    pub fn line(&self) -> String {
        line(&match self {
            Self::Banned(ban) => ban.to_string(),
            Self::Restored(ban) => {
                let (who, jail, reason) = (ban.offender, &ban.jail, &ban.reason);
                let is = if ban.mode == Mode::Observe { "only observed" } else { "in force" };
                format!(
                    "the ban on {who} ({jail}) is {is}{}{reason}",
                    if reason.is_empty() { "" } else { ": " }
                )
            }
            Self::Unbanned { ban, ended, .. } => {
                format!("unbanned {} ({}): {ended}", ban.offender, ban.jail)
            }
            Self::Trouble(what) => format!("trouble: {what}"),
            Self::Recovered => RECOVERED.to_owned(),
            Self::Repaired(what) => format!("repaired in the kernel: {what}"),
        })
    }
}

/// That trouble is over.
pub(super) const RECOVERED: &str = "bans are enforced again";

/// On one line, and not too long.
pub(super) fn line(text: &str) -> String {
    let text = plain(text);
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text,
    }
}
