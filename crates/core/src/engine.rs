//! Everything from bytes to decisions, in one value that one task owns.
//!
//! It joins decoder, grammars and detector, so that the daemon and a replay run the same code. Decoding and finding
//! need no order, so they are spread over all cores for large batches.

mod forgers;
mod ignored;
mod joins;
mod majority;
mod senders;
mod unmatched;

use std::mem;
use std::net::IpAddr;
use std::sync::Arc;

use rayon::iter::{IndexedParallelIterator, IntoParallelRefMutIterator, ParallelIterator};

use crate::detect::{Detector, Seen, Settings};
use crate::entry::records::{Piece, Records};
use crate::entry::whole::MessageCounts;
use crate::entry::{Decoder, Format, Malformed};
use crate::grammar::{Grammar, Grammars, Outcome};
use crate::model::{Ban, CategoryId, Decision, GrammarId, Offence, Timestamp};
pub use forgers::Forgers;
pub use ignored::IgnoredPrograms;
pub use joins::Joins;
use joins::Keyed;
use majority::Majority;
use senders::Senders;
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

/// The messages with offences, and the rules that matched.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    bytes: Vec<u8>,
    /// Where each message ends, and the rule's line in its grammar's file. No batch is nearly 4 GiB long.
    found: Vec<(u32, u32)>,
}

/// The longest part of a message that is kept as evidence, in bytes. What a stranger typed may be longer.
const LONGEST: usize = 512;

impl Evidence {
    /// The message of the n-th offence, or its beginning, and the line of the rule in its grammar's file.
    pub fn get(&self, nth: usize) -> Option<(&[u8], u32)> {
        let (end, rule) = *self.found.get(nth)?;
        let start = nth.checked_sub(1).and_then(|before| self.found.get(before)).map_or(0, |(end, _)| *end);
        Some((self.bytes.get(start as usize..end as usize)?, rule))
    }

    /// The bytes it takes.
    pub fn size(&self) -> usize {
        self.bytes.len() + self.found.len() * size_of::<(u32, u32)>()
    }

    /// Notes the message of one more offence and the line of its rule.
    pub fn push(&mut self, message: &[u8], rule: u32) {
        self.bytes.extend_from_slice(message.get(..LONGEST).unwrap_or(message));
        self.found.push((self.bytes.len() as u32, rule));
    }

    /// Keeps the messages of the first so many offences, and the rules of all.
    pub fn keep_first(&mut self, most: usize) {
        let end = most.checked_sub(1).and_then(|last| self.found.get(last)).map_or(0, |(end, _)| *end);
        if let Some(rest) = self.found.get_mut(most..) {
            self.bytes.truncate(end as usize);
            rest.iter_mut().for_each(|(their_end, _)| *their_end = end);
        }
    }

    /// Gives back the memory that it does not need.
    pub fn shrink_to_fit(&mut self) {
        self.bytes.shrink_to_fit();
        self.found.shrink_to_fit();
    }

    fn append(&mut self, other: &Evidence) {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(&other.bytes);
        self.found.extend(other.found.iter().map(|(end, rule)| (start + end, *rule)));
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.found.clear();
    }
}

/// How many of what there were in a number of records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// All records.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Records that no entry came of, by [`Malformed`].
    pub malformed: Vec<(Malformed, u64)>,
    /// Entries of programs that no grammar reads.
    pub ignored: u64,
    /// Entries of which the source cannot tell who wrote them.
    pub unattested: u64,
    /// Messages that did not come in one piece, of the programs of our grammars.
    pub messages: MessageCounts,
    /// When the latest entry was written; 0 where there is none.
    pub latest: Timestamp,
    /// What the entries of each grammar came to, by [`crate::model::GrammarId`].
    pub grammars: Vec<GrammarTally>,
}

/// What the entries of one grammar came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GrammarTally {
    /// No offence.
    pub harmless: u64,
    /// Of these, as far as they were looked at: those that name an address and that no rule knows.
    pub unmatched: u64,
    /// An offence or a login, were it not that its sender is known to be somebody else.
    pub forged: Forgers,
    /// An offence or a login, were it not that nobody knows who wrote it, and that is [refused](Unattested::Refuse).
    pub refused: u64,
    /// An offence or a login under a key, were it not that no line has named the address.
    pub nameless: u64,
    /// Offences by category.
    pub offences: Vec<u64>,
    /// Logins that went well.
    pub logins: u64,
}

impl Tally {
    /// All offences.
    pub fn offences(&self) -> u64 {
        self.grammars.iter().flat_map(|grammar| &grammar.offences).sum()
    }

