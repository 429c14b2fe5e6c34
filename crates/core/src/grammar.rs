//! Grammars: descriptions of attacks in the log of a program, proved before use.
//!
//! A grammar is a text file (`grammars/README.md` describes the language). [`Grammar::load`] parses, proves and tests
//! it. There is no other way to get one, so no stranger can choose the address that [`Grammars::find`] returns.

mod condition;
mod explain;
mod fault;
mod forwarded;
mod list;
mod matcher;
mod path;
mod proof;
mod proposal;
mod unmatched;
mod syntax;
mod template;
mod variant;

use std::net::IpAddr;

use hashbrown::{HashSet, HashTable};

use crate::model::{
    CategoryId, Entry, GrammarId, Offence, Offender, Prefixes, RuleGroupId, Sender, SessionId,
};
use condition::{Condition, Conditions, Tests};
pub use explain::{Closest, FieldText, MissReason, Unmet};
use fault::Faults;
pub use fault::{Fault, Place, Severity};
pub use list::Lists;
use matcher::{Matcher, Reading, Spans};
pub use proposal::{Proposal, propose};
use syntax::{RuleGroup, SessionScope, Verdict, View};
use variant::Variant;

/// The grammars that come with banstream, as (name, text).
pub const SHIPPED: &[(&str, &str)] = &[
    ("apache", include_str!("../grammars/apache.grammar")),
    ("audit", include_str!("../grammars/audit.grammar")),
    ("caddy", include_str!("../grammars/caddy.grammar")),
    ("dropbear", include_str!("../grammars/dropbear.grammar")),
    ("endlessh", include_str!("../grammars/endlessh.grammar")),
    ("ftpd", include_str!("../grammars/ftpd.grammar")),
    ("haproxy", include_str!("../grammars/haproxy.grammar")),
    ("lighttpd", include_str!("../grammars/lighttpd.grammar")),
    ("nginx", include_str!("../grammars/nginx.grammar")),
    ("portscan", include_str!("../grammars/portscan.grammar")),
    ("proftpd", include_str!("../grammars/proftpd.grammar")),
    ("pure-ftpd", include_str!("../grammars/pure-ftpd.grammar")),
    ("sftpgo", include_str!("../grammars/sftpgo.grammar")),
    ("squid", include_str!("../grammars/squid.grammar")),
    ("sshd", include_str!("../grammars/sshd.grammar")),
    ("traefik", include_str!("../grammars/traefik.grammar")),
    ("vsftpd", include_str!("../grammars/vsftpd.grammar")),
];

/// The category that no jail counts: its rules match successful logins.
const LOGIN: &str = "login";

/// One program's grammar: parsed, proved and tested.
#[derive(Debug)]
pub struct Grammar {
    name: String,
    programs: Vec<String>,
    units: Vec<String>,
    users: Vec<String>,
    /// The user ids of these, as far as this host has them.
    uids: Vec<u32>,
    session: SessionScope,
    categories: Vec<String>,
    groups: Vec<CompiledGroup>,
    matcher: Matcher,
    /// What the matcher's patterns were made of, in their order.
    variants: Vec<Variant>,
    /// The file as it was written.
    text: Box<str>,
    /// What the messages look like that are meant to match nothing: its tests for `-`.
    quiet: Vec<String>,
    /// The words that its rules are made of.
    words: HashSet<Box<str>>,
    /// Whether a rule has a `<forwarded>`, as those of web servers have.
    forwards: bool,
    /// By category: the field, and the part of it, by whose values offences are told apart.
    counted: Vec<Option<(String, View)>>,
}

/// The meaning of a rule group, and the names of its fields, by slot.
#[derive(Debug)]
struct CompiledGroup {
    names: Vec<Option<String>>,
    meaning: Meaning,
}

