//! The connection to the fleet: hears what the others say, and tells what we have to say.
//!
//! All state is in the buckets, in the ledger and in the detector. So whatever goes wrong, the session ends and the next
//! one begins again: it reads all, compares what the bucket has of this host with what this host bans, and tells the
//! difference. Then it follows the buckets, and tells what comes into the [`NoticeOutbox`].

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::future::IntoFuture;
use std::mem;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use async_nats::jetstream::context::PublishError;
use async_nats::jetstream::{self, ErrorCode, kv};
use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::Bytes;
use ed25519_dalek::VerifyingKey;
use futures_util::StreamExt;
use futures_util::future::{join_all, try_join};
use futures_util::stream::FuturesOrdered;
use nkeys::KeyPair;
use rayon::prelude::*;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::addresses::{self, AddressNotice, HERE};
use super::connection::{
    BucketWatch, FleetConnection, FleetLogin, PATIENCE, TOGETHER, bans_name, bucket, connect, counts_name,
    members_name, operators, read_seed, records,
};
use super::counts::{self, CountKey, CountNotice, responsible};
use super::member::{MemberRecord, SignedRecords};
use super::notice::{self, LONGEST, Notice, read_key};
use super::outbox::{NoticeOutbox, Told};
use super::sealed::{SealKind, SealedValue, are_genuine, seal, seal_all, verifier};
use super::{FleetNews, Heard, MemberState, NoticeRefusal, Page};
use crate::config::Fleet;
use crate::model::{Offender, Timestamp};

/// How often all that we ban is compared with what the bucket has of it, since it forgets what is old.
const COMPARE: Duration = Duration::from_secs(60 * 60);

/// How many values are verified together. So few, half a millisecond's worth, the task verifies that has received them.
const BATCH: usize = 128;

/// How long what the server had no room for waits until it is tried again.
const PAUSE: Duration = Duration::from_secs(10);

/// In how many parts what is told is on its way to the server.
const PARTS: usize = 4;

