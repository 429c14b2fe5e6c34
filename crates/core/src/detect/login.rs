//! Recent logins, and how many bans they prevent.
//!
//! This is the one exemption that outsiders can earn. It is bounded in number, in time and in the bans that it
//! prevents; otherwise an attacker with an account could guess the passwords of others forever.

use std::collections::BTreeSet;

use super::recent::Recent;
use crate::model::{Offender, Span, Timestamp};

/// The logins of each offender.
#[derive(Debug)]
pub(super) struct Logins {
    /// In the order in which something was new about them.
    lately: Recent<Offender, RecentLogin>,
    /// Families (whether it is IPv6) and lengths of the prefixes in it, past ones included.
    lengths: BTreeSet<(bool, u8)>,
    /// How often it was asked what has changed, and once more.
    asked: u64,
}

/// What is known of the logins of an offender, in few bytes: each login changes it.
#[derive(Clone, Copy, Debug, Default)]
struct RecentLogin {
    at: Timestamp,
    forgiven: (u8, Timestamp),
    /// What `asked` was when this changed last; 0 for what is known from before a restart.
    changed: u64,
    /// Whether it is filled in.
    is_known: bool,
}

impl RecentLogin {
    fn of(self, offender: Offender) -> Option<Login> {
        self.is_known.then_some(Login { offender, at: self.at, forgiven: self.forgiven })
    }
}

/// The logins from one place, and what was forgiven for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Login {
    /// Where from.
    pub offender: Offender,
    /// The last.
    pub at: Timestamp,
    /// Bans that were earned and withheld, and since when these are counted.
    pub forgiven: (u8, Timestamp),
}

/// How many places people log in from; the one longest unused makes room. 72 bytes each.
pub const LOGINS: usize = 10_000;
/// The ban that is imposed all the same is the tenth that is earned within a day: then an account is worth at most
/// 10 x `maxretry` guesses a day, and an honest user with a mistyped password does not come near it.
const ENOUGH: u8 = 10;
const DAY: Span = Span::from_secs(24 * 60 * 60);

impl Logins {
    /// Of at most this many offenders.
    pub(super) fn new(limit: usize) -> Self {
        Self { lately: Recent::new(limit), lengths: BTreeSet::new(), asked: 1 }
    }

    /// Somebody logged in. What they were forgiven stays counted. Constant time.
    pub(super) fn note(&mut self, offender: Offender, at: Timestamp) {
        let (_, noted, _) = self.lately.touch(offender);
        if noted.is_known {
            (noted.at, noted.changed) = (noted.at.max(at), self.asked);
        } else {
            self.put(Login { offender, at, forgiven: (0, at) }, self.asked);
        }
    }

    /// Puts back what was known before a restart.
    pub(super) fn restore(&mut self, login: Login) {
        self.put(login, 0);
    }

    /// Dates all logins earlier by this much.
    pub(super) fn shift_back(&mut self, by: Span) {
        for noted in self.lately.values_mut() {
            (noted.at, noted.forgiven.1) = (noted.at - by, noted.forgiven.1 - by);
        }
    }

    fn put(&mut self, login: Login, changed: u64) {
        let Login { offender, at, forgiven } = login;
        let (_, noted, _) = self.lately.touch(offender);
        if !noted.is_known {
            self.lengths.insert((offender.address().is_ipv6(), offender.prefix()));
        }
        *noted = RecentLogin { at, forgiven, changed, is_known: true };
    }

    fn get(&self, offender: Offender) -> Option<Login> {
        self.lately.slot(&offender).and_then(|(_, noted)| noted.of(offender))
    }

    /// All of them, changed ones first.
    pub(super) fn iter(&self) -> impl Iterator<Item = Login> {
        self.lately.newest_first().filter_map(|(offender, noted)| noted.of(*offender))
    }

    /// Those that have changed since this was last asked. Takes time for these only.
    pub(super) fn take_changed(&mut self) -> Vec<Login> {
        let changed = self.lately.newest_first().take_while(|(_, noted)| noted.changed == self.asked);
        let changed = changed.filter_map(|(offender, noted)| noted.of(*offender)).collect();
        self.asked += 1;
        changed
    }

    /// The last login from within `offender`, or from the prefix around it, if that is no longer ago than `span`.
    pub(super) fn last(&self, offender: Offender, at: Timestamp, span: Span) -> Option<Timestamp> {
        self.within(offender, at, span).map(|login| login.at).max()
    }

    /// Where somebody logged in from lately within `wide`, or the prefix around it.
    pub(super) fn within(&self, wide: Offender, at: Timestamp, span: Span) -> impl Iterator<Item = Login> {
        self.overlapping(wide).filter(move |login| recent(login.at, at, span))
    }

