//! Finds messages that name an address and match no rule, so that an author notices when a new release of a server
//! changes its wording. A message is reported by its template, not by its text.

use std::net::IpAddr;
use std::ops::Range;

use hashbrown::HashSet;

use super::Grammar;
use super::source::TestCase;
use super::template::{addresses, join, template};
use super::variant::{Item, Variant};

/// Bytes of a message that are looked at.
const LOOKED_AT: usize = 512;

impl Grammar {
    /// The template of a message that names an address, and that neither a rule or shape reads nor a test for `-` knows.
    ///
    /// Takes 1 to 2 us for what servers write and some 50 us at worst, and allocates only where the message names an
    /// address and no rule reads it.
    pub fn unmatched_template(&self, message: &[u8]) -> Option<String> {
        let message = message.trim_ascii_end();
        if self.knows(message) {
            return None;
        }
        let text = String::from_utf8_lossy(message.get(..LOOKED_AT).unwrap_or(message));
        if addresses(&text).next().is_none() {
            return self.named(&text);
        }
        let template = template(&text);
        let meant = self.compiled().quiet.iter().any(|quiet| self.join(quiet, &template).is_some());
        (!meant).then_some(template)
    }

    /// Whether a rule or a shape reads the message.
    pub(super) fn knows(&self, message: &[u8]) -> bool {
        self.compiled().matcher.read(message.trim_ascii_end(), None, |_, _, _| Some(())).is_some()
    }

    /// The template of a message that a rule would read, named it an address where it names a host.
    fn named(&self, text: &str) -> Option<String> {
        hosts(text).take(HOSTS).find_map(|host| {
            let (before, after) = (text.get(..host.start)?, text.get(host.end..)?);
            let addressed = format!("{before}192.0.2.1{after}");
            let peer = self
                .compiled()
                .matcher
                .read(addressed.as_bytes(), None, |reading, _, _| Some(reading.address))?;
            (peer == IpAddr::from([192, 0, 2, 1])).then(|| template(&addressed).replacen("<ip>", "<host>", 1))
        })
    }

    /// The peer that the message of a web server names: one that may stand behind a proxy, as the grammar knows.
    pub(super) fn peer(&self, message: &[u8]) -> Option<IpAddr> {
        self.compiled().forwards.then(|| {
            self.compiled()
                .matcher
                .read(message.trim_ascii_end(), None, |reading, _, _| Some(reading.address))
        })?
    }

    /// The template that covers both, where they are of a kind. They are not where they differ in a word that this
    /// grammar's rules are made of.
    pub fn join(&self, one: &str, other: &str) -> Option<String> {
        join(one, other, |word| self.compiled().words.contains(word))
    }
}

/// Names of hosts in a message that are tried.
const HOSTS: usize = 8;

/// What may be the name of a host: letters, digits, dashes and dots, with a letter and a dot inside.
fn hosts(text: &str) -> impl Iterator<Item = Range<usize>> {
    let of_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = text.get(at..)?;
        let from = at + rest.find(of_name)?;
        let run = text.get(from..)?;
        let length = run.find(|c| !of_name(c)).unwrap_or(run.len());
        at = from + length;
        let name = run.get(..length)?.trim_end_matches('.');
        Some((from..from + name.len(), name))
    })
    .filter(|(_, name)| name.contains('.') && name.contains(|c: char| c.is_ascii_alphabetic()))
    .map(|(place, _)| place)
}

/// The templates of messages that are meant to match nothing.
pub(super) fn quiet(tests: &[TestCase]) -> Vec<String> {
    let messages = tests.iter().filter(|test| test.want.is_none()).map(|test| test.message.as_str());
    let mut templates: Vec<String> =
        messages.filter(|message| addresses(message).next().is_some()).map(template).collect();
    templates.sort_unstable();
    templates.dedup();
    templates
}

/// The words that rules are made of.
pub(super) fn words<'v>(variants: impl Iterator<Item = &'v Variant>) -> HashSet<Box<str>> {
    let texts = variants.flat_map(|variant| &variant.items).filter_map(|item| match item {
        Item::Text(text) => std::str::from_utf8(text).ok(),
        Item::Field(_) => None,
    });
    let words = texts.flat_map(|text| text.split(|c: char| !c.is_alphanumeric() && c != '_'));
    words.filter(|word| !word.is_empty()).map(Box::from).collect()
}
