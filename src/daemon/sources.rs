//! The tasks that read sources. A source that fails is reported and does not stop the others; a missing journal is
//! tried again.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::mem;
use std::ops::ControlFlow;
use std::sync::{Arc, mpsc as threads};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::health::Health;
use super::inbox::Input;
use super::spawn;
use crate::config::Ingest;
use crate::config::load::Loaded;
use crate::entry::Format;
use crate::entry::records::Records;
use crate::input::journald::{Follower, Journal};
use crate::input::socket::{self, SocketFile};
use crate::input::{Batch, SourceError, ingest, stdin};

/// How soon to look again for a journal that is not there.
const AGAIN: Duration = Duration::from_secs(5);

/// The tasks that read.
pub(super) struct Sources {
    inbox: mpsc::Sender<Input>,
    /// Where the ingest socket is served.
    runtime: Handle,
    health: Health,
    /// Whether entries may be written to journald.
    heartbeats: bool,
    journals: Vec<RunningJournal>,
    /// How far each journal had been read when it was last looked into.
    positions: BTreeMap<Arc<str>, String>,
    /// How often the daemon has started since then.
    starts: BTreeMap<Arc<str>, u32>,
    ingest: Option<(SocketFile, oneshot::Sender<()>, tokio::task::JoinHandle<()>)>,
}

struct RunningJournal {
    settings: Journal,
    stop: threads::Sender<Infallible>,
    thread: JoinHandle<Option<String>>,
}

impl Sources {
    /// Nothing is read yet; a journal will be from after its position on.
    pub(super) fn new(
        inbox: mpsc::Sender<Input>,
        runtime: Handle,
        health: Health,
        positions: BTreeMap<Arc<str>, String>,
        starts: BTreeMap<Arc<str>, u32>,
        heartbeats: bool,
    ) -> Self {
        Self { inbox, runtime, health, heartbeats, journals: Vec::new(), positions, starts, ingest: None }
    }

    /// Starts what the configuration wants. What cannot be read is reported, and the others go on.
    pub(super) fn start(&mut self, loaded: &Loaded) -> anyhow::Result<()> {
        if let Some(Ingest { socket, .. }) = &loaded.config.socket {
            let _inside = self.runtime.enter();
            match socket::bind(&socket.path, socket.group.as_deref()) {
                Err(error) => failed("socket", &error, &self.health),
                Ok(listener) => {
                    self.health.source("socket", None);
                    let (stop, stopped) = oneshot::channel::<()>();
                    let inbox = self.inbox.clone();
                    let sink = move |batch| {
                        let inbox = inbox.clone();
                        async move { flow(inbox.send(Input::Batch(batch)).await.is_ok()) }
                    };
                    let serving =
                        ingest::serve(
                            listener,
                            sink,
                            self.health.bridges(),
                            async move { drop(stopped.await) },
                        );
                    self.ingest = Some((SocketFile::of(&socket.path), stop, tokio::spawn(serving)));
                }
            }
        }
        for settings in Journal::all(loaded, self.heartbeats) {
            self.follow(settings)?;
        }
        Ok(())
    }

