//! The programs that a filter's `_daemon` stands for.

use std::collections::BTreeSet;

use super::regex::{self, RegexNode};

/// The programs that a `_daemon` names; none if it names any.
pub(super) fn named(daemon: &str) -> Vec<String> {
    let Ok(nodes) = regex::parse(daemon) else { return Vec::new() };
    let mut names = vec![String::new()];
    if !spell(&nodes, &mut names) {
        return Vec::new();
    }
    let names = names.into_iter().map(|name| name.trim().to_owned());
    let names: BTreeSet<String> = names.filter(|name| name.chars().any(char::is_alphanumeric)).collect();
    // fail2ban lets a name be followed by something in parentheses.
    names
        .iter()
        .flat_map(|name| [name.clone(), format!("{name}(*)")])
        .filter(|name| name.matches('*').count() < 2)
        .collect()
}

/// Names that a `_daemon` stands for, and no more.
const MOST_NAMES: usize = 64;

/// Adds what the nodes stand for to each name; whether these are few.
fn spell(nodes: &[RegexNode], names: &mut Vec<String>) -> bool {
    for node in nodes {
        match node {
            RegexNode::Text(c) => names.iter_mut().for_each(|name| name.push(*c)),
            RegexNode::Group(alternatives, _) => {
                let mut all = Vec::new();
                for alternative in alternatives {
                    let mut own = names.clone();
                    if !spell(alternative, &mut own) {
                        return false;
                    }
                    all.append(&mut own);
                }
                *names = all;
            }
            RegexNode::Repeat(inner, 0, Some(1)) => {
                let mut with = names.clone();
                if !spell(std::slice::from_ref(inner), &mut with) {
                    return false;
                }
                names.append(&mut with);
            }
            RegexNode::Repeat(inner, _, None) if matches!(**inner, RegexNode::Class(class) if class.is_spaces()) =>
                {}
            RegexNode::Repeat(..) => names.iter_mut().for_each(|name| name.push('*')),
            RegexNode::Class(class) => {
                let members = class.members();
                *names = names
                    .iter()
                    .flat_map(|name| members.iter().map(move |c| format!("{name}{c}")))
                    .take(MOST_NAMES + 1)
                    .collect();
            }
            RegexNode::Edge | RegexNode::Start | RegexNode::End => {}
            RegexNode::Any | RegexNode::NotAhead(_) | RegexNode::Host | RegexNode::Header => return false,
        }
        if names.len() > MOST_NAMES {
            return false;
        }
    }
    names.iter().all(|name| name != "*")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_those_of_the_daemon() {
        assert_eq!(named("(?:wordpress|wp)"), ["wordpress", "wordpress(*)", "wp", "wp(*)"]);
        assert_eq!(named("imapd?"), ["imap", "imap(*)", "imapd", "imapd(*)"]);
        assert_eq!(named("\\S*"), [""; 0]);
        assert_eq!(named("(?:fail2ban(?:-server|\\.actions)\\s*)").len(), 4);
    }
}
