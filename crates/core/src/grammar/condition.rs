//! The conditions that make a line of a shape an offence: comparisons of its named fields with lists of words.
//!
//! A condition can only make a rule match less, so a new word in a list needs no new proof. The proof is told about
//! text that every case excludes from a field. Comparisons ignore ASCII case. For `has` and `starts`, a thousand words
//! cost as much as one.

use std::sync::{Arc, Mutex, PoisonError};

use aho_corasick::{AhoCorasick, Anchored, BuildError, Input, StartKind};
use hashbrown::hash_map::Entry;
use hashbrown::{HashMap, HashSet};
use memchr::{memchr3, memchr3_iter};

use super::fault::Faults;
use super::matcher::Spans;
use super::path::{Room, resolved};
use super::syntax::{Case, Comparison, How, RuleGroup, Verdict, View, Word};
use super::variant::{Field, Item, Variant};
use crate::model::CategoryId;

/// Words up to which looking for a byte of each is the fastest.
const FEW: usize = 3;
/// Words up to which comparing them one by one is the fastest.
const SEVERAL: usize = 32;

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

#[derive(Debug)]
enum Test {
    /// Words that are all short, as [`SubjectText::short`] has them.
    IsShort(Vec<u64>),
    Is(Vec<Box<[u8]>>),
    Ends(Vec<Box<[u8]>>),
    Starts(Vec<PrefixWord>),
    StartsMany(AhoCorasick),
    Has(Search),
    Names(AhoCorasick),
}

/// Comparisons that were made usable, each once for all grammars: automata of long lists take long to build.
#[derive(Clone, Debug, Default)]
pub(super) struct Tests(Arc<Mutex<KnownTests>>);

type KnownTests = HashMap<(How, Vec<String>), Arc<Test>>;

impl Tests {
    fn get(&self, how: How, words: &[String]) -> Result<Arc<Test>, BuildError> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match known.entry((how, words.to_vec())) {
            Entry::Occupied(test) => Ok(Arc::clone(test.get())),
            Entry::Vacant(test) => Ok(Arc::clone(test.insert(Arc::new(Test::new(how, words)?)))),
        }
    }
}

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

/// A text to compare.
#[derive(Clone, Copy)]
struct SubjectText<'m> {
    whole: &'m [u8],
    /// Its first eight bytes, as [`head`] has them.
    head: u64,
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
        let is_search = |place: usize| {
            let test = self.terms.get(place).map(|term| &*term.test);
            matches!(test, Some(Test::Has(_) | Test::Names(_)))
        };
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

/// Words that are looked for anywhere in a text.
#[derive(Debug)]
struct Search {
    all: AhoCorasick,
    /// Bytes of which most of the words have one and few texts have any, if there are such words.
    marks: Option<[u8; 3]>,
    /// The other words, if they are few, and bytes of which each has one.
    others: Option<([u8; FEW], Vec<Marked>)>,
}

/// A word, and its byte that is rarest in requests and names of browsers, with its offset.
#[derive(Debug)]
struct Marked {
    word: PrefixWord,
    byte: u8,
    offset: usize,
}

/// Bytes that are frequent in requests and names of browsers, the most frequent first.
const FREQUENT: &[u8] = b" /.-;():,_?&='\"+";

impl Search {
    fn new(words: &[String]) -> Result<Self, BuildError> {
        let all = AhoCorasick::builder().ascii_case_insensitive(true).build(words)?;
        let mut others: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        let mut marks = [0; 3];
        for mark in &mut marks {
            let with = |byte: u8| others.iter().filter(|word| word.contains(&byte)).count();
            let rare = |byte: &u8| byte.is_ascii_punctuation() && !FREQUENT.contains(byte);
            *mark = (0..128).filter(rare).max_by_key(|byte| with(*byte)).unwrap_or_default();
            others.retain(|word| !word.contains(mark));
        }
        let marked = |word: &[u8]| {
            let places = word.iter().enumerate();
            let known =
                places.filter_map(|(n, byte)| Some((FREQUENT.iter().position(|f| f == byte)?, n, *byte)));
            let (_, offset, byte) = known.max()?;
            Some(Marked { word: PrefixWord::new(word), byte, offset })
        };
        let others: Option<Vec<Marked>> = others.into_iter().map(marked).collect();
        let marks = others.as_ref().is_none_or(|others| others.len() < words.len()).then_some(marks);
        let others = others.filter(|others| others.len() <= FEW).map(|others| {
            let byte = |nth: usize| others.get(nth).or(others.first()).map_or(0, |other| other.byte);
            ([byte(0), byte(1), byte(2)], others)
        });
        Ok(Self { all, marks, others })
    }

