//! Makes grammars of filters, and lets the proof accept or refuse each rule.

use super::compare::{self, FilterTrial, NO_LINE, RuleDifference, RuleTrial};
use super::convert::{self, RegexOutcome, RuleDraft};
use super::dates::{self, DateForm};
use super::faulty;
use super::filter::FilterRegexes;
use super::ignored;
use super::pattern::FilterPattern;
use super::piece::{Hole, RuleField, RulePiece, closed_anyhow, freed};
use super::printed::printed;
use super::sample::SAMPLE;
use super::specimen::{self, SpecimenFrame};
use crate::grammar::{Fault, Grammar, Lists, Severity};

/// Whose lines a filter reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LineOrigin {
    /// The programs, of which each may hold a `*`.
    pub(super) programs: Vec<String>,
    /// The units that they must come from; none for any.
    pub(super) units: Vec<String>,
    /// The users, besides root, who may have written them.
    pub(super) users: Vec<String>,
    /// Whether the lines are those of a file, with their dates.
    pub(super) is_file: bool,
}

/// A grammar made of a filter.
#[derive(Clone, Debug, Default)]
pub(super) struct ConvertedFilter {
    /// Its text; empty if no regular expression became a rule.
    pub(super) text: String,
    /// How many regular expressions became rules.
    pub(super) converted: usize,
    /// How many mark lines that are not offences by themselves, and are not needed.
    pub(super) passed: usize,
    /// Those that became none, and why.
    pub(super) refused: Vec<RefusedRegex>,
    /// The only category.
    pub(super) category: String,
    /// Where its rules read more than the filter.
    pub(super) notes: Vec<String>,
    /// How they agree with the filter.
    pub(super) trial: FilterTrial,
}

/// A regular expression that became no rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RefusedRegex {
    /// The regular expression.
    pub(super) regex: String,
    /// The construct that stood in the way, or the message that would have fooled the rule.
    pub(super) why: String,
    /// The rule that the proof refused, if there was one.
    pub(super) rule: Option<String>,
}

/// A rule, with what a line of it must not say, and lines that it reads.
struct ProvedRule {
    text: String,
    /// The same without what may stand before a message.
    body: String,
    conditions: Vec<String>,
    samples: Vec<String>,
}

impl ProvedRule {
    /// Where it reads less than its regular expression, which may begin with anything, or is fooled like that.
    fn notes(&self, is_open: bool) -> impl Iterator<Item = &'static str> {
        let less = "reads lines that begin with the message, or with a date and up to two words before it, where the filter \
                    wants `.*`";
        let fooled = "a name with a space before the address chooses it, since any text may follow the address: end the \
                      failregex with `$`";
        let is_less = is_open && !self.text.starts_with("<text>");
        let address = ["<ip>", "<peer>"].iter().find_map(|hole| self.body.split_once(hole));
        let is_fooled =
            address.is_some_and(|(before, after)| before.contains("word>") && after.contains("<text>"));
        [(is_less, less), (is_fooled, fooled)].into_iter().filter(|(is, _)| *is).map(|(_, note)| note)
    }
}

/// Lets a rule read no line that holds one of these texts; lines with them, to try it.
///
/// # Errors
///
/// What stands in the way. A grammar does not see the host and the program before a message, which fail2ban looks at, too.
fn excluded(draft: &mut RuleDraft, texts: &[String], origin: &LineOrigin) -> Result<Vec<String>, String> {
    let is_headed = draft.has_header || !origin.is_file;
    for text in texts.iter().filter(|_| is_headed) {
        let is_its = |program: &String| {
            let program = program.trim_end_matches("(*)");
            program.contains(text.as_str())
                || text
                    .strip_prefix(program)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(['[', ':']))
        };
        if origin.programs.iter().any(is_its) {
            return Err(format!("an `ignoreregex` for the program before the message: `{text}`"));
        }
        draft
            .notes
            .push(format!("looks for `{text}` of its `ignoreregex` in the message, not in the host's name"));
    }
    ignored::exclude(draft, texts)
}

