//! The conditions that make a line of a shape an offence: comparisons of its named fields with lists of words.
//!
//! A condition can only make a rule match less, so a new word in a list needs no new proof. The proof is told about
//! text that every case excludes from a field. Comparisons ignore ASCII case. For `has` and `starts`, a thousand words
//! cost as much as one.

mod promise;
mod test;

use std::sync::Arc;

use super::fault::Faults;
use super::matcher::Spans;
use super::path::{Room, resolved};
use super::source::{Case, How, View, Word};
use crate::model::CategoryId;
pub(super) use promise::{narrow, warn_of_unmet};
pub(super) use test::Tests;
use test::{SubjectText, Test, named};

/// What makes a message of a shape an offence, and the comparisons that this takes, each of them once.
#[derive(Debug)]
pub(super) struct Conditions {
    subjects: Vec<Subject>,
    terms: Vec<Term>,
    cases: Vec<Condition>,
}

/// A part of a field that is compared with something.
#[derive(Debug)]
struct Subject {
    slot: usize,
    part: View,
    /// What the comparisons with short words come to for each of them, and for any other text.
    shorts: Vec<(u64, Learned)>,
    others: Learned,
}

/// What comparisons came to, and which cases that refutes; as bits, so of the first 64 of each.
#[derive(Clone, Copy, Debug, Default)]
struct Learned {
    known: u64,
    held: u64,
    refuted: u64,
}

/// Comparisons that must all hold.
#[derive(Debug)]
pub(super) struct Condition {
    pub(super) category: u16,
    /// The line where it stands.
    pub(super) line: u32,
    /// Places among the comparisons, and what each must come to.
    terms: Vec<(usize, bool)>,
}

/// A part of a field, by its place among the subjects, and what it is compared with.
#[derive(Debug)]
struct Term {
    bit: u64,
    subject: usize,
    test: Arc<Test>,
    /// The cases that are refuted where it fails, and where it holds.
    refuted: [u64; 2],
}

/// What tells comparisons apart while they are gathered: the subject, and what it is compared with.
type Key = (usize, How, Vec<String>);

/// What is known of a message, and the first subjects' texts.
#[derive(Default)]
struct Answers<'m> {
    learned: Learned,
    texts: [Option<SubjectText<'m>>; 8],
}

impl Learned {
    fn add(&mut self, other: Self) {
        self.known |= other.known;
        self.held |= other.held;
        self.refuted |= other.refuted;
    }
}

