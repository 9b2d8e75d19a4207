//! A request of either version of HTTP as the rest of the sidecar is to see it. PURE.

use std::net::SocketAddr;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version,
    header::{CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, TE, TRANSFER_ENCODING, UPGRADE},
    request::Parts,
};

use super::{
    head::{length as length_of, too_large, too_many},
    limits::{BODY, FIELDS, TARGET},
    refusal::Refusal,
};
use crate::sidecar::{
    cache::hop::{is_kept_though_named, remove_hop_by_hop},
    http::origin::is_unkeyed,
};

/// Refuses what is not clear or forbidden, and brings the rest to one form. What is left of the fields of
/// the connection is what it asks to change to, and that it takes trailers.
///
/// `local` is where the client came in.
///
/// # Errors
/// Why it is refused.
pub fn settle(parts: &mut Parts, local: SocketAddr) -> Result<(), Refusal> {
    if parts.headers.len() > FIELDS {
        return Err(too_many());
    }
    method(&parts.method)?;
    target(&parts.uri, &parts.method)?;
    host(parts, local)?;
    expectation(parts)?;
    length(&parts.headers)?;
    of_the_connection(parts);
    one_cookie(&mut parts.headers);
    without_doubles(&mut parts.headers);
    Ok(())
}

/// CONNECT would make a tunnel past all that is done here (RFC 9110 §9.3.6), and TRACE sends credentials back
/// to a page that may not see them (§9.3.8).
fn method(method: &Method) -> Result<(), Refusal> {
    match *method {
        Method::CONNECT | Method::TRACE => {
            Err(Refusal::with(StatusCode::NOT_IMPLEMENTED, "CONNECT and TRACE are not spoken here"))
        }
        _ => Ok(()),
    }
}

/// A path, or `*` for OPTIONS (RFC 9112 §3.2), as characters of which each is itself everywhere.
fn target(uri: &Uri, method: &Method) -> Result<(), Refusal> {
    let Some(target) = uri.path_and_query().map(http::uri::PathAndQuery::as_str) else {
        return Err(Refusal::bad("the target is no path"));
    };
    if target.len() > TARGET {
        return Err(Refusal::with(StatusCode::URI_TOO_LONG, "the target is too long"));
    }
    if !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Refusal::bad("the target has a character that has to be percent-encoded"));
    }
    if !(target.starts_with('/') || target == "*" && method == Method::OPTIONS) {
        return Err(Refusal::bad("the target is no path"));
    }
    Ok(())
}

/// One host, by whatever way it is told (RFC 9110 §7.2); afterwards it is in `Host`.
fn host(parts: &mut Parts, local: SocketAddr) -> Result<(), Refusal> {
    let mut lines = parts.headers.get_all(HOST).iter();
    let line = lines.next();
    if lines.next().is_some() {
        return Err(Refusal::bad("there are several Hosts"));
    }
    if parts.uri.scheme_str().is_some_and(|scheme| !matches!(scheme, "http" | "https")) {
        return Err(Refusal::bad("the scheme is neither http nor https"));
    }
    let authority = parts.uri.authority().map(http::uri::Authority::as_str);
    let host = match (authority, line) {
        // RFC 9113 §8.3.1; and RFC 9112 §3.2.2 would have the line ignored. Who came before may not have.
        (Some(authority), Some(line)) if !line.as_bytes().eq_ignore_ascii_case(authority.as_bytes()) => {
            return Err(Refusal::bad("the target and the Host name different hosts"));
        }
        (Some(authority), _) => authority.as_bytes().to_vec(),
        // It is where it belongs already.
        (None, Some(line)) if is_host(line.as_bytes()) => return Ok(()),
        (None, Some(_)) => return Err(Refusal::bad("the Host is none")),
        // RFC 9112 §3.3: then it is that of the address.
        (None, None) if parts.version == Version::HTTP_10 => local.to_string().into_bytes(),
        (None, None) => return Err(Refusal::bad("a request has to have one Host")),
    };
    if !is_host(&host) {
        return Err(Refusal::bad("the Host is none"));
    }
    let value = HeaderValue::from_bytes(&host).map_err(|_| Refusal::bad("the Host is none"))?;
    parts.headers.insert(HOST, value);
    Ok(())
}

