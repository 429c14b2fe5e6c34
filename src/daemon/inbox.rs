//! The inputs of the hub.

use tokio::sync::oneshot;

use super::host_addresses::HostAddresses;
use crate::config::load::{AllowFiles, Loaded};
use crate::control::{ChangeReport, Command, Reply};
use crate::fleet::FleetNews;
use crate::input::Batch;
use crate::kernel::{Element, Firewall, Timeout};

/// All that can happen to the hub.
pub(super) enum Input {
    /// A source has read something.
    Batch(Batch),
    /// An operator wants something.
    Command(Command, oneshot::Sender<Reply>),
    /// The configuration has been read again, and is sound. The reply says what became of bans.
    Reload(Box<Loaded>, ReloadKind, oneshot::Sender<ChangeReport>),
    /// What would become of bans under this configuration?
    Preview(Box<Loaded>, oneshot::Sender<ChangeReport>),
    /// The configuration on trial stays.
    Kept,
    /// The host's own addresses have changed, or a file of exemptions.
    HostChanged(HostAddresses, AllowFiles),
    /// What the kernel held after a start, if it could be listed, and where to ask whether it does so still.
    Listed(Option<Vec<(Element, Timeout)>>, Box<dyn Firewall>),
    /// Something comes from the fleet.
    #[cfg_attr(not(feature = "fleet"), allow(dead_code, reason = "nothing comes"))]
    Fleet(FleetNews),
    /// A second is over, or there is something else to look after.
    Tick,
    /// There is nothing after this.
    Stop,
}

/// For how long a configuration is to be in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReloadKind {
    /// Until the next one.
    Permanent,
    /// Until somebody confirms it, or it is rolled back.
    Trial,
    /// It is the one before those on trial.
    Rollback,
}
