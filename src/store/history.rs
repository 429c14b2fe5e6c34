//! The history for reports: every ban and how it ended, and the offences of each hour.
//!
//! No decision depends on it. Sums remain when a flood pushes rows out of the table of offences; jails and rules decide
//! their number, not attackers.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, Transaction, params};

use super::{
    FILE, KnownValues, LedgerError, LedgerUpdate, PATIENCE, VERSION, allowance, ban, offender, open_unlocked,
};
use crate::config::Retention;
use crate::detect::{LIST, WindowEffect};
use crate::model::{Allowance, Ban, BanOrigin, Offender, Timestamp};

/// A ban, in force or over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BanRecord {
    /// The ban, without its ports.
    pub ban: Ban,
    /// When it was taken back before its time, if it was, and how.
    pub ended: Option<(Timestamp, BanEnd)>,
}

/// How a ban ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BanEnd {
    /// An operator lifted it, by a command or by an exemption in the configuration.
    Lifted,
    /// A ban of the whole prefix took its place.
    Widened,
}

/// How many offences one rule found for one jail in one hour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HourlyOffences {
    /// When the hour began.
    pub hour: Timestamp,
    /// The jail that counted them.
    pub jail: String,
    /// The rule's grammar.
    pub grammar: String,
    /// Its category.
    pub category: String,
    /// Its line in the grammar's file; 0 if that is not known.
    pub rule: u32,
    /// How many; an attempt with several lines is one.
    pub offences: u64,
}

/// A line with an offence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffenceLine {
    /// When.
    pub time: Timestamp,
    /// The grammar that read it; it may be gone.
    pub grammar: String,
    /// What the offence is called.
    pub category: String,
    /// The rule's line in the grammar's file, which may be another by now.
    pub rule: u32,
    /// The message, or its beginning. A stranger wrote it.
    pub message: Vec<u8>,
}

/// What became of lines that were counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// They count still, or did until they were too old.
    Counted,
    /// They filled a window, the last that was.
    Evidence,
}

/// What happened in a time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// The bans that began, in order.
    pub bans: Vec<BanRecord>,
    /// The offences, by the hour; of the first and the last hour all of them.
    pub tallies: Vec<HourlyOffences>,
    /// How many offences of each offender are still on file.
    pub offences: BTreeMap<Offender, u64>,
    /// The exemptions by hand.
    pub allowances: Vec<Allowance>,
    /// How many bans are carried out at the end.
    pub in_force: u64,
    /// When the oldest ban on file began, where older ones were forgotten because they were too many.
    pub oldest: Option<Timestamp>,
}

/// A ledger open for reading only, beside the daemon that writes it or without one.
pub struct History {
    connection: Connection,
    limits: Retention,
}

const HOUR: i64 = 3_600_000_000;
/// [`BanEnd::Widened`], as the ledger has it.
const WIDENED: &str = "widened";

