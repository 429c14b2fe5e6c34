//! `import list`: what it says of a list, and the bans that come of one, without a daemon and with one.

use std::fs;

use serde_json::{Value, json};

use crate::common::{Daemon, said, until};

/// What each line of these becomes, beside the 3 bans.
const MIXED: &str = "# a list
203.0.113.1
203.0.113.0/28 2d ; SBL1
203.0.113.1 1h # again
2001:db8::/48 forever # \u{1b}[2J
10.1.2.3
10.0.0.0/7
0.0.0.0/0
198.51.100.9
203.0.113.77 -3s
203.0.113.78 2020-01-01T00:00:00Z
";

/// A daemon that does not run yet, with this list in its folder.
fn daemon(list: &str) -> Daemon {
    let daemon = Daemon::new("mode = 'observe'\nignoreip = ['198.51.100.0/24']");
    fs::write(daemon.path("a.list"), list).unwrap();
    daemon
}

/// The exit status of `import list`, and what it says.
fn import(daemon: &Daemon, options: &str) -> (i32, String) {
    let words: Vec<&str> = "import list --config c.toml".split(' ').chain(options.split(' ')).collect();
    let output = daemon.output(&words);
    (output.status.code().unwrap(), said(&output))
}

#[track_caller]
fn report(daemon: &Daemon, options: &str) -> Value {
    let (_, text) = import(daemon, &format!("--json {options}"));
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"))
}

/// The bans in force: address, jail, reason and days left, rounded up; none for those without an end.
fn bans(daemon: &Daemon) -> Vec<Value> {
    let bans: Vec<Value> = serde_json::from_str(&daemon.get("/bans").unwrap()).unwrap();
    let days = |ban: &Value| ban["left"].as_u64().map(|left| left.div_ceil(86_400));
    bans.iter().map(|ban| json!([ban["address"], ban["jail"], ban["reason"], days(ban)])).collect()
}

#[test]
fn a_list_is_judged_before_anything_is_done() {
    let daemon = daemon(MIXED);
    let want = "a.list: 3 bans in 11 lines, 1 of them forever
left out: 1 duplicate, 1 private, 1 exempt, 2 over
a.list:4: 203.0.113.1 is in line 2 too
a.list:6: 10.1.2.3: 10.0.0.0/8 is private
a.list:9: 198.51.100.9: 198.51.100.0/24 is in `ignoreip`
wrong: 2 lines
a.list:7: 10.0.0.0/7 is wider than /8
a.list:8: 0.0.0.0/0 is wider than /8
";
    let nothing = "nothing was done; `--skip-wrong` goes on without the wrong lines\n";
    for options in ["a.list", "--write a.list"] {
        assert_eq!(import(&daemon, options), (1, format!("{want}{nothing}")), "{options}");
        assert!(!daemon.path("state/ledger.db").exists());
    }
    let command = "nothing was done; `banstream import list --write a.list` bans them\n";
    assert_eq!(import(&daemon, "--skip-wrong a.list"), (0, format!("{want}{command}")));
    let report = report(&daemon, "a.list");
    assert_eq!(
        report["notes"][0],
        json!({"line": 6, "kind": "private", "why": "10.1.2.3: 10.0.0.0/8 is private"})
    );
    assert_eq!((&report["wrong"], &report["taken"]), (&json!(2), &Value::Null));
}

