//! The tools for those who write grammars, and what a running daemon says of lines that it did not take for offences.
//!
//! Each test runs the built program as an operator would, with files of its own and no other privilege.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::tempdir;

use crate::common::{BANSTREAM, Daemon, said, until};

/// Runs a command of the shell; what it prints, errors included.
fn shell(directory: &Path, command: &str) -> String {
    let path =
        format!("{}:{}", Path::new(BANSTREAM).parent().unwrap().display(), std::env::var("PATH").unwrap());
    let output = Command::new("sh")
        .args(["-c", &format!("exec 2>&1\n{command}\n")])
        .env("TZ", "UTC")
        .current_dir(directory)
        .env("PATH", path)
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_example_in_the_readme_runs_as_written() {
    let directory = tempdir().unwrap();
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/grammars/README.md")).unwrap();
    let section = text.split("## From log lines to a grammar\n").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    // A command begins with `$` and, where it has a here-document, ends with `END`; what follows is its output.
    let (mut command, mut want, mut inside, mut commands) = (String::new(), String::new(), false, 0);
    let mut lines: Vec<&str> = section.lines().collect();
    lines.push("    $ true");
    for line in lines {
        let line = match line.strip_prefix("    ") {
            Some(line) => line,
            None if line.is_empty() => line,
            None => continue,
        };
        if let Some(next) = line.strip_prefix("$ ").filter(|_| !inside) {
            if !command.is_empty() {
                assert_eq!(shell(directory.path(), &command).trim_end(), want.trim_end(), "$ {command}");
                commands += 1;
            }
            (command, want) = (next.to_owned(), String::new());
            inside = next.contains("<<");
        } else if inside {
            command += &format!("\n{line}");
            inside = line != "END";
        } else {
            want += &format!("{line}\n");
        }
    }
    assert_eq!(commands, 8);
}

/// What `explain` says of a line, as JSON, without what nobody asked for.
#[track_caller]
fn explains(directory: &Path, line: &str, want: Value) {
    fs::write(directory.join("line"), line).unwrap();
    fs::write(directory.join("c.toml"), "grammar-directory = \"/nonexistent\"\n").unwrap();
    let output = shell(directory, "banstream explain --config c.toml --program sshd --json < line");
    let got: Value = serde_json::from_str(&output).unwrap();
    let asked: serde_json::Map<String, Value> =
        want.as_object().unwrap().keys().map(|key| (key.clone(), got[key].clone())).collect();
    assert_eq!(Value::Object(asked), want);
}

#[test]
fn a_line_is_explained() {
    let directory = tempdir().unwrap();
    explains(
        directory.path(),
        "Illegal user a\u{1b} b from 192.0.2.1",
        json!({"match": true, "ip": "192.0.2.1", "user": "a\u{1b} b", "forged": false, "why": null,
            "written": "{Invalid|Illegal} user <user> from <ip>{ port <num>}?",
            "fields": [{"name": "user", "kind": "text", "from": 13, "to": 17, "text": "a\u{1b} b"},
                      {"name": null, "kind": "ip", "from": 23, "to": 32, "text": "192.0.2.1"}]}),
    );
    explains(
        directory.path(),
        r#"{"tag":"sshd[1]:","uid":"1000","exe":"/usr/bin/logger","message":"Invalid user x from 192.0.2.1"}"#,
        json!({"match": true, "forged": true,
            "why": "forged: written by uid 1000, `/usr/bin/logger`; not counted"}),
    );
    explains(
        directory.path(),
        "Invalid user x at 192.0.2.1",
        json!({"match": false, "ip": null, "grammar": "sshd", "rule": null, "fields": [],
            "why": "stopped at column 14 of the message: expected ` from ` later, found `x at 192.0.2.1`"}),
    );
    explains(
        directory.path(),
        "Received disconnect from 192.0.2.1 port 4711:11: bye",
        json!({"match": false, "why": "a shape of sshd.grammar reads this line, but no condition holds", "closest": null}),
    );
    explains(
        directory.path(),
        "2026-11-23T21:04:11+00:00 h myapp[1]: x",
        json!({"match": false, "grammar": "sshd", "why": "no rule of sshd.grammar begins like this line"}),
    );
}

#[test]
fn lines_that_name_no_address_propose_nothing() {
    let directory = tempdir().unwrap();
    let run = |command: &str| shell(directory.path(), &format!("{command}; echo $?; ls"));
    let output = run("echo hello | banstream grammar new --program app -o app.grammar");
    let want = "left out 1 line without an address of a client\n\
                no line of `app` has an address, so there is nothing to propose\n1\n";
    assert_eq!(output, want);
    let output = run("echo 'login failed from 192.0.2.1' | banstream grammar new -o app.grammar");
    assert_eq!(
        output,
        "error: no line has a syslog header; say with --program NAME which program wrote the lines\n2\n"
    );
    let output = run(
        "echo 'session opened for bob from 192.0.2.1' | banstream grammar new --program app -o app.grammar",
    );
    assert!(output.contains("\nno line reports a failure, so there is no grammar;"), "{output}");
    assert!(output.ends_with("\n1\n"), "{output}");
}

#[test]
fn a_grammar_is_not_replaced_unless_that_is_asked_for() {
    let directory = tempdir().unwrap();
    let run = |options: &str| {
        let line = "echo 'login of bob failed from 192.0.2.1'";
        shell(directory.path(), &format!("{line} | banstream grammar new --program app {options}; echo $?"))
    };
    assert!(run("-o app.grammar").ends_with("\n0\n"));
    assert_eq!(run("-o app.grammar"), "error: `app.grammar` exists; give --force to replace it\n2\n");
    assert!(run("-o app.grammar --force").ends_with("\n0\n"));
    assert_eq!(shell(directory.path(), "banstream check app.grammar"), "app.grammar: sound\n");
}

#[test]
fn most_frequent_lines_without_a_rule_are_told() {
    let directory = tempdir().unwrap();
    let lines = "login failed of [a b] at 192.0.2.1 as [c d] end\n\
                 login failed of [e [f] at 192.0.2.2 as [g] [h] end\n\
                 login failed of [e] at x] at 192.0.2.3 as [g h] end\n\
                 token invalid from 192.0.2.4\n";
    fs::write(directory.path().join("log"), lines).unwrap();
    let output = shell(directory.path(), "banstream grammar new --program app -o app.grammar < log; echo $?");
    assert!(output.contains("have no rule, since it was refused: "), "{output}");
    assert!(output.ends_with("\n1\n"), "{output}");
    assert_eq!(shell(directory.path(), "banstream check app.grammar"), "app.grammar: sound\n");
}

#[test]
fn programs_are_taken_from_the_headers() {
    let directory = tempdir().unwrap();
    let samples = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/samples/new");
    let run = |command: &str| shell(directory.path(), command);
    for (name, options, program) in [
        ("wordpress", "", "wordpress(*)"),
        ("wordpress", "--program wordpress", "wordpress(*)"),
        (
            "wordpress",
            "--program 'wordpress(www*)' --program 'wordpress(blog.example.net)'",
            "wordpress(www*) wordpress(blog.example.net)",
        ),
        ("postfix", "", "postfix/*"),
        ("postfix", "--program postfix/smtpd", "postfix/smtpd"),
        ("dovecot", "", "dovecot"),
        ("forgejo", "", "forgejo"),
    ] {
        let output = run(&format!(
            "banstream grammar new {options} -o {name}.grammar --force < {samples}/{name}.log; echo $?"
        ));
        assert!(output.ends_with("\n0\n"), "{output}");
        let text = fs::read_to_string(directory.path().join(format!("{name}.grammar"))).unwrap();
        assert!(text.contains(&format!("\nprogram: {program}\n")), "{text}");
        assert_eq!(
            run(&format!("banstream check {name}.grammar")).lines().last(),
            Some(&*format!("{name}.grammar: sound"))
        );
    }
}

#[test]
fn no_command_fails_because_nobody_reads_what_it_says() {
    let directory = tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    write("c.toml", "grammar-directory = \"/nonexistent\"\nmaxretri = 3\n");
    write("d.toml", "grammar-directory = \"/nonexistent\"\nstate-directory = \"/nonexistent\"\n");
    write("log", &attempts("192.0.2.1", 0..9));
    let grammar = concat!(env!("CARGO_MANIFEST_DIR"), "/grammars/ssh/sshd.grammar");
    for command in [
        &format!("check {grammar} c.toml d.toml"),
        "check",
        "explain --config d.toml <log",
        "explain --config d.toml --program nothing --json <log",
        "replay --config d.toml log",
        "replay --config d.toml --json log log",
        "doctor --config d.toml",
        "doctor --config d.toml --json",
        "report --config d.toml",
        "grammar new --program sshd <log",
        "grammar new --program app <log",
        "run --config c.toml",
        "status --socket ./nothing",
        "compat fail2ban-client version",
        "compat fail2ban-client nothing",
        "--help",
        "--version",
        "nothing",
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let status = Command::new("sh")
            .args(["-c", &format!("exec {BANSTREAM} {command}")])
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(writer.try_clone().unwrap())
            .stderr(writer)
            .status()
            .unwrap();
        assert!(status.code().is_some_and(|code| code != 101), "{command}: {status}");
    }
}

/// What `status` says when so many entries have come.
fn status(daemon: &Daemon, entries: u64) -> Value {
    until("all lines are read", || Some(daemon.status()).filter(|status| status["entries"] == entries))
}

#[test]
fn whatever_the_umask_only_the_owner_reads_what_is_kept() {
    use std::os::unix::fs::PermissionsExt;
    let daemon = Daemon::new("mode = 'observe'");
    let shell = ["sh", "-c", "umask 000; exec \"$0\" \"$@\"", BANSTREAM];
    daemon.run(&mut daemon.command_of(&shell));
    let state = daemon.path("state");
    daemon.tell("ban 203.0.113.7");
    until("the ban is in the ledger", || {
        fs::metadata(state.join("ledger.db-wal")).ok().filter(|log| log.len() > 0)
    });
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&state), 0o700);
    let files: Vec<_> = fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() >= 5, "{files:?}");
    files.iter().for_each(|file| assert_eq!(mode(file), 0o600, "{}", file.display()));
}

