//! The report of a known week, and that nothing in it runs in a browser.

use serde_json::{Value, json};

use crate::common::week::{HOSTILE, Week};

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
    assert!(
        text.contains("\n198.51.100.155  1     1               5         2026-11-22 11:00  sshd\n"),
        "{text}"
    );
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
