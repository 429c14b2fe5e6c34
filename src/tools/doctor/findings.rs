//! What the facts about a host mean: what prevents bans from being enforced, and how to fix it. It is pure, so that
//! every fault can be tested in a table, without a kernel.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::fmt::Write;

use serde::Serialize;

use crate::kernel::Family;
use crate::model::{Span, count};

/// All that was found out about a host.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Whether we may look at the kernel's sets and rules (CAP_NET_ADMIN).
    pub capable: bool,
    /// What is in the kernel; `None` where bans are not to be enforced, or we may not look.
    pub enforcement: Option<Enforcement>,
    /// What the daemon says; or why none does.
    pub daemon: Result<DaemonFacts, String>,
    /// How journald is set; `None` where it is not read.
    pub journald: Option<JournaldSettings>,
    /// How rsyslog is set; `None` where it hands us nothing.
    pub rsyslog: Option<Rsyslog>,
    /// Lines of servers' configurations with which no offence can be found, or the wrong one.
    pub servers: Vec<(ServerFault, Suspect)>,
}

/// How rsyslog is set.
#[derive(Clone, Debug, Default)]
pub struct Rsyslog {
    /// Settings that make it drop messages.
    pub limits: Vec<Suspect>,
    /// Where it is said at how many bytes messages are cut, and at how many.
    pub sizes: Vec<(Suspect, u64)>,
}

/// What is wrong with a line of a server's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerFault {
    /// Its log goes through `logger`, which splits lines.
    Logger,
    /// It logs the names of clients instead of their addresses; and what to set.
    Names(&'static str),
    /// So does PAM for it.
    PamNames(&'static str),
}

/// What is in the kernel.
#[derive(Clone, Debug)]
pub struct Enforcement {
    /// The sets there ought to be; or why they cannot be looked at.
    pub sets: Result<Vec<SetFacts>, String>,
    /// The chains that there ought to be a rule in.
    pub chains: Vec<Chain>,
    /// The kernel's modules that it takes, and that are neither loaded nor on disk. A kernel may have them built in
    /// and not say so: they are the reason only where something does not work.
    pub modules: Vec<&'static str>,
}

/// One set.
#[derive(Clone, Debug)]
pub struct SetFacts {
    /// Its name.
    pub name: String,
    /// Elements and room for them; `None` where there is no such set.
    pub filled: Option<(u32, u32)>,
    /// Whether the set that the rule refers to has it as a member.
    pub linked: bool,
    /// Whether an element that was put in is found again; or why it could not be put in.
    pub found: Result<bool, String>,
}

/// One chain of one family.
#[derive(Clone, Debug)]
pub struct Chain {
    /// The family.
    pub family: Family,
    /// `raw PREROUTING`.
    pub name: String,
    /// By the program that is configured.
    pub listing: RuleListing,
    /// By those of its variants (legacy, nft) that keep rules of their own.
    pub others: Vec<RuleListing>,
}

/// The rules of a chain, as one program lists them.
#[derive(Clone, Debug)]
pub struct RuleListing {
    /// The program.
    pub program: String,
    /// The rules in their order, and which are ours; or why they cannot be listed.
    pub rules: Result<Vec<(String, bool)>, String>,
}

impl RuleListing {
    /// Where our rule stands first, from 0.
    fn place(&self) -> Option<usize> {
        self.rules.iter().flatten().position(|(_, ours)| *ours)
    }
}

/// What the daemon says of itself.
#[derive(Clone, Debug)]
pub struct DaemonFacts {
    /// `kernel`, or `none` where it only decides and logs.
    pub mode: String,
    /// What keeps it from enforcing bans, if anything does.
    pub fault: Option<String>,
    /// The jails that only observe.
    pub observing: Vec<String>,
    /// Its sources, and why they are not read where they are not.
    pub sources: Vec<(String, Result<(), String>)>,
    /// For how many seconds nothing came from any of them; since the start if `None`.
    pub silent: Option<u64>,
    /// For how many seconds it runs.
    pub uptime: u64,
    /// Bans of addresses that no packet from the internet has, with their jails.
    pub private_bans: Vec<(String, String)>,
    /// Grammars most of whose requests come from one address, and that.
    pub crowds: Vec<(String, String)>,
    /// Sources that bring the same lines, in words.
    pub duplicates: Vec<String>,
    /// Its metrics.
    pub samples: Samples,
}

/// Metrics in Prometheus' text format.
#[derive(Clone, Debug, Default)]
pub struct Samples(pub String);

impl Samples {
    /// The labels of this metric's samples that are not 0, as they are written.
    fn nonzero<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s str> {
        self.0.lines().filter_map(move |line| {
            let (sample, value) = line.rsplit_once(' ')?;
            let labels = sample.strip_prefix(name)?;
            let whole = labels.is_empty() || labels.starts_with('{');
            (whole && value.parse::<f64>().is_ok_and(|value| value > 0.0))
                .then(|| labels.trim_matches(['{', '}']))
        })
    }

    /// Those labels in one text; `None` where there are none.
    fn told(&self, name: &str) -> Option<String> {
        let mut found = self.nonzero(name).peekable();
        found.peek()?;
        Some(found.collect::<Vec<_>>().join("; "))
    }
}

/// How journald is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournaldSettings {
    /// How many messages of one service it takes in how long; 0 for all.
    pub burst: u64,
    /// In how long; zero for all.
    pub interval: Span,
    /// Whether it keeps none at all (`Storage=none`).
    pub keeps_none: bool,
}

