//! The Service in front of the application.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema::rule;

/// The Service in front of the application.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rule(
        "!has(oldSelf.clusterIP) || (has(self.clusterIP) && self.clusterIP == oldSelf.clusterIP)",
        "spec.service.clusterIP cannot change once it is set (Kubernetes keeps the address of a Service); create a CachedService of another name instead",
    ),
    validation = rule(
        "!has(self.clusterIP) || has(oldSelf.clusterIP)",
        "spec.service.clusterIP can only be set when the CachedService is created (Kubernetes keeps the address of a Service)",
    ),
)]
pub struct Service {
    /// The port of the Service, 1 to 65535. Default 80.
    #[serde(default = "default_port")]
    #[x_kube(validation = rule(
        "self >= 1 && self <= 65535",
        "spec.service.port: write a port from 1 to 65535",
    ))]
    pub port: i32,

    /// How the Service is reached: `ClusterIP` inside the cluster, `NodePort` on
    /// a port of every node too, `LoadBalancer` through one of the cloud's too.
    /// Default `ClusterIP`.
    #[serde(default, rename = "type")]
    pub type_: ServiceType,

    /// Annotations for the Service, for example for a cloud's load balancer.
    /// Default: none of your own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub annotations: BTreeMap<String, String>,

    /// A fixed address for the Service, or `None` for a headless one. Unset:
    /// Kubernetes chooses. It cannot be set or changed later.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "clusterIP")]
    #[schemars(length(min = 1, max = 45))]
    pub cluster_ip: Option<String>,
}

impl Default for Service {
    fn default() -> Self {
        Self {
            port: default_port(),
            type_: ServiceType::default(),
            annotations: BTreeMap::new(),
            cluster_ip: None,
        }
    }
}

/// The type of a Service.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServiceType {
    /// An address inside the cluster.
    #[default]
    ClusterIP,
    /// A port on every node as well.
    NodePort,
    /// A load balancer of the cloud as well.
    LoadBalancer,
}

impl ServiceType {
    /// The name that Kubernetes uses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClusterIP => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
        }
    }
}

fn default_port() -> i32 {
    80
}
