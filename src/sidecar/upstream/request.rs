//! A request as the application gets it.

use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version,
    header::{CONNECTION, CONTENT_TYPE, COOKIE, EXPECT, HOST, TE, TRANSFER_ENCODING, UPGRADE},
    uri::{Authority, PathAndQuery, Scheme},
};
use http_body::Body as _;
use hyper::body::Incoming;

use super::{
    body::{Lender, Upload},
    expectation::Gate,
    retries::is_idempotent,
};
use crate::sidecar::http::edge::limits::STALL_TIME;

/// On requests to the application of another pod. A sidecar of the same service that gets one, known by its
/// value, asks its own application alone, so that no error of configuration lets requests go round. Of
/// anybody else it says nothing: applications pass fields on, and clients write what they like.
pub const HOP: HeaderName = HeaderName::from_static("cachedservice-hop");

/// A request that goes to a replica, and to another if need be.
pub struct Asked {
    method: Method,
    target: PathAndQuery,
    headers: HeaderMap,
    body: Option<Arc<Lender>>,
    /// Whether it goes in HTTP/2: what gRPC is made of.
    pub is_grpc: bool,
    /// Whether it has come from another pod already.
    pub has_hopped: bool,
    marks: Arc<[HeaderValue]>,
    is_upgrade: bool,
}

impl Asked {
    /// Without a body; `marks` are what the sidecars of this service write in [`HOP`].
    #[must_use]
    pub fn bare(
        method: Method,
        target: PathAndQuery,
        mut headers: HeaderMap,
        marks: Arc<[HeaderValue]>,
    ) -> Self {
        let has_hopped = headers.get_all(HOP).iter().any(|found| marks.contains(found));
        headers.remove(HOP);
        Self { method, target, headers, body: None, is_grpc: false, has_hopped, marks, is_upgrade: false }
    }

    /// As it came.
    #[must_use]
    pub fn of(request: Request<Incoming>, marks: Arc<[HeaderValue]>) -> Self {
        let (parts, body) = request.into_parts();
        let target = parts.uri.into_parts().path_and_query.unwrap_or(PathAndQuery::from_static("/"));
        let is_grpc = parts.version == Version::HTTP_2 && is_grpc(&parts.headers);
        let is_upgrade = parts.headers.contains_key(UPGRADE) || parts.method == Method::CONNECT;
        // HTTP/2 has interim answers too, but they are not told here.
        let gate = (!is_grpc && parts.headers.contains_key(EXPECT)).then(Gate::closed);
        // The wire sees to bodies of HTTP/1. Streams of gRPC may be silent for as long as both sides like.
        let patience = (parts.version == Version::HTTP_2 && !is_grpc).then_some(STALL_TIME);
        let body = (!body.is_end_stream()).then(|| Lender::new(body, gate, patience));
        Self { body, is_grpc, is_upgrade, ..Self::bare(parts.method, target, parts.headers, marks) }
    }

    /// The body that it has.
    #[must_use]
    pub fn body(&self) -> Option<&Lender> {
        self.body.as_deref()
    }

    /// Whether it does the same when it is done twice.
    #[must_use]
    pub fn is_repeatable(&self) -> bool {
        is_idempotent(&self.method) && !self.is_upgrade
    }

    /// Whether it changes nothing (RFC 9110 §9.2.1): then it may be with two applications at once. Of those
    /// methods that do the same when they are done twice, PUT and DELETE may still overtake what comes after.
    #[must_use]
    pub fn only_reads(&self) -> bool {
        [Method::GET, Method::HEAD].contains(&self.method) && !self.is_upgrade
    }

    /// For the application of the own pod or of another.
    #[must_use]
    pub fn request(&self, is_own: bool) -> Request<Upload> {
        let body = self.body.clone().map_or(Upload::Nothing, Upload::Lent);
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        let mut headers = self.headers.clone();
        for mark in self.marks.iter().filter(|_| !is_own) {
            headers.append(HOP, mark.clone());
        }
        if self.is_grpc {
            *request.version_mut() = Version::HTTP_2;
            *request.uri_mut() = absolute(&self.target, headers.remove(HOST).as_ref());
        } else {
            *request.uri_mut() = Uri::from(self.target.clone());
            join_cookies(&mut headers);
            if self.body.as_ref().is_some_and(|body| body.size().exact().is_none()) {
                // Said in words, as hyper sends no body with a GET that says nothing of one.
                headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            }
            if headers.contains_key(TE) {
                // RFC 9110 §10.1.4.
                headers.append(CONNECTION, HeaderValue::from_static("te"));
            }
        }
        *request.headers_mut() = headers;
        if let Some(gate) = self.body().and_then(Lender::gate).cloned() {
            hyper::ext::on_informational(&mut request, move |answer| {
                if answer.status() == StatusCode::CONTINUE {
                    gate.open();
                }
            });
        }
        request
    }
}

