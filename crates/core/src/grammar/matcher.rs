//! Reads a message by the expanded rules of a grammar.
//!
//! The closed run of texts and holes at the start of a variant is read forward. The runs behind free holes are searched
//! from the end of the message backwards, each as far to the right as it fits. That leaves most room for those before
//! it, so a variant that matches is found. Variants are indexed by the text that they begin with.
//!
//! It relies on the proof for one thing: whichever variant is found, its address is the only one.

use std::net::{IpAddr, Ipv4Addr};

#[cfg(test)]
use hashbrown::HashSet;
use memchr::{memchr, memchr2, memrchr};

use super::proof::{is_letter, is_zone};
use super::syntax::Kind;
use super::variant::{Hole, Item, SLOTS, Variant, is_name};

/// What each hole of a rule held, by slot, as byte offsets into the message.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spans {
    at: [(u32, u32); SLOTS],
    /// Bit n is set where slot n is part of the message. So nothing else need be cleared for the next try.
    present: u32,
}

impl Spans {
    /// What the hole held; `None` where it is not part of the message.
    pub(super) fn get(&self, slot: usize) -> Option<(u32, u32)> {
        self.at.get(slot).copied().filter(|_| self.present >> slot & 1 == 1)
    }

    fn set(&mut self, slot: u8, from: usize, to: usize) {
        if let Some(at) = self.at.get_mut(usize::from(slot)) {
            // A message of 4 GiB or more is not read at all.
            *at = (from as u32, to as u32);
            self.present |= 1 << slot;
        }
    }
}

/// The variants of a grammar, ready to read messages.
#[derive(Debug)]
pub(super) struct Matcher {
    patterns: Vec<Pattern>,
    /// Those that begin with a hole, in file order.
    unfiled: Vec<u32>,
    /// Tree over the texts that the others begin with; the first node is its root.
    nodes: Vec<Node>,
}

/// One variant as runs: the first from the start of the message, each further one behind a free hole, which may hold
/// anything or, if it is the first, be unquoted.
#[derive(Debug)]
struct Pattern {
    voice: u16,
    /// Bytes of `head` that the tree has compared already.
    filed: usize,
    /// The last one before it in its list that begins alike, and how many steps of `head` the two have in common.
    like: (u32, usize),
    /// Whether two holes share a slot.
    repeats: bool,
    head: Vec<Step>,
    rest: Vec<(u8, Run)>,
    /// Whether the first free hole ends before a quotation mark.
    unquoted: bool,
    /// What the message must end with.
    tail: Box<[u8]>,
    /// The hole that it ends with instead; its last character is looked at first, for it tells most variants apart.
    last: Option<Kind>,
    shortest: usize,
    /// Whether it reads no beginning of a message with another address than the whole has.
    safe_where_cut: bool,
}

/// Texts and holes whose ends are plain, behind a free hole.
#[derive(Debug)]
struct Run {
    steps: Vec<Step>,
    /// The byte of its first text that is looked for, the rarest in log text, and its offset.
    anchor: (u8, usize),
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    Text(Box<[u8]>),
    Hole(Hole),
    /// An address whose end is not plain from the next character.
    Open(Hole),
}

impl From<&Item> for Step {
    fn from(item: &Item) -> Self {
        match item {
            Item::Text(text) => Self::Text(text.as_slice().into()),
            Item::Hole(hole)
                if hole.kind.is_address() && hole.stop.is_some_and(|b| in_addresses(b) || is_zone(b)) =>
            {
                Self::Open(*hole)
            }
            Item::Hole(hole) => Self::Hole(*hole),
        }
    }
}

/// A piece of text that variants begin with, and what may follow it.
#[derive(Debug, Default)]
struct Node {
    text: Box<[u8]>,
    /// Patterns whose first text ends here, in file order.
    patterns: Vec<u32>,
    /// The next node by the first byte of its text, sorted.
    next: Vec<(u8, u32)>,
}

/// What a message turned out to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub(super) voice: u16,
    pub(super) pattern: u32,
    pub(super) address: IpAddr,
    /// Where the forwarded header stands, if it does.
    pub(super) forwarded: Option<(usize, usize)>,
}

