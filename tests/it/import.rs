//! `import fail2ban`: three set-ups as people have them, with what each becomes; writing and going back; faults.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

use crate::common::{BANSTREAM, Daemon, said, until};

/// A configuration of banstream in a folder of its own.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempdir().unwrap());
        fs::create_dir(place.path("grammars")).unwrap();
        let folder = place.0.path().display();
        let text = format!(
            "state-directory = '{folder}/state'\ngrammar-directory = '{folder}/grammars'\n[control]\npath = '{folder}/c.sock'\n"
        );
        fs::write(place.path("b.toml"), text).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn import(&self, fail2ban: &Path, options: &[&str]) -> Output {
        let mut command = Command::new(BANSTREAM);
        command.args(["import", "fail2ban"]).arg(fail2ban).arg("--config").arg(self.path("b.toml"));
        command.args(options).output().unwrap()
    }

    #[track_caller]
    fn plan(&self, fail2ban: &Path) -> Value {
        let output = self.import(fail2ban, &["--json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)))
    }

    /// The files that were made.
    fn written(&self) -> Vec<String> {
        let mut names = Vec::new();
        for folder in ["b.d", "grammars"] {
            let entries = fs::read_dir(self.path(folder)).into_iter().flatten();
            names.extend(entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()));
        }
        names.sort();
        names
    }
}

/// What the operator of a set-up has written, over what comes with fail2ban.
fn set_up(name: &str) -> TempDir {
    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for path in fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()) {
            let to = to.join(path.file_name().unwrap());
            if path.is_dir() { copy(&path, &to) } else { _ = fs::copy(&path, &to).unwrap() }
        }
    }
    let folder = tempdir().unwrap();
    for part in ["stock", name] {
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fail2ban").join(part), folder.path());
    }
    folder
}

