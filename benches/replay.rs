//! What the whole program takes for a log, beside ripgrep and `wc -l`: `cargo bench --bench replay`.
//!
//! A million lines of each kind are written to a file first, always the same. `banstream replay`, `rg -c` and `wc -l` then read
//! each in turn, on one thread, several times. Their processor time counts, which other programs change least, and of that the
//! median. Each also reads the first thousand lines alone: that is its start, and left out in the figures in brackets.
//!
//! ripgrep is asked twice: for the rules as regular expressions, which is the same work except for what the offenders then have
//! earned, and for texts alone that the rules hold, which says nothing of who did it. `contrib/packages ripgrep` installs it.

#![allow(missing_docs)]

mod workload;

use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use workload::{Dice, access, auth, ftp, quiet};

const LINES: usize = 1_000_000;
const FIRST: usize = 1_000;
const RUNS: usize = 9;

/// A kind of log, and what ripgrep looks for in it. In rules, `IP` stands for an address.
struct Kind {
    name: &'static str,
    program: &'static str,
    line: fn(&mut Dice, usize) -> String,
    rules: &'static [&'static str],
    texts: &'static [&'static str],
}

/// What sshd's rules read.
const SSHD: &[&str] = &[
    r"Failed (password|none|publickey|keyboard-interactive/pam) for (invalid user )?.* from IP port [0-9]+ ssh2",
    r"(Invalid|Illegal) user .* from IP( port [0-9]+)?$",
    r"(Connection (closed|reset) by|Disconnected from) (authenticating|invalid) user .* IP port [0-9]+ \[preauth\]$",
    r"authentication failure; logname=.* ruser=.* rhost=IP",
    r"error: PAM: .* for .* from IP",
    r"maximum authentication attempts exceeded for .* from IP port [0-9]+ ssh2",
    r"Received disconnect from IP( port [0-9]+)?:",
    r"Connection (closed|reset) by IP port [0-9]+( \[preauth\])?$",
    r"Disconnected from IP( port [0-9]+)? \[preauth\]$",
    r"Did not receive identification string from IP",
    r"User .* from IP not allowed because ",
    r"Unable to negotiate with IP",
    r"banner exchange: Connection from .*IP port [0-9]+:",
    r"Bad protocol version identification .* from IP",
    r"Timeout before authentication for IP",
    r"Accepted [^ ]+ for .* from IP port [0-9]+ ssh2",
];

const SSHD_TEXTS: &[&str] = &[
    "Failed (password|none|publickey|keyboard-interactive/pam) for ",
    "(Invalid|Illegal) user ",
    "(Connection (closed|reset) by|Disconnected from) ",
    "authentication failure; logname=",
    "error: PAM: ",
    "maximum authentication attempts exceeded for ",
    "Received disconnect from ",
    "Did not receive identification string from ",
    " not allowed because ",
    "Unable to negotiate with ",
    "banner exchange: Connection from ",
    "Bad protocol version identification ",
    "Timeout before authentication for ",
    "Accepted ",
];

/// What those of vsftpd, ProFTPD and Pure-FTPd read.
const FTP: &[&str] = &[
    r#"\] (FAIL|OK) LOGIN: Client "IP""#,
    r"[^ ]+ \([^ ]+\[IP\]\)( -|:) USER .*(\(Login failed\): |: no such user found from |: Login successful)",
    r"[^ ]+ \([^ ]+\[IP\]\)( -|:) Maximum login attempts \([0-9]+\) exceeded",
    r"pam_unix\((vsftpd|ftp|ftpd|proftpd):auth\): authentication failure; logname=.* rhost=IP",
    r"\(\?@IP\) \[WARNING\] Authentication failed for user \[.*\]",
    r"\(\?@IP\) \[INFO\] [^ ]+ is now logged in",
];

const FTP_TEXTS: &[&str] = &[
    "(FAIL|OK) LOGIN: Client ",
    r"\(Login failed\): ",
    "no such user found from ",
    "Login successful",
    "Maximum login attempts ",
    "authentication failure; logname=",
    "Authentication failed for user ",
    " is now logged in",
];

/// What nginx's rules read; `WORDS` are those of their lists.
const NGINX: &[&str] = &[
    r#"^IP - [^ ]+ \[[^]]+\] "[^"]*" (400|401|403|404|405|407|410|414|429|431|444) "#,
    r#"^IP - [^ ]+ \[[^]]+\] "(GET|HEAD|POST) [^" ]*/(WORDS)([/? ]|$)"#,
    r#"^IP - [^ ]+ \[[^]]+\] "POST [^" ]*(/wp-login.php|/typo3)[^"]*" 200 "#,
];

