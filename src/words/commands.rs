//! Commands, and the verbs of fail2ban-client that banstream answers itself.

/// Commands of fail2ban, and those here.
pub const COMMANDS: &[(&str, &str)] = &[
    (
        "`fail2ban-client start`, `stop`",
        "`systemctl start banstream`, `stop`. Bans stay in force when it stops",
    ),
    ("`fail2ban-client reload`", "`banstream reload`"),
    ("`fail2ban-client --test`", "`banstream check`"),
    ("`fail2ban-client ping`", "`banstream status`"),
    ("`fail2ban-client status`, `banned`", "`banstream status`, `banstream bans`"),
    ("`fail2ban-client status sshd`", "`banstream bans --jail sshd`"),
    (
        "`fail2ban-client set sshd banip 192.0.2.1`",
        "`banstream ban 192.0.2.1 --for 1h`; without `--for` until it is lifted",
    ),
    ("`fail2ban-client set sshd unbanip 192.0.2.1`, `unban 192.0.2.1`", "`banstream unban 192.0.2.1`"),
    ("`fail2ban-client unban --all`", "`banstream unban --all`"),
    (
        "`fail2ban-client set sshd addignoreip …`",
        "`banstream allow`, for a time; `ignoreip` and `banstream reload`, permanently",
    ),
    ("`fail2ban-client set sshd maxretry 3`", "the configuration, and `banstream reload`: no count is lost"),
    ("any of these in a script", "the same through `banstream compat`, see [Scripts](#scripts)"),
    ("`fail2ban-regex LOG FILTER`", "`banstream explain <LOG`, `banstream check FILE.grammar`"),
    (
        "`iptables -L f2b-sshd`",
        "`ipset list banstream4`, `banstream6`; with ports `banstream4p`, `banstream6p`; with nftables `nft list table \
         inet banstream`",
    ),
];

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