/// Whose signature is whose.
pub(super) type MemberKeys = HashMap<Arc<str>, VerifyingKey>;

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
        let signed = records(&members, &operators).await?;
        let (mut records, mut orders, mut changes) =
            signed.context("the fleet has no members yet: `banstream fleet add`")?;
        let server = connection.client.server_info();
        self.is_admitted(&records, pair)?;
        self.is_connected = true;
        let server = format!("{} (NATS {})", server.server_name, server.version);
        self.send(FleetNews::Connected(server, mem::take(&mut connection.addresses))).await?;
        loop {
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
                            self.is_admitted(&records, pair)?;
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
        let here = addresses::key(&self.fleet.host);
        let own = AddressNotice { at: (self.now)(), addresses: self.outbox.addresses() };
        let own = seal(SealKind::Addresses, &here, &serde_json::to_vec(&own)?, pair)?;
        for (bucket, value) in [(&buckets.bans, own.into()), (&buckets.counts, Bytes::new())] {
            bucket.put(&here, value).await.context("cannot write")?;
        }
        let mut bans = BucketWatch::new(&buckets.bans, vec![">".to_owned()]).await?;
        while let Some(entries) = bans.stored().await? {
            self.hear(entries, &keys, BucketReading::Stored(&mut stored)).await?;
        }
        let mut own = BucketWatch::new(&buckets.counts, vec![format!("{}.>", self.fleet.host)]).await?;
        while let Some(entries) = own.stored().await? {
            for heard in windows(entries, &keys, HashSet::new()).await? {
                let Ok((window, notice)) = heard.said else { continue };
                stored.last = stored.last.max(notice.at);
                stored.windows.insert(window, notice);
            }
        }
        drop(own);
        // What this session tells is later, and comes back in order.
        let mut echoed = later(&mut stored.last, (self.now)());
        self.compare(&mut stored).await?;
        let mut counts = match parts {
            [] => None,
            parts => {
                let keys: Vec<String> = parts.iter().map(|part| format!("*.{part}.>")).collect();
                Some(BucketWatch::new(&buckets.counts, keys).await?)
            }
        };
        let heard = async {
            loop {
                self.hear(bans.next().await?, &keys, BucketReading::Live(&mut echoed)).await?;
            }
        };
        let counted = async {
            let Some(counts) = &mut counts else { return std::future::pending().await };
            loop {
                let heard = windows(counts.next().await?, &keys, self.outbox.aside()).await?;
                self.send(FleetNews::Counts(heard)).await?;
            }
        };
        // None waits for another.
        tokio::select! {
            ended = heard => ended,
            ended = counted => ended,
            ended = self.tell(context, buckets, pair, &mut stored.last) => ended,
            // What the buckets have of us is read again for that.
            () = tokio::time::sleep(COMPARE) => bail!("all is compared once more"),
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
        let aside = self.outbox.aside();
        let (here, entries): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|entry| entry.key.ends_with(HERE));
        let is_left = |entry: &kv::Entry| {
            entry.operation != kv::Operation::Put && entry.key == addresses::key(&self.fleet.host)
        };
        ensure!(!here.iter().any(is_left), "`banstream fleet leave` takes this host out of the fleet");
        let refused = self.hear_addresses(here, keys, aside.clone()).await?;
        let mut heard =
            opened(entries, keys, aside, (SealKind::Ban, LONGEST), read_key, Notice::read).await?;
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
        heard.extend(refused);
        self.send(FleetNews::Page(Page { heard, is_live })).await?;
        ensure!(!is_late, "something old that this host told before came again");
        Ok(())
    }

    /// Hands on what others say of themselves; what is not believed.
    async fn hear_addresses(
        &self,
        mut entries: Vec<kv::Entry>,
        keys: &Arc<MemberKeys>,
        aside: HashSet<Arc<str>>,
    ) -> anyhow::Result<Vec<Heard>> {
        // Older versions tell none.
        entries.retain(|entry| !entry.value.is_empty());
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        let (read_key, read) = (addresses::read_key, AddressNotice::read);
        let heard = opened(entries, keys, aside, (SealKind::Addresses, LONGEST), read_key, read).await?;
        let (mut told, mut refused) = (Vec::new(), Vec::new());
        for Heard { host, said } in heard {
            match said {
                Ok(((), notice)) => told.push((host, notice)),
                Err(refusal) => refused.push(Heard { host, said: Err(refusal) }),
            }
        }
        self.send(FleetNews::Addresses(told)).await?;
        Ok(refused)
    }

    /// Has told what the buckets lack of our bans and windows, and lifted and emptied what they have too many.
    async fn compare(&self, stored: &mut Stored) -> anyhow::Result<()> {
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
        self.outbox.put_behind(Told { bans, windows });
        Ok(())
    }

    /// Tells what waits, until something goes wrong. The next is sent before the server has stored the last. What it has no
    /// room for is tried again after a while, first one alone.
    async fn tell(
        &self,
        context: &jetstream::Context,
        buckets: &Buckets,
        pair: &KeyPair,
        last: &mut Timestamp,
    ) -> anyhow::Result<std::convert::Infallible> {
        let mut sent = FuturesOrdered::new();
        // What was said of that before may be old.
        let (mut is_full, mut again) = (true, None);
        loop {
            let pause = async {
                match again {
                    Some(again) => tokio::time::sleep_until(again).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(settled) = sent.next() => {
                    let SettledNotices { stored, refused, why } = settled?;
                    self.outbox.settle(&stored, refused);
                    self.send(FleetNews::Stored(stored.bans.len() as u64)).await?;
                    if let Some(why) = why {
                        (is_full, again) = (true, Some(Instant::now() + PAUSE));
                        self.send(FleetNews::NoRoom(Some(why))).await?;
                    } else if is_full && again.is_none() && self.outbox.tell_again(usize::MAX) == 0 {
                        is_full = false;
                        self.send(FleetNews::NoRoom(None)).await?;
                    }
                }
                () = pause, if sent.is_empty() => {
                    again = None;
                    if self.outbox.tell_again(1) == 0 {
                        is_full = false;
                        self.send(FleetNews::NoRoom(None)).await?;
                    }
                }
                () = self.outbox.changed(), if sent.len() < PARTS => {
                    let told = self.outbox.take(TOGETHER / PARTS / 2);
                    let told = told.context("more was to be told than waits at once")?;
                    sent.push_back(self.send_told(context, buckets, pair, last, told).await?);
                }
            }
        }
    }

    /// Signs and sends these; what comes back says what became of them.
    async fn send_told(
        &self,
        context: &jetstream::Context,
        buckets: &Buckets,
        pair: &KeyPair,
        last: &mut Timestamp,
        told: Told,
    ) -> anyhow::Result<impl Future<Output = anyhow::Result<SettledNotices>> + use<>> {
        let (host, mut next) = (&self.fleet.host, || later(last, (self.now)()));
        let bans: Vec<_> = told.bans.into_iter().collect();
        let values = bans.iter().map(|(offender, notice)| {
            let json = serde_json::to_vec(&Notice { at: next(), ..notice.clone() })?;
            Ok((notice::key(host, *offender), json))
        });
        let values: Vec<_> = values.collect::<anyhow::Result<_>>()?;
        let of_bans = publish(context, &buckets.bans.prefix, SealKind::Ban, pair, &values).await?;
        let windows: Vec<_> = told.windows.into_iter().collect();
        let values = windows.iter().map(|(window, times)| {
            let notice = CountNotice { at: next(), times: times.clone() };
            Ok((counts::key(host, window), serde_json::to_vec(&notice)?))
        });
        let values: Vec<_> = values.collect::<anyhow::Result<_>>()?;
        let of_windows = publish(context, &buckets.counts.prefix, SealKind::Count, pair, &values).await?;
        Ok(async move {
            let (of_bans, of_windows) = try_join(of_bans, of_windows).await?;
            let why = of_bans.iter().chain(&of_windows).find_map(|answer| answer.clone().err());
            let (mut of_bans, mut of_windows) = (of_bans.iter(), of_windows.iter());
            let is_stored = |_: &_| of_bans.next().is_some_and(Result::is_ok);
            let (bans, refused_bans) = bans.into_iter().partition(is_stored);
            let is_stored = |_: &_| of_windows.next().is_some_and(Result::is_ok);
            let (windows, refused_windows) = windows.into_iter().partition(is_stored);
            let refused = Told { bans: refused_bans, windows: refused_windows };
            Ok(SettledNotices { stored: Told { bans, windows }, refused, why })
        })
    }
}

