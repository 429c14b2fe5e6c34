//! The effect of an offence on a jail's counts, to be restored after a restart.
//!
//! Effects are kept, not offences to judge again: that would need the clock, settings, lifted bans and random numbers
//! of the first time. Each trace contains the whole state of its session, so the last one of a session is enough.

use std::sync::Arc;

use super::session::Session;
use crate::model::{CategoryId, GrammarId, Offender, SessionId, Timestamp};

/// What one offence left behind in one jail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Which of the offences that were observed together left it; the first is 0.
    pub nth: usize,
    /// The jail.
    pub jail: Arc<str>,
    /// Who was counted.
    pub offender: Offender,
    /// The time that counted.
    pub time: Timestamp,
    /// Whose log told it; `None` where no session is known.
    pub grammar: Option<GrammarId>,
    /// What it was; `None` where the trace stands for several offences, or was read from the ledger.
    pub category: Option<CategoryId>,
    /// Which lines belong to the session.
    pub session_id: SessionId,
    /// A hash of the host that it ran on; 0 where unknown.
    pub host: u32,
    /// A hash of what the offence was about; 0 where the jail does not go by it.
    pub value: u64,
    /// What became of the offender's window.
    pub effect: WindowEffect,
    /// The session of this offender and process after it; `None` if only the window changed.
    pub session: Option<Session>,
}

/// What became of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowEffect {
    /// Nothing: the attempt had been counted already.
    Nothing,
    /// One more time stands in it.
    Counted,
    /// It was full with this many, and was emptied.
    Filled(u8),
}

impl WindowEffect {
    /// Its number, as it is written down.
    pub fn number(self) -> i64 {
        match self {
            Self::Nothing => -1,
            Self::Counted => 0,
            Self::Filled(full) => i64::from(full.max(1)),
        }
    }

    /// What this number stands for.
    pub fn numbered(number: i64) -> Option<Self> {
        match number {
            -1 => Some(Self::Nothing),
            0 => Some(Self::Counted),
            full => u8::try_from(full).ok().map(Self::Filled),
        }
    }
}
