//! The fields of a stored response, in one piece of memory. PURE.
//!
//! A `HeaderMap` takes more than a kilobyte for a handful of fields, and its values are parts of the
//! buffer in which the response was read, all of which they keep. So it is taken apart when a response
//! is stored, and made anew for each answer.

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Fields in their order, names in small letters.
///
/// ```text
/// │ length of name: u16 │ length of value: u32 │ name │ value │ …
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(Bytes);

/// So many fields there are at most in what was written down: far fewer than a map can hold.
const MOST: usize = 4096;
/// The two lengths.
const HEAD: usize = size_of::<u16>() + size_of::<u32>();

impl Fields {
    /// Copies those of a response.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let size = headers.iter().map(|(name, value)| HEAD + name.as_str().len() + value.len()).sum();
        let mut bytes = BytesMut::with_capacity(size);
        for (name, value) in headers {
            // A name has at most 65,535 bytes, and a value is bounded by what hyper reads.
            let (Ok(name_length), Ok(length)) =
                (u16::try_from(name.as_str().len()), u32::try_from(value.len()))
            else {
                continue;
            };
            bytes.put_u16_le(name_length);
            bytes.put_u32_le(length);
            bytes.put_slice(name.as_str().as_bytes());
            bytes.put_slice(value.as_bytes());
        }
        Self(bytes.freeze())
    }

    /// Those that were written down as [`Self::as_bytes`]; None where that would not have been written.
    #[must_use]
    pub fn of_bytes(bytes: Bytes) -> Option<Self> {
        let fields = Self(bytes);
        let mut length = 0;
        for (number, (name, value)) in fields.iter().enumerate() {
            HeaderName::from_lowercase(name.as_bytes()).ok()?;
            HeaderValue::from_bytes(&value).ok()?;
            length += HEAD + name.len() + value.len();
            if number == MOST {
                return None;
            }
        }
        (length == fields.0.len()).then_some(fields)
    }

    /// To write them down.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Each name with its value, which is a part of this and no copy.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Bytes)> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let rest = self.0.get(at..)?;
            let name_length = usize::from(u16::from_le_bytes(rest.get(..2)?.try_into().ok()?));
            let length = usize::try_from(u32::from_le_bytes(rest.get(2..HEAD)?.try_into().ok()?)).ok()?;
            let name = std::str::from_utf8(rest.get(HEAD..HEAD + name_length)?).ok()?;
            let begin = at + HEAD + name_length;
            rest.get(HEAD + name_length..)?.get(..length)?;
            at = begin + length;
            Some((name, self.0.slice(begin..at)))
        })
    }

    /// As a map, with room for a few more.
    #[must_use]
    pub fn to_map(&self) -> HeaderMap {
        /// `Age`, `Cache-Status`, `Accept-Ranges`, `Content-Length`, `Content-Range`, `Connection`.
        const MORE: usize = 6;
        let mut map = HeaderMap::with_capacity(self.iter().count() + MORE);
        for (name, value) in self.iter() {
            // Both were in a map before.
            if let (Ok(name), Ok(value)) =
                (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_maybe_shared(value))
            {
                map.append(name, value);
            }
        }
        map
    }

    /// The first value of a name.
    #[must_use]
    pub fn get(&self, wanted: &HeaderName) -> Option<Bytes> {
        self.iter().find(|(name, _)| *name == wanted.as_str()).map(|(_, value)| value)
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

#[cfg(test)]
mod tests {
    use http::header::{ETAG, SET_COOKIE};

    use super::*;

    #[test]
    fn what_is_taken_apart_is_made_again() {
        let mut map = HeaderMap::new();
        for (name, value) in
            [("etag", "\"a\""), ("link", "</a>"), ("x-own", "é"), ("link", "</b>"), ("empty", "")]
        {
            map.append(HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let fields = Fields::of(&map);
        assert_eq!(fields.to_map(), map);
        assert_eq!(fields.get(&ETAG).unwrap(), "\"a\"");
        assert_eq!(fields.get(&SET_COOKIE), None);
        assert!(Fields::of(&HeaderMap::new()).is_empty());
    }

    #[test]
    fn what_was_written_down_is_read_whole_or_not_at_all() {
        let mut map = HeaderMap::new();
        map.insert(ETAG, HeaderValue::from_static("\"a\""));
        map.insert("x", HeaderValue::from_static("y"));
        let bytes = Bytes::copy_from_slice(Fields::of(&map).as_bytes());
        assert_eq!(Fields::of_bytes(bytes.clone()).unwrap().to_map(), map);
        assert!(Fields::of_bytes(Bytes::new()).unwrap().is_empty());
        let wrong = |change: fn(&mut Vec<u8>)| {
            let mut bytes = bytes.to_vec();
            change(&mut bytes);
            assert_eq!(Fields::of_bytes(Bytes::from(bytes.clone())), None, "{bytes:?}");
        };
        wrong(|bytes| bytes.truncate(bytes.len() - 1));
        wrong(|bytes| bytes.push(0));
        wrong(|bytes| bytes[HEAD] = b'E');
        wrong(|bytes| bytes[HEAD] = b' ');
        wrong(|bytes| bytes[HEAD + 5] = b'\n');
        wrong(|bytes| bytes[5] = 0xff);
        let many = [1, 0, 0, 0, 0, 0, b'x'].repeat(MOST + 1);
        assert_eq!(Fields::of_bytes(Bytes::from(many)), None);
    }

    #[test]
    fn it_keeps_nothing_of_the_buffer_that_it_was_read_in() {
        let buffer = Bytes::from(vec![b'v'; 8192]);
        let mut map = HeaderMap::new();
        map.insert(ETAG, HeaderValue::from_maybe_shared(buffer.slice(..4)).unwrap());
        let fields = Fields::of(&map);
        drop(map);
        assert!(buffer.is_unique(), "the copy holds on to it");
        assert_eq!(fields.len(), HEAD + "etag".len() + 4);
    }
}
