//! `banstream status`, and the receivers in it.

use std::fmt::Write as _;

use super::short;
use crate::config::NOT_CONFIGURED;
use crate::control::{
    EnforcementStatus, ExemptStatus, FleetStatus, JailStatus, ReceiverStatus, SoleClient, SourceState,
    Status, TemplateStatus,
};
use crate::daemon::ADOPTED;
use crate::entry::whole::MessageCounts;
use crate::model::{Mode, count, plain};
use crate::tools::terminal::{BAD, local, painted, table};

/// What is said of a source that rsyslog has left.
const NOBODY: &str = "nobody is connected";

/// A status, for people.
pub(crate) fn status(status: &Status) -> String {
    let backend = status.enforcement.backend.as_ref();
    let backend = backend.map_or(String::new(), |name| format!("; bans go to {}", plain(name)));
    let mut text = format!("banstream {}, up {}{backend}\n", plain(&status.version), short(status.uptime));
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
    if let Some(error) = &status.metrics_error {
        text += &format!("metrics are not served: {}\n", plain(error));
    }
    for receiver in &status.receivers {
        if let Some(error) = &receiver.error {
            text += &format!("cannot deliver to {}: {}\n", plain(&receiver.name), plain(error));
        }
    }
    if let Some(repaired) = &status.enforcement.repaired {
        let (at, what) = repaired.split_once(' ').unwrap_or_default();
        text += &format!("repaired in the kernel: {} {}\n", local(at), plain(what));
    }
    text.extend(status.fleet.as_ref().map(fleet_line));
    let banned = status.banned.saturating_sub(status.observed);
    let totals = [status.entries, status.offences, status.bans, banned].map(|total| total.to_string());
    text += &table(["ENTRIES", "OFFENCES", "BANS", "BANNED NOW"], std::iter::once(totals));
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
        let error = if source.is_left() { Some(NOBODY) } else { source.error.as_deref() };
        let error = error.unwrap_or_default().to_owned();
        let [entries, unattested] = [source.entries, source.unattested].map(|total| total.to_string());
        [source.name.clone(), state.to_owned(), entries, unattested, error]
    });
    text += &table(["SOURCE", "STATE", "ENTRIES", "UNATTESTED", ""], sources);
    let grammars = status.grammars.iter().map(|grammar| {
        [grammar.name.clone(), grammar.entries.to_string(), grammar.silent.map_or(String::new(), ago)]
    });
    text += &table(["GRAMMAR", "ENTRIES", "LAST"], grammars);
    let jails = status.jails.iter().map(|jail| jail_cells(status, jail));
    text += &table(JAIL_COLUMNS, jails);
    let ExemptStatus { ignored, allowed, own, proxies, logins } = status.exempt;
    let exempt = [
        (ignored, "by `ignoreip`"),
        (allowed, "by `banstream allow`"),
        (own, "of this host and its gateways"),
        (proxies, "as trusted proxies"),
        (logins, "after a login"),
    ];
    let exempt = exempt.iter().filter(|(entries, _)| *entries > 0);
    let exempt: Vec<String> = exempt.map(|(entries, why)| format!("{entries} {why}")).collect();
    if !exempt.is_empty() {
        text += &format!("\nexempt: {}\n", exempt.join(", "));
    }
    let sets = status.enforcement.sets.iter();
    let sets = sets.map(|set| [set.name.clone(), set.elements.to_string(), set.capacity.to_string()]);
    text += &table(["SET", "ELEMENTS", "CAPACITY"], sets);
    text += &table_of(&status.receivers);
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
        let (grammar, address) = (plain(grammar), plain(address));
        let _ = writeln!(
            text,
            "\nnearly all requests of {grammar} come from {address}, probably a proxy; see `banstream doctor`"
        );
    }
    text
}

/// How this host stands to its fleet, in a line.
fn fleet_line(fleet: &FleetStatus) -> String {
    let mut line = format!("fleet: {}", plain(&fleet.host));
    line += &match &fleet.server {
        Some(server) => {
            let carried_out = if fleet.mode == Mode::Enforce { "enforced" } else { "only observed" };
            let members = count(fleet.members, "member");
            let full = fleet
                .error
                .as_ref()
                .map(|why| painted(BAD, &plain(format!("; it has no room for our bans: {why}"))));
            let full = full.unwrap_or_default();
            format!(" is connected to {}; {members}, whose bans are {carried_out}{full}", plain(server))
        }
        None => painted(BAD, &plain(not_connected(fleet))),
    };
    let aside: Vec<String> = aside(fleet).map(plain).collect();
    if !aside.is_empty() {
        line += &painted(BAD, &format!("; set aside: {}", aside.join(", ")));
    }
    line + "\n"
}

