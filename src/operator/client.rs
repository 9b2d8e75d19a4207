//! The connection to the API server: every request is counted, bounded in time
//! and, if it changes something, fenced by the leadership.
//!
//! ```text
//! Api<K> ▸ newest ▸ Counted ▸ Bounded ▸ Fenced ▸ (faults, in tests) ▸ kube: auth, TLS, HTTP
//! ```
//!
//! A request that the fence refuses or the clock cuts short is counted too. The
//! fence stands next to the wire, so that no waiting of ours lies between its
//! answer and the sending. What HTTP itself has queued by then, `Connections`
//! hold back.
//!
//! A test that injects faults puts its layer where the drawing shows it:
//! `guard(ClientBuilder::try_from(configured(config))?.with_layer(&faults), …)`.

mod bound;
mod call;
mod connections;
mod count;
mod fence;
mod newest;

use std::time::Duration;

use http::{HeaderValue, Request, Response, header::USER_AGENT};
use hyper::body::Bytes;
use kube::{
    Client, Config,
    client::{Body, ClientBuilder},
};
use tower::{BoxError, Service, layer::layer_fn, util::MapRequestLayer};

use super::lease::Leadership;
use crate::telemetry::Metrics;
use bound::Bounded;
use connections::Connections;
use count::Counted;
use fence::Fenced;
pub use fence::{NotLeader, is_fenced};
use newest::newest;

/// How long a request may take; a watch, until it begins to stream.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

const AGENT: &str = concat!("cachedservice-operator/", env!("CARGO_PKG_VERSION"));

/// A client for this cluster. Needs a running tokio runtime.
///
/// # Errors
///
/// When the configuration has unusable certificates or credentials.
pub fn connect(config: Config, leadership: &Leadership, metrics: &Metrics) -> kube::Result<Client> {
    let connections = Connections::new(leadership.clone());
    let connection = ClientBuilder::try_from((configured(config), connections))?;
    Ok(guard(connection, leadership, metrics, REQUEST_TIMEOUT))
}

/// The configuration with our name for the audit log, and without the hidden
/// retries of kube: they would send a write again after the fence has let it
/// pass, and keep a reconcile waiting that has its own backoff.
#[must_use]
pub fn configured(mut config: Config) -> Config {
    config.headers.push((USER_AGENT, HeaderValue::from_static(AGENT)));
    config.default_retry = false;
    config
}

/// Puts our layers around a connection.
pub fn guard<S, B>(
    connection: ClientBuilder<S>,
    leadership: &Leadership,
    metrics: &Metrics,
    timeout: Duration,
) -> Client
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError> + Send + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    connection
        .with_layer(&layer_fn(|inner| Fenced::new(inner, leadership.clone())))
        .with_layer(&layer_fn(|inner| Bounded::new(inner, timeout)))
        .with_layer(&layer_fn(|inner| Counted::new(inner, metrics.clone())))
        .with_layer(&MapRequestLayer::new(newest))
        .build()
}

#[cfg(test)]
mod tests;
