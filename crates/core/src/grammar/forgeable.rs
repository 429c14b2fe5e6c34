//! Logs in whose files clients can write whole lines, by the line `forgeable-file:` of a grammar: which files these are,
//! and what lines of such a log begin with.

use super::source::{FieldKind, Part, Rule, Source};
use super::time;

/// What a grammar says of such a log.
#[derive(Debug)]
pub(super) struct ForgeableLog {
    /// Where the service writes it by default; each may hold `*`.
    pub(super) files: Vec<String>,
    /// The line of the grammar below which the rules for it stand.
    pub(super) line: u32,
}

/// A part of what all lines begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BeginningPiece {
    Byte(u8),
    Digits,
    Word,
    Address,
    Time,
}

/// Whether a message begins as all rules for the forgeable log do, up to the first part in which they differ; false where
/// there are none. It need not be one that a rule reads.
///
/// Takes time linear in the rules; for tools only.
pub(super) fn begins_so(source: &Source, message: &[u8]) -> bool {
    let Some(log) = &source.forgeable else { return false };
    let is_its = |rule: &&Rule| rule.place.line > log.line;
    let lines = source.groups.iter().filter(|group| group.record.is_none());
    let rules = lines.flat_map(|group| &group.rules);
    let common = rules.filter(is_its).map(beginning).reduce(|mut common, other| {
        let alike = common.iter().zip(&other).take_while(|(one, other)| one == other).count();
        common.truncate(alike);
        common
    });
    common.is_some_and(|common| !common.is_empty() && reads(&common, message))
}

fn beginning(rule: &Rule) -> Vec<BeginningPiece> {
    let mut pieces = Vec::new();
    for part in &rule.parts {
        match part {
            Part::Text(text) => pieces.extend(text.bytes().map(BeginningPiece::Byte)),
            Part::Field { kind: FieldKind::Num, .. } => pieces.push(BeginningPiece::Digits),
            Part::Field { kind: FieldKind::Word, .. } => pieces.push(BeginningPiece::Word),
            Part::Field { kind: FieldKind::Ip, .. } => pieces.push(BeginningPiece::Address),
            Part::Field { kind: FieldKind::Time, .. } => pieces.push(BeginningPiece::Time),
            Part::Field { .. } | Part::Choice { .. } => break,
        }
    }
    pieces
}

/// Each field is as long as it can be, which is enough for what servers begin their lines with.
fn reads(pieces: &[BeginningPiece], mut message: &[u8]) -> bool {
    let mut pieces = pieces.iter().peekable();
    while let Some(piece) = pieces.next() {
        let stop = pieces
            .peek()
            .and_then(|next| if let BeginningPiece::Byte(byte) = next { Some(*byte) } else { None });
        let length = match piece {
            BeginningPiece::Byte(byte) => usize::from(message.first() == Some(byte)),
            BeginningPiece::Digits => message.iter().take_while(|byte| byte.is_ascii_digit()).count(),
            BeginningPiece::Word => {
                message.iter().take_while(|byte| **byte != b' ' && Some(**byte) != stop).count()
            }
            BeginningPiece::Address => {
                message.iter().take_while(|byte| byte.is_ascii_hexdigit() || b".:".contains(byte)).count()
            }
            BeginningPiece::Time => time::stamps(message, stop).max().unwrap_or_default(),
        };
        match message.get(length..) {
            Some(rest) if length > 0 => message = rest,
            _ => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::super::{Grammar, Lists, SHIPPED};

    /// A line that a rule below `forgeable-file:` reads begins as they all do, and one that another rule reads does not.
    #[test]
    fn lines_of_forgeable_logs_are_known_by_how_they_begin() {
        let mut known = Vec::new();
        for (name, text) in SHIPPED {
            let grammar = Grammar::shipped(name, &Lists::shipped()).unwrap();
            let Some(log) = &grammar.source.forgeable else { continue };
            for test in &grammar.whole().tests {
                let Some(found) = grammar.read(test.message.as_bytes()) else { continue };
                let is_its = found.line() > log.line;
                assert_eq!(
                    grammar.is_of_forgeable_log(test.message.as_bytes()),
                    is_its,
                    "{name}: {}",
                    test.message
                );
                known.extend(is_its.then_some(*name));
            }
            assert!(!log.files.is_empty() || known.contains(name), "{name}: {text}");
        }
        known.dedup();
        assert_eq!(known, ["baikal", "bookstack", "nginx", "nginx-mail", "traefik"]);
        let nginx = Grammar::shipped("nginx", &Lists::shipped()).unwrap();
        // One that no rule reads.
        assert!(nginx.is_of_forgeable_log(b"2026/11/29 10:00:00 [error] 9#9: *1 upstream timed out"));
        for other in
            ["2026/11/29 10:00:00 [error] 9", "2026/11/29 10:00:00 x", "", "192.0.2.1 - - [29/Nov/2026"]
        {
            assert!(!nginx.is_of_forgeable_log(other.as_bytes()), "{other}");
        }
    }
}
