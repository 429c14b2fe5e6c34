//! The pages as HTML. All text goes through the template engine, which escapes it; what strangers wrote also through
//! [`plain`], so that it cannot change how text beside it is shown.

use std::collections::BTreeMap;

use indicatif::HumanCount;
use maud::{DOCTYPE, Markup, html};
use serde::Serialize;

use super::feed::FeedEvent;
use super::places::Located;
use super::{BansForm, MOST, Site};
use crate::cli::{self, JAIL_COLUMNS, changes, jail_cells, short};
use crate::control::{AllowLine, BanFilter, BanLine, BanSort, ChangeReport, SoleClient, Status};
use crate::model::{Offender, count, plain};
use crate::tools::terminal::{local, with_local_times, zone};

/// How many characters of a reason a list shows.
const BRIEF: usize = 160;

/// A page around its content.
pub(super) fn page(site: &Site, title: &str, body: &Markup) -> Markup {
    let links = [("./", "Overview"), ("bans", "Bans in force"), ("exempt", "Exemptions")];
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) " - banstream on " (site.host) }
                link rel="stylesheet" href="page.css";
                script src="page.js" defer {}
            }
            body {
                a.skip href="#main" { "Skip to the content" }
                header {
                    p.name { b { "banstream" } " on " (site.host) }
                    nav aria-label="Pages" { @for (link, name) in links { a href=(link) aria-current=[(name == title).then_some("page")] { (name) } } }
                    form role="search" action="bans" {
                        label for="q" { "Address, prefix or jail" }
                        input type="search" id="q" name="q" maxlength="100" autocomplete="off";
                        button { "Search" }
                    }
                }
                main id="main" tabindex="-1" { h1 { (title) } (body) }
                footer {
                    p {
                        "Times are those of this host (" (zone(jiff::Timestamp::now())) "). "
                        @if site.allow_changes { "This page can change bans and exemptions." }
                        @else { "This page is read-only; " code { "banstream web --allow-changes" } " is not." }
                    }
                }
            }
        }
    }
}

pub(super) fn error(error: &str) -> Markup {
    html! { p.bad role="alert" { (plain(with_local_times(error))) } }
}

/// The beginning of a text, for people; the page about an address has all of it.
pub(super) fn brief(text: &str) -> String {
    let text = plain(text);
    match text.char_indices().nth(BRIEF) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// How it is, in a colour.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mood {
    Good,
    Warn,
    #[default]
    Bad,
}

impl Mood {
    fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warn => "warn",
            Self::Bad => "bad",
        }
    }
}

/// What of the first page changes while it is open: texts by the ids of their elements.
pub(super) fn texts(status: &Status) -> (Mood, BTreeMap<String, String>) {
    let enforcement = &status.enforcement;
    let (mood, state) = match enforcement.mode.as_str() {
        _ if enforcement.error.is_some() || enforcement.pending > 0 => (Mood::Bad, "not enforced"),
        "none" => (Mood::Warn, "decides only: no ban is enforced"),
        _ => (Mood::Good, "enforced"),
    };
    let state = match status.observed {
        0 => state.to_owned(),
        observed => format!("{state}; {} only observed", count(observed, "ban")),
    };
    let mut texts: BTreeMap<String, String> =
        TOTALS.map(|(id, _, of)| (id.to_owned(), HumanCount(of(status)).to_string())).into();
    texts.insert("state".to_owned(), state);
    for jail in &status.jails {
        let [name, _, tracked, banned, last, _] = jail_cells(status, jail).map(plain);
        for (what, text) in [("tracked", tracked), ("banned", banned), ("last", last)] {
            texts.insert(format!("{name}-{what}"), text);
        }
    }
    (mood, texts)
}

type Total = (&'static str, &'static str, fn(&Status) -> u64);
const TOTALS: [Total; 4] = [
    ("banned", "In force", |status| status.banned),
    ("bans", "Bans", |status| status.bans),
    ("offences", "Offences", |status| status.offences),
    ("entries", "Entries", |status| status.entries),
];

/// What is not as it should be, the worst first.
pub(super) fn alarms(status: &Status, located: &Located) -> Vec<String> {
    let duplicates = status.duplicates.iter().map(|duplicate| format!("{duplicate}; leave one out"));
    let proxies = status.sole_clients.iter().map(|SoleClient { grammar, address }| {
        format!("nearly all requests of {grammar} come from {address}, probably a proxy")
    });
    let faults = located.faults.iter().cloned();
    cli::alarms(status).into_iter().chain(duplicates).chain(proxies).chain(faults).map(plain).collect()
}

