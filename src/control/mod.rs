//! Commands to a running daemon, and its answers.
//!
//! [`server`] and [`client`] share these types: a command travels as an HTTP request, a reply as JSON, so `curl
//! --unix-socket` is a client too.

pub mod client;
pub mod server;
mod bans;
mod change;
mod taken;
mod why;

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use bans::{BanFilter, BanListing, BanSort};
pub use change::{
    BanLength, ChangeKind, ChangeNote, ChangePage, ChangeReport, ChangeRequest, Target, UndoLine, list_id,
};
pub use taken::{LeftOutBan, TakenCounts};
pub use why::{BanWhy, ElementWhy, FieldWhy, JailWhy, LineWhy, MOST_LINES, Why};

use crate::engine::{Engine, UnmatchedTemplate};
use crate::entry::whole::MessageCounts;
use crate::model::{Allowance, Ban, BanOrigin, Mode, Offender, Port, Span, Timestamp, count, plain};

/// What an operator asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// The daemon's status.
    Status,
    /// The bans in force.
    Bans(BanFilter),
    /// Why an offender is banned, or why not.
    Why(Offender),
    /// Change bans and exemptions.
    Change(ChangePage),
    /// Take back the last change of an operator.
    Undo {
        /// Whether to do so though it is not recent, or not the last command.
        force: bool,
    },
    /// List the commands that can be taken back, the latest first.
    UndoSteps,
    /// Take over a page of bans that were decided elsewhere, [`MOST_BANS`](server::MOST_BANS) at the most.
    TakeOver {
        /// The bans.
        bans: Vec<Ban>,
        /// Which list it is a page of, as [`list_id`] drew it.
        list: Option<u64>,
    },
    /// List the exemptions by hand.
    Allowances,
    /// Read the configuration and the grammars again.
    Reload {
        /// Within which time to confirm with [`Command::Keep`], or it is rolled back; permanent if `None`.
        confirm: Option<Span>,
    },
    /// The same, where a file of the configuration was removed on purpose.
    ReloadRemoved,
    /// Read them, and say what a reload would change.
    ReloadPreview,
    /// Keep what the last reload has put in force.
    Keep,
    /// Send a test to this receiver.
    Notify(String),
    /// Hear this member of the fleet again, which was set aside.
    AcceptPeer(String),
}

/// What the daemon answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Reply {
    /// To [`Command::Status`].
    Status(Box<Status>),
    /// To [`Command::Bans`].
    Bans(BanListing),
    /// To [`Command::Why`].
    Why(Why),
    /// To [`Command::Allowances`].
    Allowances(Vec<AllowLine>),
    /// To [`Command::TakeOver`], once the bans are in the kernel and in the ledger.
    TakenOver(TakenCounts),
    /// To [`Command::Change`] and [`Command::Undo`].
    Changed(ChangeReport),
    /// To [`Command::UndoSteps`].
    UndoSteps(Vec<UndoLine>),
    /// To the others, when they are carried out.
    Done {
        /// Nothing is counted of them: 0.
        changed: u64,
    },
    /// To [`Command::Reload`], when it is carried out.
    Reloaded {
        /// How many changes.
        changed: u64,
        /// What is in force now and was not before, or was otherwise; for people.
        changes: Vec<String>,
        /// What is doubtful in it; for people.
        warnings: Vec<String>,
        /// The files of `geoip`, which the daemon does not read.
        geoip: Vec<PathBuf>,
        /// What became of bans.
        bans: ChangeReport,
    },
    /// To [`Command::ReloadPreview`].
    Preview(ReloadPreview),
    /// To any that cannot be carried out.
    Refused {
        /// Why, for people.
        error: String,
    },
}

/// What a reload would change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadPreview {
    /// The configuration's file.
    pub config: PathBuf,
    /// What would be in force and is not, or is otherwise; for people.
    pub changes: Vec<String>,
    /// What would become of bans.
    #[serde(default)]
    pub bans: ChangeReport,
}

