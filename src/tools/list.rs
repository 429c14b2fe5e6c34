//! `banstream import list`: bans the addresses of a list.
//!
//! The whole list is read and judged before anything is done. Of each ban it keeps 48 bytes, and each reason once.

mod changes;
mod line;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write, stdin};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, ensure};
use serde::Serialize;

pub use self::changes::{ListedAddress, ListedChanges, changes};
pub use self::line::BanDetails;
use self::line::{ListForm, ListLine, ListedEnd, is_blank};
use super::offline::ended_well;
use crate::config::load;
use crate::config::widest;
use crate::control::{BanLength, TakenCounts};
use crate::daemon::{self, BansTarget};
use crate::detect::{Exemption, ExemptionList, LIST};
use crate::model::{Ban, BanOrigin, BanTerms, Mode, Offender, Port, Prefixes, Timestamp, count, plain};

/// What `import list` is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListOptions {
    /// The list; `-` is stdin.
    pub file: PathBuf,
    /// How long those are banned of which the list does not say it.
    pub length: BanLength,
    /// The reason of those of which the list does not say it; the list's name if empty.
    pub reason: String,
    /// Whether to ban them.
    pub write: bool,
    /// Whether to go on without lines that are wrong.
    pub skip_wrong: bool,
    /// The address that the operator is logged in from, if that is known.
    pub operator: Option<IpAddr>,
    /// Whether to print JSON.
    pub json: bool,
}

/// What `import list --json` prints.
#[derive(Clone, Debug, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ListReport {
    /// The list; `-` is stdin.
    pub file: PathBuf,
    /// Its lines.
    pub lines: u64,
    /// The bans that it asks for.
    pub bans: u64,
    /// How many of them never end.
    pub forever: u64,
    /// How many IPv4 addresses they ban.
    pub ipv4_addresses: u64,
    /// Lines left out, because their address is in another line.
    pub duplicates: u64,
    /// Lines left out, because their address is private, and so could only be of a network of yours.
    pub private: u64,
    /// Lines left out, because the configuration exempts their address, or it is this host's own, or you are logged in from it.
    pub exempt: u64,
    /// Lines left out, because their time is over.
    pub over: u64,
    /// Lines left out, because they are not bans, by what they are instead, such as `captcha`.
    pub others: BTreeMap<String, u64>,
    /// Lines that are wrong.
    pub wrong: u64,
    /// Some of the lines that are wrong or left out, and why; the first 20 of each kind.
    pub notes: Vec<LineNote>,
    /// What became of the bans; `None` if nothing was done.
    pub taken: Option<TakenCounts>,
    /// Where they went; `None` if nothing was done.
    pub to: Option<BansTarget>,
}

/// What there is to say of a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LineNote {
    /// Its number, from 1.
    pub line: u64,
    /// What became of it.
    pub kind: LineFate,
    /// Why.
    pub why: String,
}

/// What became of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum LineFate {
    /// It is wrong.
    Wrong,
    /// Its address is in another line.
    Duplicate,
    /// Its address is private.
    Private,
    /// Its address is exempt.
    Exempt,
}

/// How many lines of each kind are named.
const MOST_NOTES: usize = 20;
/// How many that are not wrong are printed.
const MOST_SHOWN: usize = 5;
/// How many bans a list may ask for.
const MOST_BANS: usize = 4_000_000;
/// How many different reasons are kept; bans with others have the general one.
const MOST_REASONS: usize = 65_536;
/// How many bytes of a reason are kept.
const LONGEST_REASON: usize = 200;
/// How many bytes a line may have.
const LONGEST_LINE: u64 = 1 << 16;
/// How many kinds of what is not a ban are told apart.
const MOST_OTHERS: usize = 20;

/// Addresses that are never those of a stranger on the internet (RFC 1918, 6598, 1122, 3927, 4193, 4291).
const PRIVATE: [&str; 10] = [
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "0.0.0.0/8",
    "::/127",
    "fc00::/7",
    "fe80::/10",
];

