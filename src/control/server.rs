//! Takes commands over a Unix socket, and serves metrics.
//!
//! A [`Daemon`] is two functions, so the same routes answer for the real engine and for a test's. The routes are `GET
//! /status`, `GET /bans`, `POST /bans`, `DELETE /bans`, `POST /bans/page`, `GET /bans/list`, `POST /changes`, `GET /undo`,
//! `POST /undo`, `GET /why`, `GET /allow`, `POST /allow`, `DELETE /allow`, `GET /reload`, `POST /reload`, `POST /reload/keep`, `POST
//! /notify` and `GET /metrics`. A wrong request is answered with `{"error": "..."}`. The socket's mode decides who may
//! connect: there is no password.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderValue, Request, StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::Listener;
use axum::{Json, Router};
use futures_util::stream;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::AbortHandle;

use super::bans::PART;
use super::taken::BanPage;
use super::{BanFilter, BanLength, BanSort, ChangePage, ChangeRequest, Command, Reply, Target};
use crate::config;
use crate::model::{BanOrigin, Offender, Span};

/// How many bytes a request to the address of the metrics may have.
const MAX_METRICS_BODY: usize = 4096;
/// How many one to the control socket may have: enough for a page of bans.
pub const MAX_BODY: usize = 1 << 20;
/// How many bans a page may have.
pub const MOST_BANS: usize = 1000;
/// The header of a list that says how long it is without its limit.
pub(super) const TOTAL: &str = "banstream-total";
/// The header of a list of bans that names the files of `geoip`, as JSON: so a client need not ask for the status, too.
pub(super) const GEOIP: &str = "banstream-geoip";
/// The type of a list's content.
const JSON: &str = "application/json";
/// How many clients are served at once. One more takes the place of who has been silent longest, or waits where all are
/// being answered.
const MAX_CLIENTS: usize = 128;
/// How long a client may take to ask, and until it has its answer.
const ASKING: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(30);

