//! Why a request is answered from the cache or not: what is explained is what happens.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use cachedservice::{
    settings::{
        HttpCache, Rule,
        purges::{Force, Target},
    },
    sidecar::{
        cache::purges::Source,
        http::explain::{Explanation, Question},
    },
};
use http::{HeaderMap, HeaderName, Method, Response};
use serde_json::{Value, json};

use crate::{
    application::{Got, Pod, run_application, settings},
    process::{Process, TOKEN},
    redis::{Stage, page, run, source, stored, until},
};

fn question(method: Method, url: &str, fields: &[(&str, &str)]) -> Question {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    Question { method, url: url.parse().unwrap(), headers }
}

async fn explain(pod: &Pod, url: &str, fields: &[(&str, &str)]) -> Explanation {
    pod.front.explain(&question(Method::GET, url, fields)).await
}

/// An answer whose `Cache-Control` is the query, and other fields by the path.
fn told_by_target(got: &Got) -> Response<Bytes> {
    let (path, query) = got.target.split_once('?').unwrap_or((&got.target, ""));
    let mut answer = Response::builder().header("cache-control", query.replace('+', " ").replace('&', ", "));
    if path.contains("etag") {
        answer = answer.header("etag", "\"1\"");
    }
    if path.contains("vary") {
        answer = answer.header("vary", "accept");
    }
    if path.contains("cookie") {
        answer = answer.header("set-cookie", "a=b");
    }
    if path.contains("modified") {
        answer = answer.header("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT");
    }
    answer.body(Bytes::from_static(b"page")).unwrap()
}

fn rules() -> Vec<Rule> {
    serde_json::from_value(json!([
        { "paths": ["/bypass*"], "bypass": true },
        { "paths": ["/ttl*"], "ttl": 60, "ignoredQuery": ["utm_*"] },
        { "paths": ["/over*"], "ttl": 60, "overrides": true },
        { "paths": ["/kept*"], "cookies": [] },
    ]))
    .unwrap()
}

#[tokio::test]
async fn what_is_explained_is_what_happens() {
    let pod = Pod::start(HttpCache { rules: rules(), ..settings() }, told_by_target).await;
    let targets = [
        "/?max-age=60",
        "/?max-age=0",
        "/?max-age=0&stale-while-revalidate=60",
        "/?max-age=0&stale-if-error=60",
        "/etag?no-cache",
        "/etag?max-age=0&must-revalidate",
        "/?private",
        "/?no-store",
        "/?s-maxage=60",
        "/modified",
        "/modified?public",
        "/vary?max-age=60",
        "/cookie?max-age=60",
        "/ttl",
        "/ttl?private",
        "/over?private",
        "/kept?max-age=60",
        "/bypass?max-age=60",
        "/bypass%2f..%2fttl",
    ];
    let requests: [&[(&str, &str)]; 11] = [
        &[],
        &[("cookie", "a=b")],
        &[("authorization", "Basic eA==")],
        &[("accept", "text/html")],
        &[("cache-control", "no-cache")],
        &[("cache-control", "max-age=0")],
        &[("cache-control", "max-stale")],
        &[("cache-control", "min-fresh=90")],
        &[("cache-control", "only-if-cached")],
        &[("range", "bytes=0-1")],
        &[("x-forwarded-proto", "https")],
    ];
    let (mut hits, mut misses) = (0, 0);
    for target in targets {
        for fields in requests {
            for method in [Method::GET, Method::HEAD] {
                let url = format!("http://{}{target}", pod.address);
                let told = pod.front.explain(&question(method.clone(), &url, fields)).await;
                let before = pod.got().len();
                let answer = pod.ask(method.clone(), target, fields, "").await;
                let what = format!("{method} {target} {fields:?}: {told:?}, and {answer:?}");
                let happened = answer.field("cache-status").to_owned();
                assert!(!told.because.is_empty() && told.because.iter().all(|line| !line.is_empty()));
                if answer.status == 504 {
                    assert!(told.because.concat().contains("504"), "{what}");
                    continue;
                }
                let is_hit = told.cache_status.contains("; hit");
                assert_eq!(is_hit, happened.contains("; hit"), "{what}");
                if is_hit {
                    hits += 1;
                    assert!(
                        happened.contains("detail=L1") && told.cache_status.contains("detail=L1"),
                        "{what}"
                    );
                } else {
                    misses += 1;
                    assert!(happened.starts_with(&told.cache_status), "{what}");
                    assert!(pod.got().len() > before, "{what}");
                }
            }
        }
    }
    assert!(hits > 50 && misses > 50, "{hits} {misses}");
}

