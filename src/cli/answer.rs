//! Sends commands to a running daemon, and prints its answers.

use std::io::{ErrorKind, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use indicatif::HumanCount;
use serde::Deserialize;

use super::from::ListedCommand;
use super::status::{receivers, status};
use super::why::{WhyDetail, why};
use super::{ClientCommand, REFUSED, SocketArgs, bans, geoip};
use crate::cli::compat::{self, CompatError};
use crate::control::client::{self, UNCLEAR};
use crate::control::server::MOST_BANS;
use crate::control::{
    AllowLine, BanLine, ChangeKind, ChangePage, ChangeReport, ChangeRequest, Command, ReloadPreview,
    TakenCounts, Target, UndoLine, Why,
};
use crate::model::{Mode, Offender, Span};
use crate::model::{count, plain};
use crate::tools::geoip::{GeoIp, GeoRecord};
use crate::tools::offline::warn;
use crate::tools::terminal::{table, with_local_times};

/// Asks the daemon, and prints its answer: 0 where it did as it was asked, 1 where it refuses.
///
/// # Errors
///
/// No daemon answers, or its answer cannot be understood or printed.
pub fn ask(ask: &ClientCommand) -> anyhow::Result<ExitCode> {
    if let ClientCommand::Bans { remote, args } = ask {
        return bans::list(remote, args);
    }
    if let Some(listed) = ListedCommand::of(ask) {
        return listed.run();
    }
    let (remote, command) = command(ask);
    if let Command::Change(page) = &command
        && page.changes.len() > MOST_BANS
    {
        bail!(
            "a command takes {} addresses at most; `--from -` reads any number",
            HumanCount(MOST_BANS as u64)
        );
    }
    let answer = client::send(&remote.socket, &command)?;
    let body = &answer.body;
    match answer.refusal() {
        _ if remote.json => print(&format!("{body}\n"))?,
        None => {
            let text = match ask {
                ClientCommand::Notify { receiver: None, .. } => receivers(body),
                ClientCommand::Why { offender, verbose, .. } => {
                    let detail = if *verbose { WhyDetail::Fields } else { WhyDetail::Lines };
                    serde_json::from_str(body).map(|answer: Why| {
                        let place = geoip::open(&answer.geoip).find(*offender);
                        why(&answer, &place, detail)
                    })
                }
                _ => text(&command, body),
            };
            print(&text.context(UNCLEAR)?)?
        }
        Some(error) => warn(format_args!("error: {}", with_local_times(&error))),
    }
    if matches!(command, Command::Reload { .. }) && answer.done {
        doubts(body);
    }
    let report = match command {
        Command::Change(_) | Command::Undo { .. } => serde_json::from_str(body).unwrap_or_default(),
        _ => ChangeReport::default(),
    };
    let is_done = answer.done && say_undone(&report);
    Ok(if is_done { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) })
}

/// Says what is doubtful in what was reloaded.
fn doubts(body: &str) {
    let ReloadChanges { warnings, geoip, .. } = serde_json::from_str(body).unwrap_or_default();
    warnings.iter().for_each(|warning| warn(warning.lines().map(plain).collect::<Vec<_>>().join("\n")));
    geoip::open(&geoip);
}

/// Says what was refused of several changes, the others being done, and what is missing of those; whether all was done and
/// is enforced.
pub(super) fn say_undone(report: &ChangeReport) -> bool {
    // Pages of a list may have one each.
    for kind in [ChangeKind::Unenforced, ChangeKind::Unwritten] {
        let mut notes = report.warnings().filter(|note| note.kind == kind);
        if let Some(note) = notes.next() {
            let sum = match (kind, notes.next()) {
                (ChangeKind::Unenforced, Some(_)) => {
                    format!("{} changes NOT enforced; ", HumanCount(report.of(kind)))
                }
                _ => String::new(),
            };
            warn(format_args!("warning: {sum}{}", plain(&note.text)));
        }
    }
    let notes: Vec<_> = report.notes.iter().filter(|note| note.kind == ChangeKind::Refused).collect();
    for note in &notes {
        warn(format_args!("error: {}", plain(with_local_times(&note.text))));
    }
    let refused = report.of(ChangeKind::Refused);
    let more = refused.saturating_sub(notes.len() as u64);
    if more > 0 {
        warn(format_args!("error: and {} more refused", HumanCount(more)));
    }
    refused == 0 && report.of(ChangeKind::Unenforced) == 0
}

