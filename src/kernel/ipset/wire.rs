//! The kernel's ipset protocol: requests to bytes, bytes to replies.
//!
//! Both directions can be tested byte by byte, on any machine and without privileges. Formats and numbers are those of
//! `linux/netlink.h`, `linux/netfilter/nfnetlink.h` and `linux/netfilter/ipset/ip_set.h`, protocol 6, which kernels
//! support since 2.6.39.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::PacketCounters;
use super::super::change::{Change, Element, Family, Set, Timeout};
use super::super::message::{
    DONE, ERROR, NESTED, NET, attributes, be_u16, be_u32, be_u64, messages, ne_u32, text,
};
use crate::model::{Offender, Port, Protocol};

// The kernel's error numbers that somebody acts on: one of errno.h, the others ipset's own.
pub(super) const ENOENT: u32 = 2;
pub(in crate::kernel) const FIND_TYPE: u32 = 4098;
pub(super) const NOT_IN_SET: u32 = 4103;
pub(super) const NO_COUNTERS: u32 = 4111;
pub(super) const HASH_FULL: u32 = 4352;

// NFNL_SUBSYS_IPSET, and the commands to it, `enum ipset_cmd`.
const SUBSYSTEM: u16 = 6 << 8;
const LISTED: u16 = SUBSYSTEM | LIST;
const CREATE: u16 = 2;
const DESTROY: u16 = 3;
const SWAP: u16 = 6;
const LIST: u16 = 7;
const ADD: u16 = 9;
const DEL: u16 = 10;
const TEST: u16 = 11;

// Flags of a request. Never NLM_F_EXCL: without it, adding twice renews and removing twice is not an error.
const ACK: u16 = 0x1 | 0x4;
const NEW: u16 = ACK | 0x400;
const DUMP: u16 = 0x1 | 0x300;

// Attributes of a request.
const PROTOCOL: u16 = 1;
const SETNAME: u16 = 2;
const TYPENAME: u16 = 3;
const REVISION: u16 = 4;
const FAMILY: u16 = 5;
const FLAGS: u16 = 6;
const DATA: u16 = 7;
const ADT: u16 = 8;
const LINENO: u16 = 9;

// Attributes inside DATA.
const IP: u16 = 1;
const CIDR: u16 = 3;
const PORT: u16 = 4;
const TIMEOUT: u16 = 6;
const PROTO: u16 = 7;
const CADT_FLAGS: u16 = 8;
const NAME: u16 = 18;
const HASHSIZE: u16 = 18;
const MAXELEM: u16 = 19;
const ELEMENTS: u16 = 24;
const BYTES: u16 = 24;
const PACKETS: u16 = 25;

/// Marks an element as an exception, in CADT_FLAGS (`IPSET_FLAG_NOMATCH`).
const NOMATCH: u32 = 1 << 2;
/// Creates a set whose elements count dropped packets (`IPSET_FLAG_WITH_COUNTERS`).
const COUNTERS: u32 = 1 << 3;

/// The most bytes of elements in one message, and the most that one of them takes.
///
/// An attribute's length has 16 bits, and all elements stand in one attribute. This is room for some 1,100
/// IPv4 addresses of 56 bytes, where the cost of an element stops falling (0.5 µs, against 3.6 µs one by
/// one), or 850 IPv6 prefixes of 76.
const ROOM: usize = 65_000;
const LARGEST: usize = 92;

/// The most elements of one set that are listed with their counters.
const MOST: usize = 100;

/// One request to the kernel. Its buffer is kept from one to the next.
#[derive(Debug, Default)]
pub(super) struct Request {
    bytes: Vec<u8>,
}

impl Request {
    /// Asks for a new set. The sizes are for sets of elements; a set of sets has none.
    pub(super) fn create(&mut self, name: &str, set_type: &SetType, hash_size: u32, max_elements: u32) {
        self.begin(CREATE, NEW, name);
        self.text(TYPENAME, &set_type.name);
        self.put(REVISION, &[set_type.revision()]);
        self.put(FAMILY, &[set_type.family]);
        self.nest(DATA, |data| {
            if set_type.times_out {
                data.put(HASHSIZE | NET, &hash_size.to_be_bytes());
                data.put(MAXELEM | NET, &max_elements.to_be_bytes());
                // For elements without a timeout: forever. Without this, no element could have one.
                data.put(TIMEOUT | NET, &Timeout::FOREVER.as_secs().to_be_bytes());
                data.put(CADT_FLAGS | NET, &COUNTERS.to_be_bytes());
            }
        });
    }

