//! The fields of a stored response, in one piece of memory. PURE.
//!
//! A `HeaderMap` takes more than a kilobyte for a handful of fields, and its values are parts of the
//! buffer in which the response was read, all of which they keep. So it is taken apart when a response
//! is stored, and made anew for each answer: names that are common are numbers, of which nothing has to be
//! read again.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        ACCEPT_RANGES, ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_EXPOSE_HEADERS, AGE, ALLOW, ALT_SVC, CACHE_CONTROL, CONTENT_DISPOSITION,
        CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_RANGE,
        CONTENT_SECURITY_POLICY, CONTENT_TYPE, DATE, ETAG, EXPIRES, LAST_MODIFIED, LINK, LOCATION, PRAGMA,
        REFERRER_POLICY, SERVER, STRICT_TRANSPORT_SECURITY, VARY, VIA, X_CONTENT_TYPE_OPTIONS,
        X_FRAME_OPTIONS, X_XSS_PROTECTION,
    },
};

/// Fields in their order, names in small letters.
///
/// ```text
/// │ number of the name, from 1: u8              │ length of value: u8, or 255 and u32 │ value │ …
/// │ 0 │ length of name: u8, or 255 and u32 │ name │ length of value …
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(Box<[u8]>);

/// Names with a number, which holds in this process alone: what is written down has them as texts.
static NUMBERED: [HeaderName; 33] = [
    ACCEPT_RANGES,
    ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS,
    AGE,
    ALLOW,
    ALT_SVC,
    CACHE_CONTROL,
    CONTENT_DISPOSITION,
    CONTENT_ENCODING,
    CONTENT_LANGUAGE,
    CONTENT_LENGTH,
    CONTENT_LOCATION,
    CONTENT_RANGE,
    CONTENT_SECURITY_POLICY,
    CONTENT_TYPE,
    DATE,
    ETAG,
    EXPIRES,
    LAST_MODIFIED,
    LINK,
    LOCATION,
    PRAGMA,
    REFERRER_POLICY,
    SERVER,
    STRICT_TRANSPORT_SECURITY,
    VARY,
    VIA,
    X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
    X_XSS_PROTECTION,
    super::directives::CDN_CACHE_CONTROL,
    HeaderName::from_static("x-powered-by"),
];

/// So many fields there are at most in what was written down: far fewer than a map can hold.
const MOST: usize = 4096;
/// So many bytes they take at most, written down: far more than any response has, which a client would not take.
pub const LONGEST: usize = 128 << 10;
/// What is written down before a field: the lengths of its name (u16) and of its value (u32).
const HEAD: usize = size_of::<u16>() + size_of::<u32>();
/// A length that does not fit into a byte stands behind this one.
const LONG: u8 = u8::MAX;

/// The name of a field.
enum Name<'a> {
    Numbered(&'static HeaderName),
    Text(&'a str),
}

impl Name<'_> {
    fn as_str(&self) -> &str {
        match self {
            Self::Numbered(name) => name.as_str(),
            Self::Text(name) => name,
        }
    }

    fn to_name(&self) -> Option<HeaderName> {
        match self {
            Self::Numbered(name) => Some(HeaderName::clone(name)),
            Self::Text(name) => HeaderName::from_bytes(name.as_bytes()).ok(),
        }
    }
}

