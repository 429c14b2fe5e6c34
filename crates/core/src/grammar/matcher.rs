//! Reads a message by the expanded rules of a grammar.
//!
//! The closed run of texts and fields at the start of a variant is read forward. The runs behind free fields are searched
//! from the end of the message backwards, each as far to the right as it fits. That leaves most room for those before
//! it, so a variant that matches is found. Variants are indexed by the text that they begin with.
//!
//! It relies on the proof for one thing: whichever variant is found, its address is the only one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

#[cfg(test)]
use hashbrown::HashSet;
use memchr::{memchr, memchr2, memrchr};

use super::proof::{is_letter, is_zone};
use super::record::RecordShapes;
use super::syntax::FieldKind;
use super::time;
use super::variant::{Field, Item, SLOTS, Variant, is_name};
use crate::model::JoinKey;

/// What each field of a rule held, by slot, as byte offsets into the message.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spans {
    at: [(u32, u32); SLOTS],
    /// Bit n is set where slot n is part of the message: those of the pattern that was read.
    present: u32,
}

impl Spans {
    /// What the field held; `None` where it is not part of the message.
    pub(super) fn get(&self, slot: usize) -> Option<(u32, u32)> {
        self.at.get(slot).copied().filter(|_| self.present >> slot & 1 == 1)
    }

    /// Notes what a field held that is part of the message.
    pub(super) fn put(&mut self, slot: u8, from: usize, to: usize) {
        self.set(slot, from, to);
        self.present |= 1 << slot;
    }

    /// Adds what other fields held, `start` bytes further on.
    pub(super) fn add(&mut self, other: &Self, start: usize) {
        let mut more = other.present & !self.present;
        while more != 0 {
            let slot = more.trailing_zeros() as u8;
            more &= more - 1;
            if let Some((from, to)) = other.get(slot.into()) {
                self.put(slot, start + from as usize, start + to as usize);
            }
        }
    }

    fn set(&mut self, slot: u8, from: usize, to: usize) {
        // A message of 4 GiB or more is not read at all.
        self.at.get_mut(usize::from(slot)).into_iter().for_each(|at| *at = (from as u32, to as u32));
    }
}

/// The variants of a grammar, ready to read messages.
#[derive(Debug)]
pub(super) struct Matcher {
    patterns: Vec<Pattern>,
    /// Tree over the texts that patterns begin with; the first node is its root.
    nodes: Vec<Node>,
    /// What is read by key.
    records: Option<RecordShapes>,
}

/// One variant as runs: the first from the start of the message, each further one behind a free field, which may hold
/// anything or, if it is the first, be unquoted.
#[derive(Debug)]
struct Pattern {
    group: u16,
    /// Bytes of `head` that the tree has compared already.
    filed: usize,
    /// Whether two fields share a slot.
    repeats: bool,
    head: Vec<Step>,
    rest: Vec<(u8, Run)>,
    /// Whether the first free field ends before a quotation mark.
    unquoted: bool,
    /// What the message must end with.
    tail: Box<[u8]>,
    /// The field that it ends with instead; its last character is looked at first, for it tells most variants apart.
    last: Option<FieldKind>,
    shortest: usize,
    /// Its slots, as bits.
    present: u32,
    has_address: bool,
    forwarded: Option<u8>,
}

/// Texts and fields whose ends are plain, behind a free field.
#[derive(Debug)]
struct Run {
    steps: Vec<Step>,
    /// The byte of its first text that is looked for, the rarest in log text, and its offset.
    anchor: (u8, usize),
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    Text(Literal),
    /// Digits, for this slot.
    Num(u8),
    Field(Field),
    Address(Field),
    /// An address or a time whose end is not plain from the next character.
    Open(Field),
}

/// A text to compare. Most are a few bytes, and for those a call of `memcmp` costs more than the comparison.
#[derive(Debug, PartialEq, Eq)]
struct Literal {
    /// Its first eight bytes, and which bits those are.
    first: u64,
    mask: u64,
    whole: Box<[u8]>,
}

