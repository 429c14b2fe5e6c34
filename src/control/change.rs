//! Changes that operators ask for, as they travel, and their results.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::taken::PageBan;
use crate::config::parse_span;
use crate::model::{Ban, Offender, Span};

/// A change that an operator asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum ChangeRequest {
    /// Ban an offender, on all ports.
    Ban {
        /// The offender.
        address: Offender,
        /// For how long. If `None`, a ban by hand that is there keeps its end, and a new one has none.
        #[serde(default, rename = "for")]
        length: Option<BanLength>,
        /// The operator's words. If empty, a ban by hand that is there keeps its own.
        #[serde(default)]
        reason: String,
    },
    /// Put a ban in force again, with its jail, ports, beginning and number, as an exported list has it.
    Restore(#[serde(serialize_with = "write_ban", deserialize_with = "read_ban")] Box<Ban>),
    /// Lift bans.
    Unban(Target),
    /// Exempt an offender, and lift its bans.
    Allow {
        /// The offender.
        address: Offender,
        /// For how long; as with a ban.
        #[serde(default, rename = "for")]
        length: Option<BanLength>,
        /// The operator's words; as with a ban.
        #[serde(default)]
        comment: String,
    },
    /// Remove that exemption.
    Disallow {
        /// The offender.
        address: Offender,
    },
}

fn write_ban<S: Serializer>(ban: &Ban, serializer: S) -> Result<S::Ok, S::Error> {
    PageBan::new(ban).serialize(serializer)
}

fn read_ban<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Box<Ban>, D::Error> {
    Ok(Box::new(PageBan::deserialize(deserializer)?.ban(None)))
}

/// Which bans to lift.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// Those of exactly this offender, from whatever jail.
    #[serde(rename = "address")]
    One(Offender),
    /// That of one jail on exactly this offender.
    Of {
        /// The offender.
        address: Offender,
        /// The jail.
        jail: String,
    },
    /// Those of this offender and of all inside it.
    Inside(Offender),
    /// Those of this jail, which need not be configured.
    Jail(String),
    /// All.
    All,
}

impl Target {
    /// Whether it is about this ban.
    pub fn takes(&self, ban: &Ban) -> bool {
        match self {
            Self::One(who) => ban.offender == *who,
            Self::Of { address, jail } => ban.offender == *address && *ban.jail == **jail,
            Self::Inside(who) => who.contains(ban.offender),
            Self::Jail(jail) => *ban.jail == **jail,
            Self::All => true,
        }
    }
}

/// Changes, [`MOST_BANS`](super::server::MOST_BANS) at the most.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangePage {
    /// The changes.
    pub changes: Vec<ChangeRequest>,
    /// Whether to ban or exempt what is wider than /8 or /32, or ban an address of somebody who is logged in.
    #[serde(default)]
    pub force: bool,
    /// The address that the operator is logged in from, if the client knows it.
    #[serde(default)]
    pub operator: Option<IpAddr>,
    /// Which list it is a page of, as [`list_id`] drew it; a command of its own if `None`.
    #[serde(default)]
    pub list: Option<u64>,
}

impl From<ChangeRequest> for ChangePage {
    fn from(change: ChangeRequest) -> Self {
        Self { changes: vec![change], ..Self::default() }
    }
}

/// What tells the pages of one list from those of another.
pub fn list_id() -> u64 {
    // Seeded at random by the system.
    RandomState::new().hash_one(std::process::id())
}

/// How long a ban or an exemption lasts; forever if `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BanLength(pub Option<Span>);

impl FromStr for BanLength {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "forever" => Ok(Self(None)),
            // As fail2ban has it.
            "-1" => Err("write `forever` for what has no end"),
            _ if parse_span(text) == Some(Span::ZERO) => Err("a time must be longer than 0"),
            _ => match parse_span(text).filter(|span| *span > Span::ZERO) {
                Some(span) => Ok(Self(Some(span))),
                None => Err("write a time such as `10m`, `1h 30m`, `2d`, a number of seconds, or `forever`"),
            },
        }
    }
}

impl Serialize for BanLength {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(span) => serializer.collect_str(&span.as_secs_ceil()),
            None => serializer.serialize_str("forever"),
        }
    }
}

impl<'de> Deserialize<'de> for BanLength {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(|what| serde::de::Error::custom(format!("`{text}` is not a time; {what}")))
    }
}

/// The results of changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ChangeReport {
    /// How many bans and exemptions were added, changed or removed.
    pub changed: u64,
    /// How many there were of each kind, by the names of `notes[].kind`.
    #[serde(default)]
    pub counts: BTreeMap<ChangeKind, u64>,
    /// The command that `undo` took back, and how long ago it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undone: Option<String>,
    /// What was done, for people; the first 20 of each kind.
    #[serde(default)]
    pub notes: Vec<ChangeNote>,
}

