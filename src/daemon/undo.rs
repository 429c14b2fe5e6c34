//! What the last commands of operators have changed, so that `undo` can take them back.
//!
//! It is kept in memory, and what it tells the ledger is there after a restart. It knows what there was before, and nothing
//! of how that is put back.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::model::{Span, Timestamp};
use crate::store::{UNDOABLE, UndoItem, UndoStep, UndoUpdate, shift_page_back};

/// The last commands that changed something.
#[derive(Default)]
pub(super) struct UndoLog {
    /// The latest at the end, each with the list that it took, in pages.
    steps: VecDeque<(Option<u64>, UndoStep)>,
    /// The command that came last, if it changed nothing.
    idle: Option<IdleCommand>,
    /// What reloads have lifted that are on trial, and the numbers of these steps.
    trial: Vec<(i64, Arc<Vec<UndoItem>>)>,
    /// What the ledger does not know yet.
    updates: Vec<UndoUpdate>,
    /// The number of the last step.
    last: i64,
}

/// A command that changed nothing that could be taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IdleCommand {
    pub(super) at: Timestamp,
    pub(super) command: String,
    /// What it did, for people.
    pub(super) what: &'static str,
}

/// How many commands are remembered, and how many of their changes all in all: 56 bytes each.
const MOST_STEPS: usize = 100;
const MOST_ITEMS: usize = 1_000_000;
/// The names of changes that no command on bans has made: a reload, a restart with other settings, and a change of a file
/// of exemptions or of this host's addresses.
pub(super) const RELOAD: &str = "reload";
pub(super) const START: &str = "restart";
pub(super) const EXEMPTIONS: &str = "change of exempt addresses";
const LIFTING: [&str; 3] = [RELOAD, START, EXEMPTIONS];

/// Until when a command is taken back without asking.
pub(super) const RECENT: Span = Span::from_secs(10 * 60);

impl UndoLog {
    /// What the ledger remembers.
    pub(super) fn new(steps: Vec<UndoStep>) -> Self {
        let last = steps.iter().map(|step| step.id).max().unwrap_or_default();
        Self { steps: steps.into_iter().map(|step| (None, step)).collect(), last, ..Self::default() }
    }

    /// Remembers what a command, or a page of its list, has changed.
    pub(super) fn add(&mut self, list: Option<u64>, at: Timestamp, command: String, items: Vec<UndoItem>) {
        let _ = self.add_bounded(list, at, command, items, MOST_ITEMS);
    }

    /// Remembers what was lifted because the configuration, a file of exemptions or this host has changed. If that is
    /// nothing, it is not the last command.
    pub(super) fn add_lifted(&mut self, at: Timestamp, what: &str, items: Vec<UndoItem>) {
        if !items.is_empty() {
            self.add(None, at, what.to_owned(), items);
        }
    }

    /// Remembers what a reload has lifted. One that has lifted nothing is the last command all the same; but not behind
    /// a change of exemptions whose bans can come back, since it takes a reload to end those.
    pub(super) fn add_reload(&mut self, at: Timestamp, items: Vec<UndoItem>) {
        let is_behind_lifts = self.idle.is_none()
            && self.steps.back().is_some_and(|(_, step)| LIFTING.contains(&&*step.command));
        if items.is_empty() && !is_behind_lifts && !self.steps.is_empty() {
            self.idle = Some(IdleCommand { at, command: RELOAD.to_owned(), what: "lifted no ban" });
        }
        self.add_lifted(at, RELOAD, items);
    }

    fn add_bounded(
        &mut self,
        list: Option<u64>,
        at: Timestamp,
        command: String,
        items: Vec<UndoItem>,
        most: usize,
    ) -> Option<(i64, Arc<Vec<UndoItem>>)> {
        self.forget_before(at);
        let known = self.steps.iter().position(|(of, _)| list.is_some() && *of == list);
        if items.is_empty() {
            if known.is_none() {
                self.idle = Some(IdleCommand { at, command, what: "changed nothing" });
            }
            return None;
        }
        self.idle = None;
        let mut step = known.and_then(|at| self.steps.remove(at)).map_or_else(
            || {
                self.last += 1;
                UndoStep { id: self.last, at, command: command.into(), pages: Some(Vec::new()) }
            },
            |(_, step)| step,
        );
        step.at = at;
        let page = Arc::new(items);
        // The others make room, the oldest first.
        let mut room = most.checked_sub(step.changes().unwrap_or_default() + page.len());
        if room.is_none() {
            step.pages = None;
            room = Some(most);
        }
        let items = step.pages.as_mut().map(|pages| {
            pages.push(Arc::clone(&page));
            Arc::clone(&page)
        });
        while self.steps.iter().filter_map(|(_, step)| step.changes()).sum::<usize>()
            > room.unwrap_or_default()
            || self.steps.len() >= MOST_STEPS
        {
            self.forget_oldest();
        }
        let (id, command) = (step.id, Arc::clone(&step.command));
        self.updates.push(UndoUpdate::Page { step: id, at, command, items });
        self.steps.push_back((list, step));
        Some((id, page))
    }

