//! The sidecar in the application's pods.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{Resources, schema::rule};

/// The sidecar in the application's pods, which is there while a tier of `cache`
/// or `balancing` is on.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Sidecar {
    /// The image of the sidecar, of the operator's version. Unset: the image that
    /// the operator was installed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub image: Option<String>,

    /// When the kubelet pulls the image: `Always`, `IfNotPresent` or `Never`.
    /// Unset: `Always` for the tag `latest`, else `IfNotPresent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 12))]
    #[x_kube(validation = rule(
        "self in ['Always', 'IfNotPresent', 'Never']",
        "spec.sidecar.imagePullPolicy: write Always, IfNotPresent or Never",
    ))]
    pub image_pull_policy: Option<String>,

    /// CPU and memory of the sidecar. Default: a request of 50m CPU, which is also
    /// there where neither a request nor a limit of CPU is written, as the
    /// autoscaler measures against it. Where no memory is written, request and
    /// limit are 64Mi, while the HTTP cache is on `cache.http.memory`, and while the
    /// near-cache is on `cache.application.memory` and 50Mi, or more where its pool
    /// is larger than the default or a value may be larger than 8Mi.
    #[serde(default = "default_resources")]
    pub resources: Resources,

    /// Whether the sidecar writes a line of JSON to stdout for each request: time,
    /// method, path without its query, status, bytes, duration, what the cache did,
    /// who is connected, and the trace. Default false. It
    /// holds without a restart.
    #[serde(default)]
    pub access_log: bool,
}

impl Default for Sidecar {
    fn default() -> Self {
        Self { image: None, image_pull_policy: None, resources: default_resources(), access_log: false }
    }
}

fn default_resources() -> Resources {
    let requests = [("cpu".to_owned(), Quantity("50m".to_owned()))];
    Resources { requests: requests.into(), limits: BTreeMap::new() }
}
