//! Carries out what operators change: bans and exemptions.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use super::confirm::AnswerTo;
use super::enforcer::Order;
use super::hub::Hub;
use super::now;
use crate::config::{is_jail_name, widest};
use crate::control::{BanLength, ChangeKind, ChangePage, ChangeReport, ChangeRequest, Reply, Target};
use crate::detect::{Detector, Exemption, MANUAL, TakeOver, manual};
use crate::model::{Allowance, Ban, BanOrigin, Decision, Mode, Offender, Prefixes, Span, Timestamp, count};
use crate::store::{LedgerUpdate, UndoItem};

/// A login is recent for at least as long.
const DAY: Span = Span::from_secs(24 * 60 * 60);
/// How many bans a refusal names.
const MOST_NAMED: usize = 5;

/// The result of a page of changes.
#[derive(Default)]
struct PageOutcome {
    report: ChangeReport,
    decisions: Vec<Decision>,
    allowances: Vec<(Offender, Option<Allowance>)>,
    /// Of which exemptions were to be removed, and whether there was one.
    disallowed: Vec<(Offender, bool)>,
    /// Elements that the kernel may have and we do not know.
    unknown: Vec<Decision>,
    before: Vec<UndoItem>,
}

impl PageOutcome {
    fn lift(&mut self, mut lifted: Vec<Decision>) {
        lifted.sort_unstable_by_key(|decision| decision.ban().offender);
        let bans = lifted.iter().map(Decision::ban);
        bans.clone().for_each(|ban| self.report.add(ChangeKind::Lifted, || named(ban)));
        self.before.extend(bans.map(|ban| UndoItem::Lifted(ban.clone())));
        // There may be a million.
        if self.decisions.is_empty() {
            self.decisions = lifted;
        } else {
            self.decisions.append(&mut lifted);
        }
    }
}

impl Hub {
    /// Carries out a page of changes, and replies once they are in the kernel and in the ledger.
    pub(super) fn change(&mut self, page: &ChangePage, reply: oneshot::Sender<Reply>) {
        let at = now();
        let mut outcome = PageOutcome::default();
        let mut done = Vec::with_capacity(page.changes.len());
        for change in &page.changes {
            let refused = outcome.report.of(ChangeKind::Refused);
            self.change_one(page, change, at, &mut outcome);
            if outcome.report.of(ChangeKind::Refused) == refused {
                done.push(change);
            }
        }
        self.leave_lifted(&done);
        self.settle_allowances(&mut outcome);
        for (who, was_exempt) in std::mem::take(&mut outcome.disallowed) {
            let still = self.exempted(who);
            let (kind, text) = match (was_exempt, still) {
                (true, None) => (ChangeKind::Removed, no_longer_exempt(who)),
                (true, Some(by)) => (ChangeKind::Removed, still_exempt(who, &by)),
                (false, None) => (ChangeKind::Absent, format!("{who} was not exempt")),
                (false, Some(by)) => {
                    (ChangeKind::Absent, format!("{who} has no exemption of its own, and is exempt: {by}"))
                }
            };
            outcome.report.add(kind, || text);
        }
        let Some(first) = page.changes.first() else {
            return drop(reply.send(Reply::Changed(outcome.report)));
        };
        let command = command(first, page.changes.len() - 1, page.list);
        self.undo.add(page.list, at, command, std::mem::take(&mut outcome.before));
        let PageOutcome { report, decisions, allowances, unknown, .. } = outcome;
        let decisions = Arc::new(decisions);
        match page.list {
            Some(_) => self.record_page(&decisions, |ban| ban.since == at, &report),
            None => self.record(&decisions, |ban| ban.since == at),
        }
        self.apply(&decisions);
        if !unknown.is_empty() {
            self.order(Order::Apply(unknown.into(), Instant::now()));
        }
        let update = LedgerUpdate { decisions, allowances, ..LedgerUpdate::default() };
        let waiting = if page.list.is_some() { AnswerTo::Pages } else { AnswerTo::Command };
        // Of several, the others are done.
        let is_one = page.list.is_none() && page.changes.len() == 1;
        let refused = report.notes.iter().find(|note| is_one && note.kind == ChangeKind::Refused);
        if let Some(refused) = refused {
            self.write(update, None);
            // The client may have hung up; that is its business.
            return drop(reply.send(Reply::Refused { error: refused.text.clone() }));
        }
        self.reply_changed(waiting, update, reply, report);
    }

