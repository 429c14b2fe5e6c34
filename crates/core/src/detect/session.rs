//! Counts one attempt once, even if a server writes several lines for it.
//!
//! OpenSSH writes `Invalid user`, `error: PAM`, `Failed password` and `Connection closed` for one wrong password. Each
//! has a rule group of its own. Within one session (the lines of one process of one host about one address) each group
//! reports an attempt once. So the group with the most lines gives the number of attempts, and a line counts only if it
//! raises that number. That holds for a while only: a group without lines for some time does not continue with attempts
//! counted long ago.
//!
//! Web servers log a request in the access log and perhaps in the error log, with unrelated process ids. There the
//! category replaces the process id, so that a session is all lines below one category about one address. Two requests
//! below different categories never count as one, whichever log reports them.

use std::hash::{Hash, Hasher};

use crate::model::{CategoryId, GrammarId, Offence, Offender, RuleGroupId, SessionId, Span, Timestamp};

use super::trace::Trace;
use super::tracked::Tracked;

/// The sessions of one jail.
#[derive(Debug)]
pub(super) struct Sessions {
    forget_after: Span,
    table: Tracked<SessionKey, Session>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SessionKey {
    pub(super) offender: Offender,
    pub(super) host: u32,
    pub(super) session_id: SessionId,
    pub(super) grammar: GrammarId,
}

/// As derived, but in two steps.
impl Hash for SessionKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let (kind, number) = match self.session_id {
            SessionId::Process(pid) => (0, pid),
            SessionId::Category(CategoryId(category)) => (1 << 16, u32::from(category)),
        };
        let rest = u64::from(kind | u32::from(self.grammar.0)) << 32 | u64::from(number);
        state.write_u128(u128::from(rest) << 64 | u128::from(self.host));
        self.offender.hash(state);
    }
}

/// How many lines of each rule group came; groups beyond the fourth in one session add nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Session {
    groups: [(u16, u16); GROUPS],
    attempts: u16,
    /// How many of these are too long ago for another line about them.
    settled: u16,
    /// How many there were at the mark, and how long before `last` that was, in microseconds.
    marked: u16,
    age: u32,
    last: Timestamp,
}

/// A session as it is written down: without the zeros at its end.
#[derive(Clone, Copy, Debug)]
pub struct SessionBytes {
    bytes: [u8; 2 * (1 + 2 * GROUPS + 4)],
    length: usize,
}

impl SessionBytes {
    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

const GROUPS: usize = 4;
/// How long after one line about an attempt another may come: OpenSSH waits 2 minutes (`LoginGraceTime`) for a login
/// that has begun. Attempts are settled once they are so long ago, and at twice that at the latest.
const LATE: Span = Span::from_secs(150);

/// Sessions of one jail remembered at a time, 80 bytes each. A client that opens more at once can have a session
/// forgotten, and so a line too many counted: against themselves, or by as much against another.
const LIMIT: usize = 65_536;

impl Sessions {
    /// Sessions that are forgotten when nothing was heard of them for this long.
    pub(super) fn new(forget_after: Span) -> Self {
        Self { forget_after, table: Tracked::new() }
    }

    /// Whether the offence is a new attempt, not yet reported by a line of its session, and its session after it.
    ///
    /// Constant time; allocates only as the number of sessions grows.
    pub(super) fn hear(&mut self, offence: &Offence, offender: Offender) -> (bool, Session) {
        let Offence { host, session_id, grammar, .. } = *offence;
        let forget_after = self.forget_after;
        let session = self.session(SessionKey { offender, host, session_id, grammar }, offence.time);
        let quiet = offence.time.since(session.last);
        if quiet > forget_after {
            *session = Session::default();
        }
        session.settle(quiet);
        session.last = offence.time;
        let RuleGroupId(group) = offence.group;
        let heard = session.groups.iter_mut().find(|(known, times)| *known == group || *times == 0);
        let times = heard.map_or(1, |heard| {
            *heard = (group, heard.1.max(session.settled).saturating_add(1));
            heard.1
        });
        let is_new = times > session.attempts;
        session.attempts = session.attempts.max(times);
        // A worker that serves one client for days would reach the end of the count: restart before.
        if session.attempts == u16::MAX {
            *session = Session { last: session.last, ..Session::default() };
        }
        (is_new, *session)
    }