#[test]
fn what_an_operator_gives_for_a_reason_adds_no_line_to_our_log() {
    let daemon = Daemon::observing("");
    let reason = "x\n<0>kernel: \u{1b}[2J\u{202e}fake\u{2028}";
    fs::write(daemon.path("reason"), reason).unwrap();
    shell(daemon.as_ref(), "banstream ban 203.0.113.7 --socket ./control --reason \"$(cat reason)\"");
    let log = until("the ban is logged", || {
        let log = fs::read_to_string(daemon.path("log")).unwrap();
        log.contains("fake").then_some(log)
    });
    let want = "info: banned 203.0.113.7 forever (manual, time 1): x\u{fffd}<0>kernel: \u{fffd}[2J\u{fffd}fake\u{fffd}";
    assert!(log.lines().any(|line| line.replace("would ban", "banned") == want), "{log}");
}

#[test]
fn a_configuration_that_lost_all_it_set_is_not_put_in_force() {
    let daemon = Daemon::new("mode = 'observe'\nmaxretry = 4");
    shell(daemon.as_ref(), "mkdir c.d; echo 'ignoreip = [\"192.0.2.9\"]' >c.d/1.toml");
    daemon.run(&mut daemon.command());
    let there = |name: &str| daemon.path(name);
    let ask = |what: &str| shell(daemon.as_ref(), &format!("banstream {what} --socket ./control; echo $?"));
    let main = fs::read_to_string(there("c.toml")).unwrap();
    for (name, whole) in [("c.toml", &*main), ("c.d/1.toml", "ignoreip = [\"192.0.2.9\"]\n")] {
        for nothing in ["", " \n", "# maxretry = 4\n"] {
            fs::write(there(name), nothing).unwrap();
            let want = format!(
                "error: `{name}` is empty now, but was not before; if that is intended, restart the daemon\n1\n"
            );
            assert_eq!(ask("reload"), want);
            assert!(ask("ban 192.0.2.9").contains("is exempt"));
        }
        fs::write(there(name), whole).unwrap();
        assert_eq!(ask("reload"), "reloaded: nothing has changed\n0\n");
    }
    shell(daemon.as_ref(), "mv c.toml away");
    assert!(ask("reload").ends_with("\n1\n"));
    assert!(ask("ban 192.0.2.9").contains("is exempt"));
    // Taken out on purpose.
    shell(daemon.as_ref(), "mv away c.toml; rm c.d/1.toml");
    let reloaded = ask("reload");
    assert!(reloaded.starts_with("reloaded\n    `ignoreip`: [\"192.0.2.9\"] -> "), "{reloaded}");
    assert!(!ask("ban 192.0.2.9").contains("is exempt"));
}

