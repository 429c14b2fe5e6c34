//! Expands a rule into flat sequences of texts and fields, one for each way through its choices.
//!
//! Proof and matcher both use these sequences, so the matcher matches what was proved. A rule must also be linear to
//! match: the next character must show where a field ends.

use super::fault::{Faults, Place};
use super::source::{FieldKind, Part, Rule};
use super::time;

/// One way to write a message that a rule describes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Variant {
    pub(super) group: u16,
    /// Which of the group's rules it is a form of.
    pub(super) rule: u16,
    pub(super) place: Place,
    pub(super) items: Vec<Item>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Item {
    Text(Vec<u8>),
    Field(Field),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Field {
    /// Where its span goes; the same field of a rule has the same slot in every variant.
    pub(super) slot: u8,
    pub(super) kind: FieldKind,
    /// The character that follows; `None` at the end of the message.
    pub(super) stop: Option<u8>,
    /// Which texts it never holds, as the conditions of its shape say: a place among those that
    /// [`narrow`](super::proof) was given; 0 for none.
    pub(super) without: u8,
}

impl Item {
    fn is_address(&self) -> bool {
        matches!(self, Item::Field(field) if field.kind.is_address())
    }

    /// Whether a message could begin like both.
    pub(super) fn may_begin_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Item::Text(one), Item::Text(other)) => one.starts_with(other) || other.starts_with(one),
            (Item::Field(field), Item::Text(text)) | (Item::Text(text), Item::Field(field)) => {
                field.may_begin(text)
            }
            (Item::Field(_), Item::Field(_)) => true,
        }
    }

    /// Whether it says who is held to account: the address, or the key that another line has it under.
    pub(super) fn is_identity(&self) -> bool {
        matches!(self, Item::Field(field) if field.kind.is_address() || field.kind.is_key())
    }
}

impl Variant {
    /// Whether it has an `<ip>`.
    pub(super) fn has_address(&self) -> bool {
        self.items.iter().any(Item::is_address)
    }

    /// The slot of its `<key>`.
    pub(super) fn key_slot(&self) -> Option<u8> {
        let slot = |item: &Item| match item {
            Item::Field(field) if field.kind.is_key() => Some(field.slot),
            _ => None,
        };
        self.items.iter().find_map(slot)
    }

    /// Whether it has a `<forwarded>`.
    pub(super) fn forwards(&self) -> bool {
        self.items.iter().any(|item| matches!(item, Item::Field(field) if field.kind == FieldKind::Forwarded))
    }
}

impl Variant {
    /// The same without what its conditions exclude, as one of the [other forms](OTHER); `None` if they exclude nothing.
    pub(super) fn without_promises(&self) -> Option<Self> {
        let mut variant = Self { group: OTHER, ..self.clone() };
        let mut excludes = false;
        for item in &mut variant.items {
            if let Item::Field(field) = item {
                excludes |= std::mem::take(&mut field.without) > 0;
            }
        }
        excludes.then_some(variant)
    }

    /// Gives its keys other places among the sections that have keys.
    pub(super) fn renumber_keys(&mut self, number: impl Fn(u8) -> u8) {
        for item in &mut self.items {
            if let Item::Field(Field { kind: FieldKind::Key(key), .. }) = item {
                *key = number(*key);
            }
        }
    }

    /// Makes its places among texts that fields never hold those behind so many others.
    pub(super) fn shift_without(&mut self, others: usize) {
        for item in &mut self.items {
            if let Item::Field(field) = item
                && field.without > 0
            {
                // None errs on the side of refusing.
                field.without = u8::try_from(usize::from(field.without) + others).unwrap_or(0);
            }
        }
    }
}

impl Field {
    /// Whether this text could stand in it.
    pub(super) fn may_hold(&self, text: &[u8]) -> bool {
        let holds = |byte: u8| match self.kind {
            FieldKind::Num => byte.is_ascii_digit(),
            FieldKind::Word => byte != b' ' && Some(byte) != self.stop,
            FieldKind::Without(set) => !set.holds(byte) && Some(byte) != self.stop,
            FieldKind::Host => is_name(byte) || byte == b':',
            _ => true,
        };
        text.iter().all(|byte| holds(*byte))
    }

