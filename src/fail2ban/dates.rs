//! How a filter's `datepattern` writes time, as a rule has it.

use crate::grammar::{Grammar, Lists};

/// How time is written before a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum DateForm {
    /// As fail2ban finds it by itself.
    Usual,
    /// As this part of a rule, with a date of that form.
    Own(String, String),
    /// In a way that no rule can read.
    Unknown(String),
}

/// What a `datepattern` says.
pub(super) fn form(pattern: &str, lists: &Lists) -> DateForm {
    let own: Vec<&str> = pattern.lines().map(str::trim).filter(|line| line.contains('%')).collect();
    let Some(first) = own.first() else { return DateForm::Usual };
    let found = own.iter().find_map(|line| example(line));
    let found = found.map(|example| (rule(&example, lists).unwrap_or_else(|| spelt(&example)), example));
    match found {
        Some((rule, _)) if rule == "<time>" => DateForm::Usual,
        Some((rule, example)) => DateForm::Own(rule, example),
        None => DateForm::Unknown((*first).to_owned()),
    }
}

/// A date in the form of a pattern; `None` where that is more than a date.
fn example(pattern: &str) -> Option<String> {
    let pattern = pattern.trim_start_matches("{^LN-BEG}").trim_start_matches('^');
    let (mut date, mut rest) = (String::new(), pattern);
    while let Some(c) = rest.chars().next() {
        rest = rest.get(c.len_utf8()..)?;
        match c {
            '%' => {
                let letter = rest.strip_prefix("Ex").unwrap_or(rest).chars().next()?;
                rest = rest.strip_prefix("Ex").unwrap_or(rest).get(letter.len_utf8()..)?;
                date += directive(letter)?;
            }
            '\\' => {
                let next = rest.chars().next()?;
                rest = rest.get(next.len_utf8()..)?;
                match next {
                    's' => date.push(' '),
                    c if c.is_alphanumeric() => return None,
                    c => date.push(c),
                }
            }
            // What may be missing is.
            '(' if rest.starts_with("?:") && !rest.contains("?:(") => {
                rest = rest.split_once(")?").map(|(_, after)| after)?;
            }
            '(' if rest.starts_with("?P=") => {
                date.push('-');
                rest = rest.split_once(')').map(|(_, after)| after)?;
            }
            '(' if rest.starts_with("?P<") => rest = rest.split_once('>').map(|(_, after)| after)?,
            '(' | ')' => {}
            '[' => {
                let (inside, after) = rest.split_once(']')?;
                let chosen = inside.chars().next().filter(|c| *c != '^' && *c != '\\')?;
                date.push(if inside.contains(' ') { ' ' } else { chosen });
                rest = after;
            }
            '.' | '*' | '+' | '?' | '{' | '|' | '$' => return None,
            plain => date.push(plain),
        }
    }
    (!date.trim().is_empty()).then_some(date)
}

/// What stands for a letter of strptime(3) in a date.
fn directive(letter: char) -> Option<&'static str> {
    Some(match letter {
        'Y' => "2026",
        'y' => "26",
        'm' => "11",
        'd' => "22",
        'b' => "Nov",
        'a' => "Sun",
        'H' | 'I' => "05",
        'M' => "40",
        'S' => "38",
        'f' => "123",
        'z' => "+0000",
        'p' => "AM",
        _ => return None,
    })
}

/// The part of a rule that reads such a date: `<time>`, with the text around it.
fn rule(example: &str, lists: &Lists) -> Option<String> {
    let places: Vec<usize> = example.char_indices().map(|(at, _)| at).chain([example.len()]).collect();
    let starts = places.iter().copied().take(4);
    starts.flat_map(|start| places.iter().rev().take(3).map(move |end| (start, *end))).find_map(
        |(start, end)| {
            let escaped = |text: &str| -> String {
                text.chars()
                    .flat_map(|c| "<{}|\\".contains(c).then_some('\\').into_iter().chain([c]))
                    .collect()
            };
            let rule = format!("{}<time>{}", escaped(example.get(..start)?), escaped(example.get(end..)?));
            let text =
                format!("program: x\na:\n    {rule} of <ip>\ntest:\n    192.0.2.1 {example} of 192.0.2.1\n");
            Grammar::load("x", "x", &text, lists).is_ok().then_some(rule)
        },
    )
}

/// The part of a rule that reads such a date as numbers and words.
fn spelt(example: &str) -> String {
    let (mut rule, mut rest) = (String::new(), example);
    while let Some(c) = rest.chars().next() {
        let number = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let name = ["Nov", "Sun", "AM"].into_iter().find(|name| rest.starts_with(name));
        let (length, part) = match (number, name) {
            (0, Some(name)) => (name.len(), "<word>".to_owned()),
            (0, None) if c == '+' => (1, "{+|-}".to_owned()),
            (0, None) => (c.len_utf8(), if "<{}|\\".contains(c) { format!("\\{c}") } else { c.to_string() }),
            (digits, _) => (digits, "<num>".to_owned()),
        };
        rule += &part;
        rest = rest.get(length..).unwrap_or_default();
    }
    rule
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_dates_with_text_around_them() {
        let lists = Lists::shipped();
        let own = |rule: &str, date: &str| DateForm::Own(rule.to_owned(), date.to_owned());
        let unknown = |text: &str| DateForm::Unknown(text.to_owned());
        for (pattern, want) in [
            ("", DateForm::Usual),
            ("{^LN-BEG}", DateForm::Usual),
            ("^[^\\[]*\\[({DATE})\n{^LN-BEG}", DateForm::Usual),
            ("^%Y-%m-%d %H:%M:%S", DateForm::Usual),
            ("{^LN-BEG}%ExY(?P<_sep>[-/.])%m(?P=_sep)%d[T ]%H:%M:%S(?:[.,]%f)?(?:\\s*%z)?", DateForm::Usual),
            ("^\\[%Y-%m-%d %H:%M:%S\\]", own("[<time>]", "[2026-11-22 05:40:38]")),
            (
                "^\\[%d/%b/%Y %H:%M:%S\\]",
                own("[<num>/<word>/<num> <num>:<num>:<num>]", "[22/Nov/2026 05:40:38]"),
            ),
            ("^t=%Y-%m-%dT%H:%M:%S%z", own("t=<time>", "t=2026-11-22T05:40:38+0000")),
            (
                "^L %d/%m/%Y - %H:%M:%S",
                own("L <num>/<num>/<num> - <num>:<num>:<num>", "L 22/11/2026 - 05:40:38"),
            ),
            ("%d/%b[^/]*/%Y", unknown("%d/%b[^/]*/%Y")),
        ] {
            assert_eq!(form(pattern, &lists), want, "{pattern}");
        }
    }
}