    fn change_one(
        &mut self,
        page: &ChangePage,
        change: &ChangeRequest,
        at: Timestamp,
        outcome: &mut PageOutcome,
    ) {
        match change {
            ChangeRequest::Ban { address, length, reason } => {
                if let Err(error) = self.ban_by_hand(page, *address, *length, reason, at, outcome) {
                    outcome.report.add(ChangeKind::Refused, || error);
                }
            }
            ChangeRequest::Restore(ban) => {
                if let Err(error) = self.restore_ban(page, ban, at, outcome) {
                    outcome.report.add(ChangeKind::Refused, || error);
                }
            }
            ChangeRequest::Unban(target) => self.unban(target, page.list.is_some(), outcome),
            ChangeRequest::Allow { address, length, comment } => {
                if let Err(error) = self.allow(page, *address, *length, comment, at, outcome) {
                    outcome.report.add(ChangeKind::Refused, || error);
                }
            }
            ChangeRequest::Disallow { address } => {
                let before = self.allowances.remove(*address);
                outcome.disallowed.push((*address, before.is_some()));
                if let Some(before) = before {
                    log::info!(address:% = address; "removed the exemption of {address}");
                    outcome.before.push(UndoItem::Allowance(*address, Some(Box::new(before))));
                    outcome.allowances.push((*address, None));
                }
            }
        }
    }

    fn ban_by_hand(
        &mut self,
        page: &ChangePage,
        who: Offender,
        length: Option<BanLength>,
        reason: &str,
        at: Timestamp,
        outcome: &mut PageOutcome,
    ) -> Result<(), String> {
        self.may_ban(page, who, MANUAL, at)?;
        let detector = self.engine.detector();
        let before = detector.bans_on(who).find(|ban| *ban.jail == *MANUAL).cloned();
        let (since, until) = match (length, &before) {
            (Some(BanLength(span)), _) => (at, span.map(|span| at + span)),
            (None, Some(before)) => (before.since, before.until),
            (None, None) => (at, None),
        };
        let old = before.as_ref().map_or("", |before| &*before.reason);
        let kept = if reason.is_empty() { old } else { reason };
        if length.is_none() && before.as_ref().is_some_and(|before| *before.reason == *kept) {
            let left = for_long(until, at);
            outcome.report.add(ChangeKind::Unchanged, || {
                format!("{who} is banned by hand already, {left}; `--for` or `--reason` changes that")
            });
            return Ok(());
        }
        let protects = self.loaded.config.detection.protect_logins;
        let ban = detector
            .ban(manual(who, since, until, kept))
            .map_err(|by| format!("{who} is exempt: {}", self.allowances.say(by, protects)))?;
        let (kind, mut text) = said(&ban, before.as_ref(), until, at);
        let host = Offender::behind(who.address(), self.loaded.config.detection.widths);
        if who.is_single() && host != who && before.is_none() {
            text += &format!("; jails ban {host}, which one host may own whole");
        }
        outcome.report.add(kind, || text);
        outcome.before.push(match before {
            Some(before) => UndoItem::Replaced(before),
            None => UndoItem::NoBan(who, Arc::clone(&ban.jail)),
        });
        outcome.decisions.push(Decision::Ban(ban));
        Ok(())
    }