/// A command that `undo` can take back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UndoLine {
    /// As an operator would write it.
    pub command: String,
    /// When it was carried out, in RFC 3339.
    pub at: String,
    /// Whole seconds since then.
    pub ago: u64,
    /// How many bans and exemptions it changed; too many to be taken back if `None`.
    pub changes: Option<u64>,
}

/// The result of one change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ChangeNote {
    /// Its kind.
    pub kind: ChangeKind,
    /// A sentence.
    pub text: String,
}

/// What became of a ban or an exemption.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// It was not there before.
    New,
    /// It ends later than before.
    Extended,
    /// It ends earlier than before.
    Shortened,
    /// It has another reason or comment, and its end as before.
    Reworded,
    /// It was so already.
    Unchanged,
    /// A ban was lifted.
    Lifted,
    /// An exemption was removed.
    Removed,
    /// There was nothing to lift or remove.
    Absent,
    /// A ban inside the prefix, which stays.
    Inside,
    /// `undo` put it back.
    Restored,
    /// It cannot be put back: it is over by now.
    Over,
    /// It cannot be put back: its address is exempt.
    Exempt,
    /// Bans that were only observed before are enforced.
    Enforced,
    /// Bans that were enforced before are only observed.
    Observed,
    /// Bans of a jail that is turned off, which stay.
    Orphaned,
    /// It was refused.
    Refused,
    /// The kernel has not taken it; it is tried again.
    Unenforced,
    /// The ledger has not got it; it is written as soon as that is possible.
    Unwritten,
}

impl ChangeKind {
    /// Whether something is otherwise now.
    fn is_change(self) -> bool {
        !matches!(
            self,
            Self::Unchanged
                | Self::Absent
                | Self::Inside
                | Self::Over
                | Self::Exempt
                | Self::Orphaned
                | Self::Refused
                | Self::Unenforced
                | Self::Unwritten
        )
    }

    /// Whether it says what is missing of what was done.
    pub fn is_warning(self) -> bool {
        matches!(self, Self::Unenforced | Self::Unwritten)
    }

    /// For people, behind a number.
    pub fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Extended => "extended",
            Self::Shortened => "shortened",
            Self::Reworded => "with another reason",
            Self::Unchanged => "unchanged",
            Self::Lifted => "lifted",
            Self::Removed => "removed",
            Self::Absent => "not there",
            Self::Inside => "inside",
            Self::Restored => "restored",
            Self::Over => "over by now",
            Self::Exempt => "exempt",
            Self::Enforced => "enforced now",
            Self::Observed => "only observed now",
            Self::Orphaned => "of jails that are off",
            Self::Refused => "refused",
            Self::Unenforced => "not enforced",
            Self::Unwritten => "not in the ledger",
        }
    }
}

/// How many notes of a kind are kept.
const MOST_NOTES: usize = 20;

impl ChangeReport {
    /// Counts so many of a kind.
    pub fn count(&mut self, kind: ChangeKind, times: u64) {
        if times > 0 {
            *self.counts.entry(kind).or_default() += times;
            self.changed += if kind.is_change() { times } else { 0 };
        }
    }

    /// Adds a note, if there is room.
    pub fn note(&mut self, kind: ChangeKind, text: impl FnOnce() -> String) {
        if self.notes.iter().filter(|note| note.kind == kind).count() < MOST_NOTES {
            self.notes.push(ChangeNote { kind, text: text() });
        }
    }

    /// Counts one, and adds a note.
    pub fn add(&mut self, kind: ChangeKind, text: impl FnOnce() -> String) {
        self.count(kind, 1);
        self.note(kind, text);
    }

    /// How many there are of a kind.
    pub fn of(&self, kind: ChangeKind) -> u64 {
        self.counts.get(&kind).copied().unwrap_or_default()
    }

    /// What is missing of what was done, for people.
    pub fn warnings(&self) -> impl Iterator<Item = &ChangeNote> {
        self.notes.iter().filter(|note| note.kind.is_warning())
    }

    /// Adds the results of others.
    pub fn join(&mut self, other: Self) {
        other.counts.into_iter().for_each(|(kind, times)| self.count(kind, times));
        other.notes.into_iter().for_each(|note| self.note(note.kind, || note.text));
    }

    /// For people: `12 new, 3 extended`.
    pub fn summary(&self) -> String {
        let counts = self.counts.iter().map(|(kind, times)| format!("{times} {}", kind.name()));
        counts.collect::<Vec<_>>().join(", ")
    }
}
