//! Runs a filter as fail2ban does, on single lines that were made to compare it with the rules that it became. This is the one
//! place where a regular expression runs, with a bound on its steps; the daemon runs none.

use std::cell::Cell;
use std::net::IpAddr;

use fancy_regex::{Captures, Regex, RegexBuilder};

use super::filter::FilterRegexes;
use super::regex::{HEADER, Obstacle};

/// Steps of one search, searches, and bytes of a compiled part, and no more.
const MOST_STEPS: usize = 50_000;
const MOST_SEARCHES: usize = 50_000;
const LARGEST: usize = 1 << 20;

/// A filter that can be run.
#[derive(Debug)]
pub(super) struct FilterPattern {
    prefix: Option<Regex>,
    /// What makes a line an offence; why not where one cannot be run.
    fail: Vec<Result<FailPattern, Obstacle>>,
    ignore: Vec<Regex>,
    /// How many searches are left.
    left: Cell<usize>,
}

#[derive(Debug)]
struct FailPattern {
    regex: Regex,
    /// Whether it marks lines that are not offences by themselves.
    is_no_failure: bool,
}

/// What a filter finds in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FilterVerdict {
    /// Nothing.
    Nothing,
    /// A failure of this address.
    Failure(IpAddr),
    /// A search took too many steps, or there were too many.
    TooSlow,
}

impl FilterPattern {
    /// # Errors
    ///
    /// The construct that stands in the way, in what concerns all lines.
    pub(super) fn new(filter: &FilterRegexes, is_file: bool) -> Result<Self, Obstacle> {
        let compiled = |text: &String| compiled(text, &filter.header, is_file);
        let fail = |text: &String| {
            let is_no_failure = text.contains("<F-NOFAIL>") || text.contains("<F-MLFGAINED>");
            compiled(text).map(|regex| FailPattern { regex, is_no_failure })
        };
        Ok(Self {
            prefix: filter.prefix.as_ref().map(compiled).transpose()?,
            fail: filter.fail.iter().map(fail).collect(),
            ignore: filter.ignore.iter().map(compiled).collect::<Result<_, _>>()?,
            left: Cell::new(MOST_SEARCHES),
        })
    }

    /// Why one of its regular expressions cannot be run.
    pub(super) fn obstacle(&self, nth: usize) -> Option<&Obstacle> {
        self.fail.get(nth)?.as_ref().err()
    }

    /// What it finds in a line of which the date was cut out. `likely` is the regular expression that is tried first; the
    /// others are, if that does not find `expected`.
    pub(super) fn find(&self, line: &str, likely: usize, expected: IpAddr) -> FilterVerdict {
        let line = format!("{line}\n");
        match self.search(&line, likely, expected) {
            Some(verdict) => verdict,
            None => FilterVerdict::TooSlow,
        }
    }

    /// `None` if that was too slow.
    fn search(&self, line: &str, likely: usize, expected: IpAddr) -> Option<FilterVerdict> {
        // The prefix may have the address.
        let (mut content, mut before) = (None, None);
        if let Some(prefix) = &self.prefix {
            let Some(found) = prefix.captures(line).ok()? else { return Some(FilterVerdict::Nothing) };
            content = found.name("content").map(|found| format!("{}\n", found.as_str()));
            before = address(&found);
        }
        let line = content.as_deref().unwrap_or(line);
        for ignored in &self.ignore {
            if ignored.is_match(line).ok()? {
                return Some(FilterVerdict::Nothing);
            }
        }
        if let Some(Ok(first)) = self.fail.get(likely)
            && first.found(line, before)? == Some(expected)
        {
            return Some(FilterVerdict::Failure(expected));
        }
        for pattern in self.fail.iter().flatten() {
            self.left.set(self.left.get().checked_sub(1)?);
            if pattern.is_no_failure {
                if pattern.regex.is_match(line).ok()? {
                    return Some(FilterVerdict::Nothing);
                }
            } else if let Some(address) = pattern.found(line, before)? {
                return Some(FilterVerdict::Failure(address));
            }
        }
        Some(FilterVerdict::Nothing)
    }
}

