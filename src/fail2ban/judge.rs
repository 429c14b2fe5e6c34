//! What a jail of ours makes of single lines: the engine of `replay` with that jail alone.

use std::sync::Arc;

use crate::config::load::Loaded;
use crate::detect::{Jail, Settings};
use crate::engine::{Clock, Engine, Unattested};
use crate::entry::records::Records;
use crate::entry::{Decoder, Format};
use crate::grammar::{Grammar, Grammars, Outcome};
use crate::input;
use crate::model::{CategoryId, GrammarId, Offender, Timestamp, plain};

/// An offence that the jail counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CountedLine {
    /// Who is held to account.
    pub(super) offender: Offender,
    /// The category and the rule, for people.
    pub(super) what: String,
    /// Whether a line before it has counted already for the same attempt.
    pub(super) is_repeated: bool,
}

/// One jail that looks at lines.
pub(super) struct LineJudge<'l> {
    engine: Engine<'l>,
    grammars: Arc<Grammars>,
    decoder: Decoder<'l>,
    now: Timestamp,
}

impl<'l> LineJudge<'l> {
    /// The jail of that name, if there is one. Exemptions do not count here. `now` is the time of lines without one.
    pub(super) fn new(loaded: &'l Loaded, jail: &str, now: Timestamp) -> Option<Self> {
        let settings = loaded.settings();
        let jail = settings.jails.iter().find(|known| *known.name == *jail)?;
        let watched = jail.watches.first()?;
        let grammar = loaded.grammars.iter().find(|grammar| grammar.name() == watched.grammar)?;
        // Whose message a line is that does not say.
        let program = grammar.programs().iter().find(|program| !program.contains('*'));
        let decoder = Decoder::new(input::zone());
        let decoder = decoder.for_program(program.map_or(b"", |program| program.as_bytes()));
        let jail = Jail { mode: settings.mode, ignore: Vec::new(), ..jail.clone() };
        let settings = Settings { jails: vec![jail], ignore: Vec::new(), widen: None, ..settings };
        let engine = Engine::new(settings, Arc::clone(&loaded.grammars), decoder.clone());
        Some(Self { engine, grammars: Arc::clone(&loaded.grammars), decoder, now })
    }

    /// The offence in the next line, if the jail counts it.
    pub(super) fn counted(&mut self, record: &[u8]) -> Option<CountedLine> {
        let mut records = Records::new(Format::Line);
        records.push(record);
        let report = self.engine.take(&mut records, Clock::OfEntries(self.now), Unattested::Accept);
        let (seen, rule) = (report.seen, report.evidence.get(0).map_or(0, |(_, rule)| rule));
        if !seen.decisions.is_empty() {
            // What a jail has banned it does not count.
            self.engine.detector().unban_all();
        }
        let trace = seen.traces.first()?;
        let what =
            trace.grammar.zip(trace.category).map(|(grammar, category)| self.name(grammar, category, rule));
        Some(CountedLine {
            offender: trace.offender,
            what: what.unwrap_or_default(),
            is_repeated: trace.effect == crate::detect::WindowEffect::Nothing,
        })
    }

    /// Why a line does not count.
    pub(super) fn why_not(&mut self, record: &[u8]) -> NotCounted {
        let mut record = record.to_vec();
        let Ok(entry) = self.decoder.decode(Format::Line, &mut record, self.now) else {
            return NotCounted::Unread("no message can be read from it".to_owned());
        };
        let name = |id: GrammarId| self.grammars.get(id).map_or("", Grammar::name);
        match self.grammars.find(&entry) {
            Outcome::Ignored if entry.program.is_empty() => {
                NotCounted::Unread("it does not say which program wrote it".to_owned())
            }
            Outcome::Ignored => {
                NotCounted::Unread(format!("no grammar reads lines of `{}`", plain(entry.program)))
            }
            Outcome::Harmless(id) => NotCounted::Unread(format!("no rule of {}.grammar reads it", name(id))),
            Outcome::Forged(id) => {
                NotCounted::Otherwise(format!("its sender may not write for {}", name(id)))
            }
            Outcome::Login(_) => NotCounted::Otherwise("it is a login that went well".to_owned()),
            Outcome::Naming(..) => {
                NotCounted::Otherwise("it only names the address for the lines that follow".to_owned())
            }
            Outcome::Referring(..) => {
                NotCounted::Otherwise("its address is in another line, which is not there".to_owned())
            }
            Outcome::Offence(offence, rule) => {
                let what = self.name(offence.grammar, offence.category, rule);
                NotCounted::Otherwise(format!("it is {what}, which the jail does not count"))
            }
        }
    }

    /// Whether a line begins with a header of syslog, so that it says which program wrote it.
    pub(super) fn has_header(&self, line: &[u8]) -> bool {
        let decoded = Decoder::new(jiff::tz::TimeZone::UTC)
            .decode(Format::Line, &mut line.to_vec(), self.now)
            .map(|entry| !entry.program.is_empty());
        decoded.unwrap_or(false)
    }

    fn name(&self, grammar: GrammarId, category: CategoryId, rule: u32) -> String {
        let grammar = self.grammars.get(grammar);
        let category = grammar
            .and_then(|grammar| grammar.categories().get(usize::from(category.0)))
            .map_or("", String::as_str);
        format!("{category} ({}.grammar:{rule})", grammar.map_or("", Grammar::name))
    }
}

/// Why a line does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NotCounted {
    /// Nothing reads it.
    Unread(String),
    /// It is read as something else.
    Otherwise(String),
}
