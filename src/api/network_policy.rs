//! Who may connect to the pods.

use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Who may connect to the pods, as NetworkPolicies. They need a network plugin
/// that enforces them; without one they do nothing.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct NetworkPolicies {
    /// Connections to the Redis that the operator runs.
    #[serde(default)]
    pub redis: RedisNetworkPolicy,

    /// Connections to the application.
    #[serde(default)]
    pub app: AppNetworkPolicy,
}

/// Who may connect to Redis.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RedisNetworkPolicy {
    /// Whether Redis takes connections only from the pods of the application,
    /// the operator, and `from`, and makes none; its exporter's port stays open.
    /// Default true.
    #[serde(default = "default_redis_enabled")]
    pub enabled: bool,

    /// Who else may connect, as `from` of a NetworkPolicy. Default: nobody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "atomic"))]
    pub from: Vec<NetworkPolicyPeer>,
}

impl Default for RedisNetworkPolicy {
    fn default() -> Self {
        Self { enabled: default_redis_enabled(), from: Vec::new() }
    }
}

/// Who may connect to the application.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AppNetworkPolicy {
    /// Whether the application's pods take connections, on all their ports, only
    /// from `from`. Default false.
    #[serde(default)]
    pub enabled: bool,

    /// Who may connect, as `from` of a NetworkPolicy: an ingress controller, a
    /// Prometheus. Default, where nothing is written: the pods of the same
    /// namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "atomic"))]
    pub from: Vec<NetworkPolicyPeer>,
}

fn default_redis_enabled() -> bool {
    true
}
