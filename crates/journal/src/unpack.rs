//! The beginning of a packed field, in no more memory than is asked for and a window of the packer's.

use std::io::Read;

use lzma_rust2::Lzma2Reader;
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

use crate::format::{PACKED_LZ4, PACKED_XZ, PACKED_ZSTD, u64_at};
use crate::lz4;

/// The largest window of a packer, in bytes: zstd's and XZ's own defaults, which systemd uses, take 2 and 8 MiB.
const WINDOW: u32 = 8 << 20;

/// How much more than the limit has to be there of a packed field: until a whole window is unpacked, zstd gives nothing,
/// and what cannot be packed takes a little more than it is long.
pub(crate) const CUT: usize = WINDOW as usize + (1 << 20);

/// Adds what is packed to `out`, no more than `limit` bytes; `flags` are those of its object. `None` where it
/// cannot be unpacked.
pub(crate) fn unpack(
    decoder: &mut FrameDecoder,
    flags: u8,
    packed: &[u8],
    limit: usize,
    out: &mut Vec<u8>,
) -> Option<()> {
    match flags & (PACKED_XZ | PACKED_LZ4 | PACKED_ZSTD) {
        PACKED_ZSTD => {
            decoder.set_max_window_size(u64::from(WINDOW));
            let reader = StreamingDecoder::new_with_decoder(packed, decoder).ok()?;
            take(reader, limit, out)
        }
        PACKED_LZ4 => {
            // How long it is unpacked, then one block.
            let limit = limit.min(usize::try_from(u64_at(packed, 0)?).unwrap_or(limit));
            lz4::unpack(packed.get(8..)?, limit, out)
        }
        PACKED_XZ => {
            let (dictionary, packed) = xz(packed)?;
            take(Lzma2Reader::new(packed, dictionary, None), limit, out)
        }
        _ => None,
    }
}

fn take(reader: impl Read, limit: usize, out: &mut Vec<u8>) -> Option<()> {
    reader.take(limit as u64).read_to_end(out).ok().map(drop)
}

/// The size of the dictionary and the data of an XZ stream as systemd makes it: one block, one filter, LZMA2 (The .xz
/// File Format, 3.1 and 5.3.1).
fn xz(stream: &[u8]) -> Option<(u32, &[u8])> {
    const LZMA2: u8 = 0x21;
    let block = stream.strip_prefix(b"\xfd7zXZ\0")?.get(6..)?;
    let size = (usize::from(*block.first()?) + 1) * 4;
    let flags = *block.get(1)?;
    let mut header = block.get(2..size)?;
    // One filter, and nothing that is reserved.
    if flags & 0x3f != 0 {
        return None;
    }
    // The sizes of the block, packed and unpacked, where they are there.
    for bit in [0x40, 0x80] {
        if flags & bit != 0 {
            let end = header.iter().position(|byte| byte & 0x80 == 0)?;
            header = header.get(end + 1..)?;
        }
    }
    let &[LZMA2, 1, bits, ..] = header else { return None };
    let dictionary = (2 | u64::from(bits) & 1) << (bits / 2 + 11);
    let dictionary = u32::try_from(dictionary).ok().filter(|size| bits <= 40 && *size <= WINDOW)?;
    Some((dictionary, block.get(size..)?))
}
