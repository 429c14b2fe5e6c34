//! Turns offences into bans.
//!
//! A jail counts the offences that it watches, per offender, and bans an offender that fills its window. All state that
//! decides anything is here, in one value that one task owns. The caller passes the time; decisions are returned.

mod account;
mod allow;
mod bans;
mod by_hand;
mod curve;
mod login;
mod past;
mod peer;
mod recent;
mod session;
mod taken;
mod trace;
mod tracked;
mod widen;
mod window;

use std::net::IpAddr;
use std::num::{NonZeroU8, NonZeroUsize};
use std::sync::Arc;

use hashbrown::DefaultHashBuilder;

use crate::grammar::Grammars;
use crate::model::{
    Ban, BanOrigin, BanTerms, Decision, Mode, Offence, Offender, Port, Prefixes, SessionId, Span, Timestamp,
    Widths, count,
};
pub use account::{AddressState, JailState, MOST};
pub use allow::{Exemption, ExemptionList};
use bans::Bans;
pub use curve::BanDuration;
use login::Logins;
pub use login::{LOGINS, Login};
use past::PriorBans;
pub(crate) use recent::Recent;
use session::Sessions;
use widen::PrefixCounts;
pub use widen::Widen;
use window::{Threshold, Windows};

pub use by_hand::{LIST, MANUAL, NotReinstated, is_by_hand, manual};
pub use session::{Session, SessionBytes};
pub use taken::{TakeOver, TakenBan};
pub use trace::{Trace, WindowEffect};

/// How many offences in how long earn how long a ban; the words are fail2ban's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jail {
    /// Its name: letters, digits, `-`, `_` and `.`, so it can stand in a metric's label.
    pub name: Arc<str>,
    /// Whether its bans are carried out. Where they are not, they change nothing for other jails.
    pub mode: Mode,
    /// Which offences it counts; at least one, no grammar twice.
    pub watches: Vec<Watch>,
    /// How many offences earn a ban.
    pub max_retry: NonZeroU8,
    /// Within how long; more than zero.
    pub find_time: Span,
    /// The field of its grammars whose values are counted, if not offences are: those with the same
    /// [value](Offence::value) count as one, at the time of the last.
    pub distinct: Option<Arc<str>>,
    /// How long the first ban lasts; forever if `None`.
    pub ban_time: Option<Span>,
    /// The ports that a ban shuts, in order; all where empty.
    pub ports: Arc<[Port]>,
    /// Who is not banned by it, besides [`Settings::ignore`].
    pub ignore: Vec<Offender>,
}

/// The offences of one grammar that a jail counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    /// The grammar's name.
    pub grammar: String,
    /// Its categories that count; at least one.
    pub categories: Vec<String>,
}

/// How the bans of one offender grow: the n-th lasts `ban_time * factor^(n-1)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Growth {
    /// From 1 (no growth) to 100.
    pub factor: f64,
    /// How long a ban can become by growing.
    pub cap: Span,
    /// How long an offender must be quiet for one earlier ban to be forgotten.
    pub decay: Span,
    /// By up to which fraction of itself a ban is lengthened at random; 0 to 1.
    pub jitter: f64,
}

/// What a detector is told by its operator.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Whether bans on prefixes are carried out. They come of jails of the same mode.
    pub mode: Mode,
    /// The jails, no two of one name.
    pub jails: Vec<Jail>,
    /// Who is never banned by any jail, and why.
    pub ignore: Vec<(Offender, ExemptionList)>,
    /// How long a login protects from the jails' bans; not at all where zero.
    pub protect_logins: Span,
    /// What one offender is.
    pub widths: Widths,
    /// Prefixes behind which there are hosts on IPv4, each of them an offender of its own.
    pub nat64: Vec<Offender>,
    /// How many offenders all jails together watch at once; one that was not seen lately makes room.
    pub max_offenders: NonZeroUsize,
    /// How the bans of one offender grow.
    pub growth: Growth,
    /// When a whole prefix is banned, if ever.
    pub widen: Option<Widen>,
}

