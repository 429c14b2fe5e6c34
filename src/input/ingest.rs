//! The Unix socket for log lines, from `banstream omprog` and other clients.
//!
//! A client sends lines that end in `\n`. If its first line is a [`Greeting`], it gets receipts for lines that are in
//! the ledger: their number in decimal and `\n`, in the order of the lines; the numbers add up. When the connection
//! ends, the client repeats lines without a receipt on the next one, and the numbers of the lines show which were
//! already taken. The socket never writes to other clients.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet, yield_now};

use super::lines::Lines;
use super::{Batch, Numbered};
use crate::entry::Format;

/// The first line of a client that wants receipts, and says which line is next. It is not a record and gets none.
///
/// `banstream-omprog 2`, then three numbers in decimal with a space before each: those of [`Numbered`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Greeting(pub Numbered);

impl Greeting {
    const WORDS: &str = "banstream-omprog 2 ";

    /// The greeting as it is sent, without the line's end.
    pub fn line(self) -> String {
        let Numbered { instance, first, again } = self.0;
        format!("{}{instance} {first} {again}", Self::WORDS)
    }

    /// The greeting that this line is, if it is one.
    pub fn read(line: &[u8]) -> Option<Self> {
        let mut numbers = str::from_utf8(line).ok()?.strip_prefix(Self::WORDS)?.split(' ');
        let mut number = || numbers.next()?.parse().ok();
        let (instance, first, again) = (number()?, number()?, number()?);
        let again = usize::try_from(again).ok().filter(|again| *again <= AGAIN)?;
        numbers.next().is_none().then_some(Self(Numbered { instance, first, again }))
    }
}

/// The most lines that may come again from another client; a hash of each is kept. No batch of rsyslog's
/// (`queue.dequeueBatchSize`) may be larger.
pub const AGAIN: usize = 256;

/// Clients served at once. One more takes the place of who has been silent longest, of those that want no receipts: what
/// `banstream omprog` serves may be silent for days. Where there is none, it waits until one leaves.
const CLIENTS: usize = 64;

/// How long a client has to be silent for another to take its place, and how often that is looked at.
const SILENCE: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(100);

/// How long the first client that wants receipts has to be connected to be rsyslog's, and not a file that somebody sends.
const LASTING: Duration = Duration::from_secs(10);

/// Bytes read at once from one client; what has come by then is one batch.
const PIECE: usize = 64 << 10;

/// How long the receipts that are owed at the end may take.
const LAST: Duration = Duration::from_secs(1);

/// Batches of one client that the engine has yet to take, after which no more is read from it.
const UNDECIDED: usize = 16;

/// How many clients that want receipts are connected; `None` before the first that stays. Unlike others, what rsyslog starts
/// stays for as long as rsyslog runs.
pub type BridgeCount = watch::Sender<Option<u64>>;

