//! Digests of news: content and time.
//!
//! A flood of bans must not become a flood of messages: a digest lists a limited number of each kind and counts the
//! rest, and there is one per interval. Digests contain no strangers' text: a reason is what was counted, or an
//! operator's text. Even so no control character gets into a line.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::event::{Event, RECOVERED, line};
use crate::config::{DigestPace, Receiver};
use crate::control::BanLine;
use crate::model::{Mode, Offender, Span, Timestamp, count};

/// What has happened and not been told yet.
#[derive(Clone, Debug, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Digest {
    /// Bans that are carried out.
    bans: DigestSection<BanLine>,
    /// Bans that are not carried out.
    observed: DigestSection<BanLine>,
    /// Bans that began earlier: restored by `undo`, a rollback or a list, or changed in end, reason or mode.
    restored: DigestSection<BanLine>,
    /// Ends of enforced bans.
    unbans: DigestSection<UnbanLine>,
    /// What prevents bans from being enforced.
    troubles: DigestSection<Note>,
    /// Repairs in the kernel.
    repairs: DigestSection<Note>,
    /// Batches of news that were lost because they came too fast.
    missed: u64,
    /// All that is listed, for people, in the order in which it happened.
    #[serde(skip)]
    lines: Vec<String>,
    /// The final problem state.
    #[serde(skip)]
    trouble: Option<&'static str>,
}

/// News of one kind.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct DigestSection<T> {
    /// How many.
    total: u64,
    /// How many of each jail.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    jails: BTreeMap<Arc<str>, u64>,
    /// The first of them.
    listed: Vec<T>,
}

impl<T> Default for DigestSection<T> {
    fn default() -> Self {
        Self { total: 0, jails: BTreeMap::new(), listed: Vec::new() }
    }
}

#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct UnbanLine {
    /// The address or prefix.
    address: Offender,
    /// The jail of the ban.
    jail: Arc<str>,
    /// Why it ended: `expired`, `lifted` or `replaced`.
    reason: &'static str,
}

#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct Note {
    /// The time, in RFC 3339.
    at: String,
    /// The text.
    what: String,
}

impl<T> DigestSection<T> {
    /// Counts one, and lists it where there is room.
    fn add(&mut self, jail: Option<&Arc<str>>, at_most: usize, item: T) -> bool {
        self.total += 1;
        if let Some(jail) = jail {
            *self.jails.entry(Arc::clone(jail)).or_default() += 1;
        }
        let room = self.listed.len() < at_most;
        if room {
            self.listed.push(item);
        }
        room
    }

    /// Such as `3 bans (ftp 1, sshd 2)`, unless there are none.
    fn summary(&self, one: &str) -> Option<String> {
        let jails: Vec<String> = self.jails.iter().map(|(jail, times)| format!("{jail} {times}")).collect();
        let jails = if jails.is_empty() { String::new() } else { format!(" ({})", jails.join(", ")) };
        (self.total > 0).then(|| format!("{}{jails}", count(self.total, one)))
    }

    /// What is counted and not listed.
    fn rest(&self, one: &str) -> Option<String> {
        let rest = self.total - self.listed.len() as u64;
        (rest > 0).then(|| format!("not listed: {}", count(rest, one)))
    }
}

impl Digest {
    fn note(&mut self, event: &Event, at_most: usize, at: Timestamp) {
        let note = |what: &str| Note { at: at.to_string(), what: what.to_owned() };
        let listed = match event {
            Event::Banned(ban) => {
                let bans = if ban.mode == Mode::Enforce { &mut self.bans } else { &mut self.observed };
                bans.add(Some(&ban.jail), at_most, BanLine::new(ban, at))
            }
            Event::Restored(ban) => self.restored.add(Some(&ban.jail), at_most, BanLine::new(ban, at)),
            Event::Unbanned { ban, ended: reason, .. } => {
                let unban = UnbanLine { address: ban.offender, jail: Arc::clone(&ban.jail), reason };
                self.unbans.add(Some(&ban.jail), at_most, unban)
            }
            Event::Trouble(what) => {
                self.trouble = Some("trouble");
                self.troubles.add(None, at_most, note(what))
            }
            Event::Recovered => {
                self.trouble = Some("trouble is over");
                self.troubles.add(None, at_most, note(RECOVERED))
            }
            Event::Repaired(what) => self.repairs.add(None, at_most, note(what)),
        };
        if listed {
            self.lines.push(event.line());
        }
    }

