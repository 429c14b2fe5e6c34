//! What the text of a grammar says, as [`syntax`](super::syntax) reads it.

use std::fmt;
use std::net::IpAddr;

use super::fault::Place;
use super::forgeable::ForgeableLog;
use super::record::Record;
use super::variant::Whole;

/// A grammar as written.
#[derive(Debug, Default)]
pub(super) struct Source {
    pub(super) service: String,
    pub(super) logs: Vec<String>,
    /// A log whose files are not to be read.
    pub(super) forgeable: Option<ForgeableLog>,
    pub(super) tested: String,
    /// The grammar that it adds to, and where it says so.
    pub(super) extends: Option<(String, Place)>,
    pub(super) programs: Vec<String>,
    pub(super) units: Vec<String>,
    pub(super) users: Vec<String>,
    pub(super) session: SessionScope,
    pub(super) keys: Vec<KeySection>,
    pub(super) groups: Vec<RuleGroup>,
    /// Further message forms of the program in which strangers' text stands.
    pub(super) others: Vec<Rule>,
    pub(super) categories: Vec<String>,
    pub(super) lists: Vec<List>,
    pub(super) tests: Vec<TestCase>,
}

impl Source {
    /// The words of a list of its own.
    pub(super) fn words(&self, list: &str) -> Option<&[String]> {
        self.lists.iter().find(|known| known.name == list).map(|list| &*list.words)
    }

    /// Whether a rule, but for other forms, has a field of this name.
    pub(super) fn has_field(&self, name: &str) -> bool {
        fn has(parts: &[Part], name: &str) -> bool {
            parts.iter().any(|part| match part {
                Part::Text(_) => false,
                Part::Field { name: known, .. } => known.as_deref() == Some(name),
                Part::Choice { options, .. } => options.iter().any(|option| has(option, name)),
            })
        }
        self.groups.iter().flat_map(|group| &group.rules).any(|rule| has(&rule.parts, name))
    }
}

/// Which lines may report the same attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum SessionScope {
    /// Those of one process about one address.
    #[default]
    Process,
    /// Those below one category about one address.
    Address,
}

/// A section `key NAME:`. A `<key>` has its place among them.
#[derive(Debug)]
pub(super) struct KeySection {
    pub(super) name: String,
    pub(super) place: Place,
    /// Whether it is the base's.
    pub(super) is_inherited: bool,
}

/// What the rules of a group have a `<key>` for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyRole {
    /// Their lines name the address under a key; those without an address end the key.
    Names(u8),
    /// Their lines are about the address under a key.
    Refers(u8),
}

/// The rules whose lines report an attempt once: one below a category, or those of a shape with what makes its lines offences.
#[derive(Debug)]
pub(super) struct RuleGroup {
    pub(super) rules: Vec<Rule>,
    pub(super) verdict: Verdict,
    /// If its rules are about the values of keys.
    pub(super) record: Option<Record>,
    /// If its rules have a `<key>`.
    pub(super) key: Option<KeyRole>,
}

impl RuleGroup {
    /// What its rules describe.
    pub(super) fn whole(&self) -> Whole {
        match (&self.record, self.key) {
            (Some(_), _) => Whole::Value,
            (None, None) => Whole::Message,
            (None, Some(KeyRole::Names(_))) => Whole::Naming,
            (None, Some(KeyRole::Refers(_))) => Whole::Referring,
        }
    }

    /// Where it begins.
    pub(super) fn place(&self) -> Place {
        match &self.verdict {
            Verdict::Shape { place, .. } => *place,
            Verdict::Always(_) => self.rules.first().map_or(Place { line: 1, column: 1 }, |rule| rule.place),
        }
    }

    /// The same without what makes its lines offences.
    pub(super) fn without_cases(mut self) -> Self {
        if let Verdict::Shape { cases, .. } = &mut self.verdict {
            cases.clear();
        }
        self
    }

    /// Lets its rules stand where its first case does. Whether it has one.
    pub(super) fn move_to_cases(&mut self) -> bool {
        let Verdict::Shape { cases, .. } = &self.verdict else { return true };
        let Some(Case { place, .. }) = cases.first() else { return false };
        self.rules.iter_mut().for_each(|rule| rule.place = *place);
        true
    }
}

