//! What operators do with a fleet: make its buckets, admit members, and ask who they are.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use async_nats::jetstream::{self, kv};
use nkeys::KeyPair;

use super::addresses;
use super::connection::{
    BucketWatch, FleetConnection, FleetLogin, PATIENCE, TOGETHER, bans_name, bucket, connect, counts_name,
    inbox, members_name, operators, read_seed, records,
};
use super::counts::{self, CountNotice};
use super::link::{later, store};
use super::member::{HOST, MemberRecord, OrderRecord, order_key};
use super::notice::{LONGEST, Notice};
use super::sealed::{SealKind, open, seal, verifier};
use super::{FleetOrder, OrderKind};
use crate::config::{Fleet, is_host_name, is_public_key};
use crate::model::Timestamp;

/// How long the bucket keeps what is not told again: half as long as `[fleet] longest` by default, since members tell again
/// what is gone, and others take its end from then.
const KEEP: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// What a bucket keeps it never forgets.
const FOREVER: Duration = Duration::ZERO;
/// How long it keeps what stands in a window: as long as the longest `findtime` that counts across the fleet may be.
const KEEP_COUNTS: Duration = Duration::from_secs(2 * 24 * 60 * 60);

/// How much a bucket that members write to holds, since each may write below its own name what it likes: some 600,000 bans.
const MOST_BYTES: i64 = 256 << 20;
const MOST_KEYS: i64 = 1_000_000;

/// An operator at work.
pub struct Operator<'f> {
    fleet: &'f Fleet,
    pair: KeyPair,
    connection: FleetConnection,
}

impl<'f> Operator<'f> {
    /// Connects with the operator's seed in this file, or with these credentials where the server takes no NKEY.
    ///
    /// # Errors
    ///
    /// The file cannot be read or is none of an operator of this fleet, or no server answers.
    pub async fn connect(
        fleet: &'f Fleet,
        seed_file: &Path,
        credentials: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let (seed, pair) = read_seed(seed_file)?;
        let key = pair.public_key();
        ensure!(
            fleet.operators.contains(&key),
            "`{key}` in `{}` is none of the `operators` in [fleet]",
            seed_file.display()
        );
        // The host's own credentials are not those of an operator; its certificate may be needed to connect at all.
        let credentials = credentials.map(Path::to_owned);
        let fleet_of_operator = Fleet { credentials, ..fleet.clone() };
        let connection = connect(&fleet_of_operator, &seed, FleetLogin::Seed).await?;
        Ok(Self { fleet, pair, connection })
    }

    /// Makes the buckets that are not there; the names of those that were made.
    ///
    /// # Errors
    ///
    /// The server refuses.
    pub async fn make_buckets(&self) -> anyhow::Result<Vec<String>> {
        let mut made = Vec::new();
        let bucket = |bucket, description: &str, longest: usize, max_age| kv::Config {
            bucket,
            description: format!("banstream: {description}"),
            max_value_size: longest as i32,
            max_age,
            history: 1,
            ..kv::Config::default()
        };
        for config in [
            bucket(bans_name(self.fleet), "bans, by host", LONGEST, KEEP),
            bucket(members_name(self.fleet), "who is a member", LONGEST, FOREVER),
            bucket(counts_name(self.fleet), "what members have counted", counts::LONGEST, KEEP_COUNTS),
        ] {
            let name = config.bucket.clone();
            if self.connection.buckets.get_key_value(&name).await.is_err() {
                let bucket = self.connection.buckets.create_key_value(config).await;
                bucket.with_context(|| format!("cannot make the bucket `{name}`"))?;
                made.push(name.clone());
            }
            self.protect(&name).await.with_context(|| format!("cannot protect the bucket `{name}`"))?;
        }
        Ok(made)
    }

