//! What an operator can ask of a running daemon, and what it answers.
//!
//! The two ends, [`server`] and [`client`], agree on these types only: a command travels as an HTTP request,
//! a reply as JSON, so `curl --unix-socket` is a client too.
//!
//! Nothing here carries a command out, and nothing here reads a clock: a reply says what the daemon put in.

pub mod client;
pub mod server;
mod why;

use serde::{Deserialize, Serialize};

pub use why::{BanWhy, HeldWhy, Hole, JailWhy, LineWhy, Why};

use crate::model::{Allowance, Ban, Kind, Mode, Offender, Port, Span, Timestamp};

/// What an operator asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// How the daemon is.
    Status,
    /// The bans in force.
    Bans(Pick),
    /// Why somebody is banned, or why not.
    Why(Offender),
    /// Keep somebody out, on all ports.
    Ban {
        /// Whom.
        offender: Offender,
        /// For how long, more than zero; for ever if `None`.
        span: Option<Span>,
        /// The operator's words; may be empty.
        reason: String,
    },
    /// Let somebody in again.
    Unban(Target),
    /// Whom operators have said not to ban.
    Allowances,
    /// Do not ban somebody, and lift the bans there are.
    Allow {
        /// Whom.
        offender: Offender,
        /// For how long, more than zero; for ever if `None`.
        span: Option<Span>,
        /// The operator's words; may be empty.
        comment: String,
    },
    /// Take that back.
    Disallow(Offender),
    /// Read the configuration and the grammars again.
    Reload {
        /// Within which time to confirm with [`Command::Keep`], lest what was before come back; `None` for good.
        confirm: Option<Span>,
    },
    /// Keep what the last reload has put in force.
    Keep,
    /// Tell the receiver of this name that this is a test.
    Notify(String),
}

/// Which of the bans in force to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pick {
    /// So many of the latest, the latest first; all, by address, if `None`.
    pub last: Option<usize>,
    /// Those only that have this in address or jail; letters, digits and `-_.:/`, may be empty.
    pub text: String,
}

/// Whose bans to lift.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Those of this offender, from whatever jail.
    One(Offender),
    /// All.
    All,
}

/// What the daemon answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Reply {
    /// To [`Command::Status`].
    Status(Box<Status>),
    /// To [`Command::Bans`].
    Bans(Vec<BanLine>),
    /// To [`Command::Why`].
    Why(Why),
    /// To [`Command::Allowances`].
    Allowances(Vec<AllowLine>),
    /// To the others, when they are carried out.
    Done {
        /// How many bans, or for [`Command::Disallow`] allowances, came, changed or went; 0 where it was about neither.
        changed: u64,
    },
    /// To any that cannot be carried out.
    Refused {
        /// Why, for people.
        error: String,
    },
}

/// How the daemon is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Status {
    /// The daemon's version.
    pub version: String,
    /// Since when it runs, as RFC 3339 writes it.
    pub started: String,
    /// For how many seconds it has been running.
    pub uptime: u64,
    /// Entries read since then, from all sources.
    pub entries: u64,
    /// Offences found in them.
    pub offences: u64,
    /// Offences that were not counted, because nobody knows who wrote the line.
    pub refused: u64,
    /// Messages that did not come in one piece.
    #[serde(default)]
    pub messages: MessagesStatus,
    /// Bans decided.
    pub bans: u64,
    /// Bans in force now, those of earlier runs included.
    pub banned: u64,
    /// How many of these are only observed.
    #[serde(default)]
    pub observed: u64,
    /// The enabled jails.
    pub jails: Vec<JailStatus>,
    /// The grammars that have told of anything.
    #[serde(default)]
    pub grammars: Vec<GrammarStatus>,
    /// The sources that are configured.
    pub sources: Vec<SourceStatus>,
    /// Who wrote lines in the name of a grammar's program.
    pub forged: Vec<ForgedStatus>,
    /// Lines that name an address and that no rule knows, by grammar.
    pub unmatched: Vec<UnmatchedStatus>,
    /// Clients that make nearly all requests of a web server, by grammar: they are proxies, most likely.
    #[serde(default)]
    pub sole_clients: Vec<SoleClient>,
    /// Where bans go.
    pub enforcement: EnforcementStatus,
    /// Where bans and counts are kept.
    pub ledger: LedgerStatus,
    /// Who is told of bans.
    #[serde(default)]
    pub receivers: Vec<ReceiverStatus>,
}

