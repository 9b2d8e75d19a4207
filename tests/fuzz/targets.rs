//! What is read that others have written: of any bytes it is an answer or a refusal, and never a panic; and what is
//! taken is as it was written.
//!
//! The normal tests go through [`ALL`] with what chance makes of valid inputs (`tests/sidecar/decoders.rs`);
//! `make fuzz` does so with libFuzzer, which goes by the branches that an input has reached.

use std::time::Duration;

use bytes::Bytes;
use cachedservice::{
    settings::{
        Settings,
        deletions::Deletion,
        purges::{PurgeRecord, Tiers},
    },
    sidecar::{
        admin::explain::question,
        cache::{
            Exchange, RequestDirectives, ResponseDirectives, SecondaryKey, Stored,
            cache_status::Level,
            fields::LONGEST,
            key::Key,
            may_store,
            purges::{Purges, Stamp},
            reuse::ByRule,
            selection::varies_by,
            stored::Origin,
            tags::tags,
        },
        http::edge::{
            head,
            scan::{Scan, State},
        },
        purge_order,
        redis::{
            codec::{Entry, decode, encode},
            names,
            record::{MOST, News, Record},
        },
        upstream::identity::{self, Card, Question},
    },
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use jiff::Timestamp;
use xxhash_rust::xxh3::xxh3_64;

#[path = "near.rs"]
mod near;
#[path = "strict.rs"]
pub mod strict;

use strict::meant;

/// A name, and what is done with an input.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const ALL: [Target; 16] = [
    ("request", request),
    ("head", request_head),
    ("response", response),
    ("entry", entry),
    ("sets", sets),
    ("record", record),
    ("news", news),
    ("order", order),
    ("purges", purges),
    ("settings", settings),
    ("question", asked),
    ("peer", peer),
    ("command", near::command),
    ("reply", near::reply),
    ("older", near::older_reply),
    ("meant", near::meant),
];

/// Some requests that are in order, with others in their bodies.
pub const REQUESTS: [&str; 7] = [
    "GET /a HTTP/1.1\r\nHost: shop\r\n\r\n",
    "GET http://shop/b?c HTTP/1.1\r\nHost: shop\r\nAccept: */*\r\nCookie: a=b\r\n\r\n",
    "GET /old HTTP/1.0\r\n\r\n",
    "POST /sized HTTP/1.1\r\nHost: shop\r\nContent-Length: 36\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: shop\r\n\r\n",
    "POST /chunked HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n\
     24\r\nGET /smuggled HTTP/1.1\r\nHost: shop\r\n\r\n\r\n0\r\n\r\n",
    "PUT /trailers HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\r\n3;x=y\r\nabc\r\n0\r\nSum: 1\r\n\r\n",
    "GET /socket HTTP/1.1\r\nHost: shop\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
];

/// Requests in pieces of whatever size: what passes is what was meant. The first two bytes say where it is cut.
fn request(data: &[u8]) {
    let Some(([one, other], bytes)) = data.split_first_chunk::<2>() else { return };
    let mut cuts = [0, usize::from(*one).min(bytes.len()), usize::from(*other).min(bytes.len()), bytes.len()];
    cuts.sort_unstable();
    passes(bytes, &cuts);
}

/// Passes bytes that come in pieces.
pub fn passes(bytes: &[u8], cuts: &[usize]) {
    let mut scan = Scan::default();
    let (mut held, mut passed) = (Vec::new(), Vec::new());
    for pair in cuts.windows(2) {
        held.extend_from_slice(&bytes[pair[0]..pair[1]]);
        let count = scan.pass(&held);
        passed.extend(held.drain(..count));
        scan.decide(false);
        let count = scan.pass(&held);
        passed.extend(held.drain(..count));
    }
    // Where another protocol is denied, the next request waits for that.
    scan.decide(false);
    let count = scan.pass(&held);
    passed.extend(held.drain(..count));
    assert_eq!([&passed[..], &held[..]].concat(), bytes);
    if !matches!(scan.state(), State::Opaque) {
        assert!(meant(&passed).len() <= meant(bytes).len());
        assert!(scan.heads() <= meant(bytes).len() + 1, "at most the last has no whole body");
    }
}

fn request_head(data: &[u8]) {
    let end = head::end(data, 0);
    // Where it was looked before does not matter.
    for searched in [1, data.len() / 2, data.len()] {
        if head::end(&data[..searched.min(data.len())], 0).is_none() {
            assert_eq!(head::end(data, searched.min(data.len())), end);
        }
    }
    let _ = head::read(&data[..end.unwrap_or(data.len())]);
}

