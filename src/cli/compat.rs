//! Emulates fail2ban-client: its verbs and arguments in, its answers out, for people and scripts that know it.
//!
//! The output follows fail2ban-client's manual and version 1.0.2. A verb without a counterpart is refused, with
//! banstream's way to do it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::de::DeserializeOwned;

use super::answer::operator;
use crate::config::load::load;
use crate::control::client::{self, ChangeCount};
use crate::control::{
    AllowLine, BanFilter, BanLength, BanLine, ChangePage, ChangeReport, ChangeRequest, Command, JailStatus,
    Status, Target,
};
use crate::model::{BanOrigin, NotAnOffender, Offender, Span, plain};
use crate::tools::offline::warn;
use crate::tools::terminal::local;
use crate::words;

/// The verbs that are understood.
pub const USAGE: &str = "\
Options:
  -s, --socket FILE            The daemon's control socket
  -c, --conf FILE              Its configuration, for `get JAIL ignoreip` and -t
  -t, --test                   Check the configuration
  -V, --version                Print banstream's version
  -h, --help                   Print this
  -q, -v                       No effect

Commands:
  ping                         Is the daemon alive?
  version                      Its version
  status                       The jails
  status JAIL                  One jail and its bans
  status --all                 All jails and their bans
  banned                       The bans of each jail
  banned IP...                 Which jails ban each of these
  set JAIL banip IP...         Ban on all ports, for the jail's bantime; prints how many are new
  set JAIL unbanip [--report-absent] IP...
                               Lift the jail's bans on these; prints how many there were
  unban IP..., unban --all     Lift bans; prints how many there were
  set JAIL addignoreip IP      Exempt, for all jails, until it is removed
  set JAIL delignoreip IP      Remove the exemption
  get JAIL banip [SEP|--with-time], bantime, findtime, maxretry, ignoreip
  reload [JAIL]                Read the configuration again, for all jails

Exit status:
  0    done
  255  refused, or no daemon answers";

/// The exit status of whatever goes wrong, as fail2ban-client's.
pub const FAILED: u8 = 255;

/// Why something was not done.
#[derive(Debug)]
pub enum CompatError {
    /// fail2ban-client says this on stdout, where scripts look for it.
    Stdout(String),
    /// For people.
    Stderr(String),
}

impl From<anyhow::Error> for CompatError {
    fn from(error: anyhow::Error) -> Self {
        Self::Stderr(format!("{error:#}"))
    }
}

/// What fail2ban-client would print to this command line, which is all behind the program's name.
///
/// # Errors
///
/// No daemon answers, the daemon refuses, or there is no counterpart.
pub fn fail2ban_client(words: &[String]) -> Result<String, CompatError> {
    let mut client = Fail2banClient { socket: client::socket(), config: None };
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut words = words.as_slice();
    loop {
        words = match words {
            ["-s" | "--socket", file, rest @ ..] => {
                client.socket = file.into();
                rest
            }
            ["-c" | "--conf", file, rest @ ..] => {
                client.config = Some(file.into());
                rest
            }
            ["-q" | "-v" | "-vv" | "-vvv", rest @ ..] => rest,
            _ => break,
        };
    }
    client.answer(words)
}

/// The daemon to ask.
struct Fail2banClient {
    socket: PathBuf,
    config: Option<PathBuf>,
}

