//! `banstream web` in a real browser, with real bans: what it shows, the live feed, and changes by clicks and keys.
//!
//! chromedriver drives the browser, and `curl` drives chromedriver, in a network namespace where there is only loopback.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::common::{BANSTREAM, Daemon, Killed, in_namespaces, sh, until};

/// What a stranger tries as a user name.
const HOSTILE: &str = "<script>document.title='owned'</script><img/src=x/onerror=document.title='owned'>";
const TAB: &str = "\u{e004}";
const ENTER: &str = "\u{e007}";

/// A page that is served until it is dropped.
struct Page {
    process: Child,
    /// The address that it printed.
    address: String,
}

impl Page {
    fn serve(daemon: &Daemon, options: &[&str]) -> Self {
        let said = daemon.path("web");
        let mut command = Command::new(BANSTREAM);
        command.arg("web").args(options).env("BANSTREAM_SOCKET", daemon.path("control"));
        let process = command.stdout(fs::File::create(&said).unwrap()).spawn().unwrap();
        let address = until("it prints its address", || {
            let said = fs::read_to_string(&said).unwrap();
            said.lines().find_map(|line| line.strip_prefix("open ").map(str::to_owned))
        });
        Self { process, address }
    }

    /// Ends it as an operator would; it must end well.
    fn stop(mut self) {
        kill(Pid::from_raw(self.process.id() as i32), Signal::SIGINT).unwrap();
        assert!(until("it ends", || self.process.try_wait().unwrap()).success());
    }
}

/// A browser without a window.
struct Browser {
    _driver: Killed,
    session: String,
}

impl Browser {
    fn open() -> Self {
        let mut driver = Command::new("chromedriver");
        let driver = driver.arg("--port=9515").stdout(Stdio::null()).stderr(Stdio::null());
        let driver = Killed(driver.spawn().expect("`chromedriver` is needed"));
        until("chromedriver answers", || driven("GET", "/status", &Value::Null).is_ok());
        let options = ["headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run"];
        let options =
            [&options[..], &["disable-background-networking", "disable-component-update", "disable-sync"]];
        let options: Vec<String> = options.concat().iter().map(|option| format!("--{option}")).collect();
        let wanted =
            json!({ "goog:chromeOptions": { "args": options }, "goog:loggingPrefs": { "browser": "ALL" } });
        let wanted = json!({ "capabilities": { "alwaysMatch": wanted } });
        let session = driven("POST", "/session", &wanted).unwrap();
        Self { _driver: driver, session: format!("/session/{}", session["sessionId"].as_str().unwrap()) }
    }

    #[track_caller]
    fn post(&self, path: &str, body: &Value) -> Value {
        driven("POST", &format!("{}/{path}", self.session), body).unwrap()
    }

    #[track_caller]
    fn go(&self, address: &str) {
        self.post("url", &json!({ "url": address }));
    }

    fn address(&self) -> String {
        driven("GET", &format!("{}/url", self.session), &Value::Null).unwrap().as_str().unwrap().to_owned()
    }

    /// The value of an expression in the page.
    #[track_caller]
    fn value(&self, expression: &str) -> Value {
        self.post("execute/sync", &json!({ "script": format!("return {expression}"), "args": [] }))
    }

    /// The text of all that fits a selector, as it is seen.
    #[track_caller]
    fn text(&self, selector: &str) -> String {
        let all =
            format!("Array.from(document.querySelectorAll('{selector}'), (e) => e.innerText).join('\\n')");
        self.value(&all).as_str().unwrap().to_owned()
    }

    /// Waits until there is this text; a click may still lead to another page.
    #[track_caller]
    fn shows(&self, selector: &str, wanted: &str) {
        until(&format!("{selector} shows `{wanted}`"), || {
            let text = self.text(selector);
            if text.contains(wanted) { Ok(()) } else { Err(text) }
        });
    }

    #[track_caller]
    fn click(&self, selector: &str) {
        let found = self.post("element", &json!({ "using": "css selector", "value": selector }));
        let id = found.as_object().unwrap().values().next().unwrap().as_str().unwrap();
        self.post(&format!("element/{id}/click"), &json!({}));
    }

    fn press(&self, keys: &[&str]) {
        let strokes =
            keys.iter().flat_map(|key| ["keyDown", "keyUp"].map(|way| json!({ "type": way, "value": key })));
        let strokes: Vec<Value> = strokes.collect();
        self.post("actions", &json!({ "actions": [{ "type": "key", "id": "keys", "actions": strokes }] }));
    }

    fn resize(&self, width: u32) {
        let size = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        self.post(
            "goog/cdp/execute",
            &json!({ "cmd": "Emulation.setDeviceMetricsOverride", "params": size }),
        );
    }
}

/// What chromedriver answers.
fn driven(method: &str, path: &str, body: &Value) -> Result<Value, String> {
    let mut curl = Command::new("curl");
    curl.args(["-s", "-m", "60", "-X", method, &format!("http://127.0.0.1:9515{path}")]);
    if !body.is_null() {
        curl.args(["-H", "content-type: application/json", "-d", &body.to_string()]);
    }
    let answer = curl.output().expect("`curl` is needed").stdout;
    let mut answer: Value = serde_json::from_slice(&answer).map_err(|error| format!("{path}: {error}"))?;
    match &answer["value"]["error"] {
        Value::String(_) => Err(format!("{path}: {}", answer["value"]["message"])),
        _ => Ok(answer["value"].take()),
    }
}

/// Five attempts, which earn a ban.
fn attack(daemon: &Daemon, address: &str) {
    let message = format!("Failed password for invalid user {HOSTILE} from {address} port 22 ssh2");
    daemon.send((0..5).map(|pid| json!({ "tag": format!("sshd[{pid}]:"), "uid": "0", "message": message })));
}

