//! The firewall against a real kernel: sets, rules and packets.
//!
//! Each test runs itself a second time in a fresh network namespace, so the machine's own firewall is never
//! touched. It takes root, `unshare`, `ip`, `iptables`, `ip6tables` and `ipset`; without them it fails.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

use banstream::enforce::{
    Change, Element, Family, Firewall, Kernel, Prepared, Refusal, Refused, Set, Settings, Timeout, render,
};
use banstream::model::{Ban, Decision, Kind, Port, Protocol, Span, Timestamp};

/// Runs the calling test's `body`, a closure written in it, in a network namespace of its own.
#[track_caller]
fn in_namespace<Body: FnOnce()>(body: Body) {
    const INSIDE: &str = "BANSTREAM_TEST_NAMESPACE";
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    // The type of a closure is called `enforce::the_test::{{closure}}`.
    let test = std::any::type_name::<Body>().split("::").nth(1).unwrap();
    let mut again = Command::new("unshare");
    again.args(["--net", "--"]).arg(std::env::current_exe().unwrap()).args([test, "--exact", "--nocapture"]);
    let output = again.env(INSIDE, "1").output().expect("`unshare` (util-linux) is needed");
    let said = said(&output);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "`{test}` failed in its network namespace, which takes root:\n{said}"
    );
    print!("{said}");
}

/// What a shell command prints; it must succeed.
#[track_caller]
fn sh(command: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).output().unwrap();
    assert!(output.status.success(), "`{command}` failed: {}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes)).concat()
}

fn settings() -> Settings {
    Settings { hash_size: 1024, ..Settings::default() }
}

/// A kernel with all sets and rules.
#[track_caller]
fn prepared(settings: Settings) -> Kernel {
    let mut kernel = Kernel::open(settings).unwrap();
    let faults = kernel.prepare().unwrap().faults;
    assert!(faults.is_empty(), "{faults:?}");
    kernel
}

/// A ban from second 0 on for so many seconds, or for ever.
fn ban(offender: &str, ports: &[Port], seconds: Option<u64>) -> Ban {
    Ban {
        offender: offender.parse().unwrap(),
        jail: Arc::from("ssh"),
        kind: Kind::Auto,
        ports: ports.into(),
        since: Timestamp::default(),
        until: seconds.map(|seconds| Timestamp::default() + Span::from_secs(seconds)),
        times: 1,
        reason: Arc::from(""),
    }
}

/// The decisions rendered at second 0.
fn changes(decisions: impl IntoIterator<Item = Decision>) -> Vec<Change> {
    let mut changes = Vec::new();
    decisions.into_iter().for_each(|decision| render(&decision, Timestamp::default(), &mut changes));
    changes
}

/// Applies the decisions, of which the kernel may refuse nothing.
#[track_caller]
fn apply(kernel: &mut Kernel, decisions: impl IntoIterator<Item = Decision>) {
    let applied = kernel.apply(&changes(decisions)).unwrap();
    assert!(applied.refused.is_empty() && applied.repaired.is_none(), "{applied:?}");
}

#[track_caller]
fn ban_for_an_hour(kernel: &mut Kernel, offender: &str, ports: &[Port]) {
    apply(kernel, [Decision::Ban(ban(offender, ports, Some(3600)))]);
}

#[track_caller]
fn unban(kernel: &mut Kernel, offender: &str) {
    apply(kernel, [Decision::Unban(ban(offender, &[], None))]);
}

/// Takes away our rules and our sets; the kernel needs a moment until a rule lets go of its set.
fn destroy_all() {
    sh(
        "iptables -t raw -F; ip6tables -t raw -F; for n in $(seq 500); do ipset destroy banstream && break; sleep 0.01; done; ipset destroy",
    );
}

/// What our own listing says, sorted.
#[track_caller]
fn listed(kernel: &mut Kernel) -> Vec<String> {
    let mut elements: Vec<_> =
        kernel.list().unwrap().iter().map(|(element, _)| element.to_string()).collect();
    elements.sort();
    elements
}

const SSH: Port = Port { protocol: Protocol::Tcp, number: 22 };
const DNS: Port = Port { protocol: Protocol::Udp, number: 53 };

