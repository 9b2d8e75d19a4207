//! A stored response, and the answer that is made of it. PURE.

use std::time::Duration;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode,
    header::{
        ACCEPT_RANGES, AGE, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
        DATE, RANGE,
    },
};
use jiff::Timestamp;

use super::{
    Exchange, Lifetime, RequestDirectives, ResponseDirectives, SecondaryKey,
    cache_status::{Left, Level, Status},
    date,
    fields::Fields,
    freshness::age,
    hop::remove_unstorable,
    packed::Packed,
    range::{Part, is_current, part},
    reuse::{self, ByRule, Reuse},
    selection::varies_by,
    validation::is_known_to,
};

/// A response as it is kept: all of it, or the one part that was asked for.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The status of it.
    pub status: StatusCode,
    /// Its fields, without those that hold for a connection.
    pub fields: Fields,
    /// The whole body, of the response that it is.
    pub body: Bytes,
    /// When it came, or was validated last.
    pub received: Timestamp,
    /// How old it was by then (`corrected_initial_age` in RFC 9111 §4.2.3).
    pub initial_age: Duration,
    /// What it asks of caches.
    pub directives: Packed,
    /// How long it is fresh.
    pub lifetime: Duration,
    /// The fields of a request that it varies by, and what these were in its own.
    pub secondary: SecondaryKey,
    /// By what it can be purged.
    pub tags: Box<[String]>,
    /// A soft purge has asked for it to be validated.
    pub is_purged_softly: bool,
}

/// What a response came with, beside itself.
#[derive(Clone, Debug)]
pub struct Origin<'a> {
    /// The fields of its request.
    pub request: &'a HeaderMap,
    /// When it was asked for and came.
    pub exchange: Exchange,
    /// What a rule says of how long it is fresh, in place of the response.
    pub lifetime: Option<Duration>,
    /// The same, where the response does not tell.
    pub default_lifetime: Option<Duration>,
    /// Its own tags, and those of a rule.
    pub tags: Vec<String>,
}

impl Stored {
    /// Keeps a response that came to its end.
    #[must_use]
    pub fn new(status: StatusCode, mut headers: HeaderMap, body: Bytes, origin: Origin<'_>) -> Self {
        let directives = ResponseDirectives::of(&headers);
        let told = match Lifetime::of(status, &headers, &directives, origin.exchange.received) {
            Lifetime::Explicit(lifetime) => lifetime,
            told => origin.default_lifetime.unwrap_or(told.duration()),
        };
        let mut varies_by = varies_by(&headers);
        // A part is for those who ask for the same part: nothing is put together (RFC 9111 §3.3, §3.4).
        if status == StatusCode::PARTIAL_CONTENT && !varies_by.contains(&RANGE) {
            varies_by.push(RANGE);
        }
        let secondary = SecondaryKey::of(&varies_by, origin.request);
        remove_unstorable(&mut headers);
        if status != StatusCode::NO_CONTENT {
            // Each answer tells its own.
            headers.remove(CONTENT_LENGTH);
        }
        // When it came is when it was made, and stays so (RFC 9110 §6.6.1).
        if !headers.contains_key(DATE) {
            set(&mut headers, DATE, &date::written(origin.exchange.received));
        }
        Self {
            status,
            fields: Fields::of(&headers),
            body,
            received: origin.exchange.received,
            initial_age: age(&headers, origin.exchange, origin.exchange.received),
            directives: Packed::of(&directives),
            lifetime: origin.lifetime.unwrap_or(told),
            secondary,
            tags: origin.tags.into(),
            is_purged_softly: false,
        }
    }

    /// Whether it is a response to requests of these fields (RFC 9111 §4.1).
    #[must_use]
    pub fn is_for(&self, request: &HeaderMap) -> bool {
        self.secondary.is_of(request)
            && (self.status != StatusCode::PARTIAL_CONTENT || is_current(request, &self.headers()))
    }

    /// How old it is (RFC 9111 §4.2.3).
    #[must_use]
    pub fn age(&self, now: Timestamp) -> Duration {
        let resident = Duration::try_from(now.duration_since(self.received)).unwrap_or_default();
        self.initial_age + resident
    }

    /// Its fields.
    #[must_use]
    pub fn headers(&self) -> HeaderMap {
        self.fields.to_map()
    }

    /// What it is good for, for a request and by the rule for it.
    #[must_use]
    pub fn reuse(&self, request: &RequestDirectives, rule: ByRule, now: Timestamp) -> Reuse {
        let directives = &self.directives.directives();
        let (lifetime, is_purged_softly) = (self.lifetime, self.is_purged_softly);
        reuse::Stored { lifetime, age: self.age(now), directives, rule, is_purged_softly }.reuse_for(request)
    }

