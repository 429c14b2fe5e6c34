//! Takes over bans that were decided elsewhere: through a daemon that runs, or into the ledger for the next one.
//!
//! Both go by pages, and by the same detector. Such bans are not news: they are neither counted as decided nor sent to
//! receivers, and the log has a line for each page.

use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use serde::Serialize;

use super::allowances::Allowances;
use super::changes::recent_login;
use super::host_addresses::HostAddresses;
use super::hub::settings;
use super::restore;
use super::undo::UndoLog;
use crate::config::load::Loaded;
use crate::config::{is_jail_name, widest};
use crate::control::client;
use crate::control::server::{MAX_BODY, MOST_BANS};
use crate::control::{Command, TakenCounts, list_id};
use crate::detect::{Detector, ExemptionList, LIST, TakeOver, WIDE};
use crate::model::{Ban, Decision, Mode, Offender, Span, Timestamp};
use crate::store::{Ledger, LedgerUpdate, UndoItem};

/// What `undo` calls it.
pub(super) const IMPORT: &str = "import";

/// Where bans went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum BansTarget {
    /// Into the ledger, since no daemon runs.
    Ledger,
    /// Into the daemon that runs.
    Daemon,
}

/// The result of a page.
#[derive(Default)]
pub(super) struct TakenPage {
    pub(super) counts: TakenCounts,
    /// For the kernel.
    pub(super) enforced: Vec<Decision>,
    /// For the ledger.
    pub(super) decisions: Vec<Decision>,
    /// What there was before.
    pub(super) before: Vec<UndoItem>,
}

/// Takes over bans that were decided elsewhere. Those of a list cannot ban who logged in lately, and at least within `protects`.
pub(super) fn page(detector: &mut Detector, bans: Vec<Ban>, protects: Span, now: Timestamp) -> TakenPage {
    let mut page = TakenPage::default();
    let TakenPage { counts, enforced, decisions, before } = &mut page;
    for ban in bans {
        if let Some(why) = fault(&ban) {
            counts.refused += 1;
            counts.name(ban.offender, || why);
            continue;
        }
        let login = recent_login(detector, ban.offender, protects, now).filter(|_| *ban.jail == *LIST);
        if let Some(login) = login {
            counts.exempt += 1;
            counts.name(ban.offender, || {
                format!("{login}; `banstream ban {} --force` bans it all the same", ban.offender)
            });
            continue;
        }
        let known = detector.bans_on(ban.offender).find(|known| known.jail == ban.jail).cloned();
        let taken = detector.take_over(ban, now);
        let ban = taken.ban;
        match taken.outcome {
            TakeOver::New => counts.new += 1,
            TakeOver::Extended => counts.extended += 1,
            TakeOver::Covered => counts.covered += 1,
            TakeOver::Past => counts.past += 1,
            TakeOver::Exempt(by) => {
                counts.exempt += 1;
                counts.name(ban.offender, || by.to_string());
            }
        }
        let is_new = matches!(taken.outcome, TakeOver::New | TakeOver::Extended);
        if ban.mode == Mode::Observe && (is_new || taken.outcome == TakeOver::Covered) {
            counts.observed += 1;
            counts.name(ban.offender, || format!("`{}` only observes", ban.jail));
        } else if is_new {
            enforced.push(Decision::Ban(ban.clone()));
        }
        if taken.is_changed {
            before.push(match known {
                Some(known) => UndoItem::Replaced(known),
                None => UndoItem::NoBan(ban.offender, Arc::clone(&ban.jail)),
            });
            decisions.push(Decision::Ban(ban));
        }
    }
    page
}

/// Why this cannot be a ban here, if it cannot.
fn fault(ban: &Ban) -> Option<String> {
    let narrowest = widest(ban.offender);
    match () {
        () if ban.offender.prefix() < narrowest => Some(format!("it is wider than /{narrowest}")),
        () if !is_jail_name(&ban.jail) || *ban.jail == *WIDE => {
            Some(format!("`{}` is not a name of a jail that can have it", ban.jail))
        }
        () => None,
    }
}

/// Who is never banned on this host by its configuration and its addresses, and why.
pub fn exemptions(loaded: &Loaded) -> Vec<(Offender, ExemptionList)> {
    let host = HostAddresses::look(&HostAddresses::default());
    settings(loaded, &host, &Allowances::default()).ignore
}

/// Takes bans over: into the ledger, if no daemon has it open, or else through that daemon's socket, page by page.
///
/// # Errors
///
/// The ledger cannot be written, or the daemon refuses. The pages before were taken over.
pub fn take_over(
    bans: impl IntoIterator<Item = Ban>,
    loaded: &Loaded,
    now: Timestamp,
) -> anyhow::Result<(TakenCounts, BansTarget)> {
    let (directory, socket) = (&loaded.config.state_directory, &client::socket_of(&loaded.config));
    let place = || format!("cannot write the ledger in `{}`", directory.display());
    // A daemon that is named need not have the ledger of this configuration.
    if client::named_socket().is_some() && UnixStream::connect(socket).is_ok() {
        return Ok((send(bans, socket)?, BansTarget::Daemon));
    }
    match Ledger::open(directory, loaded.config.ledger) {
        Ok(ledger) => {
            let counts = write(bans, ledger, loaded, now).with_context(place)?;
            give_to_owner(directory).with_context(place)?;
            Ok((counts, BansTarget::Ledger))
        }
        // Who may use the socket need not be allowed to write the ledger.
        Err(error) if error.is_locked() || UnixStream::connect(socket).is_ok() => {
            Ok((send(bans, socket)?, BansTarget::Daemon))
        }
        Err(error) => Err(anyhow::Error::new(error).context(place())),
    }
}

