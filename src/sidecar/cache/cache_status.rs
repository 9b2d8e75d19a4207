//! How a response was made, for whoever looks at it: `Cache-Status` (RFC 9211). PURE.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

/// The field.
pub const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// The name of this cache in it.
const NAME: &str = "CachedService";

/// Where a stored response was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The memory of the replica.
    Memory,
    /// The Redis of all replicas.
    Redis,
}

impl Level {
    /// As in the field.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "L1",
            Self::Redis => "L2",
        }
    }

    fn told(text: &str) -> Option<Self> {
        [Self::Memory, Self::Redis].into_iter().find(|level| level.as_str() == text)
    }
}

/// Why a request was sent on to the application (§2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarded {
    /// The cache is not to be used for it: by a rule, or as it asks for an upgrade.
    Bypass,
    /// The method is not answered from a cache.
    Method,
    /// Nothing is stored for the URI.
    UriMiss,
    /// Something is stored for the URI, and nothing for this request.
    VaryMiss,
    /// What is stored is not fresh.
    Stale,
    /// What is stored is fresh, and the request asked for more.
    Request,
}

impl Forwarded {
    /// As in the field.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Stale => "stale",
            Self::Request => "request",
        }
    }

    fn told(text: &str) -> Option<Self> {
        let all = [Self::Bypass, Self::Method, Self::UriMiss, Self::VaryMiss, Self::Stale, Self::Request];
        all.into_iter().find(|why| why.as_str() == text)
    }
}

/// How a response was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// From the cache, with nothing asked of the application.
    Hit {
        /// Where it was.
        level: Level,
        /// How long it stays fresh; how long it has not been fresh where that is negative.
        left: Left,
    },
    /// The application was asked.
    Forwarded {
        /// Why.
        why: Forwarded,
        /// What it answered, where the response is of another status: 304, or an error that was hidden.
        answered: Option<StatusCode>,
        /// Whether the response was stored.
        stored: bool,
    },
}

/// The time to the end of freshness (§2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// It is fresh for so long still.
    Fresh(Duration),
    /// It has not been fresh for so long.
    Stale(Duration),
}

impl Left {
    /// Zero has a sign, too.
    fn told(text: &str) -> Option<Self> {
        let seconds = |text: &str| text.parse().ok().map(Duration::from_secs);
        match text.strip_prefix('-') {
            Some(text) => seconds(text).map(Self::Stale),
            None => seconds(text).map(Self::Fresh),
        }
    }
}

impl Status {
    /// Adds it to a response, after those of the caches that are nearer to the origin.
    pub fn add_to(&self, response: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::from_str(&self.member()) {
            response.append(CACHE_STATUS, value);
        }
    }

    /// What was added to a response; none where nothing was. Of several members the last is of this cache.
    #[must_use]
    pub fn of(response: &HeaderMap) -> Option<Self> {
        let member = response.get_all(CACHE_STATUS).iter().next_back()?.to_str().ok()?;
        let parameters = member.strip_prefix(NAME)?.strip_prefix("; ")?.split(';').map(str::trim_start);
        let mut told = Told::default();
        for parameter in parameters {
            match parameter.split_once('=').unwrap_or((parameter, "")) {
                ("hit", _) => told.hit = true,
                ("ttl", left) => told.left = Left::told(left),
                ("detail", level) => told.level = Level::told(level),
                ("fwd", why) => told.why = Forwarded::told(why),
                ("fwd-status", status) => told.answered = status.parse().ok(),
                ("stored", _) => told.stored = true,
                _ => return None,
            }
        }
        let Told { hit, left, level, why, answered, stored } = told;
        match (hit, level, left, why) {
            (true, Some(level), Some(left), None) => Some(Self::Hit { level, left }),
            (false, None, None, Some(why)) => Some(Self::Forwarded { why, answered, stored }),
            _ => None,
        }
    }

