//! Prints why an address is banned, or why not.

use super::answer::short;
use crate::config::FLEET_JAIL;
use crate::control::{BanLine, BanWhy, ElementWhy, JailWhy, LineWhy, MOST_LINES, Why};
use crate::model::{BanOrigin, Mode, count, plain};
use crate::tools::geoip::GeoRecord;
use crate::tools::terminal::{local, with_local_times};

/// How many user names are shown.
const USERS: usize = 10;

/// How much of each line is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WhyDetail {
    /// The line, and the user names of all.
    Lines,
    /// Also the rule that read it, and the text in its fields.
    Fields,
}

/// What is known of an address, in sentences.
pub(crate) fn why(why: &Why, place: &GeoRecord, detail: WhyDetail) -> String {
    let shown =
        |lines: &[LineWhy]| users(lines) + &lines.iter().map(|of| line(of, detail)).collect::<String>();
    let mut text = String::new();
    let mut enforced = why.bans.iter().filter(|why| why.ban.mode == Mode::Enforce);
    let verdict = match why.banned {
        true if enforced.all(|why| why.ban.waits) => "banned, but this is NOT enforced",
        true => "banned",
        false => "not banned",
    };
    text += &format!("{} is {verdict}\n", why.address);
    if *place != GeoRecord::default() {
        text += &format!("country and network: {place}\n");
    }
    if why.offender != why.address {
        text += &format!("its offences count for {}\n", why.offender);
    }
    for BanWhy { ban, formula, lines } in &why.bans {
        let BanLine { address, jail, since, times, .. } = ban;
        let ports =
            if ban.ports.is_empty() { String::new() } else { format!(" from {}", ban.ports.join(" ")) };
        let (since, until) = (local(since), ban.until.as_deref().map_or("it is lifted".to_owned(), local));
        let is = if ban.mode == Mode::Observe { "would be" } else { "is" };
        let (by, reason) = who_banned(jail, &ban.reason);
        text += &format!("\n{address} {is} banned{ports} by {by}, since {since}, until {until}\n");
        if ban.waits {
            text += "  NOT enforced: the kernel's set is full or refuses it; `banstream doctor` says what to do\n";
        }
        if !reason.is_empty() {
            text += &format!("  for: {}\n", plain(reason));
        }
        let formula = formula.iter().map(|formula| format!("  ban number {times}: {formula}\n"));
        text.extend(formula);
        text += &shown(lines);
        if lines.is_empty() && ban.kind == BanOrigin::Auto && why.unknown.is_empty() {
            text += "  no line of it is on file: it was taken over, or `max-rows` of [ledger] has made room for newer ones\n";
        } else if why.unknown.is_empty() {
            text += &missing(ban, lines.len());
        }
    }
    for jail in
        why.jails.iter().filter(|jail| jail.counted > 0 || jail.earlier > 0 || jail.protected.is_some())
    {
        let JailWhy { name, counted, maxretry, findtime, earlier, next, .. } = jail;
        let last = jail.last.as_ref().map_or(String::new(), |last| format!(", the last at {}", local(last)));
        text += &format!("\n{name} has counted {counted} of {maxretry} offences within {findtime}{last}\n");
        text += &format!("  earlier bans that count: {earlier}; the next lasts {next}\n");
        text.extend(
            jail.protected.iter().map(|by| format!("  never banned by this jail: {}\n", exemption(by))),
        );
        text += &shown(&jail.lines);
    }
    if why.bans.is_empty() && why.jails.iter().all(|jail| jail.counted == 0) {
        text += "no jail has counted an offence\n";
    }
    text.extend(why.protected.iter().map(|by| format!("\nexempt: {}\n", exemption(by))));
    if let Some(kernel) = &why.kernel {
        text += &kernel.iter().map(held).collect::<String>();
        if why.banned && kernel.is_empty() {
            text += "\nthe kernel has no element for it\n";
        }
    }
    text.extend(why.unknown.iter().map(|what| format!("\n{}\n", plain(what))));
    text
}

/// Says that there are not all lines of what was counted, which the reason of a jail's ban begins with.
fn missing(ban: &BanLine, lines: usize) -> String {
    let counted = ban.reason.split(' ').next().and_then(|count| count.parse::<usize>().ok());
    let Some(counted) = counted.filter(|counted| ban.kind == BanOrigin::Auto && *counted > lines) else {
        return String::new();
    };
    let missing = counted - lines;
    match lines < MOST_LINES.into() {
        true => format!("  {missing} of its {counted} lines are not on file\n"),
        false => format!("  {missing} more of its {counted} lines are not shown\n"),
    }
}