impl FailPattern {
    /// The address that it finds, or else the one before it, if any; `None` if that took too many steps.
    fn found(&self, line: &str, before: Option<IpAddr>) -> Option<Option<IpAddr>> {
        Some(self.regex.captures(line).ok()?.and_then(|found| address(&found).or(before)))
    }
}

fn address(found: &Captures<'_, str>) -> Option<IpAddr> {
    let named = |name: &str| found.name(name).and_then(|found| found.as_str().parse::<IpAddr>().ok());
    (0..MOST_HOSTS)
        .flat_map(|nth| [format!("ip4_{nth}"), format!("ip6_{nth}")])
        .chain(["host", "ip4", "ip6", "addr", "ip"].map(str::to_owned))
        .find_map(|name| named(&name))
        .map(|address| address.to_canonical())
}

/// Addresses in a regular expression that are looked at.
const MOST_HOSTS: usize = 8;

fn compiled(text: &str, header: &str, is_file: bool) -> Result<Regex, Obstacle> {
    let marked = HEADER.to_string();
    let text = if header.is_empty() { text.to_owned() } else { text.replace(header, &marked) };
    let text = translated(&text, is_file)?;
    let mut builder = RegexBuilder::new(&text);
    builder.backtrack_limit(MOST_STEPS).delegate_size_limit(LARGEST).max_prog_size(MOST_STEPS);
    builder.build().map_err(|error| format!("it cannot be run here: {error}"))
}

const IPV4: &str = r"(?:\d{1,3}\.){3}\d{1,3}";
const IPV6: &str = r"(?:[0-9a-fA-F]{1,4}::?|::){1,7}(?:[0-9a-fA-F]{1,4}|(?<=:):)";

/// Python's regular expression with fail2ban's tags, as the engine here writes it. Names are not looked for in the place of an
/// address, as with `usedns = no`.
///
/// # Errors
///
/// What it has no counterpart for.
fn translated(text: &str, is_file: bool) -> Result<String, Obstacle> {
    let mut translator = Translator { rest: text, text: String::new(), hosts: 0, tags: Vec::new(), is_file };
    while let Some(c) = translator.next() {
        translator.step(c)?;
    }
    Ok(translator.text)
}

struct Translator<'t> {
    rest: &'t str,
    text: String,
    /// How many addresses there were.
    hosts: usize,
    /// The tags that are open.
    tags: Vec<&'t str>,
    is_file: bool,
}

impl<'t> Translator<'t> {
    fn next(&mut self) -> Option<char> {
        let first = self.rest.chars().next()?;
        self.rest = self.rest.get(first.len_utf8()..)?;
        Some(first)
    }

    fn take(&mut self, text: &str) -> bool {
        let rest = self.rest.strip_prefix(text);
        rest.into_iter().for_each(|rest| self.rest = rest);
        rest.is_some()
    }

    fn plain(&mut self, c: char) {
        self.text += if r"\.+*?()|[]{}^$#&-~".contains(c) { "\\" } else { "" };
        self.text.push(c);
    }

    fn step(&mut self, c: char) -> Result<(), Obstacle> {
        match c {
            // fail2ban's text ends with a line break.
            '$' => self.text += r"(?=\n?\z)",
            // In files, the host and the program, or what else stands before a message.
            HEADER if self.is_file => self.text += r"(?:\[\]\s*)?(?:\[\S*?\]\s*){0,2}?\s*(?:\S+\s+){0,2}?",
            HEADER => self.text += r"\s*",
            '\\' => self.escape(false)?,
            '[' => self.class()?,
            '(' => self.group()?,
            '<' => self.tag()?,
            '{' => self.braces(),
            '}' | ']' => self.plain(c),
            other => self.text.push(other),
        }
        Ok(())
    }

