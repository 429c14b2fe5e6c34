//! Reads files that are made here, in all forms of the format that the reader tells apart, and damages them.
//!
//! Beside journald itself it is held by `tests/system/journal_files.rs`.

use std::collections::HashMap;
use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use crate::format::Header;
use crate::hash::hash;
use crate::{Filter, Interest, JournalPlace, JournalReader};

/// A folder of this test's own, which goes when it is over.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("banstream-journal-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.0.join(name), bytes).unwrap();
    }

    fn open(&self) -> JournalReader {
        JournalReader::open(JournalPlace::Directory(self.0.clone())).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const COMPACT: u32 = 1 << 4;
const KEYED: u32 = 1 << 2;

/// A journal with entries of these numbers, as systemd writes it.
struct Writer {
    bytes: Vec<u8>,
    flags: u32,
    data: HashMap<Vec<u8>, usize>,
    /// Where each chain's last array is, and how many entries it has in arrays; the header's is at 176.
    chains: HashMap<usize, (usize, usize, usize)>,
}

const BUCKETS: usize = 7;

impl Writer {
    fn journal(flags: u32, numbers: impl IntoIterator<Item = u64>) -> Vec<u8> {
        let mut bytes = vec![0; 272];
        bytes[..8].copy_from_slice(b"LPKSHHRH");
        bytes[12..16].copy_from_slice(&flags.to_le_bytes());
        bytes[16] = 1;
        bytes[24..40].copy_from_slice(b"the file's own k");
        bytes[72..88].copy_from_slice(b"series of number");
        let mut writer = Self { bytes, flags, data: HashMap::new(), chains: HashMap::new() };
        writer.set(88, 272);
        let table = writer.object(4, BUCKETS * 16);
        writer.set(104, (table + 16) as u64);
        writer.set(112, (BUCKETS * 16) as u64);
        for number in numbers {
            writer.entry(number);
        }
        let arena = writer.bytes.len() - 272;
        writer.set(96, arena as u64);
        writer.bytes
    }

    fn set(&mut self, at: usize, value: u64) {
        self.bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }

    fn get(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.bytes[at..at + 8].try_into().unwrap())
    }

    fn object(&mut self, kind: u8, payload: usize) -> usize {
        let at = self.bytes.len();
        self.bytes.resize(at + (16 + payload).next_multiple_of(8), 0);
        self.bytes[at] = kind;
        self.set(at + 8, (16 + payload) as u64);
        at
    }

    fn entry(&mut self, number: u64) {
        let name = if number.is_multiple_of(3) { "sshd" } else { "cron" };
        let fields = [
            format!("MESSAGE=number {number}"),
            format!("SYSLOG_IDENTIFIER={name}"),
            format!("_PID={}", number % 4),
            "_BOOT_ID=62626262626262626262626262626262".to_owned(),
        ];
        let items = fields.map(|field| self.field(field.as_bytes()));
        let width = if self.flags & COMPACT == 0 { 16 } else { 4 };
        let at = self.object(3, 48 + items.len() * width);
        for (place, value) in [(16, number), (24, number * 1000), (32, number * 1000), (56, number)] {
            self.set(at + place, value);
        }
        self.bytes[at + 40..at + 56].copy_from_slice(b"bbbbbbbbbbbbbbbb");
        for (nth, data) in items.into_iter().enumerate() {
            let place = at + 64 + nth * width;
            match width {
                4 => self.bytes[place..place + 4].copy_from_slice(&(data as u32).to_le_bytes()),
                _ => {
                    self.set(place, data as u64);
                    self.set(place + 8, self.get(data + 16));
                }
            }
        }
        self.link(176, at);
        self.set(152, self.get(152) + 1);
        for data in items {
            match self.get(data + 56) {
                0 => self.set(data + 40, at as u64),
                _ => self.link(data + 48, at),
            }
            self.set(data + 56, self.get(data + 56) + 1);
        }
    }

    /// Adds an entry to the arrays that begin with the one whose offset stands here.
    fn link(&mut self, head: usize, entry: usize) {
        let width = if self.flags & COMPACT == 0 { 8 } else { 4 };
        let (mut array, mut used, mut room) = self.chains.get(&head).copied().unwrap_or((0, 0, 0));
        if used == room {
            let before = if array == 0 { head } else { array + 16 };
            room = (room * 2).max(4);
            array = self.object(6, 8 + room * width);
            self.set(before, array as u64);
            used = 0;
        }
        let place = array + 24 + used * width;
        self.bytes[place..place + width].copy_from_slice(&(entry as u64).to_le_bytes()[..width]);
        self.chains.insert(head, (array, used + 1, room));
    }

    fn field(&mut self, field: &[u8]) -> usize {
        if let Some(data) = self.data.get(field) {
            return *data;
        }
        let start = if self.flags & COMPACT == 0 { 48 } else { 56 };
        let at = self.object(1, start + field.len());
        let hash = hash(&Header::parse(&self.bytes).unwrap(), field);
        self.set(at + 16, hash);
        self.bytes[at + 16 + start..at + 16 + start + field.len()].copy_from_slice(field);
        let mut link = self.get(104) as usize + hash as usize % BUCKETS * 16;
        while self.get(link) != 0 {
            link = self.get(link) as usize + 24;
        }
        self.set(link, at as u64);
        self.data.insert(field.to_vec(), at);
        at
    }
}

