//! The hashes of data objects: Bob Jenkins's lookup3 in old files, SipHash-2-4 with the file's own key in newer ones.

#![expect(deprecated, reason = "std's SipHasher is SipHash-2-4, the very algorithm of the format")]

use std::hash::{Hasher, SipHasher};

use crate::format::Header;

/// The hash of a field (`NAME=value`) in a file.
pub(crate) fn hash(header: &Header, field: &[u8]) -> u64 {
    if !header.is_keyed() {
        return lookup3(field);
    }
    let key = u128::from_le_bytes(header.file_id.0);
    // The lower half, then the upper one.
    let mut hasher = SipHasher::new_with_keys(key as u64, (key >> 64) as u64);
    hasher.write(field);
    hasher.finish()
}

/// `hashlittle2` of lookup3.c (public domain), its first result above its second.
fn lookup3(bytes: &[u8]) -> u64 {
    let start = 0xdead_beef_u32.wrapping_add(bytes.len() as u32);
    let mut state = [start; 3];
    let mut rest = bytes;
    while rest.len() > 12 {
        let (block, after) = rest.split_at(12);
        add(&mut state, block);
        mix(&mut state);
        rest = after;
    }
    if !rest.is_empty() {
        add(&mut state, rest);
        finish(&mut state);
    }
    let [_, b, c] = state;
    u64::from(c) << 32 | u64::from(b)
}

/// Adds up to twelve bytes, those that lack as zeros.
fn add(state: &mut [u32; 3], block: &[u8]) {
    for (word, bytes) in state.iter_mut().zip(block.chunks(4)) {
        let value = bytes.iter().rev().fold(0u32, |value, byte| value << 8 | u32::from(*byte));
        *word = word.wrapping_add(value);
    }
}

fn mix(state: &mut [u32; 3]) {
    let [a, b, c] = state;
    let step = |x: &mut u32, y: &mut u32, z: &mut u32, bits| {
        *x = x.wrapping_sub(*z) ^ z.rotate_left(bits);
        *z = z.wrapping_add(*y);
    };
    step(a, b, c, 4);
    step(b, c, a, 6);
    step(c, a, b, 8);
    step(a, b, c, 16);
    step(b, c, a, 19);
    step(c, a, b, 4);
}

fn finish(state: &mut [u32; 3]) {
    let [a, b, c] = state;
    let step = |x: &mut u32, y: &u32, bits| *x = (*x ^ *y).wrapping_sub(y.rotate_left(bits));
    step(c, b, 14);
    step(a, c, 11);
    step(b, a, 25);
    step(c, b, 16);
    step(a, c, 4);
    step(b, a, 14);
    step(c, b, 24);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values that lookup3.c gives for its own examples (`driver5`).
    #[test]
    fn lookup3_is_that_of_its_author() {
        assert_eq!(lookup3(b""), 0xdead_beef_dead_beef);
        assert_eq!(lookup3(b"Four score and seven years ago"), 0x1777_0551_ce72_26e6);
    }
}
