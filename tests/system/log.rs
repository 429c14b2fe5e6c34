//! `banstream log` over a real journald: what it shows, follows and leaves out.
//!
//! The daemon runs in a control group with its unit's name, from which journald takes the unit. It takes root, and
//! namespaces with a `/run` and a `/var/log` of its own.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::{BANSTREAM, Daemon, Killed, failed, in_namespaces, said, sh, until};

/// Enters the unit's control group, and lets the daemon log to the journal.
const UNIT: &str = "export JOURNAL_STREAM=$(stat -Lc %d:%i /proc/self/fd/2)
    echo $$ >\"$1/cgroup.procs\"; shift
    exec \"$@\"";

/// The unit's control group; it goes when the daemon is gone.
struct Group(String);

impl Group {
    /// Where journald looks for it: a host may have both versions of control groups.
    fn new() -> Self {
        let roots = ["unified", "systemd", ""].map(|root| format!("/sys/fs/cgroup/{root}"));
        let root = roots.iter().find(|root| Path::new(root).join("cgroup.procs").exists());
        let group = format!("{}/system.slice/banstream.service", root.expect("control groups"));
        fs::create_dir_all(&group).unwrap();
        Self(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let group = Path::new(&self.0);
        // The slice is there before if a systemd made it.
        [Some(group), group.parent()].into_iter().flatten().for_each(|group| drop(fs::remove_dir(group)));
    }
}

#[test]
fn the_daemons_own_log_is_shown_and_nobody_elses() {
    in_namespaces(&["--mount", "--pid", "--ipc", "--fork", "--kill-child"], || {
        sh("mount --make-rprivate / && mount -t proc proc /proc
            for place in /run /var/log /etc/systemd; do mount -t tmpfs -o mode=755 tmpfs $place; done
            mkdir -p /run/systemd/journal /var/log/journal
            printf '[Journal]\nReadKMsg=no\nAudit=no\n' >/etc/systemd/journald.conf");
        let journald = Command::new("/lib/systemd/systemd-journald").stderr(Stdio::null()).spawn().unwrap();
        let _journald = Killed(journald);
        until("journald takes lines", || Path::new("/run/systemd/journal/stdout").exists());
        let group = Group::new();
        let daemon = Daemon::new("mode = 'observe'");
        daemon.run(&mut daemon.command_of(&["systemd-cat", "bash", "-c", UNIT, "bash", &group.0, BANSTREAM]));
        let log = |words: &str| daemon.tell(format!("log {words}").trim_end());
        let shown = |words: &str, want: &[&str]| {
            until(words, || {
                let text = log(words);
                let are_there = text.lines().count() == want.len()
                    && text.lines().zip(want).all(|(line, want)| line.contains(want));
                if are_there { Ok(()) } else { Err(text) }
            });
        };
        for (address, offender) in [("198.51.100.1", "198.51.100.1"), ("2001:db8::1", "2001:db8::/64")] {
            daemon.send((0..5).map(|pid| failed(pid, address)));
            shown(address, &[&format!("would ban {offender} for")]);
        }
        daemon.tell("ban 203.0.113.1 --reason scan");
        sh("logger -t banstream 'would ban 198.51.100.77 (sshd)'");
        shown("--jail manual", &["would ban 203.0.113.1 forever"]);
        shown("--jail sshd -n 1", &["would ban 2001:db8::/64 for"]);
        shown("--json --jail manual", &["\"BANSTREAM_ADDRESS\":\"203.0.113.1\""]);
        let all = log("--since 1h");
        assert!(
            all.contains(" is ready")
                && all.contains("would ban 203.0.113.1")
                && !all.contains("198.51.100.77"),
            "{all}"
        );
        let follow = Command::new("timeout")
            .args(["3", BANSTREAM, "log", "-f", "-n", "0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // It has begun to follow when its journalctl reads the journal; what was there before, it does not show.
        let begun = || {
            fs::read_to_string(format!("/proc/{}/task/{0}/children", follow.id())).is_ok_and(|children| {
                let child = children.trim();
                let maps = fs::read_to_string(format!("/proc/{child}/maps")).unwrap_or_default();
                !child.is_empty() && maps.contains(".journal")
            })
        };
        until("it follows", begun);
        daemon.tell("ban 203.0.113.2");
        let output = follow.wait_with_output().unwrap();
        let text = said(&output);
        assert!(text.contains("would ban 203.0.113.2") && !text.contains("203.0.113.1 "), "{text}");
        drop(daemon);
        drop(group);
    });
}
