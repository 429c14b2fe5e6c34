//! Lines that a regular expression reads, to try the rules that were made of it: the plain one, each with one thing otherwise
//! (another alternative, a repetition more or less, two spaces, what may stand before or behind it), and some with two.

use std::net::IpAddr;

use super::class::CharacterClass;
use super::regex::RegexNode;
use super::sample::{self, SAMPLE};

/// A line that a regular expression reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FilterSpecimen {
    /// As it stands in the log.
    pub(super) line: String,
    /// As fail2ban looks at it, without its date.
    pub(super) dateless: String,
    /// The date; empty if it has none.
    pub(super) date: String,
    pub(super) address: IpAddr,
    /// Whether nothing in it is unusual.
    pub(super) is_plain: bool,
}

/// What may stand around what a regular expression says.
#[derive(Clone, Copy, Debug)]
pub(super) struct SpecimenFrame<'d> {
    /// What stands before it.
    pub(super) before: TextBefore,
    /// Anything behind it.
    pub(super) is_unclosed: bool,
    /// A date of this form before it; `None` where no date is written, as in the journal.
    pub(super) date: Option<&'d str>,
}

const IPV6: &str = "2001:db8::1";

/// What stands before a regular expression in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextBefore {
    /// Nothing: it begins with `^`.
    None,
    /// Anything, if there is something: it just begins.
    Perhaps,
    /// Something, as its author knows: it begins with `.*`.
    Some,
}

/// Stands for the date that fail2ban cuts out.
const DATE: char = '\u{e001}';

/// What may be left around a date, and what may follow one at once.
const EMPTY: [&str; 3] = ["[]", "()", "<>"];
const SEPARATORS: [char; 6] = [':', ',', '|', ';', ']', '\t'];

/// Other dates that fail2ban knows by itself.
const DATES: [&str; 3] = ["2026-11-22 05:40:38", "2026-11-22T05:40:38.123+00:00", "Sun Nov 22 05:40:38 2026"];

/// Stands for what a regular expression lets anything be.
pub(super) const GAP: char = '\u{e002}';

/// Lines that these nodes read, the plainest first, so many at most.
pub(super) fn specimens(nodes: &[RegexNode], frame: SpecimenFrame<'_>, most: usize) -> Vec<FilterSpecimen> {
    explored(most, |script, all| Specimens::written(nodes, frame, script, all))
}

/// The same with [`GAP`] for all that may be anything, and whether each is plain.
pub(super) fn skeletons(nodes: &[RegexNode], most: usize) -> Vec<(String, bool)> {
    explored(most, |script, all| {
        let mut one = Specimens { has_gaps: true, ..Specimens::new(script, false) };
        one.fill(nodes);
        if !all.iter().any(|(known, _)| *known == one.text) {
            all.push((one.text, one.is_plain));
        }
        one.points
    })
}

/// What scripts write: which option is taken at each choice. `written` says how many options each choice had.
fn explored<T>(most: usize, written: impl Fn(&[usize], &mut Vec<T>) -> Vec<usize>) -> Vec<T> {
    let mut all = Vec::new();
    let mut script: Vec<usize> = Vec::new();
    let base = written(&script, &mut all);
    // Each choice otherwise, then two of them, spread over all pairs.
    let mut pairs = Vec::new();
    for (at, sides) in base.iter().enumerate() {
        for side in 1..*sides {
            script = vec![0; at];
            script.push(side);
            let points = written(&script, &mut all);
            let later = points.iter().enumerate().skip(at + 1);
            pairs.extend(later.flat_map(|(then, sides)| (1..*sides).map(move |next| (at, side, then, next))));
            if all.len() >= most {
                return all;
            }
        }
    }
    let room = most.saturating_sub(all.len()).max(1);
    let step = pairs.len().div_ceil(room).max(1);
    for (at, side, then, next) in pairs.into_iter().step_by(step) {
        script = vec![0; then];
        script.push(next);
        script.get_mut(at).into_iter().for_each(|place| *place = side);
        written(&script, &mut all);
    }
    all.truncate(most);
    all
}

/// A line that is written by a script: which option is taken at each choice, the first where it says nothing.
struct Specimens<'s> {
    script: &'s [usize],
    /// How many options each choice had.
    points: Vec<usize>,
    text: String,
    address: &'static str,
    is_plain: bool,
    is_file: bool,
    has_date: bool,
    /// Whether what may be anything is a [`GAP`].
    has_gaps: bool,
}

impl<'s> Specimens<'s> {
    fn new(script: &'s [usize], is_file: bool) -> Self {
        Self {
            script,
            points: Vec::new(),
            text: String::new(),
            address: SAMPLE,
            is_plain: true,
            is_file,
            has_date: false,
            has_gaps: false,
        }
    }

