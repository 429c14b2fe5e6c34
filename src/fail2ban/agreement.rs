//! On how many lines of a jail's own logs fail2ban's filter and ours agree, and why they differ on the others.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::filter::FilterRegexes;
use super::judge::{CountedLine, LineJudge, NotCounted};
use super::logs::{self, JailLog, MOST_LINES};
use super::plan::{FilterComparison, ImportPlan, ImportedJail, JailOutcome};
use super::print::cell;
use super::read::{Fail2banConfig, Fail2banJail};
use super::reference::{self, ReferenceError, ReferenceLine};
use crate::config::load::Loaded;
use crate::model::{Offender, Timestamp, count, plain};
use crate::tools::terminal;

/// How far fail2ban's filter of a jail and ours agree on the last lines of its logs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct JailAgreement {
    /// The jail.
    pub jail: String,
    /// The files that the lines are from, or the journal.
    pub sources: Vec<String>,
    /// How many lines there were.
    pub lines: u64,
    /// On how many both find the same offender.
    pub both: u64,
    /// On how many each finds another offender.
    pub other_address: u64,
    /// On how many only fail2ban finds one.
    pub only_fail2ban: u64,
    /// On how many only banstream finds one. A further line of an attempt, which counts once, is not one of them.
    pub only_banstream: u64,
    /// Why they differ, the most frequent reasons.
    pub differences: Vec<LineDifference>,
    /// Why they were not compared; empty if they were.
    pub skipped: String,
}

/// Lines on which fail2ban's filter and ours differ for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LineDifference {
    /// Which of them find an offender.
    pub found_by: FoundBy,
    /// Why the other does not, or why it is another.
    pub why: String,
    /// How many lines.
    pub lines: u64,
    /// Some of them; strangers wrote them.
    pub examples: Vec<String>,
}

/// Which of the two find an offender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum FoundBy {
    /// Both.
    Both,
    /// Only fail2ban.
    Fail2ban,
    /// Only banstream.
    Banstream,
}

/// How long a comparison may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct ComparePatience {
    /// For each jail.
    pub(super) each: Duration,
    /// For all of them.
    pub(super) all: Duration,
}

impl ComparePatience {
    /// While somebody waits for something else.
    pub(super) const SHORT: Self = Self { each: Duration::from_secs(10), all: Duration::from_secs(10) };
    /// Where it was asked for.
    pub(super) const LONG: Self = Self { each: Duration::from_secs(60), all: Duration::from_secs(3600) };
}

/// So many examples of each difference are kept, and so much of each.
const EXAMPLES: usize = 3;
const LONGEST_EXAMPLE: usize = 512;

/// So many differences of a jail are kept, those with the most lines.
const MOST_DIFFERENCES: usize = 24;

/// A jail's refused regular expressions that are tried by themselves.
const MOST_REFUSED: usize = 8;

/// Notes in the plan how each jail compares with its filter, and as a task where a human has to look.
pub(super) fn note(plan: &mut ImportPlan, agreement: &[JailAgreement]) {
    let compared = plan.jails.iter_mut().filter(|jail| jail.outcome != JailOutcome::NotNeeded);
    for (jail, agreement) in compared.zip(agreement) {
        jail.comparison = agreement.state();
        plan.tasks.extend(agreement.task(jail.has_converted()));
    }
}

impl JailAgreement {
    fn state(&self) -> FilterComparison {
        match (self.both, self.only_fail2ban + self.only_banstream + self.other_address) {
            _ if !self.skipped.is_empty() => FilterComparison::NotCompared,
            (0, 0) => FilterComparison::Nothing,
            (_, 0) => FilterComparison::Agrees,
            _ => FilterComparison::Differs,
        }
    }