    fn escape(&mut self, is_class: bool) -> Result<(), Obstacle> {
        match self.next().ok_or("it ends with a `\\`")? {
            'Z' if !is_class => self.text += r"\z",
            c @ '0'..='9' => return Err(format!("a back reference `\\{c}`")),
            'b' if is_class => self.text += r"\x08",
            c if c.is_ascii_alphabetic() => self.text.extend(['\\', c]),
            c => self.plain(c),
        }
        Ok(())
    }

    fn class(&mut self) -> Result<(), Obstacle> {
        self.text.push('[');
        if self.take("^") {
            self.text.push('^');
        }
        let mut is_first = true;
        loop {
            match self.next().ok_or("a `[` that is not closed")? {
                ']' if !is_first => break,
                '\\' => self.escape(true)?,
                // Between characters it is a range; before a class or the end it is itself.
                '-' if !is_first
                    && !self.rest.starts_with(']')
                    && !["\\d", "\\w", "\\s"].iter().any(|class| self.rest.starts_with(class))
                    && !["\\d", "\\w", "\\s"].iter().any(|class| self.text.ends_with(class)) =>
                {
                    self.text.push('-');
                }
                c => self.plain(c),
            }
            is_first = false;
        }
        self.text.push(']');
        Ok(())
    }

    fn group(&mut self) -> Result<(), Obstacle> {
        if self.take("?#") {
            self.rest = self.rest.split_once(')').map_or("", |(_, rest)| rest);
        } else if self.take("?(") {
            let (name, rest) = self.rest.split_once(')').ok_or("a `(` that is not closed")?;
            self.rest = rest;
            self.text += &match name.parse::<u32>() {
                Ok(number) => format!("(?({number})"),
                Err(_) => format!("(?(<{name}>)"),
            };
        } else {
            self.text.push('(');
            // The names of groups are not tags.
            for opening in ["?P<", "?<=", "?<!"] {
                if self.take(opening) {
                    self.text += opening;
                }
            }
        }
        Ok(())
    }

    /// A number of repetitions, or text.
    fn braces(&mut self) {
        let inside = self.rest.split_once('}').map_or("", |(inside, _)| inside);
        let (least, most) = inside.split_once(',').unwrap_or((inside, ""));
        let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if inside.is_empty() || !is_number(least) || !is_number(most) {
            return self.plain('{');
        }
        self.text += if least.is_empty() { "{0" } else { "{" };
        self.text += inside;
        self.text.push('}');
        self.rest = self.rest.get(inside.len() + 1..).unwrap_or_default();
    }

