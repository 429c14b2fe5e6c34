use super::*;
use crate::kernel::{Family, TableFacts, TableSet};
use crate::model::Span;
use crate::tools::doctor::daemon::{LONG_ENOUGH, NEVER, SILENT};
use crate::tools::doctor::facts::*;

/// A host on which all is well.
fn sound() -> Facts {
    let listing = |program: &str| RuleListing {
        program: program.to_owned(),
        rules: Ok(vec![("-A PREROUTING ours".to_owned(), true), ("-A PREROUTING other".to_owned(), false)]),
    };
    let chain = |family, program| Chain {
        family,
        name: "raw PREROUTING".to_owned(),
        listing: listing(program),
        others: vec![RuleListing { program: format!("{program}-legacy"), rules: Ok(vec![]) }],
    };
    let set =
        |name: &str| SetFacts { name: name.to_owned(), filled: Some((1, 9)), linked: true, found: Ok(true) };
    let samples = "# HELP banstream_drops_total What was lost.\n\
                   banstream_drops_total{reason=\"overlong\"} 0\nbanstream_entries_total{source=\"journald\"} 9\n";
    Facts {
        configuration: Ok(()),
        doubts: Vec::new(),
        capable: true,
        has_ipv6: true,
        elsewhere: None,
        enforcement: Some(Enforcement::Ipset(IpsetFacts {
            sets: Ok(vec![set("banstream4"), set("banstream6")]),
            chains: vec![chain(Family::V4, "iptables"), chain(Family::V6, "ip6tables")],
            modules: Vec::new(),
        })),
        backend: Some(("bans go to ipset: x".to_owned(), None)),
        daemon: Ok(DaemonFacts {
            mode: "kernel".to_owned(),
            backend: Some("ipset".to_owned()),
            fault: None,
            ledger: None,
            damaged: None,
            observing: Vec::new(),
            sources: vec![("journald".to_owned(), Ok(Some(9)))],
            left: Vec::new(),
            metrics: None,
            receivers: vec![("chat".to_owned(), Ok(3))],
            running: vec![RunningServer {
                program: "nginx".to_owned(),
                lines: 5,
                silent: Some(2),
                log: ServerLog::Files,
            }],
            visitors: vec![Visitor {
                address: "203.0.113.9".to_owned(),
                exemption: Some("listed".to_owned()),
            }],
            uptime: 99,
            private_bans: PrivateBans::default(),
            crowds: Vec::new(),
            duplicates: Vec::new(),
            fleet: None,
            samples: Samples(samples.to_owned()),
        }),
        journald: Some(JournaldSettings { burst: 0, ..JournaldSettings::default() }),
        rsyslog: None,
        servers: Vec::new(),
        open_seed: None,
        saved: vec![SavedFirewall { path: "/etc/iptables/rules.v4".to_owned(), loads: Ok(()) }],
        geoip: (vec!["/a.mmdb".to_owned()], Vec::new()),
    }
}

fn silent() -> Result<DaemonFacts, NoDaemon> {
    Err(NoDaemon::Silent("x".to_owned()))
}

fn suspect() -> Suspect {
    Suspect { place: "/etc/x.conf:3".to_owned(), text: "x".to_owned() }
}

/// The names of what is found once this was done to a sound host; those in capitals are wrong, those with a dot are
/// advice, the others doubtful.
#[track_caller]
pub(crate) fn check(harm: impl FnOnce(&mut Facts), want: &[&str]) {
    let mut facts = sound();
    harm(&mut facts);
    let shown = |Finding { name, severity, fix, .. }: &Finding| {
        assert_eq!(fix.is_empty(), *severity == FindingSeverity::Ok);
        match severity {
            FindingSeverity::Ok => None,
            FindingSeverity::Note => Some(format!("{name}.")),
            FindingSeverity::Wrong => Some(name.to_uppercase()),
            FindingSeverity::Doubtful => Some((*name).to_owned()),
        }
    };
    assert_eq!(examine(&facts).iter().filter_map(shown).collect::<Vec<_>>(), want);
}

