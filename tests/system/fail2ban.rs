//! Debian's fail2ban: its package is read as it reads itself, and one that runs hands its bans over.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use banstream::entry::{Decoder, Format};
use banstream::fail2ban::{Fail2banConfig, Fail2banJail};
use banstream::model::Timestamp;
use banstream::words;
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

use crate::common::{BANSTREAM, Daemon, Killed, in_namespaces, said, sh, until};

/// The package's configuration, with these local changes.
fn package(local: &str) -> TempDir {
    let folder = tempdir().unwrap();
    sh(&format!("cp -r /etc/fail2ban/. {}", folder.path().display()));
    fs::write(folder.path().join("jail.local"), local).unwrap();
    folder
}

/// What fail2ban's own reader makes of each jail: `fail2ban-client -d` prints lists of Python.
fn resolved(folder: &Path) -> BTreeMap<String, Value> {
    let program = "
import ast, json, sys
jails = {}
for line in sys.stdin:
    if not line.startswith('['): continue
    c = ast.literal_eval(line)
    if c[0] == 'add': jails[c[1]] = {'fail': [], 'ignore': [], 'date': ''}
    elif c[0] in ('set', 'multi-set') and c[1] in jails:
        key = {'addfailregex': 'fail', 'addignoreregex': 'ignore'}.get(c[2])
        if key: jails[c[1]][key] += c[3] if c[0] == 'multi-set' else [c[3]]
        elif c[2] in ('prefregex', 'maxretry', 'findtime', 'bantime'): jails[c[1]][c[2]] = str(c[3])
        elif c[2] == 'datepattern': jails[c[1]]['date'] = c[3]
print(json.dumps(jails))";
    let mut python = Command::new("python3");
    let dump = Command::new("fail2ban-client").arg("-c").arg(folder).arg("-d").output().unwrap();
    let file = folder.join("dump");
    fs::write(&file, &dump.stdout).unwrap();
    let output = python.args(["-c", program]).stdin(fs::File::open(file).unwrap()).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}{}", said(&dump), said(&output)))
}

/// The same as we read it.
fn ours(jail: &Fail2banJail) -> Value {
    let mut value = json!({
        "fail": jail.regexes.fail, "ignore": jail.regexes.ignore, "date": jail.regexes.date,
    });
    if let Some(prefix) = &jail.regexes.prefix {
        value["prefregex"] = prefix.as_str().into();
    }
    for key in ["maxretry", "findtime", "bantime"] {
        if let Some(text) = jail.options.get(key) {
            value[key] = text.as_str().into();
        }
    }
    value
}

#[test]
fn the_package_is_read_as_fail2ban_reads_it() {
    let all = "[DEFAULT]\nenabled = true\nbackend = auto\n[sshd]\nmode = aggressive\n[postfix]\nmode = extra\n\
               [dovecot]\nfilter = dovecot[mode=aggressive]\nfailregex = %(known/failregex)s\n            ^own <HOST>$\n";
    for local in [all.to_owned(), all.replace("backend = auto", "backend = systemd")] {
        let folder = package(&local);
        let theirs = resolved(folder.path());
        let config = Fail2banConfig::read(folder.path()).unwrap();
        assert!(theirs.len() > 80, "{}", theirs.len());
        let ours: BTreeMap<String, Value> =
            config.jails.iter().map(|jail| (jail.name.clone(), ours(jail))).collect();
        for (name, theirs) in &theirs {
            assert_eq!(&ours[name], theirs, "{name}");
        }
        assert_eq!(ours.len(), theirs.len());
    }
}

/// What `import` makes of the package with this `jail.local`.
fn plan(local: &str) -> Value {
    let (folder, daemon) = (package(local), Daemon::new(""));
    let mut import = Command::new(BANSTREAM);
    import.args(["import", "fail2ban", "--json", "--config", "c.toml"]).arg(folder.path());
    let output = import.current_dir(daemon.path("")).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)))
}

/// What a parameter changes is not what a grammar of ours counts.
#[test]
fn parameters_of_a_filter_make_another_of_it() {
    let becomes = |filter: &str| {
        let jail = format!("[nginx-botsearch]\nenabled = true\nfilter = {filter}\n");
        plan(&jail)["jails"]
            .as_array()
            .unwrap()
            .iter()
            .find(|jail| jail["name"] == "nginx-botsearch")
            .unwrap()
            .clone()
    };
    let plain = becomes("nginx-botsearch");
    assert_eq!(plain["outcome"], "ours", "{plain}");
    let is_said = |note: &Value| note.as_str().unwrap().starts_with("differs: requests count");
    assert!(plain["notes"].as_array().unwrap().iter().any(is_said), "{plain}");
    let same = becomes("nginx-botsearch[mode=normal]");
    assert_eq!((&same["grammars"], &same["notes"]), (&plain["grammars"], &plain["notes"]));
    let own = becomes("nginx-botsearch[block=\"secret-admin\"]");
    assert!(own["outcome"] != "ours" || own["converted"] != 0, "{own}");
    assert_ne!(own["notes"], plain["notes"]);
}

