//! What members say becomes bans here, as far as local policy lets it.

use std::collections::HashSet;
use std::sync::Arc;

use super::FleetDesk;
use super::tell::is_ours;
use crate::daemon::adoption::ADOPTED;
use crate::daemon::hub::Hub;
use crate::daemon::now;
use crate::detect::{Detector, Jail, Trace};
use crate::fleet::addresses::AddressNotice;
use crate::fleet::peers::NoticeVerdict;
use crate::fleet::{Heard, JAIL, NoticeRefusal, Page};
use crate::model::{Ban, BanOrigin, Decision, Mode, Offender, Timestamp, count};
use crate::store::LedgerUpdate;

/// How many refusals of one page have a line each in the log.
pub(super) const LOGGED: usize = 10;

/// What has come of a page.
#[derive(Default)]
struct HeardOutcome {
    decisions: Vec<Decision>,
    traces: Vec<Trace>,
    /// What only the kernel may have.
    unknown: Vec<Decision>,
    heard_of: HashSet<Arc<str>>,
    refused: usize,
}

impl Hub {
    /// Takes what members say.
    pub(super) fn hear(&mut self, page: Page) {
        let now = now();
        let mut outcome = HeardOutcome::default();
        for heard in &page.heard {
            let Some(desk) = &mut self.fleet else { return };
            let (in_force, was_aside) = desk.peers.get(&heard.host).map_or((0, false), |peer| {
                (desk.in_force.get(&peer.jail).copied().unwrap_or_default(), peer.aside.is_some())
            });
            let refusal = match desk.peers.judge(heard, page.is_live, in_force, now) {
                NoticeVerdict::Known => {
                    // Nothing limits how much one may say that has no effect.
                    if !was_aside {
                        remember(self.engine.detector(), desk, heard, now);
                    }
                    continue;
                }
                NoticeVerdict::Refused(refusal) => Err(refusal),
                NoticeVerdict::Lift(offender, jail) => {
                    self.lift_as_told(heard, offender, jail, page.is_live, &mut outcome);
                    Ok(())
                }
                NoticeVerdict::Ban(ban) => self.ban_as_told(heard, ban, page.is_live, &mut outcome),
            };
            outcome.heard_of.insert(Arc::clone(&heard.host));
            if let Err(refusal) = refusal {
                let who =
                    heard.said.as_ref().map_or_else(|_| "something".to_owned(), |(who, _)| who.to_string());
                self.report_refusal(&heard.host, &who, refusal, was_aside, outcome.refused < LOGGED);
                outcome.refused += 1;
            }
        }
        let HeardOutcome { decisions, traces, unknown, heard_of, refused } = outcome;
        if refused > LOGGED {
            let more = count((refused - LOGGED) as u64, "more notice");
            log::warn!("refused {more} of the fleet at the same time");
        }
        let heard = page.heard.len() as u64;
        self.metrics.counter("banstream_fleet_notices_total", &[("direction", "in")]).increment(heard);
        self.apply(&Arc::new(unknown));
        let positions = heard_of.iter().filter_map(|host| self.fleet.as_ref()?.place(host)).collect();
        let decisions = decisions.into();
        self.take_from_fleet(LedgerUpdate { decisions, traces, positions, ..LedgerUpdate::default() });
    }

    /// A member has lifted its ban.
    fn lift_as_told(
        &mut self,
        heard: &Heard,
        offender: Offender,
        jail: Arc<str>,
        is_live: bool,
        outcome: &mut HeardOutcome,
    ) {
        let Some(desk) = &mut self.fleet else { return };
        let detector = self.engine.detector();
        let lifted = detector.lift_for_peer(offender, &jail);
        if let (None, false, Ok((_, notice))) = (&lifted, is_live, &heard.said) {
            // Since a crash it may be in the kernel alone.
            let now = now();
            let ban = notice.ban(offender, Arc::clone(&jail), now, now);
            let ban = ban.with(|terms| terms.mode = Mode::Enforce);
            outcome.unknown.extend(self.lifted.is_some().then_some(Decision::Unban(ban)));
            outcome.decisions.extend(detector.lift_for_peer(offender, ADOPTED));
        }
        if lifted.is_some() {
            let bans = desk.in_force.entry(jail).or_default();
            *bans = bans.saturating_sub(1);
        }
        outcome.decisions.extend(lifted);
        outcome.decisions.extend(settle_agreement(detector, desk, offender));
    }

