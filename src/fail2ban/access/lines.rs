//! Lines of an access log that are made of a regular expression: its texts as they are, and where it lets anything stand,
//! what a server writes there.

use std::collections::BTreeSet;

use super::super::regex::RegexNode;
use super::super::sample::SAMPLE;
use super::super::specimen::{GAP, skeletons};
use super::METHODS;

/// The date in all of these lines.
pub(super) const DATE: &str = "22/Nov/2026:05:40:38 +0000";

/// What a line consists of.
enum LineToken {
    Text(&'static str),
    /// What ends before this character, with what stands there if nothing else does.
    Field(char, &'static str),
}

const LINE: [LineToken; 16] = [
    LineToken::Text(SAMPLE),
    LineToken::Text(" - "),
    LineToken::Field(' ', "-"),
    LineToken::Text(" ["),
    LineToken::Text(DATE),
    LineToken::Text("] \""),
    LineToken::Field('"', "GET /x HTTP/1.1"),
    LineToken::Text("\" "),
    LineToken::Field(' ', "404"),
    LineToken::Text(" "),
    LineToken::Field(' ', "153"),
    LineToken::Text(" \""),
    LineToken::Field('"', "-"),
    LineToken::Text("\" \""),
    LineToken::Field('"', "x"),
    LineToken::Text("\""),
];

/// The place of the request in it.
const REQUEST: usize = 6;

/// What may stand inside a field.
const INSIDE: [&str; 4] = ["", "/x", "x", " /x"];

/// So many forms of a regular expression, and tries for each, and no more.
const MOST_FORMS: usize = 32;
const MOST_TRIES: usize = 4_000;

/// A form of a regular expression: lines of it, which differ in where its texts stand, and whether it is plain.
pub(super) struct AccessForm {
    pub(super) lines: Vec<String>,
    pub(super) is_plain: bool,
}

/// The forms of a regular expression with lines for which `is_found` holds. `host` stands before the address.
pub(super) fn forms(nodes: &[RegexNode], host: &str, is_found: &dyn Fn(&str) -> bool) -> Vec<AccessForm> {
    let mut nodes = nodes.to_vec();
    if nodes.first() != Some(&RegexNode::Start) {
        nodes.insert(0, RegexNode::Repeat(Box::new(RegexNode::Any), 0, None));
    }
    let is_closed = nodes.last() == Some(&RegexNode::End);
    let made = skeletons(&nodes, MOST_FORMS).into_iter().map(|(text, is_plain)| {
        let text = text.replace("[]", &format!("[{DATE}]"));
        let mut parts = text.split(GAP);
        let first = parts.next().unwrap_or_default();
        let mut filler = GapFiller {
            host,
            is_closed,
            is_found,
            left: MOST_TRIES,
            places: Vec::new(),
            found: Vec::new(),
            seen: BTreeSet::new(),
        };
        filler.fill(first, &parts.collect::<Vec<_>>());
        AccessForm { lines: filler.found, is_plain }
    });
    made.filter(|form| !form.lines.is_empty()).collect()
}

/// Fills the gaps between the texts of a regular expression.
struct GapFiller<'f> {
    host: &'f str,
    /// Whether a line ends where the regular expression does.
    is_closed: bool,
    is_found: &'f dyn Fn(&str) -> bool,
    /// How many tries are left.
    left: usize,
    /// Where in a line each text so far begins.
    places: Vec<usize>,
    found: Vec<String>,
    /// The places of those that were found, of which one each is enough.
    seen: BTreeSet<Vec<usize>>,
}

impl GapFiller<'_> {
    fn fill(&mut self, text: &str, parts: &[&str]) {
        let Some(left) = self.left.checked_sub(1) else { return };
        self.left = left;
        let Some(state) = LineState::of(self.host, text) else { return };
        let [next, after @ ..] = parts else {
            let line = if self.is_closed { text.to_owned() } else { format!("{text}{}", state.rest()) };
            let is_whole = LineState::of(self.host, &line).is_some_and(|state| state.rest().is_empty());
            if is_whole && is_usual(&line) && !self.seen.contains(&self.places) && (self.is_found)(&line) {
                self.found.push(line);
                self.seen.insert(self.places.clone());
            }
            return;
        };
        let inside = if state.is_inside { &INSIDE[..] } else { &INSIDE[..1] };
        for filling in
            inside.iter().flat_map(|inside| state.cuts().into_iter().map(move |cut| format!("{inside}{cut}")))
        {
            let before = format!("{text}{filling}");
            let Some(place) = LineState::of(self.host, &before).map(|state| state.at) else { continue };
            let with = format!("{before}{next}");
            if LineState::of(self.host, &with).is_some() {
                self.places.push(place);
                self.fill(&with, after);
                self.places.pop();
            }
        }
    }
}

/// How far a text goes along a line.
struct LineState {
    /// The token in which it ends.
    at: usize,
    /// Whether that is a field.
    is_inside: bool,
    /// What ends that token.
    end: &'static str,
}

impl LineState {
    /// `None` if no line begins so.
    fn of(host: &str, text: &str) -> Option<Self> {
        let mut rest = text.strip_prefix(host).or_else(|| host.starts_with(text).then_some(""))?;
        for (at, token) in LINE.iter().enumerate() {
            match token {
                LineToken::Text(fixed) => match rest.strip_prefix(fixed) {
                    Some(after) => rest = after,
                    None => return Some(Self { at, is_inside: false, end: fixed.strip_prefix(rest)? }),
                },
                LineToken::Field(stop, usual) => match rest.find(*stop) {
                    Some(0) if *stop == ' ' => return None,
                    Some(end) => rest = rest.get(end..)?,
                    None => {
                        let is_bare = at == REQUEST && rest.contains(' ') && !rest.contains(" HTTP/");
                        let end = match rest {
                            "" => usual,
                            _ if is_bare => " HTTP/1.1",
                            _ => "",
                        };
                        return Some(Self { at, is_inside: true, end });
                    }
                },
            }
        }
        rest.is_empty().then_some(Self { at: LINE.len(), is_inside: false, end: "" })
    }

    /// What completes the line.
    fn rest(&self) -> String {
        let usual = |token: &LineToken| match token {
            LineToken::Text(text) | LineToken::Field(_, text) => *text,
        };
        self.end.to_owned() + &LINE.iter().skip(self.at + 1).map(usual).collect::<String>()
    }

    /// The beginnings of that.
    fn cuts(&self) -> Vec<String> {
        let rest = self.rest();
        let date = rest.find(DATE).map(|from| from + 1..from + DATE.len());
        let is_cut = |at: &usize| date.as_ref().is_none_or(|date| !date.contains(at));
        (0..=rest.len()).filter(is_cut).filter_map(|at| rest.get(..at).map(str::to_owned)).collect()
    }
}

/// Whether a client sends such a line and a server writes it: nobody is called like a request, and a method is followed by a
/// target.
fn is_usual(line: &str) -> bool {
    let quoted: Vec<&str> = line.split('"').collect();
    let [head, request, numbers, "-", _, agent, ""] = quoted.as_slice() else { return false };
    let is_number = |word: &str| word.bytes().all(|byte| byte.is_ascii_digit());
    let target = METHODS.iter().find_map(|method| request.strip_prefix(method));
    let is_target = |rest: &str| {
        rest.strip_prefix(' ').is_some_and(|rest| !rest.is_empty() && !rest.starts_with([' ', 'H']))
    };
    head.contains(" - - [")
        && target.is_none_or(is_target)
        && numbers.trim().split(' ').all(is_number)
        && !METHODS.iter().any(|method| agent.contains(method))
        && numbers.ends_with(" 153 ")
}
