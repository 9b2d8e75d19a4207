//! What is answered from memory, and what is not.

use bytes::Bytes;
use cachedservice::{
    settings::{HttpCache, Rule},
    sidecar::cache::purges::{Force, Source, Target},
};
use http::{Method, Response};

use crate::application::{Got, Pod, settings};

fn fresh(body: &'static str) -> Response<Bytes> {
    Response::builder()
        .header("cache-control", "max-age=60")
        .body(Bytes::from_static(body.as_bytes()))
        .unwrap()
}

#[tokio::test]
async fn what_is_fresh_reaches_the_application_once() {
    let pod = Pod::start(settings(), |_| fresh("page")).await;
    let first = pod.get("/a?b", &[]).await;
    assert_eq!((first.status, first.body.as_str()), (200, "page"));
    assert_eq!(first.field("cache-status"), "CachedService; fwd=uri-miss; stored");
    let second = pod.get("/a?b", &[]).await;
    assert_eq!((second.status, second.body.as_str()), (200, "page"));
    assert!(second.field("cache-status").starts_with("CachedService; hit; ttl="), "{second:?}");
    assert!(second.headers.contains_key("age"));
    assert_eq!(pod.got().len(), 1);
    let head = pod.ask(Method::HEAD, "/a?b", &[], "").await;
    assert_eq!((head.field("content-length"), pod.got().len()), ("4", 1));
    assert_eq!(pod.get("/a", &[]).await.field("cache-status"), "CachedService; fwd=uri-miss; stored");
}

#[tokio::test]
async fn what_says_nothing_or_is_for_one_user_is_asked_for_each_time() {
    let answer = |got: &Got| match got.target.as_str() {
        "/private" => {
            Response::builder().header("cache-control", "private, max-age=60").body(Bytes::new()).unwrap()
        }
        "/cookie" => Response::builder()
            .header("cache-control", "max-age=60")
            .header("set-cookie", "a=b")
            .body(Bytes::new())
            .unwrap(),
        _ => fresh("x"),
    };
    let pod = Pod::start(settings(), answer).await;
    for (target, headers) in
        [("/private", &[][..]), ("/cookie", &[]), ("/", &[("authorization", "Basic eA==")])]
    {
        for _ in 0..2 {
            let answer = pod.get(target, headers).await;
            assert_eq!(answer.field("cache-status"), "CachedService; fwd=uri-miss", "{target}");
        }
    }
    assert_eq!(pod.got().len(), 6);
}

#[tokio::test]
async fn a_thousand_at_once_for_a_cold_key_reach_the_application_once() {
    let answer = |_: &Got| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        fresh("page")
    };
    let pod = std::sync::Arc::new(Pod::start(settings(), answer).await);
    let asking: Vec<_> = (0..1000)
        .map(|_| {
            let pod = pod.clone();
            tokio::spawn(async move { pod.get("/", &[]).await.body })
        })
        .collect();
    for body in asking {
        assert_eq!(body.await.unwrap(), "page");
    }
    assert_eq!(pod.got().len(), 1);
}

#[tokio::test]
async fn what_is_stale_is_validated() {
    let answer = |got: &Got| {
        let answer = Response::builder().header("etag", "\"1\"").header("cache-control", "max-age=0");
        if got.headers.get("if-none-match").is_some_and(|tag| tag == "\"1\"") {
            answer.status(304).body(Bytes::new()).unwrap()
        } else {
            answer.body(Bytes::from_static(b"page")).unwrap()
        }
    };
    let pod = Pod::start(settings(), answer).await;
    assert_eq!(pod.get("/", &[]).await.body, "page");
    let second = pod.get("/", &[]).await;
    assert_eq!((second.status, second.body.as_str()), (200, "page"));
    assert_eq!(second.field("cache-status"), "CachedService; fwd=stale; fwd-status=304; stored");
    assert!(pod.got()[1].headers.contains_key("if-none-match"));
    let known = pod.get("/", &[("if-none-match", "\"1\"")]).await;
    assert_eq!((known.status, known.body.as_str()), (304, ""));
}

