//! Signatures: who has said something, and of what.
//!
//! An NKEY is a key of Ed25519 (RFC 8032) in NATS's text form. What is told together has one signature, over the root of a
//! hash tree (SHA-512, cut to 32 bytes). A leaf names the kind of value and its key, so that what it says counts nowhere else.
//! Each value brings the way from its leaf to the root along: so it can be verified without the others, of which the bucket
//! may have newer ones. Leaves and what is above them are hashed differently, so that none can be taken for the other.

use std::collections::HashMap;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ed25519_dalek::{Digest, Sha512, Signature, Verifier, VerifyingKey, verify_batch};
use nkeys::KeyPair;

/// A kind of value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SealKind {
    /// A member's own: a ban, or that it is there.
    Ban,
    /// A member's own: its addresses.
    Addresses,
    /// A member's own: what stands in a window.
    Count,
    /// An operator's: who is a member, and what holds for all.
    Member,
}

impl SealKind {
    fn context(self) -> &'static [u8] {
        match self {
            Self::Ban => b"banstream ban 2",
            Self::Addresses => b"banstream addresses 2",
            Self::Count => b"banstream count 2",
            Self::Member => b"banstream member 2",
        }
    }
}

/// How many steps there are to a root at most: eight values have one signature. Twice as many would make each value 44 bytes
/// longer, to save half a microsecond of verifying it.
const STEPS: usize = 3;

/// What is above values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Node([u8; 32]);

impl Node {
    fn new(parts: &[&[u8]]) -> Self {
        let mut hash = Sha512::new();
        parts.iter().for_each(|part| hash.update(part));
        let mut node = [0; 32];
        node.iter_mut().zip(hash.finalize()).for_each(|(to, byte)| *to = byte);
        Self(node)
    }

    fn leaf(kind: SealKind, key: &str, json: &[u8]) -> Self {
        Self::new(&[b"\0", kind.context(), b"\0", key.as_bytes(), b"\0", json])
    }

    fn above(left: Self, right: Self) -> Self {
        Self::new(&[b"\x01", &left.0, &right.0])
    }

    /// What is signed, where this is a root.
    fn signed(self) -> Vec<u8> {
        [&b"banstream 2\0"[..], &self.0].concat()
    }
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
    Ok(value(&by.sign(&Node::leaf(kind, key, json).signed())?, json))
}

/// The values with these keys and JSONs, in their order, with as few signatures as there may be.
///
/// # Errors
///
/// The key pair has no private part.
pub(super) fn seal_all(
    kind: SealKind,
    values: &[(String, Vec<u8>)],
    by: &KeyPair,
) -> Result<Vec<Vec<u8>>, nkeys::error::Error> {
    let mut sealed = Vec::with_capacity(values.len());
    for page in values.chunks(1 << STEPS) {
        let mut nodes: Vec<Node> = page.iter().map(|(key, json)| Node::leaf(kind, key, json)).collect();
        // Of each leaf the node above it that was reached, and the steps to there.
        let mut ways: Vec<(usize, Vec<u8>)> = (0..page.len()).map(|leaf| (leaf, Vec::new())).collect();
        while nodes.len() > 1 {
            for (place, steps) in &mut ways {
                // The last one may have none beside it.
                if let Some(beside) = nodes.get(*place ^ 1) {
                    steps.push((*place & 1) as u8);
                    steps.extend_from_slice(&beside.0);
                }
                *place /= 2;
            }
            let above = |pair: &[Node]| match *pair {
                [left, right] => Some(Node::above(left, right)),
                _ => pair.first().copied(),
            };
            nodes = nodes.chunks(2).filter_map(above).collect();
        }
        let Some(root) = nodes.first() else { continue };
        let signature = by.sign(&root.signed())?;
        let values = page.iter().zip(ways);
        sealed.extend(values.map(|((_, json), (_, steps))| value(&[&*signature, &steps].concat(), json)));
    }
    Ok(sealed)
}

fn value(head: &[u8], json: &[u8]) -> Vec<u8> {
    let mut value = BASE64_URL_SAFE_NO_PAD.encode(head).into_bytes();
    value.push(b'\n');
    value.extend_from_slice(json);
    value
}

