//! Texts of which every message that means something holds one: most lines of a web server hold neither a status that counts
//! nor a word of a list, and are not read any further.
//!
//! A condition holds only where a word of each of its comparisons is in the message, so the comparison whose words are the
//! rarest stands for it, with the text of the shape beside its field. Of each text four bytes are looked for, as two threes: at
//! every other place of the message, so that one of them is met. A message that holds them may mean nothing all the same.

use hashbrown::{HashMap, HashSet};
use memchr::memchr;

use super::source::{Case, Comparison, How, RuleGroup, Verdict, View, Word};
use super::variant::{Item, Variant};
use crate::entry::scan::{ONES, eight};

/// Which messages of a grammar may be an offence, a login or a naming.
#[derive(Debug)]
pub(super) struct Prefilter {
    /// The threes that are looked for, by one hash and by another: a three of other texts is seldom in the first, and hardly
    /// ever in both.
    threes: [Box<Bits>; 2],
    /// Whether names are looked for that a path can also spell with percent signs.
    encodes: bool,
}

/// A bit for each hash.
type Bits = [u64; 1024];

/// The bytes of a three.
const THREE: u64 = 0xff_ffff;

/// While it is built: the fours that are looked for.
struct Texts {
    fours: HashSet<[u8; 4]>,
    encodes: bool,
    /// The threes that stand in most lines, folded.
    usual: HashSet<[u8; 3]>,
}

/// For each slot, the texts that stand directly before and behind its field.
type Surroundings<'v> = HashMap<u8, HashSet<(&'v [u8], &'v [u8])>>;

impl Prefilter {
    /// That of these groups, whose fields have these names by slot, and their variants. `None` where nothing is gained, or a
    /// message may mean something without a text that can be looked for.
    pub(super) fn new<'l>(
        groups: &[RuleGroup],
        names: &[&[Option<String>]],
        variants: &[Variant],
        lists: impl Fn(&str) -> Option<&'l [String]>,
    ) -> Option<Self> {
        if !groups
            .iter()
            .any(|group| matches!(group.verdict, Verdict::Shape { .. }) && group.record.is_none())
        {
            return None;
        }
        let usual = USUAL.as_bytes().windows(3).filter_map(|three| <[u8; 3]>::try_from(three).ok());
        let usual = usual.map(|three| three.map(|byte| byte | 0x20)).collect();
        let mut texts = Texts { fours: HashSet::new(), encodes: false, usual };
        for ((number, group), names) in (0..).zip(groups).zip(names) {
            let own: Vec<&Variant> = variants.iter().filter(|variant| variant.group == number).collect();
            match &group.verdict {
                // Records are read before all else.
                _ if group.record.is_some() => {}
                Verdict::Always(_) => texts.add_texts_of(&own)?,
                Verdict::Shape { cases, .. } => {
                    let surroundings = surroundings(&own);
                    for case in cases {
                        match texts.rarest(case, names, &surroundings, &lists) {
                            Some(fours) => texts.fours.extend(fours),
                            None => texts.add_texts_of(&own)?,
                        }
                    }
                }
            }
        }
        let mut threes = [(); 2].map(|()| Box::new([0; 1024]));
        for [a, b, c, d] in texts.fours {
            for three in [[a, b, c, 0], [b, c, d, 0]] {
                for (bits, hash) in threes.iter_mut().zip(HASHES) {
                    let at = hash(u32::from_le_bytes(three).into());
                    bits.get_mut(at >> 6).into_iter().for_each(|bits| *bits |= 1 << (at & 63));
                }
            }
        }
        Some(Self { threes, encodes: texts.encodes })
    }

    /// Whether the message may mean something. Linear; most messages of a web server may not.
    pub(super) fn may_match(&self, message: &[u8]) -> bool {
        let is_there = |three: u64| {
            let holds =
                |bits: &Bits, at: usize| bits.get(at >> 6).is_some_and(|bits| bits >> (at & 63) & 1 == 1);
            let [first, second] = HASHES;
            let three = three & THREE;
            holds(&self.threes[0], first(three)) && holds(&self.threes[1], second(three))
        };
        (self.encodes && memchr(b'%', message).is_some())
            || (0..message.len()).step_by(6).any(|at| {
                let bytes = folded(eight(message, at));
                is_there(bytes) || is_there(bytes >> 16) || is_there(bytes >> 32)
            })
    }
}

/// Two hashes of a three, of 16 bits.
const HASHES: [fn(u64) -> usize; 2] = [
    |three| (three.wrapping_mul(0x9e37_79b9) >> 16) as usize & 0xffff,
    |three| (three.wrapping_mul(0x85eb_ca6b) >> 13) as usize & 0xffff,
];

/// Bytes in which those that differ only in case are the same, as are some others.
fn folded(bytes: u64) -> u64 {
    bytes | (ONES * 0x20)
}

fn surroundings<'v>(variants: &[&'v Variant]) -> Surroundings<'v> {
    let mut all = Surroundings::new();
    let text = |item: Option<&'v Item>| match item {
        Some(Item::Text(text)) => text.as_slice(),
        _ => &[],
    };
    for variant in variants {
        for (nth, item) in variant.items.iter().enumerate() {
            if let Item::Field(field) = item {
                let before = nth.checked_sub(1).and_then(|before| variant.items.get(before));
                let both = (text(before), text(variant.items.get(nth + 1)));
                all.entry(field.slot).or_default().insert(both);
            }
        }
    }
    all
}

