//! Proves that no message can be read with two addresses, and finds the rules that a cut message could mislead.
//!
//! Each rule is a regular language, and so is a grammar. Two copies of its automaton walk over the same bytes, and
//! remember whether they have disagreed about which bytes are the `<ip>`, or which are `<forwarded>`. If both can
//! accept after a disagreement, that message has two readings; the walk is breadth first, so it finds the shortest. If
//! not, every message has one address, whichever rule reads it, and in whatever order rules are tried. The forms below
//! `other:` are part of the automaton: no rule reads another address in one of them.
//!
//! A second walk lets one copy stop before the end. A rule that then accepts with another address must not be tried on
//! a message whose end may be missing.
//!
//! The fields here accept at least as much as the matcher's (an `<ip>` need not be a valid address, for instance). Of
//! the conditions, only texts count that a field excludes in every case of its shape. So the proof errs on the side of
//! refusing.

use std::fmt;

use aho_corasick::automaton::{Automaton as _, StateID};
use aho_corasick::{Anchored, dfa};
use hashbrown::{HashMap, HashSet};

use super::fault::{Faults, Place};
use super::syntax::FieldKind;
use super::variant::{Field, Item, OTHER, Variant, is_name};

/// Refuses (in `faults`) a grammar in which some message has two addresses. For each variant, except
/// [other forms](OTHER), in their order: whether it reads no beginning of a message with another address than the whole
/// has.
///
/// `without` are the texts that fields never hold, by [`Field::without`], from 1.
///
/// Takes time and memory in proportion to the pairs of states that some message reaches: 0.1 to 40 ms for the
/// grammars that come with banstream. A grammar with more than [`MOST_PAIRS`] is refused as too complex.
pub(super) fn prove(variants: &[Variant], without: &[Vec<String>], faults: &mut Faults<'_>) -> Vec<bool> {
    let automaton = match Automaton::of(variants, without) {
        Ok(automaton) => automaton,
        Err(TooComplex) => return too_complex(variants, faults),
    };
    match automaton.two_readings() {
        Ok(None) => {}
        Ok(Some(counterexample)) => {
            let Counterexample { message, label, mut readings } = counterexample;
            readings.sort_by_key(|reading| std::cmp::Reverse(reading.place));
            let [here, there] = readings;
            let other = match there.place.line {
                line if line == here.place.line => "but also as".to_owned(),
                line => format!("here, but in line {line} as"),
            };
            let what = format!(
                "an attacker can choose the {label}: `{message}` can be read as {here} {other} {there}"
            );
            faults.error(here.place, what);
        }
        Err(TooComplex) => return too_complex(variants, faults),
    }
    if faults.has_errors() {
        return Vec::new();
    }
    automaton.safe_where_cut().unwrap_or_else(|TooComplex| too_complex(variants, faults))
}

fn too_complex(variants: &[Variant], faults: &mut Faults<'_>) -> Vec<bool> {
    let place = variants.first().map_or(Place { line: 1, column: 1 }, |variant| variant.place);
    faults.error(place, "the grammar is too complex to prove; use fewer choices and less free text");
    Vec::new()
}

/// The most pairs of states that a proof looks at, about 150 MB.
const MOST_PAIRS: usize = 2_000_000;

/// A message with two readings.
struct Counterexample {
    message: String,
    label: &'static str,
    readings: [AddressReading; 2],
}

/// The rule, and the bytes it takes for the address or header, with the place of the first in the message, from 1.
struct AddressReading {
    place: Place,
    bytes: String,
    column: usize,
}

impl fmt::Display for AddressReading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.column {
            0 => f.write_str("none"),
            column => write!(f, "`{}` (column {column})", self.bytes),
        }
    }
}

struct TooComplex;

/// A set of bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Bytes([u64; 4]);

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
    fn meets(self, other: Self) -> bool {
        self.0.iter().zip(other.0).any(|(one, other)| one & other != 0)
    }

    /// A byte of both sets; one that can be printed if there is one.
    fn common(self, other: Self) -> Option<u8> {
        let both = |byte: &u8| self.holds(*byte) && other.holds(*byte);
        (b'a'..=b'z').chain(b'0'..=b'9').chain(b' '..=b'~').chain(0..=u8::MAX).find(both)
    }
}

