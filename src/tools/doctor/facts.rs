//! What is to be found out about a host.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::control::FleetStatus;
use crate::kernel::{Family, TableFacts, only_drops};
use crate::model::Span;

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
    pub(super) fn place(&self) -> Option<usize> {
        self.others().position(|(_, ours)| *ours)
    }

    /// The rules that a packet may pass, ours included.
    pub(super) fn others(&self) -> impl Iterator<Item = &(String, bool)> {
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
    /// Why it cannot use its ledger, if so.
    pub ledger: Option<String>,
    /// The damaged ledger that it has replaced, while the file is there.
    pub damaged: Option<String>,
    /// The jails that only observe.
    pub observing: Vec<String>,
    /// Its sources, and for how many seconds nothing came from each, since the start if `None`; or why it is not read.
    pub sources: Vec<(String, Result<Option<u64>, String>)>,
    /// The sources that rsyslog was connected to and is not any more.
    pub left: Vec<String>,
    /// Why it does not serve its metrics, if it ought to.
    pub metrics: Option<String>,
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
    pub(super) fn nonzero<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s str> {
        self.0.lines().filter_map(move |line| {
            let (sample, value) = line.rsplit_once(' ')?;
            let labels = sample.strip_prefix(name)?;
            let whole = labels.is_empty() || labels.starts_with('{');
            (whole && value.parse::<f64>().is_ok_and(|value| value > 0.0))
                .then(|| labels.trim_matches(['{', '}']))
        })
    }

    /// Those labels in one text; `None` where there are none.
    pub(super) fn told(&self, name: &str) -> Option<String> {
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