impl Literal {
    fn new(whole: &[u8]) -> Self {
        let eight = |byte: &dyn Fn(u8) -> u8| {
            let bytes = whole.iter().take(8).enumerate();
            bytes.fold(0, |all, (n, b)| all | u64::from(byte(*b)) << (8 * n))
        };
        Self { first: eight(&|byte| byte), mask: eight(&|_| 0xff), whole: whole.into() }
    }

    /// Whether `rest` begins with it.
    #[inline(always)]
    fn begins(&self, rest: &[u8]) -> bool {
        match rest.first_chunk() {
            Some(eight) => {
                u64::from_le_bytes(*eight) & self.mask == self.first
                    && (self.whole.len() <= 8 || rest.starts_with(&self.whole))
            }
            None => rest.starts_with(&self.whole),
        }
    }
}

impl From<&Item> for Step {
    fn from(item: &Item) -> Self {
        match item {
            Item::Text(text) => Self::Text(Literal::new(text)),
            Item::Field(field) if field.kind.is_address() => match field.stop {
                Some(stop) if in_addresses(stop) || is_zone(stop) => Self::Open(*field),
                _ => Self::Address(*field),
            },
            Item::Field(Field { kind: FieldKind::Num, slot, .. }) => Self::Num(*slot),
            Item::Field(field) => Self::Field(*field),
        }
    }
}

/// A piece of text that patterns begin with, and what may follow it.
#[derive(Debug, Default)]
struct Node {
    text: Box<[u8]>,
    /// Patterns whose first text ends here, in file order; of the root those that begin with a field.
    patterns: Vec<u32>,
    /// What to try on a message that begins with the texts up to this one: their patterns, in file order.
    candidates: Vec<Candidate>,
    /// The next node by the first byte of its text, sorted.
    next: Vec<(u8, u32)>,
}

/// A pattern in a list of those to try.
#[derive(Debug)]
struct Candidate {
    pattern: u32,
    /// The place of the first one of the next group.
    next: u32,
    /// The last one before it that begins alike, by its place in the list.
    like: u32,
    /// How many steps of their heads the two have in common.
    common: u16,
}

/// What a message turned out to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub(super) group: u16,
    pub(super) pattern: u32,
    /// `0.0.0.0` if the pattern has none.
    pub(super) address: IpAddr,
    /// Where the forwarded header stands, if it does.
    pub(super) forwarded: Option<(usize, usize)>,
}

impl Matcher {
    /// Ready to read the messages that these describe.
    pub(super) fn new(variants: &[Variant]) -> Self {
        let mut matcher = Self { patterns: Vec::new(), nodes: vec![Node::default()], records: None };
        for (index, variant) in (0..).zip(variants) {
            let mut pattern = Pattern::of(variant);
            let text = match variant.items.first() {
                Some(Item::Text(text)) => text.as_slice(),
                _ => &[],
            };
            pattern.filed = text.len();
            matcher.file(text, index);
            matcher.patterns.push(pattern);
        }
        let mut nodes = vec![(0, Vec::new())];
        while let Some((index, above)) = nodes.pop() {
            let Some(node) = matcher.nodes.get_mut(index) else { continue };
            let mut all: Vec<u32> = [above, std::mem::take(&mut node.patterns)].concat();
            all.sort_unstable();
            node.candidates = candidates(&all, &matcher.patterns);
            nodes.extend(node.next.iter().map(|(_, next)| (*next as usize, all.clone())));
        }
        matcher
    }

    /// The same, which reads these records too.
    pub(super) fn with_records(self, records: RecordShapes) -> Self {
        Self { records: Some(records).filter(|records| !records.is_empty()), ..self }
    }

    /// The shapes of records.
    pub(super) fn records(&self) -> Option<&RecordShapes> {
        self.records.as_ref()
    }

    /// Hands readings of the message, what the fields held, and the text where they held it, to `accept`, at most one for
    /// each group, earlier groups first, until it takes one. Of a message that is `cut` only those that its missing end
    /// cannot change: `cut` says which variants read no beginning of a message with another address than the whole has.
    ///
    /// Takes time linear in the message. Does not allocate.
    pub(super) fn read<T>(
        &self,
        message: &[u8],
        cut: Option<&[bool]>,
        mut accept: impl FnMut(Reading, &Spans, &[u8]) -> Option<T>,
    ) -> Option<T> {
        u32::try_from(message.len()).ok()?;
        // No record is a message that a rule reads.
        if let Some(records) = self.records.as_ref().filter(|_| cut.is_none())
            && let taken @ Some(_) = records.read(message, &mut accept)
        {
            return taken;
        }
        self.read_rules(message, cut, |reading, spans| accept(reading, spans, message))
    }

