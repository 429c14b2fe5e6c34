//! Commands: fail2ban-client's, those of others that many try, and what does the same here.

/// Commands of fail2ban-client that mean the same, and what does that here.
#[derive(Clone, Copy, Debug)]
pub struct CommandWord {
    /// How they begin. `sshd`, `192.0.2.1` and `3` stand for what a user has there.
    pub theirs: &'static [&'static str],
    /// What does the same here, with the same names.
    pub ours: &'static str,
    /// Whether `banstream compat fail2ban-client` does it; it refuses the others, with `ours`.
    pub is_emulated: bool,
}

const fn same(theirs: &'static [&'static str], ours: &'static str) -> CommandWord {
    CommandWord { theirs, ours, is_emulated: true }
}

const fn refused(theirs: &'static [&'static str], ours: &'static str) -> CommandWord {
    CommandWord { theirs, ours, is_emulated: false }
}

/// Commands of fail2ban-client.
pub const COMMANDS: &[CommandWord] = &[
    refused(&["start"], "`systemctl start banstream`"),
    refused(
        &["stop"],
        "`systemctl stop banstream`; bans stay in force, and `banstream unban --all` lifts them",
    ),
    refused(&["restart"], "`systemctl restart banstream`; for a jail `banstream reload` is enough"),
    same(&["reload", "reload sshd"], "`banstream reload`"),
    refused(
        &["reload --unban", "reload --restart"],
        "`banstream reload`, which lifts only bans of what is exempt from then on; `banstream unban --all` lifts all",
    ),
    same(&["--test", "-t"], "`banstream check`"),
    same(&["ping", "status"], "`banstream status`"),
    same(&["version"], "`banstream --version`"),
    same(&["banned"], "`banstream bans`"),
    same(&["banned 192.0.2.1"], "`banstream bans 192.0.2.1`"),
    same(&["status sshd", "get sshd banip"], "`banstream bans --jail sshd`"),
    same(
        &["set sshd banip 192.0.2.1"],
        "`banstream ban 192.0.2.1 --for 1h`; without `--for` until it is lifted",
    ),
    same(&["set sshd unbanip 192.0.2.1", "unban 192.0.2.1"], "`banstream unban 192.0.2.1`"),
    same(&["unban --all"], "`banstream unban --all`"),
    same(
        &["set sshd addignoreip 192.0.2.1"],
        "`banstream allow 192.0.2.1`; `ignoreip` and `banstream reload`, permanently",
    ),
    same(&["set sshd delignoreip 192.0.2.1"], "`banstream allow --remove 192.0.2.1`"),
    same(&["get sshd ignoreip"], "`banstream allow`; `banstream config show` has `ignoreip`"),
    same(
        &["get sshd bantime", "get sshd findtime", "get sshd maxretry"],
        "`banstream status`, `banstream config show`",
    ),
    refused(
        &["set sshd bantime 3", "set sshd findtime 3", "set sshd maxretry 3", "add sshd"],
        "a file in /etc/banstream/banstream.d, and `banstream reload`: no count is lost",
    ),
    refused(
        &[
            "get sshd failregex",
            "set sshd addfailregex",
            "set sshd delfailregex",
            "get sshd ignoreregex",
            "set sshd addignoreregex",
            "set sshd delignoreregex",
            "get sshd prefregex",
            "set sshd prefregex",
        ],
        "grammars define offences: `banstream explain` shows the rule that reads a line",
    ),
    refused(
        &[
            "get sshd logpath",
            "set sshd addlogpath",
            "set sshd dellogpath",
            "get sshd journalmatch",
            "set sshd addjournalmatch",
            "set sshd deljournalmatch",
        ],
        "banstream reads the journal and what rsyslog forwards: `banstream status` shows its sources, `banstream setup` \
         what is missing",
    ),
    refused(
        &[
            "get sshd actions",
            "get sshd action",
            "set sshd addaction",
            "set sshd delaction",
            "set sshd action",
        ],
        "all jails share one rule in the kernel: `[enforce]` in the configuration",
    ),
    refused(
        &[
            "get loglevel",
            "set loglevel",
            "get logtarget",
            "set logtarget",
            "get syslogsocket",
            "set syslogsocket",
            "flushlogs",
        ],
        "banstream logs to the journal: `banstream log`",
    ),
    refused(
        &[
            "get dbfile",
            "set dbfile",
            "get dbpurgeage",
            "set dbpurgeage",
            "get dbmaxmatches",
            "set dbmaxmatches",
        ],
        "`[ledger]` in the configuration",
    ),
    refused(&["stats", "statistics"], "`banstream status`, `banstream report`"),
];

/// Other commands around fail2ban.
pub const OTHER_COMMANDS: &[(&str, &str)] = &[
    ("any of these in a script", "the same through `banstream compat`, see [Scripts](#scripts)"),
    ("`fail2ban-regex LOG FILTER`", "`banstream explain <LOG`, `banstream check FILE.grammar`"),
    (
        "`iptables -L f2b-sshd`",
        "`ipset list banstream4`, `banstream6`; with ports `banstream4p`, `banstream6p`; with nftables `nft list table \
         inet banstream`",
    ),
];

