//! What the preStop hook orders.

use std::{net::Ipv4Addr, path::Path, time::Duration};

use bytes::Bytes;
use http::{Request, header::AUTHORIZATION};
use http_body_util::{BodyExt, Empty};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::time::{sleep, timeout};

use super::Token;
use crate::settings::Settings;

/// How long the running sidecar may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Has the sidecar that runs by these settings drain, and waits as long as they say.
///
/// # Errors
/// When it does not do so.
pub async fn drain(settings: &Settings) -> Result<(), String> {
    let token = Token::of(settings.token_file.as_deref().map(Path::new));
    let token = token.text().map_err(|error| format!("no token: {error}"))?;
    let request = Request::post(format!("http://{}:{}/drain", Ipv4Addr::LOCALHOST, settings.admin_port))
        .header(AUTHORIZATION, format!("Bearer {token}"))
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let client: Client<HttpConnector, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let answer = timeout(PATIENCE, client.request(request)).await;
    let answer = answer.map_err(|_| format!("no answer within {} s", PATIENCE.as_secs()))?;
    let answer = answer.map_err(|error| format!("the sidecar is not reached: {error}"))?;
    if !answer.status().is_success() {
        let status = answer.status();
        let words = answer.into_body().collect().await.map(http_body_util::Collected::to_bytes);
        let words = words.unwrap_or_default();
        return Err(format!("{status}: {}", String::from_utf8_lossy(&words).trim_end()));
    }
    sleep(Duration::from_secs(settings.drain_seconds)).await;
    Ok(())
}
