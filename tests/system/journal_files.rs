//! The reader of journal files beside journalctl, on files of each kind that systemd-journal-remote writes: the same
//! entries in the same order, with the same fields and cursors.
//!
//! systemd 252 writes no LZ4 and no XZ, but reads both. So those fields are packed here, in the finished file.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use banstream_journal::{Cursor, Filter, JournalPlace, JournalReader};
use tempfile::TempDir;

/// An entry: its cursor, and its fields in no order.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    cursor: String,
    fields: BTreeSet<Vec<u8>>,
}

/// How files are written.
#[derive(Clone, Copy, Debug)]
struct Kind {
    compact: bool,
    keyed: bool,
    packed: Option<&'static str>,
}

/// Each combination of flags.
fn kinds() -> impl Iterator<Item = Kind> {
    [None, Some("zstd"), Some("lz4"), Some("xz")].into_iter().flat_map(|packed| {
        [(true, true), (true, false), (false, true), (false, false)].map(|(compact, keyed)| Kind {
            compact,
            keyed,
            packed,
        })
    })
}

#[test]
fn files_of_each_kind_are_read_as_by_journalctl() {
    for kind in kinds() {
        let directory = directory();
        write(directory.path(), "one", kind, &entries(1, 300));
        let want = journalctl(directory.path(), &[]);
        assert_eq!(want.len(), 300, "{kind:?}");
        same(&read(directory.path(), Filter::All), &want, &format!("{kind:?}"));
    }
}

#[test]
fn several_files_are_read_as_one() {
    let kind = Kind { compact: true, keyed: true, packed: Some("zstd") };
    let directory = directory();
    // Two that overlap, one of another boot, one that has a part of the first, and one of another machine.
    write(directory.path(), "one", kind, &entries(1, 200));
    write(directory.path(), "two", Kind { compact: false, ..kind }, &entries(100, 300));
    write(directory.path(), "three", Kind { keyed: false, ..kind }, &entries(5000, 5100));
    let below = directory.path().join("0123456789abcdef0123456789abcdef");
    fs::create_dir(&below).unwrap();
    write(&below, "four", kind, &entries(150, 250));
    fs::create_dir(directory.path().join("other")).unwrap();
    write(&directory.path().join("other"), "five", kind, &entries(7000, 7010));
    // Of an entry that two files have, either may give it.
    let parts = |mut entries: Vec<Entry>| {
        entries
            .iter_mut()
            .for_each(|entry| entry.cursor.replace_range(..entry.cursor.find(";b=").unwrap(), ""));
        entries
    };
    let want = parts(journalctl(directory.path(), &[]));
    assert_eq!(want.len(), 401);
    same(&parts(read(directory.path(), Filter::All)), &want, "down");
    let mut reader = JournalReader::open(JournalPlace::Directory(directory.path().to_owned())).unwrap();
    reader.seek_tail();
    let mut up = Vec::new();
    while reader.previous() {
        up.push(current(&mut reader));
    }
    up.reverse();
    same(&parts(up), &want, "up");
}

#[test]
fn what_matches_is_read_as_by_journalctl() {
    for kind in kinds() {
        let directory = directory();
        write(directory.path(), "one", kind, &entries(1, 200));
        write(directory.path(), "two", kind, &entries(150, 300));
        let fields =
            |fields: &[&str]| fields.iter().map(|field| field.as_bytes().to_vec()).collect::<Vec<_>>();
        let any = ["SYSLOG_IDENTIFIER=sshd", "SYSLOG_IDENTIFIER=absent", "+", "_COMM=cron"];
        let want = journalctl(directory.path(), &any);
        let any = fields(&["SYSLOG_IDENTIFIER=sshd", "SYSLOG_IDENTIFIER=absent", "_COMM=cron"]);
        same(&read(directory.path(), Filter::Any(any)), &want, &format!("{kind:?}, any"));
        assert!(want.len() > 50 && want.len() < 300);
        let every = ["SYSLOG_IDENTIFIER=sshd", "_PID=7"];
        let want = journalctl(directory.path(), &every);
        same(&read(directory.path(), Filter::Every(fields(&every))), &want, &format!("{kind:?}, every"));
        assert!(!want.is_empty());
        assert!(read(directory.path(), Filter::Every(fields(&["_PID=7", "_PID=no"]))).is_empty());
    }
}

