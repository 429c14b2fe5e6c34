//! What each field of a rule held.

use crate::grammar::variant::SLOTS;

/// What each field of a rule held, by slot, as byte offsets into the message.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::grammar) struct Spans {
    at: [(u32, u32); SLOTS],
    /// Bit n is set where slot n is part of the message: those of the pattern that was read.
    pub(super) present: u32,
}

impl Spans {
    /// What the field held; `None` where it is not part of the message.
    pub(in crate::grammar) fn get(&self, slot: usize) -> Option<(u32, u32)> {
        self.at.get(slot).copied().filter(|_| self.present >> slot & 1 == 1)
    }

    /// Notes what a field held that is part of the message.
    pub(in crate::grammar) fn put(&mut self, slot: u8, from: usize, to: usize) {
        self.set(slot, from, to);
        self.present |= 1 << slot;
    }

    /// Adds what other fields held, `start` bytes further on.
    pub(in crate::grammar) fn add(&mut self, other: &Self, start: usize) {
        let mut more = other.present & !self.present;
        while more != 0 {
            let slot = more.trailing_zeros() as u8;
            more &= more - 1;
            if let Some((from, to)) = other.get(slot.into()) {
                self.put(slot, start + from as usize, start + to as usize);
            }
        }
    }

    /// Notes what a field held; whether it is part of the message shows later.
    #[inline(always)]
    pub(super) fn set(&mut self, slot: u8, from: usize, to: usize) {
        // A message of 4 GiB or more is not read at all.
        self.at.get_mut(usize::from(slot)).into_iter().for_each(|at| *at = (from as u32, to as u32));
    }
}
