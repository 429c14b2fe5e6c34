//! Notices when the reader no longer gets what is written.
//!
//! Files that are no longer written give no error, nor does a journald that drops what it is sent: there are just no
//! more entries. Two means notice that. The directories are compared every two seconds with those that were opened. And an
//! entry of our own, a heartbeat, is written when the journal was opened and whenever it was silent for a minute, and
//! must be read back. It has no `MESSAGE`: so journald does not forward it, and `journalctl` does not show it.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use banstream_journal::JournalReader;

use crate::config::JournalLocation;

/// How often the directories are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// How long the journal is silent before a heartbeat is written.
const SILENCE: Duration = Duration::from_secs(60);
/// How long a heartbeat may take.
const ANSWER: Duration = Duration::from_secs(5);

/// The field of a heartbeat, whose value says whose it is.
pub(super) const FIELD: &str = "BANSTREAM_HEARTBEAT";

/// What is known of the journal as a whole.
pub(super) struct Liveness {
    directories: Directories,
    looked: Instant,
    heartbeat: Option<Heartbeat>,
}

/// What is to be done about the journal.
pub(super) enum LivenessVerdict {
    /// Nothing.
    Sound,
    /// Open it again.
    Reopen,
    /// Report that it does not give what is written, and why that may be.
    Deaf(String),
}

impl Liveness {
    pub(super) fn new(location: &JournalLocation, writes: bool) -> Self {
        let heartbeat = if writes { Heartbeat::new(location) } else { None };
        Self { directories: Directories::look(location), looked: Instant::now(), heartbeat }
    }

    /// The value of our heartbeats' field, if any are written.
    pub(super) fn token(&self) -> Option<&str> {
        self.heartbeat.as_ref().map(|heartbeat| heartbeat.token.as_str())
    }

    /// The journal is about to be opened.
    pub(super) fn opens(&mut self, location: &JournalLocation) {
        (self.directories, self.looked) = (Directories::look(location), Instant::now());
    }

    /// Whether the journal stands at a heartbeat of ours. Costs nothing where all have come back.
    pub(super) fn awaits(&self, journal: &mut JournalReader) -> bool {
        let Some(Heartbeat { token, awaited: 1.., .. }) = &self.heartbeat else { return false };
        let mut is_ours = false;
        journal.fields(|field| {
            let value = field.strip_prefix(FIELD.as_bytes()).and_then(|rest| rest.strip_prefix(b"="));
            is_ours |= value == Some(token.as_bytes());
            !is_ours
        });
        is_ours
    }

    /// An entry was read.
    pub(super) fn heard(&mut self) {
        let now = Instant::now();
        if let Some(Heartbeat { state: HeartbeatState::Due(at), is_deaf, .. }) = &mut self.heartbeat
            && *at > now
        {
            // It may no longer be deaf, and a heartbeat shows that.
            *at = if *is_deaf { (now + ANSWER).min(*at) } else { now + SILENCE };
        }
    }

    /// A heartbeat was read.
    pub(super) fn answered(&mut self) {
        if let Some(heartbeat) = &mut self.heartbeat {
            heartbeat.state = HeartbeatState::Due(Instant::now() + SILENCE);
            heartbeat.awaited = heartbeat.awaited.saturating_sub(1);
            heartbeat.is_deaf = false;
        }
    }

    /// Whether what is written was not read back when that was looked at last.
    pub(super) fn is_deaf(&self) -> bool {
        self.heartbeat.as_ref().is_some_and(|heartbeat| heartbeat.is_deaf)
    }

    /// Nothing is left to read: looks whether that can be.
    pub(super) fn check(&mut self, location: &JournalLocation) -> LivenessVerdict {
        let now = Instant::now();
        if now.duration_since(self.looked) >= LOOK {
            self.looked = now;
            if Directories::look(location) != self.directories {
                self.heartbeat.iter_mut().for_each(|heartbeat| heartbeat.send(now, true));
                return LivenessVerdict::Reopen;
            }
        }
        self.heartbeat.as_mut().map_or(LivenessVerdict::Sound, |heartbeat| heartbeat.check(now))
    }
}

/// The directories that are listed.
#[derive(PartialEq, Eq)]
struct Directories(BTreeMap<PathBuf, DirectoryId>);

