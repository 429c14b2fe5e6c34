//! Everything from bytes to decisions, in one value that one task owns.
//!
//! It joins decoder, grammars and detector, so that the daemon and a replay run the same code. Decoding and finding
//! need no order, so they are spread over all cores for large batches.

mod evidence;
mod forgers;
mod ignored;
mod joins;
mod majority;
mod scan;
mod senders;
mod tally;
mod unmatched;

use std::mem;
use std::net::IpAddr;
use std::sync::Arc;

use rayon::iter::{IndexedParallelIterator, IntoParallelRefMutIterator, ParallelIterator};

use crate::detect::{Detector, Seen, Settings};
use crate::entry::Decoder;
use crate::entry::records::Records;
use crate::grammar::{Grammar, Grammars};
use crate::model::{Ban, CategoryId, Decision, Timestamp};
pub use evidence::Evidence;
pub use forgers::Forgers;
pub use ignored::IgnoredPrograms;
pub use joins::Joins;
use majority::Majority;
use scan::{Context, Scan};
use senders::Senders;
pub use tally::{GrammarTally, Tally};
pub use unmatched::{UnmatchedLines, UnmatchedTemplate};

/// Decides who is banned.
#[derive(Debug)]
pub struct Engine<'p> {
    grammars: Arc<Grammars>,
    /// The name of this host; empty where every line is taken to be of this one.
    host: Box<[u8]>,
    decoder: Decoder<'p>,
    /// Whether to say whose lines no grammar reads.
    tells_ignored: bool,
    /// How many harmless lines of a batch and grammar are looked at for what no rule knows.
    looked_at: u64,
    /// Whether to keep what offences left behind.
    keeps_evidence: bool,
    detector: Detector,
    scan: Scan,
    senders: Senders,
    joins: Joins,
    /// Those of the cores that a batch is spread over, kept for their memory.
    parts: Vec<Scan>,
    /// What no rule knows, by [`GrammarId`].
    unmatched: Vec<UnmatchedLines>,
    /// The clients of web servers, by [`GrammarId`].
    majorities: Vec<Majority>,
    /// The latest instant so far, where time is that of the entries.
    clock: Timestamp,
}

/// What time it is while records are taken.
#[derive(Clone, Copy, Debug)]
pub enum Clock {
    /// Now, for all of them.
    At(Timestamp),
    /// The time of each entry, as in a replay. The instant is for entries without one.
    OfEntries(Timestamp),
}

/// What to make of offences in lines of which the source cannot tell who wrote them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unattested {
    /// They count.
    Accept,
    /// They do not count: a process that can write to the log could have forged them.
    Refuse,
}

/// The result of a batch of records.
#[derive(Debug)]
pub struct BatchReport<'a> {
    /// How many of what there were.
    pub tally: &'a Tally,
    /// Whose lines no grammar reads; none where nobody has [asked](Engine::telling_ignored).
    pub ignored: &'a IgnoredPrograms,
    /// What was decided, and counted on the way.
    pub seen: Seen,
    /// The messages of the offences in it.
    pub evidence: Evidence,
    /// Bans that ended meanwhile.
    pub ended: Vec<Ban>,
}

/// Records from which on a batch is spread over all cores: below it, what rayon costs (10 us) is not won back.
const MANY: usize = 1024;

/// No transport splits shorter messages without saying so.
const SPLIT: usize = 1024;

/// Harmless lines of a batch (where it is spread, of a core's share) and grammar that are looked at for what no rule
/// knows. So such counts are exact where lines come singly and samples under a flood, which that hardly slows: a look
/// takes 1 to 2 us for what servers write and some 50 us at worst, against 120 us for a batch of 500 lines.
pub const LOOKED_AT: u64 = 8;

