//! Takes back what an operator changed last.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::changes::{
    for_long, is_banned, named, no_longer_exempt, outlasts, still_exempt as still_exempt_by,
};
use super::confirm::AnswerTo;
use super::hub::Hub;
use super::now;
use super::undo::{IdleCommand, RECENT};
use crate::control::{ChangeKind, ChangeReport, Reply, UndoLine};
use crate::detect::NotReinstated;
use crate::model::{Ban, Decision, Offender, Timestamp, count};
use crate::store::{LedgerUpdate, UndoItem, UndoStep};

impl Hub {
    /// Takes back the last command of an operator that changed something, and replies once that is done. What is perhaps not
    /// the command that the operator thinks of is only named, unless with `force`.
    pub(super) fn take_back(&mut self, force: bool, reply: oneshot::Sender<Reply>) {
        let at = now();
        let refuse = |error: String| Reply::Refused { error };
        let Some(step) = self.undo.latest(at).cloned() else {
            let error = "no command to take back: no change by an operator within a day";
            return drop(reply.send(refuse(error.to_owned())));
        };
        let said = said(&step, at);
        let Some(pages) = &step.pages else {
            self.undo.pop();
            self.write(LedgerUpdate::default(), None);
            let error = format!(
                "{said} changed too much to be taken back; another `undo` takes back the command before it"
            );
            return drop(reply.send(refuse(error)));
        };
        if !force && let Some(error) = self.doubt(&step, at) {
            return drop(reply.send(refuse(error)));
        }
        let mut report = ChangeReport { undone: Some(said.clone()), ..ChangeReport::default() };
        let (decisions, update) = self.put_back(pages, at, &mut report);
        if !force && report.changed == 0 && report.of(ChangeKind::Exempt) > 0 {
            let error = still_exempt(&said, &report);
            return drop(reply.send(refuse(error)));
        }
        log::info!("an operator took back {said}: {}", report.summary());
        self.undo.pop();
        self.record(&decisions, |_| false);
        if !decisions.is_empty() {
            self.sync_all();
        }
        self.reply_changed(AnswerTo::Command, update, reply, report);
    }

    /// Why an operator may think of another command than this one, if so.
    fn doubt(&mut self, step: &UndoStep, at: Timestamp) -> Option<String> {
        let said = said(step, at);
        if let Some(IdleCommand { at: when, command, what }) = self.undo.idle() {
            let ago = at.since(*when);
            return Some(format!(
                "the last command, `{command}` of {ago} ago, {what}; `undo --force` takes back {said}"
            ));
        }
        (at.since(step.at) > RECENT)
            .then(|| format!("the last command is older than {RECENT}; `undo --force` takes back {said}"))
    }

    /// The commands that can be taken back.
    pub(super) fn undo_steps(&mut self) -> Vec<UndoLine> {
        let at = now();
        let line = |step: &UndoStep| UndoLine {
            command: step.command.to_string(),
            at: step.at.to_string(),
            ago: at.since(step.at).as_micros() / 1_000_000,
            changes: step.changes().map(|changes| changes as u64),
        };
        self.undo.steps(at).map(line).collect()
    }

