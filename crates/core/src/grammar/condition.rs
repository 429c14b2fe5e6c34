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
use super::syntax::{Case, How, View, Word};
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
    /// What its comparisons come to for each short text that is worth foreseeing, and those with short words for any other.
    shorts: ShortTexts,
    others: Learned,
}

/// What is known of a short text as soon as it is read, in a table of 2^n places; a text is at the place of its hash or behind.
#[derive(Debug, Default)]
struct ShortTexts(Vec<Option<(u64, Learned)>>);

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
    /// Their bits: of those that are cheap, and of searches.
    asked: [u64; 2],
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

    fn with(mut self, other: Self) -> Self {
        self.add(other);
        self
    }
}

/// What web servers answer most. Where a condition names one of them, the others are foreseen too.
const STATUSES: [&[u8]; 18] = [
    b"200", b"201", b"204", b"206", b"301", b"302", b"303", b"304", b"307", b"308", b"400", b"401", b"403",
    b"404", b"405", b"499", b"500", b"502",
];

fn short(text: &[u8]) -> Option<u64> {
    SubjectText::of(text).short()
}

impl ShortTexts {
    fn new(all: Vec<(u64, Learned)>) -> Self {
        if all.is_empty() {
            return Self::default();
        }
        let mut table = Self(vec![None; (2 * all.len()).next_power_of_two()]);
        for (text, learned) in all {
            let free = table.places(text).find(|place| table.0.get(*place).is_some_and(Option::is_none));
            let place = free.and_then(|place| table.0.get_mut(place));
            place.into_iter().for_each(|place| *place = Some((text, learned)));
        }
        table
    }

    /// Where a text may be, in a table that is not empty.
    fn places(&self, text: u64) -> impl Iterator<Item = usize> + use<> {
        let mask = self.0.len().wrapping_sub(1);
        let first = (text.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize;
        (0..=mask).map(move |nth| (first + nth) & mask)
    }

    fn get(&self, text: u64) -> Option<&Learned> {
        let mut there = self.places(text).map_while(|place| self.0.get(place)?.as_ref());
        there.find(|(known, _)| *known == text).map(|(_, learned)| learned)
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
                    conditions.cases.push(Condition {
                        category,
                        line: case.place.line,
                        terms,
                        asked: [0; 2],
                    });
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
        for (case, condition) in self.cases.iter_mut().enumerate() {
            for (place, want) in &condition.terms {
                if let Some(term) = self.terms.get_mut(*place) {
                    let [fails, holds] = &mut term.refuted;
                    *(if *want { fails } else { holds }) |= bit(case);
                    let [cheap, searches] = &mut condition.asked;
                    *(if term.test.is_search() { searches } else { cheap }) |= term.bit;
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
            let others = tests.iter().map(|(term, _)| term.learned(false));
            subject.others = others.fold(Learned::default(), Learned::with);
            let mut words: Vec<u64> = tests.iter().flat_map(|(_, words)| *words).copied().collect();
            if words.iter().any(|word| STATUSES.iter().any(|status| short(status) == Some(*word))) {
                words.extend(STATUSES.iter().filter_map(|status| short(status)));
            }
            words.sort_unstable();
            words.dedup();
            let terms = || self.terms.iter().filter(|term| term.subject == number);
            let all = words.into_iter().map(|word| {
                let (text, length) = (word.to_be_bytes(), word as u8);
                let text = SubjectText::of(text.get(..length.into()).unwrap_or_default());
                let foreseen = terms().filter(|term| term.test.is_plain());
                let learned = foreseen.map(|term| term.learned(term.test.holds(text)));
                (word, learned.fold(Learned::default(), Learned::with))
            });
            subject.shorts = ShortTexts::new(all.collect());
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
                let (shorts, others) = (ShortTexts::default(), Learned::default());
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
        // Each has a bit.
        let are_few = self.cases.len().max(self.terms.len()) <= u64::BITS as usize;
        loop {
            // Those that are refuted already are passed over at once.
            place += answers.learned.refuted.checked_shr(place).unwrap_or(0).trailing_ones();
            let case = self.cases.get(place as usize)?;
            let holds = match are_few {
                true => self.holds(case, bit(place as usize), message, spans, cut, &mut answers),
                false => self.failing(case, message, spans, cut, &mut answers).is_none(),
            };
            if holds {
                return Some(case);
            }
            place += 1;
        }
    }

    /// Whether all comparisons of a condition come to what they must, where each has a bit, as the condition has.
    #[inline(always)]
    fn holds<'m>(
        &self,
        condition: &Condition,
        own: u64,
        message: &'m [u8],
        spans: &Spans,
        cut: bool,
        answers: &mut Answers<'m>,
    ) -> bool {
        loop {
            let [cheap, searches] = condition.asked.map(|bits| bits & !answers.learned.known);
            let next = if cheap != 0 { cheap } else { searches }.trailing_zeros();
            let Some(term) = self.terms.get(next as usize) else { return true };
            let Some(text) = self.text(term.subject, message, spans, cut, answers) else { return false };
            // The text itself may have made it known.
            if answers.learned.known & term.bit == 0 {
                answers.learned.add(term.learned(term.test.holds(text)));
            }
            if answers.learned.refuted & own != 0 {
                return false;
            }
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

    /// What a subject is, and what that makes known; `None` if the message was cut, and so may have a text for it that is not here.
    #[inline(always)]
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
        let short = text.short().and_then(|text| known.shorts.get(text));
        answers.learned.add(*short.unwrap_or(&known.others));
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