    /// The same of a reload that is on trial: a rollback brings that back, however many commands come meanwhile.
    pub(super) fn add_trial(&mut self, at: Timestamp, items: Vec<UndoItem>) {
        if items.is_empty() {
            return self.add_reload(at, items);
        }
        let added = self.add_bounded(None, at, RELOAD.to_owned(), items, MOST_ITEMS);
        self.trial.extend(added);
    }

    /// What is on trial stays.
    pub(super) fn end_trial(&mut self) {
        self.trial.clear();
    }

    /// What is on trial is taken back: what it has lifted, in order.
    pub(super) fn take_trial(&mut self) -> Vec<Arc<Vec<UndoItem>>> {
        let trial = std::mem::take(&mut self.trial);
        for (id, _) in &trial {
            self.forget(|step| step.id == *id);
        }
        trial.into_iter().map(|(_, page)| page).collect()
    }

    /// Of what is on trial, a rollback does not bring these back: an operator has lifted them meanwhile.
    pub(super) fn leave_lifted(&mut self, is_lifted: impl Fn(&UndoItem) -> bool) {
        for (_, page) in &mut self.trial {
            if page.iter().any(&is_lifted) {
                Arc::make_mut(page).retain(|item| !is_lifted(item));
            }
        }
    }

    /// The latest.
    pub(super) fn latest(&mut self, now: Timestamp) -> Option<&UndoStep> {
        self.forget_before(now);
        self.steps.back().map(|(_, step)| step)
    }

    /// All, the latest first.
    pub(super) fn steps(&mut self, now: Timestamp) -> impl Iterator<Item = &UndoStep> {
        self.forget_before(now);
        self.steps.iter().rev().map(|(_, step)| step)
    }

    /// The command that came after the latest and changed nothing, if one did.
    pub(super) fn idle(&self) -> Option<&IdleCommand> {
        self.idle.as_ref()
    }

    /// Takes out the latest.
    pub(super) fn pop(&mut self) {
        self.idle = None;
        if let Some((_, step)) = self.steps.pop_back() {
            self.updates.push(UndoUpdate::Forgotten(step.id));
        }
    }

    fn forget(&mut self, is_it: impl Fn(&UndoStep) -> bool) {
        let (gone, kept) = std::mem::take(&mut self.steps).into_iter().partition(|(_, step)| is_it(step));
        self.steps = kept;
        let gone: VecDeque<(Option<u64>, UndoStep)> = gone;
        self.updates.extend(gone.iter().map(|(_, step)| UndoUpdate::Forgotten(step.id)));
    }

    fn forget_oldest(&mut self) {
        if let Some((_, step)) = self.steps.pop_front() {
            self.updates.push(UndoUpdate::Forgotten(step.id));
        }
    }

    fn forget_before(&mut self, now: Timestamp) {
        while self.steps.front().is_some_and(|(_, step)| now.since(step.at) > UNDOABLE) {
            self.forget_oldest();
        }
    }

    /// What the ledger is to know, since this was last asked.
    pub(super) fn take_updates(&mut self) -> Vec<UndoUpdate> {
        std::mem::take(&mut self.updates)
    }

    /// All that the ledger is to know.
    pub(super) fn whole(&mut self) -> Vec<UndoUpdate> {
        self.updates.clear();
        self.steps.iter().flat_map(|(_, step)| step.updates()).collect()
    }

