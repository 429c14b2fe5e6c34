//! Commands that need no daemon: they read logs, the ledger and the kernel themselves.

pub mod terminal;
pub mod offline;
pub mod doctor;
pub mod report;