impl History {
    /// Opens the ledger in `directory`.
    ///
    /// # Errors
    ///
    /// The file is not there, cannot be read, or is not of our version.
    pub fn open(directory: &Path, limits: Retention) -> Result<Self, LedgerError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let beside = || -> Result<_, LedgerError> {
            let connection = Connection::open_with_flags(directory.join(FILE), flags)?;
            connection.busy_timeout(PATIENCE)?;
            Ok((connection.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))?, connection))
        };
        // Where nobody runs and we may write nothing, SQLite cannot make the files it needs beside a writer.
        let (version, connection) = beside().or_else(|_| open_unlocked(directory))?;
        if version != VERSION as i64 {
            let what = format!("it has version {version}, but this banstream reads version {VERSION}");
            return Err(LedgerError::new(what));
        }
        // So that all that is read is of one moment.
        connection.execute_batch("BEGIN")?;
        Ok(Self { connection, limits })
    }

    /// What happened from `from` on, and before `to`.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn rows(&self, from: Timestamp, to: Timestamp) -> Result<Rows, LedgerError> {
        let (from, to) = (from.as_micros(), to.as_micros());
        let sql =
            "SELECT offender, jail, kind, '[]', since, until, times, reason, mode, ended, ending FROM history
                   WHERE since >= ?1 AND since < ?2 ORDER BY since";
        let mut known = KnownValues::default();
        let past = |row: &Row<'_>| past(row, &mut known);
        let bans =
            self.connection.prepare(sql)?.query_map([from, to], past)?.collect::<Result<Vec<_>, _>>()?;
        let sql = "SELECT offender, jail, max(coalesce(until, ?2)) FROM history
                   WHERE kind = ?3 AND since < ?1 AND ended IS NULL AND (until IS NULL OR until > ?1)
                   GROUP BY offender, jail";
        let by_hand = |row: &Row<'_>| {
            let until = Timestamp::from_micros(row.get(2)?);
            Ok(((offender(row, 0)?, row.get::<_, String>(1)?.into()), OpenBan { until, place: None }))
        };
        let values = params![from, Timestamp::MAX.as_micros(), BanOrigin::Manual.name()];
        let open = self.connection.prepare(sql)?.query_map(values, by_hand)?.collect::<Result<_, _>>()?;
        let bans = join_changes(bans, open);
        let sql = "SELECT hour, jail, grammar, heading, rule, offences FROM tally
                   WHERE hour >= ?1 AND hour < ?2 ORDER BY hour";
        let hours = [from.div_euclid(HOUR), to.saturating_sub(1).div_euclid(HOUR) + 1];
        let tallies = self.connection.prepare(sql)?.query_map(hours, tally)?.collect::<Result<_, _>>()?;
        let sql = "SELECT offender, count(*) FROM offence
                   WHERE time >= ?1 AND time < ?2 AND window <> 'nothing' GROUP BY offender";
        let counted = |row: &Row<'_>| Ok((offender(row, 0)?, row.get::<_, i64>(1)?.cast_unsigned()));
        let offences =
            self.connection.prepare(sql)?.query_map([from, to], counted)?.collect::<Result<_, _>>()?;
        let sql = "SELECT offender, since, until, comment FROM allowance WHERE until IS NULL OR until > ?1";
        let allowances =
            self.connection.prepare(sql)?.query_map([to], allowance)?.collect::<Result<_, _>>()?;
        let sql = "SELECT count(*) FROM ban WHERE mode = 'enforce' AND since < ?1 AND (until IS NULL OR until > ?1)";
        let in_force = self.connection.query_row(sql, [to], |row| row.get::<_, i64>(0))?.cast_unsigned();
        let sql = "SELECT min(since) FROM history HAVING count(*) >= ?1";
        let oldest =
            self.connection.query_row(sql, [self.limits.max_rows.get()], |row| row.get(0)).optional()?;
        let oldest = oldest.map(Timestamp::from_micros);
        Ok(Rows { bans, tallies, offences, allowances, in_force, oldest })
    }

    /// The last lines, at most so many, that earned this offender a ban in that time; the last first.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn lines(
        &self,
        offender: Offender,
        from: Timestamp,
        to: Timestamp,
        most: u32,
    ) -> Result<Vec<OffenceLine>, LedgerError> {
        let sql = "SELECT time, grammar, heading, rule, message FROM offence
                   WHERE offender = ?1 AND time >= ?2 AND time < ?3 AND message IS NOT NULL
                   ORDER BY evidence DESC, id DESC LIMIT ?4";
        let within = params![offender.to_string(), from.as_micros(), to.as_micros(), most];
        Ok(self.connection.prepare(sql)?.query_map(within, line)?.collect::<Result<_, _>>()?)
    }

    /// Whether it knew of anything at `at` or before, and has forgotten nothing since. A ledger that is younger knows nothing
    /// of that time.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn reaches(&self, at: Timestamp) -> Result<bool, LedgerError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM tally WHERE hour <= ?1)
                   AND (SELECT count(*) < ?2 OR min(since) <= ?3 FROM history)";
        let at = at.as_micros();
        let within = params![at.div_euclid(HOUR), self.limits.max_rows.get(), at];
        Ok(self.connection.query_row(sql, within, |row| row.get(0))?)
    }

    /// The lines of the last offences in that time, at most so many, and who caused them; the last first. A line that several
    /// jails have counted is there once.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn sample(
        &self,
        from: Timestamp,
        to: Timestamp,
        most: u32,
    ) -> Result<Vec<(Offender, OffenceLine)>, LedgerError> {
        let sql = "SELECT time, grammar, heading, rule, message, offender, jail FROM offence
                   WHERE time >= ?1 AND time < ?2 AND message IS NOT NULL AND window <> 'nothing'
                   ORDER BY id DESC LIMIT ?3";
        let mut statement = self.connection.prepare(sql)?;
        let mut rows = statement.query(params![from.as_micros(), to.as_micros(), most])?;
        let (mut lines, mut kept): (Vec<(Offender, OffenceLine)>, String) = (Vec::new(), String::new());
        while let Some(row) = rows.next()? {
            let (found, jail) = ((offender(row, 5)?, line(row)?), row.get::<_, String>(6)?);
            // The rows of one line stand together, one for each jail.
            if jail == kept || lines.last() != Some(&found) {
                lines.push(found);
                kept = jail;
            }
        }
        Ok(lines)
    }

    /// When somebody logged in from there last, as far as that is known.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn login(&self, offender: Offender) -> Result<Option<Timestamp>, LedgerError> {
        let sql = "SELECT at FROM login WHERE offender = ?1";
        let at = self.connection.query_row(sql, [offender.to_string()], |row| row.get(0)).optional()?;
        Ok(at.map(Timestamp::from_micros))
    }

    /// The last lines that this jail counted of the offender, in their order: `most` at the most, or of evidence those
    /// of the last window that it filled. A further line about a counted attempt is not one.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn counted(
        &self,
        offender: Offender,
        jail: &str,
        role: Role,
        most: u8,
    ) -> Result<Vec<OffenceLine>, LedgerError> {
        // Rows that were rewritten for a ledger with gaps have no message, and stand beside the old rows,
        // of which nobody knows any more which were none; `most` leaves few of them.
        let sql = "SELECT time, grammar, heading, rule, message, window FROM offence
                   WHERE offender = ?1 AND jail = ?2 AND evidence = ?3 AND window <> 'nothing'
                       AND message IS NOT NULL
                   ORDER BY id DESC LIMIT ?4";
        let mut statement = self.connection.prepare(sql)?;
        let mut rows = statement.query(params![offender.to_string(), jail, role == Role::Evidence, most])?;
        let mut lines = Vec::new();
        while let Some(row) = rows.next()? {
            if !lines.is_empty() && row.get::<_, String>(5)? == WindowEffect::Filled(0).name() {
                break;
            }
            lines.push(line(row)?);
        }
        lines.reverse();
        Ok(lines)
    }
}

