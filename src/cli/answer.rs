//! Sends commands to a running daemon, and prints its answers.

use std::fmt::Write as _;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use anyhow::Context;

use super::{ClientCommand, REFUSED, SocketArgs};
use crate::cli::compat::{self, CompatError};
use crate::control::client::{self, ChangeCount};
use crate::control::{
    AllowLine, BanFilter, BanLine, BanWhy, Command, ElementWhy, JailWhy, LineWhy, SoleClient, SourceState,
    Status, Target, TemplateStatus, Why,
};
use crate::entry::whole::MessageCounts;
use crate::model::{Mode, Span};
use crate::model::{count, plain};
use crate::tools::offline::warn;
use crate::tools::terminal::{BAD, local, painted, table};

/// Asks the daemon, and prints its answer: 0 where it did as it was asked, 1 where it refuses.
///
/// # Errors
///
/// No daemon answers, or its answer cannot be understood or printed.
pub fn ask(ask: &ClientCommand) -> anyhow::Result<ExitCode> {
    let (remote, command) = command(ask);
    let answer = client::send(&remote.socket, &command)?;
    let body = &answer.body;
    match answer.refusal() {
        _ if remote.json => print(&format!("{body}\n"))?,
        None => print(
            &text(&command, body)
                .context("cannot understand the daemon's answer; is its version another?")?,
        )?,
        Some(error) => warn(format_args!("error: {error}")),
    }
    Ok(if answer.done { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) })
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
        ClientCommand::Bans { remote, last } => {
            (remote, Command::Bans(BanFilter { last: *last, ..BanFilter::default() }))
        }
        ClientCommand::Ban { remote, offender, span, reason } => {
            (remote, Command::Ban { offender: *offender, span: *span, reason: reason.clone() })
        }
        ClientCommand::Unban { remote, offender, .. } => {
            (remote, Command::Unban(offender.map_or(Target::All, Target::One)))
        }
        ClientCommand::Why { remote, offender } => (remote, Command::Why(*offender)),
        ClientCommand::Allow { remote, remove: Some(offender), .. } => (remote, Command::Disallow(*offender)),
        ClientCommand::Allow { remote, offender: None, .. } => (remote, Command::Allowances),
        ClientCommand::Allow { remote, offender: Some(offender), span, comment, .. } => {
            (remote, Command::Allow { offender: *offender, span: *span, comment: comment.clone() })
        }
        ClientCommand::Notify { remote, receiver } => (remote, Command::Notify(receiver.clone())),
        ClientCommand::Reload { remote, keep: true, .. } => (remote, Command::Keep),
        ClientCommand::Reload { remote, confirm, .. } => (remote, Command::Reload { confirm: *confirm }),
    }
}

/// Prints to stdout, with colours only on a terminal and without `NO_COLOR`. It is not an error if nobody reads it.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    match anstream::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("cannot write to stdout"),
        _ => Ok(()),
    }
}

/// A good answer to `command`, for people.
fn text(command: &Command, body: &str) -> serde_json::Result<String> {
    let changed = || serde_json::from_str(body).map(|ChangeCount { changed }| changed);
    Ok(match command {
        Command::Status => status(&serde_json::from_str(body)?),
        Command::Bans(_) => bans(&serde_json::from_str::<Vec<BanLine>>(body)?),
        Command::Ban { offender, span: Some(span), .. } => format!("banned {offender} for {span}\n"),
        Command::Ban { offender, span: None, .. } => format!("banned {offender} until it is unbanned\n"),
        Command::Unban(Target::One(offender)) if changed()? == 0 => format!("{offender} was not banned\n"),
        Command::Unban(Target::One(offender)) => format!("unbanned {offender}\n"),
        Command::Unban(Target::All) => format!("lifted {}\n", count(changed()?, "ban")),
        Command::Why(_) => why(&serde_json::from_str(body)?),
        Command::Allowances => allowances(&serde_json::from_str::<Vec<AllowLine>>(body)?),
        Command::Allow { offender, span, .. } => {
            let until = span.map_or("until it is removed".to_owned(), |span| format!("for {span}"));
            format!("exempted {offender} {until}; lifted {}\n", count(changed()?, "ban"))
        }
        Command::Disallow(offender) if changed()? == 0 => format!("{offender} was not exempt\n"),
        Command::Disallow(offender) => format!("{offender} is no longer exempt\n"),
        Command::Reload { confirm: None } => "reloaded\n".to_owned(),
        Command::Reload { confirm: Some(span) } => {
            format!("reloaded; confirm with `banstream reload --keep` within {span}\n")
        }
        Command::Keep => "confirmed\n".to_owned(),
        Command::Notify(receiver) => format!("{receiver} accepted the message\n"),
    })
}

