//! The HTTP cache on real pods: memory, Redis, purges.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt, api::DeleteParams};
use serde_json::{Value, json};

use crate::{
    http_replicas,
    redis::leaving_at_once,
    sandbox,
    support::{Sandbox, until},
};

/// Where a sidecar takes requests.
const HTTP: u16 = 9800;
/// Who asks.
const CLIENT: &str = "client";

/// The demo application, with the tier.
fn cached() -> Value {
    let mut spec = leaving_at_once();
    spec["cache"] = json!({ "http": {} });
    spec
}

/// Name and address of each pod of `shop` that is to stay.
async fn pods(sandbox: &Sandbox) -> Vec<(String, String)> {
    let pods = http_replicas::pods(sandbox).await;
    pods.into_iter()
        .filter_map(|pod| {
            let address = pod.status.as_ref()?.pod_ip.clone()?;
            Some((pod.name_any(), address))
        })
        .collect()
}

/// An answer: how it was made, and which page of all that were made it is.
#[derive(Debug)]
struct Answer {
    cache_status: String,
    made: i64,
}

/// Asks the sidecar at an address for a page of `shop`.
fn page(sandbox: &Sandbox, address: &str, path: &str) -> Result<Answer, String> {
    let (url, at) = (format!("http://shop{path}"), format!("{address}:{HTTP}"));
    let told = sandbox.try_kubectl(&["exec", CLIENT, "--", "/demo", "ask", &url, "--at", &at])?;
    let answer: Value = serde_json::from_str(&told).map_err(|error| format!("{error}: {told}"))?;
    let body: Value = serde_json::from_str(answer["body"].as_str().unwrap_or_default())
        .map_err(|error| format!("{error}: {answer}"))?;
    Ok(Answer {
        cache_status: answer["headers"]["cache-status"].as_str().unwrap_or_default().to_owned(),
        made: body["made"].as_i64().ok_or_else(|| format!("Redis does not count: {body}"))?,
    })
}

/// A CachePurge of these targets of `shop`.
pub(crate) fn purge_of_shop(name: &str, targets: &Value) -> Value {
    let mut spec = json!({ "serviceName": "shop" });
    spec.as_object_mut().unwrap().extend(targets.as_object().unwrap().clone());
    json!({
        "apiVersion": "cachedservice.dev/v1alpha1",
        "kind": "CachePurge",
        "metadata": { "name": name },
        "spec": spec,
    })
}

/// Applies a purge of `shop` and waits until all have acknowledged it; returns its status.
async fn purge(sandbox: &Sandbox, name: &str, targets: Value) -> Value {
    let purge = purge_of_shop(name, &targets);
    let file = std::env::temp_dir().join(format!("{}-{name}.json", sandbox.namespace));
    std::fs::write(&file, purge.to_string()).unwrap();
    sandbox.kubectl(&["apply", "--filename", file.to_str().unwrap()]);
    std::fs::remove_file(file).unwrap();
    let object = format!("cachepurge/{name}");
    sandbox.kubectl(&["wait", "--for=condition=Complete", &object, "--timeout=30s"]);
    serde_json::from_str(&sandbox.kubectl(&["get", &object, "--output=jsonpath={.status}"])).unwrap()
}