    /// What a human has to look at: lines that only fail2ban counts, or with another address. A grammar of ours may read more
    /// than a filter, and its tests hold without a comparison; neither is so of one that was made of the filter.
    fn task(&self, has_converted: bool) -> Option<String> {
        let line = |number: u64| count(number, "line");
        let differences = [
            (
                self.only_fail2ban,
                format!("fail2ban counts {} that banstream does not", line(self.only_fail2ban)),
            ),
            (
                self.other_address,
                format!("{} with another address than in fail2ban", line(self.other_address)),
            ),
            (
                if has_converted { self.only_banstream } else { 0 },
                format!("banstream counts {} that fail2ban does not", line(self.only_banstream)),
            ),
        ];
        let said: Vec<String> =
            differences.into_iter().filter(|(lines, _)| *lines > 0).map(|(_, said)| said).collect();
        match (self.skipped.is_empty(), said.is_empty()) {
            (false, _) if has_converted => Some(format!(
                "`{}`: its rules were not compared with its filter: {}",
                self.jail, self.skipped
            )),
            (true, false) => Some(format!("`{}`, of {}: {}", self.jail, line(self.lines), said.join("; "))),
            _ => None,
        }
    }
}

/// Compares each jail's filter with the jails in `loaded`, which are as they would be written.
pub(super) fn compare(
    fail2ban: &Fail2banConfig,
    plan: &ImportPlan,
    loaded: &Loaded,
    patience: ComparePatience,
    now: Timestamp,
) -> Vec<JailAgreement> {
    let begun = Instant::now();
    let pairs = fail2ban.jails.iter().zip(&plan.jails);
    pairs
        .filter(|(_, imported)| imported.outcome != JailOutcome::NotNeeded)
        .map(|(jail, imported)| {
            let limit = patience.each.min(patience.all.saturating_sub(begun.elapsed()));
            let mut agreement = match limit.is_zero() {
                true => Err("there was no time left; `--compare` takes it".to_owned()),
                false => of_jail(jail, imported, loaded, limit, now),
            }
            .unwrap_or_else(|skipped| JailAgreement { skipped, ..JailAgreement::default() });
            agreement.jail.clone_from(&imported.name);
            agreement
        })
        .collect()
}

/// Compares one jail; or why not.
fn of_jail(
    jail: &Fail2banJail,
    imported: &ImportedJail,
    loaded: &Loaded,
    limit: Duration,
    now: Timestamp,
) -> Result<JailAgreement, String> {
    let begun = Instant::now();
    let judge = LineJudge::new(loaded, &imported.name, now).filter(|_| !imported.grammars.is_empty());
    let mut judge = judge.ok_or("no jail here stands for it")?;
    if jail.regexes.fail.is_empty() {
        return Err("it has no `failregex`".to_owned());
    }
    let log = logs::read(jail, imported, MOST_LINES, limit)?;
    let ask = |filter: &FilterRegexes, lines: &[Vec<u8>]| {
        reference::found(jail, filter, lines, limit.saturating_sub(begun.elapsed()))
    };
    let theirs = ask(&jail.regexes, &log.lines).map_err(|error| error.to_string())?;
    let mut tally = AgreementTally::new(&log, theirs);
    tally.compare(&mut judge);
    tally.name_refused(imported, |regex, lines| {
        ask(&FilterRegexes { fail: vec![regex.to_owned()], ..jail.regexes.clone() }, lines)
    });
    Ok(tally.agreement())
}

/// What each line came to.
struct AgreementTally<'l> {
    log: &'l JailLog,
    /// What fail2ban finds in each line.
    theirs: Vec<ReferenceLine>,
    both: u64,
    /// The lines by difference, with what is to be said of each.
    differences: BTreeMap<(FoundBy, String), Vec<(usize, String)>>,
    /// Those that only fail2ban reads.
    unread: Vec<(usize, String)>,
}

impl<'l> AgreementTally<'l> {
    fn new(log: &'l JailLog, theirs: Vec<ReferenceLine>) -> Self {
        Self { log, theirs, both: 0, differences: BTreeMap::new(), unread: Vec::new() }
    }

    fn note(&mut self, found_by: FoundBy, why: String, nth: usize) {
        self.differences.entry((found_by, why)).or_default().push((nth, String::new()));
    }

