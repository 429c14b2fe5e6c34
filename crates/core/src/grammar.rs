//! Grammars: descriptions of attacks in the log of a program, proved before use.
//!
//! A grammar is a text file (`grammars/README.md` describes the language). [`Grammar::load`] parses, proves and tests
//! it. There is no other way to get one, so no stranger can choose the address that [`Grammars::find`] returns.

mod compiled;
mod condition;
mod explain;
mod fault;
mod forgeable;
mod form;
mod forwarded;
mod grammars;
mod list;
mod matcher;
mod path;
mod prefilter;
mod proof;
mod proposal;
mod proved;
mod record;
mod unmatched;
mod source;
mod syntax;
mod template;
mod time;
mod together;
mod variant;

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::OnceLock;

use hashbrown::{HashMap, HashSet};
use memchr::memmem;

use crate::model::{CategoryId, Entry, JoinId, JoinKey, Sender, SessionId, fnv1a};
use compiled::{CompiledGroup, CompiledRules, GroupKey, Meaning};
use condition::{Condition, Conditions};
pub use explain::{Closest, FieldText, MissReason, RecordMiss, Unmet};
use fault::Faults;
pub use fault::{Fault, Place, Severity};
pub use form::{FormPart, MessageForm};
pub use grammars::{Grammars, Outcome};
pub use list::Lists;
use matcher::{Reading, Spans};
pub use proposal::{Proposal, propose, tells_of_failure};
pub use proved::proved_list;
use source::{KeySection, SessionScope, Source, TestCase, View};
use variant::Variant;

/// The grammars that come with banstream, as (name, text).
pub const SHIPPED: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/shipped.rs"));

/// The category that no jail counts: its rules match successful logins.
const LOGIN: &str = "login";

/// One program's grammar: parsed, proved and tested.
#[derive(Debug)]
pub struct Grammar {
    name: String,
    /// What faults call its file.
    file: String,
    /// The file as it was written.
    text: Cow<'static, str>,
    /// Whether that is a file that comes with banstream.
    is_shipped: bool,
    /// What it says; of a shipped grammar without its rules, lists and tests, as most are never asked.
    source: Source,
    /// All that a shipped grammar says, once somebody asked.
    whole: OnceLock<Source>,
    /// Whether it reads the lines of all programs.
    reads_all: bool,
    lists: Lists,
    /// Its sections `key NAME:`, in their order.
    keys: Vec<JoinId>,
    /// The user ids of the users that it names, as far as this host has them.
    uids: Vec<u32>,
    /// By category: the field, and the part of it, by whose values offences are told apart.
    counted: Vec<Option<(String, View)>>,
    /// What it is compiled to, once that was done.
    compiled: OnceLock<CompiledRules>,
    /// Whether no message has two addresses or keys, once somebody asked. Nothing is read if one has.
    is_sound: OnceLock<bool>,
    /// What the proof found, once it was made.
    proof: OnceLock<Proof>,
}

/// For each rule, whether it reads no beginning of a message with another address or key than the whole has. `None` if
/// some message has two of them, so that nothing is to be read.
type Proof = Option<Box<[bool]>>;

/// An offence found in a message, with what a person may want to know about it.
#[derive(Clone, Copy, Debug)]
pub struct Found<'g> {
    grammar: &'g Grammar,
    category: u16,
    reading: Reading,
    spans: Spans,
}

impl Grammar {
    /// Parses, proves and tests a grammar; `file` is what faults call the file that the text came from, `lists`
    /// what it has no list of its own for.
    ///
    /// # Errors
    ///
    /// All faults of the text, in its order, if there is one that is more than a warning.
    pub fn load(name: &str, file: &str, text: &str, lists: &Lists) -> Result<(Self, Vec<Fault>), Vec<Fault>> {
        Self::load_with(name, file, text, None, lists)
    }

