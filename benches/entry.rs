//! How many records a second each decoder reads: `cargo bench --bench entry`.

use banstream::entry::whole::JournalPiece;
use banstream::entry::{Decoder, Format, journal};
use banstream::model::Timestamp;
use divan::Bencher;
use divan::counter::ItemsCount;
use jiff::tz::TimeZone;

fn main() {
    divan::main();
}

/// 22 November 2026, 05:42:10 UTC.
const NOW: Timestamp = Timestamp::from_secs(1_795_326_130);

const MESSAGE: &str = "Failed password for invalid user admin from 198.51.100.2 port 48459 ssh2";

/// Decodes 1,000 records, numbered from 0, in a zone with summer time.
fn decode(bencher: Bencher<'_, '_>, format: Format, record: impl Fn(usize) -> Vec<u8>) {
    let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").expect("a zone");
    let mut decoder = Decoder::new(zone);
    let records: Vec<_> = (0..1000).map(record).collect();
    bencher.counter(ItemsCount::new(records.len())).with_inputs(|| records.clone()).bench_local_refs(
        |records| {
            for record in records {
                divan::black_box(decoder.decode(format, record, NOW).is_ok());
            }
        },
    );
}

#[divan::bench]
fn rfc3164(bencher: Bencher<'_, '_>) {
    decode(bencher, Format::Line, |n| format!("Nov 22 05:42:09 web01 sshd[{n}]: {MESSAGE}").into());
}

#[divan::bench]
fn rfc3164_each_in_another_minute(bencher: Bencher<'_, '_>) {
    decode(bencher, Format::Line, |n| {
        format!("Nov 22 {:02}:{:02}:09 web01 sshd[{n}]: {MESSAGE}", n / 60, n % 60).into()
    });
}

#[divan::bench]
fn rfc5424(bencher: Bencher<'_, '_>) {
    decode(bencher, Format::Line, |n| {
        format!("<38>1 2026-11-22T05:42:09.579216+00:00 web01 sshd {n} - - {MESSAGE}").into()
    });
}

#[divan::bench]
fn rsyslog_file(bencher: Bencher<'_, '_>) {
    decode(bencher, Format::Line, |n| {
        format!("2026-11-22T05:42:09.579216+00:00 web01 sshd[{n}]: {MESSAGE}").into()
    });
}

#[divan::bench]
fn no_header(bencher: Bencher<'_, '_>) {
    decode(bencher, Format::Line, |n| format!("{MESSAGE} {n}").into());
}

#[divan::bench]
fn json(bencher: Bencher<'_, '_>) {
    decode(bencher, Format::Line, |n| {
        format!(
            r#"{{"time":"2026-11-22T05:42:09.579216+00:00", "host":"web01", "facility":"auth", "severity":"info", "tag":"sshd[{n}]:", "program":"sshd", "pid":"{n}", "uid":"0", "exe":"\/usr\/sbin\/sshd", "message":" {MESSAGE}"}}"#
        )
        .into()
    });
}

#[divan::bench]
fn journal(bencher: Bencher<'_, '_>) {
    decode(bencher, Format::Journal, |n| record(&fields(n)));
}

/// What the thread that reads the journal spends on the fields of an entry.
#[divan::bench]
fn journal_push(bencher: Bencher<'_, '_>) {
    let fields = fields(0);
    bencher.counter(ItemsCount::new(1usize)).bench_local(|| record(&fields));
}

fn record(fields: &[String]) -> Vec<u8> {
    let mut piece = JournalPiece::default();
    journal::begin(&mut piece.record, NOW);
    fields.iter().for_each(|field| _ = piece.take(field.as_bytes()));
    piece.record
}

/// The fields that journald writes for a line of sshd.
fn fields(n: usize) -> Vec<String> {
    let fields = [
        "PRIORITY=6",
        "SYSLOG_FACILITY=4",
        "SYSLOG_IDENTIFIER=sshd",
        "SYSLOG_TIMESTAMP=Nov 22 05:42:10 ",
        "_BOOT_ID=6b11ed6f59504d7da90ab76b2aa3cbca",
        "_CAP_EFFECTIVE=1fffeffffff",
        "_CMDLINE=\"sshd: [accepted]\"",
        "_COMM=sshd",
        "_EXE=/usr/sbin/sshd",
        "_GID=0",
        "_HOSTNAME=web01",
        "_MACHINE_ID=1ab00000000000000000000000000001",
        "_RUNTIME_SCOPE=system",
        "_SOURCE_REALTIME_TIMESTAMP=1795326130594781",
        "_SYSTEMD_CGROUP=/system.slice/ssh.service",
        "_SYSTEMD_INVOCATION_ID=4e1789285ecb25144e1789285ecb2514",
        "_SYSTEMD_SLICE=system.slice",
        "_SYSTEMD_UNIT=ssh.service",
        "_TRANSPORT=syslog",
        "_UID=0",
    ];
    let numbered = [format!("MESSAGE={MESSAGE}"), format!("SYSLOG_PID={n}"), format!("_PID={n}")];
    fields.map(str::to_owned).into_iter().chain(numbered).collect()
}