    fn compare(&mut self, judge: &mut LineJudge<'_>) {
        // Failures of several lines of which one counts here.
        let mut completed = BTreeSet::new();
        for (nth, record) in self.log.records.iter().enumerate() {
            let theirs = self.theirs.get_mut(nth).map(std::mem::take).unwrap_or_default();
            match (theirs, record.as_ref().and_then(|record| judge.counted(record))) {
                // A further line of an attempt counts for nothing here either, nor does a part of a failure there.
                (ReferenceLine::Nothing, None | Some(CountedLine { is_repeated: true, .. }))
                | (ReferenceLine::Part(..), None) => {}
                (ReferenceLine::Failure(_), None) if completed.contains(&nth) => {}
                (ReferenceLine::Nothing, Some(CountedLine { what, .. })) => {
                    self.note(FoundBy::Banstream, format!("its filter does not match: {what}"), nth);
                }
                (ReferenceLine::Part(theirs, last), Some(ours)) if is_same(&theirs, &ours) => {
                    self.both += 1;
                    completed.insert(last);
                }
                (ReferenceLine::Failure(theirs), Some(ours)) if is_same(&theirs, &ours) => self.both += 1,
                (ReferenceLine::Failure(theirs) | ReferenceLine::Part(theirs, _), Some(ours)) => {
                    let addresses = format!("{theirs} by fail2ban, {} here: ", ours.offender);
                    let why = format!("another address than {}", ours.what);
                    self.differences.entry((FoundBy::Both, why)).or_default().push((nth, addresses));
                }
                (ReferenceLine::Failure(theirs), None) if theirs.parse::<IpAddr>().is_err() => {
                    let why = "it has a name in place of the address, and names are not resolved".to_owned();
                    self.note(FoundBy::Fail2ban, why, nth);
                }
                (ReferenceLine::Failure(_), None) => self.missed(judge, nth, record.as_deref()),
            }
        }
    }

    /// Notes why nothing here counts a line that fail2ban does.
    fn missed(&mut self, judge: &mut LineJudge<'_>, nth: usize, record: Option<&[u8]>) {
        let Some(record) = record else {
            return self.note(FoundBy::Fail2ban, "banstream does not read this file".to_owned(), nth);
        };
        match judge.why_not(record) {
            NotCounted::Otherwise(why) => self.note(FoundBy::Fail2ban, why, nth),
            NotCounted::Unread(why) => {
                let line = self.log.lines.get(nth).filter(|line| *line != record);
                let why = match line.is_some_and(|line| judge.has_header(line)) {
                    true => "rsyslog forwards lines of files whole, and it begins with a header of syslog"
                        .to_owned(),
                    false => why,
                };
                self.unread.push((nth, why));
            }
        }
    }

    /// Finds out which of the lines that nothing reads are those of refused regular expressions; `ask` tries one.
    fn name_refused(
        &mut self,
        imported: &ImportedJail,
        ask: impl Fn(&str, &[Vec<u8>]) -> Result<Vec<ReferenceLine>, ReferenceError>,
    ) {
        for refused in imported.refused.iter().take(MOST_REFUSED) {
            let lines: Vec<Vec<u8>> =
                self.unread.iter().filter_map(|(nth, _)| self.log.lines.get(*nth)).cloned().collect();
            if lines.is_empty() {
                break;
            }
            let Ok(found) = ask(&refused.regex, &lines) else { continue };
            let mut found = found.into_iter();
            let (of_it, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.unread)
                .into_iter()
                .partition(|_| found.next().is_some_and(|line| line != ReferenceLine::Nothing));
            self.unread = rest;
            for (nth, _) in of_it {
                let why = format!("its failregex was not converted: `{}`: {}", refused.regex, refused.why);
                self.note(FoundBy::Fail2ban, why, nth);
            }
        }
        for (nth, why) in std::mem::take(&mut self.unread) {
            self.note(FoundBy::Fail2ban, why, nth);
        }
    }

    fn agreement(self) -> JailAgreement {
        let example = |(nth, said): &(usize, String)| {
            let line = self.log.lines.get(*nth)?;
            let line = String::from_utf8_lossy(line.get(..LONGEST_EXAMPLE).unwrap_or(line));
            Some(format!("{said}{line}"))
        };
        let mut agreement = JailAgreement {
            sources: self.log.sources.clone(),
            lines: self.log.lines.len() as u64,
            both: self.both,
            ..JailAgreement::default()
        };
        for ((found_by, why), nths) in self.differences {
            let lines = nths.len() as u64;
            *match found_by {
                FoundBy::Both => &mut agreement.other_address,
                FoundBy::Fail2ban => &mut agreement.only_fail2ban,
                FoundBy::Banstream => &mut agreement.only_banstream,
            } += lines;
            let examples = nths.iter().filter_map(example).take(EXAMPLES).collect();
            agreement.differences.push(LineDifference { found_by, why, lines, examples });
        }
        agreement.differences.sort_by_key(|one| (one.found_by, Reverse(one.lines)));
        agreement.differences.truncate(MOST_DIFFERENCES);
        agreement
    }
}

