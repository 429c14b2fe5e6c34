//! Which offenders one of the two banned and the other did not, and why.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context;
use serde::Serialize;

use super::bans::TAKEN_OVER;
use super::plan::ImportPlan;
use super::print::cell;
use super::read::Fail2banConfig;
use super::reasons::DiffReasons;
use crate::config::load::Loaded;
use crate::model::{Ban, BanOrigin, Offender, Prefixes, Span, Timestamp, count, plain};
use crate::store::{self, Fail2banRow, History};
use crate::tools::terminal::local;

/// What `import fail2ban --diff --json` prints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BanDiff {
    /// Since when. A ban counts if it was in force at any time since.
    pub since: String,
    /// How many offenders fail2ban has banned.
    pub fail2ban: u64,
    /// How many banstream has banned, or would have if it only observed.
    pub banstream: u64,
    /// How many both have banned.
    pub both: u64,
    /// How many of these in other jails.
    pub other_jail: u64,
    /// Where fail2ban was first, of bans that began since.
    pub fail2ban_first: BanLead,
    /// Where banstream was first, of bans that began since.
    pub banstream_first: BanLead,
    /// How many both banned in the same second.
    pub same_second: u64,
    /// Those that only fail2ban has banned, by the reason.
    pub only_fail2ban: Vec<DiffReason>,
    /// Those that only banstream has banned, by the reason.
    pub only_banstream: Vec<DiffReason>,
}

/// By how much one of the two was first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BanLead {
    /// How often.
    pub times: u64,
    /// By how many seconds, as the median.
    pub median: u64,
    /// By how many seconds at the most.
    pub most: u64,
}

/// Offenders that only one of the two has banned, for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DiffReason {
    /// Why the other has not.
    pub why: String,
    /// How many.
    pub offenders: u64,
    /// Some of them.
    pub examples: Vec<DiffOffender>,
}

/// An offender that only one of the two has banned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DiffOffender {
    /// The offender.
    pub address: Offender,
    /// The jail that has banned it.
    pub jail: String,
    /// Since when.
    pub since: String,
    /// The last lines that earned the ban; strangers wrote them.
    pub lines: Vec<String>,
}

/// So many offenders of each reason are named, and so many lines of each.
const EXAMPLES: usize = 10;
pub(super) const LINES: usize = 3;

/// Compares the bans of fail2ban's database with those of our ledger.
///
/// # Errors
///
/// Either cannot be read.
pub(super) fn diff(
    fail2ban: &Fail2banConfig,
    plan: &ImportPlan,
    loaded: &Loaded,
    (from, now): (Timestamp, Timestamp),
) -> anyhow::Result<BanDiff> {
    let database = fail2ban.database.as_deref().context("fail2ban keeps no database: `dbfile` says so")?;
    let theirs = store::fail2ban_since(database, loaded.config.detection.widths, from)
        .with_context(|| format!("cannot read fail2ban's database `{}`", database.display()))?;
    let directory: &Path = &loaded.config.state_directory;
    let unread = || format!("cannot read the ledger in `{}`", directory.display());
    let ledger = History::open(directory).with_context(unread)?;
    let rows = ledger.rows(Timestamp::from_micros(0), now).with_context(unread)?;
    let counts = |ban: &Ban, ended: Option<Timestamp>| {
        ban.kind != BanOrigin::Manual
            && *ban.reason != *TAKEN_OVER
            && ended.or(ban.until).is_none_or(|end| end > from)
    };
    let ours = rows.bans.iter().filter(|row| counts(&row.ban, row.ended.map(|(at, _)| at)));
    let ours: Vec<&Ban> = ours.map(|row| &row.ban).collect();
    let mut reasons = DiffReasons::new(fail2ban, plan, loaded, &ledger, &rows.allowances, now);
    let mut pairs = BanPairs::new(&theirs, &ours);
    let mut diff = BanDiff { since: from.to_string(), ..BanDiff::default() };
    (diff.fail2ban, diff.banstream) = (pairs.theirs.len() as u64, pairs.ours.len() as u64);
    pairs.split(|name| reasons.name(name));
    (diff.both, diff.other_jail) = (pairs.both.len() as u64, pairs.other_jail);
    let recent: Vec<i64> = pairs
        .both
        .iter()
        .filter(|(theirs, ours)| theirs.since >= from && ours.since >= from)
        .map(|(theirs, ours)| ours.since.as_secs() - theirs.since.as_secs())
        .collect();
    diff.same_second = recent.iter().filter(|lead| **lead == 0).count() as u64;
    diff.fail2ban_first = BanLead::of(recent.iter().copied());
    diff.banstream_first = BanLead::of(recent.iter().map(|lead| -lead));
    let mut why = BTreeMap::new();
    for ban in &pairs.only_theirs {
        let lines = ban.lines.iter().rev().take(LINES).rev().cloned().collect();
        let example = DiffOffender {
            address: ban.offender,
            jail: ban.jail.clone(),
            since: ban.since.to_string(),
            lines,
        };
        note(&mut why, reasons.not_here(ban).with_context(unread)?, example);
    }
    diff.only_fail2ban = by_reason(why);
    let mut why = BTreeMap::new();
    for (reason, example) in reasons.not_there(&pairs.only_ours).with_context(unread)? {
        note(&mut why, reason, example);
    }
    diff.only_banstream = by_reason(why);
    Ok(diff)
}

