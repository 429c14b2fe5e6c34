//! Collects facts about this host: from processes, sockets, files and the daemon. It goes on if one does not answer,
//! because that is a fact too.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use glob::Pattern;

use super::plan::{self, JailFacts, LogFile, RSYSLOG, RsyslogFacts, ServiceFacts, SetupFacts};
use crate::config::load::{self, CONFIG};
use crate::config::{Config, JournalLocation, Setting};
use crate::control::{self, GrammarStatus, Status, client};
use crate::grammar::{Grammar, Grammars};
use crate::tools::{forgeable, servers, tail};

/// The configuration without what `setup` has written, and where that is.
pub(super) struct Installed {
    pub(super) config: Config,
    grammars: std::sync::Arc<Grammars>,
    settings: Vec<Setting>,
    drop_in: PathBuf,
}

impl Installed {
    /// Reads the files of the configuration.
    pub(super) fn load(config: Option<&Path>) -> Result<Self, load::LoadError> {
        let drop_in = config.unwrap_or(Path::new(CONFIG)).with_extension("d").join("50-setup.toml");
        let loaded = load::without(config, &drop_in)?;
        Ok(Self { config: loaded.config, grammars: loaded.grammars, settings: loaded.written, drop_in })
    }

    /// Looks at everything else.
    pub(super) fn facts(&self) -> SetupFacts {
        let processes = processes();
        let running = rsyslogd(&processes);
        let journals = self.config.journald.contains(&JournalLocation::System);
        SetupFacts {
            journal: journals && Path::new("/run/systemd/journal").is_dir(),
            socket: self.config.socket.is_some(),
            rsyslog: has_rsyslog().then(|| self.rsyslog(running)),
            installer: installer(),
            services: self.services(&processes, running),
            jails: self.jails(),
            drop_in: self.drop_in.clone(),
            present: self.present(),
        }
    }

    /// How rsyslog is set; `None` where it is not installed.
    pub(super) fn rsyslog_facts(&self) -> Option<RsyslogFacts> {
        has_rsyslog().then(|| self.rsyslog(rsyslogd(&processes())))
    }

    fn jails(&self) -> Vec<JailFacts> {
        let mut jails: BTreeMap<&str, JailFacts> = BTreeMap::new();
        for Setting { table, key, value, file, line, .. } in &self.settings {
            let Some(name) = table.strip_prefix("jail.") else { continue };
            let jail = jails.entry(name).or_insert_with(|| JailFacts {
                name: name.to_owned(),
                grammars: Vec::new(),
                is_enabled: true,
                place: None,
            });
            match key.as_str() {
                "enabled" => {
                    jail.is_enabled = value == "true";
                    let place = file.as_ref().zip(*line);
                    jail.place = place.map(|(file, line)| format!("{}:{line}", file.display()));
                }
                // As it is written: names between quotes of either kind.
                "grammars" => {
                    let names = value.split(['"', '\'']).skip(1).step_by(2);
                    jail.grammars = names.map(str::to_owned).collect();
                }
                _ => {}
            }
        }
        jails.into_values().collect()
    }

    /// The files that may be written, as they are.
    fn present(&self) -> BTreeMap<PathBuf, String> {
        let of_servers = servers::all().filter(|server| server.setting.is_some()).flat_map(|server| {
            let files = server.files.iter().map(PathBuf::from);
            files.chain(server.folders.iter().flat_map(files_in))
        });
        let paths = [PathBuf::from(RSYSLOG), self.drop_in.clone()].into_iter().chain(of_servers);
        paths.filter_map(|path| Some((path.clone(), std::fs::read_to_string(&path).ok()?))).collect()
    }

