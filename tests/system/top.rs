//! `banstream top` in a terminal: tmux is the terminal, keys go in, the screen is compared.
//!
//! The daemon only decides, and reads what the test writes. It needs Debian's package `tmux`, and no privilege.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::tempdir;

use crate::common::{BANSTREAM, Daemon, until};

/// A daemon that is started and reads standard input.
fn daemon() -> Daemon {
    let daemon = Daemon::new("socket.enabled = false\nbantime = 'forever'");
    begin(&daemon);
    daemon
}

fn begin(daemon: &Daemon) {
    daemon.begin(daemon.command().args(["--dry-run", "--stdin"]).stdin(Stdio::piped()));
}

/// Has these addresses banned, the last as the latest, by lines that will only be written in a minute: so they come
/// without delay.
fn ban(daemon: &Daemon, addresses: &[&str]) {
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(60);
    let mut lines = String::new();
    for address in addresses {
        for pid in 0..5 {
            writeln!(lines, "{soon} h sshd[{pid}]: Failed password for root from {address} port 22 ssh2")
                .unwrap();
        }
    }
    daemon.write(&lines);
}

/// A terminal in which `top` runs.
struct Screen<'f>(&'f Path);

impl<'f> Screen<'f> {
    /// Of 80 columns and 24 rows. What the shell says after `top` has ended stands in it, too.
    fn open(folder: &'f Path, environment: &str) -> Self {
        Self::of(folder, environment, "top")
    }