    /// The first reading of a value in a record.
    pub(super) fn read_value<T>(
        &self,
        value: &[u8],
        mut accept: impl FnMut(Reading, &Spans) -> T,
    ) -> Option<T> {
        self.read_rules(value, None, |reading, spans| Some(accept(reading, spans)))
    }

    /// As [`read`](Self::read).
    #[inline(always)]
    fn read_rules<T>(
        &self,
        message: &[u8],
        cut: Option<&[bool]>,
        mut accept: impl FnMut(Reading, &Spans) -> Option<T>,
    ) -> Option<T> {
        let (candidates, mut place) = (self.candidates(message), 0);
        if candidates.is_empty() {
            return None;
        }
        let mut reader = Reader::new(message);
        while let Some(candidate) = candidates.get(place as usize) {
            let this = place;
            place += 1;
            if reader.fails(this, candidate) {
                continue;
            }
            let pattern = self.patterns.get(candidate.pattern as usize)?;
            if cut.is_some_and(|safe| safe.get(candidate.pattern as usize) != Some(&true)) {
                continue;
            }
            if let Some(reading) = pattern.read(&mut reader, this, candidate.pattern) {
                if let taken @ Some(_) = accept(reading, &reader.spans) {
                    return taken;
                }
                place = candidate.next;
            }
        }
        None
    }

    /// As [`read`](Self::read), of each pattern by itself: what patterns share must not change what they read.
    #[cfg(test)]
    pub(super) fn read_apart(&self, message: &[u8], mut accept: impl FnMut(Reading, &Spans)) {
        let mut groups = HashSet::new();
        for (index, pattern) in (0..).zip(&self.patterns) {
            let filed = match pattern.head.first() {
                Some(Step::Text(text)) => text.begins(message),
                _ => true,
            };
            let mut reader = Reader::new(message);
            if filed
                && !groups.contains(&pattern.group)
                && let Some(reading) = pattern.read(&mut reader, 0, index)
            {
                groups.insert(pattern.group);
                accept(reading, &reader.spans);
            }
        }
    }

    /// Whether there is something to try on a message.
    pub(super) fn may_read(&self, message: &[u8]) -> bool {
        self.records.is_some() || !self.candidates(message).is_empty()
    }

    /// What to try on a message, by the text that it begins with.
    fn candidates(&self, message: &[u8]) -> &[Candidate] {
        let (mut rest, mut candidates, mut node) = (message, &[][..], self.nodes.first());
        while let Some(at) = node {
            candidates = &at.candidates;
            let next = at.next.iter().find(|(byte, _)| Some(byte) == rest.first());
            let next = next.and_then(|(_, next)| self.nodes.get(*next as usize));
            node = next.filter(|next| match rest.strip_prefix(&*next.text) {
                Some(after) => {
                    rest = after;
                    true
                }
                None => false,
            });
        }
        candidates
    }

    /// Files a pattern below the node of its first text, splitting nodes where texts part.
    fn file(&mut self, text: &[u8], pattern: u32) {
        let (mut rest, mut at) = (text, 0_usize);
        while let Some(&first) = rest.first() {
            let found = self
                .nodes
                .get(at)
                .and_then(|node| node.next.iter().find(|(byte, _)| *byte == first).copied());
            let Some((_, next)) = found else {
                let leaf = self.nodes.len();
                self.nodes.push(Node { text: rest.into(), ..Node::default() });
                self.link(at, first, leaf);
                (rest, at) = (&[], leaf);
                continue;
            };
            let next = next as usize;
            let Some(node) = self.nodes.get_mut(next) else { return };
            let same = node.text.iter().zip(rest).take_while(|(a, b)| a == b).count();
            let (front, back) = node.text.split_at(same);
            if let Some(&branch) = back.first() {
                // The node keeps what is common; what follows moves into a new one.
                let lower = Node {
                    text: back.into(),
                    patterns: std::mem::take(&mut node.patterns),
                    next: std::mem::take(&mut node.next),
                    candidates: Vec::new(),
                };
                node.text = front.into();
                let index = self.nodes.len();
                self.nodes.push(lower);
                self.link(next, branch, index);
            }
            (rest, at) = (rest.get(same..).unwrap_or(&[]), next);
        }
        self.nodes.get_mut(at).into_iter().for_each(|node| node.patterns.push(pattern));
    }

