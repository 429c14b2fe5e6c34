//! What the daemon starts has none of its capabilities.

use std::fs;
use std::process::Command;

use crate::common::{BANSTREAM, Daemon};

#[test]
fn a_program_has_none_of_the_daemons_capabilities() {
    let daemon = Daemon::new("");
    let program = daemon.script("program", "grep ^CapEff /proc/self/status >new; mv new capabilities");
    daemon.configure(&format!("mode = 'observe'\n[notify.ops]\ncommand = ['{program}']"));
    // Nobody may read where it was built.
    fs::copy(BANSTREAM, daemon.path("banstream")).unwrap();
    let user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let powers = ["--inh-caps=+net_admin", "--ambient-caps=+net_admin"];
    let mut command = daemon.command_of(&[&user[..], &powers, &["./banstream"]].concat());
    assert!(Command::new("chown").args(["-R", "65534"]).arg(daemon.path("")).status().unwrap().success());
    daemon.run(&mut command);
    daemon.tell("notify ops");
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    assert!(status.contains("CapEff:\t0000000000001000\n"), "{status}");
    assert_eq!(daemon.file("capabilities"), "CapEff:\t0000000000000000\n");
}
