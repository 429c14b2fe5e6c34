//! Reads lines from standard input or another reader. It is the one source that ends: a pipe into `banstream run`, and
//! every replay of a file.

use std::io::{ErrorKind, Read, Result};
use std::ops::ControlFlow;

use super::Batch;
use super::lines::Lines;
use crate::entry::Format;

/// Bytes asked for at once: 2,000 lines or so of a file, enough to share out between cores.
const PIECE: usize = 256 << 10;

/// Reads `input` to its end and gives its lines to `sink`, until that breaks off.
///
/// What stands after the last `\n` is a line too. A read that blocks cannot be ended from outside: give this
/// a thread that nobody has to wait for. Lines over [`LONGEST`](super::lines::LONGEST) become empty ones.
pub fn read(mut input: impl Read, mut sink: impl FnMut(Batch) -> ControlFlow<()>) -> Result<()> {
    let mut lines = Lines::default();
    let mut piece = vec![0; PIECE];
    loop {
        let mut batch = Batch::new("stdin", Format::Line);
        let read = match input.read(&mut piece) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            read => read?,
        };
        lines.feed(piece.get(..read).unwrap_or_default());
        batch.records.reserve(read);
        while let Some(line) = lines.line() {
            batch.records.push(line);
        }
        if read == 0
            && let Some(line) = lines.unfinished()
        {
            batch.records.push(line);
        }
        batch.overlong = lines.take_overlong();
        if (!batch.records.is_empty() && sink(batch).is_break()) || read == 0 {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(input: &[u8], want: &[&[u8]]) {
        let mut got = Vec::new();
        let sink = |batch: Batch| {
            got.extend(batch.records.iter().map(<[u8]>::to_vec));
            ControlFlow::Continue(())
        };
        read(input, sink).unwrap();
        assert_eq!(got, want);
    }

    #[test]
    fn the_last_line_needs_no_line_end() {
        check(b"", &[]);
        check(b"one\ntwo\n", &[b"one", b"two"]);
        check(b"one\n\ntwo", &[b"one", b"", b"two"]);
    }

    #[test]
    fn reading_ends_when_the_sink_breaks_off() {
        let mut batches = 0;
        let endless = std::io::repeat(b'\n');
        let sink = |_| {
            batches += 1;
            ControlFlow::Break(())
        };
        read(endless, sink).unwrap();
        assert_eq!(batches, 1);
    }
}
