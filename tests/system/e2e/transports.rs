//! What happens to a line between a real server and the daemon: log daemons and container engines split it, cut it and
//! say who wrote it. Nobody but the attacker is banned, and the attacker is.

use super::{Lab, MAX_RETRY, metrics};
use crate::common::until;

const ATTACKER: &str = "198.51.100.66";
/// Whose address the attacker writes.
const BYSTANDER: &str = "203.0.113.99";
/// Who gets what the attacker does not.
const VISITOR: &str = "198.51.100.7";

#[test]
fn a_line_that_docker_splits_frames_nobody() {
    a_line_that_an_engine_splits_frames_nobody(
        "dockerd --bridge=none --iptables=false --ip6tables=false --storage-driver=vfs --data-root /run/engine \
             --exec-root /run/docker -H unix:///run/docker.sock >/run/engine.log 2>&1 &
         engine() { /usr/bin/docker -H unix:///run/docker.sock \"$@\"; }
         for i in {1..200}; do if engine version &>/dev/null; then break; fi; sleep 0.05; done",
    );
}

#[test]
fn a_line_that_podman_splits_frames_nobody() {
    a_line_that_an_engine_splits_frames_nobody(
        "engine() {
             podman --root /run/engine --runroot /run/podman --storage-driver vfs --cgroup-manager cgroupfs \
                 --runtime runc \"$@\"
         }
         limits=(--ulimit nofile=1024:1024 --ulimit nproc=1024:1024)",
    );
}

/// The engine's pieces are 8 or 16 KiB long, so the attacker lets one begin with what nginx writes about others.
#[track_caller]
fn a_line_that_an_engine_splits_frames_nobody(engine: &str) {
    let lab = Lab::up("journald");
    let _daemon = lab.start("");
    let forged = forged_for_nginx(&lab);
    let mut line = format!("{ATTACKER} - alice [22/Nov/2026:05:40:34 +0000] \"GET /private/");
    for end in [8192, 16384, 24576] {
        line += &"A".repeat(end - line.len());
        line += &forged;
    }
    line += " HTTP/1.1\" 401 179 \"-\" \"-\"\n";
    let lines = line.repeat(MAX_RETRY);
    lab.sh(&format!(
        "mkdir -p /run/image/bin /var/lib/docker /var/lib/containers
         mount -t tmpfs tmpfs /dev/shm
         cp /bin/busybox /run/image/bin/cat
         cat >/run/image/lines <<'END'\n{lines}END
         tar -C /run/image -c . >/run/image.tar
         {engine}
         engine import /run/image.tar lab
         engine run \"${{limits[@]}}\" --network none --log-driver journald --log-opt tag=nginx lab /bin/cat /lines"
    ));
    until("the attacker is banned", || lab.is_banned(ATTACKER));
    the_bystander_is_free(&lab);
}

#[test]
fn a_line_that_logger_splits_frames_nobody() {
    for log in ["journald", "rsyslog"] {
        let lab = Lab::up(log);
        let _daemon = lab.start("");
        let forged = format!("[error] [client {BYSTANDER}] user x: authentication failure");
        is_read_as(&lab, "apache2", &forged, BYSTANDER);
        // logger takes so many bytes for a line that has more.
        let mut line = format!("{ATTACKER} - alice [22/Nov/2026:05:40:34 +0000] \"GET /");
        line += &"A".repeat(1024 - line.len());
        let short = format!(
            "{ATTACKER} - alice [22/Nov/2026:05:40:34 +0000] \"GET /private/ HTTP/1.1\" 401 9 \"-\" \"-\""
        );
        lab.sh(&format!(
            "for i in {{1..{}}}; do echo '{line}{forged}'; done | logger -t apache2
             for i in {{1..{MAX_RETRY}}}; do echo '{short}'; done | logger -t apache2",
            2 * MAX_RETRY
        ));
        until("the attacker is banned", || lab.is_banned(ATTACKER));
        the_bystander_is_free(&lab);
    }
}