/// Texts that each begin with the one before, and that rules begin with: deeper ones are not looked at. Who writes
/// a grammar does not come near it.
const DEEPEST: usize = 12;

impl Matcher {
    /// `safe_where_cut` says for each variant whether a message whose end is missing cannot mislead it; where it does not
    /// say, one can.
    pub(super) fn new(variants: &[Variant], safe_where_cut: &[bool]) -> Self {
        let mut matcher = Self { patterns: Vec::new(), unfiled: Vec::new(), nodes: vec![Node::default()] };
        for (index, variant) in (0..).zip(variants) {
            let mut pattern = Pattern::of(variant);
            pattern.safe_where_cut = safe_where_cut.get(index as usize) == Some(&true);
            match variant.items.first() {
                Some(Item::Text(text)) => {
                    pattern.filed = text.len();
                    matcher.file(text, index);
                }
                _ => matcher.unfiled.push(index),
            }
            matcher.patterns.push(pattern);
        }
        let lists = matcher.nodes.iter().map(|node| &node.patterns).chain([&matcher.unfiled]);
        for (list, nth) in lists.flat_map(|list| (1..list.len()).map(move |nth| (list, nth))) {
            let Some((&this, before)) = list.get(..=nth).and_then(<[u32]>::split_last) else { continue };
            let common = |other: &u32| {
                let pattern = |index: u32| matcher.patterns.get(index as usize);
                let common = pattern(this)?.common(pattern(*other)?);
                (common > 0).then_some((*other, common))
            };
            let like = before.iter().rev().find_map(common);
            if let (Some(pattern), Some(like)) = (matcher.patterns.get_mut(this as usize), like) {
                pattern.like = like;
            }
        }
        matcher
    }

    /// Hands readings of the message, and what the holes held, to `accept`, at most one for each voice, earlier voices
    /// first, until it takes one. Of a message that is `cut` only those that its missing end cannot change.
    ///
    /// Takes time linear in the message. Does not allocate.
    pub(super) fn read<T>(
        &self,
        message: &[u8],
        cut: bool,
        mut accept: impl FnMut(Reading, &Spans) -> Option<T>,
    ) -> Option<T> {
        u32::try_from(message.len()).ok()?;
        // Each list is in file order, so the earliest is found by merging them.
        let mut lists: [&[u32]; DEEPEST + 1] = [&[]; DEEPEST + 1];
        let depth = self.descend(message, &mut lists);
        let lists = lists.get_mut(..=depth)?;
        *lists.last_mut()? = &self.unfiled;
        let mut reader = Reader::new(message);
        while let Some(list) =
            lists.iter_mut().filter(|list| !list.is_empty()).min_by_key(|list| list.first())
        {
            let (&index, later) = list.split_first()?;
            *list = later;
            let pattern = self.patterns.get(index as usize)?;
            if (cut && !pattern.safe_where_cut) || reader.fails(pattern, index) {
                continue;
            }
            if let Some(reading) = pattern.read(&mut reader, index) {
                if let taken @ Some(_) = accept(reading, &reader.spans) {
                    return taken;
                }
                for list in lists.iter_mut() {
                    let is_same = |index: &u32| {
                        self.patterns.get(*index as usize).is_some_and(|other| other.voice <= pattern.voice)
                    };
                    *list = list.get(list.partition_point(is_same)..)?;
                }
            }
        }
        None
    }

    /// As [`read`](Self::read), of each pattern by itself: what patterns share must not change what they read.
    #[cfg(test)]
    pub(super) fn read_apart(&self, message: &[u8], mut accept: impl FnMut(Reading, &Spans)) {
        let mut voices = HashSet::new();
        for (index, pattern) in (0..).zip(&self.patterns) {
            let filed = match pattern.head.first() {
                Some(Step::Text(text)) => message.starts_with(text),
                _ => true,
            };
            let mut reader = Reader::new(message);
            if filed
                && !voices.contains(&pattern.voice)
                && let Some(reading) = pattern.read(&mut reader, index)
            {
                voices.insert(pattern.voice);
                accept(reading, &reader.spans);
            }
        }
    }

