//! Parses the text of a grammar.
//!
//! The file consists of lines: an unindented one opens a section, the indented ones below are its body. nom parses the
//! content of a line. Whether a rule has exactly one address, or can be fooled, the compiler and the proof decide.

use std::fmt;
use std::net::IpAddr;

use nom::branch::alt;
use nom::bytes::complete::{is_not, tag, take_while1};
use nom::character::complete::{anychar, char, none_of, space1};
use nom::combinator::{all_consuming, map, opt, value};
use nom::error::{ErrorKind, ParseError};
use nom::multi::{many0, many1, separated_list1};
use nom::sequence::{delimited, preceded};
use nom::{IResult, Parser};

use super::fault::{Faults, Place};
use crate::model::CategoryId;

/// A grammar as written.
#[derive(Debug, Default)]
pub(super) struct Source {
    pub(super) programs: Vec<String>,
    pub(super) units: Vec<String>,
    pub(super) users: Vec<String>,
    pub(super) session: SessionScope,
    pub(super) groups: Vec<RuleGroup>,
    /// Further message forms of the program in which strangers' text stands.
    pub(super) others: Vec<Rule>,
    pub(super) categories: Vec<String>,
    pub(super) lists: Vec<List>,
    pub(super) tests: Vec<TestCase>,
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

/// The rules whose lines report an attempt once: one below a category, or those of a shape with what makes its lines offences.
#[derive(Debug)]
pub(super) struct RuleGroup {
    pub(super) rules: Vec<Rule>,
    pub(super) verdict: Verdict,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum FieldKind {
    Ip,
    /// An IPv4 address, which a port may follow.
    Ipv4,
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
}

impl FieldKind {
    /// What it is called.
    pub(super) fn name(self) -> &'static str {
        match self {
            FieldKind::Ip | FieldKind::Ipv4 => "ip",
            FieldKind::Host => "host",
            FieldKind::Free => "text",
            FieldKind::Word => "word",
            FieldKind::Num => "num",
            FieldKind::Quoted => "quoted",
            FieldKind::Unquoted => "unquoted",
            FieldKind::Rest => "rest",
            FieldKind::Forwarded => "forwarded",
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
pub(super) fn parse(text: &str, faults: &mut Faults<'_>) -> Source {
    let mut source = Source::default();
    let mut section = Section::None;
    for (number, line) in (1..).zip(text.lines()) {
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
            body_line(body, place, section, &mut source)
        };
        if let Err(Problem { at, what }) = read {
            let column = place.column + (body.len() - at.min(body.len())) as u32;
            faults.error(Place { line: number, column }, what);
        }
    }
    let start = Place { line: 1, column: 1 };
    if source.programs.is_empty() {
        faults.error(start, "a `program:` line is missing");
    }
    if source.programs.iter().any(|program| program == "banstream") {
        faults.error(start, "`banstream` logs strangers' text, so no grammar may read its lines");
    }
    if source.groups.is_empty() && !faults.has_errors() {
        faults.error(start, "the grammar has no rule");
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

/// Which section the indented lines belong to.
#[derive(Clone, Copy)]
enum Section {
    None,
    Category(usize),
    Cases { category: usize, group: usize },
    Shape(usize),
    Others,
    List(usize),
    Tests,
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
    if !matches!(*words, ["program" | "unit" | "user" | "session"]) && !rest.trim().is_empty() {
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
        ["shape", name] => {
            let verdict = Verdict::Shape { name: name.to_owned(), place, cases: Vec::new() };
            source.groups.push(RuleGroup { rules: Vec::new(), verdict });
            Ok(Section::Shape(source.groups.len() - 1))
        }
        [name] => Ok(Section::Category(category(source, name))),
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
            "unknown section; sections are `program:`, `unit:`, `user:`, `session:`, `other:`, `test:`, `shape NAME:`, `list NAME:`, `HEADING:` or `HEADING in SHAPE:`",
        )),
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

fn body_line(line: &str, place: Place, section: Section, source: &mut Source) -> Result<(), Problem> {
    match section {
        Section::None => {
            return Err(Problem::new(line, "this line is in no section; put a category above the rules"));
        }
        Section::Category(category) => {
            let rules = vec![Rule { place, parts: rule(line, place)? }];
            source.groups.push(RuleGroup { rules, verdict: Verdict::Always(category) });
        }
        Section::Others => source.others.push(Rule { place, parts: rule(line, place)? }),
        Section::Shape(group) => {
            let rule = Rule { place, parts: rule(line, place)? };
            if let Some(group) = source.groups.get_mut(group) {
                group.rules.push(rule);
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

fn rule(line: &str, place: Place) -> Result<Vec<Part>, Problem> {
    // A column is the line's length less what is still to be read.
    let reader = RuleReader { end: place.column + line.len() as u32 };
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
        let Ok((after, body)) =
            nom::sequence::terminated(is_not::<_, _, Problem>("<>{}| "), char('>')).parse(rest)
        else {
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
            "host" => FieldKind::Host,
            "user" | "text" => FieldKind::Free,
            "word" => FieldKind::Word,
            "num" => FieldKind::Num,
            "quoted" => FieldKind::Quoted,
            "unquoted" => FieldKind::Unquoted,
            "rest" => FieldKind::Rest,
            "forwarded" => FieldKind::Forwarded,
            _ => {
                return Err(stop(
                    rest,
                    format!(
                        "unknown field `{kind}`; fields are ip, peer, user, text, word, num, host, quoted, unquoted, rest, forwarded"
                    ),
                ));
            }
        };
        let name = name.or((body == "user").then_some("user")).map(str::to_owned);
        Ok((after, Part::Field { name, kind, column: self.end - input.len() as u32 }))
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
