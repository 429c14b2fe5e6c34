//! Which of our grammars reads what a filter matches, by the lines with which grammars are tested. A name says little: people
//! call a filter for Vaultwarden `bitwarden`, and give the package's filters regular expressions of their own.
//!
//! fail2ban says what the filter matches. Where it is not installed, lines that the regular expressions would match are tried.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::convert::{self, RegexOutcome};
use super::filter::FilterRegexes;
use super::read::Fail2banJail;
use super::reference::ReferenceLine;
use crate::grammar::{Grammar, Grammars, SHIPPED};
use crate::model::count;

/// Asks fail2ban what a filter of a jail finds in each line; `None` where it does not say.
pub(super) type AskFail2ban<'f> =
    dyn Fn(&Fail2banJail, &FilterRegexes, &[Vec<u8>]) -> Option<Vec<ReferenceLine>> + 'f;

/// How a filter and the categories of a grammar that it matches agree on the grammar's test lines.
#[derive(Clone, Debug)]
pub(super) struct FilterSubstance<'g> {
    pub(super) grammar: &'g Grammar,
    /// Those with a line that both find.
    pub(super) categories: Vec<&'g str>,
    /// Lines in which both find the same address.
    pub(super) both: usize,
    /// Those in which only the filter finds one, or another.
    pub(super) only_filter: usize,
    /// Those of these categories that the filter does not match.
    pub(super) only_ours: usize,
    lines: Vec<Vec<u8>>,
}

/// So many of a filter's regular expressions are tried by themselves.
const MOST_TRIED: usize = 16;

/// Categories of which a further form of line is a failed login, too.
const LOGINS: [&str; 2] = ["auth-failure", "forgeable-auth-failure"];

impl FilterSubstance<'_> {
    /// Whether both find the same in all lines.
    pub(super) fn is_same(&self) -> bool {
        self.is_evidence() && self.only_filter + self.only_ours == 0
    }

    /// Whether the filter finds most of what the grammar does, and not much else.
    pub(super) fn is_mostly(&self) -> bool {
        self.both >= self.only_ours && self.both >= self.only_filter
    }

    /// Whether the grammar can do for a filter of which no rules could be made: it finds what the filter does, and else not
    /// much but further failed logins, as many as a service has that logs them in a few ways.
    pub(super) fn is_alike(&self) -> bool {
        let is_login = self.categories.iter().all(|category| LOGINS.contains(category));
        let others = if is_login { self.both * 3 } else { self.both / 4 };
        self.is_evidence() && self.only_filter * 4 <= self.both && self.only_ours <= others
    }

    /// What people have to look at before the grammar stands for their filter; `None` if it counts little more.
    pub(super) fn task(&self, jail: &str) -> Option<String> {
        (self.only_ours * 4 > self.both).then(|| {
            format!(
                "`{jail}`: the grammar `{}` stands for its filter, and also counts {} of line that the filter does not match: \
                 `--compare` shows them in your logs, and `offences` chooses what counts",
                self.grammar.name(),
                count(self.only_ours as u64, "form")
            )
        })
    }

    /// Whether the lines say something of a filter that nobody knows. The few requests with which a grammar for access logs is
    /// tested do not: a filter asks for paths of its own.
    fn is_evidence(&self) -> bool {
        !self.grammar.categories().iter().any(|category| category == "not-found")
    }

    /// The regular expressions of the filter that match none of the grammar's lines, so that it may not read what they do.
    pub(super) fn unread(&self, jail: &Fail2banJail, ask: &AskFail2ban<'_>) -> Vec<String> {
        let reads = |regex: &String| {
            let one = FilterRegexes { fail: vec![regex.clone()], ..jail.regexes.clone() };
            let found = ask(jail, &one, &self.lines).unwrap_or_default();
            found.iter().any(|line| *line != ReferenceLine::Nothing)
        };
        let tried = jail.regexes.fail.iter().enumerate();
        tried
            .filter(|(nth, regex)| *nth >= MOST_TRIED || !reads(regex))
            .map(|(_, regex)| regex.clone())
            .collect()
    }
}

/// A line of a test, as it may stand in a log.
struct LoggedLine {
    /// The place of its grammar.
    grammar: usize,
    /// The place of the message among those of the grammar.
    test: usize,
    text: Vec<u8>,
}

/// The lines with which the shipped grammars are tested.
pub(super) struct TestLines<'g> {
    grammars: Vec<&'g Grammar>,
    lines: OnceCell<(Vec<LoggedLine>, Vec<Vec<u8>>)>,
}

impl<'g> TestLines<'g> {
    pub(super) fn new(grammars: &'g Grammars) -> Self {
        let is_shipped = |grammar: &&Grammar| SHIPPED.iter().any(|(name, _)| *name == grammar.name());
        Self { grammars: grammars.iter().filter(is_shipped).collect(), lines: OnceCell::new() }
    }

    /// Each message as it is, with a header of syslog, and with a date.
    fn lines(&self) -> &(Vec<LoggedLine>, Vec<Vec<u8>>) {
        self.lines.get_or_init(|| {
            let mut lines = Vec::new();
            for (grammar, its) in self.grammars.iter().enumerate() {
                let program = program(its);
                for (test, (message, _)) in its.tests().enumerate() {
                    // Each is a process of its own, so that no line completes another.
                    let forms = logged(message, program, lines.len());
                    lines.extend(forms.map(|text| LoggedLine { grammar, test, text: text.into_bytes() }));
                }
            }
            let texts = lines.iter().map(|line| line.text.clone()).collect();
            (lines, texts)
        })
    }

