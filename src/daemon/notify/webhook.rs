//! Posts JSON to a URL. Redirects are not followed. Certificates are checked against the system's store, which is read
//! each time.

use std::path::Path;

use anyhow::{Context, ensure};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use hyper::{Request, Uri};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

const AGENT: &str = concat!("banstream/", env!("CARGO_PKG_VERSION"));

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
    let mut request = Request::post(url.clone())
        .header(USER_AGENT, AGENT)
        .header(CONTENT_TYPE, "application/json")
        .body(Full::<Bytes>::from(json))?;
    request.headers_mut().extend(headers.clone());
    if let Some(file) = token_file {
        request.headers_mut().insert(AUTHORIZATION, bearer(file)?);
    }
    let client = Client::builder(TokioExecutor::new());
    let response = if url.scheme_str() == Some("https") {
        let roots = HttpsConnectorBuilder::new()
            .with_native_roots()
            .context("the system has no trusted certificates")?;
        client.build(roots.https_only().enable_http1().build()).request(request).await?
    } else {
        client.build_http().request(request).await?
    };
    let status = response.status();
    ensure!(status.is_success(), "the server answered {status}");
    Ok(())
}

fn bearer(file: &Path) -> anyhow::Result<HeaderValue> {
    let shown = file.display();
    let token = std::fs::read_to_string(file).with_context(|| format!("cannot read `{shown}`"))?;
    let mut bearer = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
        .with_context(|| format!("`{shown}` has no token"))?;
    bearer.set_sensitive(true);
    Ok(bearer)
}
