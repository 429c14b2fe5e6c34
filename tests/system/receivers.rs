//! The programs of contrib/notify, against servers that answer as the real ones do.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

use crate::common::service::{HttpRequest, Service, answer};
use crate::common::{Daemon, failed, in_namespaces, sh, until};

/// One of the programs, as the daemon runs it.
struct Program {
    process: Child,
    answers: BufReader<ChildStdout>,
    folder: TempDir,
}

impl Program {
    /// `SECRET` in the arguments is a file with this text.
    fn start(name: &str, secret: &str, arguments: &[&str]) -> Self {
        let folder = tempdir().unwrap();
        let file = folder.path().join("secret");
        fs::write(&file, secret).unwrap();
        let program = format!("{}/contrib/notify/{name}", env!("CARGO_MANIFEST_DIR"));
        let arguments = arguments.iter().map(|word| word.replace("SECRET", &file.display().to_string()));
        let mut command = Command::new(program);
        command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin").current_dir("/");
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap());
        Self { process, answers, folder }
    }

    /// What it answers to an event.
    fn ask(&mut self, event: &Value) -> String {
        writeln!(self.process.stdin.as_mut().unwrap(), "{event}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        answer.trim_end().to_owned()
    }

    #[track_caller]
    fn ends(mut self) {
        drop(self.process.stdin.take());
        assert!(self.process.wait().unwrap().success());
    }
}

/// An event as the daemon writes it.
fn event(name: &str, address: &str, until: Option<&str>) -> Value {
    json!({"number": 1, "event": name, "receiver": "r", "version": "0", "host": "web1", "at": "2026-01-01T00:00:00Z",
        "text": "", "ended": null, "others": [], "address": address, "jail": "sshd", "kind": "auto", "mode": "enforce",
        "ports": [], "since": "2026-01-01T00:00:00Z", "until": until, "left": until.map(|_| 3600), "times": 1,
        "reason": "5 offences within 10m"})
}

fn ban(address: &str) -> Value {
    event("ban", address, Some("2126-01-01T01:00:00Z"))
}

fn unban(address: &str) -> Value {
    event("unban", address, Some("2126-01-01T01:00:00Z"))
}

const TEST: &str = r#"{"event": "test", "host": "web1"}"#;

/// What a server has, and what it does instead of its work, one for each request.
#[derive(Clone, Default)]
struct Backend {
    /// By address: the id and what else there is of an entry.
    entries: Arc<Mutex<BTreeMap<String, Value>>>,
    troubles: Arc<Mutex<Vec<String>>>,
}

impl Backend {
    fn entries(&self) -> Vec<String> {
        self.entries.lock().unwrap().keys().cloned().collect()
    }

    /// The next requests are answered so; an empty answer breaks the connection.
    fn trouble(&self, answers: &[&str]) {
        self.troubles.lock().unwrap().extend(answers.iter().rev().map(|answer| (*answer).to_owned()));
    }
}

/// What goes wrong with any server, and what the program then says.
fn troubles() -> Vec<(String, &'static str)> {
    vec![
        (answer("429 Too Many Requests", "retry-after: 17\r\n", "{}"), "WAIT 17 the server answered 429"),
        (answer("503 Service Unavailable", "retry-after: 3\r\n", ""), "WAIT 3 the server answered 503"),
        (answer("429 Too Many Requests", "", ""), "ERROR RuntimeError: the server answered 429"),
        (answer("500 Internal Server Error", "", "<html>"), "ERROR RuntimeError: the server answered 500"),
        (answer("403 Forbidden", "", "{}"), "ERROR RuntimeError: the server answered 403"),
        (
            answer("302 Found", "location: http://127.0.0.1:9/\r\n", ""),
            "ERROR RuntimeError: the server answered 302",
        ),
        (answer("200 OK", "", "<html>hello</html>"), "ERROR JSONDecodeError"),
        (answer("200 OK", "", ""), "ERROR RuntimeError"),
        (String::new(), "ERROR RemoteDisconnected"),
    ]
}