/// What each jail becomes, in short.
type Becomes<'w> = (&'w str, &'w str, &'w [&'w str], &'w [&'w str], &'w [&'w str]);

#[track_caller]
fn becomes(plan: &Value, want: &[Becomes<'_>]) {
    let jail = |jail: &Value| {
        json!([jail["name"], jail["outcome"], jail["grammars"], jail["offences"], jail["ports"]])
    };
    let got: Vec<Value> = plan["jails"].as_array().unwrap().iter().map(jail).collect();
    let want: Vec<Value> = want.iter().map(|jail| json!(jail)).collect();
    assert_eq!(got, want);
}

fn texts<'v>(list: &'v Value, key: &str) -> Vec<&'v str> {
    list.as_array()
        .unwrap()
        .iter()
        .map(|one| if key.is_empty() { one } else { &one[key] }.as_str().unwrap())
        .collect()
}

/// A tree of fail2ban with one jail, whose filter has these lines.
fn tree(jail: &str, filter: &str) -> TempDir {
    let folder = tempdir().unwrap();
    fs::create_dir(folder.path().join("filter.d")).unwrap();
    fs::write(folder.path().join("jail.conf"), jail).unwrap();
    fs::write(folder.path().join("filter.d/x.conf"), filter).unwrap();
    fs::write(folder.path().join("fail2ban.local"), "[Definition]\ndbfile = None\n").unwrap();
    folder
}

#[test]
fn a_web_server_of_one_person() {
    let place = Place::new();
    let fail2ban = set_up("debian");
    let plan = place.plan(fail2ban.path());
    becomes(
        &plan,
        &[
            ("blog-hard", "converted", &["f2b-blog-hard"], &["bad-request"], &["80,443/tcp"]),
            (
                "nginx-http-auth",
                "ours",
                &["f2b-nginx-http-auth-nginx"],
                &["nginx-http-auth"],
                &["80,443/tcp"],
            ),
            ("recidive", "not-needed", &[], &[], &[]),
            ("safe", "converted", &["f2b-safe"], &["auth-failure"], &["80,443/tcp"]),
            ("sshd", "ours", &["sshd", "dropbear"], &["auth-failure"], &["2222/tcp"]),
            ("vsftpd", "ours", &["vsftpd"], &["auth-failure"], &["20,21,989,990/tcp"]),
        ],
    );
    let blog = &plan["jails"][0];
    assert_eq!(blog["converted"], 3);
    let why = texts(&blog["refused"], "why");
    assert!(why[0].contains("an attacker can choose the address"), "{why:?}");
    assert_eq!(why[1], "a look-ahead `(?=`");
    let settings = texts(&plan["settings"], "becomes");
    for want in [
        "`cap = \"28d\"`",
        "`jitter = 0.13`, a part of the ban",
        "no counterpart: each jail counts by itself",
    ] {
        assert!(settings.contains(&want), "{want}: {settings:?}");
    }
    let tasks = texts(&plan["tasks"], "");
    assert!(tasks.iter().any(|task| task.contains("home.invalid")), "{tasks:?}");
    let diffs = texts(&plan["changes"], "diff").concat();
    for want in [
        "+maxretry = 255\n",
        "+# FOLDER/jail.local:13",
        "+ignoreip = [\"127.0.0.0/8\", \"::1\", \"198.51.100.0/24\"]\n",
        "+mail = \"ops@example.org\"\n",
        "+    Blocked <x1:word> from <ip>\n+bad-request in line1:\n+    x1 starts not \"admin\"\n",
        "+program: blog blog(*) weblog weblog(*)\n",
        "+    Pingback error {<num> }?from <ip>{ [again]}?\n",
    ] {
        let want = want.replace("FOLDER", &fail2ban.path().display().to_string());
        assert!(diffs.contains(&want), "{want}: {diffs}");
    }
}

#[test]
fn a_mail_server_with_its_modes() {
    let place = Place::new();
    let plan = place.plan(set_up("mail").path());
    let extra = [
        "relay-denied",
        "unknown-recipient",
        "helo-rejected",
        "client-rejected",
        "sender-rejected",
        "command-rejected",
        "blocklisted",
        "preauth-abuse",
        "auth-failure",
    ];
    becomes(
        &plan,
        &[
            (
                "dovecot",
                "ours",
                &["dovecot", "f2b-dovecot"],
                &["auth-failure", "pam-failure", "bad-request"],
                &["110,143,465,587,993,995,4190/tcp"],
            ),
            ("postfix", "ours", &["postfix"], &extra, &["25,465,587/tcp"]),
            ("postfix-sasl", "ours", &["postfix"], &["auth-failure"], &["25,143,465,587,993/tcp"]),
            (
                "sshd",
                "ours",
                &["sshd", "dropbear"],
                &["auth-failure", "preauth-abuse", "bad-request"],
                &["22/tcp"],
            ),
        ],
    );
    let all = plan.to_string();
    assert!(!all.contains("0123456789abcdef"), "a secret is printed");
    let tasks = texts(&plan["tasks"], "");
    for action in ["abuseipdb", "cloudflare-token"] {
        assert!(tasks.iter().any(|task| task.contains(action)), "{action}: {tasks:?}");
    }
}

#[test]
fn containers() {
    let place = Place::new();
    let plan = place.plan(set_up("docker").path());
    becomes(
        &plan,
        &[
            ("cloud", "not-converted", &[], &[], &[]),
            ("proxy-docker", "converted", &["f2b-proxy-docker"], &["bad-request"], &[]),
        ],
    );
    let notes = texts(&plan["jails"][0]["notes"], "").concat();
    assert!(notes.contains("its lines are JSON"), "{notes}");
    let notes = texts(&plan["jails"][1]["notes"], "");
    assert!(notes.contains(&"reads any word where the filter wants `[A-Z]+`"), "{notes:?}");
    let diffs = texts(&plan["changes"], "diff").concat();
    for want in [
        "+bantime = \"forever\"\n",
        "+    [<time>] <num> - <word> <word> <word> \"<not \">\" [Client <ip>] [Length <num>]<text>\n",
    ] {
        assert!(diffs.contains(want), "{want}: {diffs}");
    }
}

#[test]
fn what_is_written_is_sound_stays_and_can_be_taken_back() {
    let place = Place::new();
    let fail2ban = tree(
        "[DEFAULT]\nbackend = systemd\n[x]\nenabled = yes\nfilter = x[word=\"from\"]\nmaxretry = 2\nbantime = 1h 30m\n",
        "[Definition]\n_daemon = x\nfailregex = ^refused <F-USER>\\S+</F-USER> <word> <HOST>$\n[Init]\nword = by\njournalmatch = _COMM=xd\n",
    );
    let shown = said(&place.import(fail2ban.path(), &[]));
    assert!(shown.contains("nothing was written; `banstream import fail2ban --write` writes it"), "{shown}");
    assert_eq!(place.written(), [""; 0]);

    let wrote = place.import(fail2ban.path(), &["--write"]);
    assert_eq!(wrote.status.code(), Some(0), "{}", said(&wrote));
    assert_eq!(place.written(), ["f2b-x.grammar", "fail2ban.toml"]);
    let check = Command::new(BANSTREAM).arg("check").arg(place.path("b.toml")).output().unwrap();
    assert_eq!(check.status.code(), Some(0), "{}", said(&check));
    let mut explain = Command::new("sh");
    explain.args([
        "-c",
        "echo 'refused eve from 198.51.100.7' | \"$0\" explain --config \"$1\" --program xd",
        BANSTREAM,
    ]);
    let explained = said(&explain.arg(place.path("b.toml")).output().unwrap());
    assert!(explained.contains("198.51.100.7 as `eve`: auth-failure"), "{explained}");

    let again = said(&place.import(fail2ban.path(), &["--write"]));
    assert!(!again.contains("wrote"), "{again}");

    // What fail2ban has no more goes; what is not ours stays.
    fs::write(
        place.path("grammars/f2b-mine.grammar"),
        "program: mine\nx:\n    x <ip>\ntest:\n    192.0.2.1 x 192.0.2.1\n",
    )
    .unwrap();
    let undone = place.import(fail2ban.path(), &["--undo"]);
    assert_eq!(undone.status.code(), Some(0), "{}", said(&undone));
    assert_eq!(place.written(), ["f2b-mine.grammar"]);
    fs::remove_file(place.path("grammars/f2b-mine.grammar")).unwrap();
    assert!(said(&place.import(fail2ban.path(), &["--undo"])).contains("nothing to undo"));
}

/// rsyslog gives a file to one input, and a program's lines are those of its own users and units only.
#[test]
fn jails_share_a_file_and_a_grammar_has_the_senders_of_its_program() {
    let place = Place::new();
    let jails = "[DEFAULT]\nenabled = true\nfilter = x\nbanaction = nftables\naction = %(banaction)s[type=multiport]\n\
        [a]\nlogpath = /srv/app/data/app.log\n[b]\nlogpath = /srv/app/data/app.log\n\
        [told]\nlogpath = /srv/other.log\naction = sendmail-whois[dest=me@example.org]\n";
    let plan = place.plan(tree(jails, "[Definition]\nfailregex = ^login failed from <HOST>$\n").path());
    let diffs = texts(&plan["changes"], "diff").concat();
    assert_eq!(diffs.matches("+program: f2b-srv-app-data-app\n").count(), 2, "{diffs}");
    // Nowhere if this host's rsyslog cannot read files.
    assert!(diffs.matches("/srv/app/data/app.log\"").count() < 2, "{diffs}");
    let told = &diffs[diffs.find("[jail.told]").unwrap()..];
    assert!(
        told.contains("+[notify.fail2ban-mail]\n+mail = \"me@example.org\"\n+jails = [\"told\"]\n"),
        "{told}"
    );
    assert!(told.contains("+mode = \"observe\"\n"), "{told}");
    let wordpress = "[x]\nenabled = true\nfilter = x\nbackend = systemd\n";
    let filter = "[Definition]\n_daemon = wordpress\nfailregex = ^login failed from <HOST>$\n[Init]\njournalmatch = SYSLOG_IDENTIFIER=wordpress _SYSTEMD_UNIT=blog.service\n";
    let diffs = texts(&place.plan(tree(wordpress, filter).path())["changes"], "diff").concat();
    assert!(diffs.contains("+unit: blog.service\n+user: ") && diffs.contains("www-data"), "{diffs}");
}

/// A filter for an access log asks about the fields of its lines.
#[test]
fn rules_are_compared_with_their_filter() {
    let jail = "[x]\nenabled = true\nfilter = x\nlogpath = /var/log/x.log\n";
    let filter = r"[Definition]
failregex = ^\s*bad(?: \w+=\w+)* from <HOST>$
            ^\s*denied\s+(?:for\s+)?\S+\s+@<HOST>$
";
    let (place, fail2ban) = (Place::new(), tree(jail, filter));
    let plan = place.plan(fail2ban.path());
    let jail = &plan["jails"][0];
    let why = texts(&jail["refused"], "why").concat();
    assert!(why.contains("a group that repeats without an end before the address"), "{why}");
    let example = jail["trial"]["unread_example"].as_str().unwrap();
    assert!(example.contains("denied ") && example.ends_with("@192.0.2.1"), "{plan}");
    let (unread, lines) = (&jail["trial"]["unread"], &jail["trial"]["lines"]);
    let share = unread.as_u64().unwrap() * 100 / lines.as_u64().unwrap();
    let note = format!("of lines made of its filter, {share} % are not read, such as `{example}`");
    assert!(texts(&jail["notes"], "").contains(&note.as_str()), "{plan}");
    assert!(texts(&plan["tasks"], "").contains(&format!("`x`: {note}").as_str()), "{plan}");
    for options in [&[][..], &["--markdown"]] {
        let shown = said(&place.import(fail2ban.path(), options));
        assert!(shown.contains("converted: 1 of 2 failregexes") && shown.contains(&note), "{shown}");
    }
    let equal = tree(
        "[x]\nenabled = true\nfilter = x\nlogpath = /var/log/x.log\n",
        "[Definition]\nfailregex = ^\\s*bad <HOST>$\n",
    );
    let shown = said(&place.import(equal.path(), &[]));
    assert!(shown.contains("converted: 1 of 1 failregex; not compared on its log"), "{shown}");
}

#[test]
fn a_filter_for_an_access_log_becomes_conditions() {
    let jail = "[x]\nenabled = true\nfilter = x\nlogpath = /var/log/nginx/access.log\n";
    let filter = r#"[Definition]
failregex = ^<HOST> .*"(GET|POST) /wp-login\.php[^"]*" (200|4\d\d)
            ^<HOST> .*sqlmap
ignoreregex = \.(css|js)
"#;
    let (place, fail2ban) = (Place::new(), tree(jail, filter));
    let plan = place.plan(fail2ban.path());
    assert_eq!(plan["jails"][0]["outcome"], "converted", "{plan}");
    assert_eq!(plan["jails"][0]["converted"], 2, "{plan}");
    let changes = plan["changes"].as_array().unwrap().iter();
    let grammar = changes.filter(|change| change["path"].as_str().unwrap().ends_with(".grammar"));
    let diffs: String = grammar.map(|change| change["diff"].as_str().unwrap()).collect();
    let conditions: Vec<&str> =
        diffs.lines().filter(|line| line.starts_with("+    ") && !line.contains(" - - ")).collect();
    let no = |rule: &str| {
        format!(
            r#"+    {rule} and request has not ".css" ".js" and referer has not ".css" ".js" and agent has not ".css" ".js""#
        )
    };
    let login = r#"request starts "GET /wp-login.php" "POST /wp-login.php""#;
    let want = [
        no(&format!("{login} and status is \"200\"")),
        no(&format!("{login} and status starts \"4\"")),
        no("request has \"sqlmap\""),
        no("agent has \"sqlmap\""),
    ];
    assert_eq!(conditions, want, "{diffs}");
}

#[test]
fn actions_that_call_services_become_receivers_and_their_secrets_are_not_shown() {
    let place = Place::new();
    let fail2ban = tree(
        "[DEFAULT]\nbackend = systemd\nenabled = yes\nfilter = x\ncf = cloudflare-token[cftoken=\"s3cret\", cfzone=\"z1\"]\n\
         [a]\naction = %(cf)s\n    abuseipdb[abuseipdb_category=\"18,22\"]\n[b]\naction = %(cf)s\n    mine[x=1]\n\
         [c]\naction = cloudflare[cfuser=\"me@example.org\", cftoken=\"s4cret\"]\n    abuseipdb\n    cloudflare-token[cftoken=x]\n",
        "[Definition]\n_daemon = x\nfailregex = ^refused <HOST>$\n[Init]\njournalmatch = _COMM=xd\n",
    );
    fs::create_dir(fail2ban.path().join("action.d")).unwrap();
    fs::write(fail2ban.path().join("action.d/abuseipdb.local"), "[Init]\nabuseipdb_apikey = k3y\n").unwrap();
    let secrets = ["fail2ban-abuseipdb.token", "fail2ban-cloudflare.token", "fail2ban-cloudflare-2.token"];
    let files = secrets.map(|name| place.path(name));
    let no_secret = |said: &str| {
        assert!(["s3cret", "s4cret", "k3y"].iter().all(|secret| !said.contains(secret)), "{said}");
    };

    let plan = place.plan(fail2ban.path());
    no_secret(&plan.to_string());
    let tasks = texts(&plan["tasks"], "");
    let named =
        |name: &str| tasks.iter().filter(|task| task.contains(&format!("the action `{name}`"))).count();
    // The last has no zone.
    assert_eq!(["mine", "cloudflare-token", "cloudflare", "abuseipdb"].map(named), [1, 1, 0, 0], "{tasks:?}");
    for options in
        [&[][..], &["--markdown"], &["--write"], &["--write", "--json"], &["--write", "--markdown"]]
    {
        no_secret(&said(&place.import(fail2ban.path(), options)));
    }
    let receivers = fs::read_to_string(place.path("b.d/fail2ban.toml")).unwrap();
    let receivers = &receivers[receivers.find("\n[notify.").unwrap()..];
    let call = |program: &str, words: &str| {
        format!("command = [\"/usr/share/banstream/notify/{program}\", {words}]\neach = true\n")
    };
    let [key, token, second] = &files.each_ref().map(|file| file.display().to_string());
    let want = [
        "\n[notify.fail2ban-abuseipdb]\n".to_owned(),
        call("abuseipdb", &format!("\"--key\", \"{key}\", \"--categories\", \"a=18,22\"")),
        "events = [\"ban\"]\ntimeout = \"30s\"\njails = [\"a\", \"c\"]\n".to_owned(),
        "\n[notify.fail2ban-cloudflare]\n".to_owned(),
        call("cloudflare", &format!("\"--token\", \"{token}\", \"--email\", \"me@example.org\"")),
        "events = [\"ban\", \"unban\"]\ntimeout = \"30s\"\njails = [\"c\"]\n".to_owned(),
        "\n[notify.fail2ban-cloudflare-2]\n".to_owned(),
        call("cloudflare", &format!("\"--token\", \"{second}\", \"--zone\", \"z1\"")),
        "events = [\"ban\", \"unban\"]\ntimeout = \"30s\"\njails = [\"a\", \"b\"]\n".to_owned(),
    ];
    assert_eq!(receivers, want.concat());
    for (file, secret) in files.iter().zip(["k3y", "s4cret", "s3cret"]) {
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(file).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("# Made by") && lines[1..] == [secret], "{text}");
    }
    let check = Command::new(BANSTREAM).arg("check").arg(place.path("b.toml")).output().unwrap();
    assert_eq!(check.status.code(), Some(0), "{}", said(&check));
    no_secret(&said(&place.import(fail2ban.path(), &["--undo", "--json"])));
    assert!(files.iter().all(|file| !file.exists()));
}

