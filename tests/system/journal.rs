//! Follows real journal files, as systemd-journal-remote writes them: none of their entries is lost or
//! doubled, whatever happens to the files and to the reader.
//!
//! It needs Debian's package `systemd-journal-remote`, and touches no journal of the machine.

use std::convert::Infallible;
use std::fs;
use std::io::Write;
use std::ops::{ControlFlow, RangeInclusive};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::thread::JoinHandle;

use banstream::config::JournalLocation;
use banstream::entry::whole::MessageCounts;
use banstream::input::Batch;
use banstream::input::journald::{Follower, Journal};
use tempfile::TempDir;

use crate::common::{LIMIT, until};

/// A place before every entry: reading goes on with the nearest later one.
const BEGINNING: &str =
    "s=00000000000000000000000000000001;i=1;b=00000000000000000000000000000001;m=1;t=1;x=1";

#[test]
fn without_a_cursor_only_new_entries_come() {
    let directory = Directory::new();
    let mut file = directory.file("one");
    file.write(1..=10);
    let mut follower = directory.follow(None);
    file.write(11..=500);
    assert_eq!(follower.until(490), (11..=500).collect::<Vec<_>>());
}

#[test]
fn the_first_burst_comes_whole_where_nothing_matched_before() {
    let directory = Directory::new();
    let mut file = directory.file("one");
    file.write_as("cron", "cron", 1..=10);
    let mut follower = directory.follow(None);
    file.write(11..=500);
    assert_eq!(follower.until(490), (11..=500).collect::<Vec<_>>());
}

#[test]
fn a_journal_that_was_not_there_is_read_from_its_first_entry() {
    let directory = Directory::new();
    directory.file("one").write(1..=100);
    let (_stop, stopped) = channel();
    let mut read = Vec::new();
    Follower::open_whole(directory.journal()).unwrap().run(
        &stopped,
        |batch| {
            read.extend(numbers(&batch));
            if read.len() < 100 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        },
        drop,
    );
    assert_eq!(read, (1..=100).collect::<Vec<_>>());
}

#[test]
fn with_a_cursor_the_entry_after_it_is_next() {
    let directory = Directory::new();
    let mut file = directory.file("one");
    file.write(1..=300);
    let mut first = directory.follow(Some(BEGINNING));
    assert_eq!(first.until(300), (1..=300).collect::<Vec<_>>());
    let position = first.stop();
    file.write(301..=600);
    let mut second = directory.follow(position.as_deref());
    file.write(601..=700);
    assert_eq!(second.until(400), (301..=700).collect::<Vec<_>>());
    // With nothing new, the entry at the cursor does not come again.
    let position = second.stop();
    let mut third = directory.follow(position.as_deref());
    file.write(701..=701);
    assert_eq!(third.until(1), [701]);
}

/// What another host wrote may come with any time.
#[test]
fn an_entry_that_arrives_after_a_later_one_is_read_after_a_restart() {
    let directory = Directory::new();
    let mut file = directory.file("one");
    file.write(51..=100);
    let position = directory.read_to(50);
    file.write(1..=10);
    file.write(101..=110);
    let mut second = directory.follow(position.as_deref());
    assert_eq!(second.until(20), (1..=10).chain(101..=110).collect::<Vec<_>>());
}

#[test]
fn a_cursor_whose_file_is_gone_leads_to_the_nearest_later_entry() {
    let directory = Directory::new();
    let mut one = directory.file("one");
    one.write(1..=100);
    let position = directory.read_to(100);
    drop(one);
    directory.file("two").write(101..=200);
    directory.delete("one");
    let mut second = directory.follow(position.as_deref());
    assert_eq!(second.until(100), (101..=200).collect::<Vec<_>>());
}

/// Journald writes to `/run/log/journal` at first, and copies that into `/var/log/journal` when it can.
#[test]
fn what_was_copied_is_not_read_again() {
    let directory = Directory::new();
    let mut one = directory.file("one");
    one.write(1..=100);
    let position = directory.read_to(100);
    drop(one);
    let mut two = directory.file("two");
    // So that the copies have other numbers.
    two.write_as("cron", "cron", 1..=7);
    two.write(1..=200);
    directory.delete("one");
    let mut second = directory.follow(position.as_deref());
    assert_eq!(second.until(100), (101..=200).collect::<Vec<_>>());
    // Where both are there, too.
    let position = second.stop();
    let mut three = directory.file("three");
    three.write_as("cron", "cron", 1..=1);
    three.write(1..=201);
    let mut third = directory.follow(position.as_deref());
    assert_eq!(third.until(1), [201]);
}