impl fmt::Display for ReloadPreview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.changes.is_empty() {
            true => f.write_str("the daemon runs with it")?,
            false => f.write_str("a reload would change:")?,
        }
        self.changes.iter().try_for_each(|change| write!(f, "\n    {}", plain(change)))?;
        let of = |kind: ChangeKind| count(self.bans.of(kind), "ban");
        let lifted = self.bans.of(ChangeKind::Lifted);
        if lifted > 0 {
            write!(f, "\na reload would lift {}:", of(ChangeKind::Lifted))?;
            let notes: Vec<_> =
                self.bans.notes.iter().filter(|note| note.kind == ChangeKind::Lifted).collect();
            notes.iter().try_for_each(|note| write!(f, "\n    {}", plain(&note.text)))?;
            let more = lifted.saturating_sub(notes.len() as u64);
            if more > 0 {
                write!(f, "\n    and {more} more")?;
            }
        }
        let orphaned = self.bans.notes.iter().filter(|note| note.kind == ChangeKind::Orphaned);
        orphaned.into_iter().try_for_each(|note| write!(f, "\n{}", plain(&note.text)))?;
        for (kind, what) in [(ChangeKind::Enforced, "enforce"), (ChangeKind::Observed, "no longer enforce")] {
            if self.bans.of(kind) > 0 {
                write!(f, "\na reload would {what} {}", of(kind))?;
            }
        }
        Ok(())
    }
}

/// The daemon's status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Status {
    /// The daemon's version.
    pub version: String,
    /// When it started, in RFC 3339.
    pub started: String,
    /// Seconds since then.
    pub uptime: u64,
    /// Entries read since then, from all sources.
    pub entries: u64,
    /// Offences found in them.
    pub offences: u64,
    /// Offences that were not counted, because the sender of the line is unverified.
    pub refused: u64,
    /// Messages that were cut or split.
    #[serde(default)]
    pub messages: MessageCounts,
    /// Bans decided.
    pub bans: u64,
    /// Bans in force now, including those of earlier runs.
    pub banned: u64,
    /// How many of these are only observed.
    #[serde(default)]
    pub observed: u64,
    /// The enabled jails.
    pub jails: Vec<JailStatus>,
    /// Who is never banned.
    #[serde(default)]
    pub exempt: ExemptStatus,
    /// The grammars of whose programs entries were read.
    #[serde(default)]
    pub grammars: Vec<GrammarStatus>,
    /// The sources that are configured.
    pub sources: Vec<SourceStatus>,
    /// Forged lines, by grammar and user.
    pub forged: Vec<ForgedStatus>,
    /// Lines that name an address and match no rule, by grammar.
    pub unmatched: Vec<UnmatchedStatus>,
    /// Clients that make nearly all requests of a web server, by grammar: probably proxies.
    #[serde(default)]
    pub sole_clients: Vec<SoleClient>,
    /// Sources that bring the same lines, so that attempts may count twice.
    #[serde(default)]
    pub duplicates: Vec<DuplicateStatus>,
    /// The enforcement of bans.
    pub enforcement: EnforcementStatus,
    /// The ledger of bans and counts.
    pub ledger: LedgerStatus,
    /// Why the metrics are not served, if they ought to be.
    #[serde(default)]
    pub metrics_error: Option<String>,
    /// The receivers of notifications.
    #[serde(default)]
    pub receivers: Vec<ReceiverStatus>,
    /// The files with the countries and networks of addresses, as configured; the daemon does not read them.
    #[serde(default)]
    pub geoip: Vec<PathBuf>,
    /// The files that its configuration was read from; none if the defaults are in force.
    #[serde(default)]
    pub config: Vec<PathBuf>,
    /// The fleet that this host is a member of; missing if it is in none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<FleetStatus>,
}