#[test]
fn most_jails_of_the_package_become_jails_here() {
    let plan = plan("[DEFAULT]\nenabled = true\nbackend = auto\n");
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for jail in plan["jails"].as_array().unwrap() {
        *counts.entry(jail["outcome"].as_str().unwrap()).or_default() += 1;
    }
    let all: usize = counts.values().sum();
    let left = counts.get("not-converted").copied().unwrap_or_default();
    assert!(all > 80 && left * 20 <= all, "{counts:?}");
    // contrib/fail2ban.md has these numbers, of Debian 12.
    if sh("dpkg-query -Wf '${Version}' fail2ban").starts_with("1.0.2-") {
        let want = [("converted", 5), ("not-converted", 4), ("not-needed", 1), ("ours", 81)];
        assert_eq!(counts, want.into());
        let said = fs::read_to_string("contrib/fail2ban.md").unwrap();
        assert!(said.contains("Of the 91 jails of Debian 12's package, 81 are ours, 5 are converted"));
    }
}

/// The lines of each filter in the samples of fail2ban; empty, and a word about it, if they are absent.
fn samples() -> BTreeMap<String, Vec<String>> {
    let named = std::env::var_os("BANSTREAM_CORPORA").map(PathBuf::from);
    let folder = named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpora"));
    let mut samples = BTreeMap::new();
    let Ok(files) = fs::read_dir(folder.join("fail2ban")) else {
        let what = format!("corpora: NOTHING WAS READ, `{}` is absent\n", folder.display());
        std::io::stderr().write_all(what.as_bytes()).unwrap();
        return samples;
    };
    for file in files.map(|file| file.unwrap().path()) {
        let rows = fs::read_to_string(file).unwrap();
        for row in rows.lines().map(|row| serde_json::from_str::<Value>(row).unwrap()) {
            let (service, line) = (row["service"].as_str().unwrap(), row["line"].as_str());
            // On a line of that, fail2ban 1.0.2 does not come to an end.
            let is_endless = |line: &str| service == "domino-smtp" && line.contains("A A A A");
            let is_journal = row["logtype"] == "journal";
            let is_usable =
                |line: &&str| !line.contains('\n') && !is_endless(line) && (!is_journal || service == "sshd");
            let Some(line) = line.filter(is_usable) else { continue };
            let (name, line) = match is_journal {
                true => (format!("{service}-journal"), format!("Jun 21 16:47:48 {line}")),
                false => (service.to_owned(), line.to_owned()),
            };
            samples.entry(name).or_insert_with(Vec::new).push(line);
        }
    }
    samples
}

