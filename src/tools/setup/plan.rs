//! What is missing on a host for the lines of its services to arrive, and the files that change that. It is pure, so
//! that every case can be tested without a host.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use glob::Pattern;
use serde::Serialize;
use similar::TextDiff;

use super::rsyslog::{self, FileInput, RsyslogConfig};
use crate::model::{Span, count};
use crate::tools::servers::{self, Server};

/// What the files begin with that are made by us alone.
pub(super) const HEADER: &str =
    "# Made by `banstream setup --write`, which replaces it; `banstream setup --undo` removes it.\n";

/// The drop-in of rsyslog. Its name is the last, since it uses what others load.
pub(super) const RSYSLOG: &str = "/etc/rsyslog.d/zz-banstream-setup.conf";

/// Where log daemons write what they get, so that each line there is a message that they have got.
pub const SYSLOG_FILES: [&str; 14] = [
    "/var/log/auth.log",
    "/var/log/daemon.log",
    "/var/log/debug",
    "/var/log/haproxy.log",
    "/var/log/kern.log",
    "/var/log/mail.err",
    "/var/log/mail.info",
    "/var/log/mail.log",
    "/var/log/mail.warn",
    "/var/log/maillog",
    "/var/log/messages",
    "/var/log/secure",
    "/var/log/syslog",
    "/var/log/user.log",
];

/// All that was found out about a host.
#[derive(Clone, Debug)]
pub struct SetupFacts {
    /// Whether the daemon reads the system's journal, and there is one.
    pub journal: bool,
    /// Whether the daemon takes lines from rsyslog.
    pub socket: bool,
    /// How rsyslog is set; `None` where it is not installed.
    pub rsyslog: Option<RsyslogFacts>,
    /// The command that installs it.
    pub installer: String,
    /// The services that run here, and those that have left log files.
    pub services: Vec<ServiceFacts>,
    /// The jails without what `setup` has written.
    pub jails: Vec<JailFacts>,
    /// Our drop-in of the configuration.
    pub drop_in: PathBuf,
    /// The files that `setup` may write, as they are: the drop-ins, and the configuration of servers. Those that cannot be
    /// read as text are missing.
    pub present: BTreeMap<PathBuf, String>,
}

/// How rsyslog is set.
#[derive(Clone, Debug)]
pub struct RsyslogFacts {
    /// Whether it runs.
    pub runs: bool,
    /// Its files, without ours.
    pub files: Vec<(PathBuf, String)>,
    /// What keeps it from reading files or from running our child, for people.
    pub obstacles: Vec<String>,
    /// How it is to start our child.
    pub omprog: String,
    /// Whether it records who wrote a message.
    pub names_senders: bool,
}

/// A service, by what its grammar says.
#[derive(Clone, Debug, Default)]
pub struct ServiceFacts {
    /// Its name, as people know it.
    pub name: String,
    /// The grammar that reads its lines.
    pub grammar: String,
    /// The programs in that.
    pub programs: Vec<String>,
    /// Its units and processes.
    pub runs: Vec<String>,
    /// Whether all its processes are in containers.
    pub is_contained: bool,
    /// The ports on which it listens.
    pub ports: Vec<String>,
    /// Whether it logs to the journal by default.
    pub journal: bool,
    /// Whether the journal has messages of its programs; looked up only where it may log to files instead.
    pub is_in_journal: bool,
    /// The files that it logs to by default, which may hold `*`, and those of them that exist.
    pub logs: Vec<(String, Vec<LogFile>)>,
    /// How many of its lines the daemon has read; `None` where none answers.
    pub lines: Option<u64>,
    /// How many seconds ago the last of them came.
    pub silent: Option<u64>,
}

/// A log file.
#[derive(Clone, Debug)]
pub struct LogFile {
    /// Where it is.
    pub path: String,
    /// Whether a process of the service has it open, or somebody has written to it lately.
    pub is_in_use: bool,
    /// Why rsyslog cannot read it, if it cannot.
    pub unreadable: Option<String>,
    /// What to do instead of reading it, where clients can write lines of their own into it.
    pub forgeable: Option<&'static str>,
}

/// A jail.
#[derive(Clone, Debug)]
pub struct JailFacts {
    /// Its name.
    pub name: String,
    /// The grammars that it watches.
    pub grammars: Vec<String>,
    /// Whether it is on.
    pub is_enabled: bool,
    /// The file and line that say so, unless it is the default.
    pub place: Option<String>,
}

/// What a host needs.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Plan {
    /// The services that were found.
    pub services: Vec<PlannedService>,
    /// The files that are written, or would be.
    pub changes: Vec<FileChange>,
    /// The changes of servers' own configuration that only `--server-settings` makes.
    pub offers: Vec<FileChange>,
    /// What else an operator should know.
    pub notes: Vec<String>,
}