    fn subject(&self) -> String {
        let parts = [
            self.trouble.map(str::to_owned),
            self.bans.summary("ban"),
            self.observed.summary("observed ban"),
            self.restored.summary("restored ban"),
            self.unbans.summary("unban"),
            self.repairs.summary("repair"),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        if parts.is_empty() { "news".to_owned() } else { parts.join(", ") }
    }

    fn text(&self) -> String {
        let rests = [
            self.bans.rest("ban"),
            self.observed.rest("observed ban"),
            self.restored.rest("restored ban"),
            self.unbans.rest("unban"),
            self.troubles.rest("trouble"),
            self.repairs.rest("repair"),
            (self.missed > 0).then(|| {
                format!("lost, because they came too fast: {}", count(self.missed, "batch") + " of news")
            }),
        ];
        let lines = self.lines.iter().cloned().chain(rests.into_iter().flatten());
        lines.map(|line| line + "\n").collect()
    }
}

/// What a receiver is to be told, and when.
///
/// All times are those that have passed since some beginning, by a clock that nobody sets.
#[derive(Clone, Debug)]
pub struct Outbox {
    pace: DigestPace,
    digest: Digest,
    /// When its first news came; `None` where there are none.
    first: Option<Span>,
    /// When the last digest was taken out.
    taken: Option<Span>,
}

impl Outbox {
    /// Nothing, yet.
    pub fn new(pace: DigestPace) -> Self {
        Self { pace, digest: Digest::default(), first: None, taken: None }
    }

    /// Notes an event. Its size is bounded.
    pub fn note(&mut self, event: &Event, at: Timestamp, passed: Span) {
        self.first.get_or_insert(passed);
        self.digest.note(event, self.pace.at_most, at);
    }

    /// Notes that so many batches of news were lost.
    pub fn miss(&mut self, batches: u64, passed: Span) {
        self.first.get_or_insert(passed);
        self.digest.missed += batches;
    }

    /// When the next digest is to go; `None` where there is nothing to tell.
    pub fn due(&self) -> Option<Span> {
        let plus =
            |time: Span, span: Span| Span::from_micros(time.as_micros().saturating_add(span.as_micros()));
        let DigestPace { delay, every, .. } = self.pace;
        let next = self.taken.map_or(Span::ZERO, |taken| plus(taken, every));
        self.first.map(|first| plus(first, delay).max(next))
    }

    /// Takes the digest out, due or not; `None` where there is nothing to tell.
    pub fn take(&mut self, passed: Span) -> Option<Digest> {
        self.first.take()?;
        self.taken = Some(passed);
        Some(std::mem::take(&mut self.digest))
    }
}

/// The name of this host, of which all is left out that is not in names of hosts.
pub fn host(name: &str) -> String {
    name.chars().filter(|c| c.is_ascii_alphanumeric() || ".-_".contains(*c)).take(64).collect()
}

/// A digest, addressed and worded.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Message {
    /// The receiver's name.
    receiver: Arc<str>,
    /// The daemon's version.
    version: &'static str,
    /// This host's name.
    host: String,
    /// When the message was made.
    at: String,
    /// One short line of text, made of numbers and of names that are checked.
    pub subject: String,
    /// The whole, for people.
    pub text: String,
    #[serde(flatten)]
    digest: Digest,
}

impl Message {
    /// What this digest says, from this [`host`].
    pub fn new(receiver: &Receiver, digest: Digest, host: &str, at: Timestamp) -> Self {
        let (subject, text) = (digest.subject(), digest.text());
        Self::worded(receiver, digest, host, at, &subject, text)
    }

    /// A message that says that it is a test.
    pub fn test(receiver: &Receiver, host: &str, at: Timestamp) -> Self {
        let text = format!("This is a test of the receiver `{}`.\n", receiver.name);
        Self::worded(receiver, Digest::default(), host, at, "a test", text)
    }

    fn worded(
        receiver: &Receiver,
        digest: Digest,
        host: &str,
        at: Timestamp,
        subject: &str,
        text: String,
    ) -> Self {
        let subject = line(&format!("banstream on {host}: {subject}"));
        let (receiver, version) = (Arc::clone(&receiver.name), env!("CARGO_PKG_VERSION"));
        Self { receiver, version, host: host.to_owned(), at: at.to_string(), subject, text, digest }
    }

