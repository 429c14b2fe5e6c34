//! Decisions of the detector.

use super::*;
use proptest::prelude::{Just, Strategy};

use crate::grammar::{Grammar, Lists};
use crate::model::{CategoryId, GrammarId, RuleGroupId, SessionId};

const GROWTH: Growth =
    Growth { factor: 2.0, cap: Span::from_secs(10_000), decay: Span::from_secs(1_000_000), jitter: 0.0 };

fn jail(name: &str, category: &str, max_retry: u8) -> Jail {
    Jail {
        name: name.into(),
        mode: Mode::Enforce,
        watches: vec![Watch { grammar: "g".into(), categories: vec![category.into()] }],
        max_retry: NonZeroU8::new(max_retry).unwrap(),
        find_time: Span::from_secs(60),
        distinct: None,
        ban_time: Some(Span::from_secs(100)),
        ports: [].into(),
        ignore: Vec::new(),
    }
}

fn settings(jails: &[Jail]) -> Settings {
    Settings {
        mode: Mode::Enforce,
        jails: jails.to_vec(),
        ignore: vec![("198.51.100.0/24".parse().unwrap(), ExemptionList::Ignored)],
        protect_logins: Span::from_secs(1000),
        widths: Widths::default(),
        nat64: Vec::new(),
        max_offenders: NonZeroUsize::new(100).unwrap(),
        growth: GROWTH,
        widen: None,
    }
}

fn grammars() -> Grammars {
    let text = "program: p\na:\n    a <ip>\n    again <ip>\nb:\n    b <ip>\n";
    Grammars::new(vec![Grammar::load("g", "g.grammar", text, &Lists::shipped()).unwrap().0]).unwrap()
}

/// An offence of category a (0) or b (1), on a connection of its own.
fn offence(second: i64, address: &str, category: u16) -> Offence {
    Offence {
        time: Timestamp::from_secs(second),
        address: address.parse().unwrap(),
        grammar: GrammarId(0),
        category: CategoryId(category),
        group: RuleGroupId(0),
        session_id: SessionId::Process(second as u32),
        host: 0,
        value: 0,
        is_further: false,
    }
}

/// The detector after these (second, address) offences of category a, at their own times.
fn after(settings: Settings, offences: &[(i64, &str)]) -> (Detector, Seen) {
    let (mut detector, mut seen) = (Detector::new(settings, &grammars()), Seen::default());
    for (second, address) in offences {
        detector.expire(Timestamp::from_secs(*second));
        detector.observe(&offence(*second, address, 0), Timestamp::from_secs(*second), &mut seen);
    }
    (detector, seen)
}

/// The bans that these offences earn in a jail of 3 in 60 s, as offender, since and until.
#[track_caller]
fn check(offences: &[(i64, &str)], want: &[(&str, i64, i64)]) {
    let (_, seen) = after(settings(&[jail("j", "a", 3)]), offences);
    let bans: Vec<_> = seen
        .decisions
        .iter()
        .map(|decision| match decision {
            Decision::Ban(ban) => {
                (ban.offender.to_string(), ban.since.as_secs(), ban.until.unwrap().as_secs())
            }
            Decision::Unban(ban) => panic!("{ban:?} lifted"),
        })
        .collect();
    assert_eq!(bans.iter().map(|(o, s, u)| (o.as_str(), *s, *u)).collect::<Vec<_>>(), want);
}

#[test]
fn the_third_offence_earns_a_ban() {
    check(
        &[(1, "192.0.2.1"), (2, "192.0.2.2"), (3, "192.0.2.1"), (4, "192.0.2.1")],
        &[("192.0.2.1", 4, 104)],
    );
    check(&[(1, "192.0.2.1"), (2, "192.0.2.1"), (63, "192.0.2.1")], &[]);
}

#[test]
fn an_ipv6_attacker_cannot_rotate_inside_its_64() {
    check(&[(1, "2001:db8::1"), (2, "2001:db8::2"), (3, "2001:db8::3:4")], &[("2001:db8::/64", 3, 103)]);
}

#[test]
fn the_second_ban_lasts_twice_as_long() {
    let nine: Vec<_> = [1, 2, 3, 201, 202, 203, 501, 502, 503].map(|at| (at, "192.0.2.1")).to_vec();
    check(&nine, &[("192.0.2.1", 3, 103), ("192.0.2.1", 203, 403), ("192.0.2.1", 503, 903)]);
}

#[test]
fn a_ban_is_past_once_it_is_over_with_what_was_heard_meanwhile() {
    let who: Offender = "192.0.2.1".parse().unwrap();
    let (mut detector, mut seen) = after(settings(&[jail("j", "a", 1)]), &[(3, "192.0.2.1")]);
    let secs = Timestamp::from_secs;
    assert_eq!(detector.prior(who, "j"), PriorBans { bans: 1, ended: secs(103) });
    assert_eq!(detector.past.newest_first().count(), 0, "while it is in force it says so itself");
    detector.remember_elsewhere(who, "j", 3, secs(50));
    let known = PriorBans { bans: 3, ended: secs(103) };
    assert_eq!(detector.prior(who, "j"), known);
    detector.expire(secs(103));
    assert_eq!((detector.prior(who, "j"), detector.past.newest_first().count()), (known, 1));
    detector.observe(&offence(104, "192.0.2.1", 0), secs(104), &mut seen);
    assert_eq!((detector.prior(who, "j").bans, detector.past.newest_first().count()), (4, 0));
    detector.unban(who);
    assert_eq!(detector.prior(who, "j"), PriorBans::default());
}

#[test]
fn a_protected_address_is_not_banned() {
    let (detector, seen) = after(settings(&[jail("j", "a", 2)]), &[(1, "198.51.100.9"), (2, "198.51.100.9")]);
    let exempted = ExemptedBan {
        offender: "198.51.100.9".parse().unwrap(),
        jail: "j".into(),
        by: Exemption::Listed("198.51.100.0/24".parse().unwrap(), ExemptionList::Ignored),
    };
    assert_eq!((seen.exempted, seen.decisions, detector.banned()), (vec![exempted], vec![], 0));
}

#[test]
fn jails_count_their_own_categories() {
    let (mut detector, mut seen) =
        after(settings(&[jail("j", "a", 2), jail("k", "b", 2)]), &[(1, "192.0.2.1")]);
    detector.observe(&offence(2, "192.0.2.1", 1), Timestamp::from_secs(2), &mut seen);
    assert_eq!((seen.decisions.len(), seen.counted), (0, 2));
    detector.observe(&offence(3, "192.0.2.1", 1), Timestamp::from_secs(3), &mut seen);
    let [Decision::Ban(ban)] = &*seen.decisions else { panic!("{seen:?}") };
    assert_eq!(&*ban.jail, "k");
}

