//! What the answer to a HEAD tells of a stored response to GET (RFC 9111 §4.3.5). PURE.

use http::{
    HeaderMap, HeaderName, StatusCode,
    header::{CONTENT_LENGTH, ETAG, LAST_MODIFIED},
};

/// What becomes of the stored response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It still holds, by a validator, and has the fields of the answer from now on.
    Updated,
    /// It is another by now, and has to be validated.
    Outdated,
    /// The answer does not tell.
    None,
}

/// Fields by which two versions differ.
const TOLD_BY: [HeaderName; 3] = [ETAG, LAST_MODIFIED, CONTENT_LENGTH];

/// Fields by which the same version is known.
const VALIDATORS: [HeaderName; 2] = [ETAG, LAST_MODIFIED];

/// What an answer to HEAD tells of what is stored, of `length` bytes.
#[must_use]
pub fn effect(status: StatusCode, head: &HeaderMap, stored: &HeaderMap, length: usize) -> Effect {
    if status != StatusCode::OK {
        return Effect::None;
    }
    let is_same = |name: &HeaderName| match head.get(name) {
        None => true,
        Some(value) if name == CONTENT_LENGTH => value.as_bytes() == length.to_string().as_bytes(),
        told => stored.get(name) == told,
    };
    if !TOLD_BY.iter().all(is_same) {
        return Effect::Outdated;
    }
    // That nothing differs does not say that it is the same: of another page of this length nobody would
    // be told.
    if VALIDATORS.iter().any(|name| head.contains_key(name)) { Effect::Updated } else { Effect::None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sidecar::tests::headers;

    #[test]
    fn a_head_tells_of_the_stored_response_by_validators_and_length() {
        let stored = headers(&[("etag", "\"a\""), ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT")]);
        let effect = |status: u16, head: &[(&'static str, &'static str)]| {
            effect(StatusCode::from_u16(status).unwrap(), &headers(head), &stored, 10)
        };
        for same in [&[("etag", "\"a\"")][..], &[("etag", "\"a\""), ("content-length", "10"), ("x", "new")]] {
            assert_eq!(effect(200, same), Effect::Updated, "{same:?}");
        }
        for nothing in [&[][..], &[("content-length", "10"), ("x", "new")]] {
            assert_eq!(effect(200, nothing), Effect::None, "{nothing:?}");
        }
        for other in [("etag", "\"b\""), ("content-length", "11"), ("last-modified", "x")] {
            assert_eq!(effect(200, &[other]), Effect::Outdated, "{other:?}");
        }
        assert_eq!(effect(410, &[("etag", "\"b\"")]), Effect::None);
    }
}