#[test]
fn preparing_twice_leaves_one_rule_a_family() {
    in_namespace(|| {
        let mut kernel = Kernel::open(settings()).unwrap();
        let Prepared { sets, rules, faults } = kernel.prepare().unwrap();
        assert_eq!((sets.as_slice(), rules, faults.len()), (&Set::ALL[..], 2, 0));
        ban_for_an_hour(&mut kernel, "192.0.2.1", &[]);

        let mut again = Kernel::open(settings()).unwrap();
        let Prepared { sets, rules, faults } = again.prepare().unwrap();
        assert_eq!((sets.len(), rules, faults.len()), (0, 0, 0));
        assert_eq!(listed(&mut again), ["192.0.2.1"]);

        let want = "-P PREROUTING ACCEPT\n-P OUTPUT ACCEPT\n\
                    -A PREROUTING -m set --match-set banstream src,dst -j DROP\n";
        assert_eq!(sh("iptables -t raw -S"), want);
        assert_eq!(sh("ip6tables -t raw -S"), want);
    });
}

#[test]
fn the_rule_stands_where_the_settings_say() {
    in_namespace(|| {
        let mut kernel = prepared(Settings {
            set: "other".to_owned(),
            table: "filter".to_owned(),
            chains: ["INPUT", "FORWARD"].map(str::to_owned).to_vec(),
            target: vec!["REJECT".to_owned()],
            ..settings()
        });
        let count =
            "{ iptables -S; ip6tables -S; } | grep -cE -- '-A (INPUT|FORWARD) .* other src,dst -j REJECT'";
        assert_eq!((sh(count), kernel.prepare().unwrap().rules), ("4\n".to_owned(), 0));
        kernel.withdraw().unwrap();
        assert!(!sh("iptables-save; ip6tables-save").contains("other"));
        assert_eq!(kernel.sizes().unwrap().len(), 4, "the sets stay");
    });
}

#[test]
fn elements_go_in_and_come_out_in_every_width() {
    in_namespace(|| {
        let mut kernel = prepared(settings());
        let bans = [
            ban("0.0.0.0", &[], Some(600)),
            ban("192.0.2.1", &[], Some(600)),
            ban("192.0.2.1", &[SSH, DNS], Some(600)),
            ban("198.51.100.0/24", &[], None),
            ban("2001:db8:1:2::/64", &[], Some(600)),
            ban("2001:db8:1:2::/64", &[SSH], Some(600)),
            ban("2001:db8::1", &[], Some(600)),
        ];
        apply(&mut kernel, bans.clone().map(Decision::Ban));
        let members = "for set in 4 6 4p 6p; do ipset list banstream$set | sed '1,/^Members/d'; done | sort";
        assert_eq!(
            sh(members).replace("timeout 599", "timeout 600"),
            "0.0.0.0 timeout 600\n192.0.2.1 timeout 600\n192.0.2.1,tcp:22 timeout 600\n\
             192.0.2.1,udp:53 timeout 600\n198.51.100.0/24 timeout 0\n2001:db8:1:2::/64 timeout 600\n\
             2001:db8:1:2::/64,tcp:22 timeout 600\n2001:db8::1 timeout 600\n"
        );

        // Our own listing says the same as ipset's, and so do questions one by one.
        let put_in = changes(bans.clone().map(Decision::Ban));
        let mut want: Vec<_> = put_in.iter().map(|change| change.element().to_string()).collect();
        want.sort();
        assert_eq!(listed(&mut kernel), want);
        assert!(put_in.iter().all(|change| kernel.holds(&change.element()).unwrap()));
        let element = |offender: &str| Element { offender: offender.parse().unwrap(), port: None };
        assert!(kernel.holds(&element("198.51.100.7")).unwrap(), "it lies in the prefix");
        assert!(!kernel.holds(&element("192.0.2.2")).unwrap());

        apply(&mut kernel, bans.clone().map(Decision::Unban));
        assert_eq!(kernel.list().unwrap(), []);
        apply(&mut kernel, bans.map(Decision::Unban));
    });
}

#[test]
fn everybody_can_be_banned() {
    in_namespace(|| {
        let mut kernel = prepared(settings());
        ban_for_an_hour(&mut kernel, "0.0.0.0/0", &[]);
        ban_for_an_hour(&mut kernel, "::/0", &[SSH]);
        assert_eq!(listed(&mut kernel), ["0.0.0.0/1", "128.0.0.0/1", "8000::/1 22/tcp", "::/1 22/tcp"]);
    });
}

