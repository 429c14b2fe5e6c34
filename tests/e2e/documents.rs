//! What the documents say can be done, done: their commands, examples and links.
//!
//! A command is what stands as code and begins with a program of [`PROGRAMS`] and a word more, or with a script of
//! ours. Each runs as written, on a host with a daemon, logs and real servers, and must succeed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use banstream::cli::Cli;
use clap::CommandFactory;
use tempfile::tempdir;

use super::{Daemon, Lab};

/// Where what is named by its path lies.
const FOLDERS: [&str; 8] =
    ["src/", "crates/", "tests/", "contrib/", "grammars/", "dashboards/", "fuzz/", "benches/"];

/// Beside them, the examples that `--help` gives.
const DOCUMENTS: [&str; 12] = [
    "README.md",
    "benches/README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "contrib/guide.md",
    "contrib/fail2ban.md",
    "contrib/metrics.md",
    "contrib/banstream.toml",
    "dashboards/README.md",
    "grammars/README.md",
    "src/README.md",
    "src/cli/mod.rs",
];

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
    ("apt ", "tests/package installs, upgrades, removes and purges"),
    ("banstream top", "takes a terminal; tests/top.rs has one"),
    ("cargo ", "takes minutes; that benches and tests have these names is tested below"),
    ("contrib/fuzz", "takes minutes; CI runs it"),
    ("contrib/package", "tests/package runs it"),
    ("contrib/test", "runs this test"),
    ("contrib/try", "CI runs it"),
    ("dashboards/make", "writes into the tree; tests/e2e/dashboards.rs runs it elsewhere"),
    ("dashboards/picture", "writes into the tree, and takes minutes"),
    ("install -m 755", "/usr is the machine's"),
    ("ipset add", "what not to do"),
    ("iptables -L f2b-sshd", "it is fail2ban's"),
    ("journalctl -u systemd-journald", "journald suppresses nothing here"),
    ("systemctl ", "no systemd runs here; tests/package starts and stops the unit"),
];

/// Where a setting in the text may stand: at the top, in a jail, in a receiver.
const TABLES: [&str; 3] = ["", "[jail.sshd]", "[notify.it]\nwebhook = 'https://localhost'"];