/// Lines of fields, as far as they are some.
fn headers(text: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in text.split(|byte| *byte == b'\n').take(64) {
        let Some(at) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..at]);
        let value = HeaderValue::from_bytes(line[at + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    headers
}

/// The fields of a request, an empty line, and those of a response: all that the cache decides by them.
fn response(data: &[u8]) {
    let text: Vec<&[u8]> = data.splitn(2, |byte| *byte == 0).collect();
    let (request, response) = (headers(text[0]), headers(text.get(1).unwrap_or(&&b""[..])));
    let directives = ResponseDirectives::of(&response);
    let _ = (may_store(&Method::GET, &request, StatusCode::OK, &response, &directives), tags(&response));
    let received = Timestamp::from_second(784_111_777).unwrap();
    let exchange = Exchange { requested: received, received };
    let origin =
        Origin { request: &request, exchange, lifetime: None, default_lifetime: None, tags: Vec::new() };
    let body = Bytes::from_static(b"0123456789");
    for status in [StatusCode::OK, StatusCode::PARTIAL_CONTENT, StatusCode::NOT_FOUND] {
        let stored = Stored::new(status, response.clone(), body.clone(), origin.clone());
        assert_eq!(stored.headers(), Stored { ..stored.clone() }.headers());
        answers(&stored, &request);
        let stamp = Stamp { api: 1, generation: 2, sequence: 3 };
        // Only fields that are too long are not written.
        let Some(bytes) = encode("http://shop/", stamp, &stored) else {
            assert!(data.len() > LONGEST / 8);
            continue;
        };
        let read = decode(bytes).expect("what is written is read");
        assert_eq!(format!("{:?}", read.stored), format!("{stored:?}"));
    }
}

/// What becomes of a stored response at any time.
fn answers(stored: &Stored, request: &HeaderMap) {
    let asked = RequestDirectives::of(request);
    let _ = (stored.is_for(request), stored.size());
    for now in [Timestamp::MIN, Timestamp::UNIX_EPOCH, stored.received, Timestamp::MAX] {
        let _ = stored.reuse(&asked, ByRule::default(), now);
        for method in [Method::GET, Method::HEAD] {
            let answer = stored.answer(&method, request, Level::Redis, now);
            assert!(answer.body().len() <= stored.body.len());
        }
    }
}

/// What is in Redis in place of a response: the bytes as they are, and with a checksum that fits them.
fn entry(data: &[u8]) {
    let beginning = &b"CSR\x01"[..];
    let sealed = [beginning, &xxh3_64(data).to_le_bytes(), data].concat();
    for bytes in [data.to_vec(), sealed] {
        let Ok(Entry { key, stamp, stored }) = decode(bytes) else { continue };
        answers(&stored, &HeaderMap::new());
        let again = decode(encode(&key, stamp, &stored).unwrap()).expect("what is written is read");
        assert_eq!((again.key, again.stamp), (key, stamp));
        assert_eq!(format!("{:?}", again.stored), format!("{stored:?}"));
        let _ = names::used_response(&Key::told(again.stored.fields.len().to_string()), &stored.secondary);
    }
}

/// A valid entry without its beginning and its checksum.
fn written(lines: &str, body: &'static str) -> Vec<u8> {
    let request = headers(b"accept: text/html\ncookie: a=b");
    let received = Timestamp::from_second(784_111_777).unwrap();
    let exchange = Exchange { requested: received, received };
    let tags = vec!["one".to_owned(), "two".to_owned()];
    let origin = Origin {
        request: &request,
        exchange,
        lifetime: None,
        default_lifetime: Some(Duration::from_secs(9)),
        tags,
    };
    let stored =
        Stored::new(StatusCode::OK, headers(lines.as_bytes()), Bytes::from_static(body.as_bytes()), origin);
    let stamp = Stamp { api: 1, generation: u64::MAX, sequence: 3 };
    encode("http://shop/a?b", stamp, &stored).unwrap().split_off(12)
}

/// The sets of a key, and a member of the list of what is used.
fn sets(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let request = headers(b"accept: text/html\ncookie: a=b");
    let fields = names::fields(&text, &request);
    assert!(fields.len() <= names::SETS);
    for set in text.lines().take(names::SETS) {
        let parsed = varies_by(&headers(format!("vary: {}", set.trim_start_matches('=')).as_bytes()));
        let secondary = SecondaryKey::of(&parsed, &request);
        if names::set(&secondary) == set {
            assert!(fields.contains(&names::field(&secondary)), "{set}");
        }
    }
}

/// The record of purges in Redis: names and values in turn, each in a line.
fn record(data: &[u8]) {
    let lines: Vec<&[u8]> = data.split(|byte| *byte == b'\n').collect();
    let fields: Vec<(Vec<u8>, Vec<u8>)> =
        lines.chunks_exact(2).map(|pair| (pair[0].to_owned(), pair[1].to_owned())).collect();
    let Ok(record) = Record::of(&fields) else { return };
    let after: Vec<u64> = record.after(0).map(|(number, _)| number).collect();
    assert!(after.len() as u64 <= MOST);
    // None is left out, or what it was about would be given.
    assert_eq!(after, (record.forgotten + 1..=record.sequence).collect::<Vec<_>>());
}

fn news(data: &[u8]) {
    if let Ok(News::Purged { purge, .. }) = serde_json::from_slice::<News>(data) {
        let text = serde_json::to_string(&purge).unwrap();
        assert_eq!(
            serde_json::from_str::<cachedservice::sidecar::redis::record::Purge>(&text).unwrap(),
            purge
        );
        for target in &purge.targets {
            let _ = target.matches("http://shop/a?b", &["t".to_owned()]);
        }
    }
}

/// A purge of the application, in a request or on its channel.
fn order(data: &[u8]) {
    let tiers = Tiers { http: true, application: true };
    if let Ok(purge_order::Order { targets, .. }) = purge_order::purge(data, tiers) {
        assert!(!targets.is_empty() && targets.len() <= 100);
        let deletion = Deletion::of("", &targets);
        let _ = deletion.pattern();
        assert!(
            deletion
                .prefixes
                .iter()
                .all(|prefix| deletion.own().is_some() || deletion.is_about(prefix.as_bytes()))
        );
        for target in targets {
            let _ = target.matches("http://shop/a?b", &["t".to_owned()]);
        }
    }
}

/// The operator's record.
fn purges(data: &[u8]) {
    let Ok(record) = PurgeRecord::parse(&String::from_utf8_lossy(data)) else { return };
    let mut purges = Purges::new(16);
    purges.begin_generation(1, 0);
    let before = purges.now();
    let new = purges.add_record(&record);
    assert_eq!(purges.now().stamp.api, record.last());
    assert_eq!(purges.add_record(&record), [], "once is enough");
    if new.iter().any(|(target, _)| target.matches("http://shop/a", &[])) {
        assert!(purges.since(before.epoch, "http://shop/a", &[]).is_some());
        assert!(purges.since_stamp(before.stamp, "http://shop/a", &[]).is_some());
    }
}

fn settings(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(read) = Settings::read(&text) {
        assert_eq!(Settings::parse(&read.settings.to_json().unwrap()).unwrap(), read.settings);
        assert_eq!(read.settings.reloaded(&text).unwrap(), read);
    }
}

/// The query of a request that is to be explained.
fn asked(data: &[u8]) {
    if let Ok(question) = question(&String::from_utf8_lossy(data)) {
        assert!(question.url.authority().is_some() && question.headers.len() <= 100);
    }
}

/// What one sidecar asks another, and what whoever is there says.
fn peer(data: &[u8]) {
    let question = Question::parse(&String::from_utf8_lossy(data));
    if let Ok(question) = &question {
        assert_eq!(Question::parse(&question.query()).as_ref(), Ok(question));
    }
    if let Ok(card) = serde_json::from_slice::<Card>(data) {
        let key = identity::Key::of(b"token").unwrap();
        assert!(
            !card.proves(&Question::to([10, 0, 0, 1].into(), 1), &key),
            "nobody but who has the token can"
        );
    }
}

const RECORD: &str = "generation\n18446744073709551615\nsequence\n3\nforgotten\n1\nchanges\n9\np2\n{\"force\":\"soft\",\"targets\":[{\"tag\":\"t\"}]}\np3\n{\"force\":\"hard\",\"targets\":[\"everything\",{\"key\":\"/a\"},{\"prefix\":\"http://shop/\"}]}\nserver\nx";

/// Valid inputs of a target: what chance and libFuzzer begin with.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    let texts = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    match target {
        "request" => REQUESTS.iter().map(|request| [b"\x05\x50", request.as_bytes()].concat()).collect(),
        "head" => texts(&REQUESTS),
        "response" => texts(&[
            "\0cache-control: max-age=60, s-maxage=\"9\", stale-while-revalidate=5, stale-if-error=5\nage: 5\ndate: Sun, 06 Nov 1994 08:49:37 GMT\netag: \"a\"\nvary: accept, cookie",
            "range: bytes=2-4\nif-range: \"a\"\ncache-control: max-stale=5, min-fresh=1, only-if-cached\0etag: \"a\"\ncontent-range: bytes 0-9/10",
            "if-none-match: W/\"a\", \"b\"\nif-modified-since: Sunday, 06-Nov-94 08:49:37 GMT\0cdn-cache-control: max-age=60, must-revalidate\nlast-modified: Sun Nov  6 08:49:37 1994\netag: W/\"b\"",
            "range: bytes=-3, 4-\ncookie: a=b; c=d\nauthorization: Basic eA==\0surrogate-control: max-age=30+60, content=\"ESI/1.0\"\ncache-tag: a,b\nsurrogate-key: c d\nexpires: 0\nset-cookie: a=b",
        ]),
        "entry" => vec![
            written("cache-control: max-age=60\nvary: accept, cookie, x-absent\netag: \"a\"", "page"),
            written("cdn-cache-control: max-age=1, stale-if-error=2", ""),
        ],
        "sets" => texts(&["=\n=accept,cookie\n=x-absent", "="]),
        "record" => texts(&[RECORD]),
        "news" => texts(&[
            r#"{"news":"begun","generation":1}"#,
            r#"{"news":"purged","generation":18446744073709551615,"sequence":7,"purge":{"force":"soft","targets":[{"tag":"t"}]}}"#,
            r#"{"news":"changed","generation":1,"changes":2,"from":3,"keys":["http://a/"]}"#,
        ]),
        "order" => texts(&[
            r#"{"keys":["/a","http://Shop:80/b?c"],"prefixes":["https://shop/"],"tags":["t"],"soft":true}"#,
            r#"{"everything":true}"#,
        ]),
        "purges" => texts(&[
            r#"{"version":1,"forgotten":2,"purges":[{"epoch":3,"id":"u","force":"hard","targets":["everything",{"tag":"t"}]},{"epoch":9,"id":"v","force":"soft","targets":[{"key":"/a"},{"prefix":"http://shop/"}]}]}"#,
        ]),
        "settings" => texts(&[
            r#"{"version":1,"httpPort":9800,"adminPort":9801,"appPort":8080,"drainSeconds":5,"tokenFile":"/t","purgesFile":"/p","purgesCopy":"/c","redis":{"urlFile":"/r","keyPrefix":"a:","channel":"b"},"http":{"memory":67108864,"maxObject":1048576,"rules":[{"paths":["/a*"],"methods":["GET","HEAD"],"headers":[{"name":"a","value":"b"}],"ttl":60,"overrides":true,"staleWhileRevalidate":5,"staleIfError":5,"cookies":["c"],"ignoredQuery":["utm_*"],"tags":["t"]},{"bypass":true}]},"firstByteMs":100,"accessLog":true}"#,
        ]),
        "question" => texts(&[
            "url=http%3A%2F%2Fshop%2Fa%3Fb%3Dc%26d&method=HEAD&header=Accept%3A%20text%2Fhtml&header=X:",
        ]),
        "peer" => texts(&[
            "nonce=0123456789abcdef0123456789abcdef&address=10.0.0.1",
            "nonce=0123456789ABCDEF&address=fd00::1",
            r#"{"port":8080,"draining":false,"proof":"0123456789abcdef"}"#,
        ]),
        other => near::seeds(other).unwrap_or_else(|| panic!("{other} is no target")),
    }
}

