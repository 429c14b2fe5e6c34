//! Shapes of records: messages that are JSON objects or logfmt, whose fields are read by key, in any order.
//!
//! One walk over a message finds the values of all keys that a grammar's shapes of that format want. Each line of a
//! shape reads the value of its key by rules of its own. So a stranger who chooses a value, but no key, cannot change
//! what another key's line reads.
//!
//! A message has one address here, too: within a value the proof sees to that, and all shapes of a format look for it
//! in the same keys, in the same order. [`forms`](RecordShapes::forms) tell the proof of the rest of a grammar what
//! messages are read here.

mod escape;
mod json;
mod keys;
mod logfmt;

use std::borrow::Cow;
use std::cell::Cell;
use std::net::IpAddr;

use super::fault::{Faults, Place};
use super::matcher::{Matcher, Reading, Spans, address_whole, extent};
use super::proof;
use super::source::{FieldKind, RuleGroup};
use super::variant::{Field, Item, RECORD, Variant};
use keys::{Keys, NAMES, NODES, written};

/// How records are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordFormat {
    Json,
    Logfmt,
}

/// A section `json NAME:` or `logfmt NAME:`; the key of each of its rules, as the names that lead to it.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) format: RecordFormat,
    pub(super) keys: Vec<Vec<String>>,
}

/// Wanted values of a format.
const LEAVES: usize = 32;

/// Where the values of wanted keys stand, by leaf.
#[derive(Clone, Copy, Debug, Default)]
struct Values {
    at: [(u32, u32); LEAVES],
    /// Bits of those that are there, and of those that have a backslash.
    present: u32,
    escaped: u32,
}

impl Values {
    #[inline(always)]
    fn set(&mut self, leaf: u8, from: usize, to: usize, escaped: bool) {
        // There is none for `NONE`.
        if let Some(at) = self.at.get_mut(usize::from(leaf)) {
            *at = (from as u32, to as u32);
            self.present |= 1 << leaf;
            self.escaped = self.escaped & !(1 << leaf) | u32::from(escaped) << leaf;
        }
    }

    fn get(&self, leaf: u8) -> Option<(usize, usize)> {
        let (from, to) = self.at.get(usize::from(leaf)).filter(|_| self.present >> leaf & 1 == 1)?;
        Some((*from as usize, *to as usize))
    }

    /// Those with a backslash.
    fn escaped(&self) -> impl Iterator<Item = (u8, usize, usize)> {
        (0..LEAVES as u8).filter(|leaf| self.escaped >> leaf & 1 == 1).filter_map(|leaf| {
            let (from, to) = self.get(leaf)?;
            Some((leaf, from, to))
        })
    }
}

/// Why a message is not a record that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RecordFault {
    /// The wanted key of this node stands twice in its object.
    Twice(u8),
    /// The message ends too early.
    Unclosed,
    /// What stands here does not belong there.
    Malformed(usize),
    /// Objects and arrays are nested too deep.
    Deep,
}

/// The shapes of records of a grammar.
#[derive(Debug, Default)]
pub(super) struct RecordShapes(Vec<RecordFamily>);

/// Those of one format.
#[derive(Debug)]
struct RecordFamily {
    format: RecordFormat,
    keys: Keys,
    /// The path of each leaf.
    leaves: Vec<Vec<String>>,
    shapes: Vec<Shape>,
    /// The leaves that may have an address, as bits.
    addresses: u32,
    /// Where each of them looks for the address and the forwarded header, in this order.
    search: Vec<Way>,
}

#[derive(Debug)]
struct Shape {
    group: u16,
    lines: Vec<RecordLine>,
    demands: Vec<Demand>,
}

/// Lines without a field: the value of their key must be one of these texts.
#[derive(Debug)]
struct Demand {
    leaf: u8,
    place: Place,
    texts: Vec<(u32, Box<[u8]>)>,
}

#[derive(Debug)]
struct RecordLine {
    leaf: u8,
    /// Where it stands in the file.
    place: Place,
    /// Its variants among those of all lines: from this one on, up to the other.
    first: u32,
    last: u32,
    has_address: bool,
    value: ValueReader,
}

