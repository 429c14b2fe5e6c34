//! What other members may cause here: local policy. Pure.
//!
//! Of each member it is known up to when it was heard; what is not later has had its effect, or was refused. That time is
//! kept in the ledger with the bans that came of it, so that a crash changes nothing, and that a ban which an operator has
//! lifted here does not come back when all is read again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Heard, NoticeRefusal, jail_of};
use crate::config::PeerPolicy;
use crate::model::{Ban, Offender, Span, Timestamp};

/// The members that were heard of.
#[derive(Debug)]
pub struct Peers {
    /// Our own name: what we say ourselves we know.
    own: String,
    policy: PeerPolicy,
    peers: BTreeMap<Arc<str>, Peer>,
    /// Who is a member.
    members: BTreeSet<Arc<str>>,
    /// What was refused of strangers.
    strangers: u64,
}

/// What is known of one member.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The jail of its bans.
    pub jail: Arc<str>,
    /// Up to when it was heard; the time is its own.
    pub heard: Timestamp,
    /// When something came of it, by our clock.
    pub last: Option<Timestamp>,
    /// By how many seconds its clock was ahead of ours when it said something last.
    pub ahead: Option<i64>,
    /// How many notices have come.
    pub notices: u64,
    /// How many bans of each reason were refused since the start.
    pub refused: BTreeMap<&'static str, u64>,
    /// Why it is set aside, if it is.
    pub aside: Option<NoticeRefusal>,
    /// How many bans it may begin now, and when that has grown last.
    budget: u64,
    grown: Option<Timestamp>,
}

/// What becomes of a notice.
#[derive(Clone, Debug, PartialEq)]
pub enum NoticeVerdict {
    /// Nothing: we have said it ourselves, or it was heard before.
    Known,
    /// Nothing, for this reason.
    Refused(NoticeRefusal),
    /// The offender is to be banned.
    Ban(Ban),
    /// The ban of this jail on the offender is to be lifted.
    Lift(Offender, Arc<str>),
}

/// How many members are known at most.
const MOST: usize = 10_000;
const MINUTE: Span = Span::from_secs(60);
/// How far a member's clock may be ahead: what it tells later is to be later than that.
const AHEAD: Span = Span::from_secs(24 * 60 * 60);

impl Peers {
    /// None yet, but up to when some were heard.
    pub fn new(
        own: &str,
        policy: PeerPolicy,
        heard: impl IntoIterator<Item = (Arc<str>, Timestamp)>,
    ) -> Self {
        let peers = heard.into_iter().map(|(host, at)| (Arc::clone(&host), Peer::new(&host, at)));
        Self { own: own.to_owned(), policy, peers: peers.collect(), members: BTreeSet::new(), strangers: 0 }
    }

    /// Goes on under another policy.
    pub fn set_policy(&mut self, policy: PeerPolicy) {
        self.policy = policy;
    }

    /// Who is a member now.
    pub fn set_members(&mut self, members: BTreeSet<Arc<str>>) {
        self.members = members;
    }

