//! Sets of characters in regular expressions.

use super::regex::{NO_START, Obstacle};

/// A set of characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CharacterClass {
    /// The ASCII characters in it, one bit each.
    ascii: u128,
    /// Whether it has the others.
    others: bool,
}

impl CharacterClass {
    const EMPTY: Self = Self { ascii: 0, others: false };

    /// `\d`.
    pub(super) fn digits() -> Self {
        Self::EMPTY.with('0', '9')
    }

    fn words() -> Self {
        Self { others: true, ..Self::digits().with('a', 'z').with('A', 'Z').with('_', '_') }
    }

    fn spaces() -> Self {
        Self::EMPTY.with('\t', '\r').with(' ', ' ')
    }

    /// `\d`, `\w`, `\s` and what they exclude, by their letters.
    pub(super) fn named(letter: char) -> Option<Self> {
        Some(match letter {
            'd' => Self::digits(),
            'D' => Self::digits().inverted(),
            'w' => Self::words(),
            'W' => Self::words().inverted(),
            's' => Self::spaces(),
            'S' => Self::spaces().inverted(),
            _ => return None,
        })
    }

    fn with(mut self, first: char, last: char) -> Self {
        for code in u32::from(first)..=u32::from(last) {
            match 1_u128.checked_shl(code).filter(|_| code < 128) {
                Some(bit) => self.ascii |= bit,
                None => {
                    self.others = true;
                    break;
                }
            }
        }
        self
    }

    fn inverted(self) -> Self {
        Self { ascii: !self.ascii, others: !self.others }
    }

    /// Reads what follows a `[`, up to its `]`.
    pub(super) fn parse(rest: &mut &str) -> Result<Self, Obstacle> {
        let unclosed = || format!("a `[` that is not closed{NO_START}");
        let mut chars = rest.chars().peekable();
        let is_inverted = chars.next_if_eq(&'^').is_some();
        let (mut class, mut is_first) = (Self::EMPTY, true);
        loop {
            let first = chars.next().ok_or_else(unclosed)?;
            let first = match first {
                ']' if !is_first => break,
                '\\' => {
                    let letter = chars.next().ok_or_else(unclosed)?;
                    if let Some(named) = Self::named(letter) {
                        class = class.or(named);
                        is_first = false;
                        continue;
                    }
                    plain(letter)
                }
                other => other,
            };
            is_first = false;
            let mut ahead = chars.clone();
            let last = match (ahead.next(), ahead.next()) {
                // A `-` before `\d` and the like is itself.
                (Some('-'), Some('\\')) if ahead.clone().next().is_some_and(|c| Self::named(c).is_some()) => {
                    first
                }
                (Some('-'), Some(last)) if last != ']' => {
                    chars = ahead;
                    if last == '\\' { plain(chars.next().ok_or_else(unclosed)?) } else { last }
                }
                _ => first,
            };
            class = class.with(first, last);
        }
        let left: usize = chars.map(char::len_utf8).sum();
        *rest = rest.get(rest.len() - left..).unwrap_or_default();
        Ok(if is_inverted { class.inverted() } else { class })
    }

    fn or(self, other: Self) -> Self {
        Self { ascii: self.ascii | other.ascii, others: self.others || other.others }
    }

    /// Whether it has this ASCII character.
    pub(super) fn has(self, c: char) -> bool {
        1_u128.checked_shl(c.into()).is_some_and(|bit| self.ascii & bit != 0)
    }

    /// The printable characters that are in it.
    pub(super) fn members(self) -> Vec<char> {
        (' '..='~').filter(|c| self.has(*c)).collect()
    }

    /// The printable characters that are not in it.
    pub(super) fn excluded(self) -> Vec<char> {
        (' '..='~').filter(|c| !self.has(*c)).collect()
    }

    /// Whether it has what names of users and hosts consist of, so that a word adds no more than punctuation; or the
    /// capitals of a request's method.
    pub(super) fn is_names(self) -> bool {
        let has_all = |first: char, last: char| (first..=last).all(|c| self.has(c));
        let is_capitals = self == Self::EMPTY.with('A', 'Z');
        is_capitals || has_all('0', '9') && has_all('a', 'z') && has_all('A', 'Z')
    }

    /// As a regular expression has it.
    pub(super) fn printed(self) -> String {
        match () {
            () if self == Self::digits() => return "\\d".to_owned(),
            () if self == Self::words() => return "\\w".to_owned(),
            () if self.others && self != Self::words() && self.excluded().len() < self.members().len() => {
                let but = Self { others: false, ..self.inverted() }.printed();
                return format!("[^{}]", but.trim_start_matches('[').trim_end_matches(']'));
            }
            () => {}
        }
        let mut text = "[".to_owned();
        let members = self.members();
        let mut rest = members.as_slice();
        while let [first, ..] = rest {
            let run = rest.iter().zip(*first..).take_while(|(c, next)| *c == next).count();
            let last = rest.get(run - 1).unwrap_or(first);
            match run {
                1 | 2 => rest.iter().take(run).for_each(|c| text.push(*c)),
                _ => text += &format!("{first}-{last}"),
            }
            rest = rest.get(run..).unwrap_or_default();
        }
        text + "]"
    }

    /// Why no field stands for it.
    pub(super) fn refused(self) -> Obstacle {
        let class = self.printed();
        format!("`{class}` reads less than a field of banstream can: write `\\S+`, `\\d+` or `.*`")
    }

    /// Whether all of it are spaces.
    pub(super) fn is_spaces(self) -> bool {
        self != Self::EMPTY && self.or(Self::spaces()) == Self::spaces()
    }
}

/// What an escaped letter is in a class.
fn plain(letter: char) -> char {
    match letter {
        't' => '\t',
        'n' => '\n',
        'r' => '\r',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_read() {
        #[track_caller]
        fn check(text: &str, inside: &str, outside: &str, left: &str) {
            let mut rest = text;
            let class = CharacterClass::parse(&mut rest).unwrap();
            assert!(inside.chars().all(|c| class.has(c)) && !outside.chars().any(|c| class.has(c)), "{text}");
            assert_eq!(rest, left);
        }
        check("a-c]x", "abc", "d-]", "x");
        check("]a-]", "]a-", "b", "");
        check("^]\\s]+", "ab", "] ", "+");
        check("\\w\\-\\]]", "a_9-]", " .", "");
        check("+-\\d]", "+-5", "a", "");
        assert!(CharacterClass::parse(&mut "abc").is_err());
    }

    #[test]
    fn classes_are_printed() {
        for (text, want) in [
            ("0-9]", r"\d"),
            ("\\w]", r"\w"),
            ("1-9]", "[1-9]"),
            ("^/ ]", "[^ /]"),
            ("^0-9]", r"[^\d]"),
            ("a-zA-Z_.-]", "[-.A-Z_a-z]"),
        ] {
            assert_eq!(CharacterClass::parse(&mut &*text).unwrap().printed(), want);
        }
    }
}
