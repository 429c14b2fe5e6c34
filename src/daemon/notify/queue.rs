//! The events that wait for a receiver of single events: which goes next, and when.
//!
//! Events of one address go in their order, one at a time; those of different addresses go in any. An event that fails
//! is tried again for as long as there is room, and meanwhile others are: one that the receiver never takes stops only
//! its own address. A receiver that fails gets a single attempt at a time, with growing pauses, until one succeeds.
//!
//! All times are those that have passed since some beginning.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use hashbrown::HashMap;

use super::event::Event;
use crate::config::EachPace;
use crate::model::{Offender, Timestamp};

/// The pauses after failures: twice as long each time, up to the longest.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(5 * 60);
/// The longest pause that a receiver may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(60 * 60);
const MINUTE: Duration = Duration::from_secs(60);

/// An event and when it happened.
#[derive(Clone, Debug)]
pub struct QueuedEvent {
    /// Its number, which no other event of this receiver has.
    pub number: u64,
    /// When it was queued.
    pub at: Timestamp,
    /// The event.
    pub event: Event,
}

/// The events of one receiver that are not delivered yet, a bounded number.
#[derive(Debug)]
pub struct EventQueue {
    pace: EachPace,
    limit: usize,
    /// Pauses are longer by this part, so that not all hosts come back at once.
    spread: f64,
    /// The number of the next event.
    next: u64,
    /// All, also those under way, by number.
    events: BTreeMap<u64, QueuedEvent>,
    /// Of each address the numbers in order. What belongs to no address is in one order, too.
    lanes: HashMap<Option<Offender>, Lane>,
    /// The first of each lane, as far as it may go, by its turn.
    ready: BTreeSet<(u64, u64)>,
    /// The first of each lane that waits after a failure, by when it may go.
    paused: BTreeSet<(Duration, u64)>,
    /// The first of each lane whose delivery is under way, with the time when that began.
    under_way: BTreeMap<u64, Duration>,
    /// When deliveries of the last minute began, if there is a limit to them.
    begun: VecDeque<Duration>,
    /// Failures since the last success; of those that overlap, one counts.
    failures: u32,
    /// When the last of them was, and until when there is a pause.
    failed: Duration,
    resume: Duration,
}

#[derive(Debug, Default)]
struct Lane {
    numbers: VecDeque<u64>,
    /// Failures of the first one, and when it may go again.
    failures: u32,
    paused: Option<Duration>,
    /// Its place in the line of all lanes: the number of the first one, or after a failure the number of the event that
    /// came next, so that those that wait go before.
    turn: u64,
}

impl EventQueue {
    /// An empty one for at most `limit` events, of which the first gets the number `first`. `spread`, from 0 to 1, makes
    /// all pauses longer by that part.
    pub fn new(pace: EachPace, limit: usize, first: u64, spread: f64) -> Self {
        Self {
            pace,
            limit,
            spread,
            next: first,
            events: BTreeMap::new(),
            lanes: HashMap::new(),
            ready: BTreeSet::new(),
            paused: BTreeSet::new(),
            under_way: BTreeMap::new(),
            begun: VecDeque::new(),
            failures: 0,
            failed: Duration::ZERO,
            resume: Duration::ZERO,
        }
    }

    /// How many are not delivered yet.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether all are delivered.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Adds an event behind all others; how many of the oldest had to make room.
    pub fn push(&mut self, event: Event, at: Timestamp) -> usize {
        let number = self.next;
        self.next += 1;
        let lane = self.lanes.entry(event.offender()).or_default();
        if lane.numbers.is_empty() {
            lane.turn = number;
            self.ready.insert((number, number));
        }
        lane.numbers.push_back(number);
        self.events.insert(number, QueuedEvent { number, at, event });
        let mut dropped = 0;
        while self.events.len() > self.limit {
            // Those under way are few, and stay: they may have been taken already.
            let Some(oldest) =
                self.events.keys().copied().find(|number| !self.under_way.contains_key(number))
            else {
                break;
            };
            self.remove(oldest);
            dropped += 1;
        }
        dropped
    }

