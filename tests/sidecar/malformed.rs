//! Requests that can be read in two ways, sent as bytes; and what of them the application gets, as bytes.

use tokio::io::AsyncWriteExt;

use crate::bytes::{Wired, rest};

/// The first line of an answer.
fn status(answer: &str) -> &str {
    answer.split("\r\n").next().unwrap()
}

/// Requests of one kind, each with what its answer begins with.
async fn all_are_refused(with: &str, requests: &[&str]) {
    let pod = Wired::answering().await;
    for request in requests {
        // Behind it, what would be a request of its own to whoever reads it otherwise.
        let smuggled = format!("{request}GET /smuggled HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let answer = pod.exchange(&smuggled).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {with} ")), "{request:?}: {answer:?}");
        assert!(answer.contains("connection: close\r\n"), "{request:?}: {answer:?}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "one answer and no more: {request:?}: {answer:?}");
        let reason = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
        assert!(reason.len() > 10 && !reason.contains('\n'), "{request:?}: {reason:?}");
    }
    assert_eq!(pod.record.text(), "", "of none the application sees a byte");
}

/// What the application gets of a request, and that it was answered.
async fn passed(request: &str) -> String {
    let pod = Wired::answering().await;
    let answer = pod.exchange(request).await;
    assert_eq!(status(&answer), "HTTP/1.1 200 OK", "{request:?}: {answer:?}");
    pod.record.text()
}

