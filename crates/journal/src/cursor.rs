//! Where an entry is, in the text form of sd_journal_get_cursor(3).

use std::fmt;
use std::str::FromStr;

/// A random number of 128 bits that stands for a boot, a file or a series of numbers (sd-id128(3)).
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub [u8; 16]);

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Id {
    type Err = NotACursor;

    fn from_str(text: &str) -> Result<Self, NotACursor> {
        let digits: String = text.chars().filter(|c| *c != '-').collect();
        let is_id = matches!(text.len(), 32 | 36) && digits.len() == 32;
        let number = hexadecimal(&digits).filter(|_| is_id).ok_or(NotACursor)?;
        Ok(Self(number.to_be_bytes()))
    }
}

/// The place of an entry. What is `None` is not known of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The series of numbers that its writer gives, and its number there.
    pub seqnum: Option<(Id, u64)>,
    /// The boot in which it was written, and microseconds since its beginning.
    pub monotonic: Option<(Id, u64)>,
    /// Microseconds since 1970.
    pub realtime: Option<u64>,
    /// A hash of its fields.
    pub xor_hash: Option<u64>,
}

/// Text that is not a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotACursor;

impl fmt::Display for NotACursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a cursor of a journal")
    }
}

impl std::error::Error for NotACursor {}

/// `s=SERIES;i=NUMBER;b=BOOT;m=TIME;t=TIME;x=HASH`, of which a part may be missing.
impl FromStr for Cursor {
    type Err = NotACursor;

    fn from_str(text: &str) -> Result<Self, NotACursor> {
        let (mut series, mut number, mut boot, mut monotonic) = (None, None, None, None);
        let mut cursor = Self::default();
        for part in text.split(';') {
            let (name, value) = part.split_once('=').filter(|(name, _)| name.len() == 1).ok_or(NotACursor)?;
            let number_of = || hexadecimal(value).and_then(|n| u64::try_from(n).ok()).ok_or(NotACursor);
            match name {
                "s" => series = Some(value.parse()?),
                "i" => number = Some(number_of()?),
                "b" => boot = Some(value.parse()?),
                "m" => monotonic = Some(number_of()?),
                "t" => cursor.realtime = Some(number_of()?),
                "x" => cursor.xor_hash = Some(number_of()?),
                _ => {}
            }
        }
        cursor.seqnum = series.zip(number);
        cursor.monotonic = boot.zip(monotonic);
        let is_place = cursor.seqnum.is_some() || cursor.monotonic.is_some() || cursor.realtime.is_some();
        if is_place { Ok(cursor) } else { Err(NotACursor) }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = "";
        let mut part = |text: fmt::Arguments<'_>| {
            write!(f, "{before}{text}")?;
            before = ";";
            Ok(())
        };
        if let Some((series, number)) = &self.seqnum {
            part(format_args!("s={series};i={number:x}"))?;
        }
        if let Some((boot, time)) = &self.monotonic {
            part(format_args!("b={boot};m={time:x}"))?;
        }
        self.realtime.map_or(Ok(()), |time| part(format_args!("t={time:x}")))?;
        self.xor_hash.map_or(Ok(()), |hash| part(format_args!("x={hash:x}")))
    }
}

impl Cursor {
    /// Whether an entry with the cursor `entry`, which has all parts, is the one at this place: equal in all that
    /// is known.
    pub fn is_of(&self, entry: &Cursor) -> bool {
        self.seqnum.is_none_or(|seqnum| entry.seqnum == Some(seqnum))
            && self.monotonic.is_none_or(|monotonic| entry.monotonic == Some(monotonic))
            && self.realtime.is_none_or(|realtime| entry.realtime == Some(realtime))
            && self.xor_hash.is_none_or(|hash| entry.xor_hash == Some(hash))
    }
}

/// Digits only: `from_str_radix` takes a sign, too.
fn hexadecimal(digits: &str) -> Option<u128> {
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
    u128::from_str_radix(digits, 16).ok().filter(|_| is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_written_as_it_was_read() {
        for text in [
            "s=0123456789abcdef0123456789abcdef;i=1f;b=00000000000000000000000000000001;m=2;t=3;x=ffffffffffffffff",
            "b=00000000000000000000000000000001;m=2;t=3;x=0",
            "t=3",
        ] {
            assert_eq!(text.parse::<Cursor>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_not_a_cursor_is_refused() {
        for text in
            ["", "x", "s=1;i=2", "i=x", "t=", "t=-1", "t=+1", "x=1", "t=11111111111111111", "t=1;", "t=1\0"]
        {
            assert_eq!(text.parse::<Cursor>(), Err(NotACursor), "{text:?}");
        }
    }
}
