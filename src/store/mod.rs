//! The ledger: bans and past bans, exemptions, logins, the effect of each offence and its line, what commands can be taken
//! back, and how far each source has been read.
//!
//! It is an SQLite database, so that it is consistent after a crash at any moment. One task writes it, with one
//! transaction for all waiting updates, and nothing on the way from a log line to the kernel waits for it. A [`LedgerUpdate`] is
//! written as a whole.

mod update;
mod packed;
mod rows;
mod migrations;
mod evidence;
mod history;
mod bans;
mod fail2ban;
mod fail2ban_since;
mod undo;

use std::fmt;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use hashbrown::HashMap;
use rusqlite::config::DbConfig;
use rusqlite::types::FromSqlError;
use rusqlite::{Connection, ErrorCode, OpenFlags, Row, Transaction, params};

use crate::config::Retention;
use crate::detect::{LOGINS, Login, Session, SessionBytes, Trace, WindowEffect};
use crate::grammar::Grammars;
use crate::model::{Allowance, Decision, GrammarId, Offender, SessionId, Span, Timestamp};

pub use fail2ban::{Fail2banBan, Fail2banBans, fail2ban};
pub use fail2ban_since::{Fail2banRow, fail2ban_since};
pub use history::{BanEnd, BanRecord, History, HourlyOffences, OffenceLine, Role, Rows};
pub use packed::PackedRows;
pub use undo::{UNDOABLE, UndoItem, UndoStep, UndoUpdate, shift_page_back};
pub use update::{ClientProgress, LedgerUpdate, SavedState};

use bans::Runs;
use evidence::FilledWindows;
use history::Tallies;
use migrations::{VERSION, migrate};
use rows::{Numbers, Origin, OriginRef, offender_bytes};

/// An open ledger, which no other process has.
pub struct Ledger {
    connection: Connection,
    path: PathBuf,
    limits: Retention,
    numbers: Numbers,
    counts: Counts,
    /// How many bans are in force, as far as it was told.
    in_force: u64,
    /// When it was last looked whether there is too much, and whether there are too many bans.
    pruned: Timestamp,
    bans_pruned: Timestamp,
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
    /// Bans, in force and past, and what was written of them later.
    pub bans: u64,
    /// Sums of offences by the hour.
    pub tallies: u64,
}

/// How many rows there are, as far as they can be many, and how many of them have come since it was looked whether that
/// is too many.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    offences: u64,
    bans: u64,
    new_offences: u64,
    new_bans: u64,
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

/// How many clients are remembered.
pub const CLIENTS: usize = 64;