/// How this host stands to the others of its fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FleetStatus {
    /// This host's name.
    pub host: String,
    /// What the others may do here: `enforce` or `observe`.
    pub mode: Mode,
    /// How many hosts must ban an offender before their bans are carried out.
    pub agree: u8,
    /// The server that is connected, if one is.
    pub server: Option<String>,
    /// Why none is; or why the one that is has no room for what this host tells.
    pub error: Option<String>,
    /// For how many seconds none is; missing while one is.
    #[serde(default)]
    pub down: Option<u64>,
    /// How many members operators have admitted, this host included.
    pub members: u64,
    /// How many notices the server has not stored yet.
    pub waiting: u64,
    /// How many it has stored since the start.
    pub told: u64,
    /// How many notices of hosts that no operator has admitted were refused.
    pub strangers: u64,
    /// The other members that were heard of.
    pub peers: Vec<PeerStatus>,
}

/// Another member of the fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PeerStatus {
    /// Its name.
    pub host: String,
    /// Whether an operator admits it now.
    pub admitted: bool,
    /// How many of its bans are in force here, observed ones included.
    pub bans: u64,
    /// How many of its notices came since the start.
    pub notices: u64,
    /// Seconds since the last; missing if there was none.
    pub silent: Option<u64>,
    /// By how many seconds its clock is ahead of ours, or behind it if negative; missing before its first news.
    #[serde(default)]
    pub ahead: Option<i64>,
    /// How much was refused since the start, by reason.
    pub refused: std::collections::BTreeMap<String, u64>,
    /// Why it is set aside, if it is; for people.
    pub aside: Option<String>,
}

/// How many addresses and prefixes are exempt from bans of all jails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ExemptStatus {
    /// By `ignoreip` and the files that it names.
    pub ignored: u64,
    /// By hand (`banstream allow`).
    pub allowed: u64,
    /// The host's own, and its gateways.
    pub own: u64,
    /// Trusted proxies.
    pub proxies: u64,
    /// After a login, for a while.
    pub logins: u64,
}

/// The status of a jail.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct JailStatus {
    /// Its name.
    pub name: String,
    /// Whether its bans are enforced.
    pub mode: Mode,
    /// The grammars that it watches; none for `manual` and `wide`.
    pub grammars: Vec<String>,
    /// How many offences earn a ban.
    pub maxretry: u8,
    /// Within how many seconds.
    pub findtime: u64,
    /// How many seconds the first ban lasts; forever if `None`.
    pub bantime: Option<u64>,
    /// How many offenders it tracks now.
    pub tracked: u64,
    /// How many offences are in their windows.
    pub counted: u64,
    /// How many of its bans are in force.
    pub banned: u64,
    /// How many offences it has counted since the start.
    pub offences: u64,
    /// How many bans it has decided since the start.
    pub bans: u64,
}

/// What one grammar has found since the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GrammarStatus {
    /// Its name.
    pub name: String,
    /// Entries of its programs, without forged ones.
    #[serde(default)]
    pub entries: u64,
    /// Whole seconds since the last of them.
    #[serde(default)]
    pub silent: Option<u64>,
    /// Offences.
    pub offences: u64,
    /// Successful logins.
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

/// The status of a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SourceStatus {
    /// Its name.
    pub name: String,
    /// Whether it is read.
    pub state: SourceState,
    /// Entries read from it.
    pub entries: u64,
    /// How many of them have an unknown sender.
    pub unattested: u64,
    /// Whole seconds since the last entry; none since the start if `None`.
    #[serde(default)]
    pub silent: Option<u64>,
    /// Milliseconds between writing and judging the last entry.
    #[serde(default)]
    pub lag: Option<u64>,
    /// How many children of rsyslog (`banstream omprog`) are connected; missing before the first that stays, and for a journal.
    #[serde(default)]
    pub clients: Option<u64>,
    /// The last error, if any.
    pub error: Option<String>,
}

impl SourceStatus {
    /// Whether rsyslog was connected and is not any more.
    pub fn is_left(&self) -> bool {
        self.state == SourceState::Running && self.clients == Some(0)
    }
}

/// Two sources that bring the same lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DuplicateStatus {
    /// Their names.
    pub sources: Vec<String>,
    /// How many lines with an offence both brought within a second.
    pub lines: u64,
}

