//! How long it takes from a line on the ingest socket until its sender is in the kernel's set, alone and under a flood
//! of other offences and beside receivers that are slow or down, and from the start of the daemon until it can ban; and how
//! long a million bans take, to make, to list, to find again after a restart, and to lift, and a million offenders of one
//! offence each: `cargo bench --bench latency`, as root; with ` -- start` behind it, only the start of the daemon, with
//! ` -- lines` only those lines, and with ` -- million` only the millions. With ` -- journal`, how long it takes from a message
//! to a journald of its own, and what it costs to follow its journal.
//!
//! The daemon is the real one, in a network namespace of its own; the kernel is asked over netlink whether the
//! address is in the set, as often as it answers. That tells each time to some microseconds, and takes one of the
//! processors from the daemon meanwhile. All is measured with ipset, and then with nftables.

#![allow(missing_docs)]

use std::io::{BufWriter, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{self, Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

#[path = "../tests/common/service.rs"]
#[allow(dead_code, clippy::unwrap_used)]
mod service;

use banstream::config::{Backend, Enforce};
use banstream::control::{BanFilter, ChangeRequest, Command, Status, Target, client};
use banstream::kernel::{Change, Displaced, Element, Firewall, Ipset, Nftables, TableOwner, Timeout};
use banstream_journal::{JournalPlace, JournalReader};

const BANS: usize = 1000;
const CONFIG: &str = r#"
state-directory = "DIR/state"
grammar-directory = "DIR/grammars"
[journald]
enabled = JOURNALD
[socket]
path = "DIR/ingest.sock"
[control]
path = "DIR/control.sock"
[metrics]
listen = ""
[enforce]
backend = "BACKEND"
max-elements = 2000000
[jail.sshd]
maxretry = 1
[jail.ftp]
maxretry = 5
"#;
/// Offences a second of the flood, and how many addresses they come from.
const FLOOD: usize = 50_000;
const FLOODERS: usize = 20_000;

fn main() {
    if let Some(backend) = std::env::var_os("IN_NAMESPACE") {
        let backends = [Backend::Ipset, Backend::Nftables];
        return measure(backends.into_iter().find(|b| backend == b.name()).expect("a backend"));
    }
    for backend in [Backend::Ipset, Backend::Nftables] {
        println!("with {}", backend.name());
        let this = std::env::current_exe().expect("our own path");
        let mut command = process::Command::new("unshare");
        command.args(["--net", "--mount"]).arg(this).args(std::env::args().skip(1));
        let status = command.env("IN_NAMESPACE", backend.name()).status();
        assert!(status.expect("unshare, from util-linux, as root").success());
    }
}

fn measure(backend: Backend) {
    let lo = process::Command::new("ip").args(["link", "set", "lo", "up"]).status();
    assert!(lo.expect("ip, from iproute2").success());
    let only = |part: &str| std::env::args().any(|argument| argument == part);
    if !["start", "lines", "journal", "million"].into_iter().any(only) {
        without_the_daemon(backend);
    }
    let _journald = only("journal").then(journald);
    let dir = tempfile::tempdir().expect("a temporary folder");
    let dir = dir.path();
    let config = dir.join("banstream.toml");
    let text = CONFIG.replace("DIR", &dir.display().to_string()).replace("BACKEND", backend.name());
    let text = text.replace("JOURNALD", &only("journal").to_string());
    std::fs::write(&config, &text).expect("a configuration");

    let begun = Instant::now();
    let daemon = start(&config);
    let mut socket = connect(&dir.join("ingest.sock"));
    let mut kernel = Asked::open(backend, Enforce::default());
    ban(&mut socket, &mut kernel, 0);
    println!("from start to first ban in the kernel: {:.1} ms", begun.elapsed().as_secs_f64() * 1e3);
    println!("then resident: {}", daemon.memory());
    let control = dir.join("control.sock");
    if only("start") {
        return;
    }
    if only("million") {
        a_million(daemon, socket, kernel, &config, &control);
        return a_million_offenders(dir, &config);
    }
    if only("journal") {
        return through_the_journal(&daemon, &mut kernel);
    }

    println!("{}", lone_bans(&mut socket, &mut kernel, "alone", 1));
    let reload = |receiver: &str| {
        std::fs::write(&config, format!("{text}{receiver}")).expect("a configuration");
        let answer = client::send(&control, &Command::Reload { confirm: None }).expect("the daemon answers");
        assert!(answer.done, "{}", answer.body);
    };
    let receiver = |url: &str| format!("[notify.it]\nwebhook = '{url}'\neach = true\nevents = ['ban']\n");
    let slow = service::Service::new(|_| {
        std::thread::sleep(Duration::from_millis(100));
        service::answer("204 No Content", "", "")
    });
    reload(&receiver(&slow.url));
    println!("{}", lone_bans(&mut socket, &mut kernel, "beside a receiver that takes 100 ms", 1 + BANS));
    reload(&receiver(&service::Service::nowhere().1));
    println!("{}", lone_bans(&mut socket, &mut kernel, "beside a receiver that is down", 1 + 2 * BANS));
    reload("");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let flooding = scope.spawn(|| send_flood(connect(&dir.join("ingest.sock")), &over));
        std::thread::sleep(Duration::from_secs(1));
        println!("{}", lone_bans(&mut socket, &mut kernel, "in the flood", 1 + 3 * BANS));
        over.store(true, Ordering::Relaxed);
        println!("the flood: {:.0} offences a second", flooding.join().expect("the flood is sent"));
    });
    if only("lines") {
        return;
    }
    a_million(daemon, socket, kernel, &config, &control);
    a_million_offenders(dir, &config);
}

