//! What offences and bans cost in the ledger: `cargo bench --bench ledger`.
//!
//! Addresses come in no order, as in a real flood; pages and transactions are as large as those of the daemon.

#![allow(missing_docs)]

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

use banstream::config::Retention;
use banstream::detect::{Session, Trace, WindowEffect, manual};
use banstream::engine::Evidence;
use banstream::grammar::Grammars;
use banstream::model::{Ban, Decision, Offender, SessionId, Span, Timestamp};
use banstream::store::{Ledger, LedgerUpdate};

const PAGE: u32 = 1024;
const PAGES: usize = 20;
/// Messages that the daemon keeps of a page with more bans than that.
const SAMPLE: usize = 500;

fn main() {
    measure("an offence that does not ban", 500_000, |n| (n % 60_000, WindowEffect::Counted));
    measure("a ban", 1_000_000, |n| (n, WindowEffect::Filled(1)));
    measure("a ban after five offences", 500_000, |n| {
        (n / 5, if n % 5 == 4 { WindowEffect::Filled(5) } else { WindowEffect::Counted })
    });
}

/// What each offence of a flood costs, and a start after it.
fn measure(what: &str, offences: u32, of: impl Fn(u32) -> (u32, WindowEffect)) {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let keep = Span::from_secs(30 * 24 * 60 * 60);
    let limits = Retention { keep, max_rows: 100_000.try_into().expect("not zero") };
    let mut ledger = Ledger::open(directory.path(), limits).expect("a ledger");
    let (mut spent, mut bans) = (0.0, 0);
    let pages: Vec<u32> = (0..offences / PAGE).collect();
    for pages in pages.chunks(PAGES) {
        let updates: Vec<LedgerUpdate> = pages.iter().map(|page| update(*page, &of)).collect();
        bans += updates.iter().map(|update| update.decisions.len()).sum::<usize>();
        let begun = processor();
        ledger.write(&updates, now()).expect("it is written");
        spent += processor() - begun;
    }
    let each = |number: f64| spent * 1e6 / number;
    let size = ledger.size().expect("its size").bytes / 1_000_000;
    print!("{what}: {:.2} µs an offence", each(f64::from(offences)));
    print!("{}", if bans > 0 { format!(", {:.2} µs a ban", each(bans as f64)) } else { String::new() });
    drop(ledger);
    let begun = Instant::now();
    let ledger = Ledger::open(directory.path(), limits).expect("a ledger");
    let known = ledger.memory(&Grammars::default()).expect("it can be read");
    println!("; {size} MB; {} bans read in {:.2} s", known.bans.len(), begun.elapsed().as_secs_f64());
}

/// The seconds that a processor has worked for us, whatever else runs here.
fn processor() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/schedstat").expect("proc(5)");
    stat.split(' ').next().and_then(|nanoseconds| nanoseconds.parse::<f64>().ok()).expect("nanoseconds") / 1e9
}

fn now() -> Timestamp {
    Timestamp::from_secs(1_800_000_000)
}

fn update(page: u32, of: &impl Fn(u32) -> (u32, WindowEffect)) -> LedgerUpdate {
    let (mut traces, mut decisions, mut evidence) = (Vec::new(), Vec::new(), Evidence::default());
    let jail: Arc<str> = "sshd".into();
    let terms = manual(offender(0), now(), None, "5 offences within 10m").terms;
    for nth in 0..PAGE {
        let number = page * PAGE + nth;
        let (who, effect) = of(number);
        let (offender, time) = (offender(who), now() + Span::from_micros(number.into()));
        evidence.push(format!("Failed password for root from {offender} port 2 ssh2").as_bytes(), 23);
        if let WindowEffect::Filled(_) = effect {
            let (until, terms) = (Some(time + Span::from_secs(3600)), Arc::clone(&terms));
            decisions.push(Decision::Ban(Ban { offender, times: 1, since: time, until, terms }));
        }
        traces.push(Trace {
            nth: nth as usize,
            jail: Arc::clone(&jail),
            offender,
            time,
            grammar: None,
            category: None,
            session_id: SessionId::Process(number % 65_536),
            host: 0,
            value: 0,
            effect,
            session: Some(Session::read(&[1, 0, 3, 0, 1, 0], time)),
        });
    }
    if decisions.len() > SAMPLE {
        evidence.keep_first(SAMPLE);
    }
    LedgerUpdate { traces, evidence, decisions: decisions.into(), ..LedgerUpdate::default() }
}

/// The n-th of addresses in no order, all different.
fn offender(n: u32) -> Offender {
    Offender::single(Ipv4Addr::from_bits(n.wrapping_mul(0x9e37_79b1)).into())
}
