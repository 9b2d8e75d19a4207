//! The HTTP cache over four real replicas: what they make together, and what a purge leaves.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use cachedservice::api::CachePurge;
use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{ListParams, PostParams},
    runtime::wait::await_condition,
};
use serde_json::{Value, json};

use crate::{
    demo,
    http_cache::purge_of_shop,
    redis::redis_cli,
    sandbox,
    support::{
        Sandbox,
        processes::Container,
        traffic::{Connected, Sample, Samples, Traffic, figures, now_us},
        until,
    },
};

/// Where a sidecar takes requests.
const HTTP: u16 = 9800;
/// Beside it everybody waits, and the machine is small.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(1);

/// So many replicas of the demo application, with the tier.
pub(crate) fn cached(replicas: u32) -> Value {
    let mut spec = demo();
    spec["autoscaling"] = json!({ "enabled": false });
    spec["replicas"] = json!(replicas);
    spec["cache"] = json!({ "http": {} });
    spec
}

/// The pods of `shop`, those on their way out among them.
pub(crate) async fn all_pods(sandbox: &Sandbox) -> Vec<Pod> {
    let selector = "cachedservice.dev/name=shop,app.kubernetes.io/component=app";
    sandbox.api::<Pod>().list(&ListParams::default().labels(selector)).await.unwrap().items
}

/// The pods of `shop` that are to stay.
pub(crate) async fn pods(sandbox: &Sandbox) -> Vec<Pod> {
    let pods = all_pods(sandbox).await;
    pods.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect()
}

/// Where the sidecar of a pod is asked.
pub(crate) fn address(pod: &Pod) -> Option<SocketAddr> {
    let address = pod.status.as_ref()?.pod_ip.as_ref()?;
    Some(SocketAddr::new(address.parse().unwrap(), HTTP))
}

/// Where the four sidecars of `shop` are asked, once it serves.
pub(crate) async fn sidecars(sandbox: &Sandbox, spec: Value) -> [SocketAddr; 4] {
    sandbox.apply("shop", spec).await;
    sandbox.until_ready("shop").await;
    let addresses: Vec<_> = pods(sandbox).await.iter().filter_map(address).collect();
    addresses.try_into().expect("four pods")
}

/// Waits until each of them has in Redis what the others store there.
async fn until_shared(addresses: &[SocketAddr]) {
    for n in 0..4 {
        until(Duration::from_secs(20), async || {
            let path = format!("/pages/shared?fresh=600&n={}", now_us());
            ask(addresses[n], &path).await.answer?;
            let at_next = ask(addresses[(n + 1) % 4], &path).await.answer?.cache_status;
            if at_next.contains("detail=L2") { Ok(()) } else { Err(at_next) }
        })
        .await;
    }
}

async fn ask(address: SocketAddr, path: &str) -> Sample {
    Connected::to(address).get(path).await
}

/// A purge of `shop` that is complete: when it was asked for and when all had acknowledged it, in
/// microseconds since 1970, how long that took, and how many they were.
struct Purged {
    asked_us: i64,
    complete_us: i64,
    took: Duration,
    acknowledged: Value,
}

async fn purge(sandbox: &Sandbox, name: &str, targets: Value) -> Purged {
    let purge = purge_of_shop(name, &targets);
    let purges: Api<CachePurge> = sandbox.api();
    let (asked_us, clock) = (now_us(), Instant::now());
    purges.create(&PostParams::default(), &serde_json::from_value(purge).unwrap()).await.unwrap();
    let is_complete = |purge: Option<&CachePurge>| {
        let conditions = purge.and_then(|purge| purge.status.as_ref()).map(|status| &status.conditions);
        conditions.into_iter().flatten().any(|all| all.type_ == "Complete" && all.status == "True")
    };
    let complete = await_condition(purges, name, is_complete);
    let complete = tokio::time::timeout(Duration::from_secs(60), complete).await;
    let (complete_us, took) = (now_us(), clock.elapsed());
    let status = serde_json::to_value(complete.expect("in time").unwrap().unwrap().status).unwrap();
    Purged { asked_us, complete_us, took, acknowledged: json!([status["acknowledged"], status["replicas"]]) }
}