/// The daemon, as the routes see it.
#[derive(Clone)]
pub struct Daemon {
    /// Hands over a command, at once; the reply comes later. A sender that is dropped means the daemon stops.
    pub ask: Arc<dyn Fn(Command) -> oneshot::Receiver<Reply> + Send + Sync>,
    /// Renders the metrics in Prometheus' text format.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

/// What is answered to which request.
#[derive(Clone)]
pub struct Routes {
    router: Router,
    /// How many bytes a request may have.
    max_body: usize,
    /// How long an answer may take.
    patience: Duration,
}

impl Routes {
    /// What a server of another address answers; [`serve`] bounds its clients, and these numbers each of them.
    pub fn new(router: Router, max_body: usize, patience: Duration) -> Self {
        Self { router, max_body, patience }
    }
}

/// All routes, for the control socket.
pub fn routes(daemon: Daemon) -> Routes {
    let routes = Router::new()
        .route("/status", get(async |daemon| ask(daemon, Command::Status).await))
        .route("/bans", get(bans).post(ban).delete(unban))
        .route("/bans/list", get(export))
        .route("/bans/page", post(take_over))
        .route("/changes", post(change))
        .route("/undo", get(async |daemon| ask(daemon, Command::UndoSteps).await).post(undo))
        .route("/why", get(why))
        .route(
            "/allow",
            get(async |daemon| ask(daemon, Command::Allowances).await).post(allow).delete(disallow),
        )
        .route("/reload", get(async |daemon| ask(daemon, Command::ReloadPreview).await).post(reload))
        .route("/reload/keep", post(async |daemon| ask(daemon, Command::Keep).await))
        .route("/notify", post(notify))
        .route("/fleet/accept", post(accept_peer))
        .route("/metrics", get(metrics));
    finish(routes, daemon, MAX_BODY)
}

/// `GET /metrics` alone, for an address that anybody on the host can reach.
pub fn metrics_route(daemon: Daemon) -> Routes {
    finish(Router::new().route("/metrics", get(metrics)), daemon, MAX_METRICS_BODY)
}

fn finish(routes: Router<Daemon>, daemon: Daemon, max_body: usize) -> Routes {
    let router = routes
        .fallback(async || ErrorResponse(StatusCode::NOT_FOUND, "no such path".to_owned()))
        .method_not_allowed_fallback(async || {
            ErrorResponse(StatusCode::METHOD_NOT_ALLOWED, "this path does not support this method".to_owned())
        })
        .with_state(daemon);
    Routes { router, max_body, patience: PATIENCE }
}

/// Answers clients, one request per connection, until it is dropped.
///
/// A client that has not asked within 2 s is cut off, and earlier where there are 128 and another comes: so nobody can
/// keep others out by holding connections open.
pub async fn serve<L: Listener>(mut listener: L, routes: Routes) {
    let places = Arc::new(Semaphore::new(MAX_CLIENTS));
    // The one that came first at the front.
    let mut clients: VecDeque<(AbortHandle, Arc<AtomicBool>)> = VecDeque::new();
    loop {
        let (stream, _) = listener.accept().await;
        clients.retain(|(client, _)| !client.is_finished());
        if places.available_permits() == 0 {
            let silent = clients.iter().position(|(_, has_asked)| !has_asked.load(Ordering::Relaxed));
            silent.and_then(|at| clients.remove(at)).inspect(|(client, _)| client.abort());
        }
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let has_asked = Arc::new(AtomicBool::new(false));
        let answer = answer(stream, routes.clone(), Arc::clone(&has_asked));
        let client = tokio::spawn(async move {
            answer.await;
            drop(place);
        });
        clients.push_back((client.abort_handle(), has_asked));
    }
}

/// Answers one request, and notes once it is there.
pub(crate) async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    Routes { router, max_body, patience }: Routes,
    has_asked: Arc<AtomicBool>,
) {
    let (routes, asked) = (TowerToHyperService::new(router), Arc::clone(&has_asked));
    let service = service_fn(move |request: Request<Incoming>| {
        let (routes, asked) = (routes.clone(), Arc::clone(&asked));
        async move {
            let (head, body) = request.into_parts();
            let Ok(body) = Limited::new(body, max_body).collect().await else {
                let error = format!("a request can have at most {max_body} bytes");
                return Ok(ErrorResponse(StatusCode::PAYLOAD_TOO_LARGE, error).into_response());
            };
            asked.store(true, Ordering::Relaxed);
            routes.call(Request::from_parts(head, Body::from(body.to_bytes()))).await
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    // Whatever ended the connection is the client's business.
    if tokio::time::timeout(ASKING, &mut connection).await.is_err() && has_asked.load(Ordering::Relaxed) {
        let _ = tokio::time::timeout(patience, connection).await;
    }
}

/// What is wrong with a request, and the status that says so.
struct ErrorResponse(StatusCode, String);

impl IntoResponse for ErrorResponse {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "error": self.1 }))).into_response()
    }
}

async fn ask(State(daemon): State<Daemon>, command: Command) -> Result<Response, ErrorResponse> {
    let reply = (daemon.ask)(command).await;
    let reply = reply
        .map_err(|_| ErrorResponse(StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping".to_owned()))?;
    let status = if matches!(reply, Reply::Refused { .. }) { StatusCode::CONFLICT } else { StatusCode::OK };
    let mut headers = Vec::new();
    if let Reply::Bans(list) = &reply {
        headers.push((TOTAL, HeaderValue::from(list.total)));
        let geoip = serde_json::to_vec(&list.geoip).ok().filter(|_| !list.geoip.is_empty());
        headers.extend(geoip.and_then(|paths| Some((GEOIP, HeaderValue::from_bytes(&paths).ok()?))));
    }
    let body = match reply {
        // Only where that is worth it: short answers say their length.
        Reply::Bans(list) if list.bans.len() > PART => {
            let body = Body::from_stream(stream::iter(list.parts()));
            ([(header::CONTENT_TYPE, JSON)], body).into_response()
        }
        reply => Json(reply).into_response(),
    };
    Ok((status, AppendHeaders(headers), body).into_response())
}

async fn metrics(State(daemon): State<Daemon>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], (daemon.metrics)())
}

/// The query of `GET /bans` and `GET /bans/list`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BansQuery {
    address: Option<String>,
    r#in: Option<String>,
    jail: Option<String>,
    kind: Option<BanOrigin>,
    since: Option<String>,
    #[serde(default)]
    text: String,
    #[serde(default)]
    sort: BanSort,
    limit: Option<usize>,
    /// The same as `sort=since` and `limit`.
    last: Option<usize>,
}