impl Fail2banClient {
    fn answer(&self, words: &[&str]) -> Result<String, CompatError> {
        Ok(match words {
            ["-h" | "--help" | "help"] => usage(),
            ["-V" | "--version"] => env!("CARGO_PKG_VERSION").to_owned(),
            ["-t" | "--test"] => {
                load(self.config.as_deref()).map_err(anyhow::Error::from)?;
                "OK: configuration test is successful".to_owned()
            }
            ["ping"] => {
                self.ask::<Status>(&Command::Status)?;
                "Server replied: pong".to_owned()
            }
            ["version"] => self.ask::<Status>(&Command::Status)?.version,
            ["status"] => self.jails()?.list(),
            ["status", "--all"] => {
                let jails = self.jails()?;
                let all: Result<Vec<String>, _> = jails.names().map(|name| jails.describe(name)).collect();
                all?.join("\n")
            }
            ["status", jail] => self.jails()?.describe(jail)?,
            ["banned"] => self.jails()?.banned(),
            ["banned", who @ ..] => self.jails()?.banning(&offenders(who)?),
            ["get", jail, what, how @ ..] => self.get(jail, what, how)?,
            ["set", jail, "banip", who @ ..] => self.ban(jail, &offenders(who)?)?.to_string(),
            ["set", jail, "unbanip", "--report-absent", who @ ..] => {
                let (jails, who) = (self.jails()?, offenders(who)?);
                jails.get(jail)?;
                let absent: Vec<_> = who.iter().filter(|who| !jails.holds(jail, **who)).collect();
                if !absent.is_empty() {
                    return Err(CompatError::Stdout(format!("not banned: {}", quoted(absent))));
                }
                self.unban_from(jail, &who)?.to_string()
            }
            ["set", jail, "unbanip", who @ ..] => self.unban_from(jail, &offenders(who)?)?.to_string(),
            ["set", jail, verb @ ("addignoreip" | "delignoreip"), who @ ..] => {
                self.jails()?.get(jail)?;
                for offender in offenders(who)? {
                    self.allow(verb, jail, offender)?;
                }
                self.ignored(jail)?
            }
            ["unban", "--all"] => self.change(ChangeRequest::Unban(Target::All))?.to_string(),
            ["unban", who @ ..] if !who.is_empty() => self.unban(&offenders(who)?)?.to_string(),
            ["reload"] | ["reload", "--all"] => self.reload()?,
            ["reload", jail] | ["reload", "--if-exists", jail] if !jail.starts_with('-') => self.reload()?,
            [] => return Err(CompatError::Stdout(usage())),
            words => return Err(CompatError::Stderr(no_counterpart(words))),
        })
    }

    fn get(&self, jail: &str, what: &str, how: &[&str]) -> Result<String, CompatError> {
        let jails = self.jails()?;
        let status = jails.get(jail)?;
        Ok(match (what, how) {
            ("maxretry", []) => status.maxretry.to_string(),
            ("findtime", []) => status.findtime.to_string(),
            ("bantime", []) => status.bantime.map_or("-1".to_owned(), |seconds| seconds.to_string()),
            ("ignoreip", []) => self.ignored(jail)?,
            ("banip", []) => jails.addresses(jail).join(" "),
            ("banip", ["--with-time"]) => {
                held(&jails.bans, jail).map(with_time).collect::<Vec<_>>().join("\n")
            }
            ("banip", [separator]) => jails.addresses(jail).join(separator),
            _ => return Err(CompatError::Stderr(no_counterpart(&["get", jail, what]))),
        })
    }

    /// Bans those that the jail does not ban yet, and returns how many they are.
    fn ban(&self, jail: &str, who: &[Offender]) -> Result<u64, CompatError> {
        let jails = self.jails()?;
        let length = Some(BanLength(jails.get(jail)?.bantime.map(Span::from_secs)));
        let (mut new, mut refused) = (0, Vec::new());
        for address in
            who.iter().copied().filter(|who| !held(&jails.bans, jail).any(|ban| ban.address == *who))
        {
            match self.change(ChangeRequest::Ban { address, length, reason: reason(jail) }) {
                Ok(bans) => new += bans,
                // One that is protected does not keep the others from being banned.
                Err(CompatError::Stderr(why)) => refused.push(why),
                Err(error) => return Err(error),
            }
        }
        if refused.is_empty() { Ok(new) } else { Err(CompatError::Stderr(refused.join("\n"))) }
    }

    /// Lifts the bans on those that the jail bans, bans of other jails included: otherwise they would stay blocked.
    fn unban_from(&self, jail: &str, who: &[Offender]) -> Result<u64, CompatError> {
        let jails = self.jails()?;
        jails.get(jail)?;
        let held: Vec<Offender> = who.iter().copied().filter(|who| jails.holds(jail, *who)).collect();
        self.unban(&held)
    }

