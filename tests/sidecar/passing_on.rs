//! What the application gets to see of a request, and a client of an answer.

use bytes::Bytes;
use http::Response;

use crate::application::{Pod, settings};

#[tokio::test]
async fn the_application_sees_who_asked_and_nothing_of_the_connection() {
    let pod = Pod::start(settings(), |_| Response::new(Bytes::new())).await;
    let headers = [("connection", "x-mine"), ("x-mine", "1"), ("x-forwarded-for", "192.0.2.1")];
    pod.get("/", &headers).await;
    let got = &pod.got()[0].headers;
    assert_eq!(got["x-forwarded-for"], "192.0.2.1, 127.0.0.1");
    assert_eq!(got["host"], pod.address.to_string());
    assert!(!got.contains_key("x-mine") && !got.contains_key("connection"));
}

#[tokio::test]
async fn what_is_not_in_the_key_does_not_reach_the_application() {
    let pod = Pod::start(settings(), |_| Response::new(Bytes::new())).await;
    let poison = [
        ("x-forwarded-host", "evil.example"),
        ("forwarded", "host=evil.example"),
        ("x-original-url", "/admin"),
        ("x-forwarded-proto", "https"),
    ];
    pod.get("/", &poison).await;
    let got = &pod.got()[0].headers;
    assert_eq!(got["x-forwarded-host"], pod.address.to_string());
    assert_eq!(got["x-forwarded-proto"], "https", "which is in the key");
    assert!(!got.contains_key("forwarded") && !got.contains_key("x-original-url"));
}

#[tokio::test]
async fn a_get_with_a_body_goes_past_the_cache_with_it() {
    let answer =
        |_: &_| Response::builder().header("cache-control", "max-age=60").body(Bytes::new()).unwrap();
    let pod = Pod::start(settings(), answer).await;
    for _ in 0..2 {
        let answer = pod.ask(http::Method::GET, "/", &[], "body").await;
        assert_eq!(answer.field("cache-status"), "CachedService; fwd=bypass");
    }
    assert_eq!(pod.got()[0].headers["content-length"], "4");
}

#[tokio::test]
async fn a_request_without_a_host_or_with_two_is_refused() {
    let pod = Pod::start(settings(), |_| Response::new(Bytes::new())).await;
    for request in [
        "GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a@b\r\nConnection: close\r\n\r\n",
    ] {
        assert!(pod.raw(request).await.starts_with("HTTP/1.1 400 "), "{request:?}");
    }
    assert!(pod.got().is_empty());
}

#[tokio::test]
async fn an_application_that_is_not_there_is_told() {
    let pod = Pod::start(settings(), |_| panic!("the application fails")).await;
    let answer = pod.get("/", &[]).await;
    assert_eq!((answer.status, answer.body.as_str()), (502, "the application does not answer"));
}
