//! A replica that begins has what the others use most, before requests come to it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use cachedservice::{
    settings::purges::{Force, PurgeRecord, Target},
    sidecar::redis::{Ended, Figures},
};
use http::Response;
use serde_json::json;

use super::{Stage, figures, page, run, shares, source, stored};
use crate::{
    application::{Got, Pod, run_application},
    process::Process,
};

const HOST: [(&str, &str); 1] = [("host", "shop")];

/// A page that tells its path, and has it as its tag.
fn path(got: &Got) -> Response<Bytes> {
    page(got.target.trim_start_matches('/'), &got.target)
}

/// A replica that has used these pages so often.
async fn one_that_uses(stage: &Stage, uses: &[(&str, usize)]) -> Pod {
    let pod = stage.pod(path).await;
    for (number, (target, count)) in uses.iter().enumerate() {
        pod.get(target, &HOST).await;
        stored(&pod, number as u64 + 1).await;
        for _ in 0..*count {
            assert_eq!(source(&pod.get(target, &HOST).await), "L1");
        }
    }
    pod.front.shared().unwrap().tell_uses().await;
    pod
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_replica_answers_what_others_use_from_memory_and_asks_nobody() {
    let stage = Stage::begin();
    one_that_uses(&stage, &[("/a", 3), ("/b", 1), ("/once", 0)]).await;
    let new = stage.pod(path).await;
    let warmed = new.front.shared().unwrap().warm().await;
    assert_eq!((warmed.entries, warmed.ended), (2, Ended::Complete), "{warmed:?}");
    assert_eq!(new.front.memory().entries(), 2);
    assert!(warmed.bytes > 0 && warmed.bytes <= new.front.memory().bytes(), "{warmed:?}");
    for target in ["/a", "/b"] {
        let answer = new.get(target, &HOST).await;
        assert_eq!((answer.body.as_str(), source(&answer).as_str()), (target, "L1"));
    }
    assert_eq!(source(&new.get("/once", &HOST).await), "L2");
    assert!(new.got().is_empty(), "{:?}", new.got());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_variant_that_is_used_is_there_for_its_requests_alone() {
    let stage = Stage::begin();
    let answer = |got: &Got| {
        let mut answer = page("t", got.field("accept-language"));
        answer.headers_mut().insert("vary", "accept-language".parse().unwrap());
        answer
    };
    let old = stage.pod(answer).await;
    for (number, language) in ["de", "en"].into_iter().enumerate() {
        for _ in 0..2 {
            old.get("/", &[("host", "shop"), ("accept-language", language)]).await;
            stored(&old, number as u64 + 1).await;
        }
    }
    old.front.shared().unwrap().tell_uses().await;
    let new = stage.pod(answer).await;
    assert_eq!(new.front.shared().unwrap().warm().await.entries, 2);
    for (language, from) in [("de", "L1"), ("en", "L1"), ("fr", "vary-miss")] {
        let got = new.get("/", &[("host", "shop"), ("accept-language", language)]).await;
        assert_eq!((got.body.as_str(), source(&got).as_str()), (language, from));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_purged_since_does_not_come_back() {
    let stage = Stage::begin();
    let old = one_that_uses(&stage, &[("/shared", 2), ("/api", 2), ("/soft", 2), ("/kept", 2)]).await;
    let tag = |tag: &str| vec![Target::Tag(tag.to_owned())];
    let shared = old.front.shared().unwrap();
    shared.purge(tag("shared"), Force::Hard).await.unwrap();
    shared.purge(tag("soft"), Force::Soft).await.unwrap();
    let new = stage.pod(path).await;
    let record = json!({
        "version": 1, "forgotten": 0,
        "purges": [{ "epoch": 3, "id": "u", "force": "hard", "targets": [{ "tag": "api" }] }]
    });
    new.front.memory().purge_by_record(&PurgeRecord::parse(&record.to_string()).unwrap());
    let refused = Figures::of(&figures(&new).refused);
    assert_eq!(new.front.shared().unwrap().warm().await.entries, 1);
    assert_eq!(Figures::of(&figures(&new).refused), refused + 3);
    assert_eq!(source(&new.get("/kept", &HOST).await), "L1");
    for target in ["/shared", "/api"] {
        assert_eq!(source(&new.get(target, &HOST).await), "uri-miss", "{target}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_taken_before_the_record_of_the_operator_is_read() {
    let stage = Stage::begin();
    one_that_uses(&stage, &[("/api", 2), ("/kept", 2)]).await;
    let new = stage.pod(path).await;
    // As in a sidecar that has just begun: what is in Redis may have been purged by the operator.
    new.front.memory().await_record();
    let warmed = new.front.shared().unwrap().warm().await;
    assert_eq!((warmed.entries, warmed.ended), (0, Ended::Away), "{warmed:?}");
    assert_eq!(new.front.memory().entries(), 0);
    let record = json!({
        "version": 1, "forgotten": 0,
        "purges": [{ "epoch": 3, "id": "u", "force": "hard", "targets": [{ "tag": "api" }] }]
    });
    new.front.memory().purge_by_record(&PurgeRecord::parse(&record.to_string()).unwrap());
    new.front.memory().record_is_read();
    new.front.shared().unwrap().warm().await;
    assert_eq!(new.front.memory().entries(), 1);
    assert_eq!(source(&new.get("/kept", &HOST).await), "L1");
    assert_eq!(source(&new.get("/api", &HOST).await), "uri-miss");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_meanwhile_is_not_replaced_by_what_is_older() {
    let stage = Stage::begin();
    one_that_uses(&stage, &[("/a", 2)]).await;
    let new = stage.pod(|_: &Got| page("a", "newer")).await;
    let client = stage.client().await;
    let names: Vec<String> = run(&client, &["KEYS", "u-1:http:*"]).await;
    let whole: Vec<(String, Vec<u8>)> =
        redis::cmd("HGETALL").arg(&names[0]).query_async(&mut client.clone()).await.unwrap();
    let () = run(&client, &["DEL", &names[0]]).await;
    new.get("/a", &HOST).await;
    stored(&new, 1).await;
    let mut restore = redis::cmd("HSET");
    restore.arg(&names[0]);
    for (field, value) in whole {
        restore.arg(field).arg(value);
    }
    let () = restore.query_async(&mut client.clone()).await.unwrap();
    assert_eq!(new.front.shared().unwrap().warm().await.entries, 0);
    assert_eq!(new.get("/a", &HOST).await.body, "newer");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_than_half_of_the_memory_is_filled_with_what_is_used_most() {
    let stage = Stage::begin();
    let answer = |got: &Got| page("t", &format!("{}{}", got.target, "x".repeat(60 << 10)));
    let old = stage.pod(answer).await;
    for number in 0..14 {
        let target = format!("/{number}");
        for _ in 0..=15 - number {
            old.get(&target, &HOST).await;
            stored(&old, number + 1).await;
        }
    }
    old.front.shared().unwrap().tell_uses().await;
    // In which part of the memory a response comes is by chance, and a part may have room for fewer than come there.
    for _ in 0..20 {
        let new = stage.pod(answer).await;
        let warmed = new.front.shared().unwrap().warm().await;
        let memory = new.front.memory();
        assert_eq!(warmed.ended, Ended::Full);
        assert_eq!(warmed.entries, memory.entries() as u64, "{warmed:?}");
        assert!(warmed.entries >= 4 && warmed.bytes <= memory.limit() / 2, "{warmed:?}");
        assert_eq!(warmed.entries < 8, memory.evictions() > 0, "{warmed:?}");
        assert_eq!(source(&new.get("/0", &HOST).await), "L1", "the most used stays: {warmed:?}");
        assert_eq!(source(&new.get("/13", &HOST).await), "L2");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_has_written_into_the_list_does_no_harm() {
    let stage = Stage::begin();
    one_that_uses(&stage, &[("/a", 2)]).await;
    let client = stage.client().await;
    let nowhere = format!("{0}:{0}", "0".repeat(32));
    for junk in ["", ":", "u-1:purges", "a:b", &nowhere] {
        let () = run(&client, &["ZADD", "u-1:used", "1000", junk]).await;
    }
    assert_eq!(stage.pod(path).await.front.shared().unwrap().warm().await.entries, 1);
    // Of another type nothing is read, and nothing is lost but that.
    let () = run(&client, &["SET", "u-1:used", "x"]).await;
    let new = stage.pod(path).await;
    assert_eq!(new.front.shared().unwrap().warm().await.entries, 0);
    assert_eq!(source(&new.get("/a", &HOST).await), "L2");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_is_bounded_and_forgets_and_is_not_written_by_who_is_idle() {
    let stage = Stage::begin();
    let pod = stage.pod(path).await;
    let client = stage.client().await;
    let shared = pod.front.shared().unwrap();
    shared.tell_uses().await;
    assert_eq!(run::<u64>(&client, &["EXISTS", "u-1:used"]).await, 0);
    for number in 0..1100 {
        let () = run(&client, &["ZADD", "u-1:used", "5", &number.to_string()]).await;
    }
    pod.get("/a", &HOST).await;
    for _ in 0..4 {
        pod.get("/a", &HOST).await;
    }
    shared.tell_uses().await;
    assert_eq!(run::<u64>(&client, &["ZCARD", "u-1:used"]).await, 1024);
    let best: Vec<String> = run(&client, &["ZREVRANGE", "u-1:used", "0", "1", "WITHSCORES"]).await;
    assert!(best[0] == "4" || best[1] == "4", "what is new counts for as much as it was used: {best:?}");
    assert!(run::<i64>(&client, &["PTTL", "u-1:used"]).await > 0);
    let before = run::<Vec<String>>(&client, &["ZREVRANGE", "u-1:used", "0", "-1", "WITHSCORES"]).await;
    shared.tell_uses().await;
    let after = run::<Vec<String>>(&client, &["ZREVRANGE", "u-1:used", "0", "-1", "WITHSCORES"]).await;
    assert_eq!(before, after);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_away_holds_no_replica_up() {
    let stage = Stage::begin();
    let nobody = crate::redis_server::free_port();
    let pod = Pod::sharing(&stage.through(nobody), super::PATIENT, path).await;
    let warmed = pod.front.shared().unwrap().warm().await;
    assert_eq!((warmed.entries, warmed.ended), (0, Ended::Away));
    assert!(warmed.took < Duration::from_secs(1), "{warmed:?}");
    // One that takes connections and says nothing.
    let client = stage.client().await;
    stage.server().freeze(true);
    let pod = Pod::sharing(&stage.settings, super::PATIENT, path).await;
    let warmed = pod.front.shared().unwrap().warm().await;
    stage.server().freeze(false);
    assert_eq!((warmed.entries, warmed.ended), (0, Ended::Away));
    assert!(warmed.took < Duration::from_secs(3), "{warmed:?}");
    drop(client);
    shares(&pod).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_ready_when_it_has_what_is_used_and_tells_so() {
    let stage = Stage::begin();
    one_that_uses(&stage, &[("/a", 2)]).await;
    let (port, got) = run_application(path).await;
    stage.server().freeze(true);
    let began = Instant::now();
    let new = Process::start(port, |settings| settings.redis = Some(stage.settings.clone()));
    let why = new.until_readyz(503).await;
    stage.server().freeze(false);
    assert!(why.contains("still read from Redis"), "{why}");
    new.until_readyz(200).await;
    assert!(began.elapsed() < Duration::from_secs(10));
    let status = new.status().await;
    // Frozen for a moment only, it may have been reached or not.
    let ended = status["warmed"]["ended"].as_str().unwrap().to_owned();
    assert!(["complete", "Redis is not reached"].contains(&ended.as_str()), "{status}");
    assert!(status["warmed"]["seconds"].as_f64().unwrap() > 0.0);

    let next = Process::start(port, |settings| settings.redis = Some(stage.settings.clone()));
    next.until_readyz(200).await;
    let status = next.status().await;
    assert_eq!((&status["warmed"]["entries"], &status["warmed"]["ended"]), (&json!(1), &json!("complete")));
    let metrics = next.admin(http::Method::GET, "/metrics", None, "").await.unwrap().body;
    assert!(metrics.contains("cachedservice_sidecar_warmed_entries 1\n"), "{metrics}");
    assert!(metrics.contains("cachedservice_sidecar_warming_seconds 0.0"), "{metrics}");
    assert!(got.lock().unwrap().is_empty());
}
