//! `replay`: who would have been banned, had a log come in live.
//!
//! It stands apart from the other tools because it alone runs the whole engine, over logs of any size: files, rotated and
//! packed ones among them, a pipe, or the journal.
//!
//! It touches neither kernel nor ledger, and it knows nothing of what a line means.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, BufWriter, Cursor, Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::{decoder, ended_well, to_json, warn_of};
use crate::control::{BanLine, rfc3339};
use crate::engine::{Clock, Engine, GrammarTally, Tally, Unattested};
use crate::entry::records::Records;
use crate::entry::{Decoder, Format};
use crate::grammar::Grammar;
use crate::load::Loaded;
use crate::model::{Ban, Decision, Mode, Timestamp};
use crate::source::journald::{self, Journal, Place};
use crate::source::stdin;
use crate::source::unpack::unpack;

/// What to replay.
#[derive(Clone, Debug)]
pub enum Logs {
    /// These files, in the order of their first times; `-` is standard input.
    Files(Vec<PathBuf>),
    /// The journal.
    Journal {
        /// Where its files are; as the daemon reads it if `None`.
        directory: Option<PathBuf>,
        /// From when on; from its beginning if `None`.
        since: Option<Timestamp>,
        /// Until when; to its end if `None`.
        until: Option<Timestamp>,
    },
}

/// How to replay.
#[derive(Clone, Copy, Debug)]
pub struct Replay<'l> {
    /// What is in force.
    pub loaded: &'l Loaded,
    /// Whose message a line is that does not say.
    pub program: Option<&'l str>,
    /// Whether to print JSON.
    pub json: bool,
    /// The time of lines that have none.
    pub now: Timestamp,
}

/// A ban as `replay` prints it.
#[derive(Serialize)]
struct Decided {
    time: String,
    #[serde(flatten)]
    ban: BanLine,
}

/// What a replay came to.
#[derive(Serialize)]
struct Summary {
    lines: u64,
    bytes: u64,
    /// Lines of programs that no grammar reads.
    foreign: u64,
    malformed: u64,
    /// By grammar and offence.
    offences: BTreeMap<String, BTreeMap<String, u64>>,
    bans: u64,
    offenders: u64,
}

impl Replay<'_> {
    /// Runs the whole detector over logs, by the logs' own clock; prints who would have been banned, and a summary.
    ///
    /// What can be read of a log that is damaged counts, and so do the logs after it.
    ///
    /// # Errors
    ///
    /// A log cannot be read to its end, which is said when all is printed, or the output not written.
    pub fn run(&self, logs: &Logs, output: impl Write) -> anyhow::Result<()> {
        warn_of(self.loaded, self.program);
        let decoder = match logs {
            Logs::Files(_) => decoder(self.program).with_times_in_messages(),
            Logs::Journal { .. } => decoder(self.program),
        };
        let mut run = Run::new(self.loaded, decoder.clone());
        let failures = match logs {
            Logs::Files(paths) => self.read_files(paths, decoder, &mut run)?,
            Logs::Journal { directory, since, until } => {
                let journal = Journal::of(self.loaded);
                let place = directory.clone().map(Place::Directory).unwrap_or(journal.place);
                let sink = |records: &mut Records| run.take(records, self.now);
                journald::read(&Journal { place, ..journal }, *since, *until, sink)
                    .err()
                    .map(anyhow::Error::from)
                    .into_iter()
                    .collect()
            }
        };
        let mut output = BufWriter::new(output);
        let written = self.print(&run, &mut output).and_then(|()| output.flush());
        ended_well(written)?;
        match failures.into_iter().reduce(|one, other| anyhow::anyhow!("{one:#}\nerror: {other:#}")) {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }

    /// Reads the files into the run, the one that begins first first; what could not be read to its end.
    fn read_files(
        &self,
        paths: &[PathBuf],
        decoder: Decoder<'_>,
        run: &mut Run<'_>,
    ) -> anyhow::Result<Vec<anyhow::Error>> {
        let files = paths.iter().filter(|path| !is_stdin(path)).map(File::open);
        let progress =
            progress(files.flatten().filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum());
        let mut logs =
            paths.iter().map(|path| Log::open(path, &progress)).collect::<anyhow::Result<Vec<_>>>()?;
        if logs.len() > 1 {
            logs.iter_mut().for_each(|log| log.look(decoder.clone(), self.now));
            logs.sort_by_key(|log| log.begins);
        }
        let mut failures = Vec::new();
        for log in logs {
            if log.begins < run.engine.latest() {
                progress.suspend(|| eprintln!("warning: {} begins before the log before it ends; bans that are over by then are not shown, so replay it by itself", log.name()));
            }
            let name = log.name();
            let read = stdin::read(log.input, |mut batch| {
                run.take(&mut batch.records, self.now);
                ControlFlow::Continue(())
            });
            failures.extend(read.with_context(|| format!("cannot read {name}")).err());
        }
        progress.finish_and_clear();
        Ok(failures)
    }

    fn print(&self, run: &Run<'_>, output: &mut impl Write) -> io::Result<()> {
        run.bans.iter().try_for_each(|ban| self.print_ban(ban, output))?;
        let summary = run.summary();
        if self.json {
            return to_json(output, &serde_json::json!({ "summary": summary }));
        }
        writeln!(
            output,
            "{} lines, {} bans of {} offenders",
            summary.lines, summary.bans, summary.offenders
        )?;
        for (grammar, offences) in &summary.offences {
            let offences: Vec<String> =
                offences.iter().map(|(offence, times)| format!("{times} {offence}")).collect();
            writeln!(output, "{grammar}: {}", offences.join(", "))?;
        }
        Ok(())
    }

    fn print_ban(&self, ban: &Ban, output: &mut impl Write) -> io::Result<()> {
        let decided = Decided { time: rfc3339(ban.since), ban: BanLine::new(ban, ban.since) };
        if self.json {
            return to_json(output, &decided);
        }
        let until =
            ban.until.map_or("for good".to_owned(), |until| format!("for {}", until.since(ban.since)));
        let observed = if ban.mode == Mode::Observe { ", observed" } else { "" };
        let (time, who, jail, times) = (decided.time, ban.offender, &ban.jail, ban.times);
        writeln!(output, "{time} ban {who} {until} ({jail}, time {times}{observed})")
    }
}