    /// Bans as an exported list says. A ban of its jail that lasts as long stays as it is.
    fn restore_ban(
        &mut self,
        page: &ChangePage,
        ban: &Ban,
        at: Timestamp,
        outcome: &mut PageOutcome,
    ) -> Result<(), String> {
        let (who, jail) = (ban.offender, Arc::clone(&ban.jail));
        if !is_jail_name(&jail) {
            return Err(format!("{who}: `{jail}` is not a name of a jail"));
        }
        if ban.until.is_some_and(|until| until <= at) {
            outcome.report.add(ChangeKind::Over, || format!("{} is over by now", named(ban)));
            return Ok(());
        }
        self.may_ban(page, who, &jail, at)?;
        let detector = self.engine.detector();
        let known = detector.bans_on(who).find(|known| known.jail == jail).cloned();
        let taken = detector.take_over(ban.clone(), at);
        let kind = match taken.outcome {
            TakeOver::Exempt(by) => {
                let protects = self.loaded.config.detection.protect_logins;
                return Err(format!("{who} is exempt: {}", self.allowances.say(by, protects)));
            }
            TakeOver::Extended => ChangeKind::Extended,
            TakeOver::Covered => ChangeKind::Unchanged,
            TakeOver::New | TakeOver::Past => ChangeKind::New,
        };
        outcome.report.add(kind, || is_banned(&taken.ban, at));
        if taken.is_changed {
            outcome.before.push(match known {
                Some(known) => UndoItem::Replaced(known),
                None => UndoItem::NoBan(who, jail),
            });
            outcome.decisions.push(Decision::Ban(taken.ban));
        }
        Ok(())
    }

    /// Lets no rollback bring back what these changes lift.
    fn leave_lifted(&mut self, changes: &[&ChangeRequest]) {
        let (mut single, mut others) = (HashSet::new(), Vec::new());
        for change in changes {
            match change {
                ChangeRequest::Unban(Target::One(who)) => drop(single.insert(*who)),
                ChangeRequest::Unban(target) => others.push(target),
                _ => {}
            }
        }
        if single.is_empty() && others.is_empty() {
            return;
        }
        let is_among =
            |ban: &Ban| others.iter().any(|target| target.takes(ban)) || single.contains(&ban.offender);
        self.undo.leave_lifted(|item| matches!(item, UndoItem::Lifted(ban) if is_among(ban)));
    }

    /// Why this one cannot be banned, or not without `--force`.
    fn may_ban(&mut self, page: &ChangePage, who: Offender, jail: &str, at: Timestamp) -> Result<(), String> {
        // Before `--force` is spoken of: that does not help here.
        let protector = self.engine.detector().protector(who, jail);
        if let Some(by) = protector {
            let protects = self.loaded.config.detection.protect_logins;
            return Err(format!("{who} is exempt: {}", self.allowances.say(by, protects)));
        }
        if page.force { Ok(()) } else { self.is_safe_to_ban(page, who, at) }
    }

    /// What exempts this one from all jails, for people.
    pub(super) fn exempted(&mut self, who: Offender) -> Option<String> {
        let protects = self.loaded.config.detection.protect_logins;
        let by = self.engine.detector().protector(who, MANUAL)?;
        // One inside it does not exempt all of it.
        let is_all = !matches!(by, Exemption::Listed(member, _) if !member.contains(who));
        is_all.then(|| self.allowances.say(by, protects))
    }

    /// Why a ban on this one could shut out somebody who works here, if it could.
    fn is_safe_to_ban(&mut self, page: &ChangePage, who: Offender, at: Timestamp) -> Result<(), String> {
        let widest = widest(who);
        if who.prefix() < widest {
            return Err(format!("{who} is wider than /{widest}; `--force` bans it all the same"));
        }
        if let Some(operator) = page.operator.map(Offender::single)
            && who.contains(operator)
        {
            return Err(match who == operator {
                true => format!("you are logged in from {who}; `--force` bans it all the same"),
                false => {
                    format!("you are logged in from {operator} in {who}; `--force` bans it all the same")
                }
            });
        }
        let protects = self.loaded.config.detection.protect_logins;
        recent_login(self.engine.detector(), who, protects, at)
            .map_or(Ok(()), |login| Err(format!("{login}; `--force` bans it all the same")))
    }

