//! What was read of the fields that many entries share: whether they match, what they are, and what they ask for.
//!
//! Of the 23 fields of an entry all but about four stand in data objects that others use, too. Those are read once,
//! remembered by their offset, and not looked at again until another needs their slot.

use crate::filter::Interest;

/// How many are remembered of a file, each in one slot.
const SLOTS: usize = 4096;

/// The longest field that is remembered, in bytes.
const LONGEST: usize = 104;

/// What is remembered of data objects.
#[derive(Default)]
pub(crate) struct FieldCache {
    /// Apart from the fields, since most of what is met nobody asked for: so this stays in the processor's cache.
    slots: Vec<CachedField>,
    fields: Vec<[u8; LONGEST]>,
}

#[derive(Clone)]
struct CachedField {
    offset: u64,
    is_match: Option<bool>,
    interest: Option<Interest>,
    content: Content,
    length: u8,
}

/// What is known of a data object's field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Unknown,
    /// Nobody asked for it.
    Unwanted,
    Wanted,
}

/// What is remembered of a field.
pub(crate) enum Remembered<'c> {
    Nothing,
    Unwanted,
    Field(&'c [u8]),
}

impl FieldCache {
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether the field at an offset is one that is searched for.
    pub(crate) fn is_match(&self, offset: u64) -> Option<bool> {
        self.slot(offset)?.is_match
    }

    /// What the field at an offset asks for.
    pub(crate) fn interest(&self, offset: u64) -> Option<Interest> {
        self.slot(offset)?.interest
    }

    pub(crate) fn field(&self, offset: u64) -> Remembered<'_> {
        match self.slot(offset).map(|slot| (slot, slot.content)) {
            None | Some((_, Content::Unknown)) => Remembered::Nothing,
            Some((_, Content::Unwanted)) => Remembered::Unwanted,
            Some((slot, Content::Wanted)) => {
                let field =
                    self.fields.get(place(offset)).and_then(|field| field.get(..usize::from(slot.length)));
                field.map_or(Remembered::Nothing, Remembered::Field)
            }
        }
    }

    pub(crate) fn set_match(&mut self, offset: u64, is_match: bool) {
        self.claim(offset, |slot| slot.is_match = Some(is_match));
    }

    pub(crate) fn set_interest(&mut self, offset: u64, interest: Interest) {
        self.claim(offset, |slot| slot.interest = Some(interest));
    }

    /// Remembers a field; `None` where nobody asked for it. A long one is not remembered.
    pub(crate) fn set_field(&mut self, offset: u64, field: Option<&[u8]>) {
        let Some(field) = field else {
            self.claim(offset, |slot| slot.content = Content::Unwanted);
            return;
        };
        let Some(length) = u8::try_from(field.len()).ok().filter(|length| usize::from(*length) <= LONGEST)
        else {
            return;
        };
        self.claim(offset, |slot| (slot.content, slot.length) = (Content::Wanted, length));
        if let Some(place) = self.fields.get_mut(place(offset)).and_then(|place| place.get_mut(..field.len()))
        {
            place.copy_from_slice(field);
        }
    }

    fn slot(&self, offset: u64) -> Option<&CachedField> {
        self.slots.get(place(offset)).filter(|slot| slot.offset == offset)
    }

    /// Changes the slot of an offset, which forgets any other that it was of.
    fn claim(&mut self, offset: u64, change: impl FnOnce(&mut CachedField)) {
        let empty =
            CachedField { offset, is_match: None, interest: None, content: Content::Unknown, length: 0 };
        if self.slots.is_empty() {
            self.slots = vec![CachedField { offset: 0, ..empty.clone() }; SLOTS];
            self.fields = vec![[0; LONGEST]; SLOTS];
        }
        if let Some(slot) = self.slots.get_mut(place(offset)) {
            if slot.offset != offset {
                *slot = empty;
            }
            change(slot);
        }
    }
}

/// Objects are aligned to eight bytes.
fn place(offset: u64) -> usize {
    ((offset >> 3).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - SLOTS.ilog2())) as usize
}