/// How one jail is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct JailStatus {
    /// Its name.
    pub name: String,
    /// Whether its bans are carried out.
    pub mode: Mode,
    /// Whose lines it watches, by the names of their grammars; nobody's for `manual` and `wide`.
    pub grammars: Vec<String>,
    /// How many offences earn a ban.
    pub maxretry: u8,
    /// Within how many seconds.
    pub findtime: u64,
    /// How many seconds the first ban lasts; for ever if `None`.
    pub bantime: Option<u64>,
    /// How many offenders it watches at the moment.
    pub tracked: u64,
    /// How many offences stand in their windows.
    pub counted: u64,
    /// How many of its bans are in force.
    pub banned: u64,
    /// How many offences it has counted since the start.
    pub offences: u64,
    /// How many bans it has decided since then.
    pub bans: u64,
}

/// How many messages of the grammars' programs did not come in one piece since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MessagesStatus {
    /// Messages whose end may be missing, because a transport has cut them. Some rules do not read them.
    pub cut: u64,
    /// Pieces into which journald or a container engine has split long lines.
    pub split: u64,
    /// Messages that were put together of such pieces.
    pub joined: u64,
    /// Pieces that nobody judges, because the beginning of their message is not known.
    pub unjudged: u64,
}

/// What one grammar has found since the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GrammarStatus {
    /// Its name.
    pub name: String,
    /// Offences.
    pub offences: u64,
    /// Logins that went well.
    pub logins: u64,
}

/// A client that makes nearly all requests of a web server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SoleClient {
    /// The grammar that reads the server's lines.
    pub grammar: String,
    /// The client's address.
    pub address: String,
}

/// How one source is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SourceStatus {
    /// Its name.
    pub name: String,
    /// Whether it reads.
    pub state: SourceState,
    /// Entries read from it.
    pub entries: u64,
    /// Those of them of which it cannot tell who wrote them.
    pub unattested: u64,
    /// For how many whole seconds nothing has come; since the start if `None`.
    #[serde(default)]
    pub silent: Option<u64>,
    /// How many milliseconds after it was written the last entry was judged.
    #[serde(default)]
    pub lag: Option<u64>,
    /// What went wrong last, if anything has.
    pub error: Option<String>,
}

/// What one local user forged since the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ForgedStatus {
    /// The grammar that would have read it.
    pub grammar: String,
    /// The user's id; all others together if `None`.
    pub uid: Option<u32>,
    /// How many lines.
    pub lines: u64,
}

/// What no rule of one grammar knows, since the start or the last reload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UnmatchedStatus {
    /// The grammar.
    pub grammar: String,
    /// How many lines, those of templates that are forgotten included; of a flood a sample.
    pub lines: u64,
    /// What they look like, the most frequent first.
    pub templates: Vec<TemplateStatus>,
}

/// Lines that look alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TemplateStatus {
    /// How many.
    pub lines: u64,
    /// When the last was written, as RFC 3339 writes it.
    pub last: String,
    /// What they look like, in the words of a rule. Strangers wrote some of it: escape it before you show it.
    pub template: String,
}

/// Whether a source reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum SourceState {
    /// It does.
    Running,
    /// It does not, against the configuration's will.
    Failed,
}

/// How enforcement is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EnforcementStatus {
    /// `kernel`, or `none` where all bans are only observed.
    pub mode: String,
    /// The kernel's sets.
    pub sets: Vec<SetStatus>,
    /// How many elements the kernel has no room for. They are tried again; until then they keep nobody out.
    #[serde(default)]
    pub pending: u64,
    /// What was put right in the kernel last, and when, if anything was since the start.
    #[serde(default)]
    pub repaired: Option<String>,
    /// What went wrong last, if anything has.
    pub error: Option<String>,
}

/// How full one of the kernel's sets is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SetStatus {
    /// Its name.
    pub name: String,
    /// How many elements it holds.
    pub elements: u64,
    /// How many it can hold.
    pub capacity: u64,
}

/// How the ledger is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LedgerStatus {
    /// Its directory; `None` where there is to be no ledger.
    pub path: Option<String>,
    /// Why it cannot be written, if it cannot.
    pub error: Option<String>,
    /// The bytes of its files, when it was last measured.
    pub bytes: u64,
    /// The offences in it, likewise.
    pub offences: u64,
    /// The bans in it, past ones included, likewise.
    pub bans: u64,
    /// About how many bytes wait to be written.
    pub waiting: u64,
}

/// How it goes with telling one receiver.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ReceiverStatus {
    /// Its name.
    pub name: String,
    /// Messages that it has taken since the daemon's start.
    pub delivered: u64,
    /// Messages that it will never get.
    pub dropped: u64,
    /// Messages that wait for it, the one under way included.
    pub waiting: u64,
    /// Why it could not be told, if the last attempt failed.
    pub error: Option<String>,
}