impl Purged {
    /// Nobody who asked after all had acknowledged it was given what was made before.
    #[track_caller]
    fn assert_nothing_older(&self, samples: &Samples) {
        let mut later = samples.answers().filter(|(sample, _)| sample.sent_us > self.complete_us).peekable();
        assert!(later.peek().is_some(), "nobody asked after it");
        let older: Vec<_> = later.filter(|(_, answer)| answer.begun_us() < self.asked_us).collect();
        assert!(older.is_empty(), "{} are older than the purge: {:#?}", older.len(), older.first());
    }

    /// All four did, at once.
    #[track_caller]
    fn assert_acknowledged(&self) {
        println!("acknowledged by {} after {:?}", self.acknowledged, self.took);
        assert_eq!(self.acknowledged, json!([4, 4]));
        assert!(self.took < ACKNOWLEDGED_WITHIN, "{:?}", self.took);
    }
}

/// Every path at every one of these.
async fn ask_all(addresses: &[SocketAddr], paths: &[String]) -> Samples {
    let asked = addresses.iter().flat_map(|&address| paths.iter().map(move |path| ask(address, path)));
    let samples = Samples(join_all(asked).await);
    samples.assert_all_answered(addresses.len() * paths.len());
    samples
}

/// Clients that ask for a few pages of the tag `news` at all of these, which are most often in memory.
fn readers(addresses: &[SocketAddr]) -> Traffic {
    Traffic::start(addresses, 8, |n| format!("/pages/news?fresh=600&n={}", n % 8))
}

#[tokio::test]
async fn a_thousand_who_ask_four_replicas_for_what_nobody_has_reach_the_application_once() {
    let sandbox = sandbox().await;
    let addresses = sidecars(&sandbox, cached(4)).await;
    until_shared(&addresses).await;
    // A replica to which Redis answers late, as on a machine that does much else, waits for nobody; then another page.
    for round in 1.. {
        let (made, asked) = ask_for_what_nobody_has(&addresses, round).await;
        assert!((1..=4).contains(&made), "each replica asks once at most: {asked:#?}");
        if made == 1 {
            break;
        }
        assert!(round < 5, "they do not wait for each other: {asked:#?}");
    }
}

/// A thousand ask for a page that is not made yet; how often it was made, and who was not answered from a cache.
async fn ask_for_what_nobody_has(addresses: &[SocketAddr], round: u32) -> (i64, Vec<String>) {
    let before = ask(addresses[0], &format!("/pages/first-{round}")).await.answer.unwrap();
    let opened = join_all((0..1000).map(|n| Connected::open(addresses[n % 4]))).await;
    let mut opened: Vec<_> = opened.into_iter().map(Result::unwrap).collect();
    let cold = format!("/pages/cold-{round}?fresh=600&wait=1000");
    let samples = Samples(join_all(opened.iter_mut().map(|connected| connected.get(&cold))).await);
    samples.assert_all_answered(1000);
    let after = ask(addresses[0], &format!("/pages/last-{round}")).await.answer.unwrap();
    let made = after.body["made"].as_i64().unwrap() - before.body["made"].as_i64().unwrap() - 1;
    let (half, all) = (samples.quantile(0.5), samples.quantile(1.0));
    println!("1000 requests: {made} reached the application, half were answered in {half:?}, all in {all:?}");
    let asked = samples.answers().filter(|(_, answer)| answer.cache_status.contains("fwd="));
    (made, asked.map(|(sample, answer)| format!("{} {}", sample.address, answer.cache_status)).collect())
}

#[tokio::test]
async fn after_a_purge_that_all_have_acknowledged_nothing_older_is_served() {
    let sandbox = sandbox().await;
    let addresses = sidecars(&sandbox, cached(4)).await;
    until_shared(&addresses).await;
    while_answers_are_on_their_way(&sandbox, &addresses).await;
    while_redis_hangs(&sandbox, &addresses).await;
    while_a_pod_starts(&sandbox, &addresses).await;
}

