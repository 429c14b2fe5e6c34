//! What the ledger keeps, and how it handles a file that cannot be used.

use std::num::NonZeroU32;

use tempfile::TempDir;

use super::migrations::MIGRATIONS;
use super::*;
use crate::engine::Evidence;
use crate::model::{Ban, BanOrigin, BanTerms, Mode, Port, Protocol, SessionId, Widths};

const LIMITS: Retention = Retention { keep: Span::from_secs(1000), max_rows: NonZeroU32::new(1000).unwrap() };
const NOW: Timestamp = Timestamp::from_secs(100);

/// A directory that goes when the test is over.
struct Directory(TempDir);

impl Directory {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn open(&self) -> Result<Ledger, LedgerError> {
        Ledger::open(self.0.path(), LIMITS)
    }

    fn file(&self) -> PathBuf {
        self.0.path().join(FILE)
    }
}

fn ban(offender: &str, until: Option<i64>) -> Ban {
    Ban {
        offender: offender.parse().unwrap(),
        times: 2,
        since: Timestamp::from_secs(1),
        until: until.map(Timestamp::from_secs),
        terms: Arc::new(BanTerms {
            jail: "sshd".into(),
            kind: BanOrigin::Auto,
            mode: Mode::Enforce,
            ports: [Port { protocol: Protocol::Tcp, number: 22 }].into(),
            reason: "it's \"that\"".into(),
        }),
    }
}

fn trace(second: i64, offender: &str, effect: WindowEffect) -> Trace {
    Trace {
        nth: 0,
        jail: "sshd".into(),
        offender: offender.parse().unwrap(),
        time: Timestamp::from_secs(second),
        grammar: None,
        category: None,
        session_id: SessionId::Process(7),
        host: u32::MAX,
        value: 0,
        effect,
        session: Some(Session::read(&[1, 0, 9, 0, 1, 0], Timestamp::from_secs(second))),
    }
}

fn memory(ledger: &Ledger) -> SavedState {
    ledger.memory(&Grammars::default()).unwrap()
}

fn decided(decisions: &[Decision]) -> LedgerUpdate {
    LedgerUpdate { decisions: decisions.to_vec().into(), ..LedgerUpdate::default() }
}

#[test]
fn what_is_written_is_there_after_a_restart() {
    let directory = Directory::new();
    let (lasting, over, lifted) =
        (ban("2001:db8::/64", None), ban("192.0.2.1", Some(10)), ban("192.0.2.2", Some(900)));
    let lasting = lasting.with(|ban| ban.mode = Mode::Observe);
    let traces = [WindowEffect::Counted, WindowEffect::Nothing].map(|effect| trace(5, "192.0.2.3", effect));
    let client = ClientProgress { instance: u64::MAX, taken: 3, tail: vec![1, u64::MAX] };
    let other = ClientProgress { instance: 1, ..ClientProgress::default() };
    {
        let mut ledger = directory.open().unwrap();
        let first = decided(&[&over, &lasting, &lifted].map(|ban| Decision::Ban(ban.clone())));
        let second = LedgerUpdate {
            traces: traces.to_vec(),
            decisions: vec![Decision::Unban(lifted)].into(),
            positions: vec![("journald".into(), "s=1;i=2".to_owned()), ("journald@x".into(), "y".to_owned())],
            clients: vec![client.clone(), other.clone()],
            ..LedgerUpdate::default()
        };
        let third = LedgerUpdate { clients: vec![client.clone()], ..LedgerUpdate::default() };
        ledger.write(&[first, second, third], NOW).unwrap();
        // A position that is read further is one without a start.
        let started =
            |place: &str| LedgerUpdate { starts: vec![(place.into(), 2)], ..LedgerUpdate::default() };
        let read = LedgerUpdate {
            positions: vec![("journald".into(), "s=1;i=2".to_owned())],
            ..LedgerUpdate::default()
        };
        ledger.write(&[started("journald"), started("journald@x"), read], NOW).unwrap();
    }
    let memory = memory(&directory.open().unwrap());
    assert_eq!(memory.bans, [over, lasting]);
    assert_eq!(memory.traces, traces);
    let places = [("journald".into(), "s=1;i=2".to_owned()), ("journald@x".into(), "y".to_owned())];
    assert_eq!(memory.positions, places.into());
    assert_eq!(memory.starts, [("journald".into(), 0), ("journald@x".into(), 2)].into());
    assert_eq!(memory.clients, [other, client]);
}

#[test]
fn a_page_that_says_all_ends_what_it_does_not_say() {
    let directory = Directory::new();
    let mut ledger = directory.open().unwrap();
    let (over, gone, new) = (ban("192.0.2.1", Some(10)), ban("192.0.2.2", None), ban("192.0.2.3", None));
    let before = LedgerUpdate {
        traces: vec![trace(1, "192.0.2.9", WindowEffect::Counted)],
        ..decided(&[Decision::Ban(over.clone()), Decision::Ban(gone)])
    };
    let counted = trace(2, "192.0.2.9", WindowEffect::Counted);
    let whole =
        LedgerUpdate { whole: true, traces: vec![counted.clone()], ..decided(&[Decision::Ban(new.clone())]) };
    ledger.write(&[before, whole], NOW).unwrap();
    let memory = memory(&ledger);
    assert_eq!(memory.bans, [over, new], "past bans stay");
    assert_eq!(memory.traces, [counted]);
    assert_eq!(ledger.size().unwrap().offences, 2, "and so does evidence");
}