/// Notes an offender with the reason.
fn note(why: &mut BTreeMap<String, (u64, Vec<DiffOffender>)>, reason: String, example: DiffOffender) {
    let (offenders, examples) = why.entry(reason).or_default();
    *offenders += 1;
    if examples.len() < EXAMPLES {
        examples.push(example);
    }
}

/// The reasons, the most frequent first.
fn by_reason(why: BTreeMap<String, (u64, Vec<DiffOffender>)>) -> Vec<DiffReason> {
    let reasons = why.into_iter().map(|(why, (offenders, examples))| DiffReason { why, offenders, examples });
    let mut reasons: Vec<DiffReason> = reasons.collect();
    reasons.sort_by_key(|reason| Reverse(reason.offenders));
    reasons
}

impl BanLead {
    /// Of these leads in seconds, those that are some.
    fn of(leads: impl Iterator<Item = i64>) -> Self {
        let mut leads: Vec<u64> =
            leads.filter_map(|lead| u64::try_from(lead).ok()).filter(|lead| *lead > 0).collect();
        leads.sort_unstable();
        Self {
            times: leads.len() as u64,
            median: leads.get(leads.len() / 2).copied().unwrap_or_default(),
            most: leads.last().copied().unwrap_or_default(),
        }
    }

    fn said(&self, who: &str) -> String {
        let Self { times, median, most } = self;
        if *times == 0 {
            return format!("{who} was never first");
        }
        let (median, most) = (Span::from_secs(*median), Span::from_secs(*most));
        format!("{who} was first {times} x, by {median} (median) to {most}")
    }
}

/// The first ban of each offender on either side, and what each has that the other has not.
struct BanPairs<'b> {
    theirs: BTreeMap<Offender, &'b Fail2banRow>,
    ours: BTreeMap<Offender, &'b Ban>,
    /// The jails of each offender here.
    jails: BTreeSet<(Offender, &'b str)>,
    both: Vec<(&'b Fail2banRow, &'b Ban)>,
    other_jail: u64,
    only_theirs: Vec<&'b Fail2banRow>,
    only_ours: Vec<&'b Ban>,
}

