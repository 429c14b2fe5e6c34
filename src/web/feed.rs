//! What happens while a page is open: one look at the daemon a second for all pages, and none while no page is open.
//!
//! The daemon lists its latest bans. What is new in that list was banned, and what is missing in it ended or was lifted.
//! So the feed shows no end of a ban that is older than all of [`WINDOW`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use serde::Serialize;
use tokio::sync::{Semaphore, watch};
use tokio::time::MissedTickBehavior;

use super::LATEST;
use super::page::{self, Mood};
use crate::control::client::{listed, reply};
use crate::control::{BanFilter, BanLine, Command, Status};
use crate::model::{Mode, plain};
use crate::tools::terminal::local;

/// How many pages are fed at once.
const MAX_STREAMS: usize = 32;
/// How often the daemon is asked.
const EVERY: Duration = Duration::from_secs(1);
/// How many of the latest bans are compared.
const WINDOW: usize = 500;
/// How many events are kept for who comes back, and so how many one look can bring.
const KEPT: usize = 100;

/// What happened to a ban.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct FeedEvent {
    /// The number of the event.
    pub(super) id: u64,
    /// `banned`, `observed`, `lifted` or `ended`.
    pub(super) what: &'static str,
    /// When, in the zone of this host.
    pub(super) at: String,
    pub(super) address: String,
    pub(super) jail: String,
    pub(super) reason: String,
}

impl FeedEvent {
    /// That a ban began.
    pub(super) fn begun(ban: &BanLine) -> Self {
        let what = if ban.mode == Mode::Observe { "observed" } else { "banned" };
        Self::new(what, local(&ban.since), ban)
    }

    fn new(what: &'static str, at: String, ban: &BanLine) -> Self {
        let BanLine { address, jail, reason, .. } = ban;
        Self { id: 0, what, at, address: address.to_string(), jail: plain(jail), reason: plain(reason) }
    }
}

/// What the pages are told.
#[derive(Clone, Debug, Default, Serialize)]
struct FeedMessage {
    mood: Mood,
    /// The texts of elements, by their ids.
    texts: BTreeMap<String, String>,
    alarms: Vec<String>,
    /// What happened, the latest at the end.
    events: VecDeque<FeedEvent>,
    /// Whether that is all there is to show: it takes the place of what is shown.
    whole: bool,
}

/// The feed of all pages.
pub(super) struct Feed {
    places: Arc<Semaphore>,
    /// `None` until there is a look since the first page was opened.
    latest: watch::Receiver<Option<Arc<FeedMessage>>>,
}

impl Feed {
    /// Begins to look. Must be called in a runtime.
    pub(super) fn start(socket: PathBuf) -> Self {
        let (sender, latest) = watch::channel(None);
        let places = Arc::new(Semaphore::new(MAX_STREAMS));
        tokio::spawn(look(socket, Arc::clone(&places), sender));
        Self { places, latest }
    }
}

async fn look(socket: PathBuf, places: Arc<Semaphore>, latest: watch::Sender<Option<Arc<FeedMessage>>>) {
    let mut round = tokio::time::interval(EVERY);
    round.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut before, mut events, mut number): (Option<Vec<BanLine>>, _, _) = (None, VecDeque::new(), 0);
    loop {
        round.tick().await;
        if places.available_permits() == MAX_STREAMS {
            // What happens meanwhile has no time that could be shown.
            (before, events) = (None, VecDeque::new());
            latest.send_replace(None);
            continue;
        }
        let message = match sample(&socket).await {
            Ok((status, bans, total)) => {
                let all = total <= bans.len() as u64;
                let now = jiff::Timestamp::now();
                let happened = match &before {
                    Some(before) => news(before, &bans, all, now),
                    None => bans.iter().take(LATEST).rev().map(FeedEvent::begun).collect(),
                };
                for event in happened {
                    number += 1;
                    events.push_back(FeedEvent { id: number, ..event });
                }
                events.drain(..events.len().saturating_sub(KEPT));
                before = Some(bans);
                let (mood, texts) = page::texts(&status);
                FeedMessage {
                    mood,
                    texts,
                    alarms: page::alarms(&status),
                    events: events.clone(),
                    whole: true,
                }
            }
            Err(error) => {
                let texts = [("state".to_owned(), "no answer".to_owned())].into();
                let alarms = vec![plain(format!("{error:#}"))];
                FeedMessage { mood: Mood::Bad, texts, alarms, events: events.clone(), whole: true }
            }
        };
        latest.send_replace(Some(Arc::new(message)));
    }
}

async fn sample(socket: &Path) -> anyhow::Result<(Status, Vec<BanLine>, u64)> {
    let status = reply(socket, Command::Status).await?;
    let (bans, total) = listed(socket, Command::Bans(BanFilter::latest(WINDOW))).await?;
    Ok((status, bans, total))
}

/// What happened between two lists of the latest bans, the first of it first; whether the second one has `all` bans.
fn news(before: &[BanLine], after: &[BanLine], all: bool, now: jiff::Timestamp) -> Vec<FeedEvent> {
    type Key<'b> = (String, &'b str, &'b str);
    fn key(ban: &BanLine) -> Key<'_> {
        (ban.address.to_string(), &ban.jail, &ban.since)
    }
    let at = |instant: &str| instant.parse::<jiff::Timestamp>().unwrap_or_default();
    let known: BTreeSet<Key<'_>> = before.iter().map(key).collect();
    let listed: BTreeSet<Key<'_>> = after.iter().map(key).collect();
    // An older one may only have made room.
    let oldest = after.last().filter(|_| !all).map(|ban| at(&ban.since));
    let is_gone =
        |ban: &&BanLine| !listed.contains(&key(ban)) && oldest.is_none_or(|oldest| at(&ban.since) > oldest);
    let gone = before.iter().filter(is_gone).map(|ban| {
        let is_over = ban.until.as_deref().is_some_and(|until| at(until) <= now);
        FeedEvent::new(if is_over { "ended" } else { "lifted" }, local(&now.to_string()), ban)
    });
    let begun = after.iter().filter(|ban| !known.contains(&key(ban))).rev().map(FeedEvent::begun);
    gone.chain(begun).collect()
}

/// The feed as server-sent events. Each has the latest numbers, and what happened since the one before.
pub(super) async fn events(State(site): super::Shared, headers: HeaderMap) -> Response {
    let Ok(place) = Arc::clone(&site.feed.places).try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many pages are open").into_response();
    };
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse::<u64>().ok());
    let mut latest = site.feed.latest.clone();
    latest.mark_changed();
    let stream = unfold((latest, last.unwrap_or(0), place), async |(mut latest, last, place)| {
        loop {
            latest.changed().await.ok()?;
            let Some(message) = latest.borrow_and_update().clone() else { continue };
            let mut message = FeedMessage::clone(&message);
            message.whole = message.events.front().is_none_or(|event| event.id > last);
            message.events.retain(|event| event.id > last);
            let last = message.events.back().map_or(last, |event| event.id);
            let event = Event::default().id(last.to_string()).json_data(&message).ok()?;
            return Some((Ok::<_, Infallible>(event), (latest, last, place)));
        }
    });
    Sse::new(stream).keep_alive(KeepAlive::new()).into_response()
}
