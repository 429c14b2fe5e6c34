//! What a newcomer meets: where the log is, which file is shown, what an exemption is, and what is served.
//!
//! Words of fail2ban on the command line have their table in `cli::wrong`, those in the configuration in `config::tests`.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::common::{BANSTREAM, Daemon, failed, said, until};

/// The exit status of a command, and what it says.
fn run(daemon: &Daemon, words: &[&str]) -> (i32, String) {
    let output = daemon.output(words);
    (output.status.code().unwrap(), said(&output))
}

#[test]
fn a_log_that_is_elsewhere_is_named() {
    let daemon = Daemon::deciding("");
    let log = daemon.path("log");
    let elsewhere = format!("(process {}) logs to `{}`, not to the journal\n", daemon.pid(), log.display());
    let (status, text) = run(&daemon, &["log", "-n", "1"]);
    if !["/usr/bin/journalctl", "/bin/journalctl"].iter().any(|path| Path::new(path).exists()) {
        assert!(status == 2 && text.starts_with("error: no `journalctl` here"), "{status} {text}");
        return;
    }
    // A machine whose journal has lines of the unit shows those.
    assert!(text.contains(&elsewhere), "{text}");
    if status != 0 {
        let none = "error: the journal has no line of `banstream.service`: the daemon that runs ";
        assert_eq!((status, text), (2, format!("{none}{elsewhere}")));
        assert_eq!(run(&daemon, &["log", "-f"]), (2, format!("{none}{elsewhere}")));
    }
}

#[test]
fn a_configuration_is_shown_with_its_files_and_those_of_the_daemon() {
    let daemon = Daemon::deciding("");
    let head = |words: &[&str]| -> Vec<String> {
        let (status, text) = run(&daemon, words);
        assert_eq!(status, 0, "{text}");
        text.lines().take_while(|line| line.starts_with('#')).map(str::to_owned).collect()
    };
    assert_eq!(head(&["config", "show", "--config", "c.toml"]), ["# read from c.toml"]);
    fs::write(daemon.path("other.toml"), "control.path = '/nonexistent/control'\n").unwrap();
    let config = daemon.path("c.toml").canonicalize().unwrap().display().to_string();
    let others =
        format!("# the daemon that runs has read {config}; see `banstream config show --config {config}`");
    assert_eq!(head(&["config", "show", "--config", "other.toml"]), ["# read from other.toml", &others]);
    // The comments leave it a configuration.
    fs::write(daemon.path("shown.toml"), run(&daemon, &["config", "show", "--config", "c.toml"]).1).unwrap();
    assert_eq!(run(&daemon, &["check", "shown.toml"]).0, 0);
}

#[test]
fn an_exemption_is_told_with_its_end_and_comment_in_local_time() {
    let daemon = Daemon::deciding("protect-logins = '1d'");
    let login = "Accepted publickey for eve from 198.18.7.77 port 22 ssh2";
    daemon.send([json!({"tag": "sshd[9]:", "uid": "0", "message": login})]);
    until("the login is known", || {
        daemon.get("/why?address=198.18.7.77").unwrap().contains("a login from there")
    });
    daemon.tell("allow 198.18.7.8 --for 8h --comment on-call");
    let in_vienna = |words: &[&str]| {
        let mut command = Command::new(BANSTREAM);
        command.args(words).env("BANSTREAM_SOCKET", daemon.path("control")).env("TZ", "Europe/Vienna");
        said(&command.output().unwrap())
    };
    let why = |address: &str| -> Value {
        serde_json::from_str(&daemon.get(&format!("/why?address={address}")).unwrap()).unwrap()
    };
    let local = |instant: &str| {
        let at: jiff::Timestamp = instant.parse().unwrap();
        at.in_tz("Europe/Vienna").unwrap().strftime("%F %T").to_string()
    };
    for (address, begins) in [
        ("198.18.7.77", "exempt: a login from there at "),
        ("198.18.7.8", "exempt: 198.18.7.8 is exempted by hand until "),
    ] {
        let json = why(address);
        let told = json["protected"][0].as_str().unwrap();
        let instants: Vec<&str> = told
            .split([' ', ','])
            .filter_map(|word| Some(word.trim_end_matches(':')).filter(|word| word.ends_with('Z')))
            .collect();
        assert!(!instants.is_empty(), "{told}");
        let want =
            instants.iter().fold(told.to_owned(), |text, instant| text.replace(instant, &local(instant)));
        let text = in_vienna(&["why", address]);
        assert!(text.contains(begins) && text.contains(&format!("exempt: {want}\n")), "{text}");
    }
    let text = in_vienna(&["ban", "198.18.7.8"]);
    assert!(
        text.starts_with("error: 198.18.7.8 is exempt: 198.18.7.8 is exempted by hand until 20")
            && text.ends_with(": on-call\n"),
        "{text}"
    );
}

#[test]
fn no_page_is_served_that_could_show_nothing() {
    let output = Command::new(BANSTREAM)
        .args(["web", "--listen", "127.0.0.1:0", "--socket", "/nonexistent/control"])
        .output()
        .unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.starts_with("error: no daemon ") && !text.contains("token"), "{text}");
}

#[test]
fn a_ban_by_hand_that_is_changed_counts_once() {
    let daemon = Daemon::observing("");
    for length in ["1h", "2h", "30m"] {
        daemon.tell(&format!("ban 203.0.113.1 --for {length}"));
    }
    daemon.tell("ban 203.0.113.2 --for 1h");
    daemon.tell("unban 203.0.113.2");
    daemon.tell("ban 203.0.113.2 --for 1h");
    daemon.send((0..5).map(|pid| failed(pid, "198.51.100.7")));
    let report = || -> Value {
        serde_json::from_str(&daemon.tell("report --config c.toml --since 1h --json")).unwrap()
    };
    until("all is in the ledger", || {
        (report()["totals"]["bans"] == 4).then_some(()).ok_or(report()["totals"].to_string())
    });
    let totals = &report()["totals"];
    assert_eq!(
        (&totals["by_hand"], &totals["lifted"], &totals["offenders"]),
        (&json!(3), &json!(1), &json!(3))
    );
}
