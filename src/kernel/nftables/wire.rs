//! nftables' messages: transactions and questions to bytes, bytes to what a transaction came to.
//!
//! The crate `netlink-packet-netfilter` writes the messages. It does not read which element of a message was at fault; that
//! is read here. Numbers are those of `linux/netfilter/nf_tables.h` and `linux/netfilter/nfnetlink.h`.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::net::IpAddr;
use std::ops::Range;

use netlink_packet_core::{
    DefaultNla, Emitable, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST,
    NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_netfilter::nftables::{
    Bitwise, ChainAttribute, ChainMessage, Cmp, DataAttribute, ExpressionAttribute, Expressions, Hook,
    Immediate, InetHookNumber, ListAttribute, Lookup, Meta, MetaKey, NfTablesMessage, Operator, Payload,
    Register, RuleAttribute, RuleMessage, SetAttribute, SetDescription, SetElementAttribute, SetElementList,
    SetElementMessage, SetFlags, SetMessage, TableAttribute, TableFlags, TableMessage, Verdict,
    VerdictAttribute,
};
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};

use super::super::change::{Element, Family, Set, Timeout};
use super::super::message::{ERROR, attributes, messages, ne_u16, ne_u32};

/// `NFNL_SUBSYS_NFTABLES`.
const SUBSYSTEM: u16 = 10;
/// `NFT_MSG_DESTROYTABLE` and `NFT_MSG_DESTROYSETELEM`, of kernels since 6.3: to delete what is not there is no error.
const DESTROY_TABLE: u8 = 26;
const DESTROY_ELEMENTS: u8 = 30;

/// The name of the chain.
const CHAIN: &str = "prerouting";
/// Before `raw`, and so before connection tracking (-200) and NAT.
const PRIORITY: i32 = RAW - 10;
pub(super) const RAW: i32 = -300;

/// `NFT_TABLE_F_DORMANT`: its chains see no packets.
pub(super) const DORMANT: u32 = 1;
/// `NFT_TABLE_F_OWNER`: only the socket that made the table changes it. `NFT_TABLE_F_PERSIST`: the table stays when that
/// socket is closed, without an owner until another takes it.
pub(super) const OWNER: u32 = 2;
pub(super) const OWNED: u32 = OWNER | 4;

/// The numbers by which `nft` knows what a key consists of: `ipv4_addr`, `ipv6_addr`, `inet_proto`, `inet_service`, and six
/// bits to the left for each that follows (`enum datatypes` and `TYPE_BITS` in nftables' `datatype.h`).
const IPV4_ADDR: u32 = 7;
const IPV6_ADDR: u32 = 8;
const PROTOCOL_AND_PORT: u32 = 12 << 6 | 13;

/// The most elements in one message: an attribute's length has 16 bits, and an element takes 48 bytes or less.
pub(super) const MOST: usize = 1000;

/// What is to come of the packets of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NftTarget {
    /// They are dropped.
    Drop,
    /// They are answered: "port unreachable" (ICMP and ICMPv6).
    Reject,
}

/// Messages that take effect together, or not at all.
pub(super) struct Transaction<'t> {
    table: &'t str,
    bytes: Vec<u8>,
    /// Where each message begins, the first at 0; its sequence number is that of the first and its place.
    starts: Vec<usize>,
    sequence: u32,
}

impl<'t> Transaction<'t> {
    pub(super) fn new(table: &'t str, sequence: u32) -> Self {
        let mut new = Self { table, bytes: Vec::new(), starts: Vec::new(), sequence };
        new.push_to(SUBSYSTEM, 0, ControlMessage::BatchBegin);
        new
    }

    /// The finished bytes, and the sequence numbers of its messages.
    pub(super) fn finish(&mut self) -> (&[u8], Range<u32>) {
        self.push_to(SUBSYSTEM, NLM_F_ACK, ControlMessage::BatchEnd);
        // Old kernels do not acknowledge the end: the last message before it must be.
        if let [.., last, _] = self.starts[..]
            && let Some(flags) = self.bytes.get_mut(last + 6)
        {
            *flags |= NLM_F_ACK as u8;
        }
        (&self.bytes, self.sequence..self.sequence + self.starts.len() as u32)
    }

