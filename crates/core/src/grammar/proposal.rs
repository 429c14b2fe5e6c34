//! Proposes a grammar from sample lines.
//!
//! Lines of one kind become one rule: what they share is text, the rest are fields. A rule is tried with each address
//! that may be the offender's, and in ever stricter forms, until the proof holds beside the rules before it and each
//! sample is read. The result is a whole file that loads, with the samples as its tests.

mod kind;
mod record;
mod token;

use std::fmt::Write;
use std::net::IpAddr;

use hashbrown::HashMap;

use super::{Grammar, Lists, Severity};
use crate::model::{count, is_harmful};
use kind::{Draft, Kind};
use token::{Class, Token, tokens};

/// A proposed grammar, and what did not go into it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Proposal {
    /// The file; `None` where no line names an address.
    pub text: Option<String>,
    /// The rules and shapes in it.
    pub rules: u64,
    /// Lines that name no address of a client.
    pub without_address: u64,
    /// Lines that cannot stand in a grammar: not UTF-8, with control characters, or too long.
    pub unwritable: u64,
    /// Lines that say nothing of a failure; some are tests for `-`.
    pub harmless: u64,
    /// Kinds of lines beyond the most that are proposed.
    pub left_out: u64,
    /// Lines that report an offence and that none of its rules reads.
    pub unread: u64,
    /// Rules that were refused, and stand in the file as comments.
    pub refused: u64,
    /// How many lines are of the largest kind, and why its rule was refused, if it was.
    pub main_refused: Option<(u64, String)>,
}

/// The most rules proposed: each is proved beside all others.
const MOST_RULES: usize = 100;
/// Samples of one rule that become tests.
const MOST_TESTS: usize = 3;
/// Longer messages make no rule that anybody could read.
const LONGEST: usize = 4096;
/// Forms of lines that are compared, and lines of each.
const MOST_FORMS: usize = 4096;
const MOST_OF_FORM: usize = 8;
/// Rules that are tried for one kind.
const MOST_TRIES: usize = 200;

/// Proposes a grammar for programs, as a line `program:` names them, from messages of theirs that report offences, and
/// some that do not. The same messages make the same grammar.
pub fn propose<'m>(program: &str, messages: impl Iterator<Item = &'m [u8]>) -> Proposal {
    let messages: Vec<&[u8]> = messages.collect();
    let mut proposal = Proposal::default();
    if let Some(by_key) = by_key(program, &messages) {
        return by_key;
    }
    let (mut kinds, lines) = kinds(messages.into_iter(), &mut proposal);
    // Where some lines report a failure, the others do not.
    let some_fail = kinds.iter().any(|(kind, _)| kind.fails);
    let (mut kinds, harmless): (Vec<_>, Vec<_>) =
        kinds.drain(..).partition(|(kind, _)| if some_fail { kind.fails } else { !kind.succeeds });
    proposal.harmless = harmless.iter().map(|(kind, _)| kind.lines).sum();
    kinds.sort_by_key(|(kind, _)| std::cmp::Reverse(kind.lines));
    proposal.left_out = kinds.len().saturating_sub(MOST_RULES) as u64;
    kinds.truncate(MOST_RULES);
    if kinds.is_empty() && harmless.is_empty() {
        return proposal;
    }
    let mut draft = File {
        head: head(program, lines - proposal.without_address),
        name: program.to_owned(),
        ..File::default()
    };
    for (kind, _) in harmless.iter().take(MOST_RULES) {
        kind.samples.iter().take(MOST_TESTS).for_each(|sample| draft.harmless += &test(None, sample));
    }
    let largest = kinds.iter().map(|(kind, _)| kind.lines).max();
    for (kind, drafts) in &kinds {
        match draft.add(kind, drafts) {
            Ok(true) => proposal.rules += 1,
            Ok(false) => {}
            Err(why) => {
                proposal.refused += 1;
                if Some(kind.lines) == largest && proposal.main_refused.is_none() {
                    proposal.main_refused = Some((kind.lines, why));
                }
            }
        }
    }
    for (kind, drafts) in harmless.iter().take(MOST_RULES) {
        draft.mention(kind, drafts);
    }
    let is_unread = |line: &str| draft.grammar.as_ref().is_none_or(|grammar| !grammar.knows(line.as_bytes()));
    let forms = kinds.iter().flat_map(|(kind, _)| &kind.forms);
    proposal.unread += forms.filter(|(line, _)| is_unread(line)).map(|(_, times)| times).sum::<u64>();
    proposal.text = Some(draft.text("", "", ""));
    proposal
}

