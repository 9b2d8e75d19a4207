//! The near-cache on real pods: the application keeps its client and its `REDIS_URL`, and what any pod or anybody
//! else changes is gone from every memory.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::{
    http_cache::plugin,
    http_replicas,
    redis::{leaving_at_once, redis_cli},
    sandbox,
    support::{Sandbox, until},
};

/// Where a sidecar takes requests, and where it tells of itself.
const HTTP: u16 = 9800;
const ADMIN: u16 = 9801;
/// Who asks.
const CLIENT: &str = "client";
/// What the application counts its hits in.
const KEY: &str = "demo:hits";

/// The demo application, with the tier.
fn near() -> Value {
    let mut spec = leaving_at_once();
    spec["cache"] = json!({ "application": {} });
    spec
}

/// The addresses of the pods of `shop`.
async fn addresses(sandbox: &Sandbox) -> Vec<String> {
    let pods = http_replicas::pods(sandbox).await;
    pods.iter().filter_map(|pod| pod.status.as_ref()?.pod_ip.clone()).collect()
}

/// Asks the pod at an address; status and body.
fn ask(sandbox: &Sandbox, address: &str, port: u16, path: &str) -> Result<(u64, String), String> {
    let (url, at) = (format!("http://shop{path}"), format!("{address}:{port}"));
    let told = sandbox.try_kubectl(&["exec", CLIENT, "--", "/demo", "ask", &url, "--at", &at])?;
    let answer: Value = serde_json::from_str(&told).map_err(|error| format!("{error}: {told}"))?;
    let status = answer["status"].as_u64().unwrap_or_default();
    Ok((status, answer["body"].as_str().unwrap_or_default().to_owned()))
}

/// What the application of a pod reads of the key.
fn read(sandbox: &Sandbox, address: &str) -> Result<String, String> {
    match ask(sandbox, address, HTTP, &format!("/redis/{KEY}"))? {
        (200, value) => Ok(value),
        other => Err(format!("{other:?}")),
    }
}

/// Has the application of a pod count, and returns what it then has.
fn count(sandbox: &Sandbox, address: &str) -> Result<String, String> {
    let (_, body) = ask(sandbox, address, HTTP, "/")?;
    let body: Value = serde_json::from_str(&body).map_err(|error| format!("{error}: {body}"))?;
    if body["redis"] == json!("ok") { Ok(body["hits"].to_string()) } else { Err(body.to_string()) }
}

/// The same as soon as its sidecar reaches Redis, which it tries once a second at most.
async fn until_counted(sandbox: &Sandbox, address: &str) -> String {
    until(Duration::from_secs(60), async || count(sandbox, address)).await
}

