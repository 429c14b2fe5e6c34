//! `banstream omprog` between a real rsyslogd and the ingest socket: no line is lost, whichever process
//! ends in the middle.
//!
//! Each test has an rsyslogd of its own, with its own configuration, log socket and pid file in a directory
//! of its own. It needs Debian's package `rsyslog`, and touches no log of the machine.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Instant;

use banstream::input::Batch;
use banstream::input::ingest::{self, BridgeCount};
use banstream::input::socket;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::{TempDir, tempdir};
use tokio::sync::oneshot;

use crate::common::{LIMIT, until};

const PLAIN: &str = "";
const CONFIRM: &str = "--confirm";
const TRANSACTIONS: &str = "--confirm --transactions";

#[test]
fn every_message_arrives_once_and_in_order() {
    for mode in [PLAIN, CONFIRM, TRANSACTIONS] {
        let mut lab = Lab::new(mode);
        lab.engine();
        lab.send(1..=2000);
        lab.until(2000);
        assert_eq!(lab.finish(), (1..=2000).collect::<Vec<_>>(), "mode `{mode}`");
    }
}

#[test]
fn an_engine_that_comes_late_gets_everything() {
    for mode in [PLAIN, CONFIRM, TRANSACTIONS] {
        let mut lab = Lab::new(mode);
        lab.send(1..=50);
        lab.shim();
        lab.engine();
        lab.until(50);
        assert_eq!(lab.finish(), (1..=50).collect::<Vec<_>>(), "mode `{mode}`");
    }
}

#[test]
fn an_engine_that_stops_and_starts_again_gets_everything_once() {
    for mode in [PLAIN, CONFIRM, TRANSACTIONS] {
        let mut lab = Lab::new(mode);
        for round in 0..4 {
            lab.engine();
            let first = round * 500 + 1;
            lab.send(first..=first + 499);
            lab.until(first as usize + 99);
            lab.stop_engine();
        }
        lab.engine();
        lab.until(2000);
        assert_eq!(lab.finish(), (1..=2000).collect::<Vec<_>>(), "mode `{mode}`");
    }
}

#[test]
fn an_engine_that_is_killed_loses_nothing() {
    for mode in [PLAIN, CONFIRM, TRANSACTIONS] {
        let mut lab = Lab::new(mode);
        for round in 0..4 {
            lab.engine();
            let first = round * 500 + 1;
            lab.send(first..=first + 499);
            lab.until(first as usize + 99);
            lab.kill_engine();
        }
        lab.engine();
        lab.until(2000);
        // What was taken and not confirmed comes again: a line or two, or what was under way in one piece.
        let counts = counts(&lab.finish());
        assert!(counts.keys().copied().eq(1..=2000), "mode `{mode}`");
    }
}

#[test]
fn a_child_that_is_killed_loses_nothing_that_is_confirmed() {
    for mode in [CONFIRM, TRANSACTIONS] {
        let mut lab = Lab::new(mode);
        lab.engine();
        for round in 0..3 {
            let first = round * 500 + 1;
            lab.send(first..=first + 499);
            lab.until(first as usize + 99);
            let shim = lab.shim();
            kill(shim, Signal::SIGKILL).unwrap();
        }
        lab.until(1500);
        let counts = counts(&lab.finish());
        assert!(counts.keys().copied().eq(1..=1500), "mode `{mode}`");
        // Rsyslog can only know of the line before which answers ended, or of one transaction of 64.
        let doubled = counts.values().filter(|count| **count > 1).count();
        assert!(doubled <= 3 * 64, "mode `{mode}`: {doubled} came twice");
    }
}

#[test]
fn a_hangup_changes_nothing() {
    let mut lab = Lab::new(CONFIRM);
    lab.engine();
    lab.send(1..=10);
    lab.until(10);
    let shim = lab.shim();
    kill(shim, Signal::SIGHUP).unwrap();
    lab.hang_up();
    lab.send(11..=20);
    lab.until(20);
    assert_eq!(lab.shim(), shim);
    assert_eq!(lab.finish(), (1..=20).collect::<Vec<_>>());
}

