//! What rules make of requests and of responses.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use cachedservice::settings::{HttpCache, Rule};
use http::{Method, Response};

use crate::application::{Got, Pod, settings};

fn with(rule: Rule) -> HttpCache {
    HttpCache { rules: vec![rule], ..settings() }
}

/// Answers with the cookies that it has got.
fn cookies(got: &Got) -> Response<Bytes> {
    let cookies = got.headers.get_all("cookie").iter().map(|line| line.to_str().unwrap().to_owned());
    Response::new(Bytes::from(cookies.collect::<Vec<_>>().join("|")))
}

#[tokio::test]
async fn of_cookies_only_the_named_ones_reach_the_application_and_tell_responses_apart() {
    let names = Some(vec!["lang".to_owned()]);
    let pod = Pod::start(with(Rule { ttl: Some(60), cookies: names, ..Rule::default() }), cookies).await;
    let ask = async |line: &str| pod.get("/", &[("cookie", line)]).await;
    let first = ask("session=1; lang=de").await;
    assert_eq!((first.body.as_str(), first.field("vary")), ("lang=de", "cookie"));
    let other_user = ask("lang=de; session=2").await;
    assert_eq!((other_user.body.as_str(), pod.got().len()), ("lang=de", 1), "{other_user:?}");
    assert!(ask("lang=en; session=1").await.field("cache-status").contains("vary-miss"));
    assert_eq!(pod.get("/", &[]).await.body, "");
    assert_eq!(ask("session=3").await.body, "");
    assert_eq!(pod.got().len(), 3);
}

#[tokio::test]
async fn with_no_cookie_named_all_users_get_the_same() {
    let pod =
        Pod::start(with(Rule { ttl: Some(60), cookies: Some(Vec::new()), ..Rule::default() }), cookies).await;
    for session in ["session=1", "session=2"] {
        let answer = pod.get("/", &[("cookie", session)]).await;
        assert_eq!((answer.body.as_str(), answer.field("vary")), ("", ""));
    }
    assert_eq!(pod.got().len(), 1);
    pod.ask(Method::POST, "/", &[("cookie", "session=1")], "").await;
    assert_eq!(pod.got()[1].headers["cookie"], "session=1", "past the cache a request is what it was");
}

#[tokio::test]
async fn a_rule_that_overrides_gives_nobody_what_was_made_for_another() {
    let answer = |got: &Got| {
        let answer = Response::builder().header("cache-control", "private").header("set-cookie", "session=1");
        let user = got.headers.get("authorization").map_or(&b"nobody"[..], |user| user.as_bytes());
        answer.body(Bytes::copy_from_slice(user)).unwrap()
    };
    let pod = Pod::start(with(Rule { ttl: Some(60), overrides: true, ..Rule::default() }), answer).await;
    assert_eq!(pod.get("/a", &[("authorization", "alice")]).await.body, "alice");
    assert_eq!(pod.get("/a", &[("authorization", "bob")]).await.body, "bob");
    assert_eq!(pod.get("/b", &[]).await.field("set-cookie"), "session=1");
    let from_cache = pod.get("/b", &[]).await;
    assert!(from_cache.field("cache-status").contains("hit"), "{from_cache:?}");
    assert_eq!((from_cache.body.as_str(), from_cache.field("set-cookie")), ("nobody", ""));
}

#[tokio::test]
async fn a_cookie_that_comes_with_a_validation_is_for_who_has_asked() {
    let answer = |got: &Got| {
        let answer = Response::builder().header("cache-control", "max-age=60").header("etag", "\"a\"");
        match got.headers.get("if-none-match") {
            None => answer.body(Bytes::from_static(b"page")),
            Some(_) => answer.header("set-cookie", "session=1").status(304).body(Bytes::new()),
        }
        .unwrap()
    };
    let pod = Pod::start(settings(), answer).await;
    pod.get("/", &[]).await;
    let validated = pod.get("/", &[("cache-control", "no-cache")]).await;
    assert_eq!((validated.body.as_str(), validated.field("set-cookie")), ("page", "session=1"));
    let from_cache = pod.get("/", &[]).await;
    assert_eq!((from_cache.body.as_str(), from_cache.field("set-cookie")), ("page", ""));
}

#[tokio::test]
async fn a_rule_lets_stale_responses_stand_in_for_an_application_that_fails() {
    let asked = AtomicUsize::new(0);
    let answer = move |_: &Got| {
        let has_failed = asked.fetch_add(1, Ordering::Relaxed) > 0;
        let answer = Response::builder().status(if has_failed { 503 } else { 200 });
        answer.body(Bytes::from_static(if has_failed { b"down" } else { b"page" })).unwrap()
    };
    let pod =
        Pod::start(with(Rule { ttl: Some(0), stale_if_error: Some(60), ..Rule::default() }), answer).await;
    pod.get("/", &[]).await;
    let stale = pod.get("/", &[]).await;
    assert_eq!((stale.status, stale.body.as_str(), pod.got().len()), (200, "page", 2));
    assert!(stale.field("cache-status").contains("hit; ttl="), "{stale:?}");
}

#[tokio::test]
async fn a_rule_lets_stale_responses_answer_while_they_are_asked_for_anew() {
    let pod = Pod::start(
        with(Rule { ttl: Some(0), stale_while_revalidate: Some(60), ..Rule::default() }),
        |_: &Got| Response::new(Bytes::from_static(b"page")),
    )
    .await;
    pod.get("/", &[]).await;
    assert!(pod.get("/", &[]).await.field("cache-status").contains("hit; ttl="));
    let renewed = async {
        while pod.got().len() < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), renewed).await.expect("it is asked for anew");
}