impl<'b> BanPairs<'b> {
    fn new(theirs: &'b [Fail2banRow], ours: &[&'b Ban]) -> Self {
        let mut pairs = Self {
            theirs: BTreeMap::new(),
            ours: BTreeMap::new(),
            jails: ours.iter().map(|ban| (ban.offender, &*ban.jail)).collect(),
            both: Vec::new(),
            other_jail: 0,
            only_theirs: Vec::new(),
            only_ours: Vec::new(),
        };
        for ban in theirs {
            let known = pairs.theirs.entry(ban.offender).or_insert(ban);
            // Who is banned again for earlier bans was banned for something else before.
            if known.jail == "recidive" {
                *known = ban;
            }
        }
        for ban in ours {
            pairs.ours.entry(ban.offender).or_insert(ban);
        }
        pairs
    }

    /// Tells those that both have from the others; `name` is what a jail of fail2ban is called here.
    fn split(&mut self, name: impl Fn(&str) -> Option<String>) {
        let here = Prefixes::new(self.ours.keys().map(|offender| (*offender, ())));
        let there = Prefixes::new(self.theirs.keys().map(|offender| (*offender, ())));
        for (offender, ban) in &self.theirs {
            match here.overlapping(*offender).and_then(|(found, ())| self.ours.get(&found)) {
                None => self.only_theirs.push(ban),
                Some(ours) => {
                    let is_same =
                        name(&ban.jail).is_some_and(|jail| self.jails.contains(&(ours.offender, &jail)));
                    self.other_jail += u64::from(!is_same);
                    self.both.push((ban, ours));
                }
            }
        }
        let is_alone = |(offender, _): &(&Offender, &&'b Ban)| there.overlapping(**offender).is_none();
        self.only_ours = self.ours.iter().filter(is_alone).map(|(_, ban)| *ban).collect();
    }
}

impl BanDiff {
    /// How many were banned by which, and who was first.
    fn sums(&self) -> [String; 2] {
        let Self { since, fail2ban, banstream, both, other_jail, same_second, .. } = self;
        let other =
            if *other_jail > 0 { format!(", {other_jail} of them in other jails") } else { String::new() };
        let leads = [self.fail2ban_first.said("fail2ban"), self.banstream_first.said("banstream")].join("; ");
        [
            format!(
                "since {}, fail2ban banned {} and banstream {banstream}; both banned {both}{other}",
                local(since),
                count(*fail2ban, "offender"),
            ),
            format!("{leads}; in the same second: {same_second}"),
        ]
    }

    /// For a terminal.
    pub(super) fn text(&self) -> String {
        let mut text = self.sums().map(|sum| sum + "\n").concat();
        for (who, reasons) in [("fail2ban", &self.only_fail2ban), ("banstream", &self.only_banstream)] {
            let sum: u64 = reasons.iter().map(|reason| reason.offenders).sum();
            text += &format!("\nonly {who}: {}\n", count(sum, "offender"));
            for DiffReason { why, offenders, examples } in reasons {
                text += &format!("  {offenders}: {}\n", plain(why));
                for DiffOffender { address, jail, since, lines } in examples {
                    text += &format!("    {address} ({}, {})\n", plain(jail), local(since));
                    lines.iter().for_each(|line| text += &format!("        {}\n", plain(line)));
                }
                text += &more(*offenders, examples, "    ");
            }
        }
        text
    }

    /// As Markdown.
    pub(super) fn markdown(&self) -> String {
        let mut text = format!("# Bans of fail2ban and of banstream\n\n{}\n", self.sums().join("\n"));
        for (who, reasons) in [("fail2ban", &self.only_fail2ban), ("banstream", &self.only_banstream)] {
            if reasons.is_empty() {
                continue;
            }
            text += &format!("\n## Only {who}\n\n| offenders | why | such as |\n|---|---|---|\n");
            for DiffReason { why, offenders, examples } in reasons {
                let such: Vec<String> =
                    examples.iter().map(|one| format!("{} ({})", one.address, cell(&one.jail))).collect();
                text += &format!("| {offenders} | {} | {} |\n", cell(why), such.join(", "));
            }
        }
        text
    }
}

/// How many are not shown.
fn more(offenders: u64, examples: &[DiffOffender], indent: &str) -> String {
    match offenders.saturating_sub(examples.len() as u64) {
        0 => String::new(),
        more => format!("{indent}and {more} more\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leads_have_a_median_and_a_worst() {
        let lead = |times, median, most| BanLead { times, median, most };
        assert_eq!(BanLead::of([].into_iter()), lead(0, 0, 0));
        assert_eq!(BanLead::of([3, -9, 0, 1, 90].into_iter()), lead(3, 3, 90));
        assert_eq!(lead(3, 3, 90).said("x"), "x was first 3 x, by 3s (median) to 1m 30s");
    }
}
