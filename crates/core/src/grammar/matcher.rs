//! Reads a message by the expanded rules of a grammar.
//!
//! The closed run of texts and fields at the start of a variant is read forward. The runs behind free fields are searched
//! from the end of the message backwards, each as far to the right as it fits. That leaves most room for those before
//! it, so a variant that matches is found. Variants are filed by the text that they begin with; those that are to be
//! tried on a message are one program, in which what they have in common behind that text stands once.
//!
//! It relies on the proof for one thing: whichever variant is found, its address is the only one.

mod address;
mod pattern;
mod program;
#[cfg(any(test, fuzzing))]
pub(super) mod reference;

mod spans;
mod step;
mod tree;

use std::net::IpAddr;

use hashbrown::HashSet;

use super::record::RecordShapes;
use super::variant::{Item, Variant};
pub(super) use address::{address, address_whole, addresses};
use pattern::{Pattern, Reader};
use program::{Head, ProgramPart, Tried};
pub(super) use spans::Spans;
pub(super) use step::extent;
use tree::TextTree;

/// The variants of a grammar, ready to read messages.
#[derive(Debug)]
pub(super) struct Matcher {
    patterns: Vec<Pattern>,
    firsts: FirstBytes,
    tree: TextTree,
    /// What is read by key.
    records: Option<RecordShapes>,
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
        let patterns: Vec<Pattern> = variants.iter().map(Pattern::of).collect();
        let heads = (0..).zip(variants).zip(&patterns).map(|((number, variant), pattern)| Head {
            pattern: number,
            group: pattern.group,
            is_alone: pattern.repeats,
            items: pattern::head(variant),
            read: 0,
        });
        let tree = TextTree::new(&heads.collect::<Vec<_>>());
        let firsts = FirstBytes::of(variants);
        Self { patterns, firsts, tree, records: None }
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
        let parts = self.parts(message);
        if parts.is_empty() {
            return None;
        }
        let (mut reader, mut done) = (Reader::new(message), None);
        for (node, part) in parts {
            let (program, start) = self.tree.program(*node)?;
            let taken = program.run(*part, &mut reader, start, &mut done, |reader, number, at, left| {
                let pattern = self.patterns.get(number as usize).filter(|pattern| pattern.may_read(message));
                let is_safe = || cut.is_none_or(|safe| safe.get(number as usize) == Some(&true));
                let reading =
                    pattern.filter(|_| is_safe()).and_then(|pattern| pattern.read(reader, left, at, number));
                match reading {
                    Some(reading) => accept(reading, &reader.spans).map_or(Tried::Read, Tried::Taken),
                    None => Tried::Failed,
                }
            });
            if taken.is_some() {
                return taken;
            }
        }
        None
    }

    /// Whether there is something to try on a message.
    pub(super) fn may_read(&self, message: &[u8]) -> bool {
        self.records.is_some() || !self.parts(message).is_empty()
    }

    /// What to try on a message. Most grammars know from its first byte that they read it not.
    #[inline(always)]
    fn parts(&self, message: &[u8]) -> &[(u16, ProgramPart)] {
        if self.firsts.may_begin(message) { self.tree.parts(message) } else { &[] }
    }
}

/// The bytes that a message of some variants may begin with, as bits; that of 0 is also an empty one's.
#[derive(Debug)]
struct FirstBytes([u64; 4]);

impl FirstBytes {
    fn of(variants: &[Variant]) -> Self {
        let (mut firsts, mut kinds) = (Self([0; 4]), HashSet::new());
        for variant in variants {
            match variant.items.first() {
                Some(Item::Text(text)) => firsts.add(text.first().copied().unwrap_or_default()),
                Some(Item::Field(field)) if !kinds.insert(field.kind) => {}
                Some(Item::Field(field)) => {
                    (0..=u8::MAX).filter(|byte| field.may_begin(&[*byte])).for_each(|byte| firsts.add(byte));
                }
                None => firsts = Self([u64::MAX; 4]),
            }
        }
        firsts
    }

    fn add(&mut self, byte: u8) {
        let bits = self.0.get_mut(usize::from(byte / 64));
        bits.into_iter().for_each(|bits| *bits |= 1 << (byte % 64));
    }

    fn may_begin(&self, message: &[u8]) -> bool {
        let byte = message.first().copied().unwrap_or_default();
        self.0.get(usize::from(byte / 64)).is_some_and(|bits| bits >> (byte % 64) & 1 == 1)
    }
}