    /// How many of these were banned. Of a prefix fail2ban lifts the bans inside it.
    fn unban(&self, who: &[Offender]) -> Result<u64, CompatError> {
        let mut were = 0;
        for offender in who {
            were += self.change(ChangeRequest::Unban(Target::Inside(*offender)))?.min(1);
        }
        Ok(were)
    }

    fn allow(&self, verb: &str, jail: &str, address: Offender) -> Result<(), CompatError> {
        if verb == "addignoreip" {
            let comment = format!("fail2ban-client set {jail} addignoreip");
            self.change(ChangeRequest::Allow { address, length: Some(BanLength(None)), comment })?;
        } else if self.change(ChangeRequest::Disallow { address })? == 0 {
            let what = format!("{address} was not exempted by hand; `ignoreip` in the configuration stays");
            return Err(CompatError::Stderr(what));
        }
        Ok(())
    }

    fn reload(&self) -> Result<String, CompatError> {
        self.ask::<ChangeCount>(&Command::Reload { confirm: None })?;
        Ok("OK".to_owned())
    }

    /// The jail's exemptions, by the configuration as it is on disk, and by hand.
    fn ignored(&self, jail: &str) -> Result<String, CompatError> {
        let settings = load(self.config.as_deref()).map_err(anyhow::Error::from)?.settings();
        let of_jail = settings.jails.into_iter().filter(|of| *of.name == *jail).flat_map(|of| of.ignore);
        let by_hand = self.ask::<Vec<AllowLine>>(&Command::Allowances)?;
        let by_hand = by_hand.into_iter().map(|allowed| allowed.address);
        let ignored = settings.ignore.into_iter().map(|(who, _)| who).chain(of_jail).chain(by_hand);
        Ok(tree(&ignored.collect()))
    }

    fn jails(&self) -> Result<Jails, CompatError> {
        let Status { mut jails, .. } = self.ask(&Command::Status)?;
        let bans: Vec<BanLine> = self.ask(&Command::Bans(BanFilter::default()))?;
        // `manual` and `wide` are jails here as long as they ban somebody.
        jails.retain(|jail| !jail.grammars.is_empty() || held(&bans, &jail.name).next().is_some());
        Ok(Jails { jails, bans })
    }

    /// As fail2ban-client it asks for no `--force`; a ban that would need it is refused.
    fn change(&self, change: ChangeRequest) -> Result<u64, CompatError> {
        let force = !matches!(change, ChangeRequest::Ban { .. });
        let page = ChangePage { force, operator: operator(), ..change.into() };
        let report: ChangeReport = self.ask(&Command::Change(page))?;
        // fail2ban-client has no place for them on stdout.
        report.warnings().for_each(|note| warn(format_args!("WARNING {}", plain(&note.text))));
        Ok(report.changed)
    }

    fn ask<T: DeserializeOwned>(&self, command: &Command) -> Result<T, CompatError> {
        let answer = client::send(&self.socket, command)?;
        if let Some(error) = answer.refusal() {
            return Err(CompatError::Stderr(error.replace("`--force`", "`banstream ban --force`")));
        }
        serde_json::from_str(&answer.body)
            .map_err(|_| CompatError::Stderr("the daemon has another version".to_owned()))
    }
}

/// The jails, and the bans in force.
struct Jails {
    jails: Vec<JailStatus>,
    bans: Vec<BanLine>,
}

impl Jails {
    fn get(&self, name: &str) -> Result<&JailStatus, CompatError> {
        let jail = self.jails.iter().find(|jail| jail.name == name);
        jail.ok_or_else(|| CompatError::Stdout(format!("Sorry but the jail '{name}' does not exist")))
    }

    /// Whether the jail bans this one, or a prefix that it lies in.
    fn holds(&self, jail: &str, who: Offender) -> bool {
        held(&self.bans, jail).any(|ban| ban.address.contains(who))
    }

    fn addresses(&self, jail: &str) -> Vec<String> {
        let addresses: BTreeSet<Offender> = held(&self.bans, jail).map(|ban| ban.address).collect();
        addresses.iter().map(Offender::to_string).collect()
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.jails.iter().map(|jail| jail.name.as_str())
    }