    /// A member has banned somebody, as policy lets it.
    fn ban_as_told(
        &mut self,
        heard: &Heard,
        mut ban: Ban,
        is_live: bool,
        outcome: &mut HeardOutcome,
    ) -> Result<(), NoticeRefusal> {
        let (Some(desk), now) = (&mut self.fleet, now()) else { return Ok(()) };
        let (offender, jail) = (ban.offender, Arc::clone(&ban.jail));
        let protects = match () {
            () if desk.servers.iter().any(|server| offender.contains(*server)) => Some(NoticeRefusal::Server),
            () if desk.addresses.are_in(offender) => Some(NoticeRefusal::Member),
            () => None,
        };
        if let Some(refusal) = protects {
            let _ = desk.peers.refuse(&heard.host, refusal);
            return Err(refusal);
        }
        let detector = self.engine.detector();
        ban.mode = agreed(detector, desk, offender, Some(&jail));
        let is_known = detector.bans_on(offender).any(|known| known.jail == jail);
        let ban = detector.ban_for_peer(ban, now).map_err(NoticeRefusal::Exempt).inspect_err(|refusal| {
            let _ = desk.peers.refuse(&heard.host, *refusal);
        })?;
        *desk.in_force.entry(jail).or_default() += usize::from(!is_known);
        remember(detector, desk, heard, now);
        if ban.mode == Mode::Enforce {
            // What led to that ban there is not to lead to another. Elsewhere, or with bans that end at once, a member could
            // empty the window of any attacker.
            let config = &self.loaded.config;
            let jail = heard.said.as_ref().map(|(_, notice)| &notice.jail).ok();
            let jail = jail.filter(|jail| config.across_fleet.contains(jail));
            let jail = jail.and_then(|jail| config.detection.jails.iter().find(|known| known.name == *jail));
            let lasts = |jail: &&Jail| ban.until.is_none_or(|until| until > now + jail.find_time);
            if let Some(jail) = jail.filter(lasts) {
                outcome.traces.extend(detector.empty_window(offender, &jail.name, ban.since));
            }
            // What was adopted after a crash is this ban.
            if !is_live {
                outcome.decisions.extend(detector.lift_for_peer(offender, ADOPTED));
            }
        }
        outcome.decisions.push(Decision::Ban(ban));
        outcome.decisions.extend(settle_agreement(detector, desk, offender));
        Ok(())
    }

    /// Members have told their own addresses: others cannot ban these any more, and what they have banned is lifted.
    pub(super) fn hear_addresses(&mut self, told: Vec<(Arc<str>, AddressNotice)>) {
        let detector = self.engine.detector();
        let Some(desk) = &mut self.fleet else { return };
        let mut decisions = Vec::new();
        for (host, notice) in told {
            if *host == *desk.fleet.host || !desk.peers.members().contains(&host) {
                continue;
            }
            for address in desk.addresses.hear(&host, notice) {
                // No ban of another is wider than that.
                let widest = desk.fleet.policy.widest;
                let widest = if address.address().is_ipv4() { widest.v4 } else { widest.v6 };
                for around in
                    (widest..=address.prefix()).filter_map(|wide| Offender::new(address.address(), wide))
                {
                    let peers = detector.bans_on(around).filter(|ban| ban.kind == BanOrigin::Peer);
                    let jails: Vec<Arc<str>> = peers.map(|ban| Arc::clone(&ban.jail)).collect();
                    decisions.extend(jails.iter().filter_map(|jail| detector.lift_for_peer(around, jail)));
                }
            }
        }
        if !decisions.is_empty() {
            let lifted = count(decisions.len() as u64, "ban");
            log::warn!("lifted {lifted} by other hosts of the fleet on addresses of its members");
        }
        self.take_from_fleet(LedgerUpdate { decisions: decisions.into(), ..LedgerUpdate::default() });
    }

