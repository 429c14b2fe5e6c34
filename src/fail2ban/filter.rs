//! What a filter says, with all names filled in.

use std::collections::BTreeMap;

use super::ini::{Ini, IniError, Variables};
use super::options::NamedOptions;
use super::tags;

/// What a filter may say that a jail may also say itself.
pub(super) const OF_FILTERS: [&str; 7] =
    ["usedns", "prefregex", "ignoreregex", "failregex", "maxlines", "datepattern", "journalmatch"];

/// What a filter says, filled in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilterRegexes {
    /// What each line of the log must match first.
    pub prefix: Option<String>,
    /// What makes a line an offence.
    pub fail: Vec<String>,
    /// What makes it none after all.
    pub ignore: Vec<String>,
    /// Which entries of the journal are read.
    pub journal: Vec<String>,
    /// How time is written.
    pub date: String,
    /// Whether offences span lines.
    pub lines: u32,
    /// The part of it that stands for the header of syslog.
    pub header: String,
    /// The programs that its `_daemon` stands for, as a regular expression.
    pub daemon: String,
}

/// The options of a filter, filled in: what the jail gives as parameters comes first, then `[Init]`, then `[Definition]`.
pub(super) fn combined(
    ini: &Ini,
    filter: &NamedOptions,
    logtype: &str,
) -> Result<BTreeMap<String, String>, IniError> {
    let mut variables: Variables = filter.options.iter().cloned().collect();
    let is_set = ini.sections.get("Definition").is_some_and(|options| options.contains_key("logtype"));
    if !is_set {
        variables.entry("logtype".to_owned()).or_insert_with(|| logtype.to_owned());
    }
    let mut all = BTreeMap::new();
    for option in OF_FILTERS {
        if let Some(value) = ini.get("Definition", option, &variables)? {
            all.insert(option.to_owned(), value);
        }
    }
    for option in ini.sections.get("Init").into_iter().flat_map(BTreeMap::keys) {
        let Some(value) = ini.get("Init", option, &Variables::new())? else { continue };
        all.insert(format!("known/{option}"), value.clone());
        variables.entry(option.clone()).or_insert(value);
    }
    all.extend(variables.iter().map(|(name, value)| (name.clone(), value.clone())));
    let other = |name: &str| ini.get("Definition", name, &variables);
    tags::substitute(&all, other).map_err(|what| what.at(|option| ini.raw("Definition", option)))
}

/// What a filter says, from its options.
pub(super) fn regexes(
    ini: &Ini,
    combined: &BTreeMap<String, String>,
    logtype: &str,
) -> Result<FilterRegexes, IniError> {
    let mut found = FilterRegexes { lines: 1, ..FilterRegexes::default() };
    for option in OF_FILTERS {
        if let Some(value) = combined.get(option) {
            found.set(option, value);
        }
    }
    let logtype = combined.get("logtype").map_or(logtype, String::as_str);
    let names = [("header", format!("lt_{logtype}/__prefix_line")), ("daemon", "_daemon".to_owned())];
    let variables = combined.clone();
    let all: BTreeMap<String, String> = names
        .into_iter()
        .filter_map(|(name, option)| {
            Some((name.to_owned(), ini.get("Definition", &option, &variables).ok().flatten()?))
        })
        .collect();
    let other = |name: &str| ini.get("Definition", name, &variables);
    let all =
        tags::substitute(&all, other).map_err(|what| what.at(|option| ini.raw("Definition", option)))?;
    found.header = all.get("header").cloned().unwrap_or_default();
    found.daemon = all.get("daemon").cloned().unwrap_or_default();
    Ok(found)
}

impl FilterRegexes {
    /// Takes over what one of [`OF_FILTERS`] says.
    pub(super) fn set(&mut self, option: &str, text: &str) {
        let lines = || text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
        match option {
            "prefregex" => self.prefix = (!text.is_empty()).then(|| text.to_owned()),
            "failregex" => self.fail = lines(),
            "ignoreregex" => self.ignore = lines(),
            "journalmatch" => self.journal = lines(),
            "datepattern" => text.clone_into(&mut self.date),
            // fail2ban, too, warns and goes on with one if it is not a number.
            "maxlines" => self.lines = text.trim().parse().unwrap_or(1),
            _ => {}
        }
    }
}
