//! `banstream setup` on a host with real servers, as their packages leave them, and a real rsyslogd.

use super::{Lab, MAX_RETRY};
use crate::common::{said, until};

const SETUP: &str = "banstream setup --config /run/banstream.toml";

/// All that it may write, with the owner and mode of each file.
const FILES: &str =
    "find /etc /run/banstream.d -type f -printf '%p %u %m\\n' -exec sha256sum {} + 2>/dev/null | sort";

/// It is enabled, if it is installed on this machine, but nobody has started it.
const FORGET_LIGHTTPD: &str = "rm -f /etc/systemd/system/multi-user.target.wants/lighttpd.service";

/// The servers that run, by the ways to attack them.
const SERVERS: [&str; 6] = ["ssh", "ftp", "proftpd", "pure-ftpd", "http-probe", "apache-probe"];

#[test]
fn attacks_on_stock_servers_end_in_bans_once_setup_has_written_what_is_missing() {
    let lab = Lab::up("stock");
    lab.sh(FORGET_LIGHTTPD);
    let _daemon = lab.start("");
    let setup = |options: &str, status: i32| {
        let output = lab.output(&format!("{SETUP} {options}"));
        let text = said(&output);
        assert_eq!(output.status.code(), Some(status), "{options}: {text}");
        text
    };
    let files = || lab.sh(FILES);

    let before = files();
    let found = setup("", 1);
    for service in ["OpenSSH", "nginx", "Apache", "vsftpd", "ProFTPD", "Pure-FTPd"] {
        let is_row = |line: &&str| line.contains(&format!("{service} ")) && line.contains("process ");
        let row = found.lines().find(is_row).unwrap_or_else(|| panic!("no {service}: {found}"));
        assert!(row.trim_end().ends_with("do not arrive"), "{row}");
    }
    assert!(found.contains("nginx: nobody reads /var/log/nginx/*access.log\n"), "{found}");
    assert_eq!(found.matches(" 80/tcp").count(), 1, "{found}");
    setup("--json", 1);
    setup("--write --dry-run", 1);
    assert_eq!(files(), before, "it writes only what it is told to");

    // What comes behind ours can break it.
    lab.sh("echo 'module(load=\"imfile\")' >/etc/rsyslog.d/zzz.conf");
    let with_fault = files();
    let refusal = setup("--write", 2);
    assert!(refusal.contains("rsyslog refuses it, so nothing was written:\n"), "{refusal}");
    assert_eq!(files(), with_fault);
    lab.sh("rm /etc/rsyslog.d/zzz.conf");

    let first = setup("--write", 0);
    assert!(first.contains("/zz-banstream-setup.conf: 2 inputs and the messages of programs\n"), "{first}");
    let written = files();
    assert_ne!(written, before);
    let second = setup("--write", 0);
    assert!(second.contains("\nnothing to write: the lines of "), "{second}");
    assert_eq!(files(), written);

    // No systemd is there to do it.
    lab.sh("kill $(pidof rsyslogd); while pidof rsyslogd; do sleep 0.05; done >/dev/null; rsyslogd -iNONE");
    for log in ["nginx/access.log", "apache2/access.log"] {
        let opened = format!("ls -l /proc/$(pidof rsyslogd)/fd | grep -q {log}");
        until(&format!("rsyslogd reads {log}"), || lab.output(&opened).status.success());
    }
    for (nth, server) in SERVERS.iter().enumerate() {
        let source = format!("198.51.100.{}", 20 + nth);
        lab.attack(server, &source, MAX_RETRY);
        until(&format!("{source} is banned for {server}"), || lab.is_banned(&source));
    }
    let now = setup("", 0);
    assert_eq!(now.matches("  arrive: ").count(), SERVERS.len(), "{now}");

    assert!(setup("--undo --dry-run", 1).contains("1 file to undo"));
    assert_eq!(files(), written);
    let undone = setup("--undo", 0);
    assert!(undone.contains("undid /etc/rsyslog.d/zz-banstream-setup.conf: removed\n"), "{undone}");
    assert_eq!(files(), before);
    assert_eq!(setup("--undo", 0), "nothing to undo\n");
}

#[test]
fn without_rsyslog_nginx_logs_to_the_journal_if_asked() {
    let lab = Lab::up("stock-journald");
    lab.sh(FORGET_LIGHTTPD);
    lab.sh("mkdir /run/upper /run/work
         mount -t overlay -o lowerdir=/usr/sbin,upperdir=/run/upper,workdir=/run/work overlay /usr/sbin
         rm /usr/sbin/rsyslogd");
    let _daemon = lab.start("");
    let before = lab.sh(FILES);
    // What was written before rsyslog was removed can go.
    let header =
        "# Made by `banstream setup --write`, which replaces it; `banstream setup --undo` removes it.";
    lab.sh(&format!("echo '{header}' >/etc/rsyslog.d/zz-banstream-setup.conf; {SETUP} --undo"));
    assert_eq!(lab.sh(FILES), before);
    let found = said(&lab.output(SETUP));
    for part in [
        "nginx: nobody reads /var/log/nginx/*access.log; rsyslog, which can, is not installed\n",
        "with --server-settings, would change /etc/nginx/nginx.conf: nginx logs to syslog\n",
        "    +\taccess_log syslog:server=unix:/dev/log,nohostname combined;\n",
    ] {
        assert!(found.contains(part), "{part}: {found}");
    }
    // Apache has no such setting.
    let output = lab.output(&format!("{SETUP} --write --server-settings"));
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    lab.sh("nginx -s reload");
    let source = "198.51.100.20";
    // Workers with the settings of before may still take some requests.
    until("a scan of nginx ends in a ban", || {
        lab.is_banned(source) || {
            lab.attack("http-probe", source, 1);
            lab.is_banned(source)
        }
    });
    let written = lab.sh(FILES);
    lab.output(&format!("{SETUP} --write --server-settings"));
    assert_eq!(lab.sh(FILES), written);

    // What nginx refuses is taken back.
    lab.sh(&format!("{SETUP} --undo; echo 'access_log /x nonsense;' >/etc/nginx/conf.d/fault.conf"));
    let with_fault = lab.sh(FILES);
    let refused = lab.output(&format!("{SETUP} --write --server-settings"));
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    assert!(said(&refused).contains("unknown log format \"nonsense\""), "{}", said(&refused));
    assert_eq!(lab.sh(FILES), with_fault);
    lab.sh("rm /etc/nginx/conf.d/fault.conf");
    assert_eq!(lab.sh(FILES), before);
}
