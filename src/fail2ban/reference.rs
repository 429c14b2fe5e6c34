//! Asks fail2ban itself which lines its filter matches: runs `fail2ban-regex`. What it prints is the reference for ours.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use super::filter::FilterRegexes;
use super::read::Fail2banJail;

/// The program, and what it can be told besides the filter.
const PROGRAM: &str = "fail2ban-regex";

/// The longest output that is read of a program, in bytes. Each line comes at most a few times.
const LONGEST_OUTPUT: u64 = 64 << 20;

/// Why a program has not told what it was asked.
#[derive(Debug)]
pub(super) enum ReferenceError {
    /// It is not installed.
    Missing(&'static str),
    /// It was not done in this time.
    TooSlow(&'static str, Duration),
    /// It failed, and what it said.
    Failed(&'static str, String),
}

impl fmt::Display for ReferenceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(program) => write!(f, "`{program}` is not installed"),
            Self::TooSlow(program, limit) => {
                write!(f, "`{program}` was not done after {:.0} s", limit.as_secs_f64().ceil())
            }
            Self::Failed(program, said) => write!(f, "`{program}` fails: {said}"),
        }
    }
}

/// What fail2ban finds in a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum ReferenceLine {
    /// Nothing.
    #[default]
    Nothing,
    /// A part of a failure of this address, which the line in that place completes.
    Part(String, usize),
    /// A failure of this address, or of the name in its place.
    Failure(String),
}

/// What fail2ban finds in each line by this filter of a jail.
///
/// # Errors
///
/// fail2ban does not say.
pub(super) fn found(
    jail: &Fail2banJail,
    filter: &FilterRegexes,
    lines: &[Vec<u8>],
    limit: Duration,
) -> Result<Vec<ReferenceLine>, ReferenceError> {
    let failed = |error: std::io::Error| ReferenceError::Failed(PROGRAM, error.to_string());
    let filter = memory(definition(filter).as_bytes(), MFdFlags::empty()).map_err(failed)?;
    let mut text = lines.join(&b'\n');
    text.push(b'\n');
    let log = memory(&text, MFdFlags::MFD_CLOEXEC).map_err(failed)?;
    // The dot keeps fail2ban 1.1 from looking for a jail of that name.
    let filter_path = format!("/proc/self/fd/./{}", filter.as_raw_fd());
    // What no line can begin with, since it was not known before.
    let mark = format!("{:016x} ", RandomState::new().build_hasher().finish());
    let format = format!("{mark}<ip> <matches>");
    let mut words = vec!["--raw", "--out", &format];
    let encoding = jail.options.get("logencoding").map(String::as_str).filter(|name| *name != "auto");
    if let Some(encoding) = encoding {
        words.extend(["--encoding", encoding]);
    }
    words.extend(["--", "/dev/stdin", &filter_path]);
    let printed = run(PROGRAM, &words, log.into(), limit)?;
    Ok(placed(lines, &printed, mark.as_bytes()))
}

/// Which line each printed one is. Only ASCII is compared, since fail2ban prints another encoding than it reads.
fn placed(lines: &[Vec<u8>], printed: &[u8], mark: &[u8]) -> Vec<ReferenceLine> {
    let key = |line: &[u8]| -> Vec<u8> { line.trim_ascii().iter().copied().filter(u8::is_ascii).collect() };
    let mut places: HashMap<Vec<u8>, VecDeque<usize>> = HashMap::new();
    for (nth, line) in lines.iter().enumerate() {
        places.entry(key(line)).or_default().push_back(nth);
    }
    let mut found = vec![ReferenceLine::Nothing; lines.len()];
    // The address of the failure that is read, and where its lines stand.
    let (mut address, mut at) = (String::new(), Vec::new());
    let mut note = |address: &str, at: &mut Vec<usize>| {
        let Some(last) = at.pop() else { return };
        for part in at.drain(..) {
            found
                .get_mut(part)
                .into_iter()
                .for_each(|line| *line = ReferenceLine::Part(address.to_owned(), last));
        }
        found.get_mut(last).into_iter().for_each(|line| *line = ReferenceLine::Failure(address.to_owned()));
    };
    for row in printed.split(|byte| *byte == b'\n') {
        let mut line = row;
        if let Some(rest) = row.strip_prefix(mark) {
            note(&address, &mut at);
            let (first, rest) = rest.split_at(rest.iter().position(|byte| *byte == b' ').unwrap_or(0));
            (address, line) = (String::from_utf8_lossy(first).into_owned(), rest);
        }
        at.extend(places.get_mut(&key(line)).and_then(VecDeque::pop_front));
    }
    note(&address, &mut at);
    found
}

