//! The parts of a cursor, which says where an entry is (sd_journal_get_cursor(3)): `s=SERIES;i=NUMBER;b=BOOT;m=TIME;...`.

/// The items of a cursor that say which entry it is, whichever file holds it.
pub(super) fn parts(cursor: &str) -> impl Iterator<Item = &str> {
    cursor.split(';').filter(|part| !part.starts_with("s=") && !part.starts_with("i="))
}

/// The boot in which the entry of a cursor was written, and the time since then in microseconds.
pub(super) fn moment(cursor: &str) -> Option<(&str, u64)> {
    Some((part(cursor, "b=")?, hexadecimal(cursor, "m=")?))
}

/// The series of numbers that the writer of a cursor's entry gives, and the entry's number in it.
fn number(cursor: &str) -> Option<(&str, u64)> {
    Some((part(cursor, "s=")?, hexadecimal(cursor, "i=")?))
}

fn part<'c>(cursor: &'c str, name: &str) -> Option<&'c str> {
    cursor.split(';').find_map(|part| part.strip_prefix(name))
}

fn hexadecimal(cursor: &str, name: &str) -> Option<u64> {
    u64::from_str_radix(part(cursor, name)?, 16).ok()
}

/// Whether the entry with one cursor was written no later than the one with the other. In what one journald has written, its
/// number says that, whatever its time. Among copies of that, which have other numbers, the time since boot does; of one
/// instant there may be several entries, of which nothing is known then.
pub(super) fn is_not_later(current: &str, last: &str) -> bool {
    match number(current).zip(number(last)) {
        Some(((series, current), (last_series, last))) if series == last_series => current <= last,
        _ => moment(current)
            .zip(moment(last))
            .is_some_and(|((boot, current), (last_boot, last))| boot == last_boot && current < last),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_decides_before_the_time_and_the_time_among_copies() {
        let last = "s=a;i=10;b=c;m=50;t=1;x=2";
        for (current, want) in [
            ("s=a;i=f;b=c;m=99;t=1;x=3", true),
            ("s=a;i=10;b=c;m=50;t=1;x=2", true),
            ("s=a;i=11;b=c;m=1;t=1;x=4", false),
            ("s=b;i=1;b=c;m=4f;t=1;x=5", true),
            ("s=b;i=1;b=c;m=50;t=1;x=6", false),
            ("s=b;i=1;b=d;m=1;t=1;x=7", false),
            ("no cursor", false),
        ] {
            assert_eq!(is_not_later(current, last), want, "{current}");
        }
    }
}
