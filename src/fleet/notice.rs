//! What a member says of one address, and under which key.
//!
//! A key is `HOST.ADDRESS/LENGTH`, in which an IPv6 address is 32 hexadecimal digits, since keys of NATS have no colons. A
//! value is JSON behind a line with its signature.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::is_host_name;
use crate::model::{Ban, BanOrigin, BanTerms, Mode, Offender, Port, Timestamp, is_harmful};

/// A ban of a member, or that it has lifted one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notice {
    /// When it was told, in microseconds: later than all that its host told before.
    pub at: Timestamp,
    /// When the ban began.
    pub since: Timestamp,
    /// When it ends or would have ended; never if missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Whether it was lifted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lifted: bool,
    /// How many bans the offender has had from the jail.
    pub times: u32,
    /// The jail there.
    pub jail: Arc<str>,
    /// What was counted there, or an operator's words.
    #[serde(default)]
    pub reason: Arc<str>,
    /// The ports; all if empty.
    #[serde(default, skip_serializing_if = "<[Port]>::is_empty")]
    pub ports: Arc<[Port]>,
}

/// The longest value, in bytes.
pub const LONGEST: usize = 4096;
/// The longest name of a jail and the longest reason, in bytes.
const LONGEST_NAME: usize = 64;
const LONGEST_REASON: usize = 512;
const MOST_PORTS: usize = 64;

impl Notice {
    /// That this ban is in force, or was lifted.
    pub fn of(ban: &Ban, lifted: bool) -> Self {
        let Ban { since, until, times, .. } = *ban;
        let BanTerms { jail, reason, ports, .. } = &*ban.terms;
        let mut end = reason.len().min(LONGEST_REASON);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        let reason = if end == reason.len() { Arc::clone(reason) } else { reason[..end].into() };
        let (jail, ports) = (Arc::clone(jail), Arc::clone(ports));
        Self { at: Timestamp::default(), since, until, lifted, times, jail, reason, ports }
    }

    /// Whether it says the same as another, whenever that was told.
    pub fn agrees(&self, other: &Self) -> bool {
        *self == Self { at: self.at, ..other.clone() }
    }

    /// Reads the JSON of a value.
    pub(super) fn read(json: &[u8]) -> Option<Self> {
        let notice: Self = serde_json::from_slice(json).ok()?;
        let is_plain = |text: &str, longest| text.len() <= longest && !text.contains(is_harmful);
        let is_sound = is_plain(&notice.jail, LONGEST_NAME)
            && is_plain(&notice.reason, LONGEST_REASON)
            && notice.ports.len() <= MOST_PORTS;
        is_sound.then_some(notice)
    }

    /// The ban that this is here: in the jail of its host, not yet known whether it is carried out.
    pub fn ban(&self, offender: Offender, jail: Arc<str>, longest: Timestamp, now: Timestamp) -> Ban {
        let reason = match &*self.reason {
            "" => self.jail.to_string(),
            reason => format!("{}: {reason}", self.jail),
        };
        let terms = BanTerms {
            jail,
            kind: BanOrigin::Peer,
            mode: Mode::Observe,
            ports: Arc::clone(&self.ports),
            reason: reason.into(),
        };
        let until = Some(self.until.map_or(longest, |until| until.min(longest)));
        Ban { offender, times: self.times.max(1), since: self.since.min(now), until, terms: Arc::new(terms) }
    }
}

/// The key of what a host says of an offender.
pub fn key(host: &str, offender: Offender) -> String {
    let length = offender.prefix();
    match offender.address() {
        IpAddr::V4(address) => format!("{host}.{address}/{length}"),
        IpAddr::V6(address) => format!("{host}.{:032x}/{length}", address.to_bits()),
    }
}

/// The host and the offender of a key; nobody if it is none that [`key`] makes.
pub fn read_key(text: &str) -> Option<(&str, Offender)> {
    let (host, rest) = text.split_once('.')?;
    let (address, length) = rest.split_once('/')?;
    let address: IpAddr = match address.contains('.') {
        true => address.parse().ok()?,
        false => Ipv6Addr::from_bits(u128::from_str_radix(address, 16).ok()?).into(),
    };
    let offender = Offender::new(address, length.parse().ok()?)?;
    // So that there is one key for each offender.
    (is_host_name(host) && key(host, offender) == text).then_some((host, offender))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(text: &str, want: Option<(&str, &str)>) {
        assert_eq!(read_key(text), want.map(|(host, offender)| (host, offender.parse().unwrap())));
    }

    #[test]
    fn a_key_is_read_as_it_is_made_and_no_other_is() {
        check("web1.192.0.2.1/32", Some(("web1", "192.0.2.1")));
        check("web1.192.0.2.0/24", Some(("web1", "192.0.2.0/24")));
        check("web-1.20010db8000000000000000000000000/64", Some(("web-1", "2001:db8::/64")));
        for wrong in [
            "",
            "web1",
            "web1.",
            ".192.0.2.1/32",
            "web1.192.0.2.1",
            "web1.192.0.2.1/33",
            "web1.192.0.2.1/24",
            "web1.192.0.2.1/032",
            "web1.20010db8/64",
            "web1.+0010db8000000000000000000000000/64",
            "web1.0000000000000000000000000000ffff/128/",
            "we b.192.0.2.1/32",
            // An IPv4 address has one key.
            "web1.00000000000000000000ffffc0000201/128",
        ] {
            check(wrong, None);
        }
    }

    proptest! {
        #[test]
        fn every_offender_has_a_key(v6: bool, bits: u128, length in 0..=128_u8) {
            let address = if v6 { Ipv6Addr::from_bits(bits).into() } else { IpAddr::from((bits as u32).to_be_bytes()) };
            let length = if v6 { length } else { length % 33 };
            prop_assume!(Offender::new(address, length).is_some());
            let offender = Offender::new(address, length).unwrap();
            let key = key("h", offender);
            prop_assert_eq!(read_key(&key), Some(("h", offender)));
        }

        #[test]
        fn no_text_is_a_panic(text in ".*", json: Vec<u8>) {
            let _ = (read_key(&text), Notice::read(&json));
        }
    }

    #[test]
    fn a_notice_with_harmful_or_endless_text_is_refused() {
        let notice = |jail: &str, reason: &str| {
            let json = serde_json::json!({"at": 1, "since": 1, "times": 1, "jail": jail, "reason": reason});
            Notice::read(json.to_string().as_bytes()).is_some()
        };
        assert!(notice("sshd", "5 offences within 10m"));
        assert!(!notice("sshd", "\u{1b}[2J"));
        assert!(!notice("ss\nhd", ""));
        assert!(!notice("sshd", &"x".repeat(LONGEST_REASON + 1)));
        assert!(!notice(&"x".repeat(LONGEST_NAME + 1), ""));
    }
}
