//! Filters, their modes, and the grammars and categories that stand for them.

/// A grammar, and which of its categories count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// The grammar.
    pub grammar: &'static str,
    /// Its categories.
    pub offences: &'static [&'static str],
}

/// A filter of fail2ban.
#[derive(Clone, Copy, Debug)]
pub struct FilterWord {
    /// Its name.
    pub name: &'static str,
    /// What stands for it; nothing if no grammar does.
    pub counted: &'static [Counted],
    /// What its modes count besides, by the name of the mode.
    pub modes: &'static [(&'static str, &'static [&'static str])],
    /// What to do: in the place of one without a grammar, or for the same lines to count.
    pub note: &'static str,
}

/// The word of a filter.
pub fn filter(name: &str) -> Option<&'static FilterWord> {
    FILTERS.iter().find(|word| word.name == name)
}

impl FilterWord {
    /// What a jail has for it, as it is written.
    pub fn as_written(&self) -> String {
        let list = |mut names: Vec<&str>| {
            names.sort_unstable();
            names.dedup();
            names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
        };
        let counted = self.in_mode("");
        let grammars = list(counted.iter().map(|(grammar, _)| *grammar).collect());
        let offences = list(counted.iter().flat_map(|(_, offences)| offences).copied().collect());
        let offences =
            if offences.is_empty() { String::new() } else { format!(" and `offences = [{offences}]`") };
        format!("`grammars = [{grammars}]`{offences}")
    }

    /// What counts in a mode: each grammar with its categories.
    pub fn in_mode(&self, mode: &str) -> Vec<(&'static str, Vec<&'static str>)> {
        // Without a mode it is fail2ban's default, which stands first.
        let counts_none = self.counted.iter().all(|counted| counted.offences.is_empty());
        let is_it = |(known, _): &&(&str, _)| *known == mode || mode.is_empty() && counts_none;
        let more = self.modes.iter().find(is_it).map_or(&[][..], |(_, more)| *more);
        let of = |counted: &Counted| (counted.grammar, [counted.offences, more].concat());
        self.counted.iter().map(of).collect()
    }
}

const LOGINS: &[&str] = &["auth-failure"];

const fn of(
    name: &'static str,
    counted: &'static [Counted],
    modes: &'static [(&'static str, &'static [&'static str])],
) -> FilterWord {
    FilterWord { name, counted, modes, note: "" }
}

const fn none(name: &'static str, note: &'static str) -> FilterWord {
    FilterWord { name, counted: &[], modes: &[], note }
}

/// What Postfix refuses of strangers, and these.
macro_rules! refusals {
    ($($more:literal),*) => {
        &[
            "relay-denied",
            "unknown-recipient",
            "helo-rejected",
            "client-rejected",
            "sender-rejected",
            "command-rejected",
            "blocklisted",
            "preauth-abuse",
            $($more),*
        ]
    };
}

macro_rules! counted {
    ($($grammar:literal $($offence:literal)*),+) => {
        &[$(Counted { grammar: $grammar, offences: &[$($offence),*] }),+]
    };
}

macro_rules! logins {
    ($name:literal, $grammar:literal) => {
        of($name, &[Counted { grammar: $grammar, offences: LOGINS }], &[])
    };
}

