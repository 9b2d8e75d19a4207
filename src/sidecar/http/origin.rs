//! What the application is to see of a request.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, header::HOST};

use crate::sidecar::cache::{
    hop::remove_hop_by_hop,
    surrogate::{CAPABILITY, SURROGATE_CAPABILITY},
};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Makes the fields of a request what the application is to see of it.
pub fn prepare(headers: &mut HeaderMap, host: &str, scheme: &str, peer: IpAddr) {
    remove_hop_by_hop(headers);
    let set = |headers: &mut HeaderMap, name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    set(headers, HOST, host);
    // What was there came from whoever is before this pod, and is kept; who that is stands last.
    let before: Vec<&str> =
        headers.get_all(X_FORWARDED_FOR).iter().filter_map(|line| line.to_str().ok()).collect();
    let chain = before.into_iter().chain([peer.to_string().as_str()]).collect::<Vec<_>>().join(", ");
    set(headers, X_FORWARDED_FOR, &chain);
    // What is in the key, and nothing else that a client may have written there.
    set(headers, X_FORWARDED_PROTO, scheme);
    set(headers, X_FORWARDED_HOST, host);
}

/// Fields by which frameworks take another target, host or port for that of the request. They are not
/// in the key, so with them a response that is stored could be another than that which was asked for. And fields
/// that one part of a framework sends to the next (Next.js, React Router), which clients have been found to send too.
const UNKEYED: [&str; 36] = [
    "forwarded",
    "front-end-https",
    "x-forwarded-path",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-protocol",
    "x-forwarded-scheme",
    "x-forwarded-server",
    "x-forwarded-ssl",
    "x-forwarded-uri",
    "x-forwarded-url",
    "x-host",
    "x-http-destinationurl",
    "x-http-host-override",
    "x-http-method",
    "x-http-method-override",
    "x-invoke-output",
    "x-invoke-path",
    "x-invoke-query",
    "x-invoke-status",
    "x-matched-path",
    "x-method-override",
    "x-middleware-prefetch",
    "x-middleware-subrequest",
    "x-now-route-matches",
    "x-original-host",
    "x-original-method",
    "x-original-uri",
    "x-original-url",
    "x-proxy-url",
    "x-react-router-prerender-data",
    "x-react-router-spa-mode",
    "x-rewrite-uri",
    "x-rewrite-url",
    "x-script-name",
    "x-url-scheme",
];

/// Whether a field is one of those.
#[must_use]
pub fn is_unkeyed(name: &HeaderName) -> bool {
    UNKEYED.contains(&name.as_str())
}

/// Takes those out of a request that may be answered from the cache. Of the caches before it the application
/// sees this one alone: with a capability that a client claims it would make pages that are not for all.
pub fn remove_unkeyed(headers: &mut HeaderMap) {
    for name in UNKEYED {
        headers.remove(name);
    }
    headers.insert(SURROGATE_CAPABILITY, CAPABILITY);
}

/// The scheme that the client used: what stands before this pod tells it.
#[must_use]
pub fn scheme(headers: &HeaderMap) -> &'static str {
    let mut lines = headers.get_all(X_FORWARDED_PROTO).iter();
    match (lines.next().map(HeaderValue::as_bytes), lines.next()) {
        (Some(b"https"), None) => "https",
        _ => "http",
    }
}