    /// Makes `member` a member of the set of sets `list`.
    pub(super) fn link(&mut self, list: &str, member: &str) {
        self.begin(ADD, ACK, list);
        self.nest(DATA, |data| data.text(NAME, member));
    }

    /// Takes a set away that nothing refers to.
    pub(super) fn destroy(&mut self, name: &str) {
        self.begin(DESTROY, ACK, name);
    }

    /// Gives each of two sets of one type the other's name, and its place in lists and rules, in one instant.
    pub(super) fn swap(&mut self, name: &str, other: &str) {
        self.begin(SWAP, ACK, name);
        // IPSET_ATTR_SETNAME2, which is the same number.
        self.text(TYPENAME, other);
    }

    /// Asks what a set is and how full.
    pub(super) fn header(&mut self, name: &str) {
        self.begin(LIST, DUMP, name);
        // IPSET_FLAG_LIST_HEADER: no elements.
        self.put(FLAGS | NET, &4u32.to_be_bytes());
    }

    /// Asks for all that is in a set.
    pub(super) fn list(&mut self, name: &str) {
        self.begin(LIST, DUMP, name);
    }

    /// Asks whether the element is in the set.
    pub(super) fn test(&mut self, name: &str, element: &Element) {
        self.begin(TEST, ACK, name);
        self.nest(DATA, |data| data.element(element));
    }

    /// Asks whether `member` is a member of the set of sets `list`.
    pub(super) fn test_member(&mut self, list: &str, member: &str) {
        self.begin(TEST, ACK, list);
        self.nest(DATA, |data| data.text(NAME, member));
    }

    /// Asks for as many of these changes to one set as are of one sort and fit, from the first; their number.
    ///
    /// That is at least one, if there are any. They have the lines 1, 2, 3 ... in an answer.
    pub(super) fn change(
        &mut self,
        name: &str,
        counters: Counters,
        mut changes: impl Iterator<Item = Change>,
    ) -> usize {
        let Some(first) = changes.next() else { return 0 };
        self.begin(if matches!(first, Change::Add(..)) { ADD } else { DEL }, ACK, name);
        // The kernel writes the line at fault over this number, so it has to be here.
        self.put(LINENO, &0u32.to_ne_bytes());
        let mut line: u32 = 0;
        self.nest(ADT, |adt| {
            let full = adt.bytes.len() + ROOM - LARGEST;
            let alike =
                |change: &Change| matches!(first, Change::Add(..)) == matches!(change, Change::Add(..));
            for change in std::iter::once(first).chain(changes.take_while(alike)) {
                line += 1;
                adt.nest(DATA, |data| {
                    data.element(&change.element());
                    if let Change::Add(_, timeout) = change {
                        data.put(TIMEOUT | NET, &timeout.min(Timeout::IPSET_LONGEST).as_secs().to_be_bytes());
                        // The kernel puts an element where another was, and would leave it what that one counted.
                        if counters == Counters::Zeroed {
                            data.put(BYTES | NET, &0u64.to_be_bytes());
                            data.put(PACKETS | NET, &0u64.to_be_bytes());
                        }
                    }
                    data.put(LINENO, &line.to_ne_bytes());
                });
                if adt.bytes.len() > full {
                    break;
                }
            }
        });
        line as usize
    }

    /// The finished message, under this sequence number.
    pub(super) fn finish(&mut self, sequence: u32) -> &[u8] {
        let length = self.bytes.len() as u32;
        self.patch(0, &length.to_ne_bytes());
        self.patch(8, &sequence.to_ne_bytes());
        &self.bytes
    }

