//! The keys that the shapes of one format want, as a tree.

use super::escape;

/// No node and no leaf.
pub(super) const NONE: u8 = u8::MAX;

/// Nodes of the tree: one bit is kept for each.
pub(super) const NODES: usize = 64;

/// Names that lead to a value.
pub(super) const NAMES: usize = 8;

/// Where a key leads: the node of the tree, and the value that it is wanted for, if it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordKey {
    pub(super) node: u8,
    pub(super) leaf: u8,
    /// Whether more names follow.
    pub(super) leads_on: bool,
}

impl RecordKey {
    pub(super) const NONE: Self = Self { node: NONE, leaf: NONE, leads_on: false };
}

/// The first node is the root.
#[derive(Debug)]
pub(super) struct Keys(Vec<KeyNode>);

#[derive(Debug, Default)]
struct KeyNode {
    name: String,
    above: u8,
    next: Vec<(Box<[u8]>, RecordKey)>,
}

impl Keys {
    pub(super) fn new() -> Self {
        Self(vec![KeyNode::default()])
    }

    /// Adds a key, whose names lead to a value. `None` if there are too many.
    pub(super) fn add(&mut self, path: &[String], leaf: u8) -> Option<()> {
        if path.len() > NAMES {
            return None;
        }
        let mut at = 0_u8;
        for (place, name) in path.iter().enumerate() {
            let known = self.find(at, name.as_bytes(), false).node;
            let is_last = place + 1 == path.len();
            let node = if known == NONE { u8::try_from(self.0.len()).ok()? } else { known };
            if usize::from(node) >= NODES {
                return None;
            }
            if known == NONE {
                self.0.push(KeyNode { name: name.clone(), above: at, ..KeyNode::default() });
                let next = &mut self.0.get_mut(usize::from(at))?.next;
                next.push((name.as_bytes().into(), RecordKey { node, ..RecordKey::NONE }));
            }
            let next = &mut self.0.get_mut(usize::from(at))?.next;
            for (_, key) in next.iter_mut().filter(|(_, key)| key.node == node) {
                match is_last {
                    true => key.leaf = leaf,
                    false => key.leads_on = true,
                }
            }
            at = node;
        }
        Some(())
    }

    /// The key of this name below a node.
    #[inline(always)]
    pub(super) fn find(&self, node: u8, name: &[u8], escaped: bool) -> RecordKey {
        let next = self.0.get(usize::from(node)).map_or(&[][..], |node| &node.next);
        let is = |known: &[u8]| if escaped { escape::is(name, known) } else { *known == *name };
        next.iter().find(|(known, _)| is(known)).map_or(RecordKey::NONE, |(_, key)| *key)
    }

    /// What a node is called in a grammar.
    pub(super) fn path(&self, node: u8) -> String {
        match self.0.get(usize::from(node)).filter(|_| node > 0) {
            Some(node) if node.above == 0 => written(&node.name),
            Some(node) => format!("{}.{}", self.path(node.above), written(&node.name)),
            None => String::new(),
        }
    }
}

/// A name as it stands in a grammar.
pub(super) fn written(name: &str) -> String {
    name.replace('\\', "\\\\").replace('.', "\\.")
}
