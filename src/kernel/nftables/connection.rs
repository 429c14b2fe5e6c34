//! A netlink socket to nftables. Tables belong to the socket that made them, not to its process: a process
//! that was given the socket may change them.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use netlink_packet_netfilter::nftables::NfTablesMessage;
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::sys::socket::{
    MsgFlags, NetlinkAddr, getsockname, recv, send, setsockopt, sockopt::SndBuf, sockopt::SndBufForce,
};

use super::super::message::{DONE, ERROR, NetlinkMessage, messages, ne_u32};
use super::super::{EnforceError, EnforceErrorKind};
use super::object::NftObject;
use super::wire::{self, NftError, Transaction};

/// Room for the longest datagram that the kernel answers with.
const ANSWER: usize = 64 << 10;
/// What the kernel may hold of one transaction. A million elements take 60 MB.
const TRANSACTION: usize = 512 << 20;

#[derive(Debug)]
pub(super) struct Connection {
    socket: OwnedFd,
    /// The kernel's name of the socket.
    port: u32,
    sequence: u32,
    answer: Vec<u8>,
}

impl Connection {
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        socket.set_non_blocking(true)?;
        socket.set_ext_ack(true)?;
        // Answers to what is wrong do not bring it back.
        socket.set_cap_ack(true)?;
        let socket = socket.as_fd().try_clone_to_owned()?;
        // Without the right to that it is as much as anybody may have.
        let _ = setsockopt(&socket, SndBufForce, &TRANSACTION)
            .or_else(|_| setsockopt(&socket, SndBuf, &TRANSACTION));
        Self::of(socket)
    }

    /// Goes on with a socket that [`open`](Self::open) has made, be it in an earlier process.
    pub(super) fn of(socket: OwnedFd) -> io::Result<Self> {
        let port = getsockname::<NetlinkAddr>(socket.as_raw_fd())?.pid();
        // What an earlier process was answered may lie there still, with other numbers than ours.
        let sequence = std::process::id().wrapping_mul(0x9e37_79b9) & 0x7fff_ffff;
        Ok(Self { socket, port, sequence, answer: vec![0; ANSWER] })
    }

    pub(super) fn port(&self) -> u32 {
        self.port
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// A transaction to be filled.
    pub(super) fn begin<'t>(&mut self, table: &'t str) -> Transaction<'t> {
        if self.sequence > u32::MAX / 2 + u32::MAX / 4 {
            self.sequence = 0;
        }
        Transaction::new(table, self.sequence)
    }

    /// Carries out the transaction, or nothing of it.
    pub(super) fn commit(
        &mut self,
        transaction: &mut Transaction<'_>,
    ) -> Result<Result<(), NftError>, EnforceError> {
        let (bytes, sequences) = transaction.finish();
        self.sequence = sequences.end;
        self.send(bytes)?;
        // The kernel has done all by now, and its answers are there.
        let (mut is_answered, mut error) = (false, None);
        while let Some(length) = self.receive()? {
            let datagram = self.answer.get(..length).unwrap_or_default();
            let (answered, found) = wire::outcome(datagram, &sequences);
            is_answered |= answered;
            error = error.or(found);
        }
        match (is_answered, error) {
            (_, Some(error)) => Ok(Err(error)),
            (true, None) => Ok(Ok(())),
            (false, None) => Err(EnforceErrorKind::NoAnswer.into()),
        }
    }

    /// Gives each object of the answer to `read`; an errno if the answer is an error.
    pub(super) fn ask(
        &mut self,
        question: (u16, NfTablesMessage),
        mut read: impl FnMut(NftObject<'_>),
    ) -> Result<Result<(), u32>, EnforceError> {
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        self.send(&wire::question(sequence, question))?;
        loop {
            let Some(length) = self.receive()? else { return Err(EnforceErrorKind::NoAnswer.into()) };
            let datagram = self.answer.get(..length).unwrap_or_default();
            for NetlinkMessage { kind, body, .. } in
                messages(datagram).filter(|message| message.sequence == sequence)
            {
                match kind {
                    ERROR | DONE => {
                        let code = ne_u32(body).unwrap_or(0).cast_signed().unsigned_abs();
                        return Ok(if code == 0 { Ok(()) } else { Err(code) });
                    }
                    _ => read(NftObject::of(body)),
                }
            }
        }
    }

    fn send(&self, bytes: &[u8]) -> Result<(), EnforceError> {
        loop {
            match send(self.socket.as_raw_fd(), bytes, MsgFlags::empty()) {
                Err(Errno::EINTR) => {}
                sent => return sent.map(drop).map_err(|error| EnforceErrorKind::Socket(error.into()).into()),
            }
        }
    }

    /// The length of the next datagram, which is in `answer`; `None` if there is none.
    fn receive(&mut self) -> Result<Option<usize>, EnforceError> {
        loop {
            match recv(self.socket.as_raw_fd(), &mut self.answer, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => return Ok(Some(length)),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(None),
                Err(error) => return Err(EnforceErrorKind::Socket(error.into()).into()),
            }
        }
    }
}
