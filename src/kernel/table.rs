//! Looks at a table of nftables as another program would: `doctor` does not trust what the daemon says of it.

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};

use super::message::{DONE, ERROR, NetlinkMessage, attributes, be_u32, messages, ne_u32, text};
use super::{EnforceError, EnforceErrorKind};

/// A table with one chain, and a rule for each set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableFacts {
    /// The port of the netlink socket that it belongs to, if it belongs to one.
    pub owner: Option<u32>,
    /// Whether it stays when that is closed. A table that was made without an owner never has this.
    pub persists: bool,
    /// Whether a chain sees each packet as it arrives, before connections are tracked.
    pub is_hooked: bool,
    /// Its sets.
    pub sets: Vec<TableSet>,
}

/// A set of such a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSet {
    /// Its name.
    pub name: String,
    /// Its elements, if the kernel says how many: since 6.16.
    pub elements: Option<u32>,
    /// Room for them.
    pub capacity: u32,
    /// Whether a rule looks into it.
    pub has_rule: bool,
}

impl TableFacts {
    /// What there is of the table `inet NAME`; `None` without one.
    ///
    /// # Errors
    ///
    /// The kernel has no nftables, or we may not look.
    pub fn look(name: &str) -> Result<Option<Self>, EnforceError> {
        let mut table = None;
        let asked = ask(GET_TABLE, name, |answer| {
            let flags = answer.number(TABLE_FLAGS).unwrap_or(0);
            table = Some((answer.number(TABLE_OWNER).filter(|_| flags & OWNER != 0), flags & PERSIST != 0));
        })?;
        let (owner, persists) = match (asked, table) {
            (Ok(()), Some(found)) => found,
            (Ok(()) | Err(ENOENT), _) => return Ok(None),
            (Err(code), _) => return Err(EnforceErrorKind::NoNftables(code).into()),
        };
        let refusal = |code| EnforceErrorKind::Kernel { request: "describe", set: name.to_owned(), code };
        let mut is_hooked = false;
        ask(GET_CHAIN, name, |answer| {
            let hook = answer.nest(CHAIN_HOOK);
            let is_early = hook.number(HOOK_PRIORITY).is_some_and(|priority| priority.cast_signed() < RAW);
            is_hooked |= is_early && hook.number(HOOK_NUMBER) == Some(PREROUTING);
        })?
        .map_err(refusal)?;
        let mut looked_into = Vec::new();
        ask(GET_RULE, name, |answer| looked_into.extend(answer.lookups()))?.map_err(refusal)?;
        let mut sets = Vec::new();
        ask(GET_SET, name, |answer| {
            let name = answer.get(SET_NAME).map(text).unwrap_or_default();
            sets.push(TableSet {
                elements: answer.number(SET_COUNT),
                capacity: answer.nest(SET_DESCRIPTION).number(DESCRIPTION_SIZE).unwrap_or(u32::MAX),
                has_rule: looked_into.contains(&name),
                name,
            });
        })?
        .map_err(refusal)?;
        sets.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        Ok(Some(Self { owner, persists, is_hooked, sets }))
    }

    /// All its elements, if the kernel says how many there are.
    pub fn elements(&self) -> Option<u64> {
        self.sets.iter().map(|set| set.elements.map(u64::from)).sum()
    }
}

// `linux/netfilter/nf_tables.h`, `nfnetlink.h`, `netfilter.h` and `netfilter_ipv4.h`.
const SUBSYSTEM: u16 = 10;
const INET: u8 = 1;
const GET_TABLE: u16 = 1;
const GET_CHAIN: u16 = 4;
const GET_RULE: u16 = 7;
const GET_SET: u16 = 10;
/// The table's name, whatever is asked for.
const TABLE: u16 = 1;
const TABLE_FLAGS: u16 = 2;
const TABLE_OWNER: u16 = 7;
const OWNER: u32 = 2;
const PERSIST: u32 = 4;
const CHAIN_HOOK: u16 = 4;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const PREROUTING: u32 = 0;
const RAW: i32 = -300;
const RULE_EXPRESSIONS: u16 = 4;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const LOOKUP_SET: u16 = 1;
const SET_NAME: u16 = 2;
const SET_DESCRIPTION: u16 = 9;
const DESCRIPTION_SIZE: u16 = 1;
const SET_COUNT: u16 = 20;

