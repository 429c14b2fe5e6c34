//! Proves grammars that read the same lines together: no message has two addresses or keys, whichever of them reads it.

use hashbrown::{HashMap, HashSet};

use super::compiled::CompiledRules;
use super::fault::Place;
use super::proof::{self, Conflict};
use super::variant::{Item, RECORD, Variant};
use super::{Grammar, glob};

/// Proves each grammar that is proved already together with the others that may read its messages.
///
/// # Errors
///
/// The message that two of them read with two addresses, and their rules.
pub(super) fn prove_loaded(grammars: &mut [Grammar]) -> Result<(), String> {
    for nth in 0..grammars.len() {
        if grammars.get(nth).is_some_and(|grammar| grammar.proof.get().is_some()) {
            let proof = prove(grammars, nth, pair)?;
            if let Some(grammar) = grammars.get_mut(nth) {
                (grammar.is_sound, grammar.proof) = (true.into(), Some(proof).into());
            }
        }
    }
    Ok(())
}

/// Whether a shipped grammar is sound by itself and together with each other that may read its messages. Those for all
/// programs are proved with all others in the tests only, as that takes seconds.
pub(super) fn is_sound(grammars: &[Grammar], nth: usize) -> bool {
    let pair = |one: &Grammar, other: &Grammar, safe: &mut [bool]| match one.reads_all() || other.reads_all()
    {
        true => Ok(()),
        false => pair(one, other, safe),
    };
    prove(grammars, nth, pair).is_ok()
}

/// As [`prove_loaded`] for a shipped grammar. No rule of it reads a cut message that one for all programs may read too.
///
/// # Errors
///
/// As [`prove_loaded`].
pub(super) fn prove_shipped(grammars: &[Grammar], nth: usize) -> Result<Box<[bool]>, String> {
    prove(grammars, nth, |one, other, safe| {
        if !one.reads_all() && !other.reads_all() {
            return pair(one, other, safe);
        }
        for (nth, _) in meeting(one, other) {
            safe.get_mut(nth).into_iter().for_each(|safe| *safe = false);
        }
        Ok(())
    })
}

/// Proves one grammar by itself, if that was not done, and then `pair`s it with each other that may read its messages. For
/// each of its rules, whether no cut message misleads it.
fn prove(
    grammars: &[Grammar],
    nth: usize,
    pair: impl Fn(&Grammar, &Grammar, &mut [bool]) -> Result<(), String>,
) -> Result<Box<[bool]>, String> {
    let Some(grammar) = grammars.get(nth) else { return Ok(Box::default()) };
    let known = grammar.proof.get().and_then(Option::as_deref);
    let mut safe: Box<[bool]> = match known {
        Some(safe) => safe.into(),
        None => proof::prove_together(&grammar.compiled().variants, &grammar.compiled().without)
            .map(Into::into)
            .map_err(|conflict| told(&conflict, |nth| place(grammar, nth), &grammar.file))?,
    };
    for (other, with) in grammars.iter().enumerate() {
        if other != nth && meet(grammar, with) {
            pair(grammar, with, &mut safe)?;
        }
    }
    Ok(safe)
}

/// Whether there is a program whose lines both read.
pub(super) fn meet(one: &Grammar, other: &Grammar) -> bool {
    one.programs().iter().any(|a| other.programs().iter().any(|b| overlap(a.as_bytes(), b.as_bytes())))
}

/// Whether two names, of which each may hold a `*`, can stand for the same.
fn overlap(one: &[u8], other: &[u8]) -> bool {
    let parts = |name: &'_ [u8]| {
        let star = name.iter().position(|byte| *byte == b'*')?;
        Some((name.get(..star)?.to_vec(), name.get(star + 1..)?.to_vec()))
    };
    match (parts(one), parts(other)) {
        (Some((front, back)), Some((other_front, other_back))) => {
            (front.starts_with(&other_front) || other_front.starts_with(&front))
                && (back.ends_with(&other_back) || other_back.ends_with(&back))
        }
        (None, _) => glob(other, one),
        (_, None) => glob(one, other),
    }
}

