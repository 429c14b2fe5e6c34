//! Journal entries: how the thread that reads the journal packs the fields, and how they become an entry.
//!
//! That thread copies the fields into one buffer and does no more. Their meaning is decided here, on the engine's side.
//! The fields are those of systemd.journal-fields(7): journald itself writes a name that begins with `_`, the sender any
//! other.

use super::scan::until;
use super::{cut, number, program};
use crate::model::{Entry, Sender, Timestamp};

/// The fields that an entry is made of.
pub(super) const FIELDS: [&[u8]; 9] = [
    b"MESSAGE",
    b"SYSLOG_IDENTIFIER",
    b"SYSLOG_PID",
    b"_COMM",
    b"_EXE",
    b"_PID",
    b"_SYSTEMD_UNIT",
    b"_UID",
    b"_HOSTNAME",
];

/// Which of the fields that an entry is made of has this name.
pub(super) fn place(name: &[u8]) -> Option<u32> {
    Some(match name {
        b"MESSAGE" => 0,
        b"SYSLOG_IDENTIFIER" => 1,
        b"SYSLOG_PID" => 2,
        b"_COMM" => 3,
        b"_EXE" => 4,
        b"_PID" => 5,
        b"_SYSTEMD_UNIT" => 6,
        b"_UID" => 7,
        b"_HOSTNAME" => 8,
        _ => return None,
    })
}

/// Begins a record at the end of `out`: journald's realtime in microseconds, a little-endian `i64`.
pub fn begin(out: &mut Vec<u8>, time: Timestamp) {
    out.extend_from_slice(&time.as_micros().to_le_bytes());
}

/// Adds a field (`NAME=value`) to the record begun last: its length, a little-endian `u32`, and itself.
///
/// Of a field of 4 GiB or more nothing is added; journald takes none over 768 MiB.
pub fn push(out: &mut Vec<u8>, field: &[u8]) {
    if let Ok(length) = u32::try_from(field.len()) {
        out.reserve(size_of::<u32>() + field.len());
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(field);
    }
}

/// Adds how much white space journald left out at the end of the message, which stands in the `SYSLOG_RAW` that it
/// keeps then.
pub(super) fn push_trimmed(out: &mut Vec<u8>, raw: &[u8]) {
    match raw.len() - raw.trim_ascii_end().len() {
        0 => {}
        trimmed => push(out, format!("TRIMMED={trimmed}").as_bytes()),
    }
}

/// Marks the record begun last as one whose end may be missing.
pub fn cut(out: &mut Vec<u8>) {
    push(out, b"CUT=");
}

/// Marks the record begun last as a line of an output.
pub(super) fn print(out: &mut Vec<u8>) {
    push(out, b"PRINTED=");
}

/// The value of a field of a record; empty where it has none.
pub fn field_of<'r>(record: &'r [u8], name: &[u8]) -> &'r [u8] {
    let mut rest = record.get(8..).unwrap_or_default();
    while let Some((field, after)) = field(rest) {
        match name_and_value(field) {
            (found, value) if found == name => return value,
            _ => rest = after,
        }
    }
    b""
}

/// The entry in a record; `None` if it is cut short.
///
/// Of a field that occurs twice the first counts. What journald knows of the sender goes before what the
/// sender says of itself, except for its name: `sshd` may run as `sshd-session`.
pub(super) fn decode<'a>(record: &'a [u8], unnamed: &'a [u8]) -> Option<Entry<'a>> {
    let (time, mut rest) = record.split_first_chunk()?;
    let time = Timestamp::from_micros(i64::from_le_bytes(*time));
    let mut sender = Sender::default();
    let (mut text, mut identifier, mut pid, mut claimed_pid, mut host) = (None, None, None, None, None);
    let (mut is_cut, mut trimmed) = (false, 0u32);
    while !rest.is_empty() {
        let (field, after) = field(rest)?;
        rest = after;
        let (name, value) = name_and_value(field);
        match name {
            b"MESSAGE" => text = text.or(Some(value)),
            b"SYSLOG_IDENTIFIER" => identifier = identifier.or(Some(value)),
            b"SYSLOG_PID" => claimed_pid = claimed_pid.or(number(value)),
            b"_COMM" => sender.comm = sender.comm.or(Some(value)),
            b"_EXE" => sender.exe = sender.exe.or(Some(value)),
            b"_HOSTNAME" => host = host.or(Some(value)),
            b"_PID" => pid = pid.or(number(value)),
            b"_SYSTEMD_UNIT" => sender.unit = sender.unit.or(Some(value)),
            b"_UID" => sender.uid = sender.uid.or(number(value)),
            b"CUT" => is_cut = true,
            b"PRINTED" => sender.prints = true,
            b"TRIMMED" => trimmed = number(value).unwrap_or(0),
            _ => {}
        }
    }
    let message = text.unwrap_or(b"");
    let length = message.len().saturating_add(trimmed as usize);
    let goes_on = cut::is_loggers(length, sender.comm);
    Some(Entry {
        time,
        host: host.unwrap_or(b""),
        program: program(identifier.or(sender.comm).unwrap_or(unnamed)),
        pid: pid.or(claimed_pid).unwrap_or(0),
        message,
        cut: is_cut || goes_on,
        goes_on,
        times: 1,
        sender,
    })
}

/// The first field, and what follows it.
#[inline(always)]
fn field(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = input.split_first_chunk()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

/// What stands before and after the first `=`; all of it is the name where there is none.
pub(super) fn name_and_value(field: &[u8]) -> (&[u8], &[u8]) {
    let (name, value) = field.split_at_checked(until(field, 0, [b'='])).unwrap_or((field, b""));
    (name, value.get(1..).unwrap_or_default())
}
