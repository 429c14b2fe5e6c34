//! `replay`: who would have been banned. It runs the whole engine over logs of any size: files, also rotated and
//! compressed ones, a pipe, or the journal. It changes neither kernel nor ledger.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufWriter, Cursor, Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::compare::{Deviation, compare};
use super::unread::{UnreadLines, UnreadProgram};
use super::{decoder, ended_well, to_json, warn, warn_of};
use crate::config::JournalLocation;
use crate::config::load::Loaded;
use crate::control::{BanLine, TemplateStatus, UnmatchedStatus};
use crate::engine::{Clock, Engine, GrammarTally, LOOKED_AT, Tally, Unattested};
use crate::entry::records::Records;
use crate::entry::{Decoder, Format};
use crate::grammar::{Grammar, Grammars};
use crate::input::journald::{self, Journal};
use crate::input::stdin;
use crate::input::unpack::unpack;
use crate::model::{Ban, Decision, Mode, Offender, Timestamp, count};
use crate::tools::terminal::local;

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
    /// What to compare it with, if anything.
    pub against: Option<&'l Loaded>,
    /// Whose message a line is that does not say.
    pub program: Option<&'l str>,
    /// Whether to print JSON.
    pub json: bool,
    /// The time of lines that have none.
    pub now: Timestamp,
}

/// A ban as `replay` prints it.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ReplayedBan {
    /// When it was decided, by the log's clock.
    time: String,
    #[serde(flatten)]
    ban: BanLine,
    /// When somebody logged in from there last, before or after: then the ban may be wrong.
    login: Option<String>,
}

/// What a replay came to.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Summary {
    /// Lines read.
    lines: u64,
    /// Their bytes.
    bytes: u64,
    /// Lines of programs that no grammar reads.
    ignored: u64,
    /// Those programs, the one with most lines first; 1,000 at most.
    unread: Vec<UnreadProgram>,
    /// Lines that name an address and match no rule, by grammar.
    unmatched: Vec<UnmatchedStatus>,
    /// Lines that no message could be read from.
    malformed: u64,
    /// By grammar and offence.
    offences: BTreeMap<String, BTreeMap<String, u64>>,
    /// Bans decided.
    bans: u64,
    /// How many offenders were banned.
    offenders: u64,
    /// Of these, those from where somebody also logged in.
    logged_in: u64,
    /// What another configuration comes to.
    #[serde(skip_serializing_if = "Option::is_none")]
    there: Option<AgainstSummary>,
}

/// What another configuration comes to.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct AgainstSummary {
    /// Bans that it decides.
    bans: u64,
    /// How many offenders it bans.
    offenders: u64,
    /// Of these, those from where somebody also logged in.
    logged_in: u64,
    /// Offenders that it treats differently, by difference.
    changes: BTreeMap<Deviation, u64>,
}

