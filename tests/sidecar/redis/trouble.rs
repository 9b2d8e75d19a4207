//! Redis is slow, frozen or gone, or comes back as another: requests are answered, and with nothing old.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use cachedservice::{
    settings::purges::{Force, PurgeRecord, Target},
    sidecar::{
        breaker::State,
        cache::purges::Source,
        redis::{Figures, LOOKUP},
    },
};
use http::Method;

use super::{
    PASSWORD, Stage, counting, cut_off_commands, figures, page, run, shares, slow::Slow, source, stored,
    until,
};
use crate::{
    application::{Got, Pod},
    gate,
    redis_server::Redis,
};

const HOST: [(&str, &str); 1] = [("host", "shop")];
/// What an answer may take at most, on a machine that does much else: far less than any time-out of a connection.
const BOUND: Duration = Duration::from_millis(500);

async fn body(pod: &Pod) -> String {
    pod.get("/", &HOST).await.body
}

/// Asks for so many keys that nobody has asked for; returns how long the slowest answer took.
async fn slowest(pod: &Pod, prefix: &str, number: u32) -> Duration {
    let mut slowest = Duration::ZERO;
    for key in 0..number {
        let began = Instant::now();
        let answer = pod.get(&format!("/{prefix}/{key}"), &HOST).await;
        assert_eq!(answer.status, 200);
        slowest = slowest.max(began.elapsed());
    }
    slowest
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_redis_holds_nobody_up_and_is_used_again_when_it_goes_on() {
    let stage = Stage::begin();
    let pod = Pod::sharing(&stage.settings, LOOKUP, |_: &Got| page("t", "page")).await;
    shares(&pod).await;
    stage.server().freeze(true);
    let began = Instant::now();
    let slowest_ever = slowest(&pod, "a", 100).await;
    assert!(slowest_ever < BOUND, "{slowest_ever:?}");
    // Five wait for it, and the others do not even try.
    assert!(began.elapsed() < 4 * BOUND, "{:?}", began.elapsed());
    assert_ne!(pod.front.shared().unwrap().breaker(), State::Closed);
    assert_eq!(pod.ask(Method::POST, "/a/0", &HOST, "").await.status, 200);
    stage.server().freeze(false);
    let began = Instant::now();
    shares(&pod).await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    // The locks that were asked for while it was frozen are not in anybody's way.
    let other = stage.pod(|_: &Got| page("t", "other")).await;
    let slowest_ever = slowest(&other, "a", 10).await;
    assert!(slowest_ever < 2 * BOUND, "{slowest_ever:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_comes_back_empty_brings_nothing_old_back() {
    let mut stage = Stage::begin();
    let (_, answer) = counting();
    let [one, other] = [stage.pod(answer.clone()).await, stage.pod(answer.clone()).await];
    assert_eq!(body(&one).await, "0");
    stored(&one, 1).await;
    assert_eq!(body(&other).await, "0");
    let before = one.front.memory().begin().stamp.generation;
    stage.server = None;
    assert!(slowest(&one, "b", 20).await < BOUND);
    assert_eq!(body(&one).await, "0", "its memory goes on");
    let refused = one.front.shared().unwrap().purge(vec![Target::Everything], Force::Hard).await.unwrap_err();
    assert!(refused.starts_with("it is not recorded yet: Redis"), "{refused}");
    stage.server = Some(Redis::start(stage.port, PASSWORD));
    for pod in [&one, &other] {
        shares(pod).await;
        assert_ne!(pod.front.memory().begin().stamp.generation, before);
        assert_ne!(body(pod).await, "0", "who knows what was purged meanwhile");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_was_evicted_brings_nothing_old_back() {
    let stage = Stage::begin();
    let (_, answer) = counting();
    let one = stage.pod(answer.clone()).await;
    assert_eq!(body(&one).await, "0");
    stored(&one, 1).await;
    one.front.shared().unwrap().purge(vec![Target::Tag("t".to_owned())], Force::Hard).await.unwrap();
    let client = stage.client().await;
    let () = run(&client, &["DEL", "u-1:purges"]).await;
    // What it stored before the purge is in Redis still.
    let responses: Vec<String> = run(&client, &["KEYS", "u-1:http:*"]).await;
    assert_eq!(responses.len(), 1);
    let third = stage.pod(answer).await;
    assert_eq!(body(&third).await, "1");
    until("the first follows the same record", async || {
        let generations = [&one, &third].map(|pod| pod.front.memory().begin().stamp.generation);
        (generations[0] == generations[1]).then_some(())
    })
    .await;
    stored(&third, 1).await;
    assert_eq!(body(&one).await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_before_some_purges_is_replaced() {
    let stage = Stage::begin();
    let (_, answer) = counting();
    let one = stage.pod(answer.clone()).await;
    let client = stage.client().await;
    let old: Vec<String> = run(&client, &["HGETALL", "u-1:purges"]).await;
    assert_eq!(body(&one).await, "0");
    stored(&one, 1).await;
    one.front.shared().unwrap().purge(vec![Target::Tag("t".to_owned())], Force::Hard).await.unwrap();
    // As a replica of Redis has it that was behind, and takes over.
    let () = run(&client, &["DEL", "u-1:purges"]).await;
    let old: Vec<&str> = ["HSET", "u-1:purges"].into_iter().chain(old.iter().map(String::as_str)).collect();
    let () = run(&client, &old).await;
    let before = one.front.memory().begin().stamp.generation;
    until("another generation", async || {
        body(&one).await;
        pod_generation(&one, before)
    })
    .await;
    let third = stage.pod(answer).await;
    assert_ne!(body(&third).await, "0");
}

fn pod_generation(pod: &Pod, before: u64) -> Option<()> {
    (pod.front.memory().begin().stamp.generation != before).then_some(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_redis_all_goes_on() {
    let mut stage = Stage::begin();
    stage.server = None;
    let pod = Pod::sharing(&stage.settings, LOOKUP, |_: &Got| page("t", "page")).await;
    assert!(slowest(&pod, "a", 50).await < BOUND);
    assert_eq!(source(&pod.get("/a/0", &HOST).await), "L1");
    assert_eq!(pod.ask(Method::POST, "/a/0", &HOST, "").await.status, 200);
    assert_eq!(source(&pod.get("/a/0", &HOST).await), "uri-miss");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_could_not_be_told_is_told_when_redis_is_back() {
    let stage = Stage::begin();
    let (_, answer) = counting();
    let [one, other] = [stage.pod(answer.clone()).await, stage.pod(answer).await];
    assert_eq!(body(&one).await, "0");
    stored(&one, 1).await;
    assert_eq!(body(&other).await, "0");
    stage.server().freeze(true);
    // The lookups of a patient replica would wait for seconds.
    assert_eq!(one.ask(Method::POST, "/", &HOST, "").await.body, "1");
    stage.server().freeze(false);
    assert_ne!(body(&one).await, "0", "it hides what it could not take out of Redis");
    until("the other knows", async || (body(&other).await != "0").then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_and_could_not_be_told_is_not_taken_from_redis() {
    let stage = Stage::begin();
    let (_, answer) = counting();
    let pod = Pod::sharing(&stage.settings, LOOKUP, answer).await;
    shares(&pod).await;
    assert_eq!(body(&pod).await, "0");
    stored(&pod, 1).await;
    let client = stage.client().await;
    cut_off_commands(&client).await;
    // The connection is found to be gone, and the change is told again after a pause; Redis is asked before.
    assert_eq!(pod.ask(Method::POST, "/", &HOST, "").await.body, "1");
    shares(&pod).await;
    assert_eq!(body(&pod).await, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_purged_and_could_not_be_recorded_is_not_taken_from_redis() {
    let stage = Stage::begin();
    let (_, answer) = counting();
    let pod = Pod::sharing(&stage.settings, LOOKUP, answer.clone()).await;
    shares(&pod).await;
    assert_eq!(body(&pod).await, "0");
    stored(&pod, 1).await;
    let other = stage.pod(answer).await;
    assert_eq!(body(&other).await, "0");
    let client = stage.client().await;
    cut_off_commands(&client).await;
    let targets = vec![Target::Tag("t".to_owned())];
    pod.front.memory().purge(&targets, Force::Hard, Source::Replica);
    pod.front.shared().unwrap().purge(targets, Force::Hard).await.unwrap_err();
    shares(&pod).await;
    assert_ne!(body(&pod).await, "0");
    until("the other knows", async || (body(&other).await != "0").then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn however_much_changes_while_redis_is_frozen_nothing_of_before_is_given() {
    // Each is two keys, of both schemes: more than what is remembered one by one.
    const CHANGED: usize = 2100;
    let stage = Stage::begin();
    let (_, count) = counting();
    let (keeper, gate) = gate::shut();
    let answer = move |got: &Got| {
        if got.target == "/slow" && got.method == Method::GET {
            gate.pass();
        }
        count(got)
    };
    let one = Arc::new(Pod::sharing(&stage.settings, LOOKUP, answer.clone()).await);
    let other = Pod::sharing(&stage.settings, LOOKUP, answer).await;
    shares(&one).await;
    shares(&other).await;
    let before = body(&one).await;
    stored(&one, 1).await;
    assert_eq!(body(&other).await, before);
    let slow = tokio::spawn({
        let one = one.clone();
        async move { one.get("/slow", &HOST).await.body }
    });
    until("it is on its way", async || (one.got().len() == 2).then_some(())).await;
    stage.server().freeze(true);
    for number in 0..CHANGED {
        // Not among the first, which are on their way into Redis.
        let target = match number {
            1000 => "/".to_owned(),
            1001 => "/slow".to_owned(),
            _ => format!("/{number}"),
        };
        assert_eq!(one.ask(Method::POST, &target, &HOST, "").await.status, 200);
    }
    keeper.open();
    let old = slow.await.unwrap();
    assert_ne!(one.get("/slow", &HOST).await.body, old, "it was changed on its way");
    stage.server().freeze(false);
    shares(&one).await;
    assert_ne!(body(&one).await, before);
    until("the other knows", async || (body(&other).await != before).then_some(())).await;
    let third = stage.pod(|_: &Got| page("t", "third")).await;
    assert_ne!(body(&third).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_another_server_is_replaced() {
    let stage = Stage::begin();
    let (_, answer) = counting();
    let one = stage.pod(answer.clone()).await;
    assert_eq!(body(&one).await, "0");
    stored(&one, 1).await;
    let before = one.front.memory().begin().stamp.generation;
    // As it is found where Redis was started again with what it had saved: who knows what it had not.
    let client = stage.client().await;
    let () = run(&client, &["HSET", "u-1:purges", "server", "another"]).await;
    let third = stage.pod(answer).await;
    assert_ne!(third.front.memory().begin().stamp.generation, before);
    assert_eq!(body(&third).await, "1");
    until("the first follows", async || pod_generation(&one, before)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_password_is_read_from_the_file() {
    let stage = Stage::begin();
    let pod = stage.pod(|_: &Got| page("t", "page")).await;
    let client = stage.client().await;
    let () = run(&client, &["CONFIG", "SET", "requirepass", "other"]).await;
    stage.tell("other");
    for kind in ["pubsub", "normal"] {
        let _: u64 = run(&client, &["CLIENT", "KILL", "TYPE", kind]).await;
    }
    pod.get("/", &HOST).await;
    shares(&pod).await;
    pod.get("/other", &HOST).await;
    stored(&pod, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_slow_costs_little_and_then_nothing() {
    let stage = Stage::begin();
    let slow = Slow::before(stage.port).await;
    let pod = Pod::sharing(&stage.through(slow.port), LOOKUP, |_: &Got| page("t", "page")).await;
    shares(&pod).await;
    pod.get("/", &HOST).await;
    stored(&pod, 1).await;
    slow.each_takes(Duration::from_millis(100));
    let began = Instant::now();
    assert!(slowest(&pod, "a", 200).await < BOUND);
    assert!(began.elapsed() < 6 * BOUND, "{:?}", began.elapsed());
    assert!(Figures::of(&figures(&pod).timeouts) > 0);
    slow.each_takes(Duration::ZERO);
    shares(&pod).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_operator_purged_while_redis_was_frozen_is_not_given() {
    let stage = Stage::begin();
    let (_, answer) = counting();
    let pods = [stage.pod(answer.clone()).await, stage.pod(answer.clone()).await];
    assert_eq!(body(&pods[0]).await, "0");
    stored(&pods[0], 1).await;
    stage.server().freeze(true);
    let record = PurgeRecord::parse(
        r#"{"version":1,"forgotten":0,"purges":[{"epoch":1,"id":"u","force":"hard","targets":[{"tag":"t"}]}]}"#,
    )
    .unwrap();
    for pod in &pods {
        assert_eq!(pod.front.memory().purge_by_record(&record), 1);
    }
    stage.server().freeze(false);
    for pod in &pods {
        shares(pod).await;
        assert_ne!(body(pod).await, "0");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_url_of_this_redis_is_read_again_until_it_is_one() {
    let stage = Stage::begin();
    let pod = Pod::sharing(&stage.settings, LOOKUP, |_: &Got| page("t", "page")).await;
    shares(&pod).await;
    let client = stage.client().await;
    // Nothing, something else, and a Redis that is to speak TLS and does not.
    for wrong in [String::new(), "http://x".to_owned(), format!("rediss://127.0.0.1:{}/0", stage.port)] {
        std::fs::write(&stage.settings.url_file, &wrong).unwrap();
        cut_off_commands(&client).await;
        until("it has tried in vain", async || {
            assert_eq!(pod.ask(Method::POST, "/", &HOST, "").await.status, 200);
            (pod.front.shared().unwrap().breaker() != State::Closed).then_some(())
        })
        .await;
        stage.tell(PASSWORD);
        shares(&pod).await;
    }
}