fn ipset(facts: &mut Facts) -> &mut IpsetFacts {
    match facts.enforcement.as_mut() {
        Some(Enforcement::Ipset(ipset)) => ipset,
        other => panic!("{other:?}"),
    }
}

fn set(facts: &mut Facts) -> &mut SetFacts {
    &mut ipset(facts).sets.as_mut().unwrap()[1]
}

fn chain(facts: &mut Facts) -> &mut Chain {
    &mut ipset(facts).chains[1]
}

/// A host on which nftables enforces, and all is well but for this.
fn with_nftables(harm: impl FnOnce(&mut NftablesFacts, &mut TableFacts)) -> impl FnOnce(&mut Facts) {
    let set =
        |name: &str, elements| TableSet { name: name.to_owned(), elements, capacity: 9, has_rule: true };
    let mut table = TableFacts {
        owner: Some(7),
        is_hooked: true,
        sets: vec![set("ipv4_32", Some(3)), set("ipv6_64", None)],
    };
    let mut nftables = NftablesFacts {
        name: "banstream".to_owned(),
        table: Ok(None),
        holders: ["process 7 (`banstream`)", "process 1 (`systemd`)"].map(str::to_owned).into(),
        is_daemons: Some(true),
        is_to_be_owned: true,
        can_be_owned: true,
        looked_up: 2,
        lacking: Vec::new(),
        modules: vec!["nf_tables"],
    };
    harm(&mut nftables, &mut table);
    nftables.table = Ok(Some(table));
    let enforcement = Some(Enforcement::Nftables(nftables));
    move |facts| facts.enforcement = enforcement
}

fn daemon(facts: &mut Facts) -> &mut DaemonFacts {
    facts.daemon.as_mut().unwrap()
}

fn sample(line: &str) -> impl FnOnce(&mut Facts) {
    move |facts| daemon(facts).samples.0 += &format!("{line}\n")
}

#[test]
fn a_sound_host_has_no_fault() {
    check(|_| {}, &[]);
    check(|facts| facts.journald = None, &[]);
}

#[test]
fn what_is_verified_is_said() {
    #[track_caller]
    fn check(facts: &Facts, want: &[&str]) {
        let found = examine(facts);
        let verified = found.iter().filter(|finding| finding.severity == FindingSeverity::Ok);
        assert_eq!(verified.map(|finding| finding.what.as_str()).collect::<Vec<_>>(), want);
    }
    let all = [
        "the configuration is sound",
        "bans go to ipset: x",
        "the sets take elements and keep them: `banstream4` 1 of 9, `banstream6` 1 of 9",
        "the rule is first in `raw PREROUTING` (IPv4, IPv6)",
        "`/etc/iptables/rules.v4` has the rule, and its sets are created before it is loaded at boot",
        "`journald` is read; the last entry came 9s ago",
        "`nginx` runs; lines of it were read: 5, the last 2s ago",
        "`chat` has got 3 messages",
        "203.0.113.9, from where somebody is logged in, is exempt: listed",
        "countries and networks are read from /a.mmdb",
    ];
    check(&sound(), &all);
    let mut facts = sound();
    ipset(&mut facts).chains.pop();
    facts.has_ipv6 = false;
    set(&mut facts).linked = false;
    facts.daemon = silent();
    check(
        &facts,
        &[
            all[0],
            all[1],
            "the rule is first in `raw PREROUTING` (IPv4); this host has no IPv6",
            all[4],
            all[9],
        ],
    );
    let mut facts = sound();
    with_nftables(|_, _| {})(&mut facts);
    let table = [
        "the table `inet banstream` belongs to process 7 (`banstream`), process 1 (`systemd`), so nobody else can \
         change it",
        "the table sees packets before all others, and has a rule for each set: `ipv4_32` 3 of 9, `ipv6_64`",
        "the kernel has all bans that were looked up: 2",
    ];
    check(&facts, &[&all[..2], &table, &all[4..]].concat());
}

#[test]
fn a_broken_configuration_is_one_finding() {
    check(|facts| facts.configuration = Err("x\ny".to_owned()), &["CONFIGURATION-BROKEN"]);
    let mut facts = sound();
    facts.configuration = Err("x\ny".to_owned());
    let found = examine(&facts);
    assert!(found.last().unwrap().what.ends_with("fails: x\n    y"));
}

