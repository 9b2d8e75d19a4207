//! Which of the responses stored for a URI answers a request (RFC 9111 §4.1). PURE.

use http::{HeaderMap, HeaderName, header::VARY};

/// What the fields that a response varies by hold in a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SecondaryKey(Vec<(String, Option<Vec<u8>>)>);

impl SecondaryKey {
    /// Of a request, by the fields that a stored response varies by.
    #[must_use]
    pub fn of(names: &[HeaderName], request: &HeaderMap) -> Self {
        let value = |name: &HeaderName| {
            let mut lines = request.get_all(name).iter().peekable();
            lines.peek()?;
            // To combine lines and to leave out space around commas changes no meaning (§4.1).
            let members = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
            Some(members.map(<[u8]>::trim_ascii).collect::<Vec<_>>().join(&b","[..]))
        };
        Self(names.iter().map(|name| (name.as_str().to_owned(), value(name))).collect())
    }
}

/// The fields that a response varies by, each once and in order, so that the same set is the same.
#[must_use]
pub fn varies_by(response: &HeaderMap) -> Vec<HeaderName> {
    let lines = response.get_all(VARY).iter();
    let names = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let mut names: Vec<HeaderName> =
        names.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok()).collect();
    names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sidecar::tests::headers;

    #[test]
    fn the_same_fields_in_another_order_are_the_same() {
        let (one, other) = (
            headers(&[("vary", "Accept-Language, accept"), ("vary", "ACCEPT")]),
            headers(&[("vary", "accept,accept-language")]),
        );
        assert_eq!(varies_by(&one), varies_by(&other));
        assert_eq!(varies_by(&one).len(), 2);
    }

    #[test]
    fn only_the_named_fields_count_and_lines_may_be_combined() {
        let names = varies_by(&headers(&[("vary", "accept")]));
        let key = |lines: &[(&'static str, &'static str)]| SecondaryKey::of(&names, &headers(lines));
        let whole = key(&[("accept", "a, b"), ("cookie", "x")]);
        assert_eq!(whole, key(&[("accept", "a"), ("accept", "b")]));
        assert_eq!(whole, key(&[("accept", "a,b"), ("cookie", "y")]));
        assert_ne!(whole, key(&[("accept", "b, a")]));
        // That it is missing is not that it is empty.
        assert_ne!(key(&[]), key(&[("accept", "")]));
    }
}