/// Serves clients until `stop` is over; then reads no more, gives the receipts owed, and returns within 1 s.
///
/// A lone line is a batch of its own, at once; under load a batch is up to 64 KiB. While `sink` waits,
/// nothing is read from that client; where it breaks off, or drops a receipt untold, the client is left.
///
/// A line without its `\n` when the client leaves is not a record: its end may be missing. Lines over
/// [`LONGEST`](super::lines::LONGEST) become empty ones, so that receipts still add up.
pub async fn serve<S, F>(
    listener: UnixListener,
    sink: S,
    bridges: BridgeCount,
    stop: impl Future<Output = ()>,
) where
    S: Fn(Batch) -> F + Clone + Send + 'static,
    F: Future<Output = ControlFlow<()>> + Send + 'static,
{
    let mut stop = pin!(stop);
    let mut clients = JoinSet::new();
    let (stopping, stopped) = watch::channel(());
    let mut places: Vec<(AbortHandle, ClientSlot)> = Vec::new();
    let mut waiting = None;
    loop {
        if clients.len() < CLIENTS
            && let Some(stream) = waiting.take()
        {
            let place = ClientSlot::new(bridges.clone());
            let task = clients.spawn(client(stream, sink.clone(), stopped.clone(), place.clone()));
            places.retain(|(task, _)| !task.is_finished());
            places.push((task, place));
        }
        tokio::select! {
            () = &mut stop => break,
            Some(_) = clients.join_next() => {}
            () = tokio::time::sleep(LOOK), if waiting.is_some() => {
                let silent = places.iter().filter(|(task, _)| !task.is_finished());
                let silent = silent.filter_map(|(_, place)| Some((place.silence()?, place)));
                let longest = silent.max_by_key(|(silence, _)| *silence);
                longest.filter(|(silence, _)| *silence >= SILENCE).inspect(|(_, place)| place.leave.notify_one());
            }
            accepted = listener.accept(), if waiting.is_none() => match accepted {
                Ok((stream, _)) => waiting = Some(stream),
                Err(error) => {
                    log::warn!("cannot accept a client of the ingest socket: {error}");
                    // Out of file descriptors, most likely: until one is free this would come again at once.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
    drop((listener, stopping));
    let rest = async { while clients.join_next().await.is_some() {} };
    if tokio::time::timeout(LAST, rest).await.is_err() {
        log::warn!("some clients of the ingest socket did not get their last receipts");
    }
}

/// A client's place, and what is known of who has it.
#[derive(Clone)]
struct ClientSlot {
    /// When it last said a whole line; `None` while that is dealt with, and where it wants receipts.
    heard: watch::Sender<Option<Instant>>,
    /// Tells it to make room.
    leave: Arc<Notify>,
    connected: Instant,
    bridges: BridgeCount,
}

impl ClientSlot {
    fn new(bridges: BridgeCount) -> Self {
        let connected = Instant::now();
        Self { heard: watch::Sender::new(Some(connected)), leave: Arc::default(), connected, bridges }
    }

    /// Whether who has it counts as one that stays, if it wants receipts.
    fn is_lasting(&self) -> bool {
        self.bridges.borrow().is_some() || self.connected.elapsed() >= LASTING
    }

    fn silence(&self) -> Option<Duration> {
        self.heard.borrow().map(|heard| heard.elapsed())
    }
}

/// A client that wants receipts, counted while it is connected.
struct CountedBridge(BridgeCount);

impl CountedBridge {
    fn new(bridges: &BridgeCount) -> Self {
        bridges.send_modify(|count| *count = Some(count.unwrap_or(0) + 1));
        Self(bridges.clone())
    }
}

impl Drop for CountedBridge {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.map(|count| count.saturating_sub(1)));
    }
}

/// Serves one client until it leaves or `stopped`'s sender is dropped, and its receipts are given.
///
/// A client that asks for receipts and does not read them gets fewer and larger ones. It is never waited for,
/// so a first line that only looks like [`GREETING`] holds up nothing.
async fn client<S, F>(
    stream: UnixStream,
    sink: S,
    mut stopped: watch::Receiver<()>,
    place: ClientSlot,
) -> io::Result<()>
where
    S: Fn(Batch) -> F,
    F: Future<Output = ControlFlow<()>>,
{
    let mut piece = vec![0; PIECE];
    let mut reader = LineReader::new();
    let mut undecided = VecDeque::new();
    let mut receipts = Receipts::default();
    let mut bridge = None;
    let mut open = true;
    loop {
        tokio::select! {
            taken = taken(&mut undecided), if !undecided.is_empty() => receipts.owed += taken?,
            _ = stream.writable(), if receipts.are_owed() => match stream.try_write(receipts.bytes()) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                written => receipts.written(written?),
            },
            read = read(&stream, &mut piece), if open && undecided.len() < UNDECIDED => {
                let read = read?;
                open = read > 0;
                let mut batch = reader.batch(piece.get(..read).unwrap_or_default());
                let wants_receipts = batch.numbered.is_some();
                if wants_receipts && bridge.is_none() && place.is_lasting() {
                    bridge = Some(CountedBridge::new(&place.bridges));
                }
                if wants_receipts || !batch.records.is_empty() {
                    place.heard.send_replace(None);
                }
                if batch.records.is_empty() {
                    continue;
                }
                if wants_receipts {
                    let (receipt, told) = oneshot::channel();
                    undecided.push_back((batch.records.len() as u64, told));
                    batch.receipt = Some(receipt);
                }
                if sink(batch).await.is_break() {
                    return Ok(());
                }
                if !wants_receipts {
                    place.heard.send_replace(Some(Instant::now()));
                }
                // Who has much to say is not to come before the others again and again.
                yield_now().await;
            }
            () = place.leave.notified(), if open => return Ok(()),
            _ = stopped.changed(), if open => open = false,
            else => return Ok(()),
        }
    }
}

/// Reads what is there, at least one byte; 0 at the end. Nothing is lost if this is dropped while it waits.
async fn read(stream: &UnixStream, piece: &mut [u8]) -> io::Result<usize> {
    loop {
        stream.readable().await?;
        match stream.try_read(piece) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            read => return read,
        }
    }
}

