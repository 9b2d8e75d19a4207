//! What the sidecars tell, in the status: soon, at most once a minute, and at rest without a request.

use std::time::Duration;

use cachedservice::api::{
    SidecarsStatus,
    names::{APP, COMPONENT_LABEL, MANAGED_BY, MANAGED_BY_LABEL, NAME_LABEL, SIDECAR_CONTAINER},
};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Pod, Secret},
};
use kube::{
    ResourceExt,
    api::{ListParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    sandbox,
    support::{
        Sandbox,
        sidecars::{Manner, Sidecars},
        until,
    },
};

const LIMIT: Duration = Duration::from_secs(20);
const MINUTE: Duration = Duration::from_mins(1);

fn spec() -> Value {
    json!({
        "image": "example.com/shop:1",
        "autoscaling": { "enabled": false },
        "replicas": 2,
        "cache": { "http": {} },
        "balancing": {},
    })
}

fn told(hits: u64, misses: u64, saved: u64, settings: &str) -> Value {
    let upstream = json!({ "peers": { "named": 1, "proven": 1, "leaving": 0, "trouble": null } });
    json!({ "settings": settings, "hits": hits, "misses": misses, "savedRequests": saved, "upstream": upstream })
}

/// The same with a near-cache.
fn told_with_reads(told: Value, hits: u64, misses: u64) -> Value {
    let mut told = told;
    told["nearCache"] = json!({ "hits": hits, "misses": misses, "rules": [], "pool": {} });
    told
}

async fn names(sandbox: &Sandbox) -> Vec<String> {
    let ours = format!("{NAME_LABEL}=shop,{COMPONENT_LABEL}={APP}");
    let pods = sandbox.api::<Pod>().list(&ListParams::default().labels(&ours)).await.unwrap();
    pods.items.iter().map(ResourceExt::name_any).collect()
}

async fn until_told(
    sandbox: &Sandbox,
    limit: Duration,
    is_it: impl Fn(&SidecarsStatus) -> bool,
) -> SidecarsStatus {
    until(limit, async || {
        let told = sandbox.service("shop").await.status.unwrap_or_default().sidecars;
        told.clone().filter(&is_it).ok_or_else(|| format!("{told:?}"))
    })
    .await
}

// kubectl waits while the sidecars answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn figures_are_told_soon_and_again_after_a_minute_with_one_write_and_nothing_meanwhile() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let _operator = installation.start("only");
    let sidecars = Sidecars::that(Manner::Acknowledges);
    sidecars.all_tell(&told_with_reads(told(700, 300, 650, "0123456789abcdef"), 915, 85));
    let _kubelet = sidecars.kubelet(&sandbox);
    let mut both_tiers = spec();
    both_tiers["cache"]["application"] = json!({});
    sandbox.apply("shop", both_tiers).await;
    sandbox.until_ready("shop").await;
    let first = until_told(&sandbox, LIMIT, |told| told.hit_ratio.as_deref() == Some("70%")).await;
    assert_eq!(first.near_cache.unwrap().hit_ratio.as_deref(), Some("92%"));
    sandbox.until_condition(LIMIT, "shop", "BalancingReady", "True", "Balancing").await;
    // One that started after the first was asked has its turn with it.
    let both = until_told(&sandbox, MINUTE * 2, |told| told.settings_loaded.as_deref() == Some("0/2")).await;
    assert_eq!(both.saved_requests, Some(1300));
    let shown = sandbox.kubectl(&["get", "csvc", "shop", "--no-headers", "-o", "wide"]);
    let columns: Vec<_> = shown.split_whitespace().collect();
    let figures = ["70%", "Available", "1300", "92%", "1800", "0/2"];
    assert_eq!((columns[3], &columns[5..11]), ("2/2", &figures[..]), "{shown}");

    sandbox.until_quiet(&installation.user, &[&installation.user]).await;
    let mark = sandbox.audit_mark().await;
    sidecars.all_tell(&told_with_reads(told(900, 100, 850, &both.settings.unwrap()), 1950, 50));
    let second = until_told(&sandbox, MINUTE * 2, |told| told.hit_ratio.as_deref() == Some("90%")).await;
    assert_eq!((second.settings_loaded.as_deref(), second.saved_requests), (Some("2/2"), Some(1700)));
    let near_cache = second.near_cache.unwrap();
    assert_eq!((near_cache.hit_ratio.as_deref(), near_cache.saved_reads), (Some("98%"), 3900));
    let asked = sandbox.audit_since(mark, &installation.user).await;
    let uris: Vec<_> = asked.iter().map(|entry| entry.uri.as_str()).collect();
    assert!(matches!(uris[..], [uri] if uri.contains("/cachedservices/shop/status")), "{uris:?}");

    let secret = sandbox.api::<Secret>().get("shop-sidecar").await.unwrap().data.unwrap();
    let token = format!("Bearer {}", String::from_utf8(secret["token"].0.clone()).unwrap());
    for name in names(&sandbox).await {
        let reads = sidecars.reads(&name);
        assert!(reads.len() >= 2 && reads.iter().all(|(with, _)| *with == token), "{reads:?}");
        assert!(reads.windows(2).all(|pair| pair[1].1 - pair[0].1 >= MINUTE), "{reads:?}");
    }
}

