//! Values of fail2ban's settings, as banstream writes them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::options::NamedOptions;
use super::read::{Fail2banJail, is_true};
use super::time;
use crate::model::{Offender, Span};
use crate::words::{self, ActionKind};

/// Ports in one range, and no more: a longer one is all ports.
const LONGEST_RANGE: u16 = 64;

/// The longest time that is written; longer ones do not end.
const LONGEST: f64 = 100.0 * 365.25 * 86_400.0;

/// A time as banstream writes it: `"10m"`, or `"forever"` if it has no end. `None` where it is not understood.
pub(super) fn span(text: &str) -> Option<String> {
    let seconds = time::seconds(text)?;
    if !(0.0..LONGEST).contains(&seconds) {
        return Some("forever".to_owned());
    }
    Some(Span::from_secs(seconds.round() as u64).to_string())
}

/// Whether an action bans, or may do so as one of the operator's own.
pub(super) fn bans(action: &NamedOptions) -> bool {
    words::action(&action.name)
        .is_none_or(|word| matches!(word.kind, ActionKind::Ban | ActionKind::BanAllPorts))
}

/// Whether an action bans with another program or host, so that its jail is to ban.
pub(super) fn bans_elsewhere(action: &NamedOptions) -> bool {
    let name = action.name.as_str();
    name.starts_with("cloudflare")
        || matches!(name, "nginx-block-map" | "netscaler" | "nsupdate" | "mikrotik")
}

/// Whether an action tells a service of bans.
pub(super) fn is_told(action: &NamedOptions) -> bool {
    words::action(&action.name).is_some_and(|word| word.kind == ActionKind::Notify)
}

/// The ports that a jail blocks, such as `80,443/tcp`; none for all. What is not known is in `notes`.
pub(super) fn ports(jail: &Fail2banJail, notes: &mut Vec<String>) -> Vec<String> {
    let mut all = BTreeSet::new();
    for action in &jail.actions {
        if bans(action) && action.get("type") == Some("allports") {
            return Vec::new();
        }
        match words::action(&action.name).map(|word| word.kind) {
            Some(ActionKind::BanAllPorts) => return Vec::new(),
            Some(ActionKind::Ban) => {}
            // One of the operator's own that is told the ports bans.
            None if action.get("port").is_some() => {}
            _ => continue,
        }
        let option = |key: &str| action.get(key).or_else(|| jail.options.get(key).map(String::as_str));
        let protocols = match option("protocol").unwrap_or("tcp") {
            "all" => return Vec::new(),
            protocol => protocol.split(',').map(str::trim).map(str::to_owned).collect::<Vec<_>>(),
        };
        let Some(numbers) = numbers(option("port").unwrap_or_default(), notes) else { return Vec::new() };
        for protocol in protocols {
            if matches!(protocol.as_str(), "tcp" | "udp") {
                all.extend(numbers.iter().map(|number| (protocol.clone(), *number)));
            } else {
                notes.push(format!(
                    "all ports are blocked, since `protocol = {protocol}` is neither tcp nor udp"
                ));
                return Vec::new();
            }
        }
    }
    let of = |wanted: &str| {
        let numbers: Vec<String> = all
            .iter()
            .filter(|(protocol, _)| protocol == wanted)
            .map(|(_, number)| number.to_string())
            .collect();
        (!numbers.is_empty()).then(|| format!("{}/{wanted}", numbers.join(",")))
    };
    ["tcp", "udp"].into_iter().filter_map(of).collect()
}

/// The numbers of ports; `None` for all.
fn numbers(text: &str, notes: &mut Vec<String>) -> Option<BTreeSet<u16>> {
    let mut numbers = BTreeSet::new();
    for word in text.split([',', ' ', '\n']).map(str::trim).filter(|word| !word.is_empty()) {
        if matches!(word, "0:65535" | "1:65535" | "all" | "any" | "anyport" | "-1") {
            return None;
        }
        let range = word
            .split_once([':', '-'])
            .and_then(|(first, last)| Some((first.parse::<u16>().ok()?, last.parse::<u16>().ok()?)));
        match range {
            Some((first, last)) if last.checked_sub(first).is_some_and(|length| length < LONGEST_RANGE) => {
                numbers.extend(first.max(1)..=last);
                continue;
            }
            Some(_) => {
                notes.push(format!(
                    "all ports are blocked, since `{word}` is more than {LONGEST_RANGE} of them"
                ));
                return None;
            }
            None => {}
        }
        match word.parse::<u16>().ok().filter(|number| *number > 0).or_else(|| service(word)) {
            Some(number) => drop(numbers.insert(number)),
            None => {
                notes.push(format!("all ports are blocked, since the port of `{word}` is not known"));
                return None;
            }
        }
    }
    (!numbers.is_empty()).then_some(numbers)
}

