//! A connection to a server of the fleet, and what is found there.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use async_nats::jetstream::{self, kv};
use async_nats::{Client, ConnectOptions, Event, ServerAddr};
use ed25519_dalek::VerifyingKey;
use futures_util::{StreamExt, TryStreamExt};
use nkeys::KeyPair;
use tokio::sync::mpsc;

use super::FleetOrder;
use super::member::SignedRecords;
use super::sealed::verifier;
use crate::config::Fleet;

/// The oldest server that the client speaks with: buckets of older ones cannot be made (NATS 2.9).
const OLDEST: (u64, u64) = (2, 10);
/// How long a server may take to answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// How many entries are heard together at most, and how many are told before the server has stored the first.
pub(super) const TOGETHER: usize = 1024;

/// A client, and what ends its connection.
pub(super) struct FleetConnection {
    pub(super) client: Client,
    pub(super) buckets: jetstream::Context,
    /// Those of all servers that are configured.
    pub(super) addresses: Vec<IpAddr>,
    pub(super) lost: mpsc::Receiver<String>,
}

/// What to log in with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FleetLogin {
    /// What the configuration says: credentials, or a certificate, or the seed.
    Configured,
    /// The seed.
    Seed,
}

/// Connects, with this key pair unless the configuration has other credentials.
///
/// # Errors
///
/// A file cannot be read, no server answers, it does not know us, or it is too old.
pub(super) async fn connect(fleet: &Fleet, seed: &str, login: FleetLogin) -> anyhow::Result<FleetConnection> {
    let (end, lost) = mpsc::channel(1);
    let mut options = ConnectOptions::new()
        .name(format!("banstream {}", fleet.host))
        .connection_timeout(PATIENCE)
        .request_timeout(Some(PATIENCE))
        .ping_interval(Duration::from_secs(10))
        // So that the server can keep members from what is for others.
        .custom_inbox_prefix(inbox(&fleet.host))
        .ignore_discovered_servers()
        .max_reconnects(1)
        .event_callback(move |event| {
            // What was under way is lost with the connection, so that the session has to begin again.
            let why = match event {
                Event::Disconnected | Event::Closed => {
                    Some("the server has closed the connection".to_owned())
                }
                Event::ServerError(error) => Some(format!("the server refuses: {error}")),
                Event::ClientError(error) => Some(error.to_string()),
                _ => None,
            };
            let end = end.clone();
            async move {
                if let Some(why) = why {
                    let _ = end.try_send(why);
                }
            }
        });
    if let Some(ca) = &fleet.tls_ca {
        options = options.add_root_certificates(ca.clone());
    }
    if let Some((certificate, key)) = &fleet.tls_certificate {
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    options = match &fleet.credentials {
        Some(file) => {
            let read = options.credentials_file(file).await;
            read.with_context(|| format!("cannot read `{}`", file.display()))?
        }
        None if fleet.tls_certificate.is_some() && login == FleetLogin::Configured => options,
        None => options.nkey(seed.to_owned()),
    };
    let connected = tokio::time::timeout(PATIENCE * 2, options.connect(&fleet.servers)).await;
    let client = connected.map_err(|_| anyhow!("no server answers"))?;
    let client = client.with_context(|| format!("cannot connect to {}", fleet.servers.join(", ")))?;
    let server = client.server_info();
    let mut parts = server.version.split('.').map_while(|part| part.parse::<u64>().ok());
    let version = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    ensure!(version >= OLDEST, "the server is NATS {}, and it takes 2.10 or later", server.version);
    ensure!(server.jetstream, "the server has no JetStream: its configuration needs `jetstream {{ ... }}`");
    let buckets =
        jetstream::ContextBuilder::new().timeout(PATIENCE).max_ack_inflight(TOGETHER).build(client.clone());
    let mut addresses = Vec::new();
    for server in fleet.servers.iter().filter_map(|server| server.parse::<ServerAddr>().ok()) {
        if let Ok(found) = server.socket_addrs().await {
            addresses.extend(found.map(|address| address.ip()));
        }
    }
    Ok(FleetConnection { client, buckets, addresses, lost })
}

/// A bucket that `fleet init` has made.
pub(super) async fn bucket(buckets: &jetstream::Context, name: String) -> anyhow::Result<kv::Store> {
    let found = buckets.get_key_value(&name).await;
    found.with_context(|| format!("cannot open the bucket `{name}`; has `banstream fleet init` made it?"))
}

/// What the subjects begin with on which the server answers a host.
pub(super) fn inbox(host: &str) -> String {
    format!("_INBOX_{host}")
}

/// The name of the bucket of bans.
pub(super) fn bans_name(fleet: &Fleet) -> String {
    format!("{}-bans", fleet.bucket)
}

/// That of the bucket of windows that count across the fleet.
pub(super) fn counts_name(fleet: &Fleet) -> String {
    format!("{}-counts", fleet.bucket)
}

/// That of the bucket of members.
pub(super) fn members_name(fleet: &Fleet) -> String {
    format!("{}-members", fleet.bucket)
}

/// The seed of an NKEY in a file of its own.
///
/// # Errors
///
/// It cannot be read, others may read it, or it is none.
pub(super) fn read_seed(path: &Path) -> anyhow::Result<(String, KeyPair)> {
    let place = || format!("the seed in `{}`", path.display());
    let text = std::fs::read_to_string(path).with_context(place)?;
    let is_open = nix::sys::stat::stat(path).with_context(place)?.st_mode & 0o007 != 0;
    ensure!(!is_open, "all users may read {}: `chmod o= {}`", place(), path.display());
    let seed = text.trim();
    let pair = KeyPair::from_seed(seed).with_context(place)?;
    ensure!(seed.starts_with("SU"), "{} is not that of a user (`SU...`)", place());
    Ok((seed.to_owned(), pair))
}

/// The keys of those who say who is a member.
pub(super) fn operators(fleet: &Fleet) -> anyhow::Result<Vec<VerifyingKey>> {
    let read = |key: &String| verifier(key).with_context(|| format!("the operator's key `{key}`"));
    fleet.operators.iter().map(read).collect()
}

/// A bucket that is read, and then followed.
pub(super) struct BucketWatch {
    entries: futures_util::stream::TryReadyChunks<kv::Watch>,
    is_live: bool,
}

impl BucketWatch {
    /// Of these keys, in which `*` stands for a part and `>` for all others.
    pub(super) async fn new(bucket: &kv::Store, keys: Vec<String>) -> anyhow::Result<Self> {
        let entries = bucket.watch_many_with_history(keys).await?;
        Ok(Self { entries: entries.try_ready_chunks(TOGETHER), is_live: false })
    }

    /// What was there before, in parts; `None` behind the last.
    pub(super) async fn stored(&mut self) -> anyhow::Result<Option<Vec<kv::Entry>>> {
        if self.is_live {
            return Ok(None);
        }
        let entries = self.next().await?;
        self.is_live = entries.iter().any(|entry| entry.seen_current);
        Ok(Some(entries))
    }

    pub(super) async fn next(&mut self) -> anyhow::Result<Vec<kv::Entry>> {
        let entries = self.entries.next().await.context("the watch has ended")?;
        Ok(entries.map_err(|error| error.1)?)
    }
}

/// What operators have signed so far, and what they will sign; nothing if that is nothing yet.
pub(super) async fn records(
    members: &kv::Store,
    operators: &[VerifyingKey],
) -> anyhow::Result<Option<(SignedRecords, Vec<FleetOrder>, BucketWatch)>> {
    // A bucket without entries would not say where its end is.
    if members.status().await?.values() == 0 {
        return Ok(None);
    }
    let (mut records, mut orders) = (SignedRecords::default(), Vec::new());
    let mut changes = BucketWatch::new(members, vec![">".to_owned()]).await?;
    while let Some(entries) = changes.stored().await? {
        records.take(&entries, operators, &mut orders);
    }
    Ok(Some((records, orders, changes)))
}