#[test]
fn hostile_messages_pass_and_stop_nothing() {
    let long = "x".repeat(7000);
    let messages: [&[u8]; 8] = [
        b"",
        b"\xff\xfe not UTF-8 \xc3",
        b"BEGIN TRANSACTION",
        b"COMMIT TRANSACTION",
        b"tab\tand line\nfeed",
        b"OK",
        b"#012 typed",
        long.as_bytes(),
    ];
    for mode in [PLAIN, CONFIRM, TRANSACTIONS] {
        let mut lab = Lab::new(mode);
        lab.engine();
        messages.iter().for_each(|message| lab.write(message));
        lab.send(1..=3);
        lab.until(3);
        // What rsyslog makes of control characters is its own affair.
        let seen = |text: &[u8]| lab.lines.iter().any(|line| line.strip_prefix(b"{") == Some(text));
        assert!(seen(b" \xff\xfe not UTF-8 \xc3"), "mode `{mode}`");
        assert!(seen(b" BEGIN TRANSACTION") && seen(b" COMMIT TRANSACTION") && seen(b" OK"), "mode `{mode}`");
        assert!(seen(format!(" {long}").as_bytes()), "mode `{mode}`");
        assert_eq!(lab.lines.len(), messages.len() + 3, "mode `{mode}`");
        assert_eq!(lab.finish(), [1, 2, 3], "mode `{mode}`");
    }
}

#[test]
fn at_the_end_of_its_input_it_delivers_what_it_has() {
    let (directory, mut engine, lines) = engine();
    let mut shim = Shim::start(directory.path(), PLAIN);
    shim.input.as_mut().unwrap().write_all(b"one\n\ntwo\nthree without an end").unwrap();
    drop(shim.input.take());
    assert!(shim.child.wait().unwrap().success());
    engine.stop();
    assert_eq!(lines.iter().collect::<Vec<_>>(), [&b"one"[..], b"", b"two"]);
}

#[test]
fn without_an_engine_it_starts_refuses_and_ends_with_a_count() {
    let directory = tempdir().unwrap();
    let mut shim = Shim::start(directory.path(), CONFIRM);
    assert_eq!(shim.answer(), "OK\n");
    shim.input.as_mut().unwrap().write_all(b"one\n").unwrap();
    assert_eq!(shim.answer(), "Error: the banstream daemon takes no lines at present\n");
    drop(shim.input.take());
    assert!(shim.child.wait().unwrap().success(), "rsyslog still has the line");

    let mut shim = Shim::start(directory.path(), PLAIN);
    shim.input.take().unwrap().write_all(b"one\ntwo\n").unwrap();
    let mut said = String::new();
    shim.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("the daemon did not take 2 lines"), "{said}");
    assert!(!shim.child.wait().unwrap().success());
}

#[test]
fn a_termination_leaves_time_for_the_rest_of_the_input() {
    let (directory, mut engine, lines) = engine();
    let mut shim = Shim::start(directory.path(), CONFIRM);
    assert_eq!(shim.answer(), "OK\n");
    kill(Pid::from_raw(shim.child.id() as i32), Signal::SIGTERM).unwrap();
    shim.input.as_mut().unwrap().write_all(b"one\n").unwrap();
    assert_eq!(shim.answer(), "OK\n");
    // The input stays open; it ends all the same.
    assert!(shim.child.wait().unwrap().success());
    engine.stop();
    assert_eq!(lines.iter().collect::<Vec<_>>(), [b"one"]);
}

#[test]
fn a_flood_passes_through_without_confirmation() {
    let (directory, mut engine, lines) = engine();
    let mut shim = Shim::start(directory.path(), PLAIN);
    let line = [b'x'; 99];
    let flood = [&line[..], b"\n"].concat().repeat(100_000);
    shim.input.take().unwrap().write_all(&flood).unwrap();
    assert!(shim.child.wait().unwrap().success());
    engine.stop();
    let mut count = 0;
    lines.iter().for_each(|got| {
        assert_eq!(got, line);
        count += 1;
    });
    assert_eq!(count, 100_000);
}

