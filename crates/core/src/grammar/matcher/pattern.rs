//! One variant, and how it reads the rest of a message whose beginning is read.

use std::net::{IpAddr, Ipv4Addr};

use memchr::memrchr;

use super::Reading;
use super::address::{addresses, longest_address, v4};
use super::spans::Spans;
use super::step::{Step, StepField, extent, host, quoted};
use crate::entry::scan::{Literal, digits, until};
use crate::grammar::proof::is_zone;
use crate::grammar::source::FieldKind;
use crate::grammar::time;
use crate::grammar::variant::{Field, Item, Variant};

/// One variant as runs: the first from the start of the message, each further one behind a free field, which may hold
/// anything or, if it is the first, be unquoted.
#[derive(Debug)]
pub(super) struct Pattern {
    pub(super) group: u16,
    /// Whether two fields share a slot.
    pub(super) repeats: bool,
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
    /// Its first text; `None` if it is empty.
    text: Option<Literal>,
    steps: Vec<Step>,
    /// The byte of its first text that is looked for, the rarest in log text, and its offset.
    anchor: (u8, usize),
}

/// Whether a field may hold anything.
fn is_free(item: &Item) -> bool {
    matches!(item, Item::Field(Field { kind: FieldKind::Free | FieldKind::Unquoted, .. }))
}

/// What stands before the first free field.
pub(super) fn head(variant: &Variant) -> &[Item] {
    variant.items.split(is_free).next().unwrap_or_default()
}

impl Pattern {
    pub(super) fn of(variant: &Variant) -> Self {
        let free = variant.items.iter().filter_map(|item| match item {
            Item::Field(field) if is_free(item) => Some(field.slot),
            _ => None,
        });
        let runs = variant.items.split(is_free).skip(1).map(Run::new);
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
            repeats: present.count_ones() as usize != fields().count(),
            rest: free.zip(runs).collect(),
            unquoted: fields().any(|field| field.kind == FieldKind::Unquoted),
            tail,
            last,
            shortest: shortest.sum(),
            present,
            has_address: variant.has_address(),
            forwarded: fields().find(|field| field.kind == FieldKind::Forwarded).map(|field| field.slot),
        }
    }

    /// Whether the message can be one of these, by its length and its end.
    #[inline(always)]
    pub(super) fn may_read(&self, message: &[u8]) -> bool {
        let can_end = match (self.last, message.last()) {
            (Some(FieldKind::Num), Some(last)) => last.is_ascii_digit(),
            (Some(FieldKind::Ip | FieldKind::Ipv4), Some(last)) => *last == b':' || is_zone(*last),
            _ => ends(message, &self.tail),
        };
        can_end && message.len() >= self.shortest
    }

    /// Reads the message, of whose head the steps up to `start` are read and these are left; this is the pattern at `index`.
    pub(super) fn read(
        &self,
        reader: &mut Reader<'_>,
        left: &[Step],
        start: usize,
        index: u32,
    ) -> Option<Reading> {
        let message = reader.message;
        reader.fuel = 32 * (message.len() + 64);
        let start = reader.forward(left, start, message, self.rest.is_empty())?;
        // Where the run found last, to the right of the one that is looked for, begins.
        let mut limit = message.len();
        let mut behind = None;
        for (number, (slot, run)) in self.rest.iter().enumerate().rev() {
            let latest = match number {
                0 if self.unquoted => quoted(message, start).unwrap_or(message.len()),
                _ => limit,
            };
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
    fn new(items: &[Item]) -> Self {
        // Lower is rarer in log text; guessed, not counted.
        let rank = |byte: u8| match byte {
            b' ' => 9,
            b'e' | b't' | b'a' | b'o' | b'n' | b'i' | b'r' | b's' => 8,
            b'0'..=b'9' | b'.' | b':' => 7,
            b'a'..=b'z' => 5,
            _ => 3,
        };
        match items.split_first() {
            Some((Item::Text(text), items)) => {
                let anchor = text.iter().copied().zip(0..).min_by_key(|(byte, _)| rank(*byte));
                let anchor = anchor.unwrap_or_default();
                Self { text: Some(Literal::new(text)), steps: Step::all(items), anchor }
            }
            _ => Self { text: None, steps: Vec::new(), anchor: (0, 0) },
        }
    }
}

/// A message while patterns are tried on it, one after another.
pub(super) struct Reader<'m> {
    pub(super) message: &'m [u8],
    pub(super) spans: Spans,
    address: Option<IpAddr>,
    /// The IPv4 address that was found last, or not, where one was looked for in the message.
    v4: (usize, Option<(Ipv4Addr, usize)>),
    /// The same of a host.
    host: (usize, Option<usize>),
    /// Bytes that may still be looked at. A run may be tried at many places and look at the same bytes each
    /// time; this keeps the sum linear whatever the message. Shipped grammars never come near it.
    fuel: usize,
}

