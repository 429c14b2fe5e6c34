//! Lists of bans: which of those in force, in what order, and as text for `ban --from`.

use std::cmp::{Ordering, Reverse};
use std::collections::HashSet;
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::BanLine;
use crate::detect::MANUAL;
use crate::model::{Ban, BanOrigin, BanTerms, Mode, Offender, Span, Timestamp, count, plain};

/// Which of the bans in force to list. What is `None` or empty leaves out nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BanFilter {
    /// Those on this one, and on prefixes around it.
    pub address: Option<Offender>,
    /// Those on this one, and on all inside it.
    pub inside: Option<Offender>,
    /// Those of this jail.
    pub jail: Option<String>,
    /// Those of this origin.
    pub kind: Option<BanOrigin>,
    /// Those that this host has decided, not other hosts of the fleet; no part of a query.
    pub own: bool,
    /// Those that began no longer ago.
    pub since: Option<Span>,
    /// Those that have this in address or jail; letters, digits and `-_.:/`.
    pub text: String,
    /// What comes first.
    pub sort: BanSort,
    /// At most so many.
    pub limit: Option<usize>,
}

/// The order of a list of bans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BanSort {
    /// By address.
    #[default]
    Address,
    /// The latest first.
    Since,
    /// The one that ends first at the front.
    Until,
    /// By jail.
    Jail,
    /// The most bans of one offender first.
    Times,
}

impl BanSort {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Address, Self::Since, Self::Until, Self::Jail, Self::Times];

    /// Its name in a query.
    pub fn name(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Since => "since",
            Self::Until => "until",
            Self::Jail => "jail",
            Self::Times => "times",
        }
    }

    /// No two bans are equal.
    fn compare(self, one: &Ban, other: &Ban) -> Ordering {
        let end = |ban: &Ban| ban.until.unwrap_or(Timestamp::MAX);
        let first = match self {
            Self::Address => Ordering::Equal,
            Self::Since => Reverse(one.since).cmp(&Reverse(other.since)),
            Self::Until => end(one).cmp(&end(other)),
            Self::Jail => one.jail.cmp(&other.jail),
            Self::Times => other.times.cmp(&one.times),
        };
        first.then_with(|| (one.offender, &one.jail).cmp(&(other.offender, &other.jail)))
    }
}

impl BanFilter {
    /// The latest bans, this many, the latest first.
    pub fn latest(limit: usize) -> Self {
        Self { sort: BanSort::Since, limit: Some(limit), ..Self::default() }
    }

    /// The bans that it takes of these, in its order. It sorts only those that it lists.
    pub fn list<'b>(&self, bans: impl Iterator<Item = &'b Ban>, now: Timestamp) -> BanListing {
        let bans = bans.filter(|ban| self.takes(ban, now));
        let (mut bans, total) = match self.limit {
            // There may be a million, and those side by side are compared sooner.
            None => {
                let bans: Vec<Ban> = bans.cloned().collect();
                let total = bans.len();
                (bans, total)
            }
            Some(limit) => {
                let mut bans: Vec<&Ban> = bans.collect();
                let total = bans.len();
                if (1..total).contains(&limit) {
                    bans.select_nth_unstable_by(limit, |one, other| self.sort.compare(one, other));
                }
                (bans.into_iter().take(limit).cloned().collect(), total)
            }
        };
        bans.sort_unstable_by(|one, other| self.sort.compare(one, other));
        BanListing { bans, total: total as u64, now, geoip: Vec::new(), waiting: Arc::default() }
    }

    fn takes(&self, ban: &Ban, now: Timestamp) -> bool {
        self.address.is_none_or(|address| ban.offender.contains(address))
            && self.inside.is_none_or(|wide| wide.contains(ban.offender))
            && self.jail.as_ref().is_none_or(|jail| *ban.jail == **jail)
            && self.kind.is_none_or(|kind| ban.kind == kind)
            && !(self.own && ban.kind == BanOrigin::Peer)
            && self.since.is_none_or(|span| now.since(ban.since) <= span)
            && (self.text.is_empty()
                || ban.jail.contains(&self.text)
                || ban.offender.to_string().contains(&self.text))
    }

    /// The query of a request. No value has a character that would have to be escaped (RFC 3986, 3.4).
    pub(super) fn query(&self) -> String {
        let Self { address, inside, jail, kind, own: _, since, text, sort, limit } = self;
        let mut query = format!("sort={}", sort.name());
        let mut add = |key: &str, value: Option<String>| {
            // Nothing fails to be written to a `String`.
            value.into_iter().for_each(|value| _ = write!(query, "&{key}={value}"));
        };
        add("address", address.map(|address| address.to_string()));
        add("in", inside.map(|inside| inside.to_string()));
        add("jail", jail.clone());
        add("kind", kind.map(|kind| kind.name().to_owned()));
        add("since", since.map(|since| since.as_secs_ceil().to_string()));
        add("text", Some(text.clone()).filter(|text| !text.is_empty()));
        add("limit", limit.map(|limit| limit.to_string()));
        query
    }
}

