//! Messages that name an address and that no rule knows.
//!
//! They stand apart from matching because they are looked at seldom, so that an author hears of it when a new release
//! of a server words its lines anew. What is told of a message is its template, not its text.
//!
//! It keeps no count and remembers nothing.

use hashbrown::HashSet;

use super::Grammar;
use super::syntax::Test;
use super::template::{addresses, join, template};
use super::variant::{Item, Variant};

/// Bytes of a message that are looked at.
const LOOKED_AT: usize = 512;

impl Grammar {
    /// The template of a message that names an address, and that neither a rule or shape reads nor a test for `-` knows.
    ///
    /// Takes 1 to 2 us for what servers write and some 50 us at worst, and allocates only where the message names an
    /// address and no rule reads it.
    pub fn stranger(&self, message: &[u8]) -> Option<String> {
        let message = message.trim_ascii_end();
        if self.matcher.read(message, |_, _| Some(())).is_some() {
            return None;
        }
        let text = String::from_utf8_lossy(message.get(..LOOKED_AT).unwrap_or(message));
        addresses(&text).next()?;
        let template = template(&text);
        let meant = self.quiet.iter().any(|quiet| self.join(quiet, &template).is_some());
        (!meant).then_some(template)
    }

    /// The template that covers both, where they are of a kind. They are not where they differ in a word that this
    /// grammar's rules are made of.
    pub fn join(&self, one: &str, other: &str) -> Option<String> {
        join(one, other, |word| self.words.contains(word))
    }
}

/// The templates of messages that are meant to match nothing.
pub(super) fn quiet(tests: &[Test]) -> Vec<String> {
    let messages = tests.iter().filter(|test| test.want.is_none()).map(|test| test.message.as_str());
    let mut templates: Vec<String> =
        messages.filter(|message| addresses(message).next().is_some()).map(template).collect();
    templates.sort_unstable();
    templates.dedup();
    templates
}

/// The words that rules are made of.
pub(super) fn words(variants: &[Variant]) -> HashSet<Box<str>> {
    let texts = variants.iter().flat_map(|variant| &variant.items).filter_map(|item| match item {
        Item::Text(text) => std::str::from_utf8(text).ok(),
        Item::Hole(_) => None,
    });
    let words = texts.flat_map(|text| text.split(|c: char| !c.is_alphanumeric() && c != '_'));
    words.filter(|word| !word.is_empty()).map(Box::from).collect()
}
