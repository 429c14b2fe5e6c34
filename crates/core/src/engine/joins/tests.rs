//! Which address a key stands for, in which order, and for how long.

use std::collections::HashMap;
use std::num::{NonZeroU8, NonZeroUsize};
use std::sync::Arc;

use super::*;
use crate::detect::{Growth, Jail, Settings, Watch};
use crate::engine::{BatchReport, Clock, Engine, GrammarTally, MANY, Unattested};
use crate::entry::records::Records;
use crate::entry::{Decoder, Format};
use crate::grammar::{Grammar, Grammars, Lists};
use crate::model::{Entry, JoinId, Mode, Sender, Widths};

const TEXT: &str = "program: p
key connection:
    conn=<key> from <ip>
    conn=<key> closed
x by connection:
    conn=<key> failed{: <text>}?
login by connection:
    conn=<key> welcome
x:
    gone <ip>
";

fn grammars(texts: &[&str]) -> Arc<Grammars> {
    let load = |(name, text): (u8, &&str)| {
        let name = char::from(name).to_string();
        Grammar::load(&name, &name, text, &Lists::shipped()).unwrap().0
    };
    Arc::new(Grammars::new((b'a'..).zip(texts).map(load).collect()).unwrap())
}

/// One jail that bans nobody, so that each offence leaves a trace.
fn settings() -> Settings {
    let jail = Jail {
        name: "j".into(),
        mode: Mode::Enforce,
        watches: vec![Watch { grammar: "a".into(), categories: vec!["x".into()] }],
        max_retry: NonZeroU8::MAX,
        find_time: Span::from_secs(1),
        distinct: None,
        ban_time: None,
        ports: [].into(),
        ignore: Vec::new(),
    };
    Settings {
        mode: Mode::Enforce,
        jails: vec![jail],
        ignore: Vec::new(),
        protect_logins: Span::from_secs(60),
        widths: Widths { v4: 32, v6: 128 },
        nat64: Vec::new(),
        max_offenders: NonZeroUsize::MAX,
        growth: Growth { factor: 1.0, cap: Span::ZERO, decay: Span::ZERO, jitter: 0.0 },
        widen: None,
    }
}

fn engine() -> Engine<'static> {
    Engine::new(settings(), grammars(&[TEXT]), Decoder::new(jiff::tz::TimeZone::UTC))
}

/// Takes these lines as one batch: who is said to have done what, and the tally.
fn take(engine: &mut Engine<'_>, lines: &[&str], unattested: Unattested) -> (Vec<String>, GrammarTally) {
    let mut records = Records::new(Format::Line);
    for line in lines {
        let head = if line.starts_with('{') { "" } else { "<38>Nov 22 05:39:38 " };
        records.push(format!("{head}{line}").as_bytes());
    }
    let now = Timestamp::from_secs(1_800_000_000);
    let BatchReport { tally, seen, evidence, .. } = engine.take(&mut records, Clock::At(now), unattested);
    let told = seen.traces.iter().map(|trace| {
        let (message, rule) = evidence.get(trace.nth).unwrap();
        format!("{} {rule} {}", trace.offender, String::from_utf8_lossy(message))
    });
    (told.collect(), tally.grammars.first().unwrap().clone())
}

/// Who is said to have done what in these lines, however they come in batches.
#[track_caller]
fn check(lines: &[&str], want: &[&str]) {
    assert_eq!(take(&mut engine(), lines, Unattested::Accept).0, want);
    let mut engine = engine();
    let single = lines.iter().flat_map(|line| take(&mut engine, &[line], Unattested::Accept).0);
    assert_eq!(single.collect::<Vec<_>>(), want);
}