    /// Whether what it holds could begin like this text.
    pub(super) fn may_begin(&self, text: &[u8]) -> bool {
        let first = |holds: fn(&u8) -> bool| text.first().is_none_or(holds);
        match self.kind {
            FieldKind::Num | FieldKind::Ipv4 => first(u8::is_ascii_digit),
            FieldKind::Ip => first(|byte| byte.is_ascii_hexdigit() || *byte == b':'),
            FieldKind::Time => {
                let like =
                    |stamp: &&str| stamp.bytes().zip(text).all(|(like, byte)| time::is_like(*byte, like));
                time::STAMPS.iter().any(like)
            }
            _ => true,
        }
    }
}

impl FieldKind {
    /// Whether this is the address to hold to account.
    pub(super) fn is_address(self) -> bool {
        matches!(self, FieldKind::Ip | FieldKind::Ipv4)
    }

    /// Whether this is what another line has the address under.
    pub(super) fn is_key(self) -> bool {
        matches!(self, FieldKind::Key(_))
    }
}

/// Slots in a group. The spans of a match are an array of this size, so that none is allocated.
pub(super) const SLOTS: usize = 24;

/// The group of the forms below `other:`, which have no offence and may lack an address.
pub(super) const OTHER: u16 = u16::MAX;

/// The group of the forms of messages that shapes of records read.
pub(super) const RECORD: u16 = u16::MAX - 1;

/// What a rule describes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Whole {
    Message,
    /// A message of [other forms](OTHER).
    Other,
    /// A message that names the address under a key, or ends the key.
    Naming,
    /// A message about the address under a key.
    Referring,
    /// The value of a key in a record, of whose values only one has the address.
    Value,
}

/// Variants in a grammar; the choices of one rule multiply.
const LIMIT: usize = 4096;

/// Spells out the rules of one group. Slots are shared by name, so that a shape's lines agree on them, and the n-th
/// fields without a name share one, as all addresses and all keys do; the names come back in slot order, `None` for a field without
/// one.
pub(super) fn spell_out(
    rules: &[Rule],
    group: u16,
    whole: Whole,
    variants: &mut Vec<Variant>,
    faults: &mut Faults<'_>,
) -> Vec<Option<String>> {
    let mut slots = Slots::default();
    for (number, rule) in (0..).zip(rules) {
        let mut sequences = vec![Vec::new()];
        slots.seen.clear();
        // All values of a record are read at once.
        if whole != Whole::Value {
            slots.nameless = 0;
        }
        expand(&rule.parts, &mut sequences, &mut slots, rule.place, faults);
        if slots.names.len() > SLOTS {
            faults.error(
                rule.place,
                format!("a rule, or the lines of a shape together, can have at most {SLOTS} fields"),
            );
            continue;
        }
        if variants.len() + sequences.len() > LIMIT {
            faults.error(rule.place, format!("the choices multiply to more than {LIMIT} forms of a message"));
            continue;
        }
        for sequence in sequences {
            let items = join(sequence);
            if let Err((place, what)) = settle(&items, rule.place, whole) {
                faults.error(place, what);
                break;
            }
            let items = with_stops(items);
            // Two ways through the choices can spell the same sequence: `{a|a}`.
            let is_known = |known: &Variant| {
                known.group == group
                    && known.items == items
                    && (whole != Whole::Value || known.rule == number)
            };
            if !variants.iter().any(is_known) {
                variants.push(Variant { group, rule: number, place: rule.place, items });
            }
        }
    }
    slots.names.into_iter().map(|name| name.filter(|name| !name.is_empty())).collect()
}

#[derive(Default)]
struct Slots {
    names: Vec<Option<String>>,
    /// How many fields of this rule have no name.
    nameless: usize,
    /// Names used so far in this rule.
    seen: Vec<String>,
    /// That of addresses without a name, of which a message has one.
    address: Option<u8>,
    /// That of keys, of which a message has one.
    key: Option<u8>,
}

impl Slots {
    fn slot(&mut self, name: Option<&String>, kind: FieldKind) -> u8 {
        let only = if kind.is_key() { &mut self.key } else { &mut self.address };
        if name.is_none() && (kind.is_address() || kind.is_key()) {
            return *only.get_or_insert_with(|| {
                // Named apart, so that no other nameless field takes this slot.
                self.names.push(Some(String::new()));
                u8::try_from(self.names.len() - 1).unwrap_or(u8::MAX)
            });
        }
        let mut alike = self.names.iter().zip(0..).filter(|(known, _)| known.as_ref() == name);
        let known = match name {
            Some(_) => alike.next(),
            None => {
                self.nameless += 1;
                alike.nth(self.nameless - 1)
            }
        };
        let slot = known.map_or(self.names.len(), |(_, slot)| slot);
        if slot == self.names.len() {
            self.names.push(name.cloned());
        }
        u8::try_from(slot).unwrap_or(u8::MAX)
    }
}

