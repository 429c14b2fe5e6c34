//! The ledger: bans and past bans, exemptions, logins, the effect of each offence and its line, what commands can be taken
//! back, and how far each source has been read.
//!
//! It is an SQLite database, so that it is consistent after a crash at any moment. One task writes it, with one
//! transaction for all waiting updates, and nothing on the way from a log line to the kernel waits for it. A [`LedgerUpdate`] is
//! written as a whole.

mod fail2ban;
mod fail2ban_since;
mod history;
mod undo;
mod update;

use std::fmt;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hashbrown::{HashMap, HashSet};
use rusqlite::config::DbConfig;
use rusqlite::types::{FromSqlError, Type};
use rusqlite::{Connection, ErrorCode, OpenFlags, Row, Transaction, params};

use crate::config::Retention;
use crate::detect::{LOGINS, Login, Session, Trace, WindowEffect};
use crate::grammar::Grammars;
use crate::model::{
    self, Allowance, Ban, BanOrigin, Decision, GrammarId, Mode, Offender, Port, SessionId, Span, Timestamp,
};

pub use fail2ban::{Fail2banBan, Fail2banBans, fail2ban};
pub use fail2ban_since::{Fail2banRow, fail2ban_since};
pub use history::{BanEnd, BanRecord, History, HourlyOffences, OffenceLine, Role, Rows};
pub use undo::{UNDOABLE, UndoItem, UndoStep, UndoUpdate, shift_page_back};
pub use update::{ClientProgress, LedgerUpdate, SavedState};

/// An open ledger, which no other process has.
pub struct Ledger {
    connection: Connection,
    path: PathBuf,
    limits: Retention,
    /// Offences written since it was last looked whether there are too many.
    unpruned: u32,
    /// When that was looked at.
    pruned: Timestamp,
    /// Locked as long as the ledger is open.
    _lock: Option<File>,
}

/// How large the ledger is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LedgerSize {
    /// Its files' bytes.
    pub bytes: u64,
    /// Offences, with their lines.
    pub offences: u64,
    /// Offenders' bans, in force and past.
    pub bans: u64,
    /// All bans there were.
    pub history: u64,
    /// Sums of offences by the hour.
    pub tallies: u64,
}

/// Why the ledger cannot be used. Print it for the operator.
#[derive(Debug)]
pub struct LedgerError {
    what: String,
    kind: LedgerErrorKind,
}

#[derive(Debug, PartialEq, Eq)]
enum LedgerErrorKind {
    Corrupt,
    Locked,
    Other,
}

impl LedgerError {
    /// Whether the file is not a ledger, or cannot be read any more.
    pub fn is_corrupt(&self) -> bool {
        self.kind == LedgerErrorKind::Corrupt
    }

    /// Whether another daemon has it.
    pub fn is_locked(&self) -> bool {
        self.kind == LedgerErrorKind::Locked
    }

    fn new(what: impl fmt::Display) -> Self {
        Self { what: what.to_string(), kind: LedgerErrorKind::Other }
    }
}

impl fmt::Display for LedgerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for LedgerError {}