    /// The message of this sequence number, by its place.
    pub(super) fn place_of(&self, sequence: u32) -> Option<usize> {
        let place = sequence.checked_sub(self.sequence)? as usize;
        (place < self.starts.len()).then_some(place)
    }

    /// The place of the next message.
    pub(super) fn next(&self) -> usize {
        self.starts.len()
    }

    /// Which of a message's elements begins so many bytes after the message.
    pub(super) fn element_at(&self, place: usize, offset: u32) -> Option<usize> {
        let start = *self.starts.get(place)?;
        let message = self.bytes.get(start..)?;
        // Behind the headers stand the names of table and set, then the elements.
        let mut at = 20;
        while ne_u16(message.get(at + 2..)?)? & 0xfff != 3 {
            at += usize::from(ne_u16(message.get(at..)?)?).next_multiple_of(4);
        }
        at += 4;
        let mut nth = 0;
        while at < offset as usize {
            at += usize::from(ne_u16(message.get(at..)?)?).next_multiple_of(4);
            nth += 1;
        }
        (at == offset as usize).then_some(nth)
    }

    pub(super) fn new_table(&mut self, flags: u32) {
        let flags = TableFlags::from_bits_retain(flags);
        let attributes = vec![TableAttribute::Name(self.table.to_owned()), TableAttribute::Flags(flags)];
        self.push(NLM_F_CREATE, NfTablesMessage::NewTable(TableMessage { attributes }));
    }

    pub(super) fn delete_table(&mut self) {
        let attributes = vec![TableAttribute::Name(self.table.to_owned())];
        self.push(0, NfTablesMessage::DeleteTable(TableMessage { attributes }));
    }

    /// Deletes it if it is there; older kernels do not know the message.
    pub(super) fn destroy_table(&mut self) {
        self.delete_table();
        self.retype(DESTROY_TABLE);
    }

    pub(super) fn new_chain(&mut self) {
        let hook =
            vec![Hook::Number(InetHookNumber::PreRouting.into()), Hook::Priority(PRIORITY.cast_unsigned())];
        let attributes = vec![
            ChainAttribute::Table(self.table.to_owned()),
            ChainAttribute::Name(CHAIN.to_owned()),
            ChainAttribute::Hook(hook),
            ChainAttribute::Type("filter".to_owned()),
        ];
        self.push(NLM_F_CREATE, NfTablesMessage::NewChain(ChainMessage { attributes }));
    }

    /// Deletes the chain and all rules in it.
    pub(super) fn delete_chain(&mut self) {
        let attributes =
            vec![RuleAttribute::Table(self.table.to_owned()), RuleAttribute::Chain(CHAIN.to_owned())];
        self.push(0, NfTablesMessage::DeleteRule(RuleMessage { attributes }));
        let attributes =
            vec![ChainAttribute::Table(self.table.to_owned()), ChainAttribute::Name(CHAIN.to_owned())];
        self.push(0, NfTablesMessage::DeleteChain(ChainMessage { attributes }));
    }

    /// A hash set whose elements may have timeouts, and count what they keep out.
    pub(super) fn new_set(&mut self, set: Set, max_elements: u32) {
        let address = if set.family == Family::V4 { IPV4_ADDR } else { IPV6_ADDR };
        let key_type = if set.has_ports { address << 12 | PROTOCOL_AND_PORT } else { address };
        let counter = vec![
            ExpressionAttribute::Name("counter".to_owned()),
            ExpressionAttribute::Data(Expressions::Other {
                expression_type: "counter".to_owned(),
                attributes: Vec::new(),
            }),
        ];
        let mut attributes = vec![
            SetAttribute::Table(self.table.to_owned()),
            SetAttribute::Name(set.name(self.table)),
            SetAttribute::Flags(SetFlags::Timeout),
            SetAttribute::KeyType(key_type),
            SetAttribute::KeyLen(key_length(set) as u32),
            SetAttribute::Id(self.starts.len() as u32),
            SetAttribute::Description(vec![SetDescription::Size(max_elements)]),
        ];
        // NFTA_SET_EXPR, a nest of its own: the crate's `Expression` holds one attribute of it.
        let mut value = vec![0; counter.as_slice().buffer_len()];
        counter.as_slice().emit(&mut value);
        attributes.push(SetAttribute::Other(DefaultNla::new(17 | 0x8000, value)));
        self.push(NLM_F_CREATE, NfTablesMessage::NewSet(SetMessage { attributes }));
    }