#[test]
fn its_filters_and_ours_agree_on_its_own_samples() {
    in_namespaces(&["--mount"], || {
        sh("mount -t tmpfs tmpfs /var/log; mkdir /var/log/samples");
        let mut samples = samples();
        let filter = |name: &str| name.trim_end_matches("-journal").to_owned();
        let folder = Path::new("/etc/fail2ban/filter.d");
        samples.retain(|name, _| folder.join(format!("{}.conf", filter(name))).exists());
        let daemon = Daemon::new("");
        // In the place of the journal.
        fs::write(daemon.path("journal"), "").unwrap();
        let stub = daemon.script("journalctl", "echo \"$@\" >asked\ncat journal");
        let (mut jails, mut syslog) = ("[DEFAULT]\nbackend = auto\n".to_owned(), String::new());
        for (name, lines) in &samples {
            jails += &format!("[{name}]\nenabled = true\nfilter = {}\n", filter(name));
            if name.ends_with("-journal") {
                jails += "backend = systemd\n";
                fs::write(daemon.path("journal"), lines.join("\n")).unwrap();
                continue;
            }
            // Lines of log daemons stand in one file, those of servers in their own.
            let mut decoder = Decoder::new(jiff::tz::TimeZone::UTC);
            let mut has_header = |line: &&String| {
                let mut line = line.as_bytes().to_vec();
                decoder.decode(Format::Line, &mut line, Timestamp::default()).unwrap().program != b""
            };
            let (headed, own): (Vec<&String>, Vec<&String>) = lines.iter().partition(&mut has_header);
            syslog.extend(headed.iter().map(|line| format!("{line}\n")));
            jails += "logpath = ";
            if !headed.is_empty() {
                jails += "/var/log/syslog\n  ";
            }
            if !own.is_empty() {
                jails += &format!("/var/log/samples/{name}.log");
                let own: String = own.iter().map(|line| format!("{line}\n")).collect();
                fs::write(format!("/var/log/samples/{name}.log"), own).unwrap();
            }
            jails += "\n";
        }
        fs::write("/var/log/syslog", syslog).unwrap();
        let folder = package(&jails);
        let path =
            format!("{}:{}", Path::new(&stub).parent().unwrap().display(), std::env::var("PATH").unwrap());
        let mut import = Command::new(BANSTREAM);
        import.args(["import", "fail2ban", "--compare", "--json", "--config", "c.toml"]).arg(folder.path());
        let output = import.current_dir(daemon.path("")).env("PATH", path).output().unwrap();
        let report: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
        let number = |jail: &Value, key: &str| jail[key].as_u64().unwrap();
        let (mut sums, mut faults) = ([0; 4], Vec::new());
        println!(
            "{:20} {:>6} {:>6} {:>14} {:>14}",
            "filter", "lines", "both", "only fail2ban", "only banstream"
        );
        for jail in report["agreement"].as_array().unwrap() {
            let name = jail["jail"].as_str().unwrap();
            let counts =
                ["both", "only_fail2ban", "only_banstream", "other_address"].map(|key| number(jail, key));
            let [both, theirs, ours, other] = counts;
            println!("{name:20} {:>6} {both:>6} {theirs:>14} {ours:>14}", number(jail, "lines"));
            sums = std::array::from_fn(|nth| sums[nth] + counts[nth]);
            let name = name.trim_start_matches("f2b-");
            // What remains different is said of each filter.
            let is_said = words::filter(&filter(name)).is_none() || words::differs(&filter(name)).is_some();
            assert!(is_said || theirs + ours == 0, "{name}: {jail:#}");
            let known = DIFFERENCES.iter().flat_map(|(_, jails)| *jails).filter(|(known, ..)| *known == name);
            let known = known.fold((0, 0), |sum, (_, theirs, ours)| (sum.0 + theirs, sum.1 + ours));
            if (theirs, ours) != known || other > 0 || (jail["skipped"] != "" && name != "apache-pass") {
                faults.push(format!("{name}: {known:?} are known of {jail:#}"));
            }
        }
        println!("in all: {sums:?}");
        if samples.is_empty() {
            return;
        }
        let words =
            "--quiet --no-pager --output=short --lines=20000 -- _SYSTEMD_UNIT=sshd.service + _COMM=sshd\n";
        assert_eq!(daemon.file("asked"), words);
        // The differences of Debian 12's fail2ban are known one by one.
        if sh("dpkg-query -Wf '${Version}' fail2ban").starts_with("1.0.2-") {
            assert!(faults.is_empty(), "{}", faults.join("\n"));
            // contrib/fail2ban.md has these numbers.
            assert_eq!(sums, [425, 61, 54, 0]);
        }
        let [both, theirs, ours, other] = sums;
        assert!(both >= 380 && theirs + ours < both / 2 && other == 0, "{sums:?}");
    });
}

/// On how many of the samples fail2ban's filter and ours differ: by filter, lines that only fail2ban counts, and lines that
/// only banstream does.
type Differences<'d> = (&'d str, &'d [(&'d str, u64, u64)]);