/// That no server is connected, and why.
fn not_connected(fleet: &FleetStatus) -> String {
    let span = fleet.down.map_or(String::new(), |down| format!(" for {}", short(down)));
    let why = fleet.error.as_ref().map_or(String::new(), |why| format!(": {why}"));
    format!(" is not connected{span}{why}")
}

/// The members that are set aside.
fn aside(fleet: &FleetStatus) -> impl Iterator<Item = &str> {
    fleet.peers.iter().filter(|peer| peer.aside.is_some()).map(|peer| peer.host.as_str())
}

/// The columns of a list of jails.
pub(crate) const JAIL_COLUMNS: [&str; 6] = ["JAIL", "BANS AFTER", "TRACKED", "BANNED", "LAST LINE", ""];

/// A jail, told in [`JAIL_COLUMNS`].
pub(crate) fn jail_cells(status: &Status, jail: &JailStatus) -> [String; 6] {
    let has_none = NOT_CONFIGURED.contains(&jail.name.as_str()) || jail.name == ADOPTED;
    let is_off = jail.grammars.is_empty() && !has_none;
    let mode = match jail.mode {
        _ if is_off => "off; its bans stay",
        Mode::Observe => "observe only",
        Mode::Enforce => "",
    };
    let its = status.grammars.iter().filter(|grammar| jail.grammars.contains(&grammar.name));
    let last = its.filter_map(|grammar| grammar.silent).min().map(ago);
    let none = || if jail.grammars.is_empty() { String::new() } else { "none yet".to_owned() };
    let last = last.unwrap_or_else(none);
    let bantime = jail.bantime.map_or("forever".to_owned(), short);
    let wants = match jail.maxretry {
        0 => String::new(),
        retries => format!("{retries} in {}: {bantime}", short(jail.findtime)),
    };
    let (tracked, banned) = (jail.tracked.to_string(), jail.banned.to_string());
    [jail.name.clone(), wants, tracked, banned, last, mode.to_owned()]
}

fn ago(silent: u64) -> String {
    format!("{} ago", short(silent))
}

/// From which part of its capacity on a set is said to be nearly full, in per cent.
const NEARLY_FULL: u64 = 90;

/// What is not as it should be, the worst first.
pub(crate) fn alarms(status: &Status) -> Vec<String> {
    let EnforcementStatus { error, pending, sets, .. } = &status.enforcement;
    let mut alarms: Vec<String> = error.iter().map(|error| format!("not enforced: {error}")).collect();
    if *pending > 0 {
        alarms.push(format!("{} not enforced", count(*pending, "ban")));
    }
    let full = sets.iter().filter(|set| set.elements * 100 >= set.capacity * NEARLY_FULL && set.capacity > 0);
    alarms.extend(full.map(|set| format!("the set {} is nearly full", set.name)));
    for source in status.sources.iter().filter(|source| source.state == SourceState::Failed) {
        let error = source.error.as_deref().unwrap_or_default();
        alarms.push(format!("cannot read {}: {error}", source.name));
    }
    let left = status.sources.iter().filter(|source| source.is_left());
    alarms.extend(left.map(|source| format!("{NOBODY} to {}", source.name)));
    alarms.extend(status.ledger.error.iter().map(|error| format!("ledger: {error}")));
    alarms.extend(status.metrics_error.iter().map(|error| format!("metrics are not served: {error}")));
    if let Some(fleet) = &status.fleet {
        alarms.extend(fleet.server.is_none().then(|| format!("the fleet{}", not_connected(fleet))));
        alarms.extend(aside(fleet).map(|host| format!("{host} of the fleet is set aside")));
    }
    for receiver in &status.receivers {
        let error = receiver.error.iter();
        alarms.extend(error.map(|error| format!("cannot deliver to {}: {error}", receiver.name)));
    }
    alarms
}

/// The receivers in a status, and how it goes with them.
pub(super) fn receivers(body: &str) -> serde_json::Result<String> {
    let status: Status = serde_json::from_str(body)?;
    if status.receivers.is_empty() {
        return Ok("the configuration has no receiver: no table `[notify.NAME]`\n".to_owned());
    }
    Ok(table_of(&status.receivers).trim_start().to_owned())
}

fn table_of(receivers: &[ReceiverStatus]) -> String {
    let receivers = receivers.iter().map(|receiver| {
        let [delivered, waiting, dropped, refused] =
            [receiver.delivered, receiver.waiting, receiver.dropped, receiver.refused]
                .map(|total| total.to_string());
        let error = receiver.error.clone().unwrap_or_default();
        [receiver.name.clone(), delivered, waiting, dropped, refused, error]
    });
    table(["RECEIVER", "DELIVERED", "WAITING", "DROPPED", "REFUSED", ""], receivers)
}