/// The numbers in the messages from here on.
fn rest(reader: &mut JournalReader) -> Vec<u64> {
    let mut numbers = Vec::new();
    while reader.next() {
        reader.fields(|field| {
            numbers.extend(
                field
                    .strip_prefix(b"MESSAGE=number ")
                    .map(|number| str::from_utf8(number).unwrap().parse::<u64>().unwrap()),
            );
            true
        });
    }
    numbers
}

fn numbers(numbers: impl IntoIterator<Item = u64>) -> Vec<u64> {
    numbers.into_iter().collect()
}

#[test]
fn all_forms_are_read() {
    let folder = Folder::new("forms");
    for flags in [0, COMPACT, KEYED, COMPACT | KEYED] {
        folder.write("one.journal", &Writer::journal(flags, 1..=100));
        let mut reader = folder.open();
        assert_eq!(rest(&mut reader), numbers(1..=100));
        reader.set_filter(Filter::Any(vec![b"SYSLOG_IDENTIFIER=sshd".to_vec(), b"_PID=9".to_vec()]));
        reader.seek_head();
        assert_eq!(rest(&mut reader), numbers((3..=100).step_by(3)));
        reader.set_filter(Filter::Every(vec![b"SYSLOG_IDENTIFIER=sshd".to_vec(), b"_PID=1".to_vec()]));
        reader.seek_head();
        assert_eq!(rest(&mut reader), numbers((9..=100).step_by(12)));
    }
}

#[test]
fn of_an_entry_that_nobody_asks_for_only_what_is_enough_is_given() {
    let folder = Folder::new("interest");
    for flags in [0, COMPACT, KEYED, COMPACT | KEYED] {
        folder.write("one.journal", &Writer::journal(flags, 1..=100));
        let mut reader = folder.open();
        let mut asked = 0;
        // Twice, the second time partly by what is remembered.
        for _ in 0..2 {
            reader.seek_head();
            for number in 1..=100 {
                assert!(reader.next());
                let interest = |field: &[u8]| {
                    asked += usize::from(field.starts_with(b"SYSLOG_IDENTIFIER="));
                    match field {
                        b"SYSLOG_IDENTIFIER=sshd" | b"MESSAGE=number 40" => Interest::Whole,
                        b"SYSLOG_IDENTIFIER=cron" => Interest::Brief,
                        _ => Interest::Unsaid,
                    }
                };
                let mut fields = Vec::new();
                reader.fields_of_interest(interest, |field| {
                    fields.push(field.to_vec());
                    true
                });
                if number % 3 == 0 || number == 40 {
                    assert_eq!(
                        (&*fields[0], fields.len()),
                        (&*format!("MESSAGE=number {number}").into_bytes(), 4)
                    );
                } else {
                    assert_eq!(fields, [b"SYSLOG_IDENTIFIER=cron"]);
                }
                // And nothing of it is lost for others.
                let mut all = 0;
                reader.fields(|_| {
                    all += 1;
                    true
                });
                assert_eq!(all, 4);
            }
        }
        // The first entry with each is read before another has it.
        assert!(asked <= 4, "{asked}");
    }
}