#[test]
fn what_is_doubtful_in_the_configuration_is_found() {
    let doubt = "/a.toml:1:13: warning: `0.0.0.0/0` exempts x\nignoreip = ['0.0.0.0/0']\n ^".to_owned();
    check(|facts| facts.doubts = vec![doubt], &["configuration-doubtful"]);
}

#[test]
fn another_network_namespace_is_one_finding() {
    check(|facts| (facts.elsewhere, facts.enforcement) = (Some(7), None), &["OTHER-NAMESPACE"]);
}

#[test]
fn a_saved_firewall_that_does_not_load_is_found() {
    check(|facts| facts.saved[0].loads = Err(Unloadable::NoSets), &["SAVED-WITHOUT-SETS"]);
    check(|facts| facts.saved[0].loads = Err(Unloadable::Foreign), &["SAVED-UNREADABLE"]);
    check(|facts| facts.saved[0].loads = Err(Unloadable::Owned), &["SAVED-TABLE"]);
}

#[test]
fn a_server_whose_lines_do_not_come_is_found() {
    let server = |lines, log| {
        move |facts: &mut Facts| {
            let server = &mut daemon(facts).running[0];
            (server.lines, server.log) = (lines, log);
        }
    };
    check(server(0, ServerLog::Files), &["SERVER-UNREAD"]);
    check(server(0, ServerLog::Container), &["server-in-container"]);
    check(server(0, ServerLog::Read), &["server-silent."]);
    for log in [ServerLog::Files, ServerLog::Container, ServerLog::Read] {
        check(server(1, log), &[]);
    }
}

#[test]
fn who_is_logged_in_and_not_exempt_is_found() {
    check(|facts| daemon(facts).visitors[0].exemption = None, &["visitor-not-exempt"]);
}

#[test]
fn a_receiver_that_gets_nothing_is_found() {
    check(|facts| daemon(facts).receivers[0].1 = Err("x".to_owned()), &["receiver-failed"]);
    check(|facts| daemon(facts).receivers[0].1 = Ok(0), &["receiver-unused."]);
}

#[test]
fn a_fault_of_the_sets_is_found() {
    check(|facts| ipset(facts).sets = Err("x".to_owned()), &["NO-IPSET"]);
    check(|facts| set(facts).filled = None, &["SET-MISSING"]);
    check(|facts| set(facts).filled = Some((9, 9)), &["SET-FULL"]);
    check(|facts| set(facts).linked = false, &["SET-UNLINKED"]);
    check(|facts| set(facts).found = Ok(false), &["PROBE-LOST"]);
    check(|facts| set(facts).found = Err("x".to_owned()), &["PROBE-REFUSED"]);
    let blind = |facts: &mut Facts| (facts.capable, facts.enforcement) = (false, None);
    check(blind, &["NO-PRIVILEGE"]);
}

#[test]
fn causes_come_first_and_have_their_followers() {
    #[track_caller]
    fn check(harm: impl FnOnce(&mut Facts), want: &[(&str, Option<&str>)]) {
        let mut facts = sound();
        harm(&mut facts);
        let found = examine(&facts);
        let found = found.iter().filter(|finding| finding.severity.is_problem());
        assert_eq!(found.map(|finding| (finding.name, finding.cause)).collect::<Vec<_>>(), want);
    }
    fn broken(facts: &mut Facts) {
        ipset(facts).sets.as_mut().unwrap()[0].filled = None;
        set(facts).linked = false;
        chain(facts).listing.rules = Ok(vec![]);
    }
    let all = |cause| [("set-missing", cause), ("set-unlinked", cause), ("rule-missing", cause)];
    check(broken, &all(None));
    let with = |cause| [&[(cause, None)], &all(Some(cause))[..]].concat();
    let stopped = |facts: &mut Facts| {
        broken(facts);
        facts.daemon = silent();
    };
    check(stopped, &with("no-daemon"));
    let failed = |facts: &mut Facts| {
        broken(facts);
        daemon(facts).fault = Some("x".to_owned());
    };
    check(failed, &with("enforcement-failed"));
    let decides = |facts: &mut Facts| {
        broken(facts);
        daemon(facts).mode = "none".to_owned();
    };
    check(decides, &with("not-enforced"));
    // What no start repairs does not follow.
    let full = |facts: &mut Facts| {
        set(facts).filled = Some((9, 9));
        facts.daemon = silent();
    };
    check(full, &[("no-daemon", None), ("set-full", None)]);
    // Who may not look is told so once, and is not told to start anything.
    let user = |facts: &mut Facts| {
        (facts.capable, facts.enforcement) = (false, None);
        facts.daemon = Err(NoDaemon::Forbidden("/s".to_owned()));
    };
    check(user, &[("no-privilege", None)]);
    let mut facts = sound();
    user(&mut facts);
    let what =
        examine(&facts).into_iter().find(|finding| finding.severity.is_problem()).map(|finding| finding.what);
    let want =
        "cannot check sets and rules: CAP_NET_ADMIN is missing; no permission to ask the daemon at `/s`";
    assert_eq!(what.as_deref(), Some(want));
}

