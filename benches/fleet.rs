//! How long it takes from a line on one host until its sender is in the kernel of another, alone and while 10,000 other bans
//! a second are told; how long a hundred thousand bans of a member take to be in force elsewhere, and on a host that is new;
//! and what each of many members costs the server: `cargo bench --bench fleet`, as root, after `contrib/nats-server`.
//!
//! Daemons and server are real ones, in network namespaces of their own. Of the many members only one is a daemon: the
//! others are connections that follow the bucket as a daemon does. `BANSTREAM_BANS` and `BANSTREAM_MEMBERS` are other numbers
//! than 100,000 and 200.

#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "../tests/common/mod.rs"]
mod common;
#[allow(dead_code)]
#[path = "../tests/system/fleet/lab.rs"]
mod lab;
#[allow(dead_code)]
#[path = "../tests/system/fleet/rogue.rs"]
mod rogue;

use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use banstream::config::Enforce;
use banstream::kernel::{Element, Firewall, Ipset};
use lab::{Host, Lab};
use nix::sched::{CloneFlags, setns};
use nkeys::KeyPair;
use rogue::{Follower, Rogue};

use common::{failed, until};

/// How many lone lines.
const LINES: u32 = 1000;
/// Bans a second of the flood.
const FLOOD: usize = 10_000;

const CONFIG: &str =
    "jail.sshd.maxretry = 1\nfleet.per-minute = 1000000\nfleet.most = 1000000\nenforce.backend = 'ipset'\n";

fn main() {
    if std::env::var_os("IN_NAMESPACES").is_none() {
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        command.arg(std::env::current_exe().unwrap()).env("IN_NAMESPACES", "1");
        assert!(command.status().expect("unshare, from util-linux, as root").success());
        return;
    }
    let number = |name, or| std::env::var(name).map_or(or, |text| text.parse().unwrap());
    let lab = Lab::new(&["web1", "web2", "web3", "big"], CONFIG);
    let [web1, web2, web3, big] = &lab.hosts[..] else { unreachable!() };
    for host in [web1, web2] {
        host.start();
        host.wait_until_connected();
    }
    let big = Rogue::of(big);
    thread::scope(|scope| {
        // A thread, since it stays in the other host's network.
        scope.spawn(|| latencies(&lab, web1, web2, &big)).join().unwrap();
    });
    many_bans(&lab, web2, web3, &big, number("BANSTREAM_BANS", 100_000));
    many_members(&lab, web1, number("BANSTREAM_MEMBERS", 200));
}

fn latencies(lab: &Lab, from: &Host, to: &Host, big: &Rogue) {
    setns(File::open(format!("/run/netns/{}", to.name)).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
    let mut kernel = Ipset::open(Enforce::default()).unwrap();
    let mut socket = std::os::unix::net::UnixStream::connect(from.daemon.path("ingest")).unwrap();
    let mut lone = |how: &str, first: u32| {
        let mut times: Vec<f64> = (first..first + LINES)
            .map(|nth| {
                thread::sleep(Duration::from_millis(3));
                let address = format!("198.18.{}.{}", nth / 250, nth % 250 + 1);
                let element = Element { offender: address.parse().unwrap(), port: None };
                let line = format!("{}\n", failed(nth, &address));
                let sent = Instant::now();
                std::io::Write::write_all(&mut socket, line.as_bytes()).unwrap();
                while !kernel.holds(&element).unwrap_or(false) {
                    assert!(sent.elapsed() < Duration::from_secs(60), "{address} was never banned");
                    // Asked without a pause, the kernel would take one of two processors from all others.
                    thread::sleep(Duration::from_micros(50));
                }
                sent.elapsed().as_secs_f64() * 1e3
            })
            .collect();
        times.sort_unstable_by(f64::total_cmp);
        let at = |share: usize| times[times.len() * share / 100];
        println!(
            "from a line on one host to the kernel of another, {how}: p50 {:.2} ms, p99 {:.2} ms",
            at(50),
            at(99)
        );
    };
    lone("alone", 0);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let flooding = scope.spawn(|| {
            let begun = Instant::now();
            let mut told = 0;
            while !over.load(Ordering::Relaxed) {
                big.say_all((told..told + FLOOD / 100).map(|nth| place(nth % 50_000)));
                told += FLOOD / 100;
                thread::sleep(
                    Duration::from_secs_f64(told as f64 / FLOOD as f64).saturating_sub(begun.elapsed()),
                );
            }
            told as f64 / begun.elapsed().as_secs_f64()
        });
        thread::sleep(Duration::from_secs(1));
        let busy = || [lab.server_pid(), from.daemon.pid(), to.daemon.pid(), std::process::id()].map(ticks);
        let (before, begun) = (busy(), Instant::now());
        lone("under a flood", LINES);
        let mut took = busy();
        took.iter_mut().zip(before).for_each(|(took, before)| *took -= before);
        let [server, from, to, bench] = took.map(|ticks| ticks as f64 / begun.elapsed().as_secs_f64());
        println!(
            "of a processor the server takes {server:.0} %, the one host {from:.0} %, the other {to:.0} %, and this \
             program with the flood {bench:.0} %"
        );
        over.store(true, Ordering::Relaxed);
        println!("the flood: {:.0} bans a second", flooding.join().unwrap());
    });
}

