//! nftables' objects, as the kernel describes them. The crate `netlink-packet-netfilter` does not read the counters of an
//! element. Numbers are those of `linux/netfilter/nf_tables.h`.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_netfilter::nftables::InetHookNumber;

use super::super::PacketCounters;
use super::super::change::{Element, Family, Set, Timeout};
use super::super::message::{attributes, be_u32, be_u64, text};
use super::wire::{RAW, address_length};
use crate::model::{Offender, Port, Protocol};

/// What is known of a table, of its chain, a rule or a set: attributes by their kinds, which depend on what it is.
pub(super) struct NftObject<'a>(&'a [u8]);

impl<'a> NftObject<'a> {
    pub(super) fn of(body: &'a [u8]) -> Self {
        Self(body.get(4..).unwrap_or_default())
    }

    fn get(&self, kind: u16) -> Option<&'a [u8]> {
        attributes(self.0).find(|(found, _)| *found == kind).map(|(_, value)| value)
    }

    fn word(&self, kind: u16) -> Option<u32> {
        self.get(kind).and_then(be_u32)
    }

    fn long(&self, kind: u16) -> Option<u64> {
        self.get(kind).and_then(be_u64)
    }

    fn name(&self, kind: u16) -> String {
        self.get(kind).map(text).unwrap_or_default()
    }

    /// What an attribute consists of.
    fn nest(&self, kind: u16) -> Self {
        Self(self.get(kind).unwrap_or_default())
    }

    /// The attributes in each of a list.
    fn list(&self, kind: u16) -> impl Iterator<Item = NftObject<'a>> {
        attributes(self.nest(kind).0).map(|(_, object)| Self(object))
    }

    /// `NFTA_TABLE_HANDLE`, `NFTA_TABLE_FLAGS`, `NFTA_TABLE_OWNER`.
    pub(super) fn table(&self) -> (u64, u32, Option<u32>) {
        (self.long(4).unwrap_or(0), self.word(2).unwrap_or(0), self.word(7))
    }

    /// `NFTA_CHAIN_HANDLE`.
    pub(super) fn chain(&self) -> u64 {
        self.long(2).unwrap_or(0)
    }

    /// Whether a chain sees packets as they arrive, before `raw` and so before connections are tracked: `NFTA_CHAIN_HOOK`, with
    /// `NFTA_HOOK_HOOKNUM` and `NFTA_HOOK_PRIORITY`.
    pub(super) fn is_early(&self) -> bool {
        let hook = self.nest(4);
        hook.word(1) == Some(InetHookNumber::PreRouting.into())
            && hook.word(2).is_some_and(|priority| priority.cast_signed() < RAW)
    }

    /// `NFTA_RULE_HANDLE`.
    pub(super) fn rule(&self) -> u64 {
        self.long(3).unwrap_or(0)
    }

    /// The sets that a rule looks into: `NFTA_RULE_EXPRESSIONS`, with `NFTA_EXPR_NAME`, `NFTA_EXPR_DATA` and in that
    /// `NFTA_LOOKUP_SET`.
    pub(super) fn lookups(&self) -> impl Iterator<Item = String> {
        let lookups = self.list(4).filter(|expression| expression.name(1) == "lookup");
        lookups.map(|lookup| lookup.nest(2).name(1))
    }

    /// `NFTA_SET_NAME`, `NFTA_SET_HANDLE`.
    pub(super) fn set(&self) -> (String, u64) {
        (self.name(2), self.long(16).unwrap_or(0))
    }

    /// Room for the elements of a set: `NFTA_SET_DESC`, with `NFTA_SET_DESC_SIZE`.
    pub(super) fn capacity(&self) -> u32 {
        self.nest(9).word(1).unwrap_or(u32::MAX)
    }

    /// How many elements a set has: `NFTA_SET_COUNT`, of kernels since 6.16.
    pub(super) fn count(&self) -> Option<u32> {
        self.word(20)
    }

    /// The elements in a part of a listing, with the time they have left and what they have counted; `None` for one of which
    /// [`Element`] knows nothing.
    pub(super) fn elements(
        &self,
        set: Set,
    ) -> impl Iterator<Item = Option<(Element, Timeout, Option<PacketCounters>)>> {
        self.list(3).map(move |element| read_element(set, &element))
    }
}

fn read_element(set: Set, element: &NftObject<'_>) -> Option<(Element, Timeout, Option<PacketCounters>)> {
    // NFTA_SET_ELEM_KEY with NFTA_DATA_VALUE.
    let key = element.nest(1).get(1)?;
    let address: IpAddr = match set.family {
        Family::V4 => Ipv4Addr::from(*key.first_chunk::<4>()?).into(),
        Family::V6 => Ipv6Addr::from(*key.first_chunk::<16>()?).into(),
    };
    let port = match key.get(address_length(set)..)? {
        [] => None,
        [protocol, _, _, _, high, low, ..] => {
            let protocol = match protocol {
                6 => Protocol::Tcp,
                17 => Protocol::Udp,
                _ => return None,
            };
            Some(Port { protocol, number: u16::from_be_bytes([*high, *low]) })
        }
        _ => return None,
    };
    let offender = Offender::new(address, set.length?)?;
    // NFTA_SET_ELEM_EXPIRATION, in milliseconds.
    let left = match element.long(5) {
        Some(millis) => Timeout::from_secs(millis.div_ceil(1000).max(1)),
        None => Timeout::FOREVER,
    };
    // NFTA_SET_ELEM_EXPR, and in it NFTA_EXPR_DATA with NFTA_COUNTER_BYTES and NFTA_COUNTER_PACKETS.
    let counter = element.nest(7).nest(2);
    let counters = counter.long(2).zip(counter.long(1));
    let counters = counters.map(|(packets, bytes)| PacketCounters { packets, bytes });
    Some((Element { offender, port }, left, counters))
}
