//! What a report tells of a week that is known, and that nothing in it runs in a browser.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test may panic

use std::fs;
use std::process::Command;
use std::sync::Arc;

use banstream::config::load;
use banstream::engine::{Clock, Engine, Unattested};
use banstream::entry::records::Records;
use banstream::entry::{Decoder, Format};
use banstream::model::{Allowance, Decision, Timestamp};
use banstream::store::{Ledger, Page};
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A directory with a configuration and the ledger of a week that ends at [`END`].
struct Week(TempDir);

/// 2026-11-23 00:00:00 UTC, a Monday.
const END: i64 = 1_795_392_000;
const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
const HOSTILE: &str =
    "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">\u{1b}[2J";

impl Week {
    /// Each hour an address of its own is banned, of a few networks; each night at two somebody who comes again.
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path();
        let text = format!(
            "grammar-directory = '/nonexistent'\nstate-directory = '{}'\nledger.keep = '100y'\n",
            path.display()
        );
        fs::write(path.join("c.toml"), text).unwrap();
        let loaded = load::load(Some(&path.join("c.toml"))).unwrap();
        let decoder = Decoder::new(TimeZone::UTC);
        let mut engine = Engine::new(loaded.settings(), Arc::clone(&loaded.grammars), decoder);
        let mut ledger = Ledger::open(path, loaded.config.ledger).unwrap();
        for hour in 0..7 * 24 {
            let at = END - 7 * DAY + hour * HOUR;
            let time = jiff::Timestamp::from_second(at).unwrap();
            let offender = if hour % 24 == 2 {
                "192.0.2.66".to_owned()
            } else {
                format!("198.51.{}.{hour}", 100 + hour % 5)
            };
            let user = if hour % 24 == 2 { &format!("invalid user {HOSTILE}") } else { "root" };
            let mut records = Records::new(Format::Line);
            for pid in 0..5 {
                let message = format!("Failed password for {user} from {offender} port 22 ssh2");
                records.push(format!("<38>{time} h sshd[{}]: {message}", hour * 5 + pid).as_bytes());
            }
            if hour % 6 == 0 {
                let message = "FAIL LOGIN: Client \"::ffff:203.0.113.9\"";
                records.push(format!("<38>{time} h vsftpd[7]: [eve] {message}").as_bytes());
            }
            let now = Timestamp::from_secs(at);
            let report = engine.take(&mut records, Clock::At(now), Unattested::Accept);
            let decisions = report.seen.decisions.clone();
            let (traces, evidence) = engine.traces();
            let grammars = Arc::clone(&loaded.grammars);
            let page = Page { traces, evidence, grammars, decisions, ..Page::default() };
            ledger.write(&[page], now).unwrap();
        }
        let now = Timestamp::from_secs(END - HOUR / 2);
        let lifted = engine.detector().unban("192.0.2.66".parse().unwrap());
        assert!(lifted.is_empty(), "it was over by then");
        let last = engine.detector().unban("198.51.102.167".parse().unwrap());
        assert!(matches!(last[..], [Decision::Unban(_)]));
        let by_hand = engine.detector().ban("203.0.113.0/24".parse().unwrap(), None, "scan", now);
        let allowance = Allowance {
            offender: "192.0.2.1".parse().unwrap(),
            since: now,
            until: None,
            comment: "<b>on call</b>".into(),
        };
        let page = Page {
            decisions: last.into_iter().chain(by_hand.ok()).collect(),
            allowances: vec![(allowance.offender, Some(allowance))],
            ..Page::default()
        };
        ledger.write(&[page], now).unwrap();
        Self(directory)
    }

    /// What `banstream report` prints of a time in this week.
    fn report(&self, since: &str, until: &str, arguments: &[&str]) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_banstream"))
            .args(["report", "--config", "c.toml", "--since", since, "--until", until])
            .args(arguments)
            .current_dir(self.0.path())
            .env("TZ", "UTC")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

/// What `pointer` finds in the report as JSON.
#[track_caller]
fn check(report: &Value, pointer: &str, want: Value) {
    assert_eq!(report.pointer(pointer), Some(&want), "{pointer}");
}

#[test]
fn a_week_is_told_as_it_was() {
    let week = Week::new();
    let report: Value = serde_json::from_str(&week.report("2026-11-16", "2026-11-23", &["--json"])).unwrap();
    let totals = json!({"bans": 168, "offenders": 163, "repeat_offenders": 1, "prefixes": 0, "by_hand": 1, "observed": 0, "lifted": 1,
        "offences": 863, "in_force": 1});
    check(&report, "/totals", totals);
    check(&report, "/since", json!("2026-11-16T00:00:00+00:00"));
    check(&report, "/step", json!("day"));
    assert_eq!(report["timeline"].as_array().unwrap().len(), 7);
    check(&report, "/timeline/6", json!({"since": "2026-11-22T00:00:00+00:00", "bans": 24, "offences": 119}));
    check(&report, "/jails/0", json!({"name": "sshd", "bans": 167, "offenders": 162, "offences": 835}));
    check(&report, "/jails/2", json!({"name": "ftp", "bans": 0, "offenders": 0, "offences": 28}));
    check(&report, "/rules/2/grammar", json!("vsftpd"));
    check(&report, "/rules/2/offences", json!(28));
    check(&report, "/offenders/0/address", json!("192.0.2.66"));
    check(&report, "/offenders/0/bans", json!(6));
    check(&report, "/offenders/0/times", json!(6));
    check(&report, "/offenders/0/offences", json!(30));
    check(&report, "/offenders/0/banned", json!(["2026-11-16T02:00:00+00:00", "2026-11-21T02:00:00+00:00"]));
    let line = HOSTILE.replace('\u{1b}', "\u{fffd}");
    let message = format!("Failed password for invalid user {line} from 192.0.2.66 port 22 ssh2");
    check(&report, "/offenders/0/lines/2/message", json!(message));
    check(&report, "/networks/0", json!({"network": "198.51.100.0/24", "offenders": 33, "bans": 33}));
    check(&report, "/lifted/0/address", json!("198.51.102.167"));
    check(&report, "/lifted/0/lifted", json!("2026-11-22T23:30:00+00:00"));
    check(&report, "/allowed/0/comment", json!("<b>on call</b>"));
}

#[test]
fn a_day_is_told_by_the_hour_and_an_hour_of_nothing_in_words() {
    let week = Week::new();
    let text = week.report("2026-11-21", "2026-11-22 12:00", &[]);
    assert!(text.contains("\n      181  offences\n"), "what began at the end is not in it: {text}");
    assert!(text.starts_with("banstream on "), "{text}");
    assert!(text.contains(" from 2026-11-21 00:00 to 2026-11-22 12:00 (UTC, +00:00)\n"), "{text}");
    assert!(
        text.contains("\nSat 21 Nov 02:00  1     5         ████████████████████████████████████████\n"),
        "{text}"
    );
    assert!(text.contains("\n198.51.100.155  1     1       5         2026-11-22 11:00  sshd\n"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
    let nothing = week.report("2026-11-20 00:30", "2026-11-20 00:40", &[]);
    assert!(nothing.contains("\n        0  bans\n"), "{nothing}");
}

#[test]
fn a_page_escapes_what_strangers_wrote() {
    let page = Week::new().report("2026-11-16", "2026-11-23", &["--html"]);
    assert!(
        page.contains("invalid user &lt;script&gt;document.title='owned'&lt;/script&gt;&lt;img src=x"),
        "{page}"
    );
    assert!(page.contains("&lt;b&gt;on call&lt;/b&gt;"), "{page}");
    assert!(!page.contains("<script") && !page.contains("<img"), "{page}");
    for elsewhere in ["http://", "https://", "url(", "@import", "src=\""] {
        assert!(!page.contains(elsewhere), "`{elsewhere}` in {page}");
    }
}
/// Opens the page in a real browser: what its title is in the end, and whether the browser complained.
#[test]
#[ignore = "needs chromium; contrib/test runs it"]
fn nothing_in_a_page_runs() {
    let week = Week::new();
    let page = week.0.path().join("report.html");
    let look = |text: &str| {
        fs::write(&page, text).unwrap();
        let output = Command::new("timeout")
            .args([
                "60",
                "chromium",
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--enable-logging=stderr",
            ])
            .args(["--dump-dom", &format!("--user-data-dir={}", week.0.path().join("profile").display())])
            .arg(format!("file://{}", page.display()))
            .output()
            .unwrap();
        let complaints = String::from_utf8_lossy(&output.stderr);
        let complaints = complaints.lines().filter(|line| line.contains(":CONSOLE")).map(str::to_owned);
        (String::from_utf8(output.stdout).unwrap(), complaints.collect::<Vec<_>>())
    };
    let text = week.report("2026-11-16", "2026-11-23", &["--html"]);
    let (seen, complaints) = look(&text);
    assert!(seen.contains("to 2026-11-23 00:00</title>"), "{seen}");
    assert_eq!(seen.matches("<rect").count(), 14, "{seen}");
    assert_eq!(complaints, [""; 0]);
    // Even if something were not escaped, the page's own policy would keep it from running, and say so.
    let (seen, complaints) = look(&text.replace("&lt;", "<").replace("&gt;", ">"));
    assert!(seen.contains("<img src=") && seen.contains("to 2026-11-23 00:00</title>"), "{seen}");
    assert!(complaints.iter().any(|line| line.contains("Content Security Policy")), "{complaints:?}");
}