    /// The rule for a set: what comes from an address in it, masked to the length of its prefixes, and for a set with
    /// ports goes to that port, meets the target.
    pub(super) fn new_rule(&mut self, set: Set, target: NftTarget) {
        let (protocol, offset) = match set.family {
            Family::V4 => (2, 12),
            Family::V6 => (10, 8),
        };
        let address = address_length(set) as u32;
        let value = |bytes: Vec<u8>| DataAttribute::Value(bytes);
        let (first, second, third) = (register(0), register(address / 4), register(address / 4 + 1));
        let mut expressions = vec![
            Expressions::Meta(vec![Meta::Key(MetaKey::Nfproto), Meta::DestinationRegister(first)]),
            Expressions::Cmp(vec![
                Cmp::SourceRegister(first),
                Cmp::Op(Operator::Equal),
                Cmp::Data(value(vec![protocol])),
            ]),
            // The source address in the network header (NFT_PAYLOAD_NETWORK_HEADER).
            load(1, offset, address, first),
        ];
        if let Some(mask) = mask(set) {
            expressions.push(Expressions::Bitwise(vec![
                Bitwise::SourceRegister(first),
                Bitwise::DestinationRegister(first),
                Bitwise::Length(address),
                Bitwise::Mask(value(mask)),
                Bitwise::Xor(value(vec![0; address as usize])),
            ]));
        }
        if set.has_ports {
            expressions.extend([
                Expressions::Meta(vec![Meta::Key(MetaKey::L4Proto), Meta::DestinationRegister(second)]),
                // The destination port in the transport header (NFT_PAYLOAD_TRANSPORT_HEADER).
                load(2, 2, 2, third),
            ]);
        }
        expressions.push(Expressions::Lookup(vec![
            Lookup::Set(set.name(self.table)),
            Lookup::SourceRegister(first),
        ]));
        expressions.push(match target {
            NftTarget::Drop => Expressions::Immediate(vec![
                Immediate::DestinationRegister(Register::Verdict),
                Immediate::Data(DataAttribute::Verdict(vec![VerdictAttribute::Code(Verdict::Other(0))])),
            ]),
            // NFTA_REJECT_TYPE: NFT_REJECT_ICMPX_UNREACH; NFTA_REJECT_ICMP_CODE: NFT_REJECT_ICMPX_PORT_UNREACH.
            NftTarget::Reject => Expressions::Other {
                expression_type: "reject".to_owned(),
                attributes: vec![
                    DefaultNla::new(1, 2_u32.to_be_bytes().to_vec()),
                    DefaultNla::new(2, vec![1]),
                ],
            },
        });
        let attributes = vec![
            RuleAttribute::Table(self.table.to_owned()),
            RuleAttribute::Chain(CHAIN.to_owned()),
            RuleAttribute::Expressions(expressions.into_iter().map(ListAttribute::from).collect()),
        ];
        self.push(NLM_F_CREATE | NLM_F_APPEND, NfTablesMessage::NewRule(RuleMessage { attributes }));
    }

