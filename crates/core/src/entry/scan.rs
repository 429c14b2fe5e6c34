//! Looks at texts: several bytes at once where they are to be compared or are a number, one by one where a word ends. How
//! long words are the processor foresees, and so begins with what follows; it cannot where the length is computed.

use memchr::{memchr, memchr2, memchr3};

/// The lowest bit of each of eight bytes.
pub(crate) const ONES: u64 = u64::MAX / 255;
const HIGHEST: u64 = ONES << 7;

/// Bytes that are looked at before a call of `memchr` pays.
const FEW: usize = 16;

/// The eight bytes of `text` from `at` on, the first the lowest; zeros behind its end.
#[inline(always)]
pub(crate) fn eight(text: &[u8], at: usize) -> u64 {
    match text.get(at..at + 8).and_then(<[u8]>::first_chunk) {
        Some(eight) => u64::from_le_bytes(*eight),
        None => last(text, at),
    }
}

/// As [`eight`], of the end of the text.
#[inline(never)]
fn last(text: &[u8], at: usize) -> u64 {
    let beyond = (at + 8).saturating_sub(text.len());
    match text.last_chunk() {
        Some(eight) => u64::from_le_bytes(*eight).checked_shr(8 * beyond as u32).unwrap_or(0),
        None => few(text, at),
    }
}

fn few(text: &[u8], at: usize) -> u64 {
    text.get(at..).unwrap_or_default().iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte))
}

/// Where the first byte from `at` on that is one of these stands; the end of the text, if none is.
#[inline(always)]
pub(crate) fn until<const N: usize>(text: &[u8], mut at: usize, stops: [u8; N]) -> usize {
    let near = text.get(at..).unwrap_or_default();
    let near = near.get(..FEW).unwrap_or(near);
    if let Some(length) = near.iter().position(|byte| stops.contains(byte)) {
        return at + length;
    }
    at += near.len();
    let rest = text.get(at..).unwrap_or_default();
    let found = match stops.as_slice() {
        [a] => memchr(*a, rest),
        [a, b] => memchr2(*a, *b, rest),
        [a, b, c] => memchr3(*a, *b, *c, rest),
        stops => rest.iter().position(|byte| stops.contains(byte)),
    };
    found.map_or(text.len(), |length| at + length)
}

/// Where the digits that begin at `at` end.
#[inline(always)]
pub(crate) fn digits(text: &[u8], mut at: usize) -> usize {
    while text.get(at).is_some_and(u8::is_ascii_digit) {
        at += 1;
    }
    at
}

/// How many of the lowest bytes are digits; the zeros behind the end of a text are none.
#[inline(always)]
pub(crate) fn leading_digits(bytes: u64) -> usize {
    let bytes = bytes ^ (ONES * u64::from(b'0'));
    let others = (bytes.wrapping_add(ONES * (0x80 - 10)) | bytes) & HIGHEST;
    first(others)
}

/// All bits of each of eight bytes that is one of these, which are below 128.
pub(crate) const fn within(bytes: u64, first: u8, last: u8) -> u64 {
    let low = bytes & !HIGHEST;
    // The highest bit of each says whether it is at least the first, and not above the last.
    let are = (low + ONES * (0x80 - first as u64)) & !(low + ONES * (0x7f - last as u64)) & !bytes & HIGHEST;
    (are >> 7) * 0xff
}

/// The number that so many of the lowest bytes are, all of them digits, from 1 to 8.
#[inline(always)]
pub(crate) fn number(bytes: u64, digits: usize) -> u32 {
    let ones = (bytes & (ONES * 15)) << (64 - 8 * digits.clamp(1, 8));
    let tens = (ones * 10 + (ones >> 8)) & 0x00ff_00ff_00ff_00ff;
    let hundreds = (tens * 100 + (tens >> 16)) & 0x0000_ffff_0000_ffff;
    (hundreds * 10_000 + (hundreds >> 32)) as u32
}

/// The place of the lowest byte whose highest bit is set.
#[inline(always)]
fn first(bits: u64) -> usize {
    bits.trailing_zeros() as usize / 8
}

/// A text to compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Literal {
    /// Its first eight bytes, and which bits those are.
    first: u64,
    mask: u64,
    whole: Box<[u8]>,
    /// Whether it is all of these, and cannot be taken for what lies behind the end of a text.
    is_short: bool,
}

impl Literal {
    pub(crate) fn new(whole: &[u8]) -> Self {
        let beyond = 8 * 8_usize.saturating_sub(whole.len()) as u32;
        let mask = u64::MAX.checked_shr(beyond).unwrap_or(0);
        let is_short = whole.len() <= 8 && !whole.contains(&0);
        Self { first: eight(whole, 0), mask, whole: whole.into(), is_short }
    }

    /// Where it ends, if it stands at this place.
    #[inline(always)]
    pub(crate) fn end(&self, text: &[u8], at: usize) -> Option<usize> {
        let end = at + self.whole.len();
        let is_there = eight(text, at) & self.mask == self.first
            && (self.is_short || text.get(at..end) == Some(&self.whole));
        is_there.then_some(end)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn digits_are_a_number(text in "[0-9]{1,8}", behind in "[^0-9][0-9a-z]{0,8}|") {
            let bytes = eight((text.clone() + &behind).as_bytes(), 0);
            prop_assert_eq!(leading_digits(bytes), text.len());
            prop_assert_eq!(number(bytes, text.len()), text.parse::<u32>().unwrap());
        }

        #[test]
        fn eight_bytes_at_once_are_eight_bytes(
            text in "[ab09/:\u{80}\0]{0,48}|[a0]{0,60}",
            part in "[ab09/:\u{80}\0]{0,12}",
            at in 0..50_usize,
            stops in prop::array::uniform3(0_u8..),
            letters in prop::array::uniform3(b'9'..=b'b'),
        ) {
            let text = text.as_bytes();
            let at = at.min(text.len());
            let rest = &text[at..];
            let want = |stops: &[u8]| at + rest.iter().position(|byte| stops.contains(byte)).unwrap_or(rest.len());
            for [a, b, c] in [stops, letters] {
                prop_assert_eq!(until(text, at, [a]), want(&[a]));
                prop_assert_eq!(until(text, at, [a, b]), want(&[a, b]));
                prop_assert_eq!(until(text, at, [a, b, c]), want(&[a, b, c]));
                prop_assert_eq!(until(text, at, [a, b, c, b'/']), want(&[a, b, c, b'/']));
            }
            let want = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
            prop_assert_eq!(digits(text, at), at + want);
            for part in [part.as_bytes(), &rest[..rest.len() / 2], rest] {
                let want = rest.starts_with(part).then_some(at + part.len());
                prop_assert_eq!(Literal::new(part).end(text, at), want);
            }
        }
    }
}
