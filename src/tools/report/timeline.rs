//! The parts of a time range, and what happened in each.

use std::collections::BTreeMap;

use jiff::ToSpan;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::{DAY, Moment};
use crate::model::Timestamp;
use crate::store::{BanRecord, Rows};

/// One part of the timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TimelineBucket {
    /// When it begins.
    pub since: Moment,
    /// That in short, for people.
    #[serde(skip)]
    pub label: String,
    /// Bans decided in it.
    pub bans: u64,
    /// Offences in it.
    pub offences: u64,
}

/// The time in hours, days or weeks, whichever makes a chart that can be read, and what each of them is called.
pub(super) fn timeline(
    from: Timestamp,
    to: Timestamp,
    rows: &Rows,
    zone: &TimeZone,
) -> (&'static str, Vec<TimelineBucket>) {
    let length = to.since(from);
    let (name, step, format) = match length.as_micros().div_ceil(DAY.as_micros()) {
        0..=3 => ("hour", 1.hour(), "%a %d %b %H:%M"),
        4..=93 => ("day", 1.day(), "%a %d %b"),
        _ => ("week", 1.week(), "%d %b %Y"),
    };
    let Moment(first) = Moment::new(from, zone);
    let whole = match name {
        "hour" => first.with().minute(0).second(0).subsec_nanosecond(0).build(),
        _ => first.start_of_day(),
    };
    let mut starts: BTreeMap<Timestamp, TimelineBucket> = BTreeMap::new();
    let mut next = whole.ok();
    while let Some(at) = next {
        let start = Timestamp::from_micros(at.timestamp().as_microsecond());
        if start >= to {
            break;
        }
        next = at.checked_add(step).ok();
        let label = at.strftime(format).to_string();
        starts.insert(start, TimelineBucket { since: Moment(at), label, bans: 0, offences: 0 });
    }
    for BanRecord { ban, .. } in &rows.bans {
        if let Some((_, step)) = starts.range_mut(..=ban.since).next_back() {
            step.bans += 1;
        }
    }
    // Of the first hour a part may lie before; and where days do not begin with an hour of UTC, of any.
    for tally in &rows.tallies {
        if let Some((_, step)) = starts.range_mut(..=tally.hour.max(from)).next_back() {
            step.offences += tally.offences;
        }
    }
    (name, starts.into_values().collect())
}
