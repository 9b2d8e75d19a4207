//! The HTTP cache and balancing on real pods, while a part of it does not do its duty.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use k8s_openapi::api::{
    core::v1::{Pod, Service},
    discovery::v1::{Endpoint, EndpointSlice},
};
use kube::api::ListParams;
use serde_json::{Value, json};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    http_replicas::{address, all_pods, cached, pods, sidecars},
    sandbox,
    support::{
        Sandbox,
        processes::Container,
        traffic::{Connected, Samples, Traffic, figures},
        until,
    },
};

/// A request may take so long at most where Redis is of no help: the machine is small, and busy.
const LONGEST_WITHOUT_REDIS: Duration = Duration::from_secs(2);
/// After so many failures one after the other a breaker opens, by default.
const THRESHOLD: u64 = 5;
/// It is open so long at first, by default.
const OPEN: Duration = Duration::from_secs(5);
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
            let known = figures(*at, "upstream_healthy", "replica").await?;
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
    let frozen_at = Instant::now();
    load.until_asked(2000).await;
    let load = load.end().await;
    // Each opening ends with one trial, of which each sidecar has one at a time.
    let trials = frozen_at.elapsed().as_secs() / OPEN.as_secs();
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
    assert!(failures <= 4 * (THRESHOLD + trials), "{failures}, with {trials} trials of each sidecar");

    // All of a pod: who connects to the Service does not come to it any more.
    sandbox.until_ready("shop").await;
    let service = service(&sandbox).await;
    until_all_are_asked(&sandbox).await;
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
    let service = service(&sandbox).await;
    // Pages from a memory, pages that are made, and what no cache may keep.
    let load = Traffic::start(&[service], 8, |n| match n % 4 {
        0 => format!("/pages/news?fresh=600&n={n}"),
        1 => "/work?ms=1".to_owned(),
        _ => "/pages/news?fresh=1".to_owned(),
    });
    load.until_asked(200).await;
    spec["replicas"] = json!(3);
    spec["env"] = json!([{ "name": "COLOUR", "value": "blue" }]);
    sandbox.apply("shop", spec.clone()).await;
    sandbox.until_ready("shop").await;
    until_left(&sandbox, 3).await;
    load.until_asked(200).await;
    spec["replicas"] = json!(1);
    sandbox.apply("shop", spec).await;
    until_left(&sandbox, 1).await;
    load.until_asked(200).await;
    let load = load.end().await;
    println!("a rollout and fewer replicas: {} requests, {} sent twice", load.0.len(), load.repeated());
    load.assert_all_answered(1000);
}

/// Waits until so many pods are left of `shop`, those on their way out among them.
async fn until_left(sandbox: &Sandbox, wanted: usize) {
    until(Duration::from_secs(90), async || {
        let left = all_pods(sandbox).await.len();
        if left == wanted { Ok(()) } else { Err(format!("{left} pods")) }
    })
    .await;
}

/// Waits until new connections go to all four.
async fn until_all_are_asked(sandbox: &Sandbox) {
    let of_service = ListParams::default().labels("kubernetes.io/service-name=shop");
    until(Duration::from_secs(60), async || {
        let slices = sandbox.api::<EndpointSlice>().list(&of_service).await;
        let slices = slices.map_err(|error| error.to_string())?;
        let endpoints = slices.iter().flat_map(|slice| &slice.endpoints).flatten();
        let is_ready =
            |endpoint: &&Endpoint| endpoint.conditions.as_ref().and_then(|all| all.ready) == Some(true);
        match endpoints.filter(is_ready).count() {
            4 => Ok(()),
            ready => Err(format!("{ready} endpoints are ready")),
        }
    })
    .await;
}

/// Where the Service `shop` is asked.
async fn service(sandbox: &Sandbox) -> SocketAddr {
    let service = sandbox.api::<Service>().get("shop").await.unwrap().spec.unwrap();
    SocketAddr::new(service.cluster_ip.unwrap().parse().unwrap(), 80)
}

/// How many requests have failed at the application of a pod, by what all sidecars count.
async fn failures_at(sidecars: &[SocketAddr], pod: SocketAddr) -> u64 {
    let mut sum = 0;
    for at in sidecars {
        let figures = figures(*at, "upstream_failures_total", "replica").await.unwrap();
        let of_pod = figures.iter().filter(|(replica, _)| {
            let address: SocketAddr = replica.parse().unwrap();
            address.ip() == pod.ip() || (address.ip().is_loopback() && at.ip() == pod.ip())
        });
        sum += of_pod.map(|(_, failures)| failures).sum::<u64>();
    }
    sum
}
