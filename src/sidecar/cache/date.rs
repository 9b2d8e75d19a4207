//! Dates in HTTP (RFC 9110 §5.6.7). PURE.

use http::{HeaderMap, HeaderName};
use jiff::Timestamp;

/// The date in a field of one line. None where there is none, or nothing that is one.
#[must_use]
pub fn date(headers: &HeaderMap, name: &HeaderName) -> Option<Timestamp> {
    let mut lines = headers.get_all(name).iter();
    let line = lines.next()?;
    if lines.next().is_some() {
        return None;
    }
    parse(line.to_str().ok()?)
}

/// A date in one of the three forms that a recipient has to accept.
#[must_use]
pub fn parse(text: &str) -> Option<Timestamp> {
    Timestamp::try_from(httpdate::parse_http_date(text.trim()).ok()?).ok()
}

/// A date in the form that a sender has to use.
#[must_use]
pub fn written(date: Timestamp) -> String {
    // There is no form for what was before.
    httpdate::fmt_http_date(date.max(Timestamp::UNIX_EPOCH).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_forms_are_one_date() {
        for text in
            ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
        {
            assert_eq!(parse(text).unwrap().as_second(), 784_111_777, "{text}");
        }
        for text in ["0", "", "1994-11-06T08:49:37Z", "Sun, 06 Nov 1994 08:49:37 +0100"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