    /// As it stands in the field.
    #[must_use]
    pub fn member(&self) -> String {
        let mut member = String::with_capacity(64);
        member.push_str(NAME);
        match self {
            Self::Hit { level, left } => {
                let (sign, time) = match left {
                    Left::Fresh(time) => ("", time),
                    Left::Stale(time) => ("-", time),
                };
                member.push_str("; hit; ttl=");
                member.push_str(sign);
                push_number(&mut member, time.as_secs());
                member.push_str("; detail=");
                member.push_str(level.as_str());
            }
            Self::Forwarded { why, answered, stored } => {
                member.push_str("; fwd=");
                member.push_str(why.as_str());
                if let Some(status) = answered {
                    member.push_str("; fwd-status=");
                    member.push_str(status.as_str());
                }
                if *stored {
                    member.push_str("; stored");
                }
            }
        }
        member
    }
}

/// Each answer has one: without what formatting costs.
fn push_number(text: &mut String, number: u64) {
    if number >= 10 {
        push_number(text, number / 10);
    }
    // A digit.
    text.push(char::from(b'0' + u8::try_from(number % 10).unwrap_or_default()));
}

/// Parameters of a member.
#[derive(Default)]
struct Told {
    hit: bool,
    left: Option<Left>,
    level: Option<Level>,
    why: Option<Forwarded>,
    answered: Option<StatusCode>,
    stored: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hit_says_where_and_for_how_long() {
        let hit = |level, left| Status::Hit { level, left }.member();
        assert_eq!(
            hit(Level::Memory, Left::Fresh(Duration::from_millis(3_900))),
            "CachedService; hit; ttl=3; detail=L1"
        );
        assert_eq!(
            hit(Level::Redis, Left::Stale(Duration::from_secs(3))),
            "CachedService; hit; ttl=-3; detail=L2"
        );
        assert_eq!(
            hit(Level::Memory, Left::Fresh(Duration::from_secs(1_234_567_890))),
            "CachedService; hit; ttl=1234567890; detail=L1"
        );
    }

    #[test]
    fn a_forwarded_request_says_why_and_what_came_of_it() {
        let status = Status::Forwarded {
            why: Forwarded::Stale,
            answered: Some(StatusCode::NOT_MODIFIED),
            stored: true,
        };
        assert_eq!(status.member(), "CachedService; fwd=stale; fwd-status=304; stored");
        let plain = Status::Forwarded { why: Forwarded::UriMiss, answered: None, stored: false };
        assert_eq!(plain.member(), "CachedService; fwd=uri-miss");
    }

    #[test]
    fn it_comes_after_those_nearer_to_the_origin() {
        let mut response = HeaderMap::new();
        response.insert(CACHE_STATUS, HeaderValue::from_static("Other; hit"));
        let left = Left::Fresh(Duration::ZERO);
        Status::Hit { level: Level::Memory, left }.add_to(&mut response);
        let lines: Vec<_> = response.get_all(CACHE_STATUS).iter().collect();
        assert_eq!(lines, ["Other; hit", "CachedService; hit; ttl=0; detail=L1"]);
    }

    #[test]
    fn what_was_added_is_read_again() {
        let seconds = Duration::from_secs;
        let hits = [Left::Fresh(seconds(0)), Left::Fresh(seconds(9)), Left::Stale(seconds(0))]
            .map(|left| Status::Hit { level: Level::Redis, left });
        let forwarded = [(None, true), (Some(StatusCode::NOT_MODIFIED), false)]
            .map(|(answered, stored)| Status::Forwarded { why: Forwarded::VaryMiss, answered, stored });
        for status in hits.into_iter().chain(forwarded) {
            let mut response = HeaderMap::new();
            response.insert(CACHE_STATUS, HeaderValue::from_static("CachedService; fwd=bypass"));
            status.add_to(&mut response);
            assert_eq!(Status::of(&response), Some(status));
        }
    }

    #[test]
    fn what_is_of_another_cache_is_not_taken_for_its_own() {
        for other in ["Other; hit; ttl=1; detail=L1", "CachedServices; fwd=bypass", "CachedService", "a, b"] {
            let mut response = HeaderMap::new();
            response.insert(CACHE_STATUS, HeaderValue::try_from(other).unwrap());
            assert_eq!(Status::of(&response), None, "{other}");
        }
        assert_eq!(Status::of(&HeaderMap::new()), None);
    }
}