    /// Adds elements, at most [`MOST`]; `is_new` if it is an error that one is there.
    pub(super) fn add(&mut self, set: Set, is_new: bool, elements: impl Iterator<Item = (Element, Timeout)>) {
        let elements = elements.map(|(element, timeout)| {
            let mut attributes = vec![SetElementAttribute::Key(DataAttribute::Value(key(set, &element)))];
            if timeout != Timeout::FOREVER {
                attributes.push(SetElementAttribute::Timeout(u64::from(timeout.as_secs()) * 1000));
            }
            attributes
        });
        let flags = NLM_F_CREATE | if is_new { NLM_F_EXCL } else { 0 };
        let list = self.elements(set, elements);
        self.push(flags, NfTablesMessage::NewSetElement(list));
    }

    /// Takes elements out, at most [`MOST`]. With `if_there` one may be missing, for which it takes a kernel of 6.3 or later.
    pub(super) fn remove(&mut self, set: Set, if_there: bool, elements: impl Iterator<Item = Element>) {
        let keys =
            elements.map(|element| vec![SetElementAttribute::Key(DataAttribute::Value(key(set, &element)))]);
        let list = self.elements(set, keys);
        self.push(0, NfTablesMessage::DeleteSetElement(list));
        if if_there {
            self.retype(DESTROY_ELEMENTS);
        }
    }

    fn elements(
        &self,
        set: Set,
        elements: impl Iterator<Item = Vec<SetElementAttribute>>,
    ) -> SetElementMessage {
        elements_of(self.table, set, elements)
    }

    fn push(&mut self, flags: u16, message: NfTablesMessage) {
        self.push_to(0, flags, message);
    }

    fn push_to(&mut self, resource: u16, flags: u16, message: impl Into<NetfilterMessageInner>) {
        let start = self.bytes.len();
        let sequence = self.sequence + self.starts.len() as u32;
        self.starts.push(start);
        emit(&mut self.bytes, sequence, resource, flags, message);
    }

    /// Makes the last message another one of the same attributes.
    fn retype(&mut self, kind: u8) {
        if let Some(byte) = self.starts.last().and_then(|start| self.bytes.get_mut(start + 4)) {
            *byte = kind;
        }
    }
}

/// Questions about a table. Their answers come as messages of the type of what was asked for.
pub(super) fn get_table(table: &str) -> (u16, NfTablesMessage) {
    let attributes = vec![TableAttribute::Name(table.to_owned())];
    (NLM_F_ACK, NfTablesMessage::GetTable(TableMessage { attributes }))
}

pub(super) fn get_chain(table: &str) -> (u16, NfTablesMessage) {
    let attributes = vec![ChainAttribute::Table(table.to_owned()), ChainAttribute::Name(CHAIN.to_owned())];
    (NLM_F_ACK, NfTablesMessage::GetChain(ChainMessage { attributes }))
}

pub(super) fn get_rules(table: &str) -> (u16, NfTablesMessage) {
    let attributes = vec![RuleAttribute::Table(table.to_owned())];
    (NLM_F_DUMP, NfTablesMessage::GetRule(RuleMessage { attributes }))
}

pub(super) fn get_sets(table: &str) -> (u16, NfTablesMessage) {
    let attributes = vec![SetAttribute::Table(table.to_owned())];
    (NLM_F_DUMP, NfTablesMessage::GetSet(SetMessage { attributes }))
}

pub(super) fn get_elements(table: &str, set: Set) -> (u16, NfTablesMessage) {
    let list = vec![SetElementList::Table(table.to_owned()), SetElementList::Set(set.name(table))];
    (NLM_F_DUMP, NfTablesMessage::GetSetElement(SetElementMessage { attributes: list }))
}

pub(super) fn get_element(table: &str, set: Set, element: &Element) -> (u16, NfTablesMessage) {
    let key = vec![SetElementAttribute::Key(DataAttribute::Value(key(set, element)))];
    let list = elements_of(table, set, std::iter::once(key));
    (NLM_F_ACK, NfTablesMessage::GetSetElement(list))
}

/// The bytes of a question.
pub(super) fn question(sequence: u32, (flags, message): (u16, NfTablesMessage)) -> Vec<u8> {
    let mut bytes = Vec::new();
    emit(&mut bytes, sequence, 0, flags, message);
    bytes
}