    /// As [`load`](Self::load) for a text that [extends](Self::base_of) another, whose text is `base`.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load); also if the text extends another and there is none.
    pub fn load_with(
        name: &str,
        file: &str,
        text: &str,
        base: Option<&str>,
        lists: &Lists,
    ) -> Result<(Self, Vec<Fault>), Vec<Fault>> {
        let mut faults = Faults::new(file, text);
        let source = syntax::parse(text, base, &mut faults);
        if let (Some((other, place)), None) = (&source.extends, base) {
            faults.error(*place, format!("there is no grammar `{other}` to extend"));
        }
        let mut grammar = Self::of(name, file, text.to_owned().into(), source, lists);
        let tested = |name: &str| lists.tested(name);
        let Some(compiled) =
            CompiledRules::new(&grammar.source, &grammar.keys, tested, &lists.tests, &mut faults)
        else {
            return Err(faults.into_sorted());
        };
        let safe = proof::prove(&compiled.variants, &compiled.without, &mut faults);
        (grammar.compiled, grammar.proof) = (compiled.into(), Some(safe.into()).into());
        if !faults.has_errors() {
            grammar.test(&mut faults);
        }
        if lists.are_changed()
            && let Some(compiled) = grammar.compiled.get_mut()
        {
            compiled.renew(&grammar.source, |name| lists.get(name), &lists.tests, &mut faults);
        }
        if faults.has_errors() { Err(faults.into_sorted()) } else { Ok((grammar, faults.into_sorted())) }
    }

    /// A grammar that comes with banstream. It is compiled when it is first asked for a message: most programs write nothing
    /// on most hosts. It was proved, and its tests ran, when banstream was tested; [`Grammars`] prove it again where a
    /// grammar that was not may read the same lines.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load), but for rules, proof and tests.
    pub fn shipped(name: &str, lists: &Lists) -> Result<Self, Vec<Fault>> {
        let (text, file) = (shipped_text(name), format!("{name}.grammar"));
        let mut faults = Faults::new(&file, text);
        let source = syntax::header(text, Self::base_of(text).map(shipped_text), &mut faults);
        let grammar = Self { is_shipped: true, ..Self::of(name, &file, text.into(), source, lists) };
        if faults.has_errors() { Err(faults.into_sorted()) } else { Ok(grammar) }
    }

    fn of(name: &str, file: &str, text: Cow<'static, str>, source: Source, lists: &Lists) -> Self {
        let base_name = source.extends.as_ref().map_or(name, |(base, _)| base);
        let id = |key: &KeySection| JoinId::new(if key.is_inherited { base_name } else { name }, &key.name);
        Self {
            keys: source.keys.iter().map(id).collect(),
            name: name.to_owned(),
            file: file.to_owned(),
            text,
            is_shipped: false,
            reads_all: source.programs.iter().any(|program| program == "*"),
            source,
            whole: OnceLock::new(),
            lists: lists.clone(),
            uids: Vec::new(),
            counted: Vec::new(),
            compiled: OnceLock::new(),
            is_sound: OnceLock::new(),
            proof: OnceLock::new(),
        }
    }

    /// All that it says.
    fn whole(&self) -> &Source {
        if self.is_shipped { self.whole.get_or_init(|| self.parse()) } else { &self.source }
    }

    /// As [`whole`](Self::whole), which is not kept: a daemon asks once.
    fn with_whole<T>(&self, ask: impl FnOnce(&Source) -> T) -> T {
        if self.is_shipped && self.whole.get().is_none() { ask(&self.parse()) } else { ask(self.whole()) }
    }

    /// Whether a rule has a field of this name.
    fn has_field(&self, name: &str) -> bool {
        // Where a shipped grammar names the kind too, it need not be parsed, which takes a millisecond.
        let is_written = |kind: &&str| {
            memmem::find(self.first_sections(), format!("<{name}:{kind}>").as_bytes()).is_some()
        };
        self.is_shipped && ["quoted", "text", "word", "num"].iter().any(is_written)
            || self.with_whole(|source| source.has_field(name))
    }

    /// What it says before it says something of other messages.
    fn first_sections(&self) -> &[u8] {
        let text = self.text.as_bytes();
        text.get(..memmem::find(text, b"\nother:").unwrap_or(text.len())).unwrap_or_default()
    }

    /// Reads a shipped grammar, now with its rules, lists and tests.
    fn parse(&self) -> Source {
        let base = self.extends().map(shipped_text);
        syntax::parse(&self.text, base, &mut Faults::new(&self.file, &self.text))
    }

    /// What it is compiled to: now, if it was not before.
    fn compiled(&self) -> &CompiledRules {
        self.compiled.get_or_init(|| self.compile())
    }

    /// Takes time in proportion to the forms of messages that its rules spell out.
    fn compile(&self) -> CompiledRules {
        let mut faults = Faults::new(&self.file, &self.text);
        self.with_whole(|source| {
            let words = |name: &str| self.lists.get(name);
            CompiledRules::new(source, &self.keys, words, &self.lists.tests, &mut faults)
                .unwrap_or_else(CompiledRules::empty)
        })
    }
}