    fn link(&mut self, from: usize, byte: u8, to: usize) {
        if let Some(node) = self.nodes.get_mut(from) {
            node.next.push((byte, to as u32));
            node.next.sort_unstable();
        }
    }
}

/// Patterns among which one that begins alike is looked for: more would take long in a large grammar.
const LOOK_BACK: usize = 64;

/// These patterns, each with the last one before it that begins alike.
fn candidates(list: &[u32], patterns: &[Pattern]) -> Vec<Candidate> {
    let get = |index: u32| patterns.get(index as usize);
    let candidate = |(nth, index): (usize, &u32)| {
        let pattern = get(*index)?;
        let mut before = list.get(..nth)?.iter().enumerate().rev().take(LOOK_BACK);
        let like = before.find_map(|(place, other)| Some((place as u32, pattern.common(get(*other)?)?)));
        let (like, common) = like.unwrap_or((u32::MAX, 0));
        let next =
            list.partition_point(|other| get(*other).is_some_and(|other| other.group <= pattern.group));
        Some(Candidate { pattern: *index, next: next as u32, like, common })
    };
    list.iter().enumerate().filter_map(candidate).collect()
}

impl Pattern {
    fn of(variant: &Variant) -> Self {
        let mut runs = vec![(0_u8, Vec::new())];
        for item in &variant.items {
            match (item, runs.last_mut()) {
                (Item::Field(Field { slot, kind: FieldKind::Free | FieldKind::Unquoted, .. }), _) => {
                    runs.push((*slot, Vec::new()));
                }
                (Item::Text(text), Some((_, run))) => {
                    if let Some(Step::Field(field)) = run.last()
                        && field.kind == FieldKind::Time
                        && time::goes_on(text)
                    {
                        let open = Step::Open(*field);
                        run.pop();
                        run.push(open);
                    }
                    run.push(item.into());
                }
                (item, Some((_, run))) => run.push(item.into()),
                (_, None) => {}
            }
        }
        let mut runs = runs.into_iter();
        let (_, head) = runs.next().unwrap_or_default();
        let (tail, last) = match variant.items.last() {
            Some(Item::Text(text)) => (text.as_slice().into(), None),
            Some(Item::Field(field)) => (Box::default(), Some(field.kind)),
            None => (Box::default(), None),
        };
        let shortest = variant.items.iter().map(|item| match item {
            Item::Text(text) => text.len(),
            Item::Field(field) => match field.kind {
                FieldKind::Free | FieldKind::Quoted | FieldKind::Unquoted | FieldKind::Forwarded => 0,
                FieldKind::Word | FieldKind::Key(_) | FieldKind::Num | FieldKind::Rest | FieldKind::Host => 1,
                FieldKind::Without(_) => 0,
                FieldKind::Time => time::SHORTEST,
                FieldKind::Ip => 2,
                FieldKind::Ipv4 => 7,
            },
        });
        let fields =
            || variant.items.iter().filter_map(|item| if let Item::Field(h) = item { Some(h) } else { None });
        let present = fields().fold(0_u32, |present, field| present | 1 << field.slot);
        Self {
            group: variant.group,
            filed: 0,
            repeats: present.count_ones() as usize != fields().count(),
            present,
            has_address: variant.has_address(),
            forwarded: fields().find(|field| field.kind == FieldKind::Forwarded).map(|field| field.slot),
            head,
            rest: runs.map(|(slot, steps)| (slot, Run::new(steps))).collect(),
            unquoted: fields().any(|field| field.kind == FieldKind::Unquoted),
            tail,
            last,
            shortest: shortest.sum(),
        }
    }

