//! What web servers log of a request comes to one offence, of the one who sent it.

use std::io::Write;
use std::sync::{Arc, LazyLock};

use banstream::config::load::{self, Loaded};
use banstream::detect::ExemptionList;
use banstream::engine::{Clock, Engine, Unattested};
use banstream::entry::records::Records;
use banstream::entry::{Decoder, Format};
use banstream::model::{Decision, Timestamp};

/// The shipped grammars, and a jail `it` that counts these offences of web servers.
fn load(top: &str, offences: &str) -> Loaded {
    let text = format!(
        "grammar-directory = '/nonexistent'\n{top}\n[jail.it]\noffences = [{offences}]\ngrammars = ['apache', \
         'nginx', 'lighttpd']\n{}",
        ["sshd", "ftp", "http-auth", "http-exploit", "http-probe", "http-flood"].map(off).concat()
    );
    let mut config = tempfile::NamedTempFile::new().unwrap();
    config.write_all(text.as_bytes()).unwrap();
    load::load(Some(config.path())).unwrap_or_else(|error| panic!("{error}"))
}

/// The results of messages, each from a process of its own: how many count, and who is banned.
fn counted(loaded: &Loaded, messages: &[(&str, String)]) -> (u64, Vec<String>) {
    let decoder = Decoder::new(jiff::tz::TimeZone::UTC);
    let mut engine = Engine::new(loaded.settings(), Arc::clone(&loaded.grammars), decoder);
    let mut records = Records::new(Format::Line);
    for (pid, (program, message)) in messages.iter().enumerate() {
        records.push(format!("<38>Nov 22 05:39:38 h {program}[{pid}]: {message}").as_bytes());
    }
    let report =
        engine.take(&mut records, Clock::At(Timestamp::from_secs(1_800_000_000)), Unattested::Accept);
    let banned = report.seen.decisions.iter().map(|decision| match decision {
        Decision::Ban(ban) | Decision::Unban(ban) => ban.offender.to_string(),
    });
    (report.seen.counted, banned.collect())
}

fn off(jail: &str) -> String {
    format!("[jail.{jail}]\nenabled = false\n")
}

/// An access line of Apache and nginx.
fn access(user: &str, request: &str, status: u16) -> String {
    format!("192.0.2.1 - {user} [22/Nov/2026:05:40:38 +0000] \"{request} HTTP/1.1\" {status} 153 \"-\" \"-\"")
}

fn apache(code: &str) -> (&'static str, String) {
    ("apache2", format!("[core:error] [pid 1:tid 2] [client 192.0.2.1:4711] {code}"))
}

/// How many requests these messages report, where the jail watches these categories.
#[track_caller]
fn requests(offences: &str, messages: &[(&str, String)], want: u64) {
    let (got, _) = counted(&load("maxretry = 200", offences), messages);
    assert_eq!(got, want);
}

#[test]
fn k_requests_in_two_logs_count_k() {
    let lost = ("apache2", access("-", "GET /x", 404));
    let lost_too = apache("AH00128: File does not exist: /var/www/x");
    let denied = ("apache2", access("-", "GET /y", 403));
    let denied_too = apache("AH01630: client denied by server configuration: /var/www/y");
    let wrong = ("apache2", access("eve", "GET /p", 401));
    let wrong_too = apache("AH01617: user eve: authentication failure for \"/p\": Password Mismatch");
    let flood = "'not-found', 'forbidden'";
    let mut both = Vec::new();
    for (number, [first, second]) in
        [[&lost, &lost_too], [&denied, &denied_too]].repeat(3).into_iter().enumerate()
    {
        // The logs come interleaved, and neither is always the first.
        let pair = if number % 3 == 0 { [second, first] } else { [first, second] };
        both.extend(pair.map(Clone::clone));
    }
    requests(flood, &both, 6);
    both.sort();
    requests(flood, &both, 6);
    requests(flood, &[lost.clone(), lost.clone(), denied_too.clone(), denied_too, lost_too.clone()], 4);
    requests(flood, &[lost.clone(), denied.clone(), lost, denied], 4);
    requests("'auth-failure'", &[wrong_too.clone(), wrong.clone(), wrong_too.clone(), wrong.clone()], 2);
    requests("'auth-failure'", &[wrong_too.clone(), wrong_too, wrong, lost_too], 2);
}

