//! The whole of it on a real node: Helm, pods, Redis, the autoscaler.
//!
//! One cluster, one operator installed by Helm, tests one after the other: the
//! node is this machine.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

mod chart;
mod examples;
mod http_cache;
mod http_replicas;
mod http_trouble;
mod near_cache;
mod network_policies;
mod pods;
mod redis;
mod redis_data;
mod scaling;
mod trouble;

use support::{Cluster, DEMO_IMAGE, OPERATOR, OPERATOR_NAMESPACE, Sandbox};

/// A namespace on the cluster with a node, where the operator of the chart looks after everything.
/// What earlier tests left goes first: the node is small.
async fn sandbox() -> Sandbox {
    let cluster = Cluster::with_node().await;
    cluster.forget_earlier_runs(&cluster.client().await).await;
    Sandbox::new(cluster).await
}

/// The operator's name in the audit log.
fn operator() -> String {
    format!("system:serviceaccount:{OPERATOR_NAMESPACE}:{OPERATOR}")
}

/// The demo application, as a spec.
fn demo() -> serde_json::Value {
    serde_json::json!({ "image": DEMO_IMAGE, "runAsNonRoot": true })
}

/// GET of a path of the service `shop`, through the API server's proxy to its Service.
async fn ask(sandbox: &Sandbox, path: &str) -> Result<serde_json::Value, String> {
    let uri = format!("/api/v1/namespaces/{}/services/shop:http/proxy{path}", sandbox.namespace);
    let request = http::Request::get(uri).body(Vec::new()).unwrap();
    sandbox.client.request(request).await.map_err(|error| error.to_string())
}
