//! What enforces bans is taken out of the kernel: by `banstream disable`, and by the script that packages run before a
//! removal.

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::unistd::close;

use crate::common::{BANSTREAM, Daemon, in_namespaces, said, sh, until};

/// A daemon that has banned two addresses with this backend.
fn enforcing(backend: &str) -> Daemon {
    let daemon = Daemon::new(&format!("enforce.backend = '{backend}'"));
    daemon.start();
    ban(&daemon);
    daemon
}

fn ban(daemon: &Daemon) {
    for offender in ["192.0.2.1", "2001:db8::/64"] {
        daemon.tell(&format!("ban {offender}"));
        let address = offender.trim_end_matches("/64");
        until("the kernel has it", || is_held(daemon, address));
    }
}

fn is_held(daemon: &Daemon, address: &str) -> bool {
    daemon.tell(&format!("why {address}")).contains(&format!("the kernel has {address}"))
}

/// What `disable` says, and its exit status.
fn disable(daemon: &Daemon) -> (String, Option<i32>) {
    let output = daemon.output(&["disable", "--config", "c.toml"]);
    (said(&output), output.status.code())
}

/// All that could enforce a ban.
fn kernel() -> String {
    sh("ipset save; iptables-save | grep ^-; ip6tables-save | grep ^-; nft list tables inet")
}

#[track_caller]
fn is_nothing_left() {
    let kernel = kernel();
    assert!(!kernel.contains("banstream"), "{kernel}");
}

#[test]
fn what_either_backend_enforces_is_taken_out_once_the_daemon_is_stopped() {
    in_namespaces(&["--net"], || {
        for (backend, removed) in [
            ("ipset", "removed the rule and 2 elements of `banstream`\n"),
            ("nftables", "removed the table `inet banstream` with 2 elements\n"),
        ] {
            let daemon = enforcing(backend);
            assert_eq!(daemon.status()["enforcement"]["backend"], backend);
            let before = kernel();
            let (says, code) = disable(&daemon);
            let holder = format!("the set `banstream` belongs to another daemon: process {}", daemon.pid());
            assert!(says.contains(&holder) && code == Some(2), "{says}");
            assert!(before == kernel() && before.contains("banstream"), "{before}");
            daemon.stop();
            assert_eq!(disable(&daemon), (removed.to_owned(), Some(0)));
            is_nothing_left();
            let nothing = "nothing of `banstream` is in the kernel\n".to_owned();
            assert_eq!(disable(&daemon), (nothing, Some(0)));
            // The ledger has the bans still.
            daemon.start();
            assert!(is_held(&daemon, "192.0.2.1"));
            daemon.stop();
            disable(&daemon);
        }
    });
}

#[test]
fn who_may_not_look_is_told_so_and_a_wrong_configuration_keeps_nothing_in_force() {
    in_namespaces(&["--net"], || {
        let daemon = enforcing("nftables");
        daemon.stop();
        let powerless = Command::new("setpriv")
            .args(["--bounding-set", "-net_admin", BANSTREAM, "disable"])
            .output()
            .unwrap();
        assert_eq!(said(&powerless), "error: it takes root or CAP_NET_ADMIN\n");
        assert_eq!(powerless.status.code(), Some(2));
        // Nor does one that only observes, whatever the name of the table.
        daemon.configure("mode = 'observe'\nenforce.set = 'other'");
        sh("nft add table inet other");
        assert_eq!(
            disable(&daemon),
            ("removed the table `inet other` with 0 elements\n".to_owned(), Some(0))
        );
        daemon.configure("maxretri = 3");
        let (says, code) = disable(&daemon);
        assert!(says.contains("removed the table `inet banstream` with 2 elements\n"), "{says}");
        assert!(says.contains("maxretri") && code == Some(2), "{says}");
        is_nothing_left();
    });
}

#[test]
fn a_table_whose_socket_systemd_keeps_stays_until_systemd_lets_go_of_it() {
    in_namespaces(&["--net"], || {
        let daemon = Daemon::new("enforce.backend = 'nftables'");
        let systemd = UnixDatagram::bind(daemon.path("notify")).unwrap();
        daemon.run(daemon.command().env("NOTIFY_SOCKET", daemon.path("notify")));
        let (message, kept) = stored(&systemd);
        assert_eq!(message, "FDSTORE=1\nFDNAME=nftables\nFDPOLL=0\n");
        ban(&daemon);
        daemon.stop();
        let (says, code) = disable(&daemon);
        let hint = "let go of the socket with `systemctl clean --what=fdstore banstream`";
        assert!(says.contains(hint) && code == Some(2), "{says}");
        sh("nft flush ruleset; ! nft delete table inet banstream");
        assert!(kernel().contains("banstream"), "somebody else removed the table");
        close(kept).unwrap();
        assert_eq!(disable(&daemon).1, Some(0));
        is_nothing_left();
    });
}

/// The first message to systemd that brings a file descriptor, and that.
fn stored(systemd: &UnixDatagram) -> (String, RawFd) {
    loop {
        let (mut text, mut room) = ([0; 4096], nix::cmsg_space!([i32; 4]));
        let mut buffers = [IoSliceMut::new(&mut text)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let received = recvmsg::<()>(systemd.as_raw_fd(), &mut buffers, Some(&mut room), flags).unwrap();
        let length = received.bytes;
        let kept = received.cmsgs().unwrap().find_map(|message| match message {
            ControlMessageOwned::ScmRights(kept) => Some(kept[0]),
            _ => None,
        });
        if let Some(kept) = kept {
            return (String::from_utf8_lossy(&text[..length]).into_owned(), kept);
        }
    }
}

#[test]
fn a_removal_leaves_nothing_behind_with_and_without_the_program() {
    in_namespaces(&["--net", "--mount"], || {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/contrib/setup/remove-rule");
        let program = Path::new(BANSTREAM).parent().unwrap().display();
        // The machine has its own saved firewalls, and a systemd.
        sh("mount -t tmpfs tmpfs /run && mkdir -p /run/etc/iptables && cp -a /etc/alternatives /run/etc
            mount --bind /run/etc /etc");
        let path = std::env::var("PATH").unwrap();
        for (backend, path) in [
            ("ipset", &format!("{path}:{program}")),
            ("nftables", &format!("{path}:{program}")),
            ("ipset", &path),
            ("nftables", &path),
        ] {
            let daemon = enforcing(backend);
            sh("iptables-save >/etc/iptables/rules.v4; ip6tables-save >/etc/iptables/rules.v6");
            daemon.stop();
            assert!(kernel().contains("banstream"));
            sh(&format!("PATH={path} {script}"));
            is_nothing_left();
            assert!(!sh("cat /etc/iptables/*").contains("banstream"), "{backend}");
        }
    });
}
