//! The whole daemon, against real servers, real log daemons and the kernel's packet filter.
//!
//! Each test has two hosts of its own, a victim and an attacker, made by `e2e/victim` in namespaces that end with
//! the test. That takes root and the packages that `contrib/test` installs, so a plain `cargo test` leaves
//! these tests out.
//!
//! Nothing here knows how the daemon works inside: it is started, attacked and asked as an operator would.

mod dashboards;
mod documents;
mod identity;
mod inputs;
mod own_log;
mod setup;
mod transports;

use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::thread;

use crate::common::{LIMIT, until};

/// The default number of offences that earn a ban.
const MAX_RETRY: usize = 5;

#[test]
fn attacks_that_rsyslog_tells_of_end_in_bans() {
    attacks_end_in_bans("rsyslog", &["ssh", "ftp", "http", "apache"]);
}

#[test]
fn attacks_that_journald_tells_of_end_in_bans() {
    attacks_end_in_bans("journald", &["ssh", "ftp", "http"]);
}

/// One offence too few earns nothing, enough earn a ban, and nobody else notices.
#[track_caller]
fn attacks_end_in_bans(log: &str, servers: &[&str]) {
    let lab = Lab::up(log);
    let _daemon = lab.start("");
    thread::scope(|scope| {
        for (nth, server) in servers.iter().enumerate() {
            let lab = &lab;
            scope.spawn(move || {
                let patient = format!("198.51.100.{}", 10 + nth);
                lab.attack(server, &patient, MAX_RETRY - 1);
                for eager in [format!("198.51.100.{}", 20 + nth), format!("2001:db8:bad:{nth}::1")] {
                    lab.attack(server, &eager, MAX_RETRY);
                    until(&format!("{eager} is banned for {server}"), || lab.is_banned(&eager));
                    assert!(!lab.reaches(&eager), "{eager} still gets through after attacks on {server}");
                }
                assert!(!lab.is_banned(&patient), "{patient} is banned too early by {server}");
                lab.attack(server, &patient, 1);
                until(&format!("{patient} is banned for {server}"), || lab.is_banned(&patient));
            });
        }
    });
    for server in servers {
        for honest in ["198.51.100.99", "2001:db8:bad:99::1"] {
            assert_eq!(lab.log_in(server, honest, "sesame"), "1\n", "{honest} is shut out of {server}");
        }
    }
    for iptables in ["iptables", "ip6tables"] {
        let rules = lab.sh(&format!("{iptables} -t raw -S; {iptables} -S"));
        let ours: Vec<&str> = rules.lines().filter(|rule| rule.starts_with("-A")).collect();
        assert_eq!(ours, ["-A PREROUTING -m set --match-set banstream src,dst -j DROP"]);
    }
}

#[test]
fn as_many_attempts_as_were_made_through_rsyslog() {
    as_many_attempts_as_were_made("rsyslog", &[3], &["apache-missing", "apache-probe"]);
}

#[test]
fn as_many_attempts_as_were_made_through_journald() {
    as_many_attempts_as_were_made("journald", &[2, 4], &[]);
}

