//! What each input of rsyslog knows of a sender, by the drop-ins as they are shipped and a real rsyslogd.

use serde_json::Value;

use super::Lab;
use crate::common::until;

/// What the drop-ins hand to the child, line by line, as it was given.
struct Recorder<'a>(&'a Lab);

impl Recorder<'_> {
    /// rsyslog as this configuration has it, with the drop-ins as they are shipped, and a child that only notes lines.
    fn start<'a>(lab: &'a Lab, conf: &str) -> Recorder<'a> {
        lab.sh(&format!(
            "cat >/run/bin/recorder <<'END'
#!/bin/bash
echo OK
while IFS= read -r line; do
    echo \"$line\" >>/run/recorded
    echo OK
done
END
             chmod +x /run/bin/recorder
             mkdir -p /run/rsyslog
             cp {}/contrib/rsyslog/10-banstream.conf /run/rsyslog/
             sed -i 's#/usr/bin/banstream omprog --confirm#/run/bin/recorder#' /run/rsyslog/10-banstream.conf
             touch /run/recorded
             cat >/run/rsyslog.conf <<'END'\n{conf}\nEND
             rsyslogd -N1 -f /run/rsyslog.conf 2>/dev/null
             rsyslogd -n -iNONE -f /run/rsyslog.conf >/run/rsyslog.log 2>&1 &",
            env!("CARGO_MANIFEST_DIR")
        ));
        Recorder(lab)
    }

    /// The line whose message ends like this, once it has come.
    #[track_caller]
    fn line(&self, message: &str) -> Value {
        until(&format!("`{message}` is handed on"), || {
            self.lines().into_iter().find(|line| text(line, "message").ends_with(message))
        })
    }

    fn lines(&self) -> Vec<Value> {
        let text = self.0.sh("cat /run/recorded");
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Whether one of the lines so far has this in it.
    fn has(&self, text: &str) -> bool {
        self.0.sh("cat /run/recorded").contains(text)
    }
}

fn text<'v>(line: &'v Value, key: &str) -> &'v str {
    line[key].as_str().expect("a text")
}

/// What a line says of its sender: program, process, user, program's file, unit, host.
#[track_caller]
fn sender(line: &Value, want: [&str; 6]) {
    let got = ["program", "pid", "uid", "exe", "unit", "host"].map(|key| text(line, key));
    assert_eq!(got, want, "{line}");
}

