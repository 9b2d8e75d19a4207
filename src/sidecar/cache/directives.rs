//! What `Cache-Control` (RFC 9111 §5.2) and the field for caches in front of an origin,
//! `CDN-Cache-Control` (RFC 9213), ask for. PURE.

use std::{borrow::Cow, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, header::CACHE_CONTROL};
use sfv::{BareItem, Dictionary, ListEntry, Parser};

use super::surrogate;

/// Meant for shared caches that the origin's owner runs: where it is there and valid, it counts
/// in place of `Cache-Control` and `Expires` (RFC 9213 §2.2).
pub const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");

/// Where a number of seconds is too large, this one counts (RFC 9111 §1.2.2).
const LONGEST: u64 = 1 << 31;

/// What a response asks of a shared cache.
// Each is a directive of its own, and any of them may stand beside the others.
#[allow(clippy::struct_excessive_bools)]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseDirectives {
    /// From the targeted field, so that `Expires` does not count.
    pub is_targeted: bool,
    /// Not to be stored.
    pub no_store: bool,
    /// Not to be used without asking the origin.
    pub no_cache: bool,
    /// For one user only.
    pub private: bool,
    /// For all, also where the request had credentials.
    pub public: bool,
    /// Not to be used stale, under no circumstances.
    pub must_revalidate: bool,
    /// The same, of shared caches.
    pub proxy_revalidate: bool,
    /// To be stored only if the status is understood; `no-store` is for those who do not know this.
    pub must_understand: bool,
    /// How long it is fresh.
    pub max_age: Option<Duration>,
    /// How long it is fresh in a shared cache.
    pub s_maxage: Option<Duration>,
    /// How long it may be used stale while it is asked for anew (RFC 5861 §3).
    pub stale_while_revalidate: Option<Duration>,
    /// How long it may be used stale where the origin fails (RFC 5861 §4).
    pub stale_if_error: Option<Duration>,
}

impl ResponseDirectives {
    /// Those of a response.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        targeted(headers).or_else(|| surrogate::directives(headers)).unwrap_or_else(|| Self::general(headers))
    }

    /// Those of `Cache-Control`, which is for all caches.
    pub(super) fn general(headers: &HeaderMap) -> Self {
        let mut found = Self::default();
        for (name, argument) in directives(headers, &CACHE_CONTROL) {
            found.note(&name, argument.as_deref().map(Argument::Text).as_ref());
        }
        found
    }

    fn note(&mut self, name: &str, argument: Option<&Argument<'_>>) {
        // Of two the first counts (RFC 9111 §4.2.1). One that is no number of seconds is taken
        // for none: what is not clear is not fresh.
        let note = |slot: &mut Option<Duration>| {
            slot.get_or_insert_with(|| argument.and_then(Argument::seconds).unwrap_or_default());
        };
        match name {
            "no-store" => self.no_store = true,
            // With names of fields it would hold for these alone; to ask is always allowed.
            "no-cache" => self.no_cache = true,
            "private" => self.private = true,
            "public" => self.public = true,
            "must-revalidate" => self.must_revalidate = true,
            "proxy-revalidate" => self.proxy_revalidate = true,
            "must-understand" => self.must_understand = true,
            "max-age" => note(&mut self.max_age),
            "s-maxage" => note(&mut self.s_maxage),
            "stale-while-revalidate" => note(&mut self.stale_while_revalidate),
            "stale-if-error" => note(&mut self.stale_if_error),
            _ => {}
        }
    }

    /// Whether it may be used stale at all (RFC 9111 §4.2.4).
    #[must_use]
    pub fn forbid_stale(&self) -> bool {
        // s-maxage means proxy-revalidate (§5.2.2.10).
        self.no_cache || self.must_revalidate || self.proxy_revalidate || self.s_maxage.is_some()
    }
}

