use proptest::{collection::vec, option, prelude::*, sample::Index};

use http::{HeaderMap, HeaderValue};

use super::*;

/// More of them where a test is run for hours: `CASES=1000000 cargo test --lib codec`.
fn cases() -> ProptestConfig {
    let cases = std::env::var("CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(512);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

fn times() -> impl Strategy<Value = Duration> {
    (0..=LONGEST, 0..1_000_000_000_u32).prop_map(|(seconds, nanoseconds)| Duration::new(seconds, nanoseconds))
}

fn points() -> impl Strategy<Value = Timestamp> {
    (0..200_000_000_000_i64, 0..1_000_000_000_i32)
        .prop_map(|(seconds, nanoseconds)| Timestamp::new(seconds, nanoseconds).unwrap())
}

fn all_directives() -> impl Strategy<Value = ResponseDirectives> {
    // As they are read of a field.
    let seconds = || option::of((0..=1_u64 << 31).prop_map(Duration::from_secs));
    let times = (seconds(), seconds(), seconds(), seconds());
    (any::<[bool; 8]>(), times).prop_map(|(flags, times)| ResponseDirectives {
        is_targeted: flags[0],
        no_store: flags[1],
        no_cache: flags[2],
        private: flags[3],
        public: flags[4],
        must_revalidate: flags[5],
        proxy_revalidate: flags[6],
        must_understand: flags[7],
        max_age: times.0,
        s_maxage: times.1,
        stale_while_revalidate: times.2,
        stale_if_error: times.3,
    })
}

fn all_headers() -> impl Strategy<Value = HeaderMap> {
    vec(("[a-z][a-z0-9-]{0,12}", vec(32..=255_u8, 0..20)), 0..12).prop_map(|lines| {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
            }
        }
        headers
    })
}

fn entries() -> impl Strategy<Value = Entry> {
    let numbers = any::<[u64; 3]>();
    let secondary = vec(("[a-z][a-z0-9-]{0,12}", option::of(vec(any::<u8>(), 0..20))), 0..4);
    let response = (100..1000_u16, all_headers(), vec(any::<u8>(), 0..200), all_directives(), times());
    let beside = (points(), times(), vec(".{0,9}", 0..5), ".{0,40}");
    (numbers, secondary, response, beside).prop_map(|(numbers, secondary, response, beside)| {
        let (status, headers, body, directives, lifetime) = response;
        let (received, initial_age, tags, key) = beside;
        let stored = Stored {
            status: StatusCode::from_u16(status).unwrap(),
            fields: Fields::of(&headers),
            body: Bytes::from(body),
            received,
            initial_age,
            directives: Packed::of(&directives),
            lifetime,
            secondary: SecondaryKey::from_parts(secondary),
            tags: tags.into(),
            is_purged_softly: false,
        };
        let [api, generation, sequence] = numbers;
        Entry { key, stamp: Stamp { api, generation, sequence }, stored }
    })
}

fn bytes(entry: &Entry) -> Vec<u8> {
    encode(&entry.key, entry.stamp, &entry.stored).unwrap()
}

/// What there is of an entry, all of it.
fn all(entry: &Entry) -> String {
    format!("{entry:?}")
}