    /// The same, of another command.
    fn of(folder: &'f Path, environment: &str, words: &str) -> Self {
        let screen = Self(folder);
        let shown = folder.display();
        let script = format!(
            "trap : INT\n{environment} {BANSTREAM} {words} --socket {shown}/control\n\
             echo \"ended with $?,$(stty -a | grep -o ' icanon'),\"\nexec cat\n"
        );
        fs::write(folder.join("script"), script).unwrap();
        let script = format!("sh {shown}/script");
        screen.tmux(&["-f", "/dev/null", "new-session", "-d", "-s", "top", "-x", "80", "-y", "24", &script]);
        screen
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let output = Command::new("tmux")
            .arg("-u")
            .arg("-S")
            .arg(self.0.join("tmux"))
            .args(arguments)
            .env("LC_ALL", "C.UTF-8")
            .env("TERM", "xterm-256color")
            .env_remove("TMUX")
            .env_remove("NO_COLOR")
            .output()
            .expect("`tmux` is needed");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn keys(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys", "-t", "top"], keys].concat());
    }

    /// What is on it, without what changes by itself: the time that the daemon is up, rates and their bars.
    fn text(&self) -> String {
        let text = self.tmux(&["capture-pane", "-p", "-t", "top"]);
        let steady = text.lines().map(|line| {
            let line = line.replace(|c| ('\u{2581}'..='\u{2588}').contains(&c), " ");
            match line.split_once("  up ") {
                Some((head, rest)) => {
                    format!("{head}  up T  {}", rest.split_once("  ").map_or("", |(_, rest)| rest))
                }
                None => line,
            }
        });
        steady.fold(String::new(), |text, line| text + line.trim_end() + "\n")
    }

    /// Waits until it is as wanted.
    #[track_caller]
    fn until(&self, what: &str, wanted: impl Fn(&str) -> bool) {
        until(what, || {
            let text = self.text();
            if wanted(&text) { Ok(()) } else { Err(text) }
        });
    }

    /// Waits until it shows this.
    #[track_caller]
    fn shows(&self, text: &str) {
        self.until(&format!("it shows `{text}`"), |screen| screen.contains(text));
    }

    /// Waits until nothing of it is this any more.
    #[track_caller]
    fn hides(&self, text: &str) {
        self.until(&format!("it hides `{text}`"), |screen| !screen.contains(text));
    }

    /// Waits until `top` has ended and given the terminal back: the shell's own screen, with a cursor, and lines that
    /// the terminal edits.
    #[track_caller]
    fn has_ended(&self) {
        self.shows("ended with 0, icanon,");
        let given_back = self.tmux(&["display", "-p", "-t", "top", "#{alternate_on} #{cursor_flag}"]);
        assert_eq!(given_back, "0 1\n");
    }
}

impl Drop for Screen<'_> {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

/// The screen when all has come that the first test writes, and nothing more comes.
const LIVE: &str = "
 banstream VERSION  up T  decides only
╭ Entries 0/s ──────── 16 ╮╭ Offences 0/s ────── 15 ╮╭ Bans 0/s ──────────── 3 ╮
│                         ││                        ││                         │
│                         ││                        ││                         │
│                         ││                        ││                         │
╰─────────────────────────╯╰────────────────────────╯╰─────────────────────────╯
╭ Bans 0 in force, 3 observed ─────────────────────────────────────────────────╮
│ ADDRESS            JAIL             ENDS   REASON                            │
│ 2001:db8:0:3::/64  sshd (observed)  never  5 offences within 10m             │
│ 198.51.100.2       sshd (observed)  never  5 offences within 10m             │
│ 198.51.100.1       sshd (observed)  never  5 offences within 10m             │
│                                                                              │
│                                                                              │
│                                                                              │
╰──────────────────────────────────────────────────────────────────────────────╯
╭ Jails ──────────── 8 more ╮╭ Grammars ───────────╮╭ Health ──────────────────╮
│ JAIL         BANNED  BANS ││ GRAMMAR    OFFENCES ││ stdin       lag 0 ms     │
│ sshd              3     3 ││ sshd             15 ││ unknown     1            │
│ ftp               0     0 ││                     ││ forged      0            │
│ http-auth         0     0 ││                     ││ ledger      none         │
│ http-exploit      0     0 ││                     ││                          │
│ http-flood        0     0 ││                     ││                          │
╰───────────────────────────╯╰─────────────────────╯╰──────────────────────────╯
  ↑↓ choose  why  unban  / filter  pause  ? help  quit
";

#[test]
fn an_operator_watches_asks_why_unbans_and_leaves() {
    let daemon = daemon();
    let screen = Screen::open(daemon.as_ref(), "");
    ban(&daemon, &["198.51.100.1"]);
    screen.shows("198.51.100.1 ");
    ban(&daemon, &["198.51.100.2"]);
    screen.shows("198.51.100.2 ");
    daemon.write("2026-11-24T00:00:00+00:00 h sshd[1]: Login rejected for \u{1b}[2J from 198.51.100.3\n");
    ban(&daemon, &["2001:db8:0:3::1"]);
    let live = LIVE.trim_start_matches('\n').replace("VERSION", env!("CARGO_PKG_VERSION"));
    screen.until(&format!("it shows\n{live}"), |screen| screen == live);

    // The latest is chosen until another one is.
    screen.keys(&["j", "w"]);
    screen.shows("198.51.100.2 would be banned by sshd, since");
    screen.keys(&["Escape"]);
    screen.hides("banned by sshd");
    screen.keys(&["u"]);
    screen.shows(" unban 198.51.100.2? y/n");
    screen.keys(&["n"]);
    screen.shows(" 198.51.100.2 stays banned");
    screen.keys(&["u", "y"]);
    screen.shows(" unbanned 198.51.100.2");
    screen.shows("Bans 0 in force, 2 observed");
    screen.keys(&["/"]);
    screen.keys(&["2001"]);
    screen.hides("198.51.100.1");
    screen.keys(&["Enter"]);
    screen.shows("Bans 0 in force, 2 observed, /2001");
    screen.keys(&["Escape"]);
    screen.shows("198.51.100.1 ");
    screen.keys(&["?"]);
    screen.shows("back to the latest");
    screen.keys(&["?", "p"]);
    screen.shows("decides only  paused");
    ban(&daemon, &["198.51.100.4"]);
    screen.keys(&["p"]);
    screen.shows("198.51.100.4 ");

    // A larger terminal has room for what lines look like; what strangers wrote in them is harmless.
    screen.tmux(&["resize-window", "-t", "top", "-x", "160", "-y", "50"]);
    screen.shows("Login rejected for \u{fffd}[<user> from <ip>");

    daemon.kill();
    screen.shows("no daemon answers at");
    begin(&daemon);
    screen.hides("no daemon answers");
    screen.shows("nobody is banned");
    ban(&daemon, &["198.51.100.5"]);
    screen.shows("198.51.100.5 ");
    screen.keys(&["q"]);
    screen.has_ended();
}

#[test]
fn a_terminal_is_given_back_after_a_signal() {
    for signal in ["TERM", "HUP", "INT"] {
        let folder = tempdir().unwrap();
        let screen = Screen::open(folder.path(), "");
        screen.shows("no daemon answers at");
        let shell = screen.tmux(&["display", "-p", "-t", "top", "#{pane_pid}"]);
        let shell = shell.trim();
        let top = fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).unwrap();
        assert!(Command::new("kill").args([&format!("-{signal}"), top.trim()]).status().unwrap().success());
        screen.has_ended();
    }
}