    /// Dates all that was heard earlier by this much.
    pub(super) fn shift_back(&mut self, by: Span) {
        self.table.values_mut().for_each(|session| session.shift_back(by));
    }

    /// Puts back what was heard of a session.
    pub(super) fn recall(&mut self, trace: &Trace, session: Session) {
        let Trace { offender, host, session_id, grammar: Some(grammar), .. } = *trace else { return };
        *self.session(SessionKey { offender, host, session_id, grammar }, trace.time) = session;
    }

    fn session(&mut self, key: SessionKey, now: Timestamp) -> &mut Session {
        let over = now - self.forget_after - LATE;
        self.table.forget_over(|session| session.last < over);
        if self.table.len() > LIMIT {
            self.table.forget_one();
        }
        self.table.see(key).0
    }

    /// What is known of each session, those first that are forgotten first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (SessionKey, Session)> {
        self.table.iter().map(|(key, session)| (*key, *session))
    }
}

impl Session {
    /// Settles what is long ago, when nothing was heard for so long.
    fn settle(&mut self, quiet: Span) {
        let age = quiet.as_micros().saturating_add(self.age.into());
        if quiet > LATE {
            (self.settled, self.marked, self.age) = (self.attempts, self.attempts, 0);
        } else if age > LATE.as_micros() {
            (self.settled, self.marked, self.age) = (self.marked, self.attempts, 0);
        } else {
            self.age = age as u32;
        }
    }

    /// When it was last heard of.
    pub fn last(&self) -> Timestamp {
        self.last
    }

    /// Dates what was heard earlier by this much.
    pub fn shift_back(&mut self, by: Span) {
        self.last = self.last - by;
    }

    /// What was heard, in few bytes; [`read`](Self::read) has it back.
    pub fn bytes(&self) -> SessionBytes {
        let groups = self.groups.iter().flat_map(|(id, times)| [*id, *times]);
        let mark = [self.settled, self.marked, self.age as u16, (self.age >> 16) as u16];
        let numbers = std::iter::once(self.attempts).chain(groups).chain(mark);
        let mut session = SessionBytes { bytes: [0; _], length: 0 };
        for ((to, number), end) in session.bytes.as_chunks_mut().0.iter_mut().zip(numbers).zip(1..) {
            *to = number.to_le_bytes();
            if number != 0 {
                session.length = 2 * end;
            }
        }
        session
    }

