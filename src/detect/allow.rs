//! Who is never banned: addresses and prefixes.
//!
//! A ban is withheld from whoever overlaps the list: an address inside one of its prefixes, and also a prefix
//! that holds one of its addresses, for banning the prefix would shut that address out.
//!
//! It does not know where the list comes from.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::model::{Offender, Timestamp};

/// What keeps somebody from being banned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// This address or prefix is never banned, and neither is what overlaps it.
    Listed(Offender, List),
    /// Somebody logged in from there lately, the last time then.
    Login(Timestamp),
}

/// Why an address or a prefix is never banned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// `ignoreip` says so, or a file that it names.
    Ignored,
    /// It is this host's own.
    Own,
    /// It is a gateway of this host.
    Gateway,
    /// An operator said so (`banstream allow`).
    Allowed,
}

impl Guard {
    /// In a word, for a metric's label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Listed(_, List::Ignored) => "ignoreip",
            Self::Listed(_, List::Own) => "own",
            Self::Listed(_, List::Gateway) => "gateway",
            Self::Listed(_, List::Allowed) => "allow",
            Self::Login(_) => "login",
        }
    }
}

impl fmt::Display for Guard {
    /// For people, after "is not banned: ".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listed(who, List::Ignored) => write!(f, "`ignoreip` has {who}"),
            Self::Listed(who, List::Own) => write!(f, "{who} is this host's own address"),
            Self::Listed(who, List::Gateway) => write!(f, "{who} is this host's gateway"),
            Self::Listed(who, List::Allowed) => write!(f, "{who} is allowed by hand"),
            Self::Login(at) => write!(f, "somebody logged in from there at {at}"),
        }
    }
}

/// A set of prefixes, filed by length, so that a look-up costs one search for each length in use.
#[derive(Debug, Default)]
pub(super) struct AllowList {
    members: BTreeMap<Offender, List>,
    /// Prefix lengths in use, of IPv4 and of IPv6.
    lengths: (BTreeSet<u8>, BTreeSet<u8>),
}

impl AllowList {
    /// A list of these. Where one is on several lists, the first counts.
    pub(super) fn new(members: impl IntoIterator<Item = (Offender, List)>) -> Self {
        let mut list = Self::default();
        for (member, why) in members {
            let lengths = if member.address().is_ipv4() { &mut list.lengths.0 } else { &mut list.lengths.1 };
            lengths.insert(member.prefix());
            list.members.entry(member).or_insert(why);
        }
        list
    }

    /// The member that protects this offender, if one does.
    pub(super) fn protects(&self, offender: Offender) -> Option<Guard> {
        let lengths = if offender.address().is_ipv4() { &self.lengths.0 } else { &self.lengths.1 };
        let around = lengths
            .iter()
            .filter(|length| **length <= offender.prefix())
            .find_map(|length| self.members.get_key_value(&Offender::new(offender.address(), *length)?));
        // Members sort by address, so the first that could lie inside comes at or after the offender's own.
        let inside =
            || self.members.range(offender..).next().filter(|(member, _)| offender.contains(**member));
        around.or_else(inside).map(|(member, list)| Guard::Listed(*member, *list))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(list: &[&str], offender: &str, want: bool) {
        let list = AllowList::new(list.iter().map(|text| (text.parse().unwrap(), List::Ignored)));
        assert_eq!(list.protects(offender.parse().unwrap()).is_some(), want);
    }

    #[test]
    fn an_address_inside_a_member_is_protected() {
        check(&["127.0.0.0/8", "2001:db8::/32"], "127.3.4.5", true);
        check(&["127.0.0.0/8", "2001:db8::/32"], "2001:db8:1::/64", true);
        check(&["127.0.0.0/8", "2001:db8::/32"], "128.0.0.1", false);
        check(&["0.0.0.0/0"], "2001:db8::1", false);
        check(&[], "192.0.2.1", false);
    }

    #[test]
    fn a_prefix_that_holds_a_member_is_protected() {
        check(&["2001:db8::5"], "2001:db8::/64", true);
        check(&["192.0.2.200"], "192.0.2.0/24", true);
        check(&["192.0.3.1"], "192.0.2.0/24", false);
    }
}