impl Grammar {
    /// The name of its file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the other is the same, with the same lists of words.
    pub fn is_same(&self, other: &Self) -> bool {
        (&self.name, &self.text) == (&other.name, &other.text) && self.lists.has_words_of(&other.lists)
    }

    /// Whether lines of one program may be lines of both.
    pub(crate) fn may_share(&self, other: &Self) -> bool {
        let is_pattern = |program: &String| program.contains('*');
        let (ours, theirs) = (self.programs(), other.programs());
        ours.iter().any(|program| is_pattern(program) || theirs.contains(program))
            || theirs.iter().any(is_pattern)
    }

    /// The name of the grammar that a text extends, as its line `extends:` says.
    pub fn base_of(text: &str) -> Option<&str> {
        const HEAD: &str = "\nextends:";
        let after = match text.strip_prefix(HEAD.trim_start()) {
            Some(after) => after,
            None => text.get(memmem::find(text.as_bytes(), HEAD.as_bytes())? + HEAD.len()..)?,
        };
        after.lines().next().map(str::trim)
    }

    /// The name of the grammar that it extends: who counts its offences counts these too.
    pub fn extends(&self) -> Option<&str> {
        self.source.extends.as_ref().map(|(base, _)| base.as_str())
    }

    /// The service that writes what it reads, as people know it; empty where the file does not say.
    pub fn service(&self) -> &str {
        &self.source.service
    }

    /// Where that service logs by default: `journal`, and the absolute paths of files, which may hold `*`.
    pub fn logs(&self) -> &[String] {
        &self.source.logs
    }

    /// Files of that service in which clients can write whole lines, so that they are not to be read; each may hold `*`.
    pub fn forgeable_files(&self) -> &[String] {
        self.source.forgeable.as_ref().map_or(&[], |log| &log.files)
    }

    /// Whether it has rules for a log in whose files clients can write whole lines.
    pub fn reads_forgeable_log(&self) -> bool {
        self.source.forgeable.is_some()
    }

    /// Whether a message begins as those of that log do.
    ///
    /// Takes time linear in the rules; for tools only.
    pub fn is_of_forgeable_log(&self, message: &[u8]) -> bool {
        forgeable::begins_so(self.whole(), message)
    }

    /// What it was tested with: versions of the service, or published lines.
    pub fn tested(&self) -> &str {
        &self.source.tested
    }

    /// The systemd units that its service runs in, which may hold `*`.
    pub fn units(&self) -> &[String] {
        &self.source.units
    }

    /// The users, besides root, who may have written its lines.
    pub fn users(&self) -> &[String] {
        &self.source.users
    }

    /// The programs whose lines it reads. Each may hold a `*`, which stands for anything.
    pub fn programs(&self) -> &[String] {
        &self.source.programs
    }

    /// What its offences are called, in the order of the file; `login` is none.
    pub fn categories(&self) -> &[String] {
        &self.source.categories
    }

    /// The messages by which it is tested, each with the address that is found in it.
    pub fn tests(&self) -> impl Iterator<Item = (&str, Option<IpAddr>)> {
        self.whole().tests.iter().map(|test| (test.message.as_str(), test.want))
    }