    /// `struct nlmsghdr`, `struct nfgenmsg`, and what all requests have.
    fn begin(&mut self, command: u16, flags: u16, name: &str) {
        self.bytes.clear();
        self.bytes.extend_from_slice(&[0; 4]); // length
        self.bytes.extend_from_slice(&(SUBSYSTEM | command).to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 8]); // sequence, port
        self.bytes.extend_from_slice(&[0; 4]); // family, version, resource
        self.put(PROTOCOL, &[6]);
        self.text(SETNAME, name);
    }

    fn element(&mut self, element: &Element) {
        self.nest(IP, |ip| match element.offender.address() {
            IpAddr::V4(v4) => ip.put(1 | NET, &v4.octets()),
            IpAddr::V6(v6) => ip.put(2 | NET, &v6.octets()),
        });
        if !element.offender.is_single() {
            self.put(CIDR, &[element.offender.prefix()]);
        }
        if let Some(port) = element.port {
            self.put(PORT | NET, &port.number.to_be_bytes());
            self.put(PROTO, &[port.protocol as u8]);
        }
    }

    fn text(&mut self, kind: u16, text: &str) {
        self.attribute(kind, |value| {
            value.bytes.extend_from_slice(text.as_bytes());
            value.bytes.push(0);
        });
    }

    fn put(&mut self, kind: u16, number: &[u8]) {
        self.attribute(kind, |value| value.bytes.extend_from_slice(number));
    }

    fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        self.attribute(kind | NESTED, fill);
    }

    /// `struct nlattr`: length, kind, value, and zeros to a multiple of four, which the length leaves out.
    fn attribute(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        fill(self);
        let length = (self.bytes.len() - start) as u16;
        self.patch(start, &length.to_ne_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn patch(&mut self, at: usize, number: &[u8]) {
        if let Some(place) = self.bytes.get_mut(at..at + number.len()) {
            place.copy_from_slice(number);
        }
    }
}

/// What an element that is put in brings for the set's counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counters {
    /// That it begins to count.
    Zeroed,
    /// Nothing, for the set has none: it is one of an operator's, or of an earlier version.
    None,
}

/// What sort of set one is, in the kernel's terms.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct SetType {
    name: String,
    /// `NFPROTO_IPV4`, `NFPROTO_IPV6` or `NFPROTO_UNSPEC`.
    family: u8,
    /// Whether its elements can have timeouts.
    times_out: bool,
}

impl SetType {
    /// What this set has to be.
    pub(super) fn of(set: Set) -> Self {
        let family = match set.family {
            Family::V4 => 2,
            Family::V6 => 10,
        };
        // hash:ip,port would be smaller, but takes single addresses only, and an offender on IPv6 is a /64.
        let name = if set.has_ports { "hash:net,port" } else { "hash:net" };
        Self { name: name.to_owned(), family, times_out: true }
    }

    /// The first revision of the type that has what we use. ipset(8) shows nothing of what a set's revision has not.
    fn revision(&self) -> u8 {
        match self.name.as_str() {
            "hash:net" => 3,
            "hash:net,port" => 4,
            _ => 1,
        }
    }

    /// What the set has to be that the others are members of.
    pub(super) fn list() -> Self {
        Self { name: "list:set".to_owned(), family: 0, times_out: false }
    }
}

impl fmt::Display for SetType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = match self.family {
            2 => " for IPv4",
            10 => " for IPv6",
            _ => "",
        };
        write!(f, "{}{family} with{} timeouts", self.name, if self.times_out { "" } else { "out" })
    }
}

/// What the kernel has answered to one request so far.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct NetlinkReply {
    /// If this is set, of what is in the set only what concerns this offender is wanted, with its counters.
    pub about: Option<Offender>,
    /// That is what it comes to, and there may be more if it is [`MOST`].
    pub held: Vec<(Element, Timeout, Option<PacketCounters>)>,
    /// What the set is, if that was asked.
    pub header: Option<SetHeader>,
    /// What is in the set, if that was asked.
    pub elements: Vec<(Element, Timeout)>,
    /// What is in it besides, and no [`Element`] can say: exceptions, other protocols.
    pub strange: usize,
    /// The sets in a set of sets, if that was asked.
    pub members: Vec<String>,
    /// How it ended; `None` as long as more is to come.
    pub end: Option<Result<(), NetlinkError>>,
}

