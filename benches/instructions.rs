//! What a line costs in instructions, which a busy machine does not change: `benches/instructions`.
//!
//! The program makes the lines and the engine, and takes the lines in `measured`, the only function that callgrind counts.

#![allow(missing_docs)]

mod workload;

use std::num::{NonZeroU8, NonZeroUsize};
use std::sync::Arc;

use banstream_core::detect::{Growth, Jail, Settings, Watch};
use banstream_core::engine::{Clock, Engine, Unattested};
use banstream_core::entry::records::Records;
use banstream_core::entry::{Decoder, Format};
use banstream_core::grammar::{Grammar, Grammars, Lists, SHIPPED};
use banstream_core::model::{Mode, Span, Timestamp, Widths};

use workload::{Dice, access, auth, ftp, json, quiet};

/// Lines of a batch, and batches.
const LINES: usize = 500;
const BATCHES: usize = 40;

fn main() {
    let kind = std::env::args().nth(1).unwrap_or_default();
    let line: fn(&mut Dice, usize) -> String = match kind.as_str() {
        "auth" => auth,
        "quiet" => quiet,
        "json" => |dice, second| json(&auth(dice, second)),
        "ftp" => ftp,
        "access" => |dice, second| format!("Nov 21 00:00:00 web01 nginx: {}", access(dice, second)),
        _ => return eprintln!("which lines? auth, quiet, json, ftp or access"),
    };
    let mut dice = Dice(2_026);
    let mut batches: Vec<Records> = (0..BATCHES)
        .map(|batch| {
            let mut records = Records::new(Format::Line);
            (0..LINES).for_each(|nth| records.push(line(&mut dice, (batch * LINES + nth) * 4).as_bytes()));
            records
        })
        .collect();
    let mut engine = engine();
    // Grammars are compiled when their program first writes.
    let (first, rest) = batches.split_at_mut(1);
    take(&mut engine, first);
    measured(&mut engine, rest);
    println!("{}", rest.len() * LINES);
}

#[inline(never)]
fn measured(engine: &mut Engine<'_>, batches: &mut [Records]) {
    take(engine, batches);
}

#[inline(always)]
fn take(engine: &mut Engine<'_>, batches: &mut [Records]) {
    let now = Timestamp::from_secs(1_795_467_851);
    for records in batches {
        std::hint::black_box(engine.take(records, Clock::OfEntries(now), Unattested::Accept));
    }
}

/// With all shipped grammars, and a jail for all that five of them find.
fn engine() -> Engine<'static> {
    let shipped = |(name, _): &(&str, &str)| Grammar::shipped(name, &Lists::shipped()).expect("it is sound");
    let grammars = Grammars::new(SHIPPED.iter().map(shipped).collect()).expect("they are sound");
    let watched =
        |grammar: &&Grammar| ["sshd", "vsftpd", "proftpd", "pure-ftpd", "nginx"].contains(&grammar.name());
    let hour = Span::from_secs(3600);
    let jail = |grammar: &Grammar| Jail {
        name: grammar.name().into(),
        mode: Mode::Enforce,
        watches: vec![Watch { grammar: grammar.name().into(), categories: grammar.categories().to_vec() }],
        max_retry: NonZeroU8::new(5).expect("not zero"),
        find_time: hour,
        distinct: None,
        ban_time: Some(hour),
        ports: [].into(),
        ignore: Vec::new(),
    };
    let settings = Settings {
        mode: Mode::Enforce,
        jails: grammars.iter().filter(watched).map(jail).collect(),
        ignore: Vec::new(),
        protect_logins: hour,
        widths: Widths::default(),
        nat64: Vec::new(),
        max_offenders: NonZeroUsize::new(1_000_000).expect("not zero"),
        growth: Growth { factor: 2.0, cap: hour, decay: hour, jitter: 0.0 },
        widen: None,
    };
    Engine::new(settings, Arc::new(grammars), Decoder::new(jiff::tz::TimeZone::UTC))
}
