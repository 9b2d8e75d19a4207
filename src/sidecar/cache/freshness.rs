//! How long a response is fresh, and how old it is (RFC 9111 §4.2). PURE.

use std::time::Duration;

use http::{
    HeaderMap, StatusCode,
    header::{AGE, DATE, EXPIRES, LAST_MODIFIED},
};
use jiff::{SignedDuration, Timestamp};

use super::{ResponseDirectives, date};

/// Of the time since a response was last modified, this part is taken for how long it stays so
/// (RFC 9111 §4.2.2 names a tenth).
const HEURISTIC_PART: u32 = 10;

/// The longest that is guessed. What is fresh for longer has to say so.
const LONGEST_GUESS: Duration = Duration::from_hours(24);

/// An age that is too large is this one (RFC 9111 §1.2.2).
const OLDEST: u64 = 1 << 31;

/// When a response was asked for, and when its head was there, on the cache's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// When the request was sent.
    pub requested: Timestamp,
    /// When the head of the response was received.
    pub received: Timestamp,
}

/// How long a response is fresh, counted from when it was made, and how that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// The response says so.
    Explicit(Duration),
    /// It is guessed from when it was last modified.
    Heuristic(Duration),
    /// Nothing tells.
    Unknown,
}

impl Lifetime {
    /// Of a response to a shared cache (RFC 9111 §4.2.1).
    #[must_use]
    pub fn of(
        status: StatusCode,
        headers: &HeaderMap,
        directives: &ResponseDirectives,
        received: Timestamp,
    ) -> Self {
        if let Some(age) = directives.s_maxage.or(directives.max_age) {
            return Self::Explicit(age);
        }
        let made = date::date(headers, &DATE).unwrap_or(received);
        if !directives.is_targeted && headers.contains_key(EXPIRES) {
            // What is no date is in the past, "0" most of all (§5.3).
            let expires = date::date(headers, &EXPIRES);
            return Self::Explicit(expires.map_or(Duration::ZERO, |expires| since(made, expires)));
        }
        if !(is_heuristically_cacheable(status) || directives.public) {
            return Self::Unknown;
        }
        date::date(headers, &LAST_MODIFIED).map_or(Self::Unknown, |modified| {
            Self::Heuristic((since(modified, made) / HEURISTIC_PART).min(LONGEST_GUESS))
        })
    }

    /// The time itself; what nothing tells of is not fresh.
    #[must_use]
    pub fn duration(self) -> Duration {
        match self {
            Self::Explicit(duration) | Self::Heuristic(duration) => duration,
            Self::Unknown => Duration::ZERO,
        }
    }
}

