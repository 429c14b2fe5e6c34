//! The connection to the fleet: hears what the others say, and tells what we have to say.
//!
//! All state is in the buckets, in the ledger and in the detector. So whatever goes wrong, the session ends and the next
//! one begins again: it reads all, compares what the bucket has of this host with what this host bans, and tells the
//! difference. Then it follows the buckets, and tells what comes into the [`NoticeOutbox`].

use std::collections::{HashMap, HashSet};
use std::future::IntoFuture;
use std::mem;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use async_nats::jetstream::{self, kv};
use async_nats::{Client, ConnectOptions, Event, ServerAddr};
use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use nkeys::KeyPair;
use rayon::prelude::*;
use tokio::sync::{mpsc, oneshot};

use super::counts::{self, CountKey, CountNotice, responsible};
use super::member::{MemberRecord, SignedRecords};
use super::notice::{self, LONGEST, Notice, read_key};
use super::outbox::{NoticeOutbox, Told};
use super::sealed::{SealKind, open, seal};
use super::{FleetNews, FleetOrder, Heard, MemberState, NoticeRefusal, Page};
use crate::config::Fleet;
use crate::model::{Offender, Timestamp};

/// The oldest server that the client speaks with: buckets of older ones cannot be made (NATS 2.9).
const OLDEST: (u64, u64) = (2, 10);
/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many entries are heard together at most, and how many are told before the server has stored the first.
const TOGETHER: usize = 1024;
/// How often all that we ban is compared with what the bucket has of it, since it forgets what is old.
const COMPARE: Duration = Duration::from_secs(60 * 60);

/// The last part of a key that says no more than that its host has connected.
const HERE: &str = "here";

/// Whose signature is whose.
pub(super) type MemberKeys = HashMap<Arc<str>, Arc<KeyPair>>;

/// Keeps the connection until nobody takes news any more.
pub async fn run(
    fleet: Arc<Fleet>,
    outbox: NoticeOutbox,
    news: mpsc::Sender<FleetNews>,
    now: fn() -> Timestamp,
) {
    let pauses = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(10))
        .with_jitter()
        .without_max_times();
    let mut waits = pauses.build();
    loop {
        let mut session =
            FleetSession { fleet: &fleet, outbox: &outbox, news: &news, now, is_connected: false };
        let Err(error) = session.run().await;
        if session.is_connected {
            waits = pauses.build();
        }
        if news.send(FleetNews::Lost(format!("{error:#}"))).await.is_err() {
            return;
        }
        tokio::time::sleep(waits.next().unwrap_or(PATIENCE)).await;
    }
}

/// A client, and what ends its connection.
pub(super) struct FleetConnection {
    pub(super) client: Client,
    pub(super) buckets: jetstream::Context,
    /// Those of all servers that are configured.
    addresses: Vec<IpAddr>,
    lost: mpsc::Receiver<String>,
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
pub fn bans_name(fleet: &Fleet) -> String {
    format!("{}-bans", fleet.bucket)
}

/// That of the bucket of windows that count across the fleet.
pub fn counts_name(fleet: &Fleet) -> String {
    format!("{}-counts", fleet.bucket)
}

/// That of the bucket of members.
pub fn members_name(fleet: &Fleet) -> String {
    format!("{}-members", fleet.bucket)
}

/// The seed of an NKEY in a file of its own.
///
/// # Errors
///
/// It cannot be read, others may read it, or it is none.
pub(super) fn read_seed(path: &std::path::Path) -> anyhow::Result<(String, KeyPair)> {
    let place = || format!("the seed in `{}`", path.display());
    let text = std::fs::read_to_string(path).with_context(place)?;
    let is_open = nix::sys::stat::stat(path).with_context(place)?.st_mode & 0o007 != 0;
    ensure!(!is_open, "all users may read {}: `chmod o= {}`", place(), path.display());
    let seed = text.trim();
    let pair = KeyPair::from_seed(seed).with_context(place)?;
    ensure!(seed.starts_with("SU"), "{} is not that of a user (`SU...`)", place());
    Ok((seed.to_owned(), pair))
}

struct FleetSession<'a> {
    fleet: &'a Fleet,
    outbox: &'a NoticeOutbox,
    news: &'a mpsc::Sender<FleetNews>,
    now: fn() -> Timestamp,
    is_connected: bool,
}