#[test]
fn a_file_of_countries_that_cannot_be_read_is_found() {
    check(|facts| facts.geoip.1.push("cannot read `/x`: y".to_owned()), &["geoip-broken"]);
}

#[test]
fn a_fault_of_the_rules_is_found() {
    let ours = || ("-A PREROUTING ours".to_owned(), true);
    check(|facts| chain(facts).listing.rules = Err("x".to_owned()), &["RULES-UNKNOWN"]);
    let no_table = "can't initialize ip6tables table `raw': Table does not exist (do you need to insmod?)";
    check(|facts| chain(facts).listing.rules = Err(no_table.to_owned()), &["TABLE-MISSING"]);
    check(|facts| chain(facts).listing.rules = Ok(vec![]), &["RULE-MISSING"]);
    check(|facts| chain(facts).listing.rules.as_mut().unwrap().rotate_left(1), &["RULE-DISPLACED"]);
    check(|facts| chain(facts).others[0].rules = Ok(vec![ours()]), &["rule-in-both-variants"]);
    let drops = || ("-A PREROUTING -m set --match-set bsfull src,dst -j DROP".to_owned(), false);
    check(|facts| chain(facts).listing.rules = Ok(vec![drops(), ours()]), &[]);
    let moved = |facts: &mut Facts| {
        chain(facts).listing.rules = Ok(vec![]);
        chain(facts).others[0].rules = Ok(vec![ours()]);
    };
    check(moved, &["RULE-IN-OTHER-VARIANT"]);
}

#[test]
fn a_fault_of_the_table_is_found() {
    fn harmed(harm: impl FnOnce(&mut NftablesFacts, &mut TableFacts), want: &[&str]) {
        check(with_nftables(harm), want);
    }
    harmed(|_, _| {}, &[]);
    harmed(|_, table| table.is_hooked = false, &["CHAIN-MISSING"]);
    harmed(|_, table| table.sets[1].elements = Some(9), &["SET-FULL"]);
    harmed(|facts, _| facts.lacking = vec!["192.0.2.1".to_owned()], &["BANS-MISSING"]);
    harmed(|facts, _| facts.is_daemons = Some(false), &["TABLE-OF-ANOTHER"]);
    harmed(|facts, _| (facts.is_daemons, facts.holders) = (None, Vec::new()), &[]);
    harmed(|_, table| table.owner = None, &["table-unowned"]);
    // Where a table cannot have an owner, or is not to have one, that is as good as it gets.
    harmed(|facts, table| (facts.can_be_owned, table.owner) = (false, None), &["table-unowned."]);
    harmed(|facts, table| (facts.is_to_be_owned, table.owner) = (false, None), &["table-unowned."]);
    // What may be missing is a module.
    harmed(|_, table| table.sets[0].has_rule = false, &["MODULE-MISSING", "RULE-MISSING"]);
    let stopped = |harm: fn(&mut NftablesFacts, &mut TableFacts)| {
        move |facts: &mut Facts| {
            with_nftables(harm)(facts);
            facts.daemon = silent();
        }
    };
    check(stopped(|facts, _| facts.is_daemons = Some(false)), &["NO-DAEMON"]);
    check(stopped(|_, table| table.owner = None), &["table-unowned.", "NO-DAEMON"]);
    let table = |table| {
        move |facts: &mut Facts| {
            with_nftables(|_, _| {})(facts);
            let Some(Enforcement::Nftables(nftables)) = facts.enforcement.as_mut() else { panic!() };
            nftables.table = table;
        }
    };
    check(table(Ok(None)), &["NFTABLES-TABLE-MISSING"]);
    check(table(Err("x".to_owned())), &["NO-NFTABLES", "MODULE-MISSING"]);
}

