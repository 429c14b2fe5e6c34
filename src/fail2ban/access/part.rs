//! Cuts a regular expression into texts, quotes and gaps.

use super::super::class::CharacterClass;
use super::super::regex::{self, Alternatives, Obstacle, RegexNode};
use super::{MOST, crossed, too_many};

/// A part of a regular expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RegexPart {
    Host,
    Quote,
    /// One of these texts, without a quote.
    Text(Vec<String>),
    Digits,
    /// Text that varies; whether it can hold quotes and spaces.
    Gap(bool),
    /// Text of these characters only.
    Narrow(CharacterClass),
    /// None of these follows; whether anywhere or at once.
    Not(Vec<String>, bool),
    End,
}

/// A regular expression for an access log, with each full stop that is meant as one.
pub(super) fn parsed(text: &str) -> Result<Vec<RegexNode>, Obstacle> {
    // Conditions ignore case.
    let mut nodes = regex::parse(text.strip_prefix("(?i)").unwrap_or(text))?;
    mean_full_stops(&mut nodes);
    Ok(nodes)
}

/// Whether a `.` is taken for a full stop, which its author may not have meant.
pub(super) fn has_full_stop(text: &str) -> bool {
    let before = regex::parse(text.strip_prefix("(?i)").unwrap_or(text));
    before.is_ok_and(|before| {
        let mut after = before.clone();
        mean_full_stops(&mut after);
        before != after
    })
}

/// In `wp-login.php` and `/.env` a full stop is meant, not any character.
fn mean_full_stops(nodes: &mut [RegexNode]) {
    let is_part =
        |node: Option<&RegexNode>| matches!(node, Some(RegexNode::Text(c)) if c.is_ascii_alphanumeric());
    for at in 0..nodes.len() {
        let (before, after) = (at.checked_sub(1).and_then(|at| nodes.get(at)), nodes.get(at + 1));
        let begins = matches!(before, None | Some(RegexNode::Text('/'))) || is_part(before);
        let is_meant = begins && is_part(after);
        match nodes.get_mut(at) {
            Some(node @ RegexNode::Any) if is_meant => *node = RegexNode::Text('.'),
            Some(RegexNode::Group(all, _)) => all.iter_mut().for_each(|nodes| mean_full_stops(nodes)),
            Some(RegexNode::Repeat(inner, ..)) => {
                if let RegexNode::Group(all, _) = &mut **inner {
                    all.iter_mut().for_each(|nodes| mean_full_stops(nodes));
                }
            }
            _ => {}
        }
    }
}

/// The ways to read a regular expression, each without alternatives but those of texts.
pub(super) fn read(text: &str) -> Result<Vec<Vec<RegexPart>>, Obstacle> {
    let nodes = parsed(text)?;
    regex::check_edges(&nodes)?;
    let mut ways = ways(&nodes)?;
    // It may begin anywhere.
    let gap = (nodes.first() != Some(&RegexNode::Start)).then_some(RegexPart::Gap(true));
    ways.iter_mut().for_each(|way| *way = joined(gap.iter().cloned().chain(std::mem::take(way)).collect()));
    Ok(ways)
}

fn ways(nodes: &[RegexNode]) -> Result<Vec<Vec<RegexPart>>, Obstacle> {
    let mut all: Vec<Vec<RegexPart>> = vec![Vec::new()];
    for node in nodes {
        let next = node_ways(node)?;
        if all.len() * next.len() > MOST {
            return Err(too_many());
        }
        all = all.iter().flat_map(|way| next.iter().map(move |next| [&**way, &**next].concat())).collect();
    }
    Ok(all)
}