fn elements_of(
    table: &str,
    set: Set,
    elements: impl Iterator<Item = Vec<SetElementAttribute>>,
) -> SetElementMessage {
    let elements = elements.map(ListAttribute::Element).collect();
    let attributes = vec![
        SetElementList::Table(table.to_owned()),
        SetElementList::Set(set.name(table)),
        SetElementList::Elements(elements),
    ];
    SetElementMessage { attributes }
}

fn emit(
    bytes: &mut Vec<u8>,
    sequence: u32,
    resource: u16,
    flags: u16,
    message: impl Into<NetfilterMessageInner>,
) {
    let family = if resource == 0 { NetfilterProtoFamily::Inet } else { NetfilterProtoFamily::Unspec };
    let message = NetfilterMessage::new(NetfilterHeader::new(family, 0, resource), message);
    let mut message = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::from(message));
    message.header.flags = NLM_F_REQUEST | flags;
    message.header.sequence_number = sequence;
    message.finalize();
    let start = bytes.len();
    bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
    message.serialize(bytes.get_mut(start..).unwrap_or_default());
}

/// A 32-bit register, of which addresses take one or four.
fn register(nth: u32) -> Register {
    // NFT_REG32_00.
    Register::from(8 + nth)
}

fn load(base: u32, offset: u32, length: u32, register: Register) -> Expressions {
    Expressions::Payload(vec![
        Payload::DestinationRegister(register),
        Payload::Base(base),
        Payload::Offset(offset),
        Payload::Len(length),
    ])
}

pub(super) fn address_length(set: Set) -> usize {
    if set.family == Family::V4 { 4 } else { 16 }
}

/// The parts of a key are padded to four bytes each.
fn key_length(set: Set) -> usize {
    address_length(set) + if set.has_ports { 8 } else { 0 }
}

fn mask(set: Set) -> Option<Vec<u8>> {
    let length = usize::from(set.length?);
    let address = address_length(set);
    let byte = |nth: usize| 0xff_u16.checked_shl(8_u32.saturating_sub(length.saturating_sub(nth * 8) as u32));
    (length < address * 8).then(|| (0..address).map(|nth| byte(nth).unwrap_or(0) as u8).collect())
}

fn key(set: Set, element: &Element) -> Vec<u8> {
    let mut key = Vec::with_capacity(key_length(set));
    match element.offender.address() {
        IpAddr::V4(v4) => key.extend(v4.octets()),
        IpAddr::V6(v6) => key.extend(v6.octets()),
    }
    if let Some(port) = element.port {
        key.extend([port.protocol as u8, 0, 0, 0]);
        key.extend(port.number.to_be_bytes());
        key.extend([0, 0]);
    }
    key
}

/// What a transaction came to, from the answers to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NftError {
    /// An errno.
    pub code: u32,
    /// The sequence number of the message at fault.
    pub sequence: u32,
    /// Where in the message what is at fault begins, if the kernel says so.
    pub offset: Option<u32>,
}

