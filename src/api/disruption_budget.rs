//! How many pods may be evicted at once.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::schema::{self, rule};

/// The `PodDisruptionBudget` of the application. Node drains keep to it; rollouts
/// and nodes that fail do not.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rule(
        "!has(self.maxUnavailable) || !has(self.minAvailable)",
        "spec.disruptionBudget: write maxUnavailable or minAvailable, not both",
    ),
    validation = rule(
        "self.enabled || (!has(self.maxUnavailable) && !has(self.minAvailable))",
        "spec.disruptionBudget: with enabled false there is no budget; remove maxUnavailable and minAvailable, or set enabled to true",
    ),
)]
pub struct DisruptionBudget {
    /// Whether there is a budget. Without one, draining nodes can evict all pods
    /// at once. Default true.
    #[serde(default = "default_enabled")]
    pub enabled: bool,

    /// How many pods may be away at once: a number, or a percentage of the
    /// pods wanted, such as `25%`, rounded up. Unset: 1, unless `minAvailable`
    /// is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count_or_percentage")]
    #[x_kube(validation = rule(
        "type(self) == int ? self >= 1 && self <= 10000 : self.matches('^([1-9][0-9]?|100)%$')",
        "spec.disruptionBudget.maxUnavailable: write a number from 1 to 10000 or a percentage from 1% to 100%; with none to evict, no node could be drained",
    ))]
    pub max_unavailable: Option<IntOrString>,

    /// How many pods have to stay: a number, or a percentage of the pods
    /// wanted, such as `50%`, rounded up. Where that is all of them, as it is
    /// with 1 of 1 or 90% of 5, no node can be drained. Unset: `maxUnavailable`
    /// counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count_or_percentage")]
    #[x_kube(validation = rule(
        "type(self) == int ? self >= 0 && self <= 10000 : self.matches('^[1-9]?[0-9]%$')",
        "spec.disruptionBudget.minAvailable: write a number from 0 to 10000 or a percentage from 0% to 99%; with 100% no node could be drained",
    ))]
    pub min_available: Option<IntOrString>,
}

impl Default for DisruptionBudget {
    fn default() -> Self {
        Self { enabled: default_enabled(), max_unavailable: None, min_available: None }
    }
}

fn default_enabled() -> bool {
    true
}
