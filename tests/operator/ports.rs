//! A port whose number somebody changed, beside ports that are the user's.

use std::time::Duration;

use cachedservice::api::{CachedService, names::FIELD_MANAGER};
use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
    core::DynamicObject,
};
use serde_json::{Value, json};

use crate::{
    sandbox,
    support::{
        Sandbox,
        child::{ChildKind, DEPLOYMENT, SERVICE},
        until,
    },
};

/// How soon a child is back in its wanted state.
const SOON: Duration = Duration::from_secs(2);
const LIMIT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_port_of_a_service_is_set_back_and_the_ports_of_the_user_stay() {
    let ports = |child: &DynamicObject| child.data["spec"]["ports"].clone();
    let change = |ports: Value| json!({ "spec": { "ports": ports } });
    ours_is_set_back(SERVICE, "port", ports, change, json!({ "service": { "port": 82 } }), (80, 82)).await;
}

#[tokio::test]
async fn a_port_of_a_container_is_set_back_and_the_ports_of_the_user_stay() {
    let ports = |child: &DynamicObject| {
        let containers = child.data["spec"]["template"]["spec"]["containers"].as_array().unwrap();
        containers.iter().find(|container| container["name"] == "app").unwrap()["ports"].clone()
    };
    let change = |ports: Value| json!({ "spec": { "template": { "spec": { "containers": [{ "name": "app", "ports": ports }] } } } });
    ours_is_set_back(DEPLOYMENT, "containerPort", ports, change, json!({ "port": 82 }), (8080, 82)).await;
}

/// Changes the number of our port to 81 and adds two ports: the one goes, the others stay,
/// also when the spec gives ours another number later.
async fn ours_is_set_back(
    kind: ChildKind,
    key: &str,
    ports: impl Fn(&DynamicObject) -> Value,
    change: impl Fn(Value) -> Value,
    other_spec: Value,
    (first, second): (u16, u16),
) {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let _operator = installation.start("only");
    sandbox.apply("shop", json!({ "image": "example.com/shop:1" })).await;
    sandbox.until_created("shop").await;

    let drifted = json!([
        { "$patch": "replace" },
        { "name": "http", key: 81 },
        { "name": "metrics", key: 9090 },
        // Of the same number as the wrong one.
        { "name": "dns", key: 81, "protocol": "UDP" },
    ]);
    sandbox.patch(kind, "shop", change(drifted)).await;
    let theirs = [("metrics", 9090, "TCP"), ("dns", 81, "UDP")];
    let expected = |number: u16| {
        let all = [("http", number, "TCP")].into_iter().chain(theirs);
        let mut all: Vec<String> =
            all.map(|(name, number, protocol)| format!("{name} {number}/{protocol}")).collect();
        all.sort();
        all
    };
    let until_expected = async |sandbox: &Sandbox, number: u16| {
        until(SOON, async || {
            let child = sandbox.child(kind, "shop").await;
            let present = ports(&child);
            let mut present: Vec<String> =
                present.as_array().into_iter().flatten().map(|port| in_words(port, key)).collect();
            present.sort();
            if present == expected(number) { Ok(child) } else { Err(format!("{present:?}")) }
        })
        .await
    };
    until_expected(&sandbox, first).await;
    until_owned_by_apply_alone(&sandbox, kind).await;

    let mut spec = other_spec;
    spec["image"] = json!("example.com/shop:1");
    sandbox.apply("shop", spec).await;
    until_expected(&sandbox, second).await;
}

