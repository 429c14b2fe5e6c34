//! Bans that other hosts have decided, and counts that several hosts have in common.

use std::sync::Arc;

use super::past::PriorBans;
use super::{ActiveJail, Detector, Exemption, Seen, Trace, WIDE, WindowEffect};
use crate::model::{Ban, BanOrigin, Decision, Offender, SessionId, Timestamp};

impl Detector {
    /// Puts a ban in force that another host has decided, in place of an earlier one of its jail; as it is then.
    ///
    /// It does not count towards a ban of the prefix here.
    ///
    /// # Errors
    ///
    /// What protects its offender here: a list, that of any jail, or a recent login.
    pub fn ban_for_peer(&mut self, ban: Ban, now: Timestamp) -> Result<Ban, Exemption> {
        let login =
            || self.logins.last(ban.offender, now, self.settings.protect_logins).map(Exemption::Login);
        match self.protector(ban.offender, WIDE).or_else(login) {
            Some(by) => Err(by),
            None => {
                let ban = self.in_its_mode(ban);
                Ok(self.bans.insert(ban))
            }
        }
    }

    /// Lifts the ban of this jail on exactly this offender; nothing else is forgotten.
    pub fn lift_for_peer(&mut self, offender: Offender, jail: &str) -> Option<Decision> {
        self.bans.remove(offender, jail).map(Decision::Unban)
    }

    /// Remembers that a jail of this name has banned the offender so often elsewhere, so that its next ban here is as long
    /// as it would be there.
    pub fn remember_elsewhere(&mut self, offender: Offender, jail: &str, times: u32, until: Timestamp) {
        if !self.active.iter().any(|active| *active.jail.name == *jail) {
            return;
        }
        let key = self.key(offender, jail);
        let past = self.past.touch(key).1;
        *past = past.and(PriorBans { bans: times, ended: until });
    }

    /// The times in the offender's window of this jail, in order.
    pub fn window(&self, offender: Offender, jail: &str) -> Vec<Timestamp> {
        let Some(active) = self.active_jail(jail) else { return Vec::new() };
        let mut times = active.windows.times_of(offender);
        times.sort_unstable();
        times
    }

    /// The offenders that this jail watches.
    pub fn watched(&self, jail: &str) -> impl Iterator<Item = Offender> {
        self.active_jail(jail)
            .into_iter()
            .flat_map(|active| active.windows.iter().map(|(offender, _)| offender))
    }

    /// The offender has filled the window of this jail at this time, with offences on several hosts.
    pub fn earn_elsewhere(
        &mut self,
        offender: Offender,
        jail: &str,
        at: Timestamp,
        now: Timestamp,
        seen: &mut Seen,
    ) {
        let Some(number) = self.active.iter().position(|active| *active.jail.name == *jail) else { return };
        if self.bans.holds(offender, jail) {
            return;
        }
        // Where another counter has decided the same, that is this ban, and not one before it.
        let others = self.bans_on(offender).filter(|ban| ban.kind == BanOrigin::Peer);
        if let Some(times) = others.map(|ban| ban.times).max() {
            let key = self.key(offender, jail);
            let past = self.past.touch(key).1;
            past.bans -= u32::from(past.bans == times && times > 0);
        }
        seen.traces.extend(self.empty_window(offender, jail, at));
        self.earned(number, offender, at.min(now), now, seen);
    }

    /// Empties the offender's window of this jail, since what stands in it has led to a ban; what that leaves behind, if
    /// anything stood in it.
    pub fn empty_window(&mut self, offender: Offender, jail: &str, at: Timestamp) -> Option<Trace> {
        let active = self.active.iter_mut().find(|active| *active.jail.name == *jail)?;
        let counted = active.windows.times_of(offender).len();
        if counted == 0 {
            return None;
        }
        active.windows.forget(offender);
        Some(Trace {
            nth: 0,
            jail: Arc::clone(&active.jail.name),
            offender,
            time: at,
            grammar: None,
            category: None,
            session_id: SessionId::Process(0),
            host: 0,
            value: 0,
            effect: WindowEffect::Filled(u8::try_from(counted).unwrap_or(u8::MAX)),
            session: None,
        })
    }

    fn active_jail(&self, name: &str) -> Option<&ActiveJail> {
        self.active.iter().find(|active| *active.jail.name == *name)
    }
}