/// What an operator lifted while the ledger missed it does not count for the next ban, nor do those before it.
#[test]
fn what_an_update_with_all_does_not_say_was_lifted() {
    let directory = Directory::new();
    let mut ledger = directory.open().unwrap();
    let again = |times, since, until| {
        let since = Timestamp::from_secs(since);
        Decision::Ban(Ban { times, since, ..ban("192.0.2.1", Some(until)) })
    };
    ledger.write(&[decided(&[again(3, 1, 5), again(4, 20, 5000)])], NOW).unwrap();
    let of_other = ban("192.0.2.2", None);
    let whole = LedgerUpdate { whole: true, ..decided(&[Decision::Ban(of_other.clone())]) };
    ledger.write(&[whole], NOW).unwrap();
    assert_eq!(memory(&ledger).bans, [of_other]);
}

#[test]
fn a_write_ends_at_its_time_and_leaves_nothing_half_done() {
    let directory = Directory::new();
    let mut ledger = directory.open().unwrap();
    let many = |net: u8| -> Vec<Decision> {
        (0..1000).map(|n| Decision::Ban(ban(&format!("10.{net}.{}.{}", n / 256, n % 256), None))).collect()
    };
    ledger.give_up_if(|| false).unwrap();
    ledger.write(&[decided(&many(1))], NOW).unwrap();
    ledger.give_up_if(|| true).unwrap();
    assert!(ledger.write(&[decided(&many(2))], NOW).is_err());
    drop(ledger);
    assert_eq!(memory(&directory.open().unwrap()).bans.len(), 1000);
}

#[test]
fn lines_are_read_beside_the_writer_by_what_became_of_them() {
    let directory = Directory::new();
    let mut ledger = directory.open().unwrap();
    let (fill, counted) =
        ([WindowEffect::Counted, WindowEffect::Nothing, WindowEffect::Filled(2)], [WindowEffect::Counted]);
    let effects = [&fill[..], &fill, &counted].concat();
    let update = |lines: &[&str], effects: &[WindowEffect]| {
        let traces =
            (0..).zip(effects).map(|(nth, effect)| Trace { nth, ..trace(nth as i64, "192.0.2.9", *effect) });
        let evidence = lines.iter().fold(Evidence::default(), |mut evidence, line| {
            evidence.push(line.as_bytes(), 7);
            evidence
        });
        LedgerUpdate { traces: traces.collect(), evidence, ..LedgerUpdate::default() }
    };
    ledger.write(&[update(&["a", "b", "c", "d", "e", "f", "g"], &effects)], NOW).unwrap();
    let check = |who: &str, role, most, want: &[&str]| {
        let reader = History::open(directory.0.path()).unwrap();
        let lines = reader.counted(who.parse().unwrap(), "sshd", role, most).unwrap();
        let messages: Vec<_> = lines.iter().map(|line| str::from_utf8(&line.message).unwrap()).collect();
        assert_eq!(messages, want);
    };
    check("192.0.2.9", Role::Evidence, 20, &["d", "f"]);
    check("192.0.2.9", Role::Evidence, 1, &["f"]);
    check("192.0.2.9", Role::Counted, 20, &["g"]);
    check("192.0.2.9", Role::Counted, 0, &[]);
    check("192.0.2.8", Role::Evidence, 20, &[]);

    // A ledger that missed something is told all there is, without messages.
    ledger
        .write(&[LedgerUpdate { whole: true, ..update(&[], &counted) }, update(&["h"], &counted)], NOW)
        .unwrap();
    check("192.0.2.9", Role::Counted, 2, &["g", "h"]);
}