/// Whatever is done, and however many lines a server writes about it: k - 1 times is once too few for a ban, and
/// once more is enough.
#[track_caller]
fn as_many_attempts_as_were_made(log: &str, ks: &[usize], more: &[&str]) {
    let ways = [WAYS, more].concat();
    let lab = Lab::up(log);
    let _daemon = lab.start("");
    for &k in ks {
        lab.write_config(&format!(
            "maxretry = {k}\nmode = 'observe'\n{}",
            ["ssh-abuse", "ssh-connect", "http-probe", "http-exploit", "http-flood"]
                .map(|jail| format!("jail.{jail}.maxretry = {k}\n"))
                .concat()
        ));
        lab.sh("banstream reload");
        // Each way has a source of its own, called so in a list of bans.
        let source = |n: usize| match k {
            2 => (format!("2001:db8:bad:{n}::1"), format!("\"2001:db8:bad:{n}::/64\"")),
            _ => (format!("198.51.100.{n}"), format!("\"198.51.100.{n}\"")),
        };
        let fail_each = |times: usize| {
            let queue = Mutex::new(ways.iter().zip(1..));
            let work = || {
                loop {
                    let next = queue.lock().expect("no other has failed").next();
                    let Some((way, n)) = next else { return };
                    let (mut words, source, times) = (way.split(' '), source(n).0, times.to_string());
                    let way = words.next().expect("a way");
                    let words: Vec<&str> = [way, &source, &times].into_iter().chain(words).collect();
                    assert_eq!(lab.attempts(&words), "0\n", "{words:?}");
                }
            };
            thread::scope(|scope| (0..WORKERS).for_each(|_| drop(scope.spawn(work))));
        };
        let banned = || -> Vec<&str> {
            let bans = lab.sh("banstream bans --json");
            ways.iter().zip(1..).filter(|(_, n)| bans.contains(&source(*n).1)).map(|(way, _)| *way).collect()
        };

        fail_each(k - 1);
        let (last, shown) = source(99);
        lab.attack("ssh", &last, k);
        until("the last is banned", || lab.sh("banstream bans --json").contains(&shown));
        assert_eq!(banned(), [""; 0], "{} attempts came to {k}", k - 1);
        fail_each(1);
        until(&format!("{k} attempts come to {k}"), || {
            let banned = banned();
            if banned == ways { Ok(()) } else { Err(format!("{banned:?}")) }
        });
    }
}

/// How one can fail at a server: a way of `e2e/attack`, a user name and a password.
const WAYS: &[&str] = &[
    "pure-ftpd-once", // first, because it waits for seconds after each
    "pure-ftpd",
    "pure-ftpd oracle",
    "ssh",
    "ssh oracle",
    "ssh root",
    "ssh-once",
    "ssh-once oracle",
    "ssh-keyboard",
    "ssh-keyboard oracle",
    "ssh-keyboard-once",
    "ssh-key",
    "ssh-key oracle",
    "ssh-key-first",
    "ssh-key-first oracle",
    "ssh-strict root",
    "ssh-strict root sesame", // PermitRootLogin no
    "ssh-strict bob",         // AllowUsers
    "ssh-strict-once",        // MaxAuthTries 3
    "ssh-strict-once oracle",
    "ssh-no-cipher",
    "ssh-silent",
    "ssh-http",
    "ftp",
    "ftp oracle",
    "ftp-once",
    "proftpd",
    "proftpd oracle",
    "proftpd-once",
    "http",
    "http oracle",
    "http-missing",
    "http-probe",
    "http-once",
    "apache",
    "apache oracle",
];

/// How many of them are tried at once.
const WORKERS: usize = 4;

#[test]
fn rsyslog_keeps_what_is_logged_while_the_daemon_is_away() {
    nothing_is_lost_while_the_daemon_is_away("rsyslog");
}

#[test]
fn journald_keeps_what_is_logged_while_the_daemon_is_away() {
    nothing_is_lost_while_the_daemon_is_away("journald");
}

#[track_caller]
fn nothing_is_lost_while_the_daemon_is_away(log: &str) {
    let lab = Lab::up(log);
    let (before, during) = ("198.51.100.1", "198.51.100.2");
    let daemon = lab.start("");
    lab.attack("ssh", before, MAX_RETRY);
    until("the first is banned", || lab.is_banned(before));
    daemon.stop();
    assert!(!lab.reaches(before), "a ban ended with the daemon");
    lab.attack("ssh", during, MAX_RETRY);
    assert!(lab.reaches(during));

    let daemon = lab.start("");
    until("the second is banned", || lab.is_banned(during));
    assert!(lab.is_banned(before));
    daemon.kill();
    assert!(!lab.reaches(before), "a ban ended with the daemon");

    let _daemon = lab.start("");
    lab.sh(&format!("banstream unban {before}"));
    until("the first is free", || lab.reaches(before));
    assert!(!lab.reaches(during));
}