#[test]
fn a_banned_offender_earns_no_second_ban() {
    let (detector, seen) = after(
        settings(&[jail("j", "a", 2)]),
        &[(1, "192.0.2.1"), (2, "192.0.2.1"), (3, "192.0.2.1"), (4, "192.0.2.1")],
    );
    assert_eq!((seen.decisions.len(), seen.banned_already, detector.banned()), (1, 2, 1));
}

#[test]
fn a_backlog_comes_to_the_bans_that_live_traffic_would() {
    let (mut detector, mut seen) =
        (Detector::new(settings(&[jail("j", "a", 2)]), &grammars()), Seen::default());
    // Three hours of one failure each: too far apart then, so too far apart now.
    for second in [1, 3_601, 7_201] {
        detector.observe(&offence(second, "192.0.2.1", 0), Timestamp::from_secs(9_000), &mut seen);
    }
    assert_eq!(seen.decisions, []);
    // A ban that is over by now is not imposed, but the next one is a second one.
    for second in [8_001, 8_002, 8_950, 8_951] {
        detector.observe(&offence(second, "192.0.2.1", 0), Timestamp::from_secs(9_000), &mut seen);
    }
    let [Decision::Ban(ban)] = &*seen.decisions else { panic!("{seen:?}") };
    assert_eq!((ban.since.as_secs(), ban.until.map(Timestamp::as_secs), ban.times), (8_951, Some(9_151), 2));
}

#[test]
fn a_time_in_the_future_counts_as_now() {
    let (mut detector, mut seen) =
        (Detector::new(settings(&[jail("j", "a", 1)]), &grammars()), Seen::default());
    detector.observe(&offence(1_000_000, "192.0.2.1", 0), Timestamp::from_secs(10), &mut seen);
    let [Decision::Ban(ban)] = &*seen.decisions else { panic!("{seen:?}") };
    assert_eq!(ban.until, Some(Timestamp::from_secs(110)));
}

#[test]
fn a_jail_of_distinct_values_counts_each_once() {
    let jails = [Jail { distinct: Some("request".into()), ..jail("j", "a", 3) }, jail("k", "a", 4)];
    let (mut detector, mut seen) = (Detector::new(settings(&jails), &grammars()), Seen::default());
    for (second, value) in [(1, 7), (2, 7), (3, 8), (4, 7), (5, 9)] {
        let offence = Offence { value, ..offence(second, "192.0.2.1", 0) };
        detector.observe(&offence, Timestamp::from_secs(second), &mut seen);
    }
    let bans: Vec<_> = seen.decisions.iter().map(|made| (&*made.ban().jail, made.ban().since)).collect();
    assert_eq!(bans, [("k", Timestamp::from_secs(4)), ("j", Timestamp::from_secs(5))]);
}

#[test]
fn the_bound_on_offenders_holds_over_all_jails() {
    let mut settings = settings(&[jail("j", "a", 3), jail("k", "a", 3)]);
    settings.max_offenders = NonZeroUsize::new(10).unwrap();
    let many: Vec<String> = (0..50).map(|n| format!("192.0.2.{n}")).collect();
    let offences: Vec<_> = many.iter().map(|address| (1, address.as_str())).collect();
    let (detector, seen) = after(settings, &offences);
    assert!(detector.tracked() == 10, "{}", detector.tracked());
    assert!(seen.forgotten == 90, "{}", seen.forgotten);
}

#[test]
fn an_operator_bans_and_unbans() {
    let (mut detector, _) =
        after(settings(&[jail("j", "a", 1)]), &[(1, "192.0.2.1"), (1, "192.0.2.2"), (1, "192.0.3.1")]);
    let now = Timestamp::from_secs(2);
    assert!(detector.ban(manual("203.0.113.0/24".parse().unwrap(), now, None, "rude")).is_ok());
    assert_eq!(
        detector.ban(manual("198.51.100.0/25".parse().unwrap(), now, None, "")),
        Err(Exemption::Listed("198.51.100.0/24".parse().unwrap(), ExemptionList::Ignored))
    );
    assert_eq!(detector.banned(), 4);
    let lifted = |decisions: Vec<Decision>| decisions.len();
    assert_eq!(lifted(detector.unban("192.0.2.0/24".parse().unwrap())), 2);
    assert_eq!(lifted(detector.unban("192.0.2.0/24".parse().unwrap())), 0);
    assert_eq!(detector.expire(Timestamp::from_secs(1_000)).len(), 1);
    assert_eq!(lifted(detector.unban_all()), 1);
    assert_eq!(detector.banned(), 0);
    assert_eq!(detector.expire(Timestamp::MAX), []);
}

#[test]
fn a_ban_never_shortens_another() {
    let (mut detector, _) = after(settings(&[jail("j", "a", 1)]), &[(1, "192.0.2.1")]);
    let ban = detector
        .ban(manual("192.0.2.1".parse().unwrap(), Timestamp::from_secs(2), Some(Timestamp::from_secs(7)), ""))
        .unwrap();
    assert_eq!(ban.until, Some(Timestamp::from_secs(101)));
}

/// Goes on under these settings: what was foreseen comes about, and nothing else.
#[track_caller]
fn reconfigured(detector: &mut Detector, settings: Settings) -> Vec<Decision> {
    let Review { lifted, reissued } = detector.preview(settings.clone());
    let lifted = lifted.into_iter().map(|(ban, _)| Decision::Unban(ban));
    let reissued = reissued.into_iter().flat_map(|(ban, mode)| {
        let renewed = ban.clone().with(|terms| terms.mode = mode);
        [Decision::Unban(ban), Decision::Ban(renewed)]
    });
    let foreseen: Vec<Decision> = lifted.chain(reissued).collect();
    let decisions = detector.reconfigure(settings, &grammars());
    let about = |decisions: &[Decision]| -> Vec<_> {
        let about = |decision: &Decision| {
            let ban = decision.ban();
            (matches!(decision, Decision::Ban(_)), ban.offender, Arc::clone(&ban.jail), ban.mode.name())
        };
        let mut about: Vec<_> = decisions.iter().map(about).collect();
        about.sort_unstable();
        about
    };
    assert_eq!(about(&foreseen), about(&decisions));
    decisions
}

