//! What a decoder makes of a record.

use super::Timestamp;

/// One record as a log delivers it, borrowed from the buffer it came in.
///
/// No part needs to be UTF-8: log text is written by strangers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// When the transport (journald, rsyslog) says that it was written; never parsed from the message.
    pub time: Timestamp,
    /// The host that wrote it, as the transport names it; empty where the log does not say.
    pub host: &'a [u8],
    /// The program it claims to come from (`sshd`), without path, process id or colon; may be empty.
    pub program: &'a [u8],
    /// The process that wrote it; 0 where the log does not say.
    pub pid: u32,
    /// The text, without header, leading space or line end.
    pub message: &'a [u8],
    /// Whether its end may be missing, because a transport has cut it.
    pub cut: bool,
    /// Whether the next entry of the same sender may be the rest of it.
    pub goes_on: bool,
    /// How often it was said, 1 or more: syslog daemons write `message repeated 5 times: [ ... ]`.
    pub times: u32,
    /// Who vouches for it.
    pub sender: Sender<'a>,
}

impl Entry<'_> {
    /// Whether another host than this one wrote it. Names are compared up to the first dot, since some write the domain
    /// and some do not; `localhost` is what a host is called before it has a name. Not so where either is empty.
    pub fn is_remote(&self, here: &[u8]) -> bool {
        let [host, here] =
            [self.host, here].map(|name| name.split(|b| *b == b'.').next().unwrap_or_default());
        let other = |name: &[u8]| !host.eq_ignore_ascii_case(name);
        !host.is_empty() && !here.is_empty() && other(here) && other(b"localhost")
    }

    /// A hash of the host, the same at all times; 0 where the log does not say. A host's name has 255 bytes at most.
    pub fn host_hash(&self) -> u32 {
        // FNV-0. A sender that can choose a colliding name could also choose the other host's name itself.
        self.host.iter().take(255).fold(0, |hash: u32, b| (hash ^ u32::from(*b)).wrapping_mul(0x0100_0193))
    }
}

/// What the transport itself knows about the sender of an entry, as opposed to what the sender claims.
///
/// Journald takes it from the socket's credentials (`_UID`, `_EXE`, ...; systemd.journal-fields(7)), rsyslog
/// from the same when imuxsock annotates. All empty where the transport cannot tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sender<'a> {
    /// The user the sender ran as.
    pub uid: Option<u32>,
    /// The path of the executable; missing for senders that exit at once. Its name is the sender's choice.
    pub exe: Option<&'a [u8]>,
    /// The name of the process, which the process itself can change.
    pub comm: Option<&'a [u8]>,
    /// The systemd unit it ran in.
    pub unit: Option<&'a [u8]>,
    /// Whether this was on another host, so that users' ids may mean others than here; `false` where no id is known.
    pub is_remote: bool,
    /// Whether the line is one of the output of a unit or a container, or of a file: what a program prints there may hold line
    /// breaks that a client chose, so the whole line may be the client's. What syslog(3) takes is one message.
    pub prints: bool,
}

impl Sender<'_> {
    /// Whether it is known who the sender is, whatever that one calls itself.
    pub fn attests(&self) -> bool {
        self.uid.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_another_by_its_own_name() {
        let check = |host: &str, here: &str, want| {
            let sender = Sender::default();
            let (time, host) = (Timestamp::default(), host.as_bytes());
            let entry = Entry {
                time,
                host,
                program: b"",
                pid: 0,
                message: b"",
                cut: false,
                goes_on: false,
                times: 1,
                sender,
            };
            assert_eq!(entry.is_remote(here.as_bytes()), want, "{entry:?}");
        };
        check("web1", "web2", true);
        check("web10", "web1", true);
        check("web1.example.org", "web2.example.org", true);
        check("192.0.2.1", "web1", true);
        check("web1", "web1", false);
        check("WEB1.example.org", "web1", false);
        check("web1", "web1.example.org", false);
        check("", "web1", false);
        check("web1", "", false);
        check("localhost", "web1", false);
    }
}
