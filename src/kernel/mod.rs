//! Enforces decisions: a few kernel sets hold the banned addresses, and a firewall rule refers to them. There are two
//! backends: ipset's sets with one rule of iptables, and a table of nftables.
//!
//! The rest of the program uses values ([`Change`]) and never sees netlink or iptables, so a dry run and tests can use
//! another [`Firewall`] in the kernel's place.

mod change;
mod desired;
mod events;
mod ipset;
mod message;
mod nftables;

pub use change::{Change, Element, Family, Layout, Set, Timeout, elements, released, render};
pub use desired::{DesiredState, Drift, ElementCounts};
pub use events::RuleEvents;
pub use ipset::{Ipset, only_drops};
pub use nftables::{KernelAbilities, Nftables, TableFacts, TableOwner, TableSet};

use std::fmt;
use std::io;
use std::path::Path;

use crate::config::{Backend, Enforce};
use crate::model::Timestamp;

/// Whether this host has IPv6 at all. Without it the programs for its rules may be missing.
pub fn has_ipv6() -> bool {
    Path::new("/proc/net/if_inet6").exists()
}

/// A place that can keep offenders out: the kernel, or nothing at all.
pub trait Firewall: Send + Sync {
    /// Makes sets and rules where they are missing and leaves what is there, so bans outlive a restart. A rule that
    /// others stand before is moved to the front in one step, so that no packet finds it away.
    ///
    /// Does little when all is well (ten messages to the kernel, and one run of `iptables` per family and chain,
    /// some 4 ms each), so it can be called again and again as a repair. After an error nothing is known to be
    /// enforced; where that concerns one family alone, it is among [`Prepared::faults`] instead.
    fn prepare(&mut self, displaced: Displaced) -> Result<Prepared, EnforceError>;

    /// Carries out the changes, each set's in their order, in as few messages as hold them.
    ///
    /// An element that the kernel refuses is reported, and the rest goes in. Where sets have vanished, they
    /// are made again, once. After an error any of the changes may be in force; all of them can be applied
    /// again, since adding twice renews the timeout and removing what is not there is no error.
    fn apply(&mut self, changes: &[Change]) -> Result<Applied, EnforceError>;

    /// Brings what the sets hold in line with the desired state at `now`, and the sets with the settings, without a gap for
    /// offenders that both hold. What there is no room for is pending after it.
    fn reconcile(&mut self, desired: &mut DesiredState, now: Timestamp) -> Result<Reconciled, EnforceError>;

    /// Whether the sets hold what was put in, as far as that can be told from a sample, and not from the numbers in
    /// [`sizes`](Self::sizes); 20 µs an element.
    fn is_intact(&mut self, sample: &[Element]) -> Result<bool, EnforceError>;

    /// How full the sets are; a set that does not exist is left out. Takes the kernel 2 ms for 100,000 elements.
    fn sizes(&mut self) -> Result<Vec<SetSize>, EnforceError>;

    /// All elements with the time they have left, set by set, in no order, without [probes](Element::probe): with ipset
    /// 0.4 µs each; with nftables 2 s for 100,000, and four times that for twice as many.
    fn list(&mut self) -> Result<SetContents, EnforceError>;

    /// Whether the kernel matches this element; a single address matches also where a prefix around it is in.
    fn holds(&mut self, element: &Element) -> Result<bool, EnforceError>;

    /// Takes the rules out, for a reload that puts them elsewhere. The sets stay where others may use them.
    fn withdraw(&mut self) -> Result<(), EnforceError>;

    /// The kernel's reports of changes in the rules, if there are any.
    fn events(&self) -> io::Result<Option<RuleEvents>>;

    /// How elements are divided among the sets.
    fn layout(&self) -> Layout;

    /// The same place, for another thread.
    fn another(&self) -> Result<Box<dyn Firewall>, EnforceError>;
}