/// How many rows may be written at least before it is looked whether there are too many, and how long that may take;
/// longer for bans, since a million may be in force.
const UNPRUNED: u64 = 4096;
const PRUNE: Span = Span::from_secs(600);
const PRUNE_BANS: Span = Span::from_secs(60 * 60);

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
        let ledger = Self::open_unchecked(directory, limits)?;
        check(&ledger.connection)?;
        Ok(ledger)
    }

    /// The same, and what [`memory`](Self::memory) says, which is read while another thread looks whether the file is sound.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), and as [`memory`](Self::memory).
    pub fn open_and_read(
        directory: &Path,
        limits: Retention,
        grammars: &Grammars,
    ) -> Result<(Self, SavedState), LedgerError> {
        let ledger = Self::open_unchecked(directory, limits)?;
        let checking = Connection::open(&ledger.path)?;
        let (checked, memory) = thread::scope(|scope| {
            let checked = scope.spawn(move || check(&checking));
            let memory = ledger.memory(grammars);
            (checked.join(), memory)
        });
        checked.unwrap_or_else(|_| Err(LedgerError::new("the check has failed")))?;
        Ok((ledger, memory?))
    }

    fn open_unchecked(directory: &Path, limits: Retention) -> Result<Self, LedgerError> {
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
        let version = connection.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))?;
        let Some(version) = usize::try_from(version).ok().filter(|version| *version <= VERSION) else {
            return Err(LedgerError::new(format!(
                "it has version {version}, but this banstream knows version {VERSION}; install a later one, or move the file away"
            )));
        };
        if version < VERSION {
            check(&connection)?;
            let transaction = connection.transaction()?;
            migrate(&transaction, version)?;
            transaction.commit()?;
        }
        Self::of(connection, path, limits, Some(lock))
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
        Self::of(connection, directory.join(FILE), limits, None)
    }

    fn of(
        connection: Connection,
        path: PathBuf,
        limits: Retention,
        lock: Option<File>,
    ) -> Result<Self, LedgerError> {
        let count = |table: &str| {
            let sql = format!("SELECT count(*) FROM {table}");
            connection.query_row(&sql, [], |row| row.get::<_, i64>(0)).map(i64::cast_unsigned)
        };
        let counts = Counts { offences: count("offence")?, bans: count("ban")?, ..Counts::default() };
        let (numbers, pruned, bans_pruned) = (Numbers::default(), Timestamp::default(), Timestamp::default());
        Ok(Self { connection, path, limits, numbers, counts, in_force: 0, pruned, bans_pruned, _lock: lock })
    }

    /// Gives the file of a ledger that is damaged another name, which ends with `stamp`, and a number if that is
    /// taken; what it is called now, or `None` if the file is gone. Nobody may have it open.
    ///
    /// # Errors
    ///
    /// It cannot be renamed.
    pub fn set_aside(directory: &Path, stamp: &str) -> Result<Option<PathBuf>, LedgerError> {
        let free = |suffix: &String| !directory.join(format!("{FILE}{suffix}")).exists();
        let suffixes = std::iter::once(format!(".{stamp}")).chain((1..).map(|n| format!(".{stamp}.{n}")));
        let suffix = suffixes.into_iter().find(free).unwrap_or_default();
        let mut aside = None;
        // The log that belongs to it goes along: SQLite must not find it beside the new file.
        for part in ["-wal", "-shm", ""] {
            let to = directory.join(format!("{FILE}{suffix}{part}"));
            match fs::rename(directory.join(format!("{FILE}{part}")), &to) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(LedgerError::new(error)),
                // The file itself is the last of them.
                renamed => aside = renamed.is_ok().then_some(to),
            }
        }
        Ok(aside)
    }

    /// All that was written and still matters; `grammars` are those in force now.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn memory(&self, grammars: &Grammars) -> Result<SavedState, LedgerError> {
        let bans = bans::last_ones(&self.connection, self.counts.bans)?;
        let sql = "SELECT offender, origin, time, pid, session, host, value, effect FROM offence
                   WHERE id > coalesce((SELECT value FROM fact WHERE name = 'past'), 0) ORDER BY id";
        let number = |name: &str| (0..).zip(grammars.iter()).find(|(_, grammar)| grammar.name() == name);
        let origins: HashMap<i64, _> = rows::origins(&self.connection)?
            .into_iter()
            .map(|(id, origin)| (id, (number(&origin.grammar), origin.jail)))
            .collect();
        let trace = |row: &Row<'_>| -> rusqlite::Result<Trace> {
            let (time, session_id) = (Timestamp::from_micros(row.get(2)?), row.get(3)?);
            let session = row.get_ref(4)?.as_blob_or_null()?.map(|bytes| Session::read(bytes, time));
            let (grammar, jail) = origins.get(&row.get::<_, i64>(1)?).ok_or(FromSqlError::InvalidType)?;
            Ok(Trace {
                nth: 0,
                jail: Arc::clone(jail),
                offender: rows::offender(row, 0)?,
                time,
                // A grammar that is gone leaves its windows, and sessions that nobody will speak in.
                grammar: grammar.map(|(number, _)| GrammarId(number)),
                category: None,
                session_id: grammar
                    .map_or(SessionId::Process(session_id), |(_, grammar)| grammar.session_id(session_id)),
                host: row.get(5)?,
                value: row.get::<_, i64>(6)?.cast_unsigned(),
                effect: WindowEffect::numbered(row.get(7)?).ok_or(FromSqlError::InvalidType)?,
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
        let undo = undo::steps(&self.connection)?;
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
        let written = self.try_write(updates, now);
        if written.is_err() {
            self.numbers.forget();
        }
        written
    }

    fn try_write(&mut self, updates: &[LedgerUpdate], now: Timestamp) -> Result<(), LedgerError> {
        let transaction = self.connection.transaction()?;
        let mut counts = self.counts;
        let mut tallies = Tallies::default();
        for update in updates {
            write(&transaction, update, now, &mut self.numbers, &mut tallies, &mut counts)?;
        }
        tallies.write(&transaction)?;
        let is_late = |pruned: Timestamp, span| now.since(pruned) >= span || now < pruned;
        let (mut pruned, mut bans_pruned) = (self.pruned, self.bans_pruned);
        let most = u64::from(self.limits.max_rows.get()).max(UNPRUNED);
        if is_late(pruned, PRUNE) || counts.new_offences >= most {
            counts.offences = prune(&transaction, self.limits, now)?;
            (counts.new_offences, pruned) = (0, now);
        }
        let in_force = updates.iter().rev().find_map(|update| update.in_force);
        self.in_force = in_force.map_or(self.in_force, |bans| bans as u64);
        // Of those in force no row goes but those that later ones have replaced.
        let half_may_go = counts.new_bans >= most.max(counts.bans / 2) && counts.bans >= 2 * self.in_force;
        if is_late(bans_pruned, PRUNE_BANS) || half_may_go {
            counts.bans = bans::prune(&transaction, self.limits, now)?;
            (counts.new_bans, bans_pruned) = (0, now);
            // Terms that no ban has any more are gone.
            self.numbers.forget();
        }
        transaction.commit()?;
        (self.counts, self.pruned, self.bans_pruned) = (counts, pruned, bans_pruned);
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

    /// How large it is.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn size(&self) -> Result<LedgerSize, LedgerError> {
        let tallies =
            self.connection.query_row("SELECT count(*) FROM tally", [], |row| row.get::<_, i64>(0))?;
        let bytes = |suffix: &str| {
            let mut path = self.path.clone().into_os_string();
            path.push(suffix);
            fs::metadata(path).map_or(0, |file| file.len())
        };
        Ok(LedgerSize {
            bytes: bytes("") + bytes("-wal"),
            offences: self.counts.offences,
            bans: self.counts.bans,
            tallies: tallies.cast_unsigned(),
        })
    }
}

