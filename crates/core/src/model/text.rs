//! Text for people: strangers' text made harmless, numbers with their nouns.

/// The text without anything that a terminal would obey or that would show it as another text: a reason or a message
/// may hold what a stranger wrote.
pub fn plain(text: impl AsRef<[u8]>) -> String {
    String::from_utf8_lossy(text.as_ref()).replace(is_harmful, "\u{fffd}")
}

/// A number with its noun, for people: `1 rule`, `2 rules`, `3 entries`.
pub fn count(number: u64, noun: &str) -> String {
    match noun {
        _ if number == 1 => format!("1 {noun}"),
        _ if noun.ends_with(['s', 'x', 'h']) => format!("{number} {noun}es"),
        _ => match noun.strip_suffix('y') {
            Some(stem) => format!("{number} {stem}ies"),
            None => format!("{number} {noun}s"),
        },
    }
}

/// Whether it does not show as text: a control character, or one that only changes how others are shown or where they stand.
/// The latter are Unicode's format characters (Cf) and the separators of lines and paragraphs (Zl, Zp).
pub fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}'
            | '\u{8e2}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0001}' | '\u{e0020}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_noun_follows_its_number() {
        let counted = [(1, "entry"), (2, "entry"), (0, "rule"), (2, "address"), (3, "batch")];
        let counted = counted.map(|(number, noun)| count(number, noun)).join(", ");
        assert_eq!(counted, "1 entry, 2 entries, 0 rules, 2 addresses, 3 batches");
    }

    #[test]
    fn what_is_shown_is_what_is_there() {
        for hidden in [
            '\0',
            '\n',
            '\x1b',
            '\u{7f}',
            '\u{9b}',
            '\u{ad}',
            '\u{61c}',
            '\u{200b}',
            '\u{200e}',
            '\u{200f}',
            '\u{2028}',
            '\u{2029}',
            '\u{202a}',
            '\u{202e}',
            '\u{2060}',
            '\u{2066}',
            '\u{2069}',
            '\u{feff}',
            '\u{fff9}',
            '\u{e0041}',
        ] {
            assert_eq!(plain(format!("a{hidden}b")), "a\u{fffd}b", "{}", hidden.escape_unicode());
        }
        let text = "caf\u{e9} \u{5d0}\u{628}\u{4e2d} \u{1f600} \u{2027}\u{202f}";
        assert_eq!(plain(text), text);
        assert_eq!(plain(b"a\xffb"), "a\u{fffd}b");
    }
}
