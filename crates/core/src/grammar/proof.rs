//! Proves that no message can be read with two addresses, and finds the rules that a cut message could mislead.
//!
//! Each rule is a regular language, and so is a grammar. Two copies of its automaton walk over the same bytes, and
//! remember whether they have disagreed about which bytes are the `<ip>`, the `<key>` of which section, or `<forwarded>`.
//! If both can accept after a disagreement, that message has two readings; the walk is breadth first, so it finds the
//! shortest. If not, every message has one address or none, and one key or none, whichever rule reads it, and in whatever
//! order rules are tried. The forms below `other:` are part of the automaton: no rule reads another address in one of
//! them, and none reads a key.
//!
//! A second walk lets one copy stop before the end. A rule that then accepts with another address or key must not be tried
//! on a message whose end may be missing.
//!
//! The fields here accept at least as much as the matcher's (an `<ip>` need not be a valid address, for instance). Of
//! the conditions, only texts count that a field excludes in every case of its shape. So the proof errs on the side of
//! refusing.

mod automaton;

use std::fmt;

use hashbrown::HashSet;

use super::fault::{Faults, Place};
use super::variant::{RECORD, Variant};
use automaton::{Automaton, Classes, Label, State, TooComplex};
pub(super) use automaton::{is_letter, is_zone};

/// The version of the proof, and of all that makes variants of a text. Raise it with a change that could refuse what was
/// accepted before: then no shipped grammar counts as [proved](super::proved) until the list is made again.
pub(super) const VERSION: u32 = 1;

/// Refuses (in `faults`) a grammar in which some message has two addresses. For each variant, except
/// [other forms](super::variant::OTHER), in their order: whether it reads no beginning of a message with another address or key than the
/// whole has.
///
/// `without` are the texts that fields never hold, by [`Field::without`], from 1.
///
/// Takes time and memory in proportion to the pairs of states that some message reaches: 0.1 to 40 ms for the
/// grammars that come with banstream. A grammar with more than [`MOST_PAIRS`] is refused as too complex.
pub(super) fn prove(variants: &[Variant], without: &[Vec<String>], faults: &mut Faults<'_>) -> Vec<bool> {
    match check(variants, without) {
        Ok(safe) => safe,
        Err(Unproved::TooComplex) => {
            let place = variants.first().map_or(Place { line: 1, column: 1 }, |variant| variant.place);
            faults.error(place, "the grammar is too complex to prove; use fewer choices and less free text");
            Vec::new()
        }
        Err(Unproved::TwoReadings(counterexample)) => {
            let Counterexample { message, label, mut readings } = *counterexample;
            let place = |reading: &AddressReading| {
                variants.get(reading.variant as usize).map(|variant| variant.place)
            };
            readings.sort_by_key(|reading| std::cmp::Reverse(place(reading)));
            let [here, there] = readings;
            let other = match (place(&here), place(&there)) {
                (Some(one), Some(other)) if one.line != other.line => {
                    format!("here, but in line {} as", other.line)
                }
                _ => "but also as".to_owned(),
            };
            let what = format!(
                "an attacker can choose the {label}: `{message}` can be read as {here} {other} {there}"
            );
            faults.error(place(&here).unwrap_or(Place { line: 1, column: 1 }), what);
            Vec::new()
        }
    }
}

/// Proves that no message has two addresses whichever of these variants read it, rules first, other forms behind, as far
/// as they can read the same message. As [`prove`] for each rule.
///
/// # Errors
///
/// The message, what differs in its readings, and the two variants with their readings; or what else is wrong.
pub(super) fn prove_together(variants: &[Variant], without: &[Vec<String>]) -> Result<Vec<bool>, Conflict> {
    check(variants, without).map_err(|refusal| match refusal {
        Unproved::TooComplex => Conflict::TooComplex,
        Unproved::TwoReadings(counterexample) => {
            let Counterexample { message, label, mut readings } = *counterexample;
            readings.sort_by_key(|reading| reading.variant);
            let [one, other] = readings;
            let variants = (one.variant as usize, other.variant as usize);
            Conflict::TwoReadings { message, label, variants, readings: (one.to_string(), other.to_string()) }
        }
    })
}