impl Fields {
    /// Copies those of a response.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let about: usize = headers.iter().map(|(name, value)| 4 + name.as_str().len() + value.len()).sum();
        let mut bytes = Vec::with_capacity(about);
        for (name, value) in headers {
            push_field(&mut bytes, name, value.as_bytes());
        }
        Self(bytes.into())
    }

    /// Those that were written down by [`Self::write`]; None where that would not have been written.
    #[must_use]
    pub fn of_written(written: &[u8]) -> Option<Self> {
        if written.len() > LONGEST {
            return None;
        }
        let mut bytes = Vec::with_capacity(written.len());
        let mut rest = written;
        for _ in 0..=MOST {
            let Some((head, after)) = rest.split_at_checked(HEAD) else {
                return rest.is_empty().then(|| Self(bytes.into()));
            };
            let (name_length, length) = head.split_at_checked(2)?;
            let name_length = usize::from(u16::from_le_bytes(name_length.try_into().ok()?));
            let length = usize::try_from(u32::from_le_bytes(length.try_into().ok()?)).ok()?;
            let (name, after) = after.split_at_checked(name_length)?;
            let (value, after) = after.split_at_checked(length)?;
            HeaderValue::from_bytes(value).ok()?;
            push_field(&mut bytes, &HeaderName::from_lowercase(name).ok()?, value);
            rest = after;
        }
        None
    }

    /// Writes them down so that another process reads them.
    pub fn write(&self, to: &mut Vec<u8>) {
        for (name, at) in self.iter() {
            let (name, value) = (name.as_str(), self.0.get(at).unwrap_or_default());
            // A name has at most 65,535 bytes, and a value is bounded by what hyper reads.
            let (Ok(name_length), Ok(length)) = (u16::try_from(name.len()), u32::try_from(value.len()))
            else {
                continue;
            };
            to.extend(name_length.to_le_bytes());
            to.extend(length.to_le_bytes());
            to.extend(name.as_bytes());
            to.extend(value);
        }
    }

    /// Each name, and where its value is.
    fn iter(&self) -> impl Iterator<Item = (Name<'_>, std::ops::Range<usize>)> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let number = usize::from(take(&self.0, &mut at, 1)?.first().copied()?);
            let name = if let Some(index) = number.checked_sub(1) {
                Name::Numbered(NUMBERED.get(index)?)
            } else {
                let length = take_length(&self.0, &mut at)?;
                Name::Text(std::str::from_utf8(take(&self.0, &mut at, length)?).ok()?)
            };
            let length = take_length(&self.0, &mut at)?;
            take(&self.0, &mut at, length)?;
            Some((name, at - length..at))
        })
    }

    /// As a map, with room for a few more.
    #[must_use]
    pub fn to_map(&self) -> HeaderMap {
        /// `Age`, `Cache-Status`, `Accept-Ranges`, `Content-Length`, `Content-Range`, `Connection`.
        const MORE: usize = 6;
        /// What a field takes here at least, so about so many are there at most.
        const LEAST: usize = 16;
        /// A map for more grows: a few that are long are as many bytes, and for too many there is no map at all.
        const USUAL: usize = 42;
        let mut map = HeaderMap::with_capacity((self.0.len() / LEAST).min(USUAL) + MORE);
        // One copy for all of them: each value is a part of it.
        let bytes = Bytes::copy_from_slice(&self.0);
        for (name, at) in self.iter() {
            // Both were in a map before.
            if let (Some(name), Ok(value)) = (name.to_name(), HeaderValue::from_maybe_shared(bytes.slice(at)))
            {
                map.append(name, value);
            }
        }
        map
    }

    /// The first value of a name.
    #[must_use]
    pub fn get(&self, wanted: &HeaderName) -> Option<&[u8]> {
        let (_, at) = self.iter().find(|(name, _)| name.as_str() == wanted.as_str())?;
        self.0.get(at)
    }

    /// How many bytes it takes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn push_field(bytes: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    let number = NUMBERED.iter().position(|known| known == name);
    if let Some(number) = number.and_then(|index| u8::try_from(index + 1).ok()) {
        bytes.push(number);
    } else {
        bytes.push(0);
        push(bytes, name.as_str().as_bytes());
    }
    push(bytes, value);
}

fn push(bytes: &mut Vec<u8>, text: &[u8]) {
    match u8::try_from(text.len()) {
        Ok(length) if length < LONG => bytes.push(length),
        _ => {
            bytes.push(LONG);
            // What hyper reads is shorter.
            bytes.extend(u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
        }
    }
    bytes.extend(text);
}

fn take<'a>(bytes: &'a [u8], at: &mut usize, length: usize) -> Option<&'a [u8]> {
    let taken = bytes.get(*at..at.checked_add(length)?)?;
    *at += length;
    Some(taken)
}

fn take_length(bytes: &[u8], at: &mut usize) -> Option<usize> {
    match take(bytes, at, 1)?.first().copied()? {
        LONG => {
            let length = take(bytes, at, size_of::<u32>())?.try_into().ok()?;
            usize::try_from(u32::from_le_bytes(length)).ok()
        }
        length => Some(usize::from(length)),
    }
}

#[cfg(test)]
mod tests {
    use http::header::SET_COOKIE;

    use super::*;

