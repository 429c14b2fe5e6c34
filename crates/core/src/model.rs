//! The types that all layers share, and their invariants: a decoder makes an [`Entry`], a grammar finds an [`Offence`]
//! in it, the detector turns offences into [`Decision`]s, and the enforcer carries those out.

mod prefixes;
mod text;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU64;
use std::ops::{Add, Deref, DerefMut, Sub};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use prefixes::Prefixes;
pub use text::{count, is_harmful, plain};

/// An instant, in whole microseconds since 1970-01-01 00:00:00 UTC (journald's realtime clock).
///
/// What is kept is counted from the first instant that there is, so that 0 is free for the `None` of an `Option`: a
/// million bans have one each.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "i64", into = "i64")]
pub struct Timestamp(NonZeroU64);

impl Timestamp {
    /// After all others: as the end of what has none.
    pub const MAX: Self = Self::from_micros(i64::MAX);

    /// The instant this many microseconds after the epoch; -2^63 is one more.
    pub const fn from_micros(micros: i64) -> Self {
        match NonZeroU64::new(micros.cast_unsigned() ^ FIRST) {
            Some(after) => Self(after),
            None => Self(NonZeroU64::MIN),
        }
    }

    /// The instant this many whole seconds after the epoch.
    pub const fn from_secs(secs: i64) -> Self {
        Self::from_micros(secs.saturating_mul(1_000_000))
    }

    /// Microseconds since the epoch.
    pub const fn as_micros(self) -> i64 {
        (self.0.get() ^ FIRST).cast_signed()
    }

    /// Whole seconds since the epoch, rounded down.
    pub const fn as_secs(self) -> i64 {
        self.as_micros().div_euclid(1_000_000)
    }

    /// The time from `earlier` to this instant; zero if `earlier` is in fact later.
    pub const fn since(self, earlier: Timestamp) -> Span {
        Span(self.0.get().saturating_sub(earlier.0.get()))
    }
}

/// The instant before all that there are.
const FIRST: u64 = i64::MIN.cast_unsigned();

impl Default for Timestamp {
    fn default() -> Self {
        Self::from_micros(0)
    }
}

impl From<i64> for Timestamp {
    fn from(micros: i64) -> Self {
        Self::from_micros(micros)
    }
}

impl From<Timestamp> for i64 {
    fn from(instant: Timestamp) -> Self {
        instant.as_micros()
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Timestamp").field(&self.as_micros()).finish()
    }
}

impl fmt::Display for Timestamp {
    /// In UTC, as RFC 3339 writes it; at the ends of years -9999 and 9999 for what lies beyond.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.as_micros();
        let beyond = if micros < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
        jiff::Timestamp::from_microsecond(micros).unwrap_or(beyond).fmt(f)
    }
}

impl Add<Span> for Timestamp {
    type Output = Timestamp;
    fn add(self, span: Span) -> Timestamp {
        Self(self.0.saturating_add(span.0))
    }
}

impl Sub<Span> for Timestamp {
    type Output = Timestamp;
    fn sub(self, span: Span) -> Timestamp {
        Self(NonZeroU64::new(self.0.get().saturating_sub(span.0)).unwrap_or(NonZeroU64::MIN))
    }
}

/// A length of time, in whole microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Span(u64);

impl Span {
    /// No time at all.
    pub const ZERO: Span = Span(0);

    /// This many microseconds.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// This many seconds; saturates after some 580,000 years.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000))
    }

    /// Microseconds.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Whole seconds, rounded up, so that what is not yet over never becomes 0.
    pub const fn as_secs_ceil(self) -> u64 {
        self.0.div_ceil(1_000_000)
    }
}

impl fmt::Display for Span {
    /// As an administrator writes it: `7d`, `1h 30m`, in whole seconds, rounded up.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.as_secs_ceil();
        let parts = [(seconds / 86_400, 'd'), (seconds / 3_600 % 24, 'h'), (seconds / 60 % 60, 'm')];
        let parts = parts.into_iter().chain([(seconds % 60, 's')]).filter(|(number, _)| *number > 0);
        let parts: Vec<String> = parts.map(|(number, unit)| format!("{number}{unit}")).collect();
        f.write_str(if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }.as_str())
    }
}

