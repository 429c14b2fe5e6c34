//! The length of a ban: longer each time.
//!
//! The n-th ban lasts `ban_time * factor^(n-1)`, at most `cap`. Jitter lengthens a ban by up to that fraction of it, so that
//! an attacker cannot wait for its exact end. The caller passes the random number.

use std::fmt;

use crate::model::Span;

use super::Growth;

/// How the length of a ban comes about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BanDuration {
    /// How long the first lasts; forever if `None`.
    pub first: Option<Span>,
    /// How they grow.
    pub growth: Growth,
    /// Which it is, from 1.
    pub times: u32,
}

impl fmt::Display for BanDuration {
    /// For people: `1h`, `1h x 2^1 = 2h`, `1h x 2^12, at most 28d`, with what jitter may add.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.first else { return f.write_str("forever") };
        let Growth { factor, jitter, .. } = self.growth;
        let grown = length(first, &self.growth, self.times, 0.0);
        let exponent = self.times.saturating_sub(1);
        write!(f, "{first}")?;
        if exponent > 0 && factor > 1.0 {
            let unbounded = first.as_micros() as f64 * factor.powf(f64::from(exponent));
            let sign = if unbounded > grown.as_micros() as f64 + 1.0 { ", at most" } else { " =" };
            write!(f, " x {factor}^{exponent}{sign} {grown}")?;
        }
        if jitter > 0.0 { write!(f, ", and up to {:.0} % more", jitter * 100.0) } else { Ok(()) }
    }
}

/// How long the n-th ban lasts (n from 1); `roll` is from 0 to 1.
pub(super) fn length(ban_time: Span, growth: &Growth, n: u32, roll: f64) -> Span {
    let base = ban_time.as_micros() as f64;
    // The cap bounds growth, not a ban time that is longer from the start.
    let cap = base.max(growth.cap.as_micros() as f64);
    let grown = (base * growth.factor.powf(f64::from(n.saturating_sub(1)))).min(cap);
    // A float becomes the nearest whole number that there is, so this cannot overflow.
    Span::from_micros((grown * (1.0 + growth.jitter * roll)) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROWTH: Growth =
        Growth { factor: 2.0, cap: Span::from_secs(500), decay: Span::from_secs(1000), jitter: 0.5 };

    #[track_caller]
    fn check(n: u32, roll: f64, want: u64) {
        assert_eq!(length(Span::from_secs(100), &GROWTH, n, roll), Span::from_secs(want));
    }

    #[test]
    fn doubles_up_to_the_cap() {
        check(1, 0.0, 100);
        check(2, 0.0, 200);
        check(3, 0.0, 400);
        check(4, 0.0, 500);
        check(u32::MAX, 0.0, 500);
        check(2, 0.5, 250);
    }

    #[test]
    fn a_length_is_shown_as_it_came_about() {
        let shown = |times, jitter| {
            let growth = Growth { jitter, ..GROWTH };
            BanDuration { first: Some(Span::from_secs(100)), growth, times }.to_string()
        };
        assert_eq!(shown(1, 0.0), "1m 40s");
        assert_eq!(shown(3, 0.0), "1m 40s x 2^2 = 6m 40s");
        assert_eq!(shown(4, 0.0), "1m 40s x 2^3, at most 8m 20s");
        assert_eq!(shown(2, 0.5), "1m 40s x 2^1 = 3m 20s, and up to 50 % more");
        assert_eq!(BanDuration { first: None, growth: GROWTH, times: 7 }.to_string(), "forever");
    }
}
