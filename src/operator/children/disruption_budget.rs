//! How many of the application's pods may be evicted at once.

use k8s_openapi::{
    api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};

use crate::{
    api::{DisruptionBudget, names::APP},
    operator::plan::Identity,
};

/// By default one at a time: a node can always be drained, whatever the number of pods.
pub(super) fn disruption_budget(identity: &Identity, wanted: &DisruptionBudget) -> PodDisruptionBudget {
    let least = wanted.min_available.clone();
    let most = wanted.max_unavailable.clone().or_else(|| least.is_none().then_some(IntOrString::Int(1)));
    PodDisruptionBudget {
        metadata: identity.child(&identity.name, APP),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: most,
            min_available: least,
            selector: Some(identity.selector(APP)),
            // A pod that is not ready protects nobody and must not hold up a drain.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
        }),
        status: None,
    }
}
