//! What the documents say can be done, done: their commands, examples and links.
//!
//! A command is what stands as code and begins with a program of [`PROGRAMS`] and a word more, or with a script of
//! ours. Each runs as written, on a host with a daemon, logs and real servers, and must succeed.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use banstream::config::Written;
use banstream::config::load;
use tempfile::tempdir;

use super::{Daemon, Lab};
use crate::common::documents::{DOCUMENTS, Document};
use crate::common::{SHIPPED, until};

const PROGRAMS: [&str; 20] = [
    "apt",
    "apt-get",
    "banstream",
    "cargo",
    "curl",
    "echo",
    "grep",
    "install",
    "ip6tables",
    "ip6tables-restore",
    "ipset",
    "iptables",
    "journalctl",
    "logger",
    "nft",
    "promtool",
    "systemctl",
    "update-alternatives",
    "zcat",
    "zgrep",
];

/// What does not run here, by how it begins, and why. Each of them must stand in a document.
const NOT_RUN: &[(&str, &str)] = &[
    (".ci/run", "runs this test"),
    ("apt ", "tests/boot installs, upgrades, removes and purges"),
    ("banstream log", "the journal has no unit here; tests/system/log.rs has one"),
    ("banstream disable", "takes a daemon that is stopped; tests/system/disable.rs has one"),
    ("banstream top", "takes a terminal; tests/system/top.rs has one"),
    ("banstream web", "serves until it is stopped; tests/system/web.rs opens it"),
    ("cargo ", "takes minutes; tests/it/documents.rs looks whether benches and tests have these names"),
    ("banstream fleet", "takes a server of NATS and a fleet"),
    ("banstream bans --jail fleet:web1", "takes a fleet with that host"),
    ("banstream unban --jail fleet:web1", "takes a fleet with that host"),
    ("banstream import fail2ban --diff", "takes fail2ban's database; tests/system/fail2ban.rs has one"),
    ("banstream import fail2ban --shadow", "tests/system/fail2ban.rs has a fail2ban beside it"),
    ("banstream import fail2ban --switch", "takes fail2ban and systemd; tests/boot has them"),
    (
        "banstream setup",
        "finds what is missing on this host; tests/system/e2e/setup.rs has one to put in order",
    ),
    ("benches/instructions", "takes minutes; CI runs it"),
    ("contrib/fuzz", "takes minutes; CI runs it"),
    ("contrib/package", "tests/boot and tests/rpm run it"),
    ("contrib/static", "takes minutes; tests/static runs it"),
    ("contrib/test", "runs this test"),
    ("contrib/try", "CI runs it"),
    ("dashboards/make", "writes into the tree; tests/system/e2e/dashboards.rs runs it elsewhere"),
    ("dashboards/picture", "writes into the tree, and takes minutes"),
    ("install -d -o nats", "there is no such user"),
    ("install -m 400 -o banstream", "takes the seed of a fleet's host"),
    ("install -m 755", "/usr is the machine's"),
    ("ipset add", "what not to do"),
    ("iptables -L f2b-sshd", "it is fail2ban's"),
    ("journalctl -u systemd-journald", "journald suppresses nothing here"),
    ("nft delete table inet banstream", "ipset enforces here; tests/system/disable.rs has such a table"),
    ("nft list table inet banstream", "ipset enforces here; tests/system/doctor.rs has such a table"),
    ("nft list table inet filter", "it is the host's own"),
    ("systemctl ", "no systemd runs here; tests/boot starts and stops the unit"),
    ("tests/boot", "CI runs it"),
];

/// Where a setting in the text may stand: at the top, in a jail, in a receiver.
const TABLES: [&str; 3] = ["", "[jail.sshd]", "[notify.it]\nwebhook = 'https://localhost'"];

