//! Kinds that the cluster does not have, and gets.
//!
//! Here and not beside the other tests of children: the garbage collector stands
//! still for a while when kinds come and go.

use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    alone,
    support::{
        Sandbox,
        child::{ChildKind, HTTP_ROUTE, POD_MONITOR, REDIS_POD_MONITOR},
        condition, until,
    },
};

const LIMIT: Duration = Duration::from_secs(10);
/// A kind that appears is looked for every 15 seconds.
const APPEARS: Duration = Duration::from_secs(40);

#[tokio::test]
async fn a_route_waits_for_its_kind_and_says_so() {
    let (sandbox, _turn) = alone().await;
    let definition =
        Definition::absent(&sandbox, "gateway.networking.k8s.io", "HTTPRoute", "httproutes").await;
    let installation = sandbox.install().await;
    let mut operator = installation.start("first");
    let _kubelet = sandbox.kubelet();
    let routed = json!({
        "image": "example.com/shop:1",
        "httpRoute": { "parentRefs": [{ "name": "public" }] },
    });
    sandbox.apply("shop", routed).await;
    let told = sandbox.until_condition(LIMIT, "shop", "Degraded", "True", "KindMissing").await;
    assert!(told.message.contains("HTTPRoute shop") && told.message.contains("Gateway API"), "{told:?}");

    definition.create().await;
    until_there(&sandbox, HTTP_ROUTE).await;
    sandbox.until_ready("shop").await;
    let route = sandbox.child(HTTP_ROUTE, "shop").await;
    assert_eq!(route.data["spec"]["rules"][0]["backendRefs"], json!([{ "name": "shop", "port": 80 }]));

    // What an operator does not want that finds it at its start goes.
    assert!(operator.terminate().await.success(), "{}", operator.log());
    sandbox.apply("shop", json!({ "image": "example.com/shop:1" })).await;
    let _operator = installation.start("second");
    until_gone(&sandbox, HTTP_ROUTE).await;
    sandbox.until_ready("shop").await;
    definition.delete().await;
}

#[tokio::test]
async fn monitors_are_made_as_soon_as_the_cluster_has_their_kind() {
    let (sandbox, _turn) = alone().await;
    let definition = Definition::absent(&sandbox, "monitoring.coreos.com", "PodMonitor", "podmonitors").await;
    let installation = sandbox.install().await;
    let _operator = installation.start("only");
    let _kubelet = sandbox.kubelet();
    let monitored = json!({
        "image": "example.com/shop:1",
        "monitoring": { "enabled": true, "labels": { "release": "prometheus" } },
        "redis": { "exporter": { "enabled": true } },
    });
    sandbox.apply("shop", monitored).await;
    // Without the kind nothing is wrong.
    sandbox.until_ready("shop").await;
    let service = sandbox.service("shop").await;
    assert_eq!(condition(&service, "Degraded").unwrap().reason, "AllWell");

    definition.create().await;
    for monitor in [POD_MONITOR, REDIS_POD_MONITOR] {
        until_there(&sandbox, monitor).await;
        assert_eq!(sandbox.child(monitor, "shop").await.labels()["release"], "prometheus");
    }
    // One that is deleted by hand is back, as every child is.
    sandbox.children(POD_MONITOR).delete("shop", &DeleteParams::default()).await.unwrap();
    until_there(&sandbox, POD_MONITOR).await;

    sandbox.apply("shop", json!({ "image": "example.com/shop:1" })).await;
    for monitor in [POD_MONITOR, REDIS_POD_MONITOR] {
        until_gone(&sandbox, monitor).await;
    }
    definition.delete().await;
}

async fn until_there(sandbox: &Sandbox, child: ChildKind) {
    until(APPEARS, async || match sandbox.children(child).get(&child.name("shop")).await {
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    })
    .await;
}

async fn until_gone(sandbox: &Sandbox, child: ChildKind) {
    until(LIMIT, async || match sandbox.find(child, "shop").await {
        None => Ok(()),
        Some(_) => Err(format!("{child:?} is there")),
    })
    .await;
}

/// A kind of another project's, as far as these tests need it.
struct Definition {
    api: Api<CustomResourceDefinition>,
    name: String,
    manifest: Value,
}

impl Definition {
    /// The cluster does not have it: another run may have left it.
    async fn absent(sandbox: &Sandbox, group: &str, kind: &str, plural: &str) -> Self {
        let name = format!("{plural}.{group}");
        let manifest = json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {
                "name": name,
                // Groups of Kubernetes' own name are protected.
                "annotations": { "api-approved.kubernetes.io": "https://github.com/kubernetes-sigs/gateway-api" },
            },
            "spec": {
                "group": group,
                "scope": "Namespaced",
                "names": { "kind": kind, "plural": plural, "singular": kind.to_lowercase() },
                "versions": [{
                    "name": "v1", "served": true, "storage": true,
                    "schema": { "openAPIV3Schema": {
                        "type": "object", "x-kubernetes-preserve-unknown-fields": true,
                    } },
                }],
            },
        });
        let definition = Self { api: Api::all(sandbox.client.clone()), name, manifest };
        definition.delete().await;
        definition
    }

    async fn create(&self) {
        let parameters = PatchParams::apply("tests");
        self.api.patch(&self.name, &parameters, &Patch::Apply(&self.manifest)).await.unwrap();
    }

    async fn delete(&self) {
        until(LIMIT, async || match self.api.delete(&self.name, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            became => Err(format!("{} is there: {became:?}", self.name)),
        })
        .await;
    }
}
