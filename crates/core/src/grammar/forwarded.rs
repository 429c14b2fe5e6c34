//! The client that a proxy names: the address in `X-Forwarded-For` and similar headers.
//!
//! Only here an address comes out of text that a client may have typed. Each proxy appends the address that it saw, so
//! only the right end of the header counts, as far as the proxies are trusted.

use std::net::IpAddr;

use super::matcher;
use crate::model::Prefixes;

/// The rightmost address that is not a trusted proxy's; `None` if other text comes first, or there is no other
/// address.
///
/// Linear in the header; does not allocate.
pub(super) fn client(header: &[u8], trusted: &Prefixes<()>) -> Option<IpAddr> {
    for element in header.rsplit(|byte| *byte == b',') {
        let address = address(element.trim_ascii())?;
        if !trusted.contains(address) {
            return Some(address);
        }
    }
    None
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:80`.
fn address(element: &[u8]) -> Option<IpAddr> {
    let (host, port) = match element.strip_prefix(b"[") {
        Some(inside) => {
            let close = memchr::memchr(b']', inside)?;
            (inside.get(..close)?, inside.get(close + 1..)?)
        }
        None => match (memchr::memchr(b':', element), memchr::memrchr(b':', element)) {
            (Some(first), Some(last)) if first == last => element.split_at(first),
            _ => (element, &[][..]),
        },
    };
    let is_port = match port.split_first() {
        None => true,
        Some((colon, digits)) => {
            *colon == b':' && !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
        }
    };
    matcher::address(host).filter(|_| is_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The client that this header names, where 10.0.0.0/8 and 2001:db8:a::/48 are trusted.
    #[track_caller]
    fn check(header: &str, want: &str) {
        let trusted =
            Prefixes::new(["10.0.0.0/8", "2001:db8:a::/48"].map(|text| (text.parse().unwrap(), ())));
        let found = client(header.as_bytes(), &trusted);
        assert_eq!(found.map_or("-".to_owned(), |address| address.to_string()), want);
    }

    #[test]
    fn the_rightmost_address_that_is_no_proxy_counts() {
        check("192.0.2.1", "192.0.2.1");
        check("203.0.113.9, 192.0.2.1", "192.0.2.1");
        check("203.0.113.9,192.0.2.1,10.0.0.1, 2001:db8:a::5", "192.0.2.1");
        check("10.0.0.1", "-");
    }

    #[test]
    fn what_is_no_address_ends_the_search() {
        for header in
            ["", "-", "unknown", "203.0.113.9, ", "203.0.113.9, x, 10.0.0.1", "203.0.113.9 10.0.0.1", "_x"]
        {
            check(header, "-");
        }
        check("x, 192.0.2.1", "192.0.2.1");
        for header in
            ["192.0.2.1:", "192.0.2.1:x", "[192.0.2.1", "192.0.2.1]", "[2001:db8::1]80", "\"192.0.2.1\""]
        {
            check(header, "-");
        }
    }

    #[test]
    fn addresses_are_written_in_many_ways() {
        check("192.0.2.1:80", "192.0.2.1");
        check("::ffff:192.0.2.1", "192.0.2.1");
        check("::ffff:192.0.2.1, ::ffff:10.0.0.1", "192.0.2.1");
        check("[2001:db8::1]:443", "2001:db8::1");
        check("[2001:db8::1], 10.0.0.1:4711", "2001:db8::1");
        check("2001:db8::1", "2001:db8::1");
    }
}
