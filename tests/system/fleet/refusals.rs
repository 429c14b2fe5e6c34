//! What a member, or somebody with the server in hand, does against the others: each is refused by name.

use std::collections::{BTreeMap, BTreeSet};

use async_nats::HeaderMap;
use serde_json::{Value, json};

use super::lab::{Lab, apart};
use super::rogue::{Rogue, notice, time};
use crate::common::{said, until};

#[test]
fn the_server_lets_a_member_do_no_more_than_it_needs() {
    apart(|| {
        let lab = Lab::up(&["web1", "web2", "evil"], "");
        let (evil, operator) = (Rogue::of(&lab.hosts[2]), Rogue::operator(&lab));
        lab.hosts[0].daemon.tell("ban 198.51.100.1");
        until("it is told", || lab.hosts[1].bans().len() == 1);
        for subject in [
            "$KV.banstream-bans.web2.198.51.100.9/32",
            "$KV.banstream-members.host.evil",
            "$JS.API.INFO",
            "$JS.API.STREAM.CREATE.mine",
            "$JS.API.STREAM.UPDATE.KV_banstream-bans",
            "$JS.API.STREAM.DELETE.KV_banstream-bans",
            "$JS.API.STREAM.PURGE.KV_banstream-bans",
            "$JS.API.STREAM.MSG.DELETE.KV_banstream-bans",
            "$JS.API.STREAM.SNAPSHOT.KV_banstream-bans",
            "$JS.API.CONSUMER.DELETE.KV_banstream-bans.x",
            "$JS.API.CONSUMER.PAUSE.KV_banstream-bans.x",
            "$JS.API.CONSUMER.DURABLE.CREATE.KV_banstream-bans.x",
            "_INBOX_web2.x",
        ] {
            evil.may_not_publish(subject);
        }
        for subject in [">", "$KV.>", "_INBOX.>", "_INBOX_web2.>", "$JS.API.>"] {
            evil.may_not_subscribe(subject);
        }

        // What it may do is not to reach further either.
        let mut rollup = HeaderMap::new();
        rollup.insert("Nats-Rollup", "all");
        let of_its_own = "$KV.banstream-bans.evil.198.51.100.9/32";
        assert_eq!(evil.publish(of_its_own, rollup, Vec::new()), None, "it empties the bucket");
        for to in [
            "$KV.banstream-bans.web2.198.51.100.9/32",
            "$KV.banstream-members.host.web2",
            "$JS.API.STREAM.PURGE.KV_banstream-bans",
        ] {
            // The server itself would send there.
            let consumer = json!({"stream_name": "KV_banstream-bans", "config": {
                "name": "x", "deliver_subject": to, "deliver_policy": "all", "inactive_threshold": 60_000_000_000_u64
            }});
            let answer = evil.request("$JS.API.CONSUMER.CREATE.KV_banstream-bans.x", &consumer).unwrap();
            let is_made = !answer.contains("\"error\"");
            let of_it = operator.request("$JS.API.CONSUMER.INFO.KV_banstream-bans.x", &json!({})).unwrap();
            assert!(!is_made || of_it.contains("\"delivered\":{\"consumer_seq\":0,"), "{to}: {of_it}");
            operator.request("$JS.API.CONSUMER.DELETE.KV_banstream-bans.x", &json!({}));
        }
        assert_eq!(operator.keys("banstream-bans"), ["web1.198.51.100.1/32"]);
        assert_eq!(operator.keys("banstream-members"), ["host.evil", "host.web1", "host.web2"]);
    });
}

