//! `<name>` in a filter: parameters of the jail and options of the filter.

use std::collections::BTreeMap;

use super::ini::{IniError, IniValue};

/// Why tags cannot be filled in.
pub(super) enum TagError {
    /// The tags of this option refer to each other without an end.
    Endless(String),
    /// A value that a tag stands for.
    Value(IniError),
}

impl TagError {
    /// The error with the place of the option.
    pub(super) fn at<'v>(self, place: impl FnOnce(&str) -> Option<&'v IniValue>) -> IniError {
        match self {
            Self::Value(error) => error,
            Self::Endless(option) => {
                let what = format!("the tags in `{option}` refer to each other without an end");
                match place(&option) {
                    Some(value) => value.error(what),
                    None => IniError { file: option.into(), line: 0, what },
                }
            }
        }
    }
}

/// How often tags in one option are filled in, and how long it may become.
const MOST: usize = 500;
const LONGEST: usize = 1 << 20;

/// The options with all tags filled in that one of them, or else `other`, has a value for. Other tags stay.
pub(super) fn substitute(
    options: &BTreeMap<String, String>,
    other: impl Fn(&str) -> Result<Option<String>, IniError>,
) -> Result<BTreeMap<String, String>, TagError> {
    let mut filled = BTreeMap::new();
    for (option, text) in options {
        let (mut text, mut from) = (text.clone(), 0);
        let mut times = 0;
        while let Some((start, end)) = tag(&text, from) {
            let name = text.get(start + 1..end).unwrap_or_default();
            let value = match options.get(name) {
                Some(value) => Some(value.clone()),
                None => other(name).map_err(TagError::Value)?,
            };
            match value {
                // Begin again: a value may complete a tag, as in `<mdre-<mode>>`.
                Some(value) => {
                    text.replace_range(start..=end, &value);
                    from = 0;
                    times += 1;
                }
                None => from = start + 1,
            }
            if times > MOST || text.len() > LONGEST {
                return Err(TagError::Endless(option.clone()));
            }
        }
        filled.insert(option.clone(), text);
    }
    Ok(filled)
}

/// Where the first tag from there on begins and ends: `<…>` without spaces and without further brackets.
fn tag(text: &str, from: usize) -> Option<(usize, usize)> {
    let mut start = None;
    for (at, byte) in text.bytes().enumerate().skip(from) {
        match byte {
            b'<' => start = Some(at),
            b' ' => start = None,
            b'>' => match start {
                Some(start) if at > start + 1 => return Some((start, at)),
                _ => start = None,
            },
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_filled_in_from_the_inside() {
        let options: BTreeMap<String, String> =
            [("x", "a <b-<mode>> <HOST> <F-USER>\\S+</F-USER>"), ("mode", "m"), ("b-m", "<c>!")]
                .map(|(name, text)| (name.to_owned(), text.to_owned()))
                .into();
        let other = |name: &str| Ok((name == "c").then(|| "inner".to_owned()));
        let filled = substitute(&options, other).ok().unwrap();
        assert_eq!(filled["x"], "a inner! <HOST> <F-USER>\\S+</F-USER>");
    }

    #[test]
    fn tags_that_refer_to_each_other_are_a_fault() {
        let options: BTreeMap<String, String> =
            [("a", "<b>"), ("b", "<a>")].map(|(name, text)| (name.to_owned(), text.to_owned())).into();
        let Err(TagError::Endless(option)) = substitute(&options, |_| Ok(None)) else { panic!() };
        assert_eq!(option, "a");
    }
}
