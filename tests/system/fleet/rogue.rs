//! A member that does not keep to the rules: it writes into the buckets what it likes. What a signature covers and how
//! keys and values are written is said here a second time, so that neither can change by mistake.

use std::collections::BTreeMap;
use std::error::Error;
use std::future::IntoFuture;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::jetstream::stream::Config;
use async_nats::jetstream::{self, kv};
use async_nats::{Client, ConnectOptions, Event, HeaderMap};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ed25519_dalek::{Digest, Sha512};
use futures_util::future::try_join_all;
use futures_util::{StreamExt, TryStreamExt};
use nkeys::KeyPair;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

use super::lab::{Host, Lab, SERVER};
use crate::common::until;

const BANS: &str = "banstream-bans";

/// A client of the server with the key of a member, or of an operator.
pub(super) struct Rogue {
    runtime: Arc<Runtime>,
    client: Client,
    buckets: jetstream::Context,
    pub(super) pair: KeyPair,
    refusals: Arc<Mutex<Vec<String>>>,
}

impl Rogue {
    pub(super) fn of(host: &Host) -> Self {
        Self::with(&std::fs::read_to_string(host.seed()).unwrap(), &format!("_INBOX_{}", host.name))
    }

    /// One that may do all.
    pub(super) fn operator(lab: &Lab) -> Self {
        Self::with(&std::fs::read_to_string(lab.path("operator.seed")).unwrap(), "_INBOX")
    }