#[test]
fn what_does_not_come_back_says_why() {
    let mut detector = Detector::new(settings(&[]), &grammars());
    let (at, now) = (Timestamp::from_secs(1), Timestamp::from_secs(9));
    let mut reinstate = |who: &str, until| {
        let ban = manual(who.parse().unwrap(), at, Some(Timestamp::from_secs(until)), "");
        detector.reinstate(ban.clone(), now).map(|now| now == ban)
    };
    assert_eq!(reinstate("192.0.2.1", 10), Ok(true));
    assert_eq!(reinstate("192.0.2.1", 9), Err(NotReinstated::Over));
    let by = Exemption::Listed("198.51.100.0/24".parse().unwrap(), ExemptionList::Ignored);
    assert_eq!(reinstate("198.51.100.1", 10), Err(NotReinstated::Exempt(by)));
}

#[test]
fn a_reload_loses_neither_ban_nor_count() {
    let offences = [(1, "192.0.2.1"), (2, "192.0.2.1"), (2, "192.0.2.2"), (3, "192.0.2.2")];
    let (mut detector, mut seen) = after(settings(&[jail("j", "a", 2)]), &offences[..3]);
    assert_eq!(detector.reconfigure(settings(&[jail("k", "b", 2), jail("j", "a", 2)]), &grammars()), []);
    assert_eq!((detector.banned(), detector.tracked()), (1, 1));
    detector.observe(&offence(3, "192.0.2.2", 0), Timestamp::from_secs(3), &mut seen);
    assert_eq!(detector.banned(), 2);
    let mut protective = settings(&[jail("j", "a", 2)]);
    protective.ignore = vec![("192.0.2.2".parse().unwrap(), ExemptionList::Own)];
    let lifted = detector.reconfigure(protective, &grammars());
    assert_eq!((lifted.len(), detector.banned()), (1, 1));
}

#[test]
fn a_reload_lifts_exactly_what_it_protects() {
    let mut jails = [jail("j", "a", 1), jail("k", "a", 1)];
    let (mut detector, _) = after(settings(&jails), &[(1, "192.0.2.1"), (1, "192.0.2.2")]);
    detector.ban(manual("192.0.2.1".parse().unwrap(), Timestamp::from_secs(2), None, "")).unwrap();
    assert_eq!(detector.banned(), 5);
    jails[0].ignore = vec!["192.0.2.1".parse().unwrap()];
    let lifted = reconfigured(&mut detector, settings(&jails));
    let [Decision::Unban(ban)] = &*lifted else { panic!("{lifted:?}") };
    assert_eq!((&*ban.jail, detector.banned()), ("j", 4));
}

#[test]
fn a_ban_on_one_port_never_shortens_another_on_it() {
    let port = |number| Port { protocol: crate::model::Protocol::Tcp, number };
    let mut jails = [jail("j", "a", 1), jail("k", "b", 1)];
    (jails[0].ports, jails[1].ports) = ([port(22)].into(), [port(22), port(80)].into());
    jails[1].ban_time = Some(Span::from_secs(10));
    let (mut detector, mut seen) = after(settings(&jails), &[(1, "192.0.2.1")]);
    detector.observe(&offence(2, "192.0.2.1", 1), Timestamp::from_secs(2), &mut seen);
    let until = |decision: &Decision| match decision {
        Decision::Ban(ban) | Decision::Unban(ban) => ban.until.map(Timestamp::as_secs),
    };
    assert_eq!(seen.decisions.iter().map(until).collect::<Vec<_>>(), [Some(101), Some(101)]);
}

#[test]
fn an_operator_can_shorten_a_ban() {
    let mut detector = Detector::new(settings(&[]), &grammars());
    let (who, now) = ("192.0.2.1".parse().unwrap(), Timestamp::from_secs(2));
    detector.ban(manual(who, now, None, "")).unwrap();
    let ban = detector.ban(manual(who, now, Some(now + Span::from_secs(5)), "")).unwrap();
    assert_eq!((ban.until, detector.banned()), (Some(Timestamp::from_secs(7)), 1));
}

/// What happens in a life of the detector.
#[derive(Clone, Debug)]
enum LifeEvent {
    /// An offence, so many seconds after the one before: whose, category, group, process (and host), value.
    Offence(i64, u8, u16, u16, u32, u64),
    /// An operator lifts the bans of this one.
    Unban(u8),
    /// A crash, after which there is only what was written down.
    Crash,
    /// A lost ledger, rewritten from memory, and then a crash.
    Loss,
}

/// The decisions in a life with these events, crashes or no crashes.
fn life(events: &[LifeEvent], crashes: bool) -> Vec<Decision> {
    let distinct = Jail { distinct: Some("request".into()), ..jail("four", "a", 4) };
    let chosen = settings(&[jail("one", "a", 3), jail("two", "a", 5), jail("three", "b", 2), distinct]);
    let mut detector = Detector::new(chosen.clone(), &grammars());
    let (mut now, mut traces, mut bans, mut all) = (1_000, Vec::new(), Vec::<Ban>::new(), Vec::new());
    for event in events {
        let at = Timestamp::from_secs(now);
        match event {
            LifeEvent::Offence(gap, who, category, group, process, value) => {
                now += gap;
                let at = Timestamp::from_secs(now);
                // Some come late, and some of their bans are over by then.
                let late = if *gap == 5 { 150 } else { 0 };
                let address = format!("192.0.2.{who}").parse().unwrap();
                let (category, group) = (CategoryId(*category), RuleGroupId(*group));
                let time = Timestamp::from_secs(now - late);
                let (grammar, session_id) = (GrammarId(0), SessionId::Process(process / 2));
                let (host, value) = (process % 2, *value);
                let is_further = false;
                let offence =
                    Offence { time, address, grammar, category, group, session_id, host, value, is_further };
                detector.expire(at);
                let mut seen = Seen::default();
                detector.observe(&offence, at, &mut seen);
                traces.append(&mut seen.traces);
                let imposed = seen.decisions.iter().filter_map(|decision| match decision {
                    Decision::Ban(ban) => Some(ban.clone()),
                    Decision::Unban(_) => None,
                });
                for ban in seen.lapsed.iter().cloned().chain(imposed) {
                    bans.retain(|old| (old.offender, &old.jail) != (ban.offender, &ban.jail));
                    bans.push(ban);
                }
                all.append(&mut seen.decisions);
            }
            LifeEvent::Unban(who) => {
                let lifted = detector.unban(format!("192.0.2.{who}").parse().unwrap());
                for decision in &lifted {
                    let Decision::Unban(ban) = decision else { continue };
                    bans.retain(|old| (old.offender, &old.jail) != (ban.offender, &ban.jail));
                }
                let mut lifted: Vec<Decision> = lifted;
                lifted.sort_by_key(|decision| match decision {
                    Decision::Ban(ban) | Decision::Unban(ban) => ban.jail.clone(),
                });
                all.extend(lifted);
            }
            LifeEvent::Crash | LifeEvent::Loss if crashes => {
                if matches!(event, LifeEvent::Loss) {
                    traces = detector.traces().collect();
                }
                detector = Detector::new(chosen.clone(), &grammars());
                bans.iter().for_each(|ban| detector.restore(ban.clone(), at));
                for trace in &mut traces {
                    trace.session = trace
                        .session
                        .map(|session| Session::read(session.bytes().as_slice(), session.last()));
                    detector.recall(trace);
                }
            }
            LifeEvent::Crash | LifeEvent::Loss => {}
        }
    }
    all
}

