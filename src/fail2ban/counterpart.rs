//! What stands for a jail's filter: a grammar of ours by what the filter matches, or rules made of it.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::net::IpAddr;

use super::filter::FilterRegexes;
use super::ignored;
use super::jails::{JailMaker, JailTexts};
use super::paths::log_paths;
use super::plan::JailOutcome;
use super::read::Fail2banJail;
use super::substance::{self, FilterSubstance, NotAsked};
use crate::grammar::Grammar;
use crate::model::count;
use crate::words::{self, FilterWord};

impl JailMaker<'_> {
    /// The filter of fail2ban's package that a jail has, under this name or another, with the regular expressions that were
    /// added to it.
    pub(super) fn known(
        &self,
        jail: &Fail2banJail,
        texts: &mut JailTexts,
    ) -> Option<(&'static FilterWord, FilterRegexes)> {
        let counted = |name: &str| words::filter(name).filter(|word| !word.counted.is_empty());
        let stock = jail.stock.as_ref().filter(|stock| jail.regexes.is_mostly(stock))?;
        let added = jail.regexes.fail.iter().filter(|regex| !stock.fail.contains(regex));
        let extra = FilterRegexes { fail: added.cloned().collect(), ..jail.regexes.clone() };
        if let Some(word) = counted(jail.known_as) {
            if word.name != jail.filter.name {
                texts.imported.notes.push(format!("its filter is a copy of fail2ban's `{}`", word.name));
            }
            return Some((word, extra));
        }
        // A file of that name that is not the package's, or is of another version.
        let word = counted(&jail.filter.name)?;
        let is_its = |grammar: &&Grammar| word.counted.iter().any(|its| its.grammar == grammar.name());
        let said = match self.tests.of(jail, self.ask) {
            Ok(found) => {
                let found = found.filter(|found| is_its(&found.grammar) && found.is_mostly())?;
                let all = found.both + found.only_ours;
                texts.tasks.extend(found.task(&jail.name));
                format!("its filter matches {} of the {all} lines with which it is tested", found.both)
            }
            Err(NotAsked) => {
                let its: Vec<&Grammar> = self.grammars.iter().filter(is_its).collect();
                if !substance::reads_samples(&its, &jail.regexes) {
                    return None;
                }
                "it reads lines that its filter matches".to_owned()
            }
        };
        let grammar = word.counted.first().map_or("", |its| its.grammar);
        texts.imported.notes.push(format!(
            "its filter is not fail2ban's `{}` of version 1.0.2 or 1.1.0; the grammar `{grammar}` stands for it, since {said}",
            word.name
        ));
        Some((word, extra))
    }

    /// What becomes of a jail whose filter is none of fail2ban's: rules like its own, or a grammar of ours that finds the same.
    pub(super) fn own(&self, jail: &Fail2banJail, texts: &mut JailTexts) {
        let found = self.tests.of(jail, self.ask).ok().flatten();
        if !found.as_ref().is_some_and(FilterSubstance::is_same) {
            let before = texts.clone();
            self.convert(jail, &jail.regexes, texts);
            if texts.imported.converted > 0 || !found.as_ref().is_some_and(FilterSubstance::is_alike) {
                if texts.made.is_empty() {
                    texts.imported.notes.extend(hints(jail, found));
                }
                return;
            }
            *texts = before;
        }
        let Some(found) = found else { return };
        let FilterSubstance { grammar, categories, both, only_filter, only_ours, .. } = &found;
        texts.imported.outcome = JailOutcome::Ours;
        texts.imported.grammars.push(grammar.name().to_owned());
        self.count(&mut texts.imported, categories);
        texts.imported.notes.push(format!(
            "the grammar `{}` stands for its filter: of the lines with which it is tested, both find {both}, only the filter \
             {only_filter}, only banstream {only_ours}",
            grammar.name(),
        ));
        texts.tasks.extend(found.task(&jail.name));
        self.logs(jail, texts);
        let fail = found.unread(jail, self.ask);
        if !fail.is_empty() {
            self.convert(jail, &FilterRegexes { fail, ..jail.regexes.clone() }, texts);
        }
    }
}

/// What an operator's own `ignoreregex` spares, which a grammar of ours does not know: an address is exempt, all else needs a
/// human.
pub(super) fn spared(jail: &Fail2banJail, texts: &mut JailTexts) {
    let stock = jail.stock.as_ref().filter(|_| words::filter(jail.known_as).is_some());
    let is_own = |regex: &&String| stock.is_none_or(|stock| !stock.ignore.contains(regex));
    for regex in jail.regexes.ignore.iter().filter(is_own) {
        let text = ignored::ignored_text(regex).unwrap_or_default();
        let words = text.split(|c: char| c.is_whitespace() || "[]()<>'\"=,;".contains(c));
        let addresses: Vec<IpAddr> = words.filter_map(|word| word.parse().ok()).collect();
        match addresses.as_slice() {
            [address] => {
                texts.exempt.push(address.to_string());
                texts.imported.notes.push(format!("exempts {address}, by its `ignoreregex` `{regex}`"));
            }
            _ => texts.tasks.push(format!(
                "`{}`: its `ignoreregex` `{regex}` has no counterpart in a grammar of banstream, so what it spares is counted: \
                 name the addresses in `ignoreip`",
                jail.name
            )),
        }
    }
}

/// What may help where nothing could be made of a filter.
fn hints(jail: &Fail2banJail, found: Option<FilterSubstance<'_>>) -> Vec<String> {
    let mut hints = Vec::new();
    if let Some(found) = found {
        hints.push(format!(
            "the grammar `{}` of banstream reads {} of these, and others: count its categories instead",
            found.grammar.name(),
            count(found.both as u64, "line"),
        ));
    }
    if jail.regexes.fail.iter().any(|regex| regex.contains("\\{") && regex.contains("\":")) {
        let note =
            "its lines are JSON, which a grammar reads by key: `banstream grammar new` makes one of them";
        hints.push(note.to_owned());
    }
    let word = words::filter(&jail.filter.name).filter(|word| !word.note.is_empty());
    hints.extend(word.map(|word| word.note.to_owned()));
    hints
}

/// Whether a jail counts bans of other jails.
pub(super) fn is_recidive(jail: &Fail2banJail) -> bool {
    let is_of_bans = || {
        let reads_bans = |regex: &String| regex.contains("Ban") && !regex.contains("Banned");
        let is_called =
            jail.filter.name == "recidive" || log_paths(jail).any(|path| path.ends_with("/fail2ban.log"));
        is_called && !jail.regexes.fail.is_empty() && jail.regexes.fail.iter().all(reads_bans)
    };
    jail.known_as == "recidive" || is_of_bans()
}
