//! What it costs to find the offence in a message: `cargo bench --bench find`.
//!
//! The messages are in `tests/samples`: real servers wrote them while they were attacked and used.

#![allow(missing_docs)]

use banstream::grammar::{Grammar, Grammars, Lists, Outcome, SHIPPED};
use banstream::model::{Entry, Sender, Timestamp};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};

fn main() {
    divan::main();
}

fn text(name: &str) -> &'static str {
    SHIPPED.iter().find(|(known, _)| *known == name).expect("a shipped grammar").1
}

/// The grammar, and the messages that its server wrote: what follows the tag in rsyslog's file format.
fn load(name: &str) -> (Grammar, Vec<Vec<u8>>) {
    let path =
        format!("{}/tests/samples/{}.log", env!("CARGO_MANIFEST_DIR"), name.replace("apache", "apache2"));
    let samples = std::fs::read(path).expect("the samples");
    let (grammar, _) = Grammar::load(name, name, text(name), &Lists::shipped()).expect("it is sound");
    let message = |line: &[u8]| {
        let tag = line.windows(2).position(|two| two == b": ")?;
        line.get(tag + 2..).filter(|_| line.starts_with(b"20")).map(<[u8]>::to_vec)
    };
    (grammar, samples.split(|byte| *byte == b'\n').filter_map(message).collect())
}

/// Nanoseconds a message, over all that the server wrote while it was attacked and used.
#[divan::bench(args = ["sshd", "vsftpd", "proftpd", "pure-ftpd", "nginx", "apache"])]
fn find(bencher: Bencher<'_, '_>, name: &str) {
    let (grammar, messages) = load(name);
    bencher.counter(ItemsCount::new(messages.len())).bench_local(|| {
        messages.iter().filter(|message| grammar.read(divan::black_box(message)).is_some()).count()
    });
}

/// A line of Caddy's access log, which is JSON.
#[divan::bench]
fn json(bencher: Bencher<'_, '_>) {
    let (grammar, _) =
        Grammar::load("caddy", "caddy", text("caddy"), &Lists::shipped()).expect("it is sound");
    let line = br#"{"level":"info","ts":1795412738.25,"logger":"http.log.access.log0","msg":"handled request","request":{"remote_ip":"192.0.2.1","remote_port":"54462","client_ip":"192.0.2.1","proto":"HTTP/2.0","method":"GET","host":"www.example","uri":"/.env","headers":{"User-Agent":["Mozilla/5.0 (X11; Linux x86_64)"],"Accept":["text/html,application/xhtml+xml"]},"tls":{"resumed":false,"version":772,"cipher_suite":4865,"proto":"h2","server_name":"www.example"}},"bytes_read":0,"user_id":"","duration":0.000033,"size":0,"status":404,"resp_headers":{"Server":["Caddy"],"Alt-Svc":["h3=\":443\"; ma=2592000"]}}"#;
    bencher.bench_local(|| grammar.read(divan::black_box(line)).is_some());
}

/// Parsing, proving and testing a grammar.
#[divan::bench(args = ["sshd", "nginx", "apache"])]
fn prove(bencher: Bencher<'_, '_>, name: &str) {
    let lists = Lists::shipped();
    bencher.bench_local(|| Grammar::load(name, name, divan::black_box(text(name)), &lists).is_ok());
}

/// The same messages through all grammars, with so many more for other programs: the figures should be the same.
#[divan::bench(args = [0, 100, 1000])]
fn among(bencher: Bencher<'_, '_>, others: usize) {
    let ((sshd, messages), lists) = (load("sshd"), Lists::shipped());
    let other = |number| {
        let text = format!("program: p{number}\nx:\n    {{Failed|Invalid}} <user> from <ip>\n");
        Grammar::load("p", "p", &text, &lists).expect("it is sound").0
    };
    let grammars = Grammars::new((0..others).map(other).chain([sshd]).collect()).expect("no program twice");
    bencher.counter(ItemsCount::new(messages.len())).bench_local(|| {
        let entry = |message| Entry {
            time: Timestamp::from_secs(0),
            host: b"",
            program: b"sshd",
            pid: 1,
            message,
            cut: false,
            goes_on: false,
            times: 1,
            sender: Sender::default(),
        };
        let found =
            |message| matches!(grammars.find(divan::black_box(&entry(message))), Outcome::Offence(..));
        messages.iter().filter(|message| found(message)).count()
    });
}

/// What an attacker would send to keep the matcher busy, in bytes a second: the same for each length.
#[divan::bench(args = [1 << 10, 1 << 15, 1 << 20])]
fn hostile(bencher: Bencher<'_, '_>, length: usize) {
    let grammars: Vec<Grammar> =
        ["sshd", "proftpd", "nginx", "apache"].into_iter().map(|name| load(name).0).collect();
    let (begin, middle) =
        ("Failed password for invalid user ", " from 10.0.0.1 port 1 ssh2: \"\\ [client 10.0.0.1:5] ");
    let messages: Vec<Vec<u8>> = [begin, "198.51.100.1 - ", "h (198.51.100.1[198.51.100.1]) - USER "]
        .into_iter()
        .map(|head| head.bytes().chain(middle.bytes().cycle()).take(length).collect())
        .collect();
    bencher.counter(BytesCount::new(length * messages.len() * grammars.len())).bench_local(|| {
        let read = |grammar: &Grammar| {
            messages.iter().filter(|m| grammar.read(divan::black_box(m)).is_some()).count()
        };
        grammars.iter().map(read).sum::<usize>()
    });
}