#[test]
fn the_last_change_to_an_element_holds() {
    in_namespace(|| {
        let mut kernel = prepared(settings());
        for (seconds, want) in [
            (Some(9), 8..=9),
            (Some(99), 98..=99),
            (None, 0..=0),
            (Some(50), 49..=50),
            (Some(1 << 40), 2_147_482..=2_147_483),
        ] {
            apply(&mut kernel, [Decision::Ban(ban("192.0.2.1", &[], seconds))]);
            let (_, left) = kernel.list().unwrap()[0];
            assert!(want.contains(&left.as_secs()), "{seconds:?} gave {left:?}");
        }
        let (ban, other) = (ban("192.0.2.1", &[], Some(60)), ban("192.0.2.2", &[], Some(60)));
        let decisions = [Decision::Unban(ban.clone()), Decision::Ban(other.clone())];
        apply(&mut kernel, decisions.into_iter().chain([Decision::Ban(ban), Decision::Unban(other)]));
        assert_eq!(listed(&mut kernel), ["192.0.2.1"]);
    });
}

/// So many bans, of addresses from 10.0.0.0 on and of /64s from fd00:: on in turn.
fn many(count: u32) -> Vec<Change> {
    let offender = |n: u32| match n % 2 {
        0 => IpAddr::from((0x0a00_0000 + n / 2).to_be_bytes()).to_string(),
        _ => format!("{}/64", IpAddr::from((0xfd00_u128 << 112 | u128::from(n) << 64).to_be_bytes())),
    };
    changes((0..count).map(|n| Decision::Ban(ban(&offender(n), &[], Some(3600)))))
}

#[test]
fn a_full_set_names_what_it_refuses_and_takes_the_rest() {
    in_namespace(|| {
        let mut kernel = prepared(Settings { max_elements: 1000, ..settings() });
        let changes = many(3000);
        let full = |index| Refused { index, why: Refusal::Full };
        assert_eq!(kernel.apply(&changes).unwrap().refused, (2000..3000).map(full).collect::<Vec<_>>());
        let sizes = kernel.sizes().unwrap();
        let sizes: Vec<_> = sizes.iter().map(|size| (&*size.name, size.elements, size.capacity)).collect();
        let want = [("banstream4", 1000), ("banstream4p", 0), ("banstream6", 1000), ("banstream6p", 0)];
        assert_eq!(sizes, want.map(|(name, elements)| (name, elements, 1000)));

        // What is in can be renewed, and where one goes another can come.
        let (first, gone, next) = (changes[0], Change::Remove(changes[2].element()), changes[2000]);
        let applied = kernel.apply(&[first, next, first, gone, next, first]).unwrap();
        assert_eq!(applied.refused, [full(1)]);
        assert!(kernel.holds(&next.element()).unwrap() && !kernel.holds(&gone.element()).unwrap());
    });
}

#[test]
fn an_element_that_no_set_takes_is_named() {
    in_namespace(|| {
        let mut kernel = prepared(settings());
        let mut changes = many(3000);
        let everybody = Element { offender: "0.0.0.0/0".parse().unwrap(), port: None };
        changes[1234] = Change::Add(everybody, Timeout::FOREVER);
        let refused = kernel.apply(&changes).unwrap().refused;
        assert_eq!(refused.iter().map(|refused| refused.index).collect::<Vec<_>>(), [1234]);
        assert_eq!(refused[0].why.to_string(), "ipset error 4104");
        assert_eq!(kernel.list().unwrap().len(), 2999);
    });
}

#[test]
fn a_hundred_thousand_bans_go_in() {
    in_namespace(|| {
        let mut kernel = prepared(Settings::default());
        let changes = many(100_000);
        let start = Instant::now();
        let applied = kernel.apply(&changes).unwrap();
        println!("100,000 bans took {:?}", start.elapsed());
        assert!(applied.refused.is_empty());

        let start = Instant::now();
        let elements = kernel.list().unwrap();
        println!("listing them took {:?}", start.elapsed());
        assert_eq!(elements.len(), 100_000);

        let start = Instant::now();
        ban_for_an_hour(&mut kernel, "192.0.2.1", &[]);
        println!("one more took {:?}", start.elapsed());
        let start = Instant::now();
        kernel.prepare().unwrap();
        println!("looking whether all is in place took {:?}", start.elapsed());
    });
}

