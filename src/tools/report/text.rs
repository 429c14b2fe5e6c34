//! A report for a terminal.

use super::{LineSum, Report, TimelineBucket};
use crate::tools::terminal::{HEAD, painted, table};

/// The longest bar, in characters: two of them, with their numbers, fit 80 columns.
const BAR: u64 = 20;

/// The report, for people; styled: printing removes the styles if there is no terminal.
pub fn text(report: &Report) -> String {
    let Report { host, since, until, .. } = report;
    let mut text = format!("banstream on {host} from {since} to {until} ({})\n", report.zone());
    if let Some(before) = &report.before {
        text += &format!("before: from {} to {since}\n", before.since);
    }
    text.push('\n');
    for (what, count, before) in report.rows() {
        let before = before.map_or(String::new(), |before| format!(" ({before} before)"));
        text += &format!("{count:>9}  {what}{before}\n");
    }
    if let Some(since) = &report.complete_since {
        text += &format!("\nbans before {since} are incomplete: the ledger is limited by `max-rows`\n");
    }
    text += &chart(report);
    let jails = report.jails.iter().map(|jail| {
        [jail.name.clone(), jail.bans.to_string(), jail.offenders.to_string(), jail.offences.to_string()]
    });
    text += &table(["JAIL", "BANS", "OFFENDERS", "OFFENCES"], jails);
    let rules =
        report.rules.iter().map(|rule| [rule.name(), rule.offence.clone(), rule.offences.to_string()]);
    text += &table(["RULE", "OFFENCE", "OFFENCES"], rules);
    let where_head =
        if report.countries.is_empty() && report.autonomous_systems.is_empty() { "" } else { "WHERE" };
    let offenders = report.offenders.iter().map(|offender| {
        let last = offender.banned.as_ref().map_or(String::new(), |(_, last)| last.to_string());
        [
            offender.address.to_string(),
            offender.bans.to_string(),
            offender.times.to_string(),
            offender.offences.to_string(),
            last,
            offender.jails(),
            offender.place.to_string(),
        ]
    });
    text += &table(
        ["OFFENDER", "BANS", "MOST OF A JAIL", "OFFENCES", "LAST BAN", "JAILS", where_head],
        offenders,
    );
    let countries = report.countries.iter();
    let countries = countries
        .map(|country| [country.country.clone(), country.offenders.to_string(), country.bans.to_string()]);
    text += &table(["COUNTRY", "OFFENDERS", "BANS"], countries);
    let systems = report.autonomous_systems.iter();
    let systems =
        systems.map(|system| [system.name(), system.offenders.to_string(), system.bans.to_string()]);
    text += &table(["NETWORK (AS)", "OFFENDERS", "BANS"], systems);
    let networks = report.networks.iter();
    let networks = networks.map(|network| {
        [network.network.to_string(), network.offenders.to_string(), network.bans.to_string()]
    });
    text += &table(["NETWORK (/24, /48)", "OFFENDERS", "BANS"], networks);
    let users = report.users.iter();
    let users = users.map(|user| [user.user.clone(), user.offences.to_string(), user.offenders.to_string()]);
    text += &section(&report.users_title(), &table(["USER", "OFFENCES", "OFFENDERS"], users));
    let lifted = report.lifted.iter().map(|ban| {
        [ban.address.to_string(), ban.jail.to_string(), ban.since.to_string(), ban.lifted.to_string()]
    });
    text += &table(["LIFTED", "JAIL", "BANNED", "LIFTED"], lifted);
    let allowed = report
        .allowed
        .iter()
        .map(|allowed| [allowed.address.to_string(), report.end(allowed), allowed.comment.clone()]);
    text += &table(["ALLOWED", "UNTIL", "COMMENT"], allowed);
    let lines = report.offenders.iter().flat_map(|offender| {
        let row = |LineSum { time, message, .. }: &LineSum| {
            [offender.address.to_string(), time.to_string(), message.clone()]
        };
        offender.lines.iter().map(row)
    });
    text + &table(["EVIDENCE", "TIME", "LINE"], lines)
}

/// Two bars for each step, and what they show.
fn chart(report: &Report) -> String {
    let Report { timeline, step, .. } = report;
    let most = |count: fn(&TimelineBucket) -> u64| timeline.iter().map(count).max().unwrap_or(0).max(1);
    let (bans, offences) = (most(|step| step.bans), most(|step| step.offences));
    let bar = |count: u64, most: u64| "█".repeat(usize::try_from((count * BAR).div_ceil(most)).unwrap_or(0));
    let steps = timeline.iter().map(|step| {
        let bars = [bar(step.bans, bans), bar(step.offences, offences)];
        let ([bans, offences], [b, o]) = ([step.bans, step.offences].map(|count| count.to_string()), bars);
        [step.label.clone(), bans, b, offences, o]
    });
    let table = table([&step.to_uppercase(), "BANS", "", "OFFENCES", ""], steps);
    section(&format!("Bans and offences, by the {step}"), &table)
}

/// A table with a heading; nothing if the table has no rows.
fn section(title: &str, table: &str) -> String {
    if table.is_empty() { String::new() } else { format!("\n{}\n{table}", painted(HEAD, title)) }
}
