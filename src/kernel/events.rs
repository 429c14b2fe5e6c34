//! What the kernel reports of changes in nftables' rules, which iptables-nft makes too. Of the tables of iptables-legacy
//! and of ipset's sets it tells nothing.

use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};
use nix::errno::Errno;
use socket2::{SockFilter, SockRef};

use super::message::{attributes, messages, text};

/// `NFNLGRP_NFTABLES` (`linux/netfilter/nfnetlink.h`).
const GROUP: u32 = 7;
/// Room for the longest datagram of them, which is a page or two.
const DATAGRAM: usize = 64 << 10;

/// `NFT_MSG_NEWTABLE` to `NFT_MSG_DELRULE`, and to `NFT_MSG_DELSETELEM`, of the subsystem nftables
/// (`linux/netfilter/nf_tables.h`).
const RULES: RangeInclusive<u16> = 10 << 8..=10 << 8 | 8;
const ALL: RangeInclusive<u16> = 10 << 8..=10 << 8 | 14;
/// The table's name, first among the attributes of them all.
const TABLE: u16 = 1;

/// The changes of rules in one table.
pub struct RuleEvents {
    socket: TokioSocket,
    changes: TableChanges,
    datagram: Vec<u8>,
}

/// Which changes matter.
#[derive(Debug)]
struct TableChanges {
    table: String,
    kinds: RangeInclusive<u16>,
    /// Is set by each of them.
    altered: Arc<AtomicBool>,
}

impl RuleEvents {
    /// Receives all changes of rules from now on. Has to be called, and awaited, within tokio's runtime.
    pub(super) fn of_rules(table: &str) -> io::Result<Self> {
        Self::open(TableChanges { table: table.to_owned(), kinds: RULES, altered: Arc::default() }, None)
    }

    /// The same, for all that others than the socket with the port `ours` do to the table, which `altered` notes.
    pub(super) fn of_others(table: &str, ours: u32, altered: Arc<AtomicBool>) -> io::Result<Self> {
        Self::open(TableChanges { table: table.to_owned(), kinds: ALL, altered }, Some(ours))
    }

    fn open(changes: TableChanges, ours: Option<u32>) -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
        if let Some(ours) = ours {
            SockRef::from(socket.socket_ref()).attach_filter(&but_of(ours))?;
        }
        socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
        socket.socket_mut().add_membership(GROUP)?;
        Ok(Self { socket, changes, datagram: Vec::with_capacity(DATAGRAM) })
    }

    /// Waits until a rule, a chain or the table may have changed since the last call. Can be dropped at any time.
    pub async fn changed(&mut self) -> io::Result<()> {
        loop {
            self.datagram.clear();
            let received = self.socket.recv(&mut self.datagram).await;
            if self.concerns(received)? {
                break;
            }
        }
        // What has come besides is known with it.
        loop {
            self.datagram.clear();
            match self.socket.socket_ref().recv(&mut self.datagram, 0) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                received => _ = self.concerns(received.map(drop))?,
            }
        }
    }

    fn concerns(&self, received: io::Result<()>) -> io::Result<bool> {
        let concerns = match received {
            Ok(()) => self.changes.are_in(&self.datagram),
            // More has come than there was room for, and nobody knows what.
            Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => true,
            Err(error) => return Err(error),
        };
        self.changes.altered.fetch_or(concerns, Ordering::Relaxed);
        Ok(concerns)
    }
}

/// Lets no datagram in whose changes the socket with this port has made: what fills a table of 100,000 elements does not
/// fit into the socket, and then nobody would know whether others had changed something, too. It is a program for the
/// kernel's BPF (`linux/filter.h`); all messages of a datagram are of one transaction.
fn but_of(port: u32) -> [SockFilter; 4] {
    const LOAD_WORD: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let step = |code, jump, value| SockFilter::new(code, 0, jump, value);
    [
        // `nlmsg_pid`, as if it were in network byte order.
        step(LOAD_WORD, 0, 12),
        step(JUMP_IF_EQUAL, 1, u32::from_be_bytes(port.to_ne_bytes())),
        step(RETURN, 0, 0),
        step(RETURN, 0, u32::MAX),
    ]
}

impl TableChanges {
    /// Whether one of these messages reports one.
    fn are_in(&self, datagram: &[u8]) -> bool {
        messages(datagram).any(|message| {
            let name = attributes(message.body.get(4..).unwrap_or_default()).find(|(kind, _)| *kind == TABLE);
            self.kinds.contains(&message.kind) && name.is_some_and(|(_, name)| text(name) == self.table)
        })
    }
}