proptest::proptest! {
    #[test]
    fn a_life_with_crashes_is_one_without(events in proptest::collection::vec(
        proptest::prop_oneof![
            20 => (0_i64..8, 1_u8..4, 0_u16..2, 0_u16..3, 0_u32..6, 0_u64..5).prop_map(
                |(gap, who, category, group, process, value)| LifeEvent::Offence(gap, who, category, group, process, value),
            ),
            1 => (1_u8..4).prop_map(LifeEvent::Unban),
            2 => Just(LifeEvent::Crash),
            1 => Just(LifeEvent::Loss),
        ],
        1..200,
    )) {
        proptest::prop_assert_eq!(life(&events, true), life(&events, false));
    }
}

#[test]
fn a_login_protects_from_the_next_nine_bans() {
    let mut detector = Detector::new(settings(&[jail("j", "a", 2)]), &grammars());
    let mut seen = Seen::default();
    detector.logged_in(&offence(0, "192.0.2.1", u16::MAX), Timestamp::default());
    for second in 0..22 {
        detector.observe(&offence(second, "192.0.2.1", 0), Timestamp::from_secs(second), &mut seen);
    }
    let by = Exemption::Login(Timestamp::default());
    assert_eq!((seen.exempted.len(), seen.exempted[0].by), (9, by));
    let [Decision::Ban(ban)] = &*seen.decisions else { panic!("{seen:?}") };
    assert_eq!((ban.since.as_secs(), seen.banned_already), (19, 2));
}

#[test]
fn a_login_protects_neither_for_ever_nor_from_an_operator() {
    let (mut detector, mut seen) =
        (Detector::new(settings(&[jail("j", "a", 1)]), &grammars()), Seen::default());
    detector.logged_in(&offence(0, "192.0.2.1", u16::MAX), Timestamp::default());
    assert!(detector.ban(manual("192.0.2.1".parse().unwrap(), Timestamp::from_secs(1), None, "")).is_ok());
    detector.observe(&offence(1_001, "192.0.2.1", 0), Timestamp::from_secs(1_001), &mut seen);
    assert_eq!((seen.exempted, seen.decisions.len()), (vec![], 1));
    let mut off = settings(&[jail("j", "a", 1)]);
    off.protect_logins = Span::ZERO;
    let (mut detector, mut seen) = (Detector::new(off, &grammars()), Seen::default());
    detector.logged_in(&offence(0, "192.0.2.1", u16::MAX), Timestamp::default());
    detector.observe(&offence(0, "192.0.2.1", 0), Timestamp::default(), &mut seen);
    assert_eq!(seen.decisions.len(), 1);
}

/// What a detector that widens at three offenders within 1000 s decides after these offences, in a jail of one in
/// which port 22 is shut.
#[track_caller]
fn widens(offences: &[(i64, &str)], want: &[&str]) -> (Detector, Seen) {
    let mut settings = settings(&[jail("j", "a", 1)]);
    settings.jails[0].ports = [Port { protocol: crate::model::Protocol::Tcp, number: 22 }].into();
    let widths = Widths { v4: 24, v6: 48 };
    let (offenders, within) = (NonZeroU8::new(3).unwrap(), Span::from_secs(1000));
    settings.widen = Some(Widen { widths, offenders, within });
    let (detector, seen) = after(settings, offences);
    let shown = |decision: &Decision| match decision {
        Decision::Ban(ban) => format!(
            "{} {} {}-{} {}",
            ban.jail,
            ban.offender,
            ban.since.as_secs(),
            ban.until.unwrap().as_secs(),
            ban.ports.len()
        ),
        Decision::Unban(ban) => format!("no {}", ban.offender),
    };
    assert_eq!(seen.decisions.iter().map(shown).collect::<Vec<_>>(), want);
    (detector, seen)
}

#[test]
fn the_third_banned_neighbour_gets_the_prefix_banned() {
    let offences = [(1, "192.0.2.1"), (2, "192.0.2.2"), (2, "192.0.3.1"), (3, "192.0.2.3"), (4, "192.0.2.4")];
    let (mut detector, seen) = widens(
        &offences,
        &[
            "j 192.0.2.1 1-101 1",
            "j 192.0.2.2 2-102 1",
            "j 192.0.3.1 2-102 1",
            "j 192.0.2.3 3-103 1",
            "wide 192.0.2.0/24 3-103 1",
            "no 192.0.2.1",
            "no 192.0.2.2",
            "no 192.0.2.3",
        ],
    );
    assert_eq!((seen.banned_already, detector.banned()), (1, 2));
    assert_eq!(detector.expire(Timestamp::from_secs(103)).len(), 2);
    assert_eq!(detector.banned(), 0);
}

#[test]
fn neighbours_are_counted_over_a_restart_and_their_past_with_them() {
    let (before, seen) =
        widens(&[(1, "192.0.2.1"), (2, "192.0.2.2")], &["j 192.0.2.1 1-101 1", "j 192.0.2.2 2-102 1"]);
    let mut detector = Detector::new(before.settings.clone(), &grammars());
    let mut bans: Vec<Ban> = before.bans().cloned().collect();
    bans.sort_by_key(|ban| ban.since);
    let now = Timestamp::from_secs(3);
    bans.into_iter().for_each(|ban| detector.restore(ban, now));
    let mut later = Seen::default();
    detector.observe(&offence(3, "192.0.2.3", 0), now, &mut later);
    assert_eq!((seen.decisions.len(), later.decisions.len()), (2, 5), "{later:?}");
    // An offender that comes back after the ban of the prefix is known.
    let back = Timestamp::from_secs(104);
    detector.expire(back);
    let mut again = Seen::default();
    detector.observe(&offence(104, "192.0.2.1", 0), back, &mut again);
    let [Decision::Ban(ban)] = &*again.decisions else { panic!("{again:?}") };
    assert_eq!((&*ban.jail, ban.times), ("j", 2));
}

