//! Parses the text of a grammar.
//!
//! The file consists of lines: an unindented one opens a section, the indented ones below are its body. nom parses the
//! content of a line. Whether a rule has exactly one address, or can be fooled, the compiler and the proof decide.

use std::fmt;
use std::net::IpAddr;

use memchr::memchr;
use nom::branch::alt;
use nom::bytes::complete::{is_not, tag, take_while1};
use nom::character::complete::{anychar, char, none_of, satisfy, space1};
use nom::combinator::{all_consuming, map, opt, value};
use nom::error::{ErrorKind, ParseError};
use nom::multi::{many0, many1, separated_list1};
use nom::sequence::{delimited, preceded, terminated};
use nom::{IResult, Parser};

use super::fault::{Faults, Place};
use super::forgeable::ForgeableLog;
use super::record::{Record, RecordFormat};
use super::variant::Whole;
use crate::model::CategoryId;

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

/// Sections `key NAME:` of a grammar.
const KEYS: usize = 16;

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
}

#[derive(Debug)]
pub(super) enum Verdict {
    /// Every line of this group is an offence of the category.
    Always(usize),
    /// A line of the shape `name` is an offence of the first case that holds.
    Shape { name: String, place: Place, cases: Vec<Case> },
}

impl RuleGroup {
    fn without_cases(mut self) -> Self {
        if let Verdict::Shape { cases, .. } = &mut self.verdict {
            cases.clear();
        }
        self
    }

    /// Lets its rules stand where its first case does. Whether it has one.
    fn move_to_cases(&mut self) -> bool {
        let Verdict::Shape { cases, .. } = &self.verdict else { return true };
        let Some(Case { place, .. }) = cases.first() else { return false };
        self.rules.iter_mut().for_each(|rule| rule.place = *place);
        true
    }
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

/// Choices inside choices, and no deeper.
const DEPTH: usize = 6;

/// Reads a grammar file; what cannot be read is in `faults`, and the rest is returned all the same.
///
/// `base` is the text of the grammar that it extends: its header stands where the file has no such line, and categories
/// can be `in` its shapes.
pub(super) fn parse(text: &str, base: Option<&str>, faults: &mut Faults<'_>) -> Source {
    let source = read(text, base, Some(body_line), faults);
    if source.groups.is_empty() && !faults.has_errors() {
        faults.error(Place { line: 1, column: 1 }, "the grammar has no rule");
    }
    for group in &source.groups {
        if let Verdict::Shape { name, place, cases } = &group.verdict {
            if group.rules.is_empty() {
                faults.error(*place, format!("the shape `{name}` has no line"));
            } else if cases.is_empty() {
                faults.warn(*place, format!("no category uses the shape `{name}`"));
            }
        }
    }
    source
}

/// As [`parse`], but for what is indented: without rules, lists and tests. Takes a twentieth of the time.
pub(super) fn header(text: &str, base: Option<&str>, faults: &mut Faults<'_>) -> Source {
    let source = read(text, base, None, faults);
    Source { groups: Vec::new(), lists: Vec::new(), ..source }
}

/// Reads the headings, and has `body_line` read what is indented, if that is wanted.
fn read(text: &str, base: Option<&str>, body_line: Option<BodyReader>, faults: &mut Faults<'_>) -> Source {
    let base = base.map(|base| read(base, None, body_line, &mut Faults::new("", base))).unwrap_or_default();
    let is_shared = |group: &RuleGroup| {
        matches!((&group.verdict, group.key), (Verdict::Shape { .. }, _) | (_, Some(KeyRole::Names(_))))
    };
    let shared = base.groups.into_iter().filter(is_shared).map(RuleGroup::without_cases);
    let keys = base.keys.into_iter().map(|key| KeySection { is_inherited: true, ..key });
    let mut source =
        Source { groups: shared.collect(), keys: keys.collect(), session: base.session, ..Source::default() };
    let of_base = source.groups.len();
    let mut section = Section::None;
    for (number, line) in (1..).zip(lines(text)) {
        if body_line.is_none() && line.starts_with([' ', '#']) {
            continue;
        }
        let line = line.trim_end();
        let body = line.trim_start();
        if body.is_empty() || body.starts_with('#') {
            continue;
        }
        let indent = line.len() - body.len();
        let place = Place { line: number, column: indent as u32 + 1 };
        let read = if indent == 0 {
            section_line(body, place, &mut source).map(|opened| section = opened)
        } else {
            body_line.map_or(Ok(()), |read| read(body, place, section, &mut source))
        };
        if let Err(Problem { at, what }) = read {
            let column = place.column + (body.len() - at.min(body.len())) as u32;
            faults.error(Place { line: number, column }, what);
        }
    }
    let mut nth = 0;
    source.groups.retain_mut(|group| {
        nth += 1;
        nth > of_base || group.move_to_cases()
    });
    source.settle_keys(faults);
    for (own, base) in [
        (&mut source.programs, base.programs),
        (&mut source.units, base.units),
        (&mut source.users, base.users),
    ] {
        if own.is_empty() {
            *own = base;
        }
    }
    source.lists.extend(base.lists);
    let start = Place { line: 1, column: 1 };
    if source.programs.is_empty() {
        faults.error(start, "a `program:` line is missing");
    }
    if source.programs.iter().any(|program| program == "banstream") {
        faults.error(start, "`banstream` logs strangers' text, so no grammar may read its lines");
    }
    if let Some(program) = source.programs.iter().find(|program| program.matches('*').count() > 1) {
        faults.error(start, format!("`{program}` has more than one `*`"));
    }
    source
}

/// Which section the indented lines belong to.
#[derive(Clone, Copy)]
enum Section {
    None,
    Category(usize, Option<KeyRole>),
    Cases { category: usize, group: usize },
    Shape(usize),
    Others,
    List(usize),
    Tests,
}

/// As [`str::lines`], in a third of the time: a start looks through 130 grammars.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let end = memchr(b'\n', rest.as_bytes()).unwrap_or(rest.len());
        let (line, behind) = rest.split_at_checked(end).filter(|_| !rest.is_empty())?;
        rest = behind.get(1..).unwrap_or_default();
        Some(line)
    })
}

