//! What the whole program takes for a log, beside ripgrep and `wc -l`: `cargo bench --bench replay`.
//!
//! A million lines of each kind are written to a file first, always the same. `banstream replay`, `rg -c` with the texts that
//! the rules ask for, and `wc -l` then read each in turn, on one thread, several times; the medians count. Each also reads the
//! first thousand lines alone: that is its start, which the second figure leaves out. `contrib/packages ripgrep` installs
//! ripgrep.

#![allow(missing_docs)]

mod workload;

use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use workload::{Dice, access, auth, ftp, quiet};

const LINES: usize = 1_000_000;
const FIRST: usize = 1_000;
const RUNS: usize = 9;

/// Texts of the rules for sshd.
const AUTH: &[&str] = &[
    "Failed (password|none|publickey|keyboard-interactive/pam) for ",
    "(Invalid|Illegal) user ",
    "Connection (closed|reset) by ",
    "Disconnected from ",
    "Received disconnect from ",
    "authentication failure; logname=",
    "error: PAM: ",
    "maximum authentication attempts exceeded for ",
    "Too many authentication failures",
    "not allowed because ",
    "ROOT LOGIN REFUSED FROM ",
    "refused connect from ",
    "Did not receive identification string from ",
    "Unable to negotiate with ",
    "Bad protocol version identification ",
    "banner exchange: Connection from ",
    "Timeout before authentication for ",
    "Accepted [a-z]+ for ",
];

/// Those for vsftpd, ProFTPD and Pure-FTPd.
const FTP: &[&str] = &[
    "(FAIL|OK) LOGIN: Client ",
    r"\(Login failed\): ",
    "no such user found from ",
    "Maximum login attempts ",
    "Login successful",
    "authentication failure; logname=",
    "Authentication failed for user ",
    "is now logged in",
];

/// The statuses that nginx's rules ask for.
const ACCESS: &[&str] = &[r#"" (400|401|403|404|405|407|410|414|429|431|444) "#];

/// The words that they ask for.
const LISTS: &[&str] = &[
    include_str!("../grammars/probes.list"),
    include_str!("../grammars/applications.list"),
    include_str!("../grammars/secrets.list"),
    include_str!("../grammars/bots.list"),
];

fn main() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let words = LISTS.iter().flat_map(|list| list.lines()).filter(|word| !word.starts_with('#'));
    let web: Vec<String> = ACCESS.iter().map(|text| (*text).to_owned()).chain(words.map(escaped)).collect();
    let web: Vec<&str> = web.iter().map(String::as_str).collect();
    println!("seconds for a million lines (without the start), and how many times as long as ripgrep");
    measure(dir.path(), "auth, 30 % attacks", "sshd", auth, AUTH);
    measure(dir.path(), "auth, no attacks", "sshd", quiet, AUTH);
    measure(dir.path(), "access, 5 % attacks", "nginx", access, &web);
    measure(dir.path(), "ftp, 50 % attacks", "vsftpd", ftp, FTP);
}

/// A word as the regular expression that it alone matches.
fn escaped(word: &str) -> String {
    word.chars().fold(String::new(), |text, letter| {
        let backslash = if r"\.+*?()|[]{}^$".contains(letter) { "\\" } else { "" };
        text + backslash + letter.encode_utf8(&mut [0; 4])
    })
}

fn measure(dir: &Path, kind: &str, program: &str, line: fn(&mut Dice, usize) -> String, texts: &[&str]) {
    let (mut dice, mut text) = (Dice(2_026), String::new());
    let mut first = 0;
    for number in 0..LINES {
        writeln!(text, "{}", line(&mut dice, number * 86_400 / LINES)).expect("it fits");
        first = if number < FIRST { text.len() } else { first };
    }
    let (log, start, patterns) = (dir.join("log"), dir.join("start"), dir.join("patterns"));
    std::fs::write(&log, &text).expect("room on the disk");
    std::fs::write(&start, &text[..first]).expect("room on the disk");
    std::fs::write(&patterns, texts.join("\n")).expect("room on the disk");
    let banstream = |log: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_banstream"));
        command.args(["replay", "--program", program]).arg(log);
        command
    };
    let ripgrep = |log: &Path| {
        let mut command = Command::new("rg");
        command.args(["--no-config", "-j1", "-c", "-f"]).arg(&patterns).arg(log);
        command
    };
    let wc = |log: &Path| {
        let mut command = Command::new("wc");
        command.arg("-l").arg(log);
        command
    };
    let tools: [&dyn Fn(&Path) -> Command; 3] = [&banstream, &ripgrep, &wc];
    let mut times = [(); 3].map(|()| (Vec::new(), Vec::new()));
    for _ in 0..RUNS {
        for (tool, (whole, begun)) in tools.iter().zip(&mut times) {
            whole.push(seconds(&mut tool(&log)));
            begun.push(seconds(&mut tool(&start)));
        }
    }
    let [ours, ripgreps, wcs] = times.map(|(whole, begun)| {
        let whole = median(whole);
        (whole, whole - median(begun))
    });
    let told = |(whole, net): (f64, f64)| format!("{whole:.3} ({net:.3})");
    println!(
        "{kind}: banstream {}, ripgrep {}, wc -l {}: {:.2} x ripgrep ({:.2})",
        told(ours),
        told(ripgreps),
        told(wcs),
        ours.0 / ripgreps.0,
        ours.1 / ripgreps.1,
    );
}

fn seconds(command: &mut Command) -> f64 {
    command.env("RAYON_NUM_THREADS", "1").stdin(Stdio::null()).stdout(Stdio::null());
    let begun = Instant::now();
    let status = command.status().expect("`contrib/packages ripgrep` installs what it needs");
    assert!(status.code().is_some_and(|code| code <= 1), "{command:?}: {status}");
    begun.elapsed().as_secs_f64()
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