#[test]
fn each_cursor_leads_to_its_entry_and_each_time_to_the_first_one_then() {
    for kind in kinds().filter(|kind| kind.packed.is_none()) {
        let directory = directory();
        write(directory.path(), "one", kind, &entries(1, 60));
        write(directory.path(), "two", kind, &entries(2000, 2030));
        let all = read(directory.path(), Filter::All);
        let mut reader = JournalReader::open(JournalPlace::Directory(directory.path().to_owned())).unwrap();
        let mut filtered = JournalReader::open(JournalPlace::Directory(directory.path().to_owned())).unwrap();
        filtered.set_filter(Filter::Every(vec![b"SYSLOG_IDENTIFIER=sshd".to_vec()]));
        let is_sshd = |entry: &&Entry| entry.fields.contains(&b"SYSLOG_IDENTIFIER=sshd"[..]);
        for (at, entry) in all.iter().enumerate() {
            let cursor: Cursor = entry.cursor.parse().unwrap();
            reader.seek_cursor(&cursor);
            assert!(reader.next() && reader.cursor() == Some(cursor));
            assert_eq!(reader.next(), at + 1 < all.len());
            assert!(at + 1 == all.len() || reader.previous() && reader.cursor() == Some(cursor));
            reader.seek_cursor(&cursor);
            assert!(reader.previous() && reader.cursor() == Some(cursor));
            assert_eq!(reader.previous(), at > 0);
            // Without its writer's number it is found by its time.
            reader.seek_cursor(&Cursor { seqnum: None, ..cursor });
            assert!(reader.next() && reader.cursor() == Some(cursor));
            reader.seek_realtime(cursor.realtime.unwrap());
            assert!(reader.next() && reader.realtime() == cursor.realtime);
            filtered.seek_cursor(&cursor);
            let want = all[at..].iter().find(is_sshd);
            assert_eq!(
                filtered.next().then(|| filtered.cursor().unwrap().to_string()),
                want.map(|e| e.cursor.clone())
            );
            filtered.seek_cursor(&cursor);
            let want = all[..=at].iter().rev().find(is_sshd);
            let found = filtered.previous().then(|| filtered.cursor().unwrap().to_string());
            assert_eq!(found, want.map(|e| e.cursor.clone()));
        }
    }
}

/// A file that was cut, or not written to its end, gives what is left; one byte that differs does no more.
#[test]
fn damaged_files_are_read_as_far_as_they_go() {
    for kind in kinds() {
        let directory = directory();
        let path = write(directory.path(), "one", kind, &entries(1, 100));
        let mut whole = fs::read(&path).unwrap();
        let used = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        whole.truncate(used);
        let (mut random, mut all) = (Random(7), 0);
        for round in 0..50 {
            let mut bytes = whole.clone();
            match round % 4 {
                0 => bytes.truncate(random.below(used)),
                1 => bytes[random.below(used)] = random.next() as u8,
                // Numbers are aligned.
                2 => {
                    let at = random.below(used / 8) * 8;
                    let values = [0, 1, u64::MAX, 1 << 63, random.next(), random.below(used) as u64 & !7];
                    bytes[at..at + 8].copy_from_slice(&values[random.below(6)].to_le_bytes());
                }
                _ => {
                    for _ in 0..100 {
                        bytes[random.below(used)] = random.next() as u8;
                    }
                }
            }
            fs::write(&path, &bytes).unwrap();
            for filter in [
                Filter::All,
                Filter::Any(vec![b"_COMM=cron".to_vec()]),
                Filter::Every(vec![b"_PID=7".to_vec()]),
            ] {
                let Ok(mut reader) =
                    JournalReader::open(JournalPlace::Directory(directory.path().to_owned()))
                else {
                    continue;
                };
                reader.set_filter(filter);
                let (mut down, mut up) = (0, 0);
                reader.seek_head();
                while reader.next() {
                    reader.fields(|_| true);
                    down += 1;
                }
                reader.seek_tail();
                while reader.previous() {
                    reader.fields(|_| true);
                    up += 1;
                }
                assert!(down <= 200 && up <= 200, "{kind:?}, round {round}: {down} down, {up} up");
                all += down;
            }
        }
        // Of 100 entries, 100 that match one name and a few that match a number, in 50 rounds, some damaged beyond reading.
        assert!(all > 1_000, "{kind:?}: {all}");
    }
}