#[test]
fn the_few_that_match_are_found_by_the_index() {
    let folder = Folder::new("index");
    let fields = |fields: [&str; 3]| Filter::Any(fields.map(|field| field.as_bytes().to_vec()).into());
    for flags in [0, COMPACT | KEYED] {
        let mut bytes = Writer::journal(flags, 1..=10_000);
        // It is archived.
        bytes[16] = 2;
        folder.write("one.journal", &bytes);
        let mut reader = folder.open();
        reader.set_filter(fields(["MESSAGE=number 7000", "MESSAGE=number 12", "MESSAGE=number 0"]));
        assert_eq!(rest(&mut reader), [12, 7000]);
        reader.seek_realtime(13_000);
        assert_eq!(rest(&mut reader), [7000]);
        assert!(reader.previous() && reader.realtime() == Some(12_000));
        // As it is where all are passed by.
        reader.set_filter(fields(["MESSAGE=number 5", "SYSLOG_IDENTIFIER=sshd", "_PID=9"]));
        reader.seek_head();
        assert_eq!(rest(&mut reader).len(), 3334);
    }
}

#[test]
fn a_file_that_grows_is_read_on_and_a_rotated_one_is_not_read_twice() {
    let folder = Folder::new("grows");
    folder.write("system.journal", &Writer::journal(COMPACT, 1..=10));
    let mut reader = folder.open();
    assert_eq!(rest(&mut reader), numbers(1..=10));
    for last in (20..=100).step_by(10) {
        folder.write("system.journal", &Writer::journal(COMPACT, 1..=last));
        assert_eq!(rest(&mut reader), [], "nothing comes before it is looked for");
        reader.refresh().unwrap();
        assert_eq!(rest(&mut reader), numbers(last - 9..=last));
    }
    fs::rename(folder.0.join("system.journal"), folder.0.join("system@1.journal")).unwrap();
    // At first nothing is in a new file.
    folder.write("system.journal", b"");
    reader.refresh().unwrap();
    assert!(rest(&mut reader).is_empty() && reader.problems().is_empty());
    folder.write("system.journal", &Writer::journal(COMPACT | KEYED, 101..=130));
    reader.refresh().unwrap();
    assert_eq!(rest(&mut reader), numbers(101..=130));
}

#[test]
fn what_was_written_last_to_a_file_is_read_though_its_name_is_gone() {
    let folder = Folder::new("gone");
    folder.write("one.journal", &Writer::journal(0, 1..=10));
    let mut reader = folder.open();
    assert!(reader.next());
    folder.write("one.journal", &Writer::journal(0, 1..=20));
    fs::remove_file(folder.0.join("one.journal")).unwrap();
    reader.refresh().unwrap();
    assert_eq!(rest(&mut reader), numbers(2..=20));
    reader.refresh().unwrap();
    assert!(reader.is_empty());
}

#[test]
fn a_copy_is_read_on_when_it_is_complete() {
    let folder = Folder::new("copy");
    let whole = Writer::journal(KEYED, 1..=100);
    folder.write("one.journal", &whole[..whole.len() / 2]);
    let mut reader = folder.open();
    let mut read = rest(&mut reader);
    assert!(read.len() > 20 && read.len() < 80);
    folder.write("one.journal", &whole);
    reader.refresh().unwrap();
    read.extend(rest(&mut reader));
    assert_eq!(read, numbers(1..=100));
}

#[test]
fn what_was_read_is_not_read_again_from_a_copy_that_is_being_made() {
    let folder = Folder::new("copies");
    let whole = Writer::journal(KEYED, 1..=100);
    folder.write("one.journal", &whole);
    let mut reader = folder.open();
    assert_eq!(rest(&mut reader).len(), 100);
    for part in [300, whole.len() / 2, whole.len() - 300, whole.len()] {
        folder.write("two.journal", &whole[..part]);
        reader.refresh().unwrap();
        assert_eq!(rest(&mut reader), [], "{part}");
    }
    folder.write("two.journal", &Writer::journal(KEYED, 1..=101));
    reader.refresh().unwrap();
    assert_eq!(rest(&mut reader), [101]);
}

