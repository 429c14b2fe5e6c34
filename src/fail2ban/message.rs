//! Messages that are made of a form of a rule: a line of the filter in that form, with what an attacker could type in each field.

use std::net::IpAddr;

use super::specimen::FilterSpecimen;
use crate::grammar::{FormPart, MessageForm};

/// The address of somebody who is to be banned in the place of the attacker.
pub(super) const FRAMED: &str = "198.51.100.66";

/// A message that was made of a rule.
#[derive(Debug)]
pub(super) struct FormMessage {
    pub(super) text: String,
    /// Without its date.
    pub(super) dateless: String,
    /// Whether it differs from one that the filter matches by the characters of a word, or behind the address, only.
    pub(super) is_width: bool,
}

/// What stands in each part of a form.
#[derive(Clone, Debug)]
pub(super) struct FilledForm {
    values: Vec<String>,
    /// The date in it, and the first part behind that.
    date: String,
    from: usize,
    pub(super) address: IpAddr,
}

/// What is typed in fields: what makes a word of another kind.
const ODD: [&str; 7] = ["", "x!y", "x-y.z@1", "x\"y'z", "(x)[y]", "4294967296", "\u{e9}"];

impl FilledForm {
    /// How a line of the filter lies along a form; `None` if it is not in this form.
    pub(super) fn of(form: &MessageForm<'_>, specimen: &FilterSpecimen) -> Option<Self> {
        let mut values = Vec::new();
        let mut steps = MOST_TRIED;
        if !assign(&form.parts, specimen.line.trim_start(), specimen, &mut values, &mut steps) {
            return None;
        }
        values.reverse();
        let (mut from, mut passed) = (0, 0);
        let end = match specimen.date.is_empty() {
            true => 0,
            false => specimen.line.trim_start().find(&specimen.date)? + specimen.date.len(),
        };
        while passed < end {
            passed += values.get(from)?.len();
            from += 1;
        }
        Some(Self { values, date: specimen.date.clone(), from, address: specimen.address })
    }

    fn message(&self, is_width: bool) -> FormMessage {
        let text = self.values.concat();
        let dateless = if self.date.is_empty() { text.clone() } else { text.replacen(&self.date, "", 1) };
        FormMessage { text, dateless, is_width }
    }

    /// The message, then with each field from `first` on otherwise: what could choose the address first.
    pub(super) fn variations(
        &self,
        form: &MessageForm<'_>,
        first: usize,
        excluded: &[String],
    ) -> Vec<FormMessage> {
        let (mut all, mut wide) = (vec![self.message(false)], Vec::new());
        let host = form.parts.iter().position(|part| *part == FormPart::Address).unwrap_or_default();
        let part = |at: Option<usize>| match at.and_then(|at| form.parts.get(at)) {
            Some(FormPart::Text(text)) => *text,
            _ => "",
        };
        let (before, after) = (part(host.checked_sub(1)), part(host.checked_add(1)));
        let mut lie = self.clone();
        lie.values.get_mut(host).into_iter().for_each(|value| FRAMED.clone_into(value));
        let lie = lie.values.get(self.from..).unwrap_or_default().concat();
        let typed = [
            "a b".to_owned(),
            format!("x from {FRAMED}"),
            format!("x{before}{FRAMED}{} y", after.trim_end()),
            lie.trim_start().to_owned(),
            FRAMED.to_owned(),
            " GET /x?y=z ".to_owned(),
        ];
        for (at, part) in form.parts.iter().enumerate().skip(self.from.max(first)) {
            let is_word = matches!(part, FormPart::Word | FormPart::Number);
            if !is_word && *part != FormPart::Free {
                continue;
            }
            let with = |text: &str, is_width: bool| {
                let mut filled = self.clone();
                filled.values.get_mut(at).into_iter().for_each(|value| text.clone_into(value));
                filled.message(is_width)
            };
            all.extend(typed.iter().map(|text| with(text, is_word || at > host)));
            all.extend(excluded.iter().filter_map(|text| self.overlaid(form, at, text)));
            wide.extend(ODD.iter().map(|text| with(text, true)));
        }
        // In turn for each field, so that a limit leaves none out.
        all.append(&mut wide);
        all
    }

    /// With a text across the fields and texts from there on; `None` if it cannot lie there.
    fn overlaid(&self, form: &MessageForm<'_>, at: usize, text: &str) -> Option<FormMessage> {
        let (mut filled, mut rest) = (self.clone(), text);
        for (nth, part) in form.parts.iter().enumerate().skip(at) {
            match part {
                FormPart::Text(fixed) if fixed.starts_with(rest) => break,
                FormPart::Text(fixed) => rest = rest.strip_prefix(fixed)?,
                FormPart::Word | FormPart::Free | FormPart::Number => {
                    let next = match form.parts.get(nth + 1) {
                        Some(FormPart::Text(next)) => rest.find(next),
                        _ => None,
                    };
                    let (here, then) = rest.split_at(next.unwrap_or(rest.len()));
                    here.clone_into(filled.values.get_mut(nth)?);
                    rest = then;
                }
                FormPart::Address | FormPart::Time => return None,
            }
            if rest.is_empty() {
                break;
            }
        }
        Some(filled.message(false))
    }
}

/// So many ways to lay a line along a form are tried.
const MOST_TRIED: u32 = 2_000;

/// Finds what of a line stands in each part, the last part first; whether the parts can make the line.
fn assign(
    parts: &[FormPart<'_>],
    line: &str,
    specimen: &FilterSpecimen,
    values: &mut Vec<String>,
    steps: &mut u32,
) -> bool {
    let [part, rest @ ..] = parts else { return line.is_empty() };
    let Some(left) = steps.checked_sub(1) else { return false };
    *steps = left;
    let mut take = |length: usize| {
        let Some((here, after)) = line.split_at_checked(length) else { return false };
        let is_it = assign(rest, after, specimen, values, steps);
        if is_it {
            values.push(here.to_owned());
        }
        is_it
    };
    match part {
        FormPart::Text(text) => line.starts_with(text) && take(text.len()),
        FormPart::Address => {
            let address = specimen.address.to_string();
            line.starts_with(&address) && take(address.len())
        }
        FormPart::Time => {
            !specimen.date.is_empty()
                && [specimen.date.as_str(), specimen.date.trim_matches(|c: char| !c.is_ascii_alphanumeric())]
                    .iter()
                    .any(|date| line.starts_with(date) && take(date.len()))
        }
        FormPart::Number => take(line.bytes().take_while(u8::is_ascii_digit).count()),
        FormPart::Word => (0..=line.find(' ').unwrap_or(line.len())).any(take),
        FormPart::Free => (0..=line.len()).any(take),
    }
}
