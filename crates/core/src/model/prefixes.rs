//! Sets of addresses and prefixes with fast look-up: exemptions, trusted proxies.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::Offender;

/// Prefixes with something known of each, filed by length, so that a look-up costs one search for each length in use.
#[derive(Debug)]
pub struct Prefixes<T> {
    members: BTreeMap<Offender, T>,
    /// Prefix lengths in use, of IPv4 and of IPv6.
    lengths: (BTreeSet<u8>, BTreeSet<u8>),
}

impl<T> Default for Prefixes<T> {
    fn default() -> Self {
        Self { members: BTreeMap::new(), lengths: Default::default() }
    }
}

impl<T: Copy> Prefixes<T> {
    /// These. Of one that comes twice the first counts.
    pub fn new(members: impl IntoIterator<Item = (Offender, T)>) -> Self {
        let mut list = Self::default();
        for (member, what) in members {
            let lengths = if member.address().is_ipv4() { &mut list.lengths.0 } else { &mut list.lengths.1 };
            lengths.insert(member.prefix());
            list.members.entry(member).or_insert(what);
        }
        list
    }

    /// Whether the address is in it. Does not allocate.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.overlapping(Offender::single(address)).is_some()
    }

    /// A member that holds the offender, or lies inside it: who bans a prefix bans all addresses in it.
    pub fn overlapping(&self, offender: Offender) -> Option<(Offender, T)> {
        let lengths = if offender.address().is_ipv4() { &self.lengths.0 } else { &self.lengths.1 };
        let longest = lengths.last()?;
        let around = lengths
            .iter()
            .filter(|length| **length <= offender.prefix())
            .find_map(|length| self.members.get_key_value(&Offender::new(offender.address(), *length)?));
        // Members sort by address, so the first that could lie inside comes at or after the offender's own.
        let inside = || {
            let mut behind = self.members.range(offender..).take_while(|_| *longest > offender.prefix());
            behind.next().filter(|(member, _)| offender.contains(**member))
        };
        around.or_else(inside).map(|(member, what)| (*member, *what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(list: &[&str], offender: &str, want: bool) {
        let list = Prefixes::new(list.iter().map(|text| (text.parse().unwrap(), ())));
        assert_eq!(list.overlapping(offender.parse().unwrap()).is_some(), want);
    }

    #[test]
    fn an_address_inside_a_member_overlaps() {
        check(&["127.0.0.0/8", "2001:db8::/32"], "127.3.4.5", true);
        check(&["127.0.0.0/8", "2001:db8::/32"], "2001:db8:1::/64", true);
        check(&["127.0.0.0/8", "2001:db8::/32"], "128.0.0.1", false);
        check(&["0.0.0.0/0"], "2001:db8::1", false);
        check(&[], "192.0.2.1", false);
    }

    #[test]
    fn a_prefix_that_holds_a_member_overlaps() {
        check(&["2001:db8::5"], "2001:db8::/64", true);
        check(&["192.0.2.200"], "192.0.2.0/24", true);
        check(&["192.0.3.1"], "192.0.2.0/24", false);
    }
}