    /// Dates all earlier by this much.
    pub(super) fn shift_back(&mut self, by: Span) {
        self.steps.iter_mut().for_each(|(_, step)| step.shift_back(by));
        self.idle.iter_mut().for_each(|idle| idle.at = idle.at - by);
        self.trial.iter_mut().for_each(|(_, page)| shift_page_back(page, by));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store;

    const HOUR: i64 = 60 * 60;

    fn items(number: usize) -> Vec<UndoItem> {
        let none = || UndoItem::Allowance("192.0.2.1".parse().unwrap(), None);
        std::iter::repeat_with(none).take(number).collect()
    }

    /// Adds these commands, by their lists, hours and numbers of items; those that are taken back at an hour, and how many
    /// items of each are left. The ledger, told each, knows the same.
    #[track_caller]
    fn check(added: &[(Option<u64>, i64, usize)], hour: i64, want: &[(&str, Option<usize>)]) {
        let directory = tempfile::tempdir().unwrap();
        let limits = crate::config::Retention {
            keep: Span::from_secs(1_000_000),
            max_rows: std::num::NonZeroU32::new(1000).unwrap(),
        };
        let mut ledger = store::Ledger::open(directory.path(), limits).unwrap();
        let mut log = UndoLog::default();
        for (nth, (list, hour, number)) in added.iter().enumerate() {
            let at = Timestamp::from_secs(hour * HOUR);
            let _ = log.add_bounded(*list, at, nth.to_string(), items(*number), 10);
            let update = store::LedgerUpdate { undo: log.take_updates(), ..Default::default() };
            ledger.write(&[update], at).unwrap();
        }
        let now = Timestamp::from_secs(hour * HOUR);
        let remembered = ledger.memory(&Default::default()).unwrap().undo;
        for mut log in [log, UndoLog::new(remembered)] {
            let taken = std::iter::from_fn(|| {
                let step = log.latest(now)?;
                let taken = (step.command.to_string(), step.changes());
                log.pop();
                Some(taken)
            });
            let taken: Vec<_> = taken.collect();
            let taken: Vec<_> = taken.iter().map(|(command, changes)| (command.as_str(), *changes)).collect();
            assert_eq!(taken, want);
        }
    }

    #[test]
    fn the_latest_is_the_first_to_be_taken_back() {
        check(&[(None, 1, 1), (None, 2, 2), (None, 2, 0)], 3, &[("1", Some(2)), ("0", Some(1))]);
    }

    #[test]
    fn a_day_later_it_is_forgotten() {
        check(&[(None, 1, 1), (None, 2, 2)], 25, &[("1", Some(2)), ("0", Some(1))]);
        check(&[(None, 1, 1), (None, 2, 2)], 26, &[("1", Some(2))]);
        check(&[(None, 1, 1), (None, 26, 2)], 26, &[("1", Some(2))]);
    }

    #[test]
    fn the_pages_of_a_list_are_one_command() {
        let pages = [(Some(7), 1, 3), (None, 1, 1), (Some(7), 2, 2), (Some(8), 2, 1)];
        check(&pages, 2, &[("3", Some(1)), ("0", Some(5)), ("1", Some(1))]);
    }

    #[test]
    fn the_oldest_make_room_and_what_is_too_large_says_so() {
        check(&[(None, 1, 4), (None, 1, 4), (None, 1, 4)], 1, &[("2", Some(4)), ("1", Some(4))]);
        check(&[(None, 1, 4), (Some(7), 1, 6), (Some(7), 1, 5)], 1, &[("1", None), ("0", Some(4))]);
        check(&[(Some(7), 1, 6), (Some(7), 1, 5), (Some(7), 1, 5)], 1, &[("0", None)]);
        let mut log = UndoLog::default();
        (0..=MOST_STEPS).for_each(|_| log.add(None, Timestamp::default(), String::new(), items(1)));
        assert_eq!(log.steps.len(), MOST_STEPS);
    }

    #[test]
    fn what_changes_nothing_is_the_last_command_all_the_same() {
        let mut log = UndoLog::default();
        let at = Timestamp::default();
        log.add(Some(7), at, "list".to_owned(), items(1));
        log.add(Some(7), at, "list".to_owned(), items(0));
        log.add_lifted(at, EXEMPTIONS, items(0));
        let idle = |log: &UndoLog| log.idle().map(|idle| (idle.command.clone(), idle.what));
        assert_eq!(idle(&log), None, "a page, and no command at all");
        log.add(None, at, "ban".to_owned(), items(0));
        assert_eq!(idle(&log), Some(("ban".to_owned(), "changed nothing")));
        log.add_reload(at, items(0));
        assert_eq!(idle(&log), Some(("reload".to_owned(), "lifted no ban")));
        log.add(None, at, "unban".to_owned(), items(1));
        assert_eq!(idle(&log), None);
        log.add_reload(at, items(1));
        log.add_reload(at, items(0));
        assert_eq!(idle(&log), None, "it may have ended the exemption because of which bans were lifted");
        log.add(None, at, "unban".to_owned(), items(1));
        log.add_trial(at, items(0));
        assert_eq!(idle(&log), Some(("reload".to_owned(), "lifted no ban")));
    }

    #[test]
    fn a_rollback_brings_back_what_no_longer_can_be_undone() {
        let mut log = UndoLog::default();
        log.add_trial(Timestamp::default(), items(3));
        log.add_trial(Timestamp::default(), items(0));
        log.add_trial(Timestamp::default(), items(2));
        (0..MOST_STEPS - 1).for_each(|_| log.add(None, Timestamp::default(), String::new(), items(1)));
        let lens = |pages: Vec<Arc<Vec<UndoItem>>>| pages.iter().map(|page| page.len()).collect::<Vec<_>>();
        assert_eq!((lens(log.take_trial()), lens(log.take_trial())), (vec![3, 2], vec![]));
        assert_eq!(log.steps.len(), MOST_STEPS - 1, "and is not a command of its own any more");
        log.add_trial(Timestamp::default(), items(2));
        log.leave_lifted(|_| true);
        assert_eq!(lens(log.take_trial()), [0]);
    }
}
