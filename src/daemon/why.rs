//! Completes the answer to `why` from the ledger and the kernel.
//!
//! Both may take a while, and bans must not wait for an answer to a person. So the ledger is read beside its writer,
//! and the kernel over a separate socket. Missing information is reported.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Backend, Config, Enforce};
use crate::control::{BanWhy, ElementWhy, JailWhy, LineWhy, MOST_LINES, Why};
use crate::grammar::Grammars;
use crate::kernel::{EnforceError, Ipset, Nftables};
use crate::model::{BanOrigin, Offender, Port};
use crate::store::{History, LedgerError, Role};

/// How long each may take: a set of a million takes the kernel half a second, and a disk may hang.
const PATIENCE: Duration = Duration::from_secs(5);

/// An answer that is not complete.
pub(super) struct PartialWhy {
    /// What the detector knows.
    pub(super) why: Why,
    pub(super) config: Config,
    pub(super) grammars: Arc<Grammars>,
    /// Whether bans go to the kernel.
    pub(super) is_enforced: bool,
    /// The ledger's directory, if there is one.
    pub(super) ledger: Option<String>,
}

impl PartialWhy {
    /// The whole answer, after 5 s at the latest.
    pub(super) async fn finish(self) -> Why {
        let Self { mut why, config, grammars, is_enforced, ledger } = self;
        let who = why.address;
        let settings = config.enforce.as_ref().filter(|_| is_enforced).cloned();
        let ports =
            config.detection.jails.iter().flat_map(|jail| jail.ports.iter().copied().map(Some)).collect();
        let (lines, held) = tokio::join!(
            patiently("the ledger", {
                let why = why.clone();
                let read = move |directory: String| {
                    with_lines(why, &History::open(Path::new(&directory))?, &grammars)
                };
                move || ledger.map(read).transpose()
            }),
            patiently("the kernel", move || {
                settings.map(|settings| held(settings, who, ports)).transpose()
            }),
        );
        match lines {
            Ok(Some(with_lines)) => why = with_lines,
            Ok(None) => why.unknown.push("the daemon keeps no ledger, so the lines are unknown".to_owned()),
            Err(error) => why.unknown.push(error),
        }
        match held {
            Ok(held) => why.kernel = held,
            Err(error) => why.unknown.push(error),
        }
        why
    }
}

/// The result of the task, or what is wrong, in time.
async fn patiently<T: Send + 'static, E: ToString + Send + 'static>(
    source: &str,
    task: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, String> {
    match tokio::time::timeout(PATIENCE, tokio::task::spawn_blocking(task)).await {
        Ok(Ok(done)) => done.map_err(|error| format!("cannot ask {source}: {}", error.to_string())),
        Ok(Err(_)) => Err(format!("cannot ask {source}: the task failed")),
        Err(_) => Err(format!("{source} does not respond")),
    }
}

fn with_lines(mut why: Why, ledger: &History, grammars: &Grammars) -> Result<Why, LedgerError> {
    let lines = |offender: Offender, jail: &str, role, most: u8| {
        let lines = ledger.counted(offender, jail, role, most.min(MOST_LINES))?;
        Ok::<_, LedgerError>(lines.iter().map(|line| LineWhy::new(line, grammars)).collect())
    };
    for BanWhy { ban, lines: told, .. } in why.bans.iter_mut().filter(|why| why.ban.kind == BanOrigin::Auto) {
        let most =
            why.jails.iter().find(|jail| jail.name == ban.jail).map_or(MOST_LINES, |jail| jail.maxretry);
        *told = lines(ban.address, &ban.jail, Role::Evidence, most)?;
    }
    for JailWhy { name, offender, counted, lines: told, .. } in &mut why.jails {
        *told = lines(*offender, name, Role::Counted, *counted)?;
    }
    Ok(why)
}

/// What the kernel holds of `who`. nftables is asked by key: for all ports, and for these.
fn held(
    settings: Enforce,
    who: Offender,
    mut ports: BTreeSet<Option<Port>>,
) -> Result<Vec<ElementWhy>, EnforceError> {
    let held = match settings.backend {
        Backend::Nftables => {
            ports.insert(None);
            Nftables::held(&settings.set, who, &ports)?
        }
        Backend::Auto | Backend::Ipset => Ipset::open(settings)?.held(who)?,
    };
    Ok(held.into_iter().map(ElementWhy::from).collect())
}
