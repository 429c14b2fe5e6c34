//! Takes over fail2ban's bans, with their ends and counts, in the jails that fail2ban's jails become.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use serde::Serialize;

use super::jails::jail_name;
use super::plan::{ImportPlan, ImportedJail};
use crate::config::load::Loaded;
use crate::control::TakenCounts;
use crate::daemon::BansTarget;
use crate::model::{Ban, BanOrigin, BanTerms, Mode, Port, Timestamp, plain};
use crate::store::{self, Fail2banBans};

/// The reason of bans that were taken over.
pub(super) const TAKEN_OVER: &str = "imported from fail2ban";

/// What is known of fail2ban's bans.
#[derive(Clone, Debug, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BanSummary {
    /// How many are in force.
    pub in_force: u64,
    /// How many are over, or were lifted.
    pub past: u64,
    /// How many rows of its database were left out, since a value is not as fail2ban writes it or no host has the address.
    pub unread: u64,
    /// What became of them here; `None` if nothing was taken over.
    pub taken: Option<TakenCounts>,
    /// Where they went; `None` if nothing was taken over.
    pub to: Option<BansTarget>,
}

/// Reads fail2ban's database; nothing where there is none.
///
/// # Errors
///
/// It cannot be read.
pub(super) fn read(database: Option<&Path>, loaded: &Loaded, now: Timestamp) -> anyhow::Result<Fail2banBans> {
    let Some(path) = database.filter(|path| path.exists()) else { return Ok(Fail2banBans::default()) };
    store::fail2ban(path, loaded.config.detection.widths, now)
        .with_context(|| format!("cannot read fail2ban's database `{}`", path.display()))
}

/// Counts the bans.
pub(super) fn summary(found: &Fail2banBans, now: Timestamp) -> BanSummary {
    let in_force = found.bans.iter().filter(|ban| ban.is_in_force(now)).count() as u64;
    BanSummary { in_force, past: found.past, unread: found.unread, ..BanSummary::default() }
}

/// The bans as they are to be here. A jail that is off enforces none of its bans, so they only count. Those of a jail that
/// lets addresses in are left out.
pub(super) fn ours(found: &Fail2banBans, plan: &ImportPlan, loaded: &Loaded, now: Timestamp) -> Vec<Ban> {
    let here: Vec<&str> = loaded.config.detection.jails.iter().map(|jail| &*jail.name).collect();
    let reason: Arc<str> = TAKEN_OVER.into();
    let mut jails: BTreeMap<&str, Arc<BanTerms>> = BTreeMap::new();
    let jail = |name: &str| plan.jails.iter().find(|jail| jail.original == name);
    let bans = found.bans.iter().filter(|ban| jail(&ban.jail).is_none_or(|jail| !jail.lets_in));
    let bans = bans.map(|ban| {
        let terms = jails.entry(&ban.jail).or_insert_with(|| {
            let jail = jail(&ban.jail);
            let name = jail.filter(|jail| !jail.grammars.is_empty()).map(|jail| jail.name.clone());
            Arc::new(BanTerms {
                jail: name.unwrap_or_else(|| free_name(&ban.jail, plan, &here)).into(),
                kind: BanOrigin::Auto,
                mode: Mode::Enforce,
                ports: ports(jail),
                reason: Arc::clone(&reason),
            })
        });
        Ban {
            offender: ban.offender,
            times: ban.times,
            since: ban.since,
            until: match jail(&ban.jail) {
                Some(_) => ban.until,
                None => Some(ban.until.map_or(now, |until| until.min(now))),
            },
            terms: Arc::clone(terms),
        }
    });
    bans.collect()
}

/// Some that were left out, with the reason.
pub(super) fn named(taken: &TakenCounts) -> String {
    let named: Vec<String> =
        taken.examples.iter().map(|one| format!("{} ({})", one.address, plain(&one.why))).collect();
    named.join(", ")
}

/// The name of a jail that is not a jail here, so that its bans count in none.
fn free_name(original: &str, plan: &ImportPlan, here: &[&str]) -> String {
    let name = jail_name(original);
    let mut imported = plan.jails.iter().filter(|jail| !jail.grammars.is_empty());
    match here.contains(&&*name) || imported.any(|jail| jail.name == name) {
        true => format!("f2b-{name}"),
        false => name,
    }
}

fn ports(jail: Option<&ImportedJail>) -> Arc<[Port]> {
    let texts = jail.into_iter().flat_map(|jail| &jail.ports).filter_map(|text| text.split_once('/'));
    let port = |number: &str, protocol: &str| format!("{number}/{protocol}").parse().ok();
    texts.flat_map(|(numbers, protocol)| numbers.split(',').filter_map(move |n| port(n, protocol))).collect()
}
