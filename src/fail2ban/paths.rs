//! The log files of a jail: whose lines they hold, and which of them rsyslog is to read.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;

use glob::Pattern;

use super::daemons;
use super::filter::FilterRegexes;
use super::jails::{JailMaker, JailTexts};
use super::library::LineOrigin;
use super::plan::ImportedJail;
use super::read::Fail2banJail;
use crate::grammar::{Grammar, SHIPPED};
use crate::tools::setup::SYSLOG_FILES;

/// What the names of programs begin with that nobody knows.
const UNKNOWN: &str = "f2b-";

impl<'g> JailMaker<'g> {
    /// Whose lines the filter reads.
    pub(super) fn origin(&self, jail: &Fail2banJail, filter: &FilterRegexes) -> LineOrigin {
        let is_journal = jail.options.get("backend").is_some_and(|backend| backend.starts_with("systemd"));
        let files = own_files(jail);
        let is_file = !is_journal && !files.is_empty();
        let (mut units, mut users) = (Vec::new(), Vec::new());
        let mut programs = if is_file { Vec::new() } else { daemons::named(&filter.daemon) };
        for terms in filter.journal.iter().flat_map(|line| line.split([' ', '+'])) {
            let Some((key, value)) = terms.trim_matches(['"', '\'']).split_once('=') else { continue };
            match key {
                "SYSLOG_IDENTIFIER" | "_COMM" if !is_file => programs.push(value.to_owned()),
                "_SYSTEMD_UNIT" if !is_file => units.push(value.to_owned()),
                _ => {}
            }
        }
        if is_file {
            programs.extend(files.iter().map(|file| self.program_of(file)));
        }
        programs.sort();
        programs.dedup();
        // Who may write a program's lines is known where a grammar of ours reads them.
        for program in &programs {
            let program = program.replace('*', "x");
            let readers = self.grammars.readers(program.as_bytes());
            let mut shipped =
                readers.filter_map(|id| self.grammars.get(id)).filter(|grammar| !grammar.reads_all());
            if let Some(grammar) = shipped.next() {
                units.extend_from_slice(grammar.units());
                users.extend_from_slice(grammar.users());
            }
        }
        for names in [&mut units, &mut users] {
            names.sort();
            names.dedup();
        }
        LineOrigin { programs, units, users, is_file }
    }

    /// The program under whose name the lines of a file are read. All jails that read a file share it: rsyslog gives a file to
    /// one input only.
    pub(super) fn program_of(&self, file: &str) -> String {
        self.shared.get(file).cloned().or_else(|| self.server_of(file)).unwrap_or_else(|| {
            let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
            let path = file.strip_prefix("/var/log").unwrap_or(file).trim_start_matches('/');
            let path: String = path.trim_end_matches(".log").chars().map(plain).collect();
            format!("{UNKNOWN}{}", path.trim_matches('-'))
        })
    }

    /// The shipped grammar that reads a file.
    pub(super) fn grammar_of(&self, file: &str) -> Option<&'g Grammar> {
        self.grammars.iter().find(|grammar| grammar.logs().iter().any(|log| covers(log, file)))
    }

    /// The name and the text of the grammar that reads a file, if that is an access log.
    pub(super) fn access_log_of(&self, file: &str) -> Option<(&'static str, &'static str)> {
        let name = self.grammar_of(file)?.name();
        let has_shape = |text: &str| {
            text.contains("\nshape access:\n") && text.contains("\"<request:quoted>\" <status:num>")
        };
        SHIPPED.iter().find(|(known, text)| *known == name && has_shape(text)).copied()
    }

    /// The program whose lines stand in a file, by our grammars.
    pub(super) fn server_of(&self, file: &str) -> Option<String> {
        let grammar = self.grammar_of(file).or_else(|| self.forged(file, &[]))?;
        grammar.programs().iter().find(|program| !program.contains('*')).cloned()
    }

    /// Lets the jail watch the grammars that read its files, where it watches another server's by its filter.
    pub(super) fn watch_files(&self, jail: &Fail2banJail, imported: &mut ImportedJail) {
        for grammar in own_files(jail).iter().filter_map(|file| self.grammar_of(file)) {
            let counts = |offence: &String| grammar.categories().contains(offence);
            if !imported.grammars.iter().any(|name| name == grammar.name())
                && imported.offences.iter().any(counts)
            {
                imported.grammars.push(grammar.name().to_owned());
            }
        }
    }

    /// What rsyslog is to read for the jail.
    pub(super) fn logs(&self, jail: &Fail2banJail, texts: &mut JailTexts) {
        let files = own_files(jail);
        if jail.options.get("backend").is_some_and(|backend| backend.starts_with("systemd"))
            || files.is_empty()
        {
            return;
        }
        for grammar in texts
            .imported
            .grammars
            .iter()
            .filter_map(|name| self.grammars.iter().find(|known| known.name() == *name))
        {
            let Some(program) = grammar.programs().iter().find(|program| !program.contains('*')) else {
                continue;
            };
            let logs: Vec<&String> = grammar.logs().iter().filter(|log| *log != "journal").collect();
            let known: Vec<String> =
                files.iter().filter(|file| logs.iter().any(|log| covers(log, file))).cloned().collect();
            let in_journal =
                grammar.logs().iter().any(|log| log == "journal") && (self.in_journal)(grammar.programs());
            match (known.is_empty(), in_journal, logs.is_empty()) {
                (false, ..) => texts.inputs.extend(known.into_iter().map(|file| (file, program.clone()))),
                (true, true, _) => {
                    texts.imported.in_journal = true;
                    texts
                        .imported
                        .notes
                        .push(format!("its lines come from the journal, not from {}", files.join(", ")));
                }
                // Another log of the same server, such as its error log.
                (true, false, false)
                    if files.iter().any(|file| logs.iter().any(|log| folder(log) == folder(file))) =>
                {
                    let logs: Vec<String> = logs
                        .iter()
                        .filter(|log| !SYSLOG_FILES.contains(&log.as_str()))
                        .map(|log| (*log).clone())
                        .collect();
                    texts.imported.notes.push(format!("reads {}, not {}", logs.join(", "), files.join(", ")));
                    texts.inputs.extend(logs.into_iter().map(|log| (log, program.clone())));
                }
                (true, false, _) => texts.inputs.extend(files.iter().map(|file| {
                    // One that another server writes is read under its name.
                    (file.clone(), self.server_of(file).unwrap_or_else(|| program.clone()))
                })),
            }
        }
    }
}

