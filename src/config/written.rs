//! The configuration as it is written: the files merged, each value with its place.
//!
//! [`TableReader`] is the only way to the checked configuration: it collects every fault and every key that nobody has read,
//! so one run reports all. (Serde would stop at the first.)

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Serialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{ConfigError, ConfigErrors};
use super::value::{self, wide};
use crate::model::Offender;
use crate::words;

/// The lowest layer: what holds where no file says otherwise.
const DEFAULTS: &str = include_str!("defaults.toml");

/// What a jail takes from the top where it has none of its own.
const INHERITED: [&str; 4] = ["bantime", "findtime", "maxretry", "mode"];

/// A value that is in force, and where it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Setting {
    /// The table, such as `jail.sshd`; empty for the top.
    pub table: String,
    /// The key.
    pub key: String,
    /// The value as TOML, as it is written.
    pub value: String,
    /// The file; `null` for a default.
    pub file: Option<PathBuf>,
    /// The line of that file, from 1.
    pub line: Option<usize>,
    /// Whether a jail takes it from the top.
    pub inherited: bool,
}

/// Configuration files, parsed and laid over the built-in defaults; not yet judged.
///
/// A later file wins key by key, also inside tables; a list is one value. A value that a later file overrides
/// is not judged.
#[derive(Clone, Debug)]
pub struct Written<'t> {
    files: Vec<(&'t Path, &'t str)>,
    top: Table<'t>,
}

impl<'t> Written<'t> {
    /// Lays these texts over the defaults and each other, the last one on top; the paths name them in faults.
    ///
    /// # Errors
    ///
    /// Everything in any of them that is not TOML.
    pub fn parse(files: &'t [(PathBuf, String)]) -> Result<Self, ConfigErrors> {
        let files: Vec<_> = std::iter::once((Path::new("built-in defaults"), DEFAULTS))
            .chain(files.iter().map(|(path, text)| (path.as_path(), text.as_str())))
            .collect();
        let mut top = Table::default();
        let mut faults = Vec::new();
        for (file, (_, text)) in files.iter().enumerate() {
            let (table, errors) = DeTable::parse_recoverable(text);
            // All its lines would be at fault.
            if !errors.is_empty() && words::is_fail2ban_file(text) {
                faults.push((FileOffset { file, at: 0 }, IS_FAIL2BAN.to_owned()));
                continue;
            }
            top.merge(file, table.into_inner());
            faults.extend(errors.into_iter().map(|error| {
                let at = error.span().map_or(text.len(), |span| span.start);
                let what = error.message().replace('\n', ", ");
                let dotted =
                    line_of(text, at).and_then(|line| words::dotted_hint(line.split('=').next()?.trim()));
                let quoted = unquoted(text, at).filter(|_| what != "duplicate key");
                let quoted = quoted.map(|line| format!("write `{line}`"));
                (FileOffset { file, at }, dotted.or(quoted).unwrap_or(what))
            }));
        }
        let written = Self { files, top };
        if faults.is_empty() { Ok(written) } else { Err(written.show(faults)) }
    }

    /// Whether this text sets nothing, as an empty file does and one that has comments only.
    pub fn is_silent(text: &str) -> bool {
        DeTable::parse_recoverable(text).0.get_ref().is_empty()
    }

    /// Hands the outermost table to `read`.
    ///
    /// # Errors
    ///
    /// All that `read` found wrong, and all keys that it did not ask for.
    pub(super) fn read<T>(
        &self,
        read: impl FnOnce(&mut TableReader<'_, 't>) -> Option<T>,
    ) -> Result<T, ConfigErrors> {
        let mut faults = Vec::new();
        let value = TableReader::run(&self.top, FileOffset::default(), &mut faults, read);
        value.filter(|_| faults.is_empty()).ok_or_else(|| self.show(faults))
    }

    /// Reads one key of the outermost table; the others are not judged.
    pub(super) fn read_key<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(&DeValue<'t>) -> Result<T, InvalidValue>,
    ) -> Result<T, ConfigErrors> {
        let mut faults = Vec::new();
        let mut reader = TableReader {
            table: &self.top,
            place: FileOffset::default(),
            known: Vec::new(),
            faults: &mut faults,
        };
        reader.value(key, read).ok_or_else(|| self.show(faults))
    }

    /// All that is in force: each value as it is written, and the jails' inherited ones.
    pub fn settings(&self) -> Vec<Setting> {
        let mut settings = Vec::new();
        self.list(&self.top, "", &mut settings);
        settings
    }

