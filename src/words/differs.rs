//! In what a jail counts something else than the filter of fail2ban that it stands for. What stands here is printed for each
//! such jail; `tests/system/fail2ban.rs` lets both read the same lines.

/// How the jail of a filter differs from it; `None` if it counts the same.
pub fn differs(filter: &str) -> Option<&'static str> {
    DIFFERS.iter().find(|(known, _)| *known == filter).map(|(_, how)| *how)
}

/// The filters, by name.
pub const DIFFERS: &[(&str, &str)] = &[
    (
        "apache-auth",
        "failed logins in the messages of Apache 2.2 and 2.4 count by the code that they begin with; a digest with an expired nonce \
         (AH01776, AH01779) does not count",
    ),
    ("apache-badbots", "the names are compared without case"),
    ("apache-botsearch", "only what is below `/var/www/` counts, and names are compared without case"),
    ("apache-noscript", "the name of a script counts wherever it stands in the path"),
    ("apache-shellshock", "messages of other programs than a shell in `/bin` do not count"),
    (
        "asterisk",
        "of lines in which a client can write the address of another, none counts; calls that chan_iax2 and PJSIP refuse count too",
    ),
    ("bitwarden", "failed second factors count in the words of newer versions too"),
    ("courier-auth", "failed logins to Courier's SMTP server count too"),
    ("courier-smtp", "failed logins to Courier's IMAP and POP3 servers count too"),
    ("cyrus-imap", "failed logins to Cyrus's Sieve server and of unknown users count too"),
    (
        "dovecot",
        "logins that are broken off before a password (`tried to use disallowed … auth`) count with `mode = aggressive` only; PAM and \
         password databases count in the words of Dovecot 2.4 too; of a name that imitates such a message, none counts",
    ),
    ("dropbear", "failures count in the words of newer versions too, such as keys with a wrong signature"),
    (
        "drupal-auth",
        "only lines of the program `drupal` count; name yours below `program:` in a grammar that extends it",
    ),
    ("ejabberd-auth", "failures of BOSH and of SCRAM count too"),
    (
        "exim",
        "`mode = aggressive` counts no clients without a host name; messages with two addresses in parentheses and brackets, which \
         a client can make, do not count",
    ),
    ("exim-spam", "mail that ACLs call spam, malware or a number of points counts too"),
    ("freeswitch", "failures count with each form of date and of the module's name"),
    ("froxlor-auth", "failures count in the JSON of newer versions too"),
    ("gitlab", "failures count in GitLab's JSON logs too"),
    ("grafana", "failures count in the JSON and the words of newer versions too"),
    (
        "gssftpd",
        "the failures of the ftpd of the BSDs and of WU-FTPD count too, each of them and not only when they are repeated",
    ),
    (
        "guacamole",
        "failures count in the log of the web application, which fail2ban reads only if `logging` is `webapp`",
    ),
    ("horde", "failures count with any level and in the words of older versions"),
    ("kerio", "failed logins to IMAP, POP3 and the web pages count too"),
    (
        "lighttpd-auth",
        "answers 401 with a user's name in the access log count too; the messages of the error log count only where lighttpd logs \
         them to syslog",
    ),
    (
        "mongodb-auth",
        "failures of all versions count, of MongoDB 3.6 and newer without a line for the end of the connection",
    ),
    ("mssql-auth", "failed logins of Windows accounts (SSPI) count too"),
    ("mysqld-auth", "a line with the name of a host counts for nobody, since names are not resolved"),
    ("named-refused", "refused updates and queries in the words of newer versions count too"),
    (
        "nginx-botsearch",
        "requests count by the access log, with status 404; the same in the error log does not count",
    ),
    (
        "nginx-http-auth",
        "answers 401 with a user's name in the access log stand for the lines of the error log, which count too where they come by \
         syslog; with `mode = fallback` all answers 400, 414 and 431 count, and with `mode = aggressive` no failed handshakes",
    ),
    (
        "nginx-limit-req",
        "answers with status 429 in the access log count too, whatever the zone; so do limits of connections",
    ),
    ("nsd", "refused notifications count too"),
    ("openhab", "a failed login with a name counts too"),
    (
        "pam-generic",
        "what PAM says of servers that have a jail of their own here does not count; a line with the name of a host counts for nobody",
    ),
    ("portsentry", "scans count when PortSentry sees them, not only when it blocks"),
    (
        "postfix",
        "permanent refusals of a sender or a HELO count for whatever reason; with `mode = ddos` and `aggressive` so do all that \
         postscreen sees; `Invalid authentication mechanism` does not count with `mode = aggressive`, and other faults of the password \
         checker never",
    ),
    ("proftpd", "anonymous logins that are refused and the messages of PAM count too"),
    ("pure-ftpd", "failures count in all languages of Pure-FTPd"),
    ("roundcube-auth", "a failure behind a proxy counts for the address before the headers"),
    (
        "selinux-ssh",
        "failures count whatever the context of sshd, and in the form that the kernel hands to the journal too",
    ),
    ("sendmail-auth", "each `AUTH failure` counts too, and not only the many of a `possible SMTP attack`"),
    (
        "sendmail-reject",
        "permanent refusals for a list of addresses, for spam and of unknown senders count in all wordings, and so do all commands \
         that only attackers send",
    ),
    ("sieve", "failed logins to Cyrus's IMAP and POP3 servers count too"),
    (
        "slapd",
        "the line with the address may be any number of lines before the failure, and failures of SASL count too",
    ),
    ("sogo-auth", "where the line has several addresses, that of the last proxy counts"),
    (
        "sshd",
        "disconnects with `Auth fail` count with `mode = extra` and `aggressive` only; `mode = ddos` counts closed connections and \
         not clients that speak another protocol, which `extra` counts; connections that a user closes without a password, and \
         keys from hosts that are not allowed count too; a line with the name of a host counts for nobody",
    ),
    (
        "traefik-auth",
        "only Traefik's JSON can be believed: in the common format that the filter reads, a user's name can hold whole lines; set \
         `--accesslog.format=json`",
    ),
    ("uwimap-auth", "failures of the command AUTHENTICATE count too"),
    ("vsftpd", "a line with the name of a host counts for nobody; refused logins count too"),
    ("webmin-auth", "failed second factors and hosts that Webmin blocks count too"),
    ("wuftpd", "the failures of the ftpd of the BSDs count too"),
    ("zoneminder", "failures count whatever level ZoneMinder gives them"),
];
