//! Joins the pieces of long lines that journald and container engines have split.
//!
//! A piece begins where the line happened to be split, and the author of the line chose the text there. So a piece is
//! never a message: pieces are joined, or not judged. This decides which pieces belong together; the caller passes the
//! entries of a stream, the latest first.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::journal;

/// The longest message that is put together, in bytes.
pub const LONGEST: usize = 1 << 20;

/// The most pieces of one message, and the most processes that write them.
const PIECES: usize = 4096;
const WRITERS: usize = 8;

/// Where dockerd cuts. Until version 18.06 it marked the last piece like the others.
const DOCKER: usize = 16 << 10;

/// Where journald cuts by default (`LineMax=`).
const LINE_MAX: usize = 48 << 10;

/// The longest address as text, in bytes.
const ADDRESS: usize = 45;

/// How many messages did not arrive in one piece.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MessageCounts {
    /// Messages whose end may be missing, because a transport cut them. Some rules do not read them.
    pub cut: u64,
    /// Pieces of long lines that journald or a container engine split.
    pub split: u64,
    /// Messages joined from such pieces.
    pub joined: u64,
    /// Pieces that are not judged, because the beginning of their message is missing.
    pub unjudged: u64,
}

impl MessageCounts {
    /// Adds what another counted.
    pub fn add(&mut self, other: &MessageCounts) {
        self.cut += other.cut;
        self.split += other.split;
        self.joined += other.joined;
        self.unjudged += other.unjudged;
    }
}

/// An entry of a journal, and its fields about the line that it is a piece of.
#[derive(Clone, Debug, Default)]
pub struct JournalPiece {
    /// The entry, as [`journal`] lays it out.
    pub record: Vec<u8>,
    /// Where it stands in the journal, where somebody has asked.
    pub cursor: String,
    /// Which fields it has already.
    seen: u32,
    /// Where the message's field stands in the record.
    message: (usize, usize),
    stream: Stream,
    /// As the fields say it: the identifier, the priority, who wrote it.
    id: Vec<u8>,
    priority: Vec<u8>,
    uid: Vec<u8>,
    pid: Vec<u8>,
    line_break: Break,
    partial: bool,
    /// The engine's number for the message, and of the piece in it.
    number: Vec<u8>,
    ordinal: Option<u32>,
    last: Option<bool>,
}

/// What a line came through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stream {
    /// Something that cuts no lines, or does not say so.
    #[default]
    None,
    /// The output of a unit.
    Unit,
    /// A container engine that names only the beginning of the container's identifier.
    Short,
    /// A container engine.
    Container,
}

/// What ended a line of a unit's output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Break {
    #[default]
    Newline,
    Eof,
    Nul,
    /// Its length, another process that wrote, or something that we do not know.
    Other,
}

/// What becomes of the last piece of a line.
#[derive(Debug, PartialEq, Eq)]
pub enum JoinResult {
    /// It is a message.
    Whole,
    /// It ends a message of several pieces: the record of the whole.
    Joined(Vec<u8>),
    /// Nobody can say what it is the end of.
    Unjudged,
    /// It is not the last piece.
    More,
}

/// The journal cannot be read.
#[derive(Debug)]
pub struct UnreadableJournal;

/// The entries of the stream of a [`JournalPiece`].
pub trait EarlierPieces {
    /// The one before that which came last, at first the one before the part itself.
    fn before(&mut self) -> Result<Option<JournalPiece>, UnreadableJournal>;

    /// The last one by this process that stands before this one.
    fn own(&mut self, head: &JournalPiece, pid: &[u8]) -> Result<Option<JournalPiece>, UnreadableJournal>;
}

impl JournalPiece {
    /// Forgets the entry and keeps the memory.
    pub fn clear(&mut self) {
        let Self { record, id, priority, uid, pid, .. } = self;
        let [record, id, priority, uid, pid] = [record, id, priority, uid, pid].map(|bytes| {
            bytes.clear();
            std::mem::take(bytes)
        });
        *self = Self { record, id, priority, uid, pid, ..Self::default() };
    }