    fn rsyslog(&self, running: Option<&Process>) -> RsyslogFacts {
        let main = PathBuf::from("/etc/rsyslog.conf");
        let mut obstacles = Vec::new();
        if !text_of(&main).contains("/etc/rsyslog.d/") {
            obstacles.push("/etc/rsyslog.conf does not include /etc/rsyslog.d/*.conf".to_owned());
        }
        let program = std::env::current_exe().unwrap_or_else(|_| "/usr/bin/banstream".into());
        let mut omprog = format!("{} omprog --confirm", program.display());
        if let Some(socket) = self.config.socket.as_ref().map(|ingest| &ingest.socket.path) {
            if socket != Path::new("/run/banstream/ingest.sock") {
                omprog += &format!(" --socket {}", socket.display());
            }
            if let Some(reader) = running.map(FileReader::of)
                && let Ok(about) = std::fs::metadata(socket)
                && !reader.may(&about, 2)
            {
                obstacles.push(format!(
                    "rsyslog runs as user {}, which may not write to {}: add it to the group `banstream`",
                    reader.uid,
                    socket.display()
                ));
            }
        }
        if let Some(context) = running.and_then(confinement) {
            obstacles.push(format!(
                "rsyslogd is confined ({context}): let it read the files, execute {} and connect to banstream's socket, or no line \
                 arrives",
                program.display()
            ));
        }
        let paths = std::iter::once(main).chain(files_in("/etc/rsyslog.d"));
        let is_others = |path: &PathBuf| {
            path != Path::new(RSYSLOG) && path.extension().is_some_and(|extension| extension == "conf")
        };
        let files: Vec<_> = paths.filter(is_others).map(|path| (path.clone(), text_of(&path))).collect();
        let says = |text: &str| text.to_ascii_lowercase().contains("syssock.annotate=\"on\"");
        let names_senders = files.iter().any(|(_, text)| says(text) || text.contains("imjournal"));
        RsyslogFacts { runs: running.is_some(), files, obstacles, omprog, names_senders }
    }

    fn services(&self, processes: &[Process], rsyslogd: Option<&Process>) -> Vec<ServiceFacts> {
        let status = client::send(&client::socket_of(&self.config), &control::Command::Status);
        let status = status.ok().and_then(|answer| serde_json::from_str::<Status>(&answer.body).ok());
        let reader = rsyslogd.map_or(FileReader::ROOT, FileReader::of);
        let grammars = || self.grammars.iter().filter(|grammar| grammar.extends().is_none());
        let claims = Claims::of(grammars());
        let enabled = enabled_units();
        let listening = listening();
        let mut found: Vec<ServiceFacts> = Vec::new();
        for grammar in grammars() {
            let known = status.as_ref().map(|status| {
                let is_it = |one: &&GrammarStatus| one.name == grammar.name();
                status.grammars.iter().find(is_it).map_or((0, None), |one| (one.entries, one.silent))
            });
            let is_its = |process: &&Process| {
                claims.of_process(&process.name, process.unit.as_deref()) == Some(grammar.name())
            };
            let its: Vec<&Process> = processes.iter().filter(is_its).collect();
            let mut runs: BTreeSet<String> = its.iter().map(|process| process.shown()).collect();
            if runs.is_empty() {
                let idle = enabled.iter().filter(|unit| claims.of_unit(unit) == Some(grammar.name()));
                runs.extend(idle.map(|unit| format!("{unit} (no process)")));
            }
            let open: BTreeSet<PathBuf> = its.iter().flat_map(|process| process.open_files()).collect();
            let log = |pattern: &String| {
                let paths = glob::glob(pattern).into_iter().flatten().flatten();
                let file = |path: PathBuf| {
                    let shown = path.display().to_string();
                    let lines = tail::last_lines(&Pattern::escape(&shown));
                    LogFile {
                        is_in_use: open.contains(&path) || is_recent(&path),
                        unreadable: reader.refused(&path),
                        forgeable: forgeable::forgeable(&self.grammars, &shown, &lines, &[])
                            .map(forgeable::remedy),
                        path: shown,
                    }
                };
                (pattern.clone(), paths.filter(|path| path.is_file()).map(file).collect())
            };
            let (files, others): (Vec<_>, Vec<_>) =
                grammar.logs().iter().partition(|log| log.starts_with('/'));
            let logs: Vec<(String, Vec<LogFile>)> = files.into_iter().map(log).collect();
            let is_in_use = logs.iter().flat_map(|(_, found)| found).any(|file| file.is_in_use);
            let journal = !others.is_empty() || logs.is_empty();
            let service = ServiceFacts {
                name: Some(grammar.service())
                    .filter(|name| !name.is_empty())
                    .unwrap_or(grammar.name())
                    .to_owned(),
                grammar: grammar.name().to_owned(),
                programs: grammar.programs().to_vec(),
                is_contained: !its.is_empty() && its.iter().all(|process| process.is_contained),
                ports: ports(&open, &listening),
                journal,
                is_in_journal: journal && is_in_use && journal_has(grammar.programs()),
                lines: known.map(|(lines, _)| lines),
                silent: known.and_then(|(_, silent)| silent),
                runs: runs.into_iter().collect(),
                logs,
            };
            // What runs in no process of its own, such as an application of a web server, is found by its own files.
            let has_lines = service.lines.is_some_and(|lines| lines > 0) && claims.has_own_program(grammar);
            // One that waits to be started, and has never logged, lacks nothing.
            let is_idle =
                its.is_empty() && !service.journal && service.logs.iter().all(|(_, found)| found.is_empty());
            let runs = !service.runs.is_empty() && !is_idle;
            if runs || has_lines || plan::has_files_in_use(&service) {
                found.push(service);
            }
        }
        let (found, by_files): (Vec<_>, Vec<_>) = found
            .into_iter()
            .partition(|one| !one.runs.is_empty() || one.lines.is_some_and(|lines| lines > 0));
        let own: Vec<ServiceFacts> =
            by_files.into_iter().filter(|one| !plan::has_files_of(one, &found)).collect();
        let mut found = [found, own].concat();
        // Of two that have the same files, the program that writes them is the one that runs.
        found.sort_by_key(|service| service.runs.is_empty());
        found
    }
}

