//! Who may read the page, and who may change something by it.
//!
//! Any user of this host can reach the address. Three things stand in the way of others: the token, which is printed and
//! then kept in a cookie; the place, a part of every path, since browsers send the cookies of a host to all of its ports,
//! but only below the path that a cookie was set for; and for changes the origin, together with a value that only our own
//! forms have.

use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Query, Request, State};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};
use maud::{DOCTYPE, html};
use serde::Deserialize;

use super::Site;

/// What the page may load: what we serve ourselves.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
const COOKIE: &str = "banstream";
/// What every answer has. The referrer goes to ourselves, or browsers would not name the origin of a form.
const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "same-origin"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// The secrets of one process.
pub(super) struct Secrets {
    /// What lets a browser in.
    pub(super) token: String,
    /// The first part of every path.
    pub(super) place: String,
    /// What our forms send.
    pub(super) form: String,
}

impl Secrets {
    /// Draws them from the kernel: 128 bits each.
    pub(super) fn draw() -> io::Result<Self> {
        let mut random = File::open("/dev/urandom")?;
        let mut draw = || -> io::Result<String> {
            let mut bytes = [0; 16];
            random.read_exact(&mut bytes)?;
            Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
        };
        Ok(Self { token: draw()?, place: draw()?, form: draw()? })
    }

    /// Why a request is refused, if it is.
    fn judge(&self, request: &Parts) -> Result<(), &'static str> {
        let text = |name| request.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        // A name that others own could lead here (DNS rebinding). Not so the port: a tunnel may have another.
        let host = text(header::HOST).filter(|host| is_loopback(host));
        let Some(host) = host else { return Err("use the name localhost, or a loopback address") };
        let (path, place) = (request.uri.path(), &self.place);
        if path == "/" {
            return Ok(()); // `enter` looks at the token
        }
        let is_ours = path.strip_prefix('/').and_then(|path| path.split_once('/'));
        if is_ours.is_none_or(|(first, _)| !is_same(first, place)) || !self.has_token(&request.headers) {
            return Err("open the address that `banstream web` printed; each start has another");
        }
        if [Method::GET, Method::HEAD].contains(&request.method) {
            return Ok(());
        }
        let from_us = match text(header::ORIGIN) {
            Some(origin) => origin.strip_prefix("http://") == Some(host),
            None => text(HeaderName::from_static("sec-fetch-site")) == Some("same-origin"),
        };
        from_us.then_some(()).ok_or("this form is not of this page")
    }

    fn has_token(&self, headers: &HeaderMap) -> bool {
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut cookies =
            cookies.flat_map(|value| value.split(';')).filter_map(|cookie| cookie.split_once('='));
        cookies.any(|(name, value)| name.trim() == COOKIE && is_same(value.trim(), &self.token))
    }
}

/// Compares secrets in a time that says nothing of where they differ.
pub(super) fn is_same(one: &str, other: &str) -> bool {
    one.len() == other.len()
        && one.bytes().zip(other.bytes()).fold(0, |sum, (one, other)| sum | (one ^ other)) == 0
}

fn is_loopback(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host().trim_matches(['[', ']']);
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// Lets a request through, or refuses it; and sets the headers of either answer.
pub(super) async fn guard(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    let mut response = match site.secrets.judge(&head) {
        Ok(()) => next.run(Request::from_parts(head, body)).await,
        Err(error) => refusal(error),
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn refusal(error: &str) -> Response {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head { meta charset="utf-8"; meta name="viewport" content="width=device-width"; title { "banstream" } }
            body { main { h1 { "Not allowed" } p { (error) } } }
        }
    };
    (StatusCode::FORBIDDEN, Html(page.into_string())).into_response()
}

#[derive(Deserialize)]
pub(super) struct EntryForm {
    #[serde(default)]
    token: String,
}

/// Turns the token into a cookie, and leads to the first page.
pub(super) async fn enter(State(site): State<Arc<Site>>, Query(form): Query<EntryForm>) -> Response {
    let secrets = &site.secrets;
    if !is_same(&form.token, &secrets.token) {
        return refusal("open the address that `banstream web` printed; each start has another");
    }
    let (place, token) = (&secrets.place, &secrets.token);
    let cookie = format!("{COOKIE}={token}; Path=/{place}/; HttpOnly; SameSite=Strict");
    let headers = [(header::LOCATION, format!("/{place}/")), (header::SET_COOKIE, cookie)];
    (StatusCode::SEE_OTHER, headers).into_response()
}