#[derive(Debug)]
enum Meaning {
    /// The offence of this category, always.
    Always(u16),
    /// The offence of the first condition that holds; none if none does.
    First(Conditions),
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
        let mut faults = Faults::new(file, text);
        let source = syntax::parse(text, &mut faults);
        let own = |name: &str| source.lists.iter().find(|list| list.name == name).map(|list| &*list.words);
        let tested = |name: &str| own(name).or_else(|| lists.tested(name));
        let in_force = |name: &str| own(name).or_else(|| lists.get(name));
        let (mut variants, mut groups, mut without) = (Vec::new(), Vec::<CompiledGroup>::new(), Vec::new());
        for (number, group) in (0..).zip(&source.groups) {
            let first = variants.len();
            let names = variant::spell_out(&group.rules, number, &mut variants, &mut faults);
            condition::narrow(group, &names, variants.get_mut(first..).unwrap_or_default(), &mut without);
            let meaning = Meaning::of(group, &names, tested, &lists.tests, &mut faults);
            groups.push(CompiledGroup { names, meaning });
        }
        let rules = variants.len();
        variant::spell_out(&source.others, variant::OTHER, &mut variants, &mut faults);
        let safe =
            if faults.has_errors() { Vec::new() } else { proof::prove(&variants, &without, &mut faults) };
        variants.truncate(rules);
        variant::advise(&variants, !source.others.is_empty(), &mut faults);
        if faults.has_errors() {
            return Err(faults.into_sorted());
        }
        let mut grammar = Self {
            name: name.to_owned(),
            programs: source.programs,
            units: source.units,
            users: source.users,
            uids: Vec::new(),
            session: source.session,
            categories: source.categories,
            groups,
            matcher: Matcher::new(&variants, &safe),
            quiet: unmatched::quiet(&source.tests),
            words: unmatched::words(&variants),
            counted: Vec::new(),
            forwards: variants.iter().any(Variant::forwards),
            variants,
            text: text.into(),
        };
        grammar.test(&source.tests, &mut faults);
        for rule in source.groups.iter().flat_map(|group| &group.rules) {
            let used = |test: &syntax::TestCase| {
                grammar.read(test.message.as_bytes()).is_some_and(|found| found.line() == rule.place.line)
            };
            if !source.tests.iter().any(used) {
                faults.warn(rule.place, "no test uses this rule");
            }
        }
        if lists.are_changed() {
            for (group, written) in grammar.groups.iter_mut().zip(&source.groups) {
                group.meaning = Meaning::of(written, &group.names, in_force, &lists.tests, &mut faults);
            }
        }
        if faults.has_errors() { Err(faults.into_sorted()) } else { Ok((grammar, faults.into_sorted())) }
    }
}

impl Grammar {
    /// The name of its file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The programs whose lines it reads.
    pub fn programs(&self) -> &[String] {
        &self.programs
    }

    /// What its offences are called, in the order of the file; `login` is none.
    pub fn categories(&self) -> &[String] {
        &self.categories
    }