/// The filter as a file of fail2ban, with nothing left to fill in.
fn definition(filter: &FilterRegexes) -> String {
    let mut text = "[Definition]\n".to_owned();
    let mut option = |name: &str, values: &[String]| {
        // ` ;` begins a comment, and `%` a name.
        let values = values.join("\n").replace('%', "%%").replace(" ;", "[ ];").replace('\n', "\n  ");
        text += &format!("{name} = {values}\n");
    };
    option("prefregex", filter.prefix.as_slice());
    option("failregex", &filter.fail);
    option("ignoreregex", &filter.ignore);
    if !filter.date.is_empty() {
        option("datepattern", std::slice::from_ref(&filter.date));
    }
    option("maxlines", &[filter.lines.max(1).to_string()]);
    text
}

/// A file in memory, which nobody else can open by a name.
fn memory(text: &[u8], flags: MFdFlags) -> std::io::Result<File> {
    let mut file = File::from(memfd_create(c"banstream", flags)?);
    file.write_all(text)?;
    Ok(file)
}

/// What a program prints, within this time.
///
/// # Errors
///
/// It is not installed, too slow, or fails.
pub(super) fn run(
    program: &'static str,
    words: &[&str],
    input: Stdio,
    limit: Duration,
) -> Result<Vec<u8>, ReferenceError> {
    let failed = |error: std::io::Error| ReferenceError::Failed(program, error.to_string());
    let mut command = Command::new(program);
    command.args(words).stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command.env("PYTHONIOENCODING", "utf-8:replace");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let done = runtime.block_on(async {
        let mut child = command.spawn()?;
        let all = async {
            let (printed, said) = tokio::join!(read(child.stdout.take()), read(child.stderr.take()));
            Ok::<_, std::io::Error>((child.wait().await?.success(), printed?, said?))
        };
        tokio::time::timeout(limit, all).await.ok().transpose()
    });
    match done {
        Err(error) if error.kind() == ErrorKind::NotFound => Err(ReferenceError::Missing(program)),
        Err(error) => Err(failed(error)),
        Ok(None) => Err(ReferenceError::TooSlow(program, limit)),
        Ok(Some((true, printed, _))) => Ok(printed),
        Ok(Some((false, printed, said))) => {
            let mut lines = said.split(|byte| *byte == b'\n').chain(printed.split(|byte| *byte == b'\n'));
            let last = lines.rfind(|line| !line.trim_ascii().is_empty()).unwrap_or_default();
            Err(ReferenceError::Failed(program, String::from_utf8_lossy(last).into_owned()))
        }
    }
}

async fn read(pipe: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(LONGEST_OUTPUT).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_that_is_printed_has_its_place() {
        let lines = ["begin a", "other", "end a", "fail b", "fail b", "f\u{e9}il c", "begin a"];
        let lines: Vec<Vec<u8>> = lines.iter().map(|line| line.as_bytes().to_vec()).collect();
        let printed = "M 192.0.2.1 begin a\nend a\nM 192.0.2.2 fail b\nM 192.0.2.2 fail b\nM 2001:db8::1 f\u{fffd}il c\nM x new\n";
        let part = ReferenceLine::Part("192.0.2.1".to_owned(), 2);
        let failure = |address: &str| ReferenceLine::Failure(address.to_owned());
        let want = [
            part,
            ReferenceLine::Nothing,
            failure("192.0.2.1"),
            failure("192.0.2.2"),
            failure("192.0.2.2"),
            failure("2001:db8::1"),
            ReferenceLine::Nothing,
        ];
        assert_eq!(placed(&lines, printed.as_bytes(), b"M "), want);
    }

    #[test]
    fn a_filter_is_written_so_that_fail2ban_reads_it_as_it_is() {
        let filter = FilterRegexes {
            fail: vec!["^100% <HOST> ; x$".to_owned(), "^b <HOST>".to_owned()],
            date: "a\nb".to_owned(),
            ..FilterRegexes::default()
        };
        let want = "[Definition]\nprefregex = \nfailregex = ^100%% <HOST>[ ]; x$\n  ^b <HOST>\nignoreregex = \n\
                    datepattern = a\n  b\nmaxlines = 1\n";
        assert_eq!(definition(&filter), want);
    }

    #[test]
    fn a_program_is_missing_slow_or_fails() {
        let said = |words: &[&str], program, limit| {
            run(program, words, Stdio::null(), Duration::from_millis(limit)).unwrap_err().to_string()
        };
        assert_eq!(said(&[], "no-such-program", 9_000), "`no-such-program` is not installed");
        assert_eq!(said(&["600"], "sleep", 100), "`sleep` was not done after 1 s");
        assert_eq!(
            said(&["/no-such-file"], "cat", 60_000),
            "`cat` fails: cat: /no-such-file: No such file or directory"
        );
        assert_eq!(run("echo", &["x"], Stdio::null(), Duration::from_secs(60)).unwrap(), b"x\n");
    }
}