/// Names of commands that many try, and what does that here.
const TRIED: &[(&[&str], &str)] = &[
    (
        &["exempt", "whitelist", "allowlist", "ignoreip", "ignore", "exemptions", "disallow"],
        "`banstream allow ADDRESS` exempts an address, `banstream allow --remove ADDRESS` ends that, `banstream allow` \
         lists exemptions",
    ),
    (
        &["block", "deny", "drop", "banip", "blacklist", "blocklist"],
        "`banstream ban ADDRESS` bans an address",
    ),
    (&["unblock", "unbanip", "pardon", "lift"], "`banstream unban ADDRESS` lifts the ban of an address"),
    (&["list", "ls", "show", "decisions"], "`banstream bans` lists the bans in force"),
    (
        &["logs", "journal", "tail", "events"],
        "`banstream log` shows what the daemon did, `banstream log -f` follows it",
    ),
    (&["jails", "jail", "info"], "`banstream status` shows the jails"),
    (&["history", "summary"], "`banstream report` reports what happened"),
    (&["watch", "monitor", "live"], "`banstream top` watches the daemon, `banstream web` in a browser"),
    (&["test", "validate", "verify", "configtest"], "`banstream check` checks configuration and grammars"),
    (&["regex", "fail2ban-regex", "match"], "`banstream explain` shows what the grammars find in lines"),
    (&["fail2ban-client", "client"], "`banstream compat fail2ban-client` takes fail2ban-client's words"),
    (&["fail2ban", "migrate"], "`banstream import fail2ban` takes over fail2ban's configuration and bans"),
    (&["help", "man"], "`banstream --help` lists all commands, `banstream ban --help` explains one"),
    (&["enforce", "observe", "enable"], "set `mode` in the configuration, then `banstream reload`"),
    (&["flush", "clear"], "`banstream unban --all` lifts all bans"),
];

/// The names of commands that many try.
pub fn tried() -> impl Iterator<Item = &'static str> {
    TRIED.iter().flat_map(|(names, _)| *names).copied()
}

/// What to do here in place of fail2ban-client's command of these words.
pub fn command(words: &[&str]) -> Option<String> {
    find(words).map(|(row, theirs)| as_written(row.ours, theirs, words))
}

/// The row of the longest beginning that these words have.
fn find(words: &[&str]) -> Option<(&'static CommandWord, &'static str)> {
    let rows = COMMANDS.iter().flat_map(|row| row.theirs.iter().map(move |theirs| (row, *theirs)));
    let is_it = |theirs: &str| {
        let mut words = words.iter();
        theirs.split(' ').all(|their| match words.next() {
            Some(word) => *word == their || STAND_INS.contains(&their) && !word.starts_with('-'),
            // What is to be set may be missing.
            None => theirs.starts_with("set ") && STAND_INS.contains(&their),
        })
    };
    rows.filter(|(_, theirs)| is_it(theirs)).max_by_key(|(_, theirs)| theirs.split(' ').count())
}

/// What these words may have meant, if they are not a command here: a sentence for each way. `ours` are the commands that
/// there are.
pub fn command_hints(words: &[&str], ours: &[&str]) -> Vec<String> {
    let Some(first) = words.first() else { return Vec::new() };
    if let Some((row, theirs)) = find(words) {
        // That one is called the same says nothing of what is behind it.
        if ours.contains(first) && !theirs.contains(' ') {
            return Vec::new();
        }
        let line = words.join(" ");
        let mut hints = vec![format!("fail2ban's `{line}` is here: {}", as_written(row.ours, theirs, words))];
        if row.is_emulated {
            hints.push(format!("`banstream compat fail2ban-client {line}` answers as fail2ban does"));
        }
        return hints;
    }
    if matches!(*first, "get" | "set" | "add") {
        return vec![
            "`banstream compat fail2ban-client -h` lists the words of fail2ban-client that are understood"
                .to_owned(),
        ];
    }
    let tried = TRIED.iter().find(|(names, _)| names.contains(first));
    tried.map(|(_, tip)| (*tip).to_owned()).into_iter().collect()
}

const STAND_INS: [&str; 3] = ["sshd", "192.0.2.1", "3"];

/// The text with the user's words in the place of the stand-ins.
fn as_written(ours: &str, theirs: &str, words: &[&str]) -> String {
    let pairs = theirs.split(' ').zip(words).filter(|(their, _)| STAND_INS.contains(their));
    pairs.fold(ours.to_owned(), |text, (their, word)| text.replace(their, word))
}

/// Verbs of fail2ban-client, and how banstream's answer differs.
pub const VERBS: &[(&str, &str)] = &[
    (
        "`ping`, `version`, `-V`, `-t`, `banned`, `unban`, `get JAIL bantime`, `findtime`, `maxretry`, `banip`",
        "nothing",
    ),
    (
        "`status`, `status JAIL`",
        "in place of files, the jail's grammars. Totals count from the start of the daemon. Bans of `banstream ban` and \
         of prefixes belong to jails `manual` and `wide`, which exist while they have bans",
    ),
    (
        "`set JAIL banip IP…`",
        "a ban by hand: on all ports, for the jail's `bantime`, not growing. Its reason names the jail, so that `status \
         JAIL` shows it. Protected addresses are refused",
    ),
    ("`set JAIL unbanip IP…`", "also lifts other jails' bans on the same address"),
    ("`set JAIL addignoreip`, `delignoreip`", "`banstream allow`: for all jails, and it outlives restarts"),
    ("`get JAIL ignoreip`", "the configuration as it is on disk, and the exemptions of `banstream allow`"),
    (
        "`reload JAIL`",
        "rereads everything; lifts bans of what is exempt from then on, and loses no other ban and no count",
    ),
    ("all others", "refused, with what to do instead"),
];