/// A log that is about to be read.
struct Log<'p> {
    path: &'p Path,
    input: Box<dyn Read + 'p>,
    /// Its first time, as far as it was looked at.
    begins: Timestamp,
}

/// So much of a log is looked at to find when it begins.
const HEAD: u64 = 64 << 10;

impl<'p> Log<'p> {
    fn open(path: &'p Path, progress: &'p ProgressBar) -> anyhow::Result<Self> {
        let open = || match is_stdin(path) {
            true => unpack(io::stdin().lock()),
            false => unpack(progress.wrap_read(File::open(path)?)),
        };
        let mut log = Self { path, input: Box::new(io::empty()), begins: Timestamp::from_micros(i64::MAX) };
        log.input = open().with_context(|| format!("cannot read {}", log.name()))?;
        Ok(log)
    }

    fn name(&self) -> String {
        if is_stdin(self.path) { "standard input".to_owned() } else { format!("`{}`", self.path.display()) }
    }

    /// Finds out when the log begins: with the first of its first lines that has a time.
    fn look(&mut self, mut decoder: Decoder<'_>, now: Timestamp) {
        let mut head = Vec::new();
        // An error shows again behind what came before it.
        let read = self.input.by_ref().take(HEAD).read_to_end(&mut head);
        let times = head.split(|byte| *byte == b'\n').filter_map(|line| {
            let time = decoder.decode(Format::Line, &mut line.to_vec(), now).ok()?.time;
            (time != now).then_some(time)
        });
        self.begins = times.into_iter().next().unwrap_or(now);
        let rest = std::mem::replace(&mut self.input, Box::new(io::empty()));
        self.input = match read {
            Ok(_) => Box::new(Cursor::new(head).chain(rest)),
            Err(error) => Box::new(Cursor::new(head).chain(Broken(Some(error)))),
        };
    }
}

/// The end of a log that could not be read on.
struct Broken(Option<io::Error>);

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        self.0.take().map_or(Ok(0), Err)
    }
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// From this size on logs are worth a progress bar: shorter ones take less than half a second.
const LONG: u64 = 64 << 20;

/// How far the logs have been read: shown on stderr, if that is a terminal and they have this many bytes together.
fn progress(length: u64) -> ProgressBar {
    if length < LONG {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {percent}%  {bytes_per_sec}, {eta} left");
    ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// One configuration at work.
struct Run<'l> {
    loaded: &'l Loaded,
    engine: Engine<'l>,
    total: Tally,
    bans: Vec<Ban>,
}

impl<'l> Run<'l> {
    fn new(loaded: &'l Loaded, decoder: Decoder<'l>) -> Self {
        let engine = Engine::new(loaded.settings(), loaded.grammars.clone(), decoder);
        Self { loaded, engine, total: Tally::default(), bans: Vec::new() }
    }

    fn take(&mut self, records: &mut Records, now: Timestamp) {
        let report = self.engine.take(records, Clock::OfEntries(now), Unattested::Accept);
        self.total.add(report.tally);
        self.bans.extend(report.seen.decisions.iter().filter_map(|decision| match decision {
            Decision::Ban(ban) => Some(ban.clone()),
            Decision::Unban(_) => None,
        }));
    }

    fn summary(&self) -> Summary {
        let of = |(grammar, tally): (&Grammar, &GrammarTally)| {
            let counted = grammar.headings().iter().cloned().zip(tally.offences.iter().copied());
            let counted: BTreeMap<_, _> = counted.filter(|(_, times)| *times > 0).collect();
            (!counted.is_empty()).then(|| (grammar.name().to_owned(), counted))
        };
        let offenders: HashSet<_> = self.bans.iter().map(|ban| ban.offender).collect();
        Summary {
            lines: self.total.entries,
            bytes: self.total.bytes,
            foreign: self.total.foreign,
            malformed: self.total.malformed.iter().map(|(_, times)| times).sum(),
            offences: self.loaded.grammars.iter().zip(&self.total.grammars).filter_map(of).collect(),
            bans: self.bans.len() as u64,
            offenders: offenders.len() as u64,
        }
    }
}
