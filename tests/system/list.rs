//! Bans of a list in the kernel: they are there when the command ends, and what does not fit is said.

use std::fs;
use std::process::Command;

use crate::common::{Daemon, in_namespaces, said, sh, until};

/// Whether the kernel has this address.
fn holds(backend: &str, address: &str) -> bool {
    let mut look = match backend {
        "ipset" => Command::new("ipset"),
        _ => Command::new("nft"),
    };
    match backend {
        "ipset" => look.args(["-q", "test", "banstream4", address]),
        _ => look.args(["get", "element", "inet", "banstream", "ipv4_32", &format!("{{ {address} }}")]),
    };
    look.output().unwrap().status.success()
}

fn import(daemon: &Daemon, addresses: impl Iterator<Item = String>) -> String {
    fs::write(daemon.path("a.list"), addresses.collect::<Vec<_>>().join("\n")).unwrap();
    said(&daemon.output(&["import", "list", "--config", "c.toml", "--write", "a.list"]))
}

#[test]
fn bans_of_a_list_are_in_the_kernel_when_the_command_ends() {
    in_namespaces(&["--net", "--mount"], || {
        sh("ip link set lo up");
        for backend in ["ipset", "nftables"] {
            let config = format!("enforce.backend = '{backend}'\nenforce.max-elements = 2000\n");
            let daemon = Daemon::new(&config);
            daemon.start();
            let address = |n: u32| format!("198.51.{}.{}", 100 + n / 250, n % 250);
            // The last is on the second page.
            let told = import(&daemon, (0..1500).map(address));
            assert!(told.contains("taken over into the running daemon: 1500 new\n"), "{told}");
            assert!([0, 999, 1000, 1499].iter().all(|n| holds(backend, &address(*n))), "{backend}");
            // What undo puts back is in the kernel, and what it takes back is not.
            assert!(daemon.tell("unban --jail list").starts_with("lifted 1500 bans:\n"));
            assert!(daemon.tell("undo").contains(": 1500 restored\n"));
            assert!(holds(backend, &address(8)), "{backend}");
            daemon.tell("ban 192.0.2.99");
            daemon.tell(&format!("ban {}", address(8)));
            let undone = [daemon.tell("undo"), daemon.tell("undo")].concat();
            assert!(undone.contains("`ban 192.0.2.99` of "), "{undone}");
            assert!(!holds(backend, "192.0.2.99"), "{backend}");
            assert!(holds(backend, &address(8)), "the list bans it too: {backend}");
            let told = import(&daemon, (0..4000).map(address));
            assert!(told.contains(": 2500 new, 1500 extended; "), "{told}");
            assert!(told.contains(" bans are not enforced: the set is full"), "{told}");

            // What an operator bans as well stays banned when the list's bans are lifted, without a gap.
            daemon.tell(&format!("ban {}", address(7)));
            assert!(daemon.tell("unban --jail list").starts_with("lifted 4000 bans:\n"));
            assert!(holds(backend, &address(7)), "{backend}");
            let told = import(&daemon, std::iter::once(address(9)));
            assert!(told.contains(": 1 new\n"), "{told}");
            assert!(holds(backend, &address(9)) && !holds(backend, &address(8)), "{backend}");

            // What a reload on trial lifts is in the kernel again when it is rolled back.
            fs::write(daemon.path("a.list"), "192.0.2.7 1h jail=sshd ports=22/tcp\n192.0.2.8 1h jail=sshd\n")
                .unwrap();
            assert_eq!(daemon.tell("ban --from a.list"), "2 new\n");
            assert!(holds(backend, "192.0.2.8"), "{backend}");
            daemon.configure(&format!("ignoreip = ['192.0.2.0/24']\n{config}"));
            assert!(daemon.tell("reload --confirm 5s").contains("lifted 2 bans:\n    192.0.2.7 (sshd): "));
            let bans = daemon.tell("bans --jail sshd");
            until("the rollback restores them", || holds(backend, "192.0.2.8"));
            assert_eq!(bans, "no such ban\n");
            let bans = daemon.tell("bans --jail sshd");
            assert!(bans.contains("  22/tcp\n") && bans.ends_with("2 bans\n"), "{bans}");
            daemon.stop();
            daemon.tell("disable --config c.toml");
        }
    });
}
