//! Whether a response may be stored (RFC 9111 §3). PURE.

use http::{
    HeaderMap, Method, StatusCode,
    header::{AUTHORIZATION, CONTENT_RANGE, COOKIE, EXPIRES, SET_COOKIE, VARY},
};

use super::{RequestDirectives, ResponseDirectives, freshness::is_heuristically_cacheable};

/// Why a response is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotStored {
    /// The request's method asks for nothing that could be used again.
    Method,
    /// The status is not final, not understood, or of a part.
    Status,
    /// The request or the response forbids it.
    NoStore,
    /// It is for one user.
    Private,
    /// The request had credentials, and the response does not say that it is for others too (§3.5).
    Authorization,
    /// It sets a cookie, which is for one user, mostly. The standard does not forbid it (§7.3); a rule may allow it.
    SetCookie,
    /// The request had a cookie, and the response says nothing: it may be that user's page.
    Cookie,
    /// The status tells of how this one client asked, by fields that are not in the key, or one of these may have been
    /// taken for one that the response varies by.
    OfThisRequest,
    /// It depends on more than the request (`Vary: *`): nothing could be answered with it (§4.1).
    VaryAll,
    /// Nothing says that it may be, and its status is none that may be by itself.
    Unmarked,
    /// It is larger than the settings allow.
    TooLarge,
    /// It ends with its connection, so it may have been cut short (RFC 9112 §8).
    NoEnd,
    /// Bodies on their way, to clients that are slow above all, have all the memory beside the cache.
    NoRoom,
    /// It is a page by the name of a file: no rule allows what the response does not.
    NameOfFile,
}

impl NotStored {
    /// All, in the order of their declaration.
    pub const ALL: [Self; 14] = [
        Self::Method,
        Self::Status,
        Self::NoStore,
        Self::Private,
        Self::Authorization,
        Self::SetCookie,
        Self::Cookie,
        Self::OfThisRequest,
        Self::VaryAll,
        Self::Unmarked,
        Self::TooLarge,
        Self::NoEnd,
        Self::NoRoom,
        Self::NameOfFile,
    ];

    /// As it is told in figures.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Status => "status",
            Self::NoStore => "no-store",
            Self::Private => "private",
            Self::Authorization => "authorization",
            Self::SetCookie => "set-cookie",
            Self::Cookie => "cookie",
            Self::OfThisRequest => "of-this-request",
            Self::VaryAll => "vary-all",
            Self::Unmarked => "unmarked",
            Self::TooLarge => "too-large",
            Self::NoEnd => "no-end",
            Self::NoRoom => "no-room",
            Self::NameOfFile => "name-of-file",
        }
    }
}

/// Statuses that are understood in what they mean for a cache (RFC 9110 §15).
fn is_understood(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200 | 201 | 202 | 203 | 204 | 205 | 300 | 301 | 302 | 303 | 305 | 307 | 308 | 400..=418 | 421..=426 | 428 | 429 | 431 | 451 | 500..=508 | 510 | 511
    )
}

/// Statuses that speak of one request: of fields that are too large, malformed or want too much, of a condition or a
/// range, of how often this client asks. A client could have one stored for all others by what it writes
/// into a field (cache-poisoned denial of service), whatever the application says of its pages.
fn is_of_this_request(status: StatusCode) -> bool {
    matches!(status.as_u16(), 400 | 406..=408 | 411..=413 | 415 | 417 | 421 | 425 | 426 | 428 | 429 | 431)
}

/// Whether a response itself says that it may be stored, and not its status alone. Of one that does not, a
/// cache may guess (RFC 9111 §4.2.2).
#[must_use]
pub fn is_permitted(response: &HeaderMap, directives: &ResponseDirectives) -> bool {
    directives.max_age.is_some()
        || directives.s_maxage.is_some()
        || directives.public
        || (!directives.is_targeted && response.contains_key(EXPIRES))
}