#[tokio::test]
async fn a_page_comes_from_memory_or_redis_until_it_is_purged_in_every_replica() {
    let sandbox = sandbox().await;
    sandbox.apply("shop", cached()).await;
    tokio::join!(sandbox.start_pod(CLIENT, &[], &[8080]), sandbox.until_ready("shop"));
    let [(first, at_first), (_, at_second)] = <[_; 2]>::try_from(pods(&sandbox).await).unwrap();
    let page = |address: &str| page(&sandbox, address, "/pages/news?fresh=600");

    let missed = page(&at_first).unwrap();
    assert!(missed.cache_status.contains("fwd=uri-miss; stored"), "{missed:?}");
    let hit = page(&at_first).unwrap();
    assert!(hit.cache_status.contains("hit") && hit.cache_status.contains("detail=L1"), "{hit:?}");
    // What one has asked for, the other finds in Redis, as soon as it is there.
    let shared = until(Duration::from_secs(5), async || {
        let answer = page(&at_second)?;
        if answer.cache_status.contains("detail=L2") { Ok(answer) } else { Err(format!("{answer:?}")) }
    })
    .await;
    assert_eq!([hit.made, shared.made], [missed.made; 2]);

    // A pod that starts anew has it from there, before it is asked or when it is.
    sandbox.api::<Pod>().delete(&first, &DeleteParams::default().grace_period(1)).await.unwrap();
    let (_, at_third) = until(Duration::from_secs(60), async || {
        let now = pods(&sandbox).await;
        now.into_iter()
            .find(|(name, address)| *name != first && *address != at_second)
            .ok_or_else(|| "no new pod".to_owned())
    })
    .await;
    let again = until(Duration::from_secs(60), async || page(&at_third)).await;
    assert!(again.cache_status.contains("hit"), "{again:?}");
    assert_eq!(again.made, missed.made);
    sandbox.until_ready("shop").await;

    let status = purge(&sandbox, "news", json!({ "tags": ["news"] })).await;
    assert_eq!((&status["acknowledged"], &status["replicas"]), (&json!(2), &json!(2)), "{status}");
    let made = page(&at_third).unwrap();
    assert!(made.cache_status.contains("fwd=uri-miss"), "{made:?}");
    assert!(made.made > missed.made, "{made:?}");
    let other = page(&at_second).unwrap();
    assert_eq!(other.made, made.made, "not what it had before the purge: {other:?}");
}

#[tokio::test]
async fn the_plugin_purges_and_shows_what_there_is() {
    let sandbox = sandbox().await;
    sandbox.apply("shop", cached()).await;
    tokio::join!(sandbox.start_pod(CLIENT, &[], &[8080]), sandbox.until_ready("shop"));
    let [(_, at_first), _] = <[_; 2]>::try_from(pods(&sandbox).await).unwrap();
    let before = page(&sandbox, &at_first, "/pages/news?fresh=600").unwrap();

    let purged: Value =
        serde_json::from_str(&plugin(&sandbox, &["purge", "shop", "--tag", "news", "-o", "json"])).unwrap();
    assert_eq!(
        (&purged["isComplete"], &purged["status"]["acknowledged"]),
        (&json!(true), &json!(2)),
        "{purged}"
    );
    let after = page(&sandbox, &at_first, "/pages/news?fresh=600").unwrap();
    assert!(after.made > before.made, "{after:?}");

    let asked = ["explain", "shop", "http://shop/pages/news?fresh=600", "-o", "json"];
    let explained: Value = serde_json::from_str(&plugin(&sandbox, &asked)).unwrap();
    let replicas: Vec<&Value> = explained["replicas"].as_object().unwrap().values().collect();
    assert_eq!(replicas.len(), 2, "{explained}");
    for told in replicas {
        // Of one replica it is in memory, and of both in Redis.
        assert!(told["cacheStatus"].as_str().unwrap().contains("; hit"), "{explained}");
        assert_eq!(told["redis"]["state"], "stored", "{explained}");
        assert_eq!(told["key"], "http://shop/pages/news?fresh=600");
    }
    let told = plugin(&sandbox, &["explain", "shop", "http://shop/pages/news?fresh=600"]);
    assert!(told.contains("in Cache-Control"), "{told}");

    let status = plugin(&sandbox, &["status", "shop"]);
    for part in [
        "CachedService/shop  Ready=True",
        "Deployment/shop  2 of 2 pods ready",
        "sidecar  ",
        "StatefulSet/shop-redis",
    ] {
        assert!(status.contains(part), "{part} is missing in\n{status}");
    }
    assert_eq!(status.matches("sidecar  ready, ").count(), 2, "each sidecar tells:\n{status}");
    assert_eq!(status.matches(", breaker of Redis closed").count(), 2, "{status}");
    assert_eq!(status.matches("  breaker closed, of this pod").count(), 2, "{status}");
}

/// What the plugin prints, which `tests/run` has built.
pub fn plugin(sandbox: &Sandbox, arguments: &[&str]) -> String {
    let operator = std::path::Path::new(env!("CARGO_BIN_EXE_cachedservice-operator"));
    let program = operator.with_file_name("kubectl-cachedservice");
    assert!(
        program.exists(),
        "build it: cargo build --no-default-features --features kubectl --bin kubectl-cachedservice"
    );
    let mut command = std::process::Command::new(program);
    command.args(arguments).args(["--namespace", &sandbox.namespace]);
    let output = command.env("KUBECONFIG", sandbox.cluster.kubeconfig_path()).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    told
}