#[tokio::test]
async fn where_the_application_fails_what_is_stale_answers_if_it_may() {
    let answer = |got: &Got| match got.headers.get("x-fail") {
        Some(_) => Response::builder().status(503).body(Bytes::new()).unwrap(),
        None => Response::builder()
            .header("cache-control", "max-age=0, stale-if-error=60")
            .body(Bytes::from_static(b"page"))
            .unwrap(),
    };
    let pod = Pod::start(settings(), answer).await;
    pod.get("/", &[]).await;
    let stale = pod.get("/", &[("x-fail", "1")]).await;
    assert_eq!((stale.status, stale.body.as_str()), (200, "page"));
    assert!(stale.field("cache-status").contains("ttl=0") || stale.field("cache-status").contains("ttl=-"));
}

#[tokio::test]
async fn a_change_takes_what_was_stored() {
    let pod = Pod::start(settings(), |_| fresh("page")).await;
    pod.get("/a", &[]).await;
    pod.ask(Method::POST, "/a", &[], "change").await;
    assert_eq!(pod.get("/a", &[]).await.field("cache-status"), "CachedService; fwd=uri-miss; stored");
    assert_eq!(pod.got().len(), 3);
}

#[tokio::test]
async fn what_came_by_https_is_not_given_to_who_came_without() {
    let pod = Pod::start(settings(), |_| fresh("page")).await;
    pod.get("/", &[("x-forwarded-proto", "https")]).await;
    assert!(pod.get("/", &[]).await.field("cache-status").contains("uri-miss"));
    assert!(pod.get("/", &[("x-forwarded-proto", "https")]).await.field("cache-status").contains("hit"));
}

#[tokio::test]
async fn a_purge_takes_what_has_the_tag() {
    let answer = |_: &Got| {
        Response::builder()
            .header("cache-control", "max-age=60")
            .header("cache-tag", "users, all")
            .body(Bytes::from_static(b"page"))
            .unwrap()
    };
    let pod = Pod::start(settings(), answer).await;
    pod.get("/", &[]).await;
    pod.front.memory().purge(&[Target::Tag("users".to_owned())], Force::Hard, Source::Replica);
    assert!(pod.get("/", &[]).await.field("cache-status").contains("uri-miss"));
}

#[tokio::test]
async fn rules_say_what_goes_past_and_for_how_long_the_rest_is_fresh() {
    let paths = |path: &str| vec![path.to_owned()];
    let rules = vec![
        Rule { paths: paths("/admin/*"), bypass: true, ..Rule::default() },
        Rule {
            paths: paths("/api/*"),
            ttl: Some(60),
            overrides: true,
            ignored_query: vec!["utm_*".to_owned()],
            ..Rule::default()
        },
        Rule { paths: paths("/page"), ttl: Some(60), ..Rule::default() },
    ];
    let answer = |got: &Got| {
        let answer = Response::builder();
        let answer = if got.target.starts_with("/admin") {
            answer.header("cache-control", "max-age=60")
        } else {
            answer
        };
        answer.body(Bytes::from_static(b"x")).unwrap()
    };
    let pod = Pod::start(HttpCache { rules, ..settings() }, answer).await;
    for _ in 0..2 {
        assert_eq!(pod.get("/admin/a", &[]).await.field("cache-status"), "CachedService; fwd=bypass");
    }
    pod.get("/page", &[]).await;
    let page = pod.get("/page", &[]).await;
    assert!(page.field("cache-status").contains("hit; ttl="), "the response does not tell: {page:?}");
    pod.get("/api/a?utm_source=x", &[]).await;
    assert!(pod.get("/api/a?utm_source=y", &[]).await.field("cache-status").contains("hit"));
}

#[tokio::test]
async fn what_is_larger_than_the_most_is_passed_on_and_not_kept() {
    let answer = |_: &Got| {
        Response::builder()
            .header("cache-control", "max-age=60")
            .body(Bytes::from(vec![b'x'; 1 << 17]))
            .unwrap()
    };
    let pod = Pod::start(settings(), answer).await;
    for _ in 0..2 {
        let answer = pod.get("/", &[]).await;
        assert_eq!(
            (answer.body.len(), answer.field("cache-status")),
            (1 << 17, "CachedService; fwd=uri-miss")
        );
    }
}