#[tokio::test]
async fn an_application_on_localhost_alone_is_told_and_serves_on() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let _operator = installation.start("only");
    let sidecars = Sidecars::that(Manner::Acknowledges);
    sidecars.all_tell(&json!({ "upstream": { "localOnly": true } }));
    let _kubelet = sidecars.kubelet(&sandbox);
    sandbox.apply("shop", spec()).await;
    let reason = "ApplicationIsLocalOnly";
    let told = sandbox.until_condition(LIMIT, "shop", "BalancingReady", "False", reason).await;
    assert!(names(&sandbox).await.iter().any(|name| told.message.contains(name)), "{}", told.message);
    sandbox.until_condition(LIMIT, "shop", "Degraded", "True", reason).await;
    sandbox.until_ready("shop").await;
    until(LIMIT, async || {
        let events = sandbox.events("shop").await;
        let is_it = |(event, note): &(String, String)| event == "Degraded" && note.starts_with(reason);
        if events.iter().any(is_it) { Ok(()) } else { Err(format!("{events:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whether_sidecars_that_do_not_tell_of_others_spread_requests_nobody_knows_until_the_next_ones() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let _operator = installation.start("only");
    let sidecars = Sidecars::that(Manner::Acknowledges);
    // As one of an older version does.
    sidecars.all_tell(&json!({ "upstream": {} }));
    let _kubelet = sidecars.kubelet(&sandbox);
    sandbox.apply("shop", spec()).await;
    sandbox.until_condition(LIMIT, "shop", "BalancingReady", "False", "AwaitingSidecars").await;
    let told = sandbox.until_condition(MINUTE * 4, "shop", "BalancingReady", "Unknown", "PeersNotTold").await;
    assert!(told.message.contains("kubectl rollout restart deployment"), "{}", told.message);
    // It takes nothing away.
    for (type_, status, reason) in [
        ("Ready", "True", "Serving"),
        ("Degraded", "False", "AllWell"),
        ("CacheReady", "True", "CacheServing"),
    ] {
        sandbox.until_condition(Duration::ZERO, "shop", type_, status, reason).await;
    }

    let old = names(&sandbox).await;
    sidecars.new_ones_tell(&json!({ "upstream": { "peers": { "named": 1, "proven": 1, "leaving": 0 } } }));
    sandbox.kubectl(&["rollout", "restart", "deployment/shop"]);
    sandbox.until_condition(MINUTE * 2, "shop", "BalancingReady", "True", "Balancing").await;
    let new = names(&sandbox).await;
    assert!(new.iter().all(|name| !old.contains(name)), "{old:?} {new:?}");
}

#[tokio::test]
async fn a_pod_that_is_not_of_the_service_is_asked_nothing() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let _operator = installation.start("only");
    let sidecars = Sidecars::that(Manner::Acknowledges);
    sidecars.all_tell(&told(700, 300, 650, "0123456789abcdef"));
    let _kubelet = sidecars.kubelet(&sandbox);
    // One that somebody has made by hand, and one of another Deployment.
    let labels =
        json!({ NAME_LABEL: "shop", COMPONENT_LABEL: APP, MANAGED_BY_LABEL: MANAGED_BY, "of": "theirs" });
    let pod = json!({
        "initContainers": [{ "name": SIDECAR_CONTAINER, "image": "theirs", "restartPolicy": "Always" }],
        "containers": [{ "name": "app", "image": "theirs" }],
    });
    let alone = json!({ "metadata": { "name": "shop-7d4b-stray", "labels": labels }, "spec": pod });
    let alone: Pod = serde_json::from_value(alone).unwrap();
    sandbox.api().create(&PostParams::default(), &alone).await.unwrap();
    let theirs = json!({
        "metadata": { "name": "theirs" },
        "spec": {
            "selector": { "matchLabels": { "of": "theirs" } },
            "template": { "metadata": { "labels": labels }, "spec": pod },
        },
    });
    let theirs: Deployment = serde_json::from_value(theirs).unwrap();
    sandbox.api().create(&PostParams::default(), &theirs).await.unwrap();
    let strays = until(LIMIT, async || {
        let there = names(&sandbox).await;
        let running = there.iter().filter(|name| sidecars.has(name)).count();
        if running == 2 { Ok(there) } else { Err(format!("{there:?}")) }
    })
    .await;

    sandbox.apply("shop", spec()).await;
    sandbox.until_ready("shop").await;
    // The strays have been there for longer than those that were asked.
    until_told(&sandbox, LIMIT, |told| told.hit_ratio.as_deref() == Some("70%")).await;
    let ours = names(&sandbox).await;
    let ours: Vec<_> = ours.iter().filter(|name| !strays.contains(name)).collect();
    assert!(ours.len() == 2 && ours.iter().any(|name| !sidecars.reads(name).is_empty()), "{ours:?}");
    for stray in &strays {
        assert_eq!(sidecars.reads(stray).len(), 0, "{stray} was asked");
    }
}

#[tokio::test]
async fn sidecars_that_do_not_answer_are_told_and_keep_nothing_from_being_ready() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let _operator = installation.start("only");
    let sidecars = Sidecars::that(Manner::Hangs);
    let _kubelet = sidecars.kubelet(&sandbox);
    sandbox.apply("shop", spec()).await;
    let reason = "SidecarsUnreachable";
    // Not by the first round: that may be a blip.
    let told = sandbox.until_condition(MINUTE * 2, "shop", "BalancingReady", "False", reason).await;
    assert!(told.message.ends_with("no answer within 1 s"), "{}", told.message);
    sandbox.until_ready("shop").await;
}