    /// How many steps of the head another pattern begins with too, so that they need to be read once; `None` if there
    /// are none but the text that the tree compares.
    fn common(&self, other: &Self) -> Option<u16> {
        if self.repeats || other.repeats {
            return None; // what a later step held would be taken for what an earlier one did
        }
        let alike = self.head.iter().zip(&other.head).take_while(|(one, other)| one == other);
        let common = alike.take_while(|(step, _)| !matches!(step, Step::Open(_))).take(MARKS).count();
        (common > usize::from(self.filed > 0)).then_some(common as u16)
    }

    /// Reads the message by this pattern, which is at `place` among those to try and at `index` among all.
    fn read(&self, reader: &mut Reader<'_>, place: u32, index: u32) -> Option<Reading> {
        let message = reader.message;
        let can_end = match (self.last, message.last()) {
            (Some(FieldKind::Num), Some(last)) => last.is_ascii_digit(),
            (Some(FieldKind::Ip | FieldKind::Ipv4), Some(last)) => *last == b':' || is_zone(*last),
            _ => ends(message, &self.tail),
        };
        if !can_end || message.len() < self.shortest {
            return None;
        }
        let start = reader.head(self, place)?;
        // Where the run found last, to the right of the one that is looked for, begins.
        let mut limit = message.len();
        let mut behind = None;
        for (number, (slot, run)) in self.rest.iter().enumerate().rev() {
            let latest =
                if number == 0 && self.unquoted { start + unquoted(message.get(start..)?) } else { limit };
            let (from, to) = reader.find_last(run, start, latest, limit, behind.is_none())?;
            if let Some((slot, end)) = behind.replace((*slot, from)) {
                reader.spans.set(slot, to, end);
            }
            limit = from;
        }
        if let Some((slot, end)) = behind {
            reader.spans.set(slot, start, end);
        }
        reader.spans.present = self.present;
        let forwarded = self.forwarded.and_then(|slot| reader.spans.get(usize::from(slot)));
        Some(Reading {
            group: self.group,
            pattern: index,
            address: if self.has_address { reader.address? } else { Ipv4Addr::UNSPECIFIED.into() },
            forwarded: forwarded.map(|(from, to)| (from as usize, to as usize)),
        })
    }
}

impl Run {
    fn new(steps: Vec<Step>) -> Self {
        // Lower is rarer in log text; guessed, not counted.
        let rank = |byte: u8| match byte {
            b' ' => 9,
            b'e' | b't' | b'a' | b'o' | b'n' | b'i' | b'r' | b's' => 8,
            b'0'..=b'9' | b'.' | b':' => 7,
            b'a'..=b'z' => 5,
            _ => 3,
        };
        let anchor = match steps.first() {
            Some(Step::Text(text)) => {
                text.whole.iter().copied().zip(0..).min_by_key(|(byte, _)| rank(*byte)).unwrap_or_default()
            }
            _ => (0, 0),
        };
        Self { steps, anchor }
    }
}

/// A message while patterns are tried on it, one after another.
struct Reader<'m> {
    message: &'m [u8],
    spans: Spans,
    address: Option<IpAddr>,
    /// Bytes that may still be looked at. A run may be tried at many places and look at the same bytes each
    /// time; this keeps the sum linear whatever the message. Shipped grammars never come near it.
    fuel: usize,
    /// The pattern whose head was read last, by its place, or a later one that fails as it does.
    last: u32,
    /// Where each step of that head began.
    starts: [u32; MARKS + 1],
    /// How many of its steps were tried.
    known: u32,
    /// The last of them, if it failed.
    failed: u32,
    /// The pattern that failed last at its first step.
    failed_at_once: u32,
    /// How many steps the one to be read has in common with those that were read.
    common: u32,
}

/// Steps at the start of a pattern that those which follow it need not take again.
const MARKS: usize = 16;

impl<'m> Reader<'m> {
    fn new(message: &'m [u8]) -> Self {
        let none = u32::MAX - 1; // what no candidate is like
        Self {
            message,
            spans: Spans::default(),
            address: None,
            fuel: 0,
            last: none,
            starts: [0; MARKS + 1],
            known: 0,
            failed: u32::MAX,
            failed_at_once: none,
            common: 0,
        }
    }