/// A watch of the folder would go with it.
#[test]
fn a_folder_that_is_made_again_is_read_on() {
    let directory = Directory::new();
    let mut one = directory.file("one");
    one.write(1..=100);
    let mut follower = directory.follow(Some(BEGINNING));
    follower.until(100);
    drop(one);
    fs::remove_dir_all(&directory.0).unwrap();
    fs::create_dir(&directory.0).unwrap();
    let mut two = directory.file("two");
    two.write(101..=150);
    assert_eq!(follower.until(150), (1..=150).collect::<Vec<_>>());
    // Nor is it lost where what is moved there comes with its content.
    let place = directory.0.path();
    let [aside, other] = ["aside", "other"].map(|name| place.with_extension(name));
    fs::create_dir(&other).unwrap();
    let mut three = File::new(other.join("three.journal"));
    three.write(101..=200);
    fs::rename(place, &aside).unwrap();
    fs::rename(&other, place).unwrap();
    assert_eq!(follower.until(200), (1..=200).collect::<Vec<_>>());
    drop(two);
    fs::remove_dir_all(aside).unwrap();
}

#[test]
fn the_place_is_known_before_anything_was_read() {
    let directory = Directory::new();
    let mut file = directory.file("one");
    file.write_as("cron", "cron", 1..=10);
    let first = Follower::open(directory.journal(), None).unwrap();
    let opened = first.position();
    let (_, stopped) = channel();
    let ended = first.run(&stopped, |_| panic!("nothing is there to read"), drop);
    assert!(opened.is_some() && opened == ended);
    // Nobody reads meanwhile; then somebody who wants other programs, too.
    file.write(11..=500);
    let mut second = directory.follow(ended.as_deref());
    assert_eq!(second.until(490), (11..=500).collect::<Vec<_>>());
}

#[test]
fn what_is_no_cursor_leads_to_the_tail() {
    let directory = Directory::new();
    let mut file = directory.file("one");
    file.write(1..=10);
    for nonsense in ["", "nonsense", "s=1;i=x", "with\0NUL"] {
        let mut follower = directory.follow(Some(nonsense));
        file.write(11..=11);
        assert_eq!(follower.until(1), [11], "{nonsense:?}");
    }
}

#[test]
fn files_may_come_and_go_while_they_are_read() {
    let directory = Directory::new();
    let mut old = directory.file("file-0");
    old.write(1..=100);
    let mut follower = directory.follow(Some(BEGINNING));
    let mut want = 100;
    follower.until(100);
    for rotation in 1..8 {
        old.write(want + 1..=want + 50);
        let mut new = directory.file(&format!("file-{rotation}"));
        new.write(want + 51..=want + 150);
        want += 150;
        follower.until(want as usize);
        // Vacuumed at once, or two rotations later.
        match rotation {
            1 | 3 | 5 | 7 => directory.delete(&format!("file-{}", rotation - 1)),
            4 | 6 => directory.delete(&format!("file-{}", rotation - 3)),
            _ => {}
        }
        old = new;
    }
    old.write(want + 1..=want + 100);
    assert_eq!(follower.until(want as usize + 100), (1..=want + 100).collect::<Vec<_>>());
}

#[test]
fn of_a_hundred_thousand_none_is_lost_or_doubled_by_stops_and_starts() {
    let directory = Directory::new();
    let mut position = Some(BEGINNING.to_owned());
    let mut got = Vec::new();
    let mut file = directory.file("one");
    file.write(1..=50_000);
    let writer = std::thread::spawn(move || file.write(50_001..=100_000));
    while got.len() < 100_000 {
        let mut follower = directory.follow(position.as_deref());
        follower.until(17_000.min(100_000 - got.len()));
        position = follower.stop();
        got.append(&mut follower.numbers);
    }
    writer.join().unwrap();
    assert!(got.iter().copied().eq(1..=100_000));
}

