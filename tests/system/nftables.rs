//! The table of nftables against a real kernel: what others do to it, and changes from and to ipset.
//!
//! What both backends do alike is tested in `enforce.rs`, which says what it takes. `BANSTREAM_TEST_SECONDS=60 contrib/test
//! whatever_others_do` attacks the table for a minute.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use banstream::config::Enforce;
use banstream::kernel::{Displaced, Nftables, TableOwner};
use banstream::model::{Decision, Port, Protocol};

use crate::common::{Daemon, in_namespaces, said, sh, until};
use crate::enforce::{
    Flood, Way, apply, ban, daemon, enforce, in_namespace, lasting, nth, passes, reload, repairs, settings,
    sh_output, with_ledger,
};

/// A server that the banned are to keep away from.
fn server() -> UdpSocket {
    UdpSocket::bind("192.0.2.200:0").unwrap()
}

/// What others do to the table: the kernel refuses each of these.
const ATTACKS: &[&str] = &[
    "delete table inet banstream",
    "flush table inet banstream",
    "add rule inet banstream prerouting accept",
    "insert rule inet banstream prerouting accept",
    "flush chain inet banstream prerouting",
    "add chain inet banstream x { type filter hook prerouting priority -400; policy accept; }",
    "chain inet banstream prerouting { policy drop; }",
    "add set inet banstream x { type ipv4_addr; }",
    "flush set inet banstream ipv4_32",
    "add element inet banstream ipv4_32 { 192.0.2.9 }",
    "delete element inet banstream ipv4_32 { 192.0.2.1 }",
    "add table inet banstream { flags dormant; }",
];

/// A daemon with these bans, of which each has one of the sources of a flood of packets.
fn flooded(way: Way, bans: [&str; 2], sources: [&str; 2]) -> (Daemon, Flood) {
    let daemon = daemon(&way.with(""));
    daemon.start();
    bans.iter().for_each(|ban| drop(daemon.tell(&format!("ban {ban}"))));
    until("both are in", || sources.iter().all(|source| way.has(source)));
    (daemon, Flood::from(&sources, Duration::from_micros(200)))
}

#[test]
fn nobody_banned_gets_in_whatever_others_do_to_the_table() {
    in_namespace(|| {
        let (daemon, flood) =
            flooded(Way::Nftables, ["192.0.2.1", "192.0.2.2 --for 1h"], ["192.0.2.1", "192.0.2.2"]);
        for attack in ATTACKS {
            let refused = sh_output(&format!("nft '{attack}'"));
            assert!(said(&refused).contains("Operation not permitted"), "`{attack}`: {}", said(&refused));
        }
        // As `nftables.service` and firewalld load theirs.
        sh("printf 'flush ruleset\\nadd table inet filter\\n' | nft -f -");
        assert!(sh("nft list tables").contains("inet banstream"));
        flood.check("one by one");

        let seconds = std::env::var("BANSTREAM_TEST_SECONDS").map_or(6, |seconds| seconds.parse().unwrap());
        let script = |attack: &str| format!("while :; do nft '{attack}'; echo; done 2>/dev/null");
        let loops = ["flush ruleset", ATTACKS[0], ATTACKS[2]].map(|attack| {
            let mut attacker = Command::new("timeout");
            attacker.args([&seconds.to_string(), "sh", "-c", &script(attack)]);
            attacker.stdout(Stdio::piped()).spawn().unwrap()
        });
        let attacks = loops.map(|attacker| attacker.wait_with_output().unwrap().stdout.len());
        flood.check("again and again");
        println!("{attacks:?} attacks in {seconds} s");
        assert!(attacks.iter().all(|attacks| *attacks > 0));
        for kind in ["set", "rule", "refill"] {
            assert_eq!(repairs(&daemon, kind), 0, "{kind}");
        }

        // Without a daemon nobody owns it, until the next one is there.
        daemon.kill();
        flood.check("it was killed");
        daemon.start();
        flood.check("it was started");
        let refused = sh_output("nft delete table inet banstream");
        assert!(said(&refused).contains("Operation not permitted"));
        daemon.kill();
        drop(flood);
        sh("nft flush ruleset");
        let to = server();
        assert!(passes("192.0.2.1", &to) && passes("192.0.2.2", &to));
        daemon.start();
        assert!(!passes("192.0.2.1", &to) && !passes("192.0.2.2", &to));
    });
}

