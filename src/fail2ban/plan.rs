//! What becomes of each jail and each setting, and the files that say so here. It is pure, so that every case can be tested
//! without a host.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::compare::FilterTrial;
use super::counterpart;
use super::files::LogFileFacts;
use super::jails::{JailMaker, JailTexts};
use super::library::HEADER;
use super::read::Fail2banConfig;
use super::substance::AskFail2ban;
use super::{paths, receivers, settings, shadow, time};
use crate::detect::Watch;
use crate::grammar::Grammars;
use crate::model::count;
use crate::tools::setup::{FileChange, RsyslogFacts, drop_in_for};

/// rsyslog's drop-in that reads the files of imported jails. It stands behind what others load, and before that of `setup`.
pub(super) const RSYSLOG: &str = "/etc/rsyslog.d/zz-banstream-fail2ban.conf";

/// What is known of the host.
pub(super) struct ImportFacts<'f> {
    /// fail2ban's configuration.
    pub(super) fail2ban: &'f Fail2banConfig,
    /// The grammars in force without those that `import` made.
    pub(super) grammars: &'f Grammars,
    /// The jails in force without what `import` has written, with what they watch.
    pub(super) jails: Vec<(String, Vec<Watch>)>,
    /// Our drop-in of the configuration, and the folder of grammars.
    pub(super) drop_in: PathBuf,
    pub(super) grammar_directory: PathBuf,
    /// How rsyslog is set, without what `import` has written; `None` where it is not installed.
    pub(super) rsyslog: Option<RsyslogFacts>,
    /// The command that installs it.
    pub(super) installer: String,
    /// What `import` has written before, as it is.
    pub(super) present: BTreeMap<PathBuf, String>,
    /// Whether banstream is only to observe for now.
    pub(super) shadow: bool,
    /// Looks a name up.
    pub(super) resolve: &'f dyn Fn(&str) -> Vec<IpAddr>,
    /// What is known of log files.
    pub(super) files: LogFileFacts<'f>,
    /// Whether the journal has lines of one of these programs.
    pub(super) in_journal: &'f dyn Fn(&[String]) -> bool,
    /// What fail2ban finds in lines.
    pub(super) ask: &'f AskFail2ban<'f>,
    /// Jails of which an earlier plan would write what is not sound, and why.
    pub(super) unsound: Vec<(String, String)>,
}

/// What fail2ban's configuration becomes.
#[derive(Clone, Debug, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ImportPlan {
    /// The files of fail2ban that were read.
    pub files: Vec<PathBuf>,
    /// The jails that are on.
    pub jails: Vec<ImportedJail>,
    /// How many are off.
    pub disabled: usize,
    /// The settings that hold for all jails.
    pub settings: Vec<ImportedSetting>,
    /// What only a human can do, in order.
    pub tasks: Vec<String>,
    /// The files that are written, or would be.
    pub changes: Vec<FileChange>,
    /// Those in their place that `import` did not make, and so leaves alone.
    #[serde(skip)]
    pub foreign: Vec<PathBuf>,
}

/// What a jail becomes.
#[derive(Clone, Debug, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ImportedJail {
    /// Its name here.
    pub name: String,
    /// Its name in fail2ban.
    pub original: String,
    /// Where it is turned on, as `file:line`.
    pub place: String,
    /// Its filter.
    pub filter: String,
    /// What becomes of it.
    pub outcome: JailOutcome,
    /// The grammars that stand for its filter.
    pub grammars: Vec<String>,
    /// Their categories that count.
    pub offences: Vec<String>,
    /// How many of its regular expressions became rules.
    pub converted: usize,
    /// Those that became none, and why.
    pub refused: Vec<RefusedLine>,
    /// Whether it counts what its filter finds in its logs. Asked where nothing is written.
    pub comparison: FilterComparison,
    /// How those agree with its filter.
    pub trial: FilterTrial,
    /// The ports that it blocks; empty for all.
    pub ports: Vec<String>,
    /// What else there is to know.
    pub notes: Vec<String>,
    /// The files that rsyslog is to read for it, with the programs under whose names it forwards their lines.
    #[serde(skip)]
    pub inputs: Vec<(String, String)>,
    /// Whether its lines come from the journal, although it names files.
    #[serde(skip)]
    pub in_journal: bool,
    /// Whether its bans let addresses in.
    #[serde(skip)]
    pub lets_in: bool,
    /// Its table in the drop-in, and the files of the grammars that were made for it.
    #[serde(skip)]
    pub(super) tables: String,
    #[serde(skip)]
    pub(super) grammar_files: Vec<PathBuf>,
}

