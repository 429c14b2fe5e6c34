//! What `doctor` says of the table of nftables. Of ipset and the rest it is in `e2e`.

use std::process::Output;

use serde_json::Value;

use crate::common::{BANSTREAM, Daemon, in_namespaces, said, sh, until};

/// Processes of their own, too: `doctor` looks at the servers that run.
const NAMESPACES: [&str; 5] = ["--net", "--mount", "--pid", "--fork", "--mount-proc"];

/// Where there is no iptables.
const PATH: &str = "/usr/bin:/bin";

fn doctor(daemon: &Daemon, options: &[&str]) -> Output {
    let words = [&["doctor", "--config", "c.toml"], options].concat();
    let mut command = std::process::Command::new(BANSTREAM);
    command.args(words).env("PATH", PATH).current_dir(daemon.path("")).output().unwrap()
}

/// The names of what is found, but for what is as it should be, and whether something is wrong.
#[track_caller]
fn finds(daemon: &Daemon, want: &[&str]) {
    let output = doctor(daemon, &["--json"]);
    let findings: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let is_told = |finding: &&Value| finding["severity"] != "ok" && finding["name"] != "journald-rate-limit";
    let names: Vec<&str> =
        findings.iter().filter(is_told).map(|finding| finding["name"].as_str().unwrap()).collect();
    assert_eq!(names, want, "{}", said(&output));
    let is_wrong = findings.iter().any(|finding| finding["severity"] == "wrong");
    assert_eq!(output.status.code(), Some(is_wrong.into()));
}

fn banning() -> Daemon {
    let daemon = Daemon::new("");
    start(&daemon);
    daemon.tell("ban 192.0.2.1");
    daemon.tell("ban 2001:db8::/64 --for 1h");
    daemon
}

fn start(daemon: &Daemon) {
    daemon.run(daemon.command().env("PATH", PATH));
}

#[test]
fn without_iptables_and_ipset_it_is_content_with_nftables() {
    in_namespaces(&NAMESPACES, || {
        let daemon = banning();
        finds(&daemon, &[]);
        let said = said(&doctor(&daemon, &[]));
        for verified in [
            "ok: bans go to nftables: ipset cannot be used: cannot run `iptables`: No such file or directory",
            &format!("ok: the table `inet banstream` belongs to process {} (`banstream`)", daemon.pid()),
            "has a rule for each set: `ipv4_32` 1 of 1048576, `ipv6_64` 1 of 1048576\n",
            "ok: the kernel has all bans that were looked up: 2\n",
            "no problems found: bans are enforced\n",
        ] {
            assert!(said.contains(verified), "{verified}: {said}");
        }
        // It reads only.
        assert_eq!(daemon.metric("banstream_enforce_repairs_total{kind=\"refill\"}"), 0);

        // A start with iptables would take ipset.
        assert!(daemon.tell("doctor --config c.toml").contains("[backend-differs]"));

        // What is saved with the table in it cannot be loaded.
        sh("mount -t tmpfs tmpfs /mnt; cp -a /etc/alternatives /mnt; mount --bind /mnt /etc
            nft list ruleset >/etc/nftables.conf; ! nft -f /etc/nftables.conf");
        finds(&daemon, &["saved-table"]);
    });
}

#[test]
fn what_is_wrong_with_the_table_is_found() {
    in_namespaces(&NAMESPACES, || {
        let daemon = banning();
        // What enforces nothing of what the daemon says is not its table.
        let config = |lines: &str| daemon.configure(&format!("[enforce]\n{lines}"));
        config("set = 'other'");
        sh("nft add table inet other; nft add set inet other ipv4_32 '{ type ipv4_addr; }'");
        finds(&daemon, &["chain-missing", "rule-missing", "bans-missing", "table-unowned"]);
        let chain = |priority: &str| {
            sh(&format!(
                "nft 'add chain inet other prerouting {{ type filter hook prerouting priority {priority}; }}
                      add rule inet other prerouting ip saddr @ipv4_32 drop'"
            ));
        };
        chain("-300");
        finds(&daemon, &["chain-missing", "bans-missing", "table-unowned"]);
        sh("nft delete chain inet other prerouting");
        chain("-301");
        finds(&daemon, &["bans-missing", "table-unowned"]);
        sh("nft 'add table inet other { flags dormant; }'");
        finds(&daemon, &["chain-missing", "bans-missing", "table-unowned"]);
        config("");
        daemon.stop();
        finds(&daemon, &["table-unowned", "no-daemon"]);
        sh("nft delete table inet banstream");
        finds(&daemon, &["no-daemon", "nftables-table-missing"]);

        config("owned = false");
        start(&daemon);
        finds(&daemon, &["table-unowned"]);
        sh("nft flush chain inet banstream prerouting");
        until("the rules are there again", || sh("nft list table inet banstream").contains("drop"));
        finds(&daemon, &["table-unowned"]);
    });
}
