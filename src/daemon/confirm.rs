//! Answers operators once what they asked for is in the kernel and in the ledger, or says that it is not.
//!
//! A page of a list waits for as long as that takes, so that a client that sends more of them goes no faster than these. A
//! single command waits for a while: an operator who bans while the disk hangs is to learn that soon.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::enforcer::{KernelLag, Order};
use super::hub::Hub;
use crate::control::{ChangeKind, ChangeReport, Reply};
use crate::model::{Decision, count};
use crate::store::LedgerUpdate;

/// How long a single command waits. It is less than after what time receipts are given without the ledger.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Who waits for an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum AnswerTo {
    /// Somebody who gave one command.
    Command,
    /// A client that sends pages.
    Pages,
}

/// What became of what was ordered.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Confirmation {
    /// What the kernel has not taken of it.
    pub(super) lag: Option<KernelLag>,
    /// The last error of enforcement.
    pub(super) enforcement: Option<String>,
    /// Why the ledger has not got it, if so.
    pub(super) ledger: Option<String>,
}

impl Confirmation {
    /// What it means that the ledger has not got it, for people.
    pub(super) fn unwritten(&self) -> Option<String> {
        let why = self.ledger.as_ref()?;
        Some(format!("the ledger cannot be written ({why}); a restart may take this back"))
    }

    /// Says in the report of a change what it does not have yet: of so many decisions, and so many changes of the ledger.
    pub(super) fn tell(self, report: &mut ChangeReport, decisions: u64, rows: u64) {
        let unwritten = self.unwritten();
        if let Some(KernelLag { decisions: behind, why }) = self.lag {
            let why = why.or(self.enforcement).unwrap_or_else(|| "the kernel does not respond".to_owned());
            let what = match (behind, decisions) {
                (1, 1) => "this is NOT enforced".to_owned(),
                _ if behind == decisions => "these are NOT enforced".to_owned(),
                _ => format!("{behind} of {} NOT enforced", count(decisions, "change")),
            };
            report.count(ChangeKind::Unenforced, behind);
            report.note(ChangeKind::Unenforced, || format!("{what}: {why}"));
        }
        if let Some(text) = unwritten {
            report.count(ChangeKind::Unwritten, rows.max(1));
            report.note(ChangeKind::Unwritten, || text);
        }
    }
}

impl Hub {
    /// Replies with this report once what was ordered is in the kernel and in the ledger, and says in it what is not.
    pub(super) fn reply_changed(
        &mut self,
        waiting: AnswerTo,
        update: LedgerUpdate,
        reply: oneshot::Sender<Reply>,
        mut report: ChangeReport,
    ) {
        let decisions = update.decisions.len() as u64;
        let rows = decisions + update.allowances.len() as u64;
        self.reply_once_done(waiting, update, reply, move |confirmation| {
            confirmation.tell(&mut report, decisions, rows);
            Reply::Changed(report)
        });
    }

    /// Replies once what was ordered is in the kernel and in the ledger, or that has taken too long.
    pub(super) fn reply_once_done(
        &mut self,
        waiting: AnswerTo,
        update: LedgerUpdate,
        reply: oneshot::Sender<Reply>,
        answer: impl FnOnce(Confirmation) -> Reply + Send + 'static,
    ) {
        let (receipt, written) = oneshot::channel();
        let (report, tried) = oneshot::channel();
        let decisions = Arc::clone(&update.decisions);
        self.order(Order::Report(Arc::clone(&decisions), Box::new(move |lag| _ = report.send(lag))));
        let is_left_out = self.write(update, Some(receipt));
        let health = self.health.clone();
        self.runtime.spawn(async move {
            // What ends without them ends with the daemon.
            let (lag, written) = match waiting {
                AnswerTo::Pages => (tried.await.unwrap_or_default(), written.await.is_ok()),
                AnswerTo::Command => {
                    let (tried, written) = tokio::join!(
                        tokio::time::timeout(PATIENCE, tried),
                        tokio::time::timeout(PATIENCE, written)
                    );
                    (tried.map_or_else(|_| late(&decisions), Result::unwrap_or_default), written.is_ok())
                }
            };
            let state = health.read();
            let ledger = match state.ledger.error {
                Some(error) => Some(error),
                None if is_left_out => Some("too much waits for it".to_owned()),
                None if !written => Some("the disk does not respond".to_owned()),
                None => None,
            };
            let lag = lag.or_else(|| state.watched.and_then(|fault| KernelLag::of(&decisions, Some(fault))));
            reply.send(answer(Confirmation { lag, enforcement: state.enforcement.error, ledger }))
        });
    }
}

/// What the enforcer has not said in time that it tried.
fn late(decisions: &[Decision]) -> Option<KernelLag> {
    KernelLag::of(decisions, Some("the kernel does not respond".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_ledger_has_not_got_is_counted_by_bans_and_not_by_pages() {
        let mut sum = ChangeReport::default();
        for rows in [1000, 1000, 0] {
            let ledger = Some("disk full".to_owned());
            let mut report = ChangeReport::default();
            Confirmation { ledger, ..Confirmation::default() }.tell(&mut report, rows, rows);
            sum.join(report);
        }
        assert_eq!((sum.of(ChangeKind::Unwritten), sum.changed), (2001, 0));
    }
}
