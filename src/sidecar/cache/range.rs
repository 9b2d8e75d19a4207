//! A part of a complete stored response (RFC 9110 §14, RFC 9111 §3.4). PURE.

use std::ops::Range;

use http::{
    HeaderMap, Method, StatusCode,
    header::{DATE, ETAG, IF_RANGE, LAST_MODIFIED, RANGE},
};

use super::date;

/// What of a stored response a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// These bytes, with 206 and `Content-Range`.
    Bytes(Range<u64>),
    /// Nothing that it has: 416, with its length in `Content-Range`.
    Unsatisfiable,
}

/// The part of a stored 200 of `length` bytes that a request asks for.
///
/// Of several ranges the whole is given, as a server may (§14.2): to put them together costs
/// more than what they leave out. So it is with what is not understood.
#[must_use]
pub fn part(
    method: &Method,
    request: &HeaderMap,
    status: StatusCode,
    stored: &HeaderMap,
    length: u64,
) -> Part {
    if method != Method::GET || status != StatusCode::OK || !is_current(request, stored) {
        return Part::Whole;
    }
    let mut lines = request.get_all(RANGE).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return Part::Whole };
    line.to_str().ok().and_then(one_range).map_or(Part::Whole, |range| range.of(length))
}

/// Whether `If-Range`, where it is there, is about what is stored (§13.1.5).
#[must_use]
pub fn is_current(request: &HeaderMap, stored: &HeaderMap) -> bool {
    let Some(condition) = request.get(IF_RANGE) else { return true };
    if condition.as_bytes().starts_with(b"\"") {
        // The strong comparison: a weak tag is the same as none (§8.8.3.2).
        return stored.get(ETAG) == Some(condition);
    }
    let modified = date::date(stored, &LAST_MODIFIED);
    let wanted = date::date(request, &IF_RANGE);
    // A date is strong where the response was made at least a second later (§8.8.2.2).
    let is_strong = modified.zip(date::date(stored, &DATE)).is_some_and(|(modified, made)| modified < made);
    is_strong && wanted.is_some() && wanted == modified
}

/// One range of bytes as it is asked for.
#[derive(Clone, Copy, Debug)]
enum Asked {
    From(u64),
    Between(u64, u64),
    Last(u64),
}

impl Asked {
    fn of(self, length: u64) -> Part {
        let range = match self {
            Self::From(first) => first..length,
            Self::Between(first, last) => first..length.min(last.saturating_add(1)),
            Self::Last(count) => length.saturating_sub(count)..length,
        };
        if range.is_empty() { Part::Unsatisfiable } else { Part::Bytes(range) }
    }
}

/// `bytes=` and one range; None of anything else.
fn one_range(text: &str) -> Option<Asked> {
    let (unit, range) = text.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = range.trim().split_once('-')?;
    match (first, last) {
        ("", last) => Some(Asked::Last(number(last)?)),
        (first, "") => Some(Asked::From(number(first)?)),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(Asked::Between(first, last))
        }
    }
}

/// Digits alone; what does not fit is larger than any body.
fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sidecar::tests::headers;

    fn of_ten(range: &'static str) -> Part {
        part(&Method::GET, &headers(&[("range", range)]), StatusCode::OK, &HeaderMap::new(), 10)
    }

    #[test]
    fn one_range_is_cut_to_what_there_is() {
        assert_eq!(of_ten("bytes=0-3"), Part::Bytes(0..4));
        assert_eq!(of_ten("bytes=4-"), Part::Bytes(4..10));
        assert_eq!(of_ten("bytes=-3"), Part::Bytes(7..10));
        assert_eq!(of_ten("bytes=-30"), Part::Bytes(0..10));
        assert_eq!(of_ten("bytes=9-99999999999999999999"), Part::Bytes(9..10));
        assert_eq!(of_ten("Bytes=0-0"), Part::Bytes(0..1));
    }

    #[test]
    fn what_lies_beyond_it_is_not_satisfiable() {
        for range in ["bytes=10-", "bytes=10-11", "bytes=-0"] {
            assert_eq!(of_ten(range), Part::Unsatisfiable, "{range}");
        }
    }

    #[test]
    fn what_is_not_understood_is_as_if_it_were_not_there() {
        for range in ["bytes=3-1", "bytes=a-b", "bytes=+1-2", "bytes=-", "lines=0-1", "bytes=0-1,3-4", "0-1"]
        {
            assert_eq!(of_ten(range), Part::Whole, "{range}");
        }
        let range = headers(&[("range", "bytes=0-1")]);
        assert_eq!(part(&Method::HEAD, &range, StatusCode::OK, &HeaderMap::new(), 10), Part::Whole);
        assert_eq!(part(&Method::GET, &range, StatusCode::NOT_FOUND, &HeaderMap::new(), 10), Part::Whole);
    }

    #[test]
    fn a_part_of_another_version_is_not_given() {
        let asked = |condition: &'static str, stored: &[(&'static str, &'static str)]| {
            let request = headers(&[("range", "bytes=0-1"), ("if-range", condition)]);
            part(&Method::GET, &request, StatusCode::OK, &headers(stored), 10)
        };
        let (part, whole) = (Part::Bytes(0..2), Part::Whole);
        assert_eq!(asked("\"a\"", &[("etag", "\"a\"")]), part);
        assert_eq!(asked("\"a\"", &[("etag", "\"b\"")]), whole);
        assert_eq!(asked("W/\"a\"", &[("etag", "W/\"a\"")]), whole);
        let modified = "Sun, 06 Nov 1994 08:49:37 GMT";
        let later = ("date", "Sun, 06 Nov 1994 08:49:38 GMT");
        assert_eq!(asked(modified, &[("last-modified", modified), later]), part);
        assert_eq!(asked(modified, &[("last-modified", modified), ("date", modified)]), whole);
        assert_eq!(asked(later.1, &[("last-modified", modified), later]), whole);
    }
}