impl From<rusqlite::Error> for LedgerError {
    fn from(error: rusqlite::Error) -> Self {
        let code = error.sqlite_error_code();
        let is_corrupt = matches!(code, Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
            || matches!(error, rusqlite::Error::FromSqlConversionFailure(..));
        Self {
            what: error.to_string(),
            kind: if is_corrupt { LedgerErrorKind::Corrupt } else { LedgerErrorKind::Other },
        }
    }
}

/// The version of the tables below, kept as SQLite's `user_version`.
const VERSION: usize = MIGRATIONS.len();

/// What makes each version of the one before; the first makes it of an empty file.
const MIGRATIONS: [&str; 9] = [
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
];

/// How many clients are remembered.
pub const CLIENTS: usize = 64;

/// How many offences may be written before it is looked whether there are too many, and how long that may take.
const UNPRUNED: u32 = 4096;
const PRUNE: Span = Span::from_secs(600);

/// For how long SQLite waits for somebody who reads the file meanwhile.
const PATIENCE: Duration = Duration::from_secs(1);

impl Ledger {
    /// Opens the ledger in `directory`, which is made if it is missing, or begins a new one.
    ///
    /// # Errors
    ///
    /// Another process has it; the file cannot be made or read, is not a ledger or is damaged, or is one of a later
    /// version.
    pub fn open(directory: &Path, limits: Retention) -> Result<Self, LedgerError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|error| LedgerError::new(format!("cannot create the folder: {error}")))?;
        let lock = lock(&directory.join("ledger.lock"))?;
        let path = directory.join(FILE);
        // SQLite gives the mode of this file to those that it makes beside it, and says why it cannot be opened.
        drop(private(&path));
        hide_all(directory);
        let mut connection = Connection::open(&path)?;
        connection.busy_timeout(PATIENCE)?;
        // Otherwise SQLite, which is built to look at bound values for its plans, compiles a statement at each use.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        // A commit then waits for no disk: it outlives any process, and a power cut may undo the last ones, but never
        // leaves half of one.
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.pragma_update(None, "journal_size_limit", 16 << 20)?;
        let sound: String = connection.pragma_query_value(None, "quick_check", |row| row.get(0))?;
        if sound != "ok" {
            return Err(LedgerError { what: sound, kind: LedgerErrorKind::Corrupt });
        }
        let version = connection.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))?;
        let known = usize::try_from(version).ok().and_then(|version| MIGRATIONS.get(version..));
        let Some(missing) = known else {
            return Err(LedgerError::new(format!(
                "it has version {version}, but this banstream knows version {VERSION}"
            )));
        };
        let transaction = connection.transaction()?;
        for migration in missing {
            transaction.execute_batch(migration)?;
        }
        if !missing.is_empty() {
            transaction.pragma_update(None, "user_version", VERSION as i64)?;
        }
        transaction.commit()?;
        let (unpruned, pruned) = (0, Timestamp::default());
        Ok(Self { connection, path, limits, unpruned, pruned, _lock: Some(lock) })
    }

    /// Opens the ledger in `directory` for reading, where it cannot be opened for writing. Nobody may write it
    /// meanwhile: it is not locked.
    ///
    /// # Errors
    ///
    /// The file is not there, cannot be read, or is not of our version.
    pub fn open_to_read(directory: &Path, limits: Retention) -> Result<Self, LedgerError> {
        let (version, connection) = open_unlocked(directory)?;
        if version != VERSION as i64 {
            return Err(LedgerError::new(format!("it has version {version}")));
        }
        let (unpruned, pruned, path) = (0, Timestamp::default(), directory.join(FILE));
        Ok(Self { connection, path, limits, unpruned, pruned, _lock: None })
    }

    /// Gives the file of a ledger that is damaged another name, which ends with `stamp`, and a number if that is
    /// taken; what it is called now. Nobody may have it open.
    ///
    /// # Errors
    ///
    /// It cannot be renamed.
    pub fn set_aside(directory: &Path, stamp: &str) -> Result<PathBuf, LedgerError> {
        let free = |suffix: &String| !directory.join(format!("{FILE}{suffix}")).exists();
        let suffixes = std::iter::once(format!(".{stamp}")).chain((1..).map(|n| format!(".{stamp}.{n}")));
        let suffix = suffixes.into_iter().find(free).unwrap_or_default();
        // The log that belongs to it goes along: SQLite must not find it beside the new file.
        for part in ["-wal", "-shm", ""] {
            let to = directory.join(format!("{FILE}{suffix}{part}"));
            match fs::rename(directory.join(format!("{FILE}{part}")), to) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(LedgerError::new(error)),
                _ => {}
            }
        }
        Ok(directory.join(format!("{FILE}{suffix}")))
    }

    /// All that was written and still matters; `grammars` are those in force now.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn memory(&self, grammars: &Grammars) -> Result<SavedState, LedgerError> {
        let sql =
            "SELECT offender, jail, kind, ports, since, until, times, reason, mode FROM ban ORDER BY since";
        let mut known = KnownValues::default();
        let ban = |row: &Row<'_>| ban(row, &mut known);
        let bans = self.connection.prepare(sql)?.query_map([], ban)?.collect::<Result<_, _>>()?;
        let sql = "SELECT offender, jail, time, grammar, pid, window, session, host, value FROM offence
                   WHERE window <> 'past' ORDER BY id";
        let number = |name: &str| (0..).zip(grammars.iter()).find(|(_, grammar)| grammar.name() == name);
        let trace = |row: &Row<'_>| -> rusqlite::Result<Trace> {
            let time = Timestamp::from_micros(row.get(2)?);
            let (grammar, session_id) = (number(row.get_ref(3)?.as_str()?), row.get(4)?);
            let session = row.get_ref(6)?.as_blob_or_null()?.map(|bytes| Session::read(bytes, time));
            Ok(Trace {
                nth: 0,
                jail: known.text(row, 1)?,
                offender: offender(row, 0)?,
                time,
                // A grammar that is gone leaves its windows, and sessions that nobody will speak in.
                grammar: grammar.map(|(number, _)| GrammarId(number)),
                category: None,
                session_id: grammar
                    .map_or(SessionId::Process(session_id), |(_, grammar)| grammar.session_id(session_id)),
                host: row.get(7)?,
                value: row.get::<_, i64>(8)?.cast_unsigned(),
                effect: WindowEffect::named(row.get_ref(5)?.as_str()?).ok_or(FromSqlError::InvalidType)?,
                session,
            })
        };
        let traces = self.connection.prepare(sql)?.query_map([], trace)?.collect::<Result<_, _>>()?;
        let sql = "SELECT instance, taken, tail FROM client ORDER BY heard";
        let client = |row: &Row<'_>| -> rusqlite::Result<ClientProgress> {
            Ok(ClientProgress {
                instance: row.get::<_, i64>(0)?.cast_unsigned(),
                taken: row.get::<_, i64>(1)?.cast_unsigned(),
                tail: hashes(row.get_ref(2)?.as_blob()?),
            })
        };
        let clients = self.connection.prepare(sql)?.query_map([], client)?.collect::<Result<_, _>>()?;
        let sql = "SELECT offender, since, until, comment FROM allowance";
        let allowances = self.connection.prepare(sql)?.query_map([], allowance)?.collect::<Result<_, _>>()?;
        let sql = "SELECT offender, at, forgiven, since FROM login";
        let logins = self.connection.prepare(sql)?.query_map([], login)?.collect::<Result<_, _>>()?;
        let sql = "SELECT source, cursor FROM position";
        let position = |row: &Row<'_>| Ok((row.get::<_, String>(0)?.into(), row.get(1)?));
        let positions = self.connection.prepare(sql)?.query_map([], position)?.collect::<Result<_, _>>()?;
        let sql = "SELECT source, starts FROM position";
        let start = |row: &Row<'_>| Ok((row.get::<_, String>(0)?.into(), row.get(1)?));
        let starts = self.connection.prepare(sql)?.query_map([], start)?.collect::<Result<_, _>>()?;
        let undo = undo::steps(&self.connection, &mut KnownValues::default())?;
        Ok(SavedState { bans, traces, positions, starts, clients, allowances, logins, undo })
    }

    /// Writes all these updates or none. Now and then it also forgets what is too old or too much at `now`.
    ///
    /// # Errors
    ///
    /// The file cannot be written, or is not there any more.
    pub fn write(&mut self, updates: &[LedgerUpdate], now: Timestamp) -> Result<(), LedgerError> {
        // SQLite would go on writing into a file without a name.
        if !self.path.exists() {
            return Err(LedgerError {
                what: "the file was removed".to_owned(),
                kind: LedgerErrorKind::Corrupt,
            });
        }
        let transaction = self.connection.transaction()?;
        let mut unpruned = self.unpruned;
        for update in updates {
            unpruned = unpruned.saturating_add(update.traces.len().try_into().unwrap_or(u32::MAX));
            write(&transaction, update, now)?;
        }
        let due = unpruned >= UNPRUNED || now.since(self.pruned) >= PRUNE || now < self.pruned;
        if due {
            prune(&transaction, self.limits, now)?;
        }
        transaction.commit()?;
        self.unpruned = if due { 0 } else { unpruned };
        if due {
            self.pruned = now;
        }
        Ok(())
    }

    /// Lets a write fail, also one that is under way, once this is so. It is asked after each 1,000 steps of SQLite.
    ///
    /// # Errors
    ///
    /// SQLite has no memory.
    pub fn give_up_if(&mut self, is_over: impl FnMut() -> bool + Send + 'static) -> Result<(), LedgerError> {
        Ok(self.connection.progress_handler(1000, Some(is_over))?)
    }

    /// How large it is. Counts rows: not to be asked many times a second.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn size(&self) -> Result<LedgerSize, LedgerError> {
        let count = |table: &str| {
            let sql = format!("SELECT count(*) FROM {table}");
            self.connection.query_row(&sql, [], |row| row.get::<_, i64>(0)).map(i64::cast_unsigned)
        };
        let bytes = |suffix: &str| {
            let mut path = self.path.clone().into_os_string();
            path.push(suffix);
            fs::metadata(path).map_or(0, |file| file.len())
        };
        Ok(LedgerSize {
            bytes: bytes("") + bytes("-wal"),
            offences: count("offence")?,
            bans: count("ban")?,
            history: count("history")?,
            tallies: count("tally")?,
        })
    }
}

