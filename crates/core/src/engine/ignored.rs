//! The lines of a batch that no grammar reads, by program: for a replay, which says what it says nothing about.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

/// The programs whose lines no grammar reads, in the order in which they came first, and how many lines each wrote.
#[derive(Clone, Debug, Default)]
pub struct IgnoredPrograms {
    /// The names side by side, no more than the records that they stand in.
    names: Vec<u8>,
    /// Where each name ends, and its lines.
    counted: Vec<(usize, u64)>,
    places: HashTable<usize>,
    hasher: DefaultHashBuilder,
    nameless: Option<Vec<u8>>,
}

impl IgnoredPrograms {
    /// The programs with their lines; an empty name is that of lines without one.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], u64)> {
        let starts = std::iter::once(0).chain(self.counted.iter().map(|(end, _)| *end));
        starts
            .zip(&self.counted)
            .filter_map(|(start, (end, lines))| Some((self.names.get(start..*end)?, *lines)))
    }

    /// The message of the first line that names no program.
    pub fn nameless(&self) -> Option<&[u8]> {
        self.nameless.as_deref()
    }

    /// Counts a line.
    pub(super) fn count(&mut self, program: &[u8], message: &[u8]) {
        self.add(program, 1);
        if program.is_empty() && self.nameless.is_none() {
            self.nameless = Some(message.to_vec());
        }
    }

    /// Adds those of the records that follow.
    pub(super) fn append(&mut self, other: &mut Self) {
        other.iter().for_each(|(program, lines)| self.add(program, lines));
        let theirs = other.nameless.take();
        self.nameless = self.nameless.take().or(theirs);
    }

    /// Forgets all, and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.names.clear();
        self.counted.clear();
        self.places.clear();
        self.nameless = None;
    }

    fn add(&mut self, program: &[u8], lines: u64) {
        let Self { names, counted, places, hasher, .. } = self;
        let name = |place: usize| {
            let start =
                place.checked_sub(1).and_then(|before| counted.get(before)).map_or(0, |(end, _)| *end);
            counted.get(place).and_then(|(end, _)| names.get(start..*end)).unwrap_or_default()
        };
        let hash = hasher.hash_one(program);
        match places.find(hash, |place| name(*place) == program).copied() {
            Some(place) => counted.get_mut(place).into_iter().for_each(|(_, known)| *known += lines),
            None => {
                places.insert_unique(hash, counted.len(), |place| hasher.hash_one(name(*place)));
                names.extend_from_slice(program);
                counted.push((names.len(), lines));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// These programs, each by one line, with the program as message.
    fn of(programs: &[&str]) -> IgnoredPrograms {
        let mut ignored = IgnoredPrograms::default();
        ignored.count(b"before", b"x");
        ignored.clear();
        programs.iter().for_each(|program| ignored.count(program.as_bytes(), program.as_bytes()));
        ignored
    }

    #[test]
    fn programs_are_counted_in_the_order_in_which_they_came() {
        let programs = ["b", "", "a", "b", "c", "", "d", "b"];
        let want: [(&[u8], u64); 5] = [(b"b", 3), (b"", 2), (b"a", 1), (b"c", 1), (b"d", 1)];
        for cut in 0..=programs.len() {
            let (first, rest) = programs.split_at(cut);
            let (mut first, mut rest) = (of(first), of(rest));
            first.append(&mut rest);
            assert_eq!(first.iter().collect::<Vec<_>>(), want);
            assert_eq!(first.nameless(), Some(&b""[..]));
        }
        assert_eq!(of(&[]).iter().count(), 0);
        assert_eq!(of(&["a"]).nameless(), None);
    }
}
