//! Counts the requests to the API server, times their answers, and makes a span
//! of each.

use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http::{Request, Response};
use kube::client::Body;
use tokio::time::Instant;
use tower::{BoxError, Service};
use tracing::{Instrument, Span};

use super::{bound::TimedOut, call::Call, fence::NotLeader};
use crate::telemetry::{
    Metrics,
    traces::{request_ended, request_span},
};

/// In place of a status where nobody waited for it.
const CANCELLED: &str = "cancelled";

#[derive(Debug)]
pub(super) struct Counted<S> {
    inner: S,
    metrics: Metrics,
}

impl<S> Counted<S> {
    pub(super) fn new(inner: S, metrics: Metrics) -> Self {
        Self { inner, metrics }
    }
}

impl<S, B> Service<Request<Body>> for Counted<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let call = Call::of(&request);
        let span = request_span(call.verb, &call.resource);
        let pending = Pending {
            call,
            span: span.clone(),
            metrics: self.metrics.clone(),
            asked: Instant::now(),
            answered: false,
        };
        let answer = self.inner.call(request);
        let answer = async move {
            let answer = answer.await;
            pending.ended(&answer);
            answer
        };
        Box::pin(answer.instrument(span))
    }
}

/// A request without an answer so far; counts as cancelled if its future is
/// dropped before there is one.
struct Pending {
    call: Call,
    span: Span,
    metrics: Metrics,
    asked: Instant,
    answered: bool,
}

impl Pending {
    fn ended<B>(mut self, answer: &Result<Response<B>, BoxError>) {
        self.answered = true;
        let code = match answer {
            Ok(response) => response.status().as_str().to_owned(),
            Err(error) if error.is::<NotLeader>() => "fenced".to_owned(),
            Err(error) if error.is::<TimedOut>() => "timeout".to_owned(),
            Err(_) => "error".to_owned(),
        };
        let Call { verb, resource, .. } = &self.call;
        self.metrics.api_request(verb, resource, &code);
        request_ended(&self.span, &code);
        // How long a watch takes to begin says nothing, and a request that was
        // not sent would pull the figures down.
        if !self.call.is_watch() && code != "fenced" {
            self.metrics.api_request_took(verb, self.asked.elapsed());
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.answered {
            self.metrics.api_request(self.call.verb, &self.call.resource, CANCELLED);
            request_ended(&self.span, CANCELLED);
        }
    }
}
