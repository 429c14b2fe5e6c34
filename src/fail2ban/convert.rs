//! Makes rules of grammars of regular expressions.

use super::class::CharacterClass;
use super::filter::FilterRegexes;
use super::padding;
use super::piece::{Hole, RuleField, RulePiece, joined, set_off};
use super::regex::{self, Alternatives, GroupRole, HEADER, Obstacle, RegexNode};
use super::sample;
use super::specimen::TextBefore;

/// What a regular expression says, as far as a rule can say it.
#[derive(Clone, Debug)]
pub(super) struct RuleDraft {
    /// The rule, without what may stand before it.
    pub(super) pieces: Vec<RulePiece>,
    /// Whether anything may stand before it.
    pub(super) is_open: bool,
    /// Whether the header of syslog stands before it, which no grammar sees.
    pub(super) has_header: bool,
    /// Whether it follows the date of a line at once.
    pub(super) follows_date: bool,
    /// Lines that it reads, with 192.0.2.1 as the address.
    pub(super) samples: Vec<String>,
    /// Where it reads more than the filter.
    pub(super) notes: Vec<String>,
    /// The regular expression, without what marks its ends.
    pub(super) nodes: Vec<RegexNode>,
    /// What may stand before that in a message.
    pub(super) before: TextBefore,
    /// Whether it ends where the line does.
    pub(super) is_closed: bool,
}

impl RuleDraft {
    /// The texts that must not follow in the regular expression.
    pub(super) fn excluded(&self) -> Vec<String> {
        let mut all = Vec::new();
        excluded(&self.nodes, &mut all);
        all
    }
}

impl RuleDraft {
    /// Whether there is text between a date and what it reads in any case.
    pub(super) fn must_follow(&self) -> bool {
        self.samples.iter().all(|line| line.starts_with(AFTER_DATE))
    }
}

/// What follows a date.
const AFTER_DATE: [char; 5] = [' ', ':', ',', '|', ';'];

/// What becomes of a regular expression.
#[derive(Clone, Debug)]
pub(super) enum RegexOutcome {
    /// A rule.
    Rule(RuleDraft),
    /// It marks lines that are not offences by themselves.
    NoFailure,
}

/// Makes a rule of one `failregex` of a filter.
///
/// # Errors
///
/// The construct that stands in the way.
pub(super) fn rule(filter: &FilterRegexes, fail: &str) -> Result<RegexOutcome, Obstacle> {
    let text = with_prefix(filter, fail);
    let marked = HEADER.to_string();
    let text = if filter.header.is_empty() { text } else { text.replace(&filter.header, &marked) };
    if text.contains("(?P=") && text.contains("<SKIPLINES>") {
        return Err("an offence that spans lines (`<SKIPLINES>`)".to_owned());
    }
    let mut nodes = regex::parse(&text)?;
    let is_set_off =
        matches!(nodes.as_slice(), [.., last, RegexNode::Edge] if regex::is_word(Some(last)) == Some(true));
    if is_set_off {
        nodes.pop();
    }
    regex::check_edges(&nodes)?;
    if any(&nodes, &|node| matches!(node, RegexNode::Group(_, GroupRole::NoFailure))) {
        return Ok(RegexOutcome::NoFailure);
    }
    if !any(&nodes, &|node| *node == RegexNode::Host) {
        return Err("the address is in another line of the same process".to_owned());
    }
    if repeats_before_host(&nodes) {
        return Err(
            "a group that repeats without an end before the address: write how often, or `\\S+`".to_owned()
        );
    }
    let has_header = any(&nodes, &|node| *node == RegexNode::Header);
    let is_anchored = begin(&mut nodes);
    let is_closed = end(&mut nodes);
    let is_any = |node: Option<&RegexNode>| matches!(node, Some(RegexNode::Repeat(inner, 0 | 1, None)) if **inner == RegexNode::Any);
    let is_open = (!is_anchored && !has_header) || is_any(nodes.first());
    let before = match (is_open, is_any(nodes.first())) {
        (true, true) => TextBefore::Some,
        (true, false) => TextBefore::Perhaps,
        (false, _) => TextBefore::None,
    };
    while is_any(nodes.first()) {
        nodes.remove(0);
    }
    let samples = [0, 1, 2].map(|variant| sample::line(&nodes, variant));
    let mut notes = Vec::new();
    widened(&nodes, &mut notes);
    padding::pad(&mut nodes, &mut notes);
    let mut pieces = pieces(&nodes)?;
    if !is_closed {
        pieces.push(if is_set_off { set_off() } else { RulePiece::field(Hole::Free) });
    }
    let pieces = joined(with_dates(pieces))?;
    let follows_date = !is_open && !has_header && samples.iter().any(|line| line.starts_with(AFTER_DATE));
    let pieces = if follows_date { pieces } else { trimmed(pieces) };
    let mut samples: Vec<String> = samples.into_iter().collect();
    samples.dedup();
    Ok(RegexOutcome::Rule(RuleDraft {
        pieces,
        is_open,
        has_header,
        follows_date,
        samples,
        notes,
        nodes,
        before,
        is_closed,
    }))
}

