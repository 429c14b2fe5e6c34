//! Which of fail2ban's own filters a file is, whatever it is called.

use std::path::Path;

use super::filter::{FilterRegexes, combined, regexes};
use super::ini::Ini;
use super::options::NamedOptions;
use crate::model::fnv1a;
use crate::words::{self, FilterWord};

/// The filter of fail2ban's package that this file is.
pub(super) fn known(ini: &Ini, file: &Path) -> Option<&'static str> {
    words::stock(print(ini, file))
}

/// The filter of fail2ban's package that most of these regular expressions are from, with its own.
pub(super) fn copied_from(
    folder: &Path,
    own: &FilterRegexes,
    filter: &NamedOptions,
    logtype: &str,
) -> Option<(&'static str, FilterRegexes)> {
    let stock = |word: &'static FilterWord| {
        let conf = folder.join("filter.d").join(word.name).with_extension("conf");
        let ini = Ini::read(std::slice::from_ref(&conf)).ok()?;
        known(&ini, &conf).filter(|name| *name == word.name)?;
        let all = combined(&ini, filter, logtype).ok()?;
        regexes(&ini, &all, logtype).ok().filter(|stock| own.kept(stock) > 0)
    };
    let found = words::FILTERS.iter().filter_map(|word| Some((word.name, stock(word)?)));
    found.filter(|(_, stock)| own.is_mostly(stock)).max_by_key(|(_, stock)| own.kept(stock))
}

/// What tells the text of a filter's file from others, whatever its comments and spaces are.
fn print(ini: &Ini, file: &Path) -> u64 {
    let mut words: Vec<String> = Vec::new();
    let default = "DEFAULT".to_owned();
    for (section, options) in ini.sections.iter().chain([(&default, &ini.defaults)]) {
        for (key, value) in options.iter().filter(|(_, value)| *value.file == *file) {
            words.extend([section.clone(), key.clone()]);
            words.extend(value.text.split_whitespace().map(str::to_owned));
        }
    }
    // It need not withstand an attacker, who would be root.
    fnv1a(words.join(" ").bytes())
}

impl FilterRegexes {
    /// How many of the other's regular expressions are here.
    pub(super) fn kept(&self, stock: &Self) -> usize {
        stock.fail.iter().filter(|regex| self.fail.contains(regex)).count()
    }

    /// Whether half of the other's regular expressions or more are here, and mean the same.
    pub(super) fn is_mostly(&self, stock: &Self) -> bool {
        self.prefix == stock.prefix && self.kept(stock) > 0 && self.kept(stock) * 2 >= stock.fail.len()
    }
}