/// What reads a value.
#[derive(Debug)]
enum ValueReader {
    /// One field, which takes all of it.
    Field(Field),
    Rules(Matcher),
}

thread_local! {
    /// The message with its values as they are without backslashes, where it has any.
    static ROOM: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

impl RecordShapes {
    /// The shapes of records among these groups. `values` are the variants of their lines. What could give a message two
    /// addresses is a fault.
    pub(super) fn new(
        groups: &[RuleGroup],
        values: &[Variant],
        without: &[Vec<String>],
        faults: &mut Faults<'_>,
    ) -> Self {
        let mut records = Self::default();
        for (number, group) in (0..).zip(groups) {
            let Some(record) = &group.record else { continue };
            let format = record.format;
            if !records.0.iter().any(|family| family.format == format) {
                let (keys, leaves, shapes, search) = (Keys::new(), Vec::new(), Vec::new(), Vec::new());
                records.0.push(RecordFamily { format, keys, leaves, shapes, addresses: 0, search });
            }
            let Some(family) = records.0.iter_mut().find(|family| family.format == format) else { continue };
            let (mut lines, mut demands) = (Vec::new(), Vec::<Demand>::new());
            for (nth, (rule, key)) in (0..).zip(group.rules.iter().zip(&record.keys)) {
                let of_line = |variant: &Variant| (variant.group, variant.rule) == (number, nth);
                let first = values.iter().position(of_line).unwrap_or(values.len());
                let own: Vec<Variant> = values.iter().filter(|variant| of_line(variant)).cloned().collect();
                let Some(leaf) = family.leaf(key) else {
                    let what = format!(
                        "the shapes of one format can want at most {LEAVES} keys with {} names, and {NAMES} in a key",
                        NODES - 1
                    );
                    faults.error(rule.place, what);
                    continue;
                };
                let addresses = own.iter().filter(|variant| variant.has_address()).count();
                if addresses > 0 && addresses < own.len() {
                    let what = "each way through the choices of this line needs an `<ip>`, or none of them; write \
                                two lines for the key";
                    faults.error(rule.place, what);
                }
                let first = first as u32;
                if let Some(texts) = texts(&own, first) {
                    match demands.iter_mut().find(|demand| demand.leaf == leaf) {
                        Some(demand) => demand.texts.extend(texts),
                        None => demands.push(Demand { leaf, place: rule.place, texts }),
                    }
                    continue;
                }
                family.addresses |= u32::from(addresses > 0) << leaf;
                lines.push(RecordLine {
                    leaf,
                    place: rule.place,
                    first,
                    last: first + own.len() as u32,
                    has_address: addresses > 0,
                    value: ValueReader::of(&own),
                });
            }
            let place = group.place();
            if !lines.iter().any(|line| line.has_address) && !group.rules.is_empty() {
                faults.error(place, "no line of this shape has an `<ip>`");
            }
            family.shapes.push(Shape { group: number, lines, demands });
        }
        for family in &mut records.0 {
            family.prove(values, without, faults);
        }
        records
    }

    /// Whether a message that both read has the same address for both.
    pub(super) fn agree(&self, other: &Self) -> bool {
        let pairs = self.0.iter().flat_map(|one| other.0.iter().map(move |two| (one, two)));
        let mut alike = pairs.filter(|(one, two)| one.format == two.format);
        alike.all(|(one, two)| same_ways(&one.search, &two.search))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forms of messages for the [proof](super::proof), which all messages are instances of that are read here: with the
    /// address somewhere, and without one, since in a message an escape may stand for a part of it.
    pub(super) fn forms(&self) -> Vec<Variant> {
        let field = |kind, stop| Item::Field(Field { slot: 0, kind, stop, without: 0 });
        let text = |text: &str| Item::Text(text.as_bytes().to_vec());
        let mut forms = Vec::new();
        for family in &self.0 {
            let Some(line) = family.address_lines().next() else { continue };
            let mut add =
                |items: Vec<Item>| forms.push(Variant { group: RECORD, rule: 0, place: line.place, items });
            let free = |stop| field(FieldKind::Free, stop);
            match family.format {
                RecordFormat::Json => {
                    let address = field(FieldKind::Ip, None);
                    add(vec![text("{"), free(Some(b'}')), text("}")]);
                    add(vec![text("{"), free(None), address, free(Some(b'}')), text("}")]);
                }
                RecordFormat::Logfmt => {
                    for line in family.address_lines() {
                        let Some([key, ..]) = family.leaves.get(usize::from(line.leaf)).map(Vec::as_slice)
                        else {
                            continue;
                        };
                        let pair = format!("{key}=");
                        for before in ["", " ", ",", "\t", "\""] {
                            let start = if before.is_empty() { vec![] } else { vec![free(None)] };
                            let begin = [start, vec![text(&format!("{before}{pair}"))]].concat();
                            let address = field(FieldKind::Ip, None);
                            add([begin.clone(), vec![free(None)]].concat());
                            add([begin, vec![free(None), address, free(None)]].concat());
                        }
                    }
                }
            }
        }
        forms
    }

    /// Hands what shapes read in the message to `accept`, with the text that the spans are places in, until it takes one.
    ///
    /// Linear in the message; does not allocate, but for the longest message with backslashes so far.
    pub(super) fn read<T>(
        &self,
        message: &[u8],
        mut accept: impl FnMut(Reading, &Spans, &[u8]) -> Option<T>,
    ) -> Option<T> {
        let family = self.family(message)?;
        let values = family.values(message).ok()?;
        if values.present & family.addresses == 0 {
            return None;
        }
        if values.escaped == 0 {
            return family.read(message, &values, &mut accept);
        }
        let mut room = ROOM.try_with(Cell::take).unwrap_or_default();
        let plain = plain(message, values, &mut room);
        let taken = family.read(&room, &plain, &mut accept);
        // A thread that ends keeps none.
        ROOM.try_with(|kept| kept.set(room)).ok();
        taken
    }

    /// The text that spans of a message are places in: its values stand where they stand in the message, but as they are
    /// without backslashes.
    pub(super) fn text<'m>(&self, message: &'m [u8]) -> Cow<'m, [u8]> {
        let values = self.family(message).and_then(|family| family.values(message).ok());
        match values.filter(|values| values.escaped != 0) {
            Some(values) => {
                let mut room = Vec::new();
                plain(message, values, &mut room);
                room.into()
            }
            None => message.into(),
        }
    }

    /// Where in the message the place in its [`text`](Self::text) is.
    pub(super) fn column(&self, message: &[u8], place: usize) -> usize {
        let values = self.family(message).and_then(|family| family.values(message).ok());
        let within = values.and_then(|values| {
            values
                .escaped()
                .find(|(_, from, to)| (*from..*to).contains(&place))
                .map(|(_, from, to)| (from, to))
        });
        let Some((from, to)) = within else { return place };
        from + escape::taken(message.get(from..to).unwrap_or_default(), place - from)
    }

    /// What each line of the group's shape that reads a value of this message held, with its variant.
    pub(super) fn lines(&self, message: &[u8], group: u16) -> Vec<(u32, Spans)> {
        let family = self.family(message);
        let values = family.and_then(|family| family.values(message).ok());
        let shape = family.and_then(|family| family.shapes.iter().find(|shape| shape.group == group));
        values.zip(shape).map_or_else(Vec::new, |(values, shape)| {
            let mut text = Vec::new();
            let values = plain(message, values, &mut text);
            shape.lines(&text, &values)
        })
    }

    /// Why no shape reads the message: the line of the file, and the reason. `None` if it is not a record.
    pub(super) fn miss(&self, message: &[u8]) -> Option<(u32, String)> {
        let family = self.family(message)?;
        let line = family.address_lines().next()?;
        let values = match family.values(message) {
            Ok(values) => values,
            Err(fault) => return Some((line.place.line, family.fault(fault))),
        };
        if family.format == RecordFormat::Logfmt && values.present == 0 {
            return None;
        }
        let text = self.text(message);
        let values = plain(message, values, &mut Vec::new());
        // The shape that asks for something else is not the one to explain, if there is another.
        let unmet = |shape: &Shape| {
            shape
                .demands
                .iter()
                .find(|demand| demand.met(&text, &values).is_none())
                .map(|demand| (demand.leaf, demand.place))
        };
        let mut wanted: Vec<(u8, Place)> = family.shapes.iter().filter_map(unmet).collect();
        if wanted.len() < family.shapes.len() {
            wanted = family.address_lines().map(|line| (line.leaf, line.place)).collect();
        }
        let held = wanted.iter().find(|(leaf, _)| values.get(*leaf).is_some());
        let (leaf, place) = *held.or(wanted.first())?;
        let path = family.path(leaf);
        Some((
            place.line,
            match values.get(leaf) {
                Some((from, to)) => {
                    let value = String::from_utf8_lossy(text.get(from..to).unwrap_or_default());
                    format!("`{path}` holds `{value}`, which this line does not read")
                }
                None => format!("no key `{path}`"),
            },
        ))
    }

    /// Whether the message may be a record.
    pub(super) fn may_read(&self, message: &[u8]) -> bool {
        self.family(message).is_some()
    }

    /// The shapes that may read such a message. One that begins with a `{` is not logfmt.
    fn family(&self, message: &[u8]) -> Option<&RecordFamily> {
        let format = if message.first() == Some(&b'{') { RecordFormat::Json } else { RecordFormat::Logfmt };
        self.0.iter().find(|family| family.format == format)
    }
}

