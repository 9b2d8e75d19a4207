//! A time-out for requests, from the sending to the last byte of the answer: a
//! connection that died without a word looks like a slow server for ever.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use kube::client::Body;
use thiserror::Error;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};
use tower::{BoxError, Service};

use super::call::Call;

/// The API server did not answer in time.
#[derive(Clone, Debug, Error)]
#[error(
    "no full answer of the API server to {verb} {resource} within {limit:?}: it may be overloaded or cut off; \
     whether it did what was asked is unknown"
)]
pub(super) struct TimedOut {
    verb: &'static str,
    resource: String,
    limit: Duration,
}

#[derive(Debug)]
pub(super) struct Bounded<S> {
    inner: S,
    limit: Duration,
}

impl<S> Bounded<S> {
    pub(super) fn new(inner: S, limit: Duration) -> Self {
        Self { inner, limit }
    }
}

impl<S, B> Service<Request<Body>> for Bounded<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = Response<BoundedBody<B>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let deadline = Instant::now() + self.limit;
        let call = Call::of(&request);
        // A watch streams for minutes; kube watches over its silence.
        let streams = call.is_watch();
        let late = TimedOut { verb: call.verb, resource: call.resource, limit: self.limit };
        let answer = timeout_at(deadline, self.inner.call(request));
        Box::pin(async move {
            match answer.await {
                Ok(answer) => Ok(answer?.map(|body| BoundedBody {
                    body,
                    deadline: (!streams).then(|| (Box::pin(sleep_until(deadline)), late)),
                })),
                Err(_) => Err(late.into()),
            }
        })
    }
}

/// A body that fails when its deadline passes before its end.
#[derive(Debug)]
pub(super) struct BoundedBody<B> {
    body: B,
    deadline: Option<(Pin<Box<Sleep>>, TimedOut)>,
}

impl<B> HttpBody for BoundedBody<B>
where
    B: HttpBody + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let Some((sleep, late)) = &mut self.deadline else { return Poll::Pending };
        sleep.as_mut().poll(context).map(|()| Some(Err(late.clone().into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
