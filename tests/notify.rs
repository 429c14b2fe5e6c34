//! Who is told of bans, by a real daemon: over HTTP on loopback, by programs, by mail.
//!
//! Each test runs the built program with files of its own and no other privilege; nothing leaves the machine, and nobody
//! is banned for real.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test may panic

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

const BANSTREAM: &str = env!("CARGO_BIN_EXE_banstream");
const PATIENCE: Duration = Duration::from_secs(60);

/// A daemon that only observes, in a directory that goes with it.
struct Daemon {
    directory: TempDir,
    process: Option<Child>,
}

impl Daemon {
    /// One whose jail `sshd` bans at the first offence.
    fn start(notify: &str) -> Self {
        let mut daemon = Self { directory: tempdir().unwrap(), process: None };
        daemon.configure(notify);
        daemon.run(&[BANSTREAM]);
        daemon
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn configure(&self, notify: &str) {
        let shown = self.directory.path().display();
        let config = format!(
            "grammar-directory = \"/nonexistent\"\nstate-directory = \"{shown}\"\njournald.enabled = false\n\
             socket.path = \"{shown}/ingest\"\ncontrol.path = \"{shown}/control\"\nmetrics.listen = \"\"\n\
             mode = \"observe\"\nmaxretry = 1\n{notify}\n"
        );
        fs::write(self.path("c.toml"), config).unwrap();
    }

    /// Runs it in this way.
    fn run(&mut self, words: &[&str]) {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).args(["run", "--config", "c.toml"]).current_dir(self.directory.path());
        self.process = Some(command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        until("the daemon answers", || UnixStream::connect(self.path("control")).ok());
    }

    /// Lets it end as systemd would.
    fn stop(&mut self) {
        let process = self.process.as_mut().unwrap();
        kill(Pid::from_raw(process.id() as i32), Signal::SIGTERM).unwrap();
        assert!(until("the daemon ends", || process.try_wait().unwrap()).success());
        self.process = None;
    }

    /// A failed login for each of these addresses, by a user of this name.
    fn attack(&self, user: &str, addresses: impl Iterator<Item = String>) {
        let mut socket = until("the socket is there", || UnixStream::connect(self.path("ingest")).ok());
        for address in addresses {
            let message = format!("Failed password for invalid user {user} from {address} port 22 ssh2");
            writeln!(socket, "{}", json!({"tag": "sshd[4]:", "uid": "0", "message": message})).unwrap();
        }
    }

    fn get(&self, path: &str) -> String {
        let mut socket = UnixStream::connect(self.path("control")).unwrap();
        socket.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).unwrap();
        let answer = std::io::read_to_string(socket).unwrap();
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    }

    fn status(&self) -> Value {
        serde_json::from_str(&self.get("/status")).unwrap()
    }

    /// Waits until so many bans have been decided.
    fn bans(&self, wanted: u64) {
        until(&format!("{wanted} bans"), || (self.status()["bans"] == wanted).then_some(()));
    }

    /// The value of a metric about the first receiver, with this result.
    fn told(&self, result: &str) -> u64 {
        let metrics = self.get("/metrics");
        let labels = format!("banstream_notifications_total{{receiver=\"ops\",result=\"{result}\"}} ");
        metrics.lines().find_map(|line| line.strip_prefix(&labels)).unwrap().parse().unwrap()
    }