#[test]
fn a_line_that_journald_splits_frames_nobody() {
    let lab = Lab::up("journald");
    let _daemon = lab.start("");
    let forged = forged_for_nginx(&lab);
    for (round, line_max) in (1..).zip([48 << 10, 4 << 10]) {
        lab.sh(&format!(
            "banstream unban --all
             echo LineMax={line_max} >>/etc/systemd/journald.conf.d/test.conf
             kill $(pidof systemd-journald); while pidof systemd-journald; do sleep 0.05; done
             /lib/systemd/systemd-journald >/dev/null 2>&1 &
             for i in {{1..200}}; do if systemd-cat true; then break; fi; sleep 0.05; done"
        ));
        // The rest stands in a piece of its own.
        let write = |times: usize, client: &str, asked: &str, rest: &str| {
            let mut line = format!("{client} - - [22/Nov/2026:05:40:34 +0000] \"GET {asked}");
            line += &"A".repeat(line_max - line.len());
            lab.sh(&format!(
                "cat >/run/line <<'END'\n{line}{rest} 179 \"-\" \"-\"\nEND
                 for i in {{1..{times}}}; do cat /run/line; done | systemd-cat -t nginx"
            ));
        };
        write(2 * MAX_RETRY, ATTACKER, "/", &format!("{forged} HTTP/1.1\" 200"));
        for probe in ["/wp-login.php?", "/xmlrpc.php?", "/phpmyadmin/index.php?"] {
            write(1, VISITOR, probe, " HTTP/1.1\" 200");
            write(1, ATTACKER, probe, " HTTP/1.1\" 404");
        }
        until("the attacker is banned", || lab.is_banned(ATTACKER));
        the_bystander_is_free(&lab);
        let bans = lab.sh("banstream bans --json");
        assert!(bans.contains("\"http-probe\"") && !bans.contains(VISITOR), "{bans}");
        // The trap was one: pieces did begin with what nginx writes.
        let pieces =
            lab.sh("journalctl -q -o cat SYSLOG_IDENTIFIER=nginx | grep -c '^2026/11/22 05:40:34 .error'");
        assert_eq!(pieces.trim(), (round * 2 * MAX_RETRY).to_string());
    }
}

