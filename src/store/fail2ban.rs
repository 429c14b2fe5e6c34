//! Reads fail2ban's database: who is banned, until when, and how often that was.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, Row};

use super::LedgerError;
use crate::model::{Offender, Span, Timestamp, Widths};

/// The bans in fail2ban's database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fail2banBans {
    /// Those in force, and the last of each offender in each jail that is over, the oldest first.
    pub bans: Vec<Fail2banBan>,
    /// How many of all bans are over, or were lifted.
    pub past: u64,
    /// How many rows were left out: a value is not as fail2ban writes it, or the address is not one of a host.
    pub unread: u64,
}

/// The last ban of an offender in a jail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fail2banBan {
    /// The offender.
    pub offender: Offender,
    /// The jail.
    pub jail: String,
    /// Since when.
    pub since: Timestamp,
    /// Until when; forever if `None`.
    pub until: Option<Timestamp>,
    /// How many bans that offender has had from that jail, this one included.
    pub times: u32,
}

impl Fail2banBan {
    /// Whether it is in force.
    pub fn is_in_force(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| until > now)
    }
}

/// For how long SQLite waits for fail2ban, which may be writing.
const PATIENCE: Duration = Duration::from_secs(3);

/// Reads the database at `path`, which fail2ban may have open; `widths` is what one offender is. Nothing is written. fail2ban
/// leaves bans that are over among those in force until it starts again; here they are past ones at `now`.
///
/// # Errors
///
/// It cannot be read, is locked for longer than 3 s, or has not the tables of fail2ban 0.11 and later.
pub fn fail2ban(path: &Path, widths: Widths, now: Timestamp) -> Result<Fail2banBans, LedgerError> {
    opened(path, |connection| read(connection, widths, now))
}

/// What is read of the database at `path`.
pub(super) fn opened<T>(
    path: &Path,
    read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> Result<T, LedgerError> {
    if !path.is_file() {
        return Err(LedgerError::new("it is not a regular file"));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(PATIENCE)?;
    read(&connection).map_err(|error| match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            LedgerError::new("fail2ban is writing to it; try again, or stop fail2ban first")
        }
        _ if error.to_string().contains("no such table") || error.to_string().contains("no such column") => {
            LedgerError::new("it has not the tables of fail2ban 0.11 or later")
        }
        _ => error.into(),
    })
}

/// The offender behind an address, or the prefix; `None` where no host has it: `0.0.0.0`, `::`, multicast and broadcast.
pub(super) fn behind(ip: &str, widths: Widths) -> Option<Offender> {
    let (address, offender) = match ip.parse::<IpAddr>() {
        Ok(address) => (address.to_canonical(), Offender::behind(address, widths)),
        Err(_) => ip.parse::<Offender>().map(|offender| (offender.address(), offender)).ok()?,
    };
    let is_broadcast = address == IpAddr::V4(Ipv4Addr::BROADCAST);
    (!address.is_unspecified() && !address.is_multicast() && !is_broadcast).then_some(offender)
}

/// The text in a column, if it is one.
pub(super) fn text(row: &Row<'_>, column: usize) -> Option<String> {
    row.get_ref(column).ok()?.as_str().ok().map(str::to_owned)
}

/// The integer in a column, if it is one.
pub(super) fn integer(row: &Row<'_>, column: usize) -> Option<i64> {
    row.get_ref(column).ok()?.as_i64().ok()
}

/// The jail and the address of a row, when the ban began, how long it is, and the count; `None` where they are not as fail2ban
/// writes them.
fn values(row: &Row<'_>) -> Option<((String, String), i64, i64, u32)> {
    let since = integer(row, 2).filter(|since| *since >= 0)?;
    let times = u32::try_from(integer(row, 4)?).ok()?;
    Some(((text(row, 0)?, text(row, 1)?), since, integer(row, 3)?, times))
}

