//! Under which account the application's pods run.

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::schema::{self, rule};

/// The ServiceAccount of the application's pods.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rule(
        "!self.create || !has(self.name)",
        "spec.serviceAccount: the account that create makes is named like the CachedService; remove name, or set create to false",
    ),
    validation = rule(
        "self.create || !has(self.annotations) || self.annotations.size() == 0",
        "spec.serviceAccount.annotations go on the account that create makes; set create to true, or annotate your own account itself",
    ),
)]
pub struct ServiceAccount {
    /// Whether the operator makes an account for these pods alone, named like
    /// the CachedService. Default false.
    #[serde(default)]
    pub create: bool,

    /// The name of an account that exists in the same namespace. Unset: the
    /// account that `create` makes or `template` names, else the namespace's
    /// `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub name: Option<String>,

    /// Annotations for the account that `create` makes, for example for a
    /// cloud's workload identity. Default: none of your own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::annotations")]
    #[x_kube(validation = schema::own_keys_rule("spec.serviceAccount.annotations"))]
    pub annotations: BTreeMap<String, String>,

    /// Whether the pods get a token of the account with which they can use the
    /// Kubernetes API. Default false; `template` can switch it on too.
    #[serde(default)]
    pub automount_token: bool,
}
