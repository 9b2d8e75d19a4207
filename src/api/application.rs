//! Resources and shutdown of the application container.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// CPU and memory of a container, in Kubernetes quantities.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// What the scheduler sets aside for the container: CPU in cores (`250m` is
    /// a quarter of one), memory in bytes (`512Mi`). Unset: as much as `limits`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::quantities")]
    pub requests: BTreeMap<String, Quantity>,

    /// What the container may use at most, in the units of `requests`. Unset:
    /// no limit.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::quantities")]
    pub limits: BTreeMap<String, Quantity>,
}

impl Default for Resources {
    fn default() -> Self {
        Self {
            requests: BTreeMap::from([
                ("cpu".to_owned(), Quantity("100m".to_owned())),
                ("memory".to_owned(), Quantity("128Mi".to_owned())),
            ]),
            limits: BTreeMap::new(),
        }
    }
}

/// How a pod leaves.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Shutdown {
    /// How long a leaving pod goes on serving before SIGTERM, so that load
    /// balancers can take it out first. A duration such as `5s`, 24h at most,
    /// rounded up to whole seconds; `0s` switches it off. With `balancing` it is at
    /// least `12s`. Unset: `5s`, and `12s` with `balancing`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = schema::duration_rule("spec.shutdown.drain"))]
    pub drain: Option<String>,

    /// How long the application may take to end after SIGTERM before it is
    /// killed. A duration such as `30s`, 24h at most, rounded up to whole
    /// seconds. Default `30s`.
    #[serde(default = "default_timeout")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = schema::duration_rule("spec.shutdown.timeout"))]
    pub timeout: String,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { drain: None, timeout: default_timeout() }
    }
}

fn default_timeout() -> String {
    "30s".to_owned()
}