    /// How many bytes it takes, about.
    #[must_use]
    pub fn size(&self) -> usize {
        /// Of the pieces of memory that it is made of: what counts them, and what is rounded up.
        const PIECES: usize = 128;
        let tags: usize = self.tags.iter().map(|tag| tag.len() + size_of::<String>()).sum();
        size_of::<Self>() + PIECES + self.body.len() + self.fields.len() + self.secondary.size() + tags
    }

    /// The answer to a request that it is for: all of it, a part, 304 or 416, with `Age` and `Cache-Status`.
    #[must_use]
    pub fn answer(
        &self,
        method: &Method,
        request: &HeaderMap,
        level: Level,
        now: Timestamp,
    ) -> Response<Bytes> {
        let age = self.age(now);
        let fields = self.headers();
        let mut answer = if is_known_to(method, request, self.status, &fields) {
            Self::not_modified(fields)
        } else {
            self.content(method, request, fields)
        };
        let headers = answer.headers_mut();
        headers.insert(AGE, HeaderValue::from(age.as_secs()));
        let left = match self.lifetime.checked_sub(age) {
            Some(left) => Left::Fresh(left),
            None => Left::Stale(age.saturating_sub(self.lifetime)),
        };
        Status::Hit { level, left }.add_to(headers);
        answer
    }

