//! `banstream omprog`: the child that rsyslog starts, which forwards log lines to the daemon's socket.
//!
//! It is a process of its own because rsyslog starts it late, may start several, kills them, and restarts them; none of
//! that may affect the daemon. The relay is in `relay`, without files; here one thread moves the bytes and waits
//! for all sides at once. Messages go to stderr: rsyslog would take text on stdout for an answer.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod protocol;

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::SignalFd;

use self::protocol::{NoReceipt, Relay};
use crate::input::Numbered;
use crate::input::ingest::Greeting;
use crate::input::socket;
use crate::model::count;

/// How to run. The last two must say what the action in rsyslog's configuration says.
#[derive(Clone, Debug)]
pub struct Options {
    /// The daemon's ingest socket.
    pub socket: PathBuf,
    /// `confirmMessages="on"`: each line is answered once the daemon has it in its ledger.
    pub confirm: bool,
    /// `useTransactions="on"`: the lines `BEGIN TRANSACTION` and `COMMIT TRANSACTION` are not log lines.
    pub transactions: bool,
}

/// How long an answer may take, and what is held at the end. Less than rsyslog has patience for by default:
/// 10 s (`confirmTimeout`) and 5 s (`closeTimeout`). A restart of the daemon takes less.
const PATIENCE: Duration = Duration::from_secs(4);

/// How long until the next attempt to connect: at first, and at most.
const SOON: Duration = Duration::from_millis(10);
const LATE: Duration = Duration::from_millis(640);

/// How often it is said that the daemon does not answer.
const REPEAT: Duration = Duration::from_secs(60);

/// Bytes read at once: what a pipe holds.
const PIECE: usize = 64 << 10;

/// Passes lines from `input` to the daemon until the input ends, and answers on `output` where asked to.
///
/// Without confirmation up to 1 MiB of lines is held while the daemon is away, then no more is read:
/// rsyslog's own queue is the place for the rest. With it the answer waits for up to 4 s, and then is an
/// error, after which rsyslog sends the line again. It never fails at its start, as rsyslog 8.2302 loses
/// lines over that.
///
/// What was sent and has no receipt is sent again on the next connection. By the numbers of the lines the daemon knows
/// which of them it has, so each counts once, whenever the daemon ends.
///
/// A line that does not end is dropped: a part of a line can have another meaning than the whole.
///
/// SIGHUP does nothing. SIGTERM leaves 4 s for the input to end: when a service manager stops rsyslog it
/// sends it to us too, while rsyslog still has lines for us.
///
/// # Errors
///
/// If lines are left at the end that the daemon has not taken and rsyslog will not send again, or if the
/// system refuses to let us read, answer or wait.
pub fn run(options: &Options, mut input: File, mut output: File) -> io::Result<()> {
    let mut terminate = SigSet::empty();
    terminate.add(Signal::SIGTERM);
    let signals = SignalFd::new(&terminate)?;
    terminate.add(Signal::SIGHUP);
    terminate.thread_block()?;

    let mut relay = Relay::new(options.confirm, options.transactions);
    let mut daemon = DaemonConnection::at(&options.socket);
    let mut piece = vec![0; PIECE];
    let mut answer_by = None;
    let mut end_by = None;
    let mut open = true;
    loop {
        if let Some(answer) = relay.answer() {
            say(&mut output, answer)?;
            answer_by = None;
            continue;
        }
        let now = Instant::now();
        if daemon.send(&mut relay, now) {
            continue;
        }
        if relay.is_asked() && *answer_by.get_or_insert(now + PATIENCE) <= now {
            say(&mut output, relay.refuse())?;
            daemon.leave(&mut relay, now);
            answer_by = None;
            continue;
        }
        if (!open && relay.is_idle()) || end_by.is_some_and(|end_by| end_by <= now) {
            break;
        }
        let retry_at = daemon.retry_at.filter(|_| !relay.unsent().is_empty());
        let wake = [answer_by, end_by, retry_at].into_iter().flatten().min();
        let [signalled, readable, spoken] = wait(
            [
                Some((signals.as_fd(), PollFlags::POLLIN)),
                (open && relay.wants_input()).then_some((input.as_fd(), PollFlags::POLLIN)),
                daemon.stream.as_ref().map(|stream| (stream.as_fd(), DaemonConnection::awaits(&relay))),
            ],
            wake.map(|wake| wake.duration_since(now)),
        )?;
        let now = Instant::now();
        if spoken {
            daemon.receive(&mut relay, now);
        }
        if readable {
            match input.read(&mut piece)? {
                0 => open = false,
                read => relay.input(piece.get(..read).unwrap_or_default()),
            }
        }
        if signalled {
            signals.read_signal()?;
        }
        if signalled || !open {
            end_by.get_or_insert(now + PATIENCE);
        }
    }
    match relay.owned() {
        0 => Ok(()),
        lost => Err(io::Error::other(format!(
            "shutting down: the daemon did not take {} at `{}`",
            count(lost as u64, "line"),
            options.socket.display()
        ))),
    }
}

