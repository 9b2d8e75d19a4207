//! What is purged on one replica is gone on all, in both levels.

use std::sync::{Arc, atomic::Ordering};

use cachedservice::{
    settings::{
        HeaderMatch, HttpCache, Rule,
        purges::{Force, Target},
    },
    sidecar::{cache::purges::Source, redis::Figures},
};
use http::Method;
use redis::aio::MultiplexedConnection;
use tokio::task::JoinHandle;

use super::{Stage, counting, cut_off_news, figures, page, run, shares, slow::Slow, source, stored, until};
use crate::{
    application::{Got, Pod, run_application, settings},
    gate::{self, Keeper},
    process::Process,
};

const HOST: [(&str, &str); 1] = [("host", "shop")];

fn tag(tag: &str) -> Vec<Target> {
    vec![Target::Tag(tag.to_owned())]
}

async fn body(pod: &Pod) -> String {
    pod.get("/", &HOST).await.body
}

/// Two replicas, of which one has asked for what is old.
struct OnItsWay {
    slow: Arc<Pod>,
    other: Pod,
    answer: JoinHandle<String>,
    keeper: Keeper,
}

impl OnItsWay {
    async fn begin(stage: &Stage) -> Self {
        let (keeper, gate) = gate::shut();
        let answer = move |_: &Got| {
            gate.pass();
            page("t", "old")
        };
        let slow = Arc::new(stage.pod(answer).await);
        let other = stage.pod(|_: &Got| page("t", "new")).await;
        let answer = tokio::spawn({
            let slow = slow.clone();
            async move { body(&slow).await }
        });
        until("it is on its way", async || (!slow.got().is_empty()).then_some(())).await;
        Self { slow, other, answer, keeper }
    }
}

