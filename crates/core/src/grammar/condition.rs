//! The conditions that make a line of a shape an offence: comparisons of its named holes with lists of words.
//!
//! A condition can only make a rule match less, so a new word in a list needs no new proof. The proof is told about
//! text that every case excludes from a hole. Comparisons ignore ASCII case. For `has` and `starts`, a thousand words
//! cost as much as one.

use aho_corasick::{AhoCorasick, Anchored, BuildError, Input, StartKind};
use hashbrown::HashSet;
use memchr::{memchr_iter, memchr3};

use super::fault::Faults;
use super::matcher::Spans;
use super::path::{Room, resolved};
use super::syntax::{Case, How, Verdict, View, Voice, Word};
use super::variant::{Item, Variant};
use crate::model::HeadingId;

/// Words up to which comparing them one by one is the fastest.
const FEW: usize = 4;

/// What makes a message of a shape an offence, and the comparisons that this takes, each of them once.
#[derive(Debug)]
pub(super) struct Conditions {
    /// Parts of holes that are compared with something.
    subjects: Vec<(usize, View)>,
    terms: Vec<Term>,
    cases: Vec<Condition>,
    /// By subject: which comparisons are with short words, and which of them hold for each of these words.
    shorts: Vec<(u64, Vec<(u64, u64)>)>,
}

/// Comparisons that must all hold.
#[derive(Debug)]
pub(super) struct Condition {
    pub(super) heading: u16,
    /// The line where it stands.
    pub(super) line: u32,
    /// Places among the comparisons, and what each must come to.
    terms: Vec<(usize, bool)>,
    /// Of the first comparisons, as bits: which are among these, and which of them must hold.
    of: u64,
    want: u64,
}

/// A part of a hole, by its place among the subjects, and what it is compared with.
#[derive(Debug)]
struct Term {
    subject: usize,
    test: Test,
}

/// What tells comparisons apart while they are gathered: the subject, and what it is compared with.
type Key = (usize, How, Vec<String>);

#[derive(Debug)]
enum Test {
    /// Words that are all short, as [`short`] says them.
    IsShort(Vec<u64>),
    Is(Vec<Box<[u8]>>),
    Ends(Vec<Box<[u8]>>),
    Starts(Vec<Box<[u8]>>),
    StartsMany(AhoCorasick),
    Has(Search),
    Names(AhoCorasick),
}

/// What comparisons with a message came to, by their place, and the first subjects' texts, both as far as there is room.
#[derive(Default)]
struct Answers<'m> {
    known: u64,
    held: u64,
    texts: [Option<Text<'m>>; 8],
}

impl Answers<'_> {
    /// Whether a comparison that was made speaks against the condition.
    fn refuse(&self, condition: &Condition) -> bool {
        condition.of & self.known & (self.held ^ condition.want) != 0
    }
}

/// A text to compare, and as [`short`] has it.
#[derive(Clone, Copy)]
struct Text<'m> {
    whole: &'m [u8],
    short: u64,
}

