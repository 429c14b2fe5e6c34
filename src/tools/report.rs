//! What happened in a time range: totals, timeline, jails, rules, offenders and where they are. These types are also the
//! JSON; [`text()`] and [`html()`] render them.

mod html;
mod sums;
mod text;
mod timeline;
mod totals;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use jiff::ZonedDateTime;
use jiff::tz::TimeZone;
use serde::Serialize;

pub use html::html;
pub use sums::{AsSum, CountrySum, UserSum};
pub use text::text;
pub use timeline::TimelineBucket;
pub use totals::{EarlierTotals, ReportTotals};

use crate::control::AllowLine;
use crate::grammar::Grammars;
use crate::model::{Ban, Offender, Span, Timestamp, Widths};
use crate::store::{BanRecord, OffenceLine, Rows};
use crate::tools::geoip::GeoRecord;

/// An instant in the zone whose days are counted: as JSON by RFC 3339, for people without seconds and zone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(ZonedDateTime);

impl Moment {
    fn new(at: Timestamp, zone: &TimeZone) -> Self {
        Self(
            jiff::Timestamp::from_microsecond(at.as_micros())
                .unwrap_or_default()
                .to_zoned_datetime(zone.clone()),
        )
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.strftime("%Y-%m-%d %H:%M").fmt(f)
    }
}

impl Serialize for Moment {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0.strftime("%Y-%m-%dT%H:%M:%S%:z"))
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Moment {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Moment".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string"})
    }
}

/// What happened in a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Report {
    /// Whose report this is: the host's name.
    pub host: String,
    /// From when on.
    pub since: Moment,
    /// Until when.
    pub until: Moment,
    /// From when on bans are on file, if older ones were forgotten because they were too many.
    pub complete_since: Option<Moment>,
    /// All in all.
    pub totals: ReportTotals,
    /// The same of as much time before that, if the ledger goes back that far.
    pub before: Option<EarlierTotals>,
    /// How long each part of the timeline is: `hour`, `day` or `week`.
    pub step: &'static str,
    /// When it happened.
    pub timeline: Vec<TimelineBucket>,
    /// The jails, most bans first.
    pub jails: Vec<JailSum>,
    /// The rules that found most offences.
    pub rules: Vec<RuleSum>,
    /// Who was banned most, then who committed most offences, then who was banned last.
    pub offenders: Vec<OffenderSum>,
    /// The /24 and /48 in which most offenders were banned, if more than one was.
    pub networks: Vec<NetworkSum>,
    /// The countries in which most offenders were banned, if files of `geoip` know them.
    pub countries: Vec<CountrySum>,
    /// The networks with a number (AS) in which most offenders were banned, if files of `geoip` know them.
    pub autonomous_systems: Vec<AsSum>,
    /// In how many lines on file a user name was read: the latest 20,000 offences at most.
    pub user_lines: u64,
    /// The user names in those lines that were tried most.
    pub users: Vec<UserSum>,
    /// The last bans that were lifted before their time.
    pub lifted: Vec<Lifted>,
    /// The exemptions by hand.
    pub allowed: Vec<AllowLine>,
}

/// What a jail did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct JailSum {
    /// Its name.
    pub name: String,
    /// Its bans.
    pub bans: u64,
    /// How many offenders it banned.
    pub offenders: u64,
    /// The offences that it counted.
    pub offences: u64,
}

/// What a rule found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RuleSum {
    /// Its grammar.
    pub grammar: String,
    /// Its line in the grammar's file; 0 if that is not known.
    pub line: u32,
    /// Its category.
    pub offence: String,
    /// How often.
    pub offences: u64,
}

/// What an offender did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OffenderSum {
    /// Who.
    pub address: Offender,
    /// Bans in this time.
    pub bans: u64,
    /// The most bans that it has had from one jail, those before this time included.
    pub times: u32,
    /// Offences whose lines are on file.
    pub offences: u64,
    /// By which jails.
    pub jails: BTreeSet<String>,
    /// When its first and its last ban began.
    pub banned: Option<(Moment, Moment)>,
    /// Where it is.
    #[serde(flatten)]
    pub place: GeoRecord,
    /// Lines that earned it its bans.
    pub lines: Vec<LineSum>,
}

/// A line of evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LineSum {
    /// When.
    pub time: Moment,
    /// What reads it.
    pub grammar: String,
    /// The message, its control characters replaced. A stranger wrote it.
    pub message: String,
}

/// What came from a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NetworkSum {
    /// The network.
    pub network: Offender,
    /// How many in it were banned.
    pub offenders: u64,
    /// How often.
    pub bans: u64,
}

/// A ban that was lifted before its time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Lifted {
    /// Whose.
    pub address: Offender,
    /// By which jail.
    pub jail: Arc<str>,
    /// Since when it was in force.
    pub since: Moment,
    /// When it was lifted.
    pub lifted: Moment,
}