/// Copies the message to `room`, with the values that have backslashes as they are without; where these stand then.
fn plain(message: &[u8], mut values: Values, room: &mut Vec<u8>) -> Values {
    room.clear();
    room.extend_from_slice(message);
    let escaped = values;
    for (leaf, from, to) in escaped.escaped() {
        let length = match (message.get(from..to), room.get_mut(from..to)) {
            (Some(text), Some(room)) => escape::unescape(text, room),
            _ => 0,
        };
        values.set(leaf, from, from + length, false);
    }
    values
}

impl RecordFamily {
    /// The leaf of a key, a new one if need be; `None` if there are too many.
    fn leaf(&mut self, key: &[String]) -> Option<u8> {
        if let Some(known) = self.leaves.iter().position(|known| known == key) {
            return Some(known as u8);
        }
        let leaf = u8::try_from(self.leaves.len()).ok().filter(|leaf| usize::from(*leaf) < LEAVES)?;
        self.keys.add(key, leaf)?;
        self.leaves.push(key.to_vec());
        Some(leaf)
    }

    fn path(&self, leaf: u8) -> String {
        let names = self.leaves.get(usize::from(leaf)).into_iter().flatten();
        match self.format {
            RecordFormat::Json => names.map(|name| written(name)).collect::<Vec<_>>().join("."),
            RecordFormat::Logfmt => names.cloned().collect(),
        }
    }