    /// Adds the line; how many options each choice had.
    fn written(
        nodes: &[RegexNode],
        frame: SpecimenFrame<'_>,
        script: &'s [usize],
        all: &mut Vec<FilterSpecimen>,
    ) -> Vec<usize> {
        let mut one = Self::new(script, frame.date.is_some());
        let dates: Vec<&str> = match frame.date {
            Some(usual) if DATES.contains(&usual) => DATES.to_vec(),
            Some(own) => vec![own],
            None => Vec::new(),
        };
        // In most files each line has a date.
        let place = match frame.date {
            Some(_) => one.option(&[(0, true), (1, true), (2, false)]),
            None => 1,
        };
        one.has_date = place == 0;
        let date =
            dates.get(if dates.len() > 1 { one.option(&[(0, true), (1, true), (2, false)]) } else { 0 });
        if frame.before != TextBefore::None {
            one.before(frame.before);
        }
        one.fill(nodes);
        if frame.is_unclosed {
            let is_address = one.text.ends_with(one.address);
            one.write(if is_address { BEHIND } else { &[("", true), (" x", true)] });
        }
        let (line, dateless) = dated(&one.text, place, date.copied().unwrap_or_default());
        // No line begins with what follows a date, in no log are brackets empty, and spaces at the end do not count.
        let is_odd = line.starts_with(char::is_whitespace)
            || line.starts_with(SEPARATORS)
            || line.ends_with(char::is_whitespace)
            || EMPTY.iter().any(|empty| line.starts_with(empty));
        // Where that ends, nobody knows.
        if is_odd || line.contains(&format!("{IPV6}:")) {
            return one.points;
        }
        one.is_plain &= place != 0 || !dateless.starts_with(SEPARATORS);
        let has_date = line != dateless;
        let specimen = FilterSpecimen {
            date: date.copied().filter(|_| has_date).unwrap_or_default().to_owned(),
            line,
            dateless,
            address: one.address.parse().unwrap_or(IpAddr::from([0; 4])),
            is_plain: one.is_plain,
        };
        if !all.iter().any(|known| known.line == specimen.line) {
            all.push(specimen);
        }
        one.points
    }

    /// The option that the script takes; each is said to be plain or not.
    fn option<T: Copy + Default>(&mut self, options: &[(T, bool)]) -> T {
        let at = self.script.get(self.points.len()).copied().unwrap_or_default();
        self.points.push(options.len());
        let (option, is_plain) = options.get(at).or(options.first()).copied().unwrap_or_default();
        self.is_plain &= is_plain;
        option
    }

    fn write(&mut self, options: &[(&str, bool)]) {
        let text = self.option(options);
        self.text += text;
    }

    fn fill(&mut self, nodes: &[RegexNode]) {
        for (at, node) in nodes.iter().enumerate() {
            match node {
                RegexNode::Text(c) => self.text.push(*c),
                RegexNode::Any => {
                    // Any character: a full stop is the one that authors forget to escape.
                    let c = self.option(&[('x', true), ('.', true)]);
                    self.text.push(c);
                }
                RegexNode::Class(class) => self.repeat_class(*class, 1, Some(1)),
                RegexNode::Host if self.has_gaps => self.text += SAMPLE,
                RegexNode::Host => {
                    self.address = self.option(&[(SAMPLE, true), (IPV6, false), ("198.51.100.7", true)]);
                    self.text += self.address;
                }
                RegexNode::Group(all, _) => {
                    let ways: Vec<(usize, bool)> = (0..all.len()).map(|nth| (nth, true)).collect();
                    let chosen = all.get(self.option(&ways));
                    chosen.into_iter().for_each(|nodes| self.fill(nodes));
                }
                RegexNode::Repeat(inner, _, None) if self.has_gaps && is_wide(inner) => self.text.push(GAP),
                RegexNode::Repeat(inner, least, most) => match **inner {
                    RegexNode::Any => {
                        self.anything(*least, *most, nodes.get(at + 1), at == 0 && self.text.is_empty())
                    }
                    RegexNode::Class(class) => self.repeat_class(class, *least, *most),
                    _ => self.repeat(inner, *least, *most),
                },
                RegexNode::Header if self.is_file => {
                    self.text += "host prog[1]: ";
                    self.is_plain &= self.has_date;
                }
                RegexNode::Start
                | RegexNode::End
                | RegexNode::Edge
                | RegexNode::NotAhead(_)
                | RegexNode::Header => {}
            }
        }
    }

    /// What may stand before a message: behind a date the host and the program, for one.
    fn before(&mut self, before: TextBefore) {
        let is_some = self.has_date && before == TextBefore::Some;
        let fillings: Vec<(&str, bool)> = BEFORE
            .iter()
            .map(|(text, is_plain)| (*text, *is_plain && (is_some || text.is_empty())))
            .collect();
        self.write(&fillings);
    }