/// How often each number came.
fn counts(numbers: &[u32]) -> BTreeMap<u32, u32> {
    numbers.iter().fold(BTreeMap::new(), |mut counts, number| {
        *counts.entry(*number).or_default() += 1;
        counts
    })
}

/// The ingest socket, with an engine behind it that takes every line.
struct Engine {
    stop: Option<oneshot::Sender<()>>,
    kill: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Engine {
    fn start(directory: &Path, lines: Sender<Vec<u8>>) -> Self {
        let path = directory.join("engine");
        let (stop, stopped) = oneshot::channel::<()>();
        let (kill, killed) = oneshot::channel::<()>();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = {
            let _guard = runtime.enter();
            socket::bind(&path, None).unwrap()
        };
        let sink = move |batch: Batch| {
            batch.records.iter().for_each(|line| lines.send(line.to_vec()).unwrap());
            if let Some(receipt) = batch.receipt {
                // The client may have gone.
                let _ = receipt.send(());
            }
            std::future::ready(ControlFlow::Continue(()))
        };
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = ingest::serve(listener, sink, BridgeCount::default(), async { drop(stopped.await) }) => {}
                    _ = killed => {}
                }
            });
        });
        Self { stop: Some(stop), kill: Some(kill), thread: Some(thread) }
    }

    /// Ends as the daemon does.
    fn stop(&mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
    }

    /// Ends in the middle of whatever it is doing.
    fn kill(&mut self) {
        drop(self.kill.take());
        self.thread.take().unwrap().join().unwrap();
    }
}

fn engine() -> (TempDir, Engine, Receiver<Vec<u8>>) {
    let directory = tempdir().unwrap();
    let (sender, lines) = channel();
    let engine = Engine::start(directory.path(), sender);
    (directory, engine, lines)
}

/// `banstream omprog`, with the test in rsyslog's place.
struct Shim {
    child: Child,
    input: Option<ChildStdin>,
    output: ChildStdout,
}

impl Shim {
    fn start(directory: &Path, mode: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_banstream"))
            .args(["omprog", "--socket"])
            .arg(directory.join("engine"))
            .args(mode.split_whitespace())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self { input: child.stdin.take(), output: child.stdout.take().unwrap(), child }
    }