    fn with(seed: &str, inbox: &str) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let refusals = Arc::<Mutex<Vec<String>>>::default();
        let heard = Arc::clone(&refusals);
        let options = ConnectOptions::with_nkey(seed.trim().to_owned()).custom_inbox_prefix(inbox);
        let options = options.event_callback(move |event| {
            let refused = Arc::clone(&heard);
            async move {
                if let Event::ServerError(error) = event {
                    refused.lock().unwrap().push(error.to_string());
                }
            }
        });
        let client = runtime.block_on(options.connect(SERVER)).unwrap();
        let mut buckets = runtime.block_on(async { jetstream::new(client.clone()) });
        buckets.set_timeout(Duration::from_secs(2));
        let runtime = Arc::new(runtime);
        Self { runtime, client, buckets, pair: KeyPair::from_seed(seed.trim()).unwrap(), refusals }
    }

    /// Writes a value of the bucket of bans; its number in the stream, if the server takes it.
    pub(super) fn put(&self, key: &str, value: Vec<u8>) -> Option<u64> {
        self.publish(&format!("$KV.{BANS}.{key}"), HeaderMap::new(), value)
    }

    pub(super) fn publish(&self, subject: &str, headers: HeaderMap, value: Vec<u8>) -> Option<u64> {
        self.runtime.block_on(async {
            let stored = self.buckets.publish_with_headers(subject.to_owned(), headers, value.into()).await;
            Some(stored.ok()?.await.ok()?.sequence)
        })
    }

    /// Says this of an address, signed as it should be; its number in the stream, which must take it.
    #[track_caller]
    pub(super) fn say(&self, key: &str, notice: &Value) -> u64 {
        self.put(key, self.signed("ban", key, notice.to_string().as_bytes())).expect("the server takes it")
    }

    /// A value with our signature, which counts under this key.
    pub(super) fn signed(&self, kind: &str, key: &str, json: &[u8]) -> Vec<u8> {
        self.signed_together(kind, &[(key, json)]).remove(0)
    }

    /// Values with one signature of ours, which count under these keys.
    pub(super) fn signed_together<K: AsRef<str>, J: AsRef<[u8]>>(
        &self,
        kind: &str,
        told: &[(K, J)],
    ) -> Vec<Vec<u8>> {
        let leaf = |(key, json): &(K, J)| {
            let place = format!("\0banstream {kind} 2\0{}\0", key.as_ref());
            hashed(&[place.as_bytes(), json.as_ref()])
        };
        let (root, ways) = tree(&told.iter().map(leaf).collect::<Vec<_>>());
        let signature = self.pair.sign(&[&b"banstream 2\0"[..], &root].concat()).unwrap();
        let value = |((_, json), way): (&(K, J), Vec<u8>)| {
            let head = BASE64_URL_SAFE_NO_PAD.encode([&*signature, &way].concat());
            [head.as_bytes(), b"\n", json.as_ref()].concat()
        };
        told.iter().zip(ways).map(value).collect()
    }

    /// A value of the bucket of bans.
    pub(super) fn value(&self, key: &str) -> Option<Vec<u8>> {
        let value = async { self.bucket(BANS).await.get(key).await.unwrap().map(|value| value.to_vec()) };
        self.runtime.block_on(value)
    }

    /// The keys of a bucket, in order, but for those that say that a member is there.
    pub(super) fn keys(&self, bucket: &str) -> Vec<String> {
        let keys = async { self.bucket(bucket).await.keys().await.unwrap().try_collect::<Vec<_>>().await };
        let mut keys = self.runtime.block_on(keys).unwrap();
        keys.retain(|key| !key.ends_with(".here"));
        keys.sort_unstable();
        keys
    }

    /// The number of the last value of each key of the bucket of bans.
    pub(super) fn numbers(&self) -> BTreeMap<String, u64> {
        let number = |key: String| {
            let entry = async { self.bucket(BANS).await.entry(&key).await.unwrap().unwrap().revision };
            let number = self.runtime.block_on(entry);
            (key, number)
        };
        self.keys(BANS).into_iter().map(number).collect()
    }

    /// How many values were ever written into the bucket of bans.
    pub(super) fn written(&self) -> u64 {
        self.runtime.block_on(async {
            let mut stream = self.buckets.get_stream(format!("KV_{BANS}")).await.unwrap();
            stream.info().await.unwrap().state.last_sequence
        })
    }

    /// Says of addresses that they are banned, all at once; the server must take it.
    pub(super) fn say_all(&self, keys: impl Iterator<Item = String>) {
        // Each is later than the one before.
        let told = (time(0)..).zip(keys).map(|(at, key)| (key, notice(&json!({"at": at})).to_string()));
        let told: Vec<_> = told.collect();
        self.runtime.block_on(async {
            let mut sent = Vec::new();
            for page in told.chunks(8) {
                for ((key, _), value) in page.iter().zip(self.signed_together("ban", page)) {
                    let stored = self.buckets.publish(format!("$KV.{BANS}.{key}"), value.into());
                    sent.push(stored.await.unwrap().into_future());
                }
            }
            try_join_all(sent).await.unwrap();
        });
    }

    /// Admits a host with this key, as an operator.
    pub(super) fn admit(&self, host: &str, pair: &KeyPair) {
        let key = format!("host.{host}");
        let record = json!({"at": time(0), "key": pair.public_key()}).to_string();
        let value = self.signed("member", &key, record.as_bytes());
        self.publish(&format!("$KV.banstream-members.{key}"), HeaderMap::new(), value).unwrap();
    }

    /// Gives an order, as an operator.
    pub(super) fn order(&self, key: &str, order: &Value) {
        let value = self.signed("member", key, order.to_string().as_bytes());
        self.publish(&format!("$KV.banstream-members.{key}"), HeaderMap::new(), value).unwrap();
    }

    /// Forgets a ban as the bucket does after a while, as an operator.
    pub(super) fn forget(&self, key: &str) {
        self.runtime.block_on(async {
            let stream = self.buckets.get_stream(format!("KV_{BANS}")).await.unwrap();
            stream.purge().filter(format!("$KV.{BANS}.{key}")).await.unwrap();
        });
    }

    /// Forgets all bans, as an operator.
    pub(super) fn empty(&self) {
        self.runtime.block_on(async {
            let stream = self.buckets.get_stream(format!("KV_{BANS}")).await.unwrap();
            stream.purge().await.unwrap();
        });
    }

    /// A connection with this key that follows the bucket of bans.
    pub(super) fn follower(&self, pair: &KeyPair) -> Follower {
        let seed = pair.seed().unwrap();
        self.runtime.block_on(async {
            let client = ConnectOptions::with_nkey(seed).connect(SERVER).await.unwrap();
            let bucket = jetstream::new(client).get_key_value(BANS).await.unwrap();
            let mut entries = bucket.watch_with_history(">").await.unwrap();
            let heard = Arc::new(AtomicU64::new(0));
            let last = Arc::clone(&heard);
            tokio::spawn(async move {
                while let Some(Ok(entry)) = entries.next().await {
                    last.store(entry.revision, Ordering::Relaxed);
                }
            });
            Follower(heard)
        })
    }

    /// Has the bucket of bans hold so many values.
    pub(super) fn shrink(&self, values: i64) {
        let update = async || -> Result<_, Box<dyn Error>> {
            let stream = self.buckets.get_stream(format!("KV_{BANS}")).await?;
            let config = Config { max_messages: values, ..stream.cached_info().config.clone() };
            Ok(self.buckets.update_stream(config).await?)
        };
        until("the server does it", || self.runtime.block_on(update()));
    }

    /// How many values and bytes each bucket that members write to holds at most.
    pub(super) fn limits(&self) -> [(i64, i64); 2] {
        [BANS, "banstream-counts"].map(|name| {
            let stream = self.runtime.block_on(self.buckets.get_stream(format!("KV_{name}"))).unwrap();
            let config = &stream.cached_info().config;
            (config.max_messages, config.max_bytes)
        })
    }

    /// Has the server take values of any length for the bucket of bans.
    pub(super) fn allow_long_values(&self) {
        let update = async || -> Result<_, Box<dyn Error>> {
            let stream = self.buckets.get_stream(format!("KV_{BANS}")).await?;
            let config = Config { max_message_size: -1, ..stream.cached_info().config.clone() };
            Ok(self.buckets.update_stream(config).await?)
        };
        // Right after its configuration has changed, the server refuses.
        until("the server does it", || self.runtime.block_on(update()));
    }

    async fn bucket(&self, name: &str) -> kv::Store {
        self.buckets.get_key_value(name).await.unwrap()
    }

    /// Sends a request to the server's own subjects; what it answers, if it does.
    pub(super) fn request(&self, subject: &str, body: &Value) -> Option<String> {
        let answer = self.runtime.block_on(async {
            let answer = self.client.request(subject.to_owned(), body.to_string().into());
            tokio::time::timeout(Duration::from_secs(1), answer).await.ok()?.ok()
        })?;
        Some(String::from_utf8_lossy(&answer.payload).into_owned())
    }

    /// Publishes without waiting for an answer; the server must refuse.
    #[track_caller]
    pub(super) fn may_not_publish(&self, subject: &str) {
        let published = async {
            self.client.publish(subject.to_owned(), "{}".into()).await.unwrap();
            self.client.flush().await.unwrap();
        };
        self.runtime.block_on(published);
        self.is_refused(subject);
    }

    #[track_caller]
    pub(super) fn may_not_subscribe(&self, subject: &str) {
        let subscriber = self.runtime.block_on(self.client.subscribe(subject.to_owned())).unwrap();
        self.is_refused(subject);
        drop(subscriber);
    }

    #[track_caller]
    fn is_refused(&self, subject: &str) {
        until(&format!("the server refuses {subject}"), || {
            let refusals = self.refusals.lock().unwrap();
            if refusals.iter().any(|refusal| refusal.contains(&format!("\"{subject}\""))) {
                Ok(())
            } else {
                Err(format!("{refusals:?}"))
            }
        });
    }
}