fn directory() -> TempDir {
    TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

#[track_caller]
fn same(got: &[Entry], want: &[Entry], what: &str) {
    for (at, (got, want)) in got.iter().zip(want).enumerate() {
        assert_eq!(got.cursor, want.cursor, "{what}: entry {at}");
        assert!(got.fields == want.fields, "{what}: the fields of entry {at}: {}", difference(got, want));
    }
    assert_eq!(got.len(), want.len(), "{what}");
}

fn difference(got: &Entry, want: &Entry) -> String {
    let text = |fields: Vec<&Vec<u8>>| {
        let text = |field: &&Vec<u8>| String::from_utf8_lossy(&field[..field.len().min(60)]).into_owned();
        fields.iter().map(text).collect::<Vec<_>>()
    };
    let more: Vec<_> = got.fields.difference(&want.fields).collect();
    let less: Vec<_> = want.fields.difference(&got.fields).collect();
    format!("too many {:?}, too few {:?}", text(more), text(less))
}

/// What the reader gives.
fn read(directory: &Path, filter: Filter) -> Vec<Entry> {
    let mut reader = JournalReader::open(JournalPlace::Directory(directory.to_owned())).unwrap();
    reader.set_filter(filter);
    let mut entries = Vec::new();
    while reader.next() {
        entries.push(current(&mut reader));
    }
    assert!(reader.problems().is_empty());
    entries
}

fn current(reader: &mut JournalReader) -> Entry {
    let mut fields = BTreeSet::new();
    reader.fields(|field| {
        fields.insert(field.to_vec());
        true
    });
    Entry { cursor: reader.cursor().unwrap().to_string(), fields }
}

/// What journalctl gives, in the journal export format.
fn journalctl(directory: &Path, matches: &[&str]) -> Vec<Entry> {
    let mut command = Command::new("journalctl");
    command.args(["-o", "export", "--directory"]).arg(directory).args(matches).stderr(Stdio::null());
    let output = command.output().unwrap();
    assert!(output.status.success() || output.stdout.is_empty());
    let (mut rest, mut entries) = (&output.stdout[..], Vec::new());
    let mut entry = Entry { cursor: String::new(), fields: BTreeSet::new() };
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.iter().position(|byte| *byte == b'\n').unwrap());
        rest = &after[1..];
        let field = match line.contains(&b'=') {
            _ if line.is_empty() => {
                let empty = Entry { cursor: String::new(), fields: BTreeSet::new() };
                entries.push(std::mem::replace(&mut entry, empty));
                continue;
            }
            true => line.to_vec(),
            false => {
                let (length, after) = rest.split_first_chunk().unwrap();
                let (value, after) = after.split_at(usize::try_from(u64::from_le_bytes(*length)).unwrap());
                rest = &after[1..];
                [line, b"=", value].concat()
            }
        };
        match field.strip_prefix(b"__CURSOR=") {
            Some(cursor) => entry.cursor = String::from_utf8(cursor.to_vec()).unwrap(),
            None if field.starts_with(b"__") => {}
            None => drop(entry.fields.insert(field)),
        }
    }
    entries
}

/// Entries with these numbers, in the journal export format: of several programs, with short and long, repeated and binary
/// fields. Each thousand is of another boot.
fn entries(from: u64, to: u64) -> Vec<u8> {
    let mut out = Vec::new();
    for number in from..=to {
        let mut random = Random(number);
        let time = 1_700_000_000_000_000 + number * 1000;
        let boot = number / 1000 + 1;
        out.extend(format!("__REALTIME_TIMESTAMP={time}\n__MONOTONIC_TIMESTAMP={}\n", number * 1000).bytes());
        out.extend(format!("_BOOT_ID={boot:032x}\n_PID={}\nPRIORITY=6\n", number % 10).bytes());
        let program = ["sshd", "cron", "systemd"][random.below(3)];
        out.extend(format!("SYSLOG_IDENTIFIER={program}\n_COMM={program}\nNUMBER={number}\n").bytes());
        let length = [0, 10, 100, 600, 5000, 70_000][random.below(6)];
        let message: Vec<u8> = match number % 3 {
            0 => (0..length).map(|_| random.next() as u8).collect(),
            1 => (0..length).map(|nth| b"compressible text "[nth % 18]).collect(),
            _ => (0..length).map(|_| b"abcdefg\n"[random.below(8)]).collect(),
        };
        for (name, value) in [("MESSAGE", &message[..]), ("TWICE", b"a\nb"), ("TWICE", b"c\0d")] {
            match value {
                b"" => out.extend([name.as_bytes(), b"=\n"].concat()),
                _ => {
                    let length = (value.len() as u64).to_le_bytes();
                    out.extend([name.as_bytes(), b"\n", &length, value, b"\n"].concat());
                }
            }
        }
        out.push(b'\n');
    }
    out
}

