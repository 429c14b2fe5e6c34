//! What the last commands of operators have changed, so that `undo` can take them back.
//!
//! It is kept in memory, for a day: a restart forgets it. It knows what there was before, and nothing of how that is put
//! back.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::model::{Allowance, Ban, Offender, Span, Timestamp};

/// The last commands that changed something, the latest at the end.
#[derive(Default)]
pub(super) struct UndoLog(VecDeque<UndoStep>);

/// One command.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct UndoStep {
    /// Which list it took, in pages.
    list: Option<u64>,
    /// When it began.
    pub(super) at: Timestamp,
    /// As an operator would write it.
    pub(super) command: String,
    /// What it changed, in order; `None` if that was too much to remember.
    pub(super) items: Option<Vec<UndoItem>>,
}

/// What there was before a change.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum UndoItem {
    /// No ban of this jail on this offender.
    NoBan(Offender, Arc<str>),
    /// This ban, which was replaced.
    Replaced(Box<Ban>),
    /// This ban, which was lifted.
    Lifted(Box<Ban>),
    /// This exemption, or none.
    Allowance(Offender, Option<Box<Allowance>>),
}

/// How many commands are remembered, and how many of their changes all in all: 40 bytes each, or 150 where a ban was
/// lifted or replaced.
const MOST_STEPS: usize = 100;
const MOST_ITEMS: usize = 1_000_000;
/// For how long they are remembered.
const DAY: Span = Span::from_secs(24 * 60 * 60);

impl UndoLog {
    /// Remembers what a command, or a page of its list, has changed.
    pub(super) fn add(&mut self, list: Option<u64>, at: Timestamp, command: String, items: Vec<UndoItem>) {
        self.add_bounded(list, at, command, items, MOST_ITEMS);
    }

    fn add_bounded(
        &mut self,
        list: Option<u64>,
        at: Timestamp,
        command: String,
        items: Vec<UndoItem>,
        most: usize,
    ) {
        if items.is_empty() {
            return;
        }
        self.forget_before(at);
        let known = self.0.iter().position(|step| list.is_some() && step.list == list);
        let mut step = known.and_then(|at| self.0.remove(at)).unwrap_or_else(|| UndoStep {
            list,
            at,
            command,
            items: Some(Vec::new()),
        });
        if let Some(known) = &mut step.items {
            known.extend(items);
        }
        // The others make room, the oldest first.
        let size = |step: &UndoStep| step.items.as_ref().map_or(0, Vec::len);
        let mut room = most.checked_sub(size(&step));
        if room.is_none() {
            step.items = None;
            room = Some(most);
        }
        while self.0.iter().map(size).sum::<usize>() > room.unwrap_or_default() || self.0.len() >= MOST_STEPS
        {
            self.0.pop_front();
        }
        self.0.push_back(step);
    }

    /// Takes out the latest.
    pub(super) fn pop(&mut self, now: Timestamp) -> Option<UndoStep> {
        self.forget_before(now);
        self.0.pop_back()
    }

    fn forget_before(&mut self, now: Timestamp) {
        while self.0.front().is_some_and(|step| now.since(step.at) > DAY) {
            self.0.pop_front();
        }
    }

    /// Dates all earlier by this much.
    pub(super) fn shift_back(&mut self, by: Span) {
        for step in &mut self.0 {
            step.at = step.at - by;
            for item in step.items.iter_mut().flatten() {
                match item {
                    UndoItem::Replaced(ban) | UndoItem::Lifted(ban) => ban.shift_back(by),
                    UndoItem::Allowance(_, Some(allowance)) => allowance.shift_back(by),
                    UndoItem::NoBan(..) | UndoItem::Allowance(_, None) => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 60 * 60;

    /// Adds these commands, by their lists, hours and numbers of items; those that are taken back at an hour, and how many
    /// items of each are left.
    #[track_caller]
    fn check(added: &[(Option<u64>, i64, usize)], hour: i64, want: &[(&str, Option<usize>)]) {
        let mut log = UndoLog::default();
        for (nth, (list, hour, items)) in added.iter().enumerate() {
            let none = || UndoItem::Allowance("192.0.2.1".parse().unwrap(), None);
            let items = std::iter::repeat_with(none).take(*items).collect();
            log.add_bounded(*list, Timestamp::from_secs(hour * HOUR), nth.to_string(), items, 10);
        }
        let steps: Vec<UndoStep> =
            std::iter::from_fn(|| log.pop(Timestamp::from_secs(hour * HOUR))).collect();
        let got: Vec<_> =
            steps.iter().map(|step| (step.command.as_str(), step.items.as_ref().map(Vec::len))).collect();
        assert_eq!(got, want);
    }

    #[test]
    fn the_latest_is_the_first_to_be_taken_back() {
        check(&[(None, 1, 1), (None, 2, 2), (None, 2, 0)], 3, &[("1", Some(2)), ("0", Some(1))]);
    }

    #[test]
    fn a_day_later_it_is_forgotten() {
        check(&[(None, 1, 1), (None, 2, 2)], 25, &[("1", Some(2)), ("0", Some(1))]);
        check(&[(None, 1, 1), (None, 2, 2)], 26, &[("1", Some(2))]);
    }

    #[test]
    fn the_pages_of_a_list_are_one_command() {
        let pages = [(Some(7), 1, 3), (None, 1, 1), (Some(7), 1, 2), (Some(8), 1, 1)];
        check(&pages, 1, &[("3", Some(1)), ("0", Some(5)), ("1", Some(1))]);
    }

    #[test]
    fn the_oldest_make_room_and_what_is_too_large_says_so() {
        check(&[(None, 1, 4), (None, 1, 4), (None, 1, 4)], 1, &[("2", Some(4)), ("1", Some(4))]);
        check(&[(None, 1, 4), (Some(7), 1, 6), (Some(7), 1, 5)], 1, &[("1", None), ("0", Some(4))]);
        let mut log = UndoLog::default();
        (0..=MOST_STEPS).for_each(|_| {
            let item = UndoItem::Allowance("192.0.2.1".parse().unwrap(), None);
            log.add(None, Timestamp::default(), String::new(), vec![item]);
        });
        assert_eq!(log.0.len(), MOST_STEPS);
    }
}
