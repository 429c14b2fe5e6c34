//! Compares conditions on an access log with the regular expression that they were made of, on lines of such a log: those that
//! are made of the regular expression, what the conditions ask for in other places, and other requests, statuses and clients.

use std::net::IpAddr;

use super::super::compare::{FilterTrial, NO_LINE};
use super::super::pattern::{FilterPattern, FilterVerdict};
use super::super::regex::RegexNode;
use super::super::sample::SAMPLE;
use super::lines::{AccessForm, DATE, forms};
use super::{AccessCase, METHODS};
use crate::grammar::Grammar;

/// A regular expression of a filter for access logs, with what it is compared by.
pub(in super::super) struct AccessTrial<'p> {
    pattern: &'p FilterPattern,
    nth: usize,
    lines: Vec<AccessLine>,
    /// Lines that were made of it.
    forms: Vec<AccessForm>,
}

/// A line of an access log, with what the filter finds in it.
struct AccessLine {
    text: String,
    is_found: bool,
    /// Whether nothing in it is unusual.
    is_plain: bool,
    /// Whether it differs from a plain one in no more than letters' case, the user, the version and the size.
    is_width: bool,
}

/// So many conditions' words are tried, and so many cases.
const MOST_WORDS: usize = 24;
const MOST_CASES: usize = 16;

/// What may stand before the address.
const HOSTS: [&str; 3] = ["", "example.org:443 ", "example.org "];

impl<'p> AccessTrial<'p> {
    /// # Errors
    ///
    /// Why it cannot be compared.
    pub(in super::super) fn new(
        pattern: &'p FilterPattern,
        nth: usize,
        nodes: &[RegexNode],
        cases: &[AccessCase],
    ) -> Result<Self, String> {
        if let Some(why) = pattern.obstacle(nth) {
            return Err(why.clone());
        }
        let mut trial = Self { pattern, nth, lines: Vec::new(), forms: Vec::new() };
        let samples: Vec<AccessFields> =
            cases.iter().take(MOST_CASES).filter_map(|case| AccessFields::read(&case.sample)).collect();
        // With the name of the host before it, if the filter wants that.
        let finds = |host: &str| samples.iter().any(|one| trial.finds(&one.line(host)));
        let host = HOSTS.into_iter().find(|host| finds(host)).unwrap_or_default();
        trial.forms = forms(nodes, host, &|line| trial.finds(line));
        let mut words: Vec<&str> = cases.iter().flat_map(|case| &case.words).map(String::as_str).collect();
        words.sort_unstable();
        words.dedup();
        for one in &samples {
            trial.vary(one, host);
        }
        let usual =
            ["200", "404"].map(|status| AccessFields { status: status.to_owned(), ..AccessFields::usual() });
        for base in samples.iter().take(1).chain(&usual) {
            for word in words.iter().take(MOST_WORDS) {
                trial.place(base, word.trim(), host);
            }
        }
        Ok(trial)
    }

    fn finds(&self, line: &str) -> bool {
        let dateless = line.replacen(DATE, "", 1);
        self.pattern.find(&dateless, self.nth, address()) == FilterVerdict::Failure(address())
    }

    fn add(&mut self, fields: &AccessFields, host: &str, is_plain: bool, is_width: bool) {
        let text = fields.line(host);
        if !self.lines.iter().any(|known| known.text == text) {
            let is_found = self.finds(&text);
            self.lines.push(AccessLine { text, is_found, is_plain, is_width });
        }
    }

    /// Adds the line, and it with another status, method and client.
    fn vary(&mut self, base: &AccessFields, host: &str) {
        self.add(base, host, true, false);
        for status in ["200", "301", "400", "401", "403", "404", "444", "500"] {
            self.add(&AccessFields { status: status.to_owned(), ..base.clone() }, host, true, false);
        }
        let (method, path) = base.request.split_once(' ').unwrap_or((&base.request, ""));
        for other in ["GET", "POST", "HEAD", "PUT"].into_iter().filter(|other| *other != method) {
            self.add(&AccessFields { request: format!("{other} {path}"), ..base.clone() }, host, true, false);
        }
        let (target, version) = path.rsplit_once(' ').unwrap_or((path, ""));
        for request in [
            format!("{method} {target}?x=y {version}"),
            format!("{method} {target}/x {version}"),
            format!("{method} /x{target} {version}"),
            format!("{method} / {version}"),
        ] {
            self.add(&AccessFields { request, ..base.clone() }, host, false, false);
        }
        for request in [base.request.to_uppercase(), format!("{method} {target} HTTP/2.0")] {
            self.add(&AccessFields { request, ..base.clone() }, host, false, true);
        }
        self.add(&AccessFields { user: "eve".to_owned(), ..base.clone() }, host, false, true);
        for (referer, agent) in [("https://example.org/x", base.agent.as_str()), (&base.referer, AGENT)] {
            let client =
                AccessFields { referer: referer.to_owned(), agent: agent.to_owned(), ..base.clone() };
            self.add(&client, host, false, false);
        }
    }