/// What a byte is part of, as far as the proof is concerned.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Label {
    None,
    Ip,
    Forwarded,
}

/// Reads one byte of a set and goes on.
#[derive(Clone, Copy)]
struct Move {
    bytes: Bytes,
    to: u32,
    label: Label,
}

#[derive(Default)]
struct State {
    moves: Vec<Move>,
    /// States that are as good as this one, without reading anything.
    also: Vec<u32>,
    /// The variants that end here.
    accepts: Vec<u32>,
}

struct Automaton<'v> {
    variants: &'v [Variant],
    states: Vec<State>,
}

impl<'v> Automaton<'v> {
    /// The automaton of all variants. Those that begin alike share states, so that the walk does not tell
    /// apart what is the same.
    fn of(variants: &'v [Variant], without: &[Vec<String>]) -> Result<Self, TooComplex> {
        #[derive(PartialEq, Eq, Hash)]
        enum Edge {
            Byte(u8),
            Field(FieldKind, Option<u8>, u8),
        }
        let mut automaton = Self { variants, states: vec![State::default()] };
        let mut known: HashMap<(u32, Edge), u32> = HashMap::new();
        for (number, variant) in (0..).zip(variants) {
            let mut at = 0;
            for item in &variant.items {
                match item {
                    Item::Text(text) => {
                        for byte in text {
                            at = *known
                                .entry((at, Edge::Byte(*byte)))
                                .or_insert_with(|| automaton.step(at, Bytes::one(*byte), Label::None));
                        }
                    }
                    Item::Field(field) => {
                        let step = (at, Edge::Field(field.kind, field.stop, field.without));
                        at = match known.get(&step) {
                            Some(end) => *end,
                            None => {
                                let words = usize::from(field.without).checked_sub(1);
                                let words = words.and_then(|nth| without.get(nth));
                                let end = match words {
                                    Some(words) => automaton.text_without(at, *field, words)?,
                                    None => automaton.field(at, *field),
                                };
                                known.insert(step, end);
                                end
                            }
                        };
                    }
                }
            }
            automaton.states.get_mut(at as usize).into_iter().for_each(|state| state.accepts.push(number));
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
            FieldKind::Quoted | FieldKind::Unquoted => self.quoted(from, field.stop, Label::None),
            FieldKind::Rest => {
                let begun = self.step(from, Bytes::of(|b| b != b'"'), Label::None);
                self.some(begun, any, Label::None)
            }
            FieldKind::Forwarded if field.stop == Some(b'"') => {
                self.quoted(from, field.stop, Label::Forwarded)
            }
            FieldKind::Forwarded => self.some(from, Bytes::of(|b| Some(b) != field.stop), Label::Forwarded),
            FieldKind::Ipv4 => self.dotted(from),
            FieldKind::Ip => self.address(from),
        }
    }