/// Does what fail2ban-client would do when called with these words, and prints what it would print.
///
/// # Errors
///
/// It cannot be printed.
pub fn fail2ban_client(words: &[String]) -> anyhow::Result<ExitCode> {
    let answer = compat::fail2ban_client(words);
    let done = answer.is_ok();
    match answer {
        Ok(text) | Err(CompatError::Stdout(text)) => print(&format!("{text}\n"))?,
        Err(CompatError::Stderr(error)) => warn(format_args!("ERROR   {error}")),
    }
    Ok(if done { ExitCode::SUCCESS } else { ExitCode::from(compat::FAILED) })
}

fn command(ask: &ClientCommand) -> (&SocketArgs, Command) {
    match ask {
        ClientCommand::Status { remote } => (remote, Command::Status),
        ClientCommand::Bans { remote, args } => (remote, Command::Bans(args.filter())),
        ClientCommand::Ban { remote, addresses, length, reason, force, .. } => {
            let ban = |address: &_| ChangeRequest::Ban {
                address: *address,
                length: *length,
                reason: reason.clone(),
            };
            (
                remote,
                Command::Change(ChangePage { force: *force, operator: operator(), ..each(addresses, ban) }),
            )
        }
        ClientCommand::Unban { remote, addresses, inside, jail, .. } => {
            let target = if *inside { Target::Inside } else { Target::One };
            let page = match (addresses.as_slice(), jail) {
                ([], Some(jail)) => ChangeRequest::Unban(Target::Jail(jail.clone())).into(),
                ([], None) => ChangeRequest::Unban(Target::All).into(),
                (addresses, Some(jail)) => each(addresses, |address| {
                    ChangeRequest::Unban(Target::Of { address: *address, jail: jail.clone() })
                }),
                (addresses, _) => each(addresses, |address| ChangeRequest::Unban(target(*address))),
            };
            (remote, Command::Change(page))
        }
        ClientCommand::Undo { remote, list: true, .. } => (remote, Command::UndoSteps),
        ClientCommand::Undo { remote, force, .. } => (remote, Command::Undo { force: *force }),
        ClientCommand::Why { remote, offender, .. } => (remote, Command::Why(*offender)),
        ClientCommand::Allow { remote, remove: Some(address), .. } => {
            (remote, Command::Change(ChangeRequest::Disallow { address: *address }.into()))
        }
        ClientCommand::Allow { remote, addresses, .. } if addresses.is_empty() => {
            (remote, Command::Allowances)
        }
        ClientCommand::Allow { remote, addresses, length, comment, force, .. } => {
            let allow = |address: &_| ChangeRequest::Allow {
                address: *address,
                length: *length,
                comment: comment.clone(),
            };
            (remote, Command::Change(ChangePage { force: *force, ..each(addresses, allow) }))
        }
        ClientCommand::Notify { remote, receiver: Some(receiver) } => {
            (remote, Command::Notify(receiver.clone()))
        }
        ClientCommand::Notify { remote, receiver: None } => (remote, Command::Status),
        ClientCommand::Reload { remote, keep: true, .. } => (remote, Command::Keep),
        ClientCommand::Reload { remote, confirm, .. } => (remote, Command::Reload { confirm: *confirm }),
    }
}

/// A change of each address.
fn each(addresses: &[Offender], change: impl Fn(&Offender) -> ChangeRequest) -> ChangePage {
    ChangePage { changes: addresses.iter().map(change).collect(), ..ChangePage::default() }
}

/// The address that the operator is logged in from, if sshd says so.
pub fn operator() -> Option<IpAddr> {
    let connection = std::env::var("SSH_CONNECTION").ok()?;
    // An address of one link has the name of the link behind it.
    connection.split([' ', '%']).next()?.parse().ok()
}

/// Prints to stdout, with colours only on a terminal and without `NO_COLOR`. It is not an error if nobody reads it.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    print_to(anstream::stdout(), text)
}

