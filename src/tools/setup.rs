//! Finds the services that run here, says whether their lines arrive, and writes what is missing.
//!
//! `gather` collects the facts, [`plan`] says what they mean, and `apply` writes it. What services there are, and
//! where they log, is in the grammars.

mod apply;
mod gather;
mod plan;
mod rsyslog;

use std::io::Write;
use std::path::Path;

use glob::Pattern;
use serde::Serialize;

use self::gather::Installed;
use self::rsyslog::RsyslogConfig;
use crate::control::client;
use crate::model::{count, plain};
use crate::tools::offline::ended_well;
use crate::tools::terminal::{self, BAD, painted};

pub use apply::{WriteTarget, apply};
pub use gather::{journal_has, sends_errors};
pub use plan::{
    Arrival, FileChange, JailFacts, LogFile, Plan, PlannedService, RsyslogFacts, SYSLOG_FILES, ServiceFacts,
    SetupFacts, plan,
};

/// What `setup` is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetupOptions {
    /// Write what is missing, or take it back.
    pub act: bool,
    /// Take back what was written.
    pub undo: bool,
    /// Change servers' own configuration, too.
    pub server_settings: bool,
    /// Print JSON.
    pub json: bool,
}

/// What `setup --json` prints.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SetupReport {
    /// The services, and what is missing. After `--write` and `--undo` the changes are those that were made.
    #[serde(flatten)]
    pub plan: Plan,
    /// Whether the changes were made.
    pub written: bool,
    /// What else was done, such as a restart.
    pub done: Vec<String>,
}

/// How rsyslog is set, with what `setup` has written and without the drop-in at `own`; `None` where it is not installed. And
/// the command that installs it.
///
/// # Errors
///
/// The configuration is wrong.
pub fn rsyslog_facts(config: Option<&Path>, own: &Path) -> anyhow::Result<(Option<RsyslogFacts>, String)> {
    let mut facts = Installed::load(config)?.rsyslog_facts();
    if let Some(facts) = &mut facts {
        facts.files.retain(|(path, _)| path != own);
        let ours = std::fs::read_to_string(plan::RSYSLOG);
        facts.files.extend(ours.map(|text| (plan::RSYSLOG.into(), text)));
    }
    Ok((facts, gather::installer()))
}

/// Whether rsyslog writes this file itself, so that each line of it is a message that it has got.
pub fn writes(facts: &RsyslogFacts, file: &str) -> bool {
    RsyslogConfig::read(facts.files.iter().map(|(_, text)| text.as_str())).writes(file)
}

/// A drop-in of rsyslog, beginning with `header`, that reads these files for these programs; `None` where others read all of
/// them.
pub fn drop_in_for(header: &str, inputs: &[(String, String)], facts: &RsyslogFacts) -> Option<String> {
    let present = RsyslogConfig::read(facts.files.iter().map(|(_, text)| text.as_str()));
    let is_read = |file: &str| {
        present.inputs().iter().any(|input| {
            let covers =
                Pattern::new(&input.file).is_ok_and(|pattern| pattern.matches(&file.replace('*', "x")));
            input.file == file || covers
        })
    };
    let left: Vec<(String, String)> = inputs.iter().filter(|(file, _)| !is_read(file)).cloned().collect();
    (!left.is_empty()).then(|| rsyslog::drop_in(header, &left, false, &present, &facts.omprog))
}

