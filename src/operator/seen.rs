//! What the operator keeps of the objects that it watches: as little as it needs.

use std::{collections::BTreeMap, fmt::Debug};

use k8s_openapi::{
    ByteString,
    api::{
        apps::v1::{Deployment, DeploymentStatus, StatefulSet, StatefulSetStatus},
        autoscaling::v2::{HorizontalPodAutoscaler, HorizontalPodAutoscalerStatus},
        core::v1::{ConfigMap, Event, Pod, PodStatus, Secret, Service},
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, Time},
};
use kube::{Resource, core::PartialObjectMeta};
use serde::Deserialize;

use crate::api::names::TEMPLATE_ANNOTATION;

/// A Deployment: its metadata, its number of replicas and its status.
#[derive(Resource, Deserialize, Clone, Debug)]
#[resource(inherit = "Deployment")]
pub struct SeenDeployment {
    /// Name, owners and field ownership.
    pub metadata: ObjectMeta,
    /// What the operator reads of the spec.
    #[serde(default)]
    pub spec: SeenDeploymentSpec,
    /// As reported by the Deployment controller.
    #[serde(default)]
    pub status: DeploymentStatus,
}

impl SeenDeployment {
    /// The digest of its pod template.
    #[must_use]
    pub fn template(&self) -> Option<&str> {
        self.spec.template.metadata.annotations.get(TEMPLATE_ANNOTATION).map(String::as_str)
    }
}

/// What the operator reads of a Deployment's spec.
#[derive(Deserialize, Clone, Debug, Default)]
pub struct SeenDeploymentSpec {
    /// The number of pods wanted now.
    pub replicas: Option<i32>,
    /// What the pods are made from.
    #[serde(default)]
    pub template: SeenTemplate,
}

/// What the operator reads of a pod template.
#[derive(Deserialize, Clone, Debug, Default)]
pub struct SeenTemplate {
    /// Its annotations.
    #[serde(default)]
    pub metadata: SeenAnnotations,
}

/// Metadata of which only the annotations count.
#[derive(Deserialize, Clone, Debug, Default)]
pub struct SeenAnnotations {
    /// By their name.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// A StatefulSet: its metadata and status.
#[derive(Resource, Deserialize, Clone, Debug)]
#[resource(inherit = "StatefulSet")]
pub struct SeenStatefulSet {
    /// Name, owners and field ownership.
    pub metadata: ObjectMeta,
    /// As reported by the StatefulSet controller.
    #[serde(default)]
    pub status: StatefulSetStatus,
}

/// A HorizontalPodAutoscaler: its metadata and status.
#[derive(Resource, Deserialize, Clone, Debug)]
#[resource(inherit = "HorizontalPodAutoscaler")]
pub struct SeenAutoscaler {
    /// Name, owners and field ownership.
    pub metadata: ObjectMeta,
    /// As reported by the autoscaler's controller.
    #[serde(default)]
    pub status: HorizontalPodAutoscalerStatus,
}

/// A Secret that the operator generated.
#[derive(Resource, Deserialize, Clone)]
#[resource(inherit = "Secret")]
pub struct SeenSecret {
    /// Name, owners and field ownership.
    pub metadata: ObjectMeta,
    /// The credentials.
    #[serde(default)]
    pub data: BTreeMap<String, ByteString>,
}

impl Debug for SeenSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SeenSecret").field("metadata", &self.metadata).finish_non_exhaustive()
    }
}

/// A Service, of which only the metadata counts.
pub type SeenService = PartialObjectMeta<Service>;
/// A ConfigMap, of which only the metadata counts.
pub type SeenConfigMap = PartialObjectMeta<ConfigMap>;
/// A PodDisruptionBudget, of which only the metadata counts.
pub type SeenDisruptionBudget = PartialObjectMeta<PodDisruptionBudget>;

/// A pod: read for what keeps it from running.
#[derive(Resource, Deserialize, Clone, Debug)]
#[resource(inherit = "Pod")]
pub struct SeenPod {
    /// Name and labels.
    pub metadata: ObjectMeta,
    /// As reported by scheduler and kubelet.
    #[serde(default)]
    pub status: PodStatus,
}

/// An Event: of a StatefulSet whose pod was refused, or of a pod that misses a volume.
#[derive(Resource, Deserialize, Clone, Debug)]
#[resource(inherit = "Event")]
#[serde(rename_all = "camelCase")]
pub struct SeenEvent {
    /// Name and namespace.
    pub metadata: ObjectMeta,
    /// What it is about.
    #[serde(default)]
    pub involved_object: Involved,
    /// The server's words.
    #[serde(default)]
    pub message: String,
    /// When it last happened, if the reporter counts repetitions.
    pub last_timestamp: Option<Time>,
    /// When it happened, if it was reported in the newer form.
    pub event_time: Option<MicroTime>,
}

/// The object that an Event is about.
#[derive(Deserialize, Clone, Debug, Default)]
pub struct Involved {
    /// Its name.
    pub name: Option<String>,
    /// Its identity: an object of the same name that came later has another.
    pub uid: Option<String>,
}

/// What stands at the name of a child.
#[derive(Clone, Debug)]
pub enum Sighting<K> {
    /// Nothing.
    Absent,
    /// An object that this CachedService controls.
    Ours(std::sync::Arc<K>),
    /// An object of an earlier CachedService of the same name, which is being cleared away.
    Leaving,
    /// An object that somebody else made; it is left alone.
    Foreign {
        /// Who controls it, in words.
        owner: String,
    },
}

impl<K> Sighting<K> {
    /// The object, if it is ours.
    #[must_use]
    pub fn ours(&self) -> Option<&K> {
        match self {
            Self::Ours(object) => Some(object),
            Self::Absent | Self::Leaving | Self::Foreign { .. } => None,
        }
    }
}