#[test]
fn what_is_too_old_or_too_much_is_forgotten() {
    let directory = Directory::new();
    let mut ledger = directory.open().unwrap();
    let flood = |second, effect| {
        let traces = (0..5000).map(|_| trace(second, "192.0.2.9", effect)).collect();
        LedgerUpdate { traces, ..LedgerUpdate::default() }
    };
    let past = (1..=5000).map(|n: u32| {
        let offender = format!("10.0.{}.{}", n / 250, n % 250);
        let since = Timestamp::from_secs(i64::from(n % 50));
        Decision::Ban(Ban { since, ..ban(&offender, Some(i64::from(n % 50) + 10)) })
    });
    let bans = decided(&past.chain([Decision::Ban(ban("192.0.2.1", None))]).collect::<Vec<_>>());
    ledger.write(&[flood(50, WindowEffect::Filled(1)), bans, flood(60, WindowEffect::Counted)], NOW).unwrap();
    let LedgerSize { bytes, offences, bans, tallies } = ledger.size().unwrap();
    assert!(bytes > 0);
    assert_eq!(tallies, 1, "the sum of a flood is one row");
    assert_eq!(offences, 2000, "half of them evidence");
    assert_eq!(bans, 1001);
    let later = Timestamp::from_secs(1055);
    ledger.write(&[LedgerUpdate::default()], later).unwrap();
    assert_eq!(ledger.size().unwrap().offences, 1000);
    ledger.write(&[LedgerUpdate::default()], later + Span::from_secs(1000)).unwrap();
    let LedgerSize { offences, tallies, .. } = ledger.size().unwrap();
    assert_eq!((offences, tallies), (0, 1), "of the hour a part is still to be kept");
    ledger.write(&[LedgerUpdate::default()], later + Span::from_secs(3600)).unwrap();
    let LedgerSize { bans, tallies, .. } = ledger.size().unwrap();
    assert_eq!((bans, tallies), (1, 0), "a permanent ban stays");
}

#[test]
fn a_ledger_of_the_first_version_is_brought_up_to_date() {
    let directory = Directory::new();
    let old = Connection::open(directory.file()).unwrap();
    old.execute_batch(MIGRATIONS[0]).unwrap();
    old.execute_batch(
        "INSERT INTO ban VALUES ('192.0.2.1', 'sshd', 'auto', '[\"22/tcp\"]', 1000000, NULL, 2, 'it''s \"that\"');
         INSERT INTO position VALUES ('journald', 's=1');
         PRAGMA user_version = 1;",
    )
    .unwrap();
    drop(old);
    let memory = memory(&directory.open().unwrap());
    assert_eq!(memory.bans, [ban("192.0.2.1", None)]);
    assert_eq!(memory.positions["journald"], "s=1");
    assert_eq!(history(&directory).bans.len(), 1);
}

#[test]
fn a_ledger_of_each_version_keeps_its_bans_and_can_take_commands_back() {
    for version in 1..VERSION {
        let directory = Directory::new();
        let old = Connection::open(directory.file()).unwrap();
        MIGRATIONS[..version].iter().for_each(|migration| old.execute_batch(migration).unwrap());
        let columns = "offender, jail, kind, ports, since, until, times, reason";
        old.execute_batch(&format!(
            "INSERT INTO ban ({columns}) VALUES ('192.0.2.1', 'sshd', 'auto', '[\"22/tcp\"]', 1000000, NULL, 2, 'it''s \"that\"');
             PRAGMA user_version = {version};"
        ))
        .unwrap();
        drop(old);
        let mut ledger = directory.open().unwrap();
        assert_eq!(memory(&ledger).bans, [ban("192.0.2.1", None)], "version {version}");
        let step = undo_step(1, vec![UndoItem::Lifted(ban("192.0.2.1", None))]);
        ledger
            .write(&[LedgerUpdate { undo: step.updates().collect(), ..LedgerUpdate::default() }], NOW)
            .unwrap();
        drop(ledger);
        assert_eq!(memory(&directory.open().unwrap()).undo, [step], "version {version}");
    }
}

fn undo_step(id: i64, items: Vec<UndoItem>) -> UndoStep {
    UndoStep { id, at: NOW, command: format!("ban {id}").into(), pages: Some(vec![Arc::new(items)]) }
}

#[test]
fn what_can_be_taken_back_is_there_after_a_restart() {
    let directory = Directory::new();
    let exempt: Offender = "2001:db8::/32".parse().unwrap();
    let allowance = |until: Option<i64>| {
        let until = until.map(Timestamp::from_secs);
        Box::new(Allowance { offender: exempt, since: Timestamp::from_secs(7), until, comment: "us".into() })
    };
    let other = ban("192.0.2.2", Some(900));
    let other = other.with(|terms| (terms.mode, terms.ports) = (Mode::Observe, [].into()));
    let items = vec![
        UndoItem::NoBan("192.0.2.1".parse().unwrap(), "manual".into()),
        UndoItem::Replaced(ban("192.0.2.1", None)),
        UndoItem::Lifted(other),
        UndoItem::Allowance(exempt, None),
        UndoItem::Allowance(exempt, Some(allowance(None))),
        UndoItem::Allowance(exempt, Some(allowance(Some(800)))),
    ];
    let first = undo_step(1, items.clone());
    let too_much = UndoStep { id: 2, pages: None, ..first.clone() };
    let taken_back = undo_step(3, items[..1].to_vec());
    let mut ledger = directory.open().unwrap();
    let (one, two) = (undo_step(1, items[..2].to_vec()), undo_step(1, items[2..].to_vec()));
    let undo = [&one, &two, &undo_step(2, items.clone()), &too_much, &taken_back];
    let undo = undo.into_iter().flat_map(UndoStep::updates).chain([UndoUpdate::Forgotten(3)]);
    ledger.write(&[LedgerUpdate { undo: undo.collect(), ..LedgerUpdate::default() }], NOW).unwrap();
    drop(ledger);
    let mut ledger = directory.open().unwrap();
    assert_eq!(memory(&ledger).undo, [first.clone(), too_much]);
    let mut saved = memory(&ledger);
    assert!(saved.redate(Timestamp::from_secs(40)));
    assert_eq!(saved.undo[0].at, Timestamp::from_secs(40));
    let UndoItem::Lifted(moved) = &saved.undo[0].pages.as_ref().unwrap()[0][2] else { panic!() };
    assert_eq!(moved.until, Some(Timestamp::from_secs(840)), "it lasts no longer than it was to last");
    let whole = LedgerUpdate { whole: true, undo: first.updates().collect(), ..LedgerUpdate::default() };
    ledger.write(std::slice::from_ref(&whole), NOW).unwrap();
    assert_eq!(memory(&ledger).undo, [first]);
    ledger.write(&[LedgerUpdate::default()], NOW + UNDOABLE + Span::from_secs(1)).unwrap();
    assert_eq!(memory(&ledger).undo, []);
    let left = ledger.connection.query_row("SELECT count(*) FROM undo_item", [], |row| row.get::<_, i64>(0));
    assert_eq!(left.unwrap(), 0);
}

