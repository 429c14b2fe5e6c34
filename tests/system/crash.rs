//! The daemon and omprog's child killed with SIGKILL at random moments, and a ledger that cannot be used: in the end
//! the bans and the counts are those of a run that nobody disturbed.
//!
//! The bans of that run are worked out by the engine itself, in this process. `BANSTREAM_KILLS=200
//! BANSTREAM_ENTRIES=100000 contrib/test crash` is the long version, of some minutes.
//!
//! It needs Debian's package `systemd-journal-remote`. Nothing is enforced, so no root is needed but where a file
//! system is mounted.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use banstream::config::load;
use banstream::control::{JailStatus, Status};
use banstream::engine::{Clock, Engine, Unattested};
use banstream::entry::records::Records;
use banstream::entry::{Decoder, Format};
use banstream::model::{Ban, Timestamp};
use serde::Deserialize;

use crate::common::{BANSTREAM, Daemon, Killed, until};

/// Who is banned once all entries were read.
const LAST: &str = "203.0.113.254";

#[test]
fn a_journal_counts_once_however_often_the_daemon_is_killed() {
    let (kills, entries) = size();
    let lab = lab("socket.enabled = false");
    let stream = stream(entries);
    let want = undisturbed(&lab, &stream);
    let mut dice = Dice(7);

    let mut journal = Journal::new(&lab);
    journal.write(&[Line { message: "Server listening on :: port 22.".to_owned(), ..stream[0].clone() }]);
    let (first, rest) = stream.split_at(entries / (kills + 1));
    lab.start();
    journal.write(first);
    wait(&lab, "the first entries are in the ledger", |status| {
        status.entries > 1 && status.ledger.waiting == 0
    });
    lab.kill();

    let chunks: Vec<Vec<Line>> = rest.chunks(rest.len().div_ceil(kills)).map(<[Line]>::to_vec).collect();
    let (more, written) = channel::<Vec<Line>>();
    let writer = std::thread::spawn(move || {
        written.iter().for_each(|lines| journal.write(&lines));
        journal
    });
    for chunk in chunks {
        lab.begin(&mut lab.command());
        // One in four dies while it starts, the others after they have written down that they got past their first entry,
        // which takes long on a busy disk: an entry that three die of is skipped.
        let is_early = dice.below(4) == 0;
        more.send(chunk).unwrap();
        if !is_early {
            wait(&lab, "it reads", |status| status.entries > 0 && status.ledger.waiting == 0);
        }
        std::thread::sleep(Duration::from_millis(dice.below(if is_early { 400 } else { 250 })));
        lab.kill();
    }
    drop(more);
    let mut journal = writer.join().unwrap();
    lab.start();
    wait_for_the_last(&lab);
    assert_eq!(outcome(&lab), want);
    wait(&lab, "all is in the ledger", |status| status.ledger.waiting == 0);
    lab.kill();

    lab.start();
    assert_eq!(outcome(&lab), want, "after all was written down");
    let mut last = stream[entries - 1].clone();
    last.message = "Server listening on :: port 22.".to_owned();
    journal.write(&[last]);
    wait(&lab, "the next entry is read", |status| status.entries > 0);
    assert_eq!(status(&lab).entries, 1, "the place in the journal is its end");
}

#[test]
fn rsyslog_counts_once_however_often_daemon_and_child_are_killed() {
    let (kills, entries) = size();
    let lab = lab("journald.enabled = false");
    let stream = stream(entries);
    let want = undisturbed(&lab, &stream);
    let mut dice = Dice(11);

    let rsyslog = Rsyslog::start(&lab, stream);
    lab.start();
    for _ in 0..kills {
        std::thread::sleep(Duration::from_millis(dice.below(200)));
        let (kills_daemon, kills_child) =
            [(false, true), (true, false), (true, true)][dice.below(3) as usize];
        if kills_daemon {
            lab.kill();
        }
        if kills_child {
            rsyslog.kill_child();
        }
        if kills_daemon {
            lab.begin(&mut lab.command());
            // Long enough, half the time, for it to answer.
            std::thread::sleep(Duration::from_millis(dice.below(600)));
        }
        assert!(rsyslog.is_at_work(), "all was sent before the last kill: make the stream longer");
    }
    rsyslog.wait();
    wait_for_the_last(&lab);
    assert_eq!(outcome(&lab), want);
    lab.kill();
    // What rsyslog was told is taken, is written down.
    lab.start();
    assert_eq!(outcome(&lab), want, "after a restart");
}

