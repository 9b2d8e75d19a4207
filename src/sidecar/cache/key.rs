//! The primary key of a stored response: what a request is for (RFC 9111 §2, §4.1). PURE.
//!
//! Scheme, host and the whole target, as they were sent to the application. What is not in the key
//! must not change the response: a rule that leaves out a query parameter leaves it out for all.

use std::{borrow::Cow, fmt};

use http::uri::PathAndQuery;

/// The key of a GET, or of a HEAD, which is answered by the same stored response.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Box<str>);

impl Key {
    /// Of a target on a host. `ignored` are the names of query parameters that change nothing; one that
    /// ends in `*` stands for all that begin so.
    #[must_use]
    pub fn of(scheme: &str, host: &str, target: &PathAndQuery, ignored: &[String]) -> Self {
        let mut key = String::with_capacity(scheme.len() + host.len() + target.as_str().len() + 3);
        key.push_str(scheme);
        key.push_str("://");
        key.push_str(&normal_host(scheme, host));
        key.push_str(target.path());
        if let Some(query) = target.query() {
            push_query(&mut key, query, ignored);
        }
        Self(key.into_boxed_str())
    }

    /// That which is told so.
    #[must_use]
    pub fn told(text: String) -> Self {
        Self(text.into_boxed_str())
    }

    /// As it is told to people and in purges.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A host in one of the ways to write it. They are the same in any case of their letters, and with the port
/// of their scheme, which paths are not (RFC 9110 §4.2.3). The application gets it so too: else a
/// page with the host as one client wrote it would be given to others.
#[must_use]
pub fn normal_host<'a>(scheme: &str, host: &'a str) -> Cow<'a, str> {
    let host = without_default_port(scheme, host);
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

/// The target without the query parameters that are ignored: what is not in the key does not reach
/// the application, which else could put it into a page for all.
#[must_use]
pub fn without_ignored(target: &PathAndQuery, ignored: &[String]) -> PathAndQuery {
    let Some(query) = target.query().filter(|_| !ignored.is_empty()) else { return target.clone() };
    let mut kept = target.path().to_owned();
    push_query(&mut kept, query, ignored);
    PathAndQuery::try_from(kept).unwrap_or_else(|_| target.clone())
}

fn without_default_port<'a>(scheme: &str, host: &'a str) -> &'a str {
    let port = if scheme == "https" { ":443" } else { ":80" };
    // An address in brackets has colons of its own, within them.
    host.strip_suffix(port).filter(|host| !host.is_empty()).unwrap_or(host)
}

/// The same of a URL as it is written in a purge.
#[must_use]
pub fn url_without_ignored(url: &str, ignored: &[String]) -> String {
    let Some((path, query)) = url.split_once('?') else { return url.to_owned() };
    let mut kept = path.to_owned();
    push_query(&mut kept, query, ignored);
    kept
}

/// The query without what is ignored, in the order in which it was sent: only the application
/// knows whether that matters.
fn push_query(key: &mut String, query: &str, ignored: &[String]) {
    if ignored.is_empty() {
        key.push('?');
        key.push_str(query);
        return;
    }
    let mut separator = '?';
    for parameter in query.split('&').filter(|parameter| !is_ignored(parameter, ignored)) {
        key.push(separator);
        key.push_str(parameter);
        separator = '&';
    }
}

fn is_ignored(parameter: &str, ignored: &[String]) -> bool {
    // Of `utm_source=x;id=2` some see one parameter, and some two (parameter cloaking).
    if parameter.contains(';') {
        return false;
    }
    let name = parameter.split('=').next().unwrap_or_default();
    ignored.iter().any(|ignored| match ignored.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == ignored,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(host: &str, target: &'static str, ignored: &[&str]) -> String {
        let ignored: Vec<String> = ignored.iter().map(|&name| name.to_owned()).collect();
        Key::of("http", host, &PathAndQuery::from_static(target), &ignored).to_string()
    }

    #[test]
    fn a_host_is_the_same_in_any_case_and_with_its_default_port() {
        assert_eq!(key("Shop:80", "/A?B", &[]), "http://shop/A?B");
        assert_eq!(key("shop:8080", "/", &[]), "http://shop:8080/");
        assert_eq!(key("[::1]:80", "/", &[]), "http://[::1]/");
        assert_ne!(key("shop", "/a", &[]), key("shop", "/A", &[]));
    }

    #[test]
    fn an_empty_query_is_not_the_same_as_none() {
        assert_ne!(key("shop", "/a?", &[]), key("shop", "/a", &[]));
    }

    #[test]
    fn parameters_that_change_nothing_are_left_out() {
        let ignored = ["utm_*", "ref"];
        assert_eq!(key("shop", "/a?utm_source=x&b=1&ref&c=2", &ignored), "http://shop/a?b=1&c=2");
        assert_eq!(key("shop", "/a?ref=1", &ignored), "http://shop/a");
        assert_eq!(key("shop", "/a?reference=1", &ignored), "http://shop/a?reference=1");
        let cloaked = "/a?b=1&utm_source=x;b=2";
        assert_eq!(key("shop", cloaked, &ignored), format!("http://shop{cloaked}"));
        // The order is the application's matter.
        assert_ne!(key("shop", "/a?b=1&c=2", &ignored), key("shop", "/a?c=2&b=1", &ignored));
    }
}
