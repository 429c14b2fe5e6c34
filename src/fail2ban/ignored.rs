//! Conditions for an `ignoreregex`: the rule itself must read no line that holds an ignored text.

use super::convert::{RuleDraft, begin, end, literals};
use super::piece::{Hole, RuleField, RulePiece, joined};
use super::regex::{self, Obstacle, RegexNode};
use super::sample::SAMPLE;

/// The text that an `ignoreregex` looks for, if it is nothing else.
///
/// # Errors
///
/// It is more than a text.
pub(super) fn ignored_text(regex: &str) -> Result<String, Obstacle> {
    let refused = || format!("an `ignoreregex` that is more than a text: `{regex}`");
    let mut nodes = regex::parse(regex).map_err(|_| refused())?;
    let is_free = |node: Option<&RegexNode>| matches!(node, Some(RegexNode::Repeat(inner, 0, None)) if **inner == RegexNode::Any);
    let (is_anchored, is_closed) = (begin(&mut nodes), end(&mut nodes));
    if is_anchored && !is_free(nodes.first()) || is_closed && !is_free(nodes.last()) {
        return Err(refused());
    }
    while is_free(nodes.first()) {
        nodes.remove(0);
    }
    while is_free(nodes.last()) {
        nodes.pop();
    }
    literals(&vec![nodes]).ok().and_then(|mut texts| texts.pop()).ok_or_else(refused)
}

/// So many ways through a rule, and no more.
const MOST: usize = 256;

/// Makes the rule read no line that holds one of these texts; lines with them, to try it.
///
/// # Errors
///
/// No condition can say it: the text can lie across the borders of a field, or in what is not free text.
pub(super) fn exclude(draft: &mut RuleDraft, texts: &[String]) -> Result<Vec<String>, Obstacle> {
    if texts.is_empty() {
        return Ok(Vec::new());
    }
    let unsaid = |text: &str| format!("an `ignoreregex` that no condition says: `{text}`");
    // An address or a number stands in no text.
    let is_number = |text: &&String| text.chars().all(|c| c.is_ascii_hexdigit() || ".:/".contains(c));
    if let Some(text) = texts.iter().find(is_number) {
        return Err(unsaid(text));
    }
    // What may stand before the rule must not hold it either.
    if std::mem::take(&mut draft.is_open) {
        draft.pieces.insert(0, RulePiece::field(Hole::Free));
        draft.pieces = joined(std::mem::take(&mut draft.pieces))?;
    }
    let mut leaves = Vec::new();
    let ways = ways(&draft.pieces, &mut leaves).filter(|ways| ways.len() <= MOST);
    let ways = ways.ok_or_else(|| format!("an `ignoreregex` and more than {MOST} alternatives"))?;
    let mut starts = vec![Vec::new(); leaves.len()];
    let mut lines = Vec::new();
    for text in texts {
        let sought: Vec<char> = text.chars().collect();
        let mut is_somewhere = false;
        for way in &ways {
            let way: Vec<(usize, &RulePiece)> =
                way.iter().filter_map(|at| leaves.get(*at).map(|leaf| (*at, leaf))).collect();
            let walk = TextSearch { way: &way, sought: &sought };
            for (at, rest) in walk.cuts().ok_or_else(|| unsaid(text))? {
                if let (Some(starts), Some((_, leaf))) =
                    (way.get(at).and_then(|(leaf, _)| starts.get_mut(*leaf)), way.get(at))
                {
                    let rest: String = rest.iter().collect();
                    lines.push(line(&way, at, &rest));
                    if !starts.contains(&rest) {
                        starts.push(rest);
                    }
                    is_somewhere |= is_text(leaf);
                }
            }
            for at in (0..way.len()).filter(|at| walk.is_within(*at)) {
                is_somewhere = true;
                lines.push(line(&way, at, text));
            }
        }
        if !is_somewhere {
            return Err(unsaid(text));
        }
    }
    mark(&mut draft.pieces, texts, &mut starts.into_iter());
    lines.truncate(MOST);
    Ok(lines)
}

/// Whether it varies, and a condition can say what it must not hold.
fn is_text(piece: &RulePiece) -> bool {
    matches!(piece, RulePiece::Field(RuleField { hole: Hole::Free | Hole::Word | Hole::Without(_), .. }))
}

