//! Counts the banned offenders of one prefix within a time. A client that rents a whole /24 is stopped once enough of
//! it is banned.

use std::num::NonZeroU8;

use crate::model::{Offender, Span, Timestamp, Widths};

use super::recent::Recent;

/// When a whole prefix is banned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Widen {
    /// The prefixes that are banned; each shorter than what one offender is.
    pub widths: Widths,
    /// How many offenders inside have to be banned.
    pub offenders: NonZeroU8,
    /// Within how long.
    pub within: Span,
}

/// Who was banned lately, by prefix. For each as many as have to be, so that neither can grow.
#[derive(Debug)]
pub(super) struct PrefixCounts(Recent<Offender, Vec<(Offender, Timestamp)>>);

impl PrefixCounts {
    /// Of at most so many prefixes.
    pub(super) fn new(limit: usize) -> Self {
        Self(Recent::new(limit))
    }

    pub(super) fn set_limit(&mut self, limit: usize) {
        self.0.set_limit(limit);
    }

    /// Dates all bans earlier by this much.
    pub(super) fn shift_back(&mut self, by: Span) {
        self.0.values_mut().flatten().for_each(|(_, since)| *since = *since - by);
    }

    /// An offender in `wide` was banned at `at`. If enough were, returns all of them and restarts the count.
    pub(super) fn count(
        &mut self,
        wide: Offender,
        offender: Offender,
        at: Timestamp,
        rule: &Widen,
    ) -> Option<Vec<Offender>> {
        if wide == offender || !wide.contains(offender) {
            return None;
        }
        let (_, banned, _) = self.0.touch(wide);
        banned.retain(|(known, since)| *known != offender && at.since(*since) <= rule.within);
        banned.push((offender, at));
        (banned.len() >= usize::from(rule.offenders.get()))
            .then(|| std::mem::take(banned).into_iter().map(|(offender, _)| offender).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of these bans, at these seconds, make three of a /24 within 10 s.
    #[track_caller]
    fn check(bans: &[(&str, i64)], want: &[usize]) {
        let widths = Widths { v4: 24, v6: 48 };
        let rule = Widen { widths, offenders: NonZeroU8::new(3).unwrap(), within: Span::from_secs(10) };
        let mut neighbours = PrefixCounts::new(9);
        let mut enough = |(who, at): &(&str, i64)| {
            let who: Offender = who.parse().unwrap();
            let wide = Offender::behind(who.address(), widths);
            neighbours.count(wide, who, Timestamp::from_secs(*at), &rule).is_some()
        };
        let got: Vec<usize> = (0..).zip(bans).filter(|(_, ban)| enough(ban)).map(|(nth, _)| nth).collect();
        assert_eq!(got, want);
    }

    #[test]
    fn three_of_one_prefix_are_enough() {
        check(&[("192.0.2.1", 1), ("192.0.2.2", 2), ("192.0.3.3", 3), ("192.0.2.4", 11)], &[3]);
        check(&[("2001:db8::/64", 1), ("2001:db8:0:1::/64", 1), ("2001:db8:0:2::/64", 1)], &[2]);
        check(&[("192.0.2.1", 1), ("192.0.2.2", 2), ("192.0.2.4", 12)], &[]);
    }

    #[test]
    fn one_offender_counts_once() {
        check(&[("192.0.2.1", 1), ("192.0.2.1", 2), ("192.0.2.1", 3), ("192.0.2.2", 4)], &[]);
    }

    #[test]
    fn what_is_as_wide_already_does_not_count() {
        check(&[("192.0.2.0/24", 1), ("192.0.2.0/23", 1), ("192.0.0.0/16", 1)], &[]);
    }
}