/// Prints there. It is not an error if nobody reads it.
pub(super) fn print_to(mut output: impl Write, text: &str) -> anyhow::Result<()> {
    match output.write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("cannot write to stdout"),
        _ => Ok(()),
    }
}

/// A good answer to `command`, for people.
fn text(command: &Command, body: &str) -> serde_json::Result<String> {
    Ok(match command {
        Command::Status => status(&serde_json::from_str(body)?),
        Command::Bans(filter) => bans::text(filter, body, None, &mut GeoIp::default())?,
        Command::Change(_) | Command::Undo { .. } => {
            let mut report: ChangeReport = serde_json::from_str(body)?;
            // `ask` says on stderr what was refused, and what is missing.
            report.notes.retain(|note| note.kind != ChangeKind::Refused && !note.kind.is_warning());
            changes(&report)
        }
        Command::TakeOver { .. } => format!("{}\n", serde_json::from_str::<TakenCounts>(body)?),
        Command::Why(_) => why(&serde_json::from_str(body)?, &GeoRecord::default(), WhyDetail::Lines),
        Command::Allowances => allowances(&serde_json::from_str::<Vec<AllowLine>>(body)?),
        Command::UndoSteps => undo_steps(&serde_json::from_str::<Vec<UndoLine>>(body)?),
        Command::Reload { .. } | Command::ReloadRemoved => {
            let confirm = if let Command::Reload { confirm } = command { *confirm } else { None };
            let ReloadChanges { changes: settings, bans, .. } = serde_json::from_str(body)?;
            let keep = confirm.map(|span| format!("; confirm with `banstream reload --keep` within {span}"));
            let what = if settings.is_empty() { ": nothing has changed" } else { "" };
            let mut text = format!("reloaded{what}{}\n", keep.unwrap_or_default());
            settings.iter().for_each(|change| text += &format!("    {}\n", plain(change)));
            text += &changes(&bans);
            text += match confirm {
                _ if bans.of(ChangeKind::Lifted) == 0 => "",
                Some(_) => "a rollback restores what was lifted\n",
                None => "`banstream undo` restores what was lifted, once it is not exempt any more\n",
            };
            text
        }
        Command::ReloadPreview => format!("{}\n", serde_json::from_str::<ReloadPreview>(body)?),
        Command::Keep => "confirmed\n".to_owned(),
        Command::Notify(receiver) => format!("{receiver} accepted the message\n"),
        Command::AcceptPeer(host) => format!("{host} is heard again\n"),
    })
}

/// The results of changes: a line for each ban or exemption, and lists of those that were lifted or stay.
pub(crate) fn changes(report: &ChangeReport) -> String {
    let mut text = String::new();
    if let Some(undone) = &report.undone {
        text += &format!("took back {}: {}\n", plain(undone), report.summary());
    }
    for note in report.notes.iter().filter(|note| !LISTED.contains(&note.kind)) {
        text += &format!("{}\n", plain(&note.text));
    }
    let is_told_one_by_one = |kind: &ChangeKind| !LISTED.contains(kind) && !SUMMED.contains(kind);
    for (kind, times) in report.counts.iter().filter(|(kind, _)| is_told_one_by_one(kind)) {
        let told = report.notes.iter().filter(|note| note.kind == *kind).count() as u64;
        let more = times.saturating_sub(told);
        // Where no note is of a kind, the summary has its number.
        if told > 0 && more > 0 {
            text += &format!("and {} more {}\n", HumanCount(more), kind.name());
        }
    }
    for kind in LISTED {
        let times = report.of(kind);
        let notes: Vec<String> =
            report.notes.iter().filter(|note| note.kind == kind).map(|note| plain(&note.text)).collect();
        match (kind, times) {
            (_, 0) => continue,
            (ChangeKind::Lifted, 1) => text += &format!("unbanned {}\n", notes.concat()),
            (ChangeKind::Lifted, _) => text += &format!("lifted {}:\n", count(times, "ban")),
            (_, 1) => text += "1 ban inside it stays; `--inside` lifts it:\n",
            _ => text += &format!("{} inside it stay; `--inside` lifts them:\n", count(times, "ban")),
        }
        if times > 1 || kind != ChangeKind::Lifted {
            text.extend(notes.iter().map(|note| format!("    {note}\n")));
            let more = times.saturating_sub(notes.len() as u64);
            text += &if more > 0 { format!("    and {} more\n", HumanCount(more)) } else { String::new() };
        }
    }
    text
}