/// How many lines the oldest batch has, once the engine has taken it; an error if it dropped it.
async fn taken(undecided: &mut VecDeque<(u64, oneshot::Receiver<()>)>) -> io::Result<u64> {
    let Some((lines, told)) = undecided.front_mut() else { return Ok(0) };
    told.await.map_err(|_| ErrorKind::ConnectionAborted)?;
    let lines = *lines;
    undecided.pop_front();
    Ok(lines)
}

/// What one client has written so far, as far as it matters.
struct LineReader {
    source: Arc<str>,
    lines: Lines,
    /// Whether the first line has come.
    begun: bool,
    /// Which line is next, of a client that wants receipts.
    next: Option<Numbered>,
}

impl LineReader {
    fn new() -> Self {
        Self { source: "socket".into(), lines: Lines::default(), begun: false, next: None }
    }

    /// The lines that `piece` completes.
    fn batch(&mut self, piece: &[u8]) -> Batch {
        let mut batch = Batch::new(Arc::clone(&self.source), Format::Line);
        self.lines.feed(piece);
        while let Some(line) = self.lines.line() {
            let greeting = if self.begun { None } else { Greeting::read(line) };
            self.begun = true;
            match greeting {
                Some(Greeting(numbered)) => self.next = Some(numbered),
                None => batch.records.push(line),
            }
        }
        batch.numbered = self.next;
        if let Some(next) = &mut self.next {
            next.first = next.first.saturating_add(batch.records.len() as u64);
        }
        batch.overlong = self.lines.take_overlong();
        batch
    }
}

/// The receipts that one client has yet to get. They add up while it does not read, so they take no room.
#[derive(Default)]
struct Receipts {
    /// Lines taken by the engine, of which nothing has been written.
    owed: u64,
    /// What is left of a receipt of which a part has been written.
    begun: Vec<u8>,
}

impl Receipts {
    fn are_owed(&self) -> bool {
        self.owed > 0 || !self.begun.is_empty()
    }

    /// What to write next.
    fn bytes(&mut self) -> &[u8] {
        if self.begun.is_empty() && self.owed > 0 {
            self.begun = format!("{}\n", std::mem::take(&mut self.owed)).into_bytes();
        }
        &self.begun
    }

    /// The first `count` of [`bytes`](Self::bytes) are on their way.
    fn written(&mut self, count: usize) {
        self.begun.drain(..count.min(self.begun.len()));
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
    use tokio::task::JoinHandle;

    use super::*;
    use crate::input::lines::LONGEST;

    /// One client, and the engine behind it.
    struct TestClient {
        stream: UnixStream,
        batches: UnboundedReceiver<Batch>,
        stop: watch::Sender<()>,
        served: JoinHandle<io::Result<()>>,
    }

    impl TestClient {
        fn new() -> Self {
            let (stream, theirs) = UnixStream::pair().unwrap();
            let (sender, batches) = unbounded_channel();
            let (stop, stopped) = watch::channel(());
            let sink =
                move |batch| ready(sender.send(batch).map_or(ControlFlow::Break(()), ControlFlow::Continue));
            Self {
                stream,
                batches,
                stop,
                served: tokio::spawn(client(theirs, sink, stopped, ClientSlot::new(BridgeCount::default()))),
            }
        }

        async fn write(&mut self, bytes: &[u8]) {
            self.stream.write_all(bytes).await.unwrap();
        }

        /// What is written to the client until the connection ends.
        async fn read(mut self) -> String {
            let mut text = String::new();
            self.stream.read_to_string(&mut text).await.unwrap();
            text
        }
    }

    /// Writes these bytes and leaves; the lines that arrive, and how many were too long.
    #[track_caller]
    fn check(writes: &[&[u8]], want: &[&[u8]], overlong: u64) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (lines, counted) = runtime.block_on(async {
            let mut client = TestClient::new();
            for bytes in writes {
                client.write(bytes).await;
                tokio::task::yield_now().await;
            }
            drop(client.stream);
            let (mut lines, mut counted) = (Vec::new(), 0);
            while let Some(batch) = client.batches.recv().await {
                assert!(!batch.records.is_empty() && batch.receipt.is_none());
                lines.extend(batch.records.iter().map(<[u8]>::to_vec));
                counted += batch.overlong;
            }
            (lines, counted)
        });
        assert_eq!(lines, want);
        assert_eq!(counted, overlong);
    }