    fn unban(&mut self, target: &Target, is_list: bool, outcome: &mut PageOutcome) {
        let detector = self.engine.detector();
        let lifted = match target {
            Target::One(who) => detector.unban_exactly(*who),
            Target::Of { address, jail } => detector.unban_from(*address, jail).into_iter().collect(),
            Target::Inside(who) if who.is_single() => detector.unban_exactly(*who),
            Target::Inside(who) => detector.unban(*who),
            Target::Jail(jail) => detector.unban_jail(jail),
            Target::All => detector.unban_all(),
        };
        let is_lifted = !lifted.is_empty();
        outcome.lift(lifted);
        let report = &mut outcome.report;
        match target {
            // To look for more takes long, and a list has many.
            Target::One(who) if !who.is_single() && !is_list => {
                let (times, inside): (u64, Vec<String>) = {
                    let mut bans: Vec<&Ban> = self.engine.detector().bans_inside(*who).collect();
                    bans.sort_by_key(|ban| (ban.offender, &ban.jail));
                    (bans.len() as u64, bans.iter().take(MOST_NAMED).map(|ban| named(ban)).collect())
                };
                report.count(ChangeKind::Inside, times);
                if times == 0 && !is_lifted {
                    self.not_banned(*who, outcome);
                } else if !is_lifted {
                    let more = times.saturating_sub(inside.len() as u64);
                    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
                    let bans = count(times, "ban");
                    report.add(ChangeKind::Refused, || {
                        format!(
                            "{who} is not banned itself; `--inside` lifts {bans} inside it: {}{more}",
                            inside.join(", ")
                        )
                    });
                } else {
                    inside.into_iter().for_each(|ban| report.note(ChangeKind::Inside, || ban));
                }
            }
            Target::Of { address, jail } if !is_lifted => {
                let others = self.jails_that_ban(*address);
                match self.unknown_jail(jail) {
                    Some(error) => report.add(ChangeKind::Refused, || error),
                    None if others.is_empty() => self.not_banned(*address, outcome),
                    None => report.add(ChangeKind::Absent, || {
                        format!("`{jail}` does not ban {address}; banned by {}", others.join(", "))
                    }),
                }
            }
            Target::Of { address, .. } => {
                let others = self.jails_that_ban(*address);
                if !others.is_empty() {
                    let who = format!("{address} stays banned by {}", others.join(", "));
                    report.add(ChangeKind::Unchanged, || who);
                }
            }
            Target::One(who) | Target::Inside(who) if !is_lifted => self.not_banned(*who, outcome),
            Target::Jail(jail) if !is_lifted => match self.unknown_jail(jail) {
                Some(error) => report.add(ChangeKind::Refused, || error),
                None => report.add(ChangeKind::Absent, || format!("no ban of `{jail}` is in force")),
            },
            Target::All if !is_lifted => report.add(ChangeKind::Absent, || "nobody is banned".to_owned()),
            _ => {}
        }
    }

    fn jails_that_ban(&mut self, who: Offender) -> Vec<String> {
        self.engine.detector().bans_on(who).map(|ban| ban.jail.to_string()).collect()
    }

    /// To an operator who lifts a ban that we do not know.
    fn not_banned(&mut self, who: Offender, outcome: &mut PageOutcome) {
        if let Some(wide) = self.engine.detector().bans_around(who).next() {
            let wide = wide.offender;
            return outcome
                .report
                .add(ChangeKind::Refused, || format!("{who} is banned as part of {wide}; unban {wide}"));
        }
        outcome.report.add(ChangeKind::Absent, || format!("{who} was not banned"));
        // The kernel may know one from before a ledger was lost.
        outcome.unknown.push(Decision::Unban(manual(who, now(), None, "")));
    }