    fn list(&self) -> String {
        let names: Vec<&str> = self.names().collect();
        format!("Status\n|- Number of jail:\t{}\n`- Jail list:\t{}", names.len(), names.join(", "))
    }

    fn describe(&self, name: &str) -> Result<String, CompatError> {
        let JailStatus { tracked, offences, bans, grammars, .. } = self.get(name)?;
        let (banned, grammars) = (self.addresses(name), grammars.join(" "));
        // fail2ban counts the bans that it finds at its start; the daemon does not.
        let total = (*bans).max(banned.len() as u64);
        Ok(format!(
            "Status for the jail: {name}\n|- Filter\n|  |- Currently failed:\t{tracked}\n|  |- Total failed:\t{offences}\n\
             |  `- Grammars:\t{grammars}\n`- Actions\n   |- Currently banned:\t{}\n   |- Total banned:\t{total}\n   \
             `- Banned IP list:\t{}",
            banned.len(),
            banned.join(" ")
        ))
    }

    fn banned(&self) -> String {
        let jails = self.names().map(|name| format!("{{'{name}': {}}}", quoted(self.addresses(name))));
        format!("[{}]", jails.collect::<Vec<_>>().join(", "))
    }

    fn banning(&self, who: &[Offender]) -> String {
        let jails = who.iter().map(|who| quoted(self.names().filter(|name| self.holds(name, *who))));
        format!("[{}]", jails.collect::<Vec<_>>().join(", "))
    }
}

fn usage() -> String {
    format!("Usage: fail2ban-client [OPTIONS] COMMAND\n\n{USAGE}")
}

fn offenders(words: &[&str]) -> Result<Vec<Offender>, CompatError> {
    let parsed = words.iter().map(|word| word.parse());
    parsed.collect::<Result<_, NotAnOffender>>().map_err(|error| CompatError::Stderr(error.to_string()))
}

/// The bans of a jail, those by hand that were meant for it included.
fn held<'a>(bans: &'a [BanLine], jail: &str) -> impl Iterator<Item = &'a BanLine> {
    bans.iter().filter(move |ban| {
        let meant = if ban.kind == BanOrigin::Manual { meant_for(&ban.reason) } else { None };
        meant.unwrap_or(&ban.jail) == jail
    })
}

/// The reason of a ban by hand that is meant for a jail. The daemon's own bans by hand belong to none.
fn reason(jail: &str) -> String {
    format!("fail2ban-client set {jail} banip")
}

fn meant_for(reason: &str) -> Option<&str> {
    reason.strip_prefix("fail2ban-client set ")?.strip_suffix(" banip")
}

/// A list as Python prints it.
fn quoted(items: impl IntoIterator<Item = impl ToString>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| format!("'{}'", item.to_string())).collect();
    format!("[{}]", items.join(", "))
}

/// A list as fail2ban draws it.
fn tree(ignored: &BTreeSet<Offender>) -> String {
    let last = ignored.len().saturating_sub(1);
    let lines =
        ignored.iter().enumerate().map(|(n, item)| format!("{} {item}", if n == last { "`-" } else { "|-" }));
    match ignored.is_empty() {
        true => "No IP address/network is ignored".to_owned(),
        false => {
            format!("These IP addresses/networks are ignored:\n{}", lines.collect::<Vec<_>>().join("\n"))
        }
    }
}

/// A ban with its times in the host's zone.
fn with_time(ban: &BanLine) -> String {
    let instant = |text: &str| text.parse::<jiff::Timestamp>().unwrap_or_default();
    let seconds = |until: &str| instant(until).as_second() - instant(&ban.since).as_second();
    let (seconds, until) = match ban.until.as_deref() {
        Some(until) => (seconds(until), local(until)),
        None => (-1, "9999-12-31 23:59:59".to_owned()),
    };
    format!("{} \t{} + {seconds} = {until}", ban.address, local(&ban.since))
}

/// What to do in place of what fail2ban-client would do.
fn no_counterpart(line: &[&str]) -> String {
    let help =
        || "`fail2ban-client -h` lists the supported verbs, `banstream --help` all commands".to_owned();
    let instead = words::command(line).unwrap_or_else(help);
    format!("`{}` is not done here; instead: {instead}", line.join(" "))
}