fn filter(query: Result<Query<BansQuery>, QueryRejection>) -> Result<BanFilter, ErrorResponse> {
    let Query(query) = query.map_err(|_| {
        let keys = "address, in, jail, kind, since, text, sort, limit and last";
        wrong(format!(
            "unknown parameter or value; the parameters are {keys}, as in `?jail=sshd&sort=since&limit=20`"
        ))
    })?;
    let of = |text: Option<String>| text.map(|text| offender(&text)).transpose();
    Ok(BanFilter {
        address: of(query.address)?,
        inside: of(query.r#in)?,
        jail: query.jail,
        kind: query.kind,
        own: false,
        since: query.since.map(span).transpose()?,
        text: query.text,
        sort: if query.last.is_some() { BanSort::Since } else { query.sort },
        limit: query.last.or(query.limit),
    })
}

async fn bans(
    daemon: State<Daemon>,
    query: Result<Query<BansQuery>, QueryRejection>,
) -> Result<Response, ErrorResponse> {
    ask(daemon, Command::Bans(filter(query)?)).await
}

async fn export(
    State(daemon): State<Daemon>,
    query: Result<Query<BansQuery>, QueryRejection>,
) -> Result<Response, ErrorResponse> {
    let filter = filter(query)?;
    // Other hosts of the fleet tell their bans themselves, and lift them.
    let filter = BanFilter { own: filter.kind != Some(BanOrigin::Peer), ..filter };
    match (daemon.ask)(Command::Bans(filter)).await {
        Ok(Reply::Bans(list)) => {
            let kind = [(header::CONTENT_TYPE, "text/plain; charset=utf-8".to_owned())];
            let parts = stream::iter(list.export().map(Ok::<_, Infallible>));
            Ok((kind, Body::from_stream(parts)).into_response())
        }
        Ok(Reply::Refused { error }) => Err(ErrorResponse(StatusCode::CONFLICT, error)),
        _ => Err(ErrorResponse(StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping".to_owned())),
    }
}

/// The body of `POST /bans`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BanRequest {
    address: String,
    r#for: Option<String>,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    force: bool,
}

// The body is taken as bytes, not with `Json`, which would insist on a content type that `curl -d` does not send.
async fn ban(daemon: State<Daemon>, body: Bytes) -> Result<Response, ErrorResponse> {
    let request: BanRequest =
        serde_json::from_slice(&body).map_err(|error| wrong(format!("the body is not a ban: {error}")))?;
    let (address, length) = (offender(&request.address)?, request.r#for.map(length).transpose()?);
    let change = ChangeRequest::Ban { address, length, reason: request.reason };
    ask(daemon, Command::Change(ChangePage { force: request.force, ..change.into() })).await
}

async fn change(daemon: State<Daemon>, body: Bytes) -> Result<Response, ErrorResponse> {
    let page: ChangePage = serde_json::from_slice(&body)
        .map_err(|error| wrong(format!("the body is not a page of changes: {error}")))?;
    if page.changes.len() > MOST_BANS {
        return Err(wrong(format!("a page can have at most {MOST_BANS} changes")));
    }
    ask(daemon, Command::Change(page)).await
}

async fn take_over(daemon: State<Daemon>, body: Bytes) -> Result<Response, ErrorResponse> {
    let page: BanPage<'_> = serde_json::from_slice(&body)
        .map_err(|error| wrong(format!("the body is not a page of bans: {error}")))?;
    if page.bans.len() > MOST_BANS {
        return Err(wrong(format!("a page can have at most {MOST_BANS} bans")));
    }
    let (bans, list) = (page.bans(), page.list);
    ask(daemon, Command::TakeOver { bans, list }).await
}

/// The body of `POST /allow`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AllowRequest {
    address: String,
    r#for: Option<String>,
    #[serde(default)]
    comment: String,
    #[serde(default)]
    force: bool,
}

async fn allow(daemon: State<Daemon>, body: Bytes) -> Result<Response, ErrorResponse> {
    let request: AllowRequest = serde_json::from_slice(&body)
        .map_err(|error| wrong(format!("the body is not an exemption: {error}")))?;
    let (address, length) = (offender(&request.address)?, request.r#for.map(length).transpose()?);
    let change = ChangeRequest::Allow { address, length, comment: request.comment };
    ask(daemon, Command::Change(ChangePage { force: request.force, ..change.into() })).await
}

/// The query of `POST /undo`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UndoRequest {
    #[serde(default)]
    force: bool,
}

async fn undo(
    daemon: State<Daemon>,
    query: Result<Query<UndoRequest>, QueryRejection>,
) -> Result<Response, ErrorResponse> {
    let Query(UndoRequest { force }) =
        query.map_err(|_| wrong("unknown parameter; use none or `?force=true`".to_owned()))?;
    ask(daemon, Command::Undo { force }).await
}

async fn why(
    daemon: State<Daemon>,
    query: Result<Query<AddressQuery>, QueryRejection>,
) -> Result<Response, ErrorResponse> {
    ask(daemon, Command::Why(queried(query)?)).await
}

/// The query of `DELETE /allow` and `GET /why`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AddressQuery {
    address: String,
}

async fn disallow(
    daemon: State<Daemon>,
    query: Result<Query<AddressQuery>, QueryRejection>,
) -> Result<Response, ErrorResponse> {
    let change = ChangeRequest::Disallow { address: queried(query)? };
    ask(daemon, Command::Change(change.into())).await
}

fn queried(query: Result<Query<AddressQuery>, QueryRejection>) -> Result<Offender, ErrorResponse> {
    let Query(AddressQuery { address }) =
        query.map_err(|_| wrong("missing parameter `?address=192.0.2.1`".to_owned()))?;
    offender(&address)
}

/// The query of `POST /reload`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReloadRequest {
    confirm: Option<String>,
    #[serde(default)]
    removed: bool,
}

