//! Lines a second through the whole program: `cargo bench --bench replay`.
//!
//! A million lines of each kind are written to a file first, always the same: an auth.log in which 30 % report attacks
//! by 20,000 addresses, and an access log in which 5 % do. `banstream replay` then reads each five times, on one thread.

#![allow(missing_docs)]

use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

const LINES: usize = 1_000_000;

fn main() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let dir = dir.path();
    measure(&dir.join("auth"), "sshd", auth);
    measure(&dir.join("access"), "nginx", access);
}

fn measure(log: &Path, program: &str, line: fn(&mut Dice, usize) -> String) {
    let (mut dice, mut text) = (Dice(2_026), String::new());
    (0..LINES).for_each(|number| writeln!(text, "{}", line(&mut dice, number)).expect("it fits"));
    std::fs::write(log, text).expect("room on the disk");
    let best = (0..5).map(|_| replay(log, program)).fold(f64::MAX, f64::min);
    println!("{program}: {LINES} lines in {best:.3} s, {:.1} million a second", LINES as f64 / best / 1e6);
}

fn replay(log: &Path, program: &str) -> f64 {
    let begun = Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_banstream"));
    command
        .args(["replay", "--program", program])
        .arg(log)
        .env("RAYON_NUM_THREADS", "1")
        .stdout(Stdio::null());
    assert!(command.status().expect("banstream").success());
    begun.elapsed().as_secs_f64()
}

/// A linear congruential generator (Knuth's MMIX): the same throws every time.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }

    fn attacker(&mut self) -> String {
        let number = self.throw(20_000);
        if number.is_multiple_of(50) {
            format!("2001:db8:{number:x}::1")
        } else {
            format!("198.18.{}.{}", number / 256, number % 256)
        }
    }
}

fn auth(dice: &mut Dice, number: usize) -> String {
    let second = number * 86_400 / LINES;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let (pid, port, who) = (dice.throw(4_000_000) + 300, dice.throw(60_000) + 1024, dice.attacker());
    let text = match dice.throw(100) {
        0..10 => format!("sshd[{pid}]: Failed password for root from {who} port {port} ssh2"),
        10..16 => format!("sshd[{pid}]: Invalid user oracle from {who} port {port}"),
        16..22 => format!("sshd[{pid}]: Failed password for invalid user oracle from {who} port {port} ssh2"),
        22..26 => {
            format!("sshd[{pid}]: Connection closed by authenticating user root {who} port {port} [preauth]")
        }
        26..30 => format!("sshd[{pid}]: Disconnected from invalid user oracle {who} port {port} [preauth]"),
        30..45 => format!(
            "sshd[{pid}]: Accepted publickey for alice from 10.0.{}.7 port {port} ssh2: ED25519 SHA256:abc",
            dice.throw(256)
        ),
        45..60 => {
            format!("sshd[{pid}]: pam_unix(sshd:session): session opened for user alice(uid=1000) by (uid=0)")
        }
        60..85 => format!("CRON[{pid}]: pam_unix(cron:session): session closed for user root"),
        _ => format!("systemd-logind[512]: New session {pid} of user alice."),
    };
    format!("Nov 21 {hour:02}:{minute:02}:{second:02} web01 {text}")
}

fn access(dice: &mut Dice, number: usize) -> String {
    let second = number * 86_400 / LINES;
    let time = format!("21/Nov/2026:{:02}:{:02}:{:02} +0000", second / 3600, second / 60 % 60, second % 60);
    let agent = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0";
    let (who, size) = (dice.attacker(), dice.throw(60_000) + 150);
    match dice.throw(100) {
        0..3 => format!("{who} - - [{time}] \"GET /.env HTTP/1.1\" 404 153 \"-\" \"{agent}\""),
        3..4 => format!("{who} - admin [{time}] \"GET /private/ HTTP/1.1\" 401 188 \"-\" \"{agent}\""),
        4..5 => {
            format!("{who} - - [{time}] \"GET /phpmyadmin/index.php HTTP/1.1\" 404 153 \"-\" \"{agent}\"")
        }
        page => format!(
            "10.1.{page}.9 - - [{time}] \"GET /blog/{page} HTTP/1.1\" 200 {size} \"https://a.example/\" \"{agent}\""
        ),
    }
}