/// The jail, or the host of the fleet and its jail; and the reason.
fn who_banned<'r>(jail: &str, reason: &'r str) -> (String, &'r str) {
    let Some(host) = jail.strip_prefix(FLEET_JAIL) else { return (jail.to_owned(), reason) };
    let (its, reason) = reason.split_once(": ").unwrap_or((reason, ""));
    (format!("{} of the fleet (its jail {})", plain(host), plain(its)), reason)
}

/// An exemption for people; its comment is an operator's.
fn exemption(by: &str) -> String {
    plain(with_local_times(by))
}

/// The user names in these lines, each once; nothing where there are none.
fn users(lines: &[LineWhy]) -> String {
    let fields = lines.iter().flat_map(|line| &line.fields);
    // A web server writes `-` where nobody logged in.
    let is_named = |text: &str| !matches!(text, "" | "-");
    let named = fields.filter(|field| field.name.as_deref() == Some("user") && is_named(&field.text));
    let mut names: Vec<String> = Vec::new();
    for name in named.map(|field| plain(&field.text)) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let more = names.len().saturating_sub(USERS);
    names.truncate(USERS);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    if names.is_empty() { String::new() } else { format!("  tried as {}{more}\n", names.join(", ")) }
}

/// A line that was counted, as `explain` would show it.
fn line(line: &LineWhy, detail: WhyDetail) -> String {
    let LineWhy { time, offence, grammar, rule, written, message, fields } = line;
    let mut text = format!("  {} {}\n", local(time), plain(message));
    text += &format!("      {offence} ({grammar}.grammar:{rule})\n");
    if detail == WhyDetail::Lines {
        return text;
    }
    text.extend(written.iter().map(|written| format!("      {}\n", plain(written))));
    text.extend(fields.iter().map(|field| format!("      {field}\n")));
    text
}

