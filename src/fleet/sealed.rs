//! Signatures: who has said something, and of what.
//!
//! An NKEY is a key of Ed25519 (RFC 8032) in NATS's text form. What is signed names the kind of value and its key, so that
//! it counts nowhere else.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use nkeys::KeyPair;

/// A kind of value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SealKind {
    /// A member's own: a ban, or that it is there.
    Ban,
    /// A member's own: what stands in a window.
    Count,
    /// An operator's: who is a member, and what holds for all.
    Member,
}

impl SealKind {
    fn context(self) -> &'static str {
        match self {
            Self::Ban => "banstream ban 1",
            Self::Count => "banstream count 1",
            Self::Member => "banstream member 1",
        }
    }
}

fn signed(kind: SealKind, key: &str, json: &[u8]) -> Vec<u8> {
    [kind.context().as_bytes(), b"\0", key.as_bytes(), b"\0", json].concat()
}

/// The value with this JSON under this key.
///
/// # Errors
///
/// The key pair has no private part.
pub(super) fn seal(
    kind: SealKind,
    key: &str,
    json: &[u8],
    by: &KeyPair,
) -> Result<Vec<u8>, nkeys::error::Error> {
    let signature = by.sign(&signed(kind, key, json))?;
    let mut value = BASE64_URL_SAFE_NO_PAD.encode(signature).into_bytes();
    value.push(b'\n');
    value.extend_from_slice(json);
    Ok(value)
}

/// The JSON of a value under this key, if one of these has signed it.
pub(super) fn open<'v, 'k>(
    kind: SealKind,
    key: &str,
    value: &'v [u8],
    by: impl IntoIterator<Item = &'k KeyPair>,
) -> Option<&'v [u8]> {
    let line = value.iter().position(|b| *b == b'\n')?;
    let (signature, json) = value.split_at(line);
    let json = json.get(1..)?;
    let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?;
    let signed = signed(kind, key, json);
    by.into_iter().any(|by| by.verify(&signed, &signature).is_ok()).then_some(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_opened_under_its_key_by_its_signer_only() {
        let (host, other) = (KeyPair::new_user(), KeyPair::new_user());
        let value = seal(SealKind::Ban, "web1.192.0.2.1/32", b"{}", &host).unwrap();
        let open = |kind, key, value: &[u8], by| open(kind, key, value, [by]).map(<[u8]>::to_vec);
        let is_open = |kind, key, value: &[u8], by| open(kind, key, value, by).is_some();
        assert_eq!(open(SealKind::Ban, "web1.192.0.2.1/32", &value, &host), Some(b"{}".to_vec()));
        assert!(!is_open(SealKind::Ban, "web1.192.0.2.2/32", &value, &host));
        assert!(!is_open(SealKind::Member, "web1.192.0.2.1/32", &value, &host));
        assert!(!is_open(SealKind::Ban, "web1.192.0.2.1/32", &value, &other));
        for at in 0..value.len() {
            let mut changed = value.clone();
            changed[at] ^= 1;
            assert!(!is_open(SealKind::Ban, "web1.192.0.2.1/32", &changed, &host), "at {at}");
            assert!(!is_open(SealKind::Ban, "web1.192.0.2.1/32", &value[..at], &host), "up to {at}");
        }
    }
}
