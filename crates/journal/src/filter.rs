//! Which entries are read, and which of their fields are given.

/// How many bytes of a field are given, where nobody says.
const LIMIT: usize = 64 << 20;

/// Which entries are read. Fields are `NAME=value`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Filter {
    /// All.
    #[default]
    All,
    /// Those that have one of these fields.
    Any(Vec<Vec<u8>>),
    /// Those that have every one of these fields. For looking back: of what is written later, none is found before the next
    /// seek.
    Every(Vec<Vec<u8>>),
}

/// What a field says of how much of its entry is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Nothing.
    Unsaid,
    /// All of it.
    Whole,
    /// Where no field asks for all, this field and those like it.
    Brief,
}

/// Which fields are given.
pub(crate) struct Wanted {
    names: Option<Vec<Vec<u8>>>,
    pub(crate) limit: usize,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { names: None, limit: LIMIT }
    }
}

impl Wanted {
    pub(crate) fn new(names: Vec<Vec<u8>>, limit: usize) -> Self {
        Self { names: Some(names), limit }
    }

    pub(crate) fn has(&self, field: &[u8]) -> bool {
        let Some(names) = &self.names else { return true };
        names.iter().any(|name| field.get(name.len()) == Some(&b'=') && field.starts_with(name))
    }
}

/// What is searched for, as this file has it.
pub(crate) enum Terms {
    All,
    /// By their hashes, those that may be of one of them by a bit for each.
    Any {
        bits: Box<[u64; 64]>,
        hashes: Vec<u64>,
    },
    /// By their data objects.
    Every(Vec<u64>),
    /// Not in this file.
    Nothing,
}

impl Terms {
    pub(crate) fn any(hashes: impl Iterator<Item = u64>) -> Self {
        let mut hashes: Vec<u64> = hashes.collect();
        hashes.sort_unstable();
        let mut bits = Box::new([0; 64]);
        for hash in &hashes {
            if let Some(word) = bits.get_mut(*hash as usize % 64) {
                *word |= 1 << ((hash >> 6) % 64);
            }
        }
        Self::Any { bits, hashes }
    }

    pub(crate) fn have(&self, hash: u64) -> bool {
        let Self::Any { bits, hashes } = self else { return false };
        let word = bits.get(hash as usize % 64).copied().unwrap_or(0);
        word & (1 << ((hash >> 6) % 64)) != 0 && hashes.binary_search(&hash).is_ok()
    }
}
