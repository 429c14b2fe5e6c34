//! Hosts that share bans: real daemons and a real NATS server, in namespaces of their own.
//!
//! It needs root, and the server that `contrib/nats-server` fetches.

mod kills;
#[allow(dead_code, reason = "benches/fleet.rs has the rest")]
mod lab;
mod logins;
mod refusals;
#[allow(dead_code, reason = "benches/fleet.rs has the rest")]
mod rogue;

use std::fs;
use std::time::Duration;

use banstream::control::{ChangePage, ChangeRequest, Command, client, list_id};
use lab::{Host, Lab, apart};
use rogue::{Rogue, notice, time};
use serde_json::json;

use crate::common::{failed, said, until};

/// Three hosts and the terms of their bans.
fn three() -> Lab {
    Lab::up(&["web1", "web2", "web3"], "maxretry = 3\nbantime = '1h'\nfleet.per-minute = 100000\n")
}

#[test]
fn a_ban_of_one_is_in_force_in_all_until_it_is_lifted_or_ends() {
    apart(|| {
        let lab = three();
        let [web1, web2, web3] = &lab.hosts[..] else { unreachable!() };
        let operator = Rogue::operator(&lab);
        web1.daemon.send((1..=3).map(|pid| failed(pid, "198.51.100.1")));
        lab.all_block(&["198.51.100.1"]);
        let bans = web2.bans();
        let ban = &bans[&("198.51.100.1".to_owned(), "fleet:web1".to_owned())];
        assert_eq!((&ban["reason"], &ban["kind"]), (&"sshd: 3 offences within 10m".into(), &"peer".into()));
        web2.daemon.tell("ban 2001:db8:1::/64 --for 1h");
        web3.daemon.tell("ban 198.51.100.3 --for 4s");
        lab.all_block(&["198.51.100.1", "198.51.100.3", "2001:db8:1::/64"]);
        lab.all_block(&["198.51.100.1", "2001:db8:1::/64"]);

        // Lists are everybody's own.
        fs::write(web1.daemon.path("a.list"), "198.51.100.77\n").unwrap();
        let import = ["import", "list", "--config", "c.toml", "--write", "a.list"];
        let told = said(&web1.daemon.output(&import));
        assert!(told.contains(": 1 new\n"), "{told}");
        web1.daemon.tell("ban 198.51.100.4");
        until("what came later is told", || web2.blocked().len() == 3 && web3.blocked().len() == 3);
        web1.daemon.tell("unban --jail list");
        let all = ["198.51.100.1", "198.51.100.4", "2001:db8:1::/64"];
        lab.all_block(&all);
        let keys = [
            "web1.198.51.100.1/32",
            "web1.198.51.100.4/32",
            "web2.20010db8000100000000000000000000/64",
            "web3.198.51.100.3/32",
        ];
        assert_eq!(operator.keys("banstream-bans"), keys);
        let told = operator.numbers();

        // A restart of anything changes nothing, and nobody tells what others have told.
        web2.daemon.stop();
        web3.daemon.kill();
        [web2, web3].into_iter().for_each(Host::start);
        lab.hosts.iter().for_each(Host::wait_until_connected);
        lab.all_block(&all);
        let before: Vec<usize> = lab.hosts.iter().map(Host::connections).collect();
        lab.kill_server();
        lab.start_server();
        let are_back = || lab.hosts.iter().zip(&before).all(|(host, before)| host.connections() > *before);
        until("all have connected again", are_back);
        web3.daemon.tell("ban 198.51.100.5");
        lab.all_block(&["198.51.100.1", "198.51.100.4", "198.51.100.5", "2001:db8:1::/64"]);
        let mut now = operator.numbers();
        assert!(now.remove("web3.198.51.100.5/32").is_some());
        assert_eq!(now, told);

        web1.daemon.tell("unban 198.51.100.1");
        web2.daemon.tell("unban 2001:db8:1::/64");
        lab.all_block(&["198.51.100.4", "198.51.100.5"]);
        // What another has banned is lifted here alone, for as long as that lasts.
        web3.daemon.tell("unban 198.51.100.4");
        web3.daemon.stop();
        web3.start();
        web3.wait_until_connected();
        web1.daemon.tell("ban 198.51.100.6");
        until("what came later is heard", || web3.blocked().contains("198.51.100.6"));
        assert!(!web3.blocked().contains("198.51.100.4"));
        assert!(web2.blocked().contains("198.51.100.4"));
    });
}

