//! Spaces of any number, such as those with which servers align what they log: a rule has them one by one.

use super::regex::{GroupRole, RegexNode};

/// So many spaces at most: `INFO` and four more up to the width of `CRITICAL`, and one.
const MOST_SPACES: usize = 5;

/// So many places of a regular expression with any number of spaces, since each multiplies what the proof looks at.
const MOST_PLACES: usize = 2;

/// Writes repeated spaces out, or notes that only one of them is read.
pub(super) fn pad(nodes: &mut [RegexNode], notes: &mut Vec<String>) {
    // At the beginning they follow a date or nothing.
    let nodes = nodes.split_first_mut().map_or(&mut [][..], |(_, rest)| rest);
    match places(nodes) {
        0 => {}
        1..=MOST_PLACES => write_out(nodes),
        _ => notes.push("reads one space where the filter wants any number of them (`\\s+`)".to_owned()),
    }
}

/// Whether it is any number of spaces, and from which on.
fn spaces(node: &RegexNode) -> Option<usize> {
    let RegexNode::Repeat(inner, least, None) = node else { return None };
    let is_space = match **inner {
        RegexNode::Class(class) => class.is_spaces(),
        RegexNode::Text(c) => c == ' ',
        _ => false,
    };
    is_space.then_some(*least as usize)
}

fn places(nodes: &[RegexNode]) -> usize {
    let of = |node: &RegexNode| match node {
        node if spaces(node).is_some() => 1,
        RegexNode::Group(all, _) => all.iter().map(|nodes| places(nodes)).sum(),
        RegexNode::Repeat(inner, ..) => places(std::slice::from_ref(inner)),
        _ => 0,
    };
    nodes.iter().map(of).sum()
}

fn write_out(nodes: &mut [RegexNode]) {
    for node in nodes {
        if let Some(least) = spaces(node) {
            let all = (least..=MOST_SPACES.max(least)).map(|times| vec![RegexNode::Text(' '); times]);
            *node = RegexNode::Group(all.collect(), GroupRole::Plain);
            continue;
        }
        match node {
            RegexNode::Group(all, _) => all.iter_mut().for_each(|nodes| write_out(nodes)),
            RegexNode::Repeat(inner, ..) => write_out(std::slice::from_mut(inner)),
            _ => {}
        }
    }
}