impl Default for JournaldSettings {
    /// journald.conf(5).
    fn default() -> Self {
        Self { burst: 10_000, interval: Span::from_secs(30), keeps_none: false }
    }
}

/// A line of a configuration of others that is suspect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// File and line.
    pub place: String,
    /// What stands there.
    pub text: String,
}

/// Something that is wrong, or may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Finding {
    /// Its name, for programs; it does not change.
    pub name: &'static str,
    /// How bad it is.
    pub severity: FindingSeverity,
    /// What it is, for people.
    pub what: String,
    /// What to do about it.
    pub fix: String,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum FindingSeverity {
    /// Bans are not enforced, or attacks not seen.
    Wrong,
    /// That may happen.
    Doubtful,
}

/// What is wrong with such a host, and what to do about it; the worst of each part first.
pub fn examine(facts: &Facts) -> Vec<Finding> {
    let mut findings = Findings(Vec::new());
    if !facts.capable {
        findings.wrong(
            "no-privilege",
            "cannot check sets and rules: CAP_NET_ADMIN is missing".to_owned(),
            "run `banstream doctor` as root",
        );
    }
    if let Some(enforcement) = &facts.enforcement {
        findings.sets(enforcement);
        enforcement.chains.iter().for_each(|chain| findings.chain(chain));
        findings.modules(enforcement);
    }
    match &facts.daemon {
        Ok(daemon) => findings.daemon(daemon),
        Err(why) => findings.wrong(
            "no-daemon",
            format!("no running daemon: {why}"),
            "start it (`systemctl enable --now banstream`) and look at its log (`journalctl -u banstream`)",
        ),
    }
    findings.logs(facts);
    findings.0
}

struct Findings(Vec<Finding>);

/// Seconds in which something comes from rsyslog, if only from cron.
const SILENT: u64 = 70 * 60;

/// Seconds in which it comes for the first time.
const NEVER: u64 = 10 * 60;

/// Bytes: nginx and Apache write a header of 8 KiB as 32 KiB of `\xHH`, and a line has two.
pub(super) const LONG_ENOUGH: u64 = 64 << 10;

const PROXY: &str = "let the server log the client's address (nginx: real_ip; Apache: mod_remoteip), or name the proxy in \
     `trusted-proxies`; see grammars/README.md, `Behind a proxy`";

const RESTART: &str = "a running daemon repairs this within seconds; otherwise start it, or look at its log";

impl Findings {
    fn wrong(&mut self, name: &'static str, what: String, fix: &str) {
        self.0.push(Finding { name, severity: FindingSeverity::Wrong, what, fix: fix.to_owned() });
    }

    fn doubtful(&mut self, name: &'static str, what: String, fix: &str) {
        self.0.push(Finding { name, severity: FindingSeverity::Doubtful, what, fix: fix.to_owned() });
    }