/// Whether both hold the same offender to account.
fn is_same(theirs: &str, ours: &CountedLine) -> bool {
    theirs
        .parse::<IpAddr>()
        .is_ok_and(|address| ours.offender.contains(Offender::single(address.to_canonical())))
}

/// For a terminal.
pub(super) fn text(all: &[JailAgreement]) -> String {
    let compared = || all.iter().filter(|one| one.skipped.is_empty());
    let row = |one: &JailAgreement| {
        let numbers = [one.lines, one.both, one.only_fail2ban, one.only_banstream, one.other_address];
        let [lines, both, fail2ban, banstream, other] = numbers.map(|number| number.to_string());
        [one.jail.clone(), lines, both, fail2ban, banstream, other]
    };
    let mut text = terminal::table(HEAD, compared().map(row));
    for one in compared().filter(|one| !one.differences.is_empty()) {
        text += &format!("{}, {}:\n", plain(&one.jail), plain(one.sources.join(" ")));
        for LineDifference { found_by, why, lines, examples } in &one.differences {
            text += &format!("    {}, {}: {}\n", found_by.said(), count(*lines, "line"), plain(why));
            examples.iter().for_each(|example| text += &format!("        {}\n", plain(example)));
        }
    }
    for (why, jails) in skipped(all) {
        text += &format!("not compared: {}: {}\n", plain(why), plain(jails.join(" ")));
    }
    text
}

/// As Markdown.
pub(super) fn markdown(all: &[JailAgreement]) -> String {
    let compared = || all.iter().filter(|one| one.skipped.is_empty());
    let mut text = String::new();
    if compared().next().is_some() {
        text += &format!("\n| {} |\n|---|---|---|---|---|---|\n", HEAD.map(str::to_lowercase).join(" | "));
    }
    for one in compared() {
        let JailAgreement { lines, both, only_fail2ban, only_banstream, other_address, .. } = one;
        text += &format!(
            "| {} | {lines} | {both} | {only_fail2ban} | {only_banstream} | {other_address} |\n",
            cell(&one.jail)
        );
    }
    let rows = compared().flat_map(|one| one.differences.iter().map(move |difference| (one, difference)));
    let rows: Vec<String> = rows
        .map(|(one, LineDifference { found_by, why, lines, examples })| {
            let example = examples.first().map_or(String::new(), |line| format!("`{}`", cell(line)));
            format!("| {} | {} | {lines} | {} | {example} |\n", cell(&one.jail), found_by.said(), cell(why))
        })
        .collect();
    if !rows.is_empty() {
        text += &format!(
            "\n| jail | found by | lines | why | such as |\n|---|---|---|---|---|\n{}",
            rows.concat()
        );
    }
    let skipped: Vec<String> = skipped(all)
        .into_iter()
        .map(|(why, jails)| format!("- not compared: {}: {}\n", plain(why), plain(jails.join(" "))))
        .collect();
    if skipped.is_empty() { text } else { format!("{text}\n{}", skipped.concat()) }
}

const HEAD: [&str; 6] = ["COMPARED", "LINES", "BOTH", "ONLY FAIL2BAN", "ONLY BANSTREAM", "OTHER ADDRESS"];

/// The jails that were not compared, by the reason.
fn skipped(all: &[JailAgreement]) -> BTreeMap<&str, Vec<&str>> {
    let mut skipped: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for one in all.iter().filter(|one| !one.skipped.is_empty()) {
        skipped.entry(&one.skipped).or_default().push(&one.jail);
    }
    skipped
}

impl FoundBy {
    fn said(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::Fail2ban => "only fail2ban",
            Self::Banstream => "only banstream",
        }
    }
}
