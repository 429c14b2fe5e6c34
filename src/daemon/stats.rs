//! What has come of all batches since the start: one value of sums, which `status` reads and Prometheus gets.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::metrics::Metrics;
use crate::detect::WindowEffect;
use crate::engine::{BatchReport, Forgers};
use crate::entry::whole::MessageCounts;
use crate::grammar::Grammars;
use crate::model::{BanTerms, Span, Timestamp};

/// The sums. Grammars and jails go by their names, so that a reload continues them.
#[derive(Default)]
pub(super) struct Stats {
    pub(super) sources: BTreeMap<Arc<str>, SourceStats>,
    pub(super) grammars: BTreeMap<String, GrammarStats>,
    /// Offences counted, by jail.
    pub(super) counted: BTreeMap<Arc<str>, u64>,
    /// Bans decided, by jail, kind and mode.
    bans: BTreeMap<(Arc<str>, &'static str, &'static str), u64>,
    pub(super) messages: MessageCounts,
    ignored: u64,
    repeated: u64,
    already_banned: u64,
}

/// What has come from one source.
#[derive(Default)]
pub(super) struct SourceStats {
    pub(super) entries: u64,
    bytes: u64,
    pub(super) unattested: u64,
    /// When an entry came last, and how much earlier it had been written.
    pub(super) last: Option<(Timestamp, Span)>,
}

/// What the entries of one grammar came to.
#[derive(Default)]
pub(super) struct GrammarStats {
    harmless: u64,
    unmatched: u64,
    pub(super) refused: u64,
    nameless: u64,
    pub(super) logins: u64,
    /// When an entry came last.
    pub(super) last: Option<Timestamp>,
    /// By category.
    pub(super) offences: BTreeMap<String, u64>,
    forged: Forgers,
}

/// The sums, shared by the hub, which adds to them, and by those that read them.
#[derive(Clone, Default)]
pub(super) struct SharedStats(Arc<Mutex<Stats>>);

impl SharedStats {
    pub(super) fn lock(&self) -> MutexGuard<'_, Stats> {
        // A panic while adding leaves at worst a sum too small.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl GrammarStats {
    /// All entries that are not forged.
    pub(super) fn entries(&self) -> u64 {
        self.harmless + self.refused + self.nameless + self.logins + self.offences.values().sum::<u64>()
    }
}

impl Stats {
    /// From here on these grammars are in force. Their sums begin at zero, or go on.
    pub(super) fn expect(&mut self, grammars: &Grammars) {
        for grammar in grammars.iter() {
            let sums = self.grammars.entry(grammar.name().to_owned()).or_default();
            for category in grammar.categories() {
                sums.offences.entry(category.clone()).or_default();
            }
        }
    }

    /// Adds what a batch from this source came to, by these grammars.
    pub(super) fn add(
        &mut self,
        source: &Arc<str>,
        grammars: &Grammars,
        report: &BatchReport<'_>,
        now: Timestamp,
    ) {
        let BatchReport { tally, seen, .. } = report;
        let read = self.sources.entry(Arc::clone(source)).or_default();
        read.entries += tally.entries;
        read.bytes += tally.bytes;
        read.unattested += tally.unattested;
        if tally.latest > Timestamp::default() {
            read.last = Some((now, now.since(tally.latest)));
        }
        self.messages.add(&tally.messages);
        self.ignored += tally.ignored;
        for (grammar, tally) in grammars.iter().zip(&tally.grammars) {
            let entries = tally.entries();
            // Of a hundred grammars one or two have read something.
            if entries == 0 && tally.forged.iter().next().is_none() {
                continue;
            }
            let Some(sums) = self.grammars.get_mut(grammar.name()) else { continue };
            sums.harmless += tally.harmless;
            sums.unmatched += tally.unmatched;
            sums.refused += tally.refused;
            sums.nameless += tally.nameless;
            sums.logins += tally.logins;
            sums.forged.add(&tally.forged);
            for (category, times) in grammar.categories().iter().zip(&tally.offences).filter(|(_, n)| **n > 0)
            {
                sums.offences.get_mut(category).into_iter().for_each(|sum| *sum += times);
            }
            if entries > 0 {
                sums.last = Some(now);
            }
        }
        self.repeated += seen.repeated;
        self.already_banned += seen.banned_already;
        // In a flood neighbours are of one jail.
        for run in seen.traces.chunk_by(|one, other| one.jail == other.jail) {
            let counted = run.iter().filter(|trace| trace.effect != WindowEffect::Nothing).count() as u64;
            if let (Some(trace), 1..) = (run.first(), counted) {
                *self.counted.entry(Arc::clone(&trace.jail)).or_default() += counted;
            }
        }
    }

    /// Counts bans that have these terms.
    pub(super) fn banned(&mut self, terms: &BanTerms, bans: u64) {
        let key = (Arc::clone(&terms.jail), terms.kind.name(), terms.mode.name());
        *self.bans.entry(key).or_default() += bans;
    }

    /// Bans decided, with their jail; a jail may come several times.
    pub(super) fn bans(&self) -> impl Iterator<Item = (&Arc<str>, u64)> {
        self.bans.iter().map(|((jail, ..), bans)| (jail, *bans))
    }

    /// Forged lines, by grammar and user; of all other users together where there is none.
    pub(super) fn forged(&self) -> impl Iterator<Item = (&str, Option<u32>, u64)> {
        self.grammars
            .iter()
            .flat_map(|(name, sums)| sums.forged.iter().map(move |(uid, lines)| (&**name, uid, lines)))
    }

    /// Shows all in Prometheus' metrics.
    pub(super) fn export(&self, metrics: &Metrics) {
        let set = |name, labels: &[(&'static str, &str)], sum| metrics.counter(name, labels).absolute(sum);
        let MessageCounts { cut, split, joined, unjudged } = self.messages;
        set("banstream_messages_cut_total", &[], cut);
        set("banstream_pieces_total", &[], split);
        set("banstream_messages_joined_total", &[], joined);
        set("banstream_pieces_skipped_total", &[], unjudged);
        set("banstream_entries_ignored_total", &[], self.ignored);
        set("banstream_offences_counted_total", &[], self.counted.values().sum());
        set("banstream_offences_repeated_total", &[], self.repeated);
        set("banstream_offences_already_banned_total", &[], self.already_banned);
        for (source, sums) in &self.sources {
            let source = [("source", &**source)];
            set("banstream_entries_total", &source, sums.entries);
            set("banstream_entries_bytes_total", &source, sums.bytes);
            set("banstream_entries_unattested_total", &source, sums.unattested);
        }
        for (name, sums) in &self.grammars {
            let grammar = ("grammar", name.as_str());
            set("banstream_entries_harmless_total", &[grammar], sums.harmless);
            set("banstream_entries_unmatched_total", &[grammar], sums.unmatched);
            set("banstream_entries_refused_total", &[grammar], sums.refused);
            set("banstream_entries_nameless_total", &[grammar], sums.nameless);
            set("banstream_logins_total", &[grammar], sums.logins);
            for (category, times) in &sums.offences {
                set("banstream_offences_total", &[grammar, ("category", category.as_str())], *times);
            }
        }
        for (grammar, uid, lines) in self.forged() {
            let uid = uid.map_or("other".to_owned(), |uid| uid.to_string());
            set("banstream_entries_forged_total", &[("grammar", grammar), ("uid", &uid)], lines);
        }
        for ((jail, kind, mode), bans) in &self.bans {
            set("banstream_bans_total", &[("jail", jail), ("kind", kind), ("mode", mode)], *bans);
        }
    }
}