fn section_line(line: &str, place: Place, source: &mut Source) -> Result<Section, Problem> {
    let Some((head, rest)) = line.split_once(':') else {
        return Err(Problem::new(
            line,
            "a line without indentation opens a section and needs a `:`; a rule is indented",
        ));
    };
    let words: Vec<&str> = head.split_whitespace().collect();
    let rest_words = || rest.split_whitespace().map(str::to_owned);
    if !matches!(
        *words,
        ["service"
            | "log"
            | "forgeable-file"
            | "tested"
            | "extends"
            | "program"
            | "unit"
            | "user"
            | "session"]
    ) && !rest.trim().is_empty()
    {
        return Err(Problem::new(
            rest.trim_start(),
            format!("nothing may follow `{head}:`; indent its lines below it"),
        ));
    }
    for word in &words {
        if !word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
            return Err(Problem::new(
                line,
                format!("`{word}` is not a name; use `a` to `z`, `0` to `9` and `-`"),
            ));
        }
    }
    match *words {
        ["service"] => {
            rest.trim().clone_into(&mut source.service);
            Ok(Section::None)
        }
        ["extends"] => {
            source.extends = Some((rest.trim().to_owned(), place));
            Ok(Section::None)
        }
        ["tested"] => {
            rest.trim().clone_into(&mut source.tested);
            Ok(Section::None)
        }
        ["log"] => {
            if let Some(other) =
                rest.split_whitespace().find(|log| *log != "journal" && !log.starts_with('/'))
            {
                let what = format!("a log is `journal` or the absolute path of a file, not `{other}`");
                return Err(Problem::new(rest.trim_start(), what));
            }
            source.logs.extend(rest_words());
            Ok(Section::None)
        }
        ["forgeable-file"] => {
            if let Some(other) = rest.split_whitespace().find(|file| !file.starts_with('/')) {
                let what = format!("a file has an absolute path, unlike `{other}`");
                return Err(Problem::new(rest.trim_start(), what));
            }
            let files = rest_words().collect();
            source.forgeable = Some(ForgeableLog { files, line: place.line });
            Ok(Section::None)
        }
        ["program"] => {
            source.programs.extend(rest_words());
            Ok(Section::None)
        }
        ["unit"] => {
            source.units.extend(rest_words());
            Ok(Section::None)
        }
        ["user"] => {
            source.users.extend(rest_words());
            Ok(Section::None)
        }
        ["session"] => {
            source.session = match rest.trim() {
                "process" => SessionScope::Process,
                "address" => SessionScope::Address,
                other => {
                    let what = format!("a session is by `process` or `address`, not `{other}`");
                    return Err(Problem::new(rest.trim_start(), what));
                }
            };
            Ok(Section::None)
        }
        ["test"] => Ok(Section::Tests),
        ["other"] => Ok(Section::Others),
        ["list", name] => {
            source.lists.push(List { name: name.to_owned(), words: Vec::new() });
            Ok(Section::List(source.lists.len() - 1))
        }
        ["key", name] => source.key(name, line, place),
        ["shape", name, "by", key] => {
            let (key, cases) = (source.refers(key, line)?, Vec::new());
            let verdict = Verdict::Shape { name: name.to_owned(), place, cases };
            source.groups.push(RuleGroup { rules: Vec::new(), verdict, record: None, key: Some(key) });
            Ok(Section::Shape(source.groups.len() - 1))
        }
        [how @ ("shape" | "json" | "logfmt"), name] => {
            let verdict = Verdict::Shape { name: name.to_owned(), place, cases: Vec::new() };
            let format = match how {
                "json" => Some(RecordFormat::Json),
                "logfmt" => Some(RecordFormat::Logfmt),
                _ => None,
            };
            let record = format.map(|format| Record { format, keys: Vec::new() });
            source.groups.push(RuleGroup { rules: Vec::new(), verdict, record, key: None });
            Ok(Section::Shape(source.groups.len() - 1))
        }
        [name] => Ok(Section::Category(category(source, name), None)),
        [name, "by", key] => {
            let key = source.refers(key, line)?;
            Ok(Section::Category(category(source, name), Some(key)))
        }
        [name, "in", shape] => {
            let found = source
                .groups
                .iter()
                .position(|group| matches!(&group.verdict, Verdict::Shape { name, .. } if name == shape));
            match found {
                Some(group) => Ok(Section::Cases { category: category(source, name), group }),
                None => Err(Problem::new(line, format!("there is no shape `{shape}` above"))),
            }
        }
        _ => Err(Problem::new(
            line,
            "unknown section; sections are `service:`, `log:`, `forgeable-file:`, `tested:`, `extends:`, `program:`, `unit:`, `user:`, `session:`, `other:`, `test:`, `shape NAME:`, `json NAME:`, `logfmt NAME:`, `key NAME:`, `list NAME:`, `HEADING:`, `HEADING in SHAPE:` or `HEADING by KEY:`",
        )),
    }
}

