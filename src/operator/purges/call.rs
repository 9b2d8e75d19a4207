//! Handing the record to a sidecar.

use std::{error::Error, net::SocketAddr, time::Duration};

use http::{
    HeaderValue, Request,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::Deserialize;
use tokio::time::timeout;

/// A sidecar that takes longer is asked again.
const PATIENCE: Duration = Duration::from_secs(1);
/// Of an answer, so much is read.
const LARGEST_ANSWER: usize = 4096;
/// Of an answer that refuses, so many characters are told.
const WORDS: usize = 200;

/// Asks sidecars.
#[derive(Clone)]
pub struct Caller(Client<HttpConnector, Full<Bytes>>);

/// What a sidecar acknowledges.
#[derive(Deserialize)]
struct Acknowledged {
    epoch: u64,
}

impl Default for Caller {
    fn default() -> Self {
        // Purges are far apart: a connection that is kept would be one to a pod that is gone.
        Self(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http())
    }
}

impl Caller {
    /// Hands a record to the sidecar at `address`; up to which number it has purged.
    ///
    /// # Errors
    /// Why there is no acknowledgement, in words.
    pub async fn hand(&self, address: SocketAddr, token: &str, record: Bytes) -> Result<u64, String> {
        match timeout(PATIENCE, self.ask(address, token, record)).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
        }
    }

    async fn ask(&self, address: SocketAddr, token: &str, record: Bytes) -> Result<u64, String> {
        let mut authorization = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| "the token in the Secret has characters that none has".to_owned())?;
        authorization.set_sensitive(true);
        let request = Request::post(format!("http://{address}/purges"))
            .header(AUTHORIZATION, authorization)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(record))
            .map_err(|error| error.to_string())?;
        let answer = self.0.request(request).await.map_err(|error| innermost(&error))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LARGEST_ANSWER).collect().await;
        let body = body.map_err(|error| innermost(&*error))?.to_bytes();
        if !status.is_success() {
            let words: String = String::from_utf8_lossy(&body).trim().chars().take(WORDS).collect();
            return Err(format!("it answers {status}: {words}"));
        }
        let acknowledged: Acknowledged =
            serde_json::from_slice(&body).map_err(|error| format!("it answers no number: {error}"))?;
        Ok(acknowledged.epoch)
    }
}

/// What was wrong in the end: the layers above say that something was.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
