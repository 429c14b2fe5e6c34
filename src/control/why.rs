//! What the daemon answers to `why`: all that it goes by with one address.
//!
//! It stands apart from the other replies because it is the longest. The lines that were counted are not in it.
//!
//! Nothing here reads a clock, and nothing here decides.

use serde::{Deserialize, Serialize};

use super::{BanLine, rfc3339};
use crate::detect::{Account, Guard, Standing};
use crate::model::{Mode, Offender, Timestamp};

/// Why an address is banned, or why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
}

/// A ban, and how its length came about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BanWhy {
    /// The ban.
    #[serde(flatten)]
    pub ban: BanLine,
    /// The arithmetic by today's settings, such as `1h x 2^1 = 2h`; for bans of a jail only.
    pub reckoning: Option<String>,
}

/// What one jail has against an offender.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JailWhy {
    /// The jail.
    pub name: String,
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
}

impl Why {
    /// The account of `address` at `now`.
    pub fn new(address: Offender, account: &Account<'_>, now: Timestamp) -> Self {
        let bans = account.bans.iter();
        let jail = |standing: &Standing| JailWhy {
            name: standing.jail.to_string(),
            counted: standing.counted,
            maxretry: standing.max_retry.get(),
            findtime: standing.find_time.to_string(),
            last: standing.last.map(rfc3339),
            earlier: standing.earlier,
            next: standing.next.to_string(),
            protected: standing.guard.as_ref().map(Guard::to_string),
        };
        Self {
            address,
            offender: account.offender,
            banned: bans.clone().any(|(ban, _)| ban.mode == Mode::Enforce && ban.offender.contains(address)),
            bans: bans
                .map(|(ban, reckoning)| BanWhy {
                    ban: BanLine::new(ban, now),
                    reckoning: reckoning.as_ref().map(ToString::to_string),
                })
                .collect(),
            jails: account.jails.iter().map(jail).collect(),
            protected: account.guards.iter().map(Guard::to_string).collect(),
        }
    }
}