    /// The offence in a message, or else the login or the [naming of an address](Found::is_naming), if any. Its sender is
    /// not checked.
    ///
    /// Takes time linear in the message; does not allocate.
    pub fn read(&self, message: &[u8]) -> Option<Found<'_>> {
        self.judge(message, false, |category, reading, spans, _, _| Found {
            grammar: self,
            category,
            reading,
            spans: *spans,
        })
    }

    /// As [`read`](Self::read), of which `keep` takes no more than is wanted: all of it is some 300 bytes.
    ///
    /// Of a message that is `cut`, its end missing, only what that end could not have changed.
    fn judge<T>(
        &self,
        message: &[u8],
        cut: bool,
        keep: impl Fn(u16, Reading, &Spans, Option<(&Conditions, &Condition)>, &[u8]) -> T,
    ) -> Option<T> {
        let message = message.trim_ascii_end();
        if !self.compiled().may_mean(message) {
            return None;
        }
        let mut login = None;
        let safe = cut.then(|| self.proof.get().and_then(Option::as_deref).unwrap_or_default());
        let compiled = self.compiled();
        let offence = compiled.matcher.read(message, safe, |reading, spans, text| {
            let group = compiled.groups.get(usize::from(reading.group))?;
            let (category, condition) = match &group.meaning {
                Meaning::Always(category) => (*category, None),
                Meaning::First(conditions) => {
                    let held = conditions.first(text, spans, cut || group.is_record)?;
                    (held.category, Some((conditions, held)))
                }
            };
            // Somebody may type what makes a failure look like a login too, so an offence is looked for all the same.
            if [CategoryId::LOGIN.0, CategoryId::KEY.0].contains(&category) {
                login.get_or_insert_with(|| keep(category, reading, spans, condition, text));
                return None;
            }
            Some(keep(category, reading, spans, condition, text))
        });
        offence.or(login)
    }

    /// The forms of messages that its rules describe, without records and what stands below `other:`.
    pub fn forms(&self) -> impl Iterator<Item = MessageForm<'_>> {
        let compiled = self.compiled();
        compiled.variants.iter().take(compiled.rules).filter_map(MessageForm::of)
    }

    /// Who is accountable for the message, for each group that reads it. They are equal, or the proof is wrong.
    pub fn readings(&self, message: &[u8]) -> Vec<Accountable> {
        let mut readings = Vec::new();
        self.compiled().matcher.read(message.trim_ascii_end(), None, |reading, spans, _| {
            let key = self.key(&reading, spans).map(|(place, _)| place);
            let forwarded = reading.forwarded.filter(|(from, to)| from < to);
            readings.push(Accountable { address: reading.address, key, forwarded });
            None::<()>
        });
        readings
    }

    /// Panics where the matcher does not read what its reference reads, another condition holds than the first, or the message
    /// means something and would be read no further.
    #[cfg(any(test, fuzzing))]
    #[track_caller]
    pub fn compare(&self, message: &[u8]) {
        let (message, compiled) = (message.trim_ascii_end(), self.compiled());
        compiled.reference.compare(&compiled.matcher, message);
        compiled.matcher.read(message, None, |reading, spans, text| {
            let group = self.group(reading.group)?;
            let means_something = match &group.meaning {
                Meaning::Always(_) => true,
                Meaning::First(conditions) => {
                    [false, true].into_iter().for_each(|cut| conditions.compare(text, spans, cut));
                    conditions.first(text, spans, group.is_record).is_some()
                }
            };
            assert!(!means_something || compiled.may_mean(message), "{}", message.escape_ascii());
            None::<()>
        });
    }

    /// Where the key of a message stands, and whether the message names the address under it, or ends it.
    fn key(&self, reading: &Reading, spans: &Spans) -> Option<(KeyPlace, bool)> {
        let GroupKey { id, slot, names } = self.group(reading.group)?.key?;
        let (from, to) = spans.get(slot.into())?;
        Some((KeyPlace { id, from, to }, names))
    }

    /// Whether the sender's user id is known and is not one that may write for this grammar's programs.
    ///
    /// Believed are root, who could write anything anywhere, the users that the grammar names, and who is in a unit
    /// that it names; people in such a unit only if the grammar names users, for then its servers need not be root.
    /// What a process calls itself and where its executable lies prove nothing: any user can copy a program.
    pub fn contradicts(&self, sender: &Sender<'_>) -> bool {
        let Some(uid) = sender.uid else { return false };
        let named = || self.uids.contains(&uid) && !sender.is_remote;
        let vouched = |unit| self.source.units.iter().any(|pattern| glob(pattern.as_bytes(), unit));
        let in_unit =
            || sender.unit.is_some_and(vouched) && !(is_person(uid) && self.source.users.is_empty());
        uid != 0 && !named() && !in_unit()
    }

    /// What tells an offence of this category from others, as a number; 0 where nothing does. Of a path only what ends in
    /// the name that the condition found: what lies below one name is one thing.
    fn value(
        &self,
        category: u16,
        group: u16,
        spans: &Spans,
        condition: Option<(&Conditions, &Condition)>,
        text: &[u8],
    ) -> u64 {
        let value = || {
            let (field, part) = self.counted.get(usize::from(category))?.as_ref()?;
            let names = &self.group(group)?.names;
            let (from, to) = spans.get(names.iter().position(|name| name.as_ref() == Some(field))?)?;
            let text = part.of(text.get(from as usize..to as usize)?);
            let mut room = [0; _];
            let condition = condition.filter(|_| *part == View::Path);
            let named = condition.and_then(|(all, condition)| all.named(condition, text, &mut room));
            let text = named.unwrap_or(text);
            // The ledger keeps it.
            Some(fnv1a(text.iter().map(u8::to_ascii_lowercase)).max(1))
        };
        value().unwrap_or(0)
    }

    /// The session that the ledger has noted by this number: of a process, or of a category.
    pub fn session_id(&self, number: u32) -> SessionId {
        match self.source.session {
            SessionScope::Process => SessionId::Process(number),
            SessionScope::Address => SessionId::Category(CategoryId(number as u16)),
        }
    }

    /// Whether it reads the lines of all programs.
    pub fn reads_all(&self) -> bool {
        self.reads_all
    }

    /// The variant of this number among those of rules or, of a record, of lines.
    fn variant(&self, group: u16, number: u32) -> Option<&Variant> {
        let CompiledRules { values, variants, .. } = self.compiled();
        let is_record = self.group(group).is_some_and(|group| group.is_record);
        if is_record { values } else { variants }.get(number as usize)
    }

    fn group(&self, number: u16) -> Option<&CompiledGroup> {
        self.compiled().groups.get(usize::from(number))
    }

    /// The line of the file where the rule of a reading stands.
    fn line(&self, reading: Reading) -> u32 {
        self.variant(reading.group, reading.pattern).map_or(0, |variant| variant.place.line)
    }

    /// Whether a rule or, of a record, a line of its shape reads the message.
    fn uses(&self, message: &[u8], line: u32) -> bool {
        let lines = |found: &Found<'_>| {
            let records = self.compiled().matcher.records().filter(|_| found.is_record());
            let read = records.map(|records| records.lines(message, found.reading.group)).unwrap_or_default();
            read.into_iter().any(|(pattern, _)| self.line(Reading { pattern, ..found.reading }) == line)
        };
        self.read(message).is_some_and(|found| found.line() == line || lines(&found))
    }

    fn test(&self, faults: &mut Faults<'_>) {
        let Source { tests, groups, .. } = &self.source;
        let mut named = HashMap::new();
        for test in tests {
            let message = test.message.as_bytes();
            let found = self.read(message);
            let address = found.and_then(|found| found.joined(message, &mut named));
            let what = match (test.want, address) {
                (want, found) if want == found => continue,
                (Some(_), None) if found.is_some_and(|found| found.key(message).is_some()) => {
                    "no test above this one names the address under its key".to_owned()
                }
                (Some(want), None) => format!("no rule finds `{want}` in this message"),
                (None, Some(found)) => format!("found `{found}` in this message, expected none"),
                (want, Some(found)) => {
                    format!(
                        "found `{found}` in this message, expected `{}`",
                        want.map_or("-".to_owned(), |a| a.to_string())
                    )
                }
                (None, None) => continue,
            };
            faults.error(test.place, what);
        }
        // A line of conditions is a rule for each form of its shape.
        let mut lines = HashSet::new();
        let rules = groups.iter().flat_map(|group| &group.rules);
        for rule in rules.filter(|rule| lines.insert(rule.place.line)) {
            let used = |test: &TestCase| self.uses(test.message.as_bytes(), rule.place.line);
            if !tests.iter().any(used) {
                faults.warn(rule.place, "no test uses this rule");
            }
        }
    }
}