    /// The grammar whose lines a jail's filter matches, if the jail, its log or its filter names what that grammar reads.
    /// `None` if there is none, `Err` if fail2ban was not asked.
    pub(super) fn of(
        &self,
        jail: &Fail2banJail,
        ask: &AskFail2ban<'_>,
    ) -> Result<Option<FilterSubstance<'g>>, NotAsked> {
        let (lines, texts) = self.lines();
        let found = ask(jail, &jail.regexes, texts).ok_or(NotAsked)?;
        let mut matched: BTreeMap<usize, BTreeMap<usize, BTreeSet<IpAddr>>> = BTreeMap::new();
        for (line, found) in lines.iter().zip(found) {
            let (ReferenceLine::Failure(address) | ReferenceLine::Part(address, _)) = found else { continue };
            // A name in the place of the address is one that nobody has.
            let address =
                address.parse().map_or(IpAddr::from([0; 4]), |address: IpAddr| address.to_canonical());
            matched.entry(line.grammar).or_default().entry(line.test).or_default().insert(address);
        }
        let named = named(jail);
        let of = |(nth, matched): (usize, BTreeMap<usize, BTreeSet<IpAddr>>)| {
            let grammar = self.grammars.get(nth).copied().filter(|grammar| is_named(&named, grammar))?;
            let lines = lines.iter().filter(|line| line.grammar == nth).map(|line| line.text.clone());
            tally(grammar, &matched, lines.collect())
        };
        Ok(matched.into_iter().filter_map(of).max_by_key(|found| found.both))
    }
}

/// fail2ban did not say what the filter matches.
#[derive(Debug)]
pub(super) struct NotAsked;

fn program(grammar: &Grammar) -> &str {
    grammar.programs().iter().find(|program| !program.contains('*')).map_or("x", String::as_str)
}

fn logged(message: &str, program: &str, number: usize) -> [String; 3] {
    [
        message.to_owned(),
        format!("Nov 22 05:40:38 host {program}[{number}]: {message}"),
        format!("2026-11-22 05:40:38 {message}"),
    ]
}

/// In tests, the addresses of those who others want to be banned.
const FRAMED: &str = "203.0.113.";

fn tally<'g>(
    grammar: &'g Grammar,
    matched: &BTreeMap<usize, BTreeSet<IpAddr>>,
    lines: Vec<Vec<u8>>,
) -> Option<FilterSubstance<'g>> {
    let tests: Vec<(&str, Option<IpAddr>)> = grammar.tests().collect();
    let category = |message: &str| grammar.read(message.as_bytes()).map_or("", |found| found.category());
    let is_both = |nth: &usize| {
        let want = tests.get(*nth).and_then(|(_, want)| *want);
        matched.get(nth).is_some_and(|found| want.is_some_and(|want| found.iter().eq([&want])))
    };
    // What the filter says of a forged line is not for or against it.
    let is_fooled =
        |found: &BTreeSet<IpAddr>| found.iter().all(|address| address.to_string().starts_with(FRAMED));
    let fooled = matched.iter().filter(|(nth, found)| !is_both(nth) && is_fooled(found)).count();
    let both: Vec<usize> = matched.keys().copied().filter(is_both).collect();
    let categories: BTreeSet<&str> =
        both.iter().filter_map(|nth| Some(category(tests.get(*nth)?.0))).collect();
    let only_ours = tests.iter().enumerate().filter(|(nth, (message, want))| {
        want.is_some() && !matched.contains_key(nth) && categories.contains(category(message))
    });
    let only_ours = only_ours.count();
    (!both.is_empty()).then(|| FilterSubstance {
        grammar,
        categories: categories.into_iter().collect(),
        only_filter: matched.len() - both.len() - fooled,
        both: both.len(),
        only_ours,
        lines,
    })
}

/// All that says what a jail is about, without what is neither a letter nor a digit.
fn named(jail: &Fail2banJail) -> String {
    let paths = jail.options.get("logpath").map_or("", String::as_str);
    let texts = [&jail.name, &jail.filter.name, paths, &jail.regexes.daemon];
    let regexes = [&jail.regexes.fail, &jail.regexes.journal].into_iter().flatten().map(String::as_str);
    texts.into_iter().chain(regexes).map(plain).collect::<Vec<_>>().join(" ")
}

fn plain(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Names that are shorter than this stand in other words.
const SHORTEST_NAME: usize = 3;

fn is_named(named: &str, grammar: &Grammar) -> bool {
    let names = grammar.programs().iter().map(String::as_str).chain([grammar.name()]);
    names.map(plain).any(|name| name.len() >= SHORTEST_NAME && named.contains(&name))
}

/// Whether grammars read lines that a filter would match: of one of its regular expressions at least.
pub(super) fn reads_samples(grammars: &[&Grammar], filter: &FilterRegexes) -> bool {
    let samples = |regex: &String| match convert::rule(filter, regex) {
        Ok(RegexOutcome::Rule(draft)) => Some(draft.samples),
        _ => None,
    };
    let samples: Vec<Vec<String>> = filter.fail.iter().filter_map(samples).collect();
    let reads = |line: &String| {
        let line = line.trim_start();
        let stamps = ["", "2026-11-22 05:40:38 ", "2026/11/22 05:40:38 ", "[Sun Nov 22 05:40:38 2026] "];
        let mut lines = stamps.iter().map(|stamp| format!("{stamp}{line}"));
        let found = |line: String| {
            let mut found = grammars.iter().filter_map(|grammar| grammar.read(line.as_bytes()));
            found.any(|found| found.address().is_some())
        };
        lines.any(found)
    };
    samples.iter().flatten().any(reads)
}