/// What [`Firewall::reconcile`] found and did.
#[derive(Debug, Default)]
pub struct Reconciled {
    /// What was different; its changes are made.
    pub drift: Drift,
    /// Whether the sets were filled again without a look at what they held.
    pub refilled: bool,
    /// The sets that were made again, with what is in them, and their capacities.
    pub recreated: Vec<(String, u32)>,
    /// How many sets held what only an operator can have put in by hand, and were therefore made again.
    pub strange: usize,
    /// The repair that was needed, if one was.
    pub repaired: Option<Prepared>,
    /// Why something is pending.
    pub refused: Option<Refusal>,
    /// What could not be brought in line with the settings, and serves as it is.
    pub faults: Vec<String>,
}

impl Reconciled {
    /// Records the result of these changes. Refused elements are pending.
    fn note(&mut self, changes: &[Change], applied: Applied, desired: &mut DesiredState) {
        for refused in &applied.refused {
            changes.get(refused.index).into_iter().for_each(|change| desired.refused(change.element()));
            self.refused = Some(refused.why);
        }
        self.repaired = applied.repaired.or(self.repaired.take());
    }
}

/// What to do about a rule that others stand before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Displaced {
    /// Put it first again.
    Move,
    /// Leave it and say so, for another program may want to be first as well.
    Report,
}

/// What [`Firewall::prepare`] had to do.
#[derive(Debug, Default)]
pub struct Prepared {
    /// The sets that were missing. They are recreated, empty: their bans must be applied again.
    pub sets: Vec<Set>,
    /// How many sets were there, but not where the rule looks, and are again.
    pub linked: usize,
    /// How many rules were missing and are there again.
    pub rules: usize,
    /// How many rules were not first in their chain, or there more than once, and are first and single again.
    pub moved: usize,
    /// What keeps one family from being enforced; the other is.
    pub faults: Vec<EnforceError>,
}

/// What the sets hold.
#[derive(Debug, Default)]
pub struct SetContents {
    /// The elements, each with the time it has left.
    pub elements: Vec<(Element, Timeout)>,
    /// The sets that hold something which no [`Element`] can say and only an operator can have put in by hand:
    /// exceptions, which let the banned in, and protocols other than TCP and UDP.
    pub strange: Vec<Set>,
}

/// What [`Firewall::apply`] could not do, and what it had to do besides.
#[derive(Debug, Default)]
pub struct Applied {
    /// The changes that were not made, in their order.
    pub refused: Vec<RefusedChange>,
    /// The repair that was needed, if one was: what earlier calls had put into those sets is gone.
    pub repaired: Option<Prepared>,
}

/// A change that the kernel would not make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusedChange {
    /// Which, by its place among the changes.
    pub index: usize,
    /// Why.
    pub why: Refusal,
}

/// Why the kernel would not make a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The set is full.
    Full,
    /// There is no set for this family; `prepare` has said why.
    NoSet(Family),
    /// Another reason, by the kernel's number.
    Other(u32),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the set is full"),
            Self::NoSet(family) => write!(f, "there is no {family} set"),
            Self::Other(code) => f.write_str(&reason(*code)),
        }
    }
}

/// How full a set is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetSize {
    /// Which set.
    pub set: Set,
    /// Its name in the kernel.
    pub name: String,
    /// The elements in it whose time is not up, if the kernel says so.
    pub elements: Option<u32>,
    /// The most elements it may hold, as it was made.
    pub capacity: u32,
    /// The most that it is to hold by the settings.
    pub configured: u32,
    /// Whether its elements count what they keep out.
    pub counts: bool,
}

impl SetSize {
    /// Whether the set is as it would be made today.
    pub fn is_as_configured(&self) -> bool {
        self.capacity == self.configured && self.counts
    }
}

/// An element as the kernel holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElementState {
    /// The name of the set that it is in.
    pub set: String,
    /// Who is kept out, and from where.
    pub element: Element,
    /// For how many seconds; forever if `None`.
    pub left: Option<u32>,
    /// Its packets and bytes that the rule has matched; `None` where the set does not count that.
    pub counters: Option<PacketCounters>,
}

