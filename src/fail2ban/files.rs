//! Which of a jail's log files rsyslog may read: none in which clients can write whole lines.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::jails::{JailMaker, JailTexts, own_files};
use super::read::Fail2banJail;
use crate::grammar::Grammar;
use crate::tools::forgeable::{forgeable, overlap, remedy};

/// What is known of log files and of those that write them.
#[derive(Clone, Copy)]
pub(super) struct LogFileFacts<'f> {
    /// The last lines of the files of a pattern.
    pub(super) last_lines: &'f dyn Fn(&str) -> Vec<Vec<u8>>,
    /// Whether a server of these programs sends the log of its errors to syslog.
    pub(super) sends_errors: &'f dyn Fn(&[String]) -> bool,
}

impl<'g> JailMaker<'g> {
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

    /// Leaves out the files in which clients can write whole lines, and says what to do instead.
    pub(super) fn leave_out_forgeable(&self, jail: &Fail2banJail, texts: &mut JailTexts) {
        if texts.imported.grammars.is_empty() {
            return;
        }
        let readers = texts.imported.grammars.clone();
        for file in own_files(jail) {
            let Some(grammar) = self.forged(&file, &readers) else { continue };
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
    }
}

#[cfg(test)]
mod tests {
    use super::super::options::NamedOptions;
    use super::super::read::FilterRegexes;
    use super::*;
    use crate::grammar::Grammars;

    const ERROR: &str = "2026/11/29 10:00:00 [error] 9#9: *1 open() \"/x\" failed, client: 192.0.2.1";
    const ACCESS: &str = "192.0.2.1 - - [29/Nov/2026:10:00:00 +0000] \"GET / HTTP/1.1\" 401 1";
    const TRAEFIK: &str = "192.0.2.1 - x [29/Nov/2026:10:00:00 +0000] \"GET / HTTP/1.1\" 401 1 \"-\" \"-\" 1";

    /// What a jail with this filter and log becomes; the log holds this line, or none.
    fn jail(filter: &str, log: &str, line: &str) -> JailTexts {
        let (_, grammars) = crate::config::load::sound_part(Some(std::path::Path::new(""))).unwrap();
        let grammars: &Grammars = &grammars;
        let lines = |file: &str| match (file == log, line) {
            (true, line) if !line.is_empty() => vec![line.as_bytes().to_vec()],
            _ => Vec::new(),
        };
        let files = LogFileFacts { last_lines: &lines, sends_errors: &|_| false };
        let fail = vec!["^ login failed from <HOST>$".to_owned()];
        let regexes = FilterRegexes { fail, lines: 1, ..FilterRegexes::default() };
        let jail = Fail2banJail {
            name: "x".to_owned(),
            options: [("logpath".to_owned(), log.to_owned())].into(),
            filter: NamedOptions { name: filter.to_owned(), options: Vec::new() },
            stock: Some(regexes.clone()),
            regexes,
            ..Fail2banJail::default()
        };
        JailMaker::new(grammars, files, &[], &|_| Vec::new(), &|_| false).jail(&jail)
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
        for filter in ["nginx-http-auth", "nginx-limit-req", "php-url-fopen", "mine"] {
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
            }
        }
        // What an empty file will hold, its name says, or that of the filter.
        for (filter, log, is_read) in [
            ("nginx-http-auth", "/srv/www/error.log", false),
            ("nginx-http-auth", "/srv/www/site.log", false),
            ("nginx-http-auth", "/srv/www/access.log", true),
            ("php-url-fopen", "/var/log/apache2/error.log", true),
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
        let (_, grammar) = jail("mine", "/var/log/nginx/error.log", "").grammar.unwrap();
        assert!(grammar.contains("program: nginx\n"), "{grammar}");
    }
}