#[tokio::test]
async fn the_rule_and_the_directive_that_decide_are_named() {
    let pod = Pod::start(HttpCache { rules: rules(), ..settings() }, told_by_target).await;
    for (target, fields, why) in [
        ("/?max-age=60", &[][..], "by max-age=60 in Cache-Control"),
        ("/?s-maxage=60&max-age=0", &[], "by s-maxage=60 in Cache-Control"),
        ("/modified?public", &[], "Last-Modified"),
        ("/etag?no-cache", &[], "no-cache in the response"),
        ("/?max-age=60", &[("cache-control", "no-cache")], "no-cache in the request"),
        ("/?max-age=60", &[("cache-control", "min-fresh=90")], "min-fresh in the request"),
        ("/?max-age=0&must-revalidate", &[], "must-revalidate in the response"),
        ("/?max-age=0&stale-while-revalidate=60", &[], "by stale-while-revalidate of the response"),
        ("/?max-age=0&stale-if-error=60", &[], "by stale-if-error of the response"),
        ("/?max-age=0", &[], "cannot be reached"),
        ("/?max-age=0", &[("cache-control", "max-stale")], "max-stale"),
        ("/modified", &[("cookie", "a=b")], "the request says who asks"),
        ("/ttl", &[], "by ttl of the rule, 60 s, as the response does not say"),
        ("/over?private", &[], "by ttl of the rule, 60 s, which overrides"),
        ("/?private", &[], "was not stored: private"),
        ("/?no-store", &[], "was not stored: no-store"),
        ("/cookie?max-age=60", &[], "was not stored: set-cookie"),
        ("/?max-age=60&x", &[("cache-control", "only-if-cached")], "504"),
        ("/new", &[("authorization", "Basic eA==")], "RFC 9111 §3.5"),
        ("/new", &[("cookie", "a=b")], "has a cookie"),
        ("/bypass?max-age=60", &[], "its rule says bypass"),
    ] {
        if target != "/new" && !why.contains("504") {
            pod.get(target, &[]).await;
        }
        let url = format!("http://{}{target}", pod.address);
        let told = explain(&pod, &url, fields).await;
        assert!(told.because.join("; ").contains(why), "{target} {fields:?}: {told:?}");
    }
    let told = explain(&pod, "https://Shop:443/ttl?b=1&utm_source=x", &[]).await;
    assert_eq!(told.key.as_deref(), Some("https://shop/ttl?b=1"));
    assert_eq!(told.rule.map(|rule| (rule.number, rule.says.ttl)), Some((2, Some(60))));
    let told = pod.front.explain(&question(Method::POST, "http://shop/", &[])).await;
    assert_eq!((told.cache_status.as_str(), told.key), ("CachedService; fwd=method", None));
}

