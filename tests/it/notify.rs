//! Notifications of a real daemon: over HTTP on loopback, by programs, by mail.
//!
//! Each test runs the built program with files of its own and no other privilege; nothing leaves the machine, and nobody
//! is banned for real.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::common::{Daemon, Killed, said, until};

/// A daemon that only observes, whose jail `sshd` bans at the first offence.
fn start(notify: &str) -> Daemon {
    Daemon::observing(&format!("maxretry = 1\n{notify}"))
}

/// Gives it other receivers.
#[track_caller]
fn reload(daemon: &Daemon, notify: &str) {
    daemon.configure(&format!("mode = 'observe'\nmaxretry = 1\n{notify}"));
    let reloaded = daemon.tell("reload");
    assert!(reloaded.starts_with("reloaded"), "{reloaded}");
}

/// A failed login for each of these addresses, by a user of this name.
fn attack(daemon: &Daemon, user: &str, addresses: impl Iterator<Item = String>) {
    daemon.send(addresses.map(|address| {
        let message = format!("Failed password for invalid user {user} from {address} port 22 ssh2");
        json!({"tag": "sshd[4]:", "uid": "0", "message": message})
    }));
}

/// Waits until so many bans have been decided.
fn bans(daemon: &Daemon, wanted: u64) {
    until(&format!("{wanted} bans"), || daemon.status()["bans"] == wanted);
}

/// How many messages to the first receiver had this result.
fn told(daemon: &Daemon, result: &str) -> u64 {
    daemon.metric(&format!("banstream_notifications_total{{receiver=\"ops\",result=\"{result}\"}}"))
}

/// Runs a command of `banstream`: whether it went well, and what it said.
fn ask(daemon: &Daemon, words: &[&str]) -> (bool, String) {
    let output = daemon.output(words);
    (output.status.success(), said(&output))
}

/// Whether the process of this status is no more. Where nobody reaps orphans, a zombie is as dead as they get.
fn gone(status: &Path) -> bool {
    let status = fs::read_to_string(status).unwrap_or_default();
    status.is_empty() || status.contains("State:\tZ")
}

#[test]
fn a_daemon_that_stops_leaves_the_sockets_to_the_next_one() {
    let hook = Hook::new(Answer::Never);
    let daemon = start(&format!("[notify.ops]\nwebhook = '{}'\ndelay = 0", hook.url));
    daemon.tell("ban 198.51.100.1");
    until("the receiver is told", || !hook.posted.lock().unwrap().is_empty());
    // It waits for that receiver.
    kill(Pid::from_raw(daemon.pid() as i32), Signal::SIGTERM).unwrap();
    let inode = |name: &str| fs::metadata(daemon.path(name)).map(|file| file.ino()).ok();
    until("it has given up its sockets", || inode("control").is_none() && inode("ingest").is_none());
    let next = Killed(daemon.command().spawn().unwrap());
    until("the next one answers", || daemon.get("/status"));
    let sockets = ["control", "ingest"].map(inode);
    daemon.wait();
    assert_eq!(["control", "ingest"].map(inode), sockets);
    assert!(daemon.get("/status").is_some());
    drop(next);
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
    let daemon = start(&format!(
        "[notify.ops]\nwebhook = '{}'\ndelay = 0\nevery = '1ms'\ntimeout = '100ms'",
        hook.url
    ));
    // While nothing is told, bans go on; as many digests as there are bans do not fit.
    for nth in 1..=40 {
        attack(&daemon, "x", std::iter::once(format!("203.0.113.{nth}")));
        bans(&daemon, nth);
    }
    until("something is dropped", || (told(&daemon, "dropped") > 0).then_some(()));
    until("the receiver is known to fail", || {
        daemon.status()["receivers"][0]["error"]
            .as_str()
            .map(|error| assert_eq!(error, "it took longer than 1s"))
    });
    let waiting = daemon.status()["receivers"][0]["waiting"].as_u64().unwrap();
    assert!((1..=13).contains(&waiting), "{waiting}");
    assert_eq!(told(&daemon, "delivered"), 0);
    let (_, shown) = ask(&daemon, &["status"]);
    assert!(shown.contains("it took longer than 1s"), "{shown}");

    hook.answer(BROKEN);
    until("it is tried again", || hook.posted(BROKEN).pop());
    attack(&daemon, "x", std::iter::once("203.0.113.41".to_owned()));
    bans(&daemon, 41);
    hook.answer(OK);
    until("all is told that waits", || {
        let status = &daemon.status()["receivers"][0];
        status["waiting"] == 0 && status["error"] == Value::Null
    });
    assert!(
        told(&daemon, "delivered") > 0
            && daemon.metric("banstream_notifications_errors_total{receiver=\"ops\"}") > 1
    );
    let last = hook.posted(OK).pop().unwrap().body;
    assert_eq!(last["observed"]["listed"].as_array().unwrap().last().unwrap()["address"], "203.0.113.41");
}

