//! Regular expressions that fail2ban refuses itself, so that it does not start with them.

use super::filter::FilterRegexes;
use super::regex::{self, NO_START, Obstacle};

/// The groups of which a failregex must have one, as tags or by name: the offender's address, something else that is banned, or
/// what joins it to a line with the address.
const NAMING: [&str; 14] = [
    "<HOST>",
    "<ADDR>",
    "<F-ADDR/>",
    "<IP4>",
    "<F-IP4/>",
    "<IP6>",
    "<F-IP6/>",
    "<SUBNET>",
    "<F-SUBNET/>",
    "<DNS>",
    "<F-DNS/>",
    "<F-ID",
    "<F-MLFID>",
    "(?P<fid>",
];
const NAMED: [&str; 4] = ["(?P<ip4>", "(?P<ip6>", "(?P<dns>", "(?P<mlfid>"];

/// Tags for which fail2ban puts groups, each of which may be there once.
const GROUPS: [(&str, &[&str]); 8] = [
    ("<HOST>", &["ip4", "ip6"]),
    ("<ADDR>", &["ip4", "ip6"]),
    ("<SUBNET>", &["ip4", "ip6"]),
    ("<IP4>", &["ip4"]),
    ("<IP6>", &["ip6"]),
    ("<CIDR>", &["cidr"]),
    ("<DNS>", &["dns"]),
    ("<F-ID/>", &["fid"]),
];

/// Why fail2ban does not start with a failregex of a filter.
pub(super) fn fault(filter: &FilterRegexes, regex: &str) -> Option<Obstacle> {
    if let Err(why) = regex::parse(regex)
        && why.ends_with(NO_START)
    {
        return Some(why);
    }
    let names_one = |text: &str| NAMING.iter().chain(&NAMED).any(|group| text.contains(group));
    if !names_one(regex) && !filter.prefix.as_deref().is_some_and(names_one) {
        return Some(format!("no `<HOST>` and nothing like it{NO_START}"));
    }
    let mut names: Vec<String> = Vec::new();
    for (tag, groups) in GROUPS {
        let times = regex.matches(tag).count();
        names.extend(groups.iter().flat_map(|group| std::iter::repeat_n((*group).to_owned(), times)));
    }
    for opening in ["<F-", "(?P<"] {
        let named = regex.split(opening).skip(1).filter_map(|rest| rest.split_once('>'));
        names.extend(named.map(|(name, _)| name.to_lowercase()).filter(|name| !name.ends_with('/')));
    }
    names.sort();
    let twice = names
        .windows(2)
        .find_map(|pair| if let [one, two] = pair { (one == two).then_some(one) } else { None });
    twice.map(|name| format!("its group `{name}` is there twice{NO_START}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fail2ban_does_not_start_with_is_said() {
        #[track_caller]
        fn check(prefix: &str, regex: &str, want: &str) {
            let prefix = (!prefix.is_empty()).then(|| prefix.to_owned());
            let filter = FilterRegexes { prefix, ..FilterRegexes::default() };
            let want = (!want.is_empty()).then(|| format!("{want}: fail2ban does not start with it"));
            assert_eq!(fault(&filter, regex), want, "{regex}");
        }
        check("", "^(foo <HOST>$", "a `(` that is not closed");
        check("", "^foo) <HOST>$", "a `)` without its `(` before `) <HOST>$`");
        check("", "^foo [a <HOST>$", "a `[` that is not closed");
        check("", "+ <HOST>$", "nothing is repeated before `+ <HOST>$`");
        check("", "^foo <HOST>\\", "it ends with a `\\`");
        check("", "^foo bar$", "no `<HOST>` and nothing like it");
        // As older versions had it.
        check("", r"rip=(?P<host>\S*),", "no `<HOST>` and nothing like it");
        check("", "^a <HOST> b <ADDR>$", "its group `ip4` is there twice");
        check("", "^<F-USER>a</F-USER>|<F-USER>b</F-USER> <HOST>$", "its group `user` is there twice");
        check("", r"^(?P<q>['\x22])(?P=q) <F-USER>\S+</F-USER> <IP4>$", "");
        check("^<F-MLFID>x</F-MLFID> <F-CONTENT>.+</F-CONTENT>$", "^foo$", "");
        check("", r"^(?i)a (?=b) <F-ID>\S+</F-ID>$", "");
    }
}
