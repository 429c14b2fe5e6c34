//! Which address a key stands for: what joins the lines of a server that name an address with those that do not.
//!
//! Grammars find keys on all cores; here they are taken in the order of the lines. A server with several threads may write
//! a failure just before the line that names its address (slapd does), so an offence under an unknown key waits a moment.
//!
//! Both tables have a fixed size, since each connection makes a key. Where the server writes that a connection is closed,
//! its grammar ends the key, so that only connections that are open at once take room.

use std::collections::VecDeque;
use std::mem;
use std::net::IpAddr;

use super::{Evidence, Scan, Tally};
use crate::detect::Recent;
use crate::model::{CategoryId, JoinKey, Offence, Span, Timestamp};

/// The addresses that keys stand for.
#[derive(Debug)]
pub struct Joins {
    named: Recent<JoinKey, Named>,
    /// In the order in which they came.
    waiting: VecDeque<Waiting>,
}

/// Who was named under a key, and when a line with it was written last.
#[derive(Debug, Default)]
struct Named {
    address: Option<IpAddr>,
    last: Timestamp,
}

/// An offence under a key that no line has named an address for.
#[derive(Debug)]
struct Waiting {
    key: JoinKey,
    offence: Offence,
    /// Its place in the batch that is being taken, and that of its message.
    here: Option<(usize, usize)>,
    /// What is kept of it when its batch is over: the message, and the line of the rule.
    message: Box<[u8]>,
    rule: u32,
}

/// Keys that are kept, of 140 bytes each; the one that no line has had for the longest time makes room.
const MOST: usize = 65_536;

/// After so long without a line with the key, another connection may have it. Who waits to be forgotten before an
/// attempt gets one in this time.
const AGE: Span = Span::from_secs(24 * 3600);

/// How far an offence and the line that names its address may be apart, by the log's clock, and how many wait at once. Given
/// longer, a server could count its connections from the start again, and the key be another client's.
const WAIT: Span = Span::from_secs(1);
const MOST_WAITING: usize = 256;

impl Default for Joins {
    fn default() -> Self {
        Self { named: Recent::new(MOST), waiting: VecDeque::new() }
    }
}

impl Joins {
    /// From here on the key stands for this address, whatever it stood for before; for none if there is none.
    pub fn name(&mut self, key: JoinKey, address: Option<IpAddr>, time: Timestamp) {
        match address {
            Some(_) => *self.named.touch(key).1 = Named { address, last: time },
            None => self.named.remove(&key),
        }
    }

    /// The address that the key stands for, if a line of the last day had it.
    pub fn address(&mut self, key: &JoinKey, time: Timestamp) -> Option<IpAddr> {
        let last = self.named.slot(key)?.1.last;
        if time.since(last) > AGE {
            self.named.remove(key);
            return None;
        }
        let named = self.named.touch(*key).1;
        named.last = time.max(last);
        named.address
    }

    /// Lets no offence wait any longer.
    pub(super) fn stop_waiting(&mut self) {
        self.waiting.clear();
    }

    /// Takes the lines with a key in their order, and gives their offences the addresses that they refer to. Those that
    /// waited since an earlier batch come first then. The places of offences that stay without an address.
    ///
    /// Takes time in proportion to these lines, and for each that names an address to the offences that wait.
    pub(super) fn resolve(&mut self, scan: &mut Scan) -> Vec<usize> {
        let (mut nameless, mut late) = (Vec::new(), Vec::new());
        let Scan { offences, evidence, keyed, tally, .. } = scan;
        for line in keyed.drain(..) {
            match line {
                Keyed::Naming(key, address, time) => {
                    self.name(key, address, time);
                    self.expire(time, tally);
                    for mut waiting in self.waiting_for(&key) {
                        count(&waiting.offence, address.is_some(), tally);
                        let Some(address) = address else { continue };
                        waiting.offence.address = address;
                        match waiting.here {
                            Some((nth, _)) => {
                                nameless.retain(|other| *other != nth);
                                offences.get_mut(nth).into_iter().for_each(|of| *of = waiting.offence);
                            }
                            None => late.push(waiting),
                        }
                    }
                }
                Keyed::Referring(key, nth, message) => {
                    let Some(offence) = offences.get_mut(nth) else { continue };
                    if let Some(address) = self.address(&key, offence.time) {
                        offence.address = address;
                        count(offence, true, tally);
                    } else {
                        nameless.push(nth);
                        self.wait(key, *offence, (nth, message), tally);
                    }
                }
            }
        }
        self.keep(evidence);
        let before = late.len();
        scan.prepend(late);
        nameless.iter_mut().for_each(|nth| *nth += before);
        nameless
    }

