//! Reads a JSON object once, from left to right, and notes where the values of the wanted keys stand.
//!
//! Its structure must be sound, from the first `{` to the last `}`. What stands in strings, how numbers are written,
//! and the order of what stands between the brackets of unwanted values is not checked: that changes nothing about which
//! value has which key.

use memchr::memchr2;

use super::keys::{Keys, NAMES, NONE};
use super::{RecordFault, Values};

/// Objects and arrays inside each other, the outermost included.
pub(super) const DEPTH: usize = 32;

/// A wanted object that is open.
#[derive(Clone, Copy)]
struct Open {
    /// Where it is among the wanted keys.
    node: u8,
    /// The key whose value it is.
    leaf: u8,
    /// Where it begins.
    start: usize,
}

/// The values of the wanted keys. Linear; does not allocate.
pub(super) fn read(message: &[u8], keys: &Keys) -> Result<Values, RecordFault> {
    let (mut values, mut seen) = (Values::default(), 0_u64);
    let mut outer = [Open { node: NONE, leaf: NONE, start: 0 }; NAMES];
    let (mut open, mut depth) = (Open { node: 0, leaf: NONE, start: 0 }, 0);
    let byte = |at: usize| message.get(at).copied();
    if byte(0) != Some(b'{') {
        return Err(RecordFault::Malformed(0));
    }
    let mut at = space(message, 1);
    let mut is_empty = byte(at) == Some(b'}');
    loop {
        if !is_empty {
            if byte(at) != Some(b'"') {
                return Err(malformed(message, at));
            }
            let (end, escaped) = string(message, at + 1)?;
            let name = message.get(at + 1..end).unwrap_or_default();
            let key = keys.find(open.node, name, escaped);
            if key.node != NONE {
                let bit = 1_u64.checked_shl(key.node.into()).unwrap_or(0);
                if seen & bit != 0 {
                    return Err(RecordFault::Twice(key.node));
                }
                seen |= bit;
            }
            at = space(message, end + 1);
            if byte(at) != Some(b':') {
                return Err(malformed(message, at));
            }
            at = space(message, at + 1);
            let start = at;
            match byte(at) {
                Some(b'{') if key.leads_on => {
                    *outer.get_mut(depth).ok_or(RecordFault::Deep)? = open;
                    depth += 1;
                    open = Open { node: key.node, leaf: key.leaf, start };
                    at = space(message, at + 1);
                    is_empty = byte(at) == Some(b'}');
                    continue;
                }
                Some(b'{') => {
                    at = skip(message, at, DEPTH - 1 - depth)?;
                    values.set(key.leaf, start, at, false);
                }
                Some(b'[') if key.leaf != NONE => {
                    at = elements(message, at, key.leaf, DEPTH - 1 - depth, &mut values)?;
                }
                Some(b'[') => at = skip(message, at, DEPTH - 1 - depth)?,
                _ => at = scalar(message, at, key.leaf, &mut values)?,
            }
        }
        is_empty = false;
        loop {
            at = space(message, at);
            match byte(at) {
                Some(b',') => {
                    at = space(message, at + 1);
                    break;
                }
                Some(b'}') if depth == 0 => {
                    let end = space(message, at + 1);
                    return if end == message.len() { Ok(values) } else { Err(RecordFault::Malformed(end)) };
                }
                Some(b'}') => values.set(open.leaf, open.start, at + 1, false),
                _ => return Err(malformed(message, at)),
            }
            at += 1;
            depth = depth.saturating_sub(1);
            open = outer.get(depth).copied().ok_or(RecordFault::Deep)?;
        }
    }
}