/// What a set is and how full.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct SetHeader {
    /// What it is.
    pub set_type: SetType,
    /// Whether its elements count what they keep out.
    pub counts: bool,
    /// How many elements are in it.
    pub elements: u32,
    /// How many it may hold.
    pub capacity: u32,
}

/// Why the kernel did not do as it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NetlinkError {
    /// An errno, or one of ipset's own numbers from 4,096 on.
    pub code: u32,
    /// The change at fault: those before it are in force, it and those after it are not. 0 where no single
    /// one is.
    pub line: u32,
}

impl NetlinkReply {
    /// Takes in one datagram of the answer to the request with this sequence number.
    ///
    /// Messages with another number are answers that nobody waits for any more, and are passed over. What
    /// makes no sense is passed over too: the kernel is trusted, but not relied upon for memory safety.
    pub(super) fn read(&mut self, datagram: &[u8], sequence: u32) {
        for message in messages(datagram).filter(|message| message.sequence == sequence) {
            match message.kind {
                ERROR | DONE => self.end = end(message.body),
                LISTED => self.listed(message.body.get(4..).unwrap_or_default()),
                _ => (),
            }
        }
    }

    fn listed(&mut self, set: &[u8]) {
        for (kind, value) in attributes(set) {
            match kind {
                TYPENAME => self.header.get_or_insert_default().set_type.name = text(value),
                FAMILY => {
                    self.header.get_or_insert_default().set_type.family = value.first().copied().unwrap_or(0);
                }
                DATA => self.header.get_or_insert_default().read(value),
                ADT => attributes(value).for_each(|(_, data)| self.held(data)),
                _ => (),
            }
        }
    }

    fn held(&mut self, data: &[u8]) {
        match attributes(data).find(|(kind, _)| *kind == NAME) {
            Some((_, name)) => self.members.push(text(name)),
            None => match (element(data), self.about) {
                (Some((element, timeout)), None) => self.elements.push((element, timeout)),
                (Some((element, timeout)), Some(who)) => {
                    let concerns = element.offender.contains(who) || who.contains(element.offender);
                    if concerns && self.held.len() < MOST {
                        self.held.push((element, timeout, counters(data)));
                    }
                }
                (None, _) => self.strange += 1,
            },
        }
    }
}

impl SetHeader {
    fn read(&mut self, data: &[u8]) {
        for (kind, value) in attributes(data) {
            match kind {
                TIMEOUT => self.set_type.times_out = true,
                CADT_FLAGS => self.counts = be_u32(value).is_some_and(|flags| flags & COUNTERS != 0),
                MAXELEM => self.capacity = be_u32(value).unwrap_or(0),
                ELEMENTS => self.elements = be_u32(value).unwrap_or(0),
                _ => (),
            }
        }
    }
}

/// `struct nlmsgerr`: a negative error or 0, and after an error the request that it is about.
fn end(body: &[u8]) -> Option<Result<(), NetlinkError>> {
    let code = ne_u32(body)?.cast_signed();
    if code == 0 {
        return Some(Ok(()));
    }
    let request = body.get(24..).unwrap_or_default();
    let line = attributes(request).find(|(kind, _)| *kind == LINENO).and_then(|(_, line)| ne_u32(line));
    Some(Err(NetlinkError { code: code.unsigned_abs(), line: line.unwrap_or(0) }))
}

/// The element that stands in a DATA; `None` for what [`Element`] cannot say, exceptions among them.
fn element(data: &[u8]) -> Option<(Element, Timeout)> {
    let (mut address, mut prefix, mut number, mut protocol, mut timeout) = (None, None, None, None, 0);
    for (kind, value) in attributes(data) {
        match kind {
            IP => address = attributes(value).next().and_then(|(_, octets)| ip(octets)),
            CIDR => prefix = value.first().copied(),
            PORT => number = be_u16(value),
            PROTO => protocol = value.first().copied(),
            TIMEOUT => timeout = be_u32(value)?,
            CADT_FLAGS if be_u32(value)? & NOMATCH != 0 => return None,
            _ => (),
        }
    }
    let address = address?;
    let offender = Offender::new(address, prefix.unwrap_or(if address.is_ipv4() { 32 } else { 128 }))?;
    let port = match (number, protocol) {
        (None, _) => None,
        (Some(number), Some(6)) => Some(Port { protocol: Protocol::Tcp, number }),
        (Some(number), Some(17)) => Some(Port { protocol: Protocol::Udp, number }),
        _ => return None,
    };
    Some((Element { offender, port }, Timeout::from_secs(timeout.into())))
}

