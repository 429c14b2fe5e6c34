//! Unix sockets of the daemon. The ingest socket and the control socket are created alike: for their owner and a group,
//! in place of a dead one and never in place of a live one.

use std::fmt;
use std::fs::Permissions;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr};
use nix::unistd::Group;
use tokio::net::{UnixListener, UnixSocket};

/// Clients that wait in the kernel's queue.
const WAITING: u32 = 1024;

/// Why there is no socket. Print it for the operator.
#[derive(Debug)]
pub struct SocketError {
    path: PathBuf,
    kind: SocketErrorKind,
}

#[derive(Debug)]
enum SocketErrorKind {
    Answered,
    NotASocket,
    NoGroup(String),
    Refused(io::Error),
}

impl fmt::Display for SocketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.kind {
            SocketErrorKind::Answered => write!(f, "another process listens at the socket `{path}`"),
            SocketErrorKind::NotASocket => {
                write!(f, "`{path}` exists and is not a socket; remove it or choose another path")
            }
            SocketErrorKind::NoGroup(name) => write!(f, "there is no group `{name}`"),
            SocketErrorKind::Refused(error) => {
                write!(f, "cannot listen at the socket `{path}`: {error}")?;
                match error.kind() {
                    ErrorKind::PermissionDenied => f.write_str(
                        "; run the daemon as root or as the user of its service (`systemctl start banstream`), or choose \
                         another `path`",
                    ),
                    _ => Ok(()),
                }
            }
        }
    }
}

// The text has the cause in it, so that it is printed once.
impl std::error::Error for SocketError {}

/// Makes the socket, for its owner and `group` to write to (mode 0660), and its folder if that is missing.
///
/// One that a dead process left behind is replaced. Two processes that start at the same instant are not told apart:
/// the later one wins. Needs a tokio runtime; never blocks.
///
/// # Errors
///
/// If another process answers there, if something else than a socket has that name, if there is no such
/// group, or if the system refuses.
pub fn bind(path: &Path, group: Option<&str>) -> Result<UnixListener, SocketError> {
    let refused = |error| SocketError { path: path.to_owned(), kind: SocketErrorKind::Refused(error) };
    let wrong = |kind| Err(SocketError { path: path.to_owned(), kind });
    let gid = match group {
        None => None,
        Some(name) => match Group::from_name(name) {
            Ok(Some(group)) => Some(group.gid.as_raw()),
            // This is also the error if /etc/group does not exist.
            Ok(None) | Err(Errno::ENOENT) => return wrong(SocketErrorKind::NoGroup(name.to_owned())),
            Err(errno) => return Err(refused(errno.into())),
        },
    };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(refused)?;
    }
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(refused(error)),
        // Connecting to a plain file is refused like connecting to a dead socket, so this is looked at first.
        Ok(found) if !found.file_type().is_socket() => return wrong(SocketErrorKind::NotASocket),
        Ok(_) => match connect(path) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path).map_err(refused)?;
            }
            Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(refused(error)),
            // Where its queue is full somebody is there as well.
            _ => return wrong(SocketErrorKind::Answered),
        },
    }
    let open = || {
        let socket = UnixSocket::new_stream()?;
        socket.bind(path)?;
        // Nobody can connect before `listen`, so nobody can before the mode is right.
        std::fs::set_permissions(path, Permissions::from_mode(0o660))?;
        std::os::unix::fs::chown(path, None, gid)?;
        socket.listen(WAITING)
    };
    open().map_err(refused)
}

/// The file of a socket at which this process listens.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    id: Option<(u64, u64)>,
}

impl SocketFile {
    /// The file that [`bind`] has just made.
    pub fn of(path: &Path) -> Self {
        Self { path: path.to_owned(), id: id(path) }
    }

    /// Removes it, if it is still the one that was made: the path may be another daemon's by now.
    ///
    /// Call this while the socket is still open. Once it is closed, the next daemon may take the path between the look and
    /// the removal, and the system may give its file the same inode.
    pub fn remove(&self) {
        if self.id.is_some() && id(&self.path) == self.id {
            // What is left is replaced by the next one.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn id(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

/// Connects to the socket, without ever blocking: `WouldBlock` where its queue is full.
pub fn connect(path: &Path) -> io::Result<StdStream> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    socket::connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(fd.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(path: &Path, group: Option<&str>, want: &str) {
        let error = bind(path, group).map(drop).unwrap_err().to_string();
        assert_eq!(error, want.replace("PATH", &path.display().to_string()));
    }

    #[tokio::test]
    async fn only_the_own_file_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let first = bind(&path, None).unwrap();
        let file = SocketFile::of(&path);
        // The next one takes the path, as when somebody had removed the file.
        std::fs::remove_file(&path).unwrap();
        let second = bind(&path, None).unwrap();
        file.remove();
        assert!(connect(&path).is_ok());
        drop(first);
        SocketFile::of(&path).remove();
        assert!(!path.exists());
        file.remove();
        drop(second);
    }

    #[tokio::test]
    async fn a_socket_is_replaced_only_when_nobody_answers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let first = bind(&path, None).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o660);
        refused(&path, None, "another process listens at the socket `PATH`");
        drop(first);
        let own = Group::from_gid(nix::unistd::getgid()).unwrap().unwrap();
        let second = bind(&path, Some(&own.name)).unwrap();
        assert!(connect(&path).is_ok());
        drop(second);
        std::fs::remove_file(&path).unwrap();
        refused(&path, Some("no-such-group"), "there is no group `no-such-group`");
        std::fs::write(&path, "precious").unwrap();
        refused(&path, None, "`PATH` exists and is not a socket; remove it or choose another path");
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
        let denied = SocketError {
            path: "/x".into(),
            kind: SocketErrorKind::Refused(ErrorKind::PermissionDenied.into()),
        };
        assert!(denied.to_string().contains("permission denied; run the daemon as root"), "{denied}");
        let inside = path.join("socket");
        refused(&inside, None, "cannot listen at the socket `PATH`: File exists (os error 17)");
    }
}