/// The ways through pieces, each a list of leaves by their places in the list of all; `None` if they are too many.
fn ways(pieces: &[RulePiece], leaves: &mut Vec<RulePiece>) -> Option<Vec<Vec<usize>>> {
    let mut all: Vec<Vec<usize>> = vec![Vec::new()];
    for piece in pieces {
        let next = match piece {
            RulePiece::Choice(options, optional) => {
                let mut next = if *optional { vec![Vec::new()] } else { Vec::new() };
                for option in options {
                    next.extend(ways(option, leaves)?);
                }
                next
            }
            leaf => {
                leaves.push(leaf.clone());
                vec![vec![leaves.len() - 1]]
            }
        };
        if all.len() * next.len() > MOST {
            return None;
        }
        all = all.iter().flat_map(|way| next.iter().map(move |next| [&**way, &**next].concat())).collect();
    }
    Some(all)
}

/// Gives the fields their conditions, in the order of the leaves.
fn mark(pieces: &mut [RulePiece], texts: &[String], starts: &mut impl Iterator<Item = Vec<String>>) {
    for piece in pieces {
        if let RulePiece::Choice(options, _) = piece {
            options.iter_mut().for_each(|option| mark(option, texts, &mut *starts));
            continue;
        }
        let starts = starts.next().unwrap_or_default();
        if is_text(piece)
            && let RulePiece::Field(field) = piece
        {
            field.without.extend_from_slice(texts);
            field.not_starting.extend(starts);
        }
    }
}

/// A line of this way, with this text in one of its fields.
fn line(way: &[(usize, &RulePiece)], place: usize, text: &str) -> String {
    let mut line = String::new();
    for (at, (_, leaf)) in way.iter().enumerate() {
        line += match leaf {
            _ if at == place => text,
            RulePiece::Text(text) => text,
            RulePiece::Field(field) => match field.hole {
                Hole::Ip | Hole::Peer => SAMPLE,
                Hole::Num => "1",
                Hole::Time => "Sun Nov 22 05:40:38 2026",
                _ => "x",
            },
            RulePiece::Choice(..) => "",
        };
    }
    line
}

/// Where a text can lie in the lines that a way through a rule reads.
struct TextSearch<'t> {
    way: &'t [(usize, &'t RulePiece)],
    sought: &'t [char],
}

impl<'t> TextSearch<'t> {
    /// Whether it can lie in this field alone.
    fn is_within(&self, at: usize) -> bool {
        self.way.get(at).is_some_and(|(_, leaf)| is_text(leaf) && takes_all(leaf, self.sought))
    }

    /// The fields behind a text with which it can begin, and how they must not start then; `None` if it can lie where no
    /// condition finds it.
    fn cuts(&self) -> Option<Vec<(usize, &'t [char])>> {
        let mut cuts = Vec::new();
        // Before the rule stands a space, or nothing.
        for (nth, _) in self.sought.iter().enumerate().filter(|(_, c)| c.is_whitespace()) {
            let rest = self.sought.get(nth + 1..).unwrap_or_default();
            if !rest.is_empty() && !self.ends_from(0, rest).is_empty() {
                return None;
            }
        }
        for (at, (_, leaf)) in self.way.iter().enumerate() {
            if let RulePiece::Text(text) = leaf {
                let text: Vec<char> = text.chars().collect();
                for offset in 0..text.len() {
                    let tail = text.get(offset..).unwrap_or_default();
                    if tail.starts_with(self.sought) {
                        return None;
                    }
                    let Some(rest) = self.sought.strip_prefix(tail) else { continue };
                    for end in self.ends_from(at + 1, rest) {
                        let is_next =
                            end == at + 1 && self.way.get(end).is_some_and(|(_, leaf)| is_text(leaf));
                        if !is_next {
                            return None;
                        }
                        cuts.push((end, rest));
                    }
                }
                continue;
            }
            if !is_text(leaf) && takes_all(leaf, self.sought) {
                return None;
            }
            for taken in 1..self.sought.len() {
                let (head, rest) = self.sought.split_at_checked(taken)?;
                if takes_all(leaf, head) && !self.ends_from(at + 1, rest).is_empty() {
                    return None;
                }
            }
        }
        Some(cuts)
    }