/// A host as the documents have it in mind.
const HOST: &str = r#"
    mount -o remount,bind,ro / # no command may write to the machine's own files
    mount -t tmpfs tmpfs /mnt
    mkdir /mnt/etc && cp -r /etc/fail2ban /mnt/etc
    mkdir -p /etc/banstream/banstream.d /etc/banstream/grammars /etc/pure-ftpd/conf /var/log/nginx /run/documents
    touch /etc/banstream/banstream.toml
    printf 'notify.%s.command = ["/bin/true"]\n' chat ops x >/etc/banstream/banstream.d/notify.toml
    systemd-sysusers "$REPOSITORY/contrib/systemd/sysusers.conf"
    cd /run/documents
    ln -s "$REPOSITORY"/* .
    cp grammars/ssh/sshd.grammar contrib/banstream.toml /etc/banstream/banstream.d/notify.toml .
    touch b.toml stricter.toml
    printf '%s\n' 203.0.113.1 '203.0.113.0/28 2d # x' >drop.txt
    printf 'program: it\nit:\n    it was <ip>\n' >FILE.grammar
    echo 'Nov 23 21:04:11 host sshd[1]: Invalid user x from 192.0.2.1 port 22' | tee LOG >/var/log/auth.log
    sed 's/sshd.1.: /myapp: login failed: /' LOG | tee failed-logins >/var/log/myapp.log
    sed 's,sshd.*,postfix/smtpd[1]: warning: unknown[192.0.2.1]: SASL LOGIN authentication failed: x,' LOG >/var/log/mail.log
    gzip -c LOG >/var/log/auth.log.2.gz
    echo '{"tag":"sshd[1]:","message":"Invalid user x from 192.0.2.1 port 22"}' >lines.json
    echo '192.0.2.1 - - [23/Nov/2026:21:04:11 +0000] "GET /.env HTTP/1.1" 404 5 "-" "-"' >/var/log/nginx/access.log
    printf 'grammar-directory = "/run/documents"\n[jail.myapp]\ngrammars = ["myapp"]\n' >try.toml
    logger -t myapp 'login failed: user=eve ip=192.0.2.1'"#;

/// What changes the daemon, ...
const CHANGING: [&str; 4] = ["banstream allow", "banstream ban ", "banstream compat", "banstream reload"];
/// ... and what each of them finds: nobody banned or allowed, and a reload on trial to be kept.
const BEFORE: &str =
    "banstream unban --all && banstream allow --remove 192.0.2.1 && banstream reload --confirm 60s";

#[test]
fn every_command_runs_as_written() {
    let lab = Lab::up("journald");
    lab.sh(&format!("REPOSITORY={}\n{HOST}", env!("CARGO_MANIFEST_DIR")));
    let mut daemon = Some(lab.start(&lab.sh("cat /etc/banstream/banstream.d/notify.toml")));
    // Otherwise doctor finds that no line of this server was read.
    lab.sh("logger -t apache2 'resuming normal operations'");
    until("it is read", || !lab.sh("banstream doctor --json; true").contains("server-unread"));
    let (mut wrong, mut left_out) = (Vec::new(), BTreeSet::new());
    let mut commands = commands();
    commands.sort_by_key(|command| command.starts_with("banstream run")); // one daemon at a time
    for command in &commands {
        if let Some((begins, _)) = NOT_RUN.iter().find(|(begins, _)| command.starts_with(begins)) {
            left_out.insert(*begins);
            continue;
        }
        let mut script = command.clone();
        if command.starts_with("banstream run") {
            daemon.take().into_iter().for_each(Daemon::stop);
            let answers = "banstream status >/dev/null 2>&1";
            script = format!(
                "{command} & until {answers}; do kill -0 $! || break; sleep 0.1; done; kill $! && wait $!"
            );
        } else if CHANGING.iter().any(|changing| command.starts_with(changing)) {
            script = format!("{{ {BEFORE}; }} >/dev/null; {command}");
        } else if command.starts_with("banstream undo") {
            script = format!("banstream ban 203.0.113.99 --for 1h >/dev/null; {command}");
        } else if command.contains("grammar new") {
            script = format!("rm -f myapp.grammar sasl.grammar; {command}");
        }
        let output =
            lab.output(&format!("cd /run/documents; set -o pipefail; exec <failed-logins; {script}"));
        let said = String::from_utf8_lossy(&output.stderr);
        // The name of a command alone does not call it.
        let named = [" <COMMAND>\n", "arguments are required", "required arguments were not provided"]
            .iter()
            .any(|asks| said.contains(asks));
        if !output.status.success() && !named {
            wrong.push(format!("{command}\n{}{said}", String::from_utf8_lossy(&output.stdout)));
        }
    }
    let gone: Vec<_> = NOT_RUN.iter().filter(|(begins, _)| !left_out.contains(begins)).collect();
    assert!(gone.is_empty(), "in no document: {gone:?}");
    assert!(commands.len() > 60, "{commands:#?}");
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), commands.len(), wrong.join("\n"));
}

/// All commands, each once, in the order of the documents.
fn commands() -> Vec<String> {
    let mut commands = Vec::new();
    for document in DOCUMENTS.map(Document::read) {
        let lines = document.blocks.iter().flatten().map(|line| line.trim_start_matches("$ ").to_owned());
        for code in document.spans.into_iter().flatten().chain(lines) {
            let code = code.split("  #").next().unwrap_or_default().trim_end().to_owned();
            let first = code.split(' ').next().unwrap_or_default();
            let ours = first.contains('/')
                && !first.starts_with('/')
                && Path::new(first).is_file()
                && first.split('.').count() == 1;
            let theirs = PROGRAMS.contains(&first) && code.len() > first.len() && !code.contains(" = ");
            let whole = !code.contains('…') && !commands.contains(&code);
            if (ours || theirs || first == ".ci/run") && whole {
                commands.push(code);
            }
        }
    }
    commands
}

#[test]
fn every_example_of_a_file_is_sound() {
    let folder = tempdir().expect("a folder");
    for rules in ["rules.yml", "alerts.yml"] {
        fs::copy(Path::new("dashboards").join(rules), folder.path().join(rules)).expect(rules);
    }
    let check = |name: &str, text: &str| {
        let (file, name) = (folder.path().join(name), name.rsplit('.').next().expect("an ending"));
        fs::write(&file, text).expect("room");
        let checker: &[&str] = match name {
            "yml" => &["promtool", "check", "config"],
            _ => &[env!("CARGO_BIN_EXE_banstream"), "check"],
        };
        let output = Command::new(checker[0]).args(&checker[1..]).arg(file).output().expect(checker[0]);
        output.status.success().then_some(()).ok_or_else(|| {
            format!(
                "{text}\n{}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            )
        })
    };
    let (mut wrong, mut checked) = (Vec::new(), 0);
    for path in DOCUMENTS {
        let document = Document::read(path);
        for block in &document.blocks {
            if let Some((name, text)) = file(block) {
                checked += 1;
                wrong.extend(check(&name, &text).err());
            }
        }
        let settings = document.spans.iter().filter(|_| path.ends_with(".md")).map(|spans| settings(spans));
        for settings in settings.filter(|lines| !lines.is_empty()) {
            checked += 1;
            let fit =
                TABLES.map(|table| is_sound(&format!("{table}\n{settings}"))).into_iter().reduce(Result::or);
            wrong.extend(fit.and_then(Result::err));
        }
    }
    assert!(checked > 20, "only {checked}");
    assert!(wrong.is_empty(), "{} of {checked}:\n{}", wrong.len(), wrong.join("\n"));
}

/// Whether a configuration can be used with the grammars that come with banstream. They are proved once, which
/// `banstream check` does for each file.
fn is_sound(text: &str) -> Result<(), String> {
    let files = [("it.toml".into(), text.to_owned())];
    let written = Written::parse(&files).map_err(|faults| format!("{text}\n{faults}"))?;
    let config = written.check(&load::categories(&SHIPPED.grammars));
    config.map(drop).map_err(|faults| format!("{text}\n{faults}"))
}

/// The file that a block shows, if it does, and what it would be called.
fn file(block: &[String]) -> Option<(String, String)> {
    let text = || block.join("\n") + "\n";
    let first = block.first()?;
    if let Some(column) = first.find("# /etc/banstream/") {
        // The right one of two columns, or all.
        // What the comment says behind the name is not part of it.
        let name = first.rsplit('/').next()?.split([':', ' ']).next()?.to_owned();
        let right: Vec<_> = block.iter().map(|line| line.get(column..).unwrap_or_default()).collect();
        return Some((name, right.join("\n")));
    }
    if first.starts_with('$') || first.contains("->") {
        return None;
    }
    // One for a program of a grammar of ours stands in its place.
    if let Some(program) = block.iter().find_map(|line| line.strip_prefix("program: ")) {
        let name = program.split(' ').next().filter(|name| *name != "*").unwrap_or("it");
        return Some((format!("{name}.grammar"), text()));
    }
    if first.ends_with(':') && block.iter().any(|line| line.contains('<')) {
        let rule = if first == "other:" { "it:\n    it was <ip>\n" } else { "" };
        return Some(("it.grammar".into(), format!("program: it\n{rule}{}", text())));
    }
    if first.starts_with("rule_files:") {
        return Some(("it.yml".into(), text()));
    }
    block.iter().any(|line| line.contains(" = ")).then(|| ("it.toml".into(), text()))
}

/// Those pieces of code of a paragraph that set something, as a file.
fn settings(spans: &[String]) -> String {
    let is_table = |code: &str| {
        let name = code.strip_prefix('[').and_then(|code| code.strip_suffix(']'));
        name.is_some_and(|name| name.chars().all(|c| c.is_ascii_lowercase() || "-.".contains(c)))
    };
    let is_of_fail2ban = |code: &str| code.starts_with("mode = ") && !code.contains(['"', '\'']);
    let mut lines = String::new();
    for code in spans {
        let (table, setting) = match code.split_once("] ") {
            Some((table, setting)) if is_table(&format!("{table}]")) => (Some(format!("{table}]")), setting),
            _ => (is_table(code).then(|| code.clone()), code.as_str()),
        };
        if let Some(table) = table {
            lines += &format!("{table}\n");
        }
        if setting.contains(" = ") && !is_of_fail2ban(setting) {
            lines += &format!("{setting}\n");
        }
    }
    if lines.contains(" = ") { lines } else { String::new() }
}