/// A service, and whether its lines arrive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PlannedService {
    /// Its name.
    pub name: String,
    /// The grammar that reads its lines.
    pub grammar: String,
    /// Its units and processes; empty if it does not run.
    pub runs: Vec<String>,
    /// The ports on which it listens.
    pub ports: Vec<String>,
    /// Where it logs.
    pub logs: Vec<String>,
    /// Whether its lines arrive.
    pub arrival: Arrival,
    /// How many of them the daemon has read since its start; `null` if no daemon answers.
    pub lines: Option<u64>,
    /// How many seconds ago the last of them came.
    pub silent: Option<u64>,
    /// Why they do not arrive; empty if they do.
    pub why: String,
    /// What to do about it; empty if there is nothing to do.
    pub fix: String,
}

/// Whether a service's lines arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Arrival {
    /// They do.
    Arrive,
    /// They do not.
    Missing,
    /// The service logs them nowhere.
    Nowhere,
}

/// A file that is written or removed.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FileChange {
    /// Where it is.
    pub path: PathBuf,
    /// What the change is, in words.
    pub what: String,
    /// The change as a unified diff.
    pub diff: String,
    /// Its text now; `None` if it does not exist.
    #[serde(skip)]
    pub before: Option<String>,
    /// Its text then; `None` if it is removed.
    #[serde(skip)]
    pub after: Option<String>,
    /// Whether only the daemon's user may read it, and the change is not shown.
    #[serde(skip)]
    pub is_secret: bool,
}

impl FileChange {
    /// The change of a file from one text to the other; `None` where they are equal.
    pub fn new(path: &Path, before: Option<String>, after: Option<String>, what: String) -> Option<Self> {
        if before == after {
            return None;
        }
        let name = |text: &Option<String>| match text {
            Some(_) => path.display().to_string(),
            None => "/dev/null".to_owned(),
        };
        let diff = TextDiff::from_lines(before.as_deref().unwrap_or(""), after.as_deref().unwrap_or(""))
            .unified_diff()
            .header(&name(&before), &name(&after))
            .to_string();
        Some(Self { path: path.to_owned(), what, diff, before, after, is_secret: false })
    }

    /// The same for a file with a secret: what changes in it is not shown.
    pub fn keep_secret(self) -> Self {
        Self { diff: String::new(), is_secret: true, ..self }
    }
}

impl Plan {
    /// Whether nothing is missing.
    pub fn is_complete(&self) -> bool {
        self.changes.is_empty() && self.services.iter().all(|service| service.arrival == Arrival::Arrive)
    }
}

/// What this host needs; with `server_settings` also by changes of servers' own configuration.
pub fn plan(facts: &SetupFacts, server_settings: bool) -> Plan {
    let texts =
        |files: &[(PathBuf, String)]| RsyslogConfig::read(files.iter().map(|(_, text)| text.as_str()));
    let others = facts.rsyslog.as_ref().map(|rsyslog| texts(&rsyslog.files)).unwrap_or_default();
    let ours = RsyslogConfig::read(facts.present.get(Path::new(RSYSLOG)).map(String::as_str).into_iter());
    let mut planner = Planner {
        facts,
        others,
        ours,
        server_settings,
        inputs: Vec::new(),
        takes_messages: false,
        changes: Vec::new(),
        offers: Vec::new(),
        notes: Vec::new(),
    };
    let services = facts.services.iter().map(|service| planner.service(service)).collect();
    planner.rsyslog();
    planner.jails();
    Plan { services, changes: planner.changes, offers: planner.offers, notes: planner.notes }
}

/// The changes that take back all that `setup` has written.
pub(super) fn undo(facts: &SetupFacts) -> Plan {
    let change = |(path, text): (&PathBuf, &String)| {
        let before = Some(text.clone());
        if text.starts_with(HEADER) {
            return FileChange::new(path, before, None, "removed".to_owned());
        }
        let (after, settings) = servers::without_added(text)?;
        FileChange::new(path, before, Some(after), format!("{} removed", count(settings, "setting")))
    };
    let changes = facts.present.iter().filter_map(change).collect();
    Plan { services: Vec::new(), changes, offers: Vec::new(), notes: Vec::new() }
}

impl PlannedService {
    fn miss(&mut self, why: &str, fix: String) {
        (self.arrival, self.why, self.fix) = (Arrival::Missing, why.to_owned(), fix);
    }
}

struct Planner<'f> {
    facts: &'f SetupFacts,
    /// rsyslog's configuration without our drop-in, and that alone.
    others: RsyslogConfig,
    ours: RsyslogConfig,
    server_settings: bool,
    /// The files that our drop-in is to have, with their programs.
    inputs: Vec<(String, String)>,
    /// Whether it is to pass messages of programs on, too.
    takes_messages: bool,
    changes: Vec<FileChange>,
    offers: Vec<FileChange>,
    notes: Vec<String>,
}