#[tokio::test]
async fn the_length_of_a_body_told_twice_is_refused() {
    all_are_refused(
        "400",
        &[
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_length_that_is_no_number_is_refused() {
    for length in ["-1", "+3", "0x3", "3 ", "3;", "", "3 3", "1e1", "99999999999999999999", "\u{663}"] {
        if length.trim() == "3" {
            continue;
        }
        all_are_refused(
            "400",
            &[&format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\nabc")],
        )
        .await;
    }
}

#[tokio::test]
async fn a_transfer_encoding_other_than_chunked_is_refused() {
    let with = |encoding: &str, version: &str| {
        format!("POST / HTTP/{version}\r\nHost: a\r\nTransfer-Encoding:{encoding}\r\n\r\n0\r\n\r\n")
    };
    for encoding in
        [" gzip, chunked", " identity", " chunked, identity", " xchunked", " \"chunked\"", "", " chunked;q=1"]
    {
        all_are_refused("501", &[&with(encoding, "1.1")]).await;
    }
    all_are_refused("400", &[&with("\x0bchunked", "1.1"), &with(" chunked", "1.0")]).await;
}

#[tokio::test]
async fn lines_and_fields_that_some_read_otherwise_are_refused() {
    all_are_refused(
        "400",
        &[
            // A line folded, a bare CR or LF, a zero byte, a space before the colon, no colon, no name.
            "POST / HTTP/1.1\r\nHost: a\r\nX: a\r\n Content-Length: 3\r\n\r\nabc",
            "POST / HTTP/1.1\r\nHost: a\r\nX: a\r\n\tContent-Length: 3\r\n\r\nabc",
            "POST / HTTP/1.1\r\nHost: a\nContent-Length: 3\r\n\r\nabc",
            "POST / HTTP/1.1\r\nHost: a\rContent-Length: 3\r\n\r\nabc",
            "POST / HTTP/1.1\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nX: a\x08b\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 3\r\n\r\nabc",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length\r\n\r\nabc",
            "POST / HTTP/1.1\r\nHost: a\r\n: a\r\n\r\n",
            "POST / HTTP/1.1\r\n Host: a\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nX\u{a0}: a\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length\0: 3\r\n\r\nabc",
        ],
    )
    .await;
}

#[tokio::test]
async fn what_is_no_request_line_is_refused() {
    all_are_refused(
        "400",
        &[
            "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
            "GET /\r\nHost: a\r\n\r\n",
            "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET a HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET shop:80 HTTP/1.1\r\nHost: shop:80\r\n\r\n",
            "G\"T / HTTP/1.1\r\nHost: a\r\n\r\n",
            " GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1x\r\nHost: a\r\n\r\n",
            "! / HTTP/1.1\r\nHost: a\r\n\r\n",
            "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "\x16\x03\x01\x02\0\x01\0\x01\r\n\r\n",
        ],
    )
    .await;
    all_are_refused("505", &["GET / HTTP/1.2\r\nHost: a\r\n\r\n", "GET / HTTP/3.0\r\nHost: a\r\n\r\n"]).await;
}

#[tokio::test]
async fn a_host_that_is_none_or_two_is_refused() {
    all_are_refused(
        "400",
        &[
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost:\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a/../b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n",
            "GET http://u@a/ HTTP/1.1\r\nHost: u@a\r\n\r\n",
            "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        ],
    )
    .await;
}

#[tokio::test]
async fn methods_that_go_past_all_rules_are_refused() {
    all_are_refused(
        "501",
        &["CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", "TRACE / HTTP/1.1\r\nHost: a\r\nCookie: b\r\n\r\n"],
    )
    .await;
}

#[tokio::test]
async fn a_chunk_that_some_read_otherwise_ends_the_request() {
    for body in [
        "3\nabc\n0\n\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "3\r\nabc0\r\n\r\n",
        "3;a\nb\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "-3\r\nabc\r\n0\r\n\r\n",
        "10000000000000003\r\nabc\r\n0\r\n\r\n",
        "3\r\nabc\r\n0\r\nX : y\r\n\r\n",
        "3\r\nabc\r\n0\r\n X: y\r\n\r\n",
    ] {
        let pod = Wired::answering().await;
        let request = format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        let smuggled = format!("{request}GET /smuggled HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let answer = pod.exchange(&smuggled).await;
        assert_eq!(status(&answer), "HTTP/1.1 400 Bad Request", "{body:?}: {answer:?}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{body:?}: {answer:?}");
        let got = pod.record.text();
        assert!(
            !got.contains("smuggled") && !got.ends_with("0\r\n\r\n"),
            "never as whole: {body:?}: {got:?}"
        );
    }
}

#[tokio::test]
async fn those_who_asked_before_a_bad_request_are_answered_first() {
    let pod = Wired::answering().await;
    let good = "GET /good HTTP/1.1\r\nHost: a\r\n\r\n";
    let post = "POST /good HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    for bad in ["GET / HTTP/1.1\r\nHost: a\r\n X: b\r\n\r\n".to_owned(), format!("{post}bad\n")] {
        let answer = pod.exchange(format!("{good}{good}{bad}{good}")).await;
        let statuses: Vec<&str> =
            answer.matches("HTTP/1.1 200").chain(answer.matches("HTTP/1.1 400")).collect();
        assert_eq!(statuses, ["HTTP/1.1 200", "HTTP/1.1 200", "HTTP/1.1 400"], "{answer:?}");
    }
}

#[tokio::test]
async fn what_is_in_order_reaches_the_application_in_one_form() {
    let common = "x-forwarded-for: 127.0.0.1\r\nx-forwarded-proto: http\r\nx-forwarded-host: shop\r\n";
    let got = passed("GET http://Shop:80/a?b HTTP/1.1\r\nhost: shop:80\r\nCONNECTION: close\r\n\r\n").await;
    let capability = "surrogate-capability: cachedservice=\"Surrogate/1.0\"\r\n";
    assert_eq!(got, format!("GET /a?b HTTP/1.1\r\nhost: shop\r\n{capability}{common}\r\n"));
    let got =
        passed("POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc").await;
    assert_eq!(got, format!("POST / HTTP/1.1\r\nhost: shop\r\ncontent-length: 3\r\n{common}\r\nabc"));
    let chunked = "Transfer-Encoding: Chunked\r\nConnection: close\r\n\r\n3;ext=\"x\"\r\nabc\r\n0\r\n\r\n";
    let got = passed(&format!("POST / HTTP/1.1\r\nHost: shop\r\n{chunked}")).await;
    assert_eq!(
        got,
        format!(
            "POST / HTTP/1.1\r\nhost: shop\r\n{common}transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        )
    );
}

#[tokio::test]
async fn a_body_reaches_the_application_whatever_the_method() {
    for method in ["GET", "HEAD", "DELETE", "OPTIONS", "PROPFIND"] {
        let request =
            |framing: &str| format!("{method} / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n{framing}");
        let got = passed(&request("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")).await;
        assert!(got.ends_with("\r\n\r\n3\r\nabc\r\n0\r\n\r\n"), "{method}: {got:?}");
        let got = passed(&request("Content-Length: 3\r\n\r\nabc")).await;
        assert!(got.ends_with("\r\n\r\nabc"), "{method}: {got:?}");
    }
}

#[tokio::test]
async fn one_empty_line_before_a_request_is_passed_over() {
    let requests =
        "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let answer = Wired::answering().await.exchange(requests).await;
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 2, "{answer:?}");
}

#[tokio::test]
async fn the_body_of_a_request_that_is_answered_without_it_is_no_request() {
    let pod = Wired::answering().await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    // It is refused by its host, and its body is not read.
    let bad = format!("POST / HTTP/1.1\r\nHost: a b\r\nContent-Length: {}\r\n\r\n{smuggled}", smuggled.len());
    let answer = pod.exchange(&bad).await;
    assert_eq!((status(&answer), answer.matches("HTTP/1.1").count()), ("HTTP/1.1 400 Bad Request", 1));
    // A body of which the rest comes after the answer.
    let mut stream = pod.connect().await;
    let (first, second) = bad.split_at(bad.len() - 10);
    stream.write_all(first.as_bytes()).await.unwrap();
    crate::bytes::until(&mut stream, "\r\n\r\n").await;
    let _ = stream.write_all(second.as_bytes()).await;
    assert!(!rest(&mut stream).await.contains("HTTP/1.1"));
    assert_eq!(pod.record.text(), "");
}
