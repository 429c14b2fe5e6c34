//! The last lines of a jail's own logs, as fail2ban reads them and as they come to us.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use super::plan::ImportedJail;
use super::read::Fail2banJail;
use super::reference;
use crate::tools::setup::SYSLOG_FILES;
use crate::tools::tail::tail;

/// The most that is read of a jail's logs: so many bytes at their ends, and so many lines of those.
pub(super) const MOST_BYTES: u64 = 4 << 20;
pub(super) const MOST_LINES: usize = 20_000;

/// The most files of a jail that are read: those that were written to last.
const MOST_FILES: usize = 16;

/// The last lines of a jail's logs.
#[derive(Debug, Default)]
pub(super) struct JailLog {
    /// Where they come from.
    pub(super) sources: Vec<String>,
    /// The lines, without their ends.
    pub(super) lines: Vec<Vec<u8>>,
    /// The same lines as they come to us; `None` for those of a file that nothing reads here.
    pub(super) records: Vec<Option<Vec<u8>>>,
}

/// Reads the last lines of a jail's logs, of its files or of the journal.
///
/// # Errors
///
/// There are none, or they cannot be read: why, for people.
pub(super) fn read(
    jail: &Fail2banJail,
    imported: &ImportedJail,
    most_lines: usize,
    limit: Duration,
) -> Result<JailLog, String> {
    if jail.options.get("backend").is_some_and(|backend| backend.starts_with("systemd")) {
        return of_journal(jail, most_lines, limit);
    }
    let files = files(jail)?;
    let mut log = JailLog::default();
    let share = (MOST_BYTES / files.len() as u64, most_lines.div_ceil(files.len()));
    for file in files {
        let text =
            tail(&file, share.0).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
        let source = file.display().to_string();
        let program = program(imported, &source);
        let comes = program.is_some() || imported.in_journal || SYSLOG_FILES.contains(&source.as_str());
        for line in last_lines(&text, share.1) {
            log.lines.push(line.to_vec());
            log.records.push(comes.then(|| match program {
                Some(program) => forwarded(program, line),
                None => line.to_vec(),
            }));
        }
        log.sources.push(source);
    }
    match log.lines.is_empty() {
        true => Err(format!("no line in {}", log.sources.join(", "))),
        false => Ok(log),
    }
}

/// The program under whose name rsyslog forwards the lines of a file; `None` where they name their program themselves.
pub(super) fn program<'j>(imported: &'j ImportedJail, file: &str) -> Option<&'j str> {
    let input = imported.inputs.iter().find(|(pattern, _)| super::paths::covers(pattern, file));
    input.map(|(_, program)| program.as_str())
}

/// The files of a jail that are there, those that were written to last.
fn files(jail: &Fail2banJail) -> Result<Vec<PathBuf>, String> {
    let patterns: Vec<&str> = super::paths::log_paths(jail).collect();
    let mut found: Vec<(SystemTime, PathBuf)> = Vec::new();
    for path in patterns.iter().filter_map(|pattern| glob::glob(pattern).ok()).flatten().flatten() {
        let about = std::fs::metadata(&path).ok().filter(std::fs::Metadata::is_file);
        if let Some(changed) = about.and_then(|about| about.modified().ok()) {
            found.push((changed, path));
        }
    }
    found.sort();
    found.dedup();
    let files = found.into_iter().rev().take(MOST_FILES).map(|(_, path)| path).collect::<Vec<_>>();
    match (files.is_empty(), patterns.is_empty()) {
        (false, _) => Ok(files),
        (true, true) => Err("it has no `logpath`".to_owned()),
        (true, false) => Err(format!("{} is not there", patterns.join(", "))),
    }
}

/// The last lines of a text, without those that `fail2ban-regex` passes over.
fn last_lines(text: &[u8], most: usize) -> Vec<&[u8]> {
    let lines = text.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let mut lines: Vec<&[u8]> = lines.filter(|line| !line.is_empty() && !line.starts_with(b"#")).collect();
    lines.drain(..lines.len().saturating_sub(most));
    lines
}

/// A line as rsyslog forwards it from a file.
pub(super) fn forwarded(program: &str, line: &[u8]) -> Vec<u8> {
    let mut record = format!("{{\"program\":\"{program}\",\"message\":\"").into_bytes();
    for byte in line {
        match byte {
            b'"' | b'\\' => record.extend([b'\\', *byte]),
            0..b' ' => record.extend(format!("\\u{byte:04x}").bytes()),
            _ => record.push(*byte),
        }
    }
    record.extend(b"\"}");
    record
}

/// The last lines of the journal that a jail reads.
fn of_journal(jail: &Fail2banJail, most_lines: usize, limit: Duration) -> Result<JailLog, String> {
    let matches = jail.regexes.journal.join(" + ");
    let matches: Vec<&str> = matches.split_whitespace().map(|word| word.trim_matches(['"', '\''])).collect();
    if matches.is_empty() {
        return Err("its lines are in the journal, and it has no `journalmatch`".to_owned());
    }
    let lines = format!("--lines={most_lines}");
    let words =
        [&["--quiet", "--no-pager", "--output=short", lines.as_str(), "--"], matches.as_slice()].concat();
    let text =
        reference::run("journalctl", &words, Stdio::null(), limit).map_err(|error| error.to_string())?;
    let text = text.get(text.len().saturating_sub(MOST_BYTES as usize)..).unwrap_or_default();
    let lines: Vec<Vec<u8>> = last_lines(text, most_lines).into_iter().map(<[u8]>::to_vec).collect();
    if lines.is_empty() {
        return Err(format!("the journal has no lines of {}", matches.join(" ")));
    }
    Ok(JailLog {
        sources: vec!["the journal".to_owned()],
        records: lines.iter().cloned().map(Some).collect(),
        lines,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_passed_over_do_not_count() {
        assert_eq!(last_lines(b"a\n#b\n\nc\r\nd", 2), [b"c", b"d"]);
    }

    #[test]
    fn a_forwarded_line_is_the_message() {
        let mut record = forwarded("nginx", b"a \"b\" \\ \t\xff {");
        let mut decoder = crate::entry::Decoder::new(jiff::tz::TimeZone::UTC);
        let entry = decoder
            .decode(crate::entry::Format::Line, &mut record, crate::model::Timestamp::from_secs(0))
            .unwrap();
        assert_eq!((entry.program, entry.message), (&b"nginx"[..], &b"a \"b\" \\ \t\xff {"[..]));
    }
}