/// The port of a service, by this host's list or ours.
fn service(name: &str) -> Option<u16> {
    let text = std::fs::read_to_string("/etc/services").unwrap_or_default();
    let found = text.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let (first, port) = (words.next()?, words.next()?);
        let is_it = first == name || words.any(|word| word == name);
        port.split('/').next().filter(|_| is_it)?.parse().ok()
    });
    found.or_else(|| words::port(name))
}

/// Who is not banned, and which names that was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct IgnoredHosts {
    /// Addresses and prefixes, as banstream writes them.
    pub(super) offenders: Vec<String>,
    /// Names, each with the addresses that it has now.
    pub(super) names: Vec<(String, Vec<String>)>,
    /// What is none of these.
    pub(super) unknown: Vec<String>,
}

/// Reads `ignoreip`; `resolve` looks a name up.
pub(super) fn ignored(text: &str, resolve: &dyn Fn(&str) -> Vec<IpAddr>) -> IgnoredHosts {
    let mut hosts = IgnoredHosts::default();
    let lines = text.lines().filter_map(|line| line.split('#').next());
    for word in lines.flat_map(|line| line.split([',', ' ', '\t'])).filter(|word| !word.is_empty()) {
        let is_name = |word: &str| {
            word.chars().all(|c| c.is_alphanumeric() || "-._".contains(c))
                && word.contains(char::is_alphabetic)
        };
        match prefix(word) {
            Some(offender) => hosts.offenders.push(offender),
            None if word.starts_with("file:/") && !word.contains(['"', '\\']) => {
                hosts.offenders.push(word.to_owned())
            }
            None if !is_name(word) => hosts.unknown.push(word.to_owned()),
            None => {
                let found: Vec<String> = resolve(word).iter().map(IpAddr::to_string).collect();
                hosts.offenders.extend(found.iter().cloned());
                hosts.names.push((word.to_owned(), found));
            }
        }
    }
    let mut seen = BTreeSet::new();
    hosts.offenders.retain(|offender| seen.insert(offender.clone()));
    hosts
}

/// An address or a prefix; of a prefix the bits behind it do not count, and its length may be a mask.
fn prefix(word: &str) -> Option<String> {
    let (address, length) =
        word.split_once('/').map_or((word, None), |(address, length)| (address, Some(length)));
    let address: IpAddr = address.parse().ok()?;
    let Some(length) = length else { return Some(address.to_string()) };
    let length = length.parse::<u8>().ok().or_else(|| {
        let mask: std::net::Ipv4Addr = length.parse().ok()?;
        Some(mask.to_bits().leading_ones() as u8)
    })?;
    Offender::new(address, length).map(|offender| offender.to_string())
}

/// How bans grow.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct GrowthWords {
    /// Lines of `[growth]`.
    pub(super) lines: Vec<String>,
    /// What each setting became, and why.
    pub(super) notes: Vec<(String, String)>,
}