#[test]
fn a_failure_is_of_the_address_that_was_named_last() {
    check(
        &[
            "h p[7]: conn=1 from 192.0.2.1",
            "h p[7]: gone 192.0.2.9",
            "h p[7]: conn=1 failed",
            "h p[7]: conn=2 failed",
        ],
        &["192.0.2.9 10 gone 192.0.2.9", "192.0.2.1 6 conn=1 failed"],
    );
    // The server uses the number again.
    check(
        &["h p[7]: conn=1 from 192.0.2.1", "h p[7]: conn=1 from 192.0.2.2", "h p[7]: conn=1 failed"],
        &["192.0.2.2 6 conn=1 failed"],
    );
    check(&["h p[7]: conn=1 from 192.0.2.1", "h p[7]: conn=1 closed", "h p[7]: conn=1 failed"], &[]);
    check(
        &["h p[7]: conn=1 from 192.0.2.1", "h p[7]: message repeated 2 times: [ conn=1 failed]"],
        &["192.0.2.1 6 conn=1 failed", "192.0.2.1 6 conn=1 failed"],
    );
}

#[test]
fn a_failure_that_is_written_just_before_the_address_waits_for_it() {
    let late = ["h p[7]: conn=1 failed: a", "h p[7]: gone 192.0.2.9", "h p[7]: conn=1 failed: b"];
    let named = ["h p[7]: conn=1 from 192.0.2.1", "h p[7]: conn=1 failed: c"];
    let of = |failed: &str| format!("192.0.2.1 6 conn=1 failed: {failed}");
    let gone = "192.0.2.9 10 gone 192.0.2.9".to_owned();
    let lines = [&late[..], &named].concat();
    assert_eq!(take(&mut engine(), &lines, Unattested::Accept).0, [of("a"), gone.clone(), of("b"), of("c")]);
    // The first of them waits for the next batch, whose other offences come after.
    let mut engine = engine();
    assert_eq!(take(&mut engine, &late[..1], Unattested::Accept).0, [""; 0]);
    let (found, tally) = take(&mut engine, &lines[1..], Unattested::Accept);
    assert_eq!(found, [of("a"), gone, of("b"), of("c")]);
    assert_eq!((tally.offences, tally.nameless), (vec![4], 0));
    assert_eq!(take(&mut engine, &named, Unattested::Accept).0, [of("c")]);
}

#[test]
fn who_waits_is_bounded_and_forgotten() {
    let named = "h p[7]: conn=1 from 192.0.2.1";
    let told = |lines: &[&str]| {
        let mut engine = engine();
        lines.iter().fold((0, 0), |(told, nameless), line| {
            let (_, tally) = take(&mut engine, &[line], Unattested::Accept);
            (told + tally.offences.iter().sum::<u64>(), nameless + tally.nameless)
        })
    };
    assert_eq!(told(&["h p[7]: conn=1 failed", named]), (1, 0));
    assert_eq!(told(&["h p[7]: conn=1 failed", "h p[7]: conn=1 closed", named]), (0, 1));
    assert_eq!(told(&["h p[7]: conn=1 failed", "h p[8]: conn=1 from 192.0.2.1"]), (0, 0));
    let flood = [&["h p[7]: conn=1 failed"; 1 + MOST_WAITING][..], &[named]].concat();
    assert_eq!(told(&flood), (MOST_WAITING as u64, 1));
    let flood = [&["h p[7]: conn=1 failed"][..], &["h p[7]: conn=2 failed"; MOST_WAITING], &[named]].concat();
    assert_eq!(told(&flood), (0, 1));
    // A second by the clock of the lines, which may be set back, whatever waits before it.
    for (second, want) in [(38, 1), (39, 1), (40, 0), (37, 1), (36, 0)] {
        let mut engine = engine();
        let mut records = Records::new(Format::Line);
        records.push(format!("<38>Nov 22 05:39:{second} h p[7]: conn=2 failed").as_bytes());
        records.push(b"<38>Nov 22 05:39:38 h p[7]: conn=1 failed");
        records.push(format!("<38>Nov 22 05:39:{second} {named}").as_bytes());
        let now = Timestamp::from_secs(1_800_000_000);
        let report = engine.take(&mut records, Clock::At(now), Unattested::Accept);
        assert_eq!(report.seen.traces.len(), want, "{second}");
    }
}

