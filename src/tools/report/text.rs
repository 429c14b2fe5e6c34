//! A report for a terminal.

use super::{LineSum, Report, TimelineBucket};
use crate::tools::terminal::table;

/// The longest bar, in characters.
const BAR: u64 = 40;

/// The report, for people; styled: printing removes the styles if there is no terminal.
pub fn text(report: &Report) -> String {
    let Report { host, since, until, totals, .. } = report;
    let mut text = format!("banstream on {host} from {since} to {until} ({})\n\n", report.zone());
    for (what, count) in totals.rows() {
        text += &format!("{count:>9}  {what}\n");
    }
    if let Some(since) = &report.complete_since {
        text += &format!("\nbans before {since} are incomplete: the ledger is limited by `max-rows`\n");
    }
    let most = report.timeline.iter().map(|step| step.bans).max().unwrap_or(0).max(1);
    let steps = report.timeline.iter().map(|TimelineBucket { label, bans, offences, .. }| {
        let bar = "█".repeat(usize::try_from((bans * BAR).div_ceil(most)).unwrap_or(0));
        [label.clone(), bans.to_string(), offences.to_string(), bar]
    });
    text += &table([&report.step.to_uppercase(), "BANS", "OFFENCES", ""], steps);
    let jails = report.jails.iter().map(|jail| {
        [jail.name.clone(), jail.bans.to_string(), jail.offenders.to_string(), jail.offences.to_string()]
    });
    text += &table(["JAIL", "BANS", "OFFENDERS", "OFFENCES"], jails);
    let rules =
        report.rules.iter().map(|rule| [rule.name(), rule.offence.clone(), rule.offences.to_string()]);
    text += &table(["RULE", "OFFENCE", "OFFENCES"], rules);
    let offenders = report.offenders.iter().map(|offender| {
        let last = offender.banned.as_ref().map_or(String::new(), |(_, last)| last.to_string());
        [
            offender.address.to_string(),
            offender.bans.to_string(),
            offender.times.to_string(),
            offender.offences.to_string(),
            last,
            offender.jails(),
        ]
    });
    text += &table(["OFFENDER", "BANS", "MOST OF A JAIL", "OFFENCES", "LAST BAN", "JAILS"], offenders);
    let networks = report.networks.iter();
    let networks = networks.map(|network| {
        [network.network.to_string(), network.offenders.to_string(), network.bans.to_string()]
    });
    text += &table(["NETWORK", "OFFENDERS", "BANS"], networks);
    let lifted = report.lifted.iter().map(|ban| {
        [ban.address.to_string(), ban.jail.to_string(), ban.since.to_string(), ban.lifted.to_string()]
    });
    text += &table(["LIFTED", "JAIL", "BANNED", "LIFTED"], lifted);
    let allowed = report.allowed.iter().map(|allowed| {
        let until = allowed.until.clone().unwrap_or_else(|| "forever".to_owned());
        [allowed.address.to_string(), until, allowed.comment.clone()]
    });
    text += &table(["ALLOWED", "UNTIL", "COMMENT"], allowed);
    let lines = report.offenders.iter().flat_map(|offender| {
        let row = |LineSum { time, message, .. }: &LineSum| {
            [offender.address.to_string(), time.to_string(), message.clone()]
        };
        offender.lines.iter().map(row)
    });
    text + &table(["EVIDENCE", "TIME", "LINE"], lines)
}