/// Where the boots of the entries stand.
fn boots(bytes: &[u8]) -> Vec<usize> {
    (0..bytes.len() - 16).filter(|at| bytes[*at..at + 16] == *b"bbbbbbbbbbbbbbbb").collect()
}

/// The same entries, as systemd 252 copies them: their numbers are of another series.
fn copied(numbers: RangeInclusive<u64>) -> Vec<u8> {
    let mut bytes = Writer::journal(0, numbers);
    bytes[72..88].copy_from_slice(b"of another file.");
    bytes
}

/// As systemd 254 copies them: with the next numbers of the same series.
fn renumbered(numbers: RangeInclusive<u64>) -> Vec<u8> {
    let mut bytes = Writer::journal(0, numbers);
    for boot in boots(&bytes) {
        let number = u64::from_le_bytes(bytes[boot - 24..boot - 16].try_into().unwrap()) + 100;
        bytes[boot - 24..boot - 16].copy_from_slice(&number.to_le_bytes());
    }
    bytes
}

#[test]
fn what_is_copied_while_it_is_read_is_read_once() {
    for copy in [copied, renumbered] {
        let folder = Folder::new("flushed");
        folder.write("one.journal", &Writer::journal(0, 50..=61));
        let mut reader = folder.open();
        assert_eq!(rest(&mut reader), numbers(50..=61));
        for last in 52..=60 {
            folder.write("two.journal", &copy(50..=last));
            reader.refresh().unwrap();
            assert_eq!(rest(&mut reader), [], "{last}");
        }
        folder.write("three.journal", &copy(62..=63));
        reader.refresh().unwrap();
        assert_eq!(rest(&mut reader), [62, 63]);
    }
}

#[test]
fn an_entry_that_is_seen_after_a_later_one_is_not_lost() {
    let folder = Folder::new("turns");
    folder.write("one.journal", &Writer::journal(0, 1..=9));
    folder.write("two.journal", &Writer::journal(0, [11]));
    let mut reader = folder.open();
    assert_eq!(rest(&mut reader).last(), Some(&11));
    folder.write("one.journal", &Writer::journal(0, 1..=10));
    reader.refresh().unwrap();
    assert_eq!(rest(&mut reader), [10]);
}

#[test]
fn an_entry_of_another_host_with_an_earlier_time_is_not_lost() {
    let folder = Folder::new("late");
    let other = |numbers: Vec<u64>| {
        let mut bytes = Writer::journal(0, numbers);
        bytes[72..88].copy_from_slice(b"of another host.");
        boots(&bytes).into_iter().for_each(|at| bytes[at..at + 16].fill(b'c'));
        bytes
    };
    folder.write("one.journal", &Writer::journal(0, 50..=60));
    folder.write("two.journal", &other(vec![55]));
    let mut reader = folder.open();
    let mut all = numbers(50..=60);
    all.insert(5, 55);
    assert_eq!(rest(&mut reader), all);
    folder.write("two.journal", &other(vec![55, 58, 12]));
    reader.refresh().unwrap();
    assert_eq!(rest(&mut reader), [58, 12]);
}

#[test]
fn files_that_are_not_read_are_said_once_and_keep_no_other_from_being_read() {
    let folder = Folder::new("refused");
    let mut unknown = Writer::journal(0, 1..=10);
    unknown[12] |= 1 << 7;
    folder.write("one.journal", &unknown);
    folder.write("two.journal", b"nonsense");
    folder.write("three.journal", &Writer::journal(0, 1..=10));
    folder.write("four.text", b"nonsense");
    let mut reader = folder.open();
    assert_eq!(rest(&mut reader), numbers(1..=10));
    let mut problems: Vec<String> = reader.problems().iter().map(ToString::to_string).collect();
    problems.sort();
    let place = folder.0.display();
    let flags = "it has the incompatible flags 0x80; known are XZ, LZ4, KEYED_HASH, ZSTD, COMPACT";
    let want = [
        format!("`{place}/one.journal`: {flags}"),
        format!("`{place}/two.journal`: it is not a journal file"),
    ];
    assert_eq!(problems, want);
    reader.refresh().unwrap();
    assert!(reader.problems().is_empty());
}