    /// The whole, for programs.
    pub fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The main things, for a program's environment.
    pub fn environment(&self) -> [(&'static str, String); 8] {
        let addresses: Vec<String> =
            self.digest.bans.listed.iter().map(|ban| ban.address.to_string()).collect();
        [
            ("BANSTREAM_RECEIVER", self.receiver.to_string()),
            ("BANSTREAM_HOST", self.host.clone()),
            ("BANSTREAM_SUBJECT", self.subject.clone()),
            ("BANSTREAM_BANS", self.digest.bans.total.to_string()),
            ("BANSTREAM_OBSERVED", self.digest.observed.total.to_string()),
            ("BANSTREAM_RESTORED", self.digest.restored.total.to_string()),
            ("BANSTREAM_UNBANS", self.digest.unbans.total.to_string()),
            ("BANSTREAM_ADDRESSES", addresses.join(" ")),
        ]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::config::{Grouping, NotifyChannel, Topic};
    use crate::daemon::notify::event::LONGEST;
    use crate::detect::manual;
    use crate::model::Ban;

    const PACE: DigestPace =
        DigestPace { delay: Span::from_secs(10), every: Span::from_secs(300), at_most: 2 };

    fn receiver() -> Receiver {
        Receiver {
            name: "ops".into(),
            channel: NotifyChannel::Command(vec!["/bin/true".to_owned()]),
            topics: vec![Topic::Ban, Topic::Unban, Topic::Trouble, Topic::Repair],
            jails: vec![],
            grouping: Grouping::Digests(PACE),
            timeout: Span::from_secs(10),
        }
    }

    fn ban(address: &str, jail: &str, reason: &str) -> Ban {
        let until = Timestamp::from_secs(3600);
        let ban = manual(address.parse().unwrap(), Timestamp::default(), Some(until), reason);
        ban.with(|ban| ban.jail = jail.into())
    }

    fn banned(address: &str, jail: &str) -> Event {
        Event::Banned(ban(address, jail, "seen"))
    }

    /// The message to a receiver about these events.
    fn message(receiver: Receiver, events: &[Event]) -> Option<Message> {
        let mut outbox = Outbox::new(PACE);
        let wanted = events.iter().filter(|event| event.is_for(&receiver));
        wanted.for_each(|event| outbox.note(event, Timestamp::default(), Span::ZERO));
        let host = host("web1\n");
        outbox.take(Span::ZERO).map(|digest| Message::new(&receiver, digest, &host, Timestamp::default()))
    }

    #[track_caller]
    fn check(receiver: Receiver, events: &[Event], subject: &str, text: &str) {
        let message = message(receiver, events).expect("something to tell");
        assert_eq!((&*message.subject, &*message.text), (subject, text));
    }

    #[test]
    fn a_digest_lists_some_and_counts_the_rest() {
        let flood: Vec<Event> = (0..1000).map(|n| banned(&format!("192.0.2.{}", n % 250), "sshd")).collect();
        let text = "banned 192.0.2.0 for 1h (sshd, time 1): seen\nbanned 192.0.2.1 for 1h (sshd, time 1): seen\n\
                    not listed: 998 bans\n";
        check(receiver(), &flood, "banstream on web1: 1000 bans (sshd 1000)", text);
    }

    #[test]
    fn news_stand_in_the_order_in_which_they_came() {
        let unban = |ended| Event::Unbanned { ban: ban("192.0.2.1", "ftp", ""), ended, others: vec![] };
        let events = [
            Event::Trouble("no set".to_owned()),
            banned("192.0.2.1", "ftp"),
            Event::Repaired("recreated 1 rule".to_owned()),
            Event::Recovered,
            banned("192.0.2.2", "sshd"),
            unban("lifted"),
        ];
        let text = "trouble: no set\nbanned 192.0.2.1 for 1h (ftp, time 1): seen\n\
                    repaired in the kernel: recreated 1 rule\nbans are enforced again\n\
                    banned 192.0.2.2 for 1h (sshd, time 1): seen\nunbanned 192.0.2.1 (ftp): lifted\n";
        let subject = "banstream on web1: trouble is over, 2 bans (ftp 1, sshd 1), 1 unban (ftp 1), 1 repair";
        check(receiver(), &events, subject, text);
    }

    #[test]
    fn a_receiver_hears_what_it_asked_for() {
        let events =
            [banned("192.0.2.1", "ftp"), banned("192.0.2.2", "sshd"), Event::Repaired("x".to_owned())];
        let ssh = Receiver { jails: vec!["sshd".to_owned()], topics: vec![Topic::Ban], ..receiver() };
        let text = "banned 192.0.2.2 for 1h (sshd, time 1): seen\n";
        check(ssh.clone(), &events, "banstream on web1: 1 ban (sshd 1)", text);
        // Trouble belongs to no jail.
        let ssh = Receiver { topics: vec![Topic::Trouble], ..ssh };
        check(
            ssh.clone(),
            &[Event::Recovered],
            "banstream on web1: trouble is over",
            "bans are enforced again\n",
        );
        assert!(message(ssh, &events).is_none());
    }

    #[test]
    fn a_ban_that_is_only_observed_is_told_as_such() {
        let observed = ban("192.0.2.2", "sshd", "seen").with(|ban| ban.mode = Mode::Observe);
        let events = [
            Event::Banned(observed.clone()),
            Event::Unbanned { ban: observed, ended: "expired", others: vec![] },
            banned("192.0.2.1", "ftp"),
        ];
        let text =
            "would ban 192.0.2.2 for 1h (sshd, time 1): seen\nbanned 192.0.2.1 for 1h (ftp, time 1): seen\n";
        check(receiver(), &events, "banstream on web1: 1 ban (ftp 1), 1 observed ban (sshd 1)", text);
        let [.., addresses] = message(receiver(), &events).unwrap().environment();
        assert_eq!(addresses.1, "192.0.2.1");
    }

    #[test]
    fn a_restored_ban_is_not_a_new_one() {
        let events = [banned("192.0.2.1", "ftp"), Event::Restored(ban("192.0.2.2", "sshd", "seen"))];
        let text =
            "banned 192.0.2.1 for 1h (ftp, time 1): seen\nthe ban on 192.0.2.2 (sshd) is in force: seen\n";
        check(receiver(), &events, "banstream on web1: 1 ban (ftp 1), 1 restored ban (sshd 1)", text);
        let [.., addresses] = message(receiver(), &events).unwrap().environment();
        assert_eq!(addresses.1, "192.0.2.1");
    }

    #[test]
    fn words_make_no_line_and_no_header_of_their_own() {
        let forged = Event::Banned(ban("192.0.2.1", "manual", "x\nBcc: eve@example.org\r\n\u{1b}[2J\n.\n"));
        let text = "banned 192.0.2.1 for 1h (manual, time 1): x\u{fffd}Bcc: \
                    eve@example.org\u{fffd}\u{fffd}\u{fffd}[2J\u{fffd}.\u{fffd}\n";
        check(receiver(), std::slice::from_ref(&forged), "banstream on web1: 1 ban (manual 1)", text);
        let mail = super::super::mail::compose("root", Some("b@x"), &message(receiver(), &[forged]).unwrap());
        let head = "To: root\nFrom: b@x\nSubject: banstream on web1: 1 ban (manual 1)\n\
                    Auto-Submitted: auto-generated\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\
                    Content-Transfer-Encoding: 8bit";
        assert_eq!(mail.split_once("\n\n"), Some((head, text)));
        let long = line(&"\u{e9}".repeat(1000));
        assert_eq!(long.len(), 2 * LONGEST + 3);
    }

    #[test]
    fn a_program_is_told_the_same() {
        let told = message(receiver(), &[banned("192.0.2.1", "ftp"), Event::Recovered]).unwrap();
        let json: Value = serde_json::from_str(&told.json()).unwrap();
        let ban = json!({"address": "192.0.2.1", "jail": "ftp", "kind": "manual", "mode": "enforce", "ports": [], "reason": "seen",
            "since": "1970-01-01T00:00:00Z", "until": "1970-01-01T01:00:00Z", "left": 3600, "times": 1});
        let over = json!({"at": "1970-01-01T00:00:00Z", "what": "bans are enforced again"});
        let want = json!({"receiver": "ops", "host": "web1", "at": "1970-01-01T00:00:00Z",
            "version": env!("CARGO_PKG_VERSION"), "subject": told.subject, "text": told.text, "missed": 0,
            "bans": {"total": 1, "jails": {"ftp": 1}, "listed": [ban]}, "observed": {"total": 0, "listed": []},
            "restored": {"total": 0, "listed": []},
            "unbans": {"total": 0, "listed": []},
            "troubles": {"total": 1, "listed": [over]}, "repairs": {"total": 0, "listed": []}});
        assert_eq!(json, want);
        let [.., bans, _, _, _, addresses] = told.environment();
        assert_eq!((bans.1.as_str(), addresses.1.as_str()), ("1", "192.0.2.1"));
    }

    #[test]
    fn the_first_news_wait_a_little_and_the_next_as_long_as_was_said() {
        let mut outbox = Outbox::new(PACE);
        let seconds = |seconds| Some(Span::from_secs(seconds));
        let note = |outbox: &mut Outbox, at| {
            outbox.note(&Event::Recovered, Timestamp::default(), Span::from_secs(at));
            outbox.due()
        };
        assert_eq!(outbox.due(), None);
        assert_eq!((note(&mut outbox, 100), note(&mut outbox, 105)), (seconds(110), seconds(110)));
        assert!(outbox.take(Span::from_secs(110)).is_some() && outbox.take(Span::from_secs(110)).is_none());
        assert_eq!((outbox.due(), note(&mut outbox, 111)), (None, seconds(410)));
        outbox.take(Span::from_secs(410));
        assert_eq!(note(&mut outbox, 1000), seconds(1010));
    }

    #[test]
    fn what_was_lost_on_the_way_is_told() {
        let mut outbox = Outbox::new(PACE);
        outbox.miss(3, Span::ZERO);
        let digest = outbox.take(Span::ZERO).unwrap();
        assert_eq!(
            (digest.subject(), digest.text()),
            ("news".to_owned(), "lost, because they came too fast: 3 batches of news\n".to_owned())
        );
    }
}
