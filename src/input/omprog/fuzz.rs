//! A claim for fuzzers: no line is lost, whatever rsyslog and the daemon send, in whatever order.

use memchr::memchr_iter;

use super::protocol::Relay;

/// Plays a conversation: the first byte is the mode, then each event takes a byte for its kind, one for its size and
/// the bytes it brings.
pub(crate) fn conversation(input: &[u8]) {
    let Some((mode, mut rest)) = input.split_first() else { return };
    let (confirm, transactions) = (mode & 1 == 1, mode & 2 == 2);
    let mut protocol = Relay::new(confirm, transactions);
    let (mut written, mut taken) = (0, 0);
    while let [kind, size, after @ ..] = rest {
        let (piece, later) = after.split_at(after.len().min(usize::from(*size)));
        rest = later;
        match kind % 5 {
            0 => {
                protocol.input(piece);
                written += lines(piece);
            }
            1 => protocol.sent(protocol.unsent().len().min(usize::from(*size))),
            2 => match protocol.receipts(format!("{size}\n").as_bytes()) {
                Ok(()) => taken += usize::from(*size),
                Err(_) => protocol.disconnected(),
            },
            3 => protocol.disconnected(),
            _ if protocol.is_asked() => {
                protocol.refuse();
                protocol.disconnected();
            }
            _ => {}
        }
        while let Some(answer) = protocol.answer() {
            assert!(confirm && lines(answer) == 1 && answer.ends_with(b"\n"));
        }
        assert!(protocol.unsent().is_empty() || protocol.unsent().ends_with(b"\n"));
        assert!(!protocol.is_asked() || !protocol.wants_input());
        assert_eq!(protocol.first(), taken as u64);
    }
    // Where nothing is refused and no line is a mark, each line has been taken or is held.
    if !confirm && !transactions {
        protocol.disconnected();
        assert_eq!(taken + lines(protocol.unsent()), written);
        assert_eq!(protocol.owned(), written - taken);
    }
}

fn lines(bytes: &[u8]) -> usize {
    memchr_iter(b'\n', bytes).count()
}
