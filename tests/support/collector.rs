//! A collector of traces: takes what the operator sends by OTLP.

use std::{
    net::Ipv4Addr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1::Span,
};
use prost::Message;
use tokio::{net::TcpListener, task::JoinHandle};

/// What arrived.
#[derive(Default)]
pub struct Received {
    pub spans: Vec<Span>,
    /// The attributes of whoever sent them.
    pub resource: Vec<KeyValue>,
    /// Of the last request.
    pub headers: HeaderMap,
}

/// A running collector; gone when dropped.
pub struct Collector {
    received: Arc<Mutex<Received>>,
    /// Where to send: the value of `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub endpoint: String,
    server: JoinHandle<()>,
}

impl Collector {
    /// Listens on loopback.
    pub async fn start() -> Self {
        let received = Arc::<Mutex<Received>>::default();
        let router = Router::new().route("/v1/traces", post(take)).with_state(received.clone());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port on loopback");
        let address = listener.local_addr().expect("its address");
        let server = tokio::spawn(async move { axum::serve(listener, router).await.expect("a collector") });
        Self { received, endpoint: format!("http://{address}"), server }
    }

    /// What has arrived so far.
    pub fn received<T>(&self, look: impl FnOnce(&Received) -> T) -> T {
        look(&self.received.lock().expect("no request has panicked"))
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn take(
    State(received): State<Arc<Mutex<Received>>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(), (StatusCode, String)> {
    let request = ExportTraceServiceRequest::decode(body)
        .map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?;
    let mut received = received.lock().expect("no request has panicked");
    received.headers = headers;
    for group in request.resource_spans {
        received.resource = group.resource.unwrap_or_default().attributes;
        received.spans.extend(group.scope_spans.into_iter().flat_map(|scope| scope.spans));
    }
    Ok(())
}

/// The value of an attribute, as text; empty if there is none.
pub fn attribute(attributes: &[KeyValue], key: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == key);
    match found.and_then(|attribute| attribute.value.as_ref()?.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(other) => format!("{other:?}"),
        None => String::new(),
    }
}
