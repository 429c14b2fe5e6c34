//! What fields take, byte by byte.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use memchr::{memchr, memchr2, memrchr};

use crate::grammar::proof::{is_letter, is_zone};
use crate::grammar::source::FieldKind;
use crate::grammar::time;
use crate::grammar::variant::{Field, is_name};
use crate::model::JoinKey;

/// Whether `message` ends with `tail`; most tails differ in the last byte, or have no other.
pub(super) fn ends(message: &[u8], tail: &[u8]) -> bool {
    match tail {
        [] => true,
        [byte] => message.last() == Some(byte),
        [.., byte] => message.last() == Some(byte) && message.ends_with(tail),
    }
}

/// How many bytes of `text` there are before the first that does not hold.
pub(super) fn run(text: &[u8], mut holds: impl FnMut(u8) -> bool) -> usize {
    text.iter().position(|byte| !holds(*byte)).unwrap_or(text.len())
}

macro_rules! table {
    (|$byte:ident| $holds:expr) => {{
        let (mut table, mut $byte) = ([false; 256], 0_u8);
        while $byte < 128 {
            #[allow(clippy::indexing_slicing)] // while it is compiled
            {
                table[$byte as usize] = $holds;
            }
            $byte += 1;
        }
        table
    }};
    ($holds:ident) => {
        table!(|byte| $holds(byte))
    };
}

/// What addresses and names of hosts are made of, by byte: a look-up takes a third of the time of the comparisons.
const IN_ADDRESSES: [bool; 256] = table!(|byte| byte.is_ascii_hexdigit() || byte == b':' || byte == b'.');
const IN_NAMES: [bool; 256] = table!(is_name);
const LETTERS: [bool; 256] = table!(is_letter);

pub(super) fn in_addresses(byte: u8) -> bool {
    IN_ADDRESSES.get(usize::from(byte)) == Some(&true)
}

/// How many digits `rest` begins with, if any.
#[inline(always)]
pub(super) fn digits(rest: &[u8]) -> Option<usize> {
    let length = run(rest, |b| b.is_ascii_digit());
    (length > 0).then_some(length)
}

/// How many bytes of `rest` the field takes; `None` if what stands there does not fit.
#[inline(always)]
pub(super) fn extent(field: Field, rest: &[u8]) -> Option<usize> {
    let length = match field.kind {
        FieldKind::Num => return digits(rest),
        FieldKind::Word => {
            let stop = field.stop.unwrap_or(b' ');
            // Most words are so short that a call of memchr costs more.
            run(rest, |b| b != b' ' && b != stop)
        }
        FieldKind::Key(_) => {
            let stop = field.stop.unwrap_or(b' ');
            return Some(run(rest, |b| b != b' ' && b != stop))
                .filter(|length| (1..=JoinKey::LONGEST).contains(length));
        }
        FieldKind::Quoted if field.stop.is_none() => return quoted(rest).is_none().then_some(rest.len()),
        FieldKind::Quoted => return quoted(rest),
        // Only in the value of a record.
        FieldKind::Forwarded if field.stop.is_none() => return Some(rest.len()),
        FieldKind::Forwarded if field.stop != Some(b'"') => return memchr(field.stop?, rest),
        FieldKind::Forwarded => return quoted(rest),
        FieldKind::Without(set) => {
            return Some(run(rest, |b| !set.holds(b) && Some(b) != field.stop));
        }
        FieldKind::Time => return time::stamps(rest, field.stop).next(),
        FieldKind::Rest => match rest.first() {
            Some(b'"') => 0,
            _ => rest.len(),
        },
        FieldKind::Host => {
            let mut letter = false;
            let name = run(rest, |b| {
                letter |= LETTERS.get(usize::from(b)) == Some(&true);
                IN_NAMES.get(usize::from(b)) == Some(&true)
            });
            if !letter {
                return None;
            }
            match rest.get(name..)? {
                [b':', port @ ..] => match run(port, |b| b.is_ascii_digit()) {
                    0 => name,
                    digits => name + 1 + digits,
                },
                _ => name,
            }
        }
        FieldKind::Free | FieldKind::Unquoted | FieldKind::Ip | FieldKind::Ipv4 => return None,
    };
    (length > 0).then_some(length)
}

