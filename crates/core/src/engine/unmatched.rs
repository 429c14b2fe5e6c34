//! Counts lines that name an address and match no rule, by their form.
//!
//! It outlives batches and is bounded: for each grammar it keeps a limited number of forms, and the least recently seen
//! makes room.

use std::collections::VecDeque;

use crate::grammar::Grammar;
use crate::model::Timestamp;

/// Kinds of lines kept of one grammar.
const TEMPLATES: usize = 64;

/// The form of similar lines that no rule matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnmatchedTemplate {
    /// What they look like, in the words of a rule; strangers wrote some of it.
    pub template: String,
    /// How many of them were looked at.
    pub lines: u64,
    /// When the last of them was written.
    pub last: Timestamp,
}

/// The lines of one program that no rule of its grammar matches, by form.
#[derive(Clone, Debug, Default)]
pub struct UnmatchedLines {
    /// How many lines were looked at, those of templates that are forgotten included.
    pub lines: u64,
    /// The one seen last comes first: the next line mostly has its form.
    templates: VecDeque<UnmatchedTemplate>,
}

impl UnmatchedLines {
    /// The templates, the one seen last first.
    pub fn templates(&self) -> impl Iterator<Item = &UnmatchedTemplate> {
        self.templates.iter()
    }

    /// Counts a line that looks like this to `grammar`.
    pub(super) fn count(&mut self, grammar: &Grammar, template: String, at: Timestamp) {
        self.lines += 1;
        let known = (0..)
            .zip(&self.templates)
            .find_map(|(index, known)| Some((index, grammar.join(&known.template, &template)?)));
        let (lines, template) =
            match known.and_then(|(index, joined)| Some((self.templates.remove(index)?.lines, joined))) {
                Some(known) => known,
                None => (0, template),
            };
        self.templates.truncate(TEMPLATES - 1);
        self.templates.push_front(UnmatchedTemplate { template, lines: lines + 1, last: at });
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
        let (grammar, mut unmatched) = (grammar(), UnmatchedLines::default());
        for (second, template) in (0..).zip(templates) {
            unmatched.count(&grammar, (*template).to_owned(), Timestamp::from_secs(second));
        }
        let kept: Vec<(u64, &str)> =
            unmatched.templates().map(|known| (known.lines, known.template.as_str())).collect();
        assert_eq!(kept, want);
        assert_eq!(unmatched.lines, templates.len() as u64);
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
        let (grammar, mut unmatched) = (grammar(), UnmatchedLines::default());
        for number in 0..TEMPLATES + 5 {
            unmatched.count(&grammar, "always <ip>".to_owned(), Timestamp::default());
            unmatched.count(&grammar, format!("{}<ip>", "x ".repeat(number)), Timestamp::default());
        }
        assert_eq!(unmatched.templates().count(), TEMPLATES);
        let always = unmatched.templates().find(|known| known.template == "always <ip>");
        assert_eq!(always.map(|known| known.lines), Some(TEMPLATES as u64 + 5));
        assert!(unmatched.templates().all(|known| known.template != "<ip>" && known.template != "x <ip>"));
    }
}
