//! `banstream log`: what the daemon did, from the journal.
//!
//! The daemon logs there with fields, and `journalctl` knows how to find, follow and page them; so this becomes `journalctl`
//! with the right matches. Which unit an entry comes from journald attests, so no other program can add lines. What to match is
//! pure. Where journalctl would show nothing, it is said where the daemon logs instead.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command as Process, Stdio};

use anyhow::{Context, anyhow, bail};
use clap::Args;
use nix::unistd::geteuid;

use super::{When, jail};
use crate::control::client;
use crate::model::{Offender, Timestamp, plain};
use crate::tools::offline::warn;

/// What to show of the daemon's log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct LogArgs {
    /// Only what is about this address or prefix, and about prefixes around it
    #[arg(value_name = "ADDR|CIDR")]
    pub address: Option<Offender>,
    /// Go on with what the daemon logs from now on, until Ctrl-C
    #[arg(short, long)]
    pub follow: bool,
    /// Only what this jail did
    #[arg(long, value_name = "NAME", value_parser = jail)]
    pub jail: Option<String>,
    /// The beginning: a time ago, such as 12h or 7d, or a date such as 2026-11-01 or '2026-11-01 12:00'
    #[arg(long, value_name = "TIME", value_parser = When::parse)]
    pub since: Option<When>,
    /// Only the last lines, this many [default: 50, or all with --since]
    #[arg(short = 'n', long, value_name = "NUMBER")]
    pub lines: Option<u32>,
    /// Print the entries as JSON, as `journalctl -o json` does
    #[arg(long)]
    pub json: bool,
}

/// The daemon's unit.
const UNIT: &str = "banstream.service";
/// Where journalctl is: in Debian, Fedora, Arch and so on, before they had one /usr, and in NixOS. `$PATH` is not asked,
/// since root runs this.
const JOURNALCTL: [&str; 3] =
    ["/usr/bin/journalctl", "/bin/journalctl", "/run/current-system/sw/bin/journalctl"];
/// How many lines where nobody says it.
const LINES: u32 = 50;

/// Where the daemon that runs logs to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum DaemonLog {
    /// No daemon runs, or it cannot be seen where it logs to.
    Unknown,
    /// To the journal, as this unit.
    Journal(String),
    /// To what its stderr is: the process, and what that is.
    Stderr(i32, String),
}

impl DaemonLog {
    /// That of the daemon that listens at `socket`.
    fn look(socket: &Path) -> Self {
        let Some(process) = client::process(socket) else { return Self::Unknown };
        let Ok(stderr) = std::fs::read_link(format!("/proc/{process}/fd/2")) else { return Self::Unknown };
        let stderr = plain(stderr.as_os_str().as_encoded_bytes());
        // The journal gives a service a socket for it.
        if !stderr.starts_with("socket:") {
            return Self::Stderr(process, stderr);
        }
        let groups = std::fs::read_to_string(format!("/proc/{process}/cgroup")).unwrap_or_default();
        let unit =
            groups.lines().filter_map(|line| line.rsplit('/').next()).find(|name| name.ends_with(".service"));
        unit.map_or(Self::Unknown, |unit| Self::Journal(plain(unit)))
    }

    /// What to know of it before lines of the unit are shown, or where there are none.
    fn note(&self) -> Option<String> {
        match self {
            Self::Stderr(process, stderr) => Some(format!(
                "the daemon that runs (process {process}) logs to `{stderr}`, not to the journal"
            )),
            Self::Journal(unit) if unit != UNIT => {
                Some(format!("the daemon that runs is `{unit}`; see `journalctl -u {unit}`"))
            }
            Self::Journal(_) | Self::Unknown => None,
        }
    }
}

/// Why nothing can be shown, if the journal has no line of the unit that we may read.
fn nothing(log: &DaemonLog, follow: bool, is_root: bool) -> Option<String> {
    let is_unit = *log == DaemonLog::Journal(UNIT.to_owned());
    // The first line is still to come.
    if follow && is_unit {
        return None;
    }
    let none = format!("the journal has no line of `{UNIT}`");
    Some(match log.note() {
        Some(note) => format!("{none}: {note}"),
        None if !is_root => format!(
            "{none} that you may read; try as root, or as a member of the group `systemd-journal` or `adm`"
        ),
        None if is_unit => {
            format!("{none}, though it runs; does journald keep lines? See `Storage` in journald.conf(5)")
        }
        None => format!("{none}; is the daemon running? `systemctl status banstream` tells"),
    })
}

