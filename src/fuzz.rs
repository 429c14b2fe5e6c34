//! One function for each kind of input that strangers write, for fuzzers and tests. It panics if the input shows its
//! claim to be false. Inputs found by fuzzers are in `tests/faults`, and every test run repeats them. `contrib/fuzz`
//! runs the fuzzers.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::sync::{Arc, LazyLock};

use banstream_journal::{Filter, JournalPlace, JournalReader};
use nix::sys::memfd::MFdFlags;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::control::server::{self, Daemon};
use crate::entry::{Decoder, Format};
use crate::grammar::{self, Grammar, Lists, MissReason, SHIPPED};
use crate::model::Timestamp;

/// A name and what it claims of any input.
pub type FuzzTarget = (&'static str, fn(&[u8]));

/// All claims.
pub const CLAIMS: &[FuzzTarget] = &[
    ("grammar", grammar),
    ("line", line),
    ("journal", journal),
    ("journal-file", journal_file),
    ("find", find),
    ("propose", propose),
    ("omprog", omprog),
    ("control", control),
];

/// A grammar, up to the first zero byte, is refused or sound: what is read in the message behind it has one address, and is
/// what the reference of the matcher reads.
pub fn grammar(input: &[u8]) {
    let (text, message) = halves(input);
    if let Ok(text) = std::str::from_utf8(text)
        && let Ok((grammar, _)) = Grammar::load("fuzz", "fuzz.grammar", text, &Lists::shipped())
    {
        one_address(&grammar, message);
    }
}

/// No line of text is lost, and none makes an entry of what is not in it.
pub fn line(input: &[u8]) {
    decode(Format::Line, input);
}

/// No record of the journal makes an entry of what is not in it.
pub fn journal(input: &[u8]) {
    decode(Format::Journal, input);
}

/// A file of the journal is read to its end both ways, whatever it holds, and gives no more entries than it has room for.
pub fn journal_file(input: &[u8]) {
    let Ok(file) = nix::sys::memfd::memfd_create(c"journal", MFdFlags::MFD_CLOEXEC) else { return };
    let mut file = File::from(file);
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    if file.write_all(input).is_err() {
        return;
    }
    let Ok(mut journal) = JournalReader::open(JournalPlace::Files(vec![path.into()])) else { return };
    let field = b"SYSLOG_IDENTIFIER=sshd".to_vec();
    for filter in
        [Filter::All, Filter::Any(vec![field.clone()]), Filter::Every(vec![field, b"_PID=1".to_vec()])]
    {
        journal.set_filter(filter);
        journal.seek_head();
        let (mut down, mut up) = (0, 0);
        while journal.next() {
            down += 1;
            journal.fields(|_| true);
        }
        journal.seek_tail();
        while journal.previous() {
            up += 1;
        }
        // The smallest entry takes so much.
        let most = input.len() / 64;
        assert!(down <= most && up <= most, "{down} down and {up} up of {most}");
    }
}

/// No message has two addresses in any grammar that comes with banstream, the matcher reads what its reference reads, and a
/// message that no rule reads is explained.
pub fn find(message: &[u8]) {
    static GRAMMARS: LazyLock<Vec<Grammar>> = LazyLock::new(|| {
        let load = |(name, text): &(&str, &str)| {
            Grammar::load(name, name, text, &Lists::shipped()).ok().map(|(grammar, _)| grammar)
        };
        SHIPPED.iter().filter_map(load).collect()
    });
    assert_eq!(GRAMMARS.len(), SHIPPED.len());
    for grammar in &*GRAMMARS {
        one_address(grammar, message);
        let read = !grammar.readings(message).is_empty();
        assert!(!read || grammar.unmatched_template(message).is_none(), "{}", message.escape_ascii());
        let unmet = matches!(grammar.miss_reason(message), MissReason::Unmet(_));
        assert_eq!(read, unmet, "{}", message.escape_ascii());
    }
}

/// A grammar that is proposed from lines can be loaded, and its tests hold, whatever the lines are.
pub fn propose(lines: &[u8]) {
    let proposal = grammar::propose("app", lines.split(|byte| *byte == b'\n'));
    let sound =
        proposal.text.as_ref().map(|text| Grammar::load("app", "app", text, &Lists::shipped()).map(drop));
    assert!(proposal.rules == 0 || sound == Some(Ok(())), "{sound:?}");
}

/// Whatever rsyslog and the engine say to the shim between them, no line is lost.
pub fn omprog(conversation: &[u8]) {
    crate::input::omprog::fuzz::conversation(conversation);
}

/// The control socket answers in HTTP, or not at all.
pub fn control(request: &[u8]) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    // A daemon that is about to stop: each command is dropped unanswered.
    let ask = Arc::new(|_| tokio::sync::oneshot::channel().1);
    let routes = server::routes(Daemon { ask, metrics: Arc::new(String::new) });
    let answer = runtime.block_on(async {
        let (mut client, stream) = tokio::io::duplex(1 << 16);
        let served = tokio::spawn(server::answer(stream, routes, Arc::default()));
        // A client that closes before the end of a request gets no answer.
        let _ = client.write_all(request).await;
        let _ = client.shutdown().await;
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer).await;
        assert!(served.await.is_ok(), "the server panicked");
        answer
    });
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{}", answer.escape_ascii());
}

fn halves(input: &[u8]) -> (&[u8], &[u8]) {
    let mut halves = input.splitn(2, |byte| *byte == 0);
    (halves.next().unwrap_or_default(), halves.next().unwrap_or_default())
}

fn one_address(grammar: &Grammar, message: &[u8]) {
    #[cfg(fuzzing)]
    grammar.compare(message);
    let mut readings = grammar.readings(message).into_iter();
    if let Some(first) = readings.next() {
        let other = readings.find(|other| *other != first);
        assert_eq!(other, None, "`{}` read {} as {first:?} first", grammar.name(), message.escape_ascii());
    }
}

fn decode(format: Format, input: &[u8]) {
    let (mut record, now) = (input.to_vec(), Timestamp::from_secs(1_800_000_000));
    let entry = Decoder::new(jiff::tz::TimeZone::UTC).decode(format, &mut record, now);
    let Ok(entry) = entry else {
        assert!(format == Format::Journal || input.first() == Some(&b'{'), "a line of text is an entry");
        return;
    };
    assert!(entry.times > 0 && entry.message.len() <= input.len() && entry.program.len() <= input.len());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fuzzers_found_stays_mended() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults");
        for (name, claim) in CLAIMS {
            let inputs = std::fs::read_dir(folder.join(name)).unwrap().map(|entry| entry.unwrap().path());
            let inputs: Vec<_> = inputs.collect();
            assert!(!inputs.is_empty(), "{name}");
            inputs.iter().for_each(|path| claim(&std::fs::read(path).unwrap()));
        }
    }
}
