//! What becomes of children that somebody else touched.

use std::time::Duration;

use cachedservice::api::names::NAME_LABEL;
use futures::StreamExt;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
    core::DynamicObject,
    runtime::{WatchStreamExt, watcher},
};
use serde_json::{Value, json};

use crate::{
    sandbox,
    support::{
        child::{
            AUTOSCALER, CHILDREN, ChildKind, DEPLOYMENT, DISRUPTION_BUDGET, REDIS_CONFIG, REDIS_SECRET,
            REDIS_SERVICE, SERVICE, STATEFUL_SET, uid,
        },
        until,
    },
};

/// How soon a child is back in its wanted state.
const SOON: Duration = Duration::from_secs(2);

#[tokio::test]
async fn every_child_deleted_by_hand_is_back_within_two_seconds() {
    let sandbox = sandbox().await;
    let _shop = sandbox.serve("shop").await;

    for kind in CHILDREN {
        let gone = uid(&sandbox.child(kind, "shop").await);
        sandbox.children(kind).delete(&kind.name("shop"), &DeleteParams::background()).await.unwrap();
        until(SOON, async || match sandbox.find(kind, "shop").await {
            Some(child) if uid(&child) != gone => Ok(()),
            _ => Err(format!("{kind:?} is not back")),
        })
        .await;
    }
    sandbox.until_ready("shop").await;
}

#[tokio::test]
async fn a_drifted_field_is_corrected() {
    let sandbox = sandbox().await;
    let _shop = sandbox.serve("shop").await;

    let container = |name: &str, change: Value| {
        let mut container = change;
        container["name"] = json!(name);
        json!({ "spec": { "template": { "spec": { "containers": [container] } } } })
    };
    let replaced = |port: Value| json!([{ "$patch": "replace" }, port]);
    let drifts: [(ChildKind, Value); 13] = [
        (DEPLOYMENT, container("app", json!({ "image": "example.com/other" }))),
        (DEPLOYMENT, container("app", json!({ "env": [{ "name": "PORT", "$patch": "delete" }] }))),
        (DEPLOYMENT, container("app", json!({ "readinessProbe": null }))),
        (AUTOSCALER, json!({ "spec": { "maxReplicas": 3 } })),
        (SERVICE, json!({ "spec": { "selector": { NAME_LABEL: "other" } } })),
        (DISRUPTION_BUDGET, json!({ "spec": { "maxUnavailable": 5 } })),
        (STATEFUL_SET, container("redis", json!({ "image": "example.com/other" }))),
        (REDIS_SERVICE, json!({ "spec": { "ports": [{ "port": 6379, "targetPort": 1 }] } })),
        // Another number under the same name: to server-side apply it is another port.
        (SERVICE, json!({ "spec": { "ports": replaced(json!({ "name": "http", "port": 81 })) } })),
        (
            DEPLOYMENT,
            container("app", json!({ "ports": replaced(json!({ "name": "http", "containerPort": 81 })) })),
        ),
        (
            STATEFUL_SET,
            container("redis", json!({ "ports": replaced(json!({ "name": "redis", "containerPort": 1 })) })),
        ),
        (REDIS_CONFIG, json!({ "data": { "redis.conf": "port 1" } })),
        (REDIS_SECRET, json!({ "data": { "url": "eA==" } })),
    ];
    for (kind, drift) in drifts {
        let content = |data: &Value| (data["spec"].clone(), data["data"].clone());
        let wanted = content(&sandbox.child(kind, "shop").await.data);
        let drifted = sandbox.patch(kind, "shop", drift.clone()).await;
        assert_ne!(content(&drifted.data), wanted, "{kind:?}: {drift} changes nothing");
        until(SOON, async || {
            let present = content(&sandbox.child(kind, "shop").await.data);
            if present == wanted { Ok(()) } else { Err(format!("{kind:?} after {drift}: {present:?}")) }
        })
        .await;
    }
}