async fn reload(
    daemon: State<Daemon>,
    query: Result<Query<ReloadRequest>, QueryRejection>,
) -> Result<Response, ErrorResponse> {
    let command = match query {
        Ok(Query(ReloadRequest { confirm: None, removed: true })) => Command::ReloadRemoved,
        Ok(Query(ReloadRequest { confirm, removed: false })) => {
            Command::Reload { confirm: confirm.map(span).transpose()? }
        }
        _ => {
            let what = "unknown parameter; use none, `?confirm=60s` or `?removed=true`";
            return Err(wrong(what.to_owned()));
        }
    };
    ask(daemon, command).await
}

/// The body of `POST /notify`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NotifyRequest {
    receiver: String,
}

async fn notify(daemon: State<Daemon>, body: Bytes) -> Result<Response, ErrorResponse> {
    let request: NotifyRequest = serde_json::from_slice(&body)
        .map_err(|error| wrong(format!("the body does not name a receiver: {error}")))?;
    ask(daemon, Command::Notify(request.receiver)).await
}

/// The body of `POST /fleet/accept`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AcceptRequest {
    host: String,
}

async fn accept_peer(daemon: State<Daemon>, body: Bytes) -> Result<Response, ErrorResponse> {
    let request: AcceptRequest = serde_json::from_slice(&body)
        .map_err(|error| wrong(format!("the body does not name a host: {error}")))?;
    ask(daemon, Command::AcceptPeer(request.host)).await
}

fn wrong(what: String) -> ErrorResponse {
    ErrorResponse(StatusCode::BAD_REQUEST, what)
}

fn offender(text: &str) -> Result<Offender, ErrorResponse> {
    text.parse().map_err(|error| wrong(format!("{error}")))
}

fn span(text: String) -> Result<Span, ErrorResponse> {
    let span = config::parse_span(&text).filter(|span| *span > Span::ZERO);
    span.ok_or_else(|| wrong(format!("`{text}` is not a time; write `10m`, `1h 30m` or a number of seconds")))
}

fn length(text: String) -> Result<BanLength, ErrorResponse> {
    text.parse().map_err(|what| wrong(format!("`{text}` is not a time; {what}")))
}

/// The query of `DELETE /bans`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UnbanRequest {
    address: Option<String>,
    #[serde(default)]
    inside: bool,
    jail: Option<String>,
    #[serde(default)]
    all: bool,
}

