//! The connection of a daemon to its fleet, as a task of its own.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::config::Fleet;
use crate::daemon::inbox::Input;
use crate::fleet::outbox::NoticeOutbox;

/// The connection of a daemon to its fleet.
#[cfg_attr(not(feature = "fleet"), allow(dead_code, reason = "there is none"))]
pub(in crate::daemon) struct FleetLink {
    fleet: Option<Arc<Fleet>>,
    outbox: NoticeOutbox,
    inbox: mpsc::Sender<Input>,
    tasks: Vec<JoinHandle<()>>,
}

impl FleetLink {
    /// None yet.
    pub(in crate::daemon) fn new(outbox: NoticeOutbox, inbox: mpsc::Sender<Input>) -> Self {
        Self { fleet: None, outbox, inbox, tasks: Vec::new() }
    }

    /// Connects as the configuration says, if that is another way than before.
    pub(in crate::daemon) fn restart(&mut self, fleet: Option<&Arc<Fleet>>) {
        if self.fleet.as_ref() == fleet {
            return;
        }
        self.tasks.drain(..).for_each(|task| task.abort());
        self.fleet = fleet.cloned();
        #[cfg(feature = "fleet")]
        if let Some(fleet) = fleet {
            let (news, mut heard) = mpsc::channel(4);
            let inbox = self.inbox.clone();
            let link =
                crate::fleet::link::run(Arc::clone(fleet), self.outbox.clone(), news, crate::daemon::now);
            self.tasks.push(tokio::spawn(link));
            self.tasks.push(tokio::spawn(async move {
                while let Some(news) = heard.recv().await {
                    if inbox.send(Input::Fleet(news)).await.is_err() {
                        return;
                    }
                }
            }));
        }
    }
}

impl Drop for FleetLink {
    fn drop(&mut self) {
        self.tasks.drain(..).for_each(|task| task.abort());
    }
}
