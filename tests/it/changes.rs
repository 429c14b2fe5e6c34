//! Commands that change bans and exemptions: what each prints, what it does, and what `undo` brings back.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::common::{BANSTREAM, Daemon, failed, said, until};

/// What holds, a line each: bans with jail, time left and reason, then exemptions with their comments. Times are in
/// minutes, rounded up.
fn state(daemon: &Daemon) -> Vec<String> {
    let get = |path: &str| serde_json::from_str::<Vec<Value>>(&daemon.get(path).unwrap()).unwrap();
    let left =
        |of: &Value| of["left"].as_u64().map_or("forever".to_owned(), |left| left.div_ceil(60).to_string());
    let text = |of: &Value, key: &str| of[key].as_str().unwrap().to_owned();
    let ban = |ban: &Value| {
        format!("{} {} {} {}", text(ban, "address"), text(ban, "jail"), left(ban), text(ban, "reason"))
    };
    let exempt = |of: &Value| format!("{} exempt {} {}", text(of, "address"), left(of), text(of, "comment"));
    let bans = get("/bans");
    bans.iter().map(ban).chain(get("/allow").iter().map(exempt)).collect()
}

/// The exit status of a command, and what it says; its words are parted by blanks, `_` in a word is a blank.
fn run(daemon: &Daemon, line: &str) -> (i32, String) {
    let words: Vec<String> = line.split(' ').map(|word| word.replace('_', " ")).collect();
    let output = daemon.output(&words.iter().map(String::as_str).collect::<Vec<_>>());
    (output.status.code().unwrap(), said(&output))
}

/// How many bans the daemon has decided.
fn decided(daemon: &Daemon) -> u64 {
    serde_json::from_str::<Value>(&daemon.get("/status").unwrap()).unwrap()["bans"].as_u64().unwrap()
}

/// A daemon that decides, where sshd bans one address and an operator three; an IPv6 one beside it.
fn daemon() -> Daemon {
    let daemon = Daemon::deciding("ignoreip = ['203.0.113.0/24']");
    daemon.send((0..5).map(|pid| failed(pid, "198.51.100.7")));
    until("sshd bans", || state(&daemon).len() == 1);
    for ban in [
        "198.51.100.8 --for 2h --reason scan",
        "198.51.100.0/24 --for 1d",
        "198.18.7.1 --reason old",
        "2001:db8::/48",
    ] {
        daemon.tell(&format!("ban {ban}"));
    }
    daemon
}

const BEFORE: [&str; 5] = [
    "198.18.7.1 manual forever old",
    "198.51.100.0/24 manual 1440 ",
    "198.51.100.7 sshd 60 5 offences within 10m",
    "198.51.100.8 manual 120 scan",
    "2001:db8::/48 manual forever ",
];