    fn sets(&mut self, enforcement: &Enforcement) {
        let sets = match &enforcement.sets {
            Ok(sets) => sets,
            Err(why) => {
                let what = format!("cannot list the kernel's sets: {why}");
                return self.wrong(
                    "no-ipset",
                    what,
                    "load the kernel's ipset modules, or give this container the right to use them",
                );
            }
        };
        for SetFacts { name, filled, linked, found } in sets {
            match *filled {
                None => self.wrong("set-missing", format!("the set `{name}` is missing"), RESTART),
                Some((elements, capacity)) if elements >= capacity => self.wrong(
                    "set-full",
                    format!("the set `{name}` is full ({elements} elements), so new bans are not enforced"),
                    "raise `max-elements` in [enforce], or ban prefixes ([widen])",
                ),
                Some(_) if !linked => self.wrong(
                    "set-unlinked",
                    format!("the rule does not use the set `{name}`: it is not a member of the list"),
                    RESTART,
                ),
                Some(_) => match found {
                    Ok(true) => {}
                    Ok(false) => self.wrong(
                        "probe-lost",
                        format!("the set `{name}` accepted a test element, but does not contain it"),
                        "another program empties or replaces the set; look for `ipset` in its scripts",
                    ),
                    Err(why) => self.wrong(
                        "probe-refused",
                        format!("the set `{name}` refuses a test element: {why}"),
                        "find the other user of this set, or choose another name (`set` in [enforce])",
                    ),
                },
            }
        }
    }

    fn chain(&mut self, chain: &Chain) {
        let Chain { family, name, listing, others } = chain;
        let program = &listing.program;
        let rules = match &listing.rules {
            Ok(rules) => rules,
            Err(why) => {
                let what =
                    format!("`{program}` cannot list `{name}`, so {family} bans may not be enforced: {why}");
                return self.wrong(
                    "rules-unknown",
                    what,
                    "install iptables, or name the program in [enforce]",
                );
            }
        };
        let elsewhere = others.iter().find(|other| other.place().is_some());
        match (listing.place(), elsewhere) {
            (None, None) => self.wrong(
                "rule-missing",
                format!("`{name}` has no rule for {family}, so its bans are not enforced"),
                RESTART,
            ),
            (None, Some(other)) => self.wrong(
                "rule-in-other-variant",
                format!(
                    "the rule for {family} is in `{}`, but `{program}` is another variant now",
                    other.program
                ),
                "set `iptables` and `ip6tables` in [enforce] to the variant of this host's other rules",
            ),
            (Some(_), Some(other)) => self.doubtful(
                "rule-in-both-variants",
                format!("the rule for {family} is both in `{program}` and in `{}`", other.program),
                "remove the unused one; otherwise it stays after the daemon stops",
            ),
            (Some(0), None) => {}
            (Some(place), None) => {
                let (precede, rules_before) =
                    (if place == 1 { "precedes" } else { "precede" }, count(place as u64, "rule"));
                let mut what = format!(
                    "{rules_before} in `{name}` ({family}) {precede} ours and may accept banned addresses:"
                );
                for (rule, _) in rules.iter().take(place.min(3)) {
                    let _ = write!(what, " `{rule}`");
                }
                self.wrong(
                    "rule-displaced",
                    what,
                    "start the program that adds them before banstream, or let it append its rules",
                );
            }
        }
    }

    /// Says which modules are missing, where sets or rules do not work.
    fn modules(&mut self, enforcement: &Enforcement) {
        let may_lack_one = ["no-ipset", "set-missing", "probe-refused", "rules-unknown", "rule-missing"];
        let fails = self.0.iter().any(|finding| may_lack_one.contains(&finding.name));
        if fails && !enforcement.modules.is_empty() {
            let modules = enforcement.modules.join(" ");
            self.wrong(
                "module-missing",
                format!("kernel modules are neither loaded nor on disk: {modules}"),
                &format!(
                    "modprobe -a {modules}; if that fails, install the kernel's modules, or reboot after an update \
                     of the kernel. A container uses the modules of its host: load them there"
                ),
            );
        }
    }