    /// The offence in a message, or else the login, if any. Its sender is not checked.
    ///
    /// Takes time linear in the message; does not allocate.
    pub fn read(&self, message: &[u8]) -> Option<Found<'_>> {
        self.judge(message, false, |category, reading, spans, _| Found {
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
        keep: impl Fn(u16, Reading, &Spans, Option<(&Conditions, &Condition)>) -> T,
    ) -> Option<T> {
        let message = message.trim_ascii_end();
        let mut login = None;
        let offence = self.matcher.read(message, cut, |reading, spans| {
            let (category, condition) = match &self.groups.get(usize::from(reading.group))?.meaning {
                Meaning::Always(category) => (*category, None),
                Meaning::First(conditions) => {
                    let held = conditions.first(message, spans, cut)?;
                    (held.category, Some((conditions, held)))
                }
            };
            // Somebody may type what makes a failure look like a login too, so an offence is looked for all the same.
            if category == CategoryId::LOGIN.0 {
                login.get_or_insert_with(|| keep(category, reading, spans, condition));
                return None;
            }
            Some(keep(category, reading, spans, condition))
        });
        offence.or(login)
    }

    /// The addresses that the message can be read with, and where the forwarded header stands, for each group that reads
    /// it. They are equal, or the proof is wrong.
    pub fn readings(&self, message: &[u8]) -> Vec<(IpAddr, Option<(usize, usize)>)> {
        let mut addresses = Vec::new();
        self.matcher.read(message.trim_ascii_end(), false, |reading, _| {
            addresses.push((reading.address, reading.forwarded.filter(|(from, to)| from < to)));
            None::<()>
        });
        addresses
    }

    /// Whether the sender's user id is known and is not one that may write for this grammar's programs.
    ///
    /// Believed are root, who could write anything anywhere, the users that the grammar names, and who is in a unit
    /// that it names; people in such a unit only if the grammar names users, for then its servers need not be root.
    /// What a process calls itself and where its executable lies prove nothing: any user can copy a program.
    pub fn contradicts(&self, sender: &Sender<'_>) -> bool {
        let Some(uid) = sender.uid else { return false };
        let named = || self.uids.contains(&uid) && !sender.is_remote;
        let vouched = |unit| self.units.iter().any(|pattern| glob(pattern.as_bytes(), unit));
        let in_unit = || sender.unit.is_some_and(vouched) && !(is_person(uid) && self.users.is_empty());
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
        message: &[u8],
    ) -> u64 {
        let value = || {
            let (field, part) = self.counted.get(usize::from(category))?.as_ref()?;
            let names = &self.groups.get(usize::from(group))?.names;
            let (from, to) = spans.get(names.iter().position(|name| name.as_ref() == Some(field))?)?;
            let text = part.of(message.get(from as usize..to as usize)?);
            let mut room = [0; _];
            let condition = condition.filter(|_| *part == View::Path);
            let named = condition.and_then(|(all, condition)| all.named(condition, text, &mut room));
            let text = named.unwrap_or(text);
            // FNV-1a, the same at each start, since the ledger keeps it.
            let hash = text.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0000_01b3)
            });
            Some(hash.max(1))
        };
        value().unwrap_or(0)
    }

    /// The session that the ledger has noted by this number: of a process, or of a category.
    pub fn session_id(&self, number: u32) -> SessionId {
        match self.session {
            SessionScope::Process => SessionId::Process(number),
            SessionScope::Address => SessionId::Category(CategoryId(number as u16)),
        }
    }

    /// The line of the file where the rule of a reading stands.
    fn line(&self, reading: Reading) -> u32 {
        self.variants.get(reading.pattern as usize).map_or(0, |variant| variant.place.line)
    }

    fn test(&self, tests: &[syntax::TestCase], faults: &mut Faults<'_>) {
        for test in tests {
            let found = self.read(test.message.as_bytes());
            let what = match (test.want, found.map(|found| found.address())) {
                (want, found) if want == found => continue,
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
    }
}

/// Whether a user id is one that people get (login.defs(5), `UID_MIN` and `UID_MAX`; those of directories lie above).
/// systemd takes those between for its services, and `nobody` is 65534.
fn is_person(uid: u32) -> bool {
    matches!(uid, 1000..=60_000 | 65_536..)
}

/// Whether `*` in the pattern can stand for something that makes it the text.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
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

    /// What the offence is called.
    pub fn category(&self) -> &'g str {
        if self.is_login() {
            return LOGIN;
        }
        self.grammar.categories.get(usize::from(self.category)).map_or("", String::as_str)
    }

    /// The offender's address: the peer's, or that of the client that a trusted peer names.
    pub fn address(&self) -> IpAddr {
        self.reading.address
    }

    /// The line of the grammar file where the rule stands.
    pub fn line(&self) -> u32 {
        self.grammar.line(self.reading)
    }

    /// The names of the rule's fields and what they held in `message`, which must be the one it was found in.
    pub fn fields<'m>(&self, message: &'m [u8]) -> impl Iterator<Item = (&'g str, &'m [u8])> {
        let names =
            self.grammar.groups.get(usize::from(self.reading.group)).map_or(&[][..], |group| &group.names);
        let spans = self.spans;
        names.iter().enumerate().filter_map(move |(slot, name)| {
            let (from, to) = spans.get(slot)?;
            Some((name.as_deref()?, message.get(from as usize..to as usize)?))
        })
    }

    /// The user name in `message`, which must be the one it was found in.
    pub fn user<'m>(&self, message: &'m [u8]) -> Option<&'m [u8]> {
        self.fields(message).find(|(name, _)| *name == "user").map(|(_, text)| text)
    }
}