    /// The session of these bytes, last heard of at `last`; what is missing was never heard.
    pub fn read(bytes: &[u8], last: Timestamp) -> Self {
        let mut numbers = bytes.as_chunks().0.iter().copied().map(u16::from_le_bytes);
        let mut session = Self { attempts: numbers.next().unwrap_or(0), last, ..Self::default() };
        for group in &mut session.groups {
            if let (Some(id), Some(times)) = (numbers.next(), numbers.next()) {
                *group = (id, times);
            }
        }
        let mut rest = || numbers.next().unwrap_or(0);
        (session.settled, session.marked) = (rest(), rest());
        session.age = u32::from(rest()) | u32::from(rest()) << 16;
        session
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Which of these (second, pid, group), all of one host, count.
    #[track_caller]
    fn check(lines: &[(i64, u32, u16)], want: &[usize]) {
        let of_one: Vec<_> = lines.iter().map(|(second, pid, group)| (1, *second, *pid, *group)).collect();
        check_hosts(&of_one, want);
    }

    fn offence(host: u32, second: i64, pid: u32, group: u16) -> Offence {
        Offence {
            time: Timestamp::from_secs(second),
            address: "192.0.2.1".parse().unwrap(),
            grammar: GrammarId(0),
            category: CategoryId(0),
            group: RuleGroupId(group),
            session_id: SessionId::Process(pid),
            host,
            value: 0,
            is_further: false,
        }
    }

    /// Which of these (host, second, pid, group) count.
    #[track_caller]
    fn check_hosts(lines: &[(u32, i64, u32, u16)], want: &[usize]) {
        let mut sessions = Sessions::new(Span::from_secs(60));
        let mut counted = Vec::new();
        for (number, (host, second, pid, group)) in lines.iter().enumerate() {
            let offence = offence(*host, *second, *pid, *group);
            if sessions.hear(&offence, "192.0.2.1".parse().unwrap()).0 {
                counted.push(number);
            }
        }
        assert_eq!(counted, want);
    }

    #[test]
    fn a_session_is_the_same_after_it_was_written_down() {
        let last = Timestamp::from_secs(9);
        for groups in [[(0, 0); 4], [(7, 1), (0, 3), (0, 0), (0, 0)], [(1, 2), (3, 4), (5, 6), (7, 65_535)]] {
            let session = Session { groups, attempts: 3, settled: 1, marked: 2, age: 149_999_999, last };
            assert_eq!(Session::read(session.bytes().as_slice(), last), session);
        }
        assert_eq!(Session::read(b"x", last), Session { last, ..Session::default() });
    }

    #[test]
    fn one_attempt_in_several_voices_counts_once() {
        check(&[(100, 7, 0), (100, 7, 1), (100, 7, 2), (101, 7, 3)], &[0]);
    }

    #[test]
    fn as_many_attempts_as_the_rule_group_that_matched_most() {
        check(&[(100, 7, 0), (100, 7, 1), (101, 7, 1), (102, 7, 0), (103, 7, 1), (103, 7, 2)], &[0, 2, 4]);
    }

    /// Which of these (second, group) count in one session that is forgotten after ten minutes.
    fn counted(lines: &[(i64, u16)]) -> Vec<usize> {
        let mut sessions = Sessions::new(Span::from_secs(600));
        let mut hear = |(second, group): &(i64, u16)| {
            let offence = offence(0, *second, 7, *group);
            sessions.hear(&offence, "192.0.2.1".parse().unwrap()).0
        };
        (0..lines.len()).filter(|nth| hear(&lines[*nth])).collect()
    }

    #[test]
    fn attempts_long_ago_hide_none_that_another_rule_group_tells_of() {
        for gap in [151, 160, 400, 599] {
            let slow = (0..135).map(|nth| (nth * gap, 0));
            let fast = (0..135).map(|nth| (135 * gap + nth, 1));
            assert_eq!(counted(&slow.chain(fast).collect::<Vec<_>>()).len(), 270, "{gap}");
        }
        // However many lines came meanwhile, at most those of the last minutes may count.
        let slow = (0..135).map(|nth| (nth * 100, 0));
        let fast = (0..135).map(|nth| (134 * 100 + nth, 1));
        assert!(counted(&slow.chain(fast).collect::<Vec<_>>()).len() >= 270 - 4);
    }

    proptest! {
        #[test]
        fn with_k_attempts_made_the_count_is_k(
            attempts in proptest::collection::vec((0..700_i64, [0..150_i64, 0..150, 0..150, 0..150]), 1..60),
            groups in 1..5_usize,
        ) {
            let (mut lines, mut at) = (Vec::new(), 1000);
            for (gap, late) in &attempts {
                at += gap;
                // The first group's line comes at once.
                lines.extend((0..groups).map(|group| (if group == 0 { at } else { at + late[group] }, group as u16)));
            }
            lines.sort();
            prop_assert_eq!(counted(&lines).len(), attempts.len());
        }
    }

    #[test]
    fn each_session_counts_for_itself() {
        check(&[(100, 7, 0), (100, 8, 0), (101, 8, 1)], &[0, 1]);
    }

    #[test]
    fn a_process_of_another_host_is_another() {
        check_hosts(&[(1, 100, 7, 0), (2, 100, 7, 1), (3, 100, 7, 2), (2, 101, 7, 2)], &[0, 1, 2]);
    }

    #[test]
    fn a_session_ends_when_it_is_quiet() {
        check(&[(100, 7, 0), (161, 7, 1), (162, 7, 0)], &[0, 1]);
    }
}