fn status(status: &Status) -> String {
    let backend = status.enforcement.backend.as_ref();
    let backend = backend.map_or(String::new(), |name| format!("; bans go to {}", plain(name)));
    let mut text = format!("banstream {}, up {}{backend}\n", status.version, short(status.uptime));
    if status.enforcement.mode == "none" {
        text += "bans are decided and logged, but not enforced\n";
    } else if status.observed > 0 {
        text += &format!("observed bans, not enforced: {}\n", status.observed);
    }
    if let Some(error) = &status.enforcement.error {
        text += &format!("{}\n", painted(BAD, &format!("enforcement: {}", plain(error))));
    }
    if let Some(error) = &status.ledger.error {
        text += &format!("ledger: {} (bans and counts are in memory only)\n", plain(error));
    }
    if status.enforcement.pending > 0 {
        text += &format!("bans not enforced: {}\n", status.enforcement.pending);
    }
    if let Some(repaired) = &status.enforcement.repaired {
        let (at, what) = repaired.split_once(' ').unwrap_or_default();
        text += &format!("repaired in the kernel: {} {}\n", local(at), plain(what));
    }
    let totals = [status.entries, status.offences, status.bans, status.banned].map(|total| total.to_string());
    text += &table(["ENTRIES", "OFFENCES", "BANS", "IN FORCE"], std::iter::once(totals));
    if status.refused > 0 {
        text += &format!("\noffences ignored because the sender is unverified: {}\n", status.refused);
    }
    let MessageCounts { cut, split, joined, unjudged } = &status.messages;
    if *cut > 0 {
        text += &format!(
            "\nmessages cut by a transport: {cut}; only some rules read them. Raise the limit: rsyslog's \
             maxMessageSize, `logger --size`\n"
        );
    }
    if *split > 0 {
        let (pieces, messages) = (count(*split, "piece"), count(*joined, "message"));
        text += &format!("\nlines split by a transport: {pieces}, joined to {messages}\n");
    }
    if *unjudged > 0 {
        text += &format!(
            "\npieces not judged: {unjudged}; the beginning of their message is missing. Let servers log to the \
             journal directly instead of through `logger`, and raise journald's LineMax=\n"
        );
    }
    let sources = status.sources.iter().map(|source| {
        let state = if source.state == SourceState::Running { "running" } else { "failed" };
        let error = source.error.clone().unwrap_or_default();
        let [entries, unattested] = [source.entries, source.unattested].map(|total| total.to_string());
        [source.name.clone(), state.to_owned(), entries, unattested, error]
    });
    text += &table(["SOURCE", "STATE", "ENTRIES", "UNATTESTED", ""], sources);
    let grammars = status.grammars.iter().map(|grammar| {
        let ago = grammar.silent.map_or(String::new(), |silent| format!("{} ago", short(silent)));
        [grammar.name.clone(), grammar.entries.to_string(), ago]
    });
    text += &table(["GRAMMAR", "ENTRIES", "LAST"], grammars);
    let jails = status.jails.iter();
    let jails = jails.map(|jail| {
        let mode = if jail.mode == Mode::Observe { "observe only" } else { "" };
        [jail.name.clone(), jail.tracked.to_string(), jail.banned.to_string(), mode.to_owned()]
    });
    text += &table(["JAIL", "TRACKED", "BANNED", ""], jails);
    let sets = status.enforcement.sets.iter();
    let sets = sets.map(|set| [set.name.clone(), set.elements.to_string(), set.capacity.to_string()]);
    text += &table(["SET", "ELEMENTS", "CAPACITY"], sets);
    let receivers = status.receivers.iter().map(|receiver| {
        let [delivered, waiting, dropped] =
            [receiver.delivered, receiver.waiting, receiver.dropped].map(|total| total.to_string());
        [receiver.name.clone(), delivered, waiting, dropped, receiver.error.clone().unwrap_or_default()]
    });
    text += &table(["RECEIVER", "DELIVERED", "WAITING", "DROPPED", ""], receivers);
    let forged = status.forged.iter().map(|forged| {
        let uid = forged.uid.map_or("other".to_owned(), |uid| uid.to_string());
        [forged.grammar.clone(), uid, forged.lines.to_string()]
    });
    text += &table(["FORGED", "UID", "LINES"], forged);
    let unmatched = status.unmatched.iter().flat_map(|unmatched| {
        let row = |template: &TemplateStatus| {
            [
                unmatched.grammar.clone(),
                template.lines.to_string(),
                local(&template.last),
                template.template.clone(),
            ]
        };
        unmatched.templates.iter().map(row)
    });
    text += &table(["UNMATCHED", "LINES", "LAST", "LOOKS LIKE"], unmatched);
    for duplicate in &status.duplicates {
        text += &format!("\n{}; leave one out\n", plain(duplicate.to_string()));
    }
    for SoleClient { grammar, address } in &status.sole_clients {
        let _ = writeln!(
            text,
            "\nnearly all requests of {grammar} come from {address}, probably a proxy; see `banstream doctor`"
        );
    }
    text
}