fn read(connection: &Connection, widths: Widths, now: Timestamp) -> rusqlite::Result<Fail2banBans> {
    let mut found = Fail2banBans::default();
    let mut counts: BTreeMap<(String, String), (u32, i64, i64)> = BTreeMap::new();
    // One odd row must not hide the others of its group. A ban without an address is of another kind.
    let sql = "SELECT jail, ip, max(timeofban), bantime, count(*) FROM bans WHERE ip IS NOT NULL
               GROUP BY jail, ip, typeof(timeofban) = 'integer' AND timeofban >= 0 AND typeof(bantime) = 'integer'";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let Some((key, since, length, times)) = values(row) else {
            found.unread += integer(row, 4).and_then(|rows| u64::try_from(rows).ok()).unwrap_or(1);
            continue;
        };
        found.past += u64::from(times);
        counts.insert(key, (times, since, length));
    }
    let mut bans: BTreeMap<(String, Offender), Fail2banBan> = BTreeMap::new();
    let mut statement = connection.prepare("SELECT jail, ip, timeofban, bantime, bancount FROM bips")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let Some((key, since, length, count)) = values(row) else {
            found.unread += 1;
            continue;
        };
        let (times, ..) = counts.remove(&key).unwrap_or_default();
        match (is_over(since, length, now), times) {
            (true, 0) => found.past += 1,
            (false, 1..) => found.past -= 1,
            _ => {}
        }
        found.unread += note(&mut bans, &key, since, length, times.max(count), widths);
    }
    for (key, (times, since, length)) in counts {
        // One that is not over by its length was lifted by hand.
        let length = if is_over(since, length, now) { length } else { 0 };
        found.unread += note(&mut bans, &key, since, length, times, widths);
    }
    found.bans = bans.into_values().collect();
    found.bans.sort_by_key(|ban| ban.since);
    Ok(found)
}

/// Whether a ban of `length` seconds since that second is over.
fn is_over(since: i64, length: i64, now: Timestamp) -> bool {
    length >= 0 && since.saturating_add(length) <= now.as_secs()
}