/// What stands above the rules.
fn head(program: &str, lines: u64) -> String {
    format!(
        "# Attacks in the log of {program}, proposed from {}.\n\
         # Check each rule: <user> or <text> is text that a stranger can type, <word> or <num> other text that varies,\n\
         # <ip> the offender.\n\
         program: {program}\n",
        count(lines, "line")
    )
}

/// A shape for lines that are objects of JSON or `key=value`, if all are and it reads them.
fn by_key(program: &str, messages: &[&[u8]]) -> Option<Proposal> {
    let lines: Vec<&str> = messages.iter().filter_map(|message| writable(message)).collect();
    let (format, records) = record::records(&lines).filter(|(_, records)| !records.is_empty())?;
    let shape = record::shape(&records)?;
    let samples: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
    let offences = shape.offences.iter().map(|address| address.map(|address| address.to_canonical()));
    let tests: String = picked(samples.iter().zip(offences.clone()))
        .iter()
        .map(|(line, address)| test(*address, line))
        .collect();
    let (all, harmful) = (lines.len() as u64, shape.offences.iter().flatten().count() as u64);
    let mut text =
        format!("{}\n{format} events:\n    # {}{}\n", head(program, all), count(all, "line"), shape.note);
    shape.lines.iter().for_each(|line| text += &format!("    {line}\n"));
    text += &format!("\n{} in events:\n", shape.category);
    for (times, condition) in &shape.conditions {
        if *times > 0 {
            text += &format!("    # {}\n", count(*times, "line"));
        }
        text += &format!("    {condition}\n");
    }
    text += &format!("\ntest:\n{tests}");
    let (grammar, _) = Grammar::load(program, program, &text, &Lists::shipped()).ok()?;
    let reads = |line: &str| grammar.read(line.as_bytes()).and_then(|found| found.address());
    lines.iter().zip(offences).all(|(line, address)| reads(line) == address).then(|| Proposal {
        text: Some(text),
        rules: 1,
        unwritable: messages.len() as u64 - all,
        harmless: all - harmful,
        ..Proposal::default()
    })
}

/// The kinds of lines, each with what may describe it, and how many lines can stand in a grammar.
fn kinds<'m>(
    messages: impl Iterator<Item = &'m [u8]>,
    proposal: &mut Proposal,
) -> (Vec<(Kind, Vec<Draft>)>, u64) {
    // Lines that differ in values alone are compared once.
    let (mut forms, mut known, mut lines) = (Vec::<(u64, Vec<&str>)>::new(), HashMap::new(), 0);
    for message in messages {
        let Some(text) = writable(message) else {
            proposal.unwritable += 1;
            continue;
        };
        lines += 1;
        let tokens = tokens(text);
        if !tokens.iter().any(|token| token.class == Class::Address) {
            proposal.without_address += 1;
            continue;
        }
        let at = *known.entry(form(&tokens)).or_insert(forms.len());
        if at == forms.len() && at < MOST_FORMS {
            forms.push((0, Vec::new()));
        } else if at >= MOST_FORMS {
            proposal.unread += 1;
        }
        if let Some((times, lines)) = forms.get_mut(at) {
            *times += 1;
            if lines.len() < MOST_OF_FORM && !lines.contains(&text) {
                lines.push(text);
            }
        }
    }
    let mut kinds: Vec<Kind> = Vec::new();
    for (times, lines) in forms {
        for (nth, line) in lines.into_iter().enumerate() {
            let (tokens, times) = (tokens(line), if nth == 0 { times } else { 0 });
            if !kinds.iter_mut().any(|kind| kind.take(line, &tokens, times)) {
                kinds.push(Kind::of(line, &tokens, times));
            }
        }
    }
    let drafted = kinds.into_iter().filter_map(|mut kind| {
        let drafts = kind.drafts();
        if drafts.is_empty() {
            // It names the server's own address.
            proposal.without_address += kind.lines;
            return None;
        }
        Some((kind, drafts))
    });
    (drafted.collect(), lines)
}

