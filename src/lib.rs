//! banstream blocks attackers: it reads journald and rsyslog streams, finds offences in them with grammars that are
//! proved unspoofable, and bans the offenders in kernel sets that one rule refers to.
//!
//! The core is a crate of its own; its modules are re-exported here. The folders stand bottom-up: each uses only the
//! core and those above it (`tests/layers.rs` checks it).

// Those panic where nobody reads.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub use banstream_core::{detect, engine, entry, grammar, model};

pub mod words;
pub mod config;
pub mod input;
pub mod kernel;
pub mod store;
pub mod fleet;
pub mod control;
pub mod daemon;
pub mod tools;
pub mod fail2ban;
pub mod cli;
pub mod web;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
