//! The scale subresource: who scales a CachedService as a Deployment is scaled.

use std::time::Duration;

use cachedservice::api::CachedService;
use k8s_openapi::api::{apps::v1::Deployment, autoscaling::v2::HorizontalPodAutoscaler, core::v1::Pod};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::{
    sandbox,
    support::{Sandbox, child::DEPLOYMENT, until},
};

fn fixed(replicas: i32) -> Value {
    json!({ "image": "example.com/shop:1", "autoscaling": { "enabled": false }, "replicas": replicas })
}

#[tokio::test]
async fn a_fixed_size_is_scaled_as_a_deployment_is() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let _operator = installation.start("only");
    let _kubelet = sandbox.kubelet();
    sandbox.apply("shop", fixed(2)).await;
    sandbox.until_ready("shop").await;

    sandbox.kubectl(&["scale", "csvc/shop", "--replicas=4"]);
    until_pods(&sandbox, 4).await;
    sandbox.until_ready("shop").await;
    let services = sandbox.api::<CachedService>();
    let mut scale = services.get_scale("shop").await.unwrap();
    assert_eq!(scale.spec.as_ref().and_then(|spec| spec.replicas), Some(4));
    let status = scale.status.clone().unwrap();
    assert_eq!(status.replicas, 4);
    let selected = ListParams::default().labels(&status.selector.unwrap());
    assert_eq!(sandbox.api::<Pod>().list(&selected).await.unwrap().items.len(), 4);

    // As an autoscaler does it.
    scale.spec.as_mut().unwrap().replicas = Some(3);
    services.replace_scale("shop", &PostParams::default(), &scale).await.unwrap();
    until_pods(&sandbox, 3).await;
}

#[tokio::test]
async fn a_size_that_was_left_to_its_default_can_be_scaled() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let _operator = installation.start("only");
    sandbox
        .apply("shop", json!({ "image": "example.com/shop:1", "autoscaling": { "enabled": false } }))
        .await;
    until_pods(&sandbox, 2).await;
    sandbox.kubectl(&["scale", "csvc/shop", "--replicas=1"]);
    until_pods(&sandbox, 1).await;
}

#[tokio::test]
async fn what_is_autoscaled_refuses_to_be_scaled_and_says_what_to_change() {
    let sandbox = sandbox().await;
    sandbox.apply("shop", json!({ "image": "example.com/shop:1" })).await;
    let refusal = sandbox.try_kubectl(&["scale", "csvc/shop", "--replicas=3"]).unwrap_err();
    let words = "spec.replicas: the autoscaler sets the number of pods, from autoscaling.minReplicas to maxReplicas; change these and leave replicas out, or set autoscaling.enabled to false";
    assert!(refusal.contains(words), "{refusal}");
    assert_eq!(sandbox.service("shop").await.spec.replicas, None);
}

#[tokio::test]
async fn an_autoscaler_of_the_users_own_scales_a_fixed_size() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let _operator = installation.start("only");
    let _kubelet = sandbox.kubelet();
    sandbox.apply("shop", fixed(2)).await;
    sandbox.until_ready("shop").await;

    // As `kubectl autoscale` makes it, which would look into what it has cached of the API first.
    let theirs: HorizontalPodAutoscaler = serde_json::from_value(json!({
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": { "name": "shop" },
        "spec": {
            "scaleTargetRef": { "apiVersion": "cachedservice.dev/v1alpha1", "kind": "CachedService", "name": "shop" },
            "minReplicas": 3,
            "maxReplicas": 6,
        },
    }))
    .unwrap();
    let autoscalers = sandbox.api::<HorizontalPodAutoscaler>();
    autoscalers.create(&PostParams::default(), &theirs).await.unwrap();
    // It needs no figures to see that there are too few.
    until_pods(&sandbox, 3).await;
    sandbox.until_ready("shop").await;
    // What the operator did not make it leaves alone, whatever its name.
    assert!(autoscalers.get("shop").await.unwrap().metadata.deletion_timestamp.is_none());
}

#[tokio::test]
async fn what_is_scaled_is_ready_all_the_while() {
    let sandbox = sandbox().await;
    let _shop = sandbox.serve("shop").await;
    let deployments = sandbox.api::<Deployment>();
    for replicas in [3, 5, 4, 2].repeat(5) {
        let before = deployments.get("shop").await.unwrap().metadata.generation;
        // As the autoscaler does it.
        let scale = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
        deployments.patch_scale("shop", &PatchParams::default(), &scale).await.unwrap();
        until(Duration::from_secs(20), async || {
            let deployment = deployments.get("shop").await.unwrap();
            let status = deployment.status.unwrap_or_default();
            let is_done = status.observed_generation > before && status.ready_replicas == Some(replicas);
            if is_done { Ok(()) } else { Err(format!("{status:?}")) }
        })
        .await;
    }
    let told = sandbox.events("shop").await;
    assert!(told.iter().all(|(reason, _)| reason != "NotReady" && reason != "Degraded"), "{told:?}");
}

async fn until_pods(sandbox: &Sandbox, wanted: i32) {
    // The autoscaler's controller looks every few seconds.
    until(Duration::from_secs(40), async || {
        let deployment = sandbox.find(DEPLOYMENT, "shop").await;
        let present = deployment.map(|deployment| deployment.data["spec"]["replicas"].clone());
        if present == Some(json!(wanted)) { Ok(()) } else { Err(format!("{present:?}")) }
    })
    .await;
}