/// A name or an address, with a port or not. RFC 3986 §3.2.2 would allow more signs, which no host has and which
/// applications have been found to take for the end of it.
#[must_use]
pub fn is_host(host: &[u8]) -> bool {
    let is_of_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let (name, port) = match host.iter().rposition(|byte| *byte == b':') {
        Some(at) if host.last() != Some(&b']') => (host.get(..at), host.get(at + 1..)),
        _ => (Some(host), None),
    };
    let name = name.unwrap_or_default();
    let is_port = |port: &[u8]| (1..=5).contains(&port.len()) && port.iter().all(u8::is_ascii_digit);
    let is_name = match name {
        [b'[', address @ .., b']'] => {
            std::str::from_utf8(address).is_ok_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok())
        }
        name => !name.is_empty() && name.len() <= 255 && name.iter().all(is_of_name),
    };
    is_name && port.is_none_or(is_port)
}

/// The one expectation that there is (RFC 9110 §10.1.1), which 1.0 does not have.
fn expectation(parts: &mut Parts) -> Result<(), Refusal> {
    if parts.version == Version::HTTP_10 {
        parts.headers.remove(EXPECT);
        return Ok(());
    }
    let mut lines = parts.headers.get_all(EXPECT).iter();
    match (lines.next(), lines.next()) {
        (None, _) => Ok(()),
        (Some(line), None) if line.as_bytes().eq_ignore_ascii_case(b"100-continue") => Ok(()),
        _ => Err(Refusal::with(StatusCode::EXPECTATION_FAILED, "only 100-continue can be expected")),
    }
}

/// One length at most, as HTTP/1 has been held to on the wire; the other version has it too (RFC 9113 §8.1.1).
fn length(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut lines = headers.get_all(CONTENT_LENGTH).iter();
    let Some(line) = lines.next() else { return Ok(()) };
    if lines.next().is_some() {
        return Err(Refusal::bad("there are several Content-Lengths"));
    }
    if length_of(line.as_bytes())? > BODY { Err(too_large()) } else { Ok(()) }
}

const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Takes the fields of the connection out (RFC 9110 §7.6.1) before anybody has looked at one that
/// `Connection` names: what the application does not get is not in a key, and no rule goes by it.
fn of_the_connection(parts: &mut Parts) {
    let headers = &mut parts.headers;
    let is_of_it = |name: &HeaderName| {
        let name = name.as_str();
        matches!(name, "connection" | "keep-alive" | "proxy-connection" | "http2-settings")
            || matches!(name, "te" | "transfer-encoding" | "upgrade")
    };
    if !headers.keys().any(is_of_it) {
        return;
    }
    let takes_trailers = has_member(headers, &TE, b"trailers");
    let protocol = headers
        .get(UPGRADE)
        .filter(|_| parts.version == Version::HTTP_11 && has_member(headers, &CONNECTION, b"upgrade"))
        .filter(|protocol| is_of_tunnel(protocol))
        .cloned();
    remove_hop_by_hop(headers);
    headers.remove(HTTP2_SETTINGS);
    if takes_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if let Some(protocol) = protocol {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol);
    }
}

/// Not another version of HTTP: its requests would pass by the cache and all rules (h2c smuggling), and RFC 9113
/// §3.1 has done away with it.
fn is_of_tunnel(protocol: &HeaderValue) -> bool {
    let members = protocol.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    let is_http = |member: &[u8]| {
        let name = member.split(|byte| *byte == b'/').next().unwrap_or_default();
        [&b"h2c"[..], b"h2", b"h3", b"http", b"tls", b""].iter().any(|http| name.eq_ignore_ascii_case(http))
    };
    !members.into_iter().any(is_http)
}

fn has_member(headers: &HeaderMap, name: &HeaderName, wanted: &[u8]) -> bool {
    let lines = headers.get_all(name).iter();
    let mut members = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    members.any(|member| member.trim_ascii().eq_ignore_ascii_case(wanted))
}

/// HTTP/2 may part the cookies into lines, and an application of HTTP/1 would see the first (RFC 9113 §8.2.3).
fn one_cookie(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let lines: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&lines.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

/// Variables of CGI that are no fields (RFC 3875 §4.1). Some servers take them from a field of that name, if it comes from
/// their own machine, as it does from a sidecar: then the path is another than the one that was asked for.
const VARIABLES: [&str; 2] = ["script-name", "path-info"];

/// Takes out `X_Forwarded_Host` and the like: to applications that see fields as variables (CGI, WSGI, PHP) it is
/// the same as the one with dashes, which is looked after.
pub fn without_doubles(headers: &mut HeaderMap) {
    let doubles: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().bytes().any(|byte| byte == b'_'))
        .filter(|name| {
            let dashed = HeaderName::from_bytes(name.as_str().replace('_', "-").as_bytes());
            dashed.is_ok_and(|name| {
                is_kept_though_named(&name)
                    || is_unkeyed(&name)
                    || name == TRANSFER_ENCODING
                    || VARIABLES.contains(&name.as_str())
            })
        })
        .cloned()
        .collect();
    for name in doubles {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests;
