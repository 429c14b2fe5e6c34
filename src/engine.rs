//! The whole way from bytes to decisions, in one value that one task owns.
//!
//! It joins decoder, grammars and detector, so that the daemon and a replay run the very same code; and it
//! spreads the part of the work that needs no order, decoding and finding, over all cores when there is much.
//!
//! It reads no clock, and knows neither where records come from nor what becomes of its decisions.

use std::sync::Arc;

use rayon::iter::{IntoParallelIterator, ParallelIterator};

use crate::detect::{Detector, Seen, Settings};
use crate::entry::records::{Piece, Records};
use crate::entry::{Decoder, Malformed};
use crate::grammar::{Grammars, Outcome};
use crate::model::{Ban, Decision, Offence, Timestamp};

/// Decides who is banned.
#[derive(Debug)]
pub struct Engine<'p> {
    grammars: Arc<Grammars>,
    decoder: Decoder<'p>,
    detector: Detector,
    scan: Scan,
    seen: Seen,
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

/// What came of a batch of records.
#[derive(Debug)]
pub struct Report<'a> {
    /// How many of what there were.
    pub tally: &'a Tally,
    /// What was decided, and counted on the way.
    pub seen: &'a Seen,
    /// Bans that ended meanwhile.
    pub ended: Vec<Ban>,
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
    pub foreign: u64,
    /// What the entries of each grammar came to, by [`crate::model::GrammarId`].
    pub grammars: Vec<GrammarTally>,
}

/// What the entries of one grammar came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GrammarTally {
    /// No offence.
    pub unmatched: u64,
    /// An offence, were it not that its sender is known to be somebody else.
    pub forged: u64,
    /// Offences by heading.
    pub offences: Vec<u64>,
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
        self.foreign += other.foreign;
        for (why, times) in &other.malformed {
            self.malformed(*why, *times);
        }
        if self.grammars.len() < other.grammars.len() {
            self.grammars.resize_with(other.grammars.len(), GrammarTally::default);
        }
        for (mine, other) in self.grammars.iter_mut().zip(&other.grammars) {
            mine.unmatched += other.unmatched;
            mine.forged += other.forged;
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
        (self.entries, self.bytes, self.foreign) = (0, 0, 0);
        self.malformed.clear();
        self.grammars.resize_with(grammars.iter().count(), GrammarTally::default);
        for (tally, grammar) in self.grammars.iter_mut().zip(grammars.iter()) {
            (tally.unmatched, tally.forged) = (0, 0);
            tally.offences.clear();
            tally.offences.resize(grammar.headings().len(), 0);
        }
    }
}

/// Records from which on a batch is spread over all cores: below it, what rayon costs (10 us) is not won back.
const MANY: usize = 1024;

impl<'p> Engine<'p> {
    /// An engine that has seen nothing yet.
    pub fn new(settings: Settings, grammars: Arc<Grammars>, decoder: Decoder<'p>) -> Self {
        let detector = Detector::new(settings, &grammars);
        let (scan, seen, clock) = (Scan::default(), Seen::default(), Timestamp::from_micros(i64::MIN));
        Self { grammars, decoder, detector, scan, seen, clock }
    }

    /// Goes on with other settings and grammars; bans and counts stay. The bans that these no longer allow.
    pub fn reconfigure(&mut self, settings: Settings, grammars: Arc<Grammars>) -> Vec<Decision> {
        self.grammars = grammars;
        self.detector.reconfigure(settings, &self.grammars)
    }

    /// Goes on with other settings and the same grammars.
    pub fn reconfigure_settings(&mut self, settings: Settings) -> Vec<Decision> {
        self.detector.reconfigure(settings, &self.grammars)
    }

    /// The grammars in force.
    pub fn grammars(&self) -> &Grammars {
        &self.grammars
    }

    /// The detector, for what is not about records: commands, restored bans, listings.
    pub fn detector(&mut self) -> &mut Detector {
        &mut self.detector
    }

    /// Decodes the records, finds the offences in them and counts those, in their order.
    ///
    /// Never fails: what cannot be read is counted. Linear in the bytes. Decodes in place, so that the records are
    /// not what they were afterwards.
    pub fn take(&mut self, records: &mut Records, clock: Clock) -> Report<'_> {
        let Self { grammars, decoder, detector, scan, seen, clock: latest } = self;
        let arrival = match clock {
            Clock::At(now) | Clock::OfEntries(now) => now,
        };
        scan.reset(grammars);
        if records.len() < MANY {
            scan.read(records.whole(), grammars, decoder, arrival);
        } else {
            let pieces = records.split(rayon::current_num_threads());
            let scans: Vec<Scan> = pieces
                .into_par_iter()
                .map_with(decoder.clone(), |decoder, piece| {
                    let mut scan = Scan::default();
                    scan.reset(grammars);
                    scan.read(piece, grammars, decoder, arrival);
                    scan
                })
                .collect();
            for part in scans {
                scan.offences.extend(part.offences);
                scan.tally.add(&part.tally);
            }
        }
        seen.reset();
        let mut ended = Vec::new();
        if let Clock::At(now) = clock {
            ended = detector.expire(now);
            *latest = now;
        }
        for offence in &scan.offences {
            if let Clock::OfEntries(_) = clock {
                *latest = offence.time.max(*latest);
                ended.extend(detector.expire(*latest));
            }
            detector.observe(offence, *latest, seen);
        }
        Report { tally: &scan.tally, seen, ended }
    }
}

/// What was found in some records.
#[derive(Debug, Default)]
struct Scan {
    offences: Vec<Offence>,
    tally: Tally,
}

impl Scan {
    fn reset(&mut self, grammars: &Grammars) {
        self.offences.clear();
        self.tally.reset(grammars);
    }

    fn read(&mut self, piece: Piece<'_>, grammars: &Grammars, decoder: &mut Decoder<'_>, arrival: Timestamp) {
        let Self { offences, tally } = self;
        let format = piece.format();
        piece.for_each(|record| {
            tally.entries += 1;
            tally.bytes += record.len() as u64;
            let entry = match decoder.decode(format, record, arrival) {
                Ok(entry) => entry,
                Err(why) => return tally.malformed(why, 1),
            };
            let of = |tally: &mut Tally, id: crate::model::GrammarId, count: fn(&mut GrammarTally)| {
                tally.grammars.get_mut(usize::from(id.0)).into_iter().for_each(count);
            };
            match grammars.find(&entry) {
                Outcome::Foreign => tally.foreign += 1,
                Outcome::Harmless(id) => of(tally, id, |tally| tally.unmatched += 1),
                Outcome::Forged(id, _) => of(tally, id, |tally| tally.forged += 1),
                Outcome::Offence(offence, _) => {
                    let grammar = tally.grammars.get_mut(usize::from(offence.grammar.0));
                    let count =
                        grammar.and_then(|grammar| grammar.offences.get_mut(usize::from(offence.heading.0)));
                    count.into_iter().for_each(|count| *count += u64::from(entry.times));
                    // No window holds more than 255.
                    offences.extend(std::iter::repeat_n(offence, entry.times.min(u8::MAX.into()) as usize));
                }
            }
        });
    }
}