    /// Protects an address or a prefix. Its bans are lifted once all of the page are protected.
    fn allow(
        &mut self,
        page: &ChangePage,
        who: Offender,
        length: Option<BanLength>,
        comment: &str,
        at: Timestamp,
        outcome: &mut PageOutcome,
    ) -> Result<(), String> {
        let widest = widest(who);
        if !page.force && who.prefix() < widest {
            return Err(format!("{who} is wider than /{widest}; `--force` exempts it all the same"));
        }
        let is_around = |ban: &&Ban| ban.offender != who && ban.kind == BanOrigin::Manual;
        if let Some(ban) = self.engine.detector().bans_around(who).find(is_around) {
            let wide = ban.offender;
            return Err(format!("{who} is banned as part of {wide}; unban {wide} first"));
        }
        let before = self.allowances.get(who).cloned();
        let (since, until) = match (length, &before) {
            (Some(BanLength(span)), _) => (at, span.map(|span| at + span)),
            (None, Some(before)) => (before.since, before.until),
            (None, None) => (at, None),
        };
        let old = before.as_ref().map_or("", |before| &*before.comment);
        let kept = if comment.is_empty() { old } else { comment };
        let allowance = Allowance { offender: who, since, until, comment: kept.into() };
        let left = until.map_or("until it is removed".to_owned(), |until| format!("for {}", until.since(at)));
        let (kind, what) = match &before {
            None => (ChangeKind::New, String::new()),
            Some(before) if *before == allowance => (ChangeKind::Unchanged, " already".to_owned()),
            Some(before) => {
                let kind = outlasts(until, before.until);
                (kind, replaced(kind, before.until, at, (old, kept), "comment"))
            }
        };
        outcome.report.add(kind, || match kind {
            ChangeKind::Unchanged | ChangeKind::Reworded => format!("{who} stays exempt {left}{what}"),
            _ => format!("exempted {who} {left}{what}"),
        });
        if kind != ChangeKind::Unchanged {
            if page.list.is_none() {
                log::info!(address:% = who; "{who} is exempt {}", allowance.until_when());
            }
            outcome.before.push(UndoItem::Allowance(who, before.map(Box::new)));
            outcome.allowances.push((who, Some(allowance.clone())));
            self.allowances.insert(allowance);
        }
        Ok(())
    }

    /// Goes on with what has changed of who is exempt, and lifts the bans of those who are since now, those by hand
    /// included.
    fn settle_allowances(&mut self, outcome: &mut PageOutcome) {
        if outcome.allowances.is_empty() {
            return;
        }
        let exempt =
            outcome.allowances.iter().filter_map(|(who, allowance)| allowance.as_ref().map(|_| (*who, ())));
        let exempt = Prefixes::new(exempt);
        let detector = self.engine.detector();
        let is_inside = |ban: &&Ban| {
            exempt.overlapping(ban.offender).is_some_and(|(member, ())| member.contains(ban.offender))
        };
        let inside: Vec<Offender> = detector.bans().filter(is_inside).map(|ban| ban.offender).collect();
        let lifted = inside.into_iter().flat_map(|who| detector.unban_exactly(who)).collect();
        outcome.lift(lifted);
        let lifted = self.settle();
        outcome.lift(lifted);
    }
}

/// Says that somebody logged in from there lately, if so.
pub(super) fn recent_login(
    detector: &Detector,
    who: Offender,
    protects: Span,
    at: Timestamp,
) -> Option<String> {
    let login = detector.login_from(who).filter(|login| at.since(*login) <= protects.max(DAY))?;
    Some(format!("somebody logged in from {who} {} ago", at.since(login)))
}

/// That an exemption has ended, and there is no other.
pub(super) fn no_longer_exempt(who: Offender) -> String {
    format!("{who} is no longer exempt")
}

/// That one has ended, and another holds.
pub(super) fn still_exempt(who: Offender, by: &str) -> String {
    format!("removed the exemption of {who}; it is still exempt: {by}")
}

/// A ban in few words.
pub(super) fn named(ban: &Ban) -> String {
    format!("{} ({})", ban.offender, ban.jail)
}

/// How much longer a ban lasts, for people.
pub(super) fn is_banned(ban: &Ban, at: Timestamp) -> String {
    format!("{} is banned {}{}", named(ban), for_long(ban.until, at), only_observed(ban))
}

