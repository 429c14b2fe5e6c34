//! Which of two entries was written first, as far as their cursors say.

use banstream_journal::Cursor;

/// Whether the entry with one cursor was written no later than the one with the other. In what one journald has written, its
/// number says that, whatever its time. Among copies of that, which have other numbers, the time since boot does; of one
/// instant there may be several entries, of which nothing is known then.
pub(super) fn is_not_later(current: &Cursor, last: &Cursor) -> bool {
    match current.seqnum.zip(last.seqnum) {
        Some(((series, current), (last_series, last))) if series == last_series => current <= last,
        _ => current
            .monotonic
            .zip(last.monotonic)
            .is_some_and(|((boot, current), (last_boot, last))| boot == last_boot && current < last),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_decides_before_the_time_and_the_time_among_copies() {
        // Short for 128 bits.
        let cursor = |text: &str| -> Cursor {
            let part = |part: &str| match part.split_once('=') {
                Some((name @ ("s" | "b"), id)) => format!("{name}={id:0>32}"),
                _ => part.to_owned(),
            };
            text.split(';').map(part).collect::<Vec<_>>().join(";").parse().unwrap()
        };
        let last = cursor("s=a;i=10;b=c;m=50;t=1;x=2");
        for (current, want) in [
            ("s=a;i=f;b=c;m=99;t=1;x=3", true),
            ("s=a;i=10;b=c;m=50;t=1;x=2", true),
            ("s=a;i=11;b=c;m=1;t=1;x=4", false),
            ("s=b;i=1;b=c;m=4f;t=1;x=5", true),
            ("s=b;i=1;b=c;m=50;t=1;x=6", false),
            ("s=b;i=1;b=d;m=1;t=1;x=7", false),
            ("t=1", false),
        ] {
            assert_eq!(is_not_later(&cursor(current), &last), want, "{current}");
        }
    }
}
