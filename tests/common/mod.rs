//! What both binaries of tests share: waiting, and a daemon in a folder of its own.

#![allow(dead_code, reason = "no binary uses all of it")]

pub(crate) mod documents;
pub(crate) mod mmdb;
pub(crate) mod service;
pub(crate) mod week;

use std::fmt::Display;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{LazyLock, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use banstream::config::load::{self, Loaded};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

pub(crate) const BANSTREAM: &str = env!("CARGO_BIN_EXE_banstream");

/// How long anything may take. Nothing comes near it unless it never comes.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// What a look at something gives: that it is so, what was found, or how it is instead.
pub(crate) trait Look {
    type Found;
    fn found(self) -> Result<Self::Found, String>;
}

impl Look for bool {
    type Found = ();
    fn found(self) -> Result<(), String> {
        self.then_some(()).ok_or_else(String::new)
    }
}

impl<T> Look for Option<T> {
    type Found = T;
    fn found(self) -> Result<T, String> {
        self.ok_or_else(String::new)
    }
}

impl<T, E: Display> Look for Result<T, E> {
    type Found = T;
    fn found(self) -> Result<T, String> {
        self.map_err(|instead| format!(", but: {instead}"))
    }
}

/// Looks again and again until it finds; fails with `what` was waited for where that takes too long.
#[track_caller]
pub(crate) fn until<L: Look>(what: &str, mut look: impl FnMut() -> L) -> L::Found {
    let end = Instant::now() + LIMIT;
    loop {
        match look().found() {
            Ok(found) => return found,
            Err(instead) => assert!(Instant::now() < end, "timed out: {what}{instead}"),
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// What is in force where nothing is configured but that reports reach back forever. Loaded once: it takes a second.
pub(crate) static SHIPPED: LazyLock<Loaded> = LazyLock::new(|| {
    let mut config = tempfile::NamedTempFile::new().unwrap();
    config.write_all(b"grammar-directory = '/nonexistent'\nledger.keep = '100y'\n").unwrap();
    load::load(Some(config.path())).unwrap()
});

/// What a command said on both its outputs.
pub(crate) fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes)).concat()
}

/// What a shell command prints; it must succeed.
#[track_caller]
pub(crate) fn sh(command: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).output().unwrap();
    assert!(output.status.success(), "`{command}` failed: {}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs the calling test's `body`, a closure written in it, in namespaces of its own, which are those options of
/// `unshare`.
#[track_caller]
pub(crate) fn in_namespaces<Body: FnOnce()>(unshare: &[&str], body: Body) {
    const INSIDE: &str = "BANSTREAM_TEST_NAMESPACE";
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    // The type of a closure is called `system::enforce::the_test::{{closure}}`.
    let test = std::any::type_name::<Body>();
    let test = test.split_once("::").and_then(|(_, test)| test.rsplit_once("::")).unwrap().0;
    let mut again = Command::new("unshare");
    again.args(unshare).arg("--").arg(std::env::current_exe().unwrap());
    again.args([test, "--exact", "--nocapture"]).env(INSIDE, "1");
    let output = again.output().expect("`unshare` (util-linux) is needed");
    let said = said(&output);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "`{test}` failed in its namespaces, which take root:\n{said}"
    );
    print!("{said}");
}

/// A process that is killed in the end.
pub(crate) struct Killed(pub(crate) Child);

impl Drop for Killed {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A daemon, asked and configured as an operator would, in a folder that goes with it.
pub(crate) struct Daemon {
    folder: TempDir,
    process: Mutex<Option<Child>>,
}

impl Daemon {
    /// One that does not run yet. In its configuration `DIR` is the folder.
    pub(crate) fn new(config: &str) -> Self {
        // A path of a socket has at most 107 bytes, so not below the target directory.
        let daemon = Self { folder: tempdir().unwrap(), process: Mutex::default() };
        daemon.configure(config);
        daemon
    }

    /// One whose jails only observe. It answers.
    pub(crate) fn observing(config: &str) -> Self {
        let daemon = Self::new(&format!("mode = 'observe'\n{config}"));
        daemon.run(&mut daemon.command());
        daemon
    }

    /// One that only decides, with nothing in its ledger. It answers.
    pub(crate) fn deciding(config: &str) -> Self {
        let daemon = Self::new(config);
        daemon.run(daemon.command().arg("--dry-run"));
        daemon
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes its configuration: all it needs is in the folder, and it reads no journal unless told to.
    pub(crate) fn configure(&self, config: &str) {
        let journald = if config.contains("journald") { "" } else { "journald.enabled = false\n" };
        let text = format!(
            "grammar-directory = 'DIR/grammars'\nstate-directory = 'DIR/state'\nsocket.path = 'DIR/ingest'\n\
             control.path = 'DIR/control'\nmetrics.listen = ''\n{journald}{config}\n"
        );
        let text = text.replace("DIR", &self.folder.path().display().to_string());
        fs::write(self.path("c.toml"), text).unwrap();
    }

    /// What runs it.
    pub(crate) fn command(&self) -> Command {
        self.command_of(&[BANSTREAM])
    }

    /// What runs it where these words start the program.
    pub(crate) fn command_of(&self, words: &[&str]) -> Command {
        let words = [words, &["run", "--config", "c.toml"]].concat();
        let log = File::options().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).current_dir(&self.folder).stdin(Stdio::null()).stderr(log);
        // Where a journal is, it would take the log.
        command.env_remove("JOURNAL_STREAM");
        command
    }

    /// Starts it and waits until it answers, which is before systemd is told that it is ready.
    #[track_caller]
    pub(crate) fn run(&self, command: &mut Command) {
        self.begin(command);
        until("the daemon answers", || self.get("/status"));
    }

    /// Starts it as it is, and waits until it answers.
    #[track_caller]
    pub(crate) fn start(&self) {
        self.run(&mut self.command());
    }

    /// Starts it.
    pub(crate) fn begin(&self, command: &mut Command) {
        let process = command.spawn().unwrap();
        assert!(self.process.lock().unwrap().replace(process).is_none(), "it runs already");
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.lock().unwrap().as_ref().unwrap().id()
    }

    /// What is written to its standard input, if the command gave it a pipe.
    pub(crate) fn write(&self, lines: &str) {
        let mut process = self.process.lock().unwrap();
        process.as_mut().unwrap().stdin.as_mut().unwrap().write_all(lines.as_bytes()).unwrap();
    }

    /// Lets it end as systemd would; it must end well.
    #[track_caller]
    pub(crate) fn stop(&self) {
        let mut process = self.process.lock().unwrap().take().unwrap();
        kill(Pid::from_raw(process.id() as i32), Signal::SIGTERM).unwrap();
        let status = until("the daemon ends", || process.try_wait().unwrap());
        assert!(status.success(), "{status}\n{}", self.log());
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub(crate) fn wait(&self) {
        let mut process = self.process.lock().unwrap().take().unwrap();
        until("the daemon ends", || process.try_wait().unwrap());
    }

    pub(crate) fn kill(&self) {
        drop(self.process.lock().unwrap().take().map(Killed));
    }

    /// The body of what the control socket answers, if it does.
    pub(crate) fn get(&self, path: &str) -> Option<String> {
        let mut socket = UnixStream::connect(self.path("control")).ok()?;
        socket.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).ok()?;
        let answer = std::io::read_to_string(socket).ok()?;
        Some(answer.split_once("\r\n\r\n")?.1.to_owned())
    }

    pub(crate) fn status(&self) -> Value {
        serde_json::from_str(&self.get("/status").unwrap()).unwrap()
    }

    /// The value of the metric with these labels; 0 where there is none.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let page = self.get("/metrics").unwrap();
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse().unwrap())
    }

    /// What a command of `banstream` to it gives.
    pub(crate) fn output(&self, words: &[&str]) -> Output {
        let socket = self.path("control");
        let mut command = Command::new(BANSTREAM);
        command.args(words).env("BANSTREAM_SOCKET", socket).current_dir(&self.folder).output().unwrap()
    }

    /// What a command that must go well says; its words are parted by blanks.
    #[track_caller]
    pub(crate) fn tell(&self, words: &str) -> String {
        let output = self.output(&words.split(' ').collect::<Vec<_>>());
        assert!(output.status.success(), "`{words}` failed: {}", said(&output));
        said(&output)
    }

    /// Sends lines through its socket.
    #[track_caller]
    pub(crate) fn send(&self, lines: impl IntoIterator<Item: Display>) {
        let mut socket = until("the socket is there", || UnixStream::connect(self.path("ingest")));
        lines.into_iter().for_each(|line| writeln!(socket, "{line}").unwrap());
    }

    /// The path of a program that does this in its folder.
    pub(crate) fn script(&self, name: &str, body: &str) -> String {
        let path = self.path(name);
        let script = format!("#!/bin/sh\ncd {}\n{body}\n", self.folder.path().display());
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.display().to_string()
    }

    /// What a file of its folder holds as soon as it is there.
    #[track_caller]
    pub(crate) fn file(&self, name: &str) -> String {
        until(name, || fs::read_to_string(self.path(name)))
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }
}

impl AsRef<Path> for Daemon {
    fn as_ref(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.process.clear_poison();
        self.kill();
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().filter(|line| !line.contains("banned 1")).collect();
            eprintln!("{}", lines[lines.len().saturating_sub(30)..].join("\n"));
        }
    }
}

/// As rsyslog renders that a login of root failed in this process of sshd.
pub(crate) fn failed(pid: u32, address: &str) -> Value {
    let message = format!("Failed password for root from {address} port 22 ssh2");
    json!({"tag": format!("sshd[{pid}]:"), "uid": "0", "message": message})
}