    fn daemon(&mut self, daemon: &DaemonFacts) {
        let DaemonFacts {
            mode,
            fault,
            observing,
            sources,
            silent,
            uptime,
            private_bans,
            crowds,
            duplicates,
            samples,
        } = daemon;
        if mode == "none" {
            let what = "bans are decided and logged, but not enforced".to_owned();
            self.wrong("not-enforced", what, "set mode = \"enforce\", and run without --dry-run");
        } else if !observing.is_empty() {
            let what = format!("these jails only observe: {}", observing.join(" "));
            self.doubtful("observing", what, "once their bans are right, remove `mode = \"observe\"`");
        }
        if let Some(error) = fault {
            self.wrong(
                "enforcement-failed",
                format!("the daemon cannot enforce bans: {error}"),
                "follow that message",
            );
        }
        for (name, read) in sources {
            if let Err(why) = read {
                let what = format!("cannot read `{name}`: {why}");
                self.wrong("source-failed", what, "follow that message; the daemon tries again by itself");
            }
        }
        if sources.is_empty() {
            let what = "the daemon reads no log".to_owned();
            self.wrong("no-source", what, "enable [journald] or [socket]");
        }
        if !sources.is_empty()
            && sources.iter().all(|(name, read)| name == "socket" && read.is_ok())
            && silent.map_or(*uptime >= NEVER, |silent| silent >= SILENT)
        {
            let what = format!(
                "no entries from rsyslog for {}, and there is no other source",
                Span::from_secs(silent.unwrap_or(*uptime))
            );
            self.wrong(
                "socket-silent",
                what,
                "copy contrib/rsyslog/10-banstream.conf to /etc/rsyslog.d, and look at `rsyslogd -N1` and rsyslog's log; \
                 or read the journal: set enabled = true in [journald]",
            );
        }
        for duplicate in duplicates {
            self.wrong(
                "same-lines",
                duplicate.clone(),
                "leave one out: write `enabled = false` below [journald], or remove banstream's drop-in from /etc/rsyslog.d",
            );
        }
        for (grammar, address) in crowds {
            self.doubtful(
                "one-client",
                format!("nearly all requests that `{grammar}` reads come from {address}, which is probably a proxy"),
                PROXY,
            );
        }
        for (address, jail) in private_bans {
            self.doubtful(
                "private-ban",
                format!("{jail} banned the private address {address}, which may be a proxy for many clients"),
                PROXY,
            );
        }
        if let Some(jails) = samples.told("banstream_bans_ineffective_total") {
            self.wrong(
                "ineffective-bans",
                format!("banned addresses still cause offences: {jails}"),
                "they bypass the rule: through a proxy or load balancer (then the packets have its address, \
                 and you must block the clients there), another address family or network namespace, \
                 or ports that the jail does not block (`ports`)",
            );
        }
        if let Some(reasons) = samples.told("banstream_drops_total") {
            let what = format!("entries or bans were lost or left out since the start: {reasons}");
            self.doubtful("drops", what, "`banstream_drops_total` shows how many, the daemon's log why");
        }
        if samples.told("banstream_ledger_errors_total").is_some() {
            let what = "the ledger could not be read or written, so bans may not survive a reboot".to_owned();
            self.wrong(
                "ledger-errors",
                what,
                "check free space and permissions of `state-directory`, and the daemon's log",
            );
        }
        if samples.told("banstream_clock_jumps_total").is_some() {
            let what =
                "the clock jumped while the daemon ran, so bans may have ended early or late".to_owned();
            self.doubtful(
                "clock-jumps",
                what,
                "let chrony or systemd-timesyncd slew the clock; after a suspend this is normal",
            );
        }
        if let Some(sources) = samples.told("banstream_entries_unattested_total") {
            self.doubtful(
                "unattested",
                format!("a source cannot verify senders, so local users can forge lines: {sources}"),
                "read from journald, let rsyslog forward the senders (contrib/rsyslog), or set \
                 unattested = \"refuse\" in [socket]",
            );
        }
        if let Some(grammars) = samples.told("banstream_entries_forged_total") {
            let what = format!("a local user forges log lines of a server: {grammars}");
            self.doubtful(
                "forged-lines",
                what,
                "`journalctl _UID=...` shows the user; these lines were not counted",
            );
        }
    }