/// Writes a file of this kind.
fn write(directory: &Path, name: &str, kind: Kind, entries: &[u8]) -> PathBuf {
    let path = directory.join(name).with_extension("journal");
    let flag = |is_on: bool| if is_on { "1" } else { "0" };
    let is_zstd = kind.packed == Some("zstd");
    let mut writer = Command::new("/lib/systemd/systemd-journal-remote")
        .arg(format!("--compress={}", flag(is_zstd)))
        .arg("--output")
        .arg(&path)
        .arg("-")
        .envs([
            ("SYSTEMD_JOURNAL_COMPACT", flag(kind.compact)),
            ("SYSTEMD_JOURNAL_KEYED_HASH", flag(kind.keyed)),
        ])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("systemd-journal-remote cannot be started; it is in Debian's package of that name");
    writer.stdin.take().unwrap().write_all(entries).unwrap();
    writer.wait().unwrap();
    let mut flags = [0; 4];
    fs::File::open(&path).unwrap().read_exact_at(&mut flags, 12).unwrap();
    let want = u32::from(is_zstd) << 3 | u32::from(kind.keyed) << 2 | u32::from(kind.compact) << 4;
    assert_eq!(u32::from_le_bytes(flags) & 0b1_1100, want & 0b1_1100, "{kind:?}");
    match kind.packed {
        Some("lz4") => pack(&path, kind, 2, lz4),
        Some("xz") => pack(&path, kind, 1, xz),
        _ => {}
    }
    path
}

/// Packs all long fields of a file that has none that are packed. It stays one that libsystemd reads.
fn pack(path: &Path, kind: Kind, flag: u8, pack: fn(&[u8]) -> Vec<u8>) {
    let mut bytes = fs::read(path).unwrap();
    let number = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
    let (mut at, last) = (number(&bytes, 88), number(&bytes, 136));
    let payload = if kind.compact { 72 } else { 64 };
    let mut packed = 0;
    while at <= last {
        let size = number(&bytes, at + 8);
        if bytes[at] == 1 && size > 400 {
            let small = pack(&bytes[at + payload..at + size]);
            if small.len() + payload < size {
                bytes[at + 1] = flag;
                bytes[at + 8..at + 16].copy_from_slice(&((payload + small.len()) as u64).to_le_bytes());
                bytes[at + payload..at + payload + small.len()].copy_from_slice(&small);
                packed += 1;
            }
        }
        at += size.next_multiple_of(8);
    }
    assert!(packed > 10, "{packed} are packed");
    bytes[12] |= flag;
    fs::write(path, bytes).unwrap();
}

/// As systemd packs with LZ4: how long it is, then one block.
fn lz4(field: &[u8]) -> Vec<u8> {
    let mut out = (field.len() as u64).to_le_bytes().to_vec();
    let long = |out: &mut Vec<u8>, length: usize| {
        if length >= 15 {
            out.extend(vec![255; (length - 15) / 255]);
            out.push(((length - 15) % 255) as u8);
        }
    };
    let mut seen = std::collections::HashMap::new();
    let (mut begin, mut at) = (0, 0);
    // The format wants literals at the end.
    while at + 12 < field.len() {
        let before = seen.insert(&field[at..at + 4], at).filter(|before| at - before < 65_536);
        let Some(before) = before else {
            at += 1;
            continue;
        };
        let most = field.len() - 5 - at;
        let length = (4..most).find(|nth| field[before + nth] != field[at + nth]).unwrap_or(most);
        let (literals, rest) = (at - begin, length - 4);
        out.push((literals.min(15) << 4 | rest.min(15)) as u8);
        long(&mut out, literals);
        out.extend(&field[begin..at]);
        out.extend(((at - before) as u16).to_le_bytes());
        long(&mut out, rest);
        at += length;
        begin = at;
    }
    let literals = field.len() - begin;
    out.push((literals.min(15) << 4) as u8);
    long(&mut out, literals);
    out.extend(&field[begin..]);
    out
}

/// As systemd packs with XZ.
fn xz(field: &[u8]) -> Vec<u8> {
    let mut packer = Command::new("xz")
        .args(["--format=xz", "--check=none", "--lzma2=dict=1MiB", "--single-stream", "--stdout"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = packer.stdin.take().unwrap();
    let field = field.to_vec();
    let writer = std::thread::spawn(move || input.write_all(&field).unwrap());
    let output = packer.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success());
    output.stdout
}

/// Numbers that look random and are the same each time (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}
