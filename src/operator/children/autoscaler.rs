//! The application's HorizontalPodAutoscaler.

use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricSource, CrossVersionObjectReference, HorizontalPodAutoscaler,
    HorizontalPodAutoscalerSpec, MetricSpec, MetricTarget,
};

use crate::{
    api::{
        Autoscaling,
        names::{APP, APP_CONTAINER, SIDECAR_CONTAINER},
    },
    operator::plan::Plan,
};

pub(super) fn autoscaler(plan: &Plan, autoscaling: &Autoscaling) -> HorizontalPodAutoscaler {
    let identity = &plan.identity;
    let cpu = |container| utilization(container, "cpu", autoscaling.target_cpu_utilization);
    let memory =
        autoscaling.target_memory_utilization.map(|target| utilization(APP_CONTAINER, "memory", target));
    // What the cache answers costs the application nothing, and is load all the same.
    let sidecar = plan.sidecar.as_ref().map(|_| cpu(SIDECAR_CONTAINER));
    let metrics = std::iter::once(cpu(APP_CONTAINER))
        .chain(sidecar)
        .chain(memory)
        .chain(autoscaling.metrics.iter().cloned())
        .collect();
    HorizontalPodAutoscaler {
        metadata: identity.child(&identity.name, APP),
        spec: HorizontalPodAutoscalerSpec {
            scale_target_ref: CrossVersionObjectReference {
                api_version: Some("apps/v1".to_owned()),
                kind: "Deployment".to_owned(),
                name: identity.name.clone(),
            },
            min_replicas: Some(autoscaling.min_replicas),
            max_replicas: autoscaling.max_replicas,
            metrics: Some(metrics),
            behavior: autoscaling.behavior.clone(),
        },
        status: None,
    }
}

/// Of one container alone: a container that a mesh injects without a request
/// would make a metric over the whole pod unreadable.
fn utilization(container: &str, resource: &str, percent: i32) -> MetricSpec {
    MetricSpec {
        type_: "ContainerResource".to_owned(),
        container_resource: Some(ContainerResourceMetricSource {
            name: resource.to_owned(),
            container: container.to_owned(),
            target: MetricTarget {
                type_: "Utilization".to_owned(),
                average_utilization: Some(percent),
                ..MetricTarget::default()
            },
        }),
        ..MetricSpec::default()
    }
}
