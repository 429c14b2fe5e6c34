//! Explains a message for authors: the text in each field, or how close the nearest rule came. Unlike the matcher it
//! allocates and tries every rule.

use std::borrow::Cow;

use super::compiled::{CompiledRules, Meaning};
use super::condition::Condition;
use super::matcher::{Spans, addresses, extent};
use super::source::FieldKind;
use super::time;
use super::variant::{Field, Item, Variant};
use super::{Found, Grammar, part};

/// A field of a rule, and what it held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldText<'g, 'm> {
    /// What the rule calls it.
    pub name: Option<&'g str>,
    /// What it is: `ip`, `text`, `word`, `num`, `quoted`, `unquoted`, `rest` or `forwarded`.
    pub kind: &'static str,
    /// Where in the message it begins, in bytes.
    pub from: usize,
    /// Where it ends.
    pub to: usize,
    /// The bytes between; those that their backslashes stand for where a record has any.
    pub text: Cow<'m, [u8]>,
}

/// Why a message has no offence.
#[derive(Debug, PartialEq, Eq)]
pub enum MissReason<'g> {
    /// Shapes read it, and none of these conditions holds.
    Unmet(Vec<Unmet<'g>>),
    /// No rule reads it; this one comes closest.
    Unread(Closest<'g>),
    /// It is a record that no shape reads.
    Record(RecordMiss<'g>),
    /// No rule even begins like it.
    Unlike,
}

/// A condition that does not hold.
#[derive(Debug, PartialEq, Eq)]
pub struct Unmet<'g> {
    /// The offence that it would be.
    pub category: &'g str,
    /// The line of the file where the condition stands.
    pub line: u32,
    /// That line.
    pub written: &'g str,
    /// The first field that contradicts it.
    pub field: &'g str,
    /// What that holds; `None` if it is not in the message.
    pub holds: Option<Vec<u8>>,
}

/// Why a record is not read.
#[derive(Debug, PartialEq, Eq)]
pub struct RecordMiss<'g> {
    /// The line of the file that the address would come from.
    pub line: u32,
    /// That line.
    pub written: &'g str,
    /// What is missing or wrong.
    pub why: String,
}

/// The rule that reads most of a message, and where it stops.
#[derive(Debug, PartialEq, Eq)]
pub struct Closest<'g> {
    /// The line of the file where the rule stands.
    pub line: u32,
    /// That line.
    pub written: &'g str,
    /// How many bytes of the message it reads.
    pub at: usize,
    /// What it wants there, as the rule has it, for each of the first few ways that it could go on; what comes nearest
    /// first.
    pub expected: Vec<String>,
}

impl<'g> Found<'g> {
    /// The rule as it stands in the file.
    pub fn written(&self) -> &'g str {
        self.grammar.written(self.line())
    }

    /// The rule's fields and what they held in `message`, which must be the one it was found in, in their order.
    pub fn field_texts<'m>(&self, message: &'m [u8]) -> Vec<FieldText<'g, 'm>> {
        let names = self.grammar.group(self.reading.group).map_or(&[][..], |group| &group.names);
        let text = self.text(message);
        let records = self.grammar.compiled().matcher.records().filter(|_| self.is_record());
        let message = message.trim_ascii_end();
        let lines = match records {
            Some(records) => records.lines(message, self.reading.group),
            None => vec![(self.reading.pattern, self.spans)],
        };
        let column = |place| records.map_or(place, |records| records.column(message, place));
        let held = |item: &Item, spans: &Spans| {
            let Item::Field(field) = item else { return None };
            let slot = usize::from(field.slot);
            let (from, to) = spans.get(slot)?;
            let (from, to) = (from as usize, to as usize);
            let name = names.get(slot).and_then(Option::as_deref);
            let text = part(&text, from, to)?;
            Some(FieldText { name, kind: field.kind.name(), from: column(from), to: column(to), text })
        };
        let of_line = |(pattern, spans): &(u32, Spans)| -> Vec<FieldText<'g, 'm>> {
            let variant = self.grammar.variant(self.reading.group, *pattern);
            let items = variant.map(|variant| &variant.items);
            items.into_iter().flatten().filter_map(|item| held(item, spans)).collect()
        };
        lines.iter().flat_map(of_line).collect()
    }
}

impl Grammar {
    /// A line of the file, without the space around it.
    fn written(&self, line: u32) -> &str {
        self.text.lines().nth((line as usize).saturating_sub(1)).unwrap_or_default().trim()
    }

