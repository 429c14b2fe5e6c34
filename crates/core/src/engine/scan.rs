//! Finds the offences in records, without their order.

use std::net::IpAddr;

use super::joins::Keyed;
use super::senders::Senders;
use super::{Evidence, IgnoredPrograms, Tally, Unattested};
use crate::entry::records::Piece;
use crate::entry::{Decoder, Format};
use crate::grammar::{Grammars, Outcome};
use crate::model::{CategoryId, GrammarId, Offence, Timestamp};

/// Of so many lines of a batch one is looked at for who made the request, the first of all: 5 ns a line in a flood.
const SAMPLE: u64 = 64;

/// What records are read by.
#[derive(Clone, Copy)]
pub(super) struct Context<'g> {
    pub(super) grammars: &'g Grammars,
    pub(super) host: &'g [u8],
    pub(super) arrival: Timestamp,
    pub(super) unattested: Unattested,
    pub(super) tells_ignored: bool,
    pub(super) looked_at: u64,
    pub(super) keeps_evidence: bool,
}

/// What was found in some records.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// And logins, in the order in which they came.
    pub(super) offences: Vec<Offence>,
    pub(super) evidence: Evidence,
    /// The lines with a key.
    pub(super) keyed: Vec<Keyed>,
    /// What lines look like that no rule knows.
    pub(super) unmatched: Vec<(GrammarId, String, Timestamp)>,
    /// Who made some of the requests.
    pub(super) clients: Vec<(GrammarId, IpAddr)>,
    pub(super) ignored: IgnoredPrograms,
    pub(super) tally: Tally,
}

impl Scan {
    pub(super) fn reset(&mut self, grammars: &Grammars) {
        self.offences.clear();
        self.evidence.clear();
        self.keyed.clear();
        self.unmatched.clear();
        self.clients.clear();
        self.ignored.clear();
        self.tally.reset(grammars);
    }

    /// Adds what was found in the records that follow.
    pub(super) fn append(&mut self, part: &mut Scan) {
        let (offences, messages) = (self.offences.len(), self.evidence.count());
        self.keyed.extend(part.keyed.iter().map(|line| line.behind(offences, messages)));
        self.offences.append(&mut part.offences);
        self.evidence.append(&part.evidence);
        self.unmatched.append(&mut part.unmatched);
        self.clients.append(&mut part.clients);
        self.ignored.append(&mut part.ignored);
        self.tally.add(&part.tally);
    }

    pub(super) fn read(
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
                        keyed.push(Keyed::Referring(key, offences.len(), evidence.count()));
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
