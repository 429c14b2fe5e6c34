//! Shapes for programs that log objects of JSON or `key=value`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::super::template::addresses;
use super::kind::{self, FAILS};
use super::token::{Class, tokens};

/// A line by its keys, which are written as in a shape.
pub(super) type SampleRecord = BTreeMap<String, String>;

/// What a shape for lines could be.
#[derive(Debug)]
pub(super) struct SampleShape {
    /// Its lines, without indentation.
    pub(super) lines: Vec<String>,
    /// The conditions, each with how many lines it holds for.
    pub(super) conditions: Vec<(u64, String)>,
    /// The address in each line, where the line is an offence.
    pub(super) offences: Vec<Option<IpAddr>>,
    pub(super) note: String,
    pub(super) category: &'static str,
}

/// The format's name, and the lines by key, if each of them is an object of JSON, or `key=value` throughout.
pub(super) fn records(lines: &[&str]) -> Option<(&'static str, Vec<SampleRecord>)> {
    let all = |read: fn(&str) -> Option<SampleRecord>| {
        lines.iter().map(|line| read(line)).collect::<Option<Vec<_>>>()
    };
    all(json).map(|records| ("json", records)).or_else(|| Some(("logfmt", all(logfmt)?)))
}

fn json(line: &str) -> Option<SampleRecord> {
    let object: serde_json::Value = serde_json::from_str(line).ok().filter(serde_json::Value::is_object)?;
    let mut record = SampleRecord::new();
    flatten(&object, "", &mut record);
    Some(record)
}

