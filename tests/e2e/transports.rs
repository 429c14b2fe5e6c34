//! What happens to a line between a real server and the daemon: log daemons and container engines split it, cut it and
//! say who wrote it. Nobody but the attacker is banned, and the attacker is.

use super::{Lab, MAX_RETRY};

const ATTACKER: &str = "198.51.100.66";
/// Whose address the attacker writes.
const BYSTANDER: &str = "203.0.113.99";

#[test]
#[ignore = "needs root and servers: contrib/test"]
fn a_line_that_rsyslog_cuts_at_its_default_limit_frames_nobody() {
    let lab = Lab::up("rsyslog");
    let _daemon = lab.start("");
    lab.sh("sed -i '/^global(maxMessageSize/d' /etc/rsyslog.d/10-banstream.conf
            kill $(pidof rsyslogd); while pidof rsyslogd; do sleep 0.05; done
            rsyslogd -n -iNONE >/dev/null 2>&1 &
            for i in {1..200}; do if logger try; then break; fi; sleep 0.05; done
            cat >/run/lighttpd.conf <<'END'
server.modules = (\"mod_auth\", \"mod_authn_file\")
server.document-root = \"/var/www/html\"
server.port = 8081
server.errorlog-use-syslog = \"enable\"
auth.backend = \"htpasswd\"
auth.backend.htpasswd.userfile = \"/etc/htpasswd\"
auth.require = (\"/private\" => (\"method\" => \"basic\", \"realm\" => \"private\", \"require\" => \"valid-user\"))
END
            lighttpd -D -f /run/lighttpd.conf >/dev/null 2>&1 & echo $! >/run/lighttpd.pid
            for i in {1..200}; do if curl -s http://203.0.113.1:8081/ >/dev/null; then break; fi; sleep 0.05; done");
    // Of 8096 bytes that are left of a message, the last are the address.
    lab.sh(&format!(
        "begin=\"<27>Nov 28 04:00:00 lighttpd[$(cat /run/lighttpd.pid)]: (mod_auth.c.850) password doesn't match for /private/\"
         end=\" username: x IP: {BYSTANDER}\"
         path=$(head -c $((8096 - ${{#begin}} - ${{#end}})) /dev/zero | tr '\\0' A)${{end// /%20}}////
         try() {{ ip netns exec attacker curl -s -m 9 -o /dev/null --interface {ATTACKER} -u x:y \"$1\" || true; }}
         for i in {{1..{}}}; do try http://203.0.113.1:8081/private/$path & done
         wait
         for i in {{1..{MAX_RETRY}}}; do try http://203.0.113.1:8081/private/ & done
         wait",
        2 * MAX_RETRY
    ));
    lab.wait_until("the attacker is banned", || lab.is_banned(ATTACKER));
    the_bystander_is_free(&lab);
    // The trap was one: messages did end with the address.
    let caught = lab.sh(&format!("grep -c 'IP: {BYSTANDER}$' /var/log/syslog || true"));
    assert_eq!(caught.trim(), (2 * MAX_RETRY).to_string());
}

#[test]
#[ignore = "needs root and servers: contrib/test"]
fn a_path_at_an_ftp_server_frames_nobody() {
    let lab = Lab::up("journald");
    lab.sh("vsftpd /etc/vsftpd.conf -owrite_enable=YES -olisten_port=2021 -ochroot_local_user=NO >/dev/null 2>&1 &
            for i in {1..200}; do if ss -Hltn sport = :2021 | grep -q .; then break; fi; sleep 0.05; done");
    let _daemon = lab.start("");
    let paths = [
        format!("DELE x] FAIL LOGIN: Client \"{BYSTANDER}"),
        format!("MKD x] FAIL LOGIN: Client \"{BYSTANDER}\", \"y"),
        format!("DELE x] OK LOGIN: Client \"{BYSTANDER}"),
        format!("RMD x] FAIL LOGIN: Client \"{BYSTANDER}"),
        format!("RETR x] FAIL LOGIN: Client \"{BYSTANDER}"),
        format!("SITE CHMOD 644 x] FAIL LOGIN: Client \"{BYSTANDER}"),
    ];
    // One session counts once.
    lab.sh(&format!(
        "cat >/run/session <<'END'\nUSER alice\r\nPASS sesame\r\n{}\r\nQUIT\r\nEND
         for i in {{1..{}}}; do
             ip netns exec attacker socat -t 10 STDIO TCP:203.0.113.1:2021,bind=198.51.100.9 </run/session | grep '^221' &
         done
         wait",
        paths.join("\r\n"),
        2 * MAX_RETRY
    ));
    lab.attack("ftp", ATTACKER, MAX_RETRY);
    lab.wait_until("the attacker is banned", || lab.is_banned(ATTACKER));
    the_bystander_is_free(&lab);
    let written = lab.sh(&format!(
        "journalctl -q -o cat SYSLOG_IDENTIFIER=vsftpd | grep -c 'LOGIN: Client \"{BYSTANDER}'"
    ));
    assert!(written.trim().parse::<usize>().expect("a number") >= 2 * MAX_RETRY);
    assert!(!lab.sh(&format!("banstream why {BYSTANDER} || true")).contains("logged in"));
}

#[track_caller]
fn the_bystander_is_free(lab: &Lab) {
    let bans = lab.sh("banstream bans --json");
    assert!(!bans.contains(BYSTANDER) && !lab.is_banned(BYSTANDER), "{bans}");
    assert!(bans.contains(ATTACKER), "{bans}");
}
