//! How answers look on a terminal: tables, colours, and text of strangers without its teeth.
//!
//! It stands apart because several commands print such answers.
//!
//! It prints nothing, and does not know whether there is a terminal.

use anstyle::{AnsiColor, Style};
use comfy_table::{Table, presets};

use crate::model::is_harmful;

/// The head of a table.
pub const HEAD: Style = Style::new().bold();
/// What is not as it should be.
pub const BAD: Style = AnsiColor::Red.on_default();

/// A table after an empty line, or nothing where it has no rows.
pub fn table<const N: usize>(head: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(head);
    table.add_rows(rows.map(|row| row.map(plain)));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let text = table.trim_fmt();
    let (head, rows) = text.split_once('\n').unwrap_or((&text, ""));
    if table.row_count() == 0 { String::new() } else { format!("\n{}\n{rows}\n", painted(HEAD, head)) }
}

/// The text in that style; whoever prints it where there is no terminal takes the style off again.
pub fn painted(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// The text without anything that a terminal would obey or that would show it as another text: a reason or a message
/// may hold what a stranger wrote.
pub fn plain(text: impl AsRef<[u8]>) -> String {
    String::from_utf8_lossy(text.as_ref()).replace(is_harmful, "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

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
