//! Makes grammars of filters for access logs: each extends the grammar of the server.

use super::super::compare::FilterTrial;
use super::super::convert::with_prefix;
use super::super::faulty;
use super::super::filter::FilterRegexes;
use super::super::library::{ConvertedFilter, HEADER, RefusedRegex, first_error};
use super::super::pattern::FilterPattern;
use super::super::sample::SAMPLE;
use super::AccessCase;
use super::part::{has_full_stop, parsed};
use super::trial::AccessTrial;
use crate::grammar::{Grammar, Lists};

/// Said of a `.` that stands where a name has one.
const FULL_STOP: &str = "takes a `.` in the name of a file or a version for a full stop, where the filter wants any character: \
                         write `\\.`";

/// Makes a grammar of a filter for the access log of a web server, which extends the one with this name and text.
pub(in super::super) fn grammar(
    name: &str,
    base: (&str, &str),
    filter: &FilterRegexes,
    lists: &Lists,
) -> ConvertedFilter {
    let mut converted = ConvertedFilter { category: name.to_owned(), ..ConvertedFilter::default() };
    let pattern = FilterPattern::new(filter, true);
    let mut kept: Vec<AccessCase> = Vec::new();
    for (nth, regex) in filter.fail.iter().enumerate() {
        let mut refuse = |why: String, rule: Option<String>| {
            converted.refused.push(RefusedRegex { regex: regex.clone(), why, rule });
        };
        if let Some(why) = faulty::fault(filter, regex) {
            refuse(why, None);
            continue;
        }
        let text = with_prefix(filter, regex);
        let made = super::cases(&text, &filter.ignore).and_then(|cases| Ok((cases, parsed(&text)?)));
        let (cases, nodes) = match made {
            Ok(made) => made,
            Err(why) => {
                refuse(why, None);
                continue;
            }
        };
        let trial = pattern.as_ref().map_err(Clone::clone);
        let trial = trial.and_then(|pattern| AccessTrial::new(pattern, nth, &nodes, &cases));
        match agreed(name, base, cases, trial.as_ref(), lists) {
            Ok((cases, trial)) => {
                converted.converted += 1;
                let note = FULL_STOP.to_owned();
                if has_full_stop(&text) && !converted.notes.contains(&note) {
                    converted.notes.push(note);
                }
                converted.trial.add(trial);
                let news = cases.into_iter().filter(|case| !kept.contains(case));
                kept.extend(news.collect::<Vec<_>>());
            }
            Err((why, rule)) => refuse(why, Some(rule)),
        }
    }
    if !kept.is_empty() {
        converted.text =
            format!("{HEADER}# Made of fail2ban's filter `{name}`.\n{}", text_of(name, base.0, &kept));
    }
    converted
}

/// Those cases of a regular expression that hold for no line that it does not match, if they are enough.
///
/// # Errors
///
/// What is wrong with one of them, and its conditions.
fn agreed(
    name: &str,
    base: (&str, &str),
    cases: Vec<AccessCase>,
    trial: Result<&AccessTrial<'_>, &String>,
    lists: &Lists,
) -> Result<(Vec<AccessCase>, FilterTrial), (String, String)> {
    let load = |cases: &[AccessCase]| {
        Grammar::load_with(name, name, &text_of(name, base.0, cases), Some(base.1), lists)
            .map(|(grammar, _)| grammar)
            .map_err(|faults| first_error(&faults))
    };
    let (mut kept, mut sum, mut wider) = (Vec::new(), FilterTrial::default(), None);
    for case in cases {
        let grammar = load(std::slice::from_ref(&case)).map_err(|why| (why, case.conditions.clone()))?;
        match trial.map(|trial| trial.messages(&grammar, name)) {
            Ok(Err(why)) => _ = wider.get_or_insert((why, case.conditions)),
            Ok(Ok(trial)) => {
                sum.add(trial);
                kept.push(case);
            }
            Err(why) => {
                sum.skipped.clone_from(why);
                kept.push(case);
            }
        }
    }
    if let (Ok(trial), [first, ..]) = (trial, kept.as_slice()) {
        let conditions = first.conditions.clone();
        let grammar = load(&kept).map_err(|why| (why, conditions.clone()))?;
        match trial.lines(&grammar, name) {
            Ok(trial) => sum.add(trial),
            Err(why) => return Err(wider.unwrap_or((why, conditions))),
        }
    }
    if kept.is_empty() { Err(wider.unwrap_or_default()) } else { Ok((kept, sum)) }
}

fn text_of<'c>(name: &str, base: &str, cases: impl IntoIterator<Item = &'c AccessCase> + Clone) -> String {
    let mut text = format!("extends: {base}\n\n{name} in access:\n");
    cases.clone().into_iter().for_each(|case| text += &format!("    {}\n", case.conditions));
    text += "\ntest:\n";
    cases.into_iter().for_each(|case| text += &format!("    {SAMPLE}   {}\n", case.sample));
    text
}
