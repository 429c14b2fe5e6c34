//! Which of a jail's log files rsyslog may read: none in which clients can write whole lines, and none that a log daemon
//! writes, whose lines are messages that come anyway.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeSet;

use super::jails::{JailMaker, JailTexts};
use super::paths::own_files;
use super::read::Fail2banJail;
use crate::entry::{Decoder, Format};
use crate::grammar::Grammar;
use crate::model::Timestamp;
use crate::tools::forgeable::{forgeable, overlap, remedy};

/// What is known of log files and of those that write them.
#[derive(Clone, Copy)]
pub(super) struct LogFileFacts<'f> {
    /// The last lines of the files of a pattern.
    pub(super) last_lines: &'f dyn Fn(&str) -> Vec<Vec<u8>>,
    /// Whether rsyslog writes a file.
    pub(super) writes: &'f dyn Fn(&str) -> bool,
    /// Whether a server of these programs sends the log of its errors to syslog.
    pub(super) sends_errors: &'f dyn Fn(&[String]) -> bool,
}

/// A file that a log daemon writes: in the place of others, of which less is known.
const MESSAGES: &str = "/var/log/syslog";

impl<'g> JailMaker<'g> {
    /// The jail with the usual file of a log daemon in the place of others that one writes, with what is to be said of them.
    pub(super) fn with_messages(&self, jail: &Fail2banJail, texts: &mut JailTexts) -> Fail2banJail {
        let mut jail = jail.clone();
        for file in own_files(&jail) {
            if (self.files.writes)(&file) {
                texts
                    .imported
                    .notes
                    .push(format!("its lines come as messages: rsyslog itself writes {file}"));
            } else if let Some(programs) = self.senders(&file) {
                let named = programs.join(", ");
                let what = format!("the lines of {file} begin with a header of syslog");
                match (self.in_journal)(&programs) {
                    true => texts.imported.notes.push(format!("{what}; those of {named} come from the journal")),
                    false => texts.tasks.push(format!(
                        "`{}`: {what}, so no grammar reads them from the file: let {named} log to syslog here",
                        jail.name
                    )),
                }
            } else {
                continue;
            }
            if let Some(paths) = jail.options.get_mut("logpath") {
                *paths = paths.replace(&file, MESSAGES);
            }
        }
        jail
    }

    /// The programs in the headers of syslog with which the last lines of a file begin; `None` where one has none.
    fn senders(&self, file: &str) -> Option<Vec<String>> {
        let mut decoder = Decoder::new(jiff::tz::TimeZone::UTC);
        let mut programs = BTreeSet::new();
        for mut line in (self.files.last_lines)(file) {
            // As log daemons write it; many servers begin their lines with a date of another form and a word.
            if !matches!(
                &*line,
                [_, _, _, b' ', _, _, b' ', _, _, b':', ..] | [_, _, _, _, b'-', _, _, b'-', _, _, b'T', ..]
            ) {
                return None;
            }
            let entry = decoder.decode(Format::Line, &mut line, Timestamp::default()).ok()?;
            let program = std::str::from_utf8(entry.program).ok().filter(|program| !program.is_empty())?;
            programs.insert(program.to_owned());
        }
        (!programs.is_empty()).then(|| programs.into_iter().collect())
    }