/// Half of what a filter says is not made a rule: something would be lost, or somebody banned that the filter spares.
#[test]
fn what_a_rule_cannot_say_is_refused() {
    let place = Place::new();
    let jail = "[x]\nenabled = true\nfilter = x\nlogpath = /srv/x/x.log\n";
    let refused = |filter: &str| {
        let plan = place.plan(tree(jail, &format!("[Definition]\nfailregex = {filter}\n")).path());
        let jail = &plan["jails"][0];
        assert_eq!(jail["outcome"] == "converted", jail["refused"].as_array().unwrap().is_empty(), "{jail}");
        texts(&jail["refused"], "why").concat()
    };
    assert_eq!(refused("^refused \\S+ from <HOST>$"), "");
    assert_eq!(refused("^refused \\S+ from <HOST>$\nignoreregex = monitor"), "");
    let unsaid = "an `ignoreregex` that no condition says: ";
    assert_eq!(refused("^refused from <HOST>$\nignoreregex = monitor"), format!("{unsaid}`monitor`"));
    let address = refused("^refused \\S+ from <HOST>$\nignoreregex = 192\\.0\\.2\\.9");
    assert_eq!(address, format!("{unsaid}`192.0.2.9`"));
    assert!(refused("^bad.password from <HOST>$").starts_with("`.` for any one character"));
    assert_eq!(refused("^refused -+> <HOST>$"), "a repeated `-`");
    let less = |class: &str| {
        format!("`{class}` reads less than a field of banstream can: write `\\S+`, `\\d+` or `.*`")
    };
    for (varies, class) in [
        ("[1-9]\\d*", ""),
        ("[1-9]+", "[1-9]"),
        ("[^0]", "[^0]"),
        ("[a-z]+", "[a-z]"),
        ("[0-9a-f]+", "[0-9a-f]"),
        ("[1-9a-f]", "[1-9a-f]"),
    ] {
        let why = refused(&format!("^refused {varies} from <HOST>$"));
        assert_eq!(why, if class.is_empty() { String::new() } else { less(class) }, "{varies}");
    }
    for varies in ["\\d{3}", "[0-9]+", "\\S+", "[^\"]*", "[A-Z]+", "[\\w.-]+", "[a-zA-Z0-9]+"] {
        assert_eq!(refused(&format!("^refused {varies} from <HOST>$")), "", "{varies}");
    }
    let merged = "nothing between two parts that vary, of which one field would read more";
    assert_eq!(refused("^refused .*\\d+ from <HOST>$"), merged);
    assert!(refused("^refused .*(?!x)\\S+ from <HOST>$").starts_with("a negative look-ahead"));
    let choice = "alternatives of which one field would read more";
    assert_eq!(refused("^refused (?:[^\"]*|\\S+) from <HOST>$"), choice);
    assert_eq!(refused("^refused (?:[3-9]|\\d\\d+) from <HOST>$"), choice);
    assert_eq!(refused("^refused <HOST>: ports\\b"), "");
    assert!(refused("^refused x\\b.*y from <HOST>$").starts_with("`\\b`"));
}