#[test]
fn what_others_do_to_a_table_without_an_owner_is_undone() {
    in_namespace(|| {
        let daemon = daemon(&Way::Nftables.with("owned = false"));
        daemon.start();
        daemon.tell("ban 192.0.2.1 --for 1h");
        daemon.tell("ban 192.0.2.64/28 --for 1h");
        daemon.tell("ban 2001:db8:1::/64 --for 1h");
        let [v4, v6] = ["192.0.2.200:0", "[2001:db8::200]:0"].map(|at| UdpSocket::bind(at).unwrap());
        let state =
            || sh("nft -nn list ruleset | sed -E 's/(timeout|expires|packets|bytes) [0-9a-z]+//g' | sort");
        until("all are in", || state().matches("elements").count() == 3);
        let sound = state();
        assert_eq!((sound.matches("drop").count(), sound.matches("elements").count()), (3, 3), "{sound}");
        let more = [
            "flush ruleset",
            "delete element inet banstream ipv4_32 { 192.0.2.1 }; add element inet banstream ipv4_32 { 192.0.2.1 timeout 1s }",
            "delete chain inet banstream prerouting",
        ];
        let (mut all, mut refills) = (String::new(), 0);
        for fault in ATTACKS.iter().chain(&more) {
            assert!(!passes("192.0.2.1", &v4) && !passes("192.0.2.70", &v4) && !passes("2001:db8:1::1", &v6));
            let began = Instant::now();
            sh(&format!("nft '{fault}'"));
            until(&format!("`{fault}` is undone: {}", state()), || {
                repairs(&daemon, "refill") > refills && state() == sound
            });
            let (took, before) = (began.elapsed(), refills);
            refills = repairs(&daemon, "refill");
            assert!(!passes("192.0.2.1", &v4) && !passes("192.0.2.70", &v4) && !passes("2001:db8:1::1", &v6));
            assert!(passes("192.0.2.9", &v4), "{fault}");
            all += &format!("\n{took:>12?} {} {fault}", refills - before);
        }
        println!("{all}");
        assert!(daemon.tell("status").contains("repaired in the kernel"));
        let refills = || repairs(&daemon, "refill");
        assert!(refills() <= 2 * (ATTACKS.len() + more.len()) as u64, "{} refills: {all}", refills());
    });
}

#[test]
fn our_own_changes_are_not_taken_for_those_of_others() {
    in_namespace(|| {
        let daemon = with_ledger(
            &Way::Nftables.with("owned = false\n[jail.sshd]\nmaxretry = 1"),
            (0..15_000).map(|n| lasting(&nth(n), 3600)),
        );
        daemon.start();
        // Each new length is a set and a rule.
        (9..=31).step_by(4).for_each(|length| drop(daemon.tell(&format!("ban 198.18.0.0/{length}"))));
        (33..=63).step_by(6).for_each(|length| drop(daemon.tell(&format!("ban 2001:db8:1::/{length}"))));
        for reloaded in ["max-elements = 200000", "max-elements = 300000\ntarget = 'REJECT'", ""] {
            reload(&daemon, &Way::Nftables.with(&format!("owned = false\n{reloaded}")));
        }
        // It is over when the sets are as the last one says.
        until("all is reloaded", || sh("nft list sets").matches("size 1048576").count() == 14);
        let counted = || ["set", "rule", "missing"].map(|kind| repairs(&daemon, kind));
        for fault in 1..=3 {
            sh("nft delete element inet banstream ipv4_32 '{ 10.0.0.7 }'");
            until("it is noticed", || repairs(&daemon, "refill") >= fault && Way::Nftables.has("10.0.0.7"));
        }
        // What fills the table must not seem to be a change that makes it be filled again.
        std::thread::sleep(Duration::from_secs(3));
        assert_eq!((repairs(&daemon, "refill"), counted()), (3, [0; 3]), "{}", daemon.log());
        let table = sh("nft list chain inet banstream prerouting; nft list sets");
        assert_eq!((table.matches("drop").count(), table.matches("\tset ").count()), (14, 14), "{table}");
    });
}