fn bans(bans: &[BanLine]) -> String {
    let table = table(COLUMNS, bans.iter().map(cells));
    if bans.is_empty() { "nobody is banned\n".to_owned() } else { table.trim_start().to_owned() }
}

/// The columns of a list of bans.
pub(crate) const COLUMNS: [&str; 6] = ["ADDRESS", "JAIL", "ENDS", "TIMES", "PORTS", "REASON"];

/// A ban, told in [`COLUMNS`].
pub(crate) fn cells(ban: &BanLine) -> [String; 6] {
    let ends = ban.left.map_or("never".to_owned(), |left| format!("in {}", short(left)));
    let ports = if ban.ports.is_empty() { "all".to_owned() } else { ban.ports.join(" ") };
    let (address, times) = (ban.address.to_string(), ban.times.to_string());
    let observed = if ban.mode == Mode::Observe { " (observed)" } else { "" };
    [address, format!("{}{observed}", ban.jail), ends, times, ports, ban.reason.clone()]
}

/// What is known of an address, in sentences.
pub(crate) fn why(why: &Why) -> String {
    let mut text = String::new();
    let verdict = if why.banned { "banned" } else { "not banned" };
    text += &format!("{} is {verdict}\n", why.address);
    if why.offender != why.address {
        text += &format!("its offences count for {}\n", why.offender);
    }
    for BanWhy { ban, formula, lines } in &why.bans {
        let BanLine { address, jail, since, times, .. } = ban;
        let ports =
            if ban.ports.is_empty() { String::new() } else { format!(" from {}", ban.ports.join(" ")) };
        let (since, until) = (local(since), ban.until.as_deref().map_or("it is lifted".to_owned(), local));
        let is = if ban.mode == Mode::Observe { "would be" } else { "is" };
        text += &format!("\n{address} {is} banned{ports} by {jail}, since {since}, until {until}\n");
        if !ban.reason.is_empty() {
            text += &format!("  for: {}\n", plain(&ban.reason));
        }
        let formula = formula.iter().map(|formula| format!("  ban number {times}: {formula}\n"));
        text.extend(formula);
        text.extend(lines.iter().map(line));
    }
    for jail in
        why.jails.iter().filter(|jail| jail.counted > 0 || jail.earlier > 0 || jail.protected.is_some())
    {
        let JailWhy { name, counted, maxretry, findtime, earlier, next, .. } = jail;
        let last = jail.last.as_ref().map_or(String::new(), |last| format!(", the last at {}", local(last)));
        text += &format!("\n{name} has counted {counted} of {maxretry} offences within {findtime}{last}\n");
        text += &format!("  earlier bans that count: {earlier}; the next lasts {next}\n");
        text.extend(jail.protected.iter().map(|by| format!("  never banned by this jail: {by}\n")));
        text.extend(jail.lines.iter().map(line));
    }
    if why.bans.is_empty() && why.jails.iter().all(|jail| jail.counted == 0) {
        text += "no jail has counted an offence\n";
    }
    text.extend(why.protected.iter().map(|by| format!("\nexempt: {by}\n")));
    if let Some(kernel) = &why.kernel {
        text += &kernel.iter().map(held).collect::<String>();
        if why.banned && kernel.is_empty() {
            text += "\nthe kernel has no element for it\n";
        }
    }
    text.extend(why.unknown.iter().map(|what| format!("\n{}\n", plain(what))));
    text
}

/// A line that was counted, as `explain` would show it.
fn line(line: &LineWhy) -> String {
    let LineWhy { time, offence, grammar, rule, written, message, fields } = line;
    let mut text = format!("  {} {}\n", local(time), plain(message));
    text += &format!("      {offence} ({grammar}.grammar:{rule})\n");
    text.extend(written.iter().map(|written| format!("      {}\n", plain(written))));
    text.extend(fields.iter().map(|field| format!("      {field}\n")));
    text
}