/// What a member hears of `evil` and refuses, how that is called, and what it logs.
#[test]
fn what_is_not_a_members_to_say_is_refused_by_name() {
    apart(|| {
        let lab = Lab::new(&["web1", "web2", "evil"], "ignoreip = ['198.51.100.8']\n");
        let [web1, web2, evil] = &lab.hosts[..] else { unreachable!() };
        for host in [web1, web2] {
            host.start();
            host.wait_until_connected();
        }
        let (rogue, operator, other) = (Rogue::of(evil), Rogue::operator(&lab), Rogue::of(web2));
        web1.daemon.tell("allow 198.51.100.7");
        web1.daemon.send([json!({
            "tag": "sshd[1]:", "uid": "0", "message": "Accepted password for alice from 198.51.100.6 port 22 ssh2"
        })]);
        until("the login is known", || web1.daemon.status()["exempt"]["logins"] == 1);
        web2.daemon.tell("ban 198.51.100.2");
        until("it is heard", || web1.bans().len() == 1);
        let want = web1.bans();

        // What the server itself refuses, too.
        let place = "web2.198.51.100.3/32";
        let ban = || notice(&json!({})).to_string().into_bytes();
        assert_eq!(rogue.put(place, rogue.signed("ban", place, &ban())), None);
        let long = vec![b'x'; 5000];
        assert_eq!(rogue.put("evil.198.51.100.3/32", long.clone()), None);
        lab.open_server();
        operator.allow_long_values();

        // With a server that lets all pass.
        let genuine = other.value("web2.198.51.100.2/32").unwrap();
        let (ours, theirs) = ("evil.198.51.100.3/32", "web2.198.51.100.3/32");
        let of = |changes: Value| notice(&changes).to_string().into_bytes();
        let forged = "the host of this name has not signed it";
        let stranger = "no operator has admitted a host of this name";
        let unread = "it cannot be read; another version?";
        // Two with one signature, and what stands before each.
        let beside = "evil.198.51.100.4/32";
        let together = rogue.signed_together("ban", &[(ours, ban()), (beside, ban())]);
        let line = |value: &[u8]| value.iter().position(|byte| *byte == b'\n').unwrap();
        let head = |nth: usize| together[nth][..=line(&together[nth])].to_vec();
        // The signature alone, as if it were for one.
        let alone = [&head(0)[..86], b"\n"].concat();
        let cases: Vec<(&str, &str, Vec<u8>, &str)> = vec![
            // A stolen name.
            ("forged", theirs, rogue.signed("ban", theirs, &ban()), forged),
            ("forged", "web2.198.51.100.2/32", rogue.signed("ban", "web2.198.51.100.2/32", &ban()), forged),
            // Something genuine in another place, or of another kind.
            ("forged", theirs, genuine.clone(), forged),
            ("forged", ours, genuine.clone(), forged),
            ("forged", ours, rogue.signed("ban", "evil.198.51.100.4/32", &ban()), forged),
            ("forged", ours, rogue.signed("member", ours, &ban()), forged),
            ("forged", ours, rogue.signed("count", ours, &ban()), forged),
            ("forged", ours, operator.signed("ban", ours, &ban()), forged),
            ("forged", ours, together[1].clone(), forged),
            ("forged", ours, [head(0), ban()].concat(), forged),
            ("forged", ours, [head(1), ban()].concat(), forged),
            ("forged", ours, [alone, ban()].concat(), forged),
            ("forged", ours, [&head(0)[..100], b"\n", &ban()].concat(), forged),
            (
                "forged",
                theirs,
                rogue.signed_together("ban", &[(theirs, ban()), (ours, ban())]).remove(0),
                forged,
            ),
            ("forged", "evil.here", rogue.signed("ban", "evil.here", &ban()), forged),
            ("malformed", "evil.here", rogue.signed("addresses", "evil.here", &ban()), unread),
            ("forged", ours, Vec::new(), forged),
            ("forged", ours, ban(), forged),
            ("forged", ours, [b"\n".to_vec(), ban()].concat(), forged),
            (
                "stranger",
                "nobody.198.51.100.3/32",
                rogue.signed("ban", "nobody.198.51.100.3/32", &ban()),
                stranger,
            ),
            ("malformed", ours, rogue.signed("ban", ours, b""), unread),
            ("malformed", ours, rogue.signed("ban", ours, b"{}"), unread),
            ("malformed", ours, rogue.signed("ban", ours, b"[1"), unread),
            ("malformed", ours, rogue.signed("ban", ours, &[b'['; 4000]), unread),
            ("malformed", ours, rogue.signed("ban", ours, &of(json!({"more": 1}))), unread),
            ("malformed", ours, rogue.signed("ban", ours, &of(json!({"until": 1e300}))), unread),
            ("malformed", ours, rogue.signed("ban", ours, &of(json!({"times": -1}))), unread),
            ("malformed", ours, rogue.signed("ban", ours, &of(json!({"reason": "\u{1b}[2J"}))), unread),
            ("malformed", ours, rogue.signed("ban", ours, &of(json!({"jail": "x".repeat(100)}))), unread),
            ("malformed", ours, long, unread),
            ("malformed", "evil.198.51.100.3", rogue.signed("ban", "evil.198.51.100.3", &ban()), unread),
            (
                "malformed",
                "evil.198.51.100.3/33",
                rogue.signed("ban", "evil.198.51.100.3/33", &ban()),
                unread,
            ),
            (
                "malformed",
                "evil.198.51.100.3/24",
                rogue.signed("ban", "evil.198.51.100.3/24", &ban()),
                unread,
            ),
            ("malformed", "evil", rogue.signed("ban", "evil", &ban()), unread),
        ];
        let refused = |reason: &str| {
            web1.daemon.metric(&format!("banstream_fleet_refused_total{{reason=\"{reason}\"}}"))
        };
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        let mut is_refused = |reason: &'static str, what: &str, words: &str| {
            let count = counts.entry(reason).or_default();
            *count += 1;
            until(&format!("{what} is refused as {reason}"), || {
                let (is, log) = (refused(reason), web1.daemon.log());
                if is == *count { Ok(()) } else { Err(format!("{is} for {count}\n{log}")) }
            });
            let log = web1.daemon.log();
            assert!(log.lines().last().unwrap().contains(words), "{what}: {words}\n{log}");
        };
        for (reason, key, value, words) in cases {
            rogue.put(key, value.clone()).expect("the server takes it");
            is_refused(reason, &format!("{key}: {}", String::from_utf8_lossy(&value)), words);
        }
        // What is signed and read, but protected here.
        for (reason, address, words) in [
            ("too-wide", "198.51.0.0/16", "the prefix is too wide"),
            ("too-wide", "0.0.0.0/0", "the prefix is too wide"),
            ("too-wide", "20010db8000000000000000000000000/32", "the prefix is too wide"),
            ("exempt", "10.9.0.11/32", "10.9.0.11 is this host's own address"),
            ("exempt", "10.9.0.10/31", "10.9.0.11 is this host's own address"),
            ("server", "10.9.0.1/32", "a server of the fleet has this address"),
            ("server", "10.9.0.0/24", "a server of the fleet has this address"),
            ("member", "10.9.0.12/32", "a member of the fleet has this address"),
            ("member", "10.9.0.12/31", "a member of the fleet has this address"),
            ("exempt", "127.0.0.1/32", "is this host's own address"),
            ("exempt", "10.9.0.254/32", "10.9.0.254 is this host's gateway"),
            ("exempt", "198.51.100.8/32", "198.51.100.8 is in `ignoreip`"),
            ("exempt", "198.51.100.0/24", "is"),
            ("exempt", "198.51.100.7/32", "198.51.100.7 is exempted by hand"),
            ("exempt", "198.51.100.6/32", "a login from there at "),
        ] {
            rogue.say(&format!("evil.{address}"), &notice(&json!({})));
            is_refused(reason, address, words);
        }
        // A ban that was lifted is told once more.
        let place = "evil.198.51.100.5/32";
        rogue.say(place, &notice(&json!({})));
        let old = rogue.value(place).unwrap();
        until("it is banned", || web1.bans().len() == 2);
        rogue.say(place, &notice(&json!({"lifted": true})));
        until("it is lifted", || web1.bans().len() == 1);
        rogue.put(place, old).unwrap();
        is_refused("replayed", place, "it is no later than what that host said before");
        operator.put("web2.198.51.100.2/32", genuine).unwrap();
        is_refused("replayed", "what another has told", "it is no later than what that host said before");

        assert_eq!(web1.bans().keys().collect::<Vec<_>>(), want.keys().collect::<Vec<_>>());
        assert_eq!(web1.blocked(), BTreeSet::from(["198.51.100.2".to_owned()]));
        let status = web1.fleet();
        let evil = status.peers.iter().find(|peer| peer.host == "evil").unwrap();
        let of_evil = [
            ("exempt", 8),
            ("forged", 14),
            ("malformed", 11),
            ("member", 2),
            ("replayed", 1),
            ("server", 2),
            ("too-wide", 3),
        ];
        assert_eq!(evil.refused, of_evil.map(|(reason, times)| (reason.to_owned(), times)).into());
        assert_eq!((evil.bans, &evil.aside), (0, &None));
        let shown = web1.daemon.tell("fleet status");
        assert!(
            shown.contains("8 exempt, 14 forged, 11 malformed, 2 member, 1 replayed, 2 server, 3 too-wide"),
            "{shown}"
        );
        assert!(shown.contains("refused of hosts that no operator has admitted: "), "{shown}");
        assert!(web1.doctor().contains(&"fleet-refused".to_owned()));
        // Read again from the beginning, it comes to the same.
        web1.daemon.stop();
        web1.start();
        web1.wait_until_connected();
        until("all is read", || refused("forged") > 0);
        assert_eq!(web1.bans().keys().collect::<Vec<_>>(), want.keys().collect::<Vec<_>>());
    });
}