impl ImportedJail {
    /// Whether rules were made of its filter.
    pub(super) fn has_converted(&self) -> bool {
        self.converted > 0
    }

    /// What of it has no counterpart here, as a task.
    fn lost(&self) -> Option<String> {
        let why = || self.refused.first().map(|one| &one.why).or(self.notes.first());
        let why = || why().map_or("nothing stands for its filter", String::as_str);
        match (self.outcome, self.refused.len()) {
            (JailOutcome::NotNeeded, _) => None,
            (JailOutcome::NotConverted, _) => {
                Some(format!("`{}` has no counterpart here: {}", self.original, why()))
            }
            (_, 0) => None,
            (_, refused) => Some(format!(
                "`{}`: {refused} of {} not converted: {}",
                self.original,
                count((self.converted + refused) as u64, "failregex"),
                why()
            )),
        }
    }
}

/// A regular expression that became no rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RefusedLine {
    /// The regular expression.
    pub regex: String,
    /// What stood in the way.
    pub why: String,
}

/// What becomes of a jail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum JailOutcome {
    /// A grammar of ours stands for its filter.
    Ours,
    /// Its filter was made into a grammar.
    Converted,
    /// Neither.
    #[default]
    NotConverted,
    /// It is not needed here.
    NotNeeded,
}

/// How a jail's grammars compare with its filter on the last lines of its logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum FilterComparison {
    /// They were not compared, since nobody asked or it was not possible.
    #[default]
    NotCompared,
    /// Neither finds an offence in the lines.
    Nothing,
    /// They find the same.
    Agrees,
    /// They find different offences.
    Differs,
}

/// What a setting becomes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ImportedSetting {
    /// Its name in fail2ban, with its value if that is short.
    pub name: String,
    /// What it becomes.
    pub becomes: String,
}

/// What fail2ban's configuration becomes on this host.
pub(super) fn plan(facts: &ImportFacts<'_>) -> ImportPlan {
    let fail2ban = facts.fail2ban;
    let mut planner = ImportPlanner {
        facts,
        plan: ImportPlan {
            files: fail2ban.files.clone(),
            disabled: fail2ban.disabled,
            ..ImportPlan::default()
        },
        inputs: Vec::new(),
        new: BTreeMap::new(),
    };
    planner.plan.tasks.extend(fail2ban.not_utf8.iter().map(|file| {
        format!(
            "{} is not UTF-8, so fail2ban leaves it out; here it is read: save it as UTF-8, or remove it",
            file.display()
        )
    }));
    let mut toml = planner.top();
    for texts in JailMaker::new(facts).jails(&fail2ban.jails) {
        let JailTexts { mut imported, settings, made, inputs, tasks, .. } = texts;
        if let Some((_, why)) = facts.unsound.iter().find(|(name, _)| *name == imported.original) {
            imported.outcome = JailOutcome::NotConverted;
            imported.grammars.clear();
            imported.refused.clear();
            imported.notes.insert(0, format!("what would be written for it is not sound: {why}"));
            planner.plan.tasks.extend(imported.lost());
            planner.plan.jails.push(imported);
            continue;
        }
        imported.tables.clone_from(&settings);
        toml += &settings;
        for (name, text) in made {
            let path = facts.grammar_directory.join(format!("{name}.grammar"));
            imported.grammar_files.push(path.clone());
            planner.new.insert(path, text);
        }
        imported.inputs.clone_from(&inputs);
        planner.inputs.extend(inputs);
        planner.plan.tasks.extend(tasks);
        planner.plan.tasks.extend(imported.lost());
        planner.plan.jails.push(imported);
    }
    toml += &planner.others();
    planner.news();
    toml += &planner.receivers();
    planner.new.insert(facts.drop_in.clone(), toml);
    planner.rsyslog();
    planner.changes();
    planner.plan
}