/// Of what no rule knew of each grammar, what is as unknown now: neither the grammar nor another that reads lines of its
/// programs is new.
fn still_unknown(mut known: Vec<UnmatchedLines>, before: &Grammars, now: &Grammars) -> Vec<UnmatchedLines> {
    let known_as = |grammar: &Grammar| before.iter().position(|other| other.is_same(grammar));
    let new: Vec<&Grammar> = now.iter().filter(|grammar| known_as(grammar).is_none()).collect();
    let mut take = |grammar: &Grammar| {
        let at = known_as(grammar).filter(|_| !new.iter().any(|new| new.may_share(grammar)))?;
        known.get_mut(at).map(std::mem::take)
    };
    now.iter().map(|grammar| take(grammar).unwrap_or_default()).collect()
}

impl<'p> Engine<'p> {
    /// An engine that has seen nothing yet.
    pub fn new(settings: Settings, grammars: Arc<Grammars>, decoder: Decoder<'p>) -> Self {
        let detector = Detector::new(settings, &grammars);
        Self {
            grammars,
            host: [].into(),
            decoder,
            tells_ignored: false,
            looked_at: LOOKED_AT,
            keeps_evidence: true,
            detector,
            scan: Scan::default(),
            senders: Senders::default(),
            joins: Joins::default(),
            parts: Vec::new(),
            unmatched: Vec::new(),
            majorities: Vec::new(),
            clock: Timestamp::from_micros(i64::MIN),
        }
    }

    /// The same, which says in each report whose lines no grammar reads.
    pub fn telling_ignored(self) -> Self {
        Self { tells_ignored: true, ..self }
    }

    /// From here on so many harmless lines of a batch and grammar are looked at for what no rule knows, instead of
    /// [`LOOKED_AT`].
    pub fn look_at(&mut self, most: u64) {
        self.looked_at = most;
    }

    /// The same, whose reports have neither traces nor evidence, for who replays a log and puts nothing of it back.
    pub fn keeping_no_evidence(mut self) -> Self {
        self.detector.leave_no_traces();
        Self { keeps_evidence: false, ..self }
    }

    /// Goes on with other settings and grammars; bans, counts and keys stay. The bans that these no longer allow.
    ///
    /// What no rule knew is forgotten where a rule may know it now.
    pub fn reconfigure(&mut self, settings: Settings, grammars: Arc<Grammars>) -> Vec<Decision> {
        let before = std::mem::replace(&mut self.grammars, grammars);
        self.joins.stop_waiting();
        self.unmatched = still_unknown(std::mem::take(&mut self.unmatched), &before, &self.grammars);
        self.majorities.clear();
        self.detector.reconfigure(settings, &self.grammars)
    }

    /// Goes on with other settings and the same grammars.
    pub fn reconfigure_settings(&mut self, settings: Settings) -> Vec<Decision> {
        self.detector.reconfigure(settings, &self.grammars)
    }

    /// What this host is called from here on. What is written elsewhere is attested by what is known there only.
    pub fn name_host(&mut self, host: &[u8]) {
        if *self.host != *host {
            self.host = host.into();
        }
    }

    /// The grammars in force.
    pub fn grammars(&self) -> &Arc<Grammars> {
        &self.grammars
    }

    /// The latest instant so far: of the clock, or of the offences.
    pub fn latest(&self) -> Timestamp {
        self.clock
    }

    /// What lines look like that name an address and that no rule knows, for each grammar that has met some.
    pub fn unmatched(&self) -> impl Iterator<Item = (&Grammar, &UnmatchedLines)> {
        self.grammars.iter().zip(&self.unmatched).filter(|(_, unmatched)| unmatched.lines > 0)
    }

    /// The client that makes nearly all requests of a grammar's web server, for each grammar where one does.
    pub fn sole_clients(&self) -> impl Iterator<Item = (&Grammar, IpAddr)> {
        let clients = self.grammars.iter().zip(&self.majorities);
        clients.filter_map(|(grammar, majority)| Some((grammar, majority.client()?)))
    }

    /// The detector, for what is not about records: commands, restored bans, listings.
    pub fn detector(&mut self) -> &mut Detector {
        &mut self.detector
    }

