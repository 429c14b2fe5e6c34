//! The forms of messages that rules describe, for those who try a grammar with messages of their own making.

use super::source::FieldKind;
use super::variant::{Item, Variant};

/// One way to write a message that a rule describes: the rule with all its choices made.
#[derive(Clone, Debug)]
pub struct MessageForm<'g> {
    /// The line of the rule in its file, from 1.
    pub line: u32,
    /// Its parts, in their order.
    pub parts: Vec<FormPart<'g>>,
}

/// A part of a [form](MessageForm).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormPart<'g> {
    /// Text that stands for itself.
    Text(&'g str),
    /// The address.
    Address,
    /// When the server wrote the line.
    Time,
    /// Digits.
    Number,
    /// Anything without a space.
    Word,
    /// Anything else that varies.
    Free,
}

impl<'g> MessageForm<'g> {
    /// The form of a variant; `None` where a text in it is not UTF-8.
    pub(super) fn of(variant: &'g Variant) -> Option<Self> {
        let part = |item: &'g Item| {
            Some(match item {
                Item::Text(text) => FormPart::Text(std::str::from_utf8(text).ok()?),
                Item::Field(field) => match field.kind {
                    kind if kind.is_address() => FormPart::Address,
                    FieldKind::Time => FormPart::Time,
                    FieldKind::Num => FormPart::Number,
                    FieldKind::Word => FormPart::Word,
                    FieldKind::Without(set) if set.holds(b' ') => FormPart::Word,
                    _ => FormPart::Free,
                },
            })
        };
        let parts = variant.items.iter().map(part).collect::<Option<_>>()?;
        Some(Self { line: variant.place.line, parts })
    }
}
