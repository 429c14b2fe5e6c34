//! `banstream web`: the daemon's state in a browser, by a process of its own.
//!
//! It is a client of the control socket like any other, and as root it gives its privileges up before it serves. The
//! pages work without script; `feed` adds what happens while one is open. Other users of this host can reach a
//! loopback address too, so `guard` lets nobody in without the token that was printed at the start.

mod address;
mod change;
mod feed;
mod guard;
mod page;
mod places;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Router, middleware};
use maud::Markup;
use nix::unistd::{Gid, Uid, geteuid, setgid, setgroups, setuid};
use serde::Deserialize;
use tokio::signal::unix::{SignalKind, signal};

use self::feed::Feed;
use self::guard::Secrets;
use self::places::{Located, Places};
use crate::cli::{operator, print};
use crate::config::names_jail;
use crate::control::client::{self, listed, reply};
use crate::control::server::{Routes, serve};
use crate::control::{AllowLine, BanFilter, BanLine, BanSort, Command, Status, Why};
use crate::model::Offender;

/// How many bytes a request may have.
const MAX_BODY: usize = 16 << 10;
/// How long an answer may take; a browser opens the feed again after that.
const PATIENCE: Duration = Duration::from_secs(3600);
/// How many bans a page lists, unless it is asked for more, and at most.
const SOME: usize = 100;
const MOST: usize = 1000;
/// How many of the latest bans the first page lists.
const LATEST: usize = 20;
/// The user without any privilege.
const NOBODY: u32 = 65_534;

/// How to run [`run`].
#[derive(Clone, Debug)]
pub struct WebOptions {
    /// The daemon's control socket.
    pub socket: PathBuf,
    /// A loopback address.
    pub listen: SocketAddr,
    /// Whether the page may ban, unban and exempt.
    pub allow_changes: bool,
}

/// Prints the address of the page, and serves it until a signal ends it.
///
/// # Errors
///
/// The address is taken, or is not of this host alone; privileges cannot be given up.
pub fn run(options: WebOptions) -> anyhow::Result<()> {
    let WebOptions { socket, listen, allow_changes } = options;
    anyhow::ensure!(listen.ip().is_loopback(), "`{listen}` is not a loopback address");
    let listener = TcpListener::bind(listen).with_context(|| format!("cannot listen at `{listen}`"))?;
    listener.set_nonblocking(true)?;
    let (secrets, listen) = (Secrets::draw().context("cannot draw a token")?, listener.local_addr()?);
    // A page that could show nothing is not served.
    client::send(&socket, &Command::Status)?;
    give_up_root(&socket)?;
    let mode = if allow_changes { "it can change bans and exemptions" } else { "it is read-only" };
    print(&format!("open http://{listen}/?token={}\n{mode}; Ctrl-C ends it\n", secrets.token))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let ended = runtime.block_on(async {
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let listener = tokio::net::TcpListener::from_std(listener)?;
        tokio::select! {
            () = serve(listener, routes(Site::new(socket, allow_changes, secrets))) => {}
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok(())
    });
    // Pages that are open hold up nobody.
    runtime.shutdown_background();
    ended
}

/// Becomes nobody, in the group that may use the control socket, if this is root.
fn give_up_root(socket: &Path) -> anyhow::Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let about = socket.metadata().with_context(|| format!("cannot look at `{}`", socket.display()))?;
    let become_nobody = || {
        setgroups(&[])?;
        setgid(Gid::from_raw(about.gid()))?;
        setuid(Uid::from_raw(NOBODY))
    };
    become_nobody().context("cannot give up the privileges of root")?;
    client::send(socket, &Command::Status).context("as the user nobody, in the socket's group")?;
    Ok(())
}

/// What all answers need.
struct Site {
    socket: PathBuf,
    host: String,
    allow_changes: bool,
    /// The address that the operator who started this is logged in from.
    operator: Option<IpAddr>,
    secrets: Secrets,
    places: Arc<Places>,
    feed: Feed,
}

impl Site {
    /// Must be called in a runtime.
    fn new(socket: PathBuf, allow_changes: bool, secrets: Secrets) -> Arc<Self> {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let places = Arc::<Places>::default();
        let feed = Feed::start(socket.clone(), Arc::clone(&places));
        Arc::new(Self {
            socket,
            host: host.trim().to_owned(),
            allow_changes,
            operator: operator(),
            secrets,
            places,
            feed,
        })
    }

    /// A page, or what stands in its way.
    fn show(&self, shown: Result<(String, Markup), Failure>) -> Response {
        let (status, title, body) = match shown {
            Ok((title, body)) => (StatusCode::OK, title, body),
            Err(Failure(status, error)) => (status, "Error".to_owned(), page::error(&error)),
        };
        (status, Html(page::page(self, &title, &body).into_string())).into_response()
    }

    async fn locate(&self, paths: &[PathBuf], bans: &[BanLine]) -> Located {
        self.places.find(paths, bans.iter().map(|ban| ban.address).collect()).await
    }

    async fn bans(&self, filter: BanFilter) -> anyhow::Result<(Vec<BanLine>, u64)> {
        listed(&self.socket, Command::Bans(filter)).await
    }
}

/// Why there is not the page that was asked for, for people.
struct Failure(StatusCode, String);

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, format!("{error:#}"))
    }
}

