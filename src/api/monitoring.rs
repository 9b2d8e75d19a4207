//! How a Prometheus finds the metrics.

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// `PodMonitor`s (`monitoring.coreos.com/v1`) for the metrics of the application
/// and of Redis's exporter, as far as the cluster has that kind; they are made
/// when it appears.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Monitoring {
    /// Whether there are `PodMonitor`s. Default false.
    #[serde(default)]
    pub enabled: bool,

    /// The name of the port of the application's pods that serves the metrics:
    /// `http` is `spec.port`, others are named in `template`. Default `http`.
    #[serde(default = "default_port_name")]
    #[schemars(length(min = 1, max = 15))]
    pub port_name: String,

    /// The path of the application's metrics. Default `/metrics`.
    #[serde(default = "default_path")]
    #[schemars(length(min = 1, max = 1024))]
    pub path: String,

    /// How often the metrics are read. A duration such as `15s` or `1m`, 24h at
    /// most. Default `30s`.
    #[serde(default = "default_interval")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = schema::duration_rule("spec.monitoring.interval"))]
    pub interval: String,

    /// Labels of the `PodMonitor`s, by which a Prometheus selects them. Default:
    /// none of your own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub labels: BTreeMap<String, String>,
}

impl Default for Monitoring {
    fn default() -> Self {
        Self {
            enabled: false,
            port_name: default_port_name(),
            path: default_path(),
            interval: default_interval(),
            labels: BTreeMap::new(),
        }
    }
}

fn default_port_name() -> String {
    "http".to_owned()
}

fn default_path() -> String {
    "/metrics".to_owned()
}

fn default_interval() -> String {
    "30s".to_owned()
}