/// Who reads a file of a log.
enum FileRoute {
    /// rsyslog, by our drop-in.
    DropIn,
    /// rsyslog, for us, by another file.
    Ours,
    /// rsyslog, but not for us.
    Others,
    Nobody,
}

impl Planner<'_> {
    fn service(&mut self, service: &ServiceFacts) -> PlannedService {
        let mut planned = PlannedService {
            name: service.name.clone(),
            grammar: service.grammar.clone(),
            runs: service.runs.clone(),
            ports: service.ports.clone(),
            logs: Vec::new(),
            arrival: Arrival::Arrive,
            lines: service.lines,
            silent: service.silent,
            why: String::new(),
            fix: String::new(),
        };
        let server = service.programs.iter().find_map(|program| servers::of_program(program));
        let logs_to_syslog = server.is_some_and(|server| self.logs_to_syslog(server));
        if service.is_contained {
            self.contained(service, &mut planned);
        } else if !self.files(service, logs_to_syslog, server, &mut planned) {
            if service.journal || logs_to_syslog {
                self.messages(&mut planned);
            } else {
                planned.arrival = Arrival::Nowhere;
                let files: Vec<&str> = service.logs.iter().map(|(file, _)| file.as_str()).collect();
                planned.why = format!("there is no {}", files.join(", no "));
                planned.fix = "let it log there or to syslog".to_owned();
                self.settings(server, &mut planned);
            }
        }
        let is_down = self.facts.rsyslog.as_ref().is_some_and(|rsyslog| !rsyslog.runs);
        let by_rsyslog = |log: &String| log == "syslog" || log.starts_with('/');
        // On a host that is being installed neither runs yet.
        if is_down
            && service.lines.is_some()
            && planned.arrival == Arrival::Arrive
            && planned.logs.iter().any(by_rsyslog)
        {
            planned.miss("rsyslog does not run", "`systemctl start rsyslog`".to_owned());
        }
        planned
    }

    fn contained(&self, service: &ServiceFacts, planned: &mut PlannedService) {
        planned.logs.push("its container".to_owned());
        if service.lines.unwrap_or(0) == 0 {
            let program = program(service);
            planned.miss(
                "it runs in a container, and no line of it was read",
                format!("let the engine log to the journal: `--log-driver journald --log-opt tag={program}`"),
            );
        }
    }

    /// A service that logs to the journal or to syslog.
    fn messages(&mut self, planned: &mut PlannedService) {
        planned.logs.push(if self.facts.journal { "journal" } else { "syslog" }.to_owned());
        if self.facts.journal || self.facts.socket && self.others.takes_messages() {
            return;
        }
        let why = "nobody reads the journal or rsyslog's messages";
        if self.facts.socket && self.facts.rsyslog.is_some() {
            self.takes_messages = true;
            if !self.ours.takes_messages() {
                planned.miss(why, "`banstream setup --write` lets rsyslog pass them on".to_owned());
            }
        } else {
            planned.miss(why, "set `enabled = true` below [journald]".to_owned());
        }
    }

    /// A service that logs to files of its own; whether it does.
    fn files(
        &mut self,
        service: &ServiceFacts,
        logs_to_syslog: bool,
        server: Option<&Server>,
        planned: &mut PlannedService,
    ) -> bool {
        let mut wanted = Vec::new();
        for (file, found) in &service.logs {
            if !self.is_own(file, found) {
                continue;
            }
            if let Some((forged, remedy)) = found.iter().find_map(|file| Some((file, file.forgeable?))) {
                if forged.is_in_use && !logs_to_syslog {
                    planned.logs.push(file.clone());
                    let why = format!("clients can write lines of their own into {}", forged.path);
                    planned.miss(&why, remedy.to_owned());
                }
                continue;
            }
            // One that logs to the journal by default may have been told otherwise, and then no line arrives.
            let is_used = match service.journal {
                _ if logs_to_syslog => false,
                true => {
                    let arrives = service.is_in_journal || service.lines.is_some_and(|lines| lines > 0);
                    !arrives && found.iter().any(|file| file.is_in_use)
                }
                false => !found.is_empty(),
            };
            match self.reader(file, found) {
                FileRoute::Ours => planned.logs.push(file.clone()),
                FileRoute::DropIn if !(logs_to_syslog || service.journal && service.is_in_journal) => {
                    planned.logs.push(file.clone());
                    self.keep(file, found, service);
                }
                FileRoute::Others if is_used => {
                    planned.logs.push(file.clone());
                    planned.miss(
                        &format!("rsyslog reads {file}, but gives its lines to others"),
                        "add `call banstream` to the ruleset of that input".to_owned(),
                    );
                }
                FileRoute::Nobody if is_used => {
                    planned.logs.push(file.clone());
                    wanted.push((file, found));
                }
                FileRoute::DropIn | FileRoute::Others | FileRoute::Nobody => {}
            }
        }
        if !wanted.is_empty() {
            let files: Vec<&str> = wanted.iter().map(|(file, _)| file.as_str()).collect();
            let why = format!("nobody reads {}", files.join(", "));
            if self.facts.rsyslog.is_none() {
                planned.miss(
                    &format!("{why}; rsyslog, which can, is not installed"),
                    format!("`{}`, then `banstream setup --write`", self.facts.installer),
                );
                self.settings(server, planned);
            } else if !self.facts.socket {
                planned.miss(
                    &format!("{why}; banstream takes no lines from rsyslog"),
                    "set `enabled = true` below [socket]".to_owned(),
                );
            } else {
                planned.miss(&why, "`banstream setup --write` lets rsyslog read it".to_owned());
                wanted.iter().for_each(|(file, found)| self.keep(file, found, service));
            }
        }
        !planned.logs.is_empty()
    }

    /// Whether these are files of the service alone, and not of a log daemon, which writes there what it gets.
    fn is_own(&self, file: &str, found: &[LogFile]) -> bool {
        let writes = |path: &str| SYSLOG_FILES.contains(&path) || self.others.writes(path);
        !writes(file) && !found.iter().any(|file| writes(&file.path))
    }

    fn reader(&self, file: &str, found: &[LogFile]) -> FileRoute {
        let reads = |input: &&FileInput| is_covered(file, found, &input.file);
        let of_others: Vec<_> = self.others.inputs().iter().filter(reads).collect();
        match of_others.as_slice() {
            [] if self.ours.inputs().iter().any(|input| reads(&input)) => FileRoute::DropIn,
            [] => FileRoute::Nobody,
            inputs if inputs.iter().any(|input| self.others.comes_to_us(&input.ruleset)) => FileRoute::Ours,
            _ => FileRoute::Others,
        }
    }

    /// Notes that our drop-in is to read these files, unless it reads all of them for another grammar.
    fn keep(&mut self, file: &str, found: &[LogFile], service: &ServiceFacts) {
        if !self.inputs.iter().any(|(known, _)| is_covered(file, found, known)) {
            self.inputs.push((file.to_owned(), program(service)));
        }
        let unread = found.iter().filter_map(|file| Some((&file.path, file.unreadable.as_ref()?)));
        self.notes.extend(unread.map(|(path, why)| format!("rsyslog cannot read {path}: {why}")));
    }

    /// The parts of a server's configuration.
    fn parts<'s>(&'s self, server: &'s Server) -> impl Iterator<Item = (&'s PathBuf, &'s String)> {
        self.facts.present.iter().filter(|(path, _)| server.has(path))
    }

    fn logs_to_syslog(&self, server: &Server) -> bool {
        self.parts(server).any(|(_, text)| server.logs_to_syslog(text))
    }

    /// Offers the server's own setting, or plans it.
    fn settings(&mut self, server: Option<&Server>, planned: &mut PlannedService) {
        let Some((server, setting)) = server.and_then(|server| Some((server, server.setting.as_ref()?)))
        else {
            return;
        };
        let what = |name: &str| format!("{name} logs to syslog");
        let change = |(path, text): (&PathBuf, &String)| {
            FileChange::new(path, Some(text.clone()), setting.added_to(text), what(&planned.name))
        };
        let mut changes: Vec<FileChange> = match setting.creates() {
            Some((path, text))
                if server.files.iter().any(|file| self.facts.present.contains_key(Path::new(file))) =>
            {
                let before = self.facts.present.get(Path::new(path)).cloned();
                let text = Some(format!("{HEADER}{text}"));
                FileChange::new(Path::new(path), before, text, what(&planned.name)).into_iter().collect()
            }
            _ => self.parts(server).filter_map(change).filter(|change| change.after.is_some()).collect(),
        };
        if changes.is_empty() || !(self.facts.journal || self.facts.socket && self.facts.rsyslog.is_some()) {
            return;
        }
        let fix = "`banstream setup --write --server-settings` lets it log to syslog";
        planned.fix = match planned.arrival {
            Arrival::Missing if !self.server_settings => format!("{}; or {fix}", planned.fix),
            _ => fix.to_owned(),
        };
        // Then they must arrive.
        self.takes_messages |= self.server_settings && !self.facts.journal && !self.others.takes_messages();
        if self.server_settings { &mut self.changes } else { &mut self.offers }.append(&mut changes);
    }

    /// rsyslog's drop-in.
    fn rsyslog(&mut self) {
        let Some(rsyslog) = &self.facts.rsyslog else { return };
        let before = self.facts.present.get(Path::new(RSYSLOG)).cloned();
        let is_needed = !self.inputs.is_empty() || self.takes_messages;
        let after = is_needed.then(|| {
            rsyslog::drop_in(HEADER, &self.inputs, self.takes_messages, &self.others, &rsyslog.omprog)
        });
        let inputs = (!self.inputs.is_empty()).then(|| count(self.inputs.len() as u64, "input"));
        let messages = self.takes_messages.then(|| "the messages of programs".to_owned());
        let what: Vec<String> = inputs.into_iter().chain(messages).collect();
        let what =
            if is_needed { what.join(" and ") } else { "removed, since nothing is to be read".to_owned() };
        self.write(RSYSLOG.as_ref(), before, after, what);
        if is_needed {
            self.notes.extend(rsyslog.obstacles.iter().cloned());
        }
        if self.takes_messages && !rsyslog.names_senders {
            self.notes.push(
                "rsyslog does not say who wrote a message, so any local user can forge lines: the first lines of \
                 rsyslog/10-banstream.conf, in the documentation, change that"
                    .to_owned(),
            );
        }
    }

    /// The jails of what was found.
    fn jails(&mut self) {
        let facts = self.facts;
        let watches =
            |jail: &&JailFacts| facts.services.iter().any(|service| jail.grammars.contains(&service.grammar));
        let off = facts.jails.iter().filter(|jail| !jail.is_enabled).filter(watches);
        let (chosen, unset): (Vec<_>, Vec<_>) = off.partition(|jail| jail.place.is_some());
        let place = |jail: &JailFacts| jail.place.clone().unwrap_or_default();
        self.notes.extend(
            chosen.iter().map(|jail| format!("the jail `{}` stays off, as {} says", jail.name, place(jail))),
        );
        let enabled: String =
            unset.iter().map(|jail| format!("\n[jail.{}]\nenabled = true\n", jail.name)).collect();
        let before = facts.present.get(&facts.drop_in).cloned();
        let after = (!unset.is_empty()).then(|| {
            format!("{HEADER}# Jails of services that run here, which are off by default.\n{enabled}")
        });
        let what = match unset.len() {
            0 => "removed, since no jail is to be turned on".to_owned(),
            jails => format!("{} on", count(jails as u64, "jail")),
        };
        self.write(&facts.drop_in, before, after, what);
    }

    /// Plans a file of our own, unless somebody else has made what is there.
    fn write(&mut self, path: &Path, before: Option<String>, after: Option<String>, what: String) {
        match &before {
            Some(text) if !text.starts_with(HEADER) => self.notes.push(format!(
                "{} was not made by `banstream setup`, which leaves it alone: rename it",
                path.display()
            )),
            _ => self.changes.extend(FileChange::new(path, before, after, what)),
        }
    }
}

