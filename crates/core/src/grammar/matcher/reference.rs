//! The matcher as it was before it was compiled: each variant by itself, step by step and byte by byte. Tests and fuzzers
//! compare the two.

mod fields;

use std::net::{IpAddr, Ipv4Addr};

use hashbrown::HashSet;
use memchr::memrchr;

use super::{Matcher, Reading, Spans};
use crate::grammar::proof::is_zone;
use crate::grammar::source::FieldKind;
use crate::grammar::time;
use crate::grammar::variant::{Field, Item, SLOTS, Variant};
use fields::{addresses, digits, ends, extent, in_addresses, plain_address, unquoted};

/// The variants of a grammar, ready to read messages.
#[derive(Debug)]
pub(in crate::grammar) struct Reference(Vec<ReferencePattern>);

impl Reference {
    pub(in crate::grammar) fn new(variants: &[Variant]) -> Self {
        Self(variants.iter().map(ReferencePattern::of).collect())
    }

    /// Whether rules read the message: these, and those of the matcher, which was made of the same. Panics where the two do
    /// not read the same.
    #[track_caller]
    pub(in crate::grammar) fn compare(&self, matcher: &Matcher, message: &[u8]) -> bool {
        let shown = |reading: Reading, spans: &Spans| {
            let spans: Vec<_> = (0..SLOTS).map(|slot| spans.get(slot)).collect();
            format!("{reading:?} {spans:?}")
        };
        let (mut read, mut want) = (Vec::new(), Vec::new());
        matcher.read_rules(message, None, |reading, spans| {
            read.push(shown(reading, spans));
            None::<()>
        });
        self.read(message, |reading, spans| want.push(shown(reading, spans)));
        assert_eq!(read, want, "{}", message.escape_ascii());
        !want.is_empty()
    }

    /// Hands the first reading of each group to `accept`.
    fn read(&self, message: &[u8], mut accept: impl FnMut(Reading, &Spans)) {
        let mut groups = HashSet::new();
        for (index, pattern) in (0..).zip(&self.0) {
            let mut reader = ReferenceReader { message, spans: Spans::default(), address: None, fuel: 0 };
            if !groups.contains(&pattern.group)
                && let Some(reading) = pattern.read(&mut reader, index)
            {
                groups.insert(pattern.group);
                accept(reading, &reader.spans);
            }
        }
    }
}

