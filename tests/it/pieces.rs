//! Lines that a transport has split, in every way there is: no piece is read as a message, whatever stands at the cut.

use banstream::entry::whole::{EarlierPieces, JoinResult, JournalPiece, LONGEST, UnreadableJournal, join};
use banstream::entry::{Decoder, Format, journal};
use banstream::grammar::{Grammar, Lists, SHIPPED};
use banstream::model::Timestamp;
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use std::borrow::Cow;

/// Fields of an entry.
type Fields<'f> = &'f [(&'f str, &'f str)];

fn part(text: &[u8], fields: Fields<'_>, cursor: usize) -> JournalPiece {
    let mut part = JournalPiece::default();
    journal::begin(&mut part.record, Timestamp::from_secs(cursor as i64));
    fields.iter().for_each(|(name, value)| _ = part.take(format!("{name}={value}").as_bytes()));
    part.take(&[b"MESSAGE=", text].concat());
    part.cursor = cursor.to_string();
    part
}

/// A journal, and an entry of it from which somebody looks back.
struct Story<'s> {
    entries: &'s [JournalPiece],
    at: usize,
}

impl Story<'_> {
    fn last(&self, before: usize, is_it: impl Fn(&JournalPiece) -> bool) -> Option<JournalPiece> {
        self.entries[..before].iter().rev().find(|entry| is_it(entry)).cloned()
    }
}

fn is_same_stream(one: &JournalPiece, other: &JournalPiece) -> bool {
    one.stream().eq(other.stream())
}

impl EarlierPieces for Story<'_> {
    fn before(&mut self) -> Result<Option<JournalPiece>, UnreadableJournal> {
        let me = &self.entries[self.entries.len() - 1];
        let found = self.last(self.at, |entry| is_same_stream(entry, me));
        self.at = found.as_ref().map_or(0, |found| found.cursor.parse().unwrap());
        Ok(found)
    }

    fn own(&mut self, head: &JournalPiece, pid: &[u8]) -> Result<Option<JournalPiece>, UnreadableJournal> {
        let before = head.cursor.parse().unwrap();
        Ok(self.last(before, |entry| is_same_stream(entry, head) && entry.writer() == pid))
    }
}

