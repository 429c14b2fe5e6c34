//! What the kernel reports of changes in nftables' rules, which iptables-nft makes too. Of the tables of iptables-legacy
//! and of ipset's sets it tells nothing.

use std::io;

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};
use nix::errno::Errno;

use super::wire;

/// `NFNLGRP_NFTABLES` (`linux/netfilter/nfnetlink.h`).
const GROUP: u32 = 7;
/// Room for the longest datagram of them, which is a page or two.
const DATAGRAM: usize = 64 << 10;

/// The changes of rules in one table.
pub struct RuleEvents {
    socket: TokioSocket,
    table: String,
    datagram: Vec<u8>,
}

impl RuleEvents {
    /// Receives all changes from now on. Has to be called, and awaited, within tokio's runtime.
    pub(super) fn open(table: &str) -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
        socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
        socket.socket_mut().add_membership(GROUP)?;
        Ok(Self { socket, table: table.to_owned(), datagram: Vec::with_capacity(DATAGRAM) })
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
        match received {
            Ok(()) => Ok(wire::changes_table(&self.datagram, &self.table)),
            // More has come than there was room for, and nobody knows what.
            Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => Ok(true),
            Err(error) => Err(error),
        }
    }
}
