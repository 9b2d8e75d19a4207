//! HTTP/2 as its frames: requests that are malformed, and clients that ask for more than they mean to take.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};

use crate::bytes::{SOON, Wired};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

type Fields<'a> = &'a [(&'a str, &'a str)];

/// What every request has.
const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":authority", "shop"), (":path", "/")];

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Each field in words, as HPACK allows it (RFC 7541 §6.2.2), whatever its bytes.
fn block(fields: Fields<'_>) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            let length = text.len();
            if length < 127 {
                block.push(u8::try_from(length).unwrap());
            } else {
                // RFC 7541 §5.1.
                block.push(127);
                let mut rest = length - 127;
                while rest >= 128 {
                    block.push(u8::try_from(rest % 128).unwrap() | 128);
                    rest /= 128;
                }
                block.push(u8::try_from(rest).unwrap());
            }
            block.extend(text.bytes());
        }
    }
    block
}

/// A connection that has begun.
async fn connect(pod: &Wired) -> TcpStream {
    begin(pod.connect().await).await
}

/// Begins to speak HTTP/2.
pub async fn begin(mut stream: TcpStream) -> TcpStream {
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    stream
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    /// It was answered; the first byte of the fields, which is that of the status.
    Answered(u8),
    /// Its stream was ended.
    Reset,
    /// The connection was ended, for this reason.
    GoAway(u32),
    /// The connection has ended without a word.
    Ended,
}

/// `:status` 200 and 400 in the table of HPACK.
const OK: Outcome = Outcome::Answered(0x88);
const BAD_REQUEST: Outcome = Outcome::Answered(0x8c);

async fn outcome(stream: &mut TcpStream) -> Outcome {
    let read = async {
        loop {
            let mut head = [0; 9];
            if stream.read_exact(&mut head).await.is_err() {
                return Outcome::Ended;
            }
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            if stream.read_exact(&mut payload).await.is_err() {
                return Outcome::Ended;
            }
            match head[3] {
                HEADERS => return Outcome::Answered(payload[0]),
                RST_STREAM => return Outcome::Reset,
                GOAWAY => return Outcome::GoAway(u32::from_be_bytes(payload[4..8].try_into().unwrap())),
                SETTINGS if head[4] & ACK == 0 => {
                    stream.write_all(&frame(SETTINGS, ACK, 0, &[])).await.unwrap();
                }
                _ => {}
            }
        }
    };
    timeout(SOON, read).await.expect("an outcome in time")
}

/// What becomes of a request of these fields, which has a body or not.
async fn ask(pod: &Wired, fields: Fields<'_>, body: Option<&[u8]>) -> Outcome {
    let mut stream = connect(pod).await;
    let flags = if body.is_none() { END_HEADERS | END_STREAM } else { END_HEADERS };
    stream.write_all(&frame(HEADERS, flags, 1, &block(fields))).await.unwrap();
    if let Some(body) = body {
        stream.write_all(&frame(DATA, END_STREAM, 1, body)).await.unwrap();
    }
    outcome(&mut stream).await
}

/// The next frame that need not be answered, its kind and its stream; others are answered. None at the end.
async fn next_frame(stream: &mut TcpStream) -> Option<(u8, u32)> {
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.ok()?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        stream.read_exact(&mut payload).await.ok()?;
        let answer = match head[3] {
            SETTINGS if head[4] & ACK == 0 => frame(SETTINGS, ACK, 0, &[]),
            PING if head[4] & ACK == 0 => frame(PING, ACK, 0, &payload),
            kind => return Some((kind, u32::from_be_bytes(head[5..].try_into().unwrap()))),
        };
        stream.write_all(&answer).await.ok()?;
    }
}

/// Reads all that comes until a stream is reset, and which that is.
pub async fn until_reset(stream: &mut TcpStream) -> u32 {
    loop {
        let (kind, number) = next_frame(stream).await.expect("a reset before the end");
        if kind == RST_STREAM {
            return number;
        }
    }
}

/// Whether an answer comes before the end.
pub async fn is_answered(stream: &mut TcpStream) -> bool {
    while let Some((kind, _)) = next_frame(stream).await {
        if kind == HEADERS {
            return true;
        }
    }
    false
}

/// A whole request for a path.
pub fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&in_place_of(":path", &[(":path", path)])))
}

/// The fields of a GET and these.
fn with<'a>(fields: Fields<'a>) -> Vec<(&'a str, &'a str)> {
    [&GET[..], fields].concat()
}

/// The fields of a GET without one, and these in its place.
fn in_place_of<'a>(name: &str, fields: Fields<'a>) -> Vec<(&'a str, &'a str)> {
    let mut all: Vec<(&str, &str)> = GET.into_iter().filter(|(known, _)| *known != name).collect();
    all.extend(fields);
    all
}

#[tokio::test]
async fn a_request_in_order_is_answered() {
    for fields in [
        with(&[]),
        with(&[("host", "shop"), ("te", "trailers"), ("cookie", "a=1"), ("cookie", "b=2")]),
        in_place_of(":authority", &[("host", "shop")]),
    ] {
        let pod = Wired::answering().await;
        assert_eq!(ask(&pod, &fields, None).await, OK, "{fields:?}");
        let got = pod.record.text();
        assert!(got.starts_with("GET / HTTP/1.1\r\n") && got.contains("host: shop\r\n"), "{got}");
        // RFC 9113 §8.2.3.
        assert!(!got.contains("cookie") || got.contains("cookie: a=1; b=2\r\n"), "{got}");
    }
}

