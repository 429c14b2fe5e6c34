//! Members and the server killed with SIGKILL at random moments, while all ban and lift: in the end each member has what
//! it would have had undisturbed.
//!
//! `BANSTREAM_KILLS=100 contrib/test kills` is the long version.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use banstream::control::{ChangePage, ChangeRequest, Command, Target, client, list_id};

use super::lab::{Host, Lab, apart};
use crate::common::until;
use crate::crash::{Dice, Line, Rsyslog};

#[test]
fn no_ban_is_lost_or_comes_back_whatever_is_killed() {
    let kills = kills(30);
    apart(|| {
        let lab = Lab::up(&["web1", "web2", "web3"], "fleet.per-minute = 1000000\n");
        let over = AtomicBool::new(false);
        let begun = Instant::now();
        let ours: Vec<BTreeSet<String>> = thread::scope(|scope| {
            let over = &over;
            let loads: Vec<_> = lab
                .hosts
                .iter()
                .zip(1..)
                .map(|(host, nth)| scope.spawn(move || load(host, nth, over)))
                .collect();
            // Whatever fails, the loads end.
            let ends = Ends(over);
            let mut dice = Dice(29);
            for nth in 0..kills {
                thread::sleep(Duration::from_millis(dice.below(200)));
                disturb(&lab, nth, &mut dice);
            }
            settle(&lab);
            drop(ends);
            loads.into_iter().map(|load| load.join().unwrap()).collect()
        });
        let all: BTreeSet<&str> = ours.iter().flatten().map(String::as_str).collect();
        println!("{kills} kills in {:.1} s; {} bans in the end", begun.elapsed().as_secs_f64(), all.len());
        assert!(ours.iter().all(|bans| bans.len() > 10), "nothing is tried");
        lab.all_block(&all.iter().copied().collect::<Vec<_>>());
        for host in &lab.hosts {
            let want: BTreeSet<(String, String)> = lab
                .hosts
                .iter()
                .zip(&ours)
                .flat_map(|(of, bans)| {
                    let jail =
                        if of.name == host.name { "manual".to_owned() } else { format!("fleet:{}", of.name) };
                    bans.iter().map(move |ban| (ban.clone(), jail.clone()))
                })
                .collect();
            until(&format!("{} has the bans of all", host.name), || {
                let mut bans: BTreeSet<_> = host.bans().into_keys().collect();
                // One that was in the kernel and not in the ledger was adopted before the operator asked for it again.
                bans.retain(|(address, jail)| jail != "kernel" || !all.contains(&**address));
                if bans == want {
                    Ok(())
                } else {
                    Err(format!("{:?}", bans.symmetric_difference(&want).collect::<Vec<_>>()))
                }
            });
        }
        println!("all agree after {:.1} s", begun.elapsed().as_secs_f64());
    });
}