/// Bans as they are listed: an array of [`BanLine`] in JSON, made only as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BanListing {
    /// Those that are listed.
    pub bans: Vec<Ban>,
    /// How many there are without the limit.
    pub total: u64,
    /// When that was.
    pub now: Timestamp,
    /// The files with the countries and networks of addresses, as configured.
    pub geoip: Vec<PathBuf>,
    /// Whose bans wait for room in the kernel.
    pub waiting: Arc<HashSet<Offender>>,
}

impl Serialize for BanListing {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let line = |ban| BanLine { waits: waits(&self.waiting, ban), ..BanLine::new(ban, self.now) };
        serializer.collect_seq(self.bans.iter().map(line))
    }
}

/// How many bans are in a part of a list in JSON: some 200 kB.
pub(super) const PART: usize = 1000;

/// Whether the ban waits for room in the kernel, where those in `waiting` do.
pub(super) fn waits(waiting: &HashSet<Offender>, ban: &Ban) -> bool {
    ban.mode == Mode::Enforce && waiting.contains(&ban.offender)
}

impl BanListing {
    /// The same in JSON, in parts that are made as they are taken: a million bans are 200 MB.
    pub(super) fn parts(self) -> impl Iterator<Item = serde_json::Result<String>> {
        let last = self.bans.len().div_ceil(PART).max(1);
        (0..last).map(move |nth| {
            let mut part = String::with_capacity(256 * PART);
            part += if nth == 0 { "[" } else { "" };
            let bans = self.bans.chunks(PART).nth(nth).unwrap_or_default();
            // In a flood neighbours have the same terms.
            for run in bans.chunk_by(|one, other| Arc::ptr_eq(&one.terms, &other.terms)) {
                let Some(BanTerms { jail, kind, mode, ports, reason }) = run.first().map(|ban| &*ban.terms)
                else {
                    break;
                };
                let (jail, reason) = (serde_json::to_string(jail)?, serde_json::to_string(reason)?);
                let (kind, mode, ports) = (kind.name(), mode.name(), serde_json::to_string(ports)?);
                let terms = format!(r#""jail":{jail},"kind":"{kind}","mode":"{mode}","ports":{ports}"#);
                for ban in run {
                    let Ban { offender, since, until, times, .. } = ban;
                    part += if part == "[" { "{" } else { ",{" };
                    // Nothing fails to be written to a `String`.
                    let _ = write!(part, r#""address":"{offender}",{terms},"since":"{since}","#);
                    let _ = match until {
                        None => part.write_str(r#""until":null,"left":null,"#),
                        Some(until) => {
                            let left = until.since(self.now).as_secs_ceil();
                            write!(part, r#""until":"{until}","left":{left},"#)
                        }
                    };
                    let _ = write!(part, r#""times":{times},"reason":{reason}"#);
                    part += if waits(&self.waiting, ban) { r#","waits":true}"# } else { "}" };
                }
            }
            part += if nth + 1 == last { "]" } else { "" };
            Ok(part)
        })
    }

    /// The list as text that `ban --from` reads: `ADDRESS END jail=NAME ports=PORT,... since=TIME times=NUMBER # REASON`,
    /// without what a ban by hand on all ports has. What is only observed is in comments. In parts too, the first of which is
    /// a comment.
    pub fn export(self) -> impl Iterator<Item = String> {
        let Self { bans, total, now, .. } = self;
        let bans_in_all = count(total, "ban");
        let first =
            format!("# {bans_in_all} at {now}: ADDRESS END [jail=] [ports=] since= [times=] # REASON\n");
        let parts = (0..bans.len().div_ceil(PART)).map(move |nth| {
            let mut text = String::with_capacity(128 * PART);
            for ban in bans.iter().skip(nth * PART).take(PART) {
                text += if ban.mode == Mode::Observe { "# observed: " } else { "" };
                // Nothing fails to be written to a `String`.
                let _ = export_line(&mut text, ban);
            }
            text
        });
        std::iter::once(first).chain(parts)
    }
}

fn export_line(text: &mut String, ban: &Ban) -> std::fmt::Result {
    let (Ban { offender, since, until, times, .. }, BanTerms { jail, ports, reason, .. }) =
        (ban, &*ban.terms);
    match until {
        Some(until) => write!(text, "{offender} {until}")?,
        None => write!(text, "{offender} forever")?,
    }
    if **jail != *MANUAL {
        write!(text, " jail={jail}")?;
    }
    for (nth, port) in ports.iter().enumerate() {
        write!(text, "{}{port}", if nth == 0 { " ports=" } else { "," })?;
    }
    write!(text, " since={since}")?;
    if *times != 1 {
        write!(text, " times={times}")?;
    }
    *text += if reason.is_empty() { "" } else { " # " };
    *text += &plain(&**reason);
    text.push('\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::manual;

    /// The numbers of the bans that a filter lists of these, and how many it takes.
    #[track_caller]
    fn check(filter: BanFilter, want: &[usize], total: u64) {
        let ban = |offender: &str, jail: &str, kind, since, until: Option<i64>, times| {
            let (since, until) = (Timestamp::from_secs(since), until.map(Timestamp::from_secs));
            let ban = Ban { times, ..manual(offender.parse().unwrap(), since, until, "") };
            ban.with(|ban| (ban.jail, ban.kind) = (jail.into(), kind))
        };
        let bans = [
            ban("192.0.2.9", "sshd", BanOrigin::Auto, 10, Some(400), 1),
            ban("192.0.2.9", "ftp", BanOrigin::Auto, 20, Some(300), 5),
            ban("192.0.2.0/24", "manual", BanOrigin::Manual, 30, None, 1),
            ban("192.0.3.0/24", "wide", BanOrigin::Wide, 40, Some(100), 2),
            ban("2001:db8::/64", "sshd", BanOrigin::Auto, 50, Some(200), 9),
        ];
        let list = filter.list(bans.iter(), Timestamp::from_secs(60));
        let number = |ban: &Ban| bans.iter().position(|other| other == ban).unwrap();
        let got: Vec<usize> = list.bans.iter().map(number).collect();
        assert_eq!((got.as_slice(), list.total), (want, total));
    }

    fn sorted(sort: BanSort, limit: Option<usize>) -> BanFilter {
        BanFilter { sort, limit, ..BanFilter::default() }
    }

    #[test]
    fn a_list_is_in_its_order() {
        check(sorted(BanSort::Address, None), &[2, 1, 0, 3, 4], 5);
        check(sorted(BanSort::Since, None), &[4, 3, 2, 1, 0], 5);
        check(sorted(BanSort::Until, None), &[3, 4, 1, 0, 2], 5);
        check(sorted(BanSort::Jail, None), &[1, 2, 0, 4, 3], 5);
        check(sorted(BanSort::Times, None), &[4, 1, 3, 2, 0], 5);
    }

    #[test]
    fn a_limit_leaves_the_first_and_counts_all() {
        check(sorted(BanSort::Since, Some(2)), &[4, 3], 5);
        check(sorted(BanSort::Until, Some(0)), &[], 5);
        check(sorted(BanSort::Times, Some(9)), &[4, 1, 3, 2, 0], 5);
    }

    #[test]
    fn a_filter_takes_what_it_says() {
        let of = |address: &str| Some(address.parse().unwrap());
        let all = BanFilter::default;
        check(BanFilter { address: of("192.0.2.9"), ..all() }, &[2, 1, 0], 3);
        check(BanFilter { address: of("192.0.2.0/24"), ..all() }, &[2], 1);
        check(BanFilter { address: of("192.0.9.9"), ..all() }, &[], 0);
        check(BanFilter { inside: of("192.0.2.0/24"), ..all() }, &[2, 1, 0], 3);
        check(BanFilter { inside: of("192.0.2.0/23"), limit: Some(1), ..all() }, &[2], 4);
        check(BanFilter { inside: of("2001:db8::/32"), ..all() }, &[4], 1);
        check(BanFilter { jail: Some("sshd".to_owned()), ..all() }, &[0, 4], 2);
        check(BanFilter { jail: Some("ssh".to_owned()), ..all() }, &[], 0);
        check(BanFilter { kind: Some(BanOrigin::Auto), ..all() }, &[1, 0, 4], 3);
        check(BanFilter { since: Some(Span::from_secs(30)), ..all() }, &[2, 3, 4], 3);
        check(BanFilter { text: "ssh".to_owned(), ..all() }, &[0, 4], 2);
        check(BanFilter { text: ".3.".to_owned(), ..all() }, &[3], 1);
        let jail = Some("sshd".to_owned());
        check(BanFilter { inside: of("192.0.0.0/16"), jail, kind: Some(BanOrigin::Auto), ..all() }, &[0], 1);
    }

    #[test]
    fn bans_of_other_hosts_are_not_our_own() {
        let ours = manual("192.0.2.1".parse().unwrap(), Timestamp::from_secs(1), None, "");
        let theirs =
            ours.clone().with(|terms| (terms.jail, terms.kind) = ("fleet:web1".into(), BanOrigin::Peer));
        let list =
            |filter: BanFilter| filter.list([&ours, &theirs].into_iter(), Timestamp::from_secs(2)).total;
        assert_eq!(list(BanFilter::default()), 2);
        assert_eq!(list(BanFilter { own: true, ..BanFilter::default() }), 1);
        assert_eq!(list(BanFilter { jail: Some("fleet:web1".to_owned()), ..BanFilter::default() }), 1);
    }

    #[test]
    fn an_export_is_a_list() {
        let at = |secs: i64| Timestamp::from_secs(1_700_000_000 + secs);
        let ban = |until, reason: &str| manual("192.0.2.1".parse().unwrap(), at(0), until, reason);
        let observed = ban(None, "").with(|ban| ban.mode = Mode::Observe);
        let bans = vec![ban(None, ""), ban(Some(at(60)), "a # b\n\u{1b}[2J"), observed];
        let ports = ["22/tcp", "53/udp"].map(|port| port.parse().unwrap());
        let of_jail = Ban { times: 3, ..ban(None, "x") };
        let of_jail = of_jail.with(|terms| (terms.jail, terms.ports) = ("sshd".into(), ports.into()));
        let bans = [bans, vec![of_jail]].concat();
        let want = "# 4 bans at 2023-11-14T22:13:20Z: ADDRESS END [jail=] [ports=] since= [times=] # REASON\n\
                    192.0.2.1 forever since=2023-11-14T22:13:20Z\n\
                    192.0.2.1 2023-11-14T22:14:20Z since=2023-11-14T22:13:20Z # a # b\u{fffd}\u{fffd}[2J\n\
                    # observed: 192.0.2.1 forever since=2023-11-14T22:13:20Z\n\
                    192.0.2.1 forever jail=sshd ports=22/tcp,53/udp since=2023-11-14T22:13:20Z times=3 # x\n";
        assert_eq!(
            BanListing { bans, total: 4, now: at(0), geoip: Vec::new(), waiting: Arc::default() }
                .export()
                .collect::<String>(),
            want
        );
    }

    #[test]
    fn a_list_in_parts_is_the_list() {
        let port = crate::model::Port { protocol: crate::model::Protocol::Udp, number: 53 };
        let ban = |n: u32| {
            let until =
                n.is_multiple_of(2).then(|| Timestamp::from_micros(1_700_000_000_123_456 + i64::from(n)));
            let offender = std::net::Ipv4Addr::from_bits(n).to_string().parse().unwrap();
            let ban = manual(offender, Timestamp::from_secs(i64::from(n)), until, "a \"b\"\n\u{e9}");
            ban.with(|terms| terms.ports = if n.is_multiple_of(3) { [port].into() } else { [].into() })
        };
        for length in [0, 1, 999, 1000, 1001, 2500] {
            let list = BanListing {
                bans: (0..length).map(ban).collect(),
                total: 0,
                now: Timestamp::from_secs(9),
                geoip: Vec::new(),
                waiting: Arc::new((5..7).map(|n| ban(n).offender).collect()),
            };
            let waiting = [5, 6].map(|n| ban(n).offender);
            let waits = |ban: &Ban| waiting.contains(&ban.offender);
            let line = |ban| BanLine { waits: waits(ban), ..BanLine::new(ban, list.now) };
            let lines: Vec<_> = list.bans.iter().map(line).collect();
            let want = serde_json::to_string(&lines).unwrap();
            assert_eq!(serde_json::to_string(&list).unwrap(), want);
            assert_eq!(list.parts().collect::<Result<String, _>>().unwrap(), want);
        }
    }
}
