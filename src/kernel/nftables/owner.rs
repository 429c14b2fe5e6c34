//! The socket to which our tables belong, and what all who work on one of them know of it.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::{EnforceError, EnforceErrorKind};
use super::connection::Connection;
use super::facts::TableShape;
use super::wire::{self, NftError, Transaction};

/// The socket to which our table belongs. Its clones are the same one.
#[derive(Clone, Debug)]
pub struct TableOwner {
    connection: Arc<Mutex<Connection>>,
    pub(super) abilities: KernelAbilities,
    /// What is known of its tables, by their names.
    tables: Arc<Mutex<HashMap<String, Arc<TableState>>>>,
}

/// What all who work on a table know of it.
#[derive(Debug, Default)]
pub(super) struct TableState {
    /// As we have made it; `None` before that. It is locked while the table is looked at or changed: what one of us does
    /// must not seem the work of others to another of us.
    made: Mutex<Option<TableShape>>,
    /// Whether others have changed the table, or may have.
    pub altered: Arc<AtomicBool>,
}

impl TableState {
    pub(super) fn made(&self) -> MutexGuard<'_, Option<TableShape>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the kernel can, of what newer ones can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelAbilities {
    /// Give a table an owner, and let it stay when that is gone: since 6.9.
    pub owns: bool,
    /// Delete what may not be there: since 6.3.
    pub destroys: bool,
}

impl TableOwner {
    /// With a socket of an earlier process, if there is one.
    ///
    /// # Errors
    ///
    /// The kernel has no nftables, or we may not change it.
    pub fn open(stored: Option<OwnedFd>) -> Result<Self, EnforceError> {
        let connection = stored.map_or_else(Connection::open, Connection::of);
        let mut connection = connection.map_err(EnforceErrorKind::Socket)?;
        let abilities = probe(&mut connection)?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)), abilities, tables: Arc::default() })
    }

    /// The same on a kernel that can no more than this.
    pub fn limited_to(self, abilities: KernelAbilities) -> Self {
        let owns = self.abilities.owns && abilities.owns;
        let destroys = self.abilities.destroys && abilities.destroys;
        Self { abilities: KernelAbilities { owns, destroys }, ..self }
    }

    /// For systemd to keep (`FDSTORE=1`).
    ///
    /// # Errors
    ///
    /// There are too many open files.
    pub fn socket(&self) -> io::Result<OwnedFd> {
        self.lock().socket().try_clone_to_owned()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Connection> {
        // A transaction is whole or not at all, whatever its thread died of.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of the table with this name.
    pub(super) fn state(&self, table: &str) -> Arc<TableState> {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(tables.entry(table.to_owned()).or_default())
    }

    /// Carries out what `fill` puts into a transaction.
    pub(super) fn commit<'t>(
        &self,
        table: &'t str,
        fill: impl FnOnce(&mut Transaction<'t>),
    ) -> Result<Result<(), (NftError, Transaction<'t>)>, EnforceError> {
        let mut connection = self.lock();
        let mut transaction = connection.begin(table);
        fill(&mut transaction);
        let result = connection.commit(&mut transaction)?;
        Ok(result.map_err(|error| (error, transaction)))
    }
}

/// Tries it out with a table that is gone when that is over.
fn probe(connection: &mut Connection) -> Result<KernelAbilities, EnforceError> {
    let name = format!("banstream-probe-{}", connection.port());
    let mut does = |fill: &dyn Fn(&mut Transaction<'_>)| {
        let mut transaction = connection.begin(&name);
        fill(&mut transaction);
        connection.commit(&mut transaction)
    };
    let plain = does(&|transaction| {
        transaction.new_table(0);
        transaction.delete_table();
    })?;
    if let Err(error) = plain {
        return Err(EnforceErrorKind::NoNftables(error.code).into());
    }
    let owned = does(&|transaction| {
        transaction.new_table(wire::OWNED);
        transaction.delete_table();
    })?;
    let destroyed = does(&|transaction| transaction.destroy_table())?;
    Ok(KernelAbilities { owns: owned.is_ok(), destroys: destroyed.is_ok() })
}
