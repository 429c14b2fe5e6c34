//! What the facts about a host mean: what prevents bans from being enforced, and how to fix it. It is pure, so that
//! every fault can be tested in a table, without a kernel.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use crate::control::FleetStatus;
use crate::kernel::{Family, TableFacts, TableSet, only_drops};
use crate::model::{Span, count, plain};

/// All that was found out about a host.
#[derive(Clone, Debug)]
pub struct Facts {
    /// What is wrong with the files of the configuration. Then the host is compared with those that are sound.
    pub configuration: Result<(), String>,
    /// What is doubtful in them.
    pub doubts: Vec<String>,
    /// Whether we may look at the kernel's sets and rules (CAP_NET_ADMIN).
    pub capable: bool,
    /// Whether the host has IPv6.
    pub has_ipv6: bool,
    /// The daemon's process, if it is in another network namespace: then its sets and rules cannot be looked at.
    pub elsewhere: Option<i32>,
    /// What is in the kernel; `None` where bans are not to be enforced, or we may not look.
    pub enforcement: Option<Enforcement>,
    /// Which backend that is, and why; and why a start would choose the other now, if it would.
    pub backend: Option<(String, Option<String>)>,
    /// What the daemon says; or why none does.
    pub daemon: Result<DaemonFacts, NoDaemon>,
    /// The files of `geoip` that can be read; and what is wrong with the others.
    pub geoip: (Vec<String>, Vec<String>),
    /// How journald is set; `None` where it is not read.
    pub journald: Option<JournaldSettings>,
    /// How rsyslog is set; `None` where it hands us nothing.
    pub rsyslog: Option<Rsyslog>,
    /// Lines of servers' configurations with which no offence can be found, or the wrong one.
    pub servers: Vec<(ServerFault, Suspect)>,
    /// The file of this host's key in the fleet, if all users may read it.
    pub open_seed: Option<String>,
    /// Firewalls that were saved to files with our rule in them.
    pub saved: Vec<SavedFirewall>,
}

/// Why the daemon says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoDaemon {
    /// It does not answer; why.
    Silent(String),
    /// We may not ask it; where.
    Forbidden(String),
}

/// A firewall in a file, with our rule in it.
#[derive(Clone, Debug)]
pub struct SavedFirewall {
    /// The file.
    pub path: String,
    /// Whether it can be loaded at boot.
    pub loads: Result<(), Unloadable>,
}

/// Why a saved firewall cannot be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unloadable {
    /// Nothing creates the sets that the rule refers to.
    NoSets,
    /// `nft` does not read the rules that iptables-nft wrote.
    Foreign,
    /// It has the table of nftables, which nobody but the daemon may change.
    Owned,
}

/// A server that runs, and whose lines a grammar reads.
#[derive(Clone, Debug)]
pub struct RunningServer {
    /// The name of its process.
    pub program: String,
    /// How many lines of its grammar the daemon has read.
    pub lines: u64,
    /// How many seconds ago the last one came.
    pub silent: Option<u64>,
    /// Where its lines go.
    pub log: ServerLog,
}

/// Where a server's lines go, as far as its configuration says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerLog {
    /// To syslog or the journal.
    Read,
    /// To files that nobody reads.
    Files,
    /// To the engine of its container.
    Container,
}

/// A person who is logged in from another host.
#[derive(Clone, Debug)]
pub struct Visitor {
    /// From there.
    pub address: String,
    /// Why the address is not banned, if it is exempt.
    pub exemption: Option<String>,
}

/// Bans of jails on private addresses.
#[derive(Clone, Debug, Default)]
pub struct PrivateBans {
    /// How many.
    pub times: u64,
    /// Some of them, three at the most: the address, and the jail.
    pub examples: Vec<(String, String)>,
}

/// How many findings of a kind are told, and how many examples of what one is about.
pub(super) const EXAMPLES: usize = 3;

/// From how many findings of a kind on only examples are told: what others can make many of must not bury the rest.
const MANY: usize = 10;

/// How rsyslog is set.
#[derive(Clone, Debug, Default)]
pub struct Rsyslog {
    /// Settings that make it drop messages.
    pub limits: Vec<Suspect>,
    /// Where it is said at how many bytes messages are cut, and at how many.
    pub sizes: Vec<(Suspect, u64)>,
}

