//! Lays the parts of a regular expression along the line of an access log.

use super::super::class::CharacterClass;
use super::super::regex::Obstacle;
use super::part::RegexPart;
use super::{ANYWHERE, AccessCondition, METHODS, crossed};

/// The parts of a line, in their order: before the request, the request, the numbers behind it, and so on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum LinePart {
    Head,
    Request,
    Numbers,
    Referer,
    Between,
    Agent,
    Rest,
}

impl LinePart {
    fn next(self) -> Self {
        match self {
            Self::Head => Self::Request,
            Self::Request => Self::Numbers,
            Self::Numbers => Self::Referer,
            Self::Referer => Self::Between,
            Self::Between => Self::Agent,
            Self::Agent | Self::Rest => Self::Rest,
        }
    }

    /// The field that it is in a shape.
    fn field(self) -> Option<&'static str> {
        match self {
            Self::Request => Some("request"),
            Self::Referer => Some("referer"),
            Self::Agent => Some("agent"),
            _ => None,
        }
    }
}

/// Lays the parts along a line.
pub(super) struct LineWalk {
    place: LinePart,
    /// Whether something passed that may reach into later places.
    is_open: bool,
    /// What the place begins with, as long as nothing varied in it.
    start: Option<Vec<String>>,
    /// Whether the status was passed.
    has_status: bool,
    /// Whether the version of HTTP was reached in the request.
    has_version: bool,
    asked: Vec<AccessCondition>,
}

impl LineWalk {
    pub(super) fn of(parts: &[RegexPart]) -> Result<Vec<AccessCondition>, Obstacle> {
        let mut walk = Self {
            place: LinePart::Head,
            is_open: false,
            start: None,
            has_status: false,
            has_version: false,
            asked: Vec::new(),
        };
        let is_request = |part: &RegexPart| *part == RegexPart::Quote;
        if parts.iter().skip_while(|part| !is_request(part)).any(|part| *part == RegexPart::Host) {
            return Err("an address behind the request".to_owned());
        }
        let mut rest = parts;
        while let [part, after @ ..] = rest {
            rest = walk.step(part, after)?;
        }
        walk.leave(false);
        Ok(walk.asked)
    }

    fn ask(&mut self, field: &'static str, how: &'static str, words: Vec<String>) {
        self.asked.push(AccessCondition { field, how, not: false, words });
    }