const NGINX_TEXTS: &[&str] =
    &[r#"" (400|401|403|404|405|407|410|414|429|431|444) "#, "/(WORDS)", r#""POST [^" ]*/wp-login.php"#];

const LISTS: [&str; 3] = [
    include_str!("../grammars/probes.list"),
    include_str!("../grammars/applications.list"),
    include_str!("../grammars/secrets.list"),
];

const KINDS: [Kind; 4] = [
    Kind { name: "auth, 30 % attacks", program: "sshd", line: auth, rules: SSHD, texts: SSHD_TEXTS },
    Kind { name: "auth, no attacks", program: "sshd", line: quiet, rules: SSHD, texts: SSHD_TEXTS },
    Kind { name: "access, 5 % attacks", program: "nginx", line: access, rules: NGINX, texts: NGINX_TEXTS },
    Kind { name: "ftp, 50 % attacks", program: "vsftpd", line: ftp, rules: FTP, texts: FTP_TEXTS },
];

fn main() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    KINDS.iter().for_each(|kind| kind.measure(dir.path()));
}

/// A pattern as ripgrep reads it.
fn pattern(text: &str) -> String {
    let words = LISTS.iter().flat_map(|list| list.lines()).filter(|word| !word.starts_with('#'));
    let words: Vec<String> = words.map(|word| escaped(word.trim_start_matches('/'))).collect();
    text.replace("IP", "[0-9a-fA-F:.]+").replace("WORDS", &words.join("|"))
}

/// The regular expression that matches a word.
fn escaped(word: &str) -> String {
    word.chars().fold(String::new(), |text, letter| {
        let backslash = if r"\.+*?()|[]{}^$".contains(letter) { "\\" } else { "" };
        text + backslash + letter.encode_utf8(&mut [0; 4])
    })
}

impl Kind {
    fn measure(&self, dir: &Path) {
        let (log, start) = (dir.join("log"), dir.join("start"));
        self.write(&log, &start);
        let patterns = |name: &str, texts: &[&str]| {
            let (file, texts) = (dir.join(name), texts.iter().map(|text| pattern(text)));
            std::fs::write(&file, texts.collect::<Vec<_>>().join("\n")).expect("room on the disk");
            file
        };
        let (rules, texts) = (patterns("rules", self.rules), patterns("texts", self.texts));
        let ripgrep = |patterns: &Path| {
            let mut command = Command::new("rg");
            command.args(["--no-config", "-j1", "-c", "-f"]).arg(patterns);
            command
        };
        let mut banstream = Command::new(env!("CARGO_BIN_EXE_banstream"));
        banstream.args(["replay", "--program", self.program, "--"]).env("RAYON_NUM_THREADS", "1");
        let mut wc = Command::new("wc");
        wc.arg("-l");
        let tools = [banstream, ripgrep(&rules), ripgrep(&texts), wc];
        let mut times = [(); 4].map(|()| (Vec::new(), Vec::new()));
        for _ in 0..RUNS {
            for (tool, (whole, begun)) in tools.iter().zip(&mut times) {
                whole.push(seconds(tool, &log));
                begun.push(seconds(tool, &start));
            }
        }
        let [ours, rules, texts, floor] = times.map(|(whole, begun)| {
            let whole = median(whole);
            (whole, whole - median(begun))
        });
        let told = |name: &str, (whole, net): (f64, f64)| {
            let (whole_ratio, ratio) = (ours.0 / whole, ours.1 / net);
            println!(
                "  {name}: {whole:.3} s ({net:.3}); banstream takes {whole_ratio:.2} ({ratio:.2}) times that"
            );
        };
        println!("{}: banstream {:.3} s ({:.3}) for a million lines", self.name, ours.0, ours.1);
        told("ripgrep, the rules", rules);
        told("ripgrep, texts", texts);
        told("wc -l", floor);
    }

    /// Writes the lines, and the first of them.
    fn write(&self, log: &Path, start: &Path) {
        let (mut dice, mut text, mut first) = (Dice(2_026), String::new(), 0);
        for number in 0..LINES {
            writeln!(text, "{}", (self.line)(&mut dice, number * 86_400 / LINES)).expect("it fits");
            first = if number < FIRST { text.len() } else { first };
        }
        std::fs::write(log, &text).expect("room on the disk");
        std::fs::write(start, &text[..first]).expect("room on the disk");
    }
}

/// The processor time that a command takes for a file.
fn seconds(tool: &Command, file: &Path) -> f64 {
    let mut command = Command::new(tool.get_program());
    let variables = tool.get_envs().filter_map(|(name, value)| Some((name, value?)));
    command.args(tool.get_args()).arg(file).envs(variables).stdin(Stdio::null()).stdout(Stdio::null());
    let before = children();
    let status = command.status().expect("`contrib/packages ripgrep` installs what it needs");
    assert!(status.success(), "{command:?}: {status}");
    children() - before
}

fn children() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("what every process may ask");
    (usage.user_time() + usage.system_time()).num_microseconds() as f64 / 1e6
}

fn median(mut times: Vec<f64>) -> f64 {
    let middle = times.len() / 2;
    *times.select_nth_unstable_by(middle, f64::total_cmp).1
}
