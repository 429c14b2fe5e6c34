//! The pages over a control socket whose daemon answers what the tests want, hostile text in every field.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;

use serde_json::json;
use tempfile::{TempDir, tempdir};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use super::*;
use crate::control::server::{self, Daemon};
use crate::control::{BanListing, ChangeKind, ChangeReport, ChangeRequest, Reply, Target};
use crate::detect::manual;
use crate::input::socket;
use crate::model::Timestamp;

/// What a stranger may have written: a script, the end of an attribute, text from right to left, an event of its own.
const HOSTILE: &str =
    "<script>alert(1)</script>\"><img src=x onerror=alert(1)>'\u{202e}\u{5d0}\n\ndata: x\u{1b}[2J";

/// A page whose daemon has two bans, and keeps what it was asked to change.
struct PageFixture {
    _folder: TempDir,
    _runtime: Runtime,
    site: Arc<Site>,
    at: SocketAddr,
    asked: Arc<Mutex<Vec<Command>>>,
}

/// An answer: its status, its headers and its body.
struct PageAnswer(u16, String, String);

impl PageFixture {
    fn new(allow_changes: bool) -> Self {
        let (folder, runtime) = (tempdir().unwrap(), Runtime::new().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&asked);
        let ask = move |command: Command| {
            let (sender, receiver) = oneshot::channel();
            sender.send(answer(&command)).unwrap();
            kept.lock().unwrap().push(command);
            receiver
        };
        let daemon = Daemon { ask: Arc::new(ask), metrics: Arc::new(String::new) };
        let path = folder.path().join("control");
        let inside = runtime.enter();
        runtime.spawn(serve(socket::bind(&path, None).unwrap(), server::routes(daemon)));
        let site = Site::new(path, allow_changes, Secrets::draw().unwrap());
        drop(inside);
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let at = listener.local_addr().unwrap();
        runtime.spawn(serve(listener, routes(Arc::clone(&site))));
        Self { _folder: folder, _runtime: runtime, site, at, asked }
    }

    /// What the daemon was asked to change.
    fn changes(&self) -> Vec<Command> {
        let is_change = |command: &&Command| matches!(command, Command::Change(_) | Command::Undo { .. });
        self.asked.lock().unwrap().iter().filter(is_change).cloned().collect()
    }

    fn send(&self, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.at).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    /// A request with these headers, each with its end of line.
    #[track_caller]
    fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> PageAnswer {
        let length = body.len();
        let kind = "content-type: application/x-www-form-urlencoded";
        let request =
            format!("{method} {path} HTTP/1.1\r\n{headers}{kind}\r\ncontent-length: {length}\r\n\r\n{body}");
        let mut answer = String::new();
        self.send(&request).read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let seen = PageAnswer(status, head.to_owned(), body.to_owned());
        assert!(
            seen.1.contains("content-security-policy: default-src 'none'; script-src 'self'; "),
            "{path}: {head}"
        );
        assert!(seen.1.contains("nosniff") && seen.1.contains("cache-control: no-store"), "{path}: {head}");
        seen
    }

    /// What a browser sends that was let in.
    fn ours(&self) -> String {
        format!("host: {}\r\ncookie: x=1; banstream={}\r\n", self.at, self.site.secrets.token)
    }

    fn at(&self, page: &str) -> String {
        format!("/{}/{page}", self.site.secrets.place)
    }

    #[track_caller]
    fn get(&self, page: &str) -> PageAnswer {
        self.ask("GET", &self.at(page), &self.ours(), "")
    }

    /// Sends a form of ours.
    #[track_caller]
    fn post(&self, body: &str) -> PageAnswer {
        let headers = format!("{}origin: http://{}\r\n", self.ours(), self.at);
        self.ask("POST", &self.at("change"), &headers, &format!("form={}&{body}", self.site.secrets.form))
    }

    /// A stream of events, open as long as it is kept, behind its status.
    fn stream(&self) -> (String, BufReader<TcpStream>) {
        let request = format!("GET {} HTTP/1.1\r\n{}\r\n", self.at("events"), self.ours());
        let mut stream = BufReader::new(self.send(&request));
        let mut status = String::new();
        stream.read_line(&mut status).unwrap();
        (status, stream)
    }
}