    /// Has the server refuse the header `Nats-Rollup`, which buckets take when they are new: a value of one member, below its
    /// own name, would delete those of all others. And bounds what it holds, unless somebody has bounded it already: a full
    /// one takes no more keys, and still other values for those that it has, so that bans can be lifted.
    async fn protect(&self, name: &str) -> anyhow::Result<()> {
        let stream = self.connection.buckets.get_stream(format!("KV_{name}")).await?;
        let config = &stream.cached_info().config;
        // Only operators write to that of members.
        let is_theirs = name == members_name(self.fleet);
        let or = |set: i64, most| if set > 0 || is_theirs { set } else { most };
        let (max_bytes, max_messages) =
            (or(config.max_bytes, MOST_BYTES), or(config.max_messages, MOST_KEYS));
        if config.allow_rollup || (max_bytes, max_messages) != (config.max_bytes, config.max_messages) {
            let config =
                jetstream::stream::Config { allow_rollup: false, max_bytes, max_messages, ..config.clone() };
            self.connection.buckets.update_stream(config).await?;
        }
        Ok(())
    }

    /// What is known of a host.
    ///
    /// # Errors
    ///
    /// The server refuses, or there are no buckets.
    pub async fn member(&self, host: &str) -> anyhow::Result<Option<MemberRecord>> {
        let bucket = bucket(&self.connection.buckets, members_name(self.fleet)).await?;
        let signed = records(&bucket, &operators(self.fleet)?).await?;
        Ok(signed.and_then(|(mut records, ..)| records.members.remove(host)))
    }

    /// Writes what holds for a host from now on; what was known of it.
    ///
    /// # Errors
    ///
    /// The server refuses, or there are no buckets.
    pub async fn set_member(&self, host: &str, record: MemberRecord) -> anyhow::Result<Option<MemberRecord>> {
        ensure!(
            is_host_name(host),
            "`{host}` cannot be a host's name: it can have letters, digits, `-` and `_` only"
        );
        ensure!(
            is_public_key(&record.key),
            "`{}` is not the public NKEY of a user, which begins with `U`",
            record.key
        );
        let bucket = bucket(&self.connection.buckets, members_name(self.fleet)).await?;
        let before = self.member(host).await?;
        let at = before.as_ref().map_or(record.at, |before| {
            record.at.max(Timestamp::from_micros(before.at.as_micros().saturating_add(1)))
        });
        let place = format!("{HOST}{host}");
        let value =
            seal(SealKind::Member, &place, &serde_json::to_vec(&MemberRecord { at, ..record })?, &self.pair)?;
        bucket.put(&place, value.into()).await.context("cannot write the member")?;
        Ok(before)
    }

    /// Takes what a host has written out of the buckets; how many values that were.
    ///
    /// # Errors
    ///
    /// The server refuses, or there are no buckets.
    pub async fn clear(&self, host: &str) -> anyhow::Result<u64> {
        let mut purged = 0;
        for name in [bans_name(self.fleet), counts_name(self.fleet)] {
            let stream = self.connection.buckets.get_stream(format!("KV_{name}")).await?;
            let answer = stream.purge().filter(format!("$KV.{name}.{host}.>")).await;
            purged += answer.context("cannot take out what it has written")?.purged;
        }
        Ok(purged)
    }

    /// The members, by name.
    ///
    /// # Errors
    ///
    /// There are no buckets.
    pub async fn members(&self) -> anyhow::Result<Vec<(Arc<str>, MemberRecord)>> {
        members(self.fleet, &self.connection).await
    }

    /// Gives all members an order.
    ///
    /// # Errors
    ///
    /// The server refuses, or there are no buckets.
    pub async fn order(&self, order: FleetOrder) -> anyhow::Result<()> {
        let FleetOrder { kind, offender, at, until, comment } = order;
        let bucket = bucket(&self.connection.buckets, members_name(self.fleet)).await?;
        // Members obey what is later than all before, and clocks of operators differ.
        let signed = records(&bucket, &operators(self.fleet)?).await?;
        let before = signed.map(|(_, orders, _)| orders).unwrap_or_default();
        let last = before.iter().map(|order| order.at.as_micros()).max().unwrap_or_default();
        let at = at.max(Timestamp::from_micros(last.saturating_add(1)));
        let record = OrderRecord { at, until, removed: kind == OrderKind::Disallow, comment };
        let place = order_key(kind, offender);
        let value = seal(SealKind::Member, &place, &serde_json::to_vec(&record)?, &self.pair)?;
        bucket.put(&place, value.into()).await.context("cannot write the order")?;
        Ok(())
    }
}