impl std::fmt::Display for DuplicateStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { sources, lines } = self;
        let lines = crate::model::count(*lines, "line");
        write!(
            f,
            "{} bring the same lines ({lines} so far), so attempts may count twice",
            sources.join(" and ")
        )
    }
}

/// What one local user forged since the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ForgedStatus {
    /// The grammar that reads such lines.
    pub grammar: String,
    /// The user's id; all other users if `None`.
    pub uid: Option<u32>,
    /// How many lines.
    pub lines: u64,
}

/// Lines that name an address and match no rule of a grammar: in `status` since the start, or since a grammar of their program
/// changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UnmatchedStatus {
    /// The grammar.
    pub grammar: String,
    /// How many lines, including those of forgotten templates; in a flood or a long log, a sample.
    pub lines: u64,
    /// Their forms, the most frequent first.
    pub templates: Vec<TemplateStatus>,
}

impl UnmatchedStatus {
    /// What no rule knew of the lines that an engine has read.
    pub fn all(engine: &Engine<'_>) -> Vec<Self> {
        let unmatched = engine.unmatched().map(|(grammar, unmatched)| {
            let of = |of: &UnmatchedTemplate| TemplateStatus {
                lines: of.lines,
                last: Timestamp::from_secs(of.last.as_secs()).to_string(),
                template: of.template.clone(),
            };
            let mut templates: Vec<TemplateStatus> = unmatched.templates().map(of).collect();
            templates.sort_by_key(|template| std::cmp::Reverse(template.lines));
            Self { grammar: grammar.name().to_owned(), lines: unmatched.lines, templates }
        });
        unmatched.collect()
    }
}

/// Lines that look alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TemplateStatus {
    /// How many.
    pub lines: u64,
    /// The time of the last, in RFC 3339.
    pub last: String,
    /// Their form, written like a rule. Strangers wrote some of it: escape it before you show it.
    pub template: String,
}

/// Whether a source is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum SourceState {
    /// It is.
    Running,
    /// It failed.
    Failed,
}

/// The status of enforcement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EnforcementStatus {
    /// `kernel`, or `none` if all bans are only observed.
    pub mode: String,
    /// Where bans go: `ipset` or `nftables`; `None` if all bans are only observed.
    #[serde(default)]
    pub backend: Option<String>,
    /// The kernel's sets.
    pub sets: Vec<SetStatus>,
    /// How many elements are not in the kernel, because a set is full or refuses them. They are tried again.
    #[serde(default)]
    pub pending: u64,
    /// Time and content of the last repair in the kernel since the start, if any.
    #[serde(default)]
    pub repaired: Option<String>,
    /// The last error, if any.
    pub error: Option<String>,
}

/// The status of one of the kernel's sets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SetStatus {
    /// Its name.
    pub name: String,
    /// Its elements.
    pub elements: u64,
    /// Its capacity.
    pub capacity: u64,
}

/// The status of the ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LedgerStatus {
    /// Its directory; `None` without a ledger.
    pub path: Option<String>,
    /// Why it cannot be written, if so.
    pub error: Option<String>,
    /// The damaged file that was renamed last since the daemon's start, if one was.
    #[serde(default)]
    pub aside: Option<String>,
    /// The size of its files in bytes, when last measured.
    pub bytes: u64,
    /// The offences in it, when last measured.
    pub offences: u64,
    /// The bans in it, including past ones, when last measured.
    pub bans: u64,
    /// Roughly how many bytes wait to be written.
    pub waiting: u64,
}

/// The status of a receiver.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ReceiverStatus {
    /// Its name.
    pub name: String,
    /// Messages delivered since the daemon's start.
    pub delivered: u64,
    /// Messages dropped.
    pub dropped: u64,
    /// Events that a receiver with `each` refused.
    #[serde(default)]
    pub refused: u64,
    /// Messages waiting, including the one being sent.
    pub waiting: u64,
    /// The error, if the last attempt failed.
    pub error: Option<String>,
}

