use std::num::{NonZeroU8, NonZeroUsize};

use super::*;
use crate::detect::{Growth, Jail, Watch};
use crate::entry::whole::JournalPiece;
use crate::entry::{Format, journal};
use crate::grammar::Lists;
use crate::model::{Mode, Offender, Span, Widths};

const GRAMMAR: &str =
    "program: app\nx:\n    failed <user> from <ip>\ntest:\n    - welcome bob from 192.0.2.1\n";

fn settings() -> Settings {
    Settings {
        mode: Mode::Enforce,
        jails: Vec::new(),
        ignore: Vec::new(),
        protect_logins: Span::ZERO,
        widths: Widths::default(),
        nat64: Vec::new(),
        max_offenders: NonZeroUsize::MIN,
        growth: Growth { factor: 1.0, cap: Span::from_secs(1), decay: Span::from_secs(1), jitter: 0.0 },
        widen: None,
    }
}

fn engine() -> Engine<'static> {
    let grammars =
        Grammars::new(vec![Grammar::load("app", "app", GRAMMAR, &Lists::shipped()).unwrap().0]).unwrap();
    Engine::new(settings(), Arc::new(grammars), Decoder::new(jiff::tz::TimeZone::UTC))
}

/// What a batch of these lines comes to.
fn take(engine: &mut Engine<'_>, lines: &[&str], unattested: Unattested) -> Tally {
    let mut records = Records::new(Format::Line);
    for line in lines {
        let head = if line.starts_with('{') { "" } else { "<38>Nov 22 05:39:38 " };
        records.push(format!("{head}{line}").as_bytes());
    }
    engine.take(&mut records, Clock::At(Timestamp::default()), unattested).tally.clone()
}

fn app(tally: &Tally) -> &GrammarTally {
    tally.grammars.first().unwrap()
}

fn json(uid: &str) -> String {
    format!(r#"{{"tag":"app:","uid":"{uid}","message":"failed bob from 192.0.2.1"}}"#)
}

#[test]
fn whose_lines_no_grammar_reads_is_said_where_it_is_asked_for_on_however_many_cores() {
    // More and more programs, in no order of their names.
    let line = |nth: usize| match nth % 5 {
        0 => "app: hello".to_owned(),
        1 => format!("[{nth}]"),
        step => format!("p{}: hello", nth / step * 7919 % 1000),
    };
    let lines: Vec<String> = (0..4 * MANY).map(|nth| format!("<38>Nov 22 05:39:38 {}", line(nth))).collect();
    let told = |engine: &mut Engine<'_>, lines: &[String]| {
        let mut records = Records::new(Format::Line);
        lines.iter().for_each(|line| records.push(line.as_bytes()));
        let report = engine.take(&mut records, Clock::At(Timestamp::default()), Unattested::Accept);
        let sum = report.ignored.iter().map(|(_, lines)| lines).sum::<u64>();
        (report.ignored.clone(), sum == report.tally.ignored)
    };
    let listed = |ignored: &IgnoredPrograms| {
        let programs = ignored.iter().map(|(program, lines)| (program.to_vec(), lines)).collect::<Vec<_>>();
        (programs, ignored.nameless().map(<[u8]>::to_vec))
    };
    let (mut engine, mut want) = (engine().telling_ignored(), IgnoredPrograms::default());
    // Too few at once to be spread.
    for few in lines.chunks(MANY / 2) {
        let (mut ignored, is_all) = told(&mut engine, few);
        assert!(is_all && ignored.nameless().is_some());
        want.append(&mut ignored);
    }
    let (together, is_all) = told(&mut engine, &lines);
    assert!(is_all && listed(&together).0.len() > MANY / 2);
    assert_eq!(listed(&together), listed(&want));
    assert_eq!(listed(&told(&mut self::engine(), &lines).0), (vec![], None));
}

