//! What the facts about a host mean: what prevents bans from being enforced, and how to fix it. It is pure, so that
//! every fault can be tested in a table, without a kernel.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;

use serde::Serialize;

use super::facts::{Enforcement, Facts, NoDaemon};
use crate::model::plain;

/// How many findings of a kind are told, and how many examples of what one is about.
pub(super) const EXAMPLES: usize = 3;

/// From how many findings of a kind on only examples are told: what others can make many of must not bury the rest.
const MANY: usize = 10;

/// Something that was looked at, and how it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Finding {
    /// Its name, for programs; it does not change.
    pub name: &'static str,
    /// How bad it is.
    pub severity: FindingSeverity,
    /// What it is, for people.
    pub what: String,
    /// What to do about it; empty where it is as it should be.
    pub fix: String,
    /// The name of the finding that it follows from: it goes when that is fixed.
    pub cause: Option<&'static str>,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum FindingSeverity {
    /// It is as it should be.
    Ok,
    /// Nothing is wrong; advice.
    Note,
    /// Bans are not enforced, or attacks not seen.
    Wrong,
    /// That may happen.
    Doubtful,
}

impl FindingSeverity {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Wrong => "wrong",
            Self::Doubtful => "doubtful",
        }
    }

    /// Whether anything need be done.
    pub fn is_problem(self) -> bool {
        matches!(self, Self::Wrong | Self::Doubtful)
    }
}

/// Findings that others follow from, and these. They come before all others, in this order.
const CAUSES: [(&str, &[&str]); 10] = [
    ("configuration-broken", &[]),
    ("no-privilege", &[]),
    ("other-namespace", &[]),
    ("no-ipset", &[]),
    ("no-nftables", &[]),
    ("table-missing", &[]),
    ("module-missing", &[]),
    ("no-daemon", REPAIRED),
    ("not-enforced", REPAIRED),
    ("enforcement-failed", REPAIRED),
];

/// What a daemon that enforces bans repairs by itself.
const REPAIRED: &[&str] = &[
    "nftables-table-missing",
    "chain-missing",
    "rule-missing",
    "bans-missing",
    "set-missing",
    "set-unlinked",
    "ineffective-bans",
];

/// How such a host is: what is as it should be, then advice, then what is wrong and what to do about it, causes first.
pub fn examine(facts: &Facts) -> Vec<Finding> {
    let mut findings = Findings(Vec::new());
    match &facts.configuration {
        Ok(()) => findings.ok("configuration", "the configuration is sound".to_owned()),
        Err(faults) => findings.wrong(
            "configuration-broken",
            format!(
                "the configuration is broken, so the next start or reload fails: {}",
                faults.replace('\n', "\n    ")
            ),
            "correct it and look at it with `banstream check`; all else was compared with the files that are sound, and the defaults",
        ),
    }
    for doubt in &facts.doubts {
        // The line itself and the caret are for `check`.
        let first = doubt.lines().next().unwrap_or_default().replace("warning: ", "");
        findings.doubtful(
            "configuration-doubtful",
            plain(first),
            "correct it, or leave it if it is meant so; `banstream check` shows the line",
        );
    }
    if let Some(pid) = facts.elsewhere {
        findings.wrong(
            "other-namespace",
            "the daemon is in another network namespace, so its sets and rules were not examined".to_owned(),
            &format!("run `nsenter --net=/proc/{pid}/ns/net banstream doctor`"),
        );
    }
    let forbidden = match &facts.daemon {
        Err(NoDaemon::Forbidden(socket)) => Some(format!("no permission to ask the daemon at `{socket}`")),
        _ => None,
    };
    let blind = (!facts.capable).then(|| "cannot check sets and rules: CAP_NET_ADMIN is missing".to_owned());
    let unprivileged: Vec<String> = blind.into_iter().chain(forbidden).collect();
    if !unprivileged.is_empty() {
        findings.wrong("no-privilege", unprivileged.join("; "), "run `banstream doctor` as root");
    }
    if let Some((chosen, other)) = &facts.backend {
        findings.ok("backend", chosen.clone());
        let fix = "restart the daemon, or set `backend` in [enforce] to keep what it uses";
        other.iter().for_each(|other| findings.note("backend-differs", other.clone(), fix));
    }
    match &facts.enforcement {
        Some(Enforcement::Ipset(ipset)) => {
            findings.sets(ipset);
            ipset.chains.iter().for_each(|chain| findings.chain(chain));
            findings.first(&ipset.chains, facts.has_ipv6);
            findings.modules(&ipset.modules);
        }
        Some(Enforcement::Nftables(nftables)) => {
            findings.nftables(nftables, facts.daemon.is_ok());
            findings.modules(&nftables.modules);
        }
        None => {}
    }
    facts.saved.iter().for_each(|saved| findings.saved(saved));
    facts.open_seed.iter().for_each(|path| findings.open_seed(path));
    match &facts.daemon {
        Ok(daemon) => findings.daemon(daemon),
        Err(NoDaemon::Silent(why)) => findings.wrong(
            "no-daemon",
            format!("no running daemon: {why}"),
            "start it (`systemctl enable --now banstream`) and look at its log (`banstream log`)",
        ),
        Err(NoDaemon::Forbidden(_)) => {}
    }
    findings.logs(facts);
    findings.geoip(&facts.geoip);
    findings.in_order()
}

