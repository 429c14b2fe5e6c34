//! Holds the grammars that come with banstream to what three other projects say of the same log lines.
//!
//! The lines are under their projects' licences, so they lie in a folder beside the checkout, or where
//! `BANSTREAM_CORPORA` says, and only their ids are here. Where there is no such
//! folder, the test says that it read nothing. Lines of public reports lie in `reported`, a folder beside that one.
//!
//! A verdict that is not ours is in one of two lists, with the reason. A line that leaves its list, because a
//! grammar got better, fails the test as much as one that belongs in it.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use banstream::entry::{Decoder, Format};
use banstream::grammar::{Found, Grammars};
use banstream::model::Timestamp;
use serde::Deserialize;

use crate::common::SHIPPED;

/// Offences to others that we let pass.
const MISSED: &[(&str, &[&str])] = &[
    (
        "a reader who knows that OpenSSH's user names have no colon can tell which address is the client's; the \
         line alone does not, so nobody is blamed",
        &["fail2ban/sshd/0056", "fail2ban/sshd-journal/0055"],
    ),
    (
        "a login that went well, after failures that count when they happen",
        &["fail2ban/sshd/0100", "fail2ban/sshd-journal/0097"],
    ),
    (
        "nginx writes paths and names as they come, so a stranger can write the rest of such a line, another \
         address included",
        &["fail2ban/nginx-botsearch/0009", "fail2ban/nginx-botsearch/0012", "fail2ban/nginx-http-auth/0006"],
    ),
    (
        "without a port, which Apache 2.4 leaves out only where it is told to, it is not plain where an IPv6 \
         address ends",
        &["fail2ban/apache-noscript/0010"],
    ),
    (
        "a knock at a page that the operator made up, to be let in; nobody is banned for it there either",
        &["fail2ban/apache-pass/0001"],
    ),
    (
        "a page that asks for a name and a password, and a client that has given none yet",
        &["sshguard/http-clf/0003"],
    ),
    (
        "an address in a query, answered with 200: logins by way of another site and link checkers look the same",
        &["fail2ban/php-url-fopen/0001"],
    ),
    (
        "a page of the site itself asks for what is not there: no honest visitor is to be banned for that",
        &["reports/nginx/0188"],
    ),
];

/// What we call an offence and others do not.
const BLAMED: &[(&str, &[&str])] = &[
    (
        "`bad-request`: connections that ask for nothing, which fail2ban counts in other modes, or with what the \
         process said before, and sshguard in other words; the jail for them wants 200 in a minute",
        &[
            "fail2ban/sshd/0067",
            "fail2ban/sshd/0137",
            "fail2ban/sshd-journal/0066",
            "sshguard/sshd/0038",
            "sshguard/sshd/0039",
            "sshguard/sshd/0040",
        ],
    ),
    (
        "`preauth-abuse`: clients that say they were refused, which sshguard leaves out; fail2ban counts such lines",
        &["sshguard/sshd/0035", "sshguard/sshd/0036", "sshguard/sshd/0044"],
    ),
    (
        "`preauth-abuse`: scanners, for detectors that report such abuse, and the right address",
        &["hostile/dev/0017", "hostile/dev/0045"],
    ),
    (
        "`not-found`, `forbidden`: no failed login, and counted by the dozen only",
        &[
            "fail2ban/apache-auth/0001",
            "fail2ban/apache-botsearch/0018",
            "fail2ban/haproxy-http-auth/0001",
            "reports/nginx/0107",
        ],
    ),
    (
        "`forgeable-auth-failure`, which no jail counts unless told to; an offence in fail2ban's normal mode too",
        &["fail2ban/traefik-auth/0002"],
    ),
];

/// What no jail counts by default, or only one that wants dozens.
const BY_THE_DOZEN: [&str; 5] = ["bad-request", "pam-failure", "preauth-abuse", "rate-limit", "throttled"];