/// Journald takes it from anybody.
#[test]
fn an_entry_of_700_megabytes_takes_little_memory_and_hides_nothing_behind_it() {
    let lab = Lab::up("journald");
    let _daemon = lab.start("");
    let kib = |name: &str| -> u64 {
        let status = lab.sh("cat /proc/$(cat /run/banstream.pid)/status");
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect(name);
        line.trim_matches(|c: char| !c.is_ascii_digit()).parse().expect("a number")
    };
    lab.sh("echo 5 >/proc/$(cat /run/banstream.pid)/clear_refs"); // the peak counts from now on
    let idle = kib("VmRSS:");
    lab.sh("python3 - <<'END'
import fcntl, os, socket
entry = os.memfd_create('entry', os.MFD_ALLOW_SEALING)
os.write(entry, b'SYSLOG_IDENTIFIER=sshd\\n')
for n in range(700):
    os.write(entry, b'MESSAGE\\n' + (1 << 20).to_bytes(8, 'little') + b'%03d' % n + b'x' * ((1 << 20) - 3) + b'\\n')
seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
fcntl.fcntl(entry, fcntl.F_ADD_SEALS, seals)
journald = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
journald.connect('/run/systemd/journal/socket')
socket.send_fds(journald, [b''], [entry])
END");
    lab.attack("ssh", ATTACKER, MAX_RETRY);
    until("the attacker is banned", || lab.is_banned(ATTACKER));
    assert!(metrics(&lab).contains("drops_total{reason=\"overlong\"} 1\n"));
    let peak = kib("VmHWM:");
    assert!(peak < idle + (64 << 10), "{peak} KiB at its peak, {idle} KiB before");
}

/// Debian's journald hands all messages to rsyslog, and of the pieces of a unit's line it says nothing.
#[test]
fn a_line_that_journald_splits_for_rsyslog_frames_nobody() {
    let lab = Lab::up("journald");
    lab.sh(&format!(
        "sysctl -qw net.unix.max_dgram_qlen=512 # as systemd has it
            sed -i 's/^Audit=no/&\\nForwardToSyslog=yes/' /etc/systemd/journald.conf.d/test.conf
         kill $(pidof systemd-journald); while pidof systemd-journald; do sleep 0.05; done
         /lib/systemd/systemd-journald >/dev/null 2>&1 &
         mkdir /run/rsyslog
         cp {}/contrib/rsyslog/10-banstream.conf /run/rsyslog/
         sed -i s#/usr/bin#/run/bin# /run/rsyslog/10-banstream.conf
         cat >/run/rsyslog.conf <<'END'
global(workDirectory=\"/var/spool/rsyslog\")
module(load=\"imuxsock\" SysSock.Name=\"/run/systemd/journal/syslog\" SysSock.Annotate=\"on\" SysSock.ParseTrusted=\"on\"
       SysSock.RateLimit.Interval=\"0\")
include(file=\"/run/rsyslog/*.conf\")
END
         rsyslogd -n -iNONE -f /run/rsyslog.conf >/run/rsyslog.log 2>&1 &
         for i in {{1..200}}; do if [ -S /run/systemd/journal/syslog ]; then break; fi; sleep 0.05; done",
        env!("CARGO_MANIFEST_DIR")
    ));
    let _daemon = lab.start("journald.enabled = false\n");
    let forged = forged_for_nginx(&lab);
    let mut line = format!("{ATTACKER} - alice [22/Nov/2026:05:40:34 +0000] \"GET /");
    line += &"A".repeat((48 << 10) - line.len());
    let request = format!(
        "{ATTACKER} - alice [22/Nov/2026:05:40:34 +0000] \"GET /private/ HTTP/1.1\" 401 9 \"-\" \"-\""
    );
    lab.sh(&format!(
        "cat >/run/line <<'END'\n{line}{forged}\nEND
         for i in {{1..{}}}; do cat /run/line; sleep 0.05; done | systemd-cat -t nginx",
        2 * MAX_RETRY
    ));
    until("the attacker is banned", || {
        lab.sh(&format!("echo '{request}' | systemd-cat -t nginx"));
        lab.is_banned(ATTACKER)
    });
    the_bystander_is_free(&lab);
}

#[test]
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
    until("the attacker is banned", || lab.is_banned(ATTACKER));
    the_bystander_is_free(&lab);
    // The trap was one: messages did end with the address.
    let caught = lab.sh(&format!("grep -c 'IP: {BYSTANDER}$' /var/log/syslog || true"));
    assert_eq!(caught.trim(), (2 * MAX_RETRY).to_string());
}

#[test]
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
    until("the attacker is banned", || lab.is_banned(ATTACKER));
    the_bystander_is_free(&lab);
    let written = lab.sh(&format!(
        "journalctl -q -o cat SYSLOG_IDENTIFIER=vsftpd | grep -c 'LOGIN: Client \"{BYSTANDER}'"
    ));
    assert!(written.trim().parse::<usize>().expect("a number") >= 2 * MAX_RETRY);
    assert!(!lab.sh(&format!("banstream why {BYSTANDER} || true")).contains("logged in"));
}

/// What nginx writes of others, and no line of theirs.
#[track_caller]
fn forged_for_nginx(lab: &Lab) -> String {
    let forged = format!(
        "2026/11/22 05:40:34 [error] 1#1: *1 PAM: user 'x' - not authenticated: Authentication failure, client: \
         {BYSTANDER}, server: x"
    );
    is_read_as(lab, "nginx", &forged, BYSTANDER);
    forged
}

/// The trap is one: this message by itself would be an offence of this address.
#[track_caller]
fn is_read_as(lab: &Lab, program: &str, message: &str, address: &str) {
    let found = lab.sh(&format!("echo \"{message}\" | banstream explain --program {program}"));
    assert!(found.contains(address), "{found}");
}

#[track_caller]
fn the_bystander_is_free(lab: &Lab) {
    let bans = lab.sh("banstream bans --json");
    assert!(!bans.contains(BYSTANDER) && !lab.is_banned(BYSTANDER), "{bans}");
    assert!(bans.contains(ATTACKER), "{bans}");
}