/// The ledger's name in its directory.
const FILE: &str = "ledger.db";

/// A connection that makes no file and takes no lock, and the version of what it reads.
fn open_unlocked(directory: &Path) -> Result<(i64, Connection), LedgerError> {
    // Without locks and with the index of the log in memory, SQLite makes no file.
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags_and_vfs(directory.join(FILE), flags, c"unix-none")?;
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    Ok((connection.pragma_query_value(None, "user_version", |row| row.get(0))?, connection))
}

/// Opens a file for writing that only its owner can read, whatever the umask; made if it is missing, and otherwise left
/// as long as it is.
///
/// # Errors
///
/// It cannot be made or opened.
pub fn private(path: &Path) -> io::Result<File> {
    let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(path)?;
    hide(path);
    Ok(file)
}

/// Takes from others what earlier versions left to them, of ledgers that were set aside too: people type passwords for
/// user names.
fn hide_all(directory: &Path) {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b"ledger."));
    ours.for_each(|entry| hide(&entry.path()));
}

/// Where this fails the file is another user's, who alone can say who reads it.
fn hide(path: &Path) {
    let open = |file: &fs::Metadata| file.is_file() && file.mode() & 0o7777 != 0o600;
    if fs::symlink_metadata(path).is_ok_and(|file| open(&file)) {
        drop(fs::set_permissions(path, Permissions::from_mode(0o600)));
    }
}