/// Whether a shared cache may store the response.
///
/// # Errors
/// Why not.
pub fn may_store(
    method: &Method,
    request: &HeaderMap,
    status: StatusCode,
    response: &HeaderMap,
    directives: &ResponseDirectives,
) -> Result<(), NotStored> {
    if method != Method::GET {
        return Err(NotStored::Method);
    }
    if is_of_this_request(status) {
        return Err(NotStored::OfThisRequest);
    }
    if status.is_informational()
        || matches!(status, StatusCode::NOT_MODIFIED | StatusCode::RANGE_NOT_SATISFIABLE)
    {
        return Err(NotStored::Status);
    }
    // One part is kept for those who ask for the same; several in one body are not (§3.3). With
    // another status the field means nothing (RFC 9110 §14.4).
    if status == StatusCode::PARTIAL_CONTENT && !response.contains_key(CONTENT_RANGE) {
        return Err(NotStored::Status);
    }
    // Who understands must-understand goes by the status, and not by no-store beside it (§5.2.2.3).
    if directives.must_understand {
        if !is_understood(status) {
            return Err(NotStored::Status);
        }
    } else if directives.no_store {
        return Err(NotStored::NoStore);
    }
    if RequestDirectives::of(request).no_store {
        return Err(NotStored::NoStore);
    }
    if directives.private {
        return Err(NotStored::Private);
    }
    let is_for_others = directives.must_revalidate || directives.public || directives.s_maxage.is_some();
    if request.contains_key(AUTHORIZATION) && !is_for_others {
        return Err(NotStored::Authorization);
    }
    if response.contains_key(SET_COOKIE) {
        return Err(NotStored::SetCookie);
    }
    if response.get_all(VARY).iter().any(|line| line.as_bytes().contains(&b'*')) {
        return Err(NotStored::VaryAll);
    }
    if is_permitted(response, directives) {
        Ok(())
    } else if !is_heuristically_cacheable(status) {
        Err(NotStored::Unmarked)
    } else if request.contains_key(COOKIE) {
        // Last of all, so that a rule which gives the time may stand for the permission.
        Err(NotStored::Cookie)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sidecar::tests::headers;

    fn stored(
        status: u16,
        request: &[(&'static str, &'static str)],
        response: &[(&'static str, &'static str)],
    ) -> Result<(), NotStored> {
        let response = headers(response);
        let directives = ResponseDirectives::of(&response);
        may_store(
            &Method::GET,
            &headers(request),
            StatusCode::from_u16(status).unwrap(),
            &response,
            &directives,
        )
    }

    const HOUR: (&str, &str) = ("cache-control", "max-age=3600");

    #[test]
    fn what_says_how_long_it_is_fresh_is_stored() {
        for status in [200, 302, 404, 503, 599] {
            assert_eq!(stored(status, &[], &[HOUR]), Ok(()), "{status}");
        }
        assert_eq!(stored(200, &[], &[]), Ok(()), "to be validated");
        assert_eq!(stored(302, &[], &[]), Err(NotStored::Unmarked));
        assert_eq!(stored(302, &[], &[("cache-control", "public")]), Ok(()));
    }

    #[test]
    fn one_part_is_stored_and_several_are_not() {
        let part = ("content-range", "bytes 0-1/2");
        assert_eq!(stored(206, &[], &[HOUR, part]), Ok(()));
        assert_eq!(stored(206, &[], &[HOUR]), Err(NotStored::Status));
        assert_eq!(stored(200, &[], &[HOUR, part]), Ok(()), "it is the whole, whatever the field says");
        for status in [304, 416] {
            assert_eq!(stored(status, &[], &[HOUR]), Err(NotStored::Status), "it is for one request");
        }
    }

    #[test]
    fn what_is_for_one_user_is_not_stored() {
        assert_eq!(stored(200, &[], &[("cache-control", "private, max-age=1")]), Err(NotStored::Private));
        assert_eq!(stored(200, &[], &[HOUR, ("set-cookie", "a=b")]), Err(NotStored::SetCookie));
        let credentials = [("authorization", "Basic eA==")];
        assert_eq!(stored(200, &credentials, &[HOUR]), Err(NotStored::Authorization));
        for for_others in ["public", "s-maxage=1", "must-revalidate, max-age=1"] {
            assert_eq!(stored(200, &credentials, &[("cache-control", for_others)]), Ok(()), "{for_others}");
        }
    }

    #[test]
    fn what_says_nothing_is_not_stored_where_the_request_had_a_cookie() {
        let cookie = [("cookie", "session=1")];
        for silent in
            [&[][..], &[("cache-control", "no-cache")], &[("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT")]]
        {
            assert_eq!(stored(200, &cookie, silent), Err(NotStored::Cookie), "{silent:?}");
            assert_eq!(stored(200, &[], silent), Ok(()), "{silent:?}");
        }
        for permission in
            [HOUR, ("cache-control", "public"), ("cache-control", "s-maxage=1"), ("expires", "0")]
        {
            assert_eq!(stored(200, &cookie, &[permission]), Ok(()), "{permission:?}");
        }
    }

    #[test]
    fn what_tells_of_how_one_client_asked_is_not_stored() {
        for status in [400, 413, 417, 429, 431] {
            assert_eq!(stored(status, &[], &[HOUR]), Err(NotStored::OfThisRequest), "{status}");
        }
    }

    #[test]
    fn either_side_can_forbid_it() {
        assert_eq!(stored(200, &[], &[("cache-control", "no-store, max-age=1")]), Err(NotStored::NoStore));
        assert_eq!(stored(200, &[("cache-control", "no-store")], &[HOUR]), Err(NotStored::NoStore));
        let understand = ("cache-control", "no-store, must-understand, max-age=1");
        assert_eq!(stored(200, &[], &[understand]), Ok(()));
        assert_eq!(stored(599, &[], &[understand]), Err(NotStored::Status));
    }

    #[test]
    fn what_depends_on_more_than_the_request_is_not_stored() {
        assert_eq!(stored(200, &[], &[HOUR, ("vary", "accept"), ("vary", "x, *")]), Err(NotStored::VaryAll));
    }
}
