//! Many bans: which the daemon lists, and lists of them into commands and out again.

use std::fs;
use std::process::Stdio;

use crate::common::{BANSTREAM, Daemon, failed, said, until};

/// A daemon that decides, with bans of sshd and of an operator.
fn daemon() -> Daemon {
    let daemon = Daemon::deciding("ignoreip = ['203.0.113.0/24']");
    for address in ["198.51.100.7", "2001:db8::7"] {
        daemon.send((0..5).map(|pid| failed(pid, address)));
        let jail = format!("\"address\":\"{}", address.trim_end_matches('7'));
        until("sshd bans", || daemon.get("/bans").unwrap().contains(&jail));
    }
    daemon.tell("ban 198.51.100.200 --for 2h");
    daemon.tell("ban 198.51.100.0/25 --for 1d --reason range");
    daemon.tell("ban 198.18.7.1 --for forever");
    daemon
}

/// The addresses that a command lists, and its last line.
fn listed(daemon: &Daemon, options: &str) -> (Vec<String>, String) {
    let text = daemon.tell(format!("bans {options}").trim_end());
    let mut lines: Vec<&str> = text.lines().skip(1).collect();
    let last = lines.pop().unwrap_or_default().to_owned();
    (lines.iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect(), last)
}

#[test]
fn the_daemon_lists_what_is_asked_for() {
    let daemon = daemon();
    let [sshd4, sshd6, host, range, other] =
        ["198.51.100.7", "2001:db8::/64", "198.51.100.200", "198.51.100.0/25", "198.18.7.1"];
    for (options, addresses, last) in [
        ("", &[other, range, sshd4, host, sshd6] as &[&str], "5 bans"),
        ("--sort since", &[other, range, host, sshd6, sshd4], "5 bans"),
        ("--last 2", &[other, range], "2 of 5 bans"),
        ("--sort until --limit 4", &[sshd4, sshd6, host, range], "4 of 5 bans"),
        ("--sort jail --limit 1", &[other], "1 of 5 bans"),
        ("--jail sshd", &[sshd4, sshd6], "2 bans"),
        ("--kind manual --in 198.51.100.0/24", &[range, host], "2 bans"),
        ("--in 198.51.100.0/24 --sort since --limit 2", &[range, host], "2 of 3 bans"),
        ("198.51.100.7", &[range, sshd4], "2 bans"),
        ("2001:db8::99", &[sshd6], "1 ban"),
        ("--since 1h --jail manual", &[other, range, host], "3 bans"),
    ] {
        let want = (addresses.iter().map(|address| (*address).to_owned()).collect(), last.to_owned());
        assert_eq!(listed(&daemon, options), want, "{options}");
    }
    assert_eq!(daemon.tell("bans 192.0.2.99"), "no such ban\n");
    let json: Vec<serde_json::Value> =
        serde_json::from_str(&daemon.tell("bans --json --jail sshd --limit 1")).unwrap();
    assert_eq!((json.len(), &json[0]["address"]), (1, &serde_json::json!(sshd4)));
    let refused = daemon.output(&["bans", "--watch"]);
    assert_eq!(
        (refused.status.code(), said(&refused)),
        (Some(2), "error: `--watch` needs a terminal\n".to_owned())
    );
}

/// What a command says to a list on its stdin, and its exit status.
fn feed(daemon: &Daemon, words: &str, list: &str) -> (i32, String) {
    let file = daemon.path("fed");
    fs::write(&file, list).unwrap();
    let output = std::process::Command::new(BANSTREAM)
        .args(words.split(' '))
        .env("BANSTREAM_SOCKET", daemon.path("control"))
        .stdin(Stdio::from(fs::File::open(file).unwrap()))
        .output()
        .unwrap();
    (output.status.code().unwrap(), said(&output))
}

#[test]
fn what_is_exported_can_be_banned_again() {
    let daemon = daemon();
    let export = daemon.tell("bans --export --kind manual");
    let lines: Vec<&str> = export.lines().collect();
    assert!(
        lines[0].starts_with("# 3 bans at 20")
            && lines[0].ends_with(": ADDRESS END [jail=] [ports=] since= [times=] # REASON"),
        "{export}"
    );
    assert!(lines[1].starts_with("# observed: 198.18.7.1 forever since=20"), "{export}");
    assert!(
        lines[2].starts_with("# observed: 198.51.100.0/25 20") && lines[2].ends_with("Z # range"),
        "{export}"
    );
    // What is only observed is nobody's ban.
    assert_eq!(feed(&daemon, "ban --from -", &export), (0, "the list is empty\n".to_owned()));
    let list = export.replace("# observed: ", "");
    let before = listed(&daemon, "");
    let (status, text) = feed(&daemon, "unban --from -", &list);
    assert_eq!((status, text.as_str()), (0, "3 lifted\n"));
    assert_eq!(listed(&daemon, "").1, "2 bans");
    // Their ends are in whole seconds.
    assert_eq!(feed(&daemon, "ban --from -", &list), (0, "3 new\n".to_owned()));
    assert_eq!(listed(&daemon, ""), before);
    let again = daemon.tell("bans --export --kind manual");
    assert_eq!(again.lines().nth(1), Some(lines[1]));
    assert!(again.lines().nth(2).unwrap().ends_with("Z # range"), "{again}");
    for (command, bans) in [("ban", "2 bans"), ("unban", "5 bans")] {
        let undone = daemon.tell("undo");
        assert!(undone.starts_with(&format!("took back `{command} --from` of ")), "{undone}");
        assert_eq!(listed(&daemon, "").1, bans);
    }
}

