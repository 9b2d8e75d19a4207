//! Which stored responses a request that changes something makes invalid (RFC 9111 §4.4). PURE.

use http::{
    HeaderMap, HeaderName, Method, StatusCode, Uri,
    header::{CONTENT_LOCATION, LOCATION},
    uri::PathAndQuery,
};

const NAMED_BY: [HeaderName; 2] = [LOCATION, CONTENT_LOCATION];

/// The paths of which nothing that was stored before holds any more: that of the request, and those
/// that the response names, as far as they are of the same origin. None where the method is
/// safe or the request failed.
#[must_use]
pub fn invalidated(
    method: &Method,
    scheme: &str,
    authority: &str,
    target: &PathAndQuery,
    status: StatusCode,
    response: &HeaderMap,
) -> Vec<PathAndQuery> {
    // Of an unknown method nobody knows that it is safe.
    let succeeded = status.is_success() || status.is_redirection();
    if method.is_safe() || !succeeded {
        return Vec::new();
    }
    let mut paths = vec![target.clone()];
    let lines = NAMED_BY.iter().filter_map(|name| response.get(name)).filter_map(|line| line.to_str().ok());
    for path in lines.filter_map(|line| path_of_same_origin(line, scheme, authority, target)) {
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    paths
}

/// The path that a reference names from a page of the origin (RFC 3986 §5.2); None if it is of another origin.
fn path_of_same_origin(
    reference: &str,
    scheme: &str,
    authority: &str,
    base: &PathAndQuery,
) -> Option<PathAndQuery> {
    let reference = reference.split('#').next().unwrap_or_default();
    let relative = if let Some(rest) = reference.strip_prefix("//") {
        of_authority(rest, authority)?
    } else if let Some((other, rest)) = reference.split_once("://") {
        if !other.eq_ignore_ascii_case(scheme) {
            return None;
        }
        of_authority(rest, authority)?
    } else {
        reference
    };
    let absolute = match relative.as_bytes().first() {
        Some(b'/') => relative.to_owned(),
        None => return Some(base.clone()),
        Some(b'?') => format!("{}{relative}", base.path()),
        Some(_) => {
            let folder = base.path().rfind('/').map_or("/", |end| &base.path()[..=end]);
            format!("{folder}{relative}")
        }
    };
    let (path, query) =
        absolute.split_once('?').map_or((&*absolute, None), |(path, query)| (path, Some(query)));
    let path = without_dots(path);
    let whole = query.map_or(path.clone(), |query| format!("{path}?{query}"));
    whole.parse::<Uri>().ok()?.into_parts().path_and_query
}

/// What follows the authority, if that is ours.
fn of_authority<'a>(rest: &'a str, authority: &str) -> Option<&'a str> {
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (theirs, path) = rest.split_at(end);
    theirs.eq_ignore_ascii_case(authority).then_some(if path.is_empty() { "/" } else { path })
}

/// A path without `.` and `..` (RFC 3986 §5.2.4).
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if is_last {
                    kept.push("");
                }
            }
            segment => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn of(method: Method, status: u16, response: &[(&'static str, &'static str)]) -> Vec<String> {
        let response: HeaderMap = response
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        let target = PathAndQuery::from_static("/a/b?c");
        let status = StatusCode::from_u16(status).unwrap();
        let paths = invalidated(&method, "http", "shop", &target, status, &response);
        paths.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_changes_something_makes_its_own_path_invalid() {
        for method in
            [Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::from_bytes(b"MKCOL").unwrap()]
        {
            assert_eq!(of(method.clone(), 204, &[]), ["/a/b?c"], "{method}");
            assert_eq!(of(method, 303, &[]), ["/a/b?c"]);
        }
        for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE] {
            assert!(of(method, 200, &[]).is_empty());
        }
    }

    #[test]
    fn what_failed_has_changed_nothing() {
        for status in [400, 404, 500] {
            assert!(of(Method::POST, status, &[]).is_empty(), "{status}");
        }
    }

    #[test]
    fn what_the_response_names_is_invalid_as_well_if_it_is_of_the_same_origin() {
        let named = |location: &'static str| of(Method::POST, 201, &[("location", location)]);
        for location in ["/d", "http://shop/d", "HTTP://SHOP/d#part", "//shop/d", "../d", "./../e/../d"] {
            assert_eq!(named(location), ["/a/b?c", "/d"], "{location}");
        }
        assert_eq!(named("d?e"), ["/a/b?c", "/a/d?e"]);
        assert_eq!(named("?e"), ["/a/b?c", "/a/b?e"]);
        assert_eq!(named("http://shop"), ["/a/b?c", "/"]);
        for location in ["", "http://other/d", "https://shop/d", "//shop.example/d", "http://shop:81/d"] {
            assert_eq!(named(location), ["/a/b?c"], "{location}");
        }
        let both = of(Method::PUT, 200, &[("location", "/d"), ("content-location", "/e")]);
        assert_eq!(both, ["/a/b?c", "/d", "/e"]);
    }
}
