//! Compares two configurations over the same log: offenders that only one of them bans, or bans earlier or for longer.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Serialize, Serializer};

use crate::model::{Ban, Offender, Span, Timestamp};
use crate::tools::terminal::local;

/// An offender that two configurations treat differently: the one in force (here) and the other (there).
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Difference {
    /// Who.
    address: Offender,
    /// In what; at least one.
    pub(super) changes: Vec<Deviation>,
    /// What the one in force comes to.
    here: Option<CombinedBans>,
    /// What the other comes to.
    there: Option<CombinedBans>,
}

/// What the other configuration does otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub(super) enum Deviation {
    OnlyHere,
    OnlyThere,
    /// The first ban begins earlier.
    Earlier,
    Later,
    /// All bans together last longer.
    Longer,
    Shorter,
}

/// All the bans of one offender, taken together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct CombinedBans {
    /// When the first begins.
    #[serde(serialize_with = "instant")]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    since: Timestamp,
    /// For how many seconds, without the gaps between bans; forever if `None`.
    #[serde(rename = "seconds", serialize_with = "seconds")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<u64>"))]
    lasts: Option<Span>,
    /// When the last ban ends, as far as it does.
    #[serde(skip)]
    until: Timestamp,
}

/// Those who are not treated alike, in the order of their addresses.
pub(super) fn compare(here: &[Ban], there: &[Ban]) -> Vec<Difference> {
    let (here, there) = (combined(here), combined(there));
    let all: BTreeSet<Offender> = here.keys().chain(there.keys()).copied().collect();
    let differences = all.into_iter().map(|address| {
        let (here, there) = (here.get(&address).copied(), there.get(&address).copied());
        let changes = match (here, there) {
            (Some(_), None) => vec![Deviation::OnlyHere],
            (None, _) => vec![Deviation::OnlyThere],
            (Some(here), Some(there)) => here.changes(there),
        };
        Difference { address, changes, here, there }
    });
    differences.filter(|difference| !difference.changes.is_empty()).collect()
}

/// What becomes of each offender, by bans in the order in which they begin.
fn combined(bans: &[Ban]) -> BTreeMap<Offender, CombinedBans> {
    let mut combined = BTreeMap::new();
    for ban in bans {
        let new = CombinedBans { since: ban.since, lasts: Some(Span::ZERO), until: ban.since };
        let bans = combined.entry(ban.offender).or_insert(new);
        // Two jails may ban at once; a time counts once.
        bans.lasts = bans.lasts.zip(ban.until).map(|(lasts, until)| {
            let more = until.since(bans.until.max(ban.since));
            Span::from_micros(lasts.as_micros().saturating_add(more.as_micros()))
        });
        bans.until = ban.until.unwrap_or_default().max(bans.until);
    }
    combined
}

impl CombinedBans {
    fn changes(self, there: Self) -> Vec<Deviation> {
        let length = |bans: Self| bans.lasts.map_or(u64::MAX, Span::as_micros);
        let changes = [
            (there.since < self.since, Deviation::Earlier),
            (there.since > self.since, Deviation::Later),
            (length(there) > length(self), Deviation::Longer),
            (length(there) < length(self), Deviation::Shorter),
        ];
        changes.into_iter().filter(|(is_so, _)| *is_so).map(|(_, change)| change).collect()
    }
}

impl fmt::Display for Deviation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OnlyHere => "only here",
            Self::OnlyThere => "only there",
            Self::Earlier => "earlier there",
            Self::Later => "later there",
            Self::Longer => "longer there",
            Self::Shorter => "shorter there",
        })
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let changes: Vec<String> = self.changes.iter().map(Deviation::to_string).collect();
        write!(f, "{} {}", self.address, changes.join(", "))?;
        for (place, bans) in [("here", self.here), ("there", self.there)] {
            if let Some(CombinedBans { since, lasts, .. }) = bans {
                let lasts = lasts.map_or("forever".to_owned(), |lasts| format!("for {lasts}"));
                write!(f, "; {place} since {} {lasts}", local(&since.to_string()))?;
            }
        }
        Ok(())
    }
}

fn instant<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(at)
}

fn seconds<S: Serializer>(span: &Option<Span>, serializer: S) -> Result<S::Ok, S::Error> {
    span.map(Span::as_secs_ceil).serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::manual;

    /// The differences between bans by address, beginning and end (0 for never).
    #[track_caller]
    fn check(here: &[(&str, i64, i64)], there: &[(&str, i64, i64)], want: &[&str]) {
        let at = Timestamp::from_secs;
        let ban = |(who, since, until): &(&str, i64, i64)| {
            manual(who.parse().unwrap(), at(*since), (*until > 0).then(|| at(*until)), "")
        };
        let bans = |bans: &[(&str, i64, i64)]| bans.iter().map(ban).collect::<Vec<_>>();
        let got: Vec<String> = compare(&bans(here), &bans(there)).iter().map(ToString::to_string).collect();
        let in_our_zone = |line: &&str| line.split(' ').map(local).collect::<Vec<_>>().join(" ");
        assert_eq!(got, want.iter().map(in_our_zone).collect::<Vec<_>>());
    }

    const ONE: &str = "192.0.2.1";

    #[test]
    fn who_is_banned_by_one_alone_is_told() {
        check(&[(ONE, 1, 9)], &[(ONE, 1, 9)], &[]);
        check(
            &[("192.0.2.2", 1, 61), (ONE, 9, 69)],
            &[(ONE, 9, 69), ("192.0.2.0/24", 10, 0)],
            &[
                "192.0.2.0/24 only there; there since 1970-01-01T00:00:10Z forever",
                "192.0.2.2 only here; here since 1970-01-01T00:00:01Z for 1m",
            ],
        );
    }

    #[test]
    fn a_ban_that_begins_or_lasts_otherwise_is_told() {
        let (one, nine) = ("1970-01-01T00:00:01Z", "1970-01-01T00:00:09Z");
        let check = |here, there, changes, begin: &str, lasts: &str, begins: &str, last: &str| {
            let want = format!("{ONE} {changes}; here since {begin} {lasts}; there since {begins} {last}");
            check(here, there, &[&want]);
        };
        check(&[(ONE, 9, 19)], &[(ONE, 1, 11)], "earlier there", nine, "for 10s", one, "for 10s");
        check(&[(ONE, 1, 11)], &[(ONE, 9, 18)], "later there, shorter there", one, "for 10s", nine, "for 9s");
        check(&[(ONE, 1, 11)], &[(ONE, 1, 0)], "longer there", one, "for 10s", one, "forever");
        check(&[(ONE, 1, 0)], &[(ONE, 1, 11)], "shorter there", one, "forever", one, "for 10s");
    }

    #[test]
    fn a_time_that_two_bans_share_counts_once() {
        check(&[(ONE, 1, 11), (ONE, 6, 16), (ONE, 7, 9), (ONE, 20, 30)], &[(ONE, 1, 26)], &[]);
        check(&[(ONE, 1, 0), (ONE, 6, 16)], &[(ONE, 1, 0)], &[]);
    }
}
