//! Where what stands in a journal file: `journal-def.h` of systemd, all numbers little-endian.

use std::io;

use crate::cursor::Id;

/// The first bytes of each file.
const SIGNATURE: &[u8] = b"LPKSHHRH";

/// The size of the header: in the oldest files, and as far as it is read.
pub(crate) const HEADER_MIN: usize = 208;

/// Flags of files that a reader has to know.
const KNOWN: [(u32, &str); 5] =
    [(1, "XZ"), (1 << 1, "LZ4"), (KEYED_HASH, "KEYED_HASH"), (1 << 3, "ZSTD"), (COMPACT, "COMPACT")];
const KEYED_HASH: u32 = 1 << 2;
const COMPACT: u32 = 1 << 4;

/// The state of a file that nobody writes any more.
const ARCHIVED: u8 = 2;

/// Types of objects.
pub(crate) const DATA: u8 = 1;
pub(crate) const ENTRY: u8 = 3;
pub(crate) const ENTRY_ARRAY: u8 = 6;

/// How an object is packed, by its flags.
pub(crate) const PACKED_XZ: u8 = 1;
pub(crate) const PACKED_LZ4: u8 = 1 << 1;
pub(crate) const PACKED_ZSTD: u8 = 1 << 2;

/// The sizes of what stands at the beginning of an object.
pub(crate) const OBJECT_HEADER: usize = 16;
pub(crate) const ENTRY_HEADER: usize = 64;
pub(crate) const ARRAY_HEADER: usize = 24;
pub(crate) const DATA_HEADER: usize = 64;

/// The header of a file, as far as readers need it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Header {
    incompatible: u32,
    state: u8,
    pub(crate) file_id: Id,
    pub(crate) seqnum_id: Id,
    pub(crate) size: u64,
    /// How much is to stand behind the header.
    pub(crate) arena: u64,
    pub(crate) data_hash_table: (u64, u64),
    pub(crate) entries: u64,
    pub(crate) entry_array: u64,
}

impl Header {
    /// The header in the first bytes of a file; what is wrong with it otherwise. In a file that was just made nothing is
    /// there yet, which is an unexpected end.
    pub(crate) fn parse(bytes: &[u8]) -> io::Result<Self> {
        if bytes.iter().all(|byte| *byte == 0) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let header = Self::fields(bytes)
            .filter(|_| bytes.starts_with(SIGNATURE))
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it is not a journal file"))?;
        let known = KNOWN.iter().fold(0, |all, (flag, _)| all | flag);
        let unknown = header.incompatible & !known;
        if unknown != 0 {
            let names = KNOWN.map(|(_, name)| name).join(", ");
            let why = format!("it has the incompatible flags {unknown:#x}; known are {names}");
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
        if header.size < HEADER_MIN as u64 || header.size % 8 != 0 {
            let why = format!("its header has the impossible size {}", header.size);
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        Ok(header)
    }

    fn fields(bytes: &[u8]) -> Option<Self> {
        bytes.get(..HEADER_MIN)?;
        Some(Self {
            incompatible: u32_at(bytes, 12)?,
            state: *bytes.get(16)?,
            file_id: id_at(bytes, 24)?,
            seqnum_id: id_at(bytes, 72)?,
            size: u64_at(bytes, 88)?,
            arena: u64_at(bytes, 96)?,
            data_hash_table: (u64_at(bytes, 104)?, u64_at(bytes, 112)?),
            entries: u64_at(bytes, 152)?,
            entry_array: u64_at(bytes, 176)?,
        })
    }

    /// Whether offsets in arrays and entries have 32 bits.
    pub(crate) fn is_compact(&self) -> bool {
        self.incompatible & COMPACT != 0
    }

    /// Whether hashes depend on the file, so that nobody can choose what falls together.
    pub(crate) fn is_keyed(&self) -> bool {
        self.incompatible & KEYED_HASH != 0
    }

    /// Whether nothing will be added.
    pub(crate) fn is_archived(&self) -> bool {
        self.state == ARCHIVED
    }

    /// How long an item of an entry array is.
    pub(crate) fn array_item(&self) -> usize {
        if self.is_compact() { 4 } else { 8 }
    }

    /// How long an item of an entry is: an offset, in files that are not compact with a hash.
    pub(crate) fn entry_item(&self) -> usize {
        if self.is_compact() { 4 } else { 16 }
    }

    /// Where the payload of a data object begins.
    pub(crate) fn payload(&self) -> usize {
        if self.is_compact() { DATA_HEADER + 8 } else { DATA_HEADER }
    }

    /// An offset of an array or entry.
    pub(crate) fn offset(&self, item: &[u8]) -> u64 {
        let offset = if self.is_compact() { u32_at(item, 0).map(u64::from) } else { u64_at(item, 0) };
        offset.unwrap_or(0)
    }
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

pub(crate) fn id_at(bytes: &[u8], at: usize) -> Option<Id> {
    bytes.get(at..)?.first_chunk().map(|bytes| Id(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(incompatible: u32) -> Vec<u8> {
        let mut bytes = vec![0; 272];
        bytes[..8].copy_from_slice(SIGNATURE);
        bytes[12..16].copy_from_slice(&incompatible.to_le_bytes());
        bytes[88..96].copy_from_slice(&272u64.to_le_bytes());
        bytes
    }

    #[test]
    fn a_flag_that_is_not_known_is_refused_and_named() {
        assert!(Header::parse(&header(31)).is_ok());
        let refused = Header::parse(&header(1 << 5 | 1)).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "it has the incompatible flags 0x20; known are XZ, LZ4, KEYED_HASH, ZSTD, COMPACT"
        );
    }

    #[test]
    fn what_is_not_a_header_is_refused() {
        assert!(Header::parse(&header(0)[..207]).is_err());
        let mut other = header(0);
        other[0] = b'X';
        assert!(Header::parse(&other).is_err());
        other = header(0);
        other[88] = 1;
        assert!(Header::parse(&other).is_err());
    }
}
