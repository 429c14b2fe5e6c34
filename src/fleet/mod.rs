//! A fleet: hosts that tell each other which addresses they ban, over NATS JetStream.
//!
//! Three buckets (NATS ADR-8) hold a state, not a stream of events, so that to read one again changes nothing. In
//! `NAME-bans` each member keeps its own bans below its own name, which the server's permissions hold; in `NAME-members`
//! operators keep who is a member, and what holds for all; in
//! `NAME-counts` each member keeps what stands in windows that [count across the fleet](counts). Each value is signed (`sealed.rs`): the server can withhold what
//! it is to pass on, not forge it. What a member may cause here is [local policy](peers).
//!
//! [`link`] keeps the connection, in a task of its own. Local bans never wait for it.

#[cfg(feature = "fleet")]
pub mod admin;
#[cfg_attr(not(feature = "fleet"), allow(dead_code, reason = "the connection reads and writes what is told"))]
pub mod addresses;
#[cfg_attr(not(feature = "fleet"), allow(dead_code, reason = "the connection reads and writes what is told"))]
pub mod counts;
#[cfg_attr(not(feature = "fleet"), allow(dead_code, reason = "the connection reads and writes what is told"))]
pub mod notice;
pub mod outbox;
pub mod peers;
#[cfg(feature = "fleet")]
mod connection;
#[cfg(feature = "fleet")]
pub mod link;
#[cfg(feature = "fleet")]
mod member;
#[cfg(feature = "fleet")]
mod sealed;
#[cfg(feature = "fleet")]
pub use member::MemberRecord;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::detect::Exemption;
use crate::model::{Offender, Timestamp};
use addresses::AddressNotice;
use counts::{CountKey, CountNotice};
use notice::Notice;
use outbox::Told;

/// What comes from the fleet.
#[derive(Debug)]
pub enum FleetNews {
    /// A server is connected: which, and the addresses of all that are configured.
    Connected(String, Vec<IpAddr>),
    /// None is, and why.
    Lost(String),
    /// Who is a member and who was, this host included.
    Members(Vec<MemberState>),
    /// What members say of addresses.
    Page(Page),
    /// What operators order.
    Orders(Vec<FleetOrder>),
    /// Which addresses members have themselves.
    Addresses(Vec<(Arc<str>, AddressNotice)>),
    /// What stands in the windows of members.
    Counts(Vec<Heard<(CountKey, CountNotice)>>),
    /// All bans of this host are wanted, and what stands in windows that count across the fleet, to compare them with what
    /// the others see.
    Wanted(oneshot::Sender<Told>),
    /// So many notices were stored by the server.
    Stored(u64),
    /// Why the server has no room for what this host tells; none where it has again.
    NoRoom(Option<String>),
}

/// Whether a host is a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberState {
    /// Its name.
    pub host: Arc<str>,
    /// When an operator has signed that.
    pub at: Timestamp,
    /// Whether it is none any more.
    pub removed: bool,
}

/// What an operator orders all members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetOrder {
    /// What to do.
    pub kind: OrderKind,
    /// The address or prefix.
    pub offender: Offender,
    /// When it was given: the operator's clock.
    pub at: Timestamp,
    /// Until when an exemption lasts; forever if `None`.
    pub until: Option<Timestamp>,
    /// The operator's words; may be empty.
    pub comment: String,
}

/// What to do with an address or a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderKind {
    /// Exempt it.
    Allow,
    /// Exempt it no longer.
    Disallow,
    /// Lift all bans on it and inside it.
    Unban,
}

impl OrderKind {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Allow => "exempt",
            Self::Disallow => "exempt no longer",
            Self::Unban => "unban",
        }
    }
}

/// What members say of addresses, in the order in which the server has it.
#[derive(Debug)]
pub struct Page {
    /// One of each.
    pub heard: Vec<Heard>,
    /// Whether it has come now, and was not there before.
    pub is_live: bool,
}

/// What a member says.
#[derive(Debug)]
pub struct Heard<T = (Offender, Notice)> {
    /// Its name, as the key has it.
    pub host: Arc<str>,
    /// The offender or the window, and what it says; or why it is not believed.
    pub said: Result<T, NoticeRefusal>,
}

/// Why something that a member says has no effect here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeRefusal {
    /// It is not a notice.
    Malformed,
    /// No operator has admitted a member of this name.
    Stranger,
    /// The key of the member of this name has not signed it for this place.
    Forged,
    /// It is not later than what was heard of this member before.
    Replayed,
    /// It is dated a day ahead or more, so that nothing its host says later would be believed.
    Ahead,
    /// The prefix is too wide.
    TooWide,
    /// This protects the offender here.
    Exempt(Exemption),
    /// A member has said that this is its own address.
    Member,
    /// It would cut this host off from the fleet.
    Server,
    /// The member has begun too many bans within a minute.
    TooFast,
    /// The member has too many bans in force.
    TooMany,
    /// The member was set aside before.
    SetAside,
}

impl NoticeRefusal {
    /// The names of all.
    pub const NAMES: [&str; 12] = [
        "malformed",
        "stranger",
        "forged",
        "replayed",
        "ahead",
        "too-wide",
        "exempt",
        "member",
        "server",
        "too-fast",
        "too-many",
        "set-aside",
    ];

    /// In a word, for a metric's label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Stranger => "stranger",
            Self::Forged => "forged",
            Self::Replayed => "replayed",
            Self::Ahead => "ahead",
            Self::TooWide => "too-wide",
            Self::Exempt(_) => "exempt",
            Self::Member => "member",
            Self::Server => "server",
            Self::TooFast => "too-fast",
            Self::TooMany => "too-many",
            Self::SetAside => "set-aside",
        }
    }
}

impl fmt::Display for NoticeRefusal {
    /// For people, after what was refused and a colon.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("it cannot be read; another version?"),
            Self::Stranger => f.write_str("no operator has admitted a host of this name"),
            Self::Forged => f.write_str("the host of this name has not signed it"),
            Self::Replayed => f.write_str("it is no later than what that host said before"),
            Self::Ahead => f.write_str("it is dated a day ahead or more"),
            Self::TooWide => f.write_str("the prefix is too wide (`ipv4-prefix`, `ipv6-prefix` in [fleet])"),
            Self::Exempt(by) => by.fmt(f),
            Self::Member => f.write_str("a member of the fleet has this address"),
            Self::Server => f.write_str("a server of the fleet has this address"),
            Self::TooFast => {
                f.write_str("too many bans of that host within a minute (`per-minute` in [fleet])")
            }
            Self::TooMany => f.write_str("too many bans of that host in force (`most` in [fleet])"),
            Self::SetAside => f.write_str("the host is set aside"),
        }
    }
}

pub use crate::config::FLEET_JAIL as JAIL;

/// The jail that has the bans of this host.
pub fn jail_of(host: &str) -> Arc<str> {
    format!("{JAIL}{host}").into()
}
