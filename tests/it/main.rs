//! The library and the built program, with nothing from outside: no root, no server, no package.
//!
//! One binary, so that one link is enough. What needs more is in `tests/system`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

#[path = "../common/mod.rs"]
mod common;

mod bans;
mod changes;
mod compat;
mod corpora;
mod documents;
mod each;
mod english;
mod entry;
mod geoip;
mod honest;
mod hostile;
mod import;
mod list;
mod names;
mod newcomer;
mod notify;
mod pieces;
mod report;
mod tools;
mod web;
