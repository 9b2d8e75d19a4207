//! Validation: of what is stored by the origin, and of what a client has by what is stored
//! (RFC 9111 §4.3, RFC 9110 §13). PURE.

use http::{
    HeaderMap, HeaderName, Method, StatusCode,
    header::{
        AGE, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, DATE, ETAG, IF_MODIFIED_SINCE,
        IF_NONE_MATCH, LAST_MODIFIED, SET_COOKIE, TRANSFER_ENCODING,
    },
};

use super::date;

/// Puts into a request what the origin needs to tell whether the stored response still holds; false
/// if the stored response has nothing to tell it by.
pub fn make_conditional(request: &mut HeaderMap, stored: &HeaderMap) -> bool {
    // What the client has is another matter: the answer to that is found afterwards.
    request.remove(IF_NONE_MATCH);
    request.remove(IF_MODIFIED_SINCE);
    let (tag, modified) = (stored.get(ETAG), stored.get(LAST_MODIFIED));
    if let Some(tag) = tag {
        request.insert(IF_NONE_MATCH, tag.clone());
    }
    if let Some(modified) = modified {
        request.insert(IF_MODIFIED_SINCE, modified.clone());
    }
    tag.is_some() || modified.is_some()
}

/// Whether a 304 is about the stored response (RFC 9111 §4.3.4): of two validators the strong one
/// counts, and a 304 without any is about what was asked for.
#[must_use]
pub fn is_about(not_modified: &HeaderMap, stored: &HeaderMap) -> bool {
    if let Some(tag) = not_modified.get(ETAG) {
        return stored.get(ETAG).is_some_and(|known| weakly_same(known.as_bytes(), tag.as_bytes()));
    }
    match not_modified.get(LAST_MODIFIED) {
        Some(modified) => stored.get(LAST_MODIFIED) == Some(modified),
        None => true,
    }
}

/// A digest of the body, which HTTP had once.
const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");

/// Fields that describe the stored body, or the connection, and not the response as it is now
/// (RFC 9111 §3.2). A cookie is for whoever asked this time, and not for the next.
const KEPT: [HeaderName; 7] = [
    CONTENT_LENGTH,
    CONTENT_ENCODING,
    CONTENT_MD5,
    CONTENT_TYPE,
    CONTENT_RANGE,
    SET_COOKIE,
    TRANSFER_ENCODING,
];

/// Fields that tell when a response was made. The stored ones do not hold any more, also where the 304 has
/// none (§4.2.3).
const OF_ITS_TIME: [HeaderName; 2] = [AGE, DATE];

/// Updates what is stored by the fields of a 304 (RFC 9111 §3.2). The content type is kept where
/// the 304 has none, and else replaced.
pub fn update(stored: &mut HeaderMap, not_modified: &HeaderMap) {
    for name in &OF_ITS_TIME {
        stored.remove(name);
    }
    for name in not_modified.keys() {
        if KEPT.contains(name) && name != CONTENT_TYPE {
            continue;
        }
        stored.remove(name);
        for value in not_modified.get_all(name) {
            stored.append(name, value.clone());
        }
    }
}

/// Whether a client that asks so has the stored response already, so that 304 is the answer
/// (RFC 9110 §13.2.2). A 304 stands for a 200.
#[must_use]
pub fn is_known_to(method: &Method, request: &HeaderMap, status: StatusCode, stored: &HeaderMap) -> bool {
    if status != StatusCode::OK || !matches!(*method, Method::GET | Method::HEAD) {
        return false;
    }
    if request.contains_key(IF_NONE_MATCH) {
        let tags = request.get_all(IF_NONE_MATCH).iter().flat_map(|line| tags(line.as_bytes()));
        return tags.into_iter().any(|tag| {
            tag == b"*" || stored.get(ETAG).is_some_and(|known| weakly_same(known.as_bytes(), tag))
        });
    }
    // Only where no tag is given (§13.1.3). What does not say when it was modified was not since it was
    // made (RFC 9111 §4.3.2).
    let Some(since) = date::date(request, &IF_MODIFIED_SINCE) else { return false };
    let by = if stored.contains_key(LAST_MODIFIED) { LAST_MODIFIED } else { DATE };
    date::date(stored, &by).is_some_and(|modified| modified <= since)
}