    /// Brings about what was before these changes; what is to be done for it, and what the ledger is to know.
    pub(super) fn put_back(
        &mut self,
        pages: &[Arc<Vec<UndoItem>>],
        at: Timestamp,
        report: &mut ChangeReport,
    ) -> (Vec<Decision>, LedgerUpdate) {
        let mut update = LedgerUpdate::default();
        // The last change first: the same ban may have been changed twice.
        let items = || pages.iter().rev().flat_map(|page| page.iter().rev());
        for item in items() {
            let UndoItem::Allowance(who, before) = item else { continue };
            let before = before.as_deref().cloned();
            update.allowances.push((*who, before.clone()));
            match before {
                None => drop(self.allowances.remove(*who)),
                Some(before) => self.allowances.insert(before),
            }
        }
        let mut decisions = Vec::new();
        if !update.allowances.is_empty() {
            decisions = self.settle();
            for (who, before) in &update.allowances {
                let (kind, text) = match (before, self.exempted(*who)) {
                    (Some(before), _) => {
                        (ChangeKind::Restored, format!("{who} is exempt {}", for_long(before.until, at)))
                    }
                    (None, None) => (ChangeKind::Removed, no_longer_exempt(*who)),
                    (None, Some(by)) => (ChangeKind::Removed, still_exempt_by(*who, &by)),
                };
                report.add(kind, || text);
            }
            for decision in &decisions {
                report.add(ChangeKind::Lifted, || named(decision.ban()));
            }
        }
        let (mut last, mut replaced) = (BTreeMap::<(Offender, Arc<str>), Decision>::new(), BTreeMap::new());
        for item in items() {
            let Some((decision, now)) = self.put_back_ban(item, at, report) else { continue };
            let key = (decision.ban().offender, Arc::clone(&decision.ban().jail));
            if let Some(now) = now {
                replaced.entry(key.clone()).or_insert(now);
            }
            last.insert(key, decision);
        }
        for decision in last.values() {
            let (kind, text) = match decision {
                Decision::Ban(ban) => (ChangeKind::Restored, is_banned(ban, at)),
                Decision::Unban(ban) => (ChangeKind::Lifted, named(ban)),
            };
            report.add(kind, || text);
        }
        // Those that made room end here, and have their place in the history.
        let written = decisions.iter().cloned().chain(replaced.into_values().map(Decision::Unban));
        update.decisions = Arc::new(written.chain(last.values().cloned()).collect());
        decisions.extend(last.into_values());
        (decisions, update)
    }

    /// Brings about what was before; what is to be done for it, and the other ban that makes room.
    fn put_back_ban(
        &mut self,
        item: &UndoItem,
        at: Timestamp,
        report: &mut ChangeReport,
    ) -> Option<(Decision, Option<Ban>)> {
        let detector = self.engine.detector();
        let (before, is_lifted) = match item {
            UndoItem::Allowance(..) => return None,
            UndoItem::NoBan(who, jail) => {
                let lifted = detector.unban_from(*who, jail);
                if lifted.is_none() {
                    report.add(ChangeKind::Over, || format!("{who} ({jail}) is over"));
                }
                return lifted.map(|lifted| (lifted, None));
            }
            UndoItem::Replaced(before) => (before, false),
            UndoItem::Lifted(before) => (before, true),
        };
        let known = detector.bans_on(before.offender).find(|ban| ban.jail == before.jail).cloned();
        // Its jail may have banned it again since.
        let outlasts = |ban: &Ban| outlasts(before.until, ban.until) != ChangeKind::Extended;
        if is_lifted && known.as_ref().is_some_and(outlasts) {
            report.add(ChangeKind::Unchanged, || named(before));
            return None;
        }
        match detector.reinstate(Ban::clone(before), at) {
            Ok(ban) => {
                let other = known.filter(|known| known.since != ban.since);
                Some((Decision::Ban(ban), other))
            }
            Err(NotReinstated::Over) => {
                report.add(ChangeKind::Over, || format!("{} is over by now", named(before)));
                None
            }
            Err(NotReinstated::Exempt(by)) => {
                let protects = self.loaded.config.detection.protect_logins;
                let by = self.allowances.say(by, protects);
                report.add(ChangeKind::Exempt, || format!("{} stays lifted: {by}", named(before)));
                None
            }
        }
    }
}

/// A command, for people: its age, and how much it changed.
fn said(step: &UndoStep, at: Timestamp) -> String {
    let changes =
        step.changes().map(|changes| format!(" ({})", count(changes as u64, "change"))).unwrap_or_default();
    format!("`{}` of {} ago{changes}", step.command, at.since(step.at))
}

/// That nothing of a command can be taken back, because of exemptions.
fn still_exempt(said: &str, report: &ChangeReport) -> String {
    let exempt = report.of(ChangeKind::Exempt);
    let note = report.notes.iter().find(|note| note.kind == ChangeKind::Exempt);
    let first = note.map_or("", |note| note.text.as_str());
    let (bans, more) = (count(exempt, "ban"), if exempt > 1 { ", for example" } else { "" });
    format!(
        "{said} lifted {bans} of addresses that are still exempt{more}: {first}. End the exemption first (and \
         `banstream reload`); `undo --force` gives this command up, for the one before it"
    )
}
