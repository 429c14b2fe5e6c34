//! Receivers for fail2ban's actions: mail, and the services for which programs come with banstream. What else an action
//! needs is named.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::library::HEADER;
use super::options::NamedOptions;
use super::plan::list;
use super::read::Fail2banJail;
use super::settings;
use crate::words::{self, ActionKind};

/// Where the programs are.
const PROGRAMS: &str = "/usr/share/banstream/notify";

/// What an operator's own action is told.
const OWN: &str = "needs you: an action of your own; a program that does what its `actionban` and `actionunban` do, as \
                   `[notify.NAME]` with `command` and `each = true`";

/// The receivers that actions become.
#[derive(Clone, Debug, Default)]
pub(super) struct ImportedReceivers {
    /// The tables.
    pub(super) toml: String,
    /// The files with their secrets, which nobody else may read.
    pub(super) secrets: Vec<(PathBuf, String)>,
    /// What each action becomes.
    pub(super) notes: Vec<(String, String)>,
    /// What only a human can do.
    pub(super) tasks: Vec<String>,
}

/// One of the programs, as an action calls its service. Two actions with the same are one receiver.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ServiceCall {
    program: &'static str,
    /// The option that names the file with the secret.
    option: &'static str,
    arguments: Vec<String>,
    secret: String,
}

/// What the actions of these jails become; `kept` has those that are jails here, too, with their names here. Secrets go
/// into `folder`.
pub(super) fn receivers(
    jails: &[Fail2banJail],
    kept: &BTreeMap<&str, &str>,
    folder: &Path,
) -> ImportedReceivers {
    let mut mail: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut calls: BTreeMap<ServiceCall, BTreeMap<&str, Vec<String>>> = BTreeMap::new();
    let mut named: BTreeMap<&str, (&str, BTreeSet<&str>)> = BTreeMap::new();
    for jail in jails {
        let here = kept.get(jail.name.as_str()).copied();
        for action in &jail.actions {
            let word = words::action(&action.name);
            match word.map(|word| word.kind) {
                Some(ActionKind::Ban | ActionKind::BanAllPorts) => {}
                Some(ActionKind::Mail) => {
                    for to in settings::mailboxes(action, jail) {
                        mail.entry(to).or_default().extend(here);
                    }
                }
                _ => match here.and_then(|here| Some((here, service_call(action, here)?))) {
                    Some((here, (call, more))) => drop(calls.entry(call).or_default().insert(here, more)),
                    None => {
                        let becomes = word.map_or(OWN, |word| word.becomes);
                        named.entry(&action.name).or_insert((becomes, BTreeSet::new())).1.insert(&jail.name);
                    }
                },
            }
        }
    }
    let mut made = ImportedReceivers::default();
    let mut changed: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
    for jail in jails {
        for (action, what) in
            jail.changed_actions.iter().filter(|(action, _)| words::action(action).is_some())
        {
            changed.entry((action, what)).or_default().insert(&jail.name);
        }
    }
    made.tasks.extend(changed.into_iter().map(|((action, what), jails)| {
        let of: Vec<&str> = jails.into_iter().collect();
        format!(
            "the action `{action}` of {}: nothing here does what {what} says beside a ban: a program that does it, as \
             `[notify.NAME]` with `command` and `each = true`",
            of.join(", ")
        )
    }));
    let only = |jails: &BTreeSet<&str>| {
        let jails: Vec<String> = jails.iter().map(|name| (*name).to_owned()).collect();
        let is_part = jails.len() < kept.len() && !jails.is_empty();
        if is_part { format!("jails = {}\n", list(&jails)) } else { String::new() }
    };
    for (nth, (to, jails)) in (1..).zip(&mail) {
        let name = numbered("mail", nth);
        made.toml += &format!("\n[notify.{name}]\nmail = \"{to}\"\n{}", only(jails));
        let becomes = format!("`[notify.{name}]` to {to}: digests with the lines; no whois");
        made.notes.push(("mail".to_owned(), becomes));
    }
    let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
    for (call, jails) in calls {
        let nth = numbers.entry(call.program).or_default();
        *nth += 1;
        let name = numbered(call.program, *nth);
        let file = folder.join(format!("{name}.token"));
        let mut command = vec![format!("{PROGRAMS}/{}", call.program)];
        command.extend([call.option.to_owned(), file.display().to_string()]);
        command.extend(call.arguments.into_iter().chain(jails.values().flatten().cloned()));
        let events = if call.program == "abuseipdb" { "[\"ban\"]" } else { "[\"ban\", \"unban\"]" };
        let of: BTreeSet<&str> = jails.into_keys().collect();
        made.toml += &format!(
            "\n[notify.{name}]\ncommand = {}\neach = true\nevents = {events}\ntimeout = \"30s\"\n{}",
            list(&command),
            only(&of)
        );
        let of: Vec<&str> = of.into_iter().collect();
        made.notes.push((
            format!("action {}", call.program),
            format!(
                "`[notify.{name}]`, its secret in {}; it needs Python 3 (of {})",
                file.display(),
                of.join(", ")
            ),
        ));
        made.secrets.push((file, format!("{HEADER}{}\n", call.secret)));
    }
    for (name, (becomes, jails)) in named {
        let of: Vec<&str> = jails.into_iter().collect();
        made.notes.push((format!("action {name}"), format!("{becomes} (of {})", of.join(", "))));
        if becomes.contains("[notify") {
            made.tasks.push(format!(
                "the action `{name}` of {}: {}",
                of.join(", "),
                becomes.trim_start_matches("needs you: ")
            ));
        }
    }
    made
}

fn numbered(what: &str, nth: usize) -> String {
    if nth == 1 { format!("fail2ban-{what}") } else { format!("fail2ban-{what}-{nth}") }
}

/// How one of our programs does what this action does, and its further arguments for this jail; `None` where there is none,
/// or something is missing.
fn service_call(action: &NamedOptions, jail: &str) -> Option<(ServiceCall, Vec<String>)> {
    let is_plain = |text: &&str| {
        !text.is_empty()
            && !text.starts_with('-')
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"@.-_+=,".contains(&byte))
    };
    let option = |key: &str| action.get(key).map(str::trim).filter(is_plain);
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let (program, file, secret, arguments, more) = match action.name.as_str() {
        "cloudflare" => {
            let email = option("cfuser")?;
            ("cloudflare", "--token", option("cftoken")?, words(&["--email", email]), Vec::new())
        }
        "cloudflare-token" => {
            let mut arguments = words(&["--zone", option("cfzone")?]);
            match option("cfmode") {
                None | Some("block") => {}
                Some(mode @ ("challenge" | "js_challenge" | "managed_challenge")) => {
                    arguments.extend(words(&["--mode", mode]));
                }
                Some(_) => return None,
            }
            ("cloudflare", "--token", option("cftoken")?, arguments, Vec::new())
        }
        "abuseipdb" => {
            let is_numbers = |text: &&str| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b',');
            let categories = option("abuseipdb_category").filter(is_numbers);
            let more = categories.map(|numbers| words(&["--categories", &format!("{jail}={numbers}")]));
            ("abuseipdb", "--key", option("abuseipdb_apikey")?, Vec::new(), more.unwrap_or_default())
        }
        _ => return None,
    };
    Some((ServiceCall { program, option: file, arguments, secret: secret.to_owned() }, more))
}
