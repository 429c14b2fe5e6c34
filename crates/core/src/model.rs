//! The types that all layers share, and their invariants: a decoder makes an [`Entry`], a grammar finds an [`Offence`]
//! in it, the detector turns offences into [`Decision`]s, and the enforcer carries those out.

mod ban;
mod entry;
mod offence;
mod offender;
mod port;
mod prefixes;
mod text;
mod time;

pub use ban::{Allowance, Ban, BanOrigin, BanTerms, Decision, Mode};
pub use entry::{Entry, Sender};
pub use offence::{CategoryId, GrammarId, JoinId, JoinKey, Offence, RuleGroupId, SessionId, fnv1a};
pub use offender::{NotAnOffender, Offender, Widths};
pub use port::{NotAPort, Port, Protocol};
pub use prefixes::Prefixes;
pub use text::{count, is_harmful, plain};
pub use time::{Span, Timestamp};