/// A string, number, `true`, `false` or `null`; where it ends.
#[inline(always)]
fn scalar(message: &[u8], at: usize, leaf: u8, values: &mut Values) -> Result<usize, RecordFault> {
    if message.get(at) == Some(&b'"') {
        let (end, escaped) = string(message, at + 1)?;
        values.set(leaf, at + 1, end, escaped);
        return Ok(end + 1);
    }
    let rest = message.get(at..).unwrap_or_default();
    let of_token = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.');
    let length = rest.iter().position(|byte| !of_token(byte)).unwrap_or(rest.len());
    if length == 0 {
        return Err(malformed(message, at));
    }
    if leaf != NONE && rest.get(..length) != Some(b"null") {
        values.set(leaf, at, at + length, false);
    }
    Ok(at + length)
}

/// The last scalar of an array that is a wanted value; where the array ends.
fn elements(
    message: &[u8],
    start: usize,
    leaf: u8,
    depth: usize,
    values: &mut Values,
) -> Result<usize, RecordFault> {
    let mut at = space(message, start + 1);
    if message.get(at) == Some(&b']') {
        return Ok(at + 1);
    }
    loop {
        at = match message.get(at) {
            Some(b'{' | b'[') => skip(message, at, depth.checked_sub(1).ok_or(RecordFault::Deep)?)?,
            _ => scalar(message, at, leaf, values)?,
        };
        at = space(message, at);
        match message.get(at) {
            Some(b',') => at = space(message, at + 1),
            Some(b']') => return Ok(at + 1),
            _ => return Err(malformed(message, at)),
        }
    }
}

/// Where the object or array ends that begins at `at`, in which no key is wanted, and which has at most `depth` levels. It
/// is enough that its brackets pair.
fn skip(message: &[u8], mut at: usize, depth: usize) -> Result<usize, RecordFault> {
    // A bit for each open one, the innermost the lowest: whether it is an array.
    let (mut arrays, mut open) = (0_u32, 0_usize);
    loop {
        let byte = *message.get(at).ok_or(RecordFault::Unclosed)?;
        at += 1;
        match byte {
            b'"' => at = string(message, at)?.0 + 1,
            b'{' | b'[' => {
                if open >= depth {
                    return Err(RecordFault::Deep);
                }
                (arrays, open) = (arrays << 1 | u32::from(byte == b'['), open + 1);
            }
            b'}' | b']' => {
                if arrays & 1 != u32::from(byte == b']') {
                    return Err(RecordFault::Malformed(at - 1));
                }
                (arrays, open) = (arrays >> 1, open.saturating_sub(1));
                if open == 0 {
                    return Ok(at);
                }
            }
            _ => {}
        }
    }
}

/// What does not belong where it stands; or the message ends there.
fn malformed(message: &[u8], at: usize) -> RecordFault {
    if at >= message.len() { RecordFault::Unclosed } else { RecordFault::Malformed(at) }
}

/// Where the next byte stands that is not a space.
#[inline(always)]
fn space(message: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | b'\n' | b'\r') = message.get(at) {
        at += 1;
    }
    at
}

/// Where the string ends that begins at `at`, behind its quotation mark, and whether it has a backslash.
#[inline(always)]
pub(super) fn string(message: &[u8], mut at: usize) -> Result<(usize, bool), RecordFault> {
    let mut escaped = false;
    loop {
        at = mark(message, at).ok_or(RecordFault::Unclosed)?;
        if message.get(at) == Some(&b'"') {
            return Ok((at, escaped));
        }
        escaped = true;
        at += 2;
    }
}

/// The first quotation mark or backslash from `at` on. Most strings are so short that a call of memchr costs more.
#[inline(always)]
fn mark(message: &[u8], mut at: usize) -> Option<usize> {
    const ONES: u64 = u64::MAX / 255;
    for _ in 0..3 {
        let Some(eight) = message.get(at..)?.first_chunk() else { break };
        let eight = u64::from_le_bytes(*eight);
        let zero = |bytes: u64| bytes.wrapping_sub(ONES) & !bytes & (ONES << 7);
        let found = zero(eight ^ (ONES * b'"' as u64)) | zero(eight ^ (ONES * b'\\' as u64));
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    Some(at + memchr2(b'"', b'\\', message.get(at..)?)?)
}