/// One record as a log delivers it, borrowed from the buffer it came in.
///
/// No part needs to be UTF-8: log text is written by strangers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// When the transport (journald, rsyslog) says that it was written; never parsed from the message.
    pub time: Timestamp,
    /// The host that wrote it, as the transport names it; empty where the log does not say.
    pub host: &'a [u8],
    /// The program it claims to come from (`sshd`), without path, process id or colon; may be empty.
    pub program: &'a [u8],
    /// The process that wrote it; 0 where the log does not say.
    pub pid: u32,
    /// The text, without header, leading space or line end.
    pub message: &'a [u8],
    /// Whether its end may be missing, because a transport has cut it.
    pub cut: bool,
    /// Whether the next entry of the same sender may be the rest of it.
    pub goes_on: bool,
    /// How often it was said, 1 or more: syslog daemons write `message repeated 5 times: [ ... ]`.
    pub times: u32,
    /// Who vouches for it.
    pub sender: Sender<'a>,
}

impl Entry<'_> {
    /// Whether another host than this one wrote it. Names are compared up to the first dot, since some write the domain
    /// and some do not; `localhost` is what a host is called before it has a name. Not so where either is empty.
    pub fn is_remote(&self, here: &[u8]) -> bool {
        let [host, here] =
            [self.host, here].map(|name| name.split(|b| *b == b'.').next().unwrap_or_default());
        let other = |name: &[u8]| !host.eq_ignore_ascii_case(name);
        !host.is_empty() && !here.is_empty() && other(here) && other(b"localhost")
    }

    /// A hash of the host, the same at all times; 0 where the log does not say. A host's name has 255 bytes at most.
    pub fn host_hash(&self) -> u32 {
        // FNV-0. A sender that can choose a colliding name could also choose the other host's name itself.
        self.host.iter().take(255).fold(0, |hash: u32, b| (hash ^ u32::from(*b)).wrapping_mul(0x0100_0193))
    }
}

/// What the transport itself knows about the sender of an entry, as opposed to what the sender claims.
///
/// Journald takes it from the socket's credentials (`_UID`, `_EXE`, ...; systemd.journal-fields(7)), rsyslog
/// from the same when imuxsock annotates. All empty where the transport cannot tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sender<'a> {
    /// The user the sender ran as.
    pub uid: Option<u32>,
    /// The path of the executable; missing for senders that exit at once. Its name is the sender's choice.
    pub exe: Option<&'a [u8]>,
    /// The name of the process, which the process itself can change.
    pub comm: Option<&'a [u8]>,
    /// The systemd unit it ran in.
    pub unit: Option<&'a [u8]>,
    /// Whether this was on another host, so that users' ids may mean others than here; `false` where no id is known.
    pub is_remote: bool,
}

impl Sender<'_> {
    /// Whether it is known who the sender is, whatever that one calls itself.
    pub fn attests(&self) -> bool {
        self.uid.is_some()
    }
}

/// How much of an address is held to account.
///
/// A host on IPv6 owns its whole /64, so counting single addresses would let it try 2^64 times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Widths {
    /// Prefix length for IPv4, 8 to 32.
    pub v4: u8,
    /// Prefix length for IPv6, 16 to 128.
    pub v6: u8,
}

impl Default for Widths {
    fn default() -> Self {
        Self { v4: 32, v6: 64 }
    }
}

/// The party a ban is laid on: an address or a prefix, with all bits below the prefix zero.
///
/// An IPv4 address written as IPv6 (`::ffff:192.0.2.1`) is the IPv4 address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Offender {
    address: IpAddr,
    prefix: u8,
}

/// As derived, but in one step: the detector does this several times for each offence.
impl Hash for Offender {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self.address {
            IpAddr::V4(v4) => state.write_u64(u64::from(v4.to_bits()) << 8 | u64::from(self.prefix)),
            IpAddr::V6(v6) => {
                state.write_u128(v6.to_bits());
                state.write_u8(self.prefix);
            }
        }
    }
}

