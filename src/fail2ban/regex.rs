//! Parses the regular expressions of fail2ban's filters: Python's, with fail2ban's tags. It runs none.

use super::class::CharacterClass;

/// Stands for the header of syslog, which neither the journal nor rsyslog gives to a grammar.
pub(super) const HEADER: char = '\u{e000}';

/// One part of a regular expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RegexNode {
    /// This character.
    Text(char),
    /// Any character.
    Any,
    /// One of these.
    Class(CharacterClass),
    /// One of these alternatives.
    Group(Alternatives, GroupRole),
    /// The node, so many times; without an end if the second is `None`.
    Repeat(Box<RegexNode>, u32, Option<u32>),
    /// The beginning of the line.
    Start,
    /// Its end.
    End,
    /// The edge of a word.
    Edge,
    /// What must not follow.
    NotAhead(Alternatives),
    /// The offender's address.
    Host,
    /// The header of syslog.
    Header,
}

/// Alternatives, each a sequence of nodes.
pub(super) type Alternatives = Vec<Vec<RegexNode>>;

/// What a group is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GroupRole {
    /// To hold its alternatives together.
    Plain,
    /// It is the name of a user.
    User,
    /// Lines with it are not offences by themselves.
    NoFailure,
}

/// What stands in the way of reading one, for people.
pub(super) type Obstacle = String;

/// What is said of one that Python refuses.
pub(super) const NO_START: &str = ": fail2ban does not start with it";

/// Groups inside groups, and no deeper.
const DEPTH: usize = 40;
/// The longest that is read.
const LONGEST: usize = 1 << 16;

/// With all repetitions written out, so many nodes and so many ways through its choices, and no more.
const MOST_NODES: u64 = 1 << 15;
const MOST_WAYS: u64 = 1 << 20;

/// Reads a regular expression.
///
/// # Errors
///
/// The construct that has no counterpart, or what is malformed.
pub(super) fn parse(text: &str) -> Result<Vec<RegexNode>, Obstacle> {
    if text.len() > LONGEST {
        return Err("it is longer than 64 KiB".to_owned());
    }
    let mut parser = Parser { rest: text, depth: DEPTH, named: Vec::new(), copied: 0 };
    let alternatives = parser.alternatives()?;
    if !parser.rest.is_empty() {
        return Err(format!("a `)` without its `(` before `{}`{NO_START}", short(parser.rest)));
    }
    let nodes = sequence(alternatives, GroupRole::Plain);
    bounded(&nodes)?;
    Ok(nodes)
}

/// How many nodes these are with all repetitions written out.
///
/// # Errors
///
/// Those, or the ways through them, are too many to make a rule of.
fn bounded(nodes: &[RegexNode]) -> Result<u64, Obstacle> {
    let (size, ways) = extent(nodes);
    if size > MOST_NODES || ways > MOST_WAYS {
        return Err("it has too many repetitions or choices inside each other".to_owned());
    }
    Ok(size)
}

/// The nodes of a sequence with all repetitions written out, and the ways through it.
fn extent(nodes: &[RegexNode]) -> (u64, u64) {
    let (mut size, mut ways) = (0_u64, 1_u64);
    for node in nodes {
        let (inner_size, inner_ways) = match node {
            RegexNode::Group(all, _) => {
                all.iter().map(|nodes| extent(nodes)).fold((1, 0), |sum: (u64, u64), one| {
                    (sum.0.saturating_add(one.0), sum.1.saturating_add(one.1))
                })
            }
            RegexNode::Repeat(inner, least, most) => {
                let (size, ways) = extent(std::slice::from_ref(inner));
                // Repeated without an end it is written out as often as it must be there; more often than thrice, not at all.
                let most = most.unwrap_or(*least).min(3);
                let all = (*least..=most).map(|times| ways.saturating_pow(times));
                (size.saturating_mul(most.max(1).into()), all.fold(0, u64::saturating_add).max(1))
            }
            _ => (1, 1),
        };
        size = size.saturating_add(inner_size);
        ways = ways.saturating_mul(inner_ways);
    }
    (size, ways)
}

/// Alternatives as a sequence: a single one as it is.
fn sequence(mut alternatives: Alternatives, role: GroupRole) -> Vec<RegexNode> {
    match (alternatives.len(), role) {
        (1, GroupRole::Plain) => alternatives.pop().unwrap_or_default(),
        _ => vec![RegexNode::Group(alternatives, role)],
    }
}