/// What may stand before a message in a file: a date, perhaps in brackets, and up to two words.
const STAMP: &str = "{<time>{| <word>| <word> <word>} |[<time>]{ |[<word>] |[<word>][<word>] | [<word>] }}?";

/// Makes a grammar of a filter. Nothing of it runs but the proof. `beside` is asked why a grammar of this text cannot be
/// beside the others that read the same lines.
pub(super) fn grammar(
    name: &str,
    filter: &FilterRegexes,
    origin: &LineOrigin,
    lists: &Lists,
    beside: &dyn Fn(&str) -> Result<(), String>,
) -> ConvertedFilter {
    let mut converted = ConvertedFilter { category: category(filter), ..ConvertedFilter::default() };
    let ignored = ignored(filter);
    let date = dates::form(&filter.date, lists);
    let pattern = FilterPattern::new(filter, origin.is_file);
    let mut rules: Vec<ProvedRule> = Vec::new();
    for (nth, regex) in filter.fail.iter().enumerate() {
        let mut refuse = |why: String, rule: Option<String>| {
            converted.refused.push(RefusedRegex { regex: regex.clone(), why, rule });
        };
        if let Some(why) = faulty::fault(filter, regex) {
            refuse(why, None);
            continue;
        }
        let made = convert::rule(filter, regex);
        let trial = match (&made, &pattern) {
            (Ok(RegexOutcome::Rule(draft)), Ok(pattern)) => trial(draft, (pattern, nth), (origin, &date)),
            (_, Err(why)) => Err(why.clone()),
            _ => Err(String::new()),
        };
        let (draft, exempt) = match (made, ignored.clone()) {
            (Ok(RegexOutcome::NoFailure), _) => {
                converted.passed += 1;
                continue;
            }
            (Err(why), _) | (Ok(_), Err(why)) => {
                refuse(why, None);
                continue;
            }
            (Ok(RegexOutcome::Rule(mut draft)), Ok(texts)) => match excluded(&mut draft, &texts, origin) {
                Ok(exempt) => (draft, exempt),
                Err(why) => {
                    refuse(why, None);
                    continue;
                }
            },
        };
        let begins_with_date = origin.is_file && (draft.follows_date || draft.has_header);
        if let (DateForm::Unknown(pattern), true) = (&date, begins_with_date) {
            refuse(format!("a `datepattern` that no rule can read: `{pattern}`"), None);
            continue;
        }
        if let Err(why) = &trial
            && why == NO_LINE
        {
            refuse(why.clone(), None);
            continue;
        }
        let (mut notes, is_open) = (draft.notes.clone(), draft.is_open);
        let whose = (origin, &date);
        let checks = (trial.as_ref(), beside, lists);
        match proved(name, (draft, &exempt), whose, &converted.category, &rules, checks) {
            Ok((rule, trial)) => {
                notes.extend(rule.notes(is_open).map(str::to_owned));
                rules.push(rule);
                converted.trial.add(trial);
                let news = notes.into_iter().filter(|note| !converted.notes.contains(note));
                converted.notes.extend(news.collect::<Vec<_>>());
            }
            Err((why, rule)) => refuse(why, Some(rule)),
        }
    }
    converted.converted = rules.len();
    if !rules.is_empty() {
        converted.text = text(name, origin, &converted.category, &rules, true);
    }
    converted
}

/// The texts that make a line none after all.
fn ignored(filter: &FilterRegexes) -> Result<Vec<String>, String> {
    filter.ignore.iter().map(|regex| ignored::ignored_text(regex)).collect()
}