/// A directory's device and inode, or why it cannot be read.
type DirectoryId = Result<(u64, u64), io::ErrorKind>;

impl Directories {
    fn look(location: &JournalLocation) -> Self {
        let roots = match location {
            JournalLocation::Directory(path) => vec![path.clone()],
            JournalLocation::System | JournalLocation::Namespace(_) => {
                vec!["/var/log/journal".into(), "/run/log/journal".into()]
            }
        };
        let mut found = BTreeMap::new();
        for root in roots {
            let below = fs::read_dir(&root).into_iter().flatten().flatten();
            let directories = below.filter(|file| file.file_type().is_ok_and(|kind| !kind.is_file()));
            let all = directories.map(|directory| directory.path()).chain([root]);
            found.extend(all.map(|path| {
                let id = Self::id(&path).map_err(|error| error.kind());
                (path, id)
            }));
        }
        Self(found)
    }

    fn id(path: &Path) -> io::Result<(u64, u64)> {
        fs::read_dir(path)?;
        fs::metadata(path).map(|directory| (directory.dev(), directory.ino()))
    }
}

/// Entries of our own, and whether they come back.
struct Heartbeat {
    /// Where journald takes them.
    socket: PathBuf,
    token: String,
    state: HeartbeatState,
    /// How many were written and have not come back.
    awaited: u32,
    is_deaf: bool,
    /// What kept the last one from being written.
    error: Option<io::Error>,
}

enum HeartbeatState {
    /// The next is to be written at this instant.
    Due(Instant),
    /// One was written then and has not come back; `reopened` where the journal was opened again for it.
    Sent { at: Instant, reopened: bool },
}

impl Heartbeat {
    /// For a journal that a journald on this host writes.
    fn new(location: &JournalLocation) -> Option<Self> {
        let socket = match location {
            JournalLocation::System => "/run/systemd/journal/socket".into(),
            JournalLocation::Namespace(name) => format!("/run/systemd/journal.{name}/socket").into(),
            JournalLocation::Directory(_) => return None,
        };
        // Seeded at random by the system.
        let token = format!("{:016x}", RandomState::new().hash_one(std::process::id()));
        Some(Self {
            socket,
            token,
            state: HeartbeatState::Due(Instant::now()),
            awaited: 0,
            is_deaf: false,
            error: None,
        })
    }

    fn check(&mut self, now: Instant) -> LivenessVerdict {
        match self.state {
            HeartbeatState::Due(at) if now >= at => {
                self.send(now, false);
                LivenessVerdict::Sound
            }
            HeartbeatState::Sent { at, reopened: false } if now.duration_since(at) >= ANSWER => {
                self.send(now, true);
                LivenessVerdict::Reopen
            }
            HeartbeatState::Sent { at, reopened: true } if now.duration_since(at) >= ANSWER => {
                (self.state, self.is_deaf) = (HeartbeatState::Due(now + SILENCE), true);
                let why = self.error.take().map_or_else(
                    || "what is written to it is not read back".to_owned(),
                    |error| format!("journald takes no entries: {error}"),
                );
                LivenessVerdict::Deaf(why)
            }
            HeartbeatState::Due(_) | HeartbeatState::Sent { .. } => LivenessVerdict::Sound,
        }
    }

    /// Journald's native protocol, at the level at which servers report failed logins, as it may drop lower ones.
    fn send(&mut self, now: Instant, reopened: bool) {
        let entry =
            format!("SYSLOG_IDENTIFIER={}\nPRIORITY=6\n{FIELD}={}\n", env!("CARGO_PKG_NAME"), self.token);
        let sent = UnixDatagram::unbound().and_then(|socket| {
            socket.set_nonblocking(true)?;
            socket.send_to(entry.as_bytes(), &self.socket)
        });
        self.awaited += u32::from(sent.is_ok());
        self.error = sent.err();
        self.state = match self.error.as_ref().map(io::Error::kind) {
            // No journald here, or we may not write to it: then there is nothing to be read back.
            Some(io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
                HeartbeatState::Due(now + SILENCE)
            }
            _ => HeartbeatState::Sent { at: now, reopened },
        };
    }
}