#[test]
fn a_sink_that_breaks_off_ends_it() {
    let directory = Directory::new();
    directory.file("one").write(1..=5000);
    let mut follower = Follower::open(directory.journal(), Some(BEGINNING.to_owned())).unwrap();
    let (_stop, stopped) = channel();
    let mut batches = Vec::new();
    follower.run(
        &stopped,
        |batch| {
            batches.push(batch);
            ControlFlow::Break(())
        },
        drop,
    );
    assert_eq!(batches.len(), 1);
    assert_eq!(batches[0].records.len(), 1024);
    follower = Follower::open(directory.journal(), batches[0].position.clone()).unwrap();
    follower.run(
        &stopped,
        |batch| {
            assert_eq!(numbers(&batch)[0], 1025);
            ControlFlow::Break(())
        },
        drop,
    );
}

#[test]
fn it_ends_when_it_is_told_to() {
    let directory = Directory::new();
    let mut file = directory.file("one");
    file.write(1..=1);
    let mut follower = directory.follow(None);
    follower.stop();
}

#[test]
fn only_the_programs_asked_for_come() {
    let directory = Directory::new();
    let mut file = directory.file("one");
    file.write_as("cron", "cron", 1..=1);
    file.write_as("sshd", "other", 2..=2);
    file.write_as("other", "sshd", 3..=3);
    file.write_as("sshd-session", "sshd", 4..=4);
    file.write_as("sshd-", "sshd-", 5..=5);
    file.write_as("x", "a-name-too-long", 6..=6);
    file.write_as("y", "a-name-too-lon", 7..=7);
    let mut follower = directory.follow(Some(BEGINNING));
    assert_eq!(follower.until(4), [2, 3, 4, 6]);
}

#[test]
fn bytes_come_as_they_were_written() {
    let directory = Directory::new();
    let mut file = directory.file("one");
    let large = "compressible ".repeat(80_000);
    let messages: [&[u8]; 6] =
        [b"", b"line\nfeed\n", b"\xff\xfe\0\x1b[0m", b"MESSAGE=x", large.as_bytes(), &[b'x'; (1 << 20) + 1]];
    for message in messages {
        file.entry(&[
            ("SYSLOG_IDENTIFIER", b"sshd"),
            ("_PID", b"22"),
            ("UNWANTED", b"x"),
            ("MESSAGE", message),
        ]);
    }
    let follower = directory.follow(Some(BEGINNING));
    let mut records = Vec::new();
    let mut overlong = 0;
    while records.len() < messages.len() {
        let batch = follower.batches.recv_timeout(LIMIT).unwrap();
        records.extend(batch.records.iter().map(fields));
        overlong += batch.overlong;
    }
    for (record, message) in records.iter().zip(&messages[..5]) {
        let want = [b"MESSAGE=", *message].concat();
        assert!(record.contains(&want), "{:.80?}", String::from_utf8_lossy(&want));
    }
    let mut last = records[5].clone();
    last.sort();
    assert_eq!(last, [&b"SYSLOG_IDENTIFIER=sshd"[..], b"_PID=22"]);
    assert_eq!(overlong, 1);
}

#[test]
fn of_a_field_that_is_repeated_the_first_counts_and_an_entry_is_bounded() {
    let directory = Directory::new();
    let mut file = directory.file("one");
    let large = "x".repeat(1 << 20);
    let name = ("SYSLOG_IDENTIFIER", &b"sshd"[..]);
    let mut many = vec![name];
    many.extend((0..40).map(|_| ("MESSAGE", large.as_bytes())));
    let texts: Vec<Vec<u8>> = (0..40u8).map(|nth| vec![nth; (1 << 20) - 100]).collect();
    many[1..].iter_mut().zip(&texts).for_each(|(field, text)| field.1 = text);
    file.entry(&[name, ("MESSAGE", b"number 1"), ("MESSAGE", b"number 2")]);
    file.entry(&many);
    file.entry(&[name, ("MESSAGE", b"number 3")]);
    let follower = directory.follow(Some(BEGINNING));
    let (mut records, mut overlong) = (Vec::new(), 0);
    while records.len() < 2 {
        let batch = follower.batches.recv_timeout(LIMIT).unwrap();
        records.extend(batch.records.iter().map(fields));
        overlong += batch.overlong;
    }
    assert_eq!((records.len(), overlong), (2, 1));
    assert_eq!(records[0].iter().filter(|field| field.starts_with(b"MESSAGE=")).count(), 1);
    assert!(records[1].contains(&b"MESSAGE=number 3".to_vec()), "what is behind it is read");
}

