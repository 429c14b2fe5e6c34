//! Lines of lists: an address a line with what else may stand there, or CSV with a heading, as `cscli decisions list -o
//! raw` prints it.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::borrow::Cow;

use crate::config::{is_jail_name, names_jail, parse_span};
use crate::model::{Offender, Port, Span, Timestamp, plain};

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ListLine<'l> {
    /// Ban this one.
    Ban {
        offender: Offender,
        end: ListedEnd,
        /// May be empty.
        reason: Cow<'l, str>,
        /// What an exported list says besides.
        details: Option<Box<BanDetails>>,
    },
    /// Something that is not a ban, such as `captcha`.
    Other(String),
}

/// What an exported list says of a ban besides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BanDetails {
    /// Its jail; a ban by hand if `None`.
    pub jail: Option<String>,
    /// Its ports; all if empty.
    pub ports: Vec<Port>,
    /// Since when; from now on if `None`.
    pub since: Option<Timestamp>,
    /// How many bans its offender has had.
    pub times: Option<u32>,
}

/// When a ban of a list ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ListedEnd {
    /// The list does not say.
    Unsaid,
    /// After this time, from now on.
    After(Span),
    /// Then.
    At(Timestamp),
    /// It is over.
    Over,
    /// Never.
    Never,
}

/// How the lines of a list are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ListForm {
    /// `ADDRESS [END] [jail=NAME] [ports=PORT,...] [since=TIME] [times=NUMBER] [# COMMENT]`
    Plain,
    /// Values between commas.
    Csv(Columns),
}

/// Where what stands in a line of CSV.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Columns {
    count: usize,
    address: usize,
    reason: Option<usize>,
    action: Option<usize>,
    end: Option<usize>,
    simulated: Option<usize>,
}

/// What each column may be called; of several, the first that is there counts.
const ADDRESS: &[&str] = &["ip", "address", "value", "range", "cidr", "network"];
const REASON: &[&str] = &["reason", "scenario", "comment"];
const ACTION: &[&str] = &["action", "type"];
const END: &[&str] = &["expiration", "expires", "until", "duration"];
const SIMULATED: &[&str] = &["simulated"];

impl ListForm {
    /// The form, by the first line that says something.
    pub(super) fn of(first: &str) -> Result<Self, String> {
        let text = without_comment(first).0;
        // Ports stand between commas, too.
        let is_address = |word: &str| word.parse::<Offender>().is_ok();
        if !text.contains(',') || text.split_whitespace().next().is_some_and(is_address) {
            return Ok(Self::Plain);
        }
        let names: Vec<String> = fields(first)?.iter().map(|name| name.trim().to_ascii_lowercase()).collect();
        let place =
            |of: &[&str]| of.iter().find_map(|known| names.iter().position(|name| name.as_str() == *known));
        let Some(address) = place(ADDRESS) else {
            return Err(format!("a heading of CSV has one of the columns {}", ADDRESS.join(", ")));
        };
        Ok(Self::Csv(Columns {
            count: names.len(),
            address,
            reason: place(REASON),
            action: place(ACTION),
            end: place(END),
            simulated: place(SIMULATED),
        }))
    }

    /// What a line says that is not blank or a comment.
    pub(super) fn read<'l>(&self, line: &'l str) -> Result<ListLine<'l>, String> {
        match self {
            Self::Plain => plain_line(line),
            Self::Csv(columns) => columns.read(line),
        }
    }
}

/// Whether a line says nothing.
pub(super) fn is_blank(line: &str) -> bool {
    without_comment(line).0.trim().is_empty()
}

/// A line, and the comment at its end.
fn without_comment(line: &str) -> (&str, &str) {
    let (text, comment) = line.split_once(['#', ';']).unwrap_or((line, ""));
    (text, comment.trim())
}

