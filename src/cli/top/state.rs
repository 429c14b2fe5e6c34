//! The state of `top`: samples and keys go in, what to show and do comes out. The time between two samples comes with
//! the second.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::cli::status;
use crate::control::{BanLine, Status};
use crate::model::Offender;
use crate::tools::geoip::GeoRecord;

/// How many of the latest bans are asked for.
pub(super) const LATEST: usize = 200;
/// How many rates are kept: as many as the widest terminal has columns for.
const KEPT: usize = 512;
/// The columns in which a long line has to be read to its end; a wider terminal can be scrolled past it.
const NARROW: usize = 60;

/// What the daemon said at one time.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) status: Status,
    /// The latest bans that fit the filter, the latest first.
    pub(super) bans: Vec<BanLine>,
    /// Where they are, of those of which that is known.
    pub(super) places: BTreeMap<Offender, GeoRecord>,
}

impl Sample {
    /// Notes where the banned are, by `find`.
    pub(super) fn locate(&mut self, mut find: impl FnMut(Offender) -> GeoRecord) {
        let places = self.bans.iter().map(|ban| (ban.address, find(ban.address)));
        self.places = places.filter(|(_, place)| *place != GeoRecord::default()).collect();
    }
}

/// What the operator wants of the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyCommand {
    Quit,
    Why(Offender),
    Unban(Offender),
}

/// What the keys act on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Focus {
    /// The list of bans.
    List,
    /// The filter, which is being typed.
    Filter,
    /// The question whether to lift this one's bans.
    Unban(Offender),
    /// What is known of one address.
    Why {
        who: Offender,
        lines: Vec<String>,
        /// How many rows are above the upper edge.
        above: usize,
    },
    /// The keys.
    Help,
}

/// How often something happened.
#[derive(Clone, Debug, Default)]
pub(super) struct Rate {
    total: Option<u64>,
    /// A second, at each sample; the latest first.
    pub(super) past: VecDeque<f64>,
}

impl Rate {
    /// Takes the total since the daemon's start, this long after the one before. The first gives no rate yet.
    fn count(&mut self, total: u64, after: Duration) {
        if let Some(before) = self.total.replace(total) {
            // After a restart the daemon counts from zero.
            let more = if total < before { total } else { total - before };
            self.past.push_front(more as f64 / after.as_secs_f64().max(0.001));
            self.past.truncate(KEPT);
        }
    }

    /// A second, just now.
    pub(super) fn now(&self) -> f64 {
        self.past.front().copied().unwrap_or(0.0)
    }
}

/// All that is known.
#[derive(Debug)]
pub(super) struct TopState {
    pub(super) last: Option<Sample>,
    /// Why nothing came after `last`, if nothing did.
    pub(super) away: Option<String>,
    pub(super) entries: Rate,
    pub(super) offences: Rate,
    pub(super) bans: Rate,
    /// Bans, by jail.
    pub(super) jails: BTreeMap<String, Rate>,
    /// Offences, by grammar.
    pub(super) grammars: BTreeMap<String, Rate>,
    pub(super) paused: bool,
    /// What address or jail has in it.
    pub(super) filter: String,
    pub(super) focus: Focus,
    /// The result of the last command, shown until the next key.
    pub(super) notice: Option<String>,
    /// The chosen ban, and which row it was in. The latest one if `None`, whichever that is.
    chosen: Option<(Offender, String, usize)>,
}

impl TopState {
    pub(super) fn new() -> Self {
        Self {
            last: None,
            away: None,
            entries: Rate::default(),
            offences: Rate::default(),
            bans: Rate::default(),
            jails: BTreeMap::new(),
            grammars: BTreeMap::new(),
            paused: false,
            filter: String::new(),
            focus: Focus::List,
            notice: None,
            chosen: None,
        }
    }

    /// Takes what the daemon said this long after it last did.
    pub(super) fn sample(&mut self, sample: Sample, after: Duration) {
        let status = &sample.status;
        // A name that was missing before had none; at first nothing is known.
        let begin = Rate { total: self.last.is_some().then_some(0), past: VecDeque::new() };
        self.entries.count(status.entries, after);
        self.offences.count(status.offences, after);
        self.bans.count(status.bans, after);
        let jails = status.jails.iter().map(|jail| (&jail.name, jail.bans));
        count(&mut self.jails, jails, &begin, after);
        let grammars = status.grammars.iter().map(|grammar| (&grammar.name, grammar.offences));
        count(&mut self.grammars, grammars, &begin, after);
        (self.last, self.away) = (Some(sample), None);
    }