fn hashed(parts: &[&[u8]]) -> Vec<u8> {
    Sha512::digest(parts.concat())[..32].to_vec()
}

/// The root over these leaves, and of each the way there: what is beside it, and whether that is on the left.
fn tree(leaves: &[Vec<u8>]) -> (Vec<u8>, Vec<Vec<u8>>) {
    if let [leaf] = leaves {
        return (leaf.clone(), vec![Vec::new()]);
    }
    let ((left, lefts), (right, rights)) = {
        let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
        (tree(left), tree(right))
    };
    let lefts = lefts.iter().map(|way| [&**way, &[0], &right].concat());
    let rights = rights.iter().map(|way| [&**way, &[1], &left].concat());
    (hashed(&[&[1], &left, &right]), lefts.chain(rights).collect())
}

/// Follows the bucket of bans.
pub(super) struct Follower(Arc<AtomicU64>);

impl Follower {
    /// The number of the last value that it has heard.
    pub(super) fn heard(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The time in microseconds, so many seconds from now.
pub(super) fn time(seconds: i64) -> i64 {
    jiff::Timestamp::now().as_microsecond() + seconds * 1_000_000
}

/// A ban of an hour, told now, with these changes.
pub(super) fn notice(changes: &Value) -> Value {
    let mut notice = json!({
        "at": time(0), "since": time(0), "until": time(3600), "times": 1, "jail": "sshd", "reason": "5 offences"
    });
    let changes = changes.as_object().unwrap().clone();
    notice.as_object_mut().unwrap().extend(changes);
    notice
}
