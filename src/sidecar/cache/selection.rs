//! Which of the responses stored for a URI answers a request (RFC 9111 §4.1). PURE.

use http::{
    HeaderMap, HeaderName,
    header::{ACCEPT_ENCODING, ACCEPT_LANGUAGE, VARY},
};

/// Fields whose values are the same in any case of their letters: content codings and language ranges
/// (RFC 9110 §8.4.1, §12.5.4). Their order is left: some applications take the first for the one to prefer.
static OF_ANY_CASE: [HeaderName; 2] = [ACCEPT_ENCODING, ACCEPT_LANGUAGE];

/// What the fields that a response varies by hold in a request.
///
/// Most responses vary by nothing, which takes no room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecondaryKey(Option<Box<Parts>>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Parts(Vec<(String, Option<Vec<u8>>)>);

impl SecondaryKey {
    /// Of a request, by the fields that a stored response varies by.
    #[must_use]
    pub fn of(names: &[HeaderName], request: &HeaderMap) -> Self {
        let part = |name: &HeaderName| (name.as_str().to_owned(), value(name.as_str(), request));
        Self::from_parts(names.iter().map(part).collect())
    }

    /// Whether a request has the same in these fields.
    #[must_use]
    pub fn is_of(&self, request: &HeaderMap) -> bool {
        self.parts().all(|(name, known)| value(name, request).as_deref() == known)
    }

    /// How many bytes it takes.
    #[must_use]
    pub fn size(&self) -> usize {
        let of_part = size_of::<(String, Option<Vec<u8>>)>();
        self.parts().map(|(name, value)| of_part + name.len() + value.map_or(0, <[u8]>::len)).sum()
    }

    /// Each field's name, and its value where it has one: to write them down.
    pub fn parts(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        let parts = self.0.iter().flat_map(|parts| &parts.0);
        parts.map(|(name, value)| (name.as_str(), value.as_deref()))
    }

    /// Of what was written down.
    #[must_use]
    pub fn from_parts(parts: Vec<(String, Option<Vec<u8>>)>) -> Self {
        Self((!parts.is_empty()).then(|| Box::new(Parts(parts))))
    }
}

/// What a field of a request holds; none where it is not there, which is not the same as empty.
fn value(name: &str, request: &HeaderMap) -> Option<Vec<u8>> {
    let mut lines = request.get_all(name).iter().peekable();
    lines.peek()?;
    // To combine lines and to leave out space around commas changes no meaning (§4.1).
    let members = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let mut value = members.map(<[u8]>::trim_ascii).collect::<Vec<_>>().join(&b","[..]);
    if OF_ANY_CASE.iter().any(|known| known == name) {
        value.make_ascii_lowercase();
    }
    Some(value)
}

/// Whether two names are one variable to applications that see fields so (CGI, WSGI, PHP).
#[must_use]
pub fn are_one_variable(one: &HeaderName, other: &HeaderName) -> bool {
    let of_variable = |byte: u8| if byte == b'-' { b'_' } else { byte };
    one.as_str().bytes().map(of_variable).eq(other.as_str().bytes().map(of_variable))
}

/// Whether a request has a field that such an application may have taken for one which the response varies by: what
/// that held is not in the secondary key.
#[must_use]
pub fn has_double(request: &HeaderMap, response: &HeaderMap) -> bool {
    let is_doubled =
        |varied: &HeaderName| request.keys().any(|name| name != varied && are_one_variable(name, varied));
    varies_by(response).iter().any(is_doubled)
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
    fn a_field_by_another_name_of_the_same_variable_is_no_part_of_the_key() {
        let doubled = |request: &'static str, vary| {
            has_double(&headers(&[("x-a-b", ""), (request, "")]), &headers(&[("vary", vary)]))
        };
        for (request, vary) in [("x_a_b", "X-A-B"), ("x-a_b", "accept, x-a-b"), ("x-c-d", "x_c_d")] {
            assert!(doubled(request, vary), "{request} {vary}");
        }
        for (request, vary) in [("x-a-b", "x-a-b"), ("x_a_b", "accept"), ("x_a", "x-a-b"), ("x_a_b", "*")] {
            assert!(!doubled(request, vary), "{request} {vary}");
        }
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
