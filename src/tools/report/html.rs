//! A report as one page for a browser: no script, nothing from elsewhere, charts included.
//!
//! All text goes through the template engine, which escapes it, and the page itself forbids scripts, so a stranger's
//! line is inert twice.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{OffenderSum, Report, TimelineBucket};
use crate::tools::geoip::GeoRecord;

const STYLE: &str = include_str!("report.css");
/// What the page may load or run: its own style.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// Sections that take the whole width; of the others two stand beside each other.
const WIDE: [&str; 4] = ["bans", "offences", "offenders", "evidence"];

/// The report as a page.
pub fn html(report: &Report) -> String {
    let Report { host, since, until, step, timeline, offenders, .. } = report;
    let title = format!("banstream on {host}");
    let (by_bans, by_offences) = (format!("Bans, by the {step}"), format!("Offences, by the {step}"));
    let sections: [(&str, &str, Markup); 12] = [
        ("bans", "Bans", chart("bans", &by_bans, timeline, |step| step.bans)),
        ("offences", "Offences", chart("offences", &by_offences, timeline, |step| step.offences)),
        ("offenders", "Offenders", offenders_table(offenders)),
        (
            "countries",
            "Countries",
            sums(
                "Countries",
                ["Country", "Offenders", "Bans"],
                report.countries.iter().map(|sum| (sum.country.clone(), [sum.offenders, sum.bans])),
            ),
        ),
        (
            "as",
            "Networks (AS)",
            sums(
                "Networks (AS)",
                ["Network", "Offenders", "Bans"],
                report.autonomous_systems.iter().map(|sum| (sum.name(), [sum.offenders, sum.bans])),
            ),
        ),
        (
            "networks",
            "Networks (/24, /48)",
            sums(
                "Networks (/24, /48)",
                ["Network", "Offenders", "Bans"],
                report.networks.iter().map(|sum| (sum.network.to_string(), [sum.offenders, sum.bans])),
            ),
        ),
        (
            "users",
            "User names",
            sums(
                &report.users_title(),
                ["User name", "Offences", "Offenders"],
                report.users.iter().map(|sum| (sum.user.clone(), [sum.offences, sum.offenders])),
            ),
        ),
        (
            "jails",
            "Jails",
            sums(
                "Jails",
                ["Jail", "Bans", "Offenders", "Offences"],
                report
                    .jails
                    .iter()
                    .map(|jail| (jail.name.clone(), [jail.bans, jail.offenders, jail.offences])),
            ),
        ),
        (
            "rules",
            "Rules",
            sums(
                "Rules",
                ["Rule", "Offences"],
                report
                    .rules
                    .iter()
                    .map(|rule| (format!("{} {}", rule.name(), rule.offence), [rule.offences])),
            ),
        ),
        (
            "lifted",
            "Lifted early",
            listing(
                "Lifted early",
                ["Address", "Jail", "Lifted"],
                report
                    .lifted
                    .iter()
                    .map(|ban| [ban.address.to_string(), ban.jail.to_string(), ban.lifted.to_string()]),
            ),
        ),
        (
            "allowed",
            "Allowed",
            listing(
                "Allowed",
                ["Address", "Until", "Comment"],
                report.allowed.iter().map(|allowed| {
                    [allowed.address.to_string(), report.end(allowed), allowed.comment.clone()]
                }),
            ),
        ),
        ("evidence", "Evidence", evidence(offenders)),
    ];
    let sections = || sections.iter().filter(|(_, _, section)| !section.0.is_empty());
    // One that would stand alone takes the whole width, too.
    let halves = || sections().map(|(id, ..)| *id).filter(|id| !WIDE.contains(id));
    let alone = halves().next_back().filter(|_| halves().count() % 2 == 1);
    let is_wide = |id: &str| WIDE.contains(&id) || alone == Some(id);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) ", " (since) " to " (until) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { (title) }
                    p { time { (since) } " to " time { (until) } " (" (report.zone()) ")" }
                    @if let Some(before) = &report.before {
                        p { "Compared with " time { (before.since) } " to " time { (since) } }
                    }
                    @if let Some(since) = &report.complete_since {
                        p { "Bans before " (since) " are incomplete: the ledger is limited by " code { "max-rows" } "." }
                    }
                }
                main {
                    dl.totals {
                        @for (what, count, before) in report.rows() {
                            div {
                                dt { (what) }
                                dd { (grouped(count)) @if let Some(before) = before { small { " " (grouped(before)) " before" } } }
                            }
                        }
                    }
                    nav { @for (id, name, _) in sections() { a href=(format!("#{id}")) { (name) } " " } }
                    div.sections { @for (id, _, section) in sections() { div id=(id) class=[is_wide(id).then_some("all")] { (section) } } }
                }
            }
        }
    };
    page.into_string()
}