/// Whether it is part of a word, or surely not.
pub(super) fn is_word(node: Option<&RegexNode>) -> Option<bool> {
    match node? {
        RegexNode::Text(c) => Some(c.is_alphanumeric() || *c == '_'),
        RegexNode::Class(class) => {
            let members = class.members();
            let words = members.iter().filter(|c| c.is_alphanumeric() || **c == '_').count();
            (words == 0 || words == members.len()).then_some(words > 0)
        }
        RegexNode::Repeat(inner, 1.., _) => is_word(Some(inner)),
        RegexNode::Start | RegexNode::End | RegexNode::Header => Some(false),
        _ => None,
    }
}

/// The edge of a word says nothing beside an address or between a letter and what is none.
///
/// # Errors
///
/// It stands elsewhere, where nothing here can say it.
pub(super) fn check_edges(nodes: &[RegexNode]) -> Result<(), Obstacle> {
    for (at, node) in nodes.iter().enumerate() {
        match node {
            RegexNode::Group(all, _) => all.iter().try_for_each(|nodes| check_edges(nodes))?,
            RegexNode::Repeat(inner, ..) => check_edges(std::slice::from_ref(inner))?,
            RegexNode::Edge => {
                let [before, after] = [at.checked_sub(1), at.checked_add(1)].map(|at| nodes.get(at?));
                let is_edge = is_word(before).is_some_and(|before| is_word(after) == Some(!before));
                if !is_edge && ![before, after].contains(&Some(&RegexNode::Host)) {
                    return Err(
                        "`\\b`, which nothing here can say: write the character that stands there".to_owned()
                    );
                }
            }
            _ => {}
        }
    }
    Ok(())
}

struct Parser<'t> {
    rest: &'t str,
    depth: usize,
    /// The groups with names, for what repeats them.
    named: Vec<(String, Vec<RegexNode>)>,
    /// How many nodes were repeated so.
    copied: u64,
}

impl<'t> Parser<'t> {
    fn take(&mut self, text: &str) -> bool {
        let rest = self.rest.strip_prefix(text);
        rest.into_iter().for_each(|rest| self.rest = rest);
        rest.is_some()
    }

    fn next(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let first = chars.next()?;
        self.rest = chars.as_str();
        Some(first)
    }

