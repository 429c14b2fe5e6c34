//! Compares a rule with the regular expression that it was made of: on lines that are made of the regular expression, and on
//! messages that are made of the rule, with what an attacker could type in each of its fields.
//!
//! Nothing here is random, so that a plan is the same each time.

use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

use super::message::{FRAMED, FilledForm, FormMessage};
use super::pattern::{FilterPattern, FilterVerdict};
use super::regex::Obstacle;
use super::specimen::FilterSpecimen;
use crate::grammar::{FormPart, Grammar, MessageForm};

/// How a filter and the rules that were made of it agree on lines that were made of both.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FilterTrial {
    /// How many lines that the filter matches were made.
    pub lines: u64,
    /// How many of them the rules do not read.
    pub unread: u64,
    /// One of these; empty if there is none.
    pub unread_example: String,
    /// How many messages that the rules read were made.
    pub messages: u64,
    /// A message that the rules read and the filter does not, by no more than the characters of a word or of what follows the
    /// address; empty if there is none.
    pub wider_example: String,
    /// Why they were not compared; empty if they were.
    pub skipped: String,
}

impl FilterTrial {
    /// What of it people need to know.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if !self.skipped.is_empty() {
            notes.push(format!("not compared with its filter: {}", self.skipped));
        }
        notes.extend(self.unread_note());
        if !self.wider_example.is_empty() {
            notes.push(format!("reads more than its filter, such as `{}`", self.wider_example));
        }
        notes
    }

    /// The share of lines that are not read.
    pub(super) fn unread_note(&self) -> Option<String> {
        (self.unread > 0).then(|| {
            let share = (self.unread * 100 / self.lines.max(1)).max(1);
            format!(
                "of lines made of its filter, {share} % are not read, such as `{}`",
                self.unread_example.trim()
            )
        })
    }

    /// Adds what was found for a further rule.
    pub(super) fn add(&mut self, other: Self) {
        self.lines += other.lines;
        self.unread += other.unread;
        self.messages += other.messages;
        for (ours, theirs) in [
            (&mut self.unread_example, other.unread_example),
            (&mut self.wider_example, other.wider_example),
            (&mut self.skipped, other.skipped),
        ] {
            if ours.is_empty() {
                *ours = theirs;
            }
        }
    }
}

/// Why a rule cannot stand for its regular expression: the message that shows it. The gravest is the greatest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RuleDifference {
    /// The filter matches it, and the rule does not.
    Unread(String),
    /// The rule reads it, and the filter does not match it.
    Wider(String),
    /// The rule finds the first address in it, and the filter the second.
    Other(IpAddr, IpAddr, String),
}

impl fmt::Display for RuleDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unread(line) => write!(f, "it would not read a line that the filter matches: `{line}`"),
            Self::Wider(line) => write!(f, "it would count a line that the filter does not match: `{line}`"),
            Self::Other(ours, theirs, line) => {
                write!(f, "it would find {ours} where the filter finds {theirs}: `{line}`")
            }
        }
    }
}

/// Lines that are made of a regular expression, and messages that are made of a rule; so many at most of either.
pub(super) const MOST: usize = 300;
/// So many forms of a rule are filled, and each so often.
const MOST_FORMS: usize = 40;
const LEAST_EACH: usize = 16;
/// So many searches may take too many steps.
const MOST_SLOW: usize = 4;

/// Nothing shows that a rule reads what such a regular expression does.
pub(super) const NO_LINE: &str =
    "no line could be made in which it finds an address that stands there, so nothing shows what it reads";

/// A regular expression of a filter, with what it is compared by.
pub(super) struct RuleTrial<'p> {
    pattern: &'p FilterPattern,
    /// Its place in the filter.
    nth: usize,
    /// Lines that it finds.
    specimens: Vec<FilterSpecimen>,
    /// What must not follow in it.
    excluded: Vec<String>,
}