/// Counts offences and decides bans.
#[derive(Debug)]
pub struct Detector {
    settings: Settings,
    allow: Prefixes<ExemptionList>,
    nat64: Prefixes<()>,
    active: Vec<ActiveJail>,
    /// For each grammar and category the active jails that count it.
    watchers: Vec<Vec<Vec<u16>>>,
    /// The active jails that have counted the entry of the last offence.
    told: Vec<u16>,
    /// The bans that are over; of those in force [`prior`](Self::prior) knows.
    past: Recent<(Offender, u32), PriorBans>,
    logins: Logins,
    neighbours: PrefixCounts,
    bans: Bans,
    hasher: DefaultHashBuilder,
    /// Whether more offenders are watched than when it was last looked whether these are too many.
    has_grown: bool,
    leaves_traces: bool,
}

/// A jail at work.
#[derive(Debug)]
struct ActiveJail {
    jail: Arc<Jail>,
    /// Of all its bans.
    terms: Arc<BanTerms>,
    allow: Prefixes<ExemptionList>,
    windows: Windows,
    sessions: Sessions,
}

/// The result of a number of offences.
#[derive(Debug, Default)]
pub struct Seen {
    /// What is to be done.
    pub decisions: Vec<Decision>,
    /// Bans that were earned and withheld.
    pub exempted: Vec<ExemptedBan>,
    /// Bans that were over before they could be imposed.
    pub lapsed: Vec<Ban>,
    /// What the offences left behind, in their order.
    pub traces: Vec<Trace>,
    /// Offences observed.
    pub observed: usize,
    /// Offences counted by some jail.
    pub counted: u64,
    /// Further lines about a counted attempt.
    pub repeated: u64,
    /// Offences of offenders that the jail had banned already.
    pub banned_already: u64,
    /// Those bans from whose offenders offences still come long after; each but once.
    pub ineffective: Vec<(Offender, Arc<str>)>,
    /// Offenders forgotten for lack of room.
    pub forgotten: u64,
}

/// A ban that was earned and withheld.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExemptedBan {
    /// Who earned it.
    pub offender: Offender,
    /// From which jail.
    pub jail: Arc<str>,
    /// What protects them.
    pub by: Exemption,
}

/// What other settings do to the bans in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Review {
    /// Bans that are lifted, because their offenders are exempt, and by what.
    pub lifted: Vec<(Ban, Exemption)>,
    /// Bans whose jail has another mode now, as they were before, and that mode.
    pub reissued: Vec<(Ban, Mode)>,
}

/// The jail that bans on prefixes belong to.
pub const WIDE: &str = "wide";

impl Detector {
    /// A detector that has seen nothing yet. What `settings` says of grammars or categories that are not among
    /// `grammars` counts nothing.
    pub fn new(settings: Settings, grammars: &Grammars) -> Self {
        let mut detector = Self {
            past: Recent::new(settings.max_offenders.get()),
            neighbours: PrefixCounts::new(settings.max_offenders.get()),
            allow: Prefixes::default(),
            nat64: Prefixes::default(),
            logins: Logins::new(LOGINS),
            active: Vec::new(),
            watchers: Vec::new(),
            told: Vec::new(),
            bans: Bans::default(),
            hasher: DefaultHashBuilder::default(),
            has_grown: false,
            leaves_traces: true,
            settings,
        };
        detector.settle(Vec::new(), grammars);
        detector
    }

    /// From now on [`Seen::traces`] stays empty, as suits a replay, after which nothing is recalled.
    pub fn leave_no_traces(&mut self) {
        self.leaves_traces = false;
    }

    /// Goes on under other settings: bans stay, and so do the counts of jails that are still there by name.
    /// What comes back is what [`review`](Self::review) found.
    pub fn reconfigure(&mut self, settings: Settings, grammars: &Grammars) -> Vec<Decision> {
        self.settings = settings;
        let before = std::mem::take(&mut self.active);
        self.settle(before, grammars);
        self.review()
    }

    /// Lifts and forgets the jails' bans on exempt offenders, and re-issues bans whose jail has another mode now.
    pub fn review(&mut self) -> Vec<Decision> {
        let Review { lifted, reissued } = self.find_changed(self);
        let lifted = lifted.into_iter().filter_map(|(ban, _)| self.bans.remove(ban.offender, &ban.jail));
        let lifted = lifted.collect();
        let mut decisions = self.pardon(lifted);
        for (ban, mode) in reissued {
            let renewed = self.bans.insert(ban.clone().with(|terms| terms.mode = mode));
            decisions.extend([Decision::Unban(ban), Decision::Ban(renewed)]);
        }
        decisions
    }

