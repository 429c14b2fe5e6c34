//! Bans that were decided elsewhere, as they travel and as they are counted.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::detect::{WIDE, is_by_hand};
use crate::model::{Ban, BanOrigin, BanTerms, Mode, Offender, Port, Timestamp, plain};

/// What became of bans that were decided elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TakenCounts {
    /// Bans in force since now.
    pub new: u64,
    /// Bans that were in force, and last longer now.
    pub extended: u64,
    /// Bans that were in force for at least as long already.
    pub covered: u64,
    /// Bans that are over, and only count for how long the next one lasts.
    pub past: u64,
    /// Bans left out, because their addresses are never banned here, or somebody logged in from there lately.
    pub exempt: u64,
    /// Bans left out, because they are not bans that can be in force here.
    pub refused: u64,
    /// Bans in force that are only observed, by the mode of their jail.
    pub observed: u64,
    /// What keeps bans from being enforced, if anything does: the last error of enforcement.
    #[serde(default)]
    pub error: Option<String>,
    /// Some that are exempt, refused or observed, and why; the first 20.
    pub examples: Vec<LeftOutBan>,
}

/// A ban that keeps its address out of nothing here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LeftOutBan {
    /// The address or prefix.
    pub address: Offender,
    /// The reason.
    pub why: String,
}

/// How many are named.
const MOST_EXAMPLES: usize = 20;

impl TakenCounts {
    /// Names a ban, if there is room.
    pub fn name(&mut self, address: Offender, why: impl FnOnce() -> String) {
        if self.examples.len() < MOST_EXAMPLES {
            self.examples.push(LeftOutBan { address, why: why() });
        }
    }

    /// Adds what became of others.
    pub fn add(&mut self, other: Self) {
        let Self { new, extended, covered, past, exempt, refused, observed, error, examples } = other;
        self.error = error;
        let sums = [&mut self.new, &mut self.extended, &mut self.covered, &mut self.past]
            .into_iter()
            .chain([&mut self.exempt, &mut self.refused, &mut self.observed]);
        for (sum, more) in sums.zip([new, extended, covered, past, exempt, refused, observed]) {
            *sum += more;
        }
        examples.into_iter().for_each(|one| self.name(one.address, || one.why));
    }

    /// How many bans are in force here, whether enforced or only observed.
    pub fn in_force(&self) -> u64 {
        self.new + self.extended + self.covered
    }
}

impl fmt::Display for TakenCounts {
    /// For people: `12 new, 3 extended, 1 exempt`, and the error.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} new", self.new)?;
        let others = [
            (self.extended, "extended"),
            (self.covered, "already in force"),
            (self.past, "past"),
            (self.exempt, "exempt"),
            (self.refused, "refused"),
            (self.observed, "only observed"),
        ];
        others
            .iter()
            .filter(|(bans, _)| *bans > 0)
            .try_for_each(|(bans, what)| write!(f, ", {bans} {what}"))?;
        self.error.iter().try_for_each(|error| write!(f, "; {}", plain(error)))
    }
}

/// The body of `POST /bans/page`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BanPage<'p> {
    #[serde(borrow)]
    pub(super) bans: Vec<PageBan<'p>>,
    /// Which list it is a page of; `undo` takes back all of them.
    #[serde(default)]
    pub(super) list: Option<u64>,
}

/// A ban on its page.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PageBan<'p> {
    address: Offender,
    #[serde(borrow)]
    jail: Cow<'p, str>,
    since: PageTime,
    /// Never if missing.
    #[serde(default)]
    until: Option<PageTime>,
    #[serde(default)]
    times: u32,
    /// All if empty.
    #[serde(default)]
    ports: Vec<Port>,
    #[serde(default, borrow)]
    reason: Cow<'p, str>,
}

/// An instant, in RFC 3339.
struct PageTime(Timestamp);

impl Serialize for PageTime {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for PageTime {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        let at: jiff::Timestamp = text.parse().map_err(serde::de::Error::custom)?;
        Ok(Self(Timestamp::from_micros(at.as_microsecond())))
    }
}

impl<'p> PageBan<'p> {
    pub(super) fn new(ban: &'p Ban) -> Self {
        Self {
            address: ban.offender,
            jail: (&*ban.jail).into(),
            since: PageTime(ban.since),
            until: ban.until.map(PageTime),
            times: ban.times,
            ports: ban.ports.to_vec(),
            reason: (&*ban.reason).into(),
        }
    }

    /// The ban. It shares its terms with the one before, since most of a page have the same.
    pub(super) fn ban(&self, before: Option<&Ban>) -> Ban {
        let are_same = |known: &&Ban| {
            *known.jail == *self.jail && *known.ports == *self.ports && *known.reason == *self.reason
        };
        let terms = || BanTerms {
            jail: (&*self.jail).into(),
            kind: match &*self.jail {
                WIDE => BanOrigin::Wide,
                jail if is_by_hand(jail) => BanOrigin::Manual,
                _ => BanOrigin::Auto,
            },
            mode: Mode::Enforce,
            ports: self.ports.as_slice().into(),
            reason: (&*self.reason).into(),
        };
        let known = before.filter(are_same).map(|known| Arc::clone(&known.terms));
        Ban {
            offender: self.address,
            times: self.times.max(1),
            since: self.since.0,
            until: self.until.as_ref().map(|until| until.0),
            terms: known.unwrap_or_else(|| Arc::new(terms())),
        }
    }
}

impl BanPage<'_> {
    /// The bans.
    pub(super) fn bans(&self) -> Vec<Ban> {
        let mut bans: Vec<Ban> = Vec::with_capacity(self.bans.len());
        for ban in &self.bans {
            let taken = ban.ban(bans.last());
            bans.push(taken);
        }
        bans
    }
}