/// What verifies the signatures of this public NKEY.
///
/// # Errors
///
/// It is none.
pub(super) fn verifier(key: &str) -> anyhow::Result<VerifyingKey> {
    Ok(VerifyingKey::from_bytes(&nkeys::from_public_key(key)?.1)?)
}

/// A value that is taken apart, and not verified yet.
pub(super) struct SealedValue<'v> {
    /// What it says, if it is genuine.
    pub(super) json: &'v [u8],
    root: Node,
    signature: Signature,
}

impl<'v> SealedValue<'v> {
    /// The value under this key, unless it has no signature.
    pub(super) fn new(kind: SealKind, key: &str, value: &'v [u8]) -> Option<Self> {
        let line = value.iter().position(|b| *b == b'\n')?;
        let (head, json) = value.split_at(line);
        let json = json.get(1..)?;
        let head = BASE64_URL_SAFE_NO_PAD.decode(head).ok()?;
        let (signature, steps) = head.split_at_checked(Signature::BYTE_SIZE)?;
        let (steps, rest) = steps.as_chunks::<33>();
        if steps.len() > STEPS || !rest.is_empty() {
            return None;
        }
        let mut root = Node::leaf(kind, key, json);
        for [side, beside @ ..] in steps {
            root = match side {
                0 => Node::above(root, Node(*beside)),
                1 => Node::above(Node(*beside), root),
                _ => return None,
            };
        }
        Some(Self { json, root, signature: Signature::from_slice(signature).ok()? })
    }

    fn is_by(&self, by: &VerifyingKey) -> bool {
        by.verify(&self.root.signed(), &self.signature).is_ok()
    }
}

