//! Whether protection is real: looks at all that has to hold between a log line and a dropped packet.
//!
//! It stands apart from the daemon, because it has to be able to say why there is none. What there is, `gather`
//! finds out; what that means, [`examine`] says, and knows nothing of how it was found out.
//!
//! It changes nothing, but for one element that it puts into each set for a second.

mod findings;
mod gather;
mod others;

use std::path::Path;

pub use findings::{
    Chain, Daemon, Enforcement, Facts, Finding, Journald, Listing, Rsyslog, Samples, ServerFault, SetFacts,
    Severity, Suspect, examine,
};

/// Looks at this host, and prints what is wrong and what to do about it. Whether nothing is.
///
/// # Errors
///
/// The configuration cannot be loaded, or nobody reads what is printed.
pub fn run(config: Option<&Path>, json: bool) -> anyhow::Result<bool> {
    let findings = examine(&gather::facts(config)?);
    if json {
        println!("{}", serde_json::to_string(&findings)?);
    } else {
        for Finding { name, severity, what, fix } in &findings {
            let severity = if *severity == Severity::Wrong { "wrong" } else { "doubtful" };
            println!("{severity}: {what} [{name}]\n    {fix}");
        }
        if findings.is_empty() {
            println!("nothing is wrong: bans are enforced");
        }
    }
    Ok(findings.iter().all(|finding| finding.severity != Severity::Wrong))
}
