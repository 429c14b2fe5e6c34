//! The two protocols: rsyslog's omprog on one side, the daemon's receipts on the other.
//!
//! It is separate from the moving of bytes, so that tests can try every order of events, byte by byte. Beyond the
//! manual (omprog, "confirmMessages" and "useTransactions"), the rules are those that rsyslog 8.2302 was observed to
//! follow:
//!
//! - The child first says `OK`, then answers each line with exactly one line, in a write of its own.
//! - After any answer but `OK` and `DEFER_COMMIT` rsyslog sends the line again; after one to a `COMMIT
//!   TRANSACTION`, every line of the transaction.
//! - Inside a transaction lines are answered `DEFER_COMMIT`, which means "this one is mine": after an error
//!   or a crash rsyslog does not send it again. `OK` there would end the transaction.

use memchr::memchr_iter;

use crate::input::ingest::AGAIN;
use crate::input::lines::Lines;

/// Bytes of lines held before no more are taken in, where rsyslog does not wait for answers. Its own queue is
/// the place for more.
const HELD: usize = 1 << 20;

const OK: &[u8] = b"OK\n";
const DEFERRED: &[u8] = b"DEFER_COMMIT\n";
const REFUSED: &[u8] = b"Error: the banstream daemon takes no lines at present\n";

const BEGIN: &[u8] = b"BEGIN TRANSACTION";
const COMMIT: &[u8] = b"COMMIT TRANSACTION";

/// The state of both conversations.
pub(super) struct Relay {
    confirm: bool,
    transactions: bool,
    lines: Lines,
    /// How many lines the daemon has given receipts for.
    taken: u64,
    /// Whole lines that it has given none for, oldest first.
    held: Vec<u8>,
    /// How much of `held` has been sent since the connection began.
    sent: usize,
    /// Inside a transaction, where in `held` its lines begin.
    transaction: Option<usize>,
    /// What rsyslog waits for an answer to.
    question: Option<Question>,
    /// The digits of a receipt of which the end has not come.
    receipt: Option<usize>,
}

/// What has to happen before an answer.
#[derive(Clone, Copy)]
enum Question {
    /// Nothing.
    Mark,
    /// That all held is on its way; rsyslog sends again from this place in `held` after a refusal.
    Sent(usize),
    /// That nothing is held any more; to be sent, too.
    Taken(usize),
}

/// The daemon wrote something that is not a receipt for its lines.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoReceipt;

impl Relay {
    pub(super) fn new(confirm: bool, transactions: bool) -> Self {
        Self {
            confirm,
            transactions,
            lines: Lines::default(),
            taken: 0,
            held: Vec::new(),
            sent: 0,
            transaction: None,
            question: confirm.then_some(Question::Mark),
            receipt: None,
        }
    }

    /// Whether there is room for more input.
    pub(super) fn wants_input(&self) -> bool {
        if self.confirm { self.question.is_none() } else { self.held.len() < HELD }
    }

    /// Whether rsyslog waits for an answer.
    pub(super) fn is_asked(&self) -> bool {
        self.question.is_some()
    }

    /// Whether there is nothing left to do.
    pub(super) fn is_idle(&self) -> bool {
        self.held.is_empty() && self.question.is_none()
    }

    /// How many lines are held that rsyslog will not send again.
    pub(super) fn owned(&self) -> usize {
        let end = match self.question {
            Some(Question::Sent(again) | Question::Taken(again)) => again,
            Some(Question::Mark) | None => self.held.len(),
        };
        memchr_iter(b'\n', self.held.get(..end).unwrap_or_default()).count()
    }

    /// Takes in what rsyslog wrote.
    pub(super) fn input(&mut self, piece: &[u8]) {
        self.lines.feed(piece);
    }