/// The programs of files that are read under made names for one jail and under others for another: a server's, or that of a
/// pattern which the file matches.
pub(super) fn shared(all: &[JailTexts]) -> BTreeMap<String, String> {
    let inputs = || all.iter().flat_map(|texts| &texts.inputs);
    let is_made = |program: &str| program.starts_with(UNKNOWN);
    let shared = |(file, program): &(String, String)| {
        let others = || inputs().filter(|(_, other)| other != program);
        let of_server = others().find(|(other, its)| other == file && !is_made(its));
        let of_pattern =
            || others().find(|(other, _)| other != file && covers(other, file) && !covers(file, other));
        of_server.or_else(of_pattern).map(|(_, its)| (file.clone(), its.clone()))
    };
    inputs().filter(|(_, program)| is_made(program)).filter_map(shared).collect()
}

/// The log files of a jail that no log daemon writes, which may hold `*`.
pub(super) fn own_files(jail: &Fail2banJail) -> Vec<String> {
    let is_own = |path: &&str| !SYSLOG_FILES.contains(path) && is_plain(path);
    log_paths(jail).filter(is_own).map(str::to_owned).collect()
}

/// What a jail has for paths that cannot be written into rsyslog's configuration, or are several in a line.
pub(super) fn refused_paths(jail: &Fail2banJail) -> impl Iterator<Item = &str> {
    let is_journal = jail.options.get("backend").is_some_and(|backend| backend.starts_with("systemd"));
    lines(jail).filter(move |path| !(is_journal || path.starts_with('/') && is_plain(path)))
}

fn is_plain(path: &str) -> bool {
    !path.contains(['"', '\\', '\t']) && !path.contains(" /")
}

/// The log files of a jail, which may hold `*`.
pub(super) fn log_paths(jail: &Fail2banJail) -> impl Iterator<Item = &str> {
    lines(jail).filter(|path| path.starts_with('/'))
}

fn lines(jail: &Fail2banJail) -> impl Iterator<Item = &str> {
    let text = jail.options.get("logpath").map(String::as_str).unwrap_or_default();
    let paths =
        text.lines().map(|line| line.trim().trim_end_matches(" tail").trim_end_matches(" head").trim());
    paths.filter(|path| !path.is_empty())
}

/// The folder of a file.
fn folder(file: &str) -> &str {
    file.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// Whether files of one pattern are files of another.
pub(super) fn covers(log: &str, file: &str) -> bool {
    log == file || Pattern::new(log).is_ok_and(|pattern| pattern.matches(&file.replace('*', "x")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_jails_share_has_the_name_of_its_server() {
        let texts = |inputs: &[(&str, &str)]| JailTexts {
            inputs: inputs
                .iter()
                .map(|(file, program)| ((*file).to_owned(), (*program).to_owned()))
                .collect(),
            ..JailTexts::default()
        };
        let own = texts(&[("/srv/v.log", "f2b-srv-v"), ("/srv/w.log", "f2b-srv-w")]);
        let ours = texts(&[("/srv/v.log", "vaultwarden"), ("/srv/u.log", "vsftpd")]);
        let pattern =
            texts(&[("/opt/*.log", "f2b-opt"), ("/opt/a.log", "f2b-opt-a"), ("/opt/b", "f2b-opt-b")]);
        let want = [("/opt/a.log", "f2b-opt"), ("/srv/v.log", "vaultwarden")];
        let got = shared(&[own, ours, pattern]);
        let got: Vec<_> = got.iter().map(|(file, program)| (&**file, &**program)).collect();
        assert_eq!(got, want);
    }
}