/// A host as the documents have it in mind.
const HOST: &str = r#"
    mount -o remount,bind,ro / # no command may write to the machine's own files
    mkdir -p /etc/banstream/banstream.d /etc/banstream/grammars /var/log/nginx /run/documents
    touch /etc/banstream/banstream.toml
    printf 'notify.%s.command = ["/bin/true"]\n' chat ops x >/etc/banstream/banstream.d/notify.toml
    systemd-sysusers "$REPOSITORY/contrib/systemd/sysusers.conf"
    cd /run/documents
    ln -s "$REPOSITORY"/* .
    cp grammars/sshd.grammar contrib/banstream.toml /etc/banstream/banstream.d/notify.toml .
    touch b.toml stricter.toml
    printf 'program: it\nit:\n    it was <ip>\n' >FILE.grammar
    echo 'Nov 23 21:04:11 host sshd[1]: Invalid user x from 192.0.2.1 port 22' | tee LOG >/var/log/auth.log
    sed 's/^Nov .*1.: /myapp: login failed: /' LOG | tee failed-logins >/var/log/myapp.log
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
#[ignore = "needs root and servers: contrib/test"]
fn every_command_runs_as_written() {
    let lab = Lab::up("journald");
    lab.sh(&format!("REPOSITORY={}\n{HOST}", env!("CARGO_MANIFEST_DIR")));
    let mut daemon = Some(lab.start(&lab.sh("cat /etc/banstream/banstream.d/notify.toml")));
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
        }
        let output =
            lab.output(&format!("cd /run/documents; set -o pipefail; exec <failed-logins; {script}"));
        let said = String::from_utf8_lossy(&output.stderr);
        // The name of a command alone is no call of it.
        let named = said.contains("required arguments were not provided") || said.contains(" <COMMAND>\n");
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
            let ours = first.contains('/') && Path::new(first).is_file() && first.split('.').count() == 1;
            let theirs = PROGRAMS.contains(&first) && code.len() > first.len() && !code.contains(" = ");
            let whole = !code.contains('…') && !commands.contains(&code);
            if (ours || theirs || first == ".ci/run") && whole {
                commands.push(code);
            }
        }
    }
    commands
}

/// What stands in a document as code.
#[derive(Default)]
struct Document {
    /// In the text: of each paragraph, item or row of a table.
    spans: Vec<Vec<String>>,
    blocks: Vec<Vec<String>>,
}

impl Document {
    fn read(path: &str) -> Self {
        if path == "src/cli/mod.rs" {
            return Self { blocks: vec![examples(&Cli::command())], ..Self::default() };
        }
        let text = fs::read_to_string(path).expect(path);
        let (mut document, mut paragraph, mut block, mut fenced) =
            (Self::default(), String::new(), Vec::new(), false);
        for line in text.lines().chain([""]) {
            let line =
                if path.ends_with(".toml") { line.strip_prefix("# ").unwrap_or_default() } else { line };
            let indented = line.strip_prefix("    ").filter(|_| paragraph.is_empty());
            let fence = line.starts_with("```");
            if fenced && !fence {
                block.push(line.to_owned());
            } else if let Some(line) = indented {
                block.push(line.to_owned());
            } else if line.is_empty() && !block.is_empty() && !fence {
                block.push(String::new()); // a block may go on behind it
            } else {
                if !block.is_empty() {
                    document.blocks.push(std::mem::take(&mut block));
                }
                if line.is_empty() || fence || line.starts_with(['|', '-', '#']) {
                    document.paragraph(&std::mem::take(&mut paragraph));
                }
                if !fence && !line.is_empty() {
                    paragraph += &format!("{} ", line.trim());
                }
            }
            fenced ^= fence;
        }
        document.paragraph(&paragraph);
        document.blocks.extend((!block.is_empty()).then_some(block));
        document
    }

    fn paragraph(&mut self, text: &str) {
        let code = text.split('`').skip(1).step_by(2).map(|code| code.replace("\\|", "|"));
        self.spans.push(code.collect());
    }
}

/// The examples that `--help` gives of this command and all below it.
fn examples(command: &clap::Command) -> Vec<String> {
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let own = help.lines().skip_while(|line| *line != "Examples:").skip(1);
    let own = own.map_while(|line| line.strip_prefix("  "));
    let own = own.map(|line| line.split("   ").next().unwrap_or_default().to_owned());
    own.chain(command.get_subcommands().flat_map(examples)).collect()
}

#[test]
#[ignore = "needs promtool: contrib/test"]
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
            let refused: Vec<String> = TABLES
                .iter()
                .map_while(|table| check("it.toml", &format!("{table}\n{settings}")).err())
                .collect();
            wrong.extend(refused.first().filter(|_| refused.len() == TABLES.len()).cloned());
        }
    }
    assert!(checked > 20, "only {checked}");
    assert!(wrong.is_empty(), "{} of {checked}:\n{}", wrong.len(), wrong.join("\n"));
}

/// The file that a block shows, if it does, and what it would be called.
fn file(block: &[String]) -> Option<(String, String)> {
    let text = || block.join("\n") + "\n";
    let first = block.first()?;
    if let Some(column) = first.find("# /etc/banstream/") {
        // The right one of two columns, or all.
        let name = first.rsplit('/').next()?.to_owned();
        let right: Vec<_> = block.iter().map(|line| line.get(column..).unwrap_or_default()).collect();
        return Some((name, right.join("\n")));
    }
    if first.starts_with('$') || first.contains("->") {
        return None;
    }
    if block.iter().any(|line| line.starts_with("program: ")) {
        return Some(("it.grammar".into(), text()));
    }
    if first.ends_with(':') && block.iter().any(|line| line.contains('<')) {
        return Some(("it.grammar".into(), format!("program: it\n{}", text())));
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
    let mut lines = String::new();
    for code in spans {
        let (table, setting) = match code.split_once("] ") {
            Some((table, setting)) if is_table(&format!("{table}]")) => (Some(format!("{table}]")), setting),
            _ => (is_table(code).then(|| code.clone()), code.as_str()),
        };
        if let Some(table) = table {
            lines += &format!("{table}\n");
        }
        if setting.contains(" = ") && !setting.starts_with("mode = aggressive") {
            lines += &format!("{setting}\n");
        }
    }
    if lines.contains(" = ") { lines } else { String::new() }
}

#[test]
fn every_link_leads_somewhere() {
    let mut wrong = Vec::new();
    let headings = |path: &Path| -> BTreeSet<String> {
        let text = fs::read_to_string(path).unwrap_or_default();
        let titles = text.lines().filter(|line| line.starts_with('#'));
        let plain = |c: &char| c.is_alphanumeric() || " -_".contains(*c);
        let titles =
            titles.map(|line| line.trim_start_matches('#').trim().chars().filter(plain).collect::<String>());
        titles.map(|title| title.to_lowercase().replace(' ', "-")).collect()
    };
    for document in DOCUMENTS.iter().filter(|path| path.ends_with(".md")) {
        let text = fs::read_to_string(document).expect(document);
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let here = Path::new(document);
            let there =
                if path.is_empty() { here.into() } else { here.parent().expect("a folder").join(path) };
            let reached = there.exists() && (anchor.is_empty() || headings(&there).contains(anchor));
            if !reached && !target.starts_with("https://") {
                wrong.push(format!("{document}: {target}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_file_test_and_metric_that_is_named_exists() {
    let mut sources = String::new();
    let mut folders: Vec<PathBuf> = ["src", "crates/core/src", "tests", "benches"].map(PathBuf::from).into();
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("a file").path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                sources += &fs::read_to_string(&path).expect("text");
            }
        }
    }
    let metrics = fs::read_to_string("contrib/metrics.md").expect("the metrics");
    let mut wrong = Vec::new();
    for path in DOCUMENTS {
        let document = Document::read(path);
        for code in document.spans.iter().flatten().chain(document.blocks.iter().flatten()) {
            let words: Vec<&str> = code.split_whitespace().collect();
            let exists = if code.starts_with("cargo ") {
                // `--bench NAME`, `--test NAME`, and behind them a part of the name of a test
                words.windows(2).all(|pair| match pair {
                    ["--bench", name] => Path::new("benches").join(name).with_extension("rs").exists(),
                    ["--test", name] => Path::new("tests").join(name).with_extension("rs").exists(),
                    _ => true,
                })
            } else if words.len() == 1 && FOLDERS.iter().any(|folder| code.starts_with(folder)) {
                Path::new(code).exists()
            } else if words.len() == 1 && code.starts_with("banstream_") {
                metrics.contains(&format!("| `{code}` |"))
            } else if path == "src/README.md"
                && code.matches('_').count() > 2
                && code.chars().all(|c| c.is_ascii_lowercase() || "_:…".contains(c))
            {
                let name = code.rsplit("::").next().unwrap_or_default();
                sources.contains(&format!("fn {}", name.trim_end_matches('…')))
            } else {
                true
            };
            if !exists {
                wrong.push(format!("{path}: {code}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
