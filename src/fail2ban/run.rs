//! `banstream import fail2ban`: reads, plans, and does what was asked.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{IpAddr, ToSocketAddrs};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;

use super::agreement::{self, ComparePatience, JailAgreement};
use super::bans::{self, BanSummary};
use super::files::LogFileFacts;
use super::plan::{self, ImportFacts, ImportPlan, RSYSLOG};
use super::read::Fail2banConfig;
use super::{diff, print, reference, shadow, switch};
use crate::config::load::{self, LoadError, Loaded};
use crate::control::client;
use crate::daemon;
use crate::model::Timestamp;
use crate::store::Fail2banBans;
use crate::tools::offline::ended_well;
use crate::tools::setup::{self, WriteTarget};
use crate::tools::tail;

/// What `import fail2ban` is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ImportAction {
    /// Show what everything becomes.
    #[default]
    Show,
    /// The same, with all the time that a comparison with fail2ban's filters takes.
    Compare,
    /// Write it, and take over the bans.
    Write,
    /// Write it, but let banstream only observe; fail2ban goes on.
    Shadow,
    /// Say which offenders one of the two has banned since then and the other has not.
    Diff(Timestamp),
    /// Stop fail2ban once its bans are in force here.
    Switch {
        /// Although jails have no counterpart here.
        force: bool,
    },
    /// Take back what was written, and let fail2ban run again.
    Undo,
}

/// How it is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ImportFormat {
    /// For a terminal.
    #[default]
    Text,
    /// For programs.
    Json,
    /// For a ticket.
    Markdown,
}

/// What `import fail2ban --json` prints.
#[derive(Clone, Debug, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ImportReport {
    /// What the configuration becomes. After `--write` and `--undo` the changes are those that were made.
    #[serde(flatten)]
    pub plan: ImportPlan,
    /// How far fail2ban's filters and ours agree on the last lines of the jails' logs. Nothing is written then.
    pub agreement: Vec<JailAgreement>,
    /// fail2ban's bans.
    pub bans: BanSummary,
    /// Whether the changes were made.
    pub written: bool,
    /// What else was done, such as a restart.
    pub done: Vec<String>,
}