/// A text, or a field with the column where it stands.
#[derive(Clone)]
enum Flat {
    Text(Vec<u8>),
    Field { slot: u8, kind: FieldKind, column: u32 },
}

/// Appends every way through `parts` to every sequence; earlier options come first.
fn expand(
    parts: &[Part],
    sequences: &mut Vec<Vec<Flat>>,
    slots: &mut Slots,
    place: Place,
    faults: &mut Faults<'_>,
) {
    for part in parts {
        match part {
            Part::Text(text) => {
                sequences
                    .iter_mut()
                    .for_each(|sequence| sequence.push(Flat::Text(text.clone().into_bytes())));
            }
            Part::Field { name, kind, column } => {
                if let Some(name) = name {
                    if slots.seen.contains(name) && name != "user" {
                        faults.error(
                            Place { column: *column, ..place },
                            format!("there is already a field `{name}`"),
                        );
                    }
                    slots.seen.push(name.clone());
                }
                let field =
                    Flat::Field { slot: slots.slot(name.as_ref(), *kind), kind: *kind, column: *column };
                sequences.iter_mut().for_each(|sequence| sequence.push(field.clone()));
            }
            Part::Choice { options, optional } => {
                let before = sequences.len();
                let mut spelt: Vec<Vec<Vec<Flat>>> = Vec::new();
                for option in options {
                    let mut with = sequences.clone();
                    expand(option, &mut with, slots, place, faults);
                    spelt.push(with);
                }
                if *optional {
                    spelt.push(std::mem::take(sequences));
                }
                // What begins alike stands side by side, for the matcher's sake.
                let each: Vec<usize> = spelt.iter().map(|option| option.len() / before.max(1)).collect();
                let mut spelt: Vec<_> = spelt.into_iter().map(Vec::into_iter).collect();
                sequences.clear();
                for _ in 0..before {
                    for (option, each) in spelt.iter_mut().zip(&each) {
                        sequences.extend(option.by_ref().take(*each));
                    }
                }
                sequences.truncate(LIMIT + 1);
            }
        }
    }
}

/// Makes one text of texts that stand side by side.
fn join(sequence: Vec<Flat>) -> Vec<Flat> {
    let mut joined: Vec<Flat> = Vec::with_capacity(sequence.len());
    for flat in sequence {
        match (joined.last_mut(), flat) {
            (Some(Flat::Text(before)), Flat::Text(text)) => before.extend(text),
            (_, Flat::Text(text)) if text.is_empty() => {}
            (_, flat) => joined.push(flat),
        }
    }
    // Spaces at the end of a message do not count, so none can be asked for.
    if let Some(Flat::Text(last)) = joined.last_mut() {
        last.truncate(last.trim_ascii_end().len());
        if last.is_empty() {
            joined.pop();
        }
    }
    joined
}