impl Source {
    /// Opens a section `key NAME:`.
    fn key(&mut self, name: &str, line: &str, place: Place) -> Result<Section, Problem> {
        if self.keys.iter().any(|key| key.name == name) {
            return Err(Problem::new(line, format!("there is already a key `{name}`")));
        }
        if self.keys.len() == KEYS {
            return Err(Problem::new(line, format!("a grammar can have at most {KEYS} keys")));
        }
        self.keys.push(KeySection { name: name.to_owned(), place, is_inherited: false });
        let key = KeyRole::Names(self.keys.len() as u8 - 1);
        Ok(Section::Category(CategoryId::KEY.0.into(), Some(key)))
    }

    /// What rules `by` this key have it for.
    fn refers(&self, name: &str, line: &str) -> Result<KeyRole, Problem> {
        let found = (0..).zip(&self.keys).find(|(_, key)| key.name == name);
        let unknown = || {
            Problem::new(line, format!("unknown key `{name}`; its section `key {name}:` must stand above"))
        };
        found.map(|(number, _)| KeyRole::Refers(number)).ok_or_else(unknown)
    }

    /// Warns of keys that nothing refers to. Those of the base are left out then; otherwise their rules stand where
    /// the first rule that refers to them does.
    fn settle_keys(&mut self, faults: &mut Faults<'_>) {
        let refers = |number| move |group: &&RuleGroup| group.key == Some(KeyRole::Refers(number));
        let first = |number| self.groups.iter().find(refers(number))?.rules.first().map(|rule| rule.place);
        let used: Vec<Option<Place>> = (0..self.keys.len() as u8).map(first).collect();
        for (key, used) in self.keys.iter().zip(&used) {
            if used.is_none() && !key.is_inherited {
                faults.warn(key.place, format!("no category uses the key `{}`", key.name));
            }
        }
        self.groups.retain_mut(|group| {
            let Some(KeyRole::Names(number)) = group.key else { return true };
            let number = usize::from(number);
            if self.keys.get(number).is_none_or(|key| !key.is_inherited) {
                return true;
            }
            let Some(place) = used.get(number).copied().flatten() else { return false };
            group.rules.iter_mut().for_each(|rule| rule.place = place);
            true
        });
    }
}