    /// What is to become of what a member says; `in_force` is how many of its bans are.
    pub fn judge(&mut self, heard: &Heard, is_live: bool, in_force: usize, now: Timestamp) -> NoticeVerdict {
        if *heard.host == *self.own {
            return NoticeVerdict::Known;
        }
        let (offender, notice) = match &heard.said {
            Ok((offender, notice)) => (*offender, notice),
            Err(refusal) => return self.refuse_garbage(&heard.host, *refusal, is_live, now),
        };
        if !self.members.contains(&heard.host) {
            return self.refuse(&heard.host, NoticeRefusal::Stranger);
        }
        if !self.peers.contains_key(&heard.host) {
            if self.peers.len() >= MOST {
                return self.refuse(&heard.host, NoticeRefusal::Stranger);
            }
            let peer = Peer::new(&heard.host, Timestamp::default());
            self.peers.insert(Arc::clone(&heard.host), peer);
        }
        let policy = self.policy;
        let Some(peer) = self.peers.get_mut(&heard.host) else { return NoticeVerdict::Known };
        if notice.at <= peer.heard {
            // What was there before is read again with each connection.
            return if is_live {
                self.refuse(&heard.host, NoticeRefusal::Replayed)
            } else {
                NoticeVerdict::Known
            };
        }
        if notice.at > now + AHEAD {
            return self.refuse(&heard.host, NoticeRefusal::Ahead);
        }
        (peer.heard, peer.last) = (notice.at, Some(now));
        if is_live {
            peer.ahead = Some(notice.at.as_secs() - now.as_secs());
        }
        peer.notices += 1;
        if notice.lifted {
            return NoticeVerdict::Lift(offender, Arc::clone(&peer.jail));
        }
        let ban = notice.ban(offender, Arc::clone(&peer.jail), now + policy.longest, now);
        if ban.until.is_some_and(|until| until <= now) {
            return NoticeVerdict::Known;
        }
        let refusal = match () {
            () if peer.aside.is_some() => NoticeRefusal::SetAside,
            () if policy.is_too_wide(offender) => NoticeRefusal::TooWide,
            () if in_force >= policy.most => NoticeRefusal::TooMany,
            () if is_live && !peer.spend(policy.per_minute, now) => NoticeRefusal::TooFast,
            () => return NoticeVerdict::Ban(ban),
        };
        if matches!(refusal, NoticeRefusal::TooMany | NoticeRefusal::TooFast) {
            peer.aside = Some(refusal);
        }
        self.refuse(&heard.host, refusal)
    }

    /// The same of what cannot be read or was not signed, which a member may not tell more of than bans.
    fn refuse_garbage(
        &mut self,
        host: &str,
        refusal: NoticeRefusal,
        is_live: bool,
        now: Timestamp,
    ) -> NoticeVerdict {
        let verdict = self.refuse(host, refusal);
        let per_minute = self.policy.per_minute;
        let Some(peer) = self.peers.get_mut(host).filter(|peer| is_live && peer.aside.is_none()) else {
            return verdict;
        };
        if peer.spend(per_minute, now) {
            return verdict;
        }
        peer.aside = Some(NoticeRefusal::TooFast);
        self.refuse(host, NoticeRefusal::TooFast)
    }

    /// Counts a refusal.
    pub fn refuse(&mut self, host: &str, refusal: NoticeRefusal) -> NoticeVerdict {
        // A member may never have said anything else.
        if !self.peers.contains_key(host)
            && self.peers.len() < MOST
            && let Some(member) = self.members.get(host)
        {
            self.peers.insert(Arc::clone(member), Peer::new(member, Timestamp::default()));
        }
        match self.peers.get_mut(host) {
            Some(peer) => *peer.refused.entry(refusal.name()).or_default() += 1,
            None => self.strangers += 1,
        }
        NoticeVerdict::Refused(refusal)
    }

    /// Hears a member again that was set aside, and all that it says from the beginning; whether there is one of this name.
    pub fn accept(&mut self, host: &str) -> bool {
        let peer = self.peers.get_mut(host);
        let is_there = peer.is_some();
        if let Some(peer) = peer {
            (peer.aside, peer.heard) = (None, Timestamp::default());
            (peer.budget, peer.grown) = (0, None);
        }
        is_there
    }

    /// Forgets up to when a member was heard; whether that was known.
    pub fn forget(&mut self, host: &str) -> bool {
        let peer = self.peers.get_mut(host).filter(|peer| peer.heard > Timestamp::default());
        peer.map(|peer| peer.heard = Timestamp::default()).is_some()
    }

    /// Sets a member aside.
    pub fn set_aside(&mut self, host: &str, why: NoticeRefusal) {
        if let Some(peer) = self.peers.get_mut(host) {
            peer.aside = Some(why);
        }
    }

    /// What is known of a member.
    pub fn get(&self, host: &str) -> Option<&Peer> {
        self.peers.get(host)
    }

    /// The members that were heard of, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Peer)> {
        self.peers.iter()
    }

    /// Who is a member, our own name included.
    pub fn members(&self) -> &BTreeSet<Arc<str>> {
        &self.members
    }

    /// How many things were refused of hosts that nobody knows.
    pub fn strangers(&self) -> u64 {
        self.strangers
    }
}

impl Peer {
    fn new(host: &str, heard: Timestamp) -> Self {
        let jail = jail_of(host);
        let refused = BTreeMap::new();
        Self {
            jail,
            heard,
            last: None,
            ahead: None,
            notices: 0,
            refused,
            aside: None,
            budget: 0,
            grown: None,
        }
    }

