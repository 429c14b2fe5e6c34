//! Counts lines that name an address and match no rule, by their form.
//!
//! It outlives batches and is bounded: for each grammar it keeps a limited number of forms, and the least recently seen
//! makes room.

use std::collections::VecDeque;

use crate::grammar::Grammar;
use crate::model::Timestamp;

/// Kinds of lines kept of one grammar.
const KINDS: usize = 64;

/// Lines of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnmatchedTemplate {
    /// What they look like, in the words of a rule; strangers wrote some of it.
    pub template: String,
    /// How many of them were looked at.
    pub lines: u64,
    /// When the last of them was written.
    pub last: Timestamp,
}

/// The kinds of lines that one grammar does not know.
#[derive(Clone, Debug, Default)]
pub struct UnmatchedLines {
    /// How many lines were looked at, those of kinds that are forgotten included.
    pub lines: u64,
    /// The one seen last comes first: the next line is mostly of its kind.
    kinds: VecDeque<UnmatchedTemplate>,
}

impl UnmatchedLines {
    /// The kinds, the one seen last first.
    pub fn kinds(&self) -> impl Iterator<Item = &UnmatchedTemplate> {
        self.kinds.iter()
    }

    /// Counts a line that looks like this to `grammar`.
    pub(super) fn count(&mut self, grammar: &Grammar, template: String, at: Timestamp) {
        self.lines += 1;
        let known = (0..)
            .zip(&self.kinds)
            .find_map(|(index, kind)| Some((index, grammar.join(&kind.template, &template)?)));
        let (lines, template) =
            match known.and_then(|(index, joined)| Some((self.kinds.remove(index)?.lines, joined))) {
                Some(known) => known,
                None => (0, template),
            };
        self.kinds.truncate(KINDS - 1);
        self.kinds.push_front(UnmatchedTemplate { template, lines: lines + 1, last: at });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grammar::Lists;

    fn grammar() -> Grammar {
        Grammar::load("p", "p.grammar", "program: p\nx:\n    gone by <ip>\n", &Lists::shipped()).unwrap().0
    }

    /// What is kept of lines that look like these: lines and template, the last first.
    #[track_caller]
    fn check(templates: &[&str], want: &[(u64, &str)]) {
        let (grammar, mut strangers) = (grammar(), UnmatchedLines::default());
        for (second, template) in (0..).zip(templates) {
            strangers.count(&grammar, (*template).to_owned(), Timestamp::from_secs(second));
        }
        let kept: Vec<(u64, &str)> =
            strangers.kinds().map(|kind| (kind.lines, kind.template.as_str())).collect();
        assert_eq!(kept, want);
        assert_eq!(strangers.lines, templates.len() as u64);
    }

    #[test]
    fn lines_of_a_kind_are_counted_together() {
        check(
            &["bad day for <ip>", "bad night for <ip>", "left by <ip>", "bad day for <ip>"],
            &[(3, "bad <word> for <ip>"), (1, "left by <ip>")],
        );
    }

    #[test]
    fn the_kind_longest_unseen_makes_room() {
        let (grammar, mut strangers) = (grammar(), UnmatchedLines::default());
        for number in 0..KINDS + 5 {
            strangers.count(&grammar, "always <ip>".to_owned(), Timestamp::default());
            strangers.count(&grammar, format!("{}<ip>", "x ".repeat(number)), Timestamp::default());
        }
        assert_eq!(strangers.kinds().count(), KINDS);
        let always = strangers.kinds().find(|kind| kind.template == "always <ip>");
        assert_eq!(always.map(|kind| kind.lines), Some(KINDS as u64 + 5));
        assert!(strangers.kinds().all(|kind| kind.template != "<ip>" && kind.template != "x <ip>"));
    }
}