/// What a form of a rule is checked by: its regular expression, the grammars that read the same lines, the lists of words.
type RuleChecks<'c, 'p> =
    (Result<&'c RuleTrial<'p>, &'c String>, &'c dyn Fn(&str) -> Result<(), String>, &'c Lists);

/// Finds a form of a rule that the proof accepts beside the others; the strictest reason if there is none.
fn proved(
    name: &str,
    (draft, exempt): (RuleDraft, &[String]),
    (origin, date): (&LineOrigin, &DateForm),
    category: &str,
    others: &[ProvedRule],
    (trial, beside, lists): RuleChecks<'_, '_>,
) -> Result<(ProvedRule, FilterTrial), (String, String)> {
    let (mut first, mut conflict, mut differs) = (None, None, None);
    let mut best: Option<(ProvedRule, FilterTrial)> = None;
    let mut forms = forms(&draft, origin, date);
    // No line begins there: whatever `.*` stands for before it is not only a date.
    let begins_within = |text: &str| text.starts_with(['"', ',', ':', '=', '&', ';', '?', '|']);
    if draft.is_open && matches!(draft.pieces.first(), Some(RulePiece::Text(text)) if begins_within(text)) {
        forms.retain(|(prefix, ..)| prefix == "<text>");
    }
    for (prefix, body, conditions) in forms {
        let rule = ProvedRule { text: format!("{prefix}{body}"), body, conditions, samples: Vec::new() };
        let text = rule.text.clone();
        let all: Vec<&ProvedRule> = others.iter().chain([&rule]).collect();
        let grammar = text_of(name, origin, category, &all, false);
        let line = (1..).zip(grammar.lines()).find(|(_, line)| line.trim_start() == text);
        let loaded = match Grammar::load(name, name, &grammar, lists) {
            Ok((grammar, _)) => (grammar, line.map_or(0, |(line, _)| line)),
            Err(faults) => {
                first.get_or_insert((first_error(&faults), text));
                continue;
            }
        };
        match tried(rule, &prefix, &loaded, (&draft, exempt), date, trial) {
            Ok((rule, trial)) => {
                if let Err(why) = beside(&grammar) {
                    conflict.get_or_insert((why, text));
                    continue;
                }
                let is_done = trial.unread == 0 || trial.lines == 0;
                if best.as_ref().is_none_or(|(_, known)| trial.unread < known.unread) {
                    best = Some((rule, trial));
                }
                if is_done {
                    break;
                }
            }
            Err(FormFault::Spared(why)) => return Err((why, text)),
            Err(FormFault::Useless(why)) => _ = first.get_or_insert((why, text)),
            Err(FormFault::Differs(difference)) => {
                if differs.as_ref().is_none_or(|(known, _)| *known < difference) {
                    differs = Some((difference, text));
                }
            }
        }
    }
    let differs = differs.map(|(difference, rule)| (difference.to_string(), rule));
    best.ok_or_else(|| conflict.or(differs).or(first).unwrap_or_default())
}

/// Why a form of a rule that the proof accepts is not taken.
enum FormFault {
    /// It reads a line that the filter spares, as any other form would.
    Spared(String),
    /// It reads no line that it must.
    Useless(String),
    /// It differs from its regular expression.
    Differs(RuleDifference),
}

/// Tries a form, in its line of a grammar, on lines that it must read and must not read, and compares it.
fn tried(
    mut rule: ProvedRule,
    prefix: &str,
    (grammar, line): &(Grammar, u32),
    (draft, exempt): (&RuleDraft, &[String]),
    date: &DateForm,
    trial: Result<&RuleTrial<'_>, &String>,
) -> Result<(ProvedRule, FilterTrial), FormFault> {
    let reads = |line: &&String| {
        let found = grammar.read(line.as_bytes());
        found.is_some_and(|found| found.address().is_some_and(|found| found.to_string() == SAMPLE))
    };
    let (stamp, example) = stamp(date);
    let stamped = |line: &String| match [stamp, &*any_stamp(date)].contains(&prefix) {
        true => format!("{example}{line}"),
        false => line.trim_start().to_owned(),
    };
    if let Some(line) = exempt.iter().map(stamped).find(|line| reads(&line)) {
        let why = format!("the rule would read a line that the `ignoreregex` spares: `{line}`");
        return Err(FormFault::Spared(why));
    }
    rule.samples = draft.samples.iter().map(stamped).filter(|line| reads(&line)).collect();
    if rule.samples.is_empty() {
        let line = draft.samples.first().map_or("", String::as_str);
        return Err(FormFault::Useless(format!("the rule would not read a line that it must: `{line}`")));
    }
    let trial = match trial {
        Ok(trial) => trial.compare(grammar, *line, prefix).map_err(FormFault::Differs)?,
        Err(why) => FilterTrial { skipped: why.clone(), ..FilterTrial::default() },
    };
    Ok((rule, trial))
}

/// What a rule that is made of a regular expression is compared by.
fn trial<'p>(
    draft: &RuleDraft,
    (pattern, nth): (&'p FilterPattern, usize),
    (origin, date): (&LineOrigin, &DateForm),
) -> Result<RuleTrial<'p>, String> {
    let frame = SpecimenFrame {
        before: draft.before,
        is_unclosed: !draft.is_closed,
        date: origin.is_file.then(|| stamp(date).1),
    };
    let specimens = specimen::specimens(&draft.nodes, frame, compare::MOST);
    RuleTrial::new(pattern, nth, specimens, draft.excluded())
}