    fn content(&self, method: &Method, request: &HeaderMap, fields: HeaderMap) -> Response<Bytes> {
        let length = self.body.len() as u64;
        let part = part(method, request, self.status, &fields, length);
        let mut answer = Response::new(Bytes::new());
        *answer.headers_mut() = fields;
        let (status, body) = match part {
            Part::Whole => (self.status, self.body.clone()),
            Part::Bytes(range) => {
                let told = format!("bytes {}-{}/{length}", range.start, range.end - 1);
                set(answer.headers_mut(), CONTENT_RANGE, &told);
                // What is in memory has a length that fits.
                let [start, end] =
                    [range.start, range.end].map(|at| usize::try_from(at).unwrap_or(usize::MAX));
                (StatusCode::PARTIAL_CONTENT, self.body.slice(start..end))
            }
            Part::Unsatisfiable => {
                for name in [CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE] {
                    answer.headers_mut().remove(name);
                }
                set(answer.headers_mut(), CONTENT_RANGE, &format!("bytes */{length}"));
                (StatusCode::RANGE_NOT_SATISFIABLE, Bytes::new())
            }
        };
        if self.status == StatusCode::OK {
            answer.headers_mut().entry(ACCEPT_RANGES).or_insert(HeaderValue::from_static("bytes"));
        }
        *answer.status_mut() = status;
        // A response to HEAD tells the length of what a GET would give (RFC 9110 §9.3.2).
        if self.status != StatusCode::NO_CONTENT {
            answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        if *method != Method::HEAD {
            *answer.body_mut() = body;
        }
        answer
    }

    /// Has all fields of the 200 but those of its body (RFC 9110 §15.4.5).
    fn not_modified(mut fields: HeaderMap) -> Response<Bytes> {
        for name in [CONTENT_LENGTH, CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_RANGE] {
            fields.remove(name);
        }
        let mut answer = Response::new(Bytes::new());
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
        *answer.headers_mut() = fields;
        answer
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sidecar::tests::headers;

    const MADE: i64 = 784_111_777;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(MADE + second).unwrap()
    }

    fn stored(lines: &[(&'static str, &'static str)], request: &HeaderMap) -> Stored {
        let exchange = Exchange { requested: at(0), received: at(0) };
        let origin = Origin { request, exchange, lifetime: None, default_lifetime: None, tags: Vec::new() };
        Stored::new(StatusCode::OK, headers(lines), Bytes::from_static(b"0123456789"), origin)
    }

    fn told<'a>(answer: &'a Response<Bytes>, name: &str) -> Option<&'a str> {
        answer.headers().get(name).map(|value| value.to_str().unwrap())
    }

    #[test]
    fn a_hit_has_its_age_and_says_where_it_was() {
        let stored =
            stored(&[("cache-control", "max-age=60"), ("connection", "x"), ("x", "y")], &HeaderMap::new());
        let answer = stored.answer(&Method::GET, &HeaderMap::new(), Level::Memory, at(10));
        assert_eq!((answer.status(), &answer.body()[..]), (StatusCode::OK, &b"0123456789"[..]));
        assert_eq!(told(&answer, "age"), Some("10"));
        assert_eq!(told(&answer, "cache-status"), Some("CachedService; hit; ttl=50; detail=L1"));
        assert_eq!((told(&answer, "content-length"), told(&answer, "x")), (Some("10"), None));
        let late = stored.answer(&Method::GET, &HeaderMap::new(), Level::Redis, at(70));
        assert_eq!(told(&late, "cache-status"), Some("CachedService; hit; ttl=-10; detail=L2"));
    }

    #[test]
    fn head_has_the_fields_of_get_and_no_body() {
        let stored = stored(&[("content-type", "text/plain")], &HeaderMap::new());
        let answer = stored.answer(&Method::HEAD, &HeaderMap::new(), Level::Memory, at(0));
        assert!(answer.body().is_empty());
        assert_eq!(
            (told(&answer, "content-length"), told(&answer, "content-type")),
            (Some("10"), Some("text/plain"))
        );
    }

    #[test]
    fn a_part_says_which_it_is() {
        let stored = stored(&[("content-type", "text/plain")], &HeaderMap::new());
        let of = |range: &'static str| {
            stored.answer(&Method::GET, &headers(&[("range", range)]), Level::Memory, at(0))
        };
        let part = of("bytes=2-4");
        assert_eq!((part.status(), &part.body()[..]), (StatusCode::PARTIAL_CONTENT, &b"234"[..]));
        assert_eq!(
            (told(&part, "content-range"), told(&part, "content-length")),
            (Some("bytes 2-4/10"), Some("3"))
        );
        let none = of("bytes=10-");
        assert_eq!((none.status(), none.body().len()), (StatusCode::RANGE_NOT_SATISFIABLE, 0));
        assert_eq!((told(&none, "content-range"), told(&none, "content-type")), (Some("bytes */10"), None));
    }

    #[test]
    fn who_has_it_already_gets_304() {
        let stored = stored(
            &[("etag", "\"a\""), ("content-type", "text/plain"), ("vary", "accept")],
            &HeaderMap::new(),
        );
        let request = headers(&[("if-none-match", "\"a\""), ("range", "bytes=0-1")]);
        let answer = stored.answer(&Method::GET, &request, Level::Memory, at(1));
        assert_eq!((answer.status(), answer.body().len()), (StatusCode::NOT_MODIFIED, 0));
        assert_eq!((told(&answer, "etag"), told(&answer, "vary")), (Some("\"a\""), Some("accept")));
        assert_eq!((told(&answer, "content-type"), told(&answer, "content-length")), (None, None));
    }

    #[test]
    fn it_is_for_requests_that_have_the_same_in_what_it_varies_by() {
        let german = headers(&[("accept-language", "de")]);
        let stored = stored(&[("vary", "Accept-Language")], &german);
        assert!(stored.is_for(&german));
        assert!(!stored.is_for(&headers(&[("accept-language", "en")])) && !stored.is_for(&HeaderMap::new()));
    }

    #[test]
    fn a_part_is_for_those_who_ask_for_the_same_part_of_the_same_version() {
        let [asked, other] = ["bytes=0-4", "bytes=0-3"].map(|range| headers(&[("range", range)]));
        let exchange = Exchange { requested: at(0), received: at(0) };
        let origin =
            Origin { request: &asked, exchange, lifetime: None, default_lifetime: None, tags: Vec::new() };
        let lines = headers(&[("content-range", "bytes 0-4/10"), ("etag", "\"a\"")]);
        let part = Stored::new(StatusCode::PARTIAL_CONTENT, lines, Bytes::from_static(b"01234"), origin);
        assert!(part.is_for(&asked) && !part.is_for(&other) && !part.is_for(&HeaderMap::new()));
        let of_version = |tag| headers(&[("range", "bytes=0-4"), ("if-range", tag)]);
        assert!(part.is_for(&of_version("\"a\"")) && !part.is_for(&of_version("\"b\"")));
        let answer = part.answer(&Method::GET, &asked, Level::Memory, at(1));
        assert_eq!((answer.status(), &answer.body()[..]), (StatusCode::PARTIAL_CONTENT, &b"01234"[..]));
        assert_eq!(told(&answer, "content-range"), Some("bytes 0-4/10"));
    }

    #[test]
    fn what_does_not_say_when_it_was_made_was_when_it_came() {
        let stored = stored(&[("cache-control", "max-age=60")], &HeaderMap::new());
        let answer = stored.answer(&Method::GET, &HeaderMap::new(), Level::Memory, at(10));
        assert_eq!(told(&answer, "date"), Some("Sun, 06 Nov 1994 08:49:37 GMT"));
    }

    #[test]
    fn a_rule_may_say_how_long_it_is_fresh() {
        let exchange = Exchange { requested: at(0), received: at(0) };
        let request = HeaderMap::new();
        let origin = Origin {
            request: &request,
            exchange,
            lifetime: Some(Duration::from_secs(5)),
            default_lifetime: None,
            tags: Vec::new(),
        };
        let stored = Stored::new(StatusCode::OK, HeaderMap::new(), Bytes::new(), origin);
        let asked = RequestDirectives::default();
        assert_eq!(
            [4, 5].map(|second| stored.reuse(&asked, ByRule::default(), at(second))),
            [Reuse::Fresh, Reuse::IfUnreachable]
        );
    }
}