/// Takes bans over through the socket of a daemon. When it returns, they are in force.
///
/// # Errors
///
/// No daemon answers, or it refuses. The pages before were taken over.
pub fn send(bans: impl IntoIterator<Item = Ban>, socket: &Path) -> anyhow::Result<TakenCounts> {
    let (mut counts, list) = (TakenCounts::default(), Some(list_id()));
    for bans in pages(bans) {
        let answer = client::send(socket, &Command::TakeOver { bans, list })?;
        if let Some(why) = answer.refusal() {
            bail!("banstream refuses to take over bans: {why}");
        }
        counts.add(serde_json::from_str(&answer.body).context("the daemon has another version")?);
    }
    Ok(counts)
}

fn write(
    bans: impl IntoIterator<Item = Ban>,
    mut ledger: Ledger,
    loaded: &Loaded,
    now: Timestamp,
) -> anyhow::Result<TakenCounts> {
    let mut memory = ledger.memory(&loaded.grammars)?;
    let allowances = Allowances::new(std::mem::take(&mut memory.allowances));
    let host = HostAddresses::look(&HostAddresses::default());
    let mut engine = restore(loaded, settings(loaded, &host, &allowances), &mut memory);
    let (mut counts, list) = (TakenCounts::default(), Some(list_id()));
    let mut undo = UndoLog::new(std::mem::take(&mut memory.undo));
    for bans in pages(bans) {
        let page = page(engine.detector(), bans, loaded.config.detection.protect_logins, now);
        undo.add(list, now, IMPORT.to_owned(), page.before);
        let (decisions, undo) = (page.decisions.into(), undo.take_updates());
        ledger.write(&[LedgerUpdate { decisions, undo, ..LedgerUpdate::default() }], now)?;
        counts.add(page.counts);
    }
    Ok(counts)
}

/// The bans in pages, none of which is too long for the socket.
fn pages(bans: impl IntoIterator<Item = Ban>) -> impl Iterator<Item = Vec<Ban>> {
    // What it takes at most in JSON, where a quotation mark is two bytes.
    let bytes = |ban: &Ban| 256 + 2 * (ban.jail.len() + ban.reason.len()) + 16 * ban.ports.len();
    let mut bans = bans.into_iter().peekable();
    std::iter::from_fn(move || {
        let mut page = vec![bans.next()?];
        let mut room = MAX_BODY.saturating_sub(page.iter().map(bytes).sum());
        while page.len() < MOST_BANS
            && let Some(ban) = bans.next_if(|ban| bytes(ban) <= room)
        {
            room -= bytes(&ban);
            page.push(ban);
        }
        Some(page)
    })
}

/// Gives the files of the ledger to the owner of their folder, which is the user of the daemon.
fn give_to_owner(directory: &Path) -> std::io::Result<()> {
    let owner = std::fs::metadata(directory)?;
    for entry in std::fs::read_dir(directory)?.flatten() {
        let about = entry.metadata()?;
        let is_ledger = entry.file_name().as_encoded_bytes().starts_with(b"ledger.");
        if is_ledger && about.is_file() && (about.uid(), about.gid()) != (owner.uid(), owner.gid()) {
            chown(entry.path(), Some(owner.uid()), Some(owner.gid()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::manual;
    use crate::model::{Port, Protocol};

    #[test]
    fn no_page_is_too_long() {
        let ports = |count: u16| (1..=count).map(|number| Port { protocol: Protocol::Tcp, number });
        let ban = |ports: Vec<Port>| {
            let reason = "\"".repeat(200);
            let ban = manual("192.0.2.1".parse().unwrap(), Timestamp::default(), None, &reason);
            ban.with(|ban| ban.ports = ports.into())
        };
        let lengths = |bans: Vec<Ban>| pages(bans).map(|page| page.len()).collect::<Vec<_>>();
        assert_eq!(lengths(vec![ban(Vec::new()); 2001]), [1000, 1000, 1]);
        let many = vec![ban(ports(2000).collect()); 100];
        let pages: Vec<Vec<Ban>> = pages(many.clone()).collect();
        assert_eq!(pages.concat(), many);
        for page in pages {
            let request = client::request(&Command::TakeOver { bans: page, list: None }).unwrap();
            let length = hyper::body::Body::size_hint(request.body()).exact().unwrap();
            assert!(length <= MAX_BODY as u64, "{length}");
        }
        assert_eq!(lengths(Vec::new()), [0_usize; 0]);
    }
}