    fn list(&self, table: &Table<'t>, name: &str, settings: &mut Vec<Setting>) {
        let mut tables = Vec::new();
        for (key, entry) in &table.0 {
            match &entry.node {
                TomlNode::Value(_) => settings.push(self.setting(name, key, entry, false)),
                TomlNode::Table(table) => tables.push((key, table)),
            }
        }
        if name.starts_with("jail.") {
            let inherited = INHERITED.into_iter().filter(|key| !table.0.contains_key(*key));
            let inherited = inherited.filter_map(|key| Some((key, self.top.0.get(key)?)));
            settings.extend(inherited.map(|(key, entry)| self.setting(name, key, entry, true)));
        }
        for (key, table) in tables {
            let dot = if name.is_empty() { "" } else { "." };
            self.list(table, &format!("{name}{dot}{key}"), settings);
        }
    }

    fn setting(&self, table: &str, key: &str, entry: &TomlEntry<'t>, inherited: bool) -> Setting {
        let FileOffset { file, at } = entry.value;
        let (path, text) = self.files.get(file).copied().unwrap_or((Path::new(""), ""));
        let (before, after) = text.split_at_checked(at).unwrap_or((text, ""));
        Setting {
            table: table.to_owned(),
            key: key.to_owned(),
            value: after.get(..entry.length).unwrap_or_default().to_owned(),
            file: (file > 0).then(|| path.to_owned()),
            line: (file > 0).then(|| before.matches('\n').count() + 1),
            inherited,
        }
    }

    /// What is valid and can hardly have been meant, for people.
    pub fn doubts(&self) -> Vec<String> {
        let mut doubts = self.appended();
        for (place, text) in self.ignored() {
            let Ok(offender) = text.parse::<Offender>() else { continue };
            doubts.extend(wide(offender).map(|what| (place, what)));
        }
        doubts.extend(self.open_metrics());
        doubts.extend(self.beyond_cap());
        doubts.sort();
        doubts.dedup();
        doubts
            .into_iter()
            .filter_map(|(place, what)| self.shown(place, &format!("warning: {what}")))
            .collect()
    }