    /// Takes note that the daemon says nothing, and why.
    pub(super) fn away(&mut self, error: String) {
        self.away = Some(error);
    }

    /// Shows what is known of somebody, unless the operator has gone on to something else.
    pub(super) fn explain(&mut self, who: Offender, text: &str) {
        if self.focus == Focus::List {
            self.focus = Focus::Why { who, lines: text.lines().map(str::to_owned).collect(), above: 0 };
        }
    }

    /// Says something until the next key.
    pub(super) fn notice(&mut self, text: String) {
        self.notice = Some(text);
    }

    /// The bans to list. The daemon chose by an earlier filter if this one was typed just now.
    pub(super) fn listed(&self) -> Vec<&BanLine> {
        let bans = self.last.iter().flat_map(|sample| &sample.bans);
        bans.filter(|ban| ban.jail.contains(&self.filter) || ban.address.to_string().contains(&self.filter))
            .collect()
    }

    /// In which row the chosen ban is; where it has ended, the row that it was in.
    pub(super) fn row(&self, listed: &[&BanLine]) -> usize {
        let Some((who, jail, row)) = &self.chosen else { return 0 };
        let found = listed.iter().position(|ban| ban.address == *who && ban.jail == *jail);
        found.unwrap_or((*row).min(listed.len().saturating_sub(1)))
    }

    /// What is not as it should be, the worst first.
    pub(super) fn alarms(&self) -> Vec<String> {
        let mut alarms: Vec<String> = self.away.iter().cloned().collect();
        alarms.extend(self.last.iter().flat_map(|sample| status::alarms(&sample.status)));
        alarms
    }

    /// Takes a key; what the loop is to do for it.
    pub(super) fn key(&mut self, key: KeyEvent) -> Option<KeyCommand> {
        self.notice = None;
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return (key.code == KeyCode::Char('c')).then_some(KeyCommand::Quit);
        }
        match &mut self.focus {
            Focus::List => return self.list_key(key.code),
            Focus::Filter => match key.code {
                KeyCode::Enter => self.focus = Focus::List,
                KeyCode::Esc => {
                    self.filter.clear();
                    self.focus = Focus::List;
                }
                KeyCode::Backspace => drop(self.filter.pop()),
                // No other character is in an address or a jail's name.
                KeyCode::Char(c) if c.is_ascii_alphanumeric() || "-_.:/".contains(c) => self.filter.push(c),
                _ => {}
            },
            Focus::Unban(who) => {
                let who = *who;
                self.focus = Focus::List;
                match key.code {
                    KeyCode::Char('y' | 'Y') => return Some(KeyCommand::Unban(who)),
                    _ => self.notice(format!("{who} stays banned")),
                }
            }
            Focus::Why { lines, above, .. } => {
                let rows = lines.iter().map(|line| line.chars().count().div_ceil(NARROW).max(1));
                let last = rows.sum::<usize>().saturating_sub(1);
                match key.code {
                    KeyCode::Down | KeyCode::Char('j') => *above += 1,
                    KeyCode::Up | KeyCode::Char('k') => *above = above.saturating_sub(1),
                    KeyCode::PageDown | KeyCode::Char(' ') => *above += 10,
                    KeyCode::PageUp => *above = above.saturating_sub(10),
                    KeyCode::Home | KeyCode::Char('g') => *above = 0,
                    KeyCode::Esc | KeyCode::Enter | KeyCode::Char('q' | 'w') => {
                        self.focus = Focus::List;
                        return None;
                    }
                    _ => {}
                }
                *above = (*above).min(last);
            }
            Focus::Help => self.focus = Focus::List,
        }
        None
    }

    fn list_key(&mut self, key: KeyCode) -> Option<KeyCommand> {
        let listed = self.listed();
        let row = self.row(&listed);
        let who = listed.get(row).map(|ban| ban.address);
        let to = match key {
            KeyCode::Down | KeyCode::Char('j') => row + 1,
            KeyCode::Up | KeyCode::Char('k') => row.saturating_sub(1),
            KeyCode::PageDown => row + 10,
            KeyCode::PageUp => row.saturating_sub(10),
            KeyCode::Home | KeyCode::Char('g') => 0,
            KeyCode::End | KeyCode::Char('G') => usize::MAX,
            _ => {
                match (key, who) {
                    (KeyCode::Char('q'), _) => return Some(KeyCommand::Quit),
                    (KeyCode::Char('w') | KeyCode::Enter, Some(who)) => return Some(KeyCommand::Why(who)),
                    (KeyCode::Char('u'), Some(who)) => self.focus = Focus::Unban(who),
                    (KeyCode::Char('/'), _) => self.focus = Focus::Filter,
                    (KeyCode::Char('?'), _) => self.focus = Focus::Help,
                    (KeyCode::Char('p'), _) => self.paused = !self.paused,
                    (KeyCode::Esc, _) => self.filter.clear(),
                    _ => {}
                }
                return None;
            }
        };
        let to = to.min(listed.len().saturating_sub(1));
        self.chosen = listed.get(to).filter(|_| to > 0).map(|ban| (ban.address, ban.jail.clone(), to));
        None
    }
}

