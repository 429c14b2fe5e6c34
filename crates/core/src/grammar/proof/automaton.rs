//! The automaton of all messages that variants describe, with what each byte is a part of.

use aho_corasick::automaton::{Automaton as _, StateID};
use aho_corasick::{Anchored, dfa};
use hashbrown::HashMap;

use crate::grammar::source::FieldKind;
use crate::grammar::time;
use crate::grammar::variant::{Field, Item, OTHER, RECORD, Variant, is_name};

/// More states or words than a proof can look at.
pub(super) struct TooComplex;

/// A set of bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Bytes([u64; 4]);

impl Bytes {
    fn of(holds: impl Fn(u8) -> bool) -> Self {
        let mut bytes = Self::default();
        (0..=u8::MAX).filter(|byte| holds(*byte)).for_each(|byte| bytes.add(byte));
        bytes
    }

    /// The set of one byte.
    fn one(byte: u8) -> Self {
        let mut bytes = Self::default();
        bytes.add(byte);
        bytes
    }

    fn add(&mut self, byte: u8) {
        self.0.get_mut(usize::from(byte / 64)).into_iter().for_each(|word| *word |= 1 << (byte % 64));
    }

    fn holds(self, byte: u8) -> bool {
        self.0.get(usize::from(byte / 64)).is_some_and(|word| word >> (byte % 64) & 1 == 1)
    }

    /// Whether a byte is in both sets.
    pub(super) fn meets(self, other: Self) -> bool {
        self.0.iter().zip(other.0).any(|(one, other)| one & other != 0)
    }

    /// A byte of both sets; one that can be printed if there is one.
    pub(super) fn common(self, other: Self) -> Option<u8> {
        let both = |byte: &u8| self.holds(*byte) && other.holds(*byte);
        (b'a'..=b'z').chain(b'0'..=b'9').chain(b' '..=b'~').chain(0..=u8::MAX).find(both)
    }
}

/// What a byte is part of, as far as the proof is concerned.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Label {
    None,
    Ip,
    /// A key of this section.
    Key(u8),
    Forwarded,
}

impl Label {
    /// Whether this says who is held to account.
    pub(super) fn is_identity(self) -> bool {
        matches!(self, Label::Ip | Label::Key(_))
    }
}

/// Reads one byte of a set and goes on.
#[derive(Clone, Copy)]
pub(super) struct Move {
    pub(super) bytes: Bytes,
    pub(super) to: u32,
    pub(super) label: Label,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) moves: Vec<Move>,
    /// States that are as good as this one, without reading anything.
    also: Vec<u32>,
    /// The classes of variants that end here.
    pub(super) accepts: Vec<u32>,
}

pub(super) struct Automaton {
    /// How many of the classes are of rules; they come first.
    pub(super) rules: u32,
    /// How many are of rules or what records look like; those of other forms come last.
    pub(super) readers: u32,
    pub(super) states: Vec<State>,
}

/// What the proof need not tell apart: the variants of one rule that are the same from the address or key on.
pub(super) struct Classes {
    /// By variant.
    pub(super) of: Vec<u32>,
    /// A variant of each.
    pub(super) examples: Vec<u32>,
}

impl Classes {
    pub(super) fn of(variants: &[Variant]) -> Self {
        let mut known = HashMap::new();
        let (mut of, mut examples) = (Vec::with_capacity(variants.len()), Vec::new());
        for (number, variant) in (0..).zip(variants) {
            let from = variant.items.iter().position(Item::is_identity).unwrap_or(variant.items.len());
            let rest = variant.items.get(from..).unwrap_or_default();
            let key = (variant.group, variant.rule, variant.place, rest);
            of.push(*known.entry(key).or_insert_with(|| {
                examples.push(number);
                examples.len() as u32 - 1
            }));
        }
        Self { of, examples }
    }

    /// The number of those of variants whose group comes before this one.
    fn before(&self, group: u16, variants: &[Variant]) -> u32 {
        let is_before =
            |example: &&u32| variants.get(**example as usize).is_some_and(|variant| variant.group < group);
        self.examples.iter().take_while(is_before).count() as u32
    }
}

/// One step of a variant: a byte of a text, or a field with what follows it and what it never holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum ProofStep {
    Byte(u8),
    Field(FieldKind, Option<u8>, u8),
}

/// A place in the messages of variants: the steps from it, in their order, and the classes that end there.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
struct ProofNode {
    steps: Vec<(ProofStep, u32)>,
    ends: Vec<u32>,
}