/// A ban as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BanLine {
    /// Whom.
    pub address: Offender,
    /// The jail that decided it; `manual` for an operator's, `wide` for that of a prefix.
    pub jail: String,
    /// Threshold, command or prefix.
    pub kind: Kind,
    /// Whether it is carried out.
    #[serde(default)]
    pub mode: Mode,
    /// The ports it is limited to, such as `22/tcp`; all where empty.
    pub ports: Vec<String>,
    /// Since when, as RFC 3339 writes it.
    pub since: String,
    /// Until when, likewise; for ever if `None`.
    pub until: Option<String>,
    /// How many seconds are left, rounded up; for ever if `None`.
    pub left: Option<u64>,
    /// How many bans this offender has had from this jail.
    pub times: u32,
    /// The operator's words, or what was counted.
    pub reason: String,
}

impl BanLine {
    /// How `ban` is listed at `now`.
    pub fn new(ban: &Ban, now: Timestamp) -> Self {
        Self {
            address: ban.offender,
            jail: ban.jail.to_string(),
            kind: ban.kind,
            mode: ban.mode,
            ports: ban.ports.iter().map(Port::to_string).collect(),
            since: rfc3339(ban.since),
            until: ban.until.map(rfc3339),
            left: ban.until.map(|until| until.since(now).as_secs_ceil()),
            times: ban.times,
            reason: ban.reason.to_string(),
        }
    }
}

/// An allowance as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AllowLine {
    /// Whom it protects.
    pub address: Offender,
    /// Since when, as RFC 3339 writes it.
    pub since: String,
    /// Until when, likewise; for ever if `None`.
    pub until: Option<String>,
    /// How many seconds are left, rounded up; for ever if `None`.
    pub left: Option<u64>,
    /// The operator's words.
    pub comment: String,
}

impl AllowLine {
    /// How `allowance` is listed at `now`.
    pub fn new(allowance: &Allowance, now: Timestamp) -> Self {
        Self {
            address: allowance.offender,
            since: rfc3339(allowance.since),
            until: allowance.until.map(rfc3339),
            left: allowance.until.map(|until| until.since(now).as_secs_ceil()),
            comment: allowance.comment.to_string(),
        }
    }
}

/// An instant in UTC, as RFC 3339 writes it; at the ends of years -9999 and 9999 for what lies beyond.
pub fn rfc3339(at: Timestamp) -> String {
    at.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(reply: Reply, want: &str) {
        assert_eq!(serde_json::to_string(&reply).unwrap(), want);
    }

    #[test]
    fn replies_are_plain_json() {
        let ban = Ban {
            offender: "2001:db8::/64".parse().unwrap(),
            jail: "sshd".into(),
            kind: Kind::Auto,
            mode: Mode::Observe,
            ports: [Port { protocol: crate::model::Protocol::Tcp, number: 22 }].into(),
            since: Timestamp::from_secs(1_700_000_000),
            until: Some(Timestamp::from_secs(1_700_003_600)),
            times: 2,
            reason: "5 auth-failure".into(),
        };
        let line = BanLine::new(&ban, Timestamp::from_micros(1_700_000_000_500_000));
        let head = r#""address":"2001:db8::/64","jail":"sshd","kind":"auto","mode":"observe","ports":["22/tcp"],"since":"2023-11-14T22:13:20Z""#;
        let ends = r#""until":"2023-11-14T23:13:20Z","left":3600,"times":2,"reason":"5 auth-failure""#;
        check(Reply::Bans(vec![line]), &format!("[{{{head},{ends}}}]"));
        let line = BanLine::new(&Ban { until: None, ..ban }, Timestamp::default());
        let never = r#""until":null,"left":null,"times":2,"reason":"5 auth-failure""#;
        check(Reply::Bans(vec![line]), &format!("[{{{head},{never}}}]"));
        check(Reply::Done { changed: 3 }, r#"{"changed":3}"#);
        check(Reply::Refused { error: "no".into() }, r#"{"error":"no"}"#);
    }

    #[test]
    fn an_instant_beyond_the_calendar_is_its_end() {
        assert_eq!(rfc3339(Timestamp::from_micros(i64::MAX)), "9999-12-30T22:00:00.999999999Z");
        assert_eq!(rfc3339(Timestamp::from_micros(i64::MIN)), "-009999-01-02T01:59:59Z");
    }
}
