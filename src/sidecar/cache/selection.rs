//! Which of the responses stored for a URI answers a request (RFC 9111 §4.1). PURE.

use http::{
    HeaderMap, HeaderName,
    header::{ACCEPT_ENCODING, ACCEPT_LANGUAGE, VARY},
};

/// Fields whose values are the same in any case of their letters: content codings and language ranges
/// (RFC 9110 §8.4.1, §12.5.4). Their order is left: some applications take the first for the one to prefer.
const OF_ANY_CASE: [HeaderName; 2] = [ACCEPT_ENCODING, ACCEPT_LANGUAGE];

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
            let mut value = members.map(<[u8]>::trim_ascii).collect::<Vec<_>>().join(&b","[..]);
            if OF_ANY_CASE.contains(name) {
                value.make_ascii_lowercase();
            }
            Some(value)
        };
        Self(names.iter().map(|name| (name.as_str().to_owned(), value(name))).collect())
    }

    /// How many bytes it takes.
    #[must_use]
    pub fn size(&self) -> usize {
        let parts = self.0.iter();
        parts
            .map(|(name, value)| {
                size_of::<(String, Option<Vec<u8>>)>() + name.len() + value.as_ref().map_or(0, Vec::len)
            })
            .sum()
    }

    /// Each field's name, and its value where it has one: to write them down.
    pub fn parts(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_deref()))
    }

    /// Of what was written down.
    #[must_use]
    pub fn from_parts(parts: Vec<(String, Option<Vec<u8>>)>) -> Self {
        Self(parts)
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
        assert_ne!(key(&[("accept", "a")]), key(&[("accept", "A")]), "what it means is not known");
        // That it is missing is not that it is empty.
        assert_ne!(key(&[]), key(&[("accept", "")]));
    }

    #[test]
    fn languages_and_codings_are_the_same_in_any_case_and_not_in_any_order() {
        for name in ["accept-language", "accept-encoding"] {
            let names = [HeaderName::from_static(name)];
            let key = |value| SecondaryKey::of(&names, &headers(&[(name, value)]));
            assert_eq!(key("en, de;q=0.5"), key("EN,De;Q=0.5"));
            assert_ne!(key("en, de"), key("de, en"));
        }
    }
}
