//! Why one of the two has not banned an offender that the other has.

use std::collections::BTreeMap;
use std::time::Duration;

use super::diff::{DiffOffender, LINES};
use super::judge::{LineJudge, NotCounted};
use super::logs::forwarded;
use super::plan::{ImportPlan, ImportedJail};
use super::read::{Fail2banConfig, Fail2banJail};
use super::reference::{self, ReferenceLine};
use super::settings;
use crate::config::load::Loaded;
use crate::grammar::Grammar;
use crate::model::{Allowance, Ban, BanOrigin, Offender, Prefixes, Timestamp};
use crate::store::{Fail2banRow, History, LedgerError, OffenceLine, Role};

/// How long fail2ban may take for the lines of one jail.
const PATIENCE: Duration = Duration::from_secs(60);

/// The most offenders of a jail whose lines fail2ban is asked about.
const MOST_ASKED: usize = 2_000;

/// What is known of both.
pub(super) struct DiffReasons<'d> {
    /// Each jail of fail2ban that is on, and what it is here.
    jails: Vec<(&'d Fail2banJail, &'d ImportedJail)>,
    loaded: &'d Loaded,
    ledger: &'d History,
    allowances: &'d [Allowance],
    judges: BTreeMap<String, Option<LineJudge<'d>>>,
    now: Timestamp,
}

impl<'d> DiffReasons<'d> {
    pub(super) fn new(
        fail2ban: &'d Fail2banConfig,
        plan: &'d ImportPlan,
        loaded: &'d Loaded,
        ledger: &'d History,
        allowances: &'d [Allowance],
        now: Timestamp,
    ) -> Self {
        let jails = fail2ban.jails.iter().zip(&plan.jails).collect();
        Self { jails, loaded, ledger, allowances, judges: BTreeMap::new(), now }
    }

    /// What a jail of fail2ban is called here, if something stands for it.
    pub(super) fn name(&self, jail: &str) -> Option<String> {
        let found = self.jails.iter().find(|(known, _)| known.name == jail);
        found.filter(|(_, imported)| !imported.grammars.is_empty()).map(|(_, imported)| imported.name.clone())
    }

    /// Why banstream has not banned an offender that fail2ban has.
    ///
    /// # Errors
    ///
    /// The ledger cannot be read.
    pub(super) fn not_here(&mut self, ban: &Fail2banRow) -> Result<String, LedgerError> {
        let Some(name) = self.name(&ban.jail) else {
            return Ok(match ban.jail.as_str() {
                "recidive" => "banned for earlier bans; here bans grow".to_owned(),
                jail => format!("no jail here stands for `{jail}`"),
            });
        };
        if let Some(why) = self.exempt(&name, ban.offender) {
            return Ok(why);
        }
        if ban.lines.is_empty() {
            return Ok("banned by hand: fail2ban's database has no lines of it".to_owned());
        }
        let inputs = self.jails.iter().find(|(known, _)| known.name == ban.jail);
        let input = inputs.and_then(|(_, imported)| imported.inputs.first());
        let (loaded, now) = (self.loaded, self.now);
        let judge = self.judges.entry(name.clone()).or_insert_with(|| LineJudge::new(loaded, &name, now));
        let Some(judge) = judge else { return Ok(format!("the jail `{name}` is not in force here")) };
        let (mut counted, mut why) = (0_u64, String::new());
        for line in &ban.lines {
            let record = match input {
                Some((_, program)) => forwarded(program, line.as_bytes()),
                None => line.clone().into_bytes(),
            };
            match judge.counted(&record) {
                Some(line)
                    if line.offender.contains(ban.offender) || ban.offender.contains(line.offender) =>
                {
                    counted += u64::from(!line.is_repeated);
                }
                Some(line) => why = format!("its lines give another address than {}", line.what),
                None => match judge.why_not(&record) {
                    NotCounted::Unread(not) | NotCounted::Otherwise(not) => why = not,
                },
            }
        }
        if counted == 0 {
            return Ok(why);
        }
        let Some(jail) = self.loaded.config.detection.jails.iter().find(|jail| *jail.name == *name) else {
            return Ok(format!("the jail `{name}` is not in force here"));
        };
        let from = ban.since - jail.find_time - jail.find_time;
        let heard = self.ledger.lines(ban.offender, from, self.now, u8::MAX.into())?;
        if heard.is_empty() {
            let source = input.map_or_else(|| "its log".to_owned(), |(file, _)| file.clone());
            return Ok(format!("its lines would count, but have not come here: {source} was not read then"));
        }
        let retries = usize::from(jail.max_retry.get());
        if heard.len() >= retries && self.ledger.login(ban.offender)?.is_some() {
            return Ok("withheld, since somebody logged in from there (`protect-logins`)".to_owned());
        }
        Ok(format!("counted, but below `maxretry = {retries}` within `findtime`"))
    }

    /// Why an offender is never banned here, if it is not.
    fn exempt(&self, jail: &str, offender: Offender) -> Option<String> {
        let settings = self.loaded.settings();
        let own = settings.jails.iter().filter(|known| *known.name == *jail).flat_map(|jail| &jail.ignore);
        let overlaps = |who: &Offender| who.contains(offender) || offender.contains(*who);
        if settings.ignore.iter().map(|(who, _)| who).chain(own).any(overlaps) {
            return Some("never banned here, by `ignoreip`".to_owned());
        }
        let is_allowed = self.allowances.iter().any(|allowance| overlaps(&allowance.offender));
        is_allowed.then(|| "never banned here, by `banstream allow`".to_owned())
    }