    /// A tag, after its `<`.
    fn tag(&mut self) -> Result<(), Obstacle> {
        let name = self.rest.split_once('>').map_or("", |(name, _)| name);
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-_/".contains(c);
        if name.is_empty() || !name.chars().all(is_name) {
            self.plain('<');
            return Ok(());
        }
        let (nth, after) = (self.hosts, self.rest.get(name.len() + 1..).unwrap_or_default());
        let (ip4, ip6) = (format!("(?:::f{{4,6}}:)?(?P<ip4_{nth}>{IPV4})"), format!("(?P<ip6_{nth}>{IPV6})"));
        match name {
            "HOST" | "ADDR" | "F-ADDR/" => self.text += &format!(r"\[?(?:{ip4}|{ip6})\]?"),
            "SUBNET" | "F-SUBNET/" => self.text += &format!(r"\[?(?:{ip4}|{ip6})(?:/\d+)?\]?"),
            "IP4" | "F-IP4/" => self.text += &ip4,
            "IP6" | "F-IP6/" => self.text += &ip6,
            "CIDR" | "F-CIDR/" => self.text += r"\d+",
            "F-PORT/" => self.text += r"\w+",
            "DNS" | "F-DNS/" | "F-ID/" | "SKIPLINES" => return Err(format!("`<{name}>`")),
            _ => match (name.strip_prefix("F-"), name.strip_prefix("/F-")) {
                (Some(open), _) if !open.contains('/') => {
                    self.tags.push(open);
                    self.text += &format!("(?P<{}>", open.to_lowercase().replace('-', "_"));
                }
                (_, Some(close)) if self.tags.contains(&close) => self.text.push(')'),
                _ => {
                    self.plain('<');
                    return Ok(());
                }
            },
        }
        self.hosts += 1;
        self.rest = after;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn python_is_translated() {
        #[track_caller]
        fn check(fail: &str, line: &str, want: Option<&str>) {
            let filter = FilterRegexes { fail: vec![fail.to_owned()], ..FilterRegexes::default() };
            let pattern = FilterPattern::new(&filter, true).unwrap();
            assert_eq!(pattern.obstacle(0), None, "{fail}");
            let found = pattern.find(line, 0, IpAddr::from([0; 4]));
            let want =
                want.map_or(FilterVerdict::Nothing, |want| FilterVerdict::Failure(want.parse().unwrap()));
            assert_eq!(found, want, "{fail}: {line}");
        }
        let v4 = Some("192.0.2.1");
        check("^a <HOST>$", "a 192.0.2.1", v4);
        check("^a <HOST>$", "a 192.0.2.1 ", None);
        check(r"^a <HOST>\s*\Z", "a [2001:db8::1]", Some("2001:db8::1"));
        check(r"^a <HOST>\s", "a ::ffff:192.0.2.1", v4);
        check("(?i)A [[]<ADDR>[]]", "a [192.0.2.1]", v4);
        check(r#"^\{"ip":\ "<HOST>",\<{1,2}x{y}"#, r#"{"ip": "192.0.2.1",<x{y}"#, v4);
        check(r"[\w\-.+-\d&&~~]+@<HOST>", "a-b.c@192.0.2.1", v4);
        check("(?P<q>['\"])x(?P=q) <IP4>", "'x' 192.0.2.1", v4);
        check("(?P<q>['\"])x(?P=q) <IP4>", "'x\" 192.0.2.1", None);
        check("^(?P<x>a)?(?(x)b|c) <HOST>", "c 192.0.2.1", v4);
        check("^<F-USER>\\S+</F-USER>(?<!b) (?!x)<b> <HOST>", "a <b> 192.0.2.1", v4);
        check("^<F-USER>\\S+</F-USER>(?<!b) <b> <HOST>", "b <b> 192.0.2.1", None);
    }

    #[test]
    fn a_filter_finds_as_fail2ban_does() {
        let texts = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let filter = FilterRegexes {
            prefix: Some("^p: <F-CONTENT>.+</F-CONTENT>$".to_owned()),
            fail: texts(&["^<F-NOFAIL>well</F-NOFAIL> <HOST>", "<HOST> (?:fails|a*a*a*a*a*a*b)$"]),
            ignore: texts(&["calm"]),
            ..FilterRegexes::default()
        };
        let pattern = FilterPattern::new(&filter, true).unwrap();
        let address = "192.0.2.1".parse().unwrap();
        let find = |line: &str| pattern.find(line, 1, address);
        assert_eq!(find("p: x 192.0.2.1 fails"), FilterVerdict::Failure(address));
        assert_eq!(find("p: x 192.0.2.2 fails"), FilterVerdict::Failure("192.0.2.2".parse().unwrap()));
        let in_prefix = FilterRegexes {
            prefix: Some("^p <HOST>: <F-CONTENT>.+</F-CONTENT>$".to_owned()),
            fail: texts(&["^fails$"]),
            ..FilterRegexes::default()
        };
        let in_prefix = FilterPattern::new(&in_prefix, true).unwrap();
        assert_eq!(in_prefix.find("p 192.0.2.1: fails", 0, address), FilterVerdict::Failure(address));
        for line in ["x 192.0.2.1 fails", "p: calm 192.0.2.1 fails", "p: well 192.0.2.2 fails"] {
            assert_eq!(find(line), FilterVerdict::Nothing, "{line}");
        }
    }
}
