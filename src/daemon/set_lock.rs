//! The claim to a set: two daemons that write to one set would undo each other's bans.
//!
//! It is an abstract Unix socket: such sockets belong to a network namespace, as sets do, and the kernel releases the
//! name when its process ends, however that happens. Any user can take such a name. A holder that could not write to a
//! set is not a daemon, and does not block one.

use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener as StdListener};
use std::time::Duration;

use anyhow::Context;
use caps::{CapSet, Capability};
use nix::errno::Errno;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr, UnixCredentials};
use nix::unistd::{User, geteuid};
use tokio::net::UnixListener;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::model::plain;

/// How long to wait for one that is about to end, and how often to look.
const PATIENCE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(50);

/// The user that the packages run the daemon as.
const USER: &str = "banstream";

/// A set is ours until this is dropped.
#[derive(Debug)]
pub(super) struct SetLock(JoinHandle<()>);

impl SetLock {
    /// Claims a set of this network namespace; `None` where somebody has the name who cannot be a daemon.
    ///
    /// # Errors
    ///
    /// Another daemon has it, and does not end within 3 s; then the error says who it is.
    pub(super) async fn take(set: &str) -> anyhow::Result<Option<Self>> {
        let name = format!("banstream-{set}");
        let context = || format!("cannot claim the set `{set}`");
        let address = SocketAddr::from_abstract_name(&name).with_context(context)?;
        let until = Instant::now() + PATIENCE;
        loop {
            match StdListener::bind_addr(&address) {
                Err(error) if error.kind() == ErrorKind::AddrInUse => {}
                bound => {
                    let listener = bound.with_context(context)?;
                    listener.set_nonblocking(true)?;
                    let listener = UnixListener::from_std(listener)?;
                    return Ok(Some(Self(tokio::spawn(hold(listener)))));
                }
            }
            if Instant::now() < until {
                sleep(PAUSE).await;
                continue;
            }
            match holder(&name) {
                Ok(holder) if may_enforce(&holder) => anyhow::bail!(
                    "the set `{set}` belongs to another daemon: {}; stop that one, or choose another `set` in \
                     `[enforce]` for this one",
                    shown(&holder)
                ),
                // It has just ended.
                Err(Errno::ECONNREFUSED) => {}
                other => {
                    let who = other.map_or_else(|error| error.to_string(), |holder| shown(&holder));
                    log::error!(
                        "a process of another user has the socket `@{name}` ({who}), so a second daemon that \
                        writes to the set `{set}` would not be noticed"
                    );
                    return Ok(None);
                }
            }
        }
    }
}

impl Drop for SetLock {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Lets in who wants to know who is here, so that nobody can fill the queue.
async fn hold(listener: UnixListener) {
    loop {
        if listener.accept().await.is_err() {
            sleep(PAUSE).await;
        }
    }
}

/// Who listens under this name. Never waits.
fn holder(name: &str) -> Result<UnixCredentials, Errno> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    socket::connect(socket.as_raw_fd(), &UnixAddr::new_abstract(name.as_bytes())?)?;
    socket::getsockopt(&socket, PeerCredentials)
}

/// Whether this process may write to a set: that of root, of our user or of the packages', or one that has the right.
fn may_enforce(holder: &UnixCredentials) -> bool {
    let is_packaged =
        || User::from_name(USER).ok().flatten().is_some_and(|user| user.uid.as_raw() == holder.uid());
    let has_right = || caps::has_cap(Some(holder.pid()), CapSet::Effective, Capability::CAP_NET_ADMIN);
    holder.uid() == 0
        || holder.uid() == geteuid().as_raw()
        || is_packaged()
        || holder.pid() > 0 && has_right().unwrap_or(false)
}

/// For people. The process has the number 0 where it is in a container, which hides it.
fn shown(holder: &UnixCredentials) -> String {
    let (pid, uid) = (holder.pid(), holder.uid());
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let name = if name.is_empty() { String::new() } else { format!(" (`{}`)", plain(name.trim_end())) };
    match pid {
        0 => format!("a process of user {uid} in another container"),
        _ => format!("process {pid}{name} of user {uid}"),
    }
}
