//! What is known of an offender's earlier bans, by jail: it decides how long the next one lasts. Each `decay` of quiet
//! since the last one ended removes one from the count.

use std::hash::BuildHasher;

use super::{Detector, Growth, curve};
use crate::model::{Ban, Offender, Span, Timestamp};

/// What is remembered of an offender's bans in one jail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PriorBans {
    /// How many.
    pub(super) bans: u32,
    /// When the last one ended or will end.
    pub(super) ended: Timestamp,
}

impl PriorBans {
    /// With this one as the last.
    pub(super) fn of(ban: &Ban) -> Self {
        Self { bans: ban.times, ended: ban.until.unwrap_or(ban.since) }
    }

    /// As much as both say.
    pub(super) fn and(self, other: Self) -> Self {
        Self { bans: self.bans.max(other.bans), ended: self.ended.max(other.ended) }
    }

    /// How many earlier bans still count at `now`.
    pub(super) fn remembered(self, growth: &Growth, now: Timestamp) -> u32 {
        let quiet =
            now.since(self.ended).as_micros().checked_div(growth.decay.as_micros()).unwrap_or(u64::MAX);
        self.bans.saturating_sub(u32::try_from(quiet).unwrap_or(u32::MAX))
    }
}

impl Detector {
    /// How often a jail has banned an offender, the ban in force included, and until when.
    pub(super) fn prior(&self, offender: Offender, jail: &str) -> PriorBans {
        let in_force = self.bans.of(offender, jail).map(PriorBans::of).unwrap_or_default();
        let past = self.past.slot(&self.key(offender, jail));
        past.map_or(in_force, |(_, past)| in_force.and(*past))
    }

    /// A ban that is not in force any more counts for how long the next one lasts.
    pub(super) fn remember(&mut self, ban: &Ban) -> &mut PriorBans {
        let key = self.key(ban.offender, &ban.jail);
        let past = self.past.touch(key).1;
        *past = past.and(PriorBans::of(ban));
        past
    }

    /// How many bans an offender has now had from a jail, and until when the one from `at` on lasts.
    pub(super) fn next_ban(
        &mut self,
        offender: Offender,
        jail: &str,
        first: Option<Span>,
        at: Timestamp,
    ) -> (u32, Option<Timestamp>) {
        let growth = self.settings.growth;
        let times = self.prior(offender, jail).remembered(&growth, at).saturating_add(1);
        let key = self.key(offender, jail);
        // What is counted still is so in this one.
        self.past.remove(&key);
        // A roll that an attacker cannot foresee, since the hasher is seeded at random, and needs no dice.
        let roll = f64::from(self.hasher.hash_one((key, at)) as u32) / f64::from(u32::MAX);
        (times, first.map(|time| at + curve::length(time, &growth, times, roll)))
    }

    /// Where the past of an offender in a jail is filed. Half a hash, since there may be a million of them and few jails.
    pub(super) fn key(&self, offender: Offender, jail: &str) -> (Offender, u32) {
        (offender, self.hasher.hash_one(jail) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_time_brings_it_down() {
        let growth =
            Growth { factor: 2.0, cap: Span::from_secs(500), decay: Span::from_secs(1000), jitter: 0.5 };
        let past = PriorBans { bans: 3, ended: Timestamp::from_secs(10_000) };
        for (now, want) in [(9_000, 3), (10_999, 3), (11_000, 2), (12_500, 1), (99_999, 0)] {
            assert_eq!(past.remembered(&growth, Timestamp::from_secs(now)), want);
        }
    }
}