#[test]
fn without_confirmation_a_line_counts_once_however_often_the_daemon_is_killed() {
    let (kills, entries) = size();
    let lab = lab("journald.enabled = false");
    let stream = stream(entries);
    let want = undisturbed(&lab, &stream);
    let mut dice = Dice(13);
    let mut child = omprog(&lab.path("ingest")).stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let child = Killed(child);
    for lines in stream.chunks(entries.div_ceil(kills)) {
        lab.start();
        lines.iter().for_each(|line| writeln!(input, "{}", line.json()).unwrap());
        std::thread::sleep(Duration::from_millis(dice.below(200)));
        lab.kill();
    }
    lab.start();
    wait_for_the_last(&lab);
    assert_eq!(outcome(&lab), want);
    drop((input, child));
}

#[test]
fn a_real_rsyslogd_counts_once_however_often_daemon_and_child_are_killed() {
    let lab = lab("journald.enabled = false");
    lab.start();
    let rsyslogd = Rsyslogd::start(&lab, r#"queue.type="LinkedList""#);
    let mut dice = Dice(5);
    for round in 0..6 {
        rsyslogd.send(round * 100, 100);
        std::thread::sleep(Duration::from_millis(dice.below(60)));
        match round % 3 {
            0 => rsyslogd.kill_child(),
            1 => lab.kill(),
            _ => {
                rsyslogd.kill_child();
                lab.kill();
            }
        }
        if round % 3 > 0 {
            lab.begin(&mut lab.command());
        }
    }
    rsyslogd.send(600, 1);
    wait_for_counts(&lab, &rsyslogd, 601);
}

#[test]
fn what_rsyslogd_has_on_disk_counts_once_though_it_is_killed_too() {
    let lab = lab("journald.enabled = false");
    let queue = r#"queue.type="Disk" queue.filename="banstream" queue.checkpointInterval="1""#;
    // While the daemon is away.
    let rsyslogd = Rsyslogd::start(&lab, queue);
    rsyslogd.send(0, 300);
    rsyslogd.wait_until_on_disk(299);
    drop(rsyslogd);
    // While it is at work, and some of a batch are answered.
    lab.start();
    for _ in 0..3 {
        let rsyslogd = Rsyslogd::start(&lab, queue);
        wait(&lab, "some are counted", |status| status.entries > 20);
        drop(rsyslogd);
    }
    lab.kill();
    lab.start();
    let rsyslogd = Rsyslogd::start(&lab, queue);
    rsyslogd.send(300, 1);
    wait_for_counts(&lab, &rsyslogd, 301);
}

#[test]
fn a_damaged_ledger_is_set_aside_and_protection_goes_on() {
    let lab = lab("journald.enabled = false");
    for damage in [&b"something else entirely"[..], &[0x55; 40_000]] {
        fs::create_dir_all(lab.path("state")).unwrap();
        fs::write(lab.path("state/ledger.db"), damage).unwrap();
        lab.start();
        ban(&lab, "198.19.0.1");
        wait(&lab, "it is written", |status| status.ledger.waiting == 0 && status.ledger.error.is_none());
        lab.kill();
        lab.start();
        assert_eq!(banned(&lab), ["198.19.0.1"]);
        lab.kill();
        let aside = |file: &fs::DirEntry| fs::read(file.path()).is_ok_and(|bytes| bytes == damage);
        assert_eq!(
            fs::read_dir(lab.path("state")).unwrap().flatten().filter(aside).count(),
            1,
            "none is lost"
        );
        fs::remove_file(lab.path("state/ledger.db")).unwrap();
        drop(fs::remove_file(lab.path("state/ledger.db-wal")));
    }
}

#[test]
fn a_ledger_that_is_taken_away_is_written_anew_from_memory() {
    let lab = lab("journald.enabled = false\nmaxretry = 3");
    lab.start();
    ban(&lab, "198.19.0.1");
    let offences = |count| send(&lab, &vec!["198.19.0.2"; count]);
    offences(2);
    wait(&lab, "they are counted", |status| status.offences == 2 && status.ledger.waiting == 0);
    for name in ["ledger.db", "ledger.db-wal", "ledger.db-shm"] {
        drop(fs::remove_file(lab.path("state").join(name)));
    }
    ban(&lab, "198.19.0.3");
    let is_there = || lab.path("state/ledger.db").exists();
    wait(&lab, "it is written again", |status| {
        is_there() && status.ledger.error.is_none() && status.ledger.waiting == 0
    });
    lab.kill();
    lab.start();
    assert_eq!(banned(&lab), ["198.19.0.1", "198.19.0.3"]);
    offences(1);
    wait(&lab, "two and one are three", |status| status.banned == 3);
}

#[test]
fn somebody_who_holds_the_ledger_stops_nothing() {
    let lab = lab("journald.enabled = false\nmaxretry = 3");
    lab.start();
    ban(&lab, "198.19.0.1");
    wait(&lab, "it is written", |status| status.ledger.waiting == 0);
    let other = rusqlite::Connection::open(lab.path("state/ledger.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();

    let mut child = omprog(&lab.path("ingest"))
        .arg("--confirm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (mut talk, child) = ((input, BufReader::new(output)), Killed(child));
    talk.1.read_line(&mut String::new()).unwrap();
    let now = jiff::Timestamp::now().as_microsecond();
    for pid in 0..100 {
        let message = format!("Failed password for root from 198.19.1.{} port 1 ssh2", pid / 3);
        let line = Line { time: now, pid, message }.json();
        assert!(is_taken(&mut talk, &line), "rsyslog would wait forever");
    }
    wait(&lab, "it is reported", |status| status.banned == 34 && status.ledger.error.is_some());
    other.execute_batch("ROLLBACK").unwrap();
    wait(&lab, "it is written", |status| status.ledger.waiting == 0 && status.ledger.error.is_none());
    drop(child);
    lab.kill();
    lab.start();
    assert_eq!(status(&lab).banned, 34);
}

#[test]
fn two_daemons_do_not_write_one_ledger() {
    let lab = lab("journald.enabled = false");
    lab.start();
    ban(&lab, "198.19.0.1");
    wait(&lab, "it is written", |status| status.ledger.waiting == 0);
    let other = self::lab("journald.enabled = false");
    std::os::unix::fs::symlink(lab.path("state"), other.path("state")).unwrap();
    other.start();
    let another = Some("another daemon has it open");
    wait(&other, "it says so", |status| status.ledger.error.as_deref() == another);
    ban(&other, "198.19.0.2");
    assert_eq!(banned(&other), ["198.19.0.2"], "protection goes on from memory");
    lab.kill();
    wait(&other, "it is written", |status| status.ledger.waiting == 0 && status.ledger.error.is_none());
    other.kill();
    lab.start();
    assert_eq!(banned(&lab), ["198.19.0.1", "198.19.0.2"]);
}

#[test]
fn a_full_disk_is_caught_up_with_when_there_is_room() {
    let lab = lab("journald.enabled = false\nmaxretry = 3");
    let disk = Disk::new(&lab, "size=1m");
    disk.start();
    ban(&lab, "198.19.0.1");
    wait(&lab, "it is written", |status| status.ledger.waiting == 0 && status.ledger.error.is_none());

    disk.sh("dd if=/dev/zero of=$STATE/filler bs=4k 2>/dev/null; true");
    let crowd: Vec<String> = (0..2000).map(|n| format!("198.18.{}.{}", n / 200, n % 200)).collect();
    send(&lab, &crowd.iter().flat_map(|address| [address.as_str(); 3]).collect::<Vec<_>>());
    wait(&lab, "protection goes on", |status| status.banned == 2001);
    wait(&lab, "it is reported", |status| status.ledger.error.is_some());
    assert!(status(&lab).ledger.error.unwrap().contains("full"));
    // An operator is told that a restart may take back what the ledger has not got.
    for (command, done) in [
        ("ban 192.0.2.7 --for 1h", "banned 192.0.2.7 for 1h; it is only observed\n"),
        ("unban 192.0.2.7", "unbanned 192.0.2.7 (manual)\n"),
        ("allow 192.0.2.7", "exempted 192.0.2.7 until it is removed\n"),
        ("undo", "192.0.2.7 is no longer exempt\n"),
    ] {
        let said = lab.tell(command);
        let warning =
            said.strip_suffix("; a restart may take this back\n").and_then(|said| said.rsplit_once('\n'));
        let Some((before, warning)) = warning else { panic!("`{command}`: {said}") };
        assert!(format!("{before}\n").ends_with(done), "{said}");
        assert!(
            warning.starts_with("warning: the ledger cannot be written (") && warning.contains("full"),
            "{said}"
        );
    }
    disk.sh("rm $STATE/filler; mount -o remount,size=50m $STATE");
    wait(&lab, "it is written again", |status| status.ledger.waiting == 0 && status.ledger.error.is_none());
    assert_eq!(lab.tell("ban 192.0.2.8 --for 1h"), "banned 192.0.2.8 for 1h; it is only observed\n");
    lab.kill();
    disk.start();
    assert_eq!(status(&lab).banned, 2002);
}

#[test]
fn a_disk_that_cannot_be_written_still_tells_who_was_banned() {
    let lab = lab("journald.enabled = false");
    let disk = Disk::new(&lab, "size=50m");
    disk.start();
    ban(&lab, "198.19.0.1");
    wait(&lab, "it is written", |status| status.ledger.waiting == 0);
    lab.kill();
    disk.sh("mount -o remount,ro $STATE");
    disk.start();
    assert_eq!(banned(&lab), ["198.19.0.1"]);
    ban(&lab, "198.19.0.2");
    wait(&lab, "it is reported", |status| status.ledger.error.is_some());
    disk.sh("mount -o remount,rw $STATE");
    wait(&lab, "it is written", |status| status.ledger.waiting == 0 && status.ledger.error.is_none());
    lab.kill();
    disk.start();
    assert_eq!(banned(&lab), ["198.19.0.1", "198.19.0.2"]);
}

/// How many kills, and among how many entries.
fn size() -> (usize, usize) {
    let number = |name, or| std::env::var(name).map_or(or, |text| text.parse().unwrap());
    (number("BANSTREAM_KILLS", 20), number("BANSTREAM_ENTRIES", 8000))
}

/// Numbers that look random and are the same in each run.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }
}

/// What sshd says, and when.
#[derive(Clone)]
pub(crate) struct Line {
    pub(crate) time: i64,
    pub(crate) pid: u64,
    pub(crate) message: String,
}

impl Line {
    /// As rsyslog renders it.
    fn json(&self) -> String {
        let time = jiff::Timestamp::from_microsecond(self.time).unwrap();
        let Self { pid, message, .. } = self;
        format!(r#"{{"time":"{time}","program":"sshd","pid":"{pid}","uid":"0","message":" {message}"}}"#)
    }
}

/// A log in which some earn bans, some nearly, in sessions that are broken off and taken up again. It ends now.
fn stream(entries: usize) -> Vec<Line> {
    let (mut dice, apart) = (Dice(3), 20_000);
    let begin = jiff::Timestamp::now().as_microsecond() - entries as i64 * apart - 1_000_000;
    let mut lines: Vec<Line> = (0..entries - 5)
        .map(|nth| {
            // Each address is at it for two times 1,000 entries, 40 seconds.
            let who = (nth as u64 / 1000) * 150 + dice.below(300);
            let address = format!("198.18.{}.{}", who / 250, who % 250);
            let pid = 1000 + who * 4 + dice.below(3);
            let message = match dice.below(8) {
                0 | 1 => format!("Invalid user x from {address} port 4711"),
                2 | 3 => format!("Failed password for invalid user x from {address} port 4711 ssh2"),
                4 => format!("Accepted password for x from {address} port 4711 ssh2"),
                _ => format!("Failed password for root from {address} port 4711 ssh2"),
            };
            // Now and then two come in the other order.
            let late = if dice.below(10) == 0 { 50_000 } else { 0 };
            Line { time: begin + nth as i64 * apart - late, pid, message }
        })
        .collect();
    let message = format!("Failed password for root from {LAST} port 4711 ssh2");
    let end = begin + entries as i64 * apart;
    lines.extend((0..5).map(|nth| Line { time: end + nth, pid: 1 + nth as u64, message: message.clone() }));
    lines
}

/// Who is banned, since when and for which time, and for each jail how many offenders and offences it watches.
type Outcome = (BTreeMap<String, (String, u32)>, BTreeMap<String, (u64, u64)>);

/// A daemon whose jails only observe. It does not run yet.
fn lab(config: &str) -> Daemon {
    let always = "mode = 'observe'\nbantime = '1d'\nfindtime = '30s'\njournald.directory = 'DIR/journal'";
    let lab = Daemon::new(&format!("{config}\n{always}"));
    fs::create_dir(lab.path("journal")).unwrap();
    lab
}

/// What is said of a ban.
#[derive(Deserialize)]
struct Banned {
    address: String,
    since: String,
    times: u32,
}

fn bans(lab: &Daemon) -> Vec<Banned> {
    serde_json::from_str(&lab.tell("bans --json")).unwrap()
}

fn banned(lab: &Daemon) -> Vec<String> {
    bans(lab).into_iter().map(|ban| ban.address).collect()
}

fn ban(lab: &Daemon, address: &str) {
    lab.tell(&format!("ban {address}"));
}

fn status(lab: &Daemon) -> Status {
    serde_json::from_value(lab.status()).unwrap()
}

#[track_caller]
fn wait(lab: &Daemon, what: &str, is_so: impl Fn(&Status) -> bool) {
    until(what, || {
        let status = lab.get("/status").and_then(|body| serde_json::from_str(&body).ok());
        if status.as_ref().is_some_and(&is_so) { Ok(()) } else { Err(format!("{status:#?}")) }
    });
}

/// An offence of each of these, through the socket.
fn send(lab: &Daemon, addresses: &[&str]) {
    let time = jiff::Timestamp::now().as_microsecond();
    lab.send((1..).zip(addresses).map(|(pid, address)| {
        let message = format!("Failed password for root from {address} port 4711 ssh2");
        Line { time, pid, message }.json()
    }));
}

fn wait_for_the_last(lab: &Daemon) {
    until("the end of the stream", || lab.get("/bans").is_some_and(|body| body.contains(LAST)));
}

/// Waits until the last of so many offences of [`Rsyslogd::send`] is counted; each must count once. The queue keeps their
/// order, so what comes twice comes before the offences of [`LAST`], which are sent behind all; its ban empties its window.
fn wait_for_counts(lab: &Daemon, rsyslogd: &Rsyslogd, count: u64) {
    rsyslogd.send_last();
    wait_for_the_last(lab);
    let counted = status(lab).jails.iter().map(|jail| jail.counted).sum::<u64>();
    assert_eq!(counted, count);
}

fn outcome(lab: &Daemon) -> Outcome {
    let bans = bans(lab).into_iter().map(|ban| (ban.address, (ban.since, ban.times)));
    let jail = |jail: JailStatus| (jail.name, (jail.tracked, jail.counted));
    (bans.collect(), status(lab).jails.into_iter().map(jail).collect())
}

/// `banstream omprog`, for the ingest socket at this path.
fn omprog(socket: &Path) -> Command {
    let mut child = Command::new(BANSTREAM);
    child.args(["omprog", "--socket"]).arg(socket);
    child
}

/// The result of the stream where nobody is killed.
fn undisturbed(lab: &Daemon, stream: &[Line]) -> Outcome {
    let loaded = load::load(Some(&lab.path("c.toml"))).unwrap();
    let decoder = Decoder::new(jiff::tz::TimeZone::UTC);
    let mut engine = Engine::new(loaded.settings(), loaded.grammars.clone(), decoder);
    let now = Timestamp::from_micros(jiff::Timestamp::now().as_microsecond());
    for lines in stream.chunks(100) {
        let mut records = Records::new(Format::Line);
        lines.iter().for_each(|line| records.push(line.json().as_bytes()));
        engine.take(&mut records, Clock::At(now), Unattested::Accept);
    }
    let detector = engine.detector();
    let since = |ban: &Ban| ban.since.to_string();
    let bans = detector.bans().map(|ban| (ban.offender.to_string(), (since(ban), ban.times))).collect();
    let jails = detector.jails().zip(detector.counts());
    let jails: BTreeMap<_, _> =
        jails.map(|((jail, tracked), counted)| (jail.name.to_string(), (tracked as u64, counted))).collect();
    let (tracked, _) = jails["sshd"];
    let bans: BTreeMap<_, _> = bans;
    assert!(bans.len() > 100 && tracked > 100, "{} bans and {tracked} watched: nothing is tried", bans.len());
    (bans, jails)
}

/// A journal that is being written.
struct Journal {
    input: ChildStdin,
    _writer: Killed,
}

impl Journal {
    fn new(lab: &Daemon) -> Self {
        let mut writer = Command::new("/lib/systemd/systemd-journal-remote")
            .arg("--output")
            .arg(lab.path("journal/one.journal"))
            .arg("-")
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("systemd-journal-remote cannot be started; it is in Debian's package of that name");
        let input = writer.stdin.take().unwrap();
        Self { input, _writer: Killed(writer) }
    }

    /// In the journal export format (systemd.io/JOURNAL_EXPORT_FORMATS).
    fn write(&mut self, lines: &[Line]) {
        for Line { time, pid, message } in lines {
            let entry = format!(
                "__REALTIME_TIMESTAMP={time}\n__MONOTONIC_TIMESTAMP={time}\n\
                 _BOOT_ID=0123456789abcdef0123456789abcdef\n\
                 SYSLOG_IDENTIFIER=sshd\n_COMM=sshd\n_UID=0\n_PID={pid}\nMESSAGE={message}\n\n"
            );
            self.input.write_all(entry.as_bytes()).unwrap();
        }
    }
}

/// What rsyslog does with `confirmMessages="on"`: a line at a time, again until it is answered `OK`.
pub(crate) struct Rsyslog {
    child: Arc<Mutex<Option<Child>>>,
    ended: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Rsyslog {
    pub(crate) fn start(lab: &Daemon, stream: Vec<Line>) -> Self {
        let (child, ended) = (Arc::new(Mutex::new(None)), Arc::new(AtomicBool::new(false)));
        let (socket, running, done) = (lab.path("ingest"), Arc::clone(&child), Arc::clone(&ended));
        let thread = std::thread::spawn(move || {
            let mut talk: Option<(ChildStdin, BufReader<ChildStdout>)> = None;
            for line in stream.iter().map(Line::json) {
                while !talk.as_mut().is_some_and(|talk| is_taken(talk, &line)) {
                    let alive = running
                        .lock()
                        .unwrap()
                        .as_mut()
                        .is_some_and(|c: &mut Child| c.try_wait().unwrap().is_none());
                    if !alive {
                        let (new, input, output) = child_of(&socket);
                        *running.lock().unwrap() = Some(new);
                        talk = Some((input, output));
                    }
                }
            }
            done.store(true, Ordering::Relaxed);
        });
        Self { child, ended, thread }
    }

    fn kill_child(&self) {
        if let Some(child) = self.child.lock().unwrap().as_mut() {
            drop(child.kill());
            drop(child.wait());
        }
    }

    fn is_at_work(&self) -> bool {
        !self.ended.load(Ordering::Relaxed)
    }

    pub(crate) fn wait(self) {
        self.thread.join().unwrap();
        self.child.lock().unwrap().as_mut().into_iter().for_each(|child| {
            drop(child.kill());
            drop(child.wait());
        });
    }
}

/// Gives the line to the child; whether it answers `OK`.
fn is_taken((input, output): &mut (ChildStdin, BufReader<ChildStdout>), line: &str) -> bool {
    if input.write_all(format!("{line}\n").as_bytes()).is_err() {
        return false;
    }
    let mut answer = String::new();
    output.read_line(&mut answer).is_ok_and(|_| answer == "OK\n")
}

/// A child, and what it is talked to with. It has said that it is there.
fn child_of(socket: &Path) -> (Child, ChildStdin, BufReader<ChildStdout>) {
    loop {
        let mut child = omprog(socket);
        child.arg("--confirm").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = child.spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (mut output, mut answer) = (BufReader::new(output), String::new());
        if output.read_line(&mut answer).is_ok_and(|_| answer == "OK\n") {
            return (child, input, output);
        }
        drop(child.kill());
        drop(child.wait());
    }
}

/// A real one, with its own configuration, socket and queue.
struct Rsyslogd {
    process: Killed,
    socket: std::os::unix::net::UnixDatagram,
    spool: PathBuf,
}

impl Rsyslogd {
    fn start(lab: &Daemon, queue: &str) -> Self {
        let directory = lab.path("rsyslog");
        fs::create_dir_all(&directory).unwrap();
        // As in contrib/rsyslog, but for the socket and what the kernel knows of the sender.
        let configuration = format!(
            r#"global(workDirectory="{directory}" net.enableDNS="off")
            main_queue(queue.type="Direct")
            module(load="imuxsock" SysSock.Use="off")
            input(type="imuxsock" Socket="{directory}/log" RateLimit.Interval="0")
            module(load="omprog")
            template(name="banstream" type="list" option.jsonf="on") {{
                property(outname="time" name="timereported" dateFormat="rfc3339" format="jsonf")
                property(outname="tag" name="syslogtag" format="jsonf")
                property(outname="program" name="programname" format="jsonf")
                property(outname="pid" name="procid" format="jsonf")
                property(outname="message" name="msg" format="jsonf")
            }}
            if $programname == "sshd" then action(type="omprog" template="banstream"
                binary="{program} omprog --confirm --socket {socket}"
                confirmMessages="on" confirmTimeout="10000" reportFailures="on"
                closeTimeout="5000" killUnresponsive="on"
                action.resumeRetryCount="-1" action.resumeInterval="1"
                {queue} queue.size="50000" queue.dequeueBatchSize="256"
                queue.timeoutShutdown="10000" queue.timeoutActionCompletion="10000")"#,
            directory = directory.display(),
            program = BANSTREAM,
            socket = lab.path("ingest").display(),
        );
        fs::write(directory.join("conf"), configuration).unwrap();
        drop(fs::remove_file(directory.join("pid")));
        drop(fs::remove_file(directory.join("log")));
        let process = Command::new("/usr/sbin/rsyslogd")
            .args(["-n", "-f"])
            .arg(directory.join("conf"))
            .arg("-i")
            .arg(directory.join("pid"))
            .stderr(File::create(directory.join("errors")).unwrap())
            .spawn()
            .expect("`/usr/sbin/rsyslogd` cannot be started; it is in Debian's package `rsyslog`");
        let (process, socket) = (Killed(process), std::os::unix::net::UnixDatagram::unbound().unwrap());
        until("rsyslogd's socket", || socket.connect(directory.join("log")));
        Self { process, socket, spool: directory }
    }

    /// So many offences, each of another address.
    fn send(&self, first: u32, count: u32) {
        for number in first..first + count {
            self.send_one(number, &format!("198.18.{}.{}", number / 250, number % 250));
        }
    }

    /// So many offences of [`LAST`] that it is banned.
    fn send_last(&self) {
        (0..5).for_each(|nth| self.send_one(90_000 + nth, LAST));
    }

    fn send_one(&self, pid: u32, address: &str) {
        let line =
            format!("<38>Nov 22 04:00:00 sshd[{pid}]: Failed password for root from {address} port 1 ssh2");
        self.socket.send(line.as_bytes()).unwrap();
    }

    fn wait_until_on_disk(&self, number: u32) {
        let text = format!("sshd[{number}]");
        let is_there = |file: fs::DirEntry| {
            fs::read(file.path())
                .is_ok_and(|bytes| bytes.windows(text.len()).any(|part| part == text.as_bytes()))
        };
        until("rsyslogd writes its queue", || fs::read_dir(&self.spool).unwrap().flatten().any(is_there));
    }

    fn kill_child(&self) {
        // A child belongs to the thread that started it.
        let tasks = fs::read_dir(format!("/proc/{}/task", self.process.0.id())).unwrap().flatten();
        let children = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
        for child in children.collect::<String>().split_whitespace() {
            let child = nix::unistd::Pid::from_raw(child.parse().unwrap());
            let _ = nix::sys::signal::kill(child, nix::sys::signal::SIGKILL);
        }
    }
}

/// A file system of its own for the ledger, in a mount namespace that ends with it.
struct Disk<'a> {
    lab: &'a Daemon,
    holder: Killed,
}

impl<'a> Disk<'a> {
    fn new(lab: &'a Daemon, options: &str) -> Self {
        let state = lab.path("state");
        fs::create_dir_all(&state).unwrap();
        let script =
            format!("mount -t tmpfs -o {options} none {0} && echo && exec sleep 600", state.display());
        let mut holder = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", &script])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "\n", "no file system could be mounted; are we root?");
        Self { lab, holder: Killed(holder) }
    }

    /// Runs a script that sees the file system.
    fn sh(&self, script: &str) {
        let mut command = Command::new("nsenter");
        command.arg("--mount").arg("--target").arg(self.holder.0.id().to_string()).args(["sh", "-c", script]);
        assert!(command.env("STATE", self.lab.path("state")).status().unwrap().success(), "{script}");
    }

    fn start(&self) {
        let target = self.holder.0.id().to_string();
        let folder = format!("--wd={}", self.lab.path("").display());
        // It gives its place to the program, so that this is the one that is killed.
        let nsenter = ["nsenter", "--mount", "--target", &target, &folder, BANSTREAM];
        self.lab.run(&mut self.lab.command_of(&nsenter));
    }
}
