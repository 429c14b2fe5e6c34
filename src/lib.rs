//! banstream keeps attackers out: it reads journald and rsyslog streams, finds offences in them with
//! grammars that are proved unspoofable, and bans the offenders in kernel sets that one rule refers to.
//!
//! The modules stand bottom-up; each uses only those above it in this list (`tests/layers.rs` holds it so).

pub mod model;

pub mod enforce;