/// Whether the end of every field is plain from what follows it, and there is one address, or none where none need be, and
/// one key where one must be.
fn settle(items: &[Flat], place: Place, whole: Whole) -> Result<(), (Place, String)> {
    let (mut addresses, mut keys, mut forwarded, mut free) = (0, 0, 0, 0);
    for (item, next) in items.iter().zip(items.iter().skip(1).map(Some).chain([None])) {
        let Flat::Field { kind, column, .. } = item else { continue };
        addresses += usize::from(kind.is_address());
        keys += usize::from(kind.is_key());
        forwarded += usize::from(*kind == FieldKind::Forwarded);
        free += usize::from(matches!(kind, FieldKind::Free | FieldKind::Unquoted));
        let stop = match next {
            None => None,
            Some(Flat::Text(text)) => text.first().copied(),
            Some(Flat::Field { column, .. }) => {
                let what = "two adjacent fields; put text between them that shows where the first ends";
                return Err((Place { column: *column, ..place }, what.to_owned()));
            }
        };
        let unclear = match (kind, stop) {
            (FieldKind::Num, Some(b'0'..=b'9')) => true,
            (FieldKind::Ip | FieldKind::Ipv4, Some(b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F' | b'%')) => true,
            (FieldKind::Host, Some(stop)) => is_name(stop) || stop == b':',
            (FieldKind::Quoted, Some(stop)) => stop != b'"',
            (FieldKind::Time, Some(b'0'..=b'9')) => true,
            (FieldKind::Rest, stop) => stop.is_some(),
            (FieldKind::Forwarded, stop) => stop.is_none() && whole != Whole::Value,
            _ => false,
        };
        let here = Place { column: *column, ..place };
        if unclear {
            let next = stop.map_or("the end".to_owned(), |stop| format!("`{}`", char::from(stop)));
            let wants = match kind {
                FieldKind::Quoted => "; a `\"` must follow, or nothing",
                FieldKind::Rest => "; nothing may follow",
                _ => "",
            };
            return Err((here, format!("the end of {kind} is not clear before {next}{wants}")));
        }
        if *kind == FieldKind::Unquoted && free > 1 {
            return Err((here, "no field with arbitrary text may stand before <unquoted>".to_owned()));
        }
    }
    let by_key = matches!(whole, Whole::Naming | Whole::Referring);
    let what = match addresses {
        _ if forwarded > 1 => "a rule can have at most one `<forwarded>`",
        _ if by_key && keys == 0 => "the rule has no `<key>`",
        _ if keys > 1 => "a rule must have exactly one `<key>`",
        0 if by_key && forwarded > 0 => "a rule without an `<ip>` cannot have a `<forwarded>`",
        1 if whole == Whole::Referring => "a rule by a key has no `<ip>`; the rules of the key have it",
        1 => return Ok(()),
        0 if whole != Whole::Message => return Ok(()),
        0 => "the rule has no `<ip>`",
        _ => "a rule must have exactly one `<ip>`",
    };
    Err((place, what.to_owned()))
}

/// Refuses rules that could read the messages of any program.
pub(super) fn must_begin_with_text(variants: &[Variant], faults: &mut Faults<'_>) {
    for rule in variants.chunk_by(|one, next| one.place == next.place) {
        let is_vague = |variant: &Variant| !matches!(variant.items.first(), Some(Item::Text(text)) if text.len() >= SHORT);
        if let Some(Variant { place, .. }) = rule.iter().find(|variant| is_vague(variant)) {
            faults.error(
                *place,
                format!(
                    "in a grammar with `program: *` each rule begins with at least {SHORT} bytes of text"
                ),
            );
        }
    }
}

/// Warns of what the proof cannot know: a stranger's text where another message of the program could begin alike, which
/// forms below `other:` would show, and ports that programs write IPv6 addresses in brackets for.
pub(super) fn advise(variants: &[Variant], lists_others: bool, faults: &mut Faults<'_>) {
    for rule in variants.chunk_by(|one, next| one.place == next.place) {
        let Some(Variant { place, .. }) = rule.first() else { continue };
        let is_vague = |variant: &Variant| {
            let mut before = 0;
            for item in &variant.items {
                match item {
                    Item::Text(text) => before += text.len(),
                    Item::Field(field) if field.kind.is_address() => return false,
                    Item::Field(field) if field.kind.is_key() && !variant.has_address() => return false,
                    Item::Field(field) if field.kind == FieldKind::Free => return before < SHORT,
                    Item::Field(_) => {}
                }
            }
            false
        };
        if !lists_others && rule.iter().any(is_vague) {
            let what = "a stranger's text stands before `<ip>`, and little text before it distinguishes this message from others; \
                        list the program's other messages with such text below `other:`";
            faults.warn(*place, what);
        }
        let follows = |variant: &Variant, behind: &[u8]| {
            variant.items.windows(3).any(|items| match items {
                [Item::Field(ip), Item::Text(text), Item::Field(port)] => {
                    ip.kind == FieldKind::Ip && port.kind == FieldKind::Num && text == behind
                }
                _ => false,
            })
        };
        let has = |behind: &[u8]| rule.iter().any(|variant| follows(variant, behind));
        if has(b":") && !has(b"]:") {
            let what = "many programs write an IPv6 address with a port in brackets; `{<ip>|[<ip>]}:<num>` reads \
                        both forms";
            faults.warn(*place, what);
        }
    }
}

/// Bytes of text that another message of a program hardly begins with too.
const SHORT: usize = 5;

/// Whether this may stand in a host name (RFC 952, and `_` as many use it).
pub(super) const fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

fn with_stops(items: Vec<Flat>) -> Vec<Item> {
    let first = |flat: Option<&Flat>| match flat {
        Some(Flat::Text(text)) => text.first().copied(),
        _ => None,
    };
    let stops: Vec<Option<u8>> = (1..=items.len()).map(|next| first(items.get(next))).collect();
    let item = |(flat, stop)| match flat {
        Flat::Text(text) => Item::Text(text),
        Flat::Field { slot, kind, .. } => Item::Field(Field { slot, kind, stop, without: 0 }),
    };
    items.into_iter().zip(stops).map(item).collect()
}
