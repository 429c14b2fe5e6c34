//! The history for reports: every ban and how it ended, and the offences of each hour.
//!
//! No decision depends on it. Sums remain when a flood pushes rows out of the table of offences; jails and rules decide
//! their number, not attackers.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use hashbrown::HashMap;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, Transaction, params};

use super::evidence::FilledWindows;
use super::migrations::VERSION;
use super::rows::{Origin, offender, offender_bytes, origins, terms};
use super::{FILE, LedgerError, PATIENCE, allowance, bans, is_evidence, open_unlocked};
use crate::detect::{LIST, WindowEffect};
use crate::model::{Allowance, Ban, BanOrigin, Mode, Offender, Timestamp};

/// A ban, in force or over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BanRecord {
    /// The ban.
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
    /// When the last ban began that was forgotten because there were too many.
    pub forgotten: Option<Timestamp>,
}

/// A ledger open for reading only, beside the daemon that writes it or without one.
pub struct History {
    connection: Connection,
}

const HOUR: i64 = 3_600_000_000;

impl History {
    /// Opens the ledger in `directory`.
    ///
    /// # Errors
    ///
    /// The file is not there, cannot be read, or is not of our version.
    pub fn open(directory: &Path) -> Result<Self, LedgerError> {
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
        Ok(Self { connection })
    }

