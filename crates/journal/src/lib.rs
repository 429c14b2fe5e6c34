//! Reads systemd's journal files, merged and in order, and follows them while they are written.
//!
//! The format is that of systemd's [Journal File Format](https://systemd.io/JOURNAL_FILE_FORMAT) and its
//! `journal-def.h`. All of it that files in use have is read: compact and regular files, keyed and plain hashes,
//! fields packed with zstd, LZ4 or XZ. A file with a flag that is not known is refused.
//!
//! Nothing is mapped: files are read with `pread` through a few windows, so a file that is cut while it is read gives
//! a short read and not a signal. What stands in a file is believed nowhere: offsets are checked and chains only go
//! forward, so a damaged file gives fewer entries, never a panic or an endless loop.

mod chain;
mod cursor;
mod directory;
mod fields;
mod file;
mod filter;
mod format;
mod hash;
mod lz4;
mod objects;
mod reader;
mod unpack;
mod window;

#[cfg(test)]
mod tests;

pub use cursor::{Cursor, Id, NotACursor};
pub use directory::JournalPlace;
pub use filter::{Filter, Interest};
pub use reader::{JournalProblem, JournalReader};