fn node_ways(node: &RegexNode) -> Result<Vec<Vec<RegexPart>>, Obstacle> {
    let one = |part| Ok(vec![vec![part]]);
    match node {
        RegexNode::Start | RegexNode::Edge | RegexNode::Header => Ok(vec![Vec::new()]),
        RegexNode::End => one(RegexPart::End),
        RegexNode::Host => one(RegexPart::Host),
        RegexNode::Text(c) => one(character(*c)),
        RegexNode::Any => one(RegexPart::Gap(false)),
        RegexNode::Class(class) => Ok(vec![class_part(*class)]),
        RegexNode::NotAhead(alternatives) => not_ahead(alternatives).map(|part| vec![vec![part]]),
        RegexNode::Group(alternatives, _) => {
            let all: Vec<Vec<RegexPart>> =
                alternatives.iter().map(|nodes| ways(nodes)).collect::<Result<Vec<_>, _>>()?.concat();
            // A list of words is one comparison.
            let (mut texts, mut others) = (Vec::new(), Vec::new());
            for way in all {
                match joined(way).as_slice() {
                    [RegexPart::Text(words)] => texts.extend(words.iter().cloned()),
                    way => others.push(way.to_vec()),
                }
            }
            if !texts.is_empty() {
                others.insert(0, vec![RegexPart::Text(texts)]);
            }
            Ok(others)
        }
        RegexNode::Repeat(inner, least, most) => {
            let gap = |crosses: bool| Ok(vec![vec![RegexPart::Gap(crosses)]]);
            match (&**inner, *least, *most) {
                (RegexNode::Any, _, most) => gap(most.is_none_or(|most| most > FEW)),
                (RegexNode::Class(class), least, _)
                    if class.is_spaces() || *class == CharacterClass::digits() =>
                {
                    let mut ways = vec![class_part(*class)];
                    if least == 0 {
                        ways.push(Vec::new());
                    }
                    Ok(ways)
                }
                (RegexNode::Class(class), ..) => one(varying(*class)),
                (RegexNode::Text(' '), 1.., _) => one(character(' ')),
                (inner, 0, Some(1)) => {
                    let mut ways = ways(std::slice::from_ref(inner))?;
                    ways.push(Vec::new());
                    Ok(ways)
                }
                (inner, 1, Some(1)) => ways(std::slice::from_ref(inner)),
                (inner, ..) => {
                    let inner = ways(std::slice::from_ref(inner))?.concat();
                    if inner.contains(&RegexPart::Host) {
                        return Err("a repeated address".to_owned());
                    }
                    if inner.iter().any(|part| !matches!(part, RegexPart::Gap(_))) {
                        return Err(
                            "a repeated group, of which only its end or its beginning matters".to_owned()
                        );
                    }
                    gap(inner.contains(&RegexPart::Gap(true)))
                }
            }
        }
    }
}

/// So many characters of any kind end no field.
const FEW: u32 = 3;

/// Text of a class: free if it lacks no more than quotes and spaces.
fn varying(class: CharacterClass) -> RegexPart {
    match class.excluded().iter().all(|c| "\" ".contains(*c)) {
        true => RegexPart::Gap(class.has('"') && class.has(' ')),
        false => RegexPart::Narrow(class),
    }
}

fn character(c: char) -> RegexPart {
    if c == '"' { RegexPart::Quote } else { RegexPart::Text(vec![c.to_string()]) }
}

fn class_part(class: CharacterClass) -> Vec<RegexPart> {
    let members = class.members();
    vec![match () {
        () if class.is_spaces() => character(' '),
        () if class == CharacterClass::digits() => RegexPart::Digits,
        () if members.len() <= 10 && !class.has('"') => {
            RegexPart::Text(members.iter().map(char::to_string).collect())
        }
        () => varying(class),
    }]
}

fn not_ahead(alternatives: &Alternatives) -> Result<RegexPart, Obstacle> {
    let refused = || "a negative look-ahead `(?!…)` of more than words".to_owned();
    let mut kinds = Vec::new();
    let mut words = Vec::new();
    for way in alternatives.iter().map(|nodes| ways(nodes)).collect::<Result<Vec<_>, _>>()?.concat() {
        let way = joined(way);
        let (is_anywhere, rest) = match way.as_slice() {
            [RegexPart::Gap(_), rest @ ..] => (true, rest),
            rest => (false, rest),
        };
        let [RegexPart::Text(texts)] = rest else { return Err(refused()) };
        words.extend(texts.iter().cloned());
        kinds.push(is_anywhere);
    }
    let is_anywhere = kinds.iter().all(|kind| *kind);
    if words.is_empty() || !is_anywhere && kinds.contains(&true) {
        Err(refused())
    } else {
        Ok(RegexPart::Not(words, is_anywhere))
    }
}

/// Texts side by side are one, as are gaps.
fn joined(parts: Vec<RegexPart>) -> Vec<RegexPart> {
    let mut all: Vec<RegexPart> = Vec::new();
    for part in parts {
        match (all.last_mut(), &part) {
            (Some(RegexPart::Text(before)), RegexPart::Text(after))
                if let Ok(both) = crossed(before, after) =>
            {
                *before = both;
            }
            (Some(RegexPart::Gap(before)), RegexPart::Gap(after)) => *before |= after,
            _ => all.push(part),
        }
    }
    all
}