/// Reads what `directory` holds, as a daemon does that dies each time it reads the entry of this number: what it
/// remembers then is what it noted before. The numbers that it has read in the end, and how many entries it skipped.
fn read_by_one_that_dies_of(directory: &Directory, deadly: u32, last: u32) -> (Vec<u32>, u64, u32) {
    let (mut position, mut starts) = (BEGINNING.to_owned(), 0);
    let (mut read, mut skipped, mut deaths) = (Vec::new(), 0, 0);
    while read.last() != Some(&last) {
        let (_stop, stopped) = channel();
        let follower = Follower::open(directory.journal(), Some(position.clone())).unwrap();
        follower.after_starts(starts + 1).run(
            &stopped,
            |batch| {
                let numbers = numbers(&batch);
                if numbers.contains(&deadly) {
                    deaths += 1;
                    return ControlFlow::Break(());
                }
                position = batch.position.clone().unwrap();
                starts = batch.starts.unwrap_or(0);
                skipped += batch.deadly;
                read.extend(numbers);
                if read.last() == Some(&last) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            },
            drop,
        );
        assert!(deaths < 9, "it never comes past the entry");
    }
    (read, skipped, deaths)
}

#[test]
fn an_entry_that_the_daemon_dies_of_again_and_again_is_skipped() {
    let directory = Directory::new();
    directory.file("one").write(1..=300);
    let all_but = |deadly| (1..=300).filter(|number| *number != deadly).collect::<Vec<_>>();
    assert_eq!(read_by_one_that_dies_of(&directory, 1, 300), (all_but(1), 1, 4));
    // Once among others, and alone ever after.
    assert_eq!(read_by_one_that_dies_of(&directory, 200, 300), (all_but(200), 1, 5));
    assert_eq!(read_by_one_that_dies_of(&directory, 0, 300), (all_but(0), 0, 0));
}

#[test]
fn starts_are_noted_only_where_there_is_something_to_read() {
    let directory = Directory::new();
    let mut file = directory.file("one");
    file.write(1..=1);
    let follower = Follower::open(directory.journal(), None).unwrap();
    let position = follower.position();
    let (_stop, stopped) = channel();
    let mut noted = Vec::new();
    follower.after_starts(2).run(
        &stopped,
        |batch| {
            noted.push((batch.records.len(), batch.starts, batch.position == position));
            if noted.len() == 1 {
                file.write(2..=2);
                return ControlFlow::Continue(());
            }
            ControlFlow::Break(())
        },
        drop,
    );
    // At the end nothing is left of which it could have died.
    assert_eq!(noted, [(0, Some(0), true), (0, Some(2), true)]);
}

/// The messages of all programs' entries that are read, and what was counted on the way.
fn messages(directory: &Directory, from: &str, want: usize) -> (Vec<String>, MessageCounts) {
    let follower = directory.follow(Some(from));
    let (mut read, mut counts) = (Vec::new(), MessageCounts::default());
    while read.len() < want {
        let batch = follower.batches.recv_timeout(LIMIT).unwrap();
        counts.add(&batch.records.messages);
        let message = |record: &[u8]| {
            let fields = fields(record);
            let text = fields.iter().find_map(|field| field.strip_prefix(b"MESSAGE=")).unwrap();
            String::from_utf8(text.to_vec()).unwrap()
        };
        read.extend(batch.records.iter().map(message));
    }
    (read, counts)
}

#[test]
fn pieces_are_joined_though_no_match_asks_for_them() {
    let directory = Directory::new();
    let mut file = directory.file("one");
    // Without a name of its own the stream is known by its processes, of which only one is asked for.
    let piece = |comm: &'static [u8], pid: &'static [u8], text: &'static [u8], ends: bool| {
        let mut fields = vec![("_STREAM_ID", &b"a"[..]), ("_COMM", comm), ("_PID", pid), ("MESSAGE", text)];
        fields.extend(Some(("_LINE_BREAK", &b"pid-change"[..])).filter(|_| !ends));
        fields
    };
    file.entry(&piece(b"sshd", b"1", b"one", true));
    for pid in [b"2", b"5"] {
        file.entry(&piece(b"sh", pid, b"tw", false));
        // A part of `sh`'s line.
        file.entry(&piece(b"sshd", b"1", b"o", true));
    }
    file.entry(&piece(b"sshd", b"1", b"three", false));
    // It ends without a mark, and nobody asks for it.
    file.entry(&piece(b"sh", b"3", b"!", true));
    file.entry(&piece(b"sshd", b"4", b"four", true));
    let (read, counts) = messages(&directory, BEGINNING, 4);
    assert_eq!(read, ["one", "two", "two", "four"]);
    assert_eq!((counts.joined, counts.unjudged), (2, 0));
}