    /// What [`reconfigure`](Self::reconfigure) would do to the bans in force under these settings. Looks at every ban.
    pub fn preview(&self, settings: Settings) -> Review {
        self.find_changed(&Self::new(settings, &Grammars::default()))
    }

    /// The bans that `rules` does not allow, or carries out in another way.
    fn find_changed(&self, rules: &Self) -> Review {
        let mut review = Review::default();
        for ban in self.bans.iter() {
            let by =
                (ban.kind != BanOrigin::Manual).then(|| rules.protector(ban.offender, &ban.jail)).flatten();
            let mode = rules.mode(ban);
            match by {
                Some(by) => review.lifted.push((ban.clone(), by)),
                None if mode != ban.mode => review.reissued.push((ban.clone(), mode)),
                None => {}
            }
        }
        review
    }

    /// Whether a ban is to be carried out: as its jail says, and an operator's where any are. That of a jail which is
    /// gone stays what it was.
    fn mode(&self, ban: &Ban) -> Mode {
        let enforces = |active: &ActiveJail| active.jail.mode == Mode::Enforce;
        match self.active.iter().find(|active| active.jail.name == ban.jail) {
            Some(active) => active.jail.mode,
            None if ban.kind == BanOrigin::Wide => self.settings.mode,
            None if self.settings.mode == Mode::Observe && !self.active.iter().any(enforces) => Mode::Observe,
            None if ban.kind == BanOrigin::Manual && is_by_hand(&ban.jail) => Mode::Enforce,
            None => ban.mode,
        }
    }

    /// The same ban, carried out or not as it is to be.
    fn in_its_mode(&self, mut ban: Ban) -> Ban {
        let mode = self.mode(&ban);
        if ban.mode != mode {
            ban.mode = mode;
        }
        ban
    }

    fn settle(&mut self, before: Vec<ActiveJail>, grammars: &Grammars) {
        let limit = self.settings.max_offenders.get();
        let mut before: Vec<Option<ActiveJail>> = before.into_iter().map(Some).collect();
        self.allow = Prefixes::new(self.settings.ignore.iter().copied());
        self.nat64 = Prefixes::new(self.settings.nat64.iter().map(|prefix| (*prefix, ())));
        self.past.set_limit(limit);
        self.neighbours.set_limit(limit);
        self.active = self
            .settings
            .jails
            .iter()
            .map(|jail| {
                let size = Threshold {
                    full: jail.max_retry.get(),
                    span: jail.find_time,
                    distinct: jail.distinct.is_some(),
                };
                let known = before
                    .iter_mut()
                    .find(|active| active.as_ref().is_some_and(|active| active.jail.name == jail.name));
                let (windows, sessions) = match known.and_then(Option::take) {
                    Some(active) => (active.windows.resized(size), active.sessions),
                    None => (Windows::new(size), Sessions::new(jail.find_time)),
                };
                let allow = Prefixes::new(jail.ignore.iter().map(|who| (*who, ExemptionList::Ignored)));
                let offences = count(u64::from(jail.max_retry.get()), "offence");
                let terms = BanTerms {
                    jail: Arc::clone(&jail.name),
                    kind: BanOrigin::Auto,
                    mode: jail.mode,
                    ports: Arc::clone(&jail.ports),
                    reason: format!("{offences} within {}", jail.find_time).into(),
                };
                let (jail, terms) = (Arc::new(jail.clone()), Arc::new(terms));
                ActiveJail { jail, terms, allow, windows, sessions }
            })
            .collect();
        self.watchers = grammars
            .iter()
            .map(|grammar| {
                grammar
                    .categories()
                    .iter()
                    .map(|category| {
                        let counts = |jail: &Jail| {
                            jail.watches
                                .iter()
                                .any(|w| w.grammar == grammar.name() && w.categories.contains(category))
                        };
                        (0..)
                            .zip(&self.settings.jails)
                            .filter(|(_, jail)| counts(jail))
                            .map(|(number, _)| number)
                            .collect()
                    })
                    .collect()
            })
            .collect();
    }

