//! Counting across the fleet. Pure but for the shape of what is told.
//!
//! Each member tells for each offender which times stand in its window of a jail: a state, not a stream of events, so that
//! nothing counts twice, whatever is told or read again. Counters add up the windows of all members. Of a window the last
//! `maxretry` times are enough for that to be exact.
//!
//! Offenders are divided into [`PARTITIONS`]. Of each partition the two counters with the highest hash are responsible, both
//! with the same result: where one dies the other goes on, and a ban that both decide is one ban.
//!
//! A key is `HOST.PARTITION.ADDRESS/LENGTH.JAIL`.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::notice;
use crate::config::is_jail_name;
use crate::model::{Offender, Span, Timestamp, fnv1a};

/// What stands in a member's window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CountNotice {
    /// When it was told, in microseconds.
    pub at: Timestamp,
    /// The times, in microseconds, in order; none where the window is empty.
    pub times: Vec<Timestamp>,
}

/// Whose window of which jail.
pub type CountKey = (Arc<str>, Offender);

/// How many parts the offenders are divided into.
pub const PARTITIONS: u8 = 16;
/// How many counters are responsible for a part.
const RESPONSIBLE: usize = 2;
/// How much is known at most, of all members together: each window of a member is one, and each time in it.
const MOST: usize = 4_000_000;
/// How much of one member.
const MOST_OF_ONE: usize = 1_000_000;
/// The longest value, in bytes: room for as many times.
pub const LONGEST: usize = 8192;
/// How many times a window has at most: the largest `maxretry`.
const MOST_TIMES: usize = 255;

impl CountNotice {
    fn weight(&self) -> usize {
        1 + self.times.len()
    }

    /// Reads the JSON of a value.
    pub(super) fn read(json: &[u8]) -> Option<Self> {
        let notice: Self = serde_json::from_slice(json).ok()?;
        let is_sound = notice.times.len() <= MOST_TIMES && notice.times.is_sorted();
        is_sound.then_some(notice)
    }
}

/// The part that an offender belongs to.
pub fn partition(offender: Offender) -> u8 {
    (hash(offender.to_string().bytes()) % u64::from(PARTITIONS)) as u8
}

/// The parts that a host is responsible for, if these are the counters.
pub fn responsible<'c>(host: &str, counters: impl Iterator<Item = &'c str> + Clone) -> Vec<u8> {
    let is_mine = |part: &u8| {
        let weight = |counter: &str| hash(counter.bytes().chain([0, *part]));
        let mine = weight(host);
        counters.clone().filter(|counter| *counter != host && weight(counter) > mine).count() < RESPONSIBLE
    };
    let is_counter = counters.clone().any(|counter| counter == host);
    (0..PARTITIONS).filter(|part| is_counter && is_mine(part)).collect()
}