/// Reads a list, prints what it asks for, and bans it if it is told to. Whether no line is wrong.
///
/// # Errors
///
/// The configuration is wrong, the list cannot be read, or its bans cannot be taken over.
pub fn run(
    config: Option<&Path>,
    options: &ListOptions,
    now: Timestamp,
    mut output: impl Write,
) -> anyhow::Result<bool> {
    let loaded = load::load(config)?;
    let file = options.file.as_path();
    let mut list = BanList::new(options, now, daemon::exemptions(&loaded));
    list.read(open(file)?).with_context(|| format!("cannot read `{}`", file.display()))?;
    list.unite();
    let is_sound = list.report.wrong == 0 || options.skip_wrong;
    if options.write && is_sound && !list.entries.is_empty() {
        let (taken, to) = daemon::take_over(list.bans(), &loaded, now)?;
        (list.report.taken, list.report.to) = (Some(taken), Some(to));
    }
    let text = match options.json {
        true => serde_json::to_string(&list.report)? + "\n",
        false => text(&list.report, options, &loaded.config.state_directory),
    };
    ended_well(output.write_all(text.as_bytes()).and_then(|()| output.flush()))?;
    Ok(is_sound)
}

/// A list; `-` is stdin.
fn open(file: &Path) -> anyhow::Result<Box<dyn BufRead>> {
    if file == Path::new("-") {
        return Ok(Box::new(stdin().lock()));
    }
    let about = || format!("cannot read `{}`", file.display());
    // A named pipe would have us wait for its writer.
    let kind = std::fs::metadata(file).with_context(about)?.file_type();
    ensure!(kind.is_file(), "`{}` is not a regular file; `-` reads stdin", file.display());
    let open = File::open(file).with_context(about)?;
    Ok(Box::new(BufReader::new(open)))
}

/// Reads the lines of a list that are not blank: `take` gets the number of each, and what it says or why it is wrong. How
/// many lines there are.
fn read_lines(
    mut input: impl BufRead,
    mut take: impl FnMut(u64, Result<ListLine<'_>, String>) -> anyhow::Result<()>,
) -> anyhow::Result<u64> {
    let (mut lines, mut form, mut bytes) = (0, None, Vec::new());
    loop {
        bytes.clear();
        let read = input.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut bytes)? as u64;
        if read == 0 {
            return Ok(lines);
        }
        lines += 1;
        ensure!(
            bytes.ends_with(b"\n") || read < LONGEST_LINE,
            "line {lines} is longer than {LONGEST_LINE} bytes"
        );
        let line = String::from_utf8_lossy(&bytes);
        let line = line.trim_start_matches('\u{feff}').trim_end();
        if is_blank(line) {
            continue;
        }
        let form = match &form {
            Some(form) => form,
            None => {
                let found = ListForm::of(line).map_err(anyhow::Error::msg);
                let found = found.with_context(|| format!("line {lines}"))?;
                let is_heading = found != ListForm::Plain;
                let form = form.insert(found);
                if is_heading {
                    continue;
                }
                form
            }
        };
        take(lines, form.read(line))?;
    }
}

/// A list that is being read.
struct BanList<'o> {
    options: &'o ListOptions,
    now: Timestamp,
    private: Prefixes<()>,
    exempt: Prefixes<ExemptionList>,
    entries: Vec<ListEntry>,
    /// The general one is the first.
    reasons: Vec<Arc<str>>,
    known: HashMap<Arc<str>, u32>,
    report: ListReport,
}

/// A ban that the list asks for.
struct ListEntry {
    offender: Offender,
    /// Of 32 bits, so that an entry stays small: a list of more lines is too long.
    reason: u32,
    line: u64,
    until: Option<Timestamp>,
}

impl<'o> BanList<'o> {
    fn new(options: &'o ListOptions, now: Timestamp, exempt: Vec<(Offender, ExemptionList)>) -> Self {
        let name = options.file.file_name().map_or_else(Default::default, |name| name.to_string_lossy());
        let general = match options.reason.as_str() {
            "" if name == "-" => "list".to_owned(),
            "" => format!("list {name}"),
            reason => reason.to_owned(),
        };
        Self {
            options,
            now,
            private: Prefixes::new(PRIVATE.iter().filter_map(|prefix| Some((prefix.parse().ok()?, ())))),
            exempt: Prefixes::new(exempt),
            entries: Vec::new(),
            reasons: vec![clipped(&general, LONGEST_REASON).into()],
            known: HashMap::new(),
            report: ListReport { file: options.file.clone(), ..ListReport::default() },
        }
    }

