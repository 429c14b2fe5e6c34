//! The addresses of members, as each tells its own: no member may ban those of another. Pure but for the shape of what is
//! told.
//!
//! A member that is not honest can name addresses that are not its own, [`MOST`] at most. Others cannot ban these here
//! then; what this host decides itself is not concerned.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::is_host_name;
use crate::model::{Offender, Timestamp};

/// What a member says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddressNotice {
    /// When it was told, in microseconds.
    pub at: Timestamp,
    /// Its own addresses.
    pub addresses: Vec<IpAddr>,
}

/// How many addresses a member can have.
pub const MOST: usize = 64;
/// The end of a key under which a member tells its addresses. Under such a key it also says that it is there.
pub(super) const HERE: &str = ".here";

impl AddressNotice {
    /// Reads the JSON of a value.
    pub(super) fn read(json: &[u8]) -> Option<Self> {
        let notice: Self = serde_json::from_slice(json).ok()?;
        (notice.addresses.len() <= MOST).then_some(notice)
    }
}

/// Those of a host's addresses that it tells: not those that others have, too.
pub fn told(own: impl IntoIterator<Item = IpAddr>) -> Vec<IpAddr> {
    let is_its_own = |address: &IpAddr| match address {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local() && !v4.is_unspecified(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local() && !v6.is_unspecified(),
    };
    own.into_iter().filter(is_its_own).take(MOST).collect()
}

/// The key of what a host says of itself.
pub(super) fn key(host: &str) -> String {
    format!("{host}{HERE}")
}

/// The host of such a key.
pub(super) fn read_key(text: &str) -> Option<(&str, ())> {
    let host = text.strip_suffix(HERE)?;
    is_host_name(host).then_some((host, ()))
}

/// What all members have said.
#[derive(Debug, Default)]
pub struct MemberAddresses {
    notices: HashMap<Arc<str>, AddressNotice>,
    all: BTreeSet<(Offender, Arc<str>)>,
}

impl MemberAddresses {
    /// Hears a member; those that it has not told before.
    pub fn hear(&mut self, host: &Arc<str>, notice: AddressNotice) -> Vec<Offender> {
        let before = self.notices.get(host);
        if before.is_some_and(|before| before.at >= notice.at || before.addresses == notice.addresses) {
            return Vec::new();
        }
        let place = |address: &IpAddr| (Offender::single(*address), Arc::clone(host));
        let all = &mut self.all;
        before
            .iter()
            .flat_map(|before| &before.addresses)
            .for_each(|address| _ = all.remove(&place(address)));
        let told = notice.addresses.iter().map(place);
        let new = told.filter(|place| all.insert(place.clone())).map(|(address, _)| address).collect();
        self.notices.insert(Arc::clone(host), notice);
        new
    }

    /// Forgets hosts that are not members.
    pub fn retain(&mut self, is_member: impl Fn(&str) -> bool) {
        self.notices.retain(|host, _| is_member(host));
        self.all.retain(|(_, host)| is_member(host));
    }

    /// Whether a member has an address in here.
    pub fn are_in(&self, offender: Offender) -> bool {
        let first = (Offender::single(offender.address()), Arc::from(""));
        self.all.range(first..).next().is_some_and(|(address, _)| offender.contains(*address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(at: i64, addresses: &[&str]) -> AddressNotice {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        AddressNotice { at: Timestamp::from_secs(at), addresses }
    }

    #[test]
    fn an_address_is_protected_while_a_member_says_that_it_has_it() {
        let (mut known, web1, web2) = (MemberAddresses::default(), Arc::from("web1"), Arc::from("web2"));
        let are_in = |known: &MemberAddresses, who: &str| known.are_in(who.parse().unwrap());
        assert_eq!(known.hear(&web1, notice(1, &["192.0.2.9", "2001:db8::1"])).len(), 2);
        assert!(
            ["192.0.2.9", "192.0.2.0/24", "2001:db8::1", "2001:db8::/32"]
                .iter()
                .all(|who| are_in(&known, who))
        );
        assert!(
            !["192.0.2.8", "192.0.2.10", "192.0.2.0/29", "2001:db8::2"].iter().any(|who| are_in(&known, who))
        );
        // One that both have, what is old, and what it had before.
        assert_eq!(known.hear(&web2, notice(1, &["192.0.2.9"])).len(), 1);
        assert!(known.hear(&web1, notice(1, &["192.0.2.7"])).is_empty());
        assert_eq!(known.hear(&web1, notice(2, &["192.0.2.7"])).len(), 1);
        assert!(are_in(&known, "192.0.2.9") && are_in(&known, "192.0.2.7") && !are_in(&known, "2001:db8::1"));
        known.retain(|host| host == "web1");
        assert!(!are_in(&known, "192.0.2.9") && are_in(&known, "192.0.2.7"));
    }

    #[test]
    fn what_others_have_too_is_not_told_and_nobody_tells_more_than_a_few() {
        let own = ["127.0.0.1", "169.254.1.1", "192.0.2.1", "::1", "fe80::1", "2001:db8::1", "10.0.0.1"];
        let own = own.map(|address| address.parse::<IpAddr>().unwrap());
        let want = ["192.0.2.1", "2001:db8::1", "10.0.0.1"].map(|address| address.parse::<IpAddr>().unwrap());
        assert_eq!(told(own), want);
        assert_eq!(told((0..100).map(|n| std::net::Ipv4Addr::from_bits(0x0a00_0000 + n).into())).len(), MOST);
        let json =
            |count: usize| serde_json::to_vec(&notice(1, &vec!["2001:db8:1:2:3:4:5:6"; count])).unwrap();
        assert!(AddressNotice::read(&json(MOST)).is_some() && AddressNotice::read(&json(MOST + 1)).is_none());
        assert!(json(MOST).len() + 87 <= super::super::notice::LONGEST);
    }
}