/// Reads fail2ban's configuration in `folder` and its database, prints what they become, and does what `action` says.
/// Whether nothing is left for a human.
///
/// # Errors
///
/// Either configuration is wrong, something cannot be read, written or printed, or fail2ban cannot be switched off. Then
/// nothing was written.
pub fn run(
    config: Option<&Path>,
    folder: &Path,
    (action, format): (ImportAction, ImportFormat),
    now: Timestamp,
    mut output: impl Write,
) -> anyhow::Result<bool> {
    let drop_in = config.unwrap_or(Path::new(load::CONFIG)).with_extension("d").join("fail2ban.toml");
    let loaded = load::without(config, &drop_in)?;
    let present = present(&loaded, &drop_in)?;
    let observes = present.get(&drop_in).filter(|text| shadow::is_on(text)).cloned();
    let mut report = ImportReport::default();
    // What is taken back may be wrong itself.
    let (rsyslog, installer) = match action {
        ImportAction::Undo => (None, String::new()),
        _ => setup::rsyslog_facts(config, Path::new(RSYSLOG))?,
    };
    let has_rsyslog = rsyslog.is_some() || present.contains_key(Path::new(RSYSLOG));
    let (mut found, mut database) = (Fail2banBans::default(), None);
    match action {
        // What is taken back needs nothing of fail2ban.
        ImportAction::Undo => report.plan.changes = plan::undo(&present),
        _ => {
            let fail2ban = Fail2banConfig::read(folder)?;
            let read = bans::read(fail2ban.database.as_deref(), &loaded, now);
            // To show the rest takes no bans.
            let fault = match (read, action) {
                (Ok(bans), _) => {
                    found = bans;
                    None
                }
                (Err(error), ImportAction::Show | ImportAction::Compare | ImportAction::Diff(_)) => {
                    Some(format!("fail2ban's bans cannot be read: {error:#}"))
                }
                (Err(error), _) => return Err(error),
            };
            let jails = loaded.config.detection.jails.iter();
            let others = rsyslog.clone();
            let writes = |file: &str| others.as_ref().is_some_and(|rsyslog| setup::writes(rsyslog, file));
            let mut facts = ImportFacts {
                unsound: Vec::new(),
                fail2ban: &fail2ban,
                grammars: &loaded.grammars,
                jails: jails.map(|jail| (jail.name.to_string(), jail.watches.clone())).collect(),
                drop_in: drop_in.clone(),
                grammar_directory: loaded.config.grammar_directory.clone(),
                rsyslog,
                installer,
                present,
                shadow: match action {
                    ImportAction::Shadow => true,
                    ImportAction::Write => false,
                    _ => observes.is_some(),
                },
                resolve: &resolve,
                files: LogFileFacts {
                    last_lines: &tail::last_lines,
                    writes: &writes,
                    sends_errors: &setup::sends_errors,
                },
                in_journal: &setup::journal_has,
                ask: &|jail, filter, lines| reference::found(jail, filter, lines, PATIENCE).ok(),
            };
            report.plan = plan::plan(&facts);
            let mut there = load::with(config, report.plan.changed());
            if there.is_err() {
                // The others are written all the same.
                facts.unsound = report.plan.unsound(&drop_in, |files| {
                    load::with(config, files).map(drop).map_err(|error| first_fault(&error))
                });
                report.plan = plan::plan(&facts);
                there = load::with(config, report.plan.changed());
            }
            report.plan.tasks.extend(fault);
            if report.plan.settings.iter().any(|setting| setting.name == "mail") {
                report.plan.tasks.extend(mail_needs());
            }
            let patience = match action {
                ImportAction::Show => Some(ComparePatience::SHORT),
                ImportAction::Compare => Some(ComparePatience::LONG),
                _ => None,
            };
            if let Some(patience) = patience {
                match there {
                    Ok(there) => {
                        report.agreement = agreement::compare(&fail2ban, &report.plan, &there, patience, now);
                        agreement::note(&mut report.plan, &report.agreement);
                    }
                    Err(error) => {
                        report.plan.tasks.push(format!("what would be written is not sound: {error}"))
                    }
                }
            }
            if let ImportAction::Diff(from) = action {
                let diff = diff::diff(&fail2ban, &report.plan, &load::load(config)?, (from, now))?;
                let text = match format {
                    ImportFormat::Text => diff.text(),
                    ImportFormat::Json => serde_json::to_string(&diff)? + "\n",
                    ImportFormat::Markdown => diff.markdown(),
                };
                ended_well(output.write_all(text.as_bytes()).and_then(|()| output.flush()))?;
                return Ok(true);
            }
            if loaded.config.enforce.is_none() && action != ImportAction::Shadow {
                report.plan.tasks.push(
                    "banstream only observes, as its configuration says (`banstream config show | grep mode`): let it enforce \
                     before `--switch`"
                        .to_owned(),
                );
            }
            database = fail2ban.database;
        }
    }
    let target = WriteTarget {
        config,
        socket: &client::socket_of(&loaded.config),
        drop_in: &drop_in,
        rsyslog: Path::new(RSYSLOG),
        state_directory: &loaded.config.state_directory,
        has_rsyslog,
    };
    let mut is_switched = false;
    match action {
        ImportAction::Shadow => {
            switch::check_shadow(&loaded)?;
            shadow::check(config, &report.plan.changes)?;
        }
        ImportAction::Switch { force } => {
            is_switched = observes.is_none() && switch::is_switched(&loaded);
            if !is_switched {
                switch::check(&report.plan, force)?;
            }
        }
        _ => {}
    }
    match observes.filter(|_| matches!(action, ImportAction::Switch { .. })) {
        _ if is_switched => {
            report.done.push("fail2ban is switched off already".to_owned());
            report.bans = bans::summary(&found, now);
        }
        Some(drop_in) => {
            let rest =
                || switch::switch(&found, &report.plan, database.as_deref(), &load::load(config)?, now);
            report.done = shadow::end(&drop_in, &target, rest)?;
            report.bans = bans::summary(&found, now);
        }
        None => act(action, &mut report, (&found, database.as_deref()), (&loaded, &target), now)?,
    }
    let text = match format {
        ImportFormat::Text => print::text(&report, action),
        ImportFormat::Json => serde_json::to_string(&report)? + "\n",
        ImportFormat::Markdown => print::markdown(&report, action),
    };
    ended_well(output.write_all(text.as_bytes()).and_then(|()| output.flush()))?;
    Ok(report.plan.tasks.is_empty())
}

/// The first that is wrong with a configuration.
fn first_fault(error: &LoadError) -> String {
    let text = error.to_string();
    text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned()
}