/// A ban by hand that is in force.
#[derive(Clone, Copy)]
struct OpenBan {
    until: Timestamp,
    /// Which one it is of those that are reported, if it began in that time.
    place: Option<usize>,
}

/// The bans, those that an operator has changed once each: a change of the length has a row of its own. `open` are those in
/// force before the first.
fn join_changes(rows: Vec<BanRecord>, mut open: BTreeMap<(Offender, Arc<str>), OpenBan>) -> Vec<BanRecord> {
    let mut bans: Vec<BanRecord> = Vec::with_capacity(rows.len());
    for row in rows {
        if row.ban.kind != BanOrigin::Manual {
            bans.push(row);
            continue;
        }
        let key = (row.ban.offender, Arc::clone(&row.ban.jail));
        let changed = open.remove(&key).filter(|before| before.until > row.ban.since);
        let place = changed.map_or(Some(bans.len()), |before| before.place);
        if row.ended.is_none() {
            open.insert(key, OpenBan { until: row.ban.until.unwrap_or(Timestamp::MAX), place });
        }
        match (changed, place.and_then(|place| bans.get_mut(place))) {
            (None, _) => bans.push(row),
            (Some(_), Some(first)) => {
                let since = first.ban.since;
                *first = row;
                first.ban.since = since;
            }
            // It began earlier than what is reported.
            (Some(_), None) => {}
        }
    }
    bans
}

fn line(row: &Row<'_>) -> rusqlite::Result<OffenceLine> {
    Ok(OffenceLine {
        time: Timestamp::from_micros(row.get(0)?),
        grammar: row.get(1)?,
        category: row.get(2)?,
        rule: row.get(3)?,
        message: row.get(4)?,
    })
}

/// Adds the offences of an update to the sums. An update with the whole state repeats offences that were counted.
pub(super) fn count(transaction: &Transaction<'_>, update: &LedgerUpdate) -> Result<(), LedgerError> {
    let mut sums: BTreeMap<_, u64> = BTreeMap::new();
    for trace in update.traces.iter().filter(|trace| !update.whole && trace.effect != WindowEffect::Nothing) {
        let hour = trace.time.as_micros().div_euclid(HOUR);
        let rule = update.evidence.get(trace.nth).map_or(0, |(_, rule)| rule);
        *sums.entry((hour, &*trace.jail, trace.grammar, trace.category, rule)).or_default() += 1;
    }
    let sql = "INSERT INTO tally VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO UPDATE SET offences = offences + ?6";
    for ((hour, jail, grammar, category, rule), offences) in sums {
        let (grammar, category) = update.names(grammar, category);
        let offences = offences.cast_signed();
        transaction.prepare_cached(sql)?.execute(params![hour, jail, grammar, category, rule, offences])?;
    }
    Ok(())
}

/// Notes a ban; one that is known is the same ban once more. Bans of lists did not happen here, and a long list would push
/// out what did.
pub(super) fn begin(transaction: &Transaction<'_>, ban: &Ban) -> Result<(), LedgerError> {
    if *ban.jail == *LIST {
        return Ok(());
    }
    let sql = "INSERT INTO history VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, NULL, NULL)
               ON CONFLICT DO UPDATE SET mode = ?5, until = ?6, reason = ?8, ended = NULL, ending = NULL";
    transaction.prepare_cached(sql)?.execute(params![
        ban.since.as_micros(),
        ban.offender.to_string(),
        &*ban.jail,
        ban.kind.name(),
        ban.mode.name(),
        ban.until.map(Timestamp::as_micros),
        ban.times,
        &*ban.reason,
    ])?;
    Ok(())
}

