//! Checks everything between a log line and a dropped packet, also without a daemon.
//!
//! `gather` collects the facts, and [`examine`] says what they mean. The only change that it makes is an element in
//! each set of ipset, for a second.

mod daemon;
mod facts;
mod findings;
mod firewall;
mod fleet;
mod gather;
mod others;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use crate::model::count;
use crate::tools::offline::ended_well;

pub use facts::{
    Chain, DaemonFacts, Enforcement, Facts, IpsetFacts, JournaldSettings, NftablesFacts, NoDaemon,
    PrivateBans, Rsyslog, RuleListing, RunningServer, Samples, SavedFirewall, ServerFault, ServerLog,
    SetFacts, Suspect, Unloadable, Visitor,
};
pub use findings::{Finding, FindingSeverity, examine};

/// Looks at this host, and prints what is as it should be, what is wrong and what to do about it. Whether nothing is.
///
/// # Errors
///
/// What is found cannot be printed.
pub fn run(config: Option<&Path>, json: bool, mut output: impl Write) -> anyhow::Result<bool> {
    let findings = examine(&gather::facts(config)?);
    let text = if json { serde_json::to_string(&findings)? + "\n" } else { text(&findings) };
    ended_well(output.write_all(text.as_bytes()).and_then(|()| output.flush()))?;
    Ok(findings.iter().all(|finding| finding.severity != FindingSeverity::Wrong))
}

/// The findings for people; those that follow from another are counted there.
fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { name, severity, what, fix, cause } in findings {
        if cause.is_some() {
            continue;
        }
        match severity {
            FindingSeverity::Ok => text += &format!("ok: {what}\n"),
            severity => text += &format!("{}: {what} [{name}]\n    {fix}\n", severity.name()),
        }
        let mut followers: BTreeMap<&str, u64> = BTreeMap::new();
        for follower in findings.iter().filter(|finding| finding.cause == Some(name)) {
            *followers.entry(follower.name).or_default() += 1;
        }
        if !followers.is_empty() {
            let named = followers.into_iter().map(|(name, times)| format!("{name} ({times})"));
            text += &format!("    it also causes: {}\n", named.collect::<Vec<_>>().join(", "));
        }
    }
    let is_own = |finding: &&Finding| finding.severity.is_problem() && finding.cause.is_none();
    text += &match findings.iter().filter(is_own).count() {
        0 => "no problems found: bans are enforced\n".to_owned(),
        problems => format!("{} found\n", count(problems as u64, "problem")),
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_from_a_finding_is_counted_there() {
        let finding = |name, severity, cause| Finding {
            name,
            severity,
            what: format!("{name} is so"),
            fix: "do it".to_owned(),
            cause,
        };
        let missing = || finding("set-missing", FindingSeverity::Wrong, Some("no-daemon"));
        let all = [
            finding("sets", FindingSeverity::Ok, None),
            finding("no-daemon", FindingSeverity::Wrong, None),
            missing(),
            missing(),
            finding("drops", FindingSeverity::Doubtful, None),
        ];
        let want = "ok: sets is so
wrong: no-daemon is so [no-daemon]
    do it
    it also causes: set-missing (2)
doubtful: drops is so [drops]
    do it
2 problems found
";
        assert_eq!(text(&all), want);
        assert_eq!(text(&all[..1]), "ok: sets is so\nno problems found: bans are enforced\n");
    }
}