    /// Decodes the records, finds the offences in them and counts those, in their order.
    ///
    /// Never fails: what cannot be read is counted. Linear in the bytes. Decodes in place, so that the records are
    /// not what they were afterwards.
    pub fn take(&mut self, records: &mut Records, clock: Clock, unattested: Unattested) -> BatchReport<'_> {
        let Self {
            grammars,
            host,
            decoder,
            tells_ignored,
            looked_at,
            keeps_evidence,
            detector,
            scan,
            senders,
            joins,
            parts,
            unmatched,
            majorities,
            clock: latest,
        } = self;
        let arrival = match clock {
            Clock::At(now) | Clock::OfEntries(now) => now,
        };
        let (tells_ignored, looked_at, keeps_evidence) = (*tells_ignored, *looked_at, *keeps_evidence);
        let context =
            Context { grammars, host, arrival, unattested, tells_ignored, looked_at, keeps_evidence };
        scan.reset(grammars);
        // Where it is not asked, its threads are not started.
        let cores = rayon::current_num_threads;
        scan.tally.messages.add(&records.messages);
        if records.len() < MANY || cores() == 1 || !senders.is_empty() || go_on(records, decoder, arrival) {
            scan.read(records.whole(), decoder, context, senders);
        } else {
            let pieces = records.split(cores());
            parts.resize_with(pieces.len(), Scan::default);
            parts.par_iter_mut().zip(pieces).for_each_with(decoder.clone(), |decoder, (part, piece)| {
                part.reset(grammars);
                part.read(piece, decoder, context, &mut Senders::default());
            });
            parts.iter_mut().for_each(|part| scan.append(part));
        }
        let nameless = joins.resolve(scan);
        unmatched.resize_with(grammars.iter().count(), UnmatchedLines::default);
        majorities.resize_with(grammars.iter().count(), Majority::default);
        for (majority, tally) in majorities.iter_mut().zip(&scan.tally.grammars) {
            majority.requests += tally.harmless + tally.offences.iter().sum::<u64>();
        }
        for (id, client) in scan.clients.drain(..) {
            majorities.get_mut(usize::from(id.0)).into_iter().for_each(|majority| majority.vote(client));
        }
        for (id, template, at) in scan.unmatched.drain(..) {
            if let (Some(unmatched), Some(grammar)) = (unmatched.get_mut(usize::from(id.0)), grammars.get(id))
            {
                unmatched.count(grammar, template, at);
            }
        }
        let (mut seen, mut ended) = (Seen::default(), Vec::new());
        if let Clock::At(now) = clock {
            ended = detector.expire(now);
            *latest = now;
        }
        let mut nameless = nameless.into_iter().peekable();
        for (nth, offence) in scan.offences.iter().enumerate() {
            if nameless.next_if_eq(&nth).is_some() {
                // Its message is there all the same.
                seen.observed += usize::from(offence.category != CategoryId::LOGIN);
                continue;
            }
            if let Clock::OfEntries(_) = clock {
                *latest = offence.time.max(*latest);
                ended.extend(detector.expire(*latest));
            }
            match offence.category {
                CategoryId::LOGIN => detector.logged_in(offence, *latest),
                _ => detector.observe(offence, *latest, &mut seen),
            }
        }
        // Where no jail counts them, their memory is kept for the next.
        let evidence =
            if seen.traces.is_empty() { Evidence::default() } else { mem::take(&mut scan.evidence) };
        BatchReport { tally: &scan.tally, ignored: &scan.ignored, seen, evidence, ended }
    }
}

/// Whether of some of these records the next may be the rest. Only long ones are decoded for that.
fn go_on(records: &Records, decoder: &mut Decoder<'_>, arrival: Timestamp) -> bool {
    let mut copy = Vec::new();
    records.iter().filter(|record| record.len() >= SPLIT).any(|record| {
        copy.clear();
        copy.extend_from_slice(record);
        decoder.decode(records.format(), &mut copy, arrival).is_ok_and(|entry| entry.goes_on)
    })
}

#[cfg(test)]
mod tests;