    /// What happened from `from` on, and before `to`.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn rows(&self, from: Timestamp, to: Timestamp) -> Result<Rows, LedgerError> {
        let bans = join_changes(self.bans(from, to)?, self.open_by_hand(from)?);
        let all = bans::last_ones(&self.connection, 0)?;
        let is_in_force = |ban: &&Ban| {
            ban.mode == Mode::Enforce && ban.since < to && ban.until.is_none_or(|until| until > to)
        };
        let in_force = all.iter().filter(is_in_force).count() as u64;
        let (from, to) = (from.as_micros(), to.as_micros());
        let sql = "SELECT hour, jail, grammar, category, rule, offences FROM tally JOIN origin ON id = origin
                   WHERE hour >= ?1 AND hour < ?2 ORDER BY hour, jail, grammar, category, rule";
        let hours = [from.div_euclid(HOUR), to.saturating_sub(1).div_euclid(HOUR) + 1];
        let tallies = self.connection.prepare(sql)?.query_map(hours, tally)?.collect::<Result<_, _>>()?;
        let sql = "SELECT offender, count(*) FROM offence
                   WHERE time >= ?1 AND time < ?2 AND effect >= 0 GROUP BY offender";
        let counted = |row: &Row<'_>| Ok((offender(row, 0)?, row.get::<_, i64>(1)?.cast_unsigned()));
        let offences =
            self.connection.prepare(sql)?.query_map([from, to], counted)?.collect::<Result<_, _>>()?;
        let sql = "SELECT offender, since, until, comment FROM allowance WHERE until IS NULL OR until > ?1";
        let allowances =
            self.connection.prepare(sql)?.query_map([to], allowance)?.collect::<Result<_, _>>()?;
        Ok(Rows { bans, tallies, offences, allowances, in_force, forgotten: self.forgotten()? })
    }

    /// The bans that began in that time, in order, each as it was written last.
    fn bans(&self, from: Timestamp, to: Timestamp) -> Result<Vec<BanRecord>, LedgerError> {
        let terms = terms(&self.connection)?;
        let sql = format!(
            "SELECT {} FROM ban WHERE since >= ?1 AND since < ?2 ORDER BY since, offender, id",
            bans::COLUMNS
        );
        let mut statement = self.connection.prepare(&sql)?;
        let mut rows = statement.query([from.as_micros(), to.as_micros()])?;
        let mut bans: Vec<BanRecord> = Vec::new();
        while let Some(row) = rows.next()? {
            let record = bans::record(row, &terms)?;
            let is_same = |known: &BanRecord| {
                (known.ban.since, known.ban.offender) == (record.ban.since, record.ban.offender)
            };
            let mut of_one = bans.iter_mut().rev().take_while(|known| is_same(known));
            match of_one.find(|known| known.ban.jail == record.ban.jail) {
                // Bans of lists did not happen here.
                _ if *record.ban.jail == *LIST => {}
                Some(known) => *known = record,
                None => bans.push(record),
            }
        }
        Ok(bans)
    }

    /// The bans by hand that were in force then, by offender and jail.
    fn open_by_hand(&self, at: Timestamp) -> Result<BTreeMap<(Offender, Arc<str>), OpenBan>, LedgerError> {
        let mut open = BTreeMap::new();
        for BanRecord { ban, ended } in self.bans(Timestamp::from_micros(i64::MIN), at)? {
            let until = ban.until.unwrap_or(Timestamp::MAX);
            if ban.kind == BanOrigin::Manual && ended.is_none() && until > at {
                let of = (ban.offender, Arc::clone(&ban.jail));
                let known = open.entry(of).or_insert(OpenBan { until, place: None });
                known.until = known.until.max(until);
            }
        }
        Ok(open)
    }

    /// Before when bans were forgotten because they were too many, if there were any.
    fn forgotten(&self) -> Result<Option<Timestamp>, LedgerError> {
        let sql = "SELECT value FROM fact WHERE name = 'forgotten'";
        Ok(self.connection.query_row(sql, [], |row| row.get(0)).optional()?.map(Timestamp::from_micros))
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
        let (mut filled, mut others) = (Vec::new(), Vec::new());
        self.walk(offender, |WalkedLine { role, line, .. }| {
            let lines = if role == Role::Evidence { &mut filled } else { &mut others };
            let line = line.filter(|line| line.time >= from && line.time < to);
            lines.extend(line.filter(|_| lines.len() < most as usize));
            filled.len() < most as usize
        })?;
        filled.append(&mut others);
        filled.truncate(most as usize);
        Ok(filled)
    }

    /// Goes over the lines of an offender from the last to the first, with what became of each and for which jail it was
    /// counted, as long as that is wanted. A further line about a counted attempt is not counted. Looks at all rows.
    fn walk(
        &self,
        who: Offender,
        mut goes_on: impl FnMut(WalkedLine<'_>) -> bool,
    ) -> Result<(), LedgerError> {
        let origins = origins(&self.connection)?;
        let sql = "SELECT id, effect, offender, origin, value, time, message FROM offence
                   WHERE offender = ?1 ORDER BY id DESC";
        let mut statement = self.connection.prepare(sql)?;
        let mut rows = statement.query([offender_bytes(who).as_slice()])?;
        let mut windows = FilledWindows::default();
        while let Some(row) = rows.next()? {
            let is_evidence = is_evidence(row, &origins, &mut windows)?;
            let effect = WindowEffect::numbered(row.get(1)?).unwrap_or(WindowEffect::Nothing);
            let Some(origin) = origins.get(&row.get::<_, i64>(3)?) else { continue };
            let role = if is_evidence { Role::Evidence } else { Role::Counted };
            let of = WalkedLine { role, effect, jail: &origin.jail, line: line(row, origin)? };
            if effect != WindowEffect::Nothing && !goes_on(of) {
                break;
            }
        }
        Ok(())
    }

    /// Whether it knew of anything at `at` or before, and has forgotten nothing since. A ledger that is younger knows nothing
    /// of that time.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn reaches(&self, at: Timestamp) -> Result<bool, LedgerError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM tally WHERE hour <= ?1)";
        let knew = self.connection.query_row(sql, [at.as_micros().div_euclid(HOUR)], |row| row.get(0))?;
        Ok(knew && self.forgotten()?.is_none_or(|forgotten| forgotten < at))
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
        let origins = origins(&self.connection)?;
        let sql = "SELECT id, effect, offender, origin, value, time, message FROM offence
                   WHERE time >= ?1 AND time < ?2 AND message IS NOT NULL AND effect >= 0
                   ORDER BY id DESC LIMIT ?3";
        let mut statement = self.connection.prepare(sql)?;
        let mut rows = statement.query(params![from.as_micros(), to.as_micros(), most])?;
        let (mut lines, mut kept): (Vec<(Offender, OffenceLine)>, &str) = (Vec::new(), "");
        while let Some(row) = rows.next()? {
            let Some(origin) = origins.get(&row.get::<_, i64>(3)?) else { continue };
            let Some(line) = line(row, origin)? else { continue };
            let found = (offender(row, 2)?, line);
            // The rows of one line stand together, one for each jail.
            if *origin.jail == *kept || lines.last() != Some(&found) {
                lines.push(found);
                kept = &origin.jail;
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
        // Rows that were rewritten for a ledger with gaps have no message, and stand beside the old rows, of which some
        // counted for nothing; `most` leaves few of them.
        let (mut lines, mut windows) = (Vec::new(), 0);
        self.walk(offender, |walked| {
            if **walked.jail != *jail {
                return true;
            }
            windows += u32::from(matches!(walked.effect, WindowEffect::Filled(_)));
            let goes_on = lines.len() < usize::from(most) && (role == Role::Counted || windows < 2);
            lines.extend(walked.line.filter(|_| goes_on && walked.role == role));
            goes_on
        })?;
        lines.reverse();
        Ok(lines)
    }
}

/// A line, and what became of it for one jail.
struct WalkedLine<'l> {
    role: Role,
    effect: WindowEffect,
    jail: &'l Arc<str>,
    /// `None` where it was not kept.
    line: Option<OffenceLine>,
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

/// The line of a row of `_, effect, offender, origin, value, time, message`, if it was kept.
fn line(row: &Row<'_>, origin: &Origin) -> rusqlite::Result<Option<OffenceLine>> {
    let Some(message) = row.get(6)? else { return Ok(None) };
    Ok(Some(OffenceLine {
        time: Timestamp::from_micros(row.get(5)?),
        grammar: origin.grammar.to_string(),
        category: origin.category.to_string(),
        rule: origin.rule,
        message,
    }))
}

/// Offences that are to be added to the sums, by hour and origin.
#[derive(Default)]
pub(super) struct Tallies(HashMap<(i64, i64), u64>);

impl Tallies {
    pub(super) fn add(&mut self, time: Timestamp, origin: i64) {
        *self.0.entry((time.as_micros().div_euclid(HOUR), origin)).or_default() += 1;
    }

    pub(super) fn write(&self, transaction: &Transaction<'_>) -> Result<(), LedgerError> {
        let sql = "INSERT INTO tally VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET offences = offences + ?3";
        for ((hour, origin), offences) in &self.0 {
            let offences = offences.cast_signed();
            transaction.prepare_cached(sql)?.execute(params![hour, origin, offences])?;
        }
        Ok(())
    }
}

/// Forgets the sums before `before`, and then the oldest of what is more than so many rows.
pub(super) fn prune(transaction: &Transaction<'_>, rows: u32, before: i64) -> rusqlite::Result<()> {
    transaction.execute("DELETE FROM tally WHERE hour < ?1", [before.div_euclid(HOUR)])?;
    let sql = "DELETE FROM tally WHERE hour <= (SELECT hour FROM tally ORDER BY hour DESC LIMIT 1 OFFSET ?1)";
    transaction.execute(sql, [rows])?;
    Ok(())
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
            let jail = Arc::clone(&manual(who(host), at(0), None, "").jail);
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