/// What becomes of the entries: the message of each record and whether it is cut, and how many entries nobody judges.
fn read(entries: &[(&[u8], Fields<'_>)]) -> (Vec<(Vec<u8>, bool)>, usize) {
    let parts: Vec<JournalPiece> =
        (0..).zip(entries).map(|(nth, (text, fields))| part(text, fields, nth)).collect();
    let (mut messages, mut unjudged) = (Vec::new(), 0);
    for nth in 0..parts.len() {
        let mut record = match join(&parts[nth], &mut Story { entries: &parts[..=nth], at: nth }) {
            _ if !parts[nth].streams() => parts[nth].record.clone(),
            JoinResult::Whole => {
                let mut record = parts[nth].record.clone();
                if parts[nth].is_unfinished() {
                    journal::cut(&mut record);
                }
                record
            }
            JoinResult::Joined(record) => record,
            JoinResult::More => continue,
            JoinResult::Unjudged => {
                unjudged += 1;
                continue;
            }
        };
        let mut decoder = Decoder::new(jiff::tz::TimeZone::UTC);
        let entry = decoder.decode(Format::Journal, &mut record, Timestamp::default()).unwrap();
        assert_eq!(entry.time, Timestamp::from_secs(nth as i64), "when the last piece came");
        messages.push((entry.message.to_vec(), entry.cut));
    }
    (messages, unjudged)
}

#[track_caller]
fn check(entries: &[(&str, Fields<'_>)], want: &[&str], unjudged: usize) {
    let entries: Vec<(&[u8], Fields<'_>)> = entries.iter().map(|(text, f)| (text.as_bytes(), *f)).collect();
    let (messages, got) = read(&entries);
    let messages: Vec<String> = messages
        .into_iter()
        .map(|(text, cut)| String::from_utf8(text).unwrap() + if cut { "..." } else { "" })
        .collect();
    assert_eq!((messages.iter().map(String::as_str).collect::<Vec<_>>(), got), (want.to_vec(), unjudged));
}

const A: Fields<'_> = &[("_STREAM_ID", "a"), ("_PID", "1")];
const A_MAX: Fields<'_> = &[("_STREAM_ID", "a"), ("_PID", "1"), ("_LINE_BREAK", "line-max")];
const A_NUL: Fields<'_> = &[("_STREAM_ID", "a"), ("_PID", "1"), ("_LINE_BREAK", "nul")];
const A_PID: Fields<'_> = &[("_STREAM_ID", "a"), ("_PID", "1"), ("_LINE_BREAK", "pid-change")];
const A_EOF: Fields<'_> = &[("_STREAM_ID", "a"), ("_PID", "1"), ("_LINE_BREAK", "eof")];
const A2: Fields<'_> = &[("_STREAM_ID", "a"), ("_PID", "2")];
const B: Fields<'_> = &[("_STREAM_ID", "b"), ("_PID", "1")];
const B_MAX: Fields<'_> = &[("_STREAM_ID", "b"), ("_PID", "1"), ("_LINE_BREAK", "line-max")];

#[test]
fn the_pieces_of_a_units_line_are_one_message() {
    check(&[("one", A), ("two", A)], &["one", "two"], 0);
    check(&[("o", A_MAX), ("n", A_MAX), ("e", A), ("two", A)], &["one", "two"], 0);
    check(&[("o", A_NUL), ("ne", A)], &["o\0ne"], 0);
    check(&[("o", A_MAX), ("ne", A_EOF), ("two", B)], &["one...", "two"], 0);
    check(&[("one", A_EOF)], &["one..."], 0);
    // Whatever is between them.
    check(&[("o", A_MAX), ("t", B_MAX), ("x", &[]), ("ne", A), ("wo", B)], &["x", "one", "two"], 0);
}

#[test]
fn a_line_that_another_process_ends_is_one_message() {
    check(&[("o", A_PID), ("ne", A2), ("two", A2)], &["one", "two"], 0);
    // What the first writes next may be the rest of its own line.
    check(&[("o", A_PID), ("ne", A2), ("forged", A), ("two", A)], &["one", "two"], 1);
    let user = |uid| [("_STREAM_ID", "a"), ("_PID", "1"), ("_UID", uid), ("_LINE_BREAK", "pid-change")];
    check(&[("o", &user("0")), ("ne", &user("33")[..3]), ("two", &user("33")[..3])], &["two"], 1);
}

#[test]
fn journald_leaves_out_white_space_at_a_cut() {
    check(&[("from 1", A_MAX), ("92.0.2.1 port", A)], &[], 1);
    check(&[("from fe80:", A_MAX), (":1 port", A)], &[], 1);
    check(&[("abc", A_MAX), ("def", A)], &["abcdef"], 0);
    // Not where the piece is as long as pieces are.
    let full = "1".repeat(48 << 10);
    check(&[(&full, A_MAX), ("92.0.2.1 port", A)], &[&format!("{full}92.0.2.1 port")], 0);
}

const C: Fields<'_> = &[("CONTAINER_ID_FULL", "c"), ("PRIORITY", "6"), ("_UID", "0")];
const C_ERR: Fields<'_> = &[("CONTAINER_ID_FULL", "c"), ("PRIORITY", "3"), ("_UID", "0")];
const C_MORE: Fields<'_> =
    &[("CONTAINER_ID_FULL", "c"), ("PRIORITY", "6"), ("_UID", "0"), ("CONTAINER_PARTIAL_MESSAGE", "true")];

/// The fields of a piece that the engine numbers.
fn numbered<'f>(number: &'f str, ordinal: &'f str, last: &'f str) -> Vec<(&'f str, &'f str)> {
    let mut fields = C.to_vec();
    fields.extend([
        ("CONTAINER_PARTIAL_ID", number),
        ("CONTAINER_PARTIAL_ORDINAL", ordinal),
        ("CONTAINER_PARTIAL_LAST", last),
    ]);
    if last == "false" {
        fields.push(("CONTAINER_PARTIAL_MESSAGE", "true"));
    }
    fields
}

#[test]
fn the_pieces_of_a_containers_line_are_one_message() {
    check(&[("o", C_MORE), ("n", C_MORE), ("e", C), ("two", C)], &["one", "two"], 0);
    check(&[("o", C_MORE), ("error", C_ERR), ("ne", C)], &["error", "one"], 0);
    // Anybody can name a container.
    let eve = [("CONTAINER_ID_FULL", "c"), ("PRIORITY", "6"), ("_UID", "1000")];
    let eve_more = [&eve[..], &[("CONTAINER_PARTIAL_MESSAGE", "true")]].concat();
    check(&[("o", C_MORE), ("x", &eve_more), ("y", &eve), ("ne", C)], &["xy", "one"], 0);
    check(&[("x", &eve_more), ("one", C)], &["one"], 0);
    let short = [("CONTAINER_ID", "c"), ("PRIORITY", "6"), ("CONTAINER_PARTIAL_MESSAGE", "true")];
    check(&[("o", &short), ("ne", &short[..2])], &["one"], 0);
}

#[test]
fn numbered_pieces_are_joined_if_all_are_there() {
    let n = numbered;
    check(&[("o", &n("x", "1", "false")), ("ne", &n("x", "2", "true")), ("two", C)], &["one", "two"], 0);
    let three = [("o", n("x", "1", "false")), ("n", n("x", "2", "false")), ("e", n("x", "3", "true"))];
    let three = three.each_ref().map(|(text, fields)| (*text, &fields[..]));
    check(&three, &["one"], 0);
    check(&three[1..], &[], 1);
    check(&[three[0], three[2]], &[], 1);
    // A new message begins, though the last of the one before never came.
    check(&[three[0], ("t", &n("y", "1", "false")), ("wo", &n("y", "2", "true"))], &["two"], 0);
    check(&[three[0], ("two", &n("y", "1", "true"))], &["two"], 0);
    check(&[three[0], ("wo", &n("y", "2", "true"))], &[], 1);
    check(&[three[0], ("what?", C), ("two", C)], &["two"], 1);
}

#[test]
fn an_old_docker_marks_the_last_piece_too() {
    let full = "x".repeat(16 << 10);
    let cut = format!("{full}end...");
    check(&[(&full, C_MORE), ("end", C_MORE), ("what?", C), ("two", C)], &[&cut, "two"], 1);
    // All pieces of the second line may belong to the first.
    check(
        &[(&full, C_MORE), ("end", C_MORE), (&full, C_MORE), ("end", C_MORE), ("?", C), ("two", C)],
        &[&cut, "two"],
        1,
    );
    check(&[(&full, C_MORE), ("end", C)], &[&format!("{full}end")], 0);
}

#[test]
fn what_is_too_long_is_swallowed_up_to_its_end() {
    let piece = "x".repeat(48 << 10);
    let mut entries = vec![(piece.as_str(), A_MAX); LONGEST / piece.len() + 1];
    entries.extend([("forged", A), ("two", A)]);
    check(&entries, &["two"], 1);
}

/// A shipped grammar and the messages that it is tested with.
fn shipped() -> Vec<(Grammar, Vec<&'static str>)> {
    let load = |(name, text): &(&str, &'static str)| {
        let tests = text.lines().skip_while(|line| *line != "test:").skip(1);
        let message = |line: &'static str| Some(line.trim_start().split_once(' ')?.1.trim_start());
        (Grammar::load(name, name, text, &Lists::shipped()).unwrap().0, tests.filter_map(message).collect())
    };
    SHIPPED.iter().map(load).collect()
}

/// What the grammar reads as the address.
fn address<'m>(grammar: &Grammar, message: &'m [u8]) -> Option<Cow<'m, [u8]>> {
    let held = grammar.read(message)?.field_texts(message);
    held.into_iter().find(|held| held.kind == "ip").map(|held| held.text)
}

/// The transports that split lines, and how each marks a piece and the last one.
const TRANSPORTS: usize = 7;

/// A line that one of the transports splits at this byte, and the messages that come of the pieces.
fn split(line: &str, at: usize, transport: usize) -> Read {
    let (mut first, second) = (line.as_bytes()[..at].to_vec(), &line.as_bytes()[at..]);
    let (begins, ends) = (numbered("x", "1", "false"), numbered("x", "2", "true"));
    let (fields, end): (Fields<'_>, Fields<'_>) = [
        (A_MAX, A),
        (A_NUL, A),
        (A_PID, A2),
        (A_MAX, A_EOF),
        (C_MORE, C),
        (&begins, &ends),
        (C_MORE, C_MORE),
    ][transport];
    if transport == 6 {
        // An old dockerd, which marks the last piece too, splits longer lines only.
        first.splice(0..0, vec![b'x'; (16 << 10) - at]);
    }
    let last = if transport < 4 { B } else { C };
    let (messages, _) = read(&[(&first, fields), (second, end), (b"another line", last)]);
    let between = if transport == 1 { &b"\0"[..] } else { b"" };
    ([&first, between, second].concat(), messages.into_iter().map(|(text, _)| text).collect())
}

/// A whole line, and the messages that come of its pieces.
type Read = (Vec<u8>, Vec<Vec<u8>>);

/// How many splits of lines make an address that the whole line has not, where this comes of the pieces.
fn moved(read: fn(&str, usize, usize) -> Read) -> usize {
    let grammars = shipped();
    let moved = grammars.par_iter().map(|(grammar, messages)| {
        let mut moved = 0;
        for (nth, message) in messages.iter().enumerate() {
            // As it is, and where a stranger has made it the end or the beginning of a line.
            for line in [(*message).to_owned(), format!("x {message}"), format!("{message} x")] {
                for at in (0..line.len()).filter(|at| line.is_char_boundary(*at)) {
                    // The last one's lines are long, so that it is tried more rarely.
                    let transport =
                        if (nth + at) % 32 == 31 { TRANSPORTS - 1 } else { (nth + at) % (TRANSPORTS - 1) };
                    let (whole, found) = read(&line, at, transport);
                    let whole = address(grammar, &whole);
                    let is_moved =
                        |text: &Vec<u8>| address(grammar, text).is_some_and(|address| whole != Some(address));
                    moved += usize::from(found.iter().any(is_moved));
                }
            }
        }
        moved
    });
    moved.sum()
}

#[test]
fn no_split_of_a_line_makes_an_address_that_it_has_not() {
    assert!(shipped().iter().all(|(_, messages)| !messages.is_empty()));
    assert_eq!(moved(split), 0);
}

#[test]
fn without_the_joining_such_addresses_are_found() {
    let apart = |line: &str, at: usize, _| {
        let (first, second) = line.split_at(at);
        (line.as_bytes().to_vec(), vec![first.as_bytes().to_vec(), second.as_bytes().to_vec()])
    };
    assert!(moved(apart) > 1000);
}
