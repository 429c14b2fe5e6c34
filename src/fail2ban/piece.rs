//! Rules of grammars as they are made of regular expressions: texts, fields and choices.

/// A part of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RulePiece {
    /// Text that stands for itself.
    Text(String),
    /// Text that varies.
    Field(RuleField),
    /// One of these, or nothing if that is allowed.
    Choice(Vec<Vec<RulePiece>>, bool),
}

/// Text that varies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RuleField {
    pub(super) hole: Hole,
    /// Whether it is a user's name.
    pub(super) is_user: bool,
    /// What it must not begin with.
    pub(super) not_starting: Vec<String>,
    /// What it must not hold.
    pub(super) without: Vec<String>,
}

impl RuleField {
    pub(super) fn new(hole: Hole) -> Self {
        Self { hole, is_user: false, not_starting: Vec::new(), without: Vec::new() }
    }
}

/// What may stand there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hole {
    Ip,
    Peer,
    Free,
    Word,
    Num,
    Time,
    /// Anything without these.
    Without(Vec<char>),
}

impl RulePiece {
    pub(super) fn field(hole: Hole) -> Self {
        Self::Field(RuleField::new(hole))
    }

    pub(super) fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    pub(super) fn optional(pieces: Vec<Self>) -> Self {
        Self::Choice(vec![pieces], true)
    }

    fn is_free(&self) -> bool {
        matches!(self, Self::Field(RuleField { hole: Hole::Free, .. }))
    }

    /// Whether it is such a field.
    fn has_hole(&self, hole: &Hole) -> bool {
        matches!(self, Self::Field(field) if field.hole == *hole)
    }

    /// Whether it is digits that do not vary, or some of them.
    fn is_digits(&self) -> bool {
        match self {
            Self::Text(text) => text.bytes().all(|byte| byte.is_ascii_digit()),
            Self::Field(_) => false,
            Self::Choice(options, _) => options.iter().flatten().all(Self::is_digits),
        }
    }

    /// Whether a look-ahead limits what it reads.
    fn is_limited(&self) -> bool {
        match self {
            Self::Text(_) => false,
            Self::Field(field) => !field.not_starting.is_empty(),
            Self::Choice(options, _) => options.iter().flatten().any(Self::is_limited),
        }
    }

    /// Whether the address is in it.
    pub(super) fn has_address(&self) -> bool {
        match self {
            Self::Text(_) => false,
            Self::Field(field) => matches!(field.hole, Hole::Ip | Hole::Peer),
            Self::Choice(options, _) => options.iter().flatten().any(Self::has_address),
        }
    }

    /// Whether it can be nothing.
    fn can_vanish(&self) -> bool {
        match self {
            Self::Text(text) => text.is_empty(),
            Self::Field(_) => false,
            Self::Choice(options, optional) => {
                *optional || options.iter().any(|option| option.iter().all(Self::can_vanish))
            }
        }
    }

    /// Whether it can begin, or end, with a field.
    fn touches(&self, at_end: bool) -> bool {
        match self {
            Self::Text(_) => false,
            Self::Field(_) => true,
            Self::Choice(options, _) => options.iter().any(|option| touches(option, at_end)),
        }
    }

    /// Whether a space can be in it.
    pub(super) fn has_space(&self) -> bool {
        match self {
            Self::Text(text) => text.contains(' '),
            Self::Field(RuleField { hole, .. }) => match hole {
                Hole::Word | Hole::Num | Hole::Ip | Hole::Peer => false,
                Hole::Without(characters) => !characters.contains(&' '),
                Hole::Free | Hole::Time => true,
            },
            Self::Choice(options, _) => options.iter().flatten().any(Self::has_space),
        }
    }
}

/// Whether a sequence can begin, or end, with a field.
fn touches(pieces: &[RulePiece], at_end: bool) -> bool {
    let mut all: Box<dyn Iterator<Item = &RulePiece>> =
        if at_end { Box::new(pieces.iter().rev()) } else { Box::new(pieces.iter()) };
    loop {
        match all.next() {
            None => return false,
            Some(piece) if piece.touches(at_end) => return true,
            Some(piece) if !piece.can_vanish() => return false,
            Some(_) => {}
        }
    }
}

