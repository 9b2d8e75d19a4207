//! What things are called in Redis. PURE.
//!
//! | name | type | what it is |
//! | --- | --- | --- |
//! | `PREFIXhttp:DIGEST` | hash | the responses of one key, each in a field of its own, and which there are |
//! | `PREFIXlock:DIGEST` | string | who asks the application for it, or that nothing comes of it |
//! | `PREFIXused` | sorted set | which responses are used how often, each as `DIGEST:FIELD` |
//! | `PREFIXpurges` | hash | the record of purges |
//! | `PREFIXpurges` | channel | what is new in it, and which keys were changed |
//! | as in the settings | channel | purges that the application publishes |

use std::fmt::Write;

use http::{HeaderMap, HeaderName};
use sha2::{Digest, Sha256};

use crate::{
    settings::Redis,
    sidecar::cache::{SecondaryKey, key::Key},
};

/// So many sets of fields that responses of one key vary by are looked for.
pub const SETS: usize = 4;
/// Of a digest.
const DIGITS: usize = 32;
/// What is there where responses vary by nothing.
pub const VARIES_BY_NOTHING: &str = "=";

/// The names of one service.
#[derive(Clone, Debug)]
pub struct Names {
    prefix: String,
    /// The channel of the application.
    pub channel: String,
    /// The record of purges, and its channel.
    pub purges: String,
    /// Which responses are used how often.
    pub used: String,
}

impl Names {
    /// By the settings.
    #[must_use]
    pub fn of(redis: &Redis) -> Self {
        Self {
            prefix: redis.key_prefix.clone(),
            channel: redis.channel.clone(),
            purges: format!("{}purges", redis.key_prefix),
            used: format!("{}used", redis.key_prefix),
        }
    }

    /// The responses of a key.
    #[must_use]
    pub fn responses(&self, key: &Key) -> String {
        self.responses_of(&digest([key.as_str().as_bytes()]))
    }

    fn responses_of(&self, digest: &str) -> String {
        format!("{}http:{digest}", self.prefix)
    }

    /// Where a response of that list is, and in which field; None where it is nothing of ours.
    #[must_use]
    pub fn listed<'a>(&self, member: &'a str) -> Option<(String, &'a str)> {
        let (digest, field) = member.split_once(':')?;
        let is_digest =
            |text: &str| text.len() == DIGITS && text.bytes().all(|digit| digit.is_ascii_hexdigit());
        (is_digest(digest) && is_digest(field)).then(|| (self.responses_of(digest), field))
    }

    /// The lock of a key.
    #[must_use]
    pub fn lock(&self, key: &Key) -> String {
        format!("{}lock:{}", self.prefix, digest([key.as_str().as_bytes()]))
    }
}

/// The fields that a response varies by, as one of the sets of its key: `=accept,cookie`.
#[must_use]
pub fn set(secondary: &SecondaryKey) -> String {
    let names: Vec<&str> = secondary.parts().map(|(name, _)| name).collect();
    format!("={}", names.join(","))
}

/// The names of a set; None where it is none.
fn names_of(set: &str) -> Option<Vec<HeaderName>> {
    let names = set.strip_prefix('=')?.split(',').filter(|name| !name.is_empty());
    names.map(|name| HeaderName::from_bytes(name.as_bytes()).ok()).collect()
}

/// Where the responses to such a request are, by the sets of its key, one in each line.
#[must_use]
pub fn fields(sets: &str, request: &HeaderMap) -> Vec<String> {
    let sets = sets.lines().take(SETS).filter_map(names_of);
    sets.map(|names| field(&SecondaryKey::of(&names, request))).collect()
}

/// Where a response is, among those of its key.
#[must_use]
pub fn field(secondary: &SecondaryKey) -> String {
    let mut parts = Vec::new();
    for (name, value) in secondary.parts() {
        parts.extend([name.as_bytes(), if value.is_some() { b"=" } else { b"-" }, value.unwrap_or_default()]);
    }
    digest(parts)
}

/// A response in the list of those that are used.
#[must_use]
pub fn used_response(key: &Key, secondary: &SecondaryKey) -> String {
    format!("{}:{}", digest([key.as_str().as_bytes()]), field(secondary))
}

/// 128 bits of SHA-256: nobody finds two keys with the same, and if he did, each entry has its own key.
fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    digest.finalize().iter().take(DIGITS / 2).fold(String::with_capacity(DIGITS), |mut digits, byte| {
        // Writing into a String cannot fail.
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sidecar::{cache::selection::varies_by, tests::headers};

    #[test]
    fn a_response_is_found_by_requests_that_it_is_for() {
        let names = varies_by(&headers(&[("vary", "accept, cookie")]));
        let stored = SecondaryKey::of(&names, &headers(&[("accept", "a, b")]));
        let sets = format!("{VARIES_BY_NOTHING}\n{}", set(&stored));
        assert_eq!(sets, "=\n=accept,cookie");
        let same = fields(&sets, &headers(&[("accept", "a,b"), ("x", "y")]));
        assert_eq!(same, [field(&SecondaryKey::default()), field(&stored)]);
        for other in [&[("accept", "a")][..], &[("accept", "a, b"), ("cookie", "")], &[]] {
            assert!(!fields(&sets, &headers(other)).contains(&field(&stored)), "{other:?}");
        }
    }

    #[test]
    fn what_is_listed_as_used_is_found_and_nothing_else_is() {
        let redis = Redis { url_file: String::new(), key_prefix: "p:".to_owned(), channel: String::new() };
        let names = Names::of(&redis);
        let key = Key::told("http://shop/".to_owned());
        let secondary = SecondaryKey::from_parts(vec![("accept".to_owned(), Some(b"a".to_vec()))]);
        let member = used_response(&key, &secondary);
        assert_eq!(names.listed(&member), Some((names.responses(&key), field(&secondary).as_str())));
        for other in ["", ":", "a:b", &member[1..], &format!("{member}0"), &member.replace(':', "/")] {
            assert_eq!(names.listed(other), None, "{other}");
        }
    }

    #[test]
    fn what_is_no_set_is_not_looked_for() {
        let request = HeaderMap::new();
        assert!(fields("", &request).is_empty() && fields("x\n=a b", &request).is_empty());
        assert_eq!(fields(&"=\n".repeat(9), &request).len(), SETS);
    }

    #[test]
    fn parts_that_run_together_are_not_the_same() {
        let of = |parts: &[(&str, &str)]| {
            let parts =
                parts.iter().map(|(name, value)| ((*name).to_owned(), Some(value.as_bytes().to_vec())));
            field(&SecondaryKey::from_parts(parts.collect()))
        };
        assert_ne!(of(&[("a", "b=c")]), of(&[("a=b", "c")]));
        assert_ne!(of(&[("a", "1"), ("b", "2")]), of(&[("a", "1b=2")]));
    }
}