impl ImportPlan {
    /// What would be written, as far as it is not there.
    pub(super) fn changed(&self) -> impl Iterator<Item = (&Path, Option<&str>)> {
        self.changes.iter().map(|change| (change.path.as_path(), change.after.as_deref()))
    }

    /// The jails of which not even their own tables are sound by themselves, as `check` says, and why.
    pub(super) fn unsound(
        &self,
        drop_in: &Path,
        check: impl Fn(Vec<(&Path, Option<&str>)>) -> Result<(), String>,
    ) -> Vec<(String, String)> {
        let of = |jail: &ImportedJail| {
            let made = |path: &Path| jail.grammar_files.iter().any(|own| own == path);
            let grammars = self.changed().filter(|(path, text)| text.is_some() && made(path));
            let files = grammars.chain([(drop_in, Some(jail.tables.as_str()))]);
            Some((jail.original.clone(), check(files.collect()).err()?))
        };
        self.jails.iter().filter(|jail| !jail.tables.is_empty()).filter_map(of).collect()
    }
}

/// The changes that take back all that `import` has written.
pub(super) fn undo(present: &BTreeMap<PathBuf, String>) -> Vec<FileChange> {
    let ours = present.iter().filter(|(_, text)| text.starts_with(HEADER));
    ours.filter_map(|(path, text)| change(path, Some(text.clone()), None, "removed".to_owned())).collect()
}

/// Whether this file holds a secret.
fn is_secret(path: &Path) -> bool {
    path.extension().is_some_and(|found| found == "token")
}

fn change(path: &Path, before: Option<String>, after: Option<String>, what: String) -> Option<FileChange> {
    let change = FileChange::new(path, before, after, what)?;
    Some(if is_secret(path) { change.keep_secret() } else { change })
}

struct ImportPlanner<'f> {
    facts: &'f ImportFacts<'f>,
    plan: ImportPlan,
    /// The files that rsyslog is to read, with their programs.
    inputs: Vec<(String, String)>,
    /// The files that are to be there.
    new: BTreeMap<PathBuf, String>,
}