    /// Counts one offence; the result is added to `seen`.
    ///
    /// An offence counts at its own time, so that a replay, a backlog and live traffic come to the same bans; a
    /// time in the future counts as `now`. A ban that would be over by `now` is remembered, but not imposed.
    /// `seen.traces` gets all that [`recall`](Self::recall) needs to bring about the same counts again.
    ///
    /// Takes time in proportion to the jails that watch this category and their `max_retry`. Allocates only as
    /// what it remembers grows.
    pub fn observe(&mut self, offence: &Offence, now: Timestamp, seen: &mut Seen) {
        let offence = Offence { time: offence.time.min(now), ..*offence };
        let (grammar, category) = (usize::from(offence.grammar.0), usize::from(offence.category.0));
        if !offence.is_further {
            self.told.clear();
        }
        for nth in 0.. {
            let watchers = self.watchers.get(grammar).and_then(|categories| categories.get(category));
            let Some(number) = watchers.and_then(|watchers| watchers.get(nth)).copied() else { break };
            if self.told.contains(&number) {
                continue;
            }
            self.told.push(number);
            let number = usize::from(number);
            let offender = self.offender(offence.address, self.settings.widths, self.active.get(number));
            if self.count(number, &offence, offender, seen) {
                self.earned(number, offender, offence.time, now, seen);
            }
        }
        if std::mem::take(&mut self.has_grown) {
            self.make_room(seen);
        }
        seen.observed += 1;
    }

    /// The offender behind an address, at these widths.
    fn behind(&self, address: IpAddr, widths: Widths) -> Offender {
        match self.nat64.contains(address) {
            true => Offender::single(address),
            false => Offender::behind(address, widths),
        }
    }

    /// The offender of an address, for a jail if one is named. If another address of its prefix is exempt, it is the
    /// address alone, which can be banned without the other.
    fn offender(&self, address: IpAddr, widths: Widths, active: Option<&ActiveJail>) -> Offender {
        let wide = self.behind(address, widths);
        let lists = std::iter::once(&self.allow).chain(active.map(|active| &active.allow));
        let is_shared = |list: &Prefixes<ExemptionList>| {
            list.overlapping(wide).is_some_and(|(who, _)| !who.contains(wide))
        };
        match !wide.is_single() && lists.into_iter().any(is_shared) {
            true => Offender::single(address),
            false => wide,
        }
    }

    /// Counts an offence in one jail; whether that fills the offender's window.
    fn count(&mut self, number: usize, offence: &Offence, offender: Offender, seen: &mut Seen) -> bool {
        let Some(active) = self.active.get_mut(number) else { return false };
        if self.bans.holds(offender, &active.jail.name)
            || (active.jail.mode == self.settings.mode
                && self.bans.shuts_around(offender, &active.jail.ports))
        {
            seen.banned_already += 1;
            let jail = &active.jail.name;
            if active.jail.mode == Mode::Enforce && self.bans.is_in_vain(offender, jail, offence.time) {
                seen.ineffective.push((offender, Arc::clone(jail)));
            }
            return false;
        }
        let (is_new, session) = active.sessions.hear(offence, offender);
        let mut effect = WindowEffect::Nothing;
        let value = if active.jail.distinct.is_some() { offence.value } else { 0 };
        if is_new {
            let (counted, is_new_offender) = active.windows.count(offender, offence.time, value);
            effect = if counted >= active.jail.max_retry.get() {
                WindowEffect::Filled(counted)
            } else {
                WindowEffect::Counted
            };
            seen.counted += 1;
            self.has_grown |= is_new_offender;
        } else {
            seen.repeated += 1;
        }
        if self.leaves_traces {
            let Offence { time, grammar, category, session_id, host, .. } = *offence;
            let (nth, jail) = (seen.observed, Arc::clone(&active.jail.name));
            seen.traces.push(Trace {
                nth,
                jail,
                offender,
                time,
                grammar: Some(grammar),
                category: Some(category),
                session_id,
                host,
                value,
                effect,
                session: Some(session),
            });
        }
        matches!(effect, WindowEffect::Filled(_))
    }

