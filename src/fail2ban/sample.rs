//! Lines that a regular expression reads, to try the rule that was made of it.

use super::class::CharacterClass;
use super::regex::RegexNode;

/// The address in them.
pub(super) const SAMPLE: &str = "192.0.2.1";

/// A line that the nodes read, without a date.
pub(super) fn line(nodes: &[RegexNode], variant: usize) -> String {
    let mut line = String::new();
    fill(nodes, variant, &mut line);
    let line = line.trim_end();
    match line.trim_start().strip_prefix("[]") {
        Some(rest) => format!("[Sun Nov 22 05:40:38 2026]{}", rest.replace("[]", "[x]")),
        None => line.replace("[]", "[x]"),
    }
}

/// The first sample has as little as it can, the others more and other alternatives.
fn fill(nodes: &[RegexNode], variant: usize, line: &mut String) {
    for node in nodes {
        match node {
            RegexNode::Text(c) => line.push(*c),
            RegexNode::Any => line.push('x'),
            RegexNode::Class(class) => line.push(member(*class)),
            RegexNode::Host => *line += SAMPLE,
            RegexNode::Group(all, _) => {
                let chosen = all.get(variant % all.len().max(1));
                chosen.into_iter().for_each(|nodes| fill(nodes, variant, line));
            }
            RegexNode::Repeat(inner, least, most) => {
                let wanted = if variant == 0 { *least } else { (*least).max(1) };
                for _ in 0..most.map_or(wanted, |most| wanted.min(most)) {
                    match **inner {
                        RegexNode::Any => *line += "a b",
                        _ => fill(std::slice::from_ref(inner), variant, line),
                    }
                }
            }
            RegexNode::Start
            | RegexNode::End
            | RegexNode::Edge
            | RegexNode::NotAhead(_)
            | RegexNode::Header => {}
        }
    }
}

/// A character of a class, a usual one if it has one.
pub(super) fn member(class: CharacterClass) -> char {
    let likely = ['a', '7', 'e', 'k', 'A', '1', ' '];
    likely.into_iter().find(|c| class.has(*c)).or_else(|| class.members().first().copied()).unwrap_or('x')
}