/// A line of a log, and what its project says of it.
#[derive(Deserialize)]
struct Row {
    id: String,
    service: String,
    family: String,
    mode: Option<String>,
    line: Option<String>,
    line_b64: Option<String>,
    #[serde(rename = "match")]
    offence: Option<bool>,
    host: Option<String>,
    host_kind: Option<String>,
    /// The project had no opinion of its own.
    #[serde(default)]
    weak: bool,
    /// Addresses that the attacker wrote.
    #[serde(default)]
    must_not: Vec<String>,
    #[serde(default)]
    needs_state: bool,
    /// Nothing in the line gives the forgery away.
    #[serde(default)]
    limit: bool,
}

impl Row {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = match (&self.line, &self.line_b64) {
            (_, Some(coded)) => base64(coded),
            (line, None) => line.clone().unwrap_or_default().into_bytes(),
        };
        bytes.iter_mut().filter(|b| matches!(b, b'\n' | b'\r')).for_each(|b| *b = b' ');
        bytes
    }

    /// Whose line it is where it does not say so itself.
    fn program(&self) -> &str {
        match self.service.as_str() {
            "wuftpd" => "wu-ftpd",
            "freebsd-ftpd" => "ftpd",
            "selinux-ssh" => "audit",
            "http-clf" | "php-url-fopen" => "apache2",
            service if service.starts_with("sshd") => "sshd",
            service if service.starts_with("nginx") => "nginx",
            service if service.starts_with("apache") => "apache2",
            "traefik-auth" | "lighttpd-auth" | "haproxy-http-auth" => {
                self.service.split('-').next().unwrap_or_default()
            }
            service => service,
        }
    }

    /// The address of an offence in one line, in the mode that all have; `Some(None)` where there is no
    /// offence, `None` where there is no verdict to hold us to.
    fn verdict(&self) -> Option<Option<&str>> {
        let normal = self.mode.as_deref().is_none_or(|mode| mode == "normal");
        let host = self.host.as_deref().filter(|host| {
            let plain = matches!(self.host_kind.as_deref(), Some("ipv4" | "ipv6"));
            plain && self.line.as_ref().is_some_and(|line| line.contains(host))
        });
        match self.offence.filter(|_| !self.limit && !self.needs_state)? {
            true => host.filter(|_| normal).map(Some),
            false => (!self.weak).then_some(None),
        }
    }
}

/// What is coded; nothing is checked, the corpora are well-formed.
fn base64(text: &str) -> Vec<u8> {
    let value = |b: u8| match b {
        b'A'..=b'Z' => b - b'A',
        b'a'..=b'z' => b - b'a' + 26,
        b'0'..=b'9' => b - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let group = |four: &[u8]| {
        let bits =
            four.iter().fold(0_u32, |bits, b| bits << 6 | u32::from(value(*b))) << (6 * (4 - four.len()));
        bits.to_be_bytes()[1..four.len()].to_vec()
    };
    text.trim_end_matches('=').as_bytes().chunks(4).flat_map(group).collect()
}

/// What our grammars find.
fn found<'g>(grammars: &'g Grammars, row: &Row) -> Option<Found<'g>> {
    let (program, mut line) = (row.program().as_bytes(), row.bytes());
    let mut decoder = Decoder::new(jiff::tz::TimeZone::UTC).for_program(program);
    let entry = decoder.decode(Format::Line, &mut line, Timestamp::from_secs(1_800_000_000)).ok()?;
    let mut readers = grammars.readers(entry.program).chain(grammars.readers(program));
    let is_offence = |found: &Found<'_>| !found.is_login() && found.address().is_some();
    readers.find_map(|id| grammars.read(id, entry.message).filter(is_offence))
}

/// Whether this is the address that was found.
fn same(found: Found<'_>, address: &str) -> bool {
    address.parse::<IpAddr>().is_ok_and(|address| Some(address.to_canonical()) == found.address())
}

/// All rows of these families, in a folder and those in it.
fn rows(folder: &Path, families: &[&str]) -> Vec<Row> {
    let mut rows = Vec::new();
    for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            rows.extend(self::rows(&path, families));
        } else if name.ends_with(".jsonl") && !name.ends_with(".expect.jsonl") {
            let text = std::fs::read_to_string(&path).unwrap();
            rows.extend(text.lines().map(|line| serde_json::from_str::<Row>(line).unwrap()));
        }
    }
    rows.retain(|row| families.contains(&row.family.as_str()));
    rows
}