/// Keeps other daemons from the ledger until it is dropped, or the process dies.
fn lock(path: &Path) -> Result<File, LedgerError> {
    let refused = |error: io::Error| LedgerError::new(format!("cannot lock `{}`: {error}", path.display()));
    let file = private(path).map_err(refused)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => {
            Err(LedgerError { what: "another daemon has it open".to_owned(), kind: LedgerErrorKind::Locked })
        }
        Err(fs::TryLockError::Error(error)) => Err(refused(error)),
    }
}

fn write(transaction: &Transaction<'_>, update: &LedgerUpdate, now: Timestamp) -> Result<(), LedgerError> {
    if update.whole {
        transaction.execute("DELETE FROM ban WHERE until IS NULL OR until > ?1", [now.as_micros()])?;
        // Their dates may have changed.
        let sql = "DELETE FROM history WHERE ended IS NULL AND (until IS NULL OR until > ?1)";
        transaction.execute(sql, [now.as_micros()])?;
        transaction.execute("UPDATE offence SET window = 'past' WHERE window <> 'past'", [])?;
        transaction.execute("DELETE FROM allowance", [])?;
        transaction.execute("DELETE FROM login", [])?;
        undo::forget_all(transaction)?;
    }
    for trace in &update.traces {
        write_trace(transaction, trace, update)?;
    }
    history::count(transaction, update)?;
    let wide = Decision::wide(&update.decisions);
    for decision in &update.decisions {
        match decision {
            Decision::Ban(ban) => {
                write_ban(transaction, ban)?;
                history::begin(transaction, ban)?;
            }
            Decision::Unban(ban) => {
                let wide = ban.widened(&wide);
                let ending = if wide.is_some() { BanEnd::Widened } else { BanEnd::Lifted };
                history::end(transaction, ban, ending, now)?;
                match wide {
                    // It is over, and the next one counts it.
                    Some(wide) => write_ban(transaction, &Ban { until: Some(wide.since), ..ban.clone() })?,
                    None => {
                        let sql = "DELETE FROM ban WHERE offender = ?1 AND jail = ?2";
                        let of = params![ban.offender.to_string(), &*ban.jail];
                        transaction.prepare_cached(sql)?.execute(of)?;
                    }
                }
            }
        }
    }
    for (source, cursor) in &update.positions {
        let sql = "INSERT OR REPLACE INTO position (source, cursor) VALUES (?1, ?2)";
        transaction.prepare_cached(sql)?.execute(params![&**source, cursor])?;
    }
    for (source, starts) in &update.starts {
        let sql = "UPDATE position SET starts = ?2 WHERE source = ?1";
        transaction.prepare_cached(sql)?.execute(params![&**source, starts])?;
    }
    for (offender, allowance) in &update.allowances {
        write_allowance(transaction, *offender, allowance.as_ref())?;
    }
    for login in &update.logins {
        let sql = "INSERT OR REPLACE INTO login VALUES (?1, ?2, ?3, ?4)";
        transaction.prepare_cached(sql)?.execute(params![
            login.offender.to_string(),
            login.at.as_micros(),
            login.forgiven.0,
            login.forgiven.1.as_micros(),
        ])?;
    }
    update.undo.iter().try_for_each(|of| undo::write(transaction, of))?;
    for client in &update.clients {
        let sql = "INSERT OR REPLACE INTO client
                   SELECT ?1, ?2, ?3, 1 + coalesce(max(heard), 0) FROM client";
        transaction.prepare_cached(sql)?.execute(params![
            client.instance.cast_signed(),
            client.taken.cast_signed(),
            bytes(&client.tail),
        ])?;
    }
    Ok(())
}