#[test]
fn all_that_is_exported_comes_back_as_it_was() {
    let daemon = daemon();
    let more = "192.0.2.33 2d jail=ftp ports=21/tcp,990/tcp since=2026-11-24T08:00:00.5Z times=7 # a # b; c=d
198.51.100.0/24 jail=wide times=2 # 9 offenders
192.0.2.34 forever jail=gone # of a jail that is gone
192.0.2.34 1h jail=list # of a list
";
    let (status, text) = feed(&daemon, "ban --from -", more);
    assert_eq!((status, text.as_str()), (0, "4 new\n"));
    let long = format!("--reason={}", "long \" ".repeat(500).trim());
    assert_eq!(daemon.output(&["ban", "192.0.2.35", &long]).status.code(), Some(0));
    let bans = || {
        let mut bans: Vec<serde_json::Value> = serde_json::from_str(&daemon.get("/bans").unwrap()).unwrap();
        bans.iter_mut().for_each(|ban| ban["left"] = serde_json::Value::Null);
        bans
    };
    let counted = || {
        let status: serde_json::Value = serde_json::from_str(&daemon.get("/status").unwrap()).unwrap();
        status["bans"].as_u64().unwrap()
    };
    let (before, decided) = (bans(), counted());
    assert_eq!(before.len(), 10);
    let list = daemon.tell("bans --export").replace("# observed: ", "");
    daemon.tell("unban --all");
    assert!(bans().is_empty());
    let (status, text) = feed(&daemon, "ban --from -", &list);
    assert_eq!((status, text.as_str()), (0, "10 new\n"));
    assert_eq!(bans(), before);
    assert_eq!(counted(), decided, "a restored ban is not a new one");
    // A list that is older shortens nothing.
    daemon.tell("ban 198.18.7.1 --reason newer");
    assert_eq!(feed(&daemon, "ban --from -", &list).1, "10 unchanged\n");
    assert!(daemon.tell("bans 198.18.7.1").contains("newer"));
    let wide = "0.0.0.0/7 jail=sshd\n203.0.113.5 jail=sshd\n192.0.2.1 jail=ssh/d\n";
    let (status, text) = feed(&daemon, "ban --from -", wide);
    assert_eq!(
        (status, text.as_str()),
        (1, "-:3: `jail=ssh/d` is not the name of a jail\nerror: 1 line wrong; nothing was done\n")
    );
    let (_, text) = feed(&daemon, "ban --from -", &wide.lines().take(2).collect::<Vec<_>>().join("\n"));
    let want = "2 refused\nerror: 0.0.0.0/7 is wider than /8; `--force` bans it all the same\n\
                error: 203.0.113.5 is exempt: 203.0.113.0/24 is in `ignoreip`\n";
    assert_eq!(text, want);
}

#[test]
fn a_list_is_one_command_that_is_judged_first() {
    let daemon = daemon();
    let before = listed(&daemon, "");
    let wrong = "198.18.0.1 1h\n198.18.0.2 soon\nx\n";
    let want = "-:2: `soon` is not a time; write `10m`, `3h59m57s`, `2026-11-24T08:00:00Z` or `forever`
-:3: `x` is not an address or prefix; write `192.0.2.1`, `192.0.2.0/24` or `2001:db8::/32`
error: 2 lines wrong; nothing was done
";
    assert_eq!(feed(&daemon, "ban --from -", wrong), (1, want.to_owned()));
    assert_eq!(listed(&daemon, ""), before);
    let mixed = "ip,reason,expiration\n198.18.0.1,one,1h\n198.51.100.200,,30m\n203.0.113.5,,\n198.18.0.2,,-5s\n64.0.0.0/7,,\n198.18.0.3,,\n";
    let want = "2 new, 1 shortened, 2 refused, 1 line left out (over, or without an address)
error: 203.0.113.5 is exempt: 203.0.113.0/24 is in `ignoreip`
error: 64.0.0.0/7 is wider than /8; `--force` bans it all the same
";
    assert_eq!(feed(&daemon, "ban --from - --for 3d --reason all", mixed), (1, want.to_owned()));
    let bans = daemon.tell("bans --in 198.18.0.0/24");
    assert!(bans.contains(" in 1h ") || bans.contains(" in 59m 59s "), "{bans}");
    assert!(bans.contains(" one\n") && bans.contains(" all\n"), "{bans}");
    // Three pages, that one `undo` takes back.
    let many: String = (0..2500).map(|n| format!("198.19.{}.{}\n", n / 250, n % 250)).collect();
    assert_eq!(feed(&daemon, "ban --from -", &many), (0, "2500 new\n".to_owned()));
    assert_eq!(listed(&daemon, "--limit 1").1, "1 of 2,507 bans");
    let undone = daemon.tell("undo");
    assert!(undone.contains(": 2500 lifted\nlifted 2500 bans:\n    198.19."), "{undone}");
    assert!(undone.ends_with("    and 2,480 more\n"), "{undone}");
    daemon.tell("undo");
    assert_eq!(listed(&daemon, ""), before);
    assert_eq!(
        feed(&daemon, "allow --from - --comment us", "198.51.100.128/25\n198.18.7.0/24 8h # them\n").1,
        "2 new, 2 lifted\n"
    );
    let allowed = daemon.tell("allow");
    assert!(allowed.contains("them\n") && allowed.contains("us\n"), "{allowed}");
    assert_eq!(listed(&daemon, "").1, "3 bans");
    daemon.tell("undo");
    assert_eq!(listed(&daemon, ""), before);
    assert_eq!(daemon.tell("allow"), "no exemptions\n");
}