    /// Turns to another pattern. Whether it fails as one before it did, since it begins alike.
    fn fails(&mut self, place: u32, candidate: &Candidate) -> bool {
        if candidate.like == self.failed_at_once {
            self.failed_at_once = place;
            return true;
        }
        self.common = 0;
        if candidate.like == self.last {
            self.known = u32::from(candidate.common).min(self.known);
            (self.last, self.common) = (place, self.known);
        }
        self.failed < self.common
    }

    /// Reads the head of a pattern but for the steps that were read; where it ends.
    fn head(&mut self, pattern: &Pattern, place: u32) -> Option<usize> {
        self.fuel = 32 * (self.message.len() + 64);
        let (limit, last) = (self.message.len(), pattern.rest.is_empty());
        let (first, mut at) = match self.starts.get(self.common as usize) {
            Some(start) if self.common > 0 => (self.common as usize, *start as usize),
            _ => (usize::from(pattern.filed > 0), pattern.filed),
        };
        for (nth, step) in pattern.head.iter().enumerate().skip(first) {
            if matches!(step, Step::Open(_)) {
                self.tried(place, nth, u32::MAX);
                return self.forward(pattern.head.get(nth..)?, at, limit, last);
            }
            let Some(length) = self.step(step, at, limit) else {
                if nth == first && self.common == 0 {
                    // What is known of those before it stays.
                    self.failed_at_once = place;
                } else {
                    self.tried(place, nth + 1, nth as u32);
                }
                return None;
            };
            at += length;
            self.starts.get_mut(nth + 1).into_iter().for_each(|start| *start = at as u32);
        }
        self.tried(place, pattern.head.len(), u32::MAX);
        (!last || at == limit).then_some(at)
    }

    /// Notes how many steps of a pattern were tried, and which one failed, if one did.
    fn tried(&mut self, place: u32, steps: usize, failed: u32) {
        (self.last, self.known, self.failed) = (place, steps.min(MARKS) as u32, failed);
    }

    /// Reads the steps from `at` on, no further than `limit`, and all of it if they are the `last`; where they end.
    fn forward(&mut self, steps: &[Step], mut at: usize, limit: usize, last: bool) -> Option<usize> {
        for (nth, step) in steps.iter().enumerate() {
            if let Step::Open(field) = step {
                let behind = steps.get(nth + 1..)?;
                if field.kind == FieldKind::Time {
                    return time::stamps(self.message.get(at..limit)?, field.stop).find_map(|length| {
                        self.fuel = self.fuel.checked_sub(length)?;
                        self.spans.set(field.slot, at, at + length);
                        self.forward(behind, at + length, limit, last)
                    });
                }
                return addresses(*field, self.message.get(at..limit)?).find_map(|(length, address)| {
                    self.fuel = self.fuel.checked_sub(length)?;
                    self.spans.set(field.slot, at, at + length);
                    self.address = Some(address);
                    // A rule has one address, and a few times at most: so this goes no deeper.
                    self.forward(behind, at + length, limit, last)
                });
            }
            at += self.step(step, at, limit)?;
        }
        (!last || at == limit).then_some(at)
    }

    /// How many bytes a step takes whose end is plain.
    #[inline(always)] // a fifth of the time on access logs
    fn step(&mut self, step: &Step, at: usize, limit: usize) -> Option<usize> {
        let rest = self.message.get(at..limit)?;
        let (slot, length) = match step {
            Step::Text(text) => return text.begins(rest).then_some(text.whole.len()),
            Step::Num(slot) => (*slot, digits(rest)?),
            Step::Field(field) => (field.slot, extent(*field, rest)?),
            Step::Open(field) if field.kind == FieldKind::Time => (field.slot, extent(*field, rest)?),
            Step::Address(field) | Step::Open(field) => {
                let (length, address) = plain_address(*field, rest)?;
                self.address = Some(address);
                (field.slot, length)
            }
        };
        self.fuel = self.fuel.checked_sub(length)?;
        self.spans.set(slot, at, at + length);
        Some(length)
    }