    /// Counts what had no effect, and says so in the log.
    pub(super) fn report_refusal(
        &self,
        host: &str,
        who: &str,
        refusal: NoticeRefusal,
        was_aside: bool,
        has_line: bool,
    ) {
        self.metrics.counter("banstream_fleet_refused_total", &[("reason", refusal.name())]).increment(1);
        if matches!(refusal, NoticeRefusal::TooFast | NoticeRefusal::TooMany) && !was_aside {
            log::error!(host:% = host; "set {host} of the fleet aside: {refusal}; its bans so far stay until `banstream unban \
                --jail {JAIL}{host}`, and `banstream fleet accept {host}` hears it again");
        } else if has_line && refusal != NoticeRefusal::SetAside {
            log::warn!(host:% = host; "refused {who} from {host} of the fleet: {refusal}");
        }
    }

    pub(super) fn settle_all_agreements(&mut self) -> Vec<Decision> {
        let Some(desk) = &self.fleet else { return Vec::new() };
        let detector = self.engine.detector();
        let offenders: HashSet<Offender> =
            detector.bans().filter(|ban| ban.kind == BanOrigin::Peer).map(|ban| ban.offender).collect();
        offenders.into_iter().flat_map(|offender| settle_agreement(detector, desk, offender)).collect()
    }
}

/// Remembers how often a member has banned an offender.
fn remember(detector: &mut Detector, desk: &FleetDesk, heard: &Heard, now: Timestamp) {
    let policy = desk.fleet.policy;
    if let Ok((offender, notice)) = &heard.said
        && policy.mode == Mode::Enforce
        && *heard.host != *desk.fleet.host
        && !notice.lifted
    {
        let until = notice.until.unwrap_or(Timestamp::MAX).min(now + policy.longest);
        detector.remember_elsewhere(*offender, &notice.jail, notice.times, until);
    }
}

/// Whether the bans of others on this offender are carried out: where enough hosts agree, of which `more` is one.
fn agreed(detector: &Detector, desk: &FleetDesk, offender: Offender, more: Option<&str>) -> Mode {
    let policy = desk.fleet.policy;
    let others =
        detector.bans_on(offender).filter(|ban| ban.kind == BanOrigin::Peer && Some(&*ban.jail) != more);
    let ours = detector.bans_on(offender).any(is_ours);
    let hosts = others.count() + usize::from(ours) + usize::from(more.is_some());
    if policy.mode == Mode::Enforce && hosts >= usize::from(policy.agree) {
        Mode::Enforce
    } else {
        Mode::Observe
    }
}

/// Carries the bans of others on this offender out, or no longer, as enough hosts agree.
fn settle_agreement(detector: &mut Detector, desk: &FleetDesk, offender: Offender) -> Vec<Decision> {
    let mode = agreed(detector, desk, offender, None);
    let others: Vec<Ban> = detector
        .bans_on(offender)
        .filter(|ban| ban.kind == BanOrigin::Peer && ban.mode != mode)
        .cloned()
        .collect();
    let mut decisions = Vec::new();
    for ban in others {
        let renewed = ban.clone().with(|terms| terms.mode = mode);
        // It cannot be exempt, since such bans are lifted as soon as it is.
        if let Ok(renewed) = detector.ban_for_peer(renewed, now()) {
            decisions.extend([Decision::Unban(ban), Decision::Ban(renewed)]);
        }
    }
    decisions
}
