//! Reads `key=value` and `key="quoted value"` once, from left to right. Words without a `=` are passed over.
//!
//! A value without quotes goes up to the next space; a comma at its end is not part of it.

use super::keys::{Keys, NONE, RecordKey};
use super::{RecordFault, Values, json};

/// The values of the wanted keys. Linear; does not allocate.
pub(super) fn read(message: &[u8], keys: &Keys) -> Result<Values, RecordFault> {
    let (mut values, mut seen, mut at) = (Values::default(), 0_u64, 0);
    let parts = |byte: &u8| matches!(byte, b' ' | b',' | b'\t');
    while let Some(rest) = message.get(at..).filter(|rest| !rest.is_empty()) {
        let length = rest.iter().position(|byte| parts(byte) || matches!(byte, b'=' | b'"'));
        let Some(length) = length else { break };
        let word = rest.get(..length).unwrap_or_default();
        at += length;
        let key = match (rest.get(length), word) {
            (Some(b'='), _) => {
                at += 1;
                keys.find(0, word, false)
            }
            (Some(b'"'), _) => RecordKey::NONE,
            _ => {
                at += 1;
                continue;
            }
        };
        if key.node != NONE {
            let bit = 1_u64.checked_shl(key.node.into()).unwrap_or(0);
            if seen & bit != 0 {
                return Err(RecordFault::Twice(key.node));
            }
            seen |= bit;
        }
        if message.get(at) == Some(&b'"') {
            let (end, escaped) = json::string(message, at + 1)?;
            values.set(key.leaf, at + 1, end, escaped);
            at = end + 1;
            if !message.get(at).is_none_or(parts) && key.leaf != NONE {
                return Err(RecordFault::Malformed(at));
            }
            continue;
        }
        let value = message.get(at..).unwrap_or_default();
        let length = value.iter().position(|byte| matches!(byte, b' ' | b'\t')).unwrap_or(value.len());
        let value = value.get(..length).unwrap_or_default();
        let short = value.strip_suffix(b",").unwrap_or(value).len();
        if short > 0 {
            values.set(key.leaf, at, at + short, false);
        }
        at += length;
    }
    Ok(values)
}