/// The `prefregex` with this in the place of its content.
pub(super) fn with_prefix(filter: &FilterRegexes, fail: &str) -> String {
    let content = filter.prefix.as_deref().and_then(|prefix| {
        let (before, rest) = prefix.split_once("<F-CONTENT>")?;
        let (_, after) = rest.split_once("</F-CONTENT>")?;
        Some((before, after))
    });
    let Some((before, after)) = content else { return fail.to_owned() };
    let (open, fail) = match fail.strip_prefix('^') {
        Some(fail) => ("", fail),
        None => (".*", fail),
    };
    let (fail, close) = match fail.strip_suffix('$').filter(|fail| !fail.ends_with('\\')) {
        Some(fail) => (fail, ""),
        None => (fail, ".*"),
    };
    format!("{before}{open}(?:{fail}){close}{after}")
}

fn any(nodes: &[RegexNode], is: &dyn Fn(&RegexNode) -> bool) -> bool {
    nodes.iter().any(|node| {
        is(node)
            || match node {
                RegexNode::Group(all, _) => all.iter().any(|nodes| any(nodes, is)),
                RegexNode::Repeat(inner, ..) => any(std::slice::from_ref(inner), is),
                _ => false,
            }
    })
}

/// Whether a group that would become free text stands before the address, which that text could then be.
fn repeats_before_host(nodes: &[RegexNode]) -> bool {
    let is_host = |node: &RegexNode| any(std::slice::from_ref(node), &|node| *node == RegexNode::Host);
    let is_endless = |node: &RegexNode| match node {
        RegexNode::Repeat(inner, _, most) if most.is_none_or(|most| most > MOST_REPEATED) => {
            matches!(&**inner, RegexNode::Group(all, _) if !is_tempered(all))
        }
        _ => false,
    };
    let Some(host) = nodes.iter().position(is_host) else { return false };
    let before = nodes.get(..host).unwrap_or_default();
    let inside = match nodes.get(host) {
        Some(RegexNode::Group(all, _)) => all.iter().any(|nodes| repeats_before_host(nodes)),
        _ => false,
    };
    inside || before.iter().any(|node| any(std::slice::from_ref(node), &is_endless))
}

fn excluded(nodes: &[RegexNode], all: &mut Vec<String>) {
    for node in nodes {
        match node {
            RegexNode::NotAhead(alternatives) => all.extend(literals(alternatives).unwrap_or_default()),
            RegexNode::Group(alternatives, _) => alternatives.iter().for_each(|nodes| excluded(nodes, all)),
            RegexNode::Repeat(inner, ..) => excluded(std::slice::from_ref(inner), all),
            _ => {}
        }
    }
}

/// Says which names become words.
fn widened(nodes: &[RegexNode], notes: &mut Vec<String>) {
    for node in nodes {
        match node {
            RegexNode::Group(all, _) => all.iter().for_each(|nodes| widened(nodes, notes)),
            RegexNode::Repeat(inner, least, most) => match **inner {
                RegexNode::Class(class) if class.is_names() && class.excluded().len() > MOST_EXCLUDED => {
                    let what = if class.has(' ') { "text" } else { "word" };
                    let count = match (least, most) {
                        (0, None) => "*".to_owned(),
                        (_, None) => "+".to_owned(),
                        (least, Some(most)) => format!("{{{least},{most}}}"),
                    };
                    let note =
                        format!("reads any {what} where the filter wants `{}{count}`", class.printed());
                    if !notes.contains(&note) {
                        notes.push(note);
                    }
                }
                _ => widened(std::slice::from_ref(inner), notes),
            },
            _ => {}
        }
    }
}