fn has_rsyslog() -> bool {
    let folders = ["/usr/sbin", "/sbin", "/usr/bin", "/usr/local/sbin"];
    folders.into_iter().any(|folder| Path::new(folder).join("rsyslogd").exists())
}

/// rsyslog's process.
fn rsyslogd(processes: &[Process]) -> Option<&Process> {
    processes.iter().find(|process| process.name == "rsyslogd" && !process.is_contained)
}

/// Whether somebody has written to it within a week.
fn is_recent(path: &Path) -> bool {
    let age = std::fs::metadata(path).and_then(|about| about.modified()).map(|then| then.elapsed());
    age.is_ok_and(|age| age.is_ok_and(|age| age.as_secs() < 7 * 86_400))
}

/// Whether the journal has a message of one of these programs.
pub fn journal_has(programs: &[String]) -> bool {
    let identifiers: Vec<String> = programs
        .iter()
        .filter(|program| !program.contains('*'))
        .map(|program| format!("SYSLOG_IDENTIFIER={program}"))
        .collect();
    let mut journalctl = Command::new("journalctl");
    journalctl.args(["--quiet", "--no-pager", "--lines=1", "--output=cat"]).args(&identifiers);
    let output = journalctl.stdin(Stdio::null()).output();
    !identifiers.is_empty() && output.is_ok_and(|output| !output.stdout.is_empty())
}

/// Whether a server of one of these programs sends the log of its errors to syslog.
pub fn sends_errors(programs: &[String]) -> bool {
    let server = programs.iter().find_map(|program| servers::of_program(program));
    let paths = |server: &servers::Server| {
        let folders = server.folders.iter().flat_map(files_in);
        server.files.iter().map(PathBuf::from).chain(folders).collect::<Vec<_>>()
    };
    server.is_some_and(|server| paths(server).iter().any(|path| server.sends_errors(&text_of(path))))
}

/// Which grammars name a program or a unit. One that extends another is about the same service.
struct Claims<'g> {
    programs: BTreeMap<&'g str, Vec<&'g str>>,
    units: Vec<(Pattern, &'g str)>,
}

impl<'g> Claims<'g> {
    fn of(grammars: impl Iterator<Item = &'g Grammar>) -> Self {
        let mut claims = Self { programs: BTreeMap::new(), units: Vec::new() };
        for grammar in grammars {
            for program in grammar.programs() {
                claims.programs.entry(short(program)).or_default().push(grammar.name());
            }
            let units = grammar.units().iter().filter_map(|unit| Pattern::new(unit).ok());
            claims.units.extend(units.map(|unit| (unit, grammar.name())));
        }
        claims
    }