/// That each trouble is an error, after which the event is taken.
#[track_caller]
fn survives_troubles(program: &mut Program, backend: &Backend, event: &Value) {
    for (trouble, says) in troubles() {
        backend.trouble(&[&trouble]);
        let said = program.ask(event);
        assert!(said.starts_with(says), "{trouble}: {said}");
        assert_eq!(program.ask(event), "OK", "after {trouble}");
    }
}

/// Cloudflare's IP access rules.
fn cloudflare(backend: &Backend) -> Service {
    let backend = backend.clone();
    let done = |result: &Value| {
        answer("200 OK", "", &json!({"success": true, "errors": [], "result": result}).to_string())
    };
    let wrong = |status: &str, code: u32| {
        let errors = json!([{"code": code, "message": "firewallaccessrules.api"}]);
        answer(status, "", &json!({"success": false, "errors": errors, "result": null}).to_string())
    };
    Service::new(move |request: &HttpRequest| {
        if let Some(trouble) = backend.troubles.lock().unwrap().pop() {
            return trouble;
        }
        if request.header("authorization") != Some("Bearer secret") {
            return wrong("403 Forbidden", 10000);
        }
        let Some(rest) = request.path.strip_prefix("/zones/z/firewall/access_rules/rules") else {
            return wrong("404 Not Found", 7003);
        };
        let mut rules = backend.entries.lock().unwrap();
        let id = rest.strip_prefix('/').unwrap_or_default();
        let known = rules.iter().find(|(_, rule)| rule["id"] == id).map(|(value, _)| value.clone());
        match (request.method.as_str(), known) {
            ("GET", _) => {
                let value = rest
                    .split("configuration.value=")
                    .nth(1)
                    .map(|value| value.replace("%3A", ":").replace("%2F", "/"));
                let fits = |rule: &&Value| {
                    value.as_ref().is_none_or(|value| rule["configuration"]["value"] == **value)
                };
                done(&rules.values().filter(fits).cloned().collect())
            }
            ("POST", _) => {
                let mut rule = request.json();
                let value = rule["configuration"]["value"].as_str().unwrap().to_owned();
                if rules.contains_key(&value) {
                    return wrong("400 Bad Request", 10009);
                }
                if value == "192.0.2.250" {
                    return wrong("400 Bad Request", 10001);
                }
                rule["id"] = format!("id{}", rules.len()).into();
                rules.insert(value, rule.clone());
                done(&rule)
            }
            ("PATCH", Some(value)) => {
                let rule = rules.get_mut(&value).unwrap();
                rule["notes"] = request.json()["notes"].clone();
                done(rule)
            }
            ("DELETE", Some(value)) => done(&rules.remove(&value).unwrap()),
            _ => wrong("404 Not Found", 10001),
        }
    })
}