#[test]
fn a_prefix_is_banned_but_for_those_of_ours_in_it() {
    /// Who is banned after three neighbours in 198.51.0.0/16 were, and which ban was exempted.
    #[track_caller]
    fn check(ignored: &str, ignored_by_one: &str, login: &str, want: &[&str], exempted: Option<Exemption>) {
        let mut one = jail("j", "a", 1);
        one.ignore.extend(ignored_by_one.parse::<Offender>());
        let ignore = ignored.parse().map(|who| (who, ExemptionList::Ignored)).into_iter().collect();
        let mut settings = Settings { ignore, ..settings(&[one]) };
        let widths = Widths { v4: 16, v6: 48 };
        let (offenders, within) = (NonZeroU8::new(3).unwrap(), Span::from_secs(1000));
        settings.widen = Some(Widen { widths, offenders, within });
        let mut detector = Detector::new(settings, &grammars());
        let mut seen = Seen::default();
        if !login.is_empty() {
            detector.logged_in(&offence(0, login, u16::MAX), Timestamp::default());
        }
        let mut observe = |second, address| {
            detector.observe(&offence(second, address, 0), Timestamp::from_secs(second), &mut seen);
        };
        // Who is in a banned part of a prefix is banned already.
        for (second, who) in (1..).zip(["198.51.1.1", "198.51.1.2", "198.51.129.1", "198.51.1.3"]) {
            observe(second, who);
        }
        let mut bans: Vec<_> = detector.bans().map(|ban| format!("{} {}", ban.jail, ban.offender)).collect();
        bans.sort();
        assert_eq!(bans, want);
        assert_eq!(seen.exempted.iter().map(|exempted| exempted.by).next(), exempted);
    }
    let listed = |who: &str| Some(Exemption::Listed(who.parse().unwrap(), ExemptionList::Ignored));
    check("", "", "", &["wide 198.51.0.0/16"], None);
    check("198.51.128.1", "", "", &["wide 198.51.0.0/17", "wide 198.51.129.0/24"], None);
    check("", "198.51.0.1", "", &["wide 198.51.1.0/24", "wide 198.51.128.0/17"], None);
    check("", "", "198.51.192.0", &["wide 198.51.0.0/17", "wide 198.51.128.0/18"], None);
    // Where no part is left, each keeps the ban of its own.
    check("198.51.1.0", "", "198.51.129.0", &["j 198.51.1.1", "j 198.51.129.1", "wide 198.51.1.2/31"], None);
    check("198.50.0.0/15", "", "", &[], listed("198.50.0.0/15"));
}

/// Who is banned after an address has come twice to a jail that allows one offence and no second.
#[track_caller]
fn bans(settings: Settings, address: &str, want: &[&str]) {
    let (detector, _) = after(settings, &[(1, address), (2, address)]);
    assert_eq!(detector.bans().map(|ban| ban.offender.to_string()).collect::<Vec<_>>(), want, "{address}");
}

#[test]
fn the_neighbour_of_somebody_protected_is_banned_alone() {
    let lists = |all: &[&str], one: &[&str]| {
        let mut jail = jail("j", "a", 2);
        jail.ignore = one.iter().map(|who| who.parse().unwrap()).collect();
        let own = |who: &&str| (who.parse().unwrap(), ExemptionList::Own);
        Settings { ignore: all.iter().map(own).collect(), ..settings(&[jail]) }
    };
    bans(lists(&["2001:db8:1::1"], &[]), "2001:db8:1::bad", &["2001:db8:1::bad"]);
    bans(lists(&["2001:db8:1::1"], &[]), "2001:db8:1::1", &[]);
    bans(lists(&["2001:db8:1::1"], &[]), "2001:db8:2::bad", &["2001:db8:2::/64"]);
    bans(lists(&[], &["2001:db8:5::7"]), "2001:db8:5::bad", &["2001:db8:5::bad"]);
    bans(lists(&["2001:db8:5::/96"], &[]), "2001:db8:5::bad", &[]);
    bans(lists(&["2001:db8:5::/96"], &[]), "2001:db8:5::1:0:bad", &["2001:db8:5::1:0:bad"]);
    bans(lists(&["2001:db8::/32"], &["2001:db8:5::7"]), "2001:db8:5::bad", &[]);
    bans(lists(&["fe80::1"], &[]), "fe80::bad", &["fe80::bad"]);
    let wide = |all: &[&str]| Settings { widths: Widths { v4: 24, v6: 56 }, ..lists(all, &[]) };
    bans(wide(&["192.0.2.1"]), "192.0.2.9", &["192.0.2.9"]);
    bans(wide(&["192.0.3.1"]), "192.0.2.9", &["192.0.2.0/24"]);
    bans(wide(&["2001:db8:0:1::1"]), "2001:db8::bad", &["2001:db8::bad"]);
    // Another address of the neighbour's prefix is another offender.
    let (detector, _) =
        after(lists(&["2001:db8:1::1"], &[]), &[(1, "2001:db8:1::bad"), (2, "2001:db8:1::bed")]);
    assert_eq!((detector.banned(), detector.tracked()), (0, 2));
}

#[test]
fn each_address_of_nat64_is_an_offender() {
    let nat64 = vec!["2001:db8:64::/96".parse().unwrap()];
    let settings = || Settings { nat64: nat64.clone(), ..settings(&[jail("j", "a", 2)]) };
    bans(settings(), "64:ff9b::c000:201", &["64:ff9b::c000:201"]);
    bans(settings(), "2001:db8:64::c000:201", &["2001:db8:64::c000:201"]);
    bans(settings(), "2001:db8:64:0:1::", &["2001:db8:64::/64"]);
    // Nor is the whole of it ever banned, or protected by one login.
    let (offenders, within) = (NonZeroU8::new(2).unwrap(), Span::from_secs(1000));
    let widen = Some(Widen { widths: Widths { v4: 24, v6: 48 }, offenders, within });
    let mut detector = Detector::new(Settings { widen, ..settings() }, &grammars());
    let mut seen = Seen::default();
    detector.logged_in(&offence(0, "2001:db8:64::9", u16::MAX), Timestamp::default());
    for second in 0..8 {
        let address = format!("2001:db8:64::{}", second / 2);
        detector.observe(&offence(second, &address, 0), Timestamp::from_secs(second), &mut seen);
    }
    assert_eq!((seen.decisions.len(), seen.exempted.len()), (4, 0), "{seen:?}");
    assert!(seen.decisions.iter().all(|made| made.ban().offender.is_single()), "{seen:?}");
}

