//! What fail2ban's hands and scripts get from a real daemon when they go on saying `fail2ban-client`.

use std::os::unix::fs::symlink;
use std::process::Command;

use crate::common::{self, BANSTREAM, failed, until};

/// A daemon that only decides, with two jails, and beside it a link by the name of `fail2ban-client`.
struct Daemon(common::Daemon);

impl Daemon {
    fn start() -> Self {
        let off = [
            "http-auth",
            "http-exploit",
            "http-flood",
            "http-probe",
            "login",
            "mail",
            "portscan",
            "ssh-abuse",
            "ssh-connect",
            "tarpit",
            "web",
        ]
        .map(|jail| format!("jail.{jail}.enabled = false\n"));
        let daemon = common::Daemon::deciding(&format!(
            "ignoreip = ['127.0.0.0/8']\njail.sshd.ignoreip = ['203.0.113.0/24']\njail.ftp.bantime = 'forever'\n{}",
            off.concat()
        ));
        symlink(BANSTREAM, daemon.path("fail2ban-client")).unwrap();
        Self(daemon)
    }

    /// What `fail2ban-client` says to these words, on stdout and on stderr, and its exit status.
    fn client(&self, words: &[&str]) -> (String, String, i32) {
        let output = Command::new(self.0.path("fail2ban-client"))
            .args(["-c", "c.toml", "-s", "control"])
            .args(words)
            .current_dir(self.0.path(""))
            .env("TZ", "UTC")
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(output.stdout), text(output.stderr), output.status.code().unwrap())
    }

    /// It does as it is told, and says this.
    #[track_caller]
    fn says(&self, line: &str, want: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(self.client(&words), (format!("{want}\n"), String::new(), 0), "{line}");
    }

    /// It fails, as fail2ban-client does, and says why on stdout or on stderr.
    #[track_caller]
    fn fails(&self, line: &str, stdout: &str, stderr: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(self.client(&words), (stdout.to_owned(), stderr.to_owned(), 255), "{line}");
    }
}

fn sshd(failed: u32, total: u32, banned: u32, bans: u32, addresses: &str) -> String {
    format!(
        "Status for the jail: sshd\n|- Filter\n|  |- Currently failed:\t{failed}\n|  |- Total failed:\t{total}\n\
         |  `- Grammars:\tdropbear sshd\n`- Actions\n   |- Currently banned:\t{banned}\n   \
         |- Total banned:\t{bans}\n   `- Banned IP list:\t{addresses}"
    )
}

#[test]
fn the_daily_verbs_answer_as_fail2ban_does() {
    let daemon = Daemon::start();
    daemon.says("ping", "Server replied: pong");
    daemon.says("version", env!("CARGO_PKG_VERSION"));
    daemon.says("-V", env!("CARGO_PKG_VERSION"));
    daemon.says("-t", "OK: configuration test is successful");
    daemon.says("status", "Status\n|- Number of jail:\t2\n`- Jail list:\tftp, sshd");
    daemon.says("status sshd", &sshd(0, 0, 0, 0, ""));
    daemon.says("banned", "[{'ftp': []}, {'sshd': []}]");
    daemon.says("get sshd bantime", "3600");
    daemon.says("get ftp bantime", "-1");
    daemon.says("get sshd findtime", "600");
    daemon.says("get sshd maxretry", "5");

    daemon.says("set sshd banip 198.51.100.7 2001:db8::/64", "2");
    daemon.says("set sshd banip 198.51.100.7", "0");
    daemon.says("set ftp banip 198.51.100.8", "1");
    daemon.says("status sshd", &sshd(0, 0, 2, 2, "198.51.100.7 2001:db8::/64"));
    daemon.says("banned", "[{'ftp': ['198.51.100.8']}, {'sshd': ['198.51.100.7', '2001:db8::/64']}]");
    daemon.says("banned 2001:db8::5 198.51.100.9", "[['sshd'], []]");
    daemon.says("get sshd banip", "198.51.100.7 2001:db8::/64");
    daemon.says("get sshd banip ,", "198.51.100.7,2001:db8::/64");
    let (times, ..) = daemon.client(&["get", "sshd", "banip", "--with-time"]);
    let first = times.lines().next().unwrap();
    assert!(first.starts_with("198.51.100.7 \t20") && first.contains(" + 3600 = 20"), "{times}");
    let (times, ..) = daemon.client(&["get", "ftp", "banip", "--with-time"]);
    assert!(times.ends_with(" + -1 = 9999-12-31 23:59:59\n"), "{times}");
    daemon.says("reload", "OK");
    daemon.says("reload sshd", "OK");

    daemon.says("set ftp unbanip 198.51.100.7", "0");
    daemon.says("set sshd unbanip 198.51.100.7", "1");
    daemon.says("set sshd unbanip 198.51.100.7", "0");
    let absent = "not banned: ['198.51.100.7']\n";
    daemon.fails("set sshd unbanip --report-absent 198.51.100.7 2001:db8::/64", absent, "");
    daemon.says("unban 198.51.100.8 198.51.100.9", "1");
    daemon.says("unban --all", "1");
}

