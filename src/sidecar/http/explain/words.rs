//! The rules of the cache in words, for people who ask why. PURE.

use std::time::Duration;

use http::{
    Method,
    header::{AUTHORIZATION, COOKIE, EXPIRES},
};
use jiff::Timestamp;

use crate::{
    settings::Rule,
    sidecar::{
        cache::{
            NotStored, Stored,
            directives::CDN_CACHE_CONTROL,
            reuse::{LONGEST_STALE, Reuse},
        },
        http::front::Asked,
    },
};

/// There is something, and nothing for the request.
pub const OTHERS: &str = "responses to requests that differ in what they vary by";
/// There is nothing.
pub const NOTHING: &str = "nothing";

/// By what a stored response has its lifetime (RFC 9111 §4.2.1).
pub fn lifetime_by(stored: &Stored, rule: Option<&Rule>) -> String {
    let (lifetime, directives) = (stored.lifetime, stored.directives.directives());
    let headers = stored.headers();
    let ttl = rule.and_then(Rule::ttl);
    if rule.is_some_and(|rule| rule.overrides) && ttl == Some(lifetime) {
        return format!("ttl of the rule, {} s, which overrides what the response says", lifetime.as_secs());
    }
    let field = match (directives.is_targeted, headers.contains_key(CDN_CACHE_CONTROL)) {
        (false, _) => "Cache-Control",
        (true, true) => "CDN-Cache-Control",
        (true, false) => "Surrogate-Control",
    };
    let explicit = [("s-maxage", directives.s_maxage), ("max-age", directives.max_age)];
    let explicit = explicit.into_iter().find_map(|(name, time)| Some((name, time?)));
    let expires = !directives.is_targeted && headers.contains_key(EXPIRES);
    match explicit {
        Some((name, time)) if time == lifetime => format!("{name}={} in {field}", time.as_secs()),
        None if expires && ttl != Some(lifetime) => "Expires".to_owned(),
        None if ttl == Some(lifetime) => {
            format!("ttl of the rule, {} s, as the response does not say", lifetime.as_secs())
        }
        None if lifetime.is_zero() => "nothing: the response does not say how long it is fresh".to_owned(),
        None => "a tenth of the time since Last-Modified (RFC 9111 §4.2.2)".to_owned(),
        Some(_) => "the rule that held when it was stored".to_owned(),
    }
}

/// What a stored response is good for, and what decides.
pub fn verdict(asked: &Asked, stored: &Stored, now: Timestamp) -> String {
    let (age, directives) = (stored.age(now), stored.directives.directives());
    let (left, since) = (stored.lifetime.saturating_sub(age), age.saturating_sub(stored.lifetime));
    let by_rule = |of_rule: fn(&Rule) -> Option<u64>, of_response: Option<Duration>| {
        let rule = asked.rule.as_deref();
        let counts = rule.filter(|rule| of_response.is_none() || rule.overrides).and_then(of_rule);
        if counts.is_some() { "of the rule" } else { "of the response" }
    };
    match asked.reuse(stored, now) {
        Reuse::Fresh if since.is_zero() && !stored.is_purged_softly => {
            let by = lifetime_by(stored, asked.rule.as_deref());
            format!("it is fresh for {} s more, by {by}", left.as_secs())
        }
        Reuse::Fresh => {
            format!("it is stale for {} s, and the request takes that: max-stale", since.as_secs())
        }
        Reuse::WhileRevalidated => {
            let by = by_rule(|rule| rule.stale_while_revalidate, directives.stale_while_revalidate);
            format!("it is stale, and answers while it is asked for anew, by stale-while-revalidate {by}")
        }
        Reuse::IfError => {
            let by = by_rule(|rule| rule.stale_if_error, directives.stale_if_error);
            format!("it is stale: it answers where the application fails, by stale-if-error {by}")
        }
        Reuse::IfUnreachable => format!(
            "it is stale, by {}: the application is asked whether it still holds, and it answers where that cannot be reached (RFC 9111 §4.2.4)",
            lifetime_by(stored, asked.rule.as_deref())
        ),
        Reuse::Validate => {
            let why = why_validated(asked, stored, age);
            format!("it answers only after the application has said that it still holds: {why}")
        }
    }
}