#[test]
fn a_long_list_comes_in_a_pager() {
    let daemon = daemon();
    until("it answers", || daemon.get("/status"));
    let addresses: Vec<String> = (1..=40).map(|n| format!("198.51.100.{n}")).collect();
    ban(&daemon, &addresses.iter().map(String::as_str).collect::<Vec<_>>());
    until("all are banned", || daemon.tell("bans --limit 1").ends_with("1 of 40 bans\n"));
    let screen = Screen::of(daemon.as_ref(), "env -u PAGER -u LESS", "bans");
    screen.shows("ADDRESS ");
    screen.hides("40 bans");
    // Ctrl-C is the pager's.
    screen.keys(&["C-c"]);
    // It drops keys that come while it handles that.
    until("it shows the end", || {
        screen.keys(&["G"]);
        screen.text().contains("40 bans")
    });
    screen.keys(&["q"]);
    screen.has_ended();
    drop(screen);
    // What fits on the screen needs no key, nor does a pager that is not there.
    for (environment, words) in
        [("env -u PAGER -u LESS", "bans --limit 3"), ("PAGER=cat", "bans"), ("PAGER=/nowhere", "bans")]
    {
        let folder = tempdir().unwrap();
        symlink(daemon.path("control"), folder.path().join("control")).unwrap();
        let screen = Screen::of(folder.path(), environment, words);
        screen.shows(" bans\n");
        screen.has_ended();
    }
}

#[test]
fn a_list_is_watched() {
    let daemon = daemon();
    until("it answers", || daemon.get("/status"));
    let screen = Screen::of(daemon.as_ref(), "", "bans --watch --sort since");
    screen.shows("nobody is banned");
    ban(&daemon, &["198.51.100.1"]);
    screen.shows("1 ban\n");
    let more: Vec<String> = (2..=40).map(|n| format!("198.51.100.{n}")).collect();
    ban(&daemon, &more.iter().map(String::as_str).collect::<Vec<_>>());
    screen.shows("20 of 40 bans\n");
    screen.shows("ADDRESS ");
    screen.keys(&["C-c"]);
    screen.shows("ended with 130,");
}

#[test]
fn no_color_is_honoured() {
    let drawn = |environment: &str| {
        let daemon = daemon();
        let screen = Screen::open(daemon.as_ref(), environment);
        screen.shows("nobody is banned");
        screen.tmux(&["capture-pane", "-p", "-e", "-t", "top"])
    };
    let coloured = |drawn: &str| drawn.contains("38;5;");
    assert!(coloured(&drawn("")));
    assert!(coloured(&drawn("NO_COLOR=")));
    let plain = drawn("NO_COLOR=1");
    assert!(!coloured(&plain));
    // What colours would have set apart is bold.
    assert!(plain.contains("\u{1b}[1mdecides only"), "{plain}");
}

#[test]
fn without_a_terminal_it_says_what_needs_none() {
    let output = Command::new(BANSTREAM).arg("top").stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said, "error: this command needs a terminal; `banstream status` does not\n");
}
