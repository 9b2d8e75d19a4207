//! What the tests of several modules need.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Fields of a request or a response.
pub fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    lines
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect()
}
