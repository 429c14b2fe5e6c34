//! Configurations: what they mean, and what is said of faults in them.

use super::*;

/// What files called `1.toml`, `2.toml`, ... mean together, or what is wrong with them.
fn read(texts: &[&str]) -> Result<Config, String> {
    let grammars = [
        ("sshd", &["auth-failure", "preauth-abuse", "bad-request"][..]),
        ("dropbear", &["auth-failure", "preauth-abuse", "bad-request"]),
        ("vsftpd", &["auth-failure"]),
        ("proftpd", &["auth-failure", "abuse"]),
        ("pure-ftpd", &["auth-failure"]),
        (
            "nginx",
            &[
                "auth-failure",
                "probe",
                "exploit",
                "not-found",
                "bad-request",
                "forbidden",
                "bad-bot",
                "rate-limit",
                "xmlrpc",
            ],
        ),
        (
            "apache",
            &[
                "auth-failure",
                "probe",
                "exploit",
                "not-found",
                "bad-request",
                "forbidden",
                "bad-bot",
                "rate-limit",
                "xmlrpc",
            ],
        ),
        ("ftpd", &["auth-failure"]),
        (
            "lighttpd",
            &[
                "auth-failure",
                "probe",
                "exploit",
                "bad-bot",
                "bad-request",
                "rate-limit",
                "forbidden",
                "not-found",
            ],
        ),
        ("haproxy", &["probe", "unauthorized", "bad-request", "rate-limit", "forbidden", "not-found"]),
        (
            "caddy",
            &["auth-failure", "probe", "exploit", "bad-request", "rate-limit", "forbidden", "not-found"],
        ),
        (
            "traefik",
            &[
                "auth-failure",
                "probe",
                "bad-request",
                "rate-limit",
                "forbidden",
                "not-found",
                "forgeable-auth-failure",
            ],
        ),
        ("audit", &["auth-failure"]),
        ("endlessh", &["preauth-abuse"]),
        ("sftpgo", &["auth-failure", "preauth-abuse"]),
        ("squid", &["auth-failure", "bad-request", "forbidden"]),
        ("portscan", &["port-scan"]),
    ];
    let known = |(name, categories): (&str, &[&str])| {
        (name.to_owned(), categories.iter().map(|category| (*category).to_owned()).collect())
    };
    let shipped =
        crate::grammar::SHIPPED.iter().map(|(name, _)| (*name, &["auth-failure", "preauth-abuse"][..]));
    let grammars: BTreeMap<String, Vec<String>> =
        shipped.chain(grammars.map(|(name, categories)| (name, categories as &[&str]))).map(known).collect();
    let files: Vec<(PathBuf, String)> =
        (1..).zip(texts).map(|(nth, text)| (format!("{nth}.toml").into(), (*text).to_owned())).collect();
    Written::parse(&files).and_then(|written| written.check(&grammars)).map_err(|faults| faults.to_string())
}

fn jail(config: &Config, name: &str) -> Jail {
    config.detection.jails.iter().find(|jail| &*jail.name == name).expect("a jail of that name").clone()
}

#[test]
fn an_empty_configuration_protects_what_logs_to_the_journal() {
    let config = read(&[]).unwrap();
    let names: Vec<&str> = config.detection.jails.iter().map(|jail| &*jail.name).collect();
    let want =
            "ftp http-auth http-exploit http-flood http-probe login mail portscan ssh-abuse ssh-connect sshd tarpit web"
                .split(' ');
    assert_eq!(names, want.collect::<Vec<_>>());
    let mut counted =
        config.detection.jails.iter().flat_map(|jail| &jail.watches).flat_map(|watch| &watch.categories);
    assert!(!counted.any(|category| category.starts_with("forgeable-")));
    let sshd = Jail {
        name: "sshd".into(),
        mode: Mode::Enforce,
        watches: vec![
            Watch { grammar: "dropbear".into(), categories: vec!["auth-failure".into()] },
            Watch { grammar: "sshd".into(), categories: vec!["auth-failure".into()] },
        ],
        max_retry: NonZeroU8::new(5).unwrap(),
        find_time: Span::from_secs(600),
        distinct: None,
        ban_time: Some(Span::from_secs(3600)),
        ports: [].into(),
        ignore: vec![],
    };
    assert_eq!(jail(&config, "sshd"), sshd);
    assert_eq!(config.detection.widths, Widths::default());
    assert_eq!(config.journald, [JournalLocation::System]);
    assert_eq!(config.metrics, Some("127.0.0.1:9634".parse().unwrap()));
    assert_eq!(config.enforce.unwrap().target, ["DROP"]);
}