/// The text of a shipped grammar; empty if there is none of this name.
fn shipped_text(name: &str) -> &'static str {
    SHIPPED.iter().find(|(known, _)| *known == name).map_or("", |(_, text)| *text)
}

/// Whether a user id is one that people get (login.defs(5), `UID_MIN` and `UID_MAX`; those of directories lie above).
/// systemd takes those between for its services, and `nobody` is 65534.
fn is_person(uid: u32) -> bool {
    matches!(uid, 1000..=60_000 | 65_536..)
}

/// Whether `*` in the pattern can stand for something that makes it the text.
pub fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.iter().position(|b| *b == b'*') {
        None => pattern == text,
        Some(star) => {
            let (front, back) = (pattern.get(..star).unwrap_or(&[]), pattern.get(star + 1..).unwrap_or(&[]));
            text.len() + 1 >= pattern.len() && text.starts_with(front) && text.ends_with(back)
        }
    }
}

impl<'g> Found<'g> {
    /// Whether it is a login that went well, and no offence.
    pub fn is_login(&self) -> bool {
        self.category == CategoryId::LOGIN.0
    }

    /// Whether it only names the address that other messages have under its key, or ends the key, so that it is not an
    /// offence.
    pub fn is_naming(&self) -> bool {
        self.category == CategoryId::KEY.0
    }