/// The members of the fleet, as this host may see them, by name.
///
/// # Errors
///
/// No server answers, or there are no buckets.
pub async fn list(fleet: &Fleet) -> anyhow::Result<Vec<(Arc<str>, MemberRecord)>> {
    let (seed, _) = read_seed(&fleet.seed_file)?;
    members(fleet, &connect(fleet, &seed, FleetLogin::Configured).await?).await
}

async fn members(
    fleet: &Fleet,
    connection: &FleetConnection,
) -> anyhow::Result<Vec<(Arc<str>, MemberRecord)>> {
    let bucket = bucket(&connection.buckets, members_name(fleet)).await?;
    let signed = records(&bucket, &operators(fleet)?).await?;
    let mut members: Vec<_> = signed.into_iter().flat_map(|(records, ..)| records.members).collect();
    members.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    Ok(members)
}

/// What a host has taken back as it left.
#[derive(Debug, Default)]
pub struct LeaveReport {
    /// Its bans.
    pub bans: usize,
    /// Its windows with offences.
    pub windows: usize,
    /// Where its key is now.
    pub seed: PathBuf,
}

/// Takes this host out of the fleet: its key is put aside, so that its daemon cannot connect any more, and then the bans
/// and windows that it has in the buckets are lifted and emptied. Where that was broken off it can be done once more.
///
/// # Errors
///
/// The key cannot be read or put aside, no server answers, or the server refuses.
pub async fn leave(fleet: &Fleet, now: fn() -> Timestamp) -> anyhow::Result<LeaveReport> {
    let aside = PathBuf::from(format!("{}.left", fleet.seed_file.display()));
    let is_again = !fleet.seed_file.exists() && aside.exists();
    let (seed, pair) = read_seed(if is_again { &aside } else { &fleet.seed_file })?;
    let connection = connect(fleet, &seed, FleetLogin::Configured).await?;
    let bans = bucket(&connection.buckets, bans_name(fleet)).await?;
    let counts = bucket(&connection.buckets, counts_name(fleet)).await?;
    if !is_again {
        std::fs::rename(&fleet.seed_file, &aside)
            .with_context(|| format!("cannot rename `{}`", fleet.seed_file.display()))?;
    }
    // The daemon ends its connection where it sees that.
    let here = addresses::key(&fleet.host);
    for bucket in [&bans, &counts] {
        bucket.delete(&here).await.context("the server refuses")?;
    }
    let by = [verifier(&pair.public_key())?];
    let (mut report, mut last) =
        (LeaveReport { seed: aside, ..LeaveReport::default() }, Timestamp::default());
    // What was on its way then comes before the end of the next look.
    for _ in 0..2 {
        let mut lifted = Vec::new();
        for kv::Entry { key, value, .. } in own(&bans, &fleet.host).await? {
            let json = open(SealKind::Ban, &key, &value, &by);
            let Some(notice) = json.and_then(Notice::read) else { continue };
            last = last.max(notice.at);
            if !notice.lifted && notice.until.is_none_or(|until| until > now()) {
                lifted.push((key, notice));
            }
        }
        let mut emptied = Vec::new();
        for kv::Entry { key, value, .. } in own(&counts, &fleet.host).await? {
            let json = open(SealKind::Count, &key, &value, &by);
            let Some(notice) = json.and_then(CountNotice::read) else { continue };
            last = last.max(notice.at);
            emptied.extend((!notice.times.is_empty()).then_some(key));
        }
        (report.bans, report.windows) = (report.bans + lifted.len(), report.windows + emptied.len());
        for some in lifted.chunks(TOGETHER) {
            let values = some.iter().map(|(key, notice)| {
                let notice = Notice { at: later(&mut last, now()), lifted: true, ..notice.clone() };
                Ok((key.clone(), serde_json::to_vec(&notice)?))
            });
            let values: Vec<_> = values.collect::<anyhow::Result<_>>()?;
            store(&connection.buckets, &bans.prefix, SealKind::Ban, &pair, &values).await?;
        }
        for some in emptied.chunks(TOGETHER) {
            let values = some.iter().map(|key| {
                let notice = CountNotice { at: later(&mut last, now()), times: Vec::new() };
                Ok((key.clone(), serde_json::to_vec(&notice)?))
            });
            let values: Vec<_> = values.collect::<anyhow::Result<_>>()?;
            store(&connection.buckets, &counts.prefix, SealKind::Count, &pair, &values).await?;
        }
    }
    Ok(report)
}

