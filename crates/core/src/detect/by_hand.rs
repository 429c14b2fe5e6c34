//! What operators change: bans by hand, and bans that are lifted.

use super::{Detector, Exemption};
use std::sync::Arc;

use crate::model::{Ban, BanOrigin, BanTerms, Decision, Mode, Offender, Timestamp};

/// The jail that operators' bans belong to.
pub const MANUAL: &str = "manual";
/// The jail that bans of lists belong to.
pub const LIST: &str = "list";
/// Whether the bans of a jail come from operators.
pub fn is_by_hand(jail: &str) -> bool {
    jail == MANUAL || jail == LIST
}

/// A ban by hand, on all ports.
pub fn manual(offender: Offender, since: Timestamp, until: Option<Timestamp>, reason: &str) -> Ban {
    let (jail, ports, reason) = (MANUAL.into(), [].into(), reason.into());
    let terms = BanTerms { jail, kind: BanOrigin::Manual, mode: Mode::Enforce, ports, reason };
    Ban { offender, times: 1, since, until, terms: Arc::new(terms) }
}

/// Why a ban does not come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotReinstated {
    /// It would have ended by now.
    Over,
    /// This protects its offender.
    Exempt(Exemption),
}

impl Detector {
    /// Bans by hand, as [`manual`] has made it; the ban as it is in force. It takes the place of an earlier one.
    ///
    /// # Errors
    ///
    /// What list protects the offender. That somebody logged in from there does not.
    pub fn ban(&mut self, ban: Ban) -> Result<Ban, Exemption> {
        match self.protector(ban.offender, MANUAL) {
            Some(by) => Err(by),
            None => {
                let ban = self.in_its_mode(ban);
                Ok(self.bans.insert(ban))
            }
        }
    }

    /// Lifts the bans on all offenders inside `target`, and forgets that they had any.
    pub fn unban(&mut self, target: Offender) -> Vec<Decision> {
        let lifted = self.bans.lift(target);
        self.pardon(lifted)
    }

    /// Lifts the bans on exactly this offender, and forgets that there were any.
    pub fn unban_exactly(&mut self, offender: Offender) -> Vec<Decision> {
        let lifted = self.bans.lift_from(offender);
        self.pardon(lifted)
    }

    /// Lifts the ban of one jail on this offender, and forgets that there was one.
    pub fn unban_from(&mut self, offender: Offender, jail: &str) -> Option<Decision> {
        let lifted = self.bans.remove(offender, jail);
        self.pardon(lifted.into_iter().collect()).pop()
    }

    /// Puts a ban in force again that was lifted or replaced, in place of one of its jail.
    ///
    /// # Errors
    ///
    /// It is over by `now`, or its offender is exempt.
    pub fn reinstate(&mut self, mut ban: Ban, now: Timestamp) -> Result<Ban, NotReinstated> {
        if ban.until.is_some_and(|until| until <= now) {
            return Err(NotReinstated::Over);
        }
        if let Some(by) = self.protector(ban.offender, &ban.jail) {
            return Err(NotReinstated::Exempt(by));
        }
        ban = self.in_its_mode(ban);
        Ok(self.put_in_force(ban, now))
    }

    /// Lifts the bans of this jail, and forgets that there were any. An offender may still be banned by another.
    pub fn unban_jail(&mut self, jail: &str) -> Vec<Decision> {
        let lifted: Vec<Offender> =
            self.bans.iter().filter(|ban| *ban.jail == *jail).map(|ban| ban.offender).collect();
        let lifted = lifted.into_iter().filter_map(|offender| self.bans.remove(offender, jail)).collect();
        self.pardon(lifted)
    }

    /// Lifts all bans, and forgets that there were any.
    pub fn unban_all(&mut self) -> Vec<Decision> {
        let lifted = self.bans.lift_all();
        self.pardon(lifted)
    }

    /// These are lifted, and forgotten.
    pub(super) fn pardon(&mut self, lifted: Vec<Ban>) -> Vec<Decision> {
        for ban in &lifted {
            let key = self.key(ban.offender, &ban.jail);
            self.past.remove(&key);
        }
        lifted.into_iter().map(Decision::Unban).collect()
    }
}
