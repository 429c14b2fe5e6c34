//! Opens the backend that the settings mean, and keeps the socket to which the table of nftables belongs.
//!
//! systemd keeps the socket, too, and gives it to the next process of the service: so the table has an owner, and nobody
//! can flush it, while the daemon is restarted or dead.

use std::os::fd::{AsFd, OwnedFd};

use sd_notify::NotifyState;

use crate::config::{Backend, Config, Enforce};
use crate::kernel::{self, DryRun, EnforceError, Firewall, Ipset, Nftables, TableFacts, TableOwner};
use crate::model::count;

/// The name of the socket in systemd's store.
const NAME: &str = "nftables";

/// Opens firewalls.
#[derive(Default)]
pub(super) struct Firewalls {
    owner: Option<TableOwner>,
}

impl Firewalls {
    /// Decides which backend `auto` means here; why it is that one.
    pub(super) fn choose(config: &mut Config) -> Result<Option<String>, EnforceError> {
        let Some(enforce) = &mut config.enforce else { return Ok(None) };
        let (backend, why) = kernel::choose(enforce)?;
        enforce.backend = backend;
        Ok(Some(format!("bans go to {}: {why}", backend.name())))
    }

    /// The firewall of these settings, whose backend is chosen; one that does nothing without any.
    pub(super) fn open(&mut self, enforce: Option<&Enforce>) -> Result<Box<dyn Firewall>, EnforceError> {
        let Some(enforce) = enforce else { return Ok(Box::new(DryRun)) };
        Ok(match enforce.backend {
            Backend::Nftables => Box::new(Nftables::open(enforce.clone(), self.owner()?)?),
            Backend::Auto | Backend::Ipset => Box::new(Ipset::open(enforce.clone())?),
        })
    }

    /// Takes out what the other backend enforces, of an earlier start.
    pub(super) fn withdraw_other(&mut self, enforce: Option<&Enforce>) {
        let withdrawn = match enforce {
            None => Ok(None),
            Some(enforce) if enforce.backend == Backend::Nftables => withdraw_ipset(enforce),
            Some(enforce) => self.withdraw_nftables(enforce),
        };
        match withdrawn {
            Ok(None) => {}
            Ok(Some(what)) => log::info!("removed {what}, which another backend enforced"),
            Err(error) => log::error!("cannot remove what another backend enforces: {error}"),
        }
    }

    /// Takes out the table; what that was, if there was one.
    pub(super) fn withdraw_nftables(&mut self, enforce: &Enforce) -> Result<Option<String>, EnforceError> {
        // A kernel without nftables has no table.
        let Ok(Some(table)) = TableFacts::look(&enforce.set) else { return Ok(None) };
        let settings = Enforce { target: Enforce::default().target, ..enforce.clone() };
        Nftables::open(settings, self.owner()?)?.withdraw()?;
        let elements = table
            .elements()
            .map_or(String::new(), |elements| format!(" with {}", count(elements, "element")));
        Ok(Some(format!("the table `inet {}`{elements}", enforce.set)))
    }

    fn owner(&mut self) -> Result<TableOwner, EnforceError> {
        if let Some(owner) = &self.owner {
            return Ok(owner.clone());
        }
        let kept = stored();
        let is_kept = kept.is_some();
        let owner = TableOwner::open(kept)?;
        if !is_kept && let Ok(socket) = owner.socket() {
            // Without systemd nobody takes it, and the next start takes over the table.
            let _ = sd_notify::notify_with_fds(
                // systemd lets go of what it polls when an error is pending, such as one for answers that nobody has read.
                &[NotifyState::FdStore, NotifyState::FdName(NAME), NotifyState::Custom("FDPOLL=0")],
                &[socket.as_fd()],
            );
        }
        Ok(self.owner.insert(owner).clone())
    }
}

/// Takes out rule and sets of ipset; what that was, if there were any.
pub(super) fn withdraw_ipset(enforce: &Enforce) -> Result<Option<String>, EnforceError> {
    let mut ipset = Ipset::open(enforce.clone())?;
    // A kernel without ip_set has none.
    if !ipset.exists().unwrap_or(false) {
        return Ok(None);
    }
    ipset.withdraw()?;
    let elements = ipset.destroy()?;
    Ok(Some(format!("the rule and {} of `{}`", count(elements, "element"), enforce.set)))
}

/// The socket that systemd has kept.
fn stored() -> Option<OwnedFd> {
    let kept = sd_listen_fds::get().unwrap_or_default();
    let (_, socket) = kept.into_iter().find(|(name, _)| name.as_deref() == Some(NAME))?;
    // A clone is not inherited by the programs that we run.
    socket.into_std().try_clone().ok()
}