const DIFFERENCES: &[Differences<'_>] = &[
    (
        "connections that ask for nothing or are broken off: other jails or modes count them",
        &[("dovecot", 1, 0), ("freeswitch", 1, 0), ("sshd", 5, 0), ("sshd-journal", 5, 0)],
    ),
    (
        "a name in the place of the address, or what is not an address",
        &[
            ("mysqld-auth", 1, 0),
            ("pam-generic", 2, 0),
            ("sshd", 10, 0),
            ("sshd-journal", 8, 0),
            ("vsftpd", 1, 0),
        ],
    ),
    (
        "lines that strangers can write in part, so that the line does not say which address is the client's",
        &[
            ("apache-noscript", 1, 0),
            ("nginx-botsearch", 2, 0),
            ("nginx-http-auth", 1, 0),
            ("sshd", 2, 0),
            ("sshd-journal", 2, 0),
            ("traefik-auth", 3, 0),
        ],
    ),
    ("PAM's lines about servers, which those servers' jails count", &[("pam-generic", 5, 0)]),
    (
        "a program that is called otherwise, or a header that rsyslog does not write",
        &[("drupal-auth", 1, 0), ("sshd", 6, 0)],
    ),
    (
        "a login that went well, after failures that count when they happen",
        &[("sshd", 1, 0), ("sshd-journal", 1, 0)],
    ),
    (
        "the line with the address is not in the sample, which ends with the one that forgets it",
        &[("mongodb-auth", 2, 0)],
    ),
    (
        "another program of the same server, which has a filter of its own there",
        &[
            ("courier-auth", 0, 2),
            ("courier-smtp", 0, 4),
            ("cyrus-imap", 0, 3),
            ("sieve", 0, 6),
            ("sshd", 0, 6),
        ],
    ),
    (
        "lines of versions, with headers or with options that this version of fail2ban does not count, and later ones do",
        &[
            ("apache-auth", 0, 4),
            ("apache-badbots", 0, 1),
            ("asterisk", 0, 1),
            ("dovecot", 0, 1),
            ("dropbear", 0, 1),
            ("exim", 0, 4),
            ("freeswitch", 0, 2),
            ("guacamole", 0, 1),
            ("lighttpd-auth", 0, 1),
            ("mysqld-auth", 0, 1),
            ("nginx-limit-req", 0, 1),
            ("selinux-ssh", 0, 1),
            ("sendmail-reject", 0, 1),
            ("sshd", 0, 6),
            ("sshd-journal", 0, 4),
            ("vsftpd", 0, 2),
        ],
    ),
    ("a HELO that is refused for another reason", &[("postfix", 0, 1)]),
];

/// A fail2ban with a log of its own.
struct Fail2ban {
    folder: TempDir,
    server: Killed,
}

impl Fail2ban {
    fn start() -> Self {
        let folder = package("");
        let path = |name: &str| folder.path().join(name).display().to_string();
        fs::write(path("auth.log"), "").unwrap();
        let jail = format!(
            "[DEFAULT]\nbackend = polling\nbanaction = nftables-multiport\n[sshd]\nenabled = true\nlogpath = {}\nmaxretry = 2\n\
             bantime = 1h\n",
            path("auth.log")
        );
        fs::write(path("jail.local"), jail).unwrap();
        let main = format!(
            "[Definition]\nallowipv6 = yes\nlogtarget = {}\nsocket = {}\npidfile = {}\ndbfile = {}\n",
            path("log"),
            path("socket"),
            path("pid"),
            path("bans.sqlite3")
        );
        fs::write(path("fail2ban.local"), main).unwrap();
        let mut server = Command::new("fail2ban-server");
        server.arg("-c").arg(folder.path()).args(["-f", "start"]).stdout(Stdio::null()).stderr(Stdio::null());
        let fail2ban = Self { server: Killed(server.spawn().unwrap()), folder };
        until("fail2ban answers", || fail2ban.client("status sshd").contains("Currently banned"));
        fail2ban
    }

    fn client(&self, words: &str) -> String {
        let mut client = Command::new("fail2ban-client");
        said(&client.arg("-c").arg(self.folder.path()).args(words.split(' ')).output().unwrap())
    }

    /// Two failed logins, and the ban that they earn. fail2ban takes the lines of one process for those of one address.
    fn attack(&self, pid: u32, address: &str) {
        let message = format!("Failed password for root from {address} port 22 ssh2");
        self.log(pid, &[&message, &message]);
        until("fail2ban bans", || self.client("status sshd").contains(address));
    }

    /// Logs messages of one process of sshd.
    fn log(&self, pid: u32, messages: &[&str]) {
        let mut log = fs::File::options().append(true).open(self.folder.path().join("auth.log")).unwrap();
        for message in messages {
            let time = jiff::Timestamp::now().to_zoned_datetime(jiff::tz::TimeZone::system());
            writeln!(log, "{} here sshd[{pid}]: {message}", time.strftime("%b %d %H:%M:%S")).unwrap();
        }
    }
}