impl<'p> RuleTrial<'p> {
    /// # Errors
    ///
    /// Why it cannot be compared.
    pub(super) fn new(
        pattern: &'p FilterPattern,
        nth: usize,
        specimens: Vec<FilterSpecimen>,
        excluded: Vec<String>,
    ) -> Result<Self, Obstacle> {
        if let Some(why) = pattern.obstacle(nth) {
            return Err(why.clone());
        }
        let mut slow = 0;
        let finds = |specimen: &FilterSpecimen| {
            if slow > MOST_SLOW {
                return false;
            }
            let found = pattern.find(&specimen.dateless, nth, specimen.address);
            slow += usize::from(found == FilterVerdict::TooSlow);
            found == FilterVerdict::Failure(specimen.address)
        };
        let specimens: Vec<FilterSpecimen> = specimens.into_iter().filter(finds).collect();
        match (slow > MOST_SLOW, specimens.is_empty()) {
            (true, _) => Err("it takes too many steps".to_owned()),
            (_, true) => Err(NO_LINE.to_owned()),
            _ => Ok(Self { pattern, nth, specimens, excluded }),
        }
    }

    /// Compares it with the rule in this line of a grammar, which begins with `prefix`: what the server writes before a
    /// message.
    ///
    /// # Errors
    ///
    /// The rule would count what the filter does not, or for another address, or would not read a line that it must.
    pub(super) fn compare(
        &self,
        grammar: &Grammar,
        line: u32,
        prefix: &str,
    ) -> Result<FilterTrial, RuleDifference> {
        let mut trial = FilterTrial::default();
        self.messages(grammar, line, prefix, &mut trial)?;
        self.lines(grammar, &mut trial)?;
        if trial.messages == 0 && trial.skipped.is_empty() {
            trial.skipped = "no message of the rule could be made".to_owned();
        }
        Ok(trial)
    }

    /// Which of the lines of the filter a grammar reads; neither a plain one nor all may be missing.
    fn lines(&self, grammar: &Grammar, trial: &mut FilterTrial) -> Result<(), RuleDifference> {
        trial.lines = self.specimens.len() as u64;
        for specimen in &self.specimens {
            if address(grammar, &specimen.line) == Some(specimen.address) {
                continue;
            }
            if specimen.is_plain {
                return Err(RuleDifference::Unread(specimen.line.clone()));
            }
            trial.unread += 1;
            if trial.unread_example.is_empty() {
                trial.unread_example.clone_from(&specimen.line);
            }
        }
        match trial.unread == trial.lines {
            true => Err(RuleDifference::Unread(std::mem::take(&mut trial.unread_example))),
            false => Ok(()),
        }
    }