#[test]
fn cloudflare_blocks_and_unblocks_and_touches_no_rule_of_others() {
    let backend = Backend::default();
    let service = cloudflare(&backend);
    let rule = |id: &str, value: &str, notes: &str| {
        let rule = json!({"id": id, "mode": "block", "configuration": {"value": value}, "notes": notes});
        backend.entries.lock().unwrap().insert(value.to_owned(), rule);
    };
    rule("other", "192.0.2.99", "by hand");
    rule("host", "192.0.2.98", "banstream web2 until 2020-01-01T00:00:00Z");
    rule("over", "192.0.2.97", "banstream web1 until 2020-01-01T00:00:00Z");
    let arguments = ["--token", "SECRET", "--zone", "z", "--url", &service.url];
    let mut program = Program::start("cloudflare", "wrong", &arguments);
    let test: Value = serde_json::from_str(TEST).unwrap();
    assert!(program.ask(&test).starts_with("ERROR RuntimeError: the server answered 403"));
    assert_eq!(backend.entries().len(), 3);
    // A token can be replaced while it runs.
    fs::write(program.folder.path().join("secret"), "secret\n").unwrap();
    assert_eq!(program.ask(&test), "OK");
    // What ended while the daemon did not run is removed.
    assert_eq!(program.ask(&event("observed", "192.0.2.1", None)), "OK");
    assert_eq!(backend.entries(), ["192.0.2.98", "192.0.2.99"]);

    for address in
        ["192.0.2.1", "198.51.100.0/24", "2001:db8::/64", "2001:db8:1::1", "192.0.2.1", "192.0.2.99"]
    {
        assert_eq!(program.ask(&ban(address)), "OK", "{address}");
    }
    let all = ["192.0.2.1", "192.0.2.98", "192.0.2.99", "198.51.100.0/24", "2001:db8:1::1", "2001:db8::/64"];
    assert_eq!(backend.entries(), all);
    let of = |address: &str| backend.entries.lock().unwrap()[address].clone();
    let targets =
        ["192.0.2.1", "198.51.100.0/24", "2001:db8:1::1"].map(|a| of(a)["configuration"]["target"].clone());
    assert_eq!(targets, ["ip", "ip_range", "ip6"]);
    assert_eq!(of("192.0.2.1")["notes"], "banstream web1 until 2126-01-01T01:00:00Z");
    // A longer ban counts, a shorter one does not.
    for until in [None, Some("2126-01-01T00:00:00Z")] {
        assert_eq!(program.ask(&event("ban", "192.0.2.1", until)), "OK");
        assert_eq!(of("192.0.2.1")["notes"], "banstream web1 until forever");
    }
    assert!(program.ask(&ban("198.51.0.0/20")).starts_with("REFUSED Cloudflare has no rules for prefixes"));
    assert!(program.ask(&ban("192.0.2.250")).starts_with("REFUSED Cloudflare answered 400"));

    let mut still = unban("192.0.2.1");
    still["others"] = json!(["ftp"]);
    assert_eq!(program.ask(&still), "OK");
    assert_eq!(backend.entries(), all);
    for address in
        ["192.0.2.1", "192.0.2.1", "192.0.2.99", "2001:db8:1::1", "2001:db8::/64", "198.51.100.0/24"]
    {
        assert_eq!(program.ask(&unban(address)), "OK", "{address}");
    }
    assert_eq!(backend.entries(), ["192.0.2.98", "192.0.2.99"]);
    // A ban that was over before it could be told.
    let mut over = ban("192.0.2.7");
    over["left"] = json!(0);
    assert_eq!(program.ask(&over), "OK");
    assert_eq!(backend.entries(), ["192.0.2.98", "192.0.2.99"]);
    survives_troubles(&mut program, &backend, &ban("192.0.2.8"));
    survives_troubles(&mut program, &backend, &unban("192.0.2.8"));
    program.ends();
}

/// AbuseIPDB's reports.
fn abuseipdb(backend: &Backend) -> Service {
    let backend = backend.clone();
    let wrong =
        |status: &str, detail: &str| answer(status, "", &json!({"errors": [{"detail": detail}]}).to_string());
    Service::new(move |request: &HttpRequest| {
        if let Some(trouble) = backend.troubles.lock().unwrap().pop() {
            return trouble;
        }
        if request.header("key") != Some("secret") {
            return wrong("401 Unauthorized", "Authentication failed.");
        }
        let form: BTreeMap<&str, &str> =
            request.body.split('&').filter_map(|pair| pair.split_once('=')).collect();
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/check?ipAddress=127.0.0.1") => answer("200 OK", "", r#"{"data": {}}"#),
            ("POST", "/report") if form["ip"] == "192.0.2.250" => {
                wrong("422 Unprocessable Entity", "The ip is private.")
            }
            ("POST", "/report") => {
                let report = json!(form);
                if backend.entries.lock().unwrap().insert(form["ip"].to_owned(), report).is_some() {
                    return wrong(
                        "403 Forbidden",
                        "You can only report the same IP address once in 15 minutes.",
                    );
                }
                answer("200 OK", "", r#"{"data": {"ipAddress": "x", "abuseConfidenceScore": 52}}"#)
            }
            _ => wrong("404 Not Found", "no such page"),
        }
    })
}