impl Offender {
    /// The offender behind `address`, at these widths; the address alone if an IPv6 prefix is
    /// shared.
    pub fn behind(address: IpAddr, widths: Widths) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::v4(v4, widths.v4),
            IpAddr::V6(v6) => Self::v6(v6, if is_shared(v6) { 128 } else { widths.v6 }),
        }
    }

    /// This one address.
    pub fn single(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::v4(v4, 32),
            IpAddr::V6(v6) => Self::v6(v6, 128),
        }
    }

    /// The prefix of this length that `address` lies in; `None` if the length is over the family's.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        match address.to_canonical() {
            // 96 bits of `::ffff:0:0/96` are the mapping's own.
            IpAddr::V4(v4) if address.is_ipv6() => {
                Some(Self::v4(v4, prefix.checked_sub(96).filter(|p| *p <= 32)?))
            }
            IpAddr::V4(v4) if prefix <= 32 => Some(Self::v4(v4, prefix)),
            IpAddr::V6(v6) if prefix <= 128 => Some(Self::v6(v6, prefix)),
            _ => None,
        }
    }

    fn v4(address: Ipv4Addr, prefix: u8) -> Self {
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
        Self { address: Ipv4Addr::from_bits(address.to_bits() & mask).into(), prefix: prefix.min(32) }
    }

    fn v6(address: Ipv6Addr, prefix: u8) -> Self {
        let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
        Self { address: Ipv6Addr::from_bits(address.to_bits() & mask).into(), prefix: prefix.min(128) }
    }

    /// The first address of the prefix.
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// The number of leading bits held to account.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// Whether this is one single address.
    pub fn is_single(self) -> bool {
        self.prefix == if self.address.is_ipv4() { 32 } else { 128 }
    }

    /// Whether no packet from the internet has such an address: private, of a provider's NAT, or this host itself.
    pub fn is_private(self) -> bool {
        match self.address {
            IpAddr::V4(v4) => {
                let [first, second, ..] = v4.octets();
                v4.is_private() || v4.is_loopback() || (first == 100 && second & 0xc0 == 64)
            }
            IpAddr::V6(v6) => v6.is_unique_local() || v6.is_loopback(),
        }
    }

    /// Whether `other` lies wholly inside this prefix.
    pub fn contains(self, other: Offender) -> bool {
        self.prefix <= other.prefix
            && self.address.is_ipv4() == other.address.is_ipv4()
            && Self::new(other.address, self.prefix) == Some(self)
    }
}

/// Whether the neighbours of an address are strangers to it, since its last bits and not its first say whose it is: an
/// IPv4 address in IPv6 (RFC 4291, RFC 2765), NAT64 (RFC 6052, RFC 8215), Teredo (RFC 4380), and what is on one link
/// (fe80::/10). Not so 6to4, where a /48 belongs to one IPv4 address, nor ISATAP, where the first bits are a site's own.
fn is_shared(address: Ipv6Addr) -> bool {
    match address.segments() {
        [0, 0, 0, 0, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] | [0x64, 0xff9b, 1, ..] | [0x2001, 0, ..] => true,
        [first, ..] => first & 0xffc0 == 0xfe80,
    }
}

impl fmt::Display for Offender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_single() { self.address.fmt(f) } else { write!(f, "{}/{}", self.address, self.prefix) }
    }
}

impl fmt::Debug for Offender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is neither an address nor a prefix in CIDR notation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAnOffender(String);

impl fmt::Display for NotAnOffender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is not an address or prefix; write `192.0.2.1`, `192.0.2.0/24` or `2001:db8::/32`",
            self.0
        )
    }
}

impl std::error::Error for NotAnOffender {}

impl FromStr for Offender {
    type Err = NotAnOffender;

