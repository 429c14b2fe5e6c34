//! Proposes a grammar from sample lines.
//!
//! Similar lines become one rule. The proof judges each rule beside those before it; if it refuses one, a stricter one
//! is tried. The result is a whole file that loads, with the samples as its tests.

use std::fmt::Write;
use std::net::IpAddr;

use super::template::{addresses, join, template};
use super::{Grammar, Lists, Severity};
use crate::model::{count, is_harmful};

/// A proposed grammar, and what did not go into it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Proposal {
    /// The file; `None` where no line names an address.
    pub text: Option<String>,
    /// The rules in it.
    pub rules: u64,
    /// Lines that name no address.
    pub without_address: u64,
    /// Lines that cannot stand in a grammar: not UTF-8, with control characters, or too long.
    pub unwritable: u64,
    /// Kinds of lines beyond the most that are proposed.
    pub left_out: u64,
    /// Lines that name an address and that none of its rules reads.
    pub unread: u64,
    /// Rules that were refused, and stand in the file as comments.
    pub refused: u64,
}

/// The most rules proposed: each is proved beside all others.
const MOST_RULES: usize = 100;
/// Samples of one rule that become tests.
const MOST_TESTS: usize = 3;
/// Longer messages make no rule that anybody could read.
const LONGEST: usize = 1024;

/// Lines of one kind.
struct SimilarLines {
    template: String,
    lines: u64,
    /// Which of its addresses is held to account, and why that one.
    culprit: usize,
    why: Option<String>,
    samples: Vec<(IpAddr, String)>,
}

/// Proposes a grammar for a program from messages of it that each report an offence. The same messages make the same
/// grammar.
pub fn propose<'m>(program: &str, messages: impl Iterator<Item = &'m [u8]> + Clone) -> Proposal {
    let mut proposal = Proposal::default();
    let (mut kinds, mut lines) = (Vec::new(), 0);
    for message in messages.clone() {
        let Some(text) = writable(message) else {
            proposal.unwritable += 1;
            continue;
        };
        lines += 1;
        if !gather(&mut kinds, text) {
            proposal.without_address += 1;
        }
    }
    proposal.left_out = kinds.len().saturating_sub(MOST_RULES) as u64;
    kinds.truncate(MOST_RULES);
    if kinds.is_empty() {
        return proposal;
    }
    let lines = count(lines - proposal.without_address, "line");
    let head = format!(
        "# Attacks in the log of {program}, proposed from {lines}.\n\
         # Check each rule: <user> or <text> is text that a stranger can type, <word> or <num> other text that varies,\n\
         # <ip> the offender.\n\
         program: {program}\n\n\
         auth-failure:\n"
    );
    let (mut rules, mut tests) = (String::new(), String::new());
    let mut grammar: Option<Grammar> = None;
    for kind in &kinds {
        let reads = |grammar: &Grammar, (address, text): &(IpAddr, String)| {
            grammar.read(text.as_bytes()).is_some_and(|found| found.address() == address.to_canonical())
        };
        if grammar.as_ref().is_some_and(|grammar| kind.samples.iter().all(|sample| reads(grammar, sample))) {
            // The rules so far do for these lines as well.
            tests += &kind.tests("    ");
            continue;
        }
        let times = count(kind.lines, "line");
        let why = kind.why.as_ref().map_or_else(String::new, |why| format!("; {why}"));
        let generous = kind.rule();
        let (one_word, plain_name) =
            (generous.replace("<text>", "<word>"), generous.replace("<user>", "<user:word>"));
        let strict = one_word.replace("<user>", "<user:word>");
        let lists = Lists::shipped();
        let load = |rule: &&String| {
            let text = format!("{head}{rules}    {rule}\n\ntest:\n{tests}{}", kind.tests("    "));
            Grammar::load(program, program, &text, &lists).map(|(grammar, _)| grammar).map_err(|faults| {
                let error = faults.into_iter().find(|fault| fault.severity == Severity::Error);
                error.map_or_else(String::new, |fault| fault.what)
            })
        };
        let mut rungs = [&generous, &one_word, &plain_name, &strict].into_iter();
        let (body, indent) = match rungs.find_map(|rule| Some((rule, load(&rule).ok()?))) {
            Some((rule, loaded)) => {
                grammar = Some(loaded);
                proposal.rules += 1;
                (rule.clone(), "    ")
            }
            None => {
                proposal.refused += 1;
                let fault = load(&&generous).err().unwrap_or_default();
                (format!("# refused: {fault}\n    # {generous}"), "    # ")
            }
        };
        let _ = writeln!(rules, "    # {times}{why}\n    {body}");
        tests += &kind.tests(indent);
    }
    let unread = |message: &&[u8]| {
        writable(message).is_some_and(|text| addresses(text).next().is_some())
            && grammar.as_ref().is_none_or(|grammar| grammar.read(message).is_none())
    };
    proposal.unread = messages.filter(unread).count() as u64;
    proposal.text = Some(format!("{head}{rules}\ntest:\n{tests}"));
    proposal
}