/// What a request asks of a cache. Caches may follow it, or not (RFC 9111 §5.2.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestDirectives {
    /// Not to be answered without asking the origin.
    pub no_cache: bool,
    /// The answer is not to be stored.
    pub no_store: bool,
    /// To be answered from the cache or not at all.
    pub only_if_cached: bool,
    /// The answer is to be no older.
    pub max_age: Option<Duration>,
    /// The answer is to be fresh for so long still.
    pub min_fresh: Option<Duration>,
    /// The answer may be stale for so long; `Duration::MAX` where no time is given.
    pub max_stale: Option<Duration>,
}

impl RequestDirectives {
    /// Those of a request.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let mut found = Self::default();
        for (name, argument) in directives(headers, &CACHE_CONTROL) {
            let seconds = argument.as_deref().and_then(seconds);
            // Of two the first that is a number counts; what is none asks for nothing.
            match &*name {
                "no-cache" => found.no_cache = true,
                "no-store" => found.no_store = true,
                "only-if-cached" => found.only_if_cached = true,
                "max-age" => found.max_age = found.max_age.or(seconds),
                "min-fresh" => found.min_fresh = found.min_fresh.or(seconds),
                "max-stale" => {
                    let most = if argument.is_none() { Some(Duration::MAX) } else { seconds };
                    found.max_stale = found.max_stale.or(most);
                }
                _ => {}
            }
        }
        found
    }
}

/// The value of a directive.
enum Argument<'a> {
    Text(&'a str),
    Structured(&'a BareItem),
}

impl Argument<'_> {
    fn seconds(&self) -> Option<Duration> {
        match self {
            Self::Text(text) => seconds(text),
            Self::Structured(BareItem::Integer(number)) => {
                let number = u64::try_from(i64::from(*number)).ok()?;
                Some(Duration::from_secs(number.min(LONGEST)))
            }
            Self::Structured(_) => None,
        }
    }
}

/// A number of seconds (RFC 9111 §1.2.2).
pub(super) fn seconds(text: &str) -> Option<Duration> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // What does not fit is too large.
    is_number.then(|| Duration::from_secs(text.parse().unwrap_or(LONGEST).min(LONGEST)))
}

/// Those of the targeted field: a dictionary (RFC 8941 §3.2) in all its lines together. None where
/// it is not there, empty or malformed: then it is as if it were not there.
fn targeted(headers: &HeaderMap) -> Option<ResponseDirectives> {
    // Most responses have none.
    headers.get(CDN_CACHE_CONTROL)?;
    let lines: Vec<&[u8]> = headers.get_all(CDN_CACHE_CONTROL).iter().map(HeaderValue::as_bytes).collect();
    let dictionary: Dictionary = Parser::new(&lines.join(&b", "[..])).parse().ok()?;
    let mut found = ResponseDirectives { is_targeted: true, ..ResponseDirectives::default() };
    for (name, member) in &dictionary {
        match member {
            ListEntry::Item(item) if item.bare_item == BareItem::Boolean(false) => {}
            ListEntry::Item(item) => found.note(name.as_str(), Some(&Argument::Structured(&item.bare_item))),
            ListEntry::InnerList(_) => found.note(name.as_str(), None),
        }
    }
    (!dictionary.is_empty()).then_some(found)
}

/// The directives of a field, with lower-case names, in the order of their lines. Text that is
/// none is passed over.
fn directives<'a>(headers: &'a HeaderMap, field: &HeaderName) -> impl Iterator<Item = Directive<'a>> {
    members(headers, field).filter_map(directive)
}

/// Its name and its argument, which mostly are parts of the line.
type Directive<'a> = (Cow<'a, str>, Option<Cow<'a, str>>);

/// The members of a field that is a list, in the order of its lines.
pub(super) fn members<'a>(headers: &'a HeaderMap, field: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(field).iter().filter_map(|line| std::str::from_utf8(line.as_bytes()).ok());
    lines.flat_map(members_of_line)
}