/// Whether somebody writes to log files of this service that are not a log daemon's.
pub(super) fn has_files_in_use(service: &ServiceFacts) -> bool {
    let files = service.logs.iter().flat_map(|(_, found)| found);
    files.filter(|file| !SYSLOG_FILES.contains(&file.path.as_str())).any(|file| file.is_in_use)
}

/// Whether all log files of this service are also those of another one.
pub(super) fn has_files_of(service: &ServiceFacts, others: &[ServiceFacts]) -> bool {
    let patterns = || others.iter().flat_map(|other| other.logs.iter().map(|(pattern, _)| pattern));
    service
        .logs
        .iter()
        .all(|(file, found)| patterns().any(|other| is_covered(file, found, other)) || found.is_empty())
}

/// Whether an input that reads `other` reads this file of a log, or all that there are by this pattern.
fn is_covered(file: &str, found: &[LogFile], other: &str) -> bool {
    let pattern = Pattern::new(other);
    let matches = |path: &str| pattern.as_ref().is_ok_and(|pattern| pattern.matches(path));
    file == other || !found.is_empty() && found.iter().all(|file| matches(&file.path))
}

/// The program as which the lines of a service's files are read: the first that its grammar names.
fn program(service: &ServiceFacts) -> String {
    service.programs.first().map_or(service.grammar.clone(), |name| name.replace('*', "file"))
}