#[test]
fn a_neighbours_login_protects_nobody_else() {
    let own = ("2001:db8:1::1".parse().unwrap(), ExemptionList::Own);
    let mut detector =
        Detector::new(Settings { ignore: vec![own], ..settings(&[jail("j", "a", 1)]) }, &grammars());
    let mut seen = Seen::default();
    detector.logged_in(&offence(0, "2001:db8:1::5", u16::MAX), Timestamp::default());
    for address in ["2001:db8:1::5", "2001:db8:1::bad"] {
        detector.observe(&offence(1, address, 0), Timestamp::from_secs(1), &mut seen);
    }
    let banned: Vec<_> = seen.decisions.iter().map(|made| made.ban().offender.to_string()).collect();
    assert_eq!((banned, seen.exempted.len()), (vec!["2001:db8:1::bad".to_owned()], 1));
}

#[test]
fn who_becomes_protected_is_let_in_and_the_neighbour_is_banned_again_alone() {
    let jails = [jail("j", "a", 2)];
    let offences = [(1, "2001:db8:1::bad"), (2, "2001:db8:1::bad")];
    let (mut detector, mut seen) = after(settings(&jails), &offences);
    let before: Vec<_> = detector.bans().map(|ban| ban.offender.to_string()).collect();
    assert_eq!(before, ["2001:db8:1::/64"]);
    let own = ("2001:db8:1::1".parse().unwrap(), ExemptionList::Own);
    let lifted = detector.reconfigure(Settings { ignore: vec![own], ..settings(&jails) }, &grammars());
    assert_eq!((lifted.len(), detector.banned()), (1, 0));
    for second in [3, 4] {
        detector.observe(&offence(second, "2001:db8:1::bad", 0), Timestamp::from_secs(second), &mut seen);
    }
    let after: Vec<_> = detector.bans().map(|ban| ban.offender.to_string()).collect();
    assert_eq!(after, ["2001:db8:1::bad"]);
    let account = detector.account("2001:db8:1::bad".parse().unwrap(), Timestamp::from_secs(5));
    assert_eq!((account.offender.to_string(), account.bans.len()), ("2001:db8:1::bad".to_owned(), 1));
}

proptest::proptest! {
    /// In a small world: an exempt offender is never banned, others can be, and a restart changes neither.
    #[test]
    fn nobody_protected_is_banned_and_everybody_else_is(
        lists in proptest::collection::vec(proptest::collection::vec((0_usize..16, 118_u8..=128), 0..3), 2..4),
        for_one in proptest::collection::vec((0_usize..16, 118_u8..=128), 0..2),
        offences in proptest::collection::vec(0_usize..16, 1..40),
    ) {
        // In two /64s and one /24, some side by side.
        let address = |nth: usize| -> IpAddr {
            let host = [1, 2, 3, 0x81, 0xff][nth % 5];
            match nth / 5 {
                0 => IpAddr::from([192, 0, 2, host as u8]),
                net => format!("2001:db8:0:{net:x}::{host:x}").parse().unwrap(),
            }
        };
        let member = |(nth, length): &(usize, u8)| {
            let length = if address(*nth).is_ipv4() { length - 96 } else { *length };
            Offender::new(address(*nth), length).unwrap()
        };
        let ignore = for_one.iter().map(member).collect();
        let one = Jail { ignore, ban_time: None, ..jail("j", "a", 2) };
        let settings = |list: &[(usize, u8)]| {
            let (offenders, within) = (NonZeroU8::new(2).unwrap(), Span::from_secs(1000));
            let widen = Some(Widen { widths: Widths { v4: 16, v6: 48 }, offenders, within });
            let ignore = list.iter().map(|who| (member(who), ExemptionList::Own)).collect();
            Settings { ignore, widths: Widths { v4: 24, v6: 64 }, widen, ..settings(std::slice::from_ref(&one)) }
        };
        let mut detector = Detector::new(settings(&lists[0]), &grammars());
        let mut second = 0;
        for list in &lists {
            reconfigured(&mut detector, settings(list));
            let guards: Vec<Offender> = list.iter().chain(&for_one).map(member).collect();
            let overlaps = |one: Offender, other: Offender| one.contains(other) || other.contains(one);
            for nth in &offences {
                let who = Offender::single(address(*nth));
                let mut seen = Seen::default();
                for _ in 0..2 {
                    second += 1;
                    let offence = offence(second, &address(*nth).to_string(), 0);
                    detector.observe(&offence, Timestamp::from_secs(second), &mut seen);
                }
                let is_banned = detector.bans().any(|ban| ban.offender.contains(who));
                let is_protected = guards.iter().any(|guard| guard.contains(who));
                proptest::prop_assert_eq!(is_banned, !is_protected, "{} under {:?}", who, guards);
                let wrong = detector.bans().find(|ban| guards.iter().any(|guard| overlaps(*guard, ban.offender)));
                proptest::prop_assert!(wrong.is_none(), "{:?} under {:?}", wrong, guards);
            }
            let bans: Vec<Ban> = detector.bans().cloned().collect();
            let traces: Vec<Trace> = detector.traces().collect();
            detector = Detector::new(settings(list), &grammars());
            bans.into_iter().for_each(|ban| detector.restore(ban, Timestamp::from_secs(second)));
            traces.iter().for_each(|trace| detector.recall(trace));
        }
    }
}

#[test]
fn an_account_says_what_stands_against_whom() {
    let mut jails = [jail("j", "a", 3), jail("k", "a", 9)];
    jails[1].ignore = vec!["192.0.2.0/24".parse().unwrap()];
    let mut settings = settings(&jails);
    settings.jails[1].find_time = Span::from_secs(600);
    let offences = [1, 2, 3, 201, 202].map(|at| (at, "2001:db8::1"));
    let (mut detector, _) = after(settings, &offences);
    let now = Timestamp::from_secs(230);
    detector.ban(manual("2001:db8::/32".parse().unwrap(), now, None, "")).unwrap();
    let account = detector.account("2001:db8::9".parse().unwrap(), now);
    assert_eq!(account.offender.to_string(), "2001:db8::/64");
    let bans: Vec<_> = account.bans.iter().map(|(ban, _)| &*ban.jail).collect();
    assert_eq!((bans, account.exemptions.len()), (vec![MANUAL], 0));
    let jails = account.jails.iter();
    let shown = jails.map(|of| (of.counted, of.last.map(Timestamp::as_secs), of.earlier, of.exemption));
    assert_eq!(shown.collect::<Vec<_>>(), [(2, Some(202), 1, None), (5, Some(202), 0, None)]);
    assert_eq!(account.jails[0].next.to_string(), "1m 40s x 2^1 = 3m 20s");
    let account = detector.account("192.0.2.7".parse().unwrap(), now);
    let exemption = Exemption::Listed("192.0.2.0/24".parse().unwrap(), ExemptionList::Ignored);
    assert_eq!((account.jails[1].exemption, account.jails[1].counted), (Some(exemption), 0));
}

