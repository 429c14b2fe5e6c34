//! Where the banned come from, and which user names are tried: sums over offenders, and over the lines on file.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::OffenderSum;
use crate::grammar::{FieldText, Grammars};
use crate::model::{Offender, plain};
use crate::store::OffenceLine;
use crate::tools::geoip::GeoRecord;

/// The longest user name that is told, in characters.
const LONGEST: usize = 40;
/// The field of grammars that holds a user name.
const USER: &str = "user";

/// What came from a country.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CountrySum {
    /// The country, as the files of `geoip` have it.
    pub country: String,
    /// How many in it were banned.
    pub offenders: u64,
    /// How often.
    pub bans: u64,
}

/// What came from a network with a number of its own (an autonomous system).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AsSum {
    /// Its number.
    pub asn: u32,
    /// Its name, as the files of `geoip` have it.
    pub as_name: Option<String>,
    /// How many in it were banned.
    pub offenders: u64,
    /// How often.
    pub bans: u64,
}

/// How often a user name was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UserSum {
    /// The name, its control characters replaced; 40 characters at most. A stranger wrote it.
    pub user: String,
    /// How often, in the lines on file.
    pub offences: u64,
    /// How many offenders tried it.
    pub offenders: u64,
}

/// How many offenders and bans there are of each key of those who were banned.
fn by<K: Ord>(offenders: &[OffenderSum], key: impl Fn(&GeoRecord) -> Option<K>) -> BTreeMap<K, (u64, u64)> {
    let mut sums: BTreeMap<K, (u64, u64)> = BTreeMap::new();
    for offender in offenders.iter().filter(|offender| offender.bans > 0) {
        if let Some(key) = key(&offender.place) {
            let (offenders, bans) = sums.entry(key).or_default();
            (*offenders, *bans) = (*offenders + 1, *bans + offender.bans);
        }
    }
    sums
}

pub(super) fn countries(offenders: &[OffenderSum]) -> Vec<CountrySum> {
    let sums = by(offenders, |place| place.country.clone());
    let sum = |(country, (offenders, bans))| CountrySum { country, offenders, bans };
    sums.into_iter().map(sum).collect()
}

pub(super) fn autonomous_systems(offenders: &[OffenderSum]) -> Vec<AsSum> {
    let sums = by(offenders, |place| Some((place.asn?, place.as_name.clone())));
    let sum = |((asn, as_name), (offenders, bans))| AsSum { asn, as_name, offenders, bans };
    sums.into_iter().map(sum).collect()
}

/// The user names in these lines, as the grammars read them now; and in how many lines there was one.
pub(super) fn users(lines: &[(Offender, OffenceLine)], grammars: &Grammars) -> (u64, Vec<UserSum>) {
    let (mut sums, mut total): (BTreeMap<String, (u64, BTreeSet<Offender>)>, u64) = (BTreeMap::new(), 0);
    for (who, line) in lines {
        let grammar = grammars.iter().find(|grammar| grammar.name() == line.grammar);
        let fields = grammar.and_then(|grammar| grammar.read(&line.message));
        let fields = fields.map(|found| found.field_texts(&line.message)).unwrap_or_default();
        let user = |field: &FieldText<'_, '_>| {
            let name: String = plain(&field.text).trim().chars().take(LONGEST).collect();
            (field.name == Some(USER) && !["", "-"].contains(&&*name)).then_some(name)
        };
        if let Some(user) = fields.iter().find_map(user) {
            let (offences, offenders) = sums.entry(user).or_default();
            *offences += 1;
            offenders.insert(*who);
            total += 1;
        }
    }
    let sum = |(user, (offences, offenders)): (String, (u64, BTreeSet<Offender>))| UserSum {
        user,
        offences,
        offenders: offenders.len() as u64,
    };
    (total, sums.into_iter().map(sum).collect())
}