/// Whether a response of this status may be stored and taken for fresh though it says nothing of
/// it (RFC 9110 §15.1).
#[must_use]
pub fn is_heuristically_cacheable(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 206 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// How old a response is at `now` (RFC 9111 §4.2.3).
#[must_use]
pub fn age(headers: &HeaderMap, exchange: Exchange, now: Timestamp) -> Duration {
    // Clocks may be set back.
    let apparent = date::date(headers, &DATE).map_or(Duration::ZERO, |made| since(made, exchange.received));
    let delay = since(exchange.requested, exchange.received);
    let corrected = age_field(headers).saturating_add(delay);
    apparent.max(corrected).saturating_add(since(exchange.received, now))
}

/// The age that the response had when it came. A field that is not one number of seconds makes it old.
/// §5.1 would have it passed over, or the first of a list count; but then a response of unknown age would be
/// fresh, and what is not clear is better asked for (§4.2.1).
fn age_field(headers: &HeaderMap) -> Duration {
    let mut lines = headers.get_all(AGE).iter();
    let Some(line) = lines.next() else { return Duration::ZERO };
    let text = line.as_bytes().trim_ascii();
    let is_one_number = lines.next().is_none() && !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(text).ok().filter(|_| is_one_number).and_then(|text| text.parse().ok());
    Duration::from_secs(number.map_or(OLDEST, |seconds: u64| seconds.min(OLDEST)))
}

/// From one point in time to a later one; nothing where it is no later one.
fn since(from: Timestamp, to: Timestamp) -> Duration {
    let between: SignedDuration = to.duration_since(from);
    Duration::try_from(between).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sidecar::tests::headers;

    /// `Sun, 06 Nov 1994 08:49:37 GMT`.
    const MADE: i64 = 784_111_777;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(MADE + seconds).unwrap()
    }

    fn lifetime(status: u16, lines: &[(&'static str, &'static str)]) -> Lifetime {
        let headers = headers(lines);
        let directives = ResponseDirectives::of(&headers);
        Lifetime::of(StatusCode::from_u16(status).unwrap(), &headers, &directives, at(0))
    }

    const SECOND: Duration = Duration::from_secs(1);
    const DATED: (&str, &str) = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");

    #[test]
    fn a_shared_cache_has_its_own_maximum_age() {
        let found = lifetime(200, &[("cache-control", "max-age=1, s-maxage=60"), DATED]);
        assert_eq!(found, Lifetime::Explicit(SECOND * 60));
    }

    #[test]
    fn expires_counts_from_the_date_and_after_the_maximum_age() {
        let expires = ("expires", "Sun, 06 Nov 1994 08:50:37 GMT");
        assert_eq!(lifetime(200, &[DATED, expires]), Lifetime::Explicit(SECOND * 60));
        assert_eq!(lifetime(200, &[expires]), Lifetime::Explicit(SECOND * 60), "from when it was received");
        let both = [DATED, expires, ("cache-control", "max-age=1")];
        assert_eq!(lifetime(200, &both), Lifetime::Explicit(SECOND));
        let targeted = [DATED, expires, ("cdn-cache-control", "public")];
        assert_eq!(lifetime(200, &targeted), Lifetime::Unknown);
    }

    #[test]
    fn what_is_no_date_has_expired() {
        let two = [
            DATED,
            ("expires", "Sun, 06 Nov 1994 08:50:37 GMT"),
            ("expires", "Sun, 06 Nov 1994 08:50:37 GMT"),
        ];
        for lines in [&[DATED, ("expires", "0")][..], &[DATED, ("expires", "soon")], &two] {
            assert_eq!(lifetime(200, lines), Lifetime::Explicit(Duration::ZERO), "{lines:?}");
        }
    }

    #[test]
    fn a_tenth_of_the_time_since_the_last_change_is_guessed_and_a_day_at_most() {
        let changed = |date| [DATED, ("last-modified", date)];
        let minutes = changed("Sun, 06 Nov 1994 08:39:37 GMT");
        assert_eq!(lifetime(200, &minutes), Lifetime::Heuristic(SECOND * 60));
        assert_eq!(lifetime(500, &minutes), Lifetime::Unknown);
        assert_eq!(
            lifetime(200, &changed("Wed, 06 Nov 1974 08:49:37 GMT")),
            Lifetime::Heuristic(Duration::from_hours(24))
        );
        // A date in the future is none since when it has not changed.
        assert_eq!(
            lifetime(200, &changed("Sun, 06 Nov 2044 08:49:37 GMT")),
            Lifetime::Heuristic(Duration::ZERO)
        );
    }

    #[test]
    fn the_age_is_what_the_clocks_and_the_caches_before_tell() {
        let exchange = Exchange { requested: at(1), received: at(4) };
        // From the date to when it was received, and what passed since.
        assert_eq!(age(&headers(&[DATED]), exchange, at(10)), SECOND * 10);
        // The caches before say more, and the way took three seconds.
        assert_eq!(age(&headers(&[DATED, ("age", "100")]), exchange, at(10)), SECOND * 109);
        // Made in the future, by another clock.
        let early = Exchange { requested: at(-9), received: at(-9) };
        assert_eq!(age(&headers(&[DATED]), early, at(-9)), Duration::ZERO);
    }

    #[test]
    fn what_is_of_an_unclear_age_is_old() {
        let exchange = Exchange { requested: at(0), received: at(0) };
        for unclear in ["-1", "x", "1.5", "", "7, 100", "7;a=b", "99999999999999999999999"] {
            let found = age(&headers(&[DATED, ("age", unclear)]), exchange, at(0));
            assert_eq!(found, Duration::from_secs(OLDEST), "{unclear}");
        }
        let two = headers(&[DATED, ("age", "0"), ("age", "0")]);
        assert_eq!(age(&two, exchange, at(0)), Duration::from_secs(OLDEST));
        assert_eq!(age(&headers(&[DATED, ("age", "7")]), exchange, at(0)), SECOND * 7);
    }
}