#[test]
fn bans_keep_their_own_ends_and_the_kernel_has_the_longest() {
    apart(|| {
        let lab = three();
        let [web1, web2, web3] = &lab.hosts[..] else { unreachable!() };
        let hours = |host: &Host| host.blocks_for("198.51.100.1").div_ceil(3600);
        web1.daemon.tell("ban 198.51.100.1 --for 5h");
        lab.all_block(&["198.51.100.1"]);
        // In whichever order they come.
        web2.daemon.tell("ban 198.51.100.1 --for 2h");
        web3.daemon.tell("ban 198.51.100.1 --for 9h");
        until("the longest is in force everywhere", || lab.hosts.iter().all(|host| hours(host) == 9));
        web3.daemon.tell("unban 198.51.100.1");
        until("the next is", || [web1, web2].into_iter().all(|host| hours(host) == 5));
        // There those of others were lifted as well.
        assert_eq!(hours(web3), 0);
        web1.daemon.tell("unban 198.51.100.1");
        until("what remains is its own", || hours(web2) == 2 && hours(web1) == 0);
    });
}

#[test]
fn bans_go_on_without_a_server_and_are_told_once_there_is_one() {
    apart(|| {
        let lab = three();
        let [web1, web2, web3] = &lab.hosts[..] else { unreachable!() };
        web2.daemon.tell("ban 198.51.100.2");
        lab.all_block(&["198.51.100.2"]);
        web3.daemon.stop();
        lab.kill_server();
        for host in [web1, web2] {
            until("it is noticed", || host.fleet().error);
            let shown = host.daemon.tell("fleet status");
            assert!(shown.contains(&format!("{} is not connected", host.name)), "{shown}");
            assert_eq!(host.daemon.metric("banstream_fleet_connected"), 0);
        }
        web1.daemon.send((1..=3).map(|pid| failed(pid, "198.51.100.1")));
        until("it is banned here", || web1.blocked().len() == 2);
        until("it is written down", || web1.daemon.status()["ledger"]["waiting"] == 0);
        web2.daemon.tell("unban 198.51.100.2");
        until("it is lifted here", || web2.blocked().is_empty());
        assert_eq!((web1.fleet().waiting, web2.fleet().waiting), (1, 1));
        // A daemon that starts without a server bans as well.
        web1.daemon.kill();
        web1.start();
        let many: Vec<String> = (0..3000).map(|nth| format!("198.19.{}.{}", nth / 250, nth % 250)).collect();
        ban(web1, &many);
        lab.start_server();
        [web1, web2].into_iter().for_each(Host::wait_until_connected);
        // It has missed many.
        web3.start();
        let all: Vec<&str> = many.iter().map(String::as_str).chain(["198.51.100.1"]).collect();
        lab.all_block(&all);
        assert_eq!(Rogue::operator(&lab).keys("banstream-bans").len(), 3002);

        // And without one for good.
        assert!(web1.doctor().contains(&"fleet".to_owned()));
        lab.kill_server();
        for host in [web1, web3] {
            until("it is noticed", || host.fleet().error);
            host.daemon.stop();
            host.start();
            host.daemon.tell("ban 198.51.100.3");
            until("all is in force", || host.blocked().len() == 3002);
            assert!(host.doctor().contains(&"fleet-disconnected".to_owned()));
            let shown = host.daemon.tell("status");
            let line = shown.lines().find(|line| line.starts_with("fleet: ")).unwrap();
            assert!(line.contains(&format!("{} is not connected", host.name)), "{line}");
            // What the alert is about.
            assert_eq!(host.daemon.metric("banstream_fleet_connected"), 0);
        }
    });
}

/// `BANSTREAM_PARTITION=300 contrib/test cut_off` takes five minutes more.
#[test]
fn a_member_that_was_cut_off_and_the_others_agree_again() {
    let apart = std::env::var("BANSTREAM_PARTITION").map_or(0, |text| text.parse().unwrap());
    lab::apart(|| {
        let lab = three();
        let [web1, web2, web3] = &lab.hosts[..] else { unreachable!() };
        for address in ["198.51.100.1", "198.51.100.2"] {
            web2.daemon.tell(&format!("ban {address}"));
        }
        lab.all_block(&["198.51.100.1", "198.51.100.2"]);
        web2.plug(false);
        // This one is on its way when it is noticed, and lifted before it arrives.
        web2.daemon.tell("ban 198.51.100.3");
        until("it is noticed", || web2.fleet().error);
        web2.daemon.tell("unban 198.51.100.3");
        web2.daemon.tell("unban 198.51.100.1");
        web2.daemon.tell("ban 198.51.100.4");
        web1.daemon.tell("ban 198.51.100.5");
        until("the others agree", || web3.blocked().contains("198.51.100.5"));
        assert!(!web2.blocked().contains("198.51.100.5"));
        web2.daemon.send((1..=3).map(|pid| failed(pid, "198.51.100.6")));
        until("bans go on", || web2.blocked().contains("198.51.100.6"));
        std::thread::sleep(Duration::from_secs(apart));
        assert!(!web3.blocked().contains("198.51.100.6"));
        web2.plug(true);
        web2.wait_until_connected();
        let all = ["198.51.100.2", "198.51.100.4", "198.51.100.5", "198.51.100.6"];
        lab.all_block(&all);
        // What was on its way may have been lost, and may have come late.
        let operator = Rogue::operator(&lab);
        until("it is lifted in the bucket, too", || {
            let value = operator.value("web2.198.51.100.3/32");
            value.is_none_or(|value| String::from_utf8_lossy(&value).contains("\"lifted\":true"))
        });
        lab.all_block(&all);
    });
}

