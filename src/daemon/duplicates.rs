//! Notices two sources that bring the same lines, as where journald is read and also forwards to rsyslog.
//!
//! Only lines with offences are compared: the others cost nothing then, and do no harm.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use hashbrown::DefaultHashBuilder;

use crate::control::DuplicateStatus;
use crate::detect::Trace;
use crate::engine::Evidence;
use crate::model::{Span, Timestamp};

/// Lines that are remembered, and how far apart two may be that are the same.
const LINES: usize = 512;
const WITHIN: Span = Span::from_secs(1);
/// From how many on they are reported: one or two may be chance.
const MANY: u64 = 3;

/// The last lines with an offence, and how many came from two sources.
#[derive(Default)]
pub(super) struct Duplicates {
    lines: VecDeque<(u64, Arc<str>, Timestamp)>,
    /// Those that have brought any. While there is but one, nothing is compared.
    sources: BTreeSet<Arc<str>>,
    found: BTreeMap<[Arc<str>; 2], u64>,
    hasher: DefaultHashBuilder,
}

impl Duplicates {
    /// Takes in what one batch of this source has left behind.
    pub(super) fn add(&mut self, source: &Arc<str>, traces: &[Trace], evidence: &Evidence) {
        let mut last = None;
        for trace in traces {
            // An offence leaves a trace in each jail.
            if last.replace(trace.nth) == Some(trace.nth) {
                continue;
            }
            if let Some((message, _)) = evidence.get(trace.nth) {
                self.line(source, &(trace.grammar, trace.session_id, message), trace.time);
            }
        }
    }

    fn line(&mut self, source: &Arc<str>, line: &impl Hash, time: Timestamp) {
        let line = self.hasher.hash_one(line);
        let is_same = |(other, from, at): &(u64, Arc<str>, Timestamp)| {
            *other == line && from != source && time.since(*at).max(at.since(time)) <= WITHIN
        };
        if !self.sources.contains(source) {
            self.sources.insert(Arc::clone(source));
        }
        if self.sources.len() > 1
            && let Some(place) = self.lines.iter().position(is_same)
            && let Some((_, other, _)) = self.lines.remove(place)
        {
            let mut sources = [Arc::clone(source), other];
            sources.sort_unstable();
            *self.found.entry(sources).or_default() += 1;
            return;
        }
        if self.lines.len() >= LINES {
            self.lines.pop_front();
        }
        self.lines.push_back((line, Arc::clone(source), time));
    }

    /// The pairs of sources that bring the same lines.
    pub(super) fn status(&self) -> Vec<DuplicateStatus> {
        let many = self.found.iter().filter(|(_, lines)| **lines >= MANY);
        let status = |(sources, lines): (&[Arc<str>; 2], &u64)| DuplicateStatus {
            sources: sources.iter().map(|source| source.to_string()).collect(),
            lines: *lines,
        };
        many.map(status).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_line_from_another_source_within_a_second_is_found_once() {
        let mut duplicates = Duplicates::default();
        let mut found = |source: &str, line: u32, at: u64| {
            duplicates.line(&source.into(), &line, Timestamp::default() + Span::from_secs(at));
            duplicates.found.values().sum::<u64>()
        };
        assert_eq!(found("journald", 1, 10), 0);
        assert_eq!(found("journald", 1, 10), 0, "a server may say it twice");
        assert_eq!(found("socket", 2, 10), 0);
        assert_eq!(found("socket", 1, 12), 0);
        assert_eq!(found("socket", 1, 11), 1);
        assert_eq!(found("socket", 1, 11), 2);
        assert_eq!(found("socket", 1, 11), 2);
        assert!(duplicates.status().is_empty());
        duplicates.line(&"socket".into(), &7, Timestamp::default());
        duplicates.line(&"journald".into(), &7, Timestamp::default());
        let want = DuplicateStatus { sources: vec!["journald".to_owned(), "socket".to_owned()], lines: 3 };
        assert_eq!(duplicates.status(), [want]);
        (0..LINES as u32 + 9).for_each(|line| duplicates.line(&"stdin".into(), &line, Timestamp::default()));
        assert_eq!(duplicates.lines.len(), LINES);
    }
}