#[test]
fn forged_lines_are_counted_by_who_wrote_them() {
    let (alice, bob, root) = (json("1000"), json("1001"), json("0"));
    let tally = take(&mut engine(), &[&alice, &bob, &alice, &root], Unattested::Refuse);
    assert_eq!(app(&tally).forged.iter().collect::<Vec<_>>(), [(Some(1000), 2), (Some(1001), 1)]);
    assert_eq!((tally.offences(), tally.unattested), (1, 0));
}

#[test]
fn an_unattested_line_counts_if_that_is_accepted() {
    let lines = ["app: failed bob from 192.0.2.1", &json(""), &json("0"), "app: hello", "other: hello"];
    let check = |unattested, want| {
        let tally = take(&mut engine(), &lines, unattested);
        assert_eq!((tally.offences(), app(&tally).refused, tally.unattested), want);
    };
    check(Unattested::Accept, (3, 0, 4));
    check(Unattested::Refuse, (1, 2, 4));
}

#[test]
fn nobody_here_attests_a_line_of_another_host() {
    let from = |host: &str, uid: &str| json(uid).replacen('{', &format!(r#"{{"host":"{host}","#), 1);
    let refused = |here: &str, line: &str| {
        let mut engine = engine();
        engine.name_host(here.as_bytes());
        let tally = take(&mut engine, &[line], Unattested::Refuse);
        (app(&tally).refused, tally.unattested, app(&tally).forged.iter().count(), tally.offences())
    };
    assert_eq!(refused("web1", &from("web1.example.org", "0")), (0, 0, 0, 1));
    assert_eq!(refused("web1", &from("web2", "0")), (1, 1, 0, 0));
    assert_eq!(refused("", &from("web2", "0")), (0, 0, 0, 1));
    // What speaks against a sender does so wherever that is.
    assert_eq!(refused("web1", &from("web2", "1000")), (0, 1, 1, 0));

    // A journal vouches for the host that wrote it.
    let mut records = Records::new(Format::Journal);
    records.push_with(|out| {
        crate::entry::journal::begin(out, Timestamp::default());
        let fields =
            ["MESSAGE=failed bob from 192.0.2.1", "SYSLOG_IDENTIFIER=app", "_UID=0", "_HOSTNAME=web2"];
        fields.iter().for_each(|field| crate::entry::journal::push(out, field.as_bytes()));
    });
    let mut engine = engine();
    engine.name_host(b"web1");
    let report = engine.take(&mut records, Clock::At(Timestamp::default()), Unattested::Refuse);
    assert_eq!((report.tally.offences(), report.tally.unattested), (1, 0));
}

#[test]
fn what_no_rule_knows_is_told_by_its_looks() {
    let mut engine = engine();
    let lines = [
        "app: wrong key for bob from 192.0.2.1",
        "app: wrong key for eve from 192.0.2.2",
        "app: gone 192.0.2.1",
        "app: welcome eve from 192.0.2.1",
        "app: hello",
    ];
    for line in lines {
        take(&mut engine, &[line], Unattested::Accept);
    }
    let (_, unmatched) = engine.unmatched().next().unwrap();
    let templates: Vec<_> = unmatched.templates().map(|kind| (kind.lines, kind.template.as_str())).collect();
    assert_eq!(templates, [(1, "gone <ip>"), (2, "wrong key for <user> from <ip>")]);
}

#[test]
fn a_host_where_an_address_belongs_is_told() {
    let mut engine = engine();
    let lines = [
        "app: failed bob from host-1.example",
        "app: failed eve from 203-0-113-9.dsl.example",
        "app: failed for.the.sake of bob",
        "app: failed bob from v1.2",
    ];
    for line in lines {
        take(&mut engine, &[line], Unattested::Accept);
    }
    let (_, unmatched) = engine.unmatched().next().unwrap();
    let templates: Vec<_> = unmatched.templates().map(|kind| (kind.lines, kind.template.as_str())).collect();
    assert_eq!(templates, [(3, "failed <word> from <host>")]);
}

#[test]
fn who_makes_nearly_all_requests_is_told() {
    let sole = |web: &str, peers: &dyn Fn(usize) -> usize, trusted: &[Offender]| {
        let grammar = format!("program: app\nx:\n    <ip> went wrong{web}\ntest:\n    - fine\n");
        let grammar = Grammar::load("app", "app", &grammar, &Lists::shipped()).unwrap().0;
        let grammars = Grammars::new(vec![grammar]).unwrap().trusting(trusted.iter().copied());
        let mut engine = Engine::new(settings(), Arc::new(grammars), Decoder::new(jiff::tz::TimeZone::UTC));
        let lines: Vec<String> =
            (0..600).map(|n| format!("app: 10.0.0.{} went wrong for \"x\"", peers(n))).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        take(&mut engine, &lines, Unattested::Accept);
        engine.sole_clients().map(|(_, address)| address.to_string()).collect::<Vec<_>>()
    };
    let web = "{ for \"<forwarded>\"}?";
    assert_eq!(sole(web, &|_| 5, &[]), ["10.0.0.5"]);
    assert_eq!(sole(web, &|n| n % 100, &[]), [""; 0]);
    assert_eq!(sole(" for <quoted>", &|_| 5, &[]), [""; 0]);
    assert_eq!(sole(web, &|_| 5, &["10.0.0.0/24".parse().unwrap()]), [""; 0]);
}

#[test]
fn of_a_flood_a_sample_is_looked_at() {
    let mut engine = engine();
    let flood = vec!["app: gone 192.0.2.1"; 100];
    let tally = take(&mut engine, &flood, Unattested::Accept);
    assert_eq!((app(&tally).harmless, app(&tally).unmatched), (100, LOOKED_AT));
    assert_eq!(engine.unmatched().next().map(|(_, unmatched)| unmatched.lines), Some(LOOKED_AT));
}

#[test]
fn a_reload_forgets_what_no_rule_knew_only_where_one_may_know_it_now() {
    let of = |name: &str, program: &str, rule: &str| {
        let text = format!("program: {program}\nx:\n    {rule}\n");
        Grammar::load(name, name, &text, &Lists::shipped()).unwrap().0
    };
    let grammars = |all: Vec<Grammar>| Arc::new(Grammars::new(all).unwrap());
    let unknown = |then: Vec<Grammar>| {
        let now = grammars(vec![of("app", "app", "lost <ip>"), of("web", "web", "lost <ip>")]);
        let mut engine = Engine::new(settings(), now, Decoder::new(jiff::tz::TimeZone::UTC));
        take(&mut engine, &["app: gone 192.0.2.1", "web: gone 192.0.2.1"], Unattested::Accept);
        engine.reconfigure(settings(), grammars(then));
        engine.unmatched().map(|(grammar, _)| grammar.name().to_owned()).collect::<Vec<_>>()
    };
    let (app, web) = (|| of("app", "app", "lost <ip>"), || of("web", "web", "lost <ip>"));
    assert_eq!(unknown(vec![app(), web()]), ["app", "web"]);
    assert_eq!(unknown(vec![web(), app()]), ["web", "app"]);
    assert_eq!(unknown(vec![web()]), ["web"]);
    assert_eq!(unknown(vec![of("app", "app", "gone <ip>"), web()]), ["web"]);
    assert_eq!(unknown(vec![app(), web(), of("more", "app", "gone <ip>")]), ["web"]);
    assert_eq!(unknown(vec![app(), web(), of("more", "*", "gone <ip>")]), [""; 0]);
}

/// How many offences, cut and unjudged messages these lines of one batch each, and of one batch together, come to.
#[track_caller]
fn pieces(lines: &[&str], want: (u64, u64, u64)) {
    let figures = |tally: &Tally| (tally.offences(), tally.messages.cut, tally.messages.unjudged);
    let mut engine = engine();
    let mut total = Tally::default();
    lines.iter().for_each(|line| total.add(&take(&mut engine, &[line], Unattested::Accept)));
    assert_eq!(figures(&total), want);
    // Enough of others that they are spread over the cores.
    let others = ["other: line"; MANY];
    let together: Vec<&str> = lines.iter().flat_map(|line| [&others[..], &[line]].concat()).collect();
    assert_eq!(figures(&take(&mut self::engine(), &together, Unattested::Accept)), want);
}

const ATTACK: &str = "failed bob from 192.0.2.1";

#[test]
fn what_follows_a_message_of_the_greatest_length_is_judged_by_nobody() {
    let (full, less) = (format!("app: {}", "x".repeat(1024)), format!("app: {}", "x".repeat(990)));
    let attack = format!("app: {ATTACK}");
    pieces(&[&less, &attack], (1, 0, 0));
    pieces(&[&full, &attack], (0, 1, 1));
    pieces(&[&full, &attack, &attack], (1, 1, 1));
    pieces(&[&full, &full, &attack, &attack], (1, 1, 2));
    // A process that writes meanwhile.
    pieces(&[&full, "app[7]: x", "other: x", &format!("app[8]: {ATTACK}"), &attack], (1, 1, 1));
    // The spaces before a piece are part of it.
    let spaces = format!("app:{}{}", " ".repeat(25), "x".repeat(1000));
    pieces(&[&spaces, &attack], (0, 1, 1));
}

#[test]
fn rsyslog_and_syslog_cut_by_their_header_too() {
    let of_length = |length: usize| format!("app: {}", "x".repeat(length - "app: ".len()));
    let attack = format!("app: {ATTACK}");
    pieces(&[&of_length(8096 - 20), &attack], (1, 1, 0));
    pieces(&[&of_length((8 << 10) - 25), &attack], (1, 1, 0));
    pieces(&[&of_length(1023 - 20), &attack], (1, 1, 0));
    pieces(&[&of_length(5000), &attack], (1, 0, 0));
}

#[test]
fn json_says_who_sent_a_message_and_how_long_it_was() {
    let line = |comm: &str, size: usize, text: &str| {
        format!(r#"{{"tag":"app:","comm":"{comm}","size":"{size}","message":" {text}"}}"#)
    };
    let full = "x".repeat(1024);
    let attack = line("app", 60, ATTACK);
    pieces(&[&line("logger", 1050, &full), &attack], (0, 1, 1));
    pieces(&[&line("", 1050, &full), &attack], (0, 1, 1));
    pieces(&[&line("app", 1050, &full), &attack], (1, 0, 0));
    pieces(&[&line("app", 8096, "x"), &attack], (1, 1, 0));
    let escaped = line("logger", 1050, &r"\u0041".repeat(1024));
    pieces(&[&escaped.replace("\\\\", "\\"), &attack], (0, 1, 1));
}

#[test]
fn a_sender_is_waited_for_no_longer_than_a_minute() {
    let mut engine = engine();
    let mut records = Records::new(Format::Line);
    records.push(format!("<38>Nov 22 05:39:38 app: {}", "x".repeat(1024)).as_bytes());
    records.push(format!("<38>Nov 22 05:40:39 app: {ATTACK}").as_bytes());
    let now = Timestamp::from_secs(1_800_000_000);
    assert_eq!(engine.take(&mut records, Clock::At(now), Unattested::Accept).tally.offences(), 1);
}

#[test]
fn a_journal_tells_how_much_of_a_piece_it_left_out() {
    let entry = |comm: &str, text: &str, raw: &str| {
        let mut part = JournalPiece::default();
        journal::begin(&mut part.record, Timestamp::default());
        for field in ["SYSLOG_IDENTIFIER=app", &format!("_COMM={comm}"), &format!("MESSAGE={text}"), raw] {
            part.take(field.as_bytes());
        }
        part.record
    };
    let check = |entries: [Vec<u8>; 2], want| {
        let mut records = Records::new(Format::Journal);
        entries.iter().for_each(|entry| records.push(entry));
        let tally =
            engine().take(&mut records, Clock::At(Timestamp::default()), Unattested::Accept).tally.clone();
        assert_eq!((tally.offences(), tally.messages.cut, tally.messages.unjudged), want);
    };
    let attack = || entry("logger", ATTACK, "");
    check([entry("logger", &"x".repeat(1024), ""), attack()], (0, 1, 1));
    check([entry("app", &"x".repeat(1024), ""), attack()], (1, 0, 0));
    let raw = format!("SYSLOG_RAW=<13>app: {}    ", "x".repeat(1020));
    check([entry("logger", &"x".repeat(1020), &raw), attack()], (0, 1, 1));
    check([entry("logger", &"x".repeat(1020), ""), attack()], (1, 0, 0));
}

#[test]
fn no_grammar_takes_a_line_from_others() {
    let base = "program: app\nshape log:\n    <ip> <status:num> \"<request:quoted>\"\nx in log:\n    status is 404\n";
    let load = |name: &str, text: &str| {
        Grammar::load_with(name, name, text, Grammar::base_of(text).and(Some(base)), &Lists::shipped())
            .unwrap()
            .0
    };
    let all = load("all", "extends: app\nany in log:\n    status starts 2 4\n");
    let probe = load("probe", "extends: app\nprobe in log:\n    request has admin\n");
    let own = load("own", "program: app\nown:\n    <ip> 404 \"<quoted>\"\n");
    let wide = load("wide", "program: a*\nwide:\n    <ip> 404 \"/admin\"\n");
    let grammars = Arc::new(Grammars::new(vec![load("app", base), all, probe, own, wide]).unwrap());
    let jail = |name: &str, watched: &[&str]| Jail {
        name: name.into(),
        mode: Mode::Enforce,
        watches: watched
            .iter()
            .zip([["any"], ["probe"], ["x"], ["own"], ["wide"]])
            .map(|(grammar, [category])| Watch {
                grammar: (*grammar).into(),
                categories: vec![category.into()],
            })
            .filter(|watch| !watch.grammar.is_empty())
            .collect(),
        max_retry: NonZeroU8::MAX,
        find_time: Span::from_secs(1),
        distinct: None,
        ban_time: None,
        ports: [].into(),
        ignore: Vec::new(),
    };
    let check = |line: &str, found: u64, jails: &[&str]| {
        let settings = Settings {
            jails: vec![
                jail("any", &["all"]),
                jail("probe", &["", "probe"]),
                jail("app", &["", "", "app"]),
                jail("own", &["", "", "", "own"]),
                jail("wide", &["", "", "", "", "wide"]),
                jail("each", &["all", "probe", "app", "own", "wide"]),
            ],
            ..settings()
        };
        let mut engine = Engine::new(settings, Arc::clone(&grammars), Decoder::new(jiff::tz::TimeZone::UTC));
        let mut records = Records::new(Format::Line);
        records.push(format!("<38>Nov 22 05:39:38 app: {line}").as_bytes());
        let report = engine.take(&mut records, Clock::At(Timestamp::default()), Unattested::Accept);
        let counted: Vec<&str> = report.seen.traces.iter().map(|trace| &*trace.jail).collect();
        assert_eq!((report.tally.offences(), &*counted), (found, jails), "{line}");
    };
    check("192.0.2.1 404 \"/admin\"", 5, &["any", "each", "probe", "app", "own", "wide"]);
    check("192.0.2.1 200 \"/admin\"", 2, &["any", "each", "probe"]);
    check("192.0.2.1 404 \"/\"", 3, &["any", "each", "app", "own"]);
    check("192.0.2.1 500 \"/admin\"", 1, &["probe", "each"]);
    check("192.0.2.1 500 \"/\"", 0, &[]);
}
