//! The pages about one address: why it is banned or not, and how many bans a lifting would lift.

use indicatif::HumanCount;
use maud::{Markup, html};

use super::Site;
use super::page::{ban_table, form, link, when};
use super::places::Located;
use crate::cli::short;
use crate::control::{BanLine, BanWhy, ElementWhy, JailWhy, LineWhy, Why};
use crate::model::{Mode, Offender, count, plain};
use crate::tools::terminal::with_local_times;

/// How many bans a question names.
const NAMED: usize = 20;

/// Why an address is banned or not, and what can be done about it.
pub(super) fn why(site: &Site, why: &Why, located: &Located) -> Markup {
    let counts = |jail: &&JailWhy| jail.counted > 0 || jail.earlier > 0 || jail.protected.is_some();
    html! {
        p role="status" {
            @if why.banned { strong.bad { "banned" } } @else { strong { "not banned" } }
            @if why.offender != why.address { "; its offences count for " (link(&why.offender.to_string())) }
        }
        @for place in located.places.iter().filter(|place| !place.is_empty()) {
            p { "Country and network: " span.place { (place) } }
        }
        @for fault in &located.faults { p.bad { (plain(fault)) } }
        @for by in &why.protected { p { "Exempt: " (plain(with_local_times(by))) } }
        @for BanWhy { ban, formula, lines } in &why.bans {
            section {
                h2 { (ban.address) " by " (plain(&ban.jail)) @if ban.mode == Mode::Observe { " (only observed)" } }
                @if ban.waits { p.bad { "Not enforced: the kernel's set is full or refuses it." } }
                dl {
                    dt { "Since" } dd { (when(&ban.since)) }
                    dt { "Until" } dd { @match &ban.until { Some(until) => (when(until)), None => "it is lifted" } }
                    @if !ban.ports.is_empty() { dt { "Ports" } dd { (plain(ban.ports.join(" "))) } }
                    dt { "Reason" } dd.reason { (plain(&ban.reason)) }
                    @if let Some(formula) = formula { dt { "Ban number " (ban.times) } dd { (plain(formula)) } }
                }
                (evidence(lines))
                @if site.allow_changes { p { a.button href={ "lift?address=" (ban.address) } { "Lift bans on " (ban.address) "…" } } }
            }
        }
        @for jail in why.jails.iter().filter(counts) {
            section {
                h2 { "Counts of " (plain(&jail.name)) }
                p {
                    (jail.counted) " of " (jail.maxretry) " offences within " (plain(&jail.findtime))
                    @if let Some(last) = &jail.last { ", the last at " (when(last)) }
                }
                p { "Earlier bans that count: " (jail.earlier) "; the next lasts " (plain(&jail.next)) }
                @if let Some(by) = &jail.protected { p { "Never banned by this jail: " (plain(with_local_times(by))) } }
                (evidence(&jail.lines))
            }
        }
        @if why.bans.is_empty() && why.jails.iter().all(|jail| jail.counted == 0) { p { "No jail has counted an offence." } }
        @if let Some(kernel) = why.kernel.as_ref().filter(|kernel| why.banned || !kernel.is_empty()) {
            section {
                h2 { "In the kernel" }
                @if kernel.is_empty() { p.bad { "The kernel has no element for it." } }
                ul { @for held in kernel { li { (element(held)) } } }
            }
        }
        @for what in &why.unknown { p.dim { (plain(what)) } }
        @if site.allow_changes {
            section {
                h2 { "Ban " (why.offender) }
                (form(site, "ban", Some(why.offender), fields("ban", "Reason", "Ban")))
            }
            section {
                h2 { "Exempt " (why.offender) }
                p { "This also lifts its bans." }
                (form(site, "exempt", Some(why.offender), fields("exempt", "Comment", "Exempt")))
            }
        }
    }
}

/// What a ban or an exemption is asked for with.
fn fields(id: &str, words: &str, button: &str) -> Markup {
    html! {
        label for={ (id) "-length" } { "For" }
        input id={ (id) "-length" } name="length" value="1d" size="8" aria-describedby={ (id) "-hint" };
        span.dim id={ (id) "-hint" } { "such as 10m, 1h 30m, 2d or forever" }
        label for={ (id) "-words" } { (words) }
        input id={ (id) "-words" } name="words" maxlength="200";
        button { (button) }
    }
}

fn evidence(lines: &[LineWhy]) -> Markup {
    html! {
        @if !lines.is_empty() {
            h3 { "Lines" }
            ol.evidence { @for LineWhy { time, offence, grammar, rule, message, written, fields } in lines {
                li {
                    (when(time)) " " (plain(offence)) " (" (plain(grammar)) ".grammar:" (rule) ")"
                    code { (plain(message)) }
                    @if let Some(written) = written { details {
                        summary { "The rule that read it" }
                        code { (plain(written)) }
                        @for field in fields { code { (plain(field.to_string())) } }
                    } }
                }
            } }
        }
    }
}

fn element(held: &ElementWhy) -> String {
    let ElementWhy { set, element, left, packets, bytes } = held;
    let left = left.map_or("forever".to_owned(), |left| format!("for {} more", short(left.into())));
    let dropped = packets.zip(*bytes).map_or(String::new(), |(packets, bytes)| {
        format!("; dropped: {}, {}", count(packets, "packet"), count(bytes, "byte"))
    });
    plain(format!("{element} in {set} {left}{dropped}"))
}

/// The question before bans are lifted: how many there are on an address, and how many inside it.
pub(super) fn lift(site: &Site, address: Offender, bans: &[BanLine], total: u64) -> Markup {
    // The widest come first.
    let own = bans.iter().filter(|ban| ban.address == address).count() as u64;
    let inside = total - own;
    html! {
        @if total == 0 {
            p { "There is no ban on " (address) " to lift." }
            p { a href={ "bans?q=" (address) } { "Bans on prefixes around it" } }
        }
        @if own > 0 {
            (form(site, "lift", Some(address), html! { button { "Lift " (count(own, "ban")) " on " (address) } }))
        }
        @if inside > 0 {
            p { (count(inside, "ban")) " inside it " @if inside == 1 { "stays" } @else { "stay" } " in force unless you choose this:" }
            (form(site, "lift-inside", Some(address), html! { button { "Lift all " (count(total, "ban")) ", those inside it too" } }))
        }
        (ban_table(bans.get(..NAMED).unwrap_or(bans), &[]))
        @if total > NAMED as u64 { p { "and " (HumanCount(total - NAMED as u64)) " more" } }
        p { (link(&address.to_string())) }
    }
}