    fn fault(&self, fault: RecordFault) -> String {
        match fault {
            RecordFault::Twice(node) => format!("`{}` twice", self.keys.path(node)),
            RecordFault::Unclosed if self.format == RecordFormat::Json => {
                "the object is not closed".to_owned()
            }
            RecordFault::Unclosed => "a quotation mark is not closed".to_owned(),
            RecordFault::Malformed(at) => format!("malformed at column {}", at + 1),
            RecordFault::Deep => format!("objects are nested more than {} deep", json::DEPTH),
        }
    }

    fn address_lines(&self) -> impl Iterator<Item = &RecordLine> {
        self.shapes.iter().flat_map(|shape| &shape.lines).filter(|line| line.has_address)
    }

    fn values(&self, message: &[u8]) -> Result<Values, RecordFault> {
        match self.format {
            RecordFormat::Json => json::read(message, &self.keys),
            RecordFormat::Logfmt => logfmt::read(message, &self.keys),
        }
    }

    fn read<T>(
        &self,
        text: &[u8],
        values: &Values,
        accept: &mut impl FnMut(Reading, &Spans, &[u8]) -> Option<T>,
    ) -> Option<T> {
        self.shapes.iter().find_map(|shape| {
            let mut spans = Spans::default();
            let reading = shape.read(text, values, &mut spans)?;
            accept(reading, &spans, text)
        })
    }

