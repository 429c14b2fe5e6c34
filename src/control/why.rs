//! The daemon's answer to `why`. The detector contributes bans and counts, the ledger the lines behind them, the kernel
//! its elements.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::BanLine;
use super::bans::waits;
use crate::detect::{AddressState, Exemption, JailState};
use crate::grammar::{self, Grammar, Grammars};
use crate::kernel::{ElementState, PacketCounters};
use crate::model::plain;
use crate::model::{Mode, Offender, Timestamp};
use crate::store::OffenceLine;

/// The most lines that are shown of one ban.
pub const MOST_LINES: u8 = 20;

/// Why an address is banned, or why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Why {
    /// The requested address.
    pub address: Offender,
    /// The offender that its offences count for.
    pub offender: Offender,
    /// Whether an enforced ban covers it.
    pub banned: bool,
    /// The bans on it, on prefixes around it, and on addresses in it; at most 100.
    pub bans: Vec<BanWhy>,
    /// The counts of each jail.
    pub jails: Vec<JailWhy>,
    /// Its exemptions from all jails, for people.
    pub protected: Vec<String>,
    /// Its elements in the kernel's sets, and those around and in it; at most 100 of each set. `None` if nothing is
    /// enforced, or the kernel did not answer.
    pub kernel: Option<Vec<ElementWhy>>,
    /// Missing information, for people.
    pub unknown: Vec<String>,
    /// The files with the countries and networks of addresses, as configured; the daemon does not read them.
    #[serde(default)]
    pub geoip: Vec<PathBuf>,
}

/// A ban, and how its length came about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BanWhy {
    /// The ban.
    #[serde(flatten)]
    pub ban: BanLine,
    /// The calculation by today's settings, such as `1h x 2^1 = 2h`; for bans of a jail only.
    pub formula: Option<String>,
    /// The lines that earned it, as far as they are kept; for bans of a jail only.
    pub lines: Vec<LineWhy>,
}

/// The counts of one jail for an offender.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct JailWhy {
    /// The jail.
    pub name: String,
    /// The offender that offences of the address count for.
    pub offender: Offender,
    /// Offences that count now.
    pub counted: u8,
    /// How many earn a ban.
    pub maxretry: u8,
    /// Within how long, for people.
    pub findtime: String,
    /// The time of the last, in RFC 3339.
    pub last: Option<String>,
    /// Earlier bans that still count.
    pub earlier: u32,
    /// How long the next ban lasts, with the calculation.
    pub next: String,
    /// Its exemption from this jail alone, for people.
    pub protected: Option<String>,
    /// The lines of the offences that count now, as far as they are kept.
    pub lines: Vec<LineWhy>,
}

/// A line that was counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LineWhy {
    /// The time, in RFC 3339.
    pub time: String,
    /// The offence's name in the grammar.
    pub offence: String,
    /// The grammar.
    pub grammar: String,
    /// The line in its file where the rule stood.
    pub rule: u32,
    /// That line, if the rule there still reads the message.
    pub written: Option<String>,
    /// The message, or its first 512 bytes. Strangers wrote some of it: escape it before you show it.
    pub message: String,
    /// The text in the rule's fields. Escape it too.
    pub fields: Vec<FieldWhy>,
}

/// A field of a rule and its text in a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FieldWhy {
    /// Its name in the rule.
    pub name: Option<String>,
    /// Its kind, such as `ip` or `word`.
    pub kind: String,
    /// Where in the message it begins, in bytes.
    pub from: usize,
    /// Where it ends.
    pub to: usize,
    /// Its text.
    pub text: String,
}

/// An element as the kernel holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ElementWhy {
    /// The name of the set.
    pub set: String,
    /// Its address or prefix, with the port if it is limited to one: `192.0.2.1 22/tcp`.
    pub element: String,
    /// The seconds left; forever if `None`.
    pub left: Option<u32>,
    /// How many packets it has dropped since it was added or renewed; `None` if the set does not count them.
    pub packets: Option<u64>,
    /// How many bytes, in the same way.
    pub bytes: Option<u64>,
}

impl Why {
    /// The account of `address` at `now`, without what ledger and kernel know; `say` puts an exemption into words, and the
    /// bans of those in `waiting` wait for room in the kernel.
    pub fn new(
        address: Offender,
        account: &AddressState<'_>,
        say: impl Fn(&Exemption) -> String,
        waiting: &HashSet<Offender>,
        now: Timestamp,
    ) -> Self {
        let bans = account.bans.iter();
        let jail = |state: &JailState| JailWhy {
            name: state.jail.to_string(),
            offender: state.offender,
            counted: state.counted,
            maxretry: state.max_retry.get(),
            findtime: state.find_time.to_string(),
            last: state.last.map(|at| at.to_string()),
            earlier: state.earlier,
            next: state.next.to_string(),
            protected: state.exemption.as_ref().map(&say),
            lines: Vec::new(),
        };
        Self {
            address,
            offender: account.offender,
            banned: bans.clone().any(|(ban, _)| ban.mode == Mode::Enforce && ban.offender.contains(address)),
            bans: bans
                .map(|(ban, formula)| BanWhy {
                    ban: BanLine { waits: waits(waiting, ban), ..BanLine::new(ban, now) },
                    formula: formula.as_ref().map(ToString::to_string),
                    lines: Vec::new(),
                })
                .collect(),
            jails: account.jails.iter().map(jail).collect(),
            protected: account.exemptions.iter().map(&say).collect(),
            kernel: None,
            unknown: Vec::new(),
            geoip: Vec::new(),
        }
    }
}

impl LineWhy {
    /// How a line is shown that one of these grammars read, when they were as they are now or before.
    pub fn new(line: &OffenceLine, grammars: &Grammars) -> Self {
        let grammar = grammars.iter().find(|grammar| grammar.name() == line.grammar);
        let found = grammar.and_then(|grammar: &Grammar| grammar.read(&line.message));
        let found = found.filter(|found| found.line() == line.rule && found.category() == line.category);
        Self {
            time: line.time.to_string(),
            offence: line.category.clone(),
            grammar: line.grammar.clone(),
            rule: line.rule,
            written: found.as_ref().map(|found| found.written().to_owned()),
            message: String::from_utf8_lossy(&line.message).into_owned(),
            fields: found
                .iter()
                .flat_map(|found| found.field_texts(&line.message))
                .map(FieldWhy::from)
                .collect(),
        }
    }
}

impl From<grammar::FieldText<'_, '_>> for FieldWhy {
    fn from(held: grammar::FieldText<'_, '_>) -> Self {
        let (name, kind) = (held.name.map(str::to_owned), held.kind.to_owned());
        Self {
            name,
            kind,
            from: held.from,
            to: held.to,
            text: String::from_utf8_lossy(&held.text).into_owned(),
        }
    }
}

impl fmt::Display for FieldWhy {
    /// For people: `user     20..24    `root``, and nothing that a terminal would obey.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, kind, from, to, text } = self;
        let (name, text) = (name.as_ref().unwrap_or(kind), plain(text));
        write!(f, "{name:<8} {:<9} `{text}`", format!("{from}..{to}"))
    }
}

impl From<ElementState> for ElementWhy {
    fn from(held: ElementState) -> Self {
        let ElementState { set, element, left, counters } = held;
        let (packets, bytes) = counters.map(|PacketCounters { packets, bytes }| (packets, bytes)).unzip();
        Self { set, element: element.to_string(), left, packets, bytes }
    }
}