fn why_validated(asked: &Asked, stored: &Stored, age: Duration) -> String {
    let (response, request) = (&stored.directives.directives(), &asked.directives);
    let overrides = asked.rule.as_ref().is_some_and(|rule| rule.overrides);
    let is_fresh = age < stored.lifetime;
    // Without the user who asks it would be good for more.
    if asked.is_of_a_user() && !asked.is_for_users(stored) {
        return "the request says who asks (Cookie, Authorization), and the response does not say that it is for all".to_owned();
    }
    if response.no_cache && !overrides {
        return "no-cache in the response".to_owned();
    }
    if request.no_cache {
        return "no-cache in the request".to_owned();
    }
    if request.max_age.is_some_and(|most| age > most) {
        return "max-age in the request".to_owned();
    }
    if request.min_fresh.is_some_and(|least| stored.lifetime < age.saturating_add(least)) {
        return "min-fresh in the request".to_owned();
    }
    let by = lifetime_by(stored, asked.rule.as_deref());
    let stale = match (stored.is_purged_softly, is_fresh) {
        (true, _) => "a soft purge has hit it".to_owned(),
        (false, _) => format!("it is stale, by {by}"),
    };
    let forbidding = [
        ("must-revalidate", response.must_revalidate),
        ("proxy-revalidate", response.proxy_revalidate),
        ("s-maxage", response.s_maxage.is_some()),
    ];
    match forbidding.into_iter().find(|(_, forbids)| *forbids && !overrides) {
        Some((name, _)) => format!("{stale}, and {name} in the response forbids to use it so"),
        None if age.saturating_sub(stored.lifetime) >= LONGEST_STALE => {
            format!("{stale}, for longer than a day")
        }
        None => format!("{stale}, for longer than stale-if-error allows"),
    }
}

/// What would be done where nothing stored answers.
pub fn on_a_miss(asked: &Asked, has_stale: bool) -> Vec<String> {
    if asked.directives.only_if_cached {
        return vec!["the request wants nothing else (only-if-cached): it gets 504".to_owned()];
    }
    if asked.parts.method == Method::HEAD {
        return vec!["HEAD is passed on to the application, and its answer is not stored".to_owned()];
    }
    let asks = if has_stale { "with its validators, if it has any" } else { "in full" };
    let mut told =
        vec![format!("the application is asked for it, {asks}; what it answers is stored if it may be")];
    let gives_time = asked.rule.as_ref().is_some_and(|rule| rule.ttl.is_some());
    let headers = &asked.parts.headers;
    if asked.directives.no_store {
        told.push("it may not be: no-store in the request".to_owned());
    } else if headers.contains_key(AUTHORIZATION) {
        told.push(
            "as the request has Authorization, only with public, s-maxage or must-revalidate in the answer (RFC 9111 §3.5)"
                .to_owned(),
        );
    } else if headers.contains_key(COOKIE) && !gives_time {
        told.push(
            "as the request has a cookie, only if the answer says how long it is fresh, or public".to_owned(),
        );
    }
    told
}

/// Why an answer was not stored.
pub fn not_stored(why: NotStored) -> String {
    let words = match why {
        NotStored::Method => "no answer to its method is",
        NotStored::Status => "its status is not final, or of a part",
        NotStored::NoStore => "no-store in the request or the response",
        NotStored::Private => "private in the response",
        NotStored::Authorization => {
            "the request had Authorization, and the response has neither public nor s-maxage nor must-revalidate"
        }
        NotStored::SetCookie => {
            "it sets a cookie; a rule with ttl and override lets the rest of it be stored"
        }
        NotStored::Cookie => {
            "the request had a cookie, and the response says nothing; a rule with ttl allows it"
        }
        NotStored::OfThisRequest => {
            "its status tells of how one client asked, or the request had a field that an application may take for one in Vary, as X_A for X-A"
        }
        NotStored::VaryAll => "Vary: * in the response",
        NotStored::Unmarked => "nothing says that it may be, and its status does not",
        NotStored::TooLarge => "it is larger than maxObjectSize",
        NotStored::NoEnd => "it ends with its connection, so it may have been cut short",
        NotStored::NoRoom => {
            "other bodies on their way, to slow clients above all, had all the memory for them"
        }
        NotStored::NameOfFile => {
            "it is HTML or JSON by the name of a file, for which no rule allows what the response does not"
        }
    };
    format!("{} ({words})", why.as_str())
}