/// What the buckets have of this host.
#[derive(Default)]
struct Stored {
    bans: HashMap<Offender, Notice>,
    windows: HashMap<CountKey, CountNotice>,
    /// When the last was told.
    last: Timestamp,
}

/// The buckets that members write to.
struct Buckets {
    bans: kv::Store,
    counts: kv::Store,
}

impl FleetSession<'_> {
    /// Goes on until something goes wrong.
    async fn run(&mut self) -> anyhow::Result<std::convert::Infallible> {
        let (seed, pair) = read_seed(&self.fleet.seed_file)?;
        let mut connection = connect(self.fleet, &seed, FleetLogin::Configured).await?;
        let Err(error) = self.converse(&mut connection, &pair).await;
        // What the server refuses it does not answer.
        match connection.lost.try_recv() {
            Ok(why) => bail!("{why} ({error:#})"),
            Err(_) => Err(error),
        }
    }

    async fn converse(
        &mut self,
        connection: &mut FleetConnection,
        pair: &KeyPair,
    ) -> anyhow::Result<std::convert::Infallible> {
        let members = bucket(&connection.buckets, members_name(self.fleet)).await?;
        let bans = bucket(&connection.buckets, bans_name(self.fleet)).await?;
        let counts = bucket(&connection.buckets, counts_name(self.fleet)).await?;
        let buckets = Buckets { bans, counts };
        let operators = operators(self.fleet)?;
        let (mut records, mut orders) = (SignedRecords::default(), Vec::new());
        // One without entries would not say where its end is.
        ensure!(members.status().await?.values() > 0, "the fleet has no members yet: `banstream fleet add`");
        let mut changes = BucketWatch::new(&members, vec![">".to_owned()]).await?;
        while let Some(entries) = changes.stored().await? {
            records.take(&entries, &operators, &mut orders);
        }
        let server = connection.client.server_info();
        self.is_admitted(&records, pair)?;
        self.is_connected = true;
        let server = format!("{} (NATS {})", server.server_name, server.version);
        self.send(FleetNews::Connected(server, mem::take(&mut connection.addresses))).await?;
        loop {
            self.is_admitted(&records, pair)?;
            self.send(FleetNews::Orders(mem::take(&mut orders))).await?;
            let keys = keys(&records.members)?;
            let counters = records.members.iter().filter(|(_, record)| record.counter && !record.removed);
            let parts = responsible(&self.fleet.host, counters.map(|(host, _)| &**host));
            let states = records.members.iter().map(|(host, record)| MemberState {
                host: Arc::clone(host),
                at: record.at,
                removed: record.removed,
            });
            self.send(FleetNews::Members(states.collect())).await?;
            let mut following = pin!(self.follow(&connection.buckets, &buckets, pair, keys, &parts));
            loop {
                tokio::select! {
                    ended = &mut following => return ended,
                    entries = changes.next() => {
                        if records.take(&entries?, &operators, &mut orders) {
                            break;
                        }
                        self.send(FleetNews::Orders(mem::take(&mut orders))).await?;
                    }
                    why = connection.lost.recv() => bail!(why.unwrap_or_else(|| "the connection is lost".to_owned())),
                }
            }
        }
    }

    /// Whether this host is a member.
    fn is_admitted(&self, records: &SignedRecords, pair: &KeyPair) -> anyhow::Result<()> {
        let host = &self.fleet.host;
        match records.members.get(&**host).filter(|record| !record.removed) {
            None => bail!("no operator of ours has admitted `{host}`: `banstream fleet add {host}`"),
            Some(own) if own.key != pair.public_key() => {
                bail!(
                    "`{host}` was admitted with another key than that in `{}`",
                    self.fleet.seed_file.display()
                )
            }
            Some(_) => Ok(()),
        }
    }

    /// Reads all, and goes on until something goes wrong. Where members change it begins again.
    async fn follow(
        &self,
        context: &jetstream::Context,
        buckets: &Buckets,
        pair: &KeyPair,
        keys: MemberKeys,
        parts: &[u8],
    ) -> anyhow::Result<std::convert::Infallible> {
        let keys = Arc::new(keys);
        let mut stored = Stored::default();
        // An empty bucket would not say where its end is.
        for bucket in [&buckets.bans, &buckets.counts] {
            bucket.put(format!("{}.{HERE}", self.fleet.host), Bytes::new()).await.context("cannot write")?;
        }
        let mut bans = BucketWatch::new(&buckets.bans, vec![">".to_owned()]).await?;
        while let Some(entries) = bans.stored().await? {
            self.hear(entries, &keys, BucketReading::Stored(&mut stored)).await?;
        }
        let mut own = BucketWatch::new(&buckets.counts, vec![format!("{}.>", self.fleet.host)]).await?;
        while let Some(entries) = own.stored().await? {
            for (_, window, notice) in windows(entries, &keys, HashSet::new()).await? {
                stored.last = stored.last.max(notice.at);
                stored.windows.insert(window, notice);
            }
        }
        drop(own);
        // What this session tells is later, and comes back in order.
        let mut echoed = self.next(&mut stored.last);
        self.tell_difference(context, buckets, pair, &mut stored).await?;
        let mut counts = match parts {
            [] => None,
            parts => {
                let keys: Vec<String> = parts.iter().map(|part| format!("*.{part}.>")).collect();
                Some(BucketWatch::new(&buckets.counts, keys).await?)
            }
        };
        let mut compare = tokio::time::interval_at(tokio::time::Instant::now() + COMPARE, COMPARE);
        loop {
            let counted = async {
                match &mut counts {
                    Some(counts) => counts.next().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                entries = bans.next() => self.hear(entries?, &keys, BucketReading::Live(&mut echoed)).await?,
                entries = counted => {
                    let heard = windows(entries?, &keys, self.outbox.aside()).await?;
                    self.send(FleetNews::Counts(heard)).await?;
                }
                () = self.outbox.changed() => match self.outbox.take(TOGETHER) {
                    Some(told) => self.tell(context, buckets, pair, &mut stored.last, told).await?,
                    None => bail!("more was to be told than waits at once"),
                },
                // What the buckets have of us is read again for that.
                _ = compare.tick() => bail!("all is compared once more"),
            }
        }
    }

    async fn send(&self, news: FleetNews) -> anyhow::Result<()> {
        self.news.send(news).await.context("the daemon stops")
    }

    /// Hands on what others say. What we have said ourselves is noted, where that is asked for.
    async fn hear(
        &self,
        entries: Vec<kv::Entry>,
        keys: &Arc<MemberKeys>,
        reading: BucketReading<'_>,
    ) -> anyhow::Result<()> {
        let (keys, aside) = (Arc::clone(keys), self.outbox.aside());
        // A signature takes 50 us or more, and a bucket may have a hundred thousand.
        let heard = tokio::task::spawn_blocking(move || {
            let puts = entries.into_par_iter().filter(|entry| entry.operation == kv::Operation::Put);
            let puts = puts.filter(|entry| !entry.key.ends_with(HERE));
            puts.map(|entry| verified(&entry, &keys, &aside)).collect::<Vec<Heard>>()
        });
        let heard = heard.await?;
        let own = heard.iter().filter(|heard| *heard.host == *self.fleet.host);
        let mut own = own.filter_map(|heard| heard.said.as_ref().ok());
        let (is_live, is_late) = match reading {
            BucketReading::Stored(stored) => {
                for (offender, notice) in own {
                    stored.last = stored.last.max(notice.at);
                    stored.bans.insert(*offender, notice.clone());
                }
                (false, false)
            }
            // What is old stands in the bucket in place of what is true now.
            BucketReading::Live(echoed) => {
                let mut is_old = |notice: &Notice| notice.at <= mem::replace(echoed, notice.at.max(*echoed));
                (true, own.any(|(_, notice)| is_old(notice)))
            }
        };
        self.send(FleetNews::Page(Page { heard, is_live })).await?;
        ensure!(!is_late, "something old that this host told before came again");
        Ok(())
    }

    /// Tells what the buckets lack of our bans and windows, and lifts and empties what they have too many.
    async fn tell_difference(
        &self,
        context: &jetstream::Context,
        buckets: &Buckets,
        pair: &KeyPair,
        stored: &mut Stored,
    ) -> anyhow::Result<()> {
        // What waits is among what is asked for now.
        self.outbox.clear();
        let (reply, wanted) = oneshot::channel();
        self.send(FleetNews::Wanted(reply)).await?;
        let Told { mut bans, mut windows } = wanted.await?;
        let now = (self.now)();
        for (offender, notice) in mem::take(&mut stored.bans) {
            match bans.get(&offender) {
                Some(want) if want.agrees(&notice) => drop(bans.remove(&offender)),
                Some(_) => {}
                None if notice.lifted || notice.until.is_some_and(|until| until <= now) => {}
                None => drop(bans.insert(offender, Notice { lifted: true, ..notice })),
            }
        }
        for (window, notice) in mem::take(&mut stored.windows) {
            match windows.get(&window) {
                Some(times) if *times == notice.times => drop(windows.remove(&window)),
                None if !notice.times.is_empty() => drop(windows.insert(window, Vec::new())),
                _ => {}
            }
        }
        self.tell(context, buckets, pair, &mut stored.last, Told { bans, windows }).await
    }

    /// Tells these, and waits until the server has stored them.
    async fn tell(
        &self,
        context: &jetstream::Context,
        buckets: &Buckets,
        pair: &KeyPair,
        last: &mut Timestamp,
        told: Told,
    ) -> anyhow::Result<()> {
        let host = &self.fleet.host;
        let mut bans: Vec<_> = told.bans.into_iter().collect();
        bans.sort_unstable_by_key(|(_, notice)| notice.since);
        for some in bans.chunks(TOGETHER) {
            let values = some.iter().map(|(offender, notice)| {
                let json = serde_json::to_vec(&Notice { at: self.next(last), ..notice.clone() })?;
                Ok((notice::key(host, *offender), json))
            });
            self.store(context, &buckets.bans.prefix, SealKind::Ban, pair, values).await?;
            self.send(FleetNews::Stored(some.len() as u64)).await?;
        }
        let windows: Vec<_> = told.windows.into_iter().collect();
        for some in windows.chunks(TOGETHER) {
            let values = some.iter().map(|(window, times)| {
                let json = serde_json::to_vec(&CountNotice { at: self.next(last), times: times.clone() })?;
                Ok((counts::key(host, window), json))
            });
            self.store(context, &buckets.counts.prefix, SealKind::Count, pair, values).await?;
        }
        Ok(())
    }

    /// When the next is told: later than the last.
    fn next(&self, last: &mut Timestamp) -> Timestamp {
        *last = (self.now)().max(Timestamp::from_micros(last.as_micros().saturating_add(1)));
        *last
    }

    /// Signs these and sends them at once, and waits until the server has stored them.
    async fn store(
        &self,
        context: &jetstream::Context,
        prefix: &str,
        kind: SealKind,
        pair: &KeyPair,
        values: impl Iterator<Item = anyhow::Result<(String, Vec<u8>)>>,
    ) -> anyhow::Result<()> {
        let mut sent = Vec::new();
        for value in values {
            let (key, json) = value?;
            let value = seal(kind, &key, &json, pair)?;
            sent.push(context.publish(format!("{prefix}{key}"), Bytes::from(value)).await?.into_future());
        }
        futures_util::future::try_join_all(sent).await.context("the server did not store what we told")?;
        Ok(())
    }
}

