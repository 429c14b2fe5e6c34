//! All grammars in force, filed by the programs whose lines they read.

use std::net::{IpAddr, Ipv4Addr};

use hashbrown::HashTable;

use super::matcher::Reading;
use super::source::{SessionScope, View};
use super::{Found, Grammar, KeyPlace, Lists, SHIPPED, forwarded, proved, together};
use crate::entry::scan::eight;
use crate::model::{CategoryId, Entry, GrammarId, Offence, Offender, Prefixes, RuleGroupId, SessionId};

/// All grammars in force, filed by program.
#[derive(Debug, Default)]
pub struct Grammars {
    all: Vec<Grammar>,
    /// For each program that is named in full, the grammars that read it.
    by_program: HashTable<Readers>,
    /// The names with a `*`. Those for all programs come last.
    patterns: Vec<ProgramPattern>,
    /// For each byte that a program's name may begin with, the places of the patterns that may match it, in their order.
    patterns_by_first: Vec<Box<[u16]>>,
    /// Peers that are trusted to name their clients.
    proxies: Prefixes<()>,
}

/// The grammars that read the lines of a program.
#[derive(Debug)]
struct Readers {
    program: Box<[u8]>,
    grammars: Box<[u16]>,
}

/// The name of programs with a `*`, and the grammar that reads their lines.
#[derive(Debug)]
struct ProgramPattern {
    front: Box<[u8]>,
    back: Box<[u8]>,
    grammar: u16,
}

impl ProgramPattern {
    /// The name and the grammar, if there is a `*` in the name.
    fn new(name: &str, grammar: u16) -> Option<Self> {
        let (front, back) = name.split_once('*')?;
        Some(Self { front: front.as_bytes().into(), back: back.as_bytes().into(), grammar })
    }

    /// Whether it is for this program.
    fn matches(&self, program: &[u8]) -> bool {
        let Self { front, back, .. } = self;
        self.is_for_all()
            || program.len() >= front.len() + back.len()
                && program.starts_with(front)
                && program.ends_with(back)
    }

    fn is_for_all(&self) -> bool {
        self.front.is_empty() && self.back.is_empty()
    }
}

impl Grammar {
    /// Whether it may be asked. One for all programs not where a client may have written a line whole, for nobody has said
    /// that the program's lines can be believed; and most other messages are nothing to it.
    fn may_find(&self, entry: &Entry<'_>) -> bool {
        !self.reads_all() || !entry.sender.prints && self.compiled().matcher.may_read(entry.message)
    }
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
    /// It names the address that further lines have under this key; `None` if the key ends, or nobody is accountable.
    Naming(GrammarId, KeyPlace, Option<IpAddr>),
    /// It has an offence or a login of the address that another line named under this key; that of the offence is `0.0.0.0`.
    Referring(Offence, u32, KeyPlace),
}

impl Outcome {
    /// Whether it has a login, so that the line may have an offence all the same.
    fn is_login(&self) -> bool {
        match self {
            Self::Login(_) => true,
            Self::Referring(told, ..) => told.category == CategoryId::LOGIN,
            _ => false,
        }
    }
}

/// A hash of a program's name, for each line. Only grammars add names, so it may be one that can be foreseen.
fn hash(program: &[u8]) -> u64 {
    let mixed = (eight(program, 0) ^ (program.len() as u64) << 56).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ mixed >> 32
}

