//! What a grammar is compiled to: its rules as the matcher and the proof read them.

use hashbrown::HashSet;

use super::condition::{self, Conditions, Tests};
use super::fault::Faults;
use super::matcher::Matcher;
#[cfg(any(test, fuzzing))]
use super::matcher::reference::Reference;
use super::prefilter::Prefilter;
use super::record::RecordShapes;
use super::source::{KeyRole, RuleGroup, Source, Verdict};
use super::unmatched;
use super::variant::{self, Variant, Whole};
use crate::model::JoinId;

/// The rules of a grammar, compiled.
#[derive(Debug)]
pub(super) struct CompiledRules {
    pub(super) groups: Vec<CompiledGroup>,
    pub(super) matcher: Matcher,
    prefilter: Option<Prefilter>,
    #[cfg(any(test, fuzzing))]
    pub(super) reference: Reference,
    /// What the matcher's patterns were made of, in their order, then what its records look like, and the other forms.
    pub(super) variants: Vec<Variant>,
    /// How many of them are rules.
    pub(super) rules: usize,
    /// Those of the lines of its shapes of records.
    pub(super) values: Vec<Variant>,
    /// Which texts fields never hold.
    pub(super) without: Vec<Vec<String>>,
    /// What the messages look like that are meant to match nothing: its tests for `-`.
    pub(super) quiet: Vec<String>,
    /// The words that its rules are made of.
    pub(super) words: HashSet<Box<str>>,
    /// Whether a rule has a `<forwarded>`, as those of web servers have.
    pub(super) forwards: bool,
}

/// The meaning of a rule group, and the names of its fields, by slot.
#[derive(Debug)]
pub(super) struct CompiledGroup {
    pub(super) names: Vec<Option<String>>,
    pub(super) meaning: Meaning,
    /// Whether its fields are those of a record: one that is missing meets no condition, and its text may have had
    /// backslashes.
    pub(super) is_record: bool,
    pub(super) key: Option<GroupKey>,
}

/// The key that the lines of a group have.
#[derive(Clone, Copy, Debug)]
pub(super) struct GroupKey {
    pub(super) id: JoinId,
    pub(super) slot: u8,
    /// Whether they name the address under it, or end it.
    pub(super) names: bool,
}

#[derive(Debug)]
pub(super) enum Meaning {
    /// The offence of this category, always.
    Always(u16),
    /// The offence of the first condition that holds; none if none does.
    First(Conditions),
}

impl GroupKey {
    /// That of a group, of which this is a variant; `keys` are the sections of the grammar.
    fn of(group: &RuleGroup, variant: &Variant, keys: &[JoinId]) -> Option<Self> {
        let (number, names) = match group.key? {
            KeyRole::Names(number) => (number, true),
            KeyRole::Refers(number) => (number, false),
        };
        Some(Self { id: *keys.get(usize::from(number))?, slot: variant.key_slot()?, names })
    }
}

impl Meaning {
    fn of<'l>(
        group: &RuleGroup,
        names: &[Option<String>],
        words: impl Fn(&str) -> Option<&'l [String]> + Copy,
        tests: &Tests,
        faults: &mut Faults<'_>,
    ) -> Self {
        match &group.verdict {
            Verdict::Always(category) => Self::Always(*category as u16),
            Verdict::Shape { cases, .. } => Self::First(Conditions::new(cases, names, words, tests, faults)),
        }
    }
}