/// fail2ban's filters, by name.
pub const FILTERS: &[FilterWord] = &[
    of("3proxy", counted!("3proxy" "auth-failure" "forbidden"), &[]),
    logins!("apache-auth", "apache"),
    of("apache-badbots", counted!("apache" "bad-bot"), &[]),
    of("apache-botsearch", counted!("apache" "probe"), &[]),
    none("apache-fakegooglebot", "it needs DNS for each line; count `bad-bot` instead"),
    of("apache-modsecurity", counted!("apache" "blocked"), &[]),
    of("apache-nohome", counted!("apache" "probe"), &[]),
    of("apache-noscript", counted!("apache" "probe"), &[]),
    of("apache-overflows", counted!("apache" "bad-request"), &[]),
    none("apache-pass", "it lets addresses in that knock; `banstream allow` does that by hand"),
    of("apache-shellshock", counted!("apache" "probe"), &[]),
    of("assp", counted!("assp" "auth-failure" "bad-request" "relay-denied"), &[]),
    of("asterisk", counted!("asterisk" "auth-failure" "probe"), &[]),
    logins!("bitwarden", "bitwarden"),
    logins!("centreon", "centreon"),
    logins!("courier-auth", "courier"),
    of("courier-smtp", counted!("courier" "auth-failure" "unknown-recipient"), &[]),
    logins!("cyrus-imap", "cyrus"),
    logins!("directadmin", "directadmin"),
    logins!("domino-smtp", "domino"),
    of("dovecot", counted!("dovecot" "auth-failure" "pam-failure"), &[("aggressive", &["bad-request"])]),
    logins!("dropbear", "dropbear"),
    logins!("drupal-auth", "drupal"),
    logins!("ejabberd-auth", "ejabberd"),
    of(
        "exim",
        counted!(
            "exim" "auth-failure" "relay-denied" "unknown-recipient" "sender-rejected" "preauth-abuse" "no-mail" "connection-dropped"
        ),
        &[],
    ),
    of("exim-spam", counted!("exim" "spam"), &[]),
    of(
        "freeswitch",
        counted!("freeswitch" "auth-failure"),
        &[("ddos", &["auth-challenge"]), ("extra", &["auth-challenge"]), ("aggressive", &["auth-challenge"])],
    ),
    logins!("froxlor-auth", "froxlor"),
    logins!("gitlab", "gitlab"),
    logins!("grafana", "grafana"),
    logins!("groupoffice", "group-office"),
    logins!("gssftpd", "ftpd"),
    of("guacamole", counted!("guacamole" "forgeable-auth-failure"), &[]),
    of("haproxy-http-auth", counted!("haproxy" "unauthorized"), &[]),
    logins!("horde", "horde"),
    of(
        "kerio",
        counted!("kerio" "auth-failure" "relay-denied" "spam" "sender-rejected" "unknown-recipient"),
        &[],
    ),
    logins!("lighttpd-auth", "lighttpd"),
    of("mongodb-auth", counted!("mongodb" "auth-failure" "forgeable-auth-failure"), &[]),
    logins!("monit", "monit"),
    of("monitorix", counted!("monitorix" "auth-failure" "forbidden" "not-found"), &[]),
    logins!("mssql-auth", "mssql"),
    of("murmur", counted!("mumble" "forgeable-auth-failure"), &[]),
    of("mysqld-auth", counted!("mariadb" "forgeable-auth-failure"), &[]),
    of("nagios", counted!("nrpe" "forbidden"), &[]),
    of("named-refused", counted!("named" "refused"), &[]),
    of("nginx-botsearch", counted!("nginx" "probe"), &[]),
    of(
        "nginx-http-auth",
        counted!("nginx"),
        &[("normal", LOGINS), ("auth", LOGINS), ("fallback", &["bad-request"]), ("aggressive", LOGINS)],
    ),
    FilterWord {
        name: "nginx-limit-req",
        counted: counted!("nginx" "rate-limit"),
        modes: &[],
        note: "it reads nginx's error log, in whose file clients can write lines about others: let nginx write that to syslog \
               (`error_log syslog:server=unix:/dev/log,nohostname;`), or answer with 429 in place of 503 (`limit_req_status 429;`)",
    },
    of("nsd", counted!("nsd" "refused" "rate-limit"), &[]),
    logins!("openhab", "openhab"),
    logins!("openwebmail", "openwebmail"),
    logins!("oracleims", "oracle-ims"),
    logins!("pam-generic", "pam"),
    of("php-url-fopen", counted!("nginx" "exploit", "apache" "exploit"), &[]),
    logins!("phpmyadmin-syslog", "phpmyadmin"),
    of("portsentry", counted!("portsentry" "port-scan"), &[]),
    of(
        "postfix",
        counted!("postfix"),
        &[
            ("normal", refusals!()),
            ("more", refusals!()),
            ("auth", LOGINS),
            ("rbl", &["blocklisted"]),
            ("ddos", &["disconnected", "protocol-abuse", "unauthorized"]),
            ("errors", &["preauth-abuse"]),
            ("extra", refusals!("auth-failure")),
            ("aggressive", refusals!("auth-failure", "disconnected", "protocol-abuse", "unauthorized")),
        ],
    ),
    logins!("proftpd", "proftpd"),
    logins!("pure-ftpd", "pure-ftpd"),
    of("qmail", counted!("qmail" "spam"), &[]),
    none("recidive", "not needed, since bans grow; delete it"),
    of("roundcube-auth", counted!("roundcube" "forgeable-auth-failure"), &[]),
    logins!("selinux-ssh", "audit"),
    logins!("sendmail-auth", "sendmail"),
    of(
        "sendmail-reject",
        counted!("sendmail" "relay-denied" "unknown-recipient" "sender-rejected" "spam" "rate-limit" "preauth-abuse"),
        &[("extra", &["no-mail"]), ("aggressive", &["no-mail"])],
    ),
    logins!("sieve", "cyrus"),
    logins!("slapd", "slapd"),
    of("sogo-auth", counted!("sogo" "forgeable-auth-failure"), &[]),
    logins!("solid-pop3d", "solid-pop3d"),
    of("squid", counted!("squid" "forbidden" "bad-request"), &[]),
    of(
        "sshd",
        counted!("sshd" "auth-failure"),
        &[
            ("ddos", &["bad-request"]),
            ("extra", &["preauth-abuse"]),
            ("aggressive", &["preauth-abuse", "bad-request"]),
        ],
    ),
    logins!("stunnel", "stunnel"),
    of("suhosin", counted!("suhosin" "blocked"), &[]),
    logins!("tine20", "tine20"),
    logins!("traefik-auth", "traefik"),
    logins!("uwimap-auth", "uw-imap"),
    logins!("vsftpd", "vsftpd"),
    logins!("webmin-auth", "webmin"),
    logins!("wuftpd", "ftpd"),
    of("xinetd-fail", counted!("xinetd" "forbidden"), &[]),
    logins!("znc-adminlog", "znc"),
    of("zoneminder", counted!("zoneminder" "auth-failure", "apache" "auth-failure"), &[]),
];

/// Jails of fail2ban's package that are not called as their filters, and those that most people turn on.
pub const STOCK_JAILS: &[&str] = &[
    "sshd",
    "dropbear",
    "apache-auth",
    "apache-badbots",
    "apache-noscript",
    "apache-overflows",
    "apache-nohome",
    "nginx-http-auth",
    "nginx-limit-req",
    "nginx-botsearch",
    "nginx-bad-request",
    "postfix",
    "postfix-rbl",
    "postfix-sasl",
    "dovecot",
    "exim",
    "vsftpd",
    "proftpd",
    "pure-ftpd",
    "recidive",
    "pam-generic",
    "mysqld-auth",
    "named-refused",
    "openhab-auth",
    "qmail-rbl",
    "pass2allow-ftp",
    "ssh",
    "roundcube-auth",
    "sogo-auth",
    "sieve",
    "webmin-auth",
];
