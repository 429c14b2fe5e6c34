//! Counts one attempt once, though a server may write several lines for it.
//!
//! OpenSSH writes `Invalid user`, `error: PAM`, `Failed password` and `Connection closed` for one wrong password.
//! Each is a voice of its own. Within one session (the lines of one process of one host about one address) each
//! voice says one thing once, so the voice that spoke most often says how many attempts there were, and a line
//! counts only if it raises that number.
//!
//! Web servers tell of a request in the access log and perhaps in the error log, and the process ids say nothing.
//! There an offence has the heading's number for a process id, so that a session is all lines below one heading
//! about one address. Two requests that come under different headings never count as one, whichever log tells of
//! them.
//!
//! This file knows neither what the voices say nor how many attempts are too many.

use crate::model::{GrammarId, Offence, Offender, Span, Timestamp, VoiceId};

use super::recent::Recent;
use super::trace::Trace;

/// The sessions of one jail.
#[derive(Debug)]
pub(super) struct Sessions {
    forget_after: Span,
    table: Recent<Key, Session>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) offender: Offender,
    pub(super) host: u32,
    pub(super) pid: u32,
    pub(super) grammar: GrammarId,
}

/// How often each voice spoke; voices beyond the fourth in one session add nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Session {
    voices: [(u16, u16); VOICES],
    attempts: u16,
    last: Timestamp,
}

const VOICES: usize = 4;

/// Sessions of one jail remembered at a time, 72 bytes each. Whoever opens more at once can have a session
/// forgotten, and so a line too many counted: against themselves, or by as much against another.
const LIMIT: usize = 65_536;

impl Sessions {
    /// Sessions that are forgotten when nothing was heard of them for this long.
    pub(super) fn new(forget_after: Span) -> Self {
        Self { forget_after, table: Recent::new(LIMIT) }
    }

    /// Whether the offence is an attempt that no line of its session has told of yet, and its session after it.
    ///
    /// Constant time; allocates only as the number of sessions grows.
    pub(super) fn hear(&mut self, offence: &Offence, offender: Offender) -> (bool, Session) {
        let Offence { host, pid, grammar, .. } = *offence;
        let (_, session, _) = self.table.touch(Key { offender, host, pid, grammar });
        if offence.time.since(session.last) > self.forget_after {
            *session = Session::default();
        }
        session.last = offence.time;
        let VoiceId(voice) = offence.voice;
        let heard = session.voices.iter_mut().find(|(known, times)| *known == voice || *times == 0);
        let times = heard.map_or(1, |heard| {
            *heard = (voice, heard.1.saturating_add(1));
            heard.1
        });
        let is_new = times > session.attempts;
        session.attempts = session.attempts.max(times);
        // A worker that serves one client for days would reach the end of the count: begin anew before.
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
        let Trace { offender, host, pid, grammar, .. } = *trace;
        *self.table.touch(Key { offender, host, pid, grammar }).1 = session;
    }

    /// What is known of each session, the one longest unheard first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Key, Session)> {
        self.table.iter().map(|(_, key, session)| (*key, *session))
    }
}

impl Session {
    /// When it was last heard of.
    pub fn last(&self) -> Timestamp {
        self.last
    }

    /// Dates what was heard earlier by this much.
    pub fn shift_back(&mut self, by: Span) {
        self.last = self.last - by;
    }

    /// What was heard, in few bytes; [`read`](Self::read) has it back.
    pub fn bytes(&self) -> Vec<u8> {
        let voices = self.voices.iter().filter(|(_, times)| *times > 0).flat_map(|(id, times)| [*id, *times]);
        std::iter::once(self.attempts).chain(voices).flat_map(u16::to_le_bytes).collect()
    }

    /// The session of these bytes, last heard of at `last`; what is missing was never heard.
    pub fn read(bytes: &[u8], last: Timestamp) -> Self {
        let mut numbers = bytes.as_chunks().0.iter().copied().map(u16::from_le_bytes);
        let mut session = Self { attempts: numbers.next().unwrap_or(0), last, ..Self::default() };
        for voice in &mut session.voices {
            if let (Some(id), Some(times)) = (numbers.next(), numbers.next()) {
                *voice = (id, times);
            }
        }
        session
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::HeadingId;

    /// Which of these (second, pid, voice), all of one host, count.
    #[track_caller]
    fn check(lines: &[(i64, u32, u16)], want: &[usize]) {
        let of_one: Vec<_> = lines.iter().map(|(second, pid, voice)| (1, *second, *pid, *voice)).collect();
        check_hosts(&of_one, want);
    }

    /// Which of these (host, second, pid, voice) count.
    #[track_caller]
    fn check_hosts(lines: &[(u32, i64, u32, u16)], want: &[usize]) {
        let mut sessions = Sessions::new(Span::from_secs(60));
        let mut counted = Vec::new();
        for (number, (host, second, pid, voice)) in lines.iter().enumerate() {
            let offence = Offence {
                time: Timestamp::from_secs(*second),
                address: "192.0.2.1".parse().unwrap(),
                grammar: GrammarId(0),
                heading: HeadingId(0),
                voice: VoiceId(*voice),
                pid: *pid,
                host: *host,
                value: 0,
            };
            if sessions.hear(&offence, "192.0.2.1".parse().unwrap()).0 {
                counted.push(number);
            }
        }
        assert_eq!(counted, want);
    }

    #[test]
    fn a_session_is_the_same_after_it_was_written_down() {
        let last = Timestamp::from_secs(9);
        for voices in [[(0, 0); 4], [(7, 1), (0, 3), (0, 0), (0, 0)], [(1, 2), (3, 4), (5, 6), (7, 65_535)]] {
            let session = Session { voices, attempts: 3, last };
            assert_eq!(Session::read(&session.bytes(), last), session);
        }
        assert_eq!(Session::read(b"x", last), Session { last, ..Session::default() });
    }

    #[test]
    fn one_attempt_in_several_voices_counts_once() {
        check(&[(100, 7, 0), (100, 7, 1), (100, 7, 2), (101, 7, 3)], &[0]);
    }

    #[test]
    fn as_many_attempts_as_the_voice_that_spoke_most() {
        check(&[(100, 7, 0), (100, 7, 1), (101, 7, 1), (102, 7, 0), (103, 7, 1), (103, 7, 2)], &[0, 2, 4]);
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