/// What became of what was sent.
struct SettledNotices {
    stored: Told,
    /// What the server had no room for, and why.
    refused: Told,
    why: Option<String>,
}

/// When the next is told: now, but later than the last.
pub(super) fn later(last: &mut Timestamp, now: Timestamp) -> Timestamp {
    *last = now.max(Timestamp::from_micros(last.as_micros().saturating_add(1)));
    *last
}

/// Signs these and sends them. What comes back ends once the server has answered to all: whether it has stored each, or why it
/// had no room for it.
async fn publish(
    context: &jetstream::Context,
    prefix: &str,
    kind: SealKind,
    pair: &KeyPair,
    values: &[(String, Vec<u8>)],
) -> anyhow::Result<impl Future<Output = anyhow::Result<Vec<Result<(), String>>>> + use<>> {
    let mut sent = Vec::with_capacity(values.len());
    for ((key, _), value) in values.iter().zip(seal_all(kind, values, pair)?) {
        sent.push(context.publish(format!("{prefix}{key}"), Bytes::from(value)).await?.into_future());
    }
    let has_no_room = |error: &PublishError| {
        let refused = error.source().and_then(|error| error.downcast_ref::<jetstream::Error>());
        refused.is_some_and(|refused| refused.error_code() == ErrorCode::STREAM_STORE_FAILED)
    };
    Ok(async move {
        let answers = join_all(sent).await.into_iter().map(|answer| match answer {
            Ok(_) => Ok(Ok(())),
            Err(error) if has_no_room(&error) => Ok(Err(error.to_string())),
            Err(error) => Err(error).context("the server did not store what we told"),
        });
        answers.collect()
    })
}

