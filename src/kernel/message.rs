//! Netlink's messages and attributes, as the kernel writes them (`linux/netlink.h`). What makes no sense ends the list that
//! it is in: the kernel is trusted, but not relied upon for memory safety.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

/// Marks an attribute that holds attributes (`NLA_F_NESTED`).
pub(super) const NESTED: u16 = 0x8000;
/// Marks a number in network byte order (`NLA_F_NET_BYTEORDER`); ipset refuses numbers without it.
pub(super) const NET: u16 = 0x4000;

/// The types that any answer may have: an error or its absence, and the end of a listing.
pub(super) const ERROR: u16 = 2;
pub(super) const DONE: u16 = 3;

/// One message, without its length (`struct nlmsghdr`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NetlinkMessage<'a> {
    pub kind: u16,
    pub sequence: u32,
    pub body: &'a [u8],
}

/// The messages of a datagram; ends where they make no sense.
pub(super) fn messages(mut datagram: &[u8]) -> impl Iterator<Item = NetlinkMessage<'_>> {
    std::iter::from_fn(move || {
        let length = ne_u32(datagram)? as usize;
        let kind = ne_u16(datagram.get(4..)?)?;
        let sequence = ne_u32(datagram.get(8..)?)?;
        let body = datagram.get(16..length)?;
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(NetlinkMessage { kind, sequence, body })
    })
}

/// The attributes in these bytes, by kind and value; ends where they make no sense.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = ne_u16(bytes)?.into();
        let kind = ne_u16(bytes.get(2..)?)? & !(NESTED | NET);
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

pub(super) fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).trim_end_matches('\0').to_owned()
}

pub(super) fn ne_u16(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}

pub(super) fn ne_u32(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

pub(super) fn be_u16(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

pub(super) fn be_u64(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

pub(super) fn be_u32(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}
