//! Bans in the ledger: those in force, past ones, and how they ended, in one table to which rows are only added.
//!
//! What is written of a ban later, also that it was taken back, is a row of its own, and the last counts. So a flood of
//! bans writes one page of the file after the other; to find the row of an offender in a table by offenders would touch
//! nearly every page of it for each transaction. What no longer counts is thrown away once it may be half of the table.

use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashMap, HashSet, HashTable};
use rusqlite::{Connection, Row, Transaction};

use super::LedgerError;
use super::history::{BanEnd, BanRecord};
use super::rows::{self, Numbers, offender, offender_bytes, terms, text_error};
use crate::config::Retention;
use crate::detect::LIST;
use crate::model::{Ban, BanTerms, Decision, Timestamp};

/// [`BanEnd`], as the ledger has it.
const LIFTED: &str = "lifted";
const WIDENED: &str = "widened";

/// The columns that [`record`] reads.
pub(super) const COLUMNS: &str = "offender, terms, times, since, until, ended, ending";

/// Adds bans, or what is known of them now: when and how they ended, if they did.
pub(super) fn add<'b>(
    transaction: &Transaction<'_>,
    bans: impl Iterator<Item = (&'b Ban, Option<(Timestamp, BanEnd)>)>,
    numbers: &mut Numbers,
) -> Result<(), LedgerError> {
    let rows: Vec<_> = bans.collect();
    // In a flood neighbours have the same.
    let mut last: Option<(&Arc<BanTerms>, i64)> = None;
    rows::insert(transaction, ("ban", 7), &rows, |(ban, ended), row| {
        let terms = match last {
            Some((terms, number)) if Arc::ptr_eq(terms, &ban.terms) => number,
            _ => numbers.of_terms(transaction, &ban.terms)?,
        };
        last = Some((&ban.terms, terms));
        row.put(offender_bytes(ban.offender).as_slice())?;
        row.put(terms)?;
        row.put(ban.times)?;
        row.put(ban.since.as_micros())?;
        row.put(ban.until.map(Timestamp::as_micros))?;
        row.put(ended.map(|(at, _)| at.as_micros()))?;
        row.put(ended.map(|(_, ending)| if ending == BanEnd::Widened { WIDENED } else { LIFTED }))?;
        Ok(())
    })
}

/// Takes out those in force, as these are told now: their dates may have changed. One that is not told is lifted, so that
/// none before it counts in its place. How many rows more there are.
pub(super) fn forget_those_in_force(
    transaction: &Transaction<'_>,
    told: &[Decision],
    now: Timestamp,
    numbers: &mut Numbers,
) -> Result<i64, LedgerError> {
    const IN_FORCE: &str = "ended IS NULL AND (until IS NULL OR until > ?1)";
    let terms = terms(transaction)?;
    let hasher = DefaultHashBuilder::default();
    let hash = |ban: &Ban| hasher.hash_one((ban.offender, &*ban.jail));
    let nth = |at: u32| told.get(at as usize).map(Decision::ban);
    // Their places, in 5 to 10 bytes each: there may be a million.
    let mut places = HashTable::<u32>::with_capacity(told.len());
    for (at, told) in (0..).zip(told) {
        places.insert_unique(hash(told.ban()), at, |at| nth(*at).map_or(0, hash));
    }
    let mut lifted = Vec::new();
    let mut statement = transaction.prepare(&format!("SELECT {COLUMNS} FROM ban WHERE {IN_FORCE}"))?;
    let mut rows = statement.query([now.as_micros()])?;
    while let Some(row) = rows.next()? {
        let BanRecord { ban, .. } = record(row, &terms)?;
        let is_same =
            |at: &u32| nth(*at).is_some_and(|told| told.offender == ban.offender && told.jail == ban.jail);
        if places.find(hash(&ban), is_same).is_none() {
            lifted.push(ban);
        }
    }
    drop(rows);
    let gone = transaction.execute(&format!("DELETE FROM ban WHERE {IN_FORCE}"), [now.as_micros()])?;
    add(transaction, lifted.iter().map(|ban| (ban, Some((now, BanEnd::Lifted)))), numbers)?;
    Ok(lifted.len() as i64 - gone as i64)
}

/// A row of [`COLUMNS`].
pub(super) fn record(row: &Row<'_>, terms: &HashMap<i64, Arc<BanTerms>>) -> rusqlite::Result<BanRecord> {
    let known = terms.get(&row.get::<_, i64>(1)?).ok_or_else(|| text_error(1, "terms that are not there"))?;
    let ban = Ban {
        offender: offender(row, 0)?,
        times: row.get(2)?,
        since: Timestamp::from_micros(row.get(3)?),
        until: row.get::<_, Option<i64>>(4)?.map(Timestamp::from_micros),
        terms: Arc::clone(known),
    };
    let ending =
        if row.get_ref(6)?.as_str_or_null()? == Some(WIDENED) { BanEnd::Widened } else { BanEnd::Lifted };
    let ended = row.get::<_, Option<i64>>(5)?.map(|at| (Timestamp::from_micros(at), ending));
    Ok(BanRecord { ban, ended })
}

