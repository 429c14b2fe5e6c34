//! Lists of words that all grammars share: `@probes` is the same for every web server.
//!
//! A list is a file with one word per line. A file of the same name adds words to a built-in list, and a line `not
//! WORD` removes one. So the operator's part stays small, and new versions can add words.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::condition::Tests;
use super::fault::{Fault, Faults, Place};

/// The lists that come with banstream, as (name, text).
const SHIPPED: &[(&str, &str)] = &[
    ("applications", include_str!("../../grammars/applications.list")),
    ("bots", include_str!("../../grammars/bots.list")),
    ("injections", include_str!("../../grammars/injections.list")),
    ("logins", include_str!("../../grammars/logins.list")),
    ("secrets", include_str!("../../grammars/secrets.list")),
    ("traversals", include_str!("../../grammars/traversals.list")),
    ("probes", include_str!("../../grammars/probes.list")),
    ("typed", include_str!("../../grammars/typed.list")),
];

/// Words by the name of their list. A copy shares them.
#[derive(Clone, Debug)]
pub struct Lists {
    in_force: Arc<BTreeMap<String, Vec<String>>>,
    shipped: Arc<BTreeMap<String, Vec<String>>>,
    /// What grammars have made of them.
    pub(super) tests: Tests,
}

impl Lists {
    /// Whether the words in force are the same.
    pub(super) fn has_words_of(&self, other: &Self) -> bool {
        self.in_force == other.in_force
    }

    /// Those that come with banstream.
    pub fn shipped() -> Self {
        let mut lists = Self { in_force: Arc::default(), shipped: Arc::default(), tests: Tests::default() };
        for (name, text) in SHIPPED {
            lists.add(name, name, text);
        }
        lists.shipped = Arc::clone(&lists.in_force);
        lists
    }

    /// Adds the words of a file to the list called `name`, and takes out those behind a `not`; `file` is what
    /// faults call the file. What is doubtful in it comes back: nothing in a list can be worse than that.
    pub fn add(&mut self, name: &str, file: &str, text: &str) -> Vec<Fault> {
        let mut faults = Faults::new(file, text);
        let words = Arc::make_mut(&mut self.in_force).entry(name.to_owned()).or_default();
        for (line, written) in (1..).zip(text.lines()) {
            let word = written.trim();
            let column = (written.len() - written.trim_start().len()) as u32 + 1;
            if word.is_empty() || word.starts_with('#') {
                continue;
            }
            let Some(not) = word.strip_prefix("not ").map(str::trim_start) else {
                if !words.iter().any(|known| known == word) {
                    words.push(word.to_owned());
                }
                continue;
            };
            let before = words.len();
            // `/.git` and `.git/` take `.git` out too: how a list is compared is not its file's to know.
            let bare = |word: &str| word.trim_matches('/').to_ascii_lowercase();
            words.retain(|known| bare(known) != bare(not));
            if words.len() == before {
                faults.warn(Place { line, column }, format!("the list `{name}` has no `{not}` to remove"));
            }
        }
        faults.into_sorted()
    }

    /// The words of a list.
    pub(super) fn get(&self, name: &str) -> Option<&[String]> {
        self.in_force.get(name).map(Vec::as_slice)
    }

    /// The words that the tests of a grammar are about: those shipped, if the list is. What an operator adds or takes
    /// out must not make a shipped grammar fail its tests.
    pub(super) fn tested(&self, name: &str) -> Option<&[String]> {
        self.shipped.get(name).map(Vec::as_slice).or_else(|| self.get(name))
    }

    /// Whether anybody has added to those that come with banstream.
    pub(super) fn are_changed(&self) -> bool {
        self.in_force != self.shipped
    }
}
