//! What needs root, servers or packages: the built program with real log daemons, servers, kernel and browser.
//!
//! `contrib/test` installs what it needs and runs it; a plain `cargo test` leaves it out, by one line of `Cargo.toml`.
//! What changes a network or a file system does so in namespaces of its own.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

#[path = "../common/mod.rs"]
mod common;

mod capabilities;
mod crash;
mod deaf;
mod disable;
mod doctor;
mod e2e;
mod enforce;
mod fail2ban;
#[cfg(feature = "fleet")]
mod fleet;
mod formats;
mod journal;
mod journal_files;
mod list;
mod log;
mod nftables;
mod omprog;
mod page;
mod receivers;
mod top;
mod web;