fn wrong(error: impl ToString) -> Failure {
    Failure(StatusCode::BAD_REQUEST, error.to_string())
}

type Queried<T> = Result<Query<T>, QueryRejection>;

fn routes(site: Arc<Site>) -> Routes {
    let at = |path: &str| format!("/{}/{path}", site.secrets.place);
    let text = |kind: &'static str, text: &'static str| {
        get(move || async move { ([(header::CONTENT_TYPE, kind)], text) })
    };
    let mut router = Router::new()
        .route("/", get(guard::enter))
        .route(&at(""), get(async |State(site): State<Arc<Site>>| site.show(overview(&site).await)))
        .route(
            &at("bans"),
            get(async |State(site): State<Arc<Site>>, query| site.show(bans(&site, query).await)),
        )
        .route(
            &at("why"),
            get(async |State(site): State<Arc<Site>>, query| site.show(why(&site, query).await)),
        )
        .route(&at("exempt"), get(async |State(site): State<Arc<Site>>| site.show(exemptions(&site).await)))
        .route(&at("events"), get(feed::events))
        .route(&at("page.css"), text("text/css; charset=utf-8", include_str!("page.css")))
        .route(&at("page.js"), text("text/javascript; charset=utf-8", include_str!("page.js")));
    if site.allow_changes {
        router = router
            .route(
                &at("lift"),
                get(async |State(site): State<Arc<Site>>, query| site.show(change::lift(&site, query).await)),
            )
            .route(
                &at("change"),
                post(async |State(site): State<Arc<Site>>, form| {
                    site.show(change::change(&site, form).await)
                }),
            );
    }
    let none = |status, text: &'static str| {
        async move |State(site): State<Arc<Site>>| site.show(Err(Failure(status, text.to_owned())))
    };
    let router = router
        .fallback(none(StatusCode::NOT_FOUND, "there is no such page; changes take `--allow-changes`"))
        .method_not_allowed_fallback(none(StatusCode::METHOD_NOT_ALLOWED, "this page cannot do that"))
        .layer(middleware::from_fn_with_state(Arc::clone(&site), guard::guard))
        .with_state(site);
    Routes::new(router, MAX_BODY, PATIENCE)
}

async fn overview(site: &Site) -> Result<(String, Markup), Failure> {
    let status: Status = reply(&site.socket, Command::Status).await?;
    let (latest, _) = site.bans(BanFilter::latest(LATEST)).await?;
    let located = site.locate(&status.geoip, &latest).await;
    Ok(("Overview".to_owned(), page::overview(site, &status, &latest, &located)))
}

/// The query of the list of bans. A form sends all of it, empty where nothing was chosen.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct BansForm {
    /// An address or prefix, or a part of either or of a jail's name.
    q: String,
    jail: String,
    sort: Option<BanSort>,
    limit: Option<usize>,
}

impl BansForm {
    fn filter(&self) -> Result<BanFilter, Failure> {
        let (q, jail) = (self.q.trim(), Some(&self.jail).filter(|jail| !jail.is_empty()));
        if jail.is_some_and(|jail| !names_jail(jail)) {
            return Err(wrong("a jail's name can have letters, digits, `-`, `_` and `.` only"));
        }
        let all = BanFilter {
            jail: jail.cloned(),
            sort: self.sort.unwrap_or(BanSort::Since),
            limit: Some(self.limit.unwrap_or(SOME).min(MOST)),
            ..BanFilter::default()
        };
        match q.parse::<Offender>() {
            Ok(offender) if offender.is_single() => Ok(BanFilter { address: Some(offender), ..all }),
            Ok(prefix) => Ok(BanFilter { inside: Some(prefix), ..all }),
            // What a query may hold: `BanFilter` does not escape it.
            Err(_) if q.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:/".contains(c)) => {
                Ok(BanFilter { text: q.to_owned(), ..all })
            }
            Err(_) => Err(wrong("search for an address, a prefix, or a part of either or of a jail's name")),
        }
    }
}

async fn bans(site: &Site, query: Queried<BansForm>) -> Result<(String, Markup), Failure> {
    let Query(form) = query.map_err(wrong)?;
    let filter = form.filter()?;
    let status: Status = reply(&site.socket, Command::Status).await?;
    let (bans, total) = site.bans(filter.clone()).await?;
    let located = site.locate(&status.geoip, &bans).await;
    Ok(("Bans in force".to_owned(), page::bans(&form, &filter, &status, (&bans, total), &located)))
}

/// The query of a page about one address.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AddressForm {
    address: String,
}

fn queried(query: Queried<AddressForm>) -> Result<Offender, Failure> {
    let Query(AddressForm { address }) = query.map_err(wrong)?;
    address.trim().parse().map_err(wrong)
}

async fn why(site: &Site, query: Queried<AddressForm>) -> Result<(String, Markup), Failure> {
    let who = queried(query)?;
    let why: Why = reply(&site.socket, Command::Why(who)).await?;
    let located = site.places.find(&why.geoip, vec![who]).await;
    Ok((who.to_string(), address::why(site, &why, &located)))
}

async fn exemptions(site: &Site) -> Result<(String, Markup), Failure> {
    let allowances: Vec<AllowLine> = reply(&site.socket, Command::Allowances).await?;
    Ok(("Exemptions".to_owned(), page::exemptions(site, &allowances)))
}
