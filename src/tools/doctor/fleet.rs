//! What a fleet finds out about itself: whether this host hears the others, what it does not believe, and whether its
//! key is its own.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::findings::Findings;
use crate::config::FLEET_JAIL;
use crate::control::{FleetStatus, PeerStatus};
use crate::model::{Mode, Span, count};

/// By how many seconds clocks may differ: news of others take a part of that.
const CLOCK: u64 = 30;

/// What a host refuses of a member if somebody else writes in its name.
const IMPOSTURE: [&str; 2] = ["forged", "replayed"];

impl Findings {
    /// What a host says of its fleet.
    pub(super) fn fleet(&mut self, fleet: &FleetStatus) {
        match &fleet.server {
            Some(server) => {
                let members = count(fleet.members, "member");
                self.ok("fleet", format!("the fleet is connected: {server}; {members}"));
                if let Some(why) = &fleet.error {
                    self.doubtful(
                        "fleet-full",
                        format!("the fleet's server has no room for new bans of this host, so the others do not have them: {why}"),
                        "see with `nats stream subjects KV_banstream-bans` who fills the bucket, and remove that host; or give \
                         the bucket more room with `nats stream edit`",
                    );
                }
            }
            None => {
                let span = Span::from_secs(fleet.down.unwrap_or_default());
                let why = fleet.error.as_deref().unwrap_or("no server has answered yet");
                self.doubtful(
                    "fleet-disconnected",
                    format!(
                        "the fleet is not connected for {span}, so bans of other hosts do not come: {why}"
                    ),
                    "follow that message; the daemon tries again by itself, and bans of this host go on",
                );
            }
        }
        if fleet.mode == Mode::Observe {
            self.note(
                "fleet-observes",
                "bans of other hosts of the fleet are only observed".to_owned(),
                "once they are right, set `mode = \"enforce\"` in [fleet]",
            );
        }
        for PeerStatus { host, aside, ahead, .. } in &fleet.peers {
            if let Some(why) = aside {
                self.doubtful(
                    "peer-set-aside",
                    format!("{host} of the fleet is set aside, so its new bans have no effect here: {why}"),
                    &format!(
                        "see its bans (`banstream bans --jail {FLEET_JAIL}{host}`); `banstream unban --jail \
                         {FLEET_JAIL}{host}` lifts them, and `banstream fleet accept {host}` hears it again"
                    ),
                );
            }
            if let Some(ahead) = ahead.filter(|ahead| ahead.unsigned_abs() > CLOCK) {
                let (span, side) =
                    (Span::from_secs(ahead.unsigned_abs()), if ahead > 0 { "ahead" } else { "behind" });
                self.doubtful(
                    "fleet-clock",
                    format!("the clock of {host} of the fleet is {span} {side}, so its bans end at a wrong time here"),
                    "let chrony or systemd-timesyncd set the clocks of both hosts",
                );
            }
        }
        let mut refused: Vec<String> = fleet.peers.iter().flat_map(imposture).collect();
        if fleet.strangers > 0 {
            refused.push(format!("{} of hosts that no operator has admitted", fleet.strangers));
        }
        if !refused.is_empty() {
            self.doubtful(
                "fleet-refused",
                format!("what others say in the fleet was refused since the start: {}", refused.join(", ")),
                "after a host got another key this is normal; otherwise somebody writes in the name of others: compare \
                 the users of the server with `banstream fleet hosts`",
            );
        }
    }

    /// That others could speak in the name of this host.
    pub(super) fn open_seed(&mut self, path: &str) {
        self.wrong(
            "fleet-seed-open",
            format!("all users may read the key of this host in the fleet: `{path}`"),
            &format!(
                "chmod o= {path}; if somebody may have read it, give this host another key (contrib/fleet.md)"
            ),
        );
    }
}

fn imposture(peer: &PeerStatus) -> impl Iterator<Item = String> {
    let of = |why| peer.refused.get(why).map(|times| format!("{times} {why} of {}", peer.host));
    IMPOSTURE.into_iter().filter_map(of)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::doctor::Facts;
    use crate::tools::doctor::findings::tests::check;

    fn fleet() -> FleetStatus {
        FleetStatus {
            mode: Mode::Enforce,
            server: Some("nats1".to_owned()),
            peers: vec![PeerStatus { host: "web2".to_owned(), ahead: Some(1), ..PeerStatus::default() }],
            ..FleetStatus::default()
        }
    }

    #[track_caller]
    fn finds(harm: impl FnOnce(&mut FleetStatus), want: &[&str]) {
        let mut fleet = fleet();
        harm(&mut fleet);
        check(|facts| facts.daemon.as_mut().unwrap().fleet = Some(fleet), want);
    }

    #[test]
    fn a_fault_of_the_fleet_is_found() {
        finds(|_| {}, &[]);
        finds(|fleet| fleet.mode = Mode::Observe, &["fleet-observes."]);
        finds(|fleet| (fleet.server, fleet.down) = (None, Some(300)), &["fleet-disconnected"]);
        finds(|fleet| fleet.error = Some("maximum bytes exceeded".to_owned()), &["fleet-full"]);
        finds(|fleet| fleet.peers[0].aside = Some("x".to_owned()), &["peer-set-aside"]);
        finds(|fleet| fleet.strangers = 1, &["fleet-refused"]);
        for (reason, want) in
            [("forged", &["fleet-refused"][..]), ("replayed", &["fleet-refused"]), ("exempt", &[])]
        {
            finds(|fleet| fleet.peers[0].refused = [(reason.to_owned(), 1)].into(), want);
        }
        for (ahead, want) in [(30, &[][..]), (-30, &[]), (31, &["fleet-clock"]), (i64::MIN, &["fleet-clock"])]
        {
            finds(|fleet| fleet.peers[0].ahead = Some(ahead), want);
        }
        // A host may be there to enforce bans only.
        let silent = |facts: &mut Facts| {
            let daemon = facts.daemon.as_mut().unwrap();
            daemon.sources.clear();
            daemon.fleet = Some(fleet());
        };
        check(silent, &["no-source."]);
        check(|facts| facts.open_seed = Some("/s".to_owned()), &["FLEET-SEED-OPEN"]);
    }
}