/// What the application began to make before the purge comes after it, at each replica.
async fn while_answers_are_on_their_way(sandbox: &Sandbox, addresses: &[SocketAddr]) {
    let begun = made(sandbox);
    let readers = readers(addresses);
    let slow: Vec<_> = (0..4).map(|n| format!("/pages/news?fresh=600&wait=4000&slow={n}")).collect();
    let on_their_way = tokio::spawn(join_all(addresses.iter().zip(&slow).map(|(&at, path)| {
        let path = path.clone();
        async move { ask(at, &path).await }
    })));
    // Eight of them for the readers.
    until(Duration::from_secs(10), async || {
        let more = made(sandbox) - begun;
        if more >= 12 { Ok(()) } else { Err(format!("{more} pages are begun")) }
    })
    .await;
    let purged = purge(sandbox, "on-their-way", json!({ "tags": ["news"] })).await;
    let on_their_way = Samples(on_their_way.await.unwrap());
    on_their_way.assert_all_answered(4);
    assert!(on_their_way.answers().all(|(sample, answer)| {
        let ended_us = sample.sent_us + i64::try_from(sample.took.as_micros()).unwrap();
        answer.begun_us() < purged.asked_us && ended_us > purged.complete_us
    }));
    purged.assert_nothing_older(&ask_all(addresses, &slow).await);
    let readers = readers.end().await;
    readers.assert_all_answered(100);
    purged.assert_nothing_older(&readers);
    purged.assert_acknowledged();
}

/// Redis has what is older still when it goes on.
async fn while_redis_hangs(sandbox: &Sandbox, addresses: &[SocketAddr]) {
    let readers = readers(addresses);
    let alone: Vec<_> = (0..4).map(|n| format!("/pages/news?fresh=600&alone={n}")).collect();
    ask_all(&addresses[..1], &alone).await;
    until(Duration::from_secs(5), async || {
        let answer = ask(addresses[1], "/pages/news?fresh=600&alone=0").await.answer?;
        if answer.cache_status.contains("L2") { Ok(()) } else { Err(answer.cache_status) }
    })
    .await;
    let before = refused(&addresses[2..]).await;
    let mut redis = Container::of(&sandbox.api::<Pod>().get("shop-redis-0").await.unwrap(), "redis");
    redis.freeze(true);
    let purged = purge(sandbox, "redis-hangs", json!({ "tags": ["news"] })).await;
    readers.until_asked(50).await;
    redis.freeze(false);
    until_shared(addresses).await;
    // The last two have these in no memory, and find them in Redis.
    purged.assert_nothing_older(&ask_all(&addresses[2..], &alone).await);
    assert!(refused(&addresses[2..]).await > before, "nothing older was there");
    let readers = readers.end().await;
    readers.assert_all_answered(50);
    purged.assert_nothing_older(&readers);
    purged.assert_acknowledged();
}

/// It is asked as soon as it answers.
async fn while_a_pod_starts(sandbox: &Sandbox, addresses: &[SocketAddr]) {
    let readers = readers(addresses);
    sandbox.apply("shop", cached(5)).await;
    let new = until(Duration::from_secs(30), async || {
        let pods = pods(sandbox).await;
        let new = pods.iter().filter_map(address).find(|address| !addresses.contains(address));
        new.ok_or_else(|| "no new pod".to_owned())
    })
    .await;
    let purged = purge(sandbox, "pod-starts", json!({ "tags": ["news"] })).await;
    println!("acknowledged by {} after {:?}", purged.acknowledged, purged.took);
    let at_new =
        until(Duration::from_secs(30), async || ask(new, "/pages/news?fresh=600&n=1").await.answer).await;
    assert!(at_new.begun_us() >= purged.asked_us, "{at_new:?}");
    readers.ask(&[addresses, &[new]].concat());
    readers.until_asked(100).await;
    let readers = readers.end().await;
    readers.assert_all_answered(100);
    purged.assert_nothing_older(&readers);
}

/// How many responses in Redis these have refused, as they were purged.
async fn refused(addresses: &[SocketAddr]) -> u64 {
    let mut sum = 0;
    for &at in addresses {
        let lookups = figures(at, "redis_lookups_total", "result").await.unwrap();
        sum += lookups.iter().filter(|(result, _)| result == "purged").map(|(_, count)| count).sum::<u64>();
    }
    sum
}

/// How many pages were begun so far.
fn made(sandbox: &Sandbox) -> u32 {
    redis_cli(sandbox, "get demo:made").trim().parse().unwrap_or(0)
}
