//! Changes of the kernel's sets, as values. Bans of the ledger and elements of the kernel are compared in these terms:
//! an element is the part of a ban in one set.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::{Ban, Decision, Offender, Port, Protocol, Span, Timestamp};

/// One change to one set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Put the element in; where it is in already, give it this timeout.
    Add(Element, Timeout),
    /// Take the element out, if it is in.
    Remove(Element),
}

impl Change {
    /// What is put in or taken out.
    pub fn element(&self) -> Element {
        match *self {
            Self::Add(element, _) | Self::Remove(element) => element,
        }
    }
}

/// What a set holds: an offender, on all ports or on one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Element {
    /// Who is kept out. No set can hold a prefix of length 0; [`elements`] makes none.
    pub offender: Offender,
    /// The port it is kept out from; from all where `None`.
    pub port: Option<Port>,
}

/// As derived, but without a step for a port that is not there: a start with a million bans hashes three million elements.
impl Hash for Element {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.offender.hash(state);
        self.port.iter().for_each(|port| port.hash(state));
    }
}

impl Element {
    /// The set that this element belongs in.
    pub fn set(&self, layout: Layout) -> Set {
        let length = match layout {
            Layout::AnyLength => None,
            Layout::ByLength => Some(self.offender.prefix()),
        };
        Set { family: Family::of(self.offender), has_ports: self.port.is_some(), length }
    }

    /// What `doctor` puts into this set for a second, to see whether it gets there: an address that nobody has
    /// (RFC 5737, RFC 3849).
    pub fn probe(set: Set) -> Option<Self> {
        let (address, prefix) = match set.family {
            Family::V4 => (IpAddr::V4(Ipv4Addr::new(192, 0, 2, 254)), 32),
            Family::V6 => (IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0xffff, 0, 0, 0, 0xfffe)), 128),
        };
        let port = set.has_ports.then_some(Port { protocol: Protocol::Tcp, number: 9 });
        Some(Self { offender: Offender::new(address, prefix)?, port })
    }

    /// Whether it is that, in its one second.
    pub(super) fn is_probe(&self, left: Timeout) -> bool {
        left == Timeout::SECOND && Self::probe(self.set(Layout::AnyLength)) == Some(*self)
    }
}

impl fmt::Display for Element {
    /// For people: `192.0.2.1`, `2001:db8::/64 22/tcp`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.offender.fmt(f)?;
        self.port.map_or(Ok(()), |port| write!(f, " {port}"))
    }
}

/// An address family; each has its own sets and its own rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// That of this offender.
    pub fn of(offender: Offender) -> Self {
        if offender.address().is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// How elements are divided among sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// A set holds prefixes of any length, as ipset's do, which try each length that is in use.
    AnyLength,
    /// There is a set for each length, as nftables has fast sets of that kind only.
    ByLength,
}

/// A set of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Set {
    /// Of its addresses.
    pub family: Family,
    /// Whether its elements name a port.
    pub has_ports: bool,
    /// Of its prefixes, in bits; any if `None`.
    pub length: Option<u8>,
}

impl Set {
    /// IPv4, all ports.
    pub const V4: Self = Self { family: Family::V4, has_ports: false, length: None };
    /// IPv4, port by port.
    pub const V4_PORT: Self = Self { has_ports: true, ..Self::V4 };
    /// IPv6, all ports.
    pub const V6: Self = Self { family: Family::V6, has_ports: false, length: None };
    /// IPv6, port by port.
    pub const V6_PORT: Self = Self { has_ports: true, ..Self::V6 };

    /// The four of [`Layout::AnyLength`].
    pub const ALL: [Self; 4] = [Self::V4, Self::V4_PORT, Self::V6, Self::V6_PORT];

    /// Its name in the kernel: where `list` is the name of the set that holds ipset's four, such as `LIST6p`; in
    /// nftables' table, such as `ipv6_64_ports`.
    pub fn name(self, list: &str) -> String {
        match (self.family, self.length) {
            (Family::V4, None) => format!("{list}4{}", if self.has_ports { "p" } else { "" }),
            (Family::V6, None) => format!("{list}6{}", if self.has_ports { "p" } else { "" }),
            (family, Some(length)) => {
                let family = if family == Family::V4 { "ipv4" } else { "ipv6" };
                format!("{family}_{length}{}", if self.has_ports { "_ports" } else { "" })
            }
        }
    }
}