    /// Takes a field (`NAME=value`) if entries or pieces use it; of each name the first. Whether it
    /// was too long for that.
    pub fn take(&mut self, field: &[u8]) -> bool {
        let (name, value) = journal::name_and_value(field);
        let pushed = journal::place(name);
        let Some(bit) = pushed.or_else(|| place(name)) else { return false };
        if self.seen & 1 << bit != 0 {
            return false;
        }
        if field.len() > LONGEST {
            return true;
        }
        self.seen |= 1 << bit;
        let start = self.record.len();
        if pushed.is_some() {
            journal::push(&mut self.record, field);
        }
        let keep = |place: &mut Vec<u8>| {
            place.clear();
            // No name of a stream, container or process is longer.
            place.extend_from_slice(value.get(..128).unwrap_or(value));
        };
        let is_output = matches!(name, b"_STREAM_ID" | b"CONTAINER_ID_FULL" | b"CONTAINER_ID");
        if is_output && self.stream == Stream::None {
            journal::print(&mut self.record);
        }
        match name {
            b"MESSAGE" => self.message = (start, self.record.len()),
            b"_PID" => keep(&mut self.pid),
            b"_UID" => keep(&mut self.uid),
            b"SYSLOG_RAW" => journal::push_trimmed(&mut self.record, value),
            b"_STREAM_ID" => {
                self.stream = Stream::Unit;
                keep(&mut self.id);
            }
            b"CONTAINER_ID_FULL" if self.stream != Stream::Unit => {
                self.stream = Stream::Container;
                keep(&mut self.id);
            }
            b"CONTAINER_ID" if self.stream == Stream::None => {
                self.stream = Stream::Short;
                keep(&mut self.id);
            }
            b"PRIORITY" => keep(&mut self.priority),
            b"_LINE_BREAK" => {
                self.line_break = match value {
                    b"eof" => Break::Eof,
                    b"nul" => Break::Nul,
                    _ => Break::Other,
                };
            }
            b"CONTAINER_PARTIAL_MESSAGE" => self.partial = value == b"true",
            b"CONTAINER_PARTIAL_ID" => keep(&mut self.number),
            b"CONTAINER_PARTIAL_ORDINAL" => self.ordinal = super::number(value),
            b"CONTAINER_PARTIAL_LAST" => self.last = Some(value == b"true"),
            _ => {}
        }
        false
    }

    /// The fields that all entries of its stream have; none where it is part of none.
    pub fn stream(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        let (name, priority) = match self.stream {
            Stream::None => ("", &b""[..]),
            Stream::Unit => ("_STREAM_ID", &b""[..]),
            Stream::Short => ("CONTAINER_ID", &*self.priority),
            Stream::Container => ("CONTAINER_ID_FULL", &*self.priority),
        };
        // Everybody can name a container, so only what the same user wrote is of the same stream.
        let uid = if self.stream == Stream::Unit { &b""[..] } else { &self.uid };
        let fields = [(name, &*self.id), ("PRIORITY", priority), ("_UID", uid)];
        let is_stream = self.stream != Stream::None;
        fields.into_iter().filter(move |(_, value)| is_stream && !value.is_empty())
    }

    /// Whether it is part of a stream that cuts lines.
    pub fn streams(&self) -> bool {
        self.stream != Stream::None
    }

    /// Whether its writer named itself. Without that no match finds all pieces of a stream: the names of processes
    /// differ in it.
    pub fn is_named(&self) -> bool {
        self.seen & 1 << 1 != 0
    }

    /// The process that wrote it, where one stream may have several.
    pub fn writer(&self) -> &[u8] {
        if self.stream == Stream::Unit { &self.pid } else { b"" }
    }

    /// Whether it is a piece and not the last one.
    pub fn goes_on(&self) -> bool {
        match self.stream {
            Stream::None => false,
            Stream::Unit => matches!(self.line_break, Break::Nul | Break::Other),
            // Newer engines say whether it is the last; others leave the mark out there.
            Stream::Short | Stream::Container => match self.last {
                Some(last) => !last,
                None => self.partial,
            },
        }
    }

    /// Whether the stream was over before the line was.
    pub fn is_unfinished(&self) -> bool {
        self.stream == Stream::Unit && self.line_break == Break::Eof
    }

    /// Whether it may yet be the last piece though it says that there are more.
    pub fn may_be_last(&self) -> bool {
        self.goes_on() && self.stream != Stream::Unit && self.is_anonymous() && self.text().len() < DOCKER
    }

