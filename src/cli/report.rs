//! Makes a report from the ledger, and prints it.

use std::io::ErrorKind;
use std::path::Path;

use anyhow::Context;
use jiff::tz::TimeZone;

use super::answer::print;
use super::geoip;
use crate::config;
use crate::config::load::load;
use crate::control::client;
use crate::model::{Span, Timestamp};
use crate::store::{self, History};
use crate::tools::offline::warn;
use crate::tools::report::{self, Report};

/// A moment as an operator says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// So long ago.
    Ago(Span),
    /// At that time.
    At(Timestamp),
}

impl When {
    /// Reads a time such as `7d`, or a date such as `2026-11-01` or `2026-11-01 12:00` in the zone of this host.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        if let Some(span) = config::parse_span(text) {
            return Ok(Self::Ago(span));
        }
        let instant = text.parse::<jiff::Timestamp>().or_else(|_| {
            let date: jiff::civil::DateTime = text.parse()?;
            date.to_zoned_datetime(TimeZone::system()).map(|zoned| zoned.timestamp())
        });
        instant.map(|instant| Self::At(Timestamp::from_micros(instant.as_microsecond()))).map_err(
            |_| "write a time such as `7d` or `12h`, or a date such as `2026-11-01` or `2026-11-01 12:00`",
        )
    }

    /// When that is, where it is `now`.
    pub fn instant(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Ago(span) => now - span,
            Self::At(at) => at,
        }
    }
}

/// Why the ledger in this directory cannot be opened, and what to do, if the directory says so.
fn hint(directory: &Path) -> Option<String> {
    let opened = std::fs::File::open(directory.join(store::FILE)).map(drop);
    match opened.err()?.kind() {
        ErrorKind::PermissionDenied => {
            let group = directory.metadata().ok().and_then(|about| client::group_of(&about));
            let member = group.map_or(String::new(), |group| format!(" or a member of the group `{group}`"));
            Some(format!("no permission; run it as root{member}"))
        }
        ErrorKind::NotFound => {
            Some("there is none: has a daemon run with this `state-directory`?".to_owned())
        }
        _ => None,
    }
}

/// How a report is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportFormat {
    /// For a terminal.
    Text,
    /// For programs.
    Json,
    /// As one page for a browser.
    Html,
}

/// How many lines of each offender are shown.
const LINES: u32 = 3;
/// In how many lines user names are looked for, at the most: the grammars read that many in well under a second.
const SAMPLE: u32 = 20_000;

/// Prints the report of what happened between two moments, by the ledger of the daemon with this configuration.
///
/// # Errors
///
/// The configuration or the ledger cannot be read, or the report cannot be written.
pub fn report(
    config: Option<&Path>,
    since: When,
    until: When,
    format: ReportFormat,
    now: Timestamp,
) -> anyhow::Result<()> {
    let loaded = load(config)?;
    let config = loaded.config;
    let (from, to) = (since.instant(now), until.instant(now));
    anyhow::ensure!(from < to, "`--since` must be before `--until`");
    let kept = now - config.ledger.keep;
    if from < kept {
        let kept = config.ledger.keep;
        warn(format_args!("the ledger keeps only {kept} (`[ledger] keep`), so the report begins then"));
    }
    let from = from.max(kept);
    let place = config.state_directory.display();
    let history = History::open(&config.state_directory).with_context(|| {
        let hint = hint(&config.state_directory).map_or(String::new(), |hint| format!(" ({hint})"));
        format!("cannot read the ledger in `{place}`{hint}")
    })?;
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let (rows, zone) = (history.rows(from, to)?, TimeZone::system());
    let mut geoip = geoip::open(&config.geoip);
    let mut report = Report::new(host.trim(), (from, to), &rows, &zone, |who| geoip.find(who));
    geoip::warn_of(&mut geoip);
    let before = from - to.since(from);
    if before >= kept && history.reaches(before)? {
        report.add_before((before, from), history.rows(before, from)?, &zone);
    }
    report.add_users(&history.sample(from, to, SAMPLE)?, &loaded.grammars);
    report.add_lines(&zone, |offender| history.lines(offender, from, to, LINES))?;
    print(&match format {
        ReportFormat::Text => report::text(&report),
        ReportFormat::Json => format!("{}\n", serde_json::to_string(&report)?),
        ReportFormat::Html => report::html(&report),
    })
}