#[tokio::test]
async fn to_ask_why_changes_nothing() {
    let pod = Pod::start(settings(), told_by_target).await;
    let url = format!("http://{}/?max-age=0&stale-while-revalidate=60", pod.address);
    explain(&pod, &url, &[]).await;
    assert_eq!((pod.got().len(), pod.front.memory().entries()), (0, 0));
    pod.get("/?max-age=0&stale-while-revalidate=60", &[]).await;
    for _ in 0..3 {
        explain(&pod, &url, &[]).await;
    }
    assert_eq!(pod.got().len(), 1, "nothing is asked for anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_redis_has_is_told_and_whether_a_purge_has_hit_it() {
    let stage = Stage::begin();
    let pod = stage.pod(|_: &Got| page("pages", "page")).await;
    pod.get("/a", &[("host", "shop")]).await;
    stored(&pod, 1).await;
    let other = stage.pod(|_: &Got| page("pages", "page")).await;
    let told = explain(&other, "http://shop/a", &[]).await;
    assert!(told.cache_status.ends_with("detail=L2"), "{told:?}");
    assert_eq!(told.memory.unwrap().state, "nothing");
    let redis = told.redis.unwrap();
    let response = redis.response.unwrap();
    assert_eq!((redis.state, response.lifetime, response.bytes), ("stored", 60, 4));
    assert_eq!(
        (response.tags, response.cache_control.as_deref()),
        (vec!["pages".to_owned()], Some("max-age=60"))
    );
    assert_eq!(other.front.memory().entries(), 0, "to look is not to take");
    let told = explain(&other, "http://shop/b", &[]).await;
    assert_eq!(
        (told.cache_status.as_str(), told.redis.unwrap().state),
        ("CachedService; fwd=uri-miss", "nothing")
    );

    let targets = vec![Target::Tag("pages".to_owned())];
    other.front.memory().purge(&targets, Force::Hard, Source::Replica);
    other.front.shared().unwrap().purge(targets, Force::Hard).await.unwrap();
    let told = explain(&other, "http://shop/a", &[]).await;
    assert!(told.cache_status.contains("fwd=uri-miss"), "{told:?}");
    assert_eq!(told.redis.unwrap().state, "purged since it was stored");
    let prefix = Target::Prefix("http://shop/".to_owned());
    other.front.memory().purge(&[prefix], Force::Hard, Source::Replica);
    let told = explain(&other, "http://shop/a", &[]).await;
    assert!(told.because.concat().contains("a hard purge of what begins with http://shop/"), "{told:?}");
    assert_eq!(source(&other.get("/a", &[("host", "shop")]).await), "uri-miss");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_older_in_redis_than_in_memory_is_told_and_not_taken() {
    let stage = Stage::begin();
    let answers = AtomicUsize::new(0);
    let pod = stage
        .pod(move |_: &Got| {
            let is_first = answers.fetch_add(1, Ordering::SeqCst) == 0;
            let lifetime = if is_first { "max-age=60" } else { "max-age=1" };
            Response::builder().header("cache-control", lifetime).body(Bytes::from_static(b"page")).unwrap()
        })
        .await;
    let client = stage.client().await;
    pod.get("/", &[("host", "shop")]).await;
    stored(&pod, 1).await;
    // A replica that has stored late brings back what is older.
    let names: Vec<String> = run(&client, &["KEYS", "u-1:http:*"]).await;
    let whole: Vec<(String, Vec<u8>)> =
        ::redis::cmd("HGETALL").arg(&names[0]).query_async(&mut client.clone()).await.unwrap();
    pod.get("/", &[("host", "shop"), ("cache-control", "no-cache")]).await;
    stored(&pod, 2).await;
    until("it is stale", async || {
        let told = explain(&pod, "http://shop/", &[]).await;
        (!told.cache_status.contains("hit")).then_some(())
    })
    .await;
    let () = run(&client, &["DEL", &names[0]]).await;
    let mut restore = ::redis::cmd("HSET");
    restore.arg(&names[0]);
    for (field, value) in whole {
        restore.arg(field).arg(value);
    }
    let () = restore.query_async(&mut client.clone()).await.unwrap();
    let told = explain(&pod, "http://shop/", &[]).await;
    assert_eq!(told.redis.as_ref().unwrap().response.as_ref().unwrap().lifetime, 60, "{told:?}");
    assert_eq!(told.cache_status, "CachedService; fwd=stale", "{told:?}");
    let happened = pod.get("/", &[("host", "shop")]).await;
    assert!(happened.field("cache-status").starts_with(&told.cache_status), "{happened:?}");
    assert_eq!(pod.got().len(), 3);
}

#[tokio::test]
async fn the_admin_port_explains_to_whoever_has_the_token() {
    let (port, got) = run_application(told_by_target).await;
    let process = Process::start(port, |_| {});
    process.until_readyz(200).await;
    process.get("/?max-age=60").await;
    let at = process.settings.http_port;
    let path =
        format!("/explain?url=http%3A%2F%2F127.0.0.1:{at}%2F%3Fmax-age=60&header=Accept:%20text%2Fhtml");
    assert_eq!(process.admin(Method::GET, &path, None, "").await.unwrap().status, 401);
    let answer = process.admin(Method::GET, &path, Some(TOKEN), "").await.unwrap();
    assert_eq!((answer.status, answer.field("content-type")), (200, "application/json"));
    let told: Value = serde_json::from_str(&answer.body).unwrap();
    assert!(told["cacheStatus"].as_str().unwrap().contains("; hit; ttl="), "{told}");
    assert_eq!(told["memory"]["response"]["lifetimeBy"], "max-age=60 in Cache-Control");
    assert_eq!((&told["redis"], &told["rule"]), (&Value::Null, &Value::Null));
    let wrong = process.admin(Method::GET, "/explain?url=/a", Some(TOKEN), "").await.unwrap();
    assert_eq!(wrong.status, 400);
    assert!(wrong.body.contains("no URL of the service"), "{}", wrong.body);
    assert_eq!(got.lock().unwrap().len(), 1);
}
