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
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use banstream::config::load;
use banstream::control::client;
use banstream::control::{BanFilter, Command as Ask, JailStatus, Status};
use banstream::engine::{Clock, Engine, Unattested};
use banstream::entry::records::Records;
use banstream::entry::{Decoder, Format};
use banstream::model::{Ban, Timestamp};
use serde::Deserialize;
use tempfile::{TempDir, tempdir};

use crate::common::{Killed, until};

/// Who is banned once all entries were read.
const LAST: &str = "203.0.113.254";

#[test]
fn a_journal_counts_once_however_often_the_daemon_is_killed() {
    let (kills, entries) = size();
    let lab = Lab::new("socket.enabled = false");
    let stream = stream(entries);
    let want = lab.undisturbed(&stream);
    let mut dice = Dice(7);

    let mut journal = Journal::new(&lab);
    journal.write(&[Line { message: "Server listening on :: port 22.".to_owned(), ..stream[0].clone() }]);
    let (first, rest) = stream.split_at(entries / (kills + 1));
    let daemon = lab.start();
    journal.write(first);
    lab.wait("the first entries are in the ledger", |status| {
        status.entries > 1 && status.ledger.waiting == 0
    });
    drop(daemon);

    let chunks: Vec<Vec<Line>> = rest.chunks(rest.len().div_ceil(kills)).map(<[Line]>::to_vec).collect();
    let (more, written) = channel::<Vec<Line>>();
    let writer = std::thread::spawn(move || {
        written.iter().for_each(|lines| journal.write(&lines));
        journal
    });
    for chunk in chunks {
        let daemon = lab.start_unready();
        // One in four dies while it starts, the others soon after there was something to read.
        let is_early = dice.below(4) == 0;
        if !is_early {
            lab.wait("it answers", |_| true);
        }
        more.send(chunk).unwrap();
        std::thread::sleep(Duration::from_millis(dice.below(if is_early { 400 } else { 250 })));
        drop(daemon);
    }
    drop(more);
    let mut journal = writer.join().unwrap();
    let daemon = lab.start();
    lab.wait_for_the_last();
    assert_eq!(lab.outcome(), want);
    lab.wait("all is in the ledger", |status| status.ledger.waiting == 0);
    drop(daemon);

    let _daemon = lab.start();
    assert_eq!(lab.outcome(), want, "after all was written down");
    let mut last = stream[entries - 1].clone();
    last.message = "Server listening on :: port 22.".to_owned();
    journal.write(&[last]);
    lab.wait("the next entry is read", |status| status.entries > 0);
    assert_eq!(lab.status().entries, 1, "the place in the journal is its end");
}

#[test]
fn rsyslog_counts_once_however_often_daemon_and_child_are_killed() {
    let (kills, entries) = size();
    let lab = Lab::new("journald.enabled = false");
    let stream = stream(entries);
    let want = lab.undisturbed(&stream);
    let mut dice = Dice(11);

    let rsyslog = Rsyslog::start(&lab, stream);
    let mut daemon = Some(lab.start());
    for _ in 0..kills {
        std::thread::sleep(Duration::from_millis(dice.below(200)));
        let (kills_daemon, kills_child) =
            [(false, true), (true, false), (true, true)][dice.below(3) as usize];
        if kills_daemon {
            daemon = None;
        }
        if kills_child {
            rsyslog.kill_child();
        }
        if kills_daemon {
            daemon = Some(lab.start_unready());
            // Long enough, half the time, for it to answer.
            std::thread::sleep(Duration::from_millis(dice.below(600)));
        }
        assert!(rsyslog.is_at_work(), "all was sent before the last kill: make the stream longer");
    }
    rsyslog.wait();
    lab.wait_for_the_last();
    assert_eq!(lab.outcome(), want);
    drop(daemon);
    // What rsyslog was told is taken, is written down.
    let _daemon = lab.start();
    assert_eq!(lab.outcome(), want, "after a restart");
}

#[test]
fn without_confirmation_a_line_counts_once_however_often_the_daemon_is_killed() {
    let (kills, entries) = size();
    let lab = Lab::new("journald.enabled = false");
    let stream = stream(entries);
    let want = lab.undisturbed(&stream);
    let mut dice = Dice(13);
    let mut child = lab.omprog().stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let child = Killed(child);
    for lines in stream.chunks(entries.div_ceil(kills)) {
        let daemon = lab.start();
        lines.iter().for_each(|line| writeln!(input, "{}", line.json()).unwrap());
        std::thread::sleep(Duration::from_millis(dice.below(200)));
        drop(daemon);
    }
    let _daemon = lab.start();
    lab.wait_for_the_last();
    assert_eq!(lab.outcome(), want);
    drop((input, child));
}