#[test]
fn a_backend_that_a_start_would_not_choose_is_told() {
    check(|facts| facts.backend = Some(("x".to_owned(), Some("y".to_owned()))), &["backend-differs."]);
}

#[test]
fn a_missing_module_is_named_where_something_does_not_work() {
    let harm = |sets| {
        move |facts: &mut Facts| {
            let ipset = ipset(facts);
            ipset.modules = vec!["ip_set", "xt_set"];
            ipset.sets = sets;
        }
    };
    check(harm(Ok(Vec::new())), &[]);
    check(harm(Err("x".to_owned())), &["NO-IPSET", "MODULE-MISSING"]);
    let mut facts = sound();
    harm(Err("x".to_owned()))(&mut facts);
    assert!(examine(&facts).last().unwrap().fix.starts_with("modprobe -a ip_set xt_set; "));
}

#[test]
fn a_fault_of_the_daemon_is_found() {
    check(|facts| facts.daemon = silent(), &["NO-DAEMON"]);
    check(|facts| daemon(facts).mode = "none".to_owned(), &["NOT-ENFORCED"]);
    check(|facts| daemon(facts).observing = vec!["sshd".to_owned()], &["observing"]);
    check(|facts| daemon(facts).fault = Some("x".to_owned()), &["ENFORCEMENT-FAILED"]);
    check(|facts| daemon(facts).sources[0].1 = Err("x".to_owned()), &["SOURCE-FAILED"]);
    check(|facts| daemon(facts).sources.clear(), &["NO-SOURCE"]);
    check(|facts| daemon(facts).left = vec!["journald".to_owned()], &["socket-unconnected"]);
    check(|facts| daemon(facts).metrics = Some("x".to_owned()), &["metrics-failed"]);
    check(|facts| daemon(facts).duplicates = vec!["x".to_owned()], &["SAME-LINES"]);
    check(sample("banstream_bans_ineffective_total{jail=\"sshd\"} 3"), &["INEFFECTIVE-BANS"]);
    check(sample("banstream_drops_total{reason=\"overlong\"} 1"), &["drops"]);
    check(|facts| daemon(facts).ledger = Some("x".to_owned()), &["LEDGER-ERRORS"]);
    check(|facts| daemon(facts).damaged = Some("/x".to_owned()), &["ledger-replaced"]);
    check(sample("banstream_ledger_errors_total 1"), &["ledger-recovered."]);
    check(sample("banstream_clock_jumps_total 1"), &["clock-jumps"]);
    check(sample("banstream_entries_unattested_total{source=\"socket\"} 1"), &["unattested"]);
    check(sample("banstream_entries_forged_total{grammar=\"sshd\"} 1"), &["forged-lines"]);
}

#[test]
fn a_log_that_drops_messages_is_found() {
    let journald = |journald: JournaldSettings| move |facts: &mut Facts| facts.journald = Some(journald);
    check(journald(JournaldSettings::default()), &["journald-rate-limit."]);
    check(
        journald(JournaldSettings { burst: 9_999, ..JournaldSettings::default() }),
        &["JOURNALD-RATE-LIMIT"],
    );
    check(
        journald(JournaldSettings { interval: Span::from_secs(31), ..JournaldSettings::default() }),
        &["JOURNALD-RATE-LIMIT"],
    );
    check(journald(JournaldSettings { interval: Span::ZERO, ..JournaldSettings::default() }), &[]);
    check(
        journald(JournaldSettings { keeps_none: true, ..JournaldSettings::default() }),
        &["JOURNALD-KEEPS-NONE"],
    );
    let rsyslog = |limits, sizes| move |facts: &mut Facts| facts.rsyslog = Some(Rsyslog { limits, sizes });
    check(rsyslog(vec![], vec![(suspect(), LONG_ENOUGH)]), &[]);
    check(rsyslog(vec![suspect()], vec![(suspect(), LONG_ENOUGH)]), &["rsyslog-rate-limit"]);
    check(rsyslog(vec![], vec![]), &["RSYSLOG-CUTS"]);
    check(rsyslog(vec![], vec![(suspect(), LONG_ENOUGH), (suspect(), 8192)]), &["RSYSLOG-CUTS"]);
}

