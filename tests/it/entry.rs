//! Decoders on records that real servers wrote, and beside a decoder written by others.

use std::fmt::Write as _;

use banstream::entry::whole::JournalPiece;
use banstream::entry::{Decoder, Format, journal};
use banstream::model::{Entry, Timestamp};
use jiff::tz::TimeZone;
use syslog_loose::{ProcId, Variant};

/// 22 November 2026, 05:45 UTC, shortly after the samples were written.
const NOW: Timestamp = Timestamp::from_secs(1_795_326_300);

const LOGS: &[&str] = &[
    include_str!("../samples/apache2.log"),
    include_str!("../samples/nginx.log"),
    include_str!("../samples/portscan-kernel.log"),
    include_str!("../samples/portscan.log"),
    include_str!("../samples/proftpd.log"),
    include_str!("../samples/pure-ftpd.log"),
    include_str!("../samples/sshd.log"),
    include_str!("../samples/vsftpd.log"),
];

/// The lines that servers wrote, without those that say what was done to them.
fn sample_lines() -> impl Iterator<Item = &'static str> {
    let lines = LOGS.iter().flat_map(|log| log.lines());
    lines.filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Without the spaces at the end, which journald and syslog_loose cut and rsyslog does not.
fn print(entry: &Entry<'_>) -> String {
    let message = entry.message.trim_ascii_end().escape_ascii();
    format!("{}[{}] {message}", entry.program.escape_ascii(), entry.pid)
}

/// Decodes a line with this crate and with syslog_loose, and compares.
#[track_caller]
fn compare(line: &str) {
    let mut record = line.as_bytes().to_vec();
    let entry = Decoder::new(TimeZone::UTC).decode(Format::Line, &mut record, NOW).expect("an entry");
    let theirs = syslog_loose::parse_message_with_year(line, |_| 2026, Variant::Either);
    let pid = match theirs.procid {
        Some(ProcId::PID(pid)) => pid.cast_unsigned(),
        _ => 0,
    };
    let theirs_entry = Entry {
        program: theirs.appname.unwrap_or("").as_bytes(),
        pid,
        message: theirs.msg.as_bytes(),
        ..entry
    };
    assert_eq!(print(&entry), print(&theirs_entry), "{line}");
    // A stamp without a zone means the zone of the process there.
    if line.contains("2026-") {
        let micros = theirs.timestamp.map(|time| time.timestamp_micros());
        assert_eq!(Some(entry.time.as_micros()), micros, "{line}");
    }
}

#[test]
fn sample_lines_are_read_as_syslog_loose_reads_them() {
    sample_lines().for_each(compare);
}

/// The same messages behind other headers.
#[test]
fn other_headers_are_read_as_syslog_loose_reads_them() {
    for line in sample_lines() {
        let [stamp, host, tag, message] = line.splitn(4, ' ').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let name = tag.trim_end_matches(':');
        let (program, pid) = name.split_once('[').map_or((name, "-"), |(n, p)| (n, p.trim_end_matches(']')));
        compare(&format!("Nov 22 05:40:30 {host} {tag} {message}"));
        compare(&format!("<38>Nov  2 05:40:30 {host} {tag} {message}"));
        if pid != "-" {
            // Of a line without host and pid syslog_loose takes the tag for the host.
            compare(&format!("<38>Nov 22 05:40:30 {tag} {message}"));
        }
        compare(&format!("<38>{stamp} {host} {tag} {message}"));
        compare(&format!("<38>1 {stamp} {host} {program} {pid} - - {message}"));
        compare(&format!(r#"<38>1 {stamp} - {program} {pid} ID [a b="]"][c] {message}"#));
    }
}

/// The journal and rsyslog wrote down the same events.
#[test]
fn an_event_is_the_same_by_journal_and_by_json() {
    let objects = include_str!("../samples/omprog.jsonl").lines();
    let entries = include_str!("../samples/journal.jsonl").lines();
    let mut decoder = Decoder::new(TimeZone::UTC);
    let mut by_json = String::new();
    let mut by_journal = String::new();
    for line in objects {
        let mut record = line.as_bytes().to_vec();
        let entry = decoder.decode(Format::Line, &mut record, NOW).unwrap();
        writeln!(by_json, "{:?} {}", entry.sender.uid, print(&entry)).unwrap();
    }
    for line in entries {
        let mut piece = JournalPiece::default();
        let fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).unwrap();
        let time = fields["__REALTIME_TIMESTAMP"].as_str().unwrap().parse().unwrap();
        journal::begin(&mut piece.record, Timestamp::from_micros(time));
        for (name, value) in &fields {
            piece.take(format!("{name}={}", value.as_str().unwrap()).as_bytes());
        }
        let entry = decoder.decode(Format::Journal, &mut piece.record, NOW).unwrap();
        assert_eq!(entry.time.as_micros(), time);
        writeln!(by_journal, "{:?} {}", entry.sender.uid, print(&entry)).unwrap();
    }
    assert_eq!(by_json, by_journal);
}