/// A line as rsyslog renders it.
fn from(uid: &str, message: &str) -> String {
    json!({"tag": "sshd[4]:", "uid": uid, "message": message}).to_string()
}

#[test]
fn a_daemon_says_what_it_did_not_understand_and_whom_it_did_not_believe() {
    let failed = "Failed password for root from 192.0.2.1 port 22 ssh2";
    let check = |refuse: &str, offences: u64, refused: u64| {
        let daemon = Daemon::deciding(refuse);
        daemon.send(&[
            from("1000", failed),
            from("33", failed),
            from("1000", failed),
            from("", failed),
            from("0", failed),
            from("0", "Login rejected for bob from 192.0.2.1 \u{1b}"),
            from("0", "Login rejected for eve from 192.0.2.2 \u{1b}"),
            from("0", "Accepted password for alice from 192.0.2.1 port 22 ssh2"),
        ]);
        let status = status(&daemon, 8);
        assert_eq!((&status["offences"], &status["refused"]), (&json!(offences), &json!(refused)));
        assert_eq!(status["sources"][0]["unattested"], 1);
        let forged = |uid, lines| json!({"grammar": "sshd", "uid": uid, "lines": lines});
        assert_eq!(status["forged"], json!([forged(1000, 2), forged(33, 1)]));
        let unmatched = &status["unmatched"][0];
        assert_eq!((&unmatched["grammar"], &unmatched["lines"]), (&json!("sshd"), &json!(2)));
        assert_eq!(unmatched["templates"][0]["template"], "Login rejected for <user> from <ip> \u{1b}");
        let shown = shell(daemon.as_ref(), "banstream status --socket ./control");
        assert!(shown.contains("Login rejected for <user> from <ip> \u{fffd}\n"), "{shown}");
        let metrics = daemon.get("/metrics").unwrap();
        for want in [
            "banstream_entries_forged_total{grammar=\"sshd\",uid=\"1000\"} 2",
            "banstream_entries_unmatched_total{grammar=\"sshd\"} 2",
            "banstream_entries_unattested_total{source=\"socket\"} 1",
            &format!("banstream_entries_refused_total{{grammar=\"sshd\"}} {refused}"),
        ] {
            assert!(metrics.lines().any(|line| line == want), "{want}\n{metrics}");
        }
    };
    check("", 2, 0);
    check("socket.unattested = \"refuse\"", 1, 1);
}