fn flatten(value: &serde_json::Value, key: &str, record: &mut SampleRecord) {
    let text = match value {
        serde_json::Value::Object(object) => {
            for (name, value) in object {
                let mut path = key.to_owned();
                path += if key.is_empty() { "" } else { "." };
                for c in name.chars() {
                    path.extend(matches!(c, '.' | '=' | '"' | '\\').then_some('\\'));
                    path.push(c);
                }
                flatten(value, &path, record);
            }
            return;
        }
        serde_json::Value::Array(_) | serde_json::Value::Null => return,
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    record.insert(key.to_owned(), text);
}

/// `key=value` throughout, at least three of them.
fn logfmt(line: &str) -> Option<SampleRecord> {
    let mut record = SampleRecord::new();
    let mut rest = line.trim();
    while !rest.is_empty() {
        let (key, value) = rest.split_once('=')?;
        if key.is_empty() || key.contains([' ', ',', '"', '{']) {
            return None;
        }
        let (text, after) = match value.strip_prefix('"') {
            Some(quoted) => {
                let mut escaped = false;
                let end = quoted.find(|c| {
                    let ends = c == '"' && !escaped;
                    escaped = c == '\\' && !escaped;
                    ends
                })?;
                (quoted.get(..end)?.replace("\\\"", "\""), quoted.get(end + 1..)?)
            }
            None => {
                let end = value.find(' ').unwrap_or(value.len());
                (value.get(..end)?.trim_end_matches(',').to_owned(), value.get(end..)?)
            }
        };
        record.insert(key.to_owned(), text);
        rest = after.trim_start_matches([' ', ',']);
    }
    (record.len() >= 3).then_some(record)
}

/// The last part of a key.
fn last(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

/// Keys of what happened, the most telling first.
const TELLING: &[&str] =
    &["message", "msg", "error", "event", "reason", "err", "action", "outcome", "result", "type", "status"];

/// Keys of the status of an answer.
const STATUSES: &[&str] = &["status", "statuscode", "responsecode", "downstreamstatus", "code", "httpstatus"];

fn bare(key: &str) -> String {
    last(key).to_ascii_lowercase().replace(['_', '-'], "")
}

fn fails(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    FAILS.iter().any(|word| text.contains(word))
}

/// The address that a value is, perhaps with a port.
fn peer(text: &str) -> Option<IpAddr> {
    let (place, address) = addresses(text).next()?;
    let behind = text.get(place.end..)?;
    let port = behind.strip_prefix(']').unwrap_or(behind).strip_prefix(':');
    let whole = matches!(place.start, 0 | 1) && text.get(..place.start)?.trim_start_matches('[').is_empty();
    let ends =
        matches!(behind, "" | "]") || port.is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
    (whole && ends).then_some(address)
}

/// A shape for the lines, if some of them are offences.
pub(super) fn shape(records: &[SampleRecord]) -> Option<SampleShape> {
    let access = status_key(records);
    // What says of each line that it is an offence: a key, and how its value begins.
    let says = |record: &SampleRecord| -> Option<(String, String)> {
        if let Some(key) = &access {
            let status = record.get(key)?;
            return status.starts_with('4').then(|| (key.clone(), status.clone()));
        }
        let telling = |key: &&str| {
            record.iter().find(|(path, text)| last(path).eq_ignore_ascii_case(key) && fails(text))
        };
        TELLING.iter().find_map(telling).map(|(key, text)| (key.clone(), text.clone()))
    };
    let said: Vec<Option<(String, String)>> = records.iter().map(says).collect();
    let offences = || records.iter().zip(&said).filter(|(_, said)| said.is_some()).map(|(record, _)| record);
    offences().next()?;
    // The address: of a key that is an address in each offence, else in what is said.
    let mut keys: Vec<(i32, &String)> = offences()
        .next()?
        .keys()
        .filter(|key| offences().all(|record| record.get(*key).is_some_and(|text| peer(text).is_some())))
        .map(|key| (kind::judge(&format!("{}=", last(key))).0, key))
        .collect();
    keys.retain(|(score, _)| *score > -2);
    keys.sort_by_key(|(score, _)| -score);
    let several = keys.len();
    let (_, address_key) = keys.first()?;
    let with_port =
        offences().any(|record| record.get(*address_key).is_some_and(|text| text.parse::<IpAddr>().is_err()));
    let mut lines = vec![format!("{address_key} = {}", if with_port { "<peer>" } else { "<ip>" })];
    let note = match several {
        1 => String::new(),
        several => format!("; of {several} addresses, this uses `{address_key}`"),
    };
    let mut conditions: Vec<(u64, String)> = Vec::new();
    let mut named: Vec<(String, String)> = Vec::new();
    for (key, _) in said.iter().flatten() {
        if !named.iter().any(|(known, _)| known == key) {
            let mut name: String = last(key).chars().filter(|c| c.is_ascii_alphanumeric()).collect();
            if name.is_empty()
                || matches!(&*name, "user" | "ip")
                || named.iter().any(|(_, known)| *known == name)
            {
                name = format!("said{}", named.len() + 1);
            }
            let kind = if access.is_some() { "num" } else { "text" };
            lines.push(format!("{key} = <{name}:{kind}>"));
            named.push((key.clone(), name));
        }
    }
    let is_user = |key: &&String| {
        matches!(&*bare(key), "user" | "username" | "login" | "account" | "email" | "loginname")
    };
    let user = records.iter().flat_map(|record| record.keys()).find(|key| {
        is_user(key)
            && !named.iter().any(|(known, _)| known == *key)
            && offences().any(|record| {
                record.get(*key).is_some_and(|text| text.contains(|c: char| c.is_alphanumeric()))
            })
    });
    lines.extend(user.map(|user| format!("{user} = <user>")));
    if let (Some(_), Some((_, name))) = (&access, named.first()) {
        let mut statuses: Vec<&str> = said.iter().flatten().map(|(_, status)| &**status).collect();
        statuses.sort_unstable();
        statuses.dedup();
        if statuses.iter().any(|status| matches!(*status, "401" | "403")) {
            statuses.retain(|status| matches!(*status, "401" | "403"));
        }
        conditions.push((0, format!("{name} is {}", statuses.join(" "))));
    } else {
        let harmless: Vec<&SampleRecord> =
            records.iter().zip(&said).filter(|(_, said)| said.is_none()).map(|(record, _)| record).collect();
        for (key, text) in said.iter().flatten() {
            let name = named.iter().find(|(known, _)| known == key).map_or("message", |(_, name)| name);
            let misleads = |start: &str| {
                harmless.iter().any(|record| record.get(key).is_some_and(|text| text.starts_with(start)))
            };
            let all: Vec<&str> =
                said.iter().flatten().filter(|(other, _)| other == key).map(|(_, text)| &**text).collect();
            let start = beginning(text, &all, misleads);
            let how = if start == *text { "is" } else { "starts" };
            let condition = format!("{name} {how} \"{}\"", start.replace('\\', "\\\\").replace('"', "\\\""));
            match conditions.iter_mut().find(|(_, known)| *known == condition) {
                Some((times, _)) => *times += 1,
                None => conditions.push((1, condition)),
            }
        }
        let all = conditions.clone();
        conditions.retain(|(_, condition)| {
            // `message starts "Login failed"` holds where `message is "Login failed"` does.
            !all.iter().any(|(_, other)| other != condition && begins(condition, other))
        });
    }
    let address = |record: &SampleRecord| peer(record.get(*address_key)?);
    let counts = |said: &Option<(String, String)>| match (said, &access) {
        (Some((_, status)), Some(_)) => conditions.iter().any(|(_, condition)| condition.contains(&**status)),
        (said, _) => said.is_some(),
    };
    let offences =
        records.iter().zip(&said).map(|(record, said)| address(record).filter(|_| counts(said))).collect();
    let is_probe = |(_, condition): &(u64, String)| !condition.contains("401") && !condition.contains("403");
    let category = if access.is_some() && conditions.iter().all(is_probe) { "probe" } else { "auth-failure" };
    Some(SampleShape { lines, conditions, offences, note, category })
}

/// Whether a condition holds only where another, of which a text begins alike, does.
fn begins(condition: &str, other: &str) -> bool {
    let text =
        |condition: &str| condition.split_once('"').map(|(_, text)| text.trim_end_matches('"').to_owned());
    let field = |condition: &str| condition.split(' ').next().map(str::to_owned);
    field(condition) == field(other)
        && other.contains(" starts ")
        && text(condition).zip(text(other)).is_some_and(|(one, other)| one.starts_with(&other))
}

/// The key of the status of an answer, if some of the lines report a request that was refused.
fn status_key(records: &[SampleRecord]) -> Option<String> {
    let is_status = |text: &String| matches!(text.as_bytes(), [b'1'..=b'5', b'0'..=b'9', b'0'..=b'9']);
    let asks = |record: &SampleRecord| {
        record
            .keys()
            .any(|key| matches!(&*bare(key), "method" | "requestmethod" | "uri" | "path" | "request"))
    };
    let key = records
        .iter()
        .flat_map(|record| record.iter())
        .find(|(key, text)| STATUSES.contains(&&*bare(key)) && is_status(text))?
        .0;
    let refused = records
        .iter()
        .any(|record| asks(record) && record.get(key).is_some_and(|text| text.starts_with('4')));
    refused.then(|| key.clone())
}

/// How a text begins that says that something failed: up to the word that does, and further if harmless texts begin so
/// too.
fn beginning(text: &str, all: &[&str], misleads: impl Fn(&str) -> bool) -> String {
    let tokens = tokens(text);
    let value = tokens.iter().find(|token| !token.class.is_text());
    let limit = value.map_or(text.len(), |token| token.place.start);
    let constant = all.iter().all(|other| *other == text) && all.len() > 1
        || value.is_none() && !text.contains([':', '(', '"']);
    let ends = tokens
        .iter()
        .filter(|token| token.class == Class::Word && token.place.end <= limit)
        .map(|token| token.place.end);
    let failing = ends.clone().find(|end| text.get(..*end).is_some_and(fails));
    let cut = |end: usize| text.get(..end).unwrap_or_default().trim_end().to_owned();
    if constant && text.len() < 100 && all.iter().filter(|other| **other == text).count() > 1 {
        return text.to_owned();
    }
    // A word alone says little.
    let enough = failing.map(|failing| {
        ends.clone().find(|end| *end > failing).filter(|_| !cut(failing).contains(' ')).unwrap_or(failing)
    });
    let short = enough.map(cut).filter(|start| !misleads(start));
    short.unwrap_or_else(|| cut(if limit > 0 { limit } else { text.len() }))
}