fn held(held: &ElementWhy) -> String {
    let ElementWhy { set, element, left, packets, bytes } = held;
    let left = left.map_or("forever".to_owned(), |left| format!("for {} more", short(left.into())));
    let kept = packets.zip(*bytes);
    let kept = kept.map_or(String::new(), |(packets, bytes)| {
        format!("; dropped: {}, {}", count(packets, "packet"), count(bytes, "byte"))
    });
    format!("\nthe kernel has {element} in `{set}` {left}{kept}\n")
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
    use crate::model::Offender;

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
        let offender: Offender = "192.0.2.1".parse().unwrap();
        let ban = |span| ClientCommand::Ban { remote: remote(), offender, span, reason: String::new() };
        let unban = |offender| ClientCommand::Unban { remote: remote(), offender, all: false };
        prints(&ban(Some(Span::from_secs(5400))), "{\"changed\":1}", "banned 192.0.2.1 for 1h 30m\n");
        prints(&ban(None), "{\"changed\":1}", "banned 192.0.2.1 until it is unbanned\n");
        prints(&unban(Some(offender)), "{\"changed\":1}", "unbanned 192.0.2.1\n");
        prints(&unban(Some(offender)), "{\"changed\":0}", "192.0.2.1 was not banned\n");
        prints(&unban(None), "{\"changed\":12}", "lifted 12 bans\n");
        let reload = |confirm, keep| ClientCommand::Reload { remote: remote(), confirm, keep };
        prints(&reload(None, false), "{\"changed\":0}", "reloaded\n");
        let confirm = "reloaded; confirm with `banstream reload --keep` within 1m\n";
        prints(&reload(Some(Span::from_secs(60)), false), "{\"changed\":0}", confirm);
        prints(&reload(None, true), "{\"changed\":0}", "confirmed\n");
    }

    #[test]
    fn why_is_told_in_sentences() {
        let ask = ClientCommand::Why { remote: remote(), offender: "2001:db8::1".parse().unwrap() };
        let free = r#"{"address": "192.0.2.1", "offender": "192.0.2.1", "banned": false, "bans": [], "protected": [],
            "kernel": [], "unknown": [], "jails": [{"name": "sshd", "offender": "192.0.2.1", "counted": 0, "maxretry": 5, "findtime": "10m", "last": null, "earlier": 0,
                       "next": "1h", "protected": null, "lines": []}]}"#;
        prints(&ask, free, "192.0.2.1 is not banned\nno jail has counted an offence\n");
        let body = r#"{"address": "2001:db8::1", "offender": "2001:db8::/64", "banned": true,
            "bans": [{"address": "2001:db8::/64", "jail": "sshd", "kind": "auto", "ports": ["22/tcp"], "since": "S",
                      "until": "U", "left": 552, "times": 2, "reason": "5 offences within 10m",
                      "formula": "1h x 2^1 = 2h", "lines": [
                        {"time": "R", "offence": "auth-failure", "grammar": "sshd", "rule": 9, "written": "No <user>",
                         "message": "No \u001b[2J", "fields":
                         [{"name": "user", "kind": "text", "from": 3, "to": 7, "text": "\u001b[2J"}]}]},
                     {"address": "2001:db8::/32", "jail": "manual", "kind": "manual", "ports": [], "since": "T",
                      "until": null, "left": null, "times": 1, "reason": "", "formula": null, "lines": []}],
            "jails": [{"name": "http", "offender": "2001:db8::/64", "counted": 3, "maxretry": 5, "findtime": "10m", "last": "L", "earlier": 1,
                       "next": "1h x 2^1 = 2h", "protected": "::/0 is in `ignoreip`", "lines": [
                        {"time": "L", "offence": "probe", "grammar": "old", "rule": 7, "written": null, "message": "M",
                         "fields": []}]}],
            "protected": ["a login from there at T"],
            "kernel": [{"set": "banstream6p", "element": "2001:db8::/64 22/tcp", "left": 552, "packets": 12, "bytes": 720},
                       {"set": "banstream6", "element": "2001:db8::/32", "left": null, "packets": null, "bytes": null}],
            "unknown": ["cannot ask the ledger: it hangs"]}"#;
        prints(
            &ask,
            body,
            "
2001:db8::1 is banned
its offences count for 2001:db8::/64

2001:db8::/64 is banned from 22/tcp by sshd, since S, until U
  for: 5 offences within 10m
  ban number 2: 1h x 2^1 = 2h
  R No \u{fffd}[2J
      auth-failure (sshd.grammar:9)
      No <user>
      user     3..7      `\u{fffd}[2J`

2001:db8::/32 is banned by manual, since T, until it is lifted

http has counted 3 of 5 offences within 10m, the last at L
  earlier bans that count: 1; the next lasts 1h x 2^1 = 2h
  never banned by this jail: ::/0 is in `ignoreip`
  L M
      probe (old.grammar:7)

exempt: a login from there at T

the kernel has 2001:db8::/64 22/tcp in `banstream6p` for 9m 12s more; dropped: 12 packets, 720 bytes

the kernel has 2001:db8::/32 in `banstream6` forever

cannot ask the ledger: it hangs
",
        );
    }

    #[test]
    fn allowances_are_printed_as_a_table() {
        let ask = |offender, remove| ClientCommand::Allow {
            remote: remote(),
            offender,
            span: Some(Span::from_secs(60)),
            comment: String::new(),
            remove,
        };
        prints(&ask(None, None), "[]", "no exemptions\n");
        let body = r#"[{"address": "192.0.2.1", "since": "x", "until": "y", "left": 552, "comment": "on call"},
                       {"address": "::/32", "since": "x", "until": null, "left": null, "comment": ""}]"#;
        prints(
            &ask(None, None),
            body,
            "
ADDRESS    ENDS       COMMENT
192.0.2.1  in 9m 12s  on call
::/32      never
",
        );
        let who = Some("::1".parse().unwrap());
        prints(&ask(who, None), r#"{"changed":2}"#, "exempted ::1 for 1m; lifted 2 bans\n");
        prints(&ask(None, who), r#"{"changed":0}"#, "::1 was not exempt\n");
        prints(&ask(None, who), r#"{"changed":1}"#, "::1 is no longer exempt\n");
    }

    #[test]
    fn bans_are_printed_as_a_table() {
        let ask = ClientCommand::Bans { remote: remote(), last: None };
        prints(&ask, "[]", "nobody is banned\n");
        let body = r#"[
            {"address": "192.0.2.1", "jail": "sshd", "kind": "auto", "ports": ["22/tcp", "2222/tcp"],
             "since": "2023-11-14T22:13:20Z", "until": "2023-11-14T22:23:20Z", "left": 552, "times": 2,
             "reason": "5 auth-failure"},
            {"address": "192.0.2.1", "jail": "ftp", "kind": "auto", "mode": "observe", "ports": [],
             "since": "2023-11-14T22:13:20Z", "until": "2023-11-14T22:23:20Z", "left": 552, "times": 1,
             "reason": "5 auth-failure"},
            {"address": "2001:db8::/32", "jail": "manual", "kind": "manual", "ports": [],
             "since": "2023-11-14T22:13:20Z", "until": null, "left": null, "times": 1,
             "reason": "\u001b[2J"}
        ]"#;
        prints(
            &ask,
            body,
            "
ADDRESS        JAIL            ENDS       TIMES  PORTS            REASON
192.0.2.1      sshd            in 9m 12s  2      22/tcp 2222/tcp  5 auth-failure
192.0.2.1      ftp (observed)  in 9m 12s  1      all              5 auth-failure
2001:db8::/32  manual          never      1      all              \u{fffd}[2J
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
            "jails": [{"name": "http-auth", "mode": "observe", "tracked": 0, "counted": 0, "banned": 0}, {"name": "sshd", "tracked": 40, "counted": 55, "banned": 12}],
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
                       "waiting": 99}
        }"#;
        let [first, last] = ["2023-11-14T22:13:20Z", "2023-11-14T22:13:21Z"].map(local);
        let want = "
banstream 0.1.0, up 3d 4h; bans go to ipset
observed bans, not enforced: 4
enforcement: set is full
ledger: disk is full (bans and counts are in memory only)
bans not enforced: 7
repaired in the kernel: 2023-11-14 22:13:20 recreated 1 rule

ENTRIES  OFFENCES  BANS  IN FORCE
12345    310       17    12

offences ignored because the sender is unverified: 3

messages cut by a transport: 5; only some rules read them. Raise the limit: rsyslog's maxMessageSize, `logger --size`

lines split by a transport: 9 pieces, joined to 4 messages

pieces not judged: 2; the beginning of their message is missing. Let servers log to the journal directly instead of through `logger`, and raise journald's LineMax=

SOURCE    STATE    ENTRIES  UNATTESTED
journald  running  12345    0
socket    failed   20       9           permission denied

GRAMMAR  ENTRIES  LAST
sshd     812      3m 12s ago

JAIL       TRACKED  BANNED
http-auth  0        0       observe only
sshd       40       12

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