    /// Adds what another counted.
    pub fn add(&mut self, other: &Tally) {
        self.entries += other.entries;
        self.bytes += other.bytes;
        self.ignored += other.ignored;
        self.unattested += other.unattested;
        self.messages.add(&other.messages);
        self.latest = self.latest.max(other.latest);
        for (why, times) in &other.malformed {
            self.malformed(*why, *times);
        }
        if self.grammars.len() < other.grammars.len() {
            self.grammars.resize_with(other.grammars.len(), GrammarTally::default);
        }
        for (mine, other) in self.grammars.iter_mut().zip(&other.grammars) {
            mine.harmless += other.harmless;
            mine.unmatched += other.unmatched;
            mine.forged.add(&other.forged);
            mine.refused += other.refused;
            mine.nameless += other.nameless;
            mine.logins += other.logins;
            if mine.offences.len() < other.offences.len() {
                mine.offences.resize(other.offences.len(), 0);
            }
            mine.offences.iter_mut().zip(&other.offences).for_each(|(mine, other)| *mine += other);
        }
    }

    fn malformed(&mut self, why: Malformed, times: u64) {
        match self.malformed.iter_mut().find(|(known, _)| *known == why) {
            Some((_, known)) => *known += times,
            None => self.malformed.push((why, times)),
        }
    }

    fn reset(&mut self, grammars: &Grammars) {
        (self.entries, self.bytes, self.ignored, self.unattested) = (0, 0, 0, 0);
        self.messages = MessageCounts::default();
        self.latest = Timestamp::default();
        self.malformed.clear();
        self.grammars.resize_with(grammars.iter().count(), GrammarTally::default);
        for (tally, grammar) in self.grammars.iter_mut().zip(grammars.iter()) {
            (tally.harmless, tally.unmatched, tally.refused, tally.logins) = (0, 0, 0, 0);
            tally.nameless = 0;
            tally.forged.clear();
            tally.offences.clear();
            tally.offences.resize(grammar.categories().len(), 0);
        }
    }
}

/// Records from which on a batch is spread over all cores: below it, what rayon costs (10 us) is not won back.
const MANY: usize = 1024;

/// No transport splits shorter messages without saying so.
const SPLIT: usize = 1024;

/// Harmless lines of a batch (where it is spread, of a core's share) and grammar that are looked at for what no rule
/// knows. So such counts are exact where lines come singly and samples under a flood, which that hardly slows: a look
/// takes 1 to 2 us for what servers write and some 50 us at worst, against 120 us for a batch of 500 lines.
pub const LOOKED_AT: u64 = 8;

/// Of so many lines of a batch one is looked at for who made the request, the first of all: 5 ns a line in a flood.
const SAMPLE: u64 = 64;

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

/// What records are read by.
#[derive(Clone, Copy)]
struct Context<'g> {
    grammars: &'g Grammars,
    host: &'g [u8],
    arrival: Timestamp,
    unattested: Unattested,
    tells_ignored: bool,
    looked_at: u64,
    keeps_evidence: bool,
}

/// What was found in some records.
#[derive(Debug, Default)]
struct Scan {
    /// And logins, in the order in which they came.
    offences: Vec<Offence>,
    evidence: Evidence,
    /// The lines with a key.
    keyed: Vec<Keyed>,
    /// What lines look like that no rule knows.
    unmatched: Vec<(GrammarId, String, Timestamp)>,
    /// Who made some of the requests.
    clients: Vec<(GrammarId, IpAddr)>,
    ignored: IgnoredPrograms,
    tally: Tally,
}

impl Scan {
    fn reset(&mut self, grammars: &Grammars) {
        self.offences.clear();
        self.evidence.clear();
        self.keyed.clear();
        self.unmatched.clear();
        self.clients.clear();
        self.ignored.clear();
        self.tally.reset(grammars);
    }

    /// Adds what was found in the records that follow.
    fn append(&mut self, part: &mut Scan) {
        let (offences, messages) = (self.offences.len(), self.evidence.found.len());
        self.keyed.extend(part.keyed.iter().map(|line| line.behind(offences, messages)));
        self.offences.append(&mut part.offences);
        self.evidence.append(&part.evidence);
        self.unmatched.append(&mut part.unmatched);
        self.clients.append(&mut part.clients);
        self.ignored.append(&mut part.ignored);
        self.tally.add(&part.tally);
    }

