//! The way to the collector, and what is told where it is blocked.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{SpanData, SpanExporter},
};
use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    time::{Instant, timeout},
};

/// How long a batch of spans may take, with all tries: the default of OpenTelemetry.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest answer that is read.
const LONGEST_ANSWER: usize = 64 * 1024;
/// How often it is told that a collector does not take spans.
const TOLD_EVERY: Duration = Duration::from_mins(10);

/// Sends requests by the connection stack that leads to the API server too.
#[derive(Clone, Debug)]
pub(super) struct Collector {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// Connections need its timers and sockets, and the exporter's thread is none of its own.
    runtime: Handle,
    /// Why the last request failed; the exporter's own error does not say it.
    cause: Arc<Mutex<String>>,
}

impl Collector {
    pub(super) fn new(runtime: Handle) -> Self {
        let connector =
            HttpsConnectorBuilder::new().with_webpki_roots().https_or_http().enable_http1().build();
        Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            runtime,
            cause: Arc::default(),
        }
    }

    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
        let answer = self.client.request(request.map(Full::new)).await?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, LONGEST_ANSWER).collect().await?.to_bytes();
        Ok(http::Response::from_parts(head, body))
    }
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
        let collector = self.clone();
        let sending = async move { timeout(TIMEOUT, collector.send(request)).await };
        let answer = match self.runtime.spawn(sending).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(format!("no answer within {TIMEOUT:?}").into()),
            Err(ended) => Err(ended.into()),
        };
        *self.cause.lock() = match &answer {
            Ok(answer) => format!("it answered {}", answer.status()),
            Err(error) => chain(error.as_ref()),
        };
        answer
    }
}

/// An error with what caused it: hyper's own says no more than that connecting failed.
fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// An exporter that tells of an outage once, and then now and again.
pub(super) struct Reporting<E> {
    exporter: E,
    collector: Collector,
    outage: Mutex<Outage>,
}

impl<E> Reporting<E> {
    pub(super) fn new(exporter: E, collector: Collector) -> Self {
        Self { exporter, collector, outage: Mutex::default() }
    }
}

impl<E: fmt::Debug> fmt::Debug for Reporting<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.exporter.fmt(f)
    }
}

impl<E: SpanExporter> SpanExporter for Reporting<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let result = self.exporter.export(batch).await;
        let news = self.outage.lock().next(result.is_ok(), spans, Instant::now());
        match news {
            Some(News::Lost { spans }) => tracing::warn!(
                cause = *self.collector.cause.lock(),
                spans,
                "the collector of traces does not take spans, which are dropped; told every {TOLD_EVERY:?}"
            ),
            Some(News::Over { spans }) => {
                tracing::info!(spans, "the collector takes spans again; these were dropped meanwhile");
            }
            None => {}
        }
        result
    }

    fn shutdown_with_timeout(&self, limit: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(limit)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// For how long and how much has been lost.
#[derive(Debug, Default)]
struct Outage {
    told: Option<Instant>,
    lost: usize,
}

/// What is worth a line in the log.
#[derive(Debug, PartialEq, Eq)]
enum News {
    /// Spans are being lost, so many since the outage began.
    Lost { spans: usize },
    /// They arrive again.
    Over { spans: usize },
}

impl Outage {
    fn next(&mut self, sent: bool, spans: usize, now: Instant) -> Option<News> {
        if sent {
            let Self { told, lost } = std::mem::take(self);
            return told.map(|_| News::Over { spans: lost });
        }
        self.lost = self.lost.saturating_add(spans);
        if self.told.is_some_and(|told| now.duration_since(told) < TOLD_EVERY) {
            return None;
        }
        self.told = Some(now);
        Some(News::Lost { spans: self.lost })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_told_at_its_start_every_ten_minutes_and_at_its_end() {
        let mut outage = Outage::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(outage.next(true, 5, at(0)), None);
        assert_eq!(outage.next(false, 5, at(5)), Some(News::Lost { spans: 5 }));
        for second in 6..605 {
            assert_eq!(outage.next(false, 1, at(second)), None, "{second}");
        }
        assert_eq!(outage.next(false, 1, at(605)), Some(News::Lost { spans: 605 }));
        assert_eq!(outage.next(true, 5, at(606)), Some(News::Over { spans: 605 }));
        assert_eq!(outage.next(true, 5, at(607)), None);
    }
}