/// How long the kernel takes for the first 100,000 bans, and for one more where there are a million.
fn without_the_daemon(backend: Backend) {
    let settings = Enforce { set: "alone".to_owned(), max_elements: 2_000_000, ..Enforce::default() };
    let mut kernel = Asked::open(backend, settings);
    kernel.firewall().prepare(Displaced::Move).expect("the kernel has it");
    let add = |number: u32| {
        Change::Add(element(&Ipv4Addr::from_bits(0x0a00_0000 + number).to_string()), Timeout::FOREVER)
    };
    let adds: Vec<Change> = (0..1_000_000).map(add).collect();
    let begun = Instant::now();
    for (nth, adds) in adds.chunks(20_000).enumerate() {
        assert!(kernel.firewall().apply(adds).expect("the kernel takes them").refused.is_empty());
        if nth == 4 {
            println!("100,000 bans into the kernel: {:.2} s", begun.elapsed().as_secs_f64());
        }
    }
    let mut times: Vec<Duration> = (1_000_000..1_002_000)
        .map(|number| {
            let begun = Instant::now();
            kernel.firewall().apply(&[add(number)]).expect("the kernel takes it");
            begun.elapsed()
        })
        .collect();
    times.sort_unstable();
    let p99 = times.get(times.len() * 99 / 100).map_or(0.0, Duration::as_secs_f64);
    println!("one more at a million: p99 {:.3} ms", p99 * 1e3);
    kernel.firewall().withdraw().expect("the kernel lets go of it");
}

/// A million bans, what they take, and how long the daemon needs to know them again.
fn a_million(mut daemon: Daemon, mut socket: UnixStream, mut kernel: Asked, config: &Path, control: &Path) {
    let begun = Instant::now();
    send_million(&mut socket, "sshd[1]:", ["Failed password for root from ", " port 2 ssh2"]);
    ban(&mut socket, &mut kernel, 5 * BANS);
    let ask = |command| client::send(control, &command).expect("the daemon answers").body;
    let shown = |what: &str, begun: Instant, daemon: &Daemon| {
        let seconds = begun.elapsed().as_secs_f64();
        let [resident, peak] = daemon.megabytes();
        println!("a million bans: {what} {seconds:.2} s, {resident} MB, at most {peak}");
    };
    shown("added in", begun, &daemon);

    let begun = Instant::now();
    let count = || ask(Command::Bans(BanFilter::default())).matches("\"address\"").count();
    let listed = count();
    shown(&format!("{listed} listed in"), begun, &daemon);

    let begun = Instant::now();
    daemon.stop();
    println!("a million bans: stopped in {:.2} s", begun.elapsed().as_secs_f64());
    let begun = Instant::now();
    let daemon = start(config);
    connect(control);
    ask(Command::Status);
    shown("answers again in", begun, &daemon);
    while count() < listed {
        assert!(begun.elapsed() < Duration::from_secs(600), "some were lost");
        std::thread::sleep(Duration::from_millis(100));
    }
    shown("all known again in", begun, &daemon);

    let begun = Instant::now();
    ask(Command::Change(ChangeRequest::Unban(Target::All).into()));
    shown("lifted in", begun, &daemon);
    while kernel.holds(&element("10.0.0.1")) || kernel.holds(&element("10.15.66.63")) {
        std::thread::sleep(Duration::from_millis(1));
    }
    shown("gone from the kernel in", begun, &daemon);
}

/// What a million offenders take in memory, with one offence of each.
fn a_million_offenders(dir: &Path, config: &Path) {
    std::fs::remove_dir_all(dir.join("state")).expect("the last daemon has ended");
    let daemon = start(config);
    send_million(
        &mut connect(&dir.join("ingest.sock")),
        "vsftpd[1]:",
        ["[root] FAIL LOGIN: Client \\\"", "\\\""],
    );
    let all_is_done = || {
        let answer = client::send(&dir.join("control.sock"), &Command::Status).expect("the daemon answers");
        let status: Status = serde_json::from_str(&answer.body).expect("a status");
        let tracked: u64 = status.jails.iter().map(|jail| jail.tracked).sum();
        tracked == 1_000_000 && status.ledger.waiting == 0
    };
    while !all_is_done() {
        std::thread::sleep(Duration::from_millis(100));
    }
    println!("a million offenders: {} MB", daemon.megabytes()[0]);
}

