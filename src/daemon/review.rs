//! What other settings do to bans: those of addresses that are exempt now are lifted, and those of jails that enforce or
//! observe now are carried out accordingly.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use super::changes::named;
use super::hub::{Hub, settings};
use super::inbox::ReloadKind;
use super::now;
use super::undo::{EXEMPTIONS, START};
use crate::config::load::Loaded;
use crate::control::{ChangeKind, ChangeReport};
use crate::detect::Exemption;
use crate::model::{Ban, Decision, Mode, Offender, count};
use crate::store::{LedgerUpdate, UndoItem};

impl Hub {
    /// Goes on with this configuration; what became of bans.
    pub(super) fn reload(&mut self, loaded: Loaded, kind: ReloadKind) -> ChangeReport {
        let at = now();
        let turned_off = self.turned_off(&loaded);
        self.loaded = loaded;
        self.join_fleet();
        let settings = settings(&self.loaded, &self.host, &self.allowances);
        let mut decisions = self.engine.reconfigure(settings, self.loaded.grammars.clone());
        self.stats.lock().expect(self.engine.grammars());
        let mut report = self.review_report(&decisions);
        orphaned(&mut report, &turned_off, &decisions);
        let items = lifts(&decisions);
        match kind {
            ReloadKind::Permanent => {
                self.undo.end_trial();
                self.undo.add_reload(at, items);
            }
            ReloadKind::Trial => self.undo.add_trial(at, items),
            ReloadKind::Rollback => {
                let before = self.undo.take_trial();
                let (restored, mut update) = self.put_back(&before, at, &mut report);
                Arc::make_mut(&mut update.decisions).splice(0..0, decisions.iter().cloned());
                decisions.extend(restored);
                self.carry_out_review(&Arc::new(decisions), update);
                // What made room may have shut other ports.
                self.sync_all();
                return report;
            }
        }
        self.reviewed(decisions);
        report
    }

    /// What would become of bans under this configuration.
    pub(super) fn preview(&mut self, loaded: &Loaded) -> ChangeReport {
        let settings = settings(loaded, &self.host, &self.allowances);
        let turned_off = self.turned_off(loaded);
        let review = self.engine.detector().preview(settings);
        let lifted = review.lifted.iter().map(|(ban, by)| (ban, Some(*by))).collect();
        let mut report = report(lifted, review.reissued.iter().map(|(_, mode)| *mode));
        let decisions: Vec<_> =
            review.lifted.iter().map(|(ban, _)| Decision::Unban((*ban).clone())).collect();
        orphaned(&mut report, &turned_off, &decisions);
        report
    }

    /// The jails that are on and would not be under this configuration, each with its bans.
    fn turned_off(&mut self, loaded: &Loaded) -> BTreeMap<Arc<str>, u64> {
        let stays = |name: &str| loaded.config.detection.jails.iter().any(|jail| *jail.name == *name);
        let jails = self.loaded.config.detection.jails.iter();
        let names: BTreeSet<&str> = jails.map(|jail| &*jail.name).filter(|name| !stays(name)).collect();
        let mut bans = BTreeMap::new();
        for (terms, times) in self.engine.detector().terms() {
            if names.contains(&*terms.jail) {
                *bans.entry(Arc::clone(&terms.jail)).or_default() += times as u64;
            }
        }
        bans
    }

    /// Looks at the bans that were in force before the start.
    pub(super) fn review_restored(&mut self) {
        let decisions = self.engine.detector().review();
        self.undo.add_lifted(now(), START, lifts(&decisions));
        self.reviewed(decisions);
    }

    /// Goes on where a file of exemptions or this host's addresses have changed.
    pub(super) fn settle_exemptions(&mut self) {
        let decisions = self.settle();
        self.undo.add_lifted(now(), EXEMPTIONS, lifts(&decisions));
        self.reviewed(decisions);
    }

    /// What changes of bans, now that others are exempt. It is still to be carried out.
    pub(super) fn settle(&mut self) -> Vec<Decision> {
        let settings = settings(&self.loaded, &self.host, &self.allowances);
        self.engine.reconfigure_settings(settings)
    }

    /// Carries out what a review has decided.
    pub(super) fn reviewed(&mut self, decisions: Vec<Decision>) {
        let decisions = Arc::new(decisions);
        let update = LedgerUpdate { decisions: Arc::clone(&decisions), ..LedgerUpdate::default() };
        self.carry_out_review(&decisions, update);
    }

    fn carry_out_review(&mut self, decisions: &Arc<Vec<Decision>>, update: LedgerUpdate) {
        if !decisions.is_empty() {
            self.record(decisions, |_| false);
            self.apply(decisions);
        }
        self.write(update, None);
    }

    /// What a review has decided, in a report.
    fn review_report(&mut self, decisions: &[Decision]) -> ChangeReport {
        let detector = &*self.engine.detector();
        let lifted =
            lifted(decisions).map(|ban| (ban, detector.protector(ban.offender, &ban.jail))).collect();
        let reissued = decisions.iter().filter_map(|decision| match decision {
            Decision::Ban(ban) => Some(ban.mode),
            Decision::Unban(_) => None,
        });
        report(lifted, reissued)
    }
}

/// Says how many bans stay of jails that are turned off, without those that these decisions lift.
fn orphaned(report: &mut ChangeReport, turned_off: &BTreeMap<Arc<str>, u64>, decisions: &[Decision]) {
    for (jail, bans) in turned_off {
        let gone = lifted(decisions).filter(|ban| ban.jail == *jail).count() as u64;
        let bans = bans.saturating_sub(gone);
        if bans > 0 {
            report.count(ChangeKind::Orphaned, bans);
            report.note(ChangeKind::Orphaned, || {
                let (bans, stay) = (count(bans, "ban"), if bans == 1 { "stays" } else { "stay" });
                format!("the jail `{jail}` is off, and {bans} of it {stay}; `banstream unban --jail {jail}` lifts them")
            });
        }
    }
}

/// What was lifted and not put in force again, as `undo` remembers it.
fn lifts(decisions: &[Decision]) -> Vec<UndoItem> {
    lifted(decisions).map(|ban| UndoItem::Lifted(ban.clone())).collect()
}

fn lifted(decisions: &[Decision]) -> impl Iterator<Item = &Ban> {
    let in_force = decisions.iter().filter_map(|decision| match decision {
        Decision::Ban(ban) => Some((ban.offender, &*ban.jail)),
        Decision::Unban(_) => None,
    });
    let in_force: HashSet<(Offender, &str)> = in_force.collect();
    decisions.iter().filter_map(move |decision| match decision {
        Decision::Unban(ban) if !in_force.contains(&(ban.offender, &*ban.jail)) => Some(ban),
        _ => None,
    })
}

fn report(mut lifted: Vec<(&Ban, Option<Exemption>)>, reissued: impl Iterator<Item = Mode>) -> ChangeReport {
    let mut report = ChangeReport::default();
    lifted.sort_unstable_by_key(|(ban, _)| (ban.offender, Arc::clone(&ban.jail)));
    for (ban, by) in lifted {
        report.add(ChangeKind::Lifted, || match by {
            Some(by) => format!("{}: {by}", named(ban)),
            None => named(ban),
        });
    }
    for mode in reissued {
        let kind = if mode == Mode::Enforce { ChangeKind::Enforced } else { ChangeKind::Observed };
        report.count(kind, 1);
    }
    for kind in [ChangeKind::Enforced, ChangeKind::Observed] {
        let times = report.of(kind);
        if times > 0 {
            report.note(kind, || format!("{} {}", count(times, "ban"), kind.name()));
        }
    }
    report
}