fn category(source: &mut Source, name: &str) -> usize {
    if name == super::LOGIN {
        return CategoryId::LOGIN.0.into();
    }
    source.categories.iter().position(|known| known == name).unwrap_or_else(|| {
        source.categories.push(name.to_owned());
        source.categories.len() - 1
    })
}

type BodyReader = fn(&str, Place, Section, &mut Source) -> Result<(), Problem>;

fn body_line(line: &str, place: Place, section: Section, source: &mut Source) -> Result<(), Problem> {
    match section {
        Section::None => {
            return Err(Problem::new(line, "this line is in no section; put a category above the rules"));
        }
        Section::Category(category, key) => {
            let rules = vec![Rule { place, parts: rule(line, place, key)? }];
            source.groups.push(RuleGroup { rules, verdict: Verdict::Always(category), record: None, key });
        }
        Section::Others => source.others.push(Rule { place, parts: rule(line, place, None)? }),
        Section::Shape(group) => {
            if let Some(group) = source.groups.get_mut(group) {
                let mut value = line;
                if let Some(record) = &mut group.record {
                    let (rest, key) = finish(key(line, record.format))?;
                    record.keys.push(key);
                    value = rest;
                }
                let column = place.column + (line.len() - value.len()) as u32;
                group.rules.push(Rule { place, parts: rule(value, Place { column, ..place }, group.key)? });
            }
        }
        Section::Cases { category, group } => {
            let case = Case { category, place, comparisons: comparisons(line)? };
            if let Some(RuleGroup { verdict: Verdict::Shape { cases, .. }, .. }) =
                source.groups.get_mut(group)
            {
                cases.push(case);
            }
        }
        Section::List(list) => {
            source.lists.get_mut(list).into_iter().for_each(|list| list.words.push(line.to_owned()));
        }
        Section::Tests => {
            let (want, message) = line.split_once([' ', '\t']).unwrap_or((line, ""));
            let want = match want {
                "-" => None,
                address => match address.parse::<IpAddr>() {
                    Ok(address) => Some(address.to_canonical()),
                    Err(_) => {
                        return Err(Problem::new(
                            line,
                            format!("a test begins with an address or `-`, not `{address}`"),
                        ));
                    }
                },
            };
            source.tests.push(TestCase { place, want, message: message.trim_start().to_owned() });
        }
    }
    Ok(())
}