    /// What stands before this, which is passed.
    fn until(&mut self, end: &str) -> Option<&'t str> {
        let (before, after) = self.rest.split_once(end)?;
        self.rest = after;
        Some(before)
    }

    fn alternatives(&mut self) -> Result<Alternatives, Obstacle> {
        self.depth = self.depth.checked_sub(1).ok_or("groups are nested too deep")?;
        let mut all = vec![Vec::new()];
        while !self.rest.is_empty() && !self.rest.starts_with(')') && !self.rest.starts_with("</") {
            if self.take("|") {
                all.push(Vec::new());
                continue;
            }
            let nodes = self.atom()?;
            let nodes = self.repeated(nodes)?;
            all.last_mut().into_iter().for_each(|last| last.extend(nodes.clone()));
        }
        self.depth += 1;
        Ok(all)
    }

    /// A node, or the nodes of a group that needs none of its own.
    fn atom(&mut self) -> Result<Vec<RegexNode>, Obstacle> {
        let all = self.rest;
        let one = |node| Ok(vec![node]);
        match self.next().unwrap_or_default() {
            '.' => one(RegexNode::Any),
            '^' => one(RegexNode::Start),
            '$' => one(RegexNode::End),
            HEADER => one(RegexNode::Header),
            '[' => CharacterClass::parse(&mut self.rest).map(|class| vec![RegexNode::Class(class)]),
            '\\' => self.escape().map(|node| vec![node]),
            '(' => self.group(),
            '<' => {
                self.rest = all;
                self.tag()
            }
            '*' | '+' | '?' => Err(format!("nothing is repeated before `{}`{NO_START}", short(all))),
            other => one(RegexNode::Text(other)),
        }
    }

    fn escape(&mut self) -> Result<RegexNode, Obstacle> {
        let c = self.next().ok_or_else(|| format!("it ends with a `\\`{NO_START}"))?;
        Ok(match c {
            'b' => RegexNode::Edge,
            'A' => RegexNode::Start,
            'Z' => RegexNode::End,
            'n' => return Err("a line break: fail2ban's `maxlines` joins lines".to_owned()),
            't' => RegexNode::Text('\t'),
            '1'..='9' => return Err(format!("a back reference `\\{c}`")),
            'B' => return Err("`\\B`".to_owned()),
            c => match CharacterClass::named(c) {
                Some(class) => RegexNode::Class(class),
                None => RegexNode::Text(c),
            },
        })
    }

    fn group(&mut self) -> Result<Vec<RegexNode>, Obstacle> {
        let mut role = GroupRole::Plain;
        let (mut is_host, mut name) = (false, "");
        if self.take("?:") || !self.rest.starts_with('?') {
        } else if self.take("?P=") {
            let again = self.until(")").unwrap_or_default();
            // The same text again: a rule reads any text there.
            let group = self.named.iter().find(|(known, _)| known == again);
            let unknown = || format!("a back reference `(?P={again})`");
            let nodes = group.map(|(_, nodes)| nodes.clone()).ok_or_else(unknown)?;
            self.copied = self.copied.saturating_add(bounded(&nodes)?);
            if self.copied > MOST_NODES {
                return Err("it repeats too much".to_owned());
            }
            return Ok(nodes);
        } else if self.take("?P<") {
            name = self.until(">").unwrap_or_default();
            is_host = matches!(name, "host" | "ip4" | "ip6" | "addr" | "ip");
            if name == "user" {
                role = GroupRole::User;
            }
        } else if self.take("?!") {
            let alternatives = self.closed()?;
            return Ok(vec![RegexNode::NotAhead(alternatives)]);
        } else if self.take("?(") {
            // Whichever of the two: the proof looks at both.
            _ = self.until(")");
        } else if self.take("?#") {
            _ = self.until(")");
            return Ok(Vec::new());
        } else if self.take("?=") {
            return Err("a look-ahead `(?=`".to_owned());
        } else if self.rest.starts_with("?<") {
            return Err("a look-behind `(?<`".to_owned());
        } else {
            let flags = self.rest.split([')', ':']).next().unwrap_or_default();
            return Err(format!("the flags `({flags})`"));
        }
        let alternatives = self.closed()?;
        // Kept together: what follows may repeat it.
        let nodes = vec![if is_host { RegexNode::Host } else { RegexNode::Group(alternatives, role) }];
        if !name.is_empty() {
            self.named.push((name.to_owned(), nodes.clone()));
        }
        Ok(nodes)
    }

    fn closed(&mut self) -> Result<Alternatives, Obstacle> {
        let alternatives = self.alternatives()?;
        if self.take(")") { Ok(alternatives) } else { Err(format!("a `(` that is not closed{NO_START}")) }
    }

    /// `<HOST>` and its kind, and the groups that fail2ban writes as tags; any other `<` is itself.
    fn tag(&mut self) -> Result<Vec<RegexNode>, Obstacle> {
        for host in ["<HOST>", "<ADDR>", "<IP4>", "<IP6>", "<CIDR>", "<SUBNET>"] {
            if self.take(host) {
                return Ok(vec![RegexNode::Host]);
            }
        }
        for (tag, what) in [
            ("<SKIPLINES>", "an offence that spans lines (`<SKIPLINES>`)"),
            ("<DNS>", "host names instead of addresses (`<DNS>`)"),
            ("<F-ID>", "something else than an address is banned (`<F-ID>`)"),
        ] {
            if self.rest.starts_with(tag) {
                return Err(what.to_owned());
            }
        }
        let name = self.rest.strip_prefix("<F-").and_then(|rest| rest.split_once('>')).map(|(name, _)| name);
        let Some(name) = name.filter(|name| !name.contains(['<', ' '])) else {
            return Ok(self.next().map(RegexNode::Text).into_iter().collect());
        };
        let opening = format!("<F-{name}>");
        self.take(&opening);
        if name.ends_with('/') {
            return Ok(vec![RegexNode::Repeat(
                Box::new(RegexNode::Class(CharacterClass::digits())),
                1,
                None,
            )]);
        }
        let alternatives = self.alternatives()?;
        if !self.take(&format!("</F-{name}>")) {
            return Err(format!("`{opening}` is not closed{NO_START}"));
        }
        let role = match name {
            "USER" => GroupRole::User,
            "NOFAIL" | "MLFGAINED" => GroupRole::NoFailure,
            _ => GroupRole::Plain,
        };
        let nodes = vec![RegexNode::Group(alternatives, role)];
        self.named.push((name.to_lowercase(), nodes.clone()));
        Ok(nodes)
    }

    /// The nodes, as often as what follows says.
    fn repeated(&mut self, mut nodes: Vec<RegexNode>) -> Result<Vec<RegexNode>, Obstacle> {
        let (least, most) = if self.take("*") {
            (0, None)
        } else if self.take("+") {
            (1, None)
        } else if self.take("?") {
            (0, Some(1))
        } else if let Some(counts) = self.counts() {
            counts
        } else {
            return Ok(nodes);
        };
        // Lazy or possessive, it reads the same lines.
        _ = self.take("?") || self.take("+");
        match (nodes.pop(), nodes.is_empty()) {
            (Some(RegexNode::Edge | RegexNode::Start | RegexNode::End | RegexNode::NotAhead(_)), true) => {
                Ok(Vec::new())
            }
            (Some(node), true) => Ok(vec![RegexNode::Repeat(Box::new(node), least, most)]),
            (node, _) => {
                nodes.extend(node);
                Ok(vec![RegexNode::Repeat(
                    Box::new(RegexNode::Group(vec![nodes], GroupRole::Plain)),
                    least,
                    most,
                )])
            }
        }
    }

    /// `{2}`, `{2,}`, `{,2}` or `{2,3}`; anything else is text.
    fn counts(&mut self) -> Option<(u32, Option<u32>)> {
        let (inside, rest) = self.rest.strip_prefix('{')?.split_once('}')?;
        let number = |text: &str| text.parse::<u32>().ok();
        let counts = match inside.split_once(',') {
            None => (number(inside)?, number(inside)),
            Some((least, "")) => (number(least)?, None),
            Some(("", most)) => (0, Some(number(most)?)),
            Some((least, most)) => (number(least)?, Some(number(most)?)),
        };
        self.rest = rest;
        Some(counts)
    }
}

