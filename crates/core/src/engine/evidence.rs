//! What is kept of messages with offences.

/// The messages with offences, and the rules that matched.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    bytes: Vec<u8>,
    /// Where each message ends, and the rule's line in its grammar's file. No batch is nearly 4 GiB long.
    found: Vec<(u32, u32)>,
}

/// The longest part of a message that is kept as evidence, in bytes. What a stranger typed may be longer.
const LONGEST: usize = 512;

impl Evidence {
    /// The message of the n-th offence, or its beginning, and the line of the rule in its grammar's file.
    pub fn get(&self, nth: usize) -> Option<(&[u8], u32)> {
        let (end, rule) = *self.found.get(nth)?;
        let start = nth.checked_sub(1).and_then(|before| self.found.get(before)).map_or(0, |(end, _)| *end);
        Some((self.bytes.get(start as usize..end as usize)?, rule))
    }

    /// How many offences there are.
    pub(super) fn count(&self) -> usize {
        self.found.len()
    }

    /// The bytes it takes.
    pub fn size(&self) -> usize {
        self.bytes.len() + self.found.len() * size_of::<(u32, u32)>()
    }

    /// Notes the message of one more offence and the line of its rule.
    pub fn push(&mut self, message: &[u8], rule: u32) {
        self.bytes.extend_from_slice(message.get(..LONGEST).unwrap_or(message));
        self.found.push((self.bytes.len() as u32, rule));
    }

    /// Keeps the messages of the first so many offences, and the rules of all.
    pub fn keep_first(&mut self, most: usize) {
        let end = most.checked_sub(1).and_then(|last| self.found.get(last)).map_or(0, |(end, _)| *end);
        if let Some(rest) = self.found.get_mut(most..) {
            self.bytes.truncate(end as usize);
            rest.iter_mut().for_each(|(their_end, _)| *their_end = end);
        }
    }

    /// Gives back the memory that it does not need.
    pub fn shrink_to_fit(&mut self) {
        self.bytes.shrink_to_fit();
        self.found.shrink_to_fit();
    }

    pub(super) fn append(&mut self, other: &Evidence) {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(&other.bytes);
        self.found.extend(other.found.iter().map(|(end, rule)| (start + end, *rule)));
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.found.clear();
    }
}
