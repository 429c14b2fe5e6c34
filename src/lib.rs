//! banstream keeps attackers out: it reads journald and rsyslog streams, finds offences in them with
//! grammars that are proved unspoofable, and bans the offenders in kernel sets that one rule refers to.
//!
//! The core is a crate of its own; its modules are re-exported here. The others stand bottom-up; each uses only those
//! above it in this list (`tests/layers.rs` holds it so).

// Those panic where nobody reads.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub use banstream_core::{detect, engine, entry, grammar, model};

pub mod terminal;
pub mod config;
pub mod load;
pub mod enforce;
pub mod ledger;
pub mod socket;
pub mod source;
pub mod omprog;
pub mod control;
pub mod metrics;
pub mod report;
pub mod notify;
pub mod compat;
pub mod offline;
pub mod doctor;
pub mod pipeline;
pub mod cli;
pub mod top;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod generate;