/// A ledger as version 9 wrote it, when an offender was a text and a ban was a row in each of two tables.
#[test]
fn a_ledger_with_texts_is_brought_up_to_date() {
    let directory = Directory::new();
    let old = Connection::open(directory.file()).unwrap();
    MIGRATIONS[..9].iter().for_each(|migration| old.execute_batch(migration).unwrap());
    old.execute_batch(
        r#"PRAGMA user_version = 9;
        INSERT INTO ban VALUES ('192.0.2.1', 'sshd', 'auto', '["22/tcp"]', 1000000, NULL, 2, 'it''s "that"', 'enforce'),
            ('192.0.2.2', 'sshd', 'auto', '[]', 7000000, 9000000, 1, '', 'enforce'),
            ('192.0.2.0/24', 'wide', 'wide', '[]', 9000000, 900000000, 1, '', 'enforce'),
            ('2001:db8::1', 'list', 'manual', '[]', 2000000, NULL, 1, 'a list', 'enforce');
        INSERT INTO history VALUES (1000000, '192.0.2.1', 'sshd', 'auto', 'enforce', NULL, 2, 'it''s "that"', NULL, NULL),
            (500000, '192.0.2.1', 'sshd', 'auto', 'enforce', 600000, 1, '', NULL, NULL),
            (7000000, '192.0.2.2', 'sshd', 'auto', 'enforce', 800000000, 1, '', 50000000, 'widened'),
            (9000000, '192.0.2.0/24', 'wide', 'wide', 'enforce', 900000000, 1, '', NULL, NULL),
            (3000000, '192.0.2.3', 'sshd', 'auto', 'enforce', 900000000, 1, '', 4000000, 'lifted');
        INSERT INTO tally VALUES (0, 'sshd', 'g', 'c', 5, 7), (0, 'sshd', 'g', 'c', 6, 1);
        INSERT INTO offence (id, time, offender, jail, grammar, heading, rule, message, pid, session, window, evidence) VALUES
            (1, 1000000, '192.0.2.9', 'sshd', 'g', 'c', 5, CAST('a' AS BLOB), 7, x'010009000100', 'past', 0),
            (2, 2000000, '192.0.2.9', 'sshd', 'g', 'c', 5, CAST('b' AS BLOB), 7, NULL, 'past', 1),
            (3, 3000000, '192.0.2.9', 'sshd', 'g', 'c', 5, CAST('c' AS BLOB), 7, NULL, 'past', 1),
            (4, 4000000, '192.0.2.9', 'sshd', 'g', 'c', 6, CAST('d' AS BLOB), 7, x'010009000100', 'counted', 1),
            (5, 5000000, '192.0.2.9', 'sshd', 'g', 'c', NULL, NULL, 7, NULL, 'nothing', 0),
            (6, 6000000, '192.0.2.9', 'sshd', 'g', 'c', 5, CAST('f' AS BLOB), 7, NULL, 'filled', 1),
            (7, 7000000, '192.0.2.9', 'sshd', 'g', 'c', 5, CAST('g' AS BLOB), 7, NULL, 'counted', 0),
            (8, 8000000, '2001:db8::/64', 'ftp', 'h', 'd', 5, CAST('h' AS BLOB), 7, NULL, 'counted', 0);"#,
    )
    .unwrap();
    drop(old);
    let SavedState { bans, traces, .. } = memory(&directory.open().unwrap());
    let bans: Vec<_> =
        bans.iter().map(|ban| format!("{} {} {:?}", ban.offender, ban.jail, ban.until)).collect();
    let want = [
        "192.0.2.1 sshd None",
        "2001:db8::1 list None",
        "192.0.2.2 sshd Some(Timestamp(9000000))",
        "192.0.2.0/24 wide Some(Timestamp(900000000))",
    ];
    assert_eq!(bans, want);
    let traces: Vec<_> = traces.iter().map(|trace| (trace.time.as_secs(), trace.effect)).collect();
    let (counted, filled) = (WindowEffect::Counted, WindowEffect::Filled(2));
    assert_eq!(traces, [(4, counted), (5, WindowEffect::Nothing), (6, filled), (7, counted), (8, counted)]);
    let rows = history(&directory);
    let told: Vec<_> = rows
        .bans
        .iter()
        .map(|past| (past.ban.offender.to_string(), past.ended.map(|(_, how)| how)))
        .collect();
    let want = [
        ("192.0.2.1", None),
        ("192.0.2.1", None),
        ("192.0.2.3", Some(BanEnd::Lifted)),
        ("192.0.2.2", Some(BanEnd::Widened)),
        ("192.0.2.0/24", None),
    ];
    assert_eq!(told, want.map(|(who, how)| (who.to_owned(), how)));
    assert_eq!(
        rows.tallies.iter().map(|tally| (tally.rule, tally.offences)).collect::<Vec<_>>(),
        [(5, 7), (6, 1)]
    );
    let reader = History::open(directory.0.path()).unwrap();
    let lines = |role| -> Vec<String> {
        let lines = reader.counted("192.0.2.9".parse().unwrap(), "sshd", role, 20).unwrap();
        lines.into_iter().map(|line| String::from_utf8(line.message).unwrap()).collect()
    };
    assert_eq!(
        (lines(Role::Evidence), lines(Role::Counted)),
        (vec!["d".into(), "f".into()], vec!["a".into(), "g".into()])
    );
}

