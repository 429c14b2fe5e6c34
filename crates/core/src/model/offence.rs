//! What a grammar finds, and what it has to do with other lines.

use std::net::IpAddr;

use super::{Entry, Timestamp};

/// Which grammar, by its place among those loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GrammarId(pub u16);

/// Which category (kind of offence) of a grammar, by its place in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CategoryId(pub u16);

impl CategoryId {
    /// The category `login`, which every grammar may have: a login that went well, and no offence.
    pub const LOGIN: Self = Self(u16::MAX);

    /// What a line has that only names an address under a [key](JoinKey), or ends the key: no offence.
    pub const KEY: Self = Self(u16::MAX - 1);
}

/// FNV-1a with 64 bits (RFC 9923): the same at each start and on each machine. It does not withstand an attacker who
/// chooses the bytes.
pub fn fnv1a(bytes: impl IntoIterator<Item = u8>) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// Which kind of key, as a grammar has it in a section `key NAME:`. It is the same at each start, and for grammars that
/// extend the one with the section.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct JoinId(u64);

impl JoinId {
    /// That of this section of a grammar.
    pub fn new(grammar: &str, section: &str) -> Self {
        // Only operators choose these names.
        Self(fnv1a(grammar.bytes().chain([0]).chain(section.bytes())))
    }
}

/// What joins the lines of a process in which a server names an address with those about it that have none: the number of
/// a connection, for instance.
///
/// It holds the text itself, not a hash, so that no two keys are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct JoinKey {
    id: JoinId,
    /// Hashes of host and program, and the process; 0 where unknown.
    host: u32,
    program: u32,
    pid: u32,
    length: u8,
    text: [u8; Self::LONGEST],
}

impl JoinKey {
    /// The longest text of a key, in bytes.
    pub const LONGEST: usize = 64;

    /// The key with this text in an entry; `None` if it is too long.
    pub fn new(id: JoinId, entry: &Entry<'_>, text: &[u8]) -> Option<Self> {
        // FNV-1a. Few programs write for one grammar.
        let program = entry
            .program
            .iter()
            .fold(0x811c_9dc5, |hash: u32, b| (hash ^ u32::from(*b)).wrapping_mul(0x0100_0193));
        let (host, pid) = (entry.host_hash(), entry.pid);
        let mut key = Self { id, host, program, pid, length: 0, text: [0; Self::LONGEST] };
        key.text.get_mut(..text.len())?.copy_from_slice(text);
        key.length = text.len() as u8;
        Some(key)
    }
}

/// A rule group of a grammar: one rule below a category, or one shape with all the rules that share it.
///
/// Within one session a server reports the same attempt by lines of several groups, and by one line of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleGroupId(pub u16);

/// Which lines of a server about one address belong to one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SessionId {
    /// Those of the process that served it, 0 where unknown.
    Process(u32),
    /// All below a category, where a server's processes tell no attempts apart.
    Category(CategoryId),
}

/// One thing that somebody did, as one entry tells it.
///
/// A login that went well is told in the same terms, under [`CategoryId::LOGIN`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offence {
    /// When.
    pub time: Timestamp,
    /// Who: the address in the entry, made canonical.
    pub address: IpAddr,
    /// Whose log tells it.
    pub grammar: GrammarId,
    /// What it was.
    pub category: CategoryId,
    /// The rule group that matched.
    pub group: RuleGroupId,
    /// Which lines about the address belong to one session.
    pub session_id: SessionId,
    /// A hash of the host whose process that is; 0 where unknown.
    pub host: u32,
    /// A hash of what it was about, such as the path that was asked for; 0 where that says nothing.
    pub value: u64,
    /// Whether the offence before it is of the same entry, so that no jail counts both.
    pub is_further: bool,
}