    /// The grammar of a process: by its name, or else by its unit. Of several that read the same program, it is the one
    /// of that name.
    fn of_process(&self, name: &str, unit: Option<&str>) -> Option<&'g str> {
        let named = self.programs.get(name).map_or(&[][..], Vec::as_slice);
        let named = match named {
            [one] => Some(*one),
            several => several.iter().copied().find(|grammar| *grammar == name),
        };
        named.or_else(|| self.of_unit(unit?))
    }

    /// The grammar of a unit. One of PHP or Java, which many name, tells nothing.
    fn of_unit(&self, unit: &str) -> Option<&'g str> {
        let service = unit.replace(".socket", ".service");
        let mut names =
            self.units.iter().filter(|(pattern, _)| pattern.matches(&service)).map(|(_, name)| *name);
        let first = names.next()?;
        names.all(|name| name == first).then_some(first)
    }

    /// Whether no other grammar reads one of its programs, so that a line of it is one of the service.
    fn has_own_program(&self, grammar: &Grammar) -> bool {
        let is_own =
            |program: &String| self.programs.get(short(program)).is_some_and(|names| names.len() == 1);
        grammar.programs().iter().any(is_own)
    }
}

/// As much of a program's name as the kernel keeps.
fn short(program: &str) -> &str {
    program.get(..15).unwrap_or(program)
}

/// A process.
struct Process {
    folder: PathBuf,
    /// Its name, at most 15 characters.
    name: String,
    /// The unit that it is in, if any.
    unit: Option<String>,
    /// Whether it has another namespace of processes than we have.
    is_contained: bool,
}

impl Process {
    /// What it is, for people.
    fn shown(&self) -> String {
        self.unit.clone().filter(|_| !self.is_contained).unwrap_or_else(|| format!("process {}", self.name))
    }

    /// The files and sockets that it has open.
    fn open_files(&self) -> impl Iterator<Item = PathBuf> {
        let files = std::fs::read_dir(self.folder.join("fd")).into_iter().flatten().flatten();
        files.filter_map(|file| std::fs::read_link(file.path()).ok())
    }
}

fn processes() -> Vec<Process> {
    let namespace = |process: &Path| std::fs::read_link(process.join("ns/pid")).ok();
    let ours = namespace(Path::new("/proc/self"));
    let process = |folder: PathBuf| {
        folder.file_name()?.to_str()?.parse::<u32>().ok()?;
        let name = std::fs::read_to_string(folder.join("comm")).ok()?.trim_end().to_owned();
        let is_contained =
            namespace(&folder).is_some_and(|its| ours.as_ref().is_some_and(|ours| *ours != its));
        Some(Process { name, unit: unit(&text_of(&folder.join("cgroup"))), is_contained, folder })
    };
    files_in("/proc").into_iter().filter_map(process).collect()
}

/// The service in a process's control groups (cgroups(7)): systemd names the group of each unit by it.
fn unit(groups: &str) -> Option<String> {
    let systemds = groups.lines().filter_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        matches!(controllers, "" | "name=systemd").then_some(path)
    });
    systemds.flat_map(|path| path.rsplit('/')).find(|name| name.ends_with(".service")).map(str::to_owned)
}

/// The units that are started at boot, running or not: a socket may start one later.
fn enabled_units() -> BTreeSet<String> {
    let wants = files_in("/etc/systemd/system").into_iter();
    let wants = wants.filter(|path| path.extension().is_some_and(|extension| extension == "wants"));
    let units = wants.flat_map(|folder| files_in(&folder)).filter(|unit| unit.exists());
    units.filter_map(|unit| Some(unit.file_name()?.to_str()?.to_owned())).collect()
}

/// The sockets that wait for clients: what `/proc/PID/fd` calls them, and their ports.
fn listening() -> BTreeMap<PathBuf, String> {
    let tables = [("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")];
    tables
        .into_iter()
        .flat_map(|(table, state)| {
            let text = text_of(Path::new("/proc/self/net").join(table).as_path());
            let protocol = table.trim_end_matches('6');
            let sockets: Vec<_> = text.lines().filter_map(|line| socket(line, state, protocol)).collect();
            sockets
        })
        .collect()
}