#[tokio::test]
async fn a_label_of_ours_that_was_taken_off_is_back() {
    let sandbox = sandbox().await;
    let _shop = sandbox.serve("shop").await;

    for kind in CHILDREN {
        // The watches select by this label: the child drops out of sight.
        let without = json!({ "metadata": { "labels": { NAME_LABEL: null } } });
        let stripped = sandbox.patch(kind, "shop", without).await;
        assert!(!stripped.labels().contains_key(NAME_LABEL));
        until(SOON, async || {
            let child = sandbox.child(kind, "shop").await;
            assert_eq!(uid(&child), uid(&stripped), "{kind:?} was made anew");
            let label = child.labels().get(NAME_LABEL).cloned();
            label.filter(|name| name == "shop").map(drop).ok_or_else(|| format!("{kind:?} has no label"))
        })
        .await;
    }
}

#[tokio::test]
async fn what_a_user_added_stays() {
    let sandbox = sandbox().await;
    let _shop = sandbox.serve("shop").await;

    let mark = json!({ "metadata": { "labels": { "team": "a" }, "annotations": { "note": "b" } } });
    for kind in CHILDREN {
        sandbox.patch(kind, "shop", mark.clone()).await;
    }
    let sidecar = json!({ "name": "mesh", "image": "example.com/mesh" });
    let variable = json!({ "name": "app", "env": [{ "name": "THEIRS", "value": "1" }] });
    let containers = json!({ "spec": { "template": { "spec": { "containers": [sidecar, variable] } } } });
    sandbox.patch(DEPLOYMENT, "shop", containers).await;
    sandbox.patch(REDIS_CONFIG, "shop", json!({ "data": { "theirs": "1" } })).await;

    // Every child is written anew, with these fields beside ours.
    sandbox
        .apply(
            "shop",
            json!({
                "image": "example.com/shop:2",
                "autoscaling": { "maxReplicas": 5 },
                "service": { "port": 81 },
                "redis": { "memory": "64Mi" },
            }),
        )
        .await;
    sandbox.until_ready("shop").await;
    for kind in CHILDREN {
        let child = sandbox.child(kind, "shop").await;
        assert_eq!(child.labels().get("team").map(String::as_str), Some("a"), "{kind:?}");
        assert_eq!(child.annotations().get("note").map(String::as_str), Some("b"), "{kind:?}");
    }
    let deployment = sandbox.child(DEPLOYMENT, "shop").await;
    let containers = deployment.data["spec"]["template"]["spec"]["containers"].as_array().unwrap();
    assert!(containers.iter().any(|container| container["name"] == "mesh"), "{containers:?}");
    let app = containers.iter().find(|container| container["name"] == "app").unwrap();
    assert_eq!(app["image"], "example.com/shop:2");
    assert!(app["env"].as_array().unwrap().contains(&json!({ "name": "THEIRS", "value": "1" })), "{app}");
    assert_eq!(sandbox.child(REDIS_CONFIG, "shop").await.data["data"]["theirs"], "1");
}

#[tokio::test]
async fn a_child_whose_owner_was_taken_off_is_left_alone() {
    let sandbox = sandbox().await;
    let _shop = sandbox.serve("shop").await;

    let orphan = json!({ "metadata": { "ownerReferences": null, "labels": { "team": "a" } } });
    let services = sandbox.children(SERVICE);
    let orphan = services.patch("shop", &PatchParams::default(), &Patch::Merge(orphan)).await.unwrap();
    let limit = Duration::from_secs(5);
    let degraded = sandbox.until_condition(limit, "shop", "Degraded", "True", "NameTaken").await;
    assert!(degraded.message.contains("Service shop exists and is controlled by nobody"), "{degraded:?}");
    assert_eq!(services.get("shop").await.unwrap().resource_version(), orphan.resource_version());

    services.delete("shop", &DeleteParams::default()).await.unwrap();
    sandbox.until_condition(limit, "shop", "Degraded", "False", "AllWell").await;
    assert_ne!(uid(&sandbox.child(SERVICE, "shop").await), uid(&orphan));
}