    fn logs(&mut self, facts: &Facts) {
        if let Some(journald) = &facts.journald {
            let usual = JournaldSettings::default();
            let JournaldSettings { burst, interval, keeps_none } = *journald;
            if keeps_none {
                let what = "journald keeps no messages (Storage=none), so there are none to read".to_owned();
                self.wrong("journald-keeps-none", what, "set Storage=volatile in journald.conf(5)");
            } else if burst > 0 && interval > Span::ZERO {
                let what = format!(
                    "journald drops messages of a service beyond {burst} in {interval}, so a large attack can hide itself"
                );
                let fix = "set RateLimitIntervalSec=0 in journald.conf(5), or LogRateLimitIntervalSec=0 in the servers' units";
                // Messages in the time of the other, to avoid a division.
                let ours = u128::from(burst) * u128::from(usual.interval.as_micros());
                if ours < u128::from(usual.burst) * u128::from(interval.as_micros()) {
                    self.wrong("journald-rate-limit", what, fix);
                } else {
                    self.doubtful("journald-rate-limit", what, fix);
                }
            }
        }
        if let Some(rsyslog) = &facts.rsyslog {
            self.rsyslog(rsyslog);
        }
        for (fault, Suspect { place, text }) in &facts.servers {
            match fault {
                ServerFault::Logger => self.wrong(
                    "logger-pipe",
                    format!("`logger` splits lines over 1 KiB, and a client can choose how the rest begins: {place}: `{text}`"),
                    "log to a file that rsyslog reads (contrib/rsyslog/20-banstream-files.conf), or give `logger` --size 128KiB",
                ),
                ServerFault::Names(fix) => self.wrong(
                    "names-logged",
                    format!("a server logs host names instead of addresses, so it causes no bans: {place}: `{text}`"),
                    fix,
                ),
                ServerFault::PamNames(fix) => self.doubtful(
                    "names-in-pam",
                    format!("PAM logs host names of a server's clients instead of addresses: {place}: `{text}`"),
                    fix,
                ),
            }
        }
    }

