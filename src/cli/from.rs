//! `ban`, `unban` and `allow` of a list: `--from FILE`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};

use super::answer::{operator, print, say_undone};
use super::{ClientCommand, REFUSED, SocketArgs};
use crate::control::client::{self, UNCLEAR};
use crate::control::server::{MAX_BODY, MOST_BANS};
use crate::control::{ChangePage, ChangeReport, ChangeRequest, Command, Target, list_id};
use crate::daemon;
use crate::detect::manual;
use crate::model::{Ban, Offender, Timestamp, count, plain};
use crate::tools::list::{self, BanDetails, ListedAddress, ListedChanges};
use crate::tools::offline::warn;
use crate::tools::terminal::say_that_input_is_awaited;

/// A command that takes a list.
pub(super) struct ListedCommand<'a> {
    remote: &'a SocketArgs,
    file: &'a Path,
    force: bool,
    /// When the list was read.
    now: Timestamp,
    /// What it does with each address.
    request: Box<dyn Fn(ListedAddress) -> ChangeRequest + 'a>,
}

impl<'a> ListedCommand<'a> {
    /// This command, if it takes a list.
    pub(super) fn of(ask: &'a ClientCommand) -> Option<Self> {
        let or = |said: String, general: &String| if said.is_empty() { general.clone() } else { said };
        let now = daemon::now();
        let (remote, file, force, request): (_, _, _, Box<dyn Fn(ListedAddress) -> _ + 'a>) = match ask {
            ClientCommand::Ban { remote, from: Some(file), length, reason, force, .. } => {
                let request = move |listed: ListedAddress| {
                    let (address, reason) = (listed.offender, or(listed.comment, reason));
                    let length = listed.length.or(*length);
                    match listed.details {
                        None => ChangeRequest::Ban { address, length, reason },
                        Some(details) => {
                            let until = length.and_then(|length| length.0).map(|span| now + span);
                            ChangeRequest::Restore(Box::new(exported(address, until, &reason, *details, now)))
                        }
                    }
                };
                (remote, file, *force, Box::new(request))
            }
            ClientCommand::Unban { remote, from: Some(file), .. } => {
                let request = |listed: ListedAddress| ChangeRequest::Unban(Target::One(listed.offender));
                (remote, file, false, Box::new(request))
            }
            ClientCommand::Allow { remote, from: Some(file), length, comment, force, .. } => {
                let request = move |listed: ListedAddress| ChangeRequest::Allow {
                    address: listed.offender,
                    length: listed.length.or(*length),
                    comment: or(listed.comment, comment),
                };
                (remote, file, *force, Box::new(request))
            }
            _ => return None,
        };
        Some(Self { remote, file, force, now, request })
    }

    /// Carries it out, page by page, once the whole list is read: 0 where all was done, 1 where a line is wrong, and then
    /// nothing is done, or where the daemon refuses some.
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        if self.file == Path::new("-") {
            say_that_input_is_awaited();
        }
        let ListedChanges { changes, left_out, wrong, faults } =
            list::changes(self.file, self.now, &self.request)?;
        let file = plain(self.file.as_os_str().as_encoded_bytes());
        for (line, why) in faults {
            warn(format_args!("{file}:{line}: {}", plain(why)));
        }
        if wrong > 0 {
            warn(format_args!("error: {} wrong; nothing was done", count(wrong, "line")));
            return Ok(ExitCode::from(REFUSED));
        }
        let (mut report, list, operator) = (ChangeReport::default(), list_id(), operator());
        for page in pages(changes) {
            let page = ChangePage { changes: page, force: self.force, operator, list: Some(list) };
            let answer = client::send(&self.remote.socket, &Command::Change(page))?;
            if let Some(error) = answer.refusal() {
                bail!("{error}; before that: {}", report.summary());
            }
            report.join(serde_json::from_str(&answer.body).context(UNCLEAR)?);
        }
        self.print(&report, left_out)?;
        let is_done = say_undone(&report);
        Ok(if is_done { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) })
    }

    fn print(&self, report: &ChangeReport, left_out: u64) -> anyhow::Result<()> {
        if self.remote.json {
            return print(&format!("{}\n", serde_json::to_string(report)?));
        }
        let mut parts = vec![report.summary()];
        parts.retain(|part| !part.is_empty());
        if left_out > 0 {
            parts.push(format!("{} left out (over, or without an address)", count(left_out, "line")));
        }
        print(&format!(
            "{}\n",
            if parts.is_empty() { "the list is empty".to_owned() } else { parts.join(", ") }
        ))
    }
}

/// A ban as an exported list has it.
fn exported(
    address: Offender,
    until: Option<Timestamp>,
    reason: &str,
    details: BanDetails,
    now: Timestamp,
) -> Ban {
    let BanDetails { jail, ports, since, times } = details;
    let ban = Ban { times: times.unwrap_or(1), ..manual(address, since.unwrap_or(now), until, reason) };
    ban.with(|terms| {
        terms.ports = ports.into();
        if let Some(jail) = jail {
            terms.jail = jail.into();
        }
    })
}

/// The changes in pages, none of which is too long for the socket.
fn pages(changes: Vec<ChangeRequest>) -> impl Iterator<Item = Vec<ChangeRequest>> {
    // What it takes at most in JSON, where a quotation mark is two bytes.
    let bytes = |change: &ChangeRequest| {
        256 + match change {
            ChangeRequest::Ban { reason: text, .. } | ChangeRequest::Allow { comment: text, .. } => {
                2 * text.len()
            }
            ChangeRequest::Restore(ban) => 2 * (ban.jail.len() + ban.reason.len()) + 16 * ban.ports.len(),
            ChangeRequest::Unban(_) | ChangeRequest::Disallow { .. } => 0,
        }
    };
    let mut changes = changes.into_iter().peekable();
    std::iter::from_fn(move || {
        let mut page = vec![changes.next()?];
        let mut room = (MAX_BODY - 1024).saturating_sub(page.iter().map(bytes).sum());
        while page.len() < MOST_BANS
            && let Some(change) = changes.next_if(|change| bytes(change) <= room)
        {
            room -= bytes(&change);
            page.push(change);
        }
        Some(page)
    })
}