#[test]
fn nobody_banned_gets_in_while_the_backend_changes() {
    in_namespace(|| {
        let (daemon, flood) =
            flooded(Way::Ipset, ["192.0.2.1 --for 1h", "192.0.2.16/28"], ["192.0.2.1", "192.0.2.17"]);
        let rules = || {
            let rules = sh("iptables -t raw -S; ip6tables -t raw -S");
            let tables = sh("nft list tables");
            (rules.matches("banstream").count(), tables.matches("inet banstream").count())
        };
        flood.check("the daemon runs");
        for (way, want) in [(Way::Nftables, (0, 1)), (Way::Ipset, (2, 0)), (Way::Nftables, (0, 1))] {
            reload(&daemon, &way.with(""));
            until("only the new one is there", || rules() == want);
            flood.check(&format!("{way:?} by a reload"));
        }
        // While it belongs to nobody, others may say that it is there.
        for owned in [false, true] {
            reload(&daemon, &Way::Nftables.with(&format!("owned = {owned}")));
            until("the owner changes", || {
                sh_output("nft add table inet banstream").status.success() != owned
            });
            flood.check(&format!("owned = {owned}"));
        }
        for (way, want) in [(Way::Ipset, (2, 0)), (Way::Nftables, (0, 1)), (Way::Ipset, (2, 0))] {
            enforce(&daemon, &way.with(""));
            if way == Way::Nftables {
                daemon.kill()
            } else {
                daemon.stop()
            }
            daemon.start();
            assert_eq!(rules(), want);
            flood.check(&format!("{way:?} by a restart"));
        }
        let kinds = ["set", "rule", "member", "missing", "refill"].map(|kind| repairs(&daemon, kind));
        assert_eq!(kinds, [0; 5], "{}", daemon.log());
    });
}

#[test]
fn a_table_that_another_owns_is_not_touched() {
    in_namespace(|| {
        let open = || Nftables::open(settings(), TableOwner::open(None).unwrap()).unwrap();
        let mut other = Way::Nftables.prepared(settings());
        let daemon = daemon(&Way::Nftables.with(""));
        let refused = daemon.command().stderr(Stdio::piped()).output().unwrap();
        let said = said(&refused);
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(
            said.contains("the table `inet banstream` belongs to another netlink socket (port "),
            "{said}"
        );
        assert!(other.prepare(Displaced::Move).unwrap().sets.is_empty());
        use banstream::kernel::Firewall;
        assert!(open().prepare(Displaced::Move).is_err() && open().withdraw().is_err());
        // It has no owner any more.
        drop(other);
        daemon.start();
        daemon.tell("ban 192.0.2.1");
        until("it is kept out", || !passes("192.0.2.1", &server()));
    });
}

#[test]
fn where_there_is_no_iptables_nftables_protects() {
    in_namespace(|| {
        let daemon = daemon("");
        daemon.run(daemon.command().env("PATH", "/nowhere"));
        daemon.tell("ban 192.0.2.1");
        until("it is kept out", || !passes("192.0.2.1", &server()));
        let log = daemon.log();
        let why =
            "bans go to nftables: ipset cannot be used: cannot run `iptables`: No such file or directory";
        assert!(log.contains(why), "{log}");
        until("its set is shown", || daemon.tell("status").contains("ipv4_32"));
        until("it is counted", || daemon.metric("banstream_set_elements{set=\"ipv4_32\"}") == 1);
        // Where it has come, the next start takes it.
        daemon.stop();
        daemon.start();
        assert!(!passes("192.0.2.1", &server()));
        assert!(daemon.log().contains("bans go to ipset: "));
        assert!(!sh("nft list tables").contains("inet banstream"));
    });
}

/// Without a right of the whole machine's a socket has little room, as in a container with users of its own.
#[test]
fn many_bans_are_in_force_without_the_right_to_large_messages() {
    in_namespaces(&["--user", "--map-root-user", "--net"], || {
        let bans = (0..20_000).map(|n| lasting(&nth(n), 3600)).chain([lasting("192.0.2.1", 7200)]);
        let daemon = with_ledger(&Way::Nftables.with(""), bans);
        let began = Instant::now();
        daemon.start();
        println!("20,001 bans after {:?}", began.elapsed());
        assert!(!passes("192.0.2.1", &server()));
        assert!(Way::Nftables.has("10.0.0.0") && Way::Nftables.has("10.0.39.15"));
        daemon.tell("ban 192.0.2.2");
        until("one more is in", || !passes("192.0.2.2", &server()));
        let status = daemon.tell("status");
        assert!(!status.contains("cannot"), "{status}");
    });
}