    /// Free text in which none of these words stands, in whatever case.
    fn text_without(&mut self, from: u32, field: Field, words: &[String]) -> Result<u32, TooComplex> {
        let holds = match field.kind {
            FieldKind::Word => Bytes::of(|b| b != b' ' && Some(b) != field.stop),
            FieldKind::Free => Bytes::of(|_| true),
            // Elsewhere they are left out of account, which errs on the side of refusing.
            _ => return Ok(self.field(from, field)),
        };
        let words = dfa::DFA::builder().ascii_case_insensitive(true).build(words).map_err(|_| TooComplex)?;
        let start = words.start_state(Anchored::No).map_err(|_| TooComplex)?;
        let end = self.state();
        let first = self.state();
        self.also(from, first);
        let mut known: HashMap<StateID, u32> = HashMap::from_iter([(start, first)]);
        let mut todo = vec![start];
        while let Some(word) = todo.pop() {
            let Some(&at) = known.get(&word) else { continue };
            if field.kind == FieldKind::Free || at != first {
                self.also(at, end);
            }
            let mut moves: HashMap<StateID, Bytes> = HashMap::new();
            for byte in (0..=u8::MAX).filter(|byte| holds.holds(*byte)) {
                let next = words.next_state(Anchored::No, word, byte);
                if !words.is_match(next) {
                    moves.entry(next).or_default().add(byte);
                }
            }
            for (next, bytes) in moves {
                let to = *known.entry(next).or_insert_with(|| {
                    todo.push(next);
                    self.state()
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

    /// An IPv4 address; or hexadecimal digits and dots with two colons or more among them, and perhaps a zone
    /// (`%eth0`).
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
        self.add(two, Bytes::of(|b| b.is_ascii_hexdigit() || b == b':' || b == b'.'), two, Label::Ip);
        self.also(two, end);
        let percent = self.step(two, Bytes::one(b'%'), Label::Ip);
        let zone = self.repeated(percent, Bytes::of(is_zone), Label::Ip);
        self.also(zone, end);
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

    /// The shortest message that two copies of the automaton accept after a disagreement.
    fn two_readings(&self) -> Result<Option<Counterexample>, TooComplex> {
        let first = Pair { states: (0, 0), disagree: false, from: 0, labels: (Label::None, Label::None) };
        let mut pairs = vec![first];
        let mut seen = HashSet::with_capacity(self.states.len());
        seen.insert((0, 0, false));
        let mut next = 0;
        // Two other forms may disagree.
        let rules = self.rules();
        let leads = self.leading_to(|state| state.accepts.first().is_some_and(|first| *first < rules));
        let leads = |state: u32| leads.get(state as usize) == Some(&true);
        while let Some(&Pair { states: (one, two), disagree, .. }) = pairs.get(next) {
            let (Some(first), Some(second)) = (self.states.get(one as usize), self.states.get(two as usize))
            else {
                break;
            };
            for a in &first.moves {
                for b in &second.moves {
                    let disagree = disagree || a.label != b.label;
                    // The order of the two copies does not matter, so only one order is walked.
                    let swap = a.to > b.to;
                    let states = if swap { (b.to, a.to) } else { (a.to, b.to) };
                    if !a.bytes.meets(b.bytes)
                        || !(leads(a.to) || leads(b.to))
                        || !seen.insert((states.0, states.1, disagree))
                    {
                        continue;
                    }
                    let labels = if swap { (b.label, a.label) } else { (a.label, b.label) };
                    pairs.push(Pair { states, disagree, from: next, labels });
                    if disagree && let Some(counterexample) = self.counterexample(&pairs) {
                        return Ok(Some(counterexample));
                    }
                }
            }
            next += 1;
            if pairs.len() > MOST_PAIRS {
                return Err(TooComplex);
            }
        }
        Ok(None)
    }

    /// How many of the variants are rules; the other forms come last.
    fn rules(&self) -> u32 {
        self.variants.iter().take_while(|variant| variant.group != OTHER).count() as u32
    }

    /// The first variant that ends in this state: a rule, if one does.
    fn ending(&self, state: u32) -> Option<&Variant> {
        // The other forms come last.
        self.variants.get(*self.states.get(state as usize)?.accepts.first()? as usize)
    }

    /// For each rule, whether no message has another address than its beginning that this rule reads.
    fn safe_where_cut(&self) -> Result<Vec<bool>, TooComplex> {
        let rules = self.rules();
        let mut safe = vec![true; rules as usize];
        let ends = |state: &State| !state.accepts.is_empty();
        let reads = |state: &State| state.accepts.first().is_some_and(|first| *first < rules);
        let (live, leads) = (self.leading_to(ends), self.leading_to(reads));
        let is = |set: &[bool], state: u32| set.get(state as usize) == Some(&true);
        let mut todo = vec![(0, 0, false)];
        let mut seen = HashSet::with_capacity(self.states.len());
        while let Some((whole, part, disagree)) = todo.pop() {
            let states = (self.states.get(whole as usize), self.states.get(part as usize));
            let (Some(first), Some(second)) = states else { break };
            // An address that goes on where the message is cut is another one.
            let other = || disagree || first.moves.iter().any(|m| m.label == Label::Ip && is(&live, m.to));
            if reads(second) && other() {
                second
                    .accepts
                    .iter()
                    .for_each(|rule| safe.get_mut(*rule as usize).into_iter().for_each(|safe| *safe = false));
            }
            for a in first.moves.iter().filter(|a| is(&live, a.to)) {
                for b in second.moves.iter().filter(|b| is(&leads, b.to)) {
                    // The client may be missing: then a proxy's message has no offender.
                    let differ = a.label != b.label && (a.label == Label::Ip || b.label != Label::None);
                    let disagree = disagree || differ;
                    if a.bytes.meets(b.bytes) && seen.insert((a.to, b.to, disagree)) {
                        todo.push((a.to, b.to, disagree));
                    }
                }
            }
            if seen.len() > MOST_PAIRS {
                return Err(TooComplex);
            }
        }
        Ok(safe)
    }

    /// Which states lead to one that `is` wanted, or are one.
    fn leading_to(&self, is: impl Fn(&State) -> bool) -> Vec<bool> {
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

    /// What led to the last pair, if both its states accept, and one of them a rule.
    fn counterexample(&self, pairs: &[Pair]) -> Option<Counterexample> {
        let last = pairs.last()?;
        let ends = (self.ending(last.states.0)?, self.ending(last.states.1)?);
        if ends.0.group == OTHER && ends.1.group == OTHER {
            return None;
        }
        let places = (ends.0.place, ends.1.place);
        // Backwards, and with the two copies told apart again where they were swapped.
        let mut read = Vec::new();
        let (mut index, mut states) = (pairs.len() - 1, last.states);
        while index != 0 {
            let at = pairs.get(index)?;
            let before = pairs.get(at.from)?;
            let labels = if states == at.states { at.labels } else { (at.labels.1, at.labels.0) };
            let moves = |from: u32, to: u32, label: Label| {
                let state = self.states.get(from as usize);
                state
                    .into_iter()
                    .flat_map(|state| &state.moves)
                    .filter(move |m| m.to == to && m.label == label)
            };
            let byte = |one: u32, two: u32| {
                moves(one, states.0, labels.0)
                    .find_map(|a| moves(two, states.1, labels.1).find_map(|b| a.bytes.common(b.bytes)))
            };
            let (one, two) = before.states;
            let (straight, swapped) = (byte(one, two), byte(two, one));
            read.push((straight.or(swapped)?, labels));
            states = if straight.is_some() { (one, two) } else { (two, one) };
            index = at.from;
        }
        read.reverse();
        let differ = |label| read.iter().any(|(_, (a, b))| (*a == label) != (*b == label));
        let (wanted, label) = match differ(Label::Ip) {
            true => (Label::Ip, "address"),
            false => (Label::Forwarded, "forwarded header"),
        };
        let show = |bytes: &mut dyn Iterator<Item = u8>| {
            bytes.flat_map(std::ascii::escape_default).map(char::from).collect::<String>()
        };
        let reading = |place, of: fn(&(Label, Label)) -> Label| {
            let mut bytes = read.iter().filter(|(_, labels)| of(labels) == wanted).map(|(byte, _)| *byte);
            let column = read.iter().position(|(_, labels)| of(labels) == wanted).map_or(0, |at| at + 1);
            AddressReading { place, bytes: show(&mut bytes), column }
        };
        Some(Counterexample {
            message: show(&mut read.iter().map(|(byte, _)| *byte)),
            label,
            readings: [reading(places.0, |copies| copies.0), reading(places.1, |copies| copies.1)],
        })
    }
}

/// Two states that the same bytes lead to.
struct Pair {
    states: (u32, u32),
    disagree: bool,
    /// The pair before.
    from: usize,
    labels: (Label, Label),
}

/// Whether this tells a host name from an address; `_` is what some servers call their nameless host.
pub(super) const fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_'
}

/// Whether this may stand in the zone of an address (RFC 4007, section 11), as interface names go.
pub(super) fn is_zone(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}