    /// The rightmost place from `start` to `latest` where the run fits, and where it ends there: not after `limit`, and
    /// at `limit` if it is `last`.
    fn find_last(
        &mut self,
        run: &Run,
        start: usize,
        latest: usize,
        limit: usize,
        last: bool,
    ) -> Option<(usize, usize)> {
        let Some((Step::Text(text), steps)) = run.steps.split_first() else {
            return (latest >= limit).then_some((limit, limit));
        };
        let (byte, offset) = run.anchor;
        let mut before = limit.min(latest + offset + 1);
        loop {
            let area = self.message.get(start + offset..before)?;
            let from = start + memrchr(byte, area)?;
            before = from + offset;
            self.fuel = self.fuel.checked_sub(1)?;
            if text.begins(self.message.get(from..limit)?)
                && let Some(to) = self.forward(steps, from + text.whole.len(), limit, last)
            {
                return Some((from, to));
            }
        }
    }
}

/// Whether `message` ends with `tail`; most tails differ in the last byte, or have no other.
fn ends(message: &[u8], tail: &[u8]) -> bool {
    match tail {
        [] => true,
        [byte] => message.last() == Some(byte),
        [.., byte] => message.last() == Some(byte) && message.ends_with(tail),
    }
}

/// How many bytes of `text` there are before the first that does not hold.
fn run(text: &[u8], mut holds: impl FnMut(u8) -> bool) -> usize {
    text.iter().position(|byte| !holds(*byte)).unwrap_or(text.len())
}

macro_rules! table {
    (|$byte:ident| $holds:expr) => {{
        let (mut table, mut $byte) = ([false; 256], 0_u8);
        while $byte < 128 {
            #[allow(clippy::indexing_slicing)] // while it is compiled
            {
                table[$byte as usize] = $holds;
            }
            $byte += 1;
        }
        table
    }};
    ($holds:ident) => {
        table!(|byte| $holds(byte))
    };
}

/// What addresses and names of hosts are made of, by byte: a look-up takes a third of the time of the comparisons.
const IN_ADDRESSES: [bool; 256] = table!(|byte| byte.is_ascii_hexdigit() || byte == b':' || byte == b'.');
const IN_NAMES: [bool; 256] = table!(is_name);
const LETTERS: [bool; 256] = table!(is_letter);

fn in_addresses(byte: u8) -> bool {
    IN_ADDRESSES.get(usize::from(byte)) == Some(&true)
}

/// How many digits `rest` begins with, if any.
#[inline(always)]
fn digits(rest: &[u8]) -> Option<usize> {
    let length = run(rest, |b| b.is_ascii_digit());
    (length > 0).then_some(length)
}

/// How many bytes of `rest` the field takes; `None` if what stands there does not fit.
#[inline(always)]
pub(super) fn extent(field: Field, rest: &[u8]) -> Option<usize> {
    let length = match field.kind {
        FieldKind::Num => return digits(rest),
        FieldKind::Word => {
            let stop = field.stop.unwrap_or(b' ');
            // Most words are so short that a call of memchr costs more.
            run(rest, |b| b != b' ' && b != stop)
        }
        FieldKind::Key(_) => {
            let stop = field.stop.unwrap_or(b' ');
            return Some(run(rest, |b| b != b' ' && b != stop))
                .filter(|length| (1..=JoinKey::LONGEST).contains(length));
        }
        FieldKind::Quoted if field.stop.is_none() => return quoted(rest).is_none().then_some(rest.len()),
        FieldKind::Quoted => return quoted(rest),
        // Only in the value of a record.
        FieldKind::Forwarded if field.stop.is_none() => return Some(rest.len()),
        FieldKind::Forwarded if field.stop != Some(b'"') => return memchr(field.stop?, rest),
        FieldKind::Forwarded => return quoted(rest),
        FieldKind::Without(set) => {
            return Some(run(rest, |b| !set.holds(b) && Some(b) != field.stop));
        }
        FieldKind::Time => return time::stamps(rest, field.stop).next(),
        FieldKind::Rest => match rest.first() {
            Some(b'"') => 0,
            _ => rest.len(),
        },
        FieldKind::Host => {
            let mut letter = false;
            let name = run(rest, |b| {
                letter |= LETTERS.get(usize::from(b)) == Some(&true);
                IN_NAMES.get(usize::from(b)) == Some(&true)
            });
            if !letter {
                return None;
            }
            match rest.get(name..)? {
                [b':', port @ ..] => match run(port, |b| b.is_ascii_digit()) {
                    0 => name,
                    digits => name + 1 + digits,
                },
                _ => name,
            }
        }
        FieldKind::Free | FieldKind::Unquoted | FieldKind::Ip | FieldKind::Ipv4 => return None,
    };
    (length > 0).then_some(length)
}