#[test]
fn a_line_is_joined_by_one_who_begins_to_read_in_the_middle_of_it() {
    let directory = Directory::new();
    let mut file = directory.file("one");
    let container = |text: &'static [u8], more: bool| {
        let mut fields = vec![
            ("SYSLOG_IDENTIFIER", &b"sshd"[..]),
            ("CONTAINER_ID_FULL", &b"c"[..]),
            ("PRIORITY", &b"6"[..]),
            ("MESSAGE", text),
        ];
        fields.extend(Some(("CONTAINER_PARTIAL_MESSAGE", &b"true"[..])).filter(|_| more));
        fields
    };
    file.entry(&container(b"o", true));
    let follower = Follower::open(directory.journal(), None).unwrap();
    let middle = follower.position().unwrap();
    file.entry(&container(b"n", true));
    file.entry(&container(b"e", false));
    file.entry(&container(b"two", false));
    assert_eq!(messages(&directory, &middle, 2).0, ["one", "two"]);
    // Where the engine says that the beginning is gone, nobody judges it.
    let mut numbered = container(b"forged", false);
    numbered.extend([("CONTAINER_PARTIAL_ID", &b"x"[..]), ("CONTAINER_PARTIAL_ORDINAL", &b"2"[..])]);
    file.entry(&numbered);
    file.entry(&container(b"three", false));
    let (read, counts) = messages(&directory, &middle, 3);
    assert_eq!((read.last().map(String::as_str), counts.unjudged), (Some("three"), 1));
}

#[test]
fn pieces_are_joined_though_the_first_ones_name_another_program() {
    let directory = Directory::new();
    let mut file = directory.file("one");
    let mut line = |program: &'static [u8], text: &'static [u8], more: bool| {
        let mut fields = vec![("SYSLOG_IDENTIFIER", program), ("CONTAINER_ID_FULL", b"c"), ("MESSAGE", text)];
        fields.extend(Some(("CONTAINER_PARTIAL_MESSAGE", &b"true"[..])).filter(|_| more));
        file.entry(&fields);
    };
    // After this no line of the stream is open, so it is not looked back until a piece comes.
    line(b"sshd", b"zero", false);
    line(b"cron", b"o", true);
    line(b"cron", b"n", true);
    line(b"sshd", b"e", false);
    line(b"sshd", b"two", false);
    let (read, counts) = messages(&directory, BEGINNING, 3);
    assert_eq!(read, ["zero", "one", "two"]);
    assert_eq!((counts.joined, counts.unjudged), (1, 0));
}

#[test]
fn without_a_journal_it_says_so() {
    let directory = Directory::new();
    let refused = || Follower::open(directory.journal(), None).map(drop).unwrap_err().to_string();
    let place = directory.0.path().display();
    let want = "is journald running, and is this user in the group `systemd-journal`? \
                (`systemd-tmpfiles --create --prefix /var/log/journal` gives that group its rights)";
    assert_eq!(refused(), format!("no readable journal in `{place}`; {want}"));
    fs::remove_dir(&directory.0).unwrap();
    let want = "No such file or directory (os error 2)";
    assert_eq!(refused(), format!("cannot read the journal in `{place}`: {want}"));
}