/// Sends a line about each of a million addresses, which stands between these texts.
fn send_million(socket: &mut UnixStream, tag: &str, [before, behind]: [&str; 2]) {
    let mut send = BufWriter::with_capacity(1 << 20, socket);
    for number in 0..1_000_000_u32 {
        let address = Ipv4Addr::from_bits(0x0a00_0000 + number);
        writeln!(send, "{{\"tag\":\"{tag}\", \"message\":\" {before}{address}{behind}\"}}")
            .expect("the daemon listens");
    }
}

/// A journald that nobody else writes to, in folders of its own.
fn journald() -> Daemon {
    for folder in ["/run", "/var/log/journal"] {
        let mounted = process::Command::new("mount").args(["-t", "tmpfs", "tmpfs", folder]).status();
        assert!(mounted.expect("mount, from mount").success(), "{folder}");
    }
    let mut command = process::Command::new("/lib/systemd/systemd-journald");
    let journald =
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("journald, from systemd");
    while !Path::new(JOURNALD).exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    Daemon(journald)
}

const JOURNALD: &str = "/run/systemd/journal/socket";

/// How long it takes from a message to journald until its entry can be read, and until its sender is in the kernel's set;
/// and the share of a processor that the daemon takes while nothing is written.
fn through_the_journal(daemon: &Daemon, kernel: &mut Asked) {
    let socket = UnixDatagram::unbound().expect("a socket");
    let send = |address: &str| {
        let message = format!("Failed password for root from {address} port 2 ssh2");
        let entry = format!("SYSLOG_IDENTIFIER=sshd\nPRIORITY=6\nMESSAGE={message}\n");
        socket.send_to(entry.as_bytes(), JOURNALD).expect("journald listens");
    };
    let pause = |number: usize| {
        // At any time between two looks.
        std::thread::sleep(Duration::from_micros(15_000 + (number as u64 * 7919) % 10_007));
    };
    let mut reader = JournalReader::open(JournalPlace::System).expect("a journal");
    reader.seek_tail();
    reader.previous();
    let seen = (0..BANS / 2).map(|number| {
        pause(number);
        let sent = Instant::now();
        send("198.51.100.1");
        while !(reader.refresh().is_ok() && reader.next()) {
            std::thread::yield_now();
        }
        sent.elapsed()
    });
    println!("from message to entry: {}", shares(seen.collect()));
    let banned = (0..BANS).map(|number| {
        pause(number);
        let address = format!("198.19.{}.{}", number / 250, number % 250 + 1);
        let sent = Instant::now();
        send(&address);
        wait_for(kernel, &element(&address), sent)
    });
    println!("from message to kernel: {}", shares(banned.collect()));
    std::thread::sleep(Duration::from_secs(3));
    let (begun, busy) = (Instant::now(), daemon.busy());
    std::thread::sleep(Duration::from_secs(20));
    let share = (daemon.busy() - busy).as_secs_f64() / begun.elapsed().as_secs_f64();
    println!("while nothing is written: {:.2} % of a processor, {}", share * 100.0, daemon.memory());
}

/// The kernel, which is asked about single elements.
enum Asked {
    Ipset(Ipset),
    Nftables(Nftables),
}

impl Asked {
    fn open(backend: Backend, settings: Enforce) -> Self {
        match backend {
            Backend::Nftables => {
                let owner = TableOwner::open(None).expect("netlink, as root");
                Self::Nftables(Nftables::open(settings, owner).expect("netlink"))
            }
            _ => Self::Ipset(Ipset::open(settings).expect("netlink, as root")),
        }
    }

    fn firewall(&mut self) -> &mut dyn Firewall {
        match self {
            Self::Ipset(ipset) => ipset,
            Self::Nftables(nftables) => nftables,
        }
    }

    fn holds(&mut self, element: &Element) -> bool {
        match self {
            Self::Ipset(ipset) => ipset.holds(element).unwrap_or(false),
            // By key alone: `holds` looks first which sets there are.
            Self::Nftables(nftables) => nftables.is_intact(&[*element]).unwrap_or(false),
        }
    }
}

/// How long the bans of lone lines take.
fn lone_bans(socket: &mut UnixStream, kernel: &mut Asked, how: &str, first: usize) -> String {
    let times = (first..first + BANS).map(|number| {
        std::thread::sleep(Duration::from_millis(3));
        ban(socket, kernel, number)
    });
    format!("from line to kernel, {BANS} lines {how}: {}", shares(times.collect()))
}

