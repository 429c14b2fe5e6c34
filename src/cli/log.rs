//! `banstream log`: what the daemon did, from the journal.
//!
//! The daemon logs there with fields, and `journalctl` knows how to find, follow and page them; so this becomes `journalctl`
//! with the right matches. Which unit an entry comes from journald attests, so no other program can add lines. What to match is
//! pure.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command as Process;

use anyhow::{Context, anyhow};
use clap::Args;

use super::{When, jail};
use crate::model::{Offender, Timestamp};

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

/// Becomes `journalctl`; only an error comes back.
///
/// # Errors
///
/// There is no `journalctl`, or it cannot be run.
pub fn log(args: &LogArgs, now: Timestamp) -> anyhow::Result<()> {
    let program = JOURNALCTL.into_iter().find(|path| Path::new(path).exists()).ok_or_else(|| {
        anyhow!(
            "no `journalctl` here: without journald the daemon logs to stderr. See what started it for where that goes: \
             OpenRC keeps it if the service sets `error_log` or `error_logger`, a container engine shows it by its own `logs`"
        )
    })?;
    let error = Process::new(program).args(words(args, now)).exec();
    Err(error).with_context(|| format!("cannot run `{program}`"))
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