/// Which of these were signed by the keys at their sides.
///
/// A signature of several is verified once, and all together first, which takes less than half the time (14 us each of 128,
/// against 35 us). The owner of a key, and nobody else, can make signatures that are good together and not alone. Where they
/// are not good together, each is verified alone, so that one bad value spoils no other.
pub(super) fn are_genuine(values: &[(SealedValue<'_>, VerifyingKey)]) -> Vec<bool> {
    let mut places = HashMap::new();
    let mut pages: Vec<&(SealedValue<'_>, VerifyingKey)> = Vec::new();
    let of: Vec<usize> = values
        .iter()
        .map(|page| {
            let (value, by) = page;
            *places.entry((by.as_bytes(), value.root, value.signature.to_bytes())).or_insert_with(|| {
                pages.push(page);
                pages.len() - 1
            })
        })
        .collect();
    let texts: Vec<Vec<u8>> = pages.iter().map(|(value, _)| value.root.signed()).collect();
    let texts: Vec<&[u8]> = texts.iter().map(|text| &**text).collect();
    let (signatures, keys): (Vec<_>, Vec<_>) = pages.iter().map(|(value, by)| (value.signature, *by)).unzip();
    if pages.len() > 1 && verify_batch(&texts, &signatures, &keys).is_ok() {
        return vec![true; values.len()];
    }
    let genuine: Vec<bool> = pages.iter().map(|(value, by)| value.is_by(by)).collect();
    of.iter().map(|page| genuine.get(*page) == Some(&true)).collect()
}

/// The JSON of a value under this key, if one of these has signed it.
pub(super) fn open<'v>(kind: SealKind, key: &str, value: &'v [u8], by: &[VerifyingKey]) -> Option<&'v [u8]> {
    let value = SealedValue::new(kind, key, value)?;
    by.iter().any(|by| value.is_by(by)).then_some(value.json)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (KeyPair, VerifyingKey) {
        let pair = KeyPair::new_user();
        let verifies = verifier(&pair.public_key()).unwrap();
        (pair, verifies)
    }

    /// So many keys and JSONs.
    fn told(values: usize) -> Vec<(String, Vec<u8>)> {
        (0..values).map(|nth| (format!("web1.192.0.2.{nth}/32"), format!("{{{nth}}}").into_bytes())).collect()
    }

    #[test]
    fn a_value_is_opened_under_its_key_by_its_signer_only() {
        let ((host, by), (_, other)) = (pair(), pair());
        let is_open = |kind, key: &str, value: &[u8], by| open(kind, key, value, &[by]).is_some();
        let alone = seal(SealKind::Ban, "web1.192.0.2.0/32", b"{0}", &host).unwrap();
        let together = seal_all(SealKind::Ban, &told(11), &host).unwrap();
        for (nth, value) in [(0, &alone), (0, &together[0]), (7, &together[7]), (10, &together[10])] {
            let (key, json) = &told(11)[nth];
            assert_eq!(open(SealKind::Ban, key, value, &[other, by]), Some(&**json));
            assert!(!is_open(SealKind::Ban, "web1.192.0.2.11/32", value, by));
            assert!(!is_open(SealKind::Ban, &told(11)[(nth + 1) % 11].0, value, by));
            assert!(!is_open(SealKind::Member, key, value, by));
            assert!(!is_open(SealKind::Ban, key, value, other));
            for at in 0..value.len() {
                let mut changed = value.clone();
                changed[at] ^= 1;
                assert!(!is_open(SealKind::Ban, key, &changed, by), "at {at}");
                assert!(!is_open(SealKind::Ban, key, &value[..at], by), "up to {at}");
            }
        }
    }

    #[test]
    fn what_is_told_together_is_opened_one_by_one_and_no_head_fits_another() {
        let (host, by) = pair();
        for values in (0..=17).chain([100]) {
            let told = told(values);
            let sealed = seal_all(SealKind::Ban, &told, &host).unwrap();
            assert_eq!(sealed.len(), values);
            for ((key, json), value) in told.iter().zip(&sealed) {
                assert_eq!(open(SealKind::Ban, key, value, &[by]), Some(&**json), "{key} of {values}");
                for other in sealed.iter().filter(|other| *other != value) {
                    let head = other.split(|byte| *byte == b'\n').next().unwrap();
                    assert_eq!(open(SealKind::Ban, key, &[head, b"\n", json].concat(), &[by]), None);
                }
            }
        }
    }

    #[test]
    fn what_is_above_values_is_no_value_and_a_way_has_an_end() {
        let (host, by) = pair();
        // A value that reads as what is above two others.
        let [left, right] = [Node([1; 32]), Node([2; 32])];
        let signature = host.sign(&Node::above(left, right).signed()).unwrap();
        let json = [left.0, right.0].concat();
        assert_eq!(open(SealKind::Ban, "", &value(&signature, &json), &[by]), None);
        for steps in 0..=STEPS + 1 {
            let mut root = Node::leaf(SealKind::Ban, "key", b"{}");
            (0..steps).for_each(|_| root = Node::above(root, left));
            let way = [&[0][..], &left.0].concat().repeat(steps);
            let head = [host.sign(&root.signed()).unwrap(), way].concat();
            let is_open = open(SealKind::Ban, "key", &value(&head, b"{}"), &[by]).is_some();
            assert_eq!(is_open, steps <= STEPS, "{steps}");
            assert_eq!(open(SealKind::Ban, "key", &value(&[&*head, b"x"].concat(), b"{}"), &[by]), None);
        }
    }

    /// Values of two members, of which these are forged; the others, and only they, are genuine.
    #[track_caller]
    fn check(values: usize, forged: &[usize]) {
        let pairs = [pair(), pair()];
        // Two and two have one signature.
        let sealed: Vec<Vec<u8>> = (told(values).chunks(2).zip([0, 1].into_iter().cycle()))
            .flat_map(|(page, by)| seal_all(SealKind::Ban, page, &pairs[by].0).unwrap())
            .collect();
        let by = |nth: usize| pairs[(nth / 2 + usize::from(forged.contains(&nth))) % 2].1;
        let told = told(values);
        let value = |(nth, value): (usize, _)| {
            (SealedValue::new(SealKind::Ban, &told[nth].0, value).unwrap(), by(nth))
        };
        let values: Vec<_> = sealed.iter().map(|value| &**value).enumerate().map(value).collect();
        let want: Vec<bool> = (0..values.len()).map(|nth| !forged.contains(&nth)).collect();
        assert_eq!(are_genuine(&values), want);
    }

    #[test]
    fn what_is_verified_together_is_what_each_is_alone() {
        check(0, &[]);
        check(1, &[]);
        check(1, &[0]);
        check(40, &[]);
        (0..40).for_each(|forged| check(40, &[forged]));
        check(40, &[3, 4, 5, 39]);
        check(2, &[0, 1]);
    }
}