    /// Reads `192.0.2.1`, `192.0.2.0/24`, `2001:db8::1` (that one address) or `2001:db8::/32`.
    fn from_str(text: &str) -> Result<Self, NotAnOffender> {
        let wrong = || NotAnOffender(text.to_owned());
        let (address, prefix) = match text.split_once('/') {
            None => (text, None),
            Some((address, prefix)) => (address, Some(prefix.parse::<u8>().map_err(|_| wrong())?)),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        Self::new(address, prefix.unwrap_or(if address.is_ipv4() { 32 } else { 128 })).ok_or_else(wrong)
    }
}

impl Serialize for Offender {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Offender {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Offender".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string"})
    }
}

impl<'de> Deserialize<'de> for Offender {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Which grammar, by its place among those loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GrammarId(pub u16);

/// Which category (kind of offence) of a grammar, by its place in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CategoryId(pub u16);

impl CategoryId {
    /// The category `login`, which every grammar may have: a login that went well, and no offence.
    pub const LOGIN: Self = Self(u16::MAX);

    /// What a line has that only names an address under a [key](JoinKey), or ends the key: no offence.
    pub const KEY: Self = Self(u16::MAX - 1);
}

/// FNV-1a with 64 bits (RFC 9923): the same at each start and on each machine. It does not withstand an attacker who
/// chooses the bytes.
pub fn fnv1a(bytes: impl IntoIterator<Item = u8>) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// Which kind of key, as a grammar has it in a section `key NAME:`. It is the same at each start, and for grammars that
/// extend the one with the section.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct JoinId(u64);

impl JoinId {
    /// That of this section of a grammar.
    pub fn new(grammar: &str, section: &str) -> Self {
        // Only operators choose these names.
        Self(fnv1a(grammar.bytes().chain([0]).chain(section.bytes())))
    }
}

/// What joins the lines of a process in which a server names an address with those about it that have none: the number of
/// a connection, for instance.
///
/// It holds the text itself, not a hash, so that no two keys are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct JoinKey {
    id: JoinId,
    /// Hashes of host and program, and the process; 0 where unknown.
    host: u32,
    program: u32,
    pid: u32,
    length: u8,
    text: [u8; Self::LONGEST],
}

impl JoinKey {
    /// The longest text of a key, in bytes.
    pub const LONGEST: usize = 64;

    /// The key with this text in an entry; `None` if it is too long.
    pub fn new(id: JoinId, entry: &Entry<'_>, text: &[u8]) -> Option<Self> {
        // FNV-1a. Few programs write for one grammar.
        let program = entry
            .program
            .iter()
            .fold(0x811c_9dc5, |hash: u32, b| (hash ^ u32::from(*b)).wrapping_mul(0x0100_0193));
        let (host, pid) = (entry.host_hash(), entry.pid);
        let mut key = Self { id, host, program, pid, length: 0, text: [0; Self::LONGEST] };
        key.text.get_mut(..text.len())?.copy_from_slice(text);
        key.length = text.len() as u8;
        Some(key)
    }
}

/// A rule group of a grammar: one rule below a category, or one shape with all the rules that share it.
///
/// Within one session a server reports the same attempt by lines of several groups, and by one line of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleGroupId(pub u16);

/// Which lines of a server about one address belong to one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SessionId {
    /// Those of the process that served it, 0 where unknown.
    Process(u32),
    /// All below a category, where a server's processes tell no attempts apart.
    Category(CategoryId),
}

/// One thing that somebody did, as one entry tells it.
///
/// A login that went well is told in the same terms, under [`CategoryId::LOGIN`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offence {
    /// When.
    pub time: Timestamp,
    /// Who: the address in the entry, made canonical.
    pub address: IpAddr,
    /// Whose log tells it.
    pub grammar: GrammarId,
    /// What it was.
    pub category: CategoryId,
    /// The rule group that matched.
    pub group: RuleGroupId,
    /// Which lines about the address belong to one session.
    pub session_id: SessionId,
    /// A hash of the host whose process that is; 0 where unknown.
    pub host: u32,
    /// A hash of what it was about, such as the path that was asked for; 0 where that says nothing.
    pub value: u64,
    /// Whether the offence before it is of the same entry, so that no jail counts both.
    pub is_further: bool,
}