/// The packets and bytes of one element that the rule has matched since it was added or renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketCounters {
    /// Packets.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A firewall that does nothing, for where bans are only observed.
#[derive(Debug)]
pub struct DryRun;

impl Firewall for DryRun {
    fn prepare(&mut self, _: Displaced) -> Result<Prepared, EnforceError> {
        Ok(Prepared::default())
    }
    fn apply(&mut self, _: &[Change]) -> Result<Applied, EnforceError> {
        Ok(Applied::default())
    }
    fn reconcile(&mut self, _: &mut DesiredState, _: Timestamp) -> Result<Reconciled, EnforceError> {
        Ok(Reconciled::default())
    }
    fn is_intact(&mut self, _: &[Element]) -> Result<bool, EnforceError> {
        Ok(true)
    }
    fn sizes(&mut self) -> Result<Vec<SetSize>, EnforceError> {
        Ok(Vec::new())
    }
    fn list(&mut self) -> Result<SetContents, EnforceError> {
        Ok(SetContents::default())
    }
    fn holds(&mut self, _: &Element) -> Result<bool, EnforceError> {
        Ok(false)
    }
    fn withdraw(&mut self) -> Result<(), EnforceError> {
        Ok(())
    }
    fn events(&self) -> io::Result<Option<RuleEvents>> {
        Ok(None)
    }
    fn layout(&self) -> Layout {
        Layout::AnyLength
    }
    fn another(&self) -> Result<Box<dyn Firewall>, EnforceError> {
        Ok(Box::new(Self))
    }
}

/// What keeps the firewall from doing as it was told.
///
/// Print it for the operator.
#[derive(Debug)]
pub struct EnforceError {
    family: Option<Family>,
    kind: EnforceErrorKind,
}

#[derive(Debug)]
enum EnforceErrorKind {
    /// The settings' name is none that both ipset and iptables take.
    Name(String),
    /// nftables has no such target for a rule.
    Target(String),
    /// The kernel has no nftables, or does not let us change it.
    NoNftables(u32),
    /// A table of our name belongs to the netlink socket with this port, which is another's.
    ForeignTable { table: String, port: u32 },
    /// The netlink socket failed.
    Socket(io::Error),
    /// The kernel's answer did not come, three times.
    NoAnswer,
    /// The kernel refused a whole request.
    Kernel { request: &'static str, set: String, code: u32 },
    /// A set of that name is there already and cannot serve.
    WrongSet { set: String, found: String, wanted: String },
    /// A program could not be started.
    Program { program: String, error: io::Error },
    /// Another program puts its rules before ours.
    Displaced { chain: String },
    /// A program was started and failed.
    Failed { command: String, status: String, stderr: String },
}

/// Which backend these settings mean here, and why it is that one.
///
/// # Errors
///
/// ipset cannot be asked for, since the name of the set is none.
pub fn choose(settings: &Enforce) -> Result<(Backend, String), EnforceError> {
    if settings.backend != Backend::Auto {
        return Ok((settings.backend, "`backend` says so".to_owned()));
    }
    match Ipset::open(settings.clone())?.obstacle() {
        None => Ok((Backend::Ipset, "the kernel has ip_set, and iptables is there".to_owned())),
        Some(obstacle) => Ok((Backend::Nftables, format!("ipset cannot be used: {obstacle}"))),
    }
}

/// Which key makes iptables refuse the rule, and why, as far as it says so without changing anything; it takes root.
pub fn rule_fault(settings: &Enforce) -> Option<(&'static str, String)> {
    if !choose(settings).is_ok_and(|(backend, _)| backend == Backend::Ipset) {
        return None;
    }
    let (program, table, chains) = (&settings.iptables, &settings.table, &settings.chains);
    let of_chain = |chain: &String| {
        let fault = ipset::chain_fault(program, table, chain)?;
        Some(("chains", format!("iptables cannot use the chain `{chain}` of the table `{table}`: {fault}")))
    };
    let of_chains = chains.iter().find_map(of_chain);
    let of_target = || ipset::target_fault(program, table, chains.first()?, &settings.target);
    of_chains.or_else(|| of_target().map(|fault| ("target", fault)))
}

impl EnforceError {
    /// Whether all is in place, but others come first.
    pub fn is_displaced(&self) -> bool {
        matches!(self.kind, EnforceErrorKind::Displaced { .. })
    }