/// What is wrong with a line of a server's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerFault {
    /// Its log goes through `logger`, which splits lines.
    Logger,
    /// It logs the names of clients instead of their addresses; and what to set.
    Names(&'static str),
    /// So does PAM for it.
    PamNames(&'static str),
}

/// What is in the kernel.
#[derive(Clone, Debug)]
pub enum Enforcement {
    /// Sets of ipset and rules of iptables.
    Ipset(IpsetFacts),
    /// A table of nftables.
    Nftables(NftablesFacts),
}

/// What is in the kernel of nftables.
#[derive(Clone, Debug)]
pub struct NftablesFacts {
    /// The name of the table.
    pub name: String,
    /// The table, if there is one; or why it cannot be looked at.
    pub table: Result<Option<TableFacts>, String>,
    /// The processes that have the socket to which it belongs, as far as they can be seen.
    pub holders: Vec<String>,
    /// Whether the daemon is one of them; `None` where that cannot be seen.
    pub is_daemons: Option<bool>,
    /// Whether the settings want it to have an owner.
    pub is_to_be_owned: bool,
    /// Whether the kernel can give it one that others cannot wait out: since 6.9.
    pub can_be_owned: bool,
    /// How many of the daemon's bans were looked up.
    pub looked_up: usize,
    /// Those of them that are not there.
    pub lacking: Vec<String>,
    /// The modules that are neither loaded nor on disk.
    pub modules: Vec<&'static str>,
}

/// What is in the kernel of ipset and iptables.
#[derive(Clone, Debug)]
pub struct IpsetFacts {
    /// The sets there ought to be; or why they cannot be looked at.
    pub sets: Result<Vec<SetFacts>, String>,
    /// The chains that there ought to be a rule in.
    pub chains: Vec<Chain>,
    /// The kernel's modules that it takes, and that are neither loaded nor on disk. A kernel may have them built in
    /// and not say so: they are the reason only where something does not work.
    pub modules: Vec<&'static str>,
}

/// One set.
#[derive(Clone, Debug)]
pub struct SetFacts {
    /// Its name.
    pub name: String,
    /// Elements and room for them; `None` where there is no such set.
    pub filled: Option<(u32, u32)>,
    /// Whether the set that the rule refers to has it as a member.
    pub linked: bool,
    /// Whether an element that was put in is found again; or why it could not be put in.
    pub found: Result<bool, String>,
}

/// One chain of one family.
#[derive(Clone, Debug)]
pub struct Chain {
    /// The family.
    pub family: Family,
    /// `raw PREROUTING`.
    pub name: String,
    /// By the program that is configured.
    pub listing: RuleListing,
    /// By those of its variants (legacy, nft) that keep rules of their own.
    pub others: Vec<RuleListing>,
}

/// The rules of a chain, as one program lists them.
#[derive(Clone, Debug)]
pub struct RuleListing {
    /// The program.
    pub program: String,
    /// The rules in their order, and which are ours; or why they cannot be listed.
    pub rules: Result<Vec<(String, bool)>, String>,
}

impl RuleListing {
    /// Where our rule stands first, from 0; rules that only drop do not count.
    fn place(&self) -> Option<usize> {
        self.others().position(|(_, ours)| *ours)
    }

    /// The rules that a packet may pass, ours included.
    fn others(&self) -> impl Iterator<Item = &(String, bool)> {
        self.rules.iter().flatten().filter(|(rule, ours)| *ours || !only_drops(rule))
    }
}

/// What the daemon says of itself.
#[derive(Clone, Debug)]
pub struct DaemonFacts {
    /// `kernel`, or `none` where it only decides and logs.
    pub mode: String,
    /// Where its bans go.
    pub backend: Option<String>,
    /// What keeps it from enforcing bans, if anything does.
    pub fault: Option<String>,
    /// The jails that only observe.
    pub observing: Vec<String>,
    /// Its sources, and for how many seconds nothing came from each, since the start if `None`; or why it is not read.
    pub sources: Vec<(String, Result<Option<u64>, String>)>,
    /// Its receivers, and how many messages each has got; or why it gets none.
    pub receivers: Vec<(String, Result<u64, String>)>,
    /// The servers on this host that its grammars are about.
    pub running: Vec<RunningServer>,
    /// Who is logged in.
    pub visitors: Vec<Visitor>,
    /// For how many seconds it runs.
    pub uptime: u64,
    /// Bans of addresses that no packet from the internet has, with their jails.
    pub private_bans: PrivateBans,
    /// Grammars most of whose requests come from one address, and that.
    pub crowds: Vec<(String, String)>,
    /// Sources that bring the same lines, in words.
    pub duplicates: Vec<String>,
    /// The fleet that it is in, if any.
    pub fleet: Option<FleetStatus>,
    /// Its metrics.
    pub samples: Samples,
}

/// Metrics in Prometheus' text format.
#[derive(Clone, Debug, Default)]
pub struct Samples(pub String);

impl Samples {
    /// The labels of this metric's samples that are not 0, as they are written.
    fn nonzero<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s str> {
        self.0.lines().filter_map(move |line| {
            let (sample, value) = line.rsplit_once(' ')?;
            let labels = sample.strip_prefix(name)?;
            let whole = labels.is_empty() || labels.starts_with('{');
            (whole && value.parse::<f64>().is_ok_and(|value| value > 0.0))
                .then(|| labels.trim_matches(['{', '}']))
        })
    }

    /// Those labels in one text; `None` where there are none.
    fn told(&self, name: &str) -> Option<String> {
        let mut found = self.nonzero(name).peekable();
        found.peek()?;
        Some(found.collect::<Vec<_>>().join("; "))
    }
}

/// How journald is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournaldSettings {
    /// How many messages of one service it takes in how long; 0 for all.
    pub burst: u64,
    /// In how long; zero for all.
    pub interval: Span,
    /// Whether it keeps none at all (`Storage=none`).
    pub keeps_none: bool,
}

impl Default for JournaldSettings {
    /// journald.conf(5).
    fn default() -> Self {
        Self { burst: 10_000, interval: Span::from_secs(30), keeps_none: false }
    }
}

/// A line of a configuration of others that is suspect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// File and line.
    pub place: String,
    /// What stands there.
    pub text: String,
}

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

/// Seconds in which something comes from rsyslog, if only from cron.
const SILENT: u64 = 70 * 60;

/// Seconds in which it comes for the first time.
const NEVER: u64 = 10 * 60;

/// Bytes: nginx and Apache write a header of 8 KiB as 32 KiB of `\xHH`, and a line has two.
pub(super) const LONG_ENOUGH: u64 = 64 << 10;

const PROXY: &str = "let the server log the client's address (nginx: real_ip; Apache: mod_remoteip), or name the proxy in \
     `trusted-proxies`; see grammars/README.md, `Behind a proxy`";