/// The members of a list: commas part them, where they do not stand in quotes (RFC 9110 §5.6.1).
fn members_of_line(line: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let (mut start, mut is_quoted, mut is_escaped) = (0, false, false);
    for (at, byte) in line.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            b',' if !is_quoted => {
                found.push(line.get(start..at).unwrap_or_default());
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push(line.get(start..).unwrap_or_default());
    found
}

/// `name`, `name=token` or `name="text"`: either form of the argument counts (RFC 9111 §5.2).
fn directive(member: &str) -> Option<Directive<'_>> {
    let (name, argument) = match member.split_once('=') {
        Some((name, argument)) => (name, Some(argument)),
        None => (member, None),
    };
    // Before the sign there is no room for a space, after it neither.
    let name = name.trim_start_matches([' ', '\t']);
    let name = if argument.is_some() { name } else { name.trim_end_matches([' ', '\t']) };
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_token) {
        return None;
    }
    let argument = argument.map(|argument| {
        let argument = argument.trim_end_matches([' ', '\t']);
        let quoted = argument.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        quoted.map_or(Cow::Borrowed(argument), |quoted| Cow::Owned(unescaped(quoted)))
    });
    let is_small = !name.bytes().any(|byte| byte.is_ascii_uppercase());
    let name = if is_small { Cow::Borrowed(name) } else { Cow::Owned(name.to_ascii_lowercase()) };
    Some((name, argument))
}

fn unescaped(quoted: &str) -> String {
    let mut characters = quoted.chars();
    let mut text = String::with_capacity(quoted.len());
    while let Some(character) = characters.next() {
        match character {
            '\\' => text.extend(characters.next()),
            character => text.push(character),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sidecar::tests::headers;

    fn response(value: &'static str) -> ResponseDirectives {
        ResponseDirectives::of(&headers(&[("cache-control", value)]))
    }

    const HOUR: Option<Duration> = Some(Duration::from_hours(1));

    #[test]
    fn seconds_are_digits_in_either_form() {
        for fresh in ["max-age=3600", "MAX-age=3600", "a=\"b, c\", max-age=\"3600\"", "max-age=003600, x"] {
            assert_eq!(response(fresh).max_age, HOUR, "{fresh}");
        }
        for stale in ["max-age=-1", "max-age=3600.0", "max-age=1h", "max-age", "max-age=", "max-age= 3600"] {
            assert_eq!(response(stale).max_age, Some(Duration::ZERO), "{stale}");
        }
        let longest = Some(Duration::from_secs(LONGEST));
        assert_eq!(response("max-age=99999999999999999999999").max_age, longest);
        assert_eq!(response("max-age =3600").max_age, None, "that is no directive");
    }

    #[test]
    fn of_two_the_first_counts() {
        assert_eq!(response("max-age=3600, max-age=1").max_age, HOUR);
        let two = headers(&[("cache-control", "max-age=3600"), ("cache-control", "max-age=1, no-store")]);
        let found = ResponseDirectives::of(&two);
        assert_eq!((found.max_age, found.no_store), (HOUR, true));
    }

    #[test]
    fn what_stands_in_quotes_is_no_directive() {
        let found = response(r#"x="no-store, \" private", public"#);
        assert_eq!((found.no_store, found.private, found.public), (false, false, true));
    }

    #[test]
    fn the_targeted_field_counts_in_place_of_the_general_one() {
        let both = |targeted| {
            ResponseDirectives::of(&headers(&[
                ("cache-control", "no-store, max-age=1"),
                ("cdn-cache-control", targeted),
            ]))
        };
        let found = both("max-age=3600, private=?0");
        assert_eq!(
            (found.max_age, found.no_store, found.private, found.is_targeted),
            (HOUR, false, false, true)
        );
        // It is as if they were not there.
        for malformed in ["", "max-age=3600,", "max-age:3600", "MAX-AGE=3600"] {
            assert!(both(malformed).no_store, "{malformed}");
        }
        assert_eq!(both("max-age=\"3600\"").max_age, Some(Duration::ZERO));
    }

    #[test]
    fn a_request_may_take_what_is_stale() {
        let request = |value| RequestDirectives::of(&headers(&[("cache-control", value)]));
        assert_eq!(request("max-stale").max_stale, Some(Duration::MAX));
        assert_eq!(request("max-stale=3600, max-stale").max_stale, HOUR);
        assert_eq!(request("max-stale=1h").max_stale, None, "not for ever");
        assert_eq!(request("only-if-cached, min-fresh=x").min_fresh, None);
    }
}
