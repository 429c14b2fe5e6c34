//! What the text of a field is compared with.

use std::sync::{Arc, Mutex, PoisonError};

use aho_corasick::{AhoCorasick, Anchored, BuildError, Input, StartKind};
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use memchr::{memchr3, memchr3_iter};

use crate::entry::scan::{ONES, within};
use crate::grammar::path::resolved;
use crate::grammar::source::How;

/// Words up to which looking for a byte of each is the fastest.
const FEW: usize = 3;
/// Words up to which comparing them one by one is the fastest.
const SEVERAL: usize = 32;

#[derive(Debug)]
pub(super) enum Test {
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
pub(in crate::grammar) struct Tests(Arc<Mutex<KnownTests>>);

type KnownTests = HashMap<(How, Vec<String>), Arc<Test>>;

impl Tests {
    pub(super) fn get(&self, how: How, words: &[String]) -> Result<Arc<Test>, BuildError> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match known.entry((how, words.to_vec())) {
            Entry::Occupied(test) => Ok(Arc::clone(test.get())),
            Entry::Vacant(test) => Ok(Arc::clone(test.insert(Arc::new(Test::new(how, words)?)))),
        }
    }
}

/// A text to compare.
#[derive(Clone, Copy)]
pub(super) struct SubjectText<'m> {
    whole: &'m [u8],
    /// Its first eight bytes, as [`head`] has them.
    head: u64,
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

    /// Whether it looks for words anywhere in a text.
    pub(super) fn is_search(&self) -> bool {
        matches!(self, Self::Has(_) | Self::Names(_))
    }

    pub(super) fn holds(&self, start: SubjectText<'_>) -> bool {
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
pub(super) fn named(words: &AhoCorasick, path: &[u8]) -> Option<usize> {
    let is_whole = |word: &aho_corasick::Match| {
        let behind = path.get(word.end()..).and_then(<[u8]>::first);
        let at_root = path.get(word.start()) == Some(&b'/');
        let before = word.start().checked_sub(1).and_then(|at| path.get(at));
        matches!(behind, None | Some(b'/')) && if at_root { before.is_none() } else { before == Some(&b'/') }
    };
    words.find_overlapping_iter(path).find(is_whole).map(|word| word.end())
}

/// Words that are looked for anywhere in a text.
#[derive(Debug)]
pub(super) struct Search {
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

impl<'m> SubjectText<'m> {
    pub(super) fn of(whole: &'m [u8]) -> Self {
        Self { whole, head: head(whole) }
    }

    /// A text of at most seven bytes in lower case, with its length, as one number: most words that a
    /// server's status is compared with are as short, and so are compared in one step.
    pub(super) fn short(self) -> Option<u64> {
        (self.whole.len() < 8).then_some(self.head | self.whole.len() as u64)
    }
}

/// A word that texts are to start with.
#[derive(Debug)]
pub(super) struct PrefixWord {
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
    let head = match text.first_chunk() {
        Some(head) => u64::from_be_bytes(*head),
        None => text.iter().rev().fold(0, |head, byte| head >> 8 | u64::from(*byte) << 56),
    };
    head | within(head, b'A', b'Z') & (ONES * 0x20)
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