#[test]
fn what_is_destroyed_under_us_is_made_again() {
    in_namespace(|| {
        let mut kernel = prepared(settings());
        ban_for_an_hour(&mut kernel, "192.0.2.1", &[]);
        destroy_all();

        let changes = changes([Decision::Ban(ban("2001:db8::/64", &[], Some(600)))]);
        let applied = kernel.apply(&changes).unwrap();
        assert!(applied.refused.is_empty());
        let repaired = applied.repaired.unwrap();
        assert_eq!((repaired.sets.as_slice(), repaired.rules), (&Set::ALL[..], 2));
        assert_eq!(listed(&mut kernel), ["2001:db8::/64"]);

        // A lost rule does not keep a set from being changed; `prepare` finds it.
        sh("ip6tables -t raw -F");
        assert!(kernel.apply(&changes).unwrap().repaired.is_none());
        let repaired = kernel.prepare().unwrap();
        assert_eq!((repaired.sets.len(), repaired.rules), (0, 1));
    });
}

#[test]
fn one_family_that_cannot_be_enforced_leaves_the_other() {
    in_namespace(|| {
        #[track_caller]
        fn check(kernel: &mut Kernel, want: &str) {
            let faults = kernel.prepare().unwrap().faults;
            assert_eq!(faults.iter().map(ToString::to_string).collect::<Vec<_>>(), [want]);
            assert_eq!(faults[0].family(), Some(Family::V6));
        }
        let mut kernel =
            Kernel::open(Settings { ip6tables: "/no/ip6tables".to_owned(), ..settings() }).unwrap();
        check(
            &mut kernel,
            "IPv6 is not enforced: `/no/ip6tables` cannot be run: No such file or directory (os error 2)",
        );
        ban_for_an_hour(&mut kernel, "192.0.2.1", &[]);
        ban_for_an_hour(&mut kernel, "2001:db8::/64", &[]);

        destroy_all();
        sh("ipset create banstream6 hash:ip");
        check(
            &mut kernel,
            "IPv6 is not enforced: there is a set `banstream6` already, but it is hash:ip for IPv4 without timeouts \
             and not hash:net for IPv6 with timeouts; destroy it or choose another name",
        );
        let refused = kernel.apply(&many(4)).unwrap().refused;
        assert_eq!(refused, [1, 3].map(|index| Refused { index, why: Refusal::NoSet(Family::V6) }));
        assert_eq!(listed(&mut kernel), ["10.0.0.0", "10.0.0.1"]);
    });
}

/// That nothing at all can be enforced with these settings, and that this is what is said of it.
#[track_caller]
fn check_error(settings: Settings, want: &str) {
    let error = Kernel::open(settings).and_then(|mut kernel| kernel.prepare()).unwrap_err();
    assert_eq!(error.to_string(), want);
}

#[test]
fn what_cannot_work_at_all_is_an_error() {
    in_namespace(|| {
        let name = |set: &str| Settings { set: set.to_owned(), ..settings() };
        let longest = "a23456789b123456789c123456789";
        prepared(name(longest));
        for set in ["", "-x", "a b", "a,b", &format!("{longest}d")] {
            let rule = "it takes 1 to 29 letters, digits, `-`, `_` or `.`, the first no `-`";
            check_error(name(set), &format!("`{set}` cannot name a set: {rule}"));
        }
        sh("ipset create taken hash:net");
        check_error(
            name("taken"),
            "there is a set `taken` already, but it is hash:net for IPv4 without timeouts and not list:set without \
             timeouts; destroy it or choose another name",
        );
        // A stand-in, since what the real one says varies with its version.
        let program =
            std::env::temp_dir().join(format!("iptables-{}", std::process::id())).display().to_string();
        std::fs::write(&program, "#!/bin/sh\necho 'it is broken' >&2\nexit 4\n").unwrap();
        sh(&format!("chmod +x {program}"));
        check_error(
            Settings { iptables: program.clone(), ip6tables: program.clone(), ..settings() },
            &format!(
                "IPv4 is not enforced: `{program} -w 5 -t raw -C PREROUTING -m set --match-set banstream src,dst \
                 -j DROP` failed (exit status: 4): it is broken"
            ),
        );
        std::fs::remove_file(program).unwrap();
    });
}