    /// Takes a part; what is left of those after it.
    fn step<'t>(&mut self, part: &RegexPart, after: &'t [RegexPart]) -> Result<&'t [RegexPart], Obstacle> {
        match part {
            RegexPart::Host if self.place == LinePart::Head => (self.is_open, self.start) = (false, None),
            RegexPart::Host => return Err("an address behind the request".to_owned()),
            RegexPart::End => {}
            // A date, a name: what stands before the request in a line has no quote.
            RegexPart::Gap(true) if self.place == LinePart::Head && is_bracket(after) => {}
            RegexPart::Gap(crosses) => {
                self.leave(false);
                self.is_open |= crosses;
            }
            RegexPart::Digits if self.place == LinePart::Numbers && !self.has_status && !self.is_open => {
                self.has_status = true;
            }
            RegexPart::Digits if self.is_asked() && !self.has_version => {
                return Err(refused(CharacterClass::digits()));
            }
            RegexPart::Digits => self.leave(false),
            RegexPart::Narrow(class) => {
                let is_method = self.place == LinePart::Request
                    && class.is_names()
                    && self.start.as_deref() == Some(&[String::new()]);
                if self.is_asked() && !is_method {
                    return Err(refused(*class));
                }
                self.leave(false);
            }
            RegexPart::Not(words, is_anywhere) => self.exclude(words, *is_anywhere)?,
            RegexPart::Quote => self.quote(after)?,
            RegexPart::Text(words) => {
                return match self.with_digit(words, after) {
                    Some(words) => self.text(&words, after.get(1..).unwrap_or_default()),
                    None => self.text(words, after),
                };
            }
        }
        Ok(after)
    }

    /// The words with each digit behind them, where a number follows that anything may follow.
    fn with_digit(&self, words: &[String], after: &[RegexPart]) -> Option<Vec<String>> {
        let is_number = matches!(after, [RegexPart::Digits] | [RegexPart::Digits, RegexPart::Gap(_), ..]);
        let is_set_off =
            |word: &String| !self.is_open || !word.ends_with(|c: char| c == ' ' || c.is_ascii_digit());
        let digits: Vec<String> = (0..10).map(|digit| digit.to_string()).collect();
        (is_number && self.is_asked() && words.iter().all(is_set_off))
            .then(|| crossed(words, &digits).ok())?
    }

    /// Whether what varies here may be in a field, so that its characters matter.
    fn is_asked(&self) -> bool {
        self.place.field().is_some() || self.is_open && self.place == LinePart::Head
    }

    /// Passes what the place begins with; whether a quote ends it there.
    fn leave(&mut self, is_end: bool) {
        let (Some(words), Some(field)) = (self.start.take(), self.place.field()) else { return };
        match words.iter().filter(|word| word.is_empty()).count() {
            0 => {}
            // An empty field.
            empty if is_end && empty == words.len() => return self.ask(field, "is", vec![String::new()]),
            _ => return,
        }
        let methods: Option<Vec<String>> = words.iter().map(|word| method(word.trim_end())).collect();
        match methods {
            Some(methods) if self.place == LinePart::Request => self.ask("request.method", "is", methods),
            _ => self.ask(field, if is_end { "is" } else { "starts" }, words),
        }
    }

    fn enter(&mut self, place: LinePart) {
        (self.place, self.is_open, self.has_version) = (place, false, false);
        self.start = place.field().map(|_| vec![String::new()]);
    }

    fn quote(&mut self, after: &[RegexPart]) -> Result<(), Obstacle> {
        if !self.is_open {
            self.leave(true);
            self.enter(self.place.next());
            return Ok(());
        }
        let after = after.strip_suffix(&[RegexPart::End]).unwrap_or(after);
        let (inside, behind) = match after.iter().position(|part| *part == RegexPart::Quote) {
            Some(at) => (after.get(..at), after.get(at + 1..)),
            None => (None, None),
        };
        self.enter(match (inside, behind) {
            _ if matches!(after, [] | [RegexPart::Gap(_)]) && self.place < LinePart::Agent => return Ok(()),
            _ if self.place <= LinePart::Request && begins_with_number(after) => LinePart::Numbers,
            _ if self.place == LinePart::Head && begins_request(after) => LinePart::Request,
            (Some([_, ..]), Some(behind)) if self.place == LinePart::Head && begins_with_number(behind) => {
                LinePart::Request
            }
            // A page can choose the referer of its visitors.
            (Some([RegexPart::Text(words), ..]), Some([]))
                if words.iter().any(|word| word.starts_with("http")) =>
            {
                return Err(format!(
                    "`{}` at the beginning of a quoted text, which may be the referer",
                    first(words)
                ));
            }
            // The last quoted text of the line.
            (Some([first, ..]), Some([])) if *first != RegexPart::Gap(true) => LinePart::Agent,
            _ if after.is_empty() => LinePart::Rest,
            _ => {
                let why =
                    "a `\"` behind `.*`, which may be that of the request, the referer or the user agent";
                return Err(why.to_owned());
            }
        });
        Ok(())
    }

    fn text<'t>(&mut self, words: &[String], after: &'t [RegexPart]) -> Result<&'t [RegexPart], Obstacle> {
        let all = |is: &dyn Fn(&str) -> bool| words.iter().all(|word| is(word));
        self.has_version |= self.place <= LinePart::Request
            && all(&|word| word.contains(" HTTP/") || word.starts_with("HTTP/"));
        if self.is_open && all(&|word| word.chars().all(|c| " -[]".contains(c))) {
            return Ok(after);
        }
        if self.is_open && self.place <= LinePart::Request && begins_status(words, after) {
            self.enter(LinePart::Numbers);
        }
        if self.is_open {
            self.open_text(words);
            return Ok(after);
        }
        match self.place {
            LinePart::Numbers if !self.has_status => return self.status(words, after),
            LinePart::Head | LinePart::Numbers | LinePart::Between if all(&is_plain) => {}
            LinePart::Request | LinePart::Referer | LinePart::Agent => match &mut self.start {
                Some(start) => *start = crossed(start, words)?,
                None => {
                    let how = if after.first() == Some(&RegexPart::Quote) { "ends" } else { "has" };
                    let is_version =
                        self.place == LinePart::Request && all(&|word| word.trim_start().starts_with("HTTP"));
                    if !is_version && !all(&|word| word.trim().is_empty()) {
                        self.place.field().into_iter().for_each(|field| self.ask(field, how, words.to_vec()));
                    }
                }
            },
            _ => return Err(format!("`{}`, which is in no field that a condition can name", first(words))),
        }
        Ok(after)
    }

    /// Takes a text that may be in more than one place.
    fn open_text(&mut self, words: &[String]) {
        let all = |is: &dyn Fn(&str) -> bool| words.iter().all(|word| is(word));
        let methods: Option<Vec<String>> = words.iter().map(|word| method(word.trim())).collect();
        match (self.place, methods) {
            (LinePart::Head, Some(methods)) => {
                self.ask("request.method", "is", methods);
                self.place = LinePart::Request;
            }
            (LinePart::Head | LinePart::Request, _) if all(&|word| word.trim_start().starts_with("HTTP")) => {
                self.place = LinePart::Request;
            }
            (LinePart::Head | LinePart::Request, _) => self.ask(ANYWHERE, "has", words.to_vec()),
            (LinePart::Numbers | LinePart::Referer | LinePart::Between | LinePart::Agent, _)
                if !all(&is_plain) =>
            {
                self.place = LinePart::Agent;
                self.ask("agent", "has", words.to_vec());
            }
            _ => {}
        }
    }

    /// The status, of which the first digits may be all that is asked for.
    fn status<'t>(
        &mut self,
        words: &[String],
        mut after: &'t [RegexPart],
    ) -> Result<&'t [RegexPart], Obstacle> {
        let mut digits: Vec<String> = words.iter().map(|word| word.trim().to_owned()).collect();
        while let ([RegexPart::Text(more), rest @ ..], true) =
            (after, digits.iter().all(|word| word.len() < 3))
        {
            let more: Vec<String> = more.iter().map(|word| word.trim().to_owned()).collect();
            (digits, after) = (crossed(&digits, &more)?, rest);
        }
        if digits.iter().any(|word| word.len() > 3 || !word.bytes().all(|byte| byte.is_ascii_digit())) {
            return Err(format!("`{}` where the status is", first(words)));
        }
        let is_whole = digits.iter().all(|word| word.len() == 3);
        self.has_status = !digits.iter().all(String::is_empty);
        if self.has_status {
            digits.retain(|word| !word.is_empty());
            while let ([RegexPart::Digits, rest @ ..], false) = (after, is_whole) {
                after = rest;
            }
            self.ask("status", if is_whole { "is" } else { "starts" }, digits);
        }
        Ok(after)
    }

    fn exclude(&mut self, words: &[String], is_anywhere: bool) -> Result<(), Obstacle> {
        let not = |field, how, words| AccessCondition { field, how, not: true, words };
        match (&self.start, self.place.field(), self.is_open) {
            (Some(start), Some(field), false) if !is_anywhere => {
                self.asked.push(not(field, "starts", crossed(start, words)?));
            }
            (_, _, false) if is_anywhere => {
                let behind = ["request", "referer", "agent"].into_iter().skip(match self.place {
                    LinePart::Head | LinePart::Request => 0,
                    LinePart::Numbers | LinePart::Referer => 1,
                    _ => 2,
                });
                self.asked.extend(behind.map(|field| not(field, "has", words.to_vec())));
            }
            _ => return Err(format!("a negative look-ahead `(?!{})` behind what varies", words.join("|"))),
        }
        Ok(())
    }
}

