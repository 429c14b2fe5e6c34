//! Reads lines from standard input or another reader. It is the one source that ends: a pipe into `banstream run`, and
//! every replay of a file.

use std::io::{ErrorKind, Read, Result};
use std::mem;
use std::ops::ControlFlow;

use memchr::memchr_iter;

use super::lines::LONGEST;
use crate::entry::records::Records;

/// Bytes asked for at once: 2,000 lines or so of a file, enough to share out between cores.
const PIECE: usize = 256 << 10;

/// Reads `input` to its end and gives its lines to `sink`, with how many of them were too long, until that breaks off.
///
/// What stands after the last `\n` is a line too. A read that blocks cannot be ended from outside: give this
/// a thread that nobody has to wait for. Lines over [`LONGEST`] become empty ones, as those of
/// [`Lines`](super::lines::Lines).
///
/// Lines stay where they were read, since two copies of each would cost as much as to decode it.
pub fn read(mut input: impl Read, mut sink: impl FnMut(&mut Records, u64) -> ControlFlow<()>) -> Result<()> {
    let (mut bytes, mut ends, mut rest) = (Vec::new(), Vec::new(), Vec::new());
    // How far the bytes are filled.
    let mut filled = 0;
    // Whether the beginning of the line that is read has been thrown away.
    let mut is_beheaded = false;
    loop {
        if bytes.len() < filled + PIECE {
            bytes.resize(filled + PIECE, 0);
        }
        let place = bytes.get_mut(filled..filled + PIECE).unwrap_or_default();
        let read = match input.read(place) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            read => read?,
        };
        ends.extend(memchr_iter(b'\n', place.get(..read).unwrap_or_default()).map(|at| filled + at + 1));
        filled += read;
        if read == 0
            && filled > 0
            && !is_beheaded
            && let Some(end) = bytes.get_mut(filled)
        {
            *end = b'\n';
            filled += 1;
            ends.push(filled);
        }
        // The first line alone can be so long.
        let first = ends.first().map_or(filled, |end| end - 1);
        let is_overlong = !ends.is_empty() && (is_beheaded || first > LONGEST);
        if is_overlong || first > LONGEST {
            bytes.drain(..first);
            filled -= first;
            ends.iter_mut().for_each(|end| *end -= first);
            is_beheaded = !is_overlong;
        }
        if let Some(end) = ends.last() {
            rest.clear();
            rest.extend_from_slice(bytes.get(*end..filled).unwrap_or_default());
            let mut records = Records::of_lines(mem::take(&mut bytes), mem::take(&mut ends));
            if sink(&mut records, u64::from(is_overlong)).is_break() {
                return Ok(());
            }
            (bytes, ends) = records.into_buffers();
            bytes.resize(bytes.len().max(rest.len()), 0);
            bytes.get_mut(..rest.len()).into_iter().for_each(|place| place.copy_from_slice(&rest));
            filled = rest.len();
            ends.clear();
        }
        if read == 0 {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::lines::Lines;
    use super::*;

    /// Gives one piece at a time.
    struct Pieces<'p>(Vec<&'p [u8]>);

    impl Read for Pieces<'_> {
        fn read(&mut self, place: &mut [u8]) -> Result<usize> {
            let Some(piece) = self.0.first_mut() else { return Ok(0) };
            let read = piece.read(place)?;
            if piece.is_empty() {
                self.0.remove(0);
            }
            Ok(read)
        }
    }

    /// The lines of these pieces, and how many were too long.
    fn lines(pieces: &[&[u8]]) -> (Vec<Vec<u8>>, u64) {
        let (mut got, mut overlong) = (Vec::new(), 0);
        let sink = |records: &mut Records, more| {
            assert!(!records.is_empty());
            got.extend(records.iter().map(<[u8]>::to_vec));
            // What decoding leaves of them.
            records.whole().for_each(|record| record.fill(b'\n'));
            overlong += more;
            ControlFlow::Continue(())
        };
        read(Pieces(pieces.iter().copied().filter(|piece| !piece.is_empty()).collect()), sink).unwrap();
        (got, overlong)
    }

    #[track_caller]
    fn check(input: &[u8], want: &[&[u8]]) {
        assert_eq!(lines(&[input]).0, want);
    }

    #[test]
    fn the_last_line_needs_no_line_end() {
        check(b"", &[]);
        check(b"one\ntwo\n", &[b"one", b"two"]);
        check(b"one\n\ntwo", &[b"one", b"", b"two"]);
    }

    #[test]
    fn lines_are_those_that_are_copied_wherever_the_pieces_end() {
        let of_lines = |pieces: &[&[u8]]| {
            let (mut lines, mut got) = (Lines::default(), Vec::new());
            for piece in pieces {
                lines.feed(piece);
                while let Some(line) = lines.line() {
                    got.push(line.to_vec());
                }
            }
            got.extend(lines.unfinished().map(<[u8]>::to_vec));
            (got, lines.take_overlong())
        };
        let (longest, more) = (vec![b'x'; LONGEST], vec![b'y'; LONGEST + 1]);
        let text = [
            b"a\n\n",
            &*longest,
            b"\nb\n",
            &*more,
            b"\n",
            &*more,
            &*more,
            b"\nc\n\xff\0\n",
            &*longest,
            b"\n",
            &*longest,
        ]
        .concat();
        for end in [text.len(), text.len() - 1, 3, 2, 1, LONGEST + 3, LONGEST * 2 + 9, LONGEST * 3] {
            let text = &text[..end];
            for size in [1 << 16, PIECE - 1, PIECE, PIECE + 1, LONGEST, LONGEST + 1, usize::MAX] {
                let pieces: Vec<&[u8]> = text.chunks(size).collect();
                assert!(lines(&pieces) == of_lines(&pieces), "{end} {size}");
            }
        }
    }

    #[test]
    fn reading_ends_when_the_sink_breaks_off() {
        let mut batches = 0;
        let endless = std::io::repeat(b'\n');
        let sink = |_: &mut Records, _| {
            batches += 1;
            ControlFlow::Break(())
        };
        read(endless, sink).unwrap();
        assert_eq!(batches, 1);
    }
}
