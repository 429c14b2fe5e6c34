//! What is to be tried on a message, as one list of steps: what several patterns begin with is in it once.

use super::pattern::Reader;
use super::step::{Step, StepField};
use crate::grammar::variant::{Field, Item};

/// Patterns to try, in their order.
///
/// It is a tree, written in the order in which it is walked: where a step does not fit, the walk goes on behind all that
/// follows from that step.
#[derive(Debug, Default)]
pub(super) struct RuleProgram(Vec<ProgramNode>);

#[derive(Debug)]
enum ProgramNode {
    Step {
        step: Step,
        depth: u8,
        skip: u32,
    },
    /// A pattern whose steps are read, but for those that are `left`.
    Try {
        pattern: u32,
        group: u16,
        depth: u8,
        left: Box<[Step]>,
        next: u32,
    },
}

/// Steps that patterns share; further ones each has by itself. The place where each of them begins is kept.
const DEEPEST: u8 = 31;

/// The beginning of a pattern, of which some bytes are read.
#[derive(Clone, Copy)]
pub(super) struct Head<'v> {
    pub(super) pattern: u32,
    pub(super) group: u16,
    /// Whether it can share no step, since what a later step held would be taken for what an earlier one did.
    pub(super) is_alone: bool,
    pub(super) items: &'v [Item],
    /// Bytes of the first item, a text, that are read.
    pub(super) read: usize,
}

impl<'v> Head<'v> {
    /// Text that comes next, which may be empty.
    fn text(&self) -> &'v [u8] {
        match self.items.first() {
            Some(Item::Text(text)) => text.get(self.read..).unwrap_or_default(),
            _ => &[],
        }
    }

    /// What is left when so many bytes of its text are read.
    fn behind_text(mut self, length: usize) -> Self {
        if let Some(Item::Text(text)) = self.items.first() {
            self.read += length;
            if self.read >= text.len() {
                (self.items, self.read) = (self.items.get(1..).unwrap_or_default(), 0);
            }
        }
        self
    }

    /// What is left when the field that comes next is read, if one does.
    fn behind_field(mut self) -> Self {
        if let [Item::Field(_), behind @ ..] = self.items {
            self.items = behind;
        }
        self
    }

    /// The field that comes next, and the text behind it.
    fn field(&self) -> Option<(Field, &'v [u8])> {
        match self.items {
            [Item::Field(field), Item::Text(text), ..] => Some((*field, text)),
            [Item::Field(field), ..] => Some((*field, &[])),
            _ => None,
        }
    }

    /// Whether its next step is read together with what follows.
    fn is_open(&self) -> bool {
        self.field().is_some_and(|(field, behind)| StepField::is_open(field, behind))
    }

    /// Whether both go on in the same way.
    fn begins_like(&self, other: &Self) -> bool {
        let what = |field: &Field| (field.slot, field.kind, field.stop);
        match (self.items.first(), other.items.first()) {
            (Some(Item::Text(_)), Some(Item::Text(_))) => self.text().first() == other.text().first(),
            (Some(Item::Field(one)), Some(Item::Field(other))) => what(one) == what(other),
            _ => false,
        }
    }

    /// Its steps from here on.
    fn steps(&self) -> Box<[Step]> {
        let text = (self.read > 0).then(|| Item::Text(self.text().to_vec()));
        let items = self.items.get(usize::from(text.is_some())..).unwrap_or_default();
        Step::all(&text.into_iter().chain(items.iter().cloned()).collect::<Vec<_>>()).into()
    }
}

