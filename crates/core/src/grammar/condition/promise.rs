//! What conditions say about the texts of fields, for the proof and for authors.

use hashbrown::HashSet;

use crate::grammar::fault::Faults;
use crate::grammar::source::{Case, Comparison, How, RuleGroup, Verdict, View, Word};
use crate::grammar::variant::{Field, Item, Variant};

/// Warns of cases that no line can meet, as the field that they ask about never holds such a text.
pub(in crate::grammar) fn warn_of_unmet(
    group: &RuleGroup,
    names: &[Option<String>],
    variants: &[Variant],
    faults: &mut Faults<'_>,
) {
    let Verdict::Shape { cases, .. } = &group.verdict else { return };
    let items = || variants.iter().flat_map(|variant| &variant.items);
    let named =
        |field: &Field, name: &String| names.get(usize::from(field.slot)) == Some(&Some(name.clone()));
    let asks = |comparison: &&Comparison| !comparison.not && comparison.part == View::Whole;
    for (case, comparison) in
        cases.iter().flat_map(|case| case.comparisons.iter().filter(asks).map(move |asks| (case, asks)))
    {
        let fields = || {
            items().filter_map(|item| match item {
                Item::Field(field) if named(field, &comparison.field) => Some(field),
                _ => None,
            })
        };
        let may_be = |word: &Word| match word {
            Word::Plain(word) => fields().any(|field| field.may_hold(word.as_bytes())),
            Word::List(_) => true,
        };
        if let Some(field) = fields().next()
            && !comparison.words.iter().any(may_be)
        {
            let Comparison { field: name, .. } = comparison;
            let what = format!("this never holds: `{name}` is {}, which holds no such text", field.kind);
            faults.warn(case.place, what);
        }
    }
}

/// Notes for the proof which texts free fields never hold: those that each case of the group says are not in them.
pub(in crate::grammar) fn narrow(
    group: &RuleGroup,
    names: &[Option<String>],
    variants: &mut [Variant],
    without: &mut Vec<Vec<String>>,
) {
    let Verdict::Shape { cases, .. } = &group.verdict else { return };
    for (slot, name) in (0..).zip(names) {
        // Lists are an operator's to change, so their words prove nothing.
        let excluded = |case: &Case| -> HashSet<String> {
            let comparisons = case.comparisons.iter().filter(|comparison| {
                comparison.not
                    && (comparison.how, comparison.part) == (How::Has, View::Whole)
                    && Some(&comparison.field) == name.as_ref()
            });
            let words = comparisons.flat_map(|comparison| &comparison.words);
            words
                .filter_map(|word| if let Word::Plain(word) = word { Some(word.clone()) } else { None })
                .collect()
        };
        let words =
            cases.iter().map(excluded).reduce(|some, more| some.intersection(&more).cloned().collect());
        let Some(words) = words.filter(|words| !words.is_empty()) else { continue };
        without.push(words.into_iter().collect());
        let Ok(place) = u8::try_from(without.len()) else { return };
        for variant in variants.iter_mut() {
            let fields = variant.items.iter_mut().filter_map(|item| match item {
                Item::Field(field) if field.slot == slot => Some(field),
                _ => None,
            });
            // Of a name that stands twice in a line, a condition sees one.
            if let [field] = fields.collect::<Vec<_>>().as_mut_slice() {
                field.without = place;
            }
        }
    }
}