/// A transport protocol with ports, by its number in the IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Protocol {
    /// TCP, 6.
    Tcp = 6,
    /// UDP, 17.
    Udp = 17,
}

/// One port of one protocol, written `22/tcp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// The protocol.
    pub protocol: Protocol,
    /// The number, 1 to 65535.
    pub number: u16,
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, if self.protocol == Protocol::Tcp { "tcp" } else { "udp" })
    }
}

/// The text is not a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAPort(String);

impl fmt::Display for NotAPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not a port; write `22`, `22/tcp` or `53/udp`", self.0)
    }
}

impl std::error::Error for NotAPort {}

impl FromStr for Port {
    type Err = NotAPort;

    /// Reads `22/tcp`, `53/udp`, and `22`, which is TCP.
    fn from_str(text: &str) -> Result<Self, NotAPort> {
        let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return Err(NotAPort(text.to_owned())),
        };
        match number.parse() {
            Ok(number) if number > 0 => Ok(Self { protocol, number }),
            _ => Err(NotAPort(text.to_owned())),
        }
    }
}

impl Serialize for Port {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What brought a ban about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum BanOrigin {
    /// A jail's threshold.
    Auto,
    /// An operator's command.
    Manual,
    /// Enough banned offenders in one prefix.
    Wide,
    /// Another host of the fleet.
    Peer,
}

impl BanOrigin {
    /// Its name, in metrics and in the ledger.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Manual => "manual",
            Self::Wide => "wide",
            Self::Peer => "peer",
        }
    }
}

/// Whether bans are carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// They are.
    #[default]
    Enforce,
    /// They are decided, counted, logged and listed, but not enforced.
    Observe,
}

impl Mode {
    /// Its name, in the configuration, in metrics and in the ledger.
    pub fn name(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Observe => "observe",
        }
    }
}

/// A ban: who, how long, and its [terms](BanTerms), which can be read and changed as if they were its own.
///
/// There may be a million of them: 48 bytes each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ban {
    /// The offender.
    pub offender: Offender,
    /// How many bans this offender has had from this jail, this one included.
    pub times: u32,
    /// Since when.
    pub since: Timestamp,
    /// Until when; forever if `None`.
    pub until: Option<Timestamp>,
    /// The rest, which most bans have in common with others.
    pub terms: Arc<BanTerms>,
}

/// What a ban has in common with others of its jail: where and why.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BanTerms {
    /// The jail that decided it; `manual` for an operator's ban, `wide` for that of a prefix, `fleet:HOST` for that of
    /// another host.
    pub jail: Arc<str>,
    /// Threshold, command, prefix or peer.
    pub kind: BanOrigin,
    /// Whether it is carried out.
    pub mode: Mode,
    /// The ports it is limited to; all where empty.
    pub ports: Arc<[Port]>,
    /// The operator's words, or what was counted.
    pub reason: Arc<str>,
}

impl Deref for Ban {
    type Target = BanTerms;

    fn deref(&self) -> &BanTerms {
        &self.terms
    }
}

/// Others that have the same terms keep them.
impl DerefMut for Ban {
    fn deref_mut(&mut self) -> &mut BanTerms {
        Arc::make_mut(&mut self.terms)
    }
}

impl Ban {
    /// The same ban on terms that are changed.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut BanTerms)) -> Self {
        change(&mut self);
        self
    }

    /// The same ban, dated earlier by this much.
    pub fn shift_back(&mut self, by: Span) {
        (self.since, self.until) = (self.since - by, self.until.map(|until| until - by));
    }

    /// Which of these [bans of prefixes](Decision::wide) takes the place of this one, if one does: it began later.
    pub fn widened<'d>(&self, wide: &[&'d Ban]) -> Option<&'d Ban> {
        let takes = |wide: &&&Ban| {
            wide.offender != self.offender
                && wide.offender.contains(self.offender)
                && wide.since >= self.since
        };
        wide.iter().find(takes).copied()
    }
}