/// A ban as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BanLine {
    /// The address or prefix.
    pub address: Offender,
    /// The jail that decided it; `manual` for a ban by hand, `wide` for a ban of a prefix.
    pub jail: String,
    /// The origin: a threshold, a command, a prefix or another host of the fleet.
    pub kind: BanOrigin,
    /// Whether it is enforced.
    #[serde(default)]
    pub mode: Mode,
    /// The ports it is limited to, such as `22/tcp`; all if empty.
    pub ports: Vec<String>,
    /// When it began, in RFC 3339.
    pub since: String,
    /// When it ends, in RFC 3339; never if `None`.
    pub until: Option<String>,
    /// The seconds left, rounded up; forever if `None`.
    pub left: Option<u64>,
    /// How many bans this offender has had from this jail, with this one.
    pub times: u32,
    /// The operator's reason, or what was counted.
    pub reason: String,
    /// Whether it waits for room in the kernel and is not enforced yet, of the first 10,000 that wait; missing if not.
    #[serde(default, skip_serializing_if = "is_false")]
    pub waits: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
fn is_false(is: &bool) -> bool {
    !is
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
            since: ban.since.to_string(),
            until: ban.until.map(|at| at.to_string()),
            left: ban.until.map(|until| until.since(now).as_secs_ceil()),
            times: ban.times,
            reason: ban.reason.to_string(),
            waits: false,
        }
    }
}

/// An exemption as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AllowLine {
    /// The exempt address or prefix.
    pub address: Offender,
    /// When it began, in RFC 3339.
    pub since: String,
    /// When it ends, in RFC 3339; never if `None`.
    pub until: Option<String>,
    /// The seconds left, rounded up; forever if `None`.
    pub left: Option<u64>,
    /// The operator's comment.
    pub comment: String,
}

impl AllowLine {
    /// How `allowance` is listed at `now`.
    pub fn new(allowance: &Allowance, now: Timestamp) -> Self {
        Self {
            address: allowance.offender,
            since: allowance.since.to_string(),
            until: allowance.until.map(|at| at.to_string()),
            left: allowance.until.map(|until| until.since(now).as_secs_ceil()),
            comment: allowance.comment.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::BanTerms;

    #[track_caller]
    fn check(reply: Reply, want: &str) {
        assert_eq!(serde_json::to_string(&reply).unwrap(), want);
    }

    #[test]
    fn replies_are_plain_json() {
        let ban = Ban {
            offender: "2001:db8::/64".parse().unwrap(),
            times: 2,
            since: Timestamp::from_secs(1_700_000_000),
            until: Some(Timestamp::from_secs(1_700_003_600)),
            terms: Arc::new(BanTerms {
                jail: "sshd".into(),
                kind: BanOrigin::Auto,
                mode: Mode::Observe,
                ports: [Port { protocol: crate::model::Protocol::Tcp, number: 22 }].into(),
                reason: "5 auth-failure".into(),
            }),
        };
        let list = |ban: &Ban, now| {
            Reply::Bans(BanListing {
                bans: vec![ban.clone()],
                total: 1,
                now,
                geoip: Vec::new(),
                waiting: Arc::default(),
            })
        };
        let head = r#""address":"2001:db8::/64","jail":"sshd","kind":"auto","mode":"observe","ports":["22/tcp"],"since":"2023-11-14T22:13:20Z""#;
        let ends = r#""until":"2023-11-14T23:13:20Z","left":3600,"times":2,"reason":"5 auth-failure""#;
        let now = Timestamp::from_micros(1_700_000_000_500_000);
        check(list(&ban, now), &format!("[{{{head},{ends}}}]"));
        let never = r#""until":null,"left":null,"times":2,"reason":"5 auth-failure""#;
        check(list(&Ban { until: None, ..ban }, now), &format!("[{{{head},{never}}}]"));
        check(Reply::Done { changed: 3 }, r#"{"changed":3}"#);
        check(Reply::Refused { error: "no".into() }, r#"{"error":"no"}"#);
    }
}