/// Waits until a replica has taken so many purges from the record.
async fn purged(pod: &Pod, number: u64) {
    until("the purge has come", async || (pod.front.memory().begin().stamp.sequence >= number).then_some(()))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_on_one_replica_reaches_the_other_and_redis() {
    let stage = Stage::begin();
    let (_, answer) = counting();
    let [one, other] = [stage.pod(answer.clone()).await, stage.pod(answer.clone()).await];
    assert_eq!(body(&one).await, "0");
    stored(&one, 1).await;
    assert_eq!(body(&other).await, "0");
    one.front.shared().unwrap().purge(tag("t"), Force::Hard).await.unwrap();
    purged(&other, 1).await;
    let answer = other.get("/", &HOST).await;
    assert_eq!((answer.body.as_str(), source(&answer).as_str()), ("1", "uri-miss"));
    stored(&other, 1).await;
    assert_eq!(body(&one).await, "1", "what came after it is given");
    let third = stage.pod(|_: &Got| page("t", "none")).await;
    assert_eq!(body(&third).await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_soft_purge_has_all_ask_the_application_again() {
    let stage = Stage::begin();
    let (count, answer) = counting();
    let one = stage.pod(answer.clone()).await;
    body(&one).await;
    stored(&one, 1).await;
    one.front.shared().unwrap().purge(tag("t"), Force::Soft).await.unwrap();
    let other = stage.pod(answer).await;
    let answer = other.get("/", &HOST).await;
    assert_eq!((answer.body.as_str(), source(&answer).as_str()), ("1", "stale"));
    assert_eq!(count.load(Ordering::SeqCst), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_on_its_way_during_a_purge_is_stored_nowhere() {
    let stage = Stage::begin();
    let OnItsWay { slow, other, answer, keeper } = OnItsWay::begin(&stage).await;
    other.front.shared().unwrap().purge(tag("t"), Force::Hard).await.unwrap();
    purged(&slow, 1).await;
    keeper.open();
    assert_eq!(answer.await.unwrap(), "old", "it was asked for before");
    assert_eq!(body(&other).await, "new");
    stored(&other, 1).await;
    assert_eq!(body(&slow).await, "new", "from Redis");
    assert_eq!(Figures::of(&figures(&slow).stored), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_application_publishes_reaches_all_and_is_recorded_once() {
    let stage = Stage::begin();
    let (_, answer) = counting();
    let mut pods = Vec::new();
    for _ in 0..4 {
        pods.push(stage.pod(answer.clone()).await);
    }
    body(&pods[0]).await;
    stored(&pods[0], 1).await;
    for pod in &pods {
        assert_eq!(body(pod).await, "0");
    }
    let client = stage.client().await;
    for wrong in ["", "{}", r#"{"tag":"t"}"#, r#"{"keys":["x"]}"#] {
        publish(&client, &stage, wrong).await;
    }
    let heard = publish(&client, &stage, r#"{"tags":["t"]}"#).await;
    assert_eq!(heard, 4);
    for pod in &pods {
        purged(pod, 1).await;
        assert_eq!(Figures::of(&figures(pod).misunderstood), 4);
    }
    assert_eq!(body(&pods[3]).await, "1");
    // The next comes after whatever the others have had to say of the first.
    publish(&client, &stage, r#"{"tags":["other"]}"#).await;
    for pod in &pods {
        purged(pod, 2).await;
    }
    let recorded: u64 = run(&client, &["HGET", "u-1:purges", "sequence"]).await;
    assert_eq!(recorded, 2);
}

async fn publish(client: &MultiplexedConnection, stage: &Stage, message: &str) -> u64 {
    run(client, &["PUBLISH", &stage.settings.channel, message]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_changes_something_takes_it_from_all() {
    let stage = Stage::begin();
    let (_, answer) = counting();
    let [one, other] = [stage.pod(answer.clone()).await, stage.pod(answer).await];
    assert_eq!(body(&one).await, "0");
    stored(&one, 1).await;
    assert_eq!(body(&other).await, "0");
    let changed = one.ask(Method::POST, "/", &HOST, "change").await;
    assert_eq!((changed.status, changed.body.as_str()), (200, "1"));
    assert_eq!(body(&one).await, "2", "whoever has changed it sees that, here");
    until("the other knows", async || (body(&other).await == "2").then_some(())).await;
    let stamp = one.front.memory().begin().stamp;
    assert_eq!(stamp.sequence, 0, "it is no purge of the record");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_takes_what_is_stored_by_any_rule_for_its_path() {
    let stage = Stage::begin();
    let (_, answer) = counting();
    let [one, other] = [stage.pod(answer.clone()).await, stage.pod(answer).await];
    let header = HeaderMatch { name: "x-mobile".to_owned(), value: None };
    let ignored_query = vec!["a".to_owned()];
    let rules = vec![Rule { headers: vec![header], ignored_query, ..Rule::default() }];
    for pod in [&one, &other] {
        pod.front.reload(HttpCache { rules: rules.clone(), ..settings() });
    }
    let mobile = [HOST[0], ("x-mobile", "1")];
    assert_eq!(one.get("/p?a=1&b=1", &mobile).await.body, "0");
    stored(&one, 1).await;
    // By whoever changes it, the rule does not hold.
    assert_eq!(other.ask(Method::POST, "/p?a=1&b=1", &HOST, "change").await.body, "1");
    assert_eq!(other.get("/p?a=2&b=1", &mobile).await.body, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_on_its_way_during_a_change_is_not_stored() {
    let stage = Stage::begin();
    let OnItsWay { slow: _slow, other, answer, keeper } = OnItsWay::begin(&stage).await;
    // The slow replica hears of it late, or not at all: its lock is broken.
    let client = stage.client().await;
    cut_off_news(&client).await;
    other.ask(Method::POST, "/", &HOST, "change").await;
    keeper.open();
    answer.await.unwrap();
    shares(&other).await;
    let third = stage.pod(|_: &Got| page("t", "third")).await;
    assert_eq!(body(&third).await, "third", "nothing old is in Redis");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_missed_news_catches_up() {
    let stage = Stage::begin();
    let (_, answer) = counting();
    let [one, other] = [stage.pod(answer.clone()).await, stage.pod(answer).await];
    body(&one).await;
    stored(&one, 1).await;
    assert_eq!(body(&other).await, "0");
    // The news end for all; a purge and a change come in between.
    let client = stage.client().await;
    cut_off_news(&client).await;
    one.front.shared().unwrap().purge(tag("t"), Force::Hard).await.unwrap();
    purged(&other, 1).await;
    shares(&other).await;
    assert_eq!(body(&other).await, "1");
    body(&one).await;
    cut_off_news(&client).await;
    one.ask(Method::POST, "/", &HOST, "change").await;
    until("the other knows", async || (body(&other).await != "1").then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_that_the_application_orders_from_its_own_pod_reaches_all() {
    let stage = Stage::begin();
    let (_, answer) = counting();
    let (app, _) = run_application(answer).await;
    let processes = [(); 2].map(|()| {
        let redis = stage.settings.clone();
        Process::start(app, move |settings| settings.redis = Some(redis))
    });
    for process in &processes {
        process.until_readyz(200).await;
        process.get("/").await;
    }
    let ordered = until("it is recorded", async || {
        let answer = processes[0].order("/purge", r#"{"tags":["t"]}"#).await;
        (answer.status == 200).then_some(answer)
    })
    .await;
    assert_eq!(ordered.body, r#"{"replicas":"all"}"#);
    for process in &processes {
        until("it is gone", async || (source(&process.get("/").await) == "uri-miss").then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_of_which_no_news_come_is_not_said_to_have_reached_all() {
    let stage = Stage::begin();
    let (_, answer) = counting();
    let slow = Slow::before(stage.port).await;
    let one = Pod::sharing(&stage.through(slow.port), super::PATIENT, answer.clone()).await;
    shares(&one).await;
    let other = stage.pod(answer).await;
    assert_eq!(body(&other).await, "0");
    stored(&other, 1).await;
    slow.hold_news(true);
    one.front.memory().purge(&tag("t"), Force::Hard, Source::Replica);
    let between = one.get("/", &HOST).await;
    assert_eq!((between.body.as_str(), source(&between).as_str()), ("0", "L2"), "it is not recorded yet");
    let why = one.front.shared().unwrap().purge(tag("t"), Force::Hard).await.unwrap_err();
    assert!(why.starts_with("it is recorded, and "), "{why}");
    assert_ne!(body(&one).await, "0");
    slow.hold_news(false);
    shares(&one).await;
    one.front.shared().unwrap().purge(tag("t"), Force::Hard).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_other_replicas_is_given_before_the_operators_record_is_read() {
    let stage = Stage::begin();
    let (_, answer) = counting();
    let (app, _) = run_application(answer).await;
    let redis = stage.settings.clone();
    let first = Process::start(app, move |settings| settings.redis = Some(redis));
    first.until_readyz(200).await;
    reaches_all(&first).await;
    for target in ["/a", "/b"] {
        first.get(target).await;
    }
    let client = stage.client().await;
    until("both are in Redis", async || {
        let responses: Vec<String> = run(&client, &["KEYS", "u-1:http:*"]).await;
        (responses.len() == 2).then_some(())
    })
    .await;
    // Keys have the port in them, which the next has from the first.
    let (redis, port) = (stage.settings.clone(), first.settings.http_port);
    drop(first);
    let next = Process::start(app, move |settings| {
        (settings.redis, settings.http_port) = (Some(redis), port);
        std::fs::write(settings.purges_file.as_ref().unwrap(), "no record").unwrap();
    });
    next.until_readyz(503).await;
    reaches_all(&next).await;
    assert_eq!(source(&next.get("/a").await), "uri-miss");
    next.put("purges.json", r#"{"version":1,"forgotten":0,"purges":[]}"#);
    next.until_readyz(200).await;
    assert_eq!(source(&next.get("/b").await), "L2");
}

/// Waits until a purge of a replica reaches all: it shares from then on.
async fn reaches_all(process: &Process) {
    until("it shares", async || {
        let answer = process.admin(Method::POST, "/purge", Some(crate::process::TOKEN), r#"{"tags":["x"]}"#);
        answer.await.filter(|answer| answer.status == 200)
    })
    .await;
}