fn held(held: &ElementWhy) -> String {
    let ElementWhy { set, element, left, packets, bytes } = held;
    let left = left.map_or("forever".to_owned(), |left| format!("for {} more", short(left.into())));
    let kept = packets.zip(*bytes);
    let kept = kept.map_or(String::new(), |(packets, bytes)| {
        format!("; dropped: {}, {}", count(packets, "packet"), count(bytes, "byte"))
    });
    format!("\nthe kernel has {element} in `{set}` {left}{kept}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn prints(body: &str, detail: WhyDetail, want: &str) {
        let text = why(&serde_json::from_str(body).unwrap(), &GeoRecord::default(), detail);
        assert_eq!(anstream::adapter::strip_str(&text).to_string(), want.trim_start_matches('\n'));
    }

    #[test]
    fn lines_that_are_missing_are_counted() {
        #[track_caller]
        fn check(reason: &str, kind: &str, lines: usize, want: &str) {
            let line = r#"{"time": "R", "offence": "o", "grammar": "g", "rule": 1, "written": null, "message": "M", "fields": []}"#;
            let body = format!(
                r#"{{"address": "192.0.2.1", "offender": "192.0.2.1", "banned": true, "protected": [], "kernel": null, "unknown": [],
                    "jails": [], "bans": [{{"address": "192.0.2.1", "jail": "sshd", "kind": "{kind}", "ports": [], "since": "S",
                    "until": null, "left": null, "times": 1, "reason": "{reason}", "formula": null, "lines": [{}]}}]}}"#,
                vec![line; lines].join(",")
            );
            let text = why(&serde_json::from_str(&body).unwrap(), &GeoRecord::default(), WhyDetail::Lines);
            let told: Vec<&str> = text.lines().filter(|line| line.contains(" its ")).collect();
            assert_eq!(told.join("\n"), want);
        }
        check("5 offences within 10m", "auto", 5, "");
        check("5 offences within 10m", "auto", 1, "  4 of its 5 lines are not on file");
        check("100 offences within 10m", "auto", 20, "  80 more of its 100 lines are not shown");
        check("5 times is enough", "manual", 1, "");
        check("found in the kernel", "auto", 1, "");
    }

    #[test]
    fn why_is_told_in_sentences() {
        let free = r#"{"address": "192.0.2.1", "offender": "192.0.2.1", "banned": false, "bans": [], "protected": [],
            "kernel": [], "unknown": [], "jails": [{"name": "sshd", "offender": "192.0.2.1", "counted": 0, "maxretry": 5, "findtime": "10m", "last": null, "earlier": 0,
                       "next": "1h", "protected": null, "lines": []}]}"#;
        let waits = r#"{"address": "192.0.2.1", "offender": "192.0.2.1", "banned": true, "protected": [], "kernel": [],
            "unknown": [], "jails": [], "bans": [{"address": "192.0.2.1", "jail": "manual", "kind": "manual", "ports": [],
                       "since": "S", "until": null, "left": null, "times": 1, "reason": "", "waits": true, "formula": null,
                       "lines": []}]}"#;
        let text = why(&serde_json::from_str(waits).unwrap(), &GeoRecord::default(), WhyDetail::Lines);
        assert_eq!(text.lines().next(), Some("192.0.2.1 is banned, but this is NOT enforced"));
        prints(free, WhyDetail::Lines, "192.0.2.1 is not banned\nno jail has counted an offence\n");
        let body = r#"{"address": "2001:db8::1", "offender": "2001:db8::/64", "banned": true,
            "bans": [{"address": "2001:db8::/64", "jail": "sshd", "kind": "auto", "ports": ["22/tcp"], "since": "S",
                      "until": "U", "left": 552, "times": 2, "reason": "5 offences within 10m",
                      "formula": "1h x 2^1 = 2h", "lines": [
                        {"time": "R", "offence": "auth-failure", "grammar": "sshd", "rule": 9, "written": "No <user>",
                         "message": "No \u001b[2J", "fields":
                         [{"name": "user", "kind": "text", "from": 3, "to": 7, "text": "\u001b[2J"}]},
                        {"time": "R", "offence": "probe", "grammar": "nginx", "rule": 7, "written": null,
                         "message": "GET", "fields":
                         [{"name": "user", "kind": "word", "from": 0, "to": 1, "text": "-"}]}]},
                     {"address": "2001:db8::/32", "jail": "manual", "kind": "manual", "ports": [], "since": "T",
                      "until": null, "left": null, "times": 1, "reason": "", "waits": true, "formula": null,
                      "lines": []},
                     {"address": "2001:db8::/64", "jail": "fleet:web1", "kind": "peer", "ports": [], "since": "T",
                      "until": null, "left": null, "times": 1, "reason": "sshd: 5: x", "formula": null, "lines": []},
                     {"address": "2001:db8::/64", "jail": "fleet:web2", "kind": "peer", "ports": [], "since": "T",
                      "until": null, "left": null, "times": 1, "reason": "manual", "formula": null, "lines": []}],
            "jails": [{"name": "http", "offender": "2001:db8::/64", "counted": 3, "maxretry": 5, "findtime": "10m", "last": "L", "earlier": 1,
                       "next": "1h x 2^1 = 2h", "protected": "::/0 is in `ignoreip`", "lines": [
                        {"time": "L", "offence": "probe", "grammar": "old", "rule": 7, "written": null, "message": "M",
                         "fields": []}]}],
            "protected": ["a login from there at 2026-11-24T08:00:00Z, until 2026-11-25T08:00:00Z"],
            "kernel": [{"set": "banstream6p", "element": "2001:db8::/64 22/tcp", "left": 552, "packets": 12, "bytes": 720},
                       {"set": "banstream6", "element": "2001:db8::/32", "left": null, "packets": null, "bytes": null}],
            "unknown": ["cannot ask the ledger: it hangs"]}"#;
        let [at, until] = ["2026-11-24T08:00:00Z", "2026-11-25T08:00:00Z"].map(local);
        let text = format!(
            "
2001:db8::1 is banned
its offences count for 2001:db8::/64

2001:db8::/64 is banned from 22/tcp by sshd, since S, until U
  for: 5 offences within 10m
  ban number 2: 1h x 2^1 = 2h
  tried as \u{fffd}[2J
  R No \u{fffd}[2J
      auth-failure (sshd.grammar:9)
      No <user>
      user     3..7      `\u{fffd}[2J`
  R GET
      probe (nginx.grammar:7)
      user     0..1      `-`

2001:db8::/32 is banned by manual, since T, until it is lifted
  NOT enforced: the kernel's set is full or refuses it; `banstream doctor` says what to do

2001:db8::/64 is banned by web1 of the fleet (its jail sshd), since T, until it is lifted
  for: 5: x

2001:db8::/64 is banned by web2 of the fleet (its jail manual), since T, until it is lifted

http has counted 3 of 5 offences within 10m, the last at L
  earlier bans that count: 1; the next lasts 1h x 2^1 = 2h
  never banned by this jail: ::/0 is in `ignoreip`
  L M
      probe (old.grammar:7)

exempt: a login from there at {at}, until {until}

the kernel has 2001:db8::/64 22/tcp in `banstream6p` for 9m 12s more; dropped: 12 packets, 720 bytes

the kernel has 2001:db8::/32 in `banstream6` forever

cannot ask the ledger: it hangs
"
        );
        prints(body, WhyDetail::Fields, &text);
        let fields = "      No <user>\n      user     3..7      `\u{fffd}[2J`\n";
        let text = text.replace(fields, "").replace("      user     0..1      `-`\n", "");
        prints(body, WhyDetail::Lines, &text);
    }
}