fn rule(line: &str, place: Place, key: Option<KeyRole>) -> Result<Vec<Part>, Problem> {
    // A column is the line's length less what is still to be read.
    let reader = RuleReader { end: place.column + line.len() as u32, key };
    finish(all_consuming(|input| reader.parts(input, DEPTH, false)).parse(line))
}

fn comparisons(line: &str) -> Result<Vec<Comparison>, Problem> {
    finish(all_consuming(separated_list1(delimited(space1, tag("and"), space1), comparison)).parse(line))
}

fn finish<T>(result: IResult<&str, T, Problem>) -> Result<T, Problem> {
    match result {
        Ok((_, value)) => Ok(value),
        Err(nom::Err::Error(problem) | nom::Err::Failure(problem)) => Err(problem),
        Err(nom::Err::Incomplete(_)) => Err(Problem { at: 0, what: "the line ends too early".to_owned() }),
    }
}

#[derive(Clone, Copy)]
struct RuleReader {
    end: u32,
    /// What a `<key>` is for here.
    key: Option<KeyRole>,
}

impl RuleReader {
    /// Texts, fields and choices; inside a choice up to the next `|` or `}`.
    fn parts<'a>(self, input: &'a str, depth: usize, inside: bool) -> IResult<&'a str, Vec<Part>, Problem> {
        let text = map(many1(alt((preceded(char('\\'), anychar), none_of("<{}|\\>")))), |chars| {
            Part::Text(chars.into_iter().collect())
        });
        // `>` and, outside a choice, `|` mean nothing special; they are apart only so that `text` stops there.
        let plain = map(
            alt((char('>'), |input: &'a str| if inside { fail(input) } else { char('|').parse(input) })),
            |c| Part::Text(c.to_string()),
        );
        let (rest, parts) =
            many0(alt((text, plain, |input| self.field(input), |input| self.choice(input, depth))))
                .parse(input)?;
        match rest.chars().next() {
            Some('}') if !inside => Err(stop(rest, "this `}` has no `{`; write `\\}` for the character")),
            Some('\\') => Err(stop(rest, "a `\\` makes the next character plain, but none follows")),
            _ => Ok((rest, parts)),
        }
    }

    fn field(self, input: &str) -> IResult<&str, Part, Problem> {
        let (rest, _) = char('<').parse(input)?;
        if let Ok((rest, name)) = terminated(opt(terminated(name, char(':'))), tag("not ")).parse(rest) {
            let (after, kind) = without(rest)?;
            let (name, column) = (name.map(str::to_owned), self.end - input.len() as u32);
            return Ok((after, Part::Field { name, kind, column }));
        }
        let Ok((after, body)) = terminated(is_not::<_, _, Problem>("<>{}| "), char('>')).parse(rest) else {
            return Err(stop(
                input,
                "this `<` opens a field that is not closed; write `\\<` for the character",
            ));
        };
        let (name, kind) = match body.split_once(':') {
            Some((name, kind)) => (Some(name), kind),
            None => (None, body),
        };
        let kind = match kind {
            "ip" => FieldKind::Ip,
            "peer" => return Ok((after, peer(self.end - input.len() as u32))),
            "key" => self.key(name, rest)?,
            "host" => FieldKind::Host,
            "user" | "text" => FieldKind::Free,
            "word" => FieldKind::Word,
            "num" => FieldKind::Num,
            "quoted" => FieldKind::Quoted,
            "unquoted" => FieldKind::Unquoted,
            "rest" => FieldKind::Rest,
            "forwarded" => FieldKind::Forwarded,
            "time" => FieldKind::Time,
            _ => {
                return Err(stop(
                    rest,
                    format!(
                        "unknown field `{kind}`; fields are ip, peer, key, user, text, word, num, time, host, quoted, unquoted, rest, forwarded and `not` with characters"
                    ),
                ));
            }
        };
        let name = name.or((body == "user").then_some("user")).map(str::to_owned);
        Ok((after, Part::Field { name, kind, column: self.end - input.len() as u32 }))
    }

    /// The `<key>` of a section that may have one.
    fn key(self, name: Option<&str>, rest: &str) -> Result<FieldKind, nom::Err<Problem>> {
        match self.key {
            _ if name.is_some() => Err(stop(rest, "a `<key>` cannot have a name")),
            Some(KeyRole::Names(number) | KeyRole::Refers(number)) => Ok(FieldKind::Key(number)),
            None => Err(stop(
                rest,
                "a `<key>` can only stand below `key NAME:`, `HEADING by KEY:` or `shape NAME by KEY:`",
            )),
        }
    }

    fn choice(self, input: &str, depth: usize) -> IResult<&str, Part, Problem> {
        let (rest, _) = char('{').parse(input)?;
        let Some(depth) = depth.checked_sub(1) else {
            return Err(stop(input, format!("choices can be nested at most {DEPTH} deep")));
        };
        let (rest, options) =
            separated_list1(char('|'), |input| self.parts(input, depth, true)).parse(rest)?;
        let Ok((rest, _)) = char::<_, Problem>('}').parse(rest) else {
            return Err(stop(input, "this `{` is not closed; write `\\{` for the character"));
        };
        let (rest, optional) = opt(char('?')).parse(rest)?;
        Ok((rest, Part::Choice { options, optional: optional.is_some() }))
    }
}