/// The beginning of a text, for people.
fn short(text: &str) -> String {
    text.chars().take(20).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constructs_without_a_counterpart_are_named() {
        #[track_caller]
        fn check(text: &str, want: &str) {
            assert_eq!(parse(text), Err(want.to_owned()), "{text}");
        }
        check("(?P=x)", "a back reference `(?P=x)`");
        check("(a)\\1", "a back reference `\\1`");
        check("(?i)a", "the flags `(?i)`");
        check("(?=a)", "a look-ahead `(?=`");
        check("(?<!a)b", "a look-behind `(?<`");
        check("a<SKIPLINES>b", "an offence that spans lines (`<SKIPLINES>`)");
        check("(a", "a `(` that is not closed: fail2ban does not start with it");
        check("a)", "a `)` without its `(` before `)`: fail2ban does not start with it");
        check("*", "nothing is repeated before `*`: fail2ban does not start with it");
        check("[a", "a `[` that is not closed: fail2ban does not start with it");
        check(&"(".repeat(100), "groups are nested too deep");
        let many = "it has too many repetitions or choices inside each other";
        check(&format!("{}x{}", "(?:x".repeat(14), "){0,3}".repeat(14)), many);
        check(&"(?:a b)?".repeat(30), many);
        check(&"(?:a|b)".repeat(30), many);
        assert!(parse(&"(?:a b)?".repeat(15)).is_ok());
        let names = |n: u8| format!("(?P<x{n}>(?P=x{0})(?P=x{0}))", n - 1);
        check(&format!("(?P<x0>a){}", (1..=30).map(names).collect::<String>()), "it repeats too much");
    }

    #[test]
    fn tags_are_groups() {
        let user = RegexNode::Group(vec![vec![RegexNode::Text('a')], vec![RegexNode::Any]], GroupRole::User);
        assert_eq!(
            parse("<F-USER>a|.</F-USER> <HOST>"),
            Ok(vec![user, RegexNode::Text(' '), RegexNode::Host])
        );
        assert_eq!(parse("<b>").unwrap().len(), 3);
        assert_eq!(parse("a{2}{x}").unwrap().len(), 4);
    }
}