/// Takes what marks the beginning; whether it was marked.
pub(super) fn begin(nodes: &mut Vec<RegexNode>) -> bool {
    match nodes.first_mut() {
        Some(RegexNode::Start) => {
            nodes.remove(0);
            true
        }
        Some(RegexNode::Group(all, GroupRole::Plain)) if all.len() == 1 => {
            let inner = all.pop().unwrap_or_default();
            nodes.splice(..1, inner);
            begin(nodes)
        }
        Some(RegexNode::Group(all, _)) if all.iter().all(|one| one.first() == Some(&RegexNode::Start)) => {
            true
        }
        _ => false,
    }
}

/// Takes what marks the end, with the spaces before it; whether it was marked.
pub(super) fn end(nodes: &mut Vec<RegexNode>) -> bool {
    let is_space = |node: &RegexNode| match node {
        RegexNode::Repeat(inner, ..) => matches!(**inner, RegexNode::Class(class) if class.is_spaces()),
        RegexNode::Class(class) => class.is_spaces(),
        _ => false,
    };
    let mut is_closed = false;
    while let Some(last) = nodes.last() {
        match last {
            RegexNode::End => is_closed = true,
            RegexNode::Edge => {}
            RegexNode::Group(all, GroupRole::Plain) if all.len() == 1 => {
                let Some(RegexNode::Group(mut all, _)) = nodes.pop() else { break };
                nodes.extend(all.pop().unwrap_or_default());
                continue;
            }
            last if is_closed && is_space(last) => {}
            _ => break,
        }
        nodes.pop();
    }
    is_closed
}

fn pieces(nodes: &[RegexNode]) -> Result<Vec<RulePiece>, Obstacle> {
    let mut all = Vec::new();
    let mut ahead: Vec<String> = Vec::new();
    for node in nodes {
        let piece = match node {
            RegexNode::Start | RegexNode::End | RegexNode::Edge | RegexNode::Header => continue,
            RegexNode::NotAhead(alternatives) => {
                ahead.extend(literals(alternatives)?);
                continue;
            }
            RegexNode::Text(c) => vec![RulePiece::Text(c.to_string())],
            RegexNode::Any => {
                return Err("`.` for any one character; write `\\.` if it is a full stop".to_owned());
            }
            RegexNode::Class(class) => vec![one_of(*class)?],
            RegexNode::Host => vec![RulePiece::field(Hole::Ip)],
            RegexNode::Group(alternatives, role) => group(alternatives, *role)?,
            RegexNode::Repeat(inner, least, most) => repeated(inner, *least, *most)?,
        };
        if !ahead.is_empty() {
            let mut piece = piece;
            let Some(RulePiece::Field(field)) = piece.first_mut() else {
                return Err(format!("a negative look-ahead `(?!{})` before text", ahead.join("|")));
            };
            // What it excludes must be able to stand in the field alone.
            let fits = |text: &String| match &field.hole {
                Hole::Free => true,
                Hole::Without(characters) => !text.contains(characters.as_slice()),
                _ => !text.contains(char::is_whitespace),
            };
            if let Some(text) = ahead.iter().find(|text| !fits(text)) {
                return Err(format!("a negative look-ahead `(?!{text})` of more than what varies behind it"));
            }
            field.not_starting.append(&mut ahead);
            all.extend(piece);
            continue;
        }
        all.extend(piece);
    }
    match ahead.is_empty() {
        true => Ok(addresses(all)),
        false => Err(format!("a negative look-ahead `(?!{})` at the end", ahead.join("|"))),
    }
}