fn shares(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |share: f64| {
        times.get((times.len() as f64 * share) as usize).map_or(0.0, |time| time.as_secs_f64() * 1e3)
    };
    format!("p50 {:.3} ms, p90 {:.3} ms, p99 {:.3} ms", at(0.5), at(0.9), at(0.99))
}

/// Sends failed logins until it is over; how many a second. Every fifth of an address bans it.
fn send_flood(mut socket: UnixStream, over: &AtomicBool) -> f64 {
    const AT_ONCE: usize = FLOOD / 200;
    let (begun, mut sent) = (Instant::now(), 0);
    while !over.load(Ordering::Relaxed) {
        let line = |number: usize| {
            let who = number % FLOODERS;
            let address = format!("203.{}.{}.1", who / 250, who % 250);
            let message = format!("[root] FAIL LOGIN: Client \\\"{address}\\\"");
            format!("{{\"tag\":\"vsftpd[{number}]:\", \"message\":\" {message}\"}}\n")
        };
        let lines: String = (sent..sent + AT_ONCE).map(line).collect();
        socket.write_all(lines.as_bytes()).expect("the daemon listens");
        sent += AT_ONCE;
        let due = Duration::from_secs_f64(sent as f64 / FLOOD as f64);
        std::thread::sleep(due.saturating_sub(begun.elapsed()));
    }
    sent as f64 / begun.elapsed().as_secs_f64()
}

/// Ends the daemon whatever happens.
struct Daemon(Child);

impl Daemon {
    /// Its memory, and the most that it was since it was asked last.
    fn megabytes(&self) -> [u64; 2] {
        let of = |file: &str| format!("/proc/{}/{file}", self.0.id());
        let status = std::fs::read_to_string(of("status")).expect("it runs");
        std::fs::write(of("clear_refs"), "5").expect("the peak is forgotten");
        ["VmRSS:", "VmHWM:"].map(|name| {
            let (_, size) = status.split_once(name).expect("proc(5)");
            size.split_whitespace().next().and_then(|size| size.parse::<u64>().ok()).expect("kilobytes")
                / 1000
        })
    }

    /// What is resident, for people.
    fn memory(&self) -> String {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).expect("it runs");
        let of =
            |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
        format!("{}, of which anonymous {}", of("VmRSS:"), of("RssAnon:"))
    }

    /// For how long its threads have had a processor.
    fn busy(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.0.id())).expect("it runs");
        let of = |task: std::io::Result<std::fs::DirEntry>| {
            let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
        };
        tasks.filter_map(of).sum()
    }

    /// Has it end as a service manager does.
    fn stop(&mut self) {
        let asked = process::Command::new("kill").arg(self.0.id().to_string()).status();
        assert!(asked.expect("kill").success() && self.0.wait().expect("it ends").success());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(config: &Path) -> Daemon {
    let mut command = process::Command::new(env!("CARGO_BIN_EXE_banstream"));
    command.arg("run").arg("--config").arg(config).stderr(Stdio::null());
    // As banstream.service has it.
    command.env("MALLOC_TRIM_THRESHOLD_", "131072");
    Daemon(command.spawn().expect("the daemon"))
}

fn connect(path: &Path) -> UnixStream {
    let given_up = Instant::now() + Duration::from_secs(60);
    loop {
        match UnixStream::connect(path) {
            Ok(socket) => return socket,
            Err(error) => assert!(Instant::now() < given_up, "{}: {error}", path.display()),
        }
        // The start is not to share its processors with this.
        std::thread::sleep(Duration::from_micros(50));
    }
}

/// Sends one failed login, and waits until its sender is banned.
fn ban(socket: &mut UnixStream, kernel: &mut Asked, number: usize) -> Duration {
    let address = format!("198.18.{}.{}", number / 250, number % 250 + 1);
    // As rsyslog's template renders it, but without a time, which then is that of arrival.
    let message = format!("Failed password for root from {address} port 2 ssh2");
    let line = format!("{{\"tag\":\"sshd[{number}]:\", \"message\":\" {message}\"}}\n");
    let element = element(&address);
    let sent = Instant::now();
    socket.write_all(line.as_bytes()).expect("the daemon listens");
    wait_for(kernel, &element, sent)
}

/// How long after `sent` the kernel has it.
fn wait_for(kernel: &mut Asked, element: &Element, sent: Instant) -> Duration {
    while !kernel.holds(element) {
        assert!(sent.elapsed() < Duration::from_secs(60), "{} was never banned", element.offender);
        // There may be but two cores, and the daemon wants one.
        std::thread::yield_now();
    }
    sent.elapsed()
}

fn element(address: &str) -> Element {
    Element { offender: address.parse().expect("an address"), port: None }
}
