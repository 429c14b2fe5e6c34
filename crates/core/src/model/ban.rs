//! Bans, and what is decided about them.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Offender, Port, Span, Timestamp};

/// What brought a ban about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum BanOrigin {
    /// A jail's threshold.
    Auto,
    /// An operator's command.
    Manual,
    /// Enough banned offenders in one prefix.
    Wide,
    /// Another host of the fleet.
    Peer,
}

impl BanOrigin {
    /// Its name, in metrics and in the ledger.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Manual => "manual",
            Self::Wide => "wide",
            Self::Peer => "peer",
        }
    }
}

/// Whether bans are carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// They are.
    #[default]
    Enforce,
    /// They are decided, counted, logged and listed, but not enforced.
    Observe,
}

impl Mode {
    /// Its name, in the configuration, in metrics and in the ledger.
    pub fn name(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Observe => "observe",
        }
    }
}

/// A ban: who, how long, and its [terms](BanTerms), which can be read and changed as if they were its own.
///
/// There may be a million of them: 48 bytes each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ban {
    /// The offender.
    pub offender: Offender,
    /// How many bans this offender has had from this jail, this one included.
    pub times: u32,
    /// Since when.
    pub since: Timestamp,
    /// Until when; forever if `None`.
    pub until: Option<Timestamp>,
    /// The rest, which most bans have in common with others.
    pub terms: Arc<BanTerms>,
}

/// What a ban has in common with others of its jail: where and why.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BanTerms {
    /// The jail that decided it; `manual` for an operator's ban, `wide` for that of a prefix, `fleet:HOST` for that of
    /// another host.
    pub jail: Arc<str>,
    /// Threshold, command, prefix or peer.
    pub kind: BanOrigin,
    /// Whether it is carried out.
    pub mode: Mode,
    /// The ports it is limited to; all where empty.
    pub ports: Arc<[Port]>,
    /// The operator's words, or what was counted.
    pub reason: Arc<str>,
}

impl Deref for Ban {
    type Target = BanTerms;

    fn deref(&self) -> &BanTerms {
        &self.terms
    }
}

/// Others that have the same terms keep them.
impl DerefMut for Ban {
    fn deref_mut(&mut self) -> &mut BanTerms {
        Arc::make_mut(&mut self.terms)
    }
}

impl Ban {
    /// The same ban on terms that are changed.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut BanTerms)) -> Self {
        change(&mut self);
        self
    }

    /// The same ban, dated earlier by this much.
    pub fn shift_back(&mut self, by: Span) {
        (self.since, self.until) = (self.since - by, self.until.map(|until| until - by));
    }

    /// Which of these [bans of prefixes](Decision::wide) takes the place of this one, if one does: it began later.
    pub fn widened<'d>(&self, wide: &[&'d Ban]) -> Option<&'d Ban> {
        let takes = |wide: &&&Ban| {
            wide.offender != self.offender
                && wide.offender.contains(self.offender)
                && wide.since >= self.since
        };
        wide.iter().find(takes).copied()
    }
}

impl fmt::Display for Ban {
    /// A sentence for people: `banned 192.0.2.1 for 1h (sshd, time 1): 5 offences within 10m`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.mode == Mode::Enforce { "banned" } else { "would ban" };
        write!(f, "{verb} {}", self.offender)?;
        if !self.ports.is_empty() {
            let ports: Vec<String> = self.ports.iter().map(Port::to_string).collect();
            write!(f, " from ports {}", ports.join(" "))?;
        }
        match self.until {
            Some(until) => write!(f, " for {}", until.since(self.since))?,
            None => f.write_str(" forever")?,
        }
        write!(f, " ({}, time {})", self.jail, self.times)?;
        if self.reason.is_empty() { Ok(()) } else { write!(f, ": {}", self.reason) }
    }
}

/// An operator's word that somebody is not to be banned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// The offender.
    pub offender: Offender,
    /// Since when.
    pub since: Timestamp,
    /// Until when; forever if `None`.
    pub until: Option<Timestamp>,
    /// The operator's words; may be empty.
    pub comment: Arc<str>,
}

impl Allowance {
    /// The same word, dated earlier by this much.
    pub fn shift_back(&mut self, by: Span) {
        (self.since, self.until) = (self.since - by, self.until.map(|until| until - by));
    }

    /// For how long it was said, for people.
    pub fn until_when(&self) -> String {
        self.until.map_or("forever".to_owned(), |until| format!("for {}", until.since(self.since)))
    }
}

/// Something decided and not yet done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Keep this offender out.
    Ban(Ban),
    /// Let this ban's offender in again.
    Unban(Ban),
}

impl Decision {
    /// The bans of prefixes among what was decided together.
    pub fn wide(together: &[Decision]) -> Vec<&Ban> {
        let wide = together.iter().filter_map(|decision| match decision {
            Self::Ban(ban) if ban.kind == BanOrigin::Wide => Some(ban),
            _ => None,
        });
        wide.collect()
    }

    /// The ban that it is about.
    pub fn ban(&self) -> &Ban {
        match self {
            Self::Ban(ban) | Self::Unban(ban) => ban,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ban_takes_48_bytes() {
        assert_eq!((size_of::<Ban>(), size_of::<Option<Ban>>(), size_of::<Decision>()), (48, 48, 56));
    }
}
