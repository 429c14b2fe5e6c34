//! fail2ban's words, and what each is here: one table for contrib/fail2ban.md, `banstream import`, `banstream compat`, and
//! the hints of `check`, `run` and the command line. It is data, and knows nothing of the rest.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod actions;
mod commands;
mod conditions;
mod differs;
mod filters;
mod keys;
mod services;
mod stock;

pub use actions::{ACTIONS, ActionKind, ActionWord, action};
pub use commands::{COMMANDS, CommandWord, OTHER_COMMANDS, VERBS, command, command_hints, tried};
pub use conditions::{CONDITIONS, FilterConditions, conditions};
pub use differs::{DIFFERS, differs};
pub use filters::{Counted, FILTERS, FilterWord, STOCK_JAILS, filter};
pub use keys::{DAEMON_KEYS, JAIL_KEYS, KeyWord, key};
pub use services::{SERVICES, port};
pub use stock::stock;

/// Whether a text is a configuration of fail2ban: its first lines that say something are a section without quotes around
/// its values.
pub fn is_fail2ban_file(text: &str) -> bool {
    let mut lines =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';']));
    let is_name = |name: &str| {
        matches!(name, "DEFAULT" | "INCLUDES" | "Definition" | "Init") || STOCK_JAILS.contains(&name)
    };
    let section = lines.next().and_then(|line| line.strip_prefix('[')?.strip_suffix(']'));
    // A file of ours for a jail has `[jail.sshd]`; one without a known section is judged by its first value.
    section.is_some_and(|name| is_name(name) || lines.next().is_some_and(is_unquoted))
}

/// Whether a line sets a key to a text without quotes.
fn is_unquoted(line: &str) -> bool {
    let Some((name, value)) = line.split_once('=') else { return false };
    let value = value.trim();
    let is_plain = value.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '%')
        || value.chars().next().is_some_and(|c| c.is_ascii_digit())
            && value.ends_with(|c: char| c.is_ascii_alphabetic());
    key(name.trim()).is_some() && is_plain && !matches!(value, "true" | "false")
}

/// What to write in the place of a table or a key that only fail2ban has; `name` is the name, `table` the table that it is
/// in, `jails` are those here.
pub fn hint(table: &str, name: &str, jails: &[&str]) -> Option<String> {
    if table.is_empty() {
        if name == "DEFAULT" {
            return Some(DEFAULT.to_owned());
        }
        if name == "recidive" {
            return Some(RECIDIVE.to_owned());
        }
        if jails.contains(&name) {
            return Some(format!("did you mean `[jail.{name}]`?"));
        }
        if let Some(filter) = filter(name) {
            return Some(match filter.counted.first() {
                Some(_) => {
                    format!("fail2ban's jail `{name}` is here `[jail.{name}]` with {}", filter.as_written())
                }
                None => format!("fail2ban's jail `{name}`: {}", filter.note),
            });
        }
    }
    let of_daemon = || DAEMON_KEYS.iter().find(|word| table.is_empty() && word.keys.contains(&name));
    let word = key(name).or_else(of_daemon)?;
    // One that is called the same here is not fail2ban's.
    (word.hint != "the same").then(|| format!("fail2ban's `{name}`: {}", word.hint))
}

/// What to write in a jail without a grammar, which may have the name of a filter.
pub fn grammar_hint(jail: &str) -> String {
    let none = format!("the jail `{jail}` has no grammar");
    match (jail, filter(jail)) {
        ("recidive", _) => RECIDIVE.to_owned(),
        ("DEFAULT", _) => DEFAULT.to_owned(),
        (_, Some(filter)) if filter.counted.is_empty() => {
            format!("{none}; fail2ban's filter: {}", filter.note)
        }
        (_, Some(filter)) => {
            format!("{none}; fail2ban's filter `{jail}` is here {}", filter.as_written())
        }
        (_, None) => format!("{none}: add `grammars = [\"...\"]`"),
    }
}