    /// What one read of its output gives: one write.
    fn answer(&mut self) -> String {
        let mut text = [0; 200];
        let read = self.output.read(&mut text).unwrap();
        String::from_utf8_lossy(&text[..read]).into_owned()
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A real rsyslogd that feeds `banstream omprog`, and now and then an engine.
struct Lab {
    rsyslog: Child,
    engine: Option<Engine>,
    socket: UnixDatagram,
    sender: Option<Sender<Vec<u8>>>,
    receiver: Receiver<Vec<u8>>,
    /// What the engines have got.
    lines: Vec<Vec<u8>>,
    directory: TempDir,
}

impl Lab {
    fn new(mode: &str) -> Self {
        // A path of a socket has at most 107 bytes, so not below the target directory.
        let directory = tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let confirm = if mode.contains("--confirm") { r#"confirmMessages="on""# } else { "" };
        let transactions = if mode.contains("--transactions") { r#"useTransactions="on""# } else { "" };
        let configuration = format!(
            r#"global(workDirectory="{directory}" net.enableDNS="off" processInternalMessages="on")
            main_queue(queue.size="100000" queue.dequeueBatchSize="64" queue.timeoutShutdown="5000")
            module(load="imuxsock" SysSock.Use="off")
            input(type="imuxsock" Socket="{directory}/log" RateLimit.Interval="0")
            module(load="omprog")
            template(name="line" type="list") {{
                constant(value="{{") property(name="msg") constant(value="\n")
            }}
            if $syslogtag startswith "rsyslogd" then {{
                action(type="omfile" file="{directory}/said") stop
            }}
            action(type="omprog" template="line" hup.signal="HUP" output="{directory}/child"
                binary="{program} omprog --socket {directory}/engine {mode}"
                {confirm} {transactions} closeTimeout="5000" killUnresponsive="on"
                action.resumeRetryCount="-1" action.resumeInterval="1"
                queue.type="LinkedList" queue.size="100000" queue.dequeueBatchSize="64"
                queue.timeoutShutdown="10000" queue.timeoutActionCompletion="10000")"#,
            directory = directory.path().display(),
            program = env!("CARGO_BIN_EXE_banstream"),
        );
        fs::write(path("conf"), configuration.replace(r#" ""#, r#"""#)).unwrap();
        let rsyslog = Command::new("/usr/sbin/rsyslogd")
            .args(["-n", "-f"])
            .arg(path("conf"))
            .arg("-i")
            .arg(path("pid"))
            .stderr(File::create(path("errors")).unwrap())
            .spawn()
            .expect("`/usr/sbin/rsyslogd` cannot be started; it is in Debian's package `rsyslog`");
        until("rsyslogd's socket", || path("log").exists());
        let socket = UnixDatagram::unbound().unwrap();
        socket.connect(path("log")).unwrap();
        let (sender, receiver) = channel();
        Self { rsyslog, engine: None, socket, sender: Some(sender), receiver, lines: Vec::new(), directory }
    }

    fn engine(&mut self) {
        self.engine = Some(Engine::start(self.directory.path(), self.sender.clone().unwrap()));
    }

    fn stop_engine(&mut self) {
        self.engine.take().unwrap().stop();
    }

    fn kill_engine(&mut self) {
        self.engine.take().unwrap().kill();
    }

    fn send(&self, numbers: impl Iterator<Item = u32>) {
        numbers.for_each(|number| self.write(format!("number {number}").as_bytes()));
    }

    fn write(&self, message: &[u8]) {
        self.socket.send(&[b"<38>Nov 22 04:00:00 test: ", message].concat()).unwrap();
    }

    /// Waits until this many different numbers have come.
    fn until(&mut self, count: usize) {
        let end = Instant::now() + LIMIT;
        while counts(&self.numbers()).len() < count {
            let left = end.saturating_duration_since(Instant::now());
            let line = self.receiver.recv_timeout(left).unwrap_or_else(|_| {
                let read = |name| fs::read_to_string(self.directory.path().join(name)).unwrap_or_default();
                let got = counts(&self.numbers()).len();
                panic!("got {got} of {count}\nrsyslogd: {}{}{}", read("errors"), read("said"), read("child"))
            });
            self.lines.push(line);
            self.lines.extend(self.receiver.try_iter());
        }
    }

    fn numbers(&self) -> Vec<u32> {
        let number = |line: &Vec<u8>| str::from_utf8(line).ok()?.strip_prefix("{ number ")?.parse().ok();
        self.lines.iter().filter_map(number).collect()
    }

    fn hang_up(&self) {
        kill(Pid::from_raw(self.rsyslog.id() as i32), Signal::SIGHUP).unwrap();
    }

    /// The process that rsyslogd has started.
    fn shim(&self) -> Pid {
        let path = format!("/proc/{0}/task", self.rsyslog.id());
        let children = || -> Option<i32> {
            // A child belongs to the thread that started it.
            let threads = fs::read_dir(&path).ok()?.flatten();
            let children = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("children")).ok();
            threads.filter_map(children).find_map(|text| text.split_whitespace().next()?.parse().ok())
        };
        Pid::from_raw(until("the child", children))
    }

    /// Ends rsyslogd, which has to say nothing bad, then the engine; all numbers that have come.
    fn finish(mut self) -> Vec<u32> {
        kill(Pid::from_raw(self.rsyslog.id() as i32), Signal::SIGTERM).unwrap();
        assert!(self.rsyslog.wait().unwrap().success());
        self.stop_engine();
        drop(self.sender.take());
        self.lines.extend(self.receiver.iter());
        self.numbers()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        drop(self.rsyslog.kill());
        drop(self.rsyslog.wait());
    }
}