#[test]
fn a_flood_of_bans_is_no_flood_of_messages() {
    let hook = Hook::new(OK);
    let daemon =
        start(&format!("[notify.ops]\nwebhook = '{}'\ndelay = '1s'\nevery = '1h'\nat-most = 5", hook.url));
    attack(&daemon, "x", (0..1000).map(|n| format!("198.51.{}.{}", n / 250, n % 250 + 1)));
    bans(&daemon, 1000);
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
    let daemon = start("");
    let token = daemon.path("token");
    fs::write(&token, "secret\n").unwrap();
    // A receiver may come with a reload.
    assert_eq!(
        ask(&daemon, &["notify", "ops"]).1,
        "error: the configuration has no receiver: no table `[notify.NAME]`\n"
    );
    reload(
        &daemon,
        &format!(
            "[notify.ops]\nwebhook = '{}'\nheaders = ['X-Key: 1']\ntoken-file = '{}'",
            hook.url,
            token.display()
        ),
    );
    let refused = "error: the server answered 307 Temporary Redirect\n".to_owned();
    assert_eq!(ask(&daemon, &["notify", "ops"]), (false, refused));
    hook.answer(OK);
    assert_eq!(ask(&daemon, &["notify", "ops"]), (true, "ops accepted the message\n".to_owned()));
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
    let daemon = start("");
    let take = "cat >stdin.new; env >env; echo \"$*\" >arguments; mv stdin.new stdin";
    let program = daemon.script("program", take);
    let sendmail = daemon.script("sendmail", "echo \"$*\" >mailed; cat >mail.new; mv mail.new mail");
    reload(
        &daemon,
        &format!(
            "[notify]\ndelay = '1h'\nsendmail = '{sendmail}'\n[notify.ops]\ncommand = ['{program}', 'a b', '$HOME']\n\
         jails = ['manual']\n[notify.mail]\nmail = 'root@localhost'\nfrom = 'banstream@example.org'"
        ),
    );
    let forged = "x\nBcc: eve@example.org\n\n.\n\u{1b}[2J";
    attack(&daemon, forged, std::iter::once("203.0.113.1".to_owned()));
    bans(&daemon, 1);
    assert!(ask(&daemon, &["ban", "203.0.113.2", "--for", "1h", "--reason", forged]).0);
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
    let want = ["ADDRESSES", "BANS", "HOST", "OBSERVED", "RECEIVER", "RESTORED", "SUBJECT", "UNBANS"]
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
        "would ban 203.0.113.1 for 1h (sshd, time 1): 1 offence within 10m",
        &format!("would ban 203.0.113.2 for 1h (manual, time 1): {plain}"),
    ];
    assert_eq!(text.lines().collect::<Vec<_>>(), want);
}

#[test]
fn a_program_has_an_end() {
    let daemon = start("");
    let slow = daemon.script("slow", "sleep 1000 & echo $! >pid.new; mv pid.new pid; wait");
    let fails = daemon.script("fails", "exit 3");
    reload(
        &daemon,
        &format!(
            "[notify.ops]\ncommand = ['{slow}']\ntimeout = '500ms'\n[notify.fails]\ncommand = ['{fails}']"
        ),
    );
    assert_eq!(ask(&daemon, &["notify", "ops"]), (false, "error: it took longer than 1s\n".to_owned()));
    let child = PathBuf::from(format!("/proc/{}/status", daemon.file("pid").trim()));
    until("what it started is killed too", || gone(&child));
    let refused = format!("error: `{fails}` ended with exit status: 3\n");
    assert_eq!(ask(&daemon, &["notify", "fails"]), (false, refused));
}

#[test]
fn a_receiver_that_is_misspelt_is_told_the_nearest() {
    let daemon = start("[notify.chat]\ncommand = ['/bin/true']");
    let said = ask(&daemon, &["notify", "caht"]).1;
    assert_eq!(said, "error: unknown receiver `caht`; did you mean `chat`?\n");
    assert!(daemon.log().contains("; notifies chat"), "{}", daemon.log());
}

#[test]
fn a_receiver_that_hangs_does_not_keep_the_daemon_from_ending() {
    let daemon = start("");
    let slow = daemon.script("slow", "echo $$ >pid.new; mv pid.new pid; exec sleep 1000");
    // A receiver may come with a reload.
    assert_eq!(
        ask(&daemon, &["notify", "ops"]).1,
        "error: the configuration has no receiver: no table `[notify.NAME]`\n"
    );
    reload(&daemon, &format!("[notify.ops]\ncommand = ['{slow}']\ntimeout = '1h'\ndelay = 0"));
    attack(&daemon, "x", std::iter::once("203.0.113.1".to_owned()));
    let child = PathBuf::from(format!("/proc/{}/status", daemon.file("pid").trim()));
    daemon.stop();
    until("the program is killed", || gone(&child));
}

#[test]
fn restored_bans_are_no_news() {
    let hook = Hook::new(OK);
    let daemon = start(&format!("[notify.ops]\nwebhook = '{}'\ndelay = 0\nevery = '1ms'", hook.url));
    attack(&daemon, "x", std::iter::once("203.0.113.1".to_owned()));
    until("it is told", || hook.posted(OK).pop());
    daemon.stop();
    daemon.run(&mut daemon.command());
    assert!(daemon.get("/bans").unwrap().contains("203.0.113.1"));
    attack(&daemon, "x", std::iter::once("203.0.113.2".to_owned()));
    until("the next is told", || hook.posted(OK).len() > 1);
    daemon.stop();
    let told: Vec<String> = hook.posted(OK).iter().map(|post| post.body["text"].to_string()).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[1].contains("203.0.113.2") && !told[1].contains("203.0.113.1"), "{told:?}");
}