async fn unban(
    daemon: State<Daemon>,
    query: Result<Query<UnbanRequest>, QueryRejection>,
) -> Result<Response, ErrorResponse> {
    let target = match query {
        Ok(Query(UnbanRequest { address: Some(address), inside, jail: None, all: false })) => {
            let offender = offender(&address)?;
            if inside { Target::Inside(offender) } else { Target::One(offender) }
        }
        Ok(Query(UnbanRequest { address: None, inside: false, jail: Some(jail), all: false })) => {
            Target::Jail(jail)
        }
        Ok(Query(UnbanRequest { address: None, inside: false, jail: None, all: true })) => Target::All,
        _ => {
            let what = "missing parameter `?address=192.0.2.1`, `?jail=list` or `?all=true`";
            return Err(wrong(what.to_owned()));
        }
    };
    ask(daemon, Command::Change(ChangeRequest::Unban(target).into())).await
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::path::PathBuf;
    use std::sync::Mutex;

    use tokio::runtime::Runtime;

    use tempfile::{TempDir, tempdir};

    use super::super::BanListing;
    use super::super::client::{self, Answer};
    use super::*;
    use crate::model::{Ban, BanOrigin, BanTerms, Mode, Port, Protocol, Timestamp};

    /// A server in a folder of its own, whose daemon answers as `reply` says and keeps what it was asked.
    struct Fixture {
        folder: TempDir,
        runtime: Runtime,
        asked: Arc<Mutex<Vec<Command>>>,
    }

    impl Fixture {
        fn new(reply: fn(&Command) -> Option<Reply>) -> Self {
            let folder = tempdir().unwrap();
            let runtime = Runtime::new().unwrap();
            let asked = Arc::new(Mutex::new(Vec::new()));
            let fixture = Self { folder, runtime, asked: Arc::clone(&asked) };
            let ask = move |command: Command| {
                let (sender, receiver) = oneshot::channel();
                if let Some(reply) = reply(&command) {
                    sender.send(reply).unwrap();
                }
                asked.lock().unwrap().push(command);
                receiver
            };
            let daemon = Daemon { ask: Arc::new(ask), metrics: Arc::new(|| "up 1\n".to_owned()) };
            let _runtime = fixture.runtime.enter();
            let listener = crate::input::socket::bind(&fixture.socket(), None).unwrap();
            fixture.runtime.spawn(serve(listener, routes(daemon)));
            drop(_runtime);
            fixture
        }

        fn socket(&self) -> PathBuf {
            self.folder.path().join("control.sock")
        }

        fn raw(&self, request: &str) -> (String, String) {
            exchange(std::os::unix::net::UnixStream::connect(self.socket()).unwrap(), request)
        }
    }

    /// The status and the body of what comes back for `request`.
    fn exchange(mut stream: impl Read + Write, request: &str) -> (String, String) {
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.lines().next().unwrap().strip_prefix("HTTP/1.1 ").unwrap();
        (status.to_owned(), body.to_owned())
    }

    fn done(_: &Command) -> Option<Reply> {
        Some(Reply::Done { changed: 1 })
    }

    #[test]
    fn a_command_arrives_as_it_was_sent() {
        let fixture = Fixture::new(done);
        let change = |change: ChangeRequest| Command::Change(change.into());
        let ban = |address: &str, length, reason: &str| ChangeRequest::Ban {
            address: address.parse().unwrap(),
            length,
            reason: reason.to_owned(),
        };
        let full = ChangePage {
            changes: vec![ban("192.0.2.1", None, ""), ChangeRequest::Unban(Target::All)],
            force: true,
            operator: Some("2001:db8::1".parse().unwrap()),
            list: Some(u64::MAX),
        };
        let taken = |jail: &str, kind, until, ports: &[Port]| Ban {
            offender: "192.0.2.0/24".parse().unwrap(),
            times: 7,
            since: Timestamp::from_micros(1_700_000_000_500_000),
            until,
            terms: Arc::new(BanTerms {
                jail: jail.into(),
                kind,
                mode: Mode::Enforce,
                ports: ports.into(),
                reason: "\"quoted\" \\ \n\u{e9}".into(),
            }),
        };
        let port = Port { protocol: Protocol::Udp, number: 53 };
        let page = vec![
            taken("sshd", BanOrigin::Auto, Some(Timestamp::from_secs(1_800_000_000)), &[port]),
            taken("list", BanOrigin::Manual, None, &[]),
        ];
        let commands = [
            Command::Status,
            Command::Bans(BanFilter::default()),
            Command::Bans(BanFilter { text: "2001:db8::/64".to_owned(), ..BanFilter::latest(20) }),
            Command::Bans(BanFilter {
                address: Some("2001:db8::1".parse().unwrap()),
                inside: Some("2001:db8::/32".parse().unwrap()),
                jail: Some("f2b-a_b.c".to_owned()),
                kind: Some(BanOrigin::Wide),
                own: false,
                since: Some(Span::from_secs(90)),
                text: "ssh".to_owned(),
                sort: BanSort::Times,
                limit: Some(0),
            }),
            change(ban("192.0.2.0/24", Some(BanLength(Some(Span::from_secs(90)))), "")),
            change(ban("192.0.2.0/24", Some(BanLength(None)), "")),
            change(ban("2001:db8::1", None, "\"quoted\" \\ \n\u{e9}")),
            Command::Change(full),
            Command::TakeOver { bans: Vec::new(), list: None },
            Command::TakeOver { bans: page, list: Some(7) },
            change(ChangeRequest::Unban(Target::One("2001:db8::/32".parse().unwrap()))),
            change(ChangeRequest::Unban(Target::Inside("192.0.2.0/24".parse().unwrap()))),
            change(ChangeRequest::Unban(Target::Jail("f2b-a_b.c".to_owned()))),
            Command::Undo { force: false },
            Command::Undo { force: true },
            Command::UndoSteps,
            change(ChangeRequest::Restore(Box::new(taken(
                "sshd",
                BanOrigin::Auto,
                Some(Timestamp::from_secs(1_800_000_000)),
                &[port],
            )))),
            change(ChangeRequest::Restore(Box::new(taken("wide", BanOrigin::Wide, None, &[])))),
            Command::Why("2001:db8::1".parse().unwrap()),
            Command::Allowances,
            change(ChangeRequest::Allow {
                address: "::1".parse().unwrap(),
                length: None,
                comment: "\"x\"".to_owned(),
            }),
            change(ChangeRequest::Disallow { address: "2001:db8::/32".parse().unwrap() }),
            Command::Reload { confirm: None },
            Command::ReloadRemoved,
            Command::ReloadPreview,
            Command::Reload { confirm: Some(Span::from_secs(60)) },
            Command::Keep,
            Command::Notify("ops".to_owned()),
            Command::AcceptPeer("web1".to_owned()),
        ];
        for command in &commands {
            let answer = client::send(&fixture.socket(), command).unwrap();
            assert_eq!(
                answer,
                Answer { done: true, body: r#"{"changed":1}"#.to_owned(), total: None, geoip: Vec::new() }
            );
        }
        assert_eq!(*fixture.asked.lock().unwrap(), commands);
    }

    #[test]
    fn a_list_names_its_length_and_the_files_of_countries() {
        let fixture = Fixture::new(|_| {
            let geoip =
                ["/usr/share/GeoIP/a.mmdb", "/srv/l\u{e4}nder \"x\"\n.mmdb"].map(PathBuf::from).into();
            Some(Reply::Bans(BanListing {
                bans: Vec::new(),
                total: 7,
                now: Timestamp::from_secs(0),
                geoip,
                waiting: Arc::default(),
            }))
        });
        let answer = client::send(&fixture.socket(), &Command::Bans(BanFilter::default())).unwrap();
        assert_eq!((answer.body.as_str(), answer.total), ("[]", Some(7)));
        assert_eq!(answer.geoip[1], PathBuf::from("/srv/l\u{e4}nder \"x\"\n.mmdb"));
    }

    #[test]
    fn a_refusal_is_an_answer() {
        let fixture = Fixture::new(|_| Some(Reply::Refused { error: "it is ours".to_owned() }));
        let answer = client::send(&fixture.socket(), &Command::Keep).unwrap();
        assert_eq!(
            answer,
            Answer {
                done: false,
                body: r#"{"error":"it is ours"}"#.to_owned(),
                total: None,
                geoip: Vec::new()
            }
        );
        let (status, _) = fixture.raw("POST /reload HTTP/1.1\r\nhost: x\r\n\r\n");
        assert_eq!(status, "409 Conflict");
    }

    #[test]
    fn a_daemon_that_stops_says_so() {
        let fixture = Fixture::new(|_| None);
        let answer = client::send(&fixture.socket(), &Command::Status).unwrap();
        assert_eq!(
            answer,
            Answer {
                done: false,
                body: r#"{"error":"the daemon is stopping"}"#.to_owned(),
                total: None,
                geoip: Vec::new()
            }
        );
    }

    #[test]
    fn curl_is_a_client_too() {
        let fixture = Fixture::new(done);
        let body = r#"{"address":"192.0.2.1","for":"1h 30m"}"#;
        let form = "content-type: application/x-www-form-urlencoded";
        let length = body.len();
        let (status, _) = fixture.raw(&format!(
            "POST /bans HTTP/1.1\r\nhost: x\r\n{form}\r\ncontent-length: {length}\r\n\r\n{body}"
        ));
        assert_eq!(status, "200 OK");
        let (status, _) =
            fixture.raw("DELETE /bans?address=192.0.2.0/24&inside=true HTTP/1.1\r\nhost: x\r\n\r\n");
        assert_eq!(status, "200 OK");
        let ban = ChangeRequest::Ban {
            address: "192.0.2.1".parse().unwrap(),
            length: Some(BanLength(Some(Span::from_secs(5400)))),
            reason: String::new(),
        };
        let unban = ChangeRequest::Unban(Target::Inside("192.0.2.0/24".parse().unwrap()));
        assert_eq!(*fixture.asked.lock().unwrap(), [ban, unban].map(|one| Command::Change(one.into())));
        assert_eq!(
            fixture.raw("GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n"),
            ("200 OK".to_owned(), "up 1\n".to_owned())
        );
    }

    #[test]
    fn a_request_that_is_wrong_is_told_what() {
        let fixture = Fixture::new(done);
        let check = |request: &str, body: &str, status: &str, error: &str| {
            let length = body.len();
            let request = format!("{request} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}");
            assert_eq!(fixture.raw(&request), (status.to_owned(), json!({ "error": error }).to_string()));
        };
        check("GET /", "", "404 Not Found", "no such path");
        check("PUT /bans", "", "405 Method Not Allowed", "this path does not support this method");
        let bad = "400 Bad Request";
        check("POST /bans", "", bad, "the body is not a ban: EOF while parsing a value at line 1 column 0");
        let time = "`0` is not a time; write `10m`, `1h 30m` or a number of seconds";
        let length = "`0` is not a time; a time must be longer than 0";
        check("POST /bans", r#"{"address":"::1","for":"0"}"#, bad, length);
        let page = "the body is not a page of changes: unknown variant `bann`, expected one of `ban`, `restore`, `unban`, `allow`, `disallow` at line 1 column 19";
        check("POST /changes", r#"{"changes":[{"bann":1}]}"#, bad, page);
        let page = format!("{{\"changes\":[{}]}}", vec![r#"{"unban":"all"}"#; MOST_BANS + 1].join(","));
        check("POST /changes", &page, bad, "a page can have at most 1000 changes");
        let fields = "the body is not a ban: unknown field `untl`, expected one of `address`, `for`, `reason`, `force` at line 1 column 23";
        check("POST /bans", r#"{"address":"::1","untl":1}"#, bad, fields);
        let address = "`x` is not an address or prefix; write `192.0.2.1`, `192.0.2.0/24` or `2001:db8::/32`";
        check("POST /bans", r#"{"address":"x"}"#, bad, address);
        check("DELETE /bans?address=x", "", bad, address);
        let page = "the body is not a page of bans: missing field `since` at line 1 column 37";
        check("POST /bans/page", r#"{"bans":[{"address":"::1","jail":"x"}]}"#, bad, page);
        let ban = r#"{"address":"::1","jail":"x","since":"2026-11-24T00:00:00Z"}"#;
        let page = format!("{{\"bans\":[{}]}}", vec![ban; MOST_BANS + 1].join(","));
        check("POST /bans/page", &page, bad, "a page can have at most 1000 bans");
        let missing = "missing parameter `?address=192.0.2.1`, `?jail=list` or `?all=true`";
        check("DELETE /bans", "", bad, missing);
        check("DELETE /bans?all=true&address=::1", "", bad, missing);
        check("DELETE /bans?all=maybe", "", bad, missing);
        let keys = "unknown parameter or value; the parameters are address, in, jail, kind, since, text, sort, limit and last, as in \
                    `?jail=sshd&sort=since&limit=20`";
        check("GET /bans?last=x", "", bad, keys);
        check("GET /bans?sort=size", "", bad, keys);
        check("GET /bans?since=0", "", bad, time);
        check("GET /bans/list?in=x", "", bad, address);
        check("DELETE /allow", "", bad, "missing parameter `?address=192.0.2.1`");
        check("POST /undo?all=true", "", bad, "unknown parameter; use none or `?force=true`");
        check("POST /reload?confirm=0", "", bad, time);
        check("GET /why?address=x", "", bad, address);
        check("POST /allow", r#"{"address":"x"}"#, bad, address);
        check(
            "POST /allow",
            "",
            bad,
            "the body is not an exemption: EOF while parsing a value at line 1 column 0",
        );
        let long = "x".repeat(MAX_BODY + 1);
        check("POST /bans", &long, "413 Payload Too Large", "a request can have at most 1048576 bytes");
        assert_eq!(*fixture.asked.lock().unwrap(), []);
    }

    #[test]
    fn an_address_gives_metrics_and_nothing_else() {
        let runtime = Runtime::new().unwrap();
        let ask = |_| panic!("a command came by the metrics' address");
        let daemon = Daemon { ask: Arc::new(ask), metrics: Arc::new(|| "up 1\n".to_owned()) };
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(serve(listener, metrics_route(daemon)));
        let get = |path: &str| {
            let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
            exchange(std::net::TcpStream::connect(address).unwrap(), &request).0
        };
        assert_eq!(get("/metrics"), "200 OK");
        assert_eq!(get("/status"), "404 Not Found");
        assert_eq!(get("/bans"), "404 Not Found");
    }

    /// 200 clients that say nothing, a byte, or a header whose body never comes, and stay: who asks is answered.
    fn answers_in_a_crowd<S: Read + Write>(connect: impl Fn() -> S) {
        let began = std::time::Instant::now();
        let said = [&b""[..], b"G", b"POST /bans HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{"];
        let crowd: Vec<S> = said
            .iter()
            .cycle()
            .take(200)
            .map(|said| {
                let mut client = connect();
                client.write_all(said).unwrap();
                client
            })
            .collect();
        let (status, body) = exchange(connect(), "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n");
        println!("answered beside {} silent clients, all within {:?}", crowd.len(), began.elapsed());
        assert_eq!((&*status, &*body), ("200 OK", "up 1\n"));
    }

    #[test]
    fn clients_that_dawdle_keep_nobody_from_the_metrics() {
        let runtime = Runtime::new().unwrap();
        let ask = |_| panic!("a command came by the metrics' address");
        let daemon = Daemon { ask: Arc::new(ask), metrics: Arc::new(|| "up 1\n".to_owned()) };
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(serve(listener, metrics_route(daemon)));
        answers_in_a_crowd(|| {
            let stream = std::net::TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            stream
        });
    }

    #[test]
    fn clients_that_dawdle_keep_nobody_from_the_control_socket() {
        let fixture = Fixture::new(done);
        answers_in_a_crowd(|| {
            let stream = std::os::unix::net::UnixStream::connect(fixture.socket()).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            stream
        });
    }

    #[test]
    fn who_asks_nothing_is_cut_off() {
        let fixture = Fixture::new(done);
        let mut client = std::os::unix::net::UnixStream::connect(fixture.socket()).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        client.write_all(b"GET /status HTTP/1.1\r\n").unwrap();
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn a_client_says_when_no_daemon_answers() {
        let mut fixture = Fixture::new(done);
        let shown = fixture.socket().display().to_string();
        // Dropping a runtime waits until its tasks, and with them the listener, are gone.
        drop(std::mem::replace(&mut fixture.runtime, Runtime::new().unwrap()));
        for _ in 0..2 {
            let error = client::send(&fixture.socket(), &Command::Status).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("no daemon answers at `{shown}`; is it running? `systemctl status banstream` tells")
            );
            let _ = std::fs::remove_file(fixture.socket());
        }
    }
}
