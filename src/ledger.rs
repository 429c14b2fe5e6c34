//! The durable book: who is banned, and how far each source has been read.
//!
//! It is an SQLite database, so that a crash at any moment leaves a whole one. It stands apart because it is the
//! only thing that touches the disk; one task writes it, a transaction for all that came together, and nothing on
//! the way from a log line to the kernel waits for it.
//!
//! It does not decide anything, and knows neither jails' settings nor the kernel.

use std::fmt;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};

use crate::model::{Ban, Kind, Timestamp};

/// Something to remember.
#[derive(Clone, Debug)]
pub enum Note {
    /// A ban is in force, in place of an earlier one of the same jail.
    Banned(Ban),
    /// A ban is over.
    Over(Ban),
    /// This source has been read up to here.
    Position(&'static str, String),
}

/// An open ledger.
pub struct Ledger {
    connection: Connection,
}

/// Why the ledger cannot be used. Print it for the operator.
#[derive(Debug)]
pub struct LedgerError(String);

impl fmt::Display for LedgerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for LedgerError {}

impl From<rusqlite::Error> for LedgerError {
    fn from(error: rusqlite::Error) -> Self {
        Self(error.to_string())
    }
}

/// The version of the tables below, kept as SQLite's `user_version`.
const VERSION: i64 = 1;

const TABLES: &str = "
    CREATE TABLE ban (
        offender TEXT NOT NULL,
        jail     TEXT NOT NULL,
        kind     TEXT NOT NULL,
        ports    TEXT NOT NULL, -- JSON
        since    INTEGER NOT NULL, -- microseconds
        until    INTEGER, -- for ever if NULL
        times    INTEGER NOT NULL,
        reason   TEXT NOT NULL,
        PRIMARY KEY (offender, jail)
    ) WITHOUT ROWID;
    CREATE TABLE position (
        source   TEXT PRIMARY KEY,
        cursor   TEXT NOT NULL
    ) WITHOUT ROWID;";

impl Ledger {
    /// Opens the ledger at `path`, or begins a new one.
    ///
    /// # Errors
    ///
    /// The file cannot be made or read, is no ledger, or is one of a later version.
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        let connection = Connection::open(path)?;
        // A commit then waits for no disk. A power cut may lose the last ones, but never leaves half of one.
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        match connection.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))? {
            VERSION => {}
            0 => {
                connection.execute_batch(&format!("BEGIN;{TABLES}PRAGMA user_version = {VERSION};COMMIT;"))?
            }
            later => {
                return Err(LedgerError(format!(
                    "its version is {later}, and this banstream knows {VERSION}"
                )));
            }
        }
        Ok(Self { connection })
    }

    /// The bans that were in force when it was last written and are not over at `now`.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn bans(&self, now: Timestamp) -> Result<Vec<Ban>, LedgerError> {
        let sql = "SELECT offender, jail, kind, ports, since, until, times, reason FROM ban
                   WHERE until IS NULL OR until > ?1";
        let mut statement = self.connection.prepare(sql)?;
        let bans = statement.query_map([now.as_micros()], |row| {
            let wrong = |column| {
                move |error: Box<dyn std::error::Error + Send + Sync>| {
                    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, error)
                }
            };
            Ok(Ban {
                offender: row
                    .get::<_, String>(0)?
                    .parse()
                    .map_err(|e: crate::model::NotAnOffender| wrong(0)(e.into()))?,
                jail: row.get::<_, String>(1)?.into(),
                kind: if row.get::<_, String>(2)? == "manual" { Kind::Manual } else { Kind::Auto },
                ports: serde_json::from_str(&row.get::<_, String>(3)?).map_err(|e| wrong(3)(e.into()))?,
                since: Timestamp::from_micros(row.get(4)?),
                until: row.get::<_, Option<i64>>(5)?.map(Timestamp::from_micros),
                times: row.get(6)?,
                reason: row.get::<_, String>(7)?.into(),
            })
        })?;
        Ok(bans.collect::<Result<_, _>>()?)
    }

    /// How far a source has been read.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn position(&self, source: &str) -> Result<Option<String>, LedgerError> {
        let sql = "SELECT cursor FROM position WHERE source = ?1";
        Ok(self.connection.query_row(sql, [source], |row| row.get(0)).optional()?)
    }

    /// Writes all notes or none.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn write(&mut self, notes: &[Note]) -> Result<(), LedgerError> {
        let transaction = self.connection.transaction()?;
        for note in notes {
            match note {
                Note::Banned(ban) => {
                    let sql = "INSERT OR REPLACE INTO ban VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
                    let kind = if ban.kind == Kind::Manual { "manual" } else { "auto" };
                    let ports =
                        serde_json::to_string(&ban.ports).map_err(|error| LedgerError(error.to_string()))?;
                    transaction.prepare_cached(sql)?.execute(params![
                        ban.offender.to_string(),
                        &*ban.jail,
                        kind,
                        ports,
                        ban.since.as_micros(),
                        ban.until.map(Timestamp::as_micros),
                        ban.times,
                        &*ban.reason
                    ])?;
                }
                Note::Over(ban) => {
                    let sql = "DELETE FROM ban WHERE offender = ?1 AND jail = ?2";
                    transaction
                        .prepare_cached(sql)?
                        .execute(params![ban.offender.to_string(), &*ban.jail])?;
                }
                Note::Position(source, cursor) => {
                    let sql = "INSERT OR REPLACE INTO position VALUES (?1, ?2)";
                    transaction.prepare_cached(sql)?.execute(params![source, cursor])?;
                }
            }
        }
        Ok(transaction.commit()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Port, Protocol};

    fn ban(offender: &str, until: Option<i64>) -> Ban {
        Ban {
            offender: offender.parse().unwrap(),
            jail: "sshd".into(),
            kind: Kind::Auto,
            ports: [Port { protocol: Protocol::Tcp, number: 22 }].into(),
            since: Timestamp::from_secs(1),
            until: until.map(Timestamp::from_secs),
            times: 2,
            reason: "it's \"that\"".into(),
        }
    }

    #[test]
    fn what_is_written_is_there_after_a_restart() {
        let dir = std::env::temp_dir().join(format!("banstream-ledger-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("ledger.db");
        let (lasting, short, lifted) =
            (ban("2001:db8::/64", None), ban("192.0.2.1", Some(10)), ban("192.0.2.2", Some(90)));
        {
            let mut ledger = Ledger::open(&path).unwrap();
            let notes = [&lasting, &short, &lifted].map(|ban| Note::Banned(ban.clone()));
            ledger.write(&notes).unwrap();
            ledger.write(&[Note::Over(lifted), Note::Position("journald", "s=1;i=2".to_owned())]).unwrap();
        }
        let ledger = Ledger::open(&path).unwrap();
        assert_eq!(ledger.bans(Timestamp::from_secs(9)).unwrap(), [short, lasting.clone()]);
        assert_eq!(ledger.bans(Timestamp::from_secs(10)).unwrap(), [lasting]);
        assert_eq!(ledger.position("journald").unwrap().as_deref(), Some("s=1;i=2"));
        assert_eq!(ledger.position("socket").unwrap(), None);
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn what_is_no_ledger_is_left_alone() {
        let path = std::env::temp_dir().join(format!("banstream-no-ledger-{}", std::process::id()));
        std::fs::write(&path, "something else entirely, and long enough to be looked at").unwrap();
        assert_eq!(
            Ledger::open(&path).err().map(|error| error.to_string()).unwrap(),
            "file is not a database"
        );
        assert!(std::fs::read_to_string(&path).unwrap().starts_with("something else"));
        std::fs::remove_file(&path).unwrap();
    }
}