/// What is behind all that is said of a ban, where no packet is dropped for it.
fn only_observed(ban: &Ban) -> &'static str {
    if ban.mode == Mode::Observe { "; it is only observed" } else { "" }
}

/// How much longer, for people.
pub(super) fn for_long(until: Option<Timestamp>, at: Timestamp) -> String {
    until.map_or("forever".to_owned(), |until| format!("for {} more", until.since(at)))
}

/// What it is to last until `until` for what lasted until `before`.
pub(super) fn outlasts(until: Option<Timestamp>, before: Option<Timestamp>) -> ChangeKind {
    let end = |until: Option<Timestamp>| until.unwrap_or(Timestamp::MAX);
    match end(until).cmp(&end(before)) {
        std::cmp::Ordering::Less => ChangeKind::Shortened,
        std::cmp::Ordering::Equal => ChangeKind::Reworded,
        std::cmp::Ordering::Greater => ChangeKind::Extended,
    }
}

/// What is said of a ban or an exemption in whose place another comes.
fn replaced(
    kind: ChangeKind,
    before: Option<Timestamp>,
    at: Timestamp,
    (old, new): (&str, &str),
    word: &str,
) -> String {
    let had =
        before.map_or("; it had no end".to_owned(), |before| format!("; it had {} left", before.since(at)));
    // What ends as before needs not be told when.
    let had = if kind == ChangeKind::Reworded { String::new() } else { had };
    let words = match (old, new) {
        ("", _) => String::new(),
        (old, new) if old == new => format!("; the {word} stays: {old}"),
        (old, _) => format!("; the {word} was: {old}"),
    };
    format!("{had}{words}")
}

/// The sentence for an operator about a ban by hand. It was to last until `asked`.
fn said(ban: &Ban, before: Option<&Ban>, asked: Option<Timestamp>, at: Timestamp) -> (ChangeKind, String) {
    let who = ban.offender;
    let mut long =
        ban.until.map_or("until it is unbanned".to_owned(), |until| format!("for {}", until.since(at)));
    if ban.until != asked {
        long += ", as long as another jail bans it";
    }
    let mut text = format!("banned {who} {long}");
    let mut kind = ChangeKind::New;
    if let Some(before) = before {
        kind = outlasts(ban.until, before.until);
        text = match kind {
            ChangeKind::Extended => format!("extended the ban on {who}: {long}"),
            ChangeKind::Shortened => format!("shortened the ban on {who}: {long}"),
            _ => format!("{who} stays banned {long}"),
        };
        text += &replaced(kind, before.until, at, (&before.reason, &ban.reason), "reason");
    }
    text += only_observed(ban);
    (kind, text)
}

/// The command that asks for this change and so many more, for people.
fn command(change: &ChangeRequest, more: usize, list: Option<u64>) -> String {
    let verb = match change {
        ChangeRequest::Ban { .. } | ChangeRequest::Restore(_) => "ban",
        ChangeRequest::Unban(_) => "unban",
        ChangeRequest::Allow { .. } => "allow",
        ChangeRequest::Disallow { .. } => "allow --remove",
    };
    let line = match change {
        _ if list.is_some() => return format!("{verb} --from"),
        ChangeRequest::Restore(ban) => format!("ban {}", ban.offender),
        ChangeRequest::Ban { address, .. }
        | ChangeRequest::Allow { address, .. }
        | ChangeRequest::Disallow { address } => {
            format!("{verb} {address}")
        }
        ChangeRequest::Unban(Target::One(who)) => format!("unban {who}"),
        ChangeRequest::Unban(Target::Of { address, jail }) => format!("unban {address} --jail {jail}"),
        ChangeRequest::Unban(Target::Inside(who)) => format!("unban {who} --inside"),
        ChangeRequest::Unban(Target::Jail(jail)) => format!("unban --jail {jail}"),
        ChangeRequest::Unban(Target::All) => "unban --all".to_owned(),
    };
    if more > 0 { format!("{line} and {more} more") } else { line }
}