    /// Puts back what an offence left behind before a restart. Decides nothing; a jail that is gone is no more.
    pub fn recall(&mut self, trace: &Trace) {
        let Some(active) = self.active.iter_mut().find(|active| active.jail.name == trace.jail) else {
            return;
        };
        match trace.effect {
            WindowEffect::Nothing => {}
            WindowEffect::Counted => drop(active.windows.count(trace.offender, trace.time, trace.value)),
            WindowEffect::Filled(_) => active.windows.forget(trace.offender),
        }
        if let Some(session) = trace.session {
            active.sessions.recall(trace, session);
        }
        self.make_room(&mut Seen::default());
    }

    /// Traces that [`recall`](Self::recall) would bring all counts about from.
    pub fn traces(&self) -> impl Iterator<Item = Trace> {
        self.active.iter().flat_map(|active| {
            let trace = |offender, time, value, effect| Trace {
                nth: 0,
                jail: Arc::clone(&active.jail.name),
                offender,
                time,
                grammar: None,
                category: None,
                session_id: SessionId::Process(0),
                host: 0,
                value,
                effect,
                session: None,
            };
            let windows = active.windows.iter().flat_map(move |(offender, times)| {
                times.map(move |(time, value)| trace(offender, time, value, WindowEffect::Counted))
            });
            let sessions = active.sessions.iter().map(move |(key, session)| Trace {
                session_id: key.session_id,
                host: key.host,
                grammar: Some(key.grammar),
                session: Some(session),
                ..trace(key.offender, session.last(), 0, WindowEffect::Nothing)
            });
            windows.chain(sessions)
        })
    }

    /// A jail's window is full.
    fn earned(&mut self, number: usize, offender: Offender, at: Timestamp, now: Timestamp, seen: &mut Seen) {
        let Some(active) = self.active.get_mut(number) else { return };
        active.windows.forget(offender);
        let (jail, terms) = (Arc::clone(&active.jail), Arc::clone(&active.terms));
        let span = self.settings.protect_logins;
        let login = |logins: &mut Logins| match jail.mode {
            Mode::Enforce => logins.forgive(offender, at, span),
            // What is forgiven here is not to be used up there.
            Mode::Observe => logins.last(offender, at, span),
        };
        let by = self.protector(offender, &jail.name);
        if let Some(by) = by.or_else(|| login(&mut self.logins).map(Exemption::Login)) {
            seen.exempted.push(ExemptedBan { offender, jail: Arc::clone(&jail.name), by });
            return;
        }
        let (times, until) = self.next_ban(offender, &jail.name, jail.ban_time, at);
        let ban = Ban { offender, times, since: at, until, terms };
        if until.is_some_and(|until| until <= now) {
            self.remember(&ban);
            seen.lapsed.push(ban);
            return;
        }
        let ban = self.bans.insert(ban);
        seen.decisions.push(Decision::Ban(ban));
        let rule = self.settings.widen.filter(|_| jail.mode == self.settings.mode);
        let Some(rule) = rule else { return };
        let wide = self.behind(offender.address(), rule.widths);
        if let Some(banned) = self.neighbours.count(wide, offender, at, &rule) {
            self.widen(&rule, wide, &banned, at, seen);
        }
    }

    /// Enough offenders of one prefix are banned. The prefix is, or where somebody in it is protected, the largest parts
    /// of it that hold such offenders and nobody protected.
    fn widen(&mut self, rule: &Widen, wide: Offender, banned: &[Offender], at: Timestamp, seen: &mut Seen) {
        let span = self.settings.protect_logins;
        let logins =
            Prefixes::new(self.logins.within(wide, at, span).map(|login| (login.offender, login.at)));
        let guard = |part: Offender| {
            let login = || logins.overlapping(part).map(|(_, at)| Exemption::Login(at));
            self.protector(part, WIDE).or_else(login)
        };
        let part = |offender: &Offender| {
            let around = |length| Offender::new(offender.address(), length);
            let parts: Vec<_> = (wide.prefix()..offender.prefix()).filter_map(around).collect();
            // Who is protected in a part is so in all that lie around it.
            parts.get(parts.partition_point(|part| guard(*part).is_some())).copied()
        };
        let mut parts: Vec<Offender> = banned.iter().filter_map(part).collect();
        parts.sort_unstable();
        parts.dedup();
        if let (true, Some(by)) = (parts.is_empty(), guard(wide)) {
            seen.exempted.push(ExemptedBan { offender: wide, jail: WIDE.into(), by });
        }
        let reason = format!("{} banned within {}", count(banned.len() as u64, "offender"), rule.within);
        for part in parts {
            let inside = banned.iter().filter(|offender| part.contains(**offender));
            let folded = inside.flat_map(|offender| self.bans.fold(*offender, self.settings.mode)).collect();
            self.replace(part, folded, &reason, at, seen);
        }
    }

