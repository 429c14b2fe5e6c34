//! Commands that need no daemon: they read logs, the ledger and the kernel themselves.

pub mod terminal;
pub mod geoip;
mod servers;
pub mod tail;
pub mod forgeable;
pub mod offline;
pub mod doctor;
pub mod setup;
pub mod report;
pub mod list;