/// How a bucket is read.
enum BucketReading<'s> {
    /// What was there before; what is this host's own is noted.
    Stored(&'s mut Stored),
    /// What comes now, and when the last that is this host's own was told.
    Live(&'s mut Timestamp),
}

/// A bucket that is read, and then followed.
struct BucketWatch {
    entries: futures_util::stream::TryReadyChunks<kv::Watch>,
    is_live: bool,
}

impl BucketWatch {
    /// Of these keys, in which `*` stands for a part and `>` for all others.
    async fn new(bucket: &kv::Store, keys: Vec<String>) -> anyhow::Result<Self> {
        let entries = bucket.watch_many_with_history(keys).await?;
        Ok(Self { entries: entries.try_ready_chunks(TOGETHER), is_live: false })
    }

    /// What was there before, in parts; `None` behind the last.
    async fn stored(&mut self) -> anyhow::Result<Option<Vec<kv::Entry>>> {
        if self.is_live {
            return Ok(None);
        }
        let entries = self.next().await?;
        self.is_live = entries.iter().any(|entry| entry.seen_current);
        Ok(Some(entries))
    }

    async fn next(&mut self) -> anyhow::Result<Vec<kv::Entry>> {
        let entries = self.entries.next().await.context("the watch has ended")?;
        Ok(entries.map_err(|error| error.1)?)
    }
}

/// What members' windows hold, as far as they have signed it.
async fn windows(
    entries: Vec<kv::Entry>,
    keys: &Arc<MemberKeys>,
    aside: HashSet<Arc<str>>,
) -> anyhow::Result<Vec<(Arc<str>, CountKey, CountNotice)>> {
    let keys = Arc::clone(keys);
    let opened = tokio::task::spawn_blocking(move || {
        let puts = entries.into_par_iter().filter(|entry| entry.operation == kv::Operation::Put);
        let opened = puts.filter_map(|entry| {
            let (host, window) = counts::read_key(&entry.key)?;
            let (host, pair) = keys.get_key_value(host).filter(|(host, _)| !aside.contains(*host))?;
            let (json, _) = open(SealKind::Count, &entry.key, &entry.value, [&**pair])?;
            Some((Arc::clone(host), window, CountNotice::read(json)?))
        });
        opened.collect()
    });
    Ok(opened.await?)
}

/// What an entry says, if the host of its key has signed it.
fn verified(entry: &kv::Entry, keys: &MemberKeys, aside: &HashSet<Arc<str>>) -> Heard {
    let Some((host, offender)) = read_key(&entry.key) else {
        return Heard { host: "".into(), said: Err(NoticeRefusal::Malformed) };
    };
    let Some((host, pair)) = keys.get_key_value(host) else {
        return Heard { host: host.into(), said: Err(NoticeRefusal::Stranger) };
    };
    if aside.contains(host) {
        return Heard { host: Arc::clone(host), said: Err(NoticeRefusal::SetAside) };
    }
    let said = match open(SealKind::Ban, &entry.key, &entry.value, [&**pair]) {
        _ if entry.value.len() > LONGEST => Err(NoticeRefusal::Malformed),
        None => Err(NoticeRefusal::Forged),
        Some((json, _)) => {
            Notice::read(json).map(|notice| (offender, notice)).ok_or(NoticeRefusal::Malformed)
        }
    };
    Heard { host: Arc::clone(host), said }
}

/// The keys of those who say who is a member.
pub(super) fn operators(fleet: &Fleet) -> anyhow::Result<Vec<KeyPair>> {
    let read =
        |key: &String| KeyPair::from_public_key(key).with_context(|| format!("the operator's key `{key}`"));
    fleet.operators.iter().map(read).collect()
}

/// What operators have signed so far.
pub(super) async fn records(
    members: &kv::Store,
    operators: &[KeyPair],
) -> anyhow::Result<(SignedRecords, Vec<FleetOrder>)> {
    let (mut records, mut orders) = (SignedRecords::default(), Vec::new());
    if members.status().await?.values() > 0 {
        let mut watch = BucketWatch::new(members, vec![">".to_owned()]).await?;
        while let Some(entries) = watch.stored().await? {
            records.take(&entries, operators, &mut orders);
        }
    }
    Ok((records, orders))
}

/// The keys of those who are members.
fn keys(records: &HashMap<Arc<str>, MemberRecord>) -> anyhow::Result<MemberKeys> {
    let members = records.iter().filter(|(_, record)| !record.removed);
    let key = |(host, record): (&Arc<str>, &MemberRecord)| {
        Ok((Arc::clone(host), Arc::new(KeyPair::from_public_key(&record.key)?)))
    };
    members.map(key).collect()
}