pub(super) fn overview(site: &Site, status: &Status, latest: &[BanLine], located: &Located) -> Markup {
    let (mood, texts) = texts(status);
    let text = |id: &str| texts.get(id).map_or("", String::as_str);
    let backend = status.enforcement.backend.as_ref().map(|name| format!(", bans go to {}", plain(name)));
    let jails = status.jails.iter().map(|jail| jail_cells(status, jail).map(plain));
    html! {
        p role="status" {
            strong id="state" class=(mood.name()) { (text("state")) }
            " " span.dim { "up " (short(status.uptime)) (backend.unwrap_or_default()) }
        }
        ul id="alarms" role="alert" { @for alarm in alarms(status, located) { li { (alarm) } } }
        dl.totals { @for (id, name, _) in TOTALS { div { dt { (name) } dd id=(id) { (text(id)) } } } }
        p.dim { "Bans, offences and entries are counted since the daemon's start." }
        section {
            h2 { "Latest" }
            p.dim id="live" { "The latest bans. Reload the page to see newer ones." }
            ol.feed id="feed" { @for (n, ban) in latest.iter().enumerate() {
                (event(&FeedEvent::begun(ban).at(located.places.get(n))))
            } }
            template id="event" { (event(&FeedEvent::default())) }
            p { a href="bans" { "All bans in force" } }
        }
        section {
            h2 { "Jails" }
            table {
                thead { tr { @for name in JAIL_COLUMNS { th scope="col" { (heading(name)) } } } }
                tbody { @for [name, wants, tracked, banned, last, mode] in jails {
                    tr {
                        th scope="row" { a href={ "bans?jail=" (name) } { (name) } }
                        td data-label="Bans after" { (wants) }
                        td data-label="Tracked" id={ (name) "-tracked" } { (tracked) }
                        td data-label="Banned" id={ (name) "-banned" } { (banned) }
                        td data-label="Last line" id={ (name) "-last" } { (last) }
                        td { (mode) }
                    }
                } }
            }
        }
        @if site.allow_changes {
            section {
                h2 { "Changes" }
                p { "To ban, exempt or unban an address, search for it. The last change by an operator can be taken back for 10 minutes, no matter who made it." }
                (form(site, "undo", None, html! { button { "Take back the last change" } }))
            }
        }
        details {
            summary { "Full status" }
            pre { (anstream::adapter::strip_str(&cli::status(status)).to_string()) }
        }
    }
}

/// A heading of the command line's tables, for a page.
fn heading(name: &str) -> String {
    let rest = name.get(1..).unwrap_or_default().to_lowercase();
    format!("{}{rest}", name.get(..1).unwrap_or_default())
}

fn event(event: &FeedEvent) -> Markup {
    let FeedEvent { what, at, address, place, jail, reason, .. } = event;
    html! {
        li class=(what) {
            time { (at) } " " b { (what) } " " (link(address)) " " span.place { (place) } " " span.jail { (jail) } " " span.reason { (reason) }
        }
    }
}

pub(super) fn link(address: &str) -> Markup {
    html! { a.address href={ "why?address=" (address) } { (address) } }
}

pub(super) fn when(instant: &str) -> Markup {
    html! { time { (plain(local(instant))) } }
}

/// A form that changes something, around what it asks for.
pub(super) fn form(site: &Site, action: &str, address: Option<Offender>, content: Markup) -> Markup {
    html! {
        form.change method="post" action="change" {
            input type="hidden" name="form" value=(site.secrets.form);
            input type="hidden" name="action" value=(action);
            @if let Some(address) = address { input type="hidden" name="address" value=(address); }
            (content)
        }
    }
}

