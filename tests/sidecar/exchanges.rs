//! What is more than a request and its answer: expectations, trailers, interim answers, other protocols, old
//! clients, and applications that say too much.

use std::time::Duration;

use cachedservice::sidecar::http::edge::limits::PARK_TIME;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::bytes::{Record, SOON, Wired, rest, until};

const UPGRADE: &str = "GET /socket HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n";
const SWITCHED: &str =
    "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";

/// An application that answers each request with these bytes.
async fn saying(answer: &'static str) -> Wired {
    Wired::start(move |mut stream: TcpStream, record: Record| async move {
        while record.until(&mut stream, "\r\n\r\n").await.is_some() {
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await
}

/// One that answers once with these bytes, and ends.
async fn saying_at_last(answer: &'static str) -> Wired {
    Wired::start(move |mut stream: TcpStream, record: Record| async move {
        record.until(&mut stream, "\r\n\r\n").await;
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await
}

/// One that switches to a protocol in which all is sent back.
async fn echoing() -> Wired {
    Wired::start(|mut stream: TcpStream, record: Record| async move {
        record.until(&mut stream, "\r\n\r\n").await;
        stream.write_all(SWITCHED.as_bytes()).await.unwrap();
        let (mut read, mut write) = stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
    })
    .await
}

// Other protocols.

#[tokio::test]
async fn after_101_the_bytes_of_both_sides_are_passed_on_as_they_are() {
    let pod = echoing().await;
    let mut stream = pod.connect().await;
    stream.write_all(UPGRADE.as_bytes()).await.unwrap();
    assert!(until(&mut stream, "\r\n\r\n").await.starts_with("HTTP/1.1 101 "));
    // No request, no chunk, no text.
    let frame: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let (mut read, mut write) = stream.split();
    let (_, echo) = tokio::join!(async { write.write_all(&frame).await.unwrap() }, async {
        let mut echo = vec![0; frame.len()];
        read.read_exact(&mut echo).await.unwrap();
        echo
    });
    assert_eq!(echo, frame);
    // One side ends, and so does the other.
    stream.shutdown().await.unwrap();
    assert_eq!(rest(&mut stream).await, "");
}

#[tokio::test]
async fn bytes_that_come_before_101_are_of_the_other_protocol_and_not_lost() {
    let pod = echoing().await;
    let mut stream = pod.connect().await;
    // They look like a request, and are none.
    let early = "GET /smuggled HTTP/1.1\r\nHost: shop\r\n\r\n";
    stream.write_all(format!("{UPGRADE}{early}").as_bytes()).await.unwrap();
    assert!(until(&mut stream, "\r\n\r\n").await.starts_with("HTTP/1.1 101 "));
    assert_eq!(until(&mut stream, "\r\n\r\n").await, early);
    assert!(!pod.record.text().contains("smuggled"), "the application did not get it as a request");
}

#[tokio::test]
async fn bytes_that_come_before_a_denial_are_requests_and_checked_as_such() {
    let pod = Wired::answering().await;
    let next = "GET /next HTTP/1.1\r\nHost: shop\r\n\r\n";
    let answer = pod.exchange(format!("{UPGRADE}{next}\x01\x02\r\n\r\n")).await;
    let statuses: Vec<&str> = answer.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(statuses, ["200", "200", "400"], "{answer}");
    assert!(pod.record.text().contains("GET /next HTTP/1.1"));
}

#[tokio::test]
async fn a_protocol_is_changed_only_if_that_was_asked_for_in_all_form() {
    for fields in [
        "",
        "Upgrade: websocket\r\n",
        "Connection: upgrade\r\n",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
    ] {
        let pod = saying(SWITCHED).await;
        let request = format!("GET / HTTP/1.1\r\nHost: shop\r\n{fields}\r\n");
        let mut stream = pod.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = rest(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 502 "), "{fields:?}: {answer:?}");
        let got = pod.record.text();
        assert!(!got.contains("upgrade") && !got.contains("http2-settings"), "{got:?}");
    }
}

// Answers that are not the last, or more than one.

#[tokio::test]
async fn interim_answers_are_not_taken_for_the_answer() {
    let pod = saying(
        "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    )
    .await;
    let answer = pod.exchange("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nok"), "{answer}");
}

#[tokio::test]
async fn a_second_answer_to_one_request_is_not_given_to_the_next() {
    let pod = saying(
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfirstHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
    )
    .await;
    for number in 0..5 {
        let request = format!("GET /{number} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let answer = pod.exchange(request).await;
        assert!(answer.ends_with("\r\n\r\nfirst"), "{answer}");
    }
}

#[tokio::test]
async fn the_body_of_an_answer_that_has_none_is_not_given_to_the_next() {
    for (method, answer) in [
        ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 38\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"),
        ("GET", "HTTP/1.1 304 Not Modified\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"),
    ] {
        let pod = saying(answer).await;
        for _ in 0..5 {
            let request = format!("{method} / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            let answer = pod.exchange(request).await;
            let body = answer.split("\r\n\r\n").nth(1);
            assert!(answer.starts_with("HTTP/1.1 ") && body == Some(""), "{method}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn what_splits_an_answer_is_no_answer() {
    for answer in [
        "HTTP/1.1 200 OK\r\nx: a\r\n set-cookie: folded\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx: a\rset-cookie: b\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx: a\0b\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno field\r\ncontent-length: 0\r\n\r\n",
        "\0\0\0\0\r\n\r\n",
        "",
    ] {
        let pod = saying_at_last(answer).await;
        let answered = pod.exchange("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        assert!(answered.starts_with("HTTP/1.1 502 "), "{answer:?}: {answered:?}");
    }
}

#[tokio::test]
async fn an_answer_that_is_cut_short_is_neither_whole_nor_stored() {
    for (answer, kept) in [
        ("HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 10\r\n\r\nhalf", "half"),
        (
            "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
            "4\r\nhalf\r\n",
        ),
        ("HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\n\r\nhalf", ""),
        // Of codings only `chunked` has an end, and only as the last (RFC 9112 §6.3).
        ("HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ntransfer-encoding: gzip\r\n\r\nhalf", ""),
        ("HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ntransfer-encoding: chunked, gzip\r\n\r\nhalf", ""),
        (
            "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ntransfer-encoding: chunked\r\ntransfer-encoding: x\r\n\r\nhalf",
            "",
        ),
        // A length beside a coding says nothing.
        (
            "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 4\r\ntransfer-encoding: gzip\r\n\r\nhalf",
            "",
        ),
    ] {
        let pod = saying_at_last(answer).await;
        for _ in 0..2 {
            let answered = pod.exchange("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
            assert!(!answered.contains("; hit"), "{answered}");
            assert!(kept.is_empty() || answered.ends_with(kept), "{answered:?}");
            assert!(
                !kept.is_empty() || answered.contains("half"),
                "it ends with its connection: {answered:?}"
            );
        }
        assert_eq!(pod.record.text().matches("GET /").count(), 2, "{answer:?}");
    }
}

// Trailers.

#[tokio::test]
async fn trailers_of_an_answer_reach_those_who_take_them() {
    let answer =
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: sum\r\n\r\n2\r\nok\r\n0\r\nsum: 7\r\n\r\n";
    for (fields, takes) in
        [("TE: trailers\r\nConnection: te, close\r\n", true), ("Connection: close\r\n", false)]
    {
        let pod = saying(answer).await;
        let request = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let answered = pod.exchange(request).await;
        assert!(answered.contains("2\r\nok\r\n0\r\n"), "{answered:?}");
        assert_eq!(answered.ends_with("sum: 7\r\n\r\n"), takes, "{answered:?}");
        assert_eq!(pod.record.text().contains("te: trailers\r\n"), takes);
    }
}

#[tokio::test]
async fn trailers_of_a_request_reach_the_application_except_those_that_say_how_to_read_it() {
    let pod = Wired::start(|mut stream: TcpStream, record: Record| async move {
        record.until(&mut stream, "\r\n\r\n").await;
        record.until(&mut stream, "\r\n\r\n").await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
    })
    .await;
    let answer = pod
        .exchange(
            "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTrailer: sum, host, content-length, authorization\r\n\
             Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nsum: 7\r\nhost: evil\r\ncontent-length: 9\r\n\
             authorization: evil\r\n\r\n",
        )
        .await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    let got = pod.record.text();
    assert!(got.ends_with("3\r\nabc\r\n0\r\nsum: 7\r\n\r\n"), "{got:?}");
}

// Old clients, and clients that want little.

#[tokio::test]
async fn a_client_of_http_1_0_gets_a_whole_body_without_chunks_and_an_end() {
    let pod = saying("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n").await;
    let answer = pod.exchange("GET / HTTP/1.0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 200 OK") && answer.ends_with("\r\n\r\nok"), "{answer:?}");
    assert!(!answer.contains("chunked"), "{answer:?}");
    assert!(pod.record.text().contains(&format!("host: {}\r\n", pod.address)), "it has come in there");
}

#[tokio::test]
async fn a_client_of_http_1_0_keeps_its_connection_if_it_asks_for_that() {
    let pod = Wired::answering().await;
    let mut stream = pod.connect().await;
    for _ in 0..2 {
        stream.write_all(b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n").await.unwrap();
        let answer = until(&mut stream, "ok").await;
        assert!(answer.contains("connection: keep-alive\r\n"), "{answer:?}");
    }
}

#[tokio::test]
async fn the_answer_to_a_head_has_the_length_of_the_body_that_it_has_not() {
    let pod = saying("HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n\r\n").await;
    let head = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n";
    let answer = pod.exchange(format!("{head}{}", head.replace("Host", "Connection: close\r\nHost"))).await;
    assert_eq!(answer.matches("content-length: 1234\r\n").count(), 2, "{answer:?}");
    assert!(answer.ends_with("\r\n\r\n"), "{answer:?}");
}

// Connections that are parked.

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_answered_also_at_the_moment_when_its_connection_is_parked() {
    let pod = std::sync::Arc::new(Wired::answering().await);
    let mut asking = Vec::new();
    for number in 0..500 {
        let pod = pod.clone();
        asking.push(tokio::spawn(async move {
            let mut stream = pod.connect().await;
            // It is looked at twice in so long: the requests come just before, just then, and just after.
            let pause = PARK_TIME * 2 + Duration::from_micros(200 * number) - Duration::from_millis(50);
            for pause in [Duration::ZERO, pause] {
                tokio::time::sleep(pause).await;
                stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
                assert!(until(&mut stream, "ok").await.starts_with("HTTP/1.1 200 OK"));
            }
        }));
    }
    for asking in asking {
        asking.await.unwrap();
    }
}

// Bodies that an application may not want.

const EXPECTING: &str =
    "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: 3\r\n\r\n";

/// An application that gets a head, says this, and takes the body if there is something to say after it.
async fn saying_before_the_body(before: &'static str, after: &'static str) -> Wired {
    Wired::start(move |mut stream: TcpStream, record: Record| async move {
        record.until(&mut stream, "\r\n\r\n").await;
        stream.write_all(before.as_bytes()).await.unwrap();
        if !after.is_empty() && record.until(&mut stream, "abc").await.is_some() {
            stream.write_all(after.as_bytes()).await.unwrap();
        }
    })
    .await
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn a_body_is_sent_when_the_application_wants_it() {
    let pod = saying_before_the_body("HTTP/1.1 100 Continue\r\n\r\n", OK).await;
    let mut stream = pod.connect().await;
    let start = std::time::Instant::now();
    stream.write_all(EXPECTING.as_bytes()).await.unwrap();
    assert_eq!(until(&mut stream, "\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    assert!(start.elapsed() < Duration::from_millis(900), "it need not be waited for");
    stream.write_all(b"abc").await.unwrap();
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 200 OK"));
}

#[tokio::test]
async fn a_refusal_of_the_application_comes_before_the_body_is_sent() {
    let pod = saying_before_the_body("HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\n\r\nno", "").await;
    let mut stream = pod.connect().await;
    stream.write_all(EXPECTING.as_bytes()).await.unwrap();
    let answer = until(&mut stream, "no").await;
    assert!(answer.starts_with("HTTP/1.1 401 Unauthorized"), "no word to send it: {answer:?}");
    assert!(pod.record.text().contains("expect: 100-continue\r\n"));
    // Whatever is sent now is the body of what is over, or nothing.
    let _ = stream.write_all(b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(!rest(&mut stream).await.contains("HTTP/1.1"));
    assert!(!pod.record.text().contains("smuggled"));
}

#[tokio::test]
async fn an_application_that_knows_nothing_of_expectations_gets_the_body_after_a_while() {
    let pod = saying_before_the_body("", OK).await;
    let mut stream = pod.connect().await;
    stream.write_all(EXPECTING.as_bytes()).await.unwrap();
    assert_eq!(until(&mut stream, "\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"abc").await.unwrap();
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 200 OK"));
}

#[tokio::test]
async fn a_client_that_does_not_wait_for_the_word_is_answered_too() {
    for before in ["", "HTTP/1.1 100 Continue\r\n\r\n"] {
        let pod = saying_before_the_body(before, OK).await;
        let answer = pod.exchange(format!("{EXPECTING}abc")).await;
        assert!(answer.ends_with("\r\n\r\nok"), "{answer:?}");
    }
}

#[tokio::test]
async fn a_client_that_is_silent_is_asked_whether_it_is_there() {
    let pod = Wired::answering().await;
    let stream = pod.connect().await;
    let (port, of) = (stream.local_addr().unwrap().port(), pod.address.port());
    // The sidecar's end of it, and which timer it has (proc(5): 02 is that of keep-alive).
    let is_asked = || {
        let connections = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
        connections.lines().any(|line| {
            let columns: Vec<&str> = line.split_whitespace().collect();
            let has_port = |column: usize, port: u16| columns[column].ends_with(&format!(":{port:04X}"));
            columns.len() > 5 && has_port(1, of) && has_port(2, port) && columns[5].starts_with("02:")
        })
    };
    let asked = async {
        while !is_asked() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, asked).await.expect("nobody would see that it is gone");
}