    #[test]
    fn a_line_is_a_record_whatever_its_bytes() {
        check(&[b"one\ntwo\n"], &[b"one", b"two"], 0);
        check(&[b"on", b"e\n\n", b"\0\xff\r\n"], &[b"one", b"", b"\0\xff\r"], 0);
    }

    #[test]
    fn a_line_without_its_end_is_none() {
        check(&[b"one\nfrom 192.0.2.2", b""], &[b"one"], 0);
        check(&[b"one"], &[], 0);
    }

    #[test]
    fn a_line_too_long_becomes_an_empty_one() {
        let long = [b'x'; LONGEST + 1];
        check(&[&long, b"\nnext\n"], &[b"", b"next"], 1);
    }

    #[test]
    fn the_greeting_is_one_only_in_the_first_line() {
        check(&[b"\nbanstream-omprog 2 1 2 0\n"], &[b"", b"banstream-omprog 2 1 2 0"], 0);
        for near in [
            "banstream-omprog 1",
            "banstream-omprog 2",
            "banstream-omprog 2 1 2",
            "banstream-omprog 2 1 2 0 ",
            "banstream-omprog 2 1 -2 0",
            "banstream-omprog 2 1 2 257",
            "banstream-omprog 2 18446744073709551616 2 0",
        ] {
            check(&[near.as_bytes(), b"\n"], &[near.as_bytes()], 0);
        }
        let numbered = Numbered { instance: u64::MAX, first: 7, again: AGAIN };
        assert_eq!(Greeting::read(Greeting(numbered).line().as_bytes()), Some(Greeting(numbered)));
    }

    #[tokio::test]
    async fn receipts_come_when_the_engine_has_taken_the_lines() {
        let mut client = TestClient::new();
        client.write(b"banstream-omprog 2 9 7 1\none\n\n").await;
        let first = client.batches.recv().await.unwrap();
        assert_eq!(first.records.iter().collect::<Vec<_>>(), [&b"one"[..], b""]);
        assert_eq!(first.numbered, Some(Numbered { instance: 9, first: 7, again: 1 }));
        client.write(b"three\n").await;
        let second = client.batches.recv().await.unwrap();
        assert_eq!(second.numbered, Some(Numbered { instance: 9, first: 9, again: 1 }));
        // Told out of order: the receipts wait for each other.
        second.receipt.unwrap().send(()).unwrap();
        tokio::task::yield_now().await;
        assert_eq!(client.stream.try_read(&mut [0; 9]).unwrap_err().kind(), ErrorKind::WouldBlock);
        first.receipt.unwrap().send(()).unwrap();
        client.stream.shutdown().await.unwrap();
        let receipts = client.read().await;
        assert_eq!(receipts.lines().map(|line| line.parse::<u32>().unwrap()).sum::<u32>(), 3, "{receipts:?}");
    }

    #[tokio::test]
    async fn a_batch_that_the_engine_drops_ends_the_connection_without_a_receipt() {
        let mut client = TestClient::new();
        client.write(b"banstream-omprog 2 9 7 1\none\n").await;
        drop(client.batches.recv().await);
        assert_eq!(client.read().await, "");
    }