/// Proves two grammars together, and notes which rules of the first a cut message could mislead.
fn pair(one: &Grammar, other: &Grammar, safe: &mut [bool]) -> Result<(), String> {
    if let (Some(records), Some(others)) =
        (one.compiled().matcher.records(), other.compiled().matcher.records())
        && !records.agree(others)
    {
        let (one, other) = (&one.file, &other.file);
        return Err(format!(
            "{one} and {other}: their shapes of JSON or logfmt look for the address in other keys, or otherwise"
        ));
    }
    let (of_one, of_other) = (meeting(one, other), meeting(other, one));
    if of_one.is_empty() || of_other.is_empty() {
        return Ok(());
    }
    // Numbered on behind the first's, so that no rule is taken for one of them.
    let behind =
        of_one.iter().map(|(_, variant)| variant.rule).max().map_or(0, |last| last.saturating_add(1));
    let of_one = of_one.into_iter().map(|(nth, variant)| (Some(nth), nth, variant.clone()));
    let of_other = of_other.into_iter().map(|(nth, variant)| {
        let mut variant = variant.clone();
        variant.rule = variant.rule.saturating_add(behind);
        variant.shift_without(one.compiled().without.len());
        variant.renumber_keys(|number| same_key(one, other, number));
        (None, nth, variant)
    });
    let mut all: Vec<(Option<usize>, usize, Variant)> = of_one.chain(of_other).collect();
    // Rules come first, then records, then the other forms.
    all.sort_by_key(|(.., variant)| variant.group.max(RECORD - 1));
    let variants: Vec<Variant> = all.iter().map(|(.., variant)| variant.clone()).collect();
    let without: Vec<Vec<String>> =
        one.compiled().without.iter().chain(&other.compiled().without).cloned().collect();
    let found = proof::prove_together(&variants, &without).map_err(|conflict| {
        let place = |nth: usize| {
            let (own, nth, _) = all.get(nth)?;
            place(if own.is_some() { one } else { other }, *nth)
        };
        told(&conflict, place, &format!("{} and {}", one.file, other.file))
    })?;
    for ((nth, ..), found) in all.iter().zip(found) {
        nth.and_then(|nth| safe.get_mut(nth)).into_iter().for_each(|safe| *safe &= found);
    }
    Ok(())
}

/// Where the section of a key of `other` is among those of `one` with its own behind; one that it shares, as where one
/// extends the other, is the same.
fn same_key(one: &Grammar, other: &Grammar, number: u8) -> u8 {
    let shared = |key| one.keys.iter().position(|known| known == key);
    let place = other.keys.get(usize::from(number)).and_then(shared);
    place.unwrap_or(one.keys.len() + usize::from(number)) as u8
}

/// The variants of a grammar, by their places, that may read a message that the other reads too.
fn meeting<'g>(one: &'g Grammar, other: &Grammar) -> Vec<(usize, &'g Variant)> {
    // Thousands of variants begin in a few ways.
    let firsts = |rules: &CompiledRules| -> HashSet<Item> {
        rules.variants.iter().filter_map(|variant| variant.items.first()).cloned().collect()
    };
    // One that nobody has used yet is not kept: for a grammar for all programs those are all.
    let others = other.compiled.get().map_or_else(|| firsts(&other.compile()), firsts);
    let mut known = HashMap::new();
    let mut meets = |variant: &'g Variant| {
        let Some(first) = variant.items.first() else { return true };
        *known.entry(first).or_insert_with(|| others.iter().any(|other| first.may_begin_like(other)))
    };
    one.compiled().variants.iter().enumerate().filter(|(_, variant)| meets(variant)).collect()
}

/// Where a variant of a grammar stands.
fn place(grammar: &Grammar, variant: usize) -> Option<String> {
    let Place { line, column } = grammar.compiled().variants.get(variant)?.place;
    Some(format!("{}:{line}:{column}", grammar.file))
}

fn told(conflict: &Conflict, place: impl Fn(usize) -> Option<String>, files: &str) -> String {
    match conflict {
        Conflict::TooComplex => format!("{files}: too complex to prove"),
        Conflict::TwoReadings { message, label, variants: (a, b), readings: (as_a, as_b) } => {
            let (a, b) = (place(*a).unwrap_or_default(), place(*b).unwrap_or_default());
            format!(
                "{b}: an attacker can choose the {label}: `{message}` can be read as {as_b} here, but by {a} as {as_a}"
            )
        }
    }
}
