//! What patterns are made of: a field and the text behind it, which are read in one step.

use memchr::{memchr, memchr2};

use super::address::in_addresses;
use crate::entry::scan::{self, Literal, digits, until};
use crate::grammar::proof::{is_letter, is_zone};
use crate::grammar::source::FieldKind;
use crate::grammar::time;
use crate::grammar::variant::{Field, Item, is_name};
use crate::model::JoinKey;

/// A field, if there is one, and the text behind it, which may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) field: StepField,
    pub(super) slot: u8,
    pub(super) text: Literal,
}

/// What the field of a step takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum StepField {
    /// There is no field.
    None,
    Num,
    /// What stands before one of these bytes; at least so many bytes, and at most so many.
    Until([u8; 2], usize, usize),
    /// What stands before one of these, or nothing.
    UntilAny([u8; 3]),
    /// What stands before the next quotation mark that no backslash makes plain.
    Quoted,
    Address(Field),
    Host,
    Other(Field),
    /// An address or a time whose end is not plain from the next character.
    Open(Field),
}

impl StepField {
    /// A field, and the text behind it, which is empty at the end of a message.
    pub(super) fn of(field: Field, behind: &[u8]) -> Self {
        let stop = field.stop.unwrap_or(b' ');
        match field.kind {
            FieldKind::Num => Self::Num,
            FieldKind::Word => Self::Until([b' ', stop], 1, usize::MAX),
            FieldKind::Key(_) => Self::Until([b' ', stop], 1, JoinKey::LONGEST),
            FieldKind::Without(set) => {
                let stops: Vec<u8> =
                    (0..=u8::MAX).filter(|b| set.holds(*b) || Some(*b) == field.stop).collect();
                match *stops {
                    [a] => Self::Until([a, a], 0, usize::MAX),
                    [a, b] => Self::Until([a, b], 0, usize::MAX),
                    [a, b, c] => Self::UntilAny([a, b, c]),
                    _ => Self::Other(field),
                }
            }
            FieldKind::Quoted if field.stop.is_some() => Self::Quoted,
            _ if Self::is_open(field, behind) => Self::Open(field),
            FieldKind::Ip | FieldKind::Ipv4 => Self::Address(field),
            FieldKind::Host => Self::Host,
            _ => Self::Other(field),
        }
    }

    /// Whether the end of a field is not plain from the next character.
    pub(super) fn is_open(field: Field, behind: &[u8]) -> bool {
        match field.kind {
            FieldKind::Ip | FieldKind::Ipv4 => {
                field.stop.is_some_and(|stop| in_addresses(stop) || is_zone(stop))
            }
            FieldKind::Time => !behind.is_empty() && time::goes_on(behind),
            _ => false,
        }
    }
}

impl Step {
    pub(super) fn new(field: Option<(StepField, u8)>, text: &[u8]) -> Self {
        let (field, slot) = field.unwrap_or((StepField::None, u8::MAX));
        Self { field, slot, text: Literal::new(text) }
    }

    /// The steps of fields and texts.
    pub(super) fn all(items: &[Item]) -> Vec<Self> {
        let mut steps = Vec::new();
        let mut items = items.iter().peekable();
        while let Some(item) = items.next() {
            let (field, text) = match item {
                Item::Text(text) => (None, text.as_slice()),
                Item::Field(field) => {
                    let text = match items.next_if(|next| matches!(next, Item::Text(_))) {
                        Some(Item::Text(text)) => text.as_slice(),
                        _ => &[],
                    };
                    (Some((StepField::of(*field, text), field.slot)), text)
                }
            };
            steps.push(Self::new(field, text));
        }
        steps
    }
}

/// How many bytes of `text` there are before the first that does not hold.
pub(super) fn run(text: &[u8], mut holds: impl FnMut(u8) -> bool) -> usize {
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
}
pub(super) use table;

/// What names of hosts are made of, by byte.
const IN_NAMES: [bool; 256] = table!(|byte| is_name(byte));
const LETTERS: [bool; 256] = table!(|byte| is_letter(byte));

/// How many bytes of `rest` the field takes; `None` if what stands there does not fit.
pub(in crate::grammar) fn extent(field: Field, rest: &[u8]) -> Option<usize> {
    let length = match field.kind {
        FieldKind::Num => digits(rest, 0),
        FieldKind::Word => until(rest, 0, [b' ', field.stop.unwrap_or(b' ')]),
        FieldKind::Key(_) => {
            return Some(until(rest, 0, [b' ', field.stop.unwrap_or(b' ')]))
                .filter(|length| (1..=JoinKey::LONGEST).contains(length));
        }
        FieldKind::Quoted if field.stop.is_none() => return quoted(rest, 0).is_none().then_some(rest.len()),
        FieldKind::Quoted => return quoted(rest, 0),
        // Only in the value of a record.
        FieldKind::Forwarded if field.stop.is_none() => return Some(rest.len()),
        FieldKind::Forwarded if field.stop != Some(b'"') => return memchr(field.stop?, rest),
        FieldKind::Forwarded => return quoted(rest, 0),
        FieldKind::Without(set) => {
            return Some(run(rest, |b| !set.holds(b) && Some(b) != field.stop));
        }
        FieldKind::Time => return time::stamps(rest, field.stop).next(),
        FieldKind::Rest => match rest.first() {
            Some(b'"') => 0,
            _ => rest.len(),
        },
        FieldKind::Host => return host(rest),
        FieldKind::Free | FieldKind::Unquoted | FieldKind::Ip | FieldKind::Ipv4 => return None,
    };
    (length > 0).then_some(length)
}

/// How long the name of a host is that `rest` begins with, with its port.
pub(super) fn host(rest: &[u8]) -> Option<usize> {
    let mut letter = false;
    let name = run(rest, |b| {
        letter |= LETTERS.get(usize::from(b)) == Some(&true);
        IN_NAMES.get(usize::from(b)) == Some(&true)
    });
    if !letter {
        return None;
    }
    Some(match rest.get(name..)? {
        [b':', port @ ..] => match scan::digits(port, 0) {
            0 => name,
            digits => name + 1 + digits,
        },
        _ => name,
    })
}

/// Where the next quotation mark from `at` on stands that no backslash makes plain.
#[inline(always)]
pub(super) fn quoted(text: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += memchr2(b'"', b'\\', text.get(at..)?)?;
        match text.get(at)? {
            b'"' => return Some(at),
            _ => at += 2,
        }
    }
}
