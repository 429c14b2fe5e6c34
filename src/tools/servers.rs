//! Servers that do not log to syslog or the journal by default: where their configuration says so, and the setting with
//! which they do. It is pure.
//!
//! It reads single lines, as all these programs write them, and ignores blocks.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::path::Path;

/// The line above each that `setup` adds to a file.
const MARK: &str = "# `banstream setup` added the next line, and `banstream setup --undo` removes both.";

/// A server, and its setting.
#[derive(Debug)]
pub(super) struct Server {
    /// The programs that have this configuration.
    programs: &'static [&'static str],
    /// Its configuration.
    pub(super) files: &'static [&'static str],
    /// More of it.
    pub(super) folders: &'static [&'static str],
    /// How the lines begin that say where it logs, in lower case.
    key: &'static str,
    /// What such a line holds if that is syslog.
    sinks: &'static [&'static str],
    /// What `setup` can add, if that is better than to read a file, or there is none.
    pub(super) setting: Option<SyslogSetting>,
}

/// What makes a server log to syslog.
#[derive(Debug)]
pub(super) struct SyslogSetting {
    /// What is added.
    edit: Edit,
    /// The command that says whether its configuration is sound; empty where there is none.
    pub(super) check: &'static [&'static str],
    /// Its unit.
    pub(super) unit: &'static str,
}

#[derive(Debug)]
enum Edit {
    /// Below each line that logs to a file, one that logs the same to syslog.
    Beside,
    /// A line at the end of the file.
    Append(&'static str),
    /// A file of its own.
    Create(&'static str, &'static str),
}

const SERVERS: [Server; 4] = [
    Server {
        programs: &["nginx"],
        files: &["/etc/nginx/nginx.conf"],
        folders: &["/etc/nginx/conf.d", "/etc/nginx/sites-enabled"],
        key: "access_log",
        sinks: &["syslog:", "/dev/std"],
        setting: Some(SyslogSetting {
            edit: Edit::Beside,
            check: &["nginx", "-t", "-q"],
            unit: "nginx.service",
        }),
    },
    Server {
        programs: &["apache2", "httpd", "httpd-prefork", "httpd-worker", "httpd-event"],
        files: &["/etc/apache2/apache2.conf", "/etc/apache2/httpd.conf", "/etc/httpd/conf/httpd.conf"],
        folders: &[
            "/etc/apache2/conf-enabled",
            "/etc/apache2/sites-enabled",
            "/etc/apache2/conf.d",
            "/etc/apache2/vhosts.d",
            "/etc/httpd/conf.d",
        ],
        key: "customlog",
        sinks: &["syslog", "|", "/dev/std"],
        setting: None,
    },
    Server {
        programs: &["lighttpd"],
        files: &["/etc/lighttpd/lighttpd.conf"],
        folders: &["/etc/lighttpd/conf-enabled"],
        key: "accesslog.",
        sinks: &["syslog", "|", "/dev/std"],
        setting: Some(SyslogSetting {
            edit: Edit::Create(
                "/etc/lighttpd/conf-enabled/90-banstream-setup.conf",
                "server.modules += ( \"mod_accesslog\" )\naccesslog.use-syslog = \"enable\"\n",
            ),
            check: &["lighttpd", "-tt", "-f", "/etc/lighttpd/lighttpd.conf"],
            unit: "lighttpd.service",
        }),
    },
    Server {
        programs: &["vsftpd"],
        files: &["/etc/vsftpd.conf", "/etc/vsftpd/vsftpd.conf"],
        folders: &[],
        key: "syslog_enable",
        sinks: &["YES"],
        setting: Some(SyslogSetting {
            edit: Edit::Append("syslog_enable=YES"),
            check: &[],
            unit: "vsftpd.service",
        }),
    },
];

/// The server that is this program, if its configuration is known.
pub(super) fn of_program(program: &str) -> Option<&'static Server> {
    SERVERS.iter().find(|server| server.programs.contains(&program))
}

