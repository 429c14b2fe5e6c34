//! Splits a stream of bytes into lines, for the socket, standard input, and the child that rsyslog starts.
//!
//! The stream comes in pieces that end anywhere, so this keeps the beginning of a line until its end arrives. Any byte
//! but `\n` is part of a line, including NUL, `\r` and bytes that are not UTF-8.

use std::mem;

use memchr::memchr;

/// The longest line that is passed on, in bytes, without its end: 1 MiB (rsyslog's own default is 8 KiB).
pub const LONGEST: usize = 1 << 20;

/// The lines of a stream, as far as it has been read.
///
/// A line over [`LONGEST`] comes out as an empty one and is counted: a part of it could be read as a message
/// with another address than the whole has. So no more than [`LONGEST`] bytes and one piece are ever kept.
#[derive(Debug, Default)]
pub struct Lines {
    bytes: Vec<u8>,
    /// Where the next line begins.
    start: usize,
    /// How far there is certainly no line end.
    searched: usize,
    /// Whether the beginning of the next line has been thrown away.
    beheaded: bool,
    overlong: u64,
}

impl Lines {
    /// Adds what was read. Take all lines out first, or they pile up.
    pub fn feed(&mut self, piece: &[u8]) {
        self.bytes.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        self.bytes.extend_from_slice(piece);
    }

    /// The next line, without its `\n`; `None` where its end has not been read yet.
    ///
    /// Takes time linear in what was fed, however small the pieces.
    pub fn line(&mut self) -> Option<&[u8]> {
        let Some(ahead) = memchr(b'\n', self.bytes.get(self.searched..)?) else {
            self.searched = self.bytes.len();
            if self.searched - self.start > LONGEST {
                *self = Self { beheaded: true, overlong: self.overlong, ..Self::default() };
            }
            return None;
        };
        let end = self.searched + ahead;
        let start = mem::replace(&mut self.start, end + 1);
        self.searched = self.start;
        if mem::take(&mut self.beheaded) || end - start > LONGEST {
            self.overlong += 1;
            return Some(&[]);
        }
        self.bytes.get(start..end)
    }

    /// What was read of a line whose end has not come, if anything. Ask when the stream is over and all lines
    /// are taken out.
    pub fn unfinished(&self) -> Option<&[u8]> {
        self.bytes.get(self.start..).filter(|rest| !rest.is_empty() && !self.beheaded)
    }

    /// How many lines have come out empty since this was last asked, because they were too long.
    pub fn take_overlong(&mut self) -> u64 {
        mem::take(&mut self.overlong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds these pieces one after the other; the lines that came out.
    #[track_caller]
    fn check(pieces: &[&[u8]], want: &[&[u8]], unfinished: Option<&[u8]>, overlong: u64) {
        let mut lines = Lines::default();
        let mut got = Vec::new();
        for piece in pieces {
            lines.feed(piece);
            while let Some(line) = lines.line() {
                got.push(line.to_vec());
            }
            assert!(lines.bytes.len() <= LONGEST + piece.len());
        }
        assert_eq!(got, want);
        assert_eq!(lines.unfinished(), unfinished);
        assert_eq!(lines.take_overlong(), overlong);
        assert_eq!(lines.take_overlong(), 0);
    }

    #[test]
    fn a_line_ends_at_its_line_feed_wherever_the_pieces_end() {
        check(&[], &[], None, 0);
        check(&[b"a\nb\n"], &[b"a", b"b"], None, 0);
        check(&[b"a", b"\n", b"", b"b", b"c\nd"], &[b"a", b"bc"], Some(b"d"), 0);
        let bytes: Vec<&[u8]> = b"one\n\ntwo\n".chunks(1).collect();
        check(&bytes, &[b"one", b"", b"two"], None, 0);
    }

    #[test]
    fn every_other_byte_is_part_of_the_line() {
        check(&[b"\0\xff\r\n\r\n\x1b[0m\n"], &[b"\0\xff\r", b"\r", b"\x1b[0m"], None, 0);
        check(&[b"\n\n\n"], &[b"", b"", b""], None, 0);
    }

    #[test]
    fn a_line_of_the_longest_passes_and_one_byte_more_does_not() {
        let longest = vec![b'x'; LONGEST];
        check(&[&longest, b"\nnext\n"], &[&longest, b"next"], None, 0);
        check(&[&longest, b"x\nnext\n"], &[b"", b"next"], None, 1);
        check(&[&longest, b"x", &longest, b"\nnext\n"], &[b"", b"next"], None, 1);
        check(&[&longest, b"x", b"y"], &[], None, 0);
        let three = [&longest[..], &longest, b"x\n"].concat();
        check(&[&three, &three, b"next\n"], &[b"", b"", b"next"], None, 2);
    }
}