    /// Refuses shapes that could read one message with two addresses, or two `<forwarded>`.
    fn prove(&mut self, values: &[Variant], without: &[Vec<String>], faults: &mut Faults<'_>) {
        if faults.has_errors() {
            return;
        }
        let variants =
            |line: &RecordLine| values.get(line.first as usize..line.last as usize).unwrap_or_default();
        let search = |shape: &Shape| -> Vec<Way> {
            let ways = shape.lines.iter().filter_map(|line| {
                let own = variants(line);
                let is_wanted = line.has_address || own.iter().any(Variant::forwards);
                let path = self.leaves.get(usize::from(line.leaf)).filter(|_| is_wanted)?.clone();
                let items = own.iter().map(|variant| variant.items.clone()).collect();
                Some(Way { path, has_address: line.has_address, items })
            });
            ways.collect()
        };
        let first = self.shapes.first().map(search).unwrap_or_default();
        for shape in &self.shapes {
            let other = search(shape);
            let place = shape.lines.first().map_or(Place { line: 1, column: 1 }, |line| line.place);
            let headers = || other.iter().filter(|way| !way.has_address).map(|way| &way.path);
            if headers().any(|path| Some(path) != headers().next()) {
                faults.error(place, "only lines for one key can have a `<forwarded>`");
            }
            // With one key for both, the proof below shows that the value has one address.
            let mut all = first.iter().chain(&other);
            let one_key = all.all(|way| first.first().is_some_and(|first| way.has_same_key(first)));
            if !one_key && !same_ways(&first, &other) {
                let what = "this shape looks for the address or the forwarded header in other keys, or otherwise, \
                            than one above; give both the same lines for them, in the same order";
                faults.error(place, what);
            }
        }
        for leaf in 0..self.leaves.len() as u8 {
            let lines = || self.shapes.iter().flat_map(|shape| &shape.lines).filter(|line| line.leaf == leaf);
            let of = |has_address: bool| -> Vec<Variant> {
                let lines = lines().filter(|line| line.has_address == has_address);
                lines.flat_map(variants).filter(|v| has_address || v.forwards()).cloned().collect()
            };
            for mut wanted in [of(true), of(false)] {
                let excluded: Vec<Variant> = wanted.iter().filter_map(Variant::without_promises).collect();
                wanted.extend(excluded);
                if !wanted.is_empty() {
                    proof::prove(&wanted, without, faults);
                }
            }
        }
        self.search = first;
    }
}

/// A key where the address or the forwarded header is looked for, and how its value is read.
#[derive(Debug)]
struct Way {
    path: Vec<String>,
    has_address: bool,
    items: Vec<Vec<Item>>,
}

impl Way {
    fn has_same_key(&self, other: &Self) -> bool {
        (&self.path, self.has_address) == (&other.path, other.has_address)
    }
}

/// Whether what is read this way and that way is the same.
fn same_ways(some: &[Way], others: &[Way]) -> bool {
    let same = |(one, two): (&Way, &Way)| {
        let mut items = one.items.iter().zip(&two.items);
        one.has_same_key(two)
            && one.items.len() == two.items.len()
            && items.all(|(one, two)| same_but_for_slots(one, two))
    };
    some.len() == others.len() && some.iter().zip(others).all(same)
}

fn same_but_for_slots(one: &[Item], two: &[Item]) -> bool {
    let same = |(one, two): (&Item, &Item)| match (one, two) {
        (Item::Field(one), Item::Field(two)) => (one.kind, one.stop) == (two.kind, two.stop),
        (one, two) => one == two,
    };
    one.len() == two.len() && one.iter().zip(two).all(same)
}