#[test]
fn a_ban_that_keeps_nobody_out_is_told_of_once() {
    let mut long = jail("j", "a", 1);
    long.ban_time = None;
    let in_vain = |seconds: &[i64]| {
        let offences: Vec<_> = seconds.iter().map(|second| (*second, "192.0.2.1")).collect();
        let (_, seen) = after(settings(&[long.clone()]), &offences);
        (seen.banned_already, seen.ineffective.len())
    };
    assert_eq!(in_vain(&[1, 2, 301]), (2, 0));
    assert_eq!(in_vain(&[1, 2, 302, 303]), (3, 1));
}

/// Settings with two jails that count the same, of which this one, if any, only observes.
fn observing(who: &str) -> Settings {
    let (mut short, mut long) = (jail("short", "a", 2), jail("long", "a", 2));
    (short.ports, long.ports) = (["22".parse().unwrap()].into(), ["22".parse().unwrap()].into());
    long.ban_time = Some(Span::from_secs(500));
    let mut settings = settings(&[long, short]);
    let observer = settings.jails.iter_mut().find(|jail| *jail.name == *who);
    observer.into_iter().for_each(|jail| jail.mode = Mode::Observe);
    settings
}

/// The bans in force: jail, offender, end and mode.
fn in_force(detector: &Detector) -> Vec<String> {
    let ends = |ban: &Ban| ban.until.map_or(0, Timestamp::as_secs);
    let shown = |ban: &Ban| format!("{} {} {} {}", ban.jail, ban.offender, ends(ban), ban.mode.name());
    let mut shown: Vec<String> = detector.bans().map(shown).collect();
    shown.sort();
    shown
}

#[test]
fn a_jail_that_observes_changes_nothing_for_another() {
    let check = |observer, want: &[&str]| {
        let (detector, seen) =
            after(observing(observer), &[(1, "192.0.2.1"), (2, "192.0.2.1"), (600, "192.0.2.1")]);
        let ineffective: Vec<_> = seen.ineffective.iter().map(|(_, jail)| &**jail).collect();
        let mut bans = Vec::new();
        for decision in &seen.decisions {
            let ban = decision.ban();
            bans.push(format!("{} {} {}", ban.jail, ban.until.unwrap().as_secs(), ban.mode.name()));
        }
        assert_eq!(
            (bans, ineffective, detector.banned()),
            (want.iter().map(|w| (*w).to_owned()).collect(), vec![], 0)
        );
    };
    // In the kernel both are one element, so the shorter lasts as long as the longer.
    check("", &["long 502 enforce", "short 502 enforce"]);
    check("short", &["long 502 enforce", "short 102 observe"]);
    check("long", &["long 502 observe", "short 102 enforce"]);
}

#[test]
fn what_a_jail_that_observes_forgives_is_not_used_up() {
    let logins = |mode| {
        let mut settings = settings(&[jail("j", "a", 1)]);
        settings.jails[0].mode = mode;
        let mut detector = Detector::new(settings, &grammars());
        detector.logged_in(&offence(0, "192.0.2.1", u16::MAX), Timestamp::default());
        detector.take_changed_logins();
        let mut seen = Seen::default();
        detector.observe(&offence(1, "192.0.2.1", 0), Timestamp::from_secs(1), &mut seen);
        (seen.exempted.len(), detector.take_changed_logins().len())
    };
    assert_eq!(logins(Mode::Enforce), (1, 1));
    assert_eq!(logins(Mode::Observe), (1, 0));
}

#[test]
fn a_prefix_is_banned_for_bans_of_its_own_mode() {
    let check = |wide, of_jail, want: &[&str]| {
        let (mut short, mut long) = (jail("short", "a", 1), jail("long", "b", 1));
        (short.mode, long.ban_time) = (of_jail, Some(Span::from_secs(500)));
        let widths = Widths { v4: 24, v6: 48 };
        let (offenders, within) = (NonZeroU8::new(2).unwrap(), Span::from_secs(1000));
        let widen = Some(Widen { widths, offenders, within });
        let mut detector =
            Detector::new(Settings { mode: wide, widen, ..settings(&[short, long]) }, &grammars());
        let mut seen = Seen::default();
        for (second, address, category) in
            [(1, "192.0.2.1", 1), (2, "192.0.2.1", 0), (3, "192.0.2.2", 0), (4, "192.0.2.3", 1)]
        {
            detector.observe(&offence(second, address, category), Timestamp::from_secs(second), &mut seen);
        }
        assert_eq!(in_force(&detector), want);
        let observed = want.iter().filter(|ban| ban.ends_with("observe")).count();
        assert_eq!((detector.banned(), detector.observed()), (want.len(), observed));
    };
    use Mode::{Enforce, Observe};
    check(Enforce, Enforce, &["wide 192.0.2.0/24 501 enforce"]);
    let single = ["short 192.0.2.1 102 observe", "short 192.0.2.2 103 observe"];
    check(Enforce, Observe, &[&[][..], &single, &["wide 192.0.2.0/24 504 enforce"]].concat());
    check(
        Observe,
        Observe,
        &["long 192.0.2.1 501 enforce", "long 192.0.2.3 504 enforce", "wide 192.0.2.0/24 103 observe"],
    );
}

#[test]
fn another_mode_lifts_and_imposes() {
    let (mut detector, _) = after(observing("short"), &[(1, "192.0.2.1"), (2, "192.0.2.1")]);
    let now = Timestamp::from_secs(3);
    detector.ban(manual("192.0.2.9".parse().unwrap(), now, None, "")).unwrap();
    let mut change = |settings: Settings, want: &[&str]| {
        let told: Vec<String> = reconfigured(&mut detector, settings)
            .iter()
            .map(|decision| match decision {
                Decision::Ban(ban) => format!("+{} {}", ban.jail, ban.mode.name()),
                Decision::Unban(ban) => format!("-{} {}", ban.jail, ban.mode.name()),
            })
            .collect();
        assert_eq!(in_force(&detector), want);
        told
    };
    let manual = "manual 192.0.2.9 0 enforce";
    // What is imposed shares its element with the other, and so its end.
    let told = change(observing(""), &["long 192.0.2.1 502 enforce", manual, "short 192.0.2.1 502 enforce"]);
    assert_eq!(told, ["-short observe", "+short enforce"]);
    let told =
        change(observing("long"), &["long 192.0.2.1 502 observe", manual, "short 192.0.2.1 502 enforce"]);
    assert_eq!(told, ["-long enforce", "+long observe"]);
    let mut none = observing("long");
    none.jails.remove(1);
    none.mode = Mode::Observe;
    let [long, short] = ["long 192.0.2.1 502 observe", "short 192.0.2.1 502 observe"];
    assert_eq!(change(none, &[long, "manual 192.0.2.9 0 observe", short]).len(), 4);
    assert_eq!(change(observing("long"), &[long, manual, "short 192.0.2.1 502 enforce"]).len(), 4);
}

