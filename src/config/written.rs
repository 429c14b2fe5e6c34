//! The configuration as it is written: the files merged, each value with its place.
//!
//! [`TableReader`] is the only way to the checked configuration: it collects every fault and every key that nobody has read,
//! so one run reports all. (Serde would stop at the first.)

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{ConfigError, ConfigErrors};

/// The lowest layer: what holds where no file says otherwise.
pub(super) const DEFAULTS: &str = include_str!("defaults.toml");

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
            top.merge(file, table.into_inner());
            faults.extend(errors.into_iter().map(|error| {
                let at = error.span().map_or(text.len(), |span| span.start);
                (FileOffset { file, at }, error.message().replace('\n', ", "))
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
            let (key_place, value_place) = (place(key.span()), place(value.span()));
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
            self.0.insert(key.into_inner(), TomlEntry { key: key_place, value: value_place, node });
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
            TomlNode::Table(_) => Err(InvalidValue("must be one value, not a table".into())),
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
        for (key, entry) in &self.table.0 {
            if !self.known.contains(&key.as_ref()) {
                let hint = nearest(key, "keys", self.known.iter().copied());
                self.faults.push((entry.key, format!("unknown key `{key}`; {hint}")));
            }
        }
    }
}

/// Why a value will not do, as it reads after the name of the key: "must be ..., not ...".
pub(super) struct InvalidValue(pub(super) String);

/// A hint for `name`, which is unknown: `did you mean ...`, or all known names.
pub(super) fn nearest<'n>(name: &str, nouns: &str, known: impl Iterator<Item = &'n str>) -> String {
    let mut known: Vec<&str> = known.collect();
    known.sort_unstable();
    known.dedup();
    meant(name, known.iter().copied()).unwrap_or_else(|| format!("valid {nouns}: {}", known.join(", ")))
}

/// `did you mean ...`, if one of the known names is near.
pub(super) fn meant<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<String> {
    let near = known.map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate)).min()?;
    (near.0 <= near.1.len() / 3).then(|| format!("did you mean `{}`?", near.1))
}
