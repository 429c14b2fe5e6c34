//! This host's own addresses, and the files of exempt addresses.
//!
//! It is a task of its own because it reads files and asks the system, which may take time that bans must not wait for.
//! It looks every few seconds, and reports changes.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use crate::config::load::AllowFiles;
use crate::detect::ExemptionList;
use crate::model::Offender;

/// How often to look.
const LOOK: Duration = Duration::from_secs(3);

/// This host's own addresses and its default gateways, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct HostAddresses(Vec<(Offender, ExemptionList)>);

impl HostAddresses {
    /// What they are now. Where something cannot be known, that is logged, and what was known of it before holds.
    pub(super) fn look(known: &Self) -> Self {
        known.renewed(own_addresses(), gateways())
    }

    fn renewed(&self, own: io::Result<Vec<Offender>>, gateways: io::Result<Vec<Offender>>) -> Self {
        let found = [(ExemptionList::Own, "addresses", own), (ExemptionList::Gateway, "gateways", gateways)];
        let found = found.into_iter().flat_map(|(list, what, found)| match found {
            Ok(found) => found.into_iter().map(|offender| (offender, list)).collect(),
            Err(error) => {
                log::warn!("cannot list this host's {what}, so the known ones stay exempt: {error}");
                self.0.iter().filter(|(_, kept)| *kept == list).copied().collect::<Vec<_>>()
            }
        });
        let mut all: Vec<_> = found.collect();
        all.sort_by_key(|(offender, _)| *offender);
        all.dedup();
        Self(all)
    }

    /// Who they are, and why they are not banned.
    pub(super) fn members(&self) -> &[(Offender, ExemptionList)] {
        &self.0
    }
}

/// Looks until nobody can name other files to look at, and tells what has changed.
pub(super) fn watch(
    mut known: HostAddresses,
    mut files: AllowFiles,
    tell: impl Fn(HostAddresses, AllowFiles),
    renewed: &Receiver<AllowFiles>,
) {
    loop {
        match renewed.recv_timeout(LOOK) {
            Ok(other) => files = other,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let (host, warnings) = (HostAddresses::look(&known), files.renew());
        warnings.iter().flatten().for_each(|warning| log::error!("{warning}"));
        if host != known || warnings.is_some() {
            known = host.clone();
            tell(host, files.clone());
        }
    }
}

fn own_addresses() -> io::Result<Vec<Offender>> {
    let address = |interface: nix::ifaddrs::InterfaceAddress| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| v4.ip().into());
        Some(Offender::single(v4.or_else(|| address.as_sockaddr_in6().map(|v6| v6.ip().into()))?))
    };
    Ok(nix::ifaddrs::getifaddrs()?.filter_map(address).collect())
}

fn gateways() -> io::Result<Vec<Offender>> {
    let read = |path: &str| match std::fs::read_to_string(path) {
        // There is no such file where the kernel was built without that family.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        read => read,
    };
    let (v4, v6) = (read("/proc/net/route")?, read("/proc/net/ipv6_route")?);
    Ok(gateways_v4(&v4).chain(gateways_v6(&v6)).map(Offender::single).collect())
}

/// The next hops of the default routes in `/proc/net/route` (proc(5)): interface, destination, gateway, flags, three
/// numbers, mask. Addresses are hexadecimal numbers in the byte order of the machine.
fn gateways_v4(routes: &str) -> impl Iterator<Item = IpAddr> {
    routes.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (destination, gateway, mask) = (fields.next()?, fields.next()?, fields.nth(4)?);
        let bits = u32::from_str_radix(gateway, 16).ok().filter(|bits| *bits != 0)?;
        let default = [destination, mask].iter().all(|field| u32::from_str_radix(field, 16) == Ok(0));
        default.then(|| Ipv4Addr::from(bits.to_ne_bytes()).into())
    })
}

/// The same in `/proc/net/ipv6_route`: destination and its length, source and its length, next hop. Addresses are
/// hexadecimal numbers as people read them.
fn gateways_v6(routes: &str) -> impl Iterator<Item = IpAddr> {
    routes.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        let (destination, length, gateway) = (fields.next()?, fields.next()?, fields.nth(2)?);
        let bits = u128::from_str_radix(gateway, 16).ok().filter(|bits| *bits != 0)?;
        let default = length == "00" && u128::from_str_radix(destination, 16) == Ok(0);
        default.then(|| Ipv6Addr::from_bits(bits).into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(found: impl Iterator<Item = IpAddr>, want: &[&str]) {
        assert_eq!(found.map(|address| address.to_string()).collect::<Vec<_>>(), want);
    }

    #[test]
    fn what_cannot_be_listed_stays_as_it_was() {
        let one = |text: &str| vec![text.parse().unwrap()];
        let full = || Err(io::Error::from(nix::errno::Errno::EMFILE));
        let shown = |host: &HostAddresses| {
            let members = host.members().iter();
            members.map(|(who, list)| format!("{who} {list:?}")).collect::<Vec<_>>()
        };
        let known = HostAddresses::default().renewed(Ok(one("192.0.2.1")), Ok(one("192.0.2.254")));
        assert_eq!(shown(&known.renewed(full(), full())), ["192.0.2.1 Own", "192.0.2.254 Gateway"]);
        let moved = known.renewed(full(), Ok(one("192.0.2.7")));
        assert_eq!(shown(&moved), ["192.0.2.1 Own", "192.0.2.7 Gateway"]);
        assert_eq!(shown(&moved.renewed(Ok(Vec::new()), full())), ["192.0.2.7 Gateway"]);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn a_gateway_is_where_a_default_route_leads() {
        let routes = "\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0102A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
eth1\t00000000\tFE02000A\t0003\t0\t0\t200\t00000000\t0\t0\t0
eth0\t0002A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0
eth0\t0000A8C0\t0902A8C0\t0003\t0\t0\t100\t0000FFFF\t0\t0\t0
tun0\t00000000\t00000000\t0001\t0\t0\t300\t00000000\t0\t0\t0";
        check(gateways_v4(routes), &["192.168.2.1", "10.0.2.254"]);
    }

    #[test]
    fn a_gateway_of_ipv6_is_where_a_default_route_leads() {
        let zero = "00000000000000000000000000000000";
        let rest = "00000400 00000001 00000000 00000003     eth0";
        let routes = format!(
            "{zero} 00 {zero} 00 fe800000000000000000000000000001 {rest}\n\
             20010db8000000000000000000000000 40 {zero} 00 {zero} {rest}\n\
             20010db8000000010000000000000000 40 {zero} 00 fe800000000000000000000000000002 {rest}\n\
             {zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200       lo"
        );
        check(gateways_v6(&routes), &["fe80::1"]);
    }
}