/// Of these, notes are listed below a line that counts them.
const LISTED: [ChangeKind; 2] = [ChangeKind::Lifted, ChangeKind::Inside];

/// Of these, one note tells the number.
const SUMMED: [ChangeKind; 2] = [ChangeKind::Enforced, ChangeKind::Observed];

/// What a reload answers.
#[derive(Default, Deserialize)]
#[serde(default)]
struct ReloadChanges {
    changes: Vec<String>,
    warnings: Vec<String>,
    geoip: Vec<PathBuf>,
    bans: ChangeReport,
}

/// The columns of a list of bans.
pub(crate) const COLUMNS: [&str; 6] = ["ADDRESS", "JAIL", "ENDS", "TIMES", "PORTS", "REASON"];

/// A ban, told in [`COLUMNS`].
pub(crate) fn cells(ban: &BanLine) -> [String; 6] {
    let ends = ban.left.map_or("never".to_owned(), |left| format!("in {}", short(left)));
    let ports = if ban.ports.is_empty() { "all".to_owned() } else { ban.ports.join(" ") };
    let (address, times) = (ban.address.to_string(), ban.times.to_string());
    let mark = match ban.mode {
        Mode::Observe => " (observed)",
        Mode::Enforce if ban.waits => " (NOT enforced)",
        Mode::Enforce => "",
    };
    [address, format!("{}{mark}", ban.jail), ends, times, ports, ban.reason.clone()]
}

fn undo_steps(steps: &[UndoLine]) -> String {
    let rows = steps.iter().map(|step| {
        let changes = step.changes.map_or("too many".to_owned(), |changes| changes.to_string());
        [short(step.ago), changes, step.command.clone()]
    });
    let table = table(["AGE", "CHANGES", "COMMAND"], rows);
    if steps.is_empty() { "no command to take back\n".to_owned() } else { table.trim_start().to_owned() }
}

fn allowances(allowances: &[AllowLine]) -> String {
    let rows = allowances.iter().map(|allowance| {
        let ends = allowance.left.map_or("never".to_owned(), |left| format!("in {}", short(left)));
        [allowance.address.to_string(), ends, allowance.comment.clone()]
    });
    let table = table(["ADDRESS", "ENDS", "COMMENT"], rows);
    if allowances.is_empty() { "no exemptions\n".to_owned() } else { table.trim_start().to_owned() }
}

