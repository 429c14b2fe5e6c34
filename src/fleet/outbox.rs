//! What this host has to tell: for each offender the last only, so that a server that is away costs no more than the bans
//! and windows themselves.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

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
    holds: AtomicUsize,
}

#[derive(Debug, Default)]
struct WaitingNotices {
    bans: HashMap<Offender, Notice>,
    /// Their offenders, the oldest first.
    order: Vec<Offender>,
    windows: HashMap<CountKey, Vec<Timestamp>>,
    /// What the server had no room for.
    withheld: Told,
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

/// How many bans and how many windows wait at most, and how many of each are withheld, some 200 bytes each.
const MOST: usize = 100_000;

impl NoticeOutbox {
    /// Has this told, in place of what waits about the same offender.
    pub fn put(&self, offender: Offender, notice: Notice) {
        let mut waiting = self.lock();
        waiting.withheld.bans.remove(&offender);
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
        waiting.withheld.windows.remove(&window);
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
        self.0.holds.fetch_add(1, Ordering::SeqCst);
    }

    /// Goes on telling.
    pub fn release(&self) {
        self.0.holds.fetch_sub(1, Ordering::SeqCst);
        self.0.news.notify_one();
    }

    /// Takes at most so many bans, the newest first, which are to wait for no others, and so many windows; nothing if some
    /// were left out, and so all is to be compared. While it is held that is none.
    pub fn take(&self, most: usize) -> Option<Told> {
        if self.0.holds.load(Ordering::SeqCst) > 0 {
            return Some(Told::default());
        }
        let mut waiting = self.lock();
        let WaitingNotices { bans, order, windows, is_incomplete, .. } = &mut *waiting;
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

    /// Notes what the server has stored of what was taken, and what it had no room for: that is withheld, unless something newer
    /// waits. What was taken first comes first.
    pub fn settle(&self, stored: &Told, refused: Told) {
        let mut waiting = self.lock();
        let WaitingNotices { bans, windows, withheld, is_incomplete, .. } = &mut *waiting;
        stored.bans.keys().for_each(|who| drop(withheld.bans.remove(who)));
        stored.windows.keys().for_each(|window| drop(withheld.windows.remove(window)));
        withheld.bans.extend(refused.bans.into_iter().filter(|(who, _)| !bans.contains_key(who)));
        withheld
            .windows
            .extend(refused.windows.into_iter().filter(|(window, _)| !windows.contains_key(window)));
        *is_incomplete |= withheld.bans.len().max(withheld.windows.len()) > MOST;
    }

    /// Has at most so many bans and windows of what is withheld told again; how many.
    pub fn tell_again(&self, most: usize) -> usize {
        let mut waiting = self.lock();
        let Told { bans, windows } = &mut waiting.withheld;
        let bans: HashMap<_, _> = bans.extract_if(|_, _| true).take(most).collect();
        let windows: HashMap<_, _> = windows.extract_if(|_, _| true).take(most).collect();
        let again = bans.len() + windows.len();
        drop(waiting);
        if again > 0 {
            self.put_behind(Told { bans, windows });
        }
        again
    }

    /// Takes all there is, to be forgotten.
    pub fn clear(&self) {
        *self.lock() = WaitingNotices::default();
    }

    /// How many bans and windows wait or are withheld.
    pub fn len(&self) -> usize {
        let waiting = self.lock();
        let withheld = waiting.withheld.bans.len() + waiting.withheld.windows.len();
        waiting.bans.len() + waiting.windows.len() + withheld
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, WaitingNotices> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ban(last: u8, at: i64) -> (Offender, Notice) {
        let notice = Notice {
            at: Timestamp::default(),
            since: Timestamp::from_secs(at),
            until: None,
            lifted: false,
            times: 1,
            jail: "sshd".into(),
            reason: "".into(),
            ports: [].into(),
        };
        (Offender::single([192, 0, 2, last].into()), notice)
    }

    /// The last bytes of the addresses that are taken, and since when they are banned.
    fn taken(outbox: &NoticeOutbox, most: usize) -> Vec<(u8, i64)> {
        let Told { bans, .. } = outbox.take(most).unwrap();
        let mut taken: Vec<_> = bans
            .into_iter()
            .map(|(who, notice)| match who.address() {
                IpAddr::V4(address) => (address.octets()[3], notice.since.as_secs()),
                IpAddr::V6(_) => unreachable!(),
            })
            .collect();
        taken.sort_unstable();
        taken
    }

    fn put(outbox: &NoticeOutbox, (who, notice): (Offender, Notice)) {
        outbox.put(who, notice);
    }

    #[test]
    fn what_is_new_waits_for_nothing_and_what_is_old_replaces_nothing_newer() {
        let outbox = NoticeOutbox::default();
        put(&outbox, ban(1, 9));
        put(&outbox, ban(2, 9));
        outbox.put_behind(Told { bans: [ban(1, 1), ban(3, 1), ban(4, 2)].into(), ..Told::default() });
        put(&outbox, ban(5, 9));
        assert_eq!(outbox.len(), 5);
        assert_eq!(taken(&outbox, 1), [(5, 9)]);
        assert_eq!(taken(&outbox, 2), [(1, 9), (2, 9)]);
        assert_eq!(taken(&outbox, 1), [(4, 2)]);
        assert_eq!(taken(&outbox, 9), [(3, 1)]);
        assert!(outbox.is_empty());
        // Told again, in its place.
        put(&outbox, ban(1, 1));
        put(&outbox, ban(2, 1));
        put(&outbox, ban(1, 2));
        assert_eq!(taken(&outbox, 1), [(2, 1)]);
        assert_eq!(taken(&outbox, 1), [(1, 2)]);
    }

    #[test]
    fn what_there_was_no_room_for_is_told_again_unless_something_newer_is() {
        let outbox = NoticeOutbox::default();
        let of = |bans: Vec<_>| Told { bans: bans.into_iter().collect(), ..Told::default() };
        let refused = |bans| outbox.settle(&Told::default(), of(bans));
        put(&outbox, ban(2, 9));
        refused(vec![ban(1, 1), ban(2, 1), ban(3, 1), ban(4, 1)]);
        // What waits is newer, and what is put is.
        assert_eq!((outbox.len(), taken(&outbox, 9)), (4, vec![(2, 9)]));
        put(&outbox, ban(3, 9));
        assert_eq!((outbox.len(), taken(&outbox, 9)), (3, vec![(3, 9)]));
        // So is what was sent later, and has been stored.
        outbox.settle(&of(vec![ban(4, 9)]), Told::default());
        assert_eq!((outbox.len(), outbox.tell_again(9), taken(&outbox, 9)), (1, 1, vec![(1, 1)]));
        assert_eq!(outbox.tell_again(9), 0);
        refused((1..=9).map(|last| ban(last, 1)).collect());
        assert_eq!((outbox.tell_again(1), taken(&outbox, 9).len(), outbox.len()), (1, 1, 8));
    }
}
