//! Exemptions by command, with end and comment. For the detector they are like `ignoreip`.

use std::collections::BTreeMap;

use crate::control::AllowLine;
use crate::detect::{Exemption, ExemptionList};
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

    /// An exemption for people, with its end and comment; logins are exempt for so long.
    pub(super) fn say(&self, by: Exemption, protects: Span) -> String {
        let to_the_second = |at: Timestamp| Timestamp::from_secs(at.as_secs());
        match by {
            Exemption::Listed(who, ExemptionList::Allowed) => {
                let Some(Allowance { until, comment, .. }) = self.get(who) else { return by.to_string() };
                let until = until.map(|until| to_the_second(until).to_string());
                let until = until.unwrap_or_else(|| "it is removed".to_owned());
                let comment = if comment.is_empty() { String::new() } else { format!(": {comment}") };
                format!("{by} until {until}{comment}")
            }
            Exemption::Login(at) => format!("{by}, until {}", to_the_second(at + protects)),
            Exemption::Listed(..) => by.to_string(),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exemption_is_told_with_its_end_and_comment() {
        let at = Timestamp::from_micros(1_700_000_000_500_000);
        let allow = |who: &str, until, comment: &str| Allowance {
            offender: who.parse().unwrap(),
            since: at,
            until,
            comment: comment.into(),
        };
        let hour = Span::from_secs(3600);
        let allowances = Allowances::new(vec![
            allow("192.0.2.1", Some(at + hour), "on call"),
            allow("192.0.2.2", None, ""),
        ]);
        let say = |by| allowances.say(by, hour);
        let listed = |who: &str, list| say(Exemption::Listed(who.parse().unwrap(), list));
        let allowed = |who| listed(who, ExemptionList::Allowed);
        assert_eq!(allowed("192.0.2.1"), "192.0.2.1 is exempted by hand until 2023-11-14T23:13:20Z: on call");
        assert_eq!(allowed("192.0.2.2"), "192.0.2.2 is exempted by hand until it is removed");
        assert_eq!(allowed("192.0.2.3"), "192.0.2.3 is exempted by hand");
        assert_eq!(listed("192.0.2.1", ExemptionList::Own), "192.0.2.1 is this host's own address");
        let want = "a login from there at 2023-11-14T22:13:20Z, until 2023-11-14T23:13:20Z";
        assert_eq!(say(Exemption::Login(at)), want);
    }
}