#[test]
fn each_process_of_each_host_has_keys_of_its_own() {
    let named =
        ["h p[7]: conn=1 from 192.0.2.1", "i p[7]: conn=1 from 192.0.2.2", "h p[8]: conn=1 from 192.0.2.3"];
    let failed =
        ["h p[7]: conn=1 failed", "i p[7]: conn=1 failed", "h p[8]: conn=1 failed", "i p[8]: conn=1 failed"];
    let want = ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(|address| format!("{address} 6 conn=1 failed"));
    check(&[&named[..], &failed].concat(), &want.each_ref().map(String::as_str));
}

#[test]
fn a_client_names_nobody() {
    check(
        &[
            "h p[7]: conn=1 from 192.0.2.1",
            "h p[7]: conn=1 failed: conn=1 from 203.0.113.9",
            "h p[7]: conn=1 failed: conn=2 failed",
            "h p[7]: conn=1 failed: conn=1 closed",
            "h p[7]: conn=1 failed",
        ],
        &[
            "192.0.2.1 6 conn=1 failed: conn=1 from 203.0.113.9",
            "192.0.2.1 6 conn=1 failed: conn=2 failed",
            "192.0.2.1 6 conn=1 failed: conn=1 closed",
            "192.0.2.1 6 conn=1 failed",
        ],
    );
}

#[test]
fn what_has_no_address_is_counted_apart() {
    let lines = ["h p[7]: conn=1 failed", "h p[7]: conn=1 welcome", "h p[7]: conn=1 closed"];
    let named = ["h p[7]: conn=1 from 192.0.2.1", "h p[7]: conn=1 failed", "h p[7]: conn=1 welcome"];
    let lines = [lines, named].concat();
    let mut engine = engine();
    let (told, tally) = take(&mut engine, &lines, Unattested::Accept);
    assert_eq!(told, ["192.0.2.1 6 conn=1 failed"]);
    assert_eq!((tally.nameless, tally.offences, tally.logins, tally.harmless), (2, vec![1], 1, 2));
    let logins: Vec<_> =
        engine.detector().take_changed_logins().iter().map(|login| login.offender.to_string()).collect();
    assert_eq!(logins, ["192.0.2.1"]);
}

#[test]
fn who_is_not_believed_names_nobody() {
    let line = |uid: &str, message: &str| format!(r#"{{"tag":"p:","uid":"{uid}","message":"{message}"}}"#);
    let told = |uid: &str, message: &str, unattested| {
        let lines = [&*line("0", "conn=1 from 192.0.2.1"), &line(uid, message), &line("0", "conn=1 failed")];
        let (told, tally) = take(&mut engine(), &lines, unattested);
        (told.join(""), tally.nameless, tally.forged.iter().count())
    };
    let of = |address: &str| format!("{address} 6 conn=1 failed");
    assert_eq!(told("0", "conn=1 from 192.0.2.2", Unattested::Refuse), (of("192.0.2.2"), 0, 0));
    assert_eq!(told("", "conn=1 from 192.0.2.2", Unattested::Accept), (of("192.0.2.2"), 0, 0));
    assert_eq!(told("", "conn=1 from 192.0.2.2", Unattested::Refuse), (of("192.0.2.1"), 0, 0));
    assert_eq!(told("1000", "conn=1 from 192.0.2.2", Unattested::Accept), (of("192.0.2.1"), 0, 1));
    assert_eq!(told("1000", "conn=1 closed", Unattested::Accept), (of("192.0.2.1"), 0, 1));
    assert_eq!(told("0", "conn=1 closed", Unattested::Accept), (String::new(), 0, 0));
    let (told, tally) = take(&mut engine(), &[&line("", "conn=1 failed")], Unattested::Refuse);
    assert_eq!((told.len(), tally.refused, tally.nameless), (0, 1, 0));
}

#[test]
fn keys_outlive_a_reload() {
    let mut engine = engine();
    take(&mut engine, &["h p[7]: conn=1 from 192.0.2.1"], Unattested::Accept);
    engine.reconfigure(settings(), grammars(&[TEXT, "program: q\nx:\n    a <ip>\n"]));
    assert_eq!(
        take(&mut engine, &["h p[7]: conn=1 failed"], Unattested::Accept).0,
        ["192.0.2.1 6 conn=1 failed"]
    );
}

/// Lines of many connections at once, in one batch that is spread over the cores, in batches of one, and as a map has it.
#[test]
fn lines_are_joined_in_their_order_on_however_many_cores() {
    let (mut dice, mut named, mut want) = (2_026_u64, HashMap::<_, String>::new(), Vec::new());
    let mut throw = |sides: u64| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) % sides
    };
    let mut lines = Vec::new();
    for nth in 0..4 * MANY {
        let (process, key) = (["h p[7]", "h p[8]", "i p[7]"][throw(3) as usize], throw(9));
        let (address, who) = (format!("198.51.100.{}", throw(250)), (process, key));
        let message = match throw(5) {
            0 => {
                named.insert(who, address.clone());
                format!("conn={key} from {address}")
            }
            1 => {
                named.remove(&who);
                format!("conn={key} closed")
            }
            2 => {
                want.push(format!("{address} 10 gone {address}"));
                format!("gone {address}")
            }
            _ => {
                // One that is not named is not named later: it would come at another place.
                let message =
                    format!("conn={} failed: {nth}", key + if named.contains_key(&who) { 0 } else { 9 });
                want.extend(named.get(&who).map(|address| format!("{address} 6 {message}")));
                message
            }
        };
        lines.push(format!("{process}: {message}"));
    }
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    assert!(want.len() > MANY);
    check(&lines, &want.iter().map(String::as_str).collect::<Vec<_>>());
}

