//! Tells by its length whether a transport has cut a message.
//!
//! Syslog's transports do not mark it. Each has a maximum length, and a message of exactly that length may have been
//! longer. Some make further messages of the rest, so that the next message of the same sender may begin anywhere.

/// As much of a line `logger` sends at once, without a header (util-linux, `--size`).
const LOGGER: usize = 1 << 10;

/// Where journald cuts the output of units by default (`LineMax=`).
const LINE_MAX: usize = 48 << 10;

/// The longest message of musl's syslog(3), with a header of 19 to 21 bytes and its tag.
const MUSL: usize = 1023;

/// The greatest lengths of rsyslog's messages, all headers included: its default, and what is usually set instead.
const RSYSLOG: [usize; 4] = [8096, 8 << 10, 64 << 10, 128 << 10];

/// No header but the tag is longer.
const HEADER: usize = 128;

/// No record of fewer bytes has been cut.
pub(super) const SHORTEST: usize = MUSL - 21;

/// Whether messages are cut at this many bytes: at rsyslog's default (8 KiB, less 96), or at a limit that somebody wrote
/// in KiB, which nobody tells us. What happens to be as long is taken for cut.
pub(super) fn is_a_limit(size: u32) -> bool {
    size == 8096 || (size > 0 && size.is_multiple_of(1024))
}

/// Whether a message that came by syslog may have been cut, where its size is not known: its text has `text` bytes, and
/// the tag before it `tag`.
pub(super) fn by_syslog(tag: usize, text: usize) -> bool {
    let size = tag + text;
    (MUSL - 21..=MUSL - 19).contains(&size) || by_rsyslog(tag, text)
}

/// Whether rsyslog may have cut it.
fn by_rsyslog(tag: usize, text: usize) -> bool {
    let size = tag + text;
    RSYSLOG.iter().any(|limit| (limit - HEADER..=*limit).contains(&size))
}

/// Whether a message may be a piece that `logger` made of a longer one.
pub(super) fn is_loggers(text: usize, process: Option<&[u8]>) -> bool {
    text == LOGGER && process.is_none_or(|process| process == b"logger")
}

/// Who may have sent a message with this tag, where the transport does not tell: `logger` writes no process number unless
/// told to. Nor does nginx, which never logs through a pipe; were its messages taken for `logger`'s, a client could hide
/// the next one by one of that length.
pub(super) fn sender(program: &[u8], pid: Option<u32>) -> Option<&'static [u8]> {
    match (program, pid) {
        (b"nginx", _) => Some(b"nginx"),
        (_, Some(_)) => Some(b""),
        (_, None) => None,
    }
}

/// Whether a message may be a piece that is followed by the next: of `logger`, or of a unit's output, of which journald
/// hands a syslog daemon the pieces without a mark.
pub(super) fn goes_on(text: usize, process: Option<&[u8]>) -> bool {
    text == LINE_MAX || is_loggers(text, process)
}

/// Whether a message says itself that its end is missing.
pub(super) fn is_said(message: &[u8]) -> bool {
    // Few end like this.
    let Some((b')' | b']' | b'>' | b'}', message)) = message.split_last() else { return false };
    message.ends_with(b"truncated")
}
