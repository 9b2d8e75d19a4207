//! `Surrogate-Control`, which applications sent to the caches of their owner before `CDN-Cache-Control` was
//! (W3C note "Edge Architecture Specification 1.0", §2.2 and §2.3). PURE.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{ResponseDirectives, directives};

/// What a response asks of such caches.
pub const SURROGATE_CONTROL: HeaderName = HeaderName::from_static("surrogate-control");
/// What such a cache tells the application that it is.
pub const SURROGATE_CAPABILITY: HeaderName = HeaderName::from_static("surrogate-capability");
/// What this cache is: it puts no pages together (ESI).
pub const CAPABILITY: HeaderValue = HeaderValue::from_static("cachedservice=\"Surrogate/1.0\"");

/// The name by which a directive is meant for this cache alone, the one in [`CAPABILITY`].
const TARGET: &str = "cachedservice";

/// Those of a response; None where it has none that is known here. They count in place of `Cache-Control` and
/// `Expires`, but for `private`, for which the note has no word: what is for one user stays so.
#[must_use]
pub fn directives(response: &HeaderMap) -> Option<ResponseDirectives> {
    response.get(SURROGATE_CONTROL)?;
    let of_all = Directives::of(response, None);
    let of_this = Directives::of(response, Some(TARGET));
    // What names a cache goes before what is for all of them (§2.2).
    let max_age = of_this.max_age.or(of_all.max_age);
    let no_store = of_this.no_store || of_all.no_store;
    let (lifetime, extension) = max_age.unwrap_or_default();
    (no_store || max_age.is_some()).then(|| ResponseDirectives {
        is_targeted: true,
        no_store,
        private: ResponseDirectives::general(response).private,
        max_age: max_age.map(|_| lifetime),
        stale_while_revalidate: extension,
        ..ResponseDirectives::default()
    })
}

/// Those that are meant for one cache, or for all.
#[derive(Default)]
struct Directives {
    no_store: bool,
    /// How long it is fresh, and for how long after that it may be used stale.
    max_age: Option<(std::time::Duration, Option<std::time::Duration>)>,
}

impl Directives {
    fn of(response: &HeaderMap, target: Option<&str>) -> Self {
        let mut found = Self::default();
        for member in directives::members(response, &SURROGATE_CONTROL) {
            let member = member.to_ascii_lowercase();
            // The name of the cache stands after what it is told: `max-age=60;name`, `no-store;name`.
            let (directive, meant_for) = match member.split_once(';') {
                Some((directive, name)) => (directive.trim(), Some(name.trim())),
                None => (member.trim(), None),
            };
            if meant_for != target {
                continue;
            }
            if directive == "no-store" {
                found.no_store = true;
            } else if let Some(times) = directive.strip_prefix("max-age=") {
                let (lifetime, extension) = match times.split_once('+') {
                    Some((lifetime, extension)) => (lifetime, directives::seconds(extension)),
                    None => (times, None),
                };
                // What is not clear is not fresh.
                let lifetime = directives::seconds(lifetime).unwrap_or_default();
                found.max_age.get_or_insert((lifetime, extension));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sidecar::tests::headers;

    fn with(value: &'static str, general: &'static str) -> ResponseDirectives {
        ResponseDirectives::of(&headers(&[("surrogate-control", value), ("cache-control", general)]))
    }

    const HOUR: Option<Duration> = Some(Duration::from_hours(1));

    #[test]
    fn it_counts_in_place_of_the_general_field() {
        for value in ["max-age=3600", "content=\"ESI/1.0\", MAX-age=3600", "max-age=3600, max-age=1;other"] {
            let found = with(value, "no-store, max-age=1");
            assert_eq!((found.max_age, found.no_store, found.is_targeted), (HOUR, false, true), "{value}");
        }
        assert!(with("no-store", "max-age=3600").no_store);
        for none in ["", "content=\"ESI/1.0\"", "max-age=3600;other", "max-age", "no-store;other"] {
            assert_eq!(with(none, "max-age=1").max_age, Some(Duration::from_secs(1)), "{none}");
        }
        assert_eq!(with("max-age=1h", "max-age=3600").max_age, Some(Duration::ZERO));
    }

    #[test]
    fn what_is_meant_for_this_cache_goes_before_what_is_for_all() {
        assert_eq!(with("max-age=1, max-age=3600;cachedservice", "").max_age, HOUR);
        assert!(with("no-store; cachedservice", "max-age=1").no_store);
    }

    #[test]
    fn the_time_after_the_plus_is_for_use_while_it_is_asked_for_anew() {
        let found = with("max-age=3600+60", "");
        assert_eq!((found.max_age, found.stale_while_revalidate), (HOUR, Some(Duration::from_mins(1))));
    }

    #[test]
    fn what_is_for_one_user_stays_so() {
        assert!(with("max-age=3600", "private").private);
    }

    #[test]
    fn the_newer_field_goes_before_it() {
        let both = headers(&[("surrogate-control", "max-age=1"), ("cdn-cache-control", "max-age=3600")]);
        assert_eq!(ResponseDirectives::of(&both).max_age, HOUR);
    }
}