impl Replay<'_> {
    /// Runs the whole detector over logs, by the logs' own clock; prints who would have been banned, and a summary.
    /// Another configuration is run as well; then the differences are printed.
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
        let mut run = ReplayRun::new(self.loaded, decoder.clone());
        let mut other = self.against.map(|against| ReplayRun::new(against, decoder.clone()));
        let mut sink = |records: &mut Records| {
            // Decoding leaves nothing of them.
            if let Some(other) = &mut other {
                other.take(&mut records.clone(), self.now);
            }
            run.take(records, self.now)
        };
        let failures = match logs {
            Logs::Files(paths) => self.read_files(paths, decoder, sink)?,
            Logs::Journal { directory, since, until } => {
                let mut journal = Journal::of(self.loaded);
                self.against.into_iter().for_each(|other| journal.extend(Journal::of(other)));
                if let Some(directory) = directory {
                    journal.location = JournalLocation::Directory(directory.clone());
                }
                let grammars: Vec<&Grammars> = [Some(self.loaded), self.against]
                    .into_iter()
                    .flatten()
                    .map(|loaded| &*loaded.grammars)
                    .collect();
                let read = journald::read(&journal, &grammars, *since, *until, |records| _ = sink(records));
                read.err().into_iter().map(anyhow::Error::from).collect()
            }
        };
        run.warn_of_proxies();
        let mut output = BufWriter::new(output);
        let written = self.print(&mut run, other.as_mut(), &mut output).and_then(|()| output.flush());
        ended_well(written)?;
        match failures.into_iter().reduce(|one, other| anyhow::anyhow!("{one:#}\nerror: {other:#}")) {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }

    /// Reads the files, the oldest first, into `sink`, which returns the latest time so far; what could
    /// not be read to its end.
    fn read_files(
        &self,
        paths: &[PathBuf],
        decoder: Decoder<'_>,
        mut sink: impl FnMut(&mut Records) -> Timestamp,
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
        let (mut failures, mut latest) = (Vec::new(), Timestamp::from_micros(i64::MIN));
        for log in logs {
            if log.begins < latest {
                progress.suspend(|| {
                    warn(format_args!(
                        "warning: {} overlaps with the log before it; bans that end before that log does are not shown; \
                         replay it separately",
                        log.name()
                    ));
                });
            }
            let name = log.name();
            let read = stdin::read(log.input, |records, _| {
                latest = sink(records);
                ControlFlow::Continue(())
            });
            failures.extend(read.with_context(|| format!("cannot read {name}")).err());
        }
        progress.finish_and_clear();
        Ok(failures)
    }

    fn print(
        &self,
        run: &mut ReplayRun<'_>,
        other: Option<&mut ReplayRun<'_>>,
        output: &mut impl Write,
    ) -> io::Result<()> {
        let there = match other {
            Some(other) => Some(self.print_differences(run, other, output)?),
            None => None,
        };
        if there.is_none() {
            let detector = &*run.engine.detector();
            run.bans
                .iter()
                .try_for_each(|ban| self.print_ban(ban, detector.login_from(ban.offender), output))?;
        }
        let summary = run.summary(there);
        if self.json {
            return to_json(output, &BTreeMap::from([("summary", summary)]));
        }
        let sums = |bans, offenders, logged_in| {
            let doubt =
                if logged_in > 0 { format!("; {logged_in} of them also logged in") } else { String::new() };
            format!("{} of {}{doubt}", count(bans, "ban"), count(offenders, "offender"))
        };
        let bans = sums(summary.bans, summary.offenders, summary.logged_in);
        writeln!(output, "{}, {bans}", count(summary.lines, "line"))?;
        for (grammar, offences) in &summary.offences {
            let offences: Vec<String> =
                offences.iter().map(|(offence, times)| format!("{times} {offence}")).collect();
            writeln!(output, "{grammar}: {}", offences.join(", "))?;
        }
        run.unread.told().iter().try_for_each(|told| writeln!(output, "{told}"))?;
        print_unmatched(&summary.unmatched, output)?;
        let Some(there) = summary.there else { return Ok(()) };
        writeln!(output, "there: {}", sums(there.bans, there.offenders, there.logged_in))?;
        there.changes.iter().try_for_each(|(change, offenders)| writeln!(output, "{offenders} {change}"))
    }

    /// Prints the differences; returns the sums of the other.
    fn print_differences(
        &self,
        run: &ReplayRun<'_>,
        other: &mut ReplayRun<'_>,
        output: &mut impl Write,
    ) -> io::Result<AgainstSummary> {
        let mut changes = BTreeMap::new();
        for difference in compare(&run.bans, &other.bans) {
            difference.changes.iter().for_each(|change| *changes.entry(*change).or_default() += 1);
            match self.json {
                true => to_json(output, &difference)?,
                false => writeln!(output, "{difference}")?,
            }
        }
        let (offenders, logged_in) = other.offenders();
        Ok(AgainstSummary { bans: other.bans.len() as u64, offenders, logged_in, changes })
    }

    fn print_ban(&self, ban: &Ban, login: Option<Timestamp>, output: &mut impl Write) -> io::Result<()> {
        let login = login.map(|at| at.to_string());
        if self.json {
            let (time, ban) = (ban.since.to_string(), BanLine::new(ban, ban.since));
            return to_json(output, &ReplayedBan { time, ban, login });
        }
        let until = ban.until.map_or("forever".to_owned(), |until| format!("for {}", until.since(ban.since)));
        let observed = if ban.mode == Mode::Observe { ", observed" } else { "" };
        let login = login.map_or_else(String::new, |at| format!("; logged in at {}", local(&at)));
        let (Ban { since, offender, times, .. }, jail) = (ban, &ban.jail);
        writeln!(
            output,
            "{} ban {offender} {until} ({jail}, time {times}{observed}){login}",
            local(&since.to_string())
        )
    }
}

/// Forms of lines that match no rule that are printed.
const FORMS: usize = 5;

