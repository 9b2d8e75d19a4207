//! What the application is asked about what is stored, and what becomes of its answers.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use http::{Method, Response};
use tokio::{io::AsyncWriteExt, net::TcpStream, sync::Notify, time::timeout};

use crate::{
    application::{Answer, Got, HANG_UP, Pod, settings},
    bytes::{Record, SOON, Wired},
};

fn with(lines: &[(&str, &str)], body: &'static str) -> Response<Bytes> {
    let answer = lines.iter().fold(Response::builder(), |answer, (name, value)| answer.header(*name, *value));
    answer.body(Bytes::from_static(body.as_bytes())).unwrap()
}

/// What a request of a test says of how the application is to answer.
fn mode(got: &Got) -> &str {
    got.headers.get("x-mode").map_or("", |mode| mode.to_str().unwrap())
}

async fn in_mode(pod: &Pod, mode: &str) -> Answer {
    pod.get("/", &[("x-mode", mode)]).await
}

#[tokio::test]
async fn where_the_application_is_gone_what_is_stale_answers_unless_it_forbids_it() {
    for (control, status) in
        [("max-age=0", 200), ("max-age=0, must-revalidate", 502), ("s-maxage=0", 502), ("no-cache", 502)]
    {
        let answer = move |got: &Got| match mode(got) {
            "gone" => with(&[(HANG_UP, "")], ""),
            _ => with(&[("cache-control", control)], "page"),
        };
        let pod = Pod::start(settings(), answer).await;
        pod.get("/", &[]).await;
        let gone = in_mode(&pod, "gone").await;
        assert_eq!(gone.status, status, "{control}");
        assert_eq!(gone.body == "page", status == 200, "{control}");
    }
}

#[tokio::test]
async fn an_error_is_an_answer_where_nothing_allows_another() {
    let answer = |got: &Got| match mode(got) {
        "failing" => Response::builder().status(503).body(Bytes::new()).unwrap(),
        _ => with(&[("cache-control", "max-age=0")], "page"),
    };
    let pod = Pod::start(settings(), answer).await;
    pod.get("/", &[]).await;
    assert_eq!(in_mode(&pod, "failing").await.status, 503);
}

#[tokio::test]
async fn a_304_about_another_version_is_not_for_who_did_not_ask_for_it() {
    let answer = |got: &Got| match got.headers.get("if-none-match") {
        Some(_) => Response::builder().status(304).header("etag", "\"2\"").body(Bytes::new()).unwrap(),
        None if mode(got) == "new" => with(&[("etag", "\"2\""), ("cache-control", "max-age=60")], "new"),
        None => with(&[("etag", "\"1\""), ("cache-control", "max-age=0")], "old"),
    };
    let pod = Pod::start(settings(), answer).await;
    assert_eq!(pod.get("/", &[]).await.body, "old");
    let answer = in_mode(&pod, "new").await;
    assert_eq!((answer.status, answer.body.as_str(), pod.got().len()), (200, "new", 3));
    assert_eq!(pod.get("/", &[]).await.body, "new");
}

#[tokio::test]
async fn an_answer_to_head_renews_what_is_stored() {
    let answer = |got: &Got| match mode(got) {
        "same" => with(&[("etag", "\"1\""), ("cache-control", "max-age=60"), ("x", "new")], "page"),
        "cookie" => {
            with(&[("etag", "\"1\""), ("cache-control", "max-age=60"), ("set-cookie", "a=b")], "page")
        }
        _ => with(&[("etag", "\"1\""), ("cache-control", "max-age=0"), ("x", "old")], "page"),
    };
    let pod = Pod::start(settings(), answer).await;
    pod.get("/", &[]).await;
    let cookie = pod.ask(Method::HEAD, "/", &[("x-mode", "cookie")], "").await;
    assert_eq!(cookie.field("set-cookie"), "a=b");
    let head = pod.ask(Method::HEAD, "/", &[("x-mode", "same")], "").await;
    assert_eq!(head.field("cache-status"), "CachedService; fwd=stale");
    let hit = pod.get("/", &[]).await;
    assert!(hit.field("cache-status").contains("hit"), "{hit:?}");
    assert_eq!((hit.field("x"), hit.field("set-cookie"), hit.body.as_str()), ("new", "", "page"));
}

#[tokio::test]
async fn an_answer_to_head_tells_that_what_is_stored_is_another_by_now() {
    let answer = |got: &Got| match mode(got) {
        "other" => with(&[("etag", "\"2\""), ("cache-control", "max-age=60")], "other"),
        _ => with(&[("etag", "\"1\""), ("cache-control", "max-age=60")], "page"),
    };
    let pod = Pod::start(settings(), answer).await;
    pod.get("/", &[]).await;
    let asked = [("x-mode", "other"), ("cache-control", "no-cache")];
    pod.ask(Method::HEAD, "/", &asked, "").await;
    assert_eq!(in_mode(&pod, "other").await.body, "other");
}