#[test]
fn a_member_that_fills_the_bucket_keeps_nobody_from_lifting_and_is_cleared_away() {
    apart(|| {
        let lab = Lab::up(&["web1", "web2"], "fleet.per-minute = 1000000\n");
        let [web1, web2] = &lab.hosts[..] else { unreachable!() };
        let operator = Rogue::operator(&lab);
        assert_eq!(operator.limits(), [(1_000_000, 256 << 20); 2]);
        web1.daemon.tell("ban 198.51.100.1");
        until("it is heard", || web2.blocked().len() == 1);
        web2.daemon.stop();
        // Two say that the members are there.
        operator.shrink(10);
        let rogue = Rogue::of(web2);
        let places = (2..50).map(|nth| format!("web2.198.51.100.{nth}/32"));
        let taken = places.filter(|place| rogue.put(place, vec![b'x'; 4000]).is_some()).count();
        assert_eq!(taken, 7);
        web1.daemon.tell("unban 198.51.100.1");
        until("it is lifted", || {
            let value = operator.value("web1.198.51.100.1/32").unwrap();
            String::from_utf8_lossy(&value).contains("\"lifted\":true")
        });
        web1.daemon.tell("ban 198.51.100.60");
        until("it says what is wrong", || web1.fleet().error.is_some_and(|error| error.contains("maximum")));
        assert!(web1.blocked().contains("198.51.100.60"));
        // It stays connected, and hears and lifts.
        assert_eq!((web1.connections(), web1.fleet().waiting), (1, 1));
        assert!(web1.daemon.tell("fleet status").contains("which has no room for its bans: "));
        assert!(web1.doctor().contains(&"fleet-full".to_owned()));
        rogue.say("web2.198.51.100.2/32", &notice(&json!({})));
        until("it hears the others", || web1.blocked().contains("198.51.100.2"));
        let removed = lab.fleet(web1, &["remove", "web2"]);
        assert!(removed.contains("took 9 entries of it"), "{removed}");
        until("it is told", || operator.keys("banstream-bans").contains(&"web1.198.51.100.60/32".to_owned()));
        until("nothing is wrong", || web1.fleet().error.is_none());
        assert_eq!((web1.connections(), web1.fleet().waiting), (1, 0));
        // What an operator has set stays.
        lab.fleet(web1, &["init"]);
        assert_eq!(operator.limits()[0], (10, 256 << 20));
    });
}