fn key(number: usize) -> JoinKey {
    let (host, program, message) = (&b""[..], &b""[..], &b""[..]);
    let (time, sender) = (Timestamp::default(), Sender::default());
    let entry = Entry { time, host, program, pid: 7, message, cut: false, goes_on: false, times: 1, sender };
    JoinKey::new(JoinId::new("p", "k"), &entry, number.to_string().as_bytes()).unwrap()
}

fn address(number: usize) -> IpAddr {
    IpAddr::from((number as u32).to_be_bytes())
}

#[test]
fn the_key_longest_unused_makes_room() {
    let mut joins = Joins::default();
    let at = Timestamp::from_secs(100);
    for number in 0..MOST {
        joins.name(key(number), Some(address(number)), at);
    }
    // Used again, so the second is the oldest now.
    assert_eq!(joins.address(&key(0), at), Some(address(0)));
    for number in MOST..MOST + 2 {
        joins.name(key(number), Some(address(number)), at);
    }
    assert_eq!(joins.named.newest_first().count(), MOST);
    let known = |number| joins.address(&key(number), at) == Some(address(number));
    assert_eq!([0, 1, 2, 3, MOST + 1].map(known), [true, false, false, true, true]);
    for number in 0..2 * MOST {
        joins.name(key(number), None, at);
    }
    assert_eq!(joins.named.newest_first().count(), 0);
}

#[test]
fn a_key_is_forgotten_a_day_after_its_last_line() {
    let mut joins = Joins::default();
    let hours = |hours: u64| Timestamp::from_secs(100) + Span::from_secs(3600 * hours);
    joins.name(key(1), Some(address(1)), hours(0));
    assert_eq!(joins.address(&key(1), hours(24)), Some(address(1)));
    // A clock that goes back brings nothing forward.
    assert_eq!(joins.address(&key(1), hours(1)), Some(address(1)));
    assert_eq!(joins.address(&key(1), hours(48)), Some(address(1)));
    assert_eq!(joins.address(&key(1), hours(73)), None);
    assert_eq!(joins.named.newest_first().count(), 0);
}

#[test]
fn a_key_takes_as_much_room_as_is_said() {
    let room = size_of::<JoinKey>() + size_of::<Named>() + 2 * size_of::<u32>();
    assert!(room <= 140, "{room}");
}
