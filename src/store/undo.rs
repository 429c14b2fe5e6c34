//! What commands of operators have changed, so that `undo` can take them back after a restart too.

use std::sync::Arc;

use hashbrown::HashSet;
use rusqlite::types::FromSqlError;
use rusqlite::{Connection, Row, Transaction, params};

use super::rows::{self, text_error};
use super::{LedgerError, offender};
use crate::model::{Allowance, Ban, BanTerms, Offender, Port, Span, Timestamp};

/// For how long commands can be taken back.
pub const UNDOABLE: Span = Span::from_secs(24 * 60 * 60);

/// A command that can be taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UndoStep {
    /// Its number; no other command has it.
    pub id: i64,
    /// When it changed something last.
    pub at: Timestamp,
    /// As an operator would write it.
    pub command: Arc<str>,
    /// What it changed, in order and in pages; `None` if that was too much to remember.
    pub pages: Option<Vec<Arc<Vec<UndoItem>>>>,
}

/// What there was before a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UndoItem {
    /// No ban of this jail on this offender.
    NoBan(Offender, Arc<str>),
    /// This ban, which was replaced.
    Replaced(Ban),
    /// This ban, which was lifted.
    Lifted(Ban),
    /// This exemption, or none.
    Allowance(Offender, Option<Box<Allowance>>),
}

/// What the ledger is to know of the commands that can be taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UndoUpdate {
    /// A command has changed this, besides what it had changed before.
    Page {
        /// The command's number.
        step: i64,
        /// When.
        at: Timestamp,
        /// As an operator would write it.
        command: Arc<str>,
        /// What; `None` if all that it changed is too much to remember.
        items: Option<Arc<Vec<UndoItem>>>,
    },
    /// The command of this number cannot be taken back any more.
    Forgotten(i64),
}

impl UndoStep {
    /// How much it changed; `None` if that was too much to remember.
    pub fn changes(&self) -> Option<usize> {
        self.pages.as_ref().map(|pages| pages.iter().map(|page| page.len()).sum())
    }

    /// Dates it earlier by this much.
    pub fn shift_back(&mut self, by: Span) {
        self.at = self.at - by;
        self.pages.iter_mut().flatten().for_each(|page| shift_page_back(page, by));
    }

    /// What the ledger is to know of it.
    pub fn updates(&self) -> impl Iterator<Item = UndoUpdate> {
        let page = |items| UndoUpdate::Page {
            step: self.id,
            at: self.at,
            command: Arc::clone(&self.command),
            items,
        };
        let pages = self.pages.iter().flatten().map(move |items| page(Some(Arc::clone(items))));
        pages.chain(self.pages.is_none().then(|| page(None)))
    }
}

/// Dates what a page has earlier by this much.
pub fn shift_page_back(page: &mut Arc<Vec<UndoItem>>, by: Span) {
    for item in Arc::make_mut(page) {
        match item {
            UndoItem::Replaced(ban) | UndoItem::Lifted(ban) => ban.shift_back(by),
            UndoItem::Allowance(_, Some(allowance)) => allowance.shift_back(by),
            UndoItem::NoBan(..) | UndoItem::Allowance(_, None) => {}
        }
    }
}

impl UndoUpdate {
    /// About how many bytes it takes while it waits to be written.
    pub(super) fn size(&self) -> usize {
        let items = if let Self::Page { items: Some(items), .. } = self { items.len() } else { 0 };
        size_of::<Self>() + items * size_of::<UndoItem>()
    }
}

/// The tables. Of an exemption the columns hold what a ban of the jail `` would have there, its comment in `reason`.
pub(super) const TABLES: &str = "CREATE TABLE undo_step (
        id       INTEGER PRIMARY KEY,
        at       INTEGER NOT NULL, -- microseconds
        command  TEXT NOT NULL,
        complete INTEGER NOT NULL -- 0 if it changed too much to be remembered
    );
    CREATE TABLE undo_item (
        step     INTEGER NOT NULL,
        nth      INTEGER NOT NULL,
        was      TEXT NOT NULL, -- what there was before: no-ban, replaced, lifted; exempt, not-exempt
        offender TEXT NOT NULL,
        jail     TEXT NOT NULL,
        kind     TEXT,
        ports    TEXT, -- JSON
        since    INTEGER, -- microseconds
        until    INTEGER, -- forever if NULL
        times    INTEGER,
        reason   TEXT,
        mode     TEXT,
        PRIMARY KEY (step, nth)
    ) WITHOUT ROWID;";