    /// The next answer that is due, to be written at once and alone. Call it until there is none, after any
    /// other.
    pub(super) fn answer(&mut self) -> Option<&'static [u8]> {
        while self.question.is_some() || self.take_line() {
            let answer = match self.question {
                None => continue,
                Some(Question::Mark) => OK,
                Some(Question::Sent(_)) if self.sent == self.held.len() => DEFERRED,
                Some(Question::Taken(_)) if self.held.is_empty() => OK,
                Some(Question::Sent(_) | Question::Taken(_)) => return None,
            };
            self.question = None;
            return Some(answer);
        }
        None
    }

    /// Takes one line in, if there is one and room for it.
    fn take_line(&mut self) -> bool {
        if !self.wants_input() {
            return false;
        }
        let here = self.held.len();
        let Some(line) = self.lines.line() else { return false };
        let question = match line {
            BEGIN if self.transactions => {
                self.transaction = Some(here);
                Question::Mark
            }
            COMMIT if self.transactions => Question::Taken(self.transaction.take().unwrap_or(here)),
            line => {
                self.held.extend_from_slice(line);
                self.held.push(b'\n');
                // One that was sent is safe if we alone die: it stands in the socket. So no receipt is waited for
                // before the COMMIT.
                self.transaction.map_or(Question::Taken(here), |_| Question::Sent(here))
            }
        };
        self.question = self.confirm.then_some(question);
        true
    }

    /// Gives up: the answer to what was asked, which rsyslog will send again. The connection must end too, or
    /// late receipts would be taken for those of later lines.
    pub(super) fn refuse(&mut self) -> &'static [u8] {
        if let Some(Question::Sent(again) | Question::Taken(again)) = self.question.take() {
            self.held.truncate(again);
            self.transaction = None;
        }
        REFUSED
    }

    /// The number of the first line to send on a new connection. After a refusal it may be another line than before.
    pub(super) fn first(&self) -> u64 {
        self.taken
    }

    /// How many of the lines that were sent may come again, should we die: the last one, or those of a transaction; and
    /// should rsyslogd die, whose queue is on a disk, all of the batch that it had taken out.
    pub(super) fn again(&self) -> usize {
        if self.confirm { AGAIN } else { 0 }
    }

    /// What to send to the daemon next.
    pub(super) fn unsent(&self) -> &[u8] {
        self.held.get(self.sent..).unwrap_or_default()
    }

    /// The first `count` bytes of [`unsent`](Self::unsent) are on their way.
    pub(super) fn sent(&mut self, count: usize) {
        self.sent = self.held.len().min(self.sent + count);
    }

    /// The connection has ended: all that is held has to be sent again.
    pub(super) fn disconnected(&mut self) {
        self.sent = 0;
        self.receipt = None;
    }

    /// Takes in what the daemon wrote; after an error the connection must end.
    pub(super) fn receipts(&mut self, piece: &[u8]) -> Result<(), NoReceipt> {
        for byte in piece {
            match byte {
                b'0'..=b'9' => {
                    let tens = self.receipt.unwrap_or(0).saturating_mul(10);
                    self.receipt = Some(tens.saturating_add(usize::from(byte - b'0')));
                }
                b'\n' => {
                    let lines = self.receipt.take().ok_or(NoReceipt)?;
                    self.taken(lines)?;
                }
                _ => return Err(NoReceipt),
            }
        }
        Ok(())
    }

    /// The daemon has taken this many of the oldest lines.
    fn taken(&mut self, lines: usize) -> Result<(), NoReceipt> {
        let Some(before) = lines.checked_sub(1) else { return Ok(()) };
        let sent = self.held.get(..self.sent).unwrap_or_default();
        let end = 1 + memchr_iter(b'\n', sent).nth(before).ok_or(NoReceipt)?;
        self.held.drain(..end);
        self.sent -= end;
        self.taken += lines as u64;
        let places = match &mut self.question {
            Some(Question::Sent(place) | Question::Taken(place)) => [Some(place), self.transaction.as_mut()],
            Some(Question::Mark) | None => [None, self.transaction.as_mut()],
        };
        for place in places.into_iter().flatten() {
            *place = place.saturating_sub(end);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    const PLAIN: [bool; 2] = [false, false];
    const MARKED: [bool; 2] = [false, true];
    const CONFIRM: [bool; 2] = [true, false];
    const TRANSACTIONS: [bool; 2] = [true, true];

    /// Plays a conversation, a word each:
    ///
    ///     < line    rsyslog writes a line          > answer   and gets exactly this answer
    ///     = line    the daemon is sent this line   + 2        and gives receipts for two
    ///     !         the connection ends            x answer   patience ends, and rsyslog gets this answer
    ///
    /// Whatever is answered or sent beyond that is an error. Rsyslog's bytes come whole, and one by one.
    #[track_caller]
    fn check([confirm, transactions]: [bool; 2], script: &str) {
        for bytewise in [false, true] {
            let mut relay = Relay::new(confirm, transactions);
            let mut answers = VecDeque::new();
            for word in script.lines().map(str::trim).filter(|word| !word.is_empty()) {
                answers.extend(std::iter::from_fn(|| relay.answer()));
                let (what, text) = word.split_at(1);
                let line = format!("{}\n", text.trim());
                match what {
                    ">" => assert_eq!(answers.pop_front(), Some(line.as_bytes()), "at {word}"),
                    "=" => {
                        assert!(relay.unsent().starts_with(line.as_bytes()), "at {word}");
                        relay.sent(line.len());
                    }
                    _ => assert_eq!(answers, [] as [&[u8]; 0], "before {word}"),
                }
                match what {
                    "<" if bytewise => line.bytes().for_each(|byte| {
                        relay.input(&[byte]);
                        answers.extend(std::iter::from_fn(|| relay.answer()));
                    }),
                    "<" => relay.input(line.as_bytes()),
                    "+" => assert_eq!(relay.receipts(line.as_bytes()), Ok(()), "at {word}"),
                    "!" => relay.disconnected(),
                    "x" => {
                        assert_eq!(relay.refuse(), REFUSED);
                        relay.disconnected();
                    }
                    _ => {}
                }
            }
            answers.extend(std::iter::from_fn(|| relay.answer()));
            assert_eq!(answers, [] as [&[u8]; 0], "at the end");
            assert_eq!(String::from_utf8_lossy(relay.unsent()), "", "at the end");
            assert!(relay.is_idle(), "at the end");
        }
    }

    #[test]
    fn without_confirmation_nothing_is_answered() {
        check(PLAIN, "< one \n < two \n = one \n = two \n + 2");
        check(PLAIN, "< one \n = one \n < two \n + 1 \n = two \n + 1");
        check(PLAIN, "< BEGIN TRANSACTION \n = BEGIN TRANSACTION \n + 1");
    }

    #[test]
    fn what_has_no_receipt_is_sent_again() {
        check(PLAIN, "< 1 \n < 2 \n < 3 \n = 1 \n = 2 \n + 1 \n ! \n = 2 \n = 3 \n + 1 \n ! \n = 3 \n + 1");
        check(CONFIRM, "> OK \n < 1 \n = 1 \n ! \n = 1 \n + 1 \n > OK");
    }

    #[test]
    fn each_line_is_answered_once_the_daemon_has_taken_it() {
        check(CONFIRM, "> OK \n < one \n = one \n + 1 \n > OK \n < two \n = two \n + 1 \n > OK");
        // Rsyslog never writes ahead. If somebody does, the lines wait their turn.
        check(CONFIRM, "> OK \n < 1 \n < 2 \n = 1 \n + 1 \n > OK \n = 2 \n + 1 \n > OK");
    }

    #[test]
    fn an_empty_line_is_a_line() {
        check(PLAIN, "< \n < \n = \n = \n + 2");
        check(CONFIRM, "> OK \n < \n = \n + 1 \n > OK");
    }

    #[test]
    fn after_an_error_rsyslog_has_the_line_and_we_have_not() {
        check(CONFIRM, "> OK \n < 1 \n x \n < 1 \n = 1 \n + 1 \n > OK");
        check(CONFIRM, "> OK \n < 1 \n = 1 \n x \n < 1 \n = 1 \n + 1 \n > OK");
    }

    #[test]
    fn a_transaction_is_answered_when_all_of_it_is_taken() {
        check(
            TRANSACTIONS,
            "> OK
            < BEGIN TRANSACTION
            > OK
            < 1
            = 1
            > DEFER_COMMIT
            < 2
            = 2
            > DEFER_COMMIT
            < COMMIT TRANSACTION
            + 1
            + 1
            > OK
            < BEGIN TRANSACTION
            > OK
            < COMMIT TRANSACTION
            > OK",
        );
    }

    #[test]
    fn a_deferred_line_outlives_an_error_to_a_later_one() {
        check(
            TRANSACTIONS,
            "> OK
            < BEGIN TRANSACTION
            > OK
            < 1
            = 1
            > DEFER_COMMIT
            < 2
            !
            x
            < BEGIN TRANSACTION
            > OK
            = 1
            < 2
            = 2
            > DEFER_COMMIT
            + 1
            < COMMIT TRANSACTION
            x
            < BEGIN TRANSACTION
            > OK
            < 2
            = 2
            > DEFER_COMMIT
            < COMMIT TRANSACTION
            + 1
            > OK",
        );
    }

    #[test]
    fn an_error_to_a_commit_gives_back_that_transaction_alone() {
        check(
            TRANSACTIONS,
            "> OK
            < BEGIN TRANSACTION
            > OK
            < 1
            = 1
            > DEFER_COMMIT
            < 2
            x
            < BEGIN TRANSACTION
            > OK
            < 2
            = 1
            = 2
            > DEFER_COMMIT
            < 3
            = 3
            > DEFER_COMMIT
            < COMMIT TRANSACTION
            x
            = 1
            + 1",
        );
    }

    #[test]
    fn receipts_may_come_before_the_commit() {
        check(
            TRANSACTIONS,
            "> OK
            < BEGIN TRANSACTION
            > OK
            < 1
            = 1
            > DEFER_COMMIT
            + 1
            < 2
            = 2
            > DEFER_COMMIT
            < COMMIT TRANSACTION
            x
            < BEGIN TRANSACTION
            > OK
            < 2
            = 2
            > DEFER_COMMIT
            + 1
            < COMMIT TRANSACTION
            > OK",
        );
    }

    #[test]
    fn a_mark_that_is_not_expected_is_a_line() {
        check(CONFIRM, "> OK \n < BEGIN TRANSACTION \n = BEGIN TRANSACTION \n + 1 \n > OK");
        check(MARKED, "< BEGIN TRANSACTION \n < 1 \n = 1 \n < COMMIT TRANSACTION \n + 1");
        let begin = "> OK \n < BEGIN TRANSACTION \n > OK \n";
        for near in ["begin transaction", "BEGIN TRANSACTION.", "BEGIN  TRANSACTION", "COMMIT TRANSACTION\r."]
        {
            let rest =
                format!("< {near} \n = {near} \n > DEFER_COMMIT \n < COMMIT TRANSACTION \n + 1 \n > OK");
            check(TRANSACTIONS, &format!("{begin} {rest}"));
        }
    }

    #[test]
    fn a_forged_mark_loses_no_line() {
        // As it would come from a template that begins with what a stranger wrote.
        check(
            TRANSACTIONS,
            "> OK
            < BEGIN TRANSACTION
            > OK
            < 1
            = 1
            > DEFER_COMMIT
            < COMMIT TRANSACTION
            + 1
            > OK
            < 2
            = 2
            + 1
            > OK
            < COMMIT TRANSACTION
            > OK
            < BEGIN TRANSACTION
            > OK
            < BEGIN TRANSACTION
            > OK
            < 3
            = 3
            > DEFER_COMMIT
            < COMMIT TRANSACTION
            + 1
            > OK",
        );
    }

    #[test]
    fn bytes_pass_untouched_and_a_line_too_long_passes_as_an_empty_one() {
        let longest = vec![0xfe; crate::input::lines::LONGEST];
        for (line, want) in [
            (&b"\0\xff\r{"[..], &b"\0\xff\r{"[..]),
            (&longest, &longest),
            (&[&longest[..], b"x"].concat(), b""),
        ] {
            let mut relay = Relay::new(false, false);
            for piece in [line, b"\n"].concat().chunks(64 << 10) {
                relay.input(piece);
                assert_eq!(relay.answer(), None);
            }
            assert!(relay.unsent() == [want, b"\n"].concat());
            assert_eq!(relay.owned(), 1);
        }
    }

    #[test]
    fn what_is_held_is_bounded() {
        let mut relay = Relay::new(false, false);
        let piece = b"x".repeat(1023).into_iter().chain(*b"\n").collect::<Vec<_>>().repeat(64);
        let mut fed = 0;
        while relay.wants_input() {
            relay.input(&piece);
            fed += 64;
            assert_eq!(relay.answer(), None);
        }
        assert_eq!(fed, 1024);
        relay.sent(1 << 20);
        assert_eq!(relay.receipts(b"1000\n2"), Ok(()));
        assert_eq!(relay.first(), 1000);
        assert!(relay.wants_input());
        assert_eq!(relay.receipts(b"4\n"), Ok(()));
        assert!(relay.is_idle());
    }

    #[test]
    fn nonsense_from_the_daemon_is_no_receipt() {
        for nonsense in ["x", "\n", "-1\n", "3\n", "1\n2\n", "HTTP/1.1 200 OK", "99999999999999999999999\n"] {
            let mut relay = Relay::new(false, false);
            relay.input(b"1\n2\n3\n");
            assert_eq!(relay.answer(), None);
            relay.sent(4);
            assert_eq!(relay.receipts(nonsense.as_bytes()), Err(NoReceipt), "{nonsense}");
        }
    }
}
