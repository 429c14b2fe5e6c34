//! Exemptions from bans, and their reasons: by which list, or because of a login.
//!
//! A ban is withheld if its offender overlaps the list: an address inside one of its prefixes, and also a prefix that
//! contains one of its addresses, because a ban of the prefix would block that address.

use std::fmt;

use crate::model::{Offender, Prefixes, Timestamp};

/// What keeps somebody from being banned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exemption {
    /// This address or prefix is never banned, and neither is what overlaps it.
    Listed(Offender, ExemptionList),
    /// Somebody logged in from there lately, the last time then.
    Login(Timestamp),
}

/// Why an address or a prefix is never banned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExemptionList {
    /// `ignoreip` says so, or a file that it names.
    Ignored,
    /// It is this host's own.
    Own,
    /// It is a gateway of this host.
    Gateway,
    /// An operator said so (`banstream allow`).
    Allowed,
    /// It is a trusted proxy.
    Proxy,
}

impl Exemption {
    /// In a word, for a metric's label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Listed(_, ExemptionList::Ignored) => "ignoreip",
            Self::Listed(_, ExemptionList::Own) => "own",
            Self::Listed(_, ExemptionList::Gateway) => "gateway",
            Self::Listed(_, ExemptionList::Allowed) => "allow",
            Self::Listed(_, ExemptionList::Proxy) => "proxy",
            Self::Login(_) => "login",
        }
    }
}

impl fmt::Display for Exemption {
    /// For people, after "is not banned: ".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listed(who, ExemptionList::Ignored) => write!(f, "{who} is in `ignoreip`"),
            Self::Listed(who, ExemptionList::Own) => write!(f, "{who} is this host's own address"),
            Self::Listed(who, ExemptionList::Gateway) => write!(f, "{who} is this host's gateway"),
            Self::Listed(who, ExemptionList::Allowed) => write!(f, "{who} is exempted by hand"),
            Self::Listed(who, ExemptionList::Proxy) => write!(f, "{who} is a trusted proxy"),
            Self::Login(at) => write!(f, "a login from there at {}", Timestamp::from_secs(at.as_secs())),
        }
    }
}

impl Prefixes<ExemptionList> {
    /// The member that protects this offender, if one does.
    pub(super) fn protects(&self, offender: Offender) -> Option<Exemption> {
        self.overlapping(offender).map(|(member, list)| Exemption::Listed(member, list))
    }
}