/// Counts each by its name, the new ones from `begin` on, and forgets those that are no more.
fn count<'s>(
    rates: &mut BTreeMap<String, Rate>,
    totals: impl Iterator<Item = (&'s String, u64)>,
    begin: &Rate,
    after: Duration,
) {
    let mut before = std::mem::take(rates);
    for (name, total) in totals {
        let mut rate = before.remove(name).unwrap_or_else(|| begin.clone());
        rate.count(total, after);
        rates.insert(name.clone(), rate);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::control::{ReceiverStatus, SourceState};

    /// What a daemon says that has banned 192.0.2.`host` for each of these hosts, the latest first.
    pub(in super::super) fn sample(offences: u64, hosts: &[u8]) -> Sample {
        let status = format!(
            r#"{{"version": "0.1.0", "started": "2023-11-14T22:13:20Z", "uptime": 273900,
                "entries": {entries}, "offences": {offences}, "refused": 0, "bans": {bans}, "banned": {bans},
                "jails": [{{"name": "http-auth", "tracked": 0, "counted": 0, "banned": 0, "bans": 0}},
                          {{"name": "sshd", "tracked": 40, "counted": 55, "banned": {bans}, "bans": {bans}}}],
                "grammars": [{{"name": "sshd", "offences": {offences}, "logins": 1}}],
                "sources": [{{"name": "journald", "state": "running", "entries": {entries}, "unattested": 0,
                             "silent": 0, "lag": 8, "error": null}}],
                "forged": [{{"grammar": "sshd", "uid": 1000, "lines": 4}}],
                "unmatched": [{{"grammar": "sshd", "lines": 70, "templates": [
                    {{"lines": 60, "last": "2023-11-14T22:13:20Z", "template": "Login of \u001b[2J from <ip>"}}]}}],
                "enforcement": {{"mode": "kernel", "error": null, "pending": 0, "repaired": null,
                                "sets": [{{"name": "banstream4", "elements": {bans}, "capacity": 1048576}}]}},
                "ledger": {{"path": "/var/lib/banstream", "error": null, "bytes": 4096, "offences": 0, "bans": 0,
                           "waiting": 0}}}}"#,
            entries = offences * 10,
            bans = hosts.len(),
        );
        let ban = |host: &u8| {
            let ban = format!(
                r#"{{"address": "192.0.2.{host}", "jail": "sshd", "kind": "auto", "ports": [],
                    "since": "2023-11-14T22:13:20Z", "until": "2023-11-14T22:23:20Z", "left": 552, "times": 1,
                    "reason": "5 offences within 10m"}}"#
            );
            serde_json::from_str(&ban).unwrap()
        };
        let status = serde_json::from_str(&status).unwrap();
        Sample { status, bans: hosts.iter().map(ban).collect(), places: BTreeMap::new() }
    }

    pub(in super::super) fn press(state: &mut TopState, keys: &[KeyCode]) -> Vec<KeyCommand> {
        keys.iter().filter_map(|key| state.key(KeyEvent::from(*key))).collect()
    }

    fn typed(keys: &str) -> Vec<KeyCode> {
        keys.chars().map(KeyCode::Char).collect()
    }

    fn host(host: u8) -> Offender {
        format!("192.0.2.{host}").parse().unwrap()
    }

    /// A state that has seen bans of these hosts.
    fn state(hosts: &[u8]) -> TopState {
        let mut state = TopState::new();
        state.sample(sample(0, hosts), Duration::from_secs(1));
        state
    }

    /// What the keys come to where three are banned.
    #[track_caller]
    fn check(keys: &[KeyCode], want: &[KeyCommand]) {
        assert_eq!(press(&mut state(&[3, 2, 1]), keys), want);
    }

    const ESC: KeyCode = KeyCode::Esc;
    const ENTER: KeyCode = KeyCode::Enter;
    const DOWN: KeyCode = KeyCode::Down;

    #[test]
    fn a_ban_is_lifted_only_by_y() {
        check(&typed("uy"), &[KeyCommand::Unban(host(3))]);
        check(&typed("jjuy"), &[KeyCommand::Unban(host(1))]);
        check(&typed("un"), &[]);
        check(&[KeyCode::Char('u'), ENTER], &[]);
        check(&[KeyCode::Char('u'), ESC, KeyCode::Char('y')], &[]);
        check(&typed("y"), &[]);
    }

    #[test]
    fn the_arrows_stop_at_the_ends() {
        check(&typed("kw"), &[KeyCommand::Why(host(3))]);
        check(&typed("jjjjw"), &[KeyCommand::Why(host(1))]);
        check(&typed("Gkw"), &[KeyCommand::Why(host(2))]);
        check(&[KeyCode::PageDown, ENTER], &[KeyCommand::Why(host(1))]);
        check(&typed("jgw"), &[KeyCommand::Why(host(3))]);
    }

    #[test]
    fn q_quits_except_in_what_has_to_be_closed_first() {
        check(&typed("q"), &[KeyCommand::Quit]);
        check(&typed("?qq"), &[KeyCommand::Quit]);
        check(&typed("/q"), &[]);
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        let mut state = state(&[1]);
        press(&mut state, &typed("/"));
        assert_eq!(state.key(interrupt), Some(KeyCommand::Quit));
    }

    #[test]
    fn nobody_is_lifted_where_nobody_is_listed() {
        assert_eq!(press(&mut state(&[]), &typed("juwy")), []);
        assert_eq!(press(&mut TopState::new(), &typed("juwy")), []);
    }

    #[test]
    fn the_chosen_ban_stays_chosen_while_others_come_and_go() {
        let mut state = state(&[3, 2, 1]);
        let mut chosen = |hosts: &[u8], keys: &[KeyCode]| {
            state.sample(sample(0, hosts), Duration::from_secs(1));
            press(&mut state, keys);
            let listed = state.listed();
            listed.get(state.row(&listed)).map(|ban| ban.address)
        };
        assert_eq!(chosen(&[4, 3, 2, 1], &[]), Some(host(4)), "the latest is, where none was chosen");
        assert_eq!(chosen(&[4, 3, 2, 1], &[DOWN, DOWN]), Some(host(2)));
        assert_eq!(chosen(&[6, 5, 4, 3, 2, 1], &[]), Some(host(2)));
        assert_eq!(chosen(&[4, 3, 1], &[]), Some(host(1)), "it has ended");
        assert_eq!(chosen(&[4], &[]), Some(host(4)));
        assert_eq!(chosen(&[], &[]), None);
    }

    #[test]
    fn the_question_is_about_who_was_chosen_when_it_was_put() {
        let mut state = state(&[1]);
        press(&mut state, &typed("u"));
        state.sample(sample(0, &[2, 1]), Duration::from_secs(1));
        assert_eq!(press(&mut state, &typed("y")), [KeyCommand::Unban(host(1))]);
    }

    #[test]
    fn a_filter_takes_what_addresses_and_jails_have() {
        let mut state = state(&[21, 20, 1]);
        let mut listed = |keys: &[KeyCode]| {
            press(&mut state, keys);
            (state.filter.clone(), state.listed().len())
        };
        assert_eq!(listed(&typed("/.2 &?#0")), (".20".to_owned(), 1));
        assert_eq!(listed(&[KeyCode::Backspace]), (".2".to_owned(), 3));
        assert_eq!(listed(&[KeyCode::Char('2'), ENTER]), (".22".to_owned(), 0));
        assert_eq!(listed(&[ESC]), (String::new(), 3));
        assert_eq!(listed(&typed("/ssh")), ("ssh".to_owned(), 3));
        assert_eq!(listed(&[ESC]), (String::new(), 3));
    }

    #[test]
    fn a_rate_is_what_came_in_the_time_between() {
        let mut rate = Rate::default();
        let mut past = |total, after| {
            rate.count(total, Duration::from_millis(after));
            rate.past.iter().copied().collect::<Vec<_>>()
        };
        let got: Vec<Vec<f64>> = [(100, 1000), (110, 1000), (110, 500), (120, 500), (4, 2000)]
            .map(|(total, after)| past(total, after))
            .into();
        let want = [&[][..], &[10.0], &[0.0, 10.0], &[20.0, 0.0, 10.0], &[2.0, 20.0, 0.0, 10.0]];
        assert_eq!(got, want, "the last is after a restart");
    }

    #[test]
    fn no_more_rates_are_kept_than_a_terminal_shows() {
        let mut rate = Rate::default();
        (0..2 * KEPT as u64).for_each(|total| rate.count(total, Duration::from_secs(1)));
        assert_eq!(rate.past.len(), KEPT);
    }

    #[test]
    fn who_is_new_has_begun_from_zero() {
        let mut state = TopState::new();
        let with = |jails: &[&str]| {
            let mut sample = sample(0, &[1]);
            sample.status.jails.retain(|jail| jails.contains(&jail.name.as_str()));
            sample
        };
        let mut rates = |jails: &[&str]| {
            state.sample(with(jails), Duration::from_secs(1));
            state.jails.iter().map(|(name, rate)| (name.clone(), rate.now())).collect::<Vec<_>>()
        };
        let sshd = |rate| ("sshd".to_owned(), rate);
        assert_eq!(rates(&["sshd"]), [sshd(0.0)], "nobody knows since when");
        assert_eq!(rates(&[]), []);
        assert_eq!(rates(&["sshd"]), [sshd(1.0)]);
        assert_eq!(rates(&["sshd"]), [sshd(0.0)]);
    }

    #[test]
    fn an_explanation_does_not_push_in_front_of_a_question() {
        let mut state = state(&[1]);
        press(&mut state, &typed("wu"));
        state.explain(host(1), "x");
        assert_eq!(state.focus, Focus::Unban(host(1)));
        press(&mut state, &typed("n"));
        state.explain(host(1), &format!("a\nb\n{}", "c".repeat(2 * NARROW)));
        let above = |state: &TopState| match &state.focus {
            Focus::Why { above, .. } => Some(*above),
            _ => None,
        };
        press(&mut state, &[KeyCode::PageDown]);
        assert_eq!(above(&state), Some(3), "no further than the last row of a line that is broken");
        press(&mut state, &typed("k"));
        assert_eq!(above(&state), Some(2));
        press(&mut state, &[ESC]);
        assert_eq!(above(&state), None);
    }

    #[test]
    fn what_is_wrong_is_told_the_worst_first() {
        let mut state = TopState::new();
        let mut sample = sample(0, &[1]);
        let status = &mut sample.status;
        status.enforcement.error = Some("no permission".to_owned());
        status.enforcement.pending = 3;
        status.enforcement.sets[0].elements = 1_000_000;
        status.sources[0].state = SourceState::Failed;
        status.sources[0].error = Some("it is not there".to_owned());
        status.ledger.error = Some("disk is full".to_owned());
        let error = Some("it hangs".to_owned());
        status.receivers = vec![ReceiverStatus { name: "chat".to_owned(), error, ..Default::default() }];
        state.sample(sample, Duration::from_secs(1));
        state.away("no daemon answers".to_owned());
        let want = [
            "no daemon answers",
            "not enforced: no permission",
            "3 bans not enforced",
            "the set banstream4 is nearly full",
            "cannot read journald: it is not there",
            "ledger: disk is full",
            "cannot deliver to chat: it hangs",
        ];
        assert_eq!(state.alarms(), want);
        state.sample(self::sample(0, &[1]), Duration::from_secs(1));
        assert_eq!(state.alarms(), [""; 0]);
    }
}
