//! A stored response as it is written into Redis. PURE.
//!
//! ```text
//! "CSR" version │ checksum of the rest │ stamp │ times │ status │ directives │ key │ secondary key │ tags │ fields │ body
//! ```
//!
//! Numbers are little-endian, texts and lists begin with their length. What is read may be anything: of
//! another release, cut short, or written by somebody else. It is taken whole or not at all.

mod reader;
#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, StatusCode};
use jiff::Timestamp;
use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64;

use self::reader::Reader;
use crate::sidecar::cache::{
    ResponseDirectives, SecondaryKey, Stored,
    fields::{Fields, LONGEST as LONGEST_FIELDS},
    packed::Packed,
    purges::Stamp,
};

/// What it begins with; the last byte is the version.
const BEGINNING: [u8; 4] = *b"CSR\x01";
/// No time is longer, in seconds: more than thirty thousand years.
const LONGEST: u64 = 1 << 40;
/// Where the checksum ends.
const HEAD: usize = BEGINNING.len() + size_of::<u64>();

/// A stored response, and what it is stored with.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The text of its key: Redis knows only a digest of it.
    pub key: String,
    /// The last purges that were known when it was asked for.
    pub stamp: Stamp,
    /// The response itself.
    pub stored: Stored,
}

/// Why bytes are no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unreadable {
    /// Of another release, or nothing of ours.
    #[error("it is of another version")]
    Version,
    /// Not as it was written.
    #[error("its checksum is another")]
    Checksum,
    /// Nothing that this release would write.
    #[error("it has another form")]
    Form,
}

/// The bytes of an entry. None where a length does not fit, or the fields are longer than anybody reads.
#[must_use]
pub fn encode(key: &str, stamp: Stamp, stored: &Stored) -> Option<Vec<u8>> {
    // Taken apart without a rest, so that a new part does not compile until it is written here.
    let Stored {
        status,
        fields,
        body,
        received,
        initial_age,
        directives,
        lifetime,
        secondary,
        tags,
        // What was purged is not shared: others know it by its stamp.
        is_purged_softly: _,
    } = stored;
    let mut bytes = Vec::with_capacity(stored.size() + key.len());
    bytes.extend(BEGINNING);
    bytes.extend([0; size_of::<u64>()]);
    let Stamp { api, generation, sequence } = stamp;
    for number in [api, generation, sequence] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend(received.as_second().to_le_bytes());
    bytes.extend(received.subsec_nanosecond().to_le_bytes());
    push_duration(&mut bytes, *initial_age);
    push_duration(&mut bytes, *lifetime);
    bytes.extend(status.as_u16().to_le_bytes());
    push_directives(&mut bytes, &directives.directives());
    push(&mut bytes, key.as_bytes())?;
    push_length(&mut bytes, secondary.parts().count())?;
    for (name, value) in secondary.parts() {
        push(&mut bytes, name.as_bytes())?;
        bytes.push(u8::from(value.is_some()));
        push(&mut bytes, value.unwrap_or_default())?;
    }
    push_length(&mut bytes, tags.len())?;
    for tag in tags {
        push(&mut bytes, tag.as_bytes())?;
    }
    let before = bytes.len();
    push_length(&mut bytes, 0)?;
    fields.write(&mut bytes);
    let length = Some(bytes.len() - before - size_of::<u32>()).filter(|length| *length <= LONGEST_FIELDS)?;
    let length = u32::try_from(length).ok()?;
    bytes.get_mut(before..before + size_of::<u32>())?.copy_from_slice(&length.to_le_bytes());
    push(&mut bytes, body)?;
    let checksum = xxh3_64(&bytes[HEAD..]);
    bytes[BEGINNING.len()..HEAD].copy_from_slice(&checksum.to_le_bytes());
    Some(bytes)
}

/// The entry that bytes are. Its body is a part of them, and no copy: whoever keeps it copies it.
///
/// # Errors
/// When they are none.
pub fn decode(bytes: Vec<u8>) -> Result<Entry, Unreadable> {
    let bytes = Bytes::from(bytes);
    if bytes.get(..BEGINNING.len()) != Some(&BEGINNING[..]) {
        return Err(Unreadable::Version);
    }
    let told = bytes.get(BEGINNING.len()..HEAD).ok_or(Unreadable::Form)?;
    let rest = bytes.slice(HEAD..);
    if told != xxh3_64(&rest).to_le_bytes() {
        return Err(Unreadable::Checksum);
    }
    entry(&mut Reader::of(rest)).ok_or(Unreadable::Form)
}