/// What stands on one side only: what a list lacks, and what it should not have.
fn differences<'a>(found: &BTreeSet<&'a str>, list: &[(&str, &[&'a str])]) -> (Vec<&'a str>, Vec<&'a str>) {
    let listed: BTreeSet<&str> = list.iter().flat_map(|(_, ids)| ids.iter().copied()).collect();
    (found.difference(&listed).copied().collect(), listed.difference(found).copied().collect())
}

/// Where the corpora lie; `None`, and a word about it, if they are absent.
fn folder() -> Option<PathBuf> {
    let named = std::env::var_os("BANSTREAM_CORPORA").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpora");
    if named.is_none() && !beside.is_dir() {
        // Written past the harness, which shows no word of a test that passes.
        let what = format!("corpora: NOTHING WAS READ, `{}` is absent\n", beside.display());
        std::io::stderr().write_all(what.as_bytes()).unwrap();
    }
    named.or_else(|| beside.is_dir().then_some(beside))
}

/// What our grammars say of rows that have a verdict.
#[derive(Default)]
struct Score<'r> {
    right: usize,
    missed: BTreeSet<&'r str>,
    blamed: BTreeSet<&'r str>,
    /// Those of the blamed that a jail counts one by one.
    banned: BTreeSet<&'r str>,
    /// Rows in which somebody else is blamed.
    others: Vec<&'r str>,
}

impl<'r> Score<'r> {
    fn of(rows: &'r [Row]) -> Self {
        let mut score = Self::default();
        for row in rows {
            let (id, found) = (row.id.as_str(), found(&SHIPPED.grammars, row));
            if !row.limit && found.is_some_and(|found| row.must_not.iter().any(|decoy| same(found, decoy))) {
                score.others.push(id);
            }
            match (row.verdict(), found) {
                (Some(Some(host)), Some(found)) if same(found, host) => score.right += 1,
                (Some(Some(_)), Some(_)) => score.others.push(id),
                (Some(Some(_)), None) => drop(score.missed.insert(id)),
                (Some(None), Some(found)) => {
                    score.blamed.insert(id);
                    if !BY_THE_DOZEN.contains(&found.category()) {
                        score.banned.insert(id);
                    }
                }
                (Some(None) | None, _) => {}
            }
        }
        score
    }

    fn offences(&self) -> usize {
        self.right + self.missed.len()
    }
}

#[test]
fn what_others_call_an_offence_is_one_and_nobody_else_is_blamed() {
    let Some(folder) = folder() else { return };
    let families = ["ssh", "http", "ftp"];
    let reported = folder.join("../reported");
    let mut rows = rows(&folder, &families);
    if reported.is_dir() {
        rows.extend(self::rows(&reported, &families));
    }
    let score = Score::of(&rows);
    assert!(score.others.is_empty(), "somebody else is blamed: {:?}", score.others);
    assert_eq!(differences(&score.missed, MISSED), (vec![], vec![]), "missed, and no more missed");
    assert_eq!(differences(&score.blamed, BLAMED), (vec![], vec![]), "blamed, and no more blamed");
    let (right, offences) = (score.right, score.offences());
    assert!(right > 300 && right * 100 >= offences * 97, "{right} of {offences} offences");
    println!("{right} of {offences} offences found, {} lines blamed", score.blamed.len());
}

#[test]
fn of_other_services_most_offences_are_found_and_nobody_else_is_blamed() {
    let Some(folder) = folder() else { return };
    let rows = rows(&folder, &["mail", "db", "dns", "voip", "webapp", "remote", "system", "scan"]);
    let score = Score::of(&rows);
    assert!(score.others.is_empty(), "somebody else is blamed: {:?}", score.others);
    assert!(score.banned.len() <= 5, "blamed: {:?}", score.banned);
    let (right, offences) = (score.right, score.offences());
    assert!(right > 1_000 && right * 100 >= offences * 90, "{right} of {offences}, not {:?}", score.missed);
}