#[test]
fn a_source_that_says_nothing_is_wrong_only_where_it_is_the_only_one() {
    let silent = |sources: &[&str], silent, uptime| {
        let sources = sources.iter().map(|name| ((*name).to_owned(), Ok(silent))).collect();
        move |facts: &mut Facts| {
            let daemon = daemon(facts);
            (daemon.sources, daemon.uptime) = (sources, uptime);
        }
    };
    check(silent(&["socket"], Some(SILENT), SILENT), &["SOCKET-SILENT"]);
    check(silent(&["socket"], None, NEVER), &["SOCKET-SILENT"]);
    check(silent(&["socket"], None, NEVER - 1), &[]);
    check(silent(&["socket"], Some(SILENT - 1), 2 * SILENT), &[]);
    check(silent(&["socket", "journald"], None, SILENT), &[]);
}

#[test]
fn a_server_that_hides_its_clients_is_found() {
    let server = |fault| move |facts: &mut Facts| facts.servers.push((fault, suspect()));
    check(server(ServerFault::Logger), &["LOGGER-PIPE"]);
    check(server(ServerFault::Names("x")), &["NAMES-LOGGED"]);
    check(server(ServerFault::PamNames("x")), &["names-in-pam"]);
    let pair = || vec![("x".to_owned(), "10.0.0.5".to_owned())];
    check(|facts| daemon(facts).crowds = pair(), &["one-client"]);
    check(
        |facts| daemon(facts).private_bans = PrivateBans { times: 100_000, examples: pair() },
        &["private-ban"],
    );
}

#[test]
fn no_kind_of_finding_grows_with_what_others_do() {
    let mut facts = sound();
    let many = |n: usize| (n.to_string(), n.to_string());
    let daemon = daemon(&mut facts);
    daemon.private_bans = PrivateBans { times: 100_000, examples: (0..EXAMPLES).map(many).collect() };
    let visitor =
        |n: usize| Visitor { address: n.to_string(), exemption: n.is_multiple_of(2).then(|| "x".to_owned()) };
    daemon.visitors = (0..5000).map(visitor).collect();
    daemon.crowds = (0..5000).map(many).collect();
    daemon.duplicates = (0..5000).map(|n| n.to_string()).collect();
    daemon.sources = (0..5000).map(|n| (n.to_string(), Err(n.to_string()))).collect();
    daemon.receivers = (0..5000).map(|n| (n.to_string(), Err(n.to_string()))).collect();
    facts.servers = vec![(ServerFault::Logger, suspect()); 5000];
    let found = examine(&facts);
    assert!(found.len() < 60, "{} findings", found.len());
    let of = |name| {
        found.iter().filter(|finding| finding.name == name).map(|of| of.what.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(
        of("private-ban"),
        [
            "100000 bans ban private addresses, which may be a proxy for many clients, such as 0 (0), 1 (1), 2 (2)"
        ]
    );
    let crowds = of("one-client");
    assert!(crowds.len() == EXAMPLES && crowds[2].ends_with(" (and 4997 more like this)"), "{crowds:?}");
}

#[test]
fn what_is_found_is_told_with_its_place() {
    let mut facts = sound();
    chain(&mut facts).listing.rules.as_mut().unwrap().rotate_left(1);
    let found = examine(&facts);
    let what = &found.last().unwrap().what;
    assert_eq!(
        what,
        "1 rule in `raw PREROUTING` (IPv6) precedes ours and may accept banned addresses: `-A PREROUTING other`"
    );
}