impl Grammars {
    /// Files the grammars by program.
    ///
    /// # Errors
    ///
    /// Two grammars may read one message with two addresses: the message, and the rules.
    ///
    /// Those that were proved when they were loaded are proved together with all others now; a shipped one before it is
    /// used, unless the tests have proved it beside the same others.
    pub fn new(mut all: Vec<Grammar>) -> Result<Self, String> {
        together::prove_loaded(&mut all)?;
        let (mut named, mut patterns) = (Vec::<(&str, u16)>::new(), Vec::new());
        for (number, grammar) in (0..).zip(&all) {
            for program in &grammar.source.programs {
                match ProgramPattern::new(program, number) {
                    Some(pattern) => patterns.push(pattern),
                    None => named.push((program, number)),
                }
            }
        }
        patterns.sort_by_key(|pattern| (pattern.is_for_all(), pattern.grammar));
        let mut by_program = HashTable::new();
        // What adds to a grammar is more special than that.
        let is_base =
            |number: u16| all.get(usize::from(number)).is_some_and(|grammar| grammar.extends().is_none());
        named.sort_by_key(|(program, number)| (*program, is_base(*number), *number));
        named.dedup();
        for alike in named.chunk_by(|(one, _), (other, _)| one == other) {
            let Some((program, _)) = alike.first() else { continue };
            let mut readers: Vec<u16> = alike.iter().map(|(_, number)| *number).collect();
            for pattern in patterns.iter().filter(|pattern| pattern.matches(program.as_bytes())) {
                if !readers.contains(&pattern.grammar) {
                    readers.push(pattern.grammar);
                }
            }
            let readers = Readers { program: program.as_bytes().into(), grammars: readers.into() };
            by_program.insert_unique(hash(program.as_bytes()), readers, |known| hash(&known.program));
        }
        let may_match = |first: u8| {
            let may = move |pattern: &ProgramPattern| pattern.front.first().is_none_or(|byte| *byte == first);
            (0..).zip(&patterns).filter(move |(_, pattern)| may(pattern)).map(|(place, _)| place).collect()
        };
        let patterns_by_first = (0..=u8::MAX).map(may_match).collect();
        Ok(Self { all, by_program, patterns, patterns_by_first, proxies: Prefixes::default() })
    }

    /// The same, with these proxies trusted to name their clients; the default is none.
    pub fn trusting(self, proxies: impl IntoIterator<Item = Offender>) -> Self {
        Self { proxies: Prefixes::new(proxies.into_iter().map(|proxy| (proxy, ()))), ..self }
    }

