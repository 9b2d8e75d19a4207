//! Between clients and the rest: what is malformed, unclear or too much ends here.
//!
//! ```text
//!  client ─▶ wire ─▶ hyper ─▶ request ─▶ front
//!            scan: head, framing   one host, no fields of the connection
//! ```

pub mod framing;
pub mod head;
pub mod limits;
pub mod parking;
pub mod patience;
pub mod refusal;
pub mod request;
pub mod scan;
pub mod shared;
pub mod streams;
pub mod unwritten;
pub mod wire;

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{
    HeaderValue, Request, Response, StatusCode, Version,
    header::{CONNECTION, UPGRADE},
};
use hyper::body::Incoming;
use tokio::sync::Semaphore;

use self::{
    refusal::Refusal,
    shared::Shared,
    streams::{Of, Taken},
    wire::REFUSED,
};
use super::{Front, body::Body};
use crate::settings::memory::STREAM;

/// A client's connection, as the service of its requests knows it.
#[derive(Clone)]
pub struct Client {
    /// From where it comes.
    pub peer: SocketAddr,
    /// Where it came in.
    pub local: SocketAddr,
    /// What its wire is told.
    pub shared: Arc<Shared>,
    /// The places that connections have, and the requests of HTTP/2: each is held in memory.
    pub places: Arc<Semaphore>,
}

impl Client {
    /// Answers a request of it.
    pub async fn answer(self, front: Arc<Front>, request: Request<Incoming>) -> Response<Taken> {
        let (shared, version) = (self.shared.clone(), request.version());
        let stream = if version == Version::HTTP_2 {
            let place = self.places.clone().try_acquire_many_owned(STREAM).ok();
            let has_place = place.is_some();
            let stream = Of::Http2(shared.streams().begin(place));
            if !has_place {
                return crowded().map(|body| Taken::new(body, stream));
            }
            stream
        } else {
            Of::Http1(shared)
        };
        self.checked(front, request).await.map(|body| Taken::new(body, stream))
    }

    async fn checked(self, front: Arc<Front>, request: Request<Incoming>) -> Response<Body> {
        self.shared.begin();
        let version = request.version();
        let (mut parts, body) = request.into_parts();
        // The wire waits for what becomes of all that have it.
        let is_awaited = version == Version::HTTP_11 && parts.headers.contains_key(UPGRADE);
        if parts.method.as_str() == REFUSED {
            return closing(self.shared.refusal(), version);
        }
        let answer = match request::settle(&mut parts, self.local) {
            Err(refusal) => closing(refusal, version),
            Ok(()) => ask(&front, Request::from_parts(parts, body), self.peer).await,
        };
        if is_awaited {
            self.shared.decide(answer.status() == StatusCode::SWITCHING_PROTOCOLS);
        }
        match self.shared.refusal_of_body() {
            Some(refusal) => closing(refusal, version),
            None => answer,
        }
    }
}

/// There are too many requests of HTTP/2. Without a body, so that it is over when it is said: for one, a client could give
/// no room (RFC 9113 §6.9.1).
fn crowded() -> Response<Body> {
    let mut answer = Response::new(Body::from(Bytes::new()));
    *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    answer
}

/// What the front says to a request that is in order.
async fn ask(front: &Arc<Front>, request: Request<Incoming>, peer: SocketAddr) -> Response<Body> {
    let (version, asks_upgrade) = (request.version(), request.headers().contains_key(UPGRADE));
    // Boxed: a connection keeps the room for it also while it is idle.
    let answer = Box::pin(front.answer(request, peer.ip().to_canonical())).await;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS && !asks_upgrade {
        // RFC 9110 §15.2.2: what follows it would be taken for answers to others.
        let unasked = "the application has changed the protocol, which nobody has asked for";
        return closing(Refusal::with(StatusCode::BAD_GATEWAY, unasked), version);
    }
    answer
}

/// A refusal, after which a connection of HTTP/1 ends: what follows may be anything.
fn closing(refusal: Refusal, version: Version) -> Response<Body> {
    let mut answer = refusal.answer();
    if version != Version::HTTP_2 {
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}