    fn is_in(&self, text: &[u8]) -> bool {
        match &self.others {
            Some((bytes, others)) if self.marks.is_none_or(|marks| !any_of(marks, text)) => {
                let [a, b, c] = *bytes;
                !others.is_empty()
                    && memchr3_iter(a, b, c, text).any(|at| others.iter().any(|other| other.is_at(at, text)))
            }
            _ => self.all.is_match(text),
        }
    }
}

fn any_of([a, b, c]: [u8; 3], text: &[u8]) -> bool {
    memchr3(a, b, c, text).is_some()
}

impl Marked {
    /// Whether its byte stands at this place, and the word around it.
    fn is_at(&self, at: usize, text: &[u8]) -> bool {
        let there = || text.get(at.checked_sub(self.offset)?..);
        text.get(at) == Some(&self.byte)
            && there().is_some_and(|there| self.word.begins(SubjectText::of(there)))
    }
}

/// Warns of cases that no line can meet, as the field that they ask about never holds such a text.
pub(super) fn warn_of_unmet(
    group: &RuleGroup,
    names: &[Option<String>],
    variants: &[Variant],
    faults: &mut Faults<'_>,
) {
    let Verdict::Shape { cases, .. } = &group.verdict else { return };
    let items = || variants.iter().flat_map(|variant| &variant.items);
    let named =
        |field: &Field, name: &String| names.get(usize::from(field.slot)) == Some(&Some(name.clone()));
    let asks = |comparison: &&Comparison| !comparison.not && comparison.part == View::Whole;
    for (case, comparison) in
        cases.iter().flat_map(|case| case.comparisons.iter().filter(asks).map(move |asks| (case, asks)))
    {
        let fields = || {
            items().filter_map(|item| match item {
                Item::Field(field) if named(field, &comparison.field) => Some(field),
                _ => None,
            })
        };
        let may_be = |word: &Word| match word {
            Word::Plain(word) => fields().any(|field| field.may_hold(word.as_bytes())),
            Word::List(_) => true,
        };
        if let Some(field) = fields().next()
            && !comparison.words.iter().any(may_be)
        {
            let Comparison { field: name, .. } = comparison;
            let what = format!("this never holds: `{name}` is {}, which holds no such text", field.kind);
            faults.warn(case.place, what);
        }
    }
}

/// Notes for the proof which texts free fields never hold: those that each case of the group says are not in them.
pub(super) fn narrow(
    group: &RuleGroup,
    names: &[Option<String>],
    variants: &mut [Variant],
    without: &mut Vec<Vec<String>>,
) {
    let Verdict::Shape { cases, .. } = &group.verdict else { return };
    for (slot, name) in (0..).zip(names) {
        // Lists are an operator's to change, so their words prove nothing.
        let excluded = |case: &Case| -> HashSet<String> {
            let comparisons = case.comparisons.iter().filter(|comparison| {
                comparison.not
                    && (comparison.how, comparison.part) == (How::Has, View::Whole)
                    && Some(&comparison.field) == name.as_ref()
            });
            let words = comparisons.flat_map(|comparison| &comparison.words);
            words
                .filter_map(|word| if let Word::Plain(word) = word { Some(word.clone()) } else { None })
                .collect()
        };
        let words =
            cases.iter().map(excluded).reduce(|some, more| some.intersection(&more).cloned().collect());
        let Some(words) = words.filter(|words| !words.is_empty()) else { continue };
        without.push(words.into_iter().collect());
        let Ok(place) = u8::try_from(without.len()) else { return };
        for variant in variants.iter_mut() {
            let fields = variant.items.iter_mut().filter_map(|item| match item {
                Item::Field(field) if field.slot == slot => Some(field),
                _ => None,
            });
            // Of a name that stands twice in a line, a condition sees one.
            if let [field] = fields.collect::<Vec<_>>().as_mut_slice() {
                field.without = place;
            }
        }
    }
}

impl Test {
    fn new(how: How, words: &[String]) -> Result<Self, BuildError> {
        let bytes = || words.iter().map(|word| word.as_bytes().into()).collect();
        Ok(match how {
            How::Is => match words.iter().map(|word| SubjectText::of(word.as_bytes()).short()).collect() {
                Some(words) => Test::IsShort(words),
                None => Test::Is(bytes()),
            },
            How::Ends => Test::Ends(bytes()),
            How::Starts if words.len() <= SEVERAL => {
                Test::Starts(words.iter().map(|word| PrefixWord::new(word.as_bytes())).collect())
            }
            How::Starts => {
                let mut builder = AhoCorasick::builder();
                let anchored = builder.ascii_case_insensitive(true).start_kind(StartKind::Anchored);
                Test::StartsMany(anchored.build(words)?)
            }
            How::Has => Test::Has(Search::new(words)?),
            How::Names => {
                let segments = words.iter().map(|word| word.trim_end_matches('/'));
                Test::Names(AhoCorasick::builder().ascii_case_insensitive(true).build(segments)?)
            }
        })
    }