#[test]
fn the_sample_states_the_defaults() {
    let sample = include_str!("../../contrib/banstream.toml");
    let stated: String = sample
        .lines()
        .skip_while(|line| !line.is_empty())
        .skip(1)
        .map(|line| match line.strip_prefix('#') {
            Some(setting) if !setting.starts_with([' ', '#']) => format!("{setting}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    assert_eq!(stated, include_str!("defaults.toml"));
    assert_eq!(read(&[sample]), read(&[]));
}

#[test]
fn what_is_shown_is_what_is_in_force() {
    let files: Vec<_> = [
        "maxretry = 3\n[jail.sshd]\nbantime = '2h'\n[notify.ops]\nmail = 'a@b'",
        "jail.ftp.maxretry = 4\nignoreip = [\n  '192.0.2.1', # me\n]",
    ]
    .map(|text| ("x.toml".into(), text.to_owned()))
    .into();
    let settings = Written::parse(&files).unwrap().settings();
    let mut text = String::new();
    for table in settings.chunk_by(|one, other| one.table == other.table) {
        if !table[0].table.is_empty() {
            text += &format!("[{}]\n", table[0].table);
        }
        table.iter().for_each(|setting| text += &format!("{} = {}\n", setting.key, setting.value));
    }
    assert_eq!(read(&[&text]), read(&[&files[0].1, &files[1].1]));
    let shown = |table: &str, key: &str| {
        let setting = settings.iter().find(|setting| setting.table == table && setting.key == key);
        setting.map(|Setting { value, line, inherited, .. }| (value.as_str(), *line, *inherited))
    };
    assert_eq!(shown("jail.sshd", "bantime"), Some(("'2h'", Some(3), false)));
    assert_eq!(shown("jail.sshd", "maxretry"), Some(("3", Some(1), true)));
    assert_eq!(shown("jail.ftp", "maxretry"), Some(("4", Some(1), false)));
    assert_eq!(shown("jail.ftp", "findtime"), Some(("\"10m\"", None, true)));
    assert_eq!(shown("", "ignoreip"), Some(("[\n  '192.0.2.1', # me\n]", Some(2), false)));
}

#[test]
fn a_line_that_was_appended_to_a_jail_is_doubted() {
    #[track_caller]
    fn check(texts: &[&str], want: &[&str]) {
        let files: Vec<_> = texts.iter().map(|text| ("x.toml".into(), (*text).to_owned())).collect();
        let doubts = Written::parse(&files).unwrap().doubts();
        let places = doubts.iter().filter_map(|doubt| doubt.split(": ").next());
        assert_eq!(places.collect::<Vec<_>>(), want);
    }
    check(&[], &[]);
    check(&["[jail.sshd]\nmaxretry = 1\nignoreip = ['192.0.2.1']"], &["x.toml:3:1"]);
    check(&["ignoreip = ['192.0.2.2']\n[jail.sshd]\nignoreip = ['192.0.2.1']"], &[]);
    check(&["[jail.sshd]\nignoreip = ['192.0.2.1']", "ignoreip = []"], &[]);
}

#[test]
fn what_exempts_everybody_or_is_open_to_everybody_is_doubted() {
    #[track_caller]
    fn check(text: &str, want: &[&str]) {
        let files = [("x.toml".into(), text.to_owned())];
        let doubts = Written::parse(&files).unwrap().doubts();
        let first = doubts.iter().filter_map(|doubt| doubt.lines().next());
        assert_eq!(first.collect::<Vec<_>>(), want);
    }
    check("ignoreip = ['10.0.0.0/8', '2001:db8::/32', 'file:/a']\nmetrics.listen = '127.0.0.1:1'", &[]);
    let all = |family| format!("exempts every {family} address, so none is ever banned");
    check(
        "ignoreip = ['192.0.2.1', '0.0.0.0/0']",
        &[&format!("x.toml:1:26: warning: `0.0.0.0/0` {}", all("IPv4"))],
    );
    check(
        "ignoreip = []\n[jail.sshd]\nignoreip = ['::/0', '64.0.0.0/7']",
        &[
            &format!("x.toml:3:13: warning: `::/0` {}", all("IPv6")),
            "x.toml:3:21: warning: `64.0.0.0/7` is wider than /8; no address in it is ever banned",
        ],
    );
    check("trusted-proxies = ['::/0']", &[&format!("x.toml:1:20: warning: `::/0` {}", all("IPv6"))]);
    let beyond = "warning: `bantime` is longer than `cap` of [growth], 7d: such bans do not grow";
    check("bantime = '8d'\n[growth]\ncap = '1w'", &[&format!("x.toml:1:11: {beyond}")]);
    check("[growth]\ncap = '1w'\n[jail.sshd]\nbantime = '8d'", &[&format!("x.toml:4:11: {beyond}")]);
    let defaults = "warning: `bantime` is longer than `cap` of [growth], 1m: such bans do not grow";
    check("growth.cap = 60", &[&format!("x.toml:1:14: {defaults}")]);
    for fine in ["bantime = '4w'", "bantime = 'forever'", "bantime = '8w'\n[growth]\nfactor = 1"] {
        check(fine, &[]);
    }
    for (listen, is_open) in [
        ("0.0.0.0:9", true),
        ("[::]:9", true),
        ("203.0.113.1:9", true),
        ("10.0.0.1:9", false),
        ("[::1]:9", false),
    ] {
        let what = format!(
            "x.toml:2:10: warning: everybody who reaches this host can read the metrics at `{listen}`: there is no password"
        );
        let want: &[&str] = if is_open { &[&what] } else { &[] };
        check(&format!("[metrics]\nlisten = '{listen}'"), want);
    }
}

/// What stands in the configuration, against what `look` sees of it.
#[track_caller]
fn check<T: PartialEq + std::fmt::Debug>(texts: &[&str], look: impl Fn(&Config) -> T, want: T) {
    assert_eq!(read(texts).as_ref().map(look), Ok(want));
}

#[test]
fn a_later_file_wins_key_by_key() {
    let files =
        ["maxretry = 3\nfindtime = 60\n[jail.sshd]\nmaxretry = 7", "maxretry = 4\njail.sshd.bantime = 1"];
    let numbers = |name: &'static str| {
        move |config: &Config| {
            let jail = jail(config, name);
            (jail.max_retry.get(), jail.find_time.as_secs_ceil(), jail.ban_time.unwrap().as_secs_ceil())
        }
    };
    check(&files, numbers("sshd"), (7, 60, 1));
    check(&files, numbers("ftp"), (4, 60, 3600));
    check(&["ignoreip = ['192.0.2.1']"], |c| c.detection.ignore.len(), 1);
    check(&["maxretry = 'ten'", "maxretry = 10"], numbers("ftp"), (10, 600, 3600));
}

#[test]
fn a_jail_is_made_and_unmade() {
    let names = |config: &Config| {
        config.detection.jails.iter().map(|j| j.name.to_string()).collect::<Vec<_>>().join(" ")
    };
    check(
        &["[jail.http-flood]\nenabled = false"],
        names,
        "ftp http-auth http-exploit http-probe login mail portscan ssh-abuse ssh-connect sshd tarpit web"
            .into(),
    );
    check(
            &["[jail.b]\ngrammars = ['sshd']"],
            names,
            "b ftp http-auth http-exploit http-flood http-probe login mail portscan ssh-abuse ssh-connect sshd tarpit web"
                .into(),
        );
}

#[test]
fn a_jail_observes_where_it_or_all_do() {
    let modes = |config: &Config| {
        let of = |name| jail(config, name).mode.name();
        format!("{} {} {} {}", config.detection.mode.name(), of("sshd"), of("ftp"), config.enforce.is_some())
    };
    check(&["mode = 'observe'"], modes, "observe observe observe false".into());
    check(&["jail.sshd.mode = 'observe'"], modes, "enforce observe enforce true".into());
    check(&["mode = 'observe'\njail.sshd.mode = 'enforce'"], modes, "observe enforce observe true".into());
}

#[test]
fn a_time_is_written_in_many_ways() {
    let ban = |config: &Config| jail(config, "sshd").ban_time.map(Span::as_secs_ceil);
    check(&["bantime = '10m'"], ban, Some(600));
    check(&["bantime = '1h 30m'"], ban, Some(5400));
    check(&["bantime = '1d'"], ban, Some(86400));
    check(&["bantime = '600'"], ban, Some(600));
    check(&["bantime = 0x10"], ban, Some(16));
    check(&["bantime = -1"], ban, None);
    check(&["bantime = 'forever'"], ban, None);
}

#[test]
fn who_is_not_banned_may_stand_in_files() {
    let files = |config: &Config| {
        let shown = |(jail, file): &(Option<Arc<str>>, PathBuf)| {
            format!("{} {}", jail.as_deref().unwrap_or("all"), file.display())
        };
        (config.detection.ignore.len(), config.ignore_files.iter().map(shown).collect::<Vec<_>>().join(", "))
    };
    let text = "ignoreip = ['::1', 'file:/a']\njail.sshd.ignoreip = ['file:/b', 'file:/c']\n\
                    jail.ftp = {enabled = false, ignoreip = ['file:/d']}";
    check(&[text], files, (1, "all /a, sshd /b, sshd /c".into()));
}

#[test]
fn a_login_protects_for_a_week_or_not_at_all() {
    let span = |config: &Config| config.detection.protect_logins.as_secs_ceil();
    check(&[], span, 604_800);
    check(&["protect-logins = '0s'"], span, 0);
    check(&["protect-logins = 0"], span, 0);
    wrong(
        "protect-logins = false",
        &[
            "1:18: `protect-logins` must be a time such as `10m`, `1h 30m` or a number of seconds, not `false`",
        ],
    );
}

#[test]
fn a_prefix_is_banned_only_where_that_is_asked_for() {
    check(&[], |config: &Config| config.detection.widen, None);
    let widths = Widths { v4: 24, v6: 48 };
    let widen = |config: &Config| config.detection.widen;
    let rule = Widen { widths, offenders: NonZeroU8::new(5).unwrap(), within: Span::from_secs(3600) };
    check(&["widen.offenders = 5"], widen, Some(rule));
    wrong("widen.offenders = 1", &["1:19: `offenders` must be 2 or more, or 0 to ban no prefix"]);
    wrong(
        "ipv4-prefix = 24\nwiden = {offenders = 3, ipv4-prefix = 24, ipv6-prefix = 64}",
        &[
            "2:39: `ipv4-prefix` must be shorter than the prefix of one offender",
            "2:57: `ipv6-prefix` must be shorter than the prefix of one offender",
        ],
    );
}

#[test]
fn a_prefix_of_nat64_has_room_for_an_address() {
    check(&["nat64-prefixes = ['2001:db8:64::/96']"], |config| config.detection.nat64.len(), 1);
    let wanted = "`nat64-prefixes` must be an IPv6 prefix of /32 to /96 such as `2001:db8:64::/96`, not";
    for (value, shown) in
        [("'192.0.2.0/24'", "`192.0.2.0/24`"), ("'2001:db8::1'", "`2001:db8::1`"), ("64", "`64`")]
    {
        wrong(&format!("nat64-prefixes = [{value}]"), &[&format!("1:19: {wanted} {shown}")]);
    }
}

#[test]
fn ports_are_written_in_many_ways() {
    let ports = |config: &Config| {
        jail(config, "ftp").ports.iter().map(crate::model::Port::to_string).collect::<Vec<_>>().join(" ")
    };
    check(&["jail.ftp.ports = [21]"], ports, "21/tcp".into());
    check(&["jail.ftp.ports = ['990, 21', '53/udp', 21]"], ports, "21/tcp 990/tcp 53/udp".into());
}

#[test]
fn parts_can_be_turned_off() {
    let parts =
        |c: &Config| (!c.journald.is_empty(), c.socket.is_some(), c.metrics.is_some(), c.enforce.is_some());
    let off = "journald.enabled = false\nsocket.enabled = false\nmetrics.listen = ''\nmode = 'observe'";
    check(&[], parts, (true, true, true, true));
    check(&[off], parts, (false, false, false, false));
}

#[test]
fn journals_are_read_side_by_side() {
    let journals = |c: &Config| c.journald.iter().map(JournalLocation::name).collect::<Vec<_>>().join(" ");
    let further = "journald.namespaces = ['a', 'b']\njournald.directories = ['/c']";
    check(&[further], journals, "journald journald@a journald@b journald:/c".into());
    for (first, want) in [("namespace = 'x'", "journald@x"), ("directory = '/x'", "journald:/x")] {
        check(&[&format!("journald.{first}")], journals, want.into());
        check(
            &[further, &format!("journald.{first}")],
            journals,
            format!("{want} journald@a journald@b journald:/c"),
        );
    }
    check(&[further, "journald.enabled = false"], journals, String::new());
    wrong(
        "journald.directories = ['x']",
        &["1:25: `directories` must be an absolute path, such as `/var/lib/banstream`, not `x`"],
    );
    wrong(
        "journald.namespaces = ['a/b']",
        &["1:24: `namespaces` must be a name of at most 200 letters, digits, `-`, `_` or `.`, not `a/b`"],
    );
    for (twice, want) in [
        ("directory = '/c'\ndirectories = ['/c/']", "3:15: the journal in `/c/` is listed twice"),
        ("namespaces = ['a', 'b', 'a']", "2:14: the journal in the namespace `a` is listed twice"),
    ] {
        wrong(&format!("[journald]\n{twice}"), &[&format!("{want}: its lines would count twice")]);
    }
    let many = |count: u8| {
        let names: Vec<String> = (1..=count).map(|nth| format!("'/{nth}'")).collect();
        format!("journald.directories = [{}]", names.join(", "))
    };
    check(&[&many(15)], |c| c.journald.len(), 16);
    wrong(&many(16), &["1:24: at most 16 journals can be read"]);
}

#[test]
fn unattested_lines_are_accepted_unless_refused() {
    let unattested = |c: &Config| c.socket.as_ref().map(|ingest| ingest.unattested);
    check(&[], unattested, Some(Unattested::Accept));
    check(&["socket.unattested = 'refuse'"], unattested, Some(Unattested::Refuse));
}

#[test]
fn a_receiver_inherits_what_it_does_not_say() {
    let receivers = |config: &Config| {
        let show = |r: &Arc<Receiver>| {
            let channel = match &r.channel {
                NotifyChannel::Webhook { url, headers, token_file } => {
                    format!("{url} {headers:?} {token_file:?}")
                }
                channel => format!("{channel:?}"),
            };
            let (name, topics, jails) = (&r.name, &r.topics, r.jails.join(" "));
            let grouping = match r.grouping {
                Grouping::Digests(DigestPace { delay, every, at_most }) => {
                    format!("{delay} {every} {at_most}")
                }
                Grouping::Each(EachPace { concurrency, per_minute }) => {
                    format!("each {concurrency} {per_minute:?}")
                }
            };
            format!("{name}: {channel} {topics:?} [{jails}] {grouping} {}", r.timeout)
        };
        config.receivers.iter().map(show).collect::<Vec<_>>().join("\n")
    };
    check(&[], receivers, String::new());
    let text = "[notify]\nevery = '1h'\nsendmail = '/s'\n[notify.b]\nmail = 'root'\nevery = 60\nevents = ['repair']\n\
                    [notify.a]\ncommand = ['/bin/x', 'y z']\njails = ['sshd', 'manual']\n\
                    [notify.c]\nwebhook = 'https://example.org/x'\nheaders = ['X-Key: 1']\ntoken-file = '/t'\n\
                    [notify.d]\ncommand = ['/x']\neach = true\n\
                    [notify.e]\nwebhook = 'http://x/'\neach = true\nconcurrency = 9\nper-minute = 60\ntimeout = '1s'";
    let want = "a: Command([\"/bin/x\", \"y z\"]) [Ban, Trouble] [sshd manual] 10s 1h 20 10s\n\
                    b: Mail { to: \"root\", from: None, sendmail: \"/s\" } [Repair] [] 10s 1m 20 10s\n\
                    c: https://example.org/x {\"x-key\": Sensitive} Some(\"/t\") [Ban, Trouble] [] 10s 1h 20 10s\n\
                    d: Command([\"/x\"]) [Ban, Trouble] [] each 1 None 10s\n\
                    e: http://x/ {} None [Ban, Trouble] [] each 9 Some(60) 1s";
    check(&[text], receivers, want.to_owned());
}

#[test]
fn a_receiver_that_cannot_be_told_is_refused() {
    wrong("notify.evry = 1", &["1:8: unknown key `evry`; did you mean `every`?"]);
    wrong("[notify.a]", &["1:9: `a` needs one of `webhook`, `command` and `mail`"]);
    wrong(
        "[notify.a]\nmail = 'root'\ncommand = ['/x']",
        &["1:9: `a` needs one of `webhook`, `command` and `mail`"],
    );
    let url = "must be a URL such as `https://example.org/path`";
    for (text, want) in [
        ("notify.a.webhook = 'ftp://x'", format!("20: `webhook` {url}")),
        ("notify.a.webhook = 'https://me:secret@x'", format!("20: `webhook` {url}")),
        ("notify.a.webhook = '/x'", format!("20: `webhook` {url}")),
        (
            "notify.a.mail = 'root, eve'",
            "17: `mail` must be one address such as `root@localhost`, not `root, eve`".to_owned(),
        ),
        (
            "notify.a = {webhook = 'http://x', headers = [\"X: 1\\nY: 2\"]}",
            "46: `headers` must be headers such as `X-Api-Key: 123`".to_owned(),
        ),
        ("notify.a.command = ['x']", "20: `command` must begin with an absolute path".to_owned()),
        (
            "notify.a = {mail = 'root', jails = ['ssh']}",
            "37: `jails` must be a jail, not `ssh`; did you mean `sshd`?".to_owned(),
        ),
        (
            "notify.a = {mail = 'root', events = []}",
            "37: `events` is empty: nothing would be sent".to_owned(),
        ),
        (
            "notify.a = {mail = 'root', each = true}",
            "35: `each` is not for `mail`: a flood of bans would be a flood of mail".to_owned(),
        ),
        (
            "notify.a = {command = ['/x'], each = true, every = 1}",
            "52: `every` is for digests, not for `each`".to_owned(),
        ),
        (
            "notify.a = {command = ['/x'], each = true, concurrency = 2}",
            "58: `concurrency` is for `webhook`: a program with `each` gets one event at a time".to_owned(),
        ),
        ("notify.a = {command = ['/x'], per-minute = 2}", "44: `per-minute` needs `each = true`".to_owned()),
        (
            "notify.a = {webhook = 'http://x', each = true, concurrency = 0}",
            "62: `concurrency` must be a whole number from 1 to 64, not `0`".to_owned(),
        ),
        (
            "notify.'a b'.mail = 'root'",
            "8: a receiver's name can have letters, digits, `-`, `_` and `.` only".to_owned(),
        ),
    ] {
        wrong(text, &[&format!("1:{want}")]);
    }
}

#[test]
fn a_target_has_options() {
    let reject = "[enforce]\ntable = 'filter'\nchains = ['INPUT', 'DOCKER-USER']\n";
    let target = |c: &Config| c.enforce.clone().unwrap().target.join("|");
    check(
        &[reject, "enforce.target = 'REJECT  --reject-with tcp-reset'"],
        target,
        "REJECT|--reject-with|tcp-reset".into(),
    );
    check(
        &[reject, "enforce.target = ['LOG', '--log-prefix', 'no way']"],
        target,
        "LOG|--log-prefix|no way".into(),
    );
}

#[test]
fn the_grammar_directory_is_known_before_the_rest() {
    let directory = |text: &str| {
        let files = [(PathBuf::from("1.toml"), text.to_owned())];
        Written::parse(&files).unwrap().grammar_directory().map_err(|faults| faults.to_string())
    };
    assert_eq!(directory("nonsense = 1"), Ok("/etc/banstream/grammars".into()));
    assert_eq!(directory("grammar-directory = '/g'"), Ok("/g".into()));
    assert!(directory("grammar-directory = 'g'").is_err());
}

#[test]
fn every_fault_of_every_file_is_shown_where_it_stands() {
    let jail = "[jail.ssh]\ngrammars = ['sshd', 'sshdd']\nmaxretry = 0\nban-time = '1h'\n";
    let want = "\
1.toml:2:21: `grammars` must be a grammar that comes with banstream or is in `grammar-directory`, not `sshdd`; did you mean `sshd`?
grammars = ['sshd', 'sshdd']
                    ^
1.toml:3:12: `maxretry` must be a whole number from 1 to 255, not `0`
maxretry = 0
           ^
1.toml:4:1: unknown key `ban-time`; did you mean `bantime`?
ban-time = '1h'
^
2.toml:2:2: `ignoreip` must be an address, a prefix such as `192.0.2.0/24`, or a file such as `file:/etc/banstream/allow.list`, not `é`
\t'é', '::/129']
\t^
2.toml:2:7: `ignoreip` must be an address, a prefix such as `192.0.2.0/24`, or a file such as `file:/etc/banstream/allow.list`, not `::/129`
\t'é', '::/129']
\t     ^";
    assert_eq!(read(&[jail, "ignoreip = [\n\t'é', '::/129']"]), Err(want.to_owned()));
}

