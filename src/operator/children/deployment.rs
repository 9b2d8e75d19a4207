//! The application's Deployment.

use k8s_openapi::{
    api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::pod_template::pod_template;
use crate::{
    api::names::APP,
    operator::plan::{Plan, Replicas},
};

/// The application's Deployment, without `spec.replicas` where the autoscaler sets it.
pub(super) fn deployment(plan: &Plan) -> Deployment {
    let identity = &plan.identity;
    Deployment {
        metadata: identity.child(&identity.name, APP),
        spec: DeploymentSpec {
            replicas: match plan.replicas {
                Replicas::Fixed(replicas) => Some(replicas),
                Replicas::Autoscaled { .. } => None,
            },
            selector: identity.selector(APP),
            // A new pod is available before an old one leaves.
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::String("25%".to_owned())),
                    max_unavailable: Some(IntOrString::Int(0)),
                }),
            }),
            progress_deadline_seconds: Some(plan.progress_deadline_seconds),
            template: pod_template(plan),
            ..DeploymentSpec::default()
        },
        status: None,
    }
}
