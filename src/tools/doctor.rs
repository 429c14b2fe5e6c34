//! Checks everything between a log line and a dropped packet, also without a daemon.
//!
//! `gather` collects the facts, and [`examine`] says what they mean. The only change that it makes is an element in
//! each set of ipset, for a second.

mod findings;
mod gather;
mod others;

use std::io::Write;
use std::path::Path;

use crate::model::count;
use crate::tools::offline::ended_well;

pub use findings::{
    Chain, DaemonFacts, Enforcement, Facts, Finding, FindingSeverity, IpsetFacts, JournaldSettings,
    NftablesFacts, Rsyslog, RuleListing, RunningServer, Samples, SavedFirewall, ServerFault, ServerLog,
    SetFacts, Suspect, Unloadable, Visitor, examine,
};

/// Looks at this host, and prints what is as it should be, what is wrong and what to do about it. Whether nothing is.
///
/// # Errors
///
/// What is found cannot be printed.
pub fn run(config: Option<&Path>, json: bool, mut output: impl Write) -> anyhow::Result<bool> {
    let findings = examine(&gather::facts(config)?);
    let text = if json {
        serde_json::to_string(&findings)? + "\n"
    } else {
        let shown = |Finding { name, severity, what, fix }: &Finding| match severity {
            FindingSeverity::Ok => format!("ok: {what}\n"),
            severity => format!("{}: {what} [{name}]\n    {fix}\n", severity.name()),
        };
        let mut text: String = findings.iter().map(shown).collect();
        let problems = findings.iter().filter(|finding| finding.severity.is_problem()).count();
        text += &match problems {
            0 => "no problems found: bans are enforced\n".to_owned(),
            problems => format!("{} found\n", count(problems as u64, "problem")),
        };
        text
    };
    ended_well(output.write_all(text.as_bytes()).and_then(|()| output.flush()))?;
    Ok(findings.iter().all(|finding| finding.severity != FindingSeverity::Wrong))
}
