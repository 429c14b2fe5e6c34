//! Takes back what an operator changed last.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::changes::{for_long, named, outlasts};
use super::hub::Hub;
use super::now;
use super::undo::{UndoItem, UndoStep};
use crate::control::{ChangeKind, ChangeReport, Reply};
use crate::model::{Ban, Decision, Offender, Timestamp};
use crate::store::LedgerUpdate;

impl Hub {
    /// Takes back the last command of an operator that changed something, and replies once that is done.
    pub(super) fn take_back(&mut self, reply: oneshot::Sender<Reply>) {
        let at = now();
        let refuse = |error: String| Reply::Refused { error };
        let Some(UndoStep { at: when, command, items, .. }) = self.undo.pop(at) else {
            let error =
                "no command to take back: no change by an operator within a day and since the daemon's start";
            return drop(reply.send(refuse(error.to_owned())));
        };
        let Some(items) = items else {
            let error = format!(
                "`{command}` changed too much to be taken back; another `undo` takes back the command before it"
            );
            return drop(reply.send(refuse(error)));
        };
        log::info!("an operator took back `{command}`");
        let (mut report, mut allowances) = (ChangeReport::default(), Vec::new());
        report.undone = Some(format!("`{command}` of {} ago", at.since(when)));
        let mut bans = Vec::new();
        // The last change first: the same ban may have been changed twice.
        for item in items.into_iter().rev() {
            match item {
                UndoItem::Allowance(who, before) => {
                    match &before {
                        None => report.add(ChangeKind::Removed, || format!("{who} is no longer exempt")),
                        Some(before) => {
                            report.add(ChangeKind::Restored, || {
                                format!("{who} is exempt {}", for_long(before.until, at))
                            });
                        }
                    }
                    let before = before.map(|before| *before);
                    allowances.push((who, before.clone()));
                    match before {
                        None => drop(self.allowances.remove(who)),
                        Some(before) => self.allowances.insert(before),
                    }
                }
                ban => bans.push(ban),
            }
        }
        if !allowances.is_empty() {
            for ban in self.settle() {
                report.add(ChangeKind::Lifted, || named(&ban));
            }
        }
        let mut last: BTreeMap<(Offender, Arc<str>), Decision> = BTreeMap::new();
        for item in bans {
            if let Some(decision) = self.take_back_ban(item, at, &mut report) {
                let ban = decision.ban();
                last.insert((ban.offender, Arc::clone(&ban.jail)), decision);
            }
        }
        for decision in last.values() {
            let (kind, text) = match decision {
                Decision::Ban(ban) => {
                    (ChangeKind::Restored, format!("{} is banned {}", named(ban), for_long(ban.until, at)))
                }
                Decision::Unban(ban) => (ChangeKind::Lifted, named(ban)),
            };
            report.add(kind, || text);
        }
        let decisions: Vec<Decision> = last.into_values().collect();
        self.record(&decisions);
        if !decisions.is_empty() {
            self.sync_all();
        }
        let update = LedgerUpdate { decisions, allowances, ..LedgerUpdate::default() };
        self.reply_once_done(update, reply, |_| Reply::Changed(report));
    }

    /// Brings about what was before; what is to be done for it.
    fn take_back_ban(
        &mut self,
        item: UndoItem,
        at: Timestamp,
        report: &mut ChangeReport,
    ) -> Option<Decision> {
        let detector = self.engine.detector();
        let before = match item {
            UndoItem::Allowance(..) => return None,
            UndoItem::NoBan(who, jail) => {
                let lifted = detector.unban_from(who, &jail);
                if lifted.is_none() {
                    report.add(ChangeKind::Over, || format!("{who} ({jail}) is over"));
                }
                return lifted;
            }
            UndoItem::Replaced(before) => before,
            UndoItem::Lifted(before) => {
                // Its jail may have banned it again since.
                let ends = |ban: &&Ban| {
                    ban.jail == before.jail && outlasts(before.until, ban.until) != ChangeKind::Extended
                };
                if detector.bans_on(before.offender).any(|ban| ends(&ban)) {
                    report.add(ChangeKind::Unchanged, || named(&before));
                    return None;
                }
                before
            }
        };
        let text = named(&before);
        let ban = detector.reinstate(*before, at);
        if ban.is_none() {
            report.add(ChangeKind::Over, || format!("{text} is over or exempt by now"));
        }
        ban.map(Decision::Ban)
    }
}