const ENOENT: u32 = 2;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const DUMP: u16 = 0x300;

/// Room for the longest datagram of a listing.
const DATAGRAM: usize = 64 << 10;

/// The attributes of what was asked for, by kind.
struct TableAnswer<'a>(&'a [u8]);

impl<'a> TableAnswer<'a> {
    fn get(&self, wanted: u16) -> Option<&'a [u8]> {
        attributes(self.0).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
    }

    fn number(&self, wanted: u16) -> Option<u32> {
        self.get(wanted).and_then(be_u32)
    }

    /// What is within.
    fn nest(&self, wanted: u16) -> Self {
        Self(self.get(wanted).unwrap_or_default())
    }

    /// The sets that a rule looks into.
    fn lookups(&self) -> impl Iterator<Item = String> {
        let expressions =
            attributes(self.nest(RULE_EXPRESSIONS).0).map(|(_, expression)| TableAnswer(expression));
        let lookups = expressions
            .filter(|expression| expression.get(EXPRESSION_NAME).is_some_and(|name| text(name) == "lookup"));
        lookups.filter_map(|lookup| lookup.nest(EXPRESSION_DATA).get(LOOKUP_SET).map(text))
    }
}

/// Gives each answer that is about the table to `read`; an errno if the kernel has none.
fn ask(
    kind: u16,
    table: &str,
    mut read: impl FnMut(TableAnswer<'_>),
) -> Result<Result<(), u32>, EnforceError> {
    let failed = |error| EnforceError::from(EnforceErrorKind::Socket(error));
    let mut socket = Socket::new(NETLINK_NETFILTER).map_err(failed)?;
    socket.bind(&SocketAddr::new(0, 0)).map_err(failed)?;
    socket.set_non_blocking(true).map_err(failed)?;
    socket.send(&question(kind, table), 0).map_err(failed)?;
    let mut datagram = Vec::with_capacity(DATAGRAM);
    loop {
        datagram.clear();
        // The kernel answers within the call that asks.
        socket.recv(&mut datagram, 0).map_err(failed)?;
        for NetlinkMessage { kind, body, .. } in messages(&datagram) {
            if let ERROR | DONE = kind {
                let code = ne_u32(body).unwrap_or(0).cast_signed().unsigned_abs();
                return Ok(if code == 0 { Ok(()) } else { Err(code) });
            }
            let answer = TableAnswer(body.get(4..).unwrap_or_default());
            if answer.get(TABLE).is_some_and(|name| text(name) == table) {
                read(answer);
            }
        }
    }
}

/// A table is asked for by its name, of the rest all that is in it.
fn question(kind: u16, table: &str) -> Vec<u8> {
    let name = [table.as_bytes(), &[0]].concat();
    let flags = REQUEST | if kind == GET_TABLE { ACK } else { DUMP };
    let attribute = 4 + name.len();
    let length = 20 + attribute.next_multiple_of(4);
    let mut bytes = (length as u32).to_ne_bytes().to_vec();
    bytes.extend((SUBSYSTEM << 8 | kind).to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    // Sequence number and port.
    bytes.extend([1, 0, 0, 0, 0, 0, 0, 0]);
    // Family, version, and the rest of `struct nfgenmsg`.
    bytes.extend([INET, 0, 0, 0]);
    bytes.extend((attribute as u16).to_ne_bytes());
    bytes.extend(TABLE.to_ne_bytes());
    bytes.extend(name);
    bytes.resize(length, 0);
    bytes
}
