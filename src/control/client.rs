//! Asks a running daemon over its control socket. [`send`] runs on a small runtime of its own, so its caller need not
//! be async.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::{Gid, Group};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;

use super::server::{GEOIP, TOTAL};
use super::taken::{BanPage, PageBan};
use super::{BanFilter, Command};
use crate::config::Config;

/// Where the daemon listens, unless its configuration says otherwise.
pub const SOCKET: &str = "/run/banstream/control.sock";

/// The variable of the environment that names the socket of the daemon to ask.
pub const SOCKET_VARIABLE: &str = "BANSTREAM_SOCKET";

/// The socket that the environment names.
pub fn named_socket() -> Option<PathBuf> {
    std::env::var_os(SOCKET_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// The socket of the daemon to ask: the one that the environment names, or the usual one.
pub fn socket() -> PathBuf {
    named_socket().unwrap_or_else(|| SOCKET.into())
}

/// The socket of the daemon to ask: the one that the environment names, or that of this configuration.
pub fn socket_of(config: &Config) -> PathBuf {
    named_socket().unwrap_or_else(|| config.control.path.clone())
}

/// Longer than the daemon ever takes, a reload included.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why an answer cannot be used.
pub const UNCLEAR: &str = "cannot understand the daemon's answer; is its version another?";

/// What the daemon answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether it did as it was asked; if not, the body is `{"error": "..."}`.
    pub done: bool,
    /// The reply, as JSON.
    pub body: String,
    /// Of a list, how long it is without its limit.
    pub total: Option<u64>,
    /// Of a list of bans, the files with the countries and networks of addresses, as the daemon's configuration has them.
    pub geoip: Vec<PathBuf>,
}

impl Answer {
    /// Why the daemon refuses, if it does.
    pub fn refusal(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct ErrorBody {
            error: String,
        }
        let error =
            || serde_json::from_str(&self.body).map_or(self.body.clone(), |ErrorBody { error }| error);
        (!self.done).then(error)
    }
}

/// What a good answer to a change says.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct ChangeCount {
    /// How much it changed.
    pub changed: u64,
}

/// Puts `command` to the daemon that listens at `socket`, and waits for its answer.
///
/// Must not be called from async code.
///
/// # Errors
///
/// Nobody listens there, we may not connect, or no valid answer comes within 30 s. That the daemon
/// refuses is an answer.
pub fn send(socket: &Path, command: &Command) -> anyhow::Result<Answer> {
    runtime()?.block_on(ask(socket, command))
}

/// [`send`], for async code.
///
/// # Errors
///
/// As [`send`].
pub async fn ask(socket: &Path, command: &Command) -> anyhow::Result<Answer> {
    talk(socket, request(command)?).await
}

/// The reply to `command`; for async code.
///
/// # Errors
///
/// As [`send`]; also if the daemon refuses, or its answer cannot be understood.
pub async fn reply<T: DeserializeOwned>(socket: &Path, command: Command) -> anyhow::Result<T> {
    Ok(listed(socket, command).await?.0)
}

/// [`reply`], and of a list, how long it is without its limit.
///
/// # Errors
///
/// As [`reply`].
pub async fn listed<T: DeserializeOwned>(socket: &Path, command: Command) -> anyhow::Result<(T, u64)> {
    let answer = ask(socket, &command).await?;
    if let Some(error) = answer.refusal() {
        bail!(error);
    }
    let reply = serde_json::from_str(&answer.body).context(UNCLEAR)?;
    Ok((reply, answer.total.unwrap_or_default()))
}

/// The metrics of the daemon that listens at `socket`, in Prometheus' text format.
///
/// Must not be called from async code.
///
/// # Errors
///
/// As [`send`].
pub fn metrics(socket: &Path) -> anyhow::Result<String> {
    let request = Request::get("/metrics").header("host", "localhost").body(Full::default())?;
    Ok(runtime()?.block_on(talk(socket, request))?.body)
}

/// The process of the daemon that listens at `socket`.
pub fn process(socket: &Path) -> Option<i32> {
    let stream = std::os::unix::net::UnixStream::connect(socket).ok()?;
    Some(getsockopt(&stream, PeerCredentials).ok()?.pid())
}

/// Bans as `ban --from` reads them. Must not be called from async code.
///
/// # Errors
///
/// As [`send`].
pub fn export(socket: &Path, filter: &BanFilter) -> anyhow::Result<Answer> {
    let request = Request::get(format!("/bans/list?{}", filter.query()));
    runtime()?.block_on(talk(socket, request.header("host", "localhost").body(Full::default())?))
}

fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

async fn talk(socket: &Path, request: Request<Full<Bytes>>) -> anyhow::Result<Answer> {
    let shown = socket.display();
    let stream = UnixStream::connect(socket).await.map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
            anyhow!("no daemon answers at `{shown}`; is it running? `systemctl status banstream` tells")
        }
        ErrorKind::PermissionDenied => match group(socket) {
            Some(group) => anyhow!(
                "no permission to use `{shown}`; try as root, or join its group: `usermod -aG {group} $USER`"
            ),
            None => anyhow!("no permission to use `{shown}`; try as root, or as a member of its group"),
        },
        _ => anyhow!(error).context(format!("cannot connect to `{shown}`")),
    })?;
    tokio::time::timeout(PATIENCE, exchange(stream, request))
        .await
        .map_err(|_| anyhow!("the daemon at `{shown}` does not respond"))?
        .with_context(|| format!("the daemon at `{shown}` closed the connection"))
}

/// The name of the group that may use a socket.
fn group(socket: &Path) -> Option<String> {
    // That of its folder, where that hides it.
    let about =
        [Some(socket), socket.parent()].into_iter().flatten().find_map(|path| path.metadata().ok())?;
    group_of(&about)
}

/// The name of a file's group, unless that is root's.
pub fn group_of(about: &std::fs::Metadata) -> Option<String> {
    let group = Group::from_gid(Gid::from_raw(about.gid())).ok()??;
    (group.gid.as_raw() != 0).then_some(group.name)
}

async fn exchange(stream: UnixStream, request: Request<Full<Bytes>>) -> anyhow::Result<Answer> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the answer; what goes wrong in it shows there.
    tokio::spawn(connection);
    let mut response = sender.send_request(request).await?;
    let done = response.status().is_success();
    let total = response.headers().get(TOTAL).and_then(|total| total.to_str().ok()?.parse().ok());
    let geoip = response.headers().get(GEOIP).and_then(|paths| serde_json::from_slice(paths.as_bytes()).ok());
    // A list may have 200 MB, which are not to be there twice.
    let mut body = Vec::new();
    while let Some(frame) = response.frame().await {
        body.extend_from_slice(frame?.data_ref().map_or(&[], |data| data));
    }
    Ok(Answer {
        done,
        body: String::from_utf8(body)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()),
        total,
        geoip: geoip.unwrap_or_default(),
    })
}

pub(crate) fn request(command: &Command) -> anyhow::Result<Request<Full<Bytes>>> {
    let (method, path, body) = match command {
        Command::Status => (Method::GET, "/status".to_owned(), None),
        Command::Bans(filter) => (Method::GET, format!("/bans?{}", filter.query()), None),
        Command::Why(offender) => (Method::GET, format!("/why?address={offender}"), None),
        Command::Change(page) => (Method::POST, "/changes".to_owned(), Some(serde_json::to_value(page)?)),
        Command::Undo { force } => (Method::POST, format!("/undo?force={force}"), None),
        Command::UndoSteps => (Method::GET, "/undo".to_owned(), None),
        Command::TakeOver { bans, list } => {
            let page = BanPage { bans: bans.iter().map(PageBan::new).collect(), list: *list };
            (Method::POST, "/bans/page".to_owned(), Some(serde_json::to_value(page)?))
        }
        Command::Allowances => (Method::GET, "/allow".to_owned(), None),
        Command::Reload { confirm: None } => (Method::POST, "/reload".to_owned(), None),
        Command::Reload { confirm: Some(span) } => {
            (Method::POST, format!("/reload?confirm={}", span.as_secs_ceil()), None)
        }
        Command::ReloadRemoved => (Method::POST, "/reload?removed=true".to_owned(), None),
        Command::ReloadPreview => (Method::GET, "/reload".to_owned(), None),
        Command::Keep => (Method::POST, "/reload/keep".to_owned(), None),
        Command::Notify(receiver) => {
            (Method::POST, "/notify".to_owned(), Some(json!({ "receiver": receiver })))
        }
        Command::AcceptPeer(host) => {
            (Method::POST, "/fleet/accept".to_owned(), Some(json!({ "host": host })))
        }
    };
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost")
        .header("content-type", "application/json");
    Ok(request.body(Full::from(body))?)
}
