//! The daemon's own log in a real journal: what an operator can search it by, and that it feeds nothing back.

use std::fs;

use serde_json::Value;

use super::{Daemon, Lab, MAX_RETRY};
use crate::common::until;

#[test]
fn its_own_log_can_be_searched_and_is_not_read_as_an_attack() {
    let lab = Lab::up("journald");
    lab.write_config("ignoreip = ['198.51.100.66']\n");
    let run = "export JOURNAL_STREAM=$(stat -Lc %d:%i /proc/self/fd/2)
               echo $$ >/run/banstream.pid
               exec banstream run --config /run/banstream.toml";
    let child = lab.command(&["systemd-cat", "bash", "-c", run]).spawn().expect("nsenter");
    let _daemon = Daemon { lab: &lab, child };
    until("the daemon answers", || lab.output("banstream status").status.success());

    lab.attack("ssh", "198.51.100.1", MAX_RETRY);
    lab.attack("ssh", "198.51.100.66", MAX_RETRY);
    until("the ban", || lab.is_banned("198.51.100.1"));
    lab.sh("banstream ban 192.0.2.1 --reason scan");
    // As it would stand there if what a stranger typed came whole into a line of ours.
    lab.sh("for i in {1..9}; do logger -t banstream 'Invalid user x from 198.51.100.77 port 22'; done");
    lab.sh("banstream unban 198.51.100.1; iptables -t raw -F PREROUTING");
    let catalog = fs::read_to_string("contrib/systemd/banstream.catalog").expect("the catalog");
    let entries = |id: &str| {
        let found = lab.sh(&format!("journalctl -q -o json SYSLOG_IDENTIFIER=banstream MESSAGE_ID={id}"));
        found.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")).collect::<Vec<_>>()
    };
    let id = |subject: &str| {
        let before = catalog.split(subject).next().expect("a part");
        before.rsplit("-- ").next().expect("an id").lines().next().expect("a line").to_owned()
    };
    for (subject, address, jail) in [
        ("Subject: @BANSTREAM_ADDRESS@ has been banned", Some("198.51.100.1"), Some("sshd")),
        ("Subject: @BANSTREAM_ADDRESS@ has been banned", Some("192.0.2.1"), Some("manual")),
        ("Subject: @BANSTREAM_ADDRESS@ has earned", Some("198.51.100.66"), Some("sshd")),
        ("Subject: The ban on", Some("198.51.100.1"), Some("sshd")),
        ("Subject: The kernel's sets or rules were repaired", None, None),
    ] {
        assert!(catalog.contains(subject));
        let id = id(subject);
        let fits = |entry: &Value| {
            let field = |name: &str| entry.get(name).and_then(Value::as_str);
            (field("BANSTREAM_ADDRESS"), field("BANSTREAM_JAIL")) == (address, jail)
        };
        until(&format!("{subject}: {id} {address:?}"), || entries(&id).iter().any(fits));
    }

    // The catalog is one that journalctl understands. It is compiled aside, and not among the machine's.
    lab.sh(&format!(
        "mkdir -p /run/root/usr/lib/systemd/catalog /run/root/var/lib/systemd/catalog /var/lib/systemd/catalog
         cat >/run/root/usr/lib/systemd/catalog/banstream.catalog <<'END'\n{catalog}END
         journalctl --update-catalog --root=/run/root
         cp /run/root/var/lib/systemd/catalog/database /var/lib/systemd/catalog/"
    ));
    let shown = lab.sh("journalctl -q -x SYSLOG_IDENTIFIER=banstream BANSTREAM_ADDRESS=198.51.100.1");
    assert!(shown.contains("To lift the ban: banstream unban 198.51.100.1"), "{shown}");

    lab.attack("ssh", "198.51.100.2", MAX_RETRY);
    until("what stood before has been read", || lab.is_banned("198.51.100.2"));
    assert!(!lab.is_banned("198.51.100.77"), "its own lines were read as offences");
}