#[test]
fn an_operator_watches_bans_in_a_browser_and_changes_them() {
    in_namespaces(&["--net", "--pid", "--fork", "--kill-child", "--mount-proc"], || {
        sh("ip link set lo up");
        let daemon = Daemon::new("enforce.backend = 'ipset'");
        // The page is served by nobody, who may pass through here with the socket's group.
        fs::set_permissions(daemon.as_ref(), fs::Permissions::from_mode(0o755)).unwrap();
        daemon.start();
        attack(&daemon, "198.51.100.1");
        until("it is banned", || sh("ipset list banstream4").contains("198.51.100.1 "));
        let page = Page::serve(&daemon, &["--allow-changes"]);
        let status = fs::read_to_string(format!("/proc/{}/status", page.process.id())).unwrap();
        for line in [
            "Uid:\t65534\t65534\t65534\t65534",
            "Groups:\t ",
            "CapPrm:\t0000000000000000",
            "CapEff:\t0000000000000000",
        ] {
            assert!(status.lines().any(|own| own == line), "{line} is not in\n{status}");
        }

        let browser = Browser::open();
        browser.resize(1280);
        browser.go(&page.address);
        let home = browser.address();
        assert!(!home.contains("token") && home.ends_with('/'), "{home}");
        browser.shows("#live", "Live: ");
        browser.shows("#feed", "banned 198.51.100.1 sshd 5 offences within 10m");
        assert_eq!(
            (browser.text("#state"), browser.text("#banned")),
            ("enforced".to_owned(), "1".to_owned())
        );
        // What happens while the page is open appears on it.
        attack(&daemon, "198.51.100.2");
        browser.shows("#feed li:first-child", "banned 198.51.100.2 sshd");
        browser.shows("#sshd-banned", "2");
        daemon.tell("unban 198.51.100.2");
        browser.shows("#feed li:first-child", "lifted 198.51.100.2 sshd");
        browser.shows("#banned", "1");
        let reason = "--reason=<img/src=x/onerror=document.title=1>";
        assert!(daemon.output(&["ban", "192.0.2.0/24", "--for", "1d", reason]).status.success());
        browser.shows("#feed li:first-child", "192.0.2.0/24 manual <img/src=x/onerror=document.title=1>");
        daemon.tell("ban 192.0.2.7 --for 2s");
        browser.shows("#feed li:first-child", "ended 192.0.2.7");

        // By keys alone: the first leads past the head of the page; a search, and from there to the address.
        browser.go(&home);
        browser.press(&[TAB]);
        assert_eq!(browser.value("document.activeElement.className"), "skip");
        browser.press(&[TAB, TAB, TAB, TAB]);
        assert_eq!(browser.value("document.activeElement.id"), "q");
        browser.press(&["1", "9", "8", ".", "5", "1", ".", "1", "0", "0", ".", "1", ENTER]);
        browser.shows("main [role=status]", "1 ban");
        browser.click("tbody a");
        browser.shows(
            ".evidence code",
            &format!("Failed password for invalid user {HOSTILE} from 198.51.100.1"),
        );
        browser.shows("main", "198.51.100.1 in banstream4 for 59m");

        // A ban is lifted and comes back; the kernel has what the page says.
        browser.click("a.button");
        browser.shows("main", "Lift 1 ban on 198.51.100.1");
        browser.click("main form button");
        browser.shows("h1", "Done: 1 lifted");
        browser.shows("pre", "unbanned 198.51.100.1 (sshd)");
        until("the kernel lets it in", || !sh("ipset list banstream4").contains("198.51.100.1 "));
        browser.click("main form button");
        browser.shows("h1", "Done: 1 restored");
        until("the kernel drops it", || sh("ipset list banstream4").contains("198.51.100.1 "));
        browser.go(&format!("{home}why?address=203.0.113.5"));
        browser.click("form:has([value=exempt]) button");
        browser.shows("h1", "Done: 1 new");
        browser.go(&format!("{home}why?address=203.0.113.5"));
        browser.click("form:has([value=ban]) button");
        browser.shows("main [role=alert]", "203.0.113.5 is exempt");
        browser.go(&format!("{home}exempt"));
        browser.click("td button");
        browser.shows("h1", "Done: 1 removed");

        for width in [400, 1280] {
            browser.resize(width);
            for path in ["", "bans", "why?address=198.51.100.1", "lift?address=192.0.2.0/24", "exempt"] {
                browser.go(&format!("{home}{path}"));
                let wide = browser.value("document.documentElement.scrollWidth").as_u64().unwrap();
                assert!(wide <= width.into(), "{path} takes {wide} of {width} pixels");
                assert!(browser.value("document.title").as_str().unwrap().contains(" - banstream on "));
            }
        }
        let log = browser.post("se/log", &json!({ "type": "browser" }));
        let complaints: Vec<&Value> = log.as_array().unwrap().iter().collect();
        let refused = |line: &&&Value| !line["message"].as_str().unwrap().contains("status of 409");
        assert_eq!(complaints.iter().filter(refused).count(), 0, "{complaints:#?}");

        // A page of another start needs its own token.
        page.stop();
        let page = Page::serve(&daemon, &["--listen", "127.0.0.1:9848"]);
        browser.go(&home.replace("9847", "9848"));
        browser.shows("h1", "Not allowed");
        browser.go(&page.address);
        browser.shows("footer", "This page is read-only");
        assert_eq!(browser.value("document.querySelectorAll('form[method=post]').length"), 0);
        daemon.kill();
        browser.shows("#alarms", "no daemon answers at");
        browser.shows("#state", "no answer");
        page.stop();
        drop(browser);
    });
}
