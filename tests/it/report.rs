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
    check(&report, "/countries/0", json!({"country": "NL", "offenders": 66, "bans": 71}));
    check(
        &report,
        "/autonomous_systems/0",
        json!({"asn": 64_497, "as_name": "Example Hosting", "offenders": 65, "bans": 65}),
    );
    check(&report, "/offenders/0/country", json!("NL"));
    check(&report, "/user_lines", json!(863));
    check(&report, "/users/0", json!({"user": "root", "offences": 805, "offenders": 161}));
    check(&report, "/users/1/offences", json!(30));
    check(&report, "/before", json!(null));
    check(&report, "/lifted/0/address", json!("198.51.102.167"));
    check(&report, "/lifted/0/lifted", json!("2026-11-22T23:30:00+00:00"));
    check(&report, "/allowed/0/comment", json!("<b>on call</b>"));
}

#[test]
fn a_day_is_told_by_the_hour_and_an_hour_of_nothing_in_words() {
    let week = Week::new();
    let text = week.report("2026-11-21", "2026-11-22 12:00", &[]);
    assert!(
        text.contains("\n      181  offences (186 before)\n"),
        "what began at the end is not in it: {text}"
    );
    assert!(text.starts_with("banstream on "), "{text}");
    assert!(text.contains(" from 2026-11-21 00:00 to 2026-11-22 12:00 (UTC, +00:00)\n"), "{text}");
    assert!(
        text.contains(
            "\nBans and offences, by the hour\n\nHOUR              BANS                        OFFENCES\n"
        ) && text.contains("\nSat 21 Nov 02:00  1     ████████████████████  5         █████████████████\n"),
        "{text}"
    );
    assert!(
        text.contains("\n198.51.100.155  1     1               5         2026-11-22 11:00  sshd   NL AS64497 Example Hosting\n"),
        "{text}"
    );
    assert!(!text.contains('\u{1b}'), "{text}");
    let nothing = week.report("2026-11-20 00:30", "2026-11-20 00:40", &[]);
    assert!(nothing.contains("\n        0  bans (0 before)\n"), "{nothing}");
}

#[test]
fn a_time_is_compared_with_as_much_before_it_if_the_ledger_goes_back_that_far() {
    let week = Week::new();
    let report = |since: &str, until: &str| -> Value {
        serde_json::from_str(&week.report(since, until, &["--json"])).unwrap()
    };
    let parts = report("2026-11-18", "2026-11-20");
    let earlier = report("2026-11-16", "2026-11-18");
    for total in ["bans", "offenders", "offences", "repeat_offenders"] {
        check(&parts, &format!("/before/{total}"), earlier["totals"][total].clone());
    }
    check(&parts, "/before/since", json!("2026-11-16T00:00:00+00:00"));
    check(&parts, "/before/in_force", json!(null));
    // An hour is in one of the two.
    let halves = report("2026-11-18 12:30", "2026-11-20 00:30");
    let offences = |totals: &Value| totals["offences"].as_u64().unwrap();
    let both = offences(&report("2026-11-17 00:30", "2026-11-20 00:30")["totals"]);
    assert_eq!(offences(&halves["totals"]) + offences(&halves["before"]), both);
    let text = week.report("2026-11-18", "2026-11-20", &[]);
    assert!(
        text.contains("\nbefore: from 2026-11-16 00:00 to 2026-11-18 00:00\n\n       48  bans (48 before)\n"),
        "{text}"
    );
    assert!(!week.report("2026-11-18", "2026-11-22", &[]).contains("before:"), "the ledger is younger");
    assert!(week.report("2026-11-18", "2026-11-20", &["--html"]).contains("<small> 48 before</small>"));
}

#[test]
fn every_link_of_a_page_leads_somewhere() {
    let page = Week::new().report("2026-11-16", "2026-11-23", &["--html"]);
    let values = |before: &str| -> Vec<String> {
        page.split(before).skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
    };
    let (links, mut ids) = (values(" href=\""), values(" id=\""));
    assert!(links.len() > 20 && links.iter().all(|link| link.starts_with('#')), "{links:?}");
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all, "{ids:?}");
    let labels = values(" aria-labelledby=\"");
    let led = links.iter().map(|link| &link[1..]).chain(labels.iter().flat_map(|label| label.split(' ')));
    let lost: Vec<&str> = led.filter(|link| ids.binary_search(&(*link).to_owned()).is_err()).collect();
    assert_eq!(lost, [""; 0]);
}

#[test]
fn a_page_escapes_what_strangers_wrote() {
    let page = Week::new().report("2026-11-16", "2026-11-23", &["--html"]);
    assert!(
        page.contains("invalid user &lt;script&gt;document.title='owned'&lt;/script&gt;&lt;img src=x"),
        "{page}"
    );
    // A user name, and the name of a network.
    let cut = "&lt;script&gt;document.title='owned'&lt;/script&gt;";
    let cut = &cut[..cut.find("/script").unwrap() + 5];
    assert!(page.matches(cut).count() >= 4, "{page}");
    assert!(page.contains("&lt;b&gt;on call&lt;/b&gt;"), "{page}");
    assert!(!page.contains("<script") && !page.contains("<img"), "{page}");
    for elsewhere in ["http://", "https://", "url(", "@import", "src=\""] {
        assert!(!page.contains(elsewhere), "`{elsewhere}` in {page}");
    }
}