    /// A jail's `ignoreip` where there is none for all, as when a line was appended to a file whose last table is a jail.
    fn appended(&self) -> Vec<(FileOffset, String)> {
        let written = |table: &Table<'t>| {
            table.0.get("ignoreip").filter(|entry| entry.value.file > 0).map(|entry| entry.key)
        };
        if written(&self.top).is_some() {
            return Vec::new();
        }
        let doubt = |(name, jail): (&str, &Table<'t>)| {
            let what = format!(
                "only the jail `{name}` ignores these; to ignore them in all jails, write the line before the first \
                 `[table]`"
            );
            Some((written(jail)?, what))
        };
        self.jails().filter_map(doubt).collect()
    }

    fn jails(&self) -> impl Iterator<Item = (&str, &Table<'t>)> {
        let jails = self.top.0.get("jail").and_then(|entry| match &entry.node {
            TomlNode::Table(jails) => Some(jails),
            TomlNode::Value(_) => None,
        });
        jails.into_iter().flat_map(|jails| &jails.0).filter_map(|(name, entry)| match &entry.node {
            TomlNode::Table(jail) => Some((name.as_ref(), jail)),
            TomlNode::Value(_) => None,
        })
    }

    /// The texts in each `ignoreip` and in `trusted-proxies`, and where they stand.
    fn ignored(&self) -> impl Iterator<Item = (FileOffset, &str)> {
        let top = ["ignoreip", "trusted-proxies"].into_iter().filter_map(|key| self.top.0.get(key));
        let lists = top.chain(self.jails().filter_map(|(_, jail)| jail.0.get("ignoreip")));
        lists.filter(|entry| entry.value.file > 0).flat_map(|entry| {
            let items = if let TomlNode::Value(DeValue::Array(items)) = &entry.node { &**items } else { &[] };
            let place = |item: &Spanned<DeValue<'_>>| FileOffset { at: item.span().start, ..entry.value };
            items.iter().filter_map(move |item| Some((place(item), item.get_ref().as_str()?)))
        })
    }

    /// Metrics that strangers can read.
    fn open_metrics(&self) -> Option<(FileOffset, String)> {
        let entry = self.entry("metrics", "listen")?;
        let TomlNode::Value(value) = &entry.node else { return None };
        let listen: SocketAddr = value.as_str()?.parse().ok()?;
        let is_open = listen.ip().is_unspecified() || !Offender::single(listen.ip()).is_private();
        let what = format!(
            "everybody who reaches this host can read the metrics at `{listen}`: there is no password"
        );
        (is_open && !listen.ip().is_loopback()).then_some((entry.value, what))
    }

    /// Ban times that are longer than `cap`, where bans grow.
    fn beyond_cap(&self) -> Vec<(FileOffset, String)> {
        fn read<T>(
            table: &Table<'_>,
            key: &str,
            read: impl Fn(&DeValue<'_>) -> Result<T, InvalidValue>,
        ) -> Option<(FileOffset, T)> {
            let entry = table.0.get(key)?;
            let TomlNode::Value(value) = &entry.node else { return None };
            Some((entry.value, read(value).ok()?))
        }
        let Some(TomlNode::Table(growth)) = self.top.0.get("growth").map(|entry| &entry.node) else {
            return Vec::new();
        };
        let grows =
            read(growth, "factor", value::number(1.0..=100.0)).is_some_and(|(_, factor)| factor > 1.0);
        let Some((place, cap)) = read(growth, "cap", value::time).filter(|_| grows) else {
            return Vec::new();
        };
        let tables = std::iter::once(&self.top).chain(self.jails().map(|(_, jail)| jail));
        let times = tables.filter_map(|table| read(table, "bantime", value::time));
        let what = format!("`bantime` is longer than `cap` of [growth], {cap}: such bans do not grow");
        // Of a default that is longer, the cap is at fault.
        let beyond = times.filter(|(_, time)| *time > cap);
        beyond.map(|(at, _)| (if at.file > 0 { at } else { place }, what.clone())).collect()
    }

    /// A key of a table that a file sets.
    fn entry(&self, table: &str, key: &str) -> Option<&TomlEntry<'t>> {
        let mut within = &self.top;
        for name in table.split('.') {
            let TomlNode::Table(table) = &within.0.get(name)?.node else { return None };
            within = table;
        }
        within.0.get(key).filter(|entry| entry.value.file > 0)
    }

    /// What is wrong with the value of a key of a table, where it stands; `None` where no file sets it.
    pub fn fault(&self, table: &str, key: &str, what: &str) -> Option<String> {
        self.shown(self.entry(table, key)?.value, what)
    }

    /// What is wrong with a file that `ignoreip` names, where it is named.
    pub fn fault_of_file(&self, file: &Path, what: &str) -> Option<String> {
        let names = |text: &str| text.strip_prefix("file:").is_some_and(|path| Path::new(path) == file);
        let (place, _) = self.ignored().find(|(_, text)| names(text))?;
        self.shown(place, what)
    }

    fn shown(&self, place: FileOffset, what: &str) -> Option<String> {
        let (path, text) = self.files.get(place.file)?;
        Some(ConfigError::new(path, text, place.at, what.to_owned()).to_string())
    }

    fn show(&self, mut faults: Vec<(FileOffset, String)>) -> ConfigErrors {
        faults.sort();
        let show = |(place, what): (FileOffset, String)| {
            self.files.get(place.file).map(|(path, text)| ConfigError::new(path, text, place.at, what))
        };
        ConfigErrors::new(faults.into_iter().filter_map(show).collect())
    }
}

/// Which file, and how many bytes into it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct FileOffset {
    file: usize,
    at: usize,
}

/// What a table holds under its keys, whichever files set them.
#[derive(Clone, Debug, Default)]
struct Table<'t>(BTreeMap<Cow<'t, str>, TomlEntry<'t>>);

/// What stands under a key, and where the last file to speak of it has the key and the value.
#[derive(Clone, Debug)]
struct TomlEntry<'t> {
    key: FileOffset,
    value: FileOffset,
    /// Of the value as it is written, in bytes.
    length: usize,
    node: TomlNode<'t>,
}