    /// Adds the line with a word in each of the fields that a client writes.
    fn place(&mut self, base: &AccessFields, word: &str, host: &str) {
        let is_request = METHODS.iter().any(|method| word.starts_with(method));
        for text in [word.to_owned(), format!("{word}x"), format!("x {word}"), format!("x/{word}/y")] {
            // No client sends a request line as its name.
            if !is_request {
                self.add(&AccessFields { agent: text.clone(), ..base.clone() }, host, false, false);
                self.add(
                    &AccessFields { referer: format!("https://{text}"), ..base.clone() },
                    host,
                    false,
                    false,
                );
            }
            let slash = if text.starts_with('/') { "" } else { "/" };
            let request = format!("GET {slash}{} HTTP/1.1", text.replace(' ', "%20"));
            self.add(&AccessFields { request, ..base.clone() }, host, false, false);
        }
    }

    /// Whether a grammar counts no line, by this category, that the filter does not.
    ///
    /// # Errors
    ///
    /// A line that it does.
    pub(in super::super) fn messages(
        &self,
        grammar: &Grammar,
        category: &str,
    ) -> Result<FilterTrial, String> {
        let mut trial = FilterTrial::default();
        for line in self.lines.iter().filter(|line| counts(grammar, category, &line.text)) {
            trial.messages += 1;
            match line.is_found {
                true => {}
                false if line.is_width => trial.wider_example.clone_from(&line.text),
                false => {
                    return Err(format!(
                        "they hold for a line that the filter does not match: `{}`",
                        line.text
                    ));
                }
            }
        }
        Ok(trial)
    }

    /// Which of the lines that the filter matches a grammar counts by this category.
    ///
    /// # Errors
    ///
    /// A plain one is not, or it matches none.
    pub(in super::super) fn lines(&self, grammar: &Grammar, category: &str) -> Result<FilterTrial, String> {
        let lines = self.lines.iter().filter(|line| line.is_found);
        let lines = lines.map(|line| (std::slice::from_ref(&line.text), line.is_plain));
        // Of a form it is enough that it is read with its texts where they were looked for.
        let forms = self.forms.iter().map(|form| (form.lines.as_slice(), form.is_plain));
        let mut trial = FilterTrial::default();
        for (lines, is_plain) in lines.chain(forms) {
            trial.lines += 1;
            let Some(first) =
                lines.first().filter(|_| !lines.iter().any(|line| counts(grammar, category, line)))
            else {
                continue;
            };
            if is_plain {
                return Err(format!("they do not hold for a line that the filter matches: `{first}`"));
            }
            trial.unread += 1;
            if trial.unread_example.is_empty() {
                trial.unread_example.clone_from(first);
            }
        }
        if trial.lines == 0 { Err(NO_LINE.to_owned()) } else { Ok(trial) }
    }
}

fn counts(grammar: &Grammar, category: &str, line: &str) -> bool {
    let found = grammar.read(line.as_bytes()).filter(|found| found.category() == category);
    found.is_some_and(|found| found.address() == Some(address()))
}

fn address() -> IpAddr {
    SAMPLE.parse().unwrap_or(IpAddr::from([0; 4]))
}

const AGENT: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

/// The fields of a line that vary.
#[derive(Clone, Debug)]
struct AccessFields {
    user: String,
    request: String,
    status: String,
    referer: String,
    agent: String,
}

impl AccessFields {
    fn usual() -> Self {
        let [user, request, status, referer, agent] =
            ["-", "GET /x HTTP/1.1", "200", "https://example.org/x", AGENT].map(str::to_owned);
        Self { user, request, status, referer, agent }
    }

    fn read(line: &str) -> Option<Self> {
        let quoted: Vec<&str> = line.split('"').collect();
        let [_, request, numbers, referer, _, agent, _] = quoted.as_slice() else { return None };
        let [request, referer, agent] = [request, referer, agent].map(|text| (*text).to_owned());
        let status = numbers.trim().split(' ').next()?.to_owned();
        Some(Self { user: "-".to_owned(), request, status, referer, agent })
    }

    fn line(&self, host: &str) -> String {
        let Self { user, request, status, referer, agent } = self;
        format!(r#"{host}{SAMPLE} - {user} [{DATE}] "{request}" {status} 153 "{referer}" "{agent}""#)
    }
}