/// Why two grammars cannot read the lines of one program.
pub(super) enum Conflict {
    TooComplex,
    TwoReadings { message: String, label: &'static str, variants: (usize, usize), readings: (String, String) },
}

fn check(variants: &[Variant], without: &[Vec<String>]) -> Result<Vec<bool>, Unproved> {
    let classes = Classes::of(variants);
    let automaton = Automaton::of(variants, &classes, without)?;
    let safe = match automaton.two_readings()? {
        // What a condition excludes may stand in the part that is missing.
        None if !without.is_empty() => automaton.safe_where_cut(&Automaton::of(variants, &classes, &[])?)?,
        None => automaton.safe_where_cut(&automaton)?,
        Some(mut counterexample) => {
            for reading in &mut counterexample.readings {
                let example = classes.examples.get(reading.variant as usize);
                reading.variant = example.copied().unwrap_or_default();
            }
            return Err(Unproved::TwoReadings(Box::new(counterexample)));
        }
    };
    let rules = classes.of.iter().zip(variants).filter(|(_, variant)| variant.group < RECORD);
    Ok(rules.map(|(class, _)| safe.get(*class as usize) == Some(&true)).collect())
}

/// Why a proof fails.
enum Unproved {
    TooComplex,
    TwoReadings(Box<Counterexample>),
}

impl From<TooComplex> for Unproved {
    fn from(TooComplex: TooComplex) -> Self {
        Self::TooComplex
    }
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
    variant: u32,
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

impl Automaton {
    /// The shortest message that two copies of the automaton accept after a disagreement.
    fn two_readings(&self) -> Result<Option<Counterexample>, TooComplex> {
        let first = Pair { states: (0, 0), disagree: false, from: 0, labels: (Label::None, Label::None) };
        let mut pairs = vec![first];
        let mut seen = HashSet::with_capacity(self.states.len());
        seen.insert((0, 0, false));
        let mut next = 0;
        let readers = self.readers;
        let leads = self.leading_to(|state| state.accepts.first().is_some_and(|first| *first < readers));
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

    /// Variants that end in these states and may not disagree. Two other forms may, and so may two records: that
    /// they do not is shown elsewhere.
    fn ending(&self, states: (u32, u32)) -> Option<(u32, u32)> {
        // The first that ends there, a rule if one does, and the last, an other form if one does.
        let of = |state: u32| {
            let accepts = &self.states.get(state as usize)?.accepts;
            Some((*accepts.first()?, *accepts.last()?))
        };
        let ((first, last), (other_first, other_last)) = (of(states.0)?, of(states.1)?);
        let pairs = [(first, other_first), (first, other_last), (last, other_first)];
        let kind = |variant: u32| (variant < self.rules, variant < self.readers);
        pairs.into_iter().find(|(one, two)| kind(*one) != kind(*two) || *one < self.rules)
    }

    /// For each rule, whether no message has another address or key than its beginning that this rule reads; `all` are the
    /// messages.
    fn safe_where_cut(&self, all: &Self) -> Result<Vec<bool>, TooComplex> {
        let rules = self.rules;
        let mut safe = vec![true; rules as usize];
        let ends = |state: &State| !state.accepts.is_empty();
        let reads = |state: &State| state.accepts.first().is_some_and(|first| *first < rules);
        let (live, leads) = (all.leading_to(ends), self.leading_to(reads));
        let named = |state: &State| {
            state.moves.iter().any(|m| m.label.is_identity() && live.get(m.to as usize) == Some(&true))
        };
        let ahead = all.leading_to(named);
        let is = |set: &[bool], state: u32| set.get(state as usize) == Some(&true);
        let mut todo = vec![(0, 0, false)];
        let mut seen = HashSet::with_capacity(self.states.len());
        while let Some((whole, part, disagree)) = todo.pop() {
            let states = (all.states.get(whole as usize), self.states.get(part as usize));
            let (Some(first), Some(second)) = states else { break };
            // An address that goes on where the message is cut is another one; and the part that is missing may name the
            // address that a key stands for from here on.
            if reads(second) && (disagree || is(&ahead, whole)) {
                second
                    .accepts
                    .iter()
                    .for_each(|rule| safe.get_mut(*rule as usize).into_iter().for_each(|safe| *safe = false));
            }
            for a in first.moves.iter().filter(|a| is(&live, a.to)) {
                for b in second.moves.iter().filter(|b| is(&leads, b.to)) {
                    // The client may be missing: then a proxy's message has no offender.
                    let differ = a.label != b.label && (a.label.is_identity() || b.label != Label::None);
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

    /// What led to the last pair, if both its states accept, and one of them a rule.
    fn counterexample(&self, pairs: &[Pair]) -> Option<Counterexample> {
        let last = pairs.last()?;
        let ends = self.ending(last.states)?;
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
        let keys = read.iter().filter(|(_, (a, b))| a != b).flat_map(|(_, (a, b))| [*a, *b]);
        let key = keys.into_iter().find(|label| matches!(label, Label::Key(_)));
        let (wanted, label) = match key {
            _ if differ(Label::Ip) => (Label::Ip, "address"),
            Some(key) => (key, "key"),
            None => (Label::Forwarded, "forwarded header"),
        };
        let show = |bytes: &mut dyn Iterator<Item = u8>| {
            bytes.flat_map(std::ascii::escape_default).map(char::from).collect::<String>()
        };
        let reading = |variant, of: fn(&(Label, Label)) -> Label| {
            let mut bytes = read.iter().filter(|(_, labels)| of(labels) == wanted).map(|(byte, _)| *byte);
            let column = read.iter().position(|(_, labels)| of(labels) == wanted).map_or(0, |at| at + 1);
            AddressReading { variant, bytes: show(&mut bytes), column }
        };
        Some(Counterexample {
            message: show(&mut read.iter().map(|(byte, _)| *byte)),
            label,
            readings: [reading(ends.0, |copies| copies.0), reading(ends.1, |copies| copies.1)],
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