/// The texts that a look-ahead excludes.
pub(super) fn literals(alternatives: &Alternatives) -> Result<Vec<String>, Obstacle> {
    let text = |nodes: &Vec<RegexNode>| {
        let text: Option<String> = nodes
            .iter()
            .filter(|node| **node != RegexNode::Edge)
            .map(|node| if let RegexNode::Text(c) = node { Some(*c) } else { None })
            .collect();
        text.filter(|text| !text.trim().is_empty() && !text.contains('"'))
    };
    let texts: Option<Vec<String>> = alternatives.iter().map(text).collect();
    texts.ok_or_else(|| "a negative look-ahead `(?!…)` of more than words".to_owned())
}

fn group(alternatives: &Alternatives, role: GroupRole) -> Result<Vec<RulePiece>, Obstacle> {
    let mut options = alternatives.iter().map(|nodes| pieces(nodes)).collect::<Result<Vec<_>, _>>()?;
    if let ([_], GroupRole::Plain) = (options.as_slice(), role) {
        return Ok(options.pop().unwrap_or_default());
    }
    let mut choice = joined(vec![RulePiece::Choice(options, false)])?;
    if let ([RulePiece::Field(field)], GroupRole::User) = (choice.as_mut_slice(), role) {
        field.is_user = true;
    }
    Ok(choice)
}

/// A character of a class.
fn one_of(class: CharacterClass) -> Result<RulePiece, Obstacle> {
    let members = class.members();
    Ok(match () {
        () if class.is_spaces() => RulePiece::text(" "),
        () if class == CharacterClass::digits() => RulePiece::field(Hole::Num),
        () if members.len() <= MOST_MEMBERS && !class.excluded().is_empty() => {
            RulePiece::Choice(members.iter().map(|c| vec![RulePiece::Text(c.to_string())]).collect(), false)
        }
        () if class.excluded() == [' '] => RulePiece::field(Hole::Word),
        () => return Err(class.refused()),
    })
}

/// So many characters of a class become alternatives, and no more.
const MOST_MEMBERS: usize = 10;
/// Characters that a field can be said to lack, and no more.
const MOST_EXCLUDED: usize = 8;

fn repeated(inner: &RegexNode, least: u32, most: Option<u32>) -> Result<Vec<RulePiece>, Obstacle> {
    let many = most.is_none_or(|most| most > 1);
    let optional = |piece: RulePiece| if least == 0 { RulePiece::optional(vec![piece]) } else { piece };
    Ok(vec![match inner {
        RegexNode::Any if many => RulePiece::field(Hole::Free),
        RegexNode::Class(class) if class.is_spaces() => optional(RulePiece::text(" ")),
        RegexNode::Class(class) if many => {
            let excluded = class.excluded();
            match () {
                () if *class == CharacterClass::digits() => optional(RulePiece::field(Hole::Num)),
                () if excluded.is_empty() => RulePiece::field(Hole::Free),
                () if excluded == [' '] && least > 0 => RulePiece::field(Hole::Word),
                () if excluded.len() <= MOST_EXCLUDED => RulePiece::field(Hole::Without(excluded)),
                () if !class.is_names() => return Err(class.refused()),
                () if class.has(' ') => RulePiece::field(Hole::Free),
                () => optional(RulePiece::field(Hole::Word)),
            }
        }
        RegexNode::Text(' ') if many => optional(RulePiece::text(" ")),
        RegexNode::Text(c) if many => return Err(format!("a repeated `{c}`")),
        RegexNode::Group(alternatives, _) if many && is_tempered(alternatives) => {
            let mut field = RuleField::new(Hole::Free);
            if let Some([RegexNode::NotAhead(texts), ..]) = alternatives.first().map(Vec::as_slice) {
                field.without = literals(texts)?;
            }
            RulePiece::Field(field)
        }
        RegexNode::Group(alternatives, role) if most.is_none() => {
            // What must not begin a repetition is what follows the last one.
            let begins = |nodes: &Vec<RegexNode>| {
                nodes.iter().skip_while(|node| matches!(node, RegexNode::NotAhead(_))).cloned().collect()
            };
            let alternatives = alternatives.iter().map(begins).collect();
            return several(group(&alternatives, *role)?, least, most);
        }
        inner => return several(pieces(std::slice::from_ref(inner))?, least, most),
    }])
}

/// Repeated more often than this, it is free text.
const MOST_REPEATED: u32 = 3;