fn write_trace(
    transaction: &Transaction<'_>,
    trace: &Trace,
    update: &LedgerUpdate,
) -> Result<(), LedgerError> {
    let (grammar, category) = update.names(trace.grammar, trace.category);
    let (message, rule) = update.evidence.get(trace.nth).unzip();
    let offender = trace.offender.to_string();
    // The last of those that filled a window is this one.
    let is_evidence = matches!(trace.effect, WindowEffect::Filled(_));
    let sql = "INSERT INTO offence VALUES (NULL, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)";
    transaction.prepare_cached(sql)?.execute(params![
        trace.time.as_micros(),
        offender,
        &*trace.jail,
        grammar,
        category,
        rule,
        message,
        match trace.session_id {
            SessionId::Process(pid) => pid,
            SessionId::Category(category) => category.0.into(),
        },
        trace.session.map(|session| session.bytes()),
        trace.effect.name(),
        is_evidence,
        trace.host,
        trace.value.cast_signed(),
    ])?;
    if let WindowEffect::Filled(retries @ 2..) = trace.effect {
        let sql = "UPDATE offence SET evidence = 1 WHERE id IN (
                       SELECT max(id) FROM (
                           SELECT id, value FROM offence
                           WHERE offender = ?1 AND jail = ?2 AND window <> 'nothing' ORDER BY id DESC LIMIT 1000)
                       GROUP BY value, iif(value = 0, id, 0) ORDER BY 1 DESC LIMIT ?3)";
        transaction.prepare_cached(sql)?.execute(params![offender, &*trace.jail, retries])?;
    }
    Ok(())
}

fn write_ban(transaction: &Transaction<'_>, ban: &Ban) -> Result<(), LedgerError> {
    let sql = "INSERT OR REPLACE INTO ban VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    transaction.prepare_cached(sql)?.execute(params![
        ban.offender.to_string(),
        &*ban.jail,
        ban.kind.name(),
        serde_json::to_string(&ban.ports).map_err(LedgerError::new)?,
        ban.since.as_micros(),
        ban.until.map(Timestamp::as_micros),
        ban.times,
        &*ban.reason,
        ban.mode.name(),
    ])?;
    Ok(())
}

fn write_allowance(
    transaction: &Transaction<'_>,
    offender: Offender,
    allowance: Option<&Allowance>,
) -> Result<(), LedgerError> {
    let offender = offender.to_string();
    match allowance {
        None => {
            transaction.prepare_cached("DELETE FROM allowance WHERE offender = ?1")?.execute([offender])?
        }
        Some(Allowance { since, until, comment, .. }) => {
            let sql = "INSERT OR REPLACE INTO allowance VALUES (?1, ?2, ?3, ?4)";
            let until = until.map(Timestamp::as_micros);
            transaction.prepare_cached(sql)?.execute(params![
                offender,
                since.as_micros(),
                until,
                &**comment
            ])?
        }
    };
    Ok(())
}