    /// Whether its engine numbers pieces.
    pub fn is_numbered(&self) -> bool {
        !self.is_anonymous()
    }

    fn is_anonymous(&self) -> bool {
        self.number.is_empty() && self.ordinal.is_none()
    }

    fn text(&self) -> &[u8] {
        let field = self.record.get(self.message.0..self.message.1).unwrap_or_default();
        field.get(4..).and_then(|field| field.strip_prefix(b"MESSAGE=")).unwrap_or_default()
    }

    /// What this one is to the one that comes next in the stream.
    fn before(&self, next: &JournalPiece) -> Link {
        if !next.is_anonymous() {
            let ordinal = next.ordinal.and_then(|ordinal| ordinal.checked_sub(1));
            return match self.number == next.number && self.goes_on() && self.ordinal == ordinal {
                true => Link::Continues,
                false => Link::Unknown,
            };
        }
        match (self.goes_on(), self.is_anonymous() && self.uid == next.uid) {
            (false, _) => Link::Begins,
            (true, true) => Link::Continues,
            (true, false) => Link::Unknown,
        }
    }

    /// The record of a message that begins with this and has this text.
    fn with_text(&self, last: &JournalPiece, text: &[u8]) -> Vec<u8> {
        let mut record = Vec::with_capacity(self.record.len() + text.len());
        // It was written when its last piece was.
        record.extend_from_slice(last.record.get(..8).unwrap_or_default());
        record.extend_from_slice(self.record.get(8..self.message.0).unwrap_or_default());
        record.extend_from_slice(self.record.get(self.message.1..).unwrap_or_default());
        journal::push(&mut record, &[b"MESSAGE=", text].concat());
        record
    }
}

/// The fields about pieces.
const ABOUT_PIECES: [&[u8]; 10] = [
    b"SYSLOG_RAW",
    b"_STREAM_ID",
    b"_LINE_BREAK",
    b"CONTAINER_ID_FULL",
    b"CONTAINER_ID",
    b"CONTAINER_PARTIAL_MESSAGE",
    b"CONTAINER_PARTIAL_ID",
    b"CONTAINER_PARTIAL_ORDINAL",
    b"CONTAINER_PARTIAL_LAST",
    b"PRIORITY",
];

/// The field about pieces with this name.
fn place(name: &[u8]) -> Option<u32> {
    Some(match name {
        b"SYSLOG_RAW" => 9,
        b"_STREAM_ID" => 10,
        b"_LINE_BREAK" => 11,
        b"CONTAINER_ID_FULL" => 12,
        b"CONTAINER_ID" => 13,
        b"CONTAINER_PARTIAL_MESSAGE" => 14,
        b"CONTAINER_PARTIAL_ID" => 15,
        b"CONTAINER_PARTIAL_ORDINAL" => 16,
        b"CONTAINER_PARTIAL_LAST" => 17,
        b"PRIORITY" => 18,
        _ => return None,
    })
}

/// The names of all fields that entries and pieces use, in the order of their bits in `seen`.
pub fn fields() -> impl Iterator<Item = &'static [u8]> {
    journal::FIELDS.into_iter().chain(ABOUT_PIECES)
}

/// What the entry before one in its stream is to it.
#[derive(PartialEq, Eq)]
enum Link {
    /// Its end is the end of a line.
    Begins,
    /// The two are one line.
    Continues,
    Unknown,
}

/// What `last` is the last piece of.
///
/// Linear in the bytes and the number of pieces, both of which are bounded.
pub fn join(last: &JournalPiece, past: &mut impl EarlierPieces) -> JoinResult {
    judge(last, past).unwrap_or(JoinResult::Unjudged)
}

