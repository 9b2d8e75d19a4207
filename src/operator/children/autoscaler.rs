//! The application's HorizontalPodAutoscaler.

use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricSource, CrossVersionObjectReference, HorizontalPodAutoscaler,
    HorizontalPodAutoscalerSpec, MetricSpec, MetricTarget,
};

use crate::{
    api::{
        Autoscaling,
        names::{APP, APP_CONTAINER},
    },
    operator::plan::Identity,
};

pub(super) fn autoscaler(identity: &Identity, autoscaling: &Autoscaling) -> HorizontalPodAutoscaler {
    let memory = autoscaling.target_memory_utilization.map(|target| utilization("memory", target));
    let metrics = std::iter::once(utilization("cpu", autoscaling.target_cpu_utilization))
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

/// Of the container `app` alone: a container that a mesh injects without a
/// request would make a metric over the whole pod unreadable.
fn utilization(resource: &str, percent: i32) -> MetricSpec {
    MetricSpec {
        type_: "ContainerResource".to_owned(),
        container_resource: Some(ContainerResourceMetricSource {
            name: resource.to_owned(),
            container: APP_CONTAINER.to_owned(),
            target: MetricTarget {
                type_: "Utilization".to_owned(),
                average_utilization: Some(percent),
                ..MetricTarget::default()
            },
        }),
        ..MetricSpec::default()
    }
}