    /// Puts the patterns of all nodes whose texts the message begins with into `lists`; how many nodes there are.
    fn descend<'s>(&'s self, message: &[u8], lists: &mut [&'s [u32]; DEEPEST + 1]) -> usize {
        let (mut rest, mut node, mut depth) = (message, self.nodes.first(), 0);
        while let (Some(at), Some(first)) = (node, rest.first()) {
            let next = at.next.iter().find(|(byte, _)| byte == first);
            let Some(next) = next.and_then(|(_, next)| self.nodes.get(*next as usize)) else { break };
            let Some(after) = rest.strip_prefix(&*next.text) else { break };
            if !next.patterns.is_empty() {
                let Some(list) = lists.get_mut(depth).filter(|_| depth < DEEPEST) else { break };
                *list = &next.patterns;
                depth += 1;
            }
            (rest, node) = (after, Some(next));
        }
        depth
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

impl Pattern {
    fn of(variant: &Variant) -> Self {
        let mut runs = vec![(0_u8, Vec::new())];
        for item in &variant.items {
            match (item, runs.last_mut()) {
                (Item::Hole(Hole { slot, kind: Kind::Free | Kind::Unquoted, .. }), _) => {
                    runs.push((*slot, Vec::new()));
                }
                (item, Some((_, run))) => run.push(item.into()),
                (_, None) => {}
            }
        }
        let mut runs = runs.into_iter();
        let (_, head) = runs.next().unwrap_or_default();
        let (tail, last) = match variant.items.last() {
            Some(Item::Text(text)) => (text.as_slice().into(), None),
            Some(Item::Hole(hole)) => (Box::default(), Some(hole.kind)),
            None => (Box::default(), None),
        };
        let shortest = variant.items.iter().map(|item| match item {
            Item::Text(text) => text.len(),
            Item::Hole(hole) => match hole.kind {
                Kind::Free | Kind::Quoted | Kind::Unquoted | Kind::Forwarded => 0,
                Kind::Word | Kind::Num | Kind::Rest | Kind::Host => 1,
                Kind::Ip => 2,
                Kind::Ipv4 => 7,
            },
        });
        Self {
            voice: variant.voice,
            filed: 0,
            like: (u32::MAX, 0),
            repeats: (1..variant.items.len()).any(|n| {
                let slot = |item: &Item| if let Item::Hole(hole) = item { Some(hole.slot) } else { None };
                let (before, from) = variant.items.split_at(n);
                from.first().and_then(slot).is_some_and(|it| before.iter().any(|item| slot(item) == Some(it)))
            }),
            head,
            rest: runs.map(|(slot, steps)| (slot, Run::new(steps))).collect(),
            unquoted: variant
                .items
                .iter()
                .any(|item| matches!(item, Item::Hole(Hole { kind: Kind::Unquoted, .. }))),
            tail,
            last,
            shortest: shortest.sum(),
            safe_where_cut: false,
        }
    }

    /// How many steps of the head another pattern begins with too, so that they need to be read once.
    fn common(&self, other: &Self) -> usize {
        if self.repeats || other.repeats {
            return 0; // what a later step held would be taken for what an earlier one did
        }
        let alike = self.head.iter().zip(&other.head).take_while(|(one, other)| one == other);
        alike.take_while(|(step, _)| !matches!(step, Step::Open(_))).take(MARKS).count()
    }

    fn read(&self, reader: &mut Reader<'_>, index: u32) -> Option<Reading> {
        let message = reader.message;
        let can_end = match (self.last, message.last()) {
            (Some(Kind::Num), Some(last)) => last.is_ascii_digit(),
            (Some(Kind::Ip | Kind::Ipv4), Some(last)) => *last == b':' || is_zone(*last),
            _ => ends(message, &self.tail),
        };
        if !can_end || message.len() < self.shortest {
            return None;
        }
        let start = reader.head(self, index)?;
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
        let address = reader.address?;
        Some(Reading { voice: self.voice, pattern: index, address, forwarded: reader.forwarded })
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
                text.iter().copied().zip(0..).min_by_key(|(byte, _)| rank(*byte)).unwrap_or_default()
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
    forwarded: Option<(usize, usize)>,
    /// Bytes that may still be looked at. A run may be tried at many places and look at the same bytes each
    /// time; this keeps the sum linear whatever the message. Shipped grammars never come near it.
    fuel: usize,
    /// The pattern tried last.
    last: u32,
    /// How the message was read before each step of its head, for the next pattern that begins alike.
    marks: [Mark; MARKS + 1],
    /// How many of the steps the next one can have in common with it.
    known: usize,
    /// The first step that failed, if it is one of these.
    failed: usize,
    /// The pattern that failed last at its first step.
    failed_at_once: u32,
    /// How many steps this one has in common with those that were read.
    common: usize,
}

/// Steps at the start of a pattern that those which follow it need not take again.
const MARKS: usize = 16;

/// How far a head was read.
#[derive(Clone, Copy, Default)]
struct Mark {
    at: usize,
    present: u32,
    address: Option<IpAddr>,
    forwarded: Option<(usize, usize)>,
}

impl<'m> Reader<'m> {
    fn new(message: &'m [u8]) -> Self {
        Self {
            message,
            spans: Spans::default(),
            address: None,
            forwarded: None,
            fuel: 0,
            last: u32::MAX,
            marks: [Mark::default(); MARKS + 1],
            known: 0,
            failed: usize::MAX,
            failed_at_once: u32::MAX,
            common: 0,
        }
    }

    /// Turns to another pattern. Whether it fails as one before it did, since it begins alike.
    fn fails(&mut self, pattern: &Pattern, index: u32) -> bool {
        let (before, common) = pattern.like;
        self.common = 0;
        if common > usize::from(pattern.filed > 0) && before == self.failed_at_once {
            self.failed_at_once = index;
            return true;
        }
        if common > 0 && before == self.last {
            (self.last, self.known) = (index, common.min(self.known));
            self.common = self.known;
        }
        self.failed < self.common
    }

    /// Reads the head of a pattern but for the steps that were read; where it ends.
    fn head(&mut self, pattern: &Pattern, index: u32) -> Option<usize> {
        let common = self.common;
        let filed = usize::from(pattern.filed > 0);
        let mark = match self.marks.get(common) {
            Some(mark) if common > filed => *mark,
            _ => Mark { at: pattern.filed, ..Mark::default() },
        };
        self.spans.present = mark.present;
        (self.address, self.forwarded) = (mark.address, mark.forwarded);
        self.fuel = 32 * (self.message.len() + 64);
        let (mut at, limit, last) = (mark.at, self.message.len(), pattern.rest.is_empty());
        let first = common.max(filed);
        for (nth, step) in pattern.head.iter().enumerate().skip(first) {
            let is_open = matches!(step, Step::Open(_));
            if nth > first || is_open {
                self.mark(index, nth, at);
            }
            if is_open {
                return self.forward(pattern.head.get(nth..)?, at, limit, last);
            }
            let Some(length) = self.step(step, at, limit) else {
                if self.last == index {
                    (self.failed, self.known) = (nth, (nth + 1).min(MARKS));
                } else {
                    // The marks of those before it are left as they are.
                    self.failed_at_once = index;
                }
                return None;
            };
            at += length;
        }
        self.mark(index, pattern.head.len(), at);
        (!last || at == limit).then_some(at)
    }

    /// Notes how a pattern was read before this step.
    fn mark(&mut self, index: u32, step: usize, at: usize) {
        (self.last, self.known, self.failed) = (index, step.min(MARKS), usize::MAX);
        if let Some(mark) = self.marks.get_mut(step) {
            *mark =
                Mark { at, present: self.spans.present, address: self.address, forwarded: self.forwarded };
        }
    }

    /// Reads the steps from `at` on, no further than `limit`, and all of it if they are the `last`; where they end.
    fn forward(&mut self, steps: &[Step], mut at: usize, limit: usize, last: bool) -> Option<usize> {
        for (nth, step) in steps.iter().enumerate() {
            if let Step::Open(hole) = step {
                let behind = steps.get(nth + 1..)?;
                return addresses(*hole, self.message.get(at..limit)?).find_map(|(length, address)| {
                    self.fuel = self.fuel.checked_sub(length)?;
                    self.spans.set(hole.slot, at, at + length);
                    self.address = Some(address);
                    // A rule has one address, so this goes no deeper.
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
        let hole = match step {
            Step::Text(text) => return begins(rest, text).then_some(text.len()),
            Step::Hole(hole) | Step::Open(hole) => *hole,
        };
        let length = if hole.kind.is_address() {
            let (length, address) = addresses(hole, rest).next()?;
            self.address = Some(address);
            length
        } else {
            extent(hole, rest)?
        };
        self.fuel = self.fuel.checked_sub(length)?;
        self.spans.set(hole.slot, at, at + length);
        if hole.kind == Kind::Forwarded {
            self.forwarded = Some((at, at + length));
        }
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
            if begins(self.message.get(from..limit)?, text)
                && let Some(to) = self.forward(steps, from + text.len(), limit, last)
            {
                return Some((from, to));
            }
        }
    }
}

/// Whether `rest` begins with `text`. Most texts between holes are a few bytes, and for those a call of `memcmp`
/// costs more than the comparison: a quarter of all time on access logs.
fn begins(rest: &[u8], text: &[u8]) -> bool {
    if text.len() > 8 {
        return rest.starts_with(text);
    }
    rest.len() >= text.len() && text.iter().zip(rest).all(|(a, b)| a == b)
}

/// Whether `message` ends with `tail`; most tails differ in the last byte, and many patterns have none.
fn ends(message: &[u8], tail: &[u8]) -> bool {
    tail.is_empty() || (tail.last() == message.last() && message.ends_with(tail))
}

/// How many bytes of `text` there are before the first that does not hold.
fn run(text: &[u8], holds: impl Fn(u8) -> bool) -> usize {
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

/// How many bytes of `rest` the hole takes; `None` if what stands there does not fit.
pub(super) fn extent(hole: Hole, rest: &[u8]) -> Option<usize> {
    let length = match hole.kind {
        Kind::Num => run(rest, |b| b.is_ascii_digit()),
        Kind::Word => match hole.stop {
            Some(stop) => memchr2(b' ', stop, rest).unwrap_or(rest.len()),
            None => memchr(b' ', rest).unwrap_or(rest.len()),
        },
        Kind::Quoted if hole.stop.is_none() => return quoted(rest).is_none().then_some(rest.len()),
        Kind::Quoted => return quoted(rest),
        Kind::Forwarded if hole.stop != Some(b'"') => return memchr(hole.stop?, rest),
        Kind::Forwarded => return quoted(rest),
        Kind::Rest => match rest.first() {
            Some(b'"') => 0,
            _ => rest.len(),
        },
        Kind::Host => {
            let name = run(rest, |b| IN_NAMES.get(usize::from(b)) == Some(&true));
            if run(rest.get(..name)?, |b| LETTERS.get(usize::from(b)) != Some(&true)) == name {
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
        Kind::Free | Kind::Unquoted | Kind::Ip | Kind::Ipv4 => return None,
    };
    (length > 0).then_some(length)
}

/// The addresses that `rest` may begin with and their lengths, the longest first. There is more than one only where the
/// character behind the hole could stand in an address too, as in `192.0.2.1:80` and `192.0.2.1.`.
pub(super) fn addresses(hole: Hole, rest: &[u8]) -> impl Iterator<Item = (usize, IpAddr)> {
    let text = rest.get(..LONGEST).unwrap_or(rest);
    let end = run(text, in_addresses);
    let mut longest = match text.get(end..) {
        Some([b'%', zone @ ..]) => Some(end + 1 + run(zone, is_zone)),
        _ => Some(end),
    };
    let lengths = std::iter::from_fn(move || {
        let length = longest?;
        longest = hole.stop.and_then(|stop| memrchr(stop, text.get(..length)?));
        Some(length)
    });
    lengths
        .filter(move |length| rest.get(*length).copied() == hole.stop)
        .filter_map(move |length| Some((length, address(text.get(..length)?)?)))
        .filter(move |(_, address)| hole.kind == Kind::Ip || address.is_ipv4())
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
    let text = text.split_once('%').map_or(text, |(address, _zone)| address);
    text.parse::<IpAddr>().ok().map(|address| address.to_canonical())
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
