//! Finds one client that makes nearly all requests: probably a proxy, whose clients are not in the packets.
//!
//! It keeps one address (the vote of Boyer and Moore); the lead is a lower bound of the majority.

use std::net::IpAddr;

/// Requests below which nothing is said.
const ENOUGH: u64 = 500;

/// Of these at least so many were looked at.
const LOOKED_AT: u64 = 8;

/// The requests of one grammar, and who made most of those that were looked at.
#[derive(Clone, Debug, Default)]
pub(super) struct Majority {
    pub(super) requests: u64,
    looked_at: u64,
    lead: u64,
    client: Option<IpAddr>,
}

impl Majority {
    /// Takes the vote of one request.
    pub(super) fn vote(&mut self, client: IpAddr) {
        self.looked_at += 1;
        if self.client == Some(client) {
            self.lead += 1;
        } else if self.lead == 0 {
            (self.client, self.lead) = (Some(client), 1);
        } else {
            self.lead -= 1;
        }
    }

    /// The client that made nearly all requests: one with 95 in 100 is reported, one with fewer than 90 is not.
    pub(super) fn client(&self) -> Option<IpAddr> {
        // Who has the share s leads by 2s - 1 at least, and by s at most.
        let nearly_all = self.lead * 10 >= self.looked_at * 9;
        self.client.filter(|_| nearly_all && self.looked_at >= LOOKED_AT && self.requests >= ENOUGH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who is said to make nearly all of 1000 requests, of which these few in 100 are others'.
    #[track_caller]
    fn check(others: u8, want: bool) {
        let mut majority = Majority { requests: 1000, ..Majority::default() };
        for n in 0..100 {
            let client = if n % 100 < others { [192, 0, 2, n] } else { [10, 0, 0, 5] };
            majority.vote(client.into());
        }
        assert_eq!(majority.client(), want.then(|| [10, 0, 0, 5].into()), "{others}");
        majority.requests = ENOUGH - 1;
        assert_eq!(majority.client(), None);
    }

    #[test]
    fn nearly_all_is_95_in_100_and_never_below_90() {
        check(0, true);
        check(5, true);
        check(11, false);
        check(60, false);
    }
}