#[test]
fn what_each_input_of_rsyslog_knows_of_a_sender_is_handed_on() {
    let lab = Lab::up("journald");
    lab.sh("mkfifo /run/kmsg; sleep inf 9<>/run/kmsg >/dev/null 2>&1 &");
    let recorder = Recorder::start(
        &lab,
        r#"global(workDirectory="/var/spool/rsyslog" net.enableDNS="off")
           module(load="imuxsock" SysSock.Name="/run/log-socket" SysSock.Annotate="on" SysSock.ParseTrusted="on")
           module(load="imklog" LogPath="/run/kmsg")
           module(load="imfile")
           module(load="imtcp")
           module(load="imudp")
           include(file="/run/rsyslog/*.conf")
           input(type="imfile" file="/run/watched" tag="apache2:" ruleset="banstream")
           input(type="imudp" address="127.0.0.1" port="514")
           input(type="imtcp" address="127.0.0.1" port="514")
           input(type="imtcp" address="127.0.0.1" port="515" ruleset="banstream")"#,
    );
    until("rsyslog listens", || lab.output("ss -Hltn sport = :515 | grep -q .").status.success());
    let send =
        |to: &str, line: &str| lab.sh(&format!("echo '<38>Nov 28 04:00:00 {line}' | socat -u STDIN {to}"));

    // The process is the one that the message names; the user the one that the kernel names.
    lab.sh("setpriv --reuid 33 --clear-groups python3 -c '
import socket, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect(\"/run/log-socket\")
s.send(b\"<38>Nov 28 04:00:00 sshd[4711]: by a worker\")
s.send(b\"<38>Nov 28 04:00:00 sshd: by nobody in particular\")
s.send(b\"<38>Nov 28 04:00:00 sshd[4711]: \" + b\"x\" * 140000)
time.sleep(2)
' >/dev/null 2>&1 & echo $! >/run/worker");
    let worker = lab.sh("cat /run/worker");
    let exe = lab.sh("readlink -f $(which python3)");
    sender(&recorder.line("by a worker"), ["sshd", "4711", "33", exe.trim(), "", "victim"]);
    sender(
        &recorder.line("by nobody in particular"),
        ["sshd", worker.trim(), "33", exe.trim(), "", "victim"],
    );
    assert_eq!(text(&recorder.line("xxxxxxxxxxxx"), "size"), "131072");

    lab.sh("printf '<6>[    1.000000] by the kernel\\n' >/run/kmsg");
    sender(&recorder.line("by the kernel"), ["kernel", "", "", "", "", "victim"]);

    lab.sh("echo 'in a file' >>/run/watched");
    sender(&recorder.line("in a file"), ["apache2", "", "", "", "", "victim"]);

    // Another host's lines are taken only on request, and are not attested here.
    send("UDP:127.0.0.1:514", "elsewhere sshd[1]: over UDP");
    send("TCP:127.0.0.1:514", "elsewhere sshd[1]: over TCP");
    send("TCP:127.0.0.1:515", "elsewhere sshd[1]: asked for");
    sender(&recorder.line("asked for"), ["sshd", "1", "", "", "", "elsewhere"]);
    assert!(!recorder.has("over UDP") && !recorder.has("over TCP"));
}

/// The files of contrib/collector with certificates in /run/tls.
const COLLECTOR: &str = r#"
    mkdir -p /run/rsyslog /run/tls && cd /run/tls
    ec='-pkeyopt ec_paramgen_curve:P-256 -nodes'
    openssl req -x509 -newkey ec $ec -keyout ca.key -out ca.pem -subj /CN=fleet -days 2 2>/dev/null
    for name in nats1 web1 stranger; do
        openssl req -newkey ec $ec -keyout $name.key -out $name.csr -subj /CN=$name 2>/dev/null
        openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out $name.pem 2>/dev/null
    done
    installed() { sed "s#/etc/rsyslog.d/tls/host#/run/tls/$2#g; s#/etc/rsyslog.d/tls#/run/tls#g; s#192.0.2.1#127.0.0.1#" "$1"; }
    installed $REPOSITORY/contrib/collector/30-banstream-collector.conf nats1 >/run/rsyslog/30-banstream-collector.conf
    for name in web1 stranger; do
        mkdir /run/$name
        installed $REPOSITORY/contrib/collector/30-banstream-forward.conf $name >/run/$name/30-banstream-forward.conf
        cat >/run/$name.conf <<END
global(workDirectory="/run/$name" net.enableDNS="off")
module(load="imuxsock" SysSock.Name="/run/$name.socket" SysSock.Annotate="on" SysSock.ParseTrusted="on")
include(file="/run/$name/*.conf")
END
        rsyslogd -N1 -f /run/$name.conf 2>/dev/null
    done"#;

#[test]
fn a_collector_takes_what_services_of_its_hosts_write_and_nothing_else() {
    let lab = Lab::up("journald");
    lab.sh(&format!("REPOSITORY={}\n{COLLECTOR}", env!("CARGO_MANIFEST_DIR")));
    let recorder = Recorder::start(
        &lab,
        r#"global(workDirectory="/var/spool/rsyslog" net.enableDNS="off")
           module(load="imuxsock" SysSock.Use="off")
           include(file="/run/rsyslog/*.conf")"#,
    );
    until("rsyslog listens", || lab.output("ss -Hltn sport = :2514 | grep -q .").status.success());
    let log = |host: &str, uid: u32, message: &str| {
        lab.sh(&format!(
            "setpriv --reuid {uid} --clear-groups logger -u /run/{host}.socket -t 'sshd[7]' '{message}'"
        ))
    };
    for host in ["stranger", "web1"] {
        lab.sh(&format!("rsyslogd -n -iNONE -f /run/{host}.conf >/run/{host}.log 2>&1 &"));
        until("a host logs", || lab.output(&format!("test -S /run/{host}.socket")).status.success());
    }
    // Its certificate is of the same authority, but nobody has named it.
    log("stranger", 0, "by another host");
    log("web1", 1000, "by a person");
    log("web1", 0, "by a service");
    sender(&recorder.line("by a service"), ["sshd", "7", "", "", "", "victim"]);
    assert!(!recorder.has("by a person") && !recorder.has("by another host"));
}

#[test]
fn what_the_journal_knows_of_a_sender_is_handed_on_by_rsyslog() {
    let lab = Lab::up("journald");
    // As on RHEL and its kin.
    let recorder = Recorder::start(
        &lab,
        r#"global(workDirectory="/var/spool/rsyslog")
           module(load="imuxsock" SysSock.Use="off")
           module(load="imjournal" UsePid="system" StateFile="imjournal.state")
           include(file="/run/rsyslog/*.conf" mode="optional")"#,
    );
    until("the journal is read", || {
        lab.sh("logger -t try listening");
        recorder.has("listening")
    });
    let exe = lab.sh("readlink -f $(which python3)");
    lab.sh("echo 'on stdout' | systemd-cat -t nginx
            setpriv --reuid 33 --clear-groups python3 -c '
import socket, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect(\"/run/systemd/journal/socket\")
s.send(b\"MESSAGE=in a container\\nSYSLOG_IDENTIFIER=nginx\\nCONTAINER_ID_FULL=abc\\n\")
s.send(b\"MESSAGE=of a liar\\nSYSLOG_IDENTIFIER=sshd\\nSYSLOG_PID=99\\nUID=0\\nPID=1\\nEXE=/x\\nHOSTNAME=x\\n\")
s.send(b\"MESSAGE=\" + b\"x\" * 140000 + b\"\\nSYSLOG_IDENTIFIER=sshd\\n\")
time.sleep(1)
'");
    let liar = recorder.line("of a liar");
    assert_ne!(text(&liar, "pid"), "99");
    sender(&liar, ["sshd", text(&liar, "pid"), "33", exe.trim(), "", "victim"]);
    assert_eq!(text(&recorder.line("xxxxxxxxxxxx"), "size"), "131072");
    lab.attack("ssh", "198.51.100.1", 1);
    let failed = recorder.line("ssh2");
    assert_eq!((text(&failed, "uid"), text(&failed, "comm")), ("0", "sshd"), "{failed}");
    assert!(!recorder.has("on stdout") && !recorder.has("in a container"));
}

#[test]
fn a_sender_that_ends_at_once_is_not_taken_for_journald() {
    let lab = Lab::up("journald");
    lab.sh("sysctl -qw net.unix.max_dgram_qlen=512 # as systemd has it
            sed -i 's/^Audit=no/&\\nForwardToSyslog=yes/' /etc/systemd/journald.conf.d/test.conf
            kill $(pidof systemd-journald); while pidof systemd-journald; do sleep 0.05; done
            /lib/systemd/systemd-journald >/dev/null 2>&1 &");
    // As on Debian, where the system's log socket is the one that journald forwards to.
    let recorder = Recorder::start(
        &lab,
        r#"global(workDirectory="/var/spool/rsyslog")
           module(load="imuxsock" SysSock.Name="/run/systemd/journal/syslog" SysSock.Annotate="on"
                  SysSock.ParseTrusted="on" SysSock.RateLimit.Interval="0")
           include(file="/run/rsyslog/*.conf")"#,
    );
    until("journald forwards", || {
        lab.sh("logger -t try listening");
        recorder.has("listening")
    });
    lab.sh("python3 -c '
import os, socket
for n in range(60):
    if os.fork() == 0:
        os.setuid(33)
        s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        s.connect(\"/run/systemd/journal/dev-log\")
        s.send(b\"<38>Nov 28 04:00:00 sshd[%d]: child\" % (100000 + n))
        os._exit(0)
'");
    let children = || -> Vec<Value> {
        recorder.lines().into_iter().filter(|line| text(line, "message").ends_with("child")).collect()
    };
    until("all have come", || children().len() == 60);
    let mut pids: Vec<String> = children().iter().map(|line| text(line, "pid").to_owned()).collect();
    pids.sort();
    assert!(pids.iter().map(|pid| pid.parse::<u32>().expect("a number")).eq(100_000..100_060), "{pids:?}");
    for line in children() {
        assert_eq!(text(&line, "uid"), "33", "{line}");
        assert!(
            !text(&line, "exe").contains("journald") && text(&line, "comm") != "systemd-journal",
            "{line}"
        );
    }
}