    /// What is to be delivered now, if anything; it is under way from here on.
    pub fn take(&mut self, now: Duration) -> Option<QueuedEvent> {
        while let Some((_, number)) = self.paused.first().copied().filter(|(until, _)| *until <= now) {
            self.paused.pop_first();
            if let Some(lane) = self.lane(number) {
                lane.paused = None;
                let turn = lane.turn;
                self.ready.insert((turn, number));
            }
        }
        if self.due().is_none_or(|due| due > now) {
            return None;
        }
        let (_, number) = self.ready.pop_first()?;
        self.under_way.insert(number, now);
        if let Some(limit) = self.pace.per_minute {
            self.begun.push_back(now);
            let surplus = self.begun.len().saturating_sub(limit);
            self.begun.drain(..surplus);
        }
        self.events.get(&number).cloned()
    }

    /// When [`take`](Self::take) has something next; `None` where that takes the end of a delivery, or another event.
    pub fn due(&self) -> Option<Duration> {
        let at_once = if self.failures > 0 { 1 } else { self.pace.concurrency };
        if self.under_way.len() >= at_once {
            return None;
        }
        let next = match self.ready.is_empty() {
            true => self.paused.first()?.0,
            false => Duration::ZERO,
        };
        let full = self.pace.per_minute.is_some_and(|limit| self.begun.len() >= limit);
        let free = self.begun.front().filter(|_| full).map_or(Duration::ZERO, |begun| *begun + MINUTE);
        Some(next.max(self.resume).max(free))
    }

    /// This one is done with: the receiver has taken it, or will not take it ever.
    pub fn settled(&mut self, number: u64) {
        // One that began before the last failure says nothing about what came after.
        if self.under_way.remove(&number).is_some_and(|begun| begun >= self.failed) {
            (self.failures, self.resume) = (0, Duration::ZERO);
        }
        self.remove(number);
    }

    /// This one could not be delivered, and is tried again after a pause, which may be the receiver's own wish.
    pub fn failed(&mut self, number: u64, asked: Option<Duration>, now: Duration) {
        let Some(begun) = self.under_way.remove(&number) else { return };
        let asked = asked.map(|asked| asked.clamp(FIRST, LONGEST_ASKED));
        // Of four that fail together each would double the pause.
        let spread = self.spread;
        if self.failures == 0 || begun >= self.failed {
            self.failures = self.failures.saturating_add(1);
            self.failed = now;
            self.resume = now + asked.unwrap_or_else(|| pause(self.failures, spread));
        } else if let Some(asked) = asked {
            self.resume = self.resume.max(now + asked);
        }
        let turn = self.next;
        if let Some(lane) = self.lane(number) {
            lane.turn = turn;
            lane.failures = lane.failures.saturating_add(1);
            let until = now + asked.unwrap_or_else(|| pause(lane.failures, spread));
            lane.paused = Some(until);
            self.paused.insert((until, number));
        }
    }

    /// Goes on at another pace; what is under way is given up and waits again, and pauses are over.
    pub fn restart(&mut self, pace: EachPace) {
        self.pace = pace;
        self.under_way.clear();
        self.paused.clear();
        self.ready.clear();
        for lane in self.lanes.values_mut() {
            lane.paused = None;
            if let Some(first) = lane.numbers.front() {
                lane.turn = *first;
                self.ready.insert((*first, *first));
            }
        }
        let surplus = self.begun.len().saturating_sub(pace.per_minute.unwrap_or(0));
        self.begun.drain(..surplus);
        (self.failures, self.resume) = (0, Duration::ZERO);
    }

    fn lane(&mut self, number: u64) -> Option<&mut Lane> {
        self.lanes.get_mut(&self.events.get(&number)?.event.offender())
    }

    /// Takes out the first of its lane, or the second where the first is under way. The one after the first may go then.
    fn remove(&mut self, number: u64) {
        let Some(gone) = self.events.remove(&number) else { return };
        let offender = gone.event.offender();
        let Some(lane) = self.lanes.get_mut(&offender) else { return };
        if lane.numbers.front() != Some(&number) {
            lane.numbers.remove(1);
            return;
        }
        lane.numbers.pop_front();
        lane.failures = 0;
        if let Some(until) = lane.paused.take() {
            self.paused.remove(&(until, number));
        }
        self.ready.remove(&(lane.turn, number));
        match lane.numbers.front() {
            Some(next) => {
                lane.turn = *next;
                self.ready.insert((*next, *next));
            }
            None => drop(self.lanes.remove(&offender)),
        }
    }
}

fn pause(failures: u32, spread: f64) -> Duration {
    let doubled = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(LONGEST).mul_f64(1.0 + spread)
}

#[cfg(test)]
mod tests;