    /// The same on a host that has these users, by name and id: those that the grammars name may write for them.
    pub fn with_users(mut self, users: &[(String, u32)]) -> Self {
        for grammar in &mut self.all {
            let named = users.iter().filter(|(name, _)| grammar.source.users.contains(name));
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
            if !grammar.has_field(name) {
                return Err(format!("the grammar `{}` has no field `{name}`", grammar.name));
            }
            grammar.counted.resize(grammar.source.categories.len(), None);
            for (counted, category) in grammar.counted.iter_mut().zip(&grammar.source.categories) {
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

    /// A grammar that was proved, now if it was not before.
    fn proved(&self, id: GrammarId) -> Option<&Grammar> {
        let grammar = self.get(id)?;
        let is_sound = || {
            let nth = id.0.into();
            proved::is_listed(&self.all, nth) || together::is_sound(&self.all, nth)
        };
        grammar.is_sound.get_or_init(is_sound).then_some(grammar)
    }

    /// Finds which rules of a grammar a cut message could mislead, if that is not known yet; without that, they read none.
    #[cold]
    fn prove(&self, id: GrammarId, grammar: &Grammar) {
        grammar.proof.get_or_init(|| together::prove_shipped(&self.all, id.0.into()).ok());
    }

    /// All of them; a [`GrammarId`] is a place in this order.
    pub fn iter(&self) -> impl Iterator<Item = &Grammar> {
        self.all.iter()
    }

    /// The grammar of this name once more, to be proved beside others; `None` if there is none.
    pub fn copy(&self, name: &str, lists: &Lists) -> Option<Grammar> {
        let named = |name: &str| self.all.iter().find(|known| known.name == name);
        let known = named(name)?;
        if SHIPPED.iter().any(|(shipped, text)| *shipped == name && **text == *known.text) {
            return Grammar::shipped(name, lists).ok();
        }
        let base = known.extends().and_then(named).map(|base| &*base.text);
        Grammar::load_with(name, &known.file, &known.text, base, lists).ok().map(|(grammar, _)| grammar)
    }

    /// The places in this order.
    pub fn ids(&self) -> impl Iterator<Item = GrammarId> + use<> {
        (0..self.all.len()).map(|id| GrammarId(id as u16))
    }

    /// One of them.
    pub fn get(&self, id: GrammarId) -> Option<&Grammar> {
        self.all.get(usize::from(id.0))
    }

    /// The grammars that read this program's lines, first those that name it.
    pub fn readers<'g>(&'g self, program: &'g [u8]) -> impl Iterator<Item = GrammarId> + Clone + 'g {
        let named = self.named(program);
        let patterns = if named.is_some() { &[] } else { self.patterns_for(program) };
        let matching = patterns.iter().filter_map(|place| self.matching(*place, program));
        named.unwrap_or_default().iter().copied().chain(matching).map(GrammarId)
    }

    /// Whether a grammar reads this program's lines that is not for all programs.
    pub fn reads_program(&self, program: &[u8]) -> bool {
        self.readers(program).filter_map(|id| self.get(id)).any(|grammar| !grammar.reads_all())
    }

    /// Whether a grammar for all programs may find something in a message.
    pub fn may_find_in(&self, message: &[u8]) -> bool {
        let for_all = self.patterns.iter().rev().take_while(|pattern| pattern.is_for_all());
        let mut grammars = for_all.filter_map(|pattern| self.get(GrammarId(pattern.grammar)));
        grammars.any(|grammar| grammar.compiled().matcher.may_read(message))
    }

    /// Those of a program that is named in full.
    fn named(&self, program: &[u8]) -> Option<&[u16]> {
        let readers = self.by_program.find(hash(program), |readers| *readers.program == *program)?;
        Some(&readers.grammars)
    }

    /// The places of the patterns that may match a program that is not.
    fn patterns_for(&self, program: &[u8]) -> &[u16] {
        // What banstream logs holds strangers' text, and is for no grammar.
        if *program == *b"banstream" {
            return &[];
        }
        let first = program.first().copied().unwrap_or_default();
        self.patterns_by_first.get(usize::from(first)).map_or(&[], |places| places)
    }

    fn matching(&self, place: u16, program: &[u8]) -> Option<u16> {
        let pattern = self.patterns.get(usize::from(place))?;
        pattern.matches(program).then_some(pattern.grammar)
    }

    /// The offence in a message, if any, by this grammar. If the peer in it is a trusted proxy, the offence is the client's;
    /// where the message does not say who that is, it is nobody's.
    ///
    /// For those who ask what a grammar would find: a shipped one is not proved for that, as by [`find`](Self::find).
    pub fn read(&self, id: GrammarId, message: &[u8]) -> Option<Found<'_>> {
        let mut found = self.get(id)?.read(message)?;
        if found.address().is_some() {
            found.reading.address = self.accountable(&found.reading, &found.text(message))?;
        }
        Some(found)
    }

    /// The peer of a web server's message, unless it is a trusted proxy; its request does not matter.
    ///
    /// Takes as long as [`find`](Self::find).
    pub fn peer(&self, id: GrammarId, message: &[u8]) -> Option<IpAddr> {
        let peer = self.get(id)?.peer(message)?;
        (!self.proxies.contains(peer)).then_some(peer)
    }

    /// The offender of a reading of this text.
    fn accountable(&self, reading: &Reading, text: &[u8]) -> Option<IpAddr> {
        if !self.proxies.contains(reading.address) {
            return Some(reading.address);
        }
        let (from, to) = reading.forwarded?;
        forwarded::client(text.get(from..to)?, &self.proxies)
    }

    /// Finds the offence or the login in an entry, where several grammars find one that of the first.
    ///
    /// Takes time linear in the message, for each grammar that reads the program's lines. Does not allocate.
    pub fn find(&self, entry: &Entry<'_>) -> Outcome {
        let mut so_far = (Outcome::Ignored, None);
        let program = entry.program;
        let found = match self.named(program) {
            Some(readers) => readers.iter().find_map(|id| self.find_in(GrammarId(*id), entry, &mut so_far)),
            None => self.patterns_for(program).iter().find_map(|place| {
                self.find_in(GrammarId(self.matching(*place, program)?), entry, &mut so_far)
            }),
        };
        let (outcome, login) = so_far;
        found.or(login).unwrap_or(outcome)
    }

    /// The offence that this grammar finds in an entry. A login, and whether the grammar reads the program's lines, are noted
    /// in what is known `so_far`.
    fn find_in(
        &self,
        id: GrammarId,
        entry: &Entry<'_>,
        (outcome, login): &mut (Outcome, Option<Outcome>),
    ) -> Option<Outcome> {
        if self.get(id).is_some_and(|grammar| !grammar.may_find(entry)) {
            return None;
        }
        let grammar = self.proved(id)?;
        match self.find_by(id, grammar, entry) {
            Some(found) if !found.is_login() => return Some(found),
            Some(found) => _ = login.get_or_insert(found),
            // A grammar for all programs says nothing of those whose lines it does not read.
            None if matches!(outcome, Outcome::Ignored) && !grammar.reads_all() => {
                *outcome = Outcome::Harmless(id);
            }
            None => {}
        }
        None
    }

    /// The offences that the grammars behind the one with the [first](Self::find) find in an entry, and the lines of the matching
    /// rules.
    ///
    /// Takes as long as `find`, or no time where one grammar reads the program's lines. Does not allocate.
    pub fn further<'g>(
        &'g self,
        entry: &'g Entry<'g>,
        first: GrammarId,
    ) -> impl Iterator<Item = (Offence, u32)> + 'g {
        let behind = self.readers(entry.program).skip_while(move |id| *id != first).skip(1);
        behind.filter_map(|id| {
            let grammar = self.get(id).filter(|grammar| grammar.may_find(entry))?;
            self.proved(id)?;
            match self.find_by(id, grammar, entry)? {
                Outcome::Offence(offence, rule) => Some((Offence { is_further: true, ..offence }, rule)),
                _ => None,
            }
        })
    }

