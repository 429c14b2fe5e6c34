//! Which shipped grammars are proved already, so that the first line of a program need not wait for that.
//!
//! `proved.txt` has a hash for each: of the version of the proof, of the grammar's text and that which it extends, and of
//! those of all others that may read one message with it, since they are proved together. Lists of words are not part of
//! it, as their words [prove nothing](super::condition::narrow). A test makes the list again and compares, and
//! another proves all shipped grammars with the present proof. A grammar that is not in the list, or with another hash,
//! is proved when it is loaded or first used.
//!
//! The hash guards against forgetting, not against an attacker: who can change a text in the program can change the
//! list beside it.

use super::proof::VERSION;
use super::together::meet;
use super::{Grammar, Grammars, Lists, SHIPPED, shipped_text};
use crate::model::fnv1a;

/// The list: a line for each grammar, its name and the hash.
const PROVED: &str = include_str!("../../grammars/proved.txt");

/// Whether a grammar is in the list as it is here, beside these others.
///
/// It never is if it is an operator's, or if an operator's may read a message that it reads.
pub(super) fn is_listed(grammars: &[Grammar], nth: usize) -> bool {
    let Some(line) = line(grammars, nth) else { return false };
    PROVED.lines().any(|known| known == line)
}

/// What the list is to say of a grammar beside these others; `None` if one of those that it is proved with was not
/// shipped.
fn line(grammars: &[Grammar], nth: usize) -> Option<String> {
    let grammar = grammars.get(nth)?;
    let others = grammars.iter().enumerate().filter(|(other, _)| *other != nth).map(|(_, other)| other);
    let together = || [grammar].into_iter().chain(others.clone().filter(|other| meet(grammar, other)));
    if !together().all(|grammar| grammar.is_shipped) {
        return None;
    }
    let texts = together().flat_map(|grammar| {
        let base = grammar.extends().map_or("", shipped_text);
        [grammar.name.as_str(), &grammar.text, base]
    });
    Some(format!("{} {:016x}", grammar.name, hash(texts)))
}

/// A hash of these texts, which also tells where one ends.
fn hash<'t>(texts: impl Iterator<Item = &'t str>) -> u64 {
    let bytes = texts.flat_map(|text| (text.len() as u64).to_le_bytes().into_iter().chain(text.bytes()));
    fnv1a(bytes.chain(VERSION.to_le_bytes()))
}

/// Proves all shipped grammars; the list as it is to be in `grammars/proved.txt`.
///
/// # Errors
///
/// Why one of them is not proved.
pub fn proved_list() -> Result<String, String> {
    let load = |(name, text): &(&str, &str)| {
        let base = Grammar::base_of(text).map(shipped_text);
        let loaded = Grammar::load_with(name, name, text, base, &Lists::shipped());
        loaded.map(|(grammar, _)| grammar).map_err(|faults| faults.iter().map(ToString::to_string).collect())
    };
    Grammars::new(SHIPPED.iter().map(load).collect::<Result<_, String>>()?)?;
    Ok(list())
}

/// The list, where all are proved.
fn list() -> String {
    let shipped = |(name, _): &(&str, &str)| Grammar::shipped(name, &Lists::shipped()).ok();
    let grammars: Vec<Grammar> = SHIPPED.iter().filter_map(shipped).collect();
    (0..grammars.len()).filter_map(|nth| Some(line(&grammars, nth)? + "\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_that_of_the_shipped_grammars() {
        let message = "run `cargo run --package xtask -- target/generated`, and copy proved.txt to grammars";
        assert!(PROVED == list(), "{message}");
        assert_eq!(PROVED.lines().count(), SHIPPED.len());
    }

    fn shipped(name: &str) -> Grammar {
        Grammar::shipped(name, &Lists::shipped()).unwrap()
    }

    /// All that are shipped, where the operator has these grammars, by name and text.
    fn beside(own: &[(&str, &str)]) -> Vec<Grammar> {
        let is_own = |name: &str| own.iter().any(|(own, _)| *own == name);
        let load = |(name, text): &(&str, &str)| {
            let base = Grammar::base_of(text).map(shipped_text);
            Grammar::load_with(name, "own", text, base, &Lists::shipped()).unwrap().0
        };
        let names = SHIPPED.iter().map(|(name, _)| *name).filter(|name| !is_own(name));
        let mut all: Vec<Grammar> = names.map(shipped).chain(own.iter().map(load)).collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all
    }

    #[track_caller]
    fn check(grammars: &[Grammar], listed: &[&str], others: &[&str]) {
        for name in listed.iter().chain(others) {
            let nth = grammars.iter().position(|grammar| grammar.name == *name).unwrap();
            assert_eq!(is_listed(grammars, nth), listed.contains(name), "{name}");
        }
    }

    #[test]
    fn neither_an_operators_grammar_is_trusted_nor_one_beside_it() {
        check(&beside(&[]), &["sshd", "nginx", "pam"], &[]);
        // The very text, but the operator's file; and `pam` reads the lines of all programs.
        check(&beside(&[("sshd", shipped_text("sshd"))]), &["nginx"], &["sshd", "pam"]);
        check(&beside(&[("a", "extends: sshd\nx:\n    gone <ip>\n")]), &["nginx"], &["a", "sshd", "pam"]);
        check(&beside(&[("a", "program: nginx\nx:\n    gone <ip>\n")]), &["sshd"], &["a", "nginx", "pam"]);
        check(&beside(&[("a", "program: ssh*\nx:\n    gone <ip>\n")]), &["nginx"], &["a", "sshd", "pam"]);
        check(&beside(&[("a", "program: *\nx:\n    gone <ip>\n")]), &[], &["a", "sshd", "nginx", "pam"]);
    }

    #[test]
    fn nor_is_one_of_another_text_or_beside_others_than_it_was_proved_with() {
        let mut grammars = beside(&[]);
        grammars.retain(|grammar| grammar.name != "pam");
        check(&grammars, &[], &["sshd", "nginx"]);
        let mut grammars = beside(&[]);
        let changed = grammars.iter_mut().find(|grammar| grammar.name == "sshd").unwrap();
        changed.text = format!("{} ", changed.text).into();
        check(&grammars, &["nginx"], &["sshd", "pam"]);
    }

    #[test]
    fn a_hash_tells_texts_apart_wherever_one_ends() {
        let hash = |texts: &[&str]| hash(texts.iter().copied());
        assert_ne!(hash(&["ab", "c"]), hash(&["a", "bc"]));
        assert_ne!(hash(&["a", ""]), hash(&["", "a"]));
        assert_ne!(hash(&["a"]), hash(&["a", ""]));
    }
}
