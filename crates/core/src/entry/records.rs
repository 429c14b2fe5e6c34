//! Records side by side in one buffer: sources collect them, and a batch can be split for several cores.

use super::Format;
use super::whole::MessageCounts;

/// Records of one format, in the order in which they came.
#[derive(Debug)]
pub struct Records {
    format: Format,
    /// What stands behind the last record is part of none.
    bytes: Vec<u8>,
    /// Where each record ends, and what stands between it and the next.
    ends: Vec<usize>,
    /// How much that is: 1 where lines were read in place, with their `\n`.
    between: usize,
    /// What became of messages before they were records.
    pub messages: MessageCounts,
}

impl Records {
    /// No records yet.
    pub fn new(format: Format) -> Self {
        Self { format, bytes: Vec::new(), ends: Vec::new(), between: 0, messages: MessageCounts::default() }
    }

    /// The lines in a buffer, from its beginning on; `ends` says where each ends, behind its `\n`. Copies nothing.
    pub fn of_lines(bytes: Vec<u8>, ends: Vec<usize>) -> Self {
        Self { bytes, ends, between: 1, ..Self::new(Format::Line) }
    }

    /// The memory that they were made of, for others.
    pub fn into_buffers(self) -> (Vec<u8>, Vec<usize>) {
        (self.bytes, self.ends)
    }

    /// How each record is laid out.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Forgets all, and keeps the memory.
    pub fn clear(&mut self) {
        self.ends.clear();
        self.messages = MessageCounts::default();
    }

    /// Adds one record, which may be empty.
    pub fn push(&mut self, record: &[u8]) {
        self.push_with(|bytes| bytes.extend_from_slice(record));
    }

    /// Adds one record: whatever `write` appends. It must not touch what is there already.
    pub fn push_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.bytes.truncate(self.end());
        write(&mut self.bytes);
        self.bytes.resize(self.bytes.len() + self.between, b'\n');
        self.ends.push(self.bytes.len());
    }

    /// Removes the records of which `is_out` holds, by their place.
    pub fn remove(&mut self, is_out: impl Fn(usize) -> bool) {
        let mut rest = Self::new(self.format);
        let records = self.iter().enumerate().filter(|(nth, _)| !is_out(*nth));
        records.for_each(|(_, record)| rest.push(record));
        rest.messages = self.messages;
        *self = rest;
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// How many bytes all records have together.
    pub fn size(&self) -> usize {
        self.end().saturating_sub(self.between * self.ends.len())
    }

    fn end(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// The records.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts
            .zip(&self.ends)
            .filter_map(|(start, end)| self.bytes.get(start..end.checked_sub(self.between)?))
    }

    /// All of them as one piece.
    pub fn whole(&mut self) -> Piece<'_> {
        Piece {
            format: self.format,
            bytes: &mut self.bytes,
            ends: &self.ends,
            between: self.between,
            start: 0,
        }
    }

    /// At most `pieces` pieces with equally many records each, in order.
    pub fn split(&mut self, pieces: usize) -> Vec<Piece<'_>> {
        let size = self.ends.len().div_ceil(pieces.max(1)).max(1);
        let (mut bytes, mut start) = (&mut *self.bytes, 0);
        let cut = self.ends.chunks(size).map_while(|ends| {
            let end = ends.last().copied()?;
            let (piece, rest) = std::mem::take(&mut bytes).split_at_mut_checked(end - start)?;
            bytes = rest;
            let start = std::mem::replace(&mut start, end);
            Some(Piece { format: self.format, bytes: piece, ends, between: self.between, start })
        });
        cut.collect()
    }
}

impl Clone for Records {
    /// With as much memory as they need.
    fn clone(&self) -> Self {
        let Self { format, bytes, ends, between, messages } = self;
        let bytes = bytes.get(..self.end()).unwrap_or_default().to_vec();
        Self { format: *format, bytes, ends: ends.clone(), between: *between, messages: *messages }
    }
}

/// Some records that stand side by side.
#[derive(Debug)]
pub struct Piece<'a> {
    format: Format,
    bytes: &'a mut [u8],
    ends: &'a [usize],
    between: usize,
    /// Where the first record begins, as `ends` counts.
    start: usize,
}

impl<'a> Piece<'a> {
    /// How each record is laid out.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Hands over each record, to be read and overwritten.
    pub fn for_each(self, mut read: impl FnMut(&mut [u8])) {
        let (mut rest, mut start) = (self.bytes, self.start);
        for end in self.ends {
            let Some((record, behind)) = rest.split_at_mut_checked(end - start) else { return };
            let length = record.len().saturating_sub(self.between);
            record.get_mut(..length).into_iter().for_each(&mut read);
            (rest, start) = (behind, *end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The records of each piece, when so many pieces are asked for.
    #[track_caller]
    fn check(pieces: usize, want: &[&[&str]]) {
        let mut pushed = Records::new(Format::Line);
        ["a", "", "ccc", "dd", "e"].iter().for_each(|record| pushed.push(record.as_bytes()));
        let in_place = Records::of_lines(b"a\n\nccc\ndd\ne\nf".to_vec(), vec![2, 3, 7, 10, 12]);
        let read = |piece: Piece<'_>| {
            let mut texts = Vec::new();
            piece.for_each(|record| texts.push(String::from_utf8(record.to_vec()).unwrap()));
            texts
        };
        for mut records in [pushed, in_place.clone(), in_place] {
            assert_eq!(records.split(pieces).into_iter().map(read).collect::<Vec<_>>(), want);
            assert_eq!([read(records.whole())], [want.concat()]);
        }
    }

    #[test]
    fn pieces_hold_all_records_in_order() {
        check(1, &[&["a", "", "ccc", "dd", "e"]]);
        check(2, &[&["a", "", "ccc"], &["dd", "e"]]);
        check(9, &[&["a"], &[""], &["ccc"], &["dd"], &["e"]]);
        check(0, &[&["a", "", "ccc", "dd", "e"]]);
    }

    #[test]
    fn records_come_back_as_they_went_in() {
        let want: [&[u8]; 5] = [b"", b"one", b"", b"two\nlines\0", b"\xff"];
        let mut records = Records::new(Format::Journal);
        want.iter().for_each(|record| records.push(record));
        assert_eq!(records.iter().collect::<Vec<_>>(), want);
        assert_eq!((records.len(), records.size()), (5, 14));
        records.remove(|nth| nth % 2 == 0);
        assert_eq!(records.iter().collect::<Vec<_>>(), [want[1], want[3]]);
        records.remove(|_| true);
        assert!(records.is_empty() && records.iter().next().is_none());
    }

    #[test]
    fn lines_that_were_read_in_place_are_records_like_others() {
        let mut records = Records::of_lines(b"one\n\ntwo\nthr".to_vec(), vec![4, 5, 9]);
        assert_eq!((records.len(), records.size()), (3, 6));
        records.push(b"four");
        let want: [&[u8]; 4] = [b"one", b"", b"two", b"four"];
        assert_eq!(records.iter().collect::<Vec<_>>(), want);
        records.remove(|nth| nth == 1);
        assert_eq!(records.iter().collect::<Vec<_>>(), [want[0], want[2], want[3]]);
    }
}