pub(super) fn write(transaction: &Transaction<'_>, update: &UndoUpdate) -> Result<(), LedgerError> {
    let (step, at, command, items) = match update {
        UndoUpdate::Page { step, at, command, items } => (step, at, command, items),
        UndoUpdate::Forgotten(step) => return Ok(forget(transaction, *step)?),
    };
    let Some(items) = items else {
        forget(transaction, *step)?;
        let sql = "INSERT INTO undo_step VALUES (?1, ?2, ?3, 0)";
        transaction.prepare_cached(sql)?.execute(params![step, at.as_micros(), &**command])?;
        return Ok(());
    };
    let sql = "INSERT INTO undo_step VALUES (?1, ?2, ?3, 1) ON CONFLICT DO UPDATE SET at = ?2";
    transaction.prepare_cached(sql)?.execute(params![step, at.as_micros(), &**command])?;
    let sql = "SELECT coalesce(max(nth), -1) + 1 FROM undo_item WHERE step = ?1";
    let first: i64 = transaction.prepare_cached(sql)?.query_row([step], |row| row.get(0))?;
    let sql = "INSERT INTO undo_item VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
    let mut insert = transaction.prepare_cached(sql)?;
    // Of a long list most have the same ports.
    let mut known: Option<(&Arc<[Port]>, String)> = None;
    for (nth, item) in (first..).zip(&**items) {
        let (was, who, jail, ban, allowance) = match item {
            UndoItem::NoBan(who, jail) => ("no-ban", *who, &**jail, None, None),
            UndoItem::Replaced(ban) => ("replaced", ban.offender, &*ban.jail, Some(ban), None),
            UndoItem::Lifted(ban) => ("lifted", ban.offender, &*ban.jail, Some(ban), None),
            UndoItem::Allowance(who, None) => ("not-exempt", *who, "", None, None),
            UndoItem::Allowance(who, Some(allowance)) => ("exempt", *who, "", None, Some(allowance)),
        };
        if let Some(ban) = ban
            && known.as_ref().is_none_or(|(ports, _)| **ports != ban.ports)
        {
            known = Some((&ban.ports, serde_json::to_string(&ban.ports).map_err(LedgerError::new)?));
        }
        let since = ban.map(|ban| ban.since).or(allowance.map(|allowance| allowance.since));
        let until = ban.map_or(allowance.and_then(|allowance| allowance.until), |ban| ban.until);
        let words = ban.map(|ban| &*ban.reason).or(allowance.map(|allowance| &*allowance.comment));
        insert.execute(params![
            step,
            nth,
            was,
            who.to_string(),
            jail,
            ban.map(|ban| ban.kind.name()),
            ban.and(known.as_ref()).map(|(_, json)| json),
            since.map(Timestamp::as_micros),
            until.map(Timestamp::as_micros),
            ban.map(|ban| ban.times),
            words,
            ban.map(|ban| ban.mode.name()),
        ])?;
    }
    Ok(())
}

fn forget(transaction: &Transaction<'_>, step: i64) -> rusqlite::Result<()> {
    transaction.prepare_cached("DELETE FROM undo_item WHERE step = ?1")?.execute([step])?;
    transaction.prepare_cached("DELETE FROM undo_step WHERE id = ?1")?.execute([step])?;
    Ok(())
}

/// Forgets all, for an update that says all.
pub(super) fn forget_all(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute_batch("DELETE FROM undo_item; DELETE FROM undo_step;")
}

