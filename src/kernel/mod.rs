//! Enforces decisions: a few kernel sets hold the banned addresses, and one firewall rule refers to them all.
//!
//! The rest of the program uses values ([`Change`]) and never sees netlink or iptables, so a dry run and tests can use
//! another [`Firewall`] in the kernel's place.

mod desired;
mod change;
mod events;
mod netlink;
mod rule;
mod wire;

pub use change::{Change, Element, Family, Set, Timeout, elements, render};
pub use desired::{DesiredState, Drift, ElementCounts};
pub use events::RuleEvents;
pub use netlink::Kernel;

use std::fmt;
use std::io;
use std::path::Path;

/// Whether this host has IPv6 at all. Without it the programs for its rules may be missing.
pub fn has_ipv6() -> bool {
    Path::new("/proc/net/if_inet6").exists()
}

/// A place that can keep offenders out: the kernel, or nothing at all.
pub trait Firewall: Send {
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

    /// Puts a new set in the place of one, as large as the settings say and with what `adds` puts into it.
    ///
    /// The new one is filled first and the two are then swapped, so there is no gap for offenders that both
    /// hold. An error leaves the old one in its place.
    fn replace(&mut self, set: Set, adds: &[Change]) -> Result<Applied, EnforceError>;

    /// How full the sets are; a set that does not exist is left out. Takes the kernel 2 ms for 100,000 elements.
    fn sizes(&mut self) -> Result<Vec<SetSize>, EnforceError>;

    /// All elements with the time they have left, set by set, in no order, without [probes](Element::probe); 0.4 µs
    /// each.
    fn list(&mut self) -> Result<SetContents, EnforceError>;

    /// Whether the kernel matches this element; a single address matches also where a prefix around it is in.
    fn holds(&mut self, element: &Element) -> Result<bool, EnforceError>;

    /// Takes the rules out, for a reload that puts them elsewhere; the sets stay, with what they hold.
    fn withdraw(&mut self) -> Result<(), EnforceError>;

    /// The kernel's reports of changes in the rules, if there are any.
    fn events(&self) -> io::Result<Option<RuleEvents>>;
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
    /// The elements in it whose time is not up.
    pub elements: u32,
    /// The most elements it may hold, as it was made.
    pub capacity: u32,
    /// The most that it is to hold by the settings.
    pub configured: u32,
    /// Whether its elements count what they keep out.
    pub counts: bool,
}

impl SetSize {
    /// Whether the set is as it would be made today; if not, [`Firewall::replace`] it.
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
    fn replace(&mut self, _: Set, _: &[Change]) -> Result<Applied, EnforceError> {
        Ok(Applied::default())
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

impl EnforceError {
    /// Whether all is in place, but others come first.
    pub fn is_displaced(&self) -> bool {
        matches!(self.kind, EnforceErrorKind::Displaced { .. })
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
        wire::FIND_TYPE => "unknown set type; a module `ip_set_*` may be missing".to_owned(),
        4096.. => format!("ipset error {code}"),
        _ => io::Error::from_raw_os_error(code.cast_signed()).to_string(),
    }
}
