//! Kinds of other projects, which a cluster may not have: the fields that the operator sets, no others.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::CustomResource;
use serde::{Deserialize, Serialize};

use crate::api::GatewayRef;

/// A route of the Gateway API (its reference, `HTTPRoute`).
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug)]
#[kube(
    group = "gateway.networking.k8s.io",
    version = "v1",
    kind = "HTTPRoute",
    plural = "httproutes",
    namespaced,
    schema = "disabled"
)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteSpec {
    /// The Gateways that it attaches to.
    pub parent_refs: Vec<GatewayRef>,
    /// The host names; none: those of the listeners.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hostnames: Vec<String>,
    /// What goes where.
    pub rules: Vec<HttpRouteRule>,
}

/// What goes where.
#[derive(Serialize, Deserialize, Clone, Debug)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteRule {
    /// Which requests.
    pub matches: Vec<HttpRouteMatch>,
    /// To which Services.
    pub backend_refs: Vec<BackendRef>,
}

/// Which requests.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct HttpRouteMatch {
    /// By their path.
    pub path: HttpPathMatch,
}

/// A path.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct HttpPathMatch {
    /// `PathPrefix` or `Exact`.
    #[serde(rename = "type")]
    pub type_: String,
    /// The path.
    pub value: String,
}

/// A Service in the same namespace.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct BackendRef {
    /// Its name.
    pub name: String,
    /// Its port.
    pub port: i32,
}

/// Where a Prometheus finds the metrics of pods (Prometheus Operator, API reference).
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug)]
#[kube(
    group = "monitoring.coreos.com",
    version = "v1",
    kind = "PodMonitor",
    plural = "podmonitors",
    namespaced,
    schema = "disabled"
)]
#[serde(rename_all = "camelCase")]
pub struct PodMonitorSpec {
    /// The pods.
    pub selector: LabelSelector,
    /// The labels of the pods that their metrics get.
    pub pod_target_labels: Vec<String>,
    /// The ports of the pods.
    pub pod_metrics_endpoints: Vec<PodMetricsEndpoint>,
}

/// A port with metrics.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct PodMetricsEndpoint {
    /// The name of the port.
    pub port: String,
    /// The path on it.
    pub path: String,
    /// How often it is read.
    pub interval: String,
}