#[test]
fn what_a_jail_counts_and_bans_itself_is_told_too() {
    let daemon = Daemon::start();
    let failed = |address: &str, times| daemon.0.send((0..times).map(|pid| failed(pid, address)));
    failed("198.51.100.7", 5);
    failed("198.51.100.8", 2);
    let want = format!("{}\n", sshd(1, 7, 1, 1, "198.51.100.7"));
    until("all are counted", || daemon.client(&["status", "sshd"]).0 == want);
    daemon.says("set sshd banip 198.51.100.7", "0");
    daemon.says("set sshd banip 198.51.100.8", "1");
    daemon.says("set sshd unbanip 198.51.100.8 198.51.100.7", "2");
    // A ban by hand without a jail is separate.
    daemon.0.tell("ban 198.51.100.9");
    daemon.says("banned", "[{'ftp': []}, {'sshd': []}, {'manual': ['198.51.100.9']}]");
}

#[test]
fn whom_a_jail_ignores_can_be_told_and_changed() {
    let daemon = Daemon::start();
    let ignored = |items: &[&str]| {
        let (last, rest) = items.split_last().unwrap();
        let rest: String = rest.iter().map(|item| format!("|- {item}\n")).collect();
        format!("These IP addresses/networks are ignored:\n{rest}`- {last}")
    };
    daemon.says("get ftp ignoreip", &ignored(&["127.0.0.0/8"]));
    daemon.says("get sshd ignoreip", &ignored(&["127.0.0.0/8", "203.0.113.0/24"]));
    daemon.says("set ftp addignoreip 198.51.100.7", &ignored(&["127.0.0.0/8", "198.51.100.7"]));
    let protected = "ERROR   198.51.100.7 is exempt: 198.51.100.7 is exempted by hand until it is removed: fail2ban-client \
                     set ftp addignoreip\n";
    daemon.fails("set sshd banip 198.51.100.7", "", protected);
    daemon.says("set ftp delignoreip 198.51.100.7", &ignored(&["127.0.0.0/8"]));
    let stays = "ERROR   127.0.0.0/8 was not exempted by hand; `ignoreip` in the configuration stays\n";
    daemon.fails("set ftp delignoreip 127.0.0.0/8", "", stays);
}

#[test]
fn what_cannot_be_done_says_what_can() {
    let daemon = Daemon::start();
    let nope = "Sorry but the jail 'nope' does not exist\n";
    for line in
        ["status nope", "get nope bantime", "set nope banip ::1", "set nope unbanip --report-absent ::1"]
    {
        daemon.fails(line, nope, "");
    }
    for (line, instead) in [
        ("start", "`systemctl start banstream`"),
        ("stop", "bans stay in force"),
        ("restart", "`systemctl restart banstream`"),
        ("reload --unban", "`banstream unban --all`"),
        ("set sshd maxretry 3", "`banstream reload`: no count is lost"),
        ("get sshd failregex", "`banstream explain`"),
        ("get sshd logpath", "`banstream status`"),
        ("set loglevel DEBUG", "`banstream log`"),
        ("get dbfile", "`[ledger]`"),
        ("set sshd banip host.example", "`host.example` is not an address"),
        ("nonsense", "`fail2ban-client -h`"),
    ] {
        let (stdout, stderr, code) = daemon.client(&line.split(' ').collect::<Vec<_>>());
        assert_eq!((stdout.as_str(), code), ("", 255), "{line}");
        assert!(stderr.starts_with("ERROR   ") && stderr.contains(instead), "{line}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{line}: {stderr}");
    }
    let (usage, _, code) = daemon.client(&[]);
    assert!(usage.starts_with("Usage: fail2ban-client ") && code == 255, "{usage}");
    assert_eq!(daemon.client(&["-h"]), (usage, String::new(), 0));
    let words = ["compat", "fail2ban-client", "-s", "/nonexistent", "ping"];
    let output = Command::new(BANSTREAM).args(words).output().unwrap();
    assert_eq!(output.status.code(), Some(255));
    let want =
        "ERROR   no daemon answers at `/nonexistent`; is it running? `systemctl status banstream` tells\n";
    assert_eq!(String::from_utf8_lossy(&output.stderr), want);
}