/// How long the kernel keeps an element: 1 to 4,294,967,295 whole seconds (136 years), or forever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timeout(u32);

impl Timeout {
    /// Until it is taken out; ipset writes it 0.
    pub const FOREVER: Self = Self(0);

    /// The kernel's shortest.
    pub const SECOND: Self = Self(1);

    /// The longest that ipset counts, 24.8 days: 2^31 - 1 milliseconds (`IPSET_MAX_TIMEOUT` in
    /// `linux/netfilter/ipset/ip_set.h`). What lasts longer has to be renewed before that is over.
    pub const IPSET_LONGEST: Self = Self(i32::MAX as u32 / 1000);

    /// From `now` to `until`, in whole seconds, rounded up; `None` if that is over.
    pub fn until(until: Option<Timestamp>, now: Timestamp) -> Option<Self> {
        until.map_or(Some(Self::FOREVER), |until| {
            let left = until.since(now);
            (left > Span::ZERO).then(|| Self::from_secs(left.as_secs_ceil()))
        })
    }

    /// The seconds; 0 is forever.
    pub fn as_secs(self) -> u32 {
        self.0
    }

    /// Whether it is over so soon that nothing need be done about it: the kernel and we round differently.
    pub(super) fn is_nearly_over(self) -> bool {
        matches!(self.0, 1..=3)
    }

    /// Whether an element of ipset with `left` may be left alone where this is wanted. Listings are in whole seconds, and
    /// the kernel's clock and the host's drift apart: 2 s too short is near enough, and so is a thousandth too long.
    /// Of the longest, half may be over: then it is time to renew it.
    pub(super) fn is_about(self, left: Self) -> bool {
        match (self, left) {
            (Self::FOREVER, _) | (_, Self::FOREVER) => self == left,
            _ if self >= Self::IPSET_LONGEST => left.0 >= Self::IPSET_LONGEST.0 / 2,
            _ => left.0 + 2 >= self.0 && left.0 <= self.0 + 3 + self.0 / 1000,
        }
    }

    /// This many seconds, 0 is forever; more than the longest is the longest.
    pub(super) fn from_secs(secs: u64) -> Self {
        Self(u32::try_from(secs).unwrap_or(u32::MAX))
    }
}

/// Appends the changes that carry the decision out at `now`; none for a ban that is over by then.
///
/// It knows this one ban only. Where the offender has another on the same ports, the caller must see to it
/// that the longer one lasts, since the last change to an element holds.
pub fn render(decision: &Decision, now: Timestamp, changes: &mut Vec<Change>) {
    match decision {
        Decision::Ban(ban) => {
            if let Some(timeout) = Timeout::until(ban.until, now) {
                changes.extend(elements(ban).map(|element| Change::Add(element, timeout)));
            }
        }
        Decision::Unban(ban) => changes.extend(elements(ban).map(Change::Remove)),
    }
}

/// The elements that keep the offender of this ban out: one for all ports, or one a port.
///
/// A prefix of length 0, which no set can hold, becomes its two halves.
pub fn elements(ban: &Ban) -> impl Iterator<Item = Element> {
    let (first, second) = halves(ban.offender);
    let parts = 1 + usize::from(second.is_some());
    (0..parts * ban.ports.len().max(1)).map(move |nth| Element {
        offender: second.filter(|_| nth % parts == 1).unwrap_or(first),
        port: ban.ports.get(nth / parts).copied(),
    })
}