    /// The offences that wait for this key, which wait no longer.
    fn waiting_for(&mut self, key: &JoinKey) -> Vec<Waiting> {
        // Most lines find none.
        if self.waiting.iter().all(|waiting| waiting.key != *key) {
            return Vec::new();
        }
        let (found, others) =
            self.waiting.drain(..).partition::<VecDeque<_>, _>(|waiting| waiting.key == *key);
        self.waiting = others;
        found.into()
    }

    /// Gives up on the offences that have waited too long.
    fn expire(&mut self, now: Timestamp, tally: &mut Tally) {
        self.waiting.retain(|waiting| {
            let is_over = is_over(waiting, now);
            if is_over {
                count(&waiting.offence, false, tally);
            }
            !is_over
        });
    }

    /// Lets an offence wait; the one that has waited longest makes room.
    fn wait(&mut self, key: JoinKey, offence: Offence, here: (usize, usize), tally: &mut Tally) {
        self.expire(offence.time, tally);
        if self.waiting.len() >= MOST_WAITING
            && let Some(first) = self.waiting.pop_front()
        {
            count(&first.offence, false, tally);
        }
        self.waiting.push_back(Waiting { key, offence, here: Some(here), message: Box::default(), rule: 0 });
    }

    /// Keeps the messages of the offences of this batch that wait.
    fn keep(&mut self, evidence: &Evidence) {
        for waiting in &mut self.waiting {
            let Some((_, nth)) = waiting.here.take() else { continue };
            if waiting.offence.category != CategoryId::LOGIN
                && let Some((message, rule)) = evidence.get(nth)
            {
                (waiting.message, waiting.rule) = (message.into(), rule);
            }
        }
    }
}

/// Whether it waits too long, or comes from another time, as where a clock was set back.
fn is_over(waiting: &Waiting, now: Timestamp) -> bool {
    now.since(waiting.offence.time).max(waiting.offence.time.since(now)) > WAIT
}

impl Scan {
    /// Puts offences of an earlier batch before those of this one.
    fn prepend(&mut self, late: Vec<Waiting>) {
        if late.is_empty() {
            return;
        }
        let (offences, evidence) = (mem::take(&mut self.offences), mem::take(&mut self.evidence));
        for Waiting { offence, message, rule, .. } in late {
            self.offences.push(offence);
            if offence.category != CategoryId::LOGIN {
                self.evidence.push(&message, rule);
            }
        }
        self.offences.extend(offences);
        self.evidence.append(&evidence);
    }
}

fn count(offence: &Offence, is_joined: bool, tally: &mut Tally) {
    let Some(tally) = tally.grammars.get_mut(usize::from(offence.grammar.0)) else { return };
    match offence.category {
        _ if !is_joined => tally.nameless += 1,
        CategoryId::LOGIN => tally.logins += 1,
        category => tally.offences.get_mut(usize::from(category.0)).into_iter().for_each(|count| *count += 1),
    }
}

/// A line with a key.
#[derive(Clone, Copy, Debug)]
pub(super) enum Keyed {
    /// It names the address that the key stands for from then on.
    Naming(JoinKey, Option<IpAddr>, Timestamp),
    /// This offence, by its place and that of its message, is of the address that the key stands for. Logins have none.
    Referring(JoinKey, usize, usize),
}

impl Keyed {
    /// The same if so many offences and messages come before.
    pub(super) fn behind(self, offences: usize, messages: usize) -> Self {
        match self {
            Self::Naming(..) => self,
            Self::Referring(key, nth, message) => Self::Referring(key, nth + offences, message + messages),
        }
    }
}

#[cfg(test)]
mod tests;