    /// As [`last`](Self::last), for a ban that was earned at `at`: it is withheld, unless too many were.
    pub(super) fn forgive(&mut self, offender: Offender, at: Timestamp, span: Span) -> Option<Timestamp> {
        let recent = |login: &Login| recent(login.at, at, span);
        let mut login = self.overlapping(offender).filter(recent).max_by_key(|login| login.at)?;
        if at.since(login.forgiven.1) > DAY {
            login.forgiven = (0, at);
        }
        login.forgiven.0 = login.forgiven.0.saturating_add(1);
        self.put(login, self.asked);
        (login.forgiven.0 < ENOUGH).then_some(login.at)
    }

    /// Constant time, unless prefixes of several lengths are asked about or known: then all are looked through, which
    /// takes some 20 us.
    fn overlapping(&self, offender: Offender) -> impl Iterator<Item = Login> {
        let family = offender.address().is_ipv6();
        let mut lengths = self.lengths.range((family, 0)..=(family, u8::MAX));
        let alike = lengths.all(|(_, length)| *length == offender.prefix());
        let (one, all) = match alike {
            true => (self.get(offender), None),
            false => (None, Some(self.iter())),
        };
        let overlaps =
            move |login: &Login| login.offender.contains(offender) || offender.contains(login.offender);
        one.into_iter().chain(all.into_iter().flatten().filter(overlaps))
    }
}

fn recent(last: Timestamp, at: Timestamp, span: Span) -> bool {
    span > Span::ZERO && at.since(last) <= span
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether somebody who logged in from these at these seconds is protected at a second, for 100 s.
    #[track_caller]
    fn check(logins: &[(&str, i64)], offender: &str, at: i64, want: Option<i64>) {
        let mut table = Logins::new(2);
        logins.iter().for_each(|(who, at)| table.note(who.parse().unwrap(), Timestamp::from_secs(*at)));
        let last = table.last(offender.parse().unwrap(), Timestamp::from_secs(at), Span::from_secs(100));
        assert_eq!(last.map(Timestamp::as_secs), want);
    }

    #[test]
    fn a_login_protects_for_a_while() {
        check(&[("192.0.2.1", 5)], "192.0.2.1", 105, Some(5));
        check(&[("192.0.2.1", 5)], "192.0.2.1", 106, None);
        check(&[("192.0.2.1", 5), ("192.0.2.1", 3)], "192.0.2.1", 105, Some(5));
        check(&[("192.0.2.1", 5)], "192.0.2.2", 6, None);
    }

    #[test]
    fn a_prefix_is_protected_by_each_login_in_it() {
        check(&[("192.0.2.1", 5), ("192.0.2.9", 7)], "192.0.2.0/24", 105, Some(7));
        check(&[("192.0.3.1", 5)], "192.0.2.0/24", 6, None);
        check(&[("2001:db8::/64", 5)], "2001:db8::/56", 6, Some(5));
        check(&[("2001:db8::/64", 5)], "2001:db8::1", 6, Some(5));
    }

    #[test]
    fn the_login_longest_unused_makes_room() {
        let three = [("192.0.2.1", 4), ("192.0.2.2", 5), ("192.0.2.1", 6), ("192.0.2.3", 7)];
        check(&three, "192.0.2.2", 7, None);
        check(&three, "192.0.2.1", 7, Some(6));
    }

    #[test]
    fn what_has_changed_is_told_once() {
        let (mut table, [a, b, c]) =
            (Logins::new(9), ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(|a| a.parse().unwrap()));
        let at = Timestamp::from_secs;
        let changed = |table: &mut Logins| -> Vec<Offender> {
            table.take_changed().iter().map(|login| login.offender).collect()
        };
        table.restore(Login { offender: a, at: at(1), forgiven: (0, at(1)) });
        table.note(b, at(2));
        table.note(c, at(3));
        table.note(b, at(4));
        assert_eq!(changed(&mut table), [b, c]);
        assert_eq!(changed(&mut table), []);
        table.forgive(a, at(5), Span::from_secs(100));
        assert_eq!(changed(&mut table), [a]);
    }

    #[test]
    fn the_tenth_ban_within_a_day_is_imposed() {
        let (mut table, who) = (Logins::new(LOGINS), "192.0.2.1".parse().unwrap());
        let mut forgives = |at| {
            table.note(who, Timestamp::from_secs(at));
            table.forgive(who, Timestamp::from_secs(at), Span::from_secs(100)).is_some()
        };
        assert_eq!((0..10).filter(|at| forgives(*at)).count(), 9);
        assert!(!forgives(86_400));
        assert!(forgives(86_401));
    }
}