#[test]
fn arrays_that_claim_too_much_give_each_entry_once() {
    let folder = Folder::new("claims");
    let set =
        |bytes: &mut Vec<u8>, at: usize, value: u64| bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    let whole = Writer::journal(0, 1..=50);
    let first = u64::from_le_bytes(whole[176..184].try_into().unwrap()) as usize;
    let check = |bytes: &[u8], want: Vec<u64>| {
        folder.write("one.journal", bytes);
        let mut reader = folder.open();
        let read = rest(&mut reader);
        assert!(read.starts_with(&want) && read.is_sorted_by(|a, b| a < b), "{read:?}");
        reader.seek_tail();
        let up = std::iter::from_fn(|| reader.previous().then_some(reader.realtime()?)).count();
        assert!(up <= 50, "{up}");
    };
    // More entries than there are places, and an array that goes on beyond the file: what is behind it may be offsets.
    let mut bytes = whole.clone();
    set(&mut bytes, 152, u64::MAX);
    check(&bytes, numbers(1..=50));
    set(&mut bytes, first + 8, 1 << 60);
    check(&bytes, numbers(1..=4));
    // The first array is behind itself.
    bytes = whole.clone();
    set(&mut bytes, 152, u64::MAX);
    set(&mut bytes, first + 16, first as u64);
    check(&bytes, numbers(1..=4));
    // One entry in all places.
    bytes = whole.clone();
    for nth in 1..4 {
        bytes.copy_within(first + 24..first + 32, first + 24 + nth * 8);
    }
    check(&bytes, numbers([1].into_iter().chain(5..=50)));
}

/// Whatever a file holds, it is read to its end both ways, and gives no more entries than there is room for.
#[test]
fn damaged_files_end() {
    let folder = Folder::new("damaged");
    let mut random = 1u64;
    let mut random = move |limit: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % limit
    };
    for round in 0..2000 {
        let flags = [0, COMPACT, KEYED, COMPACT | KEYED][round % 4];
        let mut bytes = Writer::journal(flags, 1..=[5, 40][random(2)]);
        for _ in 0..[1, 1, 2, 20][random(4)] {
            let at = random(bytes.len() / 8) * 8;
            let value = match random(6) {
                0 => 0,
                1 => u64::MAX,
                2 => 1 << random(64),
                3 => random(bytes.len()) as u64 & !7,
                4 => u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()).wrapping_add(8),
                _ => u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) ^ 1 << random(64),
            };
            bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        if random(4) == 0 {
            bytes.truncate(random(bytes.len()));
        }
        folder.write("one.journal", &bytes);
        let mut reader = folder.open();
        for filter in [
            Filter::All,
            Filter::Any(vec![b"_PID=1".to_vec()]),
            Filter::Every(vec![b"_PID=1".to_vec(), b"SYSLOG_IDENTIFIER=sshd".to_vec()]),
        ] {
            reader.set_filter(filter);
            reader.seek_head();
            let (mut down, mut up, mut largest) = (0, 0, 0);
            while reader.next() {
                down += 1;
                reader.fields(|field| {
                    largest = largest.max(field.len());
                    true
                });
            }
            reader.seek_tail();
            while reader.previous() {
                up += 1;
            }
            let most = bytes.len() / 64;
            assert!(
                down <= most && up <= most && largest <= bytes.len(),
                "round {round}: {down}, {up}, {largest}"
            );
        }
    }
}

/// The fuzzer begins with whole files.
#[test]
fn what_fuzzers_begin_with_are_journals() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/faults/journal-file");
    for (name, flags) in [("whole-compact", COMPACT | KEYED), ("whole-regular", 0)] {
        assert!(fs::read(folder.join(name)).unwrap() == Writer::journal(flags, 1..=6), "{name}");
    }
}
