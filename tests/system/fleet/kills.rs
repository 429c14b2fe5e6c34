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
use crate::crash::Dice;

#[test]
fn no_ban_is_lost_or_comes_back_whatever_is_killed() {
    let kills = std::env::var("BANSTREAM_KILLS").map_or(30, |text| text.parse().unwrap());
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
            disturb(&lab, kills);
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

/// Tells threads that all is over.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Kills so many times, and lets all come up again.
fn disturb(lab: &Lab, kills: usize) {
    let mut dice = Dice(29);
    for nth in 0..kills {
        thread::sleep(Duration::from_millis(dice.below(200)));
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
                if nth % 2 == 0 {
                    until("it answers", || host.daemon.get("/status"));
                    thread::sleep(Duration::from_millis(dice.below(300)));
                }
            }
        }
    }
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