/// How many reads a sidecar has answered from memory.
fn hits(sandbox: &Sandbox, address: &str) -> u64 {
    let (_, metrics) = ask(sandbox, address, ADMIN, "/metrics").unwrap();
    let hits = metrics.lines().filter(|line| line.starts_with("cachedservice_sidecar_near_reads_total"));
    let hits = hits.filter(|line| line.contains("result=\"hit\""));
    hits.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

async fn until_read(sandbox: &Sandbox, address: &str, expected: &str) {
    until(Duration::from_secs(10), async || {
        let value = read(sandbox, address)?;
        if value == expected { Ok(()) } else { Err(value) }
    })
    .await;
}

#[tokio::test]
async fn what_one_pod_or_anybody_changes_the_others_do_not_read_from_memory_any_more() {
    let sandbox = sandbox().await;
    sandbox.apply("shop", near()).await;
    tokio::join!(sandbox.start_pod(CLIENT, &[], &[8080]), sandbox.until_ready("shop"));
    let [one, other] = <[_; 2]>::try_from(addresses(&sandbox).await).unwrap();

    let first = until_counted(&sandbox, &one).await;
    assert_eq!(read(&sandbox, &one).unwrap(), first, "it reads what it has written");
    until_read(&sandbox, &other, &first).await;
    for address in [&one, &other] {
        let before = hits(&sandbox, address);
        assert_eq!(read(&sandbox, address).unwrap(), first);
        assert_eq!(read(&sandbox, address).unwrap(), first);
        assert!(hits(&sandbox, address) > before, "from memory");
    }

    let second = until_counted(&sandbox, &other).await;
    assert_ne!(second, first);
    assert_eq!(read(&sandbox, &other).unwrap(), second);
    until_read(&sandbox, &one, &second).await;

    redis_cli(&sandbox, &format!("set {KEY} 1000"));
    for address in [&one, &other] {
        until_read(&sandbox, address, "1000").await;
    }
    redis_cli(&sandbox, "flushall");
    for address in [&one, &other] {
        until(Duration::from_secs(10), async || {
            match ask(&sandbox, address, HTTP, &format!("/redis/{KEY}"))? {
                (404, _) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }
}

/// Has `shop` purged, and returns what has become of it.
fn purge(sandbox: &Sandbox, flags: &[&str]) -> Value {
    let told = plugin(sandbox, &[&["purge", "shop", "-o", "json"], flags].concat());
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((&told["isComplete"], &told["status"]["acknowledged"]), (&json!(true), &json!(2)), "{told}");
    told
}

async fn until_gone(sandbox: &Sandbox, address: &str) {
    until(Duration::from_secs(10), async || match ask(sandbox, address, HTTP, &format!("/redis/{KEY}"))? {
        (404, _) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

#[tokio::test]
async fn what_is_purged_every_pod_forgets_and_redis_keeps_unless_it_is_to_be_deleted() {
    let sandbox = sandbox().await;
    sandbox.apply("shop", near()).await;
    tokio::join!(sandbox.start_pod(CLIENT, &[], &[8080]), sandbox.until_ready("shop"));
    let pods = <[_; 2]>::try_from(addresses(&sandbox).await).unwrap();
    let counted = until_counted(&sandbox, &pods[0]).await;
    until_read(&sandbox, &pods[1], &counted).await;
    let message = format!(r#"{{"application":{{"keys":["{KEY}"],"redis":"Delete"}}}}"#);
    let heard =
        redis_cli(&sandbox, &format!("publish cachedservice:{}/shop:purge '{message}'", sandbox.namespace));
    assert!(heard.contains('2'), "{heard}");
    for address in &pods {
        until_gone(&sandbox, address).await;
    }
    redis_cli(&sandbox, &format!("-n 1 set {KEY} 1000"));
    let first = until_counted(&sandbox, &pods[0]).await;
    for address in &pods {
        until_read(&sandbox, address, &first).await;
        let before = hits(&sandbox, address);
        until(Duration::from_secs(10), async || {
            read(&sandbox, address)?;
            if hits(&sandbox, address) > before { Ok(()) } else { Err("not from memory".to_owned()) }
        })
        .await;
    }
    // Redis tells nobody of that.
    redis_cli(&sandbox, "swapdb 0 1");
    for address in &pods {
        assert_eq!(read(&sandbox, address).unwrap(), first, "from memory");
    }
    let kept = purge(&sandbox, &["--redis-key", KEY]);
    assert_eq!(kept["status"]["deletedKeys"], Value::Null);
    for address in &pods {
        assert_eq!(read(&sandbox, address).unwrap(), "1000", "from Redis");
    }
    let deleted = purge(&sandbox, &["--redis-prefix", "demo:", "--delete-in-redis"]);
    assert_eq!(deleted["status"]["deletedKeys"], 1);
    assert!(redis_cli(&sandbox, &format!("exists {KEY}")).contains('0'));
    for address in &pods {
        until_gone(&sandbox, address).await;
    }
}

#[tokio::test]
async fn the_plugin_shows_the_keys_that_are_read_most_of_all_pods_together() {
    let sandbox = sandbox().await;
    sandbox.apply("shop", near()).await;
    tokio::join!(sandbox.start_pod(CLIENT, &[], &[8080]), sandbox.until_ready("shop"));
    let [one, other] = <[_; 2]>::try_from(addresses(&sandbox).await).unwrap();
    until_counted(&sandbox, &one).await;
    let told = std::thread::scope(|scope| {
        let top = scope.spawn(|| plugin(&sandbox, &["top", "shop", "--seconds", "10", "-o", "json"]));
        while !top.is_finished() {
            for address in [&one, &other] {
                read(&sandbox, address).unwrap();
            }
        }
        top.join().unwrap()
    });
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((&told["replicas"], &told["errors"]), (&json!(2), &json!({})), "{told}");
    let key = &told["keys"][0];
    assert_eq!((&key["key"], &key["replicas"]), (&json!(KEY), &json!(2)), "{told}");
    assert!(key["hits"].as_u64().unwrap() >= 2 && key["ttlMs"].as_u64().unwrap() > 0, "{told}");
    let status = plugin(&sandbox, &["status", "shop"]);
    assert_eq!(status.matches("near-cache  hits ").count(), 2, "{status}");
}

#[tokio::test]
async fn a_redis_that_is_gone_comes_back_without_a_restart_of_the_application() {
    let sandbox = sandbox().await;
    sandbox.apply("shop", near()).await;
    tokio::join!(sandbox.start_pod(CLIENT, &[], &[8080]), sandbox.until_ready("shop"));
    let [one, other] = <[_; 2]>::try_from(addresses(&sandbox).await).unwrap();
    for address in [&one, &other] {
        until_counted(&sandbox, address).await;
        read(&sandbox, address).unwrap();
    }

    let at_once = DeleteParams::default().grace_period(0);
    sandbox.api::<Pod>().delete("shop-redis-0", &at_once).await.unwrap();
    for address in [&one, &other] {
        until_counted(&sandbox, address).await;
    }
    // The Redis that is back has nothing of before, and neither has any memory.
    let counted = count(&sandbox, &one).unwrap();
    assert!(counted.parse::<u64>().unwrap() < 60, "{counted}");
    until_read(&sandbox, &other, &counted).await;
}
