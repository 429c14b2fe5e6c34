//! What this host tells the others, and what their windows amount to.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::hear::LOGGED;
use crate::daemon::adoption::ADOPTED;
use crate::daemon::hub::Hub;
use crate::daemon::now;
use crate::detect::{Detector, LIST, Seen, Trace, WindowEffect};
use crate::fleet::Heard;
use crate::fleet::counts::{CountKey, CountNotice, FleetThreshold};
use crate::fleet::notice::Notice;
use crate::fleet::outbox::Told;
use crate::model::{Ban, BanOrigin, Decision, Mode, Offender, Timestamp};
use crate::store::LedgerUpdate;

impl Hub {
    /// All bans of this host, and what stands in windows that count across the fleet.
    pub(super) fn all_to_tell(&mut self) -> Told {
        let detector = &*self.engine.detector();
        let ours: HashSet<Offender> =
            detector.bans().filter(|ban| is_ours(ban)).map(|ban| ban.offender).collect();
        let bans = ours.into_iter().filter_map(|who| Some((who, own_notice(detector, who)?))).collect();
        let windows = self.loaded.config.across_fleet.iter().flat_map(|jail| {
            let window = |who| ((Arc::clone(jail), who), detector.window(who, jail));
            detector.watched(jail).map(window)
        });
        Told { bans, windows: windows.collect() }
    }

    /// Tells the others what has become of this host's bans.
    pub(in crate::daemon) fn tell_fleet(&mut self, update: &LedgerUpdate) {
        if self.fleet.is_none() || update.whole {
            return;
        }
        let across = &self.loaded.config.across_fleet;
        let detector = &*self.engine.detector();
        let is_told = |trace: &&Trace| trace.effect != WindowEffect::Nothing && across.contains(&trace.jail);
        for trace in update.traces.iter().filter(is_told) {
            let times = detector.window(trace.offender, &trace.jail);
            self.outbox.put_window((Arc::clone(&trace.jail), trace.offender), times);
        }
        let wide = Decision::wide(&update.decisions);
        for decision in update.decisions.iter().filter(|decision| is_ours(decision.ban())) {
            let ban = decision.ban();
            let notice = match (own_notice(detector, ban.offender), decision) {
                (Some(notice), _) => notice,
                // The prefix may be too wide for others; then they have these.
                (None, Decision::Unban(_)) if ban.widened(&wide).is_none() => Notice::of(ban, true),
                (None, _) => continue,
            };
            self.outbox.put(ban.offender, notice);
        }
    }

    /// Adds up what stands in the windows of members, and bans the offenders whose sum is enough.
    pub(super) fn add_up(&mut self, counts: Vec<Heard<(CountKey, CountNotice)>>) {
        let now = now();
        let (mut seen, mut refused) = (Seen::default(), 0);
        for Heard { host, said } in counts {
            let (window, mut notice) = match said {
                Ok(said) => said,
                Err(refusal) => {
                    let Some(desk) = &mut self.fleet else { return };
                    let _ = desk.peers.refuse(&host, refusal);
                    self.report_refusal(&host, "a window", refusal, true, refused < LOGGED);
                    refused += 1;
                    continue;
                }
            };
            notice.times.retain(|time| *time <= now);
            let (jail, offender) = &window;
            let config = &self.loaded.config;
            let is_across = config.across_fleet.contains(jail);
            let terms = config.detection.jails.iter().find(|known| is_across && known.name == *jail);
            let (Some(terms), Some(desk)) = (terms, &mut self.fleet) else { continue };
            if !desk.peers.members().contains(&host) {
                continue;
            }
            let threshold = FleetThreshold {
                full: terms.max_retry.get(),
                span: terms.find_time,
                hosts: usize::from(desk.fleet.policy.agree),
            };
            if let Some(at) = desk.sums.hear(&host, &window, notice, threshold) {
                log::info!(address:% = offender, jail:% = jail; "{offender} has filled the window of {jail} on several hosts");
                self.engine.detector().earn_elsewhere(*offender, jail, at, now, &mut seen);
            }
        }
        self.report_withheld(&seen);
        let decided = Arc::new(std::mem::take(&mut seen.decisions));
        self.carry_out(&decided);
        let lapsed = seen.lapsed.into_iter().map(Decision::Ban);
        let decisions = lapsed.chain(decided.iter().cloned()).collect::<Vec<_>>().into();
        let logins = self.engine.detector().take_changed_logins();
        let update = LedgerUpdate { decisions, traces: seen.traces, logins, ..LedgerUpdate::default() };
        if update.is_empty() {
            return;
        }
        // The others empty their windows as they hear of the ban, so it has to be in the ledger by then: if it were lost with
        // this process, the attempts would be, too.
        let (receipt, written) = oneshot::channel();
        self.outbox.hold();
        self.write(update, Some(receipt));
        let outbox = self.outbox.clone();
        self.runtime.spawn(async move {
            let _ = written.await;
            outbox.release();
        });
    }
}

/// Whether a ban is to be told to others: what others decided they know, lists everybody has for himself, and what only the
/// kernel knew may be anybody's.
pub(super) fn is_ours(ban: &Ban) -> bool {
    ban.kind != BanOrigin::Peer && ban.mode == Mode::Enforce && ![LIST, ADOPTED].contains(&&*ban.jail)
}

/// What the others are to know of an offender: the ban that lasts longest.
fn own_notice(detector: &Detector, offender: Offender) -> Option<Notice> {
    let ours = detector.bans_on(offender).filter(|ban| is_ours(ban));
    ours.max_by_key(|ban| ban.until.unwrap_or(Timestamp::MAX)).map(|ban| Notice::of(ban, false))
}