/// The entity tags of a list; a comma may stand within one.
fn tags(line: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    let mut rest = line.trim_ascii();
    while !rest.is_empty() {
        let opening = rest.iter().position(|byte| *byte == b'"');
        let end = match opening {
            // `W/` at most stands before it.
            Some(opening) if opening <= 2 => rest
                .iter()
                .skip(opening + 1)
                .position(|byte| *byte == b'"')
                .map_or(rest.len(), |closing| opening + closing + 2),
            _ => rest.iter().position(|byte| *byte == b',').unwrap_or(rest.len()),
        };
        let (tag, after) = rest.split_at(end);
        if !tag.is_empty() {
            found.push(tag.trim_ascii());
        }
        let after = after.trim_ascii_start();
        rest = after.strip_prefix(b",").unwrap_or(after).trim_ascii_start();
        if tag.is_empty() && rest.len() == line.len() {
            break;
        }
    }
    found
}

/// The weak comparison (RFC 9110 §8.8.3.2).
fn weakly_same(one: &[u8], other: &[u8]) -> bool {
    let opaque = |tag: &[u8]| tag.strip_prefix(b"W/").unwrap_or(tag).to_vec();
    opaque(one) == opaque(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sidecar::tests::headers;

    const TAGGED: (&str, &str) = ("etag", "\"a,b\"");
    const MODIFIED: (&str, &str) = ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT");

    #[test]
    fn the_origin_is_asked_about_what_is_stored_and_not_about_what_the_client_has() {
        let mut request = headers(&[("if-none-match", "\"theirs\""), ("if-modified-since", "x")]);
        assert!(make_conditional(&mut request, &headers(&[TAGGED])));
        assert_eq!(request, headers(&[("if-none-match", TAGGED.1)]));
        assert!(!make_conditional(&mut request, &headers(&[])));
        assert!(request.is_empty());
    }

    #[test]
    fn a_client_that_has_one_of_the_tags_gets_no_body() {
        let stored = headers(&[TAGGED, MODIFIED]);
        let known = |request: &[(&'static str, &'static str)]| {
            is_known_to(&Method::GET, &headers(request), StatusCode::OK, &stored)
        };
        for tags in ["\"a,b\"", "W/\"a,b\"", "\"x\", \"a,b\"", "\"x\",W/\"y\" , \"a,b\",", "*"] {
            assert!(known(&[("if-none-match", tags)]), "{tags}");
        }
        for tags in ["\"a\"", "a,b", "\"x\"", "", "\"a,b", "W/"] {
            assert!(!known(&[("if-none-match", tags)]), "{tags}");
        }
        assert!(known(&[("if-modified-since", MODIFIED.1)]));
        assert!(!known(&[("if-modified-since", "Sun, 06 Nov 1994 08:49:36 GMT")]));
        // A tag that does not fit counts before a date that does.
        assert!(!known(&[("if-none-match", "\"x\""), ("if-modified-since", MODIFIED.1)]));
    }

    #[test]
    fn what_does_not_say_when_it_was_modified_was_not_since_it_was_made() {
        let since = |date| headers(&[("if-modified-since", date)]);
        let made = headers(&[("date", MODIFIED.1)]);
        let known = |date| is_known_to(&Method::GET, &since(date), StatusCode::OK, &made);
        assert!(known(MODIFIED.1) && known("Sun, 06 Nov 1994 08:49:38 GMT"));
        assert!(!known("Sun, 06 Nov 1994 08:49:36 GMT"));
    }

    #[test]
    fn a_304_renews_the_fields_and_not_the_body() {
        let digest = |value| ("content-md5", value);
        let mut stored = headers(&[
            ("content-length", "5"),
            digest("a"),
            ("cache-control", "max-age=1"),
            ("x", "old"),
            ("y", "kept"),
        ]);
        let new = [("content-length", "0"), digest("b"), ("cache-control", "max-age=2"), ("x", "new")];
        update(&mut stored, &headers(&new));
        let expected =
            headers(&[("content-length", "5"), ("y", "kept"), ("cache-control", "max-age=2"), ("x", "new")]);
        assert_eq!(stored.remove("content-md5").unwrap(), "a");
        assert_eq!(stored, expected);
    }

    #[test]
    fn a_304_that_does_not_tell_its_time_is_of_now() {
        let mut stored = headers(&[("age", "100"), ("date", MODIFIED.1), ("x", "kept")]);
        update(&mut stored, &HeaderMap::new());
        assert_eq!(stored, headers(&[("x", "kept")]));
    }

    #[test]
    fn a_304_about_something_else_is_told_by_its_validators() {
        let stored = headers(&[TAGGED, MODIFIED]);
        assert!(is_about(&headers(&[("etag", "W/\"a,b\"")]), &stored));
        assert!(!is_about(&headers(&[("etag", "\"other\""), MODIFIED]), &stored));
        assert!(is_about(&headers(&[MODIFIED]), &stored));
        assert!(is_about(&headers(&[]), &stored));
    }
}