#[test]
fn nginx_names_no_process() {
    let wrong = ("nginx", access("eve", "GET /p", 401));
    let wrong_too = (
        "nginx",
        "2026/11/22 05:40:38 [error] 1#1: *15 user \"eve\": password mismatch, client: 192.0.2.1, server: , \
         request: \"GET /p HTTP/1.1\", host: \"h\""
            .to_owned(),
    );
    requests("'auth-failure'", &[wrong_too.clone(), wrong.clone(), wrong_too, wrong.clone(), wrong], 3);
}

/// Who is banned for a probe from this peer with this tail behind the client's program, where 10.0.0.0/8 and
/// 2001:db8:a::1 are trusted proxies.
#[track_caller]
fn blamed(program: &str, peer: &str, tail: &str, want: &str) {
    static LOADED: LazyLock<Loaded> = LazyLock::new(|| {
        let proxies = "trusted-proxies = ['10.0.0.0/8', '2001:db8:a::1']";
        load(&format!("maxretry = 1\nbantime = 'forever'\n{proxies}"), "'probe'")
    });
    let second = if program == "lighttpd" { "www.example" } else { "-" };
    let message =
        format!("{peer} {second} - [22/Nov/2026:05:40:38 +0000] \"GET /.env HTTP/1.1\" 404 153 \"-\" {tail}");
    let (_, banned) = counted(&LOADED, &[(program, message)]);
    assert_eq!(banned.first().map_or("-", String::as_str), want);
}

#[test]
fn behind_a_trusted_proxy_the_client_is_blamed() {
    for program in ["nginx", "apache2", "lighttpd"] {
        blamed(program, "10.0.0.1", r#""curl" "192.0.2.1""#, "192.0.2.1");
        blamed(program, "::ffff:10.0.0.1", r#""curl" "192.0.2.1" 0.003 "x""#, "192.0.2.1");
        blamed(program, "2001:db8:a::1", r#""curl" "203.0.113.9, 192.0.2.1, 10.2.3.4""#, "192.0.2.1");
        blamed(program, "10.0.0.1", r#""curl" "[2001:db8:b::5]:4711""#, "2001:db8:b::/64");
    }
}

#[test]
fn a_proxy_is_never_blamed() {
    for tail in [
        r#""curl""#,
        r#""curl" "-""#,
        r#""curl" "10.9.9.9""#,
        r#""curl" "x, 10.2.3.4""#,
        r#""curl" 0.003 "a""#,
    ] {
        blamed("nginx", "10.0.0.1", tail, "-");
        blamed("apache2", "10.0.0.1", tail, "-");
    }
}

#[test]
fn a_proxy_is_protected() {
    let ignore = load("trusted-proxies = ['10.0.0.0/8']", "'probe'").settings().ignore;
    assert!(ignore.contains(&("10.0.0.0/8".parse().unwrap(), ExemptionList::Proxy)), "{ignore:?}");
}

#[test]
fn nobody_can_speak_for_others() {
    for program in ["nginx", "apache2", "lighttpd"] {
        // From a peer that is not a proxy the header means nothing.
        blamed(program, "192.0.2.1", r#""curl" "203.0.113.9""#, "192.0.2.1");
        blamed(program, "192.0.2.1", r#""curl" "203.0.113.9, 10.0.0.1""#, "192.0.2.1");
        // What the client sends itself stands on the left, and does not get others blamed.
        blamed(program, "10.0.0.1", r#""curl" "203.0.113.9, 10.0.0.5, 192.0.2.1""#, "192.0.2.1");
        blamed(program, "10.0.0.1", r#""curl" "203.0.113.9, evil, 10.0.0.5""#, "-");
        // Nor do quotes in the name of the client's program, in the header itself, or in what is too long.
        blamed(program, "10.0.0.1", r#""x\" \"203.0.113.9" "192.0.2.1""#, "192.0.2.1");
        blamed(program, "10.0.0.1", r#""x" "\" \"203.0.113.9""#, "-");
        blamed(program, "10.0.0.1", r#""x\" \"203.0.113.9\""#, "-");
        blamed(program, "10.0.0.1", r#""x" "203.0.113.9, 203.0.113.9, 203.0.11"#, "-");
    }
}