#[derive(Clone, Debug)]
enum TomlNode<'t> {
    Table(Table<'t>),
    Value(DeValue<'t>),
}

impl<'t> Table<'t> {
    fn merge(&mut self, file: usize, above: DeTable<'t>) {
        for (key, value) in above {
            let place = |span: std::ops::Range<usize>| FileOffset { file, at: span.start };
            let (key_place, value_place, length) =
                (place(key.span()), place(value.span()), value.span().len());
            let below = self.0.remove(key.get_ref());
            let node = match value.into_inner() {
                DeValue::Table(above) => {
                    let mut table = match below {
                        Some(TomlEntry { node: TomlNode::Table(table), .. }) => table,
                        _ => Self::default(),
                    };
                    table.merge(file, above);
                    TomlNode::Table(table)
                }
                value => TomlNode::Value(value),
            };
            self.0.insert(key.into_inner(), TomlEntry { key: key_place, value: value_place, length, node });
        }
    }
}

/// Reads the keys of one table.
///
/// Every method gives `None` where it has noted a fault, so that a caller can ask for all the keys before it
/// gives up.
pub(super) struct TableReader<'w, 't> {
    table: &'w Table<'t>,
    place: FileOffset,
    known: Vec<&'w str>,
    faults: &'w mut Vec<(FileOffset, String)>,
}

impl<'w, 't> TableReader<'w, 't> {
    fn run<T>(
        table: &'w Table<'t>,
        place: FileOffset,
        faults: &'w mut Vec<(FileOffset, String)>,
        read: impl FnOnce(&mut Self) -> Option<T>,
    ) -> Option<T> {
        let mut reader = TableReader { table, place, known: Vec::new(), faults };
        let value = read(&mut reader);
        reader.refuse_unknown();
        value
    }

    /// Whether a key is there.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.0.contains_key(key)
    }

    /// The value of a key that must be there.
    pub(super) fn value<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&DeValue<'t>) -> Result<T, InvalidValue>,
    ) -> Option<T> {
        if !self.has(key) {
            self.faults.push((self.place, format!("`{key}` is missing")));
        }
        self.value_or(key, None, read)
    }

    /// The value of a key, or `default` where it is not there.
    pub(super) fn value_or<T>(
        &mut self,
        key: &'static str,
        default: Option<T>,
        read: impl FnOnce(&DeValue<'t>) -> Result<T, InvalidValue>,
    ) -> Option<T> {
        self.known.push(key);
        let Some(entry) = self.table.0.get(key) else { return default };
        let read = match &entry.node {
            TomlNode::Value(value) => read(value),
            TomlNode::Table(table) => {
                let hint = |(sub, entry): (&Cow<'t, str>, &TomlEntry<'t>)| {
                    Some((entry.key, words::dotted_hint(&format!("{key}.{sub}"))?))
                };
                let hints: Vec<_> = table.0.iter().filter_map(hint).collect();
                if !hints.is_empty() {
                    self.faults.extend(hints);
                    return None;
                }
                Err(InvalidValue("must be one value, not a table".into()))
            }
        };
        read.map_err(|unwanted| self.note(entry.value, key, unwanted)).ok()
    }

    /// The items of a list; a fault in one is noted at its own place. Empty where the key is not there.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&DeValue<'t>) -> Result<T, InvalidValue>,
    ) -> Option<Vec<T>> {
        self.list_or(key, Some(Vec::new()), read)
    }

    /// The same, or `default` if the key is missing.
    pub(super) fn list_or<T>(
        &mut self,
        key: &'static str,
        default: Option<Vec<T>>,
        read: impl Fn(&DeValue<'t>) -> Result<T, InvalidValue>,
    ) -> Option<Vec<T>> {
        self.known.push(key);
        let Some(entry) = self.table.0.get(key) else { return default };
        let TomlNode::Value(DeValue::Array(items)) = &entry.node else {
            self.note(entry.value, key, InvalidValue("must be a list, such as `[\"...\", \"...\"]`".into()));
            return None;
        };
        let mut item = |item: &Spanned<DeValue<'t>>| {
            let place = FileOffset { file: entry.value.file, at: item.span().start };
            read(item.get_ref()).map_err(|unwanted| self.note(place, key, unwanted)).ok()
        };
        // Two steps, since collecting into an `Option` would stop at the first fault.
        let items: Vec<Option<T>> = items.iter().map(&mut item).collect();
        items.into_iter().collect()
    }

    /// What `read` makes of the table under a key; of an empty one where the key is not there.
    pub(super) fn table<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut TableReader<'_, 't>) -> Option<T>,
    ) -> Option<T> {
        let (table, place) = self.inner(key)?;
        TableReader::run(table, place, self.faults, read)
    }

    /// What `read` makes of each table in the table under a key, in the order of their names.
    pub(super) fn tables<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&str, &mut TableReader<'_, 't>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let (outer, _) = self.inner(key)?;
        let mut inner = |(name, entry): (&Cow<'t, str>, &'w TomlEntry<'t>)| match &entry.node {
            TomlNode::Table(table) => {
                TableReader::run(table, entry.key, self.faults, |reader| read(name, reader))
            }
            TomlNode::Value(_) => {
                self.faults.push((entry.key, format!("`{name}` must be a table: `[{key}.{name}]`")));
                None
            }
        };
        let tables: Vec<Option<T>> = outer.0.iter().map(&mut inner).collect();
        tables.into_iter().collect()
    }

    /// What `read` makes of each table in this one that nobody has asked for, in the order of their names.
    pub(super) fn others<T>(
        &mut self,
        mut read: impl FnMut(&str, &mut TableReader<'_, 't>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let mut others = Vec::new();
        for (name, entry) in &self.table.0 {
            if let TomlNode::Table(table) = &entry.node
                && !self.known.contains(&name.as_ref())
            {
                self.known.push(name);
                others.push(TableReader::run(table, entry.key, self.faults, |reader| read(name, reader)));
            }
        }
        others.into_iter().collect()
    }

    fn inner(&mut self, key: &'static str) -> Option<(&'w Table<'t>, FileOffset)> {
        static EMPTY: Table<'static> = Table(BTreeMap::new());
        self.known.push(key);
        match self.table.0.get(key) {
            None => Some((&EMPTY, self.place)),
            Some(TomlEntry { key, node: TomlNode::Table(table), .. }) => Some((table, *key)),
            Some(entry) => {
                self.note(entry.value, key, InvalidValue(format!("must be a table: `[{key}]`")));
                None
            }
        }
    }

    /// Notes a fault of this table as a whole, or of the value under one of its keys.
    pub(super) fn fault(&mut self, key: Option<&'static str>, what: String) {
        let entry = key.and_then(|key| self.table.0.get(key));
        self.faults.push((entry.map_or(self.place, |entry| entry.value), what));
    }

    fn note(&mut self, place: FileOffset, key: &str, InvalidValue(wanted): InvalidValue) {
        self.faults.push((place, format!("`{key}` {wanted}")));
    }

    fn refuse_unknown(self) {
        let jails: Vec<&str> = match self.table.0.get("jail") {
            Some(TomlEntry { node: TomlNode::Table(jails), .. }) => {
                jails.0.keys().map(AsRef::as_ref).collect()
            }
            _ => Vec::new(),
        };
        let table = if self.known.contains(&"jail") { Some("") } else { None };
        let table = table.or(self.known.contains(&"grammars").then_some("jail"));
        for (key, entry) in &self.table.0 {
            if !self.known.contains(&key.as_ref()) {
                let meant = table.and_then(|table| words::hint(table, key, &jails));
                let hint = meant.unwrap_or_else(|| nearest(key, "keys", self.known.iter().copied()));
                self.faults.push((entry.key, format!("unknown key `{key}`; {hint}")));
            }
        }
    }
}