    /// Starts following a journal; when this returns, all that is written from now on is read. A journal that is
    /// not there is looked for again and again.
    fn follow(&mut self, settings: Journal) -> anyhow::Result<()> {
        let (stop, stopped) = threads::channel::<Infallible>();
        let (opening, tried) = threads::channel::<Infallible>();
        let (inbox, health) = (self.inbox.clone(), self.health.clone());
        let place = settings.location.name();
        let (following, position) = (settings.clone(), self.positions.remove(&place));
        // Where it is opened again by a reload nobody has died.
        let starts = self.starts.remove(&place).map_or(0, |starts| starts.saturating_add(1));
        let thread = spawn("journald", move || {
            let source = &*following.source;
            let mut opening = Some(opening);
            loop {
                let opened = match (&opening, &position) {
                    // What comes to stand in a journal that was not there has not been read.
                    (None, None) => Follower::open_whole(following.clone()),
                    (_, position) => Follower::open(following.clone(), position.clone()),
                };
                match opened {
                    Ok(follower) => {
                        health.source(source, None);
                        drop(opening.take());
                        let sink = |mut batch: Batch| {
                            batch.place = Some(Arc::clone(&place));
                            let written = batch.starts.map(|_| {
                                let (receipt, written) = oneshot::channel();
                                batch.receipt = Some(receipt);
                                written
                            });
                            let sent = inbox.blocking_send(Input::Batch(batch));
                            // It is in the ledger, or the ledger cannot be written and knows of no starts.
                            _ = written.map(oneshot::Receiver::blocking_recv);
                            flow(sent.is_ok())
                        };
                        // The first position of the tail must be known to the next daemon.
                        let tail = follower.position();
                        if tail.is_some() && tail != position {
                            let batch = Batch { position: tail, ..Batch::new(source, Format::Journal) };
                            if sink(batch).is_break() {
                                return position;
                            }
                        }
                        let tell = |error: Option<SourceError>| match error {
                            Some(error) => failed(source, &error, &health),
                            None => {
                                log::info!("the source {source} is read again");
                                health.source(source, None);
                            }
                        };
                        return follower.after_starts(starts).run(&stopped, sink, tell);
                    }
                    // Said once, not every five seconds.
                    Err(error) if opening.take().is_some() => failed(source, &error, &health),
                    Err(_) => {}
                }
                if stopped.recv_timeout(AGAIN) == Err(threads::RecvTimeoutError::Disconnected) {
                    return position;
                }
            }
        })?;
        // Ends when the thread drops its end, that is after the first try.
        let _ = tried.recv();
        self.journals.push(RunningJournal { settings, stop, thread });
        Ok(())
    }

    /// Stops the journals that are no longer wanted as they are read, and starts those that are not read yet. A journal
    /// is opened again if the programs to follow have changed.
    pub(super) async fn restart(&mut self, loaded: &Loaded) -> anyhow::Result<()> {
        let wanted = Journal::all(loaded, self.heartbeats);
        let (kept, ended) =
            mem::take(&mut self.journals).into_iter().partition(|running| wanted.contains(&running.settings));
        self.journals = kept;
        for source in self.stop_journals(ended).await {
            if !wanted.iter().any(|journal| journal.source == source) {
                self.health.forget(&source);
            }
        }
        for settings in wanted {
            if !self.journals.iter().any(|running| running.settings == settings) {
                self.follow(settings)?;
            }
        }
        Ok(())
    }

    pub(super) fn read_stdin(&self) -> anyhow::Result<()> {
        let (inbox, health) = (self.inbox.clone(), self.health.clone());
        health.source("stdin", None);
        // Nobody waits for this thread: a read that blocks cannot be ended.
        spawn("stdin", move || {
            let sink = |records: &mut Records, overlong| {
                let batch = Batch { records: records.clone(), overlong, ..Batch::new("stdin", Format::Line) };
                flow(inbox.blocking_send(Input::Batch(batch)).is_ok())
            };
            match stdin::read(std::io::stdin().lock(), sink) {
                Ok(()) => log::info!("standard input has ended"),
                Err(error) => failed("stdin", &error, &health),
            }
        })?;
        Ok(())
    }

    pub(super) async fn stop(&mut self) {
        // While its socket is open: then the path is the next daemon's.
        self.ingest.iter().for_each(|(file, ..)| file.remove());
        let journals = mem::take(&mut self.journals);
        self.stop_journals(journals).await;
        if let Some((_, stop, task)) = self.ingest.take() {
            drop(stop);
            // The task ends within a second by itself.
            let _ = task.await;
        }
    }

    /// The names of the sources that have ended.
    async fn stop_journals(&mut self, journals: Vec<RunningJournal>) -> Vec<Arc<str>> {
        // All are told before any is waited for.
        let tell = |RunningJournal { settings, stop, thread }| {
            drop(stop);
            (settings, thread)
        };
        let mut sources = Vec::new();
        for (settings, thread) in journals.into_iter().map(tell).collect::<Vec<_>>() {
            // It may be waiting for room in the inbox, which the hub makes.
            let position = tokio::task::spawn_blocking(move || thread.join().ok().flatten()).await;
            let position = position.ok().flatten();
            self.positions.extend(position.map(|position| (settings.location.name(), position)));
            sources.push(settings.source);
        }
        sources
    }
}

fn flow(goes_on: bool) -> ControlFlow<()> {
    if goes_on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
}

fn failed(source: &str, error: &dyn std::fmt::Display, health: &Health) {
    log::error!("cannot read the source {source}: {error}");
    health.source(source, Some(error.to_string()));
}