    fn messages(
        &self,
        grammar: &Grammar,
        line: u32,
        prefix: &str,
        trial: &mut FilterTrial,
    ) -> Result<(), RuleDifference> {
        let forms: Vec<MessageForm<'_>> = grammar.forms().filter(|form| form.line == line).collect();
        let step = forms.len().div_ceil(MOST_FORMS).max(1);
        let each = (MOST / forms.len().div_ceil(step).max(1)).max(LEAST_EACH);
        let mut slow = 0;
        for form in forms.iter().step_by(step) {
            let Some(base) = self.base(form) else { continue };
            let is_said = |part: &FormPart<'_>| matches!(part, FormPart::Text(text) if text.contains(char::is_alphabetic));
            // The words before that are the server's.
            let first = form.parts.iter().position(is_said).filter(|_| prefix.contains("<word>"));
            for message in base.variations(form, first.unwrap_or(0), &self.excluded).into_iter().take(each) {
                let Some(ours) = address(grammar, &message.text) else { continue };
                trial.messages += 1;
                match self.filter(&message, ours) {
                    // What fools the filter and not the rule is right.
                    FilterVerdict::Failure(theirs)
                        if theirs == ours || theirs.to_string() == FRAMED && ours == base.address => {}
                    FilterVerdict::Failure(theirs) => {
                        return Err(RuleDifference::Other(ours, theirs, message.text));
                    }
                    FilterVerdict::Nothing if !message.is_width || ours.to_string() == FRAMED => {
                        return Err(RuleDifference::Wider(message.text));
                    }
                    FilterVerdict::Nothing if trial.wider_example.is_empty() => {
                        trial.wider_example = message.text;
                    }
                    FilterVerdict::Nothing => {}
                    FilterVerdict::TooSlow => slow += 1,
                }
                if slow > MOST_SLOW {
                    trial.skipped = "it takes too many steps".to_owned();
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// What the filter finds in a message. Spaces at its beginning depend on the date before it, which no attacker writes.
    fn filter(&self, message: &FormMessage, ours: IpAddr) -> FilterVerdict {
        let trimmed = message.dateless.trim_start();
        let forms = [message.dateless.clone(), trimmed.to_owned(), format!(" {trimmed}")];
        let found = forms.into_iter().map(|line| self.pattern.find(&line, self.nth, ours));
        let mut found: Vec<FilterVerdict> = found.collect();
        match found.iter().position(|found| *found != FilterVerdict::Nothing) {
            Some(at) => found.swap_remove(at),
            None => FilterVerdict::Nothing,
        }
    }

    /// A line of the filter in this form.
    fn base<'f>(&self, form: &MessageForm<'f>) -> Option<FilledForm> {
        self.specimens.iter().find_map(|specimen| FilledForm::of(form, specimen))
    }
}

/// The address for which a grammar counts a message.
fn address(grammar: &Grammar, message: &str) -> Option<IpAddr> {
    let found = grammar.read(message.as_bytes()).filter(|found| !found.is_login())?;
    found.address().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::super::access;
    use super::super::convert::{self, RegexOutcome};
    use super::super::filter::FilterRegexes;
    use super::super::library::{self, ConvertedFilter, LineOrigin};
    use super::super::specimen::{self, SpecimenFrame};
    use super::*;
    use crate::grammar::{Lists, SHIPPED};

    fn filter(fail: &str) -> FilterRegexes {
        FilterRegexes { fail: vec![fail.to_owned()], ..FilterRegexes::default() }
    }

    /// A filter of lines in a file, or in an access log.
    fn made(fail: &str) -> ConvertedFilter {
        let (origin, lists) = (
            LineOrigin { programs: vec!["x".to_owned()], is_file: true, ..LineOrigin::default() },
            Lists::shipped(),
        );
        let nginx = SHIPPED.iter().find(|(name, _)| *name == "nginx").unwrap();
        match fail.starts_with("^<HOST>") {
            true => access::grammar("x", *nginx, &filter(fail), &lists),
            false => library::grammar("x", &filter(fail), &origin, &lists, &|_| Ok(())),
        }
    }

    /// What becomes of a regular expression: why it is refused, or what its note says.
    #[track_caller]
    fn check(fail: &str, want: &str) {
        let made = made(fail);
        let got = match made.refused.first() {
            Some(refused) => format!("refused: {}", refused.why),
            None => made.trial.notes().join("; "),
        };
        assert!(if want.is_empty() { got.is_empty() } else { got.contains(want) }, "{fail}: {got}");
    }

    /// What the comparison says of a rule that was written by hand for a regular expression.
    fn compared(fail: &str, rule: &str) -> Result<FilterTrial, RuleDifference> {
        let filter = filter(fail);
        let Ok(RegexOutcome::Rule(draft)) = convert::rule(&filter, fail) else { panic!("{fail}") };
        let frame = SpecimenFrame { before: draft.before, is_unclosed: !draft.is_closed, date: None };
        let pattern = FilterPattern::new(&filter, true).unwrap();
        let specimens = specimen::specimens(&draft.nodes, frame, MOST);
        let trial = RuleTrial::new(&pattern, 0, specimens, draft.excluded()).unwrap();
        let text = format!("program: x\nauth-failure:\n    {rule}\n");
        let (grammar, _) = Grammar::load("x", "x", &text, &Lists::shipped()).unwrap();
        trial.compare(&grammar, 3, "")
    }

    #[test]
    fn a_rule_that_reads_more_is_found_out() {
        for (fail, rule) in [
            (r"^bad \w+ from <HOST>$", "bad <text> from <ip>"),
            (r"^req (?!health)\S+ denied <HOST>$", "req <word> denied <ip>"),
            (r"^fail, \S+ ip <HOST>$", "fail<text> ip <ip>"),
        ] {
            let wider = compared(fail, rule);
            assert!(matches!(wider, Err(RuleDifference::Wider(_))), "{rule}: {wider:?}");
        }
        // A name with a space chooses the address here, and not there.
        let other = compared(r"^x .* from <HOST>", "x <word> from <ip>{ <text>}?");
        let framed: IpAddr = FRAMED.parse().unwrap();
        assert!(matches!(other, Err(RuleDifference::Other(ours, _, _)) if ours == framed), "{other:?}");
        let unread = compared(r"^no (?:name|key) from <HOST>$", "no name from <ip>");
        assert!(matches!(unread, Err(RuleDifference::Unread(_))), "{unread:?}");
        let same = compared(r"^no \S+ from <HOST>$", "no <word> from <ip>").unwrap();
        assert!(same.lines > 0 && same.messages > 0 && same.unread == 0, "{same:?}");
    }

    #[test]
    fn what_would_count_a_bystander_is_refused() {
        for fail in [
            r"^\s*bad(?: \w+=\w+)* from <HOST>$",
            r"^\s*(?:\[\w+\] )+login failed <HOST>$",
            r"^\s*fail(?:, \S+)* ip <HOST>$",
            r"^\s*req (?!GET /health)\S+ \S+ denied <HOST>",
        ] {
            check(fail, "refused: ");
        }
    }

    #[test]
    fn what_would_miss_plain_lines_is_refused() {
        check(r#"^.*"remote_ip":"<HOST>",.*"status":40[13],.*$"#, "refused: ");
        let unread = "refused: it would not read a line that the filter matches: ";
        check(r"^\s*(?:\[\]|\(\)|<>)?\s*auth failed for \S+ from <HOST>$", unread);
        check(r#"^<HOST> .*"https?://(?:spam|evil)\.example/.*""#, "which may be the referer");
    }

    /// Each is read as its filter wants, on lines that are made of the regular expression.
    #[test]
    fn conditions_read_what_their_regular_expression_does() {
        for fail in [
            r#"^<HOST> .* "POST /login HTTP/1.." 200"#,
            r#"^<HOST> - \S+ \[.*\] "-?" (400|408)"#,
            r#"^<HOST> -.*"(GET|POST|HEAD).*HTTP.*" 404 .*$"#,
            r#"^<HOST> \S+ \S+ \[[^\]]*\] "[A-Z]+ [^"]*/\.env[^"]*" \d+ \d+ "[^"]*" "[^"]*(?:sqlmap|nikto)[^"]*"$"#,
        ] {
            let made = made(fail);
            assert_eq!(
                (made.converted, made.trial.unread, &*made.trial.skipped),
                (1, 0, ""),
                "{fail}: {made:#?}"
            );
        }
    }

    /// Only what a page can choose for its visitors is left out.
    #[test]
    fn a_number_behind_anything_may_be_the_status() {
        let made = made("^<HOST>.*404");
        assert!(made.text.contains("    status is \"404\"\n") && made.refused.is_empty(), "{made:#?}");
        assert!(made.trial.unread_example.contains("\"https://404\""), "{made:#?}");
    }

    #[test]
    fn what_no_line_can_be_made_of_is_refused() {
        let no_line = format!("refused: {NO_LINE}");
        // It finds 2.0.2.1 in `192.0.2.1`.
        check(".*<HOST>", &no_line);
        check("^.*<HOST>.*$", &no_line);
        // The date stands at the end.
        check("^auth fail from <HOST> at $", &no_line);
        check(r#"^<HOST> .*"GET /x" 404 .*" 200 "#, "refused: ");
    }

    #[test]
    fn what_misses_some_lines_is_said() {
        let padded = "% are not read, such as `2026-11-22 05:40:38 denied  for eve @192.0.2.1`";
        check(r"^\s*denied\s+(?:for\s+)?<F-USER>\S*</F-USER>\s+@<HOST>$", padded);
        let inside = "% are not read, such as `ERROR 2026-11-22 05:40:38 login failed from 192.0.2.1`";
        check(r"^ERROR\s+login failed from <HOST>$", inside);
        check(".*Auth-Failure ip <HOST> username .*", "% are not read, such as");
        check("^<HOST> .*sqlmap", "% are not read, such as");
    }

    #[test]
    fn what_agrees_is_left_alone() {
        check(r"^\s*login failed from <HOST>$", "");
        check(r"^\s*msg (?:(?! from ).)* from <HOST>$", "");
        check(r"^\s*login failed for \S+ from <HOST>", "");
        check(r#"^\s*user "[^"]*" \[<HOST>\]: denied$"#, "");
        check(r#"^\s*denied [^"]* from <HOST>$"#, "");
        // What may follow the address.
        let made = made("^Failed login from <HOST>");
        assert!(made.text.contains("from <peer>{ <text>|,<text>|"), "{}", made.text);
        assert_eq!((made.trial.unread, made.trial.skipped.as_str()), (0, ""));
    }

    #[test]
    fn what_only_adds_characters_is_a_note() {
        check(r"^\s*ban code=4\d\d ip=<HOST>$", "reads more than its filter, such as");
        check(r#"^<HOST> .*"POST /wp-login\.php"#, "reads more than its filter, such as");
    }

    #[test]
    fn a_user_agent_is_not_taken_for_a_request() {
        let made = made(r#"^<HOST> .* "(GET|POST) .*(\.php|\.asp).*" (404|403)"#);
        assert!(made.converted == 1 && !made.text.contains("agent has"), "{}", made.text);
    }

    #[test]
    fn what_is_hostile_has_an_end() {
        for fail in [
            r"^\s*(?:a*)*(?:a*)*b <HOST>$",
            r"^\s*x (?=a)(?:a|a)*(?:a|a)*c <HOST>$",
            r"^(?:(?:x{0,60}){0,60}){0,60} <HOST>",
        ] {
            let made = made(fail);
            assert!(made.converted == 0 || !made.trial.skipped.is_empty() || made.trial.lines > 0, "{fail}");
        }
    }

    #[test]
    fn lines_of_a_regular_expression_match_it() {
        for (fail, least) in [
            (r"^\s*login failed for \S+ from <HOST>$", 20),
            (r"Failed (?:password|publickey) for (?:invalid user )?.* from <HOST>(?: port \d+)?", 200),
            (r"^\[\] (?:a|b|c){1,2}\s+<F-USER>[^']*</F-USER> \(<HOST>\):.+$", 40),
            (r#"^.*"ip": "<HOST>", "code": 4\d\d\b"#, 20),
        ] {
            let filter = filter(fail);
            let Ok(RegexOutcome::Rule(draft)) = convert::rule(&filter, fail) else { panic!("{fail}") };
            let frame = SpecimenFrame {
                before: draft.before,
                is_unclosed: !draft.is_closed,
                date: Some("2026-11-22 05:40:38"),
            };
            let all = specimen::specimens(&draft.nodes, frame, MOST);
            let pattern = FilterPattern::new(&filter, true).unwrap();
            let is_found = |one: &&FilterSpecimen| {
                pattern.find(&one.dateless, 0, one.address) == FilterVerdict::Failure(one.address)
            };
            let found = all.iter().filter(is_found).count();
            assert!(found >= least && found * 2 >= all.len(), "{fail}: {found} of {}", all.len());
        }
    }
}
