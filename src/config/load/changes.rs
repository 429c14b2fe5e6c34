//! What a reload changes, for people.

use std::collections::{BTreeMap, BTreeSet};

use super::Loaded;
use crate::config::Setting;

impl Loaded {
    /// What is in force now and was not before, or was otherwise, for people. Of receivers no value is shown, as it may be
    /// secret, and what jails inherit is shown once.
    pub fn changes_since(&self, before: &Self) -> Vec<String> {
        fn tables(loaded: &Loaded) -> BTreeMap<&str, BTreeMap<&str, &str>> {
            let mut tables: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
            for setting in loaded.written.iter().filter(|setting| !setting.inherited) {
                tables.entry(&setting.table).or_default().insert(&setting.key, &setting.value);
            }
            tables
        }
        let (old, new) = (tables(before), tables(self));
        let mut changes = Vec::new();
        for table in old.keys().chain(new.keys()).copied().collect::<BTreeSet<_>>() {
            let (old, new) = match (old.get(table), new.get(table)) {
                (None, _) => {
                    changes.push(format!("[{table}]: new"));
                    continue;
                }
                (_, None) => {
                    changes.push(format!("[{table}]: removed"));
                    continue;
                }
                (Some(old), Some(new)) => (old, new),
            };
            let keys: BTreeSet<_> =
                old.keys().chain(new.keys()).filter(|key| old.get(*key) != new.get(*key)).collect();
            if table.starts_with("notify.") && !keys.is_empty() {
                changes.push(format!("[{table}]: changed"));
                continue;
            }
            // Where only one of both has the key, the other has the inherited value.
            let value = |loaded: &'_ Self, key: &str| {
                let is_it = |setting: &&Setting| setting.table == table && setting.key == key;
                loaded.written.iter().find(is_it).map_or("not set".to_owned(), |found| found.value.clone())
            };
            let of = if table.is_empty() { String::new() } else { format!(" of [{table}]") };
            let change = |key: &&str| {
                let later =
                    if waits_for_start(table, key) { " (takes effect at the next start)" } else { "" };
                format!("`{key}`{of}: {} -> {}{later}", value(before, key), value(self, key))
            };
            changes.extend(keys.into_iter().map(change));
        }
        let files: BTreeSet<_> = before.own.keys().chain(self.own.keys()).collect();
        let files = files.into_iter().filter_map(|path| {
            let what = match (before.own.get(path), self.own.get(path)) {
                (old, new) if old == new => return None,
                (None, _) => "new",
                (_, None) => "removed",
                _ => "changed",
            };
            Some(format!("`{}`: {what}", path.display()))
        });
        changes.into_iter().chain(files).collect()
    }
}

/// Whether a reload leaves this setting as it is.
fn waits_for_start(table: &str, key: &str) -> bool {
    match table {
        "" => key == "state-directory",
        "socket" => key != "unattested",
        _ => matches!(table, "control" | "ledger" | "metrics"),
    }
}
