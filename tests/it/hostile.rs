//! Whatever stands between two lines of an attack, the attack is seen.
//!
//! The engine reads what attackers and broken programs write: each test puts something hostile before, between and
//! behind five failed logins, and the fifth must earn the ban.

use std::sync::Arc;

use banstream::engine::{Clock, Engine, Tally, Unattested};
use banstream::entry::records::Records;
use banstream::entry::{Decoder, Format, journal};
use banstream::model::{Decision, Timestamp};

use crate::common::SHIPPED;

const ATTACKER: &str = "192.0.2.7";

fn engine() -> Engine<'static> {
    let loaded = &*SHIPPED;
    Engine::new(loaded.settings(), Arc::clone(&loaded.grammars), Decoder::new(jiff::tz::TimeZone::UTC))
}

/// Takes five failed logins with `hostile` around each, a second apart; what was banned, and all that was counted.
fn attack(format: Format, login: impl Fn(&mut Records, usize), hostile: &[&[u8]]) -> (Vec<String>, Tally) {
    let (mut engine, mut banned, mut total) = (engine(), Vec::new(), Tally::default());
    for number in 0..5 {
        let mut records = Records::new(format);
        hostile.iter().for_each(|record| records.push(record));
        login(&mut records, number);
        hostile.iter().for_each(|record| records.push(record));
        let report = engine.take(
            &mut records,
            Clock::At(Timestamp::from_secs(1_800_000_000 + number as i64)),
            Unattested::Accept,
        );
        total.add(report.tally);
        banned.extend(report.seen.decisions.iter().map(|decision| match decision {
            Decision::Ban(ban) | Decision::Unban(ban) => ban.offender.to_string(),
        }));
    }
    (banned, total)
}

/// What is hostile does no harm in lines of text, and none of it is lost count of.
#[track_caller]
fn check(hostile: &[&[u8]]) {
    let message =
        |pid: usize| format!("sshd[{pid}]: Failed password for root from {ATTACKER} port 4711 ssh2");
    let plain = |records: &mut Records, pid: usize| {
        records.push(format!("<38>Nov 22 05:39:38 {}", message(pid)).as_bytes())
    };
    let json = |records: &mut Records, pid: usize| {
        let text = format!(
            r#"{{"tag":"sshd[{pid}]:", "message":" Failed password for root from {ATTACKER} port 4711 ssh2"}}"#
        );
        records.push(text.as_bytes());
    };
    for login in [&plain as &dyn Fn(&mut Records, usize), &json] {
        let (banned, total) = attack(Format::Line, login, hostile);
        // The year that the plain line does not name is the nearest, so its ban may be over by now.
        assert!(banned.len() <= 1 && banned.iter().all(|who| who == ATTACKER), "{banned:?}");
        assert_eq!(total.offences(), 5);
        assert_eq!(total.entries as usize, 5 * (2 * hostile.len() + 1));
    }
    assert_eq!(attack(Format::Line, json, hostile).0, [ATTACKER]);
}

#[test]
fn bytes_that_are_no_text() {
    check(&[b"\0", b"\xff\xfe", b"", b"\n", b"\r", b"sshd[1]: \0\xff", b"<", b"<999>", b"[", b"\x1b[2J"]);
    check(&[b"Nov 22 05:39:38 h sshd[1]: Failed password for \xff\xfe\0 from \xff port 1 ssh2"]);
}

#[test]
fn lines_of_a_mebibyte() {
    for byte in [b'a', b' ', b'[', b'"', b'{', b'\\', b':'] {
        check(&[&vec![byte; 1 << 20]]);
        let mut line = b"Nov 22 05:39:38 h sshd[1]: Failed password for ".to_vec();
        line.resize(1 << 20, byte);
        check(&[&line]);
    }
}

#[test]
fn text_that_is_almost_a_rule() {
    let many = |text: &str| text.repeat((1 << 16) / text.len()).into_bytes();
    let head = b"Nov 22 05:39:38 h sshd[1]: Failed password for ".to_vec();
    let lines: Vec<Vec<u8>> =
        [" from ", " from 10.0.0.1 port ", " from 10.0.0.1 port 1 ssh", "invalid user "]
            .iter()
            .map(|text| [head.clone(), many(text)].concat())
            .collect();
    check(&lines.iter().map(Vec::as_slice).collect::<Vec<_>>());
}