/// The last ban of each offender from each jail, in force or over, unless it was lifted; in the order in which they began,
/// as a ban lasts at least as long as those that were there before it. One that was widened is over since then.
/// There are about so many rows.
pub(super) fn last_ones(connection: &Connection, about: u64) -> rusqlite::Result<Vec<Ban>> {
    let terms = terms(connection)?;
    let mut statement = connection.prepare(&format!("SELECT {COLUMNS} FROM ban ORDER BY id"))?;
    let mut rows = statement.query([])?;
    let mut bans: Vec<Option<Ban>> = Vec::new();
    // By offender and jail, in 5 to 10 bytes each: there may be a million.
    let mut places = HashTable::<u32>::with_capacity(about as usize);
    let hasher = DefaultHashBuilder::default();
    let hash = |ban: &Ban| hasher.hash_one((ban.offender, &*ban.jail));
    while let Some(row) = rows.next()? {
        let BanRecord { mut ban, ended } = record(row, &terms)?;
        let known = |at: &u32| bans.get(*at as usize).and_then(Option::as_ref);
        let is_same = |at: &u32| {
            known(at).is_some_and(|known| known.offender == ban.offender && known.jail == ban.jail)
        };
        let of = hash(&ban);
        let replaced = places.find_entry(of, is_same).ok().map(|entry| entry.remove().0);
        match ended {
            Some((_, BanEnd::Lifted)) => {}
            ended => {
                let hash_of = |at: &u32| known(at).map_or(0, hash);
                places.insert_unique(of, bans.len() as u32, hash_of);
                ban.until = ended.map_or(ban.until, |(at, _)| Some(at));
                bans.push(Some(ban));
            }
        }
        if let Some(replaced) = replaced.and_then(|at| bans.get_mut(at as usize)) {
            *replaced = None;
        }
    }
    let mut bans: Vec<Ban> = bans.into_iter().flatten().collect();
    // They mostly are.
    bans.sort_by_key(|ban| ban.since);
    Ok(bans)
}

/// Throws away rows of which later ones say what is so now, and of past bans those that ended before `before`, and the
/// oldest of what is more than so many. Bans in force stay, however many. How many rows are left.
///
/// Looks at all rows.
pub(super) fn prune(
    transaction: &Transaction<'_>,
    limits: Retention,
    now: Timestamp,
) -> rusqlite::Result<u64> {
    let before = now - limits.keep;
    let terms = terms(transaction)?;
    // The beginning of the ban that was met last of each offender and jail, by hash: there may be a million, and two of
    // one hash are one in 10^7. `None` where the last that there is goes: then no earlier one may take its place.
    let mut met: HashMap<u64, Option<Timestamp>> = HashMap::new();
    let hasher = DefaultHashBuilder::default();
    let (mut past, mut left, mut gone) = (0_u32, 0_u64, Runs::default());
    let (mut forgotten, mut used): (Option<Timestamp>, HashSet<i64>) = (None, HashSet::new());
    let sql = format!("SELECT {COLUMNS}, id FROM ban ORDER BY id DESC");
    let mut statement = transaction.prepare(&sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (BanRecord { ban, ended }, of) = (record(row, &terms)?, row.get(1)?);
        let key = hasher.hash_one((ban.offender, &*ban.jail));
        let newer = met.insert(key, Some(ban.since));
        let end = ended.map(|(at, _)| at).or(ban.until);
        if newer.is_none() && ended.is_none() && end.is_none_or(|end| end > now) {
            used.insert(of);
            left += 1;
            continue;
        }
        // Bans of lists are none of this host's attacks, and a long list would push those out.
        let is_past = *ban.jail != *LIST
            && newer.is_none_or(|newer| newer.is_some_and(|since| since != ban.since))
            && end.is_none_or(|end| end >= before);
        if is_past && past < limits.max_rows.get() {
            used.insert(of);
            past += 1;
            left += 1;
            continue;
        }
        if is_past {
            forgotten = forgotten.max(Some(ban.since));
        }
        if newer.is_none_or(|newer| newer.is_none()) {
            met.insert(key, None);
        }
        gone.add(row.get(7)?);
    }
    drop(rows);
    gone.delete(transaction, "ban")?;
    if let Some(since) = forgotten {
        let sql =
            "INSERT INTO fact VALUES ('forgotten', ?1) ON CONFLICT DO UPDATE SET value = max(value, ?1)";
        transaction.execute(sql, [since.as_micros()])?;
    }
    let mut statement = transaction.prepare("DELETE FROM terms WHERE id = ?1")?;
    let mut unused = terms.keys().filter(|id| !used.contains(*id));
    unused.try_for_each(|id| statement.execute([id]).map(drop))?;
    Ok(left)
}

/// Rows to delete, met from the last to the first; neighbours go together.
#[derive(Default)]
pub(super) struct Runs(Vec<(i64, i64)>);

impl Runs {
    pub(super) fn add(&mut self, id: i64) {
        match self.0.last_mut() {
            Some((first, _)) if *first == id + 1 => *first = id,
            _ => self.0.push((id, id)),
        }
    }

    pub(super) fn delete(&self, transaction: &Transaction<'_>, table: &str) -> rusqlite::Result<()> {
        let sql = format!("DELETE FROM {table} WHERE id BETWEEN ?1 AND ?2");
        let mut statement = transaction.prepare(&sql)?;
        self.0.iter().try_for_each(|run| statement.execute(*run).map(drop))
    }
}
