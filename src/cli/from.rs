//! `ban`, `unban` and `allow` of a list: `--from FILE`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};

use super::answer::{operator, print};
use super::{ClientCommand, REFUSED, SocketArgs};
use crate::control::client::{self, UNCLEAR};
use crate::control::server::MOST_BANS;
use crate::control::{
    BanLength, ChangeKind, ChangePage, ChangeReport, ChangeRequest, Command, Target, list_id,
};
use crate::daemon;
use crate::model::{Offender, count, plain};
use crate::tools::list::{self, ListedChanges};
use crate::tools::offline::warn;
use crate::tools::terminal::say_that_input_is_awaited;

/// A command that takes a list.
pub(super) struct ListedCommand<'a> {
    remote: &'a SocketArgs,
    file: &'a Path,
    force: bool,
    /// What it does with each address, with the time and the comment that the list gives it.
    request: Box<dyn Fn(Offender, Option<BanLength>, String) -> ChangeRequest + 'a>,
}

impl<'a> ListedCommand<'a> {
    /// This command, if it takes a list.
    pub(super) fn of(ask: &'a ClientCommand) -> Option<Self> {
        let or = |said: String, general: &String| if said.is_empty() { general.clone() } else { said };
        let (remote, file, force, request): (_, _, _, Box<dyn Fn(_, _, _) -> _ + 'a>) = match ask {
            ClientCommand::Ban { remote, from: Some(file), length, reason, force, .. } => {
                let request = move |address, listed: Option<BanLength>, said| ChangeRequest::Ban {
                    address,
                    length: listed.or(*length),
                    reason: or(said, reason),
                };
                (remote, file, *force, Box::new(request))
            }
            ClientCommand::Unban { remote, from: Some(file), .. } => {
                (remote, file, false, Box::new(|address, _, _| ChangeRequest::Unban(Target::One(address))))
            }
            ClientCommand::Allow { remote, from: Some(file), length, comment, .. } => {
                let request = move |address, listed: Option<BanLength>, said| ChangeRequest::Allow {
                    address,
                    length: listed.or(*length),
                    comment: or(said, comment),
                };
                (remote, file, false, Box::new(request))
            }
            _ => return None,
        };
        Some(Self { remote, file, force, request })
    }

    /// Carries it out, page by page, once the whole list is read: 0 where all was done, 1 where a line is wrong, and then
    /// nothing is done, or where the daemon refuses some.
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        if self.file == Path::new("-") {
            say_that_input_is_awaited();
        }
        let ListedChanges { changes, left_out, wrong, faults } =
            list::changes(self.file, daemon::now(), &self.request)?;
        let file = plain(self.file.as_os_str().as_encoded_bytes());
        for (line, why) in faults {
            warn(format_args!("{file}:{line}: {}", plain(why)));
        }
        if wrong > 0 {
            warn(format_args!("error: {} wrong; nothing was done", count(wrong, "line")));
            return Ok(ExitCode::from(REFUSED));
        }
        let (mut report, list, operator) = (ChangeReport::default(), list_id(), operator());
        let mut changes = changes.into_iter();
        loop {
            let page: Vec<ChangeRequest> = changes.by_ref().take(MOST_BANS).collect();
            if page.is_empty() {
                break;
            }
            let page = ChangePage { changes: page, force: self.force, operator, list: Some(list) };
            let answer = client::send(&self.remote.socket, &Command::Change(page))?;
            if let Some(error) = answer.refusal() {
                bail!("{error}; before that: {}", report.summary());
            }
            report.join(serde_json::from_str(&answer.body).context(UNCLEAR)?);
        }
        self.print(&report, left_out)?;
        let is_done = report.of(ChangeKind::Refused) == 0;
        Ok(if is_done { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) })
    }

    fn print(&self, report: &ChangeReport, left_out: u64) -> anyhow::Result<()> {
        if self.remote.json {
            return print(&format!("{}\n", serde_json::to_string(report)?));
        }
        let mut parts = vec![report.summary()];
        parts.retain(|part| !part.is_empty());
        if left_out > 0 {
            parts.push(format!("{left_out} over or not addresses"));
        }
        print(&format!(
            "{}\n",
            if parts.is_empty() { "the list is empty".to_owned() } else { parts.join(", ") }
        ))?;
        for note in report.notes.iter().filter(|note| note.kind == ChangeKind::Refused) {
            warn(format_args!("error: {}", plain(&note.text)));
        }
        Ok(())
    }
}