/// The variants as a graph of steps, which lead to nodes of lower numbers; the last is where all begin. What begins alike
/// shares its nodes, and so does what ends alike.
fn graph(variants: &[Variant], classes: &Classes) -> Vec<ProofNode> {
    let mut tree = vec![ProofNode::default()];
    let mut known: HashMap<(u32, ProofStep), u32> = HashMap::new();
    for (variant, class) in variants.iter().zip(&classes.of) {
        let mut at = 0_u32;
        let mut go = |step: ProofStep| {
            at = *known.entry((at, step)).or_insert_with(|| {
                tree.push(ProofNode::default());
                let to = tree.len() as u32 - 1;
                tree.get_mut(at as usize).into_iter().for_each(|node| node.steps.push((step, to)));
                to
            });
        };
        for item in &variant.items {
            match item {
                Item::Text(text) => text.iter().for_each(|byte| go(ProofStep::Byte(*byte))),
                Item::Field(field) => go(ProofStep::Field(field.kind, field.stop, field.without)),
            }
        }
        tree.get_mut(at as usize).into_iter().for_each(|node| node.ends.push(*class));
    }
    // Children have higher numbers than parents. From the last to the first, so that equal ones are found to be equal.
    let (mut nodes, mut numbers) = (Vec::new(), vec![0; tree.len()]);
    let mut alike: HashMap<ProofNode, u32> = HashMap::new();
    for (number, mut node) in tree.into_iter().enumerate().rev() {
        for (_, to) in &mut node.steps {
            *to = numbers.get(*to as usize).copied().unwrap_or_default();
        }
        node.steps.sort_unstable();
        node.ends.sort_unstable();
        node.ends.dedup();
        let same = *alike.entry(node).or_insert_with_key(|node| {
            nodes.push(node.clone());
            nodes.len() as u32 - 1
        });
        numbers.get_mut(number).into_iter().for_each(|number| *number = same);
    }
    nodes
}

impl Automaton {
    /// The automaton of all variants.
    pub(super) fn of(
        variants: &[Variant],
        classes: &Classes,
        without: &[Vec<String>],
    ) -> Result<Self, TooComplex> {
        let nodes = graph(variants, classes);
        let (rules, readers) = (classes.before(RECORD, variants), classes.before(OTHER, variants));
        let last = nodes.len() as u32;
        // The first node is the last of the graph.
        let state = |node: u32| last - 1 - node;
        let mut automaton = Self { rules, readers, states: Vec::new() };
        automaton.states.resize_with(nodes.len(), State::default);
        for (from, ProofNode { steps, ends }) in (0..).zip(nodes).map(|(number, node)| (state(number), node))
        {
            if let Some(state) = automaton.states.get_mut(from as usize) {
                state.accepts = ends;
            }
            for (step, to) in steps {
                match step {
                    ProofStep::Byte(byte) => automaton.add(from, Bytes::one(byte), state(to), Label::None),
                    ProofStep::Field(kind, stop, place) => {
                        let field = Field { slot: 0, kind, stop, without: place };
                        let words = usize::from(place).checked_sub(1).and_then(|nth| without.get(nth));
                        let end = match words {
                            Some(words) => automaton.text_without(from, field, words)?,
                            None => automaton.field(from, field),
                        };
                        automaton.also(end, state(to));
                    }
                }
            }
        }
        automaton.close();
        Ok(automaton)
    }

    fn state(&mut self) -> u32 {
        self.states.push(State::default());
        self.states.len() as u32 - 1
    }

    fn add(&mut self, from: u32, bytes: Bytes, to: u32, label: Label) {
        self.states
            .get_mut(from as usize)
            .into_iter()
            .for_each(|state| state.moves.push(Move { bytes, to, label }));
    }

    fn also(&mut self, from: u32, to: u32) {
        self.states.get_mut(from as usize).into_iter().for_each(|state| state.also.push(to));
    }

    fn step(&mut self, from: u32, bytes: Bytes, label: Label) -> u32 {
        let to = self.state();
        self.add(from, bytes, to, label);
        to
    }