/// Looks at this host, prints what is missing, and writes it if asked. Whether nothing is missing any more.
///
/// # Errors
///
/// The configuration is wrong, something cannot be written, or not be printed.
pub fn run(config: Option<&Path>, options: SetupOptions, mut output: impl Write) -> anyhow::Result<bool> {
    let installed = Installed::load(config)?;
    let facts = installed.facts();
    let planned = if options.undo { plan::undo(&facts) } else { plan(&facts, options.server_settings) };
    let host = WriteTarget {
        config,
        socket: &client::socket_of(&installed.config),
        drop_in: &facts.drop_in,
        rsyslog: Path::new(plan::RSYSLOG),
        state_directory: &installed.config.state_directory,
        has_rsyslog: facts.rsyslog.is_some(),
    };
    let written = options.act && !planned.changes.is_empty();
    let done = if written { apply(&planned.changes, &host)? } else { Vec::new() };
    let mut report = SetupReport { plan: planned, written, done };
    let is_complete = match (options.undo, written) {
        (true, _) => options.act || report.plan.changes.is_empty(),
        (false, false) => report.plan.is_complete(),
        // As it is now.
        (false, true) => {
            let now = plan(&installed.facts(), options.server_settings);
            let is_complete = now.is_complete();
            (report.plan.services, report.plan.offers, report.plan.notes) =
                (now.services, now.offers, now.notes);
            is_complete
        }
    };
    let text = if options.json { serde_json::to_string(&report)? + "\n" } else { text(&report, options) };
    ended_well(output.write_all(text.as_bytes()).and_then(|()| output.flush()))?;
    Ok(is_complete)
}

fn text(report: &SetupReport, options: SetupOptions) -> String {
    let SetupReport { plan: Plan { services, changes, offers, notes }, written, done } = report;
    let row = |service: &PlannedService| {
        let or =
            |words: &[String], none: &str| if words.is_empty() { none.to_owned() } else { words.join(" ") };
        [
            service.name.clone(),
            or(&service.runs, "does not run"),
            or(&service.ports, ""),
            or(&service.logs, "nowhere"),
            plan::arrived(service),
        ]
    };
    let mut text =
        terminal::table(["SERVICE", "RUNS AS", "PORTS", "LOGS TO", "LINES"], services.iter().map(row));
    if !text.is_empty() {
        text.remove(0);
        text += "\n";
    }
    for PlannedService { name, why, fix, .. } in services.iter().filter(|service| !service.why.is_empty()) {
        text += &format!("{}: {}\n    {}\n", painted(BAD, &plain(name)), plain(why), plain(fix));
    }
    notes.iter().for_each(|note| text += &format!("note: {}\n", plain(note)));
    let verb = match (options.undo, written) {
        (false, true) => "wrote",
        (false, false) => "would write",
        (true, true) => "undid",
        (true, false) => "would undo",
    };
    for FileChange { path, what, diff, .. } in changes {
        text += &format!("{verb} {}: {what}\n", path.display());
        if !written {
            text += &shown(diff);
        }
    }
    for FileChange { path, what, diff, .. } in offers {
        text += &format!("with --server-settings, would change {}: {what}\n", path.display());
        text += &shown(diff);
    }
    done.iter().for_each(|done| text += &format!("{}\n", plain(done)));
    let found = count(services.len() as u64, "service");
    let missing = services.iter().filter(|service| service.arrival != Arrival::Arrive).count();
    let files = count(changes.len() as u64, "file");
    text += &match (options.undo, changes.is_empty(), written) {
        (true, true, _) => "nothing to undo\n".to_owned(),
        (true, false, true) => format!("{files} as before\n"),
        (true, false, false) => format!("{files} to undo; `banstream setup --undo` does it\n"),
        (false, true, _) if missing == 0 => format!("nothing to write: the lines of {found} arrive\n"),
        (false, true, _) => format!("nothing to write; {missing} of {found} need you\n"),
        (false, false, true) if missing == 0 => format!("{files} written; the lines of {found} arrive\n"),
        (false, false, true) => format!("{files} written; {missing} of {found} need you\n"),
        (false, false, false) => format!("{files} to write; `banstream setup --write` does it\n"),
    };
    text
}

/// A diff as it is, but for what would harm a terminal.
fn shown(diff: &str) -> String {
    let line = |line: &str| format!("    {}\n", line.split('\t').map(plain).collect::<Vec<_>>().join("\t"));
    diff.lines().map(line).chain(std::iter::once("\n".to_owned())).collect()
}