#[test]
fn abuseipdb_gets_reports_of_bans_by_jails_and_nothing_secret() {
    let backend = Backend::default();
    let service = abuseipdb(&backend);
    let arguments = ["--key", "SECRET", "--url", &service.url, "--categories", "myapp=21"];
    let mut program = Program::start("abuseipdb", "secret", &arguments);
    assert_eq!(program.ask(&serde_json::from_str(TEST).unwrap()), "OK");
    assert_eq!(program.ask(&ban("192.0.2.1")), "OK");
    let mut own = ban("192.0.2.2");
    own["jail"] = "myapp".into();
    assert_eq!(program.ask(&own), "OK");
    let of = |address: &str| backend.entries.lock().unwrap()[address].clone();
    let report = json!({"ip": "192.0.2.1", "categories": "18%2C22", "timestamp": "2026-01-01T00%3A00%3A00Z",
        "comment": "banstream%3A+5+offences+within+10m+%28sshd%29"});
    assert_eq!((of("192.0.2.1"), &of("192.0.2.2")["categories"]), (report, &json!("21")));
    assert_eq!(program.ask(&ban("192.0.2.1")), "OK");
    let (mut manual, until) = (ban("192.0.2.3"), None);
    manual["kind"] = "manual".into();
    for event in [manual, unban("192.0.2.1"), event("observed", "192.0.2.4", until), ban("2001:db8::/64")] {
        assert_eq!(program.ask(&event), "OK");
    }
    assert_eq!(backend.entries(), ["192.0.2.1", "192.0.2.2"]);
    assert!(program.ask(&ban("192.0.2.250")).starts_with("REFUSED AbuseIPDB answered 422"));
    survives_troubles(&mut program, &backend, &ban("192.0.2.5"));
    program.ends();
}

/// The address lists of a router.
fn routeros(backend: &Backend) -> Service {
    let backend = backend.clone();
    let wrong =
        |status: &str, detail: &str| answer(status, "", &json!({"detail": detail, "error": 400}).to_string());
    Service::new(move |request: &HttpRequest| {
        if let Some(trouble) = backend.troubles.lock().unwrap().pop() {
            return trouble;
        }
        // me:secret
        if request.header("authorization") != Some("Basic bWU6c2VjcmV0") {
            return wrong("401 Unauthorized", "");
        }
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let Some(at) = path.find("/firewall/address-list") else { return wrong("404 Not Found", "") };
        let family = &path[..at];
        let id = path[at..].strip_prefix("/firewall/address-list/").map(|id| id.replace("%2A", "*"));
        let mut entries = backend.entries.lock().unwrap();
        match request.method.as_str() {
            "GET" => {
                let address = query.split("address=").nth(1).unwrap().replace("%3A", ":").replace("%2F", "/");
                let fits = |entry: &&Value| entry["address"] == *address && entry["family"] == family;
                answer("200 OK", "", &Value::from_iter(entries.values().filter(fits).cloned()).to_string())
            }
            "PUT" => {
                let mut entry = request.json();
                let address = entry["address"].as_str().unwrap().to_owned();
                if entries.contains_key(&address) {
                    return wrong("400 Bad Request", "failure: already have such entry");
                }
                if address == "192.0.2.250" {
                    return wrong("400 Bad Request", "invalid value for argument address");
                }
                (entry[".id"], entry["family"]) = (format!("*{}", entries.len()).into(), family.into());
                entries.insert(address, entry.clone());
                answer("201 Created", "", &entry.to_string())
            }
            "DELETE" => {
                let known = entries.iter().find(|(_, entry)| entry[".id"] == *id.clone().unwrap());
                match known.map(|(address, _)| address.clone()) {
                    Some(address) => drop(entries.remove(&address)),
                    None => return wrong("404 Not Found", "no such item"),
                }
                answer("204 No Content", "", "")
            }
            _ => wrong("405 Method Not Allowed", ""),
        }
    })
}