#[test]
fn a_replay_bans_for_the_entries_of_its_time_that_are_believed() {
    let directory = Directory::new();
    let begins = 1_700_000_000;
    let mut file = directory.file("one");
    // Who comes at which second, and as which user the sender runs: the second is forged.
    for (address, second, uid) in [("192.0.2.1", 0, "0"), ("192.0.2.2", 100, "1000"), ("192.0.2.3", 200, "0")]
    {
        for nth in 0..5 {
            let (message, pid) =
                (format!("Invalid user x from {address} port 22"), (second + nth).to_string());
            let fields: [(&str, &[u8]); 5] = [
                ("SYSLOG_IDENTIFIER", b"sshd"),
                ("_COMM", if uid == "0" { b"sshd" } else { b"logger" }),
                ("_UID", uid.as_bytes()),
                ("_PID", pid.as_bytes()),
                ("MESSAGE", message.as_bytes()),
            ];
            file.entry_at((begins + second + nth) * 1_000_000, &fields);
        }
    }
    file.flush();
    let JournalLocation::Directory(folder) = directory.journal().location else { panic!("a directory") };
    let check = |options: &[&str], want: &[&str]| {
        let mut replay = Command::new(env!("CARGO_BIN_EXE_banstream"));
        replay.args(["replay", "--journal", "--directory"]).arg(&folder).args(options).env("TZ", "UTC");
        let output = replay.output().unwrap();
        let shown = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<&str> = shown.lines().filter(|line| !line.starts_with("sshd: ")).collect();
        assert_eq!((lines, String::from_utf8(output.stderr).unwrap()), (want.to_vec(), String::new()));
    };
    let first = "2023-11-14 22:13:24 ban 192.0.2.1 for 1h (sshd, time 1)";
    let third = "2023-11-14 22:16:44 ban 192.0.2.3 for 1h (sshd, time 1)";
    check(&[], &[first, third, "15 lines, 2 bans of 2 offenders"]);
    check(&["--until", "2023-11-14T22:13:24Z"], &[first, "5 lines, 1 ban of 1 offender"]);
    check(&["--since", "2023-11-14 22:16:40", "--until", "1d"], &[third, "5 lines, 1 ban of 1 offender"]);
    check(&["--since", "2023-11-14T22:13:21Z"], &[third, "14 lines, 1 ban of 1 offender"]);
    check(&["--since", "1h"], &["0 lines, 0 bans of 0 offenders"]);
}

#[test]
fn a_replay_finds_what_any_grammar_reads_and_counts_the_rest_by_program() {
    let directory = Directory::new();
    let mut file = directory.file("one");
    let mut second = 1_700_000_000;
    let mut entry = |fields: &[(&str, &str)]| {
        let fields: Vec<(&str, &[u8])> =
            fields.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        second += 1;
        file.entry_at(second * 1_000_000, &fields);
    };
    let pam = |address: &str| {
        format!(
            "pam_unix(login:auth): authentication failure; logname= uid=0 euid=0 tty=/dev/tty1 ruser= rhost={address}"
        )
    };
    let invalid = |address: &str| format!("Invalid user x from {address} port 22");
    for nth in 0..5 {
        let pid = nth.to_string();
        let sent = |by: [(&str, &str); 2], message: &str| {
            [by[0], by[1], ("_UID", "0"), ("_PID", &pid), ("MESSAGE", message)]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
        };
        for fields in [
            sent([("SYSLOG_IDENTIFIER", "app"), ("_COMM", "app")], "request handled"),
            sent([("SYSLOG_IDENTIFIER", "app"), ("_COMM", "app")], &pam("192.0.2.1")),
            sent([("SYSLOG_IDENTIFIER", "app"), ("_COMM", "sshd")], &invalid("192.0.2.9")),
            sent([("SYSLOG_IDENTIFIER", "/usr/sbin/sshd"), ("_COMM", "sshd")], &invalid("192.0.2.2")),
            sent([("_COMM", "sshd"), ("PRIORITY", "6")], &invalid("192.0.2.3")),
            sent([("_COMM", "worker"), ("PRIORITY", "6")], "done"),
            sent([("SYSLOG_FACILITY", "10"), ("PRIORITY", "6")], &invalid("192.0.2.4")),
            sent([("SYSLOG_IDENTIFIER", ""), ("_COMM", "sshd")], "nameless"),
            sent([("SYSLOG_IDENTIFIER", "banstream"), ("_COMM", "banstream")], "ban 192.0.2.5"),
        ] {
            entry(&fields.each_ref().map(|(name, value)| (&**name, &**value)));
        }
    }
    file.flush();
    let mut replay = Command::new(env!("CARGO_BIN_EXE_banstream"));
    replay.args(["replay", "--journal", "--directory"]).arg(directory.0.path()).env("TZ", "UTC");
    let shown = String::from_utf8(replay.output().unwrap().stdout).unwrap();
    let want = "2023-11-14 22:13:58 ban 192.0.2.1 for 1h (login, time 1)
2023-11-14 22:14:00 ban 192.0.2.2 for 1h (sshd, time 1)
2023-11-14 22:14:01 ban 192.0.2.3 for 1h (sshd, time 1)
45 lines, 3 bans of 3 offenders
pam: 5 auth-failure
sshd: 10 auth-failure
10 lines without a program's name: they look like those of sshd, so add `--program sshd`
10 lines of app: no grammar reads them
5 lines of banstream: no grammar reads them
5 lines of worker: no grammar reads them
";
    assert_eq!(shown, want);
}