    /// Why fail2ban has not banned these, which banstream has.
    ///
    /// # Errors
    ///
    /// The ledger cannot be read.
    pub(super) fn not_there(&self, bans: &[&Ban]) -> Result<Vec<(String, DiffOffender)>, LedgerError> {
        let mut found = Vec::new();
        let mut by_jail: BTreeMap<&str, Vec<&Ban>> = BTreeMap::new();
        bans.iter().for_each(|ban| by_jail.entry(&ban.jail).or_default().push(ban));
        for (name, bans) in by_jail {
            let mut evidence = Vec::new();
            for ban in bans {
                evidence.push((ban, self.ledger.counted(ban.offender, name, Role::Evidence, u8::MAX)?));
            }
            let jail = self.jails.iter().find(|(_, imported)| imported.name == *name);
            let asked = jail.map(|(jail, imported)| self.matched(jail, imported, &evidence));
            for (nth, (ban, lines)) in evidence.iter().enumerate() {
                let why = match (jail, &asked) {
                    _ if ban.kind == BanOrigin::Wide => {
                        "a prefix with many offenders, which fail2ban does not ban".to_owned()
                    }
                    (Some((jail, _)), Some(asked)) => not_by(jail, ban.offender, lines, asked, nth),
                    _ => format!("no jail of fail2ban that is on counts what `{name}` does"),
                };
                let message = |line: &OffenceLine| {
                    let OffenceLine { grammar, category, rule, message, .. } = line;
                    format!("{category} ({grammar}.grammar:{rule}): {}", String::from_utf8_lossy(message))
                };
                let lines = lines.iter().rev().take(LINES).rev().map(message).collect();
                let (address, since) = (ban.offender, ban.since.to_string());
                found.push((why, DiffOffender { address, jail: name.to_owned(), since, lines }));
            }
        }
        Ok(found)
    }

    /// How many lines of each ban the jail's filter matches; or why fail2ban has not said.
    fn matched(
        &self,
        jail: &Fail2banJail,
        imported: &ImportedJail,
        evidence: &[(&Ban, Vec<OffenceLine>)],
    ) -> Result<Vec<usize>, String> {
        let (mut lines, mut ends) = (Vec::new(), Vec::new());
        for (nth, (_, told)) in (1..).zip(evidence.iter().take(MOST_ASKED)) {
            // As they stand in the log: with a header if a log daemon wrote them.
            lines.extend(told.iter().map(|line| match imported.inputs.is_empty() {
                true => self.headed(line, nth),
                false => line.message.clone(),
            }));
            ends.push(lines.len());
        }
        let found =
            reference::found(jail, &jail.regexes, &lines, PATIENCE).map_err(|error| error.to_string())?;
        let (mut found, mut start) = (found.into_iter(), 0);
        let counts = ends.into_iter().map(|end| {
            let of_ban = found.by_ref().take(end - std::mem::replace(&mut start, end));
            of_ban.filter(|line| *line != ReferenceLine::Nothing).count()
        });
        Ok(counts.collect())
    }

    /// A line as syslog writes it; each offender is a process of its own.
    fn headed(&self, line: &OffenceLine, pid: usize) -> Vec<u8> {
        let time = jiff::Timestamp::from_microsecond(line.time.as_micros()).unwrap_or_default();
        let time = time.to_zoned_datetime(jiff::tz::TimeZone::UTC).strftime("%b %e %H:%M:%S");
        let grammar = self.loaded.grammars.iter().find(|grammar| grammar.name() == line.grammar);
        let programs = grammar.map(Grammar::programs).unwrap_or_default();
        let program = programs.iter().find(|program| !program.contains('*')).unwrap_or(&line.grammar);
        let mut text = format!("{time} host {program}[{pid}]: ").into_bytes();
        text.extend(&line.message);
        text
    }
}

/// Why this jail of fail2ban has not banned the offender of these lines.
fn not_by(
    jail: &Fail2banJail,
    offender: Offender,
    lines: &[OffenceLine],
    asked: &Result<Vec<usize>, String>,
    nth: usize,
) -> String {
    let ignored = settings::ignored(jail.options.get("ignoreip").map_or("", String::as_str), &|_| Vec::new());
    let ignored = ignored.offenders.iter().filter_map(|who| who.parse().ok()).map(|who: Offender| (who, ()));
    if Prefixes::new(ignored).overlapping(offender).is_some() {
        return "exempt there, by its `ignoreip`".to_owned();
    }
    let retries: usize = jail.options.get("maxretry").and_then(|text| text.trim().parse().ok()).unwrap_or(5);
    let what = lines.last().map_or_else(String::new, |line| {
        format!(": {} ({}.grammar:{})", line.category, line.grammar, line.rule)
    });
    match asked.as_ref().map(|counts| counts.get(nth)) {
        Err(why) => format!("its filter was not asked: {why}"),
        Ok(None) => "its filter was not asked: there are too many".to_owned(),
        Ok(Some(_)) if lines.is_empty() => "the ledger has no lines of it any more".to_owned(),
        Ok(Some(0)) => format!("its filter does not match{what}"),
        Ok(Some(matched)) if *matched < retries => {
            format!("its filter matches fewer of the lines than its `maxretry`{what}")
        }
        Ok(Some(_)) => "its filter matches, but fail2ban did not see the lines in its `findtime`".to_owned(),
    }
}