#[test]
fn json_that_is_cut_or_forged() {
    check(&[
        br#"{"tag":"sshd[1]:", "message":" Failed password for root from 10.0.0.1 po"#,
        br#"{"tag":"sshd[1]:", "message":"\"#,
        br#"{"#,
        br#"{}"#,
        br#"{"tag":"sshd[1]:", "time":"9999-99-99T99:99:99Z", "message":" x"}"#,
        b"{\"tag\":\"sshd[1]:\", \"message\":\" \xff\0\\u0000\\ud800\"}",
        b"BEGIN TRANSACTION",
        b"COMMIT TRANSACTION",
    ]);
}

#[test]
fn times_that_never_were() {
    check(&[
        b"Feb 30 25:61:61 h sshd[1]: x",
        b"<34>1 9999-12-31T23:59:60Z h sshd 1 - - x",
        b"0000-00-00T00:00:00+99:99 h sshd[1]: x",
    ]);
}

#[test]
fn journal_records_that_are_none() {
    let login = |records: &mut Records, pid: usize| {
        records.push_with(|out| {
            journal::begin(out, Timestamp::from_secs(1_800_000_000 + pid as i64));
            journal::push(out, b"SYSLOG_IDENTIFIER=sshd");
            journal::push(out, format!("_PID={}", pid + 1).as_bytes());
            journal::push(
                out,
                format!("MESSAGE=Failed password for root from {ATTACKER} port 4711 ssh2").as_bytes(),
            );
        });
    };
    let hostile: &[&[u8]] = &[b"", b"short", b"12345678\xff\xff\xff\xff", b"12345678\0\0\0\0\x05\0\0\0MESS"];
    assert_eq!(attack(Format::Journal, login, hostile).0, [ATTACKER]);
}

#[test]
fn clocks_that_jump() {
    let mut engine = engine();
    let mut banned = Vec::new();
    for (number, second) in
        [1_800_000_000, 1_900_000_000, 1_700_000_000, 1_700_000_001, 0, 5].into_iter().enumerate()
    {
        let mut records = Records::new(Format::Line);
        for pid in 0..5 {
            let tag = format!("sshd[{}]:", 10 * number + pid + 1);
            let text = format!(
                r#"{{"tag":"{tag}", "message":" Failed password for root from 192.0.2.{number} port 1 ssh2"}}"#
            );
            records.push(text.as_bytes());
        }
        let report = engine.take(&mut records, Clock::At(Timestamp::from_secs(second)), Unattested::Accept);
        banned.push(report.seen.decisions.len());
    }
    assert_eq!(banned, [1; 6]);
}

/// Five failures from an address, after what seems to be a login from there written by this user: who is banned, and
/// how many lines are known to be forged.
#[track_caller]
fn after_a_login(uid: u32, want: (&[&str], u64)) {
    let (mut engine, mut banned, mut forged) = (engine(), Vec::new(), 0);
    for (pid, message) in
        (0..).zip(["Accepted password for root"].into_iter().chain(["Failed password for root"; 5]))
    {
        let mut records = Records::new(Format::Journal);
        records.push_with(|out| {
            journal::begin(out, Timestamp::from_secs(1_800_000_000 + pid));
            journal::push(out, b"SYSLOG_IDENTIFIER=sshd");
            journal::push(out, format!("_PID={}", pid + 1).as_bytes());
            journal::push(out, format!("_UID={}", if pid == 0 { uid } else { 0 }).as_bytes());
            journal::push(out, format!("MESSAGE={message} from {ATTACKER} port 4711 ssh2").as_bytes());
        });
        let report = engine.take(
            &mut records,
            Clock::At(Timestamp::from_secs(1_800_000_000 + pid)),
            Unattested::Accept,
        );
        forged += report
            .tally
            .grammars
            .iter()
            .flat_map(|tally| tally.forged.iter())
            .map(|(_, lines)| lines)
            .sum::<u64>();
        banned.extend(report.seen.decisions.iter().map(|_| ATTACKER));
    }
    assert_eq!((&*banned, forged), want);
}

#[test]
fn a_forged_login_protects_nobody() {
    after_a_login(0, (&[], 0));
    after_a_login(1000, (&[ATTACKER], 1));
}
