//! How new pods take the place of old ones.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema::{self, rule};

/// How pods of a new template take the place of those of an earlier one.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rule(
        "self.strategy == 'Recreate' || !(self.maxSurge in [dyn(0), dyn('0%')]) || !(self.maxUnavailable in [dyn(0), dyn('0%')])",
        "spec.rollout: maxSurge and maxUnavailable cannot both be 0, as no pod could be replaced; write 1 or more for one of them",
    ),
)]
pub struct Rollout {
    /// `RollingUpdate`: new pods come and old ones go a few at a time.
    /// `Recreate`: all old pods go before the first new one comes, so that no
    /// two templates run at once, and nothing serves meanwhile.
    /// Default `RollingUpdate`.
    #[serde(default)]
    pub strategy: RolloutStrategy,

    /// How many pods there may be beyond those wanted during a rolling update:
    /// a number, or a percentage of the pods wanted, rounded up. Default `25%`.
    #[serde(default = "default_max_surge")]
    #[schemars(schema_with = "schema::count_or_percentage")]
    #[x_kube(validation = rule(
        "type(self) == int ? self >= 0 && self <= 10000 : self.matches('^([1-9]?[0-9]|100)%$')",
        "spec.rollout.maxSurge: write a number from 0 to 10000 or a percentage from 0% to 100%",
    ))]
    pub max_surge: IntOrString,

    /// How many of the pods wanted may be away during a rolling update: a number,
    /// or a percentage of the pods wanted, rounded down. Default 0.
    #[serde(default = "default_max_unavailable")]
    #[schemars(schema_with = "schema::count_or_percentage")]
    #[x_kube(validation = rule(
        "type(self) == int ? self >= 0 && self <= 10000 : self.matches('^([1-9]?[0-9]|100)%$')",
        "spec.rollout.maxUnavailable: write a number from 0 to 10000 or a percentage from 0% to 100%",
    ))]
    pub max_unavailable: IntOrString,

    /// For how many seconds a new pod has to stay ready before it counts as
    /// available and the rollout goes on, 0 to 86399, and less than
    /// `progressDeadline`. Default 0.
    #[serde(default)]
    #[x_kube(validation = rule(
        "self >= 0 && self <= 86399",
        "spec.rollout.minReadySeconds: write a number of seconds from 0 to 86399",
    ))]
    pub min_ready_seconds: i32,

    /// Whether the application is rolled when a ConfigMap or Secret changes that
    /// its variables or volumes refer to, here or in `template`. To switch it on
    /// or off rolls it once. Default false.
    #[serde(default)]
    pub on_config_change: bool,

    /// How many earlier templates are kept for `kubectl rollout undo`, 0 to
    /// 1000. Unset: Kubernetes' own default, 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule(
        "self >= 0 && self <= 1000",
        "spec.rollout.revisionHistoryLimit: write a number from 0 to 1000",
    ))]
    pub revision_history_limit: Option<i32>,
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            strategy: RolloutStrategy::default(),
            max_surge: default_max_surge(),
            max_unavailable: default_max_unavailable(),
            min_ready_seconds: 0,
            on_config_change: false,
            revision_history_limit: None,
        }
    }
}

/// How pods of a new template take the place of those of an earlier one.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RolloutStrategy {
    /// New pods come and old ones go a few at a time.
    #[default]
    RollingUpdate,
    /// All old pods go before the first new one comes.
    Recreate,
}

fn default_max_surge() -> IntOrString {
    IntOrString::String("25%".to_owned())
}

fn default_max_unavailable() -> IntOrString {
    IntOrString::Int(0)
}