#[test]
fn a_ban_that_was_shortened_or_lifted_stays_so_whatever_is_thrown_away() {
    let directory = Directory::new();
    let mut ledger = directory.open().unwrap();
    let since = |second, ban: Ban| Ban { since: Timestamp::from_secs(second), ..ban };
    let who = |last: u8| format!("192.0.2.{last}");
    let shortened = [ban(&who(1), None), since(5, ban(&who(1), Some(10)))].map(Decision::Ban);
    let lifted = [
        Decision::Ban(ban(&who(2), None)),
        Decision::Ban(since(5, ban(&who(2), None))),
        Decision::Unban(since(5, ban(&who(2), None))),
    ];
    let extended = [ban(&who(3), Some(200)), ban(&who(3), Some(900))].map(Decision::Ban);
    ledger.write(&[shortened, extended].map(|decisions| decided(&decisions)), NOW).unwrap();
    ledger.write(&[decided(&lifted)], NOW).unwrap();
    let known = |ledger: &Ledger| -> Vec<_> {
        memory(ledger).bans.iter().map(|ban| (ban.offender.to_string(), ban.until)).collect()
    };
    let at = |second| Some(Timestamp::from_secs(second));
    assert_eq!(known(&ledger), [(who(3), at(900)), (who(1), at(10))]);
    let before = history(&directory).bans.len();
    for _ in 0..5000 {
        ledger.write(&[decided(&[Decision::Ban(ban(&who(4), None))])], NOW).unwrap();
    }
    assert!(ledger.size().unwrap().bans < 1000, "thrown away");
    assert_eq!(known(&ledger), [(who(3), at(900)), (who(4), None), (who(1), at(10))]);
    assert_eq!(history(&directory).bans.len(), before + 1);
    // Long after all that, too.
    let later = NOW + Span::from_secs(700);
    ledger.write(&[decided(&[Decision::Ban(ban(&who(5), None))])], later).unwrap();
    ledger.write(&[decided(&[Decision::Ban(ban(&who(5), None))])], later + Span::from_secs(3600)).unwrap();
    assert_eq!(known(&ledger), [(who(4), None), (who(5), None)]);
}

#[test]
fn what_is_packed_is_written_as_it_was() {
    let written = |packed: bool| {
        let directory = Directory::new();
        let mut ledger = directory.open().unwrap();
        let traces = vec![
            trace(5, "192.0.2.9", WindowEffect::Counted),
            trace(6, "2001:db8::/64", WindowEffect::Counted),
        ];
        let decisions = [Decision::Ban(ban("192.0.2.1", Some(900))), Decision::Ban(ban("192.0.2.2", None))];
        let mut update = LedgerUpdate { traces, ..decided(&decisions) };
        if packed {
            update.pack();
            assert!(update.traces.is_empty() && update.decisions.is_empty() && !update.is_empty());
        }
        ledger.write(&[update], NOW).unwrap();
        let SavedState { bans, traces, .. } = memory(&ledger);
        assert_eq!((bans.len(), traces.len()), (2, 2));
        (bans, traces)
    };
    assert_eq!(written(true), written(false));
}