/// One line of such a table (proc_net_tcp(5)).
fn socket(line: &str, state: &str, protocol: &str) -> Option<(PathBuf, String)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (local, its_state, inode) = (words.get(1)?, words.get(3)?, words.get(9)?);
    let port = u16::from_str_radix(local.rsplit(':').next()?, 16).ok()?;
    (*its_state == state).then(|| (format!("socket:[{inode}]").into(), format!("{port}/{protocol}")))
}

/// The ports of those that are open, in order.
fn ports(open: &BTreeSet<PathBuf>, listening: &BTreeMap<PathBuf, String>) -> Vec<String> {
    let ports: BTreeSet<(Option<u16>, &String)> = open
        .iter()
        .filter_map(|socket| listening.get(socket))
        .map(|port| (port.split('/').next().and_then(|number| number.parse().ok()), port))
        .collect();
    ports.into_iter().map(|(_, port)| port.clone()).collect()
}

/// The user who reads files for rsyslog.
struct FileReader {
    uid: u32,
    groups: Vec<u32>,
    /// Whether permissions do not bind it (CAP_DAC_OVERRIDE or CAP_DAC_READ_SEARCH).
    is_free: bool,
}

impl FileReader {
    const ROOT: Self = Self { uid: 0, groups: Vec::new(), is_free: true };

    /// The user of a process.
    fn of(process: &Process) -> Self {
        Self::read(&text_of(&process.folder.join("status")))
    }

    fn read(status: &str) -> Self {
        let numbers = |key: &str, radix| -> Vec<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
            line.split_whitespace().filter_map(|word| u64::from_str_radix(word, radix).ok()).collect()
        };
        // The second is the effective one.
        let effective = |key| numbers(key, 10).get(1).map_or(0, |id| *id as u32);
        let mut groups: Vec<u32> = numbers("Groups:", 10).iter().map(|id| *id as u32).collect();
        groups.push(effective("Gid:"));
        let is_free = numbers("CapEff:", 16).first().is_some_and(|bits| bits & 0b110 != 0);
        Self { uid: effective("Uid:"), groups, is_free }
    }

    /// Whether the mode of a file lets it do this: 4 to read, 2 to write, 1 to look into a folder.
    fn may(&self, about: &Metadata, what: u32) -> bool {
        let shift = match () {
            () if about.uid() == self.uid => 6,
            () if self.groups.contains(&about.gid()) => 3,
            () => 0,
        };
        self.is_free || about.mode() >> shift & what == what
    }

    /// Why it cannot read a file, if it cannot.
    fn refused(&self, path: &Path) -> Option<String> {
        let wants = |path: &Path, what| {
            std::fs::metadata(path).is_ok_and(|about| self.may(&about, what)).then_some(())
        };
        let closed = path.ancestors().skip(1).find(|folder| wants(folder, 1).is_none());
        let closed = closed.or((wants(path, 4).is_none()).then_some(path))?;
        Some(format!("{} is closed to its user {}", closed.display(), self.uid))
    }
}

/// The profile or context that confines a process, if one does.
fn confinement(process: &Process) -> Option<String> {
    let context = text_of(&process.folder.join("attr/current"));
    let context = context.trim_matches(['\0', '\n']);
    let is_enforced = match context.rsplit_once(' ') {
        Some((_, mode)) => mode == "(enforce)",
        None => context.contains(':') && text_of(Path::new("/sys/fs/selinux/enforce")).trim() == "1",
    };
    is_enforced.then(|| context.to_owned())
}

/// The command that installs rsyslog here.
pub(super) fn installer() -> String {
    let managers = [
        ("apt-get", "apt install"),
        ("dnf", "dnf install"),
        ("zypper", "zypper install"),
        ("pacman", "pacman -S"),
        ("apk", "apk add"),
    ];
    let is_here =
        |name: &str| ["/usr/bin", "/sbin"].iter().any(|folder| Path::new(folder).join(name).exists());
    let command =
        managers.into_iter().find(|(name, _)| is_here(name)).map_or("install", |(_, command)| command);
    format!("{command} rsyslog")
}

