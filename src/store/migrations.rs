//! The tables of the ledger, and what makes each version of them of the one before.

use rusqlite::functions::FunctionFlags;
use rusqlite::{Connection, Error, Transaction};

use super::rows::{offender_bytes, text_error};
use super::{LedgerError, undo};
use crate::model::Offender;

/// The version of the tables below, kept as SQLite's `user_version`.
pub(super) const VERSION: usize = MIGRATIONS.len();

/// What makes each version of the one before; the first makes it of an empty file.
pub(super) const MIGRATIONS: [&str; 10] = [
    "CREATE TABLE ban (
        offender TEXT NOT NULL,
        jail     TEXT NOT NULL,
        kind     TEXT NOT NULL,
        ports    TEXT NOT NULL, -- JSON
        since    INTEGER NOT NULL, -- microseconds
        until    INTEGER, -- forever if NULL; past bans stay for a while
        times    INTEGER NOT NULL,
        reason   TEXT NOT NULL,
        PRIMARY KEY (offender, jail)
    ) WITHOUT ROWID;
    CREATE TABLE position (
        source   TEXT PRIMARY KEY,
        cursor   TEXT NOT NULL
    ) WITHOUT ROWID;",
    "CREATE TABLE offence (
        id       INTEGER PRIMARY KEY, -- in the order in which they were counted
        time     INTEGER NOT NULL, -- microseconds
        offender TEXT NOT NULL,
        jail     TEXT NOT NULL, -- one row for each that counted it
        grammar  TEXT NOT NULL, -- a name, as grammars may change
        heading  TEXT NOT NULL,
        rule     INTEGER, -- the line in the grammar's file
        message  BLOB, -- or its beginning
        pid      INTEGER NOT NULL,
        session  BLOB, -- the whole state of it after this offence
        window   TEXT NOT NULL, -- what became of it: counted, filled, nothing; `past` if that no longer matters
        evidence INTEGER NOT NULL -- 1 if it helped to fill a window
    );
    CREATE INDEX offence_of ON offence (offender, jail);
    CREATE INDEX offence_as ON offence (evidence);
    CREATE TABLE client (
        instance INTEGER PRIMARY KEY,
        taken    INTEGER NOT NULL,
        tail     BLOB NOT NULL, -- hashes of its last lines, 8 bytes each
        heard    INTEGER NOT NULL -- the largest is the last
    );",
    "CREATE TABLE allowance (
        offender TEXT PRIMARY KEY,
        since    INTEGER NOT NULL, -- microseconds
        until    INTEGER, -- forever if NULL
        comment  TEXT NOT NULL
    ) WITHOUT ROWID;",
    "CREATE TABLE login (
        offender TEXT PRIMARY KEY,
        at       INTEGER NOT NULL, -- microseconds; the last
        forgiven INTEGER NOT NULL, -- bans withheld
        since    INTEGER NOT NULL -- microseconds; from when on those are counted
    ) WITHOUT ROWID;",
    "ALTER TABLE ban ADD COLUMN mode TEXT NOT NULL DEFAULT 'enforce';",
    "CREATE TABLE history (
        since    INTEGER NOT NULL, -- microseconds
        offender TEXT NOT NULL,
        jail     TEXT NOT NULL,
        kind     TEXT NOT NULL,
        mode     TEXT NOT NULL,
        until    INTEGER, -- forever if NULL
        times    INTEGER NOT NULL,
        reason   TEXT NOT NULL,
        ended    INTEGER, -- microseconds; if it was taken back before its time
        ending   TEXT, -- how: lifted, widened
        PRIMARY KEY (since, offender, jail)
    ) WITHOUT ROWID;
    INSERT INTO history SELECT since, offender, jail, kind, mode, until, times, reason, NULL, NULL FROM ban;
    CREATE TABLE tally (
        hour     INTEGER NOT NULL, -- since 1970
        jail     TEXT NOT NULL,
        grammar  TEXT NOT NULL,
        heading  TEXT NOT NULL,
        rule     INTEGER NOT NULL, -- the line in the grammar's file; 0 if that is not known
        offences INTEGER NOT NULL,
        PRIMARY KEY (hour, jail, grammar, heading, rule)
    ) WITHOUT ROWID;
    INSERT INTO tally SELECT time / 3600000000, jail, grammar, heading, coalesce(rule, 0), count(*)
        FROM offence WHERE window <> 'nothing' GROUP BY 1, 2, 3, 4, 5;",
    "ALTER TABLE offence ADD COLUMN host INTEGER NOT NULL DEFAULT 0; -- a hash
    ALTER TABLE offence ADD COLUMN value INTEGER NOT NULL DEFAULT 0; -- a hash",
    "ALTER TABLE position ADD COLUMN starts INTEGER NOT NULL DEFAULT 0; -- of the daemon, without any progress",
    undo::TABLES,
    // Rows are only added, none is looked for: attackers come in no order, so an index by offender would touch a page for
    // each of them.
    "CREATE TABLE terms ( -- what bans have in common
        id       INTEGER PRIMARY KEY,
        jail     TEXT NOT NULL,
        kind     TEXT NOT NULL,
        mode     TEXT NOT NULL,
        ports    TEXT NOT NULL, -- JSON
        reason   TEXT NOT NULL,
        UNIQUE (jail, kind, mode, ports, reason)
    );
    CREATE TABLE origin ( -- what offences have in common
        id       INTEGER PRIMARY KEY,
        jail     TEXT NOT NULL, -- that counted them
        grammar  TEXT NOT NULL, -- a name, as grammars may change
        category TEXT NOT NULL,
        rule     INTEGER NOT NULL, -- the line in the grammar's file; 0 if that is not known
        UNIQUE (jail, grammar, category, rule)
    );
    CREATE TABLE fact (
        name     TEXT PRIMARY KEY,
        value    INTEGER NOT NULL
    ) WITHOUT ROWID;

    ALTER TABLE ban RENAME TO old_ban;
    CREATE TABLE ban ( -- in force and past; the last row of an offender and a jail says what is so now
        id       INTEGER PRIMARY KEY, -- in the order in which they were written
        offender BLOB NOT NULL, -- the address, or the first half of one of IPv6, and the length of the prefix
        terms    INTEGER NOT NULL,
        times    INTEGER NOT NULL,
        since    INTEGER NOT NULL, -- microseconds
        until    INTEGER, -- forever if NULL
        ended    INTEGER, -- microseconds; if it was taken back before its time
        ending   TEXT -- how: lifted, widened
    );
    INSERT OR IGNORE INTO terms SELECT NULL, jail, kind, mode, '[]', reason FROM history;
    INSERT OR IGNORE INTO terms SELECT NULL, jail, kind, mode, ports, reason FROM old_ban;
    INSERT INTO ban
        SELECT NULL, offender_bytes(h.offender), t.id, h.times, h.since, h.until, h.ended, h.ending
        FROM history h JOIN terms t ON (t.jail, t.kind, t.mode, t.ports, t.reason) = (h.jail, h.kind, h.mode, '[]', h.reason)
        WHERE NOT EXISTS (SELECT 1 FROM old_ban b WHERE (b.offender, b.jail, b.since) = (h.offender, h.jail, h.since))
        ORDER BY h.since;
    INSERT INTO ban
        SELECT NULL, offender_bytes(b.offender), t.id, b.times, b.since,
            iif(h.ending = 'widened', h.until, b.until), iif(h.ending = 'widened', b.until, NULL), iif(h.ending = 'widened', h.ending, NULL)
        FROM old_ban b JOIN terms t ON (t.jail, t.kind, t.mode, t.ports, t.reason) = (b.jail, b.kind, b.mode, b.ports, b.reason)
            LEFT JOIN history h ON (h.since, h.offender, h.jail) = (b.since, b.offender, b.jail)
        ORDER BY b.since;
    DROP TABLE old_ban;
    DROP TABLE history;

    ALTER TABLE tally RENAME TO old_tally;
    CREATE TABLE tally (
        hour     INTEGER NOT NULL, -- since 1970
        origin   INTEGER NOT NULL,
        offences INTEGER NOT NULL,
        PRIMARY KEY (hour, origin)
    ) WITHOUT ROWID;
    INSERT OR IGNORE INTO origin SELECT NULL, jail, grammar, heading, rule FROM old_tally;
    INSERT INTO tally SELECT hour, o.id, offences FROM old_tally t JOIN origin o
        ON (o.jail, o.grammar, o.category, o.rule) = (t.jail, t.grammar, t.heading, t.rule);
    DROP TABLE old_tally;

    ALTER TABLE offence RENAME TO old_offence;
    CREATE TABLE offence (
        id       INTEGER PRIMARY KEY, -- in the order in which they were counted
        effect   INTEGER NOT NULL, -- -1 if it did not count; 0 if it did; with how many the window was full, if it was
        offender BLOB NOT NULL, -- as in ban
        origin   INTEGER NOT NULL,
        time     INTEGER NOT NULL, -- microseconds
        pid      INTEGER NOT NULL,
        session  BLOB, -- the whole state of it after this offence
        host     INTEGER NOT NULL, -- a hash
        value    INTEGER NOT NULL, -- a hash
        message  BLOB -- or its beginning
    );
    INSERT OR IGNORE INTO origin SELECT DISTINCT NULL, jail, grammar, heading, coalesce(rule, 0) FROM old_offence;
    -- What was the last evidence of a window had filled it, with the evidence since the last that did.
    CREATE TABLE filled AS SELECT id, offender, jail, lag(id, 1, 0) OVER (PARTITION BY offender, jail ORDER BY id) AS last
        FROM old_offence o WHERE window = 'filled' OR (window = 'past' AND evidence = 1 AND NOT EXISTS (
            SELECT 1 FROM old_offence p WHERE p.offender = o.offender AND p.jail = o.jail AND p.id > o.id AND p.evidence = 1 AND p.window = 'past'));
    INSERT INTO offence
        SELECT o.id, CASE WHEN f.id IS NOT NULL THEN max(1, min(255, (SELECT count(*) FROM old_offence p
                WHERE p.offender = o.offender AND p.jail = o.jail AND p.evidence = 1 AND p.id <= o.id AND p.id > f.last)))
            WHEN window = 'nothing' THEN -1 ELSE 0 END,
            offender_bytes(o.offender), origin.id, time, pid, session, host, value, message
        FROM old_offence o LEFT JOIN filled f ON f.id = o.id JOIN origin
            ON (origin.jail, origin.grammar, origin.category, origin.rule) = (o.jail, o.grammar, o.heading, coalesce(o.rule, 0))
        ORDER BY o.id;
    INSERT INTO fact SELECT 'past', max(id) FROM old_offence WHERE window = 'past' HAVING max(id) IS NOT NULL;
    DROP TABLE filled;
    DROP TABLE old_offence;",
];

/// Brings the tables of this version up to date.
pub(super) fn migrate(transaction: &Transaction<'_>, version: usize) -> Result<(), LedgerError> {
    let missing = MIGRATIONS.get(version..).unwrap_or_default();
    if missing.is_empty() {
        return Ok(());
    }
    know_offenders(transaction)?;
    for migration in missing {
        transaction.execute_batch(migration)?;
    }
    Ok(transaction.pragma_update(None, "user_version", VERSION as i64)?)
}

/// Teaches SQLite the function `offender_bytes`, for the addresses of earlier versions.
fn know_offenders(connection: &Connection) -> rusqlite::Result<()> {
    connection.create_scalar_function("offender_bytes", 1, FunctionFlags::SQLITE_DETERMINISTIC, |call| {
        let offender: Offender = call.get_raw(0).as_str()?.parse().map_err(|error| text_error(0, error))?;
        Ok::<_, Error>(offender_bytes(offender).as_slice().to_vec())
    })
}
