//! The fence: what changes something passes only while this process leads.

use std::{
    future::poll_fn,
    pin::pin,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use http::{Request, Response};
use kube::client::Body;
use thiserror::Error;
use tower::{BoxError, Service};

use super::{call::Call, connections::passed};
use crate::operator::lease::Leadership;

/// Why a write was not carried out: this process does not lead. Nothing is to
/// be done about it here; the leader does the work.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NotLeader {
    /// The request was refused before it was sent.
    #[error("this replica does not lead: {verb} {resource} was not sent; the leader takes care of it")]
    NotSent {
        /// As in RBAC, or `apply`.
        verb: &'static str,
        /// The plural of the kind, with the subresource.
        resource: String,
    },
    /// The lead ended before there was an answer. The request was given up: it
    /// may or may not have reached the API server.
    #[error(
        "this replica does not lead any more: {verb} {resource} was given up before its answer; the leader \
         takes care of it"
    )]
    GivenUp {
        /// As in RBAC, or `apply`.
        verb: &'static str,
        /// The plural of the kind, with the subresource.
        resource: String,
    },
}

/// Whether a request failed for the only reason that this process does not
/// lead.
#[must_use]
pub fn is_fenced(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Service(error) if error.is::<NotLeader>())
}

#[derive(Debug)]
pub(super) struct Fenced<S> {
    inner: S,
    leadership: Leadership,
}

impl<S> Fenced<S> {
    pub(super) fn new(inner: S, leadership: Leadership) -> Self {
        Self { inner, leadership }
    }
}

impl<S, B> Service<Request<Body>> for Fenced<S>
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
        // The election must write to win.
        if !call.mutating || call.is_for_leases() {
            return Box::pin(self.inner.call(request));
        }
        let Call { verb, resource, .. } = call;
        let terms_over = self.leadership.terms_over();
        let Some(term) = self.leadership.term() else {
            return Box::pin(async move { Err(NotLeader::NotSent { verb, resource }.into()) });
        };
        let leadership = self.leadership.clone();
        let answer = passed(terms_over, self.inner.call(request));
        Box::pin(async move {
            let mut ended = pin!(leadership.ended(term));
            let mut answer = pin!(answer);
            // The request may still wait for a connection. Each step towards
            // the wire asks the clock first: after a freeze the process runs
            // on before its timers fire.
            poll_fn(|context| {
                if leadership.term() != Some(term) || ended.as_mut().poll(context).is_ready() {
                    let resource = resource.clone();
                    return Poll::Ready(Err(NotLeader::GivenUp { verb, resource }.into()));
                }
                answer.as_mut().poll(context)
            })
            .await
        })
    }
}