pub(super) struct Findings(Vec<Finding>);

impl Findings {
    fn push(&mut self, severity: FindingSeverity, name: &'static str, what: String, fix: &str) {
        self.0.push(Finding { name, severity, what, fix: fix.to_owned(), cause: None });
    }

    /// All, each with its cause.
    fn in_order(self) -> Vec<Finding> {
        let Self(mut findings) = self;
        let is_found =
            |name: &str| findings.iter().any(|finding| finding.name == name && finding.severity.is_problem());
        let found: Vec<_> = CAUSES.into_iter().filter(|(cause, _)| is_found(cause)).collect();
        for finding in findings.iter_mut().filter(|finding| finding.severity.is_problem()) {
            let cause = found.iter().find(|(_, followers)| followers.contains(&finding.name));
            finding.cause = cause.map(|(cause, _)| *cause);
        }
        Self::shorten(&mut findings);
        let place = |name| CAUSES.iter().position(|(cause, _)| *cause == name).unwrap_or(CAUSES.len());
        findings.sort_by_key(|finding| match finding.severity {
            FindingSeverity::Ok => (0, 0),
            FindingSeverity::Note => (1, 0),
            FindingSeverity::Wrong | FindingSeverity::Doubtful => (2, place(finding.name)),
        });
        findings
    }

    /// Leaves examples where there are many of a kind, and says in the last of them how many more there are.
    fn shorten(findings: &mut Vec<Finding>) {
        let kind = |finding: &Finding| (finding.severity, finding.name);
        let mut times = BTreeMap::<_, usize>::new();
        findings.iter().for_each(|finding| *times.entry(kind(finding)).or_default() += 1);
        times.retain(|_, times| *times > MANY);
        let mut told = BTreeMap::<_, usize>::new();
        findings.retain_mut(|finding| {
            let Some(times) = times.get(&kind(finding)) else { return true };
            let told = told.entry(kind(finding)).or_default();
            *told += 1;
            if *told == EXAMPLES {
                finding.what += &format!(" (and {} more like this)", times - EXAMPLES);
            }
            *told <= EXAMPLES
        });
    }

    fn geoip(&mut self, (readable, faults): &(Vec<String>, Vec<String>)) {
        if !readable.is_empty() {
            self.ok("geoip", format!("countries and networks are read from {}", readable.join(", ")));
        }
        for fault in faults {
            self.doubtful(
                "geoip-broken",
                format!("countries or networks are missing: {fault}"),
                "correct the path in `geoip`, or get the file again; it is one in MaxMind's format (.mmdb)",
            );
        }
    }

    pub(super) fn ok(&mut self, name: &'static str, what: String) {
        self.push(FindingSeverity::Ok, name, what, "");
    }

    pub(super) fn note(&mut self, name: &'static str, what: String, fix: &str) {
        self.push(FindingSeverity::Note, name, what, fix);
    }

    pub(super) fn wrong(&mut self, name: &'static str, what: String, fix: &str) {
        self.push(FindingSeverity::Wrong, name, what, fix);
    }

    pub(super) fn doubtful(&mut self, name: &'static str, what: String, fix: &str) {
        self.push(FindingSeverity::Doubtful, name, what, fix);
    }

    /// How many problems were found so far.
    pub(super) fn problems(&self) -> usize {
        self.0.iter().filter(|finding| finding.severity.is_problem()).count()
    }

    /// Whether one of these was found.
    pub(super) fn has(&self, names: &[&str]) -> bool {
        self.0.iter().any(|finding| names.contains(&finding.name))
    }
}

#[cfg(test)]
pub(super) mod tests;
