//! Of all who miss a key, one is told so.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::api::schema::{lasts, rule};

/// Of all who miss a key, one is told so, and the others wait for what it writes.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rule(
        "duration(self.lease) <= duration(self.wait)",
        "spec.cache.application.rules: singleFlight.lease: write at most wait; who waits is to be there still when another is told",
    ),
)]
pub struct NearCacheSingleFlight {
    /// How long the others wait at most; then they are told too that there is nothing.
    /// Shorter than the application's client waits for a reply. A duration from 10ms to
    /// 30s. Default `1500ms`.
    #[serde(default = "default_wait")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = lasts("spec.cache.application.rules: singleFlight.wait", ("10ms", "30s")))]
    pub wait: String,

    /// How long the one has until another of them is told; longer than the database
    /// takes. A duration from 10ms to 30s, at most `wait`. Default `1s`.
    #[serde(default = "default_lease")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = lasts("spec.cache.application.rules: singleFlight.lease", ("10ms", "30s")))]
    pub lease: String,
}

fn default_wait() -> String {
    "1500ms".to_owned()
}

fn default_lease() -> String {
    "1s".to_owned()
}