impl Shape {
    /// Reads the values of a message by each line of the shape.
    #[inline(always)]
    fn read(&self, text: &[u8], values: &Values, spans: &mut Spans) -> Option<Reading> {
        if self.demands.iter().any(|demand| demand.met(text, values).is_none()) {
            return None;
        }
        let (mut found, mut forwarded) = (None, None);
        for line in &self.lines {
            // The first address counts, and so does the first text of a field.
            if line.has_address && found.is_some() {
                continue;
            }
            let Some((nth, address, header)) = line.read(text, values, spans) else { continue };
            if line.has_address {
                found = Some((line.first + nth, address));
            }
            forwarded = forwarded.or(header);
        }
        let (pattern, address) = found?;
        Some(Reading { group: self.group, pattern, address, forwarded })
    }

    /// What each line that reads a value held, with its variant.
    fn lines(&self, text: &[u8], values: &Values) -> Vec<(u32, Spans)> {
        let mut addressed = false;
        let line = |line: &RecordLine| {
            let mut own = Spans::default();
            let (nth, ..) = line.read(text, values, &mut own).filter(|_| !(line.has_address && addressed))?;
            addressed |= line.has_address;
            Some((line.first + nth, own))
        };
        let lines: Vec<(u32, Spans)> = self.lines.iter().filter_map(line).collect();
        let demand = |demand: &Demand| Some((demand.met(text, values)?, Spans::default()));
        lines.into_iter().chain(self.demands.iter().filter_map(demand)).collect()
    }
}

impl RecordLine {
    /// Reads the value of its key: by which variant, the address in it, and where the forwarded header stands. Fields that
    /// hold nothing yet get what they hold.
    #[inline(always)]
    fn read(&self, text: &[u8], values: &Values, spans: &mut Spans) -> Option<Held> {
        let (from, to) = values.get(self.leaf)?;
        let value = text.get(from..to)?.trim_ascii_end();
        let nobody = IpAddr::from([0; 4]);
        match &self.value {
            ValueReader::Field(field) => {
                let address = match field.kind {
                    FieldKind::Ip => address_whole(value)?,
                    FieldKind::Free => nobody,
                    _ => (extent(*field, value)? == value.len()).then_some(nobody)?,
                };
                let end = from + value.len();
                if spans.get(field.slot.into()).is_none() {
                    spans.put(field.slot, from, end);
                }
                Some((0, address, (field.kind == FieldKind::Forwarded).then_some((from, end))))
            }
            ValueReader::Rules(matcher) => matcher.read_value(value, |reading, held| {
                spans.add(held, from);
                let header = reading.forwarded.map(|(start, end)| (from + start, from + end));
                (reading.pattern, reading.address, header)
            }),
        }
    }
}

impl Demand {
    /// The variant that the value is.
    fn met(&self, text: &[u8], values: &Values) -> Option<u32> {
        let (from, to) = values.get(self.leaf)?;
        let value = text.get(from..to)?.trim_ascii_end();
        self.texts.iter().find(|(_, text)| **text == *value).map(|(variant, _)| *variant)
    }
}

/// The texts of variants, from the number `first` on, that have no field.
fn texts(variants: &[Variant], first: u32) -> Option<Vec<(u32, Box<[u8]>)>> {
    let text = |(number, variant): (u32, &Variant)| match variant.items.as_slice() {
        [] => Some((number, Box::default())),
        [Item::Text(text)] => Some((number, text.as_slice().into())),
        _ => None,
    };
    (first..).zip(variants).map(text).collect::<Option<Vec<_>>>().filter(|texts| !texts.is_empty())
}

/// Which variant reads a value, the address in it, and where the forwarded header stands.
type Held = (u32, IpAddr, Option<(usize, usize)>);

impl ValueReader {
    fn of(variants: &[Variant]) -> Self {
        match variants {
            [Variant { items, .. }] => match items.as_slice() {
                [Item::Field(field)]
                    if matches!(
                        field.kind,
                        FieldKind::Free
                            | FieldKind::Ip
                            | FieldKind::Num
                            | FieldKind::Word
                            | FieldKind::Forwarded
                    ) =>
                {
                    Self::Field(*field)
                }
                _ => Self::Rules(Matcher::new(variants)),
            },
            _ => Self::Rules(Matcher::new(variants)),
        }
    }
}

#[cfg(test)]
mod tests;
