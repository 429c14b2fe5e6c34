//! What this host has to tell: for each offender the last only, so that a server that is away costs no more than the bans
//! and windows themselves.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use super::counts::CountKey;
use super::notice::Notice;
use crate::model::{Offender, Timestamp};

/// Shared by the hub, which puts in what is to be told, and the link, which takes it.
#[derive(Clone, Debug, Default)]
pub struct NoticeOutbox(Arc<OutboxShared>);

#[derive(Debug, Default)]
struct OutboxShared {
    waiting: Mutex<WaitingNotices>,
    news: Notify,
    aside: Mutex<HashSet<Arc<str>>>,
    addresses: Mutex<Vec<IpAddr>>,
    /// How many reasons there are to tell nothing yet.
    holds: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct WaitingNotices {
    bans: HashMap<Offender, Notice>,
    /// Their offenders, the oldest first.
    order: Vec<Offender>,
    windows: HashMap<CountKey, Vec<Timestamp>>,
    /// Whether some were left out, so that all has to be compared.
    is_incomplete: bool,
}

/// What is to be told next.
#[derive(Debug, Default)]
pub struct Told {
    /// Bans, and that they are lifted.
    pub bans: HashMap<Offender, Notice>,
    /// What stands in windows.
    pub windows: HashMap<CountKey, Vec<Timestamp>>,
}

/// How many bans and how many windows wait at most, some 200 bytes each.
const MOST: usize = 100_000;

impl NoticeOutbox {
    /// Has this told, in place of what waits about the same offender.
    pub fn put(&self, offender: Offender, notice: Notice) {
        let mut waiting = self.lock();
        if waiting.bans.len() < MOST || waiting.bans.contains_key(&offender) {
            if waiting.bans.insert(offender, notice).is_none() {
                waiting.order.push(offender);
            }
        } else {
            waiting.is_incomplete = true;
        }
        drop(waiting);
        self.0.news.notify_one();
    }

    /// Has these told, however many, behind what waits, and not what is older than what waits about the same.
    pub fn put_behind(&self, told: Told) {
        let mut waiting = self.lock();
        let mut bans: Vec<_> =
            told.bans.into_iter().filter(|(who, _)| !waiting.bans.contains_key(who)).collect();
        bans.sort_unstable_by_key(|(_, notice)| notice.since);
        waiting.order.splice(..0, bans.iter().map(|(who, _)| *who));
        waiting.bans.extend(bans);
        for (window, times) in told.windows {
            waiting.windows.entry(window).or_insert(times);
        }
        drop(waiting);
        self.0.news.notify_one();
    }

    /// Has told what stands in a window, in place of what stood in it before.
    pub fn put_window(&self, window: CountKey, times: Vec<Timestamp>) {
        let mut waiting = self.lock();
        if waiting.windows.len() < MOST || waiting.windows.contains_key(&window) {
            waiting.windows.insert(window, times);
        } else {
            waiting.is_incomplete = true;
        }
        drop(waiting);
        self.0.news.notify_one();
    }

    /// Has all read again that the others have said, and all compared.
    pub fn read_again(&self) {
        self.lock().is_incomplete = true;
        self.0.news.notify_one();
    }

    /// Has nothing read of these members: signatures are what takes longest.
    pub fn set_aside(&self, hosts: impl IntoIterator<Item = Arc<str>>) {
        *self.0.aside.lock().unwrap_or_else(PoisonError::into_inner) = hosts.into_iter().collect();
    }

    /// The members that nothing is read of.
    pub fn aside(&self) -> HashSet<Arc<str>> {
        self.0.aside.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has these told as the addresses of this host.
    pub fn set_addresses(&self, addresses: Vec<IpAddr>) {
        let before = std::mem::replace(
            &mut *self.0.addresses.lock().unwrap_or_else(PoisonError::into_inner),
            addresses.clone(),
        );
        if before != addresses {
            self.read_again();
        }
    }

    /// The addresses of this host.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.0.addresses.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until there is something to take.
    pub async fn changed(&self) {
        self.0.news.notified().await;
    }

    /// Has nothing told until [`release`](Self::release) is called as often.
    pub fn hold(&self) {
        self.0.holds.send_modify(|holds| *holds += 1);
    }

    /// Goes on telling.
    pub fn release(&self) {
        self.0.holds.send_modify(|holds| *holds = holds.saturating_sub(1));
        self.0.news.notify_one();
    }

    /// Waits until something may be told.
    pub async fn released(&self) {
        // It ends only with the outbox.
        let _ = self.0.holds.subscribe().wait_for(|holds| *holds == 0).await;
    }

    /// Takes at most so many bans, the newest first, which are to wait for no others, and so many windows; nothing if some
    /// were left out, and so all is to be compared. While it is held that is none.
    pub fn take(&self, most: usize) -> Option<Told> {
        if *self.0.holds.borrow() > 0 {
            return Some(Told::default());
        }
        let mut waiting = self.lock();
        let WaitingNotices { bans, order, windows, is_incomplete } = &mut *waiting;
        if *is_incomplete {
            *waiting = WaitingNotices::default();
            return None;
        }
        let newest = order.drain(order.len().saturating_sub(most)..);
        let told = Told {
            bans: newest.filter_map(|who| bans.remove_entry(&who)).collect(),
            windows: windows.extract_if(|_, _| true).take(most).collect(),
        };
        if !bans.is_empty() || !windows.is_empty() {
            self.0.news.notify_one();
        }
        Some(told)
    }

    /// Takes all there is, to be forgotten.
    pub fn clear(&self) {
        *self.lock() = WaitingNotices::default();
    }

    /// How many bans and windows wait.
    pub fn len(&self) -> usize {
        let waiting = self.lock();
        waiting.bans.len() + waiting.windows.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, WaitingNotices> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