/// The ledger's name in its directory.
pub const FILE: &str = "ledger.db";

/// Whether the file is sound. Looks at all rows.
fn check(connection: &Connection) -> Result<(), LedgerError> {
    let what: String = connection.pragma_query_value(None, "quick_check", |row| row.get(0))?;
    if what == "ok" { Ok(()) } else { Err(LedgerError { what, kind: LedgerErrorKind::Corrupt }) }
}

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

fn write(
    transaction: &Transaction<'_>,
    update: &LedgerUpdate,
    now: Timestamp,
    numbers: &mut Numbers,
    tallies: &mut Tallies,
    counts: &mut Counts,
) -> Result<(), LedgerError> {
    let unpacked = (!update.packed.is_empty()).then(|| update.packed.unpack());
    let (traces, decisions): (&[Trace], &[Decision]) = unpacked
        .as_ref()
        .map_or((&update.traces, &update.decisions), |(traces, decisions)| (traces, decisions));
    if update.whole {
        let more = bans::forget_those_in_force(transaction, decisions, now, numbers)?;
        counts.bans = counts.bans.saturating_add_signed(more);
        let sql = "INSERT OR REPLACE INTO fact SELECT 'past', coalesce(max(id), 0) FROM offence";
        transaction.execute(sql, [])?;
        transaction.execute("DELETE FROM allowance", [])?;
        transaction.execute("DELETE FROM login", [])?;
        undo::forget_all(transaction)?;
    }
    write_traces(transaction, update, traces, numbers, tallies)?;
    let wide = Decision::wide(decisions);
    let decided = decisions.iter().map(|decision| match decision {
        Decision::Ban(ban) => (ban, None),
        Decision::Unban(ban) => (
            ban,
            Some(match ban.widened(&wide) {
                // It is over, and the next one counts it.
                Some(wide) => (wide.since, BanEnd::Widened),
                None => (now, BanEnd::Lifted),
            }),
        ),
    });
    bans::add(transaction, decided, numbers)?;
    let (offences, bans) = (traces.len() as u64, decisions.len() as u64);
    (counts.offences, counts.new_offences) = (counts.offences + offences, counts.new_offences + offences);
    (counts.bans, counts.new_bans) = (counts.bans + bans, counts.new_bans + bans);
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

fn write_traces(
    transaction: &Transaction<'_>,
    update: &LedgerUpdate,
    traces: &[Trace],
    numbers: &mut Numbers,
    tallies: &mut Tallies,
) -> Result<(), LedgerError> {
    // In a flood neighbours have the same.
    let mut last = None;
    rows::insert(transaction, ("offence", 9), traces, |trace, row| {
        let (message, rule) = update.evidence.get(trace.nth).unzip();
        let rule = rule.unwrap_or(0);
        let of = (Arc::as_ptr(&trace.jail), trace.grammar, trace.category, rule);
        let origin = match last {
            Some((last, origin)) if last == of => origin,
            _ => {
                let (grammar, category) = update.names(trace.grammar, trace.category);
                let origin = OriginRef { jail: &trace.jail, grammar, category, rule };
                numbers.of_origin(transaction, origin)?
            }
        };
        last = Some((of, origin));
        // An update with the whole state repeats offences that were counted.
        if !update.whole && trace.effect != WindowEffect::Nothing {
            tallies.add(trace.time, origin);
        }
        row.put(trace.effect.number())?;
        row.put(offender_bytes(trace.offender).as_slice())?;
        row.put(origin)?;
        row.put(trace.time.as_micros())?;
        row.put(match trace.session_id {
            SessionId::Process(pid) => pid,
            SessionId::Category(category) => category.0.into(),
        })?;
        row.put(trace.session.map(|session| session.bytes()).as_ref().map(SessionBytes::as_slice))?;
        row.put(trace.host)?;
        row.put(trace.value.cast_signed())?;
        // In a flood only a sample has one.
        row.put(message.filter(|message| !message.is_empty()))?;
        Ok(())
    })
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

/// Forgets what is too old, and then the oldest of what is too much, but for bans. How many offences are left.
fn prune(transaction: &Transaction<'_>, limits: Retention, now: Timestamp) -> Result<u64, LedgerError> {
    let (rows, before) = (limits.max_rows.get(), (now - limits.keep).as_micros());
    let left = prune_offences(transaction, rows, before)?;
    history::prune(transaction, rows, before)?;
    undo::prune(transaction, now)?;
    let sql = "DELETE FROM client WHERE heard <= (
                   SELECT heard FROM client ORDER BY heard DESC LIMIT 1 OFFSET ?1)";
    transaction.execute(sql, [CLIENTS as i64])?;
    let sql = "DELETE FROM login WHERE at <= (SELECT at FROM login ORDER BY at DESC LIMIT 1 OFFSET ?1)";
    transaction.execute(sql, [LOGINS as i64])?;
    Ok(left)
}

/// Forgets offences. The evidence of bans has room of its own, so that a flood of others cannot push it out.
fn prune_offences(transaction: &Transaction<'_>, most: u32, before: i64) -> Result<u64, LedgerError> {
    let origins = rows::origins(transaction)?;
    let (mut windows, mut gone, mut kept) = (FilledWindows::default(), Runs::default(), [0_u32; 2]);
    let mut statement = transaction
        .prepare("SELECT id, effect, offender, origin, value, time FROM offence ORDER BY id DESC")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if row.get::<_, i64>(5)? < before {
            gone.add(row.get(0)?);
            continue;
        }
        let is_evidence = is_evidence(row, &origins, &mut windows)?;
        let [others, kept_evidence] = &mut kept;
        let kept = if is_evidence { kept_evidence } else { others };
        match *kept < most {
            true => *kept += 1,
            false => gone.add(row.get(0)?),
        }
    }
    drop(rows);
    gone.delete(transaction, "offence")?;
    // The next numbers are given from the largest that is left.
    let sql =
        "UPDATE fact SET value = min(value, (SELECT coalesce(max(id), 0) FROM offence)) WHERE name = 'past'";
    transaction.execute(sql, [])?;
    Ok(kept.into_iter().map(u64::from).sum())
}

