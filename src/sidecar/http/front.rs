//! What becomes of a request: answered from the cache, or by the application.

use std::{net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, IF_RANGE, RANGE, TRANSFER_ENCODING, UPGRADE},
    request, response,
    uri::PathAndQuery,
};
use http_body::Body as _;
use hyper::body::Incoming;
use jiff::Timestamp;

use super::{
    body::{Body, Kept},
    flights::{Flight, Flights, Turn},
    origin::{Origin, prepare, remove_unkeyed, scheme},
};
use crate::{
    settings::{HttpCache, Rule},
    sidecar::{
        cache::{
            Exchange, NotStored, RequestDirectives, ResponseDirectives, Stored,
            cache_status::{CACHE_STATUS, Forwarded, Level, Status},
            hop::remove_hop_by_hop,
            invalidation::invalidated,
            key::Key,
            may_store,
            purges::{Epoch, Force, Target},
            reuse::Reuse,
            stored, tags,
            validation::{is_about, make_conditional, update},
        },
        memory::{Found, Memory},
        rules::rule,
    },
};

/// The cache in front of the application.
pub struct Front {
    settings: HttpCache,
    memory: Arc<Memory>,
    origin: Origin,
    flights: Flights,
}

/// A request that may be answered from the cache.
#[derive(Clone)]
struct Asked {
    key: Key,
    target: PathAndQuery,
    parts: request::Parts,
    directives: RequestDirectives,
    rule: Option<Rule>,
    peer: IpAddr,
    scheme: &'static str,
    host: String,
}

impl Front {
    /// In front of the application at `app_port`.
    #[must_use]
    pub fn new(settings: HttpCache, app_port: u16) -> Arc<Self> {
        let memory = Arc::new(Memory::new(settings.memory));
        Arc::new(Self { settings, memory, origin: Origin::at(app_port), flights: Flights::default() })
    }

    /// What is stored.
    #[must_use]
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Answers a request of `peer`.
    pub async fn answer(self: &Arc<Self>, request: Request<Incoming>, peer: IpAddr) -> Response<Body> {
        let Some(host) = host(&request) else {
            return refusal(StatusCode::BAD_REQUEST, "a request has to have one Host");
        };
        let target = request.uri().path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        let rule = rule(&self.settings.rules, target.path(), request.headers()).cloned();
        let why = match (request.method(), &rule) {
            (_, Some(rule)) if rule.bypass => Some(Forwarded::Bypass),
            (method, _) if !matches!(*method, Method::GET | Method::HEAD) => Some(Forwarded::Method),
            _ if request.headers().contains_key(UPGRADE) => Some(Forwarded::Bypass),
            // The body is not in the key, and the application may go by it.
            _ if !request.body().is_end_stream() => Some(Forwarded::Bypass),
            _ => None,
        };
        if let Some(why) = why {
            return self.pass_on(request, &host, &target, peer, why).await;
        }
        let scheme = scheme(request.headers());
        let ignored = rule.as_ref().map_or(&[][..], |rule| &rule.ignored_query);
        let key = Key::of(scheme, &host, &target, ignored);
        let directives = RequestDirectives::of(request.headers());
        let (mut parts, _) = request.into_parts();
        remove_unkeyed(&mut parts.headers);
        self.cached(Asked { key, target, parts, directives, rule, peer, scheme, host }).await
    }

    /// From the cache, if it has something that may be used.
    async fn cached(self: &Arc<Self>, asked: Asked) -> Response<Body> {
        loop {
            let now = Timestamp::now();
            let (why, stale) = match self.memory.get(&asked.key, &asked.parts.headers) {
                Found::Stored(stored) => match stored.reuse(&asked.directives, now) {
                    Reuse::Fresh => return hit(&stored, &asked, now),
                    Reuse::WhileRevalidated => {
                        self.revalidate(&asked, stored.clone());
                        return hit(&stored, &asked, now);
                    }
                    Reuse::IfError => (Forwarded::Stale, Some((stored, true))),
                    Reuse::Validate if stored.age(now) < stored.lifetime => {
                        (Forwarded::Request, Some((stored, false)))
                    }
                    Reuse::Validate => (Forwarded::Stale, Some((stored, false))),
                },
                Found::OtherVariants => (Forwarded::VaryMiss, None),
                Found::Nothing => (Forwarded::UriMiss, None),
            };
            if asked.directives.only_if_cached {
                // RFC 9111 §5.2.1.7.
                return refusal(StatusCode::GATEWAY_TIMEOUT, "it is not in the cache");
            }
            if asked.parts.method == Method::HEAD
                || asked.parts.headers.contains_key(RANGE) && stale.is_none()
            {
                return self.ask_as_is(&asked, why).await;
            }
            return match self.flights.turn(&asked.key).await {
                Turn::LookAgain => continue,
                Turn::Ask(flight) => self.ask(&asked, why, stale, Some(flight)).await,
                Turn::Alone => self.ask(&asked, why, stale, None).await,
            };
        }
    }