/// Signs these, sends them at once, and waits until the server has stored them.
pub(super) async fn store(
    context: &jetstream::Context,
    prefix: &str,
    kind: SealKind,
    pair: &KeyPair,
    values: &[(String, Vec<u8>)],
) -> anyhow::Result<()> {
    let answers = publish(context, prefix, kind, pair, values).await?.await?;
    answers.into_iter().collect::<Result<(), _>>().map_err(anyhow::Error::msg)
}

/// How a bucket is read.
enum BucketReading<'s> {
    /// What was there before; what is this host's own is noted.
    Stored(&'s mut Stored),
    /// What comes now, and when the last that is this host's own was told.
    Live(&'s mut Timestamp),
}

/// What members say of their windows.
async fn windows(
    mut entries: Vec<kv::Entry>,
    keys: &Arc<MemberKeys>,
    aside: HashSet<Arc<str>>,
) -> anyhow::Result<Vec<Heard<(CountKey, CountNotice)>>> {
    entries.retain(|entry| !entry.key.ends_with(HERE));
    let (read_key, read) = (counts::read_key, CountNotice::read);
    opened(entries, keys, aside, (SealKind::Count, counts::LONGEST), read_key, read).await
}

/// What these entries say, as far as the hosts of their keys have signed it.
async fn opened<K: Send + 'static, V: Send + 'static>(
    mut entries: Vec<kv::Entry>,
    keys: &Arc<MemberKeys>,
    aside: HashSet<Arc<str>>,
    (kind, longest): (SealKind, usize),
    read_key: fn(&str) -> Option<(&str, K)>,
    read: fn(&[u8]) -> Option<V>,
) -> anyhow::Result<Vec<Heard<(K, V)>>> {
    let keys = Arc::clone(keys);
    entries.retain(|entry| entry.operation == kv::Operation::Put);
    let opened = move |entries: &[kv::Entry]| -> Vec<Heard<(K, V)>> {
        let mut sealed = Vec::new();
        let mut heard: Vec<Heard<K>> = Vec::new();
        for entry in entries {
            let Some((host, key)) = read_key(&entry.key) else {
                heard.push(Heard { host: "".into(), said: Err(NoticeRefusal::Malformed) });
                continue;
            };
            let Some((host, by)) = keys.get_key_value(host) else {
                heard.push(Heard { host: host.into(), said: Err(NoticeRefusal::Stranger) });
                continue;
            };
            let said = match () {
                () if aside.contains(host) => Err(NoticeRefusal::SetAside),
                () if entry.value.len() > longest => Err(NoticeRefusal::Malformed),
                () => SealedValue::new(kind, &entry.key, &entry.value).ok_or(NoticeRefusal::Forged),
            };
            let said = said.map(|value| {
                sealed.push((value, *by));
                key
            });
            heard.push(Heard { host: Arc::clone(host), said });
        }
        let mut values = sealed.iter().zip(are_genuine(&sealed));
        let mut said = |key| match values.next() {
            Some(((value, _), true)) => {
                read(value.json).map(|value| (key, value)).ok_or(NoticeRefusal::Malformed)
            }
            _ => Err(NoticeRefusal::Forged),
        };
        heard
            .into_iter()
            .map(|Heard { host, said: key }| Heard { host, said: key.and_then(&mut said) })
            .collect()
    };
    if entries.len() <= BATCH {
        return Ok(opened(&entries));
    }
    // A bucket may have a hundred thousand.
    let heard =
        tokio::task::spawn_blocking(move || entries.par_chunks(BATCH).flat_map_iter(opened).collect());
    Ok(heard.await?)
}

/// The keys of those who are members.
fn keys(records: &HashMap<Arc<str>, MemberRecord>) -> anyhow::Result<MemberKeys> {
    let members = records.iter().filter(|(_, record)| !record.removed);
    members.map(|(host, record)| Ok((Arc::clone(host), verifier(&record.key)?))).collect()
}
