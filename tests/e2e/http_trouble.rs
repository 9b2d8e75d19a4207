//! The HTTP cache and balancing on real pods, while a part of it does not do its duty.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::{Pod, Service};
use serde_json::{Value, json};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    http_replicas::{address, cached, pods, sidecars},
    sandbox,
    support::{
        processes::Container,
        traffic::{Connected, Samples, Traffic},
        until,
    },
};

/// Where a sidecar tells its figures.
const ADMIN: u16 = 9801;
/// A request may take so long at most where Redis is of no help: the machine is small, and busy.
const LONGEST_WITHOUT_REDIS: Duration = Duration::from_secs(2);
/// After so many failures one after the other a breaker opens, by default.
const THRESHOLD: u64 = 5;
/// How soon new connections go to other pods.
const AVOIDED_WITHIN: Duration = Duration::from_secs(5);

/// What is stored for a second by a rule, some of it asked for often, some once, and made without Redis.
fn by_a_rule(n: usize) -> String {
    if n.is_multiple_of(4) { format!("/healthz?once={n}") } else { format!("/healthz?often={}", n % 8) }
}

#[tokio::test]
async fn redis_killed_frozen_or_slow_under_load_fails_no_request() {
    let sandbox = sandbox().await;
    let mut spec = cached(4);
    spec["cache"]["http"]["rules"] = json!([{ "paths": ["/healthz"], "ttl": "1s" }]);
    let addresses = sidecars(&sandbox, spec).await;
    let redis = async || sandbox.api::<Pod>().get("shop-redis-0").await.unwrap();
    let told = |what: &str, samples: &Samples| {
        let (common, rare, all) = (samples.quantile(0.5), samples.quantile(0.99), samples.quantile(1.0));
        println!("Redis {what}: {} requests, p50 {common:?}, p99 {rare:?}, at most {all:?}", samples.0.len());
        samples.assert_all_answered(200);
        assert!(all < LONGEST_WITHOUT_REDIS, "{all:?}");
    };

    let load = Traffic::start(&addresses, 8, by_a_rule);
    load.until_asked(500).await;
    told("answers", &load.end().await);

    let load = Traffic::start(&addresses, 8, by_a_rule);
    let mut frozen = Container::of(&redis().await, "redis");
    frozen.freeze(true);
    load.until_asked(2000).await;
    frozen.freeze(false);
    told("is frozen", &load.end().await);

    // Four fifths of the time it does nothing.
    let load = Traffic::start(&addresses, 8, by_a_rule);
    let slowed = Instant::now();
    while slowed.elapsed() < Duration::from_secs(3) {
        frozen.freeze(true);
        sleep(Duration::from_millis(40)).await;
        frozen.freeze(false);
        sleep(Duration::from_millis(10)).await;
    }
    told("is slow", &load.end().await);

    let load = Traffic::start(&addresses, 8, by_a_rule);
    frozen.kill();
    load.until_asked(500).await;
    told("is killed", &load.end().await);

    // It is used again by itself.
    sandbox.until_condition(Duration::from_secs(60), "shop", "RedisReady", "True", "Available").await;
    until(Duration::from_secs(20), async || {
        let path = format!("/pages/back?fresh=600&n={:?}", slowed.elapsed().as_millis());
        Connected::to(addresses[0]).get(&path).await.answer?;
        let answer = Connected::to(addresses[1]).get(&path).await.answer?;
        if answer.cache_status.contains("L2") { Ok(()) } else { Err(answer.cache_status) }
    })
    .await;
}