fn plain_line(line: &str) -> Result<ListLine<'_>, String> {
    let (text, comment) = without_comment(line);
    let text = text.trim();
    let (address, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let offender = address.parse().map_err(|error| format!("{error}"))?;
    let (details, end_words): (Vec<&str>, Vec<&str>) =
        rest.split_whitespace().partition(|word| word.contains('='));
    let end = end(&end_words.join(" "))?;
    let details = if details.is_empty() { None } else { Some(Box::new(ban_details(&details)?)) };
    Ok(ListLine::Ban { offender, end, reason: comment.into(), details })
}

fn ban_details(words: &[&str]) -> Result<BanDetails, String> {
    let mut details = BanDetails::default();
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let wrong = |what: &str| format!("`{}` is not {what}", plain(word));
        match key {
            "jail" if is_jail_name(value) => details.jail = Some(value.to_owned()),
            "jail" if names_jail(value) => {
                return Err(format!(
                    "{value} has the bans of another host of the fleet, which tells them itself"
                ));
            }
            "jail" => return Err(wrong("the name of a jail")),
            "ports" => {
                let ports: Result<_, _> = value.split(',').map(str::parse::<Port>).collect();
                details.ports = ports.map_err(|error| error.to_string())?;
            }
            "since" => {
                let at = value.parse::<jiff::Timestamp>().map_err(|_| wrong("an instant in RFC 3339"))?;
                details.since = Some(Timestamp::from_micros(at.as_microsecond()));
            }
            "times" => details.times = Some(value.parse().map_err(|_| wrong("a number of bans"))?),
            _ => {
                return Err(format!(
                    "unknown key in `{}`; valid keys: jail, ports, since, times",
                    plain(word)
                ));
            }
        }
    }
    Ok(details)
}

impl Columns {
    fn read<'l>(&self, line: &'l str) -> Result<ListLine<'l>, String> {
        let mut fields = fields(line)?;
        if fields.len() != self.count {
            return Err(format!("it has {} values, and the heading {}", fields.len(), self.count));
        }
        let field = |at: Option<usize>| at.and_then(|at| fields.get(at)).map_or("", |field| field.trim());
        let action = field(self.action);
        if !action.is_empty() && !action.eq_ignore_ascii_case("ban") {
            return Ok(ListLine::Other(action.to_ascii_lowercase()));
        }
        if field(self.simulated).eq_ignore_ascii_case("true") {
            return Ok(ListLine::Other("simulated".to_owned()));
        }
        let address = field(Some(self.address));
        // As CrowdSec writes it: `Ip:192.0.2.1`, `Range:192.0.2.0/24`, `Country:AQ`.
        let offender = match (address.parse::<Offender>(), address.split_once(':')) {
            (Ok(offender), _) => offender,
            (Err(_), Some((scope, of))) if ["ip", "range"].contains(&&*scope.to_ascii_lowercase()) => {
                of.parse().map_err(|error| format!("{error}"))?
            }
            (Err(_), Some((scope, _))) if scope.chars().all(char::is_alphabetic) => {
                return Ok(ListLine::Other(scope.to_lowercase()));
            }
            (Err(error), _) => return Err(error.to_string()),
        };
        let end = end(field(self.end))?;
        let reason = self.reason.and_then(|at| fields.get_mut(at)).map(std::mem::take).unwrap_or_default();
        Ok(ListLine::Ban { offender, end, reason, details: None })
    }
}

/// The values of a line of CSV (RFC 4180). One that goes over the end of its line is a fault.
fn fields(line: &str) -> Result<Vec<Cow<'_, str>>, String> {
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let quoted = rest.trim_start().strip_prefix('"');
        let (field, after) = match quoted {
            Some(quoted) => {
                // Two quotation marks are one in the text.
                let mut pairs = quoted.match_indices('"').map(|(at, _)| at).peekable();
                let end = loop {
                    let Some(at) = pairs.next() else {
                        return Err("a quotation mark is not closed".to_owned());
                    };
                    if pairs.next_if_eq(&(at + 1)).is_none() {
                        break at;
                    }
                };
                let (text, after) = quoted.split_at(end);
                let text = if text.contains('"') { text.replace("\"\"", "\"").into() } else { text.into() };
                let after = after.trim_start_matches('"').trim_start();
                match after.strip_prefix(',') {
                    Some(more) => (text, Some(more)),
                    None if after.is_empty() => (text, None),
                    None => return Err("something follows a quoted value".to_owned()),
                }
            }
            None => match rest.split_once(',') {
                Some((text, more)) => (text.into(), Some(more)),
                None => (rest.into(), None),
            },
        };
        fields.push(field);
        match after {
            Some(more) => rest = more,
            None => return Ok(fields),
        }
    }
}