/// The key of a ban of an address in 10.0.0.0/8.
fn place(nth: usize) -> String {
    format!("big.10.{}.{}.{}/32", nth >> 16, nth >> 8 & 255, nth & 255)
}

fn many_bans(lab: &Lab, known: &Host, new: &Host, big: &Rogue, bans: usize) {
    let begun = Instant::now();
    (0..bans)
        .collect::<Vec<_>>()
        .chunks(1000)
        .for_each(|some| big.say_all(some.iter().map(|nth| place(*nth))));
    let told = begun.elapsed().as_secs_f64();
    until("they are in force", || known.entries() >= bans);
    println!(
        "{bans} bans of a member: told in {told:.2} s, in force on another after {:.2} s",
        begun.elapsed().as_secs_f64()
    );
    println!("the server: {} MB of memory, {} MB on disk", memory(lab.server_pid()) / 1000, disk(lab));
    let begun = Instant::now();
    new.start();
    let answers = begun.elapsed().as_secs_f64();
    until("they are in force", || new.entries() >= bans);
    let all = begun.elapsed().as_secs_f64();
    println!(
        "a new member: answers after {answers:.2} s, all in force after {all:.2} s, {} MB",
        memory(new.daemon.pid()) / 1000
    );
    new.daemon.stop();
    let begun = Instant::now();
    new.start();
    new.wait_until_connected();
    until("they are in force", || new.entries() >= bans);
    println!("the same, restarted: {:.2} s", begun.elapsed().as_secs_f64());
}

fn many_members(lab: &Lab, web1: &Host, members: usize) {
    let operator = Rogue::operator(lab);
    operator.empty();
    let pairs: Vec<KeyPair> = (0..members).map(|_| KeyPair::new_user()).collect();
    pairs.iter().enumerate().for_each(|(nth, pair)| operator.admit(&format!("sim{nth}"), pair));
    pairs.iter().for_each(|pair| lab.add_user(&pair.public_key()));
    lab.open_server();
    let mut followers: Vec<Follower> = Vec::new();
    for part in 1..=4 {
        let before = memory(lab.server_pid());
        let more = &pairs[followers.len()..members * part / 4];
        followers.extend(more.iter().map(|pair| operator.follower(pair)));
        let each = memory(lab.server_pid()).saturating_sub(before) as f64 / more.len().max(1) as f64;
        let (begun, cpu, written) = (Instant::now(), ticks(lab.server_pid()), operator.written());
        let lines = 1000 * part as u32..1000 * part as u32 + 1000;
        web1.daemon.send(lines.map(|nth| failed(nth, &format!("198.19.{}.{}", nth / 250, nth % 250 + 1))));
        until("all have heard all", || followers.iter().all(|follower| follower.heard() >= written + 1000));
        let took = begun.elapsed().as_secs_f64();
        let cpu = (ticks(lab.server_pid()) - cpu) as f64 * 10_000.0 / (1000.0 * followers.len() as f64);
        println!(
            "{} members: {each:.0} kB of the server's memory each; all have 1000 bans after {took:.2} s, which cost the \
             server {cpu:.1} µs for each member and ban",
            followers.len()
        );
    }
}

/// Kilobytes.
fn memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let (_, size) = status.split_once("VmRSS:").unwrap();
    size.split_whitespace().next().unwrap().parse().unwrap()
}

/// What a process has had of the processors, in hundredths of a second.
fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, rest) = stat.rsplit_once(')').unwrap();
    rest.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

/// Megabytes.
fn disk(lab: &Lab) -> u64 {
    let output = Command::new("du").arg("-sm").arg(lab.path("store")).stderr(Stdio::null()).output().unwrap();
    String::from_utf8_lossy(&output.stdout).split_whitespace().next().unwrap().parse().unwrap()
}