    /// Takes one from what the member may do now; whether it may. That grows by `per_minute` a minute, by our clock, for an hour
    /// at most: so a member that was cut off for a while can tell what it has missed.
    fn spend(&mut self, per_minute: u32, now: Timestamp) -> bool {
        let unit = (MINUTE.as_micros() / u64::from(per_minute.max(1))).max(1);
        let before = self.grown.unwrap_or(now - MINUTE);
        let grown = now.since(before).as_micros() / unit;
        self.grown = Some(before + Span::from_micros(grown.saturating_mul(unit)));
        self.budget = self.budget.saturating_add(grown).min(60 * u64::from(per_minute));
        let may = self.budget > 0;
        self.budget = self.budget.saturating_sub(1);
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::notice::Notice;
    use crate::model::{Mode, Widths};
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp::from_secs(1_000_000);

    fn policy() -> PeerPolicy {
        let widest = Widths { v4: 24, v6: 48 };
        let longest = Span::from_secs(1000);
        PeerPolicy { mode: Mode::Enforce, agree: 1, per_minute: 3, most: 5, widest, longest }
    }

    fn peers() -> Peers {
        let mut peers = Peers::new("here", policy(), [("web1".into(), Timestamp::from_micros(10))]);
        peers.set_members(["here", "web1"].map(Arc::from).into());
        peers
    }

    fn heard(host: &str, who: &str, at: i64, change: impl FnOnce(&mut Notice)) -> Heard {
        let mut notice = Notice {
            at: Timestamp::from_micros(at),
            since: NOW,
            until: Some(NOW + Span::from_secs(60)),
            lifted: false,
            times: 1,
            jail: "sshd".into(),
            reason: "".into(),
            ports: [].into(),
        };
        change(&mut notice);
        Heard { host: host.into(), said: Ok((who.parse().unwrap(), notice)) }
    }

    #[track_caller]
    fn check(peers: &mut Peers, heard: &Heard, in_force: usize, want: &str) {
        let got = match peers.judge(heard, true, in_force, NOW) {
            NoticeVerdict::Known => "known".to_owned(),
            NoticeVerdict::Refused(why) => why.name().to_owned(),
            NoticeVerdict::Ban(ban) => {
                format!("ban {} by {} until {}", ban.offender, ban.jail, ban.until.unwrap().since(NOW))
            }
            NoticeVerdict::Lift(who, jail) => format!("lift {who} by {jail}"),
        };
        assert_eq!(got, want);
    }

    #[test]
    fn what_has_no_effect_is_refused_by_name() {
        let same = |_: &mut Notice| {};
        let cases = [
            (heard("web1", "192.0.2.1", 11, same), 0, "ban 192.0.2.1 by fleet:web1 until 1m"),
            (
                heard("web1", "192.0.2.1", 11, |notice| notice.lifted = true),
                0,
                "lift 192.0.2.1 by fleet:web1",
            ),
            // No ban lasts longer than it may.
            (
                heard("web1", "192.0.2.1", 11, |notice| notice.until = None),
                0,
                "ban 192.0.2.1 by fleet:web1 until 16m 40s",
            ),
            (heard("web1", "192.0.2.0/24", 11, same), 0, "ban 192.0.2.0/24 by fleet:web1 until 1m"),
            (heard("web1", "192.0.0.0/23", 11, same), 0, "too-wide"),
            (heard("web1", "2001:db8::/47", 11, same), 0, "too-wide"),
            (heard("web1", "192.0.2.1", 10, same), 0, "replayed"),
            (heard("web1", "192.0.2.1", 9, |notice| notice.lifted = true), 0, "replayed"),
            (heard("web1", "192.0.2.1", i64::MAX, same), 0, "ahead"),
            (heard("web1", "192.0.2.1", 11, |notice| notice.until = Some(NOW)), 0, "known"),
            (heard("here", "192.0.2.1", 11, same), 0, "known"),
            // Its key was good, and its membership is older than what is known.
            (heard("web9", "192.0.2.1", 11, same), 0, "stranger"),
            (heard("web1", "192.0.2.1", 11, same), 5, "too-many"),
            (Heard { host: "web1".into(), said: Err(NoticeRefusal::Forged) }, 0, "forged"),
            (Heard { host: "web9".into(), said: Err(NoticeRefusal::Stranger) }, 0, "stranger"),
        ];
        for (heard, in_force, want) in cases {
            let mut peers = peers();
            check(&mut peers, &heard, in_force, want);
            let refused: u64 = peers.iter().flat_map(|(_, peer)| peer.refused.values()).sum();
            let is_refused = !want.starts_with("ban") && !want.starts_with("lift") && want != "known";
            assert_eq!(refused + peers.strangers(), u64::from(is_refused), "{want}");
        }
    }

    #[test]
    fn who_is_too_fast_is_set_aside_until_an_operator_accepts_it() {
        let mut peers = peers();
        let ban = |n: i64| heard("web1", &format!("192.0.2.{n}"), 10 + n, |_| {});
        for n in 1..=3 {
            check(&mut peers, &ban(n), 0, &format!("ban 192.0.2.{n} by fleet:web1 until 1m"));
        }
        check(&mut peers, &ban(4), 0, "too-fast");
        check(&mut peers, &ban(5), 0, "set-aside");
        // What it lifts it lifts.
        check(
            &mut peers,
            &heard("web1", "192.0.2.1", 16, |notice| notice.lifted = true),
            0,
            "lift 192.0.2.1 by fleet:web1",
        );
        assert!(peers.accept("web1") && !peers.accept("web2"));
        // All is heard from the beginning.
        check(&mut peers, &ban(1), 0, "ban 192.0.2.1 by fleet:web1 until 1m");
    }

    #[test]
    fn who_was_cut_off_for_a_while_may_tell_what_it_has_missed_and_garbage_counts_as_bans_do() {
        let mut peers = peers();
        let later = NOW + Span::from_secs(600);
        let ban = |n: i64| heard("web1", &format!("192.0.2.{n}"), 10 + n, |notice| notice.until = None);
        assert!(matches!(peers.judge(&ban(1), true, 0, NOW), NoticeVerdict::Ban(_)));
        for n in 2..=33 {
            assert!(matches!(peers.judge(&ban(n), true, 0, later), NoticeVerdict::Ban(_)), "{n}");
        }
        assert_eq!(peers.judge(&ban(34), true, 0, later), NoticeVerdict::Refused(NoticeRefusal::TooFast));
        let mut peers = self::peers();
        let garbage = Heard { host: "web1".into(), said: Err(NoticeRefusal::Malformed) };
        (0..3).for_each(|_| check(&mut peers, &garbage, 0, "malformed"));
        check(&mut peers, &garbage, 0, "too-fast");
        assert!(peers.get("web1").unwrap().aside.is_some());
    }

    #[test]
    fn what_was_there_before_is_read_again_without_an_effect() {
        let mut peers = peers();
        let known = heard("web1", "192.0.2.1", 10, |_| {});
        assert_eq!(peers.judge(&known, false, 0, NOW), NoticeVerdict::Known);
        assert_eq!(peers.get("web1").unwrap().refused.values().sum::<u64>(), 0);
    }

    proptest! {
        /// Whatever a member says, it has no more bans than it may, and none that is wider or longer.
        #[test]
        fn no_member_exceeds_its_budget(told in prop::collection::vec((any::<u32>(), 0..=32_u8, 0..2000_i64, any::<bool>()), 0..60)) {
            let (mut peers, mut in_force) = (peers(), 0);
            for (at, (bits, length, since, lifted)) in (11..).zip(told) {
                let who = Offender::new(std::net::Ipv4Addr::from_bits(bits).into(), length).unwrap();
                // Whatever it says of when they began.
                let since = NOW - Span::from_secs(since as u64);
                let heard = heard("web1", &who.to_string(), at, |notice| (notice.since, notice.lifted) = (since, lifted));
                if let NoticeVerdict::Ban(ban) = peers.judge(&heard, true, in_force, NOW) {
                    in_force += 1;
                    prop_assert!(ban.offender.prefix() >= 24 && ban.until.unwrap() <= NOW + policy().longest);
                }
            }
            prop_assert!(in_force <= policy().per_minute as usize);
        }
    }
}