/// What is to be carried out where a ban is lifted and these others on its offender stay: they are said once more, and of the
/// lifted one only what none of them shuts is let go. So no packet gets through in between.
pub fn released<'b>(ban: &'b Ban, others: impl Iterator<Item = &'b Ban>) -> Vec<Decision> {
    let mut decisions = Vec::new();
    let (mut all, mut ports) = (ban.ports.is_empty(), ban.ports.to_vec());
    // The last change to an element holds.
    let mut others: Vec<&Ban> = others.collect();
    others.sort_by_key(|other| (other.until.is_none(), other.until));
    for other in others {
        all &= !other.ports.is_empty();
        ports.retain(|port| !other.ports.contains(port));
        decisions.push(Decision::Ban(other.clone()));
    }
    if decisions.is_empty() || all {
        decisions.push(Decision::Unban(ban.clone()));
    } else if !ports.is_empty() {
        decisions.push(Decision::Unban(ban.clone().with(|terms| terms.ports = ports.into())));
    }
    decisions
}

/// The offender as sets can hold it: in two parts, if its prefix has no bits.
fn halves(offender: Offender) -> (Offender, Option<Offender>) {
    if offender.prefix() > 0 {
        return (offender, None);
    }
    let upper: IpAddr = match offender.address() {
        IpAddr::V4(_) => Ipv4Addr::new(0x80, 0, 0, 0).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x8000, 0, 0, 0, 0, 0, 0, 0).into(),
    };
    (Offender::new(offender.address(), 1).unwrap_or(offender), Offender::new(upper, 1))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::detect::manual;
    use crate::model::{BanOrigin, BanTerms, Mode};

    /// Renders a ban of `offender` on `ports` until `until`, decided at second 1,000, and its end.
    #[track_caller]
    fn check(offender: &str, ports: &[Port], until: Option<i64>, want: &[&str]) {
        let ban = Ban {
            offender: offender.parse().unwrap(),
            times: 1,
            since: Timestamp::from_secs(1000),
            until: until.map(Timestamp::from_micros),
            terms: Arc::new(BanTerms {
                jail: "ssh".into(),
                kind: BanOrigin::Auto,
                mode: Mode::Enforce,
                ports: ports.into(),
                reason: "".into(),
            }),
        };
        let mut changes = Vec::new();
        render(&Decision::Ban(ban.clone()), Timestamp::from_secs(1000), &mut changes);
        let got: Vec<String> = changes
            .iter()
            .map(|change| match change {
                Change::Add(element, timeout) => {
                    format!("{} {element} {}", element.set(Layout::AnyLength).name("b"), timeout.as_secs())
                }
                Change::Remove(element) => format!("removes {element}"),
            })
            .collect();
        assert_eq!(got, want);

        let banned: Vec<Element> = elements(&ban).collect();
        changes.clear();
        render(&Decision::Unban(ban), Timestamp::from_secs(1000), &mut changes);
        assert!(changes.iter().copied().eq(banned.into_iter().map(Change::Remove)));
    }

    const SSH: Port = Port { protocol: Protocol::Tcp, number: 22 };
    const DNS: Port = Port { protocol: Protocol::Udp, number: 53 };

    #[test]
    fn a_ban_on_all_ports_is_one_element() {
        check("192.0.2.1", &[], Some(1_600_000_000), &["b4 192.0.2.1 600"]);
        check("192.0.2.0/24", &[], None, &["b4 192.0.2.0/24 0"]);
        check("2001:db8::/64", &[], None, &["b6 2001:db8::/64 0"]);
    }

    #[test]
    fn a_ban_on_some_ports_is_an_element_each() {
        check("192.0.2.1", &[SSH, DNS], None, &["b4p 192.0.2.1 22/tcp 0", "b4p 192.0.2.1 53/udp 0"]);
        check("2001:db8::/64", &[SSH], None, &["b6p 2001:db8::/64 22/tcp 0"]);
    }

    #[test]
    fn everybody_is_two_halves() {
        check("0.0.0.0/0", &[], None, &["b4 0.0.0.0/1 0", "b4 128.0.0.0/1 0"]);
        check("::/0", &[SSH], None, &["b6p ::/1 22/tcp 0", "b6p 8000::/1 22/tcp 0"]);
    }

    #[test]
    fn a_probe_is_one_element_of_each_set_and_lasts_a_second() {
        for set in Set::ALL {
            let probe = Element::probe(set).unwrap();
            assert_eq!(probe.set(Layout::AnyLength), set);
            let is = |element: Element, left| element.is_probe(Timeout(left));
            assert_eq!([1, 0, 2].map(|left| is(probe, left)), [true, false, false]);
            let port = probe.port.map(|port| Port { number: 10, ..port });
            assert!(port.is_none() || !is(Element { port, ..probe }, 1));
            let offender = Offender::new(probe.offender.address(), 24).unwrap();
            assert!(!is(Element { offender, ..probe }, 1));
        }
    }

    #[test]
    fn what_is_over_is_not_banned_and_what_is_nearly_over_is() {
        check("192.0.2.1", &[], Some(1_000_000_000), &[]);
        check("192.0.2.1", &[], Some(0), &[]);
        check("192.0.2.1", &[], Some(1_000_000_001), &["b4 192.0.2.1 1"]);
    }

    #[test]
    fn longer_than_the_kernel_counts_is_its_longest() {
        check("192.0.2.1", &[], Some((1000 + 4_294_967_295) * 1_000_000), &["b4 192.0.2.1 4294967295"]);
        check("192.0.2.1", &[], Some(i64::MAX), &["b4 192.0.2.1 4294967295"]);
    }

    #[test]
    fn each_length_has_a_set_of_its_own_where_the_layout_says_so() {
        let name = |offender: &str, port| {
            let element = Element { offender: offender.parse().unwrap(), port };
            element.set(Layout::ByLength).name("b")
        };
        assert_eq!(name("192.0.2.1", None), "ipv4_32");
        assert_eq!(name("192.0.2.0/24", Some(SSH)), "ipv4_24_ports");
        assert_eq!(name("2001:db8::/64", None), "ipv6_64");
        assert_eq!(name("2001:db8::1", Some(DNS)), "ipv6_128_ports");
    }

    /// What is done where a ban of these ports is lifted and others of these stay.
    #[track_caller]
    fn check_released(lifted: &[u16], others: &[&[u16]], want: &[&str]) {
        let ban = |ports: &[u16]| {
            let ports = ports.iter().map(|number| Port { protocol: Protocol::Tcp, number: *number });
            let ban = crate::detect::manual("192.0.2.1".parse().unwrap(), Timestamp::default(), None, "");
            ban.with(|terms| terms.ports = ports.collect())
        };
        let (lifted, others): (Ban, Vec<Ban>) =
            (ban(lifted), others.iter().map(|ports| ban(ports)).collect());
        let words = released(&lifted, others.iter()).into_iter().flat_map(|decision| {
            let sign = if matches!(decision, Decision::Ban(_)) { '+' } else { '-' };
            elements(decision.ban()).map(|element| format!("{sign}{element}")).collect::<Vec<_>>()
        });
        assert_eq!(words.collect::<Vec<_>>(), want);
    }

    #[test]
    fn what_another_ban_shuts_stays_shut() {
        check_released(&[], &[], &["-192.0.2.1"]);
        check_released(&[22], &[], &["-192.0.2.1 22/tcp"]);
        check_released(&[], &[&[]], &["+192.0.2.1"]);
        check_released(&[], &[&[22]], &["+192.0.2.1 22/tcp", "-192.0.2.1"]);
        check_released(&[22, 80], &[&[80]], &["+192.0.2.1 80/tcp", "-192.0.2.1 22/tcp"]);
        check_released(&[22], &[&[22, 80], &[]], &["+192.0.2.1 22/tcp", "+192.0.2.1 80/tcp", "+192.0.2.1"]);
        check_released(&[22], &[&[]], &["+192.0.2.1", "-192.0.2.1 22/tcp"]);
    }

    #[test]
    fn of_the_bans_that_stay_the_longest_is_said_last() {
        let offender = "192.0.2.1".parse().unwrap();
        let until =
            |end: Option<i64>| manual(offender, Timestamp::default(), end.map(Timestamp::from_secs), "");
        let (short, long, ever) = (until(Some(5)), until(Some(9)), until(None));
        for others in [[&ever, &long, &short], [&short, &ever, &long], [&long, &short, &ever]] {
            let said = released(&until(Some(7)), others.into_iter());
            let ends: Vec<_> = said.iter().map(|decision| decision.ban().until).collect();
            assert_eq!(ends, [short.until, long.until, None]);
        }
    }
}