/// When a ban ends: a length such as `3h59m57s` or `7d`, an instant in RFC 3339, `forever`, or nothing.
fn end(text: &str) -> Result<ListedEnd, String> {
    let text = text.trim();
    match text {
        "" => return Ok(ListedEnd::Unsaid),
        "forever" => return Ok(ListedEnd::Never),
        _ if text.starts_with('-') => return Ok(ListedEnd::Over),
        _ => {}
    }
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Ok(ListedEnd::At(Timestamp::from_micros(at.as_microsecond())));
    }
    // Go writes parts of a second: `2m53.949221341s`.
    let whole = text.split_once('.').filter(|(_, part)| {
        part.strip_suffix('s').is_some_and(|part| part.bytes().all(|byte| byte.is_ascii_digit()))
    });
    let whole = whole.map_or(Cow::from(text), |(whole, _)| format!("{whole}s").into());
    match parse_span(&whole) {
        Some(Span::ZERO) => Ok(ListedEnd::Over),
        Some(span) => Ok(ListedEnd::After(span)),
        None => Err(format!(
            "`{}` is not a time; write `10m`, `3h59m57s`, `2026-11-24T08:00:00Z` or `forever`",
            plain(text)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ban(offender: &str, end: ListedEnd, reason: &'static str) -> Result<ListLine<'static>, String> {
        Ok(ListLine::Ban { offender: offender.parse().unwrap(), end, reason: reason.into(), details: None })
    }

    #[track_caller]
    fn check(form: &ListForm, lines: &[(&str, Result<ListLine<'_>, String>)]) {
        for (line, want) in lines {
            assert_eq!(form.read(line), *want, "{line}");
        }
    }

    fn wrong(what: &str) -> Result<ListLine<'static>, String> {
        Err(what.to_owned())
    }

    #[test]
    fn a_plain_line_is_an_address_with_an_end_and_a_comment() {
        use ListedEnd::{After, At, Never, Over, Unsaid};
        let secs = Span::from_secs;
        check(
            &ListForm::of("192.0.2.1 # a, b").unwrap(),
            &[
                ("192.0.2.1", ban("192.0.2.1", Unsaid, "")),
                (" 192.0.2.0/24 ; SBL1 # x", ban("192.0.2.0/24", Unsaid, "SBL1 # x")),
                ("2001:db8::1\t1h 30m # scan", ban("2001:db8::1", After(secs(5400)), "scan")),
                ("192.0.2.1 3600", ban("192.0.2.1", After(secs(3600)), "")),
                ("192.0.2.1 0s", ban("192.0.2.1", Over, "")),
                ("192.0.2.1 forever", ban("192.0.2.1", Never, "")),
                (
                    "192.0.2.1 2023-11-14T22:13:20Z",
                    ban("192.0.2.1", At(Timestamp::from_secs(1_700_000_000)), ""),
                ),
                (
                    "192.0.2.1 soon",
                    wrong(
                        "`soon` is not a time; write `10m`, `3h59m57s`, `2026-11-24T08:00:00Z` or `forever`",
                    ),
                ),
                (
                    "192.0.2.1-192.0.2.9",
                    wrong(
                        "`192.0.2.1-192.0.2.9` is not an address or prefix; write `192.0.2.1`, `192.0.2.0/24` or \
                         `2001:db8::/32`",
                    ),
                ),
            ],
        );
        assert!(["", "  ", "# x", " ; y"].iter().all(|line| is_blank(line)) && !is_blank("x # y"));
    }

    #[test]
    fn an_exported_line_says_more() {
        let details = |details| {
            let end = ListedEnd::At(Timestamp::from_secs(1_700_000_000));
            let offender = "192.0.2.1".parse().unwrap();
            Ok(ListLine::Ban { offender, end, reason: "x=y".into(), details: Some(Box::new(details)) })
        };
        let all = BanDetails {
            jail: Some("sshd".to_owned()),
            ports: vec!["22/tcp".parse().unwrap(), "53/udp".parse().unwrap()],
            since: Some(Timestamp::from_micros(1_600_000_000_123_456)),
            times: Some(7),
        };
        let keys = "jail=sshd ports=22/tcp,53/udp since=2020-09-13T12:26:40.123456Z times=7";
        let end = "2023-11-14T22:13:20Z";
        check(
            &ListForm::of(&format!("192.0.2.1 {keys}")).unwrap(),
            &[
                (&format!("192.0.2.1 {end} {keys} # x=y"), details(all.clone())),
                (&format!("192.0.2.1 {keys} {end} # x=y"), details(all)),
                (
                    &format!("192.0.2.1 {end} times=2 # x=y"),
                    details(BanDetails { times: Some(2), ..BanDetails::default() }),
                ),
                (
                    "192.0.2.1 jail=fleet:web1",
                    wrong("fleet:web1 has the bans of another host of the fleet, which tells them itself"),
                ),
                ("192.0.2.1 jail=a/b", wrong("`jail=a/b` is not the name of a jail")),
                ("192.0.2.1 ports=0", wrong("`0` is not a port; write `22`, `22/tcp` or `53/udp`")),
                ("192.0.2.1 since=then", wrong("`since=then` is not an instant in RFC 3339")),
                ("192.0.2.1 times=-1", wrong("`times=-1` is not a number of bans")),
                ("192.0.2.1 x=y", wrong("unknown key in `x=y`; valid keys: jail, ports, since, times")),
            ],
        );
    }

    #[test]
    fn what_cscli_prints_is_read() {
        use ListedEnd::{After, Over};
        let heading = "id,source,ip,reason,action,country,as,events_count,expiration,simulated,alert_id";
        let other = |what: &str| Ok(ListLine::Other(what.to_owned()));
        check(
            &ListForm::of(heading).unwrap(),
            &[
                (
                    "1,crowdsec,Ip:192.0.2.1,crowdsecurity/ssh-bf,ban,CN,\"4134 A, \"\"B\"\"\",7,3h59m57s,false,33",
                    ban("192.0.2.1", After(Span::from_secs(14_397)), "crowdsecurity/ssh-bf"),
                ),
                (
                    "2,cscli,Range:2001:db8::/32,\"a, \"\"b\"\"\",ban,,,1,2m53.949221341s,false,34",
                    ban("2001:db8::/32", After(Span::from_secs(173)), "a, \"b\""),
                ),
                ("3,lists,Ip:192.0.2.3,x,ban,,,0,-2m5s,false,35", ban("192.0.2.3", Over, "x")),
                ("4,crowdsec,Ip:192.0.2.4,x,captcha,,,1,1h,false,36", other("captcha")),
                ("5,crowdsec,Ip:192.0.2.5,x,ban,,,1,1h,true,37", other("simulated")),
                ("6,cscli,Country:AQ,x,ban,,,1,1h,false,38", other("country")),
                ("7,cscli,192.0.2.7", wrong("it has 3 values, and the heading 11")),
                ("8,\"cscli", wrong("a quotation mark is not closed")),
                ("9,\"cscli\"x,", wrong("something follows a quoted value")),
            ],
        );
        assert_eq!(
            ListForm::of("192.0.2.1,x"),
            Err("a heading of CSV has one of the columns ip, address, value, range, cidr, network".to_owned())
        );
    }

    #[test]
    fn nothing_in_a_line_causes_a_panic() {
        proptest::proptest!(|(line in "[-0-9a-f.:/,\";#= Tjailports\u{e9}]{0,40}", csv: bool)| {
            let form = if csv { ListForm::of("ip,until,reason").unwrap() } else { ListForm::Plain };
            let _ = form.read(&line);
            let _ = ListForm::of(&line);
        });
    }
}
