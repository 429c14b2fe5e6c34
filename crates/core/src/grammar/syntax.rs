//! Parses the text of a grammar.
//!
//! The file consists of lines: an unindented one opens a section, the indented ones below are its body. nom parses the
//! content of a line. Whether a rule has exactly one address, or can be fooled, the compiler and the proof decide.

mod line;

use std::net::IpAddr;

use memchr::memchr;

use super::fault::{Faults, Place};
use super::forgeable::ForgeableLog;
use super::record::{Record, RecordFormat};
use super::source::{
    Case, KeyRole, KeySection, List, Rule, RuleGroup, SessionScope, Source, TestCase, Verdict,
};
use crate::model::CategoryId;
use line::Problem;

/// Sections `key NAME:` of a grammar.
const KEYS: usize = 16;

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
            let rules = vec![Rule { place, parts: line::rule(line, place, key)? }];
            source.groups.push(RuleGroup { rules, verdict: Verdict::Always(category), record: None, key });
        }
        Section::Others => source.others.push(Rule { place, parts: line::rule(line, place, None)? }),
        Section::Shape(group) => {
            if let Some(group) = source.groups.get_mut(group) {
                let mut value = line;
                if let Some(record) = &mut group.record {
                    let (rest, key) = line::record_key(line, record.format)?;
                    record.keys.push(key);
                    value = rest;
                }
                let column = place.column + (line.len() - value.len()) as u32;
                group
                    .rules
                    .push(Rule { place, parts: line::rule(value, Place { column, ..place }, group.key)? });
            }
        }
        Section::Cases { category, group } => {
            let case = Case { category, place, comparisons: line::comparisons(line)? };
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