#[test]
fn a_replay_names_a_file_that_it_cannot_read_and_reads_the_others() {
    let directory = Directory::new();
    directory.file("one").write(1..=10);
    let refused = directory.0.path().join("two.journal");
    let mut bytes = fs::read(directory.0.path().join("one.journal")).unwrap();
    // A flag that nobody knows yet (offset 12).
    bytes[12] |= 1 << 6;
    fs::write(&refused, bytes).unwrap();
    let mut replay = Command::new(env!("CARGO_BIN_EXE_banstream"));
    let output =
        replay.args(["replay", "--journal", "--directory"]).arg(directory.0.path()).output().unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().contains("10 lines"));
    let want = format!(
        "error: cannot read the journal in `{}`: `{}`: it has the incompatible flags 0x40; known are XZ, LZ4, \
         KEYED_HASH, ZSTD, COMPACT\n",
        directory.0.path().display(),
        refused.display(),
    );
    assert_eq!((String::from_utf8(output.stderr).unwrap(), output.status.code()), (want, Some(2)));
}

/// The fields of a record, each `NAME=value`.
fn fields(record: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = &record[8..];
    let mut fields = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk() {
        let (field, after) = after.split_at(u32::from_le_bytes(*length) as usize);
        fields.push(field.to_vec());
        rest = after;
    }
    fields
}

/// The numbers in the messages, and each record's time checked against its own.
fn numbers(batch: &Batch) -> Vec<u32> {
    let number = |record: &[u8]| {
        let fields = fields(record);
        let message = fields.iter().find_map(|field| field.strip_prefix(b"MESSAGE=number ")).unwrap();
        let number = str::from_utf8(message).unwrap().parse().unwrap();
        assert_eq!(record[..8], i64::try_from(time(number)).unwrap().to_le_bytes());
        number
    };
    batch.records.iter().map(number).collect()
}

/// When entry `number` was written, in microseconds.
fn time(number: u32) -> u64 {
    1_700_000_000_000_000 + u64::from(number) * 1000
}

/// A directory for journal files, which goes when the test is over.
struct Directory(TempDir);

impl Directory {
    fn new() -> Self {
        Self(TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap())
    }

    /// A new journal file, and the process that writes it.
    fn file(&self, name: &str) -> File {
        File::new(self.0.path().join(name).with_extension("journal"))
    }

    fn delete(&self, name: &str) {
        fs::remove_file(self.0.path().join(name).with_extension("journal")).unwrap();
    }

    fn journal(&self) -> Journal {
        let programs = ["sshd", "sshd-session", "a-name-too-long-for-the-kernel"];
        Journal {
            source: "journald".into(),
            location: JournalLocation::Directory(self.0.path().to_owned()),
            programs: programs.map(str::to_owned).to_vec(),
            heartbeats: false,
        }
    }

    /// Reads the first entries, so many, and stops; the place after them.
    fn read_to(&self, count: usize) -> Option<String> {
        let mut follower = self.follow(Some(BEGINNING));
        follower.until(count);
        follower.stop()
    }

    /// Follows the files, from a thread of its own; returns when the place is found.
    fn follow(&self, from: Option<&str>) -> Following {
        let (journal, from) = (self.journal(), from.map(str::to_owned));
        let (opened, ready) = channel();
        let (sender, batches) = sync_channel(1000);
        let (stop, stopped) = channel();
        let thread = std::thread::spawn(move || {
            let follower = Follower::open(journal, from).unwrap();
            opened.send(()).unwrap();
            follower.run(
                &stopped,
                |batch| sender.send(batch).map_or(ControlFlow::Break(()), ControlFlow::Continue),
                drop,
            );
        });
        ready.recv_timeout(LIMIT).unwrap();
        Following { batches, stop: Some(stop), thread: Some(thread), numbers: Vec::new(), position: None }
    }
}