#[test]
fn many_known_bans_are_in_force_before_the_daemon_answers_and_long_ones_last() {
    in_namespace(|| {
        const YEAR: u64 = 365 * 24 * 60 * 60;
        let bans = (0..10_000).map(|n| lasting(&nth(n), 7200)).chain([lasting("192.0.2.1", YEAR)]);
        let daemon = with_ledger(&Way::Nftables.with(""), bans);
        for start in ["an empty kernel", "a full one", "a full one, after a crash"] {
            let began = Instant::now();
            daemon.start();
            assert!(!passes("192.0.2.1", &server()));
            println!("with 10,001 bans and {start}, the daemon answered after {:?}", began.elapsed());
            assert_eq!(Way::Nftables.open(settings()).list().unwrap().elements.len(), 10_001);
            let held = Nftables::held("banstream", "192.0.2.1".parse().unwrap(), &BTreeSet::from([None]));
            let left = held.unwrap()[0].left.unwrap();
            assert!(u64::from(left) > YEAR - 60, "{left}");
            if start == "a full one" { daemon.kill() } else { daemon.stop() }
        }
    });
}

#[test]
fn who_is_rejected_gets_an_answer_and_fragments_do_no_harm() {
    in_namespace(|| {
        sh("ip link set lo up mtu 1500; for n in 1 2 3; do ip addr add 192.0.2.$n/32 dev lo; done
            for n in 1 2; do ip addr add 2001:db8:$n::1/128 dev lo nodad; done");
        let mut kernel = Way::Nftables.prepared(Enforce { target: vec!["REJECT".to_owned()], ..settings() });
        let to = ["192.0.2.3:0", "[2001:db8:2::1]:0"].map(|at| UdpSocket::bind(at).unwrap());
        let answers = || {
            [("192.0.2.1:0", &to[0]), ("[2001:db8:1::1]:0", &to[1])].map(|(from, to)| {
                let from = UdpSocket::bind(from).unwrap();
                from.connect(to.local_addr().unwrap()).unwrap();
                from.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
                from.send(b"x").unwrap();
                from.recv(&mut [0; 9]).unwrap_err().kind()
            })
        };
        assert_eq!(answers(), [ErrorKind::WouldBlock; 2]);
        let bans = ["192.0.2.1", "2001:db8:1::/64"].map(|who| Decision::Ban(ban(who, &[], Some(60))));
        apply(&mut *kernel, bans);
        assert_eq!(answers(), [ErrorKind::ConnectionRefused; 2]);

        // Of a packet in pieces, only the first has ports.
        let [from, other, to] = [2, 3, 3].map(|n| UdpSocket::bind(format!("192.0.2.{n}:0")).unwrap());
        to.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let comes = |from: &UdpSocket| {
            from.send_to(&[1; 5000], to.local_addr().unwrap()).unwrap();
            to.recv(&mut [0; 9999]).is_ok_and(|length| length == 5000)
        };
        assert_eq!([comes(&from), comes(&other)], [true; 2]);
        let ports = [Port { protocol: Protocol::Udp, number: to.local_addr().unwrap().port() }];
        apply(&mut *kernel, [Decision::Ban(ban("192.0.2.2", &ports, Some(60)))]);
        assert_eq!([comes(&from), comes(&other)], [false, true]);
        assert!(passes("192.0.2.2", &UdpSocket::bind("192.0.2.3:0").unwrap()), "another port");
    });
}

/// Who saves the whole ruleset and loads it again has the same; and what the kernel has of each rule is what `nft` makes of
/// its words.
#[test]
fn what_nft_lists_it_can_load_again_as_the_same() {
    in_namespace(|| {
        let mut kernel = Way::Nftables.prepared(settings());
        let ssh = [Port { protocol: Protocol::Tcp, number: 22 }];
        for (who, ports) in ["192.0.2.1", "10.1.0.0/20", "2001:db8::/33", "2001:db8:1::1", "2001:db8:1::/64"]
            .into_iter()
            .flat_map(|who| [(who, &[][..]), (who, &ssh[..])])
        {
            apply(&mut *kernel, [Decision::Ban(ban(who, ports, Some(600)))]);
        }
        sh(
            "nft list table inet banstream | sed 's/^table inet banstream/table inet again/; /flags owner/d' | nft -f -",
        );
        let [ours, again] = ["banstream", "again"].map(|table| {
            let rules = sh(&format!("nft --debug=netlink list chain inet {table} prerouting | grep '  \\['"));
            let rest = format!(
                "nft -s list table inet {table} | sed -E 's/(timeout|expires) [0-9a-z]+//g' | grep -v -e ^table -e '^$' -e 'flags owner'"
            );
            (rules, sh(&rest))
        });
        assert_eq!(ours, again);
        assert_eq!(
            (ours.0.matches("lookup").count(), ours.1.matches("elements").count()),
            (10, 10),
            "{ours:?}"
        );
    });
}