impl Texts {
    /// Adds a text of each of these variants; `None` if one has none that is long enough.
    fn add_texts_of(&mut self, variants: &[&Variant]) -> Option<()> {
        for variant in variants {
            let texts = variant.items.iter().filter_map(|item| match item {
                Item::Text(text) => self.rarest_four(text),
                Item::Field(_) => None,
            });
            let (_, four) = texts.min_by(|(one, _), (other, _)| one.total_cmp(other))?;
            self.fours.insert(four);
        }
        Some(())
    }

    /// What stands for a case: the fours of the comparison whose words are the rarest; `None` if none can stand for it.
    fn rarest<'l>(
        &mut self,
        case: &Case,
        names: &[Option<String>],
        surroundings: &Surroundings<'_>,
        lists: impl Fn(&str) -> Option<&'l [String]>,
    ) -> Option<Vec<[u8; 4]>> {
        let mut best: Option<(f64, bool, Vec<[u8; 4]>)> = None;
        for comparison in case.comparisons.iter().filter(|comparison| !comparison.not) {
            let slot = names.iter().position(|name| name.as_deref() == Some(&*comparison.field))?;
            // A field that a message has not got counts as `-`, and so meets nothing below.
            let around = surroundings.get(&(slot as u8)).into_iter().flatten();
            let Some(fours) = self.fours_of(comparison, around.copied(), &lists) else { continue };
            let frequency = fours.iter().map(|(frequency, _)| frequency).sum();
            if best.as_ref().is_none_or(|(known, ..)| frequency < *known) {
                let fours = fours.into_iter().map(|(_, four)| four).collect();
                best = Some((frequency, comparison.how == How::Names, fours));
            }
        }
        let (_, encodes, fours) = best?;
        self.encodes |= encodes;
        Some(fours)
    }

    /// A four for each word of a comparison and each surrounding of its field; `None` if a word has none, or what is not there
    /// would meet it.
    fn fours_of<'v, 'l>(
        &self,
        comparison: &Comparison,
        around: impl Iterator<Item = (&'v [u8], &'v [u8])> + Clone,
        lists: impl Fn(&str) -> Option<&'l [String]>,
    ) -> Option<Vec<(f64, [u8; 4])>> {
        let mut fours = Vec::new();
        for word in &comparison.words {
            let words = match word {
                Word::Plain(word) => std::slice::from_ref(word),
                Word::List(name) => lists(name)?,
            };
            for word in words.iter().map(|word| word.as_bytes()) {
                if b"-".starts_with(word) {
                    return None;
                }
                let is_all = comparison.part == View::Whole;
                let whole = |before: &[u8], behind: &[u8]| match comparison.how {
                    // Segments of a path may have more than one slash between them.
                    How::Names => {
                        let segments =
                            word.split(|byte| *byte == b'/').map(|segment| [b"/", segment].concat());
                        segments.max_by_key(Vec::len).unwrap_or_default()
                    }
                    How::Has => word.to_vec(),
                    How::Is if is_all => [before, word, behind].concat(),
                    How::Starts if is_all => [before, word].concat(),
                    How::Ends if is_all => [word, behind].concat(),
                    How::Is | How::Starts | How::Ends => word.to_vec(),
                };
                // Without the texts beside it, it is the same everywhere.
                let around =
                    around.clone().take(if is_all && comparison.how != How::Has { usize::MAX } else { 1 });
                for (before, behind) in around {
                    fours.push(self.rarest_four(&whole(before, behind))?);
                }
            }
        }
        Some(fours)
    }

    /// The four of a text whose threes are the rarest, folded, and how frequent they are taken to be; `None` if the text is
    /// shorter.
    fn rarest_four(&self, text: &[u8]) -> Option<(f64, [u8; 4])> {
        let fours = text.windows(4).filter_map(|four| {
            let four = <[u8; 4]>::try_from(four).ok()?.map(|byte| byte | 0x20);
            let [a, b, c, d] = four;
            Some((self.frequency([a, b, c]) + self.frequency([b, c, d]), four))
        });
        fours.min_by(|(one, _), (other, _)| f64::total_cmp(one, other))
    }

    /// About how often a three, folded, occurs in the lines of web servers: guessed, not counted.
    fn frequency(&self, three: [u8; 3]) -> f64 {
        if self.usual.contains(&three) {
            return 1.0;
        }
        let of_byte = |byte| match byte {
            b' ' => 0.09,
            b'/' | b'e' => 0.06,
            b'.' | b'o' | b't' | b'a' | b'i' => 0.045,
            b'0'..=b'9' | b'n' | b's' | b'r' | b'l' | b'm' | b'-' => 0.035,
            b'c' | b'd' | b'h' | b'p' | b'u' | b':' => 0.02,
            b'"' | b'b' | b'f' | b'g' | b'w' | b'k' | b'v' | b'x' | b'y' | b';' | b'(' | b')' => 0.01,
            _ => 0.004,
        };
        three.into_iter().map(of_byte).product()
    }
}

/// What stands in most lines.
const USUAL: &str = "\"GET / HTTP/1.1\" 200 \"POST / HTTP/2.0\" \"HEAD / HTTP/1.0\" 304 \"https://www. .com/\" \
    \"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36 Edg/142.0\" \
    \"Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0\" \"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7)\" \
    \"Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) Version/18.6 Mobile/15E148\" Android 10; K \
    \"Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)\" \"-\" \"-\" 301 302 206 \
    /index.html /blog/login /images/ /assets/ /static/ /media/ /content/ /search?q= /api/v1/user .css .js?ver= .png .jpg .svg";