#[test]
fn a_list_becomes_bans_without_a_daemon_and_with_one() {
    let daemon = daemon(MIXED);
    let taken = |report: &Value| {
        let counts =
            ["new", "extended", "covered", "exempt"].map(|what| report["taken"][what].as_u64().unwrap());
        (counts, report["to"].as_str().unwrap().to_owned())
    };
    let first = report(&daemon, "--skip-wrong --write a.list");
    assert_eq!(taken(&first), ([3, 0, 0, 0], "ledger".to_owned()));
    daemon.start();
    let want = [
        json!(["203.0.113.0/28", "list", "SBL1", 2]),
        json!(["203.0.113.1", "list", "list a.list", 7]),
        json!(["2001:db8::/48", "list", "\u{fffd}[2J", null]),
    ];
    assert_eq!(bans(&daemon), want);
    // The same again lasts longer by the moments between; a shorter one changes nothing.
    let shorter = report(&daemon, "--for 1d --skip-wrong --write a.list");
    assert_eq!(taken(&shorter), ([0, 1, 2, 0], "daemon".to_owned()));
    // An exemption by hand, and an operator's ban beside the list's.
    daemon.tell("ban 203.0.113.1 --for 1h --reason mine");
    daemon.tell("allow 203.0.113.99");
    fs::write(daemon.path("b.list"), "ip,comment\n203.0.113.99,x\n203.0.113.50,\"a, b\"\n").unwrap();
    let (status, text) = import(&daemon, "--write --for forever --reason z b.list");
    let want_text = "b.list: 2 bans in 3 lines, 2 of them forever
taken over into the running daemon: 1 new, 1 exempt, 1 only observed
203.0.113.50: `list` only observes
203.0.113.99: 203.0.113.99 is exempted by hand
`banstream unban --jail list` lifts all bans of lists
";
    assert_eq!((status, text.as_str()), (0, want_text));
    assert!(daemon.tell("why 203.0.113.50").contains(" by list, "));
    assert_eq!(bans(&daemon).len(), 5);
    assert_eq!(daemon.tell("unban 203.0.113.50"), "unbanned 203.0.113.50 (list)\n");
    let lifted = daemon.tell("unban --jail list");
    assert!(lifted.starts_with("lifted 3 bans:\n"), "{lifted}");
    assert!(daemon.tell("undo").starts_with("took back `unban --jail list` of "));
    assert!(daemon.tell("undo").starts_with("took back `unban 203.0.113.50` of "));
    let undone = daemon.tell("undo");
    assert!(undone.starts_with("took back `import` of "), "{undone}");
    assert_eq!(bans(&daemon).len(), 4);
    daemon.tell("unban --jail list");
    assert_eq!(bans(&daemon), [json!(["203.0.113.1", "manual", "mine", 1])]);
    // They are gone for the next daemon too.
    daemon.stop();
    daemon.start();
    assert_eq!(bans(&daemon).len(), 1);
    // What was taken over without a daemon, the next one can take back.
    daemon.stop();
    assert_eq!(report(&daemon, "--skip-wrong --write a.list")["to"], "ledger");
    daemon.start();
    assert!(bans(&daemon).len() > 1);
    let undone = daemon.tell("undo");
    assert!(undone.starts_with("took back `import` of "), "{undone}");
    assert_eq!(bans(&daemon), [json!(["203.0.113.1", "manual", "mine", 1])]);
}

#[test]
fn more_than_a_page_is_taken_over_and_is_no_news() {
    let list: String = (0..2500).map(|n| format!("203.0.{}.{}\n", 100 + n / 250, n % 250)).collect();
    let daemon = daemon(&list);
    let program = daemon.script("receiver", "cat >>news");
    daemon
        .configure(&format!("mode = 'observe'\nnotify.ops.command = ['{program}']\nnotify.ops.delay = '0s'"));
    daemon.start();
    let report = report(&daemon, "--write a.list");
    assert_eq!((&report["taken"]["new"], &report["taken"]["observed"]), (&json!(2500), &json!(2500)));
    assert_eq!(report["taken"]["examples"].as_array().unwrap().len(), 20);
    let status = daemon.status();
    assert_eq!((&status["banned"], &status["bans"]), (&json!(2500), &json!(0)));
    // News comes in order: a ban by hand is the first.
    daemon.tell("ban 198.51.100.1");
    until("it is told", || daemon.file("news").contains("198.51.100.1"));
    assert!(!daemon.file("news").contains("203.0."), "{}", daemon.file("news"));
    let pages = daemon.log().matches("took over bans: ").count();
    assert_eq!(pages, 3, "{}", daemon.log());
    daemon.stop();
    daemon.start();
    assert_eq!(daemon.status()["banned"], 2501);
}

#[test]
fn what_cannot_be_read_is_named() {
    let daemon = daemon("");
    let check = |options: &str, want: (i32, &str)| {
        let (status, text) = import(&daemon, options);
        assert_eq!((status, text.as_str()), want);
    };
    check("none.list", (2, "error: cannot read `none.list`: No such file or directory (os error 2)\n"));
    check("a.list", (0, "a.list: 0 bans in 0 lines\nnothing to do\n"));
    fs::write(daemon.path("b.list"), "\n192.0.2.1,x\n").unwrap();
    let heading = "a heading of CSV has one of the columns ip, address, value, range, cidr, network";
    check("b.list", (2, &format!("error: cannot read `b.list`: line 2: {heading}\n")));
    fs::write(daemon.path("b.list"), format!("203.0.113.1\n{}\n", "x".repeat(1 << 16))).unwrap();
    check("b.list", (2, "error: cannot read `b.list`: line 2 is longer than 65536 bytes\n"));
}

#[test]
fn a_list_goes_to_the_daemon_that_the_environment_names() {
    let daemon = daemon("203.0.113.1\n");
    daemon.start();
    // This configuration is of another, which does not run.
    let other = Daemon::new("");
    let config = other.path("c.toml").display().to_string();
    let output = daemon.output(&["import", "list", "--config", &config, "--write", "a.list"]);
    assert!(said(&output).contains("taken over into the running daemon: 1 new"), "{}", said(&output));
    assert!(!other.path("state").exists());
    assert_eq!(bans(&daemon).len(), 1);
    daemon.stop();
    let output = daemon.output(&["import", "list", "--config", &config, "--write", "a.list"]);
    let place = format!("taken over into the ledger in `{}`: 1 new", other.path("state").display());
    assert!(said(&output).contains(&place), "{}", said(&output));
}
