//! What becomes of a request before anything is looked up: past the cache, or through it by which rule and under
//! which key. PURE.

use http::{
    HeaderMap, Method,
    header::{RANGE, UPGRADE},
    uri::PathAndQuery,
};

use super::origin::{remove_unkeyed, scheme};
use crate::{
    settings::Rule,
    sidecar::{
        cache::{
            cache_status::Forwarded,
            cookies::keep_cookies,
            key::{Key, normal_host, without_ignored},
        },
        rules::rule_of_all_readings,
    },
};

/// What of a request decides.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its one host.
    pub host: &'a str,
    /// Its path and query.
    pub target: &'a PathAndQuery,
    /// Its fields.
    pub headers: &'a HeaderMap,
    /// Whether it has a body.
    pub has_body: bool,
}

/// Where a request goes.
#[derive(Clone, Debug)]
pub struct Route<'a> {
    /// By which scheme the client asked.
    pub scheme: &'static str,
    /// The host in the one way in which it is written.
    pub host: String,
    /// The rule that holds for it.
    pub rule: Option<&'a Rule>,
    /// Why it goes past the cache, if it does.
    pub past: Option<Past>,
}

/// Why a request goes past the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Past {
    /// Its path is read by some as another, for which another rule holds.
    TwoReadings,
    /// A rule says so.
    Rule,
    /// No cache answers its method.
    Method,
    /// It asks for another protocol.
    Upgrade,
    /// It has a body, which is not in the key, and the application may go by it.
    Body,
}

impl Past {
    /// As `Cache-Status` tells it.
    #[must_use]
    pub fn forwarded(self) -> Forwarded {
        match self {
            Self::Method => Forwarded::Method,
            Self::TwoReadings | Self::Rule | Self::Upgrade | Self::Body => Forwarded::Bypass,
        }
    }

    /// As it is told to people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TwoReadings => {
                "its path may be read as another, for which another rule holds (docs/http-cache.md)"
            }
            Self::Rule => "its rule says bypass",
            Self::Method => "its method is neither GET nor HEAD",
            Self::Upgrade => "it asks for another protocol by Upgrade",
            Self::Body => "it has a body",
        }
    }
}

impl<'a> Route<'a> {
    /// By these rules.
    #[must_use]
    pub fn of(rules: &'a [Rule], head: &Head<'_>) -> Self {
        let Head { method, host, target, headers, has_body } = *head;
        let scheme = scheme(headers);
        let rule = rule_of_all_readings(rules, method, target.path(), headers);
        let past = match (method, rule) {
            (_, Err(_)) => Some(Past::TwoReadings),
            (_, Ok(Some(rule))) if rule.bypass => Some(Past::Rule),
            (method, _) if !matches!(*method, Method::GET | Method::HEAD) => Some(Past::Method),
            _ if headers.contains_key(UPGRADE) => Some(Past::Upgrade),
            _ if has_body => Some(Past::Body),
            _ => None,
        };
        Self { scheme, host: normal_host(scheme, host).into_owned(), rule: rule.ok().flatten(), past }
    }

    /// The target as the application gets it, and the key of what is stored for it.
    #[must_use]
    pub fn keyed(&self, target: &PathAndQuery) -> (PathAndQuery, Key) {
        let ignored = self.rule.map_or(&[][..], |rule| &rule.ignored_query);
        let target = without_ignored(target, ignored);
        let key = Key::of(self.scheme, &self.host, &target, &[]);
        (target, key)
    }
}

/// Leaves of the fields of a request that goes through the cache what an answer for others may depend on.
pub fn keep_keyed(headers: &mut HeaderMap, method: &Method, rule: Option<&Rule>) {
    remove_unkeyed(headers);
    if let Some(names) = rule.and_then(|rule| rule.cookies.as_ref()) {
        keep_cookies(headers, names);
    }
    if method == Method::HEAD {
        // Ranges are for GET alone (RFC 9110 §14.2).
        headers.remove(RANGE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sidecar::tests::headers;

    fn rules() -> Vec<Rule> {
        let of = |path: &str| Rule { paths: vec![path.to_owned()], ..Rule::default() };
        vec![
            Rule { bypass: true, ..of("/admin/*") },
            Rule { ignored_query: vec!["utm_*".to_owned()], ..of("/shop/*") },
        ]
    }

    fn past(
        method: &Method,
        target: &'static str,
        fields: &[(&'static str, &'static str)],
        has_body: bool,
    ) -> Option<Past> {
        let (target, headers) = (PathAndQuery::from_static(target), headers(fields));
        let rules = rules();
        Route::of(&rules, &Head { method, host: "shop", target: &target, headers: &headers, has_body }).past
    }

    #[test]
    fn what_goes_past_the_cache_says_why() {
        assert_eq!(past(&Method::GET, "/", &[], false), None);
        assert_eq!(past(&Method::GET, "/admin/x", &[], false), Some(Past::Rule));
        assert_eq!(past(&Method::GET, "/shop/..%2fadmin/x", &[], false), Some(Past::TwoReadings));
        assert_eq!(past(&Method::PUT, "/", &[], false), Some(Past::Method));
        assert_eq!(past(&Method::GET, "/", &[("upgrade", "websocket")], false), Some(Past::Upgrade));
        assert_eq!(past(&Method::GET, "/", &[], true), Some(Past::Body));
    }

    #[test]
    fn the_key_is_without_what_the_rule_ignores_and_as_the_client_asked() {
        let rules = rules();
        let target = PathAndQuery::from_static("/shop/a?utm_source=x&b=1");
        let headers = headers(&[("x-forwarded-proto", "https")]);
        let head = Head {
            method: &Method::GET,
            host: "SHOP:443",
            target: &target,
            headers: &headers,
            has_body: false,
        };
        let route = Route::of(&rules, &head);
        let (target, key) = route.keyed(&target);
        assert_eq!((target.as_str(), key.as_str()), ("/shop/a?b=1", "https://shop/shop/a?b=1"));
        assert!(route.rule == Some(&rules[1]));
    }
}