    #[tokio::test]
    async fn at_the_end_what_is_owed_is_given_and_no_more_is_read() {
        let mut client = TestClient::new();
        client.write(b"banstream-omprog 2 9 7 1\none\n").await;
        let batch = client.batches.recv().await.unwrap();
        drop(std::mem::replace(&mut client.stop, watch::channel(()).0));
        tokio::task::yield_now().await;
        client.write(b"two\n").await;
        batch.receipt.unwrap().send(()).unwrap();
        assert!(client.batches.recv().await.is_none());
        let mut text = [0; 9];
        assert_eq!(client.stream.read(&mut text).await.unwrap(), 2);
        assert!(text.starts_with(b"1\n"));
        assert!(client.served.await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn a_client_that_reads_no_receipts_is_read_all_the_same() {
        let mut client = TestClient::new();
        client.write(b"banstream-omprog 2 9 7 1\n").await;
        for _ in 0..20_000 {
            client.write(b"x\n").await;
            client.batches.recv().await.unwrap().receipt.unwrap().send(()).unwrap();
        }
        client.stream.shutdown().await.unwrap();
        let receipts = client.read().await;
        assert_eq!(receipts.lines().map(|line| line.parse::<u32>().unwrap()).sum::<u32>(), 20_000);
    }

    #[tokio::test]
    async fn the_65th_client_waits_for_another_to_leave_where_all_want_receipts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("crowd");
        let (sender, mut batches) = unbounded_channel();
        let sink =
            move |batch| ready(sender.send(batch).map_or(ControlFlow::Break(()), ControlFlow::Continue));
        let (stop, stopped) = oneshot::channel::<()>();
        let bridges = BridgeCount::new(Some(0));
        let listener = crate::input::socket::bind(&path, None).unwrap();
        let served = tokio::spawn(serve(listener, sink, bridges.clone(), async { drop(stopped.await) }));
        let mut crowd = Vec::new();
        for _ in 0..CLIENTS {
            let mut stream = UnixStream::connect(&path).await.unwrap();
            stream.write_all(b"banstream-omprog 2 9 0 1\nearly\n").await.unwrap();
            batches.recv().await.unwrap().receipt.unwrap().send(()).unwrap();
            crowd.push(stream);
        }
        let mut late = UnixStream::connect(&path).await.unwrap();
        late.write_all(b"late\n").await.unwrap();
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(batches.try_recv().is_err());
        assert_eq!(*bridges.borrow(), Some(CLIENTS as u64));
        crowd.pop();
        assert_eq!(batches.recv().await.unwrap().records.iter().next(), Some(&b"late"[..]));
        crowd.clear();
        bridges.subscribe().wait_for(|count| *count == Some(0)).await.unwrap();
        drop(stop);
        served.await.unwrap();
        assert!(batches.recv().await.is_none());
        std::fs::remove_file(&path).unwrap();
    }

    #[tokio::test]
    async fn who_has_been_silent_longest_makes_room_but_not_omprog() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("crowd");
        let (sender, mut batches) = unbounded_channel();
        let sink =
            move |batch| ready(sender.send(batch).map_or(ControlFlow::Break(()), ControlFlow::Continue));
        let bridges = BridgeCount::default();
        let _served = tokio::spawn(serve(
            crate::input::socket::bind(&path, None).unwrap(),
            sink,
            bridges.clone(),
            std::future::pending(),
        ));
        let mut crowd = Vec::new();
        for nth in 0..CLIENTS {
            let mut stream = UnixStream::connect(&path).await.unwrap();
            let omprog = nth == 0;
            stream
                .write_all(if omprog { b"banstream-omprog 2 9 0 1\none\n" } else { b"unfinished" })
                .await
                .unwrap();
            if omprog {
                batches.recv().await.unwrap().receipt.unwrap().send(()).unwrap();
            }
            crowd.push(stream);
        }
        for late in ["late", "later"] {
            let mut stream = UnixStream::connect(&path).await.unwrap();
            stream.write_all(format!("{late}\n").as_bytes()).await.unwrap();
            assert_eq!(batches.recv().await.unwrap().records.iter().next(), Some(late.as_bytes()));
            crowd.push(stream);
        }
        assert_eq!(*bridges.borrow(), None, "one that has just come may be no rsyslog");
        crowd[0].write_all(b"two\n").await.unwrap();
        assert_eq!(batches.recv().await.unwrap().records.iter().next(), Some(&b"two"[..]));
    }
}