/// The addresses that `rest` may begin with and their lengths, the longest first. There is more than one only where the
/// character behind the field could stand in an address too, as in `192.0.2.1:80` and `192.0.2.1.`.
pub(super) fn addresses(field: Field, rest: &[u8]) -> impl Iterator<Item = (usize, IpAddr)> {
    let shorter = move |length: &usize| memrchr(field.stop?, rest.get(..*length)?);
    std::iter::successors(Some(longest(rest)), shorter)
        .filter_map(move |length| Some((length, address_of(field, rest, length)?)))
}

/// The address that all of `text` is.
pub(super) fn address_whole(text: &[u8]) -> Option<IpAddr> {
    (longest(text) == text.len()).then(|| address(text)).flatten()
}

/// The longest of them.
#[inline(always)]
fn plain_address(field: Field, rest: &[u8]) -> Option<(usize, IpAddr)> {
    let length = longest(rest);
    Some((length, address_of(field, rest, length)?))
}

/// How much of `rest` could be an address.
#[inline(always)]
fn longest(rest: &[u8]) -> usize {
    let text = rest.get(..LONGEST).unwrap_or(rest);
    let end = run(text, in_addresses);
    match text.get(end..) {
        Some([b'%', zone @ ..]) => end + 1 + run(zone, is_zone),
        _ => end,
    }
}

/// The address of this length, if the field can end there.
#[inline(always)]
fn address_of(field: Field, rest: &[u8], length: usize) -> Option<IpAddr> {
    let ends = rest.get(length).copied() == field.stop;
    let address = address(rest.get(..length).filter(|_| ends)?)?;
    (field.kind == FieldKind::Ip || address.is_ipv4()).then_some(address)
}

/// The longest address, with `%` and a zone as long as interface names are (`INET6_ADDRSTRLEN` and `IFNAMSIZ`, without
/// their NULs).
const LONGEST: usize = 45 + 1 + 15;

/// Up to the next quotation mark that no backslash makes plain.
fn quoted(rest: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let next = at + memchr2(b'"', b'\\', rest.get(at..)?)?;
        match rest.get(next) {
            Some(b'"') => return Some(next),
            _ => at = next + 2,
        }
    }
}

/// How much of `rest` stands before a quotation mark that no backslash makes plain.
fn unquoted(rest: &[u8]) -> usize {
    quoted(rest).unwrap_or(rest.len())
}

/// The address, without its zone, and as IPv4 if it is one written as IPv6.
pub(super) fn address(text: &[u8]) -> Option<IpAddr> {
    if let Some(address) = v4(text) {
        return Some(address.into());
    }
    let text = std::str::from_utf8(text).ok()?;
    let text = match text.split_once('%') {
        Some((_, zone)) if zone.is_empty() || zone.ends_with('.') => return None,
        Some((address, _)) => address,
        None => text,
    };
    text.parse::<Ipv6Addr>().ok().map(|address| address.to_canonical())
}

/// As `Ipv4Addr::from_str` (no leading zeros, four parts), at a third of its 28 ns.
fn v4(text: &[u8]) -> Option<Ipv4Addr> {
    let (mut bits, mut parts, mut part, mut digits) = (0_u32, 1, 0_u32, 0);
    for byte in text {
        match byte {
            // A zero before other digits leaves `part` at 0.
            b'0'..=b'9' if digits == 0 || (digits < 3 && part > 0) => {
                part = part * 10 + u32::from(byte - b'0');
                digits += 1;
            }
            b'.' if digits > 0 && part < 256 && parts < 4 => {
                bits = bits << 8 | part;
                (parts, part, digits) = (parts + 1, 0, 0);
            }
            _ => return None,
        }
    }
    (parts == 4 && digits > 0 && part < 256).then(|| Ipv4Addr::from_bits(bits << 8 | part))
}
