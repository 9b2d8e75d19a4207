//! Which rule of the settings holds for a request. PURE.

use http::{HeaderMap, HeaderName, Method};

use super::{
    cache::{key::url_without_ignored, selection::are_one_variable},
    readings::lenient,
};
use crate::settings::{HeaderMatch, Rule, RuleMethod, purges::Target};

/// A path for which another rule holds as an application may read it than as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TwoReadings;

/// The rule that holds for a request, however an application reads its path.
///
/// # Errors
/// When that makes a difference.
pub fn rule_of_all_readings<'a>(
    rules: &'a [Rule],
    method: &Method,
    path: &str,
    request: &HeaderMap,
) -> Result<Option<&'a Rule>, TwoReadings> {
    if rules.is_empty() {
        return Ok(None);
    }
    let (written, read) = (rule(rules, method, path, request), lenient(path));
    if read == path {
        return Ok(written);
    }
    let is_same = match (written, rule(rules, method, &read, request)) {
        (Some(one), Some(other)) => std::ptr::eq(one, other),
        (one, other) => one.is_none() && other.is_none(),
    };
    is_same.then_some(written).ok_or(TwoReadings)
}

/// The first rule that matches a request; None where the response alone decides.
#[must_use]
pub fn rule<'a>(rules: &'a [Rule], method: &Method, path: &str, request: &HeaderMap) -> Option<&'a Rule> {
    rules.iter().find(|rule| {
        let is_of_method = rule.methods.is_empty() || rule.methods.iter().any(|wanted| is(*wanted, method));
        is_of_method && is_of_path(rule, path) && rule.headers.iter().all(|wanted| has(request, wanted))
    })
}

/// What is left out of the keys of a path: nothing, or what one of the rules for it says. Which of them holds depends on
/// the request's method and fields too.
pub fn ignored_by_any<'a>(rules: &'a [Rule], path: &'a str) -> impl Iterator<Item = &'a [String]> {
    let by_rules = rules.iter().filter(move |rule| !rule.ignored_query.is_empty() && is_of_path(rule, path));
    std::iter::once(&[][..]).chain(by_rules.map(|rule| &rule.ignored_query[..]))
}