/// The bytes with a checksum that fits them.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.len() >= HEAD {
        bytes[..BEGINNING.len()].copy_from_slice(&BEGINNING);
        let checksum = xxh3_64(&bytes[HEAD..]);
        bytes[BEGINNING.len()..HEAD].copy_from_slice(&checksum.to_le_bytes());
    }
    bytes
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn what_is_written_is_read_again(entry in entries()) {
        let read = decode(bytes(&entry)).unwrap();
        prop_assert_eq!(all(&read), all(&entry));
    }

    #[test]
    fn what_was_changed_anywhere_is_not_taken(entry in entries(), at in any::<Index>(), bit in 0..8_u32) {
        let mut bytes = bytes(&entry);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(decode(bytes).is_err());
    }

    #[test]
    fn what_is_cut_short_or_too_long_is_not_taken(entry in entries(), end in any::<Index>(), more in vec(any::<u8>(), 1..9)) {
        let whole = bytes(&entry);
        let cut = whole[..end.index(whole.len())].to_vec();
        prop_assert!(decode(cut.clone()).is_err());
        let long = [whole, more].concat();
        prop_assert!(decode(long.clone()).is_err());
        // Also where somebody has made the checksum fit.
        prop_assert!(decode(sealed(cut)).is_err());
        prop_assert!(decode(sealed(long)).is_err());
    }

    #[test]
    fn whatever_the_bytes_are_nothing_breaks(bytes in vec(any::<u8>(), 0..300)) {
        let _ = decode(bytes.clone());
        let _ = decode(sealed(bytes));
    }

    #[test]
    fn what_is_read_of_changed_bytes_is_what_they_say(entry in entries(), changes in vec((any::<Index>(), any::<u8>()), 1..6)) {
        let mut bytes = bytes(&entry);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        // With a checksum that fits there may be an entry in them: one, and nothing left over.
        let bytes = sealed(bytes);
        if let Ok(read) = decode(bytes.clone()) {
            let again = decode(super::tests::bytes(&read)).unwrap();
            prop_assert_eq!(all(&again), all(&read));
            prop_assert!(read.stored.body.len() + read.key.len() <= bytes.len());
        }
    }
}

#[test]
fn what_is_of_another_release_is_told_apart_from_what_is_damaged() {
    assert_eq!(decode(b"CSR\x02anything".to_vec()).unwrap_err(), Unreadable::Version);
    assert_eq!(decode(Vec::new()).unwrap_err(), Unreadable::Version);
    assert_eq!(decode(b"CSR\x01".to_vec()).unwrap_err(), Unreadable::Form);
    assert_eq!(decode(b"CSR\x01????????rest".to_vec()).unwrap_err(), Unreadable::Checksum);
}

/// An entry with one field, a link of so many bytes.
fn linked(length: usize) -> Entry {
    let link = HeaderValue::from_maybe_shared(vec![b'l'; length]).unwrap();
    let stored = Stored {
        status: StatusCode::OK,
        fields: Fields::of(&[(http::header::LINK, link)].into_iter().collect()),
        body: Bytes::from_static(b"page"),
        received: Timestamp::UNIX_EPOCH,
        initial_age: Duration::ZERO,
        directives: Packed::of(&ResponseDirectives::default()),
        lifetime: Duration::from_secs(60),
        secondary: SecondaryKey::default(),
        tags: Box::default(),
        is_purged_softly: false,
    };
    Entry { key: "http://shop/".to_owned(), stamp: Stamp::default(), stored }
}

#[test]
fn fields_that_are_longer_than_any_response_has_are_neither_taken_nor_written() {
    let read = decode(bytes(&linked(100 << 10))).unwrap();
    assert_eq!(read.stored.headers()["link"].len(), 100 << 10);
    for length in [129 << 10, 500 << 10] {
        let entry = linked(length);
        assert!(encode(&entry.key, entry.stamp, &entry.stored).is_none(), "{length}");
        // Somebody else has written it, with a checksum that fits.
        let short = bytes(&linked(0));
        let (before, after) = (short.len() - (4 + 6 + 4) - (4 + 4), short.len() - (4 + 4));
        let number = |length: usize| u32::try_from(length).unwrap().to_le_bytes();
        let fields = [&[4, 0][..], &number(length), b"link", &vec![b'l'; length]].concat();
        let long = [&short[..before], &number(fields.len()), &fields, &short[after..]].concat();
        let read = decode(sealed(long)).map(|entry| entry.stored.headers().len());
        assert_eq!(read, Err(Unreadable::Form), "{length}");
    }
}

#[test]
fn a_length_that_is_a_lie_takes_no_memory() {
    // A count of four thousand million tags, and nothing of them.
    let mut reader = Reader::of(Bytes::from(u32::MAX.to_le_bytes().to_vec()));
    assert_eq!(reader.length(), None);
    let mut reader = Reader::of(Bytes::from(u32::MAX.to_le_bytes().to_vec()));
    assert_eq!(reader.bytes(), None);
}
