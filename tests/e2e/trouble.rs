//! What goes wrong on real pods is told in the server's words, and heals.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{ListParams, ObjectMeta, PostParams};
use serde_json::json;

use crate::{
    demo, sandbox,
    support::{Sandbox, condition, until},
};

/// From the first report until it stands in the status.
const SOON: Duration = Duration::from_secs(5);
/// Until it is reported; not the operator's matter.
const TOLD_WITHIN: Duration = Duration::from_secs(20);

#[tokio::test]
async fn an_image_that_does_not_exist_is_told_and_mended() {
    let sandbox = sandbox().await;
    let mut broken = demo();
    broken["image"] = json!("localhost:1/no-such-image:1");
    sandbox.apply("shop", broken).await;
    sandbox.apply("other", demo()).await;
    until_reported(&sandbox, "ErrImagePull").await;
    let told = sandbox.until_condition(SOON, "shop", "Ready", "False", "ImagePullFailed").await;
    assert!(told.message.contains("localhost:1/no-such-image:1"), "{}", told.message);
    sandbox.until_ready("other").await;
    sandbox.apply("shop", demo()).await;
    sandbox.until_condition(Duration::from_secs(60), "shop", "Ready", "True", "Serving").await;
}

#[tokio::test]
async fn a_redis_image_that_does_not_exist_is_told_and_mended() {
    let sandbox = sandbox().await;
    let mut broken = demo();
    broken["redis"] = json!({ "image": "localhost:1/no-such-redis:1" });
    sandbox.apply("shop", broken).await;
    until_reported(&sandbox, "ErrImagePull").await;
    sandbox.until_condition(SOON, "shop", "RedisReady", "False", "ImagePullFailed").await;
    // A StatefulSet does not replace a pod that never got ready, unless it may.
    sandbox.apply("shop", demo()).await;
    sandbox.until_condition(Duration::from_secs(60), "shop", "Ready", "True", "Serving").await;
}

#[tokio::test]
async fn a_missing_secret_is_told_and_mended() {
    let sandbox = sandbox().await;
    let mut spec = demo();
    spec["envFrom"] = json!([{ "secretRef": { "name": "payment-keys" } }]);
    sandbox.apply("shop", spec).await;
    until_reported(&sandbox, "CreateContainerConfigError").await;
    let told = sandbox.until_condition(SOON, "shop", "Ready", "False", "CreateContainerConfigError").await;
    assert!(told.message.contains("secret \"payment-keys\" not found"), "{}", told.message);
    create_secret(&sandbox, "payment-keys").await;
    sandbox.until_condition(Duration::from_secs(90), "shop", "Ready", "True", "Serving").await;
}

#[tokio::test]
async fn a_volume_from_a_missing_secret_is_told_and_mended() {
    let sandbox = sandbox().await;
    let mut spec = demo();
    spec["template"] = json!({ "spec": {
        "volumes": [{ "name": "keys", "secret": { "secretName": "payment-keys" } }],
        "containers": [{ "name": "app", "volumeMounts": [{ "name": "keys", "mountPath": "/keys" }] }],
    } });
    sandbox.apply("shop", spec).await;
    // On a machine under load the kubelet is late with other Secrets too, and says so for a moment.
    until(TOLD_WITHIN, async || {
        let told = condition(&sandbox.service("shop").await, "ApplicationReady").ok_or("no status")?;
        let is_told =
            told.reason == "FailedMount" && told.message.contains("secret \"payment-keys\" not found");
        if is_told { Ok(()) } else { Err(format!("{told:?}")) }
    })
    .await;
    sandbox.until_condition(TOLD_WITHIN, "shop", "Ready", "False", "FailedMount").await;
    sandbox.until_condition(TOLD_WITHIN, "shop", "Degraded", "True", "FailedMount").await;
    create_secret(&sandbox, "payment-keys").await;
    // The kubelet waits longer after each try, two minutes in the end.
    sandbox.until_condition(Duration::from_secs(150), "shop", "Ready", "True", "Serving").await;
    sandbox.until_condition(TOLD_WITHIN, "shop", "Degraded", "False", "AllWell").await;
}

#[tokio::test]
async fn an_application_that_crashes_is_told() {
    let sandbox = sandbox().await;
    let mut broken = demo();
    broken["args"] = json!(["no-such-command"]);
    sandbox.apply("shop", broken).await;
    let told = sandbox
        .until_condition(Duration::from_secs(60), "shop", "Degraded", "True", "CrashLoopBackOff")
        .await;
    assert!(told.message.contains("exit code"), "{}", told.message);
}

#[tokio::test]
async fn a_redis_that_dies_degrades_and_does_not_take_ready_away() {
    let sandbox = sandbox().await;
    sandbox.apply("shop", demo()).await;
    sandbox.until_ready("shop").await;
    // Every further start of Redis fails: its node has no place for it.
    let cordon = Cordon::of_the_node(&sandbox);
    sandbox.kubectl(&["delete", "pod", "shop-redis-0", "--grace-period=0", "--force"]);
    let degraded = sandbox.until_condition(TOLD_WITHIN, "shop", "Degraded", "True", "Unschedulable").await;
    let ready = sandbox.until_ready("shop").await;
    drop(cordon);
    assert!(degraded.message.contains("unschedulable"), "{}", degraded.message);
    assert_eq!(ready.status, "True");
    sandbox.until_condition(Duration::from_secs(60), "shop", "RedisReady", "True", "Available").await;
}

/// Waits until the kubelet has reported of a pod that its container waits for this reason.
async fn until_reported(sandbox: &Sandbox, reason: &str) {
    until(TOLD_WITHIN, async || {
        let pods = sandbox.api::<Pod>().list(&ListParams::default()).await.unwrap();
        let pods = serde_json::to_string(&pods.items).unwrap();
        if pods.contains(reason) { Ok(()) } else { Err(format!("no container waits for {reason}")) }
    })
    .await;
}

async fn create_secret(sandbox: &Sandbox, name: &str) {
    let secret = Secret {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        ..Secret::default()
    };
    sandbox.api::<Secret>().create(&PostParams::default(), &secret).await.unwrap();
}

/// The node takes no new pods until this is dropped.
struct Cordon<'a>(&'a Sandbox);

impl<'a> Cordon<'a> {
    fn of_the_node(sandbox: &'a Sandbox) -> Self {
        sandbox.kubectl(&["cordon", "node-1"]);
        Self(sandbox)
    }
}

impl Drop for Cordon<'_> {
    fn drop(&mut self) {
        self.0.kubectl(&["uncordon", "node-1"]);
    }
}
