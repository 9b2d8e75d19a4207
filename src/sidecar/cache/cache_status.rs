//! How a response was made, for whoever looks at it: `Cache-Status` (RFC 9211). PURE.

use std::{fmt::Write, time::Duration};

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
        /// Whether it was the answer to another request that came at the same time (§2.6).
        collapsed: bool,
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

impl Status {
    /// Adds it to a response, after those of the caches that are nearer to the origin.
    pub fn add_to(&self, response: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::try_from(self.member()) {
            response.append(CACHE_STATUS, value);
        }
    }

    fn member(&self) -> String {
        let mut member = NAME.to_owned();
        match self {
            Self::Hit { level, left } => {
                let (sign, time) = match left {
                    Left::Fresh(time) => ("", time),
                    Left::Stale(time) => ("-", time),
                };
                let _ = write!(member, "; hit; ttl={sign}{}; detail={}", time.as_secs(), level.as_str());
            }
            Self::Forwarded { why, answered, stored, collapsed } => {
                let _ = write!(member, "; fwd={}", why.as_str());
                if let Some(status) = answered {
                    let _ = write!(member, "; fwd-status={}", status.as_u16());
                }
                for (is_so, parameter) in [(stored, "; stored"), (collapsed, "; collapsed")] {
                    if *is_so {
                        member.push_str(parameter);
                    }
                }
            }
        }
        member
    }
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
    }

    #[test]
    fn a_forwarded_request_says_why_and_what_came_of_it() {
        let status = Status::Forwarded {
            why: Forwarded::Stale,
            answered: Some(StatusCode::NOT_MODIFIED),
            stored: true,
            collapsed: true,
        };
        assert_eq!(status.member(), "CachedService; fwd=stale; fwd-status=304; stored; collapsed");
        let plain =
            Status::Forwarded { why: Forwarded::UriMiss, answered: None, stored: false, collapsed: false };
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
}