#[test]
fn a_daemon_says_where_a_server_logs_names_instead_of_addresses() {
    let daemon = Daemon::deciding("");
    let from = |tag: &str, message: &str| json!({"tag": tag, "uid": "0", "message": message}).to_string();
    daemon.send(&[
        from("pure-ftpd:", "(?@host.example) [WARNING] Authentication failed for user [alice]"),
        from("apache2:", "host-9.example - alice [22/Nov/2026:05:40:38 +0000] \"GET /a HTTP/1.1\" 401 9 \"-\" \"-\""),
        from(
            "sshd[4]:",
            "pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=a.host.example  user=x",
        ),
        from("sshd[4]:", "Server listening on socket.example port 22."),
    ]);
    let status = status(&daemon, 4);
    let shown = |grammar: &str| {
        let all = status["unmatched"].as_array().unwrap().iter();
        let of = all.filter(|unmatched| unmatched["grammar"] == grammar);
        of.flat_map(|unmatched| unmatched["templates"].as_array().unwrap())
            .map(|template| template["template"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(shown("pure-ftpd"), ["(?@<host>) [WARNING] Authentication failed for user [<user>]"]);
    assert!(shown("apache")[0].starts_with("<host> - alice ["), "{:?}", shown("apache"));
    assert_eq!(shown("sshd").len(), 1);
    assert!(shown("sshd")[0].contains(" rhost=<host> "), "{:?}", shown("sshd"));
}

/// Lines of sshd at these seconds of a day, from this address; each on a connection of its own.
fn attempts(address: &str, seconds: impl IntoIterator<Item = u32>) -> String {
    let line = |second: u32| {
        let (pid, minute, rest) = (second + 100, second / 60, second % 60);
        format!(
            "2026-11-20T10:{minute:02}:{rest:02}+00:00 h sshd[{pid}]: Invalid user x from {address} port 22\n"
        )
    };
    seconds.into_iter().map(line).collect()
}

#[test]
fn rotated_logs_are_replayed_from_the_oldest_on() {
    let directory = tempdir().unwrap();
    fs::write(directory.path().join("c.toml"), "grammar-directory = \"/nonexistent\"\n").unwrap();
    fs::write(directory.path().join("auth.log"), attempts("192.0.2.1", 4..6) + &attempts("192.0.2.2", 6..10))
        .unwrap();
    fs::write(directory.path().join("auth.log.1"), attempts("192.0.2.1", 2..4)).unwrap();
    let oldest = "a line that does not say when\n".to_owned() + &attempts("192.0.2.1", 0..2);
    fs::write(directory.path().join("auth.log.2"), oldest).unwrap();
    shell(directory.path(), "gzip auth.log.2");
    let ban = "2026-11-20 10:00:04 ban 192.0.2.1 for 1h (sshd, time 1)\n";
    let unread = "1 line without a program's name: `--program NAME` says whose they are\n";
    let (ten, eleven) = (format!("sshd: 10 auth-failure\n{unread}"), "11 lines, 1 ban of 1 offender\n");
    let replay =
        |logs: &str| shell(directory.path(), &format!("banstream replay --config c.toml {logs}; echo $?"));
    assert_eq!(replay("auth.log*"), format!("{ban}{eleven}{ten}0\n"));
    assert_eq!(replay("auth.log auth.log.1 - <auth.log.2.gz"), format!("{ban}{eleven}{ten}0\n"));
    shell(
        directory.path(),
        "zcat auth.log.2.gz | cat - auth.log.1 auth.log >one; printf 'x' >>auth.log.2.gz",
    );
    assert_eq!(replay("one"), format!("{ban}{eleven}{ten}0\n"));
    // What can be read of the damaged one counts, and so do the others.
    let damage = "error: cannot read `auth.log.2.gz`: ";
    let said = replay("auth.log*");
    assert!(said.starts_with(&format!("{ban}{eleven}{ten}{damage}")) && said.ends_with("\n2\n"), "{said}");
    fs::write(directory.path().join("other"), attempts("192.0.2.9", 0..9)).unwrap();
    assert!(replay("one other").contains("warning: `other` overlaps with the log before it"));
    assert_eq!(
        replay("one nothing"),
        "error: cannot read `nothing`: No such file or directory (os error 2)\n2\n"
    );
}

#[test]
fn a_replay_says_who_is_probably_a_proxy() {
    let directory = tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    write("c.toml", "grammar-directory = \"/nonexistent\"\n");
    write("trusting.toml", "grammar-directory = \"/nonexistent\"\ntrusted-proxies = [\"198.51.100.7\"]\n");
    let request = |n: usize, peer: String| {
        let (minute, second) = (n / 60, n % 60);
        format!(
            "{peer} - - [20/Nov/2026:10:{minute:02}:{second:02} +0000] \"GET /{n} HTTP/1.1\" 200 9 \"-\" \"x\"\n"
        )
    };
    let log = |peer: &dyn Fn(usize) -> String| (0..1000).map(|n| request(n, peer(n))).collect::<String>();
    write("proxied", &log(&|_| "198.51.100.7".to_owned()));
    write("direct", &log(&|n| format!("192.0.2.{}", n % 100)));
    write("private", &attempts("10.0.0.5", 0..5));
    let said = |config: &str, program: &str, log: &str| {
        let command = format!("banstream replay --config {config} {program} {log} 2>&1 >/dev/null");
        shell(directory.path(), &command)
    };
    let nginx = "--program nginx";
    let warning = said("c.toml", nginx, "proxied");
    assert!(
        warning.starts_with("warning: nearly all requests of nginx come from 198.51.100.7,"),
        "{warning}"
    );
    assert_eq!(said("trusting.toml", nginx, "proxied"), "");
    assert_eq!(said("c.toml", nginx, "direct"), "");
    let warning = said("c.toml", "", "private");
    assert!(
        warning.starts_with("warning: bans of private addresses, probably proxies: 10.0.0.5;"),
        "{warning}"
    );
}

#[test]
fn a_replay_marks_who_logged_in_and_compares_two_configurations() {
    let directory = tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    write("here.toml", "grammar-directory = \"/nonexistent\"\n");
    write("there.toml", "grammar-directory = \"/nonexistent\"\nmaxretry = 3\nignoreip = [\"192.0.2.4\"]\n");
    let login = attempts("192.0.2.1", [70])
        .replace("Invalid user x", "Accepted password for x")
        .replace('\n', " ssh2\n");
    let failures = ["192.0.2.1", "192.0.2.4"].map(|who| attempts(who, 0..5));
    write("log", &(failures.concat() + &attempts("192.0.2.3", 10..13) + &login));
    let replay = |options: &str| {
        let command = format!("banstream replay --config here.toml {options} log; echo $?");
        shell(directory.path(), &command)
    };
    let logged_in =
        "2026-11-20 10:00:04 ban 192.0.2.1 for 1h (sshd, time 1); logged in at 2026-11-20 10:01:10\n";
    let other = "2026-11-20 10:00:04 ban 192.0.2.4 for 1h (sshd, time 1)\n";
    let summary = "14 lines, 2 bans of 2 offenders; 1 of them also logged in\nsshd: 13 auth-failure\n";
    assert_eq!(replay(""), format!("{logged_in}{other}{summary}0\n"));
    let json: Vec<Value> = replay("--json").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&json[0]["login"], &json[1]["login"]), (&json!("2026-11-20T10:01:10Z"), &Value::Null));
    assert_eq!((&json[2]["summary"]["logged_in"], &json[2]["summary"]["there"]), (&json!(1), &Value::Null));
    let differences = "\
192.0.2.1 earlier there; here since 2026-11-20 10:00:04 for 1h; there since 2026-11-20 10:00:02 for 1h
192.0.2.3 only there; there since 2026-11-20 10:00:12 for 1h
192.0.2.4 only here; here since 2026-11-20 10:00:04 for 1h
";
    let there = "there: 2 bans of 2 offenders; 1 of them also logged in\n1 only here\n1 only there\n1 earlier there\n";
    assert_eq!(replay("--against there.toml"), format!("{differences}{summary}{there}0\n"));
    let json: Vec<Value> = replay("--against there.toml --json")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of_one = json!({"since": "2026-11-20T10:00:12Z", "seconds": 3600});
    let only = json!({"address": "192.0.2.3", "changes": ["only-there"], "here": null, "there": of_one});
    assert_eq!(json[1], only);
    let changes = json!({"only-here": 1, "only-there": 1, "earlier": 1});
    assert_eq!(json[3]["summary"]["there"]["changes"], changes);
    let alike = "14 lines, 2 bans of 2 offenders; 1 of them also logged in\nsshd: 13 auth-failure\n\
                 there: 2 bans of 2 offenders; 1 of them also logged in\n0\n";
    assert_eq!(replay("--against here.toml"), alike);
}

#[test]
fn a_replay_says_what_no_rule_knows() {
    let directory = tempdir().unwrap();
    let line = |second: u32, message: String| {
        format!("2026-11-20T10:00:{second:02}+00:00 host sshd[{second}]: {message}\n")
    };
    // More than are looked at in a batch of a long log.
    let harmless = |second| line(second, "Server listening on 0.0.0.0 port 22.".to_owned());
    let unknown = |second| line(second, format!("Bad omen {second} over 192.0.2.{second}"));
    let log = (0..40).map(harmless).chain((40..43).map(unknown)).collect::<String>();
    fs::write(directory.path().join("log"), log).unwrap();
    fs::write(directory.path().join("c.toml"), "grammar-directory = \"/nonexistent\"\n").unwrap();
    let replay =
        |options: &str| shell(directory.path(), &format!("banstream replay --config c.toml {options} log"));
    let form = "Bad omen <num> over <ip>";
    assert_eq!(
        replay(""),
        format!(
            "43 lines, 0 bans of 0 offenders\nsshd: 3 lines or more name an address and match no rule: {form}\n"
        )
    );
    let json: Value = serde_json::from_str(&replay("--json")).unwrap();
    let last = json!({"lines": 3, "last": "2026-11-20T10:00:42Z", "template": form});
    assert_eq!(json["summary"]["unmatched"], json!([{"grammar": "sshd", "lines": 3, "templates": [last]}]));
}

#[test]
fn a_replay_comes_to_the_bans_of_the_daemon() {
    let daemon = Daemon::deciding("mode = \"observe\"\nprotect-logins = \"0s\"\njail.ftp.maxretry = 2");
    let begins = banstream::daemon::now().as_secs() - 300;
    let messages = [
        ("sshd", "Invalid user x from ADDRESS port 22"),
        ("sshd", "Failed password for invalid user x from ADDRESS port 22 ssh2"),
        ("sshd", "Accepted password for alice from ADDRESS port 22 ssh2"),
        ("vsftpd", "[x] FAIL LOGIN: Client \"ADDRESS\""),
        ("nginx", "ADDRESS - - [24/Nov/2026:00:00:00 +0000] \"GET /.env HTTP/1.1\" 404 5 \"-\" \"-\""),
        ("cron", "nothing of ADDRESS"),
    ];
    let line = |nth: i64| {
        let (program, message) = messages[(nth * nth % 31) as usize % messages.len()];
        let address = format!("198.18.7.{}", nth * 7 % 23);
        let time = banstream::model::Timestamp::from_secs(begins + nth / 4).to_string();
        let (tag, message) = (format!("{program}[{}]:", nth / 3), message.replace("ADDRESS", &address));
        json!({"time": time, "tag": tag, "message": message}).to_string()
    };
    let lines: Vec<String> = (0..1000).map(line).collect();
    fs::write(daemon.path("lines"), lines.join("\n") + "\n").unwrap();
    daemon.send(&lines);
    status(&daemon, 1000);
    let part = |ban: &Value| {
        ["address", "jail", "since", "until", "times", "kind", "mode"].map(|key| ban[key].clone())
    };
    let bans: Value =
        serde_json::from_str(&shell(daemon.as_ref(), "banstream bans --socket ./control --json")).unwrap();
    let mut live: Vec<_> = bans.as_array().unwrap().iter().map(part).collect();
    let replayed = shell(daemon.as_ref(), "banstream replay --config c.toml --json lines");
    let replayed = replayed.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut replayed: Vec<_> =
        replayed.filter(|line| line["summary"].is_null()).map(|ban| part(&ban)).collect();
    for bans in [&mut live, &mut replayed] {
        bans.sort_by_key(|ban| ban.iter().map(Value::to_string).collect::<String>());
    }
    assert!(live.len() > 30, "{live:?}");
    assert_eq!(live, replayed);
}

#[test]
fn a_daemon_lists_the_latest_bans_first_and_says_where_all_came_from() {
    let daemon = Daemon::deciding("");
    let now = jiff::Timestamp::now();
    // Each address a second after the one before, and all of them half a minute ago.
    let offence = |host: u8| {
        let at = now - jiff::SignedDuration::from_secs(40 - i64::from(host));
        let message = format!("Failed password for root from 198.51.100.{host} port 22 ssh2");
        (0..5).map(move |pid| json!({"time": at.to_string(), "tag": format!("sshd[{pid}]:"), "uid": "0", "message": message}).to_string())
    };
    daemon.send([3, 1, 2].into_iter().flat_map(offence));
    let status = status(&daemon, 15);
    let [grammar] = &status["grammars"].as_array().unwrap()[..] else { panic!("{status}") };
    let numbers = ["entries", "offences", "logins"].map(|key| grammar[key].as_u64());
    assert_eq!((&grammar["name"], numbers), (&json!("sshd"), [15, 15, 0].map(Some)));
    assert!(grammar["silent"].as_u64().unwrap() < 20);
    let sshd = status["jails"].as_array().unwrap().iter().find(|jail| jail["name"] == "sshd").unwrap();
    assert_eq!((&sshd["bans"], &sshd["banned"]), (&json!(3), &json!(3)));
    let lag = status["sources"][0]["lag"].as_u64().unwrap();
    assert!((36_000..60_000).contains(&lag), "{lag} ms");
    assert!(status["sources"][0]["silent"].as_u64().unwrap() < 20);
    let addresses = |options: &str| {
        let bans = shell(daemon.as_ref(), &format!("banstream bans --socket ./control --json {options}"));
        let bans: Vec<Value> = serde_json::from_str(&bans).unwrap();
        bans.iter().map(|ban| ban["address"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(addresses(""), ["198.51.100.1", "198.51.100.2", "198.51.100.3"]);
    assert_eq!(addresses("--last 9"), ["198.51.100.3", "198.51.100.2", "198.51.100.1"]);
    assert_eq!(addresses("--last 2"), ["198.51.100.3", "198.51.100.2"]);
    assert_eq!(addresses("--last 0"), Vec::<String>::new());
}

#[test]
fn a_file_of_which_nobody_knows_what_it_is_is_not_checked_as_a_grammar() {
    let folder = tempdir().unwrap();
    let log: String = (0..15_000).map(|n| format!("line {n} of a log\n")).collect();
    for name in ["run.log", "run", "x.grammar"] {
        fs::write(folder.path().join(name), &log).unwrap();
    }
    let check = |name: &str| {
        let output = Command::new(BANSTREAM).args(["check", name]).current_dir(&folder).output().unwrap();
        (output.status.code(), said(&output))
    };
    let what = "the name does not say what it is; end it in `.grammar`, `.list` or `.toml`";
    for name in ["run.log", "run"] {
        assert_eq!(check(name), (Some(1), format!("{name}:1:1: {what}\n")));
    }
    let (status, text) = check("x.grammar");
    assert!(status == Some(1) && text.lines().count() < 500, "{} lines", text.lines().count());
}

#[test]
fn a_bare_line_that_no_grammar_reads_gets_no_far_fetched_rule() {
    let folder = tempdir().unwrap();
    let lines = ["the quick brown fox jumps over the lazy dog", "Quit: who is there?"];
    fs::write(folder.path().join("lines"), lines.join("\n") + "\n").unwrap();
    let text = shell(folder.path(), "banstream explain <lines");
    assert_eq!(text.matches("no rule of any grammar begins like this line").count(), lines.len(), "{text}");
    assert!(!text.contains("closest"), "{text}");
}