/// How many bytes of their texts all of these have in common.
fn common(heads: &[Head<'_>]) -> usize {
    let Some((first, others)) = heads.split_first() else { return 0 };
    let same = |other: &Head<'_>| first.text().iter().zip(other.text()).take_while(|(a, b)| a == b).count();
    others.iter().map(same).min().unwrap_or(first.text().len()).min(first.text().len())
}

impl RuleProgram {
    /// The patterns that begin like this.
    pub(super) fn new(heads: &[Head<'_>]) -> Self {
        let mut program = Self::default();
        program.lay(heads, 0);
        program.link();
        program
    }

    /// The part of it that is about these patterns: from the first of them up to the last.
    pub(super) fn part(&self, first: u32, last: u32) -> ProgramPart {
        let pattern = |place: u32| match self.0.get(place as usize) {
            Some(ProgramNode::Try { pattern, .. }) => Some(*pattern),
            _ => None,
        };
        // The last node of a step's is a pattern, and patterns are in their order.
        let behind = |place: u32| match self.0.get(place as usize) {
            Some(ProgramNode::Step { skip, .. }) => *skip,
            _ => place + 1,
        };
        let mut begin = 0;
        while pattern(behind(begin) - 1).is_some_and(|before| before < first) {
            begin = behind(begin);
        }
        let mut end = begin;
        while (end as usize) < self.0.len() && pattern(end).is_none_or(|pattern| pattern < last) {
            let is_before = pattern(behind(end) - 1).is_some_and(|before| before < last);
            end = if is_before { behind(end) } else { end + 1 };
        }
        ProgramPart { begin, end: end + 1, first }
    }

    /// Appends what reads these.
    fn lay(&mut self, mut heads: &[Head<'_>], depth: u8) {
        while let Some((first, others)) = heads.split_first() {
            if first.items.is_empty() || first.is_open() || depth == DEEPEST {
                let (pattern, group, left) = (first.pattern, first.group, first.steps());
                self.0.push(ProgramNode::Try { pattern, group, depth, left, next: 0 });
                heads = others;
                continue;
            }
            let alike = others.iter().take_while(|other| {
                !(first.is_alone || other.is_alone || other.is_open()) && first.begins_like(other)
            });
            let (alike, others) = heads.split_at(1 + alike.count());
            let field = first.field().map(|(field, behind)| (StepField::of(field, behind), field.slot));
            let behind: Vec<Head<'_>> = alike.iter().map(|head| head.behind_field()).collect();
            let length = common(&behind);
            let text = behind.first().and_then(|head| head.text().get(..length)).unwrap_or_default();
            let place = self.0.len();
            self.0.push(ProgramNode::Step { step: Step::new(field, text), depth, skip: 0 });
            self.lay(&behind.iter().map(|head| head.behind_text(length)).collect::<Vec<_>>(), depth + 1);
            self.end(place);
            heads = others;
        }
    }

    /// What follows from the node at `place` ends here.
    fn end(&mut self, place: usize) {
        let end = self.0.len() as u32;
        if let Some(ProgramNode::Step { skip, .. }) = self.0.get_mut(place) {
            *skip = end;
        }
    }

    /// Finds for each pattern where those of the groups behind its own begin.
    fn link(&mut self) {
        // The first pattern of the group that is looked at, and of the one behind it.
        let (mut first, mut behind) = ((u16::MAX, self.0.len()), self.0.len());
        for place in (0..self.0.len()).rev() {
            let Some(ProgramNode::Try { group, .. }) = self.0.get(place) else { continue };
            if *group != first.0 {
                behind = first.1;
            }
            first = (*group, place);
            let mut to = place + 1;
            loop {
                to = match self.0.get(to) {
                    Some(ProgramNode::Step { skip, .. }) if (*skip as usize) <= behind => *skip as usize,
                    Some(ProgramNode::Try { .. }) if to < behind => to + 1,
                    _ => break,
                }
            }
            if let Some(ProgramNode::Try { next, .. }) = self.0.get_mut(place) {
                *next = to as u32;
            }
        }
    }

    /// Walks over the message from `start` on and hands each pattern of a part whose steps fit to `read`, with where they end
    /// and those that are left. It says whether the pattern reads the message; then no other of its group is tried, which
    /// `done` holds.
    #[inline(always)]
    pub(super) fn run<T>(
        &self,
        part: ProgramPart,
        reader: &mut Reader<'_>,
        start: u32,
        done: &mut Option<u16>,
        mut read: impl FnMut(&mut Reader<'_>, u32, usize, &[Step]) -> Tried<T>,
    ) -> Option<T> {
        let message = reader.message;
        let mut starts = [0_u32; DEEPEST as usize + 1];
        starts.first_mut().into_iter().for_each(|first| *first = start);
        let (nodes, mut place) = (self.0.get(..part.end as usize)?, part.begin as usize);
        while let Some(node) = nodes.get(place) {
            place += 1;
            match node {
                ProgramNode::Step { step, depth, skip } => {
                    let depth = usize::from(*depth);
                    let at = starts.get(depth).map_or(0, |start| *start as usize);
                    match reader.step::<false>(step, message, at) {
                        Some(end) => {
                            starts.get_mut(depth + 1).into_iter().for_each(|start| *start = end as u32);
                        }
                        None => place = *skip as usize,
                    }
                }
                ProgramNode::Try { pattern, group, depth, left, next } => {
                    if *done == Some(*group) || *pattern < part.first {
                        continue;
                    }
                    let at = starts.get(usize::from(*depth)).map_or(0, |start| *start as usize);
                    match read(reader, *pattern, at, left) {
                        Tried::Taken(taken) => return Some(taken),
                        Tried::Read => (*done, place) = (Some(*group), *next as usize),
                        Tried::Failed => {}
                    }
                }
            }
        }
        None
    }
}

/// Some patterns of a program that stand side by side: those from the `first` on between two of its nodes.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProgramPart {
    begin: u32,
    end: u32,
    first: u32,
}

/// The result of trying a pattern.
pub(super) enum Tried<T> {
    Failed,
    /// It reads the message, and that is all.
    Read,
    /// It reads the message, and this was made of it.
    Taken(T),
}
