//! `grammar new`: a grammar from sample lines, and how to try it.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::{decoder, ended_well, warn};
use crate::entry::Format;
use crate::grammar::{self, Proposal, glob};
use crate::input::stdin;
use crate::model::{Timestamp, count, plain};

/// What to propose a grammar for, and where to write it.
#[derive(Debug)]
pub struct NewGrammar {
    /// The programs that wrote the lines; where there are none, what the lines themselves say.
    pub programs: Vec<String>,
    /// The file; stdout where there is none.
    pub output: Option<PathBuf>,
    /// Whether a file that exists may be replaced.
    pub force: bool,
    /// The time of a line without one.
    pub now: Timestamp,
}

/// A line: its program, and what it says.
type SampleLine = (String, Vec<u8>);

impl NewGrammar {
    /// Writes the grammar that the lines of `input` suggest, and tells on stderr what did not go into it. Whether the most
    /// frequent lines have a rule.
    ///
    /// # Errors
    ///
    /// The input cannot be read or the output not written, or the lines do not say which program wrote them.
    pub fn write(self, input: impl Read, mut stdout: impl Write) -> anyhow::Result<bool> {
        if let Some(path) = self.output.as_ref().filter(|path| path.exists() && !self.force) {
            bail!("`{}` exists; give --force to replace it", path.display());
        }
        let lines = self.read(input)?;
        let programs = self.patterns(&lines)?;
        let (own, others): (Vec<&SampleLine>, Vec<&SampleLine>) =
            lines.iter().partition(|line| is_of(&programs, &line.0));
        let proposal = grammar::propose(&programs.join(" "), own.iter().map(|line| line.1.as_slice()));
        tell(&proposal, &others);
        let named = programs.join("` or `");
        let Some(text) = &proposal.text else {
            warn(format_args!("no line of `{named}` has an address, so there is nothing to propose"));
            return Ok(false);
        };
        if proposal.rules == 0 {
            let why =
                if proposal.refused > 0 { "each rule was refused" } else { "no line reports a failure" };
            warn(format_args!(
                "{why}, so there is no grammar; write one by hand, beginning with this:\n{text}"
            ));
            return Ok(false);
        }
        match &self.output {
            Some(path) => create(path, text, self.force)?,
            None => drop(ended_well(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()))?),
        }
        if let Some((lines, why)) = &proposal.main_refused {
            warn(format_args!(
                "the most frequent lines ({}) have no rule, since it was refused: {why}\n\
                 write it by hand, with free text on one side of the address only: it is a comment in the grammar",
                count(*lines, "line")
            ));
        }
        let program = programs.first().map_or("app", String::as_str);
        let name = match self.output.as_deref().and_then(Path::file_stem) {
            Some(stem) => stem.to_string_lossy().into_owned(),
            None => program.split(['(', '/', '*']).next().unwrap_or_default().to_owned(),
        };
        let file = self.output.unwrap_or_else(|| PathBuf::from(format!("{name}.grammar")));
        warn(format_args!(
            "to try it: cp {} /etc/banstream/grammars/, then: banstream explain --program '{program}' < LOG\n\
             to ban by it: printf '[jail.{name}]\\ngrammars = [\"{name}\"]\\n' > /etc/banstream/banstream.d/{name}.toml",
            file.display()
        ));
        Ok(proposal.main_refused.is_none())
    }

    fn read(&self, input: impl Read) -> anyhow::Result<Vec<SampleLine>> {
        let (mut decoder, mut lines) = (decoder(self.programs.first().map(String::as_str)), Vec::new());
        stdin::read(input, |records, _| {
            records.whole().for_each(|record| match decoder.decode(Format::Line, record, self.now) {
                Ok(entry) if entry.message.is_empty() => {}
                Ok(entry) => lines.push((plain(entry.program), entry.message.to_vec())),
                Err(_) => lines.push((String::new(), Vec::new())),
            });
            ControlFlow::Continue(())
        })
        .context("cannot read stdin")?;
        Ok(lines)
    }

    /// The programs to propose for: those that were named, or else those whose lines report a failure.
    fn patterns(&self, lines: &[SampleLine]) -> anyhow::Result<Vec<String>> {
        let names: BTreeSet<&str> =
            lines.iter().map(|line| &*line.0).filter(|name| !name.is_empty()).collect();
        if !self.programs.is_empty() {
            let wanted = |program: &String| {
                // It may write under names with a part that varies.
                let read = names.iter().any(|name| glob(program.as_bytes(), name.as_bytes()));
                let site = format!("{program}(*)");
                let part = format!("{program}/*");
                let found = [site, part].into_iter().find(|pattern| {
                    !read && names.iter().any(|name| glob(pattern.as_bytes(), name.as_bytes()))
                });
                if let Some(pattern) = &found {
                    warn(format_args!("`{program}` writes under other names, so this is for `{pattern}`"));
                }
                found.unwrap_or_else(|| program.clone())
            };
            return Ok(self.programs.iter().map(wanted).collect());
        }
        let failing =
            |name: &&str| lines.iter().any(|line| line.0 == **name && grammar::tells_of_failure(&line.1));
        let some: Vec<&str> = names.iter().copied().filter(failing).collect();
        let names = if some.is_empty() { names.into_iter().collect() } else { some };
        if names.is_empty() {
            bail!("no line has a syslog header; say with --program NAME which program wrote the lines");
        }
        let mut patterns: Vec<String> = names.iter().map(|name| pattern(name, &names)).collect();
        patterns.dedup();
        warn(format_args!(
            "for the program{} {}",
            if patterns.len() > 1 { "s" } else { "" },
            patterns.join(" ")
        ));
        Ok(patterns)
    }
}

