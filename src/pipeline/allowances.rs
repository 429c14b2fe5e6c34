//! Whom an operator has said not to ban, until when, and why.
//!
//! They stand apart from `ignoreip` because they come by command and may end by themselves; where nobody is banned,
//! the detector makes no difference between the two.
//!
//! It is the hub's, and knows neither files nor the kernel.

use std::collections::BTreeMap;

use super::hub::Hub;
use super::now;
use crate::control::{AllowLine, Reply};
use crate::detect::List;
use crate::ledger::Page;
use crate::model::{Allowance, Kind, Offender, Span, Timestamp};

/// Those that hold, by whom they protect.
#[derive(Default)]
pub(super) struct Allowances(BTreeMap<Offender, Allowance>);

impl Allowances {
    /// Those that the ledger remembers.
    pub(super) fn new(remembered: Vec<Allowance>) -> Self {
        Self(remembered.into_iter().map(|allowance| (allowance.offender, allowance)).collect())
    }

    /// Whom they protect.
    pub(super) fn members(&self) -> impl Iterator<Item = (Offender, List)> {
        self.0.keys().map(|offender| (*offender, List::Allowed))
    }

    /// All, for the ledger.
    pub(super) fn all(&self) -> Vec<(Offender, Option<Allowance>)> {
        self.0.iter().map(|(offender, allowance)| (*offender, Some(allowance.clone()))).collect()
    }

    /// Dates all earlier by this much.
    pub(super) fn shift_back(&mut self, by: Span) {
        self.0.values_mut().for_each(|allowance| allowance.shift_back(by));
    }

    /// Takes out those that are over.
    fn end(&mut self, now: Timestamp) -> Vec<Offender> {
        let over = |allowance: &&Allowance| allowance.until.is_some_and(|until| until <= now);
        let ended: Vec<_> = self.0.values().filter(over).map(|allowance| allowance.offender).collect();
        ended.iter().for_each(|offender| _ = self.0.remove(offender));
        ended
    }
}

impl Hub {
    /// Those that hold, for a listing.
    pub(super) fn allowances(&self) -> Reply {
        let now = now();
        Reply::Allowances(
            self.allowances.0.values().map(|allowance| AllowLine::new(allowance, now)).collect(),
        )
    }

    /// Protects an address or a prefix, and lifts the bans on it, those by hand included. What is said last holds.
    pub(super) fn allow(&mut self, offender: Offender, span: Option<Span>, comment: &str) -> Reply {
        let around = |wide: Offender| wide != offender && wide.contains(offender);
        let mut manual = self.engine.detector().bans().filter(|ban| ban.kind == Kind::Manual);
        if let Some(ban) = manual.find(|ban| around(ban.offender)) {
            let wide = ban.offender;
            return Reply::Refused {
                error: format!("{offender} is banned as part of {wide}; unban that first"),
            };
        }
        drop(manual);
        let since = now();
        let until = span.map(|span| since + span);
        let allowance = Allowance { offender, since, until, comment: comment.into() };
        log::info!(address:% = offender; "{offender} is allowed {}", allowance.until_when());
        self.write_allowance(offender, Some(allowance.clone()));
        self.allowances.0.insert(offender, allowance);
        let inside = self.engine.detector().unban(offender);
        let lifted = inside.len() as u64;
        self.decided(inside);
        Reply::Done { changed: lifted + self.settle() }
    }

    /// Protects an address or a prefix no longer.
    pub(super) fn disallow(&mut self, offender: Offender) -> Reply {
        let known = self.allowances.0.remove(&offender).is_some();
        if known {
            log::info!(address:% = offender; "{offender} is no longer allowed");
            self.write_allowance(offender, None);
            self.settle();
        }
        Reply::Done { changed: known.into() }
    }

    fn write_allowance(&mut self, offender: Offender, allowance: Option<Allowance>) {
        self.write(Page { allowances: vec![(offender, allowance)], ..Page::default() }, None);
    }

    /// Ends those whose time is over.
    pub(super) fn end_allowances(&mut self) {
        let ended = self.allowances.end(now());
        if ended.is_empty() {
            return;
        }
        for offender in ended {
            log::info!(address:% = offender; "{offender} is no longer allowed: its time is over");
            self.write_allowance(offender, None);
        }
        self.settle();
    }
}
