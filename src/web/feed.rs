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

use super::page::{self, Mood};
use super::places::Places;
use super::{LATEST, Site};
use crate::control::client::{listed, reply};
use crate::control::{BanFilter, BanLine, Command, Status};
use crate::model::{Mode, plain};
use crate::tools::terminal::local;

/// How many pages are fed at once.
pub(super) const MAX_STREAMS: usize = 32;
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
    /// Its country and network, if they are known.
    pub(super) place: String,
    pub(super) jail: String,
    pub(super) reason: String,
}

impl FeedEvent {
    /// That a ban began.
    pub(super) fn begun(ban: &BanLine) -> Self {
        let what = if ban.mode == Mode::Observe { "observed" } else { "banned" };
        Self::new(what, local(&ban.since), ban)
    }

    /// The same, in this country and network.
    pub(super) fn at(self, place: Option<&String>) -> Self {
        Self { place: place.cloned().unwrap_or_default(), ..self }
    }

    fn new(what: &'static str, at: String, ban: &BanLine) -> Self {
        let BanLine { address, jail, reason, .. } = ban;
        Self {
            id: 0,
            what,
            at: plain(at),
            address: address.to_string(),
            place: String::new(),
            jail: plain(jail),
            reason: page::brief(reason),
        }
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
    pub(super) fn start(socket: PathBuf, geoip: Arc<Places>) -> Self {
        let (sender, latest) = watch::channel(None);
        let places = Arc::new(Semaphore::new(MAX_STREAMS));
        tokio::spawn(look(socket, geoip, Arc::clone(&places), sender));
        Self { places, latest }
    }
}

async fn look(
    socket: PathBuf,
    geoip: Arc<Places>,
    places: Arc<Semaphore>,
    latest: watch::Sender<Option<Arc<FeedMessage>>>,
) {
    let mut round = tokio::time::interval(EVERY);
    round.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut before, mut events, mut number): (Option<BanWindow>, _, _) = (None, VecDeque::new(), 0);
    loop {
        round.tick().await;
        if places.available_permits() == MAX_STREAMS {
            // What happens meanwhile has no time that could be shown.
            (before, events) = (None, VecDeque::new());
            latest.send_replace(None);
            continue;
        }
        let message = match sample(&socket).await {
            Ok((status, bans)) => {
                let happened = match &before {
                    Some(before) => news(before, &bans, jiff::Timestamp::now()),
                    None => bans.bans.iter().take(LATEST).rev().map(FeedEvent::begun).collect::<Vec<_>>(),
                };
                let who = happened.iter().filter_map(|event| event.address.parse().ok()).collect();
                let located = geoip.find(&status.geoip, who).await;
                for (n, event) in happened.into_iter().enumerate() {
                    number += 1;
                    events.push_back(FeedEvent { id: number, ..event.at(located.places.get(n)) });
                }
                events.drain(..events.len().saturating_sub(KEPT));
                before = Some(bans);
                let (mood, texts) = page::texts(&status);
                FeedMessage {
                    mood,
                    texts,
                    alarms: page::alarms(&status, &located),
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

/// The latest bans.
struct BanWindow {
    /// The latest first.
    bans: Vec<BanLine>,
    /// Whether there are no others.
    is_all: bool,
}

impl BanWindow {
    fn keys(&self) -> BTreeSet<BanKey<'_>> {
        self.bans.iter().map(key).collect()
    }

    /// Since when it has all bans.
    fn reach(&self) -> jiff::Timestamp {
        let oldest = self.bans.last().filter(|_| !self.is_all);
        oldest.map_or(jiff::Timestamp::MIN, |ban| instant(&ban.since))
    }
}

type BanKey<'b> = (String, &'b str, &'b str);

fn key(ban: &BanLine) -> BanKey<'_> {
    (ban.address.to_string(), &ban.jail, &ban.since)
}

fn instant(text: &str) -> jiff::Timestamp {
    text.parse().unwrap_or_default()
}

async fn sample(socket: &Path) -> anyhow::Result<(Status, BanWindow)> {
    let status = reply(socket, Command::Status).await?;
    let (bans, total) = listed::<Vec<_>>(socket, Command::Bans(BanFilter::latest(WINDOW))).await?;
    let is_all = total <= bans.len() as u64;
    Ok((status, BanWindow { bans, is_all }))
}

/// What happened between two looks.
///
/// What is older than all of one list is not judged by it: it makes room for newer bans, and comes back when they end.
fn news(before: &BanWindow, after: &BanWindow, now: jiff::Timestamp) -> Vec<FeedEvent> {
    let new_in = |after: &BanWindow, before: &BanWindow| -> Vec<BanLine> {
        let (known, reach) = (before.keys(), before.reach());
        let is_new = |ban: &&BanLine| !known.contains(&key(ban)) && instant(&ban.since) > reach;
        after.bans.iter().filter(is_new).cloned().collect()
    };
    let gone = new_in(before, after).into_iter().map(|ban| {
        let is_over = ban.until.as_deref().is_some_and(|until| instant(until) <= now);
        FeedEvent::new(if is_over { "ended" } else { "lifted" }, local(&now.to_string()), &ban)
    });
    let begun = new_in(after, before).into_iter().rev().map(|ban| FeedEvent::begun(&ban));
    gone.chain(begun).collect()
}

/// The feed as server-sent events. Each has the latest numbers, and what happened since the one before.
pub(super) async fn events(State(site): State<Arc<Site>>, headers: HeaderMap) -> Response {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::manual;
    use crate::model::Timestamp;

    type Row = (u8, i64, Option<i64>);

    /// What happens until second 50 between two lists of hosts whose bans have such a beginning and end; each has all
    /// bans, or the latest.
    #[track_caller]
    fn check(before: (&[Row], bool), after: (&[Row], bool), want: &[&str]) {
        let line = |(host, since, until): &Row| {
            let offender = format!("192.0.2.{host}").parse().unwrap();
            let ban = manual(offender, Timestamp::from_secs(*since), until.map(Timestamp::from_secs), "");
            BanLine::new(&ban, Timestamp::from_secs(50))
        };
        let window =
            |(rows, is_all): (&[Row], bool)| BanWindow { bans: rows.iter().map(line).collect(), is_all };
        let got = news(&window(before), &window(after), jiff::Timestamp::from_second(50).unwrap());
        let got: Vec<String> = got.iter().map(|event| format!("{} {}", event.what, event.address)).collect();
        assert_eq!(got, want);
    }

    #[test]
    fn two_lists_tell_what_happened_between_them() {
        let (a, b) = ((1, 10, Some(50)), (2, 20, Some(60)));
        let check_all =
            |before: &[Row], after: &[Row], want: &[&str]| check((before, true), (after, true), want);
        check_all(&[], &[], &[]);
        check_all(&[b, a], &[b, a], &[]);
        check_all(&[], &[b, a], &["banned 192.0.2.1", "banned 192.0.2.2"]);
        check_all(&[b, a], &[b], &["ended 192.0.2.1"]);
        check_all(&[b, a], &[a], &["lifted 192.0.2.2"]);
        check_all(&[b, a], &[], &["lifted 192.0.2.2", "ended 192.0.2.1"]);
        // A ban that takes the place of another began later.
        check_all(&[b], &[(2, 40, None)], &["lifted 192.0.2.2", "banned 192.0.2.2"]);
    }

    #[test]
    fn what_leaves_a_list_or_comes_back_to_it_is_no_news() {
        let (a, b, c, d) = ((1, 10, None), (2, 20, None), (3, 30, None), (4, 40, None));
        check((&[b, a], true), (&[d, c], false), &["banned 192.0.2.3", "banned 192.0.2.4"]);
        check((&[c, b], false), (&[d, c], false), &["banned 192.0.2.4"]);
        check((&[d, c], false), (&[d, b], false), &["lifted 192.0.2.3"]);
        check((&[d, c], false), (&[b, a], true), &["lifted 192.0.2.4", "lifted 192.0.2.3"]);
    }
}
