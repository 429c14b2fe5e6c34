//! The totals of a time range.

use serde::Serialize;

use super::{Moment, OffenderSum};
use crate::model::{BanOrigin, Mode, Timestamp};
use crate::store::{BanEnd, BanRecord, Rows};

/// All in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ReportTotals {
    /// Bans decided.
    pub bans: u64,
    /// How many offenders were banned.
    pub offenders: u64,
    /// How many of those had been banned before.
    pub repeat_offenders: u64,
    /// Bans of whole prefixes.
    pub prefixes: u64,
    /// Bans by hand.
    pub by_hand: u64,
    /// Bans that were only observed: they kept nobody out.
    pub observed: u64,
    /// Bans lifted before their time.
    pub lifted: u64,
    /// Offences that jails counted.
    pub offences: u64,
    /// Bans in force at the end; `None` if that is not known any more.
    pub in_force: Option<u64>,
}

/// All in all, in the time before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EarlierTotals {
    /// From when on; it ends where the report begins.
    pub since: Moment,
    /// All in all.
    #[serde(flatten)]
    pub totals: ReportTotals,
}

impl ReportTotals {
    /// All of `offenders` and `rows`; how many bans are in force is known only of now.
    pub(super) fn new(rows: &Rows, offenders: &[OffenderSum], in_force: Option<u64>) -> Self {
        let count = |is: fn(&BanRecord) -> bool| rows.bans.iter().filter(|past| is(past)).count() as u64;
        let banned = || offenders.iter().filter(|offender| offender.bans > 0);
        Self {
            bans: rows.bans.len() as u64,
            offenders: banned().count() as u64,
            repeat_offenders: banned().filter(|offender| offender.bans.max(offender.times.into()) > 1).count()
                as u64,
            prefixes: count(|past| past.ban.kind == BanOrigin::Wide),
            by_hand: count(|past| past.ban.kind == BanOrigin::Manual),
            observed: count(|past| past.ban.mode == Mode::Observe),
            lifted: count(|past| lifted_at(past).is_some()),
            offences: rows.tallies.iter().map(|tally| tally.offences).sum(),
            in_force,
        }
    }

    /// Each total with its name, for people; whether it is told even where there is nothing.
    pub(super) fn all(&self) -> [(&'static str, bool, Option<u64>); 9] {
        [
            ("bans", true, Some(self.bans)),
            ("offenders banned", true, Some(self.offenders)),
            ("offences", true, Some(self.offences)),
            ("bans in force at the end", true, self.in_force),
            ("offenders banned again", false, Some(self.repeat_offenders)),
            ("prefixes banned", false, Some(self.prefixes)),
            ("bans by hand", false, Some(self.by_hand)),
            ("bans only observed", false, Some(self.observed)),
            ("bans lifted early", false, Some(self.lifted)),
        ]
    }
}

/// When a ban was lifted before its time, if it was.
pub(super) fn lifted_at(past: &BanRecord) -> Option<Timestamp> {
    past.ended.filter(|(_, ending)| *ending == BanEnd::Lifted).map(|(at, _)| at)
}
