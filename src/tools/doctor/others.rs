//! Settings of other programs that prevent lines from being read, or from being read right.
//!
//! It reads single lines, as all these programs write them, and ignores blocks and which setting wins: a setting that
//! is there is worth a look.

use std::path::Path;

use super::daemon::LONG_ENOUGH;
use super::facts::{ServerFault, Suspect, Unloadable};
use crate::tools::servers::numbered_lines;

/// Whether this part of rsyslog's configuration reads files of one of these programs, as our drop-in does.
pub(super) fn takes_files_of(text: &str, programs: &[String]) -> bool {
    let names = |line: &str| programs.iter().any(|program| line.contains(&format!("tag=\"{program}")));
    lines(Path::new(""), text).any(|Suspect { text, .. }| names(&text))
}

/// Whether a firewall in a file loads at boot, where it has a rule for this set; `None` where it has none.
pub(super) fn saved_firewall(text: &str, set: &str, has_sets: bool) -> Option<Result<(), Unloadable>> {
    let ours = format!("--match-set {set} src,dst");
    let mut says = lines(Path::new(""), text).filter_map(|Suspect { text, .. }| match () {
        () if text.contains("xt match set") || text.contains("xt match \"set\"") => {
            Some(Err(Unloadable::Foreign))
        }
        () if text.contains(&ours) && has_sets => Some(Ok(())),
        () if text.contains(&ours) => Some(Err(Unloadable::NoSets)),
        () => None,
    });
    says.next()
}

/// Whether a firewall in a file has the table of this name.
pub(super) fn has_table(text: &str, name: &str) -> bool {
    let ours = format!("table inet {name} {{");
    lines(Path::new(""), text).any(|Suspect { text, .. }| text.starts_with(&ours))
}

/// At how many bytes rsyslog cuts messages, wherever a file says so, in either style.
pub(super) fn message_sizes(path: &Path, text: &str) -> Vec<(Suspect, u64)> {
    let size = |line: &str| {
        let line = line.to_ascii_lowercase();
        bytes(line.split_once("maxmessagesize")?.1.trim_start_matches([' ', '\t', '=', '"']))
    };
    lines(path, text).filter_map(|suspect| Some((suspect.clone(), size(&suspect.text)?))).collect()
}

/// What is wrong with the configuration of Apache or lighttpd.
pub(super) fn web_server(path: &Path, text: &str) -> Vec<(ServerFault, Suspect)> {
    let lookups = "set HostnameLookups Off";
    let fault = |Suspect { text, .. }: &Suspect| match () {
        () if pipes_to_logger(text) => Some(ServerFault::Logger),
        () if says(text, "HostnameLookups", &["on", "double"]) => Some(ServerFault::Names(lookups)),
        () => None,
    };
    lines(path, text).filter_map(|suspect| Some((fault(&suspect)?, suspect))).collect()
}

/// What is wrong with the configuration of sshd or ProFTPD.
pub(super) fn login_server(path: &Path, text: &str) -> Vec<(ServerFault, Suspect)> {
    let fault = |Suspect { text, .. }: &Suspect| match () {
        () if says(text, "UseDNS", &["yes"]) => {
            Some(ServerFault::PamNames("set UseDNS no in sshd_config(5)"))
        }
        () if says(text, "UseReverseDNS", &["on"]) => {
            Some(ServerFault::PamNames("set UseReverseDNS off in proftpd.conf"))
        }
        () => None,
    };
    lines(path, text).filter_map(|suspect| Some((fault(&suspect)?, suspect))).collect()
}

/// What is wrong with these settings of Pure-FTPd, which has a file with `yes` for each, or one for all.
pub(super) fn pure_ftpd(text: &str) -> Option<(ServerFault, Suspect)> {
    let sound = text.lines().any(|line| line.trim() == "yes" || says(line.trim(), "DontResolve", &["yes"]));
    let fix = "echo yes >/etc/pure-ftpd/conf/DontResolve, or write DontResolve yes in pure-ftpd.conf; then restart it";
    let suspect = Suspect { place: "pure-ftpd".to_owned(), text: "no DontResolve".to_owned() };
    (!sound).then_some((ServerFault::Names(fix), suspect))
}

/// The lines that say something.
fn lines<'t>(path: &'t Path, text: &'t str) -> impl Iterator<Item = Suspect> + 't {
    numbered_lines(path, text).map(|(place, text)| Suspect { place, text })
}

/// Whether a line sets this key to one of these values, in whatever case.
fn says(line: &str, key: &str, values: &[&str]) -> bool {
    let mut words = line.split([' ', '\t', '=', '"']).filter(|word| !word.is_empty());
    let is = |one: Option<&str>, other: &str| one.is_some_and(|one| one.eq_ignore_ascii_case(other));
    let value = if is(words.next(), key) { words.next() } else { None };
    values.iter().any(|wanted| is(value, wanted))
}

/// Whether a line pipes a log to `logger`, and without a size that is large enough.
fn pipes_to_logger(line: &str) -> bool {
    let Some((_, piped)) = line.split_once('|') else { return false };
    let mut words = piped.split([' ', '\t', '"', '\'', '=', '|', '$']).filter(|word| !word.is_empty());
    let is_logger = words.by_ref().any(|word| word.rsplit('/').next() == Some("logger"));
    let size = words.skip_while(|word| !matches!(*word, "--size" | "-S")).nth(1).and_then(bytes);
    is_logger && size.is_none_or(|size| size < LONG_ENOUGH)
}

