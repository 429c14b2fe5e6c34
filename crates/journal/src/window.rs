//! Reads a file through a few windows, and copies nothing that is in one of them.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// How much of a file a window shows that is read from its beginning to its end: from a multiple of this, and so much
/// further, so that all but the largest objects are in one window as a whole.
const CHUNK: u64 = 64 << 10;
pub(crate) const FURTHER: usize = 4096;

/// What is shown where only little is read, from a page on: an entry stands right behind its data.
const PAGE: u64 = 4096;
const LITTLE: usize = 4 * PAGE as usize;

/// What is shown where it was read before, as single objects only are read again.
const AGAIN: usize = FURTHER + 64;

/// Entries stand in one place, their arrays in another, shared data in a third.
const WINDOWS: usize = 4;

#[derive(Default)]
pub(crate) struct FileWindows {
    windows: [Window; WINDOWS],
    /// Which one was used last.
    last: usize,
    /// How often they were used, so that the one unused the longest makes room.
    uses: u64,
    /// Up to where the file was read through large windows.
    front: u64,
    /// Whether much is to be read.
    pub(crate) is_bulk: bool,
    /// Why something could not be read.
    pub(crate) error: Option<io::Error>,
}

#[derive(Default)]
struct Window {
    start: u64,
    /// What it shows, as far as it was filled.
    bytes: Vec<u8>,
    filled: usize,
    used: u64,
}

impl FileWindows {
    /// The `length` bytes at `offset`, no more than [`FURTHER`]; `None` if the file ends before, or cannot be read.
    pub(crate) fn get(&mut self, file: &File, offset: u64, length: usize) -> Option<&[u8]> {
        debug_assert!(length <= FURTHER);
        let shown = self.windows.get(self.last).and_then(|window| window.place(offset, length));
        if shown.is_none() {
            let other = self.windows.iter().position(|window| window.place(offset, length).is_some());
            self.last = match other {
                Some(other) => other,
                None => self.fill(file, offset),
            };
        }
        self.uses += 1;
        let uses = self.uses;
        let window = self.windows.get_mut(self.last)?;
        window.used = uses;
        let place = window.place(offset, length)?;
        window.bytes.get(place..place + length)
    }

    /// Forgets what is shown, as it may have changed, and keeps the memory.
    pub(crate) fn clear(&mut self) {
        for window in &mut self.windows {
            (window.filled, window.used) = (0, 0);
        }
    }

    /// Shows what is at `offset` in the window that was unused the longest; which one that is.
    fn fill(&mut self, file: &File, offset: u64) -> usize {
        let (start, length) = match self.is_bulk {
            true if offset >= self.front => {
                let start = offset - offset % CHUNK;
                self.front = start.saturating_add(CHUNK);
                (start, CHUNK as usize + FURTHER)
            }
            true => (offset - offset % 64, AGAIN),
            false => ((offset - offset % PAGE).saturating_sub(PAGE), LITTLE),
        };
        let windows = self.windows.iter_mut().enumerate();
        let Some((at, window)) = windows.min_by_key(|(_, window)| window.used) else { return 0 };
        if window.bytes.len() < length {
            window.bytes.resize(length, 0);
        }
        let place = window.bytes.get_mut(..length).unwrap_or_default();
        window.start = start;
        window.filled = read(file, start, place).unwrap_or_else(|error| {
            self.error = Some(error);
            0
        });
        at
    }
}

impl Window {
    /// Where in the window these bytes are, if they all are.
    fn place(&self, offset: u64, length: usize) -> Option<usize> {
        let place = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        (place.checked_add(length)? <= self.filled).then_some(place)
    }
}

/// Fills `bytes` from `offset` on; how many there are.
pub(crate) fn read(file: &File, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
    let mut read = 0;
    while let Some(rest) = bytes.get_mut(read..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset.saturating_add(read as u64)) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Beyond what any file can be.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => break,
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}
