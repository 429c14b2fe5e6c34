//! Who is not to be banned by the configuration as it comes: those who merely look whether ssh answers. And that this
//! lets nobody attack.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test may panic

use std::fmt::Write;
use std::process::Command;

use jiff::ToSpan;

const HOUR: u32 = 3600;

/// Replays these lines of `program` by one process every so many seconds for that long; the jails that ban somebody,
/// and on which ports.
#[track_caller]
fn check(program: &str, lines: &[&str], every: u32, seconds: u32, want: &[&str]) {
    let start: jiff::Timestamp = "2026-11-28T00:00:00Z".parse().unwrap();
    let mut log = String::new();
    for second in (0..seconds).step_by(every as usize) {
        let time = start + i64::from(second).seconds();
        for line in lines {
            writeln!(log, "{time} host {program}[{}]: {line}", 1000 + second).unwrap();
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let file = |name, text| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let output = Command::new(env!("CARGO_BIN_EXE_banstream"))
        .args(["replay", "--json", "--config"])
        .args([file("banstream.toml", "grammar-directory = '/nonexistent'\n"), file("log", &log)])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut bans: Vec<String> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|line| line["jail"].is_string())
        .map(|ban| format!("{} {}", ban["jail"].as_str().unwrap(), ban["ports"]))
        .collect();
    bans.dedup();
    assert_eq!(bans, want, "{lines:?} every {every} s");
}

#[test]
fn a_monitor_of_ssh_is_not_banned() {
    check("sshd-session", &["Connection closed by 192.0.2.6 port 47110 [preauth]"], 60, 24 * HOUR, &[]);
    let farewell = [
        "Received disconnect from 192.0.2.6 port 47110:11: Bye Bye [preauth]",
        "Disconnected from 192.0.2.6 port 47110 [preauth]",
    ];
    check("sshd", &farewell, 5, HOUR, &[]);
}

#[test]
fn a_load_balancer_before_ssh_is_not_banned() {
    check("sshd", &["Connection reset by 192.0.2.6 port 47110"], 2, HOUR, &[]);
    check("sshd", &["Connection closed by 2001:db8::6 port 47110"], 1, HOUR, &[]);
    check("sshd", &["Did not receive identification string from 192.0.2.6 port 47110"], 2, HOUR, &[]);
    check("dropbear", &["Exit before auth from <192.0.2.6:47110>: Exited normally"], 2, HOUR, &[]);
}

#[test]
fn an_ssh_keyscan_now_and_then_is_not_banned() {
    let refused = "Unable to negotiate with 192.0.2.7 port 4002: no matching host key type found. Their offer: \
                   sk-ssh-ed25519@openssh.com [preauth]";
    check("sshd", &[refused], 60, 24 * HOUR, &[]);
}

#[test]
fn whoever_abuses_ssh_is_shut_out_of_ssh_for_a_while() {
    let only_ssh = |jail: &str| format!("{jail} [\"22/tcp\"]");
    for line in [
        "Unable to negotiate with 192.0.2.8 port 4002: no matching cipher found. Their offer: x [preauth]",
        "ssh_dispatch_run_fatal: Connection from 192.0.2.8 port 4002: message authentication code incorrect [preauth]",
        "drop connection #0 from [192.0.2.8]:4711 on [203.0.113.1]:22 penalty: exceeded LoginGraceTime",
        "Bad protocol version identification 'GET / HTTP/1.1' from 192.0.2.8 port 4002",
    ] {
        check("sshd", &[line], 10, 300, &[&only_ssh("ssh-abuse")]);
    }
}

#[test]
fn whoever_guesses_passwords_is_shut_out_of_everything() {
    check("sshd", &["Failed password for root from 192.0.2.9 port 4002 ssh2"], 60, 300, &["sshd []"]);
}
