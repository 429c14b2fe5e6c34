//! Reads which bans fail2ban has had since a moment, with the lines that earned them.

use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};
use serde_json::Value;

use super::LedgerError;
use super::fail2ban::{behind, integer, opened, text};
use crate::model::{Offender, Span, Timestamp, Widths};

/// A ban of fail2ban, in force or over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fail2banRow {
    /// The offender.
    pub offender: Offender,
    /// The jail.
    pub jail: String,
    /// Since when.
    pub since: Timestamp,
    /// Until when; forever if `None`.
    pub until: Option<Timestamp>,
    /// The lines that earned it, the last of them; none for a ban by hand. Strangers wrote them.
    pub lines: Vec<String>,
}

/// The most bans that are read, the last ones.
const MOST: u32 = 100_000;

/// The bans in the database at `path` that were in force at any time since `from`, in their order.
///
/// # Errors
///
/// As [`fail2ban`](super::fail2ban()).
pub fn fail2ban_since(path: &Path, widths: Widths, from: Timestamp) -> Result<Vec<Fail2banRow>, LedgerError> {
    opened(path, |connection| read(connection, widths, from))
}

fn read(connection: &Connection, widths: Widths, from: Timestamp) -> rusqlite::Result<Vec<Fail2banRow>> {
    let sql = "SELECT jail, ip, timeofban, bantime, data FROM bans
               WHERE ip IS NOT NULL AND (bantime < 0 OR timeofban + bantime > ?1) ORDER BY timeofban DESC LIMIT ?2";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map((from.as_secs(), MOST), |row| found(row, widths))?;
    let mut rows: Vec<Fail2banRow> = rows.filter_map(Result::transpose).collect::<Result<_, _>>()?;
    rows.reverse();
    Ok(rows)
}

/// The ban of a row, unless a value is not as fail2ban writes it.
fn found(row: &Row<'_>, widths: Widths) -> rusqlite::Result<Option<Fail2banRow>> {
    let offender = text(row, 1).and_then(|ip| behind(&ip, widths));
    let (Some(offender), Some(jail), Some(since), Some(length)) =
        (offender, text(row, 0), integer(row, 2), integer(row, 3))
    else {
        return Ok(None);
    };
    let since = Timestamp::from_secs(since);
    let until = u64::try_from(length).ok().map(|length| since + Span::from_secs(length));
    let data = match row.get_ref(4)? {
        ValueRef::Text(data) | ValueRef::Blob(data) => serde_json::from_slice(data).unwrap_or(Value::Null),
        _ => Value::Null,
    };
    let lines = data.get("matches").and_then(Value::as_array).into_iter().flatten().map(line).collect();
    Ok(Some(Fail2banRow { offender, jail, since, until, lines }))
}

/// A line, which may be in parts: what stands before the time, the time, and the rest.
fn line(value: &Value) -> String {
    match value {
        Value::Array(parts) => parts.iter().filter_map(Value::as_str).collect(),
        value => value.as_str().unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bans_have_their_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.sqlite3");
        let rows = r#"CREATE TABLE bans (jail TEXT, ip TEXT, timeofban INTEGER, bantime INTEGER, bancount INTEGER, data JSON);
            INSERT INTO bans VALUES ('sshd', '192.0.2.1', 100, 60, 1, '{"matches": ["a", ["b ", "12:00", " c"]], "failures": 2}'),
                ('sshd', '192.0.2.2', 50, 60, 1, ''), ('sshd', '192.0.2.3', 40, 60, 1, ''),
                ('web', '2001:db8::1', 90, -1, 1, CAST('{"matches": []}' AS BLOB)), ('sshd', 'a-name', 200, 60, 1, '');"#;
        Connection::open(&path).unwrap().execute_batch(rows).unwrap();
        let found = fail2ban_since(&path, Widths::default(), Timestamp::from_secs(100)).unwrap();
        let ban = |offender: &str, jail: &str, since, until: Option<i64>, lines: &[&str]| Fail2banRow {
            offender: offender.parse().unwrap(),
            jail: jail.to_owned(),
            since: Timestamp::from_secs(since),
            until: until.map(Timestamp::from_secs),
            lines: lines.iter().map(|line| (*line).to_owned()).collect(),
        };
        let want = [
            ban("192.0.2.2", "sshd", 50, Some(110), &[]),
            ban("2001:db8::/64", "web", 90, None, &[]),
            ban("192.0.2.1", "sshd", 100, Some(160), &["a", "b 12:00 c"]),
        ];
        assert_eq!(found, want);
    }
}