#[test]
fn nothing_is_thrown_away_while_most_bans_are_in_force() {
    let bans = |range: std::ops::Range<u32>| {
        let bans = range.map(|n| Decision::Ban(ban(&format!("10.0.{}.{}", n / 250, n % 250), None)));
        bans.collect::<Vec<_>>()
    };
    let rows = |in_force| {
        let directory = Directory::new();
        let mut ledger = directory.open().unwrap();
        ledger.write(&[LedgerUpdate::default()], NOW).unwrap();
        let all = [bans(0..5000), bans(0..1000)].concat();
        ledger.write(&[LedgerUpdate { in_force, ..decided(&all) }], NOW).unwrap();
        ledger.size().unwrap().bans
    };
    assert_eq!((rows(None), rows(Some(5000)), rows(Some(3000))), (5000, 6000, 5000));
}

/// What reports are made of, from the beginning to the end of time.
fn history(directory: &Directory) -> Rows {
    let ever = Timestamp::MAX;
    History::open(directory.0.path()).unwrap().rows(Timestamp::default(), ever).unwrap()
}

#[test]
fn every_ban_is_history_with_how_it_ended() {
    let directory = Directory::new();
    let mut ledger = directory.open().unwrap();
    let again = |second, until| Ban { since: Timestamp::from_secs(second), ..ban("192.0.2.1", Some(until)) };
    let wide = again(9, 99).with(|ban| (ban.kind, ban.jail) = (BanOrigin::Wide, "wide".into()));
    let wide = Ban { offender: "192.0.2.0/24".parse().unwrap(), ..wide };
    let (first, second, third) = (again(1, 2), again(5, 6), again(7, 8));
    let lifted = decided(&[Decision::Unban(first.clone())]);
    let widened = decided(&[Decision::Unban(third.clone()), Decision::Ban(wide)]);
    let [one, two, three] = [&first, &second, &third].map(|ban| decided(&[Decision::Ban(ban.clone())]));
    // An update with the whole state repeats a ban, which is the same one.
    let whole = LedgerUpdate { whole: true, ..decided(&[Decision::Ban(second)]) };
    ledger.write(&[one, lifted, two, whole, three, widened], NOW).unwrap();
    let known = memory(&ledger).bans;
    let known: Vec<_> = known.iter().map(|ban| (ban.since.as_secs(), ban.until.unwrap().as_secs())).collect();
    assert_eq!(known, [(7, 9), (9, 99)], "the next ban of who is in the prefix is not to count as a first");
    let told = |rows: Rows| -> Vec<_> {
        rows.bans.iter().map(|past| (past.ban.since.as_secs(), past.ended)).collect()
    };
    let widened = Some((Timestamp::from_secs(9), BanEnd::Widened));
    let want = [(1, Some((NOW, BanEnd::Lifted))), (5, None), (7, widened), (9, None)];
    assert_eq!(told(history(&directory)), want, "beside who writes it");
    drop(ledger);
    assert_eq!(told(history(&directory)), want, "and alone");
    let rows = History::open(directory.0.path()).unwrap();
    let rows = rows.rows(Timestamp::from_secs(5), Timestamp::from_secs(9)).unwrap();
    assert_eq!(rows.bans.len(), 2, "the end is not in it");
}

#[test]
fn offences_are_summed_up_by_the_hour_once() {
    let directory = Directory::new();
    let mut ledger = directory.open().unwrap();
    let of = |second, effect| trace(second, "192.0.2.9", effect);
    let traces = vec![
        of(1, WindowEffect::Counted),
        of(2, WindowEffect::Nothing),
        of(3, WindowEffect::Filled(2)),
        of(3601, WindowEffect::Counted),
    ];
    let update = LedgerUpdate { traces: traces.clone(), ..LedgerUpdate::default() };
    let whole = LedgerUpdate { whole: true, traces, ..LedgerUpdate::default() };
    ledger.write(&[update.clone(), update, whole], NOW).unwrap();
    let sums: Vec<_> =
        history(&directory).tallies.iter().map(|tally| (tally.hour.as_secs(), tally.offences)).collect();
    assert_eq!(sums, [(0, 4), (3600, 2)]);
}

/// What is said of a ledger that this was done to, and whether it is damaged.
#[track_caller]
fn check(damage: impl Fn(&Path), want: &str, corrupt: bool) {
    let directory = Directory::new();
    let mut ledger = directory.open().unwrap();
    let traces = (0..2000).map(|second| trace(second, "192.0.2.9", WindowEffect::Counted)).collect();
    ledger.write(&[LedgerUpdate { traces, ..LedgerUpdate::default() }], NOW).unwrap();
    drop(ledger);
    damage(&directory.file());
    let error = directory.open().err().unwrap();
    assert!(error.to_string().contains(want), "{error}");
    assert_eq!(error.is_corrupt(), corrupt, "{error}");
}

