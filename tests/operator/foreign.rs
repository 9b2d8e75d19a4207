//! Objects of somebody else at the names of children.

use std::time::Duration;

use cachedservice::api::names::{NAME_LABEL, RETAINED_LABEL};
use kube::{
    ResourceExt,
    api::{DeleteParams, PostParams},
    core::DynamicObject,
};
use serde_json::{Value, json};

use crate::{
    sandbox,
    support::{
        Sandbox,
        child::{
            AUTOSCALER, CHILDREN, ChildKind, DEPLOYMENT, DISRUPTION_BUDGET, INGRESS, REDIS_CONFIG,
            REDIS_POLICY, REDIS_SECRET, REDIS_SERVICE, SERVICE, STATEFUL_SET, uid,
        },
        until,
    },
};

#[tokio::test]
async fn what_is_not_ours_is_left_alone_and_named_until_it_goes() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let _kubelet = sandbox.kubelet();
    let mut foreign = Vec::new();
    for kind in CHILDREN {
        foreign.push((kind, put_in_the_way(&sandbox, kind).await));
    }
    let _operator = installation.start("only");
    for kind in CHILDREN {
        sandbox.apply(service_blocked_at(kind), json!({ "image": "example.com/shop:1" })).await;
    }

    for (kind, before) in &foreign {
        let service = service_blocked_at(*kind);
        let limit = Duration::from_secs(10);
        let degraded = sandbox.until_condition(limit, service, "Degraded", "True", "NameTaken").await;
        let told =
            format!("{} {} exists and is controlled by {}", kind.kind, kind.name(service), owner(*kind));
        assert!(degraded.message.contains(&told), "{}", degraded.message);
        let now = sandbox.child(*kind, service).await;
        assert_eq!(now.resource_version(), before.resource_version(), "{kind:?} was changed: {now:?}");
    }

    for (kind, _) in &foreign {
        let name = kind.name(service_blocked_at(*kind));
        sandbox.children(*kind).delete(&name, &DeleteParams::background()).await.unwrap();
    }
    for (kind, before) in &foreign {
        let service = service_blocked_at(*kind);
        // Nothing tells that the name is free: it is tried again every 15 to 19 s.
        let limit = Duration::from_secs(25);
        sandbox.until_condition(limit, service, "Degraded", "False", "AllWell").await;
        assert_ne!(uid(&sandbox.child(*kind, service).await), uid(before));
        sandbox.until_ready(service).await;
    }
}

/// The CachedService whose child of this kind has its name taken.
fn service_blocked_at(kind: ChildKind) -> &'static str {
    match kind {
        DEPLOYMENT => "deployment",
        AUTOSCALER => "autoscaler",
        SERVICE => "service",
        DISRUPTION_BUDGET => "budget",
        STATEFUL_SET => "set",
        REDIS_SERVICE => "redis-service",
        REDIS_CONFIG => "config",
        REDIS_SECRET => "secret",
        REDIS_POLICY => "policy",
        other => panic!("{other:?}"),
    }
}

/// Half of them have an owner. Not the ConfigMap and the Secret: they share no
/// field with ours, so that nothing but our care keeps an apply from changing them.
fn is_owned(kind: ChildKind) -> bool {
    [DEPLOYMENT, SERVICE, STATEFUL_SET, REDIS_SERVICE].contains(&kind)
}

fn owner(kind: ChildKind) -> &'static str {
    if is_owned(kind) { "ConfigMap kube-root-ca.crt" } else { "nobody" }
}

/// Makes an object of somebody else, and waits until its controllers are done with it.
async fn put_in_the_way(sandbox: &Sandbox, kind: ChildKind) -> DynamicObject {
    let mut object = something(kind);
    object["apiVersion"] = json!(kind.api_version());
    object["kind"] = json!(kind.kind);
    object["metadata"] = json!({ "name": kind.name(service_blocked_at(kind)) });
    if is_owned(kind) {
        let root = until(Duration::from_secs(10), async || {
            let map = sandbox.children(REDIS_CONFIG).get_opt("kube-root-ca.crt").await.unwrap();
            map.ok_or_else(|| "the namespace has no kube-root-ca.crt yet".to_owned())
        })
        .await;
        object["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "v1", "kind": "ConfigMap", "name": "kube-root-ca.crt", "uid": uid(&root), "controller": true,
        }]);
    }
    let object = serde_json::from_value(object).unwrap();
    sandbox.children(kind).create(&PostParams::default(), &object).await.unwrap();
    until(Duration::from_secs(15), async || {
        let object = sandbox.child(kind, service_blocked_at(kind)).await;
        let status = &object.data["status"];
        let conditions = status["conditions"].as_array();
        let has =
            |reason: &str| conditions.into_iter().flatten().any(|condition| condition["reason"] == reason);
        let settled = match kind {
            DEPLOYMENT => has("NewReplicaSetAvailable") && status["observedGeneration"] == 1,
            AUTOSCALER => has("FailedGetScale"),
            DISRUPTION_BUDGET => has("InsufficientPods"),
            STATEFUL_SET => status["updateRevision"].is_string() && status["observedGeneration"] == 1,
            _ => true,
        };
        if settled { Ok(object) } else { Err(format!("{kind:?} is not settled: {status}")) }
    })
    .await
}