    fn field(&mut self, from: u32, field: Field) -> u32 {
        let any = Bytes([u64::MAX; 4]);
        match field.kind {
            FieldKind::Free => self.some(from, any, Label::None),
            FieldKind::Host => {
                let plain = self.some(from, Bytes::of(|b| is_name(b) && !is_letter(b)), Label::None);
                let name = self.step(plain, Bytes::of(is_letter), Label::None);
                self.add(name, Bytes::of(is_name), name, Label::None);
                let colon = self.step(name, Bytes::one(b':'), Label::None);
                let port = self.repeated(colon, Bytes::of(|b| b.is_ascii_digit()), Label::None);
                let end = self.state();
                self.also(name, end);
                self.also(port, end);
                end
            }
            FieldKind::Num => self.repeated(from, Bytes::of(|b| b.is_ascii_digit()), Label::None),
            FieldKind::Word => {
                self.repeated(from, Bytes::of(|b| b != b' ' && Some(b) != field.stop), Label::None)
            }
            FieldKind::Key(section) => {
                let bytes = Bytes::of(|b| b != b' ' && Some(b) != field.stop);
                self.repeated(from, bytes, Label::Key(section))
            }
            FieldKind::Quoted | FieldKind::Unquoted => self.quoted(from, field.stop, Label::None),
            FieldKind::Rest => {
                let begun = self.step(from, Bytes::of(|b| b != b'"'), Label::None);
                self.some(begun, any, Label::None)
            }
            FieldKind::Forwarded if field.stop == Some(b'"') => {
                self.quoted(from, field.stop, Label::Forwarded)
            }
            FieldKind::Forwarded => self.some(from, Bytes::of(|b| Some(b) != field.stop), Label::Forwarded),
            FieldKind::Time => self.time(from),
            FieldKind::Without(set) => {
                self.some(from, Bytes::of(|b| !set.holds(b) && Some(b) != field.stop), Label::None)
            }
            FieldKind::Ipv4 => self.dotted(from),
            FieldKind::Ip => self.address(from),
        }
    }

    /// Text in which none of these words stands, in whatever case.
    fn text_without(&mut self, from: u32, field: Field, words: &[String]) -> Result<u32, TooComplex> {
        let holds = match field.kind {
            FieldKind::Word => Bytes::of(|b| b != b' ' && Some(b) != field.stop),
            FieldKind::Free => Bytes::of(|_| true),
            FieldKind::Without(set) => Bytes::of(|b| !set.holds(b) && Some(b) != field.stop),
            // Elsewhere they are left out of account, which errs on the side of refusing.
            _ => return Ok(self.field(from, field)),
        };
        let words = dfa::DFA::builder().ascii_case_insensitive(true).build(words).map_err(|_| TooComplex)?;
        let start = words.start_state(Anchored::No).map_err(|_| TooComplex)?;
        let end = self.state();
        if field.kind != FieldKind::Word {
            self.also(from, end);
        }
        // The states that one byte or more lead to. To begin with is none of them, though no word may have begun there.
        let mut known: HashMap<StateID, u32> = HashMap::new();
        let mut todo = vec![(start, from)];
        while let Some((word, at)) = todo.pop() {
            let mut moves: HashMap<StateID, Bytes> = HashMap::new();
            for byte in (0..=u8::MAX).filter(|byte| holds.holds(*byte)) {
                let next = words.next_state(Anchored::No, word, byte);
                if !words.is_match(next) {
                    moves.entry(next).or_default().add(byte);
                }
            }
            for (next, bytes) in moves {
                let to = *known.entry(next).or_insert_with(|| {
                    let to = self.state();
                    self.also(to, end);
                    todo.push((next, to));
                    to
                });
                self.add(at, bytes, to, Label::None);
            }
        }
        Ok(end)
    }

    /// One or more.
    fn repeated(&mut self, from: u32, bytes: Bytes, label: Label) -> u32 {
        let end = self.step(from, bytes, label);
        self.add(end, bytes, end, label);
        end
    }

    /// One or more, or none.
    fn some(&mut self, from: u32, bytes: Bytes, label: Label) -> u32 {
        let end = self.state();
        self.also(from, end);
        self.add(end, bytes, end, label);
        end
    }

    /// Anything without a `"` that no backslash makes plain. A backslash can be the last only where the `"` is not
    /// what ends it.
    fn quoted(&mut self, from: u32, stop: Option<u8>, label: Label) -> u32 {
        let whole = self.some(from, Bytes::of(|b| b != b'"' && b != b'\\'), label);
        let escaped = self.step(whole, Bytes::one(b'\\'), label);
        self.add(escaped, Bytes([u64::MAX; 4]), whole, label);
        if stop == Some(b'"') {
            return whole;
        }
        let end = self.state();
        self.also(whole, end);
        self.also(escaped, end);
        end
    }

    /// `1.2.3.4` with one to three digits a part.
    fn dotted(&mut self, from: u32) -> u32 {
        let digit = Bytes::of(|b| b.is_ascii_digit());
        let mut at = from;
        for part in 0..4 {
            let one = self.step(at, digit, Label::Ip);
            let two = self.step(one, digit, Label::Ip);
            let three = self.step(two, digit, Label::Ip);
            self.also(one, three);
            self.also(two, three);
            at = if part < 3 { self.step(three, Bytes::one(b'.'), Label::Ip) } else { three };
        }
        at
    }