/// Notes a ban of `length` seconds since that second, the longest of each offender; how many could not be.
fn note(
    bans: &mut BTreeMap<(String, Offender), Fail2banBan>,
    (jail, ip): &(String, String),
    since: i64,
    length: i64,
    times: u32,
    widths: Widths,
) -> u64 {
    let Some(offender) = behind(ip, widths) else { return 1 };
    let since = Timestamp::from_micros(since.saturating_mul(1_000_000));
    let until = u64::try_from(length).ok().map(|length| since + Span::from_secs(length));
    let ban = Fail2banBan { offender, jail: jail.clone(), since, until, times: times.max(1) };
    let known = bans.entry((jail.clone(), offender)).or_insert_with(|| ban.clone());
    let lasts_longer = match (ban.until, known.until) {
        (None, Some(_)) => true,
        (Some(until), Some(known)) => until > known,
        (_, None) => false,
    };
    let times = known.times.max(ban.times);
    if lasts_longer {
        *known = ban;
    }
    known.times = times;
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(rows: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.sqlite3");
        let tables = "
            CREATE TABLE bans (jail TEXT, ip TEXT, timeofban INTEGER, bantime INTEGER, bancount INTEGER, data JSON);
            CREATE TABLE bips (ip TEXT, jail TEXT, timeofban INTEGER, bantime INTEGER, bancount INTEGER, data JSON);";
        Connection::open(&path).unwrap().execute_batch(&format!("{tables}{rows}")).unwrap();
        (folder, path)
    }

    #[test]
    fn bans_keep_their_ends_and_counts() {
        let (_folder, path) = database(
            "INSERT INTO bans VALUES ('sshd', '192.0.2.1', 100, 60, 1, ''), ('sshd', '192.0.2.1', 300, 120, 2, ''),
                 ('sshd', '192.0.2.2', 100, 60, 1, ''), ('sshd', '192.0.2.3', 290, 10, 1, ''),
                 ('sshd', '192.0.2.4', 300, 60, 1, ''), ('nginx', '2001:db8::1', 200, 60, 1, '');
             INSERT INTO bips VALUES ('192.0.2.1', 'sshd', 300, 120, 5, ''), ('2001:db8::1', 'nginx', 200, 60, 1, ''),
                 ('192.0.2.3', 'sshd', 290, 10, 1, ''),
                 ('2001:db8::2', 'nginx', 210, -1, 1, ''), ('a-name', 'sshd', 1, 1, 1, '');",
        );
        let found = fail2ban(&path, Widths::default(), Timestamp::from_secs(310)).unwrap();
        let at = |second: i64| Timestamp::from_micros(second * 1_000_000);
        let ban = |offender: &str, jail: &str, since, until: Option<i64>, times| Fail2banBan {
            offender: offender.parse().unwrap(),
            jail: jail.to_owned(),
            since: at(since),
            until: until.map(at),
            times,
        };
        let want = [
            ban("192.0.2.2", "sshd", 100, Some(160), 1),
            ban("2001:db8::/64", "nginx", 210, None, 1),
            ban("192.0.2.3", "sshd", 290, Some(300), 1),
            ban("192.0.2.1", "sshd", 300, Some(420), 5),
            ban("192.0.2.4", "sshd", 300, Some(300), 1),
        ];
        // The first ban of .1, those of .2, .3 and ::1, the one of .4 that was lifted, and that of a name.
        assert_eq!(found, Fail2banBans { bans: want.to_vec(), past: 6, unread: 1 });
        assert!(found.bans[3].is_in_force(at(419)) && !found.bans[3].is_in_force(at(420)));
    }

    #[test]
    fn odd_rows_are_skipped_and_counted() {
        let odd = ["NULL", "'x'", "1.5", "x'00ff'"];
        let mut rows = String::new();
        for value in odd.into_iter().chain(["-1"]) {
            rows += &format!("INSERT INTO bans VALUES ('sshd', '192.0.2.1', {value}, 60, 1, '');");
            rows += &format!("INSERT INTO bips VALUES ('192.0.2.7', 'sshd', {value}, 60, 1, '');");
            rows += &format!("INSERT INTO bips VALUES ('192.0.2.7', 'sshd', 100, 60, {value}, '');");
        }
        for value in odd {
            rows += &format!("INSERT INTO bans VALUES ('sshd', '192.0.2.1', 100, {value}, 1, '');");
            rows += &format!("INSERT INTO bips VALUES ('192.0.2.7', 'sshd', 100, {value}, 1, '');");
        }
        rows += "INSERT INTO bips VALUES (NULL, 'sshd', 1, 60, 1, ''), ('192.0.2.7', NULL, 1, 60, 1, ''),
            (x'ff', 'sshd', 1, 60, 1, ''), ('192.0.2.7', x'ff', 1, 60, 1, ''), (CAST(x'ff' AS TEXT), 'sshd', 1, 60, 1, ''),
            ('192.0.2.7', 'sshd', 1, 60, 4294967296, '');";
        let nobody = [
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "239.255.0.0/16",
            "::",
            "ff02::1",
            "::ffff:224.0.0.1",
        ];
        for ip in nobody {
            rows += &format!("INSERT INTO bips VALUES ('{ip}', 'sshd', 100, 60, 1, '');");
        }
        rows += "INSERT INTO bans VALUES ('sshd', '192.0.2.1', 300, 9223372036854775807, 1, '');
            INSERT INTO bips VALUES ('192.0.2.1', 'sshd', 300, 9223372036854775807, 3, '');";
        let (_folder, path) = database(&rows);
        let found = fail2ban(&path, Widths::default(), Timestamp::from_secs(310)).unwrap();
        assert_eq!((found.unread, found.past), (9 + 14 + 6 + 7, 7));
        let bans: Vec<_> = found.bans.iter().map(|ban| (ban.offender.to_string(), ban.times)).collect();
        assert_eq!(bans, [("192.0.2.1".to_owned(), 3)]);
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        let (_folder, path) = database("DROP TABLE bips;");
        let said = fail2ban(&path, Widths::default(), Timestamp::default()).unwrap_err().to_string();
        assert_eq!(said, "it has not the tables of fail2ban 0.11 or later");
        let (_folder, path) = database("");
        let writer = Connection::open(&path).unwrap();
        writer.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE;").unwrap();
        let said = fail2ban(&path, Widths::default(), Timestamp::default()).unwrap_err().to_string();
        assert_eq!(said, "fail2ban is writing to it; try again, or stop fail2ban first");
        drop(writer);
        std::fs::write(&path, "not a database at all, but long enough for the header of one").unwrap();
        assert!(fail2ban(&path, Widths::default(), Timestamp::default()).unwrap_err().is_corrupt());
    }
}