/// Why a value will not do, as it reads after the name of the key: "must be ..., not ...".
pub(super) struct InvalidValue(pub(super) String);

/// What a file of fail2ban is told.
pub const IS_FAIL2BAN: &str =
    "this is a configuration of fail2ban; `banstream import fail2ban` shows what it becomes here";

/// The line in which this byte is.
fn line_of(text: &str, at: usize) -> Option<&str> {
    let start = text.get(..at)?.rfind('\n').map_or(0, |end| end + 1);
    text.get(start..)?.lines().next()
}

/// The line that a fault is in, with its value in quotation marks, if these are all that is missing.
fn unquoted(text: &str, at: usize) -> Option<String> {
    let (key, value) = line_of(text, at)?.split_once('=')?;
    let value = value.split('#').next()?.trim();
    let is_plain = !value.is_empty() && !value.contains(['"', '\'', '[', '{', '\\']);
    let line = format!("{} = \"{value}\"", key.trim());
    (is_plain && DeTable::parse_recoverable(&line).1.is_empty()).then_some(line)
}

/// More names than these are not listed.
const READABLE: usize = 40;

/// A hint for `name`, which is unknown: `did you mean ...`, or all known names, or how many there are.
pub(crate) fn nearest<'n>(name: &str, nouns: &str, known: impl Iterator<Item = &'n str>) -> String {
    let mut known: Vec<&str> = known.collect();
    known.sort_unstable();
    known.dedup();
    meant(name, known.iter().copied()).unwrap_or_else(|| match known.len() {
        ..=READABLE => format!("valid {nouns}: {}", known.join(", ")),
        many => format!("none of the {many} {nouns} known here is like it"),
    })
}

/// `did you mean ...`, if one of the known names is near.
pub(super) fn meant<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<String> {
    let near = known.map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate)).min()?;
    (near.0 <= near.1.len() / 3).then(|| format!("did you mean `{}`?", near.1))
}