impl Conditions {
    /// Makes the cases of a shape usable; `names` are its fields by slot, and `lists` gives the words of a list.
    pub(super) fn new<'l>(
        cases: &[Case],
        names: &[Option<String>],
        lists: impl Fn(&str) -> Option<&'l [String]> + Copy,
        tests: &Tests,
        faults: &mut Faults<'_>,
    ) -> Self {
        let mut conditions = Self { subjects: Vec::new(), terms: Vec::new(), cases: Vec::new() };
        let mut keys = Vec::new();
        for case in cases {
            let terms = conditions.comparisons(case, names, lists, tests, &mut keys);
            match (terms, u16::try_from(case.category)) {
                (Ok(terms), Ok(category)) => {
                    conditions.cases.push(Condition { category, line: case.place.line, terms });
                }
                (Err(what), _) => faults.error(case.place, what),
                (_, Err(_)) => {}
            }
        }
        // What could be either is an offence.
        conditions.cases.sort_by_key(|case| case.category == CategoryId::LOGIN.0);
        conditions.foresee();
        conditions
    }

    /// Works out which cases a comparison refutes, and what a short text makes known at once.
    fn foresee(&mut self) {
        for (case, condition) in self.cases.iter().enumerate() {
            for (place, want) in &condition.terms {
                if let Some(term) = self.terms.get_mut(*place) {
                    let [fails, holds] = &mut term.refuted;
                    *(if *want { fails } else { holds }) |= bit(case);
                }
            }
        }
        for (number, subject) in self.subjects.iter_mut().enumerate() {
            let terms = self.terms.iter().filter(|term| term.subject == number);
            let tests: Vec<(&Term, &[u64])> = terms
                .filter_map(|term| match &*term.test {
                    Test::IsShort(words) => Some((term, words.as_slice())),
                    _ => None,
                })
                .collect();
            let learn = |text: Option<u64>| {
                tests.iter().fold(Learned::default(), |mut learned, (term, words)| {
                    let holds = text.is_some_and(|text| words.contains(&text));
                    learned.add(term.learned(holds));
                    learned
                })
            };
            let mut words: Vec<u64> = tests.iter().flat_map(|(_, words)| *words).copied().collect();
            words.sort_unstable();
            words.dedup();
            subject.others = learn(None);
            subject.shorts = words.into_iter().map(|word| (word, learn(Some(word)))).collect();
        }
    }

    fn comparisons<'l>(
        &mut self,
        case: &Case,
        names: &[Option<String>],
        lists: impl Fn(&str) -> Option<&'l [String]>,
        tests: &Tests,
        keys: &mut Vec<Key>,
    ) -> Result<Vec<(usize, bool)>, String> {
        let mut terms = Vec::new();
        for comparison in &case.comparisons {
            let Some(slot) = names.iter().position(|name| name.as_deref() == Some(&comparison.field)) else {
                let known: Vec<&str> = names.iter().flatten().map(String::as_str).collect();
                return Err(format!(
                    "the shape has no field `{}`; it has {}",
                    comparison.field,
                    known.join(" ")
                ));
            };
            let mut words: Vec<String> = Vec::new();
            for word in &comparison.words {
                match word {
                    Word::Plain(word) => words.push(word.clone()),
                    Word::List(name) => match lists(name) {
                        Some(list) => words.extend_from_slice(list),
                        None => return Err(format!("there is no `list {name}:` and no file `{name}.list`")),
                    },
                }
            }
            let part = comparison.part;
            let known = self.subjects.iter().position(|known| (known.slot, known.part) == (slot, part));
            let subject = known.unwrap_or_else(|| {
                let (shorts, others) = (Vec::new(), Learned::default());
                self.subjects.push(Subject { slot, part, shorts, others });
                self.subjects.len() - 1
            });
            let key = (subject, comparison.how, words);
            let known = keys.iter().position(|known| *known == key);
            if known.is_none() {
                let test = tests
                    .get(comparison.how, &key.2)
                    .map_err(|error| format!("cannot compare with these words: {error}"))?;
                self.terms.push(Term { bit: bit(self.terms.len()), subject, test, refuted: [0; 2] });
                keys.push(key);
            }
            terms.push((known.unwrap_or(keys.len() - 1), !comparison.not));
        }
        // What is cheap is asked first; all have to hold anyway.
        let is_search = |place: usize| self.terms.get(place).is_some_and(|term| term.test.is_search());
        terms.sort_by_key(|(place, _)| is_search(*place));
        Ok(terms)
    }

    /// The first condition that a message with these spans meets. Linear in the fields that are named: each comparison is
    /// made once at most.
    ///
    /// What is not part of the message counts as the `-` that servers write for what is not there; of a message that is
    /// `cut` nobody knows what it was, and it meets nothing. Neither does what a record does not have.
    pub(super) fn first(&self, message: &[u8], spans: &Spans, cut: bool) -> Option<&Condition> {
        let (mut answers, mut place) = (Answers::default(), 0);
        loop {
            // Those that are refuted already are passed over at once.
            place += answers.learned.refuted.checked_shr(place).unwrap_or(0).trailing_ones();
            let case = self.cases.get(place as usize)?;
            if self.failing(case, message, spans, cut, &mut answers).is_none() {
                return Some(case);
            }
            place += 1;
        }
    }

    /// Each condition, and the slot of a field that contradicts it, if there is one.
    pub(super) fn unmet<'c>(
        &'c self,
        message: &'c [u8],
        spans: &'c Spans,
        cut: bool,
    ) -> impl Iterator<Item = (&'c Condition, usize)> {
        let mut answers = Answers::default();
        self.cases.iter().filter_map(move |case| {
            let term = self.failing(case, message, spans, cut, &mut answers)?;
            Some((case, self.subjects.get(term.subject)?.slot))
        })
    }

    /// Panics if the [first](Self::first) is not the first that nothing contradicts, asked one by one.
    #[cfg(any(test, fuzzing))]
    #[track_caller]
    pub(super) fn compare(&self, message: &[u8], spans: &Spans, cut: bool) {
        let holds = |(place, want): &(usize, bool)| {
            let (term, mut answers) = (self.terms.get(*place)?, Answers::default());
            let text = self.text(term.subject, message, spans, cut, &mut answers)?;
            (term.test.holds(text) == *want).then_some(())
        };
        let want = self.cases.iter().find(|case| case.terms.iter().all(|term| holds(term).is_some()));
        let line = |case: Option<&Condition>| case.map(|case| case.line);
        assert_eq!(line(self.first(message, spans, cut)), line(want), "{}", message.escape_ascii());
    }

    /// The beginning of a path as servers resolve it, up to where a name ends that the condition looks for.
    pub(super) fn named<'t>(
        &self,
        condition: &Condition,
        path: &'t [u8],
        room: &'t mut Room,
    ) -> Option<&'t [u8]> {
        let path = resolved(path, room);
        condition.terms.iter().find_map(|(place, _)| match &*self.terms.get(*place)?.test {
            Test::Names(words) => path.get(..named(words, path)?),
            _ => None,
        })
    }

    /// A comparison that contradicts the condition, if there is one.
    fn failing<'m>(
        &self,
        condition: &Condition,
        message: &'m [u8],
        spans: &Spans,
        cut: bool,
        answers: &mut Answers<'m>,
    ) -> Option<&Term> {
        condition.terms.iter().find_map(|(place, want)| {
            let term = self.terms.get(*place)?;
            if answers.learned.known & term.bit == 0 {
                let Some(text) = self.text(term.subject, message, spans, cut, answers) else {
                    return Some(term);
                };
                if answers.learned.known & term.bit == 0 {
                    let holds = term.test.holds(text);
                    answers.learned.add(term.learned(holds));
                    return (holds != *want).then_some(term);
                }
            }
            ((answers.learned.held & term.bit != 0) != *want).then_some(term)
        })
    }

    /// What a subject is; `None` if the message was cut, and so may have a text for it that is not here.
    fn text<'m>(
        &self,
        subject: usize,
        message: &'m [u8],
        spans: &Spans,
        cut: bool,
        answers: &mut Answers<'m>,
    ) -> Option<SubjectText<'m>> {
        if let Some(Some(known)) = answers.texts.get(subject) {
            return Some(*known);
        }
        let known = self.subjects.get(subject)?;
        let text = spans.get(known.slot).and_then(|(from, to)| message.get(from as usize..to as usize));
        if cut && text.is_none() {
            return None;
        }
        let text = SubjectText::of(known.part.of(text.unwrap_or(b"-")));
        answers.texts.get_mut(subject).into_iter().for_each(|known| *known = Some(text));
        let short = known.shorts.iter().find(|(word, _)| Some(*word) == text.short());
        answers.learned.add(short.map_or(known.others, |(_, learned)| *learned));
        Some(text)
    }
}

impl Term {
    /// What its outcome makes known.
    fn learned(&self, holds: bool) -> Learned {
        let [if_fails, if_holds] = self.refuted;
        match holds {
            true => Learned { known: self.bit, held: self.bit, refuted: if_holds },
            false => Learned { known: self.bit, held: 0, refuted: if_fails },
        }
    }
}

/// The bit of a comparison or a case; none beyond the 64th, which are looked at each time.
fn bit(place: usize) -> u64 {
    1_u64.checked_shl(place as u32).unwrap_or(0)
}