/// The first error in a datagram to one of these sequence numbers, and whether there was any answer.
pub(super) fn outcome(datagram: &[u8], sequences: &Range<u32>) -> (bool, Option<NftError>) {
    let mut is_answered = false;
    for message in messages(datagram) {
        if message.kind == ERROR && sequences.contains(&message.sequence) {
            is_answered = true;
            let code = ne_u32(message.body).unwrap_or(0).cast_signed().unsigned_abs();
            if code != 0 {
                // NLMSGERR_ATTR_OFFS, behind the header of the request, to which the answer is cut.
                let offset = attributes(message.body.get(20..).unwrap_or_default())
                    .find(|(kind, _)| *kind == 2)
                    .and_then(|(_, offset)| ne_u32(offset));
                return (true, Some(NftError { code, sequence: message.sequence, offset }));
            }
        }
    }
    (is_answered, None)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::change::Layout;
    use super::super::object::NftObject;
    use super::*;
    use crate::model::{Offender, Port, Protocol};

    fn element(offender: &str, port: Option<(Protocol, u16)>) -> Element {
        let port = port.map(|(protocol, number)| Port { protocol, number });
        Element { offender: offender.parse().unwrap(), port }
    }

    /// The set of an element.
    fn of(element: &Element) -> Set {
        element.set(Layout::ByLength)
    }

    /// That these are the messages of a transaction on the table `t`: the type of each, and what is behind its header.
    #[track_caller]
    fn check(fill: impl FnOnce(&mut Transaction<'_>), want: &[&str]) {
        let mut transaction = Transaction::new("t", 7);
        fill(&mut transaction);
        let (bytes, sequences) = transaction.finish();
        assert_eq!(sequences, 7..7 + want.len() as u32 + 2);
        let messages: Vec<String> = messages(bytes)
            .zip(sequences)
            .map(|(message, sequence)| {
                assert_eq!(message.sequence, sequence);
                let hex: String = message.body.iter().map(|byte| format!("{byte:02x}")).collect();
                format!("{} {hex}", message.kind)
            })
            .collect();
        let want: Vec<String> = want
            .iter()
            .map(|want| {
                want.split_once(' ').map(|(kind, hex)| format!("{kind} {}", hex.replace(' ', ""))).unwrap()
            })
            .collect();
        let [begin, inner @ .., end] = &messages[..] else { panic!("{messages:?}") };
        assert_eq!([&**begin, &**end], ["16 0000000a", "17 0000000a"]);
        assert_eq!(inner, want);
    }

    #[test]
    fn a_transaction_is_what_nft_sends_for_the_same() {
        let v4 = element("10.1.0.0/20", None);
        let v6 = element("2001:db8::/33", Some((Protocol::Tcp, 22)));
        let table = "01000000 0600010074000000";
        let in_chain = &format!("{table} 0f000200707265726f7574696e670000");
        let in_v4 = &format!("{table} 0c000200697076345f323000");
        let in_v6 = &format!("{table} 12000200697076365f33335f706f727473000000");
        let counter = "14001180 0c000100636f756e74657200 04000280";
        check(
            |transaction| {
                transaction.new_table(OWNED);
                transaction.new_chain();
                transaction.new_set(of(&v4), 65_536);
                transaction.new_set(of(&v6), 1000);
                transaction.remove(of(&v4), true, std::iter::once(v4));
                transaction.remove(of(&v4), false, std::iter::once(v4));
                transaction.add(of(&v4), true, std::iter::once((v4, Timeout::from_secs(60))));
                transaction.add(of(&v6), false, std::iter::once((v6, Timeout::FOREVER)));
                transaction.delete_chain();
                transaction.delete_table();
                transaction.destroy_table();
            },
            &[
                &format!("2560 {table} 0800020000000006"),
                // At prerouting, before all others.
                &format!(
                    "2563 {table} 0f000300707265726f7574696e670000 14000480 0800010000000000 08000200fffffeca \
                     0b00070066696c7465720000"
                ),
                // With timeouts; the type and length of the key, a number, the most elements, and a counter each.
                &format!(
                    "2569 {in_v4} 0800030000000010 0800040000000007 0800050000000004 08000a0000000003 \
                     0c000980 0800010000010000 {counter}"
                ),
                &format!(
                    "2569 {in_v6} 0800030000000010 080004000000830d 0800050000000018 08000a0000000004 \
                     0c000980 08000100000003e8 {counter}"
                ),
                &format!("2590 {in_v4} 14000380 10000180 0c000180 080001000a010000"),
                &format!("2574 {in_v4} 14000380 10000180 0c000180 080001000a010000"),
                &format!("2572 {in_v4} 20000380 1c000180 0c000180 080001000a010000 0c000400000000000000ea60"),
                &format!(
                    "2572 {in_v6} 28000380 24000180 20000180 1c000100 20010db8000000000000000000000000 06000000 00160000"
                ),
                &format!("2568 {in_chain}"),
                &format!("2565 {table} 0f000300707265726f7574696e670000"),
                &format!("2562 {table}"),
                &format!("2586 {table}"),
            ],
        );
    }

    #[test]
    fn a_rule_masks_the_address_and_looks_it_up() {
        let rule = "01000000 0600010074000000 0f000200707265726f7574696e670000";
        let protocol = "24000180 090001006d65746100000000 14000280 080002000000000f 0800010000000008";
        let is = |family: &str| {
            format!(
                "2c000180 08000100636d7000 20000280 0800010000000008 0800020000000000 0c000380 05000100{family}000000"
            )
        };
        let load = |length: &str, from: &str, base: &str, to: &str| {
            format!(
                "34000180 0c0001007061796c6f616400 24000280 08000100000000{to} 08000200000000{base} \
                 08000300000000{from} 08000400000000{length}"
            )
        };
        let set = |transaction: &mut Transaction<'_>, element: &Element, target| {
            transaction.new_rule(of(element), target);
        };
        check(
            |transaction| set(transaction, &element("10.1.0.0/20", None), NftTarget::Drop),
            &[&format!(
                "2566 {rule} 24010480 {protocol} {} {} \
                 44000180 0c0001006269747769736500 34000280 0800010000000008 0800020000000008 0800030000000004 \
                 0c000480 08000100fffff000 0c000580 0800010000000000 \
                 28000180 0b0001006c6f6f6b75700000 18000280 0c000100697076345f323000 0800020000000008 \
                 30000180 0e000100696d6d6564696174 65000000 1c000280 0800010000000000 10000280 0c000280 \
                 0800010000000000",
                is("02"),
                load("04", "0c", "01", "08")
            )],
        );
        check(
            |transaction| {
                let element = element("2001:db8::/33", Some((Protocol::Tcp, 22)));
                set(transaction, &element, NftTarget::Reject);
            },
            &[&format!(
                "2566 {rule} 90010480 {protocol} {} {} \
                 5c000180 0c0001006269747769736500 4c000280 0800010000000008 0800020000000008 0800030000000010 \
                 18000480 14000100ffffffff800000000000000000000000 18000580 1400010000000000000000000000000000000000 \
                 24000180 090001006d65746100000000 14000280 0800020000000010 080001000000000c {} \
                 30000180 0b0001006c6f6f6b75700000 20000280 12000100697076365f33335f706f727473000000 \
                 0800020000000008 24000180 0b00010072656a6563740000 14000280 0800010000000002 0500020001000000",
                is("0a"),
                load("10", "08", "01", "08"),
                load("02", "02", "02", "0d")
            )],
        );
    }

    #[test]
    fn a_whole_address_needs_no_mask_and_no_prefix_has_a_wrong_one() {
        for length in 1..=128_u8 {
            let set = |family| Set { family, has_ports: false, length: Some(length) };
            let all = u128::MAX << (128 - length);
            let want = (length < 128).then(|| all.to_be_bytes().to_vec());
            assert_eq!(mask(set(Family::V6)), want, "/{length}");
            if length <= 32 {
                let want = (length < 32).then(|| (u32::MAX << (32 - length)).to_be_bytes().to_vec());
                assert_eq!(mask(set(Family::V4)), want, "/{length}");
            }
        }
    }

    /// An answer of the kernel: an error to the message with this number, at this place in it.
    fn answer(sequence: u32, code: i32, offset: Option<u32>) -> Vec<u8> {
        let mut body = (-code).to_ne_bytes().to_vec();
        body.extend([0; 16]);
        if let Some(offset) = offset {
            body.extend([8, 0, 2, 0]);
            body.extend(offset.to_ne_bytes());
        }
        let mut bytes = (body.len() as u32 + 16).to_ne_bytes().to_vec();
        bytes.extend(ERROR.to_ne_bytes());
        bytes.extend([0; 2]);
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(body);
        bytes
    }

    #[test]
    fn the_first_error_to_one_of_ours_counts() {
        let error = |code, offset| Some(NftError { code, sequence: 8, offset });
        let ours = 7..10;
        assert_eq!(outcome(&[], &ours), (false, None));
        assert_eq!(outcome(&answer(9, 0, None), &ours), (true, None));
        assert_eq!(outcome(&answer(10, 17, None), &ours), (false, None));
        assert_eq!(outcome(&answer(8, 17, Some(60)), &ours), (true, error(17, Some(60))));
        let several =
            [answer(6, 1, None), answer(7, 0, None), answer(8, 2, None), answer(9, 17, None)].concat();
        assert_eq!(outcome(&several, &ours), (true, error(2, None)));
    }

    fn elements() -> impl Strategy<Value = Vec<(Element, Timeout)>> {
        let v4 =
            (any::<u32>(), 1..=32_u8).prop_map(|(bits, length)| (IpAddr::from(bits.to_be_bytes()), length));
        let v6 =
            (any::<u128>(), 1..=128_u8).prop_map(|(bits, length)| (IpAddr::from(bits.to_be_bytes()), length));
        let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)];
        let port = prop::option::of(
            (protocol, any::<u16>()).prop_map(|(protocol, number)| Port { protocol, number }),
        );
        let element =
            (prop_oneof![v4, v6], port, any::<u32>()).prop_map(|((address, length), port, secs)| {
                let offender = Offender::new(address, length).unwrap();
                (Element { offender, port }, Timeout::from_secs(secs.into()))
            });
        prop::collection::vec(element, 1..9)
    }

    proptest! {
        #[test]
        fn what_is_written_can_be_read_and_its_elements_are_found_by_their_places(elements in elements()) {
            for (one, timeout) in &elements {
                let set = of(one);
                let alike: Vec<_> = elements.iter().filter(|(element, _)| of(element) == set).copied().collect();
                let mut transaction = Transaction::new("banstream", u32::MAX / 2);
                transaction.new_table(0);
                let place = transaction.next();
                transaction.add(set, true, alike.iter().copied());
                let (bytes, _) = transaction.finish();
                let bytes = bytes.to_vec();
                let message = messages(&bytes).nth(place).unwrap();
                let read: Vec<_> = NftObject::of(message.body).elements(set).map(Option::unwrap).collect();
                // The time that is left, which the kernel adds, has a kind of its own.
                let want: Vec<_> = alike.iter().map(|(element, _)| (*element, Timeout::FOREVER, None)).collect();
                prop_assert_eq!(read, want);
                prop_assert!(alike.contains(&(*one, *timeout)));

                let start = message.body.as_ptr() as usize - 16;
                let (_, list) = attributes(&message.body[4..]).find(|(kind, _)| *kind == 3).unwrap();
                for (nth, (_, element)) in attributes(list).enumerate() {
                    // Behind the header of its attribute.
                    let offset = (element.as_ptr() as usize - start - 4) as u32;
                    prop_assert_eq!(transaction.element_at(place, offset), Some(nth));
                    prop_assert_eq!(transaction.element_at(place, offset + 1), None);
                }
                prop_assert_eq!(transaction.element_at(place, u32::MAX), None);
                prop_assert_eq!(transaction.place_of(u32::MAX / 2 + 2), Some(place));
            }
        }

        #[test]
        fn no_bytes_from_the_kernel_cause_a_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            elements in elements(),
            at in any::<prop::sample::Index>(),
            other in any::<u8>(),
        ) {
            let set = of(&elements[0].0);
            let mut transaction = Transaction::new("t", 7);
            transaction.add(set, true, elements.iter().map(|(element, timeout)| (*element, *timeout)));
            let mut nearly = transaction.finish().0.to_vec();
            let at = at.index(nearly.len());
            nearly[at] = other;
            for bytes in [&bytes, &nearly] {
                outcome(bytes, &(0..u32::MAX));
                for body in messages(bytes).map(|message| message.body).chain([&**bytes]) {
                    let object = NftObject::of(body);
                    object.elements(set).for_each(drop);
                    drop((object.table(), object.chain(), object.is_early(), object.rule(), object.set()));
                    object.lookups().for_each(drop);
                    let _ = (object.capacity(), object.count());
                }
            }
        }
    }
}