/// A number of seconds in its two greatest units.
pub(crate) fn short(seconds: u64) -> String {
    let exact = Span::from_secs(seconds).to_string();
    exact.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::terminal::local;

    fn remote() -> SocketArgs {
        SocketArgs { socket: "/run/banstream/control.sock".into(), json: false }
    }

    /// What is printed for this answer to a command.
    #[track_caller]
    fn prints(ask: &ClientCommand, body: &str, want: &str) {
        let text = text(&command(ask).1, body).unwrap();
        assert_eq!(anstream::adapter::strip_str(&text).to_string(), want.trim_start_matches('\n'));
    }

    #[test]
    fn a_change_is_printed_in_a_line() {
        let unban = ClientCommand::Unban {
            remote: remote(),
            addresses: vec!["192.0.2.0/24".parse().unwrap()],
            from: None,
            inside: false,
            jail: None,
            all: false,
        };
        let note = |kind: &str, text: &str| format!(r#"{{"kind":"{kind}","text":"{text}"}}"#);
        let body = |counts: &str, notes: &[String]| {
            format!(r#"{{"changed":1,"counts":{{{counts}}},"notes":[{}]}}"#, notes.join(","))
        };
        let lifted = note("lifted", "192.0.2.0/24 (manual)");
        let one = body(r#""lifted":1"#, std::slice::from_ref(&lifted));
        prints(&unban, &one, "unbanned 192.0.2.0/24 (manual)\n");
        let inside = body(
            r#""lifted":1,"inside":1202"#,
            &[lifted.clone(), note("inside", "192.0.2.1 (sshd)"), note("inside", "192.0.2.2 (\\u001b[2J)")],
        );
        let want = "unbanned 192.0.2.0/24 (manual)
1202 bans inside it stay; `--inside` lifts them:
    192.0.2.1 (sshd)
    192.0.2.2 (\u{fffd}[2J)
    and 1,200 more
";
        prints(&unban, &inside, want);
        let undone = format!(
            r#"{{"changed":2,"counts":{{"restored":1,"lifted":1}},"undone":"`unban 192.0.2.1` of 5m ago","notes":[{},{}]}}"#,
            note("restored", "192.0.2.1 (sshd) is banned for 50m more"),
            lifted
        );
        let want = "took back `unban 192.0.2.1` of 5m ago: 1 lifted, 1 restored
192.0.2.1 (sshd) is banned for 50m more
unbanned 192.0.2.0/24 (manual)
";
        prints(&unban, &undone, want);
        let reload = |confirm, keep| ClientCommand::Reload { remote: remote(), confirm, keep };
        prints(&reload(None, false), "{\"changes\":[]}", "reloaded: nothing has changed\n");
        let changes = "{\"changes\":[\"`bantime`: 1h -> 2h\"]}";
        prints(&reload(None, false), changes, "reloaded\n    `bantime`: 1h -> 2h\n");
        let confirm = "reloaded: nothing has changed; confirm with `banstream reload --keep` within 1m\n";
        prints(&reload(Some(Span::from_secs(60)), false), "{\"changes\":[]}", confirm);
        prints(&reload(None, true), "{\"changed\":0}", "confirmed\n");
        let lifted = [
            note("lifted", "192.0.2.1 (sshd): 192.0.2.0/24 is in `ignoreip`"),
            note("lifted", "192.0.2.2 (ftp)"),
        ];
        let bans = format!(
            r#"{{"changed":4,"counts":{{"lifted":2,"observed":2}},"notes":[{},{}]}}"#,
            lifted.join(","),
            note("observed", "2 bans only observed now")
        );
        let body = format!(r#"{{"changes":["`x`"],"bans":{bans}}}"#);
        let text = "2 bans only observed now\nlifted 2 bans:\n    192.0.2.1 (sshd): 192.0.2.0/24 is in `ignoreip`\n    192.0.2.2 (ftp)\n";
        let undo = "`banstream undo` restores what was lifted, once it is not exempt any more\n";
        prints(&reload(None, false), &body, &format!("reloaded\n    `x`\n{text}{undo}"));
        let want = format!(
            "reloaded; confirm with `banstream reload --keep` within 1m\n    `x`\n{text}a rollback restores what was lifted\n"
        );
        prints(&reload(Some(Span::from_secs(60)), false), &body, &want);
    }

    #[test]
    fn what_can_be_taken_back_is_printed_as_a_table() {
        let undo = ClientCommand::Undo { remote: remote(), list: true, force: false };
        prints(&undo, "[]", "no command to take back\n");
        let body = r#"[{"command": "unban --all", "at": "x", "ago": 303, "changes": 1200},
                       {"command": "import", "at": "x", "ago": 86000, "changes": null}]"#;
        prints(
            &undo,
            body,
            "
AGE      CHANGES   COMMAND
5m 3s    1200      unban --all
23h 53m  too many  import
",
        );
    }

    #[test]
    fn allowances_are_printed_as_a_table() {
        let ask = ClientCommand::Allow {
            remote: remote(),
            addresses: Vec::new(),
            from: None,
            length: None,
            comment: String::new(),
            force: false,
            remove: None,
        };
        prints(&ask, "[]", "no exemptions\n");
        let body = r#"[{"address": "192.0.2.1", "since": "x", "until": "y", "left": 552, "comment": "on call"},
                       {"address": "::/32", "since": "x", "until": null, "left": null, "comment": ""}]"#;
        prints(
            &ask,
            body,
            "
ADDRESS    ENDS       COMMENT
192.0.2.1  in 9m 12s  on call
::/32      never
",
        );
    }

    #[test]
    fn the_status_is_printed_as_tables() {
        let body = r#"{
            "version": "0.1.0", "started": "2023-11-14T22:13:20Z", "uptime": 273900,
            "entries": 12345, "offences": 310, "refused": 3, "bans": 17, "banned": 12,
            "messages": {"cut": 5, "split": 9, "joined": 4, "unjudged": 2},
            "observed": 4,
            "grammars": [{"name": "sshd", "entries": 812, "silent": 192, "offences": 310, "logins": 2}],
            "jails": [{"name": "http-auth", "grammars": ["nginx"], "mode": "observe", "maxretry": 5, "findtime": 600, "bantime": 3600, "tracked": 0, "counted": 0, "banned": 0}, {"name": "sshd", "grammars": ["sshd"], "maxretry": 255, "findtime": 86400, "tracked": 40, "counted": 55, "banned": 12}],
            "exempt": {"ignored": 3, "allowed": 0, "own": 0, "proxies": 0, "logins": 2},
            "sources": [{"name": "journald", "state": "running", "entries": 12345, "unattested": 0, "error": null},
                        {"name": "socket", "state": "failed", "entries": 20, "unattested": 9,
                         "error": "permission denied"}],
            "forged": [{"grammar": "sshd", "uid": 1000, "lines": 4}, {"grammar": "sshd", "uid": null, "lines": 1}],
            "unmatched": [{"grammar": "sshd", "lines": 70, "templates": [
                {"lines": 60, "last": "2023-11-14T22:13:20Z", "template": "Login of <user> from <ip>"},
                {"lines": 2, "last": "2023-11-14T22:13:21Z", "template": "\u001b[2J <ip>"}]}],
            "enforcement": {"mode": "kernel", "backend": "ipset", "error": "set is full", "pending": 7,
                            "repaired": "2023-11-14T22:13:20Z recreated 1 rule",
                            "sets": [{"name": "banstream4", "elements": 12, "capacity": 1048576}]},
            "ledger": {"path": "/var/lib/banstream", "error": "disk is full", "bytes": 4096, "offences": 0, "bans": 0,
                       "waiting": 99},
            "metrics_error": "in use"
        }"#;
        let [first, last] = ["2023-11-14T22:13:20Z", "2023-11-14T22:13:21Z"].map(local);
        let want = "
banstream 0.1.0, up 3d 4h; bans go to ipset
observed bans, not enforced: 4
enforcement: set is full
ledger: disk is full (bans and counts are in memory only)
bans not enforced: 7
metrics are not served: in use
repaired in the kernel: 2023-11-14 22:13:20 recreated 1 rule

ENTRIES  OFFENCES  BANS  BANNED NOW
12345    310       17    8

offences ignored because the sender is unverified: 3

messages cut by a transport: 5; only some rules read them. Raise the limit: rsyslog's maxMessageSize, `logger --size`

lines split by a transport: 9 pieces, joined to 4 messages

pieces not judged: 2; the beginning of their message is missing. Let servers log to the journal directly instead of through `logger`, and raise journald's LineMax=

SOURCE    STATE    ENTRIES  UNATTESTED
journald  running  12345    0
socket    failed   20       9           permission denied

GRAMMAR  ENTRIES  LAST
sshd     812      3m 12s ago

JAIL       BANS AFTER          TRACKED  BANNED  LAST LINE
http-auth  5 in 10m: 1h        0        0       none yet    observe only
sshd       255 in 1d: forever  40       12      3m 12s ago

exempt: 3 by `ignoreip`, 2 after a login

SET         ELEMENTS  CAPACITY
banstream4  12        1048576

FORGED  UID    LINES
sshd    1000   4
sshd    other  1

UNMATCHED  LINES  LAST                 LOOKS LIKE
sshd       60     2023-11-14 22:13:20  Login of <user> from <ip>
sshd       2      2023-11-14 22:13:21  \u{fffd}[2J <ip>
";
        let want = want.replace("2023-11-14 22:13:20", &first).replace("2023-11-14 22:13:21", &last);
        prints(&ClientCommand::Status { remote: remote() }, body, &want);
    }
}