#[test]
fn a_fail2ban_that_runs_hands_its_bans_over() {
    in_namespaces(&["--net", "--mount", "--pid", "--fork", "--mount-proc"], || {
        sh("ip link set lo up; mkdir -p /run/systemd; mount -t tmpfs tmpfs /run/systemd; mkdir /run/systemd/system
            mount -t tmpfs tmpfs /etc/rsyslog.d");
        let fail2ban = Fail2ban::start();
        fail2ban.attack(1, "192.0.2.1");
        fail2ban.attack(2, "2001:db8::7");

        let daemon = Daemon::new("enforce.backend = 'nftables'");
        // In the place of systemctl: notes what it is asked, and what is banned just then.
        let stub = daemon.script(
            "systemctl",
            &format!(
                "echo \"$@\" >>asked\nBANSTREAM_SOCKET=control {BANSTREAM} bans >>banned 2>&1\n\
                 case \"$*\" in *is-active*) [ ! -e off ];; disable*) touch off;; start*) rm -f off;; esac"
            ),
        );
        let path =
            format!("{}:{}", Path::new(&stub).parent().unwrap().display(), std::env::var("PATH").unwrap());
        let import = |option: &str| {
            let mut import = Command::new(BANSTREAM);
            import.args(["import", "fail2ban", "--config", "c.toml"]).args(option.split(' '));
            import.arg(fail2ban.folder.path());
            let output = import.current_dir(daemon.path("")).env("PATH", &path).output().unwrap();
            (output.status.code(), said(&output))
        };
        let goes_on = |option: &str, want: &str| {
            let (status, refused) = import(option);
            assert_eq!(status, Some(2), "{refused}");
            assert!(refused.contains(&format!("fail2ban goes on{want}")), "{want}: {refused}");
            let asked = fs::read_to_string(daemon.path("asked")).unwrap_or_default();
            assert!(!asked.contains("disable"), "{asked}");
        };
        let unwritten = ": `--write` first: these files are not as they would be written: ";
        goes_on("--switch", unwritten);
        let (status, written) = import("--write");
        // Its log is a file with headers of syslog here, which is a task.
        assert_eq!(status, Some(1), "{written}");
        assert!(
            written.contains("bans of fail2ban: 2 in force, 0 past; taken over into the ledger: 2 new"),
            "{written}"
        );

        // Without a daemon, fail2ban goes on.
        let (status, refused) = import("--switch");
        assert_eq!(status, Some(2), "{refused}");
        assert!(refused.contains("fail2ban goes on, since no daemon of banstream answers"), "{refused}");
        let asked = fs::read_to_string(daemon.path("asked")).unwrap_or_default();
        assert!(!asked.contains("fail2ban"), "{asked}");

        daemon.start();
        let bans: Value = serde_json::from_str(&daemon.get("/bans").unwrap()).unwrap();
        let listed: Vec<_> = bans
            .as_array()
            .unwrap()
            .iter()
            .map(|ban| (&ban["address"], &ban["jail"], &ban["times"]))
            .collect();
        assert_eq!(json!(listed), json!([["192.0.2.1", "sshd", 1], ["2001:db8::/64", "sshd", 1]]));
        for ban in bans.as_array().unwrap() {
            let left = ban["left"].as_u64().unwrap();
            assert!((3500..=3600).contains(&left), "{ban}");
            assert_eq!(ban["ports"], json!(["22/tcp"]));
        }

        // Nor does it let go of bans that would only be observed.
        daemon.configure("enforce.backend = 'nftables'\njail.sshd.mode = 'observe'");
        daemon.tell("reload");
        let (status, refused) = import("--switch");
        assert_eq!(status, Some(2), "{refused}");
        let want = "fail2ban goes on, since banstream does not enforce 2 of its bans: 192.0.2.1 (`sshd` only observes)";
        assert!(refused.contains(want), "{refused}");
        daemon.configure("enforce.backend = 'nftables'");
        daemon.tell("reload");

        // Nor is a jail lost without a word.
        let config = fail2ban.folder.path().join("jail.local");
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, format!("{text}[sshd-ddos]\nenabled = true\nfilter = sshd\nmaxretry = 9\n"))
            .unwrap();
        goes_on("--switch --force", unwritten);
        let odd = "[Definition]\nfailregex = ^(?=x)y <HOST>$\njournalmatch = SYSLOG_IDENTIFIER=x\n";
        fs::write(fail2ban.folder.path().join("filter.d/odd.conf"), odd).unwrap();
        fs::write(&config, format!("{text}[odd]\nenabled = true\nbackend = systemd\nfilter = odd\n"))
            .unwrap();
        let (status, written) = import("--write");
        assert_eq!(status, Some(1), "{written}");
        assert!(written.contains("): `odd` has no counterpart here: a look-ahead `(?=`\n"), "{written}");
        goes_on(
            "--switch",
            ", since these jails have no counterpart here: `odd`; `--force` switches without them",
        );

        // Who attacks meanwhile is banned here before fail2ban lets go.
        fail2ban.attack(3, "192.0.2.3");
        let (status, switched) = import("--switch --force");
        assert_eq!(status, Some(1), "{switched}");
        assert!(
            switched.contains("banstream has all 3 bans of fail2ban in force, 1 of them since now"),
            "{switched}"
        );
        let asked = daemon.file("asked");
        assert!(asked.ends_with("disable --now fail2ban.service\n"), "{asked}");
        let banned = daemon.file("banned");
        for address in ["192.0.2.1", "192.0.2.3", "2001:db8::/64"] {
            assert!(banned.contains(address), "{address}: {banned}");
        }
        let doctor = said(&daemon.output(&["doctor", "--config", "c.toml"]));
        assert!(doctor.contains("the kernel has all bans that were looked up: 3"), "{doctor}");

        // What was before the switch stays known, and nothing leaves the host without protection.
        let (_, again) = import("--switch");
        assert!(again.contains("\nfail2ban is switched off already\n"), "{again}");
        let (status, refused) = import("--shadow");
        assert_eq!(status, Some(2), "{refused}");
        assert!(refused.contains("nothing was written: fail2ban is switched off"), "{refused}");
        sh(&format!("rm {}", daemon.path("off").display()));
        let (_, again) = import("--switch --force");
        assert!(again.contains("stopped and disabled fail2ban"), "{again}");
        let (status, undone) = import("--undo");
        assert_eq!(status, Some(0), "{undone}");
        assert!(
            daemon.file("asked").ends_with("enable fail2ban.service\nstart fail2ban.service\n"),
            "{}",
            daemon.file("asked")
        );
        assert!(!daemon.path("c.d/fail2ban.toml").exists());
        assert!(daemon.tell("bans").contains("192.0.2.1"), "bans stay");
        drop(fail2ban.server);
    });
}

