//! Patterns by the text that they begin with.

use super::program::{Head, ProgramPart, RuleProgram};
use crate::entry::scan::Literal;
use crate::grammar::variant::Item;

/// Tree over the texts that patterns begin with; the first node is its root.
#[derive(Debug)]
pub(super) struct TextTree(Vec<TextNode>);

/// A piece of text that patterns begin with, and what may follow it.
#[derive(Debug)]
struct TextNode {
    text: Literal,
    /// How long it and those above it are.
    length: u32,
    /// The patterns whose text ends here; at the root those that begin with a field.
    program: RuleProgram,
    /// What to try on a message that begins with the texts up to this one, in the order of the patterns: parts of the programs
    /// of this node and of those above it.
    parts: Box<[(u16, ProgramPart)]>,
    /// The next nodes, by the first byte of their text.
    next: NextNodes,
}

#[derive(Debug)]
enum NextNodes {
    /// Few, which are tried one by one.
    Few(Box<[u16]>),
    /// Many: the node for each first byte; 0 for none.
    Many(Box<[u16; 256]>),
}

/// Nodes up to which trying each is faster than a table.
const FEW: usize = 3;

/// While it is built: a piece of text, its patterns, and the next pieces by their first byte, sorted.
#[derive(Default)]
struct TextDraft {
    text: Vec<u8>,
    patterns: Vec<usize>,
    next: Vec<(u8, usize)>,
}

impl TextTree {
    /// Files these patterns by their first text. Fields that they begin with are looked at behind all texts.
    pub(super) fn new(heads: &[Head<'_>]) -> Self {
        let mut drafts = vec![TextDraft::default()];
        for (number, head) in heads.iter().enumerate() {
            let text = match head.items.first() {
                Some(Item::Text(text)) => text.as_slice(),
                _ => &[],
            };
            file(&mut drafts, text, number);
        }
        let mut nodes: Vec<TextNode> = drafts.iter().map(TextNode::new).collect();
        // A node, how long the texts above it are, and the patterns that end there, each with its node.
        let mut walk = vec![(0, 0, Vec::new())];
        while let Some((place, above, mut all)) = walk.pop() {
            let Some(draft) = drafts.get(place) else { continue };
            let length = above + draft.text.len();
            let own = draft.patterns.iter().filter_map(|number| {
                let head = heads.get(*number)?;
                Some(Head { items: head.items.get(usize::from(length > 0)..).unwrap_or_default(), ..*head })
            });
            let own: Vec<Head<'_>> = own.collect();
            all.extend(own.iter().map(|head| (head.pattern, place as u16)));
            // Two lists in order, one behind the other, are merged.
            all.sort();
            if let Some(node) = nodes.get_mut(place) {
                (node.length, node.program) = (length as u32, RuleProgram::new(&own));
            }
            let parts = all.chunk_by(|(_, one), (_, other)| one == other).filter_map(|alike| {
                let ((first, place), (last, _)) = (*alike.first()?, *alike.last()?);
                Some((place, nodes.get(usize::from(place))?.program.part(first, last)))
            });
            let parts = parts.collect();
            if let Some(node) = nodes.get_mut(place) {
                node.parts = parts;
            }
            walk.extend(draft.next.iter().map(|(_, next)| (*next, length, all.clone())));
        }
        Self(nodes)
    }

    /// The program of a node, and how much of a message those that it is tried on begin with.
    #[inline(always)]
    pub(super) fn program(&self, node: u16) -> Option<(&RuleProgram, u32)> {
        self.0.get(usize::from(node)).map(|node| (&node.program, node.length))
    }

    /// What to try on a message, by the text that it begins with: parts of the programs of nodes.
    #[inline(always)]
    pub(super) fn parts(&self, message: &[u8]) -> &[(u16, ProgramPart)] {
        let Some(mut node) = self.0.first() else { return &[] };
        let mut at = 0;
        'nodes: loop {
            match &node.next {
                NextNodes::Few(next) => {
                    for next in next {
                        if let Some(next) = self.0.get(usize::from(*next))
                            && let Some(end) = next.text.end(message, at)
                        {
                            (node, at) = (next, end);
                            continue 'nodes;
                        }
                    }
                }
                NextNodes::Many(next) => {
                    let byte = message.get(at).copied().unwrap_or_default();
                    if let Some(next) = next.get(usize::from(byte)).filter(|next| **next > 0)
                        && let Some(next) = self.0.get(usize::from(*next))
                        && let Some(end) = next.text.end(message, at)
                    {
                        (node, at) = (next, end);
                        continue;
                    }
                }
            }
            return &node.parts;
        }
    }
}

impl TextNode {
    fn new(draft: &TextDraft) -> Self {
        let next = if draft.next.len() <= FEW {
            NextNodes::Few(draft.next.iter().map(|(_, next)| *next as u16).collect())
        } else {
            let mut table = Box::new([0; 256]);
            for (byte, next) in &draft.next {
                table.get_mut(usize::from(*byte)).into_iter().for_each(|at| *at = *next as u16);
            }
            NextNodes::Many(table)
        };
        let (program, parts) = (RuleProgram::default(), Box::default());
        Self { text: Literal::new(&draft.text), length: 0, program, parts, next }
    }
}

/// Files a pattern below the piece of its text, splitting pieces where texts part.
fn file(drafts: &mut Vec<TextDraft>, text: &[u8], pattern: usize) {
    let (mut rest, mut at) = (text, 0_usize);
    while let Some(&first) = rest.first() {
        let found =
            drafts.get(at).and_then(|draft| draft.next.iter().find(|(byte, _)| *byte == first).copied());
        let Some((_, next)) = found else {
            let leaf = drafts.len();
            drafts.push(TextDraft { text: rest.into(), ..TextDraft::default() });
            link(drafts, at, first, leaf);
            (rest, at) = (&[], leaf);
            continue;
        };
        let Some(draft) = drafts.get_mut(next) else { return };
        let same = draft.text.iter().zip(rest).take_while(|(a, b)| a == b).count();
        let back = draft.text.split_off(same);
        if let Some(&branch) = back.first() {
            // The draft keeps what is common; what follows moves into a new one.
            let lower = TextDraft {
                text: back,
                patterns: std::mem::take(&mut draft.patterns),
                next: std::mem::take(&mut draft.next),
            };
            let place = drafts.len();
            drafts.push(lower);
            link(drafts, next, branch, place);
        }
        (rest, at) = (rest.get(same..).unwrap_or(&[]), next);
    }
    drafts.get_mut(at).into_iter().for_each(|draft| draft.patterns.push(pattern));
}

fn link(drafts: &mut [TextDraft], from: usize, byte: u8, to: usize) {
    if let Some(draft) = drafts.get_mut(from) {
        draft.next.push((byte, to));
        draft.next.sort_unstable();
    }
}