/// Why no condition stands for a class.
fn refused(class: CharacterClass) -> Obstacle {
    let class = class.printed();
    format!(
        "`{class}` where a client writes, which conditions compare with texts only: write `\\S+` or `.*` if any text will do"
    )
}

/// Whether a text stands between fields, as far as a condition can name them.
fn is_plain(word: &str) -> bool {
    word.chars().all(|c| " -[]:+/".contains(c))
}

/// Whether a status can begin here.
fn begins_status(words: &[String], after: &[RegexPart]) -> bool {
    words.iter().all(|word| {
        let digits = word.trim();
        word.starts_with(' ')
            && digits.bytes().all(|byte| byte.is_ascii_digit())
            && (digits.len() == 3 || !digits.is_empty() && after.first() == Some(&RegexPart::Digits))
    })
}

fn is_bracket(after: &[RegexPart]) -> bool {
    matches!(after.first(), Some(RegexPart::Text(words)) if words.iter().all(|word| word.starts_with(']')))
}

/// Whether the status follows a quote.
fn begins_with_number(after: &[RegexPart]) -> bool {
    let is_number = |word: &String| {
        word.strip_prefix(' ').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    match after {
        [RegexPart::Text(words), RegexPart::Digits, ..] if words.iter().all(|word| word == " ") => true,
        [RegexPart::Text(words), ..] => words.iter().all(is_number),
        _ => false,
    }
}

/// Whether a request follows a quote: a method, or the bytes of another protocol as servers write them.
fn begins_request(after: &[RegexPart]) -> bool {
    let is_request =
        |word: &String| word.starts_with("\\x") || METHODS.iter().any(|method| word.starts_with(method));
    matches!(after.first(), Some(RegexPart::Text(words) | RegexPart::Not(words, false)) if words.iter().all(is_request))
}

fn first(words: &[String]) -> &str {
    words.first().map_or("", String::as_str)
}

fn method(word: &str) -> Option<String> {
    let word = word.trim_start_matches('"');
    METHODS.contains(&word).then(|| word.to_owned())
}