    fn written(fields: &Fields) -> Vec<u8> {
        let mut bytes = Vec::new();
        fields.write(&mut bytes);
        bytes
    }

    #[test]
    fn what_is_taken_apart_is_made_again() {
        let mut map = HeaderMap::new();
        let long = "x".repeat(1000);
        for (name, value) in [
            ("etag", "\"a\""),
            ("link", "</a>"),
            ("x-own", "é"),
            ("link", "</b>"),
            ("empty", ""),
            ("x-long", &long),
            (&long, "long"),
            ("content-security-policy", &long[..255]),
            ("x-powered-by", &long[..254]),
        ] {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            map.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let fields = Fields::of(&map);
        assert_eq!(fields.to_map(), map);
        assert_eq!(fields.get(&ETAG).unwrap(), b"\"a\"");
        assert_eq!(fields.get(&SET_COOKIE), None);
        assert!(Fields::of(&HeaderMap::new()).is_empty());
        assert_eq!(Fields::of_written(&written(&fields)), Some(fields));
    }

    #[test]
    fn each_name_has_one_number() {
        let names: std::collections::BTreeSet<&str> = NUMBERED.iter().map(HeaderName::as_str).collect();
        assert_eq!(names.len(), NUMBERED.len());
        for name in &NUMBERED {
            let map: HeaderMap = [(name.clone(), HeaderValue::from_static("x"))].into_iter().collect();
            let fields = Fields::of(&map);
            assert_eq!((fields.len(), fields.to_map()), (3, map), "{name}");
        }
    }

    #[test]
    fn what_was_written_down_is_read_whole_or_not_at_all() {
        let mut map = HeaderMap::new();
        map.insert(ETAG, HeaderValue::from_static("\"a\""));
        map.insert("x", HeaderValue::from_static("y"));
        let bytes = written(&Fields::of(&map));
        assert_eq!(Fields::of_written(&bytes).unwrap().to_map(), map);
        assert!(Fields::of_written(&[]).unwrap().is_empty());
        let wrong = |change: fn(&mut Vec<u8>)| {
            let mut bytes = bytes.clone();
            change(&mut bytes);
            assert_eq!(Fields::of_written(&bytes), None, "{bytes:?}");
        };
        wrong(|bytes| bytes.truncate(bytes.len() - 1));
        wrong(|bytes| bytes.push(0));
        wrong(|bytes| bytes[HEAD] = b'E');
        wrong(|bytes| bytes[HEAD] = b' ');
        wrong(|bytes| bytes[HEAD + 5] = b'\n');
        wrong(|bytes| bytes[5] = 0xff);
        let field = [1, 0, 0, 0, 0, 0, b'x'];
        assert!(Fields::of_written(&field.repeat(MOST)).is_some());
        assert_eq!(Fields::of_written(&field.repeat(MOST + 1)), None);
    }

    #[test]
    fn a_field_that_is_long_makes_no_room_for_many_and_breaks_nothing() {
        for length in [600 << 10, 40 << 10] {
            let value = HeaderValue::from_maybe_shared(vec![b'x'; length]).unwrap();
            let map: HeaderMap = [(LINK, value)].into_iter().collect();
            let made = Fields::of(&map).to_map();
            assert!(made.capacity() <= 64, "room for {} of {length} bytes", made.capacity());
            assert_eq!(made, map);
        }
    }

    #[test]
    fn what_is_longer_than_any_response_is_not_read() {
        let field = |length: usize| {
            let length_told = u32::try_from(length - HEAD - 1).unwrap().to_le_bytes();
            [&[1, 0][..], &length_told, b"x", &vec![b'y'; length - HEAD - 1]].concat()
        };
        assert!(Fields::of_written(&field(128 << 10)).is_some());
        assert_eq!(Fields::of_written(&field((128 << 10) + 1)), None);
    }

    #[test]
    fn it_keeps_nothing_of_the_buffer_that_it_was_read_in() {
        let buffer = Bytes::from(vec![b'v'; 8192]);
        let mut map = HeaderMap::new();
        map.insert(ETAG, HeaderValue::from_maybe_shared(buffer.slice(..4)).unwrap());
        let fields = Fields::of(&map);
        drop(map);
        assert!(buffer.is_unique(), "the copy holds on to it");
        assert_eq!(fields.len(), 2 + 4);
    }
}
