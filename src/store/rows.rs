//! What rows have in common: offenders in few bytes, and texts by their numbers.

use std::fmt::Display;
use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::{Equivalent, HashMap};
use rusqlite::types::{FromSqlError, Type};
use rusqlite::{Connection, Error, Row, Statement, ToSql, Transaction, params};

use super::LedgerError;
use crate::model::{BanOrigin, BanTerms, Mode, Offender};

/// An offender in a column: the address, or the first half of one of IPv6 if that is all, and the length of the prefix.
pub(super) struct OffenderBytes {
    bytes: [u8; 17],
    length: usize,
}

impl OffenderBytes {
    pub(super) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// The bytes of an offender.
pub(super) fn offender_bytes(offender: Offender) -> OffenderBytes {
    let mut bytes = [0; 17];
    let mut length = 0;
    let mut put = |part: &[u8]| {
        bytes.iter_mut().skip(length).zip(part).for_each(|(to, from)| *to = *from);
        length += part.len();
    };
    match offender.address() {
        IpAddr::V4(v4) => put(&v4.octets()),
        IpAddr::V6(v6) if offender.prefix() <= 64 => put(v6.octets().first_chunk::<8>().unwrap_or(&[0; 8])),
        IpAddr::V6(v6) => put(&v6.octets()),
    }
    put(&[offender.prefix()]);
    OffenderBytes { bytes, length }
}

/// The offender in a column.
pub(super) fn offender(row: &Row<'_>, column: usize) -> rusqlite::Result<Offender> {
    let (length, address) = row.get_ref(column)?.as_blob()?.split_last().ok_or(FromSqlError::InvalidType)?;
    let address: Option<IpAddr> = match address.len() {
        4 => address.first_chunk::<4>().map(|v4| IpAddr::from(*v4)),
        8 | 16 => {
            let mut v6 = [0_u8; 16];
            v6.iter_mut().zip(address).for_each(|(to, from)| *to = *from);
            Some(IpAddr::from(v6))
        }
        _ => None,
    };
    let offender = address.and_then(|address| Offender::new(address, *length));
    offender.ok_or_else(|| text_error(column, "not an offender"))
}

/// A value is not as we write it: the file is damaged.
pub(super) fn text_error(column: usize, what: impl Display) -> Error {
    Error::FromSqlConversionFailure(column, Type::Text, what.to_string().into())
}

/// Rows that one statement adds. One by one they take SQLite a quarter to a half longer.
const AT_ONCE: usize = 16;

/// Adds rows to a table with so many columns after `id`, in their order; `bind` binds one.
pub(super) fn insert<T>(
    transaction: &Transaction<'_>,
    (table, columns): (&str, usize),
    rows: &[T],
    mut bind: impl FnMut(&T, &mut RowBinder<'_, '_>) -> Result<(), LedgerError>,
) -> Result<(), LedgerError> {
    let (many, rest) = rows.as_chunks::<AT_ONCE>();
    let parts = [(AT_ONCE, many.as_flattened()), (1, rest)];
    for (at_once, rows) in parts.into_iter().filter(|(_, rows)| !rows.is_empty()) {
        let row = format!("(NULL{})", ", ?".repeat(columns));
        let sql = format!("INSERT INTO {table} VALUES {}", vec![row; at_once].join(", "));
        let mut statement = transaction.prepare_cached(&sql)?;
        for rows in rows.chunks(at_once) {
            let mut binder = RowBinder { statement: &mut statement, bound: 0 };
            rows.iter().try_for_each(|row| bind(row, &mut binder))?;
            statement.raw_execute()?;
        }
    }
    Ok(())
}

/// Binds the columns of rows, one after the other.
pub(super) struct RowBinder<'s, 'c> {
    statement: &'s mut Statement<'c>,
    bound: usize,
}

impl RowBinder<'_, '_> {
    pub(super) fn put(&mut self, value: impl ToSql) -> rusqlite::Result<()> {
        self.bound += 1;
        self.statement.raw_bind_parameter(self.bound, value)
    }
}

/// The origin of a ban.
pub(super) fn kind(row: &Row<'_>, column: usize) -> rusqlite::Result<BanOrigin> {
    Ok(match row.get_ref(column)?.as_str()? {
        "manual" => BanOrigin::Manual,
        "wide" => BanOrigin::Wide,
        "peer" => BanOrigin::Peer,
        _ => BanOrigin::Auto,
    })
}

/// Whether a ban is carried out.
pub(super) fn mode(row: &Row<'_>, column: usize) -> rusqlite::Result<Mode> {
    let is_observed = row.get_ref(column)?.as_str()? == Mode::Observe.name();
    Ok(if is_observed { Mode::Observe } else { Mode::Enforce })
}

/// The terms of bans, by their numbers.
pub(super) fn terms(connection: &Connection) -> rusqlite::Result<HashMap<i64, Arc<BanTerms>>> {
    let sql = "SELECT id, jail, kind, mode, ports, reason FROM terms";
    let mut statement = connection.prepare(sql)?;
    let terms = |row: &Row<'_>| {
        let ports = serde_json::from_str(row.get_ref(4)?.as_str()?).map_err(|error| text_error(4, error))?;
        let (kind, mode) = (kind(row, 2)?, mode(row, 3)?);
        Ok((row.get(0)?, Arc::new(BanTerms { jail: row.get(1)?, kind, mode, ports, reason: row.get(5)? })))
    };
    statement.query_map([], terms)?.collect()
}