impl RuleSum {
    /// Where it stands.
    fn name(&self) -> String {
        if self.line == 0 { self.grammar.clone() } else { format!("{}.grammar:{}", self.grammar, self.line) }
    }
}

impl AsSum {
    /// `AS64496 Example`.
    fn name(&self) -> String {
        let place = GeoRecord { country: None, asn: Some(self.asn), as_name: self.as_name.clone() };
        place.to_string()
    }
}

impl OffenderSum {
    fn jails(&self) -> String {
        self.jails.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
    }
}

/// How many of each kind a report names.
const TOP: usize = 10;
/// What is taken for one network.
const NETWORKS: Widths = Widths { v4: 24, v6: 48 };
const HOUR: Span = Span::from_secs(3600);
const DAY: Span = Span::from_secs(86_400);

impl Report {
    /// The report of what happened from `from` on and before `to`, by the days of `zone`, and where `find` finds the
    /// offenders; without lines, user names and the time before, which are added.
    pub fn new(
        host: &str,
        (from, to): (Timestamp, Timestamp),
        rows: &Rows,
        zone: &TimeZone,
        find: impl FnMut(Offender) -> GeoRecord,
    ) -> Self {
        let offenders = offenders(rows, zone, find);
        let totals = ReportTotals::new(rows, &offenders, Some(rows.in_force));
        let (step, timeline) = timeline::timeline(from, to, rows, zone);
        let lifted = rows.bans.iter().filter_map(|past| Some((&past.ban, totals::lifted_at(past)?)));
        let lifted = lifted.map(|(ban, at)| Lifted {
            address: ban.offender,
            jail: Arc::clone(&ban.jail),
            since: Moment::new(ban.since, zone),
            lifted: Moment::new(at, zone),
        });
        Self {
            host: host.to_owned(),
            since: Moment::new(from, zone),
            until: Moment::new(to, zone),
            complete_since: rows
                .forgotten
                .filter(|since| *since > from)
                .map(|since| Moment::new(since, zone)),
            totals,
            before: None,
            step,
            timeline,
            jails: top(jails(rows), |jail| (jail.bans, jail.offences)),
            rules: top(rules(rows), |rule| rule.offences),
            networks: top(networks(&offenders), |network| (network.offenders, network.bans)),
            countries: top(sums::countries(&offenders), |country| (country.offenders, country.bans)),
            autonomous_systems: top(sums::autonomous_systems(&offenders), |network| {
                (network.offenders, network.bans)
            }),
            user_lines: 0,
            users: Vec::new(),
            offenders: top(offenders, |offender| {
                (offender.bans, offender.offences, offender.banned.clone().map(|(_, last)| last))
            }),
            lifted: lifted.rev().take(TOP).collect(),
            allowed: rows.allowances.iter().map(|allowance| AllowLine::new(allowance, to)).collect(),
        }
    }

    /// Each total with its name and what it was before, for people: of what is rare, only where it happened.
    fn rows(&self) -> impl Iterator<Item = (&'static str, u64, Option<u64>)> {
        let before = self.before.as_ref().map(|before| before.totals.all());
        self.totals.all().into_iter().enumerate().filter_map(move |(n, (what, always, now))| {
            let before = before.and_then(|before| before.get(n)?.2);
            (always || now > Some(0) || before > Some(0)).then_some((what, now?, before))
        })
    }

    /// Adds what happened from `from` on and before `to`, where the report begins.
    pub fn add_before(&mut self, (from, to): (Timestamp, Timestamp), mut rows: Rows, zone: &TimeZone) {
        // The hour in which the report begins is in it.
        rows.tallies.retain(|tally| tally.hour + HOUR <= to);
        let offenders = offenders(&rows, zone, |_| GeoRecord::default());
        let totals = ReportTotals::new(&rows, &offenders, None);
        self.before = Some(EarlierTotals { since: Moment::new(from, zone), totals });
    }

    /// Adds the user names in these lines.
    pub fn add_users(&mut self, lines: &[(Offender, OffenceLine)], grammars: &Grammars) {
        let (lines, users) = sums::users(lines, grammars);
        (self.user_lines, self.users) = (lines, top(users, |user| (user.offences, user.offenders)));
    }

    /// Whose user names they are: those of a sample.
    fn users_title(&self) -> String {
        let lines = crate::model::count(self.user_lines, "line");
        format!("User names tried, in {lines} on file")
    }

    /// What its times are counted by, such as `Europe/Vienna, +02:00`.
    fn zone(&self) -> String {
        let (zone, offset) = (self.until.0.time_zone().iana_name(), self.until.0.strftime("%:z"));
        zone.map_or_else(|| offset.to_string(), |zone| format!("{zone}, {offset}"))
    }