    /// Whether the socket has no room for a message of that size.
    fn is_too_large(&self) -> bool {
        const EMSGSIZE: i32 = 90;
        matches!(&self.kind, EnforceErrorKind::Socket(error) if error.raw_os_error() == Some(EMSGSIZE))
    }

    fn of(self, family: Family) -> Self {
        Self { family: Some(family), ..self }
    }
}

impl From<EnforceErrorKind> for EnforceError {
    fn from(kind: EnforceErrorKind) -> Self {
        Self { family: None, kind }
    }
}

impl fmt::Display for EnforceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(family) = self.family {
            match self.kind {
                EnforceErrorKind::Displaced { .. } => write!(f, "{family} bans may not be enforced: ")?,
                _ => write!(f, "{family} bans are not enforced: ")?,
            }
        }
        match &self.kind {
            EnforceErrorKind::Name(name) => write!(
                f,
                "`{name}` is not a name for a set: use 1 to 29 letters, digits, `-`, `_` or `.`, not beginning with `-`"
            ),
            EnforceErrorKind::Target(target) => {
                write!(f, "with nftables, the target can be `DROP` or `REJECT`, not `{target}`")
            }
            EnforceErrorKind::NoNftables(code) => {
                let hint = if *code == 1 { "" } else { "; the module `nf_tables` may be missing" };
                write!(f, "the kernel refuses a table of nftables: {}{hint}", reason(*code))
            }
            EnforceErrorKind::ForeignTable { table, port } => write!(
                f,
                "the table `inet {table}` belongs to another netlink socket (port {port}): to another daemon, or, if none \
                 runs, to the one that systemd keeps for the service; start it with systemctl, or let go of the socket \
                 with `systemctl clean --what=fdstore banstream`"
            ),
            EnforceErrorKind::Socket(error) => write!(f, "netlink failed: {error}"),
            EnforceErrorKind::NoAnswer => f.write_str("the kernel did not answer over netlink"),
            EnforceErrorKind::Kernel { request, set, code } => {
                write!(f, "the kernel refuses to {request} `{set}`: {}", reason(*code))
            }
            EnforceErrorKind::WrongSet { set, found, wanted } => write!(
                f,
                "the set `{set}` exists as {found}, not as {wanted}; destroy it or choose another name"
            ),
            EnforceErrorKind::Program { program, error } => write!(f, "cannot run `{program}`: {error}"),
            EnforceErrorKind::Displaced { chain } => write!(
                f,
                "the rule in `{chain}` is no longer the first; a rule of another program before it may accept \
                 banned addresses"
            ),
            EnforceErrorKind::Failed { command, status, stderr } => {
                write!(f, "`{command}` failed ({status}): {stderr}")
            }
        }
    }
}

impl std::error::Error for EnforceError {}

/// The kernel's number in words: an errno, or one of ipset's own (`linux/netfilter/ipset/ip_set.h`).
fn reason(code: u32) -> String {
    match code {
        1 => "not permitted; needs root or CAP_NET_ADMIN".to_owned(),
        2 => "no such set".to_owned(),
        22 => "invalid; the module `ip_set` may be missing".to_owned(),
        ipset::FIND_TYPE => "unknown set type; a module `ip_set_*` may be missing".to_owned(),
        4096.. => format!("ipset error {code}"),
        _ => io::Error::from_raw_os_error(code.cast_signed()).to_string(),
    }
}
