//! What stands in a line of a grammar: a rule, the comparisons of a case, or the key of a record's value.

use nom::branch::alt;
use nom::bytes::complete::{is_not, tag, take_while1};
use nom::character::complete::{anychar, char, none_of, satisfy, space1};
use nom::combinator::{all_consuming, map, opt, value};
use nom::error::{ErrorKind, ParseError};
use nom::multi::{many0, many1, separated_list1};
use nom::sequence::{delimited, preceded, terminated};
use nom::{IResult, Parser};

use crate::grammar::fault::Place;
use crate::grammar::record::RecordFormat;
use crate::grammar::source::{Characters, Comparison, FieldKind, How, KeyRole, Part, View, Word};

/// Choices inside choices, and no deeper.
const DEPTH: usize = 6;

/// The parts of a rule.
pub(super) fn rule(line: &str, place: Place, key: Option<KeyRole>) -> Result<Vec<Part>, Problem> {
    // A column is the line's length less what is still to be read.
    let reader = RuleReader { end: place.column + line.len() as u32, key };
    finish(all_consuming(|input| reader.parts(input, DEPTH, false)).parse(line))
}

/// The comparisons of a case.
pub(super) fn comparisons(line: &str) -> Result<Vec<Comparison>, Problem> {
    finish(all_consuming(separated_list1(delimited(space1, tag("and"), space1), comparison)).parse(line))
}

fn finish<T>(result: IResult<&str, T, Problem>) -> Result<T, Problem> {
    match result {
        Ok((_, value)) => Ok(value),
        Err(nom::Err::Error(problem) | nom::Err::Failure(problem)) => Err(problem),
        Err(nom::Err::Incomplete(_)) => Err(Problem { at: 0, what: "the line ends too early".to_owned() }),
    }
}

/// `KEY = `, and what follows it.
pub(super) fn record_key(line: &str, format: RecordFormat) -> Result<(&str, Vec<String>), Problem> {
    finish(key(line, format))
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
                set.add(c);
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
pub(super) struct Problem {
    pub(super) at: usize,
    pub(super) what: String,
}

impl Problem {
    pub(super) fn new(rest: &str, what: impl Into<String>) -> Self {
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
