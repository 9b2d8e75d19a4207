//! The range and the targets of the autoscaler.

use k8s_openapi::api::autoscaling::v2::{HorizontalPodAutoscalerBehavior, MetricSpec};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::schema::rule;

/// The `HorizontalPodAutoscaler` of the application.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rule(
        "self.minReplicas <= self.maxReplicas",
        "spec.autoscaling: minReplicas must not be above maxReplicas; raise maxReplicas or lower minReplicas",
    ),
)]
pub struct Autoscaling {
    /// Whether the number of pods follows the load. When false, `spec.replicas`
    /// is the number of pods. Default true.
    #[serde(default = "default_enabled")]
    pub enabled: bool,

    /// The least number of pods, 1 to 10000. Default 2.
    #[serde(default = "default_min_replicas")]
    #[x_kube(validation = rule(
        "self >= 1 && self <= 10000",
        "spec.autoscaling.minReplicas: write a number from 1 to 10000; to stop the service, set autoscaling.enabled to false and replicas to 0",
    ))]
    pub min_replicas: i32,

    /// The greatest number of pods, `minReplicas` to 10000. Default 10.
    #[serde(default = "default_max_replicas")]
    #[x_kube(validation = rule(
        "self >= 1 && self <= 10000",
        "spec.autoscaling.maxReplicas: write a number from 1 to 10000",
    ))]
    pub max_replicas: i32,

    /// The average CPU of the application containers that the autoscaler aims
    /// at, in percent of their CPU request, 1 to 100. Default 70.
    #[serde(default = "default_target_cpu", rename = "targetCPUUtilization")]
    #[x_kube(validation = rule(
        "self >= 1 && self <= 100",
        "spec.autoscaling.targetCPUUtilization: write a percentage of the CPU request from 1 to 100, such as 70",
    ))]
    pub target_cpu_utilization: i32,

    /// The average memory of the application containers that the autoscaler
    /// aims at, in percent of their memory request, 1 to 100. It needs that
    /// request or a memory limit. Unset: memory does not scale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule(
        "self >= 1 && self <= 100",
        "spec.autoscaling.targetMemoryUtilization: write a percentage of the memory request from 1 to 100",
    ))]
    pub target_memory_utilization: Option<i32>,

    /// Further metrics, as in a `HorizontalPodAutoscaler` (`autoscaling/v2`);
    /// the one that asks for the most pods wins. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub metrics: Vec<MetricSpec>,

    /// How fast to scale up and down, as in a `HorizontalPodAutoscaler`
    /// (`autoscaling/v2`). Unset: Kubernetes' own defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behavior: Option<HorizontalPodAutoscalerBehavior>,
}

impl Default for Autoscaling {
    fn default() -> Self {
        Self {
            enabled: default_enabled(),
            min_replicas: default_min_replicas(),
            max_replicas: default_max_replicas(),
            target_cpu_utilization: default_target_cpu(),
            target_memory_utilization: None,
            metrics: Vec::new(),
            behavior: None,
        }
    }
}

fn default_enabled() -> bool {
    true
}

fn default_min_replicas() -> i32 {
    2
}

fn default_max_replicas() -> i32 {
    10
}

fn default_target_cpu() -> i32 {
    70
}