/// Takes over a ban of `j` that lasts from one second to another, at second 100: what was done, until when it lasts and its
/// count, and whether that is to be remembered.
fn take(
    detector: &mut Detector,
    who: &str,
    since: i64,
    until: i64,
    times: u32,
) -> (TakeOver, i64, u32, bool) {
    let (offender, at) = (who.parse().unwrap(), Timestamp::from_secs);
    let ban = Ban { times, ..manual(offender, at(since), Some(at(until)), "") };
    let TakenBan { outcome, ban, is_changed } =
        detector.take_over(ban.with(|ban| (ban.jail, ban.kind) = ("j".into(), BanOrigin::Auto)), at(100));
    (outcome, ban.until.unwrap().as_secs(), ban.times, is_changed)
}

#[test]
fn a_ban_that_is_taken_over_counts_and_is_never_shortened() {
    let mut detector = Detector::new(settings(&[jail("j", "a", 1)]), &grammars());
    let detector = &mut detector;
    assert_eq!(take(detector, "192.0.2.1", 90, 200, 3), (TakeOver::New, 200, 3, true));
    assert_eq!(take(detector, "192.0.2.1", 90, 200, 3), (TakeOver::Covered, 200, 3, false));
    assert_eq!(take(detector, "192.0.2.1", 95, 150, 4), (TakeOver::Covered, 200, 4, true));
    assert_eq!(take(detector, "192.0.2.1", 95, 300, 2), (TakeOver::Extended, 300, 4, true));
    assert_eq!(take(detector, "192.0.2.1", 20, 30, 5), (TakeOver::Past, 300, 5, true));
    assert_eq!(take(detector, "192.0.2.1", 20, 30, 5), (TakeOver::Past, 300, 5, false));
    assert_eq!(take(detector, "192.0.2.2", 20, 30, 2), (TakeOver::Past, 30, 2, true));
    assert_eq!(take(detector, "192.0.2.2", 10, 15, 1), (TakeOver::Past, 30, 2, false));
    let by = Exemption::Listed("198.51.100.0/24".parse().unwrap(), ExemptionList::Ignored);
    assert_eq!(take(detector, "198.51.100.7", 20, 300, 1), (TakeOver::Exempt(by), 300, 1, false));
    assert_eq!(in_force(detector), ["j 192.0.2.1 300 enforce"]);
    // The next ban of its jail is the sixth, the other's the third: 100 s, doubled each time.
    detector.expire(Timestamp::from_secs(300));
    let mut seen = Seen::default();
    for who in ["192.0.2.1", "192.0.2.2"] {
        detector.observe(&offence(400, who, 0), Timestamp::from_secs(400), &mut seen);
    }
    let bans: Vec<_> = seen.decisions.iter().map(Decision::ban).collect();
    let bans: Vec<_> = bans.iter().map(|ban| (ban.times, ban.until.unwrap().as_secs() - 400)).collect();
    assert_eq!(bans, [(6, 3200), (3, 400)]);
}

#[test]
fn a_ban_that_is_taken_over_has_the_mode_of_its_jail() {
    let mut observer = jail("j", "a", 1);
    observer.mode = Mode::Observe;
    let mut detector = Detector::new(settings(&[observer]), &grammars());
    take(&mut detector, "192.0.2.1", 90, 200, 1);
    assert_eq!(in_force(&detector), ["j 192.0.2.1 200 observe"]);
    assert_eq!(detector.reconfigure(settings(&[jail("j", "a", 1)]), &grammars()).len(), 2);
    assert_eq!(in_force(&detector), ["j 192.0.2.1 200 enforce"]);
}

#[test]
fn an_observed_ban_becomes_enforced_where_it_is_taken_over_again() {
    let mut settings = settings(&[]);
    settings.mode = Mode::Observe;
    let mut detector = Detector::new(settings.clone(), &grammars());
    // `j` is not a jail here, so no change of its mode reaches the ban.
    assert_eq!(take(&mut detector, "192.0.2.1", 90, 200, 1), (TakeOver::New, 200, 1, true));
    settings.mode = Mode::Enforce;
    detector.reconfigure(settings, &grammars());
    assert_eq!(in_force(&detector), ["j 192.0.2.1 200 observe"]);
    assert_eq!(take(&mut detector, "192.0.2.1", 20, 30, 1), (TakeOver::Past, 200, 1, false));
    assert_eq!(take(&mut detector, "192.0.2.1", 90, 200, 1), (TakeOver::New, 200, 1, true));
    assert_eq!(in_force(&detector), ["j 192.0.2.1 200 enforce"]);
    assert_eq!(take(&mut detector, "192.0.2.1", 90, 200, 1), (TakeOver::Covered, 200, 1, false));
}

#[test]
fn what_was_taken_over_is_as_it_was_after_a_restart() {
    let taken = [("192.0.2.1", 90, 200, 3), ("192.0.2.2", 20, 30, 2), ("192.0.2.1", 20, 30, 7)];
    let mut detector = Detector::new(settings(&[jail("j", "a", 1)]), &grammars());
    let mut again = Detector::new(settings(&[jail("j", "a", 1)]), &grammars());
    for (who, since, until, times) in taken {
        let (offender, at) = (who.parse().unwrap(), Timestamp::from_secs);
        let ban = Ban { times, ..manual(offender, at(since), Some(at(until)), "") };
        let ban = detector
            .take_over(ban.with(|ban| (ban.jail, ban.kind) = ("j".into(), BanOrigin::Auto)), at(100))
            .ban;
        again.restore(ban, at(100));
    }
    let next = |detector: &mut Detector| {
        detector.expire(Timestamp::from_secs(300));
        let mut seen = Seen::default();
        for who in ["192.0.2.1", "192.0.2.2"] {
            detector.observe(&offence(400, who, 0), Timestamp::from_secs(400), &mut seen);
        }
        seen.decisions
    };
    assert_eq!(next(&mut detector), next(&mut again));
}