/// A bar for each step. Hovering tells its number, and all numbers stand below for who sees no bars.
fn chart(id: &str, title: &str, steps: &[TimelineBucket], count: fn(&TimelineBucket) -> u64) -> Markup {
    let greatest = steps.iter().max_by_key(|step| count(step)).filter(|step| count(step) > 0);
    let top = ceiling(greatest.map_or(0, count));
    let summary = greatest.map_or("There were none.".to_owned(), |step| {
        format!("Peak: {}, {}.", grouped(count(step)), step.label)
    });
    let width = steps.len().max(1);
    // The first, one in the middle, the last: as many as have room on a phone.
    let mut marks = vec![0, (width - 1) / 2, width - 1];
    marks.dedup();
    html! {
        figure class=(id) {
            figcaption { h2 { (title) } }
            div.plot {
                div.y aria-hidden="true" { span { (grouped(top)) } span { (grouped(top / 2)) } span { "0" } }
                svg viewBox=(format!("0 0 {width} 100")) preserveAspectRatio="none" role="img"
                    aria-labelledby=(format!("{id}-title {id}-desc")) {
                    title id=(format!("{id}-title")) { (title) }
                    desc id=(format!("{id}-desc")) { (summary) }
                    @for y in ["0", "50", "100"] { line x1="0" x2=(width) y1=(y) y2=(y) {} }
                    @for (x, step) in steps.iter().enumerate().filter(|(_, step)| count(step) > 0) {
                        @let height = 100.0 * count(step) as f64 / top as f64;
                        rect x=(format!("{x}.1")) width="0.8" y=(format!("{:.2}", 100.0 - height)) height=(format!("{height:.2}")) {
                            title { (step.label) ": " (grouped(count(step))) }
                        }
                    }
                }
                div.x aria-hidden="true" { @for step in marks.iter().filter_map(|n| steps.get(*n)) { span { (step.label) } } }
            }
            p { (summary) }
            details {
                summary { "Numbers" }
                table { tbody { @for step in steps { tr { th scope="row" { (step.label) } td.n { (grouped(count(step))) } } } } }
            }
        }
    }
}

fn offenders_table(offenders: &[OffenderSum]) -> Markup {
    let most = offenders.iter().map(|offender| offender.bans).max().unwrap_or(0);
    html! {
        @if !offenders.is_empty() {
            section {
                h2 { "Offenders" }
                div.wide { table {
                    thead { tr {
                        th scope="col" { "Address" }
                        th.n scope="col" { "Bans" }
                        th.n.less scope="col" { "Most of a jail" }
                        th.n scope="col" { "Offences" }
                        th.less scope="col" { "Jails" }
                        th.less scope="col" { "Last ban" }
                    } }
                    tbody { @for (n, offender) in offenders.iter().enumerate() {
                        tr id=(format!("offender-{n}")) {
                            th scope="row" style=(part(offender.bans, most)) {
                                @if offender.lines.is_empty() { (offender.address) }
                                @else { a href=(format!("#evidence-{n}")) { (offender.address) } }
                                @if offender.place != GeoRecord::default() { small { (offender.place) } }
                            }
                            td.n { (grouped(offender.bans)) }
                            td.n.less { (offender.times) }
                            td.n { (grouped(offender.offences)) }
                            td.less { (offender.jails()) }
                            td.less { @if let Some((_, last)) = &offender.banned { time { (last) } } }
                        }
                    } }
                } }
            }
        }
    }
}