    /// What one grammar finds in an entry.
    fn find_by(&self, id: GrammarId, grammar: &Grammar, entry: &Entry<'_>) -> Option<Outcome> {
        if entry.cut {
            self.prove(id, grammar);
        }
        let found = grammar.judge(entry.message, entry.cut, |category, reading, spans, condition, text| {
            let value = grammar.value(category, reading.group, spans, condition, text);
            (category, reading, value, self.accountable(&reading, text), grammar.key(&reading, spans))
        });
        let (category, reading, value, address, key) = found?;
        let address = match key {
            None => address?,
            Some(_) => address.unwrap_or(Ipv4Addr::UNSPECIFIED.into()),
        };
        if grammar.contradicts(&entry.sender) {
            return Some(Outcome::Forged(id));
        }
        if let Some((place, true)) = key {
            return Some(Outcome::Naming(
                id,
                place,
                Some(address).filter(|address| !address.is_unspecified()),
            ));
        }
        let offence = Offence {
            time: entry.time,
            address,
            grammar: id,
            category: CategoryId(category),
            group: RuleGroupId(reading.group),
            session_id: match grammar.source.session {
                SessionScope::Process => SessionId::Process(entry.pid),
                SessionScope::Address => SessionId::Category(CategoryId(category)),
            },
            host: entry.host_hash(),
            value,
            is_further: false,
        };
        Some(match (key, offence.category) {
            (Some((place, _)), _) => Outcome::Referring(offence, grammar.line(reading), place),
            (None, CategoryId::LOGIN) => Outcome::Login(offence),
            (None, _) => Outcome::Offence(offence, grammar.line(reading)),
        })
    }

    /// What a message looks like that names an address and that no rule of the grammars that read its program's lines
    /// knows. As [`Grammar::unmatched_template`].
    pub fn unmatched_template(&self, entry: &Entry<'_>) -> Option<String> {
        let mut template = None;
        for grammar in self.readers(entry.program).filter_map(|id| self.get(id)) {
            if grammar.reads_all() {
                if grammar.knows(entry.message) {
                    return None;
                }
            } else {
                template = Some(grammar.unmatched_template(entry.message)?);
            }
        }
        template
    }
}