fn something(kind: ChildKind) -> Value {
    let labels = json!({ "app": "theirs" });
    let workload = json!({
        "replicas": 0,
        "serviceName": "theirs",
        "selector": { "matchLabels": labels },
        "template": {
            "metadata": { "labels": labels },
            "spec": { "containers": [{ "name": "theirs", "image": "example.com/theirs" }] },
        },
    });
    match kind {
        DEPLOYMENT => {
            let mut spec = workload;
            spec.as_object_mut().unwrap().remove("serviceName");
            json!({ "spec": spec })
        }
        STATEFUL_SET => json!({ "spec": workload }),
        AUTOSCALER => json!({ "spec": {
            "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "theirs" },
            "maxReplicas": 3,
        } }),
        DISRUPTION_BUDGET => json!({ "spec": { "selector": { "matchLabels": labels }, "minAvailable": 1 } }),
        REDIS_POLICY => json!({ "spec": { "podSelector": { "matchLabels": labels } } }),
        SERVICE | REDIS_SERVICE => json!({ "spec": { "ports": [{ "port": 1 }] } }),
        _ => json!({ "data": {} }),
    }
}

#[tokio::test]
async fn labels_alone_make_nothing_ours() {
    let sandbox = sandbox().await;
    let labels = json!({ NAME_LABEL: "shop", RETAINED_LABEL: "true" });
    let ingress = json!({
        "apiVersion": INGRESS.api_version(), "kind": INGRESS.kind,
        "metadata": { "name": "shop", "labels": labels },
        "spec": { "defaultBackend": { "service": { "name": "theirs", "port": { "number": 1 } } } },
    });
    let ingresses = sandbox.children(INGRESS);
    let theirs = serde_json::from_value(ingress).unwrap();
    let before = ingresses.create(&PostParams::default(), &theirs).await.unwrap();
    let _shop = sandbox.serve("shop").await;
    let after = ingresses.get("shop").await.unwrap();
    assert_eq!(after.resource_version(), before.resource_version());

    // And where one is wanted, it is in the way.
    sandbox.apply("shop", json!({ "image": "example.com/shop:1", "ingress": {} })).await;
    sandbox.until_condition(Duration::from_secs(10), "shop", "Degraded", "True", "NameTaken").await;
    assert_eq!(ingresses.get("shop").await.unwrap().resource_version(), before.resource_version());
}

#[tokio::test]
async fn what_an_earlier_cached_service_of_the_name_left_is_waited_for() {
    let sandbox = sandbox().await;
    let _shop = sandbox.serve("shop").await;
    let first = uid(&sandbox.child(DEPLOYMENT, "shop").await);
    // It stands in the way until somebody lets it go.
    let held = json!({ "metadata": { "finalizers": ["example.com/held"] } });
    sandbox.patch(DEPLOYMENT, "shop", held).await;
    sandbox.delete("shop").await;
    sandbox.apply("shop", json!({ "image": "example.com/shop:2" })).await;

    let limit = Duration::from_secs(60);
    let waiting = sandbox.until_condition(limit, "shop", "ApplicationReady", "False", "Waiting").await;
    assert!(waiting.message.contains("an earlier CachedService of this name"), "{}", waiting.message);
    let told = sandbox.everything_told("shop").await;
    assert!(!told.contains("NameTaken"), "{told}");
    let release = json!({ "metadata": { "$deleteFromPrimitiveList/finalizers": ["example.com/held"] } });
    sandbox.patch(DEPLOYMENT, "shop", release).await;
    sandbox.until_condition(limit, "shop", "Ready", "True", "Serving").await;
    assert_ne!(uid(&sandbox.child(DEPLOYMENT, "shop").await), first);
}