/// The name of a field.
fn name(input: &str) -> IResult<&str, &str, Problem> {
    is_not("<>{}| :").parse(input)
}

/// The characters of `<not ,;>`, with spaces between them as the author likes; a backslash makes the next one plain.
fn without(input: &str) -> IResult<&str, FieldKind, Problem> {
    let (mut set, mut rest) = (Characters::default(), input);
    loop {
        let plain = rest.strip_prefix('\\');
        let character = plain.unwrap_or(rest).chars().next();
        let after = |c: char| plain.unwrap_or(rest).get(c.len_utf8()..).unwrap_or_default();
        match character {
            Some('>') if plain.is_none() && set != Characters::default() => {
                return Ok((after('>'), FieldKind::Without(set)));
            }
            Some(' ') if plain.is_none() => {}
            Some(c) if c.is_ascii() && (plain.is_some() || !matches!(c, '<' | '>' | '{' | '|' | '}')) => {
                set.0 |= 1 << c as u32
            }
            _ => {
                return Err(stop(
                    rest,
                    "`<not ` wants ASCII characters and a `>`; write `\\ ` for a space, and a `\\` before `< > { | } \\`",
                ));
            }
        }
        rest = after(character.unwrap_or_default());
    }
}

/// `<peer>`: an address, perhaps with its port, as `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]` or
/// `[2001:db8::1]:80`.
fn peer(column: u32) -> Part {
    let field = |kind| Part::Field { name: None, kind, column };
    let text = |text: &str| Part::Text(text.to_owned());
    let options = vec![
        vec![field(FieldKind::Ip)],
        vec![field(FieldKind::Ipv4), text(":"), field(FieldKind::Num)],
        vec![text("["), field(FieldKind::Ip), text("]")],
        vec![text("["), field(FieldKind::Ip), text("]:"), field(FieldKind::Num)],
    ];
    Part::Choice { options, optional: false }
}