#[test]
fn a_jail_counts_its_own_lines_under_a_name_of_its_own() {
    let place = Place::new();
    let filter = "[Definition]\nfailregex = ^refused from <HOST>$\n";
    // `web` is a jail of ours; the other two would be one.
    let jails = "[web]\nenabled = true\nfilter = x\nlogpath = /srv/a.log\nignoreip = nobody.invalid\n\
                 action = sendmail[dest=me@example.org]\n[my app]\nenabled = true\nfilter = x\nlogpath = /srv/b.log\n\
                 [my.app]\nenabled = true\nfilter = x\nlogpath = /srv/c.log\n";
    let plan = place.plan(tree(jails, filter).path());
    let jail =
        |name: &str| plan["jails"].as_array().unwrap().iter().filter(|jail| jail["name"] == name).count();
    assert_eq!((jail("f2b-web"), jail("web"), jail("my-app"), jail("my-app-2")), (1, 0, 1, 1), "{plan}");
    let grammars = plan["jails"].as_array().unwrap().iter().flat_map(|jail| texts(&jail["grammars"], ""));
    assert_eq!(grammars.collect::<Vec<_>>(), ["f2b-my-app", "f2b-my-app-2", "f2b-web"]);
    let called = "called `my-app-2` here: of a name, letters, digits, `-` and `_` are kept";
    assert!(texts(&plan["jails"][1]["notes"], "").contains(&called), "{plan}");
    // The receiver has the name that the jail has here.
    let diffs = texts(&plan["changes"], "diff").concat();
    assert!(diffs.contains("+mail = \"me@example.org\"\n+jails = [\"f2b-web\"]\n"), "{diffs}");
    let tasks = texts(&plan["tasks"], "").concat();
    assert!(tasks.contains("`nobody.invalid` in ignoreip of `web`"), "{tasks}");
    // Of a log that several programs write, the filter does not say whose lines it reads.
    let syslog = "[x]\nenabled = true\nfilter = x\nlogpath = /var/log/syslog\n";
    let plan = place.plan(tree(syslog, filter).path());
    assert_eq!(plan["jails"][0]["outcome"], "not-converted");
    let notes = texts(&plan["jails"][0]["notes"], "").concat();
    assert!(notes.contains("nothing says which program writes its lines"), "{notes}");
}

/// What stands for fail2ban-regex: finds what the failregexes of the filter find, and prints it in the same way.
const REGEX: &str = r#"#!/bin/sh
[ "$1 $2 $4 $5" = "--raw --out -- /dev/stdin" ] || { echo "ERROR: $*"; exit 255; }
sed -n '/^failregex/,/^ignoreregex/{s/^failregex = //;s/^  //;/^ignore/d;s/<HOST>/([0-9a-z.:]+)/;p}' "$6" |
while read -r regex; do sed -nE "s/$regex/${3%% *} \1 &/p" /proc/$$/fd/0; done
"#;

#[test]
fn filters_are_compared_on_the_lines_of_their_jails() {
    let place = Place::new();
    let log = place.path("x.log");
    let jail = format!("[x]\nenabled = true\nfilter = x\nlogpath = {}\nlogencoding = auto\n", log.display());
    let fail2ban = tree(
        &jail,
        "[Definition]\nfailregex = ^refused \\S+ from <HOST>$\n  ^dot.ed <HOST>$\nignoreregex =\n",
    );
    let compare = |program: Option<&str>| {
        let folder = tempdir().unwrap();
        if let Some(program) = program {
            fs::write(folder.path().join("fail2ban-regex"), program).unwrap();
            fs::set_permissions(folder.path().join("fail2ban-regex"), fs::Permissions::from_mode(0o755))
                .unwrap();
        }
        let path = if program.is_some() {
            format!("{}:/usr/bin:/bin", folder.path().display())
        } else {
            String::new()
        };
        let mut import = Command::new(BANSTREAM);
        import.args(["import", "fail2ban", "--json", "--config"]).arg(place.path("b.toml"));
        let output = import.arg(fail2ban.path()).env("PATH", path).output().unwrap();
        let plan: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
        let tasks = texts(&plan["tasks"], "").join("\n");
        assert!(
            tasks.contains("`x`: 1 of 2 failregexes not converted: `.` for any one character"),
            "{tasks}"
        );
        let differs = tasks.contains("`x`, of 6 lines: fail2ban counts 2 lines that banstream does not");
        assert_eq!(differs, plan["agreement"][0]["only_fail2ban"] == 2, "{tasks}");
        assert_eq!(output.status.code(), Some(1));
        plan["agreement"][0].clone()
    };
    assert_eq!(compare(Some(REGEX))["skipped"], format!("{} is not there", log.display()));
    fs::write(
        &log,
        "refused eve from 192.0.2.1\nrefused eve from 192.0.2.1\n# dotted 192.0.2.2\ndotted 192.0.2.2\ncalm\n\
         refused \"x\\ from 2001:db8::7\nrefused bob from host.example\n",
    )
    .unwrap();
    assert_eq!(compare(None)["skipped"], "`fail2ban-regex` is not installed");
    assert_eq!(compare(Some("#!/bin/sh\necho no >&2\nexit 1\n"))["skipped"], "`fail2ban-regex` fails: no");
    let mut got = compare(Some(REGEX));
    let why = "its failregex was not converted: `^dot.ed <HOST>$`: `.` for any one character";
    assert!(got["differences"][1]["why"].as_str().unwrap().starts_with(why), "{got}");
    got["differences"][1]["why"] = why.into();
    let difference = |why: &str, example: &str| json!({ "found_by": "fail2ban", "why": why, "lines": 1, "examples": [example] });
    let want = json!({
        "jail": "x", "sources": [log], "lines": 6, "both": 3, "other_address": 0, "only_fail2ban": 2, "only_banstream": 0,
        "differences": [
            difference(
                "it has a name in place of the address, and names are not resolved",
                "refused bob from host.example",
            ),
            difference(why, "dotted 192.0.2.2"),
        ],
        "skipped": "",
    });
    assert_eq!(got, want, "{got:#}");
}

