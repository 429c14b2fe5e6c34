//! The inputs of the hub.

use tokio::sync::oneshot;

use super::host_addresses::HostAddresses;
use crate::config::load::{AllowFiles, Loaded};
use crate::control::{Command, Reply};
use crate::input::Batch;
use crate::kernel::{Element, Firewall, Timeout};

/// All that can happen to the hub.
pub(super) enum Input {
    /// A source has read something.
    Batch(Batch),
    /// An operator wants something.
    Command(Command, oneshot::Sender<Reply>),
    /// The configuration has been read again, and is sound.
    Reload(Box<Loaded>, oneshot::Sender<()>),
    /// The host's own addresses have changed, or a file of exemptions.
    HostChanged(HostAddresses, AllowFiles),
    /// What the kernel held after a start, if it could be listed, and where to ask whether it does so still.
    Listed(Option<Vec<(Element, Timeout)>>, Box<dyn Firewall>),
    /// A second is over, or there is something else to look after.
    Tick,
    /// There is nothing after this.
    Stop,
}