/// What is put into inputs of a target by chance: of which other things are made.
pub const PIECES: [&str; 64] = [
    "\r\n",
    "\n",
    "\0",
    " ",
    "\"",
    "'",
    "\\",
    "\\u0000",
    "\\ud800",
    ",",
    ", ",
    ":",
    ";",
    "=",
    "-",
    "+",
    "%",
    "%00",
    "&",
    "/",
    "*",
    "{",
    "}",
    "[",
    "]",
    "{}",
    "null",
    "true",
    "0",
    "-1",
    "1e9",
    "4294967295",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999999999",
    "\u{e9}",
    "\u{1f600}",
    "W/",
    "bytes=",
    "max-age=",
    "no-cache",
    "everything",
    "\"soft\"",
    "http://",
    "://",
    "header=",
    "Content-Length: 3\r\n",
    "Transfer-Encoding: chunked\r\n",
    "0\r\n\r\n",
    "HTTP/1.1",
    "HTTP/2.0",
    "\"news\"",
    "\"version\":2",
    "Host: other\r\n",
    "*2\r\n",
    "*-1\r\n",
    "$1\r\n",
    "$-1\r\n",
    "%1\r\n",
    ">1\r\n",
    "|1\r\n",
    "_\r\n",
    "\nSTORE\n",
    "\nSTREAMS\n",
];