/// Does what was asked, and notes in the report what was done.
fn act(
    action: ImportAction,
    report: &mut ImportReport,
    (found, database): (&Fail2banBans, Option<&Path>),
    (loaded, target): (&Loaded, &WriteTarget<'_>),
    now: Timestamp,
) -> anyhow::Result<()> {
    report.bans = bans::summary(found, now);
    match action {
        ImportAction::Show | ImportAction::Compare | ImportAction::Diff(_) => {}
        ImportAction::Write => {
            write(report, target)?;
            // As it is with what was written: `ignoreip` may have changed.
            let loaded = load::load(target.config)?;
            let bans = bans::ours(found, &report.plan, &loaded, now);
            if !bans.is_empty() {
                let (taken, to) = daemon::take_over(bans, &loaded, now)?;
                (report.bans.taken, report.bans.to) = (Some(taken), Some(to));
            }
        }
        ImportAction::Shadow => write(report, target)?,
        ImportAction::Switch { .. } => {
            report.done = switch::switch(found, &report.plan, database, &load::load(target.config)?, now)?
        }
        ImportAction::Undo => {
            write(report, target)?;
            report.done.extend(switch::switch_back(loaded)?);
        }
    }
    Ok(())
}

/// Makes the changes of the plan.
fn write(report: &mut ImportReport, target: &WriteTarget<'_>) -> anyhow::Result<()> {
    if !report.plan.changes.is_empty() {
        report.done = setup::apply(&report.plan.changes, target)?;
        report.written = true;
    }
    Ok(())
}

/// What `import` has written before.
fn present(loaded: &Loaded, drop_in: &Path) -> anyhow::Result<BTreeMap<PathBuf, String>> {
    let folder = &loaded.config.grammar_directory;
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let is_ours = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("f2b-") && name.ends_with(".grammar")
    };
    let grammars = entries.map(|entry| entry.path()).filter(is_ours);
    let folder = drop_in.parent().and_then(Path::parent);
    let beside = folder.and_then(|folder| std::fs::read_dir(folder).ok()).into_iter().flatten().flatten();
    let is_secret = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("fail2ban-") && name.ends_with(".token")
    };
    let secrets = beside.map(|entry| entry.path()).filter(is_secret);
    let paths = [drop_in.to_owned(), RSYSLOG.into()].into_iter().chain(grammars).chain(secrets);
    let mut present = BTreeMap::new();
    for path in paths {
        match std::fs::read_to_string(&path) {
            Ok(text) => drop(present.insert(path, text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read `{}`", path.display()));
            }
        }
    }
    Ok(present)
}

/// What mail needs on this host, beside a receiver: the unit gives `sendmail` no privileges.
fn mail_needs() -> Option<String> {
    let about = "contrib/guide.md says more under \"Mail and secrets\"";
    let Ok(sendmail) = std::fs::canonicalize("/usr/sbin/sendmail") else {
        return Some(format!(
            "mail: there is no `/usr/sbin/sendmail`: install one, such as msmtp-mta; {about}"
        ));
    };
    let drop_ins =
        std::fs::read_dir("/etc/systemd/system/banstream.service.d").into_iter().flatten().flatten();
    let drop_ins: String = drop_ins.filter_map(|entry| std::fs::read_to_string(entry.path()).ok()).collect();
    if std::fs::metadata(&sendmail).is_ok_and(|about| about.mode() & 0o4000 != 0) {
        return (!drop_ins.contains("NoNewPrivileges=no")).then(|| {
            format!(
                "mail: `{}` is set-user-id, which banstream.service does not allow: name a program that speaks SMTP, such as \
                 msmtp, as `[notify] sendmail`; {about}",
                sendmail.display()
            )
        });
    }
    let is_postfix = Path::new("/usr/sbin/postdrop").exists();
    (is_postfix && !drop_ins.contains("postdrop")).then(|| {
        format!(
            "mail: Postfix's `sendmail` needs `SupplementaryGroups=postdrop` and `ReadWritePaths=/var/spool/postfix` in a \
             drop-in of banstream.service (`systemctl edit banstream`); {about}"
        )
    })
}

/// How long fail2ban may take for the lines with which our grammars are tested: it takes a second.
const PATIENCE: Duration = Duration::from_secs(60);

/// The addresses of a name.
fn resolve(name: &str) -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> =
        (name, 0).to_socket_addrs().into_iter().flatten().map(|address| address.ip()).collect();
    found.sort_unstable();
    found.dedup();
    found
}