    /// What the offence is called; empty if it is only a naming.
    pub fn category(&self) -> &'g str {
        if self.is_login() {
            return LOGIN;
        }
        self.grammar.source.categories.get(usize::from(self.category)).map_or("", String::as_str)
    }

    /// The offender's address: the peer's, or that of the client that a trusted peer names. `None` if another message names
    /// it under the key of this one, or this one ends the key.
    pub fn address(&self) -> Option<IpAddr> {
        let address = self.reading.address;
        let is_keyed = self.grammar.key(&self.reading, &self.spans).is_some();
        (!is_keyed || !address.is_unspecified()).then_some(address)
    }

    /// Its key in `message`, which must be the one it was found in.
    pub fn key<'m>(&self, message: &'m [u8]) -> Option<&'m [u8]> {
        self.grammar.key(&self.reading, &self.spans)?.0.of(message)
    }

    /// The key in the entry, which must be the one it was found in.
    pub fn join_key(&self, entry: &Entry<'_>) -> Option<JoinKey> {
        self.grammar.key(&self.reading, &self.spans)?.0.in_entry(entry)
    }

    /// The offender's address, where those that earlier messages named are known; takes in what this one names.
    fn joined(&self, message: &[u8], named: &mut HashMap<(JoinId, Vec<u8>), IpAddr>) -> Option<IpAddr> {
        let Some((place, names)) = self.grammar.key(&self.reading, &self.spans) else {
            return self.address();
        };
        let key = (place.id, place.of(message)?.to_vec());
        if !names {
            return named.get(&key).copied();
        }
        match self.address() {
            Some(address) => named.insert(key, address),
            None => named.remove(&key),
        };
        None
    }

    /// The line of the grammar file where the rule stands.
    pub fn line(&self) -> u32 {
        self.grammar.line(self.reading)
    }

    /// The names of the rule's fields and what they held in `message`, which must be the one it was found in.
    pub fn fields<'m>(&self, message: &'m [u8]) -> impl Iterator<Item = (&'g str, Cow<'m, [u8]>)> {
        let names = self.grammar.group(self.reading.group).map_or(&[][..], |group| &group.names);
        let (spans, text) = (self.spans, self.text(message));
        names.iter().enumerate().filter_map(move |(slot, name)| {
            let (from, to) = spans.get(slot)?;
            Some((name.as_deref()?, part(&text, from as usize, to as usize)?))
        })
    }

    /// Whether its rule is a shape of records.
    fn is_record(&self) -> bool {
        self.grammar.group(self.reading.group).is_some_and(|group| group.is_record)
    }

    /// What the spans are places in.
    fn text<'m>(&self, message: &'m [u8]) -> Cow<'m, [u8]> {
        match self.grammar.compiled().matcher.records().filter(|_| self.is_record()) {
            Some(records) => records.text(message.trim_ascii_end()),
            None => message.into(),
        }
    }

    /// The user name in `message`, which must be the one it was found in.
    pub fn user<'m>(&self, message: &'m [u8]) -> Option<Cow<'m, [u8]>> {
        self.fields(message).find(|(name, _)| *name == "user").map(|(_, text)| text)
    }
}

/// A part of a text.
fn part<'m>(text: &Cow<'m, [u8]>, from: usize, to: usize) -> Option<Cow<'m, [u8]>> {
    match text {
        Cow::Borrowed(text) => text.get(from..to).map(Cow::Borrowed),
        Cow::Owned(text) => text.get(from..to).map(|part| part.to_vec().into()),
    }
}

/// Who is accountable for a message, as a rule reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accountable {
    /// The address; `0.0.0.0` if another message names it.
    address: IpAddr,
    key: Option<KeyPlace>,
    /// Where the header stands in which a proxy names its client.
    forwarded: Option<(usize, usize)>,
}

/// Where the key of a message stands in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyPlace {
    id: JoinId,
    from: u32,
    to: u32,
}

impl KeyPlace {
    fn of(self, message: &[u8]) -> Option<&[u8]> {
        message.get(self.from as usize..self.to as usize)
    }

    /// The key in this entry, which must be the one whose message it stands in.
    pub fn in_entry(self, entry: &Entry<'_>) -> Option<JoinKey> {
        JoinKey::new(self.id, entry, self.of(entry.message)?)
    }
}

#[cfg(test)]
mod tests;
