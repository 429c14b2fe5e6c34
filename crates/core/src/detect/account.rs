//! What the detector knows of one address: its bans, counts and exemptions, for operators who ask why.

use std::num::NonZeroU8;
use std::sync::Arc;

use crate::model::{Ban, Offender, Span, Timestamp};

use super::curve::BanDuration;
use super::{Detector, Exemption};

/// What is known of one address or prefix.
#[derive(Debug)]
pub struct AddressState<'d> {
    /// The offender that its offences count for.
    pub offender: Offender,
    /// The bans on it, on what lies around it, and on what lies in it; at most [`MOST`].
    pub bans: Vec<(&'d Ban, Option<BanDuration>)>,
    /// What each jail has against it.
    pub jails: Vec<JailState>,
    /// What protects it from all jails.
    pub exemptions: Vec<Exemption>,
}

/// What one jail has against an offender.
#[derive(Debug)]
pub struct JailState {
    /// The jail's name.
    pub jail: Arc<str>,
    /// The offender that offences of the address count for: the address alone if the jail's `ignoreip` has another one there.
    pub offender: Offender,
    /// Offences that count now.
    pub counted: u8,
    /// How many earn a ban.
    pub max_retry: NonZeroU8,
    /// Within how long.
    pub find_time: Span,
    /// When the last of them was.
    pub last: Option<Timestamp>,
    /// Earlier bans that still count.
    pub earlier: u32,
    /// How long the next ban would last.
    pub next: BanDuration,
    /// What protects it from this jail alone.
    pub exemption: Option<Exemption>,
}

/// A listing of all that is banned in a wide prefix is another command.
pub const MOST: usize = 100;

impl Detector {
    /// What is known of `who` at `now`. Looks at every ban.
    pub fn account(&self, who: Offender, now: Timestamp) -> AddressState<'_> {
        let accountable = |active| match who.is_single() {
            true => self.offender(who.address(), self.settings.widths, active),
            false => who,
        };
        let offender = accountable(None);
        let concerns = |ban: &&Ban| ban.offender.contains(who) || who.contains(ban.offender);
        let mut bans: Vec<&Ban> = self.bans.iter().filter(concerns).collect();
        bans.sort_by_key(|ban| (ban.offender, &ban.jail));
        bans.truncate(MOST);
        let growth = self.settings.growth;
        let bans = bans.into_iter().map(|ban| {
            let active = self.active.iter().find(|active| active.jail.name == ban.jail);
            (ban, active.map(|active| BanDuration { first: active.jail.ban_time, growth, times: ban.times }))
        });
        let listed = self.allow.protects(offender);
        let login = self.logins.last(offender, now, self.settings.protect_logins).map(Exemption::Login);
        let jails = self.active.iter().map(|active| {
            let (jail, offender) = (&active.jail, accountable(Some(active)));
            let (counted, last) = active.windows.of(offender, now);
            let earlier = self.prior(offender, &jail.name).remembered(&growth, now);
            JailState {
                jail: Arc::clone(&jail.name),
                offender,
                counted,
                max_retry: jail.max_retry,
                find_time: jail.find_time,
                last,
                earlier,
                next: BanDuration { first: jail.ban_time, growth, times: earlier.saturating_add(1) },
                exemption: active.allow.protects(offender),
            }
        });
        AddressState {
            offender,
            bans: bans.collect(),
            jails: jails.collect(),
            exemptions: listed.into_iter().chain(login).collect(),
        }
    }
}