    fn repeat(&mut self, inner: &RegexNode, least: u32, most: Option<u32>) {
        let usual = least.max(1).min(most.unwrap_or(u32::MAX));
        let is_text = matches!(inner, RegexNode::Text(_));
        let others = [least, 0, 1, 2, 3]
            .into_iter()
            .filter(|times| *times != usual && *times >= least && most.is_none_or(|most| *times <= most));
        let mut counts: Vec<(u32, bool)> = vec![(usual, true)];
        for times in others {
            // `x+` once, as people mean it.
            counts.push((times, times < 3 && !(is_text && times > usual)));
        }
        for _ in 0..self.option(&counts).min(MOST_TIMES) {
            self.fill(std::slice::from_ref(inner));
        }
    }

    /// `.*` and its kind.
    fn anything(&mut self, least: u32, most: Option<u32>, next: Option<&RegexNode>, is_first: bool) {
        let fillings = match () {
            () if self.text.ends_with(self.address) => BEHIND,
            () if is_first => return self.before(TextBefore::Perhaps),
            () if next == Some(&RegexNode::Host) => &[("", true), ("x ", true), ("a b: ", false)],
            () => &[
                ("x", true),
                ("", least == 0),
                ("a b", true),
                ("x-y.z@1", false),
                ("\"x\"", false),
                ("[x]", false),
                ("(x): y, z", false),
                (" x ", false),
            ],
        };
        let fits = |text: &str| {
            let length = text.chars().count();
            length >= least as usize && most.is_none_or(|most| length <= most as usize)
        };
        let fillings: Vec<(&str, bool)> = fillings.iter().copied().filter(|(text, _)| fits(text)).collect();
        match fillings.is_empty() {
            true => self.text.extend(std::iter::repeat_n('x', least.min(MOST_TIMES) as usize)),
            false => self.write(&fillings),
        }
    }

    fn repeat_class(&mut self, class: CharacterClass, least: u32, most: Option<u32>) {
        let fits = |text: &str| {
            let length = text.chars().count();
            length >= least as usize
                && most.is_none_or(|most| length <= most as usize)
                && text.chars().all(|c| class.has(c))
        };
        let usual: &[(&str, bool)] = match class.is_spaces() {
            true if self.has_gaps => &[(" ", true), ("", true)],
            // Behind a date there is one.
            true if self.text.is_empty() => &[(" ", true), ("", true)],
            true => &[(" ", true), ("", true), ("  ", false), ("\t", false), ("     ", false)],
            false => &[
                ("eve", true),
                ("22", true),
                ("a", true),
                ("", false),
                ("x-y.z@1", false),
                ("a b", true),
                ("x\"y", false),
                ("[x]", false),
                ("a:b", false),
                ("(x)", false),
                ("4294967296", false),
            ],
        };
        let mut options: Vec<(&str, bool)> = usual.iter().copied().filter(|(text, _)| fits(text)).collect();
        let run = sample::member(class).to_string().repeat(least.clamp(1, MOST_TIMES) as usize);
        if !options.iter().any(|(text, is_plain)| *is_plain && !text.is_empty()) {
            options.insert(0, (&run, true));
        }
        self.write(&options);
    }
}

/// Whether a node reads almost any character.
fn is_wide(node: &RegexNode) -> bool {
    match node {
        RegexNode::Any => true,
        RegexNode::Class(class) => class.excluded().len() <= FEW_EXCLUDED,
        _ => false,
    }
}

const FEW_EXCLUDED: usize = 4;

/// No part is written more often.
const MOST_TIMES: u32 = 64;

/// What may stand before a message; in a file the host and the program of syslog, for one.
const BEFORE: &[(&str, bool)] = &[
    ("", true),
    ("host prog[1]: ", true),
    ("INFO ", true),
    ("x: ", false),
    ("a|b|", false),
    ("a b c d: ", false),
];

/// What may stand behind an address.
const BEHIND: &[(&str, bool)] = &[
    ("", true),
    (" port 22", true),
    (", x", false),
    (":4000", false),
    (")", false),
    ("]", false),
    (".", false),
    ("\"", false),
    ("/x", false),
];

/// The line with its date in a place, and without it: in brackets that are left for it, before the rest, inside, or nowhere.
fn dated(text: &str, place: usize, date: &str) -> (String, String) {
    let empty = EMPTY.into_iter().find(|empty| text.contains(empty));
    let inside = empty.and_then(|empty| {
        let (before, after) = text.split_once(empty)?;
        let (open, close) = empty.split_at_checked(1)?;
        Some(format!("{before}{open}{DATE}{close}{after}"))
    });
    let marked = match place {
        0 | 2 if let Some(marked) = inside => marked,
        0 if text.starts_with(' ') || text.starts_with(SEPARATORS) => format!("{DATE}{text}"),
        0 => format!("{DATE} {text}"),
        2 => text.replacen("  ", &format!(" {DATE} "), 1),
        _ => text.to_owned(),
    };
    let dateless = marked.replace(DATE, "");
    (marked.replace(DATE, date), dateless)
}