#[tokio::test]
async fn a_malformed_request_does_not_reach_the_application() {
    let pod = Wired::answering().await;
    for fields in [
        in_place_of(":method", &[]),
        in_place_of(":scheme", &[]),
        in_place_of(":path", &[]),
        in_place_of(":path", &[(":path", "")]),
        in_place_of(":path", &[(":path", "*")]),
        in_place_of(":path", &[(":path", "a")]),
        in_place_of(":path", &[(":path", "/a b")]),
        in_place_of(":path", &[(":path", "/a\r\nx: y")]),
        in_place_of(":path", &[(":path", "/ HTTP/1.1\r\nhost: evil\r\n\r\n")]),
        in_place_of(":path", &[(":path", "/\u{e9}")]),
        in_place_of(":method", &[(":method", "GET /evil HTTP/1.1\r\n")]),
        in_place_of(":method", &[(":method", "CONNECT")]),
        in_place_of(":method", &[(":method", "TRACE")]),
        in_place_of(":scheme", &[(":scheme", "ftp")]),
        in_place_of(":authority", &[]),
        in_place_of(":authority", &[(":authority", "a@shop")]),
        in_place_of(":authority", &[(":authority", "a/b")]),
        in_place_of(":authority", &[(":authority", "shop\r\nx: y")]),
        with(&[("host", "other")]),
        with(&[("host", "shop"), ("host", "shop")]),
        with(&[(":path", "/second")]),
        with(&[(":unknown", "x")]),
        with(&[(":status", "200")]),
        [&[("x", "y")], &GET[..]].concat(),
        with(&[("connection", "close")]),
        with(&[("transfer-encoding", "chunked")]),
        with(&[("upgrade", "websocket")]),
        with(&[("keep-alive", "1")]),
        with(&[("proxy-connection", "close")]),
        with(&[("te", "gzip")]),
        with(&[("X", "y")]),
        with(&[("x y", "z")]),
        with(&[("x:y", "z")]),
        with(&[("x", "a\r\nevil: b")]),
        with(&[("x", "a\0b")]),
        with(&[("content-length", "1"), ("content-length", "1")]),
        with(&[("content-length", "x")]),
        with(&[("content-length", "-1")]),
        with(&[("expect", "other")]),
    ] {
        let outcome = ask(&pod, &fields, None).await;
        assert!(outcome != OK && outcome != Outcome::Ended, "{fields:?}: {outcome:?}");
        assert_eq!(pod.record.text(), "", "{fields:?}");
    }
    assert_eq!(ask(&pod, &with(&[("host", "other")]), None).await, BAD_REQUEST, "in words where it can be");
}

#[tokio::test]
async fn a_body_of_another_length_than_was_told_is_not_whole_to_the_application() {
    for (told, body) in [("5", "abc"), ("2", "GET /smuggled HTTP/1.1\r\n\r\n")] {
        let pod = Wired::answering().await;
        let fields = [&GET[1..], &[(":method", "POST"), ("content-length", told)]].concat();
        let outcome = ask(&pod, &fields, Some(body.as_bytes())).await;
        assert_ne!(outcome, OK, "{told}");
        assert!(!pod.record.text().contains("smuggled"), "{}", pod.record.text());
    }
}

#[tokio::test]
async fn fields_that_are_too_large_or_too_many_are_refused() {
    let pod = Wired::answering().await;
    let large = "x".repeat(15_000);
    let many: Vec<(String, &str)> = (0..200).map(|number| (format!("x-{number}"), "")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    for fields in [with(&many), in_place_of(":path", &[(":path", &format!("/{large}"))])] {
        let outcome = ask(&pod, &fields, None).await;
        assert!(matches!(outcome, Outcome::Answered(first) if first != 0x88), "{outcome:?}");
    }
    // Beyond the list that is allowed: parts of a head that does not end.
    let mut stream = connect(&pod).await;
    let first = block(&with(&[("x", &large)]));
    stream.write_all(&frame(HEADERS, END_STREAM, 1, &first)).await.unwrap();
    let sent = async {
        for _ in 0..10_000 {
            let more = block(&[("y", &large)]);
            if stream.write_all(&frame(9, 0, 1, &more)).await.is_err() {
                return;
            }
        }
        panic!("150 MB of one head are taken");
    };
    timeout(SOON, sent).await.expect("an end in time");
    assert_eq!(pod.record.text(), "");
}

#[tokio::test]
async fn requests_that_are_taken_back_at_once_end_the_connection_and_trouble_nobody() {
    let pod = Wired::answering().await;
    let stream = connect(&pod).await;
    let request = block(&GET);
    let mut flood = Vec::new();
    for number in 0..20_000 {
        let id = number * 2 + 1;
        flood.extend(frame(HEADERS, END_HEADERS | END_STREAM, id, &request));
        flood.extend(frame(RST_STREAM, 0, id, &8_u32.to_be_bytes()));
    }
    let (mut read, mut write) = stream.into_split();
    let flooding = tokio::spawn(async move { write.write_all(&flood).await });
    let start = Instant::now();
    let mut drained = Vec::new();
    let ended = timeout(SOON, read.read_to_end(&mut drained)).await;
    assert!(ended.is_ok(), "the connection is ended");
    assert!(start.elapsed() < Duration::from_secs(10));
    let _ = flooding.await;
    let got = pod.record.text().matches("GET / HTTP/1.1").count();
    assert!(got < 1_000, "{got} have reached the application");
    assert_eq!(ask(&pod, &GET, None).await, OK);
}