impl Conditions {
    /// Makes the cases of a shape usable; `names` are its holes by slot, and `lists` gives the words of a list.
    pub(super) fn new<'l>(
        cases: &[Case],
        names: &[Option<String>],
        lists: impl Fn(&str) -> Option<&'l [String]> + Copy,
        faults: &mut Faults<'_>,
    ) -> Self {
        let mut conditions =
            Self { subjects: Vec::new(), terms: Vec::new(), cases: Vec::new(), shorts: Vec::new() };
        let mut keys = Vec::new();
        for case in cases {
            let terms = conditions.comparisons(case, names, lists, &mut keys);
            match (terms, u16::try_from(case.heading)) {
                (Ok(terms), Ok(heading)) => {
                    let of = terms.iter().fold(0, |of, (place, _)| of | bit(*place));
                    let wanted = terms.iter().filter(|(_, want)| *want);
                    let want = wanted.fold(0, |want, (place, _)| want | bit(*place));
                    conditions.cases.push(Condition { heading, line: case.place.line, terms, of, want });
                }
                (Err(what), _) => faults.error(case.place, what),
                (_, Err(_)) => {}
            }
        }
        // What could be either is an offence.
        conditions.cases.sort_by_key(|case| case.heading == HeadingId::LOGIN.0);
        conditions.shorts =
            (0..conditions.subjects.len()).map(|subject| conditions.shorts_of(subject)).collect();
        conditions
    }

    fn shorts_of(&self, subject: usize) -> (u64, Vec<(u64, u64)>) {
        let (mut known, mut held) = (0, Vec::<(u64, u64)>::new());
        for (place, term) in self.terms.iter().enumerate().filter(|(_, term)| term.subject == subject) {
            let Test::IsShort(words) = &term.test else { continue };
            known |= bit(place);
            for word in words {
                match held.iter_mut().find(|(known, _)| known == word) {
                    Some((_, held)) => *held |= bit(place),
                    None => held.push((*word, bit(place))),
                }
            }
        }
        (known, held)
    }

    fn comparisons<'l>(
        &mut self,
        case: &Case,
        names: &[Option<String>],
        lists: impl Fn(&str) -> Option<&'l [String]>,
        keys: &mut Vec<Key>,
    ) -> Result<Vec<(usize, bool)>, String> {
        let mut terms = Vec::new();
        for comparison in &case.comparisons {
            let Some(slot) = names.iter().position(|name| name.as_deref() == Some(&comparison.hole)) else {
                let known: Vec<&str> = names.iter().flatten().map(String::as_str).collect();
                return Err(format!(
                    "the shape has no hole `{}`; it has {}",
                    comparison.hole,
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
            let subject = (slot, comparison.part);
            let known = self.subjects.iter().position(|known| *known == subject);
            let subject = known.unwrap_or_else(|| {
                self.subjects.push(subject);
                self.subjects.len() - 1
            });
            let key = (subject, comparison.how, words);
            let known = keys.iter().position(|known| *known == key);
            if known.is_none() {
                let test = Test::new(comparison.how, &key.2)
                    .map_err(|error| format!("cannot compare with these words: {error}"))?;
                self.terms.push(Term { subject, test });
                keys.push(key);
            }
            terms.push((known.unwrap_or(keys.len() - 1), !comparison.not));
        }
        // What is cheap is asked first; all have to hold anyway.
        let is_search = |place: usize| {
            let test = self.terms.get(place).map(|term| &term.test);
            matches!(test, Some(Test::Has(_) | Test::Names(_)))
        };
        terms.sort_by_key(|(place, _)| is_search(*place));
        Ok(terms)
    }

    /// The first condition that a message with these spans meets. Linear in the holes that are named: each comparison is
    /// made once at most.
    ///
    /// What is not part of the message counts as the `-` that servers write for what is not there; of a message that is
    /// `cut` nobody knows what it was, and it meets nothing.
    pub(super) fn first(&self, message: &[u8], spans: &Spans, cut: bool) -> Option<&Condition> {
        let mut answers = Answers::default();
        self.cases.iter().find(|case| {
            !answers.refuse(case) && self.failing(case, message, spans, cut, &mut answers).is_none()
        })
    }

    /// Each condition, and the slot of a hole that speaks against it, if there is one.
    pub(super) fn unmet<'c>(
        &'c self,
        message: &'c [u8],
        spans: &'c Spans,
    ) -> impl Iterator<Item = (&'c Condition, usize)> {
        let mut answers = Answers::default();
        self.cases.iter().filter_map(move |case| {
            let term = self.failing(case, message, spans, false, &mut answers)?;
            Some((case, self.subjects.get(term.subject)?.0))
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
        condition.terms.iter().find_map(|(place, _)| match &self.terms.get(*place)?.test {
            Test::Names(words) => path.get(..named(words, path)?),
            _ => None,
        })
    }

    /// A comparison that speaks against the condition, if there is one.
    fn failing<'m>(
        &self,
        condition: &Condition,
        message: &'m [u8],
        spans: &Spans,
        cut: bool,
        answers: &mut Answers<'m>,
    ) -> Option<&Term> {
        condition.terms.iter().find_map(|(place, want)| {
            let (term, bit) = (self.terms.get(*place)?, bit(*place));
            if answers.known & bit == 0 {
                let Some(text) = self.text(term.subject, message, spans, cut, answers) else {
                    return Some(term);
                };
                if bit == 0 {
                    return (term.test.holds(text) != *want).then_some(term);
                }
                if answers.known & bit == 0 {
                    answers.known |= bit;
                    answers.held |= if term.test.holds(text) { bit } else { 0 };
                }
            }
            ((answers.held & bit != 0) != *want).then_some(term)
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
    ) -> Option<Text<'m>> {
        if let Some(Some(known)) = answers.texts.get(subject) {
            return Some(*known);
        }
        let (slot, part) = self.subjects.get(subject)?;
        let text = spans.get(*slot).and_then(|(from, to)| message.get(from as usize..to as usize));
        if cut && text.is_none() {
            return None;
        }
        let whole = part.of(text.unwrap_or(b"-"));
        let text = Text { whole, short: short(whole).unwrap_or(LONG) };
        answers.texts.get_mut(subject).into_iter().for_each(|known| *known = Some(text));
        let (known, held) = self.shorts.get(subject)?;
        answers.known |= known;
        answers.held |= held.iter().find(|(word, _)| *word == text.short).map_or(0, |(_, held)| *held);
        Some(text)
    }
}

/// The bit of a comparison; none beyond the 64th, which are made each time.
fn bit(place: usize) -> u64 {
    1_u64.checked_shl(place as u32).unwrap_or(0)
}

/// Words that are looked for anywhere in a text.
#[derive(Debug)]
struct Search {
    all: AhoCorasick,
    /// Bytes of which most of the words have one and few texts have any, and the other words; if there are few of those.
    marks: Option<([u8; 3], Vec<Marked>)>,
}

/// A word, and its byte that is rarest in requests and names of browsers, with its offset.
#[derive(Debug)]
struct Marked {
    word: Box<[u8]>,
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
            Some(Marked { word: word.into(), byte, offset })
        };
        let others: Option<Vec<Marked>> = others.into_iter().map(marked).collect();
        let marks = others.filter(|others| others.len() <= FEW).map(|others| (marks, others));
        Ok(Self { all, marks })
    }

    fn is_in(&self, text: &[u8]) -> bool {
        match &self.marks {
            Some(([a, b, c], others)) if memchr3(*a, *b, *c, text).is_none() => {
                others.iter().any(|other| other.is_in(text))
            }
            _ => self.all.is_match(text),
        }
    }
}

impl Marked {
    fn is_in(&self, text: &[u8]) -> bool {
        memchr_iter(self.byte, text).any(|at| {
            let from = at.checked_sub(self.offset);
            let there = from.and_then(|from| text.get(from..from + self.word.len()));
            there.is_some_and(|there| there.eq_ignore_ascii_case(&self.word))
        })
    }
}

/// Notes for the proof which texts free holes never hold: those that each case of the voice says are not in them.
pub(super) fn narrow(
    voice: &Voice,
    names: &[Option<String>],
    variants: &mut [Variant],
    without: &mut Vec<Vec<String>>,
) {
    let Verdict::Shape { cases, .. } = &voice.verdict else { return };
    for (slot, name) in (0..).zip(names) {
        // Lists are an operator's to change, so their words prove nothing.
        let excluded = |case: &Case| -> HashSet<String> {
            let comparisons = case.comparisons.iter().filter(|comparison| {
                comparison.not
                    && (comparison.how, comparison.part) == (How::Has, View::Whole)
                    && Some(&comparison.hole) == name.as_ref()
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
        let holes = variants.iter_mut().flat_map(|variant| &mut variant.items);
        for item in holes {
            if let Item::Hole(hole) = item
                && hole.slot == slot
            {
                hole.without = place;
            }
        }
    }
}

impl Test {
    fn new(how: How, words: &[String]) -> Result<Self, BuildError> {
        let bytes = || words.iter().map(|word| word.as_bytes().into()).collect();
        Ok(match how {
            How::Is => match words.iter().map(|word| short(word.as_bytes())).collect() {
                Some(words) => Test::IsShort(words),
                None => Test::Is(bytes()),
            },
            How::Ends => Test::Ends(bytes()),
            How::Starts if words.len() <= FEW => Test::Starts(bytes()),
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

    fn holds(&self, Text { whole: text, short }: Text<'_>) -> bool {
        match self {
            Test::IsShort(words) => words.contains(&short),
            Test::Is(words) => words.iter().any(|word| text.eq_ignore_ascii_case(word)),
            Test::Starts(words) => words
                .iter()
                .any(|word| text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))),
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

/// Instead of a text that is not short.
const LONG: u64 = u64::MAX;

/// A text of at most seven bytes in lower case, with its length, as one number: all that a server's status is compared
/// with costs less so than a single comparison of bytes.
fn short(text: &[u8]) -> Option<u64> {
    let number = |number: u64, byte: &u8| number << 8 | u64::from(byte.to_ascii_lowercase());
    (text.len() < 8).then(|| text.iter().fold(text.len() as u64, number))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
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