fn judge(last: &JournalPiece, past: &mut impl EarlierPieces) -> Result<JoinResult, UnreadableJournal> {
    if last.goes_on() && !last.may_be_last() {
        return Ok(JoinResult::More);
    }
    // The latest first.
    let mut parts: Vec<JournalPiece> = Vec::new();
    let mut size = last.text().len();
    loop {
        let head = parts.last().unwrap_or(last);
        if head.ordinal == Some(1) {
            break;
        }
        let link = match past.before()? {
            None if head.is_anonymous() => Link::Begins,
            None => Link::Unknown,
            Some(before) => {
                let link = before.before(head);
                if last.goes_on() && (link != Link::Continues || before.text().len() != DOCKER) {
                    return Ok(JoinResult::More);
                }
                if link == Link::Continues {
                    size += before.text().len() + 1;
                    parts.push(before);
                }
                link
            }
        };
        match link {
            Link::Begins => break,
            Link::Continues if size <= LONGEST && parts.len() < PIECES => {}
            Link::Continues | Link::Unknown => return Ok(JoinResult::Unjudged),
        }
    }
    let is_old_docker = |parts: &[JournalPiece]| {
        // From the second on, one that is shorter than those before it was the last of its line.
        let (first, rest) = parts.split_last().map_or((None, parts), |(first, rest)| (Some(first), rest));
        first.is_some_and(|first| first.is_anonymous() && first.text().len() == DOCKER)
            && rest.iter().all(|part| part.text().len() == DOCKER)
    };
    if last.goes_on() && !is_old_docker(&parts) {
        return Ok(JoinResult::More);
    }
    if last.stream == Stream::Unit {
        if owes(last, &parts, past)? || parts.iter().rev().zip(after(last, &parts)).any(runs_together) {
            return Ok(JoinResult::Unjudged);
        }
    } else if (1..parts.len()).any(|nth| {
        let (newer, older) = parts.split_at(nth);
        newer.last().is_some_and(|part| part.text().len() < DOCKER) && is_old_docker(older)
    }) {
        return Ok(JoinResult::Unjudged);
    }
    let Some(head) = parts.last() else { return Ok(JoinResult::Whole) };
    let mut text = Vec::with_capacity(size);
    for part in parts.iter().rev() {
        text.extend_from_slice(part.text());
        if part.line_break == Break::Nul {
            text.push(0);
        }
    }
    text.extend_from_slice(last.text());
    let mut record = head.with_text(last, &text);
    if last.goes_on() || last.is_unfinished() {
        journal::cut(&mut record);
    }
    Ok(JoinResult::Joined(record))
}

/// The pieces that follow the first, in order.
fn after<'p>(last: &'p JournalPiece, parts: &'p [JournalPiece]) -> impl Iterator<Item = &'p JournalPiece> {
    parts.iter().rev().skip(1).chain([last])
}

/// Whether one of the processes that wrote these had begun a line before, and another one's came between. Then what it
/// wrote goes on with that.
fn owes(
    last: &JournalPiece,
    parts: &[JournalPiece],
    past: &mut impl EarlierPieces,
) -> Result<bool, UnreadableJournal> {
    let head = parts.last().unwrap_or(last);
    let writers: BTreeSet<&[u8]> = parts.iter().chain([last]).map(|part| &*part.pid).collect();
    if writers.len() > WRITERS {
        return Ok(true);
    }
    for pid in writers.into_iter().filter(|pid| !pid.is_empty()) {
        if past.own(head, pid)?.is_some_and(|own| own.goes_on()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether two pieces might make an address that neither has. Journald leaves out white space at the end of a piece,
/// so that there may have been some; one of full length had none.
fn runs_together((before, after): (&JournalPiece, &JournalPiece)) -> bool {
    let (left, right) = (before.text(), after.text());
    if before.line_break != Break::Other || left.len() == LINE_MAX {
        return false;
    }
    let is_part = |byte: &&u8| byte.is_ascii_hexdigit() || matches!(byte, b'.' | b':');
    // No address is longer.
    let left: Vec<u8> = left.iter().rev().take_while(is_part).take(ADDRESS).copied().collect();
    let right: Vec<u8> = right.iter().take_while(is_part).take(ADDRESS).copied().collect();
    let marks = left.iter().chain(&right).filter(|byte| !byte.is_ascii_hexdigit()).count();
    !left.is_empty() && !right.is_empty() && marks >= 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_has_its_place() {
        for (nth, name) in fields().enumerate() {
            let bit = journal::place(name).or_else(|| place(name));
            assert_eq!(bit, u32::try_from(nth).ok(), "{}", name.escape_ascii());
        }
        assert_eq!((place(b"MESSAGE_ID"), journal::place(b"")), (None, None));
    }
}