/// Reads `bantime.*` of the defaults; `recidive` says whether that jail is on, `longest` is the longest `bantime` of a jail, in
/// seconds.
pub(super) fn growth(options: &dyn Fn(&str) -> Option<String>, recidive: bool, longest: f64) -> GrowthWords {
    let mut words = GrowthWords::default();
    let mut note = |name: &str, becomes: String| words.notes.push((name.to_owned(), becomes));
    let bantime = options("bantime").and_then(|text| time::seconds(&text)).unwrap_or(600.0);
    let grows = options("bantime.increment").is_some_and(|value| is_true(&value));
    if !grows {
        // Where nobody says so, the growth of bans is in the place of that jail.
        if !recidive || options("bantime.increment").is_some() {
            words.lines.push("factor = 1".to_owned());
            note(
                "bantime.increment",
                "`factor = 1`: bans do not grow, as before; delete it and they do".to_owned(),
            );
        }
        return words;
    }
    for name in ["bantime.maxtime", "bantime.rndtime"] {
        let wrong = options(name).filter(|text| !text.trim().is_empty() && time::seconds(text).is_none());
        if let Some(text) = wrong {
            note(name, format!("needs you: `{}` is not a time", text.trim()));
        }
    }
    let multipliers: Vec<f64> = options("bantime.multipliers")
        .iter()
        .flat_map(|text| text.split([' ', ',']))
        .filter_map(|word| word.parse().ok())
        .collect();
    let mut cap = options("bantime.maxtime").and_then(|text| time::seconds(&text));
    if let (Some(first), Some(last), true) = (multipliers.first(), multipliers.last(), multipliers.len() > 1)
    {
        let steps = (multipliers.len() - 1) as f64;
        let factor = (last / first).powf(1.0 / steps).clamp(1.0, 100.0);
        words.lines.push(format!("factor = {factor:.2}"));
        cap = Some(cap.unwrap_or(f64::MAX).min(bantime.max(longest) * last));
        note(
            "bantime.multipliers",
            format!("`factor = {factor:.2}`, from the first to the last; `cap` is where they end"),
        );
    } else {
        words.lines.push("factor = 2".to_owned());
        note("bantime.increment", "`factor = 2`".to_owned());
    }
    if let Some(formula) = options("bantime.formula").filter(|text| !text.is_empty()) {
        note("bantime.formula", format!("needs you: `{formula}` has no counterpart; check `factor`"));
    }
    if options("bantime.factor").is_some_and(|text| text.trim() != "1") {
        note("bantime.factor", "needs you: it multiplies each ban but the first; check `factor`".to_owned());
    }
    if let Some(cap) = cap.filter(|cap| *cap > 0.0 && *cap < LONGEST) {
        let cap = Span::from_secs(cap.round() as u64);
        words.lines.push(format!("cap = \"{cap}\""));
        note("bantime.maxtime", format!("`cap = \"{cap}\"`"));
    }
    if let Some(random) =
        options("bantime.rndtime").and_then(|text| time::seconds(&text)).filter(|time| *time > 0.0)
    {
        let jitter = (random / bantime.max(1.0)).clamp(0.0, 1.0);
        words.lines.push(format!("jitter = {jitter:.2}"));
        note("bantime.rndtime", format!("`jitter = {jitter:.2}`, a part of the ban"));
    }
    if options("bantime.overalljails").is_some_and(|value| is_true(&value)) {
        note("bantime.overalljails", "no counterpart: each jail counts by itself".to_owned());
    }
    words
}

/// Where an action sends mail, if it does.
pub(super) fn mailboxes<'j>(
    action: &'j NamedOptions,
    jail: &'j Fail2banJail,
) -> impl Iterator<Item = &'j str> {
    let to = action.get("dest").or_else(|| jail.options.get("destemail").map(String::as_str));
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"@.-_+=".contains(&byte);
    let all = to.into_iter().flat_map(|to| to.split([',', ' ', '\n']));
    all.filter(move |to| !to.is_empty() && !to.starts_with('-') && to.bytes().all(is_plain))
}