/// The place and the text of each fault in one file.
#[track_caller]
fn wrong(text: &str, want: &[&str]) {
    let faults = read(&[text]).unwrap_err();
    let got: Vec<&str> =
        faults.lines().step_by(3).map(|line| line.strip_prefix("1.toml:").unwrap_or(line)).collect();
    assert_eq!(got, want);
}

#[test]
fn words_of_fail2ban_are_answered_with_what_to_write() {
    wrong("[sshd]", &["1:2: unknown key `sshd`; did you mean `[jail.sshd]`?"]);
    wrong("bantime = 1h", &["1:11: write `bantime = \"1h\"`"]);
    wrong(
        "[jail.x]\ngrammars = ['sshd']\nfilter = 'x'",
        &[
            "3:1: unknown key `filter`; fail2ban's `filter`: `grammars` and `offences`: a grammar for a program, and which of its categories count",
        ],
    );
    wrong(
        "[jail.recidive]\nenabled = true",
        &["1:7: a jail `recidive` is not needed, since bans grow; delete it"],
    );
    wrong(
        "jail.sshd.mode = 'aggressive'",
        &[
            "1:18: `mode` must be `enforce` or `observe`, not `aggressive`; what fail2ban calls a mode is `offences` here",
        ],
    );
    let increment = "unknown key `bantime.increment`; fail2ban's `bantime.increment`: always; `growth.factor = 1` turns it off";
    let maxtime = "unknown key `bantime.maxtime`; fail2ban's `bantime.maxtime`: `cap` in `[growth]`, \
                   which does not shorten a `bantime` that is longer";
    wrong("bantime.increment = true", &[&format!("1:9: {increment}")]);
    wrong("\"bantime.increment\" = true", &[&format!("1:1: {increment}")]);
    wrong(
        "[bantime]\nincrement = true\nmaxtime = '1w'",
        &[&format!("2:1: {increment}"), &format!("3:1: {maxtime}")],
    );
    wrong("[jail.sshd]\nbantime.increment = true", &[&format!("2:9: {increment}")]);
    wrong("bantime = '1h'\nbantime.increment = true", &[&format!("2:1: {increment}")]);
    wrong("bantime.x = 1", &["1:1: `bantime` must be one value, not a table"]);
    let default = "what fail2ban has in `[DEFAULT]` is here at the top of the file, before the first table";
    wrong("[DEFAULT]\nbantime.increment = true", &[&format!("1:2: unknown key `DEFAULT`; {default}")]);
    wrong("[jail.DEFAULT]\nbantime = '1h'", &[&format!("1:7: {default}")]);
    let written = "`grammars = [\"nginx\"]` and `offences = [\"auth-failure\"]`";
    wrong(
        "[jail.nginx-http-auth]\nmaxretry = 3",
        &[&format!(
            "1:7: the jail `nginx-http-auth` has no grammar; fail2ban's filter `nginx-http-auth` is here {written}"
        )],
    );
    wrong("[jail.my-app]", &["1:7: the jail `my-app` has no grammar: add `grammars = [\"...\"]`"]);
    wrong(
        "[jail.x]\ngrammars = ['nginx-http-auth']",
        &[&format!(
            "2:13: `grammars` must be a grammar that comes with banstream or is in `grammar-directory`, not \
             `nginx-http-auth`; fail2ban's filter is here {written}"
        )],
    );
    let ports = "`ports` must be ports such as `22`, `22/tcp` or `80,443`";
    wrong("[jail.sshd]\nports = ['ssh']", &[&format!("2:10: {ports}, not `ssh`; write `22`")]);
    wrong(
        "[jail.sshd]\nports = ['http,https/tcp']",
        &[&format!("2:10: {ports}, not `http,https/tcp`; write `80,443`")],
    );
    wrong("# jail.local\n[DEFAULT]\nbantime = 1h\n[sshd]\nport = ssh\n", &[&format!("1:1: {IS_FAIL2BAN}")]);
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest() {
    wrong("findtme = 3", &["1:1: unknown key `findtme`; did you mean `findtime`?"]);
    wrong("[jial.x]", &["1:2: unknown key `jial`; did you mean `jail`?"]);
    wrong("growth.caps = '1w'", &["1:8: unknown key `caps`; did you mean `cap`?"]);
    let keys =
        "across, bantime, distinct, enabled, findtime, grammars, ignoreip, maxretry, mode, offences, ports";
    wrong("jail.sshd.rotate = 'x'", &[&format!("1:11: unknown key `rotate`; valid keys: {keys}")]);
}

#[test]
fn what_is_no_toml_is_refused() {
    wrong(
        "maxretry = \nfindtime",
        &[
            "1:12: string values must be quoted, expected literal string",
            "2:9: key with no value, expected `=`",
        ],
    );
    wrong("[jail.sshd", &["1:11: unclosed table, expected `]`"]);
    wrong("maxretry = 1\nmaxretry = 2", &["2:1: duplicate key"]);
}

#[test]
fn a_value_of_another_kind_is_refused() {
    wrong("growth = 2", &["1:10: `growth` must be a table: `[growth]`"]);
    wrong("jail.x = 3", &["1:6: `x` must be a table: `[jail.x]`"]);
    wrong("findtime = {}", &["1:12: `findtime` must be one value, not a table"]);
    wrong("ignoreip = '::1'", &["1:12: `ignoreip` must be a list, such as `[\"...\", \"...\"]`"]);
    wrong("journald.enabled = 'yes'", &["1:20: `enabled` must be `true` or `false`, not `yes`"]);
    wrong(
        "enforce.set = ['a']",
        &["1:15: `set` must be a name of at most 24 letters, digits, `-`, `_` or `.`, not a list"],
    );
}

#[test]
fn a_value_in_quotation_marks_is_told_to_leave_them_out() {
    let out = "in quotation marks; leave them out";
    wrong(
        "maxretry = '5'",
        &[&format!("1:12: `maxretry` must be a whole number from 1 to 255, not `5` {out}")],
    );
    wrong("maxretry = '500'", &["1:12: `maxretry` must be a whole number from 1 to 255, not `500`"]);
    wrong(
        "growth.factor = '2.5'",
        &[&format!("1:17: `factor` must be a number from 1 to 100, not `2.5` {out}")],
    );
    wrong(
        "socket.enabled = 'false'",
        &[&format!("1:18: `enabled` must be `true` or `false`, not `false` {out}")],
    );
    wrong("socket.enabled = 'no'", &["1:18: `enabled` must be `true` or `false`, not `no`"]);
}

#[test]
fn a_number_out_of_range_is_refused() {
    let retries = "`maxretry` must be a whole number from 1 to 255";
    wrong("maxretry = 0", &[&format!("1:12: {retries}, not `0`")]);
    wrong("maxretry = 0x100", &[&format!("1:12: {retries}, not `0x100`")]);
    wrong("maxretry = 2.5", &[&format!("1:12: {retries}, not `2.5`")]);
    wrong("ipv4-prefix = 33", &["1:15: `ipv4-prefix` must be a whole number from 8 to 32, not `33`"]);
    wrong("ipv6-prefix = 0", &["1:15: `ipv6-prefix` must be a whole number from 16 to 128, not `0`"]);
    wrong(
        "max-offenders = 0",
        &["1:17: `max-offenders` must be a whole number from 1 to 100000000, not `0`"],
    );
    let rows = "`max-rows` must be a whole number from 1000 to 4294967295";
    wrong("ledger.max-rows = 999", &[&format!("1:19: {rows}, not `999`")]);
    wrong("growth.factor = nan", &["1:17: `factor` must be a number from 1 to 100, not `nan`"]);
    wrong("growth.factor = 0", &["1:17: `factor` must be a number from 1 to 100, not `0`"]);
    wrong("growth.jitter = 1.5", &["1:17: `jitter` must be a number from 0 to 1, not `1.5`"]);
    wrong(
        "enforce.max-elements = 0",
        &["1:24: `max-elements` must be a whole number from 1 to 4294967295, not `0`"],
    );
}

#[test]
fn a_time_that_is_none_is_refused() {
    let find = "`findtime` must be a time such as `10m`, `1h 30m` or a number of seconds";
    wrong("findtime = '10 parsecs'", &[&format!("1:12: {find}, not `10 parsecs`")]);
    wrong("findtime = 'forever'", &[&format!("1:12: {find}, not `forever`")]);
    wrong("findtime = 0", &[&format!("1:12: {find}, not `0`")]);
    wrong("findtime = 1979-05-27", &[&format!("1:12: {find}, not `1979-05-27`")]);
    let ban = "`bantime` must be a time such as `10m`, `1h 30m`, a number of seconds or `forever`";
    wrong("bantime = '0s'", &[&format!("1:11: {ban}, not `0s`")]);
    wrong("bantime = -2", &[&format!("1:11: {ban}, not `-2`")]);
}

#[test]
fn an_address_that_is_none_is_refused() {
    let prefix = "`ignoreip` must be an address, a prefix such as `192.0.2.0/24`, or a file such as `file:/etc/banstream/allow.list`";
    wrong("ignoreip = ['file:allow.list']", &[&format!("1:13: {prefix}, not `file:allow.list`")]);
    wrong("ignoreip = ['::1', 'localhost']", &[&format!("1:20: {prefix}, not `localhost`")]);
    wrong(
        "ignoreip = ['10.0.0.0/33', '']",
        &[&format!("1:13: {prefix}, not `10.0.0.0/33`"), &format!("1:28: {prefix}, not an empty text")],
    );
    wrong(
        "metrics.listen = 'localhost:9634'",
        &["1:18: `listen` must be an address with a port, such as `127.0.0.1:9634`, not `localhost:9634`"],
    );
}

#[test]
fn a_path_that_will_not_do_is_refused() {
    wrong(
        "control.path = 'control.sock'",
        &["1:16: `path` must be an absolute path, such as `/var/lib/banstream`, not `control.sock`"],
    );
    let long = format!("/{}", "x".repeat(107));
    wrong(
        &format!("socket.path = '{long}'"),
        &[&format!("1:15: `path` must be a path of at most 107 bytes, not `{long}`")],
    );
    wrong(
        "[journald]\nnamespace = 'a'\ndirectory = '/b'",
        &["3:13: `namespace` and `directory` cannot both be set"],
    );
}

#[test]
fn a_rule_that_iptables_would_not_take_is_refused() {
    wrong(
        "mode = 'enforced'",
        &["1:8: `mode` must be `enforce` or `observe`, not `enforced`; did you mean `enforce`?"],
    );
    wrong(
        "enforce.set = '-x'",
        &["1:15: `set` must be a name of at most 24 letters, digits, `-`, `_` or `.`, not `-x`"],
    );
    wrong(
        "enforce.table = 'raww'",
        &["1:17: `table` must be a table of iptables, not `raww`; did you mean `raw`?"],
    );
    wrong("enforce.chains = []", &["1:18: `chains` is empty: the rule would see no packet"]);
    wrong(
        "enforce.target = ''",
        &["1:18: `target` must be a target such as `DROP`, with its options, not an empty text"],
    );
    wrong(
        "enforce.target = 'REJECT'",
        &["1:18: `REJECT` works in the table `filter` only (iptables-extensions(8))"],
    );
}

#[test]
fn a_jail_that_could_not_work_is_refused() {
    wrong(
        "[jail.ssh]\nmaxretry = 3",
        &["1:7: the jail `ssh` has no grammar; did you mean `sshd`? Otherwise add `grammars = [\"...\"]`"],
    );
    wrong("[jail.x]\nmaxretry = 3", &["1:7: the jail `x` has no grammar: add `grammars = [\"...\"]`"]);
    let name = "a jail's name can have letters, digits, `-`, `_` and `.` only, and must not be `manual`, `list` or `wide`";
    wrong("jail.wide.grammars = ['sshd']", &[&format!("1:6: {name}")]);
    wrong("jail.manual.grammars = ['sshd']", &[&format!("1:6: {name}")]);
    wrong("jail.'a b'.grammars = ['sshd']", &[&format!("1:6: {name}")]);
    wrong(
        "jail.sshd.grammars = ['sshdd']",
        &[
            "1:23: `grammars` must be a grammar that comes with banstream or is in `grammar-directory`, not `sshdd`; did you mean `sshd`?",
        ],
    );
    wrong(
        "jail.sshd.offences = ['auth-failures']",
        &[
            "1:23: `offences` must be a category of its grammars, not `auth-failures`; did you mean `auth-failure`?",
        ],
    );
    wrong(
        "jail.sshd.offences = ['login']",
        &[
            "1:23: `offences` must be a category of its grammars, not `login`; valid names: auth-failure, bad-request, preauth-abuse",
        ],
    );
    wrong(
        "[jail.ftp]\ngrammars = ['ftpd', 'sftpgo']\noffences = ['preauth-abuse']",
        &["3:12: the grammar `ftpd` has none of the `offences` of the jail `ftp`"],
    );
    let ports = "`ports` must be ports such as `22`, `22/tcp` or `80,443`";
    wrong(
        "jail.sshd.ports = ['ssh', 0, 65536, '22/sctp', true]",
        &[
            &format!("1:20: {ports}, not `ssh`; write `22`"),
            &format!("1:27: {ports}, not `0`"),
            &format!("1:30: {ports}, not `65536`"),
            &format!("1:37: {ports}, not `22/sctp`"),
            &format!("1:48: {ports}, not `true`"),
        ],
    );
    // A jail that is not in use is held to the same.
    wrong(
        "jail.x = {enabled = false, grammars = ['sshd'], maxretry = 0}",
        &["1:60: `maxretry` must be a whole number from 1 to 255, not `0`"],
    );
}