    fn read(
        &mut self,
        piece: Piece<'_>,
        decoder: &mut Decoder<'_>,
        context: Context<'_>,
        senders: &mut Senders,
    ) {
        let Context { grammars, host, arrival, unattested, tells_ignored, looked_at, keeps_evidence } =
            context;
        let Self { offences, evidence, keyed, unmatched, clients, ignored, tally } = self;
        let format = piece.format();
        piece.for_each(|record| {
            tally.entries += 1;
            tally.bytes += record.len() as u64;
            let mut decoded = decoder.decode(format, record, arrival);
            let entry = match &mut decoded {
                Ok(entry) => entry,
                Err(why) => return tally.malformed(*why, 1),
            };
            tally.latest = tally.latest.max(entry.time);
            // Journald vouches for what it wrote on any host; the syslog daemon here has only heard what others say.
            entry.sender.is_remote = entry.sender.attests() && entry.is_remote(host);
            let sampled = tally.entries % SAMPLE == 1;
            let attested = entry.sender.attests() && (format == Format::Journal || !entry.sender.is_remote);
            tally.unattested += u64::from(!attested);
            let outcome = grammars.find(entry);
            let id = match outcome {
                Outcome::Ignored => {
                    if tells_ignored {
                        ignored.count(entry.program, entry.message);
                    }
                    return tally.ignored += 1;
                }
                Outcome::Harmless(id) | Outcome::Forged(id) | Outcome::Naming(id, ..) => id,
                Outcome::Offence(told, _) | Outcome::Login(told) | Outcome::Referring(told, ..) => {
                    told.grammar
                }
            };
            if (entry.goes_on || !senders.is_empty()) && senders.takes_as_rest(entry) {
                return tally.messages.unjudged += 1;
            }
            tally.messages.cut += u64::from(entry.cut);
            let (first, grammar_tallies) = (id, &mut tally.grammars);
            let Some(tally) = grammar_tallies.get_mut(usize::from(id.0)) else { return };
            if sampled && let Outcome::Harmless(_) | Outcome::Offence(..) = outcome {
                clients.extend(grammars.peer(id, entry.message).map(|client| (id, client)));
            }
            match outcome {
                Outcome::Ignored => {}
                Outcome::Harmless(_) => {
                    tally.harmless += 1;
                    if tally.harmless <= looked_at
                        && let Some(template) = grammars.unmatched_template(entry)
                    {
                        tally.unmatched += 1;
                        unmatched.push((id, template, entry.time));
                    }
                }
                Outcome::Forged(..) => tally.forged.count(entry.sender.uid, 1),
                Outcome::Naming(_, place, address) => {
                    tally.harmless += 1;
                    // It counts for nothing where an offence would not count.
                    if (attested || unattested == Unattested::Accept)
                        && let Some(key) = place.in_entry(entry)
                    {
                        keyed.push(Keyed::Naming(key, address, decoder.time(entry, arrival)));
                    }
                }
                Outcome::Offence(..) | Outcome::Login(..) | Outcome::Referring(..)
                    if !attested && unattested == Unattested::Refuse =>
                {
                    tally.refused += 1;
                }
                Outcome::Login(login) => {
                    tally.logins += 1;
                    offences.push(Offence { time: decoder.time(entry, arrival), ..login });
                }
                Outcome::Offence(offence, rule) => {
                    let time = decoder.time(entry, arrival);
                    // No window holds more than 255.
                    for nth in 0..entry.times.min(u8::MAX.into()) {
                        for (offence, rule) in
                            std::iter::once((offence, rule)).chain(grammars.further(entry, first))
                        {
                            let count = grammar_tallies
                                .get_mut(usize::from(offence.grammar.0))
                                .and_then(|tally| tally.offences.get_mut(usize::from(offence.category.0)))
                                .filter(|_| nth == 0);
                            count.into_iter().for_each(|count| *count += u64::from(entry.times));
                            offences.push(Offence { time, ..offence });
                            if keeps_evidence {
                                evidence.push(entry.message, rule);
                            }
                        }
                    }
                }
                Outcome::Referring(told, rule, place) => {
                    let Some(key) = place.in_entry(entry) else { return };
                    let told = Offence { time: decoder.time(entry, arrival), ..told };
                    for _ in 0..entry.times.min(u8::MAX.into()) {
                        keyed.push(Keyed::Referring(key, offences.len(), evidence.found.len()));
                        offences.push(told);
                        if keeps_evidence && told.category != CategoryId::LOGIN {
                            evidence.push(entry.message, rule);
                        }
                    }
                }
            }
        });
    }
}

#[cfg(test)]
mod tests;
