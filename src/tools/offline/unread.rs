//! The lines that no grammar reads, by program: what a replay says nothing about.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::engine::IgnoredPrograms;
use crate::grammar::{Grammar, Grammars, MissReason};
use crate::model::{count, plain};

/// Programs that are told apart; lines of others are only counted. So many texts of strangers are kept at most.
const MOST: usize = 1000;
/// Programs that are named for people.
const NAMED: usize = 10;

/// Lines of a program that no grammar reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UnreadProgram {
    /// The program; empty for lines that name none.
    program: String,
    /// How many lines.
    lines: u64,
}

/// Counts lines that no grammar reads.
#[derive(Default)]
pub(super) struct UnreadLines {
    programs: BTreeMap<Vec<u8>, u64>,
    others: u64,
    /// A program whose lines look like the first that names none.
    guess: Option<String>,
}

impl UnreadLines {
    /// Counts those of a batch.
    pub(super) fn count(&mut self, ignored: &IgnoredPrograms, grammars: &Grammars) {
        for (program, lines) in ignored.iter() {
            let is_full = self.programs.len() == MOST;
            match self.programs.get_mut(program) {
                Some(known) => *known += lines,
                None if is_full => self.others += lines,
                None => {
                    if let Some(message) = ignored.nameless().filter(|_| program.is_empty()) {
                        self.guess = guess(grammars, message);
                    }
                    self.programs.insert(program.to_vec(), lines);
                }
            }
        }
    }

    /// The programs with most lines first.
    pub(super) fn programs(&self) -> Vec<UnreadProgram> {
        let told =
            |(program, lines): (&Vec<u8>, &u64)| UnreadProgram { program: plain(program), lines: *lines };
        let mut all: Vec<_> = self.programs.iter().map(told).collect();
        all.sort_by_key(|unread| std::cmp::Reverse(unread.lines));
        all
    }

    /// Sentences for people.
    pub(super) fn told(&self) -> Vec<String> {
        let programs = self.programs();
        let sentence = |unread: &UnreadProgram| {
            let lines = count(unread.lines, "line");
            match (unread.program.as_str(), &self.guess) {
                ("", Some(program)) => {
                    format!(
                        "{lines} without a program's name: they look like those of {program}, so add `--program {program}`"
                    )
                }
                ("", None) => {
                    format!("{lines} without a program's name: `--program NAME` says whose they are")
                }
                (program, _) => format!("{lines} of {program}: no grammar reads them"),
            }
        };
        let mut told: Vec<String> = programs.iter().take(NAMED).map(sentence).collect();
        let rest = self.others + programs.iter().skip(NAMED).map(|unread| unread.lines).sum::<u64>();
        if rest > 0 {
            told.push(format!("{} of other programs: no grammar reads them", count(rest, "line")));
        }
        told
    }
}

/// A program whose grammar reads such a message.
fn guess(grammars: &Grammars, message: &[u8]) -> Option<String> {
    let reads = |grammar: &&Grammar| {
        !grammar.reads_all()
            && (grammar.read(message).is_some()
                || matches!(grammar.miss_reason(message), MissReason::Unmet(_)))
    };
    let grammar = grammars.iter().find(reads)?;
    grammar.programs().iter().find(|program| !program.contains('*')).cloned()
}