    /// Asks the application for the whole, and keeps what it answers if it may.
    async fn ask(
        self: &Arc<Self>,
        asked: &Asked,
        why: Forwarded,
        stale: Option<(Arc<Stored>, bool)>,
        flight: Option<Flight>,
    ) -> Response<Body> {
        let began = self.memory.epoch();
        let mut headers = asked.parts.headers.clone();
        prepare(&mut headers, &asked.host, asked.scheme, asked.peer);
        // The whole is asked for; the part, or that the client has it, is told from it.
        headers.remove(RANGE);
        headers.remove(IF_RANGE);
        if let Some((stored, _)) = &stale {
            make_conditional(&mut headers, &stored.headers);
        }
        let requested = Timestamp::now();
        let answered = self.origin.get(&asked.target, headers).await;
        let exchange = Exchange { requested, received: Timestamp::now() };
        let has_failed = answered.as_ref().map_or(true, |answer| answer.status().is_server_error());
        if let Some((stored, true)) = &stale
            && has_failed
        {
            return hit(stored, asked, exchange.received);
        }
        let Ok(response) = answered else { return unreachable_app() };
        let (parts, body) = response.into_parts();
        match stale {
            Some((stored, _))
                if parts.status == StatusCode::NOT_MODIFIED && is_about(&parts.headers, &stored.headers) =>
            {
                self.validated(asked, &stored, &parts, exchange, began)
            }
            _ => self.keep(asked, parts, body, exchange, began, why, flight),
        }
    }

    /// What was stored still holds (RFC 9111 §4.3.4).
    fn validated(
        &self,
        asked: &Asked,
        stored: &Stored,
        parts: &response::Parts,
        exchange: Exchange,
        began: Epoch,
    ) -> Response<Body> {
        let mut headers = stored.headers.clone();
        update(&mut headers, &parts.headers);
        let origin = Self::origin_of(asked, exchange, stored.tags.clone());
        let renewed = Stored::new(stored.status, headers, stored.body.clone(), origin);
        let answer =
            renewed.answer(&asked.parts.method, &asked.parts.headers, Level::Memory, exchange.received);
        self.memory.put(asked.key.clone(), renewed, began);
        let mut answer = answer.map(Body::from);
        let status = Status::Forwarded {
            why: Forwarded::Stale,
            answered: Some(StatusCode::NOT_MODIFIED),
            stored: true,
            collapsed: false,
        };
        answer.headers_mut().remove(CACHE_STATUS);
        status.add_to(answer.headers_mut());
        answer
    }

