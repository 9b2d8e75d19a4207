//! A volume that cannot be mounted: the kubelet says so in an Event, and nowhere else.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Event, Pod},
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::{
    ResourceExt,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;

use crate::{
    sandbox,
    support::{Kubelet, Sandbox, kubelet, until},
};

/// Until an operator has started and looked.
const LIMIT: Duration = Duration::from_secs(20);
/// From the first report of the server until it stands in the status.
const SOON: Duration = Duration::from_secs(5);
const WORDS: &str = r#"MountVolume.SetUp failed for volume "keys" : secret "payment-keys" not found"#;

#[tokio::test]
async fn a_volume_that_cannot_be_mounted_is_told_in_the_kubelets_words_until_the_pod_runs() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let mut operator = installation.start("first");
    let creating = container_creating(&sandbox);
    sandbox.apply("shop", json!({ "image": "example.com/shop:1" })).await;
    let pod = until_creating(&sandbox).await;
    sandbox.until_condition(SOON, "shop", "ApplicationReady", "False", "RollingOut").await;

    report(&sandbox, &pod, "FailedMount", WORDS).await;
    let told = until_told(&sandbox, "FailedMount").await;
    let expected = format!("0 of 2 updated pods available; pod {}: {WORDS}", pod.name_any());
    assert_eq!(told.message, expected);

    // Another operator knows it from the lists.
    assert!(operator.terminate().await.success(), "{}", operator.log());
    let operator = installation.start("second");
    operator.until_leading(LIMIT).await;
    let words = r#"AttachVolume.Attach failed for volume "pv-1" : it is attached elsewhere"#;
    report(&sandbox, &pod, "FailedAttachVolume", words).await;
    let told = until_told(&sandbox, "FailedAttachVolume").await;
    assert!(told.message.contains(words), "{}", told.message);
    let events = sandbox.events("shop").await;
    assert!(!events.iter().any(|(reason, _)| reason == "Recovered"), "{events:?}");

    drop(creating);
    let _kubelet = sandbox.kubelet();
    sandbox.until_ready("shop").await;
    sandbox.until_condition(SOON, "shop", "Degraded", "False", "AllWell").await;
}

#[tokio::test]
async fn an_operator_that_starts_knows_what_is_wrong_before_it_says_that_nothing_is() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let mut operator = installation.start("first");
    let _kubelet = Kubelet::reporting(&sandbox, |pod| {
        Some(if is_app(pod) {
            kubelet::waiting("app", "ErrImagePull", "no such image")
        } else {
            kubelet::ready(pod)
        })
    });
    sandbox.apply("shop", json!({ "image": "example.com/shop:1" })).await;
    sandbox.until_condition(LIMIT, "shop", "Degraded", "True", "ImagePullFailed").await;
    assert!(operator.terminate().await.success(), "{}", operator.log());

    let faults = crate::support::Faults::none();
    faults.refuse(2, http::Method::GET, "/pods", 500, "not now");
    let operator = installation.start_in_process(&faults).await;
    until(Duration::from_secs(20), async || {
        let metrics = operator.metrics.encode().unwrap();
        let count = r#"cachedservice_reconcile_duration_seconds_count{result="ok"} "#;
        let counted = metrics.lines().find_map(|line| line.strip_prefix(count)?.parse::<u64>().ok());
        let reconciled = counted.is_some_and(|times| times > 0);
        let left = faults.refusals_left();
        if reconciled && left == 0 { Ok(()) } else { Err(format!("{left} refusals left, {metrics}")) }
    })
    .await;
    let events = sandbox.events("shop").await;
    assert!(!events.iter().any(|(reason, _)| reason == "Recovered"), "{events:?}");
}

/// A kubelet that cannot start the application's containers yet.
fn container_creating(sandbox: &Sandbox) -> Kubelet {
    Kubelet::reporting(sandbox, |pod| {
        Some(if is_app(pod) { kubelet::waiting("app", "ContainerCreating", "") } else { kubelet::ready(pod) })
    })
}

fn is_app(pod: &Pod) -> bool {
    pod.spec.iter().flat_map(|spec| &spec.containers).any(|container| container.name == "app")
}

/// Waits until all pods of the application are on their way; returns one.
async fn until_creating(sandbox: &Sandbox) -> Pod {
    until(Duration::from_secs(10), async || {
        let pods = sandbox.api::<Pod>().list(&ListParams::default()).await.unwrap();
        let creating = |pod: &Pod| serde_json::to_string(&pod.status).unwrap().contains("ContainerCreating");
        let mut pods: Vec<Pod> = pods.into_iter().filter(|pod| is_app(pod) && creating(pod)).collect();
        if pods.len() == 2 { pods.pop().ok_or_else(String::new) } else { Err(format!("{} pods", pods.len())) }
    })
    .await
}

/// Reports as the kubelet does: an Event that is counted up from its second time on.
async fn report(sandbox: &Sandbox, pod: &Pod, reason: &str, message: &str) {
    let now = Timestamp::now();
    let event: Event = serde_json::from_value(json!({
        "metadata": { "name": format!("{}.{:x}", pod.name_any(), now.as_nanosecond()) },
        "involvedObject": {
            "apiVersion": "v1", "kind": "Pod",
            "namespace": sandbox.namespace, "name": pod.name_any(), "uid": pod.uid(),
        },
        "type": "Warning", "reason": reason, "message": message, "count": 1,
        "firstTimestamp": now.to_string(), "lastTimestamp": now.to_string(),
        "source": { "component": "kubelet", "host": "node-1" },
    }))
    .unwrap();
    let events = sandbox.api::<Event>();
    let event = events.create(&PostParams::default(), &event).await.unwrap();
    let again = json!({ "count": 2, "lastTimestamp": Timestamp::now().to_string() });
    events.patch(&event.name_any(), &PatchParams::default(), &Patch::Merge(again)).await.unwrap();
}

async fn until_told(sandbox: &Sandbox, reason: &str) -> Condition {
    let told = sandbox.until_condition(SOON, "shop", "ApplicationReady", "False", reason).await;
    sandbox.until_condition(SOON, "shop", "Degraded", "True", reason).await;
    told
}