/// What to write for a key with a dot that only fail2ban has.
pub fn dotted_hint(key: &str) -> Option<String> {
    let word = self::key(key).filter(|_| key.contains('.'))?;
    Some(format!("unknown key `{key}`; fail2ban's `{key}`: {}", word.hint))
}

/// The numbers of ports that are written by the names of services.
pub fn port_numbers(names: &str) -> Option<String> {
    let mut is_named = false;
    let number = |part: &str| {
        let number = port(part).inspect(|_| is_named = true);
        number.or_else(|| part.parse().ok()).map(|number| number.to_string())
    };
    let numbers: Option<Vec<String>> = names.split(',').map(str::trim).map(number).collect();
    numbers.filter(|_| is_named).map(|numbers| numbers.join(","))
}

/// What `[DEFAULT]` becomes.
const DEFAULT: &str =
    "what fail2ban has in `[DEFAULT]` is here at the top of the file, before the first table";

/// The modes of fail2ban's filters.
pub const MODES: &[&str] =
    &["normal", "more", "auth", "rbl", "ddos", "extra", "errors", "fallback", "aggressive"];

/// What a jail `recidive` becomes.
const RECIDIVE: &str = "a jail `recidive` is not needed, since bans grow; delete it";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_fail2ban_is_known_by_its_first_lines() {
        for text in [
            "# ours\n\n[DEFAULT]\nbantime = 1h\n",
            "[sshd]\nenabled = true\n",
            "[Definition]\nfailregex = x\n",
            "[my-app]\nfilter = my-app\n",
            "[my-app]\nbantime = 10m\n",
            "[INCLUDES]\nbefore = common.conf",
        ] {
            assert!(is_fail2ban_file(text), "{text}");
        }
        for text in [
            "",
            "bantime = \"1h\"\n",
            "[jail.sshd]\nmaxretry = 3\n",
            "[enforce]\ntable = \"raw\"\n",
            "[growth]\nfactor = 1\n",
        ] {
            assert!(!is_fail2ban_file(text), "{text}");
        }
    }

    #[test]
    fn each_name_stands_once() {
        let mut names: Vec<&str> = FILTERS.iter().map(|filter| filter.name).collect();
        assert!(names.is_sorted());
        names.dedup();
        assert_eq!(names.len(), FILTERS.len());
        let mut keys: Vec<&str> = JAIL_KEYS.iter().flat_map(|word| word.keys).copied().collect();
        keys.sort_unstable();
        let all = keys.len();
        keys.dedup();
        assert_eq!(keys.len(), all);
        assert!(SERVICES.is_sorted());
    }

    #[test]
    fn hints_name_what_to_write() {
        #[track_caller]
        fn check(table: &str, name: &str, want: &str) {
            assert_eq!(hint(table, name, &["sshd", "http-auth"]).unwrap_or_default(), want);
        }
        check("", "sshd", "did you mean `[jail.sshd]`?");
        check(
            "",
            "nginx-http-auth",
            "fail2ban's jail `nginx-http-auth` is here `[jail.nginx-http-auth]` with `grammars = [\"nginx\"]` and `offences = \
             [\"auth-failure\"]`",
        );
        check(
            "",
            "DEFAULT",
            "what fail2ban has in `[DEFAULT]` is here at the top of the file, before the first table",
        );
        check("jail", "recidive", "");
        check("jail", "usedns", "fail2ban's `usedns`: never: a name in a log is not an address");
        check("jail", "bantime", "");
        check("", "loglevel", "fail2ban's `loglevel`: none: the journal, or stderr where there is none");
        check("jail", "loglevel", "");
        let numbers = |names: &str| port_numbers(names).unwrap_or_default();
        assert_eq!(
            ["ssh", "http, 8080,https", "22", "x", "ssh,x", ""].map(numbers),
            ["22", "80,8080,443", "", "", "", ""]
        );
    }
}