/// Becomes `journalctl`; only an error comes back.
///
/// # Errors
///
/// There is no `journalctl`, it cannot be run, or there is nothing that it could show.
pub fn log(args: &LogArgs, now: Timestamp) -> anyhow::Result<()> {
    let program = JOURNALCTL.into_iter().find(|path| Path::new(path).exists()).ok_or_else(|| {
        anyhow!(
            "no `journalctl` here: without journald the daemon logs to stderr. See what started it for where that goes: \
             OpenRC keeps it if the service sets `error_log` or `error_logger`, a container engine shows it by its own `logs`"
        )
    })?;
    let cannot = || format!("cannot run `{program}`");
    let log = DaemonLog::look(&client::socket());
    let any = ["--quiet", "--output=cat", "--lines=1", "--unit", UNIT];
    let any = Process::new(program).args(any).stderr(Stdio::null()).output().with_context(cannot)?;
    if !any.stdout.is_empty() {
        log.note().into_iter().for_each(|note| warn(format_args!("warning: {note}")));
    } else if let Some(why) = nothing(&log, args.follow, geteuid().is_root()) {
        bail!(why);
    }
    let error = Process::new(program).args(words(args, now)).exec();
    Err(error).with_context(cannot)
}

/// The arguments of `journalctl`.
fn words(args: &LogArgs, now: Timestamp) -> Vec<String> {
    let LogArgs { address, follow, jail, since, lines, json } = args;
    let mut words = vec![format!("--unit={UNIT}"), "--no-hostname".to_owned()];
    words.extend(follow.then(|| "--follow".to_owned()));
    words.extend(json.then(|| "--output=json".to_owned()));
    // `@` and seconds is the one form that does not depend on a time zone.
    words.extend(since.map(|since| format!("--since=@{}", since.instant(now).as_secs())));
    let lines =
        lines.or(since.is_none().then_some(LINES)).map_or("all".to_owned(), |lines| lines.to_string());
    words.push(format!("--lines={lines}"));
    words.extend(jail.iter().map(|jail| format!("BANSTREAM_JAIL={jail}")));
    // A field that is matched more than once may have any of the values.
    let around = address
        .iter()
        .flat_map(|who| (1..=who.prefix()).rev().filter_map(|bits| Offender::new(who.address(), bits)));
    words.extend(around.map(|prefix| format!("BANSTREAM_ADDRESS={prefix}")));
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Span;

    #[test]
    fn where_nothing_can_be_shown_it_is_said_where_the_log_is() {
        #[track_caller]
        fn check(log: DaemonLog, follow: bool, is_root: bool, want: &str) {
            assert_eq!(nothing(&log, follow, is_root).unwrap_or_default(), want);
        }
        let file = || DaemonLog::Stderr(7, "/tmp/log".to_owned());
        let unit = |name: &str| DaemonLog::Journal(name.to_owned());
        let want = "the journal has no line of `banstream.service`: the daemon that runs (process 7) logs to `/tmp/log`, \
                    not to the journal";
        for follow in [false, true] {
            check(file(), follow, true, want);
            check(file(), follow, false, want);
        }
        let want = "the journal has no line of `banstream.service`: the daemon that runs is `x.service`; see \
                    `journalctl -u x.service`";
        check(unit("x.service"), true, true, want);
        let want = "the journal has no line of `banstream.service`; is the daemon running? `systemctl status banstream` tells";
        check(DaemonLog::Unknown, true, true, want);
        check(unit(UNIT), true, true, "");
        let want = "the journal has no line of `banstream.service`, though it runs; does journald keep lines? See `Storage` in \
                    journald.conf(5)";
        check(unit(UNIT), false, true, want);
        let want = "the journal has no line of `banstream.service` that you may read; try as root, or as a member of the \
                    group `systemd-journal` or `adm`";
        check(DaemonLog::Unknown, false, false, want);
        assert_eq!(unit(UNIT).note().or(DaemonLog::Unknown.note()), None);
    }

    #[track_caller]
    fn check(args: LogArgs, want: &str) {
        assert_eq!(words(&args, Timestamp::from_secs(1_000_000)).join(" "), want);
    }

    #[test]
    fn journalctl_is_asked_for_what_is_wanted() {
        let all = LogArgs::default;
        let (unit, hour) = ("--unit=banstream.service --no-hostname", When::Ago(Span::from_secs(3600)));
        check(all(), &format!("{unit} --lines=50"));
        check(LogArgs { follow: true, lines: Some(0), ..all() }, &format!("{unit} --follow --lines=0"));
        check(LogArgs { since: Some(hour), ..all() }, &format!("{unit} --since=@996400 --lines=all"));
        let args =
            LogArgs { since: Some(hour), lines: Some(9), json: true, jail: Some("sshd".to_owned()), ..all() };
        check(args, &format!("{unit} --output=json --since=@996400 --lines=9 BANSTREAM_JAIL=sshd"));
        let args = LogArgs { address: Some("192.0.0.0/3".parse().unwrap()), ..all() };
        let want =
            "BANSTREAM_ADDRESS=192.0.0.0/3 BANSTREAM_ADDRESS=192.0.0.0/2 BANSTREAM_ADDRESS=128.0.0.0/1";
        check(args, &format!("{unit} --lines=50 {want}"));
        let of = |who: &str| {
            words(&LogArgs { address: Some(who.parse().unwrap()), ..all() }, Timestamp::from_secs(0))
        };
        assert_eq!(of("192.0.2.1").get(3).unwrap(), "BANSTREAM_ADDRESS=192.0.2.1");
        assert!(of("2001:db8::1").contains(&"BANSTREAM_ADDRESS=2001:db8::/64".to_owned()));
    }
}