fn entry(from: &mut Reader) -> Option<Entry> {
    let stamp = Stamp { api: from.u64()?, generation: from.u64()?, sequence: from.u64()? };
    let received = Timestamp::new(from.i64()?, from.i32()?).ok()?;
    let (initial_age, lifetime) = (duration(from)?, duration(from)?);
    let status = StatusCode::from_u16(from.u16()?).ok()?;
    let directives = Packed::of(&directives(from)?);
    let key = from.text()?;
    let secondary = secondary(from)?;
    let tags = (0..from.length()?).map(|_| from.text()).collect::<Option<Box<[String]>>>()?;
    let fields = Fields::of_written(&from.bytes()?)?;
    let body = from.bytes()?;
    let stored = Stored {
        status,
        fields,
        body,
        received,
        initial_age,
        directives,
        lifetime,
        secondary,
        tags,
        is_purged_softly: false,
    };
    from.is_at_end().then_some(Entry { key, stamp, stored })
}

fn push_length(bytes: &mut Vec<u8>, length: usize) -> Option<()> {
    bytes.extend(u32::try_from(length).ok()?.to_le_bytes());
    Some(())
}

fn push(bytes: &mut Vec<u8>, text: &[u8]) -> Option<()> {
    push_length(bytes, text.len())?;
    bytes.extend(text);
    Some(())
}

fn push_duration(bytes: &mut Vec<u8>, duration: Duration) {
    bytes.extend(duration.as_secs().to_le_bytes());
    bytes.extend(duration.subsec_nanos().to_le_bytes());
}

fn duration(from: &mut Reader) -> Option<Duration> {
    let (seconds, nanoseconds) = (from.u64()?, from.u32()?);
    // So that sums of them are times still.
    let is_time = nanoseconds < 1_000_000_000 && seconds <= LONGEST;
    is_time.then(|| Duration::new(seconds, nanoseconds))
}

fn push_directives(bytes: &mut Vec<u8>, directives: &ResponseDirectives) {
    let ResponseDirectives {
        is_targeted,
        no_store,
        no_cache,
        private,
        public,
        must_revalidate,
        proxy_revalidate,
        must_understand,
        max_age,
        s_maxage,
        stale_while_revalidate,
        stale_if_error,
    } = directives;
    let flags = [
        is_targeted,
        no_store,
        no_cache,
        private,
        public,
        must_revalidate,
        proxy_revalidate,
        must_understand,
    ];
    bytes.push(flags.into_iter().fold(0, |byte, flag| byte << 1 | u8::from(*flag)));
    for time in [max_age, s_maxage, stale_while_revalidate, stale_if_error] {
        bytes.push(u8::from(time.is_some()));
        push_duration(bytes, time.unwrap_or_default());
    }
}

fn directives(from: &mut Reader) -> Option<ResponseDirectives> {
    let byte = from.u8()?;
    let flag = |place: u8| byte >> (7 - place) & 1 == 1;
    let mut time = || Some((from.flag()?, duration(from)?));
    let [max_age, s_maxage, stale_while_revalidate, stale_if_error] =
        [time()?, time()?, time()?, time()?].map(|(is_there, time)| is_there.then_some(time));
    Some(ResponseDirectives {
        is_targeted: flag(0),
        no_store: flag(1),
        no_cache: flag(2),
        private: flag(3),
        public: flag(4),
        must_revalidate: flag(5),
        proxy_revalidate: flag(6),
        must_understand: flag(7),
        max_age,
        s_maxage,
        stale_while_revalidate,
        stale_if_error,
    })
}

fn secondary(from: &mut Reader) -> Option<SecondaryKey> {
    let mut parts = Vec::new();
    for _ in 0..from.length()? {
        let name = from.text()?;
        HeaderName::from_lowercase(name.as_bytes()).ok()?;
        let (is_there, value) = (from.flag()?, from.bytes()?);
        parts.push((name, is_there.then(|| value.to_vec())));
    }
    Some(SecondaryKey::from_parts(parts))
}
