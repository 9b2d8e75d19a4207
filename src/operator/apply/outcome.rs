//! The children after an apply, and what it changed.

use std::{fmt, sync::Arc};

use crate::operator::{
    error::ChildError,
    seen::{
        SeenAutoscaler, SeenClaim, SeenConfigMap, SeenDeployment, SeenDisruptionBudget, SeenHttpRoute,
        SeenIngress, SeenNetworkPolicy, SeenPodMonitor, SeenSecret, SeenService, SeenServiceAccount,
        SeenStatefulSet,
    },
};

/// What stands at the name of a child now: the object, or nothing where none is wanted.
pub type Outcome<K> = Result<Option<Arc<K>>, ChildError>;

/// The children after an apply, and what it changed.
pub struct Applied {
    /// The Secret.
    pub redis_secret: Outcome<SeenSecret>,
    /// The ConfigMap.
    pub redis_config: Outcome<SeenConfigMap>,
    /// Redis's Service.
    pub redis_service: Outcome<SeenService>,
    /// Redis's NetworkPolicy.
    pub redis_policy: Outcome<SeenNetworkPolicy>,
    /// The PersistentVolumeClaim.
    pub redis_claim: Outcome<SeenClaim>,
    /// The StatefulSet.
    pub stateful_set: Outcome<SeenStatefulSet>,
    /// The `PodMonitor` of Redis's exporter.
    pub redis_monitor: Outcome<SeenPodMonitor>,
    /// The application's Service.
    pub service: Outcome<SeenService>,
    /// The Service of the pods that requests are spread over.
    pub peers_service: Outcome<SeenService>,
    /// The application's NetworkPolicy.
    pub app_policy: Outcome<SeenNetworkPolicy>,
    /// The Ingress.
    pub ingress: Outcome<SeenIngress>,
    /// The `HTTPRoute`.
    pub http_route: Outcome<SeenHttpRoute>,
    /// The Secret with the key of digests.
    pub digest_key: Outcome<SeenSecret>,
    /// The sidecars' Secret.
    pub sidecar_secret: Outcome<SeenSecret>,
    /// The sidecars' ConfigMap.
    pub sidecar_config: Outcome<SeenConfigMap>,
    /// The ServiceAccount.
    pub service_account: Outcome<SeenServiceAccount>,
    /// The PodDisruptionBudget.
    pub disruption_budget: Outcome<SeenDisruptionBudget>,
    /// The Deployment.
    pub deployment: Outcome<SeenDeployment>,
    /// The HorizontalPodAutoscaler.
    pub autoscaler: Outcome<SeenAutoscaler>,
    /// The application's `PodMonitor`.
    pub app_monitor: Outcome<SeenPodMonitor>,
    /// What was changed, in order.
    pub changes: Vec<Change>,
}

impl Applied {
    /// The failures, in the order of the children.
    #[must_use]
    pub fn failures(&self) -> Vec<&ChildError> {
        let Self {
            redis_secret,
            redis_config,
            redis_service,
            redis_policy,
            redis_claim,
            stateful_set,
            redis_monitor,
            service,
            peers_service,
            app_policy,
            ingress,
            http_route,
            digest_key,
            sidecar_secret,
            sidecar_config,
            service_account,
            disruption_budget,
            deployment,
            autoscaler,
            app_monitor,
            changes: _,
        } = self;
        [
            redis_secret.as_ref().err(),
            redis_config.as_ref().err(),
            redis_service.as_ref().err(),
            redis_policy.as_ref().err(),
            redis_claim.as_ref().err(),
            stateful_set.as_ref().err(),
            redis_monitor.as_ref().err(),
            service.as_ref().err(),
            peers_service.as_ref().err(),
            app_policy.as_ref().err(),
            ingress.as_ref().err(),
            http_route.as_ref().err(),
            digest_key.as_ref().err(),
            sidecar_secret.as_ref().err(),
            sidecar_config.as_ref().err(),
            service_account.as_ref().err(),
            disruption_budget.as_ref().err(),
            deployment.as_ref().err(),
            autoscaler.as_ref().err(),
            app_monitor.as_ref().err(),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Whether something stands at a name at which nothing was seen.
    #[must_use]
    pub fn found_a_name_taken(&self) -> bool {
        self.failures().iter().any(|failure| matches!(failure, ChildError::Taken { .. }))
    }

    /// Whether something was created, and nothing failed.
    #[must_use]
    pub fn is_creation(&self) -> bool {
        self.failures().is_empty() && self.changes.iter().any(|change| change.act == Act::Created)
    }

    /// The failures, for the error policy.
    #[must_use]
    pub fn into_failures(self) -> Vec<ChildError> {
        let Self {
            redis_secret,
            redis_config,
            redis_service,
            redis_policy,
            redis_claim,
            stateful_set,
            redis_monitor,
            service,
            peers_service,
            app_policy,
            ingress,
            http_route,
            digest_key,
            sidecar_secret,
            sidecar_config,
            service_account,
            disruption_budget,
            deployment,
            autoscaler,
            app_monitor,
            changes: _,
        } = self;
        [
            redis_secret.err(),
            redis_config.err(),
            redis_service.err(),
            redis_policy.err(),
            redis_claim.err(),
            stateful_set.err(),
            redis_monitor.err(),
            service.err(),
            peers_service.err(),
            app_policy.err(),
            ingress.err(),
            http_route.err(),
            digest_key.err(),
            sidecar_secret.err(),
            sidecar_config.err(),
            service_account.err(),
            disruption_budget.err(),
            deployment.err(),
            autoscaler.err(),
            app_monitor.err(),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// One write to a child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What was done.
    pub act: Act,
    /// To which kind.
    pub kind: &'static str,
    /// Of which name.
    pub name: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// What was done to a child, or would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// It did not exist.
    Created,
    /// Something else is wanted of it than before.
    Configured,
    /// Somebody had changed a field of ours.
    Corrected,
    /// It is no longer wanted.
    Deleted,
}

impl Act {
    /// As it follows the name of an object.
    #[must_use]
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Configured => "changed",
            Self::Corrected => "set back",
            Self::Deleted => "deleted",
        }
    }
}