#[tokio::test]
async fn who_changes_a_child_again_and_again_is_told_of_and_not_outrun() {
    let sandbox = sandbox().await;
    let shop = sandbox.serve("shop").await;

    let mark = sandbox.audit_mark().await;
    let rival = tokio::spawn(change_whenever_it_is_right(sandbox.children(SERVICE)));
    let told =
        sandbox.until_condition(Duration::from_secs(20), "shop", "Degraded", "True", "Contested").await;
    assert!(told.message.starts_with("Service shop was applied 10 times within a minute"), "{told:?}");
    // It stays so for some renewals of the lease.
    sandbox.until_renewed(mark, &shop.installation.user, 8).await;
    let writes = sandbox.writes_since(mark, &shop.installation.user).await;
    let corrections = writes.iter().filter(|write| write.uri.contains("/services/shop?")).count();
    // The creation was the first.
    assert_eq!(corrections, 9, "{writes:#?}");

    rival.abort();
    sandbox.until_condition(Duration::from_secs(90), "shop", "Degraded", "False", "AllWell").await;
    let service = sandbox.child(SERVICE, "shop").await;
    assert_ne!(service.labels().get("app.kubernetes.io/managed-by").map(String::as_str), Some("rival"));
}

#[tokio::test]
async fn who_changes_a_port_of_redis_again_and_again_is_not_outrun_either() {
    let sandbox = sandbox().await;
    let shop = sandbox.serve("shop").await;

    let ports = json!([{ "$patch": "replace" }, { "name": "redis", "containerPort": 1 }]);
    let template = json!({ "spec": { "containers": [{ "name": "redis", "ports": ports }] } });
    let change = Patch::Strategic(json!({ "spec": { "template": template } }));
    let has_port = |set: &DynamicObject| {
        let ports = &set.data["spec"]["template"]["spec"]["containers"][0]["ports"];
        ports.as_array().is_some_and(|ports| ports.iter().any(|port| port["containerPort"] == 6379))
    };
    let rival = tokio::spawn(change_whenever(sandbox.children(STATEFUL_SET), "shop-redis", change, has_port));
    let limit = Duration::from_secs(60);
    let told = sandbox.until_condition(limit, "shop", "Degraded", "True", "Contested").await;
    assert!(told.message.starts_with("StatefulSet shop-redis was applied 10 times"), "{told:?}");

    let mark = sandbox.audit_mark().await;
    sandbox.until_renewed(mark, &shop.installation.user, 8).await;
    let writes = sandbox.writes_since(mark, &shop.installation.user).await;
    let corrections = writes.iter().filter(|write| write.uri.contains("/statefulsets/shop-redis?")).count();
    // One more try at most, of a few requests.
    assert!(corrections <= 6, "{writes:#?}");
    rival.abort();
}

/// Sets a label of ours to something else each time that it is right.
async fn change_whenever_it_is_right(services: Api<DynamicObject>) {
    const LABEL: &str = "app.kubernetes.io/managed-by";
    let change = Patch::Merge(json!({ "metadata": { "labels": { LABEL: "rival" } } }));
    let is_right = |service: &DynamicObject| service.labels().get(LABEL).map(String::as_str) != Some("rival");
    change_whenever(services, "shop", change, is_right).await;
}

/// Changes an object as somebody else, each time that it is right.
async fn change_whenever(
    objects: Api<DynamicObject>,
    name: &str,
    change: Patch<Value>,
    is_right: impl Fn(&DynamicObject) -> bool,
) {
    let parameters = PatchParams { field_manager: Some("rival".to_owned()), ..PatchParams::default() };
    let mut events =
        std::pin::pin!(watcher::watcher(objects.clone(), watcher::Config::default()).applied_objects());
    while let Some(event) = events.next().await {
        let Ok(object) = event else { continue };
        if object.name_any() != name || !is_right(&object) {
            continue;
        }
        // It may have changed meanwhile, and then no event follows on what was refused.
        while objects.patch(name, &parameters, &change).await.is_err()
            && objects.get(name).await.map_or(true, |object| is_right(&object))
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