/// Pieces so many times.
fn several(inner: Vec<RulePiece>, least: u32, most: Option<u32>) -> Result<Vec<RulePiece>, Obstacle> {
    let most = match most {
        Some(most) if most <= MOST_REPEATED => most,
        _ if inner.iter().any(RulePiece::has_address) => return Err("a repeated address".to_owned()),
        // What ends each repetition ends the last one.
        _ => {
            let end = inner
                .last()
                .and_then(|last| if let RulePiece::Text(text) = last { text.chars().last() } else { None });
            let free = RulePiece::field(Hole::Free);
            return Ok(match end {
                None => vec![free],
                Some(end) if least > 0 => vec![free, RulePiece::Text(end.to_string())],
                Some(end) => vec![RulePiece::optional(vec![free, RulePiece::Text(end.to_string())])],
            });
        }
    };
    let mut tail: Vec<RulePiece> = Vec::new();
    for _ in least..most {
        let mut next = inner.clone();
        next.append(&mut tail);
        tail = vec![RulePiece::optional(next)];
    }
    let mut all: Vec<RulePiece> = (0..least).flat_map(|_| inner.clone()).collect();
    all.append(&mut tail);
    Ok(all)
}

/// `(?:(?!text).)*`: free text that does not hold another.
fn is_tempered(alternatives: &Alternatives) -> bool {
    matches!(alternatives.as_slice(), [one] if matches!(one.as_slice(), [RegexNode::NotAhead(_), RegexNode::Any]))
}

/// Gives addresses with brackets or ports their fields.
fn addresses(pieces: Vec<RulePiece>) -> Vec<RulePiece> {
    let ip = || RulePiece::field(Hole::Ip);
    let maybe = |text: &str| RulePiece::optional(vec![RulePiece::text(text)]);
    let mut all: Vec<RulePiece> = Vec::new();
    for piece in pieces {
        let bracketed = piece == maybe("]") && all.ends_with(&[maybe("["), ip()]);
        let port = [RulePiece::text(":"), RulePiece::field(Hole::Num)];
        if bracketed {
            all.truncate(all.len() - 2);
            let inside = vec![RulePiece::text("["), ip(), RulePiece::text("]")];
            all.push(RulePiece::Choice(vec![vec![ip()], inside], false));
        } else if all.last() == Some(&ip()) && piece == RulePiece::optional(port.to_vec()) {
            all.pop();
            all.push(RulePiece::field(Hole::Peer));
        } else if all.ends_with(&[ip(), RulePiece::text(":")]) && piece == RulePiece::field(Hole::Num) {
            all.truncate(all.len() - 2);
            all.push(RulePiece::field(Hole::Peer));
        } else {
            all.push(piece);
        }
    }
    all
}

/// fail2ban takes the date out of a line before it reads it, and leaves the brackets around it.
fn with_dates(pieces: Vec<RulePiece>) -> Vec<RulePiece> {
    let mut all: Vec<RulePiece> = Vec::new();
    for piece in pieces {
        let close = piece == RulePiece::text("]");
        if close && all.last() == Some(&RulePiece::text("[")) {
            let is_first = all.len() == 1;
            all.push(RulePiece::field(if is_first { Hole::Time } else { Hole::Without(vec![']']) }));
        }
        all.push(piece);
    }
    all
}

/// Without spaces at either end.
fn trimmed(mut pieces: Vec<RulePiece>) -> Vec<RulePiece> {
    let is_space = |piece: &RulePiece| match piece {
        RulePiece::Text(text) => text.trim().is_empty(),
        RulePiece::Choice(options, true) => options
            .iter()
            .flatten()
            .all(|piece| matches!(piece, RulePiece::Text(text) if text.trim().is_empty())),
        _ => false,
    };
    while pieces.first().is_some_and(is_space) {
        pieces.remove(0);
    }
    while pieces.last().is_some_and(is_space) {
        pieces.pop();
    }
    if let Some(RulePiece::Text(text)) = pieces.first_mut() {
        *text = text.trim_start().to_owned();
    }
    if let Some(RulePiece::Text(text)) = pieces.last_mut() {
        *text = text.trim_end().to_owned();
    }
    pieces
}