    /// Why [`read`](Self::read) finds nothing in this message.
    ///
    /// Takes time in proportion to all the grammar's rules, and is bounded for each.
    pub fn miss_reason(&self, message: &[u8]) -> MissReason<'_> {
        let message = message.trim_ascii_end();
        let (mut read, mut unmet) = (false, Vec::new());
        let CompiledRules { matcher, variants, rules, .. } = self.compiled();
        matcher.read(message, None, |reading, spans, text| {
            read = true;
            let group = self.group(reading.group)?;
            if let Meaning::First(conditions) = &group.meaning {
                let failing = conditions.unmet(text, spans, group.is_record);
                unmet.extend(failing.filter_map(|(c, slot)| self.unmet(c, slot, &group.names, text, spans)));
            }
            None::<()>
        });
        if read {
            return MissReason::Unmet(unmet);
        }
        if let Some((line, why)) = matcher.records().and_then(|records| records.miss(message)) {
            return MissReason::Record(RecordMiss { line, written: self.written(line), why });
        }
        let rules = || variants.iter().take(*rules);
        let tries: Vec<Try> = rules().map(|variant| Try::of(variant, message)).collect();
        let Some(best) = tries.iter().map(|reach| (reach.read, reach.at)).max().filter(|(read, _)| *read > 0)
        else {
            return MissReason::Unlike;
        };
        let reaches = |reach: &Try| (reach.read, reach.at) == best;
        let places = || rules().map(|variant| variant.place.line).zip(&tries);
        let nearest = places()
            .filter(|(_, reach)| reaches(reach))
            .max_by_key(|(line, reach)| (reach.partly, u32::MAX - line));
        let Some((line, _)) = nearest else { return MissReason::Unlike };
        let mut ways: Vec<&Try> = places()
            .filter(|(other, reach)| *other == line && reaches(reach))
            .map(|(_, reach)| reach)
            .collect();
        ways.sort_by_key(|reach| std::cmp::Reverse(reach.partly));
        let mut expected: Vec<String> = Vec::new();
        for way in ways {
            if expected.len() < WAYS && !expected.contains(&way.wants) {
                expected.push(way.wants.clone());
            }
        }
        MissReason::Unread(Closest { line, written: self.written(line), at: best.1, expected })
    }

    fn unmet<'g>(
        &'g self,
        condition: &Condition,
        slot: usize,
        names: &'g [Option<String>],
        message: &[u8],
        spans: &Spans,
    ) -> Option<Unmet<'g>> {
        let holds = spans.get(slot).and_then(|(from, to)| message.get(from as usize..to as usize));
        Some(Unmet {
            category: self.categories().get(usize::from(condition.category))?,
            line: condition.line,
            written: self.written(condition.line),
            field: names.get(slot)?.as_deref().unwrap_or_default(),
            holds: holds.map(<[u8]>::to_vec),
        })
    }
}

/// How far a variant reads a message.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Try {
    /// Bytes that its texts, as far as whole words, and closed fields take; what free text takes says nothing.
    read: usize,
    /// Where it stops.
    at: usize,
    /// Bytes of the word where it stops that are as they should be.
    partly: usize,
    /// What it wants there, as the rule has it.
    wants: String,
}

/// How many ways to go on are told.
const WAYS: usize = 4;

/// Steps after which a variant is no longer tried: free fields multiply.
const PATIENCE: usize = 1_000;

impl Try {
    fn of(variant: &Variant, message: &[u8]) -> Self {
        let mut patience = PATIENCE;
        Self::from(&variant.items, message, 0, 0, &mut patience)
    }

    /// Reads `items` from `at` on, after `read`; of all ways to fill free fields, the one that goes furthest.
    fn from(items: &[Item], message: &[u8], at: usize, read: usize, patience: &mut usize) -> Self {
        let stop =
            |at, read, partly, wants: &dyn ToString| Self { read, at, partly, wants: wants.to_string() };
        let rest = message.get(at..).unwrap_or_default();
        *patience = patience.saturating_sub(1);
        match items.split_first() {
            None if rest.is_empty() || *patience == 0 => stop(at, read, 0, &""),
            None => stop(at, read, 0, &"the end of the message"),
            Some((Item::Text(text), items)) => {
                let same = text.iter().zip(rest).take_while(|(a, b)| a == b).count();
                if same == text.len() {
                    return Self::from(items, message, at + same, read + same, patience);
                }
                let word = text.get(..same).and_then(|same| same.iter().rposition(|b| *b == b' '));
                let whole = word.map_or(0, |space| space + 1);
                stop(at + whole, read + whole, same - whole, &shown(text.get(whole..).unwrap_or_default()))
            }
            Some((Item::Field(field), items))
                if matches!(field.kind, FieldKind::Free | FieldKind::Unquoted) =>
            {
                let Some((Item::Text(text), behind)) = items.split_first() else {
                    return stop(message.len(), read, 0, &"");
                };
                let mut best = stop(at, read, 0, &format!("{} later", shown(text)));
                for from in memchr::memmem::find_iter(rest, text.as_slice()) {
                    if *patience == 0 {
                        break;
                    }
                    let end = at + from + text.len();
                    best = best.max(Self::from(behind, message, end, read + text.len(), patience));
                }
                best
            }
            Some((Item::Field(field), items)) if field.kind.is_address() => {
                // An address is one too where what follows it is not what should.
                let end = rest.iter().find(|b| !b.is_ascii_hexdigit() && !matches!(b, b':' | b'.')).copied();
                [field.stop, end]
                    .iter()
                    .flat_map(|stop| addresses(Field { stop: *stop, ..*field }, rest))
                    .map(|(length, _)| Self::from(items, message, at + length, read + length, patience))
                    .max()
                    .unwrap_or_else(|| stop(at, read, 0, &field.kind))
            }
            Some((Item::Field(field), items)) if field.kind == FieldKind::Time => {
                time::stamps(rest, field.stop)
                    .map(|length| Self::from(items, message, at + length, read + length, patience))
                    .max()
                    .unwrap_or_else(|| stop(at, read, 0, &field.kind))
            }
            Some((Item::Field(field), items)) => match extent(*field, rest) {
                Some(length) => Self::from(items, message, at + length, read + length, patience),
                None => stop(at, read, 0, &field.kind),
            },
        }
    }
}

fn shown(text: &[u8]) -> String {
    format!("`{}`", String::from_utf8_lossy(text))
}