/// Joins what cannot stand side by side: two fields become one that reads both.
///
/// # Errors
///
/// The address would be one of them.
pub(super) fn joined(pieces: Vec<RulePiece>) -> Result<Vec<RulePiece>, String> {
    let mut done: Vec<RulePiece> = Vec::new();
    for piece in pieces {
        let piece = match piece {
            RulePiece::Choice(options, optional) => match choice(options, optional)? {
                Some(piece) => piece,
                None => continue,
            },
            other => other,
        };
        push(&mut done, piece)?;
    }
    // What may be missing beside free text is part of that.
    let mut at = 0;
    while at < done.len() {
        let beside = |at: Option<usize>| at.and_then(|at| done.get(at)).is_some_and(RulePiece::is_free);
        let spare = done
            .get(at)
            .is_some_and(|piece| matches!(piece, RulePiece::Choice(_, true)) && !piece.has_address());
        if spare && (beside(at.checked_sub(1)) || beside(at.checked_add(1))) {
            done.remove(at);
            at = 0;
            let again = std::mem::take(&mut done);
            for piece in again {
                push(&mut done, piece)?;
            }
        } else {
            at += 1;
        }
    }
    Ok(done)
}

const WIDER_CHOICE: &str = "alternatives of which one field would read more";

/// A choice, simplified; `None` where nothing is left.
fn choice(options: Vec<Vec<RulePiece>>, mut optional: bool) -> Result<Option<RulePiece>, String> {
    let mut kept: Vec<Vec<RulePiece>> = Vec::new();
    for option in options {
        let option = joined(option)?;
        match option.is_empty() {
            true => optional = true,
            false if kept.contains(&option) => {}
            false => kept.push(option),
        }
    }
    // Some digits beside a number of at least two would be any number.
    let alone = |is: &dyn Fn(&RulePiece) -> bool| {
        kept.iter().any(|option| matches!(option.as_slice(), [only] if is(only)))
    };
    if alone(&RulePiece::is_digits) && alone(&|piece| piece.has_hole(&Hole::Num)) {
        return Err(WIDER_CHOICE.to_owned());
    }
    // Alternatives that are fields alone are one field.
    let fields = kept.iter().all(|option| matches!(option.as_slice(), [RulePiece::Field(_)]));
    if fields && kept.len() > 1 && !kept.iter().flatten().any(RulePiece::has_address) {
        let is_user =
            kept.iter().flatten().any(|piece| matches!(piece, RulePiece::Field(field) if field.is_user));
        let hole = if kept.iter().flatten().any(RulePiece::has_space) { Hole::Free } else { Hole::Word };
        if !kept.iter().flatten().any(|piece| piece.has_hole(&hole))
            || kept.iter().flatten().any(RulePiece::is_limited)
        {
            return Err(WIDER_CHOICE.to_owned());
        }
        kept = vec![vec![RulePiece::Field(RuleField { is_user, ..RuleField::new(hole) })]];
    }
    // Free text can be nothing.
    if let [option] = kept.as_slice()
        && let [only] = option.as_slice()
        && (!optional || only.is_free())
    {
        return Ok(Some(only.clone()));
    }
    Ok((!kept.is_empty()).then_some(RulePiece::Choice(kept, optional)))
}

/// What can follow an address without belonging to it.
const OFF: [&str; 8] = [" ", ",", ";", ")", "]", "\"", "'", ">"];

/// Free text behind an address or the edge of a word, which cannot follow it at once.
pub(super) fn set_off() -> RulePiece {
    let behind = |text: &str| vec![RulePiece::text(text), RulePiece::field(Hole::Free)];
    RulePiece::Choice(OFF.iter().map(|off| behind(off)).collect(), true)
}