    fn read(&mut self, input: impl BufRead) -> anyhow::Result<()> {
        let take = |number, line: Result<ListLine<'_>, String>| {
            self.report.lines = number;
            match line {
                Ok(line) => self.take(line),
                Err(why) => self.wrong(why),
            }
            ensure!(self.entries.len() <= MOST_BANS, "it asks for more than {MOST_BANS} bans");
            Ok(())
        };
        let lines = read_lines(input, take)?;
        self.report.lines = lines;
        Ok(())
    }

    fn take(&mut self, line: ListLine<'_>) {
        let (offender, end, reason) = match line {
            ListLine::Other(what) => {
                let others = &mut self.report.others;
                let is_new = !others.contains_key(&what) && others.len() >= MOST_OTHERS;
                let what = if is_new { "others".to_owned() } else { plain(what) };
                return *others.entry(what).or_default() += 1;
            }
            // Whatever else the ban had where it comes from, here it is one of a list.
            ListLine::Ban { offender, end, reason, .. } => (offender, end, reason),
        };
        let widest = widest(offender);
        if offender.prefix() < widest {
            return self.wrong(format!("{offender} is wider than /{widest}"));
        }
        if let Some((private, ())) = self.private.overlapping(offender) {
            self.report.private += 1;
            return self.note(LineFate::Private, format!("{offender}: {private} is private"));
        }
        if let Some((exempt, list)) = self.exempt.overlapping(offender) {
            self.report.exempt += 1;
            let by = Exemption::Listed(exempt, list);
            return self.note(LineFate::Exempt, format!("{offender}: {by}"));
        }
        if let Some(operator) = self.options.operator.filter(|who| offender.contains(Offender::single(*who)))
        {
            self.report.exempt += 1;
            let force = format!("`banstream ban {offender} --force` bans it all the same");
            let why = format!("{offender}: you are logged in from {operator}; {force}");
            return self.note(LineFate::Exempt, why);
        }
        let until = match end {
            ListedEnd::Unsaid => self.options.length.0.map(|span| self.now + span),
            ListedEnd::After(span) => Some(self.now + span),
            ListedEnd::At(at) => Some(at),
            ListedEnd::Over => Some(self.now),
            ListedEnd::Never => None,
        };
        if until.is_some_and(|until| until <= self.now) {
            self.report.over += 1;
            return;
        }
        let reason = self.reason(&reason);
        self.entries.push(ListEntry { offender, reason, line: self.report.lines, until });
    }

    /// The number of a reason.
    fn reason(&mut self, text: &str) -> u32 {
        let text = clipped(text, LONGEST_REASON);
        if let Some(known) = self.known.get(&*text) {
            return *known;
        }
        if text.is_empty() || self.reasons.len() >= MOST_REASONS {
            return 0;
        }
        let (text, number): (Arc<str>, _) = (text.into(), self.reasons.len() as u32);
        self.reasons.push(Arc::clone(&text));
        self.known.insert(text, number);
        number
    }

    fn wrong(&mut self, why: String) {
        self.report.wrong += 1;
        self.note(LineFate::Wrong, why);
    }

    fn note(&mut self, kind: LineFate, why: String) {
        self.note_line(self.report.lines, kind, why);
    }

    fn note_line(&mut self, line: u64, kind: LineFate, why: String) {
        if self.report.notes.iter().filter(|note| note.kind == kind).count() < MOST_NOTES {
            self.report.notes.push(LineNote { line, kind, why });
        }
    }

    /// Leaves of each address the ban that ends last.
    fn unite(&mut self) {
        let mut entries = std::mem::take(&mut self.entries);
        // Those without an end come first.
        entries.sort_unstable_by_key(|entry| (entry.offender, Reverse(last(entry.until)), entry.line));
        let mut kept: Vec<ListEntry> = Vec::with_capacity(entries.len());
        for entry in entries {
            match kept.last().filter(|kept| kept.offender == entry.offender) {
                Some(kept) => {
                    self.report.duplicates += 1;
                    let why = format!("{} is in line {} too", entry.offender, kept.line);
                    self.note_line(entry.line, LineFate::Duplicate, why);
                }
                None => kept.push(entry),
            }
        }
        self.report.bans = kept.len() as u64;
        self.report.forever = kept.iter().filter(|entry| entry.until.is_none()).count() as u64;
        // They are sorted: what a prefix holds follows it.
        let mut end = 0_u64;
        for entry in &kept {
            let IpAddr::V4(first) = entry.offender.address() else { continue };
            let first = u64::from(first.to_bits());
            let last = first + (1_u64 << (32 - u32::from(entry.offender.prefix()).min(32)));
            self.report.ipv4_addresses += last.saturating_sub(first.max(end));
            end = end.max(last);
        }
        self.entries = kept;
    }

    fn bans(&self) -> impl Iterator<Item = Ban> {
        let (kind, mode, ports): (_, _, Arc<[Port]>) = (BanOrigin::Manual, Mode::Enforce, [].into());
        let jail: Arc<str> = LIST.into();
        let terms = |reason: &Arc<str>| {
            let (jail, ports, reason) = (Arc::clone(&jail), Arc::clone(&ports), Arc::clone(reason));
            Arc::new(BanTerms { jail, kind, mode, ports, reason })
        };
        let terms: Vec<Arc<BanTerms>> = self.reasons.iter().map(terms).collect();
        let ban = move |entry: &ListEntry| {
            let terms = Arc::clone(terms.get(entry.reason as usize)?);
            Some(Ban { offender: entry.offender, times: 1, since: self.now, until: entry.until, terms })
        };
        self.entries.iter().filter_map(ban)
    }
}