impl fmt::Display for Ban {
    /// A sentence for people: `banned 192.0.2.1 for 1h (sshd, time 1): 5 offences within 10m`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.mode == Mode::Enforce { "banned" } else { "would ban" };
        write!(f, "{verb} {}", self.offender)?;
        if !self.ports.is_empty() {
            let ports: Vec<String> = self.ports.iter().map(Port::to_string).collect();
            write!(f, " from ports {}", ports.join(" "))?;
        }
        match self.until {
            Some(until) => write!(f, " for {}", until.since(self.since))?,
            None => f.write_str(" forever")?,
        }
        write!(f, " ({}, time {})", self.jail, self.times)?;
        if self.reason.is_empty() { Ok(()) } else { write!(f, ": {}", self.reason) }
    }
}

/// An operator's word that somebody is not to be banned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// The offender.
    pub offender: Offender,
    /// Since when.
    pub since: Timestamp,
    /// Until when; forever if `None`.
    pub until: Option<Timestamp>,
    /// The operator's words; may be empty.
    pub comment: Arc<str>,
}

impl Allowance {
    /// The same word, dated earlier by this much.
    pub fn shift_back(&mut self, by: Span) {
        (self.since, self.until) = (self.since - by, self.until.map(|until| until - by));
    }

    /// For how long it was said, for people.
    pub fn until_when(&self) -> String {
        self.until.map_or("forever".to_owned(), |until| format!("for {}", until.since(self.since)))
    }
}

/// Something decided and not yet done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Keep this offender out.
    Ban(Ban),
    /// Let this ban's offender in again.
    Unban(Ban),
}

impl Decision {
    /// The bans of prefixes among what was decided together.
    pub fn wide(together: &[Decision]) -> Vec<&Ban> {
        let wide = together.iter().filter_map(|decision| match decision {
            Self::Ban(ban) if ban.kind == BanOrigin::Wide => Some(ban),
            _ => None,
        });
        wide.collect()
    }