const RESTART: &str = "a running daemon repairs this within seconds; otherwise start it, or look at its log";

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

    /// Whether one of these was found.
    fn has(&self, names: &[&str]) -> bool {
        self.0.iter().any(|finding| names.contains(&finding.name))
    }

    fn nftables(&mut self, facts: &NftablesFacts, is_running: bool) {
        let name = &facts.name;
        let table = match &facts.table {
            Ok(Some(table)) => table,
            Ok(None) => {
                let what = format!("the table `inet {name}` is missing, so bans are not enforced");
                return self.wrong("nftables-table-missing", what, RESTART);
            }
            Err(why) => {
                return self.wrong(
                    "no-nftables",
                    format!("cannot look at the kernel's tables: {why}"),
                    "load the kernel's module nf_tables, or give this container the right to use it",
                );
            }
        };
        let before = self.0.len();
        if !table.is_hooked {
            let what = format!("no chain of the table `inet {name}` sees packets as they arrive");
            self.wrong("chain-missing", what, RESTART);
        }
        for TableSet { name: set, elements, capacity, has_rule } in &table.sets {
            if !has_rule {
                let what = format!("no rule of the table `inet {name}` looks into its set `{set}`");
                self.wrong("rule-missing", what, RESTART);
            } else if elements.is_some_and(|elements| elements >= *capacity) {
                self.full(set, *capacity);
            }
        }
        if !facts.lacking.is_empty() {
            let (lacking, all) = (facts.lacking.join(", "), count(facts.looked_up as u64, "ban"));
            let what =
                format!("of {all} that were looked up, these are not in the table `inet {name}`: {lacking}");
            self.wrong("bans-missing", what, RESTART);
        }
        let holders = match facts.holders.as_slice() {
            [] => "a process that cannot be seen from here".to_owned(),
            holders => holders.join(", "),
        };
        let belongs = format!("the table `inet {name}` belongs to {holders}");
        match table.owner {
            Some(_) if is_running && facts.is_daemons == Some(false) => self.wrong(
                "table-of-another",
                format!("{belongs}, and not to the daemon, so the daemon cannot change it"),
                "stop that program, or choose another name (`set` in [enforce])",
            ),
            Some(_) => {}
            None if !facts.is_to_be_owned => self.note(
                "table-unowned",
                format!("other programs can change the table `inet {name}`: `owned` is false in [enforce]"),
                "nothing, if that is meant; the daemon restores what they change",
            ),
            None if !facts.can_be_owned => self.note(
                "table-unowned",
                format!("other programs can change the table `inet {name}`: the kernel is older than 6.9"),
                "nothing; the daemon restores what they change",
            ),
            None if !is_running => self.note(
                "table-unowned",
                format!("other programs can remove the table `inet {name}` until the daemon starts"),
                "start it; under systemd 254 or later, systemd keeps the table's socket over a stop",
            ),
            None => self.doubtful(
                "table-unowned",
                format!("other programs can change the table `inet {name}`, which the daemon does not own"),
                "restart the daemon",
            ),
        }
        if self.0.iter().skip(before).any(|finding| finding.severity.is_problem()) {
            return;
        }
        if table.owner.is_some() {
            self.ok("table", format!("{belongs}, so nobody else can change it"));
        }
        let sets = table.sets.iter().map(|TableSet { name, elements, capacity, .. }| match elements {
            Some(elements) => format!("`{name}` {elements} of {capacity}"),
            None => format!("`{name}`"),
        });
        let sets: Vec<String> = sets.collect();
        let what = format!(
            "the table sees packets before all others, and has a rule for each set: {}",
            sets.join(", ")
        );
        self.ok("rule", what);
        if facts.looked_up > 0 {
            let what = format!("the kernel has all bans that were looked up: {}", facts.looked_up);
            self.ok("bans", what);
        }
    }

    fn full(&mut self, set: &str, elements: u32) {
        self.wrong(
            "set-full",
            format!("the set `{set}` is full ({elements} elements), so new bans are not enforced"),
            "raise `max-elements` in [enforce], or ban prefixes ([widen])",
        );
    }

    fn sets(&mut self, facts: &IpsetFacts) {
        let sets = match &facts.sets {
            Ok(sets) => sets,
            Err(why) => {
                let what = format!("cannot list the kernel's sets: {why}");
                return self.wrong(
                    "no-ipset",
                    what,
                    "load the kernel's ipset modules, or give this container the right to use them",
                );
            }
        };
        let before = self.0.len();
        for SetFacts { name, filled, linked, found } in sets {
            match *filled {
                None => self.wrong("set-missing", format!("the set `{name}` is missing"), RESTART),
                Some((elements, capacity)) if elements >= capacity => self.full(name, elements),
                Some(_) if !linked => self.wrong(
                    "set-unlinked",
                    format!("the rule does not use the set `{name}`: it is not a member of the list"),
                    RESTART,
                ),
                Some(_) => match found {
                    Ok(true) => {}
                    Ok(false) => self.wrong(
                        "probe-lost",
                        format!("the set `{name}` accepted a test element, but does not contain it"),
                        "another program empties or replaces the set; look for `ipset` in its scripts",
                    ),
                    Err(why) => self.wrong(
                        "probe-refused",
                        format!("the set `{name}` refuses a test element: {why}"),
                        "find the other user of this set, or choose another name (`set` in [enforce])",
                    ),
                },
            }
        }
        if self.0.len() == before && !sets.is_empty() {
            let filled = sets.iter().map(|SetFacts { name, filled, .. }| {
                let (elements, capacity) = filled.unwrap_or_default();
                format!("`{name}` {elements} of {capacity}")
            });
            let filled: Vec<String> = filled.collect();
            self.ok("sets", format!("the sets take elements and keep them: {}", filled.join(", ")));
        }
    }

    /// Says where the rule is first.
    fn first(&mut self, chains: &[Chain], has_ipv6: bool) {
        let mut names: Vec<&str> = chains.iter().map(|chain| chain.name.as_str()).collect();
        names.dedup();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let first = chains.iter().filter(|chain| chain.name == name && chain.listing.place() == Some(0));
            let first: Vec<String> = first.map(|chain| chain.family.to_string()).collect();
            if !first.is_empty() {
                let without = if has_ipv6 { "" } else { "; this host has no IPv6" };
                self.ok("rule", format!("the rule is first in `{name}` ({}){without}", first.join(", ")));
            }
        }
    }

    fn saved(&mut self, SavedFirewall { path, loads }: &SavedFirewall) {
        match loads {
            Ok(()) => self.ok(
                "saved-firewall",
                format!("`{path}` has the rule, and its sets are created before it is loaded at boot"),
            ),
            Err(Unloadable::NoSets) => self.wrong(
                "saved-without-sets",
                format!(
                    "`{path}` has the rule, but nothing creates its sets before it is loaded at boot: then none of its \
                     rules is loaded"
                ),
                "systemctl enable banstream-sets.service (contrib/systemd), or take the rule out of the file",
            ),
            Err(Unloadable::Owned) => self.wrong(
                "saved-table",
                format!("`{path}` has the table of the daemon: while the daemon runs, nothing of the file can be loaded"),
                "take that table out of the file; save your own tables only (`nft list table inet filter`)",
            ),
            Err(Unloadable::Foreign) => self.wrong(
                "saved-unreadable",
                format!("`{path}` has rules of iptables-nft (`xt match`), which `nft` does not read: it does not load at boot"),
                "take `table ip raw` and `table ip6 raw` out of the file; save your own tables only \
                 (`nft list table inet filter`)",
            ),
        }
    }

    fn chain(&mut self, chain: &Chain) {
        let Chain { family, name, listing, others } = chain;
        let program = &listing.program;
        match &listing.rules {
            Ok(_) => {}
            Err(why) if why.contains("Table does not exist") => {
                let table = name.split(' ').next().unwrap_or_default();
                return self.wrong(
                    "table-missing",
                    format!(
                        "the kernel has no table `{table}` for {family}, so its bans are not enforced: {why}"
                    ),
                    "modprobe iptable_raw ip6table_raw (a container uses the modules of its host), or set \
                     `table = \"mangle\"` in [enforce]",
                );
            }
            Err(why) => {
                let what =
                    format!("`{program}` cannot list `{name}`, so {family} bans may not be enforced: {why}");
                return self.wrong(
                    "rules-unknown",
                    what,
                    "install iptables, or name the program in [enforce]",
                );
            }
        }
        let elsewhere = others.iter().find(|other| other.place().is_some());
        match (listing.place(), elsewhere) {
            (None, None) => self.wrong(
                "rule-missing",
                format!("`{name}` has no rule for {family}, so its bans are not enforced"),
                RESTART,
            ),
            (None, Some(other)) => self.wrong(
                "rule-in-other-variant",
                format!(
                    "the rule for {family} is in `{}`, but `{program}` is another variant now",
                    other.program
                ),
                "set `iptables` and `ip6tables` in [enforce] to the variant of this host's other rules",
            ),
            (Some(_), Some(other)) => self.doubtful(
                "rule-in-both-variants",
                format!("the rule for {family} is both in `{program}` and in `{}`", other.program),
                "remove the unused one; otherwise it stays after the daemon stops",
            ),
            (Some(0), None) => {}
            (Some(place), None) => {
                let (precede, rules_before) =
                    (if place == 1 { "precedes" } else { "precede" }, count(place as u64, "rule"));
                let mut what = format!(
                    "{rules_before} in `{name}` ({family}) {precede} ours and may accept banned addresses:"
                );
                for (rule, _) in listing.others().take(place.min(3)) {
                    let _ = write!(what, " `{rule}`");
                }
                self.wrong(
                    "rule-displaced",
                    what,
                    "start the program that adds them before banstream, or let it append its rules",
                );
            }
        }
    }

    /// Says which modules are missing, where sets or rules do not work.
    fn modules(&mut self, modules: &[&str]) {
        let may_lack_one = [
            "no-ipset",
            "no-nftables",
            "set-missing",
            "probe-refused",
            "rules-unknown",
            "rule-missing",
            "table-missing",
        ];
        if self.has(&may_lack_one) && !modules.is_empty() {
            let modules = modules.join(" ");
            self.wrong(
                "module-missing",
                format!("kernel modules are neither loaded nor on disk: {modules}"),
                &format!(
                    "modprobe -a {modules}; if that fails, install the kernel's modules, or reboot after an update \
                     of the kernel. A container uses the modules of its host: load them there"
                ),
            );
        }
    }

    fn daemon(&mut self, daemon: &DaemonFacts) {
        let DaemonFacts {
            mode,
            backend: _,
            fault,
            observing,
            sources,
            receivers,
            running,
            visitors,
            uptime,
            private_bans,
            crowds,
            duplicates,
            fleet,
            samples,
        } = daemon;
        if mode == "none" {
            let what = "bans are decided and logged, but not enforced".to_owned();
            self.wrong("not-enforced", what, "set mode = \"enforce\", and run without --dry-run");
        } else if !observing.is_empty() {
            let what = format!("these jails only observe: {}", observing.join(" "));
            self.doubtful("observing", what, "once their bans are right, remove `mode = \"observe\"`");
        }
        if let Some(error) = fault {
            self.wrong(
                "enforcement-failed",
                format!("the daemon cannot enforce bans: {error}"),
                "follow that message",
            );
        }
        for (name, read) in sources {
            match read {
                Ok(Some(silent)) => {
                    let ago = Span::from_secs(*silent);
                    self.ok("source", format!("`{name}` is read; the last entry came {ago} ago"));
                }
                Ok(None) => {
                    self.ok("source", format!("`{name}` is read; no entry has come since the daemon's start"))
                }
                Err(why) => self.wrong(
                    "source-failed",
                    format!("cannot read `{name}`: {why}"),
                    "follow that message; the daemon tries again by itself",
                ),
            }
        }
        running.iter().for_each(|server| self.running(server));
        for (name, delivered) in receivers {
            match delivered {
                Ok(0) => self.note(
                    "receiver-unused",
                    format!("no message has gone to `{name}` yet"),
                    &format!("`banstream notify {name}` sends a test"),
                ),
                Ok(delivered) => {
                    self.ok("receiver", format!("`{name}` has got {}", count(*delivered, "message")))
                }
                Err(why) => self.doubtful(
                    "receiver-failed",
                    format!("the receiver `{name}` does not get its messages: {why}"),
                    &format!("follow that message, then try it with `banstream notify {name}`"),
                ),
            }
        }
        for Visitor { address, exemption } in visitors {
            match exemption {
                Some(why) => self.ok("visitor", format!("{address}, from where somebody is logged in, is exempt: {why}")),
                None => self.doubtful(
                    "visitor-not-exempt",
                    format!("somebody is logged in from {address}, which is not exempt: mistakes there could lock you out"),
                    &format!("if it is yours, add it to `ignoreip`, or run `banstream allow {address}`"),
                ),
            }
        }
        match fleet {
            _ if !sources.is_empty() => {}
            Some(_) => self.note(
                "no-source",
                "the daemon reads no log: it only enforces bans of other hosts of the fleet".to_owned(),
                "nothing, if that is meant; otherwise enable [journald] or [socket]",
            ),
            None => {
                let what = "the daemon reads no log".to_owned();
                self.wrong("no-source", what, "enable [journald] or [socket]");
            }
        }
        let silent = sources.iter().filter_map(|(_, read)| *read.as_ref().ok()?).min();
        if !sources.is_empty()
            && sources.iter().all(|(name, read)| name == "socket" && read.is_ok())
            && silent.map_or(*uptime >= NEVER, |silent| silent >= SILENT)
        {
            let what = format!(
                "no entries from rsyslog for {}, and there is no other source",
                Span::from_secs(silent.unwrap_or(*uptime))
            );
            self.wrong(
                "socket-silent",
                what,
                "copy contrib/rsyslog/10-banstream.conf to /etc/rsyslog.d, and look at `rsyslogd -N1` and rsyslog's log; \
                 or read the journal: set enabled = true in [journald]",
            );
        }
        for duplicate in duplicates {
            self.wrong(
                "same-lines",
                duplicate.clone(),
                "leave one out: write `enabled = false` below [journald], or remove banstream's drop-in from /etc/rsyslog.d",
            );
        }
        for (grammar, address) in crowds {
            self.doubtful(
                "one-client",
                format!("nearly all requests that `{grammar}` reads come from {address}, which is probably a proxy"),
                PROXY,
            );
        }
        let PrivateBans { times, examples } = private_bans;
        if *times > 0 {
            let named: Vec<String> =
                examples.iter().map(|(address, jail)| format!("{address} ({jail})")).collect();
            let are = if *times == 1 { "bans a private address" } else { "ban private addresses" };
            let such = if *times > examples.len() as u64 { ", such as " } else { ": " };
            self.doubtful(
                "private-ban",
                format!(
                    "{} {are}, which may be a proxy for many clients{such}{}",
                    count(*times, "ban"),
                    named.join(", ")
                ),
                PROXY,
            );
        }
        fleet.iter().for_each(|fleet| self.fleet(fleet));
        if let Some(jails) = samples.told("banstream_bans_ineffective_total") {
            self.wrong(
                "ineffective-bans",
                format!("banned addresses still cause offences: {jails}"),
                "they bypass the rule: through a proxy or load balancer (then the packets have its address, \
                 and you must block the clients there), another address family or network namespace, \
                 or ports that the jail does not block (`ports`)",
            );
        }
        if let Some(reasons) = samples.told("banstream_drops_total") {
            let what = format!("entries or bans were lost or left out since the start: {reasons}");
            self.doubtful("drops", what, "`banstream_drops_total` shows how many, the daemon's log why");
        }
        if samples.told("banstream_ledger_errors_total").is_some() {
            let what = "the ledger could not be read or written, so bans may not survive a reboot".to_owned();
            self.wrong(
                "ledger-errors",
                what,
                "check free space and permissions of `state-directory`, and the daemon's log",
            );
        }
        if samples.told("banstream_clock_jumps_total").is_some() {
            let what =
                "the clock jumped while the daemon ran, so bans may have ended early or late".to_owned();
            self.doubtful(
                "clock-jumps",
                what,
                "let chrony or systemd-timesyncd slew the clock; after a suspend this is normal",
            );
        }
        if let Some(sources) = samples.told("banstream_entries_unattested_total") {
            self.doubtful(
                "unattested",
                format!("a source cannot verify senders, so local users can forge lines: {sources}"),
                "read from journald, let rsyslog forward the senders (contrib/rsyslog), or set \
                 unattested = \"refuse\" in [socket]",
            );
        }
        if let Some(grammars) = samples.told("banstream_entries_forged_total") {
            let what = format!("a local user forges log lines of a server: {grammars}");
            self.doubtful(
                "forged-lines",
                what,
                "`journalctl _UID=...` shows the user; these lines were not counted",
            );
        }
    }

    fn running(&mut self, RunningServer { program, lines, silent, log }: &RunningServer) {
        match log {
            _ if *lines > 0 => {
                let ago = silent.map_or(String::new(), |silent| {
                    format!(", the last {} ago", Span::from_secs(silent))
                });
                self.ok("server", format!("`{program}` runs; lines of it were read: {lines}{ago}"));
            }
            ServerLog::Read => self.note(
                "server-silent",
                format!("`{program}` runs; no line of it has come since the daemon's start"),
                "nothing, if it had nothing to log; otherwise see where it logs (contrib/guide.md, `Install`)",
            ),
            ServerLog::Files => self.wrong(
                "server-unread",
                format!("`{program}` runs, but no line of it was read: its requests are logged to files"),
                "`banstream setup` shows how they can be read, and `banstream setup --write` lets rsyslog read them",
            ),
            ServerLog::Container => self.doubtful(
                "server-in-container",
                format!("`{program}` runs in a container, and no line of it was read"),
                &format!(
                    "if strangers reach it, let the engine log to the journal: `--log-driver journald --log-opt tag={program}`"
                ),
            ),
        }
    }

    fn logs(&mut self, facts: &Facts) {
        if let Some(journald) = &facts.journald {
            let usual = JournaldSettings::default();
            let JournaldSettings { burst, interval, keeps_none } = *journald;
            if keeps_none {
                let what = "journald keeps no messages (Storage=none), so there are none to read".to_owned();
                self.wrong("journald-keeps-none", what, "set Storage=volatile in journald.conf(5)");
            } else if burst > 0 && interval > Span::ZERO {
                let what = format!(
                    "journald drops messages of a service beyond {burst} in {interval}, so a large attack can hide itself"
                );
                let fix = "set RateLimitIntervalSec=0 in journald.conf(5), or LogRateLimitIntervalSec=0 in the servers' units";
                // Messages in the time of the other, to avoid a division.
                let ours = u128::from(burst) * u128::from(usual.interval.as_micros());
                if ours < u128::from(usual.burst) * u128::from(interval.as_micros()) {
                    self.wrong("journald-rate-limit", what, fix);
                } else {
                    self.note("journald-rate-limit", what, fix);
                }
            }
        }
        if let Some(rsyslog) = &facts.rsyslog {
            self.rsyslog(rsyslog);
        }
        for (fault, Suspect { place, text }) in &facts.servers {
            match fault {
                ServerFault::Logger => self.wrong(
                    "logger-pipe",
                    format!("`logger` splits lines over 1 KiB, and a client can choose how the rest begins: {place}: `{text}`"),
                    "log to a file that rsyslog reads (contrib/rsyslog/20-banstream-files.conf), or give `logger` --size 128KiB",
                ),
                ServerFault::Names(fix) => self.wrong(
                    "names-logged",
                    format!("a server logs host names instead of addresses, so it causes no bans: {place}: `{text}`"),
                    fix,
                ),
                ServerFault::PamNames(fix) => self.doubtful(
                    "names-in-pam",
                    format!("PAM logs host names of a server's clients instead of addresses: {place}: `{text}`"),
                    fix,
                ),
            }
        }
    }

    fn rsyslog(&mut self, Rsyslog { limits, sizes }: &Rsyslog) {
        for Suspect { place, text } in limits {
            let what = format!("rsyslog drops messages at high rates: {place}: `{text}`");
            self.doubtful("rsyslog-rate-limit", what, "set the interval of that rate limit to 0");
        }
        let small = sizes.iter().filter(|(_, size)| *size < LONG_ENOUGH);
        let mut told: Vec<String> =
            small.map(|(Suspect { place, text }, _)| format!("{place}: `{text}`")).collect();
        if sizes.is_empty() {
            told.push("no file sets a limit, and the default is 8096 bytes".to_owned());
        }
        if !told.is_empty() {
            let what = format!(
                "rsyslog cuts long messages, so a client can hide the result of its request: {}",
                told.join("; ")
            );
            self.wrong(
                "rsyslog-cuts",
                what,
                "set global(maxMessageSize=\"128k\") in /etc/rsyslog.conf, and no smaller limit elsewhere",
            );
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A host on which all is well.
    fn sound() -> Facts {
        let listing = |program: &str| RuleListing {
            program: program.to_owned(),
            rules: Ok(vec![
                ("-A PREROUTING ours".to_owned(), true),
                ("-A PREROUTING other".to_owned(), false),
            ]),
        };
        let chain = |family, program| Chain {
            family,
            name: "raw PREROUTING".to_owned(),
            listing: listing(program),
            others: vec![RuleListing { program: format!("{program}-legacy"), rules: Ok(vec![]) }],
        };
        let set = |name: &str| SetFacts {
            name: name.to_owned(),
            filled: Some((1, 9)),
            linked: true,
            found: Ok(true),
        };
        let samples = "# HELP banstream_drops_total What was lost.\n\
                       banstream_drops_total{reason=\"overlong\"} 0\nbanstream_entries_total{source=\"journald\"} 9\n";
        Facts {
            configuration: Ok(()),
            doubts: Vec::new(),
            capable: true,
            has_ipv6: true,
            elsewhere: None,
            enforcement: Some(Enforcement::Ipset(IpsetFacts {
                sets: Ok(vec![set("banstream4"), set("banstream6")]),
                chains: vec![chain(Family::V4, "iptables"), chain(Family::V6, "ip6tables")],
                modules: Vec::new(),
            })),
            backend: Some(("bans go to ipset: x".to_owned(), None)),
            daemon: Ok(DaemonFacts {
                mode: "kernel".to_owned(),
                backend: Some("ipset".to_owned()),
                fault: None,
                observing: Vec::new(),
                sources: vec![("journald".to_owned(), Ok(Some(9)))],
                receivers: vec![("chat".to_owned(), Ok(3))],
                running: vec![RunningServer {
                    program: "nginx".to_owned(),
                    lines: 5,
                    silent: Some(2),
                    log: ServerLog::Files,
                }],
                visitors: vec![Visitor {
                    address: "203.0.113.9".to_owned(),
                    exemption: Some("listed".to_owned()),
                }],
                uptime: 99,
                private_bans: PrivateBans::default(),
                crowds: Vec::new(),
                duplicates: Vec::new(),
                fleet: None,
                samples: Samples(samples.to_owned()),
            }),
            journald: Some(JournaldSettings { burst: 0, ..JournaldSettings::default() }),
            rsyslog: None,
            servers: Vec::new(),
            open_seed: None,
            saved: vec![SavedFirewall { path: "/etc/iptables/rules.v4".to_owned(), loads: Ok(()) }],
            geoip: (vec!["/a.mmdb".to_owned()], Vec::new()),
        }
    }

    fn silent() -> Result<DaemonFacts, NoDaemon> {
        Err(NoDaemon::Silent("x".to_owned()))
    }

    fn suspect() -> Suspect {
        Suspect { place: "/etc/x.conf:3".to_owned(), text: "x".to_owned() }
    }

    /// The names of what is found once this was done to a sound host; those in capitals are wrong, those with a dot are
    /// advice, the others doubtful.
    #[track_caller]
    pub(crate) fn check(harm: impl FnOnce(&mut Facts), want: &[&str]) {
        let mut facts = sound();
        harm(&mut facts);
        let shown = |Finding { name, severity, fix, .. }: &Finding| {
            assert_eq!(fix.is_empty(), *severity == FindingSeverity::Ok);
            match severity {
                FindingSeverity::Ok => None,
                FindingSeverity::Note => Some(format!("{name}.")),
                FindingSeverity::Wrong => Some(name.to_uppercase()),
                FindingSeverity::Doubtful => Some((*name).to_owned()),
            }
        };
        assert_eq!(examine(&facts).iter().filter_map(shown).collect::<Vec<_>>(), want);
    }

    fn ipset(facts: &mut Facts) -> &mut IpsetFacts {
        match facts.enforcement.as_mut() {
            Some(Enforcement::Ipset(ipset)) => ipset,
            other => panic!("{other:?}"),
        }
    }

    fn set(facts: &mut Facts) -> &mut SetFacts {
        &mut ipset(facts).sets.as_mut().unwrap()[1]
    }

    fn chain(facts: &mut Facts) -> &mut Chain {
        &mut ipset(facts).chains[1]
    }

    /// A host on which nftables enforces, and all is well but for this.
    fn with_nftables(harm: impl FnOnce(&mut NftablesFacts, &mut TableFacts)) -> impl FnOnce(&mut Facts) {
        let set =
            |name: &str, elements| TableSet { name: name.to_owned(), elements, capacity: 9, has_rule: true };
        let mut table = TableFacts {
            owner: Some(7),
            is_hooked: true,
            sets: vec![set("ipv4_32", Some(3)), set("ipv6_64", None)],
        };
        let mut nftables = NftablesFacts {
            name: "banstream".to_owned(),
            table: Ok(None),
            holders: ["process 7 (`banstream`)", "process 1 (`systemd`)"].map(str::to_owned).into(),
            is_daemons: Some(true),
            is_to_be_owned: true,
            can_be_owned: true,
            looked_up: 2,
            lacking: Vec::new(),
            modules: vec!["nf_tables"],
        };
        harm(&mut nftables, &mut table);
        nftables.table = Ok(Some(table));
        let enforcement = Some(Enforcement::Nftables(nftables));
        move |facts| facts.enforcement = enforcement
    }

    fn daemon(facts: &mut Facts) -> &mut DaemonFacts {
        facts.daemon.as_mut().unwrap()
    }

    fn sample(line: &str) -> impl FnOnce(&mut Facts) {
        move |facts| daemon(facts).samples.0 += &format!("{line}\n")
    }

    #[test]
    fn a_sound_host_has_no_fault() {
        check(|_| {}, &[]);
        check(|facts| facts.journald = None, &[]);
    }

    #[test]
    fn what_is_verified_is_said() {
        #[track_caller]
        fn check(facts: &Facts, want: &[&str]) {
            let found = examine(facts);
            let verified = found.iter().filter(|finding| finding.severity == FindingSeverity::Ok);
            assert_eq!(verified.map(|finding| finding.what.as_str()).collect::<Vec<_>>(), want);
        }
        let all = [
            "the configuration is sound",
            "bans go to ipset: x",
            "the sets take elements and keep them: `banstream4` 1 of 9, `banstream6` 1 of 9",
            "the rule is first in `raw PREROUTING` (IPv4, IPv6)",
            "`/etc/iptables/rules.v4` has the rule, and its sets are created before it is loaded at boot",
            "`journald` is read; the last entry came 9s ago",
            "`nginx` runs; lines of it were read: 5, the last 2s ago",
            "`chat` has got 3 messages",
            "203.0.113.9, from where somebody is logged in, is exempt: listed",
            "countries and networks are read from /a.mmdb",
        ];
        check(&sound(), &all);
        let mut facts = sound();
        ipset(&mut facts).chains.pop();
        facts.has_ipv6 = false;
        set(&mut facts).linked = false;
        facts.daemon = silent();
        check(
            &facts,
            &[
                all[0],
                all[1],
                "the rule is first in `raw PREROUTING` (IPv4); this host has no IPv6",
                all[4],
                all[9],
            ],
        );
        let mut facts = sound();
        with_nftables(|_, _| {})(&mut facts);
        let table = [
            "the table `inet banstream` belongs to process 7 (`banstream`), process 1 (`systemd`), so nobody else can \
             change it",
            "the table sees packets before all others, and has a rule for each set: `ipv4_32` 3 of 9, `ipv6_64`",
            "the kernel has all bans that were looked up: 2",
        ];
        check(&facts, &[&all[..2], &table, &all[4..]].concat());
    }

    #[test]
    fn a_broken_configuration_is_one_finding() {
        check(|facts| facts.configuration = Err("x\ny".to_owned()), &["CONFIGURATION-BROKEN"]);
        let mut facts = sound();
        facts.configuration = Err("x\ny".to_owned());
        let found = examine(&facts);
        assert!(found.last().unwrap().what.ends_with("fails: x\n    y"));
    }

    #[test]
    fn what_is_doubtful_in_the_configuration_is_found() {
        let doubt = "/a.toml:1:13: warning: `0.0.0.0/0` exempts x\nignoreip = ['0.0.0.0/0']\n ^".to_owned();
        check(|facts| facts.doubts = vec![doubt], &["configuration-doubtful"]);
    }

    #[test]
    fn another_network_namespace_is_one_finding() {
        check(|facts| (facts.elsewhere, facts.enforcement) = (Some(7), None), &["OTHER-NAMESPACE"]);
    }

    #[test]
    fn a_saved_firewall_that_does_not_load_is_found() {
        check(|facts| facts.saved[0].loads = Err(Unloadable::NoSets), &["SAVED-WITHOUT-SETS"]);
        check(|facts| facts.saved[0].loads = Err(Unloadable::Foreign), &["SAVED-UNREADABLE"]);
        check(|facts| facts.saved[0].loads = Err(Unloadable::Owned), &["SAVED-TABLE"]);
    }

    #[test]
    fn a_server_whose_lines_do_not_come_is_found() {
        let server = |lines, log| {
            move |facts: &mut Facts| {
                let server = &mut daemon(facts).running[0];
                (server.lines, server.log) = (lines, log);
            }
        };
        check(server(0, ServerLog::Files), &["SERVER-UNREAD"]);
        check(server(0, ServerLog::Container), &["server-in-container"]);
        check(server(0, ServerLog::Read), &["server-silent."]);
        for log in [ServerLog::Files, ServerLog::Container, ServerLog::Read] {
            check(server(1, log), &[]);
        }
    }

    #[test]
    fn who_is_logged_in_and_not_exempt_is_found() {
        check(|facts| daemon(facts).visitors[0].exemption = None, &["visitor-not-exempt"]);
    }

    #[test]
    fn a_receiver_that_gets_nothing_is_found() {
        check(|facts| daemon(facts).receivers[0].1 = Err("x".to_owned()), &["receiver-failed"]);
        check(|facts| daemon(facts).receivers[0].1 = Ok(0), &["receiver-unused."]);
    }

    #[test]
    fn a_fault_of_the_sets_is_found() {
        check(|facts| ipset(facts).sets = Err("x".to_owned()), &["NO-IPSET"]);
        check(|facts| set(facts).filled = None, &["SET-MISSING"]);
        check(|facts| set(facts).filled = Some((9, 9)), &["SET-FULL"]);
        check(|facts| set(facts).linked = false, &["SET-UNLINKED"]);
        check(|facts| set(facts).found = Ok(false), &["PROBE-LOST"]);
        check(|facts| set(facts).found = Err("x".to_owned()), &["PROBE-REFUSED"]);
        let blind = |facts: &mut Facts| (facts.capable, facts.enforcement) = (false, None);
        check(blind, &["NO-PRIVILEGE"]);
    }

    #[test]
    fn causes_come_first_and_have_their_followers() {
        #[track_caller]
        fn check(harm: impl FnOnce(&mut Facts), want: &[(&str, Option<&str>)]) {
            let mut facts = sound();
            harm(&mut facts);
            let found = examine(&facts);
            let found = found.iter().filter(|finding| finding.severity.is_problem());
            assert_eq!(found.map(|finding| (finding.name, finding.cause)).collect::<Vec<_>>(), want);
        }
        fn broken(facts: &mut Facts) {
            ipset(facts).sets.as_mut().unwrap()[0].filled = None;
            set(facts).linked = false;
            chain(facts).listing.rules = Ok(vec![]);
        }
        let all = |cause| [("set-missing", cause), ("set-unlinked", cause), ("rule-missing", cause)];
        check(broken, &all(None));
        let with = |cause| [&[(cause, None)], &all(Some(cause))[..]].concat();
        let stopped = |facts: &mut Facts| {
            broken(facts);
            facts.daemon = silent();
        };
        check(stopped, &with("no-daemon"));
        let failed = |facts: &mut Facts| {
            broken(facts);
            daemon(facts).fault = Some("x".to_owned());
        };
        check(failed, &with("enforcement-failed"));
        let decides = |facts: &mut Facts| {
            broken(facts);
            daemon(facts).mode = "none".to_owned();
        };
        check(decides, &with("not-enforced"));
        // What no start repairs does not follow.
        let full = |facts: &mut Facts| {
            set(facts).filled = Some((9, 9));
            facts.daemon = silent();
        };
        check(full, &[("no-daemon", None), ("set-full", None)]);
        // Who may not look is told so once, and is not told to start anything.
        let user = |facts: &mut Facts| {
            (facts.capable, facts.enforcement) = (false, None);
            facts.daemon = Err(NoDaemon::Forbidden("/s".to_owned()));
        };
        check(user, &[("no-privilege", None)]);
        let mut facts = sound();
        user(&mut facts);
        let what = examine(&facts)
            .into_iter()
            .find(|finding| finding.severity.is_problem())
            .map(|finding| finding.what);
        let want =
            "cannot check sets and rules: CAP_NET_ADMIN is missing; no permission to ask the daemon at `/s`";
        assert_eq!(what.as_deref(), Some(want));
    }

    #[test]
    fn a_file_of_countries_that_cannot_be_read_is_found() {
        check(|facts| facts.geoip.1.push("cannot read `/x`: y".to_owned()), &["geoip-broken"]);
    }

    #[test]
    fn a_fault_of_the_rules_is_found() {
        let ours = || ("-A PREROUTING ours".to_owned(), true);
        check(|facts| chain(facts).listing.rules = Err("x".to_owned()), &["RULES-UNKNOWN"]);
        let no_table =
            "can't initialize ip6tables table `raw': Table does not exist (do you need to insmod?)";
        check(|facts| chain(facts).listing.rules = Err(no_table.to_owned()), &["TABLE-MISSING"]);
        check(|facts| chain(facts).listing.rules = Ok(vec![]), &["RULE-MISSING"]);
        check(|facts| chain(facts).listing.rules.as_mut().unwrap().rotate_left(1), &["RULE-DISPLACED"]);
        check(|facts| chain(facts).others[0].rules = Ok(vec![ours()]), &["rule-in-both-variants"]);
        let drops = || ("-A PREROUTING -m set --match-set bsfull src,dst -j DROP".to_owned(), false);
        check(|facts| chain(facts).listing.rules = Ok(vec![drops(), ours()]), &[]);
        let moved = |facts: &mut Facts| {
            chain(facts).listing.rules = Ok(vec![]);
            chain(facts).others[0].rules = Ok(vec![ours()]);
        };
        check(moved, &["RULE-IN-OTHER-VARIANT"]);
    }

    #[test]
    fn a_fault_of_the_table_is_found() {
        fn harmed(harm: impl FnOnce(&mut NftablesFacts, &mut TableFacts), want: &[&str]) {
            check(with_nftables(harm), want);
        }
        harmed(|_, _| {}, &[]);
        harmed(|_, table| table.is_hooked = false, &["CHAIN-MISSING"]);
        harmed(|_, table| table.sets[1].elements = Some(9), &["SET-FULL"]);
        harmed(|facts, _| facts.lacking = vec!["192.0.2.1".to_owned()], &["BANS-MISSING"]);
        harmed(|facts, _| facts.is_daemons = Some(false), &["TABLE-OF-ANOTHER"]);
        harmed(|facts, _| (facts.is_daemons, facts.holders) = (None, Vec::new()), &[]);
        harmed(|_, table| table.owner = None, &["table-unowned"]);
        // Where a table cannot have an owner, or is not to have one, that is as good as it gets.
        harmed(|facts, table| (facts.can_be_owned, table.owner) = (false, None), &["table-unowned."]);
        harmed(|facts, table| (facts.is_to_be_owned, table.owner) = (false, None), &["table-unowned."]);
        // What may be missing is a module.
        harmed(|_, table| table.sets[0].has_rule = false, &["MODULE-MISSING", "RULE-MISSING"]);
        let stopped = |harm: fn(&mut NftablesFacts, &mut TableFacts)| {
            move |facts: &mut Facts| {
                with_nftables(harm)(facts);
                facts.daemon = silent();
            }
        };
        check(stopped(|facts, _| facts.is_daemons = Some(false)), &["NO-DAEMON"]);
        check(stopped(|_, table| table.owner = None), &["table-unowned.", "NO-DAEMON"]);
        let table = |table| {
            move |facts: &mut Facts| {
                with_nftables(|_, _| {})(facts);
                let Some(Enforcement::Nftables(nftables)) = facts.enforcement.as_mut() else { panic!() };
                nftables.table = table;
            }
        };
        check(table(Ok(None)), &["NFTABLES-TABLE-MISSING"]);
        check(table(Err("x".to_owned())), &["NO-NFTABLES", "MODULE-MISSING"]);
    }

    #[test]
    fn a_backend_that_a_start_would_not_choose_is_told() {
        check(|facts| facts.backend = Some(("x".to_owned(), Some("y".to_owned()))), &["backend-differs."]);
    }

    #[test]
    fn a_missing_module_is_named_where_something_does_not_work() {
        let harm = |sets| {
            move |facts: &mut Facts| {
                let ipset = ipset(facts);
                ipset.modules = vec!["ip_set", "xt_set"];
                ipset.sets = sets;
            }
        };
        check(harm(Ok(Vec::new())), &[]);
        check(harm(Err("x".to_owned())), &["NO-IPSET", "MODULE-MISSING"]);
        let mut facts = sound();
        harm(Err("x".to_owned()))(&mut facts);
        assert!(examine(&facts).last().unwrap().fix.starts_with("modprobe -a ip_set xt_set; "));
    }

    #[test]
    fn a_fault_of_the_daemon_is_found() {
        check(|facts| facts.daemon = silent(), &["NO-DAEMON"]);
        check(|facts| daemon(facts).mode = "none".to_owned(), &["NOT-ENFORCED"]);
        check(|facts| daemon(facts).observing = vec!["sshd".to_owned()], &["observing"]);
        check(|facts| daemon(facts).fault = Some("x".to_owned()), &["ENFORCEMENT-FAILED"]);
        check(|facts| daemon(facts).sources[0].1 = Err("x".to_owned()), &["SOURCE-FAILED"]);
        check(|facts| daemon(facts).sources.clear(), &["NO-SOURCE"]);
        check(|facts| daemon(facts).duplicates = vec!["x".to_owned()], &["SAME-LINES"]);
        check(sample("banstream_bans_ineffective_total{jail=\"sshd\"} 3"), &["INEFFECTIVE-BANS"]);
        check(sample("banstream_drops_total{reason=\"overlong\"} 1"), &["drops"]);
        check(sample("banstream_ledger_errors_total 1"), &["LEDGER-ERRORS"]);
        check(sample("banstream_clock_jumps_total 1"), &["clock-jumps"]);
        check(sample("banstream_entries_unattested_total{source=\"socket\"} 1"), &["unattested"]);
        check(sample("banstream_entries_forged_total{grammar=\"sshd\"} 1"), &["forged-lines"]);
    }

    #[test]
    fn a_log_that_drops_messages_is_found() {
        let journald = |journald: JournaldSettings| move |facts: &mut Facts| facts.journald = Some(journald);
        check(journald(JournaldSettings::default()), &["journald-rate-limit."]);
        check(
            journald(JournaldSettings { burst: 9_999, ..JournaldSettings::default() }),
            &["JOURNALD-RATE-LIMIT"],
        );
        check(
            journald(JournaldSettings { interval: Span::from_secs(31), ..JournaldSettings::default() }),
            &["JOURNALD-RATE-LIMIT"],
        );
        check(journald(JournaldSettings { interval: Span::ZERO, ..JournaldSettings::default() }), &[]);
        check(
            journald(JournaldSettings { keeps_none: true, ..JournaldSettings::default() }),
            &["JOURNALD-KEEPS-NONE"],
        );
        let rsyslog =
            |limits, sizes| move |facts: &mut Facts| facts.rsyslog = Some(Rsyslog { limits, sizes });
        check(rsyslog(vec![], vec![(suspect(), LONG_ENOUGH)]), &[]);
        check(rsyslog(vec![suspect()], vec![(suspect(), LONG_ENOUGH)]), &["rsyslog-rate-limit"]);
        check(rsyslog(vec![], vec![]), &["RSYSLOG-CUTS"]);
        check(rsyslog(vec![], vec![(suspect(), LONG_ENOUGH), (suspect(), 8192)]), &["RSYSLOG-CUTS"]);
    }

    #[test]
    fn a_source_that_says_nothing_is_wrong_only_where_it_is_the_only_one() {
        let silent = |sources: &[&str], silent, uptime| {
            let sources = sources.iter().map(|name| ((*name).to_owned(), Ok(silent))).collect();
            move |facts: &mut Facts| {
                let daemon = daemon(facts);
                (daemon.sources, daemon.uptime) = (sources, uptime);
            }
        };
        check(silent(&["socket"], Some(SILENT), SILENT), &["SOCKET-SILENT"]);
        check(silent(&["socket"], None, NEVER), &["SOCKET-SILENT"]);
        check(silent(&["socket"], None, NEVER - 1), &[]);
        check(silent(&["socket"], Some(SILENT - 1), 2 * SILENT), &[]);
        check(silent(&["socket", "journald"], None, SILENT), &[]);
    }

    #[test]
    fn a_server_that_hides_its_clients_is_found() {
        let server = |fault| move |facts: &mut Facts| facts.servers.push((fault, suspect()));
        check(server(ServerFault::Logger), &["LOGGER-PIPE"]);
        check(server(ServerFault::Names("x")), &["NAMES-LOGGED"]);
        check(server(ServerFault::PamNames("x")), &["names-in-pam"]);
        let pair = || vec![("x".to_owned(), "10.0.0.5".to_owned())];
        check(|facts| daemon(facts).crowds = pair(), &["one-client"]);
        check(
            |facts| daemon(facts).private_bans = PrivateBans { times: 100_000, examples: pair() },
            &["private-ban"],
        );
    }

    #[test]
    fn no_kind_of_finding_grows_with_what_others_do() {
        let mut facts = sound();
        let many = |n: usize| (n.to_string(), n.to_string());
        let daemon = daemon(&mut facts);
        daemon.private_bans = PrivateBans { times: 100_000, examples: (0..EXAMPLES).map(many).collect() };
        let visitor = |n: usize| Visitor {
            address: n.to_string(),
            exemption: n.is_multiple_of(2).then(|| "x".to_owned()),
        };
        daemon.visitors = (0..5000).map(visitor).collect();
        daemon.crowds = (0..5000).map(many).collect();
        daemon.duplicates = (0..5000).map(|n| n.to_string()).collect();
        daemon.sources = (0..5000).map(|n| (n.to_string(), Err(n.to_string()))).collect();
        daemon.receivers = (0..5000).map(|n| (n.to_string(), Err(n.to_string()))).collect();
        facts.servers = vec![(ServerFault::Logger, suspect()); 5000];
        let found = examine(&facts);
        assert!(found.len() < 60, "{} findings", found.len());
        let of = |name| {
            found.iter().filter(|finding| finding.name == name).map(|of| of.what.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(
            of("private-ban"),
            [
                "100000 bans ban private addresses, which may be a proxy for many clients, such as 0 (0), 1 (1), 2 (2)"
            ]
        );
        let crowds = of("one-client");
        assert!(crowds.len() == EXAMPLES && crowds[2].ends_with(" (and 4997 more like this)"), "{crowds:?}");
    }

    #[test]
    fn what_is_found_is_told_with_its_place() {
        let mut facts = sound();
        chain(&mut facts).listing.rules.as_mut().unwrap().rotate_left(1);
        let found = examine(&facts);
        let what = &found.last().unwrap().what;
        assert_eq!(
            what,
            "1 rule in `raw PREROUTING` (IPv6) precedes ours and may accept banned addresses: `-A PREROUTING other`"
        );
    }
}