    /// Bans a prefix in place of these inside it, for at least as long: so none of them comes back where it ends.
    fn replace(&mut self, wide: Offender, folded: Vec<Ban>, reason: &str, at: Timestamp, seen: &mut Seen) {
        if folded.is_empty() {
            return;
        }
        for ban in &folded {
            self.remember(ban).ended = at;
        }
        let length = |ban: &Ban| ban.until.map(|until| until.since(at));
        let longest = folded.iter().map(length).collect::<Option<Vec<_>>>();
        let longest = longest.map(|lengths| lengths.into_iter().max().unwrap_or_default());
        let mut ports: Vec<Port> = folded.iter().flat_map(|ban| ban.ports.iter().copied()).collect();
        if folded.iter().any(|ban| ban.ports.is_empty()) {
            ports.clear();
        }
        ports.sort_unstable();
        ports.dedup();
        let (times, until) = self.next_ban(wide, WIDE, longest, at);
        let (jail, mode, ports, reason) = (WIDE.into(), self.settings.mode, ports.into(), reason.into());
        let terms = Arc::new(BanTerms { jail, kind: BanOrigin::Wide, mode, ports, reason });
        let ban = self.bans.insert(Ban { offender: wide, times, since: at, until, terms });
        seen.decisions.push(Decision::Ban(ban));
        seen.decisions.extend(folded.into_iter().map(Decision::Unban));
    }

    fn make_room(&mut self, seen: &mut Seen) {
        while self.tracked() > self.settings.max_offenders.get() {
            let Some(largest) = self.active.iter_mut().max_by_key(|active| active.windows.len()) else {
                return;
            };
            largest.windows.forget_one();
            seen.forgotten += 1;
        }
    }

    /// Notes a login that went well, which protects its sender from the jails for a while.
    pub fn logged_in(&mut self, login: &Offence, now: Timestamp) {
        // An IPv4 prefix may be shared by many; only the one address has proved anything.
        let widths = Widths { v4: 32, ..self.settings.widths };
        self.logins.note(self.offender(login.address, widths, None), login.time.min(now));
    }

    /// Puts back what was known of logins before a restart.
    pub fn restore_login(&mut self, login: Login) {
        self.logins.restore(login);
    }

    /// What is known of logins.
    pub fn logins(&self) -> impl Iterator<Item = Login> {
        self.logins.iter()
    }

    /// Who is never banned by any jail, and why.
    pub fn exemptions(&self) -> &[(Offender, ExemptionList)] {
        &self.settings.ignore
    }

    /// When somebody logged in from there last, as far as that is known.
    pub fn login_from(&self, offender: Offender) -> Option<Timestamp> {
        self.logins.last(offender, Timestamp::MAX, Span::from_micros(u64::MAX))
    }

    /// What has changed of that since it was last asked for.
    pub fn take_changed_logins(&mut self) -> Vec<Login> {
        self.logins.take_changed()
    }

    /// What list protects the offender from this jail. A prefix is protected by those of all jails.
    pub fn protector(&self, offender: Offender, jail: &str) -> Option<Exemption> {
        let mut active = self.active.iter().filter(|active| *jail == *WIDE || *active.jail.name == *jail);
        self.allow.protects(offender).or_else(|| active.find_map(|active| active.allow.protects(offender)))
    }

    /// Makes room for so many more bans at once.
    pub fn reserve(&mut self, bans: usize) {
        self.bans.reserve(bans);
    }

    /// Puts a ban in force again that was decided before a restart, in the order in which they were. One that is over
    /// by `now` is only remembered.
    pub fn restore(&mut self, ban: Ban, now: Timestamp) {
        self.put_in_force(ban, now);
    }