#[test]
fn a_router_blocks_and_unblocks() {
    let backend = Backend::default();
    let service = routeros(&backend);
    let foreign = json!({".id": "*99", "family": "/rest/ip", "address": "192.0.2.99", "comment": "by hand"});
    backend.entries.lock().unwrap().insert("192.0.2.99".to_owned(), foreign);
    let arguments = ["--credentials", "SECRET", "--url", &service.url];
    let mut program = Program::start("routeros", "me:secret\n", &arguments);
    assert_eq!(program.ask(&serde_json::from_str(TEST).unwrap()), "OK");
    for address in
        ["192.0.2.1", "198.51.100.0/24", "2001:db8::/64", "2001:db8:1::1", "192.0.2.1", "192.0.2.99"]
    {
        assert_eq!(program.ask(&ban(address)), "OK", "{address}");
    }
    let all = ["192.0.2.1", "192.0.2.99", "198.51.100.0/24", "2001:db8:1::1/128", "2001:db8::/64"];
    assert_eq!(backend.entries(), all);
    let of = |address: &str| backend.entries.lock().unwrap()[address].clone();
    assert_eq!(
        (&of("192.0.2.1")["timeout"], &of("192.0.2.1")["list"]),
        (&json!("3600s"), &json!("banstream"))
    );
    assert_eq!(of("2001:db8::/64")["family"], "/rest/ipv6");
    // A longer ban counts, a shorter one does not.
    for until in [None, Some("2126-01-01T00:00:00Z")] {
        assert_eq!(program.ask(&event("ban", "192.0.2.1", until)), "OK");
        assert_eq!((&of("192.0.2.1")["timeout"], of("192.0.2.1").get("timeout")), (&Value::Null, None));
    }
    assert!(program.ask(&ban("192.0.2.250")).starts_with("REFUSED the router answered 400"));
    let mut still = unban("192.0.2.1");
    still["others"] = json!(["ftp"]);
    assert_eq!(program.ask(&still), "OK");
    assert_eq!(backend.entries(), all);
    for address in
        ["192.0.2.1", "192.0.2.1", "192.0.2.99", "198.51.100.0/24", "2001:db8:1::1", "2001:db8::/64"]
    {
        assert_eq!(program.ask(&unban(address)), "OK", "{address}");
    }
    assert_eq!(backend.entries(), ["192.0.2.99"]);
    survives_troubles(&mut program, &backend, &ban("192.0.2.8"));
    survives_troubles(&mut program, &backend, &unban("192.0.2.8"));
    program.ends();
}

#[test]
fn a_ban_of_the_daemon_is_one_at_cloudflare_until_no_jail_bans() {
    in_namespaces(&["--net"], || {
        sh("ip link set lo up");
        let backend = Backend::default();
        let service = cloudflare(&backend);
        let daemon = Daemon::new("");
        fs::write(daemon.path("token"), "secret").unwrap();
        daemon.configure(&format!(
            "maxretry = 1\njail.sshd.ports = [22]\n[notify.cloudflare]\neach = true\nevents = ['ban', 'unban']\ncommand = \
             ['{}/contrib/notify/cloudflare', '--token', 'DIR/token', '--zone', 'z', '--url', '{}']",
            env!("CARGO_MANIFEST_DIR"),
            service.url
        ));
        daemon.start();
        assert_eq!(daemon.tell("notify cloudflare"), "cloudflare accepted the message\n");
        daemon.send([failed(1, "192.0.2.1")]);
        until("it is blocked", || backend.entries() == ["192.0.2.1"]);
        // A ban by hand that ends first is not the end of the other.
        daemon.tell("ban 192.0.2.1 --for 2s");
        daemon.tell("ban 192.0.2.2 --for 2s");
        let told = || daemon.status()["receivers"][0]["delivered"].clone();
        until("two bans by hand have ended", || told() == 5);
        assert_eq!(backend.entries(), ["192.0.2.1"]);
        daemon.tell("unban 192.0.2.1");
        until("it is unblocked", || backend.entries().is_empty());
        daemon.stop();
    });
}
