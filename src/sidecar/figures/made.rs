//! How an answer came about, in as few words as a figure has places. PURE.

use http::{HeaderMap, StatusCode};

use crate::sidecar::cache::cache_status::{Forwarded, Left, Level, Status};

/// How an answer came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// From the cache, which had it fresh.
    Fresh(Level),
    /// From the cache, which had it no more than stale.
    Stale(Level),
    /// From the cache, as the application said that it still holds.
    Validated,
    /// By the application, as the cache had nothing to answer with.
    Missed(Forwarded),
    /// By the application, past the cache.
    Passed(Forwarded),
    /// The application speaks another protocol from here.
    Upgraded,
    /// By the sidecar: the request was not in order, or wanted nothing but what is stored.
    Refused,
    /// By the sidecar, as the application did not answer.
    Failed,
    /// There was none, as the client did not wait for it.
    Abandoned,
}

/// Whose doing an answer is, of those that are timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The cache's alone.
    Cache,
    /// The application's, in place of the cache.
    Application,
    /// The application's, past the cache.
    Passed,
}

/// Where the bytes of a body come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The cache.
    Cache,
    /// The application.
    Application,
    /// This sidecar's own words.
    Sidecar,
}

impl Side {
    /// All, in the order of their places.
    pub const ALL: [Self; 3] = [Self::Cache, Self::Application, Self::Passed];

    /// As it is told in figures.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cache => "hit",
            Self::Application => "miss",
            Self::Passed => "pass",
        }
    }
}

impl Source {
    /// All, in the order of their places.
    pub const ALL: [Self; 3] = [Self::Cache, Self::Application, Self::Sidecar];

    /// As it is told in figures.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cache => "cache",
            Self::Application => "application",
            Self::Sidecar => "sidecar",
        }
    }
}

impl Made {
    /// All that there are, in the order of their places.
    pub const ALL: [Self; 15] = [
        Self::Fresh(Level::Memory),
        Self::Fresh(Level::Redis),
        Self::Stale(Level::Memory),
        Self::Stale(Level::Redis),
        Self::Validated,
        Self::Missed(Forwarded::UriMiss),
        Self::Missed(Forwarded::VaryMiss),
        Self::Missed(Forwarded::Stale),
        Self::Missed(Forwarded::Request),
        Self::Passed(Forwarded::Bypass),
        Self::Passed(Forwarded::Method),
        Self::Upgraded,
        Self::Refused,
        Self::Failed,
        Self::Abandoned,
    ];

    /// By the fields of an answer, to which the sidecar has added how it was made.
    #[must_use]
    pub fn of(status: StatusCode, fields: &HeaderMap) -> Self {
        // What the application says when it changes the protocol is passed on as it is.
        if status == StatusCode::SWITCHING_PROTOCOLS {
            return Self::Upgraded;
        }
        match Status::of(fields) {
            Some(Status::Hit { level, left: Left::Fresh(_) }) => Self::Fresh(level),
            Some(Status::Hit { level, left: Left::Stale(_) }) => Self::Stale(level),
            Some(Status::Forwarded { answered: Some(StatusCode::NOT_MODIFIED), .. }) => Self::Validated,
            Some(Status::Forwarded { why: why @ (Forwarded::Bypass | Forwarded::Method), .. }) => {
                Self::Passed(why)
            }
            Some(Status::Forwarded { why, .. }) => Self::Missed(why),
            // 501 is of methods that are not spoken here.
            None if status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED => Self::Failed,
            None => Self::Refused,
        }
    }

    /// Its place among all.
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::Fresh(Level::Memory) => 0,
            Self::Fresh(Level::Redis) => 1,
            Self::Stale(Level::Memory) => 2,
            Self::Stale(Level::Redis) => 3,
            Self::Validated => 4,
            Self::Missed(Forwarded::UriMiss | Forwarded::Bypass | Forwarded::Method) => 5,
            Self::Missed(Forwarded::VaryMiss) => 6,
            Self::Missed(Forwarded::Stale) => 7,
            Self::Missed(Forwarded::Request) => 8,
            Self::Passed(Forwarded::Method) => 10,
            Self::Passed(_) => 9,
            Self::Upgraded => 11,
            Self::Refused => 12,
            Self::Failed => 13,
            Self::Abandoned => 14,
        }
    }

    /// What came of the request.
    #[must_use]
    pub fn result(self) -> &'static str {
        match self {
            Self::Fresh(_) => "hit",
            Self::Stale(_) => "stale",
            Self::Validated => "revalidated",
            Self::Missed(_) => "miss",
            Self::Passed(_) | Self::Upgraded => "pass",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Abandoned => "abandoned",
        }
    }

    /// Where it was found, or why it was not.
    #[must_use]
    pub fn detail(self) -> &'static str {
        match self {
            Self::Fresh(level) | Self::Stale(level) => level.as_str(),
            Self::Missed(why) | Self::Passed(why) => why.as_str(),
            Self::Validated => Forwarded::Stale.as_str(),
            Self::Upgraded => "upgrade",
            Self::Refused | Self::Failed | Self::Abandoned => "none",
        }
    }

    /// Whose doing it is, if that of the cache or of the application.
    #[must_use]
    pub fn side(self) -> Option<Side> {
        match self {
            Self::Fresh(_) | Self::Stale(_) => Some(Side::Cache),
            Self::Validated | Self::Missed(_) => Some(Side::Application),
            Self::Passed(_) | Self::Upgraded => Some(Side::Passed),
            Self::Refused | Self::Failed | Self::Abandoned => None,
        }
    }

    /// Where its body comes from.
    #[must_use]
    pub fn source(self) -> Source {
        match self {
            Self::Fresh(_) | Self::Stale(_) | Self::Validated => Source::Cache,
            Self::Missed(_) | Self::Passed(_) | Self::Upgraded => Source::Application,
            Self::Refused | Self::Failed | Self::Abandoned => Source::Sidecar,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sidecar::tests::headers;

    fn made(status: u16, fields: &[(&'static str, &'static str)]) -> Made {
        Made::of(StatusCode::from_u16(status).unwrap(), &headers(fields))
    }

    #[test]
    fn the_field_that_the_sidecar_adds_says_how_it_was_made() {
        for (field, expected) in [
            ("CachedService; hit; ttl=3; detail=L1", Made::Fresh(Level::Memory)),
            ("CachedService; hit; ttl=-3; detail=L2", Made::Stale(Level::Redis)),
            ("CachedService; fwd=uri-miss; stored", Made::Missed(Forwarded::UriMiss)),
            ("CachedService; fwd=stale; fwd-status=304; stored", Made::Validated),
            ("CachedService; fwd=bypass", Made::Passed(Forwarded::Bypass)),
        ] {
            assert_eq!(made(200, &[("cache-status", field)]), expected, "{field}");
        }
    }

    #[test]
    fn without_it_the_answer_is_the_sidecars_own() {
        assert_eq!([400, 431, 501].map(|status| made(status, &[])), [Made::Refused; 3]);
        assert_eq!([502, 503, 504].map(|status| made(status, &[])), [Made::Failed; 3]);
    }

    #[test]
    fn an_application_that_changes_the_protocol_cannot_pass_for_a_hit() {
        assert_eq!(made(101, &[("cache-status", "CachedService; hit; ttl=9; detail=L1")]), Made::Upgraded);
    }
}
