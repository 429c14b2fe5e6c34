//! Actions.

/// What becomes of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActionKind {
    /// It bans, on the ports of the jail.
    Ban,
    /// It bans on all ports.
    BanAllPorts,
    /// It sends mail.
    Mail,
    /// It calls a service or a program, which a receiver can do.
    Notify,
    /// It has no counterpart.
    Other,
}

/// An action of fail2ban.
#[derive(Clone, Copy, Debug)]
pub struct ActionWord {
    /// Its name, or the beginning of several, which ends with `*`.
    pub name: &'static str,
    /// What becomes of it.
    pub kind: ActionKind,
    /// The same in words.
    pub becomes: &'static str,
}

const fn word(name: &'static str, kind: ActionKind, becomes: &'static str) -> ActionWord {
    ActionWord { name, kind, becomes }
}

/// What an action is here.
pub fn action(name: &str) -> Option<&'static ActionWord> {
    let matches = |word: &&ActionWord| match word.name.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => word.name == name,
    };
    ACTIONS.iter().find(matches)
}

/// Services that a program has to call.
const CALLS: &str = "`[notify.NAME]` with `each = true` and a `command` that calls it";

/// With a program that comes with banstream.
const CLOUDFLARE: &str =
    "`[notify.NAME]` with `each = true` and the program `cloudflare`, its token in a file";

/// The kernel's own rules.
const RULE: &str = "not needed: one rule enforces all bans";

/// fail2ban's actions. The first that fits counts.
pub const ACTIONS: &[ActionWord] = &[
    word("iptables-allports", ActionKind::BanAllPorts, RULE),
    word("iptables-ipset-proto6-allports", ActionKind::BanAllPorts, RULE),
    word("nftables-allports", ActionKind::BanAllPorts, RULE),
    word("firewallcmd-allports", ActionKind::BanAllPorts, RULE),
    word("iptables*", ActionKind::Ban, RULE),
    word("nftables*", ActionKind::Ban, RULE),
    word("firewallcmd-*", ActionKind::Ban, RULE),
    word("ufw", ActionKind::BanAllPorts, RULE),
    word("shorewall*", ActionKind::BanAllPorts, RULE),
    word("route", ActionKind::BanAllPorts, RULE),
    word("hostsdeny", ActionKind::BanAllPorts, RULE),
    word("apf", ActionKind::BanAllPorts, RULE),
    word("sendmail*", ActionKind::Mail, "`[notify.NAME]` with `mail`: digests with the lines; no whois"),
    word("mail*", ActionKind::Mail, "`[notify.NAME]` with `mail`: digests with the lines; no whois"),
    word("smtp.py", ActionKind::Mail, "`[notify.NAME]` with `mail`, through the host's `sendmail`"),
    word("xarf-login-attack", ActionKind::Other, "none: banstream looks up no contacts"),
    word("complain", ActionKind::Other, "none: banstream looks up no contacts"),
    word("cloudflare", ActionKind::Notify, CLOUDFLARE),
    word("cloudflare-token", ActionKind::Notify, CLOUDFLARE),
    word("cloudflare*", ActionKind::Notify, CALLS),
    word(
        "abuseipdb",
        ActionKind::Notify,
        "`[notify.NAME]` with `each = true` and the program `abuseipdb`, its key in a file",
    ),
    word(
        "blocklist_de",
        ActionKind::Notify,
        "`[notify.NAME]` with `each = true` and a `command` that reports them",
    ),
    word(
        "ipthreat",
        ActionKind::Notify,
        "`[notify.NAME]` with `each = true` and a `command` that reports them",
    ),
    word("apprise", ActionKind::Notify, CALLS),
    word("telegram*", ActionKind::Notify, CALLS),
    word(
        "slack*",
        ActionKind::Notify,
        "`[notify.NAME]` with a `webhook`, by a program that makes Slack's form",
    ),
    word(
        "discord*",
        ActionKind::Notify,
        "`[notify.NAME]` with a `webhook`, by a program that makes Discord's form",
    ),
    word("nginx-block-map", ActionKind::Other, "none: the kernel drops the packets before nginx sees them"),
    word("dshield", ActionKind::Other, "none"),
    word("mynetwatchman", ActionKind::Other, "none"),
    word("nsupdate", ActionKind::Notify, CALLS),
    word("netscaler", ActionKind::Notify, CALLS),
    word("dummy", ActionKind::Other, "none"),
    word("bsd-ipfw", ActionKind::Other, "none: Linux only"),
    word("ipfilter", ActionKind::Other, "none: Linux only"),
    word("ipfw", ActionKind::Other, "none: Linux only"),
    word("npf", ActionKind::Other, "none: Linux only"),
    word("osx-*", ActionKind::Other, "none: Linux only"),
    word("pf", ActionKind::Other, "none: Linux only"),
    word("symbiosis-blacklist-allports", ActionKind::BanAllPorts, RULE),
];
