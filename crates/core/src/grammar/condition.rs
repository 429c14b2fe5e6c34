//! The conditions that make a line of a shape an offence: comparisons of its named holes with lists of words.
//!
//! A condition can only make a rule match less, so a new word in a list needs no new proof. The proof is told about
//! text that every case excludes from a hole. Comparisons ignore ASCII case. For `has` and `starts`, a thousand words
//! cost as much as one.

use aho_corasick::{AhoCorasick, Anchored, BuildError, Input, StartKind};
use hashbrown::HashSet;

use super::fault::Faults;
use super::matcher::Spans;
use super::path::{Room, resolved};
use super::syntax::{Case, How, Verdict, View, Voice, Word};
use super::variant::{Item, Variant};

/// Comparisons that must all hold.
#[derive(Debug)]
pub(super) struct Condition {
    pub(super) heading: u16,
    /// The line where it stands.
    pub(super) line: u32,
    terms: Vec<Term>,
}

#[derive(Debug)]
struct Term {
    slot: usize,
    part: View,
    not: bool,
    test: Test,
}

#[derive(Debug)]
enum Test {
    /// Words that are all short, as [`short`] says them.
    IsShort(Vec<u64>),
    Is(Vec<Box<[u8]>>),
    Ends(Vec<Box<[u8]>>),
    Starts(AhoCorasick),
    Has(AhoCorasick),
    Names(AhoCorasick),
}

impl Condition {
    /// Makes a case usable; `names` are the shape's holes by slot, and `lists` gives the words of a list.
    pub(super) fn new<'l>(
        case: &Case,
        names: &[Option<String>],
        lists: impl Fn(&str) -> Option<&'l [String]>,
        faults: &mut Faults<'_>,
    ) -> Option<Self> {
        let mut terms = Vec::new();
        for comparison in &case.comparisons {
            let Some(slot) = names.iter().position(|name| name.as_deref() == Some(&comparison.hole)) else {
                let known: Vec<&str> = names.iter().flatten().map(String::as_str).collect();
                let what = format!("the shape has no hole `{}`; it has {}", comparison.hole, known.join(" "));
                faults.error(case.place, what);
                return None;
            };
            let mut words: Vec<&str> = Vec::new();
            for word in &comparison.words {
                match word {
                    Word::Plain(word) => words.push(word),
                    Word::List(name) => match lists(name) {
                        Some(list) => words.extend(list.iter().map(String::as_str)),
                        None => {
                            faults.error(
                                case.place,
                                format!("there is no `list {name}:` and no file `{name}.list`"),
                            );
                            return None;
                        }
                    },
                }
            }
            match Test::new(comparison.how, &words) {
                Ok(test) => terms.push(Term { slot, part: comparison.part, not: comparison.not, test }),
                Err(error) => {
                    faults.error(case.place, format!("cannot compare with these words: {error}"));
                    return None;
                }
            }
        }
        // What is cheap is asked first; all have to hold anyway.
        terms.sort_by_key(|term| matches!(term.test, Test::Has(_) | Test::Names(_)));
        Some(Self { heading: u16::try_from(case.heading).ok()?, line: case.place.line, terms })
    }

    /// Whether a message with these spans meets it. Linear in the holes it names.
    ///
    /// What is not part of the message counts as the `-` that servers write for what is not there; of a message that is
    /// `cut` nobody knows what it was, and it meets nothing.
    pub(super) fn holds(&self, message: &[u8], spans: &Spans, cut: bool) -> bool {
        self.failing(message, spans, cut).is_none()
    }

    /// The beginning of a path as servers resolve it, up to where a name ends that the condition looks for.
    pub(super) fn named<'t>(&self, path: &'t [u8], room: &'t mut Room) -> Option<&'t [u8]> {
        let path = resolved(path, room);
        self.terms.iter().find_map(|term| match &term.test {
            Test::Names(words) => path.get(..named(words, path)?),
            _ => None,
        })
    }

    /// The slot of a hole that speaks against it, if there is one.
    pub(super) fn failing(&self, message: &[u8], spans: &Spans, cut: bool) -> Option<usize> {
        let fails = |term: &&Term| {
            let text = spans.get(term.slot).and_then(|(from, to)| message.get(from as usize..to as usize));
            match text {
                // Where the message was cut, what it ends in may be a part of a word.
                None if cut => true,
                text => term.test.holds(term.part.of(text.unwrap_or(b"-"))) == term.not,
            }
        };
        self.terms.iter().find(fails).map(|term| term.slot)
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
    fn new(how: How, words: &[&str]) -> Result<Self, BuildError> {
        let bytes = || words.iter().map(|word| word.as_bytes().into()).collect();
        let search =
            |start| AhoCorasick::builder().ascii_case_insensitive(true).start_kind(start).build(words);
        Ok(match how {
            How::Is => match words.iter().map(|word| short(word.as_bytes())).collect() {
                Some(words) => Test::IsShort(words),
                None => Test::Is(bytes()),
            },
            How::Ends => Test::Ends(bytes()),
            How::Starts => Test::Starts(search(StartKind::Anchored)?),
            How::Has => Test::Has(search(StartKind::Unanchored)?),
            How::Names => {
                let segments = words.iter().map(|word| word.trim_end_matches('/'));
                Test::Names(AhoCorasick::builder().ascii_case_insensitive(true).build(segments)?)
            }
        })
    }

    fn holds(&self, text: &[u8]) -> bool {
        match self {
            Test::IsShort(words) => short(text).is_some_and(|text| words.contains(&text)),
            Test::Is(words) => words.iter().any(|word| text.eq_ignore_ascii_case(word)),
            Test::Starts(words) => words.is_match(Input::new(text).anchored(Anchored::Yes)),
            Test::Has(words) => words.is_match(text),
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

/// A text of at most seven bytes in lower case, with its length, as one number: all that a server's status is compared
/// with costs less so than a single comparison of bytes.
fn short(text: &[u8]) -> Option<u64> {
    let number = |number: u64, byte: &u8| number << 8 | u64::from(byte.to_ascii_lowercase());
    (text.len() < 8).then(|| text.iter().fold(text.len() as u64, number))
}