    /// Runs a command of `banstream`: whether it went well, and what it said.
    fn ask(&self, words: &[&str]) -> (bool, String) {
        let output = Command::new(BANSTREAM)
            .args(words)
            .env("BANSTREAM_SOCKET", self.path("control"))
            .output()
            .unwrap();
        (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    }

    /// The path of a program that does this in the daemon's directory.
    fn script(&self, name: &str, body: &str) -> String {
        let path = self.path(name);
        let script = format!("#!/bin/sh\ncd {}\n{body}\n", self.directory.path().display());
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.display().to_string()
    }

    /// What a file holds as soon as it is there.
    fn file(&self, name: &str) -> String {
        until(name, || fs::read_to_string(self.path(name)).ok())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// What `there` gives as soon as it gives something.
#[track_caller]
fn until<T>(what: &str, mut there: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = there() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether the process of this status is no more. Where nobody reaps orphans, a zombie is as dead as they get.
fn gone(status: &Path) -> Option<()> {
    let status = fs::read_to_string(status).unwrap_or_default();
    (status.is_empty() || status.contains("State:\tZ")).then_some(())
}

/// How a listener answers.
#[derive(Clone, Copy, PartialEq)]
enum Answer {
    Never,
    With(&'static str),
}

/// A listener on loopback, and what has been posted to it, answered or not.
struct Hook {
    url: String,
    answer: Arc<Mutex<Answer>>,
    posted: Arc<Mutex<Vec<Post>>>,
}

#[derive(Clone)]
struct Post {
    answer: Answer,
    head: String,
    body: Value,
}

impl Hook {
    fn new(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let hook = Self { url, answer: Arc::new(Mutex::new(answer)), posted: Arc::default() };
        let (answer, posted) = (Arc::clone(&hook.answer), Arc::clone(&hook.posted));
        std::thread::spawn(move || {
            let mut hanging: Vec<TcpStream> = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let answer = *answer.lock().unwrap();
                let Some((head, body)) = request(&stream) else { continue };
                posted.lock().unwrap().push(Post { answer, head, body });
                match answer {
                    Answer::Never => hanging.push(stream),
                    // A receiver that has given up meanwhile will come again.
                    Answer::With(status) => drop(write!(
                        stream,
                        "HTTP/1.1 {status}\r\nlocation: /elsewhere\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                    )),
                }
            }
        });
        hook
    }

    fn answer(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    /// What was posted and answered so.
    fn posted(&self, answer: Answer) -> Vec<Post> {
        self.posted.lock().unwrap().iter().filter(|post| post.answer == answer).cloned().collect()
    }
}

const OK: Answer = Answer::With("204 No Content");
const BROKEN: Answer = Answer::With("500 Internal Server Error");

/// The head and the body of one request.
fn request(stream: &TcpStream) -> Option<(String, Value)> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?.parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((head, serde_json::from_slice(&body).ok()?))
}

#[test]
fn a_receiver_that_hangs_and_fails_slows_no_ban_and_is_told_in_the_end() {
    let hook = Hook::new(Answer::Never);
    let daemon = Daemon::start(&format!(
        "[notify.ops]\nwebhook = '{}'\ndelay = 0\nevery = '1ms'\ntimeout = '100ms'",
        hook.url
    ));
    // While nothing is told, bans go on; as many digests as there are bans do not fit.
    for nth in 1..=40 {
        daemon.attack("x", std::iter::once(format!("203.0.113.{nth}")));
        daemon.bans(nth);
    }
    until("something is dropped", || (daemon.told("dropped") > 0).then_some(()));
    until("the receiver is known to fail", || {
        daemon.status()["receivers"][0]["error"]
            .as_str()
            .map(|error| assert_eq!(error, "it took longer than 1s"))
    });
    let waiting = daemon.status()["receivers"][0]["waiting"].as_u64().unwrap();
    assert!((1..=13).contains(&waiting), "{waiting}");
    assert_eq!(daemon.told("delivered"), 0);
    let (_, shown) = daemon.ask(&["status"]);
    assert!(shown.contains("it took longer than 1s"), "{shown}");

    hook.answer(BROKEN);
    until("it is tried again", || hook.posted(BROKEN).pop());
    daemon.attack("x", std::iter::once("203.0.113.41".to_owned()));
    daemon.bans(41);
    hook.answer(OK);
    until("all is told that waits", || {
        let status = &daemon.status()["receivers"][0];
        (status["waiting"] == 0 && status["error"] == Value::Null).then_some(())
    });
    assert!(daemon.told("delivered") > 0 && daemon.told("failed") > 1);
    let last = hook.posted(OK).pop().unwrap().body;
    assert_eq!(last["observed"]["listed"].as_array().unwrap().last().unwrap()["address"], "203.0.113.41");
}

#[test]
fn a_flood_of_bans_is_no_flood_of_messages() {
    let hook = Hook::new(OK);
    let mut daemon = Daemon::start(&format!(
        "[notify.ops]\nwebhook = '{}'\ndelay = '1s'\nevery = '1h'\nat-most = 5",
        hook.url
    ));
    daemon.attack("x", (0..1000).map(|n| format!("198.51.{}.{}", n / 250, n % 250 + 1)));
    daemon.bans(1000);
    // The end tells what has not been told yet.
    daemon.stop();
    let posts = hook.posted(OK);
    let bans: Vec<&Value> = posts.iter().map(|post| &post.body["observed"]).collect();
    assert!((1..=2).contains(&bans.len()), "{}", bans.len());
    assert_eq!(bans.iter().map(|bans| bans["total"].as_u64().unwrap()).sum::<u64>(), 1000);
    assert!(bans.iter().all(|bans| bans["listed"].as_array().unwrap().len() <= 5));
}

#[test]
fn a_webhook_gets_the_token_and_is_not_followed_elsewhere() {
    let hook = Hook::new(Answer::With("307 Temporary Redirect"));
    let daemon = Daemon::start("");
    let token = daemon.path("token");
    fs::write(&token, "secret\n").unwrap();
    daemon.configure(&format!(
        "[notify.ops]\nwebhook = '{}'\nheaders = ['X-Key: 1']\ntoken-file = '{}'",
        hook.url,
        token.display()
    ));
    // A receiver may come with a reload.
    assert_eq!(daemon.ask(&["notify", "ops"]).1, "error: the configuration has no receiver of that name\n");
    assert_eq!(daemon.ask(&["reload"]), (true, "reloaded\n".to_owned()));
    let refused = "error: it answered 307 Temporary Redirect\n".to_owned();
    assert_eq!(daemon.ask(&["notify", "ops"]), (false, refused));
    hook.answer(OK);
    assert_eq!(daemon.ask(&["notify", "ops"]), (true, "ops has taken the message\n".to_owned()));
    let post = hook.posted(OK).pop().unwrap();
    for line in
        ["POST /hook HTTP/1.1", "x-key: 1", "authorization: Bearer secret", "content-type: application/json"]
    {
        assert!(post.head.lines().any(|head| head == line), "{line}: {}", post.head);
    }
    assert!(post.body["subject"].as_str().unwrap().ends_with(": a test"), "{}", post.body);
}

#[test]
fn programs_and_mail_get_what_is_documented_and_nobody_adds_a_line() {
    let mut daemon = Daemon::start("");
    let take = "cat >stdin.new; env >env; echo \"$*\" >arguments; mv stdin.new stdin";
    let program = daemon.script("program", take);
    let sendmail = daemon.script("sendmail", "echo \"$*\" >mailed; cat >mail.new; mv mail.new mail");
    daemon.configure(&format!(
        "[notify]\ndelay = '1h'\nsendmail = '{sendmail}'\n[notify.ops]\ncommand = ['{program}', 'a b', '$HOME']\n\
         jails = ['manual']\n[notify.mail]\nmail = 'root@localhost'\nfrom = 'banstream@example.org'"
    ));
    assert_eq!(daemon.ask(&["reload"]), (true, "reloaded\n".to_owned()));
    let forged = "x\nBcc: eve@example.org\n\n.\n\u{1b}[2J";
    daemon.attack(forged, std::iter::once("203.0.113.1".to_owned()));
    daemon.bans(1);
    assert!(daemon.ask(&["ban", "203.0.113.2", "--for", "1h", "--reason", forged]).0);
    // The end tells at once what would have waited.
    daemon.stop();

    let json: Value = serde_json::from_str(&daemon.file("stdin")).unwrap();
    assert_eq!((&json["receiver"], &json["bans"]["total"]), (&json!("ops"), &json!(0)));
    assert_eq!((&json["observed"]["total"], &json["observed"]["jails"]), (&json!(1), &json!({"manual": 1})));
    let ban = &json["observed"]["listed"][0];
    assert_eq!(
        (&ban["address"], &ban["kind"], &ban["reason"]),
        (&json!("203.0.113.2"), &json!("manual"), &json!(forged))
    );
    assert_eq!(daemon.file("arguments"), "a b $HOME\n");
    let environment = daemon.file("env");
    let mut names: Vec<&str> = environment.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    names.retain(|name| !["PWD", "OLDPWD", "SHLVL", "_"].contains(name));
    names.sort_unstable();
    let want = ["ADDRESSES", "BANS", "HOST", "OBSERVED", "RECEIVER", "SUBJECT", "UNBANS"]
        .map(|name| format!("BANSTREAM_{name}"));
    assert_eq!(names, [&want[..], &["PATH".to_owned()]].concat());
    assert!(environment.contains("BANSTREAM_OBSERVED=1\n"), "{environment}");

    assert_eq!(daemon.file("mailed"), "-t -i\n");
    let mail = daemon.file("mail");
    let (head, text) = mail.split_once("\n\n").unwrap();
    let head: Vec<&str> = head.lines().collect();
    assert_eq!(head[..2], ["To: root@localhost", "From: banstream@example.org"]);
    assert!(
        head[2].starts_with("Subject: banstream on ")
            && head[2].ends_with(": 2 observed bans (manual 1, sshd 1)"),
        "{mail}"
    );
    assert_eq!(head.len(), 7, "{mail}");
    let plain = forged.replace(char::is_control, "\u{fffd}");
    let want = [
        "would ban 203.0.113.1 for 1h (sshd, time 1): 1 offences within 10m",
        &format!("would ban 203.0.113.2 for 1h (manual, time 1): {plain}"),
    ];
    assert_eq!(text.lines().collect::<Vec<_>>(), want);
}

#[test]
fn a_program_has_an_end() {
    let daemon = Daemon::start("");
    let slow = daemon.script("slow", "sleep 1000 & echo $! >pid.new; mv pid.new pid; wait");
    let fails = daemon.script("fails", "exit 3");
    daemon.configure(&format!(
        "[notify.ops]\ncommand = ['{slow}']\ntimeout = '500ms'\n[notify.fails]\ncommand = ['{fails}']"
    ));
    assert_eq!(daemon.ask(&["reload"]), (true, "reloaded\n".to_owned()));
    assert_eq!(daemon.ask(&["notify", "ops"]), (false, "error: it took longer than 1s\n".to_owned()));
    let child = PathBuf::from(format!("/proc/{}/status", daemon.file("pid").trim()));
    until("what it started is killed too", || gone(&child));
    let refused = format!("error: `{fails}` ended with exit status: 3\n");
    assert_eq!(daemon.ask(&["notify", "fails"]), (false, refused));
}

#[test]
fn a_receiver_that_hangs_does_not_keep_the_daemon_from_ending() {
    let mut daemon = Daemon::start("");
    let slow = daemon.script("slow", "echo $$ >pid.new; mv pid.new pid; exec sleep 1000");
    daemon.configure(&format!("[notify.ops]\ncommand = ['{slow}']\ntimeout = '1h'\ndelay = 0"));
    assert_eq!(daemon.ask(&["reload"]), (true, "reloaded\n".to_owned()));
    daemon.attack("x", std::iter::once("203.0.113.1".to_owned()));
    let child = PathBuf::from(format!("/proc/{}/status", daemon.file("pid").trim()));
    daemon.stop();
    until("the program is killed", || gone(&child));
}

#[test]
#[ignore = "needs root: contrib/test"]
fn a_program_has_none_of_the_daemons_capabilities() {
    let mut daemon = Daemon::start("");
    daemon.stop();
    let program = daemon.script("program", "grep ^CapEff /proc/self/status >new; mv new capabilities");
    daemon.configure(&format!("[notify.ops]\ncommand = ['{program}']"));
    // Nobody may read where it was built.
    fs::copy(BANSTREAM, daemon.path("banstream")).unwrap();
    assert!(
        Command::new("chown").args(["-R", "65534"]).arg(daemon.directory.path()).status().unwrap().success()
    );
    let user = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let powers = ["--inh-caps=+net_admin", "--ambient-caps=+net_admin"];
    daemon.run(&[&["setpriv"], &user[..], &powers, &["./banstream"]].concat());
    assert!(daemon.ask(&["notify", "ops"]).0);
    let daemons =
        fs::read_to_string(format!("/proc/{}/status", daemon.process.as_ref().unwrap().id())).unwrap();
    assert!(daemons.contains("CapEff:\t0000000000001000\n"), "{daemons}");
    assert_eq!(daemon.file("capabilities"), "CapEff:\t0000000000000000\n");
}

#[test]
fn restored_bans_are_no_news() {
    let hook = Hook::new(OK);
    let mut daemon =
        Daemon::start(&format!("[notify.ops]\nwebhook = '{}'\ndelay = 0\nevery = '1ms'", hook.url));
    daemon.attack("x", std::iter::once("203.0.113.1".to_owned()));
    until("it is told", || hook.posted(OK).pop());
    daemon.stop();
    daemon.run(&[BANSTREAM]);
    assert!(daemon.get("/bans").contains("203.0.113.1"));
    daemon.attack("x", std::iter::once("203.0.113.2".to_owned()));
    until("the next is told", || (hook.posted(OK).len() > 1).then_some(()));
    daemon.stop();
    let told: Vec<String> = hook.posted(OK).iter().map(|post| post.body["text"].to_string()).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[1].contains("203.0.113.2") && !told[1].contains("203.0.113.1"), "{told:?}");
}