/// Prints what no rule knows, the most frequent first.
fn print_unmatched(unmatched: &[UnmatchedStatus], output: &mut impl Write) -> io::Result<()> {
    let mut forms: Vec<(&str, &TemplateStatus)> = unmatched
        .iter()
        .flat_map(|of| of.templates.iter().map(|template| (of.grammar.as_str(), template)))
        .collect();
    forms.sort_by_key(|(_, form)| std::cmp::Reverse(form.lines));
    for (grammar, form) in forms.iter().take(FORMS) {
        let lines = count(form.lines, "line");
        writeln!(output, "{grammar}: {lines} or more name an address and match no rule: {}", form.template)?;
    }
    let more = forms.len().saturating_sub(FORMS);
    if more > 0 {
        writeln!(output, "and {} of such lines; `--json` has them all", count(more as u64, "other form"))?;
    }
    Ok(())
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
        let mut log = Self { path, input: Box::new(io::empty()), begins: Timestamp::MAX };
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
            Err(error) => Box::new(Cursor::new(head).chain(FailedRead(Some(error)))),
        };
    }
}

/// The end of a log that could not be read on.
struct FailedRead(Option<io::Error>);

impl Read for FailedRead {
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

/// Batches that begin within so many lines are looked through, which takes 2 ms at most for what servers write.
const SHORT: u64 = 1000;

/// One configuration at work.
struct ReplayRun<'l> {
    loaded: &'l Loaded,
    engine: Engine<'l>,
    total: Tally,
    unread: UnreadLines,
    bans: Vec<Ban>,
}

impl<'l> ReplayRun<'l> {
    fn new(loaded: &'l Loaded, decoder: Decoder<'l>) -> Self {
        let engine = Engine::new(loaded.settings(), loaded.grammars.clone(), decoder);
        let engine = engine.telling_ignored().keeping_no_evidence();
        Self { loaded, engine, total: Tally::default(), unread: UnreadLines::default(), bans: Vec::new() }
    }

    /// Takes records, and returns the latest time so far.
    fn take(&mut self, records: &mut Records, now: Timestamp) -> Timestamp {
        // Of a short log all lines are looked at for what no rule knows.
        self.engine.look_at(if self.total.entries < SHORT { u64::MAX } else { LOOKED_AT });
        let report = self.engine.take(records, Clock::OfEntries(now), Unattested::Accept);
        self.total.add(report.tally);
        self.unread.count(report.ignored, &self.loaded.grammars);
        self.bans.extend(report.seen.decisions.into_iter().filter_map(|decision| match decision {
            Decision::Ban(ban) => Some(ban),
            Decision::Unban(_) => None,
        }));
        self.engine.latest()
    }

    /// Who is banned, and how many of them are such from where somebody logged in.
    fn offenders(&mut self) -> (u64, u64) {
        let offenders: BTreeSet<Offender> = self.bans.iter().map(|ban| ban.offender).collect();
        let detector = self.engine.detector();
        let logged_in = offenders.iter().filter(|offender| detector.login_from(**offender).is_some()).count();
        (offenders.len() as u64, logged_in as u64)
    }

    /// Warns of probable proxies: the log does not have their clients.
    fn warn_of_proxies(&self) {
        const FIX: &str = "let the server log the client's address (nginx: real_ip; Apache: mod_remoteip), or name the \
                           proxy in `trusted-proxies`";
        for (grammar, address) in self.engine.sole_clients() {
            let grammar = grammar.name();
            warn(format_args!(
                "warning: nearly all requests of {grammar} come from {address}, probably a proxy; {FIX}"
            ));
        }
        let private: BTreeSet<_> =
            self.bans.iter().map(|ban| ban.offender).filter(|it| it.is_private()).collect();
        if let Some(first) = private.first() {
            let more =
                if private.len() > 1 { format!(" and {} more", private.len() - 1) } else { String::new() };
            warn(format_args!("warning: bans of private addresses, probably proxies: {first}{more}; {FIX}"));
        }
    }

    fn summary(&mut self, there: Option<AgainstSummary>) -> Summary {
        let of = |(grammar, tally): (&Grammar, &GrammarTally)| {
            let counted = grammar.categories().iter().cloned().zip(tally.offences.iter().copied());
            let counted: BTreeMap<_, _> = counted.filter(|(_, times)| *times > 0).collect();
            (!counted.is_empty()).then(|| (grammar.name().to_owned(), counted))
        };
        let (offenders, logged_in) = self.offenders();
        Summary {
            lines: self.total.entries,
            bytes: self.total.bytes,
            ignored: self.total.ignored,
            unread: self.unread.programs(),
            unmatched: UnmatchedStatus::all(&self.engine),
            malformed: self.total.malformed.iter().map(|(_, times)| times).sum(),
            offences: self.loaded.grammars.iter().zip(&self.total.grammars).filter_map(of).collect(),
            bans: self.bans.len() as u64,
            offenders,
            logged_in,
            there,
        }
    }
}