/// The message, if it can stand in a grammar.
fn writable(message: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(message).ok()?.trim_end();
    (text.len() <= LONGEST && !text.contains(is_harmful)).then_some(text)
}

/// Puts a message to those of its kind; false where it names no address.
fn gather(kinds: &mut Vec<SimilarLines>, text: &str) -> bool {
    let template = template(text);
    let Some((culprit, why)) = culprit(&template) else { return false };
    let Some((_, address)) = addresses(text).nth(culprit) else { return false };
    let joined = kinds.iter_mut().find_map(|kind| {
        let joined = join(&kind.template, &template, |_| false).filter(|_| kind.culprit == culprit)?;
        Some((kind, joined))
    });
    let kind = match joined {
        Some((kind, joined)) => {
            kind.template = joined;
            kind
        }
        None => {
            kinds.push(SimilarLines { template, lines: 0, culprit, why, samples: Vec::new() });
            let Some(kind) = kinds.last_mut() else { return false };
            kind
        }
    };
    kind.lines += 1;
    if kind.samples.len() < MOST_TESTS && !kind.samples.iter().any(|(_, known)| known == text) {
        kind.samples.push((address, text.to_owned()));
    }
    true
}

/// Words before the address of the client; `relay=` and the like are not.
const HINTS: &[&str] = &["from", "rhost", "client", "ip", "addr", "address", "src", "remote", "peer", "by"];

/// Which of a template's addresses is probably the offender's, and why, where there are several: the one behind the
/// last `from`, `rhost=`, `client` or the like, or else the first.
fn culprit(template: &str) -> Option<(usize, Option<String>)> {
    let places: Vec<usize> = template.match_indices("<ip>").map(|(at, _)| at).collect();
    let hint = |at: usize| {
        let before = template.get(..at)?.trim_end_matches(|c: char| !c.is_alphanumeric() && c != '>');
        let word = before.rsplit(|c: char| !c.is_alphanumeric()).next()?;
        HINTS.iter().find(|hint| hint.eq_ignore_ascii_case(word))
    };
    let named = places.iter().enumerate().rev().find_map(|(nth, at)| Some((nth, hint(*at)?)));
    let count = places.len();
    match named {
        _ if count == 0 => None,
        _ if count == 1 => Some((0, None)),
        Some((nth, word)) => {
            Some((nth, Some(format!("of {count} addresses, this uses the one after `{word}`"))))
        }
        None => Some((0, Some(format!("of {count} addresses, this uses the first: is it the right one?")))),
    }
}

impl SimilarLines {
    /// The template as a rule: only the culprit is an `<ip>`.
    fn rule(&self) -> String {
        let mut rule = String::with_capacity(self.template.len());
        for (nth, part) in self.template.split("<ip>").enumerate() {
            if let Some(before) = nth.checked_sub(1) {
                rule += if before == self.culprit { "<ip>" } else { "<word>" };
            }
            rule += part;
        }
        // A line that begins with `#` would be a comment.
        if rule.starts_with('#') { format!("\\{rule}") } else { rule }
    }