/// The name, with a `*` for a part that varies: the site in `wordpress(www.example.org)`, and the rest of
/// `postfix/smtpd` where there are other such names.
fn pattern(name: &str, names: &[&str]) -> String {
    if let Some((front, _)) =
        name.split_once('(').filter(|(front, _)| !front.is_empty() && name.ends_with(')'))
    {
        return format!("{front}(*)");
    }
    let family = |name: &str| name.split_once('/').map(|(front, _)| format!("{front}/"));
    match family(name) {
        Some(front) if names.iter().filter(|name| name.starts_with(&front)).count() > 1 => {
            format!("{front}*")
        }
        _ => name.to_owned(),
    }
}

fn is_of(patterns: &[String], program: &str) -> bool {
    patterns.iter().any(|pattern| glob(pattern.as_bytes(), program.as_bytes()))
}

/// Tells what did not go into the grammar.
fn tell(proposal: &Proposal, others: &[&SampleLine]) {
    let whose: BTreeSet<&str> = others.iter().map(|line| &*line.0).collect();
    let whose: Vec<&str> =
        whose.into_iter().map(|name| if name.is_empty() { "(no header)" } else { name }).collect();
    let others_are = format!("of other programs: {}", whose.join(" "));
    let left_out = [
        ("left out", others.len() as u64, "line", &*others_are),
        ("left out", proposal.without_address, "line", "without an address of a client"),
        ("left out", proposal.unwritable, "line", "too long or not plain text"),
        ("left out", proposal.left_out, "kind", "of lines that are rarer"),
        ("kept", proposal.harmless, "line", "without a word of failure as tests for `-`"),
        ("refused", proposal.refused, "rule", "(kept as comments)"),
        ("not covered by these rules:", proposal.unread, "line", "(`banstream explain` shows why)"),
    ];
    let left_out = left_out.iter().filter(|(_, times, ..)| *times > 0);
    left_out.for_each(|(what, times, noun, which)| {
        warn(format_args!("{what} {} {which}", count(*times, noun)));
    });
}

/// Writes the file.
fn create(path: &Path, text: &str, force: bool) -> anyhow::Result<()> {
    let mut options = OpenOptions::new();
    let options = if force {
        options.write(true).create(true).truncate(true)
    } else {
        options.write(true).create_new(true)
    };
    let written = options.open(path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.with_context(|| format!("cannot write `{}`", path.display()))
}