#[test]
fn what_a_member_has_lifted_does_not_come_back_with_an_old_value() {
    apart(|| {
        let lab = Lab::new(&["web1", "web2", "web3"], "");
        let [web1, web2, web3] = &lab.hosts[..] else { unreachable!() };
        for host in [web1, web2] {
            host.start();
            host.wait_until_connected();
        }
        let operator = Rogue::operator(&lab);
        web2.daemon.tell("ban 198.51.100.1");
        until("it is banned", || !web1.blocked().is_empty());
        let place = "web2.198.51.100.1/32";
        let old = operator.value(place).unwrap();
        web2.daemon.tell("unban 198.51.100.1");
        until("it is lifted", || web1.blocked().is_empty());
        // Members know that it is old, and one that is new has to be told.
        operator.put(place, old.clone()).unwrap();
        until("it is told again", || operator.value(place).unwrap() != old);
        web3.start();
        web3.wait_until_connected();
        web1.daemon.tell("ban 198.51.100.2");
        until("what came later is heard", || !web3.blocked().is_empty());
        assert_eq!(web3.bans().len(), 1);
        assert_eq!(web1.blocked(), web3.blocked());
        assert_eq!(web1.daemon.metric("banstream_fleet_refused_total{reason=\"replayed\"}"), 1);
    });
}

/// Another tells what happens meanwhile, with the times of that day. It is not a daemon, so that it can.
#[test]
fn a_member_that_comes_back_after_a_day_has_what_it_missed() {
    apart(|| {
        let lab = Lab::new(&["web1", "web2", "web3"], "fleet.longest = '30d'\n");
        let [web1, web2, web3] = &lab.hosts[..] else { unreachable!() };
        let (other, third, operator) = (Rogue::of(web2), Rogue::of(web3), Rogue::operator(&lab));
        let (day, hour) = (86_400, 3600);
        let place = |host: &str, last: u8| format!("{host}.198.51.100.{last}/32");
        let mut at = -day;
        let mut say = |last: u8, changes: serde_json::Value| {
            at += 1;
            let told = notice(&json!({"at": time(at), "since": time(at), "until": time(hour)}));
            let mut told = told.as_object().unwrap().clone();
            told.extend(changes.as_object().unwrap().clone());
            other.say(&place("web2", last), &told.into());
        };
        // As it goes: one that is lifted meanwhile, one that stays, one that is renewed, one that ends, one that the
        // bucket forgets, and one that an operator lifts.
        [1, 2, 3, 5, 6].into_iter().for_each(|last| say(last, json!({})));
        say(4, json!({"until": time(8)}));
        third.say(&place("web3", 7), &notice(&json!({"at": time(-day)})));
        web1.start();
        web1.wait_until_connected();
        web1.daemon.tell("ban 198.51.100.8 --for 1d");
        web1.daemon.tell("ban 198.51.100.9 --for 1d");
        let block = |last: &[u8]| {
            let want: std::collections::BTreeSet<_> =
                last.iter().map(|last| format!("198.51.100.{last}")).collect();
            until(&format!("it blocks {last:?} and no others"), || {
                let blocked = web1.blocked();
                if blocked == want { Ok(()) } else { Err(format!("{blocked:?}")) }
            });
        };
        block(&[1, 2, 3, 4, 5, 6, 7, 8, 9]);
        until("its own are told", || operator.keys("banstream-bans").len() == 9);
        web1.daemon.stop();

        say(1, json!({"lifted": true}));
        say(3, json!({"until": time(9 * hour), "times": 2}));
        say(10, json!({}));
        say(11, json!({"until": time(-60)}));
        say(12, json!({"until": time(hour), "lifted": true}));
        for forgotten in [place("web2", 5), place("web1", 9)] {
            operator.forget(&forgotten);
        }
        for (key, order) in [
            ("unban.198.51.100.6/32", json!({"at": time(-hour)})),
            ("allow.198.51.100.8/32", json!({"at": time(-hour + 1), "until": time(hour)})),
            ("allow.198.51.100.2/32", json!({"at": time(-hour + 2), "until": time(-60)})),
        ] {
            operator.order(key, &order);
        }
        let removed = lab.fleet(web1, &["remove", "web3"]);
        assert!(removed.ends_with("; took 1 entry of it out of the buckets\n"), "{removed}");
        until("one has ended", || time(0) > old_end(&other, &place("web2", 4)));

        for _ in 0..2 {
            web1.start();
            web1.wait_until_connected();
            block(&[2, 3, 5, 9, 10]);
            assert!(web1.blocks_for("198.51.100.3") > 8 * hour as u64);
            let state = web1.fleet();
            assert!(
                state.peers.iter().all(|peer| peer.aside.is_none() && peer.refused.is_empty()),
                "{state:?}"
            );
            until("its own is told again", || operator.keys("banstream-bans").contains(&place("web1", 9)));
            let shown = web1.daemon.tell("allow");
            assert!(shown.contains("198.51.100.8") && !shown.contains("198.51.100.2"), "{shown}");
            web1.daemon.stop();
        }
    });
}

