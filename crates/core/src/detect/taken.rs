//! Bans that somebody else decided: fail2ban's, or those of a list.
//!
//! They are in force as the detector's own are, and their past counts for how long the next ban lasts. To take over the
//! same ban again changes nothing.

use super::{Detector, Exemption};
use crate::model::{Ban, Mode, Timestamp};

/// What became of a ban that was decided elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenBan {
    /// What was done.
    pub outcome: TakeOver,
    /// The ban as it is here now.
    pub ban: Ban,
    /// Whether that is another than before, and so has to be remembered.
    pub is_changed: bool,
}

/// What was done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakeOver {
    /// It is in force; its jail did not ban the offender before, or only observed that.
    New,
    /// Its jail banned the offender already, and does so for longer now.
    Extended,
    /// Its jail bans the offender for at least as long already.
    Covered,
    /// It is over, and only counts.
    Past,
    /// It was left out, because this protects the offender.
    Exempt(Exemption),
}

impl Detector {
    /// Takes over a ban that was decided elsewhere. Its mode does not matter: it is carried out as its jail says. A ban of
    /// its jail that is in force keeps its beginning, its ports and its reason; one that is only observed becomes enforced
    /// where its jail enforces now.
    ///
    /// A recent login does not protect from it, nor does it count towards a ban of the prefix just now.
    pub fn take_over(&mut self, mut ban: Ban, now: Timestamp) -> TakenBan {
        let past = self.prior(ban.offender, &ban.jail);
        ban.since = ban.since.min(now);
        ban = self.in_its_mode(ban);
        ban.times = ban.times.max(past.remembered(&self.settings.growth, ban.since)).max(1);
        if let Some(by) = self.protector(ban.offender, &ban.jail) {
            return TakenBan { outcome: TakeOver::Exempt(by), ban, is_changed: false };
        }
        let is_over = ban.until.is_some_and(|until| until <= now);
        let known = self.bans.of(ban.offender, &ban.jail).cloned();
        let (outcome, merged, is_changed) = match known {
            None if is_over => {
                // A later one of the same jail is over as well.
                ban.until = ban.until.max(Some(past.ended.min(now)));
                let is_known = past.bans == ban.times && Some(past.ended) == ban.until;
                (TakeOver::Past, ban, !is_known)
            }
            None => (TakeOver::New, ban, true),
            Some(known) => {
                let times = known.times.max(ban.times);
                let is_longer =
                    known.until.is_some_and(|known| ban.until.is_none_or(|until| until > known)) && !is_over;
                let is_enforced_now = !is_over && (known.mode, ban.mode) == (Mode::Observe, Mode::Enforce);
                let outcome = match () {
                    () if is_over => TakeOver::Past,
                    () if is_enforced_now => TakeOver::New,
                    () if is_longer => TakeOver::Extended,
                    () => TakeOver::Covered,
                };
                let until = if is_longer { ban.until } else { known.until };
                let is_changed = is_longer || is_enforced_now || times > known.times;
                let mut merged = Ban { times, until, ..known };
                if is_enforced_now {
                    merged.mode = ban.mode;
                }
                (outcome, merged, is_changed)
            }
        };
        let ban = if is_changed { self.put_in_force(merged, now) } else { merged };
        TakenBan { outcome, ban, is_changed }
    }
}
