//! The objects of one file: headers, entries, data.
//!
//! What cannot be read, or is not what it is to be, is `None`. A file that is written meanwhile is consistent as far as
//! its header counts entries: the writer counts an entry when all of it is there.

use std::fs::File;
use std::io;

use ruzstd::decoding::FrameDecoder;

use crate::cursor::{Cursor, Id};
use crate::format::{
    DATA, DATA_HEADER, ENTRY, ENTRY_ARRAY, ENTRY_HEADER, HEADER_MIN, Header, OBJECT_HEADER, id_at, u64_at,
};
use crate::hash::hash;
use crate::unpack::{CUT, unpack};
use crate::window::{FURTHER, FileWindows, read};

/// The most fields of an entry that are looked at. Journald takes 1,024 from a client.
const ITEMS: usize = 4096;

/// The most data objects with one hash that are looked at, to find one of them.
const SAME_HASH: usize = 10_000;

/// A file that can be read.
pub(crate) struct Objects {
    file: File,
    pub(crate) header: Header,
    /// How long the file was when its header was read.
    pub(crate) length: u64,
    pub(crate) windows: FileWindows,
    /// Packed and unpacked fields, and large ones.
    packed: Vec<u8>,
    plain: Vec<u8>,
    zstd: FrameDecoder,
}

/// An entry without its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JournalEntry {
    pub(crate) offset: u64,
    pub(crate) series: Id,
    pub(crate) seqnum: u64,
    pub(crate) realtime: u64,
    pub(crate) boot: Id,
    pub(crate) monotonic: u64,
    pub(crate) xor_hash: u64,
}

impl JournalEntry {
    pub(crate) fn cursor(&self) -> Cursor {
        Cursor {
            seqnum: Some((self.series, self.seqnum)),
            monotonic: Some((self.boot, self.monotonic)),
            realtime: Some(self.realtime),
            xor_hash: Some(self.xor_hash),
        }
    }
}

/// What an entry says of one of its fields: where it is, and in files that are not compact its hash.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EntryItem {
    pub(crate) offset: u64,
    pub(crate) hash: Option<u64>,
}

/// A data object without its payload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Data {
    pub(crate) offset: u64,
    flags: u8,
    size: u64,
    pub(crate) hash: u64,
    next_hash: u64,
    /// The entries that have it: the first, those in arrays, and how many.
    pub(crate) entry: u64,
    pub(crate) entry_array: u64,
    pub(crate) entries: u64,
}

impl Objects {
    /// A file, if it is a journal that can be read; what is wrong with it otherwise.
    pub(crate) fn open(file: File) -> io::Result<Self> {
        let mut objects = Self {
            file,
            header: Header::default(),
            length: 0,
            windows: FileWindows::default(),
            packed: Vec::new(),
            plain: Vec::new(),
            zstd: FrameDecoder::new(),
        };
        objects.refresh()?;
        Ok(objects)
    }

    /// Reads the header again; whether there may be more now.
    pub(crate) fn refresh(&mut self) -> io::Result<bool> {
        let mut bytes = [0; HEADER_MIN];
        let read = read(&self.file, 0, &mut bytes)?;
        let header = Header::parse(bytes.get(..read).unwrap_or_default())?;
        if header == self.header && self.is_whole() {
            return Ok(false);
        }
        // The header first: what it counts is within the length.
        let length = self.file.metadata()?.len();
        if header == self.header && length == self.length {
            return Ok(false);
        }
        (self.header, self.length) = (header, length);
        self.windows.clear();
        Ok(true)
    }

    /// Whether nothing will be added: it is archived, and not a copy that is yet to be completed.
    pub(crate) fn is_final(&self) -> bool {
        self.header.is_archived() && self.is_whole()
    }

    /// Whether all is there that the header says.
    fn is_whole(&self) -> bool {
        self.length >= self.header.size.saturating_add(self.header.arena)
    }

    /// Gives back what memory it has.
    pub(crate) fn cool(&mut self) {
        let error = self.windows.error.take();
        self.windows = FileWindows::default();
        self.windows.error = error;
        (self.packed, self.plain) = (Vec::new(), Vec::new());
        self.zstd = FrameDecoder::new();
    }

    /// Why something could not be read since this was asked last.
    pub(crate) fn error(&mut self) -> Option<io::Error> {
        self.windows.error.take()
    }

    /// The flags and the size of an object of this type, and its first bytes.
    fn object(&mut self, kind: u8, offset: u64, length: usize) -> Option<(u8, u64, &[u8])> {
        // Aligned, and behind the header.
        if !offset.is_multiple_of(8) || offset < self.header.size {
            return None;
        }
        let bytes = self.windows.get(&self.file, offset, length)?;
        let (&found, &flags, size) = (bytes.first()?, bytes.get(1)?, u64_at(bytes, 8)?);
        (found == kind && size >= length as u64).then_some((flags, size, bytes))
    }