pub(super) fn first_error(faults: &[Fault]) -> String {
    let mut errors = faults.iter().filter(|fault| fault.severity == Severity::Error);
    errors.next().map(|fault| fault.what.clone()).unwrap_or_default()
}

/// The forms of a rule to try, the widest first: what may stand before a message, the rule, and its conditions.
fn forms(draft: &RuleDraft, origin: &LineOrigin, date: &DateForm) -> Vec<(String, String, Vec<String>)> {
    let begins_with_time = matches!(
        draft.pieces.get(..2),
        Some([RulePiece::Text(text), RulePiece::Field(RuleField { hole: Hole::Time, .. })]) if text == "["
    );
    let (stamp, _) = stamp(date);
    let any = any_stamp(date);
    let maybe = format!("{{{any} }}?");
    let mut prefixes: Vec<&str> = Vec::new();
    if draft.is_open {
        prefixes.push("<text>");
    }
    match () {
        () if !origin.is_file || begins_with_time => {}
        () if draft.follows_date && draft.must_follow() => prefixes.extend([&any, stamp, &maybe]),
        () if draft.follows_date => prefixes.extend([&maybe, &any, stamp]),
        () if stamp == "<time>" && (draft.is_open || draft.has_header) => prefixes.extend([STAMP, &maybe]),
        () => prefixes.push(&maybe),
    }
    if !(origin.is_file && draft.follows_date) {
        prefixes.push("");
    }
    let mut forms = Vec::new();
    for narrowing in 0..3 {
        let pieces = narrowed(&draft.pieces, narrowing);
        if narrowing > 0 && pieces == draft.pieces {
            continue;
        }
        let kinds = [Some(pieces.clone()), freed(&pieces)].into_iter().flatten();
        let kinds = kinds.flat_map(|pieces| closed_anyhow(&pieces).into_iter().chain([pieces]));
        for (rule, conditions) in kinds.map(|pieces| printed(&pieces)) {
            for prefix in &prefixes {
                // Free text takes in what is free beside it.
                let is_joint = *prefix == "<text>" && rule.starts_with('<');
                let rule = if [stamp, &any].contains(prefix) { rule.as_str() } else { rule.trim_start() };
                if !is_joint {
                    forms.push(((*prefix).to_owned(), rule.to_owned(), conditions.clone()));
                }
            }
        }
    }
    forms
}