/// One variant as runs: the first from the start of the message, each further one behind a free field, which may hold
/// anything or, if it is the first, be unquoted.
#[derive(Debug)]
struct ReferencePattern {
    group: u16,
    head: Vec<ReferenceStep>,
    rest: Vec<(u8, ReferenceRun)>,
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
struct ReferenceRun {
    steps: Vec<ReferenceStep>,
    /// The byte of its first text that is looked for, the rarest in log text, and its offset.
    anchor: (u8, usize),
}

#[derive(Debug, PartialEq, Eq)]
enum ReferenceStep {
    Text(ReferenceLiteral),
    /// Digits, for this slot.
    Num(u8),
    Field(Field),
    Address(Field),
    /// An address or a time whose end is not plain from the next character.
    Open(Field),
}

/// A text to compare. Most are a few bytes, and for those a call of `memcmp` costs more than the comparison.
#[derive(Debug, PartialEq, Eq)]
struct ReferenceLiteral {
    /// Its first eight bytes, and which bits those are.
    first: u64,
    mask: u64,
    whole: Box<[u8]>,
}

impl ReferenceLiteral {
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

impl From<&Item> for ReferenceStep {
    fn from(item: &Item) -> Self {
        match item {
            Item::Text(text) => Self::Text(ReferenceLiteral::new(text)),
            Item::Field(field) if field.kind.is_address() => match field.stop {
                Some(stop) if in_addresses(stop) || is_zone(stop) => Self::Open(*field),
                _ => Self::Address(*field),
            },
            Item::Field(Field { kind: FieldKind::Num, slot, .. }) => Self::Num(*slot),
            Item::Field(field) => Self::Field(*field),
        }
    }
}

impl ReferencePattern {
    fn of(variant: &Variant) -> Self {
        let mut runs = vec![(0_u8, Vec::new())];
        for item in &variant.items {
            match (item, runs.last_mut()) {
                (Item::Field(Field { slot, kind: FieldKind::Free | FieldKind::Unquoted, .. }), _) => {
                    runs.push((*slot, Vec::new()));
                }
                (Item::Text(text), Some((_, run))) => {
                    if let Some(ReferenceStep::Field(field)) = run.last()
                        && field.kind == FieldKind::Time
                        && time::goes_on(text)
                    {
                        let open = ReferenceStep::Open(*field);
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
            present,
            has_address: variant.has_address(),
            forwarded: fields().find(|field| field.kind == FieldKind::Forwarded).map(|field| field.slot),
            head,
            rest: runs.map(|(slot, steps)| (slot, ReferenceRun::new(steps))).collect(),
            unquoted: fields().any(|field| field.kind == FieldKind::Unquoted),
            tail,
            last,
            shortest: shortest.sum(),
        }
    }

    fn read(&self, reader: &mut ReferenceReader<'_>, index: u32) -> Option<Reading> {
        let message = reader.message;
        let can_end = match (self.last, message.last()) {
            (Some(FieldKind::Num), Some(last)) => last.is_ascii_digit(),
            (Some(FieldKind::Ip | FieldKind::Ipv4), Some(last)) => *last == b':' || is_zone(*last),
            _ => ends(message, &self.tail),
        };
        if !can_end || message.len() < self.shortest {
            return None;
        }
        reader.fuel = 32 * (message.len() + 64);
        let start = reader.forward(&self.head, 0, message.len(), self.rest.is_empty())?;
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

impl ReferenceRun {
    fn new(steps: Vec<ReferenceStep>) -> Self {
        // Lower is rarer in log text; guessed, not counted.
        let rank = |byte: u8| match byte {
            b' ' => 9,
            b'e' | b't' | b'a' | b'o' | b'n' | b'i' | b'r' | b's' => 8,
            b'0'..=b'9' | b'.' | b':' => 7,
            b'a'..=b'z' => 5,
            _ => 3,
        };
        let anchor = match steps.first() {
            Some(ReferenceStep::Text(text)) => {
                text.whole.iter().copied().zip(0..).min_by_key(|(byte, _)| rank(*byte)).unwrap_or_default()
            }
            _ => (0, 0),
        };
        Self { steps, anchor }
    }
}

struct ReferenceReader<'m> {
    message: &'m [u8],
    spans: Spans,
    address: Option<IpAddr>,
    fuel: usize,
}

impl ReferenceReader<'_> {
    /// Reads the steps from `at` on, no further than `limit`, and all of it if they are the `last`; where they end.
    fn forward(&mut self, steps: &[ReferenceStep], mut at: usize, limit: usize, last: bool) -> Option<usize> {
        for (nth, step) in steps.iter().enumerate() {
            if let ReferenceStep::Open(field) = step {
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
    fn step(&mut self, step: &ReferenceStep, at: usize, limit: usize) -> Option<usize> {
        let rest = self.message.get(at..limit)?;
        let (slot, length) = match step {
            ReferenceStep::Text(text) => return text.begins(rest).then_some(text.whole.len()),
            ReferenceStep::Num(slot) => (*slot, digits(rest)?),
            ReferenceStep::Field(field) => (field.slot, extent(*field, rest)?),
            ReferenceStep::Open(field) if field.kind == FieldKind::Time => {
                (field.slot, extent(*field, rest)?)
            }
            ReferenceStep::Address(field) | ReferenceStep::Open(field) => {
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
        run: &ReferenceRun,
        start: usize,
        latest: usize,
        limit: usize,
        last: bool,
    ) -> Option<(usize, usize)> {
        let Some((ReferenceStep::Text(text), steps)) = run.steps.split_first() else {
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