/// All grammars in force, filed by program.
#[derive(Debug, Default)]
pub struct Grammars {
    all: Vec<Grammar>,
    by_program: HashTable<(Box<[u8]>, u16)>,
    /// Peers that are trusted to name their clients.
    proxies: Prefixes<()>,
}

/// What became of an entry.
#[derive(Clone, Copy, Debug)]
pub enum Outcome {
    /// No grammar reads its program's lines.
    Ignored,
    /// It has no offence.
    Harmless(GrammarId),
    /// It looks like an offence or a login, but has another sender.
    Forged(GrammarId),
    /// It has an offence; the line of the matching rule in the grammar's file.
    Offence(Offence, u32),
    /// It has a successful login.
    Login(Offence),
}

/// A hash of a program's name, for each line. Only grammars add names, so it may be one that can be foreseen.
fn hash(program: &[u8]) -> u64 {
    let first = program.iter().take(8).fold(0, |first, byte| first << 8 | u64::from(*byte));
    let mixed = (first ^ program.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ mixed >> 32
}

impl Grammars {
    /// Files the grammars by program.
    ///
    /// # Errors
    ///
    /// The names of two grammars and the program that both read. The proof covers one grammar; were there two
    /// for a program, a message could be read with two addresses after all.
    pub fn new(all: Vec<Grammar>) -> Result<Self, String> {
        let mut known = Self::default();
        for (number, grammar) in (0_u16..).zip(&all) {
            for program in &grammar.programs {
                match known.of_program(program.as_bytes()) {
                    Some(GrammarId(other)) if other != number => {
                        let other = all.get(usize::from(other)).map_or("", |other| other.name());
                        let name = &grammar.name;
                        return Err(format!("`{other}` and `{name}` both read the lines of `{program}`"));
                    }
                    Some(_) => {}
                    None => {
                        let entry = (program.as_bytes().into(), number);
                        known
                            .by_program
                            .insert_unique(hash(program.as_bytes()), entry, |(name, _)| hash(name));
                    }
                }
            }
        }
        Ok(Self { all, ..known })
    }

    /// The same, with these proxies trusted to name their clients; the default is none.
    pub fn trusting(self, proxies: impl IntoIterator<Item = Offender>) -> Self {
        Self { proxies: Prefixes::new(proxies.into_iter().map(|proxy| (proxy, ()))), ..self }
    }

    /// The same on a host that has these users, by name and id: those that the grammars name may write for them.
    pub fn with_users(mut self, users: &[(String, u32)]) -> Self {
        for grammar in &mut self.all {
            let named = users.iter().filter(|(name, _)| grammar.users.contains(name));
            grammar.uids = named.map(|(_, uid)| *uid).collect();
        }
        self
    }

    /// The same, with an offence's [value](Offence::value) made of this field, or a part of it as in `request.path`, for
    /// these categories of a grammar.
    ///
    /// # Errors
    ///
    /// What is wrong: the grammar has no such field, or a category is already counted by another one.
    pub fn counting(mut self, grammar: &str, categories: &[String], field: &str) -> Result<Self, String> {
        let (name, part) = match field.split_once('.') {
            Some((name, part)) => (name, View::named(part).unwrap_or_default()),
            None => (field, View::Whole),
        };
        for grammar in self.all.iter_mut().filter(|known| known.name == grammar) {
            if !grammar.groups.iter().any(|group| group.names.iter().flatten().any(|known| known == name)) {
                return Err(format!("the grammar `{}` has no field `{name}`", grammar.name));
            }
            grammar.counted.resize(grammar.categories.len(), None);
            for (counted, category) in grammar.counted.iter_mut().zip(&grammar.categories) {
                if !categories.contains(category) {
                    continue;
                }
                let counts = (name.to_owned(), part);
                if counted.replace(counts.clone()).is_some_and(|before| before != counts) {
                    return Err(format!(
                        "two jails count `{category}` of `{}` by different fields",
                        grammar.name
                    ));
                }
            }
        }
        Ok(self)
    }

    /// All of them; a [`GrammarId`] is a place in this order.
    pub fn iter(&self) -> impl Iterator<Item = &Grammar> {
        self.all.iter()
    }

    /// One of them.
    pub fn get(&self, id: GrammarId) -> Option<&Grammar> {
        self.all.get(usize::from(id.0))
    }

    /// The grammar that reads this program's lines.
    pub fn of_program(&self, program: &[u8]) -> Option<GrammarId> {
        self.by_program.find(hash(program), |(name, _)| **name == *program).map(|(_, id)| GrammarId(*id))
    }

    /// The offence in a message, if any, by the grammar of this program. If the peer in it is a trusted
    /// proxy, the offence is the client's; where the message does not say who that is, it is nobody's.
    pub fn read(&self, id: GrammarId, message: &[u8]) -> Option<Found<'_>> {
        let mut found = self.get(id)?.read(message)?;
        found.reading.address = self.accountable(&found.reading, message)?;
        Some(found)
    }

    /// The peer of a web server's message, unless it is a trusted proxy; its request does not matter.
    ///
    /// Takes as long as [`find`](Self::find).
    pub fn peer(&self, id: GrammarId, message: &[u8]) -> Option<IpAddr> {
        let peer = self.get(id)?.peer(message)?;
        (!self.proxies.contains(peer)).then_some(peer)
    }

    /// The offender of a reading of the message.
    fn accountable(&self, reading: &Reading, message: &[u8]) -> Option<IpAddr> {
        if !self.proxies.contains(reading.address) {
            return Some(reading.address);
        }
        let (from, to) = reading.forwarded?;
        forwarded::client(message.get(from..to)?, &self.proxies)
    }

    /// Finds the offence or the login in an entry.
    ///
    /// Takes time linear in the message, however many grammars there are for other programs. Does not allocate.
    pub fn find(&self, entry: &Entry<'_>) -> Outcome {
        let Some((id, grammar)) = self.of_program(entry.program).and_then(|id| Some((id, self.get(id)?)))
        else {
            return Outcome::Ignored;
        };
        let found = grammar.judge(entry.message, entry.cut, |category, reading, spans, condition| {
            (category, reading, grammar.value(category, reading.group, spans, condition, entry.message))
        });
        let found = found.and_then(|(category, reading, value)| {
            Some((category, reading, value, self.accountable(&reading, entry.message)?))
        });
        let Some((category, reading, value, address)) = found else { return Outcome::Harmless(id) };
        if grammar.contradicts(&entry.sender) {
            return Outcome::Forged(id);
        }
        let offence = Offence {
            time: entry.time,
            address,
            grammar: id,
            category: CategoryId(category),
            group: RuleGroupId(reading.group),
            session_id: match grammar.session {
                SessionScope::Process => SessionId::Process(entry.pid),
                SessionScope::Address => SessionId::Category(CategoryId(category)),
            },
            host: entry.host_hash(),
            value,
        };
        match offence.category {
            CategoryId::LOGIN => Outcome::Login(offence),
            _ => Outcome::Offence(offence, grammar.line(reading)),
        }
    }
}

#[cfg(test)]
mod tests;
