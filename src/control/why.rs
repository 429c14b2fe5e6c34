//! What the daemon answers to `why`: all that it goes by with one address.
//!
//! It stands apart from the other replies because it is the longest, and because three have a part in it: the detector
//! knows bans and counts, the ledger the lines behind them, the kernel what it holds.
//!
//! Nothing here reads a clock, and nothing here decides or asks anybody.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{BanLine, rfc3339};
use crate::detect::{Account, Guard, Standing};
use crate::grammar::{self, Grammar, Grammars};
use crate::kernel::{Held, Met};
use crate::model::plain;
use crate::model::{Mode, Offender, Timestamp};
use crate::store::Line;

/// Why an address is banned, or why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Why {
    /// What was asked for.
    pub address: Offender,
    /// Whom the jails hold to account for it.
    pub offender: Offender,
    /// Whether a ban covers it that is carried out.
    pub banned: bool,
    /// The bans on it, on what lies around it, and on what lies in it; at most 100.
    pub bans: Vec<BanWhy>,
    /// What each jail has against it.
    pub jails: Vec<JailWhy>,
    /// What protects it from all jails, for people.
    pub protected: Vec<String>,
    /// What the kernel's sets hold of it, of what lies around it and in it; of each set at most 100 elements. `None`
    /// where nothing is enforced, or nobody knows.
    pub kernel: Option<Vec<HeldWhy>>,
    /// What could not be found out, for people.
    pub unknown: Vec<String>,
}

/// A ban, and how its length came about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BanWhy {
    /// The ban.
    #[serde(flatten)]
    pub ban: BanLine,
    /// The arithmetic by today's settings, such as `1h x 2^1 = 2h`; for bans of a jail only.
    pub reckoning: Option<String>,
    /// The lines that earned it, as far as they are kept; for bans of a jail only.
    pub lines: Vec<LineWhy>,
}

/// What one jail has against an offender.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct JailWhy {
    /// The jail.
    pub name: String,
    /// Whom it holds to account for the address.
    pub offender: Offender,
    /// Offences that count now.
    pub counted: u8,
    /// How many earn a ban.
    pub maxretry: u8,
    /// Within how long, for people.
    pub findtime: String,
    /// When the last of them was, as RFC 3339 writes it.
    pub last: Option<String>,
    /// Earlier bans that still count.
    pub earlier: u32,
    /// How long the next ban would last, with the arithmetic.
    pub next: String,
    /// What protects it from this jail alone, for people.
    pub protected: Option<String>,
    /// The lines that tell of the offences that count now, as far as they are kept.
    pub lines: Vec<LineWhy>,
}

/// A line that was counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LineWhy {
    /// When, as RFC 3339 writes it.
    pub time: String,
    /// What the grammar calls it.
    pub offence: String,
    /// The grammar.
    pub grammar: String,
    /// The line in its file where the rule stood.
    pub rule: u32,
    /// That line, if the rule there still reads the message.
    pub written: Option<String>,
    /// The message, or its first 512 bytes. Strangers wrote some of it: escape it before you show it.
    pub message: String,
    /// What the rule's holes held, likewise.
    pub holes: Vec<Hole>,
}

/// A hole of a rule and what it held in a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Hole {
    /// What the rule calls it.
    pub name: Option<String>,
    /// What it is, such as `ip` or `word`.
    pub kind: String,
    /// Where in the message it begins, in bytes.
    pub from: usize,
    /// Where it ends.
    pub to: usize,
    /// What stands there.
    pub text: String,
}

/// An element as the kernel holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HeldWhy {
    /// The name of the set.
    pub set: String,
    /// Whom it keeps out, and from which port, if from one alone: `192.0.2.1 22/tcp`.
    pub element: String,
    /// For how many seconds; for ever if `None`.
    pub left: Option<u32>,
    /// How many packets it has kept out since it was put in or renewed; `None` where the set does not count them.
    pub packets: Option<u64>,
    /// How many bytes, likewise.
    pub bytes: Option<u64>,
}

impl Why {
    /// The account of `address` at `now`, without what ledger and kernel know.
    pub fn new(address: Offender, account: &Account<'_>, now: Timestamp) -> Self {
        let bans = account.bans.iter();
        let jail = |standing: &Standing| JailWhy {
            name: standing.jail.to_string(),
            offender: standing.offender,
            counted: standing.counted,
            maxretry: standing.max_retry.get(),
            findtime: standing.find_time.to_string(),
            last: standing.last.map(rfc3339),
            earlier: standing.earlier,
            next: standing.next.to_string(),
            protected: standing.guard.as_ref().map(Guard::to_string),
            lines: Vec::new(),
        };
        Self {
            address,
            offender: account.offender,
            banned: bans.clone().any(|(ban, _)| ban.mode == Mode::Enforce && ban.offender.contains(address)),
            bans: bans
                .map(|(ban, reckoning)| BanWhy {
                    ban: BanLine::new(ban, now),
                    reckoning: reckoning.as_ref().map(ToString::to_string),
                    lines: Vec::new(),
                })
                .collect(),
            jails: account.jails.iter().map(jail).collect(),
            protected: account.guards.iter().map(Guard::to_string).collect(),
            kernel: None,
            unknown: Vec::new(),
        }
    }
}

impl LineWhy {
    /// How a line is shown that one of these grammars read, when they were as they are now or before.
    pub fn new(line: &Line, grammars: &Grammars) -> Self {
        let grammar = grammars.iter().find(|grammar| grammar.name() == line.grammar);
        let found = grammar.and_then(|grammar: &Grammar| grammar.read(&line.message));
        let found = found.filter(|found| found.line() == line.rule && found.heading() == line.heading);
        Self {
            time: rfc3339(line.time),
            offence: line.heading.clone(),
            grammar: line.grammar.clone(),
            rule: line.rule,
            written: found.as_ref().map(|found| found.written().to_owned()),
            message: String::from_utf8_lossy(&line.message).into_owned(),
            holes: found.iter().flat_map(|found| found.held(&line.message)).map(Hole::from).collect(),
        }
    }
}

impl From<grammar::Held<'_, '_>> for Hole {
    fn from(held: grammar::Held<'_, '_>) -> Self {
        let (name, kind) = (held.name.map(str::to_owned), held.kind.to_owned());
        Self {
            name,
            kind,
            from: held.from,
            to: held.to,
            text: String::from_utf8_lossy(held.text).into_owned(),
        }
    }
}

impl fmt::Display for Hole {
    /// For people: `user     20..24    `root``, and nothing that a terminal would obey.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, kind, from, to, text } = self;
        let (name, text) = (name.as_ref().unwrap_or(kind), plain(text));
        write!(f, "{name:<8} {:<9} `{text}`", format!("{from}..{to}"))
    }
}

impl From<Held> for HeldWhy {
    fn from(held: Held) -> Self {
        let Held { set, element, left, met } = held;
        let (packets, bytes) = met.map(|Met { packets, bytes }| (packets, bytes)).unzip();
        Self { set, element: element.to_string(), left, packets, bytes }
    }
}