    fn holds(&self, start: SubjectText<'_>) -> bool {
        let text = start.whole;
        match self {
            Test::IsShort(words) => start.short().is_some_and(|text| words.contains(&text)),
            Test::Is(words) => words.iter().any(|word| text.eq_ignore_ascii_case(word)),
            Test::Starts(words) => words.iter().any(|word| word.begins(start)),
            Test::StartsMany(words) => words.is_match(Input::new(text).anchored(Anchored::Yes)),
            Test::Has(words) => words.is_in(text),
            Test::Names(words) => named(words, resolved(text, &mut [0; _])).is_some(),
            Test::Ends(words) => words.iter().any(|word| {
                text.len()
                    .checked_sub(word.len())
                    .and_then(|at| text.get(at..))
                    .is_some_and(|end| end.eq_ignore_ascii_case(word))
            }),
        }
    }
}

/// Where the first of these words that is whole segments of the path ends.
fn named(words: &AhoCorasick, path: &[u8]) -> Option<usize> {
    let is_whole = |word: &aho_corasick::Match| {
        let behind = path.get(word.end()..).and_then(<[u8]>::first);
        let at_root = path.get(word.start()) == Some(&b'/');
        let before = word.start().checked_sub(1).and_then(|at| path.get(at));
        matches!(behind, None | Some(b'/')) && if at_root { before.is_none() } else { before == Some(&b'/') }
    };
    words.find_overlapping_iter(path).find(is_whole).map(|word| word.end())
}

impl<'m> SubjectText<'m> {
    fn of(whole: &'m [u8]) -> Self {
        Self { whole, head: head(whole) }
    }

    /// A text of at most seven bytes in lower case, with its length, as one number: most words that a
    /// server's status is compared with are as short, and so are compared in one step.
    fn short(self) -> Option<u64> {
        (self.whole.len() < 8).then_some(self.head | self.whole.len() as u64)
    }
}

/// A word that texts are to start with.
#[derive(Debug)]
struct PrefixWord {
    /// Its first eight bytes, and which bits those are.
    head: u64,
    mask: u64,
    /// What follows them.
    rest: Option<Box<PrefixWord>>,
}

impl PrefixWord {
    fn new(word: &[u8]) -> Self {
        let (first, rest) = word.split_at(word.len().min(8));
        let others = 64 - 8 * first.len() as u32;
        Self {
            head: head(first),
            mask: u64::MAX.checked_shl(others).unwrap_or(0),
            rest: (!rest.is_empty()).then(|| Box::new(Self::new(rest))),
        }
    }

    fn begins(&self, text: SubjectText<'_>) -> bool {
        text.head & self.mask == self.head
            && self.rest.as_ref().is_none_or(|rest| {
                text.whole.get(8..).is_some_and(|behind| rest.begins(SubjectText::of(behind)))
            })
    }
}

/// The first eight bytes of a text in lower case, the first the most significant; zeros behind a shorter one.
fn head(text: &[u8]) -> u64 {
    let all = |byte: u8| u64::from_ne_bytes([byte; 8]);
    let head = match text.first_chunk() {
        Some(head) => u64::from_be_bytes(*head),
        None => text.iter().rev().fold(0, |head, byte| head >> 8 | u64::from(*byte) << 56),
    };
    // The highest bit of each byte says whether it is one of A to Z.
    let low = head & all(0x7f);
    let upper = (low + all(0x80 - b'A')) & !(low + all(0x7f - b'Z')) & !head & all(0x80);
    head | upper >> 2
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Compared eight bytes at once or one by one, a text starts with the same words.
        #[test]
        fn a_text_starts_with_what_it_starts_with(
            word in "[@AaZz`\\[{\u{e9}]{0,10}|[aA]{5,18}z?",
            text in "[@AaZz`\\[{\u{e9}]{0,12}|[aA]{5,18}z?",
        ) {
            let lower = text.to_ascii_lowercase();
            let starts = |word: &str| PrefixWord::new(word.as_bytes()).begins(SubjectText::of(text.as_bytes()));
            prop_assert_eq!(starts(&word), lower.starts_with(&word.to_ascii_lowercase()));
            prop_assert!(starts(&lower) && starts(&text.to_ascii_uppercase()));
        }

        /// Whatever bytes rule a search out, it finds what a plain one does.
        #[test]
        fn a_search_finds_what_a_plain_one_does(
            words in prop::collection::vec("[aB${%;.=~ ]{1,4}", 1..8),
            text in "[Ab${%;.=~ ]{0,12}",
        ) {
            let plain = words.iter().any(|word| text.to_lowercase().contains(&word.to_lowercase()));
            prop_assert_eq!(Search::new(&words).unwrap().is_in(text.as_bytes()), plain);
        }
    }
}