    pub(crate) fn entry(&mut self, offset: u64) -> Option<JournalEntry> {
        let series = self.header.seqnum_id;
        let (_, _, bytes) = self.object(ENTRY, offset, ENTRY_HEADER)?;
        let entry = JournalEntry {
            offset,
            series,
            seqnum: u64_at(bytes, 16)?,
            realtime: u64_at(bytes, 24)?,
            monotonic: u64_at(bytes, 32)?,
            boot: id_at(bytes, 40)?,
            xor_hash: u64_at(bytes, 56)?,
        };
        // What journald itself takes for a time (VALID_REALTIME and VALID_MONOTONIC of journal-file.h).
        let is_valid =
            entry.seqnum > 0 && (1..1 << 55).contains(&entry.realtime) && entry.monotonic < 1 << 55;
        is_valid.then_some(entry)
    }

    /// What an entry says of its fields.
    pub(crate) fn items(&mut self, entry: u64, items: &mut Vec<EntryItem>) -> Option<()> {
        items.clear();
        let (_, size, _) = self.object(ENTRY, entry, ENTRY_HEADER)?;
        let width = self.header.entry_item();
        let count = usize::try_from((size - ENTRY_HEADER as u64) / width as u64).unwrap_or(ITEMS).min(ITEMS);
        let mut at = entry.checked_add(ENTRY_HEADER as u64)?;
        let mut left = count;
        while left > 0 {
            let some = left.min(FURTHER / width);
            let bytes = self.windows.get(&self.file, at, some * width)?;
            items.extend(
                bytes
                    .chunks_exact(width)
                    .map(|item| EntryItem { offset: self.header.offset(item), hash: u64_at(item, 8) }),
            );
            at = at.checked_add((some * width) as u64)?;
            left -= some;
        }
        Some(())
    }

    pub(crate) fn data(&mut self, offset: u64) -> Option<Data> {
        let payload = self.header.payload() as u64;
        let (flags, size, bytes) = self.object(DATA, offset, DATA_HEADER)?;
        let data = Data {
            offset,
            flags,
            size,
            hash: u64_at(bytes, 16)?,
            next_hash: u64_at(bytes, 24)?,
            entry: u64_at(bytes, 40)?,
            entry_array: u64_at(bytes, 48)?,
            entries: u64_at(bytes, 56)?,
        };
        (size >= payload).then_some(data)
    }

    /// The field in a data object, `NAME=value`, or the first `limit` bytes of it.
    pub(crate) fn field(&mut self, data: &Data, limit: usize) -> Option<&[u8]> {
        let start = self.header.payload();
        let at = data.offset.checked_add(start as u64)?;
        let length = usize::try_from(data.size - start as u64).unwrap_or(usize::MAX);
        if data.flags == 0 && length <= FURTHER {
            return self.windows.get(&self.file, at, length.min(limit));
        }
        let (place, most) = match data.flags {
            0 => (&mut self.plain, limit),
            _ => (&mut self.packed, limit.saturating_add(CUT)),
        };
        // No more than there is: the size may be anything.
        let left = usize::try_from(self.length.saturating_sub(at)).unwrap_or(usize::MAX);
        place.resize(length.min(most).min(left), 0);
        let length = read(&self.file, at, place).ok()?;
        place.truncate(length);
        if data.flags != 0 {
            self.plain.clear();
            unpack(&mut self.zstd, data.flags, &self.packed, limit, &mut self.plain)?;
        }
        Some(&self.plain)
    }

    /// The data object with a field, if the file has it.
    pub(crate) fn find(&mut self, field: &[u8]) -> Option<Data> {
        let wanted = hash(&self.header, field);
        let (table, size) = self.header.data_hash_table;
        let bucket = wanted.checked_rem(size / 16)?;
        let bucket = table.checked_add(bucket * 16)?;
        let mut offset = u64_at(self.windows.get(&self.file, bucket, 16)?, 0)?;
        for _ in 0..SAME_HASH {
            let data = self.data(offset)?;
            if data.hash == wanted && self.field(&data, field.len() + 1)? == field {
                return Some(data);
            }
            // The chain goes forward, where it is not damaged.
            offset = Some(data.next_hash).filter(|next| *next > offset)?;
        }
        None
    }

    /// The size of an entry array.
    pub(crate) fn array(&mut self, offset: u64) -> Option<u64> {
        self.object(ENTRY_ARRAY, offset, OBJECT_HEADER).map(|(_, size, _)| size)
    }

    /// The bytes at an offset; `length` is small.
    pub(crate) fn bytes(&mut self, offset: u64, length: usize) -> Option<&[u8]> {
        self.windows.get(&self.file, offset, length)
    }
}