/// When the ban of a value ends, in microseconds.
fn old_end(of: &Rogue, place: &str) -> i64 {
    let value = of.value(place).unwrap();
    let json = value.split(|b| *b == b'\n').nth(1).unwrap();
    serde_json::from_slice::<serde_json::Value>(json).unwrap()["until"].as_i64().unwrap()
}

#[test]
fn a_host_that_leaves_takes_its_bans_with_it_and_stays_out() {
    apart(|| {
        let lab = Lab::up(&["web1", "web2"], "jail.sshd.across = 'fleet'\n");
        let [web1, web2] = &lab.hosts[..] else { unreachable!() };
        let operator = Rogue::operator(&lab);
        web1.daemon.tell("ban 198.51.100.1");
        web2.daemon.tell("ban 198.51.100.2");
        web1.daemon.tell("ban 198.51.100.3");
        web1.daemon.tell("unban 198.51.100.3");
        web1.daemon.send([failed(1, "198.51.100.4")]);
        lab.all_block(&["198.51.100.1", "198.51.100.2"]);
        until("its window is told", || operator.keys("banstream-counts").len() == 1);

        let leave = ["fleet", "leave", "--config", "c.toml"];
        let run = || {
            let mut command = std::process::Command::new("nsenter");
            let command =
                command.arg(format!("--net=/run/netns/{}", web1.name)).arg(crate::common::BANSTREAM);
            command.args(leave).current_dir(&web1.daemon).output().unwrap()
        };
        let (seed, aside) = (web1.seed(), web1.daemon.path("fleet.seed.left"));
        let told = said(&run());
        assert!(
            told.starts_with(
                "web1 has left the fleet: lifted 1 ban and emptied 1 window that it had told the others\n"
            ),
            "{told}"
        );
        assert!(!seed.exists() && aside.exists());
        until("the other lifts it", || web2.blocked() == ["198.51.100.2".to_owned()].into());
        until("its daemon says so", || {
            let error = web1.fleet().error.unwrap_or_default();
            if error.contains("fleet.seed") { Ok(()) } else { Err(error) }
        });
        // It goes on alone, and tells nothing any more.
        web1.daemon.tell("ban 198.51.100.5");
        web1.daemon.stop();
        web1.start();
        until("it bans alone", || web1.blocked().contains("198.51.100.5"));
        // Once more it finds nothing to do.
        let told = said(&run());
        assert!(told.starts_with("web1 has left the fleet: lifted 0 bans and emptied 0 windows"), "{told}");
        assert_eq!(web2.blocked(), ["198.51.100.2".to_owned()].into());
        let config = fs::read_to_string(web1.daemon.path("c.toml")).unwrap();
        fs::write(web1.daemon.path("c.toml"), config.replace(&format!("'nats://{}'", lab::SERVER), ""))
            .unwrap();
        web1.daemon.tell("reload");
        until("it is in no fleet", || {
            web1.daemon.status().get("fleet").is_none_or(serde_json::Value::is_null)
        });
        assert_eq!(web1.blocked(), ["198.51.100.1", "198.51.100.5"].map(str::to_owned).into());
        let removed = lab.fleet(web2, &["remove", "web1"]);
        assert!(removed.starts_with("removed web1: "), "{removed}");
        assert_eq!(operator.keys("banstream-bans"), ["web2.198.51.100.2/32"]);
        assert_eq!(lab.fleet(web2, &["hosts"]).lines().last(), Some("1 host"));
    });
}

/// Bans many at once.
fn ban(host: &Host, addresses: &[String]) {
    let list = Some(list_id());
    for addresses in addresses.chunks(1000) {
        let ban = |address: &String| ChangeRequest::Ban {
            address: address.parse().unwrap(),
            length: None,
            reason: String::new(),
        };
        let page = ChangePage { changes: addresses.iter().map(ban).collect(), list, ..ChangePage::default() };
        let answer = client::send(&host.daemon.path("control"), &Command::Change(page)).unwrap();
        assert!(answer.done, "{}", answer.body);
    }
}
