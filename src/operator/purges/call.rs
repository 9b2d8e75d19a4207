//! Handing the record to a sidecar.

use std::{error::Error, time::Duration};

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
use tokio::time::timeout;

use super::{
    answer::{Acknowledged, acknowledged},
    pods::Replica,
};

/// A sidecar that takes longer is asked again.
const PATIENCE: Duration = Duration::from_secs(1);
/// Of an answer, so much is read.
const LARGEST_ANSWER: usize = 4096;

/// Asks sidecars.
#[derive(Clone)]
pub struct Caller(Client<HttpConnector, Full<Bytes>>);

impl Default for Caller {
    fn default() -> Self {
        // Purges are far apart: a connection that is kept would be one to a pod that is gone.
        Self(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http())
    }
}

/// A record, as it is handed out.
#[derive(Clone)]
pub(super) struct Handed {
    /// As it stands in the ConfigMap.
    pub(super) text: Bytes,
    /// The number of its last purge.
    pub(super) last: u64,
}

impl Caller {
    /// Hands a record to the sidecar of a pod; what that has done by it.
    ///
    /// # Errors
    /// Why there is no acknowledgement, in words.
    pub(super) async fn hand(
        &self,
        replica: &Replica,
        token: &str,
        record: Handed,
    ) -> Result<Acknowledged, String> {
        match timeout(PATIENCE, self.ask(replica, token, record)).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
        }
    }

    async fn ask(&self, replica: &Replica, token: &str, record: Handed) -> Result<Acknowledged, String> {
        let address = replica.address.ok_or("it has no address yet")?;
        let mut authorization = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| "the token in the Secret has characters that none has".to_owned())?;
        authorization.set_sensitive(true);
        let request = Request::post(format!("http://{address}/purges"))
            .header(AUTHORIZATION, authorization)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(record.text))
            .map_err(|error| error.to_string())?;
        let answer = self.0.request(request).await.map_err(|error| innermost(&error))?;
        let status = answer.status();
        if !status.is_success() {
            // Its body is for nobody: who answers need not be a sidecar.
            return Err(format!("it answers {status}"));
        }
        let body = Limited::new(answer.into_body(), LARGEST_ANSWER).collect().await;
        let body = body.map_err(|error| innermost(&*error))?.to_bytes();
        acknowledged(&body, replica, record.last)
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