/// Of two filters with which an attacker could choose the address, the first stays, and all others are written.
#[test]
fn one_filter_that_is_unsound_beside_another_does_not_stop_the_rest() {
    let place = Place::new();
    let jails = "[DEFAULT]\nenabled = true\nlogpath = /srv/www/access.log\n[a]\nfilter = x\n[b]\nfilter = y\n\
                 [c]\nfilter = z\nlogpath = /srv/c.log\n";
    let fail2ban =
        tree(jails, "[Definition]\nfailregex = ^\\S+ <HOST> - .*\"(GET|POST) /admin[^\"]*\" 40[13]\n");
    let filter = |name: &str, text: &str| {
        let text = format!("[Definition]\nfailregex = {text}\n");
        fs::write(fail2ban.path().join("filter.d").join(name), text).unwrap();
    };
    filter("y.conf", "^.* - - \\[.*\\] \"GET .*\\.env.*\" .* fwd=<HOST>$");
    filter("z.conf", "^refused <HOST>$");
    let output = place.import(fail2ban.path(), &["--write"]);
    let told = said(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert_eq!(place.written(), ["f2b-a.grammar", "f2b-c.grammar", "fail2ban.toml"], "{told}");
    for want in
        ["`b` has no counterpart here: the rule `", "an attacker can choose the address", "but by f2b-"]
    {
        assert!(told.contains(want), "{want}: {told}");
    }
}

/// A name that no jail can have here, and what TOML cannot hold, are matters of one jail.
#[test]
fn what_is_not_sound_of_one_jail_does_not_stop_the_rest() {
    let place = Place::new();
    let jails = "[DEFAULT]\nenabled = true\nbackend = systemd\n[\u{fc}mlaut]\nfilter = x\n[odd]\nfilter = o\u{1}d\n[z]\nfilter = x\n";
    let filter = "[Definition]\n_daemon = xd\nfailregex = ^refused <HOST>$\n";
    let fail2ban = tree(jails, filter);
    fs::write(fail2ban.path().join("filter.d/o\u{1}d.conf"), filter).unwrap();
    let output = place.import(fail2ban.path(), &["--write"]);
    let told = said(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert_eq!(place.written(), ["f2b-mlaut.grammar", "f2b-z.grammar", "fail2ban.toml"], "{told}");
    assert!(told.contains("called `mlaut` here"), "{told}");
    assert!(
        told.contains("`odd` has no counterpart here: what would be written for it is not sound: "),
        "{told}"
    );
}

#[test]
fn a_ticket_gets_markdown() {
    let output = said(&Place::new().import(set_up("mail").path(), &["--markdown"]));
    for want in [
        "| jail | becomes | ports | state |\n|---|---|---|---|\n",
        "| dovecot | dovecot f2b-dovecot: auth-failure pam-failure bad-request |",
        "\nNeeds a human:\n\n1. ",
    ] {
        assert!(output.contains(want), "{want}: {output}");
    }
}

#[test]
fn faults_are_named_with_their_place_and_nothing_is_written() {
    #[track_caller]
    fn check(jail: &str, filter: &str, want: &str) {
        let (place, fail2ban) = (Place::new(), tree(jail, filter));
        let output = place.import(fail2ban.path(), &["--write"]);
        let told = said(&output).replace(&format!("{}/", fail2ban.path().display()), "");
        assert_eq!((output.status.code(), told.trim_end()), (Some(2), format!("error: {want}").as_str()));
        assert_eq!(place.written(), [""; 0]);
    }
    let jail = "[x]\nenabled = true\nfilter = x\n";
    let filter = "[Definition]\nfailregex = ^x <HOST>$\n";
    check(
        "[x]\nenabled = true\nfilter",
        filter,
        "jail.conf:3: neither a section nor `name = value`; is the file cut?",
    );
    let place = Place::new();
    let nowhere = said(&place.import(&place.path("none"), &[]));
    assert!(nowhere.contains("none: has no jail.conf or jail.local"), "{nowhere}");
    let broken = tree(jail, filter);
    fs::write(broken.path().join("db"), "not a database, but long enough for the header of one").unwrap();
    let database = format!("[Definition]\ndbfile = {}/db\n", broken.path().display());
    fs::write(broken.path().join("fail2ban.local"), database).unwrap();
    // The rest can be looked at.
    let plan = place.plan(broken.path());
    assert!(texts(&plan["tasks"], "").concat().contains("fail2ban's bans cannot be read"), "{plan}");
    let output = place.import(broken.path(), &["--write"]);
    assert!(said(&output).contains("error: cannot read fail2ban's database"), "{}", said(&output));
    assert_eq!((output.status.code(), place.written()), (Some(2), Vec::new()));
}

/// People give the package's names to filters of their own, and call copies of its filters as they like.
#[test]
fn what_a_filter_matches_counts_and_not_its_name() {
    let folder = tempdir().unwrap();
    fs::write(folder.path().join("fail2ban-regex"), REGEX).unwrap();
    fs::set_permissions(folder.path().join("fail2ban-regex"), fs::Permissions::from_mode(0o755)).unwrap();
    let becomes = |name: &str, regex: &str, log: &str, asks: bool| {
        let place = Place::new();
        let jail = format!("[x]\nenabled = true\nfilter = {name}\nlogpath = {log}\n");
        let fail2ban = tree(&jail, "[Definition]\n");
        let filter = format!("[Definition]\nfailregex = {regex}\nignoreregex =\n");
        fs::write(fail2ban.path().join(format!("filter.d/{name}.conf")), filter).unwrap();
        let path = if asks { format!("{}:/usr/bin:/bin", folder.path().display()) } else { String::new() };
        let mut import = Command::new(BANSTREAM);
        import.args(["import", "fail2ban", "--json", "--config"]).arg(place.path("b.toml"));
        let output = import.arg(fail2ban.path()).env("PATH", path).output().unwrap();
        let plan: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
        let jail = &plan["jails"][0];
        format!("{} {}", jail["outcome"].as_str().unwrap(), texts(&jail["grammars"], "").join(" "))
    };
    let vaultwarden = r"^.*Username or password is incorrect\. Try again\. IP: <HOST>\. Username:.*$";
    let immich = r"^.*Failed login attempt for user .+ from ip address <HOST>";
    let kuma = r"^.*WARN: Incorrect username or password for user .*\. IP=<HOST>";
    let vsftpd = r#"^.* FAIL LOGIN: Client "<HOST>"$"#;
    for (name, regex, log, want) in [
        // The package has a filter of this name, for another server.
        ("bitwarden", vaultwarden, "/srv/vault.log", "converted f2b-x"),
        ("im", immich, "/srv/immich.log", "ours immich"),
        ("kuma", kuma, "/srv/uptime-kuma/error.log", "ours uptime-kuma"),
        // It may be of another program that writes such lines.
        ("im", immich, "/srv/shop.log", "not-converted "),
        ("vsftpd", vsftpd, "/var/log/vsftpd.log", "ours vsftpd"),
        ("vsftpd", "^nobody <HOST>$", "/var/log/vsftpd.log", "converted f2b-x"),
        // Each asks for a few of the lines that a grammar counts.
        ("sshd-root", "Failed password for root from <HOST>.*$", "/srv/sshd.log", "converted f2b-x"),
        (
            "caddy",
            r#"^.*"remote_ip":"<HOST>",.*"status":(?:401|403|404).*$"#,
            "/srv/caddy.log",
            "not-converted ",
        ),
    ] {
        assert_eq!(becomes(name, regex, log, true), want, "{name} {regex}");
    }
    // Where fail2ban cannot be asked.
    assert_eq!(becomes("bitwarden", vaultwarden, "/srv/vault.log", false), "converted f2b-x");
    assert_eq!(becomes("im", immich, "/srv/immich.log", false), "not-converted ");
}

/// Of what a filter or a jail of the package was told besides.
#[test]
fn what_a_grammar_of_ours_does_not_know_is_not_lost() {
    let place = Place::new();
    let fail2ban = set_up("debian");
    let jails = "[sshd]\nenabled = true\nignoreregex = from 198\\.51\\.100\\.1 port\n  monitor\n\
                 [vsftpd]\nenabled = true\nbantime = 0\nlogpath = /srv/ftp logs/a.log\n  \"/srv/b.log\"\n";
    fs::write(fail2ban.path().join("jail.local"), jails).unwrap();
    let plan = place.plan(fail2ban.path());
    let diffs = texts(&plan["changes"], "diff").concat();
    assert!(diffs.contains("+ignoreip = [\"198.51.100.1\"]\n"), "{diffs}");
    let vsftpd = &diffs[diffs.find("[jail.vsftpd]").unwrap()..];
    assert!(vsftpd.contains("+mode = \"observe\"\n") && !vsftpd.contains("bantime"), "{vsftpd}");
    let tasks = texts(&plan["tasks"], "").join("\n");
    for want in ["`sshd`: its `ignoreregex` `monitor` has no counterpart", "nothing reads `\"/srv/b.log\"`"] {
        assert!(tasks.contains(want), "{want}: {tasks}");
    }
    assert!(plan.to_string().contains("/srv/ftp logs/a.log"), "{plan}");
    let written = place.import(fail2ban.path(), &["--write"]);
    assert_eq!(place.written(), ["fail2ban.toml"], "{}", said(&written));
}

/// Filters of one file, as Vaultwarden's wiki has them: each finds its own lines.
#[test]
fn jails_of_one_file_take_nothing_from_each_other() {
    let place = Place::new();
    let jail = |name: &str, more: &str| {
        format!(
            "[{name}]\nenabled = true\nfilter = {name}\nlogpath = /srv/vaultwarden/vaultwarden.log\n{more}"
        )
    };
    let jails = [jail("vw", ""), jail("vw-totp", "maxretry = 1000\n")].concat();
    let vw = r"^.*?Username or password is incorrect\. Try again\. IP: <ADDR>\. Username:.*$";
    let folder = tree(&jails, "");
    let totp = r"^.*\[ERROR\] Invalid TOTP code! Server time: (.*) UTC IP: <ADDR>$";
    for (name, fail) in [("vw", vw), ("vw-totp", totp)] {
        let filter = format!("[Definition]\nfailregex = {fail}\n");
        fs::write(folder.path().join(format!("filter.d/{name}.conf")), filter).unwrap();
    }
    let plan = place.plan(folder.path());
    let outcomes: Vec<&str> = texts(&plan["jails"], "outcome");
    assert_eq!(outcomes, ["converted", "converted"], "{plan}");
    let tasks = texts(&plan["tasks"], "").join("\n");
    assert!(tasks.contains("`vw-totp` only observes, since it counts up to 255 instead of 1000"), "{tasks}");
}

/// How packets are refused and mail is sent is one matter for all jails here.
#[test]
fn what_has_no_counterpart_is_said() {
    let place = Place::new();
    let fail2ban = set_up("debian");
    let jails = "[DEFAULT]\ndestemail = ops@example.org\nsender = bans@example.org\naction = iptables-multiport[name=x]\n  sendmail-whois[name=x]\n\
                 [sshd]\nenabled = true\nchain = DOCKER-USER\n\
                 [vsftpd]\nenabled = true\naction = iptables-multiport[name=x, blocktype=\"REJECT\"]\n";
    fs::write(fail2ban.path().join("jail.local"), jails).unwrap();
    let plan = place.plan(fail2ban.path());
    let notes = |name: &str| {
        let jail = plan["jails"].as_array().unwrap().iter().find(|jail| jail["name"] == name).unwrap();
        texts(&jail["notes"], "").join("\n")
    };
    let (sshd, vsftpd) = (notes("sshd"), notes("vsftpd"));
    for want in ["its chain `DOCKER-USER`", "its sender `bans@example.org`"] {
        assert!(sshd.contains(want) && !vsftpd.contains(want), "{want}: {sshd}\n{vsftpd}");
    }
    assert!(vsftpd.contains("its blocktype `REJECT`") && !sshd.contains("blocktype"), "{sshd}\n{vsftpd}");
}

/// A value that is none is named with its place.
#[test]
fn values_that_are_none_are_tasks() {
    #[track_caller]
    fn check(value: &str, want: &str) {
        let jail = format!("[x]\nenabled = true\nfilter = x\nbackend = systemd\n{value}\n");
        let fail2ban = tree(&jail, "[Definition]\n_daemon = xd\nfailregex = ^refused <HOST>$\n");
        let output = Place::new().import(fail2ban.path(), &[]);
        let told = said(&output).replace(&format!("{}/", fail2ban.path().display()), "");
        let want = format!(": `x`: jail.conf:5: `{value}` {want}\n");
        assert!(told.contains(&want) && output.status.code() == Some(1), "{want}{told}");
    }
    check("bantime = ten minutes", "is not a time; the default counts here");
    check("findtime = -1", "is not a time; the default counts here");
    check("maxretry = five", "is not a number; the default counts here");
    check("maxretry = 0", "is less than one offence; 1 counts here");
}

/// fail2ban leaves out a file that is not UTF-8.
#[test]
fn a_file_that_is_not_utf8_is_a_task() {
    let fail2ban = tree(
        "[x]\nenabled = true\nfilter = x\nbackend = systemd\n",
        "[Definition]\n_daemon = xd\nfailregex = ^refused <HOST>$\n",
    );
    fs::write(fail2ban.path().join("jail.local"), b"# caf\xe9\n[x]\nmaxretry = 2\n").unwrap();
    let plan = Place::new().plan(fail2ban.path());
    let want = "jail.local is not UTF-8, so fail2ban leaves it out; here it is read: ";
    assert!(texts(&plan["tasks"], "").iter().any(|task| task.contains(want)), "{plan}");
}

/// What a jail of bans does that growing bans do not, and what holds beside it.
#[test]
fn what_replaces_a_jail_of_bans_is_said_with_its_numbers() {
    let place = Place::new();
    let jail = "[DEFAULT]\nbantime.increment = false\nignoreip = 192.0.2.7\nbackend = systemd\n[recidive]\nenabled = true\n\
                filter = recidive\nlogpath = /var/log/fail2ban.log\nbantime = 1w\nfindtime = 1d\naction = iptables-allports\n\
                [x]\nenabled = true\nfilter = x\nignoreip = 192.0.2.8\n";
    let fail2ban = tree(jail, "[Definition]\n_daemon = xd\nfailregex = ^refused <IP4>$\n");
    let recidive = "[Definition]\nfailregex = NOTICE\\s+\\[.*\\]\\s+Ban\\s+<HOST>\n";
    fs::write(fail2ban.path().join("filter.d/recidive.conf"), recidive).unwrap();
    let plan = place.plan(fail2ban.path());
    let notes = texts(&plan["jails"][0]["notes"], "").join("\n");
    assert!(notes.contains("after 5 bans of any jails in 1d it bans on all ports for 7d; here"), "{plan}");
    let diffs = texts(&plan["changes"], "diff").concat();
    assert!(diffs.contains("+factor = 1\n"), "{diffs}");
    assert!(texts(&plan["settings"], "name").contains(&"bantime.increment"), "{plan}");
    let tasks = texts(&plan["tasks"], "").join("\n");
    assert!(tasks.contains("`recidive`: `bantime.increment = false` keeps bans from growing"), "{tasks}");
    let notes = texts(&plan["jails"][1]["notes"], "").join("\n");
    assert!(notes.contains("its `ignoreip` counts beside that of `[DEFAULT]` here"), "{notes}");
    assert!(notes.contains("counts addresses of IPv6 too"), "{notes}");
}

/// Where a rule reads less than its regular expression, or can be fooled like that.
#[test]
fn rules_say_where_they_read_less() {
    let place = Place::new();
    let becomes = |regex: &str, ignore: &str| {
        let jail = "[x]\nenabled = true\nfilter = x\nlogpath = /srv/x.log\n";
        let filter = format!("[Definition]\nfailregex = {regex}\nignoreregex = {ignore}\n");
        let plan = place.plan(tree(jail, &filter).path());
        let jail = &plan["jails"][0];
        let said = [texts(&jail["notes"], ""), texts(&jail["refused"], "why")].concat().join("\n");
        (said, texts(&plan["changes"], "diff").concat())
    };
    let (said, _) = becomes(r#"^.*"remote_ip":"<HOST>",.*"status":40[13],.*$"#, "");
    assert!(said.contains("an attacker can choose the address"), "{said}");
    let (said, rule) = becomes(r"^.*denied to <HOST>$", "");
    assert!(said.is_empty() && rule.contains("+    <text>denied to <ip>\n"), "{said}{rule}");
    let (said, rule) = becomes(r"^.*denied \S+ from <HOST>.*$", "");
    assert!(
        said.contains("where the filter wants `.*`") && said.contains("a name with a space"),
        "{said}{rule}"
    );
    let (said, rule) = becomes(r"^ WARN +\S+ - denied <HOST>$", "");
    assert!(said.is_empty() && rule.contains("WARN{ |  |   |    |     }<word> - denied"), "{said}{rule}");
    let (said, _) = becomes(r"^ a\s+b\s+c\s+d <HOST>$", "");
    assert!(said.contains("reads one space"), "{said}");
    let (_, rule) = becomes(r#"^\s*\{"msg":"denied","ip":"<HOST>""#, "");
    assert!(rule.contains("+    {<time> }?"), "{rule}");
    // Lines with a date of another form than the filter's.
    let (_, rule) = becomes("^ denied <HOST>$\ndatepattern = ^\\[%%d/%%b/%%Y %%H:%%M:%%S\\]", "");
    assert!(rule.contains("|<time>} denied <ip>"), "{rule}");
    // The host and the program stand before a message.
    let jail = "[x]\nenabled = true\nfilter = x\nbackend = systemd\n";
    let of = |ignore: &str| {
        let filter = format!(
            "[Definition]\n_daemon = blogd\nfailregex = ^denied \\S+ from <HOST>$\nignoreregex = {ignore}\n"
        );
        let plan = place.plan(tree(jail, &filter).path());
        let jail = &plan["jails"][0];
        [texts(&jail["notes"], ""), texts(&jail["refused"], "why")].concat().join("\n")
    };
    assert!(
        of("blogd\\[").contains("an `ignoreregex` for the program before the message"),
        "{}",
        of("blogd\\[")
    );
    assert!(of("monitor").contains("in the message, not in the host's name"), "{}", of("monitor"));
}

/// fail2ban skips such a jail and starts the others, or does not start.
#[test]
fn what_is_wrong_with_one_jail_is_its_task_and_the_others_are_written() {
    #[track_caller]
    fn check(jail: &str, filter: &str, want: &str) {
        let other = "[z]\nenabled = true\nfilter = z\nbackend = systemd\n";
        let (place, fail2ban) = (Place::new(), tree(&format!("{jail}{other}"), filter));
        let z = "[Definition]\n_daemon = z\nfailregex = ^refused <HOST>$\n";
        fs::write(fail2ban.path().join("filter.d/z.conf"), z).unwrap();
        let output = place.import(fail2ban.path(), &["--write"]);
        let told = said(&output).replace(&format!("{}/", fail2ban.path().display()), "");
        let want = format!("`x` has no counterpart here: {want}\n");
        assert!(told.contains(&want), "{want}{told}");
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(place.written(), ["f2b-z.grammar", "fail2ban.toml"]);
    }
    let jail = "[x]\nenabled = true\nfilter = x\n";
    let filter = "[Definition]\nfailregex = ^x <HOST>$\n";
    check(
        "[x]\nenabled = %(on)s\n",
        filter,
        "fail2ban does not start with it: jail.conf:2: unknown name in `%(on)s`",
    );
    check(
        "[x]\nenabled = true\nfilter = y\n",
        filter,
        "fail2ban skips it: jail.conf:3: there is no filter `y`",
    );
    check(
        "[x]\nenabled = true\nfilter = x[a=\"b]\n",
        filter,
        "it is not understood here: jail.conf:2: the filter of `[x]`: the quotation mark in `a=\"b]` is not closed",
    );
    check(
        jail,
        "[Definition]\nfailregex = ^%(nobody)s <HOST>$\n",
        "fail2ban does not start with it: filter.d/x.conf:2: unknown name in `%(nobody)s`",
    );
    check(
        jail,
        "[Definition]\nfailregex = <a>\na = <b>\nb = <a>\n",
        "fail2ban does not start with it: filter.d/x.conf:2: the tags in `failregex` refer to each other without an end",
    );
    check(
        jail,
        "no section\n",
        "fail2ban does not start with it: filter.d/x.conf:1: this line is in no `[section]`",
    );
}

#[test]
fn a_file_of_fail2ban_is_recognised() {
    let fail2ban = set_up("debian");
    let file = fail2ban.path().join("jail.local");
    let output = Command::new(BANSTREAM).arg("check").arg(&file).output().unwrap();
    let want = format!(
        "{}:1:1: this is a configuration of fail2ban; `banstream import fail2ban` shows what it becomes here",
        file.display()
    );
    assert_eq!((output.status.code(), said(&output).trim_end()), (Some(1), want.as_str()));
}

/// A fail2ban with a jail that keeps its name, one that is renamed, one that lets addresses in, and bans of all of them and of
/// one that is off. Its dates are in seconds before now; a ban with a length is in force as long.
fn with_bans(bans: &[(&str, &str, i64, i64)], in_force: &[(&str, &str, i64, i64, u32)]) -> TempDir {
    let jails = "[DEFAULT]\nbackend = systemd\nfilter = x\naction = iptables-multiport\n\
                 [web]\nenabled = true\nport = 8080,8081\n[mine]\nenabled = true\nport = 22\n\
                 [in]\nenabled = true\nblocktype = ACCEPT\n[empty]\nenabled = true\nfilter = y\n[off]\n";
    let folder = tree(jails, "[Definition]\n_daemon = x\nfailregex = ^refused from <HOST>$\n");
    fs::write(folder.path().join("filter.d/y.conf"), "[Definition]\nfailregex =\n").unwrap();
    let path = folder.path().join("bans.sqlite3");
    fs::write(folder.path().join("fail2ban.local"), format!("[Definition]\ndbfile = {}\n", path.display()))
        .unwrap();
    let database = rusqlite::Connection::open(path).unwrap();
    let tables = "
        CREATE TABLE bans (jail TEXT, ip TEXT, timeofban INTEGER, bantime INTEGER, bancount INTEGER, data JSON);
        CREATE TABLE bips (ip TEXT, jail TEXT, timeofban INTEGER, bantime INTEGER, bancount INTEGER, data JSON);";
    database.execute_batch(tables).unwrap();
    let now = jiff::Timestamp::now().as_second();
    for (jail, who, ago, length) in bans {
        let row = rusqlite::params![jail, who, now - ago, length];
        database.execute("INSERT INTO bans VALUES (?1, ?2, ?3, ?4, 1, '')", row).unwrap();
    }
    for (jail, who, ago, length, times) in in_force {
        let row = rusqlite::params![who, jail, now - ago, length, times];
        database.execute("INSERT INTO bips VALUES (?1, ?2, ?3, ?4, ?5, '')", row).unwrap();
    }
    folder
}

#[test]
fn bans_keep_their_jails_ends_and_counts_on_both_ways() {
    let fail2ban = with_bans(
        &[
            ("mine", "203.0.113.1", 5000, 60),
            ("mine", "203.0.113.1", 60, 3600),
            ("mine", "203.0.113.9", 900, 60),
        ],
        &[
            ("mine", "203.0.113.1", 60, 3600, 2),
            ("mine", "203.0.113.8", 900, 60, 3),
            ("web", "203.0.113.2", 60, -1, 7),
            ("in", "203.0.113.3", 60, 3600, 1),
            ("off", "203.0.113.4", 60, 3600, 1),
            ("empty", "203.0.113.5", 60, 3600, 1),
            ("mine", "127.0.0.1", 60, 3600, 1),
        ],
    );
    let import = |daemon: &Daemon| {
        let mut import = Command::new(BANSTREAM);
        import.args(["import", "fail2ban", "--json", "--write", "--config", "c.toml"]).arg(fail2ban.path());
        let output = import.current_dir(daemon.path("")).output().unwrap();
        let report: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
        report["bans"].clone()
    };
    let listed = |daemon: &Daemon| {
        let bans: Value = serde_json::from_str(&daemon.get("/bans").unwrap()).unwrap();
        let row = |ban: &Value| json!([ban["address"], ban["jail"], ban["ports"], ban["times"]]);
        let ends = |ban: &Value| {
            ban["left"].as_u64().is_none_or(|left| (3000..3541).contains(&left) && ban["until"].is_string())
        };
        assert!(bans.as_array().unwrap().iter().all(ends), "{bans}");
        assert_eq!(bans[1]["until"], Value::Null);
        bans.as_array().unwrap().iter().map(row).collect::<Vec<_>>()
    };
    let want = [
        json!(["203.0.113.1", "mine", ["22/tcp"], 2]),
        json!(["203.0.113.2", "f2b-web", ["8080/tcp", "8081/tcp"], 7]),
        json!(["203.0.113.5", "empty", [], 1]),
    ];
    let counts = |new, covered, past, observed| json!({"new": new, "extended": 0, "covered": covered, "past": past, "exempt": 1, "refused": 0, "observed": observed, "error": null});
    let sums = |bans: &Value| {
        let mut sums = bans["taken"].clone();
        sums.as_object_mut().unwrap().remove("examples");
        sums
    };
    // Into the ledger, and again through the daemon that read it.
    let first = Daemon::new("mode = 'observe'");
    let bans = import(&first);
    assert_eq!((&bans["in_force"], &bans["past"], &bans["to"]), (&json!(6), &json!(3), &json!("ledger")));
    assert_eq!(sums(&bans), counts(3, 0, 3, 3));
    assert_eq!(bans["taken"]["examples"][1]["why"], "127.0.0.0/8 is in `ignoreip`", "{bans}");
    first.start();
    assert_eq!(listed(&first), want);
    let bans = import(&first);
    assert_eq!(bans["to"], "daemon");
    assert_eq!(sums(&bans), counts(0, 3, 3, 3));
    assert_eq!(listed(&first), want);
    // Through a daemon, whose ledger the next one reads.
    let second = Daemon::new("mode = 'observe'");
    second.start();
    assert_eq!(sums(&import(&second)), counts(3, 0, 3, 3));
    assert_eq!(listed(&second), want);
    second.stop();
    second.start();
    assert_eq!(listed(&second), want);
    // What is over counts for the next ban: this was the fourth.
    second.send((0..5).map(|n| json!({"tag": format!("x[{n}]:"), "message": "refused from 203.0.113.8"})));
    let fourth = || {
        let bans: Value = serde_json::from_str(&second.get("/bans?text=203.0.113.8").unwrap()).unwrap();
        let of_mine = |ban: &&Value| ban["jail"] == "mine";
        bans.as_array().unwrap().iter().find(of_mine)?["times"].as_u64()
    };
    assert_eq!(until("it is banned", fourth), 4);
}