#[test]
fn a_real_rsyslogd_counts_once_however_often_daemon_and_child_are_killed() {
    let lab = Lab::new("journald.enabled = false");
    let daemon = lab.start();
    let rsyslogd = Rsyslogd::start(&lab, r#"queue.type="LinkedList""#);
    let mut dice = Dice(5);
    let mut daemon = Some(daemon);
    for round in 0..6 {
        rsyslogd.send(round * 100, 100);
        std::thread::sleep(Duration::from_millis(dice.below(60)));
        match round % 3 {
            0 => rsyslogd.kill_child(),
            1 => daemon = None,
            _ => {
                rsyslogd.kill_child();
                daemon = None;
            }
        }
        daemon = daemon.or_else(|| Some(lab.start_unready()));
    }
    rsyslogd.send(600, 1);
    lab.wait_for_counts(&rsyslogd, 601);
}

#[test]
fn what_rsyslogd_has_on_disk_counts_once_though_it_is_killed_too() {
    let lab = Lab::new("journald.enabled = false");
    let queue = r#"queue.type="Disk" queue.filename="banstream" queue.checkpointInterval="1""#;
    // While the daemon is away.
    let rsyslogd = Rsyslogd::start(&lab, queue);
    rsyslogd.send(0, 300);
    rsyslogd.wait_until_on_disk(299);
    drop(rsyslogd);
    // While it is at work, and some of a batch are answered.
    let daemon = lab.start();
    for _ in 0..3 {
        let rsyslogd = Rsyslogd::start(&lab, queue);
        lab.wait("some are counted", |status| status.entries > 20);
        drop(rsyslogd);
    }
    drop(daemon);
    let _daemon = lab.start();
    let rsyslogd = Rsyslogd::start(&lab, queue);
    rsyslogd.send(300, 1);
    lab.wait_for_counts(&rsyslogd, 301);
}

#[test]
fn a_damaged_ledger_is_set_aside_and_protection_goes_on() {
    let lab = Lab::new("journald.enabled = false");
    for damage in [&b"something else entirely"[..], &[0x55; 40_000]] {
        fs::create_dir_all(lab.path("state")).unwrap();
        fs::write(lab.path("state/ledger.db"), damage).unwrap();
        let daemon = lab.start();
        lab.ban("198.19.0.1");
        lab.wait("it is written", |status| status.ledger.waiting == 0 && status.ledger.error.is_none());
        drop(daemon);
        let daemon = lab.start();
        assert_eq!(lab.banned(), ["198.19.0.1"]);
        drop(daemon);
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
    let lab = Lab::new("journald.enabled = false\nmaxretry = 3");
    let daemon = lab.start();
    lab.ban("198.19.0.1");
    let offences = |count| lab.send(&vec!["198.19.0.2"; count]);
    offences(2);
    lab.wait("they are counted", |status| status.offences == 2 && status.ledger.waiting == 0);
    for name in ["ledger.db", "ledger.db-wal", "ledger.db-shm"] {
        drop(fs::remove_file(lab.path("state").join(name)));
    }
    lab.ban("198.19.0.3");
    let is_there = || lab.path("state/ledger.db").exists();
    lab.wait("it is written again", |status| {
        is_there() && status.ledger.error.is_none() && status.ledger.waiting == 0
    });
    drop(daemon);
    let _daemon = lab.start();
    assert_eq!(lab.banned(), ["198.19.0.1", "198.19.0.3"]);
    offences(1);
    lab.wait("two and one are three", |status| status.banned == 3);
}

#[test]
fn somebody_who_holds_the_ledger_stops_nothing() {
    let lab = Lab::new("journald.enabled = false\nmaxretry = 3");
    let daemon = lab.start();
    lab.ban("198.19.0.1");
    lab.wait("it is written", |status| status.ledger.waiting == 0);
    let other = rusqlite::Connection::open(lab.path("state/ledger.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();

    let mut child =
        lab.omprog().arg("--confirm").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (mut talk, child) = ((input, BufReader::new(output)), Killed(child));
    talk.1.read_line(&mut String::new()).unwrap();
    let now = jiff::Timestamp::now().as_microsecond();
    for pid in 0..100 {
        let message = format!("Failed password for root from 198.19.1.{} port 1 ssh2", pid / 3);
        let line = Line { time: now, pid, message }.json();
        assert!(is_taken(&mut talk, &line), "rsyslog would wait forever");
    }
    lab.wait("it is reported", |status| status.banned == 34 && status.ledger.error.is_some());
    other.execute_batch("ROLLBACK").unwrap();
    lab.wait("it is written", |status| status.ledger.waiting == 0 && status.ledger.error.is_none());
    drop((child, daemon));
    let _daemon = lab.start();
    assert_eq!(lab.status().banned, 34);
}

#[test]
fn two_daemons_do_not_write_one_ledger() {
    let lab = Lab::new("journald.enabled = false");
    let first = lab.start();
    lab.ban("198.19.0.1");
    lab.wait("it is written", |status| status.ledger.waiting == 0);
    let other = Lab { control: lab.path("other.sock"), ..lab.clone() };
    let config = fs::read_to_string(lab.path("config.toml")).unwrap();
    let moved = config.replace("control.sock", "other.sock").replace("ingest.sock", "ingest2.sock");
    fs::write(lab.path("other.toml"), moved).unwrap();
    let second = other.spawn("other.toml");
    other.wait("it says so", |status| status.ledger.error.as_deref() == Some("another daemon has it open"));
    other.ban("198.19.0.2");
    assert_eq!(other.banned(), ["198.19.0.2"], "protection goes on from memory");
    drop(first);
    other.wait("it is written", |status| status.ledger.waiting == 0 && status.ledger.error.is_none());
    drop(second);
    let _third = lab.start();
    assert_eq!(lab.banned(), ["198.19.0.1", "198.19.0.2"]);
}

#[test]
fn a_full_disk_is_caught_up_with_when_there_is_room() {
    let lab = Lab::new("journald.enabled = false\nmaxretry = 3");
    let disk = Disk::new(&lab, "size=1m");
    let daemon = disk.start();
    lab.ban("198.19.0.1");
    lab.wait("it is written", |status| status.ledger.waiting == 0 && status.ledger.error.is_none());

    disk.sh("dd if=/dev/zero of=$STATE/filler bs=4k 2>/dev/null; true");
    let crowd: Vec<String> = (0..2000).map(|n| format!("198.18.{}.{}", n / 200, n % 200)).collect();
    lab.send(&crowd.iter().flat_map(|address| [address.as_str(); 3]).collect::<Vec<_>>());
    lab.wait("protection goes on", |status| status.banned == 2001);
    lab.wait("it is reported", |status| status.ledger.error.is_some());
    assert!(lab.status().ledger.error.unwrap().contains("full"));
    disk.sh("rm $STATE/filler; mount -o remount,size=50m $STATE");
    lab.wait("it is written again", |status| status.ledger.waiting == 0 && status.ledger.error.is_none());
    drop(daemon);
    let _daemon = disk.start();
    assert_eq!(lab.status().banned, 2001);
}

#[test]
fn a_disk_that_cannot_be_written_still_tells_who_was_banned() {
    let lab = Lab::new("journald.enabled = false");
    let disk = Disk::new(&lab, "size=50m");
    let daemon = disk.start();
    lab.ban("198.19.0.1");
    lab.wait("it is written", |status| status.ledger.waiting == 0);
    drop(daemon);
    disk.sh("mount -o remount,ro $STATE");
    let daemon = disk.start();
    assert_eq!(lab.banned(), ["198.19.0.1"]);
    lab.ban("198.19.0.2");
    lab.wait("it is reported", |status| status.ledger.error.is_some());
    disk.sh("mount -o remount,rw $STATE");
    lab.wait("it is written", |status| status.ledger.waiting == 0 && status.ledger.error.is_none());
    drop(daemon);
    let _daemon = disk.start();
    assert_eq!(lab.banned(), ["198.19.0.1", "198.19.0.2"]);
}

/// How many kills, and among how many entries.
fn size() -> (usize, usize) {
    let number = |name, or| std::env::var(name).map_or(or, |text| text.parse().unwrap());
    (number("BANSTREAM_KILLS", 20), number("BANSTREAM_ENTRIES", 8000))
}

/// Numbers that look random and are the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }
}

/// What sshd says, and when.
#[derive(Clone)]
struct Line {
    time: i64,
    pid: u64,
    message: String,
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

/// A folder for a daemon, which goes with the last to use it.
#[derive(Clone)]
struct Lab {
    directory: Arc<TempDir>,
    control: PathBuf,
}

/// What is said of a ban.
#[derive(Deserialize)]
struct Banned {
    address: String,
    since: String,
    times: u32,
}

impl Lab {
    fn new(config: &str) -> Self {
        // A path of a socket has at most 107 bytes, so not below the target directory.
        let directory = tempdir().unwrap();
        fs::create_dir(directory.path().join("journal")).unwrap();
        let lab = Self { control: directory.path().join("control.sock"), directory: Arc::new(directory) };
        let text = "
            bantime = '1d'
            findtime = '30s'
            state-directory = 'DIR/state'
            grammar-directory = 'DIR/grammars'
            journald.directory = 'DIR/journal'
            socket.path = 'DIR/ingest.sock'
            control.path = 'DIR/control.sock'
            metrics.listen = ''
            mode = 'observe'";
        let text = text.replace("DIR", lab.path("").display().to_string().trim_end_matches('/'));
        fs::write(lab.path("config.toml"), format!("{config}\n{text}")).unwrap();
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn spawn(&self, config: &str) -> Killed {
        let mut daemon = Command::new(env!("CARGO_BIN_EXE_banstream"));
        daemon.args(["run", "--config"]).arg(self.path(config));
        let log = File::options().create(true).append(true).open(self.path("log")).unwrap();
        // Where a journal is, it would take the log.
        Killed(daemon.env_remove("JOURNAL_STREAM").stderr(log).spawn().unwrap())
    }

    fn start_unready(&self) -> Killed {
        self.spawn("config.toml")
    }

    fn start(&self) -> Killed {
        let daemon = self.start_unready();
        self.wait("the daemon answers", |_| true);
        daemon
    }

    fn omprog(&self) -> Command {
        let mut child = Command::new(env!("CARGO_BIN_EXE_banstream"));
        child.args(["omprog", "--socket"]).arg(self.path("ingest.sock"));
        child
    }

    fn ask(&self, command: &Ask) -> Option<String> {
        client::send(&self.control, command).ok().map(|answer| answer.body)
    }

    fn status(&self) -> Status {
        serde_json::from_str(&self.ask(&Ask::Status).unwrap()).unwrap()
    }

    #[track_caller]
    fn wait(&self, what: &str, is_so: impl Fn(&Status) -> bool) {
        until(what, || {
            let status = self.ask(&Ask::Status).and_then(|body| serde_json::from_str(&body).ok());
            if status.as_ref().is_some_and(&is_so) {
                return Ok(());
            }
            let log = fs::read_to_string(self.path("log")).unwrap_or_default();
            let tail = log.lines().rev().filter(|line| !line.contains("banned 1")).take(30);
            Err(format!("{status:#?}\n{}", tail.collect::<Vec<_>>().join("\n")))
        });
    }

    fn bans(&self) -> Vec<Banned> {
        serde_json::from_str(&self.ask(&Ask::Bans(BanFilter::default())).unwrap()).unwrap()
    }

    fn banned(&self) -> Vec<String> {
        self.bans().into_iter().map(|ban| ban.address).collect()
    }

    fn ban(&self, address: &str) {
        let (offender, reason) = (address.parse().unwrap(), String::new());
        self.ask(&Ask::Ban { offender, span: None, reason }).unwrap();
    }

    /// An offence of each of these, through the socket.
    fn send(&self, addresses: &[&str]) {
        let mut stream = std::os::unix::net::UnixStream::connect(self.path("ingest.sock")).unwrap();
        let now = jiff::Timestamp::now().as_microsecond();
        for (pid, address) in (1..).zip(addresses) {
            let message = format!("Failed password for root from {address} port 4711 ssh2");
            writeln!(stream, "{}", Line { time: now, pid, message }.json()).unwrap();
        }
    }

    fn wait_for_the_last(&self) {
        let bans = || self.ask(&Ask::Bans(BanFilter::default()));
        until("the end of the stream", || bans().is_some_and(|body| body.contains(LAST)));
    }

    /// Waits until the last of so many offences of [`Rsyslogd::send`] is counted; each must count once. The queue keeps
    /// their order, so what comes twice comes before the offences of [`LAST`], which are sent behind all; its ban empties its
    /// window.
    fn wait_for_counts(&self, rsyslogd: &Rsyslogd, count: u64) {
        rsyslogd.send_last();
        self.wait_for_the_last();
        let counted = self.status().jails.iter().map(|jail| jail.counted).sum::<u64>();
        assert_eq!(counted, count);
    }

    fn outcome(&self) -> Outcome {
        let bans = self.bans().into_iter().map(|ban| (ban.address, (ban.since, ban.times)));
        let jail = |jail: JailStatus| (jail.name, (jail.tracked, jail.counted));
        (bans.collect(), self.status().jails.into_iter().map(jail).collect())
    }

    /// What comes of the stream where nobody is killed.
    fn undisturbed(&self, stream: &[Line]) -> Outcome {
        let loaded = load::load(Some(&self.path("config.toml"))).unwrap();
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
        let jails: BTreeMap<_, _> = jails
            .map(|((jail, tracked), counted)| (jail.name.to_string(), (tracked as u64, counted)))
            .collect();
        let (tracked, _) = jails["sshd"];
        let bans: BTreeMap<_, _> = bans;
        assert!(
            bans.len() > 100 && tracked > 100,
            "{} bans and {tracked} watched: nothing is tried",
            bans.len()
        );
        (bans, jails)
    }
}

/// A journal that is being written.
struct Journal(Child, ChildStdin);

impl Journal {
    fn new(lab: &Lab) -> Self {
        let mut writer = Command::new("/lib/systemd/systemd-journal-remote")
            .arg("--output")
            .arg(lab.path("journal/one.journal"))
            .arg("-")
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("systemd-journal-remote cannot be started; it is in Debian's package of that name");
        let input = writer.stdin.take().unwrap();
        Self(writer, input)
    }

    /// In the journal export format (systemd.io/JOURNAL_EXPORT_FORMATS).
    fn write(&mut self, lines: &[Line]) {
        for Line { time, pid, message } in lines {
            let entry = format!(
                "__REALTIME_TIMESTAMP={time}\n__MONOTONIC_TIMESTAMP={time}\n\
                 _BOOT_ID=0123456789abcdef0123456789abcdef\n\
                 SYSLOG_IDENTIFIER=sshd\n_COMM=sshd\n_UID=0\n_PID={pid}\nMESSAGE={message}\n\n"
            );
            self.1.write_all(entry.as_bytes()).unwrap();
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// What rsyslog does with `confirmMessages="on"`: a line at a time, again until it is answered `OK`.
struct Rsyslog {
    child: Arc<Mutex<Option<Child>>>,
    ended: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Rsyslog {
    fn start(lab: &Lab, stream: Vec<Line>) -> Self {
        let (child, ended) = (Arc::new(Mutex::new(None)), Arc::new(AtomicBool::new(false)));
        let (lab, running, done) = (lab.clone(), Arc::clone(&child), Arc::clone(&ended));
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
                        let (new, input, output) = child_of(&lab);
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

    fn wait(self) {
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
fn child_of(lab: &Lab) -> (Child, ChildStdin, BufReader<ChildStdout>) {
    loop {
        let mut child = lab.omprog();
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
    fn start(lab: &Lab, queue: &str) -> Self {
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
            program = env!("CARGO_BIN_EXE_banstream"),
            socket = lab.path("ingest.sock").display(),
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
    lab: &'a Lab,
    holder: Killed,
}

impl<'a> Disk<'a> {
    fn new(lab: &'a Lab, options: &str) -> Self {
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

    /// A command that sees the file system.
    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg("--mount").arg("--target").arg(self.holder.0.id().to_string()).arg(program);
        command
    }

    fn sh(&self, script: &str) {
        let state = self.lab.path("state");
        assert!(
            self.command("sh").args(["-c", script]).env("STATE", state).status().unwrap().success(),
            "{script}"
        );
    }

    fn start(&self) -> Killed {
        let mut daemon = self.command(env!("CARGO_BIN_EXE_banstream"));
        let log = File::options().create(true).append(true).open(self.lab.path("log")).unwrap();
        // nsenter gives its place to the program, so that this is the one that is killed.
        let daemon = daemon.args(["run", "--config"]).arg(self.lab.path("config.toml")).stderr(log).spawn();
        let daemon = Killed(daemon.unwrap());
        self.lab.wait("the daemon answers", |_| true);
        daemon
    }
}