/// Forgets what is too old.
pub(super) fn prune(transaction: &Transaction<'_>, now: Timestamp) -> rusqlite::Result<()> {
    let before = (now - UNDOABLE).as_micros();
    let sql = "DELETE FROM undo_item WHERE step IN (SELECT id FROM undo_step WHERE at < ?1)";
    transaction.execute(sql, [before])?;
    transaction.execute("DELETE FROM undo_step WHERE at < ?1", [before])?;
    Ok(())
}

/// Terms and texts that many rows share, each once in memory.
#[derive(Default)]
struct KnownValues {
    terms: HashSet<Arc<BanTerms>>,
    texts: HashSet<Arc<str>>,
}

impl KnownValues {
    fn text(&mut self, row: &Row<'_>, column: usize) -> rusqlite::Result<Arc<str>> {
        Ok(Arc::clone(self.texts.get_or_insert_with(row.get_ref(column)?.as_str()?, |text| text.into())))
    }

    fn terms(&mut self, terms: BanTerms) -> Arc<BanTerms> {
        Arc::clone(self.terms.get_or_insert_with(&terms, |terms| Arc::new(terms.clone())))
    }
}

/// The commands that can be taken back, the latest at the end.
pub(super) fn steps(connection: &Connection) -> Result<Vec<UndoStep>, LedgerError> {
    let known = &mut KnownValues::default();
    let sql = "SELECT id, at, command, complete FROM undo_step ORDER BY at, id";
    let step = |row: &Row<'_>| {
        let command = row.get::<_, String>(2)?.into();
        let pages = row.get::<_, bool>(3)?.then(Vec::new);
        Ok(UndoStep { id: row.get(0)?, at: Timestamp::from_micros(row.get(1)?), command, pages })
    };
    let mut steps: Vec<UndoStep> = connection.prepare(sql)?.query_map([], step)?.collect::<Result<_, _>>()?;
    // In the order in which a ban is read.
    let sql = "SELECT offender, jail, kind, ports, since, until, times, reason, mode, was FROM undo_item
               WHERE step = ?1 ORDER BY nth";
    let mut items = connection.prepare(sql)?;
    for step in &mut steps {
        let Some(pages) = &mut step.pages else { continue };
        let items = items.query_map([step.id], |row| item(row, known))?.collect::<Result<Vec<_>, _>>()?;
        pages.push(Arc::new(items));
    }
    Ok(steps)
}

/// A ban of `offender, jail, kind, ports, since, until, times, reason, mode`.
fn ban(row: &Row<'_>, known: &mut KnownValues) -> rusqlite::Result<Ban> {
    let terms = BanTerms {
        jail: known.text(row, 1)?,
        kind: rows::kind(row, 2)?,
        mode: rows::mode(row, 8)?,
        ports: serde_json::from_str(row.get_ref(3)?.as_str()?).map_err(|error| text_error(3, error))?,
        reason: known.text(row, 7)?,
    };
    Ok(Ban {
        offender: offender(row, 0)?,
        times: row.get(6)?,
        since: Timestamp::from_micros(row.get(4)?),
        until: row.get::<_, Option<i64>>(5)?.map(Timestamp::from_micros),
        terms: known.terms(terms),
    })
}

fn item(row: &Row<'_>, known: &mut KnownValues) -> rusqlite::Result<UndoItem> {
    Ok(match row.get_ref(9)?.as_str()? {
        "no-ban" => UndoItem::NoBan(offender(row, 0)?, known.text(row, 1)?),
        "replaced" => UndoItem::Replaced(ban(row, known)?),
        "lifted" => UndoItem::Lifted(ban(row, known)?),
        "not-exempt" => UndoItem::Allowance(offender(row, 0)?, None),
        "exempt" => {
            let allowance = Allowance {
                offender: offender(row, 0)?,
                since: Timestamp::from_micros(row.get(4)?),
                until: row.get::<_, Option<i64>>(5)?.map(Timestamp::from_micros),
                comment: known.text(row, 7)?,
            };
            UndoItem::Allowance(allowance.offender, Some(Box::new(allowance)))
        }
        _ => return Err(FromSqlError::InvalidType.into()),
    })
}