/// FNV-1a, and a last round that spreads what differs in the last bytes only. All members compute the same.
fn hash(bytes: impl Iterator<Item = u8>) -> u64 {
    let hash = fnv1a(bytes);
    (hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 8
}

/// The key of a host's window.
pub fn key(host: &str, (jail, offender): &CountKey) -> String {
    let rest = notice::key(host, *offender);
    let address = rest.get(host.len() + 1..).unwrap_or_default();
    format!("{host}.{}.{address}.{jail}", partition(*offender))
}

/// The host and the window of a key; nothing if it is none that [`key`] makes.
pub fn read_key(text: &str) -> Option<(&str, CountKey)> {
    let (host, rest) = text.split_once('.')?;
    let (_, rest) = rest.split_once('.')?;
    let (before, jail) = rest.rsplit_once('.')?;
    let window = (Arc::from(jail), notice::read_key(&format!("{host}.{before}"))?.1);
    (is_jail_name(jail) && key(host, &window) == text).then_some((host, window))
}

/// What amounts to a ban.
#[derive(Clone, Copy, Debug)]
pub struct FleetThreshold {
    /// This many offences.
    pub full: u8,
    /// Within this time.
    pub span: Span,
    /// On so many hosts at least, and two: one alone bans by itself.
    pub hosts: usize,
}

/// What a counter knows of the windows of all members.
#[derive(Debug, Default)]
pub struct Sums {
    windows: HashMap<CountKey, Sum>,
    /// How much is known of each member.
    hosts: HashMap<Arc<str>, usize>,
    /// How much is known of all.
    all: usize,
}

#[derive(Debug, Default)]
struct Sum {
    /// By host: when it was told, and the times.
    hosts: Vec<(Arc<str>, CountNotice)>,
    /// Up to when offences have led to a ban.
    used: Option<Timestamp>,
}

impl Sums {
    /// Hears what stands in a member's window now. If enough stands in those of enough members, within the span, when that was
    /// reached; what was counted is used up with that.
    pub fn hear(
        &mut self,
        host: &Arc<str>,
        window: &CountKey,
        mut notice: CountNotice,
        threshold: FleetThreshold,
    ) -> Option<Timestamp> {
        let surplus = notice.times.len().saturating_sub(usize::from(threshold.full));
        notice.times.drain(..surplus);
        let known =
            self.windows.get(window).and_then(|sum| sum.hosts.iter().find(|(known, _)| known == host));
        if known.is_some_and(|(_, known)| known.at >= notice.at)
            || (known.is_none() && notice.times.is_empty())
        {
            return None;
        }
        let before = known.map_or(0, |(_, known)| known.weight());
        let theirs = self.hosts.get(host).copied().unwrap_or_default() + notice.weight() - before;
        let all = self.all + notice.weight() - before;
        if theirs > MOST_OF_ONE || all > MOST {
            return None;
        }
        self.hosts.insert(Arc::clone(host), theirs);
        self.all = all;
        let sum = self.windows.entry(window.clone()).or_default();
        match sum.hosts.iter_mut().find(|(known, _)| known == host) {
            Some((_, known)) => *known = notice,
            None => sum.hosts.push((Arc::clone(host), notice)),
        }
        let (reached, last) = sum.reached(threshold)?;
        // What came later stood in the windows when the ban was due.
        sum.used = Some(last);
        Some(reached)
    }

    /// Forgets what no ban can come of any more: windows whose last time is longer ago than the span of their jail.
    pub fn sweep(&mut self, now: Timestamp, span: impl Fn(&str) -> Option<Span>) {
        let (hosts, all) = (&mut self.hosts, &mut self.all);
        self.windows.retain(|(jail, _), sum| {
            let times = sum.hosts.iter().filter_map(|(_, notice)| notice.times.last());
            let last = times.copied().chain(sum.used).max();
            let keeps = last.zip(span(jail)).is_some_and(|(last, span)| now.since(last) <= span);
            for (host, notice) in sum.hosts.iter().filter(|_| !keeps) {
                *all -= notice.weight();
                hosts.entry(Arc::clone(host)).and_modify(|theirs| *theirs -= notice.weight());
            }
            keeps
        });
    }

    /// How many windows are known.
    pub fn len(&self) -> usize {
        self.windows.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }
}

impl Sum {
    /// When a window was full with offences on enough hosts, and the last time of all.
    fn reached(
        &self,
        FleetThreshold { full, span, hosts }: FleetThreshold,
    ) -> Option<(Timestamp, Timestamp)> {
        let mut unused: Vec<(Timestamp, usize)> = Vec::new();
        for (host, (_, notice)) in self.hosts.iter().enumerate() {
            let times = notice.times.iter().filter(|time| Some(**time) > self.used);
            unused.extend(times.map(|time| (*time, host)));
        }
        unused.sort_unstable();
        let filled = unused.windows(usize::from(full.max(1))).find_map(|some| {
            let ((first, _), (last, _)) = (some.first()?, some.last()?);
            let on: BTreeSet<usize> = some.iter().map(|(_, host)| *host).collect();
            (last.since(*first) <= span && on.len() >= hosts.max(2)).then_some(*last)
        })?;
        Some((filled, unused.last().map_or(filled, |(last, _)| *last)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const THRESHOLD: FleetThreshold = FleetThreshold { full: 5, span: Span::from_secs(600), hosts: 1 };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    fn window() -> CountKey {
        ("sshd".into(), "192.0.2.1".parse().unwrap())
    }

    fn notice(told: i64, times: &[i64]) -> CountNotice {
        CountNotice { at: at(told), times: times.iter().copied().map(at).collect() }
    }

    fn hear(sums: &mut Sums, host: &str, told: i64, times: &[i64]) -> Option<Timestamp> {
        sums.hear(&host.into(), &window(), notice(told, times), THRESHOLD)
    }

    #[test]
    fn one_attempt_at_each_of_five_hosts_is_five() {
        let mut sums = Sums::default();
        for (n, host) in (1..).zip(["a", "b", "c", "d"]) {
            assert_eq!(hear(&mut sums, host, n, &[n]), None);
        }
        assert_eq!(hear(&mut sums, "e", 5, &[5]), Some(at(5)));
        // What has led to a ban is used up.
        assert_eq!(hear(&mut sums, "f", 6, &[6]), None);
    }

    #[test]
    fn nothing_counts_twice_whatever_is_told_again() {
        let mut sums = Sums::default();
        for _ in 0..10 {
            assert_eq!(hear(&mut sums, "a", 1, &[1, 2]), None);
            assert_eq!(hear(&mut sums, "b", 1, &[3, 4]), None);
        }
        // An old state does not come back.
        assert_eq!(hear(&mut sums, "a", 2, &[]), None);
        assert_eq!(hear(&mut sums, "a", 1, &[1, 2, 3]), None);
        assert_eq!(hear(&mut sums, "c", 1, &[5]), None);
    }

    #[test]
    fn one_host_alone_brings_no_ban_about() {
        let mut sums = Sums::default();
        assert_eq!(hear(&mut sums, "a", 1, &[1, 2, 3, 4, 5, 6]), None);
        assert_eq!(hear(&mut sums, "b", 2, &[7]), Some(at(7)));
    }

    #[test]
    fn as_many_hosts_as_are_to_agree_must_have_seen_some() {
        let mut sums = Sums::default();
        let mut hear = |host: &str, times: &[i64]| {
            let threshold = FleetThreshold { hosts: 3, ..THRESHOLD };
            sums.hear(&host.into(), &window(), notice(1, times), threshold)
        };
        assert_eq!(hear("a", &[1, 2, 3, 4]), None);
        assert_eq!(hear("b", &[5, 6]), None);
        assert_eq!(hear("c", &[7]), Some(at(7)));
    }

    #[test]
    fn no_member_fills_the_table() {
        let mut sums = Sums::default();
        let mut hear = |host: &str, n: u32| {
            let who = Offender::single(std::net::Ipv4Addr::from_bits(n).into());
            let times: Vec<i64> = (0..255).collect();
            let threshold = FleetThreshold { full: 255, ..THRESHOLD };
            sums.hear(&host.into(), &("sshd".into(), who), notice(1, &times), threshold);
            (sums.len(), sums.all)
        };
        let filled = (0..5000).map(|n| hear("rogue", n)).last().unwrap();
        assert!(filled.1 <= MOST_OF_ONE && filled.0 < 5000, "{filled:?}");
        assert_eq!(hear("web1", 1_000_000).0, filled.0 + 1);
    }

    #[test]
    fn what_is_further_apart_than_the_span_does_not_count_together() {
        let mut sums = Sums::default();
        assert_eq!(hear(&mut sums, "a", 1, &[0, 1]), None);
        assert_eq!(hear(&mut sums, "b", 1, &[300, 601, 602]), None);
        assert_eq!(hear(&mut sums, "c", 1, &[603]), None);
        assert_eq!(hear(&mut sums, "d", 1, &[604]), Some(at(604)));
    }

    #[test]
    fn what_is_over_is_forgotten() {
        let mut sums = Sums::default();
        hear(&mut sums, "a", 1, &[1]);
        sums.sweep(at(500), |_| Some(Span::from_secs(600)));
        assert_eq!(sums.len(), 1);
        sums.sweep(at(602), |_| Some(Span::from_secs(600)));
        assert!(sums.is_empty());
        assert_eq!((sums.hosts[&Arc::from("a")], sums.all), (0, 0));
    }

    proptest! {
        /// Whatever is told in which order and how often, the result is that of one host that has seen all offences.
        #[test]
        fn is_one_window_over_all_hosts(offences in prop::collection::vec((0..4_usize, 0..3000_i64), 0..40), full in 2..6_u8) {
            let (span, names) = (Span::from_secs(600), ["a", "b", "c", "d"].map(Arc::<str>::from));
            let mut offences = offences;
            offences.sort_unstable_by_key(|(_, time)| *time);
            offences.dedup_by_key(|(_, time)| *time);
            let (mut sums, mut windows, mut all) = (Sums::default(), vec![Vec::new(); 4], Vec::new());
            for (told, (host, time)) in (1..).zip(offences) {
                windows[host].push(time);
                all.push((host, time));
                let last = windows[host].len().saturating_sub(usize::from(full));
                let reached = sums.hear(&names[host], &window(), notice(told, &windows[host][last..]), FleetThreshold { full, span, hosts: 2 });
                let recent: Vec<_> = all.iter().filter(|(_, then)| time - then <= 600).collect();
                let hosts = |host: usize| recent.iter().any(|(one, _)| *one == host);
                let is_full = recent.len() >= usize::from(full) && (0..4).filter(|host| hosts(*host)).count() >= 2;
                // A host with a full window has banned by itself, and its window is empty.
                let alone = windows.iter().any(|times| {
                    times.len() >= usize::from(full) && time - times[times.len() - usize::from(full)] <= 600
                });
                prop_assume!(!alone);
                prop_assert_eq!(reached.is_some(), is_full);
                if is_full {
                    all.clear();
                    windows.iter_mut().for_each(Vec::clear);
                }
            }
        }
    }

    #[test]
    fn the_longest_window_fits_into_a_value() {
        let ever = |nth: usize| Timestamp::from_micros(i64::MAX - 1000 + nth as i64);
        let notice = CountNotice { at: ever(0), times: (0..MOST_TIMES).map(ever).collect() };
        let json = serde_json::to_vec(&notice).unwrap();
        // The signature stands in a line of its own.
        assert!(json.len() + 87 <= LONGEST, "{}", json.len());
        assert_eq!(CountNotice::read(&json), Some(notice));
    }

    #[test]
    fn a_key_is_read_as_it_is_made() {
        for who in ["192.0.2.1", "2001:db8::/64", "192.0.2.0/24"] {
            let window = (Arc::from("http-probe"), who.parse().unwrap());
            let text = key("web-1", &window);
            assert_eq!(read_key(&text), Some(("web-1", window)), "{text}");
        }
        for wrong in [
            "",
            "web1.3",
            "web1.99.192.0.2.1/32.sshd",
            "web1.x.192.0.2.1/32.sshd",
            "web1.3.192.0.2.1/32.",
            "web1.3.192.0.2.1/32",
        ] {
            assert_eq!(read_key(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn each_part_has_two_counters_and_one_that_dies_leaves_the_others_theirs() {
        let all = ["a", "b", "c", "d", "e"];
        let of = |counters: &[&str], part: u8| -> Vec<String> {
            let is_one = |host: &&&str| responsible(host, counters.iter().copied()).contains(&part);
            counters.iter().filter(is_one).map(|host| (*host).to_owned()).collect()
        };
        for part in 0..PARTITIONS {
            let before = of(&all, part);
            assert_eq!(before.len(), 2, "{part}");
            let after = of(&["a", "b", "c", "d"], part);
            assert!(before.iter().filter(|host| *host != "e").all(|host| after.contains(host)), "{part}");
            assert_eq!(of(&["a"], part), ["a"]);
        }
        assert!(responsible("x", all.into_iter()).is_empty());
        let shares: Vec<usize> = all.iter().map(|host| responsible(host, all.into_iter()).len()).collect();
        assert!(shares.iter().all(|share| *share > 0), "{shares:?}");
    }
}
