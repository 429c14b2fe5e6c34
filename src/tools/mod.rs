//! What needs no daemon: it reads logs, the ledger and the kernel itself.

pub mod terminal;
pub mod offline;
pub mod doctor;
pub mod report;