/// What the element that stands in a DATA has counted; `None` where its set has no counters.
fn counters(data: &[u8]) -> Option<PacketCounters> {
    let count =
        |wanted| attributes(data).find(|(kind, _)| *kind == wanted).and_then(|(_, count)| be_u64(count));
    Some(PacketCounters { packets: count(PACKETS)?, bytes: count(BYTES)? })
}

fn ip(octets: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(octets).ok().map(|octets| Ipv4Addr::from(octets).into());
    let v6 = || <[u8; 16]>::try_from(octets).ok().map(|octets| Ipv6Addr::from(octets).into());
    v4().or_else(v6)
}

/// The bytes are those of a little-endian machine; replies were written by a 6.18 kernel.
#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn element(offender: &str, port: Option<(Protocol, u16)>) -> Element {
        let port = port.map(|(protocol, number)| Port { protocol, number });
        Element { offender: offender.parse().unwrap(), port }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    /// The bytes of a request with the sequence number 7, spaces between its parts left out.
    #[track_caller]
    fn check_request(fill: impl FnOnce(&mut Request), want: &str) {
        let mut request = Request::default();
        fill(&mut request);
        assert_eq!(hex(request.finish(7)), want.replace(' ', ""));
    }

    #[test]
    fn elements_are_added_with_timeout_and_line() {
        let add = |offender, secs| Change::Add(element(offender, None), Timeout::from_secs(secs));
        let changes = [add("192.0.2.1", 600), add("198.51.100.0/24", 0)];
        check_request(
            |request| assert_eq!(request.change("b4", Counters::None, changes.into_iter()), 2),
            "78000000 0906 0500 07000000 00000000 00000000 0500010006000000 0700020062340000 0800090000000000 \
             4c000880 \
             20000780 0c000180 08000140c0000201 0800064000000258 0800090001000000 \
             28000780 0c000180 08000140c6336400 0500030018000000 0800064000000000 0800090002000000",
        );
    }

    #[test]
    fn elements_are_removed_by_address_width_and_port() {
        let change = Change::Remove(element("2001:db8::/64", Some((Protocol::Tcp, 22))));
        check_request(
            |request| assert_eq!(request.change("b6p", Counters::Zeroed, [change].into_iter()), 1),
            "6c000000 0a06 0500 07000000 00000000 00000000 0500010006000000 0800020062367000 0800090000000000 \
             40000880 \
             3c000780 18000180 1400024020010db8000000000000000000000000 0500030040000000 \
             0600044000160000 0500070006000000 0800090001000000",
        );
    }

    #[test]
    fn a_set_is_made_with_a_default_timeout_and_a_list_without() {
        check_request(
            |request| request.create("b6", &SetType::of(Set::V6), 65_536, 1_048_576),
            "68000000 0206 0504 07000000 00000000 00000000 0500010006000000 0700020062360000 \
             0d000300686173683a6e657400000000 0500040003000000 050005000a000000 \
             24000780 0800124000010000 0800134000100000 0800064000000000 0800084000000008",
        );
        check_request(
            |request| request.create("b", &SetType::list(), 65_536, 1_048_576),
            "48000000 0206 0504 07000000 00000000 00000000 0500010006000000 0600020062000000 \
             0d0003006c6973743a73657400000000 0500040001000000 0500050000000000 04000780",
        );
    }

    #[test]
    fn a_set_is_swapped_and_destroyed_by_name() {
        check_request(
            |request| request.swap("b4", "b~"),
            "2c000000 0606 0500 07000000 00000000 00000000 0500010006000000 0700020062340000 07000300627e0000",
        );
        check_request(
            |request| request.destroy("b~"),
            "24000000 0306 0500 07000000 00000000 00000000 0500010006000000 07000200627e0000",
        );
    }

    #[test]
    fn a_set_of_sets_is_listed_by_name() {
        let list = reply(
            "30000000 0706 0200 07000000 427e0000 02000000 \
             1c000880 0c000780 0700120062340000 0c000780 0700120062360000",
        );
        assert_eq!((list.members.as_slice(), list.strange), (&["b4".to_owned(), "b6".to_owned()][..], 0));
    }

    #[test]
    fn a_message_holds_changes_of_one_sort() {
        let (add, remove) =
            (Change::Add(element("::", None), Timeout::FOREVER), Change::Remove(element("::", None)));
        let mut request = Request::default();
        let mut check = |changes: &[Change], want| {
            assert_eq!(request.change("b", Counters::Zeroed, changes.iter().copied()), want);
        };
        check(&[], 0);
        check(&[add, add, remove, add], 2);
        check(&[remove, add], 1);
        check(&vec![add; 5000], 955);
        check(&vec![remove; 5000], 1_804);
        check(&vec![Change::Add(element("10.0.0.1", None), Timeout::IPSET_LONGEST); 5000], 1_160);
        check(&vec![Change::Add(element("fd00::/64", None), Timeout::IPSET_LONGEST); 5000], 855);
    }

    /// What a datagram in hexadecimal says in reply to request 7.
    fn reply(hex: &str) -> NetlinkReply {
        let mut reply = NetlinkReply::default();
        reply.read(&bytes(hex), 7);
        reply
    }

    #[test]
    fn a_listing_tells_what_the_set_is_and_what_is_in_it() {
        let set = reply(
            "d4000000 0706 0200 07000000 427e0000 02000000 0500010006000000 0600020073000000 \
             12000300686173683a6e65742c706f7274000000 050005000a000000 0500040008000000 \
             4c000780 0800124000000400 0800134000010000 050015000c000000 08001140965349a3 0800194000000000 \
             08001a4000000538 0800184000000001 0800064000000000 0800084000000008 \
             40000880 3c000780 18000180 1400024020010db8000000000000000000000000 0600044000160000 \
             0500030040000000 0500070006000000 0800064000000257",
        );
        let set_type = SetType { name: "hash:net,port".to_owned(), family: 10, times_out: true };
        assert_eq!(set.header, Some(SetHeader { set_type, counts: true, elements: 1, capacity: 65_536 }));
        let held = element("2001:db8::/64", Some((Protocol::Tcp, 22)));
        assert_eq!(set.elements, [(held, Timeout::from_secs(599))]);
        assert_eq!(set.end, None);
        assert_eq!(reply("14000000 0300 0200 07000000 427e0000 00000000").end, Some(Ok(())));
    }

    #[test]
    fn of_one_offender_a_listing_tells_what_was_counted() {
        let listing = "80000000 0706 0200 07000000 427e0000 02000000 \
             6c000880 \
             38000780 0c000180 08000140c0000200 0500030018000000 0800064000000000 \
             0c001840 00000000000000ff 0c001940 0000000000000002 \
             20000780 0c000180 08000140c0000201 0800064000000009 0500030020000000 \
             10000780 0c000180 08000140c6336401";
        let check = |about: &str, want: &[(&str, u64, Option<PacketCounters>)]| {
            let mut reply = NetlinkReply { about: about.parse().ok(), ..NetlinkReply::default() };
            reply.read(&bytes(listing), 7);
            let want = want
                .iter()
                .map(|(who, left, counters)| (element(who, None), Timeout::from_secs(*left), *counters));
            assert_eq!((reply.held, reply.elements.len()), (want.collect(), 0));
        };
        let wide = ("192.0.2.0/24", 0, Some(PacketCounters { packets: 2, bytes: 255 }));
        check("192.0.2.1", &[wide, ("192.0.2.1", 9, None)]);
        check("192.0.2.2", &[wide]);
        check("192.0.0.0/16", &[wide, ("192.0.2.1", 9, None)]);
        check("192.0.3.1", &[]);
    }

    #[test]
    fn exceptions_and_other_protocols_are_only_counted() {
        let set = reply(
            "88000000 0706 0200 07000000 427e0000 02000000 \
             74000880 \
             20000780 0c000180 08000140c0000201 0500030020000000 0800064000000000 \
             28000780 0c000180 08000140c6336400 0500030018000000 0800084000000004 0800064000000000 \
             28000780 0c000180 08000140c0000202 0600044000000000 0500070001000000 0800064000000000",
        );
        assert_eq!(set.elements, [(element("192.0.2.1", None), Timeout::FOREVER)]);
        assert_eq!(set.strange, 2);
    }

    #[test]
    fn an_error_names_the_line_or_none() {
        let check =
            |hex: &str, code, line| assert_eq!(reply(hex).end, Some(Err(NetlinkError { code, line })));
        // The second of two elements has a prefix of length 0.
        check(
            "94000000 0200 0000 07000000 427e0000 f8efffff \
             80000000 0906 0500 07000000 00000000 00000000 0500010006000000 060002006e000000 0800090002000000 \
             54000880 \
             28000780 0c000180 08000140c0000201 080006400000003c 0800090001000000 0500030020000000 \
             28000780 0c000180 08000140c0000202 080006400000003c 0800090002000000 0500030000000000",
            4104,
            2,
        );
        // There is no such set.
        check(
            "38000000 0200 0000 07000000 427e0000 feffffff \
             24000000 0706 0103 07000000 00000000 00000000 0500010006000000 070002007a7a0000",
            ENOENT,
            0,
        );
    }

    #[test]
    fn an_answer_to_another_request_is_passed_over() {
        let stale = "14000000 0200 0000 06000000 427e0000 00000000";
        let fresh = "14000000 0200 0000 07000000 427e0000 ffffffff";
        assert_eq!(reply(stale).end, None);
        assert_eq!(reply(&[stale, fresh].concat()).end, Some(Err(NetlinkError { code: 1, line: 0 })));
    }

    fn any_element() -> impl Strategy<Value = Element> {
        let address =
            prop_oneof![any::<Ipv4Addr>().prop_map(IpAddr::V4), any::<Ipv6Addr>().prop_map(IpAddr::V6)];
        let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)];
        let port = proptest::option::of(
            (protocol, any::<u16>()).prop_map(|(protocol, number)| Port { protocol, number }),
        );
        (address, any::<u8>(), port).prop_filter_map("a prefix of that length", |(address, prefix, port)| {
            let offender = Offender::new(address, prefix % if address.is_ipv4() { 33 } else { 129 })?;
            Some(Element { offender, port })
        })
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(answer: Vec<u8>) {
            NetlinkReply::default().read(&answer, 0);
        }

        #[test]
        fn no_damaged_answer_makes_it_panic(at in 0..148_usize, by: u8, cut in 0..149_usize) {
            let mut request = Request::default();
            let add = Change::Add(element("192.0.2.0/24", Some((Protocol::Tcp, 22))), Timeout::IPSET_LONGEST);
            request.change("b4p", Counters::Zeroed, [add, add].into_iter());
            let mut answer = request.finish(7).to_vec();
            answer[4] = LIST as u8;
            let place = at % answer.len();
            answer[place] = by;
            answer.truncate(cut);
            NetlinkReply::default().read(&answer, 7);
        }

        #[test]
        fn what_is_sent_can_be_read_and_no_length_overflows(
            elements in proptest::collection::vec((any_element(), 0..9_999_999_u64), 1..20),
            times in 1..200_usize,
        ) {
            let sent: Vec<_> = elements.repeat(times);
            let timeout = |secs| Timeout::from_secs(secs).min(Timeout::IPSET_LONGEST);
            let sent: Vec<_> = sent.into_iter().map(|(element, secs)| (element, timeout(secs))).collect();
            let mut request = Request::default();
            let fitted = request.change("b", Counters::Zeroed, sent.iter().map(|(element, timeout)| Change::Add(*element, *timeout)));
            let message = request.finish(7);
            prop_assert_eq!(ne_u32(message), Some(message.len() as u32));
            prop_assert!(fitted == sent.len() || message.len() > ROOM - LARGEST);
            let mut reply = NetlinkReply::default();
            reply.listed(&message[20..]);
            prop_assert_eq!(reply.elements.as_slice(), &sent[..fitted]);
        }
    }
}