/// What is in a folder, by name.
fn files_in(folder: impl AsRef<Path>) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// A file's text; none where it cannot be read.
fn text_of(path: &Path) -> String {
    std::fs::read(path).map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_the_last_of_its_control_group() {
        assert_eq!(unit("0::/system.slice/nginx.service\n").as_deref(), Some("nginx.service"));
        let old =
            "12:pids:/x.service\n1:name=systemd:/system.slice/system-postfix.slice/postfix@-.service\n0::/\n";
        assert_eq!(unit(old).as_deref(), Some("postfix@-.service"));
        assert_eq!(unit("0::/user.slice/user-0.slice/session-1.scope\n"), None);
    }

    #[test]
    fn a_process_belongs_to_the_grammar_of_its_name_or_else_of_its_unit() {
        let lists = crate::grammar::Lists::shipped();
        let grammars: Vec<Grammar> = [
            ("nginx", "program: nginx\nunit: nginx.service"),
            ("mail-proxy", "program: nginx\nunit: nginx.service"),
            ("php", "program: php(*)\nunit: php*-fpm.service nginx.service"),
            ("courier", "program: imapd\nunit: courier-imap.service"),
            ("cyrus", "program: imapd cyrus-with-a-long-name\nunit: cyrus.service"),
        ]
        .into_iter()
        .map(|(name, head)| {
            let text = format!("{head}\nauth-failure:\n    x <ip>\ntest:\n    192.0.2.1 x 192.0.2.1\n");
            Grammar::load(name, name, &text, &lists).unwrap().0
        })
        .collect();
        let claims = Claims::of(grammars.iter());
        let check = |name, unit, want| assert_eq!(claims.of_process(name, unit), want, "{name} {unit:?}");
        check("nginx", Some("nginx.service"), Some("nginx"));
        check("imapd", Some("courier-imap.service"), Some("courier"));
        check("imapd", None, None);
        check("cyrus-with-a-lo", None, Some("cyrus"));
        check("php-fpm8.2", Some("php8.2-fpm.service"), Some("php"));
        check("perl", Some("nginx.service"), None);
        let own: Vec<bool> = grammars.iter().map(|grammar| claims.has_own_program(grammar)).collect();
        assert_eq!(own, [false, false, true, false, true]);
    }

    #[test]
    fn a_socket_that_listens_has_a_port() {
        let line = " 0: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0 0 4711 1 0 100 0 0 10 0";
        assert_eq!(socket(line, "0A", "tcp"), Some(("socket:[4711]".into(), "80/tcp".to_owned())));
        assert_eq!(socket(line, "07", "udp"), None);
        assert_eq!(socket("  sl  local_address rem_address   st", "0A", "tcp"), None);
    }

    #[test]
    fn who_may_read_a_file_depends_on_its_mode() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, "").unwrap();
        let about = std::fs::metadata(&path).unwrap();
        let (owner, group) = (about.uid(), about.gid());
        let status = |uid: u32, gid: u32, capabilities: &str| {
            FileReader::read(&format!(
                "Uid:\t0\t{uid}\t0\t0\nGid:\t9\t{gid}\t9\t9\nGroups:\t4 7 \nCapEff:\t{capabilities}\n"
            ))
        };
        let check = |mode, reader: &FileReader, want: bool| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(reader.may(&std::fs::metadata(&path).unwrap(), 4), want, "{mode:o}");
        };
        let none = "0000000000000000";
        check(0o600, &status(owner, 1, none), true);
        check(0o640, &status(owner + 1, group, none), true);
        check(0o604, &status(owner + 1, group, none), false);
        check(0o640, &status(owner + 1, group + 1, none), false);
        check(0o604, &status(owner + 1, group + 1, none), true);
        check(0o600, &status(owner + 1, group + 1, "0000000000000002"), true);
        assert_eq!(status(1, 2, none).groups, [4, 7, 2]);
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let want = format!("{} is closed to its user {}", folder.path().display(), owner + 1);
        assert_eq!(status(owner + 1, group + 1, none).refused(&path), Some(want));
        assert_eq!(FileReader::ROOT.refused(&path), None);
    }
}
