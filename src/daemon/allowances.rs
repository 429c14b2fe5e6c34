//! Exemptions by command, with end and comment. For the detector they are like `ignoreip`.

use std::collections::BTreeMap;

use crate::control::AllowLine;
use crate::detect::ExemptionList;
use crate::model::{Allowance, Offender, Span, Timestamp};

/// Those in force, by exempt offender.
#[derive(Default)]
pub(super) struct Allowances(BTreeMap<Offender, Allowance>);

impl Allowances {
    /// Those that the ledger remembers.
    pub(super) fn new(remembered: Vec<Allowance>) -> Self {
        Self(remembered.into_iter().map(|allowance| (allowance.offender, allowance)).collect())
    }

    /// The exempt offenders.
    pub(super) fn members(&self) -> impl Iterator<Item = (Offender, ExemptionList)> {
        self.0.keys().map(|offender| (*offender, ExemptionList::Allowed))
    }

    /// All, for the ledger.
    pub(super) fn all(&self) -> Vec<(Offender, Option<Allowance>)> {
        self.0.iter().map(|(offender, allowance)| (*offender, Some(allowance.clone()))).collect()
    }

    /// All, for a listing.
    pub(super) fn lines(&self, now: Timestamp) -> Vec<AllowLine> {
        self.0.values().map(|allowance| AllowLine::new(allowance, now)).collect()
    }

    /// Protects an address or a prefix.
    pub(super) fn insert(&mut self, allowance: Allowance) {
        self.0.insert(allowance.offender, allowance);
    }

    /// That of exactly this address or prefix.
    pub(super) fn get(&self, offender: Offender) -> Option<&Allowance> {
        self.0.get(&offender)
    }

    /// Protects an address or a prefix no longer; how it was protected.
    pub(super) fn remove(&mut self, offender: Offender) -> Option<Allowance> {
        self.0.remove(&offender)
    }

    /// Dates all earlier by this much.
    pub(super) fn shift_back(&mut self, by: Span) {
        self.0.values_mut().for_each(|allowance| allowance.shift_back(by));
    }

    /// Takes out those that are over.
    pub(super) fn end(&mut self, now: Timestamp) -> Vec<Offender> {
        let over = |allowance: &&Allowance| allowance.until.is_some_and(|until| until <= now);
        let ended: Vec<_> = self.0.values().filter(over).map(|allowance| allowance.offender).collect();
        ended.iter().for_each(|offender| _ = self.0.remove(offender));
        ended
    }
}