#[test]
fn each_command_says_what_it_does_and_undo_takes_it_back() {
    let daemon = daemon();
    assert_eq!(state(&daemon), BEFORE);
    // The command, what it prints, what is gone, what is there besides, what `undo` prints.
    type Case = (&'static str, &'static str, &'static [usize], &'static [&'static str], &'static str);
    let cases: &[Case] = &[
        (
            "ban 198.18.7.9 --for 90m --reason probe",
            "banned 198.18.7.9 for 1h 30m; it is only observed\n",
            &[],
            &["198.18.7.9 manual 90 probe"],
            "took back `ban 198.18.7.9` of AGO (1 change): 1 lifted\nunbanned 198.18.7.9 (manual)\n",
        ),
        (
            "ban 198.18.7.9 2001:db8:7::/64 --for 90m",
            "banned 198.18.7.9 for 1h 30m; it is only observed\nbanned 2001:db8:7::/64 for 1h 30m; it is only observed\n",
            &[],
            &["198.18.7.9 manual 90 ", "2001:db8:7::/64 manual 90 "],
            "took back `ban 198.18.7.9 and 1 more` of AGO (2 changes): 2 lifted\nlifted 2 bans:\n    198.18.7.9 (manual)\n    \
             2001:db8:7::/64 (manual)\n",
        ),
        (
            "unban 198.18.7.1 198.51.100.7",
            "lifted 2 bans:\n    198.18.7.1 (manual)\n    198.51.100.7 (sshd)\n",
            &[0, 2],
            &[],
            "took back `unban 198.18.7.1 and 1 more` of AGO (2 changes): 2 restored\n198.18.7.1 (manual) is banned forever; it is only observed\n\
             198.51.100.7 (sshd) is banned for LEFT more; it is only observed\n",
        ),
        (
            "allow 198.18.7.8 198.18.7.9 --for 8h --comment us",
            "exempted 198.18.7.8 for 8h\nexempted 198.18.7.9 for 8h\n",
            &[],
            &["198.18.7.8 exempt 480 us", "198.18.7.9 exempt 480 us"],
            "took back `allow 198.18.7.8 and 1 more` of AGO (2 changes): 2 removed\n198.18.7.9 is no longer exempt\n198.18.7.8 is no \
             longer exempt\n",
        ),
        (
            "ban 198.51.100.8 --for 10m",
            "shortened the ban on 198.51.100.8: for 10m; it had LEFT left; the reason stays: scan; it is only observed\n",
            &[3],
            &["198.51.100.8 manual 10 scan"],
            "took back `ban 198.51.100.8` of AGO (1 change): 1 restored\n198.51.100.8 (manual) is banned for LEFT more; it is only observed\n",
        ),
        (
            "ban 198.51.100.8 --for forever --reason worse",
            "extended the ban on 198.51.100.8: until it is unbanned; it had LEFT left; the reason was: scan; it is only observed\n",
            &[3],
            &["198.51.100.8 manual forever worse"],
            "took back `ban 198.51.100.8` of AGO (1 change): 1 restored\n198.51.100.8 (manual) is banned for LEFT more; it is only observed\n",
        ),
        (
            "ban 198.18.7.1 --reason new",
            "198.18.7.1 stays banned until it is unbanned; the reason was: old; it is only observed\n",
            &[0],
            &["198.18.7.1 manual forever new"],
            "took back `ban 198.18.7.1` of AGO (1 change): 1 restored\n198.18.7.1 (manual) is banned forever; it is only observed\n",
        ),
        (
            "unban 198.51.100.7",
            "unbanned 198.51.100.7 (sshd)\n",
            &[2],
            &[],
            "took back `unban 198.51.100.7` of AGO (1 change): 1 restored\n198.51.100.7 (sshd) is banned for LEFT more; it is only observed\n",
        ),
        (
            "unban 198.51.100.7 --jail sshd",
            "unbanned 198.51.100.7 (sshd)\n",
            &[2],
            &[],
            "took back `unban 198.51.100.7 --jail sshd` of AGO (1 change): 1 restored\n198.51.100.7 (sshd) is banned for LEFT more; it is only observed\n",
        ),
        (
            "unban 198.51.100.0/24",
            "unbanned 198.51.100.0/24 (manual)\n2 bans inside it stay; `--inside` lifts them:\n    \
             198.51.100.7 (sshd)\n    198.51.100.8 (manual)\n",
            &[1],
            &[],
            "took back `unban 198.51.100.0/24` of AGO (1 change): 1 restored\n198.51.100.0/24 (manual) is banned for LEFT more; it is only observed\n",
        ),
        (
            "unban 198.51.100.0/24 --inside",
            "lifted 3 bans:\n    198.51.100.0/24 (manual)\n    198.51.100.7 (sshd)\n    198.51.100.8 (manual)\n",
            &[1, 2, 3],
            &[],
            "took back `unban 198.51.100.0/24 --inside` of AGO (3 changes): 3 restored\n198.51.100.0/24 (manual) is banned for LEFT more; it is only observed\n\
             198.51.100.7 (sshd) is banned for LEFT more; it is only observed\n198.51.100.8 (manual) is banned for LEFT more; it is only observed\n",
        ),
        (
            "unban --jail sshd",
            "unbanned 198.51.100.7 (sshd)\n",
            &[2],
            &[],
            "took back `unban --jail sshd` of AGO (1 change): 1 restored\n198.51.100.7 (sshd) is banned for LEFT more; it is only observed\n",
        ),
        (
            "unban --all",
            "lifted 5 bans:\n    198.18.7.1 (manual)\n    198.51.100.0/24 (manual)\n    198.51.100.7 (sshd)\n    \
             198.51.100.8 (manual)\n    2001:db8::/48 (manual)\n",
            &[0, 1, 2, 3, 4],
            &[],
            "took back `unban --all` of AGO (5 changes): 5 restored\n198.18.7.1 (manual) is banned forever; it is only observed\n\
             198.51.100.0/24 (manual) is banned for LEFT more; it is only observed\n198.51.100.7 (sshd) is banned for LEFT more; it is only observed\n\
             198.51.100.8 (manual) is banned for LEFT more; it is only observed\n2001:db8::/48 (manual) is banned forever; it is only observed\n",
        ),
        (
            "allow 198.51.100.0/24 --for 8h --comment us",
            "exempted 198.51.100.0/24 for 8h\nlifted 3 bans:\n    198.51.100.0/24 (manual)\n    198.51.100.7 (sshd)\n    \
             198.51.100.8 (manual)\n",
            &[1, 2, 3],
            &["198.51.100.0/24 exempt 480 us"],
            "took back `allow 198.51.100.0/24` of AGO (4 changes): 1 removed, 3 restored\n198.51.100.0/24 is no longer exempt\n\
             198.51.100.0/24 (manual) is banned for LEFT more; it is only observed\n198.51.100.7 (sshd) is banned for LEFT more; it is only observed\n\
             198.51.100.8 (manual) is banned for LEFT more; it is only observed\n",
        ),
        (
            "allow 64.0.0.0/7 --force",
            "exempted 64.0.0.0/7 until it is removed\n",
            &[],
            &["64.0.0.0/7 exempt forever "],
            "took back `allow 64.0.0.0/7` of AGO (1 change): 1 removed\n64.0.0.0/7 is no longer exempt\n",
        ),
    ];
    let counted = || decided(&daemon);
    for (line, prints, gone, there, undone) in cases {
        let said = run(&daemon, line);
        assert_eq!((said.0, timeless(&said.1)), (0, (*prints).to_owned()), "{line}");
        let kept = BEFORE.iter().enumerate().filter(|(nth, _)| !gone.contains(nth)).map(|(_, line)| *line);
        let mut want: Vec<&str> = kept.chain(there.iter().copied()).collect();
        let mut got = state(&daemon);
        want.sort_unstable();
        got.sort_unstable();
        assert_eq!(got, want, "{line}");
        let before = counted();
        let said = run(&daemon, "undo");
        assert_eq!((said.0, timeless(&said.1)), (0, (*undone).to_owned()), "undo of {line}");
        assert_eq!(counted(), before, "a restored ban is not a new one: undo of {line}");
        assert_eq!(state(&daemon), BEFORE, "undo of {line}");
    }
}

/// What is said, without times that pass.
fn timeless(text: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    let is_time = |word: &str| {
        word.len() > 1
            && word.starts_with(|c: char| c.is_ascii_digit())
            && word.ends_with(['s', 'm', 'h', 'd'])
    };
    for word in text.split(' ') {
        match word {
            "left" | "left;" | "more\n" | "more;" | "ago" | "ago," => {}
            _ if !word.starts_with("more\n") => {
                words.push(word.to_owned());
                continue;
            }
            _ => {}
        }
        while words.last().is_some_and(|last| is_time(last)) {
            words.pop();
        }
        match word {
            "ago" | "ago," => words.push(word.to_uppercase()),
            _ => words.extend(["LEFT".to_owned(), word.to_owned()]),
        }
    }
    words.join(" ")
}

#[test]
fn undo_goes_back_step_by_step_and_ends() {
    let daemon = daemon();
    daemon.tell("allow 198.18.7.7 --comment first");
    daemon.tell("allow 198.18.7.7 --for 1h");
    daemon.tell("allow --remove 198.18.7.7");
    let exempt = |daemon: &Daemon| state(daemon).split_off(BEFORE.len());
    assert!(exempt(&daemon).is_empty());
    daemon.tell("undo");
    assert_eq!(exempt(&daemon), ["198.18.7.7 exempt 60 first"]);
    daemon.tell("undo");
    assert_eq!(exempt(&daemon), ["198.18.7.7 exempt forever first"]);
    daemon.tell("undo");
    assert_eq!(state(&daemon), BEFORE);
    // The four bans by hand.
    (0..4).for_each(|_| drop(daemon.tell("undo")));
    assert_eq!(state(&daemon), BEFORE[2..3]);
    let none = "error: no command to take back: no change by an operator within a day\n";
    assert_eq!(run(&daemon, "undo"), (1, none.to_owned()));
}

#[test]
fn what_the_jail_has_banned_again_is_not_shortened_by_undo() {
    let daemon = daemon();
    daemon.tell("unban 198.51.100.7");
    daemon.send((0..5).map(|pid| failed(100 + pid, "198.51.100.7")));
    until("sshd bans again", || state(&daemon).len() == BEFORE.len());
    assert_eq!(
        timeless(&daemon.tell("undo")),
        "took back `unban 198.51.100.7` of AGO (1 change): 1 unchanged\n198.51.100.7 (sshd)\n"
    );
    assert_eq!(state(&daemon), BEFORE);
}

#[test]
fn what_could_shut_somebody_out_needs_force() {
    let daemon = daemon();
    let login = "Accepted publickey for eve from 198.18.7.77 port 22 ssh2";
    daemon.send([serde_json::json!({"tag": "sshd[9]:", "uid": "0", "message": login})]);
    until("the login is known", || {
        daemon.get("/why?address=198.18.7.77").unwrap().contains("a login from there")
    });
    let tell = |words: &[&str]| {
        let mut command = Command::new(BANSTREAM);
        command
            .env("BANSTREAM_SOCKET", daemon.path("control"))
            .env("SSH_CONNECTION", "198.18.7.200 50000 10.0.0.1 22")
            .current_dir(daemon.path(""));
        let output = command.args(words).output().unwrap();
        (output.status.code().unwrap(), said(&output))
    };
    let ban = |address: &str, force: &[&str]| {
        let (status, text) = tell(&[&["ban", address], force].concat());
        (status, timeless(&text))
    };
    for (address, why) in [
        ("64.0.0.0/7", "64.0.0.0/7 is wider than /8"),
        ("2000::/31", "2000::/31 is wider than /32"),
        ("198.18.7.200", "you are logged in from 198.18.7.200"),
        ("198.18.7.192/28", "you are logged in from 198.18.7.200 in 198.18.7.192/28"),
        ("198.18.7.77", "somebody logged in from 198.18.7.77 AGO"),
        ("198.18.7.64/28", "somebody logged in from 198.18.7.64/28 AGO"),
    ] {
        let (status, text) = ban(address, &[]);
        let text = text.split(" ago; ").next().unwrap().split("; ").next().unwrap().to_owned();
        let text = match text.rsplit_once(' ') {
            Some((text, _)) if why.ends_with("AGO") => format!("{text} AGO"),
            _ => text,
        };
        assert_eq!((status, text), (1, format!("error: {why}")));
        assert_eq!(state(&daemon), BEFORE, "{address}");
        assert_eq!(ban(address, &["--force"]).0, 0, "{address}");
        daemon.tell("undo");
    }
    for (words, why) in [
        ("allow 0.0.0.0/0", "0.0.0.0/0 is wider than /8; `--force` exempts it all the same"),
        ("allow 2000::/31 --for 1h", "2000::/31 is wider than /32; `--force` exempts it all the same"),
    ] {
        assert_eq!(run(&daemon, words), (1, format!("error: {why}\n")));
        assert_eq!(state(&daemon), BEFORE, "{words}");
    }
    let exempt = "error: 203.0.113.9 is exempt: 203.0.113.0/24 is in `ignoreip`\n";
    assert_eq!(ban("203.0.113.9", &["--force"]), (1, exempt.to_owned()));
    // Neither a list nor fail2ban's words lead past that.
    fs::write(daemon.path("a.list"), "198.18.7.200\n198.18.7.64/28\n").unwrap();
    let (status, text) = tell(&["import", "list", "--config", "c.toml", "--write", "a.list"]);
    let you = "you are logged in from 198.18.7.200; `banstream ban";
    assert!(text.contains(&format!("a.list:1: 198.18.7.200: {you} 198.18.7.200 --force` bans")), "{text}");
    assert!(text.contains("taken over into the running daemon: 0 new, 1 exempt\n"), "{text}");
    assert!(text.contains("198.18.7.64/28: somebody logged in from 198.18.7.64/28 "), "{text}");
    assert_eq!((status, state(&daemon)), (0, BEFORE.map(str::to_owned).to_vec()));
    for (address, why) in [("198.18.7.200", you), ("198.18.7.77", "somebody logged in from 198.18.7.77 ")] {
        let (status, text) = tell(&["compat", "fail2ban-client", "set", "sshd", "banip", address]);
        assert!(status == 255 && text.starts_with(&format!("ERROR   {why}")), "{text}");
        assert!(text.ends_with("`banstream ban --force` bans it all the same\n"), "{text}");
    }
    assert_eq!(state(&daemon), BEFORE);
    let both = ["compat", "fail2ban-client", "set", "sshd", "banip", "198.18.7.200", "198.18.7.9"];
    assert_eq!(tell(&both).0, 255);
    assert!(state(&daemon).iter().any(|ban| ban.starts_with("198.18.7.9 manual ")), "{:?}", state(&daemon));
}

#[test]
fn what_cannot_be_done_as_it_is_said_is_refused() {
    let daemon = daemon();
    for (line, want) in [
        (
            "unban 198.51.0.0/16",
            "error: 198.51.0.0/16 is not banned itself; `--inside` lifts 3 bans inside it: 198.51.100.0/24 (manual), \
             198.51.100.7 (sshd), 198.51.100.8 (manual)\n",
        ),
        (
            "unban 198.51.100.9",
            "error: 198.51.100.9 is banned as part of 198.51.100.0/24; unban 198.51.100.0/24\n",
        ),
        (
            "allow 198.51.100.9",
            "error: 198.51.100.9 is banned as part of 198.51.100.0/24; unban 198.51.100.0/24 first\n",
        ),
    ] {
        assert_eq!(run(&daemon, line), (1, want.to_owned()));
    }
    // Of several the others are done.
    let said = run(&daemon, "unban 198.51.100.9 198.18.7.2");
    let refused = "error: 198.51.100.9 is banned as part of 198.51.100.0/24; unban 198.51.100.0/24\n";
    assert_eq!(said, (1, format!("198.18.7.2 was not banned\n{refused}")));
    for line in ["unban --jail sshdd", "bans --jail sshdd", "bans --jail sshdd --export"] {
        let want = "error: unknown jail `sshdd`; did you mean `sshd`?\n";
        assert_eq!(run(&daemon, line), (1, want.to_owned()), "{line}");
    }
    // What `--force` does not change is said before it is named.
    let exempt = "error: 202.0.0.0/7 is exempt: 203.0.113.0/24 is in `ignoreip`\n";
    assert_eq!(run(&daemon, "ban 202.0.0.0/7"), (1, exempt.to_owned()));
    let jail = "error: unknown jail `sshdd`; did you mean `sshd`?\n";
    assert_eq!(run(&daemon, "unban 198.51.100.7 --jail sshdd"), (1, jail.to_owned()));
    for (line, want) in [
        ("unban 198.51.100.8 --jail sshd", "`sshd` does not ban 198.51.100.8; banned by manual\n"),
        (
            "allow --remove 203.0.113.9",
            "203.0.113.9 has no exemption of its own, and is exempt: 203.0.113.0/24 is in `ignoreip`\n",
        ),
        ("unban 198.18.7.2", "198.18.7.2 was not banned\n"),
        ("unban --jail list", "no ban of `list` is in force\n"),
        ("allow --remove 198.18.7.2", "198.18.7.2 was not exempt\n"),
        (
            "ban 198.18.7.1",
            "198.18.7.1 is banned by hand already, forever; `--for` or `--reason` changes that\n",
        ),
    ] {
        assert_eq!(run(&daemon, line), (0, want.to_owned()));
    }
    assert_eq!(state(&daemon), BEFORE);
}

#[test]
fn who_is_exempt_twice_stays_exempt_and_is_told_so() {
    let daemon = daemon();
    daemon.tell("allow 198.18.9.2");
    daemon.tell("allow 198.18.9.0/24");
    let still = "removed the exemption of 198.18.9.2; it is still exempt: 198.18.9.0/24 is exempted by hand until it is \
                 removed\n";
    assert_eq!(daemon.tell("allow --remove 198.18.9.2"), still);
    daemon.tell("undo");
    daemon.tell("allow --remove 198.18.9.0/24");
    assert_eq!(daemon.tell("allow --remove 198.18.9.2"), "198.18.9.2 is no longer exempt\n");
    daemon.tell("undo");
    daemon.tell("undo");
    let undone = daemon.tell("undo");
    assert!(undone.ends_with("198.18.9.0/24 is no longer exempt\n"), "{undone}");
    daemon.tell("undo");
    assert_eq!(state(&daemon), BEFORE);
    // One of which another is left.
    daemon.tell("allow 198.18.9.0/24");
    daemon.tell("allow 198.18.9.2");
    let undone = daemon.tell("undo");
    assert!(undone.ends_with(still), "{undone}");
}

#[test]
fn bans_of_a_jail_that_is_off_stay_and_are_told() {
    let daemon = daemon();
    daemon.configure("ignoreip = ['203.0.113.0/24']\n[jail.sshd]\nenabled = false");
    let told = "the jail `sshd` is off, and 1 ban of it stays; `banstream unban --jail sshd` lifts them\n";
    let check = Command::new(BANSTREAM).arg("check").arg(daemon.path("c.toml")).output().unwrap();
    assert!(said(&check).contains(told), "{}", said(&check));
    let reload = daemon.tell("reload");
    assert!(reload.ends_with(told), "{reload}");
    assert_eq!(state(&daemon), BEFORE);
    let status = daemon.tell("status");
    assert!(status.contains("off; its bans stay"), "{status}");
    assert!(!daemon.tell("reload").contains(told), "once is enough");
    daemon.tell("unban --jail sshd");
    assert!(!daemon.tell("status").contains("off; its bans stay"));
}

#[test]
fn undo_asks_where_a_reload_came_last() {
    let daemon = daemon();
    daemon.configure("ignoreip = ['203.0.113.0/24']\nbantime = '3h'");
    daemon.tell("reload");
    let (status, text) = run(&daemon, "undo");
    let want = "error: the last command, `reload` of AGO, lifted no ban; `undo --force` takes back `ban 2001:db8::/48` of AGO (1 \
                change)\n";
    assert_eq!((status, timeless(&text)), (1, want.to_owned()));
    assert_eq!(state(&daemon), BEFORE);
    assert!(daemon.tell("undo --force").starts_with("took back `ban 2001:db8::/48` of "));
}

#[test]
fn a_check_says_what_a_reload_would_change() {
    let daemon = Daemon::deciding("");
    let config = daemon.path("c.toml");
    let check = || {
        let output = Command::new(BANSTREAM).arg("check").arg(&config).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(check().ends_with(": sound\nthe daemon runs with it\n"), "{}", check());
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{text}\n[jail.sshd]\nmaxretry = 7\n")).unwrap();
    assert!(
        check().ends_with("a reload would change:\n    `maxretry` of [jail.sshd]: 5 -> 7\n"),
        "{}",
        check()
    );
    daemon.tell("reload");
    assert!(check().ends_with("the daemon runs with it\n"), "{}", check());
}

/// Adds to the configuration of [`daemon`].
fn exempt(daemon: &Daemon, more: &str) {
    daemon.configure(&format!("ignoreip = ['203.0.113.0/24'{more}]"));
}

const LIFTED: &str = "198.51.100.7 (sshd): 198.51.100.0/24 is in `ignoreip`";

#[test]
fn a_reload_says_what_it_lifts_and_a_rollback_restores_it() {
    let daemon = daemon();
    let decided = || decided(&daemon);
    let before = decided();
    exempt(&daemon, ", '198.51.100.0/24'");
    let check = Command::new(BANSTREAM).arg("check").arg(daemon.path("c.toml")).output().unwrap();
    assert!(
        said(&check).ends_with(&format!("\na reload would lift 1 ban:\n    {LIFTED}\n")),
        "{}",
        said(&check)
    );
    assert_eq!(state(&daemon), BEFORE);
    let (status, text) = run(&daemon, "reload --confirm 2s");
    let want = format!("unbanned {LIFTED}\na rollback restores what was lifted\n");
    assert!(status == 0 && text.ends_with(&want), "{text}");
    let without = || [&BEFORE[..2], &BEFORE[3..]].concat();
    assert_eq!(state(&daemon), without());
    until("the rollback restores the ban", || state(&daemon) == BEFORE);
    until("the log says so", || {
        let log = fs::read_to_string(daemon.path("log")).unwrap();
        log.contains("rolled back to the previous configuration; bans: 1 restored")
            && log.contains("the ban on 198.51.100.7 (sshd) is only observed: 5 offences within 10m")
    });
    let (status, text) = run(&daemon, "reload --keep");
    assert!(status == 1 && text.contains(" ago (bans: 1 restored); reload again"), "{text}");
    let newest = "ban 2001:db8::/48";
    let steps = daemon.tell("undo --list");
    assert!(steps.lines().nth(1).unwrap().ends_with(newest), "what was rolled back is not listed: {steps}");

    // What an operator lifts meanwhile stays lifted.
    assert!(daemon.tell("reload --confirm 2s").contains("unbanned "));
    assert_eq!(daemon.tell("unban --jail sshd"), "no ban of `sshd` is in force\n");
    until("the log says that it was rolled back", || {
        fs::read_to_string(daemon.path("log")).unwrap().matches("rolled back").count() == 2
    });
    assert_eq!(state(&daemon), without());
    assert_eq!(decided(), before, "a restored ban is not a new one");
}

#[test]
fn undo_takes_back_what_a_reload_has_lifted_once_it_is_not_exempt() {
    let daemon = daemon();
    exempt(&daemon, ", '198.51.100.0/24'");
    let text = daemon.tell("reload");
    let undo = "`banstream undo` restores what was lifted, once it is not exempt any more\n";
    assert!(text.ends_with(&format!("unbanned {LIFTED}\n{undo}")), "{text}");
    let (status, text) = run(&daemon, "undo");
    let want = "error: `reload` of AGO (1 change) lifted 1 ban of addresses that are still exempt: 198.51.100.7 (sshd) stays \
                lifted: 198.51.100.0/24 is in `ignoreip`. End the exemption first (and `banstream reload`); `undo --force` \
                gives this command up, for the one before it\n";
    assert_eq!((status, timeless(&text)), (1, want.to_owned()));
    exempt(&daemon, "");
    let text = daemon.tell("reload --json");
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["bans"]["changed"], 0);
    let (status, text) = run(&daemon, "undo");
    let want = "took back `reload` of AGO (1 change): 1 restored\n198.51.100.7 (sshd) is banned for LEFT more; it is only observed\n";
    assert_eq!((status, timeless(&text)), (0, want.to_owned()));
    assert_eq!(state(&daemon), BEFORE);

    exempt(&daemon, ", '198.51.100.0/24'");
    let text = daemon.tell("reload --confirm 1m --json");
    let lifted = &serde_json::from_str::<Value>(&text).unwrap()["bans"];
    assert_eq!((&lifted["counts"]["lifted"], &lifted["notes"][0]["text"]), (&1.into(), &LIFTED.into()));
    daemon.tell("reload --keep");
    let (_, text) = run(&daemon, "undo --force");
    assert!(text.contains(": 1 exempt\n198.51.100.7 (sshd) stays lifted: "), "{text}");
    let (_, text) = run(&daemon, "undo");
    assert!(text.starts_with("took back `ban 2001:db8::/48`"), "{text}");
}

#[test]
fn undo_asks_where_another_command_may_be_meant() {
    let daemon = daemon();
    for nothing in ["ban 64.0.0.0/7", "unban 198.18.7.2", "allow ::/0"] {
        run(&daemon, nothing);
        let (status, text) = run(&daemon, "undo");
        let want = format!(
            "error: the last command, `{nothing}` of AGO, changed nothing; `undo --force` takes back `ban 2001:db8::/48` of AGO (1 \
             change)\n"
        );
        assert_eq!((status, timeless(&text)), (1, want));
        assert_eq!(state(&daemon), BEFORE);
    }
    let list = daemon.tell("undo --list");
    let lines: Vec<&str> = list.lines().collect();
    assert!(lines.len() == 5 && lines[1].ends_with(" 1        ban 2001:db8::/48"), "{list}");
    let text = daemon.tell("undo --force");
    assert!(text.starts_with("took back `ban 2001:db8::/48` of "), "{text}");
    assert!(
        daemon.tell("undo").starts_with("took back `ban 198.18.7.1` of "),
        "and the one before it at once"
    );
}

#[test]
fn undo_outlives_a_restart_and_asks_for_what_is_old() {
    let daemon = Daemon::observing("");
    daemon.tell("ban 198.18.7.1 --for 2h --reason old");
    daemon.tell("ban 198.18.7.2");
    daemon.tell("allow 198.18.7.0/24 --for 1h --comment us");
    let before = state(&daemon);
    let list = daemon.tell("undo --list");
    daemon.stop();
    daemon.start();
    assert_eq!(state(&daemon), before);
    let commands = |list: &str| -> Vec<String> {
        list.lines().map(|line| line.split_once("  ").unwrap().1.trim().to_owned()).collect()
    };
    assert_eq!(commands(&daemon.tell("undo --list")), commands(&list));
    let (status, text) = run(&daemon, "undo");
    let want = "took back `allow 198.18.7.0/24` of AGO (3 changes): 1 removed, 2 restored\n198.18.7.0/24 is no longer exempt\n\
                198.18.7.1 (manual) is banned for LEFT more; it is only observed\n198.18.7.2 (manual) is banned forever; it is only observed\n";
    assert_eq!((status, timeless(&text)), (0, want.to_owned()));
    assert_eq!(state(&daemon), ["198.18.7.1 manual 120 old", "198.18.7.2 manual forever "]);
    // A restored ban is not a new one, and one that is taken back has ended.
    let report = || {
        let report = daemon.tell("report --config c.toml --json");
        let totals = &serde_json::from_str::<Value>(&report).unwrap()["totals"];
        (totals["bans"].as_u64(), totals["lifted"].as_u64())
    };
    assert_eq!(report(), (Some(2), Some(0)));
    daemon.tell("ban 198.18.7.1 --for 10m");
    daemon.tell("undo");
    assert_eq!(report(), (Some(2), Some(1)));
    daemon.stop();
    let ledger = rusqlite::Connection::open(daemon.path("state").join("ledger.db")).unwrap();
    assert_eq!(ledger.execute("UPDATE undo_step SET at = at - 11 * 60000000", []).unwrap(), 2);
    drop(ledger);
    daemon.start();
    let (status, text) = run(&daemon, "undo");
    let want = "error: the last command is older than 10m; `undo --force` takes back `ban 198.18.7.2` of AGO (1 change)\n";
    assert_eq!((status, timeless(&text)), (1, want.to_owned()));
    daemon.tell("undo --force");
    assert_eq!(state(&daemon), ["198.18.7.1 manual 120 old"]);
    let json: Vec<Value> = serde_json::from_str(&daemon.tell("undo --list --json")).unwrap();
    assert_eq!(
        (json.len(), &json[0]["command"], &json[0]["changes"]),
        (1, &"ban 198.18.7.1".into(), &1.into())
    );
}
