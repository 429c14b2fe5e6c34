//! Who is never banned: addresses and prefixes.
//!
//! A ban is withheld from whoever overlaps the list: an address inside one of its prefixes, and also a prefix
//! that holds one of its addresses, for banning the prefix would shut that address out.
//!
//! It does not know where the list comes from.

use std::collections::BTreeSet;

use crate::model::Offender;

/// A set of prefixes, filed by length, so that a look-up costs one search for each length in use.
#[derive(Debug, Default)]
pub(super) struct AllowList {
    members: BTreeSet<Offender>,
    /// Prefix lengths in use, of IPv4 and of IPv6.
    lengths: (BTreeSet<u8>, BTreeSet<u8>),
}

impl AllowList {
    /// A list of these.
    pub(super) fn new(members: impl IntoIterator<Item = Offender>) -> Self {
        let mut list = Self::default();
        for member in members {
            let lengths = if member.address().is_ipv4() { &mut list.lengths.0 } else { &mut list.lengths.1 };
            lengths.insert(member.prefix());
            list.members.insert(member);
        }
        list
    }

    /// The member that protects this offender, if one does.
    pub(super) fn protects(&self, offender: Offender) -> Option<Offender> {
        let lengths = if offender.address().is_ipv4() { &self.lengths.0 } else { &self.lengths.1 };
        let around = lengths.iter().filter(|length| **length <= offender.prefix()).find_map(|length| {
            Offender::new(offender.address(), *length).filter(|prefix| self.members.contains(prefix))
        });
        // Members sort by address, so the first that could lie inside comes at or after the offender's own.
        around.or_else(|| {
            self.members.range(offender..).next().copied().filter(|member| offender.contains(*member))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(list: &[&str], offender: &str, want: bool) {
        let list = AllowList::new(list.iter().map(|text| text.parse().unwrap()));
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