fn answer(command: &Command) -> Reply {
    let time = "2026-11-24T00:00:00Z";
    let line = json!({
        "time": time, "offence": HOSTILE, "grammar": HOSTILE, "rule": 7, "written": HOSTILE, "message": HOSTILE,
        "fields": [{ "name": HOSTILE, "kind": HOSTILE, "from": 0, "to": 1, "text": HOSTILE }],
    });
    match command {
        Command::Status => Reply::Status(Box::new(
            serde_json::from_value(json!({
                "version": HOSTILE, "started": time, "uptime": 9, "entries": 1234, "offences": 2, "refused": 0, "bans": 3,
                "banned": 3, "observed": 1, "grammars": [{ "name": HOSTILE, "offences": 1, "logins": 0 }],
                "jails": [{ "name": HOSTILE, "mode": "observe", "grammars": [HOSTILE], "maxretry": 5 }],
                "sources": [{ "name": HOSTILE, "state": "failed", "entries": 1, "unattested": 0, "error": HOSTILE }],
                "forged": [{ "grammar": HOSTILE, "uid": 7, "lines": 1 }],
                "unmatched": [{ "grammar": HOSTILE, "lines": 1,
                    "templates": [{ "lines": 1, "last": time, "template": HOSTILE }] }],
                "sole_clients": [{ "grammar": HOSTILE, "address": HOSTILE }],
                "duplicates": [{ "sources": [HOSTILE, HOSTILE], "lines": 1 }],
                "enforcement": { "mode": "kernel", "backend": HOSTILE, "error": HOSTILE, "repaired": HOSTILE,
                    "sets": [{ "name": HOSTILE, "elements": 9, "capacity": 9 }] },
                "ledger": { "path": HOSTILE, "error": HOSTILE, "bytes": 0, "offences": 0, "bans": 0, "waiting": 0 },
                "receivers": [{ "name": HOSTILE, "delivered": 0, "dropped": 0, "waiting": 0, "error": HOSTILE }],
            }))
            .unwrap(),
        )),
        Command::Bans(_) => {
            let ban = |offender: &str, reason: &str| {
                let jailed = manual(offender.parse().unwrap(), Timestamp::from_secs(1_800_000_000), None, reason);
                jailed.with(|ban| ban.jail = HOSTILE.into())
            };
            let long = format!("{HOSTILE}{}", "x".repeat(2048));
            let bans = vec![ban("192.0.2.0/24", HOSTILE), ban("192.0.2.1", &long)];
            Reply::Bans(BanListing { bans, total: 1202, now: Timestamp::from_secs(1_800_000_009), geoip: Vec::new(), waiting: Arc::default() })
        }
        Command::Why(address) => Reply::Why(
            serde_json::from_value(json!({
                "address": address, "offender": "192.0.2.0/24", "banned": true, "protected": [HOSTILE], "unknown": [HOSTILE],
                "bans": [{ "address": "192.0.2.0/24", "jail": HOSTILE, "kind": "auto", "ports": [HOSTILE], "since": HOSTILE,
                    "until": HOSTILE, "left": 9, "times": 2, "reason": HOSTILE, "formula": HOSTILE, "lines": [line] }],
                "jails": [{ "name": HOSTILE, "offender": "192.0.2.0/24", "counted": 1, "maxretry": 5, "findtime": HOSTILE,
                    "last": HOSTILE, "earlier": 1, "next": HOSTILE, "protected": HOSTILE, "lines": [line] }],
                "kernel": [{ "set": HOSTILE, "element": HOSTILE, "left": 9, "packets": 1, "bytes": 60 }],
            }))
            .unwrap(),
        ),
        Command::Allowances => {
            let comment = HOSTILE.to_owned();
            let (since, until) = (HOSTILE.to_owned(), Some(HOSTILE.to_owned()));
            Reply::Allowances(vec![AllowLine { address: "::1".parse().unwrap(), since, until, left: None, comment }])
        }
        Command::Change(page) if matches!(page.changes[..], [ChangeRequest::Disallow { .. }]) => {
            Reply::Refused { error: HOSTILE.to_owned() }
        }
        _ => {
            let mut report = ChangeReport { undone: Some(HOSTILE.to_owned()), ..ChangeReport::default() };
            report.add(ChangeKind::Lifted, || HOSTILE.to_owned());
            Reply::Changed(report)
        }
    }
}