#[tokio::test]
async fn a_port_that_was_changed_before_a_hand_over_is_set_back_by_it() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let _operator = installation.start("only");
    let spec = |autoscaled: bool, paused: bool| {
        json!({
            "metadata": { "annotations": { "cachedservice.dev/paused": paused.to_string() } },
            "spec": { "image": "example.com/shop:1", "autoscaling": { "enabled": autoscaled }, "replicas": (!autoscaled).then_some(3) },
        })
    };
    sandbox.apply("shop", spec(false, false)["spec"].clone()).await;
    until(LIMIT, async || {
        let deployment = sandbox.find(DEPLOYMENT, "shop").await;
        deployment.map(drop).ok_or_else(|| "there is no Deployment".to_owned())
    })
    .await;
    let change = async |what: Value| {
        let services = sandbox.api::<CachedService>();
        services.patch("shop", &PatchParams::default(), &Patch::Merge(what)).await.unwrap();
    };
    change(spec(false, true)).await;
    sandbox.until_condition(LIMIT, "shop", "Paused", "True", "PausedByAnnotation").await;
    let ports = json!([{ "$patch": "replace" }, { "name": "http", "containerPort": 81 }]);
    let containers = json!([{ "name": "app", "ports": ports }]);
    sandbox
        .patch(
            DEPLOYMENT,
            "shop",
            json!({ "spec": { "template": { "spec": { "containers": containers } } } }),
        )
        .await;
    change(spec(true, true)).await;
    change(spec(true, false)).await;
    until(LIMIT, async || {
        let deployment = sandbox.child(DEPLOYMENT, "shop").await;
        let ports = &deployment.data["spec"]["template"]["spec"]["containers"][0]["ports"];
        let of_the_operator = |manager: &str, field: &str| {
            deployment.managed_fields().iter().any(|entry| {
                let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
                entry.manager.as_deref() == Some(manager)
                    && fields.is_some_and(|fields| fields.pointer(field).is_some())
            })
        };
        let is_handed_over = !of_the_operator(FIELD_MANAGER, "/f:spec/f:replicas");
        if ports[0]["containerPort"] == 8080 && ports[1].is_null() && is_handed_over {
            Ok(())
        } else {
            Err(format!("handed over: {is_handed_over}, {ports}"))
        }
    })
    .await;
    until_owned_by_apply_alone(&sandbox, DEPLOYMENT).await;
}

#[tokio::test]
async fn what_an_operator_left_that_was_killed_in_the_middle_is_cleared_away() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let mut operator = installation.start("first");
    sandbox.apply("shop", json!({ "image": "example.com/shop:1" })).await;
    sandbox.until_created("shop").await;
    for kind in [SERVICE, DEPLOYMENT] {
        leave_an_entry(&sandbox, kind).await;
        until_owned_by_apply_alone(&sandbox, kind).await;
        assert!(sandbox.child(kind, "shop").await.labels().contains_key("left"), "{kind:?}");
    }
    operator.kill();
    leave_an_entry(&sandbox, SERVICE).await;
    let _operator = installation.start_with("second", &["--leader-elect=false"]);
    until(LIMIT, async || entry_of_a_patch(&sandbox.child(SERVICE, "shop").await)).await;
}

/// A patch by the operator's manager, as the one that sets a port back.
async fn leave_an_entry(sandbox: &Sandbox, kind: ChildKind) {
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let patch = Patch::Merge(json!({ "metadata": { "labels": { "left": sandbox.namespace } } }));
    let children = sandbox.children(kind);
    // Anew each time: what does not change anything leaves no entry.
    let none = Patch::Merge(json!({ "metadata": { "labels": { "left": null } } }));
    children.patch("shop", &PatchParams::default(), &none).await.unwrap();
    let left = children.patch("shop", &parameters, &patch).await.unwrap();
    entry_of_a_patch(&left).expect_err("an entry");
}

async fn until_owned_by_apply_alone(sandbox: &Sandbox, kind: ChildKind) {
    until(SOON, async || entry_of_a_patch(&sandbox.child(kind, "shop").await)).await;
}

fn entry_of_a_patch(child: &DynamicObject) -> Result<(), String> {
    let mut ours =
        child.managed_fields().iter().filter(|entry| entry.manager.as_deref() == Some(FIELD_MANAGER));
    match ours.find(|entry| entry.operation.as_deref() == Some("Update")) {
        None => Ok(()),
        Some(entry) => Err(format!("an entry beside that of apply: {entry:?}")),
    }
}

fn in_words(port: &Value, key: &str) -> String {
    format!("{} {}/{}", port["name"].as_str().unwrap(), port[key], port["protocol"].as_str().unwrap_or("TCP"))
}
