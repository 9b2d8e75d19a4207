//! From version 0.1.0 to this one, by Helm, with pods that fake nodes keep running.
//!
//! No container runs on a fake node. So the pods of the operator's Deployment are for show, and its
//! processes run beside the cluster, with the service account of the chart.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/mod.rs"]
mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt, api::ListParams};
use serde_json::{Value, json};
use support::{
    CHART, Cluster, Installation, OPERATOR_NAMESPACE, Release, Sandbox,
    child::{CHILDREN, ChildKind, DEPLOYMENT, STATEFUL_SET},
    until,
};

const SERVICES: usize = 50;
const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn from_0_1_0_with_fifty_services_nothing_restarts_or_goes_and_new_fields_work_at_once() {
    let release = Release::first();
    let cluster = Cluster::anew_with_fake_nodes("upgrade").await;
    cluster.install(&release.chart);
    let sandbox = Sandbox::new(cluster).await;
    let installation = Installation::of_the_chart(cluster).await;
    let mut old = installation.start_binary(&release.binary, "old");
    old.until_leading(LIMIT).await;
    let names: Vec<String> = (0..SERVICES).map(|number| format!("shop-{number}")).collect();
    for (number, name) in names.iter().enumerate() {
        sandbox.apply(name, spec(number)).await;
    }
    for name in &names {
        sandbox.until_condition(Duration::from_secs(240), name, "Ready", "True", "Serving").await;
    }
    sandbox.until_quiet(&installation.user, &[&installation.user]).await;
    let before = state(&sandbox).await;
    let pods = |state: &BTreeMap<String, Value>| state.keys().filter(|key| key.starts_with("Pod/")).count();
    assert!(pods(&before) >= 2 * SERVICES, "{} pods", pods(&before));

    let mark = sandbox.audit_mark().await;
    cluster.install(Path::new(CHART));
    // The Deployment starts a new pod before it ends an old one.
    let new = installation.start("new");
    new.until_standing_by(LIMIT).await;
    assert!(old.terminate().await.success());
    new.until_leading(LIMIT).await;
    sandbox.until_quiet(&installation.user, &[&installation.user]).await;
    for name in &names {
        sandbox.until_ready(name).await;
    }
    let after = state(&sandbox).await;
    for (key, was) in &before {
        assert_eq!(after.get(key), Some(was), "{key}");
    }
    // Children of kinds that 0.1.0 did not make may have come.
    assert_eq!(pods(&before), pods(&after), "pods came beside them");
    let mut deletions = sandbox.everyone_since(mark).await;
    // Of the operator's own pods each makes room for a new one, and Helm keeps no more than some releases.
    let own = format!("/namespaces/{OPERATOR_NAMESPACE}/");
    deletions.retain(|entry| entry.is_deletion() && !entry.uri.contains(&own));
    assert!(deletions.is_empty(), "{deletions:#?}");

    new_fields_work(&sandbox, &release).await;
}

/// Specs of five sorts in turn.
fn spec(number: usize) -> Value {
    let mut spec = match number % 5 {
        0 => json!({}),
        1 => json!({ "autoscaling": { "enabled": false }, "replicas": 2 }),
        2 => json!({ "redis": { "auth": { "enabled": false }, "memory": "64Mi" }, "runAsNonRoot": true }),
        3 => json!({
            "shutdown": { "drain": "2s" },
            "probes": { "path": "/up", "liveness": { "enabled": false } },
            "template": { "spec": { "terminationGracePeriodSeconds": 90 } },
        }),
        _ => json!({
            "autoscaling": { "minReplicas": 3, "targetMemoryUtilization": 80 },
            "resources": { "requests": { "cpu": "10m", "memory": "16Mi" } },
            "service": { "port": 81 },
        }),
    };
    spec["image"] = json!("example.com/shop:1");
    spec
}

/// What an upgrade must not change: which objects there are, and of what the pods are made.
async fn state(sandbox: &Sandbox) -> BTreeMap<String, Value> {
    let mut state = BTreeMap::new();
    for pod in sandbox.api::<Pod>().list(&ListParams::default()).await.unwrap() {
        let restarts = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
        let restarts: i32 = restarts.map(|container| container.restart_count).sum();
        state.insert(format!("Pod/{}", pod.name_any()), json!([pod.uid(), restarts]));
    }
    for ChildKind { kind, .. } in CHILDREN {
        let of_kind = CHILDREN.into_iter().find(|child| child.kind == kind).unwrap();
        for object in sandbox.children(of_kind).list(&ListParams::default()).await.unwrap() {
            let runs_pods = [DEPLOYMENT.kind, STATEFUL_SET.kind].contains(&kind);
            let template =
                runs_pods.then(|| json!([object.metadata.generation, object.data["spec"]["template"]]));
            state.insert(format!("{kind}/{}", object.name_any()), json!([object.uid(), template]));
        }
    }
    state
}

/// A field that the CRD of 0.1.0 lacks does what it is for.
async fn new_fields_work(sandbox: &Sandbox, release: &Release) {
    let before = fields(&release.chart);
    let new: Vec<String> = fields(Path::new(CHART)).difference(&before).cloned().collect();
    println!("new fields: {new:?}");
    if new.is_empty() {
        return;
    }
    assert!(new.contains(&"ingress".to_owned()), "none of these is tried here: {new:?}");
    let patch = json!({ "spec": { "ingress": { "hosts": ["shop.example.com"] } } }).to_string();
    sandbox.kubectl(&["patch", "cachedservice", "shop-0", "--type=merge", "--patch", &patch]);
    until(LIMIT, async || {
        let host = "jsonpath={.spec.rules[0].host}";
        let host = sandbox.try_kubectl(&["get", "ingress", "shop-0", "--output", host])?;
        if host == "shop.example.com" { Ok(()) } else { Err(host) }
    })
    .await;
}

/// The fields of `spec` in the CRD of a chart.
fn fields(chart: &Path) -> BTreeSet<String> {
    let crd = chart.join("files/cachedservices.cachedservice.dev.yaml");
    let crd = std::fs::read_to_string(crd).unwrap();
    let crd: Value = serde_saphyr::from_str(&crd).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    schema["properties"]["spec"]["properties"].as_object().unwrap().keys().cloned().collect()
}