#[test]
fn a_wrong_configuration_changes_nothing() {
    let lab = Lab::up("journald");
    let _daemon = lab.start("");
    lab.sh("banstream ban 198.51.100.1");
    lab.attack("ssh", "198.51.100.2", MAX_RETRY - 1);

    lab.write_config("[jail.sshd]\nmaxretri = 1\n");
    let answer = lab.output("banstream reload");
    assert_eq!(answer.status.code(), Some(1), "{answer:?}");
    let words = String::from_utf8_lossy(&answer.stderr);
    assert!(words.contains("banstream.toml:2:1") && words.contains("maxretry"), "{words}");
    lab.sh("kill -HUP $(cat /run/banstream.pid)");
    lab.attack("ssh", "198.51.100.2", 1);
    until("the fifth offence counts with the four before", || lab.is_banned("198.51.100.2"));
    assert!(lab.is_banned("198.51.100.1"));

    lab.write_config("[jail.sshd]\nmaxretry = 2\n");
    lab.sh("banstream reload");
    lab.attack("ssh", "198.51.100.3", 2);
    until("two offences are enough", || lab.is_banned("198.51.100.3"));
    assert!(lab.is_banned("198.51.100.1"));
}

#[test]
fn a_configuration_that_nobody_confirms_goes_away() {
    let lab = Lab::up("journald");
    let _daemon = lab.start("");
    let tried = || lab.sh("banstream status --json").contains("\"name\":\"tried\"");
    lab.write_config("[jail.tried]\ngrammars = ['sshd']\n");
    lab.sh("banstream reload --confirm 1h");
    assert!(tried());
    // The clock runs from the last reload, and what comes back is what was confirmed.
    lab.sh("banstream reload --confirm 1s");
    assert!(tried());
    until("it goes away", || !tried());
    let nothing_waits = || !lab.output("banstream reload --keep").status.success();
    assert!(nothing_waits());
    lab.sh("banstream reload --confirm 1h; banstream reload --keep");
    assert!(tried() && nothing_waits());
}

#[test]
fn a_local_user_can_get_nobody_banned_through_rsyslog() {
    a_local_user_can_get_nobody_banned("rsyslog");
}

#[test]
fn a_local_user_can_get_nobody_banned_through_journald() {
    a_local_user_can_get_nobody_banned("journald");
}