#[test]
fn a_ledger_that_cannot_be_used_is_told_from_one_that_is_damaged() {
    let garbage =
        |path: &Path| fs::write(path, "something else entirely, and long enough to look at").unwrap();
    check(garbage, "file is not a database", true);
    let cut = |path: &Path| {
        let file = File::options().write(true).open(path).unwrap();
        file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    };
    check(cut, "malformed", true);
    let overwrite = |path: &Path| {
        let mut bytes = fs::read(path).unwrap();
        bytes[8192..40_960].fill(0x55);
        fs::write(path, bytes).unwrap();
    };
    check(overwrite, "", true);
    let later = |path: &Path| {
        Connection::open(path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    };
    check(
        later,
        "it has version 99, but this banstream knows version 10; install a later one, or move the file away",
        false,
    );
    let folder = |path: &Path| {
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
    };
    check(folder, "unable to open", false);
}

#[test]
fn a_ledger_has_one_daemon_at_a_time() {
    let directory = Directory::new();
    let first = directory.open().unwrap();
    let error = directory.open().err().unwrap();
    assert!(error.is_locked() && !error.is_corrupt(), "{error}");
    drop(first);
    assert!(directory.open().is_ok());
}

#[test]
fn what_is_set_aside_keeps_its_bytes_and_takes_no_other_s_name() {
    let directory = Directory::new();
    for (text, want) in [("one", "ledger.db.now"), ("two", "ledger.db.now.1"), ("three", "ledger.db.now.2")] {
        fs::write(directory.file(), text).unwrap();
        let aside = Ledger::set_aside(directory.0.path(), "now").unwrap();
        assert_eq!(aside, Some(directory.0.path().join(want)));
        assert_eq!(fs::read_to_string(directory.0.path().join(want)).unwrap(), text);
        assert!(!directory.file().exists());
    }
    assert_eq!(Ledger::set_aside(directory.0.path(), "now").unwrap(), None);
}

#[test]
fn only_its_owner_reads_the_ledger_and_what_was_set_aside() {
    let directory = Directory::new();
    let state = directory.0.path().join("state");
    let modes = || -> Vec<(String, u32)> {
        let entries = fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().path());
        let mut modes: Vec<_> = entries
            .map(|path| {
                let mode = fs::metadata(&path).unwrap().mode() & 0o7777;
                (path.file_name().unwrap().to_string_lossy().into_owned(), mode)
            })
            .collect();
        modes.sort();
        modes
    };
    let private = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), 0o600)).collect::<Vec<_>>();
    let mut ledger = Ledger::open(&state, LIMITS).unwrap();
    ledger.write(&[decided(&[Decision::Ban(ban("192.0.2.1", None))])], NOW).unwrap();
    assert_eq!(fs::metadata(&state).unwrap().mode() & 0o7777, 0o700);
    assert_eq!(modes(), private(&["ledger.db", "ledger.db-shm", "ledger.db-wal", "ledger.lock"]));
    // As an earlier version left them.
    fs::write(state.join("ledger.db.20260101T000000"), "damaged").unwrap();
    fs::write(state.join("README"), "of somebody else").unwrap();
    let open = |path: &Path| fs::set_permissions(path, Permissions::from_mode(0o664)).unwrap();
    fs::read_dir(&state).unwrap().for_each(|entry| open(&entry.unwrap().path()));
    std::mem::forget(ledger.connection);
    drop(ledger._lock);
    let _ledger = Ledger::open(&state, LIMITS).unwrap();
    let mut want =
        private(&["ledger.db", "ledger.db-shm", "ledger.db-wal", "ledger.db.20260101T000000", "ledger.lock"]);
    want.insert(0, ("README".to_owned(), 0o664));
    assert_eq!(modes(), want);
}