    /// When an exemption ends, in the report's zone.
    fn end(&self, allowed: &AllowLine) -> String {
        let Some(until) = &allowed.until else { return "forever".to_owned() };
        let zone = || self.until.0.time_zone().clone();
        let end = until.parse::<jiff::Timestamp>().map(|until| Moment(until.to_zoned_datetime(zone())));
        end.map_or_else(|_| until.clone(), |end| end.to_string())
    }

    /// Adds what `lines` knows of each offender in it.
    ///
    /// # Errors
    ///
    /// What `lines` says is wrong.
    pub fn add_lines<E>(
        &mut self,
        zone: &TimeZone,
        mut lines: impl FnMut(Offender) -> Result<Vec<OffenceLine>, E>,
    ) -> Result<(), E> {
        for offender in &mut self.offenders {
            let lines = lines(offender.address)?.into_iter().map(|line| LineSum {
                time: Moment::new(line.time, zone),
                grammar: line.grammar,
                message: crate::model::plain(line.message),
            });
            offender.lines = lines.collect();
        }
        Ok(())
    }
}

/// The greatest, the greatest first; of equals the one that stood first.
fn top<T, K: Ord>(mut rows: Vec<T>, key: impl Fn(&T) -> K) -> Vec<T> {
    rows.sort_by_cached_key(|row| Reverse(key(row)));
    rows.truncate(TOP);
    rows
}

fn jails(rows: &Rows) -> Vec<JailSum> {
    let mut jails: BTreeMap<&str, (u64, BTreeSet<Offender>, u64)> = BTreeMap::new();
    for BanRecord { ban, .. } in &rows.bans {
        let jail = jails.entry(&ban.jail).or_default();
        jail.0 += 1;
        jail.1.insert(ban.offender);
    }
    for tally in &rows.tallies {
        jails.entry(&tally.jail).or_default().2 += tally.offences;
    }
    let sum = |(name, (bans, offenders, offences)): (&str, (u64, BTreeSet<Offender>, u64))| JailSum {
        name: name.to_owned(),
        bans,
        offenders: offenders.len() as u64,
        offences,
    };
    jails.into_iter().map(sum).collect()
}

/// What each rule found; for two jails that both count it, twice.
fn rules(rows: &Rows) -> Vec<RuleSum> {
    let mut rules: BTreeMap<(&str, u32, &str), u64> = BTreeMap::new();
    for tally in &rows.tallies {
        *rules.entry((&tally.grammar, tally.rule, &tally.category)).or_default() += tally.offences;
    }
    let sum = |((grammar, line, offence), offences): ((&str, u32, &str), u64)| RuleSum {
        grammar: grammar.to_owned(),
        line,
        offence: offence.to_owned(),
        offences,
    };
    rules.into_iter().map(sum).collect()
}

/// Everybody, in the order of addresses, and where those are who were banned.
fn offenders(rows: &Rows, zone: &TimeZone, mut find: impl FnMut(Offender) -> GeoRecord) -> Vec<OffenderSum> {
    let mut bans: BTreeMap<Offender, Vec<&Ban>> = BTreeMap::new();
    rows.bans.iter().for_each(|past| bans.entry(past.ban.offender).or_default().push(&past.ban));
    let everybody: BTreeSet<Offender> = bans.keys().chain(rows.offences.keys()).copied().collect();
    let mut sum = |address: Offender| {
        let bans = bans.get(&address).map_or(&[][..], Vec::as_slice);
        let first_and_last = bans.first().zip(bans.last());
        OffenderSum {
            address,
            bans: bans.len() as u64,
            times: bans.iter().map(|ban| ban.times).max().unwrap_or(0),
            offences: rows.offences.get(&address).copied().unwrap_or(0),
            jails: bans.iter().map(|ban| ban.jail.to_string()).collect(),
            banned: first_and_last
                .map(|(first, last)| (Moment::new(first.since, zone), Moment::new(last.since, zone))),
            place: if bans.is_empty() { GeoRecord::default() } else { find(address) },
            lines: Vec::new(),
        }
    };
    everybody.into_iter().map(&mut sum).collect()
}

fn networks(offenders: &[OffenderSum]) -> Vec<NetworkSum> {
    let mut networks: BTreeMap<Offender, (u64, u64)> = BTreeMap::new();
    for offender in offenders.iter().filter(|offender| offender.bans > 0) {
        let network = Offender::behind(offender.address.address(), NETWORKS);
        if network.contains(offender.address) {
            let (offenders, bans) = networks.entry(network).or_default();
            (*offenders, *bans) = (*offenders + 1, *bans + offender.bans);
        }
    }
    networks.retain(|_, (offenders, _)| *offenders > 1);
    let sum = |(network, (offenders, bans))| NetworkSum { network, offenders, bans };
    networks.into_iter().map(sum).collect()
}
