//! Output on a terminal: tables, colours and times.

use std::io::{IsTerminal, Write};

use anstyle::{AnsiColor, Style};
use comfy_table::{Table, presets};
use jiff::tz::TimeZone;

use crate::model::plain;

/// The head of a table.
pub const HEAD: Style = Style::new().bold();
/// What is not as it should be.
pub const BAD: Style = AnsiColor::Red.on_default();

/// Tells somebody who types that this is read.
pub fn say_that_input_is_awaited() {
    if std::io::stdin().is_terminal() {
        drop(writeln!(std::io::stderr(), "reading from the terminal; Ctrl-D ends it"));
    }
}

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

/// An instant as JSON has it, for people: local, to the second.
pub fn local(instant: &str) -> String {
    let local = |at: jiff::Timestamp| at.to_zoned_datetime(TimeZone::system()).strftime("%F %T").to_string();
    instant.parse().map_or_else(|_| instant.to_owned(), local)
}

/// A sentence of the daemon with its instants as [`local`] has them.
pub fn with_local_times(text: &str) -> String {
    let word = |word: &str| {
        let instant = word.trim_end_matches([',', ';', ':', '.', ')']);
        match (instant.parse::<jiff::Timestamp>(), word.strip_prefix(instant)) {
            (Ok(_), Some(rest)) => local(instant) + rest,
            _ => word.to_owned(),
        }
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// The zone of [`local`], for people: `Europe/Berlin, +01:00`.
pub fn zone(at: jiff::Timestamp) -> String {
    let zoned = at.to_zoned_datetime(TimeZone::system());
    let name = zoned.time_zone().iana_name().map_or(String::new(), |name| format!("{name}, "));
    format!("{name}{}", zoned.strftime("%:z"))
}

/// The text in that style; printing removes the style if there is no terminal.
pub fn painted(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_in_a_sentence_become_local() {
        let at = "2026-11-24T08:00:00Z";
        let want = format!("a login at {0}; until {0}, 5m 2026-11-24 x", local(at));
        assert_eq!(with_local_times(&format!("a login at {at}; until {at}, 5m 2026-11-24 x")), want);
        assert_eq!(with_local_times(""), "");
    }
}
