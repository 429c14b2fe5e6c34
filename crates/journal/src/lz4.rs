//! The beginning of what an LZ4 block holds (the block format of lz4_Block_format.md).
//!
//! A decoder of its own, since the crates for it unpack a block as a whole or not at all, and a block in a journal may
//! hold 768 MiB.

/// Adds what `block` holds to `out`, no more than `limit` bytes. `None` where it is damaged before that.
pub(crate) fn unpack(block: &[u8], limit: usize, out: &mut Vec<u8>) -> Option<()> {
    let begin = out.len();
    let full = |out: &Vec<u8>| out.len() - begin >= limit;
    let mut rest = block;
    while let Some((&token, after)) = rest.split_first() {
        rest = after;
        let literals = length(usize::from(token >> 4), &mut rest)?;
        let (text, after) = rest.split_at_checked(literals)?;
        let room = limit - (out.len() - begin);
        out.extend_from_slice(text.get(..room).unwrap_or(text));
        rest = after;
        // The last sequence has no match.
        if full(out) || rest.is_empty() {
            return Some(());
        }
        let (distance, after) = rest.split_first_chunk()?;
        rest = after;
        let distance = usize::from(u16::from_le_bytes(*distance));
        let mut left = length(usize::from(token & 15), &mut rest)?.checked_add(4)?;
        let from = out.len().checked_sub(distance).filter(|from| distance > 0 && *from >= begin)?;
        left = left.min(limit - (out.len() - begin));
        // A match may reach into what it makes: then it repeats.
        while left > 0 {
            let piece = left.min(out.len() - from);
            out.extend_from_within(from..from + piece);
            left -= piece;
        }
        if full(out) {
            return Some(());
        }
    }
    Some(())
}

/// A length of four bits, and of the bytes that follow where they are all set.
fn length(nibble: usize, rest: &mut &[u8]) -> Option<usize> {
    let mut length = nibble;
    let mut more = nibble == 15;
    while more {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        length = length.checked_add(usize::from(byte))?;
        more = byte == 255;
    }
    Some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpacked(block: &[u8], limit: usize) -> Option<Vec<u8>> {
        let mut out = b"before".to_vec();
        unpack(block, limit, &mut out)?;
        Some(out.split_off(6))
    }

    #[test]
    fn literals_and_matches_are_joined_up_to_the_limit() {
        // "ab", then 8 bytes from 2 before, then "c".
        let block = [0x24, b'a', b'b', 2, 0, 0x10, b'c'];
        for limit in 0..20 {
            assert_eq!(unpacked(&block, limit).unwrap(), &b"abababababc"[..limit.min(11)], "{limit}");
        }
    }

    #[test]
    fn a_long_literal_and_a_long_match_have_further_bytes() {
        let text = [b'x'; 300];
        let block = [&[0xff, 255, 30][..], &text, &[1, 0, 255, 0, 0x00]].concat();
        assert_eq!(unpacked(&block, 10_000).unwrap(), vec![b'x'; 300 + 15 + 255 + 4]);
    }

    #[test]
    fn a_damaged_block_is_refused() {
        for block in
            [&[0x20, b'a'][..], &[0x14, b'a', 2, 0], &[0x14, b'a', 0, 0], &[0x14, b'a', 1], &[0xf0, 255]]
        {
            assert_eq!(unpacked(block, 100), None, "{block:x?}");
        }
    }
}