/// All of them.
pub(super) fn all() -> impl Iterator<Item = &'static Server> {
    SERVERS.iter()
}

impl Server {
    /// Whether a file is part of its configuration.
    pub(super) fn has(&self, path: &Path) -> bool {
        let is_in = |folder: &Path| self.folders.iter().any(|one| folder == Path::new(one));
        self.files.iter().any(|file| path == Path::new(file)) || path.parent().is_some_and(is_in)
    }

    /// Whether this part of its configuration makes it log to syslog.
    pub(super) fn logs_to_syslog(&self, text: &str) -> bool {
        self.sends(text, self.key)
    }

    /// Whether it makes it send the log of its errors there.
    pub(super) fn sends_errors(&self, text: &str) -> bool {
        self.sends(text, "error_log")
    }

    fn sends(&self, text: &str, key: &str) -> bool {
        lines(text).any(|line| {
            let begin = line.get(..key.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(key));
            begin && self.sinks.iter().any(|sink| line.contains(sink))
        })
    }
}

impl SyslogSetting {
    /// The file that it creates, if it does.
    pub(super) fn creates(&self) -> Option<(&'static str, &'static str)> {
        match self.edit {
            Edit::Create(path, text) => Some((path, text)),
            Edit::Beside | Edit::Append(_) => None,
        }
    }

    /// This file of its configuration with the setting, where it belongs there.
    pub(super) fn added_to(&self, text: &str) -> Option<String> {
        let added = match self.edit {
            Edit::Create(..) => return None,
            Edit::Beside => text.split_inclusive('\n').map(beside).collect(),
            Edit::Append(line) => {
                // What ends without a newline stays at the end, so that it can be as it was.
                let at = text.rfind('\n').map_or(0, |last| last + 1);
                let (whole, rest) = text.split_at_checked(at).unwrap_or((text, ""));
                format!("{whole}{MARK}\n{line}\n{rest}")
            }
        };
        (added != text).then_some(added)
    }
}

/// A line of nginx's configuration, and the one that logs to syslog what it logs to a file.
fn beside(line: &str) -> String {
    let statement = line.trim();
    let words: Vec<&str> = statement.trim_end_matches(';').split_whitespace().collect();
    let indent = line.get(..line.len() - line.trim_start().len()).unwrap_or_default();
    let sink = "syslog:server=unix:/dev/log,nohostname";
    let is_whole = statement.ends_with(';') && line.ends_with('\n');
    let same = match words.as_slice() {
        [key @ "access_log", file, rest @ ..] if is_file(file) => {
            let format = rest.first().filter(|word| !word.contains('=')).unwrap_or(&"combined");
            format!("{key} {sink} {format};")
        }
        [key @ "error_log", file, level @ ..] if is_file(file) => {
            let words: Vec<&str> = [*key, sink].into_iter().chain(level.iter().copied()).collect();
            format!("{};", words.join(" "))
        }
        _ => return line.to_owned(),
    };
    if is_whole { format!("{line}{indent}{MARK}\n{indent}{same}\n") } else { line.to_owned() }
}

fn is_file(word: &str) -> bool {
    word.starts_with('/') && !word.starts_with("/dev/")
}

/// A file without the lines that [`SyslogSetting::added_to`] has added; how many settings those were.
pub(super) fn without_added(text: &str) -> Option<(String, u64)> {
    let (mut kept, mut removed) = (String::with_capacity(text.len()), 0);
    let mut lines = text.split_inclusive('\n');
    while let Some(line) = lines.next() {
        if line.trim() == MARK {
            lines.next();
            removed += 1;
        } else {
            kept += line;
        }
    }
    (removed > 0).then_some((kept, removed))
}

/// The lines that say something, those that a backslash continues in one.
fn lines(text: &str) -> impl Iterator<Item = String> + '_ {
    numbered_lines(Path::new(""), text).map(|(_, line)| line)
}

