//! Fields that hold for one connection and are not passed on, nor stored (RFC 9110 §7.6.1, RFC 9111 §3.1). PURE.

use http::{
    HeaderMap, HeaderName,
    header::{CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE},
};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Of a connection, whether `Connection` names them or not.
static OF_A_CONNECTION: [HeaderName; 6] =
    [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, TE, TRANSFER_ENCODING, UPGRADE];

/// What `Connection` says mostly: `close` is no field, and the other one goes in any case.
const OPTIONS: [&[u8]; 2] = [b"close", b"keep-alive"];

const PROXY_AUTHENTICATION_INFO: HeaderName = HeaderName::from_static("proxy-authentication-info");

/// Not stored either: they are about proxies, or about a body that is stored as one piece.
static NOT_STORED: [HeaderName; 4] =
    [PROXY_AUTHENTICATE, PROXY_AUTHENTICATION_INFO, PROXY_AUTHORIZATION, TRAILER];

/// Fields that are for all on the way, and which naming them in `Connection` does not take away: no sender may
/// name them (RFC 9110 §7.6.1), and whoever does wants the application to miss what was said before
/// it: who asks, from where, for which host, and what caches are to do.
const FOR_ALL: [&str; 16] = [
    "age",
    "authorization",
    "cache-control",
    "cookie",
    "expires",
    "forwarded",
    "host",
    "origin",
    "pragma",
    "range",
    "referer",
    "set-cookie",
    "user-agent",
    "vary",
    "via",
    "x-real-ip",
];
/// The same for all that begin so.
const FOR_ALL_BEGINNING: [&str; 8] =
    ["accept", "cdn-", "content-", "if-", "trace", "x-forwarded-", "x-request-", "x-correlation-"];

/// Whether a field is passed on though `Connection` names it.
#[must_use]
pub fn is_kept_though_named(name: &HeaderName) -> bool {
    let name = name.as_str();
    FOR_ALL.contains(&name) || FOR_ALL_BEGINNING.iter().any(|beginning| name.starts_with(beginning))
}

/// Takes the fields out that hold for the connection alone.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    // It is done thrice for a request that is passed on, and most have none: to look through what is there
    // costs less than to look each of them up.
    if headers.keys().any(|name| *name == CONNECTION) {
        remove_named(headers);
    }
    while let Some(name) = headers.keys().find(|name| OF_A_CONNECTION.contains(name)).cloned() {
        headers.remove(name);
    }
}

/// Takes the fields out that `Connection` names.
fn remove_named(headers: &mut HeaderMap) {
    let is_name = |name: &&[u8]| !OPTIONS.iter().any(|option| name.eq_ignore_ascii_case(option));
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(is_name)
        .filter_map(|name| HeaderName::from_bytes(name).ok())
        .collect();
    for name in named.iter().filter(|name| !is_kept_though_named(name)) {
        headers.remove(name);
    }
}

/// Takes the fields out that are not stored.
pub fn remove_unstorable(headers: &mut HeaderMap) {
    remove_hop_by_hop(headers);
    for name in &NOT_STORED {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn what_is_for_the_connection_goes_and_what_it_names() {
        let mut headers: HeaderMap = [
            ("connection", "x-mine, Close"),
            ("x-mine", "a"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("te", "trailers"),
            ("trailer", "x-sum"),
            ("proxy-authentication-info", "x"),
            ("x-theirs", "b"),
        ]
        .into_iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect();
        remove_hop_by_hop(&mut headers);
        let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["proxy-authentication-info", "trailer", "x-theirs"]);
        remove_unstorable(&mut headers);
        assert_eq!(headers.len(), 1);
    }
}