/// Writes one answer. If rsyslog is gone nobody misses it, and the input will end too.
fn say(output: &mut File, answer: &[u8]) -> io::Result<()> {
    match output.write_all(answer) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        said => said,
    }
}

/// Waits for the first of these events, or as long as `longest`; which of them are there.
fn wait(
    events: [Option<(BorrowedFd<'_>, PollFlags)>; 3],
    longest: Option<Duration>,
) -> io::Result<[bool; 3]> {
    let mut fds: Vec<PollFd<'_>> =
        events.iter().flatten().map(|(fd, flags)| PollFd::new(*fd, *flags)).collect();
    // poll(2) counts in milliseconds: a little late is better than a little early, and again, and again.
    let longest = longest.map(|longest| longest + Duration::from_millis(1));
    let timeout = longest.map_or(PollTimeout::NONE, |longest| longest.try_into().unwrap_or(PollTimeout::MAX));
    match poll(&mut fds, timeout) {
        Err(Errno::EINTR) => return Ok([false; 3]),
        polled => polled?,
    };
    let mut fds = fds.iter();
    Ok(events.map(|event| event.and_then(|_| fds.next()).is_some_and(|fd| fd.any().unwrap_or(true))))
}

/// Whether to try again is all there is to do.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock)
}

/// The connection to the daemon. It is made when there is something to send.
struct DaemonConnection<'a> {
    path: &'a Path,
    /// What we are called, so that the daemon knows us again; no other has that name.
    instance: u64,
    stream: Option<UnixStream>,
    /// Not before this is a new connection tried.
    retry_at: Option<Instant>,
    /// How long until then, the next time.
    pause: Duration,
    /// When it was last said that the daemon does not answer.
    said: Option<Instant>,
}

impl<'a> DaemonConnection<'a> {
    fn at(path: &'a Path) -> Self {
        // Seeded at random by the system.
        let instance = RandomState::new().hash_one(std::process::id());
        Self { path, instance, stream: None, retry_at: None, pause: SOON, said: None }
    }

    /// Sends what can be sent now; whether that was anything.
    fn send(&mut self, relay: &mut Relay, now: Instant) -> bool {
        let unsent = relay.unsent();
        if unsent.is_empty() || self.stream.is_none() && self.retry_at.is_some_and(|retry_at| retry_at > now)
        {
            return false;
        }
        match self.connected(relay).and_then(|mut stream| stream.write(unsent)) {
            Ok(count) => {
                relay.sent(count);
                return count > 0;
            }
            Err(error) if self.stream.is_some() && is_passing(&error) => {}
            Err(error) => {
                let hint = match error.kind() {
                    ErrorKind::PermissionDenied => {
                        "; omprog must run as root or in the group of the socket (`group` of [socket])"
                    }
                    ErrorKind::NotFound => "; does it run, and with this `path` of [socket]?",
                    _ => "",
                };
                self.lost(relay, now, &format!("{error}{hint}"));
            }
        }
        false
    }

    /// The connection; a new one has been greeted.
    fn connected(&mut self, relay: &Relay) -> io::Result<&UnixStream> {
        let stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let mut stream = socket::connect(self.path)?;
                let (instance, first, again) = (self.instance, relay.first(), relay.again());
                let greeting = Greeting(Numbered { instance, first, again });
                stream.write_all(format!("{}\n", greeting.line()).as_bytes())?;
                stream
            }
        };
        Ok(self.stream.insert(stream))
    }

    /// Reads receipts.
    fn receive(&mut self, relay: &mut Relay, now: Instant) {
        let mut piece = [0; 4096];
        match self.stream.as_mut().map_or(Ok(0), |stream| stream.read(&mut piece)) {
            Ok(0) => self.lost(relay, now, "it closed the connection"),
            Ok(read) => match relay.receipts(piece.get(..read).unwrap_or_default()) {
                Ok(()) => (self.retry_at, self.pause, self.said) = (None, SOON, None),
                Err(NoReceipt) => self.lost(relay, now, "its answer is not a receipt"),
            },
            Err(error) if is_passing(&error) => {}
            Err(error) => self.lost(relay, now, &error.to_string()),
        }
    }

    /// What to wait for.
    fn awaits(relay: &Relay) -> PollFlags {
        if relay.unsent().is_empty() { PollFlags::POLLIN } else { PollFlags::POLLIN | PollFlags::POLLOUT }
    }

    fn lost(&mut self, relay: &mut Relay, now: Instant, why: &str) {
        // It goes on to try, and says so now and then.
        if self.said.is_none_or(|said| now.duration_since(said) >= REPEAT) {
            self.said = Some(now);
            let path = self.path.display();
            // rsyslog keeps no log of its children; what they write to stderr is in the journal, or in its `output` file.
            let _ =
                writeln!(io::stderr(), "warning: lines wait, the daemon does not answer at `{path}`: {why}");
        }
        self.leave(relay, now);
    }

    /// Ends the connection; the next is a little off.
    fn leave(&mut self, relay: &mut Relay, now: Instant) {
        relay.disconnected();
        self.stream = None;
        self.retry_at = Some(now + self.pause);
        self.pause = LATE.min(self.pause * 2);
    }
}