/// The lines on file of each offender.
fn evidence(offenders: &[OffenderSum]) -> Markup {
    let shown = || offenders.iter().enumerate().filter(|(_, offender)| !offender.lines.is_empty());
    html! {
        @if shown().next().is_some() {
            section {
                h2 { "Evidence" }
                @for (n, offender) in shown() {
                    div.evidence id=(format!("evidence-{n}")) {
                        h3 { a href=(format!("#offender-{n}")) { (offender.address) } }
                        @for line in &offender.lines { code { (line.time) " " (line.grammar) ": " (line.message) } }
                    }
                }
            }
        }
    }
}

/// A table of names with their numbers; the bar behind a name is its part of the first.
fn sums<const N: usize, const M: usize>(
    title: &str,
    head: [&str; N],
    rows: impl Iterator<Item = (String, [u64; M])> + Clone,
) -> Markup {
    let most = rows.clone().filter_map(|(_, numbers)| numbers.first().copied()).max().unwrap_or(0);
    html! {
        @if rows.clone().next().is_some() {
            section {
                h2 { (title) }
                div.wide { table {
                    thead { tr { @for (n, name) in head.iter().enumerate() { th scope="col" class=[(n > 0).then_some("n")] { (name) } } } }
                    tbody { @for (name, numbers) in rows {
                        tr {
                            th scope="row" style=(part(numbers.first().copied().unwrap_or(0), most)) { (name) }
                            @for number in numbers { td.n { (grouped(number)) } }
                        }
                    } }
                } }
            }
        }
    }
}

fn listing<const N: usize>(
    title: &str,
    head: [&str; N],
    rows: impl Iterator<Item = [String; N]> + Clone,
) -> Markup {
    html! {
        @if rows.clone().next().is_some() {
            section {
                h2 { (title) }
                div.wide { table {
                    thead { tr { @for name in head { th scope="col" { (name) } } } }
                    tbody { @for row in rows { tr { @for cell in row { td { (cell) } } } } }
                } }
            }
        }
    }
}

/// The width of a bar.
fn part(number: u64, of: u64) -> String {
    format!("--part:{}%", number.saturating_mul(100).checked_div(of).unwrap_or(0))
}

/// The end of an axis that reaches `number`: a round number whose half is a whole one.
fn ceiling(number: u64) -> u64 {
    let tens = std::iter::successors(Some(10_u64), |ten| ten.checked_mul(10));
    let round =
        tens.flat_map(|ten| [10, 12, 16, 20, 30, 40, 60, 80].map(|part| (ten / 10).saturating_mul(part)));
    [2, 4, 6, 8].into_iter().chain(round).find(|end| *end >= number).unwrap_or(u64::MAX)
}

/// A number in groups of three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&[u8]> = digits.as_bytes().rchunks(3).rev().collect();
    String::from_utf8_lossy(&groups.join(&b"\xe2\x80\xaf"[..])).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_ends_where_its_half_is_whole() {
        let ends = [0, 1, 2, 3, 7, 9, 11, 21, 41, 119, 1000, u64::MAX].map(ceiling);
        assert_eq!(ends, [2, 2, 2, 4, 8, 10, 12, 30, 60, 120, 1000, u64::MAX]);
    }

    #[test]
    fn a_number_is_read_by_thousands() {
        assert_eq!([7, 1000, 1_234_567].map(grouped), ["7", "1\u{202f}000", "1\u{202f}234\u{202f}567"]);
    }
}
