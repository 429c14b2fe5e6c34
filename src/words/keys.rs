//! Keys of jails and of fail2ban.conf.

/// A key of fail2ban, or several that become the same.
#[derive(Clone, Copy, Debug)]
pub struct KeyWord {
    /// The keys.
    pub keys: &'static [&'static str],
    /// What stands for them in the document instead, if not the keys.
    pub shown: &'static str,
    /// What they are here, in one sentence.
    pub hint: &'static str,
    /// What else the document says.
    pub more: &'static str,
}

const fn word(keys: &'static [&'static str], hint: &'static str) -> KeyWord {
    KeyWord { keys, shown: "", hint, more: "" }
}

const fn words(keys: &'static [&'static str], hint: &'static str, more: &'static str) -> KeyWord {
    KeyWord { keys, shown: "", hint, more }
}

/// What a key of a jail is here.
pub fn key(name: &str) -> Option<&'static KeyWord> {
    JAIL_KEYS.iter().find(|word| word.keys.contains(&name))
}

/// The keys of jails.
pub const JAIL_KEYS: &[KeyWord] = &[
    words(&["enabled"], "the same", "True by default; jails for most services exist from the start"),
    words(
        &["maxretry"],
        "the same",
        "1 to 255. fail2ban counts lines, banstream counts attempts: sshd writes up to four lines for one",
    ),
    words(
        &["findtime", "bantime"],
        "the same",
        "A number is seconds, `-1` or `\"forever\"` never ends. The default `bantime` is an hour, not ten minutes",
    ),
    words(
        &["ignoreip"],
        "the same",
        "A list of addresses, prefixes and `file:…`; names are not resolved. A jail may add its own, which in fail2ban is in the place of that of `[DEFAULT]`",
    ),
    word(&["ignoreself"], "always"),
    word(&["ignorecommand", "ignorecache"], "none; `banstream allow` exempts an address for a time"),
    word(
        &["filter"],
        "`grammars` and `offences`: a grammar for a program, and which of its categories count",
    ),
    words(
        &["logpath"],
        "none: banstream reads the journal, and of log files those that rsyslog forwards; `banstream setup --write` lets it",
        "`banstream import fail2ban --write` does so for the files of jails that are on",
    ),
    word(
        &["backend", "journalmatch", "logencoding", "systemd_if_nologs", "skip_if_nologs"],
        "none: banstream reads the journal and what rsyslog forwards",
    ),
    words(
        &["port"],
        "`ports`, numbers such as `22` or `\"80,443/tcp\"`; all by default, as with `banaction_allports`",
        "[Names of services](#names-of-services) are not known",
    ),
    word(&["protocol"], "part of the port: `\"53/udp\"`"),
    word(
        &["banaction", "banaction_allports", "chain", "blocktype", "returntype"],
        "none: `[enforce]` has one rule for all jails, with `table`, `chains` and `target`",
    ),
    words(
        &["action", "destemail", "sender", "mta"],
        "a table `[notify.NAME]` with `mail`, `webhook` or `command`: digests, or with `each = true` every ban",
        "See [guide.md](guide.md#notifications) and [Actions](#actions). Prometheus also sends alerts \
         ([dashboards/alerts.yml](../dashboards/alerts.yml)), and the journal has every ban",
    ),
    word(&["bantime.increment"], "always; `growth.factor = 1` turns it off"),
    word(
        &["bantime.factor", "bantime.multipliers", "bantime.formula"],
        "`factor` in `[growth]`: the n-th ban lasts `bantime` x factor^(n-1)",
    ),
    word(&["bantime.maxtime"], "`cap` in `[growth]`, which does not shorten a `bantime` that is longer"),
    word(&["bantime.rndtime"], "`jitter` in `[growth]`, a fraction of the ban, not seconds"),
    word(&["bantime.overalljails"], "none: each jail counts by itself"),
    word(&["usedns"], "never: a name in a log is not an address"),
    KeyWord {
        keys: &["mode"],
        shown: "`mode = aggressive`",
        hint: "`offences`: which categories of a grammar count; here `mode` is `enforce` or `observe`",
        more: "See [below](#filters)",
    },
    word(&["maxlines"], "none: the lines of one attempt are joined by program, process and address"),
    word(&["datepattern", "logtimezone"], "none: time is that of journald or rsyslog"),
    words(
        &["failregex"],
        "a rule of a grammar",
        "`<HOST>` is `<ip>`; a rule describes the whole message, without time, host and program. `banstream import \
         fail2ban` makes rules of most",
    ),
    words(
        &["ignoreregex"],
        "seldom needed, since a rule describes the whole message",
        "A condition `has not` of a shape excludes lines",
    ),
    word(&["prefregex"], "`program:` of a grammar"),
    word(&["maxmatches"], "none: the ledger keeps the lines of each ban"),
];

/// The keys of fail2ban.conf.
pub const DAEMON_KEYS: &[KeyWord] = &[
    word(&["loglevel", "logtarget", "syslogsocket"], "none: the journal, or stderr where there is none"),
    word(&["socket"], "`[control] path`"),
    word(&["pidfile"], "none: systemd tracks the process"),
    words(
        &["dbfile"],
        "`state-directory`, which holds the ledger",
        "`banstream import fail2ban --write` takes over the bans in it",
    ),
    word(&["dbpurgeage", "dbmaxmatches"], "`[ledger] keep`, `max-rows`"),
];