/// The bans in force that a search finds.
pub(super) fn bans(
    form: &BansForm,
    filter: &BanFilter,
    status: &Status,
    (bans, total): (&[BanLine], u64),
    located: &Located,
) -> Markup {
    let mut jails: Vec<&str> = status.jails.iter().map(|jail| jail.name.as_str()).collect();
    if !form.jail.is_empty() && !jails.contains(&form.jail.as_str()) {
        jails.push(&form.jail);
    }
    let listed = bans.len() as u64;
    html! {
        form.filter action="bans" {
            label { "Search " input type="search" name="q" value=(form.q) maxlength="100"; }
            label { "Jail " select name="jail" {
                option value="" { "all" }
                @for jail in jails { option selected[jail == form.jail] value=(plain(jail)) { (plain(jail)) } }
            } }
            label { "First " select name="sort" {
                @for sort in BanSort::ALL { option value=(sort.name()) selected[sort == filter.sort] { (order(sort)) } }
            } }
            button { "Show" }
        }
        @if let Some(address) = filter.address.or(filter.inside) {
            p { a href={ "why?address=" (address) } { "Why is " (address) " banned, or why not?" } }
        }
        p role="status" {
            @match total {
                0 => "There is no such ban.",
                _ if listed < total => { (HumanCount(listed)) " of " (HumanCount(total)) " bans" }
                _ => { (count(total, "ban")) }
            }
        }
        @for fault in &located.faults { p.bad { (plain(fault)) } }
        (ban_table(bans, &located.places))
        @if listed < total {
            form.filter action="bans" {
                @for (name, value) in [("q", &*form.q), ("jail", &form.jail), ("sort", filter.sort.name())] {
                    input type="hidden" name=(name) value=(value);
                }
                @if bans.len() < MOST { button name="limit" value=(MOST) { "Show up to " (HumanCount(MOST as u64)) } }
                @else { p { "Search for a prefix or a jail to see the others." } }
            }
        }
    }
}

fn order(sort: BanSort) -> &'static str {
    match sort {
        BanSort::Address => "lowest address",
        BanSort::Since => "latest",
        BanSort::Until => "next to end",
        BanSort::Jail => "jail",
        BanSort::Times => "most bans",
    }
}

/// A table of bans; with places, where each of them is.
pub(super) fn ban_table(bans: &[BanLine], places: &[String]) -> Markup {
    let place = (!places.is_empty()).then_some("Where");
    html! {
        @if !bans.is_empty() {
            table {
                thead { tr {
                    @for name in ["Address"].into_iter().chain(place).chain(["Jail", "Since", "Until", "Times", "Ports", "Reason"]) {
                        th scope="col" { (name) }
                    }
                } }
                tbody { @for (n, ban) in bans.iter().enumerate() {
                    @let [address, jail, ends, times, ports, reason] = cli::cells(ban).map(plain);
                    tr {
                        th scope="row" { (link(&address)) }
                        @if let Some(place) = places.get(n) { td.place data-label="Where" { (place) } }
                        td data-label="Jail" { (jail) }
                        td data-label="Since" { (when(&ban.since)) }
                        td data-label="Until" {
                            @match &ban.until {
                                Some(until) => { (when(until)) " " span.dim { (ends) } }
                                None => "it is lifted",
                            }
                        }
                        td data-label="Times" { (times) }
                        td data-label="Ports" { (ports) }
                        td.reason data-label="Reason" { (brief(&reason)) }
                    }
                } }
            }
        }
    }
}

/// What a change has done.
pub(super) fn done(site: &Site, address: &str, report: &ChangeReport) -> Markup {
    html! {
        pre role="status" { (changes(report)) }
        @if report.changed > 0 { (form(site, "undo", None, html! { button { "Take back the last change" } })) }
        @if address.parse::<Offender>().is_ok() { p { (link(address)) } }
        p { a href="./" { "Overview" } }
    }
}

pub(super) fn exemptions(site: &Site, allowances: &[AllowLine]) -> Markup {
    html! {
        p { "Exempt by hand; " code { "ignoreip" } " and the host's own addresses are in the full status." }
        @if allowances.is_empty() { p role="status" { "There are none." } } @else {
            table {
                thead { tr { @for name in ["Address", "Since", "Until", "Comment"] { th scope="col" { (name) } } } }
                tbody { @for AllowLine { address, since, until, comment, .. } in allowances {
                    tr {
                        th scope="row" { (link(&address.to_string())) }
                        td data-label="Since" { (when(since)) }
                        td data-label="Until" { @match until { Some(until) => (when(until)), None => "it is removed" } }
                        td.reason data-label="Comment" { (brief(comment)) }
                        @if site.allow_changes { td {
                            (form(site, "remove", Some(*address), html! { button { "Remove" span.hidden { " the exemption of " (address) } } }))
                        } }
                    }
                } }
            }
        }
    }
}