/// Pieces that end with an address, or with text that is [set off](set_off) from it, as more logs have them: with a port, a
/// bracket, a quote, a path or a full stop behind it. `None` where they end otherwise.
pub(super) fn closed_anyhow(pieces: &[RulePiece]) -> Option<Vec<RulePiece>> {
    let [before @ .., host, end] = pieces else { return None };
    if *host != RulePiece::field(Hole::Ip) || *end != set_off() {
        return None;
    }
    let behind = |text: &str| vec![RulePiece::text(text), RulePiece::field(Hole::Free)];
    let ends = [" ", ",", ";", ")", "]", "\"", "/", ". "].map(behind);
    let stop = vec![RulePiece::text(".")];
    let end = RulePiece::Choice(ends.into_iter().chain([stop]).collect(), true);
    Some(before.iter().cloned().chain([RulePiece::field(Hole::Peer), end]).collect())
}

/// Pieces with free text that must not hold the characters, where a field without them would also end at the text behind it:
/// `[^"]* from` reads spaces, and a field before ` from` does not. `None` if there is no such field.
pub(super) fn freed(pieces: &[RulePiece]) -> Option<Vec<RulePiece>> {
    let mut all = pieces.to_vec();
    for (at, piece) in pieces.iter().enumerate() {
        let (RulePiece::Field(field), Some(RulePiece::Text(behind))) = (piece, pieces.get(at + 1)) else {
            continue;
        };
        if let Hole::Without(characters) = &field.hole
            && !behind.starts_with(characters.as_slice())
            && let Some(piece) = all.get_mut(at)
        {
            let mut field = RuleField { hole: Hole::Free, ..field.clone() };
            field.without.extend(characters.iter().map(char::to_string));
            *piece = RulePiece::Field(field);
        }
    }
    (all != pieces).then_some(all)
}

/// Adds a piece behind others.
fn push(done: &mut Vec<RulePiece>, piece: RulePiece) -> Result<(), String> {
    if let (Some(RulePiece::Text(before)), RulePiece::Text(text)) = (done.last_mut(), &piece) {
        *before += text;
        return Ok(());
    }
    if !(piece.touches(false) && touches(done, true)) {
        done.push(piece);
        return Ok(());
    }
    // What follows an address is set off from it.
    if done.last().is_some_and(RulePiece::has_address) && !piece.has_address() && piece.has_space() {
        done.push(set_off());
        return Ok(());
    }
    // From the piece on that ends with the field.
    let mut merged = vec![piece];
    while let Some(last) = done.pop() {
        let is_field = last.touches(true);
        merged.push(last);
        if is_field {
            break;
        }
    }
    // The last of them is the first of the rule.
    if merged.iter().rev().skip(1).any(RulePiece::is_limited) {
        return Err("a negative look-ahead `(?!…)` behind what varies".to_owned());
    }
    if merged.iter().any(RulePiece::has_address) {
        return Err("no text between the address and what varies beside it".to_owned());
    }
    let is_user = merged.iter().any(|piece| matches!(piece, RulePiece::Field(field) if field.is_user));
    let not_starting = match merged.last() {
        Some(RulePiece::Field(first)) => first.not_starting.clone(),
        _ => Vec::new(),
    };
    let is_number = |piece: &RulePiece| matches!(piece, RulePiece::Field(RuleField { hole: Hole::Num, .. }));
    let hole = match () {
        () if merged.iter().all(is_number) => Hole::Num,
        () if merged.iter().any(RulePiece::has_space) => Hole::Free,
        () => Hole::Word,
    };
    let is_absorbed = |piece: &RulePiece| {
        piece.can_vanish()
            || piece.has_hole(&hole)
            || !is_number(piece) && matches!(piece, RulePiece::Field(_))
    };
    if !merged.iter().any(|piece| piece.has_hole(&hole)) || !merged.iter().all(is_absorbed) {
        return Err("nothing between two parts that vary, of which one field would read more".to_owned());
    }
    push(done, RulePiece::Field(RuleField { is_user, not_starting, ..RuleField::new(hole) }))
}