    /// Each stamp of the table, perhaps with a fraction and a zone.
    fn time(&mut self, from: u32) -> u32 {
        let mut known: HashMap<(u32, u8), u32> = HashMap::new();
        let mut like = |automaton: &mut Self, from: u32, text: &str| {
            text.bytes().fold(from, |at, byte| {
                let bytes = Bytes::of(|b| time::is_like(b, byte));
                *known.entry((at, byte)).or_insert_with(|| automaton.step(at, bytes, Label::None))
            })
        };
        let (whole, zoned, end) = (self.state(), self.state(), self.state());
        for stamp in time::STAMPS {
            let last = like(self, from, stamp);
            self.also(last, whole);
        }
        let mut at = self.step(whole, Bytes::of(|b| time::POINTS.contains(&b)), Label::None);
        for _ in 0..time::DIGITS {
            at = self.step(at, Bytes::of(|b| b.is_ascii_digit()), Label::None);
            self.also(at, zoned);
        }
        self.also(whole, zoned);
        let spaced = self.state();
        self.also(zoned, spaced);
        self.add(zoned, Bytes::one(b' '), spaced, Label::None);
        for zone in time::ZONES {
            let last = like(self, spaced, zone);
            self.also(last, end);
        }
        self.also(zoned, end);
        end
    }

    /// An IPv4 address; or hexadecimal digits with two colons or more among them, perhaps with an IPv4 address behind the
    /// last, and perhaps with a zone (`%eth0`).
    fn address(&mut self, from: u32) -> u32 {
        let end = self.state();
        let dotted = self.dotted(from);
        self.also(dotted, end);

        let colon = Bytes::one(b':');
        let hex = Bytes::of(|b| b.is_ascii_hexdigit());
        let start = self.state();
        self.also(from, start);
        self.add(start, hex, start, Label::Ip);
        let one = self.step(start, colon, Label::Ip);
        self.add(one, hex, one, Label::Ip);
        let two = self.step(one, colon, Label::Ip);
        self.add(two, colon, two, Label::Ip);
        let group = self.repeated(two, hex, Label::Ip);
        self.add(group, colon, two, Label::Ip);
        let mapped = self.dotted(two);
        let whole = self.state();
        [two, group, mapped].into_iter().for_each(|state| self.also(state, whole));
        self.also(whole, end);
        // No zone ends in a dot: that would be the sentence's.
        let zone = self.step(whole, Bytes::one(b'%'), Label::Ip);
        let dot = Bytes::one(b'.');
        let plain = Bytes::of(|b| is_zone(b) && b != b'.');
        self.add(zone, dot, zone, Label::Ip);
        let last = self.step(zone, plain, Label::Ip);
        self.add(last, plain, last, Label::Ip);
        self.add(last, dot, zone, Label::Ip);
        self.also(last, end);
        end
    }

    /// Gives each state the moves of those that are as good, so that the walk need not follow `also`.
    fn close(&mut self) {
        for at in 0..self.states.len() {
            let Some(mut good) = self.states.get(at).map(|state| state.also.clone()) else { return };
            let mut nth = 0;
            while let Some(state) = good.get(nth).and_then(|state| self.states.get(*state as usize)) {
                let also = state.also.iter().filter(|to| **to as usize != at && !good.contains(*to));
                let also: Vec<u32> = also.copied().collect();
                good.extend(also);
                nth += 1;
            }
            let (mut moves, mut accepts) = (Vec::new(), Vec::new());
            // What `close` has added to them comes again.
            for state in good.iter().filter_map(|state| self.states.get(*state as usize)) {
                moves.extend(state.moves.iter().copied());
                accepts.extend_from_slice(&state.accepts);
            }
            if let Some(state) = self.states.get_mut(at) {
                state.moves.extend(moves);
                state.moves.sort_by_key(|m| (m.to, m.label, m.bytes.0));
                state.moves.dedup_by_key(|m| (m.to, m.label, m.bytes.0));
                state.accepts.extend(accepts);
                state.accepts.sort_unstable();
                state.accepts.dedup();
            }
        }
    }

    /// Which states lead to one that `is` wanted, or are one.
    pub(super) fn leading_to(&self, is: impl Fn(&State) -> bool) -> Vec<bool> {
        let mut leads: Vec<bool> = self.states.iter().map(is).collect();
        // Most moves lead to later states, so a few passes do: at most one for each field of a variant.
        loop {
            let mut changed = false;
            for (from, state) in self.states.iter().enumerate().rev() {
                let lead = state.moves.iter().any(|m| leads.get(m.to as usize) == Some(&true));
                if let Some(known) = leads.get_mut(from).filter(|known| lead && !**known) {
                    (*known, changed) = (true, true);
                }
            }
            if !changed {
                return leads;
            }
        }
    }
}

/// Whether this tells a host name from an address; `_` is what some servers call their nameless host.
pub(in crate::grammar) const fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_'
}

/// Whether this may stand in the zone of an address (RFC 4007, section 11), as interface names go.
pub(in crate::grammar) fn is_zone(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}
