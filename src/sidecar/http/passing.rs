//! Requests past the cache, and connections that change their protocol.

use std::{future::Future, net::IpAddr, sync::Arc};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{CONNECTION, CONTENT_TYPE, TE, UPGRADE},
    uri::PathAndQuery,
};
use hyper::body::Incoming;

use super::{
    Front,
    body::Body,
    front::unreachable_app,
    origin::{prepare, scheme},
    unattended::Unattended,
};
use crate::sidecar::{
    cache::{
        cache_status::{Forwarded, Status},
        hop::remove_hop_by_hop,
        invalidation::invalidated,
        key::Key,
    },
    rules::ignored_by_any,
    upstream::{Fault, body::Answer, request::is_grpc},
};

/// A request, as far as it matters for what it changes.
struct Change {
    method: Method,
    scheme: &'static str,
    host: String,
    target: PathAndQuery,
}

impl Front {
    /// Past the cache; what it changes is not given any more.
    pub(super) async fn pass_on(
        self: &Arc<Self>,
        mut request: Request<Incoming>,
        host: &str,
        target: &PathAndQuery,
        peer: IpAddr,
        why: Forwarded,
    ) -> Response<Body> {
        let scheme = scheme(request.headers());
        let change = (!request.method().is_safe()).then(|| Change {
            method: request.method().clone(),
            scheme,
            host: host.to_owned(),
            target: target.clone(),
        });
        let upgrade = request.headers().get(UPGRADE).cloned();
        let client = upgrade.as_ref().map(|_| hyper::upgrade::on(&mut request));
        // The edge leaves nothing of it but that trailers are taken.
        let takes_trailers = request.headers().contains_key(TE);
        let is_grpc = request.version() == Version::HTTP_2 && is_grpc(request.headers());
        prepare(request.headers_mut(), host, scheme, peer);
        if takes_trailers {
            request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
        }
        if let Some(protocol) = upgrade {
            request.headers_mut().append(CONNECTION, HeaderValue::from_static("upgrade"));
            request.headers_mut().insert(UPGRADE, protocol);
        }
        let answered = match change {
            // A stream ends with its client, which may take any time.
            Some(change) if is_grpc => self.clone().change(&change, request).await,
            Some(change) => self.change_unattended(change, request).await,
            None => self.origin.pass_on(request).await,
        };
        let mut response = match answered {
            Ok(response) => response,
            Err(fault) if is_grpc => return unavailable(&fault),
            Err(fault) => return unreachable_app(&fault),
        };
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return switch(client, response);
        }
        remove_hop_by_hop(response.headers_mut());
        let status = Status::Forwarded { why, answered: None, stored: false };
        status.add_to(response.headers_mut());
        response.map(Body::Streamed)
    }

    /// Passes on a request that may change something.
    async fn change(
        self: Arc<Self>,
        change: &Change,
        request: Request<Incoming>,
    ) -> Result<Response<Answer>, Fault> {
        let answered = self.origin.pass_on(request).await;
        if let Ok(response) = &answered {
            let keys = self.changed(change, response.status(), response.headers());
            self.levels.forget(keys).await;
        }
        answered
    }

    /// The same to its end: the application may do it though the client has left before the answer came.
    fn change_unattended(
        self: &Arc<Self>,
        change: Change,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<Answer>, Fault>> + Send + use<> {
        let (front, change) = (self.clone(), Arc::new(change));
        let (other, assumed) = (self.clone(), change.clone());
        let rest = async move { front.change(&change, request).await };
        Unattended::new(rest, move || {
            let keys = other.changed(&assumed, StatusCode::OK, &HeaderMap::new());
            drop(other.levels.forget(keys));
        })
    }

    /// The keys of what does not hold any more after an answer to a request.
    fn changed(&self, change: &Change, status: StatusCode, answer: &HeaderMap) -> Vec<Key> {
        let Change { method, scheme, host, target } = change;
        let settings = self.settings();
        let mut keys = Vec::new();
        for path in invalidated(method, scheme, host, target, status, answer) {
            // Whichever way it was come by.
            for ignored in ignored_by_any(&settings.rules, path.path()) {
                keys.extend(["http", "https"].map(|scheme| Key::of(scheme, host, &path, ignored)));
            }
        }
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}

/// A failure in the words of gRPC: its clients read no others. 14 is UNAVAILABLE.
fn unavailable(fault: &Fault) -> Response<Body> {
    let mut response = Response::new(Body::from(Bytes::new()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from_static("14"));
    headers.insert("grpc-message", HeaderValue::from_static(fault.words()));
    response
}

/// Both sides speak another protocol from here; their bytes are passed on until one ends (RFC 9110 §7.8).
fn switch(client: Option<hyper::upgrade::OnUpgrade>, mut response: Response<Answer>) -> Response<Body> {
    let app = hyper::upgrade::on(&mut response);
    if let Some(client) = client {
        tokio::spawn(async move {
            let Ok((client, app)) = tokio::try_join!(client, app) else { return };
            let [mut client, mut app] = [client, app].map(hyper_util::rt::TokioIo::new);
            let _ = tokio::io::copy_bidirectional(&mut client, &mut app).await;
        });
    }
    response.map(|_| Body::from(Bytes::new()))
}
