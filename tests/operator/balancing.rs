//! Balancing: the name of the pods comes before those that ask for it, and goes after them.

use std::{collections::BTreeMap, time::Duration};

use cachedservice::settings::Settings;
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{ConfigMap, Secret, Service, ServicePort, ServiceSpec},
        networking::v1::NetworkPolicy,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::api::PostParams;
use serde_json::{Value, json};

use crate::{
    sandbox,
    support::{Kubelet, Sandbox, condition, until},
};

const LIMIT: Duration = Duration::from_secs(10);

fn with(balancing: &Value) -> Value {
    json!({
        "image": "example.com/shop:1",
        "balancing": balancing,
        "networkPolicy": { "app": { "enabled": true } },
    })
}

#[tokio::test]
async fn switched_on_and_off_the_name_is_there_as_long_as_a_pod_asks_for_it() {
    let sandbox = sandbox().await;
    let shop = sandbox.serve("shop").await;
    assert!(peers(&sandbox).await.is_none());

    sandbox.apply("shop", with(&json!({}))).await;
    until(LIMIT, async || peers(&sandbox).await.map(drop).ok_or_else(|| "no Service".to_owned())).await;
    sandbox.until_ready("shop").await;
    let service = peers(&sandbox).await.unwrap();
    assert_eq!(service.cluster_ip.as_deref(), Some("None"));
    assert!(!service.publish_not_ready_addresses.unwrap_or_default());
    let reached = ways_in(&sandbox).await;
    assert!(reached > 1, "clients, and the other pods");
    let pod = deployment(&sandbox).await.spec.template.spec.unwrap();
    assert_eq!(pod.termination_grace_period_seconds, Some(42));
    // Nothing is cached, and so nothing is told of a cache.
    assert!(condition(&sandbox.service("shop").await, "CacheReady").is_none());

    drop(shop.kubelet);
    let kubelet = Kubelet::none_ready(&sandbox);
    sandbox.apply("shop", with(&json!({ "enabled": false }))).await;
    until(LIMIT, async || {
        let deployment = deployment(&sandbox).await;
        let has_sidecar = deployment.spec.template.spec.unwrap().init_containers.is_some();
        let status = deployment.status.unwrap_or_default();
        let is_rolling = status.updated_replicas.unwrap_or_default() > 0
            && status.replicas > status.updated_replicas
            && status.observed_generation == deployment.metadata.generation;
        if is_rolling && !has_sidecar { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
    assert!(peers(&sandbox).await.is_some(), "pods ask for it");
    assert_eq!(ways_in(&sandbox).await, reached, "they send each other requests, and are asked for figures");
    drop(kubelet);

    let _kubelet = sandbox.kubelet();
    until(LIMIT, async || match peers(&sandbox).await {
        None => Ok(()),
        Some(there) => Err(format!("{there:?}")),
    })
    .await;
    until(LIMIT, async || {
        let secret = sandbox.api::<Secret>().get_opt("shop-sidecar").await.unwrap();
        if secret.is_none() { Ok(()) } else { Err("the sidecars' Secret is there".to_owned()) }
    })
    .await;
    until(LIMIT, async || match ways_in(&sandbox).await {
        1 => Ok(()),
        more => Err(format!("{more} rules")),
    })
    .await;
    sandbox.until_ready("shop").await;
}

#[tokio::test]
async fn other_limits_roll_nothing() {
    let sandbox = sandbox().await;
    let _shop = sandbox.serve_spec("shop", with(&json!({}))).await;
    let before = deployment(&sandbox).await.metadata.generation;

    let other = json!({ "mode": "OwnFirst", "healthCheck": { "path": "/ready" }, "maxConcurrent": 5 });
    sandbox.apply("shop", with(&other)).await;
    until(LIMIT, async || {
        let config = sandbox.api::<ConfigMap>().get("shop-sidecar").await.unwrap().data.unwrap();
        let told = Settings::parse(&config["settings.json"]).unwrap().balancing.unwrap();
        if told.max_concurrent == 5 { Ok(()) } else { Err(format!("{told:?}")) }
    })
    .await;
    sandbox.until_ready("shop").await;
    assert_eq!(deployment(&sandbox).await.metadata.generation, before);
}

#[tokio::test]
async fn a_service_of_somebody_else_in_its_place_is_left_alone_and_told_of() {
    let sandbox = sandbox().await;
    let _shop = sandbox.serve("shop").await;
    let theirs = Service {
        metadata: ObjectMeta { name: Some("shop-peers".to_owned()), ..ObjectMeta::default() },
        spec: Some(ServiceSpec {
            selector: Some(BTreeMap::from([("app".to_owned(), "theirs".to_owned())])),
            ports: Some(vec![ServicePort { port: 81, ..ServicePort::default() }]),
            ..ServiceSpec::default()
        }),
        status: None,
    };
    let theirs = sandbox.api::<Service>().create(&PostParams::default(), &theirs).await.unwrap();

    sandbox.apply("shop", with(&json!({}))).await;
    for (type_, status) in [("Degraded", "True"), ("ApplicationReady", "False")] {
        let told = sandbox.until_condition(LIMIT, "shop", type_, status, "NameTaken").await;
        assert!(told.message.contains("Service shop-peers"), "{}", told.message);
    }
    assert_eq!(peers(&sandbox).await, theirs.spec);
}

/// How many rules let somebody in to the application.
async fn ways_in(sandbox: &Sandbox) -> usize {
    let policy = sandbox.api::<NetworkPolicy>().get("shop").await.unwrap();
    policy.spec.unwrap().ingress.unwrap_or_default().len()
}

/// The Service of the pods that requests are spread over.
async fn peers(sandbox: &Sandbox) -> Option<ServiceSpec> {
    sandbox.api::<Service>().get_opt("shop-peers").await.unwrap()?.spec
}

async fn deployment(sandbox: &Sandbox) -> Deployment {
    sandbox.api().get("shop").await.unwrap()
}
