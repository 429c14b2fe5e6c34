//! A claim for fuzzers: no line is lost, whatever rsyslog and the daemon send, in whatever order.

use memchr::memchr_iter;

use super::protocol::Relay;

/// Plays a conversation: the first byte is the mode, then each event takes a byte for its kind, one for its size and
/// the bytes it brings.
pub(crate) fn conversation(input: &[u8]) {
    let Some((mode, mut rest)) = input.split_first() else { return };
    let (confirm, transactions) = (mode & 1 == 1, mode & 2 == 2);
    let mut relay = Relay::new(confirm, transactions);
    let (mut written, mut taken) = (0, 0);
    while let [kind, size, after @ ..] = rest {
        let (piece, later) = after.split_at(after.len().min(usize::from(*size)));
        rest = later;
        match kind % 5 {
            0 => {
                relay.input(piece);
                written += lines(piece);
            }
            1 => relay.sent(relay.unsent().len().min(usize::from(*size))),
            2 => match relay.receipts(format!("{size}\n").as_bytes()) {
                Ok(()) => taken += usize::from(*size),
                Err(_) => relay.disconnected(),
            },
            3 => relay.disconnected(),
            _ if relay.is_asked() => {
                relay.refuse();
                relay.disconnected();
            }
            _ => {}
        }
        while let Some(answer) = relay.answer() {
            assert!(confirm && lines(answer) == 1 && answer.ends_with(b"\n"));
        }
        assert!(relay.unsent().is_empty() || relay.unsent().ends_with(b"\n"));
        assert!(!relay.is_asked() || !relay.wants_input());
        assert_eq!(relay.first(), taken as u64);
    }
    // Where nothing is refused and no line is a mark, each line has been taken or is held.
    if !confirm && !transactions {
        relay.disconnected();
        assert_eq!(taken + lines(relay.unsent()), written);
        assert_eq!(relay.owned(), written - taken);
    }
}

fn lines(bytes: &[u8]) -> usize {
    memchr_iter(b'\n', bytes).count()
}
