//! Addresses, which are read while they are measured.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use memchr::memrchr;

use super::step::run;
use crate::entry::scan::{eight, leading_digits};
use crate::grammar::proof::is_zone;
use crate::grammar::source::FieldKind;
use crate::grammar::variant::Field;

/// What addresses are made of, by byte: a look-up takes a third of the time of the comparisons.
const IN_ADDRESSES: [bool; 256] =
    super::step::table!(|byte| byte.is_ascii_hexdigit() || byte == b':' || byte == b'.');

pub(super) fn in_addresses(byte: u8) -> bool {
    IN_ADDRESSES.get(usize::from(byte)) == Some(&true)
}

/// The addresses that `rest` may begin with and their lengths, the longest first. There is more than one only where the
/// character behind the field could stand in an address too, as in `192.0.2.1:80` and `192.0.2.1.`.
pub(in crate::grammar) fn addresses(field: Field, rest: &[u8]) -> impl Iterator<Item = (usize, IpAddr)> {
    let shorter = move |length: &usize| memrchr(field.stop?, rest.get(..*length)?);
    std::iter::successors(Some(longest(rest)), shorter)
        .filter_map(move |length| Some((length, address_of(field, rest, length)?)))
}

/// The address that all of `text` is.
pub(in crate::grammar) fn address_whole(text: &[u8]) -> Option<IpAddr> {
    (longest(text) == text.len()).then(|| address(text)).flatten()
}

/// The longest of them.
#[inline(never)]
pub(super) fn longest_address(field: Field, rest: &[u8]) -> Option<(usize, IpAddr)> {
    let length = longest(rest);
    Some((length, address_of(field, rest, length)?))
}

/// How much of `rest` could be an address.
fn longest(rest: &[u8]) -> usize {
    let text = rest.get(..LONGEST).unwrap_or(rest);
    let end = run(text, in_addresses);
    match text.get(end..) {
        Some([b'%', zone @ ..]) => end + 1 + run(zone, is_zone),
        _ => end,
    }
}

/// The address of this length, if the field can end there.
fn address_of(field: Field, rest: &[u8], length: usize) -> Option<IpAddr> {
    let ends = rest.get(length).copied() == field.stop;
    let address = address(rest.get(..length).filter(|_| ends)?)?;
    (field.kind == FieldKind::Ip || address.is_ipv4()).then_some(address)
}

/// The longest address, with `%` and a zone as long as interface names are (`INET6_ADDRSTRLEN` and `IFNAMSIZ`, without
/// their NULs).
const LONGEST: usize = 45 + 1 + 15;

/// The address, without its zone, and as IPv4 if it is one written as IPv6.
pub(in crate::grammar) fn address(text: &[u8]) -> Option<IpAddr> {
    if let Some((address, end)) = v4(text, 0) {
        return (end == text.len()).then(|| address.into());
    }
    let text = std::str::from_utf8(text).ok()?;
    let text = match text.split_once('%') {
        Some((_, zone)) if zone.is_empty() || zone.ends_with('.') => return None,
        Some((address, _)) => address,
        None => text,
    };
    text.parse::<Ipv6Addr>().ok().map(|address| address.to_canonical())
}

/// The address that stands at this place, and where it ends. As `Ipv4Addr::from_str` (no leading zeros, four parts), at a
/// tenth of its time.
#[inline(always)]
pub(super) fn v4(text: &[u8], mut at: usize) -> Option<(Ipv4Addr, usize)> {
    let mut bits = 0_u32;
    for nth in 0..4 {
        let bytes = eight(text, at);
        let length = leading_digits(bytes);
        let digit = |place: usize| (bytes >> (8 * place)) as u32 & 15;
        let part = match length {
            1 => digit(0),
            2 if digit(0) > 0 => digit(0) * 10 + digit(1),
            3 if digit(0) > 0 => digit(0) * 100 + digit(1) * 10 + digit(2),
            _ => return None,
        };
        let ends = nth == 3 || (bytes >> (8 * length)) as u8 == b'.';
        if part > 255 || !ends {
            return None;
        }
        bits = bits << 8 | part;
        at += length + usize::from(nth < 3);
    }
    Some((Ipv4Addr::from_bits(bits), at))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_address_is_what_the_library_takes_for_one(
            text in "([0-9]{1,3}\\.){3}[0-9]{1,3}|[0-9.]{0,18}|([01]?[0-9]?[0-9]\\.?){4}",
            behind in "[0-9a-f:.% ]{0,9}",
        ) {
            let want = text.parse::<Ipv4Addr>().ok();
            prop_assert_eq!(address(text.as_bytes()), want.map(IpAddr::from));
            let both = text.clone() + &behind;
            prop_assert_eq!(address(both.as_bytes()), both.parse().ok().filter(IpAddr::is_ipv4));
            if want.is_some() && !behind.starts_with(|c: char| c.is_ascii_digit()) {
                prop_assert_eq!(v4(both.as_bytes(), 0), want.map(|address| (address, text.len())));
            }
        }
    }
}
