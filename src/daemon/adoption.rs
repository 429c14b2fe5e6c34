//! Takes over the elements in the kernel that the ledger knows nothing of, in place of taking them out: after a crash they
//! may be the bans of its last moments.

use std::collections::{BTreeMap, HashSet};

use tokio::sync::mpsc;

use super::inbox::Input;
use super::ledger_writer::LedgerQueue;
use super::now;
use crate::detect::manual;
use crate::engine::Engine;
use crate::kernel::{Element, Firewall, Timeout, elements};
use crate::model::{Ban, Decision, Offender, Span, count};
use crate::store::LedgerUpdate;

/// The jail of bans that were found in the kernel and are in no ledger.
pub const ADOPTED: &str = "kernel";

/// Lists the kernel's elements, and gives them to the hub to adopt.
pub(super) fn list(mut firewall: Box<dyn Firewall>, inbox: &mpsc::Sender<Input>) {
    let listing = firewall.list().inspect_err(|error| log::error!("cannot list the kernel's sets: {error}"));
    // The hub is gone only where the daemon ends.
    drop(inbox.blocking_send(Input::Listed(listing.ok().map(|listing| listing.elements), firewall)));
}

/// Those of the elements that no ban explains, and that are not among `lifted`.
pub(super) fn unknown(
    engine: &mut Engine<'_>,
    mut listing: Vec<(Element, Timeout)>,
    lifted: HashSet<Element>,
) -> Vec<(Element, Timeout)> {
    let mut known = lifted;
    known.extend(engine.detector().bans().flat_map(elements));
    listing.retain(|(element, _)| !known.contains(element));
    listing
}

/// Makes bans of these elements, of a jail of their own. They end when the kernel would have ended them.
pub(super) fn adopt(engine: &mut Engine<'_>, mut unknown: Vec<(Element, Timeout)>, ledger: &mut LedgerQueue) {
    if unknown.is_empty() {
        return;
    }
    unknown.sort_unstable();
    let now = now();
    let mut found: BTreeMap<Offender, Ban> = BTreeMap::new();
    for (element, timeout) in unknown {
        let until = (timeout != Timeout::FOREVER).then(|| now + Span::from_secs(timeout.as_secs().into()));
        let reason = "found in the kernel, not in the ledger";
        let mut ban = manual(element.offender, now, until, reason);
        (ban.jail, ban.ports) = (ADOPTED.into(), element.port.into_iter().collect());
        // All ports come before single ones, and cover them.
        if let Some(known) = found.get(&element.offender) {
            ban.until = ban.until.zip(known.until).map(|(one, other)| one.max(other));
            let more = if known.ports.is_empty() { &[][..] } else { &*ban.ports };
            let ports = known.ports.iter().chain(more).copied().collect();
            ban.ports = ports;
        }
        found.insert(element.offender, ban);
    }
    log::warn!("adopted {} from the kernel that the ledger does not have", count(found.len() as u64, "ban"));
    found.values().for_each(|ban| engine.detector().restore(ban.clone(), now));
    let decisions: Vec<_> = found.into_values().map(Decision::Ban).collect();
    ledger.write(LedgerUpdate { decisions: decisions.into(), ..LedgerUpdate::default() }, None);
}