    /// Where it can end if this is what is left of it at the beginning of a leaf; the length of the way for behind it.
    fn ends_from(&self, first: usize, rest: &[char]) -> Vec<usize> {
        let mut reached = vec![false; rest.len() + 1];
        if let Some(reached) = reached.first_mut() {
            *reached = true;
        }
        let mut ends = Vec::new();
        for (at, (_, leaf)) in self.way.iter().enumerate().skip(first) {
            let mut next = vec![false; rest.len() + 1];
            for from in (0..rest.len()).filter(|from| reached.get(*from) == Some(&true)) {
                let left = rest.get(from..).unwrap_or_default();
                if let RulePiece::Text(text) = leaf {
                    let text: Vec<char> = text.chars().collect();
                    if text.starts_with(left) {
                        ends.push(at);
                    } else if left.starts_with(&text) {
                        next.get_mut(from + text.len()).into_iter().for_each(|next| *next = true);
                    }
                    continue;
                }
                let most = (1..=left.len())
                    .take_while(|most| left.get(..*most).is_some_and(|head| takes_all(leaf, head)));
                for taken in most.chain(can_be_empty(leaf).then_some(0)) {
                    match taken == left.len() {
                        true => ends.push(at),
                        false => next.get_mut(from + taken).into_iter().for_each(|next| *next = true),
                    }
                }
            }
            reached = next;
        }
        // Behind the rule stands a space, or nothing.
        if (0..rest.len())
            .any(|from| reached.get(from) == Some(&true) && rest.get(from).is_some_and(|c| c.is_whitespace()))
        {
            ends.push(self.way.len());
        }
        ends
    }
}

/// fail2ban takes dates out of a line before it looks for an `ignoreregex`.
fn can_be_empty(leaf: &RulePiece) -> bool {
    matches!(leaf, RulePiece::Field(RuleField { hole: Hole::Free | Hole::Without(_) | Hole::Time, .. }))
}

/// Whether all of these can be in a field.
fn takes_all(leaf: &RulePiece, text: &[char]) -> bool {
    let RulePiece::Field(field) = leaf else { return false };
    text.iter().all(|c| match &field.hole {
        Hole::Free => true,
        Hole::Word => !c.is_whitespace(),
        Hole::Without(characters) => !characters.contains(c),
        Hole::Num => c.is_ascii_digit(),
        Hole::Ip | Hole::Peer => c.is_ascii_hexdigit() || ".:/[]".contains(*c),
        Hole::Time => false,
    })
}

#[cfg(test)]
mod tests {
    use super::super::filter::FilterRegexes;
    use super::super::library::{self, LineOrigin};
    use crate::grammar::{Grammar, Lists};

    /// What becomes of a filter: the conditions of its rule, or why there is none.
    #[track_caller]
    fn becomes(fail: &str, ignore: &str, spared: &[&str]) -> String {
        let filter = FilterRegexes {
            fail: vec![fail.to_owned()],
            ignore: vec![ignore.to_owned()],
            ..FilterRegexes::default()
        };
        let origin = LineOrigin { programs: vec!["x".to_owned()], ..LineOrigin::default() };
        let made = library::grammar("x", &filter, &origin, &Lists::shipped(), &|_| Ok(()));
        let Some(condition) = made.text.lines().find(|line| line.contains(" not \"")) else {
            return made.refused.iter().map(|one| one.why.as_str()).collect();
        };
        let (grammar, _) = Grammar::load("x", "x", &made.text, &Lists::shipped()).unwrap();
        for line in spared {
            assert!(grammar.read(line.as_bytes()).is_none_or(|found| found.address().is_none()), "{line}");
        }
        condition.trim().to_owned()
    }

    #[test]
    fn what_is_ignored_is_decided_by_the_rule() {
        let fail = r"^login failed user=\S+ from <HOST>$";
        let spared = "login failed user=monitor from 192.0.2.1";
        assert_eq!(becomes(fail, "monitor", &[spared]), r#"x1 has not "monitor""#);
        let cut = r#"x1 starts not "monitor" and x1 has not "user=monitor""#;
        assert_eq!(becomes(fail, "user=monitor", &[spared]), cut);
        assert_eq!(becomes(fail, "^.*monitor.*$", &[spared]), r#"x1 has not "monitor""#);
        let open = r"login failed user=\S+ by <HOST>$";
        let spared = ["monitor: login failed user=x by 192.0.2.1", "login failed user=monitor by 192.0.2.1"];
        assert_eq!(becomes(open, "monitor", &spared), r#"x1 has not "monitor" and x2 has not "monitor""#);
    }

    #[test]
    fn what_no_condition_says_is_refused() {
        let fail = r"^login failed user=\S+ from <HOST> client \d+\.(?: \S+)?$";
        for ignored in [
            r"from 10\.",
            r"client 10\.",
            "login failed",
            "monitor from",
            "user=monitor from",
            "r from",
            "10",
            "=x from",
            " login",
            "nowhere on earth",
        ] {
            let why = becomes(fail, ignored, &[]);
            assert!(why.starts_with("an `ignoreregex` that no condition says: "), "{ignored}: {why}");
        }
        for ignored in ["^monitor", "monitor$", "a.*b", "a|b", r"\d"] {
            let why = becomes(fail, ignored, &[]);
            assert!(why.starts_with("an `ignoreregex` that is more than a text: "), "{ignored}: {why}");
        }
    }
}