#[test]
fn both_run_side_by_side_until_the_switch() {
    in_namespaces(&["--net", "--mount", "--pid", "--fork", "--mount-proc"], || {
        sh("ip link set lo up; mkdir -p /run/systemd; mount -t tmpfs tmpfs /run/systemd; mkdir /run/systemd/system
            mount -t tmpfs tmpfs /etc/rsyslog.d; mount -t tmpfs tmpfs /var/log; touch /var/log/auth.log");
        let fail2ban = Fail2ban::start();
        // Where a log daemon writes it.
        sh(&format!("mount --bind {}/auth.log /var/log/auth.log", fail2ban.folder.path().display()));
        let config = fail2ban.folder.path().join("jail.local");
        let text = fs::read_to_string(&config).unwrap();
        let path = format!("{}/auth.log", fail2ban.folder.path().display());
        let text = text.replace(&path, "/var/log/auth.log");
        fs::write(&config, format!("{text}[recidive]\nenabled = true\n")).unwrap();
        let daemon = Daemon::new("enforce.backend = 'nftables'\nignoreip = ['192.0.2.9']");
        let stub = daemon.script("systemctl", "echo \"$@\" >>asked; [ ! -e broken ]");
        let path =
            format!("{}:{}", Path::new(&stub).parent().unwrap().display(), std::env::var("PATH").unwrap());
        let import = |options: &[&str]| {
            let mut import = Command::new(BANSTREAM);
            import
                .args(["import", "fail2ban", "--config", "c.toml"])
                .args(options)
                .arg(fail2ban.folder.path());
            let output = import.current_dir(daemon.path("")).env("PATH", &path).output().unwrap();
            (output.status.code(), said(&output))
        };
        // What says otherwise is named.
        fs::create_dir(daemon.path("c.d")).unwrap();
        fs::write(daemon.path("c.d/z.toml"), "[jail.sshd]\nmode = 'enforce'\n").unwrap();
        let (status, refused) = import(&["--shadow"]);
        assert_eq!(status, Some(2), "{refused}");
        assert!(refused.contains("c.d/z.toml:2 says `mode = 'enforce'`"), "{refused}");
        assert!(!daemon.path("c.d/fail2ban.toml").exists());
        fs::remove_file(daemon.path("c.d/z.toml")).unwrap();

        fail2ban.attack(1, "192.0.2.1");
        let (status, written) = import(&["--shadow"]);
        assert_eq!(status, Some(0), "{written}");
        assert!(!written.contains("took over"), "{written}");
        daemon.start();
        // One that is known by now neither reloads nor the next look forget.
        assert!(!import(&[]).1.contains("would write"));
        daemon.tell("reload");
        assert_eq!(daemon.status()["enforcement"]["mode"], "none");
        assert!(!sh("nft list tables").contains("banstream"));

        // Both read the same attacks, but for the differences below.
        let mut pid = 10;
        let mut both = |messages: &[&str], comes: bool| {
            pid += 1;
            fail2ban.log(pid, messages);
            let line =
                |message: &&str| json!({ "tag": format!("sshd[{pid}]:"), "uid": "0", "message": message });
            if comes {
                daemon.send(messages.iter().map(line));
            }
        };
        let failed = |address: &str| format!("Failed password for root from {address} port 22 ssh2");
        for (address, comes) in
            [("192.0.2.20", true), ("2001:db8:7::1", true), ("192.0.2.21", false), ("192.0.2.9", true)]
        {
            both(&[&failed(address), &failed(address)], comes);
        }
        let invalid = |n: u8| format!("Invalid user {n} from 192.0.2.22 port 5");
        let with = |n: u8| format!("Failed password for invalid user {n} from 192.0.2.22 port 5 ssh2");
        both(&[&invalid(1), &with(1)], true);
        // Whose user name gets somebody else banned there.
        let typed =
            "Failed password for invalid user x from 192.0.2.23 port 5 ssh2: from 192.0.2.99 port 5 ssh2";
        both(&[typed, typed], true);
        let disconnect = "Received disconnect from 192.0.2.24: 3: com.jcraft.jsch.JSchException: Auth fail";
        (0..2).for_each(|_| both(&[disconnect], true));
        // What fail2ban's filter does not match, and a server whose jail is off there.
        let closed = |n: u8| {
            let message = format!(
                "Exit before auth (user 'root', {n} fails): Max auth tries reached - user 'root' from 192.0.2.30:{n}"
            );
            json!({ "tag": format!("dropbear[{n}]:"), "uid": "0", "message": message })
        };
        daemon.send([closed(3), closed(4)]);
        let ftp = |n: u32| {
            let message = "[root] FAIL LOGIN: Client \"192.0.2.31\"";
            json!({ "tag": format!("vsftpd[{n}]:"), "uid": "0", "message": message })
        };
        daemon.send((1..=5).map(ftp));
        for address in [
            "192.0.2.20",
            "2001:db8:7::1",
            "192.0.2.21",
            "192.0.2.9",
            "192.0.2.22",
            "192.0.2.23",
            "192.0.2.24",
        ] {
            until("fail2ban bans", || {
                let status = fail2ban.client("status sshd");
                if status.contains(address) { Ok(()) } else { Err(format!("{address}: {status}")) }
            });
        }
        for address in ["192.0.2.20", "2001:db8:7::/64", "192.0.2.30", "192.0.2.31"] {
            until("banstream would ban", || daemon.tell("bans").contains(address));
        }
        assert!(daemon.tell("bans").contains("(observed)"));

        // Both write their bans down soon after they list them.
        let diff = until("all bans are written down", || {
            let (status, diff) = import(&["--diff", "--since", "1h", "--json"]);
            assert_eq!(status, Some(0), "{diff}");
            let diff: Value = serde_json::from_str(&diff).unwrap_or_else(|_| panic!("{diff}"));
            if diff["fail2ban"] == 8 && diff["banstream"] == 4 { Ok(diff) } else { Err(diff) }
        });
        let short = |list: &str| {
            let reason = |one: &Value| {
                let addresses = one["examples"].as_array().unwrap().iter().map(|one| one["address"].clone());
                json!([one["why"], addresses.collect::<Vec<_>>()])
            };
            diff[list].as_array().unwrap().iter().map(reason).collect::<Vec<_>>()
        };
        let want = [
            // The first of them before banstream ran.
            json!([
                "its lines would count, but have not come here: its log was not read then",
                ["192.0.2.1", "192.0.2.21"]
            ]),
            json!(["counted, but below `maxretry = 2` within `findtime`", ["192.0.2.22"]]),
            json!(["it is preauth-abuse (sshd.grammar:61), which the jail does not count", ["192.0.2.24"]]),
            json!(["never banned here, by `ignoreip`", ["192.0.2.9"]]),
            json!(["no rule of sshd.grammar reads it", ["192.0.2.23"]]),
        ];
        assert_eq!(short("only_fail2ban"), want);
        let want = [
            json!(["its filter does not match: auth-failure (dropbear.grammar:20)", ["192.0.2.30"]]),
            json!(["no jail of fail2ban that is on counts what `ftp` does", ["192.0.2.31"]]),
        ];
        assert_eq!(short("only_banstream"), want);
        let number = |key: &str| diff[key].as_u64().unwrap();
        assert_eq!(["both", "other_jail"].map(number), [2, 0]);
        let times = ["fail2ban_first", "banstream_first"].map(|key| diff[key]["times"].as_u64().unwrap());
        assert_eq!(times[0] + times[1] + number("same_second"), 2);
        let (_, text) = import(&["--diff"]);
        for want in [
            "fail2ban banned 8 offenders and banstream 4; both banned 2\n",
            "\nonly fail2ban: 6 offenders\n  2: its lines would count",
            "\nonly banstream: 2 offenders\n",
        ] {
            assert!(text.contains(want), "{want}: {text}");
        }
        let (_, markdown) = import(&["--diff", "--markdown"]);
        assert!(
            markdown.contains("\n| 1 | never banned here, by `ignoreip` | 192.0.2.9 (sshd) |\n"),
            "{markdown}"
        );

        // Without systemd nothing is begun.
        fs::remove_dir("/run/systemd/system").unwrap();
        let (status, refused) = import(&["--switch"]);
        assert_eq!(status, Some(2), "{refused}");
        assert!(refused.contains("fail2ban goes on, since systemd does not run here"), "{refused}");
        assert!(daemon.file("c.d/fail2ban.toml").contains("observe"));
        fs::create_dir("/run/systemd/system").unwrap();

        // A switch that fails leaves all as it was. The next one enforces what this one has taken over, even for a jail that is
        // not needed here.
        let database = rusqlite::Connection::open(fail2ban.folder.path().join("bans.sqlite3")).unwrap();
        let row = "PRAGMA foreign_keys = OFF; INSERT INTO bips (ip, jail, timeofban, bantime, bancount)
                   VALUES ('198.51.100.2', 'recidive', unixepoch(), 604800, 1)";
        database.execute_batch(row).unwrap();
        fs::write(daemon.path("broken"), "").unwrap();
        let (status, refused) = import(&["--switch"]);
        assert_eq!(status, Some(2), "{refused}");
        assert!(refused.contains("banstream only observes again"), "{refused}");
        assert_eq!(daemon.status()["enforcement"]["mode"], "none");
        assert!(!import(&[]).1.contains("would write"));
        fs::remove_file(daemon.path("broken")).unwrap();

        let (status, switched) = import(&["--switch"]);
        assert_eq!(status, Some(0), "{switched}");
        for want in ["banstream enforces from now on", "stopped and disabled fail2ban"] {
            assert!(switched.contains(want), "{want}: {switched}");
        }
        assert!(daemon.file("asked").ends_with("disable --now fail2ban.service\n"));
        assert!(!daemon.file("c.d/fail2ban.toml").contains("observe"));
        let bans: Value = serde_json::from_str(&daemon.get("/bans").unwrap()).unwrap();
        let enforced = |address: &str| {
            let mut of = bans.as_array().unwrap().iter().filter(|ban| ban["address"] == address);
            of.any(|ban| ban["mode"] == "enforce")
        };
        // Theirs, and what was only observed.
        for address in [
            "192.0.2.1",
            "198.51.100.2",
            "192.0.2.20",
            "192.0.2.21",
            "2001:db8:7::/64",
            "192.0.2.30",
            "192.0.2.31",
        ] {
            assert!(enforced(address), "{address}: {bans:#}");
        }
        let doctor = said(&daemon.output(&["doctor", "--config", "c.toml"]));
        assert!(doctor.contains("the kernel has all bans that were looked up"), "{doctor}");
        let (status, undone) = import(&["--undo"]);
        assert_eq!(status, Some(0), "{undone}");
        assert!(!daemon.path("c.d/fail2ban.toml").exists());
        drop(fail2ban.server);
    });
}

#[test]
fn a_database_that_is_being_written_is_not_read() {
    let daemon = Daemon::new("");
    let folder = package("[sshd]\nenabled = true\n");
    let database = folder.path().join("bans.sqlite3");
    fs::write(
        folder.path().join("fail2ban.local"),
        format!("[Definition]\ndbfile = {}\n", database.display()),
    )
    .unwrap();
    let hold = format!(
        "import sqlite3, sys\nd = sqlite3.connect('{}', isolation_level=None)\nd.execute('create table bips (ip)')\n\
         d.execute('begin exclusive')\nprint('held', flush=True)\nsys.stdin.read()",
        database.display()
    );
    let mut python = Command::new("python3");
    let python = python.args(["-c", &hold]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let _python = Killed(python);
    until("it is locked", || database.metadata().is_ok_and(|about| about.len() > 0));
    let mut import = Command::new(BANSTREAM);
    import.args(["import", "fail2ban", "--write", "--config", "c.toml"]).arg(folder.path());
    let output = import.current_dir(daemon.path("")).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said(&output).contains("fail2ban is writing to it; try again, or stop fail2ban first"),
        "{}",
        said(&output)
    );
    assert!(!daemon.path("c.d").exists());
}
