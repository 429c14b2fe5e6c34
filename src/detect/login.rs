//! Who logged in lately, and how much is forgiven them for it.
//!
//! It stands apart because it is the one protection that outsiders can earn: it is bounded in number, in time, and
//! in what it forgives, lest somebody with an account of their own go on guessing the passwords of others.
//!
//! It does not know whose log told of a login, and it reads no clock.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Offender, Span, Timestamp};

/// The logins of each offender.
#[derive(Debug)]
pub(super) struct Logins {
    lately: BTreeMap<Offender, Login>,
    /// The same by time: a search for the oldest among all would cost more than all else about a line.
    by_time: BTreeSet<(Timestamp, Offender)>,
    /// Those of whom something is new since that was last asked for.
    changed: BTreeSet<Offender>,
    limit: usize,
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

/// How many places people log in from; the one longest unused makes room. 128 bytes each.
pub const LOGINS: usize = 10_000;
/// The ban that is imposed all the same is the tenth that is earned within a day: then an account is worth at most
/// 10 x `maxretry` guesses a day, and whoever mistypes a password never comes near it.
const ENOUGH: u8 = 10;
const DAY: Span = Span::from_secs(24 * 60 * 60);

impl Default for Logins {
    fn default() -> Self {
        Self { lately: BTreeMap::new(), by_time: BTreeSet::new(), changed: BTreeSet::new(), limit: LOGINS }
    }
}

impl Logins {
    /// Somebody logged in. What they were forgiven stays counted.
    pub(super) fn note(&mut self, offender: Offender, at: Timestamp) {
        let known = self.lately.get(&offender).copied();
        let login = known.unwrap_or(Login { offender, at, forgiven: (0, at) });
        self.restore(Login { at: login.at.max(at), ..login });
        self.changed.insert(offender);
    }

    /// Puts back what was known before a restart.
    pub(super) fn restore(&mut self, login: Login) {
        if let Some(before) = self.lately.insert(login.offender, login) {
            self.by_time.remove(&(before.at, before.offender));
        } else if self.lately.len() > self.limit
            && let Some((_, oldest)) = self.by_time.pop_first()
        {
            self.lately.remove(&oldest);
            self.changed.remove(&oldest);
        }
        self.by_time.insert((login.at, login.offender));
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = Login> {
        self.lately.values().copied()
    }

    /// Those that have changed since this was last asked.
    pub(super) fn take_changed(&mut self) -> Vec<Login> {
        let changed = std::mem::take(&mut self.changed);
        changed.iter().filter_map(|offender| self.lately.get(offender).copied()).collect()
    }

    /// The last login from within `offender`, or from the prefix around it, if that is no longer ago than `span`.
    pub(super) fn last(&self, offender: Offender, at: Timestamp, span: Span) -> Option<Timestamp> {
        self.overlapping(offender).map(|(_, login)| login.at).filter(|last| recent(*last, at, span)).max()
    }

    /// As [`last`](Self::last), for a ban that was earned at `at`: it is withheld, unless too many were.
    pub(super) fn forgive(&mut self, offender: Offender, at: Timestamp, span: Span) -> Option<Timestamp> {
        let recent = |(_, login): &(Offender, Login)| recent(login.at, at, span);
        let (key, _) = self.overlapping(offender).filter(recent).max_by_key(|(_, login)| login.at)?;
        let login = self.lately.get_mut(&key)?;
        if at.since(login.forgiven.1) > DAY {
            login.forgiven = (0, at);
        }
        login.forgiven.0 = login.forgiven.0.saturating_add(1);
        self.changed.insert(key);
        (login.forgiven.0 < ENOUGH).then_some(login.at)
    }

    /// Members sort by address, so those inside come right after the offender, and one around it right before.
    fn overlapping(&self, offender: Offender) -> impl Iterator<Item = (Offender, Login)> {
        let around = self.lately.range(..offender).next_back().filter(move |(who, _)| who.contains(offender));
        let inside = self.lately.range(offender..).take_while(move |(who, _)| offender.contains(**who));
        around.into_iter().chain(inside).map(|(who, login)| (*who, *login))
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
        let mut table = Logins { limit: 2, ..Logins::default() };
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
    fn the_login_longest_ago_makes_room() {
        let three = [("192.0.2.1", 5), ("192.0.2.2", 4), ("192.0.2.3", 6)];
        check(&three, "192.0.2.2", 6, None);
        check(&three, "192.0.2.1", 6, Some(5));
    }

    #[test]
    fn the_tenth_ban_within_a_day_is_imposed() {
        let (mut table, who) = (Logins::default(), "192.0.2.1".parse().unwrap());
        let mut forgives = |at| {
            table.note(who, Timestamp::from_secs(at));
            table.forgive(who, Timestamp::from_secs(at), Span::from_secs(100)).is_some()
        };
        assert_eq!((0..10).filter(|at| forgives(*at)).count(), 9);
        assert!(!forgives(86_400));
        assert!(forgives(86_401));
    }
}
