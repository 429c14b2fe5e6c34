//! What the facts about the daemon, its sources and the servers that write to them mean.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::facts::{
    DaemonFacts, Facts, JournaldSettings, PrivateBans, Rsyslog, RunningServer, ServerFault, ServerLog,
    Suspect, Visitor,
};
use super::findings::Findings;
use crate::model::{Span, count};

/// Seconds in which something comes from rsyslog, if only from cron.
pub(super) const SILENT: u64 = 70 * 60;

/// Seconds in which it comes for the first time.
pub(super) const NEVER: u64 = 10 * 60;

/// Bytes: nginx and Apache write a header of 8 KiB as 32 KiB of `\xHH`, and a line has two.
pub(super) const LONG_ENOUGH: u64 = 64 << 10;

const PROXY: &str = "let the server log the client's address (nginx: real_ip; Apache: mod_remoteip), or name the proxy in \
     `trusted-proxies`; see grammars/README.md, `Behind a proxy`";

impl Findings {
    pub(super) fn daemon(&mut self, daemon: &DaemonFacts) {
        let DaemonFacts {
            mode,
            backend: _,
            fault,
            ledger,
            damaged,
            observing,
            sources,
            left,
            metrics,
            receivers,
            running,
            visitors,
            uptime,
            private_bans,
            crowds,
            duplicates,
            fleet,
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
            match read {
                Ok(_) if left.contains(name) => self.doubtful(
                    "socket-unconnected",
                    format!("nobody is connected to `{name}`: rsyslog hands nothing over"),
                    "see whether rsyslog runs (`systemctl status rsyslog`); after a start it connects with its first message",
                ),
                Ok(Some(silent)) => {
                    let ago = Span::from_secs(*silent);
                    self.ok("source", format!("`{name}` is read; the last entry came {ago} ago"));
                }
                Ok(None) => {
                    self.ok("source", format!("`{name}` is read; no entry has come since the daemon's start"))
                }
                Err(why) => self.wrong(
                    "source-failed",
                    format!("cannot read `{name}`: {why}"),
                    "follow that message; the daemon tries again by itself",
                ),
            }
        }
        running.iter().for_each(|server| self.running(server));
        if let Some(error) = metrics {
            self.doubtful(
                "metrics-failed",
                format!("the metrics are not served: {error}"),
                "free that address, or set another as `listen` in [metrics]; the daemon tries again by itself",
            );
        }
        for (name, delivered) in receivers {
            match delivered {
                Ok(0) => self.note(
                    "receiver-unused",
                    format!("no message has gone to `{name}` yet"),
                    &format!("`banstream notify {name}` sends a test"),
                ),
                Ok(delivered) => {
                    self.ok("receiver", format!("`{name}` has got {}", count(*delivered, "message")))
                }
                Err(why) => self.doubtful(
                    "receiver-failed",
                    format!("the receiver `{name}` does not get its messages: {why}"),
                    &format!("follow that message, then try it with `banstream notify {name}`"),
                ),
            }
        }
        for Visitor { address, exemption } in visitors {
            match exemption {
                Some(why) => self.ok("visitor", format!("{address}, from where somebody is logged in, is exempt: {why}")),
                None => self.doubtful(
                    "visitor-not-exempt",
                    format!("somebody is logged in from {address}, which is not exempt: mistakes there could lock you out"),
                    &format!("if it is yours, add it to `ignoreip`, or run `banstream allow {address}`"),
                ),
            }
        }
        match fleet {
            _ if !sources.is_empty() => {}
            Some(_) => self.note(
                "no-source",
                "the daemon reads no log: it only enforces bans of other hosts of the fleet".to_owned(),
                "nothing, if that is meant; otherwise enable [journald] or [socket]",
            ),
            None => {
                let what = "the daemon reads no log".to_owned();
                self.wrong("no-source", what, "enable [journald] or [socket]");
            }
        }
        let silent = sources.iter().filter_map(|(_, read)| *read.as_ref().ok()?).min();
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
        let PrivateBans { times, examples } = private_bans;
        if *times > 0 {
            let named: Vec<String> =
                examples.iter().map(|(address, jail)| format!("{address} ({jail})")).collect();
            let are = if *times == 1 { "bans a private address" } else { "ban private addresses" };
            let such = if *times > examples.len() as u64 { ", such as " } else { ": " };
            self.doubtful(
                "private-ban",
                format!(
                    "{} {are}, which may be a proxy for many clients{such}{}",
                    count(*times, "ban"),
                    named.join(", ")
                ),
                PROXY,
            );
        }
        fleet.iter().for_each(|fleet| self.fleet(fleet));
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
        if let Some(error) = ledger {
            self.wrong(
                "ledger-errors",
                format!("cannot use the ledger, so bans may not survive a reboot: {error}"),
                "check free space and permissions of `state-directory`, and the daemon's log",
            );
        } else if let Some(path) = damaged {
            self.doubtful(
                "ledger-replaced",
                format!("the ledger was damaged; the daemon renamed it to `{path}` and started a new one"),
                "check the disk (`dmesg`), and the list in `banstream bans`; then remove that file",
            );
        } else if samples.told("banstream_ledger_errors_total").is_some() {
            self.note(
                "ledger-recovered",
                "the ledger could not be read or written at times since the daemon's start; now it can"
                    .to_owned(),
                "nothing, if you know the cause; otherwise the daemon's log names it",
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

    fn running(&mut self, RunningServer { program, lines, silent, log }: &RunningServer) {
        match log {
            _ if *lines > 0 => {
                let ago = silent.map_or(String::new(), |silent| {
                    format!(", the last {} ago", Span::from_secs(silent))
                });
                self.ok("server", format!("`{program}` runs; lines of it were read: {lines}{ago}"));
            }
            ServerLog::Read => self.note(
                "server-silent",
                format!("`{program}` runs; no line of it has come since the daemon's start"),
                "nothing, if it had nothing to log; otherwise see where it logs (contrib/guide.md, `Install`)",
            ),
            ServerLog::Files => self.wrong(
                "server-unread",
                format!("`{program}` runs, but no line of it was read: its requests are logged to files"),
                "`banstream setup` shows how they can be read, and `banstream setup --write` lets rsyslog read them",
            ),
            ServerLog::Container => self.doubtful(
                "server-in-container",
                format!("`{program}` runs in a container, and no line of it was read"),
                &format!(
                    "if strangers reach it, let the engine log to the journal: `--log-driver journald --log-opt tag={program}`"
                ),
            ),
        }
    }

    pub(super) fn logs(&mut self, facts: &Facts) {
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
                    self.note("journald-rate-limit", what, fix);
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
