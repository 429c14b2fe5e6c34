//! The party a ban is laid on.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

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

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: &str) {
        assert_eq!(text.parse::<Offender>().map_or_else(|e| e.to_string(), |o| o.to_string()), want);
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