/// The addresses that `rest` may begin with and their lengths, the longest first. There is more than one only where the
/// character behind the field could stand in an address too, as in `192.0.2.1:80` and `192.0.2.1.`.
pub(super) fn addresses(field: Field, rest: &[u8]) -> impl Iterator<Item = (usize, IpAddr)> {
    let shorter = move |length: &usize| memrchr(field.stop?, rest.get(..*length)?);
    std::iter::successors(Some(longest(rest)), shorter)
        .filter_map(move |length| Some((length, address_of(field, rest, length)?)))
}

/// The longest of them.
#[inline(always)]
pub(super) fn plain_address(field: Field, rest: &[u8]) -> Option<(usize, IpAddr)> {
    let length = longest(rest);
    Some((length, address_of(field, rest, length)?))
}

/// How much of `rest` could be an address.
#[inline(always)]
pub(super) fn longest(rest: &[u8]) -> usize {
    let text = rest.get(..LONGEST).unwrap_or(rest);
    let end = run(text, in_addresses);
    match text.get(end..) {
        Some([b'%', zone @ ..]) => end + 1 + run(zone, is_zone),
        _ => end,
    }
}

/// The address of this length, if the field can end there.
#[inline(always)]
pub(super) fn address_of(field: Field, rest: &[u8], length: usize) -> Option<IpAddr> {
    let ends = rest.get(length).copied() == field.stop;
    let address = address(rest.get(..length).filter(|_| ends)?)?;
    (field.kind == FieldKind::Ip || address.is_ipv4()).then_some(address)
}

/// The longest address, with `%` and a zone as long as interface names are (`INET6_ADDRSTRLEN` and `IFNAMSIZ`, without
/// their NULs).
const LONGEST: usize = 45 + 1 + 15;

/// Up to the next quotation mark that no backslash makes plain.
pub(super) fn quoted(rest: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let next = at + memchr2(b'"', b'\\', rest.get(at..)?)?;
        match rest.get(next) {
            Some(b'"') => return Some(next),
            _ => at = next + 2,
        }
    }
}

/// How much of `rest` stands before a quotation mark that no backslash makes plain.
pub(super) fn unquoted(rest: &[u8]) -> usize {
    quoted(rest).unwrap_or(rest.len())
}

/// The address, without its zone, and as IPv4 if it is one written as IPv6.
pub(super) fn address(text: &[u8]) -> Option<IpAddr> {
    if let Some(address) = v4(text) {
        return Some(address.into());
    }
    let text = std::str::from_utf8(text).ok()?;
    let text = match text.split_once('%') {
        Some((_, zone)) if zone.is_empty() || zone.ends_with('.') => return None,
        Some((address, _)) => address,
        None => text,
    };
    text.parse::<Ipv6Addr>().ok().map(|address| address.to_canonical())
}

/// As `Ipv4Addr::from_str` (no leading zeros, four parts), at a third of its 28 ns.
pub(super) fn v4(text: &[u8]) -> Option<Ipv4Addr> {
    let (mut bits, mut parts, mut part, mut digits) = (0_u32, 1, 0_u32, 0);
    for byte in text {
        match byte {
            // A zero before other digits leaves `part` at 0.
            b'0'..=b'9' if digits == 0 || (digits < 3 && part > 0) => {
                part = part * 10 + u32::from(byte - b'0');
                digits += 1;
            }
            b'.' if digits > 0 && part < 256 && parts < 4 => {
                bits = bits << 8 | part;
                (parts, part, digits) = (parts + 1, 0, 0);
            }
            _ => return None,
        }
    }
    (parts == 4 && digits > 0 && part < 256).then(|| Ipv4Addr::from_bits(bits << 8 | part))
}
