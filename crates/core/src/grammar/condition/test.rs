//! What the text of a field is compared with.

use std::sync::{Arc, Mutex, PoisonError};

use aho_corasick::{AhoCorasick, Anchored, BuildError, Input, StartKind};
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use memchr::memchr3;

use crate::grammar::path::resolved;
use crate::grammar::syntax::How;

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
    Starts(PrefixWords),
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
            How::Starts if words.len() <= SEVERAL => Test::Starts(PrefixWords::new(words)),
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

    /// Whether it comes to the same for texts that differ in the case of letters only.
    pub(super) fn is_plain(&self) -> bool {
        !matches!(self, Self::Names(_))
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
            Test::Starts(words) => words.begin(start),
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
    /// Two bytes side by side that each of the other words has, if these are few; the first of them once more for those that
    /// are missing.
    others: Option<[BytePair; FEW]>,
    /// How long the shortest word is.
    shortest: usize,
}

/// Two bytes that stand side by side, letters in lower case, and the bits by which letters differ from those in upper case.
#[derive(Clone, Copy, Debug)]
struct BytePair {
    bytes: [u8; 2],
    cases: [u8; 2],
}

/// Signs that are frequent in requests and names of browsers, the most frequent first.
const FREQUENT: &[u8] = b" /.-;():,?&='\"_+";

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
        let has_marks = others.len() < words.len();
        let pairs: Option<Vec<BytePair>> = others.iter().map(|word| BytePair::rarest(word)).collect();
        // Where the others are many, nothing is ruled out.
        let pairs = pairs.filter(|pairs| pairs.len() <= FEW);
        let marks = pairs.as_ref().filter(|_| has_marks).map(|_| marks);
        let others = pairs.and_then(|pairs| {
            let first = *pairs.first()?;
            Some(std::array::from_fn(|nth| pairs.get(nth).copied().unwrap_or(first)))
        });
        let shortest = words.iter().map(String::len).min().unwrap_or_default();
        Ok(Self { all, marks, others, shortest })
    }

    fn is_in(&self, text: &[u8]) -> bool {
        let may_hold = || match (self.marks, self.others) {
            (None, None) => true,
            (marks, others) => {
                marks.is_some_and(|marks| any_of(marks, text))
                    || others.is_some_and(|pairs| BytePair::any(pairs, text))
            }
        };
        text.len() >= self.shortest && may_hold() && self.all.is_match(text)
    }
}

fn any_of([a, b, c]: [u8; 3], text: &[u8]) -> bool {
    memchr3(a, b, c, text).is_some()
}

impl BytePair {
    /// The two of a word that are rarest; guessed, not counted.
    fn rarest(word: &[u8]) -> Option<Self> {
        let rank = |byte: &u8| match byte {
            b'e' | b't' | b'a' | b'o' | b'i' | b'n' | b's' | b'r' | b'0'..=b'9' => 0,
            b'a'..=b'z' | b'A'..=b'Z' => 2,
            sign => {
                FREQUENT.iter().position(|frequent| frequent == sign).map_or(FREQUENT.len(), |rank| 1 + rank)
            }
        };
        let pair = word.windows(2).max_by_key(|pair| pair.iter().map(rank).sum::<usize>())?;
        let bytes = *pair.first_chunk::<2>()?;
        Some(Self {
            bytes: bytes.map(|byte| byte.to_ascii_lowercase()),
            cases: bytes.map(|byte| if byte.is_ascii_alphabetic() { 0x20 } else { 0 }),
        })
    }

    /// Whether one of these stands in the text.
    fn any(pairs: [Self; FEW], text: &[u8]) -> bool {
        const AT_ONCE: usize = 16;
        let is_there = |pair: Self, one: u8, other: u8| {
            let ([first, second], [case, other_case]) = (pair.bytes, pair.cases);
            (one | case == first) & (other | other_case == second)
        };
        let [a, b, c] = pairs;
        // There is no way out of the loop, so that it looks at many bytes at once.
        let any = |(one, other): (&[u8], &[u8])| {
            one.iter().zip(other).fold(false, |any, (one, other)| {
                any | is_there(a, *one, *other) | is_there(b, *one, *other) | is_there(c, *one, *other)
            })
        };
        let side_by_side = |at: usize| {
            let all: &[u8; AT_ONCE + 1] = text.get(at..)?.first_chunk()?;
            Some(any((all.first_chunk::<AT_ONCE>()?, all.last_chunk::<AT_ONCE>()?)))
        };
        match text.len().checked_sub(AT_ONCE + 1) {
            // The last ones are looked at once more if need be.
            Some(last) => (0..last).step_by(AT_ONCE).chain([last]).any(|at| side_by_side(at) == Some(true)),
            None => any((text, text.get(1..).unwrap_or_default())),
        }
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

/// Words that texts are to start with, in the order of their first bytes.
#[derive(Debug)]
pub(super) struct PrefixWords {
    words: Vec<PrefixWord>,
    /// For the lowest five bits of a first byte, which of the words may begin with it: from where, and to where.
    by_first: [(u8, u8); 32],
}

impl PrefixWords {
    fn new(words: &[String]) -> Self {
        let first = |word: &PrefixWord| (word.head >> 56) as u8 % 32;
        let mut words: Vec<PrefixWord> = words.iter().map(|word| PrefixWord::new(word.as_bytes())).collect();
        words.sort_by_key(first);
        // Where there is an empty word, all texts start with that.
        let has_empty = words.iter().any(|word| word.mask == 0);
        let by_first = std::array::from_fn(|byte| {
            let begin = words.partition_point(|word| usize::from(first(word)) < byte);
            let end = words.partition_point(|word| usize::from(first(word)) <= byte);
            if has_empty { (0, words.len() as u8) } else { (begin as u8, end as u8) }
        });
        Self { words, by_first }
    }

    fn begin(&self, text: SubjectText<'_>) -> bool {
        let range = self.by_first.get((text.head >> 56) as usize % 32);
        let words = range.and_then(|(begin, end)| self.words.get(usize::from(*begin)..usize::from(*end)));
        words.unwrap_or_default().iter().any(|word| word.begins(text))
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