/// Two of three members are counters. Half of the offenders have as many attempts as earn a ban, on two or three hosts
/// together, and the others one fewer: one that is lost or counts twice would show.
#[test]
fn sums_are_exact_whichever_counter_is_killed() {
    const ENOUGH: u64 = 6;
    let kills = kills(20);
    apart(|| {
        let config = format!(
            "jail.sshd.maxretry = {ENOUGH}\njail.sshd.across = 'fleet'\nfindtime = '1d'\nbantime = '2d'\n\
             fleet.per-minute = 1000000\n"
        );
        let lab = Lab::new(&["web1", "web2", "web3"], &config);
        lab.hosts[..2].iter().for_each(|host| drop(lab.add(host, &["--counter"])));
        lab.hosts.iter().for_each(Host::start);
        lab.hosts.iter().for_each(Host::wait_until_connected);
        let mut dice = Dice(31);
        let address = |nth: u64| format!("198.18.{}.{}", nth / 250, nth % 250);
        let mut pids = 1..;
        let mut attempt = |of: u64| Line {
            time: jiff::Timestamp::now().as_microsecond(),
            pid: pids.next().unwrap(),
            message: format!("Failed password for root from {} port 4711 ssh2", address(of)),
        };
        let offenders = kills as u64 * 10;
        for kill in 0..kills {
            // Ten more, whose attempts come while something dies.
            let mut streams: [Vec<Line>; 3] = Default::default();
            for of in kill as u64 * 10..kill as u64 * 10 + 10 {
                let first = dice.below(3);
                for nth in 0..ENOUGH - of % 2 {
                    // No host has them all.
                    let host = if nth == 0 { first } else { (first + 1 + dice.below(2)) % 3 };
                    streams[host as usize].push(attempt(of));
                }
            }
            let feeds: Vec<Rsyslog> = lab
                .hosts
                .iter()
                .zip(streams)
                .map(|(host, lines)| Rsyslog::start(&host.daemon, lines))
                .collect();
            thread::sleep(Duration::from_millis(dice.below(100)));
            disturb(&lab, kill, &mut dice);
            feeds.into_iter().for_each(Rsyslog::wait);
        }
        settle(&lab);
        let banned: Vec<String> = (0..offenders).filter(|of| of % 2 == 0).map(address).collect();
        lab.all_block(&banned.iter().map(String::as_str).collect::<Vec<_>>());
        // One more each, and it is enough: none was lost.
        let more = (0..offenders).filter(|of| of % 2 == 1).map(&mut attempt).collect();
        Rsyslog::start(&lab.hosts[2].daemon, more).wait();
        let all: Vec<String> = (0..offenders).map(address).collect();
        lab.all_block(&all.iter().map(String::as_str).collect::<Vec<_>>());
        for host in &lab.hosts {
            let bans = host.bans();
            let twice: Vec<_> = bans.iter().filter(|(_, ban)| ban["times"] != 1).collect();
            assert!(twice.is_empty(), "{}: {twice:?}", host.name);
        }
    });
}

/// How many kills.
fn kills(or: usize) -> usize {
    std::env::var("BANSTREAM_KILLS").map_or(or, |text| text.parse().unwrap())
}

/// Tells threads that all is over.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Kills the server or a member, and lets it come up again.
fn disturb(lab: &Lab, nth: usize, dice: &mut Dice) {
    match dice.below(4) {
        0 => {
            lab.kill_server();
            thread::sleep(Duration::from_millis(dice.below(300)));
            lab.start_server();
        }
        host => {
            let host = &lab.hosts[host as usize - 1];
            host.daemon.kill();
            host.daemon.begin(&mut host.command());
            // Every second one dies again as soon as it may be reading what it missed.
            if nth.is_multiple_of(2) {
                until("it answers", || host.daemon.get("/status"));
                thread::sleep(Duration::from_millis(dice.below(300)));
            }
        }
    }
}

/// Waits until all members are connected.
fn settle(lab: &Lab) {
    lab.hosts.iter().for_each(|host| drop(until("it answers", || host.daemon.get("/status"))));
    lab.hosts.iter().for_each(Host::wait_until_connected);
}

/// Bans and lifts until it is over, as an operator who does not give up; what is banned in the end.
fn load(host: &Host, nth: u8, over: &AtomicBool) -> BTreeSet<String> {
    let mut dice = Dice(u64::from(nth));
    let mut banned = BTreeSet::new();
    while !over.load(Ordering::Relaxed) {
        let address = format!("198.18.{nth}.{}", dice.below(250));
        let offender = address.parse().unwrap();
        let change = if banned.remove(&address) {
            ChangeRequest::Unban(Target::One(offender))
        } else {
            banned.insert(address);
            ChangeRequest::Ban { address: offender, length: None, reason: String::new() }
        };
        // Of a list it is answered once it is in the ledger.
        let page = ChangePage { list: Some(list_id()), ..ChangePage::from(change) };
        until("the daemon does it", || {
            let answer = client::send(&host.daemon.path("control"), &Command::Change(page.clone()));
            answer.is_ok_and(|answer| answer.done)
        });
        thread::sleep(Duration::from_millis(dice.below(40)));
    }
    banned
}