impl<'m> Reader<'m> {
    pub(super) fn new(message: &'m [u8]) -> Self {
        let nowhere = usize::MAX;
        Self {
            message,
            spans: Spans::default(),
            address: None,
            v4: (nowhere, None),
            host: (nowhere, None),
            fuel: 0,
        }
    }

    /// Where a step that begins at `at` ends in the text; `COUNTED` says whether it may be tried at many places.
    #[inline(always)]
    pub(super) fn step<const COUNTED: bool>(&mut self, step: &Step, text: &[u8], at: usize) -> Option<usize> {
        let end = match &step.field {
            StepField::None => return step.text.end(text, at),
            StepField::Num => Some(digits(text, at)).filter(|end| *end > at)?,
            StepField::Until(stops, least, most) => {
                let end = until(text, at, *stops);
                let length = end - at;
                (*least <= length && length <= *most).then_some(end)?
            }
            StepField::UntilAny(stops) => until(text, at, *stops),
            StepField::Quoted => quoted(text, at)?,
            StepField::Address(field) => match self.v4::<COUNTED>(text, at) {
                Some((address, end)) if text.get(end).copied() == field.stop => {
                    self.address = Some(IpAddr::V4(address));
                    end
                }
                _ => {
                    let (length, address) = longest_address(*field, text.get(at..)?)?;
                    self.address = Some(address);
                    at + length
                }
            },
            StepField::Host => self.host::<COUNTED>(text, at)?,
            StepField::Other(field) | StepField::Open(field) => at + extent(*field, text.get(at..)?)?,
        };
        if COUNTED {
            self.fuel = self.fuel.checked_sub(end - at)?;
        }
        self.spans.set(step.slot, at, end);
        step.text.end(text, end)
    }

    /// As [`v4`]. Patterns look for one at the same place one after the other, so what was found in the message is kept.
    #[inline(always)]
    fn v4<const COUNTED: bool>(&mut self, text: &[u8], at: usize) -> Option<(Ipv4Addr, usize)> {
        if COUNTED {
            return v4(text, at);
        }
        if self.v4.0 != at {
            self.v4 = (at, v4(text, at));
        }
        self.v4.1
    }

    /// Where the host's name that begins at `at` ends; kept in the same way.
    #[inline(always)]
    fn host<const COUNTED: bool>(&mut self, text: &[u8], at: usize) -> Option<usize> {
        let end = || Some(at + host(text.get(at..)?)?);
        if COUNTED {
            return end();
        }
        if self.host.0 != at {
            self.host = (at, end());
        }
        self.host.1
    }

    /// Reads the steps from `at` on, up to the end of the text if they are the `last`; where they end.
    fn forward(&mut self, steps: &[Step], mut at: usize, text: &[u8], last: bool) -> Option<usize> {
        for (nth, step) in steps.iter().enumerate() {
            if let StepField::Open(field) = &step.field {
                let (rest, behind) = (text.get(at..)?, steps.get(nth + 1..)?);
                let go_on = |reader: &mut Self, length: usize| {
                    reader.fuel = reader.fuel.checked_sub(length)?;
                    reader.spans.set(step.slot, at, at + length);
                    // A rule has few of these, so this does not go deep.
                    reader.forward(behind, step.text.end(text, at + length)?, text, last)
                };
                if field.kind == FieldKind::Time {
                    return time::stamps(rest, field.stop).find_map(|length| go_on(self, length));
                }
                return addresses(*field, rest).find_map(|(length, address)| {
                    self.address = Some(address);
                    go_on(self, length)
                });
            }
            at = self.step::<true>(step, text, at)?;
        }
        (!last || at == text.len()).then_some(at)
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
        let Some(text) = &run.text else {
            return (latest >= limit).then_some((limit, limit));
        };
        let (byte, offset) = run.anchor;
        let mut before = limit.min(latest + offset + 1);
        let within = self.message.get(..limit)?;
        loop {
            let area = within.get(start + offset..before)?;
            let from = start + memrchr(byte, area)?;
            before = from + offset;
            self.fuel = self.fuel.checked_sub(1)?;
            if let Some(at) = text.end(within, from)
                && let Some(to) = self.forward(&run.steps, at, within, last)
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