#[tokio::test]
async fn an_answer_to_head_that_is_late_says_nothing_of_what_came_meanwhile() {
    // That it still holds, and that it is another.
    for late in ["etag: \"1\"", "etag: \"3\""] {
        let (asked, free) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (to_ask, to_free) = (asked.clone(), free.clone());
        let is_new = Arc::new(AtomicBool::new(false));
        let pod = Wired::start(move |mut stream: TcpStream, record: Record| {
            let (asked, free, is_new) = (to_ask.clone(), to_free.clone(), is_new.clone());
            async move {
                while let Some(head) = record.until(&mut stream, "\r\n\r\n").await {
                    let answer = if head.starts_with(b"HEAD") {
                        asked.notify_one();
                        free.notified().await;
                        format!("{late}\r\ncache-control: max-age=60\r\ncontent-length: 3\r\n\r\n")
                    } else if is_new.swap(true, Ordering::Relaxed) {
                        "etag: \"2\"\r\ncache-control: max-age=60\r\ncontent-length: 3\r\n\r\nnew".to_owned()
                    } else {
                        "etag: \"1\"\r\ncache-control: max-age=0, stale-while-revalidate=60\r\ncontent-length: 3\r\n\r\nold".to_owned()
                    };
                    let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\n{answer}").as_bytes()).await;
                }
            }
        })
        .await;
        let ask = |method: &str, more: &str| {
            format!("{method} / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{more}\r\n")
        };
        let anew = "cache-control: no-cache\r\n";
        assert!(pod.exchange(ask("GET", "")).await.ends_with("old"));
        let (head, ()) = tokio::join!(pod.exchange(ask("HEAD", anew)), async {
            timeout(SOON, asked.notified()).await.expect("the application is asked");
            assert!(pod.exchange(ask("GET", anew)).await.ends_with("new"));
            free.notify_one();
        });
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let hit = pod.exchange(ask("GET", "")).await;
        assert!(hit.ends_with("new") && hit.contains("; hit; ttl="), "{late}: {hit}");
    }
}

#[tokio::test]
async fn a_part_is_kept_for_those_who_ask_for_the_same_and_for_no_other() {
    let answer = |got: &Got| match got.headers.get("range").map(|range| range.to_str().unwrap()) {
        Some("bytes=0-3") => Response::builder()
            .status(206)
            .header("content-range", "bytes 0-3/10")
            .header("cache-control", "max-age=60")
            .body(Bytes::from_static(b"0123"))
            .unwrap(),
        Some("bytes=20-") => {
            Response::builder().status(416).header("cache-control", "max-age=60").body(Bytes::new()).unwrap()
        }
        _ => with(&[("cache-control", "max-age=60")], "0123456789"),
    };
    let pod = Pod::start(settings(), answer).await;
    let part = |range: &'static str| {
        let pod = &pod;
        async move { pod.get("/", &[("range", range)]).await }
    };
    assert_eq!(part("bytes=20-").await.status, 416);
    for reached in [2, 2] {
        let answer = part("bytes=0-3").await;
        assert_eq!((answer.status, answer.body.as_str(), pod.got().len()), (206, "0123", reached));
        assert_eq!(answer.field("content-range"), "bytes 0-3/10");
    }
    let head = pod.ask(Method::HEAD, "/", &[("range", "bytes=0-3")], "").await;
    assert_eq!((head.status, pod.got().len()), (200, 3), "ranges are for GET alone");
    let whole = pod.get("/", &[]).await;
    assert_eq!((whole.status, whole.body.as_str(), pod.got().len()), (200, "0123456789", 4));
    assert_eq!((part("bytes=1-2").await.body.as_str(), pod.got().len()), ("12", 4));
}

#[tokio::test]
async fn what_has_no_body_is_kept() {
    let answer = |_: &Got| {
        Response::builder().status(204).header("cache-control", "max-age=60").body(Bytes::new()).unwrap()
    };
    let pod = Pod::start(settings(), answer).await;
    for _ in 0..2 {
        assert_eq!(pod.get("/", &[]).await.status, 204);
    }
    assert_eq!(pod.got().len(), 1);
}

#[tokio::test]
async fn the_application_sees_this_cache_and_not_what_a_client_claims_to_be() {
    let answer =
        |_: &Got| with(&[("cache-control", "no-store"), ("surrogate-control", "max-age=60")], "page");
    let pod = Pod::start(settings(), answer).await;
    for _ in 0..2 {
        assert_eq!(pod.get("/", &[("surrogate-capability", "x=\"ESI/1.0\"")]).await.body, "page");
    }
    let got = pod.got();
    assert_eq!(got.len(), 1);
    assert_eq!(got[0].headers["surrogate-capability"], "cachedservice=\"Surrogate/1.0\"");
}