/// The same, with the place of each.
pub(super) fn numbered_lines<'t>(
    path: &'t Path,
    text: &'t str,
) -> impl Iterator<Item = (String, String)> + 't {
    let mut all = (1..).zip(text.lines());
    std::iter::from_fn(move || {
        let (number, first) = all.next()?;
        let mut line = first.trim().to_owned();
        while line.ends_with('\\')
            && let Some((_, more)) = all.next()
        {
            line.pop();
            line += more.trim();
        }
        Some((format!("{}:{number}", path.display()), line))
    })
    .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_server_logs_is_found() {
        #[track_caller]
        fn check(program: &str, text: &str, want: bool) {
            assert_eq!(of_program(program).unwrap().logs_to_syslog(text), want, "{text}");
        }
        check(
            "nginx",
            "http {\n\taccess_log /var/log/nginx/access.log;\n\terror_log syslog:server=unix:/dev/log;",
            false,
        );
        check(
            "nginx",
            "  access_log /var/log/nginx/access.log;\n  access_log syslog:server=unix:/dev/log combined;",
            true,
        );
        check("nginx", "# access_log syslog:server=unix:/dev/log combined;", false);
        check("nginx", "access_log /dev/stdout;", true);
        check("apache2", "CustomLog ${APACHE_LOG_DIR}/access.log combined\nErrorLog syslog", false);
        check("httpd", "customlog \"|/usr/bin/logger --size 128KiB -t apache2\" combined", true);
        check("lighttpd", "accesslog.filename = \"/var/log/lighttpd/access.log\"", false);
        check("lighttpd", "accesslog.use-syslog = \"enable\"", true);
        check("vsftpd", "#syslog_enable=YES\nxferlog_enable=YES\n", false);
        check("vsftpd", "syslog_enable=YES", true);
        assert!(of_program("sshd").is_none());
    }

    #[test]
    fn a_setting_makes_it_log_to_syslog_and_goes_without_a_trace() {
        #[track_caller]
        fn check(program: &str, text: &str, want: &str) {
            let server = of_program(program).unwrap();
            let setting = server.setting.as_ref().unwrap();
            let added = setting.added_to(text);
            assert_eq!(added.as_deref().unwrap_or(text), want.replace("MARK", MARK));
            if let Some(added) = added {
                assert!(server.logs_to_syslog(&added));
                assert_eq!(without_added(&added).unwrap().0, text);
            }
            assert_eq!(without_added(text), None);
        }
        check("vsftpd", "listen=NO\n", "listen=NO\nMARK\nsyslog_enable=YES\n");
        check("vsftpd", "a=1\nb=2", "a=1\nMARK\nsyslog_enable=YES\nb=2");
        check("vsftpd", "", "MARK\nsyslog_enable=YES\n");
        check(
            "nginx",
            "error_log /var/log/nginx/error.log warn;\nhttp {\n\taccess_log /var/log/nginx/access.log;\n}\n",
            "error_log /var/log/nginx/error.log warn;\nMARK\nerror_log syslog:server=unix:/dev/log,nohostname warn;\nhttp {\n\
             \taccess_log /var/log/nginx/access.log;\n\tMARK\n\taccess_log syslog:server=unix:/dev/log,nohostname combined;\n}\n",
        );
        check(
            "nginx",
            "access_log /a main buffer=4k;\naccess_log /b gzip;\n",
            "access_log /a main buffer=4k;\nMARK\naccess_log syslog:server=unix:/dev/log,nohostname main;\n\
             access_log /b gzip;\nMARK\naccess_log syslog:server=unix:/dev/log,nohostname gzip;\n",
        );
        for nothing in [
            "access_log off;\n",
            "#access_log /a;\n",
            "access_log /a\n  main;\n",
            "access_log /dev/stdout;\n",
        ] {
            check("nginx", nothing, nothing);
        }
        let lighttpd = of_program("lighttpd").unwrap();
        let (_, text) = lighttpd.setting.as_ref().unwrap().creates().unwrap();
        assert!(lighttpd.logs_to_syslog(text) && lighttpd.setting.as_ref().unwrap().added_to("x").is_none());
    }
}