/// Forgets what is too old, and then the oldest of what is too much. Bans in force stay, however many.
fn prune(transaction: &Transaction<'_>, limits: Retention, now: Timestamp) -> rusqlite::Result<()> {
    let (rows, before) = (limits.max_rows.get(), (now - limits.keep).as_micros());
    transaction.execute("DELETE FROM offence WHERE time < ?1", [before])?;
    for evidence in [0, 1] {
        // The evidence of bans has room of its own, so that a flood of others cannot push it out.
        let sql = "DELETE FROM offence WHERE evidence = ?1 AND id <= (
                       SELECT id FROM offence WHERE evidence = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)";
        transaction.execute(sql, params![evidence, rows])?;
    }
    transaction.execute("DELETE FROM ban WHERE until < ?1", [before])?;
    let sql = "DELETE FROM ban WHERE until <= ?1 AND until <= (
                   SELECT until FROM ban WHERE until <= ?1 ORDER BY until DESC LIMIT 1 OFFSET ?2)";
    transaction.execute(sql, params![now.as_micros(), rows])?;
    history::prune(transaction, rows, before)?;
    undo::prune(transaction, now)?;
    let sql = "DELETE FROM client WHERE heard <= (
                   SELECT heard FROM client ORDER BY heard DESC LIMIT 1 OFFSET ?1)";
    transaction.execute(sql, [CLIENTS as i64])?;
    let sql = "DELETE FROM login WHERE at <= (SELECT at FROM login ORDER BY at DESC LIMIT 1 OFFSET ?1)";
    transaction.execute(sql, [LOGINS as i64])?;
    Ok(())
}

/// Values that many rows share, each once in memory.
#[derive(Default)]
struct KnownValues {
    texts: HashSet<Arc<str>>,
    ports: HashMap<Box<str>, Arc<[Port]>>,
}

impl KnownValues {
    fn text(&mut self, row: &Row<'_>, column: usize) -> rusqlite::Result<Arc<str>> {
        Ok(Arc::clone(self.texts.get_or_insert_with(row.get_ref(column)?.as_str()?, |text| text.into())))
    }

    /// Ports, from JSON.
    fn ports(&mut self, row: &Row<'_>, column: usize) -> rusqlite::Result<Arc<[Port]>> {
        let json = row.get_ref(column)?.as_str()?;
        if let Some(ports) = self.ports.get(json) {
            return Ok(Arc::clone(ports));
        }
        let ports: Arc<[Port]> = serde_json::from_str(json)
            .map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error.into()))?;
        self.ports.insert(json.into(), Arc::clone(&ports));
        Ok(ports)
    }
}

fn ban(row: &Row<'_>, known: &mut KnownValues) -> rusqlite::Result<Ban> {
    Ok(Ban {
        offender: offender(row, 0)?,
        jail: known.text(row, 1)?,
        kind: match row.get_ref(2)?.as_str()? {
            "manual" => BanOrigin::Manual,
            "wide" => BanOrigin::Wide,
            _ => BanOrigin::Auto,
        },
        mode: if row.get_ref(8)?.as_str()? == Mode::Observe.name() { Mode::Observe } else { Mode::Enforce },
        ports: known.ports(row, 3)?,
        since: Timestamp::from_micros(row.get(4)?),
        until: row.get::<_, Option<i64>>(5)?.map(Timestamp::from_micros),
        times: row.get(6)?,
        reason: known.text(row, 7)?,
    })
}

fn allowance(row: &Row<'_>) -> rusqlite::Result<Allowance> {
    Ok(Allowance {
        offender: offender(row, 0)?,
        since: Timestamp::from_micros(row.get(1)?),
        until: row.get::<_, Option<i64>>(2)?.map(Timestamp::from_micros),
        comment: row.get::<_, String>(3)?.into(),
    })
}

fn login(row: &Row<'_>) -> rusqlite::Result<Login> {
    let forgiven = (row.get(2)?, Timestamp::from_micros(row.get(3)?));
    Ok(Login { offender: offender(row, 0)?, at: Timestamp::from_micros(row.get(1)?), forgiven })
}

fn offender(row: &Row<'_>, column: usize) -> rusqlite::Result<Offender> {
    let parsed = row.get_ref(column)?.as_str()?.parse();
    parsed.map_err(|error: model::NotAnOffender| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error.into())
    })
}

fn bytes(hashes: &[u64]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.to_le_bytes()).collect()
}

fn hashes(bytes: &[u8]) -> Vec<u64> {
    bytes.as_chunks().0.iter().copied().map(u64::from_le_bytes).collect()
}

#[cfg(test)]
mod tests;