    /// The same; the ban as it is then.
    fn put_in_force(&mut self, ban: Ban, now: Timestamp) -> Ban {
        if ban.kind == BanOrigin::Auto
            && ban.mode == self.settings.mode
            && let Some(rule) = self.settings.widen
        {
            // Where it makes enough of them, the prefix was banned then.
            let wide = self.behind(ban.offender.address(), rule.widths);
            self.neighbours.count(wide, ban.offender, ban.since, &rule);
        }
        let key = self.key(ban.offender, &ban.jail);
        self.past.remove(&key);
        if ban.until.is_none_or(|until| until > now) {
            return self.bans.insert(ban);
        }
        self.remember(&ban);
        ban
    }

    /// The clock has stepped back: dates all that is known earlier by as much. So what ends by the clock ends when it
    /// would have ended, and nothing counts for longer.
    pub fn shift_back(&mut self, by: Span) {
        for active in &mut self.active {
            active.windows.shift_back(by);
            active.sessions.shift_back(by);
        }
        self.past.values_mut().for_each(|past| past.ended = past.ended - by);
        self.logins.shift_back(by);
        self.neighbours.shift_back(by);
        self.bans.shift_back(by);
    }

    /// Forgets the bans that are over at `now`, and returns them. The kernel has let them go by itself.
    pub fn expire(&mut self, now: Timestamp) -> Vec<Ban> {
        let ended = self.bans.end(now);
        // For those of other hosts there is `remember_elsewhere`.
        for ban in ended.iter().filter(|ban| ban.kind != BanOrigin::Peer) {
            self.remember(ban);
        }
        ended
    }

    /// The bans in force, in no particular order.
    pub fn bans(&self) -> impl Iterator<Item = &Ban> {
        self.bans.iter()
    }

    /// Those on exactly this offender, not those on a prefix around it or on addresses inside.
    pub fn bans_on(&self, offender: Offender) -> impl Iterator<Item = &Ban> {
        self.bans.on(offender)
    }

    /// Those on the offender and on the prefixes around it, the widest first.
    pub fn bans_around(&self, offender: Offender) -> impl Iterator<Item = &Ban> {
        let around =
            (0..=offender.prefix()).filter_map(move |length| Offender::new(offender.address(), length));
        around.flat_map(|around| self.bans.on(around))
    }

    /// Those on the offender and on all inside it. Looks at every offender.
    pub fn bans_inside(&self, offender: Offender) -> impl Iterator<Item = &Ban> {
        self.bans.inside(offender)
    }

    /// The bans that are carried out.
    pub fn enforced(&self) -> impl Iterator<Item = &Ban> {
        self.bans().filter(|ban| ban.mode == Mode::Enforce)
    }

    /// Some of them, at most so many, and from where to go on; from 0 on. A ban that is there from the first time to the
    /// last is met once.
    pub fn enforced_from(&self, at: usize, most: usize) -> (Vec<Ban>, Option<usize>) {
        let (bans, next) = self.bans.slots_from(at, most);
        (bans.filter(|ban| ban.mode == Mode::Enforce).cloned().collect(), next)
    }

    /// How many bans are in force.
    pub fn banned(&self) -> usize {
        self.bans.len()
    }

    /// How many of them are only observed.
    pub fn observed(&self) -> usize {
        self.bans.observed()
    }

    /// What the bans in force have in common, and how many have each of it.
    pub fn terms(&self) -> impl Iterator<Item = (&BanTerms, usize)> {
        self.bans.terms()
    }

    /// How many offenders are watched.
    pub fn tracked(&self) -> usize {
        self.active.iter().map(|active| active.windows.len()).sum()
    }

    /// The jails and how many offenders each watches.
    pub fn jails(&self) -> impl Iterator<Item = (&Jail, usize)> {
        self.active.iter().map(|active| (&*active.jail, active.windows.len()))
    }

    /// How many offences stand in the windows of each jail, in the order of [`jails`](Self::jails). Looks at every
    /// offender.
    pub fn counts(&self) -> impl Iterator<Item = u64> {
        self.active.iter().map(|active| active.windows.counted())
    }
}

#[cfg(test)]
mod tests;
