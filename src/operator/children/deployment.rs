//! The application's Deployment.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};

use super::pod_template::pod_template;
use crate::{
    api::{Rollout, RolloutStrategy, names::APP},
    operator::plan::{Plan, Replicas},
};

/// The application's Deployment, without `spec.replicas` where the autoscaler sets it.
pub(super) fn deployment(plan: &Plan) -> Deployment {
    let (identity, rollout) = (&plan.identity, &plan.spec.rollout);
    Deployment {
        metadata: identity.child(&identity.name, APP),
        spec: DeploymentSpec {
            replicas: match plan.replicas {
                Replicas::Fixed(replicas) => Some(replicas),
                Replicas::Autoscaled { .. } => None,
            },
            selector: identity.selector(APP),
            strategy: Some(strategy(rollout)),
            // Unset where it is Kubernetes' own default, as in version 0.1.0.
            min_ready_seconds: Some(rollout.min_ready_seconds).filter(|seconds| *seconds > 0),
            revision_history_limit: rollout.revision_history_limit,
            progress_deadline_seconds: Some(plan.progress_deadline_seconds),
            template: pod_template(plan),
            ..DeploymentSpec::default()
        },
        status: None,
    }
}

fn strategy(rollout: &Rollout) -> DeploymentStrategy {
    match rollout.strategy {
        RolloutStrategy::RollingUpdate => DeploymentStrategy {
            type_: Some("RollingUpdate".to_owned()),
            rolling_update: Some(RollingUpdateDeployment {
                max_surge: Some(rollout.max_surge.clone()),
                max_unavailable: Some(rollout.max_unavailable.clone()),
            }),
        },
        RolloutStrategy::Recreate => {
            DeploymentStrategy { type_: Some("Recreate".to_owned()), rolling_update: None }
        }
    }
}