/// Whether a row of `_, effect, offender, origin, value, …` is [evidence](FilledWindows).
fn is_evidence(
    row: &Row<'_>,
    origins: &HashMap<i64, Origin>,
    windows: &mut FilledWindows,
) -> rusqlite::Result<bool> {
    let effect = WindowEffect::numbered(row.get(1)?).ok_or(FromSqlError::InvalidType)?;
    // Most are such in a flood.
    if windows.are_closed() && matches!(effect, WindowEffect::Filled(1) | WindowEffect::Counted) {
        return Ok(effect != WindowEffect::Counted);
    }
    let origin = origins.get(&row.get::<_, i64>(3)?).ok_or(FromSqlError::InvalidType)?;
    let value = row.get::<_, i64>(4)?.cast_unsigned();
    Ok(windows.is_evidence(rows::offender(row, 2)?, &origin.jail, effect, value))
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

/// An offender, as text.
fn offender(row: &Row<'_>, column: usize) -> rusqlite::Result<Offender> {
    row.get_ref(column)?.as_str()?.parse().map_err(|error| rows::text_error(column, error))
}

fn bytes(hashes: &[u64]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.to_le_bytes()).collect()
}

fn hashes(bytes: &[u8]) -> Vec<u64> {
    bytes.as_chunks().0.iter().copied().map(u64::from_le_bytes).collect()
}

#[cfg(test)]
mod tests;