    /// The ban that it is about.
    pub fn ban(&self) -> &Ban {
        match self {
            Self::Ban(ban) | Self::Unban(ban) => ban,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: &str) {
        assert_eq!(text.parse::<Offender>().map_or_else(|e| e.to_string(), |o| o.to_string()), want);
    }

    #[test]
    fn a_ban_takes_48_bytes() {
        assert_eq!((size_of::<Ban>(), size_of::<Option<Ban>>(), size_of::<Decision>()), (48, 48, 56));
    }

    #[test]
    fn instants_are_in_order_from_the_first_to_the_last() {
        let micros = [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX];
        let [first, second, rest @ ..] = micros.map(Timestamp::from_micros);
        assert_eq!((first, second.as_micros()), (second, micros[1]));
        assert!(second < rest[0] && rest.is_sorted());
        assert_eq!(rest.map(Timestamp::as_micros), micros[2..]);
        assert_eq!(Timestamp::default(), rest[1]);
        let all = Span::from_micros(u64::MAX);
        assert_eq!(
            (second - all, second + all, second + Span::from_micros(1 << 63)),
            (first, Timestamp::MAX, rest[2])
        );
        assert_eq!(serde_json::to_string(&rest[0]).unwrap(), "-1");
    }

    #[test]
    fn an_instant_beyond_the_calendar_is_its_end() {
        assert_eq!(Timestamp::MAX.to_string(), "9999-12-30T22:00:00.999999999Z");
        assert_eq!(Timestamp::from_micros(i64::MIN).to_string(), "-009999-01-02T01:59:59Z");
    }

    #[test]
    fn a_host_is_another_by_its_own_name() {
        let check = |host: &str, here: &str, want| {
            let sender = Sender::default();
            let (time, host) = (Timestamp::default(), host.as_bytes());
            let entry = Entry {
                time,
                host,
                program: b"",
                pid: 0,
                message: b"",
                cut: false,
                goes_on: false,
                times: 1,
                sender,
            };
            assert_eq!(entry.is_remote(here.as_bytes()), want, "{entry:?}");
        };
        check("web1", "web2", true);
        check("web10", "web1", true);
        check("web1.example.org", "web2.example.org", true);
        check("192.0.2.1", "web1", true);
        check("web1", "web1", false);
        check("WEB1.example.org", "web1", false);
        check("web1", "web1.example.org", false);
        check("", "web1", false);
        check("web1", "", false);
        check("localhost", "web1", false);
    }

    #[test]
    fn what_no_packet_from_the_internet_has_is_private() {
        let private = |text: &str| text.parse::<Offender>().unwrap().is_private();
        for yes in [
            "10.1.2.3",
            "172.31.0.1",
            "192.168.0.0/24",
            "127.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "::1",
            "fd00::1",
        ] {
            assert!(private(yes), "{yes}");
        }
        for no in ["192.0.2.1", "172.32.0.1", "100.63.255.255", "100.128.0.1", "2001:db8::1", "fe80::1"] {
            assert!(!private(no), "{no}");
        }
    }

    #[test]
    fn an_offender_has_no_bits_below_its_prefix() {
        check("192.0.2.77", "192.0.2.77");
        check("192.0.2.77/24", "192.0.2.0/24");
        check("192.0.2.77/0", "0.0.0.0/0");
        check("2001:db8::1", "2001:db8::1");
        check("2001:db8:1:2:3::/64", "2001:db8:1:2::/64");
        check("::ffff:192.0.2.1", "192.0.2.1");
        check("::ffff:192.0.2.1/120", "192.0.2.0/24");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let error = "`192.0.2.0/33` is not an address or prefix; write `192.0.2.1`, `192.0.2.0/24` or `2001:db8::/32`";
        check("192.0.2.0/33", error);
        assert!("192.0.2".parse::<Offender>().is_err());
        assert!("host.example/24".parse::<Offender>().is_err());
        assert!("192.0.2.1/-1".parse::<Offender>().is_err());
    }

    #[test]
    fn an_ipv6_host_answers_for_its_64() {
        let behind = |text: &str| Offender::behind(text.parse().unwrap(), Widths::default());
        assert_eq!(behind("2001:db8::1"), behind("2001:db8::ffff:1"));
        assert_ne!(behind("2001:db8::1"), behind("2001:db8:0:1::1"));
        assert_eq!(behind("::ffff:192.0.2.1"), behind("192.0.2.1"));
    }

    #[test]
    fn where_a_prefix_is_shared_the_offender_is_one_address() {
        let check = |text: &str, want: &str| {
            for v6 in [64, 48, 128] {
                let behind = Offender::behind(text.parse().unwrap(), Widths { v6, ..Widths::default() });
                let want = if want.is_empty() {
                    Offender::new(text.parse().unwrap(), v6).unwrap()
                } else {
                    want.parse().unwrap()
                };
                assert_eq!(behind, want, "{text} at {v6}");
            }
        };
        for single in [
            "64:ff9b::c000:201",
            "64:ff9b:1::c000:201",
            "64:ff9b:1:ffff:ffff:ffff:c000:201",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
            "fe80::1",
            "febf:ffff::1",
            "::c000:201",
            "::ffff:0:c000:201",
            "::1",
        ] {
            check(single, single);
        }
        check("::ffff:192.0.2.1", "192.0.2.1");
        for wide in [
            "64:ff9b:0:0:0:1:c000:201",
            "64:ff9b:2::1",
            "2001:1::1",
            "2002:c000:201::1",
            "fec0::1",
            "2001:db8::5efe:c000:201",
        ] {
            check(wide, "");
        }
    }

    #[test]
    fn a_prefix_contains_what_lies_inside_it() {
        let parse = |text: &str| text.parse::<Offender>().unwrap();
        assert!(parse("192.0.2.0/24").contains(parse("192.0.2.9")));
        assert!(!parse("192.0.2.0/24").contains(parse("192.0.3.9")));
        assert!(!parse("192.0.2.9").contains(parse("192.0.2.0/24")));
        assert!(!parse("0.0.0.0/0").contains(parse("2001:db8::1")));
    }
}