    fn origin_of(asked: &Asked, exchange: Exchange, tags: Vec<String>) -> stored::Origin<'_> {
        let default_lifetime = asked.rule.as_ref().and_then(Rule::ttl);
        let lifetime = default_lifetime.filter(|_| asked.rule.as_ref().is_some_and(|rule| rule.overrides));
        stored::Origin { request: &asked.parts.headers, exchange, lifetime, default_lifetime, tags }
    }

    /// Passes a response on, and keeps it on its way if it may be.
    #[allow(clippy::too_many_arguments)]
    fn keep(
        self: &Arc<Self>,
        asked: &Asked,
        parts: response::Parts,
        body: Incoming,
        exchange: Exchange,
        began: Epoch,
        why: Forwarded,
        flight: Option<Flight>,
    ) -> Response<Body> {
        let tags = self.storable(asked, &parts);
        let is_kept = tags.is_ok();
        let flight = match flight {
            Some(flight) if !is_kept => {
                flight.release();
                None
            }
            flight => flight,
        };
        let mut response = Response::from_parts(parts, ());
        let kept = tags.ok().map(|tags| {
            let headers = response.headers().clone();
            let status = response.status();
            let origin = Self::origin_of(asked, exchange, tags);
            let (memory, key) = (self.memory.clone(), asked.key.clone());
            let stored = Stored::new(status, headers, Bytes::new(), origin);
            move |body: Bytes| {
                memory.put(key, Stored { body, ..stored }, began);
                drop(flight);
            }
        });
        remove_hop_by_hop(response.headers_mut());
        let status = Status::Forwarded { why, answered: None, stored: is_kept, collapsed: false };
        status.add_to(response.headers_mut());
        let most = usize::try_from(self.settings.max_object).unwrap_or(usize::MAX);
        response.map(|()| match kept {
            Some(done) => Body::Kept(Kept::new(body, most, done)),
            None => Body::Streamed(body),
        })
    }

    /// The tags of a response that may be kept.
    fn storable(&self, asked: &Asked, parts: &response::Parts) -> Result<Vec<String>, NotStored> {
        let directives = ResponseDirectives::of(&parts.headers);
        let is_overridden = asked.rule.as_ref().is_some_and(|rule| rule.overrides && rule.ttl.is_some());
        if !(is_overridden && parts.status == StatusCode::OK) {
            may_store(&asked.parts.method, &asked.parts.headers, parts.status, &parts.headers, &directives)?;
        }
        // What ends with the connection may have been cut short (RFC 9112 §8).
        let has_end = parts.version == Version::HTTP_2
            || parts.headers.contains_key(CONTENT_LENGTH)
            || parts.headers.contains_key(TRANSFER_ENCODING);
        let length =
            parts.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if !has_end || length.is_some_and(|length| length > self.settings.max_object) {
            return Err(NotStored::Status);
        }
        let mut tags = tags::tags(&parts.headers).map_err(|_| NotStored::Unmarked)?;
        tags.extend(asked.rule.iter().flat_map(|rule| rule.tags.iter().cloned()));
        Ok(tags)
    }

    /// Asks for it anew while the stored response answers (RFC 5861 §3).
    fn revalidate(self: &Arc<Self>, asked: &Asked, stored: Arc<Stored>) {
        let front = self.clone();
        let asked = asked.clone();
        tokio::spawn(async move {
            let Turn::Ask(flight) = front.flights.turn(&asked.key).await else { return };
            let answer = front.ask(&asked, Forwarded::Stale, Some((stored, false)), Some(flight)).await;
            // To its end, or it would not be kept.
            let _ = tokio::time::timeout(
                Duration::from_mins(1),
                http_body_util::BodyExt::collect(answer.into_body()),
            )
            .await;
        });
    }

    /// A request that the cache can answer, or not, but not keep an answer to.
    async fn ask_as_is(&self, asked: &Asked, why: Forwarded) -> Response<Body> {
        let mut headers = asked.parts.headers.clone();
        prepare(&mut headers, &asked.host, asked.scheme, asked.peer);
        let answered = if asked.parts.method == Method::HEAD {
            self.origin.head(&asked.target, headers).await
        } else {
            self.origin.get(&asked.target, headers).await
        };
        let Ok(mut response) = answered else { return unreachable_app() };
        remove_hop_by_hop(response.headers_mut());
        let status = Status::Forwarded { why, answered: None, stored: false, collapsed: false };
        status.add_to(response.headers_mut());
        response.map(Body::Streamed)
    }

    /// Past the cache; what it changes is not given any more.
    async fn pass_on(
        &self,
        mut request: Request<Incoming>,
        host: &str,
        target: &PathAndQuery,
        peer: IpAddr,
        why: Forwarded,
    ) -> Response<Body> {
        let (method, scheme) = (request.method().clone(), scheme(request.headers()));
        let asked = request.headers().clone();
        let upgrade = request.headers().get(UPGRADE).cloned();
        let client = upgrade.as_ref().map(|_| hyper::upgrade::on(&mut request));
        prepare(request.headers_mut(), host, scheme, peer);
        if let Some(protocol) = upgrade {
            request.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
            request.headers_mut().insert(UPGRADE, protocol);
        }
        let Ok(mut response) = self.origin.pass_on(request).await else { return unreachable_app() };
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return switch(client, response);
        }
        remove_hop_by_hop(response.headers_mut());
        for path in invalidated(&method, scheme, host, target, response.status(), response.headers()) {
            let rule = rule(&self.settings.rules, path.path(), &asked);
            let ignored = rule.map_or(&[][..], |rule| &rule.ignored_query);
            // Whichever way it was come by.
            for scheme in ["http", "https"] {
                let key = Key::of(scheme, host, &path, ignored);
                self.memory.purge(Target::Key(key.as_str().to_owned()), Force::Hard);
            }
        }
        let status = Status::Forwarded { why, answered: None, stored: false, collapsed: false };
        status.add_to(response.headers_mut());
        response.map(Body::Streamed)
    }
}

/// Both sides speak another protocol from here; their bytes are passed on until one ends (RFC 9110 §7.8).
fn switch(client: Option<hyper::upgrade::OnUpgrade>, mut response: Response<Incoming>) -> Response<Body> {
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

fn hit(stored: &Stored, asked: &Asked, now: Timestamp) -> Response<Body> {
    stored.answer(&asked.parts.method, &asked.parts.headers, Level::Memory, now).map(Body::from)
}

/// The one host of a request (RFC 9110 §7.2).
fn host(request: &Request<Incoming>) -> Option<String> {
    let mut lines = request.headers().get_all(HOST).iter();
    let line = lines.next().map(|line| line.to_str().ok());
    if lines.next().is_some() {
        return None;
    }
    let host = match (request.uri().authority(), line) {
        // What stands in the target counts (RFC 9112 §3.2.2).
        (Some(authority), _) => authority.as_str(),
        (None, Some(line)) => line?,
        (None, None) => return None,
    };
    host.parse::<http::uri::Authority>()
        .ok()
        .filter(|parsed| !parsed.as_str().contains('@'))
        .map(|_| host.to_owned())
}

fn refusal(status: StatusCode, words: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(Bytes::from_static(words.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

fn unreachable_app() -> Response<Body> {
    refusal(StatusCode::BAD_GATEWAY, "the application does not answer")
}
