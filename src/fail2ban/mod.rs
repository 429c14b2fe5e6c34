//! Takes over fail2ban: its configuration, its filters and its bans.
//!
//! `read` reads fail2ban's files as fail2ban does. `plan` and `jails` say what each jail and each setting becomes, by the
//! table in [`crate::words`], and `substance` which grammar reads what a filter matches. Where none does, `regex` parses its
//! regular expressions, `convert` makes rules of them, and `library` lets the proof of grammars accept or refuse each.
//! `compare` tries each rule against its regular expression on lines that `specimen` and the rule make; `pattern` runs it for
//! that, and nothing else here runs one.
//! `bans` takes over what fail2ban's database holds, `shadow` lets both run side by side, `switch` stops fail2ban.
//!
//! `agreement` compares a jail's filter with ours on the last lines of its own logs: `logs` reads them, `reference` lets
//! fail2ban say what it finds in them, `judge` lets the engine. `diff` compares the bans of both, and `reasons` says why one
//! of them lacks a ban.

mod access;
mod agreement;
mod bans;
mod class;
mod compare;
mod convert;
mod counterpart;
mod daemons;
mod dates;
mod diff;
mod faulty;
mod files;
mod filter;
mod ignored;
mod ini;
mod jails;
mod judge;
mod library;
mod logs;
mod message;
mod options;
mod padding;
mod paths;
mod pattern;
mod piece;
mod plan;
mod print;
mod printed;
mod read;
mod reasons;
mod receivers;
mod reference;
mod regex;
mod run;
mod sample;
mod settings;
mod shadow;
mod specimen;
mod stock;
mod substance;
mod switch;
mod table;
mod tags;
mod time;

pub use agreement::{FoundBy, JailAgreement, LineDifference};
pub use bans::BanSummary;
pub use compare::FilterTrial;
pub use diff::{BanDiff, BanLead, DiffOffender, DiffReason};
pub use filter::FilterRegexes;
pub use ini::IniError;
pub use options::NamedOptions;
pub use plan::{FilterComparison, ImportPlan, ImportedJail, ImportedSetting, JailOutcome, RefusedLine};
pub use read::{FOLDER, Fail2banConfig, Fail2banJail};
pub use run::{ImportAction, ImportFormat, ImportReport, run};

#[cfg(test)]
mod tests {
    #[test]
    fn grammars_and_categories_of_the_table_exist() {
        let (_, grammars) = crate::config::load::sound_part(Some(std::path::Path::new(""))).unwrap();
        let categories = crate::config::load::categories(&grammars);
        for filter in crate::words::FILTERS {
            assert!(!filter.counted.is_empty() || !filter.note.is_empty(), "{}", filter.name);
            assert!(
                !filter.counted.is_empty() || crate::words::differs(filter.name).is_none(),
                "{}",
                filter.name
            );
            for mode in filter.modes.iter().map(|(mode, _)| *mode).chain([""]) {
                for (grammar, offences) in filter.in_mode(mode) {
                    let known = &categories[grammar];
                    assert!(
                        offences.iter().all(|offence| known.iter().any(|known| known == offence)),
                        "{}",
                        filter.name
                    );
                }
            }
        }
    }

    #[test]
    fn conditions_of_the_table_are_sound_beside_their_base() {
        let lists = crate::grammar::Lists::shipped();
        let shipped =
            |name: &str| crate::grammar::SHIPPED.iter().find(|(known, _)| *known == name).unwrap().1;
        for words in crate::words::CONDITIONS {
            let text = format!("extends: {}\n{}", words.base, words.sections);
            let base = Some(shipped(words.base));
            let (grammar, _) = crate::grammar::Grammar::load_with("x", "x", &text, base, &lists)
                .unwrap_or_else(|faults| panic!("{}: {faults:?}", words.filter));
            assert_eq!(grammar.categories(), [words.filter]);
            let filter = crate::words::filter(words.filter).unwrap();
            assert!(filter.counted.iter().any(|counted| counted.grammar == words.base), "{}", words.filter);
        }
        assert!(crate::words::DIFFERS.iter().all(|(name, _)| crate::words::filter(name).is_some()));
        assert!(crate::words::DIFFERS.is_sorted());
    }
}