/// When a ban ends, as something to compare.
fn last(until: Option<Timestamp>) -> Timestamp {
    until.unwrap_or(Timestamp::MAX)
}

/// The beginning of a reason, without what a terminal would obey.
fn clipped(text: &str, longest: usize) -> String {
    let mut text = plain(text.trim());
    while text.len() > longest {
        text.pop();
    }
    text
}

/// The report, for people.
fn text(report: &ListReport, options: &ListOptions, directory: &Path) -> String {
    let file = plain(report.file.to_string_lossy().as_bytes());
    let mut text = format!("{file}: {} in {}", count(report.bans, "ban"), count(report.lines, "line"));
    if report.forever > 0 {
        text += &format!(", {} of them forever", report.forever);
    }
    text += "\n";
    let share = report.ipv4_addresses * 100 / (1 << 32);
    if share > 0 {
        text += &format!("they ban {share} % of all IPv4 addresses\n");
    }
    let others = report.others.iter().map(|(what, lines)| (what.as_str(), *lines));
    let kinds = [
        ("duplicate", report.duplicates),
        ("private", report.private),
        ("exempt", report.exempt),
        ("over", report.over),
    ];
    let left: Vec<String> = kinds
        .into_iter()
        .chain(others)
        .filter(|(_, lines)| *lines > 0)
        .map(|(what, lines)| format!("{lines} {what}"))
        .collect();
    if !left.is_empty() {
        text += &format!("left out: {}\n", left.join(", "));
    }
    let named = |kind, most| {
        let notes = report.notes.iter().filter(|note| note.kind == kind).take(most);
        notes.map(|note| format!("{file}:{}: {}\n", note.line, plain(&note.why))).collect::<String>()
    };
    for kind in [LineFate::Duplicate, LineFate::Private, LineFate::Exempt] {
        text += &named(kind, MOST_SHOWN);
    }
    if report.wrong > 0 {
        let lines = named(LineFate::Wrong, MOST_NOTES);
        text += &format!("wrong: {}\n{lines}", count(report.wrong, "line"));
    }
    let command = format!("banstream import list --write {file}");
    match (&report.taken, report.to) {
        (Some(taken), Some(to)) => {
            let to = match to {
                BansTarget::Ledger => format!("the ledger in `{}`", directory.display()),
                BansTarget::Daemon => "the running daemon".to_owned(),
            };
            text += &format!("taken over into {to}: {taken}\n");
            for one in taken.examples.iter().take(MOST_SHOWN) {
                text += &format!("{}: {}\n", one.address, plain(&one.why));
            }
            text += "`banstream unban --jail list` lifts all bans of lists\n";
        }
        _ if report.wrong > 0 && !options.skip_wrong => {
            text += "nothing was done; `--skip-wrong` goes on without the wrong lines\n";
        }
        _ if report.bans == 0 => text += "nothing to do\n",
        _ => text += &format!("nothing was done; `{command}` bans them\n"),
    }
    text
}