    fn tests(&self, indent: &str) -> String {
        let line =
            |(address, text): &(IpAddr, String)| format!("{indent}{:<15} {text}\n", address.to_canonical());
        self.samples.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rules and comments proposed for these lines, which load.
    #[track_caller]
    fn check(lines: &str, want: &[&str]) -> Proposal {
        let proposal = propose("app", lines.lines().map(str::as_bytes));
        let text = proposal.text.clone().unwrap_or_default();
        let rules = text.split("auth-failure:\n").nth(1).and_then(|rest| rest.split("\n\ntest:").next());
        let rules: Vec<&str> = rules.unwrap_or_default().lines().map(str::trim).collect();
        assert_eq!(rules, want, "{text}");
        if proposal.refused == 0 && !want.is_empty() {
            Grammar::load("app", "app.grammar", &text, &Lists::shipped()).unwrap();
        }
        proposal
    }

    #[test]
    fn lines_of_one_shape_are_one_rule() {
        check(
            "login failed for alice from 192.0.2.1 port 22\n\
             login failed for bob from 2001:db8::1 port 4711\n\
             login failed for bob from 2001:db8::1 port 4711\n\
             session opened\n\
             connection of 192.0.2.1 refused",
            &[
                "# 3 lines",
                "login failed for <user> from <ip> port <num>",
                "# 1 line",
                "connection of <ip> refused",
            ],
        );
    }

    #[test]
    fn the_address_of_the_client_is_taken() {
        check(
            "denied 10.0.0.1:22 from 192.0.2.1",
            &["# 1 line; of 2 addresses, this uses the one after `from`", "denied <word>:<num> from <ip>"],
        );
        check(
            "flow 192.0.2.1:4711 -> 10.0.0.1:22",
            &[
                "# 1 line; of 2 addresses, this uses the first: is it the right one?",
                "flow <ip>:<num> -> <word>:<num>",
            ],
        );
        check(
            "no match, rhost=192.0.2.1 server=10.0.0.1",
            &[
                "# 1 line; of 2 addresses, this uses the one after `rhost`",
                "no match, rhost=<ip> server=<word>",
            ],
        );
    }

    #[test]
    fn what_is_refused_becomes_stricter() {
        check(
            "user alice from 192.0.2.1 as 'guest'\nuser bob from 192.0.2.2 as 'x y'",
            &["# 2 lines", "user <user:word> from <ip> as '<text>'"],
        );
    }

    #[test]
    fn what_no_rule_can_hold_is_counted() {
        let proposal = check("session opened\n\u{1b}[0m from 192.0.2.1\n", &[]);
        assert_eq!(proposal, Proposal { without_address: 1, unwritable: 1, ..Proposal::default() });
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(256))]

        #[test]
        fn whatever_the_lines_are_the_proposal_loads(
            lines in proptest::collection::vec(proptest::collection::vec(0..PIECES.len(), 1..14), 1..6)
        ) {
            let lines: Vec<String> =
                lines.iter().map(|line| line.iter().filter_map(|piece| PIECES.get(*piece)).copied().collect()).collect();
            let proposal = propose("app", lines.iter().map(String::as_bytes));
            if proposal.rules > 0 {
                let text = proposal.text.unwrap_or_default();
                let faults = Grammar::load("app", "app", &text, &Lists::shipped()).map_err(|faults| faults.iter().map(ToString::to_string).collect::<String>());
                proptest::prop_assert!(faults.is_ok(), "{}\n{text}", faults.unwrap_err());
            }
        }
    }

    const PIECES: &[&str] = &[
        " ",
        " ",
        " ",
        "user ",
        "for ",
        " from ",
        "msg=",
        "\"",
        "'",
        "192.0.2.1",
        "::1",
        "2001:db8::1",
        "10.0.0.1",
        "\u{e9}",
        "[",
        "]",
        ":",
        "\\",
        "<ip>",
        "{",
        "|",
        "}",
        "#",
        "=",
        "5",
        "x9abcdefgh",
        "12:30:45",
        ".",
        ",",
        "%",
        "bob",
        "port 22",
        "test:",
        "a=b",
        "-",
    ];
}
