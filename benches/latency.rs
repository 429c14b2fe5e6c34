//! How long it takes from a line on the ingest socket until its sender is in the kernel's set, and from the start of
//! the daemon until it can ban: `cargo bench --bench latency`, as root.
//!
//! The daemon is the real one, in a network namespace of its own; the kernel is asked over netlink whether the
//! address is in the set, as often as it answers.

#![allow(missing_docs)]

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use banstream::enforce::{Element, Firewall, Kernel, Settings};

const BANS: usize = 1000;
const CONFIG: &str = r#"
state-directory = "DIR/state"
grammar-directory = "DIR/grammars"
[journald]
enabled = false
[socket]
path = "DIR/ingest.sock"
[control]
path = "DIR/control.sock"
[metrics]
listen = ""
[jail.sshd]
maxretry = 1
"#;

fn main() {
    if std::env::var_os("IN_NAMESPACE").is_none() {
        let this = std::env::current_exe().expect("our own path");
        let status = Command::new("unshare").arg("--net").arg(this).env("IN_NAMESPACE", "1").status();
        assert!(status.expect("unshare, from util-linux, as root").success());
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let dir = dir.path();
    let config = dir.join("banstream.toml");
    std::fs::write(&config, CONFIG.replace("DIR", &dir.display().to_string())).expect("a configuration");

    let begun = Instant::now();
    let _daemon = start(&config);
    let mut socket = connect(&dir.join("ingest.sock"));
    let mut kernel = Kernel::open(Settings::default()).expect("netlink, as root");
    ban(&mut socket, &mut kernel, 0);
    println!("from start to first ban in the kernel: {:.1} ms", begun.elapsed().as_secs_f64() * 1e3);

    let mut times: Vec<Duration> = (1..=BANS)
        .map(|number| {
            std::thread::sleep(Duration::from_millis(3));
            ban(&mut socket, &mut kernel, number)
        })
        .collect();
    times.sort_unstable();
    let at = |share: f64| {
        times.get((times.len() as f64 * share) as usize).map_or(0.0, |time| time.as_secs_f64() * 1e3)
    };
    println!("from line to kernel, {BANS} lone lines: p50 {:.3} ms, p99 {:.3} ms", at(0.5), at(0.99));
}

/// Ends the daemon whatever happens.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(config: &Path) -> Daemon {
    let mut command = Command::new(env!("CARGO_BIN_EXE_banstream"));
    command.arg("run").arg("--config").arg(config).stderr(Stdio::null());
    Daemon(command.spawn().expect("the daemon"))
}

fn connect(path: &Path) -> UnixStream {
    let given_up = Instant::now() + Duration::from_secs(10);
    loop {
        match UnixStream::connect(path) {
            Ok(socket) => return socket,
            Err(error) => assert!(Instant::now() < given_up, "{}: {error}", path.display()),
        }
    }
}

/// Sends one failed login, and waits until its sender is banned.
fn ban(socket: &mut UnixStream, kernel: &mut Kernel, number: usize) -> Duration {
    let address = format!("198.18.{}.{}", number / 250, number % 250 + 1);
    // As rsyslog's template renders it, but without a time, which then is that of arrival.
    let message = format!("Failed password for root from {address} port 2 ssh2");
    let line = format!("{{\"tag\":\"sshd[{number}]:\", \"message\":\" {message}\"}}\n");
    let element = Element { offender: address.parse().expect("an address"), port: None };
    let sent = Instant::now();
    socket.write_all(line.as_bytes()).expect("the daemon listens");
    while !kernel.holds(&element).unwrap_or(false) {
        assert!(sent.elapsed() < Duration::from_secs(10), "{address} was never banned");
        // There may be but two cores, and the daemon wants one.
        std::thread::yield_now();
    }
    sent.elapsed()
}