#[test]
fn a_member_that_bans_too_much_is_set_aside_until_it_is_accepted_again() {
    apart(|| {
        let lab = Lab::new(&["web1", "evil"], "fleet.per-minute = 20\nfleet.most = 30\n");
        let [web1, evil] = &lab.hosts[..] else { unreachable!() };
        web1.start();
        web1.wait_until_connected();
        let rogue = Rogue::of(evil);
        let place = |nth: u32| format!("evil.198.51.100.{nth}/32");
        let aside = || web1.fleet().peers.into_iter().find_map(|peer| peer.aside);
        let bans = || web1.bans().len();
        let refused = |reason: &str| {
            web1.daemon.metric(&format!("banstream_fleet_refused_total{{reason=\"{reason}\"}}"))
        };
        // What is in the bucket when it is read first is not counted: it tells something only after that.
        web1.daemon.tell("ban 198.51.100.99");
        let operator = Rogue::operator(&lab);
        until("it has read the bucket", || operator.value("web1.198.51.100.99/32").is_some());
        web1.daemon.tell("unban 198.51.100.99");
        // At once, since it may begin another after three seconds.
        rogue.say_all((1..=25).map(place));
        until("it is set aside", || refused("too-fast") == 1 && refused("set-aside") == 4);
        assert_eq!(bans(), 20);
        let why = "too many bans of that host within a minute (`per-minute` in [fleet])";
        assert_eq!(aside().as_deref(), Some(why));
        assert_eq!(web1.daemon.metric("banstream_fleet_set_aside"), 1);
        assert!(
            web1.daemon
                .log()
                .contains(&format!("error: set evil of the fleet aside: {why}; its bans so far stay"))
        );
        let shown = web1.daemon.tell("fleet status");
        assert!(
            shown.contains(&format!("set aside: {why}"))
                && shown.contains("banstream unban --jail fleet:HOST"),
            "{shown}"
        );

        assert!(web1.doctor().contains(&"peer-set-aside".to_owned()));
        // It stays aside over a restart.
        web1.daemon.stop();
        web1.start();
        web1.wait_until_connected();
        rogue.say(&place(30), &notice(&json!({"since": time(-600)})));
        until("it is refused", || refused("set-aside") >= 1);
        assert_eq!((bans(), aside().as_deref()), (20, Some("the host is set aside")));

        assert!(web1.daemon.tell("unban --jail fleet:evil").starts_with("lifted 20 bans:\n"));
        until("the kernel lets them go", || web1.blocked().is_empty());
        assert!(said(&web1.daemon.output(&["fleet", "accept", "nobody"])).contains("known are: evil"));
        // It mends its ways before it is heard again, and then all has its effect that it has said.
        for nth in 1..=12 {
            rogue.say(&place(nth), &notice(&json!({"lifted": true})));
        }
        assert_eq!(web1.daemon.tell("fleet accept evil"), "evil is heard again\n");
        until("all is in force", || if bans() == 14 { Ok(()) } else { Err(format!("{}", bans())) });
        assert_eq!(aside(), None);

        // Slowly, but more than may be in force.
        for nth in 101..=120 {
            rogue.say(&place(nth), &notice(&json!({"since": time(-60 * i64::from(nth))})));
        }
        until("it is set aside", || refused("too-many") == 1);
        assert_eq!(bans(), 30);
        let why = "too many bans of that host in force (`most` in [fleet])";
        assert_eq!(aside().as_deref(), Some(why));
    });
}