#[derive(Debug)]
pub(super) enum Verdict {
    /// Every line of this group is an offence of the category.
    Always(usize),
    /// A line of the shape `name` is an offence of the first case that holds.
    Shape { name: String, place: Place, cases: Vec<Case> },
}

/// What makes a line of a shape an offence.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) category: usize,
    pub(super) place: Place,
    pub(super) comparisons: Vec<Comparison>,
}

#[derive(Debug)]
pub(super) struct Comparison {
    pub(super) field: String,
    /// The part of what the field held that is compared.
    pub(super) part: View,
    pub(super) not: bool,
    pub(super) how: How,
    pub(super) words: Vec<Word>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum How {
    Is,
    Starts,
    Ends,
    Has,
    /// As whole segments of a path.
    Names,
}

/// What of a field is looked at: all of it, or a part of the request line that it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum View {
    #[default]
    Whole,
    /// `GET`, up to the first space.
    Method,
    /// From the first space to the next space, `?` or `#`; all of it up to there where there is no space.
    Path,
}

impl View {
    /// The view of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "method" => Some(Self::Method),
            "path" => Some(Self::Path),
            _ => None,
        }
    }

    /// The part of `text`. Linear; does not allocate.
    pub(super) fn of(self, text: &[u8]) -> &[u8] {
        let space = || memchr::memchr(b' ', text);
        match self {
            Self::Whole => text,
            // Methods are too short for memchr to pay.
            Self::Method => text.split(|byte| *byte == b' ').next().unwrap_or(text),
            Self::Path => {
                let path = space().and_then(|space| text.get(space + 1..)).unwrap_or(text);
                path.get(..memchr::memchr3(b' ', b'?', b'#', path).unwrap_or(path.len())).unwrap_or(path)
            }
        }
    }
}

#[derive(Debug)]
pub(super) enum Word {
    Plain(String),
    List(String),
}

#[derive(Debug)]
pub(super) struct List {
    pub(super) name: String,
    pub(super) words: Vec<String>,
}

#[derive(Debug)]
pub(super) struct Rule {
    pub(super) place: Place,
    pub(super) parts: Vec<Part>,
}

#[derive(Debug)]
pub(super) enum Part {
    Text(String),
    Field { name: Option<String>, kind: FieldKind, column: u32 },
    Choice { options: Vec<Vec<Part>>, optional: bool },
}

/// What may stand in a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum FieldKind {
    Ip,
    /// An IPv4 address, which a port may follow.
    Ipv4,
    /// A word under which another line has the address; which of the [sections](KeySection) it is a key of.
    Key(u8),
    /// A host name, perhaps with a port; never an address.
    Host,
    /// Anything: `<user>` and `<text>`.
    Free,
    Word,
    Num,
    Quoted,
    /// Anything without a `"` that no backslash makes plain.
    Unquoted,
    /// What does not begin with a `"`, up to the end of the message.
    Rest,
    /// The header in which proxies name their clients.
    Forwarded,
    /// When the server wrote the line.
    Time,
    /// Anything without these characters, also nothing.
    Without(Characters),
}

/// Some of the ASCII characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Characters(u128);

impl Characters {
    /// Adds an ASCII character; others are left out.
    pub(super) fn add(&mut self, character: char) {
        self.0 |= 1_u128.checked_shl(character.into()).unwrap_or(0);
    }

    /// Whether this is one of them.
    pub(super) fn holds(self, byte: u8) -> bool {
        byte < 128 && self.0 >> byte & 1 == 1
    }
}

impl FieldKind {
    /// What it is called.
    pub(super) fn name(self) -> &'static str {
        match self {
            FieldKind::Ip | FieldKind::Ipv4 => "ip",
            FieldKind::Key(_) => "key",
            FieldKind::Host => "host",
            FieldKind::Free => "text",
            FieldKind::Word => "word",
            FieldKind::Num => "num",
            FieldKind::Quoted => "quoted",
            FieldKind::Unquoted => "unquoted",
            FieldKind::Rest => "rest",
            FieldKind::Forwarded => "forwarded",
            FieldKind::Time => "time",
            FieldKind::Without(_) => "not",
        }
    }
}

impl fmt::Display for FieldKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.name())
    }
}

/// A message and the address that must be found in it.
#[derive(Debug)]
pub(super) struct TestCase {
    pub(super) place: Place,
    pub(super) want: Option<IpAddr>,
    pub(super) message: String,
}