    /// The grammar by which clients can write lines of their own into a file, which these grammars are to read.
    pub(super) fn forged(&self, file: &str, readers: &[String]) -> Option<&'g Grammar> {
        let lines = (self.files.last_lines)(file);
        let known = forgeable(self.grammars, file, &lines, readers);
        // What an empty one will hold, its name says.
        let is_unknown = |grammar: &&Grammar| {
            let name = |path: &str| path.rsplit('/').next().unwrap_or_default().as_bytes().to_vec();
            let is_named = || grammar.logs().iter().any(|log| overlap(&name(log), &name(file)));
            let is_other = || self.grammar_of(file).is_some_and(|other| other.name() != grammar.name());
            readers.iter().any(|reader| reader == grammar.name())
                && grammar.reads_forgeable_log()
                && lines.is_empty()
                && !is_other()
                && (grammar.forgeable_files().is_empty() || !is_named())
        };
        known.or_else(|| self.grammars.iter().find(is_unknown))
    }

    /// Leaves out the files in which clients can write whole lines, and says what to do instead; whether there are any.
    pub(super) fn leave_out_forgeable(&self, jail: &Fail2banJail, texts: &mut JailTexts) -> bool {
        if texts.imported.grammars.is_empty() {
            return false;
        }
        let mut is_any = false;
        let base = texts.made.iter().filter_map(|(_, text)| Grammar::base_of(text)).map(str::to_owned);
        let readers: Vec<String> = texts.imported.grammars.iter().cloned().chain(base).collect();
        for file in own_files(jail) {
            let Some(grammar) = self.forged(&file, &readers) else { continue };
            is_any = true;
            let is_its = |(input, _): &(String, String)| *input == file;
            if let Some((_, program)) = texts.inputs.iter().find(|input| is_its(input)).cloned() {
                // Other logs of the same server that the pattern means too.
                let others = grammar.logs().iter().filter(|log| overlap(log.as_bytes(), file.as_bytes()));
                texts.inputs.extend(others.map(|log| (log.clone(), program.clone())));
            }
            let why = format!("clients can write lines of their own into {file}");
            if (self.files.sends_errors)(grammar.programs()) {
                texts.imported.notes.push(format!("its lines come from syslog, not from the file: {why}"));
            } else {
                texts.tasks.push(format!("`{}`: {why}, so it is not read; {}", jail.name, remedy(grammar)));
            }
        }
        texts.inputs.retain(|(file, _)| self.forged(file, &readers).is_none());
        is_any
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use super::super::filter::FilterRegexes;
    use super::super::options::NamedOptions;
    use super::super::plan::ImportFacts;
    use super::super::read::Fail2banConfig;
    use super::*;
    use crate::grammar::Grammars;

    const ERROR: &str = "2026/11/29 10:00:00 [error] 9#9: *1 open() \"/x\" failed, client: 192.0.2.1";
    const ACCESS: &str = "192.0.2.1 - - [29/Nov/2026:10:00:00 +0000] \"GET / HTTP/1.1\" 401 1";
    const TRAEFIK: &str = "192.0.2.1 - x [29/Nov/2026:10:00:00 +0000] \"GET / HTTP/1.1\" 401 1 \"-\" \"-\" 1";

    /// What a jail with this filter and log becomes; the log holds this line, or none.
    fn jail(filter: &'static str, log: &str, line: &str) -> JailTexts {
        let (_, grammars) = crate::config::load::sound_part(Some(std::path::Path::new(""))).unwrap();
        let grammars: &Grammars = &grammars;
        let lines = |file: &str| match (file == log, line) {
            (true, line) if !line.is_empty() => vec![line.as_bytes().to_vec()],
            _ => Vec::new(),
        };
        let files = LogFileFacts {
            last_lines: &lines,
            writes: &|file| file == "/srv/rsyslog.log",
            sends_errors: &|_| false,
        };
        let fail = vec!["^ login failed from <HOST>$".to_owned()];
        let regexes = FilterRegexes { fail, lines: 1, ..FilterRegexes::default() };
        let jail = Fail2banJail {
            name: "x".to_owned(),
            options: [("logpath".to_owned(), log.to_owned())].into(),
            filter: NamedOptions { name: filter.to_owned(), options: Vec::new() },
            stock: Some(regexes.clone()),
            known_as: filter,
            regexes,
            ..Fail2banJail::default()
        };
        let facts = ImportFacts {
            fail2ban: &Fail2banConfig::default(),
            grammars,
            jails: Vec::new(),
            drop_in: PathBuf::new(),
            grammar_directory: PathBuf::new(),
            rsyslog: None,
            installer: String::new(),
            present: BTreeMap::new(),
            shadow: false,
            resolve: &|_| Vec::new(),
            files,
            in_journal: &|_| false,
            ask: &|_, _, _| None,
            unsound: Vec::new(),
        };
        JailMaker::new(&facts).jail(&jail)
    }

    #[test]
    fn no_file_in_which_clients_write_lines_is_read() {
        let forged = [
            ("/var/log/nginx/error.log", ""),
            ("/var/log/nginx/site.error.log", ""),
            ("/srv/nginx/logs/error.log", ""),
            ("/srv/www/*/logs/error.log", ERROR),
            ("/srv/www/any.log", ERROR),
            ("/var/log/bunkerweb/error.log", ""),
            ("/var/log/filebrowser.log", ""),
        ];
        for filter in ["nginx-http-auth", "nginx-limit-req", "nginx-botsearch", "mine"] {
            for (log, line) in forged {
                let texts = jail(filter, log, line);
                assert!(
                    texts.inputs.iter().all(|(file, _)| !overlap(file.as_bytes(), log.as_bytes())),
                    "{filter}: {log}"
                );
                let said = texts.tasks.concat();
                assert!(
                    said.contains(&format!("into {log}, so it is not read; ")),
                    "{filter}: {log}: {said}"
                );
                assert_eq!(
                    said.matches("error_log syslog:").count(),
                    said.matches("error_log syslog:server=unix:/dev/log,nohostname").count()
                );
                assert!(said.matches("error_log syslog:").count() < 2, "{filter}: {log}: {said}");
            }
        }
        // What an empty file will hold, its name says, or that of the filter.
        for (filter, log, is_read) in [
            ("nginx-http-auth", "/srv/www/error.log", false),
            ("nginx-http-auth", "/srv/www/site.log", false),
            ("nginx-http-auth", "/srv/www/access.log", true),
            ("apache-noscript", "/var/log/apache2/error.log", false),
            ("proftpd", "/var/log/proftpd/proftpd.log", false),
            ("apache-badbots", "/var/log/apache2/access.log", true),
            ("traefik-auth", "/var/log/traefik/access.log", false),
            ("mine", "/srv/app/error.log", true),
        ] {
            let texts = jail(filter, log, "");
            assert_eq!(texts.inputs.iter().any(|(file, _)| file == log), is_read, "{filter}: {log}");
        }
        for (filter, log, line, is_read) in [
            ("nginx-http-auth", "/srv/www/site.log", ACCESS, true),
            ("traefik-auth", "/var/log/traefik/access.log", TRAEFIK, false),
            ("traefik-auth", "/var/log/traefik/access.log", "{\"ClientHost\":\"192.0.2.1\"}", true),
        ] {
            let texts = jail(filter, log, line);
            assert_eq!(texts.inputs.iter().any(|(file, _)| file == log), is_read, "{filter}: {log}");
            assert_eq!(texts.tasks.is_empty(), is_read, "{filter}: {:?}", texts.tasks);
        }
    }

    #[test]
    fn of_all_logs_of_a_server_those_that_can_be_believed_are_read() {
        let texts = jail("nginx-http-auth", "/var/log/nginx/*.log", "");
        assert_eq!(texts.inputs, [("/var/log/nginx/*access.log".to_owned(), "nginx".to_owned())]);
        // A converted filter reads the others from syslog.
        let (_, grammar) = jail("mine", "/var/log/nginx/error.log", "").made.remove(0);
        assert!(grammar.contains("program: nginx\n"), "{grammar}");
    }

    #[test]
    fn what_a_log_daemon_writes_is_not_read_again() {
        let headed = "Nov 29 10:00:01 h haproxy[1]: 192.0.2.121:4000 [29/Nov/2026:10:00:01.000] x";
        for (log, line, is_read) in [
            ("/srv/haproxy.log", headed, false),
            ("/var/log/haproxy.log", "", false),
            ("/srv/rsyslog.log", "", false),
            ("/srv/haproxy.log", "192.0.2.121:4000 [29/Nov/2026:10:00:01.000] x", true),
            ("/srv/haproxy.log", "", true),
        ] {
            let texts = jail("haproxy-http-auth", log, line);
            assert_eq!(!texts.inputs.is_empty(), is_read, "{log}: {:?}", texts.inputs);
            // Nobody knows where else it is from.
            assert_eq!(!texts.tasks.is_empty(), line == headed, "{log}: {:?}", texts.tasks);
        }
        let texts = jail("mine", "/srv/haproxy.log", headed);
        assert!(texts.tasks.concat().contains("let haproxy log to syslog here"), "{:?}", texts.tasks);
        assert_eq!(texts.inputs, []);
    }
}