#[test]
fn without_the_right_to_it_it_says_which() {
    in_namespace(|| {
        const DROPPED: &str = "BANSTREAM_TEST_DROPPED";
        if std::env::var_os(DROPPED).is_some() {
            let why = "not permitted; it takes root or CAP_NET_ADMIN";
            return check_error(settings(), &format!("the kernel would not describe `banstream`: {why}"));
        }
        let again: Vec<String> = std::env::args().collect();
        sh(&format!(
            "{DROPPED}=1 setpriv --bounding-set -net_admin --inh-caps -net_admin {}",
            again.join(" ")
        ));
    });
}

/// Whether a TCP connection comes about to this address of loopback, which is its source as well.
fn connects(to: SocketAddr) -> bool {
    match TcpStream::connect_timeout(&to, Duration::from_millis(300)) {
        Ok(_) => true,
        Err(error) if error.kind() == ErrorKind::TimedOut => false,
        Err(error) => panic!("{to}: {error}"),
    }
}

#[test]
fn the_banned_cannot_connect_and_others_can() {
    in_namespace(|| {
        sh("ip link set lo up");
        for n in 1..=3 {
            sh(&format!("ip addr add 192.0.2.{n}/32 dev lo; ip addr add 2001:db8:{n}::1/128 dev lo"));
        }
        let mut kernel = prepared(settings());
        let servers = ["[::]:0"; 2].map(|any| TcpListener::bind(any).unwrap());
        let [port, other] = [0, 1].map(|n| servers[n].local_addr().unwrap().port());
        let v4 = |n: u8, port| connects(SocketAddr::new([192, 0, 2, n].into(), port));
        let v6 = |n: u16, port| connects(SocketAddr::new([0x2001, 0xdb8, n, 0, 0, 0, 0, 1].into(), port));
        assert_eq!([v4(1, port), v4(2, port), v4(3, port)], [true; 3]);
        assert_eq!([v6(1, port), v6(2, port), v6(3, port)], [true; 3]);

        ban_for_an_hour(&mut kernel, "192.0.2.1", &[]);
        ban_for_an_hour(&mut kernel, "2001:db8:1::/64", &[]);
        assert_eq!([v4(1, port), v4(2, port), v6(1, port), v6(2, port)], [false, true, false, true]);
        unban(&mut kernel, "192.0.2.1");
        assert_eq!([v4(1, port), v6(1, port)], [true, false]);

        // One port and no other; for a prefix too, which hash:ip,port could not hold.
        let banned = [Port { protocol: Protocol::Tcp, number: port }];
        ban_for_an_hour(&mut kernel, "192.0.2.3", &banned);
        ban_for_an_hour(&mut kernel, "2001:db8:3::/64", &banned);
        assert_eq!([v4(3, port), v4(3, other), v6(3, port), v6(3, other)], [false, true, false, true]);
        assert_eq!([v4(2, port), v6(2, port)], [true, true]);
    });
}

#[test]
fn a_ban_is_on_the_source_and_the_port_is_the_destinations() {
    in_namespace(|| {
        sh("ip link set lo up; ip addr add 192.0.2.1/32 dev lo; ip addr add 192.0.2.2/32 dev lo");
        let mut kernel = prepared(settings());
        let [one, two] = ["192.0.2.1:0", "192.0.2.2:0"].map(|address| UdpSocket::bind(address).unwrap());
        let passes = |from: &UdpSocket, to: &UdpSocket| {
            to.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            from.send_to(b"x", to.local_addr().unwrap()).unwrap();
            to.recv(&mut [0; 9]).is_ok()
        };
        assert_eq!([passes(&one, &two), passes(&two, &one)], [true, true]);
        ban_for_an_hour(&mut kernel, "192.0.2.1", &[]);
        assert_eq!([passes(&one, &two), passes(&two, &one)], [false, true]);
        unban(&mut kernel, "192.0.2.1");

        let port = |socket: &UdpSocket| {
            [Port { protocol: Protocol::Udp, number: socket.local_addr().unwrap().port() }]
        };
        ban_for_an_hour(&mut kernel, "192.0.2.1", &port(&two));
        ban_for_an_hour(&mut kernel, "192.0.2.2", &port(&two));
        assert_eq!([passes(&one, &two), passes(&two, &one)], [false, true]);
    });
}