impl ImportPlanner<'_> {
    fn note(&mut self, name: &str, becomes: impl Into<String>) {
        let setting = ImportedSetting { name: name.to_owned(), becomes: becomes.into() };
        if !self.plan.settings.contains(&setting) {
            self.plan.settings.push(setting);
        }
    }

    /// What holds for all jails.
    fn top(&mut self) -> String {
        let defaults = &self.facts.fail2ban.defaults;
        let mut text = format!("{HEADER}{}\n", if self.facts.shadow { shadow::LINES } else { "" });
        if let Some(ignored) = defaults.get("ignoreip").filter(|text| !text.trim().is_empty()) {
            let mut hosts = settings::ignored(ignored, self.facts.resolve);
            for own in ["127.0.0.0/8", "::1"] {
                if !hosts.offenders.iter().any(|known| known == own) {
                    hosts.offenders.insert(0, own.to_owned());
                }
            }
            text += &format!("ignoreip = {}\n", list(&hosts.offenders));
            self.note("ignoreip", format!("`ignoreip`, {} of them", hosts.offenders.len()));
            self.plan.tasks.extend(hosts.unknown.iter().map(|word| {
                format!(
                    "`{word}` in ignoreip is neither an address nor a prefix nor a name: it exempts nobody"
                )
            }));
            for (name, found) in hosts.names {
                let now = if found.is_empty() {
                    "it has no address now".to_owned()
                } else {
                    format!("now {}", found.join(" "))
                };
                self.note(&format!("ignoreip {name}"), format!("needs you: names are not resolved; {now}"));
                self.plan.tasks.push(format!(
                    "`{name}` in ignoreip: only the addresses that it has now are exempt ({now}); keep a file with \
                     `ignoreip = [\"file:/etc/banstream/allow.list\"]` if they change"
                ));
            }
        }
        let recidive = self.facts.fail2ban.jails.iter().any(counterpart::is_recidive);
        let lengths = self.facts.fail2ban.jails.iter().filter_map(|jail| jail.options.get("bantime"));
        let longest = lengths.filter_map(|text| time::seconds(text)).fold(0.0, f64::max);
        let growth = settings::growth(&|name| defaults.get(name).cloned(), recidive, longest);
        for (name, becomes) in growth.notes {
            let task = becomes.strip_prefix("needs you: ").map(|what| format!("`{name}`: {what}"));
            self.plan.tasks.extend(task);
            self.note(&name, becomes);
        }
        for (name, becomes) in
            [("ignorecommand", "no counterpart"), ("usedns", "not needed: names are never resolved")]
        {
            let is_set = defaults.get(name).is_some_and(|value| !matches!(value.trim(), "" | "warn" | "no"));
            if is_set {
                self.note(name, becomes);
            }
        }
        if !growth.lines.is_empty() {
            text += &format!("\n[growth]\n{}\n", growth.lines.join("\n"));
        }
        text
    }

    /// Takes what imported jails count from the jails that are there anyway, so that nothing counts twice.
    fn others(&mut self) -> String {
        let mut taken: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for jail in &self.plan.jails {
            for grammar in &jail.grammars {
                taken.entry(grammar).or_default().extend(jail.offences.iter().map(String::as_str));
            }
        }
        let imported: Vec<&str> = self.plan.jails.iter().map(|jail| jail.name.as_str()).collect();
        let mut text = String::new();
        for (name, watches) in self.facts.jails.iter().filter(|(name, _)| !imported.contains(&name.as_str()))
        {
            let is_taken = |watch: &&Watch| {
                let taken = taken.get(&*watch.grammar);
                taken.is_some_and(|taken| {
                    watch.categories.iter().all(|category| taken.contains(category.as_str()))
                })
            };
            let (gone, left): (Vec<&Watch>, Vec<&Watch>) = watches.iter().partition(is_taken);
            if gone.is_empty() {
                continue;
            }
            text += &format!("\n# What is not listed here any more, the jails above count.\n[jail.{name}]\n");
            match left.is_empty() {
                true => text += "enabled = false\n",
                false => {
                    let names: Vec<String> = left.iter().map(|watch| watch.grammar.to_string()).collect();
                    text += &format!("grammars = {}\n", list(&names));
                }
            }
        }
        text
    }

    /// Names the jails that are on here and were not there.
    fn news(&mut self) {
        let imported = |name: &str| self.plan.jails.iter().any(|jail| jail.name == name);
        let news: Vec<&str> =
            self.facts.jails.iter().map(|(name, _)| name.as_str()).filter(|name| !imported(name)).collect();
        if !news.is_empty() {
            let news = news.join(", ");
            self.note(
                "jails of banstream",
                format!("on besides, as far as the jails above do not count the same: {news}"),
            );
        }
    }

    /// What the actions become.
    fn receivers(&mut self) -> String {
        let kept = self.plan.jails.iter().filter(|jail| !jail.grammars.is_empty());
        let kept = kept.map(|jail| (jail.original.as_str(), jail.name.as_str())).collect();
        // Beside the folder of drop-ins.
        let folder = self.facts.drop_in.parent().and_then(Path::parent).unwrap_or(Path::new("/"));
        let made = receivers::receivers(&self.facts.fail2ban.jails, &kept, folder);
        self.new.extend(made.secrets);
        self.plan.tasks.extend(made.tasks);
        made.notes.into_iter().for_each(|(name, becomes)| self.note(&name, becomes));
        made.toml
    }

    /// rsyslog's drop-in, if a file is to be read that nobody reads yet.
    fn rsyslog(&mut self) {
        self.inputs.sort();
        self.inputs.dedup();
        // rsyslog gives a file to one input only.
        let all = self.inputs.clone();
        let is_covered = |(file, program): &(String, String)| {
            all.iter().any(|(other, its)| {
                other != file && its == program && paths::covers(other, file) && !paths::covers(file, other)
            })
        };
        self.inputs.retain(|input| !is_covered(input));
        let mut twice: Vec<String> = Vec::new();
        let all = self.inputs.clone();
        self.inputs.retain(|(file, program)| {
            let mut before = all.iter().take_while(|(other, its)| (other, its) != (file, program));
            let is_same = |(other, _): &&(String, String)| other == file;
            let is_wider = |(other, _): &&(String, String)| {
                other != file && paths::covers(other, file) && !paths::covers(file, other)
            };
            let other = before.find(is_same).or_else(|| all.iter().find(is_wider));
            twice.extend(other.map(|(_, other)| {
                format!("{file} is read as the log of {other}, so no jail can read it as that of {program}")
            }));
            other.is_none()
        });
        self.plan.tasks.append(&mut twice);
        if self.inputs.is_empty() {
            return;
        }
        let Some(rsyslog) = &self.facts.rsyslog else {
            let files: Vec<&str> = self.inputs.iter().map(|(file, _)| file.as_str()).collect();
            self.plan.tasks.push(format!(
                "nobody reads {}: `{}`, then `banstream import fail2ban --write` again",
                files.join(", "),
                self.facts.installer
            ));
            return;
        };
        if let Some(text) = drop_in_for(HEADER, &self.inputs, rsyslog) {
            self.new.insert(RSYSLOG.into(), text);
            self.plan.tasks.extend(rsyslog.obstacles.iter().cloned());
        }
    }

    fn changes(&mut self) {
        let gone = self.facts.present.keys().filter(|path| !self.new.contains_key(*path));
        let gone: Vec<PathBuf> = gone.cloned().collect();
        let mut changes = Vec::new();
        for (path, after) in std::mem::take(&mut self.new)
            .into_iter()
            .map(|(path, text)| (path, Some(text)))
            .chain(gone.into_iter().map(|path| (path, None)))
        {
            let before = self.facts.present.get(&path).cloned();
            if before.as_ref().is_some_and(|text| !text.starts_with(HEADER)) {
                self.plan.tasks.push(format!(
                    "{} was not made by `banstream import`, which leaves it alone: rename it",
                    path.display()
                ));
                self.plan.foreign.push(path);
                continue;
            }
            let what = what(&path, before.as_ref(), after.as_ref());
            changes.extend(change(&path, before, after, what));
        }
        self.plan.changes = changes;
    }
}

fn what(path: &Path, before: Option<&String>, after: Option<&String>) -> String {
    let is = |end: &str| path.extension().is_some_and(|found| found == end);
    let what = match () {
        () if is("grammar") => "a grammar made of a filter",
        () if is("toml") => "jails and settings",
        () if is_secret(path) => "the secret of an action",
        () => "log files for rsyslog to read",
    };
    match (before, after) {
        (_, None) => "removed, since nothing needs it".to_owned(),
        (Some(_), Some(_)) => format!("{what}, changed"),
        (None, Some(_)) => what.to_owned(),
    }
}

/// A list as TOML has it.
pub(super) fn list(items: &[String]) -> String {
    let items: Vec<String> = items.iter().map(|item| format!("\"{item}\"")).collect();
    format!("[{}]", items.join(", "))
}