/// Notes that a ban was taken back, and how.
pub(super) fn end(
    transaction: &Transaction<'_>,
    ban: &Ban,
    ending: BanEnd,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let ending = match ending {
        BanEnd::Lifted => "lifted",
        BanEnd::Widened => WIDENED,
    };
    let sql = "UPDATE history SET ended = ?1, ending = ?2 WHERE since = ?3 AND offender = ?4 AND jail = ?5";
    let (since, offender) = (ban.since.as_micros(), ban.offender.to_string());
    transaction.prepare_cached(sql)?.execute(params![
        now.as_micros(),
        ending,
        since,
        offender,
        &*ban.jail
    ])?;
    Ok(())
}

/// Forgets what began before `before`, and then the oldest of what is more than so many rows.
pub(super) fn prune(transaction: &Transaction<'_>, rows: u32, before: i64) -> rusqlite::Result<()> {
    for (table, column, before) in [("history", "since", before), ("tally", "hour", before.div_euclid(HOUR))]
    {
        transaction.execute(&format!("DELETE FROM {table} WHERE {column} < ?1"), [before])?;
        let sql = format!(
            "DELETE FROM {table} WHERE {column} <= (
                 SELECT {column} FROM {table} ORDER BY {column} DESC LIMIT 1 OFFSET ?1)"
        );
        transaction.execute(&sql, [rows])?;
    }
    Ok(())
}

fn past(row: &Row<'_>, known: &mut KnownValues) -> rusqlite::Result<BanRecord> {
    let ending =
        if row.get_ref(10)?.as_str_or_null()? == Some(WIDENED) { BanEnd::Widened } else { BanEnd::Lifted };
    let ended = row.get::<_, Option<i64>>(9)?.map(|at| (Timestamp::from_micros(at), ending));
    Ok(BanRecord { ban: ban(row, known)?, ended })
}

fn tally(row: &Row<'_>) -> rusqlite::Result<HourlyOffences> {
    Ok(HourlyOffences {
        hour: Timestamp::from_micros(row.get::<_, i64>(0)?.saturating_mul(HOUR)),
        jail: row.get(1)?,
        grammar: row.get(2)?,
        category: row.get(3)?,
        rule: row.get(4)?,
        offences: row.get::<_, i64>(5)?.cast_unsigned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::manual;

    /// A ban's second, its last second, and whether it was lifted then.
    type ChangedRow = (u8, i64, Option<i64>, bool);

    #[track_caller]
    fn check(rows: &[ChangedRow], before: &[(u8, i64)], want: &[ChangedRow]) {
        let at = Timestamp::from_secs;
        let who = |host: u8| format!("192.0.2.{host}").parse::<Offender>().unwrap();
        let record = |&(host, since, until, is_lifted): &ChangedRow| BanRecord {
            ban: manual(who(host), at(since), until.map(at), ""),
            ended: until.filter(|_| is_lifted).map(|until| (at(until), BanEnd::Lifted)),
        };
        let open = |&(host, until): &(u8, i64)| {
            let jail = manual(who(host), at(0), None, "").jail;
            ((who(host), jail), OpenBan { until: at(until), place: None })
        };
        let got = join_changes(rows.iter().map(record).collect(), before.iter().map(open).collect());
        assert_eq!(got, want.iter().map(record).collect::<Vec<_>>());
    }

    #[test]
    fn a_ban_by_hand_that_is_changed_is_one() {
        check(&[(1, 10, Some(20), false)], &[], &[(1, 10, Some(20), false)]);
        // Shortened and extended, and in the end lifted.
        let rows = [
            (1, 10, Some(90), false),
            (1, 20, Some(30), false),
            (1, 25, None, false),
            (1, 40, Some(50), true),
        ];
        check(&rows, &[], &[(1, 10, Some(50), true)]);
        // Once it is over or lifted, the next is another.
        let rows = [(1, 10, Some(20), false), (1, 20, None, false)];
        check(&rows, &[], &rows);
        let rows = [(1, 10, Some(20), true), (1, 15, Some(30), false)];
        check(&rows, &[], &rows);
        let rows = [(1, 10, Some(90), false), (2, 20, Some(90), false)];
        check(&rows, &[], &rows);
        // A change of one that began before counts for nothing.
        let rows = [(1, 10, Some(20), false), (1, 15, Some(30), false), (1, 30, Some(40), false)];
        check(&rows, &[(1, 90)], &rows[2..]);
        check(&rows[2..], &[(1, 30)], &rows[2..]);
    }
}