#[tokio::test]
async fn requests_avoid_an_application_that_hangs_and_connections_a_pod_that_does() {
    let sandbox = sandbox().await;
    let mut spec = cached(4);
    spec["cache"] = Value::Null;
    spec["balancing"] = json!({});
    // The sidecars reach each other beside it; it lets in this machine, which is outside of the pods' network.
    let outside = json!({ "ipBlock": { "cidr": "198.19.0.0/16" } });
    spec["networkPolicy"] = json!({ "app": { "enabled": true, "from": [outside] } });
    let addresses = sidecars(&sandbox, spec).await;
    let all = pods(&sandbox).await;
    let frozen = address(&all[0]).unwrap();
    until(Duration::from_secs(20), async || {
        for at in &addresses {
            let known = figures(*at, "upstream_healthy").await?;
            if known.len() != 4 || known.iter().any(|(_, is_healthy)| *is_healthy == 0) {
                return Err(format!("{at} knows {known:?}"));
            }
        }
        Ok(())
    })
    .await;

    let load = Traffic::start(&addresses, 16, |_| "/work?ms=1".to_owned());
    load.until_asked(100).await;
    let mut app = Container::of(&all[0], "app");
    app.freeze(true);
    load.until_asked(2000).await;
    let load = load.end().await;
    let failures = failures_at(&addresses, frozen).await;
    app.freeze(false);
    let (rare, longest) = (load.quantile(0.99), load.quantile(1.0));
    println!(
        "an application hangs: {} requests, p99 {rare:?}, at most {longest:?}; {failures} first tries failed",
        load.0.len()
    );
    load.assert_all_answered(2000);
    assert!(longest < Duration::from_secs(30), "{longest:?}");
    assert!(failures > 0, "it was never asked");
    assert!(failures <= 4 * THRESHOLD, "{failures}");

    // All of a pod: who connects to the Service does not come to it any more.
    sandbox.until_ready("shop").await;
    let service = sandbox.api::<Service>().get("shop").await.unwrap().spec.unwrap();
    let service = SocketAddr::new(service.cluster_ip.unwrap().parse().unwrap(), 80);
    let mut whole = Container::all_of(&all[0]);
    for container in &mut whole {
        container.freeze(true);
    }
    let began = Instant::now();
    let mut connections = JoinSet::new();
    while began.elapsed() < AVOIDED_WITHIN + Duration::from_secs(1) {
        let made = began.elapsed();
        connections.spawn(async move {
            let mut connected = Connected::to(service);
            // Longer than a sidecar waits for the application of that pod before it asks another.
            let came = timeout(Duration::from_secs(6), connected.get("/healthz")).await;
            (made, came.is_ok_and(|sample| sample.answer.is_ok()))
        });
        sleep(Duration::from_millis(50)).await;
    }
    let (good, bad): (Vec<_>, Vec<_>) =
        connections.join_all().await.into_iter().partition(|(_, is_answered)| *is_answered);
    let last = bad.iter().map(|(made, _)| *made).max().expect("some came to it");
    for container in &mut whole {
        container.freeze(false);
    }
    println!(
        "a pod hangs: {} connections came to it, the last after {last:?}, {} did not",
        bad.len(),
        good.len()
    );
    assert!(last < AVOIDED_WITHIN, "{last:?}");
}

#[tokio::test]
async fn a_rollout_and_fewer_replicas_under_load_lose_no_request() {
    let sandbox = sandbox().await;
    let mut spec = cached(2);
    spec["balancing"] = json!({});
    sandbox.apply("shop", spec.clone()).await;
    sandbox.until_ready("shop").await;
    sandbox.load("http://shop/pages/news?fresh=1", 60, "4").await;
    spec["replicas"] = json!(3);
    spec["env"] = json!([{ "name": "COLOUR", "value": "blue" }]);
    sandbox.apply("shop", spec.clone()).await;
    sandbox.until_ready("shop").await;
    spec["replicas"] = json!(1);
    sandbox.apply("shop", spec).await;
    until(Duration::from_secs(60), async || {
        let left = pods(&sandbox).await.len();
        if left == 1 { Ok(()) } else { Err(format!("{left} pods")) }
    })
    .await;
    let report = sandbox.load_report(Duration::from_secs(90)).await;
    println!("a rollout and fewer replicas: {report}");
    assert_eq!(report["failed"], 0, "{report}");
    assert!(report["requests"].as_i64() > Some(1000), "{report}");
}

/// A figure of each replica, as the sidecar at an address has it.
async fn figures(sidecar: SocketAddr, name: &str) -> Result<Vec<(String, u64)>, String> {
    let metrics = Connected::to(SocketAddr::new(sidecar.ip(), ADMIN)).get("/metrics").await.answer?.body;
    let start = format!("cachedservice_sidecar_{name}{{replica=\"");
    let lines = metrics.as_str().unwrap().lines().filter_map(|line| line.strip_prefix(&start));
    let figures = lines.map(|line| {
        let (replica, figure) = line.split_once("\"} ").expect("a label and a figure");
        (replica.to_owned(), figure.parse().expect("a number"))
    });
    Ok(figures.collect())
}

/// How many requests have failed at the application of a pod, by what all sidecars count.
async fn failures_at(sidecars: &[SocketAddr], pod: SocketAddr) -> u64 {
    let mut sum = 0;
    for at in sidecars {
        let figures = figures(*at, "upstream_failures_total").await.unwrap();
        let of_pod = figures.iter().filter(|(replica, _)| {
            let address: SocketAddr = replica.parse().unwrap();
            address.ip() == pod.ip() || (address.ip().is_loopback() && at.ip() == pod.ip())
        });
        sum += of_pod.map(|(_, failures)| failures).sum::<u64>();
    }
    sum
}