/// HTTP/2 has the host beside the path (RFC 9113 §8.3.1).
fn absolute(target: &PathAndQuery, host: Option<&HeaderValue>) -> Uri {
    let authority = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(authority.unwrap_or_else(|| Authority::from_static("localhost")));
    parts.path_and_query = Some(target.clone());
    // All three parts are there.
    Uri::from_parts(parts).unwrap_or_default()
}

/// HTTP/2 may have several lines of cookies; HTTP/1.1 has one (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let mut joined = BytesMut::new();
    for line in headers.get_all(COOKIE) {
        if !joined.is_empty() {
            joined.put_slice(b"; ");
        }
        joined.put_slice(line.as_bytes());
    }
    // It is made of values.
    if let Ok(joined) = HeaderValue::from_maybe_shared(joined.freeze()) {
        headers.insert(COOKIE, joined);
    }
}

/// Whether a request is one of gRPC; its form for browsers is HTTP of any version.
#[must_use]
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.as_bytes().strip_prefix(b"application/grpc"))
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sidecar::tests::headers;

    fn asked(lines: &[(&'static str, &'static str)]) -> Asked {
        let mark = HeaderValue::from_static("ours");
        Asked::bare(Method::GET, PathAndQuery::from_static("/a?b"), headers(lines), [mark].into())
    }

    #[test]
    fn cookies_are_on_one_line_in_http1() {
        let mut asked = asked(&[("host", "shop")]);
        for cookie in ["a=1", "b=2"] {
            asked.headers.append(COOKIE, HeaderValue::from_static(cookie));
        }
        let request = asked.request(true);
        let lines: Vec<_> = request.headers().get_all(COOKIE).iter().collect();
        assert_eq!(lines, ["a=1; b=2"]);
        assert_eq!(request.uri(), "/a?b");
        asked.is_grpc = true;
        let request = asked.request(true);
        assert_eq!(request.headers().get_all(COOKIE).iter().count(), 2);
        assert_eq!(request.uri(), "http://shop/a?b");
        assert!(!request.headers().contains_key(HOST));
    }

    #[test]
    fn trailers_are_asked_for_on_this_connection() {
        let request = asked(&[("host", "shop"), ("te", "trailers"), ("connection", "upgrade")]).request(true);
        let lines: Vec<_> = request.headers().get_all(CONNECTION).iter().collect();
        assert_eq!(lines, ["upgrade", "te"]);
    }

    #[test]
    fn one_hop_is_marked_and_what_came_so_is_not_passed_on_as_if_it_were_new() {
        let fresh = asked(&[("host", "shop")]);
        assert!(!fresh.has_hopped);
        assert!(!fresh.request(true).headers().contains_key(HOP));
        assert_eq!(fresh.request(false).headers()[HOP], "ours");
        let hopped = asked(&[("host", "shop"), ("cachedservice-hop", "ours")]);
        assert!(hopped.has_hopped && !hopped.request(true).headers().contains_key(HOP));
        let others = asked(&[("host", "shop"), ("cachedservice-hop", "theirs")]);
        assert!(!others.has_hopped && !others.request(true).headers().contains_key(HOP));
    }

    #[test]
    fn grpc_is_told_by_its_type() {
        for (kind, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc; charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            assert_eq!(is_grpc(&headers(&[("content-type", kind)])), expected, "{kind}");
        }
    }

    #[test]
    fn what_changes_the_protocol_is_not_sent_twice() {
        assert!(asked(&[]).is_repeatable());
        let post = Asked { method: Method::POST, ..asked(&[]) };
        let upgrade = Asked { is_upgrade: true, ..asked(&[]) };
        assert!(!post.is_repeatable() && !upgrade.is_repeatable());
    }
}