#[track_caller]
fn a_local_user_can_get_nobody_banned(log: &str) {
    let lab = Lab::up(log);
    let _daemon = lab.start("");
    lab.sh("for i in {1..20}; do
                runuser -u alice -- logger -p auth.info -t sshd \
                    'Failed password for root from 198.51.100.77 port 22 ssh2'
            done");
    lab.attack("ssh", "198.51.100.1", MAX_RETRY);
    until("the real attacker is banned", || lab.is_banned("198.51.100.1"));
    assert!(!lab.is_banned("198.51.100.77"));
}

#[test]
fn nobody_who_belongs_here_is_shut_out() {
    let lab = Lab::up("journald");
    lab.sh("ip route add default via 203.0.113.2; echo 198.51.100.9 >/run/allow.list");
    let _daemon = lab.start("ignoreip = ['file:/run/allow.list']\n");
    let exempt = |source: &str, by: &str| {
        lab.attack("ssh", source, MAX_RETRY);
        let metric = format!("banstream_bans_exempted_total{{jail=\"sshd\",exemption=\"{by}\"}} 1");
        until(&format!("{source} is exempt"), || metrics(&lab).contains(&metric));
        assert!(!lab.is_banned(source));
    };
    exempt("203.0.113.2", "gateway");
    exempt("198.51.100.9", "ignoreip");
    assert_eq!(lab.log_in("ssh", "198.51.100.3", "sesame"), "1\n");
    exempt("198.51.100.3", "login");
    // Nobody tells the daemon that the list has changed.
    lab.sh("echo '192.0.2.0/33' >/run/allow.list");
    until("the list is read again", || {
        lab.attack("ssh", "198.51.100.9", MAX_RETRY);
        lab.is_banned("198.51.100.9")
    });
    lab.sh("grep -F '/run/allow.list:1: `192.0.2.0/33` is not an address' /run/banstream.log");
    lab.sh("echo 198.51.100.9 >/run/allow.list");
    until("the ban is lifted", || !lab.is_banned("198.51.100.9"));
}

#[test]
fn whom_an_operator_allows_is_let_in_and_kept_in() {
    let lab = Lab::up("journald");
    let daemon = lab.start("");
    lab.sh("banstream ban 198.51.100.8; banstream ban 198.51.100.128/25");
    lab.attack("ssh", "198.51.100.1", MAX_RETRY);
    until("the attacker is banned", || lab.is_banned("198.51.100.1"));
    lab.sh("banstream allow 198.51.100.1 --comment 'on call'; banstream allow 198.51.100.8 --for 2s");
    until("both are let in", || lab.reaches("198.51.100.1") && lab.reaches("198.51.100.8"));
    let refused = lab.output("banstream ban 198.51.100.1");
    assert_eq!(
        String::from_utf8_lossy(&refused.stderr),
        "error: 198.51.100.1 is exempt: 198.51.100.1 is exempted by hand until it is removed: on call\n"
    );
    let around = lab.output("banstream allow 198.51.100.200");
    assert_eq!(
        String::from_utf8_lossy(&around.stderr),
        "error: 198.51.100.200 is banned as part of 198.51.100.128/25; unban 198.51.100.128/25 first\n"
    );
    daemon.stop();
    let _daemon = lab.start("");
    until("one is over", || {
        lab.sh("banstream allow") == "ADDRESS       ENDS   COMMENT\n198.51.100.1  never  on call\n"
    });
    lab.attack("ssh", "198.51.100.1", MAX_RETRY);
    lab.attack("ssh", "198.51.100.8", MAX_RETRY);
    until("the other is banned", || lab.is_banned("198.51.100.8"));
    assert!(!lab.is_banned("198.51.100.1"));
    lab.sh("banstream allow --remove 198.51.100.1");
    lab.attack("ssh", "198.51.100.1", MAX_RETRY);
    until("so is the first", || lab.is_banned("198.51.100.1"));
}

#[test]
fn enough_banned_neighbours_shut_their_prefix_out() {
    let lab = Lab::up("journald");
    let _daemon = lab.start("jail.sshd.maxretry = 1\nwiden.offenders = 3\n");
    for source in ["198.51.100.1", "198.51.100.2", "198.51.100.3"] {
        lab.attack("ssh", source, 1);
    }
    until("the prefix is banned", || lab.is_banned("198.51.100.0/24"));
    until("it stands for the three", || {
        let elements = "ipset list banstream4 | sed '1,/^Members/d; s/ timeout.*//'";
        lab.sh(elements) == "198.51.100.0/24\n"
    });
    assert!(!lab.reaches("198.51.100.77"));
    let bans = lab.sh("banstream bans --json");
    assert!(bans.contains(r#""address":"198.51.100.0/24","jail":"wide","kind":"wide""#), "{bans}");
    lab.sh("banstream unban 198.51.100.0/24");
    until("nobody is banned", || lab.reaches("198.51.100.1"));
}

#[test]
fn the_neighbour_in_our_own_prefix_is_banned_alone() {
    let lab = Lab::up("journald");
    let _daemon = lab.start("ignoreip = ['2001:db8:bad:5::7']\n");
    for (neighbour, exempt) in
        [("2001:db8:bad:5::bad", "2001:db8:bad:5::7"), ("2001:db8:1::2", "2001:db8:1::1")]
    {
        lab.attack("ssh", neighbour, MAX_RETRY);
        until(&format!("{neighbour} is banned"), || lab.is_banned(neighbour));
        assert!(!lab.reaches(neighbour) && !lab.is_banned(exempt));
        let why = lab.sh(&format!("banstream why {neighbour} || true"));
        assert!(why.contains(&format!("{neighbour} is banned")), "{why}");
    }
    lab.sh("banstream unban 2001:db8:1::2");
    until("it is let in", || lab.reaches("2001:db8:1::2"));
}

#[test]
fn a_user_name_can_get_nobody_banned() {
    let lab = Lab::up("journald");
    let _daemon = lab.start("");
    thread::scope(|scope| {
        for (server, attacker, user) in [
            ("ssh", "198.51.100.1", "x from 198.51.100.77 port 22 ssh2"),
            ("ftp", "198.51.100.2", "x] FAIL LOGIN: Client \"198.51.100.77\""),
            ("http", "198.51.100.3", "x\", client: 198.51.100.77, server: , request: \"GET / HTTP/1.1\""),
        ] {
            let lab = &lab;
            scope.spawn(move || {
                for _ in 0..MAX_RETRY {
                    lab.attempts(&[server, attacker, "1", user]);
                }
                until(&format!("{attacker} is banned"), || lab.is_banned(attacker));
            });
        }
    });
    assert!(lab.reaches("198.51.100.77"));
}

#[test]
fn a_scan_of_ports_that_rsyslog_tells_of_ends_in_a_ban() {
    a_scan_of_ports_ends_in_a_ban("rsyslog");
}

#[test]
fn a_scan_of_ports_that_journald_tells_of_ends_in_a_ban() {
    a_scan_of_ports_ends_in_a_ban("journald");
}

/// Each packet to a closed port counts once; those to an open one, and what a local user makes up, do not.
#[track_caller]
fn a_scan_of_ports_ends_in_a_ban(log: &str) {
    const ENOUGH: usize = 20;
    let lab = Lab::up(log);
    let _daemon = lab.start("");
    lab.sh("portscan nflog");
    let (patient, visitor, invented) = ("198.51.100.1", "198.51.100.2", "198.51.100.77");
    lab.attack("scan", patient, ENOUGH - 1);
    lab.attack("http-open", visitor, 2 * ENOUGH);
    lab.sh(&format!(
        "for i in {{1..{ENOUGH}}}; do
             runuser -u alice -- logger -p kern.info -t kernel \\
                 'banstream-portscan: IN=eth0 OUT= MAC= SRC={invented} DST=203.0.113.1 LEN=60 PROTO=TCP DPT=23 SYN URGP=0 '
         done"
    ));
    for scanner in ["198.51.100.3", "2001:db8:bad::1"] {
        lab.attack("scan", scanner, 100);
        until(&format!("{scanner} is banned"), || lab.is_banned(scanner));
        assert!(!lab.reaches(scanner), "{scanner} still gets through");
    }
    for harmless in [patient, visitor, invented] {
        assert!(!lab.is_banned(harmless), "{harmless} is banned");
    }
    lab.attack("scan", patient, 1);
    until("one packet more is enough", || lab.is_banned(patient));
}

#[test]
fn systemd_is_told_how_things_stand() {
    let lab = Lab::up("journald");
    let directory = tempfile::tempdir().expect("a folder");
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(LIMIT)).expect("a time-out");
    let hear = |wanted: &str| {
        let mut buffer = [0; 4096];
        loop {
            let length = socket.recv(&mut buffer).unwrap_or_else(|e| panic!("never heard `{wanted}`: {e}"));
            let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if message.lines().any(|line| line.starts_with(wanted)) {
                return message;
            }
        }
    };

    lab.write_config("");
    let daemon = lab.spawn(&format!("export NOTIFY_SOCKET={} WATCHDOG_USEC=1000000", path.display()));
    hear("READY=1");
    hear("WATCHDOG=1");
    lab.sh("banstream reload");
    assert!(hear("RELOADING=1").contains("MONOTONIC_USEC="));
    hear("READY=1");
    daemon.stop();
    hear("STOPPING=1");
}

#[test]
fn the_doctor_finds_each_fault_by_name() {
    let lab = Lab::up("journald");
    let daemon = lab.start("");
    let finds_by = |command: &str, want: &[&str]| {
        let output = lab.output(&format!("{command} banstream doctor --config /run/banstream.toml --json"));
        let findings: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).expect("findings");
        let is_problem =
            |finding: &&serde_json::Value| finding["severity"] != "ok" && finding["severity"] != "note";
        let problems = findings.iter().filter(is_problem);
        let names: Vec<&str> = problems.filter_map(|finding| finding["name"].as_str()).collect();
        assert_eq!(names, want, "{}", String::from_utf8_lossy(&output.stdout));
        let wrong = findings.iter().any(|finding| finding["severity"] == "wrong");
        assert_eq!(output.status.code(), Some(i32::from(wrong)));
    };
    let finds = |want: &[&str]| finds_by("", want);
    until("the journal is read", || lab.sh("banstream status --json").contains("\"running\""));
    // Its error log goes to syslog, its access log to a file, and it has logged no error yet.
    finds(&["server-unread"]);
    lab.attack("apache", "198.51.100.50", 1);
    until("that is read", || {
        metrics(&lab).contains("banstream_offences_total{grammar=\"apache\",category=\"auth-failure\"} 1")
    });
    finds(&[]);
    let said = lab.sh("banstream doctor --config /run/banstream.toml");
    for verified in [
        "ok: the configuration is sound\n",
        "ok: the rule is first in `raw PREROUTING` (IPv4, IPv6)\n",
        "ok: the sets take elements and keep them: `banstream4` ",
        "ok: `journald` is read; the last entry came ",
        "ok: `apache2` runs; lines of it were read: ",
        "note: `vsftpd` runs; no line of it has come since the daemon's start [server-silent]\n",
        "\nno problems found: bans are enforced\n",
    ] {
        assert!(said.contains(verified), "{verified}: {said}");
    }
    finds_by("setpriv --bounding-set -net_admin", &["no-privilege"]);
    finds_by("unshare --net", &["other-namespace"]);
    finds_by("mount -t tmpfs tmpfs /proc/$$/net; exec", &[]);
    finds_by("SSH_CONNECTION='203.0.113.9 1 203.0.113.1 22'", &["visitor-not-exempt"]);
    lab.sh("banstream allow 203.0.113.9");
    finds_by("SSH_CONNECTION='203.0.113.9 1 203.0.113.1 22'", &[]);
    lab.sh("cp /run/banstream.toml /run/sound.toml; echo 'maxretri = 3' >>/run/banstream.toml");
    finds(&["configuration-broken"]);
    lab.sh("mv /run/sound.toml /run/banstream.toml
            mkdir -p /etc/iptables && iptables-save >/etc/iptables/rules.v4");
    finds(&["saved-without-sets"]);
    lab.sh(
        "mkdir -p /etc/systemd/system/x.wants && touch /etc/systemd/system/x.wants/banstream-sets.service",
    );
    finds(&[]);
    lab.sh("nft list ruleset >/etc/nftables.conf");
    finds(&["saved-unreadable"]);
    lab.sh("rm /etc/iptables/rules.v4 /etc/nftables.conf");
    lab.sh("mkdir -p /etc/ssh/sshd_config.d
            echo 'CustomLog \"|/usr/bin/logger -t apache2\" combined' >/etc/apache2/conf-enabled/z.conf
            echo 'HostnameLookups On' >>/etc/apache2/conf-enabled/z.conf
            echo 'UseDNS yes' >/etc/ssh/sshd_config.d/z.conf
            echo '# for banstream' >/etc/rsyslog.d/z.conf");
    finds(&["rsyslog-cuts", "logger-pipe", "names-logged", "names-in-pam"]);
    lab.sh("echo 'global(maxMessageSize=\"128k\")' >>/etc/rsyslog.d/z.conf
            rm /etc/apache2/conf-enabled/z.conf /etc/ssh/sshd_config.d/z.conf");
    finds(&[]);
    lab.sh("rm /etc/rsyslog.d/z.conf");
    let forged = "Failed password for root from 198.51.100.77 port 22 ssh2";
    lab.sh(&format!("runuser -u alice -- logger -p auth.info -t sshd '{forged}'"));
    until("the forged line is read", || metrics(&lab).contains("entries_forged_total{grammar=\"sshd\",uid="));
    finds(&["forged-lines"]);
    // It would repair what is done now.
    daemon.stop();
    finds(&["no-daemon"]);
    lab.sh("iptables -t raw -I PREROUTING -s 203.0.113.9 -j ACCEPT");
    finds(&["no-daemon", "rule-displaced"]);
    lab.sh("iptables -t raw -F PREROUTING");
    finds(&["no-daemon", "rule-missing"]);
    lab.sh("iptables-legacy -t raw -I PREROUTING -m set --match-set banstream src,dst -j DROP");
    finds(&["no-daemon", "rule-in-other-variant"]);
    lab.sh("iptables-legacy -t raw -F PREROUTING");
    finds(&["no-daemon", "rule-missing"]);
    lab.sh("ipset del banstream banstream6");
    finds(&["no-daemon", "set-unlinked", "rule-missing"]);
    lab.sh("ipset destroy banstream6");
    finds(&["no-daemon", "set-missing", "rule-missing"]);
    lab.sh("printf '[Journal]\\nRateLimitIntervalSec=30s\\nRateLimitBurst=5\\n' >/etc/systemd/journald.conf.d/z.conf");
    let _daemon = lab.start("mode = 'observe'\n");
    until("the journal is read", || lab.sh("banstream status --json").contains("\"running\""));
    finds(&["not-enforced", "server-unread", "journald-rate-limit"]);
}

#[test]
fn a_dry_run_leaves_the_kernel_alone() {
    let lab = Lab::up("journald");
    let _daemon = lab.start("mode = 'observe'\n");
    lab.attack("ssh", "198.51.100.1", MAX_RETRY);
    until("the ban is decided", || lab.sh("banstream bans --json").contains("198.51.100.1"));
    assert_eq!(lab.sh("ipset list -n; iptables -t raw -S | grep -c set || true"), "0\n");
}

/// A victim and an attacker; both end with this.
struct Lab {
    /// Its process 1, by its number outside, and `unshare`, which waits for it.
    pid: String,
    unshare: Child,
}

impl Lab {
    /// Servers and the log daemon `log` (`rsyslog` or `journald`; `stock`, `stock-journald` as packages leave them), without
    /// banstream.
    fn up(log: &str) -> Self {
        let mut unshare = Command::new("unshare")
            .args(["--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child"])
            .args(["bash", "tests/system/e2e/victim", log, env!("CARGO_BIN_EXE_banstream")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("unshare");
        let mut ready = String::new();
        BufReader::new(unshare.stdout.take().expect("a pipe")).read_line(&mut ready).expect("a line");
        let Some(pid) = ready.strip_prefix("ready ") else {
            let output = unshare.wait_with_output().expect("its end");
            panic!("the victim did not get up: {}", String::from_utf8_lossy(&output.stderr));
        };
        Self { pid: pid.trim().to_owned(), unshare }
    }

    /// Starts the daemon with this configuration, and waits until it answers.
    fn start(&self, config: &str) -> Daemon<'_> {
        self.write_config(config);
        let daemon = self.spawn("");
        until("the daemon answers", || self.output("banstream status").status.success());
        daemon
    }

    fn write_config(&self, config: &str) {
        self.sh(&format!("cat >/run/banstream.toml <<'END'\n{config}END\n"));
    }

    /// Starts the daemon after `preparation`, a shell command.
    fn spawn(&self, preparation: &str) -> Daemon<'_> {
        let run = "exec banstream run --config /run/banstream.toml 2>>/run/banstream.log";
        let script = format!("{preparation}\necho $$ >/run/banstream.pid\n{run}");
        let child = self.command(&["bash", "-c", &script]).spawn().expect("nsenter");
        Daemon { lab: self, child }
    }

    /// This many wrong passwords from `source`.
    fn attack(&self, server: &str, source: &str, times: usize) {
        self.attempts(&[server, source, &times.to_string()]);
    }

    /// How often one try with this password succeeded.
    fn log_in(&self, server: &str, source: &str, password: &str) -> String {
        self.attempts(&[server, source, "1", "alice", password])
    }

    /// Whether an innocent request from `source` is answered.
    fn reaches(&self, source: &str) -> bool {
        let host = if source.contains(':') { "[2001:db8:1::1]" } else { "203.0.113.1" };
        let curl = format!("curl -s --connect-timeout 1 --interface {source} http://{host}/");
        self.output(&format!("ip netns exec attacker {curl}")).stdout == b"here\n"
    }

    fn is_banned(&self, source: &str) -> bool {
        let family = if source.contains(':') { 6 } else { 4 };
        self.output(&format!("ipset test banstream{family} {source}")).status.success()
    }

    /// Runs `e2e/attack` in the attacker.
    fn attempts(&self, arguments: &[&str]) -> String {
        text(self.command(&["ip", "netns", "exec", "attacker", "attack"]).args(arguments).output())
    }

    /// What a shell command on the victim prints; it must succeed.
    fn sh(&self, script: &str) -> String {
        text(self.command(&["bash", "-ec", script]).output())
    }

    fn output(&self, script: &str) -> Output {
        self.command(&["bash", "-c", script]).output().expect("nsenter")
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.pid, "--net", "--mount", "--pid", "--uts", "--ipc", "--"])
            .args(words);
        command.env("PATH", "/run/bin:/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null());
        command
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = self.output("tail -n 50 /run/banstream.log; banstream status; banstream bans");
            eprintln!("{}", String::from_utf8_lossy(&log.stdout));
        }
        drop(self.unshare.stdin.take()); // process 1 ends with its input, and all others with it
        self.unshare.wait().expect("unshare is our child");
    }
}

/// A running daemon; dies with this, if it has not been stopped.
struct Daemon<'a> {
    lab: &'a Lab,
    child: Child,
}

impl Daemon<'_> {
    /// Asks it to end, which must go well.
    #[track_caller]
    fn stop(mut self) {
        self.lab.sh("kill -TERM $(cat /run/banstream.pid)");
        let status = until("the daemon ends", || self.child.try_wait().expect("nsenter is our child"));
        assert_eq!(status.code(), Some(0));
    }

    fn kill(mut self) {
        self.lab.sh("kill -KILL $(cat /run/banstream.pid)");
        self.child.wait().expect("nsenter is our child");
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        if self.child.try_wait().expect("nsenter is our child").is_none() {
            self.lab.output("kill -KILL $(cat /run/banstream.pid)");
            self.child.wait().expect("nsenter is our child");
        }
    }
}

#[track_caller]
fn metrics(lab: &Lab) -> String {
    lab.sh("curl -s --unix-socket /run/banstream/control.sock http://localhost/metrics")
}

fn text(output: std::io::Result<Output>) -> String {
    let output = output.expect("nsenter");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}