/// All that a host has written into a bucket.
async fn own(bucket: &kv::Store, host: &str) -> anyhow::Result<Vec<kv::Entry>> {
    let (mut watch, mut all) = (BucketWatch::new(bucket, vec![format!("{host}.>")]).await?, Vec::new());
    while let Some(entries) = tokio::time::timeout(PATIENCE, watch.stored()).await?? {
        all.extend(entries.into_iter().filter(|entry| entry.operation == kv::Operation::Put));
    }
    Ok(all)
}

/// Makes an NKEY in a file that only its owner may read, and says its public part. One that is there stays.
///
/// # Errors
///
/// The file cannot be written, or has something else in it.
pub fn make_seed(path: &Path) -> anyhow::Result<String> {
    let place = || format!("cannot write `{}`", path.display());
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match made {
        Ok(mut file) => {
            let pair = KeyPair::new_user();
            writeln!(file, "{}", pair.seed()?).and_then(|()| file.sync_all()).with_context(place)?;
            Ok(pair.public_key())
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(read_seed(path)?.1.public_key()),
        Err(error) => Err(error).with_context(place),
    }
}

/// What the server's configuration needs for a fleet that has no members yet: an account, and this operator.
pub fn server_configuration(operator: &str) -> String {
    format!(
        "jetstream {{ store_dir: /var/lib/nats }}\naccounts {{\n  banstream {{\n    jetstream: enabled\n    users: [\n      \
         {{ nkey: {operator} }}  # an operator\n    ]\n  }}\n}}\n"
    )
}

/// The server's user for a member, which may write below its own name only.
pub fn user(fleet: &Fleet, host: &str, key: &str) -> String {
    let (bans, counts) = (bans_name(fleet), counts_name(fleet));
    let own = [&bans, &counts].map(|bucket| format!("$KV.{bucket}.{host}.>"));
    let reads = [&bans, &counts, &members_name(fleet)].map(|bucket| {
        [
            format!("$JS.API.STREAM.INFO.KV_{bucket}"),
            format!("$JS.API.CONSUMER.CREATE.KV_{bucket}"),
            format!("$JS.API.CONSUMER.CREATE.KV_{bucket}.>"),
            format!("$JS.API.DIRECT.GET.KV_{bucket}.>"),
            format!("$JS.FC.KV_{bucket}.>"),
        ]
    });
    let may = own.into_iter().chain(reads.into_iter().flatten());
    let may: Vec<String> = may.map(|subject| format!("\"{subject}\"")).collect();
    format!(
        "      {{ nkey: {key}, permissions: {{  # {host}\n          publish: [{}]\n          subscribe: [\"{}.>\"] }} }}\n",
        may.join(", "),
        inbox(host)
    )
}

/// Runs what an operator does to its end.
///
/// # Errors
///
/// Its own, and that there is no runtime.
pub fn run<T>(what: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(what)
}
