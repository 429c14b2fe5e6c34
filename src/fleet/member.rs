//! What operators have signed: who is a member, and orders that hold for all.

use std::collections::HashMap;
use std::sync::Arc;

use async_nats::jetstream::kv;
use ed25519_dalek::VerifyingKey;
use serde::{Deserialize, Serialize};

use super::notice;
use super::sealed::{SealKind, open};
use super::{FleetOrder, OrderKind};
use crate::config::{is_host_name, is_public_key};
use crate::model::{Offender, Timestamp, is_harmful};

/// What the keys of members begin with in their bucket.
pub(super) const HOST: &str = "host.";

/// The longest comment of an order, in bytes.
const LONGEST: usize = 512;

/// That an operator has admitted a host, or removed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberRecord {
    /// When, in microseconds.
    pub at: Timestamp,
    /// The host's public NKEY.
    pub key: String,
    /// Whether it adds up what members have counted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub counter: bool,
    /// Whether it was removed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removed: bool,
}

/// An order of an operator; its key says what it is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OrderRecord {
    /// When, in microseconds.
    pub(super) at: Timestamp,
    /// Until when an exemption lasts; forever if missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) until: Option<Timestamp>,
    /// Whether an exemption is taken back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) removed: bool,
    /// The operator's words.
    #[serde(default)]
    pub(super) comment: String,
}

/// The key of an order about this offender.
pub(super) fn order_key(kind: OrderKind, offender: Offender) -> String {
    notice::key(if kind == OrderKind::Unban { "unban" } else { "allow" }, offender)
}

/// What operators have signed so far.
#[derive(Debug, Default)]
pub(super) struct SignedRecords {
    /// Who is a member, and who was, by name.
    pub(super) members: HashMap<Arc<str>, MemberRecord>,
}

impl SignedRecords {
    /// Takes what one of these operators has signed. Whether members have changed; orders are added to `orders`.
    pub(super) fn take(
        &mut self,
        entries: &[kv::Entry],
        operators: &[VerifyingKey],
        orders: &mut Vec<FleetOrder>,
    ) -> bool {
        let mut are_changed = false;
        for entry in entries {
            let Some(json) = open(SealKind::Member, &entry.key, &entry.value, operators) else {
                continue;
            };
            match entry.key.strip_prefix(HOST) {
                Some(host) => are_changed |= self.take_member(host, json),
                None => orders.extend(order(&entry.key, json)),
            }
        }
        are_changed
    }

    fn take_member(&mut self, host: &str, json: &[u8]) -> bool {
        let Ok(record) = serde_json::from_slice::<MemberRecord>(json) else { return false };
        let is_sound = is_host_name(host) && is_public_key(&record.key);
        if !is_sound || self.members.get(host).is_some_and(|known| known.at >= record.at) {
            return false;
        }
        self.members.insert(host.into(), record);
        true
    }
}

fn order(key: &str, json: &[u8]) -> Option<FleetOrder> {
    let (what, offender) = notice::read_key(key)?;
    let OrderRecord { at, until, removed, comment } = serde_json::from_slice(json).ok()?;
    let kind = match (what, removed) {
        ("allow", false) => OrderKind::Allow,
        ("allow", true) => OrderKind::Disallow,
        ("unban", _) => OrderKind::Unban,
        _ => return None,
    };
    let is_sound = comment.len() <= LONGEST && !comment.contains(is_harmful);
    is_sound.then_some(FleetOrder { kind, offender, at, until, comment })
}