/// `KEY = `, where what is behind a backslash is part of a name, and a dot is between the names that lead to a value in
/// JSON; what follows it comes back with the names.
fn key(line: &str, format: RecordFormat) -> IResult<&str, (&str, Vec<String>), Problem> {
    let inside = format == RecordFormat::Json;
    let plain = |c: char| c != '=' && c != '\\' && c != '"' && !(inside && c == '.');
    let name = many1(alt((preceded(char('\\'), anychar), satisfy(plain))));
    let name = map(name, |name| name.into_iter().collect::<String>());
    let (rest, mut names) =
        separated_list1(char('.'), name).parse(line).map_err(|_: nom::Err<Problem>| no_key(line))?;
    let value = rest.strip_prefix('=').map(str::trim_start).filter(|value| !value.is_empty());
    let Some(value) = value else { return Err(no_key(line)) };
    // Spaces around the `=` are for reading.
    names.last_mut().into_iter().for_each(|last| last.truncate(last.trim_end().len()));
    Ok(("", (value, names)))
}

fn no_key(line: &str) -> nom::Err<Problem> {
    stop(line, "a line of this shape is `KEY = RULE`")
}

fn comparison(input: &str) -> IResult<&str, Comparison, Problem> {
    let (rest, field) = take_while1(|c: char| c.is_ascii_alphanumeric() || c == '-').parse(input)?;
    let (rest, part) =
        opt(preceded(char('.'), take_while1(|c: char| c.is_ascii_alphanumeric()))).parse(rest)?;
    let part = match part {
        None => View::Whole,
        Some(name) => View::named(name).ok_or_else(|| {
            stop(input, format!("`{name}` is not a part of a request; its parts are `method` and `path`"))
        })?,
    };
    let (rest, _) = space1(rest)?;
    let how = alt((
        value(How::Is, tag::<_, _, Problem>("is")),
        value(How::Starts, tag("starts")),
        value(How::Ends, tag("ends")),
        value(How::Has, tag("has")),
        value(How::Names, tag("names")),
    ))
    .parse(rest);
    let Ok((rest, how)) = how else {
        return Err(stop(
            rest,
            "a comparison is `FIELD is|starts|ends|has|names WORD...`, with `not` before the words to negate it",
        ));
    };
    let (rest, not) = opt(preceded(space1, tag("not"))).parse(rest)?;
    let (rest, words) = many1(preceded(space1, word)).parse(rest).map_err(|_: nom::Err<Problem>| {
        nom::Err::Failure(Problem::new(rest, "one or more words must follow"))
    })?;
    Ok((rest, Comparison { field: field.to_owned(), part, not: not.is_some(), how, words }))
}

fn word(input: &str) -> IResult<&str, Word, Problem> {
    if input.starts_with("and ") {
        return fail(input);
    }
    alt((
        map(
            delimited(char('"'), many0(alt((preceded(char('\\'), anychar), none_of("\"\\")))), char('"')),
            |text| Word::Plain(text.into_iter().collect()),
        ),
        map(preceded(char('@'), is_not(" ")), |name: &str| Word::List(name.to_owned())),
        map(is_not(" \""), |text: &str| Word::Plain(text.to_owned())),
    ))
    .parse(input)
}

/// What is wrong with a line, and how much of it was left to read there.
#[derive(Debug)]
struct Problem {
    at: usize,
    what: String,
}

impl Problem {
    fn new(rest: &str, what: impl Into<String>) -> Self {
        Self { at: rest.len(), what: what.into() }
    }
}

impl ParseError<&str> for Problem {
    fn from_error_kind(input: &str, _: ErrorKind) -> Self {
        Self::new(input, "syntax error")
    }

    fn append(_: &str, _: ErrorKind, other: Self) -> Self {
        other
    }
}

fn fail<T>(input: &str) -> IResult<&str, T, Problem> {
    Err(nom::Err::Error(Problem::from_error_kind(input, ErrorKind::Fail)))
}

fn stop(rest: &str, what: impl Into<String>) -> nom::Err<Problem> {
    nom::Err::Failure(Problem::new(rest, what))
}