/// A follower at work.
struct Following {
    batches: Receiver<Batch>,
    stop: Option<Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
    numbers: Vec<u32>,
    position: Option<String>,
}

impl Following {
    /// All numbers that have come, once there are this many.
    fn until(&mut self, count: usize) -> Vec<u32> {
        while self.numbers.len() < count {
            let batch = self.batches.recv_timeout(LIMIT).unwrap_or_else(|_| {
                panic!("got {} of {count}, the last {:?}", self.numbers.len(), self.numbers.last())
            });
            self.add(batch);
        }
        self.numbers.clone()
    }

    /// Stops it, and takes in what was on its way; the position after all of it.
    fn stop(&mut self) -> Option<String> {
        drop(self.stop.take());
        let thread = self.thread.take().unwrap();
        until("the follower ends", || thread.is_finished());
        thread.join().unwrap();
        while let Ok(batch) = self.batches.try_recv() {
            self.add(batch);
        }
        self.position.clone()
    }

    fn add(&mut self, batch: Batch) {
        assert!(!batch.records.is_empty() && batch.records.len() <= 1024);
        self.numbers.extend(numbers(&batch));
        self.position = Some(batch.position.expect("a cursor"));
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        drop(self.stop.take());
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// A journal file that is being written.
pub(crate) struct File {
    path: PathBuf,
    writer: Child,
    input: Option<ChildStdin>,
    entries: u64,
}

impl File {
    pub(crate) fn new(path: PathBuf) -> Self {
        let mut writer = Command::new("/lib/systemd/systemd-journal-remote")
            .arg("--output")
            .arg(&path)
            .arg("-")
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("systemd-journal-remote cannot be started; it is in Debian's package of that name");
        Self { path, input: writer.stdin.take(), writer, entries: 0 }
    }

    /// Writes an entry of sshd for each number.
    fn write(&mut self, numbers: RangeInclusive<u32>) {
        self.write_as("sshd", "sshd", numbers);
    }

    fn write_as(&mut self, identifier: &str, comm: &str, numbers: RangeInclusive<u32>) {
        for number in numbers {
            let message = format!("number {number}");
            let fields: [(&str, &[u8]); 3] = [
                ("SYSLOG_IDENTIFIER", identifier.as_bytes()),
                ("_COMM", comm.as_bytes()),
                ("MESSAGE", message.as_bytes()),
            ];
            self.entry_at(time(number), &fields);
        }
        self.flush();
    }

    fn entry(&mut self, fields: &[(&str, &[u8])]) {
        self.entry_at(time(1), fields);
        self.flush();
    }

    /// In the journal export format (systemd.io/JOURNAL_EXPORT_FORMATS).
    pub(crate) fn entry_at(&mut self, time: u64, fields: &[(&str, &[u8])]) {
        let mut entry =
            format!("__REALTIME_TIMESTAMP={time}\n__MONOTONIC_TIMESTAMP={}\n", time % 1_000_000_000_000);
        entry.push_str("_BOOT_ID=0123456789abcdef0123456789abcdef\n");
        let mut entry = entry.into_bytes();
        for (name, value) in fields {
            match value.len() as u64 {
                // systemd-journal-remote takes no empty field in the form that carries any byte.
                0 => entry.extend([name.as_bytes(), b"=\n"].concat()),
                length => {
                    entry.extend([name.as_bytes(), b"\n", &length.to_le_bytes(), value, b"\n"].concat());
                }
            }
        }
        entry.push(b'\n');
        self.input.as_mut().unwrap().write_all(&entry).unwrap();
        self.entries += 1;
    }

    /// Waits until the file holds what has been written: its header counts its entries (offset 152,
    /// systemd.io/JOURNAL_FILE_FORMAT).
    pub(crate) fn flush(&self) {
        let count = || {
            let mut count = [0; 8];
            fs::File::open(&self.path).ok()?.read_exact_at(&mut count, 152).ok()?;
            Some(u64::from_le_bytes(count))
        };
        until("the journal is written", || match count() {
            Some(count) if count == self.entries => Ok(()),
            count => Err(format!("{count:?} of {}", self.entries)),
        });
    }
}

impl Drop for File {
    fn drop(&mut self) {
        drop(self.input.take());
        drop(self.writer.wait());
    }
}
