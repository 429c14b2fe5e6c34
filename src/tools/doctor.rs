//! Checks everything between a log line and a dropped packet, also without a daemon.
//!
//! `gather` collects the facts, and [`examine`] says what they mean. The only change that it makes is an element in
//! each set, for a second.

mod findings;
mod gather;
mod others;

use std::io::Write;
use std::path::Path;

use crate::tools::offline::ended_well;

pub use findings::{
    Chain, DaemonFacts, Enforcement, Facts, Finding, FindingSeverity, JournaldSettings, Rsyslog, RuleListing,
    Samples, ServerFault, SetFacts, Suspect, examine,
};

/// Looks at this host, and prints what is wrong and what to do about it. Whether nothing is.
///
/// # Errors
///
/// The configuration cannot be loaded, or what is found not be printed.
pub fn run(config: Option<&Path>, json: bool, mut output: impl Write) -> anyhow::Result<bool> {
    let findings = examine(&gather::facts(config)?);
    let text = if json {
        serde_json::to_string(&findings)? + "\n"
    } else if findings.is_empty() {
        "no problems found: bans are enforced\n".to_owned()
    } else {
        let shown = |Finding { name, severity, what, fix }: &Finding| {
            let severity = if *severity == FindingSeverity::Wrong { "wrong" } else { "doubtful" };
            format!("{severity}: {what} [{name}]\n    {fix}\n")
        };
        findings.iter().map(shown).collect()
    };
    ended_well(output.write_all(text.as_bytes()).and_then(|()| output.flush()))?;
    Ok(findings.iter().all(|finding| finding.severity != FindingSeverity::Wrong))
}