impl CompiledRules {
    /// Compiles a grammar as written, where `keys` are its sections of keys and `words` those of a list that it has not of its own; `None`
    /// if it has errors.
    pub(super) fn new<'l>(
        source: &'l Source,
        keys: &[JoinId],
        words: impl Fn(&str) -> Option<&'l [String]> + Copy,
        tests: &Tests,
        faults: &mut Faults<'_>,
    ) -> Option<Self> {
        let words = |name: &str| source.words(name).or_else(|| words(name));
        let (mut variants, mut groups, mut without) = (Vec::new(), Vec::new(), Vec::new());
        let mut values = Vec::new();
        for (number, group) in (0..).zip(&source.groups) {
            let variants = if group.record.is_some() { &mut values } else { &mut variants };
            let first = variants.len();
            let names = variant::spell_out(&group.rules, number, group.whole(), variants, faults);
            let own = variants.get_mut(first..).unwrap_or_default();
            let key = own.first().and_then(|variant| GroupKey::of(group, variant, keys));
            condition::warn_of_unmet(group, &names, own, faults);
            condition::narrow(group, &names, own, &mut without);
            let meaning = Meaning::of(group, &names, words, tests, faults);
            groups.push(CompiledGroup { names, meaning, is_record: group.record.is_some(), key });
        }
        let rules = variants.len();
        let records = RecordShapes::new(&source.groups, &values, &without, faults);
        variants.extend(records.forms());
        variant::spell_out(&source.others, variant::OTHER, Whole::Other, &mut variants, faults);
        // What conditions exclude is a message all the same.
        let excluded: Vec<Variant> =
            variants.iter().take(rules).filter_map(Variant::without_promises).collect();
        variants.extend(excluded);
        if source.programs.iter().any(|program| program == "*") {
            variant::must_begin_with_text(&variants, faults);
        }
        let (only_rules, _) = variants.split_at(rules.min(variants.len()));
        variant::advise(only_rules, !source.others.is_empty(), faults);
        if faults.has_errors() {
            return None;
        }
        let lines = || only_rules.iter().chain(&values);
        let prefilter = Self::prefilter(&groups, source, only_rules, words);
        Some(Self {
            groups,
            prefilter,
            matcher: Matcher::new(only_rules).with_records(records),
            #[cfg(any(test, fuzzing))]
            reference: Reference::new(only_rules),
            quiet: unmatched::quiet(&source.tests),
            words: unmatched::words(lines()),
            forwards: lines().any(Variant::forwards),
            rules,
            values,
            without,
            variants,
        })
    }

    /// Rules that read nothing.
    pub(super) fn empty() -> Self {
        Self {
            groups: Vec::new(),
            matcher: Matcher::new(&[]),
            prefilter: None,
            #[cfg(any(test, fuzzing))]
            reference: Reference::new(&[]),
            quiet: Vec::new(),
            words: HashSet::new(),
            forwards: false,
            rules: 0,
            values: Vec::new(),
            without: Vec::new(),
            variants: Vec::new(),
        }
    }

    /// Compiles the conditions again, with other words in lists.
    pub(super) fn renew<'l>(
        &mut self,
        source: &'l Source,
        words: impl Fn(&str) -> Option<&'l [String]> + Copy,
        tests: &Tests,
        faults: &mut Faults<'_>,
    ) {
        let words = |name: &str| source.words(name).or_else(|| words(name));
        for (group, written) in self.groups.iter_mut().zip(&source.groups) {
            group.meaning = Meaning::of(written, &group.names, words, tests, faults);
        }
        let (rules, _) = self.variants.split_at(self.rules.min(self.variants.len()));
        self.prefilter = Self::prefilter(&self.groups, source, rules, words);
    }

    fn prefilter<'l>(
        groups: &[CompiledGroup],
        source: &'l Source,
        variants: &[Variant],
        words: impl Fn(&str) -> Option<&'l [String]>,
    ) -> Option<Prefilter> {
        let names: Vec<&[Option<String>]> = groups.iter().map(|group| &*group.names).collect();
        Prefilter::new(&source.groups, &names, variants, words)
    }

    /// Whether the message may be an offence, a login or a naming. Most lines of web servers may not, and are read no further.
    pub(super) fn may_mean(&self, message: &[u8]) -> bool {
        self.prefilter.as_ref().is_none_or(|filter| filter.may_match(message))
            || self.matcher.records().is_some_and(|records| records.may_read(message))
    }
}