    fn rsyslog(&mut self, Rsyslog { limits, sizes }: &Rsyslog) {
        for Suspect { place, text } in limits {
            let what = format!("rsyslog drops messages at high rates: {place}: `{text}`");
            self.doubtful("rsyslog-rate-limit", what, "set the interval of that rate limit to 0");
        }
        let small = sizes.iter().filter(|(_, size)| *size < LONG_ENOUGH);
        let mut told: Vec<String> =
            small.map(|(Suspect { place, text }, _)| format!("{place}: `{text}`")).collect();
        if sizes.is_empty() {
            told.push("no file sets a limit, and the default is 8096 bytes".to_owned());
        }
        if !told.is_empty() {
            let what = format!(
                "rsyslog cuts long messages, so a client can hide the result of its request: {}",
                told.join("; ")
            );
            self.wrong(
                "rsyslog-cuts",
                what,
                "set global(maxMessageSize=\"128k\") in /etc/rsyslog.conf, and no smaller limit elsewhere",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host on which all is well.
    fn sound() -> Facts {
        let listing = |program: &str| RuleListing {
            program: program.to_owned(),
            rules: Ok(vec![
                ("-A PREROUTING ours".to_owned(), true),
                ("-A PREROUTING other".to_owned(), false),
            ]),
        };
        let chain = |family, program| Chain {
            family,
            name: "raw PREROUTING".to_owned(),
            listing: listing(program),
            others: vec![RuleListing { program: format!("{program}-legacy"), rules: Ok(vec![]) }],
        };
        let set = |name: &str| SetFacts {
            name: name.to_owned(),
            filled: Some((1, 9)),
            linked: true,
            found: Ok(true),
        };
        let samples = "# HELP banstream_drops_total What was lost.\n\
                       banstream_drops_total{reason=\"overlong\"} 0\nbanstream_entries_total{source=\"journald\"} 9\n";
        Facts {
            capable: true,
            enforcement: Some(Enforcement {
                sets: Ok(vec![set("banstream4"), set("banstream6")]),
                chains: vec![chain(Family::V4, "iptables"), chain(Family::V6, "ip6tables")],
                modules: Vec::new(),
            }),
            daemon: Ok(DaemonFacts {
                mode: "kernel".to_owned(),
                fault: None,
                observing: Vec::new(),
                sources: vec![("journald".to_owned(), Ok(()))],
                silent: Some(9),
                uptime: 99,
                private_bans: Vec::new(),
                crowds: Vec::new(),
                duplicates: Vec::new(),
                samples: Samples(samples.to_owned()),
            }),
            journald: Some(JournaldSettings { burst: 0, ..JournaldSettings::default() }),
            rsyslog: None,
            servers: Vec::new(),
        }
    }

    fn suspect() -> Suspect {
        Suspect { place: "/etc/x.conf:3".to_owned(), text: "x".to_owned() }
    }

    /// The names of what is found once this was done to a sound host; those in capitals are wrong, not doubtful.
    #[track_caller]
    fn check(harm: impl FnOnce(&mut Facts), want: &[&str]) {
        let mut facts = sound();
        harm(&mut facts);
        let shown = |finding: Finding| match finding.severity {
            FindingSeverity::Wrong => finding.name.to_uppercase(),
            FindingSeverity::Doubtful => finding.name.to_owned(),
        };
        assert_eq!(examine(&facts).into_iter().map(shown).collect::<Vec<_>>(), want);
    }

    fn set(facts: &mut Facts) -> &mut SetFacts {
        &mut facts.enforcement.as_mut().unwrap().sets.as_mut().unwrap()[1]
    }

    fn chain(facts: &mut Facts) -> &mut Chain {
        &mut facts.enforcement.as_mut().unwrap().chains[1]
    }

    fn daemon(facts: &mut Facts) -> &mut DaemonFacts {
        facts.daemon.as_mut().unwrap()
    }

    fn sample(line: &str) -> impl FnOnce(&mut Facts) {
        move |facts| daemon(facts).samples.0 += &format!("{line}\n")
    }

    #[test]
    fn a_sound_host_has_no_fault() {
        check(|_| {}, &[]);
        check(|facts| facts.journald = None, &[]);
    }

    #[test]
    fn a_fault_of_the_sets_is_found() {
        check(|facts| facts.enforcement.as_mut().unwrap().sets = Err("x".to_owned()), &["NO-IPSET"]);
        check(|facts| set(facts).filled = None, &["SET-MISSING"]);
        check(|facts| set(facts).filled = Some((9, 9)), &["SET-FULL"]);
        check(|facts| set(facts).linked = false, &["SET-UNLINKED"]);
        check(|facts| set(facts).found = Ok(false), &["PROBE-LOST"]);
        check(|facts| set(facts).found = Err("x".to_owned()), &["PROBE-REFUSED"]);
        let blind = |facts: &mut Facts| (facts.capable, facts.enforcement) = (false, None);
        check(blind, &["NO-PRIVILEGE"]);
    }

    #[test]
    fn a_fault_of_the_rules_is_found() {
        let ours = || ("-A PREROUTING ours".to_owned(), true);
        check(|facts| chain(facts).listing.rules = Err("x".to_owned()), &["RULES-UNKNOWN"]);
        check(|facts| chain(facts).listing.rules = Ok(vec![]), &["RULE-MISSING"]);
        check(|facts| chain(facts).listing.rules.as_mut().unwrap().rotate_left(1), &["RULE-DISPLACED"]);
        check(|facts| chain(facts).others[0].rules = Ok(vec![ours()]), &["rule-in-both-variants"]);
        let moved = |facts: &mut Facts| {
            chain(facts).listing.rules = Ok(vec![]);
            chain(facts).others[0].rules = Ok(vec![ours()]);
        };
        check(moved, &["RULE-IN-OTHER-VARIANT"]);
    }

    #[test]
    fn a_missing_module_is_named_where_something_does_not_work() {
        let harm = |sets| {
            move |facts: &mut Facts| {
                let enforcement = facts.enforcement.as_mut().unwrap();
                enforcement.modules = vec!["ip_set", "xt_set"];
                enforcement.sets = sets;
            }
        };
        check(harm(Ok(Vec::new())), &[]);
        check(harm(Err("x".to_owned())), &["NO-IPSET", "MODULE-MISSING"]);
        let mut facts = sound();
        harm(Err("x".to_owned()))(&mut facts);
        assert!(examine(&facts)[1].fix.starts_with("modprobe -a ip_set xt_set; "));
    }

    #[test]
    fn a_fault_of_the_daemon_is_found() {
        check(|facts| facts.daemon = Err("x".to_owned()), &["NO-DAEMON"]);
        check(|facts| daemon(facts).mode = "none".to_owned(), &["NOT-ENFORCED"]);
        check(|facts| daemon(facts).observing = vec!["sshd".to_owned()], &["observing"]);
        check(|facts| daemon(facts).fault = Some("x".to_owned()), &["ENFORCEMENT-FAILED"]);
        check(|facts| daemon(facts).sources[0].1 = Err("x".to_owned()), &["SOURCE-FAILED"]);
        check(|facts| daemon(facts).sources.clear(), &["NO-SOURCE"]);
        check(|facts| daemon(facts).duplicates = vec!["x".to_owned()], &["SAME-LINES"]);
        check(sample("banstream_bans_ineffective_total{jail=\"sshd\"} 3"), &["INEFFECTIVE-BANS"]);
        check(sample("banstream_drops_total{reason=\"overlong\"} 1"), &["drops"]);
        check(sample("banstream_ledger_errors_total 1"), &["LEDGER-ERRORS"]);
        check(sample("banstream_clock_jumps_total 1"), &["clock-jumps"]);
        check(sample("banstream_entries_unattested_total{source=\"socket\"} 1"), &["unattested"]);
        check(sample("banstream_entries_forged_total{grammar=\"sshd\"} 1"), &["forged-lines"]);
    }

    #[test]
    fn a_log_that_drops_messages_is_found() {
        let journald = |journald: JournaldSettings| move |facts: &mut Facts| facts.journald = Some(journald);
        check(journald(JournaldSettings::default()), &["journald-rate-limit"]);
        check(
            journald(JournaldSettings { burst: 9_999, ..JournaldSettings::default() }),
            &["JOURNALD-RATE-LIMIT"],
        );
        check(
            journald(JournaldSettings { interval: Span::from_secs(31), ..JournaldSettings::default() }),
            &["JOURNALD-RATE-LIMIT"],
        );
        check(journald(JournaldSettings { interval: Span::ZERO, ..JournaldSettings::default() }), &[]);
        check(
            journald(JournaldSettings { keeps_none: true, ..JournaldSettings::default() }),
            &["JOURNALD-KEEPS-NONE"],
        );
        let rsyslog =
            |limits, sizes| move |facts: &mut Facts| facts.rsyslog = Some(Rsyslog { limits, sizes });
        check(rsyslog(vec![], vec![(suspect(), LONG_ENOUGH)]), &[]);
        check(rsyslog(vec![suspect()], vec![(suspect(), LONG_ENOUGH)]), &["rsyslog-rate-limit"]);
        check(rsyslog(vec![], vec![]), &["RSYSLOG-CUTS"]);
        check(rsyslog(vec![], vec![(suspect(), LONG_ENOUGH), (suspect(), 8192)]), &["RSYSLOG-CUTS"]);
    }

    #[test]
    fn a_source_that_says_nothing_is_wrong_only_where_it_is_the_only_one() {
        let silent = |sources: &[&str], silent, uptime| {
            let sources = sources.iter().map(|name| ((*name).to_owned(), Ok(()))).collect();
            move |facts: &mut Facts| {
                let daemon = daemon(facts);
                (daemon.sources, daemon.silent, daemon.uptime) = (sources, silent, uptime);
            }
        };
        check(silent(&["socket"], Some(SILENT), SILENT), &["SOCKET-SILENT"]);
        check(silent(&["socket"], None, NEVER), &["SOCKET-SILENT"]);
        check(silent(&["socket"], None, NEVER - 1), &[]);
        check(silent(&["socket"], Some(SILENT - 1), 2 * SILENT), &[]);
        check(silent(&["socket", "journald"], None, SILENT), &[]);
    }

    #[test]
    fn a_server_that_hides_its_clients_is_found() {
        let server = |fault| move |facts: &mut Facts| facts.servers.push((fault, suspect()));
        check(server(ServerFault::Logger), &["LOGGER-PIPE"]);
        check(server(ServerFault::Names("x")), &["NAMES-LOGGED"]);
        check(server(ServerFault::PamNames("x")), &["names-in-pam"]);
        let pair = || vec![("x".to_owned(), "10.0.0.5".to_owned())];
        check(|facts| daemon(facts).crowds = pair(), &["one-client"]);
        check(|facts| daemon(facts).private_bans = pair(), &["private-ban"]);
    }

    #[test]
    fn what_is_found_is_told_with_its_place() {
        let mut facts = sound();
        chain(&mut facts).listing.rules.as_mut().unwrap().rotate_left(1);
        let what = &examine(&facts)[0].what;
        assert_eq!(
            what,
            "1 rule in `raw PREROUTING` (IPv6) precedes ours and may accept banned addresses: `-A PREROUTING other`"
        );
    }
}