/// What a jail says of how packets are refused or mail is sent that has no counterpart.
pub(super) fn without_counterpart(jail: &Fail2banJail) -> Vec<String> {
    let mut notes = Vec::new();
    let mut ask = |key: &str, usual: &[&str], here: &str| {
        let own = jail.actions.iter().find_map(|action| action.get(key));
        let value = own.or_else(|| jail.options.get(key).map(String::as_str)).unwrap_or_default().trim();
        if !value.is_empty() && !value.contains('<') && !usual.contains(&value) {
            notes.push(format!("its {key} `{value}`: {here}"));
        }
    };
    ask(
        "chain",
        &["INPUT", "input"],
        "the one rule drops packets before all chains, those for containers too",
    );
    ask("blocktype", &["DROP", "drop", "blackhole"], "packets are dropped, and nobody gets an answer");
    let is_mail = |action: &NamedOptions| {
        words::action(&action.name).is_some_and(|word| matches!(word.kind, ActionKind::Mail))
    };
    if jail.actions.iter().any(is_mail) {
        ask("sender", &["root@localhost", "fail2ban"], "the program that sends mail chooses its sender");
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_ours() {
        for (text, want) in
            [("600", "10m"), ("1h 30m", "1h 30m"), ("-1", "forever"), ("1w", "7d"), ("1month", "30d 10h 30m")]
        {
            assert_eq!(span(text).unwrap(), want, "{text}");
            assert!(want == "forever" || crate::config::parse_span(want).is_some());
        }
        assert_eq!(span("soon"), None);
    }

    #[test]
    fn addresses_and_names_are_told_apart() {
        let resolve = |name: &str| {
            if name == "home.example" { vec!["192.0.2.7".parse().unwrap()] } else { Vec::new() }
        };
        let hosts = ignored(
            "127.0.0.1/8 ::1, 192.0.2.9 # the office\n10.1.2.3/255.255.0.0 home.example nobody.example\nfile:/etc/x <tag> 192.0.2.1-9",
            &resolve,
        );
        assert_eq!(
            hosts.offenders,
            ["127.0.0.0/8", "::1", "192.0.2.9", "10.1.0.0/16", "192.0.2.7", "file:/etc/x"]
        );
        assert_eq!(hosts.unknown, ["<tag>", "192.0.2.1-9"]);
        let names: Vec<&str> = hosts.names.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["home.example", "nobody.example"]);
    }

    fn jail(action: &str, options: &[(&str, &str)]) -> Fail2banJail {
        let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Fail2banJail { options, actions: NamedOptions::parse_all(action).unwrap(), ..Fail2banJail::default() }
    }

    #[test]
    fn ports_are_those_of_the_actions_that_ban() {
        #[track_caller]
        fn check(action: &str, port: &str, want: &[&str], notes: usize) {
            let mut said = Vec::new();
            assert_eq!(ports(&jail(action, &[("port", port)]), &mut said), want);
            assert_eq!(said.len(), notes, "{said:?}");
        }
        check("iptables-multiport", "ssh,2222", &["22,2222/tcp"], 0);
        check("iptables-multiport[port=\"http,https\"]", "ssh", &["80,443/tcp"], 0);
        check(
            "iptables-multiport[protocol=tcp] iptables-multiport[protocol=udp]",
            "53",
            &["53/tcp", "53/udp"],
            0,
        );
        check("iptables-allports", "ssh", &[], 0);
        check("nftables[type=allports]", "ssh", &[], 0);
        check("nftables", "0:65535", &[], 0);
        check("nftables", "6000:6002", &["6000,6001,6002/tcp"], 0);
        check("nftables", "1000:60000", &[], 1);
        check("nftables", "nosuchservice", &[], 1);
        check("sendmail[dest=x]", "ssh", &[], 0);
        check("mine[port=\"ssh\"] other", "http", &["22/tcp"], 0);
    }

    #[test]
    fn growth_is_kept() {
        #[track_caller]
        fn check(options: &[(&str, &str)], recidive: bool, want: &[&str]) {
            let get = |name: &str| {
                options.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            };
            assert_eq!(growth(&get, recidive, 0.0).lines, want);
        }
        check(&[], false, &["factor = 1"]);
        check(&[], true, &[]);
        check(&[("bantime.increment", "false")], true, &["factor = 1"]);
        check(&[("bantime.increment", "true"), ("bantime.maxtime", "soon")], true, &["factor = 2"]);
        let all = [
            ("bantime", "1h"),
            ("bantime.increment", "true"),
            ("bantime.maxtime", "4w"),
            ("bantime.rndtime", "8m"),
        ];
        check(&all, false, &["factor = 2", "cap = \"28d\"", "jitter = 0.13"]);
        let some =
            [("bantime", "10m"), ("bantime.increment", "true"), ("bantime.multipliers", "1 2 4 8 16 32 64")];
        check(&some, false, &["factor = 2.00", "cap = \"10h 40m\""]);
    }
}