/// The part of a rule that reads a date: of the filter's form or, since logs do not always have that, of a usual one.
fn any_stamp(date: &DateForm) -> String {
    match date {
        DateForm::Own(rule, _) => format!("{{{rule}|<time>}}"),
        DateForm::Usual | DateForm::Unknown(_) => "<time>".to_owned(),
    }
}

/// The part of a rule that reads a date, and such a date.
fn stamp(date: &DateForm) -> (&str, &str) {
    match date {
        DateForm::Own(rule, example) => (rule, example),
        DateForm::Usual | DateForm::Unknown(_) => ("<time>", "2026-11-22 05:40:38"),
    }
}

/// The pieces with names as words, first those before the address, then all.
fn narrowed(pieces: &[RulePiece], narrowing: u8) -> Vec<RulePiece> {
    let address = pieces.iter().position(RulePiece::has_address).unwrap_or_default();
    let until = match narrowing {
        0 => 0,
        1 => address,
        _ => pieces.len().saturating_sub(1),
    };
    let narrow = |(at, piece): (usize, &RulePiece)| {
        let before = at.checked_sub(1).and_then(|at| pieces.get(at));
        match (piece, before) {
            (RulePiece::Field(field), before)
                if field.hole == Hole::Free && at < until && is_name(field, before) =>
            {
                RulePiece::Field(RuleField { hole: Hole::Word, ..field.clone() })
            }
            _ => piece.clone(),
        }
    };
    pieces.iter().enumerate().map(narrow).collect()
}

/// Whether free text behind this is a name, in which most servers allow no space.
fn is_name(field: &RuleField, before: Option<&RulePiece>) -> bool {
    let before = if let Some(RulePiece::Text(text)) = before { text.as_str() } else { "" };
    let before = before.trim_end().to_lowercase();
    field.is_user
        || ["user", "user=", "for", "login", "name", "'", "\"", "`"].iter().any(|end| before.ends_with(end))
}

fn category(filter: &FilterRegexes) -> String {
    let text = filter.fail.concat().to_lowercase();
    let is_login =
        ["auth", "login", "log in", "password", "user", "credential"].iter().any(|word| text.contains(word));
    if is_login { "auth-failure" } else { "bad-request" }.to_owned()
}

fn text(name: &str, origin: &LineOrigin, category: &str, rules: &[ProvedRule], tests: bool) -> String {
    text_of(name, origin, category, &rules.iter().collect::<Vec<_>>(), tests)
}

fn text_of(name: &str, origin: &LineOrigin, category: &str, rules: &[&ProvedRule], tests: bool) -> String {
    let mut text = String::new();
    if tests {
        text += &format!("{HEADER}# Made of fail2ban's filter `{name}`.\n");
    }
    text += &format!("program: {}\n", origin.programs.join(" "));
    if !origin.units.is_empty() {
        text += &format!("unit: {}\n", origin.units.join(" "));
    }
    if !origin.users.is_empty() {
        text += &format!("user: {}\n", origin.users.join(" "));
    }
    let (plain, shaped): (Vec<&&ProvedRule>, Vec<&&ProvedRule>) =
        rules.iter().partition(|rule| rule.conditions.is_empty());
    for (nth, rule) in (1..).zip(shaped) {
        text += &format!(
            "\nshape line{nth}:\n    {}\n{category} in line{nth}:\n    {}\n",
            rule.text,
            rule.conditions.join(" and ")
        );
    }
    if !plain.is_empty() {
        text += &format!("\n{category}:\n");
        plain.iter().for_each(|rule| text += &format!("    {}\n", rule.text));
    }
    if tests {
        text += "\ntest:\n";
        for sample in rules.iter().filter_map(|rule| rule.samples.last()) {
            text += &format!("    {SAMPLE}   {sample}\n");
        }
    }
    text
}

/// What the files begin with that `import` makes.
pub(super) const HEADER: &str = "# Made by `banstream import fail2ban --write`, which replaces it; `banstream import fail2ban --undo` removes it.\n";