/// The lines of a service that arrive, for people.
pub(super) fn arrived(service: &PlannedService) -> String {
    let last =
        service.silent.map_or(String::new(), |silent| format!(", the last {} ago", Span::from_secs(silent)));
    match (service.arrival, service.lines) {
        (Arrival::Missing, _) => "do not arrive".to_owned(),
        (Arrival::Nowhere, _) => "are logged nowhere".to_owned(),
        (Arrival::Arrive, None) => "arrive once the daemon runs".to_owned(),
        (Arrival::Arrive, Some(0)) => "arrive; none yet".to_owned(),
        (Arrival::Arrive, Some(lines)) => format!("arrive: {lines}{last}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DROP_IN: &str = "/etc/banstream/banstream.d/50-setup.toml";

    /// A Debian with a journal that is read, a stock rsyslog, and these services.
    fn host(services: &[ServiceFacts]) -> SetupFacts {
        let stock = "module(load=\"imuxsock\")\n$IncludeConfig /etc/rsyslog.d/*.conf\nmail.* -/var/log/mail/all.log\n";
        SetupFacts {
            journal: true,
            socket: true,
            rsyslog: Some(RsyslogFacts {
                runs: true,
                files: vec![("/etc/rsyslog.conf".into(), stock.to_owned())],
                obstacles: Vec::new(),
                omprog: "/usr/bin/banstream omprog --confirm".to_owned(),
                names_senders: false,
            }),
            installer: "apt install rsyslog".to_owned(),
            services: services.to_vec(),
            jails: Vec::new(),
            drop_in: DROP_IN.into(),
            present: BTreeMap::new(),
        }
    }

    fn file(path: &str) -> LogFile {
        LogFile { path: path.replace('*', ""), is_in_use: true, unreadable: None, forgeable: None }
    }

    fn service(name: &str, logs: &[&str]) -> ServiceFacts {
        let files = logs.iter().filter(|log| log.starts_with('/'));
        ServiceFacts {
            name: name.to_owned(),
            grammar: name.to_owned(),
            programs: vec![name.to_owned()],
            runs: vec![format!("{name}.service")],
            journal: logs.contains(&"journal"),
            logs: files.map(|path| ((*path).to_owned(), vec![file(path)])).collect(),
            ..ServiceFacts::default()
        }
    }

    fn nginx() -> ServiceFacts {
        service("nginx", &["/var/log/nginx/*access.log"])
    }

    /// Makes the changes that are planned.
    fn write(facts: &mut SetupFacts, plan: &Plan) {
        for FileChange { path, after, .. } in &plan.changes {
            match after {
                Some(text) => drop(facts.present.insert(path.clone(), text.clone())),
                None => drop(facts.present.remove(path)),
            }
        }
    }

    /// What a host lacks is written once, nothing is missing then, and all goes without a trace.
    #[track_caller]
    fn check(mut facts: SetupFacts, server_settings: bool, files: &[&str]) -> Plan {
        let before = facts.present.clone();
        let first = plan(&facts, server_settings);
        let paths: Vec<&Path> = first.changes.iter().map(|change| change.path.as_path()).collect();
        assert_eq!(paths, files.iter().map(Path::new).collect::<Vec<_>>(), "{first:#?}");
        assert!(!first.is_complete());
        write(&mut facts, &first);
        let second = plan(&facts, server_settings);
        assert!(second.is_complete(), "{second:#?}");
        let undone = undo(&facts);
        write(&mut facts, &undone);
        assert_eq!(facts.present, before);
        first
    }

    /// What is said of the only service where nothing can be written.
    #[track_caller]
    fn said(facts: &SetupFacts, arrival: Arrival, why: &str, fix: &str) {
        let plan = plan(facts, false);
        let said: Vec<_> = plan.services.iter().map(|one| (one.arrival, &*one.why, &*one.fix)).collect();
        assert_eq!(said, [(arrival, why, fix)]);
        assert_eq!(plan.changes.len(), 0, "{plan:#?}");
    }

    #[test]
    fn files_that_nobody_reads_are_read() {
        let sshd = service("sshd", &["journal"]);
        let plan = check(host(&[sshd, nginx()]), false, &[RSYSLOG]);
        let arrivals: Vec<Arrival> = plan.services.iter().map(|service| service.arrival).collect();
        assert_eq!(arrivals, [Arrival::Arrive, Arrival::Missing]);
        assert_eq!(plan.services[1].why, "nobody reads /var/log/nginx/*access.log");
        let text = plan.changes[0].after.as_ref().unwrap();
        assert!(text.contains("file=\"/var/log/nginx/*access.log\" tag=\"nginx:\""), "{text}");
        assert!(!text.contains("\nif "), "the journal has the messages");
        assert!(plan.changes[0].diff.starts_with(&format!("--- /dev/null\n+++ {RSYSLOG}\n@@ -0,0 +1,")));
        let refused = LogFile { unreadable: Some("it is closed".to_owned()), ..file("/x") };
        let mut facts = host(&[ServiceFacts { logs: vec![("/x".to_owned(), vec![refused])], ..nginx() }]);
        facts.rsyslog.as_mut().unwrap().obstacles.push("rsyslogd is confined".to_owned());
        assert_eq!(
            check(facts, false, &[RSYSLOG]).notes,
            ["rsyslog cannot read /x: it is closed", "rsyslogd is confined"]
        );
    }

    #[test]
    fn a_file_into_which_clients_write_lines_is_not_read() {
        let forged = LogFile { forgeable: Some("let it be"), ..file("/x") };
        let one = |is_in_use| {
            let logs = vec![("/x".to_owned(), vec![LogFile { is_in_use, ..forged.clone() }])];
            host(&[ServiceFacts { logs, ..nginx() }])
        };
        said(&one(true), Arrival::Missing, "clients can write lines of their own into /x", "let it be");
        said(&one(false), Arrival::Nowhere, "there is no /x", "let it log there or to syslog");
    }

    #[test]
    fn what_is_read_already_is_left_alone() {
        said(&host(&[service("sshd", &["journal"])]), Arrival::Arrive, "", "");
        let with = |text: &str| {
            let mut facts = host(&[nginx()]);
            facts.rsyslog.as_mut().unwrap().files.push(("/etc/rsyslog.d/9.conf".into(), text.to_owned()));
            facts
        };
        let input =
            "module(load=\"imfile\")\ninput(type=\"imfile\" file=\"/var/log/nginx/*\" ruleset=\"r\")\n";
        said(&with(&format!("{input}ruleset(name=\"r\") {{ call banstream }}")), Arrival::Arrive, "", "");
        said(
            &with(&format!("{input}ruleset(name=\"r\") {{ stop }}")),
            Arrival::Missing,
            "rsyslog reads /var/log/nginx/*access.log, but gives its lines to others",
            "add `call banstream` to the ruleset of that input",
        );
        // Once they read it, ours does not.
        let mut facts = host(&[nginx()]);
        let written = plan(&facts, false);
        write(&mut facts, &written);
        let others = format!("{input}ruleset(name=\"r\") {{ call banstream }}");
        facts.rsyslog.as_mut().unwrap().files.push(("/etc/rsyslog.d/9.conf".into(), others));
        let changes = plan(&facts, false).changes;
        assert!(matches!(changes.as_slice(), [FileChange { after: None, .. }]), "{changes:#?}");
    }

    #[test]
    fn no_file_is_read_in_which_a_client_can_write_a_line() {
        let names = |line: &str| line.starts_with("log:") && line.contains("/nginx/error");
        for (name, text) in crate::grammar::SHIPPED {
            assert!(!text.lines().any(names), "{name}");
        }
    }

    #[test]
    fn files_of_log_daemons_are_not_read_again() {
        for file in ["/var/log/mail.log", "/var/log/mail/all.log"] {
            said(&host(&[service("postfix", &["journal", file])]), Arrival::Arrive, "", "");
        }
    }

    #[test]
    fn a_service_that_may_log_to_both_is_read_where_it_does() {
        let both = || service("gitea", &["journal", "/var/lib/gitea/log/gitea.log"]);
        check(host(&[both()]), false, &[RSYSLOG]);
        said(&host(&[ServiceFacts { is_in_journal: true, ..both() }]), Arrival::Arrive, "", "");
        said(&host(&[ServiceFacts { lines: Some(7), ..both() }]), Arrival::Arrive, "", "");
        let mut old = both();
        old.logs[0].1[0].is_in_use = false;
        said(&host(&[old]), Arrival::Arrive, "", "");
    }

    #[test]
    fn of_two_grammars_with_the_same_files_one_gets_the_lines() {
        let other = service("wordpress", &["/var/log/nginx/access.log"]);
        let mut first = nginx();
        first.logs[0].1[0].path = "/var/log/nginx/access.log".to_owned();
        let plan = check(host(&[first, other]), false, &[RSYSLOG]);
        assert_eq!(plan.changes[0].what, "1 input");
    }

    #[test]
    fn what_rsyslog_reads_does_not_arrive_while_it_does_not_run() {
        let mut facts = host(&[nginx(), service("sshd", &["journal"])]);
        let written = plan(&facts, false);
        write(&mut facts, &written);
        facts.rsyslog.as_mut().unwrap().runs = false;
        assert!(plan(&facts, false).is_complete(), "neither does the daemon");
        facts.services.iter_mut().for_each(|service| service.lines = Some(7));
        let services = plan(&facts, false).services;
        let told = services.iter().map(|service| service.why.as_str());
        assert_eq!(told.collect::<Vec<_>>(), ["rsyslog does not run", ""]);
    }

    #[test]
    fn without_the_journal_rsyslog_passes_messages_on() {
        let mut facts = host(&[service("sshd", &["journal"]), nginx()]);
        facts.journal = false;
        let plan = check(facts.clone(), false, &[RSYSLOG]);
        assert_eq!(plan.changes[0].what, "1 input and the messages of programs");
        assert_eq!(plan.notes.len(), 1, "anybody can forge: {:?}", plan.notes);
        facts.rsyslog.as_mut().unwrap().names_senders = true;
        assert_eq!(super::plan(&facts, false).notes.len(), 0);
        facts.services.truncate(1);
        facts.rsyslog = None;
        let why = "nobody reads the journal or rsyslog's messages";
        said(&facts, Arrival::Missing, why, "set `enabled = true` below [journald]");
    }

    #[test]
    fn without_rsyslog_the_server_itself_can_log_to_syslog() {
        let mut facts = host(&[nginx()]);
        facts.rsyslog = None;
        let conf = PathBuf::from("/etc/nginx/nginx.conf");
        facts.present.insert(conf.clone(), "http {\n\taccess_log /var/log/nginx/access.log;\n}\n".to_owned());
        said(
            &facts,
            Arrival::Missing,
            "nobody reads /var/log/nginx/*access.log; rsyslog, which can, is not installed",
            "`apt install rsyslog`, then `banstream setup --write`; or `banstream setup --write --server-settings` lets it log to syslog",
        );
        let offers = plan(&facts, false).offers;
        assert_eq!(offers.len(), 1);
        assert!(
            offers[0].diff.contains("\n+\taccess_log syslog:server=unix:/dev/log,nohostname combined;\n"),
            "{offers:#?}"
        );
        check(facts, true, &["/etc/nginx/nginx.conf"]);
        // Where rsyslog can read the files, the server is left alone.
        let mut facts = host(&[nginx()]);
        facts.present.insert(conf, "access_log /var/log/nginx/access.log;\n".to_owned());
        check(facts, true, &[RSYSLOG]);
    }

    #[test]
    fn a_server_that_logs_nowhere_is_told_from_one_that_nobody_reads() {
        let lighttpd = ServiceFacts {
            logs: vec![("/var/log/lighttpd/access.log".to_owned(), Vec::new())],
            ..service("lighttpd", &[])
        };
        let mut facts = host(&[lighttpd]);
        let why = "there is no /var/log/lighttpd/access.log";
        said(&facts, Arrival::Nowhere, why, "let it log there or to syslog");
        facts.present.insert("/etc/lighttpd/lighttpd.conf".into(), "server.port = 80\n".to_owned());
        said(
            &facts,
            Arrival::Nowhere,
            why,
            "`banstream setup --write --server-settings` lets it log to syslog",
        );
        check(facts, true, &["/etc/lighttpd/conf-enabled/90-banstream-setup.conf"]);
    }

    #[test]
    fn a_container_is_not_the_hosts_service() {
        let contained = ServiceFacts { is_contained: true, ..nginx() };
        let why = "it runs in a container, and no line of it was read";
        let fix = "let the engine log to the journal: `--log-driver journald --log-opt tag=nginx`";
        let read = ServiceFacts { lines: Some(7), ..contained.clone() };
        said(&host(&[contained]), Arrival::Missing, why, fix);
        said(&host(&[read]), Arrival::Arrive, "", "");
    }

    #[test]
    fn jails_that_are_off_by_default_are_turned_on_for_what_runs() {
        let jail = |name: &str, grammar: &str, is_enabled: bool, place: Option<&str>| JailFacts {
            name: name.to_owned(),
            grammars: vec![grammar.to_owned()],
            is_enabled,
            place: place.map(str::to_owned),
        };
        let mut facts = host(&[service("gitea", &["journal"])]);
        facts.jails = vec![
            jail("gitea", "gitea", false, None),
            jail("chosen", "gitea", false, Some("/etc/banstream/banstream.toml:3")),
            jail("on", "gitea", true, None),
            jail("other", "nginx", false, None),
        ];
        let first = check(facts.clone(), false, &[DROP_IN]);
        let text = first.changes[0].after.as_ref().unwrap();
        assert!(
            text.ends_with("\n[jail.gitea]\nenabled = true\n") && text.matches("[jail").count() == 1,
            "{text}"
        );
        assert_eq!(first.notes, ["the jail `chosen` stays off, as /etc/banstream/banstream.toml:3 says"]);
        // What no longer runs loses its jail.
        write(&mut facts, &first);
        facts.services.clear();
        let changes = plan(&facts, false).changes;
        assert!(matches!(changes.as_slice(), [FileChange { after: None, .. }]), "{changes:#?}");
    }

    #[test]
    fn a_file_that_somebody_else_has_made_is_left_alone() {
        let mut facts = host(&[nginx()]);
        facts.present.insert(RSYSLOG.into(), "# mine\n".to_owned());
        let plan = plan(&facts, false);
        assert_eq!(plan.changes.len(), 0);
        assert_eq!(
            plan.notes,
            [format!("{RSYSLOG} was not made by `banstream setup`, which leaves it alone: rename it")]
        );
        assert_eq!(undo(&facts).changes.len(), 0);
    }
}
