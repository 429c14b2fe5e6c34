//! Posts JSON to a URL. Redirects are not followed. Certificates are checked against the system's store, which is read
//! with each new client.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::each::EachOutcome;
use crate::daemon::now;
use crate::model::Timestamp;

const AGENT: &str = concat!("banstream/", env!("CARGO_PKG_VERSION"));
/// How much of an answer is read, so that the next request can take the same connection.
const LONGEST: usize = 64 << 10;

/// Posts `json`, with these headers and the token in the file, if there is one.
///
/// # Errors
///
/// The token cannot be read, nobody answers, or the answer is none of `2xx`.
pub(super) async fn post(
    url: &Uri,
    headers: &HeaderMap,
    token_file: Option<&Path>,
    json: String,
) -> anyhow::Result<()> {
    let WebhookAnswer { status, .. } =
        WebhookClient::new(url).await?.post(url, headers, token_file, json).await?;
    ensure!(status.is_success(), "the server answered {status}");
    Ok(())
}

/// Connections to one server; clones share them.
#[derive(Clone)]
pub enum WebhookClient {
    /// Over TLS.
    Tls(Client<HttpsConnector<HttpConnector>, Full<Bytes>>),
    /// Without.
    Plain(Client<HttpConnector, Full<Bytes>>),
}

impl WebhookClient {
    /// Connects at the first request.
    ///
    /// # Errors
    ///
    /// The system has no trusted certificates, and the URL begins with `https`.
    pub(super) async fn new(url: &Uri) -> anyhow::Result<Self> {
        let client = Client::builder(TokioExecutor::new());
        if url.scheme_str() != Some("https") {
            return Ok(Self::Plain(client.build_http()));
        }
        // To read them all takes a while, in which the task would not hear of news.
        let roots = tokio::task::spawn_blocking(|| HttpsConnectorBuilder::new().with_native_roots()).await?;
        let roots = roots.context("the system has no trusted certificates")?;
        Ok(Self::Tls(client.build(roots.https_only().enable_http1().build())))
    }

    /// Posts `json`, and reads the answer.
    ///
    /// # Errors
    ///
    /// The token cannot be read, or nobody answers.
    pub(super) async fn post(
        &self,
        url: &Uri,
        headers: &HeaderMap,
        token_file: Option<&Path>,
        json: String,
    ) -> anyhow::Result<WebhookAnswer> {
        let mut request = Request::post(url.clone())
            .header(USER_AGENT, AGENT)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::<Bytes>::from(json))?;
        request.headers_mut().extend(headers.clone());
        if let Some(file) = token_file {
            request.headers_mut().insert(AUTHORIZATION, bearer(file)?);
        }
        let response = match self {
            Self::Tls(client) => client.request(request).await?,
            Self::Plain(client) => client.request(request).await?,
        };
        let status = response.status();
        let after = response.headers().get(RETRY_AFTER).and_then(|after| retry_after(after, now()));
        // It counts that there was an answer, not how it ends.
        let _ = Limited::new(response.into_body(), LONGEST).collect().await;
        Ok(WebhookAnswer { status, after })
    }
}

/// What a server answered.
#[derive(Debug)]
pub(super) struct WebhookAnswer {
    status: StatusCode,
    /// How long it asks to wait.
    after: Option<Duration>,
}

impl WebhookAnswer {
    /// What that means for an event. The server can refuse an event; that there is no such page, or no access to it, is
    /// not about the event, and an operator can change it.
    pub(super) fn outcome(self) -> EachOutcome {
        let Self { status, after } = self;
        let error = format!("the server answered {status}");
        match status {
            _ if status.is_success() => EachOutcome::Delivered,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                EachOutcome::Failed(anyhow!(error), after)
            }
            StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::NOT_FOUND
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::PROXY_AUTHENTICATION_REQUIRED
            | StatusCode::REQUEST_TIMEOUT => EachOutcome::Failed(anyhow!(error), None),
            _ if status.is_client_error() => EachOutcome::Refused(error),
            _ => EachOutcome::Failed(anyhow!(error), None),
        }
    }
}

/// How long a server asks to wait: a number of seconds, or a date (RFC 9110, 10.2.3).
fn retry_after(value: &HeaderValue, now: Timestamp) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Some(Duration::from_micros(Timestamp::from_micros(date.as_microsecond()).since(now).as_micros()))
}

fn bearer(file: &Path) -> anyhow::Result<HeaderValue> {
    let shown = file.display();
    let token = std::fs::read_to_string(file).with_context(|| format!("cannot read `{shown}`"))?;
    let mut bearer = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
        .with_context(|| format!("`{shown}` has no token"))?;
    bearer.set_sensitive(true);
    Ok(bearer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_answer_means() {
        #[track_caller]
        fn check(status: u16, after: Option<u64>, want: &str) {
            let after = after.map(Duration::from_secs);
            let answer = WebhookAnswer { status: StatusCode::from_u16(status).unwrap(), after };
            let outcome = match answer.outcome() {
                EachOutcome::Delivered => "delivered".to_owned(),
                EachOutcome::Refused(_) => "refused".to_owned(),
                EachOutcome::Failed(_, after) => format!("again {after:?}"),
            };
            assert_eq!(outcome, want, "{status}");
        }
        [200, 201, 204].iter().for_each(|status| check(*status, Some(9), "delivered"));
        [400, 409, 410, 413, 422].iter().for_each(|status| check(*status, Some(9), "refused"));
        [301, 401, 403, 404, 405, 408, 500, 502, 504].iter().for_each(|s| check(*s, Some(9), "again None"));
        [429, 503].iter().for_each(|status| check(*status, Some(9), "again Some(9s)"));
        check(429, None, "again None");
    }

    #[test]
    fn a_server_says_when_to_come_again_in_seconds_or_as_a_date() {
        let now = Timestamp::from_secs(1_445_412_400);
        let check = |text: &str, want: Option<u64>| {
            let value = HeaderValue::from_str(text).unwrap();
            assert_eq!(retry_after(&value, now), want.map(Duration::from_secs), "{text}");
        };
        check("120", Some(120));
        check("Wed, 21 Oct 2015 07:28:00 GMT", Some(80));
        check("Wed, 21 Oct 2015 07:00:00 GMT", Some(0));
        check("soon", None);
        check("-1", None);
    }
}
