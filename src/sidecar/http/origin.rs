//! What the application is to see of a request.

use std::{io::Write, net::IpAddr};

use http::{HeaderMap, HeaderName, HeaderValue, header::HOST};

use crate::sidecar::cache::{
    hop::remove_hop_by_hop,
    surrogate::{CAPABILITY, SURROGATE_CAPABILITY},
};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Makes the fields of a request what the application is to see of it.
pub fn prepare(headers: &mut HeaderMap, host: &str, scheme: &'static str, peer: IpAddr) {
    remove_hop_by_hop(headers);
    // What was there came from whoever is before this pod, and is kept; who that is stands last.
    let mut chain = Vec::with_capacity(64);
    for line in headers.get_all(X_FORWARDED_FOR).iter().filter(|line| line.to_str().is_ok()) {
        chain.extend_from_slice(line.as_bytes());
        chain.extend_from_slice(b", ");
    }
    push_address(&mut chain, peer);
    if let Ok(chain) = HeaderValue::from_bytes(&chain) {
        headers.insert(X_FORWARDED_FOR, chain);
    }
    // What is in the key, and nothing else that a client may have written there.
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(scheme));
    if let Ok(host) = HeaderValue::from_str(host) {
        headers.insert(HOST, host.clone());
        headers.insert(X_FORWARDED_HOST, host);
    }
}

/// The address as it is written, without what formatting costs: it is done for each request that is passed on.
fn push_address(text: &mut Vec<u8>, address: IpAddr) {
    let IpAddr::V4(address) = address else {
        // Writing into memory cannot fail.
        let _ = write!(text, "{address}");
        return;
    };
    for (place, octet) in address.octets().into_iter().enumerate() {
        if place > 0 {
            text.push(b'.');
        }
        if octet >= 100 {
            text.push(b'0' + octet / 100);
        }
        if octet >= 10 {
            text.push(b'0' + octet / 10 % 10);
        }
        text.push(b'0' + octet % 10);
    }
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
    // Most fields are none, as their first letter tells.
    matches!(name.as_str().as_bytes(), [b'f' | b'x', ..]) && UNKEYED.contains(&name.as_str())
}

/// Takes those out of a request that may be answered from the cache. Of the caches before it the application
/// sees this one alone: with a capability that a client claims it would make pages that are not for all.
pub fn remove_unkeyed(headers: &mut HeaderMap) {
    // To look through what is there costs less than to look each of them up.
    while let Some(name) = headers.keys().find(|name| is_unkeyed(name)).cloned() {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_written_as_it_always_is() {
        for text in ["0.0.0.0", "10.9.0.100", "127.0.0.1", "255.210.99.7", "fd00::1", "::ffff:10.0.0.1"] {
            let mut written = Vec::new();
            push_address(&mut written, text.parse().unwrap());
            assert_eq!(written, text.as_bytes());
        }
    }

    #[test]
    fn all_fields_that_are_not_in_the_key_go() {
        let names = UNKEYED.iter().map(|name| HeaderName::from_static(name));
        let mut headers: HeaderMap = names.map(|name| (name, HeaderValue::from_static("x"))).collect();
        headers.append(UNKEYED[0], HeaderValue::from_static("y"));
        headers.insert("x-mine", HeaderValue::from_static("z"));
        remove_unkeyed(&mut headers);
        let left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(left.len(), 2, "{left:?}");
        assert!(headers.contains_key("x-mine") && headers.contains_key(SURROGATE_CAPABILITY));
    }
}