/// What a line looks like apart from its values.
fn form(tokens: &[Token<'_>]) -> String {
    tokens.iter().fold(String::new(), |mut form, token| {
        match token.class {
            class if class.is_text() => form.push_str(token.text),
            Class::Address => {
                form.push_str(if token.text.parse::<IpAddr>().is_ok() { "\u{1}" } else { "\u{2}" })
            }
            class => drop(write!(form, "\u{3}{class:?}")),
        }
        form
    })
}

/// Whether a message names an address and says that something failed.
pub fn tells_of_failure(message: &[u8]) -> bool {
    writable(message).is_some_and(|text| {
        let tokens = tokens(text);
        let is_address = |token: &Token<'_>| token.class == Class::Address;
        tokens.iter().any(is_address) && Kind::of(text, &tokens, 1).fails
    })
}

/// The message, if it can stand in a grammar.
fn writable(message: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(message).ok()?.trim();
    (text.len() <= LONGEST && !text.contains(is_harmful)).then_some(text)
}

/// A line below `test:`.
fn test(address: Option<IpAddr>, message: &str) -> String {
    let address = address.map_or_else(|| "-".to_owned(), |address| address.to_canonical().to_string());
    format!("    {address:<15} {message}\n")
}

/// The file as it grows.
#[derive(Default)]
struct File {
    name: String,
    head: String,
    rules: String,
    shapes: String,
    tests: String,
    harmless: String,
    /// The shapes so far.
    shaped: usize,
    grammar: Option<Grammar>,
}

impl File {
    /// The whole file, with this rule, shape and tests more.
    fn text(&self, rule: &str, shape: &str, tests: &str) -> String {
        let Self { head, rules, shapes, tests: before, harmless, .. } = self;
        let heading = if rules.is_empty() && rule.is_empty() { "" } else { "\nauth-failure:\n" };
        let tests = format!("{before}{tests}{harmless}");
        let test = if tests.is_empty() { "" } else { "\ntest:\n" };
        format!("{head}{heading}{rules}{rule}{shapes}{shape}{test}{tests}")
    }

    /// Adds a rule for these lines; whether one was needed.
    ///
    /// # Errors
    ///
    /// Why the most generous rule was refused, if all were.
    fn add(&mut self, kind: &Kind, drafts: &[Draft]) -> Result<bool, String> {
        let (mut fault, mut tries) = (None, 0);
        let times = count(kind.lines, "line");
        for draft in drafts {
            let (cases, offends) = draft.cases();
            let wanted = || {
                kind.samples.iter().zip(&draft.addresses).enumerate().map(|(nth, (sample, address))| {
                    (
                        sample,
                        address
                            .filter(|_| offends.get(nth).copied().unwrap_or(true))
                            .map(|ip| ip.to_canonical()),
                    )
                })
            };
            let holds = |grammar: &Grammar| {
                wanted().all(|(sample, want)| {
                    grammar.read(sample.as_bytes()).and_then(|found| found.address()) == want
                })
            };
            let tests: String =
                picked(wanted()).iter().map(|(sample, address)| test(*address, sample)).collect();
            if self.grammar.as_ref().is_some_and(&holds) {
                self.tests += &tests;
                return Ok(false);
            }
            let note = draft.note(kind, &times);
            for rule in &draft.rules {
                tries += 1;
                let (rule, shape) = match &cases {
                    Some((category, condition)) => {
                        let name = if self.shaped == 0 {
                            "access".to_owned()
                        } else {
                            format!("access-{}", self.shaped + 1)
                        };
                        let shape = format!(
                            "\nshape {name}:\n{note}    {rule}\n\n{category} in {name}:\n    {condition}\n"
                        );
                        (String::new(), shape)
                    }
                    None => (format!("{note}    {rule}\n"), String::new()),
                };
                let text = self.text(&rule, &shape, &tests);
                match Grammar::load(&self.name, &self.name, &text, &Lists::shipped()) {
                    Ok((grammar, _)) if holds(&grammar) => {
                        self.grammar = Some(grammar);
                        self.shaped += usize::from(!shape.is_empty());
                        self.rules += &rule;
                        self.shapes += &shape;
                        self.tests += &tests;
                        return Ok(true);
                    }
                    Ok(_) => {
                        fault.get_or_insert_with(|| "it does not read all of the lines".to_owned());
                    }
                    Err(faults) => {
                        let error = faults.into_iter().find(|fault| fault.severity == Severity::Error);
                        fault.get_or_insert_with(|| error.map_or_else(String::new, |error| error.what));
                    }
                }
                if tries == MOST_TRIES {
                    break;
                }
            }
        }
        let fault = fault.unwrap_or_default();
        if let (Some(draft), Some(sample)) = (drafts.first(), kind.samples.first()) {
            let rule = draft.rules.first().map_or("", String::as_str);
            let _ =
                writeln!(self.rules, "    # {times}; refused: {fault}\n    # {rule}\n    # as in: {sample}");
        }
        Err(fault)
    }

    /// Mentions lines that say nothing of a failure, and what a rule for them would be.
    fn mention(&mut self, kind: &Kind, drafts: &[Draft]) {
        let Some(rule) = drafts.first().and_then(|draft| draft.rules.first()).filter(|_| !kind.access) else {
            return;
        };
        let times = count(kind.lines, "line");
        let _ = writeln!(self.rules, "    # {times} without a word of failure, so no rule\n    # {rule}");
    }
}

/// Samples that become tests: the first ones, but an IPv6 address and a harmless one among them if there are.
fn picked<'s>(
    samples: impl Iterator<Item = (&'s String, Option<IpAddr>)> + Clone,
) -> Vec<(&'s String, Option<IpAddr>)> {
    let offences = samples.clone().filter(|(_, address)| address.is_some());
    let mut picked: Vec<_> = offences.clone().take(MOST_TESTS).collect();
    let v6 = |(_, address): &(&String, Option<IpAddr>)| address.is_some_and(|address| address.is_ipv6());
    if picked.len() == MOST_TESTS
        && !picked.iter().any(v6)
        && let Some(other) = offences.clone().find(v6)
    {
        picked.pop();
        picked.push(other);
    }
    picked.extend(samples.filter(|(_, address)| address.is_none()).take(MOST_TESTS));
    picked
}

impl Draft {
    /// What stands above the rule.
    fn note(&self, kind: &Kind, times: &str) -> String {
        let why = self.why.as_ref().map_or_else(String::new, |why| format!("; {why}"));
        let guessed = match &*self.generalised {
            _ if kind.lines > 1 && kind.samples.len() > 1 => String::new(),
            [] => String::new(),
            names => format!("; generalised: check {}", names.join(", ")),
        };
        format!("    # {times}{why}{guessed}\n")
    }

    /// The category and condition that make a line of an access log an offence, and which of the samples are ones.
    fn cases(&self) -> (Option<(&'static str, String)>, Vec<bool>) {
        if self.statuses.is_empty() {
            return (None, Vec::new());
        }
        let with = |wanted: &dyn Fn(&str) -> bool| {
            let mut found: Vec<&str> =
                self.statuses.iter().map(String::as_str).filter(|status| wanted(status)).collect();
            found.sort_unstable();
            found.dedup();
            found
        };
        let denied = with(&|status| matches!(status, "401" | "403"));
        let (category, statuses) = match denied.is_empty() {
            false => ("auth-failure", denied),
            true => ("probe", with(&|status| status.starts_with('4'))),
        };
        let offends = self.statuses.iter().map(|status| statuses.contains(&&**status)).collect();
        (Some((category, format!("status is {}", statuses.join(" ")))), offends)
    }
}

#[cfg(test)]
mod tests;