/// That it holds the hostile text, and that none of it does anything.
#[track_caller]
fn is_harmless(what: &str, text: &str) {
    for harm in ["<script>", "<img", "\u{202e}", "\u{1b}", "\"><img", "onerror=alert(1)>"] {
        assert!(!text.contains(harm), "{what} has {harm:?}:\n{text}");
    }
    assert!(text.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&gt;&lt;img src=x"), "{what}:\n{text}");
}

#[test]
fn what_strangers_wrote_is_harmless_in_every_field() {
    let fixture = PageFixture::new(true);
    let pages =
        ["", "bans", "bans?q=192.0.2.0/24", "why?address=192.0.2.1", "lift?address=192.0.2.0/24", "exempt"];
    for page in pages {
        let PageAnswer(status, _, text) = fixture.get(page);
        assert_eq!(status, 200, "{page}: {text}");
        is_harmless(page, &text);
        assert!(!text.contains(&"x".repeat(200)), "{page} has all of a long reason");
    }
    is_harmless("a change", &fixture.post("action=undo").2);
    let PageAnswer(status, _, text) = fixture.post("action=remove&address=::1");
    assert_eq!(status, 409);
    is_harmless("a refusal", &text);
    for page in [
        "why?address=%3Cscript%3E",
        "bans?q=%3Cscript%3E",
        "bans?jail=%3Cscript%3E",
        "bans?%3Cscript%3E=1",
        "lift",
    ] {
        let PageAnswer(status, _, text) = fixture.get(page);
        assert!(status == 400 && !text.contains("<script>"), "{page}: {text}");
    }
}

#[test]
fn the_feed_has_the_text_as_json() {
    let fixture = PageFixture::new(false);
    let (status, stream) = fixture.stream();
    assert_eq!(status, "HTTP/1.1 200 OK\r\n");
    let lines = stream.lines().map(Result::unwrap);
    let data = lines.filter_map(|line| line.strip_prefix("data: ").map(str::to_owned)).next().unwrap();
    let message: serde_json::Value = serde_json::from_str(&data).unwrap();
    assert_eq!(message["whole"], true);
    assert_eq!(message["mood"], "bad");
    assert_eq!(message["texts"]["entries"], "1,234");
    let event = &message["events"][1];
    assert_eq!((&event["what"], &event["address"]), (&json!("banned"), &json!("192.0.2.0/24")));
    // The page sets it as text; what would change the text beside it is gone here already.
    let reason = event["reason"].as_str().unwrap();
    assert!(reason.starts_with("<script>") && !reason.contains(['\u{202e}', '\n', '\u{1b}']), "{reason}");
    assert!(message["events"][0]["reason"].as_str().unwrap().len() < 200);
}

#[test]
fn one_look_a_second_feeds_all_pages() {
    let fixture = PageFixture::new(false);
    let streams: Vec<_> = (0..8).map(|_| fixture.stream().1).collect();
    for stream in streams {
        let messages = stream.lines().map(Result::unwrap).filter(|line| line.starts_with("data: "));
        assert_eq!(messages.take(2).count(), 2);
    }
    let looks = fixture.asked.lock().unwrap().iter().filter(|command| **command == Command::Status).count();
    assert!((2..8).contains(&looks), "{looks} looks for 16 messages");
}

#[test]
fn only_the_browser_with_the_token_gets_in() {
    let fixture = PageFixture::new(true);
    let Secrets { token, place, .. } = &fixture.site.secrets;
    let port = fixture.at.port();
    let cookie = format!("cookie: banstream={token}\r\n");
    let home = format!("/{place}/");
    let check = |path: &str, headers: &str, want: u16| {
        let PageAnswer(status, head, text) = fixture.ask("GET", path, headers, "");
        assert_eq!(status, want, "{path} {headers}: {text}");
        assert!(want != 403 || !text.contains(place.as_str()) && !head.contains(token.as_str()), "{text}");
    };
    for name in ["127.0.0.1", "localhost", "[::1]", "LOCALHOST", "127.0.0.1:80", &format!("localhost:{port}")]
    {
        check(&home, &format!("host: {name}\r\n{cookie}"), 200);
    }
    for name in [
        "",
        "example.org",
        "127.0.0.1.example.org",
        "192.0.2.1",
        "[2001:db8::1]",
        "localhost.",
        "a b",
        "0.0.0.0",
    ] {
        check(&home, &format!("host: {name}\r\n{cookie}"), 403);
        check(&format!("/?token={token}"), &format!("host: {name}\r\n"), 403);
    }
    check(&home, &cookie, 403);
    let host = "host: localhost\r\n";
    let others = "0".repeat(32);
    for cookie in [
        "",
        "cookie: banstream=\r\n",
        "cookie: banstream\r\n",
        &format!("cookie: banstream={others}\r\n"),
        &format!("cookie: other={token}\r\n"),
        &format!("cookie: banstream={token}x\r\n"),
    ] {
        for page in ["", "bans", "events", "page.css", "nowhere", "change"] {
            check(&fixture.at(page), &format!("{host}{cookie}"), 403);
        }
    }
    for path in [
        "/bans",
        "/page.js",
        "/events",
        "//",
        &format!("/{others}/"),
        &format!("/{place}"),
        &format!("/x/{place}/"),
    ] {
        check(path, &format!("{host}{cookie}"), 403);
    }
    for path in ["/", "/?token=", "/?token=x", &format!("/?token={others}"), &format!("/?token={token}0")] {
        check(path, host, 403);
    }
    let PageAnswer(status, head, _) = fixture.ask("GET", &format!("/?token={token}"), host, "");
    assert_eq!(status, 303);
    assert!(head.contains(&format!("location: {home}\r\n")), "{head}");
    let cookie = format!("set-cookie: banstream={token}; Path={home}; HttpOnly; SameSite=Strict\r\n");
    assert!(head.contains(&cookie), "{head}");
    assert_eq!(
        (fixture.get("page.css").0, fixture.get("page.js").0, fixture.get("nowhere").0),
        (200, 200, 404)
    );
}

#[test]
fn a_change_takes_a_form_of_ours() {
    let fixture = PageFixture::new(true);
    let (ours, at, form) = (fixture.ours(), fixture.at, &fixture.site.secrets.form);
    let body = format!("form={form}&action=undo");
    let refused = |headers: &str, body: &str| {
        let seen = fixture.ask("POST", &fixture.at("change"), headers, body);
        assert!([400, 403].contains(&seen.0), "{headers}{body}: {}", seen.0);
    };
    let origins = [
        "",
        "origin: null\r\n",
        "origin: http://localhost\r\n",
        "origin: http://127.0.0.1:1\r\n",
        "origin: http://example.org\r\nsec-fetch-site: same-origin\r\n",
        "sec-fetch-site: same-site\r\n",
    ];
    origins.iter().for_each(|origin| refused(&format!("{ours}{origin}"), &body));
    let headers = format!("{ours}origin: http://{at}\r\n");
    for body in [
        "",
        "action=undo",
        "form=&action=undo",
        "form=x&action=undo",
        &format!("form={form}"),
        &format!("form={form}&action=all"),
        &format!("form={form}&action=ban&address=x"),
        &format!("form={form}&action=ban&address=::1&length=never"),
        &format!("{body}&more=1"),
    ] {
        refused(&headers, body);
    }
    refused(&format!("host: {at}\r\norigin: http://{at}\r\n"), &body);
    let get = fixture.ask("GET", &fixture.at("change"), &ours, "");
    assert_eq!((get.0, fixture.changes().len()), (405, 0));

    assert_eq!(
        fixture
            .ask("POST", &fixture.at("change"), &format!("{ours}sec-fetch-site: same-origin\r\n"), &body)
            .0,
        200
    );
    for body in [
        "action=ban&address=192.0.2.1&length=1h+30m&words=a+%26+b",
        "action=exempt&address=::1&length=forever",
        "action=lift&address=192.0.2.0/24",
        "action=lift-inside&address=192.0.2.0/24",
    ] {
        let PageAnswer(status, _, text) = fixture.post(body);
        assert_eq!(status, 200, "{text}");
        assert!(text.contains("Done: 1 lifted"), "{text}");
    }
    let of = |address: &str| address.parse().unwrap();
    let (ban, words) = (Some("1h 30m".parse().unwrap()), "a & b".to_owned());
    let want = [
        ChangeRequest::Ban { address: of("192.0.2.1"), length: ban, reason: words },
        ChangeRequest::Allow {
            address: of("::1"),
            length: Some("forever".parse().unwrap()),
            comment: String::new(),
        },
        ChangeRequest::Unban(Target::One(of("192.0.2.0/24"))),
        ChangeRequest::Unban(Target::Inside(of("192.0.2.0/24"))),
    ];
    let changes = want.map(|change| Command::Change(change.into()));
    let asked = fixture.changes();
    assert_eq!((&asked[0], &asked[1..]), (&Command::Undo { force: false }, &changes[..]));
}

#[test]
fn a_page_that_is_read_only_changes_nothing() {
    let fixture = PageFixture::new(false);
    assert_eq!(fixture.post("action=undo").0, 404);
    assert_eq!(fixture.get("lift?address=192.0.2.1").0, 404);
    for page in ["", "bans", "why?address=192.0.2.1", "exempt"] {
        assert!(!fixture.get(page).2.contains("method=\"post\""), "{page}");
    }
    assert_eq!(fixture.changes(), []);
}

#[test]
fn a_question_counts_what_it_would_lift() {
    let text = PageFixture::new(true).get("lift?address=192.0.2.0/24").2;
    for part in ["Lift 1 ban on 192.0.2.0/24", "1201 bans inside it stay", "Lift all 1202 bans"] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
}

#[test]
fn requests_and_streams_are_bounded() {
    let fixture = PageFixture::new(true);
    let headers = format!("{}origin: http://{}\r\ncontent-length: 99999\r\n\r\n", fixture.ours(), fixture.at);
    let mut answer = String::new();
    let request = format!("POST {} HTTP/1.1\r\n{headers}{}", fixture.at("change"), "x".repeat(99_999));
    // What is still on its way when it hangs up may reset the connection.
    drop(fixture.send(&request).read_to_string(&mut answer));
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 413 "), "{answer}");

    let mut streams: Vec<_> = (0..feed::MAX_STREAMS).map(|_| fixture.stream()).collect();
    assert!(streams.iter().all(|(status, _)| status.contains(" 200 ")));
    assert_eq!(fixture.get("events").0, 503);
    assert_eq!(fixture.get("").0, 200);
    streams.pop();
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while fixture.stream().0.contains(" 503 ") {
        assert!(std::time::Instant::now() < end, "the place of a stream that ended stays taken");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn without_a_daemon_the_page_says_so() {
    let runtime = Runtime::new().unwrap();
    let _inside = runtime.enter();
    let site = Site::new("/nonexistent/control".into(), false, Secrets::draw().unwrap());
    let Err(Failure(status, error)) = runtime.block_on(overview(&site)) else { panic!("there is a page") };
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(error.starts_with("no daemon answers at `/nonexistent/control`"), "{error}");
}

#[test]
fn a_search_is_an_address_a_prefix_or_a_part() {
    let filter = |q: &str, limit| {
        let form = BansForm { q: q.to_owned(), limit, ..BansForm::default() };
        form.filter().ok().map(|filter| (filter.address, filter.inside, filter.text, filter.limit))
    };
    let of = |address: &str| Some(address.parse().unwrap());
    assert_eq!(filter(" 192.0.2.1 ", None), Some((of("192.0.2.1"), None, String::new(), Some(SOME))));
    assert_eq!(filter("192.0.2.9/24", Some(7)), Some((None, of("192.0.2.0/24"), String::new(), Some(7))));
    assert_eq!(filter("ssh", Some(5000)), Some((None, None, "ssh".to_owned(), Some(MOST))));
    assert_eq!(filter("", None), Some((None, None, String::new(), Some(SOME))));
    for q in ["a b", "a&sort=since", "\u{e9}", "%"] {
        assert_eq!(filter(q, None), None, "{q}");
    }
}