/// What a purge of `target` is about, as keys are made: a rule may leave query parameters out of them. It is
/// done here and not where the record is written, since here are the rules by which the keys were
/// made, and since applications purge without the operator.
///
/// Which rule holds depends on the request's method and fields too, which a URL does not tell: so a
/// URL stands for the keys by each rule for its path, and for the one as it is written.
pub fn purged(target: Target, rules: &[Rule]) -> Vec<Target> {
    let Target::Key(url) = &target else { return vec![target] };
    let Some((before_query, _)) = url.split_once('?') else { return vec![target] };
    let host_and_path = before_query.split_once("://").filter(|_| !url.starts_with('/'));
    let path = host_and_path.map_or(before_query, |(_, rest)| rest.find('/').map_or("/", |at| &rest[at..]));
    let mut keys = Vec::new();
    for ignored in ignored_by_any(rules, path) {
        let key = url_without_ignored(url, ignored);
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys.into_iter().map(Target::Key).collect()
}

fn is_of_path(rule: &Rule, path: &str) -> bool {
    rule.paths.is_empty() || rule.paths.iter().any(|pattern| matches(pattern, path))
}

fn is(wanted: RuleMethod, method: &Method) -> bool {
    match wanted {
        RuleMethod::Get => method == Method::GET,
        RuleMethod::Head => method == Method::HEAD,
    }
}

fn has(request: &HeaderMap, wanted: &HeaderMatch) -> bool {
    let Ok(name) = HeaderName::from_bytes(wanted.name.as_bytes()) else { return false };
    // An application may read it by either of its names, and a rule is for what that answers.
    let mut lines = request.iter().filter(|(known, _)| are_one_variable(known, &name)).map(|(_, line)| line);
    match &wanted.value {
        None => lines.next().is_some(),
        Some(value) => lines.any(|line| line.as_bytes().trim_ascii() == value.as_bytes()),
    }
}

/// Whether a text is of a pattern in which `*` stands for any text.
#[must_use]
pub fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    // Each part as early as it comes leaves the most to the others.
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text) in [
            ("/a", "/a"),
            ("/a*", "/a"),
            ("/a/*", "/a/b/c"),
            ("*.js", "/a.js"),
            ("/*/x/*", "/a/x/b"),
            ("*", ""),
            ("/a*a", "/aa"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("/a", "/ab"),
            ("/a", "/"),
            ("/a/*", "/a"),
            ("*.js", "/a.jsx"),
            ("/a*a", "/a"),
            ("/*x*y", "/xzzyz"),
            ("", "/"),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn a_path_that_may_be_read_in_two_ways_has_a_rule_where_it_is_the_same() {
        let of = |path: &str| Rule { paths: vec![path.to_owned()], ..Rule::default() };
        let rules = [of("/static/*"), of("*.css")];
        let found = |path: &str| {
            let found = rule_of_all_readings(&rules, &Method::GET, path, &HeaderMap::new());
            found.map(|rule| rule.map(|rule| rule.paths[0].clone()))
        };
        assert_eq!(found("/static/a%20b"), Ok(Some("/static/*".to_owned())));
        assert_eq!(found("/page%20a"), Ok(None));
        for tricky in ["/static/..%2faccount", "/account%3bx.css", "/x/../static/a"] {
            assert_eq!(found(tricky), Err(TwoReadings), "{tricky}");
        }
    }

    #[test]
    fn a_url_with_parameters_that_a_rule_leaves_out_stands_for_the_key_without_them() {
        let of = |paths: &[&str], ignored: &[&str]| Rule {
            paths: paths.iter().map(|&path| path.to_owned()).collect(),
            ignored_query: ignored.iter().map(|&name| name.to_owned()).collect(),
            ..Rule::default()
        };
        let rules = [of(&["/a*"], &["utm_*"]), of(&[], &["utm_*", "ref"]), of(&["/b"], &["id"])];
        let keys = |url: &str| {
            let keys = purged(Target::Key(url.to_owned()), &rules).into_iter();
            keys.map(|key| if let Target::Key(key) = key { key } else { panic!("{key:?}") })
                .collect::<Vec<_>>()
        };
        let url = "http://shop/a?utm_x=1&id=2&ref=3";
        assert_eq!(keys(url), [url, "http://shop/a?id=2&ref=3", "http://shop/a?id=2"]);
        assert_eq!(keys("/c?utm_x=1"), ["/c?utm_x=1", "/c"]);
        assert_eq!(keys("/b?id=1"), ["/b?id=1", "/b"]);
        assert_eq!(keys("/c?id=1"), ["/c?id=1"], "of another path");
        assert_eq!(keys("http://shop/a"), ["http://shop/a"]);
        let prefix = Target::Prefix("/a?utm_x=1".to_owned());
        assert_eq!(purged(prefix.clone(), &rules), [prefix], "where it ends nobody knows");
    }

    #[test]
    fn the_first_that_matches_path_and_fields_counts() {
        let of = |paths: &[&str], headers: Vec<HeaderMatch>, ttl| Rule {
            paths: paths.iter().map(|&path| path.to_owned()).collect(),
            headers,
            ttl: Some(ttl),
            ..Rule::default()
        };
        let preview = HeaderMatch { name: "X-Preview".to_owned(), value: None };
        let json = HeaderMatch { name: "accept".to_owned(), value: Some("application/json".to_owned()) };
        let rules =
            [of(&[], vec![preview], 1), of(&["/api/*", "/v2/*"], vec![json], 2), of(&["/api/*"], vec![], 3)];
        let found = |path: &str, lines: &[(&'static str, &'static str)]| {
            let request: HeaderMap = lines
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
                .collect();
            rule(&rules, &Method::GET, path, &request).and_then(|rule| rule.ttl)
        };
        assert_eq!(found("/api/x", &[("x-preview", ""), ("accept", "application/json")]), Some(1));
        assert_eq!(found("/v2/x", &[("accept", "application/json")]), Some(2));
        assert_eq!(found("/api/x", &[("accept", "text/html")]), Some(3));
        assert_eq!(found("/v2/x", &[]), None);
    }

    #[test]
    fn a_rule_with_methods_is_for_these_alone() {
        let rules = [
            Rule { methods: vec![RuleMethod::Head], ttl: Some(1), ..Rule::default() },
            Rule { methods: vec![RuleMethod::Get, RuleMethod::Head], ttl: Some(2), ..Rule::default() },
        ];
        let found = |method| rule(&rules, &method, "/", &HeaderMap::new()).and_then(|rule| rule.ttl);
        assert_eq!([found(Method::HEAD), found(Method::GET), found(Method::PUT)], [Some(1), Some(2), None]);
    }
}