/// What offences have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Origin {
    pub(super) jail: Arc<str>,
    pub(super) grammar: Arc<str>,
    pub(super) category: Arc<str>,
    pub(super) rule: u32,
}

/// The same, borrowed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct OriginRef<'o> {
    pub(super) jail: &'o str,
    pub(super) grammar: &'o str,
    pub(super) category: &'o str,
    pub(super) rule: u32,
}

impl Equivalent<Origin> for OriginRef<'_> {
    fn equivalent(&self, key: &Origin) -> bool {
        let Origin { jail, grammar, category, rule } = key;
        *self == OriginRef { jail, grammar, category, rule: *rule }
    }
}

/// The origins of offences, by their numbers.
pub(super) fn origins(connection: &Connection) -> rusqlite::Result<HashMap<i64, Origin>> {
    let mut statement = connection.prepare("SELECT id, jail, grammar, category, rule FROM origin")?;
    let origin = |row: &Row<'_>| {
        let (jail, grammar, category, rule) = (row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?);
        Ok((row.get(0)?, Origin { jail, grammar, category, rule }))
    };
    statement.query_map([], origin)?.collect()
}

/// The numbers of terms and origins that were written lately. To be forgotten where what was written is not kept.
#[derive(Default)]
pub(super) struct Numbers {
    terms: HashMap<Arc<BanTerms>, i64>,
    origins: HashMap<Origin, i64>,
}

/// How many are remembered; the rules of all grammars are fewer.
const MOST: usize = 10_000;

impl Numbers {
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// The number of a ban's terms.
    pub(super) fn of_terms(
        &mut self,
        transaction: &Transaction<'_>,
        terms: &Arc<BanTerms>,
    ) -> Result<i64, LedgerError> {
        if let Some(number) = self.terms.get(terms) {
            return Ok(*number);
        }
        let ports = serde_json::to_string(&terms.ports).map_err(LedgerError::new)?;
        let values = params![&*terms.jail, terms.kind.name(), terms.mode.name(), ports, &*terms.reason];
        let sql = "INSERT OR IGNORE INTO terms VALUES (NULL, ?1, ?2, ?3, ?4, ?5)";
        transaction.prepare_cached(sql)?.execute(values)?;
        let sql = "SELECT id FROM terms WHERE (jail, kind, mode, ports, reason) = (?1, ?2, ?3, ?4, ?5)";
        let number = transaction.prepare_cached(sql)?.query_row(values, |row| row.get(0))?;
        if self.terms.len() >= MOST {
            self.terms.clear();
        }
        self.terms.insert(Arc::clone(terms), number);
        Ok(number)
    }

    /// The number of an offence's origin.
    pub(super) fn of_origin(
        &mut self,
        transaction: &Transaction<'_>,
        origin: OriginRef<'_>,
    ) -> Result<i64, LedgerError> {
        if let Some(number) = self.origins.get(&origin) {
            return Ok(*number);
        }
        let OriginRef { jail, grammar, category, rule } = origin;
        let values = params![jail, grammar, category, rule];
        let sql = "INSERT OR IGNORE INTO origin VALUES (NULL, ?1, ?2, ?3, ?4)";
        transaction.prepare_cached(sql)?.execute(values)?;
        let sql = "SELECT id FROM origin WHERE (jail, grammar, category, rule) = (?1, ?2, ?3, ?4)";
        let number = transaction.prepare_cached(sql)?.query_row(values, |row| row.get(0))?;
        if self.origins.len() >= MOST {
            self.origins.clear();
        }
        let (jail, grammar, category) = (jail.into(), grammar.into(), category.into());
        self.origins.insert(Origin { jail, grammar, category, rule }, number);
        Ok(number)
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    #[track_caller]
    fn check(text: &str, bytes: usize) {
        let known: Offender = text.parse().unwrap();
        assert_eq!(offender_bytes(known).as_slice().len(), bytes);
        let connection = Connection::open_in_memory().unwrap();
        let row = |row: &Row<'_>| offender(row, 0);
        assert_eq!(
            connection.query_row("SELECT ?1", [offender_bytes(known).as_slice()], row).unwrap(),
            known
        );
    }

    #[test]
    fn an_offender_is_the_same_in_few_bytes() {
        check("192.0.2.1", 5);
        check("192.0.2.0/24", 5);
        check("0.0.0.0/0", 5);
        check("2001:db8:1:2::/64", 9);
        check("2001:db8::/32", 9);
        check("::/0", 9);
        check("2001:db8::1", 17);
        check("2001:db8::8000:0/65", 17);
        let connection = Connection::open_in_memory().unwrap();
        for damaged in [&[][..], &[1, 2, 3], &[1, 2, 3, 4, 33], &[0; 18]] {
            assert!(connection.query_row("SELECT ?1", [damaged], |row| offender(row, 0)).is_err());
        }
    }
}
