//! Who wrote a line, as real log daemons tell it: a user of a system service cannot write for a server that is not its
//! own, whatever the process is called and however soon it is gone.

use super::{Lab, MAX_RETRY, metrics};
use crate::common::until;

const ATTACKER: &str = "198.51.100.66";
/// Whose address is written for sshd.
const BYSTANDER: &str = "203.0.113.99";
/// Whose address is written for nginx.
const CLIENT: &str = "203.0.113.98";
/// How often each way is tried; children that end at once are seen in different states.
const TIMES: usize = 60;

#[test]
fn the_user_of_a_web_server_cannot_write_for_sshd_through_journald() {
    let lab = Lab::up("journald");
    let _daemon = lab.start("");
    writes_for_its_own_server_only(&lab, 1);
}

#[test]
fn the_user_of_a_web_server_cannot_write_for_sshd_through_rsyslog() {
    let lab = Lab::up("rsyslog");
    lab.sh("printf '%s\\n' 'template(name=\"exe\" type=\"string\" string=\"%$!exe%|\\n\")' \\
                'if $programname == \"sshd\" and $!uid == 33 then { action(type=\"omfile\" file=\"/run/exes\" template=\"exe\") }' \\
                >/etc/rsyslog.d/z.conf");
    let _daemon = lab.start("");
    let restart = |how: &str| {
        lab.sh(&format!(
            "kill $(pidof rsyslogd)
             for i in {{1..200}}; do if ! pidof rsyslogd >/dev/null; then break; fi; sleep 0.05; done
             rm -f /run/exes
             {how} rsyslogd -n -iNONE >/dev/null 2>&1 &
             for i in {{1..200}}; do if logger -t ready there && grep -q there /var/log/syslog; then break; fi; sleep 0.05; done"
        ));
    };
    restart("");
    writes_for_its_own_server_only(&lab, 1);
    assert!(lab.sh("cat /run/exes").contains("/logger|"), "rsyslog knows the executable as on Debian 12");
    // The unit of Debian 13 leaves rsyslog without this, so that it sees no executable of other users.
    restart("setpriv --bounding-set=-sys_ptrace --inh-caps=-sys_ptrace");
    lab.sh("banstream unban --all");
    writes_for_its_own_server_only(&lab, 2);
    assert_eq!(lab.sh("sort -u /run/exes"), "|\n", "rsyslog knows no executable, as on Debian 13");
}

/// Writes for sshd as www-data in every way, which frames nobody; for nginx, which is its own server; and attacks sshd.
#[track_caller]
fn writes_for_its_own_server_only(lab: &Lab, round: usize) {
    let as_www_data = "setpriv --reuid=33 --regid=33 --clear-groups";
    let failed = format!("Failed password for root from {BYSTANDER} port 22 ssh2");
    let accepted = format!("Accepted password for root from {BYSTANDER} port 22 ssh2");
    let refused = format!(
        "2026/11/28 05:40:34 [error] 1#1: *1 user \"x\": password mismatch, client: {CLIENT}, server: , \\
         request: \"GET /private/ HTTP/1.1\", host: \"x\""
    )
    .replace("\\\n", "");
    lab.sh(&format!(
        "mkdir -p /run/copies && cp /usr/bin/logger /run/copies/sshd && cp /usr/bin/logger /run/copies/nginx
         for i in {{1..{TIMES}}}; do {as_www_data} logger -p auth.info -t sshd '{failed}' & done
         for i in {{1..{TIMES}}}; do {as_www_data} /run/copies/sshd -p auth.info -t \"sshd[$i]\" '{failed}' & done
         for i in {{1..{MAX_RETRY}}}; do su -s /bin/sh www-data -c \"logger -p auth.info -t sshd '{failed}'\"; done
         for i in {{1..{MAX_RETRY}}}; do {as_www_data} logger -p auth.info -t sshd '{accepted}'; done
         wait
         for i in {{1..{MAX_RETRY}}}; do {as_www_data} logger -p daemon.err -t nginx '{refused}'; done"
    ));
    lab.attack("ssh", ATTACKER, MAX_RETRY);
    for guilty in [ATTACKER, CLIENT] {
        until(&format!("{guilty} is banned"), || lab.is_banned(guilty));
    }
    let forged = round * (2 * TIMES + 2 * MAX_RETRY);
    until("all forged lines are counted", || {
        metrics(lab).contains(&format!("entries_forged_total{{grammar=\"sshd\",uid=\"33\"}} {forged}\n"))
    });
    let bans = lab.sh("banstream bans --json");
    assert!(!bans.contains(BYSTANDER) && !lab.is_banned(BYSTANDER), "{bans}");
    assert!(!lab.sh(&format!("banstream why {BYSTANDER} || true")).contains("logged in"));
}
