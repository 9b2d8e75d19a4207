//! Asking a sidecar, at its admin port.

use std::{error::Error, net::SocketAddr, time::Duration};

use http::{
    HeaderValue, Method, Request,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::time::timeout;

use super::reading::Reading;

/// A sidecar that takes longer is asked again later.
const PATIENCE: Duration = Duration::from_secs(1);
/// Of an answer, so much is read.
const LARGEST_ANSWER: usize = 128 << 10;

/// Asks sidecars.
#[derive(Clone)]
pub struct Caller(Client<HttpConnector, Full<Bytes>>);

impl Default for Caller {
    fn default() -> Self {
        // Questions are far apart: a connection that is kept would be one to a pod that is gone.
        Self(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http())
    }
}

impl Caller {
    /// Hands a record of purges to the sidecar at `address`; what it answers.
    ///
    /// # Errors
    /// Why there is no answer, in words.
    pub async fn hand(&self, address: SocketAddr, token: &str, record: Bytes) -> Result<Bytes, String> {
        self.ask(Method::POST, address, "/purges", token, record).await
    }

    /// Has the sidecar at `address` delete keys in Redis; what it answers.
    ///
    /// # Errors
    /// Why there is no answer, in words.
    pub async fn delete(&self, address: SocketAddr, token: &str, order: Bytes) -> Result<Bytes, String> {
        self.ask(Method::POST, address, "/deletions", token, order).await
    }

    /// What the sidecar at `address` tells of itself.
    ///
    /// # Errors
    /// Why it does not, in words.
    pub async fn read(&self, address: SocketAddr, token: &str) -> Result<Reading, String> {
        let told = self.ask(Method::GET, address, "/status", token, Bytes::new()).await?;
        serde_json::from_slice(&told).map_err(|_| "what it answers is no status".to_owned())
    }

    async fn ask(
        &self,
        method: Method,
        address: SocketAddr,
        path: &str,
        token: &str,
        body: Bytes,
    ) -> Result<Bytes, String> {
        let mut authorization = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| "the token in the Secret has characters that none has".to_owned())?;
        authorization.set_sensitive(true);
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{address}{path}"))
            .header(AUTHORIZATION, authorization)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| error.to_string())?;
        match timeout(PATIENCE, self.send(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
        }
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Bytes, String> {
        let answer = self.0.request(request).await.map_err(|error| innermost(&error))?;
        let status = answer.status();
        if !status.is_success() {
            // Its body is for nobody: who answers need not be a sidecar.
            return Err(format!("it answers {status}"));
        }
        let body = Limited::new(answer.into_body(), LARGEST_ANSWER).collect().await;
        Ok(body.map_err(|error| innermost(&*error))?.to_bytes())
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