#[test]
fn a_ledger_can_be_read_without_writing_anything() {
    let directory = Directory::new();
    let ban = ban("192.0.2.1", None);
    let mut writer = directory.open().unwrap();
    writer.write(&[decided(&[Decision::Ban(ban.clone())])], NOW).unwrap();
    // As after a crash: the file, and a log of what is not in it yet.
    let copy = Directory::new();
    for name in [FILE, "ledger.db-wal"] {
        fs::copy(directory.0.path().join(name), copy.0.path().join(name)).unwrap();
    }
    let before: Vec<_> =
        fs::read_dir(copy.0.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(memory(&Ledger::open_to_read(copy.0.path(), LIMITS).unwrap()).bans, [ban]);
    let after: Vec<_> =
        fs::read_dir(copy.0.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(before, after);
}

#[test]
fn a_file_that_was_taken_away_is_not_written_into() {
    let directory = Directory::new();
    let mut ledger = directory.open().unwrap();
    fs::remove_file(directory.file()).unwrap();
    assert!(ledger.write(&[LedgerUpdate::default()], NOW).unwrap_err().is_corrupt());
}

#[test]
fn the_line_that_told_of_an_offence_is_kept_with_its_rule() {
    use crate::detect::{Growth, Jail, Settings, Watch};
    use crate::engine::{BatchReport, Clock, Engine, Unattested};
    use crate::entry::records::Records;
    use crate::entry::{Decoder, Format};
    use crate::grammar::Grammar;

    let text = "program: p\n\na:\n    nothing <ip>\n    wrong <ip> <text>\n";
    let grammar = Grammar::load("g", "g.grammar", text, &crate::grammar::Lists::shipped()).unwrap().0;
    let jail = Jail {
        name: "j".into(),
        mode: Mode::Enforce,
        watches: vec![Watch { grammar: "g".into(), categories: vec!["a".into()] }],
        max_retry: 9.try_into().unwrap(),
        find_time: Span::from_secs(60),
        distinct: None,
        ban_time: None,
        ports: [].into(),
        ignore: Vec::new(),
    };
    let growth = Growth { factor: 1.0, cap: Span::ZERO, decay: Span::ZERO, jitter: 0.0 };
    let (ignore, widths, max_offenders) = (Vec::new(), Widths::default(), 9.try_into().unwrap());
    let protect_logins = Span::ZERO;
    let (mode, jails, widen) = (Mode::Enforce, vec![jail], None);
    let nat64 = Vec::new();
    let settings =
        Settings { mode, jails, ignore, protect_logins, widths, nat64, max_offenders, growth, widen };
    let grammars = std::sync::Arc::new(Grammars::new(vec![grammar]).unwrap());
    let mut engine = Engine::new(settings, grammars.clone(), Decoder::new(jiff::tz::TimeZone::UTC));
    let mut records = Records::new(Format::Line);
    let long = format!("<38>Nov 24 00:00:00 h p[7]: wrong 192.0.2.2 {}", "\u{e9}".repeat(400));
    for line in
        ["<38>Nov 24 00:00:00 h p[7]: harmless", "<38>Nov 24 00:00:00 h p[7]: wrong 192.0.2.1 \u{1b}x", &long]
    {
        records.push(line.as_bytes());
    }
    let BatchReport { seen, evidence, .. } = engine.take(&mut records, Clock::At(NOW), Unattested::Accept);

    let directory = Directory::new();
    let mut ledger = directory.open().unwrap();
    ledger
        .write(&[LedgerUpdate { traces: seen.traces, evidence, grammars, ..LedgerUpdate::default() }], NOW)
        .unwrap();
    let reader = History::open(directory.0.path()).unwrap();
    let mut rows = reader.sample(Timestamp::from_micros(i64::MIN), Timestamp::MAX, 9).unwrap();
    rows.reverse();
    let row = |(who, line): (Offender, OffenceLine)| {
        (format!("{who} {} {} {}", line.grammar, line.category, line.rule), line.message)
    };
    let rows: Vec<_> = rows.into_iter().map(row).collect();
    let cut = &long.as_bytes()[long.find("wrong").unwrap()..][..512];
    let want = [("192.0.2.1 g a 5", &b"wrong 192.0.2.1 \x1bx"[..]), ("192.0.2.2 g a 5", cut)];
    assert_eq!(rows, want.map(|(row, message)| (row.to_owned(), message.to_vec())));
}

#[test]
fn an_allowance_is_kept_until_it_is_taken_back() {
    let directory = Directory::new();
    let allowance = |offender: &str, until: Option<i64>| Allowance {
        offender: offender.parse().unwrap(),
        since: Timestamp::from_secs(1),
        until: until.map(Timestamp::from_secs),
        comment: "it's \"that\"".into(),
    };
    let all =
        [allowance("192.0.2.1", Some(10)), allowance("192.0.2.2", None), allowance("2001:db8::/32", None)];
    let update = |allowances: &[Allowance], whole| LedgerUpdate {
        whole,
        allowances: allowances.iter().map(|one| (one.offender, Some(one.clone()))).collect(),
        ..LedgerUpdate::default()
    };
    let mut ledger = directory.open().unwrap();
    let kept = |ledger: &Ledger| ledger.memory(&Grammars::default()).unwrap().allowances;
    let over = LedgerUpdate { allowances: vec![(all[1].offender, None)], ..LedgerUpdate::default() };
    ledger.write(&[update(&all, false), over], NOW).unwrap();
    assert_eq!(kept(&ledger), [all[0].clone(), all[2].clone()]);
    ledger.write(&[update(&all[1..2], true)], NOW).unwrap();
    assert_eq!(kept(&ledger), [all[1].clone()]);
}

#[test]
fn who_logged_in_is_known_after_a_restart() {
    let directory = Directory::new();
    let login = |offender: &str, at: i64, forgiven| Login {
        offender: offender.parse().unwrap(),
        at: Timestamp::from_secs(at),
        forgiven: (forgiven, Timestamp::from_secs(1)),
    };
    let update =
        |logins: &[Login], whole| LedgerUpdate { whole, logins: logins.to_vec(), ..LedgerUpdate::default() };
    let mut ledger = directory.open().unwrap();
    let kept = |ledger: &Ledger| ledger.memory(&Grammars::default()).unwrap().logins;
    let (one, other) = (login("192.0.2.1", 5, 0), login("2001:db8::/64", 7, 3));
    let later = login("192.0.2.1", 9, 1);
    ledger.write(&[update(&[one, other], false), update(&[later], false)], NOW).unwrap();
    assert_eq!(kept(&ledger), [later, other]);
    ledger.write(&[update(&[other], true)], NOW).unwrap();
    assert_eq!(kept(&ledger), [other]);
}