/// A size such as `64k`, whatever stands behind it.
fn bytes(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let unit = match unit.bytes().next() {
        Some(b'k' | b'K') => 1 << 10,
        Some(b'm' | b'M') => 1 << 20,
        _ => 1,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The places of what is found in a file.
    fn places(found: Vec<(ServerFault, Suspect)>) -> Vec<(ServerFault, String)> {
        found.into_iter().map(|(fault, suspect)| (fault, suspect.place)).collect()
    }

    #[test]
    fn where_rsyslog_cuts_is_read_in_either_style() {
        let sizes = |text| -> Vec<(String, u64)> {
            let found = message_sizes(Path::new("/r"), text).into_iter();
            found.map(|(suspect, size)| (suspect.place, size)).collect()
        };
        assert_eq!(
            sizes("#global(maxMessageSize=\"1k\")\nglobal(maxMessageSize=\"128k\")"),
            [("/r:2".to_owned(), 131072)]
        );
        assert_eq!(sizes("$MaxMessageSize 2048"), [("/r:1".to_owned(), 2048)]);
        assert_eq!(
            sizes("global(\n  workDirectory=\"/x\"\n  MaxMessageSize = \"1m\"\n)"),
            [("/r:3".to_owned(), 1 << 20)]
        );
        assert_eq!(sizes("module(load=\"imuxsock\")"), []);
    }

    #[test]
    fn an_input_of_rsyslog_is_found_by_its_tag() {
        let programs = ["apache2".to_owned(), "httpd".to_owned()];
        let input = |tag| format!("input(type=\"imfile\" file=\"/x\" tag=\"{tag}:\" facility=\"local7\")");
        assert!(takes_files_of(&input("apache2"), &programs));
        assert!(!takes_files_of(&input("nginx"), &programs));
        assert!(!takes_files_of(&format!("# {}", input("apache2")), &programs));
    }

    #[test]
    fn a_saved_firewall_with_the_rule_in_it_is_judged() {
        let rule = "*raw\n-A PREROUTING -m set --match-set banstream src,dst -j DROP\nCOMMIT\n";
        let check =
            |text: &str, has_sets, want| assert_eq!(saved_firewall(text, "banstream", has_sets), want);
        check(rule, true, Some(Ok(())));
        check(rule, false, Some(Err(Unloadable::NoSets)));
        check(&rule.replace("banstream ", "banstream4 "), false, None);
        check("# -A PREROUTING -m set --match-set banstream src,dst -j DROP", false, None);
        check("", false, None);
        for chain in ["xt match set counter packets 0 bytes 0 drop", "xt match \"set\" counter drop"] {
            check(
                &format!("table ip raw {{\nchain PREROUTING {{\n{chain}\n"),
                true,
                Some(Err(Unloadable::Foreign)),
            );
        }
    }

    #[test]
    fn a_saved_table_is_found() {
        assert!(has_table(
            "#!/usr/sbin/nft -f\ntable inet x {\n}\ntable inet banstream { # progname\n",
            "banstream"
        ));
        assert!(!has_table(
            "table inet banstream2 {\n}\n# table inet banstream {\ntable ip banstream {",
            "banstream"
        ));
    }

    #[test]
    fn a_log_that_goes_through_logger_is_found() {
        let check = |line: &str, want: bool| {
            let found = !places(web_server(Path::new("/a"), line)).is_empty();
            assert_eq!(found, want, "{line}");
        };
        check("CustomLog \"|/usr/bin/logger -t apache2 -p local6.info\" combined", true);
        check("  ErrorLog \"||/usr/bin/logger -t apache2\"", true);
        check("errorlog \"|$ logger -t apache2\"", true);
        check("CustomLog \\\n    \"| /bin/logger -t apache2\" combined", true);
        check("accesslog.filename = \"|/usr/bin/logger -t lighttpd\"", true);
        check("CustomLog \"|/usr/bin/logger --size 1KiB -t apache2\" combined", true);
        check("CustomLog \"|/usr/bin/logger --size=128KiB -t apache2\" combined", false);
        check("CustomLog \"|/usr/bin/logger -t apache2 -S 131072\" combined", false);
        check("# CustomLog \"|/usr/bin/logger -t apache2\" combined", false);
        check("CustomLog \"|/usr/bin/rotatelogs /var/log/x 86400\" combined", false);
        check("CustomLog /var/log/apache2/logger.log combined", false);
    }

    #[test]
    fn a_server_that_logs_names_is_found() {
        let one = Path::new("/c");
        let found = |found| places(found).into_iter().map(|(_, place)| place).collect::<Vec<_>>();
        assert_eq!(found(web_server(one, "HostnameLookups Off\n\thostnamelookups double")), ["/c:2"]);
        assert_eq!(found(login_server(one, "#UseDNS yes\nUseDNS no\nusedns=yes")), ["/c:3"]);
        assert_eq!(found(login_server(one, "UseReverseDNS\t\ton")), ["/c:1"]);
        assert!(pure_ftpd("# DontResolve yes\nno\n").is_some() && pure_ftpd("").is_some());
        assert!(pure_ftpd("yes\n").is_none() && pure_ftpd("DontResolve    yes").is_none());
    }
}
